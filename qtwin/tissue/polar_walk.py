"""The walk of Stokes vectors on a processor: one photon after another, counted as it leaves.

A photon carries a right-handed triad (e1, e2, k), k its direction, and its Stokes vector (1, q, u, v) in that frame
(Bartel & Hielscher, Appl. Opt. 39, 1580 (2000); Ramella-Roman, Prahl & Jacques, Opt. Express 13, 4420 and 10392
(2005)), with its weight aside. It flies an exponential free path of mean 1/mu_s; absorption is a weight
exp(-mu_a l) along the path. Angles are drawn from the joint density of the phase matrix,

    p(theta, phi) = [S11(theta) + S12(theta)(q cos 2 phi + u sin 2 phi)]/(2 pi),

theta from its marginal S11, then phi given theta; so no weight is needed for polarisation. At an interface it is
reflected with the Fresnel probability of its own polarisation (Born & Wolf, Principles of Optics, 7th ed., 1.5).
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from qtwin.core.compiled import CPU, FAST
from qtwin.core.random import counter
from qtwin.tissue.law import ROULETTE_BELOW, ROULETTE_ODDS
from qtwin.tissue.polar_tables import ALIAS, COLUMNS, COSINE, KEPT

RAY = 9  # columns of a ray before the layers
HARMONICS = 5  # of the azimuth of exit: 1, cos, sin, cos 2, sin 2
_threefry = counter(CPU).threefry
_FLY, _TURN, _LUCK = (np.uint32(i << 30) for i in range(3))  # purposes for which an event draws
_FINE, _COARSE = 2.0**-32, 2.0**-16
_LEVEL = 1e-10  # sine below which a direction is the normal of the interfaces
_BELOW, _ODDS = ROULETTE_BELOW, ROULETTE_ODDS


class Counts(NamedTuple):
    """Sums over photons, of strayed light (scattered, or reflected inside); sides are up (0) and down (1), L layers.

    Stokes vectors of sides, slopes, rings and image are in the frame of the laboratory, those by angle in the meridian
    plane of the exit.
    """

    sides: np.ndarray  # [2, 4]
    slopes: np.ndarray  # [2, 2, L, 4] times -length, and scatterings/mu_s - length
    absorbed: np.ndarray  # [L]
    angle: np.ndarray  # [2, angles, HARMONICS, 4]
    ring: np.ndarray  # [2, rings, 4]
    image: np.ndarray  # [4, pixels, pixels] light that left above; rows are y


def counts(layers: int, angles: int, rings: int, pixels: int) -> Counts:
    """Nothing counted yet."""
    shapes = ((2, 4), (2, 2, layers, 4), (layers,), (2, angles, HARMONICS, 4), (2, rings, 4), (4, pixels, pixels))
    return Counts(*(np.zeros(shape) for shape in shapes))


@njit(**FAST)
def face(cosine, n1, n2):
    """Fresnel: (R_s, R_p, r_p r_s*, cosine beyond), cosine > 0 that of incidence; fields exp(-i omega t).

    r_s = (n1 c1 - n2 c2)/(n1 c1 + n2 c2), r_p = (n2 c1 - n1 c2)/(n2 c1 + n1 c2): Born & Wolf, section 1.5.2. Beyond the
    critical angle c2 = i sqrt((n1/n2)^2 (1 - c1^2) - 1), both R are 1, and r_p r_s* is a phase.
    """
    square = 1 - (n1 / n2) ** 2 * (1 - cosine * cosine)
    if square > 0:
        beyond = np.sqrt(square)
        r_s = (n1 * cosine - n2 * beyond) / (n1 * cosine + n2 * beyond)
        r_p = (n2 * cosine - n1 * beyond) / (n2 * cosine + n1 * beyond)
        return r_s * r_s, r_p * r_p, complex(r_p * r_s, 0.0), beyond
    decay = np.sqrt(-square)
    s, p = complex(n1 * cosine, n2 * decay), complex(n2 * cosine, n1 * decay)
    phase = s / s.conjugate() * p.conjugate() / p
    return 1.0, 1.0, phase, 0.0


@njit(**FAST)
def reflected(cosine, n1, n2, q, u, v):
    """(I, Q, U, V) reflected of (1, q, u, v) in the frame (p, s), I the reflectance: the Mueller matrix of a face."""
    r_s, r_p, phase, _ = face(cosine, n1, n2)
    mean, half = (r_p + r_s) / 2, (r_p - r_s) / 2
    return mean + half * q, half + mean * q, u * phase.real - v * phase.imag, v * phase.real + u * phase.imag


@njit(**FAST)
def refracted(cosine, n1, n2, q, u, v):
    """(I, Q, U, V) transmitted of (1, q, u, v) in the frame (p, s): both amplitudes are real and positive."""
    r_s, r_p, _, _ = face(cosine, n1, n2)
    mean, half, both = 1 - (r_p + r_s) / 2, (r_s - r_p) / 2, np.sqrt((1 - r_s) * (1 - r_p))
    return mean + half * q, half + mean * q, u * both, v * both


@njit(**FAST, forceinline=True)
def _rotated(c2, s2, q, u):
    """Q, U in a frame whose e1 stands at phi from the old one, towards e2; c2, s2 are cos and sin of 2 phi."""
    return q * c2 + u * s2, u * c2 - q * s2


@njit(**FAST, forceinline=True)
def _to_faces(e, q, u):
    """Turn the frame ``e`` about k so that e2 = z x k/|z x k| (s) and e1 = e2 x k (p); returns Q, U there.

    At normal incidence any frame will do, and it stays.
    """
    kx, ky, kz = e[2, 0], e[2, 1], e[2, 2]
    h = np.sqrt(kx * kx + ky * ky)
    if h < _LEVEL:
        return q, u
    c, s = -e[0, 2] / h, -e[1, 2] / h
    norm = 1 / (c * c + s * s)
    q, u = _rotated((c * c - s * s) * norm, 2 * c * s * norm, q, u)
    e[1, 0], e[1, 1], e[1, 2] = -ky / h, kx / h, 0.0
    e[0, 0], e[0, 1], e[0, 2] = kx * kz / h, ky * kz / h, -h
    return q, u


@njit(**FAST, forceinline=True)
def _leave(e, kz, bend):
    """Give the frame ``e``, which stands as `_to_faces` left it, its new direction beyond a face or back from it."""
    kx, ky = e[2, 0] * bend, e[2, 1] * bend
    e[2, 0], e[2, 1], e[2, 2] = kx, ky, kz
    # e2 stays; e1 = e2 x k
    e[0, 0] = e[1, 1] * kz
    e[0, 1] = -e[1, 0] * kz
    e[0, 2] = e[1, 0] * ky - e[1, 1] * kx


@njit(**FAST, forceinline=True)
def _scatter(rows, b1, b2, b3, e, q, u, v):
    """Draw the angles from the joint density, turn the frame, and return (q, u, v) after the scattering.

    Azimuth: of two planes at right angles the densities sum to a constant, so that a uniform azimuth is kept with the
    odds p/(p + p_across) or turned by pi/2: exact, with one draw.
    """
    cells = len(rows) - 1
    place = (b1 + 0.5) * _FINE * cells
    cell = int(place)
    if place - cell >= rows[cell, KEPT]:
        cell = int(rows[cell, ALIAS])
    low, high, part = rows[cell], rows[cell + 1], ((b2 & 0xFFFF) + 0.5) * _COARSE
    cosine = low[COSINE] + part * (high[COSINE] - low[COSINE])
    s12, s22 = low[1] + part * (high[1] - low[1]), low[2] + part * (high[2] - low[2])
    s33, s34 = low[3] + part * (high[3] - low[3]), low[4] + part * (high[4] - low[4])
    s44 = low[5] + part * (high[5] - low[5])
    sine = np.sqrt(max(1 - cosine * cosine, 0.0))
    azimuth = 2 * np.pi * ((b2 >> 16) + 0.5) * _COARSE
    c, s = np.cos(azimuth), np.sin(azimuth)
    c2, s2 = c * c - s * s, 2 * c * s
    if (b3 + 0.5) * _FINE * 2 >= 1 + s12 * (q * c2 + u * s2):
        c, s, c2, s2 = -s, c, -c2, -s2
    q, u = _rotated(c2, s2, q, u)
    for i in range(3):
        e1, e2, k = e[0, i], e[1, i], e[2, i]
        plane = c * e1 + s * e2
        e[1, i] = c * e2 - s * e1
        e[0, i] = cosine * plane - sine * k
        e[2, i] = cosine * k + sine * plane
    intensity = 1 + s12 * q
    return (s12 + s22 * q) / intensity, (s33 * u - s34 * v) / intensity, (s34 * u + s44 * v) / intensity


@njit(**FAST, forceinline=True)
def _to_laboratory(e, q, u):
    """Q, U in the frame of the laboratory of light in air, its frame ``e`` as `_to_faces` left it."""
    kx, ky = e[2, 0], e[2, 1]
    h = np.sqrt(kx * kx + ky * ky)
    c, s = (e[0, 0], e[1, 0]) if h < _LEVEL else (kx / h, -ky / h if e[2, 2] > 0 else ky / h)
    return _rotated(c * c - s * s, 2 * c * s, q, u)


@njit(**FAST, forceinline=True)
def _write(e, x, y, weight, q, u, v, lengths, scatterings, row):
    """The columns of `RAY`, then length and scatterings in every layer."""
    q, u = _to_laboratory(e, q, u)
    row[0], row[1], row[2], row[3], row[4] = x, y, e[2, 0], e[2, 1], e[2, 2]
    row[5], row[6], row[7], row[8] = weight, weight * q, weight * u, weight * v
    for j in range(len(lengths)):
        row[RAY + j], row[RAY + len(lengths) + j] = lengths[j], scatterings[j]


@njit(**FAST, forceinline=True)
def _count(e, x, y, weight, q, u, v, lengths, scatterings, mu_s, reach, found):
    """Count a photon that left at (x, y), its frame that of the meridian plane (at normal exit: any).

    Along the normal every plane is a meridian plane: such light stands in the harmonics as the limit of a narrow cone.
    """
    down = e[2, 2] > 0
    side = 1 if down else 0
    kx, ky = e[2, 0], e[2, 1]
    h = np.sqrt(kx * kx + ky * ky)
    bins, rings, pixels = found.angle.shape[1], found.ring.shape[1], found.image.shape[1]
    if h < _LEVEL:
        q, u = _to_laboratory(e, q, u)
        lab = (weight, weight * q, weight * u, weight * v)
        half = weight / 2 if down else -weight / 2
        found.angle[side, 0, 0, 0] += lab[0]
        found.angle[side, 0, 0, 3] += lab[3]
        found.angle[side, 0, 3, 1] += lab[1] / 2
        found.angle[side, 0, 3, 2] += lab[2] / 2
        found.angle[side, 0, 4, 1] += half * u
        found.angle[side, 0, 4, 2] -= half * q
    else:
        c, s = kx / h, ky / h
        meridian = (weight, weight * q, weight * u, weight * v)
        waves = (1.0, c, s, c * c - s * s, 2 * c * s)
        q, u = _to_laboratory(e, q, u)
        lab = (weight, weight * q, weight * u, weight * v)
        bin_ = min(int(np.arcsin(min(h, 1.0)) * (2 / np.pi) * bins), bins - 1)
        for m in range(HARMONICS):
            for i in range(4):
                found.angle[side, bin_, m, i] += meridian[i] * waves[m]
    place = min(np.sqrt(x * x + y * y) / reach * (rings - 1), float(rings))
    ring = int(place)
    part = place - ring
    column, row = int(np.floor((x / reach + 1) / 2 * pixels)), int(np.floor((y / reach + 1) / 2 * pixels))
    pictured = not down and 0 <= column < pixels and 0 <= row < pixels
    for i in range(4):
        found.sides[side, i] += lab[i]
        for j in range(len(lengths)):
            found.slopes[side, 0, j, i] -= lab[i] * lengths[j]
            more = scatterings[j] / mu_s[j] if mu_s[j] > 0 else 0.0
            found.slopes[side, 1, j, i] += lab[i] * (more - lengths[j])
        if ring < rings:
            found.ring[side, ring, i] += lab[i] * (1 - part)
        if ring + 1 < rings:
            found.ring[side, ring + 1, i] += lab[i] * part
        if pictured:
            found.image[i, row, column] += lab[i]


@njit(**FAST)
def walk(medium, n, rows, start, k0, k1, first, last, reach, found, rays):
    """Carry photons ``first`` to ``last`` - 1 to their end and count them; one row of ``rays`` for each, if it has any.

    ``medium`` [4, L]: top, bottom, mu_a, mu_s; ``n`` [L + 2] with the outside; ``rows`` [L, cells + 1, COLUMNS];
    ``start`` [7]: direction inside and Stokes vector (weight, q, u, v) in its frame of incidence (p, s = y).
    """
    layers = medium.shape[1]
    e, lengths, scatterings = np.empty((3, 3)), np.empty(layers), np.empty(layers)
    for photon_ in range(first, last):
        photon, event = np.uint32(photon_), np.uint32(0)
        x, y, z, layer, strayed = 0.0, 0.0, 0.0, 0, False
        e[2, 0], e[2, 1], e[2, 2] = start[0], start[1], start[2]
        e[1, 0], e[1, 1], e[1, 2] = 0.0, 1.0, 0.0
        e[0, 0], e[0, 1], e[0, 2] = start[2], 0.0, -start[0]
        weight, q, u, v = start[3], start[4], start[5], start[6]
        for j in range(layers):
            lengths[j], scatterings[j] = 0.0, 0.0
        while True:
            b0, b1 = _threefry(k0, k1, photon, np.uint32(event | _FLY))
            free = -np.log((b0 + 0.5) * _FINE)
            kz = e[2, 2]
            down = kz > 0
            end = medium[1, layer] if down else medium[0, layer]
            gap, rise = abs(end - z), max(abs(kz), 1e-12)
            mu_a, mu_s = medium[2, layer], medium[3, layer]
            hits = gap * mu_s <= free * rise
            step = gap / rise if hits else free / mu_s
            x, y, z = x + e[2, 0] * step, y + e[2, 1] * step, end if hits else z + kz * step
            lengths[layer] += step
            left = weight * np.exp(-mu_a * step)
            found.absorbed[layer] += weight - left
            weight = left
            if hits:
                beyond = layer + 1 if down else layer - 1
                n_here, n_beyond = n[layer + 1], n[beyond + 1]
                q, u = _to_faces(e, q, u)
                out, bend, passes = kz, 1.0, True
                if n_here != n_beyond:
                    mirror, one, two, three = reflected(abs(kz), n_here, n_beyond, q, u, v)
                    passes = (b1 + 0.5) * _FINE >= mirror
                    if passes:
                        mirror, one, two, three = refracted(abs(kz), n_here, n_beyond, q, u, v)
                        bend = n_here / n_beyond
                        out = face(abs(kz), n_here, n_beyond)[3] * (1 if down else -1)
                    else:
                        out, strayed = -kz, True
                    q, u, v = one / mirror, two / mirror, three / mirror
                _leave(e, out, bend)
                if passes:
                    if beyond < 0 or beyond >= layers:
                        if len(rays):
                            _write(e, x, y, weight, q, u, v, lengths, scatterings, rays[photon_ - first])
                        if strayed:
                            _count(e, x, y, weight, q, u, v, lengths, scatterings, medium[3], reach, found)
                        break
                    layer = beyond
            else:
                b2, b3 = _threefry(k0, k1, photon, np.uint32(event | _TURN))
                q, u, v = _scatter(rows[layer], b1, b2, b3, e, q, u, v)
                scatterings[layer] += 1
                strayed = True
            if weight < _BELOW * start[3]:
                b4, _ = _threefry(k0, k1, photon, np.uint32(event | _LUCK))
                if (b4 + 0.5) * _FINE * _ODDS >= 1:
                    break
                weight *= _ODDS
            event = np.uint32(event + np.uint32(1))


def carry(medium, n, rows, start, words, first: int, last: int, reach: float, found: Counts, rays=None) -> None:
    """`walk` with its arguments in the types for which it is compiled, once.

    ``rays`` [last - first, RAY + 2 L], zeros: x, y, direction and Stokes vector in the laboratory of every photon that
    left, and its length and scatterings in every layer; light that ended inside leaves zeros.
    """
    k0, k1 = (np.uint32(w) for w in words)
    assert rows.shape[2] == COLUMNS
    arrays = (np.ascontiguousarray(a, float) for a in (medium, n, rows, start))
    table = np.empty((0, RAY)) if rays is None else rays
    walk(*arrays, k0, k1, int(first), int(last), float(reach), found, table)
