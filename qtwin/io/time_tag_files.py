"""Files of time tags: one function reads them all, stretch by stretch, one writes those that other tools open."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from qtwin.core.errors import UserError
from qtwin.core.records import TimeTags
from qtwin.io import photon_hdf5, ptu, qutag, tag_tables, timepix3
from qtwin.io.file_access import head, whole_file
from qtwin.io.tag_source import TagSource, Watched, in_order

READ = (
    "PicoQuant PTU (.ptu, .timeres), quTAG (.qutag), Photon-HDF5 (.h5, .hdf5), Timepix3 (.tpx3), CSV (.csv, .txt), "
    "NPZ (.npz), NPY (.npy)"
)
WRITTEN = "Photon-HDF5 (.h5, .hdf5), NPZ (.npz), CSV (.csv)"
BY_HEAD: Mapping[bytes, Callable[[Path], TagSource]] = {
    ptu.MAGIC: ptu.source,
    b"\x89HDF\r\n\x1a\n": photon_hdf5.source,
    b"PK\x03\x04": tag_tables.npz,
    b"PK\x05\x06": tag_tables.npz,
    b"\x93NUMPY": tag_tables.npy_table,
    timepix3.MAGIC: timepix3.source,
    qutag.MARK: qutag.source,
}
BY_NAME: Mapping[str, Callable[[Path], TagSource]] = {
    **{".qutag": qutag.source, ".csv": tag_tables.csv, ".txt": tag_tables.csv},
    **dict.fromkeys((".ptu", ".timeres"), ptu.source),
}
WRITERS = {
    **dict.fromkeys((".h5", ".hdf5"), photon_hdf5.write),
    **{".npz": tag_tables.write_npz, ".csv": tag_tables.write_csv},
}
RECORD = 128  # bytes that a record takes while it is decoded and put in order
LIMIT = 1 << 28  # bytes
MOST = 1 << 18  # records at once, which stay in the caches of a processor


@dataclass(frozen=True)
class Contents:
    """What a whole file holds."""

    counts: Mapping[int, int]  # clicks of each channel
    start: int  # ps
    stop: int  # ps
    moved: int  # tags that stood out of order and were put in order
    left_out: int  # markers and other records that are no clicks


@dataclass(frozen=True)
class TagFile:
    """A file of time tags as a record: an iterable of stretches that can be started again and again.

    ``resolution``: ps, step of the clock (T3: of the arrival behind the sync). ``details``: what else the header says.
    ``contents``, and what is read from it, costs one pass through the file.
    """

    path: Path
    source: TagSource
    disorder: int  # ps
    most: int  # records at once

    @property
    def kind(self) -> str:
        return self.source.kind

    @property
    def resolution(self) -> float:
        return self.source.resolution

    @property
    def details(self) -> Mapping[str, Any]:
        return self.source.details

    @cached_property
    def contents(self) -> Contents:
        found: dict[str, Any] = {"moved": 0, "left_out": 0}
        counts: dict[int, int] = {}
        watched = Watched()
        for tags in watched.follow(self._stretches(found)):
            for number, count in zip(*np.unique(tags.channels, return_counts=True), strict=True):
                counts[int(number)] = counts.get(int(number), 0) + int(count)
        return Contents(dict(sorted(counts.items())), watched.start, watched.stop, **found)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels with clicks."""
        return tuple(self.contents.counts)

    @property
    def duration(self) -> float:
        """Time that was watched, s."""
        return (self.contents.stop - self.contents.start) * 1e-12

    def __iter__(self) -> Iterator[TimeTags]:
        return self._stretches({"moved": 0, "left_out": 0})

    def _stretches(self, found: dict[str, int]) -> Iterator[TimeTags]:
        def rows():
            for chunk in self.source.chunks(self.most):
                found["left_out"] += chunk.left_out
                yield chunk.times, chunk.channels

        begin, end, empty = self.source.start, self.source.stop, True
        for part in in_order(rows(), self.disorder, str(self.path)):
            found["moved"] += part.moved
            times, channels = part.columns
            if len(times):
                begin, empty = int(times[0]) if begin is None else begin, False
                last = part.border is None
                stop = int(times[-1]) + 1 if part.border is None else part.border
                stop = stop if end is None else end if last else min(stop, end)
                yield TimeTags(times, channels, begin, max(begin, stop), self.resolution)
                begin = max(begin, stop)
        if empty:
            begin = begin or 0
            yield TimeTags(
                np.zeros(0, np.int64), np.zeros(0, np.int16), begin, begin if end is None else end, self.resolution
            )


def read_time_tags(
    path: str | Path, *, disorder: int | None = None, sync_period: float | None = None, memory_limit: float = LIMIT
) -> TagFile:
    """A file of time tags as an iterable of stretches of `TimeTags`, by its first bytes or its name.

    disorder: ps by which a tag may stand behind a later one; such tags are put in order and counted, one that comes
    later still is refused. None: what is usual with the device (1 us; T3: a sync period, if longer; Timepix3, whose
    pixels wait to be read: 10 ms). sync_period: ps between the syncs of a PTU record in T3 mode, where its header is
    wrong. memory_limit: bytes, which set the length of the stretches.
    """
    path = Path(path)
    first = head(path, READ)
    reader = next(
        (read for magic, read in BY_HEAD.items() if first.startswith(magic)), BY_NAME.get(path.suffix.lower())
    )
    if reader is None:
        raise UserError(f"{path}: starts with {first[:8]!r}, accepted is {READ}")
    if not memory_limit >= 1 << 20:
        raise UserError(f"memory_limit: got {memory_limit!r} bytes, accepted is 1 MiB or more")
    if sync_period is not None and reader is not ptu.source:
        raise UserError(f"{path}: sync_period is for PTU files in T3 mode")
    source = reader(path) if sync_period is None else ptu.source(path, sync_period)
    disorder = source.disorder if disorder is None else disorder
    if not 0 <= disorder < 1 << 61:
        raise UserError(f"disorder: got {disorder!r} ps, accepted is from 0 to 2^61 ps")
    return TagFile(path, source, int(disorder), min(int(memory_limit) // RECORD, MOST))


def write_time_tags(path: str | Path, record: Iterable[TimeTags]) -> Path:
    """The stretches of ``record`` as one file of the format that its name says; it is there whole, or not at all."""
    path = Path(path)
    write = WRITERS.get(path.suffix.lower())
    if write is None:
        raise UserError(f"{path}: ends with {path.suffix!r}, accepted is {WRITTEN}")
    with whole_file(path) as part:
        write(part, record, Watched())
    return path
