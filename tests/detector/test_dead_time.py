"""Recovery, twilight and gates against integrals, closed forms and limits."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import hyp1f1

from qtwin.core.errors import FieldError
from qtwin.detector import Gate, SinglePhoton
from qtwin.detector import dead_time as dead

X = np.array([0.0, 1e-3, 0.04, 0.7, 3.0, 25.0, 2000.0])  # rate times recovery time
wait = jax.jit(lambda x: dead.waiting(x, jnp.asarray(1.0)))
live_factor, count_variance = jax.jit(dead.live_factor), jax.jit(dead.count_variance)


def survival(u, x):
    return np.exp(-u - x * np.expm1(-u / x)) if x else np.exp(-u)


def test_mean_wait_is_the_kummer_function():
    np.testing.assert_allclose(wait(jnp.asarray(X))[0], hyp1f1(1, 1 + X, X), rtol=5e-7)


@pytest.mark.parametrize("x", X)
def test_second_moment_of_the_wait_is_its_integral(x):
    cuts = np.sqrt(1 + x) * np.array([0, 0.5, 2, 8, 50])
    pieces = [quad(lambda u: 2 * u * survival(u, x), a, b, epsrel=1e-11)[0] for a, b in pairwise(cuts)]
    np.testing.assert_allclose(wait(jnp.asarray(x))[1], sum(pieces), rtol=5e-7)


def test_sharp_recovery_is_exactly_the_old_law():
    """No recovery, no twilight: the same bits as 1/(1 + n tau)."""
    rate = jnp.geomspace(1e-3, 1e12, 97)
    tau, off = jnp.asarray(24e-9), jnp.zeros(())
    plain = jax.jit(lambda n: dead.live_fraction(n, tau))(rate)
    np.testing.assert_array_equal(jax.jit(lambda n: dead.live_factor(n, tau, off, off))(rate), plain)


def test_fast_light_waits_for_the_recovery():
    """n tau_r -> inf: S = exp(-n t^2/2 tau_r), so E[W] = sqrt(pi tau_r/2 n)."""
    live = live_factor(1e12, 0.0, 1e-6, 0.0)
    np.testing.assert_allclose(1 / (1e12 * float(live)), np.sqrt(np.pi * 1e-6 / 2e12), rtol=1e-3)


def test_twilight_over_the_whole_dead_time_always_clicks_at_its_end():
    """a = tau, bright light: one click per dead time, and never a wait."""
    rate, tau = 1e10, 50e-9
    np.testing.assert_allclose(rate * live_factor(rate, tau, 0.0, tau) * tau, 1, rtol=1e-12)
    np.testing.assert_allclose(count_variance(rate, tau, 0.0, tau), 0, atol=1e-6)


def test_variances_of_known_laws():
    n, tau = jnp.asarray(5e6), jnp.asarray(50e-9)
    np.testing.assert_allclose(count_variance(5e6, 50e-9, 0.0, 0.0), 5e6 / 1.25**3, rtol=1e-12)
    np.testing.assert_allclose(count_variance(5e6, 0.0, 0.0, 0.0), 5e6, rtol=1e-12)  # Poisson
    m = 5e6 * np.exp(-0.25)
    np.testing.assert_allclose(dead.paralysable_variance(n, tau), m * (1 - 2 * m * 50e-9), rtol=1e-12)


def slope(function, values):
    """Derivatives of a scalar of values [k] against central differences."""
    both = jax.jit(jax.value_and_grad(function))
    found = np.asarray(both(values)[1])
    for i, x in enumerate(np.asarray(values)):
        h = jnp.zeros_like(values).at[i].set(1e-5 * x)
        difference = float(both(values + h)[0] - both(values - h)[0]) / (2e-5 * x)
        assert found[i] != 0
        np.testing.assert_allclose(found[i], difference, rtol=1e-5, err_msg=f"value {i}")


@pytest.mark.parametrize("law", [dead.live_factor, dead.count_variance])
def test_derivatives_of_recovery_and_twilight(law):
    slope(lambda v: jnp.log(law(v[0], v[1], v[2], v[3])), jnp.asarray([8e6, 31e-9, 12e-9, 4e-9]))


def test_derivatives_of_paralysable_and_gated_laws():
    slope(lambda v: jnp.log(dead.paralysable_variance(v[0], v[1])), jnp.asarray([8e6, 31e-9]))
    gated = [dead.gated_rate, dead.gated_variance]
    slope(lambda v: sum(jnp.log(law(v[0], 2.3e-6, v[1], v[2])) for law in gated), jnp.asarray([8e6, 1e-6, 0.1e-6]))


def test_derivative_by_recovery_time_exists_where_it_is_off():
    """d(n E[W])/d(n tau_r) = 1 at 0."""
    zero = jnp.asarray(0.0)
    live = jax.jit(jax.grad(lambda t: dead.live_factor(jnp.asarray(1e6), zero, t, zero)))
    np.testing.assert_allclose(live(zero), -1e6, rtol=1e-9)


def device(**changes) -> SinglePhoton:
    return SinglePhoton(**({"efficiency": 0.6, "dark_rate": 250.0, "dead_time": "50 ns", "jitter": 0.0} | changes))


def test_gates_open_nearly_always_and_faint_light():
    """n w -> 0: clicks are those of the open time, n w/Tg; and a gate never clicks twice: P/Tg at n -> inf."""
    gated = device(gate=Gate("1 us", "20 ns"))
    np.testing.assert_allclose(gated.live_at(jnp.asarray([0.0, 1e-3])), [0.02, 0.02], rtol=1e-9)
    np.testing.assert_allclose(gated.live_at(jnp.asarray(1e12)) * 1e12, 1e6, rtol=1e-9)
    blind = device(gate=Gate("1 us", "20 ns"), dead_time="2.5 us")
    np.testing.assert_allclose(blind.live_at(jnp.asarray(1e12)) * 1e12, 1e6 / 3, rtol=1e-9)


def test_gates_refuse_a_dead_time_that_ends_inside_one():
    for wrong in ("19 ns", "990 ns", "1.01 us"):
        with pytest.raises(FieldError, match="dead_time"):
            device(gate=Gate("1 us", "20 ns"), dead_time=wrong)
    with pytest.raises(FieldError, match="width"):
        Gate("1 us", "1 us")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"dead_time_law": "slow"}, "dead_time_law"),
        ({"dead_time_law": "paralysable", "recovery_time": "1 ns"}, "recovery_time"),
        ({"dead_time_law": "paralysable", "gate": Gate("1 us", "20 ns")}, "gate"),
        ({"gate": Gate("1 us", "20 ns"), "twilight": "1 ns"}, "twilight"),
        ({"twilight": "51 ns"}, "twilight"),
        ({"recovery_time": "-1 ns"}, "recovery_time"),
        ({"gate": "1 us"}, "gate"),
        ({"afterpulsing": 0.01}, "afterpulsing"),
    ],
)
def test_what_does_not_go_together_is_refused(changes, field):
    with pytest.raises(FieldError, match=field):
        device(**changes)


def test_paralysable_device():
    np.testing.assert_allclose(device(dead_time_law="paralysable").live_at(jnp.asarray(5e6)), np.exp(-0.25), rtol=1e-12)
