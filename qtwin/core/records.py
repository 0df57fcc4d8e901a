"""What is recorded: time tags and frames, with their clock and sampling.

A long record is an iterable of stretches, one after the other in time; every function that correlates takes such an
iterable and keeps only what it needs of the stretches before, so that hours pass through bounded memory. A record that
fits in memory is the list of one stretch.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from qtwin.core.errors import UserError


class Estimate(NamedTuple):
    """A number with its standard error."""

    value: float
    error: float


class Estimates(NamedTuple):
    """Numbers, a curve or an image of them, with their standard errors."""

    value: np.ndarray
    error: np.ndarray


@dataclass(frozen=True)
class TimeTags:
    """Clicks of a stretch [start, stop) of a record: channel ``channels[i]`` at ``times[i]``.

    times: int64 ps since the record began, [count], never decreasing (float64 loses picoseconds after 2.5 hours);
    channels: int16, [count]; start, stop: ps; resolution: ps, step of the clock that stamped them (0: finer than 1 ps).
    Jitter and clock errors may put a tag outside [start, stop), which is only how long was watched.
    """

    times: np.ndarray
    channels: np.ndarray
    start: int
    stop: int
    resolution: float = 1.0

    def __post_init__(self):
        times, channels = np.asarray(self.times), np.asarray(self.channels)
        if times.dtype != np.int64 or times.ndim != 1:
            raise UserError(f"times: got {times.dtype} of shape {times.shape}, expected int64 picoseconds in one row")
        if channels.dtype != np.int16 or channels.shape != times.shape:
            raise UserError(f"channels: got {channels.dtype} of shape {channels.shape}, expected int16 for every time")
        if self.stop < self.start:
            raise UserError(f"stop: got {self.stop} ps, accepted is start ({self.start} ps) or later")
        late = times[1:] < times[:-1]
        if late.any():
            i = int(np.argmax(late)) + 1
            raise UserError(f"times: tag {i} at {times[i]} ps comes before its predecessor at {times[i - 1]} ps")
        object.__setattr__(self, "times", times)
        object.__setattr__(self, "channels", channels)

    def __len__(self) -> int:
        return len(self.times)

    @property
    def seconds(self) -> float:
        """Time that was watched, s."""
        return (self.stop - self.start) * 1e-12

    def of(self, channel: int) -> np.ndarray:
        """Times of one channel, int64 ps, in order."""
        return self.times[self.channels == channel]


@dataclass(frozen=True)
class Frames:
    """Consecutive frames of a camera, ``counts`` [frames, rows, columns], any real or whole dtype (bool: threshold).

    exposure: s, how long each frame gathered light; period: s from frame to frame; pitch: m, side of a pixel at the
    detector; each of them NaN where a file does not say.
    """

    counts: np.ndarray
    exposure: float = np.nan
    period: float = np.nan
    pitch: float = np.nan

    def __post_init__(self):
        counts = np.asarray(self.counts)
        if counts.ndim != 3 or counts.dtype.kind not in "buif":
            raise UserError(f"counts: got {counts.dtype} of shape {counts.shape}, expected [frames, rows, columns]")
        object.__setattr__(self, "counts", counts)

    def __len__(self) -> int:
        return len(self.counts)
