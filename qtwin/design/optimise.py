"""Maximise a problem by its gradient, from several starts, on one walk that is renewed when it has worn out.

Limited-memory BFGS or Adam (optax) on the real line of every parameter; inequality constraints c(x) >= 0 by the
augmented Lagrangian, L = -f + sum_i [max(0, l_i - m c_i)^2 - l_i^2]/(2 m), l_i <- max(0, l_i - m c_i) (Nocedal and
Wright, Numerical Optimization (2006), ch. 17.4, from memory). Or sequential quadratic programming, SciPy's SLSQP.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.optimize import minimize

from qtwin.core.errors import UserError
from qtwin.design.family import effective
from qtwin.design.problem import Problem
from qtwin.tissue import Walk

METHODS = ("lbfgs", "adam", "slsqp")
TOGETHER = 10  # steps in one compiled call
ENOUGH = 1e-5  # of the score, gained in one call
FEASIBLE = 1e-4  # of a limit, by which a constraint may be missed
WORN = 0.5  # effective part of a walk, below which it is made anew
RATE = 0.05  # of Adam


class Path(NamedTuple):
    """One start's way."""

    x: np.ndarray  # [steps, D] SI values
    score: np.ndarray  # [steps], on the walk of the time
    slacks: np.ndarray  # [C] at the end
    renewed: int  # walks made anew
    settled: bool  # the last call gained less than ENOUGH


def _loss(problem: Problem, z, walk: Walk, multipliers, weight):
    score, slacks = problem.figures(problem.family.free.constrain(z), walk)
    penalty = jnp.sum(jnp.maximum(0, multipliers - weight * slacks) ** 2 - multipliers**2) / (2 * weight)
    return penalty - score


def _rule(method: str):
    return optax.lbfgs() if method == "lbfgs" else optax.with_extra_args_support(optax.adam(RATE))


@eqx.filter_jit
def _call(problem: Problem, method: str, z, state, walk: Walk, multipliers, weight):
    """So many steps of one start: z and state, the steps [TOGETHER, D], their scores; score and slacks at the end."""

    def loss(z):
        return _loss(problem, z, walk, multipliers, weight)

    rule = _rule(method)
    read = optax.value_and_grad_from_state(loss) if method == "lbfgs" else lambda z, state: jax.value_and_grad(loss)(z)

    def step(carry, _):
        z, state = carry
        value, gradient = read(z, state=state)
        change, state = rule.update(gradient, state, z, value=value, grad=gradient, value_fn=loss)
        return (optax.apply_updates(z, change), state), (z, value)

    (z, state), (way, values) = jax.lax.scan(step, (z, state), None, TOGETHER)
    return z, state, way, -values, problem.figures(problem.family.free.constrain(z), walk)


@eqx.filter_jit
def figures(problem: Problem, x, walk: Walk):
    """`Problem.figures`, compiled once."""
    return problem.figures(x, walk)


@eqx.filter_jit
def many(problem: Problem, x, walk: Walk):
    """Scores and slacks at many points [P, D] in one call."""
    return jax.lax.map(lambda one: problem.figures(one, walk), x)


@eqx.filter_jit
def gradient(problem: Problem, z, walk: Walk):
    """(score, its derivative by the real line [D])."""
    return jax.value_and_grad(lambda z: problem.figures(problem.family.free.constrain(z), walk)[0])(z)


@eqx.filter_jit
def _sides(problem: Problem, z, walk: Walk):
    """(score, slacks, and the derivatives of both) at z."""

    def both(z):
        score, slacks = problem.figures(problem.family.free.constrain(z), walk)
        return jnp.concatenate([score[None], slacks])

    return both(z), jax.jacrev(both)(z)


@eqx.filter_jit
def worn(problem: Problem, x, walk: Walk):
    return effective(problem.family.at(x), walk) < WORN


def optimise(problem: Problem, z, walk: Walk, anew: Callable, method: str, steps: int, told: Callable) -> Path:
    """The way from one start ``z`` [D]. ``anew(x)`` walks the tissue of ``x``; ``told(step, score)`` hears of progress.

    UserError where the score is no number on the way, or no point satisfies all constraints.
    """
    if method == "slsqp":
        return _slsqp(problem, z, walk, anew, steps, told)
    free = problem.family.free
    multipliers, weight = jnp.zeros(len(problem.constraints)), jnp.asarray(10.0)
    way: list[np.ndarray] = []
    scores: list[np.ndarray] = []
    renewed, missed, settled = 0, np.inf, False
    best, state = -np.inf, _rule(method).init(z)
    while len(way) * TOGETHER < steps and not settled:
        z, state, past, losses, (score, slacks) = _call(problem, method, z, state, walk, multipliers, weight)
        x = free.constrain(z)
        if not bool(jnp.isfinite(score)):
            last = ", ".join(p.shown(v) for p, v in zip(free.parameters, free.constrain(past[-1]), strict=True))
            raise UserError(f"design.objective: {problem.objective.name} is {float(score)} after a step from {last}")
        way.append(np.asarray(jax.vmap(free.constrain)(past)))
        scores.append(np.asarray(losses))
        told(len(way) * TOGETHER, float(score))
        off = float(jnp.max(jnp.maximum(0, -slacks), initial=0.0))
        settled = off < FEASIBLE and abs(float(score) - best) < ENOUGH
        best = float(score)
        if problem.constraints:
            multipliers = jnp.maximum(0, multipliers - weight * slacks)
            weight = weight * 4 if off > max(missed / 4, FEASIBLE) else weight
            missed, state = off, _rule(method).init(z)  # another function now
        if not settled and bool(worn(problem, x, walk)):
            walk, renewed, best, state = anew(x), renewed + 1, -np.inf, _rule(method).init(z)
    score, slacks = figures(problem, x, walk)
    way.append(np.asarray(x)[None])
    scores.append(np.asarray(score)[None])
    return Path(np.concatenate(way), np.concatenate(scores), np.asarray(slacks), renewed, settled)


def _slsqp(problem: Problem, z, walk: Walk, anew: Callable, steps: int, told: Callable) -> Path:
    free, renewed = problem.family.free, 0
    way: list[np.ndarray] = []
    scores: list[float] = []
    while True:
        memory: dict = {}

        def sides(z, walk=walk, memory=memory):
            if memory.get("z") != z.tobytes():
                memory.update(z=z.tobytes(), found=[np.asarray(a) for a in _sides(problem, jnp.asarray(z), walk)])
            return memory["found"]

        def heard(z, sides=sides):
            way.append(np.asarray(free.constrain(jnp.asarray(z))))
            scores.append(sides(z)[0][0])
            told(len(way), scores[-1])

        heard(np.asarray(z, float))
        limits = [{"type": "ineq", "fun": lambda z: sides(z)[0][1:], "jac": lambda z: sides(z)[1][1:]}]
        found = minimize(
            lambda z: (-sides(z)[0][0], -sides(z)[1][0]),
            np.asarray(z, float),
            jac=True,
            method="SLSQP",
            constraints=limits if problem.constraints else (),
            callback=heard,
            options={"maxiter": steps, "ftol": ENOUGH / 10},
        )
        z, x = jnp.asarray(found.x), free.constrain(jnp.asarray(found.x))
        if not np.isfinite(sides(found.x)[0]).all():
            raise UserError(f"design.objective: {problem.objective.name} is {sides(found.x)[0][0]} on the way")
        if len(way) >= steps or not bool(worn(problem, x, walk)):
            return Path(np.array(way), np.array(scores), sides(found.x)[0][1:], renewed, bool(found.success))
        walk, renewed = anew(x), renewed + 1


def conflict(problem: Problem, z, walk: Walk, steps: int) -> list[str]:
    """Constraints that cannot hold together: those missed where the sum of squared misses is least, from ``z``."""

    @eqx.filter_jit
    def misses(z, walk):
        def total(z):
            slacks = problem.figures(problem.family.free.constrain(z), walk)[1]
            return jnp.sum(jnp.maximum(0, -slacks) ** 2)

        return jax.value_and_grad(total)(z)

    def read(z):
        value, slope = misses(jnp.asarray(z), walk)
        return float(value), np.asarray(slope)

    found = minimize(read, np.asarray(z, float), jac=True, method="L-BFGS-B", options={"maxiter": steps})
    slacks = np.asarray(figures(problem, problem.family.free.constrain(jnp.asarray(found.x)), walk)[1])
    return [c.text for c, s in zip(problem.constraints, slacks, strict=True) if s < -FEASIBLE]
