"""Time tags as plain tables: CSV text, NumPy's NPZ and NPY; columns `time` and `channel`.

CSV: lines that start with # are comments, the first other line names the columns and the unit of time, such as
`time (ps),channel`; columns of other names are passed over. NPZ: arrays `times` and `channels`, and, if they are there,
`unit` (text; ps), `start`, `stop` and `resolution` (ps). NPY: fields `time` and `channel`, or two columns of whole
numbers, in ps.
Times that are no whole numbers are rounded to ps, and refused where float64 could not tell 1 ps.
"""

import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from io import StringIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np
from numpy.lib import format as npy

from qtwin.core.errors import UserError
from qtwin.core.records import TimeTags
from qtwin.io.file_access import library_reads
from qtwin.io.tag_source import LIMIT, Chunk, TagSource, Watched, clock, int16, picoseconds, said, whole_numbers

UNITS = {"fs": 1e-3, "ps": 1.0, "ns": 1e3, "us": 1e6, "µs": 1e6, "μs": 1e6, "ms": 1e9, "s": 1e12}  # ps
NAMES = {"time": ("times", "time"), "channel": ("channels", "channel")}
WRITTEN = re.compile(
    r"# start (-?\d{1,19}) ps, stop (-?\d{1,19}) ps, resolution ([\d.e+-]{1,25}) ps, (\d{1,19}) clicks"
)
LINE = 1 << 16  # longest line of a text, bytes


def _unit(name: str, where: str) -> float:
    if name not in UNITS:
        raise UserError(f"{where}: unit of time {name!r}, accepted is one of {', '.join(UNITS)}")
    return UNITS[name]


def _times(values: np.ndarray, unit: float, where: str) -> np.ndarray:
    """int64 ps of times in ``unit`` ps."""
    if values.dtype.kind != "f":
        return picoseconds(whole_numbers(values, where), unit, where)
    with np.errstate(over="ignore"):
        ps = values.astype(np.float64) * unit
    bad = ~(np.abs(ps) < LIMIT)
    if bad.any():
        i = int(bad.argmax())
        raise UserError(f"{where}: time {i} is {values[i]}, accepted are finite ones below 2^62 ps (53 days)")
    top = np.abs(ps).max(initial=0.0)
    if top >= 2.0 ** (np.finfo(values.dtype).nmant + 1):
        raise UserError(
            f"{where}: times up to {top:g} ps as {values.dtype}, which cannot tell 1 ps; accepted are whole ps"
        )
    return np.rint(ps).astype(np.int64)


def csv(path: Path) -> TagSource:
    """A text of comma-separated columns."""
    known, count = {}, None
    with path.open("rb") as file:
        while (line := file.readline(LINE)).startswith(b"#") or (line and not line.strip()):
            if found := WRITTEN.match(line.decode("utf-8", "replace")):
                known, count = said(int(found[1]), int(found[2]), found[3], str(path)), int(found[4])
        begin = file.tell()
    text = line.decode("utf-8-sig", "replace").strip()
    names = [name.strip().lower() for name in text.split(",")]
    times = [(i, m) for i, m in enumerate(re.fullmatch(r"times?\s*[(\[_]?\s*(\w+)?\s*[)\]]?", n) for n in names) if m]
    channels = [i for i, name in enumerate(names) if name in NAMES["channel"]]
    if len(times) != 1 or len(channels) != 1 or times[0][1][1] is None:
        raise UserError(f"{path}: columns are named {text[:80]!r}, accepted is a line such as 'time (ps),channel'")
    where, unit = (times[0][0], channels[0]), _unit(times[0][1][1], str(path))
    resolution = known.pop("resolution", unit)

    def chunks(most: int) -> Iterator[Chunk]:
        size, number = max(LINE, 8 * most), 1
        with path.open("rb") as file:
            file.seek(begin)
            while block := file.read(size) + file.readline(LINE):
                if not block.endswith(b"\n"):
                    if file.read(1):
                        raise UserError(f"{path}: a line longer than {LINE} bytes behind row {number}")
                text = block.decode("ascii", "replace")
                kind = np.float64 if re.search("[.eEnN]", text) else np.int64  # whole numbers beyond 2^53 stay exact
                types = np.dtype([("time", kind), ("channel", kind)])
                if not text.strip():
                    continue
                try:
                    table = np.loadtxt(StringIO(text), types, delimiter=",", usecols=where, ndmin=1, comments=None)
                except (ValueError, OverflowError) as error:
                    line = " ".join(str(error).split())
                    raise UserError(
                        f"{path}: behind row {number}: {line}; accepted are a time and a channel"
                    ) from error
                here = f"{path}: behind row {number}"
                number += len(table)
                yield Chunk(_times(table["time"], unit, here), int16(whole_numbers(table["channel"], here), here))
        if count is not None and number - 1 != count:
            raise UserError(f"{path}: ends after {number - 1} rows, its first line says {count}: the file is cut short")

    return TagSource("CSV", resolution, chunks, details={"columns": names}, **known)


class _Column:
    """Numbers of an .npy file in order, read in parts."""

    def __init__(self, file: IO[bytes], where: str):
        self.file, self.where = file, where
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise UserError(f"{where}: NPY version {version}, accepted are 1.0 and 2.0")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        self.shape, _, self.dtype = read(file)
        self.left = self.shape[0] if self.shape else 1
        if (
            self.dtype.kind not in "iufUS"
            or len(self.shape) > 1
            or not 0 <= self.left < LIMIT
            or self.dtype.itemsize > 256
        ):
            raise UserError(f"{where}: {self.dtype} of shape {self.shape}, accepted is a row of numbers")

    def take(self, most: int) -> np.ndarray:
        count = min(most, self.left)
        data = self.file.read(count * self.dtype.itemsize)
        if len(data) < count * self.dtype.itemsize:
            raise UserError(f"{self.where}: ends before its {self.left} last numbers, which its header promises")
        self.left -= count
        if not self.left and self.file.read(1):
            raise UserError(f"{self.where}: holds more than its header says")
        return np.frombuffer(data, self.dtype)


def npz(path: Path) -> TagSource:
    """Arrays of a NumPy archive, read in parts; nothing is unpickled."""
    what = "an NPZ file of time tags"

    @contextmanager
    def opened() -> Iterator[tuple[zipfile.ZipFile, Callable[[str], _Column]]]:
        with library_reads(path, what), zipfile.ZipFile(path) as archive, ExitStack() as held:
            yield archive, lambda name: _Column(held.enter_context(archive.open(f"{name}.npy")), f"{path}: {name}")

    with opened() as (archive, column):
        names = {name.removesuffix(".npy") for name in archive.namelist()}
        times, channels = (next((n for n in NAMES[key] if n in names), "") for key in ("time", "channel"))
        if not times or not channels:
            held = ascii(", ".join(sorted(names))[:120])
            raise UserError(f"{path}: holds {held}; accepted is {what} with the arrays times and channels")
        values = {name: column(name).take(1) for name in ("unit", "start", "stop", "resolution") if name in names}
        both = [column(name) for name in (times, channels)]
        if both[0].left != both[1].left:
            raise UserError(f"{path}: {times} has {both[0].left} entries, {channels} has {both[1].left}")
    told = {name: value[0].item() for name, value in values.items() if len(value)}
    unit = _unit(str(told.get("unit", "ps")), str(path))
    known: dict = {"resolution": clock(told.get("resolution", unit), str(path))}
    if "start" in told or "stop" in told:
        known = said(told.get("start"), told.get("stop"), told.get("resolution", unit), str(path))

    def chunks(most: int) -> Iterator[Chunk]:
        with opened() as (_, column):
            first, second = column(times), column(channels)
            while first.left:
                part, numbers = _times(first.take(most), unit, str(path)), second.take(most)
                yield Chunk(part, int16(whole_numbers(numbers, f"{path}: {channels}"), str(path)))

    return TagSource("NPZ", chunks=chunks, **known)


def npy_table(path: Path) -> TagSource:
    """One NumPy array, mapped into memory."""
    what = "an NPY file of time tags"

    def columns() -> tuple[np.ndarray, np.ndarray]:
        with library_reads(path, what):
            table = np.load(path, mmap_mode="r", allow_pickle=False)
            size = os.path.getsize(path) - table.offset
            if table.nbytes != size:
                raise UserError(f"{path}: {size} bytes, the header says {table.nbytes}")
            if table.dtype.names and table.ndim == 1:
                fields = [next((n for n in NAMES[key] if n in table.dtype.names), "") for key in ("time", "channel")]
                if all(fields):
                    return table[fields[0]], table[fields[1]]
            elif table.ndim == 2 and table.shape[1] == 2 and table.dtype.kind in "iu":
                return table[:, 0], table[:, 1]
            found = f"{table.dtype} of shape {table.shape}"
            raise UserError(f"{path}: {found}, accepted are fields time and channel, or two columns of whole numbers")

    columns()

    def chunks(most: int) -> Iterator[Chunk]:
        times, channels = columns()
        for first in range(0, len(times), most):
            part = slice(first, first + most)
            numbers = whole_numbers(channels[part], f"{path}: channel")
            yield Chunk(_times(times[part], 1.0, str(path)), int16(numbers, str(path)))

    return TagSource("NPY", 1.0, chunks)


def write_csv(part: Path, record: Iterable[TimeTags], watched: Watched) -> None:
    """`time (ps),channel`; the first line, a comment, holds start, stop, clock step and the number of rows."""
    count = 0
    with part.open("w", encoding="ascii", newline="\n") as file:
        file.write(" " * 119 + "\ntime (ps),channel\n")
        for tags in watched.follow(record):
            count += len(tags)
            for first in range(0, len(tags), LINE):
                rows = zip(
                    *(values[first : first + LINE].tolist() for values in (tags.times, tags.channels)), strict=True
                )
                file.writelines(f"{time},{channel}\n" for time, channel in rows)
        file.seek(0)
        step = f"resolution {watched.resolution} ps"
        first_line = f"# start {watched.start} ps, stop {watched.stop} ps, {step}, {count} clicks"
        file.write(first_line.ljust(119))


def write_npz(part: Path, record: Iterable[TimeTags], watched: Watched) -> None:
    """Arrays times and channels, and the numbers start, stop and resolution (ps)."""
    with TemporaryFile(dir=part.parent) as times, TemporaryFile(dir=part.parent) as channels:
        count = 0
        for tags in watched.follow(record):
            times.write(np.ascontiguousarray(tags.times, "<i8").tobytes())
            channels.write(np.ascontiguousarray(tags.channels, "<i2").tobytes())
            count += len(tags)
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            for name, data, kind in (("times", times, "<i8"), ("channels", channels, "<i2")):
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    npy.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": (count,)})
                    data.seek(0)
                    shutil.copyfileobj(data, file, 1 << 20)
            for name in ("start", "stop", "resolution"):
                with archive.open(f"{name}.npy", "w") as file:
                    npy.write_array(file, np.asarray(getattr(watched, name)), allow_pickle=False)
