"""Classical and quantum Fisher information, and Chernoff exponents, against photon-number space and closed forms."""

import fock_space
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from slopes import gradient_error, once

from qtwin.core.errors import UserError
from qtwin.modes.counts import number_distribution
from qtwin.modes.discrimination import chernoff_exponent
from qtwin.modes.gaussian import coherent, displace, squeezed, thermal, two_mode_squeezed
from qtwin.modes.information import classical_fisher, coherent_transmission, fock_transmission, quantum_fisher
from qtwin.modes.operations import loss, phase_shift, squeeze

# r, angle, amplitude (re, im), efficiency, thermal photons before squeezing
CASES = np.random.default_rng(8).uniform([0, 0, -0.6, -0.6, 0.4, 0], [0.4, 3, 0.6, 0.6, 0.95, 0.3], (10, 6))


def lossy(x):
    state = squeeze(thermal(x[5:]), 0, x[0], x[1])
    return loss(displace(state, jax.lax.complex(x[2:3], x[3:4])), x[4])


@once
@jax.vmap
def phase_information(x):
    return quantum_fisher(lambda phase: phase_shift(lossy(x), 0, phase[0]), jnp.asarray([0.3]))[0, 0]


INFORMATION = np.asarray(phase_information(CASES))


@pytest.mark.parametrize("case", range(10))
def test_phase_information_against_photon_number_space(case):
    """2 sum |<j|[n, rho]|k>|^2/(p_j + p_k) of lossy, displaced, squeezed thermal light."""
    r, angle, re, im, efficiency, photons = CASES[case]
    rho = fock_space.one_mode(r, angle, re + 1j * im, efficiency, photons, size=50)
    n = np.arange(rho.shape[0])
    change = 1j * (n[:, None] - n[None, :]) * rho
    assert INFORMATION[case] == pytest.approx(fock_space.quantum_fisher(rho, change), rel=1e-7)


def test_pure_states():
    """Phase: 4 |alpha|^2 coherent, 2 sinh^2(2 r) squeezed vacuum: no division by the purity."""

    def value(x):
        return jnp.stack(
            [
                quantum_fisher(lambda p: phase_shift(coherent(jax.lax.complex(x[:1], x[1:2])), 0, p[0]), x[3:])[0, 0],
                quantum_fisher(lambda p: phase_shift(squeezed(x[2], 0.4), 0, p[0]), x[3:])[0, 0],
            ]
        )

    found = once(value)(np.array([0.6, -0.8, 0.7, 0.2]))
    np.testing.assert_allclose(found, [4.0, 2 * np.sinh(1.4) ** 2], rtol=1e-10)


def transmitted(t, photons):
    return loss(two_mode_squeezed(jnp.arcsinh(jnp.sqrt(photons))), jnp.stack([t, jnp.ones_like(t)]))


def test_transmission_with_twin_beams_reaches_the_ultimate_limit():
    """N/(T (1 - T)): one of the two normal modes is pure."""
    value = once(
        lambda x: quantum_fisher(lambda t: transmitted(t[0], x[1]), x[:1])[0, 0] - fock_transmission(x[0], x[1])
    )
    for x in ([0.7, 2.3], [0.05, 0.01], [0.99, 5.0]):
        assert abs(value(np.array(x))) < 1e-8 * fock_transmission(*x)


def test_transmission_with_coherent_light():
    """N/T, from the quantum state and from Poisson counts."""

    def both(t):
        state = lambda t: loss(coherent(np.array([1.5])), t[0])  # noqa: E731
        return quantum_fisher(state, t)[0, 0], classical_fisher(lambda t: number_distribution(state(t), 24), t)[0, 0]

    np.testing.assert_allclose(once(both)(np.array([0.4])), coherent_transmission(0.4, 2.25), rtol=1e-9)


def test_two_parameters_at_once():
    """Thermal photons and displacement: diagonal, 1/(n (n + 1)) and 4/(2 n + 1) for a real amplitude."""
    model = lambda x: displace(thermal(x[:1]), jax.lax.complex(x[1:], jnp.zeros(1)))  # noqa: E731
    found = once(lambda x: quantum_fisher(model, x))(np.array([0.6, 0.2]))
    np.testing.assert_allclose(found, np.diag([1 / (0.6 * 1.6), 4 / 2.2]), rtol=1e-12, atol=1e-12)


def test_counting_never_beats_the_quantum_limit():
    """Transmission of lossy displaced squeezed light by photon counting."""
    model = lambda t: loss(displace(squeezed(0.3, 0.2), 0.8), t[0])  # noqa: E731
    ratio = lambda t: (  # noqa: E731
        classical_fisher(lambda u: number_distribution(model(u), 24), t)[0, 0] / quantum_fisher(model, t)[0, 0]
    )
    assert 0.5 < float(once(ratio)(np.array([0.6]))) < 1


def test_classical_fisher_of_a_binomial():
    """n/(p (1 - p)) from its probabilities; an impossible outcome is left out."""
    model = lambda x: jnp.stack([x[0] ** 2, 2 * x[0] * (1 - x[0]), (1 - x[0]) ** 2, 0 * x[0]])  # noqa: E731
    assert once(lambda x: classical_fisher(model, x)[0, 0])(np.array([0.3])) == pytest.approx(2 / 0.21, rel=1e-12)


def test_detection_efficiency_lowers_the_limit():
    """eta N/(T (1 - eta T)): binomial counts of a Fock state."""
    assert fock_transmission(0.8, 3.0, 0.5) == pytest.approx(0.5 * 3 / (0.8 * 0.6), rel=1e-12)
    assert fock_transmission(0.8, 3.0, 1e-6) / coherent_transmission(0.8, 3.0, 1e-6) == pytest.approx(1, abs=2e-6)


def test_gradient_of_the_quantum_fisher_information():
    """Degenerate normal modes and a pure one: derivatives by T and brightness, and of a one-mode phase."""

    def value(x):
        return quantum_fisher(lambda t: transmitted(t[0], x[1]), x[:1])[0, 0] + phase_of(x[2:])

    def phase_of(x):
        return quantum_fisher(lambda phase: phase_shift(lossy(x), 0, phase[0]), jnp.asarray([0.3]))[0, 0]

    assert gradient_error(value, np.concatenate([[0.7, 0.8], CASES[2]])) < 1e-6


def log_overlap(rho, other, s):
    """log Tr rho^s other^(1-s) of density matrices given by eigenvalues and vectors."""
    (p, u), (q, w) = rho, other
    mixed = np.abs(u.conj().T @ w) ** 2
    return np.log(np.clip(p, 0, None) ** s @ mixed @ np.clip(q, 0, None) ** (1 - s))


exponent = once(lambda x, y: chernoff_exponent(lossy(x), lossy(y)))


@pytest.mark.parametrize("case", [1, 4])
def test_chernoff_exponent_against_photon_number_space(case):
    """Two displaced squeezed thermal states; the minimum over s by another search."""
    x, y = CASES[case], CASES[case + 1]
    rho, other = (np.linalg.eigh(fock_space.one_mode(r, a, re + 1j * im, e, n, 50)) for r, a, re, im, e, n in (x, y))
    best = minimize_scalar(lambda s: log_overlap(rho, other, s), bounds=(0.001, 0.999), method="bounded")
    assert exponent(x, y) == pytest.approx(-best.fun, rel=1e-6)


def test_chernoff_exponent_of_coherent_light_in_background():
    """|d|^2 (sqrt(n + 1) - sqrt n)^2 at any displacement; |d|^2 without background."""
    dark, bright = (np.array([0.0, 0.0, alpha, 0.0, 1.0, 2.0]) for alpha in (0.0, 0.9))
    assert exponent(dark, bright) == pytest.approx(0.81 * (np.sqrt(3) - np.sqrt(2)) ** 2, rel=1e-8)
    dark[5] = bright[5] = 0
    assert exponent(dark, bright) == pytest.approx(0.81, rel=1e-8)


def test_an_exponent_lost_in_rounding_is_refused():
    with pytest.raises(UserError, match="1e-08 or greater"):
        chernoff_exponent(thermal(0.5), thermal(0.5 + 1e-6))
