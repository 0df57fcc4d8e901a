"""Light on its way to the next stage: every photon that leaves a slab, one row each."""

from typing import NamedTuple

import jax
import numpy as np

from qtwin.core.errors import UserError
from qtwin.core.random import stream, words
from qtwin.core.units import data_size
from qtwin.tissue.carry import carry
from qtwin.tissue.lights import AbstractLight, Pencil, Starts
from qtwin.tissue.paths import pack_size, unpack
from qtwin.tissue.scattering import Phase, scattering
from qtwin.tissue.slab import Slab
from qtwin.tissue.tallies import LIGHT_SPEED
from qtwin.tissue.walk import medium_of

LIMIT = 2**31  # bytes, where nothing else is said
COPIES = 4  # of the table, while it is read


class Exits(NamedTuple):
    """n photons outside, [n, ...]; the sum of the weights over the photons sent is the fraction that left."""

    photon: np.ndarray  # [n] number of the photon, of those sent
    below: np.ndarray  # [n] bool: left through the lower surface
    place: np.ndarray  # [n, 2] x and y there, m
    direction: np.ndarray  # [n, 3] unit vectors in air, z downwards
    time: np.ndarray  # [n] time of flight in the slab, s
    weight: np.ndarray  # [n] what was not absorbed of a photon of weight 1
    length: np.ndarray  # [n, L] path in each layer, m
    scatterings: np.ndarray  # [n, L]


def exits(
    slab: Slab,
    *,
    key,
    photons: int,
    light: AbstractLight | None = None,
    phase: Phase = None,
    memory_limit: float = LIMIT,
) -> tuple[Exits, float]:
    """Carry ``photons`` of ``light`` (None: a pencil beam) through ``slab``: those that leave, straight ones included.

    ``phase``: as in `qtwin.tissue.transport.transport`.

    Returns them and the fraction that never entered (specular reflection). Raises UserError for no photons, or for more
    than ``memory_limit`` bytes.
    """
    slab, laws = scattering(slab, phase)
    layers, light = jax.tree.map(jax.lax.stop_gradient, slab.whole()), Pencil() if light is None else light
    light.check_in(slab)
    count, size = layers.thickness.shape[0], 4 * pack_size(layers.thickness.shape[0], 0) * COPIES
    if not 1 <= photons < 2**32:
        raise UserError(f"photons: got {photons}, accepted is at least 1 and less than 2^32")
    if photons * size > memory_limit:
        raise UserError(
            f"photons: {photons} photons that leave need {data_size(photons * size)}, "
            f"memory_limit is {data_size(memory_limit)}"
        )
    seed = stream(key, "transport")
    numbers = np.arange(photons, dtype=np.uint32)
    starts = light.starts(slab, np.random.default_rng([int(w) for w in words(stream(seed, "light"))]), numbers)
    table = carry(medium_of(layers._replace(object=0), laws), words(seed), numbers, rays=rays_of(starts))
    paths = unpack(table, count, 0)
    length = np.asarray(paths.length, float)
    weight = np.asarray(paths.boost) * np.exp(-length @ np.asarray(layers.mu_a, float))
    left = np.flatnonzero(weight > 0)
    sine2 = np.minimum(np.sum(np.asarray(paths.direction, float) ** 2, axis=1), 1)
    down = np.asarray(paths.transmitted) > 0
    cosine = np.where(down, 1, -1) * np.sqrt(1 - sine2)
    found = Exits(
        numbers,
        down,
        np.asarray(paths.shift, float).sum(axis=1),
        np.column_stack([paths.direction, cosine]),
        length @ np.asarray(layers.n, float) / LIGHT_SPEED,
        weight,
        length,
        np.asarray(paths.scatterings),
    )
    return Exits(*(a[left] for a in found)), 1 - float(np.mean(starts.weight))


def rays_of(starts: Starts) -> np.ndarray:
    """Float32 [n, 8] as the walk reads starts."""
    return np.column_stack([starts.position, starts.direction, starts.weight, starts.layer]).astype(np.float32)
