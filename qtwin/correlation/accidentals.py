"""Accidental coincidences by three ways, with what they share with the gross count: singles, delayed windows, sides.

All three are of all pairs in a window of full width tau_w. With pairs P inside the window, C = P + S_s S_i tau_w/T + e:
given the clicks there are, the unrelated pairs scatter by e alone, Var e = A, mean zero and uncorrelated with
the singles. So what the singles fluctuate is in C and in A alike and cancels in C - A.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from qtwin.core.errors import UserError
from qtwin.core.records import Estimate, TimeTags
from qtwin.correlation.counting import Coincidences, aligned
from qtwin.correlation.histogram import Histogram, histogram, whole


@dataclass(frozen=True)
class Accidentals:
    """Accidentals in one window: their number, its standard error, and how many windows it was counted in.

    error: of the mean over all records, what the singles fluctuate included; windows: infinite if from singles.
    """

    value: float
    error: float
    windows: float

    @property
    def own_variance(self) -> float:
        """Variance that the gross count does not share: A/windows, that of one count where none was found."""
        return 0.0 if np.isinf(self.windows) else max(self.value, 1 / self.windows) / self.windows


def singles_variance(pairs: Coincidences, accidentals: float) -> float:
    """Relative variance of S_s S_i: 1/S_s + 1/S_i + 2 P/(S_s S_i), Poisson clicks of which P come in pairs."""
    true = max(pairs.counts - accidentals, 0.0)
    return 1 / pairs.starts + 1 / pairs.stops + 2 * true / (pairs.starts * pairs.stops)


def _all_pairs(pairs: Coincidences):
    if pairs.rule != "all pairs":
        raise UserError(f"rule: got coincidences of {pairs.rule!r}, accidentals are known for 'all pairs'")


def _counted(pairs: Coincidences, counts: float, windows: float) -> Accidentals:
    """``counts`` in ``windows`` windows; the singles' part of the error is theirs, the rest Poisson."""
    _all_pairs(pairs)
    value = counts / windows
    error = np.sqrt(max(counts, 1)) / windows
    return Accidentals(value, float(np.hypot(error, value * np.sqrt(singles_variance(pairs, value)))), windows)


def from_singles(pairs: Coincidences) -> Accidentals:
    """A = S_s S_i tau_w/T: continuous light whose rates do not change; on a pulse clock S_s S_i/pulses."""
    _all_pairs(pairs)
    value = pairs.starts * pairs.stops * pairs.window / pairs.watched
    return Accidentals(value, float(value * np.sqrt(singles_variance(pairs, value))), np.inf)


def from_delayed(record: Iterable[TimeTags], pairs: Coincidences, delay: int, windows: int = 10) -> Accidentals:
    """Mean of ``windows`` adjoining windows of the width of ``pairs``, the first from ``delay`` ps on.

    They must lie clear of the peak and of dead times and afterpulses; slow changes of the rates are followed. The
    time that both channels watched at that delay is shorter than the record, and the mean is scaled for it.
    """
    delay, windows = whole("delay", delay, 1), whole("windows", windows)
    start, stop = pairs.channels
    width = pairs.window
    if delay + windows * width >= pairs.watched:
        raise UserError(f"windows: got {windows} of {width} ps from {delay} ps on, which end after the record")
    late = histogram(aligned(record, {start: 0, stop: delay}), start, stop, 0, windows * width, width)
    return _counted(pairs, int(late.counts.sum()), windows * (late.watched - windows * width / 2) / pairs.watched)


def from_sides(histogram_of_pairs: Histogram, pairs: Coincidences, guard: int) -> Accidentals:
    """Constant background fitted to the bins farther than ``guard`` ps from zero delay, scaled to the window.

    The maximum-likelihood fit of a level to Poisson counts is their mean; it falls as 1 - |tau|/T where the
    histogram is long. The peak must lie within the guard.
    """
    guard, h = whole("guard", guard), histogram_of_pairs
    side = (h.edges[:-1] >= guard) | (h.edges[1:] <= -guard)
    if not side.any():
        raise UserError(f"guard: got {guard} ps, no bin of the histogram lies farther out (its end: {h.edges[-1]} ps)")
    windows = float(np.sum(h.width * (1 - np.abs(h.centres[side]) / h.watched)) / pairs.window)
    return _counted(pairs, int(h.counts[side].sum()), windows)


def net(pairs: Coincidences, accidentals: Accidentals) -> Estimate:
    """C - A and its error sqrt(C + v), v what A has of its own: A/windows, 0 from singles; C at least 1."""
    _all_pairs(pairs)
    return Estimate(pairs.counts - accidentals.value, float(np.sqrt(max(pairs.counts, 1) + accidentals.own_variance)))
