"""One walk of many photons, and what it says about this slab and its neighbours.

Light enters straight down at one point: a slab of plane layers looks the same from everywhere, so the
position where a photon enters is chosen later. Paths are kept in independent blocks of equal size,
from which every standard error is made.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import UserError
from qtwin.core.random import words
from qtwin.core.units import data_size
from qtwin.tissue.carry import carry
from qtwin.tissue.paths import Medium, Paths, pack_size, unpack
from qtwin.tissue.slab import Layers, Slab

BLOCKS = 32
ROWS = 256  # a block holds whole rows of this many paths
LOT, KEPT = 128, 32  # photons of a block walked again together, crossings kept of each in one pass
ROOM = 256  # crossings there is room for: one shape for all slabs, so that a sweep compiles once


class Walk(eqx.Module):
    """Paths of one walk, [BLOCKS, n, ...], the most forward ones first in each block.

    ``again``: photons that cross the object more than once and can be seen, walked again so that all
    their crossings are known; tuple of Paths [BLOCKS, LOT, ...], empty places have boost 0.
    """

    layers: Layers = eqx.field()  # the sublayers that were walked (float64 or 32, no gradient)
    paths: Paths
    again: tuple[Paths, ...]
    aperture: jax.Array  # photons beyond this sine were not walked again
    photons: int = eqx.field(static=True)


def medium_of(layers: Layers, versines=None) -> Medium:
    """Float32 coefficients for the walk; air outside. ``versines`` [M, N + 1]: see `scattering.versines`."""
    bottom = jnp.cumsum(layers.thickness)
    top = jnp.concatenate([jnp.zeros(1, bottom.dtype), bottom[:-1]])
    air = jnp.ones(1, bottom.dtype)
    n = jnp.concatenate([air, layers.n, air])
    numbers = (top, bottom, layers.mu_a, layers.mu_s, layers.g, n)
    return Medium(*(jnp.asarray(a, jnp.float32) for a in numbers))._replace(versines=versines)


def memory(photons: int, sublayers: int) -> int:
    """Bytes that a walk holds at its peak: the table and its sorted copy."""
    return 8 * pack_size(sublayers, 1) * photons


def rounded(photons: int) -> int:
    """Photons are walked in whole blocks of whole rows: the next multiple of BLOCKS * ROWS."""
    unit = BLOCKS * ROWS
    return -(-photons // unit) * unit


def _again(medium, seed, numbers, crossings, per_block, object_layer):
    """Walk the photons ``numbers`` again, block by block, those with the most crossings first."""
    lots = [np.flatnonzero(numbers // per_block == b) for b in range(BLOCKS)]
    lots = [lot[np.argsort(-crossings[lot], kind="stable")] for lot in lots]
    sublayers = medium.mu_s.shape[0]
    again = []
    for first in range(0, max(len(lot) for lot in lots), LOT):
        parts = [lot[first : first + LOT] for lot in lots]
        present = np.zeros((BLOCKS, LOT), bool)
        photons = np.zeros((BLOCKS, LOT), np.uint32)
        for b, part in enumerate(parts):
            present[b, : len(part)], photons[b, : len(part)] = True, numbers[part]
        most = max(crossings[part].max(initial=1) for part in parts)
        # an empty place walks a real photon of the list: nothing longer than what is there anyway
        photons = np.where(present, photons, photons[present][0])
        windows = []
        for window in range(-(-int(most) // KEPT)):
            skip = window * KEPT
            table = carry(medium, seed, photons.ravel(), skip=skip, object_layer=object_layer, kept=KEPT)
            windows.append(unpack(jnp.asarray(table.reshape(BLOCKS, LOT, -1)), sublayers, KEPT))
        crossed = jnp.concatenate([w.crossed_at for w in windows], axis=2)
        missing = -crossed.shape[2] % ROOM
        crossed = jnp.pad(crossed, [(0, 0), (0, 0), (0, missing), (0, 0), (0, 0)])
        boost = jnp.where(jnp.asarray(present), windows[0].boost, 0)
        again.append(windows[0]._replace(crossed_at=crossed, boost=boost))
    return tuple(again)


def walk(slab: Slab, *, key, photons: int, aperture: float = 1.0, memory_limit: float = np.inf) -> Walk:
    """Carry ``photons`` (rounded up to whole blocks) through the slab; every one is followed to its end.

    ``aperture``: sine (in air) below which an imaging system may see a photon that crossed the object
    more than once; those are walked again so that all their crossings are known.
    Raises UserError if it would need more than ``memory_limit`` bytes.
    """
    layers = jax.tree.map(jax.lax.stop_gradient, slab.layers())
    layers = layers._replace(object=slab.object_layer)
    sublayers = layers.thickness.shape[0]
    total = rounded(photons)
    need = memory(total, sublayers)
    if need > memory_limit:
        limit = f"memory_limit is {data_size(memory_limit)}"
        raise UserError(f"walk.photons: {photons} photons need {data_size(need)}, {limit}")
    medium, seed = medium_of(layers), words(key)
    numbers = np.arange(total, dtype=np.uint32)
    per_block = total // BLOCKS
    table = carry(medium, seed, numbers, object_layer=layers.object, kept=1)
    paths = unpack(table, sublayers, 1)
    sine = np.hypot(paths.direction[:, 0], paths.direction[:, 1])
    seen = (paths.transmitted > 0) & (sine <= aperture) & (np.asarray(paths.boost) > 0)
    several = seen & (np.asarray(paths.crossings) > 1)
    again = _again(medium, seed, numbers[several], np.asarray(paths.crossings)[several], per_block, layers.object)
    rank = np.where((paths.transmitted > 0) & (paths.strayed > 0), sine, 2.0).reshape(BLOCKS, per_block)
    order = np.argsort(rank, axis=1, kind="stable")
    blocks = np.take_along_axis(table.reshape(BLOCKS, per_block, -1), order[:, :, None], axis=1)
    return Walk(layers, unpack(jnp.asarray(blocks), sublayers, 1), again, jnp.asarray(aperture, jnp.float32), total)
