"""Laws of a measured number, given the mean m and the variance v that a model expects of it.

    Poisson   y ln m - m - ln y!                      v = m
    binomial  y ln p + (n - y) ln(1 - p) + ln C(n, y) p = m/n,  v = m (1 - p)
    scattered Poisson of a mean that scatters by a gamma law: negative binomial of mean m, variance v > m
    normal    -(y - m)^2/2v - ln(2 pi v)/2            v as the model says, or as the data give it

Elementwise; deviances are twice the log of the likelihood of the best mean over that of the given one (McCullagh &
Nelder, Generalized Linear Models, 2nd ed. (1989), section 2.3; from memory), (y - m)^2/v where v is told separately.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln, xlog1py, xlogy

LEAST = 1e-300  # a mean that is 0 explains no count


class Law(NamedTuple):
    """How a number scatters about its mean; ``n``, trials, is read by the binomial law alone."""

    words: str
    log: Callable  # (y, m, v, n) -> log probability (density)
    deviance: Callable  # (y, m, v, n)
    draw: Callable  # (m, v, n, key) -> y
    own_variance: bool  # v is told by the model beside m, and carries information of its own
    whole: bool  # counts: 0, 1, 2, ...


def _poisson(y, m, v, n):
    return xlogy(y, jnp.maximum(m, LEAST)) - m - gammaln(y + 1)


def _poisson_deviance(y, m, v, n):
    return 2 * (xlogy(y, jnp.where(y > 0, y, 1.0) / jnp.maximum(m, LEAST)) - (y - m))


def _binomial(y, m, v, n):
    p = m / n
    ways = gammaln(n + 1) - gammaln(y + 1) - gammaln(n - y + 1)
    return xlogy(y, jnp.maximum(p, LEAST)) + xlog1py(n - y, -p) + ways


def _shape(m, v):
    """r = m^2/(v - m) of the gamma law."""
    return m**2 / jnp.maximum(v - m, 1e-9 * m)


def _scattered(y, m, v, n):
    """Stirling's series of ln Gamma(y + r)/Gamma(r) at large r: no difference of large numbers near Poisson's law."""
    r = _shape(m, v)
    big = r > 100
    large, small = jnp.where(big, r, 100.0), jnp.where(big, 1.0, r)
    series = (y + large - 0.5) * jnp.log1p(y / large) - y + (1 / (y + large) - 1 / large) / 12
    exact = gammaln(y + small) - gammaln(small) - xlogy(y, small)
    rest = xlogy(y, jnp.maximum(m, LEAST)) - gammaln(y + 1) - (y + r) * jnp.log1p(m / r)
    return jnp.where(big, series, exact) + rest


def _normal(y, m, v, n):
    return -((y - m) ** 2) / (2 * v) - jnp.log(2 * jnp.pi * v) / 2


def _pearson(y, m, v, n):
    return (y - m) ** 2 / v


def _draw_scattered(m, v, n, key):
    one, two = jax.random.split(key)
    r = _shape(m, v)
    return jax.random.poisson(two, jax.random.gamma(one, r) * m / r).astype(m.dtype)


LAWS = {
    "poisson": Law(
        "Poisson counts",
        _poisson,
        _poisson_deviance,
        lambda m, v, n, key: jax.random.poisson(key, m).astype(m.dtype),
        False,
        True,
    ),
    "binomial": Law(
        "binomial counts",
        _binomial,
        lambda y, m, v, n: 2 * (xlogy(y, jnp.where(y > 0, y, 1.0) / m) + xlogy(n - y, (n - y) / (n - m))),
        lambda m, v, n, key: jax.random.binomial(key, n, m / n),
        False,
        True,
    ),
    "scattered": Law("counts, scattered as the model says", _scattered, _pearson, _draw_scattered, True, True),
    "normal": Law(
        "normal errors",
        _normal,
        _pearson,
        lambda m, v, n, key: m + jnp.sqrt(v) * jax.random.normal(key, m.shape, m.dtype),
        True,
        False,
    ),
}
