"""NOON states, Fock states and coherent light under loss, against photon-number space and published numbers."""

import fock_space
import jax.numpy as jnp
import numpy as np
import pytest
from slopes import gradient_error, once

from qtwin.core.errors import FieldError
from qtwin.modes.information import classical_fisher
from qtwin.modes.noon import (
    best_noon,
    coherent_information,
    fock_loss,
    fringe_information,
    noon_information,
    noon_optimal,
    noon_probabilities,
)

CASES = [
    *[(1, 0.9, 0.4), (2, 0.9, 0.9), (2, 0.9, 1.0), (2, 0.5, 0.8), (3, 0.7, 0.7), (3, 0.95, 0.6)],
    *[(4, 0.8, 0.8), (4, 1.0, 0.3), (5, 0.85, 0.9), (6, 0.6, 0.95)],
]


def two_mode_loss(rho, size, efficiencies):
    """Loss of each mode of a density matrix [size^2, size^2]."""
    rho = rho.reshape(size, size, size, size)
    first = np.zeros_like(rho)
    for j, k in np.ndindex(size, size):
        first[:, j, :, k] = fock_space.lossy(rho[:, j, :, k], efficiencies[0])
    both = np.zeros_like(rho)
    for j, k in np.ndindex(size, size):
        both[j, :, k, :] = fock_space.lossy(first[j, :, k, :], efficiencies[1])
    return both.reshape(size**2, size**2)


@pytest.mark.parametrize(("photons", "eta_a", "eta_b"), CASES)
@pytest.mark.parametrize("optimal", [False, True])
def test_information_against_photon_number_space(photons, eta_a, eta_b, optimal):
    """Quantum Fisher information of the full lossy state, every lost-photon sector included."""
    size = photons + 1
    weight = np.array([eta_a, eta_b]) ** (-photons / 4) if optimal else np.ones(2)
    psi = np.zeros((size, size), complex)
    psi[photons, 0], psi[0, photons] = weight / np.linalg.norm(weight)
    rho = two_mode_loss(np.outer(psi.ravel(), psi.ravel().conj()), size, (eta_a, eta_b))
    n = np.tile(np.arange(size), size)
    expected = fock_space.quantum_fisher(rho, 1j * (n[:, None] - n[None, :]) * rho)
    closed = noon_optimal if optimal else noon_information
    assert closed(photons, eta_a, eta_b) == pytest.approx(expected, rel=1e-9)


def test_published_numbers():
    assert noon_information(2, 0.9, 0.9) == pytest.approx(3.24, abs=1e-9)
    assert noon_information(2, 0.9, 1.0) == pytest.approx(3.5801, abs=5e-5)
    assert [best_noon(eta) for eta in (0.79, 0.8, 0.3)] == [4, 4, 1]


def test_at_080_four_and_five_photons_tie():
    assert 4 * 0.8**4 == pytest.approx(5 * 0.8**5, rel=1e-12)


def test_no_loss_is_the_heisenberg_limit():
    assert noon_information(7, 1.0, 1.0) == pytest.approx(49, rel=1e-12)
    assert noon_optimal(7, 1.0, 1.0) == pytest.approx(49, rel=1e-12)


def test_two_photons_against_coherent_light():
    """Per incident photon N = 2 wins above eta = 0.5 at the same loss, and above 0.7071 over the loss-free limit."""
    for eta, same, free in [(0.49, False, False), (0.51, True, False), (0.7, True, False), (0.72, True, True)]:
        gain = float(noon_information(2, eta, eta)) / 2
        assert (gain > float(coherent_information(1, eta, eta))) is same
        assert (gain > float(coherent_information(1, 1.0, 1.0))) is free


def test_parity_detection_reaches_the_balanced_limit():
    """Classical information of the three outcomes: at any phase of equal arms, at N phi = pi/2 of unequal ones."""

    def information(x):
        model = lambda phase: noon_probabilities(3, x[0], x[1], phase[0], x[2])  # noqa: E731
        return classical_fisher(model, x[3:])[0, 0]

    value = once(information)
    assert value(np.array([0.8, 0.8, 1.0, 0.3])) == pytest.approx(float(noon_information(3, 0.8, 0.8)), rel=1e-12)
    lossy, v = 0.8**3, 0.9
    expected = lossy * float(fringe_information(3, v, 0.3))
    assert value(np.array([0.8, 0.8, v, 0.3])) == pytest.approx(expected, rel=1e-12)
    unequal = float(noon_information(3, 0.7, 0.95))
    assert value(np.array([0.7, 0.95, 1.0, np.pi / 6])) == pytest.approx(unequal, rel=1e-12)
    assert float(value(np.array([0.7, 0.95, 1.0, 0.3]))) < 0.99 * unequal


def test_visibility_form():
    """Full visibility N^2 at every phase, extrema included; nothing at the extremum of an imperfect fringe."""
    np.testing.assert_allclose([fringe_information(4, 1.0, phase) for phase in (0.0, 0.2, np.pi / 4)], 16, rtol=1e-12)
    assert fringe_information(2, 0.98, np.pi / 4) == pytest.approx(4 * 0.98**2, rel=1e-12)
    assert fringe_information(2, 0.98, 0.0) == 0


def test_coherent_limit_by_search_over_the_split():
    """Phase of n photons split p : 1 - p without reference: 4 n p ea (1 - p) eb/(p ea + (1 - p) eb) at its best."""
    p = np.linspace(1e-4, 1 - 1e-4, 200_001)
    a, b = 0.9, 0.35
    best = np.max(4 * p * a * (1 - p) * b / (p * a + (1 - p) * b))
    assert coherent_information(1.0, a, b) == pytest.approx(best, rel=1e-9)


def test_fock_states_thin_binomially():
    rho = np.zeros((6, 6))
    rho[5, 5] = 1
    np.testing.assert_allclose(fock_loss(5, 0.37), np.diag(fock_space.lossy(rho, 0.37)).real, atol=1e-14)
    np.testing.assert_array_equal(fock_loss(2, 0.0), [1, 0, 0])


def test_gradients():
    def value(x):
        return (
            noon_information(x[0], x[1], x[2])
            + noon_optimal(x[0], x[1], x[2])
            + fringe_information(x[0], x[3], x[4])
            + coherent_information(x[0], x[1], x[2])
            + fock_loss(3, x[1]) @ jnp.arange(4.0)
            + noon_probabilities(x[0], x[1], x[2], x[4], x[3])[0]
        )

    assert gradient_error(value, np.array([2.0, 0.8, 0.6, 0.95, 0.4])) < 1e-7


def test_bad_input_is_named():
    with pytest.raises(FieldError, match=r"efficiency_a: got 1\.2"):
        noon_information(2, 1.2, 0.5)
    with pytest.raises(FieldError, match=r"photons: got 2\.5"):
        fock_loss(2.5, 0.5)
