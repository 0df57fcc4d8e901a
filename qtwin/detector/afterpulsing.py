"""Afterpulses: clicks that carriers trapped in an earlier avalanche set off when they are released.

A click leaves a Poisson number of carriers, ``probability`` on average, released at delays that count from the end of
its dead time; one that is released while the device is dead again is lost; otherwise it is an event like a photon, and
has afterpulses of its own (Straka et al., J. Lightwave Technol. 2020, doi 10.1109/JLT.2020.2994654, arXiv 2001.10036).
"""

from abc import abstractmethod
from functools import partial
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import FieldError
from qtwin.core.params import Element, fraction, is_concrete, nonnegative, param, positive
from qtwin.detector import dead_time as dead
from qtwin.detector.dead_time import recovered

NODES = 64  # of the grid of delays on which means are computed
WAITS = 20  # points at which the law of the wait is integrated
SWEEPS = 4  # of the mean intensity; each leaves a part of the order of the probability
FINE = 4096  # bins of the table from which delays of a smooth law are drawn
LAST = 40.0  # lifetimes after which nothing is left


class AbstractAfterpulsing(Element):
    """A law of delays t >= 0 after the dead time. Its ``tail`` is read by means and by drawn clicks."""

    probability: eqx.AbstractVar[jax.Array]

    @abstractmethod
    def tail(self, delay):
        """Probability that a delay exceeds ``delay`` s: 1 at 0, 0 at the end of `reach`; elementwise."""

    @abstractmethod
    def reach(self) -> tuple:
        """(shortest, longest) delay that matters, s: bounds of a grid of delays."""

    def table(self) -> tuple[np.ndarray, np.ndarray]:
        """Delays, s, and the probability below each, for drawing: uniform within a bin. Float64, [bins + 1]."""
        low, high = (float(end) for end in self.reach())
        delays = np.concatenate([[0.0], np.geomspace(low / 100, high, FINE)])
        below = 1 - np.asarray(_tail(self, delays), np.float64)
        return delays, np.maximum.accumulate(below) / below[-1]


_tail = jax.jit(lambda law, delay: law.tail(delay))


class Exponentials(AbstractAfterpulsing):
    """p(t) = sum_k w_k exp(-t/tau_k)/tau_k over kinds of traps, w_k = ``weights`` over their sum.

    Cova, Lacaita & Ripamonti, IEEE Electron Device Lett. 12, 685 (1991).
    """

    probability: jax.Array = param("", fraction, "mean afterpulses of a click")
    weights: jax.Array = param("", nonnegative, "share of each kind of trap, of any scale", per_layer=True)
    lifetimes: jax.Array = param("s", positive, "mean delay of each kind of trap", per_layer=True)

    def check(self):
        if self.weights.shape != self.lifetimes.shape:
            given = f"{self.weights.size} weights and {self.lifetimes.size} lifetimes"
            raise FieldError("weights", f"got {given}, accepted is one weight for every lifetime")
        if is_concrete(self.weights) and not float(jnp.sum(self.weights)) > 0:
            raise FieldError("weights", "are all 0, accepted is at least one greater than 0")

    def tail(self, delay):
        delay = jnp.asarray(delay)
        kinds = (*(1,) * delay.ndim, -1)
        left = jnp.exp(-delay[..., None] / self.lifetimes.reshape(kinds))
        return jnp.sum(self.weights.reshape(kinds) * left, axis=-1) / jnp.sum(self.weights)

    def reach(self):
        return jnp.min(self.lifetimes) / 100, LAST * jnp.max(self.lifetimes)


class PowerLaw(AbstractAfterpulsing):
    """p(t) proportional to (t_0 + t)^-alpha for 0 <= t <= ``end``, t_0 = ``start``: traps of a broad band of lifetimes.

    Where a law was fitted to the time since the click, ``start`` is the dead time (Itzler, Jiang & Entwistle, J. Mod.
    Opt. 59, 1472 (2012), for InGaAs/InP).
    """

    probability: jax.Array = param("", fraction, "mean afterpulses of a click")
    exponent: jax.Array = param("", nonnegative, "alpha")
    start: jax.Array = param("s", positive, "t_0, below which the law is flat")
    end: jax.Array = param("s", positive, "longest delay")

    def _below(self, delay):
        """int_0^t (1 + t/t_0)^-alpha dt/t_0."""
        power, log = 1 - self.exponent, jnp.log1p(delay / self.start)
        small = jnp.abs(power) < 1e-5
        safe = jnp.where(small, 1.0, power)
        return jnp.where(small, log * (1 + power * log / 2), jnp.expm1(safe * log) / safe)

    def tail(self, delay):
        delay = jnp.minimum(jnp.asarray(delay), self.end)
        return 1 - self._below(delay) / self._below(self.end)

    def reach(self):
        return jnp.minimum(self.start, self.end) / 100, self.end


def _shares(given) -> jax.Array:
    """Shares of sum 1, [bins], of a text file or of the numbers themselves."""
    accepted = "accepted is a text file with one number a line, 0 or greater, not all 0"
    if isinstance(given, (jax.Array, np.ndarray)):
        given, words = "the array", given
    else:
        try:
            words = Path(given).read_text(encoding="utf-8-sig").split()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "no text"
            raise FieldError("file", f"{given!r} cannot be read ({reason}); {accepted}") from None
    if not is_concrete(words):
        return words
    try:
        share = np.array(words, float)
    except ValueError:
        raise FieldError("file", f"{given!r} holds something that is no number; {accepted}") from None
    if share.ndim != 1 or not share.size or not np.isfinite(share).all() or (share < 0).any() or not share.sum() > 0:
        raise FieldError("file", f"{given!r} holds numbers that are no shares; {accepted}")
    return jnp.asarray(share / share.sum(), jnp.result_type(float))


def _shares_of(doc: str):
    """A field that keeps the shares of the file it is given."""
    return eqx.field(converter=_shares, metadata={"doc": doc})


class Tabulated(AbstractAfterpulsing):
    """A measured law: a text file with one number a line, the share of each bin of ``step`` s after the dead time.

    The shares are divided by their sum and spread evenly over their bins. ``file`` is read once, at construction; the
    field keeps the shares. Raises FieldError of ``file``.
    """

    file: jax.Array = _shares_of("text file of shares, one a line")
    probability: jax.Array = param("", fraction, "mean afterpulses of a click")
    step: jax.Array = param("s", positive, "width of a bin")

    def _below(self):
        """Probability below every bound, [bins + 1]."""
        return jnp.concatenate([jnp.zeros_like(self.file[:1]), jnp.minimum(jnp.cumsum(self.file), 1.0)])

    def tail(self, delay):
        below, bins = self._below(), self.file.size
        at = jnp.minimum(jnp.asarray(delay) / self.step, bins)
        j = jnp.clip(at.astype(jnp.int32), 0, bins - 1)
        return 1 - below[j] - (at - j.astype(at.dtype)) * (below[j + 1] - below[j])

    def reach(self):
        return self.step / 4, self.step * self.file.size

    def table(self):
        below = np.concatenate([[0.0], np.cumsum(np.asarray(self.file, np.float64))])
        return float(self.step) * np.arange(below.size), below / below[-1]


def _mean_wait(rate, dead_time, recovery_time, twilight, law: AbstractAfterpulsing, probability):
    """n E[W], W from the end of the dead time to the next click, for one rate n; without afterpulses that of `waiting`.

    G(t), the carriers released later than t after a reopening, of this click and of all before it, solves
    G(t) = p tail(t) + (1 - q) G(t + tau) + q int G(t + tau + s) dP(s): the older ones are those of the click before,
    one interval later (Straka et al., the mean over histories; q = exp(-n a), no twilight click). P(s) = 1 - S(s) with
    S = exp(-n int r dt + int r dG): carriers change the wait that comes before their fate is known, so G is found by
    sweeps, each one triangular linear system on a grid of delays.
    """
    low, high = law.reach()
    low, high = jnp.minimum(low, recovery_time / 20 + low), jnp.maximum(high, 30 * recovery_time)
    step = jnp.log(high / low) / (NODES - 2)
    steps = jnp.arange(NODES - 1.0, dtype=step.dtype)
    t = jnp.concatenate([jnp.zeros_like(steps[:1]), low * jnp.exp(step * steps)])
    fresh = probability * law.tail(t)
    quiet = jnp.exp(-rate * twilight)
    light = rate * (t - recovery_time * recovered(t, recovery_time))  # n int_0^t r
    share = recovered((t[1:] + t[:-1]) / 2, recovery_time)
    rows = jnp.arange(NODES)[:, None]
    points, parts = np.polynomial.legendre.leggauss(WAITS)
    passed, weights = jnp.asarray(-np.log((1 + points) / 2), t.dtype), jnp.asarray(parts / 2, t.dtype)

    def reading(at, weight):
        """Matrix that reads a function on the grid at ``at`` [rows, columns]: linear, 0 beyond the last node."""
        weight = jnp.where(at < t[-1], weight, 0.0)
        at = jnp.minimum(at, t[-1])
        j = 1 + jnp.floor(jnp.log(jnp.maximum(at, low / 2) / low) / step).astype(jnp.int32)
        j = jnp.clip(j, 0, NODES - 2)
        u = (at - t[j]) / (t[j + 1] - t[j])
        matrix = jnp.zeros((NODES, NODES), t.dtype)
        return matrix.at[rows, j].add(weight * (1 - u)).at[rows, j + 1].add(weight * u)

    def survival(carriers):
        acted = jnp.cumsum(share * (carriers[:-1] - carriers[1:]))
        return light + jnp.concatenate([jnp.zeros_like(acted[:1]), acted])

    dead_again = reading((t + dead_time)[:, None], 1 - quiet)

    @jax.checkpoint
    def sweep(carriers, _):
        hazard = survival(carriers)
        j = jnp.searchsorted(hazard, passed, side="right", method="compare_all")
        at = jnp.clip(j - 1, 0, NODES - 2)
        rise = jnp.where(j < NODES, hazard[at + 1] - hazard[at], 1.0)
        waits = t[at] + (passed - hazard[at]) / rise * (t[at + 1] - t[at])
        waits = jnp.where(j < NODES, waits, jnp.inf)
        older = dead_again + reading((t + dead_time)[:, None] + waits[None, :], quiet * weights[None, :])
        return jax.scipy.linalg.solve_triangular(jnp.eye(NODES, dtype=t.dtype) - older, fresh), None

    carriers, _ = jax.lax.scan(sweep, fresh, None, length=SWEEPS)
    hazard = survival(carriers)
    fall = jnp.diff(hazard)
    safe = jnp.where(fall > 1e-9, fall, 1.0)
    mean = jnp.where(fall > 1e-9, -jnp.expm1(-safe) / safe, 1 - fall / 2)
    return rate * jnp.sum(jnp.diff(t) * jnp.exp(-hazard[:-1]) * mean) + jnp.exp(-hazard[-1])


@partial(jnp.vectorize, excluded=(4,))
def _live(rate, dead_time, recovery_time, twilight, law, probability):
    wait = _mean_wait(rate, dead_time, recovery_time, twilight, law, probability)
    return 1 / (jnp.exp(-rate * twilight) * wait + rate * dead_time)


def live_factor(rate, dead_time, recovery_time, twilight, law: AbstractAfterpulsing):
    """Mean clicks per event at ``rate`` events per second: above 1 where afterpulses outdo the dead time; elementwise.

    1/(n tau + exp(-n a) n E[W]), W with the mean intensity of afterpulses in place of their history: right to first
    order in the probability, and to the second but for correlations.
    """
    return _live(rate, dead_time, recovery_time, twilight, law, law.probability)


def count_variance(rate, dead_time, recovery_time, twilight, law: AbstractAfterpulsing):
    """Variance of the clicks per second of a long time with afterpulses: first order in the probability p.

    V_0 (1 + p B/n) + 2 p m^2 B'/n, with m and V_0 the mean and variance per second without afterpulses and p m B(n)/n
    what they add to m: under exp(k clicks) dead-time intervals keep their law at the rate n + psi(k), psi their
    cumulant function, and afterpulses add p psi B(n + psi)/n to psi, whose second derivative at k = 0 is the variance.
    Exact to that order for a sharp dead time; the variance over the mean tends to (1 - p)^-2 for tau -> 0. Elementwise.
    """

    @jnp.vectorize
    def variance(rate, dead_time, recovery_time, twilight):
        def added(n):
            """(B(n), B(n)/n)."""
            off = jnp.zeros_like(n)
            gain = jax.jvp(
                lambda p: _live(n, dead_time, recovery_time, twilight, law, p), (off,), (jnp.ones_like(off),)
            )[1]
            part = gain / dead.live_factor(n, dead_time, recovery_time, twilight)
            return n * part, part

        (_, part), (slope, _) = jax.jvp(added, (rate,), (jnp.ones_like(rate),))
        plain = dead.count_variance(rate, dead_time, recovery_time, twilight)
        live = dead.live_factor(rate, dead_time, recovery_time, twilight)
        return plain * (1 + law.probability * part) + 2 * law.probability * rate * live**2 * slope

    return variance(rate, dead_time, recovery_time, twilight)
