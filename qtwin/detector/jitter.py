"""Timing jitter of a click: a normal delay plus an exponential one, the law of carriers that diffuse before they drift.

All times in s; ``sigma`` is the std of the normal part, ``tail`` the mean of the exponential part (Grushka, Anal. Chem.
44, 1733 (1972)); either may be 0. The mean delay is ``tail``, the variance sigma^2 + tail^2. Elementwise.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import erf, log_ndtr, ndtr

FWHM = 2.354820045  # of a normal law, in units of its std
HALVINGS = 60


def _faint(x) -> float:
    return float(jnp.finfo(x.dtype).eps) ** 0.2


def _kinds(sigma, tail):
    """(normal, sharp, both, s, k): which parts of the law count, and safe values where both do.

    A tail too short against sigma for the digits of its type is kept by its mean and variance (``normal``, an error of
    (k/s)^3, 4e-10 in float64); a sigma as short against the tail is dropped (``sharp``).
    """
    sigma, tail = jnp.broadcast_arrays(jnp.asarray(sigma), jnp.asarray(tail))
    faint = _faint(sigma)
    normal, sharp = tail < faint * sigma, sigma < faint * tail
    both = ~(normal | sharp) & (sigma > 0)
    return normal, sharp, both, jnp.where(both, sigma, 1.0), jnp.where(both, tail, 1.0)


def density(time, sigma, tail):
    """p(t) = exp(s^2/2k^2 - t/k) Phi(t/s - s/k)/k, s ``sigma``, k ``tail``, 1/s; sigma or tail must be above 0."""
    normal, _, both, s, k = _kinds(sigma, tail)
    wide = jnp.sqrt(jnp.where(normal, sigma**2 + tail**2, 1.0))
    plain = jnp.exp(-(((time - tail) / wide) ** 2) / 2) / (wide * jnp.sqrt(2 * jnp.pi))
    mixed = jnp.exp(s**2 / (2 * k**2) - time / k + log_ndtr(time / s - s / k)) / k
    safe = jnp.where(tail > 0, tail, 1.0)
    bare = jnp.where(time < 0, 0.0, jnp.exp(-jnp.maximum(time, 0.0) / safe) / safe)
    return jnp.where(normal, plain, jnp.where(both, mixed, bare))


def cumulative(time, sigma, tail):
    """Probability of a delay below ``time``: Phi(t/s) - k p(t), p of `density`; a step where both parts are 0."""
    normal, sharp, both, s, k = _kinds(sigma, tail)
    wide = jnp.sqrt(jnp.where(normal, sigma**2 + tail**2, 1.0))
    mixed = ndtr(time / s) - jnp.exp(s**2 / (2 * k**2) - time / k + log_ndtr(time / s - s / k))
    safe = jnp.where(tail > 0, tail, 1.0)
    bare = jnp.where(time < 0, 0.0, -jnp.expm1(-jnp.maximum(time, 0.0) / safe))
    step = jnp.where(time < 0, 0.0, 1.0)
    return jnp.where(normal, ndtr((time - tail) / wide), jnp.where(both, mixed, jnp.where(sharp, bare, step)))


def fwhm(sigma, tail):
    """Full width at half maximum of `density`, s: the peak and both half heights by bisection; 2.3548 sigma at tail 0.

    Not differentiable by way of the bisection; ln 2 times the tail at sigma 0.
    """
    sigma, tail = jnp.broadcast_arrays(jnp.asarray(sigma), jnp.asarray(tail))
    scale = sigma + tail

    def bisect(low, high, above):
        def halve(_, ends):
            low, high = ends
            middle = (low + high) / 2
            return jnp.where(above(middle), middle, low), jnp.where(above(middle), high, middle)

        return jax.lax.fori_loop(0, HALVINGS, halve, (low, high))[0]

    slope = jax.vmap(jax.grad(lambda t, s, k: jnp.log(density(t, s, k))))

    def rising(t):
        return slope(t.ravel(), sigma.ravel(), tail.ravel()).reshape(t.shape) > 0

    pure = sigma < _faint(sigma) * tail  # the exponential alone: it starts at its peak
    peak = jnp.where(pure, 0.0, bisect(-8 * sigma, tail + 8 * sigma, rising))
    half = density(peak, sigma, tail) / 2
    right = bisect(peak, peak + 40 * scale, lambda t: density(t, sigma, tail) > half)
    left = -bisect(-peak, 8 * sigma - peak, lambda t: density(-t, sigma, tail) > half)
    return right - jnp.where(pure, 0.0, left)


@jax.jit
def capture(window, sigma_s, sigma_i, tail_s=0.0, tail_i=0.0, offset=0.0):
    """Part of true pairs with |t_s - t_i - offset| below half the full width ``window``.

    The difference of two exponentials is positive with probability w = k_s/(k_s + k_i) and exponential of mean k_s
    then, else negative of mean k_i; so w F(x; s, k_s) + (1 - w)(1 - F(-x; s, k_i)) of the pairs lie below x, F of
    `cumulative`, s^2 = sigma_s^2 + sigma_i^2. Without tails and offset: erf(window/(2 sqrt 2 s)). ``offset`` counts
    from the delay of a pair that meets no jitter: the means differ by tail_s - tail_i.
    """
    variance = jnp.asarray(sigma_s**2 + sigma_i**2)
    sigma = jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1.0)), 0.0)
    tails = tail_s + tail_i
    part = jnp.where(tails > 0, tail_s / jnp.where(tails > 0, tails, 1.0), 0.5)

    def below(x):
        return part * cumulative(x, sigma, tail_s) + (1 - part) * (1 - cumulative(-x, sigma, tail_i))

    general = below(offset + window / 2) - below(offset - window / 2)
    safe = jnp.where(sigma > 0, sigma, 1.0)
    plain = jnp.where(sigma > 0, erf(window / (2 * jnp.sqrt(2.0) * safe)), 1.0)
    return jnp.where((tails == 0) & (offset == 0), plain, general)


def sample(sigma, tail, shape, *, key):
    """Delays, s: sigma N(0, 1) + tail Exp(1)."""
    normal, late = jax.random.split(key)
    dtype = jnp.result_type(float)
    return sigma * jax.random.normal(normal, shape, dtype) + tail * jax.random.exponential(late, shape, dtype)
