"""Images of pairs whose signal crosses the object in tissue, per signal photon: walked paths, summed.

A slab of plane layers looks the same from everywhere, so every walked path serves every superpixel: it is laid so
that it ends (direct image) or has its idler (ghost image) in that superpixel, at an offset of its own inside it.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import erf, ndtri

from qtwin.scene.grid import Grid
from qtwin.tissue.crossings import through
from qtwin.tissue.paths import Paths
from qtwin.tissue.slab import Layers
from qtwin.tissue.walk import BLOCKS
from qtwin.tissue.weights import displacement, weight

REACH = 1  # partners are counted as pairs up to this many superpixels apart
NEIGHBOURS = range(2 * REACH + 1)
SPREAD = 7  # the point spread is kept up to this many superpixels
GROUP = 16  # rows that are passed over at once where none of their paths counts
ROWS, FEW = 8, 2  # paths evaluated together, as many as the cache holds; of those that cross the object many times


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


class Beams(NamedTuple):
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


def density(x, width):
    return jnp.exp(-0.5 * (x / width) ** 2) / (jnp.sqrt(2 * jnp.pi) * width)


def _axis(beams: Beams, offset, swept, axis: int):
    """Along one axis, for paths [r] and superpixels [n]: light per superpixel, and where the idler is."""
    x = beams.centres[None, :] + offset[:, None]
    bright = density(x - beams.middle[axis], beams.beam) * beams.pitch
    edges = (jnp.arange(2 * REACH + 2, dtype=x.dtype) - REACH - 0.5) * beams.pitch
    apart = beams.idler_middle[axis] - beams.middle[axis] + swept + offset
    place = apart[:, None] - beams.shrink * (x - beams.middle[axis])
    z = (edges[None, None, :] - place[:, :, None]) / (jnp.sqrt(2.0) * beams.partner)
    return bright, jnp.diff(erf(z), axis=-1) / 2


def _idler_axis(beams: Beams, offset, apart, axis: int):
    """Along one axis: light of the idler per superpixel, and where the signal of one in the superpixel is, [r, n]."""
    y = beams.centres[None, :] + offset[:, None] - beams.idler_middle[axis]
    place = beams.middle[axis] + (1 - beams.idler_shrink) * y + apart[:, None]
    return density(y, beams.idler_beam) * beams.pitch, place


def _hats(offset, pitch):
    """Overlap of a superpixel moved by ``offset`` with its neighbours, [r] -> [r, 2 SPREAD + 1]."""
    steps = jnp.arange(-SPREAD, SPREAD + 1, dtype=offset.dtype)
    return jnp.maximum(0, 1 - jnp.abs((offset / pitch)[:, None] - steps[None, :]))


@jax.custom_jvp
def _partners(seen, idler_y, idler_x):
    """sum_r s_ryx p_ryd q_rxe over paths: signals [r, y, x], idlers [r, y, d] and [r, x, e] -> [d, e, y, x]."""
    return jnp.stack([_columns(seen * idler_y[:, :, None, d], idler_x) for d in NEIGHBOURS])


def _columns(met, idler_x):
    return jnp.stack([jnp.sum(met * idler_x[:, None, :, e], axis=0) for e in NEIGHBOURS])


@_partners.defjvp
def _partners_jvp(primals, tangents):
    """In an order that, read backwards, sums over x and over y once for a neighbour, not once for two of them."""
    (seen, idler_y, idler_x), (dseen, didler_y, didler_x) = primals, tangents
    change = []
    for d in NEIGHBOURS:
        change.append(_columns(dseen * idler_y[:, :, None, d] + seen * didler_y[:, :, None, d], idler_x))
    across = []
    for e in NEIGHBOURS:
        met = seen * didler_x[:, None, :, e]
        across.append(jnp.stack([jnp.sum(met * idler_y[:, :, None, d], axis=0) for d in NEIGHBOURS]))
    return _partners(*primals), jnp.stack(change) + jnp.stack(across, axis=1)


def seen(beams: Beams, w, shifts, crossings, end, points) -> dict:
    """Sum over paths [r] of weight times what they contribute to the images of the signal's camera."""
    jitter = (points[:, :2] - 0.5) * beams.pitch
    blur = ndtri(points[:, 2:4]) * beams.blur
    swept = (points[:, 6:] - 0.5) * beams.drift[None]
    offset = jitter - end - blur
    bright_x, idler_x = _axis(beams, offset[:, 0], swept[:, 0], 0)
    bright_y, idler_y = _axis(beams, offset[:, 1], swept[:, 1], 1)
    x, y = beams.centres[None, :] + offset[:, :1], beams.centres[None, :] + offset[:, 1:]
    wy = w[:, None] * bright_y
    seen = wy[:, :, None] * bright_x[:, None, :] * through(beams.grid, x, y, shifts, crossings)
    to_image = end + blur - shifts[:, 0]
    return {
        "direct": jnp.sum(seen, axis=0),
        "direct_open": jnp.einsum("ry,rx->yx", wy, bright_x),
        "joint": _partners(seen, idler_y, idler_x),
        "joint_open": jnp.einsum("ry,rx->yx", wy * idler_y[:, :, REACH], bright_x * idler_x[:, :, REACH]),
        "spread_direct": _spread(beams, w, to_image),
        "accepted": jnp.sum(w),
        "variance_direct": jnp.sum(w[:, None] * to_image**2) / 2,
    }


def heralded(beams: Beams, w, shifts, crossings, end, points) -> dict:
    """The same for the images of the idler's array, the signal seen by a bucket."""
    jitter = (points[:, :2] - 0.5) * beams.pitch
    apart = ndtri(points[:, 4:6]) * beams.idler_partner
    swept = (points[:, 6:] - 0.5) * beams.drift[None]
    ghost_x, met_x = _idler_axis(beams, jitter[:, 0] - swept[:, 0], apart[:, 0], 0)
    ghost_y, met_y = _idler_axis(beams, jitter[:, 1] - swept[:, 1], apart[:, 1], 1)
    wy = w[:, None] * ghost_y
    ghosts = wy[:, :, None] * ghost_x[:, None, :] * through(beams.grid, met_x, met_y, shifts, crossings)
    to_object = apart + shifts[:, 0] - swept
    return {
        "ghost": jnp.sum(ghosts, axis=0),
        "ghost_open": jnp.einsum("ry,rx->yx", wy, ghost_x),
        "spread_ghost": _spread(beams, w, to_object + (beams.middle - beams.idler_middle)[None]),
        "variance_ghost": jnp.sum(w[:, None] * to_object**2) / 2,
    }


def _spread(beams: Beams, w, moved):
    return jnp.einsum("r,ry,rx->yx", w, _hats(moved[:, 1], beams.pitch), _hats(moved[:, 0], beams.pitch))


def _empty(half, pixels: int, kind) -> dict:
    n, k, s = (pixels,) * 2, 2 * REACH + 1, (2 * SPREAD + 1,) * 2
    if half is heralded:
        shapes = {"ghost": n, "ghost_open": n, "spread_ghost": s, "variance_ghost": ()}
    else:
        shapes = {"direct": n, "direct_open": n, "joint": (k, k, *n), "joint_open": n, "spread_direct": s}
        shapes |= {"accepted": (), "variance_direct": ()}
    return {name: jnp.zeros(shape, kind) for name, shape in shapes.items()}


def no_light(like, pixels: int) -> Images:
    """Images without any light, of the type of the array ``like``."""
    return Images(**{k: v for half in (seen, heralded) for k, v in _empty(half, pixels, like.dtype).items()})


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
def walked(beams: Beams, layers: Layers, walked: Layers, paths: Paths, *, half, object_layer: int, once: bool):
    """Sums over the paths [BLOCKS, m, ...] of `seen` or `heralded`, per block. ``once``: single crossings only."""
    del object_layer  # part of the compiled identity: layers.object is a plain number
    m, size = paths.boost.shape[1], ROWS if once else FEW
    kind = beams.beam.dtype
    inside = jnp.sum(paths.direction**2, axis=-1) <= jnp.asarray(beams.aperture, jnp.float32) ** 2
    counted = (paths.transmitted > 0) & (paths.strayed > 0) & inside & (paths.boost > 0)
    counted = counted & ((paths.crossings == 1) if once else (paths.crossings > 1))

    def some(act):
        """``act`` where any of the paths counts: the rest of a block is empty room."""
        return lambda total, item: (lax.cond(jnp.any(item[1]), act, lambda t, _: t, total, item), None)

    def add(total, item):
        part, mask, start = item
        w = weight(part, layers, walked) * mask.astype(kind) * beams.entrance
        end = image_position(part.direction, displacement(part.shift, layers, walked), beams.behind)
        shifts = displacement(part.crossed_at, layers, walked)
        end = jnp.where(mask[:, None], end, 0)
        more = half(beams, w, shifts, part.crossings, end, _spread_points(size, start))
        return jax.tree.map(jnp.add, total, more)

    def several(total, items):
        # recomputed backwards: what a row needs again is its paths, never the object's map beside each of them
        return lax.scan(jax.checkpoint(some(add)), total, items)[0]

    def block(item):
        part, mask, number = item
        starts = number * m + jnp.arange(m // size) * size
        group = GROUP if len(starts) % GROUP == 0 else len(starts)
        items = jax.tree.map(lambda a: a.reshape(-1, group, size, *a.shape[1:]), (part, mask))
        empty = _empty(half, beams.centres.shape[0], kind)
        return lax.scan(some(several), empty, (*items, starts.reshape(-1, group)))[0]

    return lax.map(block, (paths, counted, jnp.arange(BLOCKS)))
