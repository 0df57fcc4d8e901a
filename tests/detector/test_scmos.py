"""Scientific and quantitative CMOS: pixels that differ, counting by rounding, clicks, hot pixels, rolling rows."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from slopes import check_slopes, once

from qtwin.core.errors import FieldError
from qtwin.detector.camera import Camera
from qtwin.detector.scmos import SCMOS

USUAL = {
    "efficiency": 0.8,
    "fill_factor": 0.9,
    "read_noise": 0.5,
    "read_noise_spread": 0.4,
    "dark_rate": 0.05,
    "hot_fraction": 0.02,
    "hot_rate": 4.0,
    "gain_spread": 0.03,
    "offset_spread": 0.2,
    "full_well": 3e4,
    "frame_rate": 100.0,
    "threshold": 1.3,
}
SAME = {"read_noise_spread": 0.0, "hot_fraction": 0.0, "gain_spread": 0.0, "offset_spread": 0.0}
SHAPE = (120, 150)


def camera(**changes) -> SCMOS:
    return SCMOS(**(USUAL | {"rows": 1000, "seed": 5} | changes))


def scores(draws, mean, variance):
    """z of the mean and of the variance of independent draws; the error of each comes from the draws."""
    away = np.asarray(draws, float).ravel() - float(mean)
    square = away**2 - float(variance)
    return [a.mean() / (a.std() / np.sqrt(a.size)) for a in (away, square)]


miscounts = once(lambda law: law.misassignment(jnp.asarray([0.0, 2.0, 5.0, 9.0])))
means = once(lambda law, photons: (law.mean(photons, 2.0), law.variance(photons, 2.0), *law.saturated(photons, 2.0)))


@pytest.fixture(scope="module")
def frames():
    """Twelve frames of one sensor in light of 3 photons for 2 s."""
    rng = np.random.default_rng(7)
    return camera().sample(rng.poisson(3.0, (12, *SHAPE)), 2.0, rng=rng)


def test_frames_follow_the_law(frames):
    """Over pixels: mean of the means, mean of the variances in time, variance of the means less its error from time."""
    law = camera()
    means, variances = frames.mean(0), frames.var(0, ddof=1)
    pixels = means.size
    assert abs((means.mean() - float(law.mean(3.0, 2.0))) / (means.std() / np.sqrt(pixels))) < 4
    temporal = float(law.variance(3.0, 2.0))
    assert abs((variances.mean() - temporal) / (variances.std() / np.sqrt(pixels))) < 4
    between = (means - float(law.mean(3.0, 2.0))) ** 2 - variances / len(frames)
    assert abs((between.mean() - float(law.pattern_variance(3.0, 2.0))) / (between.std() / np.sqrt(pixels))) < 4
    assert abs((between.mean() - 0.5 * float(law.pattern_variance(3.0, 2.0))) / (between.std() / np.sqrt(pixels))) > 5


def test_read_noise_of_the_pixels_has_the_median_and_the_rms():
    """rms = median exp(s^2) of a lognormal law."""
    noise = camera().pattern(SHAPE).read_noise
    assert abs(np.log(noise).mean() - np.log(0.5)) < 4 * 0.4 / np.sqrt(noise.size)
    assert abs(scores(noise, noise.mean(), noise.var())[0]) < 1e-6
    square = noise**2 - float(camera().read_variance)
    assert abs(square.mean() / (square.std() / np.sqrt(noise.size))) < 4
    assert float(camera().read_variance) == pytest.approx((0.5 * np.exp(0.16)) ** 2)


def test_pattern_belongs_to_the_sensor():
    one, same, other = camera().pattern((3, 4)), camera().pattern((3, 4)), camera(seed=0).pattern((3, 4))
    np.testing.assert_array_equal(one.gain, same.gain)
    assert np.all(one.gain != other.gain) and np.all(camera(**SAME).pattern((3, 4)).gain == 1)


def test_hot_pixels_are_that_part_of_all():
    hot = camera().pattern(SHAPE).dark_rate > 1
    assert abs(scores(hot, 0.02, 0.02 * 0.98)[0]) < 4
    assert not (camera(hot_fraction=0.0).pattern(SHAPE).dark_rate > 1).any()


def test_pixels_that_are_all_the_same_are_a_ccd():
    law, plain = camera(**SAME), Camera(0.72, 0.5, 0.05, 3e4)
    np.testing.assert_allclose(law.mean(7.0, 2.0), plain.mean(7.0, 2.0))
    np.testing.assert_allclose(law.variance(7.0, 2.0), plain.variance(7.0, 2.0))
    np.testing.assert_allclose(law.saturated(41_650.0, 2.0), plain.saturated(41_650.0, 2.0))
    assert float(law.pattern_variance(7.0, 2.0)) == 0
    counts = np.arange(12).reshape(3, 4)
    ideal = camera(**SAME | {"efficiency": 1.0, "fill_factor": 1.0, "read_noise": 0.0, "dark_rate": 0.0})
    np.testing.assert_array_equal(ideal.sample(counts, 2.0, rng=np.random.default_rng(1)), counts)
    np.testing.assert_array_equal(ideal.sample_clicks(counts, 2.0, rng=np.random.default_rng(1)), counts > 1.3)


def test_clicks_follow_the_law(frames):
    law = camera()
    p = float(once(lambda law: law.click_probability(jnp.asarray(3.0), 2.0))(law))
    rate = (frames > 1.3).mean(0)  # pixels differ: the error comes from them
    assert abs((rate.mean() - p) / (rate.std() / np.sqrt(rate.size))) < 4
    assert abs((rate.mean() - 0.99 * p) / (rate.std() / np.sqrt(rate.size))) > 5


def test_rounding_miscounts_as_the_closed_form_says():
    """2 Phi(-1/(2 r)): 6.4 % at r = 0.27; and of unlike pixels, with 2 and with 9 electrons."""
    alike = camera(**SAME | {"read_noise": 0.27})
    np.testing.assert_allclose(miscounts(alike), 2 * stats.norm.cdf(-0.5 / 0.27), rtol=1e-9)
    assert 2 * stats.norm.cdf(-0.5 / 0.27) == pytest.approx(0.064, abs=5e-4)
    law, rng = (
        camera(efficiency=1.0, fill_factor=1.0, dark_rate=0.0, hot_rate=0.0, read_noise=0.25),
        np.random.default_rng(7),
    )
    for k, p in ((2, float(miscounts(law)[1])), (9, float(miscounts(law)[3]))):
        wrong = law.resolve(law.sample(np.full((3, *SHAPE), k), 0.0, rng=rng)) != k
        rate = wrong.mean(0)
        assert abs((rate.mean() - p) / (rate.std() / np.sqrt(rate.size))) < 4, k
        assert abs((rate.mean() - 0.9 * p) / (rate.std() / np.sqrt(rate.size))) > 5


def test_quiet_pixels_count_without_error():
    law = camera(**SAME | {"read_noise": 0.05})
    assert float(miscounts(law)[2]) < 1e-20
    np.testing.assert_array_equal(law.resolve(np.array([-0.2, 0.4, 0.6, 7.1, -1.6])), [0, 0, 1, 7, -2])


def test_saturation_of_drawn_frames():
    law, rng = camera(full_well=900.0, hot_fraction=0.0, gain_spread=0.0, offset_spread=0.0), np.random.default_rng(11)
    frames = law.sample(rng.poisson(1240.0, (1, *SHAPE)), 2.0, rng=rng)
    linear, _, mean, variance = means(law, 1240.0)
    z = scores(frames, mean, variance)
    assert np.abs(z).max() < 4.5, z
    assert abs(scores(frames, linear, 1.0)[0]) > 5


def test_rows_roll():
    """1000 rows at 100 Hz: row 500 starts 5 ms late; exposed 4 ms of 10 ms, it sees 5 ms to 9 ms of every frame."""
    law = camera()
    assert float(law.row_start(jnp.asarray(500.0))) == pytest.approx(5e-3)
    frame, seen = law.frame_of([1e-3, 5.1e-3, 8.9e-3, 9.1e-3, 25.2e-3], 500, 4e-3)
    np.testing.assert_array_equal(frame, [-1, 0, 0, 0, 2])
    np.testing.assert_array_equal(seen, [False, True, True, False, True])
    frame, seen = law.frame_of([1e-3, 0.2], np.array([0, 999]), 0.05)
    np.testing.assert_array_equal(frame, [0, 3])
    assert seen.all()


def test_derivatives_by_every_field():
    law = camera(full_well=300.0)
    names = [name for name in USUAL if name != "frame_rate"]
    values = jnp.stack([getattr(law, name) for name in names])

    def read(scale):
        moved = eqx.tree_at(lambda c: [getattr(c, name) for name in names], law, list(values * scale))
        analog = (moved.mean(2.0, 3.0), moved.variance(2.0, 3.0), moved.pattern_variance(2.0, 3.0))
        counts = moved.click_probability(jnp.asarray(0.3), 3.0), moved.detection_efficiency(), moved.misassignment(2.0)
        return jnp.stack([*analog, *counts, *moved.saturated(410.0, 3.0)])

    check_slopes(read, jnp.ones(len(names)), h=1e-5, rtol=2e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"fill_factor": 1.2}, "fill_factor"),
        ({"threshold": 30.0}, "threshold"),
        ({"rows": 0}, "rows"),
        ({"seed": -1}, "seed"),
    ],
)
def test_cameras_that_cannot_be_or_cannot_count_are_refused(changes, field):
    with pytest.raises(FieldError, match=field):
        camera(**changes).detection_efficiency()


def test_light_that_cannot_be_is_refused():
    for photons, time in ((-1.0, 1.0), (np.nan, 1.0), (1.0, -1.0)):
        with pytest.raises(FieldError, match=r"photons|time"):
            camera().mean(photons, time)
