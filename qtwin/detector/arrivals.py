"""When light is emitted: laws in continuous time, read as rates and correlations or drawn as times in order.

An emission is a pair, or a photon where the light has one arm only. Drawing goes stretch by stretch; what a stretch
must know of the one before is carried as ``state``.
"""

from abc import abstractmethod
from fractions import Fraction
from math import ceil, log1p
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numba import njit

from qtwin.core.errors import FieldError
from qtwin.core.params import Element, fraction, is_concrete, nonnegative, param, positive
from qtwin.detector.jitter import FWHM

PS = 10**12  # ps in a second
BRIGHTEST = 16.0  # thermal light is cut at this many times its mean: exp(-16) of the light is lost
BLOCK = 65536  # photons that one call of the thermal loop gathers


class AbstractLight(Element):
    """A law of emission. ``emit`` draws what the other methods expect."""

    @abstractmethod
    def rate(self):
        """Emissions per second."""

    @abstractmethod
    def g2(self, delay):
        """Emissions found ``delay`` s (0 or greater) after an emission, over those found long after.

        Of pulsed light: those of all the pulse that is nearest to this delay.
        """

    @abstractmethod
    def windows(self, width):
        """(near, far): integral of g2 over a coincidence window of full ``width`` s about delay 0, and far from it.

        Of pulsed light: a window that holds one pulse and no other; near/far is g2(0).
        """

    @abstractmethod
    def peak(self) -> float:
        """Greatest rate over the mean rate, for the memory that a stretch needs."""

    @abstractmethod
    def begin(self, rng) -> Any:
        """State of the light before it is drawn."""

    @abstractmethod
    def emit(self, start: int, stop: int, kept: float, rng, state) -> tuple[np.ndarray, Any]:
        """Emissions of [start, stop) ps, each kept with probability ``kept``: int64 ps in order, and the new state.

        ``start`` is the ``stop`` of the call before. No emission is earlier than it; a pulse that begins before
        ``stop`` may emit after it.
        """


class Continuous(AbstractLight):
    """g2 = 1: a Poisson process of pairs or photons, such as a cw pump far below one pair per mode gives.

    Mandel & Wolf, Optical Coherence and Quantum Optics (1995), section 14.8.
    """

    emissions: jax.Array = param("Hz", nonnegative, "emissions per second")

    def rate(self):
        return self.emissions

    def g2(self, delay):
        return jnp.ones_like(delay * self.emissions)

    def windows(self, width):
        return width, width

    def peak(self):
        return 1.0

    def begin(self, rng):
        return None

    def emit(self, start, stop, kept, rng, state):
        return poisson_times(float(self.emissions) * kept / PS, start, stop, rng), None


class Pulsed(AbstractLight):
    """Var n = mu (1 + mu P), g2(0) = 1 + P: mu emissions per pulse in 1/P equal thermal modes; P = 0: Poisson.

    Negative binomial numbers (Mandel & Wolf 1995, section 13.3). Pulse k is centred on (k + 1/2) period and normal in
    time.
    """

    period: jax.Array = param("s", positive, "from pulse to pulse")
    mean: jax.Array = param("", nonnegative, "mean emissions per pulse")
    purity: jax.Array = param("", fraction, "one over the number of thermal modes of a pulse; 0: Poisson", 0.0)
    width: jax.Array = param("s", nonnegative, "duration of a pulse, full width at half maximum", 0.0)

    def check(self):
        if is_concrete(self.width) and is_concrete(self.period) and not self.width <= self.period / 6:
            raise FieldError("width", f"got {float(self.width):.4g} s, accepted is a sixth of the period or less")

    def rate(self):
        return self.mean / self.period

    def g2(self, delay):
        return 1 + jnp.where(delay < self.period / 2, self.purity, 0.0)

    def windows(self, width):
        return self.period * (1 + self.purity), self.period

    def generating(self, x):
        """G(x) = (1 + mu x P)^(-1/P), exp(-mu x) at P = 0: no emission of a pulse is seen, each with probability x."""
        thermal = self.purity > 1e-9
        safe = jnp.where(thermal, self.purity, 1.0)
        return jnp.exp(-jnp.where(thermal, jnp.log1p(self.mean * x * safe) / safe, self.mean * x))

    def peak(self):
        return 1.0

    def begin(self, rng):
        return None

    def emit(self, start, stop, kept, rng, state):
        """Clusters are Poisson over the pulses and their sizes logarithmic, which makes the number of each pulse
        negative binomial (Quenouille, Biometrics 5, 162 (1949)): pulses without light cost nothing."""
        mu, purity = float(self.mean) * kept, float(self.purity)
        clusters = log1p(mu * purity) / purity if purity > 0 else mu
        count, at = pulses(self.period, start, stop)
        pulse = poisson_times(clusters, 0, count, rng)
        if mu * purity > 0:
            pulse = np.repeat(pulse, rng.logseries(mu * purity / (1 + mu * purity), len(pulse)))
        half = float(self.period) * PS / 2
        late = rng.standard_normal(len(pulse)) * (float(self.width) * PS / FWHM) if float(self.width) > 0 else 0.0
        times = at(pulse, np.clip(half + late, 0, 2 * half))
        times.sort(kind="stable")
        return times, None


class Thermal(AbstractLight):
    """g2(t) = 1 + exp(-2 |t|/tc): one mode of chaotic light with a Lorentzian line.

    Mandel & Wolf 1995, section 14.7. Given the field, photons are Poisson with a rate of |a|^2 times the mean; a is the
    complex Ornstein-Uhlenbeck process <a*(0) a(t)> = exp(-|t|/tc).
    """

    emissions: jax.Array = param("Hz", nonnegative, "emissions per second")
    coherence_time: jax.Array = param("s", positive, "integral of |g1|^2 over all delays")

    def rate(self):
        return self.emissions

    def g2(self, delay):
        return 1 + jnp.exp(-2 * delay / self.coherence_time)

    def windows(self, width):
        return width - self.coherence_time * jnp.expm1(-width / self.coherence_time), width

    def peak(self):
        return BRIGHTEST

    def begin(self, rng):
        return np.array([0.0, *rng.standard_normal(2) / np.sqrt(2)])

    def emit(self, start, stop, kept, rng, state):
        """Candidates at BRIGHTEST times the mean rate, kept with probability |a|^2/BRIGHTEST (Lewis & Shedler, Naval
        Res. Logist. 26, 403 (1979)); the field goes from one to the next by its exact law, so there is no grid."""
        rate = float(self.emissions) * kept * BRIGHTEST / PS
        span, walk, parts = float(stop - start), np.array([0.0, *state]), []
        while rate > 0:
            block = np.empty(BLOCK)
            count = _thermal(rng, rate, float(self.coherence_time) * PS, span, walk, block)
            parts.append(start + block[:count].astype(np.int64))
            if count < BLOCK:
                break
        return np.concatenate([np.empty(0, np.int64), *parts]), np.array([walk[1] - span, *walk[2:]])


@njit(nogil=True)
def _thermal(rng, rate, tc, span, walk, block):
    """Fill ``block`` with photons before ``span``. walk: time of the last candidate, time of the field, the field."""
    t, last, re, im = walk
    count = 0
    while count < len(block):
        t += rng.standard_exponential() / rate
        if t >= span:
            break
        held = np.exp(-(t - last) / tc)
        fresh = np.sqrt(-np.expm1(-2 * (t - last) / tc) / 2)
        re = held * re + fresh * rng.standard_normal()
        im = held * im + fresh * rng.standard_normal()
        last = t
        if re * re + im * im > BRIGHTEST * rng.random():
            block[count] = t
            count += 1
    walk[0], walk[1], walk[2], walk[3] = t, last, re, im
    return count


class Emitter(AbstractLight):
    """g2(kT) = 1 + r exp(-k T/t_b), g2(0) = g (1 + r), r = t_off/t_on: a pulsed emitter of single photons that blinks.

    While it is on, a pulse gives two photons with probability P2 = g n^2/2 and one with n - 2 P2, so that
    <n(n-1)>/<n>^2 = g; each comes after an exponential lifetime. Times on and off are exponential, 1/t_b = 1/t_on +
    1/t_off (two-state model of blinking: Santori et al., Phys. Rev. B 69, 205324 (2004)).
    """

    period: jax.Array = param("s", positive, "from pulse to pulse")
    mean: jax.Array = param("", fraction, "mean photons of a pulse while the emitter is on")
    multiphoton: jax.Array = param("", nonnegative, "<n(n-1)>/<n>^2 of a pulse while the emitter is on", 0.0)
    lifetime: jax.Array = param("s", nonnegative, "mean time from pulse to photon", 0.0)
    on_time: jax.Array = param("s", positive, "mean time that the emitter stays on", 1.0)
    off_time: jax.Array = param("s", nonnegative, "mean time that it stays off; 0: it does not blink", 0.0)

    def check(self):
        n, g = self.mean, self.multiphoton
        if is_concrete(n) and is_concrete(g) and not (g * n <= 1 and n - g * n**2 / 2 <= 1):
            given = f"got {float(g):.4g} with a mean of {float(n):.4g}"
            raise FieldError("multiphoton", f"{given}, accepted is one over the mean or less, and n - g n^2/2 <= 1")

    def on(self):
        """Part of the time that the emitter is on."""
        return self.on_time / (self.on_time + self.off_time)

    def rate(self):
        return self.mean * self.on() / self.period

    def g2(self, delay):
        order = jnp.round(delay / self.period)
        off = jnp.where(self.off_time > 0, self.off_time, 1.0)
        held = jnp.where(self.off_time > 0, jnp.exp(-order * self.period * (1 / self.on_time + 1 / off)), 0.0)
        ratio = self.off_time / self.on_time
        return jnp.where(order == 0, self.multiphoton * (1 + ratio), 1 + ratio * held)

    def windows(self, width):
        return self.period * self.g2(0.0), self.period

    def generating(self, x):
        """G(x) = 1 - p_on [n x - P2 x^2]: no photon of a pulse is seen, each with probability x."""
        return 1 - self.on() * (self.mean * x - self.multiphoton * (self.mean * x) ** 2 / 2)

    def peak(self):
        return float(1 / self.on())

    def begin(self, rng):
        return 0.0, bool(rng.random() < float(self.on()))

    def emit(self, start, stop, kept, rng, state):
        """A pulse with a point of a Poisson process of rate -ln(1 - p) in it has light with probability p."""
        mean = float(self.mean) * kept
        two = float(self.multiphoton) * mean**2 / 2
        some = mean - two
        count, at = pulses(self.period, start, stop)
        pulse = poisson_times(-log1p(-min(some, 1 - 1e-15)), 0, count, rng)
        pulse = pulse[np.flatnonzero(np.diff(pulse, prepend=-1))]
        pulse, state = self._shining(pulse, float(stop - start), at(pulse, 0.0) - start, rng, state)
        pulse = np.repeat(pulse, 1 + (rng.random(len(pulse)) * some < two))
        late = float(self.period) * PS / 2 + rng.standard_exponential(len(pulse)) * (float(self.lifetime) * PS)
        times = at(pulse, late)
        times.sort(kind="stable")
        return times, state

    def _shining(self, pulse, span, times, rng, state):
        """Pulses at which the emitter is on: from one to the next it stays as it was with probability exp(-dt/t_b),
        otherwise it is on with probability t_on/(t_on + t_off): exact for two states."""
        if float(self.off_time) == 0 or len(pulse) == 0:
            return pulse, state if len(pulse) else (state[0] - span, state[1])
        rates = 1 / float(self.on_time) + 1 / float(self.off_time)
        apart = np.diff(times, prepend=state[0]) * (rates / PS)
        drawn = rng.random((2, len(pulse)))
        renewed = drawn[0] < -np.expm1(-apart)
        fresh = np.concatenate(([state[1]], drawn[1] < float(self.on())))
        on = fresh[np.maximum.accumulate(np.where(renewed, np.arange(1, len(pulse) + 1), 0))]
        return pulse[on], (times[-1] - span, bool(on[-1]))


def poisson_times(rate: float, start: int, stop: int, rng) -> np.ndarray:
    """Poisson process of ``rate`` per unit in [start, stop), rounded down: int64 in order.

    A Poisson number of ordered uniforms, which are exponential gaps over their sum (Devroye, Non-Uniform Random Variate
    Generation (1986), ch. V.2). Disjoint intervals are independent, so no rounding is carried from one to the next.
    """
    count = rng.poisson(rate * (stop - start))
    times = rng.standard_exponential(count + 1)
    np.cumsum(times, out=times)
    times *= (stop - start) / times[-1]
    return start + times[:-1].astype(np.int64)


def pulses(period, start: int, stop: int):
    """Number of pulses k with start <= k period < stop (ps), and a function (j, late) -> int64 ps of the j-th of them.

    The period is taken as the exact ratio that its float is: pulses keep their beat over any number of periods.
    """
    step = Fraction(float(period)) * PS
    first, last = ceil(start / step), ceil(stop / step)
    offset, beat = float(first * step - start), float(step)
    return last - first, lambda j, late: start + np.rint(offset + j * beat + late).astype(np.int64)
