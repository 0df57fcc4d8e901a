"""Does the model explain the numbers: deviance of the fit, its probability; held-back numbers against predictions."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import chi2

from qtwin.calibrate.fit import Problem, scoring
from qtwin.calibrate.likelihood import LAWS

NOTHING = 0.01  # degrees of freedom
FEW = 10.0  # counts: below, the law of the deviance is drawn instead of taken from the chi-square law


class Goodness(NamedTuple):
    """Deviance, degrees of freedom, probability of at least this much, and how that was found."""

    deviance: float
    freedom: float
    p_value: float
    p_stderr: float
    way: str


class Held(NamedTuple):
    """Numbers that were not fitted: prediction, its standard error (parameters and counting), chi-square and p."""

    mean: np.ndarray
    stderr: np.ndarray
    chi2: float
    p_value: float


def deviance(problem: Problem, z, values):
    """Of the fitted numbers."""
    terms = LAWS[problem.model.law].deviance(values, *problem.expect(z), problem.trials)
    return jnp.sum(jnp.where(problem.used, terms, 0.0))


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
    freedom = float(jnp.sum(problem.used)) - effective
    if freedom < NOTHING:
        return Goodness(found, max(freedom, 0.0), 1.0, 0.0, "no number more than parameters")
    least = float(jnp.min(jnp.where(problem.used, problem.expect(z).mean, jnp.inf)))
    if not law.whole or least > FEW or bootstraps == 0:
        way = "chi-square law" if not law.whole or least > FEW else "chi-square law, though counts are few"
        return Goodness(found, freedom, float(chi2.sf(found, freedom)), 0.0, way)
    drawn = np.asarray(_drawn(problem, z, jax.random.split(key, bootstraps)))
    p = (1 + np.sum(drawn >= found)) / (1 + bootstraps)
    return Goodness(found, freedom, float(p), float(np.sqrt(p * (1 - p) / bootstraps)), f"{bootstraps} drawn data sets")


def held_back(problem: Problem, draws_or_fit, cov) -> Held | None:
    """Prediction of what was not used. ``draws_or_fit``: draws of z [draws, D], or the fit [D] with its ``cov``."""
    out = ~np.asarray(problem.used)
    if not out.any():
        return None
    if np.ndim(draws_or_fit) == 2:
        means, variances = (np.asarray(a)[:, out] for a in _expected(problem, jnp.asarray(draws_or_fit)))
        mean, spread, own = means.mean(axis=0), np.cov(means.T), variances.mean(axis=0)
    else:
        z = jnp.asarray(draws_or_fit)
        slope = np.asarray(jax.jacfwd(lambda z: problem.expect(z).mean)(z))[out]
        mean, own = (np.asarray(a)[out] for a in problem.expect(z))
        spread = slope @ cov @ slope.T
    total = np.atleast_2d(spread) + np.diag(own)
    off = np.asarray(problem.values)[out] - mean
    found = float(off @ np.linalg.solve(total, off))
    return Held(mean, np.sqrt(np.diagonal(total)), found, float(chi2.sf(found, out.sum())))


@eqx.filter_jit
def _expected(problem: Problem, draws):
    return jax.lax.map(problem.expect, draws)
