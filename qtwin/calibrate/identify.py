"""How surely the parameters are known: Fisher and profile intervals, and what the data cannot tell apart."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import norm

from qtwin.calibrate.fit import Fit, Problem, measured, scoring

ROUNDS = 12  # of the search for the end of a profile interval
EDGE = 4.0
VAGUE = 5.0  # error of z of a parameter that is known to no more than a factor e^5
BLIND = 1e-8  # information below which the data say nothing
LOOSE = 10.0  # a combination that is this much less sure than its parts alone is not told apart
LARGE = 0.2  # entries of a direction that are named


class Interval(NamedTuple):
    """Standard error, lower and upper end of every parameter, SI, [D]."""

    stderr: np.ndarray
    low: np.ndarray
    high: np.ndarray


def covariance(information) -> np.ndarray:
    """Inverse [D, D]; what has no information has a large, finite variance."""
    information = np.asarray(information)
    scale = np.sqrt(np.maximum(np.diagonal(information), BLIND))
    unit = information / scale[:, None] / scale[None, :]
    np.fill_diagonal(unit, 1.0)
    values, vectors = np.linalg.eigh(unit)
    inverse = (vectors / np.maximum(values, 1e-10)) @ vectors.T
    return inverse / scale[:, None] / scale[None, :]


def inside(problem: Problem, z):
    """``z`` with parameters at an end of their range moved to where s(z) is 0.02 or 0.98."""
    bounded = np.array([np.isfinite(p.high) and np.isfinite(p.low) for p in problem.free.parameters])
    return jnp.where(bounded, jnp.clip(z, -EDGE, EDGE), z)


def at_edge(problem: Problem, z) -> np.ndarray:
    """Parameters that the fit has driven to an end of their range, bool [D].

    Between two bounds: s(z) within 1e-4 of 0 or 1. Of a range without an upper end: so close to the lower one that the
    error of z is above VAGUE, while farther up, where x is of its own error, the data do tell it (else they are blind).
    """
    z = np.asarray(z)
    between = np.abs(z - np.asarray(inside(problem, z))) > 5.0
    open_above = np.array([np.isfinite(p.low) and not np.isfinite(p.high) for p in problem.free.parameters])
    error = _errors(problem, z)
    for i in np.flatnonzero(open_above & (error > VAGUE)):
        up = z.copy()
        up[i] += min(np.log(error[i]), 20.0)
        between[i] = _errors(problem, up)[i] < VAGUE
    return between


def _errors(problem: Problem, z) -> np.ndarray:
    """1/sqrt(F_ii) of the data and the priors, [D]."""
    here = measured(problem, jnp.asarray(z))
    return 1 / np.sqrt(np.maximum(np.diagonal(here.told) + np.asarray(here.known), BLIND**2))


def slopes(problem: Problem, z) -> np.ndarray:
    """dx/dz of every parameter, [D]."""
    return np.asarray(jax.jvp(problem.free.constrain, (z,), (jnp.ones_like(z),))[1])


def fisher(problem: Problem, z, cov: np.ndarray, level: float) -> Interval:
    """x(z -+ q s_z), s_z^2 the diagonal of ``cov`` of z [D, D]; standard errors |dx/dz| s_z (delta method)."""
    s = np.sqrt(np.diagonal(cov))
    reach = norm.ppf((1 + level) / 2) * s
    ends = np.stack([np.asarray(problem.free.constrain(jnp.asarray(z + side * reach))) for side in (-1, 1)])
    return Interval(np.abs(slopes(problem, z)) * s, ends.min(axis=0), ends.max(axis=0))


@eqx.filter_jit
def _ends(problem: Problem, best: Fit, middle, sigma, target):
    """z of both ends of every profile, [2, D]."""
    count = best.z.shape[0]

    def end(item):
        which, side, middle, sigma = item
        held = jnp.arange(count) == which

        def risen(t, z):
            fit = scoring(problem, jnp.where(held, middle + side * t * sigma, z), held, steps=30)
            rise = jnp.sqrt(jnp.maximum(2 * (fit.value - best.value), 0.0))
            return jnp.where(jnp.isnan(rise), jnp.inf, rise), fit.z

        def again(_, state):
            """A bracket (low, high) with what the root of the rise is at both, narrowed by the chord."""
            low, q_low, high, q_high, z = state
            chord = low + (high - low) * (target - q_low) / jnp.maximum(q_high - q_low, 1e-12)
            width = high - low
            known = jnp.isfinite(high)
            chord = jnp.where(jnp.isfinite(q_high), chord, low + width / 2)
            t = jnp.where(known, jnp.clip(chord, low + 0.1 * width, high - 0.1 * width), 2 * low + target)
            t = jnp.where(known & (q_high - q_low < 1e-4), low, t)
            q, there = risen(t, z)
            under = q < target
            z = jnp.where(jnp.isfinite(there), there, z)
            return (
                jnp.where(under, t, low),
                jnp.where(under, q, q_low),
                jnp.where(under, high, t),
                jnp.where(under, q_high, q),
                z,
            )

        zero = jnp.zeros_like(target)
        state = (zero, zero, zero + jnp.inf, zero + jnp.inf, best.z)
        low, q_low, high, q_high, _ = jax.lax.fori_loop(0, ROUNDS, again, state)
        known = jnp.isfinite(high)
        t = low + jnp.where(known, (high - low) * (target - q_low) / jnp.maximum(q_high - q_low, 1e-12), 0.0)
        return middle + side * t * sigma

    sides = jnp.array([-1.0, 1.0])
    items = (jnp.tile(jnp.arange(count), 2), jnp.repeat(sides, count), jnp.tile(middle, 2), jnp.tile(sigma, 2))
    return jax.lax.map(end, items).reshape(2, count)


def profile(problem: Problem, best: Fit, cov: np.ndarray, level: float) -> Interval:
    """Where twice the objective, the other parameters at their best, has risen by the square of the normal quantile.

    Wilks, Ann. Math. Stat. 9, 60 (1938). An end that is never reached is that of the support.
    """
    sigma = np.where(at_edge(problem, best.z), 1.0, np.minimum(np.sqrt(np.diagonal(cov)), 10.0))
    ends = _ends(problem, best, inside(problem, best.z), jnp.asarray(sigma), jnp.asarray(norm.ppf((1 + level) / 2)))
    x = np.stack([np.asarray(problem.free.constrain(end)) for end in ends])
    low, high = x.min(axis=0), x.max(axis=0)
    return Interval((high - low) / (2 * norm.ppf((1 + level) / 2)), low, high)


class Direction(NamedTuple):
    """A combination of parameters that the data tell: how much less surely than each of them alone, and in words."""

    looseness: float  # 1/sqrt(eigenvalue) of the information scaled to a unit diagonal
    vector: np.ndarray  # [D] in units of each parameter's error were the others known
    words: str


def directions(problem: Problem, z, told) -> list[Direction]:
    """Eigenvectors of the data's own information, scaled, the least certain first; priors are left out."""
    told = np.asarray(told)
    z, parameters = np.asarray(z), problem.free.parameters
    edge = at_edge(problem, z)
    blind = np.diagonal(told) < BLIND
    scale = np.sqrt(np.where(blind, 1.0, np.diagonal(told)))
    unit = told / scale[:, None] / scale[None, :]
    unit[blind], unit[:, blind] = 0.0, 0.0
    unit[edge], unit[:, edge] = 0.0, 0.0
    unit[edge, edge] = 1.0  # nothing is told of a parameter at an end of its range but that it is there
    values, vectors = np.linalg.eigh(unit)
    out = []
    for value, vector in zip(values, vectors.T, strict=True):
        loose = 1 / np.sqrt(max(value, 1e-12))
        vector = vector * np.sign(vector[np.argmax(np.abs(vector))])
        named = [i for i in np.argsort(-np.abs(vector)) if abs(vector[i]) > LARGE]
        if loose > 1e5 and all(blind[i] for i in named):
            words = "the data say nothing of " + " or ".join(parameters[i].key for i in named)
        else:
            # a shift that the fit hardly sees, small enough that the bijections are straight
            shift = slopes(problem, jnp.asarray(z)) * vector / scale
            x = np.asarray(problem.free.constrain(jnp.asarray(z)))
            top = max(named, key=lambda i: abs(shift[i] / x[i]) if x[i] else abs(shift[i]))
            size = 0.1 * abs(x[top] / shift[top]) if x[top] and shift[top] else 1.0
            moved = [
                f"{parameters[i].key} {'-+'[int(shift[i] * size > 0)]}{parameters[i].shown(abs(shift[i] * size), 2)}"
                for i in named
            ]
            words = ", ".join(moved)
        out.append(Direction(float(loose), vector, words))
    return out
