"""The delay of a click, normal and exponential, against scipy's law, drawn delays and limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import exponnorm, kstest, norm
from slopes import check_slopes, once

from qtwin.correlation import Coincidence
from qtwin.detector import jitter

S, K = 40e-12, 90e-12
T = np.linspace(-4 * S, 6 * K + 4 * S, 301)
density, cumulative = jax.jit(jitter.density), jax.jit(jitter.cumulative)
full_width, whole_capture = once(jitter.fwhm), once(jitter.capture)
sample = once(lambda s, k, key: jitter.sample(s, k, (400_000,), key=key))


def capture(window, sigma_s, sigma_i, tail_s=0.0, tail_i=0.0, offset=0.0):
    """One compilation for all."""
    return whole_capture(*map(np.float64, (window, sigma_s, sigma_i, tail_s, tail_i, offset)))


@pytest.mark.parametrize(("sigma", "tail"), [(S, K), (S, 7e-12), (3e-12, K), (S, 1e-13), (1e-13, K)])
def test_density_and_cumulative(sigma, tail):
    law = exponnorm(tail / sigma, scale=sigma)
    p = density(T, sigma, tail)
    np.testing.assert_allclose(p * sigma, law.pdf(T) * sigma, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(cumulative(T, sigma, tail), law.cdf(T), rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize(("sigma", "tail"), [(S, 0.0), (S, 1e-15)])
def test_no_tail_is_the_normal_law(sigma, tail):
    z = (T - tail) / sigma
    np.testing.assert_allclose(density(T, sigma, tail) * sigma, np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), atol=1e-8)
    np.testing.assert_allclose(cumulative(np.array([-S, 0.0, S]), S, 0.0), [0.15865525, 0.5, 0.84134475], rtol=1e-7)


def test_no_normal_part_is_the_exponential_law():
    np.testing.assert_allclose(
        cumulative(np.array([-1.0, 0.0, K, 3 * K]), 0.0, K), -np.expm1([0, 0, -1, -3]), atol=1e-12
    )
    np.testing.assert_array_equal(cumulative(np.array([-1e-15, 0.0, 1e-15]), 0.0, 0.0), [0, 1, 1])  # nor any delay


@pytest.mark.parametrize("tail", [0.0, 11e-12, K, 900e-12])
def test_full_width(tail):
    found = float(full_width(S, tail))
    if tail == 0:
        assert found == pytest.approx(2.354820045 * S, rel=1e-8)
        return
    law = exponnorm(tail / S, scale=S)
    peak = minimize_scalar(lambda t: -law.pdf(t * S), bounds=(-1, 6), method="bounded", options={"xatol": 1e-9}).x * S
    ends = [
        brentq(lambda t: law.pdf(t) / law.pdf(peak) - 0.5, *cut, xtol=1e-18)
        for cut in ((-6 * S, peak), (peak, 9 * (S + tail)))
    ]
    assert found == pytest.approx(ends[1] - ends[0], rel=1e-6)


def test_full_width_of_the_exponential_is_ln_2():
    assert float(full_width(0.0, K)) == pytest.approx(np.log(2) * K, rel=1e-6)


def test_capture_without_tails_is_the_closed_form_of_coincidences():
    for window in (50e-12, 200e-12, 3e-9):
        full = jnp.asarray(350e-12), jnp.asarray(600e-12)
        old = Coincidence(window).capture(*full)
        np.testing.assert_array_equal(capture(window, *(f / jitter.FWHM for f in full)), old)
        near = capture(window, *(f / jitter.FWHM for f in full), 1e-13, 2e-13)
        np.testing.assert_allclose(near, old, rtol=1e-6)
    assert float(capture(1e-10, 0.0, 0.0)) == 1


@pytest.mark.parametrize(
    ("tails", "offset"), [((90e-12, 0.0), 0.0), ((30e-12, 150e-12), 0.0), ((90e-12, 20e-12), 70e-12)]
)
def test_capture_of_drawn_delays(tails, offset):
    n, window, key = 400_000, 200e-12, jax.random.key(7)
    first, second = sample(S, tails[0], key), sample(65e-12, tails[1], jax.random.fold_in(key, 1))
    apart = np.asarray(first - second)
    p = float(capture(window, S, 65e-12, *tails, offset))
    error = np.sqrt(p * (1 - p) / n)
    assert abs(np.mean(np.abs(apart - offset) < window / 2) - p) / error < 4
    mirrored = float(capture(window, S, 65e-12, *tails[::-1], offset))
    assert offset == 0 or abs(p - mirrored) / error > 5
    assert abs(p - float(capture(window, S, 65e-12))) / error > 5


def test_drawn_delays_follow_the_law():
    drawn = np.asarray(sample(S, K, jax.random.key(11)))[:40_000]
    assert kstest(drawn, lambda t: np.asarray(cumulative(t, S, K))).pvalue > 1e-3
    assert kstest(drawn, lambda t: np.asarray(cumulative(t, S, 0.94 * K))).pvalue < 1e-6
    with jax.enable_x64(False):
        assert jitter.sample(jnp.float32(S), jnp.float32(K), (3,), key=jax.random.key(1)).dtype == jnp.float32


def test_derivatives():
    """Of density, cumulative and capture by every argument, in parts of their values."""
    start = jnp.asarray([70e-12, S, K, 55e-12, 20e-12, 200e-12])

    def read(x):
        t, s, k, other, late, window = x * start
        parts = (
            jitter.density(t, s, k) * S,
            jitter.cumulative(t, s, k),
            jitter.capture(window, s, other, k, late, t / 3),
        )
        return jnp.stack(parts)

    check_slopes(read, jnp.ones(6))


def test_derivative_of_the_tail_where_there_is_none():
    """The law moves by its mean."""
    slope = once(jax.grad(lambda k: jitter.cumulative(jnp.asarray(30e-12), S, k)))(0.0)
    np.testing.assert_allclose(slope, -norm.pdf(0.75) / S, rtol=1e-5)
