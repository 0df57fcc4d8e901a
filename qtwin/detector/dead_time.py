"""What a click does to the clicks after it: dead time, gradual recovery, twilight, gates. Means and variances.

Laws of a detector under steady light of n events per second (Poisson). Clicks without afterpulses are a renewal
process: of intervals T with mean E and variance s^2, a long time t holds t/E clicks with variance t s^2/E^3
(Cox, Renewal Theory, 1962, section 4.5).
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

POINTS = 40  # of the quadrature over the time that a detector waits for its next click


def live_fraction(rate, dead_time):
    """1/(1 + n tau): part of the time a non-paralysable detector is alive at true event rate n. Elementwise."""
    return 1 / (1 + rate * dead_time)


def paralysable_rate(rate, dead_time):
    """m = n exp(-n tau): clicks per second of a detector whose dead time starts anew with every event."""
    return rate * jnp.exp(-rate * dead_time)


def paralysable_variance(rate, dead_time):
    """m (1 - 2 m tau): variance of the clicks of a paralysable detector per second of a long time. Elementwise.

    m of `paralysable_rate`: clicks correlate as n exp(-n tau) (step beyond tau) - m does.
    """
    clicks = paralysable_rate(rate, dead_time)
    return clicks * (1 - 2 * clicks * dead_time)


def recovered(time, recovery_time):
    """r(t) = 1 - exp(-t/tau_r): efficiency at ``time`` s after the dead time, over the full one; 1 for tau_r = 0.

    Krause & Walenta, arXiv 2507.10361 (2025): the bias of a diode recharges through its capacity. The same law stands
    in for a nanowire, whose current returns exponentially (Wang et al., arXiv 2508.11832 (2025)) with an efficiency
    that follows it.
    """
    safe = jnp.where(recovery_time > 0, recovery_time, 1.0)
    return jnp.where(recovery_time > 0, -jnp.expm1(-time / safe), 1.0)


@cache
def _quadrature() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the integral over (0, inf): Gauss and Legendre in exp(-y/2), exact for exp(-y)."""
    x, w = np.polynomial.legendre.leggauss(POINTS)
    return -2 * np.log1p(-(1 + x) / 2), w / (1 - (1 + x) / 2)


def waiting(rate, recovery_time):
    """(n E[W], n^2 E[W^2]) of the wait W from the end of the dead time to the next click; elementwise, (1, 2) if sharp.

    E[W] = int S dt, E[W^2] = 2 int t S dt, S = exp(-n int_0^t r) = exp(-u + x (1 - exp(-u/x))), u = n t, x = n tau_r
    (r of `recovered`; E[W] is the Kummer function M(1; 1 + x; x)/n). Written as what recovery adds to (1, 2), which is
    exactly nothing at tau_r = 0.
    """
    x = jnp.asarray(rate * recovery_time)[..., None]
    y, w = (jnp.asarray(part, x.dtype).reshape((*(1,) * (x.ndim - 1), -1)) for part in _quadrature())
    scale = jnp.sqrt(1 + x)
    u = scale * y
    extra = (jnp.exp(-u - x * jnp.expm1(-u / (x + 1e-15))) - jnp.exp(-u)) * scale * w
    return 1 + jnp.sum(extra, axis=-1), 2 + 2 * jnp.sum(u * extra, axis=-1)


@jax.jit  # its quadrature is compiled as one also where nothing else is
def live_factor(rate, dead_time, recovery_time, twilight):
    """Mean clicks per event, 1/(n tau + exp(-n a) n E[W]), non-paralysable; elementwise; `live_fraction` if both are 0.

    W of `waiting`. An event within the last a = ``twilight`` s of the dead time clicks at its end (Straka et al., J.
    Lightwave Technol. 2020, doi 10.1109/JLT.2020.2994654, who keep the first order, a probability n a).
    """
    wait, _ = waiting(rate, recovery_time)
    return 1 / (1 + rate * dead_time + (jnp.exp(-rate * twilight) * wait - 1))


@jax.jit
def count_variance(rate, dead_time, recovery_time, twilight):
    """m s^2/E^2: variance of the clicks per second of a long time; n/(1 + n tau)^3 for a sharp dead time; elementwise.

    T = tau + W, or tau alone with probability 1 - q, q = exp(-n a): s^2 = q E[W^2] - (q E[W])^2.
    """
    one, two = waiting(rate, recovery_time)
    quiet = jnp.exp(-rate * twilight)
    interval = quiet * one + rate * dead_time
    return rate * (quiet * two - (quiet * one) ** 2) / interval**3


def gated_rate(rate, dead_time, period, width):
    """m = P/(Tg (1 + k P)), P = 1 - exp(-n w): clicks per second of gates of ``width`` w every ``period`` Tg.

    Holds where every click blinds the rest of its gate and exactly k = floor(tau/Tg) gates after it:
    k Tg + w <= tau <= (k + 1) Tg - w. Elementwise.
    """
    click = -jnp.expm1(-rate * width)
    return click / (period * (1 + jnp.floor(dead_time / period) * click))


def gated_variance(rate, dead_time, period, width):
    """m (1 - P)/(1 + k P)^2: variance of the clicks per second of a long time; conditions as for `gated_rate`.

    Geometric numbers of open gates between clicks: E = Tg (k + 1/P), s^2 = Tg^2 (1 - P)/P^2.
    """
    click = -jnp.expm1(-rate * width)
    blind = 1 + jnp.floor(dead_time / period) * click
    return click * (1 - click) / (period * blind**3)
