"""What every reader of time tags shares: raw chunks, clock ticks in picoseconds, tags put in order."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from qtwin.core.errors import UserError
from qtwin.core.records import TimeTags

LIMIT = 1 << 62  # ps, 53 days: the difference of two times still fits into int64
DISORDER = 1_000_000  # ps by which a tag may come late in the file: merged channels, delays compensated in a device
STEPS = (1e-3, 1e12)  # ps, shortest and longest step of a clock


class Chunk(NamedTuple):
    """Consecutive records of a file."""

    times: np.ndarray  # int64 ps, as they stand in the file
    channels: np.ndarray  # int16
    left_out: int = 0  # markers and other records that are no clicks


@dataclass(frozen=True)
class TagSource:
    """What is known of a file before its tags are read."""

    kind: str
    resolution: float  # ps
    chunks: Callable[[int], Iterator[Chunk]]  # most records at once -> the record, from its beginning
    disorder: int = DISORDER  # ps, usual with this kind
    start: int | None = None  # ps; None: the first tag
    stop: int | None = None  # ps; None: behind the last tag
    details: Mapping[str, Any] = field(default_factory=dict)


def step(value: Any, where: str) -> float:
    """A clock step in ps; UserError names ``where`` it was found."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = np.nan
    if not STEPS[0] <= number <= STEPS[1]:
        raise UserError(f"{where}: got {value!r} ps, accepted is from {STEPS[0]:g} to {STEPS[1]:g} ps")
    return float(round(number)) if abs(number - round(number)) < 1e-9 * number else number


def clock(value: Any, where: str) -> float:
    """Resolution of a record in ps: a step, or 0 where it is finer than 1 ps."""
    return 0.0 if value in (0, "0", "0.0") else step(value, f"{where}: resolution")


def said(start: Any, stop: Any, resolution: Any, where: str) -> dict[str, Any]:
    """Start, stop and clock step (0: finer than 1 ps) as a file says them, all ps."""
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in (start, stop))
    if not whole or not -LIMIT < start <= stop < LIMIT:
        accepted = "whole ps in order, below 2^62 (53 days)"
        raise UserError(f"{where}: start and stop are {start!r} and {stop!r}, accepted are {accepted}")
    return {"start": start, "stop": stop, "resolution": clock(resolution, where)}


def whole_numbers(values: np.ndarray, where: str) -> np.ndarray:
    """int64 of ``values`` of any type; UserError at the first one that is not finite or not within int64."""
    if values.dtype.kind not in "iuf":
        raise UserError(f"{where}: got {values.dtype}, accepted are numbers")
    if values.dtype.kind == "f":
        values = values.astype(np.float64)
        bad = ~(np.abs(values) < LIMIT)
        if not bad.any() and (bad := values != np.rint(values)).any():
            raise UserError(
                f"{where}: number {int(bad.argmax())} is {values[bad.argmax()]}, accepted are whole numbers"
            )
    else:
        bad = (values >= LIMIT) | (values <= -LIMIT) if values.dtype.itemsize == 8 else np.zeros(len(values), bool)
    if bad.any():
        i = int(bad.argmax())
        raise UserError(f"{where}: number {i} is {values[i]}, accepted are finite ones below 2^62 (53 days of ps)")
    return values.astype(np.int64, copy=False)


def picoseconds(ticks: np.ndarray, unit: float, where: str) -> np.ndarray:
    """t = ticks x unit in whole ps (int64), the whole part of the unit exactly; UserError beyond 2^62 ps."""
    if len(ticks) and max(abs(int(ticks.min())), abs(int(ticks.max()))) * unit >= LIMIT:
        raise UserError(f"{where}: a time is beyond 2^62 ps (53 days), accepted are shorter records")
    whole = int(unit)
    return ticks * whole if unit == whole else ticks * whole + np.rint(ticks * (unit - whole)).astype(np.int64)


def int16(channels: np.ndarray, where: str) -> np.ndarray:
    """Numbers of channels; UserError at one that does not fit."""
    bad = (channels < -(2**15)) | (channels >= 2**15)
    if bad.any():
        raise UserError(f"{where}: channel {channels[bad.argmax()]}, accepted is from -32768 to 32767")
    return channels.astype(np.int16)


@dataclass
class Watched:
    """Time for which a record was watched, known when it was followed to its end."""

    start: int = 0  # ps
    stop: int = 0  # ps
    resolution: float = 1.0  # ps

    def follow(self, record: Iterable[TimeTags]) -> Iterator[TimeTags]:
        """The stretches of a record; UserError where a file could not hold them as one."""
        begun, last = False, -LIMIT
        for number, tags in enumerate(record):
            if not begun:
                self.start, self.stop, self.resolution, begun = tags.start, tags.start, tags.resolution, True
            if tags.resolution != self.resolution:
                both = f"{tags.resolution} ps, the stretches before have {self.resolution} ps"
                raise UserError(f"record: stretch {number} has a resolution of {both}; a file holds one")
            if tags.start != self.stop:
                both = f"{tags.start} ps, the one before stops at {self.stop} ps"
                raise UserError(f"record: stretch {number} starts at {both}; a file holds a record without gaps")
            if len(tags) and (tags.times[0] < last or max(-int(tags.times[0]), int(tags.times[-1])) >= LIMIT):
                both = f"{tags.times[0]} ps, the one before ends at {last} ps"
                raise UserError(
                    f"record: tags of stretch {number} begin at {both}; accepted are times in order, below 2^62 ps"
                )
            self.stop, last = tags.stop, int(tags.times[-1]) if len(tags) else last
            yield tags


class Ordered(NamedTuple):
    """Rows whose times never decrease; all that come later are at ``border`` or behind it (None: nothing follows)."""

    columns: tuple[np.ndarray, ...]
    border: int | None
    moved: int  # rows that stood behind a later one


def in_order(rows: Iterable[tuple[np.ndarray, ...]], disorder: int, where: str) -> Iterator[Ordered]:
    """Rows (times, other columns) put in order of time, keeping at most ``disorder`` ps of them in memory.

    Equal times keep their order. UserError names the first row that comes more than ``disorder`` ps late: a clock
    that was set back, or two records in one file, must not be sorted into something that looks right.
    """
    held: tuple[np.ndarray, ...] = ()
    latest, seen = None, 0
    for row in rows:
        times = row[0]
        if not len(times):
            continue
        moved = 0
        if (latest is not None and times[0] < latest) or (times[1:] < times[:-1]).any():
            peaks = np.maximum.accumulate(times)
            late = np.maximum(peaks, peaks[0] if latest is None else latest) - times
            moved, i = int(np.count_nonzero(late)), int((late > disorder).argmax())
            if late[i] > disorder:
                raise UserError(
                    f"{where}: tag {seen + i} at {times[i]} ps comes {late[i]} ps behind a later one; "
                    f"accepted is a disorder of {disorder} ps (option disorder)"
                )
        seen += len(times)
        top = int(times.max()) if moved else int(times[-1])
        latest = top if latest is None else max(latest, top)
        columns = tuple(np.concatenate(pair) for pair in zip(held, row, strict=True)) if held else row
        if moved:
            order = np.argsort(columns[0], kind="stable")
            columns = tuple(column[order] for column in columns)
        border = latest - disorder
        ready = int(np.searchsorted(columns[0], border))
        held = tuple(column[ready:] for column in columns)
        yield Ordered(tuple(column[:ready] for column in columns), border, moved)
    if held:
        yield Ordered(held, None, 0)
