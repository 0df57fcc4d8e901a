"""Clicks of threshold cameras against limits, drawn light and exact sums over the binomial law."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import binom

from qtwin.core.errors import UserError
from qtwin.core.records import Frames
from qtwin.correlation.threshold import (
    click_probability,
    joint_click_probability,
    mean_events,
    thermal_click_probability,
    threshold,
)

M = jnp.asarray([1e-12, 0.3, 5.0])


def test_limits_of_the_click_probability():
    """Weak light clicks with m; one mode with m/(1 + m); many modes like Poisson light; strong light always."""
    np.testing.assert_allclose(click_probability(M)[0], 1e-12, rtol=1e-12)
    np.testing.assert_allclose(click_probability(M), 1 - np.exp(-np.array(M)), rtol=1e-4)
    np.testing.assert_allclose(thermal_click_probability(M, 1.0), M / (1 + M), rtol=1e-12)
    np.testing.assert_allclose(thermal_click_probability(M, 1e9), click_probability(M), rtol=1e-8)
    assert float(click_probability(jnp.asarray(800.0))) == 1.0 and float(click_probability(jnp.asarray(0.0))) == 0.0


@pytest.mark.parametrize("modes", [0.7, 3.0])
def test_clicks_of_drawn_light(modes):
    rng, frames = np.random.default_rng(7), 400_000
    clicks = np.mean(rng.poisson(rng.gamma(modes, 0.9 / modes, frames)) > 0)
    p = float(thermal_click_probability(jnp.asarray(0.9), modes))
    sigma = np.sqrt(p * (1 - p) / frames)
    assert abs(clicks - p) < 4 * sigma and abs(clicks - float(click_probability(0.9))) > 5 * sigma


def test_both_pixels_click():
    """Independent without pairs, the less lit one's probability when every event is a pair; drawn in between."""
    a, b = jnp.asarray(0.4), jnp.asarray(0.7)
    assert float(joint_click_probability(a, b, 0.0)) == pytest.approx(
        float(click_probability(a) * click_probability(b))
    )
    assert float(joint_click_probability(a, b, a)) == pytest.approx(float(click_probability(a)))
    rng, frames = np.random.default_rng(11), 200_000
    pairs = rng.poisson(0.15, frames)
    both = np.mean((pairs + rng.poisson(0.25, frames) > 0) & (pairs + rng.poisson(0.55, frames) > 0))
    p = float(joint_click_probability(a, b, 0.15))
    sigma = np.sqrt(p * (1 - p) / frames)
    assert abs(both - p) < 4 * sigma and abs(both - float(joint_click_probability(a, b, 0.14))) > 4 * sigma


@pytest.mark.parametrize(
    ("function", "at"),
    [(click_probability, (0.3,)), (thermal_click_probability, (0.8, 2.5)), (joint_click_probability, (0.5, 0.7, 0.2))],
)
def test_derivatives_are_finite_differences(function, at):
    at = tuple(jnp.asarray(v) for v in at)
    slopes = jax.grad(function, argnums=tuple(range(len(at))))(*at)
    for k, slope in enumerate(slopes):
        up, down = (function(*(v + (s * 1e-5 if j == k else 0.0) for j, v in enumerate(at))) for s in (1, -1))
        assert float(slope) == pytest.approx(float(up - down) / 2e-5, rel=1e-8) and float(slope) != 0


@pytest.mark.parametrize("modes", [np.inf, 1.0, 4.0])
def test_inversion_is_the_inverse(modes):
    """Exact clicks of many frames: the mean comes back, bright and dim."""
    mean = np.array([1e-4, 0.3, 3.0])
    p = click_probability(mean) if np.isinf(modes) else thermal_click_probability(mean, modes)
    np.testing.assert_allclose(mean_events(1e12 * np.asarray(p), 1e12, modes).value, mean, rtol=1e-7)


def moments(frames, left, modes=np.inf):
    """Bias and root mean square error over the binomial law, in its standard deviations, K q = ``left``."""
    q, clicks = left / frames, np.arange(frames + 1)
    weight = binom.pmf(clicks, frames, 1 - q)
    value, error = mean_events(clicks, frames, modes)
    mean = np.sum(weight * value)
    std = np.sqrt(np.sum(weight * (value - mean) ** 2))
    true = -np.log(q) if np.isinf(modes) else modes * (q ** (-1 / modes) - 1)
    return (mean - true) / std, np.sqrt(np.sum(weight * error**2)) / std


@pytest.mark.parametrize(("left", "most"), [(500, 1e-3), (30, 1e-3), (10, 0.01), (3, 0.01), (2, 0.04), (1, 0.25)])
def test_bias_near_saturation(left, most):
    """Exact bias of Poisson light against its standard deviation; -ln(1 - p) has sqrt(p/(K q))/2."""
    bias, error = moments(1000, left)
    assert abs(bias) < most and 0.98 < error < 1.5
    if left >= 3:
        assert abs(bias) < 0.1 * 0.5 * np.sqrt((1 - left / 1000) / left) and error < 1.07


@pytest.mark.parametrize(("left", "expected"), [(3, -0.09), (2, -0.27), (1, -1.26)])
def test_bias_of_one_thermal_mode(left, expected):
    assert moments(1000, left, 1.0)[0] == pytest.approx(expected, abs=0.005)
    bias, error = moments(1000, 100, 1.0)
    assert abs(bias) < 1e-3 and error == pytest.approx(1, abs=0.01)


def test_no_frame_and_every_frame_are_finite():
    value, error = mean_events(np.array([0, 200]), 200)
    assert value[0] == 0 and value[1] == pytest.approx(np.log(401)) and np.all(np.isfinite(error)) and np.all(error > 0)


def test_frames_become_clicks():
    counts = np.array([[[-1.0, 0.5], [2.0, 7.0]], [[0.0, 3.0], [5.0, 5.1]]])
    (found,) = threshold([Frames(counts, pitch=1e-5)], 0.5)
    np.testing.assert_array_equal(found.counts, counts > 0.5)
    assert found.counts.dtype == bool and found.pitch == 1e-5
    (found,) = threshold([Frames(counts)], [[0.0, 1.0], [4.0, 7.0]])
    np.testing.assert_array_equal(found.counts[:, 1, 0], [False, True])


def test_bad_input_is_refused():
    for clicks, frames in ((-1, 10), (11, 10), (np.nan, 10), (0, 0), (0, np.nan)):
        with pytest.raises(UserError, match="clicks"):
            mean_events(clicks, frames)
    for modes in (0.0, np.nan):
        with pytest.raises(UserError, match="modes"):
            mean_events(1, 10, modes)
    for level in (np.nan, [1.0, 2.0]):
        with pytest.raises(UserError, match="level"):
            list(threshold([Frames(np.zeros((2, 3, 3)))], level))
    with pytest.raises(UserError, match="iterable"):
        list(threshold(Frames(np.zeros((2, 3, 3))), 0.5))
    with pytest.raises(UserError, match="not a number"):
        list(threshold([Frames(np.full((2, 3, 3), np.nan))], 1.0))
