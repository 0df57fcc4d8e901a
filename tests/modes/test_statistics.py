"""Counting statistics of pairs against closed forms and against numbers drawn from their definition."""

import jax.numpy as jnp
import numpy as np
import pytest

from qtwin.core.errors import FieldError
from qtwin.correlation.coincidence import car
from qtwin.modes.counts import noise_reduction_factor, thermal_variance
from qtwin.modes.pairs import click_probabilities, heralded_g2_weak

COUNT = 400_000
POISSON = 1e12  # modes


@pytest.mark.parametrize("mean", [0.03, 1.7])
def test_thermal_variance_between_one_mode_and_poisson(mean):
    """M = 1: n + n^2 (Bose-Einstein); M -> infinity: n (Poisson)."""
    assert thermal_variance(mean, 1) == pytest.approx(mean + mean**2, rel=1e-12)
    assert thermal_variance(mean, 1e12) == pytest.approx(mean, rel=1e-9)


def test_thermal_variance_of_drawn_modes():
    """The sum of three geometric numbers of mean 0.4 each."""
    n = np.random.default_rng(21).geometric(1 / 1.4, (COUNT, 3)).sum(axis=1) - 3
    square = (n - 1.2) ** 2
    assert abs(square.mean() - thermal_variance(1.2, 3)) / (square.std() / np.sqrt(COUNT)) < 4


@pytest.mark.parametrize(
    ("per_mode", "eta_s", "eta_i", "expected"), [(0.1, 0.8, 0.8, 0.2), (1, 0.8, 0.6, 0.342857), (5, 1, 1, 0)]
)
def test_noise_reduction_factor_values(per_mode, eta_s, eta_i, expected):
    assert noise_reduction_factor(per_mode, eta_s, eta_i) == pytest.approx(expected, abs=5e-7)


def test_noise_reduction_factor_limits():
    """One arm lost at a vanishing mean: shot noise. Equal arms: 1 - eta whatever the brightness."""
    assert noise_reduction_factor(0.0, 0.7, 1e-12) == pytest.approx(1, rel=1e-9)
    assert noise_reduction_factor(3.0, 0.35, 0.35) == pytest.approx(0.65, rel=1e-12)


@pytest.mark.parametrize(("per_mode", "modes"), [(1.0, 1), (1.0, 4), (0.2, 7)])
def test_noise_reduction_factor_of_drawn_pairs(per_mode, modes):
    """Thermal pairs, each photon kept with its own efficiency: Var(n1 - n2)/<n1 + n2> at 0.8 and 0.6."""
    rng = np.random.default_rng(22)
    pairs = rng.negative_binomial(modes, 1 / (1 + per_mode), COUNT)
    n1, n2 = rng.binomial(pairs, 0.8), rng.binomial(pairs, 0.6)
    total = modes * per_mode * (0.8 + 0.6)
    deviation = (n1 - n2 - modes * per_mode * (0.8 - 0.6)) ** 2 / total
    expected = noise_reduction_factor(per_mode, 0.8, 0.6)
    assert abs(deviation.mean() - expected) / (deviation.std() / np.sqrt(COUNT)) < 4


@pytest.mark.parametrize(("mu", "eta", "dark", "expected"), [(0.001, 0.1, 1e-5, 827.45), (0.1, 0.3, 0.0, 11.0)])
def test_car_of_mean_counts(mu, eta, dark, expected):
    assert car(mu, eta, eta, dark, dark) == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize(("modes", "expected"), [(POISSON, 10.748), (1, 11.466)])
def test_car_of_threshold_clicks(modes, expected):
    p_s, p_i, p_si = click_probabilities(0.1, modes, 0.3, 0.3)
    assert float(p_si / (p_s * p_i)) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("modes", [POISSON, 1, 3])
def test_clicks_of_drawn_gates(modes):
    """Unequal arms with dark clicks: P_s, P_i and P_si by simulation."""
    mu, eta_s, eta_i, dark_s, dark_i = 0.6, 0.5, 0.3, 0.02, 0.05
    rng = np.random.default_rng(23)
    pairs = rng.poisson(mu, COUNT) if modes == POISSON else rng.negative_binomial(modes, 1 / (1 + mu / modes), COUNT)
    s = (rng.binomial(pairs, eta_s) > 0) | (rng.random(COUNT) < dark_s)
    i = (rng.binomial(pairs, eta_i) > 0) | (rng.random(COUNT) < dark_i)
    expected = click_probabilities(mu, modes, eta_s, eta_i, dark_s, dark_i)
    for seen, p in zip((s, i, s & i), expected, strict=True):
        assert abs(seen.mean() - float(p)) / np.sqrt(float(p) * (1 - float(p)) / COUNT) < 4


@pytest.mark.parametrize("modes", [POISSON, 1])
def test_clicks_without_pairs_are_dark_and_independent(modes):
    p_s, p_i, p_si = click_probabilities(0.0, modes, 0.5, 0.3, 0.02, 0.05)
    np.testing.assert_allclose(jnp.stack([p_s, p_i, p_si]), [0.02, 0.05, 0.001], rtol=1e-12)


@pytest.mark.parametrize(("modes", "expected"), [(1, 0.3194), (POISSON, 0.1736)])
def test_heralded_g2_values(modes, expected):
    assert heralded_g2_weak(0.1, modes) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("modes", [1, POISSON])
def test_heralded_g2_from_the_pair_numbers(modes):
    """Weak herald clicks with weight n: <n n (n - 1)>/<n> / (<n^2>/<n>)^2 summed over the law of n."""
    mu, n = 0.35, np.arange(400)
    if modes == 1:
        p = mu**n / (1 + mu) ** (n + 1)
    else:
        p = np.cumprod(np.concatenate([[np.exp(-mu)], mu / n[1:]]))
    herald = np.sum(p * n)
    g2 = np.sum(p * n * n * (n - 1)) / herald / (np.sum(p * n * n) / herald) ** 2
    assert heralded_g2_weak(mu, modes) == pytest.approx(g2, rel=1e-9)


def test_statistics_that_cannot_be_are_refused():
    with pytest.raises(FieldError, match="eta_s, eta_i: got two dark arms"):
        noise_reduction_factor(0.1, 0.0, 0.0)
    with pytest.raises(FieldError, match="modes: got 0"):
        thermal_variance(0.3, 0.0)
    with pytest.raises(FieldError, match=r"dark_i: got 1\.5"):
        click_probabilities(0.1, 1, 0.3, 0.3, 0.0, 1.5)
