"""The photon walk through a solid on a processor: one scalar loop over photons, compiled for each kind of geometry.

A photon has s mean free paths to go before it is scattered, s exponential of mean 1. In a region of coefficient mu_s
it flies min(face, s/mu_s) and s falls by mu_s times that: the integral of mu_s along the flight is exponential, which
is the law of free paths in any number of regions. Steps go from region to region; positions and sums are float64,
directions and the law of an event float32 as in every walk of this package (`qtwin.tissue.law`: the same functions, the
same random words by photon and event number).

A geometry is three functions: ``place`` (the region of a start), ``ahead`` (flight to the next face) and ``beyond``
(what lies behind it). Medium 0 is outside; faces 0 to 5 are x low, x high, y low, y high, z low, z high, and only there
may the index change; faces from 6 on are curved or tilted surfaces between media of equal index.
"""

from collections.abc import Callable
from math import exp

import numpy as np
from numba import njit

from qtwin.core.compiled import CPU, FAST
from qtwin.core.random import counter
from qtwin.tissue.law import CONSOLATION, FAINT, PATH, POINT, ROULETTE, ROULETTE_ODDS, law
from qtwin.tissue.solids.faces import (
    ahead_shape,
    ahead_voxel,
    beyond_shape,
    beyond_voxel,
    place_shape,
    place_voxel,
)

# fates beside the six faces: time is up, lost in the roulette, never to end, started outside
LATE, DEAD, TRAPPED, OUTSIDE = 6, 7, 8, 9
MIRRORS = 100_000  # reflections in a row without a scattering, after which light is called trapped
HEAD = 7  # columns of `qtwin.tissue.paths.unpack` before the media

_LAW = law(CPU)
_draw, _angles, _versine, _score, _turn = _LAW.draw, _LAW.angles, _LAW.versine, _LAW.score, _LAW.turn
_reflectance, _uniform = _LAW.reflectance, _LAW.uniform
_exponential = counter(CPU).exponential
_ONE, _ODDS = np.float32(1), np.float32(ROULETTE_ODDS)
_FAR = np.inf


def engine(place: Callable, ahead: Callable, beyond: Callable) -> Callable:
    """The loop over photons of one kind of geometry."""

    @njit(**FAST)
    def run(geometry, media, rules, k0, k1, first, start, toward, entrance, table, fates, leave, tally):
        """Carry photons ``first``, ``first`` + 1, ... to their end.

        ``media`` rows mu_a, mu_s, g, n by medium, 0 outside; ``rules`` (reflect, gate as optical path in m, roulette).
        Fills, per photon: ``table`` as `unpack` reads it, the kept point of the path included, ``fates``, ``leave``
        (position, direction) and, if it is not empty, ``tally`` (integral of the weight along the path in every voxel,
        m). The kept point: of a path of length X it is uniform along X; the next one to take its place lies at X/u, u
        uniform, which is so because the older one stays until the length L with probability X/L.
        """
        reflect, gate, roulette = rules
        count = media.shape[1] - 1
        kept = (
            HEAD + 5 * count
        )  # columns of the point: weight, medium, place (not used), length of the path; then by medium
        length, scatterings, score = np.zeros(count + 1), np.zeros(count + 1), np.zeros(count + 1)
        for row in range(len(table)):
            photon = np.uint32(first + row)
            at = row if len(start) > 1 else 0
            x, y, z = start[at, 0], start[at, 1], start[at, 2]
            ux, uy, uz = np.float32(toward[at, 0]), np.float32(toward[at, 1]), np.float32(toward[at, 2])
            length[:], scatterings[:], score[:] = 0, 0, 0
            i, j, k, m = place(geometry, x, y, z, ux, uy, uz)
            mu_a, mu_s, g = media[0, m], media[1, m], np.float32(media[2, m])
            event = np.uint32(0)
            b0, b1 = _draw(k0, k1, photon, event, PATH)
            s, total, due, lots = np.float64(_exponential(b0)), 0.0, 0.0, np.uint32(0)
            absorbed, optical, boost, limit = 0.0, 0.0, 1.0, FAINT
            fate, mirrors, strayed = OUTSIDE if m == 0 else -1, 0, False
            table[row, :] = 0
            while fate < 0:
                free = s / mu_s if mu_s > 0 else _FAR
                step, face = ahead(geometry, i, j, k, x, y, z, ux, uy, uz, free)
                if optical + media[3, m] * step > gate:
                    step, face, fate = (gate - optical) / media[3, m], -1, LATE
                elif step == _FAR:
                    fate = TRAPPED
                    break
                taken = mu_a * step
                if total + step > due:
                    part = 0.0
                    while due < total + step:
                        luck, other = _draw(k0, k1, photon, lots, POINT)
                        lots = np.uint32(lots + np.uint32(1))
                        if total == 0 and due == 0:
                            part = np.float64(_uniform(other)) * step
                            due = step / np.float64(_uniform(luck))
                        else:
                            part = due - total
                            due /= np.float64(_uniform(luck))
                    table[row, kept], table[row, kept + 1] = boost, m - 1
                    for c in range(count):
                        table[row, kept + 4 + c] = length[c + 1] + (part if c + 1 == m else 0.0)
                        table[row, kept + 4 + count + c] = scatterings[c + 1]
                        table[row, kept + 4 + 2 * count + c] = score[c + 1]
                    table[row, kept + 4 + 3 * count] = x + ux * part - start[at, 0]
                    table[row, kept + 5 + 3 * count] = y + uy * part - start[at, 1]
                total += step
                length[m] += step
                optical += media[3, m] * step
                if tally.size > 0:
                    mean = 1 - taken / 2 + taken * taken / 6 if taken < 1e-4 else (1 - exp(-taken)) / taken
                    tally[i, j, k] += entrance[at] * boost * exp(-absorbed) * step * mean
                absorbed += taken
                x += ux * step
                y += uy * step
                z += uz * step
                if fate >= 0:
                    break
                may_end = True
                if face < 0:
                    u, h = _angles(b1)
                    versine = _versine(u, g)
                    scatterings[m] += 1
                    score[m] += _score(versine, g)
                    ux, uy, uz = _turn(ux, uy, uz, versine, h)
                    event = np.uint32(event + np.uint32(1))
                    b0, b1 = _draw(k0, k1, photon, event, PATH)
                    s, strayed, mirrors = np.float64(_exponential(b0)), True, 0
                else:
                    s = max(s - mu_s * step, 0.0)
                    i2, j2, k2, m2, plane = beyond(geometry, i, j, k, face)
                    axis = face >> 1
                    if axis == 0:
                        x = plane
                    elif axis == 1:
                        y = plane
                    elif axis == 2:
                        z = plane
                    may_end, passes = False, True
                    if reflect and face < 6 and media[3, m] != media[3, m2]:
                        event = np.uint32(event + np.uint32(1))
                        luck, _ = _draw(k0, k1, photon, event, PATH)
                        u = ux if axis == 0 else (uy if axis == 1 else uz)
                        n_here, n_beyond = np.float32(media[3, m]), np.float32(media[3, m2])
                        mirror, out = _reflectance(abs(u), n_here, n_beyond)
                        passes, strayed = _uniform(luck) >= mirror, True
                        turned = -u
                        if passes:
                            bend = n_here / n_beyond
                            ux, uy, uz = ux * bend, uy * bend, uz * bend
                            turned = out if u > 0 else -out
                        else:
                            mirrors += 1
                            may_end = True
                            if mirrors > MIRRORS:
                                fate = TRAPPED
                        if axis == 0:
                            ux = turned
                        elif axis == 1:
                            uy = turned
                        else:
                            uz = turned
                    if passes:
                        if m2 == 0:
                            fate = face
                        else:
                            i, j, k = i2, j2, k2
                            if m2 != m:
                                m = m2
                                mu_a, mu_s, g = media[0, m], media[1, m], np.float32(media[2, m])
                if roulette and may_end and absorbed > limit and fate < 0:
                    event = np.uint32(event + np.uint32(1))
                    luck, _ = _draw(k0, k1, photon, event, ROULETTE)
                    if _uniform(luck) * _ODDS > _ONE:
                        boost, fate = 0.0, DEAD
                    else:
                        boost *= ROULETTE_ODDS
                        limit += CONSOLATION
            table[row, kept + 3] = total
            table[row, 0], table[row, 1], table[row, 2], table[row, 3] = fate == 5, strayed, boost, 1
            table[row, 5], table[row, 6] = ux, uy
            for c in range(count):
                table[row, HEAD + c] = length[c + 1]
                table[row, HEAD + count + c] = scatterings[c + 1]
                table[row, HEAD + 2 * count + c] = score[c + 1]
            table[row, HEAD + 3 * count], table[row, HEAD + 3 * count + 1] = x - start[at, 0], y - start[at, 1]
            fates[row] = fate
            leave[row, 0], leave[row, 1], leave[row, 2] = x, y, z
            leave[row, 3], leave[row, 4], leave[row, 5] = ux, uy, uz

    return run


through_voxels = engine(place_voxel, ahead_voxel, beyond_voxel)
through_shapes = engine(place_shape, ahead_shape, beyond_shape)
