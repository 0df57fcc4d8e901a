"""Polarised light in a slab: Stokes vectors of what is reflected and transmitted, each with its standard error.

    dS/ds (r, k) = -(mu_a + mu_s) S(r, k) + mu_s int P(k, k') S(r, k') dk',    S = (I, Q, U, V)

(the vector transport equation: Chandrasekhar, Radiative Transfer (Oxford 1950), chapter I; Mishchenko, Travis & Lacis,
Multiple Scattering of Light by Particles (Cambridge 2006)), with Fresnel's Mueller matrices at the interfaces. An
engine of its own (`qtwin.tissue.polar_walk`), on a processor: the scalar walk knows nothing of it.

Frames are right-handed triads (e1, e2, k), k the direction of the light: Q = I_1 - I_2, U > 0 at +45 degrees from e1
towards e2, V > 0 turns clockwise for who looks into the light. In the laboratory e1 is x, behind a lens that turns the
exit direction k (by the shortest way) to the axis; e2 is y for transmitted light, -y for reflected light.
The meridian plane holds k and the axis z; there e1 points to growing polar angle from +z (the sign does not matter).
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import numpy as np

from qtwin.core.errors import UserError
from qtwin.core.random import stream, words
from qtwin.core.units import data_size
from qtwin.tissue.carry import cores
from qtwin.tissue.exits import COPIES, Exits
from qtwin.tissue.polar_tables import tables
from qtwin.tissue.slab import Slab
from qtwin.tissue.tallies import LIGHT_SPEED, Bins, default_bins
from qtwin.tissue.transport import LIMIT, Measured, jackknife, measured
from qtwin.tissue.walk import BLOCKS

CALL = 1 << 18  # photons between two looks at the keyboard
NATURAL = (1.0, 0.0, 0.0, 0.0)


class PolarisedTransport(NamedTuple):
    """Stokes vectors (last axis but for the image) per incident photon; L layers.

    Curves and images are of strayed light (scattered, or reflected inside). By angle: Fourier coefficients in the
    azimuth phi of the exit, S = S_0 + S_1 cos phi + S_2 sin phi + S_3 cos 2 phi + S_4 sin 2 phi + ..., in the meridian
    plane. By radius: the mean over a ring, under a triangle that reaches to the neighbouring nodes.
    """

    specular: np.ndarray  # [4] reflected at the surface, exactly
    ballistic: np.ndarray  # [4] straight, unscattered, unreflected, exactly
    reflected: Measured  # [4] entered and came back
    transmitted: Measured  # [4] straight light included
    absorbed: Measured  # [L] fractions
    polarisation: dict[str, Measured]  # reflected, transmitted: sqrt(Q^2 + U^2 + V^2)/I, biased upwards where it is 0
    angle_reflected: Measured  # [angles, 5, 4] 1/sr
    angle_transmitted: Measured  # [angles, 5, 4] 1/sr
    radius_reflected: Measured  # [rings, 4] 1/m^2
    radius_transmitted: Measured  # [rings, 4] 1/m^2
    image_reflected: Measured  # [4, pixels, pixels] 1/m^2, rows y, columns x, both from -radius to radius of the bins
    slopes: dict[str, dict[str, Measured]]  # mu_a, mu_s -> reflected, transmitted: derivative by every layer, [L, 4]
    bins: Bins
    photons: int


class PolarisedExits(NamedTuple):
    """Rays that leave, straight ones included, each with its Stokes vector."""

    rays: Exits
    stokes: np.ndarray  # [n, 4] in the laboratory; I is the weight of the ray


def analysed(stokes, angle: float = 0.0):
    """I = (I + Q cos 2a + U sin 2a)/2 behind a linear polariser whose axis stands at ``angle`` from e1 (rad).

    ``stokes`` [4, ...]; at 0 and pi/2 the co- and the cross-polarised part for light sent in along x.
    """
    return (stokes[0] + stokes[1] * np.cos(2 * angle) + stokes[2] * np.sin(2 * angle)) / 2


def degree_of_polarisation(stokes) -> np.ndarray:
    """sqrt(Q^2 + U^2 + V^2)/I of ``stokes`` [..., 4]; 0 where there is no light."""
    stokes = np.asarray(stokes, float)
    lit = np.where(stokes[..., 0] > 0, stokes[..., 0], 1)
    return np.where(stokes[..., 0] > 0, np.linalg.norm(stokes[..., 1:], axis=-1) / lit, 0)


def _incident(stokes) -> np.ndarray:
    """(q, u, v) of a Stokes vector of any intensity."""
    try:
        given = np.asarray(stokes, float)
    except (TypeError, ValueError):
        given = np.full(1, np.nan)
    fit = given.shape == (4,) and bool(np.all(np.isfinite(given))) and given[0] > 0
    if not fit or np.linalg.norm(given[1:]) > given[0] * (1 + 1e-9):
        accepted = "four numbers (I, Q, U, V) with I greater than 0 and Q^2 + U^2 + V^2 at most I^2"
        raise UserError(f"stokes: got {stokes}, accepted is {accepted}")
    return given[1:] / given[0]


def _accepted(stokes, photons, angle: float) -> np.ndarray:
    """(q, u, v) of the incident light; UserError for what no walk can start from."""
    part = _incident(stokes)
    if not 1 <= photons < 2**32 - BLOCKS:
        raise UserError(f"photons: got {photons}, accepted is at least 1 and less than 2^32")
    if not 0 <= angle < np.pi / 2:
        raise UserError(f"angle: got {angle:g} rad, accepted is from 0 to less than pi/2")
    return part


def _medium(slab: Slab):
    """Top, bottom, mu_a, mu_s of every layer [4, L]; indices with air on both sides [L + 2]."""
    bottoms = np.cumsum(np.asarray(slab.thickness, float))
    medium = np.stack([np.append(0, bottoms[:-1]), bottoms, np.asarray(slab.mu_a), np.asarray(slab.mu_s)])
    return medium, np.array([1.0, *np.asarray(slab.n, float), 1.0])


def _straight(slab: Slab, polarised: np.ndarray, angle: float):
    """(specular [4], start [7], ballistic [4], optical depth and slant of every layer) of a beam at ``angle`` in air.

    Its frame at the surface is (p, s) with s = y: the plane of incidence holds x.
    """
    from qtwin.tissue.polar_walk import reflected, refracted  # here: numba is needed only where a processor carries

    n = np.array([1.0, *np.asarray(slab.n, float), 1.0])
    cosines = np.sqrt(np.maximum(1 - (np.sin(angle) / n) ** 2, 0))
    mirror = np.array(reflected(cosines[0], n[0], n[1], *polarised)) if n[1] != 1 else np.zeros(4)
    beam = np.array([1.0, *polarised])
    start = beam
    for i in range(len(n) - 1):
        if n[i] != n[i + 1]:
            beam = beam[0] * np.array(refracted(cosines[i], n[i], n[i + 1], *(beam[1:] / beam[0])))
        start = beam if i == 0 else start
    slant = np.asarray(slab.thickness, float) / cosines[1:-1]
    depth = (np.asarray(slab.mu_a, float) + np.asarray(slab.mu_s, float)) @ slant
    first = np.array([np.sin(angle) / n[1], 0.0, cosines[1], start[0], *(start[1:] / start[0])])
    return mirror, first, beam * np.exp(-depth), slant


def polarised(
    slab: Slab,
    scatterers,
    stokes=NATURAL,
    *,
    key,
    photons: int,
    angle: float = 0.0,
    bins: Bins | None = None,
    pixels: int = 0,
    memory_limit: float = LIMIT,
) -> PolarisedTransport:
    """Carry ``photons`` of a pencil beam of Stokes vector ``stokes`` through ``slab``; air on both sides.

    ``scatterers``: one of `Rayleigh`, `Mie`, `Depolarising`, or a list of one per layer (None where mu_s is 0); they
    take the place of the slab's g, which is not used. mu_s is the slab's. ``angle`` of incidence (rad, in air, in the
    plane xz towards +x); e1 of the incident light then lies in that plane, and (for 0) is x. ``photons`` are rounded up
    to whole blocks. ``pixels``: side of the image of reflected light, 0 for none. The same key gives the same bits on
    any number of threads. A walk where mu_s is 0 has seen no scattering: its slope by that mu_s says nothing.

    Raises UserError of a Stokes vector that is none, of a missing or unfit scatterer, of no photons or 2^32, of an
    angle from pi/2, of more than ``memory_limit`` bytes, and of an energy balance that is off by 6 standard errors.
    """
    from qtwin.tissue.polar_walk import carry, counts  # here: numba is needed only where a processor carries

    part = _accepted(stokes, photons, angle)
    if pixels < 0:
        raise UserError(f"pixels: got {pixels}, accepted is 0 or more")
    bins = default_bins(slab) if bins is None else bins
    rows, layers, reach = tables(slab, scatterers), slab.mu_s.shape[0], float(bins.radius)
    cells = (layers, bins.angles, bins.rings, int(pixels))
    need = 8 * (BLOCKS + 4) * (40 * bins.angles + 8 * bins.rings + 17 * layers + 4 * pixels**2) + rows.nbytes
    if need > memory_limit:
        raise UserError(f"memory_limit: got {memory_limit / 2**20:.3g} MiB, this walk needs {need / 2**20:.3g} MiB")
    medium, n = _medium(slab)
    specular, start, ballistic, slant = _straight(slab, part, angle)
    seed, per_block = words(stream(key, "polarised")), -(-int(photons) // BLOCKS)
    found = [counts(*cells) for _ in range(BLOCKS)]

    def block(b):
        for first in range(b * per_block, (b + 1) * per_block, CALL):
            last = min(first + CALL, (b + 1) * per_block)
            carry(medium, n, rows, start, seed, first, last, reach, found[b])

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(block, range(BLOCKS)))
    means = jax.tree.map(lambda *a: np.stack(a) / per_block, *found)
    return _report(means, specular, ballistic, slant, bins, int(pixels), BLOCKS * per_block)


def polarised_exits(
    slab: Slab, scatterers, stokes=NATURAL, *, key, photons: int, angle: float = 0.0, memory_limit: float = LIMIT
) -> tuple[PolarisedExits, np.ndarray]:
    """Rays that leave when ``photons`` of a polarised pencil beam meet ``slab``, and the specular Stokes vector [4].

    As `polarised`, whose sums these rays make for the same key (there the straight part is exact), and as
    `qtwin.tissue.exits`. Raises UserError as both.
    """
    from qtwin.tissue.polar_walk import RAY, carry, counts  # here: numba is needed only where a processor carries

    part, rows, layers = _accepted(stokes, photons, angle), tables(slab, scatterers), slab.mu_s.shape[0]
    need = 8 * (RAY + 2 * layers) * COPIES * int(photons)
    if need > memory_limit:
        limit = f"memory_limit is {data_size(memory_limit)}"
        raise UserError(f"photons: {photons} photons that leave need {data_size(need)}, {limit}")
    medium, n = _medium(slab)
    specular, start, _, _ = _straight(slab, part, angle)
    seed, table = words(stream(key, "polarised")), np.zeros((int(photons), RAY + 2 * layers))

    def some(first):
        last = min(first + CALL, int(photons))
        carry(medium, n, rows, start, seed, first, last, 1.0, counts(layers, 1, 1, 0), table[first:last])

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(some, range(0, int(photons), CALL)))
    left = np.flatnonzero(table[:, 5] > 0)
    out = table[left]
    length = out[:, RAY : RAY + layers]
    time = length @ np.asarray(slab.n, float) / LIGHT_SPEED
    rays = Exits(left, out[:, 4] > 0, out[:, :2], out[:, 2:5], time, out[:, 5], length, out[:, RAY + layers :])
    return PolarisedExits(rays, out[:, 5:9]), specular


def _report(means, specular, ballistic, slant, bins: Bins, pixels: int, photons: int) -> PolarisedTransport:
    """The result, from means over the photons of every block (the first axis)."""
    up, down = means.sides[:, 0], means.sides[:, 1] + ballistic
    balance = measured(specular[0] + up[:, 0] + down[:, 0] + means.absorbed.sum(axis=1) - 1)
    if abs(balance.value) > 6 * balance.stderr + 1e-5:
        raise UserError(
            f"energy balance: R + T + A - 1 = {balance.value:.2g} +- {balance.stderr:.2g}; a fault of the walk"
        )
    edges, h = np.asarray(bins.edges(), float), float(bins.radius) / (bins.rings - 1)
    solid = 2 * np.pi * (np.cos(edges[:-1]) - np.cos(edges[1:]))
    waves = np.array([1.0, 2, 2, 2, 2])
    by_angle = means.angle * waves[:, None] / solid[:, None, None]
    area = 2 * np.pi * h * h * np.append(1 / 6, np.arange(1, bins.rings))
    by_radius = means.ring / area[:, None]
    pixel = (2 * float(bins.radius) / max(pixels, 1)) ** 2
    lost = -slant[:, None] * ballistic  # of straight light, by mu_a as by mu_s
    sides = {"reflected": (0, 0), "transmitted": (1, lost)}
    slopes = {
        field: {name: measured(means.slopes[:, side, row] + also) for name, (side, also) in sides.items()}
        for row, field in enumerate(("mu_a", "mu_s"))
    }
    degrees = {
        "reflected": jackknife(degree_of_polarisation, up),
        "transmitted": jackknife(degree_of_polarisation, down),
    }
    return PolarisedTransport(
        specular,
        ballistic,
        measured(up),
        measured(down),
        measured(means.absorbed),
        degrees,
        measured(by_angle[:, 0]),
        measured(by_angle[:, 1]),
        measured(by_radius[:, 0]),
        measured(by_radius[:, 1]),
        measured(means.image / pixel),
        slopes,
        bins,
        photons,
    )
