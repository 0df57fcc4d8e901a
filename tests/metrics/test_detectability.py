"""Observers against closed forms and against scores drawn from their definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse
from scipy.stats import norm, skellam

from qtwin.core.errors import FieldError, UserError
from qtwin.metrics.detectability import (
    auc,
    hotelling,
    hotelling_from_samples,
    hotelling_with_known_signal,
    log_likelihood_ratio,
    mann_whitney,
    poisson_auc,
    template,
)

REPEATS = 400

# --- scores ----------------------------------------------------------------------------------------------------


def test_auc_of_two_gaussians():
    """Means 1.3 apart, unit variance: Phi(1.3/sqrt 2), drawn and in closed form; no distance is a coin's toss."""
    rng = np.random.default_rng(171)
    found = mann_whitney(rng.normal(1.3, 1, 4000), rng.normal(0, 1, 6000))
    assert float(auc(1.3)) == pytest.approx(norm.cdf(1.3 / np.sqrt(2)), rel=1e-12)
    assert abs(found.value - float(auc(1.3))) / found.error < 4
    assert abs(found.value - float(auc(1.42))) / found.error > 4
    assert float(auc(0.0)) == 0.5


def test_mann_whitney_counts_pairs_and_half_the_ties():
    present, absent = np.array([3.0, 1.0, 2.0, 5.0]), np.array([2.0, 0.0, 1.0, 1.0, 4.0])
    pairs = (present[:, None] > absent) + 0.5 * (present[:, None] == absent)
    found = mann_whitney(present, absent)
    assert found.value == pytest.approx(pairs.mean(), rel=1e-12)
    delong = pairs.mean(axis=1).var(ddof=1) / 4 + pairs.mean(axis=0).var(ddof=1) / 5
    assert found.error == pytest.approx(np.sqrt(delong), rel=1e-12)
    assert mann_whitney(absent, present).value == pytest.approx(1 - found.value)


@pytest.mark.parametrize(("d", "m", "n"), [(1.0, 150, 60), (0.3, 40, 200)])
def test_delong_interval_covers(d, m, n):
    """95 % intervals of unequal classes; mean variance against the scatter."""
    rng = np.random.default_rng(172)
    found = np.array([mann_whitney(rng.normal(d, 1, m), rng.normal(0, 1, n)) for _ in range(1000)])
    z = (found[:, 0] - norm.cdf(d / np.sqrt(2))) / found[:, 1]
    assert abs(np.mean(np.abs(z) < 1.959964) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 1000)
    assert abs(np.mean(found[:, 1] ** 2) / found[:, 0].var(ddof=1) - 1) < 4 * np.sqrt(2 / 1000)


def test_classes_apart_have_the_error_of_one_score():
    assert mann_whitney(np.arange(5.0, 15.0), np.arange(4.0)) == (1.0, 0.25)
    with pytest.raises(UserError, match="scores"):
        mann_whitney([1.0, np.nan], [1.0, 2.0])


# --- Hotelling -------------------------------------------------------------------------------------------------

SIGNAL = np.array([0.3, -0.1, 0.5, 0.2, 0.0])
ROOT = np.tril(np.random.default_rng(173).normal(size=(5, 5)) * 0.3) + np.eye(5)
COVARIANCE = ROOT @ ROOT.T
TRUE = float(SIGNAL @ np.linalg.solve(COVARIANCE, SIGNAL))


def test_hotelling_of_two_correlated_data():
    """s = (a, 0), equal variances v, correlation r: d'^2 = a^2/(v (1 - r^2)): the second datum is a reference."""
    a, v, r = 0.4, 2.5, 0.8
    found = hotelling(np.array([a, 0.0]), v * np.array([[1, r], [r, 1]]))
    assert float(found) ** 2 == pytest.approx(a**2 / (v * (1 - r**2)), rel=1e-12)


def test_dense_sparse_and_independent_data_agree():
    dense = float(hotelling(SIGNAL, COVARIANCE))
    assert dense == pytest.approx(np.sqrt(TRUE), rel=1e-12)
    assert float(hotelling(SIGNAL, sparse.csr_matrix(COVARIANCE))) == pytest.approx(dense, rel=1e-12)
    variance = np.diag(COVARIANCE)
    assert float(hotelling(SIGNAL, variance)) == pytest.approx(float(hotelling(SIGNAL, np.diag(variance))), rel=1e-12)
    assert float(hotelling(SIGNAL, variance)) == pytest.approx(np.sqrt(np.sum(SIGNAL**2 / variance)), rel=1e-12)


def test_scores_of_the_template_have_its_auc():
    rng = np.random.default_rng(174)
    w = np.asarray(template(SIGNAL, COVARIANCE))
    absent, present = rng.normal(size=(2, 4000, 5)) @ ROOT.T
    found = mann_whitney((present + SIGNAL) @ w, absent @ w)
    assert abs(found.value - float(auc(np.sqrt(TRUE)))) / found.error < 4
    naive = mann_whitney((present + SIGNAL) @ SIGNAL, absent @ SIGNAL)
    assert naive.value < found.value


def test_gradient_of_hotelling():
    @jax.jit
    @jax.value_and_grad
    def of(scale):
        return hotelling(jnp.asarray(SIGNAL) * scale, jnp.asarray(COVARIANCE) * scale**3)

    x, h = jnp.asarray(1.3), 1e-5
    assert float(of(x)[1]) == pytest.approx(float((of(x + h)[0] - of(x - h)[0]) / (2 * h)), rel=1e-7)


@pytest.mark.parametrize(
    "matrix", [np.diag([1.0, 1, -1, 1, 1]), sparse.csr_matrix(np.diag([1.0, 1, 0, 1, 1])), np.zeros(5)]
)
def test_bad_covariances_are_refused(matrix):
    with pytest.raises(FieldError, match="covariance"):
        template(SIGNAL, matrix)


def check_unbiased(found):
    """Mean against the truth and mean squared error against the scatter, by z-scores."""
    value, square = found[:, 0], found[:, 1] ** 2
    assert abs(value.mean() - TRUE) / (value.std() / np.sqrt(REPEATS)) < 4
    scatter = (value - TRUE) ** 2
    # scatter and error are random and depend on each other: their difference has a mean of zero
    assert abs((scatter - square).mean()) / ((scatter - square).std() / np.sqrt(REPEATS)) < 4


def test_hotelling_from_samples_is_unbiased():
    """40 samples of 5 data: without the correction 54 % of the true value would be noise."""
    rng = np.random.default_rng(175)
    n1, n0 = 15, 25
    g = rng.normal(size=(REPEATS, n1 + n0, 5)) @ ROOT.T
    found = np.array([hotelling_from_samples(d[:n1] + SIGNAL, d[n1:]) for d in g])
    check_unbiased(found)
    nu = n1 + n0 - 2
    plain = (found[:, 0] + 5 * (1 / n1 + 1 / n0)) * nu / (nu - 6)
    assert (plain.mean() - TRUE) / (plain.std() / np.sqrt(REPEATS)) > 10


def test_hotelling_with_a_known_signal_is_unbiased():
    """(n - m - 2)/(n - 1) takes the bias of the inverse covariance; 18 samples of 5 data: 17/11."""
    g = np.random.default_rng(176).normal(size=(REPEATS, 18, 5)) @ ROOT.T
    found = np.array([hotelling_with_known_signal(SIGNAL, d) for d in g])
    check_unbiased(found)
    assert abs(found[:, 0].mean() * 17 / 11 - TRUE) / (found[:, 0].std() * 17 / 11 / np.sqrt(REPEATS)) > 10


def test_too_few_samples_are_refused():
    g = np.random.default_rng(177).normal(size=(9, 5))
    with pytest.raises(UserError, match="samples: got 8 degrees of freedom for 5 data"):
        hotelling_with_known_signal(SIGNAL, g)


# --- ideal observer --------------------------------------------------------------------------------------------


def skellam_auc(dark, bright):
    """Of one Poisson number: P(n_1 > n_0) + P(n_1 = n_0)/2, the difference being Skellam's."""
    return skellam.sf(0, bright, dark) + skellam.pmf(0, bright, dark) / 2


@pytest.mark.parametrize("mean", [0.01, 0.3, 5.0, 80.0, 3000.0])
@pytest.mark.parametrize("ratio", [1.02, 1.4, 4.0])
def test_flat_signal_is_one_poisson_number(mean, ratio):
    """Six superpixels of equal counts: their sum decides. Brighter and darker objects are alike."""
    absent = np.full((2, 3), mean / 6)
    for there, back in ((absent, absent * ratio), (absent * ratio, absent)):
        assert float(poisson_auc(there, back)) == pytest.approx(skellam_auc(mean, mean * ratio), abs=1e-5)


def test_detectability_of_a_flat_signal_is_the_scalar_formula():
    """d' = sqrt(M) (l_1 - l_0)/sqrt((l_0 + l_1)/2): log(l_1/l_0) is a factor of the statistic."""
    t = log_likelihood_ratio(np.full(7, 20.0), np.full(7, 26.0))
    assert float(t.detectability) == pytest.approx(np.sqrt(7) * 6 / np.sqrt(23), rel=1e-12)


def scene(scale):
    """Unequal light, an object of two depths: mean counts without and with it."""
    light = scale * np.linspace(1.0, 3.0, 6)
    return light, light * np.array([1.0, 0.6, 0.6, 0.8, 1.0, 1.0])


def test_moments_and_auc_of_drawn_counts():
    """About two counts per superpixel: moments of t, and the area under its ROC curve."""
    absent, present = scene(1.1)
    rng = np.random.default_rng(178)
    t = log_likelihood_ratio(absent, present)
    scores = []
    for light, mean, variance in (
        (present, t.mean_present, t.variance_present),
        (absent, t.mean_absent, t.variance_absent),
    ):
        drawn = rng.poisson(light, (40_000, 6)) @ np.log(present / absent) - (present - absent).sum()
        assert abs(drawn.mean() - float(mean)) / (drawn.std() / 200) < 4
        square = (drawn - float(mean)) ** 2
        assert abs(square.mean() - float(variance)) / (square.std() / 200) < 4
        scores.append(drawn)
    found = mann_whitney(*scores)
    exact = float(poisson_auc(absent, present))
    assert abs(found.value - exact) / found.error < 4
    assert abs(found.value - float(poisson_auc(absent, 0.97 * present))) / found.error > 4


def test_many_counts_are_normal():
    absent, present = scene(4e5)
    present = absent + 0.003 * (present - absent)
    d = float(log_likelihood_ratio(absent, present).detectability)
    assert 1 < d < 2
    assert float(poisson_auc(absent, present)) == pytest.approx(float(auc(d)), abs=1e-4)
    assert d == pytest.approx(float(hotelling(present - absent, (absent + present) / 2)), rel=1e-4)


def test_a_dark_background_shows_the_first_count():
    """1 - exp(-l)/2 without any light where the object is dark; nothing to see, nothing seen."""
    absent, present = [0.0, 0.0, 5.0, 1.0, 0.0, 2.0], [0.4, 0.3, 5.0, 1.0, 0.0, 2.0]
    assert float(poisson_auc(absent, present)) == pytest.approx(1 - np.exp(-0.7) / 2, abs=1e-6)
    assert float(poisson_auc(absent, absent)) == pytest.approx(0.5, abs=1e-6)


@jax.jit
@jax.value_and_grad
def turned_up(x, absent, present):
    """AUC of light absent (1 + 0.2 x) and present (1 + x^2), and its slope."""
    return poisson_auc(absent * (1 + 0.2 * x), present * (1 + x**2))


def test_gradient_of_the_ideal_auc():
    x, h, light = 0.3, 1e-4, scene(4.0)
    expected = (turned_up(x + h, *light)[0] - turned_up(x - h, *light)[0]) / (2 * h)
    assert float(turned_up(x, *light)[1]) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("mean", [0.05, 3.0, 400.0])
def test_gradient_of_a_flat_signal_is_that_of_skellam(mean):
    """A lattice of outcomes, the hardest case: within 1 %."""
    light, x, h = np.full(6, mean / 6), 0.6, 1e-5

    def exact(x):
        return skellam_auc(mean * (1 + 0.2 * x), mean * (1 + x**2))

    assert float(turned_up(x, light, light)[1]) == pytest.approx((exact(x + h) - exact(x - h)) / (2 * h), rel=0.01)


def test_bad_counts_are_refused():
    with pytest.raises(FieldError, match="absent"):
        poisson_auc([-1.0], [1.0])
    with pytest.raises(FieldError, match="present"):
        log_likelihood_ratio([1.0], [0.0])
