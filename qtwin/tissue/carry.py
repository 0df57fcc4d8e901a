"""Who carries the photons: threads of this processor, or every device of jax, on one host or several. One law."""

import os
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from qtwin.core import hosts
from qtwin.core.errors import UserError
from qtwin.scene.grid import Grid
from qtwin.tissue import paths
from qtwin.tissue.paths import Medium

CHUNK = 131072  # photons in flight on one device in one call: one shape, compiled once


def cores() -> int:
    """Processors that this process may use: those of the system, or NPROC of them, which jax obeys as well."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("NPROC", "")
    return min(there, int(asked)) if asked.isdigit() and int(asked) else there


def carry(
    medium: Medium,
    words,
    photons,
    *,
    start=None,
    grid: Grid | None = None,
    skip: int = 0,
    roulette: bool = True,
    object_layer: int = -1,
    kept: int = 0,
    point: bool = False,
    out: np.ndarray | None = None,
    rays: np.ndarray | None = None,
) -> np.ndarray:
    """Walk the photons numbered ``photons`` (uint32 [n]) to their end: float32 table [n, pack_size].

    ``words`` seed the law, ``start`` [n, 2] is where each meets the surface (None: on the axis); with a `padded`
    ``grid`` the transmission of the object is multiplied at every crossing. Keeps the displacement at crossings
    number ``skip`` .. ``skip + kept - 1`` of the object plane. ``roulette`` ends faint photons by an unbiased game;
    ``point`` keeps one point of every path, uniform along it. A photon's path depends on ``words`` and its number
    alone, not on who carries it or in which company (up to rounding). ``out`` is a table to write into (fresh memory
    costs a processor more than the walk of a thin slab). ``rays`` [n, 8] start the photons elsewhere (processors only):
    x, y, z, direction, weight, layer; x and y then are part of the first layer's displacement, the weight of ``boost``.
    Where a run has several hosts each carries a share, and all of them get the whole table.
    """
    photons = np.asarray(photons, np.uint32)
    shape = (len(photons), paths.pack_size(medium.mu_s.shape[0], kept, point))
    table = np.empty(shape, np.float32) if out is None else out
    options = {"object_layer": object_layer, "kept": kept, "point": point}
    if not hosts.connected():
        _here(medium, words, photons, start, grid, skip, roulette, table, rays, **options)
        return table
    own = hosts.share(len(photons))
    begin, aimed = (None if a is None else a[own] for a in (start, rays))
    _here(medium, words, photons[own], begin, grid, skip, roulette, table[own], aimed, **options)
    hosts.gather(table)
    return table


def _here(medium, words, photons, start, grid, skip, roulette, table, rays, **options):
    given = (medium, words, photons, start, grid, skip, roulette)
    if jax.default_backend() == "cpu":
        from qtwin.tissue import swarm  # here: numba is needed only where a processor carries

        swarm.carry(*given, table, rays, **options, threads=cores())
    elif rays is not None:
        raise UserError(f"light: accepted on {jax.default_backend()} is a pencil beam")
    else:
        on_devices(*given, table, **options)


def on_devices(medium, words, photons, start, grid, skip, roulette, table, *, object_layer, kept, point=False):
    """`paths.carry` on all devices of this host at once, each with an equal share of the photons."""
    devices = jax.local_devices()
    mesh = Mesh(np.array(devices), ("photons",))
    split, whole = NamedSharding(mesh, PartitionSpec("photons")), NamedSharding(mesh, PartitionSpec())
    size = len(devices) * min(CHUNK, 1 << max(-(-len(photons) // len(devices)) - 1, 0).bit_length())
    step = partial(_sharded, mesh, object_layer, kept, point)
    fixed = jax.device_put((medium, words, grid, jnp.asarray(skip, jnp.int32), jnp.asarray(bool(roulette))), whole)
    for first in range(0, len(photons), size):
        part = slice(first, first + size)
        some = np.resize(photons[part], size)  # a short last chunk repeats itself; the repeats are dropped
        begin = None if start is None else np.resize(np.asarray(start, np.float32)[part], (size, 2))
        table[part] = np.asarray(step(*fixed, *jax.device_put((some, begin), split)))[: len(table[part])]


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _sharded(mesh, object_layer, kept, point, medium, words, grid, skip, roulette, photons, start):
    across, same = PartitionSpec("photons"), PartitionSpec()

    def share(medium, words, grid, skip, roulette, photons, start):
        given = (medium, words, photons, start, grid, skip, roulette)
        return paths.carry(*given, object_layer=object_layer, kept=kept, point=point)

    specs = (same, same, same, same, same, across, across)
    run = jax.shard_map(share, mesh=mesh, in_specs=specs, out_specs=across, check_vma=False)
    return run(medium, words, grid, skip, roulette, photons, start)
