"""Coincidences of two streams of clicks: closed forms and counting."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf

from qtwin.core.params import Element, param, positive
from qtwin.detector.single_photon import FWHM


class Coincidence(Element):
    """All pairs of clicks closer than half the window: C = pairs kept + S_s S_i tau_w T (rates S), cw light."""

    window: jax.Array = param("s", positive, "full width of the coincidence window")

    def capture(self, jitter_s, jitter_i):
        """Part of the true pairs inside the window: erf(tau_w/(2 sqrt 2 s)), s^2 the sum of both jitters'."""
        spread = jnp.sqrt(jitter_s**2 + jitter_i**2) / FWHM
        safe = jnp.where(spread > 0, spread, 1.0)
        return jnp.where(spread > 0, erf(self.window / (2 * jnp.sqrt(2.0) * safe)), 1.0)

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
