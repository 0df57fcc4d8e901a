"""Drawn counts against the counts of the states: z-scores of means, variances and covariances; fixed keys."""

import jax
import numpy as np
import pytest
from slopes import once

from qtwin.core.errors import FieldError
from qtwin.modes.counts import counts, detected, thermal_distribution
from qtwin.modes.fields import speckle_coherence, thermal_field
from qtwin.modes.gaussian import two_mode_squeezed
from qtwin.modes.sampling import (
    poisson_counts,
    speckle_counts,
    thermal_amplitudes,
    thermal_counts,
    twin_counts,
)

COUNT = 100_000
KEY = jax.random.key(17)


def scores(draws, mean, covariance):
    """z of the means and of every entry of the covariance (about the expected mean), draws [count, N]."""
    draws = np.asarray(draws, float).reshape(COUNT, -1)
    away = draws - np.asarray(mean)
    products = np.einsum("ka,kb->kab", away, away).reshape(COUNT, -1)
    both = np.concatenate([away, products - np.asarray(covariance).ravel()], axis=1)
    return both.mean(0) / (both.std(0) / np.sqrt(COUNT))


POSITIONS = np.array([0.0, 1.0, 2.5, 3.0]) * 1e-5
MEANS = np.array([0.2, 3.0, 20.0])
BRIGHTNESS = np.array([0.5, 1.0, 2.0, 0.3])
COMPLEX = np.array([[1.0, 0.3 + 0.4j], [0.3 - 0.4j, 0.8]])


def twins(mu):
    return np.stack(twin_counts(mu, 3.0, 0.8, 0.5, (COUNT,), 0.3, 0.1, key=KEY), -1)


def fields(x):
    speckle = speckle_counts(speckle_coherence(x, BRIGHTNESS, 1.2e-5), (COUNT,), key=KEY)
    return {"speckle": speckle, "fields": thermal_amplitudes(COMPLEX, (COUNT,), key=KEY)}


@pytest.fixture(scope="module")
def draws():
    """The laws by name."""
    return {
        "twins": twins(0.6),
        "thermal": thermal_counts(2.0, 2.5, (COUNT,), key=KEY),
        "poisson": poisson_counts(np.broadcast_to(MEANS[:, None], (3, COUNT)), key=KEY).T,
        **once(fields)(POSITIONS),
    }


@pytest.fixture(scope="module")
def single():
    """Twin beams drawn in float32."""
    with jax.enable_x64(False):
        return twins(0.6)


def test_same_key_same_draw(draws):
    np.testing.assert_array_equal(draws["twins"], twins(0.6))


def twin_moments(per_mode):
    """Three modes of n and n (n + 1) in and across the arms, then losses and background."""
    mean, square = np.full(2, 3 * per_mode), np.full((2, 2), 3 * per_mode * (1 + per_mode))
    return detected(mean, square, np.array([0.8, 0.5]), np.array([0.3, 0.1]))


@pytest.mark.parametrize("width", ["float64", "float32"])
def test_twin_beams_have_the_moments_of_the_state(draws, single, width):
    seen = draws["twins"] if width == "float64" else single
    assert np.max(np.abs(scores(seen, *twin_moments(0.6)))) < 4
    assert seen.dtype == np.int32


def test_the_moments_are_those_of_the_state():
    mean, covariance = once(lambda r: counts(two_mode_squeezed(r)))(np.arcsinh(np.sqrt(0.6)))
    np.testing.assert_allclose(mean, 0.6, rtol=1e-12)
    np.testing.assert_allclose(covariance, 0.96, rtol=1e-12)


@pytest.mark.parametrize("wrong", [0.98, 1.02])
def test_the_comparison_sees_a_wrong_brightness(draws, wrong):
    """2 % is seven standard errors of the mean."""
    assert np.max(np.abs(scores(draws["twins"], *twin_moments(0.6 * wrong)))) > 4


def test_thermal_counts_follow_their_distribution(draws):
    """Chi-square over the bins of M = 2.5 modes, and the variance m + m^2/M."""
    expected = COUNT * np.asarray(once(lambda m: thermal_distribution(12, m, 2.5))(2.0))
    seen = np.bincount(draws["thermal"], minlength=12)[:12]
    chi2 = np.sum((seen - expected) ** 2 / expected)
    assert chi2 < 12 + 5 * np.sqrt(24)
    assert np.max(np.abs(scores(draws["thermal"], [2.0], [[2 + 4 / 2.5]]))) < 4


def test_poisson_counts(draws):
    assert np.max(np.abs(scores(draws["poisson"], MEANS, np.diag(MEANS)))) < 4


def test_speckle_counts_have_the_covariance_of_the_thermal_state(draws):
    """Four pixels of unequal brightness with correlation width: means and |N_jk|^2 + delta N_jj."""
    state = once(lambda x: counts(thermal_field(speckle_coherence(x, BRIGHTNESS, 1.2e-5))))(POSITIONS)
    assert np.max(np.abs(scores(draws["speckle"], *state))) < 4
    assert state[1][0, 1] == pytest.approx(0.5 * np.exp(-((1 / 1.2) ** 2)), rel=1e-12)


def test_thermal_amplitudes_keep_the_sign_of_complex_coherence(draws):
    """<a_1* a_2> = 0.3 + 0.4i: conjugates in the right place."""
    a = np.asarray(draws["fields"])
    seen = np.conj(a[:, 0]) * a[:, 1]
    assert abs(seen.mean() - COMPLEX[0, 1]) < 4 * np.sqrt(0.8 / COUNT)
    assert abs(np.mean(a[:, 0] * a[:, 1])) < 4 * np.sqrt(0.8 / COUNT)


def test_bad_parameters_are_named():
    with pytest.raises(FieldError, match=r"eta_s: got 1\.5"):
        twin_counts(0.1, 1.0, 1.5, 0.5, key=KEY)
    with pytest.raises(FieldError, match="modes: got 0"):
        thermal_counts(0.1, 0.0, key=KEY)
