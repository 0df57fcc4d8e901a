"""Maximise a problem by its gradient, from several starts, on one walk that is renewed when it has worn out.

On the real line of every parameter: limited-memory BFGS (SciPy's L-BFGS-B) or Adam (optax), with inequality constraints
c(x) >= 0 by the augmented Lagrangian, L = -f + (m/2) sum_i [max(0, s_i - c_i)^2 - s_i^2], m s_i <- m max(0, s_i - c_i)
(Nocedal and Wright, Numerical Optimization (2006), ch. 17.4, from memory); or sequential quadratic programming, SciPy's
SLSQP. Starts climb abreast: whenever each of them has a point to read, all points are read in one vectorised call,
compiled once. On two cores that takes 0.6 to 1.2 times as long as starts in threads, by how unequal their ways are
(`scripts/design_speed.py`). A trial where less than half of a walk is effective is no place to be; where a step has
left less than three quarters of it the walk is made anew, and the start goes on alone.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.optimize import minimize

from qtwin.core import hosts
from qtwin.core.errors import UserError
from qtwin.design.figures import FEASIBLE
from qtwin.design.meeting import Meeting
from qtwin.design.problem import Problem
from qtwin.tissue import Walk
from qtwin.tissue.carry import cores

ABREAST = 8  # starts at most that are read in one call: what it holds grows with them
TOGETHER = 10  # steps between looks at the walk, and with the same multipliers
ENOUGH = 1e-5  # of the score, gained in one round
WORN = 0.5  # effective part of a walk, below which it is not read
TIRED = 0.75  # and below which it is made anew, so that the next step has room
RATE = 0.05  # of Adam
OUTSIDE = 10.0  # of the score, by which a trial that tells nothing is taken to be worse than the start of its round
FIRM, FIRMEST = 10.0, 1e8  # weight m of the constraints, at first and at most


class Path(NamedTuple):
    """One start's way."""

    x: np.ndarray  # [1 + steps, D] SI values
    score: np.ndarray  # [1 + steps], on the walk of the time
    slacks: np.ndarray  # [C] at the end
    evaluations: int  # of the score with its gradient
    renewed: int  # walks made anew
    settled: bool  # the last round gained less than ENOUGH


def side_by_side(act: Callable, items: Iterable) -> list:
    """[act(item) ...]: the first alone, because it compiles, the others one on every core."""
    first, *rest = items
    done = act(first)
    with ThreadPoolExecutor(cores()) as pool:
        return [done, *pool.map(act, rest)]


@eqx.filter_jit
def figures(problem: Problem, x, walk: Walk):
    """`Problem.figures`, compiled once."""
    return problem.figures(x, walk)


def serving(problem: Problem, x, walk: Walk, anew: Callable) -> Walk:
    """``walk``, or one made at ``x`` where that has worn out."""
    return walk if sight(problem, jnp.asarray(x), walk) >= WORN else anew(x)


def many(problem: Problem, x, walk: Walk, anew: Callable | None = None) -> list[np.ndarray]:
    """Scores [P] and slacks [P, C] at many points [P, D]; with ``anew`` each on a walk that serves."""
    points = np.asarray(x)
    if anew is not None and problem.family.moves_tissue():  # one walk at a time
        found = [figures(problem, one, serving(problem, one, walk, anew)) for one in points]
    else:
        found = side_by_side(lambda one: jax.block_until_ready(figures(problem, one, walk)), points)
    return [np.stack(part) for part in zip(*found, strict=True)]


def _read(problem: Problem, walk: Walk, z, shift, weight):
    """(L, its derivative [D], score, slacks [C], sight of the walk) at z."""

    def loss(z):
        x = problem.family.free.constrain(z)
        score, slacks = problem.figures(x, walk)
        penalty = weight / 2 * jnp.sum(jnp.maximum(0, shift - slacks) ** 2 - shift**2)
        return penalty - score, (score, slacks, problem.sight(jax.lax.stop_gradient(x), walk))

    (value, told), slope = jax.value_and_grad(loss, has_aux=True)(z)
    return value, slope, *told


def _sides(problem: Problem, walk: Walk, z):
    """Score and slacks [1 + C], their derivatives [1 + C, D], and the sight of the walk at z."""

    def both(z):
        x = problem.family.free.constrain(z)
        score, slacks = problem.figures(x, walk)
        value = jnp.concatenate([score[None], slacks])
        return value, (value, problem.sight(jax.lax.stop_gradient(x), walk))

    slopes, (value, sight) = jax.jacrev(both, has_aux=True)(z)
    return value, slopes, sight


@eqx.filter_jit
def _alone(law: Callable, problem: Problem, walk: Walk, *what):
    return law(problem, walk, *what)


@eqx.filter_jit
def _abreast(law: Callable, problem: Problem, walk: Walk, *what):
    """What ``law`` reads at every row of ``what``."""
    return jax.vmap(lambda *row: law(problem, walk, *row))(*what)


def gradients(problem: Problem, z, walk: Walk, abreast: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Scores [P] and their derivatives by the real line [P, D] at many points [P, D], so many of them in one call."""
    none, found = jnp.zeros((abreast, len(problem.constraints))), []
    for group, count in _groups(np.asarray(z), abreast):
        _, slope, score, *_ = _abreast(_read, problem, walk, jnp.asarray(group), none, jnp.zeros(abreast))
        found.append((np.asarray(score)[:count], -np.asarray(slope)[:count]))
    scores, slopes = zip(*found, strict=True)
    return np.concatenate(scores), np.concatenate(slopes)


def _groups(rows: np.ndarray, size: int):
    """Groups of ``size`` rows, and how many of them count: the last one is filled up with its last row."""
    for i in range(0, len(rows), size):
        group = rows[i : i + size]
        yield np.concatenate([group, np.repeat(group[-1:], size - len(group), axis=0)]), len(group)


@eqx.filter_jit
def sight(problem: Problem, x, walk: Walk):
    """`Problem.sight`, compiled once."""
    return problem.sight(x, walk)


class _Once:
    """What is read at a point, as arrays; asked twice for the same point it is computed once."""

    def __init__(self, compute: Callable):
        self.compute, self.count = compute, 0
        self.at: bytes = b""
        self.found: list[np.ndarray] = []

    def __call__(self, z) -> list[np.ndarray]:
        here = np.asarray(z, float).tobytes()
        if here != self.at:
            self.at, self.found = here, [np.asarray(a) for a in self.compute(jnp.asarray(z))]
            self.count += 1
        return self.found


def _lbfgs(_) -> Callable:
    def climb(read, heard, z, steps):
        def tried(z):
            value, slope, *told, sight = read(z)
            if sight >= WORN and all(np.all(np.isfinite(a)) for a in told):
                return value, slope
            return worst, np.zeros_like(slope)  # no place to be: the line search steps back

        worst = float(read(z)[0]) + OUTSIDE

        def told(intermediate_result):
            if heard(intermediate_result.x):
                raise StopIteration

        stop = {"maxiter": steps, "maxfun": 20 * steps, "ftol": ENOUGH / 100, "gtol": 1e-9}
        return minimize(tried, z, jac=True, method="L-BFGS-B", callback=told, options=stop).x

    return climb


def _adam(z) -> Callable:
    rule = optax.adam(RATE)
    state = rule.init(jnp.asarray(z))

    def climb(read, heard, z, steps):
        nonlocal state
        for _ in range(steps):
            change, state = rule.update(jnp.asarray(read(z)[1]), state)
            z = z + np.asarray(change)
            if heard(z):
                break
        return z

    return climb


CLIMBERS = {"lbfgs": _lbfgs, "adam": _adam}
METHODS = (*CLIMBERS, "slsqp")


class _Way:
    """The points that a start has passed, told of as they come."""

    def __init__(self, problem: Problem, told: Callable):
        self.problem, self.told = problem, told
        self.x: list[np.ndarray] = []
        self.score: list[float] = []

    def add(self, z, score, slacks, walk: Walk) -> None:
        """UserError where the score or what is left of a constraint is no number."""
        free, x = self.problem.family.free, np.asarray(self.problem.family.free.constrain(jnp.asarray(z)))
        here = ", ".join(p.shown(v) for p, v in zip(free.parameters, x, strict=True))
        if not np.isfinite(score):
            name, place = self.problem.objective.name, self.problem.began(jnp.asarray(x), walk)
            raise UserError(f"design.objective: {name} is {float(score)} at {here}; it began in {place}")
        for limit, left in zip(self.problem.constraints, slacks, strict=True):
            if not np.isfinite(left):
                raise UserError(f"design.constraints: {limit.text!r} leaves {float(left)} at {here}")
        self.x.append(x)
        self.score.append(float(score))
        if self.steps and self.steps % TOGETHER == 0:
            self.told(self.steps, float(score))

    @property
    def steps(self) -> int:
        return len(self.x) - 1

    def ended(self, slacks, evaluations: int, renewed: int, settled: bool) -> Path:
        return Path(np.array(self.x), np.array(self.score), np.asarray(slacks), evaluations, renewed, settled)


def optimise(problem: Problem, z, walk: Walk, anew: Callable, method: str, steps: int, told: Callable) -> Path:
    """The way from one start ``z`` [D]. ``anew(x)`` walks the tissue of ``x``; ``told(step, score)`` hears of progress.

    UserError where the score is no number on the way.
    """
    read = partial(_alone, _sides if method == "slsqp" else _read, problem)
    return _from(read, problem, z, walk, anew, method, steps, told)


def climbs(problem: Problem, begin, walk: Walk, anew: Callable, method: str, steps: int, told: Callable) -> list[Path]:
    """`optimise` from every start ``begin`` [S, D], ABREAST of them at a time. ``told(start, step, score)``."""
    law = _sides if method == "slsqp" else _read
    # hosts walk together, so they must walk in the same order
    size = 1 if hosts.connected() else min(len(begin), ABREAST)
    out: list[Path] = []
    for group, count in _groups(np.asarray(begin), size):
        meeting, first = Meeting(partial(_abreast, law, problem, walk), size, count), len(out)

        def climb(i: int, z, meeting=meeting, first=first) -> Path:
            def read(now, *what):
                if now is walk:
                    return meeting.ask(i, *what)
                meeting.leave(i)
                if meeting.failed:
                    raise meeting.failed
                return _alone(law, problem, now, *what)

            try:
                return _from(read, problem, z, walk, anew, method, steps, partial(told, first + i))
            except BaseException as error:
                meeting.fail(error)
                raise
            finally:
                meeting.leave(i)

        with ThreadPoolExecutor(size) as pool:
            try:
                out += pool.map(climb, range(count), group[:count])
            except BaseException as error:  # a start's, or the user's ctrl-C
                meeting.fail(error)
                raise
    return out


def _from(read: Callable, problem: Problem, z, walk: Walk, anew: Callable, method: str, steps: int, told) -> Path:
    """``read(walk, z, ...)``: what the method asks of a point."""
    x, renewed = problem.family.free.constrain(jnp.asarray(z)), 0
    if float(sight(problem, x, walk)) < TIRED:
        walk, renewed = anew(x), 1
    if method == "slsqp":
        return _slsqp(read, problem, z, walk, anew, steps, told, renewed)
    way, z, climb = _Way(problem, told), np.asarray(z, float), CLIMBERS[method](z)
    shift, weight = np.zeros(len(problem.constraints)), FIRM
    evaluations, rounds, missed, best = 0, 0, np.inf, -np.inf
    while True:
        reading = _Once(lambda z, w=walk, s=shift, m=weight: read(w, z, jnp.asarray(s), jnp.asarray(m, s.dtype)))

        def heard(z, reading=reading, walk=walk):
            _, _, score, slacks, seen = reading(z)
            way.add(z, score, slacks, walk)
            return seen < TIRED

        if not way.x:
            heard(z)
        left = steps - way.steps
        if left > 0:
            z = climb(reading, heard, z, left if method == "lbfgs" and not problem.constraints else min(left, TOGETHER))
        _, _, score, slacks, seen = reading(z)
        evaluations, rounds = evaluations + reading.count, rounds + 1
        off = float(np.max(np.maximum(0, -slacks), initial=0.0))
        settled = off < FEASIBLE and abs(float(score) - best) < ENOUGH and bool(seen >= TIRED)
        if settled or max(way.steps, rounds) >= steps:
            return way.ended(slacks, evaluations, renewed, settled)
        best = float(score)
        firmer = min(weight * 4, FIRMEST) if off > max(missed / 4, FEASIBLE) else weight
        shift, weight, missed = np.maximum(0, shift - slacks) * weight / firmer, firmer, off
        if seen < TIRED:
            walk, renewed, best = anew(way.x[-1]), renewed + 1, -np.inf


class _Worn(Exception):
    """Ends a round of SciPy's that has no other way to be ended."""


def _slsqp(read: Callable, problem: Problem, z, walk: Walk, anew: Callable, steps: int, told, renewed: int) -> Path:
    way, z = _Way(problem, told), np.asarray(z, float)
    evaluations = 0
    while True:
        sides: Any = _Once(lambda z, walk=walk: read(walk, z))

        def heard(z, sides=sides, walk=walk):
            values, _, seen = sides(z)
            way.add(z, values[0], values[1:], walk)
            if seen < TIRED:
                raise _Worn

        if not way.x:
            heard(z)
        worst = OUTSIDE - float(sides(z)[0][0])

        def tried(z, sides=sides, worst=worst):
            values, slopes, seen = sides(z)
            if seen >= WORN:
                return -values[0], -slopes[0]
            return worst, np.zeros_like(slopes[0])  # no place to be: the line search steps back

        limits = {"type": "ineq", "fun": lambda z, at=sides: at(z)[0][1:], "jac": lambda z, at=sides: at(z)[1][1:]}
        success = False
        try:
            found = minimize(
                tried,
                z,
                jac=True,
                method="SLSQP",
                constraints=[limits] if problem.constraints else (),
                callback=heard,
                options={"maxiter": max(steps - way.steps, 1), "ftol": ENOUGH / 10},
            )
            z, success = found.x, bool(found.success)
        except _Worn:
            z = np.asarray(problem.family.free.free(jnp.asarray(way.x[-1])))
        values, _, seen = sides(z)
        evaluations += sides.count
        x = problem.family.free.constrain(jnp.asarray(z))
        if seen < TIRED and way.steps < steps:
            walk, renewed = anew(x), renewed + 1
            continue
        if not np.array_equal(way.x[-1], x):
            way.add(z, values[0], values[1:], walk)
        return way.ended(values[1:], evaluations, renewed, success)


@eqx.filter_jit
def _misses(problem: Problem, z, walk: Walk):
    """Sum of squared misses of all constraints, and its derivative [D]."""

    def total(z):
        slacks = problem.figures(problem.family.free.constrain(z), walk)[1]
        return jnp.sum(jnp.maximum(0, -slacks) ** 2)

    return jax.value_and_grad(total)(z)


def conflict(problem: Problem, z, walk: Walk, steps: int) -> list[tuple]:
    """Constraints that cannot hold together: those missed where the sum of squared misses is least, from ``z``.

    And what is left of each of them there.
    """

    def read(z):
        value, slope = _misses(problem, jnp.asarray(z), walk)
        return float(value), np.asarray(slope)

    stop = {"maxiter": steps, "ftol": 1e-14, "gtol": 1e-10}
    found = minimize(read, np.asarray(z, float), jac=True, method="L-BFGS-B", options=stop)
    slacks = np.asarray(figures(problem, problem.family.free.constrain(jnp.asarray(found.x)), walk)[1])
    return [(c, float(s)) for c, s in zip(problem.constraints, slacks, strict=True) if s < -FEASIBLE]
