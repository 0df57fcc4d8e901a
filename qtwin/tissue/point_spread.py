"""How a lens above the tissue sees a point inside."""

from typing import NamedTuple

import numpy as np

from qtwin.core.errors import UserError
from qtwin.tissue.exits import LIMIT, exits
from qtwin.tissue.lights import Isotropic
from qtwin.tissue.scattering import Phase
from qtwin.tissue.slab import Slab
from qtwin.tissue.transport import Measured, jackknife, measured
from qtwin.tissue.walk import BLOCKS


class PointSpread(NamedTuple):
    """Image of a point at a depth; per photon that it sends out in all directions."""

    radius: np.ndarray  # [rings + 1] edges, m
    density: Measured  # [rings] 1/m^2 of accepted light, 1 in all with what lies beyond the rings
    within: Measured  # [rings] accepted light up to the outer edge of a ring, 1 in all
    accepted: Measured  # what the lens accepts
    sharp: Measured  # part of it that was never scattered or reflected


def point_spread(
    slab: Slab,
    depth,
    *,
    key,
    photons: int,
    numerical_aperture: float,
    radius: float | None = None,
    rings: int = 50,
    phase: Phase = None,
    memory_limit: float = LIMIT,
) -> PointSpread:
    """E(r) of an isotropic point at ``depth`` (m), seen from above through an aperture in air.

    Every ray that leaves within the aperture is drawn on, in air, to the plane z_a = sum d_i/n_i where a point at that
    depth seems to lie (paraxially; Born & Wolf, Principles of Optics, section 4.4), as a lens focused there would map
    it; diffraction is not in it. By reciprocity this is also how a beam that is focused there spreads over the depth.
    ``radius``: of the outermost ring (None: the depth). Raises UserError as `exits`, and where no light is accepted.
    """
    if not 0 < numerical_aperture <= 1:
        raise UserError(f"numerical_aperture: got {numerical_aperture:g}, accepted is greater than 0 and at most 1")
    light = Isotropic(depth=depth)
    found, _ = exits(slab, key=key, photons=photons, light=light, phase=phase, memory_limit=memory_limit)
    depth = float(light.depth)
    edges = np.linspace(0, depth if radius is None else radius, rings + 1)
    tops = np.concatenate([[0.0], np.cumsum(np.asarray(slab.thickness, float))])
    above = np.clip(depth - tops[:-1], 0, np.diff(tops))  # of each layer
    seeming = float(np.sum(above / np.asarray(slab.n, float)))
    seen = ~found.below & (np.hypot(*found.direction[:, :2].T) <= numerical_aperture)
    if not seen.any():
        raise UserError(f"photons: of {photons} none was accepted; more photons, or a larger numerical_aperture")
    u, weight = found.direction[seen], found.weight[seen]
    drawn = found.place[seen] + u[:, :2] / u[:, 2:] * seeming
    r, block = np.hypot(*drawn.T), found.photon[seen].astype(np.int64) * BLOCKS // photons
    cosine = np.sqrt(1 - np.sum(u[:, :2] ** 2, axis=1)[:, None] / np.asarray(slab.n, float) ** 2)  # in every layer
    direct = np.all(np.abs(found.length[seen] * cosine - above) < 1e-4 * depth, axis=1)  # not reflected either
    straight = direct & (found.scatterings[seen].sum(axis=1) == 0)
    ring = np.minimum(np.searchsorted(edges, r, side="right") - 1, rings)
    sums = np.zeros((BLOCKS, rings + 2))  # rings, what lies beyond, straight light
    np.add.at(sums, (block, ring), weight)
    sums[:, -1] = np.bincount(block, weight * straight, BLOCKS)
    area = np.pi * np.diff(edges**2)
    return PointSpread(
        edges,
        jackknife(lambda s: s[:-2] / np.sum(s[:-1]) / area, sums),
        jackknife(lambda s: np.cumsum(s[:-2]) / np.sum(s[:-1]), sums),
        measured(sums[:, :-1].sum(axis=1) * BLOCKS / photons),
        jackknife(lambda s: s[-1] / np.sum(s[:-1]), sums),
    )
