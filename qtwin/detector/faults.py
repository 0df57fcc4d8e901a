"""Faults of a set-up that counts single photons: each a switch with a value that turns it off.

What happens to the light (drift, misalignment) is a factor in time; what happens to the tags takes some, repeats some
or shifts them. Tags are int64 ps in order; times in formulas are seconds since the record began.
"""

from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaincc

from qtwin.core.errors import FieldError
from qtwin.core.params import Element, Support, fraction, nonnegative, param, positive, real, static
from qtwin.modes.checks import whole

PS = 10**12  # ps in a second
NODES = 1024  # of the random walk of a clock in one stretch
MOST_TAGS = 2**62
forward = Support("greater than -1 (a clock runs forwards), at most 1", -1.0, 1.0, low_open=True)
PER_CHANNEL = ("clock_offset", "clock_drift", "clock_walk", "lost", "duplicated")
partly = Support("greater than 0, at most 1", 0.0, 1.0, low_open=True)


class Faults(Element):
    """Source 1 + slope t + swing sin(2 pi t/period), overlap exp(-(v t)^2), clock t + offset + drift t + walk(t).

    The overlap is that of two Gaussian modes of one radius w that are v t w apart (Joyce & DeLoach, Appl. Opt. 23, 4187
    (1984)). Lists are per channel, one value is for every channel; ``misalignment`` is per arm. Every default is off.
    Order: source, overlap, (detector,) gate, clock, memory of the tagger, lost tags, duplicated tags.
    """

    source_slope: jax.Array = param("1/s", real, "relative change of the source per second", 0.0)
    source_swing: jax.Array = param("", fraction, "relative amplitude of a sinusoidal change of the source", 0.0)
    source_period: jax.Array = param("s", positive, "period of that change", 1.0)
    misalignment: jax.Array = param(
        "1/s", real, "speed of the beam in radii of its mode, of the signal and of the idler", 0.0, per_layer=True
    )
    gate_open: jax.Array = param("", partly, "part of the time that a gate lets tags through; 1: no gate", 1.0)
    gate_period: jax.Array = param("s", positive, "from gate to gate", 1.0)
    gate_delay: jax.Array = param("s", nonnegative, "when the first gate opens", 0.0)
    clock_offset: jax.Array = param("s", real, "what a channel's clock is ahead at the start", 0.0, per_layer=True)
    clock_drift: jax.Array = param("", forward, "what a channel's clock gains per second", 0.0, per_layer=True)
    clock_walk: jax.Array = param(
        "s",
        nonnegative,
        "standard deviation that a channel's random walk reaches in 1 s",
        0.0,
        per_layer=True,
    )
    transfer: jax.Array = param("s", positive, "time from one transfer of the tagger's memory to the next", 1.0)
    lost: jax.Array = param("", fraction, "part of the tags that is lost", 0.0, per_layer=True)
    duplicated: jax.Array = param("", fraction, "part of the tags that is recorded twice", 0.0, per_layer=True)
    memory: int = static("tags that fit between two transfers, later ones are lost; 0: no limit", default=0)

    def check(self):
        whole("memory", self.memory, 0, MOST_TAGS)

    def brightness(self, t, do: Any = jnp):
        """f(t) of the source, shape of t; ``do``: numpy or jax.numpy."""
        slope, swing = do.asarray(self.source_slope), do.asarray(self.source_swing)
        return 1 + slope * t + swing * do.sin(2 * do.pi * t / do.asarray(self.source_period))

    def overlap(self, t, arm: int, do: Any = jnp):
        """exp(-(v t)^2) of the signal (arm 0) or the idler (1), shape of t."""
        speed = do.broadcast_to(do.asarray(self.misalignment), (2,))[arm]
        return do.exp(-((speed * t) ** 2))

    def kept(self):
        """(1 - lost)(1 + duplicated): tags in the record per tag that the tagger took, per channel."""
        return (1 - self.lost) * (1 + self.duplicated)

    def taken(self, rate):
        """E min(n, K)/transfer = [m P(n <= K - 2) + K P(n >= K)]/transfer, n ~ Poisson(m), m = rate transfer.

        Tags per second that a memory of K = ``memory`` takes of ``rate`` Poisson tags per second; elementwise. P(n < j)
        is the regularised upper incomplete gamma function Q(j, m).
        """
        if self.memory == 0:
            return rate
        mean, size = rate * self.transfer, float(self.memory)
        fewer = gammaincc(size - 1, mean) if self.memory > 1 else jnp.zeros_like(mean)
        return (mean * fewer + size * (1 - gammaincc(size, mean))) / self.transfer

    def brightest(self, duration: float) -> float:
        """Bound of f(t) for t up to ``duration`` s; FieldError where the source may fall below nothing."""
        slope, swing = float(self.source_slope) * duration, float(self.source_swing)
        if 1 + min(slope, 0.0) - swing < 0:
            problem = f"got a source that falls to {1 + min(slope, 0.0) - swing:.3g} of itself, accepted is 0 or more"
            raise FieldError("source_slope, source_swing", problem)
        return 1 + max(slope, 0.0) + swing

    def shining(self, times, brightest: float, rng):
        """Emissions that remain of those of a source that is always at its brightest."""
        if float(self.source_slope) == 0 and float(self.source_swing) == 0:
            return times
        now = self.brightness(np.maximum(times, 0) / PS, np)
        return times[np.flatnonzero(rng.random(len(times)) * brightest < now)]

    def aligned(self, times, arm: int, rng):
        """Mask of the photons of an arm that still meet their mode; None: all."""
        if not np.broadcast_to(np.asarray(self.misalignment), 2)[arm]:
            return None
        return rng.random(len(times)) < self.overlap(times / PS, arm, np)

    def gated(self, times, start: int):
        """Tags that find the gate open; ``start`` ps: of the stretch."""
        if float(self.gate_open) == 1:
            return times
        _, late = _cycles(times, start, self.gate_period, self.gate_delay)
        return times[np.flatnonzero(late % 1 < float(self.gate_open))]

    def told(self, times, start: int, stop: int, channel: int, walk: float, rng):
        """(times as the clock of ``channel`` tells them, what it tells at ``stop``, its random walk there in ps).

        ``walk`` is that at ``start``; between NODES nodes it is a straight line.
        """
        offset, drift, spread = (of_channel(x, channel) for x in (self.clock_offset, self.clock_drift, self.clock_walk))
        if not (offset or drift or spread):
            return times, stop, walk
        moments = np.append(times, stop)
        error = offset * PS + drift * moments
        if spread:
            step = (stop - start) / NODES
            deviation = spread * np.sqrt(step * PS)  # ps: spread sqrt(step/1 s)
            if 8 * deviation > (1 + min(drift, 0.0)) * step:
                given = f"got {spread:.3g} s, steps of {deviation:.3g} ps within {step:.3g} ps"
                raise FieldError("clock_walk", f"{given}: the clock would run backwards, accepted is less")
            nodes = walk + np.concatenate(([0.0], np.cumsum(deviation * rng.standard_normal(NODES))))
            error += np.interp(moments - start, step * np.arange(NODES + 1), nodes)
            walk = float(nodes[-1])
        moments = moments + np.rint(error).astype(np.int64)
        return moments[:-1], int(moments[-1]), walk

    def recorded(self, times, channels, start: int, full, rng):
        """(indices of the tags that enter the record, new ``full``): the memory's last block and the tags in it.

        An index that comes twice is a duplicate; ``start`` ps: a moment from which the tags are not far.
        """
        chosen = np.arange(len(times))
        if self.memory > 0 and len(times) > 0:
            first, late = _cycles(times, start, self.transfer, 0.0)
            block = first + np.floor(late).astype(np.int64)
            begins = np.concatenate(([0], np.flatnonzero(np.diff(block)) + 1))
            rank = chosen - np.repeat(begins, np.diff(begins, append=len(times)))
            if block[0] == full[0]:
                rank[: begins[1] if len(begins) > 1 else None] += full[1]
            chosen, full = np.flatnonzero(rank < self.memory), (int(block[-1]), int(rank[-1]) + 1)
        lost, twice = np.asarray(self.lost), np.asarray(self.duplicated)
        if lost.any() or twice.any():
            many = int(channels.max(initial=0)) + 1
            lost, twice = (np.resize(x, many)[channels[chosen]] for x in (lost, twice))
            chosen = np.repeat(chosen, (rng.random(len(chosen)) >= lost) * (1 + (rng.random(len(chosen)) < twice)))
        return chosen, full


def of_channel(value, channel: int) -> float:
    """A number per channel, or one for all."""
    return float(value if np.ndim(value) == 0 else value[channel])


def _cycles(times, start: int, period, delay):
    """(n, x) with n + x = (times - delay)/period, n whole: exact for any number of periods before ``start`` ps."""
    step = Fraction(float(period)) * PS
    first, phase = divmod(start - Fraction(float(delay)) * PS, step)
    return int(first), (float(phase) + (times - start)) / float(step)
