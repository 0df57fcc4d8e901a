"""The folder of a run: `result.json` and `arrays.h5`, each written whole or not at all.

`result.json` is strict JSON. A figure that is not a finite number never leaves silently: it is refused with its
name, or stands as null beside the reason why it is not defined.
"""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from hashlib import sha256
from math import isfinite
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import h5py
import jax
import numpy as np

import qtwin
from qtwin.core.errors import UserError

RESULT, ARRAYS = "result.json", "arrays.h5"

Array = tuple[np.ndarray, Sequence[str], str, Mapping[str, tuple[np.ndarray, str]]]
"""values, names of the dimensions, unit, and dimension -> (coordinates, unit)"""


def write_whole(path: Path, content: bytes) -> None:
    """`path` with all of `content`, or as it was: it gets its name when everything is on the disk."""
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def strict(value: Any, path: str = "") -> Any:
    """`value` as JSON can hold it; UserError names a number that is not finite. A null has a reason beside it."""
    if isinstance(value, Mapping):
        if "value" in value and value["value"] is None:
            value = {**value, "reason": value.get("reason") or "not defined for this configuration"}
        return {str(k): strict(v, f"{path}.{k}" if path else str(k)) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(v, f"{path}[{i}]") for i, v in enumerate(value)]
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        return strict(np.asarray(value).tolist(), path)
    if isinstance(value, float) and not isfinite(value):
        raise UserError(f"{path}: the result is {value}; nothing was written")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{path}: {type(value).__name__} has no place in {RESULT}")


def files(config: Any, path: str = "") -> dict[str, str]:
    """Key -> sha256 of the content of every file that the configuration names under a key ``file``."""
    found: dict[str, str] = {}
    inside = config.items() if isinstance(config, Mapping) else enumerate(config) if isinstance(config, list) else ()
    for key, value in inside:
        name = f"{path}.{key}" if path else str(key)
        if key == "file" and isinstance(value, str) and os.path.isfile(value):
            found[name] = sha256(Path(value).read_bytes()).hexdigest()
        found |= files(value, name)
    return found


def config_hash(config: Mapping) -> str:
    """sha256 of the resolved configuration and of the files it names, independent of the order of its keys."""
    text = json.dumps([config, files(config)], sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()


def versions() -> dict[str, str]:
    """What computed: name -> version."""
    return {
        "qtwin": qtwin.__version__,
        "jax": jax.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def write_result(folder: Path, result: Mapping) -> Path:
    """`result.json` in `folder`, complete on the disk before it has that name."""
    text = json.dumps(strict(result), indent=2, ensure_ascii=False, allow_nan=False)
    path = Path(folder) / RESULT
    write_whole(path, (text + "\n").encode())
    return path


def read_result(folder: Path) -> dict:
    """What `write_result` wrote; UserError if there is none or it cannot be read."""
    path = Path(folder) / RESULT
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no result here") from error
    except ValueError as error:
        raise UserError(f"{path}: not a result ({error})") from error


def write_arrays(folder: Path, arrays: Mapping[str, Array]) -> Path:
    """`arrays.h5` in `folder`: named dimensions are HDF5 dimension scales, so netCDF readers open it too.

    Arrays share the scale of a dimension where its coordinates agree; where they differ, the later array gets a scale
    of its own, named `<dimension>_<array>`.
    """
    path = Path(folder) / ARRAYS
    # in memory first: HDF5 on a full disk does not raise, it crashes
    with h5py.File(ARRAYS, "w", driver="core", backing_store=False, track_order=True) as file:
        for name, (values, dims, unit, coords) in arrays.items():
            values = np.asarray(values)
            if values.ndim != len(dims):
                raise ValueError(f"{name}: {values.ndim} dimensions, but the names {tuple(dims)}")
            data = file.create_dataset(name, data=values.astype(np.int8) if values.dtype == bool else values)
            data.attrs["units"] = unit or "1"
            for axis, dim in enumerate(dims):
                data.dims[axis].attach_scale(_scale(file, name, dim, values.shape[axis], coords.get(dim)))
        file.flush()
        write_whole(path, file.id.get_file_image())
    return path


def _scale(file: h5py.File, array: str, dim: str, size: int, coord) -> h5py.Dataset:
    if coord is not None and np.shape(coord[0]) != (size,):
        raise ValueError(f"{array}: {size} values along {dim!r}, coordinates of shape {np.shape(coord[0])}")
    for name in (dim, f"{dim}_{array.replace('/', '_')}"):
        if name not in file:
            values = np.zeros(size, np.float32) if coord is None else np.asarray(coord[0])
            scale = file.create_dataset(name, data=values)
            if coord is None:  # netCDF's own mark of a dimension that has a length and no coordinates
                scale.make_scale(f"This is a netCDF dimension but not a netCDF variable.{size:10d}")
            else:
                scale.make_scale(name)
                scale.attrs["units"] = coord[1] or "1"
            return scale
        scale = file[name]
        if scale.is_scale and len(scale) == size and ("units" in scale.attrs) == (coord is not None):
            if coord is None or (np.array_equal(scale[:], coord[0]) and scale.attrs["units"] == (coord[1] or "1")):
                return scale
    raise ValueError(f"{array}: the name {dim!r} of a dimension is taken by another array")
