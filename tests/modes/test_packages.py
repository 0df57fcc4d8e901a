"""The same numbers from independent packages, where they are installed: thewalrus (Gaussian counts) and QuTiP."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slopes import once

from qtwin.modes.counts import click_patterns, counts, number_distribution
from qtwin.modes.gaussian import displace, join, squeezed, thermal
from qtwin.modes.information import quantum_fisher
from qtwin.modes.interference import hom_coincidence, hom_visibility
from qtwin.modes.noon import noon_information, noon_optimal
from qtwin.modes.operations import interferometer, loss, phase_shift

CASES = range(10)
# the packages come with the extra `reference`, as the slow tests do
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture(scope="module")
def states():
    """Ten states of three modes: two squeezed, one thermal, displaced, through an interferometer and unequal losses."""
    pytest.importorskip("thewalrus")
    rng = np.random.default_rng(12)
    u = np.linalg.qr(rng.normal(size=(10, 3, 3)) + 1j * rng.normal(size=(10, 3, 3)))[0]

    @once
    @jax.vmap
    def build(u, x):
        state = interferometer(join(squeezed(x[:2], x[2:4]), thermal(x[4:5])), u)
        state = loss(displace(state, jax.lax.complex(x[5:8], x[8:11])), x[11:14])
        both = number_distribution(_first_two(state), 40)
        return state.mean, state.covariance, *counts(state), click_patterns(state), both

    low = [0, 0, 0, 0, 0, *[-0.4] * 6, *[0.3] * 3]
    high = [0.6, 0.6, 3, 3, 0.5, *[0.4] * 6, *[1.0] * 3]
    return [np.asarray(part) for part in build(u, rng.uniform(low, high, (10, 14)))]


def _first_two(state):
    places = np.array([0, 1, 3, 4])
    return type(state)(state.mean[places], state.covariance[np.ix_(places, places)])


@pytest.mark.parametrize("case", CASES)
def test_gaussian_counts_against_thewalrus(states, case):
    """Means, covariances, clicks of three modes, and the joint distribution of two."""
    quantum = pytest.importorskip("thewalrus.quantum")
    from thewalrus import threshold_detection_prob

    mean, covariance, number, spread, patterns, both = (part[case] for part in states)
    mu, cov = np.sqrt(2) * mean, 2 * covariance  # hbar = 2 there
    np.testing.assert_allclose(number, quantum.photon_number_mean_vector(mu, cov, hbar=2), rtol=1e-10)
    np.testing.assert_allclose(spread, quantum.photon_number_covmat(mu, cov, hbar=2), atol=1e-12)
    for pattern in np.ndindex(2, 2, 2):
        expected = threshold_detection_prob(mu, cov, np.array(pattern), hbar=2)
        assert patterns[pattern] == pytest.approx(float(np.real(expected)), abs=1e-11)
    places = np.array([0, 1, 3, 4])
    expected = quantum.probabilities(mu[places], cov[np.ix_(places, places)], 6, hbar=2)
    np.testing.assert_allclose(both[:6, :6], expected, atol=1e-9)


@pytest.mark.parametrize(
    ("photons", "eta_a", "eta_b"),
    [
        *[(1, 0.9, 0.4), (2, 0.9, 0.9), (2, 0.9, 0.99), (2, 0.5, 0.8), (3, 0.7, 0.7), (3, 0.95, 0.6)],
        *[(4, 0.8, 0.8), (4, 0.97, 0.3), (5, 0.85, 0.9), (5, 0.6, 0.95)],
    ],
)
def test_noon_information_against_qutip(photons, eta_a, eta_b):
    """Loss as a master equation until each arm has decayed to its efficiency; information from the eigenvectors."""
    qutip = pytest.importorskip("qutip")
    size = photons + 1
    a, b = qutip.tensor(qutip.destroy(size), qutip.qeye(size)), qutip.tensor(qutip.qeye(size), qutip.destroy(size))
    decays = [np.sqrt(-np.log(eta)) * mode for mode, eta in ((a, eta_a), (b, eta_b))]
    for weight, closed in ((1.0, noon_information), ((eta_a / eta_b) ** (-photons / 4), noon_optimal)):
        psi = (weight * qutip.basis([size, size], [photons, 0]) + qutip.basis([size, size], [0, photons])).unit()
        options = {"atol": 1e-12, "rtol": 1e-10, "nsteps": 100_000}
        rho = qutip.mesolve(0 * a, qutip.ket2dm(psi), [0, 1], decays, options=options).states[-1]
        p, vectors = np.linalg.eigh(rho.full())
        generator = vectors.conj().T @ (b.dag() * b).full() @ vectors
        total, difference = p[:, None] + p[None, :], p[:, None] - p[None, :]
        seen = total > 1e-9
        expected = 2 * np.sum((difference**2 * np.abs(generator) ** 2)[seen] / total[seen])
        assert closed(photons, eta_a, eta_b) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("reflectivity", [0.03, 0.1, 0.2, 0.33, 0.45, 0.5, 0.58, 0.7, 0.85, 0.97])
def test_hom_against_qutip(reflectivity):
    """|1, 1> on a beam splitter; partial overlap by a second mode of the idler's port."""
    qutip = pytest.importorskip("qutip")
    overlap, size = 0.7, 3
    ops = [qutip.tensor([qutip.destroy(size) if j == k else qutip.qeye(size) for k in range(4)]) for j in range(4)]
    a, b, a2, b2 = ops  # two ports, each with the signal's mode and one orthogonal to it
    angle = np.arcsin(np.sqrt(reflectivity))
    u = (1j * angle * (a.dag() * b + b.dag() * a + a2.dag() * b2 + b2.dag() * a2)).expm()
    empty = qutip.tensor([qutip.basis(size, 0)] * 4)
    psi = u * a.dag() * (np.sqrt(overlap) * b.dag() + np.sqrt(1 - overlap) * b2.dag()) * empty
    seen = qutip.expect((a.dag() * a + a2.dag() * a2) * (b.dag() * b + b2.dag() * b2), psi)
    assert hom_coincidence(reflectivity, overlap) == pytest.approx(seen, abs=1e-10)
    apart = reflectivity**2 + (1 - reflectivity) ** 2
    assert hom_visibility(reflectivity, overlap) == pytest.approx(1 - seen / apart, abs=1e-10)


@pytest.mark.parametrize("r", [0.1, 0.3, 0.5])
def test_gaussian_phase_information_against_qutip(r):
    """Squeezed and displaced light behind a loss, the loss as a master equation."""
    qutip = pytest.importorskip("qutip")
    size, eta, alpha = 50, 0.6, 0.5 - 0.3j
    a = qutip.destroy(size)
    psi = qutip.displace(size, alpha) * qutip.squeeze(size, r) * qutip.basis(size, 0)
    options = {"atol": 1e-12, "rtol": 1e-10, "nsteps": 100_000}
    rho = qutip.mesolve(0 * a, qutip.ket2dm(psi), [0, 1], [np.sqrt(-np.log(eta)) * a], options=options).states[-1]
    p, vectors = np.linalg.eigh(rho.full())
    generator = vectors.conj().T @ (a.dag() * a).full() @ vectors
    total, difference = p[:, None] + p[None, :], p[:, None] - p[None, :]
    seen = total > 1e-9
    expected = 2 * np.sum((difference**2 * np.abs(generator) ** 2)[seen] / total[seen])
    state = loss(displace(squeezed(r), alpha), eta)
    found = quantum_fisher(lambda phase: phase_shift(state, 0, phase[0]), jnp.asarray([0.2]))[0, 0]
    assert found == pytest.approx(expected, rel=1e-5)
