"""What is known of walked photons, and the walk on arrays: many photons carried at once by every device of jax.

What a path needs for its weight and every derivative is written down per sublayer: length, number of
scatterings, score by g, lateral displacement.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from qtwin.core.elementary import XLA
from qtwin.scene.grid import Grid, look_up
from qtwin.tissue.law import CONSOLATION, FAINT, PATH, POINT, ROULETTE, ROULETTE_ODDS, law

LANES = 4096  # photons in flight at once: their state stays in the processor's cache
EVENTS_PER_HARVEST = 8
LAW = law(XLA)


class Medium(NamedTuple):
    """Float32 coefficients of M sublayers as the walk reads them."""

    top: jax.Array  # [M] z of the upper interface
    bottom: jax.Array  # [M]
    mu_a: jax.Array  # [M]
    mu_s: jax.Array  # [M]
    g: jax.Array  # [M]
    n: jax.Array  # [M + 2], the outside included
    versines: jax.Array | None = None  # [M, N + 1] quantiles of 1 - cos, where scattering is not Henyey-Greenstein's


class Point(NamedTuple):
    """One point of a path, chosen uniformly along its length, and the path up to there."""

    boost: jax.Array  # [...] weight won in the roulette before
    layer: jax.Array  # [...] number of the sublayer
    place: jax.Array  # [...] fraction of the sublayer's thickness above it
    total: jax.Array  # [...] length of the whole path, m
    length: jax.Array  # [..., M]
    scatterings: jax.Array  # [..., M]
    score: jax.Array  # [..., M]
    shift: jax.Array  # [..., M, 2]


class Paths(NamedTuple):
    """What is known of finished photons; leading axes are photons, M sublayers, K crossings kept."""

    transmitted: jax.Array  # [...] 1 left below, 0 left above
    strayed: jax.Array  # [...] 1 if it was ever scattered or reflected
    boost: jax.Array  # [...] weight won in the roulette
    clear: jax.Array  # [...] product of object transmissions at every crossing (1 where no object was given)
    direction: jax.Array  # [..., 2] direction cosines (x, y) outside
    length: jax.Array  # [..., M] path in each sublayer, m
    scatterings: jax.Array  # [..., M]
    score: jax.Array  # [..., M] d ln(density)/dg
    shift: jax.Array  # [..., M, 2] lateral displacement gathered in each sublayer, m
    crossings: jax.Array  # [...] times it passed the object plane
    crossed_at: jax.Array  # [..., K, M, 2] the same displacement at the first crossings kept
    point: Point | None = None


class _Flight(NamedTuple):
    z: jax.Array
    u: tuple  # direction cosines
    layer: jax.Array
    event: jax.Array
    photon: jax.Array
    slot: jax.Array
    flying: jax.Array
    waiting: jax.Array  # finished, not yet harvested
    start: jax.Array  # [2, lanes] where it met the surface, m
    paths: Paths  # with lanes as the last axis


def pack_size(sublayers: int, kept: int, point: bool = False) -> int:
    """Float32 numbers per photon in the table that `carry` returns."""
    return 7 + 5 * sublayers + 2 * sublayers * kept + (4 + 5 * sublayers if point else 0)


def _launch(state: _Flight, where, photon, slot, start) -> _Flight:
    """Start new photons, normal to the surface, in the lanes ``where``."""

    def fresh(a, value=0):
        return jnp.where(where, jnp.asarray(value, a.dtype), a)

    paths = jax.tree.map(fresh, state.paths)._replace(
        boost=fresh(state.paths.boost, 1), clear=fresh(state.paths.clear, 1)
    )
    u = (fresh(state.u[0]), fresh(state.u[1]), fresh(state.u[2], 1))
    return _Flight(
        fresh(state.z),
        u,
        fresh(state.layer),
        fresh(state.event),
        jnp.where(where, photon, state.photon),
        jnp.where(where, slot, state.slot),
        state.flying | where,
        state.waiting & ~where,
        jnp.where(where[None, :], start, state.start),
        paths,
    )


def _choose(p: Paths, q: Point, state: _Flight, here, step, bits, top, bottom) -> Point:
    """The kept point, a point of this step in its place where the law says so."""
    ux, uy, uz = state.u
    chosen, part = LAW.choose(step, q.total, *bits)
    chosen, some = chosen & state.flying, part * step
    partly = jnp.where(here, some[None, :], 0)
    moved = jnp.where(here[:, None, :], jnp.stack([ux * some, uy * some])[None], 0)
    place = (state.z + uz * some - top) / (bottom - top)

    def take(new, old):
        return jnp.where(jnp.broadcast_to(chosen, old.shape), new, old)

    return Point(
        take(p.boost, q.boost),
        take(state.layer.astype(jnp.float32), q.layer),
        take(place, q.place),
        q.total + step,
        take(p.length + partly, q.length),
        take(p.scatterings, q.scatterings),
        take(p.score, q.score),
        take(p.shift + moved, q.shift),
    )


def _looked_up(versines, layer, u):
    """Straight lines between the quantiles of each lane's layer."""
    place = u * (versines.shape[1] - 1)
    cell = place.astype(jnp.int32)
    low, high = versines[layer, cell], versines[layer, cell + 1]
    return low + (place - cell.astype(u.dtype)) * (high - low)


def _event(state: _Flight, medium: Medium, words, grid: Grid | None, object_layer: int, skip, roulette) -> _Flight:
    """One event of every photon in flight: a scattering, or an interface."""
    count = medium.mu_s.shape[0]

    def pick(values, index):
        out = jnp.broadcast_to(values[0], index.shape)
        for i in range(1, values.shape[0]):
            out = jnp.where(index == i, values[i], out)
        return out

    p, (ux, uy, uz), layer = state.paths, state.u, state.layer
    b0, b1 = LAW.draw(*words, state.photon, state.event, PATH)
    mu_s, g, n_here = pick(medium.mu_s, layer), pick(medium.g, layer), pick(medium.n, layer + 1)
    top, bottom = pick(medium.top, layer), pick(medium.bottom, layer)
    step, hits, end = LAW.fly(state.z, uz, top, bottom, mu_s, b0)
    step = jnp.where(state.flying, step, 0)
    down = uz > 0
    scatters = state.flying & ~hits
    hits = state.flying & hits

    here = layer[None, :] == jnp.arange(count, dtype=layer.dtype)[:, None]
    point = p.point
    if point is not None:
        point = _choose(p, point, state, here, step, LAW.draw(*words, state.photon, state.event, POINT), top, bottom)
    length = p.length + jnp.where(here, step[None, :], 0)
    moved = jnp.stack([ux * step, uy * step])[None, :, :]
    shift = p.shift + jnp.where(here[:, None, :], moved, 0)

    luck, azimuth = LAW.angles(b1)
    versine = LAW.versine(luck, g) if medium.versines is None else _looked_up(medium.versines, layer, luck)
    turned = LAW.turn(ux, uy, uz, versine, azimuth)
    scattered_here = here & scatters[None, :]
    scatterings = p.scatterings + jnp.where(scattered_here, 1, 0).astype(jnp.float32)
    score = p.score
    if medium.versines is None:
        score = score + jnp.where(scattered_here, LAW.score(versine, g)[None, :], 0)

    beyond = jnp.where(down, layer + 1, layer - 1)
    n_beyond = pick(medium.n, beyond + 1)
    mirror, cos_beyond = LAW.reflectance(jnp.abs(uz), n_here, n_beyond)
    reflects = hits & (LAW.uniform(b1) < mirror)
    passes = hits & ~reflects
    leaves = passes & ((beyond < 0) | (beyond >= count))
    enters = passes & ~leaves

    absorbed = jnp.sum(jnp.asarray(medium.mu_a)[:, None] * length, axis=0)
    played = jnp.round(jnp.log(jnp.maximum(p.boost, 1)) / CONSOLATION)
    faint = (scatters | reflects) & roulette & (absorbed > FAINT + played * CONSOLATION)
    lots, _ = LAW.draw(*words, state.photon, state.event, ROULETTE)
    dies = faint & (LAW.uniform(lots) * ROULETTE_ODDS > 1)
    boost = jnp.where(faint, jnp.where(dies, 0, p.boost * ROULETTE_ODDS), p.boost)

    crosses = enters & (jnp.minimum(layer, beyond) == object_layer)
    kept = p.crossed_at.shape[0]
    nth = p.crossings - skip
    at = crosses[None, :] & (nth[None, :] == jnp.arange(kept, dtype=nth.dtype)[:, None])
    crossed_at = jnp.where(at[:, None, None, :], shift[None], p.crossed_at)

    clear = p.clear
    if grid is not None:
        x, y = state.start + jnp.sum(shift, axis=0)
        clear = jnp.where(crosses, clear * look_up(grid, x, y), clear)

    ratio = n_here / n_beyond
    outward = jnp.where(down, cos_beyond, -cos_beyond)
    bent = (ux * ratio, uy * ratio, outward)
    u = tuple(
        jnp.where(scatters, t, jnp.where(enters, b, o)) for t, b, o in zip(turned, bent, (ux, uy, uz), strict=True)
    )
    u = (u[0], u[1], jnp.where(reflects, -uz, u[2]))
    done = leaves | dies
    paths = Paths(
        jnp.where(leaves & down, 1, p.transmitted).astype(jnp.float32),
        jnp.where(scatters | reflects, 1, p.strayed).astype(jnp.float32),
        boost,
        clear,
        jnp.where(leaves[None, :], jnp.stack([bent[0], bent[1]]), p.direction),
        length,
        scatterings,
        score,
        shift,
        p.crossings + crosses.astype(jnp.int32),
        crossed_at,
        point,
    )
    return _Flight(
        jnp.where(state.flying, end, state.z),
        u,
        jnp.where(enters, beyond, layer),
        state.event + jnp.uint32(1),
        state.photon,
        state.slot,
        state.flying & ~done,
        state.waiting | done,
        state.start,
        paths,
    )


def _pack(p: Paths):
    """Paths with lanes last -> float32 table [lanes, pack_size]."""
    rows = [p.transmitted, p.strayed, p.boost, p.clear, p.crossings.astype(jnp.float32), *p.direction]
    rows += [*p.length, *p.scatterings, *p.score, *p.shift.reshape(-1, p.boost.shape[0])]
    rows += [*p.crossed_at.reshape(-1, p.boost.shape[0])]
    if p.point is not None:
        rows += [row for part in p.point for row in part.reshape(-1, p.boost.shape[0])]
    return jnp.stack(rows, axis=1)


def unpack(table, sublayers: int, kept: int, point: bool = False) -> Paths:
    """Table [..., pack_size] of `carry` -> Paths with photons as leading axes."""
    m, lead, at = sublayers, table.shape[:-1], 7

    def columns(number, shape=()):
        nonlocal at
        at += number
        return table[..., at - number : at].reshape(*lead, *shape)

    def layers():
        return columns(m, (m,)), columns(m, (m,)), columns(m, (m,)), columns(2 * m, (m, 2))

    gathered: Any = layers()
    crossings, crossed = table[..., 4].astype(jnp.int32), columns(2 * m * kept, (kept, m, 2))
    alone: Any = [columns(1) for _ in range(4)] if point else []
    chosen = Point(*alone, *layers()) if point else None
    head: Any = (table[..., 0], table[..., 1], table[..., 2], table[..., 3], table[..., 5:7])
    parts: Any = [*head, *gathered, crossings, crossed, chosen]
    return Paths(*parts)


@partial(jax.jit, static_argnames=("object_layer", "kept", "point"))
def carry(medium: Medium, words, photons, start, grid, skip, roulette, *, object_layer: int, kept: int, point=False):
    """Walk the photons numbered ``photons`` (uint32 [n]) to their end: float32 table [n, pack_size].

    ``start`` [n, 2] is where each meets the surface; with a `padded` ``grid`` the transmission of the
    object is multiplied at every crossing. Where the object comes later, both may be None.

    Keeps the displacement at crossings number ``skip`` .. ``skip + kept - 1`` of the object plane.
    ``roulette`` (bool scalar) ends faint photons by an unbiased game. Nobody is left in flight.
    """
    total, count = photons.shape[0], medium.mu_s.shape[0]
    lanes = min(LANES, total)
    zero, none = jnp.zeros(lanes, jnp.float32), jnp.zeros(lanes, jnp.int32)

    def blank(*shape):
        return jnp.zeros((*shape, lanes), jnp.float32)

    empty: Any = [*(blank() for _ in range(4)), *(blank(count) for _ in range(3)), blank(count, 2)]
    paths = Paths(
        zero,
        zero,
        zero,
        zero,
        blank(2),
        blank(count),
        blank(count),
        blank(count),
        blank(count, 2),
        none,
        blank(kept, count, 2),
        Point(*empty) if point else None,
    )
    off = jnp.zeros(lanes, bool)
    unsigned = jnp.zeros(lanes, jnp.uint32)
    state = _Flight(zero, (zero, zero, zero), none, unsigned, unsigned, none, off, off, blank(2), paths)
    first = jnp.arange(lanes, dtype=jnp.int32)

    def starts(slot):
        return blank(2) if start is None else jnp.take(start, slot, axis=0, mode="clip").T

    state = _launch(state, jnp.ones(lanes, bool), photons[:lanes], first, starts(first))
    table = jnp.zeros((total, pack_size(count, kept, point)), jnp.float32)

    def unfinished(loop):
        return jnp.any(loop[0].flying)

    def turn(loop):
        state, table, head = loop
        state = lax.fori_loop(
            0,
            EVENTS_PER_HARVEST,
            lambda _, s: _event(s, medium, words, grid, object_layer, skip, roulette),
            state,
        )
        table = table.at[jnp.where(state.waiting, state.slot, total)].set(_pack(state.paths), mode="drop")
        order = jnp.cumsum(state.waiting.astype(jnp.int32))
        slot = head + order - 1
        go = state.waiting & (slot < total)
        photon = jnp.take(photons, slot, mode="clip")
        state = _launch(state._replace(waiting=state.waiting & go), go, photon, slot, starts(slot))
        return state, table, jnp.minimum(head + order[-1], total)

    _, table, _ = lax.while_loop(unfinished, turn, (state, table, jnp.asarray(lanes, jnp.int32)))
    return table
