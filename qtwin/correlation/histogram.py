"""Histograms of the delays between clicks: cross-correlation, autocorrelation, start-stop.

Every correlator here and beside takes a record as an iterable of `TimeTags`, keeps of a stretch only what the next one
can still meet, and gives the same answer however the record was cut. All times are whole picoseconds.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from numba import uint64 as u64

from qtwin.core.errors import UserError
from qtwin.core.records import Estimates, TimeTags

LATEST = 2**62  # ps, 53 days: sums and differences of tags and delays stay inside int64


def whole(name: str, value, least: int = 1) -> int:
    """``value`` as a whole number of at least ``least``; UserError otherwise."""
    number = np.asarray(value)
    fits = number.ndim == 0 and number.dtype.kind in "iuf" and np.isfinite(number) and number == np.floor(number)
    if not fits or not least <= number < LATEST:
        raise UserError(f"{name}: got {value!r}, accepted is a whole number of {least} or more (times are picoseconds)")
    return int(number)


def stretches(record: Iterable[TimeTags]) -> Iterator[TimeTags]:
    """The stretches of a record, checked: in order of time, one clock, no tag near the ends of int64."""
    if isinstance(record, TimeTags):
        raise UserError("record: got one TimeTags, expected an iterable of them, such as [tags]")
    before, latest, number = None, -LATEST, 0
    for tags in record:
        if before is not None and tags.start < before.stop:
            raise UserError(f"record: stretch {number} starts at {tags.start} ps, inside the one before")
        if before is not None and tags.resolution != before.resolution:
            raise UserError(f"record: clock steps of {before.resolution} ps and {tags.resolution} ps in one record")
        if len(tags):
            if tags.times[0] < latest:
                raise UserError(f"record: stretch {number} has a tag at {tags.times[0]} ps, after one at {latest} ps")
            latest = int(tags.times[-1])
            if int(tags.times[0]) < -LATEST or latest > LATEST:
                raise UserError(f"times: got {tags.times[0]} to {latest} ps, accepted is within 2^62 ps (53 days)")
        before, number = tags, number + 1
        yield tags
    if before is None:
        raise UserError("record: got no stretch, expected at least one")


class Run(NamedTuple):
    """Tags ``first`` to ``last`` of these arrays, each with every neighbour that was asked for in the arrays.

    offset: place of the first tag of the arrays in the whole record.
    """

    times: np.ndarray
    channels: np.ndarray
    first: int
    last: int
    offset: int


class Walk:
    """Every tag of a record once, with all tags from ``before`` ps earlier to less than ``after`` ps later in sight.

    A tag waits until a later one is ``after`` or more away: nothing that follows can come closer. After the walk,
    ``watched`` is how long the record was watched and ``stop`` its end, ps; ``step`` its clock's, ps (1 if finer).
    """

    def __init__(self, record: Iterable[TimeTags], before: int, after: int, least: int = 0):
        """``least``: ps, the finest bin or window in use, which must not be shorter than the clock's step."""
        self.record, self.before, self.after, self.least = record, before, after, least
        self.watched, self.stop, self.step = 0, 0, 1.0

    def __iter__(self) -> Iterator[Run]:
        times, channels = np.empty(0, np.int64), np.empty(0, np.int16)
        first = offset = 0
        for tags in stretches(self.record):
            self.watched += tags.stop - tags.start
            self.stop, self.step = tags.stop, max(1.0, tags.resolution)
            if 0 < self.least < tags.resolution:
                raise UserError(f"window: got {self.least} ps, shorter than the clock's step of {tags.resolution} ps")
            if not len(tags):
                continue
            if len(times):
                times, channels = np.concatenate([times, tags.times]), np.concatenate([channels, tags.channels])
            else:
                times, channels = (np.require(part, None, ["C", "A", "W"]) for part in (tags.times, tags.channels))
            latest = times[-1]
            last = max(first, int(np.searchsorted(times, latest - self.after, side="right")))
            yield Run(times, channels, first, last, offset)
            kept = int(np.searchsorted(times, times[min(last, len(times) - 1)] - self.before))
            times, channels = times[kept:].copy(), channels[kept:].copy()
            first, offset = last - kept, offset + kept
        yield Run(times, channels, first, len(times), offset)
        if self.watched <= 0:
            raise UserError("record: got a record that was watched for no time, expected start before stop")

    def present(self, found: dict[int, int]):
        """Raise UserError for a channel without a single tag. found: channel -> tags of it."""
        for channel, tags in found.items():
            if not tags:
                there = ", ".join(str(c) for c, n in found.items() if n) or "none of them"
                raise UserError(
                    f"channel: got {channel}, which has no tag in the record (asked for and there: {there})"
                )


@njit(error_model="numpy")
def pairs(times, channels, first, last, start, stop, low, high, width, counts):
    """Count the delays t(stop) - t(start) in [low, high) ps, low <= 0 < high, of pairs whose earlier tag is in the run.

    Neighbour by neighbour: all pairs of next neighbours, then second neighbours of the tags that still have one near
    enough, and so on: no branch hangs on chance, which makes it faster than moving two pointers. Places are unsigned,
    for a negative one would be looked up from the end. Returns the tags of ``start`` and of ``stop``, and the
    sum of how far (ps) the delays lie above the lower edges of their bins.
    """
    block = 16384  # stays in the cache
    near = np.empty(block, np.uint64)
    places = np.empty(block, np.uint64)
    reach, size, span, one = max(-low, high - 1), u64(times.size), u64(high - low), u64(1)
    starts = stops = 0
    rest = u64(0)
    for base in range(first, last, block):
        end = min(last, base + block)
        left = u64(0)
        for i in range(u64(base), u64(end)):
            starts += channels[i] == start
            stops += channels[i] == stop
        for i in range(u64(base), u64(min(end, times.size - 1))):
            near[left] = i
            left += u64(times[i + one] - times[i] <= reach)
        apart = one
        while left:
            found = u64(0)
            for k in range(left):
                i = near[k]
                j = i + apart
                forth = (channels[i] == start) & (channels[j] == stop)
                back = (channels[i] == stop) & (channels[j] == start)
                delay = times[j] - times[i]
                place = u64((delay if forth else -delay) - low)  # below low: huge
                places[found] = place
                found += u64((forth | back) & (place < span))
            for k in range(found):
                bin = places[k] // u64(width)
                rest += places[k] - bin * u64(width)
                counts[bin] += 1
            apart += one
            still = u64(0)
            for k in range(left):
                i = near[k]
                near[still] = i
                if i + apart < size:
                    still += u64(times[i + apart] - times[i] <= reach)
            left = still
    return starts, stops, rest


@dataclass(frozen=True)
class Histogram:
    """All pairs of clicks by delay: ``counts[k]`` have edges[k] <= t(stop) - t(start) < edges[k+1].

    edges: int64 ps, [bins + 1]; counts: int64, [bins]; starts, stops: clicks of either channel; watched: ps;
    place: ps, mean distance of a delay from the lower edge of its bin, which knows of the clock's steps; step: ps, of
    the clock.
    """

    channels: tuple[int, int]
    edges: np.ndarray
    counts: np.ndarray
    starts: int
    stops: int
    watched: int
    place: float
    step: float

    @property
    def width(self) -> int:
        """Width of a bin, ps."""
        return int(self.edges[1] - self.edges[0])

    @property
    def centres(self) -> np.ndarray:
        """Mean delay of a bin, ps. Half a tick before its middle: it is half open; more where the clock has steps."""
        return self.edges[:-1] + self.place

    @property
    def level(self) -> np.ndarray:
        """N_a N_b b (T - |tau|)/T^2: counts per bin of unrelated Poisson streams, all pairs."""
        stops = self.stops - (self.channels[0] == self.channels[1])
        return self.starts * stops * self.width * (self.watched - np.abs(self.centres)) / float(self.watched) ** 2

    @property
    def g2(self) -> Estimates:
        """g2(tau) = n/(N_a N_b b (T - |tau|)/T^2), cw light; Var n = n (1 + (N_a + N_b) b |tau|/T^2), n at least 1.

        Derived for N_a and N_b clicks spread evenly and at random: pairs that share a click are uncorrelated, but for
        how many clicks fall so near the ends that a partner at tau was not watched. Light that bunches strongly
        scatters more.
        """
        shared = (self.starts + self.stops) * self.width * np.abs(self.centres) / float(self.watched) ** 2
        return Estimates(self.counts / self.level, np.sqrt(np.maximum(self.counts, 1) * (1 + shared)) / self.level)


def histogram(record: Iterable[TimeTags], start: int, stop: int, low: int, high: int, width: int) -> Histogram:
    """All pairs with t(stop) - t(start) in [low, high) ps, low <= 0 < high, in bins of ``width`` ps."""
    counts = np.zeros((high - low) // width, np.int64)
    starts = stops = rest = 0
    walk = Walk(record, 0, max(-low + 1, high), width)
    for run in walk:
        found = pairs(run.times, run.channels, run.first, run.last, start, stop, low, high, width, counts)
        starts, stops, rest = starts + found[0], stops + found[1], rest + int(found[2])
    walk.present({start: starts, stop: stops})
    edges = np.arange(low, high + 1, width, dtype=np.int64)
    total = int(counts.sum())
    place = rest / total if total else (width - 1) / 2
    return Histogram((start, stop), edges, counts, starts, stops, walk.watched, place, walk.step)


def _bins(reach: int, width: int, span: int) -> tuple[int, int]:
    reach, width = whole("reach", reach), whole("bin", width)
    if span * reach % width or reach < width / span:
        raise UserError(f"bin: got {width} ps, accepted is a width that divides the range of {span * reach} ps")
    return reach, width


def cross_correlation(record: Iterable[TimeTags], start: int, stop: int, reach: int, bin: int) -> Histogram:
    """All pairs of clicks with delays t(stop) - t(start) in [-reach, reach) ps, in half-open bins of ``bin`` ps.

    Zero delay is an edge where ``bin`` divides ``reach``, else (``reach`` an odd number of half bins) the middle of
    a bin. Both channels must have clicks; UserError otherwise. A large delay is taken out by `aligned` first, which
    also leaves out other channels: they cost time where there are many.
    """
    reach, width = _bins(reach, bin, 2)
    if start == stop:
        raise UserError(f"channel: got {start} twice, expected two channels (autocorrelation has its own function)")
    return histogram(record, start, stop, -reach, reach, width)


def autocorrelation(record: Iterable[TimeTags], channel: int, reach: int, bin: int) -> Histogram:
    """All pairs of clicks of one channel, each pair once, no click with itself: delays in [0, reach) ps."""
    reach, width = _bins(reach, bin, 1)
    return histogram(record, channel, channel, 0, reach, width)


@njit(error_model="numpy")
def first_stops(times, channels, first, last, start, stop, reach, width, counts):
    """Histogram of the delay to the first stop in [0, reach) after each start of the run; the number of starts."""
    starts = 0
    for i in range(first, last):
        if channels[i] == start:
            starts += 1
            j = i
            while j > 0 and times[j - 1] == times[i]:
                j -= 1
            while j < times.size and times[j] - times[i] < reach:
                if channels[j] == stop:
                    counts[(times[j] - times[i]) // width] += 1
                    break
                j += 1
    return starts


@dataclass(frozen=True)
class StartStop:
    """First stop after each start: ``counts[k]`` in edges[k] <= delay < edges[k+1] (ps), of ``starts`` starts."""

    edges: np.ndarray
    counts: np.ndarray
    starts: int

    @property
    def waiting(self) -> np.ndarray:
        """Starts that no stop has ended before bin k: starts - sum_{j<k} N_j."""
        return self.starts - np.cumsum(self.counts) + self.counts

    @property
    def probability(self) -> Estimates:
        """p_k = N_k/(starts - sum_{j<k} N_j): a stop in bin k if none came before; binomial error.

        Coates, J. Phys. E 1, 878 (1968). Where no start waits any more: 0 with the error 1.
        """
        waiting = np.maximum(self.waiting, 1)
        p = self.counts / waiting
        error = np.sqrt(np.maximum(self.counts, 1) * np.maximum(1 - p, 1 / waiting)) / waiting
        return Estimates(p, np.where(self.waiting > 0, error, 1.0))

    @property
    def mean(self) -> Estimates:
        """m_k = -ln(1 - p_k): mean stops per start in bin k, Poisson light; the pile-up is taken out.

        Where all that waited were stopped, or none waits, p is held half a start below 1.
        """
        p = np.minimum(self.probability.value, 1 - 0.5 / np.maximum(self.waiting, 1))
        return Estimates(-np.log1p(-p), self.probability.error / (1 - p))


def start_stop(record: Iterable[TimeTags], start: int, stop: int, reach: int, bin: int) -> StartStop:
    """Delay from every start to the first stop in [0, reach) ps, in half-open bins of ``bin`` ps.

    Every start counts (no electronics that ignore those during a measurement), but for those so near the end of the
    record that their range was not watched.
    """
    reach, width = _bins(reach, bin, 1)
    counts = np.zeros(reach // width, np.int64)
    starts = stops = 0
    walk = Walk(record, 0, reach, width)
    for run in walk:
        last = run.last
        if last == len(run.times):  # the end of the record
            last = max(run.first, int(np.searchsorted(run.times, walk.stop - reach, side="right")))
        starts += first_stops(run.times, run.channels, run.first, last, start, stop, reach, width, counts)
        stops += int(np.count_nonzero(run.channels[run.first : run.last] == stop))
    walk.present({start: starts, stop: stops})
    return StartStop(np.arange(0, reach + 1, width, dtype=np.int64), counts, starts)
