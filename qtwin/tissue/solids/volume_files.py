"""Label volumes in files: NIfTI-1 and -2 (nibabel), NumPy, MATLAB 4 to 7.3 (scipy, h5py).

Sizes are read from the header before any array is: what is too large for the memory is refused unread.
"""

from pathlib import Path
from typing import Any

import numpy as np

from qtwin.core.errors import FieldError, UserError
from qtwin.core.units import data_size

ACCEPTED = "accepted is one NIfTI (.nii, .nii.gz), NumPy (.npy, .npz) or MATLAB (.mat) file with a 3-D array"
UNITS = {"meter": 1.0, "mm": 1e-3, "micron": 1e-6, "unknown": 1e-3}


class _Unfit(Exception):
    """What was found in the file."""


def read_labels(path, name: str | None, memory_limit: float):
    """(array [x, y, z] of any type of number, sides of a voxel in m or None).

    Raises FieldError of ``file`` (missing, damaged, no or several 3-D arrays), UserError beyond ``memory_limit`` bytes.
    """
    file = Path(path)
    ending = "".join(file.suffixes[-2:]).lower() if file.name.lower().endswith(".nii.gz") else file.suffix.lower()
    try:
        if not file.is_file():
            raise _Unfit("is not there" if not file.exists() else "is not a regular file")
        if ending not in READERS:
            raise _Unfit("has none of the known endings")
        return READERS[ending](file, name, memory_limit)
    except UserError:
        raise
    except _Unfit as found:
        raise FieldError("file", f"{str(path)!r} {found}; {ACCEPTED}") from None
    except Exception as error:  # decoders raise nearly anything on a damaged file
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise FieldError("file", f"{str(path)!r} cannot be read ({text}); {ACCEPTED}") from error


def _fits(shape, bytes_each: int, limit: float):
    need = float(np.prod([float(s) for s in shape])) * (bytes_each + 1)
    if need > limit:
        size = " x ".join(map(str, shape))
        raise UserError(f"labels: {size} voxels need {data_size(need)}, memory_limit is {data_size(limit)}")


def _pick(shapes: dict, name: str | None) -> str:
    """The one array that is meant."""
    solids = [key for key, shape in shapes.items() if len(shape) == 3]
    if name is not None:
        if name not in solids:
            raise _Unfit(f"holds no 3-D array {name!r}, but {', '.join(solids) or 'none'}")
        return name
    if len(solids) != 1:
        raise _Unfit(f"holds {len(solids)} 3-D arrays ({', '.join(solids) or 'none'}): give the name of one")
    return solids[0]


def _nifti(file: Path, name, limit):
    try:
        import nibabel
    except ImportError:
        raise UserError("file: NIfTI needs nibabel; install it with pip install -e '.[volumes]'") from None
    image: Any = nibabel.load(file)
    shape = tuple(image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise _Unfit(f"holds an array of shape {shape}")
    _fits(shape, image.get_data_dtype().itemsize, limit)
    unit = UNITS[image.header.get_xyzt_units()[0]]
    sides = tuple(float(side) * unit for side in image.header.get_zooms()[:3])
    return np.asanyarray(image.dataobj).reshape(shape), sides


def _npy(file: Path, name, limit):
    mapped = np.load(file, mmap_mode="r", allow_pickle=False)
    _fits(mapped.shape, mapped.dtype.itemsize, limit)
    return np.array(mapped), None


def _npz(file: Path, name, limit):
    import zipfile

    shapes, widths = {}, {}
    with zipfile.ZipFile(file) as archive:
        for entry in archive.namelist():
            with archive.open(entry) as stream:
                version = np.lib.format.read_magic(stream)
                header = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
                shape, _, kind = header(stream)
                key = entry.removesuffix(".npy")
                shapes[key], widths[key] = shape, kind.itemsize
    key = _pick(shapes, name)
    _fits(shapes[key], widths[key], limit)
    with np.load(file, allow_pickle=False) as arrays:
        return arrays[key], None


def _mat(file: Path, name, limit):
    import scipy.io

    try:
        found = {key: (shape, kind) for key, shape, kind in scipy.io.whosmat(file)}
    except NotImplementedError:
        return _hdf5(file, name, limit)
    key = _pick({k: shape for k, (shape, _) in found.items()}, name)
    kind = found[key][1]
    _fits(
        found[key][0], np.dtype(kind).itemsize if kind in ("uint8", "int8", "uint16", "int16", "single") else 8, limit
    )
    return scipy.io.loadmat(file, variable_names=[key])[key], None


def _hdf5(file: Path, name, limit):
    """MATLAB 7.3: HDF5 with the axes the other way round."""
    import h5py

    with h5py.File(file) as store:
        arrays = {key: item for key, item in store.items() if isinstance(item, h5py.Dataset)}
        key = _pick({k: item.shape for k, item in arrays.items()}, name)
        _fits(arrays[key].shape, arrays[key].dtype.itemsize, limit)
        return np.asarray(arrays[key][()]).T, None


READERS = {".nii": _nifti, ".nii.gz": _nifti, ".npy": _npy, ".npz": _npz, ".mat": _mat}
