"""Second-order correlation of light: pulsed, heralded, and its excess over a long window.

For continuous light g2(tau) is `Histogram.g2`, the histogram over the level of unrelated streams.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from qtwin.core.errors import UserError
from qtwin.core.records import Estimate, TimeTags
from qtwin.correlation.counting import Ratio, around, coincidences, poisson_interval, ratio_of_counts
from qtwin.correlation.delay import cut
from qtwin.correlation.histogram import Histogram, whole


def peak_areas(pairs: Histogram, period: float, delay: float, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Numbers m and areas of all whole peaks of a pulsed histogram: |tau - delay - m period| < width/2 (ps)."""
    if not pairs.width * 4 <= width <= period:
        raise UserError(
            f"width: got {width:g} ps, accepted is four bins ({4 * pairs.width}) to a period ({period:g} ps)"
        )
    place = (pairs.centres - delay) / period
    number = np.rint(place).astype(np.int64)
    first = int(np.ceil((pairs.edges[0] - delay + period / 2) / period))
    last = int(np.floor((pairs.edges[-1] - delay - period / 2) / period))
    if last - first < 2:
        raise UserError(f"reach: got {pairs.edges[-1]} ps, the histogram holds no three peaks of period {period:g} ps")
    inside = (np.abs(place - number) * period < width / 2) & (number >= first) & (number <= last)
    areas = np.bincount(number[inside] - first, weights=pairs.counts[inside], minlength=last - first + 1)
    return np.arange(first, last + 1), areas.astype(np.int64)


@dataclass(frozen=True)
class PulsedG2:
    """g2(0) of pulsed light, with the ``areas`` (pairs) of the peaks ``numbers`` pulses apart."""

    zero: Ratio
    numbers: np.ndarray
    areas: np.ndarray


def pulsed_g2(
    pairs: Histogram, period: float, delay: float = 0.0, width: float | None = None, sides: int | None = None
) -> PulsedG2:
    """g2(0) = area of the centre peak/mean area of the side peaks, a ratio of Poisson counts.

    period, delay (of the centre peak), width (what is counted of a peak; None: the whole period): ps; the bins must be
    fine against it. sides: peaks on either side (None: all that are whole).
    """
    numbers, areas = peak_areas(pairs, period, delay, period if width is None else width)
    if numbers[0] > 0 or numbers[-1] < 0:
        raise UserError(f"delay: got {delay:g} ps, the centre peak there is not inside the histogram")
    if sides is not None:
        near = np.abs(numbers) <= whole("sides", sides)
        numbers, areas = numbers[near], areas[near]
    centre = int(areas[numbers == 0][0])
    return PulsedG2(ratio_of_counts(centre, int(areas.sum()) - centre, len(areas) - 1), numbers, areas)


def pulse_phase(pairs: Histogram, period: float) -> Estimate:
    """Delay (ps) of the peaks of a pulsed histogram modulo ``period``, within half a period of zero.

    The direction of the mean phasor of all N delays: Var = (1 - r2)/(2 r1^2 N) period^2/(4 pi^2), r1 and r2 the
    lengths of the mean phasors of one and two turns (Fisher, Statistical Analysis of Circular Data, 1993, ch. 4).
    """
    total = pairs.counts.sum()
    if not total:
        raise UserError("pairs: got an empty histogram, expected pulses")
    first, second = (np.sum(pairs.counts * np.exp(2j * np.pi * m * pairs.centres / period)) / total for m in (1, 2))
    r1, phase = abs(first), np.angle(first)
    r2 = (second * np.exp(-2j * phase)).real
    error = np.sqrt(max(1 - r2, 0.0) / (2 * total)) / r1
    return Estimate(float(phase / (2 * np.pi) * period), float(error / (2 * np.pi) * period))


def pulse_delay(pairs: Histogram, period: float) -> Estimate:
    """Delay (ps) of the centre peak of a pulsed histogram: the peak whose area differs most from the others.

    It is the missing one of a single-photon emitter, the highest of pairs. UserError where no peak differs by five
    standard deviations of the others.
    """
    offset, error = pulse_phase(pairs, period)
    numbers, areas = peak_areas(pairs, period, offset, period)
    usual = np.median(areas)
    odd = int(np.argmax(np.abs(areas - usual)))
    scatter = np.sqrt(max(np.var(np.delete(areas, odd)), usual, 1.0))
    if abs(areas[odd] - usual) < 5 * scatter:
        raise UserError(f"delay: no peak of the pulse train differs from the others ({usual:.0f} pairs) by 5 sigma")
    return Estimate(float(offset + numbers[odd] * period), error)


def heralded_g2(
    record: Iterable[TimeTags], herald: int, arms: Sequence[int], window: int, rule: str = "first stop"
) -> Ratio:
    """g2 = N_h N_h12/(N_h1 N_h2) of the light that ``herald`` announces, behind a beam splitter; zero delays.

    Grangier, Roger & Aspect, Europhys. Lett. 1, 173 (1986). ``first stop``: an arm clicks or not in the window of a
    herald; ``all pairs``: its clicks are counted. The error is from the scatter of the four sums over independent
    groups of heralds, correlations between them included; the interval is that of N_h12 alone, for few of them.
    """
    if len(arms) != 2:
        raise UserError(f"arms: got {list(arms)}, expected the two channels behind the beam splitter")
    sums, squares = np.zeros(4, np.int64), np.zeros((4, 4), np.int64)  # of h, n1, n2, n12
    for rows in around(record, herald, arms, window, rule):
        sums, squares = sums + rows.sum(axis=0), squares + rows.T @ rows
    heralds, one, two, both = sums.tolist()
    if not one * two:
        raise UserError(f"arms: got {one} and {two} heralded clicks, expected some in either arm")
    unit = heralds / (one * two)
    slope = np.array([1 / heralds, -1 / one, -1 / two, 1 / max(both, 1)])
    error = both * np.sqrt(slope @ squares @ slope) if both else 1.0
    low, high = poisson_interval(both)
    return Ratio(both * unit, float(error * unit), low * unit, high * unit)


def bunching(record: Iterable[TimeTags], start: int, stop: int, window: int, step: int) -> Estimate:
    """Pairs in a full window of ``window`` ps over those of unrelated Poisson streams: g2 averaged over the window.

    Above 1 for light that blinks or bunches more slowly than the window. Emitters that switch scatter more than
    Poisson counts: the error is a jackknife over pieces of ``step`` ps, five or more, which must be longer than what
    the light remembers.
    """
    counts = np.array([_counts(piece, start, stop, window) for piece in cut(record, step)], float)
    if len(counts) < 5:
        raise UserError(f"step: got {step} ps, which makes {len(counts)} pieces of the record, expected five or more")
    total = counts.sum(axis=0)
    if not total[1:3].all():
        raise UserError(f"channel: got {start} and {stop}, one of which has no tag in the record")

    def ratio(c):
        return c[..., 0] * c[..., 3] / (c[..., 1] * c[..., 2] * window * (1 - window / (4 * step)))

    without = ratio(total - counts)
    n = len(counts)
    return Estimate(float(ratio(total)), float(np.sqrt((n - 1) / n * np.sum((without - without.mean()) ** 2))))


def _counts(piece: list[TimeTags], start: int, stop: int, window: int) -> tuple[int, int, int, int]:
    """Pairs, starts, stops, ps watched of a piece that may lack a channel."""
    starts, stops = (sum(int(np.count_nonzero(tags.channels == c)) for tags in piece) for c in (start, stop))
    watched = sum(tags.stop - tags.start for tags in piece)
    counts = coincidences(piece, start, stop, window).counts if starts and stops else 0
    return counts, starts, stops, watched
