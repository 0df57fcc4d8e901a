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

    sides: np.ndarray  # [4] left above, below, within the aperture; lost
    ring: np.ndarray  # [2, rings + 2]
    late: np.ndarray  # [2, times + 2]
    turned: np.ndarray  # [2, angles]
    depth: np.ndarray  # [L, depths]
    gathered: np.ndarray  # [4 + L, 3 L], or no rows: without derivatives
    left: np.ndarray  # [L]
    media: np.ndarray  # [2, L] float32: mu_a, n in units of the step in time
    edges: np.ndarray  # [angles + 1] float32: squared sines
    guess: np.ndarray  # [FINE + 1]: bin of the lower end of each cell
    per_step: Any  # float32, 1/m
    aperture: Any  # float32, squared sine
    scratch: np.ndarray  # [8, SOME] float32


def counters(mu_a, n, bins: Bins, numerical_aperture: float, derivatives: bool) -> Counters:
    """Zeros of the right shapes."""
    layers, single = len(mu_a), np.float32
    step, late = float(bins.radius) / (bins.rings - 1), float(bins.time) / (bins.times - 1)
    edges = np.sin(np.linspace(0, np.pi / 2, bins.angles + 1)) ** 2
    guess = np.searchsorted(edges, (np.arange(FINE + 1) / FINE) ** 2, side="right") - 1
    return Counters(
        np.zeros(4),
        np.zeros((2, bins.rings + 2)),
        np.zeros((2, bins.times + 2)),
        np.zeros((2, bins.angles)),
        np.zeros((layers, bins.depths)),
        np.zeros((4 + layers if derivatives else 0, 3 * layers)),
        np.zeros(layers),
        np.stack([mu_a, np.asarray(n) / (LIGHT_SPEED * late)]).astype(single),
        edges.astype(single),
        np.minimum(guess, bins.angles - 1),
        single(1 / step),
        single(numerical_aperture**2),
        np.empty((8, SOME), single),
    )


def means(c: Counters, photons: int) -> tuple[Sums, Moments]:
    """What was counted, per photon."""
    sums: list[Any] = [c.sides[:2], c.sides[2], c.sides[3], c.ring[:, :-2], c.late[:, :-2], c.turned, c.depth]
    found: list[Any] = [c.gathered, c.left]
    return Sums(*(a / photons for a in sums)), Moments(*(a / photons for a in found))


@njit(**FAST, inline="always")
def _hat(place, weight, cells):
    """Share ``weight`` between the two nodes next to ``place``."""
    low = int(place)
    part = weight * (place - np.float32(low))
    cells[low] += weight - part
    cells[low + 1] += part


@njit(**FAST)
def count(table, rows, number, head, point, c):
    """Add the photons in the first ``number`` of ``rows``; layers from column ``head`` on, the point from ``point`` on.

    Some photons at a time: what is read, then what is computed (vector code), then what is added.
    """
    layers, depths = c.depth.shape
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
                before += c.media[0, k] * row[point + 4 + k]
            c.scratch[0, j], c.scratch[1, j], c.scratch[2, j] = absorbed, late, x * x + y * y
            c.scratch[3, j], c.scratch[4, j] = row[5] * row[5] + row[6] * row[6], before
            c.scratch[5, j], c.scratch[6, j] = row[2], row[1]
            c.scratch[7, j] = row[point] * row[point + 3]
        for j in range(some):
            left, strayed = c.scratch[5, j] * exp(-c.scratch[0, j]), c.scratch[6, j]
            c.scratch[0, j], c.scratch[5, j] = left * strayed, _ONE - left
            c.scratch[1, j] = min(c.scratch[1, j], latest)
            c.scratch[2, j] = min(sqrt(c.scratch[2, j]) * c.per_step, furthest)
            c.scratch[6, j] = sqrt(min(c.scratch[3, j], _ONE)) * np.float32(FINE)
            c.scratch[7, j] *= exp(-c.scratch[4, j])
        for j in range(some):
            row = table[rows[first + j]]
            w, sine2, lost, track = c.scratch[0, j], c.scratch[3, j], c.scratch[5, j], c.scratch[7, j]
            side = int(row[0])
            within = w if side == 1 and sine2 <= c.aperture else _ZERO
            c.sides[side] += w
            c.sides[2] += within
            c.sides[3] += lost
            _hat(c.scratch[2, j], w, c.ring[side])
            _hat(c.scratch[1, j], w, c.late[side])
            angle = c.guess[int(c.scratch[6, j])]
            while angle < c.turned.shape[1] - 1 and sine2 >= c.edges[angle + 1]:
                angle += 1
            c.turned[side, angle] += w
            here = int(row[point + 1])
            c.depth[here, min(int(row[point + 2] * np.float32(depths)), depths - 1)] += track
            if len(c.gathered):
                for k in range(3 * layers):
                    c.gathered[side, k] += w * row[head + k]
                    c.gathered[2, k] += within * row[head + k]
                    c.gathered[3, k] += lost * row[head + k]
                    c.gathered[4 + here, k] += track * row[point + 4 + k]
                for k in range(layers):
                    c.left[k] += (_ONE - lost) * row[head + k]
