"""The plain camera, saturation and clicks: closed forms, sums and drawn frames."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats
from slopes import check_slopes, once

from qtwin.core.errors import UserError
from qtwin.detector.camera import Camera, clicks_of, clipped, drawn_clicks, dual_occurrence, photoelectrons

SILENT = np.array([0.97, 0.2, 0.03, 0.004, 5e-4, 3e-5, 1e-6, 2e-8, 1e-10])


def scores(draws, mean, variance):
    """z of the mean and of the variance of independent draws; the error of each comes from the draws."""
    away = np.asarray(draws, float).ravel() - float(mean)
    square = away**2 - float(variance)
    return [a.mean() / (a.std() / np.sqrt(a.size)) for a in (away, square)]


def camera(**changes) -> Camera:
    return Camera(**({"efficiency": 0.7, "read_noise": 2.5, "dark_rate": 3.0, "full_well": 1e6} | changes))


def test_frames_have_the_mean_and_variance_of_the_law():
    rng = np.random.default_rng(7)
    photons = np.array([[0.4, 30.0], [2.0, 0.0]])
    frames = camera().sample(rng.poisson(photons, (50_000, 2, 2)), 2.0, rng=rng)
    law = camera()
    for i, j in np.ndindex(2, 2):
        z = scores(frames[:, i, j], law.mean(photons[i, j], 2.0), law.variance(photons[i, j], 2.0))
        assert np.abs(z).max() < 4, (i, j, z)
    assert abs(scores(frames[:, 0, 1], 27.0 * 1.05, 1)[0]) > 5


def test_law_in_numbers():
    """0.7 x 20 + 3 x 2 = 20 electrons, 2.5^2 more in variance."""
    law = camera()
    assert float(law.mean(20.0, 2.0)) == 20.0 and float(law.variance(20.0, 2.0)) == 26.25
    assert float(law.excess) == 1 and float(law.read_variance) == 6.25 and float(law.saturation) == 1e6


def test_ideal_camera_records_what_arrives():
    counts = np.array([[0, 3, 17], [2, 1, 250]])
    ideal = camera(efficiency=1.0, read_noise=0.0, dark_rate=0.0)
    np.testing.assert_array_equal(ideal.sample(counts, 1.0, rng=np.random.default_rng(1)), counts)
    assert float(ideal.variance(5.0, 1.0)) == float(ideal.mean(5.0, 1.0)) == 5.0


def test_same_seed_same_frame():
    draws = [camera().sample(np.full((3, 4), 9), 1.0, rng=np.random.default_rng(11)) for _ in range(2)]
    np.testing.assert_array_equal(*draws)


saturated = once(lambda law, photons: law.saturated(photons, 2.0))


@pytest.mark.parametrize("photons", [700.0, 820.0, 1000.0])
def test_saturation_of_drawn_frames(photons):
    rng = np.random.default_rng(11)
    law = camera(full_well=560.0)
    frames = law.sample(rng.poisson(photons, 40_000), 2.0, rng=rng)
    mean, variance = saturated(law, photons)
    away, square = scores(frames, mean, variance)
    assert abs(away) < 4 and abs(square) < 4.5, (away, square)
    assert abs(scores(frames, law.mean(photons, 2.0), 1.0)[0]) > 5 or photons == 700.0


def test_without_saturation_the_law_is_the_linear_one():
    law = camera(full_well=1e9)
    np.testing.assert_allclose(saturated(law, 300.0), (law.mean(300.0, 2.0), law.variance(300.0, 2.0)), rtol=1e-12)


def test_clipped_normal_law_is_its_integral():
    mean, variance, most = 41.0, 30.0, 44.5
    law = stats.norm(mean, np.sqrt(variance))
    first, second = (
        integrate.quad(lambda x, n=n: min(x, most) ** n * law.pdf(x), 0, 100, points=[most], epsabs=1e-12)[0]
        for n in (1, 2)
    )
    means, variances, wells = np.array(
        [[mean, variance, most], [mean, variance, 1e4], [400.0, variance, most], [3.0, 0.0, most], [60.0, 0.0, most]]
    ).T
    found = np.transpose(once(clipped)(means, variances, wells))
    np.testing.assert_allclose(found[0], (first, second - first**2), rtol=1e-9)
    np.testing.assert_allclose(found[1], (mean, variance), rtol=1e-12)  # far below the well
    np.testing.assert_allclose(found[2], (most, 0), atol=1e-12)  # far above it
    np.testing.assert_allclose(found[3:], [(3.0, 0), (most, 0)])  # no noise


clicks = once(lambda m: clicks_of(m, jnp.asarray(SILENT)))


def test_clicks_are_the_sum_over_electrons():
    m = np.array([0.0, 0.03, 0.7, 4.0, 1e2, 1e12])
    k = np.arange(len(SILENT))
    expected = 1 - stats.poisson.pmf(k[None, :], m[:, None]) @ SILENT
    np.testing.assert_allclose(clicks(jnp.asarray(m)), expected, atol=1e-9)


def test_perfect_threshold_clicks_as_1_minus_exp_m():
    m = jnp.asarray([0.01, 0.5, 3.0])
    np.testing.assert_allclose(clicks_of(m, jnp.asarray([1.0, 0.0])), 1 - np.exp(-np.asarray(m)), atol=1e-15)


def test_drawn_clicks_follow_the_table():
    rng = np.random.default_rng(7)
    electrons = rng.poisson(0.7, 300_000)
    p = float(clicks(jnp.asarray([0.7]))[0])
    assert abs(scores(drawn_clicks(electrons, SILENT, rng), p, p * (1 - p))[0]) < 4
    assert drawn_clicks(np.full(50, 10**6), SILENT, rng).all()


def test_dual_occurrence_is_what_clicks_hide():
    rng = np.random.default_rng(11)
    k = rng.poisson(0.8, 200_000)
    hidden = np.maximum(k - 1, 0) - float(dual_occurrence(jnp.asarray(0.8))) * k
    assert abs(hidden.mean() / (hidden.std() / np.sqrt(k.size))) < 4
    np.testing.assert_allclose(dual_occurrence(jnp.asarray([0.0, 1e-6, 1e-3])), [0, 5e-7, 4.998333749e-4], rtol=1e-6)


def test_derivatives():
    check_slopes(lambda x: jnp.stack(clipped(x[0], x[1], x[2])), jnp.asarray([41.0, 30.0, 44.5]))
    check_slopes(lambda x: clicks_of(x, jnp.asarray(SILENT)) + dual_occurrence(x), jnp.asarray([0.2, 1.3]))


@pytest.mark.parametrize(
    ("counts", "time", "problem"),
    [
        (np.array([1.5]), 1.0, "counts.*float64.*whole"),
        (np.array([-1]), 1.0, "counts.*negative"),
        (np.array([1]), -2.0, "time"),
    ],
)
def test_what_is_no_photon_is_refused(counts, time, problem):
    with pytest.raises(UserError, match=problem):
        camera().sample(counts, time, rng=np.random.default_rng(0))


def test_no_pixels_no_electrons():
    assert photoelectrons(np.zeros((0, 4), int), 0.5, 1.0, np.random.default_rng(0)).shape == (0, 4)
