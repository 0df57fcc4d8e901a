"""One walk of many photons through a solid, voxels or inclusions, and what it says of it and of its neighbours.

Every photon is followed to its end on the threads of this processor (`qtwin.tissue.solids.engine`). What it leaves
behind is what `qtwin.tissue.weights` needs to know its weight, and every derivative by mu_a, mu_s and g, under other
coefficients; the geometry and the indices stay as walked. Absorption is a weight along the path; in which medium it
happens, with all its derivatives, is told by one point of every path, uniform along it: mu_a times the length of the
path times the weight at the point.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import FieldError, UserError
from qtwin.core.random import words
from qtwin.core.units import data_size
from qtwin.tissue.carry import cores
from qtwin.tissue.paths import Paths, pack_size, unpack
from qtwin.tissue.solids.light import Light
from qtwin.tissue.solids.volume import Solid, Volume
from qtwin.tissue.walk import BLOCKS
from qtwin.tissue.weights import likelihood, survival, weight

LIGHT_SPEED = 299792458.0  # m/s
LATE = 6  # values of ``SolidWalk.fate`` after the six faces


class SolidWalk(eqx.Module):
    """Paths of one walk in independent blocks, [BLOCKS, n, ...].

    ``paths`` reads as for layers, with media in place of sublayers, except: ``transmitted`` is 1 where light left along
    +z, ``shift`` of the first medium is the whole lateral displacement (x, y) and 0 elsewhere, no object is crossed,
    and ``point.place`` is 0.
    """

    solid: Solid  # as walked (no gradient)
    paths: Paths
    entrance: jax.Array  # [...] weight of the light that got in
    fate: (
        jax.Array
    )  # [...] int8: face it left through, x low, x high, ..., z high; 6 time was up, 7 lost in the roulette
    position: jax.Array  # [..., 3] where it ended, m
    direction: jax.Array  # [..., 3] unit vector there, outside
    fluence: np.ndarray | None  # [x, y, z] per incident photon, 1/m^2, as walked; float64
    fluence_error: np.ndarray | None  # its standard error, from the blocks
    photons: int = eqx.field(static=True)

    def time(self) -> jax.Array:
        """Time in the solid, sum n l / c, [...] s."""
        n = jnp.asarray(self.solid.n, jnp.float32).reshape((1,) * (self.paths.length.ndim - 1) + (-1,))
        return jnp.sum(jnp.broadcast_to(n, self.paths.length.shape) * self.paths.length, axis=-1) / LIGHT_SPEED


class SolidFates(NamedTuple):
    """Fractions of the incident light, per block; they sum to 1 within the errors."""

    specular: jax.Array  # [BLOCKS] never entered
    escaped: jax.Array  # [BLOCKS, 6] left through faces that look to x low, x high, y low, y high, z low, z high
    absorptance: jax.Array  # [BLOCKS] absorbed in all
    absorbed: jax.Array  # [BLOCKS, M] absorbed in each medium (their sum is ``absorptance`` within the errors)
    late: jax.Array  # [BLOCKS] still inside when time was up


def memory(solid: Solid, photons: int, fluence: bool) -> int:
    """Bytes that a walk holds at its peak."""
    media = int(solid.mu_a.shape[0])
    each = 4 * pack_size(media, 0, True) + 64
    labels = solid.labels.values.size if isinstance(solid, Volume) else 0
    return 2 * each * photons + labels * (1 + (8 * (cores() + 3) if fluence else 0))


def rounded(photons: int) -> int:
    """The next multiple of BLOCKS."""
    return -(-photons // BLOCKS) * BLOCKS


def _media(solid: Solid) -> np.ndarray:
    rows = np.zeros((4, solid.mu_a.shape[0] + 1))
    for row, values in zip(rows, (solid.mu_a, solid.mu_s, solid.g, solid.n), strict=True):
        row[1:] = np.asarray(values, np.float64)
    rows[3, 0] = float(solid.outside)
    return rows


def _carry(solid, media, light, seed, rules, total, tally):
    """Walk all blocks: tables, and with ``tally`` the mean fluence of the blocks and its standard error."""
    from qtwin.tissue.solids import engine  # here: numba costs a second to import

    if isinstance(solid, Volume):
        run, geometry = engine.through_voxels, (solid.labels.values, *solid.voxel)
    else:
        kinds = np.array([shape.kind for shape in solid.shapes], np.int64)
        rows = np.zeros((len(kinds), 8))
        for row, shape in zip(rows, solid.shapes, strict=True):
            row[: len(shape.row)] = shape.row
        run, geometry = engine.through_shapes, (solid.thickness, kinds, rows)
    count, part = media.shape[1] - 1, total // BLOCKS
    table = np.empty((total, pack_size(count, 0, True)), np.float32)
    fates, leave = np.empty(total, np.int8), np.empty((total, 6))
    k0, k1 = (np.uint32(w) for w in seed)
    alike = len(light.position) == 1
    start, toward, entrance = (np.ascontiguousarray(a) for a in light)
    size = solid.labels.values.shape if tally else (0, 0, 0)

    def block(b):
        own, here = slice(b * part, (b + 1) * part), np.zeros(size)
        came = slice(None) if alike else own
        parts = (start[came], toward[came], entrance[came], table[own], fates[own], leave[own])
        run(geometry, media, rules, k0, k1, b * part, *parts, here)
        return here

    volume = part * float(np.prod(solid.voxel)) if tally else 1.0
    first, second = np.zeros(size), np.zeros(size)
    threads = min(cores(), BLOCKS)
    with ThreadPoolExecutor(threads) as pool:
        for b in range(0, BLOCKS, threads):  # in order, so that sums do not depend on who finishes first
            for here in pool.map(block, range(b, min(b + threads, BLOCKS))):
                if tally:
                    here /= volume
                    first += here
                    second += here * here
    if not tally:
        return table, fates, leave, None, None
    mean = first / BLOCKS
    spread = np.maximum(second / BLOCKS - mean * mean, 0) / (BLOCKS - 1)
    return table, fates, leave, mean, np.sqrt(spread)


def solid_walk(
    solid: Solid,
    light: Light,
    *,
    key,
    photons: int,
    gate: float = np.inf,
    fluence: bool = False,
    roulette: bool = True,
    memory_limit: float = np.inf,
) -> SolidWalk:
    """Carry ``photons`` through the solid; every one is followed to its end, or until ``gate`` (s after it entered).

    One ray of ``light`` serves all photons, whose number is rounded up to whole blocks; otherwise it needs one for
    each, a multiple of BLOCKS. ``fluence`` tallies the light in every voxel: the weight integrated along every step,
    exactly; as walked, without derivatives.
    Raises UserError: more memory needed than ``memory_limit`` bytes, light that starts outside or could never end.
    """
    solid = jax.tree.map(jax.lax.stop_gradient, solid)
    rays = len(light.position)
    total = rounded(photons)
    if photons < 1 or (rays > 1 and rays != total):
        accepted = "as many as rays of light, a multiple of" if rays > 1 else "1 or more, rounded up to a multiple of"
        raise UserError(f"walk.photons: got {photons} for {rays} rays, accepted is {accepted} {BLOCKS}")
    if not gate > 0:
        raise UserError(f"walk.gate: got {gate} s, accepted is more than 0")
    if fluence and not isinstance(solid, Volume):
        raise UserError("walk.fluence: got a solid without voxels, accepted is a Volume")
    need = memory(solid, total, fluence)
    if need > memory_limit:
        limit = f"memory_limit is {data_size(memory_limit)}"
        raise UserError(f"walk.photons: {photons} photons and the solid need {data_size(need)}, {limit}")
    media, rules = _media(solid), (bool(solid.reflect), float(gate) * LIGHT_SPEED, bool(roulette))
    table, fates, leave, mean, error = _carry(solid, media, light, words(key), rules, total, fluence)
    _refuse(fates, leave)

    def blocks(a):
        return jnp.asarray(a.reshape(BLOCKS, total // BLOCKS, *a.shape[1:]))

    paths = unpack(blocks(table), media.shape[1] - 1, 0, True)
    entrance = jnp.asarray(np.broadcast_to(light.entrance, total).reshape(BLOCKS, -1))
    ends = blocks(leave.astype(np.float32))
    where = (blocks(fates), ends[..., :3], ends[..., 3:])
    return SolidWalk(solid, paths, entrance, *where, mean, error, total)


def _refuse(fates, leave):
    from qtwin.tissue.solids import engine

    for fate, words_of in ((engine.OUTSIDE, "starts outside the solid"), (engine.TRAPPED, "can never end")):
        photon = np.flatnonzero(fates == fate)
        if len(photon):
            at = ", ".join(f"{v:.4g}" for v in leave[photon[0], :3])
            given = f"got {len(photon)} photons whose light {words_of}, first number {photon[0]} at ({at}) m"
            raise UserError(
                f"light.position: {given}; accepted is a start inside, in media that absorb, scatter or let out"
            )


def solid_fates(solid: Solid, walk: SolidWalk) -> SolidFates:
    """Where the light of ``solid`` goes, from a ``walk`` through it or through one of other mu_a, mu_s, g.

    The mean over blocks is the estimate, its spread over sqrt(BLOCKS) the standard error. Differentiable in mu_a, mu_s
    and g of every medium (by mu_s only where it was greater than 0 in the walk).
    Raises FieldError where the geometry is not the one that was walked.
    """
    asked: Any = jax.tree.structure(solid)  # static fields belong to it
    if asked != jax.tree.structure(walk.solid):
        raise FieldError("solid", "got another geometry than the one walked, accepted are other mu_a, mu_s and g")
    layers, walked = solid.layers(), walk.solid.layers()
    likely, left = likelihood(walk.paths, layers, walked), survival(walk.paths, layers, walked)
    entrance = walk.entrance.astype(likely.dtype)
    out = entrance * likely * left
    ends = walk.fate[..., None] == jnp.arange(LATE + 1, dtype=walk.fate.dtype)[None, None, :]
    share = jnp.mean(jnp.where(ends, out[..., None], 0), axis=1)
    absorptance = jnp.mean(entrance * likely * (1 - left), axis=1)
    point = walk.paths.point
    assert point is not None
    track = entrance * weight(point, layers, walked) * point.total.astype(likely.dtype)
    media = jnp.arange(layers.mu_a.shape[0], dtype=point.layer.dtype)
    inside = point.layer[..., None] == media[None, None, :]
    absorbed = layers.mu_a[None, :] * jnp.mean(jnp.where(inside, track[..., None], 0), axis=1)
    specular = 1 - jnp.mean(entrance, axis=1)
    return SolidFates(specular, share[:, :LATE], absorptance, absorbed, share[:, LATE])
