"""What a walked path weighs in this slab or a neighbouring one, and where it then goes.

A path walked with coefficients (mu_s0, g0, d0) has, in a slab (mu_a, mu_s, g, d), the weight

    w = exp(-a l) (b/b0)^k exp(-(b - b0) l) exp(s (g - g0)),   a = mu_a d/d0,   b = mu_s d/d0,

per sublayer, with l its length, k its scatterings, s its score by g, all at thickness d0: stretching a
layer by d/d0 equals scaling its coefficients and its lateral displacements. Exact in mu_a, mu_s and d;
in g the value is exact at g0 and so is the first derivative (likelihood ratio: Glynn, Commun. ACM 33,
75 (1990)). Second derivatives by g would need d^2 ln p / dg^2 and are refused.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from qtwin.tissue.paths import Paths, Point
from qtwin.tissue.slab import Layers


@jax.custom_jvp
def _once(change):
    """``change``, which may be differentiated once only."""
    return change


@_once.defjvp
def _once_jvp(primals, tangents):
    return _once(primals[0]), _unit(primals[0]) * tangents[0]


@jax.custom_jvp
def _unit(change):
    """1, the slope of `_once`, which must not be differentiated again."""
    return jnp.ones_like(change)


@partial(_unit.defjvp, symbolic_zeros=True)
def _refuse(primals, tangents):
    if not isinstance(tangents[0], SymbolicZero):
        raise NotImplementedError("second derivatives by g through a walk need the second-order score; not available")
    return _unit(*primals), jnp.zeros_like(primals[0])


def stretch(layers: Layers, walked: Layers):
    """d/d0 per sublayer, [M]."""
    return layers.thickness / walked.thickness


def log_losses(layers: Layers, walked: Layers):
    """-a: logarithm of what a unit of length leaves, [M]."""
    return -layers.mu_a * stretch(layers, walked)


def log_ratios(layers: Layers, walked: Layers):
    """Logarithm of the likelihood per unit of length, per scattering and per unit of score, each [M]."""
    b, b0 = layers.mu_s * stretch(layers, walked), walked.mu_s
    ratio = jnp.where(b0 > 0, b / jnp.where(b0 > 0, b0, 1), 1)
    return b0 - b, jnp.log(ratio), _once(layers.g - walked.g)


def _log_likelihood(paths: Paths | Point, layers: Layers, walked: Layers, extra):
    """Products of what was gathered with its logarithms, ``extra`` added to that of the length: matrix products."""
    by_length, by_scattering, by_score = log_ratios(layers, walked)
    kind = by_length.dtype
    logs = paths.length.astype(kind) @ (by_length + extra) + paths.scatterings.astype(kind) @ by_scattering
    return logs + paths.score.astype(kind) @ by_score


def likelihood(paths: Paths | Point, layers: Layers, walked: Layers):
    """How much more likely every path is in ``layers`` than where it was walked, [...]; mean 1.

    A walk made where mu_s = 0 has seen no scattering: it says nothing of mu_s > 0, nor of the derivative by mu_s.
    """
    return jnp.exp(_log_likelihood(paths, layers, walked, jnp.zeros_like(layers.mu_s)))


def survival(paths: Paths | Point, layers: Layers, walked: Layers):
    """Part of every path's light that was not absorbed, roulette included, [...]."""
    losses = log_losses(layers, walked)
    return paths.boost.astype(losses.dtype) * jnp.exp(paths.length.astype(losses.dtype) @ losses)


def weight(paths: Paths | Point, layers: Layers, walked: Layers):
    """Weight of every path in ``layers``, roulette included, [...]; 1 photon is 1."""
    logs = _log_likelihood(paths, layers, walked, log_losses(layers, walked))
    return paths.boost.astype(logs.dtype) * jnp.exp(logs)


def displacement(shift, layers: Layers, walked: Layers):
    """Lateral displacement sum_m (d_m/d0_m) shift_m: [..., M, 2] -> [..., 2], m."""
    s = stretch(layers, walked)
    s = s.reshape((1,) * (shift.ndim - 2) + (-1, 1))
    return jnp.sum(jnp.broadcast_to(s, shift.shape) * shift.astype(s.dtype), axis=-2)
