"""`gather` and `moments` of `qtwin.tissue.tallies` on a processor: photons are counted while still in the cache."""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from qtwin.core.compiled import FAST, exp, sqrt
from qtwin.tissue.tallies import LIGHT_SPEED, Bins, Moments, Sums

SOME = 64  # photons
FINE = 4096  # cells of sine in which an exit angle is looked up
_ZERO, _ONE = np.float32(0), np.float32(1)


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
    scratch: np.ndarray  # [9 SOME] float32
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
        np.empty(9 * SOME, single),
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


@njit(**FAST, forceinline=True)
def _hat(place, weight, cells):
    """Share ``weight`` between the two nodes next to ``place``."""
    low = np.uint32(place)
    part = weight * (place - np.float32(low))
    cells[low] += weight - part
    cells[low + 1] += part


@njit(**FAST)
def count(table, rows, number, head, at, point, c):
    """Add the photons in the first ``number`` of ``rows``; layers from column ``head`` on, a kept point from ``at`` on.

    Some photons at a time: what is read, then what is computed (vector code), then what is added.
    """
    layers, depths = c.depth.shape
    scratch = c.scratch  # rows of SOME numbers, see `qtwin.tissue.swarm`
    up = down = inside = gone = straight = np.float64(0)
    furthest, latest = np.float32(c.ring.shape[1] - 2), np.float32(c.late.shape[1] - 2)
    for first in range(0, number, SOME):
        some = min(SOME, number - first)
        for j in range(some):
            row = table[rows[first + j]]
            absorbed, late, x, y, before = _ZERO, _ZERO, _ZERO, _ZERO, _ZERO
            for k in range(layers):
                absorbed += c.media[0, k] * row[head + k]
                late += c.media[1, k] * row[head + k]
                x += row[head + 3 * layers + 2 * k]
                y += row[head + 3 * layers + 2 * k + 1]
                if point is not None:
                    before += c.media[0, k] * row[at + 4 + k]
            scratch[j], scratch[SOME + j], scratch[2 * SOME + j] = absorbed, late, x * x + y * y
            scratch[3 * SOME + j] = row[5] * row[5] + row[6] * row[6]
            scratch[5 * SOME + j], scratch[6 * SOME + j] = row[2], row[1]
            if point is not None:
                scratch[4 * SOME + j], scratch[7 * SOME + j] = before, row[at] * row[at + 3]
        for j in range(some):
            left, strayed = scratch[5 * SOME + j] * exp(-scratch[j]), scratch[6 * SOME + j]
            scratch[j], scratch[5 * SOME + j] = left * max(strayed, c.every), _ONE - left
            scratch[8 * SOME + j] = left * (_ONE - strayed)
            scratch[SOME + j] = min(scratch[SOME + j], latest)
            scratch[2 * SOME + j] = min(sqrt(scratch[2 * SOME + j]) * c.per_step, furthest)
            scratch[6 * SOME + j] = sqrt(min(scratch[3 * SOME + j], _ONE)) * np.float32(FINE)
            if point is not None:
                scratch[7 * SOME + j] *= exp(-scratch[4 * SOME + j])
        for j in range(some):
            row = table[rows[first + j]]
            w, sine2, lost, track = scratch[j], scratch[3 * SOME + j], scratch[5 * SOME + j], scratch[7 * SOME + j]
            side = np.uint32(row[0])
            below = w if side == 1 else _ZERO
            within = below if sine2 <= c.aperture else _ZERO
            up += w - below
            down += below
            inside += within
            gone += lost
            straight += scratch[8 * SOME + j] if side == 1 else _ZERO
            _hat(scratch[2 * SOME + j], w, c.ring[side])
            _hat(scratch[SOME + j], w, c.late[side])
            angle = c.guess[np.uint32(scratch[6 * SOME + j])]
            while angle < c.turned.shape[1] - 1 and sine2 >= c.edges[angle + 1]:
                angle += 1
            c.turned[side, angle] += w
            if point is not None:
                here = np.uint32(row[at + 1])
                c.depth[here, min(np.uint32(row[at + 2] * np.float32(depths)), np.uint32(depths - 1))] += track
                if len(c.gathered):
                    for k in range(3 * layers):
                        c.gathered[side, k] += w * row[head + k]
                        c.gathered[2, k] += within * row[head + k]
                        c.gathered[3, k] += lost * row[head + k]
                        c.gathered[4 + here, k] += track * row[at + 4 + k]
                    for k in range(layers):
                        c.left[k] += (_ONE - lost) * row[head + k]
    c.sides[0] += up
    c.sides[1] += down
    c.sides[2] += inside
    c.sides[3] += gone
    c.sides[5] += straight


class Neighbourhood(NamedTuple):
    """Sums over photons in V neighbouring slabs."""

    sums: np.ndarray  # [4, V] reflected, transmitted, likelihood, its square
    by_length: np.ndarray  # [L, V] float32
    by_scattering: np.ndarray  # [L, V] float32
    losses: np.ndarray  # [L, V] float32
    scratch: np.ndarray  # [6, V] float32: two logarithms, sums of some photons
    same_likelihood: bool  # 1 for all
    same_loss: bool  # and the likelihoods differ


def neighbourhood(by_length, by_scattering, losses) -> Neighbourhood:
    """Zeros of the right shapes."""
    values = losses.shape[1]
    same_likelihood = not by_length.any() and not by_scattering.any()
    alike = (same_likelihood, not same_likelihood and bool(np.all(losses == losses[:, :1])))
    zeros = (np.zeros((4, values)), np.zeros((6, values), np.float32))
    return Neighbourhood(zeros[0], by_length, by_scattering, losses, zeros[1], *alike)


@njit(**FAST)
def reweigh(table, rows, number, head, at, point, c):
    """Add the photons in the first ``number`` of ``rows``, as they weigh in every neighbouring slab.

    One exponential for each suffices where likelihoods are all 1 (absorption), or all lose the same (scattering).
    """
    layers, values = c.losses.shape
    likely, left, like, square = c.scratch[0], c.scratch[1], c.scratch[4], c.scratch[5]
    c.scratch[2:, :] = _ZERO
    for j in range(number):
        row = table[rows[j]]
        sides = c.scratch[2 + np.uint32(row[0])]
        strayed = row[2] * row[1]
        for k in range(layers):
            length, scatterings = row[head + k], row[head + layers + k]
            for v in range(0 if c.same_likelihood else values):
                before = likely[v] if k > 0 else _ZERO
                likely[v] = before + length * c.by_length[k, v] + scatterings * c.by_scattering[k, v]
            for v in range(1 if c.same_loss else values):
                before = left[v] if k > 0 else _ZERO
                left[v] = before + length * c.losses[k, v]
        if c.same_likelihood:
            for v in range(values):
                sides[v] += strayed * exp(left[v])
        elif c.same_loss:
            strayed *= exp(left[0])
            for v in range(values):
                w = exp(likely[v])
                like[v] += w
                square[v] += w * w
                sides[v] += strayed * w
        else:
            for v in range(values):
                w = exp(likely[v])
                like[v] += w
                square[v] += w * w
                sides[v] += strayed * exp(likely[v] + left[v])
    for v in range(values):
        if c.same_likelihood:
            like[v], square[v] = np.float32(number), np.float32(number)
        for k in range(4):
            c.sums[k, v] += c.scratch[2 + k, v]
