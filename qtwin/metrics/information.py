"""Fisher information about the transmission per incident photon, and how far it is from its limits.

F = 1/Var is what an efficient estimate has: with N photons incident on a superpixel, F/N = 1/(N Var T). The coherent
limit is 1/T, the quantum limit 1/(T (1 - T)): a Fock state, or a two-mode squeezed state with ideal idler (Adesso et
al., Phys. Rev. A 79, 040305 (2009); Nair, Phys. Rev. Lett. 121, 230801 (2018); `qtwin.modes.information`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from qtwin.core.params import fraction, nonnegative, positive
from qtwin.modes.checks import number


class Information(NamedTuple):
    """Per incident photon, and over the limits at the same transmission. [] each, or [n, n]."""

    per_photon: jax.Array
    of_coherent: jax.Array  # above 1: no coherent light does as well with any detector
    of_quantum: jax.Array  # 1: no light does better


def per_photon(variance, incident, transmission) -> Information:
    """1/(N Var T), T/(N Var T) and T (1 - T)/(N Var T). Elementwise; differentiable."""
    cost, t = _cost(variance, incident), number("transmission", transmission, fraction)
    return Information(1 / cost, t / cost, t * (1 - t) / cost)


def pooled(variance, incident, transmission) -> Information:
    """The same over superpixels [n, n], each weighted by its photons: N Var T, T and T (1 - T) are averaged first.

    1/<N Var> is one over the cost of `qtwin.metrics.advantage`: the ratio for two arms is their advantage. Where the
    variance is from exposures its relative standard error is that of the cost, sqrt(2/dof).
    """
    cost, t = jnp.mean(_cost(variance, incident)), number("transmission", transmission, fraction)
    return Information(1 / cost, jnp.mean(t) / cost, jnp.mean(t * (1 - t)) / cost)


def _cost(variance, incident):
    return number("variance", variance, positive) * number("incident", incident, nonnegative)
