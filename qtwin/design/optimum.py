"""An optimum and what is known of it: fresh walks, drawn exposures, tolerances, profiles."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.random import stream
from qtwin.core.records import Estimate
from qtwin.design.optimise import Path, gradient, many, side_by_side
from qtwin.design.problem import Problem
from qtwin.metrics.advantage import Interval, advantage, pooled_cost, pooling, smoothing
from qtwin.metrics.statistics import jackknife
from qtwin.tissue import Walk

LOST = 0.01  # of the objective, the part that a tolerance may cost
PROFILE = np.linspace(-2.5, 2.5, 21)  # in tolerances of the curvature
FAR = 10.0  # on the real line: there is a bound beyond
ROUNDING = 1e-10  # of a figure
STEP = 1e-3  # on the real line of a parameter, for differences of gradients


class Tolerance(NamedTuple):
    """How far one parameter may move alone before 1 % is lost; None: further than was looked, or than it may."""

    low: float | None
    high: float | None
    x: np.ndarray  # of the profile
    score: np.ndarray
    curvature: float  # of the score by the real line
    slope: float  # of the score by the real line: not 0 where the optimum lies on a limit


@dataclass(frozen=True)
class Optimum:
    """What `qtwin design` found."""

    problem: Problem
    start: np.ndarray  # [D] SI values
    x: np.ndarray
    paths: list[Path]
    best: int
    after: list[Estimate]  # on a fresh walk: the objective or its logarithm, then every constrained figure
    before: list[Estimate]  # the same at the start
    gain: Estimate  # of the score, walked with the same random numbers
    robust: Estimate | None  # gain of the score over the tolerances
    drawn: Interval  # information per photon of the dose over that of the start, from drawn exposures
    tolerances: list[Tolerance]
    hessian: np.ndarray  # [D, D] of the score by the real line


@eqx.filter_jit
def _values(problem: Problem, x, walk: Walk):
    return problem.values(x, walk)


class Fresh(NamedTuple):
    """What walks of their own random numbers tell; errors by the jackknife."""

    after: list[Estimate]  # score and constrained figures at the optimum
    before: list[Estimate]  # and at the start
    gain: Estimate  # of the score
    information: Estimate  # gain of the log of the information


def fresh(problem: Problem, x, start, anew: Callable) -> Fresh:
    """Optimum ``x`` against ``start``; ``anew(x, name)`` walks the tissue of ``x``."""
    found = []
    for there in (x, start):
        found.append([np.asarray(a) for a in _values(problem, jnp.asarray(there), anew(there, "fresh"))])
    (after, one), (before, two) = found

    def estimate(value, error) -> Estimate:
        """What no walk moves (an angle of the beam) has an error of rounding alone, which is none."""
        return Estimate(float(value), float(error) if error > ROUNDING * abs(value) else 0.0)

    told = [[estimate(v, e) for v, e in zip(a, jackknife(b), strict=True)] for a, b in found]
    gains = [Estimate(float(after[i] - before[i]), float(jackknife(one[:, i] - two[:, i]))) for i in (0, 1)]
    own, other = ([a, *rest] for a, _, *rest in told)
    return Fresh(own, other, *gains)


@eqx.filter_jit
def _over_tolerances(problem: Problem, x, walk: Walk):
    return problem.over_tolerances(x, walk)


def robust(problem: Problem, x, start, anew: Callable) -> Estimate | None:
    """Gain of the score over the tolerances on a fresh walk; None where there are none."""
    if problem.shaken is None:
        return None
    (after, one), (before, two) = (_over_tolerances(problem, jnp.asarray(a), anew(a, "fresh")) for a in (x, start))
    return Estimate(float(after - before), float(jackknife(one - two)))


def drawn(problem: Problem, x, start, exposures: int, walk: float, anew: Callable, *, key) -> Interval:
    """Information per photon of the dose at ``x`` over that at ``start``, from exposures drawn at both.

    ``walk``: the walks' own standard error of the log of that ratio.
    """
    costs = []
    for name, there in (("optimum", x), ("start", start)):
        view = problem.look(problem.family.at(jnp.asarray(there)), anew(there, "fresh"))
        law, light = view.ours(), np.asarray(view.working.twin.path().idler_image())
        weights = light / light.sum() * float(view.entry(law.ledger))
        pool = pooling(law, weights, smoothing(None, light.shape[0]))
        costs.append(pooled_cost(law.draw(exposures, key=stream(key, f"drawn {name}")).estimates, weights, pool))
    return advantage(costs[1], costs[0], walk)


def tolerances(problem: Problem, z, walk: Walk) -> tuple[list[Tolerance], np.ndarray]:
    """Hessian by central differences of gradients, and the profile of every parameter alone around ``z`` [D]."""
    free, count = problem.family.free, len(z)
    top, slope = gradient(problem, z, walk)
    steps = STEP * np.concatenate([np.eye(count), -np.eye(count)])
    up, down = np.split(np.array(side_by_side(lambda s: gradient(problem, z + s, walk)[1], steps)), 2)
    hessian = (up - down) / (2 * STEP)
    hessian = (hessian + hessian.T) / 2
    out = []
    for i in range(count):
        # slope t + curvature t^2/2 = LOST on the real line; further out until 1 % is lost, or a bound is reached
        bend, tilt = max(-hessian[i, i], 1e-8), abs(float(slope[i]))
        reach = min(2 * LOST / (tilt + np.sqrt(tilt**2 + 2 * bend * LOST)), 1.0)
        middle = len(PROFILE) // 2
        ends: list[float | None] = [None, None]
        while True:
            places = np.asarray(z)[None] + reach * PROFILE[:, None] * np.eye(count)[i]
            x = np.asarray(jax.vmap(free.constrain)(jnp.asarray(places)))
            score = many(problem, x, walk)[0]
            lost = score - float(top) - _least(problem, float(top))
            halves = slice(middle, None, -1), slice(middle, None)
            new = [_crossing(x[half, i], lost[half]) for half in halves]
            ends = [old if old is not None else e for old, e in zip(ends, new, strict=True)]
            if None not in ends or reach > FAR:
                break
            reach *= 4
        out.append(Tolerance(ends[0], ends[1], x[:, i], score, float(hessian[i, i]), float(slope[i])))
    return out, hessian


def _least(problem: Problem, top: float) -> float:
    """What 1 % of the objective is, in the score."""
    return float(np.log1p(-LOST)) if problem.objective.log else -LOST * abs(top)


def _crossing(x: np.ndarray, above: np.ndarray) -> float | None:
    """First place along ``x`` where ``above`` passes 0; None where it does not."""
    below = np.flatnonzero(above < 0)
    if not len(below) or below[0] == 0:
        return None
    i = below[0]
    part = above[i - 1] / (above[i - 1] - above[i])
    return float(x[i - 1] + part * (x[i] - x[i - 1]))
