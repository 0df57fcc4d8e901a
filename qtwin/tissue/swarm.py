"""The photon walk on a processor: `law` as one vectorised loop over the lanes of a small swarm.

LANES photons fly at once, their state in the first-level cache. One pass over the swarm is two loops: the first is
free of branches and becomes vector code (flight and scattering of every lane); the second handles lane by lane what is
rare or scattered in memory (tallies of the layer, interfaces, the object, the roulette, and a new photon for a
lane whose photon has finished). A finished photon writes one row of the table; nobody is left in flight.
"""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import jax
import numpy as np
from numba import njit

from qtwin.core.compiled import CPU, FAST, exp
from qtwin.tissue.law import CONSOLATION, FAINT, PATH, POINT, ROULETTE, ROULETTE_ODDS, law
from qtwin.tissue.paths import pack_size
from qtwin.tissue.swarm_tallies import count, counters, means, neighbourhood, reweigh

LANES = 192
POOL = 512  # rows of photons that wait to be counted
CALL = 1 << 20  # photons between two looks at the keyboard
AIMED = 1 << 16  # the same where every photon has a start of its own, of START bytes with all copies
START = 256
# rows of the swarm's state: flight, medium, what was gathered since the lane entered its layer, and the kept point
(_Z, _UX, _UY, _UZ, _TOP, _BOTTOM, _MU_A, _MU_S, _G, _ABSORBED, _LIMIT, _BOOST, _TOTAL) = range(13)
(_LENGTH, _COUNT, _SCORE, _DX, _DY) = range(13, 18)
(_P_NEW, _P_BOOST, _P_Z, _P_LENGTH, _P_COUNT, _P_SCORE, _P_DX, _P_DY) = range(18, 26)
_WEIGHT = 26  # when it was last counted what the layer has absorbed
ROWS = 27
_PHOTON, _EVENT, _STATE, _LUCK = range(4)
_SCATTERED, _HIT, _FAINT, _IDLE = (np.uint32(i) for i in range(4))
# columns of a row of the table before the layers; see `qtwin.tissue.paths.unpack`
_TRANSMITTED, _STRAYED, _WON, _CLEAR, _CROSSINGS, _DIRECTION, HEAD = 0, 1, 2, 3, 4, 5, 7
_POINT_BOOST, _POINT_LAYER, _POINT_PLACE, _POINT_TOTAL, POINT_HEAD = 0, 1, 2, 3, 4

_draw, _angles, _fly, _versine, _score, _turn, _reflectance, _uniform, _choose = law(CPU)
_where = CPU.where
_ZERO, _ONE, _FIRST = np.float32(0), np.float32(1), np.uint32(0)
_ENDLESS = np.float32(np.inf)
_FAINT_AT, _LATER, _ODDS = np.float32(FAINT), np.float32(CONSOLATION), np.float32(ROULETTE_ODDS)


@njit(**FAST)
def _advance(k0, k1, point, scored, real, word):
    """Fly and scatter every lane; with ``point`` (else None) keep one point of each path, with ``scored`` the score.

    The state stands in rows of LANES numbers, at constant distances: the compiler sees that they do not overlap.
    """
    for i in range(LANES):
        photon, event = word[_PHOTON * LANES + i], word[_EVENT * LANES + i]
        b0, b1 = _draw(k0, k1, photon, event, PATH)
        u, h = _angles(b1)
        ux, uy, uz, z = real[_UX * LANES + i], real[_UY * LANES + i], real[_UZ * LANES + i], real[_Z * LANES + i]
        g = real[_G * LANES + i]
        step, hits, end = _fly(z, uz, real[_TOP * LANES + i], real[_BOTTOM * LANES + i], real[_MU_S * LANES + i], b0)
        versine = _versine(u, g)
        vx, vy, vz = _turn(ux, uy, uz, versine, h)
        absorbed = real[_ABSORBED * LANES + i] + real[_MU_A * LANES + i] * step
        length, count, score = real[_LENGTH * LANES + i], real[_COUNT * LANES + i], _ZERO
        if scored is not None:
            score = real[_SCORE * LANES + i]
            real[_SCORE * LANES + i] = score + _where(hits, _ZERO, _score(versine, g))
        dx, dy = real[_DX * LANES + i], real[_DY * LANES + i]
        if point is not None:
            total = real[_TOTAL * LANES + i]
            b2, b3 = _draw(k0, k1, photon, event, POINT)
            chosen, part = _choose(step, total, b2, b3)
            some = part * step
            real[_TOTAL * LANES + i] = total + step
            real[_P_NEW * LANES + i] = _where(chosen, _ONE, real[_P_NEW * LANES + i])
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
        state = word[_STATE * LANES + i]
        word[_STATE * LANES + i] = _where(state == _IDLE, _IDLE, met)


@njit(**FAST, forceinline=True)
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


@njit(**FAST, forceinline=True)
def _enter(lane, layer, real, medium):
    """Copy what a lane needs of its layer; medium rows: top, bottom, mu_a, mu_s, g."""
    for k in range(5):
        real[(_TOP + k) * LANES + lane] = medium[k, layer]


@njit(**FAST, forceinline=True)
def _gather(lane, layer, count, first, at, real, row):
    """Add the five rows of ``real`` from ``first`` on to the columns of ``layer`` in ``row``, which begin at ``at``."""
    row[at + layer] += real[first * LANES + lane]
    row[at + count + layer] += real[(first + 1) * LANES + lane]
    row[at + 2 * count + layer] += real[(first + 2) * LANES + lane]
    row[at + 3 * count + 2 * layer] += real[(first + 3) * LANES + lane]
    row[at + 3 * count + 2 * layer + 1] += real[(first + 4) * LANES + lane]


@njit(**FAST, forceinline=True)
def _flush(lane, layer, count, point, at_point, real, row):
    """Add what the lane has gathered in ``layer`` to its row, the kept point first if it lies in this stay."""
    if point is not None:
        if real[_P_NEW * LANES + lane] > _ZERO:
            here = at_point + POINT_HEAD
            for k in range(5 * count):
                row[here + k] = row[HEAD + k]
            _gather(lane, layer, count, _P_LENGTH, here, real, row)
            top, bottom = real[_TOP * LANES + lane], real[_BOTTOM * LANES + lane]
            row[at_point + _POINT_BOOST] = real[_P_BOOST * LANES + lane]
            row[at_point + _POINT_LAYER] = np.float32(layer)
            row[at_point + _POINT_PLACE] = (real[_P_Z * LANES + lane] - top) / (bottom - top)
            real[_P_NEW * LANES + lane] = _ZERO
    _gather(lane, layer, count, _LENGTH, HEAD, real, row)
    if real[_COUNT * LANES + lane] > _ZERO:
        row[_STRAYED] = _ONE


@njit(**FAST, forceinline=True)
def _absorb(lane, layer, real, tallied):
    """Count what the layer has absorbed since the lane was last looked at."""
    weight = real[_BOOST * LANES + lane] * exp(-real[_ABSORBED * LANES + lane])
    tallied.absorbed[layer] += real[_WEIGHT * LANES + lane] - weight
    real[_WEIGHT * LANES + lane] = weight


@njit(**FAST, forceinline=True)
def _cross(count, skip, kept, row, grid, cell, x, y):
    """The lane passes the object plane: keep its displacement, dim it by the object at (x, y) + displacement."""
    shift, crossed = HEAD + 3 * count, HEAD + 5 * count
    nth = int(row[_CROSSINGS]) - skip
    row[_CROSSINGS] += _ONE
    for k in range(2 * count):
        if 0 <= nth < kept:
            row[crossed + 2 * count * nth + k] = row[shift + k]
    if grid is not None:
        for k in range(count):
            x += row[shift + 2 * k]
            y += row[shift + 2 * k + 1]
        row[_CLEAR] *= _look_up(grid, cell, x, y)


@njit(**FAST, forceinline=True)
def _launch(lane, photon, patience, real, word, row):
    """Start a photon at the surface, straight down, with nothing gathered yet.

    ``patience`` is the absorption after which the roulette is played.
    """
    word[_PHOTON * LANES + lane], word[_EVENT * LANES + lane] = photon, _FIRST
    word[_STATE * LANES + lane] = _SCATTERED
    for k in (_Z, _UX, _UY, _ABSORBED, _TOTAL, _P_NEW):
        real[k * LANES + lane] = _ZERO
    for k in range(_LENGTH, _DY + 1):
        real[k * LANES + lane] = _ZERO
    real[_UZ * LANES + lane], real[_BOOST * LANES + lane], real[_WEIGHT * LANES + lane] = _ONE, _ONE, _ONE
    real[_LIMIT * LANES + lane] = patience
    for k in range(len(row)):
        row[k] = _ZERO
    row[_CLEAR] = _ONE


@njit(**FAST, forceinline=True)
def _aim(lane, ray, at_shift, real, row):
    """Start it elsewhere: x, y (as a displacement of the first layer), z, direction, weight."""
    row[at_shift], row[at_shift + 1] = ray[0], ray[1]
    real[_Z * LANES + lane] = ray[2]
    real[_UX * LANES + lane], real[_UY * LANES + lane], real[_UZ * LANES + lane] = ray[3], ray[4], ray[5]
    real[_BOOST * LANES + lane], real[_WEIGHT * LANES + lane] = ray[6], ray[6]


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
    table,
    use,
    tallied,
):
    """Carry ``photons`` to their end; row i of ``table`` is photon i of the list.

    ``rays`` [n, 8]: x, y, z, direction, weight and layer of every start; without (None) on the axis, straight down.
    ``point``, ``scored``, ``absorbing``: keep a point of each path, its scores, what each layer absorbs (into
    ``tallied``), or None. With ``tallied`` what ``use`` wants of finished photons is added there, and rows are used
    again.
    """
    total, layers = len(photons), medium.shape[1]
    real, word = np.zeros(ROWS * LANES, np.float32), np.zeros(4 * LANES, np.uint32)
    # unsigned: an index that may be negative is tested at every access
    layer, slot, busy = np.zeros(LANES, np.uint16), np.zeros(LANES, np.uint32), np.zeros(LANES, np.uint16)
    at_point = HEAD + 5 * layers + 2 * layers * kept
    patience = _FAINT_AT if roulette else _ENDLESS
    head = min(LANES, total)
    live, free, spent = head, np.int64(head), np.int64(0)  # typed: a literal 0 would compile `count` twice
    rows, done_rows = np.empty(len(table), np.uint32), np.empty(len(table), np.uint32)  # unused from ``free`` on; done
    for i in range(len(table)):
        rows[i] = i
    for i in range(LANES):
        word[_STATE * LANES + i] = _IDLE
    for i in range(head):
        slot[i] = i
        _launch(i, photons[i], patience, real, word, table[i])
        if rays is not None:
            _aim(i, rays[i], HEAD + 3 * layers, real, table[i])
            layer[i] = np.uint16(rays[i, 7])
        _enter(i, layer[i], real, medium)
    while live > 0:
        _advance(k0, k1, point, scored, real, word)
        some = 0
        for i in range(LANES):
            busy[some] = i
            some += word[_STATE * LANES + i] != _SCATTERED
        for j in range(some):
            i = busy[j]
            state = word[_STATE * LANES + i]
            if state == _IDLE:
                continue
            here, row = layer[i], table[slot[i]]
            done, beyond = False, here
            if state == _HIT:
                uz = real[_UZ * LANES + i]
                down = uz > _ZERO
                beyond = here + 1 if down else here - 1
                n_here, n_beyond = n[here + 1], n[beyond + 1]
                if n_here != n_beyond:
                    mirror, out = _reflectance(abs(uz), n_here, n_beyond)
                    if _uniform(word[_LUCK * LANES + i]) < mirror:
                        real[_UZ * LANES + i] = -uz
                        row[_STRAYED] = _ONE
                        if not real[_ABSORBED * LANES + i] > real[_LIMIT * LANES + i]:
                            continue
                        state = _FAINT
                    else:
                        bend = n_here / n_beyond
                        real[_UX * LANES + i] *= bend
                        real[_UY * LANES + i] *= bend
                        real[_UZ * LANES + i] = out if down else -out
            if absorbing is not None:
                _absorb(i, here, real, tallied)
            if state == _FAINT:
                event = np.uint32(word[_EVENT * LANES + i] - np.uint32(1))
                lots, _ = _draw(k0, k1, word[_PHOTON * LANES + i], event, ROULETTE)
                done = _uniform(lots) * _ODDS > _ONE
                real[_BOOST * LANES + i] *= _ZERO if done else _ODDS
                real[_WEIGHT * LANES + i] *= _ZERO if done else _ODDS
                real[_LIMIT * LANES + i] += _LATER
            else:
                done = beyond < 0 or beyond >= layers
                if done:
                    down = beyond > here
                    row[_TRANSMITTED] = _ONE if down else _ZERO
                    row[_DIRECTION] = real[_UX * LANES + i]
                    row[_DIRECTION + 1] = real[_UY * LANES + i]
            if done or state == _HIT:
                _flush(i, here, layers, point, at_point, real, row)
            if done:
                row[_WON] = real[_BOOST * LANES + i]
                if point is not None:
                    row[at_point + _POINT_TOTAL] = real[_TOTAL * LANES + i]
                if tallied is not None:
                    done_rows[spent] = slot[i]
                    spent += 1
                    if free == len(rows):
                        use(table, done_rows, spent, HEAD, at_point, point, tallied)
                        free -= spent
                        for k in range(spent):
                            rows[free + k] = done_rows[k]
                        spent = np.int64(0)
                if head < total:
                    slot[i] = rows[free]
                    _launch(i, photons[head], patience, real, word, table[slot[i]])
                    layer[i] = 0
                    if rays is not None:
                        _aim(i, rays[head], HEAD + 3 * layers, real, table[slot[i]])
                        layer[i] = np.uint16(rays[head, 7])
                    if here != layer[i]:
                        _enter(i, layer[i], real, medium)
                    free += 1
                    head += 1
                else:
                    word[_STATE * LANES + i] = _IDLE
                    live -= 1
            elif state == _HIT:
                for k in range(_LENGTH, _DY + 1):
                    real[k * LANES + i] = _ZERO
                layer[i] = beyond
                _enter(i, beyond, real, medium)
                if object_layer is not None and min(here, beyond) == object_layer:
                    x, y = (start[slot[i], 0], start[slot[i], 1]) if len(start) else (_ZERO, _ZERO)
                    _cross(layers, skip, kept, row, grid, cell, x, y)
    if tallied is not None:
        use(table, done_rows, spent, HEAD, at_point, point, tallied)


def carry(medium, words, photons, start, grid, skip, roulette, table, rays, *, object_layer, kept, point, threads):
    """As `qtwin.tissue.carry.carry`, on ``threads`` threads of this processor, into ``table``."""
    numbers, n = np.stack([np.asarray(a, np.float32) for a in medium[:5]]), np.asarray(medium.n, np.float32)
    k0, k1 = (np.uint32(w) for w in words)
    photons = np.ascontiguousarray(photons, np.uint32)
    start = np.zeros((0, 2), np.float32) if start is None else np.ascontiguousarray(start, np.float32)
    values = None if grid is None else np.ascontiguousarray(grid.values, np.float32)
    cell = np.float32(1 if grid is None else grid.cell)
    fixed = (values, cell, int(skip), bool(roulette), object_layer, kept, True if point else None, True, None)

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


def memory(layers: int, bins, threads: int, aimed: bool = False) -> int:
    """Bytes that `tally` holds."""
    row = 4 * pack_size(layers, 0, point=True)
    cells = 2 * (bins.rings + bins.times + bins.angles) + layers * bins.depths + 3 * layers * (4 + layers)
    return threads * ((LANES + POOL) * row + aimed * AIMED * START) + 8 * (threads + 64) * cells


def tally(
    medium,
    words,
    photons: int,
    blocks: int,
    bins,
    numerical_aperture: float,
    *,
    points,
    derivatives,
    threads,
    rays=None,
):
    """Walk ``blocks`` blocks of ``photons``: `Sums` and `Moments` of each, stacked along the first axis.

    Without ``points`` there is no curve over depth, and without them or ``derivatives`` no moments. ``rays``: from
    photon numbers [n] to their starts, float32 [n, 8]; straight light then is counted like all other.
    """
    keep = (True if points else None, True if derivatives else None, None if points else True)
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
    numbers, n = np.stack([np.asarray(a, np.float32) for a in medium[:5]]), np.asarray(medium.n, np.float32)
    k0, k1 = (np.uint32(w) for w in words)
    none, shape = np.zeros((0, 0), np.float32), (LANES + POOL, pack_size(len(medium.mu_a), 0, point=bool(keep[0])))

    def block(b):
        table, found = np.empty(shape, np.float32), make()
        size = CALL if rays is None else AIMED
        for first in range(b * photons, (b + 1) * photons, size):
            some = np.arange(first, min(first + size, (b + 1) * photons), dtype=np.uint32)
            aimed = None if rays is None else rays(some)
            if aimed is not None:
                found.sides[4] += np.sum(1 - aimed[:, 6], dtype=float)
            _walk(numbers, n, k0, k1, some, aimed, none, None, _ONE, 0, True, None, 0, *keep, table, use, found)
        return found

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(block, range(blocks)))
