"""Does the model explain the numbers: deviance of the fit, its probability; held-back numbers against predictions."""

from collections.abc import Mapping
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import chi2, poisson

from qtwin.calibrate.fit import Problem, scoring
from qtwin.calibrate.likelihood import LAWS
from qtwin.calibrate.model import Part
from qtwin.core.random import numpy_generator

NOTHING = 0.01  # degrees of freedom
NEVER = 1e-6  # counts: where fewer are expected none can tell anything
FEW = 10.0  # counts: below, the law of the deviance is drawn instead of taken from the chi-square law
DRAWN = 2000  # predictions of held-back numbers, where counts are few


class Goodness(NamedTuple):
    """Deviance, degrees of freedom, probability of at least this much, and how that was found.

    Where a parameter of the scatter is fitted (``scatter``), residuals are as large as it makes them and test nothing:
    p is then what the prior gives to as much scatter or more. nan: nothing is tested.
    """

    deviance: float
    freedom: float
    p_value: float
    p_stderr: float
    way: str
    scatter: str = ""  # the parameter


class Stretch(NamedTuple):
    """Neighbouring counts that are further off than any others, and how probably any are as far off."""

    part: str
    low: float  # centres of the first and the last bin
    high: float
    unit: str
    counted: float
    expected: float
    p_value: float


class Held(NamedTuple):
    """Numbers that were not fitted: prediction, its standard error (parameters and counting), chi-square and p."""

    mean: np.ndarray
    stderr: np.ndarray
    chi2: float
    p_value: float


def deviance(problem: Problem, z, values):
    """Of the fitted numbers.

    A Monte Carlo part's own error W, from its blocks u_b about their mean, adds to the variances: (y - m)^T (V + W)^-1
    (y - m) by the matrix inversion lemma, W = U U^T with U = [u_b]/sqrt(B (B - 1)).
    """
    expected = problem.expect(z)
    terms = LAWS[problem.model.law].deviance(values, *expected, problem.trials)
    told = jnp.sum(jnp.where(problem.used, terms, 0.0))
    root = _walk_root(problem, z)
    if root is None:
        return told
    weight = jnp.where(problem.used, 1 / jnp.sqrt(expected.variance), 0.0)
    root = root * weight[None, :]
    off = root @ ((values - expected.mean) * weight)
    return told - off @ jnp.linalg.solve(jnp.eye(len(root), dtype=off.dtype) + root @ root.T, off)


def _walk_root(problem: Problem, z):
    """U^T [B, n] of the error of a model's Monte Carlo part; None: it has none."""
    blocks = problem.at(z).blocks(problem.given)
    if blocks is None:
        return None
    return (blocks - jnp.mean(blocks, axis=0, keepdims=True)) / np.sqrt(len(blocks) * (len(blocks) - 1))


def scatter_alone(problem: Problem, z) -> list[int]:
    """Free parameters that move the variances of the fitted numbers and none of their means."""
    if not problem.law.own_variance:
        return []
    mean, variance = (np.asarray(a)[np.asarray(problem.used)] for a in jax.jacfwd(problem.expect)(z))
    return [i for i in range(len(z)) if not np.any(mean[:, i]) and np.any(variance[:, i])]


@eqx.filter_jit
def _drawn(problem: Problem, z, keys):
    """Deviances of fits to drawn data, [draws]."""
    model = problem.at(z)

    def one(key):
        values = model.sample(problem.given, key=key, trials=problem.trials)
        again = eqx.tree_at(lambda p: p.values, problem, values)
        return deviance(again, scoring(again, z, steps=30).z, values)

    return jax.lax.map(one, keys)


def goodness(problem: Problem, z, effective: float, *, key, bootstraps: int) -> Goodness:
    """``effective``: parameters that the data, not the priors, decide (trace of the data's share of the information).

    p from the chi-square law where every mean is above FEW or the law is normal; else from refitted draws of the model
    (parametric bootstrap), (1 + k)/(1 + B) of k draws that deviate as much.
    """
    law, found = LAWS[problem.model.law], float(deviance(problem, z, problem.values))
    mean = problem.expect(z).mean
    live = problem.used & ((mean > NEVER) if law.whole else True)  # bins of a dead time are no data
    freedom = float(jnp.sum(live)) - effective
    for i in scatter_alone(problem, z)[:1]:
        free, x = problem.free.parameters[i], float(problem.free.constrain(z)[i])
        chance = problem.priors[i].above(x, free.low, free.high)
        way = f"{free.key} is fitted, so residuals are as large as it makes them" + (
            "" if np.isfinite(chance) else ", and it has no prior to be held against"
        )
        return Goodness(found, freedom, chance, 0.0, way, free.key)
    if freedom < NOTHING:
        return Goodness(found, max(freedom, 0.0), np.nan, 0.0, "no number more than parameters")
    least = float(jnp.min(jnp.where(live, mean, jnp.inf)))
    if not law.whole or least > FEW or bootstraps == 0:
        way = "chi-square law" if not law.whole or least > FEW else "chi-square law, though counts are few"
        return Goodness(found, freedom, float(chi2.sf(found, freedom)), 0.0, way)
    drawn = np.asarray(_drawn(problem, z, jax.random.split(key, bootstraps)))
    p = (1 + np.sum(drawn >= found)) / (1 + bootstraps)
    return Goodness(found, freedom, float(p), float(np.sqrt(p * (1 - p) / bootstraps)), f"{bootstraps} drawn data sets")


def worst_stretch(problem: Problem, z, parts: Mapping[str, Part]) -> Stretch | None:
    """Of counts along an axis: a thousand bins that fit hide a few that do not from a deviance.

    Stretches of 2^k bins, each half over the next; the sum of one is a Poisson number (of binomial counts it scatters
    less). p: its two-sided probability times the number of stretches (Bonferroni). None: no counts along an axis.
    """
    law, found = LAWS[problem.model.law], []
    if not law.whole or law.own_variance:
        return None
    mean, used = np.asarray(problem.expect(z).mean), np.asarray(problem.used)
    for name, part in parts.items():
        keep = np.flatnonzero(used[part.index])
        if not part.unit or part.shape is not None or len(keep) < 2:
            continue
        keep = keep[np.argsort(part.at[keep])]
        index, at = part.index[keep], part.at[keep]
        sums = [np.concatenate([[0.0], np.cumsum(a[index])]) for a in (np.asarray(problem.values), mean)]
        for length in (1 << k for k in range(len(keep).bit_length())):
            first = np.arange(0, len(keep) - length + 1, max(length // 2, 1))
            count, due = (np.maximum(s[first + length] - s[first], 0.0) for s in sums)
            p = np.minimum(poisson.sf(count - 1, due), poisson.cdf(count, due))
            worst = int(np.argmin(p))
            ends = at[first[worst]], at[first[worst] + length - 1]
            found.append((2 * p[worst], len(first), name, *ends, part.unit, count[worst], due[worst]))
    if not found:
        return None
    p, _, name, low, high, unit, counted, due = min(found, key=lambda one: one[0])
    return Stretch(name, low, high, unit, counted, due, min(1.0, float(p) * sum(one[1] for one in found)))


def held_back(problem: Problem, z, cov, draws=None, *, key) -> Held | None:
    """Prediction of what was not used, of ``draws`` of z [draws, D], or of the fit ``z`` [D] with its ``cov``.

    p from the chi-square law; where counts are few, from numbers that are drawn of the prediction.
    """
    out = ~np.asarray(problem.used)
    if not out.any():
        return None
    if draws is not None:
        means, variances = (np.asarray(a)[:, out] for a in _expected(problem, jnp.asarray(draws)))
        mean, spread, own = means.mean(axis=0), np.cov(means.T), variances.mean(axis=0)
    else:
        slope = np.asarray(jax.jacfwd(lambda z: problem.expect(z).mean)(z))[out]
        mean, own = (np.asarray(a)[out] for a in problem.expect(z))
        spread = slope @ cov @ slope.T
    total = np.atleast_2d(spread) + np.diag(own)
    root = _walk_root(problem, z)
    if root is not None:
        total += np.asarray(root)[:, out].T @ np.asarray(root)[:, out]
    inverse = np.linalg.inv(total)
    off = np.asarray(problem.values)[out] - mean
    found = float(off @ inverse @ off)
    p = float(chi2.sf(found, out.sum()))
    if problem.law.whole and own.min() < FEW:
        rng = numpy_generator(key, "parameters")
        lots = draws[rng.integers(len(draws), size=DRAWN)] if draws is not None else None
        lots = rng.multivariate_normal(np.asarray(z), cov, DRAWN, method="eigh") if lots is None else lots
        away = np.asarray(_predicted(problem, jnp.asarray(lots), jax.random.split(key, DRAWN)))[:, out] - mean
        p = (1 + np.sum(np.einsum("ki,ij,kj->k", away, inverse, away) >= found)) / (1 + DRAWN)
    return Held(mean, np.sqrt(np.diagonal(total)), found, float(p))


@eqx.filter_jit
def _expected(problem: Problem, draws):
    return jax.lax.map(problem.expect, draws)


@eqx.filter_jit
def _predicted(problem: Problem, draws, keys):
    """Numbers drawn of the model at every draw of z, [draws, n]."""

    def one(item):
        z, key = item
        return problem.at(z).sample(problem.given, key=key, trials=problem.trials)

    return jax.lax.map(one, (draws, keys))
