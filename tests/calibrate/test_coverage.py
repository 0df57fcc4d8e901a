"""Simulate, fit, recover: over a hundred data sets intervals cover, and posterior ranks are uniform."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from qtwin.calibrate.bell import Bell
from qtwin.calibrate.calibration import pose
from qtwin.calibrate.fit import fitted, measured, observed
from qtwin.calibrate.identify import _ends, covariance, fisher, slopes
from qtwin.calibrate.model import Data, Part
from qtwin.calibrate.posterior import chain

SETS, LEVEL = 100, 0.95
FREE = ["pair_rate", "visibility_hv", "signal_efficiency"]
PRIORS = {
    "pair_rate": {"median": "20 kHz", "factor": 1.2},
    "visibility_hv": {"low": 0.7, "high": 0.98},
    "signal_efficiency": {"mean": 0.1, "std": 0.01},
}
MODEL = Bell(
    *("20 kHz", 0.0, 0.9, 0.9, 0.1, 0.1, "5 ns"), signal_background="200 Hz", idler_background="200 Hz", drift=0.02
)


@pytest.fixture(scope="module")
def problem():
    angles = np.deg2rad([0, 22.5, 45, 67.5, 90, 112.5, 135, 157.5])
    signal, idler = (a.ravel() for a in np.meshgrid(angles, angles[::2]))
    n = len(signal)
    zero = np.zeros(n, int)
    given = {"signal": signal, "idler": idler, "time": np.full(n, 1.0), "signal_setting": zero, "idler_setting": zero}
    rows = np.tile(np.arange(n), 3)
    data = Data(np.full(3 * n, 100.0), given, rows, {"all": Part(np.arange(3 * n), rows, "setting")})
    return pose(MODEL, data, FREE, PRIORS)


def with_values(problem, values):
    return eqx.tree_at(lambda p: p.values, problem, values)


def draw(problem, z, key):
    return problem.at(z).sample(problem.given, key=key, trials=problem.trials)


@pytest.mark.slow
def test_intervals_cover_in_95_percent(problem):
    """Fisher and profile intervals of one truth, and its chi-square; 100 sets, binomial limits of 1 in 1000."""
    flat = dataclasses.replace(problem, priors=tuple(dataclasses.replace(p, kind="flat") for p in problem.priors))
    true = problem.free.free(jnp.asarray(problem.free.values(MODEL)))

    @eqx.filter_jit
    def one(key):
        again = with_values(flat, draw(flat, true, key))
        fit = fitted(again, true)
        return again.values, fit

    x = np.asarray(problem.free.values(MODEL))
    low, high = stats.binom.ppf([5e-4, 1 - 5e-4], SETS, LEVEL) / SETS
    inside, profiled, pulls, chi2 = [], [], [], []
    for key in jax.random.split(jax.random.key(20), SETS):
        values, fit = one(key)
        again = with_values(flat, values)
        local = measured(again, fit.z)
        assert bool(fit.converged)
        interval = fisher(again, fit.z, covariance(local.told), LEVEL)
        inside.append((interval.low < x) & (x < interval.high))
        pulls.append((np.asarray(problem.free.constrain(fit.z)) - x) / interval.stderr)
        sigma = jnp.asarray(np.sqrt(np.diagonal(covariance(local.told))))
        ends = _ends(again, fit, sigma, jnp.asarray(stats.norm.ppf((1 + LEVEL) / 2)))
        ends = np.sort([np.asarray(problem.free.constrain(end)) for end in ends], axis=0)
        profiled.append((ends[0] < x) & (x < ends[1]))
        off = np.asarray(fit.z - true)
        chi2.append(off @ np.asarray(local.told) @ off)
    for found in (inside, profiled):
        assert np.all(np.mean(found, axis=0) >= low) and np.all(np.mean(found, axis=0) <= high)
    assert np.all(np.abs(np.mean(pulls, axis=0)) < 3.3 / np.sqrt(SETS))
    assert stats.kstest(chi2, stats.chi2(len(FREE)).cdf).pvalue > 1e-3
    curved = np.sqrt(np.diagonal(np.linalg.inv(np.asarray(observed(again, fit.z)))))
    np.testing.assert_allclose(curved * np.abs(slopes(again, fit.z)), interval.stderr, rtol=0.3)


@pytest.mark.slow
def test_ranks_of_the_truth_among_posterior_draws_are_uniform(problem):
    """Simulation-based calibration: Talts et al., arXiv:1804.06788 (2018). 49 draws each, chi-square of ten bins."""
    inner = dataclasses.replace(problem, scale="z")
    rng = np.random.default_rng(22)
    free = problem.free
    quantiles = rng.random((SETS, len(FREE)))
    truths = np.stack(
        [
            p.quantile(quantiles[:, i], q.low, q.high)
            for i, (p, q) in enumerate(zip(problem.priors, free.parameters, strict=True))
        ],
        axis=1,
    )
    start = free.free(jnp.asarray(free.values(MODEL)))

    @eqx.filter_jit
    def ranks(keys, truths):
        def one(key, truth):
            data, walk = jax.random.split(key)
            again = with_values(inner, draw(inner, free.free(truth), data))
            middle = fitted(again, start).z
            here = measured(again, middle)
            root = jnp.linalg.cholesky(jnp.linalg.inv(here.told + jnp.diag(here.known)))
            u, diverging = chain(again, middle, root, walk, 200, 49 * 4)
            x = jax.vmap(lambda u: free.constrain(middle + root @ u))(u[::4])
            return jnp.sum(x < truth, axis=0), jnp.sum(diverging)

        return jax.vmap(one)(keys, truths)

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        found, diverging = ranks(jax.random.split(jax.random.key(21), SETS), jnp.asarray(truths))
    assert np.asarray(diverging).sum() < 0.01 * SETS * 196
    for column in np.asarray(found).T:
        counts = np.histogram(column, np.arange(11) * 5)[0]
        assert counts.sum() == SETS
        assert stats.chisquare(counts).pvalue > 1e-3
