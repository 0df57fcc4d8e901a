"""The set-ups that free parameters describe: working points that move on straight lines with each of them.

What follows a parameter in the configuration (``depth: ${mid:tissue.thickness}``) follows it here, and so does its
derivative: leaf = start + sum_i slope_i (x_i - start_i), checked when the family is made.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qtwin.benchmark.expected import Working
from qtwin.core.errors import UserError
from qtwin.design.free import Free, Parameter
from qtwin.tissue import Walk
from qtwin.tissue.weights import likelihood

STRAIGHT = 1e-9  # relative, of a leaf that follows a parameter
SECOND = 0.03  # effective part that weights by g may lose
# of the walk itself: no derivative exists
WITHOUT = (".twin.optics.numerical_aperture", ".twin.tissue.n")


class Family(eqx.Module):
    """``start`` and what a unit of each free parameter adds to every leaf."""

    free: Free = eqx.field(static=True)
    start: Working
    slopes: tuple[Working, ...]  # None where a parameter does not move a leaf
    origin: jax.Array  # [D]

    def at(self, x) -> Working:
        """The working point at SI values ``x`` [D]."""
        return self.moved(self.start, x - self.origin)

    def moved(self, working: Working, steps) -> Working:
        """``working`` with ``steps`` [D] of the parameters added."""
        arrays = eqx.filter(working, eqx.is_inexact_array)
        for slope, step in zip(self.slopes, steps, strict=True):

            def add(s, a, step=step):
                return a if s is None else a + s * step

            arrays = jax.tree.map(add, slope, arrays, is_leaf=lambda s: s is None)
        return eqx.combine(arrays, working)

    def moves_g(self) -> list[bool]:
        """Parameters by which a walk has a first derivative only."""
        return [getattr(slope.twin.tissue, "g", None) is not None for slope in self.slopes]

    def moves_tissue(self) -> bool:
        """Whether paths of the walk weigh differently along a parameter."""
        return any(jax.tree.leaves(slope.twin.tissue) for slope in self.slopes)


def family(start: Working, parameters: Sequence[Parameter], made: Sequence[tuple[Working, Working]], values) -> Family:
    """``made``: for each parameter the working points at two ``values`` [D, 2] other than its start [D].

    UserError where anything follows a parameter on a curve, or no derivative exists.
    """
    origin = np.array([v[0] for v in values])
    slopes = []
    for p, (near, far), (zero, a, b) in zip(parameters, made, values, strict=True):
        trees = [eqx.filter(one, eqx.is_inexact_array) for one in (start, near, far)]
        if len({str(jax.tree.structure(t)) for t in trees}) > 1:
            raise UserError(f"{p.key}: {p.shown(a)} makes another set-up than {p.shown(zero)}; accepted is a number")

        def slope(place, at0, at1, at2, p=p, zero=zero, a=a, b=b):
            at0, at1, at2 = (np.asarray(v, float) for v in (at0, at1, at2))
            if at0.shape != at1.shape or at0.shape != at2.shape:
                raise UserError(f"{p.key}: {p.shown(a)} makes another set-up than {p.shown(zero)} (another layer?)")
            if np.array_equal(at0, at1) and np.array_equal(at0, at2):
                return None
            name = jax.tree_util.keystr(place)
            if name.startswith(WITHOUT):
                raise UserError(
                    f"{p.key}: it moves {name[6:]}, by which there is no derivative; accepted is a sweep (-m)"
                )
            up = (at2 - at0) / (b - zero)
            if not np.allclose(at1 - at0, up * (a - zero), rtol=STRAIGHT, atol=STRAIGHT * np.abs(at0).max()):
                raise UserError(f"{p.key}: {name[6:]} follows it on a curve; accepted is a number that stands alone")
            return jnp.asarray(up)

        slopes.append(jax.tree_util.tree_map_with_path(slope, *trees))
    return Family(Free(tuple(parameters)), start, tuple(slopes), jnp.asarray(origin))


def effective(working: Working, walk: Walk):
    """Effective part of a walk in another tissue, (sum u w)^2/(sum u sum u w^2), [] (Kish 1965, from memory).

    The least of three: of all photons (u = 1); of the light that is absorbed, u the length of its path in the tissue,
    because a few guided photons bring most of it; and of the weights by g alone, whose second order is left out: there
    a loss of ``SECOND`` counts as one of a half.
    """
    layers, walked, paths = working.twin.tissue.layers(), walk.layers, walk.paths
    length = jnp.sum(paths.length, axis=-1).astype(layers.mu_s.dtype)

    def kish(w, u):
        some = jnp.sum(u) > 0
        return jnp.where(some, jnp.sum(u * w) ** 2 / jnp.where(some, jnp.sum(u) * jnp.sum(u * w**2), 1.0), 1.0)

    w, by_g = likelihood(paths, layers, walked), likelihood(paths, walked._replace(g=layers.g), walked)
    first_order = 1 - (1 - kish(by_g, length)) * 0.5 / SECOND
    return jnp.minimum(jnp.minimum(kish(w, jnp.ones_like(w)), kish(w, length)), first_order)
