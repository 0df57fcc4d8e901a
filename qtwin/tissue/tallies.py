"""Where the light of a slab goes: fractions, and curves over radius, angle, time of flight and depth.

Every tally is a mean over paths of their weight times a piecewise smooth function, so that `jax.grad` and `jax.jvp`
give its derivative by absorption, scattering, anisotropy and thickness of every layer: the weights carry the score,
and where a path ends moves with the thickness (`qtwin.tissue.weights`). Curves over radius and time are read with hat
functions: at node k the mean of the true curve under a triangle that reaches to the neighbouring nodes.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.params import Element, param, positive, static
from qtwin.tissue.paths import Paths
from qtwin.tissue.slab import Layers, Slab
from qtwin.tissue.weights import displacement, likelihood, stretch, survival, weight

LIGHT_SPEED = 299792458.0  # m/s, exact (SI)


class Bins(Element):
    """Where curves are read: nodes from 0 to ``radius`` and ``time``, equal steps of angle and of depth in a layer."""

    radius: jax.Array = param("m", positive, "largest radius of a curve")
    time: jax.Array = param("s", positive, "longest time of flight of a curve")
    rings: int = static("nodes in radius", 50)
    times: int = static("nodes in time", 50)
    angles: int = static("bins of exit angle between 0 and 90 degrees", 30)
    depths: int = static("bins of depth in every layer", 25)

    def radii(self):
        """[rings] m."""
        return jnp.arange(self.rings, dtype=self.radius.dtype) * (self.radius / (self.rings - 1))

    def instants(self):
        """[times] s."""
        return jnp.arange(self.times, dtype=self.time.dtype) * (self.time / (self.times - 1))

    def edges(self):
        """[angles + 1] rad."""
        return jnp.linspace(0, jnp.pi / 2, self.angles + 1)


class Tallies(NamedTuple):
    """Per incident photon. L layers; curves are of strayed light only (the straight part is a point)."""

    specular: jax.Array  # [] reflected at the surface
    reflectance: jax.Array  # [] diffuse: entered and came back
    transmittance: jax.Array  # [] straight light included
    ballistic: jax.Array  # [] straight, unscattered, unreflected
    accepted: jax.Array  # [] transmitted within the numerical aperture
    absorbed: jax.Array  # [L]
    radius_reflected: jax.Array  # [rings] 1/m^2
    radius_transmitted: jax.Array  # [rings] 1/m^2
    angle_reflected: jax.Array  # [angles] 1/sr
    angle_transmitted: jax.Array  # [angles] 1/sr
    time_reflected: jax.Array  # [times] 1/s
    time_transmitted: jax.Array  # [times] 1/s
    balance: jax.Array  # [] R + T + A - 1 with A from the points alone: 0 within its error
    fluence: jax.Array  # [L, depths] over the plane: path per unit of depth, at fixed fractions of the layer


def _hats(x, step, count: int, weight, down):
    """Sums over photons [n] of weight times hat functions at count nodes, for both sides: [2, count]."""
    place = jnp.minimum(x / step, count).astype(weight.dtype)
    low = jnp.floor(place)
    part, at = place - low, low.astype(jnp.int32) + down * (count + 2)
    sums = jnp.zeros(2 * (count + 2), weight.dtype).at[at].add(weight * (1 - part)).at[at + 1].add(weight * part)
    return sums.reshape(2, count + 2)[:, :count]


def expect(slab: Slab, walked: Layers, paths: Paths, bins: Bins, numerical_aperture=1.0) -> Tallies:
    """Tallies of one block of ``paths`` [n] that were walked in ``walked`` with a kept point, as they are in ``slab``.

    Collimated light at normal incidence. The straight part is exact (Beer-Lambert and Fresnel). Absorption and
    fluence are read at the kept point of every path: int f dl = E[total length f(point)]; the absorption of all layers
    together is known better, from the light that paths have lost in the end, and the layers share it (a ratio
    estimate).
    """
    layers, entrance, straight = slab.whole(), slab.entrance(), slab.ballistic()
    kind, n = layers.mu_s.dtype, paths.boost.shape[0]
    likely, left = likelihood(paths, layers, walked), survival(paths, layers, walked)
    w = likely * left * paths.strayed.astype(kind) * (entrance / n)
    down = paths.transmitted.astype(jnp.int32)
    sine2 = jnp.sum(paths.direction.astype(kind) ** 2, axis=-1)
    sides = jnp.stack([1 - down, down]).astype(kind)
    sums = jnp.sum(w[None, :] * sides, axis=1)
    inside = sides[1] * (sine2 <= jnp.asarray(numerical_aperture, kind) ** 2).astype(kind)

    moved = displacement(paths.shift, layers, walked)
    # the root's slope at 0 is infinite: light that comes out on the axis has not strayed, its weight is 0
    square = jnp.sum(moved**2, axis=-1)
    r = jnp.sqrt(jnp.where(square > 0, square, 1)) * (square > 0).astype(kind)
    ring = _hats(r, bins.radius / (bins.rings - 1), bins.rings, w, down)
    h = bins.radius / (bins.rings - 1)
    nodes = jnp.arange(bins.rings, dtype=kind)
    area = 2 * jnp.pi * h * h * jnp.where(nodes == 0, 1 / 6, nodes)

    optical = paths.length.astype(kind) * (stretch(layers, walked) * layers.n)[None, :]
    step = bins.time / (bins.times - 1)
    late = _hats(jnp.sum(optical, axis=-1) / LIGHT_SPEED, step, bins.times, w, down)
    width = step * jnp.where(jnp.arange(bins.times) == 0, 0.5, 1.0).astype(kind)

    edges = bins.edges().astype(kind)
    angle = jnp.arcsin(jnp.sqrt(jnp.clip(sine2, 0, 1)))
    bin_ = jnp.minimum((angle / edges[1]).astype(jnp.int32), bins.angles - 1) + down * bins.angles
    turned = jnp.zeros(2 * bins.angles, kind).at[bin_].add(w).reshape(2, bins.angles)
    solid = 2 * jnp.pi * (jnp.cos(edges[:-1]) - jnp.cos(edges[1:]))

    point, count = paths.point, walked.thickness.shape[0]
    if point is None:
        raise ValueError("paths were walked without a kept point")
    here = point.layer.astype(jnp.int32)
    track = weight(point, layers, walked) * point.total.astype(kind) * (entrance / n)
    cell = here * bins.depths + jnp.clip((point.place * bins.depths).astype(jnp.int32), 0, bins.depths - 1)
    depth = jnp.zeros(count * bins.depths, kind).at[cell].add(track).reshape(count, bins.depths)
    seen = layers.mu_a * stretch(layers, walked) * jnp.sum(depth, axis=1)
    lost, total = jnp.sum(likely * (1 - left)) * (entrance / n), jnp.sum(seen)
    absorbed = seen * jnp.where(total > 0, lost / jnp.where(total > 0, total, 1), 1)
    return Tallies(
        1 - entrance,
        sums[0],
        straight + sums[1],
        straight,
        straight + jnp.sum(w * inside),
        absorbed,
        ring[0] / area,
        ring[1] / area,
        turned[0] / solid,
        turned[1] / solid,
        late[0] / width,
        late[1] / width,
        jnp.sum(sums) + straight - entrance + total,
        depth * bins.depths / walked.thickness[:, None],
    )


def default_bins(slab: Slab) -> Bins:
    """Curves that reach 20 transport lengths, or 5 thicknesses of a thinner slab, and the light that went that far."""
    reduced = np.asarray(slab.mu_s * (1 - slab.g) + slab.mu_a)
    reach = min(5 * float(np.sum(np.asarray(slab.thickness))), 20 / max(float(reduced.min()), 1e-12))
    late = 4 * reach * float(np.max(np.asarray(slab.n))) / LIGHT_SPEED
    return Bins(radius=jnp.asarray(reach), time=jnp.asarray(late))


FIELDS = ("mu_a", "mu_s", "g", "thickness")


def figures(fields: dict, slab: Slab, walked: Layers, paths: Paths, bins: Bins, numerical_aperture):
    """Diffuse reflectance, transmittance, accepted, absorbed per layer, [3 + L], of ``slab`` with other ``fields``."""
    made = eqx.tree_at(lambda s: [getattr(s, name) for name in FIELDS], slab, [fields[name] for name in FIELDS])
    t = expect(made, walked, paths, bins, numerical_aperture)
    return jnp.concatenate([jnp.stack([t.reflectance, t.transmittance, t.accepted]), t.absorbed])


def slopes(slab: Slab, walked: Layers, paths: Paths, bins: Bins, numerical_aperture):
    """Field -> derivatives of `figures` of one block, [3 + L, L]."""
    fields = {name: getattr(slab, name) for name in FIELDS}
    return jax.jacrev(figures)(fields, slab, walked, paths, bins, numerical_aperture)
