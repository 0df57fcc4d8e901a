"""Single-photon detectors that stamp the time of every click."""

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.params import Element, efficiency, nonnegative, param

FWHM = 2.354820045  # of a normal law, in units of its std


def live_fraction(rate, dead_time):
    """1/(1 + n tau): part of the time a non-paralysable detector is alive at true event rate n. Elementwise."""
    return 1 / (1 + rate * dead_time)


def paralysable_rate(rate, dead_time):
    """m = n exp(-n tau): clicks per second of a detector whose dead time starts anew with every event."""
    return rate * jnp.exp(-rate * dead_time)


class SinglePhoton(Element):
    """m = n/(1 + n tau) clicks per second for n = eta phi + D events per second; normal jitter.

    Non-paralysable dead time (Knoll, Radiation Detection and Measurement, 4th ed., ch. 4.VII). ``jitter`` is
    the full width at half maximum of one click's delay.
    """

    efficiency: jax.Array = param("", efficiency, "detection efficiency at the signal wavelength")
    dark_rate: jax.Array = param("Hz", nonnegative, "dark counts per second of one element")
    dead_time: jax.Array = param("s", nonnegative, "dead time after a click")
    jitter: jax.Array = param("s", nonnegative, "timing jitter, full width at half maximum")

    def events(self, photons, time):
        """Mean events (light and dark) in ``time`` s before dead time; elementwise."""
        return self.efficiency * photons + self.dark_rate * time

    def live(self, photons, time):
        """Live fraction at that light level; elementwise."""
        return live_fraction(self.events(photons, time) / time, self.dead_time)


def alive(ticks: np.ndarray, element: np.ndarray, dead: int) -> np.ndarray:
    """Mask of events that click: ``ticks`` int64 ps sorted within each ``element`` (sorted), non-paralysable.

    A click at t blinds its element for events in [t, t + dead) ps. Only events closer than that to their
    predecessor can be lost, so only those are followed one by one.
    """
    clicks = np.ones(len(ticks), bool)
    close = np.flatnonzero((np.diff(ticks) < dead) & (np.diff(element) == 0)) + 1
    last, before = 0, -2
    for i in close.tolist():
        if i != before + 1:
            last = ticks[i - 1]  # the predecessor stands clear of its own, so it clicked
        if ticks[i] - last < dead:
            clicks[i] = False
        else:
            last = ticks[i]
        before = i
    return clicks
