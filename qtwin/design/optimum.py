"""An optimum and what is known of it: fresh walks, drawn exposures, tolerances, profiles."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import brentq

from qtwin.core.random import stream
from qtwin.core.records import Estimate
from qtwin.design.figures import INFORMATION, PANEL, Figure
from qtwin.design.optimise import WORN, Path, figures, gradients, many, side_by_side, sight
from qtwin.design.problem import Problem
from qtwin.metrics.advantage import Interval, advantage, pooled_cost, pooling, smoothing
from qtwin.metrics.statistics import jackknife
from qtwin.tissue import Walk

LOST = 0.01  # of the objective, the part that a tolerance may cost
FAR = 10.0  # on the real line: there is a bound beyond
ROUNDING = 1e-10  # of a figure
STEP = 1e-3  # on the real line of a parameter, for differences of gradients
MISSED = 1e-3  # of a limit: a constraint is told to be missed beyond
TOUCHED = 1e-6  # of a limit, by which a parameter that a constraint holds moves it


class Tolerance(NamedTuple):
    """How far one parameter may move alone before 1 % is lost; None: further than was looked, or than it may."""

    low: float | None
    high: float | None
    untold: tuple[str, str]  # why no end is told on that side although there may be one; empty: it is, or there is none
    x: np.ndarray  # of the profile, ascending
    score: np.ndarray
    slacks: np.ndarray  # [P, C] what is left of every constraint there
    here: int  # the optimum's place in the profile
    top: float  # score of the optimum
    curvature: float  # of the score by the real line
    slope: float  # of the score by the real line: not 0 where the optimum lies on a limit

    @property
    def kept(self) -> np.ndarray:
        """Where every constraint holds, or is missed by no more than at the optimum, bool [P]."""
        return np.all(self.slacks > np.minimum(self.slacks[self.here], 0.0) - MISSED, axis=1)

    def held(self, up: bool) -> np.ndarray:
        """Constraints of which less is left beyond the optimum, bool [C]."""
        beyond = self.slacks[self.here + 1 : self.here + 3] if up else self.slacks[max(self.here - 2, 0) : self.here]
        return np.any(beyond < self.slacks[self.here] - TOUCHED, axis=0)


@eqx.filter_jit
def _values(problem: Problem, x, walk: Walk, figures: tuple[Figure, ...]):
    return problem.values(x, walk, figures)


class Compromise(NamedTuple):
    """A point of the front of two figures."""

    x: np.ndarray  # [D] SI values
    first: Estimate
    second: Estimate


class Fresh(NamedTuple):
    """What walks of their own random numbers tell of optimum and start, those of both the same; errors by jackknife."""

    objective: tuple[Estimate, Estimate]  # at the optimum, and at the start
    constrained: list[tuple[Estimate, Estimate]]  # figure of every constraint
    panel: list[tuple[Estimate, Estimate]]  # every figure of `figures.PANEL`
    gain: Estimate  # of the score
    information: Estimate  # gain of the log of the information


@dataclass(frozen=True)
class Optimum:
    """What `qtwin design` found."""

    problem: Problem
    start: np.ndarray  # [D] SI values
    x: np.ndarray
    paths: list[Path]
    afresh: np.ndarray  # [S] score at the end of every way, on a walk that no optimiser has seen
    best: int
    fresh: Fresh
    robust: Estimate | None  # gain of the score over the tolerances
    drawn: Interval  # information per photon of the dose over that of the start, from drawn exposures
    tolerances: list[Tolerance]
    hessian: np.ndarray  # [D, D] of the score by the real line


def _estimate(value, error) -> Estimate:
    """What no walk moves (an angle of the beam) has an error of rounding alone, which is none."""
    return Estimate(float(value), float(error) if error > ROUNDING * abs(value) else 0.0)


def estimates(problem: Problem, x, figures: tuple[Figure, ...], walk: Walk) -> list[Estimate]:
    """Figures at ``x``, with the walk's errors."""
    whole, left = (np.asarray(a) for a in _values(problem, jnp.asarray(x), walk, figures))
    return [_estimate(v, e) for v, e in zip(whole, jackknife(left), strict=True)]


def fresh(problem: Problem, x, start, anew: Callable) -> Fresh:
    """Optimum ``x`` against ``start``; ``anew(x, name)`` walks the tissue of ``x``."""
    count = 1 + len(problem.constraints)
    asked = (problem.objective, *(c.figure for c in problem.constraints), *PANEL)
    found = []
    for there in (x, start):
        found.append([np.asarray(a) for a in _values(problem, jnp.asarray(there), anew(there, "fresh"), asked)])
    (after, one), (before, two) = found

    def gain(figure: Figure, i: int) -> Estimate:
        up, down = (np.asarray(figure.scored(a[..., i])) for a in (one, two))
        return Estimate(float(figure.scored(after[i]) - figure.scored(before[i])), float(jackknife(up - down)))

    at, there = ([_estimate(v, e) for v, e in zip(a, jackknife(b), strict=True)] for a, b in found)
    pairs = list(zip(at, there, strict=True))
    return Fresh(pairs[0], pairs[1:count], pairs[count:], gain(problem.objective, 0), gain(INFORMATION, count))


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


def tolerances(problem: Problem, z, walk: Walk, abreast: int = 1) -> tuple[list[Tolerance], np.ndarray]:
    """Hessian by central differences of gradients, and the profile of every parameter alone around ``z`` [D].

    ``abreast``: gradients in one call.
    """
    free, count, z = problem.family.free, len(z), np.asarray(z)
    steps = STEP * np.concatenate([np.zeros((1, count)), np.eye(count), -np.eye(count)])
    scores, slopes = gradients(problem, z + steps, walk, abreast)
    top, slope, (up, down) = scores[0], slopes[0], np.split(slopes[1:], 2)
    hessian = (up - down) / (2 * STEP)
    hessian = (hessian + hessian.T) / 2
    by_g = problem.family.moves_g()
    hessian[by_g], hessian[:, by_g] = np.nan, np.nan
    least = float(np.log1p(-LOST)) if problem.objective.log else -LOST * abs(float(top))  # what 1 % is, of the score

    def at(i: int, step: float) -> jax.Array:
        return free.constrain(jnp.asarray(z + step * np.eye(count)[i]))

    def told(i: int, step: float) -> float:
        """By how much the walk tells of a place more than it must."""
        return float(sight(problem, at(i, step), walk)) - WORN

    def lost(way: tuple[int, int]) -> tuple[float | None, str]:
        """How far parameter i may go up (1) or down (-1) the real line, None: without end; and why it is not told."""
        i, sign = way
        if by_g[i]:
            return None, "a walk has no second derivative by g, so there is no tolerance"

        def left(step: float) -> float:
            score = float(figures(problem, at(i, sign * step), walk)[0])
            return score - float(top) - least if np.isfinite(score) else -1.0

        def ended(near: float, far: float) -> tuple[float | None, str]:
            """1 % is lost between them: or a number."""
            step = sign * brentq(left, near, far, xtol=1e-12, rtol=1e-4)
            beyond = float(figures(problem, at(i, step * (1 + 1e-3)), walk)[0])
            name, place = problem.objective.name, free.parameters[i].shown(at(i, step)[i])
            return step, "" if np.isfinite(beyond) else f"beyond {place} {name} is no number"

        # slope t + curvature t^2/2 = LOST; further out until 1 % is lost, or a bound is reached
        bend, tilt = max(-hessian[i, i], 1e-8), abs(float(slope[i]))
        near, far = 0.0, min(2 * LOST / (tilt + np.sqrt(tilt**2 + 2 * bend * LOST)), 1.0)
        while True:
            if told(i, sign * far) < 0:
                last = brentq(lambda step: told(i, sign * step), near, far, rtol=1e-3)
                if left(last) >= 0:
                    place = free.parameters[i].shown(at(i, sign * last)[i])
                    return None, f"the walk tells no further than {place}, and 1 % is not lost before"
                return ended(near, last)
            if left(far) < 0:
                return ended(near, far)
            if far > FAR:
                return None, ""
            near, far = far, 2 * far

    found = side_by_side(lost, [(i, sign) for i in range(count) for sign in (-1, 1)])
    ends, why = zip(*found, strict=True)
    out = []
    for i, (below, above) in enumerate(zip(ends[::2], ends[1::2], strict=True)):
        low, high = (None if end is None else float(at(i, end)[i]) for end in (below, above))
        x0 = float(at(i, 0.0)[i])
        sides = [_side(x0, end, float(at(i, far)[i])) for end, far in ((low, -FAR), (high, FAR))]
        line = np.array([x0]) if by_g[i] else np.unique(np.concatenate([*sides, [x0]]))
        x = np.asarray(at(0, 0.0))[None] + (line - x0)[:, None] * np.eye(count)[i]
        line, x = (a[[float(sight(problem, one, walk)) >= 0.9 * WORN for one in x]] for a in (line, x))
        score, slacks = many(problem, x, walk)
        here = int(np.argmin(np.abs(line - x0)))
        rates = float(hessian[i, i]), float(slope[i])
        out.append(Tolerance(low, high, why[2 * i : 2 * i + 2], line, score, slacks, here, float(top), *rates))
    return out, hessian


def _side(x: float, end: float | None, last: float) -> np.ndarray:
    """Where one side of a profile is looked at: up to the end of its tolerance and half as far again."""
    if end is None:
        return np.linspace(x, last, 11)
    beyond = x + 1.5 * (end - x)
    beyond = min(beyond, last) if end > x else max(beyond, last)
    return np.concatenate([np.linspace(x, end, 8), np.linspace(end, beyond, 5)])
