"""Fits at the edge: values near a bound or at it, zero counts, vague priors, fitted scatter, worn-out models."""

import dataclasses
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from qtwin import calibrate_job
from qtwin.calibrate.bell import Bell
from qtwin.calibrate.calibration import Settings, _widened, calibrate, pose
from qtwin.calibrate.data import table
from qtwin.calibrate.fit import fitted, measured, scored
from qtwin.calibrate.goodness import Goodness, deviance, goodness, held_back, worst_stretch
from qtwin.calibrate.identify import Interval, at_edge, covariance, directions, fisher, profile
from qtwin.calibrate.model import AbstractModel, Data, Expected, Part
from qtwin.calibrate.slab import Sphere
from qtwin.core.config import compose
from qtwin.core.errors import UserError
from qtwin.core.params import fraction, nonnegative, param
from qtwin.report.calibrate import _explained, figures, text

QUANTILE = stats.norm.ppf(0.975)
QUIET = Settings(starts=1, draws=0, profiles=False, bootstraps=0)


class Rate(AbstractModel):
    """Counts t (b + v s): a background, and a part v of a light of s per second."""

    b: jax.Array = param("Hz", nonnegative, "background")
    v: jax.Array = param("", fraction, "part of the light that comes")
    worn: jax.Array = param("Hz", nonnegative, "background above which nothing is told", 1e12)

    def read(self, path):
        raise NotImplementedError

    def expect(self, given):
        mean = given["time"] * (self.b + self.v * given["s"])
        mean = jnp.where(self.b < self.worn, mean, jnp.nan)
        return Expected(mean, mean)


def rate(counts, s, free, priors, time=100.0, held=(), **start):
    counts, n = np.asarray(counts, float), len(counts)
    rows = np.arange(n)
    given = {"s": np.broadcast_to(np.asarray(s, float), n), "time": np.full(n, time)}
    data = Data(counts, given, rows, {"all": Part(rows, rows, "row")})
    return pose(Rate(**({"b": "1 Hz", "v": 0.5} | start)), data, free, priors, held=held), data


def best(problem):
    return scored(problem, problem.free.free(jnp.asarray(problem.free.values(problem.model))))


def ends(problem, fit):
    here = measured(problem, fit.z)
    return profile(problem, fit, covariance(here.told + jnp.diag(here.known)), 0.95)


@pytest.mark.parametrize("high", ["100 kHz", "10 MHz"])
def test_a_value_far_from_both_bounds_has_its_own_interval(high):
    """A Poisson mean, b = 50.5 Hz of 300 s: the interval of 2 [m - y + y ln(y/m)] = q^2, whatever the upper bound."""
    problem, _ = rate([5050] * 3, 0.0, ["b"], {"b": {"low": 0, "high": high}})
    fit = best(problem)
    assert not at_edge(problem, fit.z).any()
    found, y = ends(problem, fit), 15150
    for end in (found.low[0], found.high[0]):
        m = 300 * end
        assert 2 * (m - y + y * np.log(y / m)) == pytest.approx(QUANTILE**2, rel=5e-3)
    assert found.low[0] < 50.5 < found.high[0]


@pytest.mark.parametrize("high", [None, "10 Hz", "1 kHz"])
def test_no_counts_at_all(high):
    """The upper end is q^2/2 over the exposure (300 s), the lower one 0; there is no standard error."""
    problem, _ = rate([0, 0, 0], 0.0, ["b"], {"b": {"low": 0, "high": high}} if high else {})
    fit = best(problem)
    assert at_edge(problem, fit.z).all()
    found = ends(problem, fit)
    assert found.low[0] == pytest.approx(0, abs=1e-9)
    assert found.high[0] == pytest.approx(QUANTILE**2 / 2 / 300, rel=5e-3)


@pytest.mark.parametrize("time", [1.0, 1e4])
def test_a_part_that_is_one(time):
    """Counts of all the light and a little more: v at its end, the lower end where the likelihood has fallen."""
    light, y = 1000.0, 3 * 1010 * time
    problem, _ = rate([1010 * time] * 3, light, ["v"], {}, time=time, b="0 Hz")
    fit = best(problem)
    assert at_edge(problem, fit.z).all() and problem.free.constrain(fit.z)[0] == pytest.approx(1)
    found = ends(problem, fit)
    low, most = 3 * light * time * found.low[0], 3 * light * time
    assert 2 * (low - most + y * np.log(most / low)) == pytest.approx(QUANTILE**2, rel=5e-3)
    assert found.high[0] == pytest.approx(1)


def test_an_end_that_the_model_cannot_reach_is_no_number():
    problem, data = rate([50] * 3, 0.0, ["b"], {}, worn="0.52 Hz", b="0.5 Hz")
    found = ends(problem, best(problem))
    assert np.isnan(found.high[0]) and found.low[0] == pytest.approx(0.5 - QUANTILE * np.sqrt(150) / 300, rel=0.03)
    result = calibrate(problem, data, dataclasses.replace(QUIET, profiles=True), key=jax.random.key(0))
    leaf = figures(result)["parameters"]["b"]["profile"]
    assert leaf["high"] is None and "as far out" in leaf["reason"] and "to not reached" in text(result)


def test_one_free_parameter_has_a_posterior():
    problem, data = rate([50] * 3, 0.0, ["b"], {})
    settings = dataclasses.replace(QUIET, draws=200, warmup=100)
    leaf = figures(calibrate(problem, data, settings, key=jax.random.key(0)))["parameters"]["b"]["posterior"]
    assert leaf["value"] == pytest.approx(151 / 300, abs=4 * np.sqrt(150) / 300 / 10) and leaf["rhat"] < 1.1


@pytest.mark.parametrize("factor", [1.5, 4.0])
def test_intervals_cover_truths_drawn_from_a_log_normal_prior(factor):
    """Weak data (six counts at the median): 600 sets, binomial limits of 1 in 1000."""
    sets, rng = 600, np.random.default_rng(31)
    problem, _ = rate([6.0], 0.0, ["b"], {"b": {"median": "1 Hz", "factor": factor}}, time=6.0)
    truth = np.exp(np.log(factor) * rng.normal(size=sets))
    counts = jnp.asarray(rng.poisson(6 * truth), float)

    @eqx.filter_jit
    def spread(y):
        again = eqx.tree_at(lambda p: p.values, problem, y[None])
        z = scored(again, jnp.zeros(1)).z
        here = measured(again, z)
        return z[0], 1 / jnp.sqrt(here.told[0, 0] + here.known[0])

    z, sigma = (np.asarray(a) for a in jax.lax.map(spread, counts))
    inside = np.abs(np.log(truth) - z) < QUANTILE * sigma
    low, high = stats.binom.ppf([5e-4, 1 - 5e-4], sets, 0.95)
    assert low <= inside.sum() <= high


def test_without_data_a_log_normal_prior_is_its_own_interval():
    problem, _ = rate([0.0], 0.0, ["b"], {"b": {"median": "300 Hz", "factor": 2}}, time=1e-12)
    fit = best(problem)
    here = measured(problem, fit.z)
    interval = fisher(problem, fit.z, covariance(here.told + jnp.diag(here.known)), 0.95)
    np.testing.assert_allclose([interval.low[0], interval.high[0]], 300 * 2.0 ** np.array([-QUANTILE, QUANTILE]), 1e-4)


def bell(angle_error: float, drift, free):
    """A table drawn of wrong angles (rad) or right ones, posed with exact ones."""
    angles = np.deg2rad([0, 22.5, 45, 67.5])
    signal, idler = (a.ravel() for a in np.meshgrid(angles, angles))
    n = len(signal)
    given = {"signal": signal, "idler": idler, "time": np.full(n, 30.0)}
    given |= {f"{arm}_setting": np.zeros(n, int) for arm in ("signal", "idler")}
    model = Bell("200 kHz", 0.0, 0.9, 0.9, 0.1, 0.1, "5 ns", drift=drift)
    true = given | {"signal": signal + angle_error * np.cos(7 * signal)}
    values = np.asarray(model.sample({k: jnp.asarray(v) for k, v in true.items()}, key=jax.random.key(3)))
    rows = np.tile(np.arange(n), 3)
    data = Data(values, given, rows, {"all": Part(np.arange(3 * n), rows, "setting")})
    priors = {"drift": {"median": 0.03, "factor": 2}} if "drift" in free else {}
    return pose(model, data, free, priors), data


MEANS = ["pair_rate", "visibility_hv", "visibility_da", "signal_efficiency", "idler_efficiency"]


def test_scatter_that_is_fitted_does_not_pass_for_an_explanation():
    """A wrong model finds a large drift: told is what its prior says of it, not the deviance that it has made."""

    def fit(error, *more):
        problem, _ = bell(error, 0.03, [*MEANS, *more])
        z = fitted(problem, problem.free.free(jnp.asarray(problem.free.values(problem.model)))).z
        return problem.free.constrain(z), goodness(problem, z, 5.0, key=jax.random.key(1), bootstraps=0)

    (x, right), (y, wrong), (_, fixed) = fit(0.0, "drift"), fit(0.35, "drift"), fit(0.35)
    for value, found in ((x[-1], right), (y[-1], wrong)):
        assert found.scatter == "drift" and found.p_value == pytest.approx(stats.norm.sf(np.log2(value / 0.03)))
    assert right.p_value > 0.1 and wrong.p_value < 0.01
    assert stats.chi2.sf(wrong.deviance, wrong.freedom) > 0.01  # what the drift has made of it
    assert fixed.scatter == "" and fixed.p_value < 1e-6


@pytest.mark.parametrize("p, told", [(0.3, "probability of 0.3."), (1e-3, "0.001: the model does NOT explain")])
def test_words_of_a_scatter_that_is_fitted(p, told):
    problem, _ = bell(0.0, 0.03, ["pair_rate", "drift"])
    good = Goodness(40.0, 43.0, p, 0.0, "drift is fitted", "drift")
    found = SimpleNamespace(problem=problem, goodness=good, stretch=None, x=np.array([2e5, 0.1]))
    words = _explained(found)
    assert words.startswith("Residuals do not test the model: drift is fitted") and told in words


def test_held_back_numbers_of_few_counts_have_the_p_of_drawn_ones():
    """Twenty means of 0.2: the chi-square law would give p < 0.01 to eight sets in a hundred."""
    rng, small, by_law = np.random.default_rng(5), 0, 0
    counts = rng.poisson(0.2, (400, 20))
    problem, _ = rate([2000, *counts[0]], 0.0, ["b"], {}, time=1.0, held=tuple(range(1, 21)), b="0.2 Hz")
    problem = eqx.tree_at(lambda p: p.given["time"], problem, problem.given["time"].at[0].set(1e4))
    z = jnp.log(jnp.asarray([0.2]))
    for k, row in enumerate(counts):
        again = eqx.tree_at(lambda p: p.values, problem, jnp.asarray(np.append(2000.0, row)))
        found = held_back(again, z, np.array([[5e-4]]), key=jax.random.key(k))
        small, by_law = small + (found.p_value < 0.01), by_law + (stats.chi2.sf(found.chi2, 20) < 0.01)
    assert by_law > stats.binom.ppf(0.999, 400, 0.01) >= small


def test_the_error_of_a_walk_is_part_of_the_deviance(tmp_path):
    """Against the dense inverse of V + W, W the covariance of the mean of the blocks."""
    path = tmp_path / "slabs.csv"
    path.write_text(
        "thickness [mm],g,n,reflectance,reflectance_error,transmittance,transmittance_error\n"
        "0.5,0.8,1.4,0.12,5e-4,0.7,5e-4\n1,0.8,1.4,0.18,5e-4,0.55,5e-4\n"
    )
    model = Sphere(mu_a="0.1 1/mm", mu_s="4 1/mm", photons=8192)
    data = model.read(path)
    problem = pose(model, data, ["mu_a.0", "mu_s.0"], {}, held=[1])
    z = problem.free.free(jnp.asarray(problem.free.values(problem.model)))
    mean, variance = (np.asarray(a) for a in problem.expect(z))
    blocks = np.asarray(problem.at(z).blocks(problem.given))
    total = np.diag(variance) + np.cov(blocks.T) / len(blocks)
    used = np.ix_(problem.used, problem.used)
    off = (data.values - mean)[problem.used]
    assert deviance(problem, z, problem.values) == pytest.approx(off @ np.linalg.solve(total[used], off), rel=1e-9)
    assert deviance(problem, z, problem.values) < 0.9 * off @ np.linalg.solve(np.diag(variance)[used], off)
    out = np.ix_(~np.asarray(problem.used), ~np.asarray(problem.used))
    held = held_back(problem, z, np.zeros((2, 2)), key=jax.random.key(0))
    np.testing.assert_allclose(held.stderr, np.sqrt(np.diagonal(total[out])), rtol=1e-9)


def test_widened_intervals_stay_within_what_a_parameter_may_be():
    problem, _ = rate([50] * 3, 0.0, ["b"], {})
    one = Interval(np.array([0.1]), np.array([0.01]), np.array([0.4]))
    wide = _widened(one, np.array([0.5]), problem.free)
    assert wide.low[0] == 0 and wide.high[0] > 1
    nan = _widened(Interval(*(np.array([np.nan]),) * 3), np.array([0.5]), problem.free)
    assert np.isnan(nan.high[0])


def test_goodness_without_scatter_is_as_before():
    problem, _ = rate([50, 61, 44], 0.0, ["b"], {})
    found = goodness(problem, best(problem).z, 1.0, key=jax.random.key(0), bootstraps=0)
    assert found.scatter == "" and found.p_value == pytest.approx(stats.chi2.sf(found.deviance, 2))


def test_a_bound_beside_a_uniform_prior_is_refused():
    data = Data(np.array([5.0]), {"s": np.zeros(1), "time": np.ones(1)}, np.zeros(1, int), {})
    with pytest.raises(UserError, match=r"bounds\.b: its prior is uniform .*one of the two"):
        pose(Rate("1 Hz", 0.5), data, ["b"], {"b": {"low": 0, "high": "5 Hz"}}, {"b": ["0.5 Hz", "2 Hz"]})


@pytest.mark.parametrize(
    "header, told",
    [
        ("delay,counts", r"column 'delay' has no unit, accepted is a heading such as 'delay \[s\]'"),
        ("delay [ns],delay [ps],counts", "two columns 'delay'"),
    ],
)
def test_headings_that_could_mean_anything_are_refused(tmp_path, header, told):
    path = tmp_path / "counts.csv"
    path.write_text(f"{header}\n" + ",".join("1" for _ in header.split(",")) + "\n")
    with pytest.raises(UserError, match=told):
        table(path, {"delay": "s", "counts": ""})


@pytest.mark.parametrize(
    "more, told",
    [
        (["chains=1"], "chains: got 1"),
        (["draws=1"], "draws: got 1, accepted are 0 .* or 100 or more"),
        (["plan=D", "held_back=[0]"], "plan: accepted is one without rows held back"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(tmp_path, more, told):
    with pytest.raises(UserError, match=told):
        calibrate_job.run(compose(["data=none.csv", "logger=none", *more], name="calibrate"), tmp_path)


def test_what_only_an_end_tells_apart_is_named():
    """A background of 0 Hz that is at its end, beside a light that is the same in all rows: only their sum is told."""
    problem, _ = rate([50] * 4, 1.0, ["b", "v"], {}, b="1e-9 Hz", v=0.5)
    z = best(problem).z
    assert list(at_edge(problem, z)) == [True, False]
    (loose, *_) = directions(problem, z)
    assert loose.looseness > 100 and "b " in loose.words and "v " in loose.words
    apart, _ = rate([50, 50, 100, 100], [1.0, 1.0, 2.0, 2.0], ["b", "v"], {}, b="1e-9 Hz", v=0.5)
    fit = best(apart).z
    assert at_edge(apart, fit)[0] and max(d.looseness for d in directions(apart, fit)) < 10


def bins(counts, mean):
    counts = np.asarray(counts, float)
    rows = np.arange(len(counts))
    given = {"s": np.zeros(len(counts)), "time": np.ones(len(counts))}
    parts = {"record": Part(rows, rows * 1e-9, "delay", "s")}
    data = Data(counts, given, rows, parts)
    return pose(Rate(mean, 0.5), data, ["b"], {}), data


def test_a_stretch_that_does_not_fit_is_found_among_many_that_do():
    """512 bins of mean 2: a gap of 12 changes the deviance by a standard deviation, and has e^-24."""
    rng = np.random.default_rng(3)
    counts = rng.poisson(2.0, 512)
    problem, data = bins(counts, "2 Hz")
    z = jnp.log(jnp.asarray([2.0]))
    assert worst_stretch(problem, z, data.parts).p_value > 0.05
    counts[100:112] = 0
    problem, data = bins(counts, "2 Hz")
    found = worst_stretch(problem, z, data.parts)
    assert found.p_value < 1e-3 and found.counted == 0
    assert 99e-9 < found.low and found.high < 112e-9
    none = {"setting": data.parts["record"]._replace(unit="")}
    assert worst_stretch(problem, z, none) is None


def test_stretches_are_seldom_called_wrong():
    rng, wrong = np.random.default_rng(8), 0
    for row in rng.poisson(1.0, (300, 128)):
        problem, data = bins(row, "1 Hz")
        wrong += worst_stretch(problem, jnp.zeros(1), data.parts).p_value < 0.05
    assert wrong <= stats.binom.ppf(0.999, 300, 0.05)


def test_nothing_that_is_tested_has_no_p(tmp_path):
    problem, data = rate([50], 0.0, ["b"], {})
    found = calibrate(problem, data, QUIET, key=jax.random.key(0))
    assert np.isnan(found.goodness.p_value)
    leaf = figures(found)["goodness"]["p_value"]
    assert leaf["value"] is None and "no number more" in leaf["reason"]


class Square(Rate):
    def derived(self, given):
        return {"square": (self.b**2, "Hz^2")}


def test_what_follows_has_the_posterior_of_its_draws():
    """b^2 of a rate of 100 counts: its draws are those of b, squared."""
    _, data = rate([100], 0.0, ["b"], {}, time=1.0)
    problem = pose(Square("100 Hz", 0.5), data, ["b"], {"b": {"median": "100 Hz", "factor": 2}})
    settings = dataclasses.replace(QUIET, draws=200, warmup=100, chains=2)
    found = calibrate(problem, data, settings, key=jax.random.key(2))
    np.testing.assert_allclose(found.derived_draws["square"], found.draws[:, 0] ** 2, rtol=1e-9)
    told = figures(found)["derived"]["square"]
    assert told["posterior"]["low"] < told["value"] < told["posterior"]["high"]
    assert told["posterior"]["stderr"] == pytest.approx(told["stderr"], rel=0.3)
    assert "posterior" in text(found)


def test_a_plan_that_fails_leaves_the_fit(monkeypatch):
    """What cannot be planned is a sentence beside the calibration; what can never be is refused before."""

    class Exposed(Rate):
        def exposures(self, given):
            return given["time"]

    def fails(*_, **__):
        raise UserError("plan: 39 of 200 fits do not converge")

    monkeypatch.setattr("qtwin.calibrate.calibration.planned", fails)
    _, data = rate([50, 61, 44], 0.0, ["b"], {})
    settings = dataclasses.replace(QUIET, plan="D")
    found = calibrate(pose(Exposed("1 Hz", 0.5), data, ["b"], {}), data, settings, key=jax.random.key(0))
    assert found.planned is None and found.x[0] == pytest.approx(155 / 300, rel=1e-3)
    assert "No plan: 39 of 200 fits do not converge." in text(found)
    with pytest.raises(UserError, match="cannot be shared"):
        calibrate(pose(Rate("1 Hz", 0.5), data, ["b"], {}), data, settings, key=jax.random.key(0))
