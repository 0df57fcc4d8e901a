"""How surely the parameters are known: Fisher and profile intervals, and what the data cannot tell apart."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import norm

from qtwin.calibrate.fit import Fit, Problem, measured, scoring

ROUNDS, DOUBLINGS = 40, 12  # at most, of the search for the end of a profile interval, and before there is a bracket
CLOSE = 2e-3  # by which the root of the rise may miss the quantile
FLAT = 0.1  # of the quantile: a profile that has risen by less is flat
NARROW = 1e-4  # of a step (a standard error of z), by which it may be missed where the rise is steep
EDGE = 4.0  # z at which draws of a parameter begin that the fit has driven to an end of its range
INNER = 12  # places between the end of a range and the inside where it is looked for what the data tell
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
    """``z`` with parameters at an end of their range between two bounds moved to where s(z) is 0.02 or 0.98."""
    bounded = np.array([np.isfinite(p.high) and np.isfinite(p.low) for p in problem.free.parameters])
    return jnp.where(bounded & at_edge(problem, z), jnp.clip(z, -EDGE, EDGE), z)


def at_edge(problem: Problem, z) -> np.ndarray:
    """Parameters that the fit has driven to an end of their range, bool [D].

    So close to it that the error of z is above VAGUE, while farther inside, where x is of its own error (a mean count
    goes as x, its information as 1/x), the data do tell it: else they are blind.
    """
    out = np.zeros(len(z), bool)
    out[list(_told_inside(problem, z))] = True
    return out


def _told_inside(problem: Problem, z) -> dict[int, np.ndarray]:
    """Of parameters at an end of their range: the nearest place [D] inside where the data tell them."""
    z, error = np.asarray(z), _errors(problem, z)
    out = {}
    for i in np.flatnonzero(error > VAGUE).tolist():
        p = problem.free.parameters[i]
        if not np.isfinite(p.low):
            continue
        away = 2 * np.log(error[i])
        far = z[i] - np.sign(z[i]) * min(away, abs(z[i])) if np.isfinite(p.high) else z[i] + away
        inner = np.tile(z, (INNER, 1))
        inner[:, i] = np.linspace(z[i], far, INNER + 1)[1:]
        told = [one for one in inner if _errors(problem, one)[i] < VAGUE]
        if told:
            out[i] = min(told, key=lambda one: abs(np.log(_errors(problem, one)[i])))
    return out


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


class _Bracket(NamedTuple):
    """Where an end of a profile is looked for: steps t from the fit, and the root of the rise at both ends."""

    low: jax.Array
    q_low: jax.Array
    high: jax.Array  # inf: not found yet
    q_high: jax.Array  # inf: the model tells nothing there
    t: jax.Array  # the last that was tried
    q: jax.Array
    z: jax.Array  # [D] the other parameters at their best, at ``low``
    tried: jax.Array


@eqx.filter_jit
def _ends(problem: Problem, best: Fit, sigma, target):
    """z of both ends of every profile, [2, D]; far outside where there is no end, nan where the model tells none."""
    count = best.z.shape[0]
    walked = problem.model.blocks(problem.given) is not None

    def end(item):
        which, side, sigma = item
        held = jnp.arange(count) == which

        def risen(t, z):
            fit = scoring(problem, jnp.where(held, best.z + side * t * sigma, z), held, steps=30)
            return jnp.sqrt(jnp.maximum(2 * (fit.value - best.value), 0.0)), fit.z

        def again(b: _Bracket):
            """By the chord and by halves in turn; outwards by doubling until there is a bracket."""
            width = b.high - b.low
            part = (target - b.q_low) / (b.q_high - b.q_low)  # 0 where the upper end tells nothing
            halve = (b.tried % 2 == 1) | ~jnp.isfinite(b.q_high)
            inner = b.low + width * jnp.where(halve, 0.5, jnp.clip(part, 0.02, 0.98))
            t = jnp.where(jnp.isfinite(b.high), inner, 2 * b.low + target)
            q, z = risen(t, b.z)
            q = jnp.where(jnp.isnan(q), jnp.inf, q)
            under = q < target
            return _Bracket(
                jnp.where(under, t, b.low),
                jnp.where(under, q, b.q_low),
                jnp.where(under, b.high, t),
                jnp.where(under, b.q_high, q),
                t,
                q,
                jnp.where(under & jnp.all(jnp.isfinite(z)), z, b.z),  # not from beyond: there they may be lost
                b.tried + 1,
            )

        def going(b: _Bracket):
            out = ~jnp.isfinite(b.high)
            wide = (b.high - b.low > NARROW) & (b.tried < ROUNDS)
            return (jnp.abs(b.q - target) > CLOSE) & jnp.where(out, b.tried < DOUBLINGS, wide)

        zero = jnp.zeros_like(target)
        far = zero + jnp.inf
        b = jax.lax.while_loop(
            going, again, _Bracket(zero, zero, far, far, zero, zero, best.z, jnp.zeros((), jnp.int32))
        )
        lost = jnp.isfinite(b.high) & jnp.isinf(b.q_high)
        met = jnp.abs(b.q - target) <= CLOSE
        t = jnp.where(met, b.t, jnp.where(jnp.isfinite(b.high), b.high, b.low))
        # no number so far out (a scale of 0): no end, where nothing rises before and no walk has worn out
        flat = (b.q_low < FLAT * target) & (not walked)
        return best.z[which] + side * sigma * jnp.where(met | ~lost, t, jnp.where(flat, jnp.inf, jnp.nan))

    sides = jnp.array([-1.0, 1.0])
    items = (jnp.tile(jnp.arange(count), 2), jnp.repeat(sides, count), jnp.tile(sigma, 2))
    return jax.lax.map(end, items).reshape(2, count)


def profile(problem: Problem, best: Fit, cov: np.ndarray, level: float) -> Interval:
    """Where twice the objective, the other parameters at their best, has risen by the square of the normal quantile.

    Wilks, Ann. Math. Stat. 9, 60 (1938). An end that is never reached is that of the support; nan: the model cannot be
    told as far out as the end (a walk that has worn out).
    """
    sigma = np.where(at_edge(problem, best.z), 1.0, np.minimum(np.sqrt(np.diagonal(cov)), 10.0))
    ends = _ends(problem, best, jnp.asarray(sigma), jnp.asarray(norm.ppf((1 + level) / 2)))
    low, high = (np.asarray(problem.free.constrain(end)) for end in ends)
    return Interval((high - low) / (2 * norm.ppf((1 + level) / 2)), low, high)


class Direction(NamedTuple):
    """A combination of parameters that the data tell: how much less surely than each of them alone, and in words."""

    looseness: float  # 1/sqrt(eigenvalue) of the information scaled to a unit diagonal
    vector: np.ndarray  # [D] in units of each parameter's error were the others known
    words: str


def directions(problem: Problem, z) -> list[Direction]:
    """Eigenvectors of the data's own information, scaled, the least certain first; priors are left out.

    A parameter at an end of its range is moved to where the data tell it: others that only look sure because it stays
    at that end are then named with it.
    """
    parameters, z = problem.free.parameters, np.array(z)
    for i, row in _told_inside(problem, z).items():
        z[i] = row[i]
    told = np.asarray(measured(problem, jnp.asarray(z)).told)
    blind = np.diagonal(told) < BLIND
    scale = np.sqrt(np.where(blind, 1.0, np.diagonal(told)))
    unit = told / scale[:, None] / scale[None, :]
    unit[blind], unit[:, blind] = 0.0, 0.0
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
