"""Four-wave mixing, heralding and multi-pair visibility against the network, sums over number laws and limits."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.linalg import expm
from scipy.stats import nbinom
from slopes import gradient_error, once

from qtwin.core.errors import FieldError
from qtwin.modes.counts import counts
from qtwin.modes.gaussian import displace, join, two_mode_squeezed, vacuum
from qtwin.modes.operations import beam_splitter, herald, two_mode_squeeze
from qtwin.modes.pairs import (
    fwm_detuning,
    fwm_mismatch,
    fwm_pair_rate,
    fwm_pairs_per_mode,
    heralded,
    heralded_g2_weak,
    multipair_visibility,
    seeded,
)

# dispersion-shifted fibre of order-of-magnitude values: 2 /(W km), 0.3 W, 300 m, -0.1 ps^2/km
FIBRE = 2e-3, 0.3, 300.0, -1e-28
gain = once(fwm_pairs_per_mode)


def test_gain_at_phase_matching():
    """sinh^2(gamma P L) at W = sqrt(2 gamma P/|beta2|)."""
    w = fwm_detuning(*FIBRE[:2], FIBRE[3])
    assert fwm_mismatch(*FIBRE[:2], FIBRE[3], w) == pytest.approx(0, abs=1e-15)
    assert gain(*FIBRE, w) == pytest.approx(np.sinh(2e-3 * 0.3 * 300) ** 2, rel=1e-9)


def test_gain_at_the_pump_is_the_square_of_the_nonlinear_phase():
    """W = 0: kappa = 2 gamma P, g = 0: (gamma P L)^2."""
    assert gain(*FIBRE, 0.0) == pytest.approx(0.18**2, rel=1e-12)


def test_low_gain_is_sinc_squared():
    w = 8e12
    half = 0.5 * (FIBRE[3] * w**2 + 2 * 2e-3 * 1e-4) * 300
    found = gain(2e-3, 1e-4, 300.0, FIBRE[3], w)
    assert found == pytest.approx((6e-5 * np.sinc(half / np.pi)) ** 2, rel=1e-4)


@pytest.mark.parametrize("detuning", [0.0, 2e12, 3.46e12, 5e12, 9e12])
def test_gain_against_the_coupled_wave_equations(detuning):
    """da_s/dz = i kappa/2 a_s + i gamma P a_i^ as a matrix exponential: |a_s from a_i^|^2."""
    gamma, power, length, beta2 = FIBRE
    half = (beta2 * detuning**2 + 2 * gamma * power) / 2
    step = 1j * np.array([[half, gamma * power], [-gamma * power, -half]])
    assert gain(*FIBRE, detuning) == pytest.approx(abs(expm(step * length)[0, 1]) ** 2, rel=1e-9)


def test_fourth_order_dispersion_enters_the_mismatch():
    found = fwm_mismatch(2e-3, 0.3, 1e-28, 5e12, -1e-53)
    assert found == pytest.approx(1e-28 * 25e24 - 1e-53 * 625e48 / 12 + 1.2e-3, rel=1e-12)


def test_pair_rate_against_quadrature():
    centre, width = 3e12, 4e12
    expected = quad(lambda w: float(gain(*FIBRE, w)), 1e12, 5e12, epsrel=1e-8)[0] / (2 * np.pi)
    assert once(fwm_pair_rate)(*FIBRE, centre, width) == pytest.approx(expected, rel=1e-7)


def test_seeded_amplifier_is_the_two_mode_squeezer():
    """Coherent seeds without phase relation: mean counts of the network averaged over opposite phases."""

    def network(phase):
        state = two_mode_squeeze(displace(vacuum(2), np.array([1.3, 0.6j])), 0, 1, 0.7, phase)
        return counts(state)[0]

    n = np.sinh(0.7) ** 2
    network = once(network)
    average = (network(0.4) + network(0.4 + np.pi)) / 2
    np.testing.assert_allclose(seeded(n, 1.69, 0.36), average, rtol=1e-12)
    np.testing.assert_allclose(seeded(n, 0.0), n, rtol=1e-12)


@pytest.mark.parametrize(("modes", "expected"), [(1.0, 0.3194444), (1e12, 0.1735537)])
def test_weak_herald(modes, expected):
    """mu = 0.1: one thermal mode and Poisson pairs; the general herald tends to it."""
    assert heralded_g2_weak(0.1, modes) == pytest.approx(expected, abs=1e-6)
    assert heralded(0.1, modes, 1e-7)[2] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("pairs", "modes", "efficiency", "dark"), [(0.3, 1.0, 0.6, 0.01), (1.4, 3.5, 0.2, 0.0)])
def test_herald_against_sums_over_the_number_law(pairs, modes, efficiency, dark):
    n = np.arange(400)
    p = nbinom.pmf(n, modes, modes / (modes + pairs))
    click = 1 - (1 - dark) * (1 - efficiency) ** n
    given = p * click / (p @ click)
    first, second = given @ n, given @ (n * (n - 1))
    np.testing.assert_allclose(
        heralded(pairs, modes, efficiency, dark), [p @ click, first, second / first**2], rtol=1e-10
    )


def test_herald_of_one_mode_is_the_heralded_gaussian_state():
    @once
    def network(r):
        found = herald(two_mode_squeezed(r), 0, 0.35, 0.02)

        def moments(state):
            mean, covariance = counts(state)
            return jnp.stack([mean[0], covariance[0, 0] - mean[0] + mean[0] ** 2])

        first, second = found.average(moments)
        return found.probability, first, second / first**2

    np.testing.assert_allclose(network(0.5), heralded(np.sinh(0.5) ** 2, 1.0, 0.35, 0.02), rtol=1e-10)


@once
def correlation(r, through):
    """<n n> of the signal in H and the idler behind an analyser that passes ``through`` of H, else V."""
    state = join(two_mode_squeezed(r), two_mode_squeezed(r))  # s_H i_H s_V i_V
    mean, covariance = counts(beam_splitter(state, 1, 3, through))
    return covariance[0, 1] + mean[0] * mean[1]


@pytest.mark.parametrize("mu", [0.01, 0.3, 2.0])
def test_multipair_visibility_of_two_twin_beams(mu):
    """Extrema of the coincidences over the idler's analyser, from the Gaussian state."""

    r = np.arcsinh(np.sqrt(mu / 2))
    most, least = (float(correlation(r, through)) for through in (1.0, 0.0))
    assert multipair_visibility(mu, 1.0) == pytest.approx((most - least) / (most + least), rel=1e-10)


def test_multipair_visibility_is_one_minus_mu():
    """First order whatever the modes; 1/(1 + mu) for many."""
    for modes in (1.0, 5.0, 1e9):
        assert (1 - float(multipair_visibility(1e-4, modes))) / 1e-4 == pytest.approx(1, abs=1e-3)
    assert multipair_visibility(0.7, 1e12) == pytest.approx(1 / 1.7, rel=1e-9)


def test_gradients():
    """On both sides of zero gain coefficient, and through it."""

    def value(x):
        found = fwm_pairs_per_mode(x[0], x[1], x[2], x[3], x[4], x[5])
        rate = fwm_pair_rate(x[0], x[1], x[2], x[3], x[4], x[6], x[5])
        return found + rate + heralded(x[0], x[1], x[7], 0.1 * x[7])[2] + heralded_g2_weak(x[0], x[1])

    points = [[0.7, 0.9, 1.1, -0.8, detuning, 0.3, 0.4, 0.35] for detuning in (0.2, 1.2, 3.0)]
    assert gradient_error(value, *points) < 1e-7
    assert gradient_error(lambda x: multipair_visibility(x[0], x[1]) + seeded(*x)[1], np.array([0.3, 1.7, 0.4])) < 1e-7


def test_bad_input_is_named():
    with pytest.raises(FieldError, match="-beta2: got -1"):
        fwm_detuning(1.0, 1.0, 1.0)
    with pytest.raises(FieldError, match="modes: got 0"):
        heralded(0.1, 0.0, 0.5)
