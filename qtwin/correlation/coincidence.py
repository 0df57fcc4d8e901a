"""Coincidences of two streams of clicks: closed forms and counting."""

from typing import NamedTuple

import jax
import numpy as np

from qtwin.core.errors import UserError
from qtwin.core.params import Element, param, positive
from qtwin.detector.jitter import FWHM, capture


class Coincidence(Element):
    """All pairs of clicks closer than half the window: C = pairs kept + S_s S_i tau_w T (rates S), cw light."""

    window: jax.Array = param("s", positive, "full width of the coincidence window")

    def capture(self, jitter_s, jitter_i, tail_s=0.0, tail_i=0.0):
        """Part of the true pairs in the window: erf(tau_w/(2 sqrt 2 s)) without tails, s^2 the sum of both jitters'.

        jitter: full widths at half maximum, s; tail: mean exponential delays (`qtwin.detector.jitter.capture`).
        """
        return capture(self.window, jitter_s / FWHM, jitter_i / FWHM, tail_s, tail_i)

    def accidentals(self, singles_s, singles_i, time):
        """A = S_s S_i tau_w/T for counts S in T seconds, every combination of clicks counted."""
        return singles_s * singles_i * self.window / time


def car(mu, eta_s, eta_i, dark_s, dark_i):
    """Gross coincidences over accidentals per gate, Poisson pairs, mean counts:

    [mu e_s e_i + (mu e_s + d_s)(mu e_i + d_i)] / [(mu e_s + d_s)(mu e_i + d_i)].
    """
    product = (mu * eta_s + dark_s) * (mu * eta_i + dark_i)
    return (mu * eta_s * eta_i + product) / product


def klyshko(coincidences, accidentals, singles_other, dark_other):
    """eta_i = (C - A)/(S_s - D_s): efficiency of one arm from the singles of the other (Klyshko 1980)."""
    return (coincidences - accidentals) / (singles_other - dark_other)


def count(first, second, window_ps: int) -> np.ndarray:
    """For every click of ``first``, the clicks of ``second`` with |t2 - t1| < window/2 (int64 ps, both sorted).

    All pairs are counted; the interval is half open, [-window/2, window/2).
    """
    low = np.searchsorted(second, first - window_ps // 2, side="left")
    high = np.searchsorted(second, first + (window_ps - window_ps // 2), side="left")
    return high - low


class Bell(NamedTuple):
    """E of the four pairs of settings and the CHSH sum S, with standard errors."""

    correlations: np.ndarray  # [2, 2]
    errors: np.ndarray  # [2, 2]
    s: float
    s_error: float


def chsh(alpha, beta, counts, variances, settings) -> Bell:
    """S = |E(a, b) + E(a, b') + E(a', b) - E(a', b')|, at most 2 without entanglement and 2 sqrt 2 with it.

    E(a, b) = (N(a, b) + N(a+90, b+90) - N(a, b+90) - N(a+90, b))/(their sum): Clauser, Horne, Shimony & Holt,
    Phys. Rev. Lett. 23, 880 (1969), with the four outcomes counted one after the other. alpha, beta (degrees of the
    analysers), counts and their variances: [measurements]; gross counts have the variance C, net ones C + v
    (`qtwin.correlation.accidentals.net`). settings: ((a, a'), (b, b')). UserError for one that was not measured.
    """
    table = {(a % 180, b % 180): (n, v) for a, b, n, v in zip(alpha, beta, counts, variances, strict=True)}
    if len(table) < len(counts):
        raise UserError("settings: the same pair of angles (modulo 180 degrees) is in the table twice")
    correlation, variance = np.empty((2, 2)), np.empty((2, 2))
    signs = np.array([1.0, 1.0, -1.0, -1.0])
    for i, a in enumerate(settings[0]):
        for j, b in enumerate(settings[1]):
            wanted = [((a + p) % 180, (b + q) % 180) for p, q in ((0, 0), (90, 90), (0, 90), (90, 0))]
            for pair in wanted:
                if pair not in table:
                    raise UserError(f"settings: ({a}, {b}) needs analysers at {pair} degrees, which were not measured")
            n, v = np.array([table[pair] for pair in wanted]).T
            if n.sum() <= 0:
                raise UserError(f"settings: ({a}, {b}) has no counts")
            correlation[i, j] = signs @ n / n.sum()
            variance[i, j] = (signs - correlation[i, j]) ** 2 @ v / n.sum() ** 2
    total = correlation.sum() - 2 * correlation[1, 1]
    return Bell(correlation, np.sqrt(variance), abs(float(total)), float(np.sqrt(variance.sum())))
