"""What coincidences and singles say of source and detectors: CAR, efficiencies of the arms, pairs."""

from dataclasses import dataclass

import numpy as np

from qtwin.core.errors import UserError
from qtwin.core.records import Estimate
from qtwin.correlation.accidentals import Accidentals, net
from qtwin.correlation.counting import Coincidences, Ratio, interval, poisson_interval


def car(pairs: Coincidences, accidentals: Accidentals, confidence: float = 0.6827) -> Ratio:
    """CAR = C/A, gross; net is one less.

    Error by propagation of x = C - A and A: Var x = C + v, Var A, Cov(x, A) = x A (1/S_s + 1/S_i) - v (x the pairs, not
    below 0), with v the variance of A that is its own (`accidentals.net`). Interval: of a ratio of Poisson counts
    (`counting.interval`), or of C alone where A is from the singles.
    """
    if pairs.counts + accidentals.value <= 0:
        raise UserError("counts: got neither coincidences nor accidentals, expected at least one to form the CAR")
    a, own = accidentals.value, accidentals.own_variance
    if np.isinf(accidentals.windows):
        low, high = (edge / a for edge in poisson_interval(pairs.counts, confidence))
    else:
        low, high = interval(pairs.counts, a * accidentals.windows, accidentals.windows, confidence)
    if a <= 0:
        return Ratio(np.inf, np.inf, low, high)
    x = net(pairs, accidentals)
    shared = max(x.value, 0.0) * a * (1 / pairs.starts + 1 / pairs.stops) - own
    variance = x.error**2 + (x.value / a) ** 2 * accidentals.error**2 - 2 * x.value / a * shared
    return Ratio(pairs.counts / a, float(np.sqrt(max(variance, 0.0)) / a), float(low), float(high))


NONE = Estimate(0.0, 0.0)


@dataclass(frozen=True)
class Efficiencies:
    """Efficiency of the arm that starts and of the one that stops, and pairs sent into both, each with its error."""

    start: Estimate
    stop: Estimate
    pairs: Estimate


def efficiencies(
    pairs: Coincidences,
    accidentals: Accidentals,
    dark_start: Estimate = NONE,
    dark_stop: Estimate = NONE,
) -> Efficiencies:
    """eta_stop = (C - A)/(S_start - D_start), and the other way round; pairs = S S/(C - A) without dark counts.

    Klyshko, Sov. J. Quantum Electron. 10, 1112 (1980). Dark and background counts D are counts in the same time,
    measured apart. Every net coincidence is a click of either arm: Cov(C - A, S) = C - A, which turns Var eta into eta
    (1 - eta)/S where nothing disturbs. Jitter outside the window and dead time count as loss.
    """
    x = net(pairs, accidentals)
    s, i = pairs.starts - dark_start.value, pairs.stops - dark_stop.value
    for name, light, total, dark in (("start", s, pairs.starts, dark_start), ("stop", i, pairs.stops, dark_stop)):
        if light <= 0:
            raise UserError(f"dark_{name}: got {dark.value:g} counts, accepted is less than the {total} clicks")
    if x.value <= 0:
        raise UserError(f"coincidences: got {pairs.counts}, no more than the accidentals ({accidentals.value:.4g})")
    rel_x = (x.error / x.value) ** 2
    rel_s = (pairs.starts + dark_start.error**2) / s**2
    rel_i = (pairs.stops + dark_stop.error**2) / i**2
    of_start, of_stop, sent = x.value / i, x.value / s, s * i / x.value
    return Efficiencies(
        Estimate(of_start, of_start * float(np.sqrt(max(rel_x + rel_i - 2 / i, 0.0)))),
        Estimate(of_stop, of_stop * float(np.sqrt(max(rel_x + rel_s - 2 / s, 0.0)))),
        Estimate(sent, sent * float(np.sqrt(max(rel_x + rel_s + rel_i + 2 * x.value / (s * i) - 2 / s - 2 / i, 0.0)))),
    )
