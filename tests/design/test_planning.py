"""Optimal allocation against known designs, the equivalence theorem and simulated fits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from qtwin.core.errors import UserError
from qtwin.design import planning
from qtwin.design.planning import information, plan, simulated

X = jnp.linspace(0.0, 10.0, 101)


def decay(theta):
    """Rates exp(a - b x): Poisson regression."""
    return jnp.exp(theta[0] - theta[1] * X)[:, None]


def fringe(theta):
    """Both outputs of an interferometer with background: (N (1 +- V cos(x + phi)) + B)/2."""
    n, v, phi = theta
    wave = v * jnp.cos(0.628318 * X[:100:5] + phi)
    return jnp.stack([n * (1 + wave), n * (1 - wave)], axis=1) / 2 + 30.0


def test_two_points_of_poisson_regression():
    """D-optimal are x = 0 and x = 2/b, half each (Russell et al., Stat. Sin. 19, 721 (2009), from memory)."""
    found = plan(information(decay, jnp.asarray([5.0, 0.5])), 100.0)
    assert list(np.flatnonzero(found.shares > 0.01)) == [0, 40]
    np.testing.assert_allclose(found.shares[[0, 40]], 0.5, atol=2e-3)
    assert found.excess < 1e-5


@pytest.mark.parametrize("criterion", ["D", "A"])
def test_no_allocation_is_better(criterion):
    """Against a general minimiser from random starts."""
    each = np.asarray(information(fringe, jnp.asarray([1000.0, 0.8, 0.3])))
    scale = np.array([10.0, 0.01, 0.01])
    found = plan(each, 2.0, criterion, scale)

    def loss(free):
        w = np.exp(free - free.max())
        matrix = 2.0 * np.einsum("s,sij->ij", w / w.sum(), each)
        if criterion == "D":
            return -np.linalg.slogdet(matrix)[1]
        return np.sum(np.diag(np.linalg.inv(matrix)) / scale**2)

    ours = loss(np.log(np.maximum(found.shares, 1e-12)))
    rng = np.random.default_rng(0)
    others = [minimize(loss, rng.normal(size=len(each)), method="L-BFGS-B").fun for _ in range(3)]
    assert ours <= min(others) + 1e-4 * abs(min(others))
    if criterion == "A":
        assert np.sum((found.errors / scale) ** 2) < np.sum((found.even / scale) ** 2)


def test_predicted_errors_are_those_of_simulated_fits():
    theta = jnp.asarray([1000.0, 0.8, 0.3])
    found = plan(information(fringe, theta), 5.0, "A", [10.0, 0.01, 0.01])
    spread, error = simulated(fringe, theta, 5.0 * found.shares, 600, key=jax.random.key(0))
    assert np.all(np.abs(spread - found.errors) < 4 * error)
    assert np.any(np.abs(1.2 * spread - found.errors) > 4 * error)  # errors a fifth too small would be seen


def test_refusals():
    each = information(decay, jnp.asarray([5.0, 0.5]))
    with pytest.raises(UserError, match="criterion: got 'E', accepted is one of D, A"):
        plan(each, 1.0, "E")
    with pytest.raises(UserError, match="cannot tell the parameters apart"):
        plan(each[7:8], 1.0)
    with pytest.raises(UserError, match="no setting depends on parameter 1"):
        plan(np.asarray(each) * np.array([[1, 0], [0, 0]]), 1.0)


def test_steps_that_do_not_end_are_told(monkeypatch):
    monkeypatch.setattr(planning, "STEPS", 5)
    with pytest.raises(UserError, match="shares have not settled after 5 steps"):
        plan(information(decay, jnp.asarray([5.0, 0.5])), 1.0)


def test_many_settings_alike_share_evenly():
    """20 000 phases of a fringe: the even plan is optimal, and a share of 1/20 000 is not one that is left out."""
    phases = np.linspace(0, 2 * np.pi, 20000, endpoint=False)
    each = np.stack([np.cos(phases), np.sin(phases)], axis=1)
    found = plan(each[:, :, None] * each[:, None, :], 2.0)
    np.testing.assert_allclose(found.shares, 1 / 20000, rtol=1e-6)
    np.testing.assert_allclose(found.errors, 1.0, rtol=1e-6)
