"""Pairs through optics, object and tissue, up to the surface of the detectors: both readings.

`LightPath.images` gives probabilities per incident signal photon, averaged over a walk whose weights
carry the derivatives; `LightPath.sample` carries pairs one by one. A slab of plane layers looks the same from
everywhere, so every walked path serves every superpixel: it is laid so that it ends (direct image) or
has its idler (ghost image) in that superpixel, at an offset of its own inside it.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import erf, ndtri

from qtwin.core.params import Element
from qtwin.core.random import stream, words
from qtwin.optics import FarField
from qtwin.scene import AbstractScene
from qtwin.scene.grid import Grid, padded
from qtwin.source import SPDC
from qtwin.tissue.carry import carry
from qtwin.tissue.crossings import through
from qtwin.tissue.paths import Paths, unpack
from qtwin.tissue.slab import Layers, Slab
from qtwin.tissue.walk import BLOCKS, Walk, medium_of
from qtwin.tissue.weights import displacement, weight

REACH = 1  # partners are counted as pairs up to this many superpixels apart
SPREAD = 7  # the point spread is kept up to this many superpixels
ROWS, FEW = 16, 8  # paths evaluated together, as many as the cache holds; of those that cross the object many times
MOMENTS = 16  # of an exposure, over which a drifting image is averaged
STRAIGHT = 1024  # offsets over which the unscattered light is averaged


class Images(NamedTuple):
    """Probabilities per signal photon incident on the sample; n = pixels, leading block axis in a walk."""

    direct: jax.Array  # [n, n] signal lands in the superpixel
    direct_open: jax.Array  # the same without the object
    joint: jax.Array  # [3, 3, n, n] and its mirrored idler (dy, dx) superpixels further
    joint_open: jax.Array  # [n, n] the same superpixel, without the object
    ghost: jax.Array  # [n, n] idler meets the superpixel and the signal is accepted anywhere
    ghost_open: jax.Array
    spread_direct: jax.Array  # [15, 15] image position minus object position, in superpixels
    spread_ghost: jax.Array  # object position minus mirrored idler position
    accepted: jax.Array  # [] signal accepted by the aperture, without the object
    variance_direct: jax.Array  # [] mean square of image - object position, one axis, times accepted, m^2
    variance_ghost: jax.Array


class Exposure(NamedTuple):
    """Pairs of one exposure, photon by photon; [count] each."""

    signal: jax.Array  # [count, 2] where the signal appears in the object plane, m
    idler: jax.Array  # [count, 2] mirrored position of the idler, m
    seen: jax.Array  # bool: the signal came through and within the aperture
    survival: jax.Array  # probability that it was not absorbed, wherever it went


class _Light(NamedTuple):
    """Numbers that `images` needs about one configuration; all traced."""

    middle: jax.Array  # [2] of the signal's light
    beam: jax.Array
    shrink: jax.Array  # of the mirrored idler's place about its middle, given the signal's
    partner: jax.Array
    idler_middle: jax.Array
    idler_beam: jax.Array
    idler_shrink: jax.Array
    idler_partner: jax.Array
    drift: jax.Array  # [2]
    blur: jax.Array
    pitch: jax.Array
    centres: jax.Array
    aperture: jax.Array
    entrance: jax.Array
    behind: jax.Array
    grid: Grid


def _spread_points(count: int, first):
    """Additive recurrence in 6 dimensions and one of step sqrt 2, [count, 7] in (0, 1): even cover (Roberts 2018).

    ``first`` numbers the points, so that blocks use different ones.
    """
    base = 1.1850512  # root of x^7 = x + 1
    steps = jnp.asarray([*(base**-i for i in range(1, 7)), 0.41421356], jnp.float32).astype(jnp.result_type(float))
    index = (first + jnp.arange(count)).astype(steps.dtype)
    return jnp.clip((0.5 + index[:, None] * steps[None, :]) % 1.0, 1e-6, 1 - 1e-6)


def _density(x, width):
    return jnp.exp(-0.5 * (x / width) ** 2) / (jnp.sqrt(2 * jnp.pi) * width)


def _axis(light: _Light, offset, swept, axis: int):
    """Along one axis, for paths [r] and superpixels [n]: light per superpixel, and where the idler is."""
    x = light.centres[None, :] + offset[:, None]
    bright = _density(x - light.middle[axis], light.beam) * light.pitch
    edges = (jnp.arange(2 * REACH + 2, dtype=x.dtype) - REACH - 0.5) * light.pitch
    apart = light.idler_middle[axis] - light.middle[axis] + swept + offset
    place = apart[:, None] - light.shrink * (x - light.middle[axis])
    z = (edges[None, None, :] - place[:, :, None]) / (jnp.sqrt(2.0) * light.partner)
    return bright, jnp.diff(erf(z), axis=-1) / 2


def _idler_axis(light: _Light, offset, apart, axis: int):
    """Along one axis: light of the idler per superpixel, and where the signal of one in the superpixel is, [r, n]."""
    y = light.centres[None, :] + offset[:, None] - light.idler_middle[axis]
    place = light.middle[axis] + (1 - light.idler_shrink) * y + apart[:, None]
    return _density(y, light.idler_beam) * light.pitch, place


def _hats(offset, pitch):
    """Overlap of a superpixel moved by ``offset`` with its neighbours, [r] -> [r, 2 SPREAD + 1]."""
    steps = jnp.arange(-SPREAD, SPREAD + 1, dtype=offset.dtype)
    return jnp.maximum(0, 1 - jnp.abs((offset / pitch)[:, None] - steps[None, :]))


def _seen_rows(light: _Light, w, shifts, crossings, end, points) -> dict:
    """Sum over paths [r] of weight times what they contribute to the images of the signal's camera."""
    jitter = (points[:, :2] - 0.5) * light.pitch
    blur = ndtri(points[:, 2:4]) * light.blur
    swept = (points[:, 6:] - 0.5) * light.drift[None]
    offset = jitter - end - blur
    bright_x, idler_x = _axis(light, offset[:, 0], swept[:, 0], 0)
    bright_y, idler_y = _axis(light, offset[:, 1], swept[:, 1], 1)
    x, y = light.centres[None, :] + offset[:, :1], light.centres[None, :] + offset[:, 1:]
    wy = w[:, None] * bright_y
    seen = wy[:, :, None] * bright_x[:, None, :] * through(light.grid, x, y, shifts, crossings)
    joint = []
    for d in range(2 * REACH + 1):
        met = seen * idler_y[:, :, None, d]
        joint.append(jnp.stack([jnp.sum(met * idler_x[:, None, :, e], axis=0) for e in range(2 * REACH + 1)]))
    to_image = end + blur - shifts[:, 0]
    return {
        "direct": jnp.sum(seen, axis=0),
        "direct_open": jnp.einsum("ry,rx->yx", wy, bright_x),
        "joint": jnp.stack(joint),
        "joint_open": jnp.einsum("ry,rx->yx", wy * idler_y[:, :, REACH], bright_x * idler_x[:, :, REACH]),
        "spread_direct": _spread(light, w, to_image),
        "accepted": jnp.sum(w),
        "variance_direct": jnp.sum(w[:, None] * to_image**2) / 2,
    }


def _heralded_rows(light: _Light, w, shifts, crossings, end, points) -> dict:
    """The same for the images of the idler's array, the signal seen by a bucket."""
    jitter = (points[:, :2] - 0.5) * light.pitch
    apart = ndtri(points[:, 4:6]) * light.idler_partner
    swept = (points[:, 6:] - 0.5) * light.drift[None]
    ghost_x, met_x = _idler_axis(light, jitter[:, 0] - swept[:, 0], apart[:, 0], 0)
    ghost_y, met_y = _idler_axis(light, jitter[:, 1] - swept[:, 1], apart[:, 1], 1)
    wy = w[:, None] * ghost_y
    ghosts = wy[:, :, None] * ghost_x[:, None, :] * through(light.grid, met_x, met_y, shifts, crossings)
    to_object = apart + shifts[:, 0] - swept
    return {
        "ghost": jnp.sum(ghosts, axis=0),
        "ghost_open": jnp.einsum("ry,rx->yx", wy, ghost_x),
        "spread_ghost": _spread(light, w, to_object + (light.middle - light.idler_middle)[None]),
        "variance_ghost": jnp.sum(w[:, None] * to_object**2) / 2,
    }


# apart from each other, so that whoever needs the derivative of one half never pays for the other's
HALVES = (_seen_rows, _heralded_rows)


def _spread(light: _Light, w, moved):
    return jnp.einsum("r,ry,rx->yx", w, _hats(moved[:, 1], light.pitch), _hats(moved[:, 0], light.pitch))


def _empty(half, pixels: int, kind) -> dict:
    n, k, s = (pixels,) * 2, 2 * REACH + 1, (2 * SPREAD + 1,) * 2
    if half is _heralded_rows:
        shapes = {"ghost": n, "ghost_open": n, "spread_ghost": s, "variance_ghost": ()}
    else:
        shapes = {"direct": n, "direct_open": n, "joint": (k, k, *n), "joint_open": n, "spread_direct": s}
        shapes |= {"accepted": (), "variance_direct": ()}
    return {name: jnp.zeros(shape, kind) for name, shape in shapes.items()}


def image_position(direction, shift, behind):
    """Where a lens focused on the object sees a ray in the object plane: exit shift - z_app tan(angle), m.

    ``direction`` [..., 2] cosines in air, ``shift`` [..., 2] lateral displacement at the exit, ``behind``
    the apparent depth z_app of the object below the exit surface.
    """
    kind = shift.dtype
    sine = direction.astype(kind)
    cosine = jnp.sqrt(jnp.maximum(1 - jnp.sum(sine**2, axis=-1, keepdims=True), 1e-12))
    return shift - behind * sine / cosine


@partial(jax.jit, static_argnames=("half", "object_layer", "once"))
def _walked(light: _Light, layers: Layers, walked: Layers, paths: Paths, *, half, object_layer: int, once: bool):
    """Sums over the paths [BLOCKS, m, ...] of one of `HALVES`, per block. ``once``: single crossings only."""
    del object_layer  # part of the compiled identity: layers.object is a plain number
    m, size = paths.boost.shape[1], ROWS if once else FEW
    kind = light.beam.dtype

    def rows(total, item):
        part, start = item
        inside = jnp.sum(part.direction**2, axis=-1) <= jnp.asarray(light.aperture, jnp.float32) ** 2
        mask = (part.transmitted > 0) & (part.strayed > 0) & inside & (part.boost > 0)
        mask = mask & ((part.crossings == 1) if once else (part.crossings > 1))

        def add(total):
            w = weight(part, layers, walked) * mask.astype(kind) * light.entrance
            end = image_position(part.direction, displacement(part.shift, layers, walked), light.behind)
            shifts = displacement(part.crossed_at, layers, walked)
            end = jnp.where(mask[:, None], end, 0)
            more = half(light, w, shifts, part.crossings, end, _spread_points(size, start))
            return jax.tree.map(jnp.add, total, more)

        return lax.cond(jnp.any(mask), add, lambda t: t, total), None

    def block(item):
        part, number = item
        split = jax.tree.map(lambda a: a.reshape(m // size, size, *a.shape[1:]), part)
        starts = number * m + jnp.arange(m // size) * size
        # recomputed backwards: what a row needs again is its paths, never the object's map beside each of them
        total, _ = lax.scan(jax.checkpoint(rows), _empty(half, light.centres.shape[0], kind), (split, starts))
        return total

    return lax.map(block, (paths, jnp.arange(BLOCKS)))


@partial(jax.jit, static_argnames="half")
def _straight(light: _Light, ballistic, *, half):
    """The unscattered light: it goes straight, so only the offsets inside a superpixel are averaged."""
    kind = light.beam.dtype
    still = jnp.zeros((ROWS, 2), kind)
    ones = jnp.ones(ROWS, jnp.int32)

    def rows(total, start):
        w = jnp.full(ROWS, 1 / STRAIGHT, kind)
        more = half(light, w, still[:, None, :], ones, still, _spread_points(ROWS, start))
        return jax.tree.map(jnp.add, total, more), None

    total, _ = lax.scan(rows, _empty(half, light.centres.shape[0], kind), jnp.arange(STRAIGHT // ROWS) * ROWS)
    return jax.tree.map(lambda a: a * ballistic, total)


class LightPath(Element):
    """Source, optics, object and tissue, up to the detectors."""

    source: SPDC
    optics: FarField
    scene: AbstractScene
    tissue: Slab

    def check(self):
        self.optics.check_with(self.source)

    def grid(self) -> Grid:
        """The object's transmission map, inside a ring of clear cells."""
        return padded(self.scene.grid(self.optics.pixels, self.optics.fine, self.optics.pitch))

    def _light(self) -> _Light:
        o, s = self.optics, self.source
        g = o.geometry(s)
        (middle, idler_middle), (beam, idler_beam) = o.centres_of(s, g), g.beam_widths()
        (shrink, partner), (idler_shrink, idler_partner) = g.partner(), g.partner("idler")
        return _Light(
            middle,
            beam,
            shrink,
            partner,
            idler_middle,
            idler_beam,
            idler_shrink,
            idler_partner,
            o.drift(),
            o.blur(s),
            o.pitch,
            o.centres(),
            o.numerical_aperture,
            self.tissue.entrance(),
            self.tissue.apparent_depth(),
            self.grid(),
        )

    def images(self, walk: Walk) -> Images:
        """Probability images of every block of the walk, [BLOCKS, ...]; their mean is the estimate.

        Differentiable in every parameter of source, optics and tissue (and in the scene's).
        """
        light, layers = self._light(), self.tissue.layers()
        bare, walked = layers._replace(object=0), walk.layers._replace(object=0)
        which = self.tissue.object_layer
        per_block = walk.photons // BLOCKS
        images: dict[str, jax.Array] = {}
        for half in HALVES:
            total = _walked(light, bare, walked, walk.paths, half=half, object_layer=which, once=True)
            for again in walk.again:
                more = _walked(light, bare, walked, again, half=half, object_layer=which, once=False)
                total = jax.tree.map(jnp.add, total, more)
            straight = _straight(light, self.tissue.ballistic(), half=half)
            images |= jax.tree.map(lambda a, b: a / per_block + b[None], total, straight)
        return Images(**images)

    def idler_image(self):
        """Probability that the mirrored idler of a pair meets each superpixel, [n, n]; exact."""
        o = self.optics
        g = o.geometry(self.source)
        width = jnp.sqrt(2.0) * g.beam_widths()[1]
        edges = (jnp.arange(o.pixels + 1, dtype=o.pitch.dtype) - o.pixels / 2) * o.pitch
        when, share = (jnp.asarray(a / 2, edges.dtype) for a in np.polynomial.legendre.leggauss(MOMENTS))
        middle = o.centres_of(self.source, g)[1][:, None] + o.drift()[:, None] * when[None]  # [2, moments]
        x, y = jnp.diff(erf((edges[None, None, :] - middle[:, :, None]) / width), axis=-1) / 2
        return jnp.einsum("ty,tx,t->yx", y, x, share)

    def sample(self, count: int, *, key) -> Exposure:
        """Carry ``count`` pairs photon by photon; the signal meets the sample, every one is followed."""
        names = ("pairs", "tissue", "survival", "blur", "drift")
        keys = {name: stream(key, name) for name in names}
        pair = self.source.biphoton().sample(count, key=keys["pairs"])
        (middle, idler_middle), scale = self.optics.beam_centres(self.source), self.optics.scale(self.source)
        signal = middle[None] + pair[0].k * scale - pair[0].x * self.optics.defocus / self.optics.focal_length
        when = jax.random.uniform(keys["drift"], (count, 1), signal.dtype) - 0.5
        idler = idler_middle[None] - pair[1].k * scale + when * self.optics.drift()[None]
        layers, grid = self.tissue.layers(), self.grid()
        single = Grid(grid.values.astype(jnp.float32), jnp.asarray(grid.cell, jnp.float32))
        table = carry(
            medium_of(layers),
            words(keys["tissue"]),
            np.arange(count, dtype=np.uint32),
            start=signal.astype(jnp.float32),
            grid=single,
            roulette=False,
            object_layer=self.tissue.object_layer,
            kept=0,
        )
        paths = unpack(jnp.asarray(table), layers.thickness.shape[0], 0)
        kind = signal.dtype
        losses = jnp.sum(layers.mu_a[None, :] * paths.length.astype(kind), axis=1)
        survival = jnp.exp(-losses) * paths.clear.astype(kind)
        u, specular = jax.random.uniform(keys["survival"], (2, count), kind)
        entered = specular < self.tissue.entrance()
        inside = jnp.sum(paths.direction.astype(kind) ** 2, axis=1) <= self.optics.numerical_aperture**2
        seen = (paths.transmitted > 0) & inside & (u < survival) & entered
        blur = jax.random.normal(keys["blur"], (count, 2), kind) * self.optics.blur(self.source)
        moved = jnp.sum(paths.shift.astype(kind), axis=1)
        place = signal + image_position(paths.direction, moved, self.tissue.apparent_depth()) + blur
        return Exposure(place, idler, seen, jnp.where(entered, survival, 1.0))
