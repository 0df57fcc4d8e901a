"""The photon walk on a processor: `law` as one vectorised loop over the lanes of a small swarm.

LANES photons fly at once, their state in the first-level cache. One pass over the swarm is two loops: the first is
free of branches and becomes vector code (flight and scattering of every lane); the second handles lane by lane what is
rare or scattered in memory (tallies of the layer, interfaces, the object, the roulette, and a new photon for a
lane whose photon has finished). A finished photon leaves one row of the table; nobody is left in flight.
"""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import jax
import numpy as np
from numba import njit

from qtwin.core.compiled import CPU, FAST, INNER, exp, widest
from qtwin.tissue.law import CONSOLATION, FAINT, PATH, POINT, ROULETTE, ROULETTE_ODDS, law
from qtwin.tissue.paths import pack_size
from qtwin.tissue.swarm_tallies import count, counters, means, neighbourhood, reweigh

LANES = 192
POOL = 512  # rows of photons that wait to be counted
FOUR = np.uint16(4)  # numbers of a row that are moved at once, as one complex number
CALL = 1 << 20  # photons between two looks at the keyboard
AIMED = 1 << 16  # the same where every photon has a start of its own, of START bytes with all copies
START = 256
# rows of the swarm's state: flight, medium, what was gathered since the lane entered its layer, and the kept point
(_Z, _UX, _UY, _UZ, _TOP, _BOTTOM, _MU_A, _MU_S, _G, _ABSORBED, _LIMIT, _BOOST, _TOTAL) = range(13)
(_LENGTH, _COUNT, _SCORE, _DX, _DY) = range(13, 18)
(_P_NEW, _P_BOOST, _P_Z, _P_LENGTH, _P_COUNT, _P_SCORE, _P_DX, _P_DY) = range(18, 26)
_WEIGHT = 26  # of the photon when it was last counted what the layer has absorbed
ROWS = 27
_PHOTON, _EVENT, _STATE, _LUCK = range(4)
_SCATTERED, _HIT, _FAINT, _IDLE = (np.uint32(i) for i in range(4))
# columns of a row of the table before the layers; see `qtwin.tissue.paths.unpack`
_TRANSMITTED, _STRAYED, _WON, _CLEAR, _CROSSINGS, _DIRECTION, HEAD = 0, 1, 2, 3, 4, 5, 7
_BEFORE = _CLEAR  # where photons are counted there is no object: the weight not yet counted as absorbed
_POINT_BOOST, _POINT_LAYER, _POINT_PLACE, _POINT_TOTAL, POINT_HEAD = 0, 1, 2, 3, 4

_draw, _angles, _fly, _versine, _score, _turn, _reflectance, _uniform, _choose = law(CPU)
_where = CPU.where
_ZERO, _ONE, _FIRST = np.float32(0), np.float32(1), np.uint32(0)
_NOTHING = np.complex128(0)
_ENDLESS = np.float32(np.inf)
_FAINT_AT, _LATER, _ODDS = np.float32(FAINT), np.float32(CONSOLATION), np.float32(ROULETTE_ODDS)


@njit(**INNER, forceinline=True)
def _looked_up(versines, cells, first, u):
    """Straight lines between the quantiles of a layer, which begin at ``first`` of ``versines``; exact up to 2^24."""
    place = u * cells
    cell = np.uint32(place)
    at = np.uint32(first) + cell
    low, high = versines[at], versines[np.uint32(at + np.uint32(1))]
    return low + (place - np.float32(cell)) * (high - low)


@njit(**INNER)
def _advance(k0, k1, point, scored, aimed, versines, cells, real, word):
    """Fly and scatter every lane; with ``point`` (else None) keep one point of each path, with ``scored`` the score.

    The state stands in rows of LANES numbers, at constant distances: the compiler sees that they do not overlap.
    A photon at its first event starts straight down, unless ``aimed``; one that has met a face and passed has gathered
    nothing yet in its layer. Both are said here, without branches, rather than lane by lane.
    """
    widest()
    for i in range(LANES):
        photon, event, state = word[_PHOTON * LANES + i], word[_EVENT * LANES + i], word[_STATE * LANES + i]
        first, entered = event == _FIRST, state == _HIT
        b0, b1 = _draw(k0, k1, photon, event, PATH)
        u, h = _angles(b1)
        ux, uy, uz, z = real[_UX * LANES + i], real[_UY * LANES + i], real[_UZ * LANES + i], real[_Z * LANES + i]
        if aimed is None:
            ux, uy, uz = _where(first, _ZERO, ux), _where(first, _ZERO, uy), _where(first, _ONE, uz)
            z = _where(first, _ZERO, z)
        g = real[_G * LANES + i]
        step, hits, end = _fly(z, uz, real[_TOP * LANES + i], real[_BOTTOM * LANES + i], real[_MU_S * LANES + i], b0)
        versine = _versine(u, g) if versines is None else _looked_up(versines, cells, g, u)
        vx, vy, vz = _turn(ux, uy, uz, versine, h)
        absorbed = _where(first, _ZERO, real[_ABSORBED * LANES + i]) + real[_MU_A * LANES + i] * step
        length = _where(entered, _ZERO, real[_LENGTH * LANES + i])
        count, score = _where(entered, _ZERO, real[_COUNT * LANES + i]), _ZERO
        if scored is not None:
            score = _where(entered, _ZERO, real[_SCORE * LANES + i])
            real[_SCORE * LANES + i] = score + _where(hits, _ZERO, _score(versine, g))
        dx, dy = _where(entered, _ZERO, real[_DX * LANES + i]), _where(entered, _ZERO, real[_DY * LANES + i])
        if point is not None:
            total = _where(first, _ZERO, real[_TOTAL * LANES + i])
            b2, b3 = _draw(k0, k1, photon, event, POINT)
            chosen, part = _choose(step, total, b2, b3)
            some = part * step
            real[_TOTAL * LANES + i] = total + step
            real[_P_NEW * LANES + i] = _where(chosen, _ONE, _where(entered, _ZERO, real[_P_NEW * LANES + i]))
            real[_P_BOOST * LANES + i] = _where(chosen, real[_BOOST * LANES + i], real[_P_BOOST * LANES + i])
            real[_P_Z * LANES + i] = _where(chosen, z + uz * some, real[_P_Z * LANES + i])
            real[_P_LENGTH * LANES + i] = _where(chosen, length + some, real[_P_LENGTH * LANES + i])
            real[_P_COUNT * LANES + i] = _where(chosen, count, real[_P_COUNT * LANES + i])
            real[_P_SCORE * LANES + i] = _where(chosen, score, real[_P_SCORE * LANES + i])
            real[_P_DX * LANES + i] = _where(chosen, dx + ux * some, real[_P_DX * LANES + i])
            real[_P_DY * LANES + i] = _where(chosen, dy + uy * some, real[_P_DY * LANES + i])
        real[_Z * LANES + i] = end
        real[_UX * LANES + i] = _where(hits, ux, vx)
        real[_UY * LANES + i] = _where(hits, uy, vy)
        real[_UZ * LANES + i] = _where(hits, uz, vz)
        real[_ABSORBED * LANES + i] = absorbed
        real[_LENGTH * LANES + i] = length + step
        real[_COUNT * LANES + i] = count + _where(hits, _ZERO, _ONE)
        real[_DX * LANES + i] = dx + ux * step
        real[_DY * LANES + i] = dy + uy * step
        word[_LUCK * LANES + i] = b1
        word[_EVENT * LANES + i] = np.uint32(event + np.uint32(1))
        met = _where(hits, _HIT, _where(absorbed > real[_LIMIT * LANES + i], _FAINT, _SCATTERED))
        word[_STATE * LANES + i] = _where(state == _IDLE, _IDLE, met)


@njit(**INNER, forceinline=True)
def _leave(rows, lane, out, place, zero, columns):
    """Move a lane's row to row ``place`` of ``out``, zeros in its place."""
    for k in range(columns):
        out[place, k] = rows[lane, k]
        rows[lane, k] = zero


@njit(**INNER, forceinline=True)
def _look_up(values, cell, x, y):
    """Bilinear transmission of a `padded` grid, as `qtwin.scene.grid.look_up`."""
    rows, columns = values.shape
    cx = min(max(x / cell + np.float32((columns - 1) / 2), _ZERO), np.float32(columns - 1))
    cy = min(max(y / cell + np.float32((rows - 1) / 2), _ZERO), np.float32(rows - 1))
    ix, iy = min(int(cx), columns - 2), min(int(cy), rows - 2)
    fx, fy = cx - np.float32(ix), cy - np.float32(iy)
    high = values[iy, ix] * (_ONE - fx) + values[iy, ix + 1] * fx
    low = values[iy + 1, ix] * (_ONE - fx) + values[iy + 1, ix + 1] * fx
    return high * (_ONE - fy) + low * fy


@njit(**INNER, forceinline=True)
def _enter(lane, layer, real, medium):
    """Copy what a lane needs of its layer; medium rows: top, bottom, mu_a, mu_s, g."""
    for k in range(5):
        real[(_TOP + k) * LANES + lane] = medium[k, layer]


@njit(**INNER, forceinline=True)
def _gather(lane, layer, count, first, at, real, rows):
    """Add the five rows of ``real`` from ``first`` on to the columns of ``layer`` of its row, which begin at ``at``."""
    rows[lane, at + layer] += real[first * LANES + lane]
    rows[lane, at + count + layer] += real[(first + 1) * LANES + lane]
    rows[lane, at + 2 * count + layer] += real[(first + 2) * LANES + lane]
    rows[lane, at + 3 * count + 2 * layer] += real[(first + 3) * LANES + lane]
    rows[lane, at + 3 * count + 2 * layer + 1] += real[(first + 4) * LANES + lane]


@njit(**INNER, forceinline=True)
def _flush(lane, layer, count, point, at_point, real, rows):
    """Add what the lane has gathered in ``layer`` to its row, the kept point first if it lies in this stay."""
    if point is not None:
        if real[_P_NEW * LANES + lane] > _ZERO:
            here = at_point + POINT_HEAD
            for k in range(5 * count):
                rows[lane, here + k] = rows[lane, HEAD + k]
            _gather(lane, layer, count, _P_LENGTH, here, real, rows)
            top, bottom = real[_TOP * LANES + lane], real[_BOTTOM * LANES + lane]
            rows[lane, at_point + _POINT_BOOST] = real[_P_BOOST * LANES + lane]
            rows[lane, at_point + _POINT_LAYER] = np.float32(layer)
            rows[lane, at_point + _POINT_PLACE] = (real[_P_Z * LANES + lane] - top) / (bottom - top)
    _gather(lane, layer, count, _LENGTH, HEAD, real, rows)
    if real[_COUNT * LANES + lane] > _ZERO:
        rows[lane, _STRAYED] = _ONE


@njit(**INNER, forceinline=True)
def _absorb(lane, layer, real, tallied):
    """Count what the layer has absorbed since the lane was last looked at."""
    weight = real[_BOOST * LANES + lane] * exp(-real[_ABSORBED * LANES + lane])
    tallied.absorbed[layer] += real[_WEIGHT * LANES + lane] - weight
    real[_WEIGHT * LANES + lane] = weight


@njit(**INNER, forceinline=True)
def _cross(lane, count, skip, kept, rows, grid, cell, x, y):
    """The lane passes the object plane: keep its displacement, dim it by the object at (x, y) + displacement."""
    shift, crossed = HEAD + 3 * count, HEAD + 5 * count
    nth = int(rows[lane, _CROSSINGS]) - skip
    rows[lane, _CROSSINGS] += _ONE
    for k in range(2 * count):
        if 0 <= nth < kept:
            rows[lane, crossed + 2 * count * nth + k] = rows[lane, shift + k]
    if grid is not None:
        for k in range(count):
            x += rows[lane, shift + 2 * k]
            y += rows[lane, shift + 2 * k + 1]
        rows[lane, _CLEAR] *= _look_up(grid, cell, x, y)


@njit(**INNER, forceinline=True)
def _launch(lane, photon, patience, real, word):
    """Start a photon; `_advance` does the rest. ``patience``: the absorption after which the roulette is played."""
    word[_PHOTON * LANES + lane], word[_EVENT * LANES + lane], word[_STATE * LANES + lane] = photon, _FIRST, _HIT
    real[_BOOST * LANES + lane], real[_WEIGHT * LANES + lane], real[_LIMIT * LANES + lane] = _ONE, _ONE, patience


@njit(**INNER, forceinline=True)
def _aim(lane, rays, nth, at_shift, real, rows):
    """Start it elsewhere: x, y (as a displacement of the first layer), z, direction, weight."""
    rows[lane, at_shift], rows[lane, at_shift + 1] = rays[nth, 0], rays[nth, 1]
    real[_Z * LANES + lane] = rays[nth, 2]
    real[_UX * LANES + lane], real[_UY * LANES + lane] = rays[nth, 3], rays[nth, 4]
    real[_UZ * LANES + lane] = rays[nth, 5]
    real[_BOOST * LANES + lane], real[_WEIGHT * LANES + lane] = rays[nth, 6], rays[nth, 6]


@njit(**FAST)
def _walk(
    medium,
    n,
    k0,
    k1,
    photons,
    rays,
    start,
    grid,
    cell,
    skip,
    roulette,
    object_layer,
    kept,
    point,
    scored,
    absorbing,
    versines,
    cells,
    table,
    use,
    tallied,
):
    """Carry ``photons`` to their end; row i of ``table`` is photon i of the list.

    ``rays`` [n, 8]: x, y, z, direction, weight and layer of every start; without (None) on the axis, straight down.
    ``point``, ``scored``, ``absorbing``: keep a point of each path, its scores, what each layer absorbs (into
    ``tallied``), or None. ``versines``: quantiles, ``cells`` cells per layer (the medium's g is where they begin), or
    None for Henyey-Greenstein. With ``tallied`` what ``use`` wants of finished photons is added there, and rows are
    used again.
    """
    widest()
    # narrow and unsigned: an index that may be negative is tested at every access
    total, layers, columns = len(photons), np.uint16(medium.shape[1]), np.uint16(table.shape[1])
    real, word = np.zeros(ROWS * LANES, np.float32), np.zeros(4 * LANES, np.uint32)
    layer, slot, busy = np.zeros(LANES, np.uint16), np.zeros(LANES, np.uint32), np.zeros(LANES, np.uint16)
    rows = np.zeros((LANES, table.shape[1]), np.float32)  # of the photons in flight
    if tallied is not None:
        lines, table_lines = rows.view(np.complex128), table.view(np.complex128)
    at_point = HEAD + 5 * layers + 2 * layers * kept
    patience = _FAINT_AT if roulette else _ENDLESS
    head = min(LANES, total)
    live, spent = head, np.uint16(0)
    for i in range(LANES):
        word[_STATE * LANES + i] = _IDLE
    for i in range(head):
        slot[i] = i
        _launch(i, photons[i], patience, real, word)
        if tallied is None:
            rows[i, _CLEAR] = _ONE
        if rays is not None:
            _aim(i, rays, i, HEAD + 3 * layers, real, rows)
            layer[i] = np.uint16(rays[i, 7])
        _enter(i, layer[i], real, medium)
    while live > 0:
        _advance(k0, k1, point, scored, rays, versines, cells, real, word)
        some = 0
        for i in range(LANES):
            busy[some] = i
            some += word[_STATE * LANES + i] != _SCATTERED
        for j in range(some):
            i = busy[j]
            state = word[_STATE * LANES + i]
            if state == _IDLE:
                continue
            here = layer[i]
            side = here + 1  # number of the medium beyond, the outside included
            if state == _HIT:
                uz = real[_UZ * LANES + i]
                down = uz > _ZERO
                side = here + 2 * down
                n_here, n_beyond = n[here + 1], n[side]
                if n_here != n_beyond:
                    mirror, out = _reflectance(abs(uz), n_here, n_beyond)
                    if _uniform(word[_LUCK * LANES + i]) < mirror:
                        real[_UZ * LANES + i] = -uz
                        rows[i, _STRAYED] = _ONE
                        word[_STATE * LANES + i] = _SCATTERED
                        if not real[_ABSORBED * LANES + i] > real[_LIMIT * LANES + i]:
                            continue
                        state = _FAINT
                    else:
                        bend = n_here / n_beyond
                        real[_UX * LANES + i] *= bend
                        real[_UY * LANES + i] *= bend
                        real[_UZ * LANES + i] = out if down else -out
            done = (side == 0) | (side == layers + 1)  # without a branch
            if absorbing is not None and (state == _FAINT or not done):  # else `use` knows its weight
                _absorb(i, here, real, tallied)
            if state == _FAINT:
                event = np.uint32(word[_EVENT * LANES + i] - np.uint32(1))
                lots, _ = _draw(k0, k1, word[_PHOTON * LANES + i], event, ROULETTE)
                done = _uniform(lots) * _ODDS > _ONE
                real[_BOOST * LANES + i] *= _ZERO if done else _ODDS
                real[_WEIGHT * LANES + i] *= _ZERO if done else _ODDS
                real[_LIMIT * LANES + i] += _LATER
            elif done:
                rows[i, _TRANSMITTED] = _where(down, _ONE, _ZERO)
                rows[i, _DIRECTION] = real[_UX * LANES + i]
                rows[i, _DIRECTION + 1] = real[_UY * LANES + i]
            if done or state == _HIT:
                _flush(i, here, layers, point, at_point, real, rows)
            if done:
                rows[i, _WON] = real[_BOOST * LANES + i]
                if point is not None:
                    rows[i, at_point + _POINT_TOTAL] = real[_TOTAL * LANES + i]
                if tallied is None:
                    _leave(rows, i, table, slot[i], _ZERO, columns)
                else:
                    rows[i, _BEFORE] = real[_WEIGHT * LANES + i]
                    _leave(lines, i, table_lines, spent, _NOTHING, columns // FOUR)
                    spent = np.uint16(spent + 1)
                    if spent == len(table):
                        use(table, spent, HEAD, at_point, point, tallied)
                        spent = np.uint16(0)
                if head < total:
                    slot[i] = head
                    _launch(i, photons[head], patience, real, word)
                    layer[i] = 0
                    if tallied is None:
                        rows[i, _CLEAR] = _ONE
                    if rays is not None:
                        _aim(i, rays, head, HEAD + 3 * layers, real, rows)
                        layer[i] = np.uint16(rays[head, 7])
                    if here != layer[i]:
                        _enter(i, layer[i], real, medium)
                    head += 1
                else:
                    word[_STATE * LANES + i] = _IDLE
                    live -= 1
            elif state == _HIT:
                layer[i] = side - 1
                _enter(i, side - 1, real, medium)
                if object_layer is not None and min(here, side - 1) == object_layer:
                    x, y = (start[slot[i], 0], start[slot[i], 1]) if len(start) else (_ZERO, _ZERO)
                    _cross(i, layers, skip, kept, rows, grid, cell, x, y)
    if tallied is not None:
        use(table, spent, HEAD, at_point, point, tallied)


def carry(medium, words, photons, start, grid, skip, roulette, table, rays, *, object_layer, kept, point, threads):
    """As `qtwin.tissue.carry.carry`, on ``threads`` threads of this processor, into ``table``."""
    numbers, n, *laws = _numbers(medium)
    k0, k1 = (np.uint32(w) for w in words)
    photons = np.ascontiguousarray(photons, np.uint32)
    start = np.zeros((0, 2), np.float32) if start is None else np.ascontiguousarray(start, np.float32)
    values = None if grid is None else np.ascontiguousarray(grid.values, np.float32)
    cell = np.float32(1 if grid is None else grid.cell)
    scored = True if medium.versines is None else None
    fixed = (values, cell, int(skip), bool(roulette), object_layer, kept, True if point else None, scored, None, *laws)

    def part(bounds):
        a, b = bounds
        aimed, some = None if rays is None else rays[a:b], start[a:b] if len(start) else start
        _walk(numbers, n, k0, k1, photons[a:b], aimed, some, *fixed, table[a:b], None, None)

    edges = np.linspace(0, len(photons), threads + 1).astype(int)
    bounds = [(a, b) for a, b in pairwise(edges) if b > a]
    if len(bounds) == 1:
        part(bounds[0])
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(part, bounds))


def _numbers(medium):
    """What the loop reads of the medium: [5, L], [L + 2], quantiles in one row or None, cells of each layer."""
    numbers, n = np.stack([np.asarray(a, np.float32) for a in medium[:5]]), np.asarray(medium.n, np.float32)
    if medium.versines is None:
        return numbers, n, None, _ZERO
    versines = np.asarray(medium.versines, np.float32)
    numbers[4] = np.arange(len(versines)) * versines.shape[1]
    return numbers, n, np.ravel(versines), np.float32(versines.shape[1] - 1)


def _whole(columns: int) -> int:
    """Numbers of a row that is moved in whole lines."""
    return -(-columns // 16) * 16


def memory(layers: int, bins, threads: int, aimed: bool = False) -> int:
    """Bytes that `tally` holds."""
    row = 4 * _whole(pack_size(layers, 0, point=True))
    cells = 2 * (bins.rings + bins.times + bins.angles) + layers * bins.depths + 3 * layers * (4 + layers)
    return threads * ((LANES + POOL) * row + aimed * AIMED * START) + 8 * (threads + 64) * cells


def tally(
    medium,
    words,
    photons: int,
    blocks: int | range,
    bins,
    numerical_aperture: float,
    *,
    points,
    derivatives,
    threads,
    rays=None,
):
    """Walk ``blocks`` (how many, or a range) of ``photons`` each: `Sums` and `Moments`, stacked along the first axis.

    Without ``points`` there is no curve over depth, and without them or ``derivatives`` no moments. ``rays``: from
    photon numbers [n] to their starts, float32 [n, 8]; straight light then is counted like all other.
    """
    scored = derivatives and medium.versines is None
    keep = (True if points else None, True if scored else None, None if points else True)
    kept = (points, derivatives, rays is not None)
    given = (np.asarray(medium.mu_a), np.asarray(medium.n)[1:-1], bins, numerical_aperture, *kept)
    found = _blocks(medium, words, photons, blocks, keep, count, lambda: counters(*given), threads, rays)
    return jax.tree.map(lambda *a: np.stack(a), *(means(c, photons) for c in found))


def sweep(medium, words, photons: int, blocks: int, by_length, by_scattering, losses, threads):
    """As `tally`, for V neighbouring slabs: means [blocks, 4, V] of reflected, transmitted, likelihood, its square.

    ``by_length``, ``by_scattering`` and ``losses`` [L, V]: logarithms of the likelihood and of what is left.
    """
    logs = [np.ascontiguousarray(a, np.float32) for a in (by_length, by_scattering, losses)]
    found = _blocks(medium, words, photons, blocks, (None, None, None), reweigh, lambda: neighbourhood(*logs), threads)
    return np.stack([c.sums / photons for c in found])


def _blocks(medium, words, photons, blocks, keep, use, make, threads, rays=None) -> list:
    """Walk every block; what ``use`` adds to what ``make`` makes."""
    numbers, n, *laws = _numbers(medium)
    k0, k1 = (np.uint32(w) for w in words)
    none, shape = np.zeros((0, 0), np.float32), (POOL, _whole(pack_size(len(medium.mu_a), 0, point=bool(keep[0]))))

    def block(b):
        table, found = np.empty(shape, np.float32), make()
        size = CALL if rays is None else AIMED
        for first in range(b * photons, (b + 1) * photons, size):
            some = np.arange(first, min(first + size, (b + 1) * photons), dtype=np.uint32)
            aimed = None if rays is None else rays(some)
            if aimed is not None:
                found.sides[4] += np.sum(1 - aimed[:, 6], dtype=float)
            _walk(numbers, n, k0, k1, some, aimed, none, None, _ONE, 0, True, None, 0, *keep, *laws, table, use, found)
        return found

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(block, blocks if isinstance(blocks, range) else range(blocks)))
