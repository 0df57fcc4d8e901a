"""Stacks of camera frames: TIFF, HDF5 and NPY, read and written block by block.

Exposure, period and pitch stand in the JSON text of the image description (TIFF) or as attributes of the data set
`frames` (HDF5), in s, s and m; an NPY file has no place for them. A file that does not say them gives NaN.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.lib import format as npy

from qtwin.core.errors import UserError
from qtwin.core.records import Frames
from qtwin.io.file_access import hdf5_file, head, library_reads, optional, whole_file

ACCEPTED = "a stack of frames: TIFF (.tif, .tiff), HDF5 (.h5, .hdf5), NPY (.npy)"
SAID = ("exposure", "period", "pitch")
DEFLATED = 1100  # no more bytes than this come out of one that is stored
BLOCK = 1 << 20  # bytes of a block of an HDF5 file
LARGEST = 1 << 30  # bytes of one frame
Shape = tuple[int, int, int]
Sampling = tuple[float, float, float]  # exposure, period, pitch
Parts = Callable[[int], Iterator[np.ndarray]]  # frames at once -> the stack


@dataclass(frozen=True)
class FrameFile:
    """A file of frames as a record: an iterable of stretches that can be started again and again."""

    path: Path
    shape: Shape  # frames, rows, columns
    dtype: np.dtype
    parts: Parts
    most: int
    exposure: float = nan  # s; NaN: not said
    period: float = nan  # s
    pitch: float = nan  # m

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Frames]:
        first = 0
        for counts in self.parts(self.most):
            _check_numbers(counts, first, str(self.path))
            yield Frames(counts, self.exposure, self.period, self.pitch)
            first += len(counts)


def _check_numbers(counts: np.ndarray, first: int, where: str) -> None:
    if counts.dtype.kind == "f" and not np.isfinite(counts).all():
        bad = first + int((~np.isfinite(counts)).any(axis=(1, 2)).argmax())
        raise UserError(f"{where}: frame {bad} holds a value that is not finite, accepted are numbers")


def _checked(path: Path, shape: Iterable[int], dtype: np.dtype, said: Mapping[str, Any]) -> tuple[Shape, Sampling]:
    """Shape [frames, rows, columns] and exposure, period and pitch of a file; UserError where they are none."""
    shape = tuple(int(n) for n in shape)
    shape = (1, *shape) if len(shape) == 2 else shape
    if len(shape) != 3 or dtype.kind not in "buif" or min(shape[1:]) < 1:
        raise UserError(f"{path}: holds {dtype} of shape {shape}, accepted are numbers [frames, rows, columns]")
    if shape[1] * shape[2] * dtype.itemsize > LARGEST:
        raise UserError(f"{path}: frames of {shape[1]} x {shape[2]} {dtype}, accepted are up to 1 GiB each")
    values = []
    for name in SAID:
        value = said.get(name)
        number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        if value is not None and not (number and isfinite(value) and value > 0):
            raise UserError(f"{path}: {name} is {str(value)[:40]!r}, accepted is a number above 0, or none")
        values.append(nan if value is None else float(value))
    return shape, (values[0], values[1], values[2])


class _Complaints(logging.Handler):
    """What a library finds wrong and merely logs, an error here: it goes on, and round in a chain of pages for ever."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(" ".join(record.getMessage().split())[:160])
        raise ValueError(self.lines[-1])


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A TIFF file; what the library merely complains of (missing pages, shapes that disagree) is refused here."""
    tifffile = optional("tifffile", "reading TIFF")
    log, complaints = logging.getLogger("tifffile"), _Complaints()
    was, log.propagate = log.propagate, False
    log.addHandler(complaints)
    try:
        with library_reads(path, "a TIFF stack"), tifffile.TiffFile(path) as file:
            yield file
            if complaints.lines:
                raise UserError(f"{path}: not a sound TIFF stack ({complaints.lines[0]})")
    finally:
        log.propagate = was
        log.removeHandler(complaints)


def _tiff(path: Path) -> tuple[Shape, np.dtype, Sampling, Parts]:
    with _opened(path) as file:
        if len(file.series) != 1 or "S" in file.series[0].axes or file.series[0].dtype is None:
            found = ", ".join(f"{series.axes} {series.shape}" for series in file.series[:5])
            raise UserError(
                f"{path}: holds the image series {found}, accepted is one stack of equal frames without colours"
            )
        series = file.series[0]
        said: Mapping[str, Any] = (file.shaped_metadata or ({},))[0]
        dtype = np.dtype(bool) if said.get("dtype") == "bool" else np.dtype(series.dtype)
        shape, values = _checked(path, series.shape, np.dtype(series.dtype), said)
        offset, pages = series.dataoffset, len(series.pages)
        stored, size = np.dtype(file.byteorder + series.dtype.char), os.path.getsize(path)
        frame = shape[1] * shape[2] * stored.itemsize
        if offset is not None and offset + shape[0] * frame > size:
            raise UserError(f"{path}: {size} bytes cannot hold frames of shape {shape}: the file is cut short")
        if offset is None and (pages != shape[0] or shape[0] * frame > DEFLATED * size):
            raise UserError(
                f"{path}: {pages} pages and {size} bytes for frames of shape {shape}: the file is cut short"
            )

    def parts(most: int) -> Iterator[np.ndarray]:
        for first in range(0, shape[0], most):
            count = min(most, shape[0] - first)
            if offset is not None:
                counts = np.fromfile(path, stored, count * shape[1] * shape[2], offset=offset + first * frame)
            else:
                with _opened(path) as file:
                    counts = np.stack([file.series[0].pages[first + i].asarray() for i in range(count)])
            if counts.size != count * shape[1] * shape[2]:
                raise UserError(f"{path}: frames from {first} on are missing, or not {shape[1]} x {shape[2]}")
            yield counts.reshape(count, *shape[1:]).astype(dtype, copy=False)

    return shape, dtype, values, parts


def _hdf5(path: Path) -> tuple[Shape, np.dtype, Sampling, Parts]:
    what = "an HDF5 stack"
    with library_reads(path, what), h5py.File(path, "r") as file:
        stacks = [name for name, data in file.items() if isinstance(data, h5py.Dataset) and data.ndim == 3]
        if "frames" not in stacks and len(stacks) != 1:
            raise UserError(f"{path}: three-dimensional data sets are {stacks}, accepted is one, or one named frames")
        name = "frames" if "frames" in stacks else stacks[0]
        data = file[name]
        said: Mapping[str, Any] = {key: data.attrs[key] for key in SAID if key in data.attrs}
        shape, values = _checked(path, data.shape, data.dtype, said)
        stored, dtype = data.id.get_storage_size(), data.dtype
        block = int(np.prod(data.chunks or (0,), dtype=object)) * dtype.itemsize
        if data.is_virtual or data.external or stored > os.path.getsize(path) or block > 1 << 28:
            raise UserError(
                f"{path}: /{name} lies elsewhere, or in blocks of {block} bytes; accepted are up to 256 MiB"
            )
        if int(np.prod(shape, dtype=object)) * dtype.itemsize > DEFLATED * stored:
            raise UserError(f"{path}: /{name} claims frames of shape {shape}, the file holds {stored} bytes of them")

    def parts(most: int) -> Iterator[np.ndarray]:
        with library_reads(path, what), h5py.File(path, "r") as file:
            for first in range(0, shape[0], most):
                yield file[name][first : first + most]

    return shape, dtype, values, parts


def _npy(path: Path) -> tuple[Shape, np.dtype, Sampling, Parts]:
    what = "an NPY stack"

    def stack() -> np.ndarray:
        with library_reads(path, what):
            data = np.load(path, mmap_mode="r", allow_pickle=False)
            if data.nbytes != (size := os.path.getsize(path) - data.offset):
                raise UserError(f"{path}: {size} bytes of frames, the header says {data.nbytes}")
            return data[None] if data.ndim == 2 else data

    data = stack()
    shape, values = _checked(path, data.shape, data.dtype, {})

    def parts(most: int) -> Iterator[np.ndarray]:
        data = stack()
        for first in range(0, shape[0], most):
            yield np.array(data[first : first + most])

    return shape, data.dtype, values, parts


def read_frames(path: str | Path, *, memory_limit: float = 1 << 28) -> FrameFile:
    """A stack of frames as an iterable of stretches of `Frames`, which stay within about ``memory_limit`` bytes."""
    path = Path(path)
    first = head(path, ACCEPTED)
    readers = {b"II*\0": _tiff, b"MM\0*": _tiff, b"II+\0": _tiff, b"MM\0+": _tiff, b"\x89HDF": _hdf5, b"\x93NUM": _npy}
    if first[:4] not in readers:
        raise UserError(f"{path}: starts with {first[:8]!r}, accepted is {ACCEPTED}")
    shape, dtype, values, parts = readers[first[:4]](path)
    frame = shape[1] * shape[2] * max(dtype.itemsize, 1)
    if not 4 * frame <= memory_limit:
        raise UserError(f"memory_limit: got {memory_limit!r} bytes, frames of this file want {4 * frame} or more")
    return FrameFile(path, shape, dtype, parts, int(memory_limit) // (4 * frame), *values)


def _alike(record: Iterable[Frames]) -> Iterator[Frames]:
    """Stretches that one file can hold; UserError at the first that differs from those before."""
    before, first = None, 0
    for frames in record:
        found = (frames.counts.shape[1:], frames.counts.dtype, *(repr(float(getattr(frames, n))) for n in SAID))
        if before is not None and found != before:
            raise UserError(f"record: frames from {first} on are {found}, those before {before}; a file holds one kind")
        _check_numbers(frames.counts, first, "record")
        before, first = found, first + len(frames)
        yield frames
    if before is None:
        raise UserError("record: got no frames, a file needs their shape")


def _said(frames: Frames) -> dict[str, float]:
    return {name: float(getattr(frames, name)) for name in SAID if isfinite(getattr(frames, name))}


def _write_tiff(part: Path, record: Iterable[Frames]) -> None:
    tifffile = optional("tifffile", "writing TIFF")
    with tifffile.TiffWriter(part, bigtiff=True) as file:
        for frames in _alike(record):
            said = _said(frames) | ({"dtype": "bool"} if frames.counts.dtype == bool else {})
            counts = frames.counts.astype(np.uint8) if frames.counts.dtype == bool else frames.counts
            for image in counts:
                file.write(np.ascontiguousarray(image), contiguous=True, photometric="minisblack", metadata=said)


def _write_hdf5(part: Path, record: Iterable[Frames]) -> None:
    with hdf5_file(part) as (file, check):
        data = None
        for frames in _alike(record):
            if data is None:
                rows, columns = frames.counts.shape[1:]
                deep = max(1, BLOCK // max(rows * columns * frames.counts.dtype.itemsize, 1))
                settings = {"chunks": (deep, rows, columns), "maxshape": (None, rows, columns)}
                data = file.create_dataset(
                    "frames",
                    (0, rows, columns),
                    frames.counts.dtype,
                    compression=1,
                    shuffle=True,
                    fletcher32=True,
                    **settings,
                )
                data.attrs.update(_said(frames))
            first = len(data)
            data.resize(first + len(frames), axis=0)
            data[first:] = frames.counts
            check()


def _write_npy(part: Path, record: Iterable[Frames]) -> None:
    with part.open("w+b") as file:
        header: dict[str, Any] = {}
        for frames in _alike(record):
            shape = (header["shape"][0] if header else 0, *frames.counts.shape[1:])
            if not header:
                header = {"descr": npy.dtype_to_descr(frames.counts.dtype), "fortran_order": False, "shape": shape}
                npy.write_array_header_1_0(file, header)
            file.write(np.ascontiguousarray(frames.counts).tobytes())
            header["shape"] = (shape[0] + len(frames), *shape[1:])
        file.seek(0)
        npy.write_array_header_1_0(file, header)  # as long as before: NumPy leaves room for the number of frames


def write_frames(path: str | Path, record: Iterable[Frames]) -> Path:
    """The stretches of ``record`` as one file of the format that its name says; it is there whole, or not at all."""
    path = Path(path)
    writers = {
        **dict.fromkeys((".tif", ".tiff"), _write_tiff),
        **dict.fromkeys((".h5", ".hdf5"), _write_hdf5),
        ".npy": _write_npy,
    }
    if path.suffix.lower() not in writers:
        raise UserError(f"{path}: ends with {path.suffix!r}, accepted is {ACCEPTED}")
    with whole_file(path) as part:
        writers[path.suffix.lower()](part, record)
    return path
