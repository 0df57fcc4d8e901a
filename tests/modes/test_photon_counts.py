"""Photon counts of Gaussian states: closed forms, photon-number space, negative binomials, smooth losses."""

import fock_space
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import nbinom, poisson
from slopes import gradient_error, once

from qtwin.core.errors import FieldError, UserError
from qtwin.modes.counts import (
    click_patterns,
    coherence,
    correlation,
    counts,
    detected,
    difference_noise,
    generating,
    mode_number,
    number_distribution,
    thermal_distribution,
)
from qtwin.modes.gaussian import coherent, displace, moments, squeezed, thermal, two_mode_squeezed, vacuum
from qtwin.modes.operations import beam_splitter, loss, squeeze, two_mode_squeeze

# r, phase of the pair; r, angle of mode 1; two complex amplitudes; transmission of the splitter; two efficiencies
CASES = np.random.default_rng(5).uniform(
    [0.05, 0, -0.2, 0, -0.4, -0.4, -0.4, -0.4, 0.1, 0.2, 0.2], [0.3, 3, 0.2, 3, 0.4, 0.4, 0.4, 0.4, 0.9, 1, 1], (10, 11)
)


def network(x):
    state = squeeze(two_mode_squeeze(vacuum(2), 0, 1, x[0], x[1]), 1, x[2], x[3])
    state = displace(state, jax.lax.complex(x[4:6], x[6:8]))
    return beam_splitter(state, 0, 1, x[8])


@once
@jax.vmap
def read(x):
    """Counts, patterns of clicks and joint distribution behind the losses."""
    state = network(x)
    efficiency, dark = x[9:], jnp.asarray([0.01, 0.2])
    lost = loss(state, efficiency)
    return (
        *detected(*counts(state), efficiency),
        *counts(lost),
        click_patterns(state, efficiency, dark),
        number_distribution(lost, 20),
    )


READ = [np.asarray(part) for part in read(CASES)]


def fock_probabilities(x):
    psi = fock_space.two_mode_squeezed(fock_space.vacuum(), x[0], x[1])
    psi = fock_space.squeezed(psi, 1, x[2], x[3])
    psi = fock_space.displaced(psi, 0, x[4] + 1j * x[6])
    psi = fock_space.split(fock_space.displaced(psi, 1, x[5] + 1j * x[7]), x[8])
    p = np.abs(psi.reshape(fock_space.SIZE, -1)) ** 2
    return fock_space.thinned(p, x[9:])


@pytest.mark.parametrize("case", range(10))
def test_counts_against_photon_number_space(case):
    """Means, covariances, clicks with dark ones, joint distribution: ten two-mode states, unequal losses."""
    p = fock_probabilities(CASES[case])
    n = np.arange(fock_space.SIZE)
    grid = np.stack(np.meshgrid(n, n, indexing="ij")).reshape(2, -1)
    mean = grid @ p.ravel()
    covariance = (grid * p.ravel()) @ grid.T - np.outer(mean, mean)
    silent = np.array([[0.99], [0.8]]) * (n == 0)
    patterns = np.array([[r @ p @ c for c in (silent[1], 1 - silent[1])] for r in (silent[0], 1 - silent[0])])
    for found, expected in zip(READ, [mean, covariance, mean, covariance, patterns, p[:20, :20]], strict=True):
        np.testing.assert_allclose(found[case], expected, atol=2e-9)


@pytest.fixture(scope="module")
def made():
    """Counts, correlations and distributions of known states, built in one compilation."""

    def build(x):
        hot, bright = thermal(x[:2]), coherent(jax.lax.complex(x[2:4], x[4:6]))
        even, twins = squeezed(x[6], 0.3), two_mode_squeezed(x[6], 1.0)
        half = beam_splitter(loss(twins, jnp.asarray([1.0, 0.0])), 0, 1, 0.5)
        return {
            "thermal": (*counts(hot), correlation(hot), number_distribution(thermal(x[0]), 60)),
            "coherent": (*counts(bright), correlation(bright), coherence(bright), number_distribution(bright, 12)),
            "squeezed": (*counts(even), number_distribution(even, 48)),
            "twins": (*counts(twins), correlation(twins), number_distribution(twins, 40)),
            "halved": counts(half),
            "clicks": click_patterns(twins, x[7:9]),
            "car": click_patterns(two_mode_squeezed(jnp.arcsinh(jnp.sqrt(x[7] / 3))), x[7]),
            "three": click_patterns(thermal(x[:3]), x[7:10], x[10:]),
        }

    return once(build)(AT)


AT = np.array([0.7, 2.0, 1.1, 0.0, -0.4, 0.3, 0.5, 0.3, 0.7, 1.0, 0.0, 0.1, 0.02])
N_TWIN = np.sinh(0.5) ** 2


def test_thermal_light(made):
    """Var n = n + n^2, g2 = 2; P(n) = m^n/(1 + m)^(n + 1)."""
    _, covariance, g2, p = made["thermal"]
    np.testing.assert_allclose(covariance, np.diag([0.7 + 0.49, 6.0]), atol=1e-13)
    np.testing.assert_allclose(g2, [[2, 1], [1, 2]], atol=1e-12)
    np.testing.assert_allclose(p, 0.7 ** np.arange(60) / 1.7 ** np.arange(1, 61), atol=1e-13)


def test_coherent_light_is_poisson(made):
    mean, covariance, g2, g1, p = made["coherent"]
    np.testing.assert_allclose(mean, [1.1**2 + 0.4**2, 0.3**2])
    np.testing.assert_allclose(covariance, np.diag(mean), atol=1e-14)
    np.testing.assert_allclose(g2, 1, atol=1e-12)
    np.testing.assert_allclose(np.abs(g1), 1, atol=1e-12)
    n = np.arange(12)
    np.testing.assert_allclose(p, poisson.pmf(n, float(mean[0]))[:, None] * poisson.pmf(n, float(mean[1])), atol=1e-7)


def test_squeezed_vacuum_has_even_numbers_only(made):
    """Var n = 2 n (n + 1); P(2) = tanh^2 r/(2 cosh r)."""
    _, covariance, p = made["squeezed"]
    assert covariance[0, 0] == pytest.approx(2 * N_TWIN * (N_TWIN + 1), rel=1e-12)
    np.testing.assert_allclose(p[1::2], 0, atol=1e-13)
    assert p[2] == pytest.approx(np.tanh(0.5) ** 2 / (2 * np.cosh(0.5)), rel=1e-12)


def test_twin_beams(made):
    """Equal numbers; g2 within an arm 2, across the arms 2 + 1/n."""
    _, _, g2, p = made["twins"]
    expected = np.diag(N_TWIN ** np.arange(40) / (1 + N_TWIN) ** np.arange(1, 41))
    np.testing.assert_allclose(p, expected, atol=1e-13)
    np.testing.assert_allclose(g2, [[2, 2 + 1 / N_TWIN], [2 + 1 / N_TWIN, 2]], rtol=1e-12)


@once
def noise(per_mode, efficiency, dark):
    return difference_noise(*detected(*counts(two_mode_squeezed(jnp.arcsinh(jnp.sqrt(per_mode)))), efficiency, dark))


@pytest.mark.parametrize(
    ("per_mode", "eta_s", "eta_i", "expected"), [(0.1, 0.8, 0.8, 0.2), (1.0, 0.8, 0.6, 0.3428571428571)]
)
def test_noise_reduction_factor_of_the_state(per_mode, eta_s, eta_i, expected):
    """1 - 2 e1 e2/(e1 + e2) + mu (e1 - e2)^2/(e1 + e2) from the covariance matrix."""
    assert noise(per_mode, np.array([eta_s, eta_i]), 0.0) == pytest.approx(expected, abs=1e-12)


def test_background_in_the_noise_reduction_factor():
    """Poisson counts b in both arms: (F n + b)/(n + b)."""
    assert noise(0.3, np.array([0.9, 0.9]), 0.27) == pytest.approx((0.1 * 0.27 + 0.27) / 0.54, rel=1e-12)


def test_thermal_light_on_a_beam_splitter_has_a_noise_reduction_factor_of_one(made):
    assert difference_noise(*map(np.asarray, made["halved"])) == pytest.approx(1, rel=1e-12)


def test_clicks_of_one_thermal_mode_of_pairs(made):
    """P_s, P_i, P_si by G(x) = 1/(1 + mu x), x = e_s + e_i - e_s e_i for both silent; unequal arms."""
    p = np.asarray(made["clicks"])
    none_s, none_i, neither = (1 / (1 + N_TWIN * x) for x in (0.3, 0.7, 0.79))
    np.testing.assert_allclose(p[1].sum(), 1 - none_s, rtol=1e-12)
    np.testing.assert_allclose(p, [[neither, none_s - neither], [none_i - neither, 1 - none_s - none_i + neither]])


def test_coincidences_over_accidentals_of_the_issue(made):
    """mu 0.1, both efficiencies 0.3, one thermal mode: 11.466."""
    p = np.asarray(made["car"])
    assert p[1, 1] / p[1].sum() ** 2 == pytest.approx(11.466, abs=5e-4)


def test_clicks_of_three_modes_are_the_product_where_they_are_independent(made):
    one = 1 - (1 - AT[10:]) / (1 + AT[7:10] * AT[:3])
    expected = np.einsum("i,j,k->ijk", *[[1 - q, q] for q in one])
    np.testing.assert_allclose(made["three"], expected, atol=1e-14)


def test_generating_function_takes_the_continuous_root():
    """Bright and squeezed light, s = 1 - z on the whole circle: the even sum of P(n) z^n."""
    z = np.exp(2j * np.pi * np.arange(64) / 64)
    found = once(jax.vmap(lambda s: generating(squeezed(2.0, 0.4), s[None])))(1 - z)
    expected = 1 / np.sqrt(1 + np.sinh(2.0) ** 2 * (1 - z**2))
    np.testing.assert_allclose(found, expected, rtol=1e-10)


law = once(lambda mean, modes: thermal_distribution(40, mean, modes))


@pytest.mark.parametrize(("mean", "modes"), [(0.6, 1.0), (4.0, 2.5), (3.0, 1e12)])
def test_multimode_thermal_distribution(mean, modes):
    """Negative binomial; Poisson with 1e12 modes."""
    n = np.arange(40)
    expected = poisson.pmf(n, mean) if modes > 1e6 else nbinom.pmf(n, modes, modes / (modes + mean))
    np.testing.assert_allclose(law(mean, modes), expected, rtol=1e-8 if modes > 1e6 else 1e-11)


def test_modes_in_one_bucket_are_counted_by_the_multimode_law(made):
    """Three equal thermal modes, summed: p = convolution of three geometric laws."""
    one = np.asarray(made["thermal"][3])
    three = np.convolve(np.convolve(one, one), one)[:40]
    np.testing.assert_allclose(law(2.1, 3.0), three, atol=1e-13)


window = once(mode_number)


@pytest.mark.parametrize("u", [1e-4, 0.02, 0.7, 30.0])
def test_mode_number_of_a_window(u):
    """1/M = 2 int_0^1 (1 - x) exp(-pi u^2 x^2) dx."""
    expected = 1 / (2 * quad(lambda x: (1 - x) * np.exp(-np.pi * (u * x) ** 2), 0, 1, points=[min(1, 3 / u)])[0])
    assert window(u * 3e-6, 3e-6) == pytest.approx(expected, rel=1e-9)


def test_gradients_of_counts_clicks_and_distributions():
    def value(x):
        state = network(x)
        table = number_distribution(loss(state, x[9:]), 6)
        clicks = click_patterns(state, x[9:], 0.1 * x[8])
        mean, covariance = detected(*counts(state), x[9:], x[8])
        return table[1, 2] + 3 * clicks[1, 0] + difference_noise(mean, covariance) + covariance[0, 1]

    assert gradient_error(value, CASES[3]) < 1e-7


def test_gradient_by_efficiency_exists_at_zero():
    """An opaque pixel: d Cov/d eta at eta = 0 is finite and right."""

    def covariance(eta):
        return detected(*counts(two_mode_squeezed(0.6)), jnp.stack([eta, jnp.ones(())]))[1][0, 1]

    n = np.sinh(0.6) ** 2
    assert once(jax.grad(covariance))(0.0) == pytest.approx(n * (n + 1), rel=1e-12)


def test_gradients_of_the_multimode_law_and_of_mode_numbers():
    def value(x):
        return thermal_distribution(6, x[0], x[1])[4] + mode_number(x[2], x[3]) + mode_number(1e-5 * x[2], x[3])

    assert gradient_error(value, np.array([2.0, 1.7, 0.8, 0.5])) < 1e-7


def test_moments_of_the_vacuum_are_empty():
    assert all(not np.any(np.asarray(part)) for part in moments(vacuum(2)))


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: number_distribution(thermal(3.0), 16), "size: got 16, which leaves .* accepted is a larger one"),
        (lambda: number_distribution(vacuum(3), 128), "size: got 128 for 3 modes"),
        (lambda: click_patterns(vacuum(11)), "modes of the state: got 11"),
        (lambda: click_patterns(vacuum(1), 1.1), "efficiency: got 1.1"),
        (lambda: thermal_distribution(5, -1.0, 1.0), "mean: got -1"),
        (lambda: mode_number(0.0, 1.0), "extent: got 0"),
        (lambda: mode_number("3 um", 1.0), "extent: got '3 um', accepted is a number greater than 0"),
        (lambda: difference_noise(np.zeros(2), np.eye(2)), "mean: got two dark entries"),
        (lambda: correlation(vacuum(2)), "state: got a mode without light"),
    ],
)
def test_bad_input_is_named(build, text):
    with pytest.raises((UserError, FieldError), match=text):
        build()
