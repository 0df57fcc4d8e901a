"""Coincidences counted from time tags: all pairs, first stop, one to one, n-fold; delays taken out; pulses numbered.

A window is given by its **full** width tau_w: [-tau_w/2, tau_w/2) around zero delay, half open, an odd one a tick
longer above. Who writes half windows +-tau (positron tomography) asks for 2 tau. The channels' delays are taken out
beforehand with `aligned`, so that coincidences are at zero delay; with `pulse_clock` the tick is a pulse, and a
window of 1 counts per pulse.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from scipy.stats import beta, gamma

from qtwin.core.errors import UserError
from qtwin.core.records import Estimate, TimeTags
from qtwin.correlation.histogram import LATEST, Histogram, Walk, histogram, stretches, whole

RULES = ("all pairs", "first stop", "one to one")


class Ratio(NamedTuple):
    """A ratio of counts: its value and standard error, and an interval that holds at few counts too."""

    value: float
    error: float
    low: float
    high: float


def interval(counts: float, others: float, windows: float, confidence: float = 0.6827) -> tuple[float, float]:
    """Interval of the ratio of Poisson means, counts : others/windows; never narrower than its confidence says.

    Given n = counts + others, counts are binomial with p = R/(R + windows): Przyborowski & Wilenski, Biometrika 31, 313
    (1940), with the limits for p of Clopper & Pearson, Biometrika 26, 404 (1934). ``windows``: how many times
    longer the others were counted.
    """
    tail = (1 - confidence) / 2
    p_low = beta.ppf(tail, counts, others + 1) if counts > 0 else 0.0
    p_high = beta.ppf(1 - tail, counts + 1, others) if others > 0 else 1.0
    return windows * p_low / (1 - p_low), windows * p_high / (1 - p_high) if p_high < 1 else np.inf


def poisson_interval(counts: float, confidence: float = 0.6827) -> tuple[float, float]:
    """Interval of the mean of a Poisson count: Garwood, Biometrika 28, 437 (1936)."""
    tail = (1 - confidence) / 2
    return gamma.ppf(tail, counts) if counts > 0 else 0.0, gamma.ppf(1 - tail, counts + 1)


def ratio_of_counts(counts: float, others: float, windows: float, confidence: float = 0.6827) -> Ratio:
    """counts/(others/windows) of independent Poisson counts; the error is that of one count where there is none."""
    if counts + others <= 0:
        raise UserError("counts: got none in either window, expected at least one to form their ratio")
    low, high = interval(counts, others, windows, confidence)
    if others <= 0:
        return Ratio(np.inf, np.inf, low, high)
    error = windows / others * np.sqrt(max(counts, 1) + counts**2 / others)
    return Ratio(windows * counts / others, float(error), low, high)


@dataclass(frozen=True)
class Coincidences:
    """``counts`` coincidences in a window of full width ``window`` ps, of ``starts`` and ``stops`` clicks (gross)."""

    channels: tuple[int, int]
    rule: str
    window: int
    counts: int
    starts: int
    stops: int
    watched: int

    @property
    def error(self) -> float:
        """sqrt(C), of one count where there is none: Poisson, at the clicks that there were (`accidentals.net`)."""
        return float(np.sqrt(max(self.counts, 1)))

    @property
    def rate(self) -> Estimate:
        """Coincidences per second."""
        return Estimate(self.counts / (self.watched * 1e-12), self.error / (self.watched * 1e-12))


def edges_of(window) -> tuple[int, int]:
    """The half-open interval of a full window, ps: -(w // 2), w - w // 2."""
    window = whole("window", window)
    return -(window // 2), window - window // 2


@njit(error_model="numpy")
def neighbours(times, channels, first, last, start, others, low, high, singles):
    """Clicks of each of the ``others`` with low <= t - t(start) < high, for every start of the run: [starts, others].

    Adds the clicks of ``others`` in the run to ``singles``.
    """
    count = 0
    for i in range(first, last):
        count += channels[i] == start
        for k in range(others.size):
            singles[k] += channels[i] == others[k]
    found = np.zeros((count, others.size), np.int64)
    row = 0
    for i in range(first, last):
        if channels[i] != start:
            continue
        j = i - 1
        while j >= 0 and times[j] - times[i] >= low:
            for k in range(others.size):
                found[row, k] += channels[j] == others[k]
            j -= 1
        j = i + 1
        while j < times.size and times[j] - times[i] < high:
            for k in range(others.size):
                found[row, k] += channels[j] == others[k]
            j += 1
        row += 1
    return found


@njit(error_model="numpy")
def matches(times, channels, first, last, start, stop, low, high, free):
    """One to one: every start of the run takes the earliest stop of its window that no start before has taken.

    free: place of the first stop that is still to be had. Returns the matches and the new ``free``.
    """
    count = 0
    for i in range(first, last):
        if channels[i] == start:
            while free < times.size and (channels[free] != stop or times[free] - times[i] < low):
                free += 1
            if free < times.size and times[free] - times[i] < high:
                count += 1
                free += 1
    return count, free


def around(
    record: Iterable[TimeTags], start: int, others: Sequence[int], window: int, rule: str
) -> Iterator[np.ndarray]:
    """Clicks around the starts, summed over groups of starts that may share some: int64 [groups, 1 + others + 1].

    A row has the starts, the clicks of every other channel in the window around them (``first stop``: whether there is
    one) and the products over the channels, start by start. A start closer than ``window`` to the one before is of
    its group, up to a thousand; groups are independent, which errors need. UserError for equal channels, and
    at the end for a channel without tags.
    """
    channels = [start, *others]
    if len(set(channels)) < len(channels):
        raise UserError(f"channels: got {channels}, expected different ones")
    if rule not in RULES[:2]:
        raise UserError(f"rule: got {rule!r}, accepted is one of {', '.join(RULES[:2])}")
    low, high = edges_of(window)
    singles, starts = np.zeros(len(others), np.int64), 0
    rows, times = np.empty((0, len(others) + 2), np.int64), np.empty(0, np.int64)  # of the group that may go on
    walk = Walk(record, -low, high, high - low)
    for run in walk:
        found = neighbours(*run[:4], start, np.asarray(others, np.int64), low, high, singles)
        if rule == "first stop":
            found = np.minimum(found, 1)
        block = slice(run.first, run.last)
        fresh = np.ones(len(rows) + len(found), bool)
        fresh[len(rows) :] = (starts + np.arange(len(found))) % 1000 == 0
        rows = np.vstack([rows, np.column_stack([np.ones(len(found), np.int64), found, found.prod(axis=1)])])
        times = np.append(times, run.times[block][run.channels[block] == start])
        fresh[1:] |= np.diff(times) >= window
        starts += len(found)
        if len(rows):
            rows = np.add.reduceat(rows, np.flatnonzero(fresh))
            yield rows[:-1]
            rows, times = rows[-1:], times[-1:]
    walk.present({start: starts, **dict(zip(others, singles.tolist(), strict=True))})
    yield rows


def coincidences(
    record: Iterable[TimeTags], start: int, stop: int, window: int, rule: str = "all pairs"
) -> Coincidences:
    """Coincidences of two channels in a window of full width ``window`` ps.

    ``all pairs``: every pair of clicks in the window (what S_s S_i tau_w/T gives the accidentals of). ``first stop``:
    every start with at least one stop. ``one to one``: each click is used once; the starts in order of time take the
    earliest stop still free in their window, which makes the most pairs that can be made (Glover, Nav. Res. Logist.
    Q. 14, 313 (1967)).
    """
    low, high = edges_of(window)
    if start == stop:
        raise UserError(f"channel: got {start} twice, expected two channels")
    if rule not in RULES:
        raise UserError(f"rule: got {rule!r}, accepted is one of {', '.join(RULES)}")
    if rule == "all pairs":
        return within(histogram(record, start, stop, low, high, high - low), window)
    walk = Walk(record, -low, high, high - low)
    counts = starts = stops = free = 0
    for run in walk:
        block = run.channels[run.first : run.last]
        starts, stops = starts + int(np.count_nonzero(block == start)), stops + int(np.count_nonzero(block == stop))
        if rule == "one to one":
            more, free = matches(*run[:4], start, stop, low, high, max(0, free - run.offset))
            counts, free = counts + more, free + run.offset
        else:
            found = neighbours(*run[:4], start, np.asarray([stop]), low, high, np.zeros(1, np.int64))
            counts += int(np.count_nonzero(found))
    walk.present({start: starts, stop: stops})
    return Coincidences((start, stop), rule, high - low, counts, starts, stops, walk.watched)


def within(pairs: Histogram, window: int) -> Coincidences:
    """The pairs of a histogram inside the window around zero delay, whose edges must be edges of bins."""
    low, high = edges_of(window)
    first, last = np.searchsorted(pairs.edges, (low, high))
    if last == len(pairs.edges) or pairs.edges[first] != low or pairs.edges[last] != high:
        raise UserError(f"window: got {window} ps, its edges {low} and {high} ps are no edges of the histogram's bins")
    counts = int(pairs.counts[first:last].sum())
    return Coincidences(pairs.channels, "all pairs", high - low, counts, pairs.starts, pairs.stops, pairs.watched)


@dataclass(frozen=True)
class Folds:
    """n-fold coincidences: ``counts`` and their standard error, of ``starts`` clicks of the first channel."""

    counts: int
    error: float
    starts: int


def n_fold(
    record: Iterable[TimeTags], start: int, others: Sequence[int], window: int, rule: str = "first stop"
) -> Folds:
    """Starts with a click of every other channel in the window around them, or (``all pairs``) every combination.

    n = 1 + len(others). Standard error at that number of starts, from the scatter of independent groups of them.
    """
    squares = np.zeros((2, 2), np.int64)
    starts = counts = 0
    for rows in around(record, start, others, window, rule):
        ends = rows[:, [0, -1]]
        starts, counts, squares = (
            starts + int(ends[:, 0].sum()),
            counts + int(ends[:, 1].sum()),
            squares + ends.T @ ends,
        )
    per_start = np.array([-counts / starts, 1.0])
    return Folds(counts, float(np.sqrt(per_start @ squares @ per_start)), starts)


def aligned(record: Iterable[TimeTags], delays: dict[int, int]) -> Iterator[TimeTags]:
    """The record with every channel's delay taken out, t - delay ps, in order again; other channels are left out.

    Only the time that all channels watched remains: the record gets shorter by the spread of the delays. Tags wait
    until no channel can bring an earlier one, so memory holds the spread and a stretch.
    """
    delays = {channel: whole("delay", delay, 1 - LATEST) for channel, delay in delays.items()}
    if not delays:
        raise UserError("delays: got none, expected a delay for every channel that is wanted")
    least, most = min(delays.values()), max(delays.values())
    waiting = {channel: np.empty(0, np.int64) for channel in delays}
    begin = end = done = None

    def ready(limit):
        """Take out what lies before ``limit``, channel by channel, and put it in order."""
        parts = {channel: times[: np.searchsorted(times, limit)] for channel, times in waiting.items()}
        for channel, part in parts.items():
            waiting[channel] = waiting[channel][len(part) :]
        times = np.concatenate(list(parts.values()))
        order = np.argsort(times, kind="stable")  # merges rows that are in order each
        numbers = np.repeat(np.array(list(parts), np.int16), [len(p) for p in parts.values()])
        return times[order], numbers[order]

    for tags in stretches(record):
        begin = tags.start - least if begin is None else begin
        end = tags.stop - most
        for channel, delay in delays.items():
            new = tags.of(channel) - delay
            waiting[channel] = np.concatenate([waiting[channel], new[np.searchsorted(new, begin) :]])
        if end > begin:
            limit = min(end, int(tags.times[-1]) - most) if len(tags) else begin
            start = max(begin, tags.start - most) if done is not None else begin
            times, numbers = ready(limit)
            yield TimeTags(times, numbers, start, end, tags.resolution)
            done = tags
    if done is None or end is None:
        raise UserError(f"delay: got delays {most - least} ps apart, as long as the record or longer")
    times, numbers = ready(end)
    yield TimeTags(times, numbers, end, end, done.resolution)


def pulse_clock(record: Iterable[TimeTags], period: float, gate: int | None = None) -> Iterator[TimeTags]:
    """The record with pulse numbers for times: n = floor(t/period), for clicks with t - n period < ``gate`` ps.

    The gate opens at the multiples of ``period`` ps (`aligned` puts it there for every channel; None: always open).
    The correlators read the result like any record, with "ps" read as "pulses": a window of 1 counts per
    pulse, delays are numbers of pulses, T is a number of pulses. The period must hold for the whole record.
    """
    if not 1 <= period < LATEST:
        raise UserError(f"period: got {period!r} ps, accepted is 1 ps or more")
    if gate is not None and not 0 < gate <= period:
        raise UserError(f"gate: got {gate!r} ps, accepted is above 0, up to the period of {period} ps")
    for tags in stretches(record):
        number = np.floor(tags.times / period)
        kept = slice(None) if gate is None else tags.times - number * period < gate
        first, end = (int(np.floor(t / period)) for t in (tags.start, tags.stop))
        yield TimeTags(number[kept].astype(np.int64), tags.channels[kept], first, end)


def one_per_tick(record: Iterable[TimeTags]) -> Iterator[TimeTags]:
    """The record with at most one tag of a channel per tick: on a pulse clock, threshold detectors."""
    last: dict[int, int] = {}
    for tags in stretches(record):
        kept = np.ones(len(tags), bool)
        for channel in np.unique(tags.channels).tolist():
            own = np.flatnonzero(tags.channels == channel)
            ticks = tags.times[own]
            kept[own] = np.diff(ticks, prepend=last.get(channel, ticks[0] - 1)) > 0
            last[channel] = int(ticks[-1])
        yield TimeTags(tags.times[kept], tags.channels[kept], tags.start, tags.stop, tags.resolution)
