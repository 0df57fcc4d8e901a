"""Does the model explain the numbers: deviance of the fit, its probability; held-back numbers against predictions."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import chi2

from qtwin.calibrate.fit import Problem, scoring
from qtwin.calibrate.likelihood import LAWS
from qtwin.core.random import numpy_generator

NOTHING = 0.01  # degrees of freedom
NEVER = 1e-6  # counts: where fewer are expected none can tell anything
FEW = 10.0  # counts: below, the law of the deviance is drawn instead of taken from the chi-square law
DRAWN = 2000  # predictions of held-back numbers, where counts are few


class Goodness(NamedTuple):
    """Deviance, degrees of freedom, probability of at least this much, and how that was found.

    Where a parameter of the scatter is fitted (``scatter``), residuals are as large as it makes them and test nothing:
    p is then what the prior gives to as much scatter or more.
    """

    deviance: float
    freedom: float
    p_value: float
    p_stderr: float
    way: str
    scatter: str = ""  # the parameter


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
        return Goodness(found, freedom, chance if np.isfinite(chance) else 1.0, 0.0, way, free.key)
    if freedom < NOTHING:
        return Goodness(found, max(freedom, 0.0), 1.0, 0.0, "no number more than parameters")
    least = float(jnp.min(jnp.where(live, mean, jnp.inf)))
    if not law.whole or least > FEW or bootstraps == 0:
        way = "chi-square law" if not law.whole or least > FEW else "chi-square law, though counts are few"
        return Goodness(found, freedom, float(chi2.sf(found, freedom)), 0.0, way)
    drawn = np.asarray(_drawn(problem, z, jax.random.split(key, bootstraps)))
    p = (1 + np.sum(drawn >= found)) / (1 + bootstraps)
    return Goodness(found, freedom, float(p), float(np.sqrt(p * (1 - p) / bootstraps)), f"{bootstraps} drawn data sets")


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
