"""Times from tags: delay of two channels, drift of their clocks, period of a pulse train, dead time."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import scipy.fft
from scipy.stats import poisson

from qtwin.core.errors import UserError
from qtwin.core.records import Estimate, TimeTags
from qtwin.correlation.counting import aligned
from qtwin.correlation.histogram import (
    LATEST,
    Histogram,
    autocorrelation,
    cross_correlation,
    stretches,
    whole,
)

FOLDS = 2**21  # bins of the folded record in which a large delay is looked for
COARSE = 64  # ps, the least of such a bin: on a shorter circle chance fills every bin


class Peak(NamedTuple):
    """The peak of a histogram: mean delay (ps), standard deviation (ps), pairs in it, background per bin."""

    delay: Estimate
    width: Estimate
    pairs: Estimate
    background: float

    @property
    def found(self) -> bool:
        """Whether the pairs are five standard errors above nothing."""
        return bool(self.pairs.value > 5 * self.pairs.error)


def peak(pairs: Histogram) -> Peak:
    """Centroid of the highest peak over a constant background: mu = sum (n - B) tau/sum (n - B) within 4 std of mu.

    Var mu = sum n (tau - mu)^2/(sum (n - B))^2. Clocks that round down shift both channels alike, so mu has no bias
    from their steps. The histogram must show the background beyond 4 std; where it does not, or where nothing
    stands above it, the peak is not ``found`` and its errors are infinite.
    """
    tau, n = pairs.centres, pairs.counts.astype(float)
    centre, std = tau[int(np.argmax(np.convolve(n, np.ones(3), mode="same")))], 1.5 * pairs.width
    for _ in range(50):
        inside = np.abs(tau - centre) <= max(4 * std, 1.5 * pairs.width)
        background = n[~inside].mean() if not inside.all() else n.mean()
        net = n[inside] - background
        total = net.sum()
        if inside.all() or total <= 0:
            return Peak(Estimate(centre, np.inf), Estimate(std, np.inf), Estimate(0.0, np.inf), float(background))
        before, centre = (centre, std), float(np.sum(net * tau[inside]) / total)
        spread = np.sum(net * (tau[inside] - centre) ** 2) / total - pairs.width**2 / 12
        std = float(np.sqrt(max(spread, (pairs.step / 4) ** 2)))
        if np.allclose(before, (centre, std), rtol=0, atol=1e-3 * std):
            break
    off = tau[inside] - centre
    error = np.sqrt(np.sum(n[inside] * off**2)) / total
    wide = np.sqrt(np.sum(n[inside] * (off**2 - std**2) ** 2)) / (2 * std * total)
    counted = np.sqrt(n[inside].sum() + background * inside.sum() ** 2 / np.count_nonzero(~inside))
    return Peak(
        Estimate(centre, float(error)),
        Estimate(std, float(wide)),
        Estimate(float(total), float(counted)),
        float(background),
    )


def beginning(record: Iterable[TimeTags], channels: tuple[int, ...], most: int) -> TimeTags:
    """The first ``most`` tags of these channels (or all, if fewer) as one stretch."""
    times, numbers, count, begin = [], [], 0, LATEST
    for tags in stretches(record):
        begin = min(begin, tags.start)
        kept = np.flatnonzero(np.isin(tags.channels, np.array(channels, np.int16)))[: most - count]
        times.append(tags.times[kept])
        numbers.append(tags.channels[kept])
        count, stop, step = count + len(kept), tags.stop, tags.resolution
        if count == most:
            stop = max(begin, min(stop, int(times[-1][-1]) + 1))
            break
    whole_piece = TimeTags(np.concatenate(times), np.concatenate(numbers), begin, stop, step)
    for channel in channels:
        if not len(whole_piece.of(channel)):
            raise UserError(f"channel: got {channel}, which has no tag among the first {count} of {channels}")
    return whole_piece


def coarse_delay(piece: TimeTags, start: int, stop: int, reach: int) -> tuple[int, int]:
    """Delay within [-reach, reach] ps and the width of the bin it was found in, by the Fourier transform.

    Both channels are folded, t mod L with L >= 2 reach, and correlated around the circle: Ho, Lamas-Linares &
    Kurtsiefer, New J. Phys. 11, 045011 (2009). Bins are joined by fours; the width is chosen at which chance explains
    the highest bin least (Poisson). UserError where it explains it more often than once in a million.
    """
    step = max(1, round(piece.resolution))
    width = -(-2 * (reach + 1) // (FOLDS * step)) * step  # whole steps of the clock, or bins would fill unevenly
    folded = [np.bincount(piece.of(c) // width % FOLDS, minlength=FOLDS) for c in (start, stop)]
    first, second = (scipy.fft.rfft(f.astype(float)) for f in folded)
    circle = np.roll(np.rint(scipy.fft.irfft(np.conj(first) * second, FOLDS)), FOLDS // 2)  # delay (k - FOLDS/2) width
    best = (0.0, 0, width)
    while len(circle) >= 64:
        bin_width = width * FOLDS // len(circle)
        place = np.arange(len(circle)) * bin_width - FOLDS // 2 * width
        allowed = np.where(np.abs(place + bin_width // 2) <= reach + bin_width, circle, -1)
        k = int(np.argmax(allowed))
        chance = poisson.logsf(allowed[k] - 1, circle.mean()) + np.log(len(circle))
        if chance < best[0]:
            best = (float(chance), int(place[k] + bin_width // 2), bin_width)
        circle = circle.reshape(-1, 4).sum(axis=1)
    if best[0] > np.log(1e-6):
        raise UserError(f"delay: no peak of channels {start} and {stop} within {reach} ps stands out of chance")
    return best[1], best[2]


def find_delay(record: Iterable[TimeTags], start: int, stop: int, reach: int, most: int = 4_000_000) -> Peak:
    """Delay t(stop) - t(start) of two channels, known only to lie within [-reach, reach] ps, with standard error.

    From the first ``most`` tags: first by Fourier transform (`coarse_delay`), then by histograms of ever finer bins
    until the peak spans several, then its centroid (`peak`). Clocks that drift apart by more than the peak's width in
    that time widen it: take fewer tags and follow it with `follow_delay`.
    """
    reach = whole("reach", reach)
    if start == stop:
        raise UserError(f"channel: got {start} twice, expected two channels")
    piece = beginning(record, (start, stop), whole("most", most))
    step = max(1, round(piece.resolution))
    centre, width = coarse_delay(piece, start, stop, reach)
    while True:
        bin_width = max(step, width // 16)
        half = max(20, 3 * width // bin_width) * bin_width
        found = peak(_around(piece, start, stop, centre, half, bin_width))
        if not found.found or bin_width == step or found.width.value > 2 * bin_width:
            break
        centre, width = round(centre + found.delay.value), bin_width
    centre = round(centre + found.delay.value)
    bin_width = max(step, int(found.width.value / 8))
    half = max(20, int(12 * found.width.value / bin_width)) * bin_width
    found = peak(_around(piece, start, stop, centre, half, bin_width))
    if not found.found:
        raise UserError(f"delay: the peak near {centre} ps is no clear peak ({found.pairs.value:.0f} pairs)")
    return found._replace(delay=Estimate(centre + found.delay.value, found.delay.error))


def _around(piece: TimeTags, start: int, stop: int, centre: int, reach: int, bin_width: int) -> Histogram:
    return cross_correlation(aligned([piece], {start: 0, stop: centre}), start, stop, reach, bin_width)


def cut(record: Iterable[TimeTags], step: int) -> Iterator[list[TimeTags]]:
    """The record in pieces of ``step`` ps, each a small record of its own; a rest below half a step is left out."""
    step, edge, piece = whole("step", step), None, []
    for tags in stretches(record):
        edge = tags.start + step if edge is None else edge
        start = tags.start
        while tags.stop >= edge:
            k = int(np.searchsorted(tags.times, edge))
            piece.append(TimeTags(tags.times[:k], tags.channels[:k], start, max(start, edge), tags.resolution))
            yield piece
            tags = TimeTags(tags.times[k:], tags.channels[k:], edge, tags.stop, tags.resolution)
            start, edge, piece = max(start, edge), edge + step, []
        piece.append(tags)
    if piece and piece[-1].stop - piece[0].start >= step / 2:
        yield piece


class Drift(NamedTuple):
    """Delay against time, and its straight line of least squares: offset + slope (t - time).

    offset: ps; slope: ps/s; time: s, where the two are independent; times (s), delays and errors (ps): of the pieces;
    scatter: ps, standard deviation about the line; chi2: of ``len(times) - 2`` degrees of freedom. Where chi2
    exceeds them the clocks wander, and the errors are scaled up by sqrt(chi2/degrees).
    """

    offset: Estimate
    slope: Estimate
    time: float
    times: np.ndarray
    delays: np.ndarray
    errors: np.ndarray
    scatter: float
    chi2: float


def straight_line(times: np.ndarray, delays: np.ndarray, errors: np.ndarray) -> Drift:
    """Weighted least squares of delays (ps) against times (s), three points or more."""
    weight = 1 / errors**2
    time = float(np.sum(weight * times) / weight.sum())
    offset = float(np.sum(weight * delays) / weight.sum())
    lever = np.sum(weight * (times - time) ** 2)
    slope = float(np.sum(weight * (times - time) * delays) / lever)
    rest = delays - offset - slope * (times - time)
    chi2, free = float(np.sum(weight * rest**2)), len(times) - 2
    scale = np.sqrt(max(1.0, chi2 / free))
    scatter = float(np.sqrt(np.sum(rest**2) / free))
    offset_error, slope_error = float(scale / np.sqrt(weight.sum())), float(scale / np.sqrt(lever))
    return Drift(
        Estimate(offset, offset_error), Estimate(slope, slope_error), time, times, delays, errors, scatter, chi2
    )


def follow_delay(
    record: Iterable[TimeTags], start: int, stop: int, delay: float, step: int, reach: int, bin: int
) -> Drift:
    """Delay in every piece of ``step`` ps, followed from ``delay`` ps on, and its drift, with standard errors.

    Histograms of +-``reach`` ps about the delay expected from the pieces before, in bins of ``bin`` ps; pieces whose
    peak is not found are left out. UserError where fewer than three are left.
    """
    times: list[float] = []
    delays: list[float] = []
    errors: list[float] = []
    for piece in cut(record, step):
        middle = (piece[0].start + piece[-1].stop) / 2 * 1e-12
        expected = delays[-1] if delays else delay
        if len(delays) > 1:
            expected += (delays[-1] - delays[-2]) / (times[-1] - times[-2]) * (middle - times[-1])
        lag = round(expected)
        if piece[-1].stop - piece[0].start <= abs(lag):
            continue
        moved = list(aligned(piece, {start: 0, stop: lag}))
        if all(any(len(tags.of(channel)) for tags in moved) for channel in (start, stop)):
            found = peak(cross_correlation(moved, start, stop, reach, bin))
            if found.found:
                times.append(middle)
                delays.append(lag + found.delay.value)
                errors.append(found.delay.error)
    if len(times) < 3:
        raise UserError(f"delay: found the peak in {len(times)} pieces of {step} ps, expected three or more")
    return straight_line(np.array(times), np.array(delays), np.array(errors))


def repetition_period(
    record: Iterable[TimeTags], channel: int, shortest: int = 1000, reach: int = 1_000_000, most: int = 200_000
) -> Estimate:
    """Period of a pulse train (ps) from one channel's tags, with standard error; none is shorter than ``shortest`` ps.

    A first value from the Fourier transform of the autocorrelation up to ``reach`` ps, made sharper by folding: the
    frequency f that maximises sum |sum exp(2 pi i f t)|^2 over spans of the record, spans growing eightfold while
    the train stays in step with itself (power of unbinned phases: Buccheri et al., Astron. Astrophys. 128, 245 (1983)).
    Then the phases of pieces of the record give f and its error by a straight line; where they scatter more than
    counting explains, laser and clock wander against each other, and the error is larger. First ``most`` tags.
    """
    piece = beginning(record, (channel,), whole("most", most))
    times = piece.times - piece.times[0]
    frequency = _first_frequency(piece, channel, whole("shortest", shortest), whole("reach", reach))
    span, coherence, in_step = 8.0 * reach, 0.0, 0.0
    while in_step == 0.0 or span < 8 * times[-1]:
        number = (times // span).astype(np.int64)
        begin = np.flatnonzero(np.diff(number, prepend=-1))
        sizes = np.diff(begin, append=len(times))
        within = times - np.repeat(times[begin], sizes)
        trials = frequency + np.arange(-10, 11) / (5 * span)
        phasor, turn = (np.exp(2j * np.pi * f * within) for f in (trials[0], 1 / (5 * span)))
        power = []
        for _ in trials:
            power.append(float(np.sum(np.abs(np.add.reduceat(phasor, begin)) ** 2)) - len(times))
            phasor *= turn
        perfect = float(np.sum(sizes.astype(float) ** 2)) - len(times)  # of pulses without jitter
        if max(power) < max(5 * np.sqrt(2 * perfect), 100) or max(power) < coherence / 2 * perfect:
            break
        frequency, coherence, in_step = float(trials[int(np.argmax(power))]), max(power) / perfect, span
        span *= 8
    if in_step == 0.0:
        raise UserError(f"period: channel {channel} shows no period of {shortest} ps or more")
    return _sharpened(times, frequency, min(in_step, float(times[-1])), f"period: channel {channel}")


def _first_frequency(piece: TimeTags, channel: int, shortest: int, reach: int) -> float:
    """The lowest frequency (1/ps) whose power in the autocorrelation is above half of the highest."""
    width = max(1, round(piece.resolution), shortest // 8)
    h = autocorrelation([piece], channel, reach // width * width, width)
    wave = h.counts - h.counts.mean()
    size = 4 * scipy.fft.next_fast_len(len(wave))
    power = np.abs(scipy.fft.rfft(wave * np.hanning(len(wave)), size)) ** 2
    f = np.arange(len(power)) / (size * width)
    power[(f < 10 / reach) | (f > 1 / shortest)] = 0
    crest = (power > np.roll(power, 1)) & (power >= np.roll(power, -1)) & (power > power.max() / 2)
    if not crest.any():
        raise UserError(f"period: channel {channel} shows no period from {shortest} to {reach // 10} ps")
    return float(f[np.argmax(crest)])


def _sharpened(times: np.ndarray, frequency: float, span: float, where: str) -> Estimate:
    """Period and error (ps) from the phases of pieces of a ``span``; x = phase/(2 pi f) grows by f/f_true - 1."""
    pieces = int(np.clip(len(times) * span / times[-1] / 50, 3, 16))
    begin = np.flatnonzero(np.diff(np.floor(times * (pieces / span)), prepend=-1))
    sizes = np.diff(begin, append=len(times))
    phasor = np.exp(2j * np.pi * frequency * times)
    total = np.add.reduceat(phasor, begin)
    turned = phasor * np.repeat(np.conj(total) / np.maximum(np.abs(total), 1e-300), sizes)
    r1, r2 = (float((turned**m).real.mean()) for m in (1, 2))
    full = sizes >= 20
    if np.count_nonzero(full) < 3:
        raise UserError(f"{where} stays in step with itself for {span:.3g} ps, too few tags for its phase")
    phase = np.unwrap(np.angle(total[full])) / (2 * np.pi * frequency)
    error = np.sqrt(max(1 - r2, 1e-9) / (2 * sizes[full])) / r1 / (2 * np.pi * frequency)
    line = straight_line(np.add.reduceat(times, begin)[full] / sizes[full] * 1e-12, phase, error)
    return Estimate((1 + line.slope.value * 1e-12) / frequency, line.slope.error * 1e-12 / frequency)


def smallest_spacing(record: Iterable[TimeTags], channel: int) -> int:
    """The smallest time between two clicks of one channel, ps."""
    smallest, last = None, None
    for tags in stretches(record):
        times = tags.of(channel)
        if len(times):
            gaps = np.diff(times) if last is None else np.diff(times, prepend=last)
            if len(gaps):
                smallest = int(gaps.min()) if smallest is None else min(smallest, int(gaps.min()))
            last = times[-1]
    if smallest is None:
        raise UserError(f"channel: got {channel}, which has fewer than two tags in the record")
    return smallest


def dead_time(pairs: Histogram, over: int) -> Estimate:
    """Dead time (ps) from an autocorrelation: where its rise would stand, were it a step.

    tau = t - over N1/N2, N1 the pairs below t = (first bin with a pair) + ``over`` and N2 those in the next ``over``
    ps: jitter and a gradual recovery are averaged, slow afterpulsing and bunching cancel. For pulsed light make
    ``over`` a multiple of the period. Var = (over/N2)^2 (N1 + N1^2/N2).
    """
    over = whole("over", over, pairs.width)
    if pairs.channels[0] != pairs.channels[1]:
        raise UserError(f"channels: got {pairs.channels}, expected the autocorrelation of one")
    bins = over // pairs.width
    middle = int(np.argmax(pairs.counts > 0)) + bins
    if middle + bins > len(pairs.counts):
        raise UserError(f"over: got {over} ps, the histogram ends at {pairs.edges[-1]} ps before twice that is over")
    before, after = int(pairs.counts[:middle].sum()), int(pairs.counts[middle : middle + bins].sum())
    if before == 0 or after == 0:
        raise UserError(f"over: got {over} ps, in which no two clicks follow each other; expected a longer one")
    length = bins * pairs.width
    error = length / after * np.sqrt(before + before**2 / after)
    return Estimate(float(pairs.edges[middle] - length * before / after), float(error))
