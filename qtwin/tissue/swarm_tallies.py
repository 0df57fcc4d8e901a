"""`gather` and `moments` of `qtwin.tissue.tallies` on a processor: photons are counted while still in the cache."""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from qtwin.core.compiled import INNER, exp, sqrt, where, widest
from qtwin.tissue.tallies import LIGHT_SPEED, Bins, Moments, Sums

SOME = 64  # photons
FINE = 4096  # cells of sine in which an exit angle is looked up
_ZERO, _ONE = np.float32(0), np.float32(1)
WIDTH = 16  # sums of some photons, added up together
_WEIGHT, _LATE, _RING, _SINE2, _BEFORE, _LOST, _ANGLE, _TRACK, _BELOW, _WITHIN, _SUMS = (SOME * i for i in range(11))
SIDES = (0, 1, 2, 3, 5)  # of `Counters.sides`


class Counters(NamedTuple):
    """Sums over photons, and where to add what; float64."""

    sides: np.ndarray  # [6] left above, below, within the aperture; lost; never entered; straight below
    absorbed: np.ndarray  # [L] while the light was there; where no points are kept
    ring: np.ndarray  # [2, rings + 2]
    late: np.ndarray  # [2, times + 2]
    turned: np.ndarray  # [2, angles]
    depth: np.ndarray  # [L, depths], where points are kept
    gathered: np.ndarray  # [4 + L, 3 L], or no rows: without derivatives
    left: np.ndarray  # [L]
    media: np.ndarray  # [2, L] float32: mu_a, n in units of the step in time
    edges: np.ndarray  # [angles + 1] float32: squared sines
    guess: np.ndarray  # [FINE + 1]: bin of the lower end of each cell
    per_step: Any  # float32, 1/m
    aperture: Any  # float32, squared sine
    scratch: np.ndarray  # float32, what is known of some photons
    every: Any  # float32, 1: straight light is counted like all other


def counters(mu_a, n, bins: Bins, numerical_aperture: float, points: bool, derivatives: bool, every: bool) -> Counters:
    """Zeros of the right shapes."""
    layers, single = len(mu_a), np.float32
    step, late = float(bins.radius) / (bins.rings - 1), float(bins.time) / (bins.times - 1)
    edges = np.sin(np.linspace(0, np.pi / 2, bins.angles + 1)) ** 2
    guess = np.searchsorted(edges, (np.arange(FINE + 1) / FINE) ** 2, side="right") - 1
    return Counters(
        np.zeros(6),
        np.zeros(layers),
        np.zeros((2, bins.rings + 2)),
        np.zeros((2, bins.times + 2)),
        np.zeros((2, bins.angles)),
        np.zeros((layers, bins.depths if points else 0)),
        np.zeros((4 + layers if derivatives else 0, 3 * layers)),
        np.zeros(layers),
        np.stack([mu_a, np.asarray(n) / (LIGHT_SPEED * late)]).astype(single),
        edges.astype(single),
        np.minimum(guess, bins.angles - 1).astype(np.uint16),
        single(1 / step),
        single(numerical_aperture**2),
        np.zeros(_SUMS + 6 * WIDTH, single),
        single(every),
    )


def means(c: Counters, photons: int) -> tuple[Sums, Moments]:
    """What was counted, per photon."""
    seen = c.media[0] * c.depth.sum(axis=1) if c.depth.size else c.absorbed
    lost, entered = c.sides[3] - c.sides[4], photons - c.sides[4]
    straight, curves = c.sides[5] * c.every, (c.ring[:, :-2], c.late[:, :-2], c.turned, c.depth)
    sums: list[Any] = [c.sides[:2], c.sides[2], lost, entered, straight, seen, *curves]
    found: list[Any] = [c.gathered, c.left]
    return Sums(*(a / photons for a in sums)), Moments(*(a / photons for a in found))


@njit(**INNER, forceinline=True)
def _hat(place, weight, cells, side):
    """Share ``weight`` between the two nodes next to ``place``."""
    low = np.uint32(place)
    part = weight * (place - np.float32(low))
    cells[side, low] += weight - part
    cells[side, low + 1] += part


@njit(**INNER)
def count(table, number, head, at, point, c):
    """Add the first ``number`` photons; layers from column ``head`` on, a kept point from ``at`` on.

    Some photons at a time: what is read, then what is computed (vector code), then what is added.
    """
    widest()
    layers, depths = c.depth.shape
    scratch = c.scratch  # rows of SOME numbers, see `qtwin.tissue.swarm`
    furthest, latest = np.float32(c.ring.shape[1] - 2), np.float32(c.late.shape[1] - 2)
    for first in range(0, number, SOME):
        some = min(SOME, number - first)
        for j in range(some):
            n = first + j
            absorbed, late, x, y, before = _ZERO, _ZERO, _ZERO, _ZERO, table[n, 3]
            for k in range(layers):
                absorbed += c.media[0, k] * table[n, head + k]
                late += c.media[1, k] * table[n, head + k]
                x += table[n, head + 3 * layers + 2 * k]
                y += table[n, head + 3 * layers + 2 * k + 1]
            if point is not None:
                before = _ZERO
                for k in range(layers):
                    before += c.media[0, k] * table[n, at + 4 + k]
                scratch[_TRACK + j] = table[n, at] * table[n, at + 3]
            scratch[_WEIGHT + j], scratch[_LATE + j], scratch[_RING + j] = absorbed, late, x * x + y * y
            scratch[_SINE2 + j] = table[n, 5] * table[n, 5] + table[n, 6] * table[n, 6]
            scratch[_LOST + j], scratch[_ANGLE + j], scratch[_BELOW + j] = table[n, 2], table[n, 1], table[n, 0]
            scratch[_BEFORE + j] = before
        for j in range(some, SOME):
            scratch[_LOST + j] = scratch[_BEFORE + j] = _ZERO
        for i in range(6 * WIDTH):
            scratch[_SUMS + i] = _ZERO
        for q in range(0, SOME, WIDTH):
            for i in range(WIDTH):
                j = q + i
                left, strayed = scratch[_LOST + j] * exp(-scratch[_WEIGHT + j]), scratch[_ANGLE + j]
                below, sine2 = scratch[_BELOW + j], scratch[_SINE2 + j]
                lost = where(j < some, _ONE, _ZERO) - left
                w = left * where(strayed > c.every, strayed, c.every)
                down = w * below
                inside = where(sine2 <= c.aperture, down, _ZERO)
                scratch[_WEIGHT + j], scratch[_LOST + j], scratch[_WITHIN + j] = w, lost, inside
                scratch[_LATE + j] = where(scratch[_LATE + j] < latest, scratch[_LATE + j], latest)
                place = sqrt(scratch[_RING + j]) * c.per_step
                scratch[_RING + j] = where(place < furthest, place, furthest)
                scratch[_ANGLE + j] = sqrt(where(sine2 < _ONE, sine2, _ONE)) * np.float32(FINE)
                scratch[_SUMS + i] += w - down
                scratch[_SUMS + WIDTH + i] += down
                scratch[_SUMS + 2 * WIDTH + i] += inside
                scratch[_SUMS + 3 * WIDTH + i] += lost
                scratch[_SUMS + 4 * WIDTH + i] += left * (_ONE - strayed) * below
                if point is not None:
                    scratch[_TRACK + j] *= exp(-scratch[_BEFORE + j])
                else:  # absorbed in the last layer since the photon was last counted
                    seen = scratch[_BEFORE + j] - left
                    scratch[_SUMS + 5 * WIDTH + i] += seen
                    scratch[_BEFORE + j] = seen * below
        for k in range(5):
            for i in range(WIDTH):
                c.sides[SIDES[k]] += scratch[_SUMS + k * WIDTH + i]
        if point is None:
            for i in range(WIDTH):
                c.absorbed[0] += scratch[_SUMS + 5 * WIDTH + i]
            for j in range(some if layers > 1 else 0):
                c.absorbed[0] -= scratch[_BEFORE + j]
                c.absorbed[layers - 1] += scratch[_BEFORE + j]
        for j in range(some):
            n = first + j
            w, side = scratch[_WEIGHT + j], np.uint32(scratch[_BELOW + j])
            _hat(scratch[_RING + j], w, c.ring, side)
            _hat(scratch[_LATE + j], w, c.late, side)
            angle = c.guess[np.uint32(scratch[_ANGLE + j])]
            while angle < c.turned.shape[1] - 1 and scratch[_SINE2 + j] >= c.edges[angle + 1]:
                angle += 1
            c.turned[side, angle] += w
            if point is not None:
                here, track = np.uint32(table[n, at + 1]), scratch[_TRACK + j]
                c.depth[here, min(np.uint32(table[n, at + 2] * np.float32(depths)), np.uint32(depths - 1))] += track
                if len(c.gathered):
                    within, lost = scratch[_WITHIN + j], scratch[_LOST + j]
                    for k in range(3 * layers):
                        c.gathered[side, k] += w * table[n, head + k]
                        c.gathered[2, k] += within * table[n, head + k]
                        c.gathered[3, k] += lost * table[n, head + k]
                        c.gathered[4 + here, k] += track * table[n, at + 4 + k]
                    for k in range(layers):
                        c.left[k] += (_ONE - lost) * table[n, head + k]


class Neighbourhood(NamedTuple):
    """Sums over photons in V neighbouring slabs."""

    sums: np.ndarray  # [4, V] reflected, transmitted, likelihood, its square
    by_length: np.ndarray  # [V, L] float32
    by_scattering: np.ndarray  # [V, L] float32
    losses: np.ndarray  # [V, L] float32
    scratch: np.ndarray  # [4 + 2 L, SOME] float32: two logarithms, weights above and below; lengths, scatterings
    same_likelihood: bool  # 1 for all


def neighbourhood(by_length, by_scattering, losses) -> Neighbourhood:
    """Zeros of the right shapes, from logarithms [L, V]."""
    layers, values = losses.shape
    zeros = (np.zeros((4, values)), np.zeros((4 + 2 * layers, SOME), np.float32))
    a, b, c = (np.ascontiguousarray(logs.T) for logs in (by_length, by_scattering, losses))
    return Neighbourhood(zeros[0], a, b, c, zeros[1], not by_length.any() and not by_scattering.any())


@njit(**(INNER | {"fastmath": INNER["fastmath"] | {"reassoc"}}))
def reweigh(table, number, head, at, point, c):
    """Add the first ``number`` photons, as they weigh in every neighbouring slab.

    Some photons at a time, their sums in vector code. Where likelihoods are all 1 (absorption) one exponential will do.
    """
    widest()
    values, layers = c.losses.shape
    likely, left, up, down = c.scratch[0], c.scratch[1], c.scratch[2], c.scratch[3]
    for first in range(0, number, SOME):
        some = min(SOME, number - first)
        for j in range(some):
            n = first + j
            light = table[n, 2] * table[n, 1]
            down[j] = light * table[n, 0]
            up[j] = light - down[j]
            for k in range(2 * layers):
                c.scratch[4 + k, j] = table[n, head + k]
        for j in range(some, SOME):
            down[j] = up[j] = _ZERO
        for v in range(values):
            for j in range(SOME):
                likely[j] = left[j] = _ZERO
            for k in range(layers):
                a, b, loss = c.by_length[v, k], c.by_scattering[v, k], c.losses[v, k]
                for j in range(SOME):
                    length = c.scratch[4 + k, j]
                    left[j] += length * loss
                    if not c.same_likelihood:
                        likely[j] += length * a + c.scratch[4 + layers + k, j] * b
            above = below = like = square = _ZERO
            if c.same_likelihood:
                for j in range(SOME):
                    w = exp(left[j])
                    above += up[j] * w
                    below += down[j] * w
                like = square = np.float32(some)
            else:
                for j in range(SOME):
                    w = exp(likely[j] + left[j])
                    above += up[j] * w
                    below += down[j] * w
                    w = where(j < some, exp(likely[j]), _ZERO)
                    like += w
                    square += w * w
            c.sums[0, v] += above
            c.sums[1, v] += below
            c.sums[2, v] += like
            c.sums[3, v] += square
