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

from qtwin.tissue.paths import Paths
from qtwin.tissue.slab import Layers


@jax.custom_jvp
def _once(score, change):
    """score * change with its first derivative by ``change`` only."""
    return score * change


@_once.defjvp
def _once_jvp(primals, tangents):
    score, change = primals
    return _once(score, change), _first_slope(score, change) * tangents[1]


@jax.custom_jvp
def _first_slope(score, change):
    """The slope by ``change``: correct at change = 0, and it must not be differentiated again."""
    del change
    return score


@partial(_first_slope.defjvp, symbolic_zeros=True)
def _refuse(primals, tangents):
    if not isinstance(tangents[1], SymbolicZero):
        raise NotImplementedError("second derivatives by g through a walk need the second-order score; not available")
    return _first_slope(*primals), jnp.zeros_like(primals[0])


def stretch(layers: Layers, walked: Layers):
    """d/d0 per sublayer, [M]."""
    return layers.thickness / walked.thickness


def likelihood(paths: Paths, layers: Layers, walked: Layers):
    """How much more likely every path is in ``layers`` than where it was walked, [...]; mean 1.

    A walk made where mu_s = 0 has seen no scattering: it says nothing of mu_s > 0, nor of the derivative by mu_s.
    """
    kind = layers.mu_s.dtype
    length, scatterings = paths.length.astype(kind), paths.scatterings.astype(kind)
    b, b0 = layers.mu_s * stretch(layers, walked), walked.mu_s
    ratio = jnp.where(b0 > 0, b / jnp.where(b0 > 0, b0, 1), 1)
    logs = _rows(jnp.log(ratio), length) * scatterings - _rows(b - b0, length) * length
    logs = logs + _once(paths.score.astype(kind), _rows(layers.g - walked.g, length))
    return jnp.exp(jnp.sum(logs, axis=-1))


def survival(paths: Paths, layers: Layers, walked: Layers):
    """Part of every path's light that was not absorbed, roulette included, [...]."""
    length = paths.length.astype(layers.mu_a.dtype)
    losses = _rows(layers.mu_a * stretch(layers, walked), length) * length
    return paths.boost.astype(length.dtype) * jnp.exp(-jnp.sum(losses, axis=-1))


def weight(paths: Paths, layers: Layers, walked: Layers):
    """Weight of every path in ``layers``, roulette included, [...]; 1 photon is 1."""
    return likelihood(paths, layers, walked) * survival(paths, layers, walked)


def _rows(values, like):
    """[M] -> [..., M] of the rank of ``like`` (rank promotion is never implicit here)."""
    return jnp.broadcast_to(values.reshape((1,) * (like.ndim - 1) + (-1,)), like.shape)


def displacement(shift, layers: Layers, walked: Layers):
    """Lateral displacement sum_m (d_m/d0_m) shift_m: [..., M, 2] -> [..., 2], m."""
    s = stretch(layers, walked)
    s = s.reshape((1,) * (shift.ndim - 2) + (-1, 1))
    return jnp.sum(jnp.broadcast_to(s, shift.shape) * shift.astype(s.dtype), axis=-2)
