"""Information per photon against its limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qtwin.core.errors import FieldError
from qtwin.metrics.information import per_photon, pooled
from qtwin.modes.information import coherent_transmission, fock_transmission

T = np.array([[0.9, 0.6], [0.3, 0.95]])
N = np.array([[100.0, 250.0], [40.0, 10.0]])


def test_coherent_light_attains_the_coherent_limit():
    """Var T = T/N of an ideal direct image: 1 of the coherent limit, 1 - T of the quantum one."""
    found = per_photon(T / N, N, T)
    np.testing.assert_allclose(found.per_photon, coherent_transmission(T, 1.0), rtol=1e-12)
    np.testing.assert_allclose(found.of_coherent, 1, rtol=1e-12)
    np.testing.assert_allclose(found.of_quantum, 1 - T, rtol=1e-12)


def test_fock_states_attain_the_quantum_limit():
    """Binomial counts, Var T = T (1 - T)/N; with an efficiency eta of the detector T (1 - eta T)/(eta N)."""
    found = per_photon(T * (1 - T) / N, N, T)
    np.testing.assert_allclose(found.per_photon, fock_transmission(T, 1.0), rtol=1e-12)
    np.testing.assert_allclose(found.of_quantum, 1, rtol=1e-12)
    lossy = per_photon(T * (1 - 0.7 * T) / (0.7 * N), N, T)
    np.testing.assert_allclose(lossy.per_photon, fock_transmission(T, 1.0, 0.7), rtol=1e-12)
    assert np.all(lossy.of_quantum < 0.7 + 1e-12)


def test_drawn_fock_photons():
    """The variance of 4000 binomial exposures: F/N = 1/(T (1 - T)) by a z-score, error sqrt(2/dof)."""
    t, n, k = 0.8, 50, 4000
    variance = np.var(np.random.default_rng(161).binomial(n, t, k) / n, ddof=1)
    found = float(per_photon(variance, n, t).of_quantum)
    assert abs(found - 1) / np.sqrt(2 / (k - 1)) < 4
    assert abs(float(per_photon(variance, n, t).of_coherent) - 1) / np.sqrt(2 / (k - 1)) > 20


def test_pooled_information_of_two_arms_is_their_advantage():
    """1/<N Var>; the advantage is the ratio of costs, and each side's share of its own limit is 1."""
    direct, fock = pooled(T / N, N, T), pooled(T * (1 - T) / N, N, T)
    assert float(fock.per_photon / direct.per_photon) == pytest.approx(T.mean() / (T * (1 - T)).mean(), rel=1e-12)
    assert float(direct.of_coherent) == pytest.approx(1, rel=1e-12)
    assert float(fock.of_quantum) == pytest.approx(1, rel=1e-12)
    assert float(pooled(0.3 / 70, 70, 0.3).per_photon) == pytest.approx(float(per_photon(0.3 / 70, 70, 0.3).per_photon))


@pytest.mark.parametrize("which", [0, 1, 2])
def test_gradients(which):
    """Of the share of the quantum limit by variance, photons and transmission."""
    point = [0.004, 120.0, 0.7]

    def share(x):
        return pooled(*[x if i == which else jnp.asarray(v) for i, v in enumerate(point)]).of_quantum

    x = jnp.asarray(point[which])
    step = 1e-5 * x
    assert float(jax.grad(share)(x)) == pytest.approx(float((share(x + step) - share(x - step)) / (2 * step)), rel=1e-7)


def test_bad_numbers_are_refused():
    with pytest.raises(FieldError, match="variance"):
        per_photon(0.0, 10.0, 0.5)
    with pytest.raises(FieldError, match="transmission"):
        per_photon(0.1, 10.0, 1.5)
