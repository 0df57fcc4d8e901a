"""Bell states and Werner mixtures: CHSH, visibility, concurrence, fidelity."""

import numpy as np
import pytest
from slopes import gradient_error, once

from qtwin.core.errors import FieldError
from qtwin.modes.polarisation import (
    bell,
    chsh,
    chsh_most,
    coincidence,
    concurrence,
    correlation,
    density_matrix,
    fidelity,
    fringe_visibility,
    purity,
    werner,
)

NAMES = ("phi+", "phi-", "psi+", "psi-")


@once
def figures(rho):
    return chsh_most(rho), concurrence(rho), purity(rho)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("v", [1.0, 0.8, 0.2])
def test_werner_states(name, v):
    """S = 2 sqrt 2 V, C = max(0, (3 V - 1)/2), F = (1 + 3 V)/4, purity (1 + 3 V^2)/4 of each Bell state."""
    rho = density_matrix(werner(v, name))
    expected = [2 * np.sqrt(2) * v, max(0, (3 * v - 1) / 2), (1 + 3 * v**2) / 4]
    np.testing.assert_allclose(figures(rho), expected, atol=1e-12)
    assert fidelity(rho, name) == pytest.approx((1 + 3 * v) / 4, rel=1e-12)


def test_chsh_at_the_best_angles():
    assert chsh(bell("phi+")) == pytest.approx(2 * np.sqrt(2), rel=1e-12)
    assert chsh(werner(1 / np.sqrt(2), "phi+")) == pytest.approx(2, rel=1e-12)
    assert abs(chsh(bell("psi-"), (0.1, 0.3, 0.2, 0.9))) < 2 * np.sqrt(2)


@pytest.mark.parametrize("name", NAMES)
def test_correlation_of_linear_polarisers(name):
    """phi+: cos 2(a - b), phi-: cos 2(a + b), psi+: -cos 2(a + b), psi-: -cos 2(a - b)."""
    a, b = 0.3, 0.8
    sign = 1 if name.startswith("phi") else -1
    angle = a - b if name in ("phi+", "psi-") else a + b
    assert correlation(bell(name), a, b) == pytest.approx(sign * np.cos(2 * angle), abs=1e-12)


def test_coincidences_make_the_correlation():
    """E = P(a, b) + P(a', b') - P(a', b) - P(a, b'), primes 90 degrees on, of a state without symmetry."""
    psi = np.array([0.5, 0.1 - 0.3j, 0.2j, 0.6 + 0.2j])
    rho = np.outer(psi, psi.conj()) / np.linalg.norm(psi) ** 2
    a, b, right = 0.25, 1.1, np.pi / 2
    p = [float(coincidence(rho, x, y)) for x, y in ((a, b), (a + right, b + right), (a + right, b), (a, b + right))]
    assert sum(p) == pytest.approx(1, rel=1e-12)
    assert correlation(rho, a, b) == pytest.approx(p[0] + p[1] - p[2] - p[3], rel=1e-12)
    # signal first: |HV> passes signal at 0 and idler at 90 degrees
    vector = np.zeros((4, 4), complex)
    vector[1, 1] = 1
    assert coincidence(vector, 0.0, right) == pytest.approx(1, rel=1e-12)


def test_fringe_visibility_is_the_werner_parameter_in_any_basis():
    rho = werner(0.93, "psi-")
    np.testing.assert_allclose([fringe_visibility(rho, a) for a in (0.0, np.pi / 4, 0.3)], 0.93, rtol=1e-12)


def test_concurrence_of_a_pure_state_and_a_product():
    """cos t|HH> + sin t|VV>: sin 2t, S_max = 2 sqrt(1 + sin^2 2t); a product: 0 and 2."""
    psi = np.array([np.cos(0.3), 0, 0, np.sin(0.3)])
    most, c, _ = figures(np.outer(psi, psi).astype(complex))
    assert c == pytest.approx(np.sin(0.6), rel=1e-7)
    assert most == pytest.approx(2 * np.sqrt(1 + np.sin(0.6) ** 2), rel=1e-12)
    product = np.kron([0.6, 0.8], [0.8, -0.6j])
    most, c, _ = figures(np.outer(product, product.conj()))
    assert c == pytest.approx(0, abs=1e-7)
    assert most == pytest.approx(2, rel=1e-7)


def test_measured_table_through_the_correlation(reference_data):
    """The published 16 settings (EPJ Quantum Technology 11, 86): CHSH 2.593 raw, 2.731 without accidentals, and the
    Werner state of that visibility gives the same S at the table's angles."""
    table = np.genfromtxt(reference_data / "bell" / "epj2024_lahoz_phi_plus_table11.csv", delimiter=",", names=True)
    raw, net = table["coincidence_counts"], table["coincidence_counts"] - table["accidental_counts"]
    alpha, beta = table["alpha_deg"].reshape(4, 4), table["beta_deg"].reshape(4, 4)

    def measured(counts):
        index = {(a, b): c for a, b, c in zip(alpha.ravel(), beta.ravel(), counts, strict=True)}
        settings = {}
        for (a, b), c in index.items():
            x, y = a % 90, b % 90
            sign = 1 if (round((a - x) / 90) + round((b - y) / 90)) % 2 == 0 else -1
            total, signed = settings.get((x, y), (0, 0))
            settings[(x, y)] = total + c, signed + sign * c
        return {angles: signed / total for angles, (total, signed) in settings.items()}

    for counts, published in ((raw, 2.593), (net, 2.731)):
        e = measured(counts)
        assert len(e) == 4
        s = max(abs(sum(e.values()) - 2 * x) for x in e.values())
        assert s == pytest.approx(published, abs=6e-4)
        rho = werner(s / (2 * np.sqrt(2)), "phi+")
        ideal = {k: float(correlation(rho, *np.radians(k))) for k in e}
        assert max(abs(sum(ideal.values()) - 2 * x) for x in ideal.values()) == pytest.approx(s, rel=1e-9)
        assert all(ideal[k] * e[k] > 0 for k in e)


def test_gradients():
    def value(x):
        rho = werner(x[0], "phi+")
        return chsh(rho, x[1:5]) + fringe_visibility(rho, x[1]) + fidelity(rho, "phi+") + purity(rho)

    assert gradient_error(value, np.array([0.9, 0.1, 0.8, 0.3, 1.2])) < 1e-7


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: bell("phi"), "name: got 'phi', accepted is one of phi"),
        (lambda: werner(1.1), r"visibility: got 1\.1"),
        (lambda: density_matrix(np.eye(4)), "trace 1"),
        (lambda: density_matrix(np.eye(3) / 3), "shape"),
    ],
)
def test_bad_input_is_named(build, text):
    with pytest.raises(FieldError, match=text):
        build()
