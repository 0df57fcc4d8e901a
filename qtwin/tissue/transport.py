"""`transport`: as many photons through a slab as wanted, in bounded memory; every tally with its standard error.

Photons are walked in BLOCKS independent blocks; a large block in several passes. The mean over blocks is the
estimate, its spread over sqrt(BLOCKS) the standard error. Only one pass of photons is in memory at a time.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpy.polynomial import chebyshev

from qtwin.core import hosts
from qtwin.core.errors import UserError
from qtwin.core.random import stream, words
from qtwin.tissue.carry import carry, cores
from qtwin.tissue.exits import rays_of
from qtwin.tissue.lights import AbstractLight, Pencil
from qtwin.tissue.paths import Medium, Paths, pack_size, unpack
from qtwin.tissue.scattering import Phase, scattering
from qtwin.tissue.slab import Layers, Slab
from qtwin.tissue.tallies import Bins, Tallies, assemble, default_bins, gather, moments, slopes
from qtwin.tissue.walk import BLOCKS, medium_of
from qtwin.tissue.weights import log_losses, log_ratios

PASS = 65536  # photons in memory at once, unless the limit is lower
WORK = 8  # copies of a pass that its evaluation holds in float64, as measured
LIMIT = 2**31  # bytes, where nothing else is said
ROWS = 2048  # photons weighed together for many slabs
NODES = 16  # values at which paths are weighed where many are asked for
FEWEST = 0.1  # effective part of the photons below which a neighbouring slab is refused


class Measured(NamedTuple):
    """A mean and its standard error, arrays of one shape."""

    value: np.ndarray
    stderr: np.ndarray


class Transport(NamedTuple):
    """What `transport` found: every field of `Tallies` as `Measured`, and derivatives of the fractions."""

    tallies: dict[str, Measured]
    slopes: dict[str, dict[str, Measured]]  # field -> figure -> derivative by the field of every layer, [L]
    bins: Bins
    photons: int


def measured(blocks) -> Measured:
    """Mean and standard error over the first axis."""
    blocks = np.asarray(blocks, float)
    return Measured(blocks.mean(axis=0), blocks.std(axis=0, ddof=1) / np.sqrt(len(blocks)))


def jackknife(function: Callable, blocks: np.ndarray) -> Measured:
    """A function of the mean over blocks [blocks, ...], without its first-order bias: Efron, Ann. Stat. 7, 1 (1979)."""
    n, whole = len(blocks), blocks.mean(axis=0)
    without = np.stack([function((n * whole - one) / (n - 1)) for one in blocks])
    mean = without.mean(axis=0)
    return Measured(n * function(whole) - (n - 1) * mean, np.sqrt((n - 1) * np.mean((without - mean) ** 2, axis=0)))


def _size(layers: int, memory_limit: float) -> int:
    """Photons of one pass, a power of two within the memory limit."""
    need = pack_size(layers, 0, point=True) * 8 * WORK
    size = 1 << int(np.log2(max(memory_limit / need, 1)))
    if size < 4096:
        short = f"a pass of 4096 photons through {layers} layers needs {4096 * need / 2**20:.0f} MiB"
        raise UserError(f"memory_limit: got {memory_limit / 2**20:.3g} MiB, {short}")
    return min(size, PASS)


def _medium(slab: Slab, laws) -> Medium:
    layers = jax.tree.map(jax.lax.stop_gradient, slab.whole())
    return medium_of(layers._replace(object=0), laws)


def each_pass(
    slab: Slab, photons: int, key, memory_limit: float, use: Callable[[Layers, jax.Array], object], laws=None
):
    """Walk ``photons`` (rounded up to whole passes): mean per block of ``use``(walked, table [blocks, n, columns])."""
    layers = jax.tree.map(jax.lax.stop_gradient, slab.whole())
    walked, count = layers._replace(object=0), layers.thickness.shape[0]
    size, per_block = _size(count, memory_limit), max(-(-photons // BLOCKS), 256)
    together = max(1 << int(np.log2(max(size // per_block, 1))), 1)  # blocks of one pass
    together = min(together, BLOCKS)
    passes = -(-per_block // size)
    n = -(-per_block // passes)
    if BLOCKS * n * passes >= 2**32:
        raise UserError(f"photons: got {photons:.4g}, accepted is less than 2^32")
    medium, seed = _medium(slab, laws), words(key)
    table = _aligned(together * n, pack_size(count, 0, point=True))
    sums: list[object] = []
    for first in range(0, BLOCKS, together):
        total = None
        for i in range(passes):
            start = (first * passes + i * together) * n
            carry(medium, seed, np.arange(start, start + together * n, dtype=np.uint32), point=True, out=table)
            # the evaluation reads the table where it stands, and is awaited before the next pass writes there
            lent = jax.device_put(table.reshape(together, n, -1), may_alias=True)
            found = jax.tree.map(np.asarray, use(walked, lent))
            total = found if total is None else jax.tree.map(np.add, total, found)
        sums.append(jax.tree.map(lambda a: a / passes, total))
    return jax.tree.map(lambda *a: np.concatenate(a), *sums), BLOCKS * n * passes


def _aligned(rows: int, columns: int) -> np.ndarray:
    """Float32 [rows, columns] that begins at a multiple of 64 bytes, as jax needs it to read it in place."""
    space = np.empty(rows * columns + 16, np.float32)
    first = -space.ctypes.data % 64 // 4
    return space[first : first + rows * columns].reshape(rows, columns)


def _paths(table, walked: Layers) -> Paths:
    return unpack(table, walked.thickness.shape[0], 0, point=True)


@eqx.filter_jit
def _gather(walked, table, bins, aperture):
    """`Sums` and `Moments` of every block of a table."""

    def block(part):
        paths = _paths(part, walked)
        return gather(walked, walked, paths, bins, aperture), moments(walked, paths, aperture)

    return jax.vmap(block)(table)


@eqx.filter_jit
def _assemble(slab, walked, sums, bins, pencil):
    return jax.vmap(lambda one: assemble(slab, walked, one, bins, pencil))(sums)


@eqx.filter_jit
def _slopes(slab, walked, sums, found, pencil):
    return jax.vmap(lambda one, m: slopes(slab, walked, one, m, pencil))(sums, found)


def _rays(slab: Slab, light: AbstractLight, key) -> Callable[[np.ndarray], np.ndarray]:
    """Photon numbers [n] -> float32 [n, 8] as the walk reads them; photons walked in one call draw from one stream."""
    seed = [int(w) for w in words(stream(key, "light"))]

    def aimed(numbers: np.ndarray) -> np.ndarray:
        return rays_of(light.starts(slab, np.random.default_rng([*seed, int(numbers[0])]), numbers))

    return aimed


def fits(slab: Slab, photons: int, bins: Bins, memory_limit: float, aimed: bool = False) -> int:
    """Photons of one block of `transport`. Raises UserError for more than memory or counter hold."""
    count, per_block, need = slab.mu_a.shape[0], max(-(-photons // BLOCKS), 256), 0
    if jax.default_backend() == "cpu":
        from qtwin.tissue import swarm  # here: numba is needed only where a processor carries

        need = swarm.memory(count, bins, cores(), aimed)
    else:
        _size(count, memory_limit)
    if need > memory_limit:
        raise UserError(f"memory_limit: got {memory_limit / 2**20:.3g} MiB, this walk needs {need / 2**20:.3g} MiB")
    if BLOCKS * per_block >= 2**32:
        raise UserError(f"photons: got {photons:.4g}, accepted is less than 2^32")
    return per_block


def _counted(slab: Slab, photons: int, key, memory_limit: float, bins: Bins, aperture: float, light, laws, **kept):
    """`Sums` and `Moments` of BLOCKS blocks, and the photons they took.

    A processor counts photons as they end, other devices what a pass leaves.
    """
    if jax.default_backend() != "cpu":
        if not isinstance(light, Pencil):
            raise UserError(f"light: got {type(light).__name__}, accepted on {jax.default_backend()} is a pencil beam")
        where = jnp.asarray(aperture)
        return each_pass(slab, photons, key, memory_limit, lambda w, t: _gather(w, t, bins, where), laws)
    from qtwin.tissue import swarm  # here: numba is needed only where a processor carries

    per_block = fits(slab, photons, bins, memory_limit, not isinstance(light, Pencil))
    own = hosts.share(BLOCKS)  # each of several hosts walks some of the blocks, and gets them all
    if own.stop == own.start:
        raise UserError(f"hosts.count: got more than the {BLOCKS} blocks of a walk; accepted is at most so many")
    given = (_medium(slab, laws), words(key), per_block, range(own.start, own.stop))
    rays = None if isinstance(light, Pencil) else _rays(slab, light, key)
    found = swarm.tally(*given, bins, aperture, **kept, threads=cores(), rays=rays)
    if hosts.connected():
        found = jax.tree.map(lambda part: hosts.gathered(part, BLOCKS), found)
    return found, BLOCKS * per_block


def transport(
    slab: Slab,
    *,
    key,
    photons: int,
    light: AbstractLight | None = None,
    phase: Phase = None,
    bins: Bins | None = None,
    numerical_aperture: float = 1.0,
    derivatives: bool = True,
    fluence: bool = True,
    memory_limit: float = LIMIT,
) -> Transport:
    """Tallies of ``light`` (None: a pencil beam) on ``slab``; derivatives of fractions by mu_a, mu_s, g, thickness.

    ``phase``: the law of scattering of all layers, or of each, in place of Henyey & Greenstein's with the slab's g;
    there are no derivatives by g then. ``photons`` are rounded up to whole blocks. It is faster without
    ``derivatives`` and ``fluence``, the curve over depth. Raises UserError for no photons, for a memory limit that
    holds none, and for an energy balance that is off by more than 6 standard errors.
    """
    if photons < 1:
        raise UserError(f"photons: got {photons}, accepted is at least 1")
    slab, laws = scattering(slab, phase)
    bins, light = default_bins(slab) if bins is None else bins, Pencil() if light is None else light
    light.check_in(slab)
    pencil = isinstance(light, Pencil)
    walked, seed = jax.tree.map(jax.lax.stop_gradient, slab.whole()), stream(key, "transport")
    kept = {"points": derivatives or fluence, "derivatives": derivatives}
    counted, total = _counted(slab, photons, seed, memory_limit, bins, float(numerical_aperture), light, laws, **kept)
    sums, weighed = jax.tree.map(jnp.asarray, counted)
    found = _assemble(slab, walked, sums, bins, pencil)
    sloped = _slopes(slab, walked, sums, weighed, pencil) if derivatives else {}
    balance = measured(found.balance)
    if abs(balance.value) > 6 * balance.stderr + 1e-5:
        raise UserError(
            f"energy balance: R + T + A - 1 = {balance.value:.2g} +- {balance.stderr:.2g}; a fault of the walk"
        )
    names = ["reflectance", "transmittance", "accepted", "absorbed"]
    rows = [0, 1, 2, slice(3, None)]
    by = {f: {n: measured(s[:, r]) for n, r in zip(names, rows, strict=True)} for f, s in sloped.items()}
    if laws is not None:
        by.pop("g", None)
    tallies = {n: measured(a) for n, a in zip(Tallies._fields, found, strict=True) if fluence or n != "fluence"}
    if light.collimated:
        tallies["ballistic"] = Measured(np.asarray(slab.ballistic()), np.zeros(()))
    return Transport(tallies, by, bins, total)


class Neighbours(NamedTuple):
    """One walk read in neighbouring slabs, [values]: fractions, and the effective number of photons."""

    reflectance: Measured
    transmittance: Measured
    effective: np.ndarray


@eqx.filter_jit
def _logarithms(slabs, walked):
    """Of every slab [values]: logarithms per length and scattering, and per length lost, [L]; entrance, ballistic."""

    def one(slab):
        layers = slab.whole()
        by_length, by_scattering, _ = log_ratios(layers, walked)
        return (by_length, by_scattering, log_losses(layers, walked)), (slab.entrance(), slab.ballistic())

    return jax.vmap(one)(slabs)


@eqx.filter_jit
def _neighbour(logs, walked, table):
    """Per block: reflected, transmitted, mean and mean square of the likelihood, [blocks, 4, values]."""
    blocks, n, columns = table.shape
    rows = math.gcd(n, ROWS)
    # single precision: logarithms of at most a few tens, then sums of ROWS terms
    by_length, by_scattering, lost = (a.T.astype(jnp.float32) for a in logs)

    def some(part):
        paths = _paths(part, walked)
        likely = paths.length @ by_length + paths.scatterings @ by_scattering
        like, w = jnp.exp(likely), jnp.exp(likely + paths.length @ lost)
        left = paths.boost * paths.strayed
        sides = jnp.stack([left * (1 - paths.transmitted), left * paths.transmitted]) @ w
        return jnp.concatenate([sides, jnp.stack([jnp.sum(like, axis=0), jnp.sum(like * like, axis=0)])]).astype(float)

    sums = jax.lax.map(some, table.reshape(-1, rows, columns)).reshape(blocks, -1, 4, by_length.shape[1])
    return jnp.sum(sums, axis=1) / n


def _weighed(slab: Slab, logs, seed, photons: int, memory_limit: float):
    """Reflected, transmitted, mean and mean square of the likelihood, [blocks, 4, values]; photons walked."""
    walked = jax.tree.map(jax.lax.stop_gradient, slab.whole())
    if jax.default_backend() != "cpu":
        return each_pass(slab, photons, seed, memory_limit, lambda w, t: _neighbour(logs, w, t))
    from qtwin.tissue import swarm  # here: numba is needed only where a processor carries

    per_block = fits(slab, photons, default_bins(slab), memory_limit)
    given = (medium_of(walked._replace(object=0)), words(seed), per_block, BLOCKS)
    by_length, by_scattering, lost = (a.T for a in logs)
    return swarm.sweep(*given, by_length, by_scattering, lost, cores()), BLOCKS * per_block


def _between(found, places):
    """Results at ``places`` in [-1, 1] from those at the Chebyshev points, [..., NODES]; None without convergence.

    The last two coefficients tell (Trefethen, Approximation Theory and Approximation Practice, ch. 8).
    """
    at = chebyshev.chebvander(chebyshev.chebpts1(NODES), NODES - 1)
    terms = found @ (at * np.where(np.arange(NODES) == 0, 1, 2) / NODES)
    tail, size = np.abs(terms[..., -2:]).max(axis=-1), np.abs(terms).max(axis=-1)
    return terms @ chebyshev.chebvander(places, NODES - 1).T if np.all(tail <= 3e-6 * size) else None


def neighbours(
    slab: Slab,
    field: str,
    values: Sequence[float],
    *,
    key,
    photons: int,
    fewest: float = FEWEST,
    memory_limit: float = LIMIT,
) -> Neighbours:
    """Reflectance (diffuse) and transmittance of one walk in slabs whose ``field`` (of all layers) takes other values.

    The weights are exact in mu_a, mu_s and thickness. Of more than 32 values 16 are weighed, and a polynomial leads
    from those to all where it does so to single precision (else all are weighed). The effective number of photons is
    (sum w)^2 / sum w^2 of the likelihoods. Raises UserError for other fields, and where less than ``fewest`` of the
    photons is effective.
    """
    if field not in ("mu_a", "mu_s", "thickness"):
        accepted = "mu_a, mu_s, thickness (by g only the first derivative is exact)"
        raise UserError(f"{field}: cannot be reweighted, accepted are {accepted}")
    shape = jnp.shape(getattr(slab, field))
    least = 0 if field == "mu_a" else np.finfo(np.float32).tiny
    if not np.all(np.isfinite(values)) or np.min(values) < least:
        accepted = "0 or greater" if least == 0 else "greater than 0"
        raise UserError(f"{field}: got {np.min(values):.4g}, accepted is {accepted}")
    asked = np.asarray(values, float)
    walked, seed = jax.tree.map(jax.lax.stop_gradient, slab.whole()), stream(key, "transport")

    def of(chosen):
        many = jnp.broadcast_to(jnp.asarray(chosen)[:, None], (len(chosen), *shape))
        slabs = jax.vmap(lambda v: eqx.tree_at(lambda s: getattr(s, field), slab, v))(many)
        return jax.tree.map(np.asarray, _logarithms(slabs, walked))

    logs, (entrance, straight) = of(asked)
    found = None
    if len(asked) > 2 * NODES and np.ptp(asked) > 0:
        nodes = asked.min() + np.ptp(asked) * (chebyshev.chebpts1(NODES) + 1) / 2
        some, total = _weighed(slab, of(nodes)[0], seed, photons, memory_limit)
        found = _between(some, 2 * (asked - asked.min()) / np.ptp(asked) - 1)
    if found is None:
        found, total = _weighed(slab, logs, seed, photons, memory_limit)
    up, through, mean, square = np.moveaxis(found, 1, 0)
    up, through = up * entrance, straight + through * entrance
    effective = total * mean.mean(axis=0) ** 2 / square.mean(axis=0)
    effective = np.where(np.isfinite(effective), effective, 0)
    poor = int(np.argmin(effective))
    if effective[poor] < fewest * total:
        low = f"{effective[poor]:.0f} of {total} photons are effective there, accepted is at least {fewest:g} of them"
        raise UserError(f"{field}: {values[poor]:.4g} is too far from the slab that was walked: {low}; walk it anew")
    return Neighbours(measured(up), measured(through), effective)
