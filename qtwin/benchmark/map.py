"""The advantage over a grid of two parameters, the boundary on which it is 1, and what the walk leaves open of both.

    A = sum_a w_a Var(T_a; opponent)/sum_a w_a Var(T_a; arm)

at budgets matched in every point, as `qtwin.benchmark.compare` expects it. Standard errors are the jackknife of log A
over the blocks of the walk: nothing is drawn. Boundary and band: log A = 0 and log A = +-1.96 standard errors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy.interpolate import CubicSpline
from skimage.measure import find_contours

from qtwin.benchmark.arms import arms_of
from qtwin.benchmark.compare import _kernels, _leave_one_out
from qtwin.benchmark.comparison import ALIKE
from qtwin.benchmark.expected import Working, alike, matched, side, spreads_of
from qtwin.benchmark.settings import Settings
from qtwin.core.errors import UserError
from qtwin.core.units import show
from qtwin.estimator.protocol import AbstractProtocol, Arm
from qtwin.metrics.advantage import pooling, smoothing
from qtwin.metrics.statistics import jackknife
from qtwin.tissue.images import Images
from qtwin.twin import Twin

SURE = 1.959964  # standard errors, 95 %
ROUNDING = 1e-9  # of log A, where the walk leaves nothing open
REACHED = 1e-3  # of the matched side of the ledger
APART = 0.01  # of the advantage: noise that neighbours share and the map leaves out
WHY = (
    "defined",
    "no such set-up: the object does not lie in its layer",
    "the budget cannot be matched",
    "the brightest superpixel is overfull",
    "the mean images cannot be made alike",
    "no light, or no noise",
)


@dataclass(frozen=True)
class Axis:
    """One parameter of the map."""

    key: str
    doc: str
    unit: str
    log: bool  # steps of equal ratio
    values: np.ndarray  # [P]
    start: float
    moved: Working  # what the parameter moves, [P + 1, ...], its start last; None elsewhere

    def even(self, value):
        """The coordinate of equal steps."""
        return np.log(value) if self.log else np.asarray(value, float)

    def back(self, even):
        return np.exp(even) if self.log else even

    def at(self, i: int, base: Working) -> Working:
        """The working point number ``i``."""
        return eqx.combine(jax.tree.map(lambda a: a[i], self.moved), base)

    def shown(self, value: float) -> str:
        return show(float(value), self.unit, 4)


def axis(key: str, doc: str, unit: str, log: bool, values, start: float, made: list[Working]) -> Axis:
    """``made``: working points of all ``values``, then that of ``start``. UserError where more than numbers change."""

    def fixed(one: Working) -> tuple:
        return jax.tree.structure(one), [jnp.shape(leaf) for leaf in jax.tree.leaves(one)]

    for value, one in zip(values, made, strict=False):
        if fixed(one) != fixed(made[-1]):
            told = f"{show(float(value), unit)} makes another set-up than {show(start, unit)} (another layer?)"
            raise UserError(f"{key}: {told}; accepted is a range in which nothing but numbers changes")

    def stacked(*leaves):
        same = all(np.array_equal(leaf, leaves[-1]) for leaf in leaves)
        return None if same else jnp.stack(leaves)

    arrays = [eqx.filter(one, eqx.is_array) for one in made]
    return Axis(key, doc, unit, log, np.asarray(values, float), start, jax.tree.map(stacked, *arrays))


class Cell(NamedTuple):
    """One point of the map."""

    log: jax.Array  # [] log A
    left: jax.Array  # [BLOCKS] without one block of the walk each
    photons: jax.Array  # [2] per superpixel and exposure, of the arm and of its opponent
    residual: jax.Array  # [] of the matching
    unlike: jax.Array  # [] difference of the mean images over their contrast
    load: jax.Array  # [] of the fuller detector
    sound: jax.Array  # [] bool: every sublayer has a thickness


def _cell(w: Working, blocks: Images, names: tuple[str, str, str], match: str) -> Cell:
    """What `compare` expects at a working point, for images [BLOCKS, ...], of the second and third of ``names``.

    The first names the arm whose ledger all others match (in a trace, protocols have lost their order).
    """
    arms = [arm for protocol in w.protocols.values() for arm in protocol.arms()]
    first, *pair = (next(arm for arm in arms if arm.name == name) for name in names)
    mean = jax.tree.map(lambda a: jnp.mean(a, axis=0), blocks)
    bench = w.twin.bench(mean, jnp.ones_like(w.photons))

    def law(arm: Arm, photons, images):
        setting = jax.tree.map(lambda a: a * photons, bench.setting)  # proportional
        return arm.law(bench._replace(images=images, setting=setting))

    def reached(arm: Arm, photons):
        return side(law(arm, photons, mean).ledger, match)

    target = reached(first, w.photons)
    photons, residual = zip(*(matched(partial(reached, arm), w.photons, target) for arm in pair), strict=True)
    spreads = spreads_of(mean)
    kinds = [arm.spread for arm in pair]
    other = (
        [None, None] if kinds[0] == kinds[1] or not set(kinds) <= set(spreads) else [spreads[k] for k in kinds[::-1]]
    )
    every = jax.tree.map(lambda m, o: jnp.concatenate([m[None], o]), mean, _leave_one_out(blocks))

    def moments(arm: Arm, n, kernel):
        def of(images):
            made = law(arm, n, images)
            return made.mean(), made.variance(), made.load()

        means, variances, load = jax.vmap(of)(every)
        seen, effect = alike(means[0], bench.idler, kernel)
        return seen, jnp.sum(effect[None] * variances, axis=(1, 2)), load[0]

    (seen, ours, load), (rival, theirs, full) = map(moments, pair, photons, other)
    log = jnp.log(theirs / ours)
    return Cell(
        log[0],
        log[1:],
        jnp.stack(photons),
        jnp.maximum(*residual),
        jnp.std(seen - rival) / jnp.maximum(jnp.std(rival), 1e-12),
        jnp.maximum(load, full),
        jnp.all(w.twin.tissue.layers().thickness > 0),
    )


@eqx.filter_jit
def grid(base: Working, x: Working, y: Working, images: Images, names: tuple[str, str, str], match: str) -> Cell:
    """Every point of the map in one call, [Y, X, ...].

    ``x``, ``y``: what the parameters move, [X, ...] and [Y, ...]; ``images`` [1 or Y, 1 or X, BLOCKS, ...].
    """
    across, down = (jax.tree.leaves(part)[0].shape[0] for part in (x, y))

    def point(place):
        j, i = place
        w = eqx.combine(jax.tree.map(lambda a: a[i], x), jax.tree.map(lambda a: a[j], y), base)
        blocks = jax.tree.map(lambda a: a[j if a.shape[0] > 1 else 0, i if a.shape[1] > 1 else 0], images)
        return _cell(w, blocks, names, match)

    j, i = jnp.divmod(jnp.arange(down * across), across)
    cells = lax.map(point, (j, i))
    return jax.tree.map(lambda a: a.reshape(down, across, *a.shape[1:]), cells)


@eqx.filter_jit
def _seen(twin: Twin) -> list:
    """All that the images are made of."""
    return jax.tree.leaves((twin.path()._beams(), twin.tissue.layers(), twin.tissue.ballistic()))


def moves_light(along: Axis, base: Working) -> bool:
    """Whether the images change along an axis."""
    if not jax.tree.leaves(along.moved.twin):
        return False
    first = _seen(base.twin)
    found = (_seen(along.at(i, base).twin) for i in range(len(along.values)))
    return any(not np.array_equal(a, b) for one in found for a, b in zip(first, one, strict=True))


class _Light:
    """Images of the blocks of a walk, which is made anew where the tissue or the aperture is another one."""

    def __init__(self, base: Twin, settings: Settings):
        self.settings, self.walks, self.formed = settings, 0, 0
        self.walked: list[np.ndarray] = []
        self.base = self(base)

    def __call__(self, twin: Twin) -> Images:
        layers, s = twin.tissue.layers(), self.settings
        if not np.all(np.asarray(layers.thickness) > 0):
            return self.base  # no such set-up: its point is not defined
        new = [np.asarray(a) for a in jax.tree.leaves((layers, twin.optics.numerical_aperture))]
        if not (self.walked and all(map(np.array_equal, new, self.walked))):
            self.walk = twin.walk(key=jax.random.key(s.seed), photons=s.walk_photons, memory_limit=s.memory_limit)
            self.walked, self.walks = new, self.walks + 1
        self.formed += 1
        return twin.blocks(self.walk)

    def told(self) -> str:
        photons = f"{self.walk.photons:,}".replace(",", "\u202f")
        walks = "once" if self.walks == 1 else f"{self.walks} times with the same random numbers"
        images = "once, for they are the same in every point" if self.formed == 1 else f"{self.formed} times"
        return f"{photons} photons were walked through the tissue {walks}; mean images were formed {images}."


@dataclass(frozen=True)
class Map:
    """The advantage on the grid; NaN where it is not defined, and ``why`` not (a number of `WHY`)."""

    twin: Twin  # at the start values
    protocols: dict[str, AbstractProtocol]
    settings: Settings
    x: Axis
    y: Axis
    arm: Arm
    opponent: Arm
    log: np.ndarray  # [Y + 1, X + 1], the start values last
    left: np.ndarray  # [BLOCKS, Y + 1, X + 1] without one block of the walk each
    photons: np.ndarray  # [2, Y + 1, X + 1]
    why: np.ndarray  # [Y + 1, X + 1]
    apart: float  # what the noise that neighbours share adds to log A at the start values, left out here
    light: str  # in words, how the images were made

    @property
    def stderr(self) -> np.ndarray:
        """Of log A; infinite where a block of the walk alone is not defined."""
        return np.where(self.why == 0, jackknife(self.left), np.nan)

    def winner(self) -> np.ndarray:
        """1 the arm, -1 its opponent, 0 within the band or not defined, [Y, X]."""
        log, band = self.log[:-1, :-1], np.maximum(SURE * self.stderr[:-1, :-1], ROUNDING)
        return np.where(log > band, 1, np.where(log < -band, -1, 0)).astype(np.int8)

    def boundary(self, errors: float = 0.0) -> list[np.ndarray]:
        """Lines of x and y [points, 2] on which log A is ``errors`` of its standard errors."""
        away = self.log - errors * self.stderr
        lines = find_contours(np.where(np.isfinite(away), away, np.nan)[:-1, :-1], 0.0)

        def placed(along: Axis, index):
            return along.back(np.interp(index, np.arange(len(along.values)), along.even(along.values)))

        return [np.stack([placed(self.x, line[:, 1]), placed(self.y, line[:, 0])], axis=1) for line in lines]

    def crossings(self, which: str) -> list[tuple[float, float, bool]]:
        """Where A passes 1 along 'x' or 'y', the other at its start: value, standard error, whether A rises."""
        if which == "x":
            return _crossings(self.x, self.log[-1, :-1], self.left[:, -1, :-1])
        return _crossings(self.y, self.log[:-1, -1], self.left[:, :-1, -1])


def _crossings(along: Axis, line, left) -> list[tuple[float, float, bool]]:
    """Roots of cubic splines through log A; every block moves one by its own log A there over the slope."""
    at, found = along.even(along.values), []
    for run in np.ma.clump_unmasked(np.ma.masked_invalid(line)):
        if run.stop - run.start < 2:
            continue
        spline, blocks = CubicSpline(at[run], line[run]), CubicSpline(at[run], left[:, run], axis=1)
        for i in range(run.start, run.stop - 1):
            if (line[i] > 0) == (line[i + 1] > 0):
                continue
            roots = spline.roots(extrapolate=False)
            root = min(roots[np.isfinite(roots)], key=lambda r: abs(r - (at[i] + at[i + 1]) / 2))
            slope = float(spline(root, 1))
            error = float(jackknife(blocks(root) / slope))
            value = float(along.back(root))
            found.append((value, error * value if along.log else error, slope > 0))
    return found


@np.errstate(all="ignore")  # no light: not defined, and that is told by the grid
def _apart(w: Working, images: Images, pair: tuple[Arm, Arm]) -> float:
    """What noise that superpixels share adds to log A at the start values, where images are made alike by smoothing.

    Raises what the comparison raises about a set-up.
    """
    bench = w.twin.bench(images, w.photons)
    laws = [arm.law(bench) for arm in pair]
    weights, added = np.asarray(bench.idler), []
    kernels = {"none": None} | {name: np.asarray(kernel) for name, kernel in spreads_of(images).items()}
    spreads = {name: smoothing(kernel, weights.shape[0]) for name, kernel in kernels.items()}
    for law, matrix in zip(laws, _kernels(*pair, spreads), strict=True):
        if matrix.nnz == weights.size:  # not smoothed
            return 0.0
        effect = np.asarray(matrix.multiply(matrix).T @ weights.ravel())
        added.append(np.log(pooling(law, weights, matrix).mean / (effect @ np.asarray(law.variance()).ravel())))
    return float(added[1] - added[0])


def _why(cell: Cell) -> np.ndarray:
    """Number of `WHY`, the first that applies."""
    log, residual, unlike, load = (np.asarray(a) for a in (cell.log, cell.residual, cell.unlike, cell.load))
    why = np.where(np.isfinite(log), 0, 5)
    for number, fine in (
        (4, ~(unlike > ALIKE)),
        (3, ~(load > 1)),
        (2, residual < REACHED),
        (1, np.asarray(cell.sound)),
    ):
        why = np.where(fine, why, number)
    return why.astype(np.int8)


def _shared(x: Axis, y: Axis) -> str | None:
    """The first parameter that both axes move."""
    leaves = (jax.tree_util.tree_leaves_with_path(a.moved, is_leaf=lambda v: v is None) for a in (x, y))
    both = (place for (place, a), (_, b) in zip(*leaves, strict=True) if not (a is None or b is None))
    return next((jax.tree_util.keystr(place).removeprefix(".twin.") for place in both), None)


def advantage_map(
    base: Working, x: Axis, y: Axis, pair: tuple[Arm, Arm], settings: Settings, progress: Callable
) -> Map:
    """Advantage of the first of ``pair`` over the second on the grid of both axes, matched as settings.match says.

    Where an axis changes the light, images are formed for each of its values; other tissue is walked anew with the same
    random numbers. ``progress(stage, **numbers)`` is called along the way. UserError where the start values are
    refused, or where superpixels share noise that the map would leave out.
    """
    if both := _shared(x, y):
        raise UserError(f"x, y: {x.key} and {y.key} both move {both}; accepted is to give it a number of its own")
    progress("walking photons through the tissue", photons=settings.walk_photons)
    light, last = _Light(base.twin, settings), (len(y.values), len(x.values))
    apart = _apart(base, jax.tree.map(lambda a: jnp.mean(a, axis=0), light.base), pair)
    if abs(apart) > APART:
        told = f"noise that superpixels share, which a map leaves out, changes the advantage by {np.expm1(apart):+.1%}"
        raise UserError(f"opponent: {told}; accepted against {pair[0].name!r} is one of the same point spread")
    progress("forming mean images")
    down, across = (range(n + 1) if moves_light(a, base) else [n] for n, a in zip(last, (y, x), strict=True))
    room = settings.memory_limit / 2 / sum(a.nbytes for a in jax.tree.leaves(light.base))
    if room < len(across):
        raise UserError(f"memory_limit: accepted here is {len(across) / room:.3g} times as much, for images of a row")
    together = len(down) * len(across) <= room or len(down) == 1
    names, cells = (arms_of(base.protocols)[0].name, pair[0].name, pair[1].name), []
    for rows in [list(down)] if together else [[j] for j in down]:
        points = [(j, i) for j in rows for i in across]
        made = [light.base if p == last else light(y.at(p[0], x.at(p[1], base)).twin) for p in points]
        images = jax.tree.map(lambda *a: jnp.stack(a).reshape(-1, len(across), *a[0].shape), *made)
        of = y.moved if together else jax.tree.map(lambda a, j=rows[0]: a[j : j + 1], y.moved)
        progress("comparing", points=(last[0] + 1 if together else 1) * (last[1] + 1))
        cells.append(grid(base, x.moved, of, images, names, settings.match))
    cell = jax.tree.map(lambda *a: np.concatenate(a), *cells)
    why = _why(cell)
    given = base.twin, base.protocols, settings, x, y, *pair
    left = np.where(why == 0, np.moveaxis(cell.left, -1, 0), np.nan)
    log = np.where(why == 0, cell.log, np.nan)
    return Map(*given, log, left, np.moveaxis(cell.photons, -1, 0), why, apart, light.told())
