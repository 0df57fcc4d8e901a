"""Where the light of a slab goes: reflected, transmitted, absorbed, accepted by an aperture."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from qtwin.tissue.slab import Slab
from qtwin.tissue.walk import Walk
from qtwin.tissue.weights import likelihood, survival


class Fates(NamedTuple):
    """Fractions of the incident light; a leading block axis where they come from `fates`."""

    reflectance: jax.Array  # specular included
    transmittance: jax.Array  # ballistic included
    absorptance: jax.Array
    ballistic: jax.Array
    accepted: jax.Array  # transmitted within the numerical aperture


def fates(slab: Slab, walk: Walk, numerical_aperture=1.0) -> Fates:
    """R, T, A, ballistic and accepted fractions of collimated light, per block [BLOCKS].

    The straight part is exact (Beer-Lambert and Fresnel); only light that strayed comes from the walk.
    The mean over blocks is the estimate, its spread over sqrt(BLOCKS) the standard error; differentiable
    in mu_a, mu_s, g and thickness of every layer. Absorption is summed along the paths, apart from the
    others: R + T + A = 1 is the energy balance, within the errors.
    """
    layers, entrance, straight = slab.layers(), slab.entrance(), slab.ballistic()
    paths = walk.paths
    likely, left = likelihood(paths, layers, walk.layers), survival(paths, layers, walk.layers)
    w = likely * left * entrance * paths.strayed.astype(layers.mu_s.dtype)
    down = paths.transmitted.astype(w.dtype)
    sine2 = jnp.sum(paths.direction**2, axis=-1)
    inside = (sine2 <= jnp.asarray(numerical_aperture, jnp.float32) ** 2).astype(w.dtype)
    transmitted = straight + jnp.mean(w * down, axis=1)
    reflected = (1 - entrance) + jnp.mean(w * (1 - down), axis=1)
    accepted = straight + jnp.mean(w * down * inside, axis=1)
    ballistic = jnp.broadcast_to(straight, accepted.shape)
    absorbed = entrance * jnp.mean(likely * (1 - left), axis=1)
    return Fates(reflected, transmitted, absorbed, ballistic, accepted)
