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
from qtwin.tissue.paths import Paths, Point
from qtwin.tissue.slab import Layers, Slab
from qtwin.tissue.weights import displacement, likelihood, log_losses, log_ratios, stretch, survival, weight

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


class Sums(NamedTuple):
    """Means over the light that entered, in cells of the curves; sides are up (0) and down (1), L layers."""

    sides: jax.Array  # [2] strayed light that left
    inside: jax.Array  # [] of that below, within the numerical aperture
    lost: jax.Array  # [] absorbed, from the light that was lost in the end
    entered: jax.Array  # [] what the surface let in; 1 where that is put in afterwards
    straight: jax.Array  # [] straight light below, where it was counted
    seen: jax.Array  # [L] absorbed in each layer, from what was seen there
    ring: jax.Array  # [2, rings]
    late: jax.Array  # [2, times]
    turned: jax.Array  # [2, angles]
    depth: jax.Array  # [L, depths] path, m


class Moments(NamedTuple):
    """Of what paths gathered: mean of weight times (length, scatterings, score) per layer, L layers.

    Rows: left above, left below, within the aperture, lost, path in every layer (gathered up to the kept point).
    """

    gathered: jax.Array  # [4 + L, 3 L]
    left: jax.Array  # [L] mean of the light left times the length


def _hats(x, step, count: int, weight, down):
    """Sums over photons [n] of weight times hat functions at count nodes, for both sides: [2, count]."""
    place = jnp.minimum(x / step, count).astype(weight.dtype)
    low = jnp.floor(place)
    part, at = place - low, low.astype(jnp.int32) + down * (count + 2)
    sums = jnp.zeros(2 * (count + 2), weight.dtype).at[at].add(weight * (1 - part)).at[at + 1].add(weight * part)
    return sums.reshape(2, count + 2)[:, :count]


def _sides(paths: Paths, numerical_aperture, kind):
    """(whether it left below [n], parts that left above, below, within the aperture [3, n], sine squared [n])."""
    down = paths.transmitted.astype(jnp.int32)
    sine2 = jnp.sum(paths.direction.astype(kind) ** 2, axis=-1)
    inside = (down > 0) & (sine2 <= jnp.asarray(numerical_aperture, kind) ** 2)
    return down, jnp.stack([1 - down, down, inside.astype(down.dtype)]).astype(kind), sine2


def gather(layers: Layers, walked: Layers, paths: Paths, bins: Bins, numerical_aperture) -> Sums:
    """`Sums` of one block of ``paths`` [n], walked in ``walked`` with a kept point, as they are in ``layers``.

    Absorption and fluence are read at the kept point of every path: int f dl = E[total length f(point)].
    """
    kind, n = layers.mu_s.dtype, paths.boost.shape[0]
    likely, left = likelihood(paths, layers, walked), survival(paths, layers, walked)
    w = likely * left * paths.strayed.astype(kind) / n
    down, parts, sine2 = _sides(paths, numerical_aperture, kind)
    sums = parts @ w

    moved = displacement(paths.shift, layers, walked)
    # the root's slope at 0 is infinite: light that comes out on the axis has not strayed, its weight is 0
    square = jnp.sum(moved**2, axis=-1)
    r = jnp.sqrt(jnp.where(square > 0, square, 1)) * (square > 0).astype(kind)
    ring = _hats(r, bins.radius / (bins.rings - 1), bins.rings, w, down)

    optical = paths.length.astype(kind) * (stretch(layers, walked) * layers.n)[None, :]
    late = _hats(jnp.sum(optical, axis=-1) / LIGHT_SPEED, bins.time / (bins.times - 1), bins.times, w, down)

    angle = jnp.arcsin(jnp.sqrt(jnp.clip(sine2, 0, 1)))
    width = bins.edges().astype(kind)[1]
    bin_ = jnp.minimum((angle / width).astype(jnp.int32), bins.angles - 1) + down * bins.angles
    turned = jnp.zeros(2 * bins.angles, kind).at[bin_].add(w).reshape(2, bins.angles)

    point, count = _kept(paths), walked.thickness.shape[0]
    track = weight(point, layers, walked) * point.total.astype(kind) / n
    here = point.layer.astype(jnp.int32)
    cell = here * bins.depths + jnp.clip((point.place * bins.depths).astype(jnp.int32), 0, bins.depths - 1)
    depth = jnp.zeros(count * bins.depths, kind).at[cell].add(track).reshape(count, bins.depths)
    seen = layers.mu_a * stretch(layers, walked) * jnp.sum(depth, axis=1)
    lost, one = jnp.sum(likely * (1 - left)) / n, jnp.ones((), kind)
    return Sums(sums[:2], sums[2], lost, one, 0 * one, seen, ring, late, turned, depth)


def moments(walked: Layers, paths: Paths, numerical_aperture) -> Moments:
    """`Moments` of one block of ``paths`` [n] where they were walked."""
    kind, n = walked.mu_s.dtype, paths.boost.shape[0]
    point, left = _kept(paths), survival(paths, walked, walked)
    _, parts, _ = _sides(paths, numerical_aperture, kind)
    track = weight(point, walked, walked) * point.total.astype(kind)
    layer = jnp.arange(walked.thickness.shape[0], dtype=point.layer.dtype)
    rows = jnp.concatenate([parts * (left * paths.strayed.astype(kind))[None, :], (1 - left)[None, :]])
    seen = jnp.where(point.layer[None, :] == layer[:, None], track[None, :], 0)

    def all_of(p):
        return jnp.concatenate([p.length, p.scatterings, p.score], axis=-1).astype(kind)

    gathered = jnp.concatenate([rows @ all_of(paths), seen @ all_of(point)])
    return Moments(gathered / n, left @ paths.length.astype(kind) / n)


def _kept(paths: Paths) -> Point:
    if paths.point is None:
        raise ValueError("paths were walked without a kept point")
    return paths.point


def _exactly(slab: Slab, pencil: bool):
    """(entrance, straight light) of a pencil beam, Beer-Lambert and Fresnel; of other light both were counted."""
    return (slab.entrance(), slab.ballistic()) if pencil else (jnp.ones_like(slab.depth), jnp.zeros_like(slab.depth))


def assemble(slab: Slab, walked: Layers, sums: Sums, bins: Bins, pencil: bool = True) -> Tallies:
    """`Tallies` of ``slab`` from its `Sums`.

    Of a pencil beam at normal incidence the straight part is exact. The absorption of all layers together is known
    better than that of each, and the layers share it (a ratio estimate).
    """
    entrance, straight = _exactly(slab, pencil)
    kind, entered = straight.dtype, entrance * sums.entered
    h, late = bins.radius / (bins.rings - 1), bins.time / (bins.times - 1)
    nodes = jnp.arange(bins.rings, dtype=kind)
    area = 2 * jnp.pi * h * h * jnp.where(nodes == 0, 1 / 6, nodes) / entrance
    width = late * jnp.where(jnp.arange(bins.times) == 0, 0.5, 1.0).astype(kind) / entrance
    edges = bins.edges().astype(kind)
    solid = 2 * jnp.pi * (jnp.cos(edges[:-1]) - jnp.cos(edges[1:])) / entrance
    return Tallies(
        1 - entered,
        entrance * sums.sides[0],
        straight + entrance * sums.sides[1],
        straight + sums.straight,
        straight + entrance * sums.inside,
        entrance * _shared(sums.seen, sums.lost),
        sums.ring[0] / area,
        sums.ring[1] / area,
        sums.turned[0] / solid,
        sums.turned[1] / solid,
        sums.late[0] / width,
        sums.late[1] / width,
        entrance * jnp.sum(sums.sides) + straight - entered + entrance * jnp.sum(sums.seen),
        entrance * sums.depth * bins.depths / walked.thickness[:, None],
    )


def _shared(seen, lost):
    """What each layer absorbed, [L], so that the sum is ``lost``."""
    total = jnp.sum(seen)
    return seen * jnp.where(total > 0, lost / jnp.where(total > 0, total, 1), 1)


def expect(slab: Slab, walked: Layers, paths: Paths, bins: Bins, numerical_aperture=1.0) -> Tallies:
    """Tallies in ``slab`` from one block of ``paths`` [n] that were walked in ``walked`` with a kept point."""
    return assemble(slab, walked, gather(slab.whole(), walked, paths, bins, numerical_aperture), bins)


def default_bins(slab: Slab) -> Bins:
    """Curves that reach 20 transport lengths, or 5 thicknesses of a thinner slab, and the light that went that far."""
    reduced = np.asarray(slab.mu_s * (1 - slab.g) + slab.mu_a)
    reach = min(5 * float(np.sum(np.asarray(slab.thickness))), 20 / max(float(reduced.min()), 1e-12))
    late = 4 * reach * float(np.max(np.asarray(slab.n))) / LIGHT_SPEED
    return Bins(radius=jnp.asarray(reach), time=jnp.asarray(late))


FIELDS = ("mu_a", "mu_s", "g", "thickness")


def figures(fields: dict, slab: Slab, walked: Layers, sums: Sums, moments: Moments, pencil: bool = True):
    """Diffuse reflectance, transmittance, accepted, absorbed per layer, [3 + L], of ``slab`` with other ``fields``.

    To first order about ``walked``: a weight w exp(x . gathered) is w (1 + x . gathered).
    """
    made = eqx.tree_at(lambda s: [getattr(s, name) for name in FIELDS], slab, [fields[name] for name in FIELDS])
    layers, (entrance, straight) = made.whole(), _exactly(made, pencil)
    likely = jnp.concatenate(log_ratios(layers, walked))
    losses = log_losses(layers, walked) - log_losses(walked, walked)
    weights = likely.at[: len(losses)].add(losses)
    lost = sums.lost + moments.gathered[3] @ likely - moments.left @ losses
    out = jnp.append(sums.sides, sums.inside) + moments.gathered[:3] @ weights
    path = jnp.sum(sums.depth, axis=1) + moments.gathered[4:] @ weights
    seen = layers.mu_a * stretch(layers, walked) * path
    straights = straight * jnp.array([0.0, 1.0, 1.0])
    return jnp.concatenate([straights + entrance * out, entrance * _shared(seen, lost)])


def slopes(slab: Slab, walked: Layers, sums: Sums, moments: Moments, pencil: bool = True):
    """Field -> derivatives of `figures` of one block where it was walked, [3 + L, L]."""
    fields = {name: getattr(slab, name) for name in FIELDS}
    return jax.jacrev(figures)(fields, slab, walked, sums, moments, pencil)
