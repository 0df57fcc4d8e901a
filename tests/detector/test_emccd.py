"""Electron-multiplying CCD, both readings of both modes: electrons and clicks."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from slopes import check_slopes, once

from qtwin.core.errors import FieldError
from qtwin.detector.camera import Camera
from qtwin.detector.emccd import EMCCD

USUAL = {
    "efficiency": 0.8,
    "gain": 300.0,
    "read_noise": 40.0,
    "dark_rate": 0.02,
    "clock_induced_charge": 0.05,
    "register_charge": 1e-4,
    "full_well": 1e5,
    "register_well": 1e8,
    "frame_rate": 50.0,
    "threshold": 4.5,
}
OFF = {"gain": 1.0, "read_noise": 0.0, "dark_rate": 0.0, "clock_induced_charge": 0.0, "register_charge": 0.0}


def camera(**changes) -> EMCCD:
    return EMCCD(**(USUAL | changes))


def scores(draws, mean, variance):
    """z of the mean and of the variance of independent draws; the error of each comes from the draws."""
    away = np.asarray(draws, float).ravel() - float(mean)
    square = away**2 - float(variance)
    return [a.mean() / (a.std() / np.sqrt(a.size)) for a in (away, square)]


means = once(lambda law, photons: (law.mean(photons, 2.0), law.variance(photons, 2.0), *law.saturated(photons, 2.0)))
clicks = once(
    lambda law: (law.click_probability(jnp.asarray([0.4, 3.0]), 2.0), law.detection_efficiency(), law.silent())
)


@pytest.fixture(scope="module")
def frames():
    """Analog frames of pixels in light of 0.4 and 3 photons, exposed for 2 s."""
    rng = np.random.default_rng(7)
    return camera().sample(rng.poisson([0.4, 3.0], (150_000, 2)), 2.0, rng=rng)


def test_analog_frames_follow_the_law(frames):
    for i, photons in enumerate((0.4, 3.0)):
        z = scores(frames[:, i], *means(camera(), photons)[:2])
        assert np.abs(z).max() < 4, (photons, z)


def test_excess_noise_is_seen(frames):
    """Without F^2 the variance would be half: the draws tell it from 5 % less."""
    law = camera()
    assert float(law.excess) == pytest.approx(1.973, abs=0.01)
    mean, variance, *_ = means(law, 3.0)
    less = variance - 0.05 * law.excess * law.electrons(3.0, 2.0)
    assert abs(scores(frames[:, 1], mean, less)[1]) > 5


def test_clicks_of_analog_frames_follow_the_exact_law(frames):
    """Thresholding frames of the multiplied packets, and drawing clicks from the table of silence."""
    law, rng = camera(), np.random.default_rng(11)
    drawn = law.sample_clicks(rng.poisson([0.4, 3.0], (150_000, 2)), 2.0, rng=rng)
    above = frames > float(law.threshold * law.read_noise / law.gain)
    for i, p in enumerate(np.asarray(clicks(law)[0])):
        for seen in (above[:, i], drawn[:, i]):
            assert abs(scores(seen, p, p * (1 - p))[0]) < 4
        assert abs(scores(above[:, i], 0.97 * p, p * (1 - p))[0]) > 5


def test_efficiency_and_false_positives_of_clicks():
    """One photon on an ideal empty pixel, and no photon at all: read noise, and charge of dark and of the transfers."""
    law, rng = camera(dark_rate=0.0, clock_induced_charge=0.0, register_charge=0.0), np.random.default_rng(7)
    p = float(clicks(law)[1])
    assert abs(scores(law.sample_clicks(np.ones(200_000, int), 2.0, rng=rng), p, p * (1 - p))[0]) < 4
    quiet = float(law.false_positive(2.0))
    assert quiet == pytest.approx(3.4e-6, rel=0.01)  # 1 - Phi(4.5)
    noisy = camera(register_charge=0.0)
    silent = np.asarray(clicks(noisy)[2])
    electrons = 0.05 + 0.02 * 2
    expected = 1 - np.exp(-electrons) * np.polynomial.Polynomial(silent[:6] / [1, 1, 2, 6, 24, 120])(electrons)
    assert float(noisy.false_positive(2.0)) == pytest.approx(expected, rel=1e-9)


def test_everything_off_is_a_ccd():
    """Gain 1 and no noise of its own: mean, variance and frames of the plain camera."""
    law, plain = camera(**OFF | {"read_noise": 3.0}), Camera(0.8, 3.0, 0.0, 1e5)
    np.testing.assert_allclose(law.mean(7.0, 2.0), plain.mean(7.0, 2.0))
    np.testing.assert_allclose(law.variance(7.0, 2.0), plain.variance(7.0, 2.0))
    assert float(law.excess) == 1
    counts = np.random.default_rng(3).poisson(7.0, (40, 50))
    frames = [c.sample(counts, 2.0, rng=np.random.default_rng(4)) for c in (law, plain)]
    assert abs(np.mean(frames[0]) - np.mean(frames[1])) < 5 * np.sqrt(2 * float(plain.variance(7.0, 2.0)) / 2000)
    still = camera(**OFF | {"efficiency": 1.0})
    np.testing.assert_array_equal(still.sample(counts, 2.0, rng=np.random.default_rng(4)), counts)
    np.testing.assert_array_equal(still.sample_clicks(counts, 2.0, rng=np.random.default_rng(4)), counts > 0)


@pytest.mark.parametrize(
    ("wells", "photons"), [({"full_well": 900.0, "gain": 3.0}, 1130.0), ({"register_well": 120e3}, 520.0)]
)
def test_saturation_of_the_pixel_and_of_the_register(wells, photons):
    law, rng = camera(**wells), np.random.default_rng(11)
    assert float(law.saturation) == pytest.approx(wells.get("full_well", 400.0))
    frames = law.sample(rng.poisson(photons, 10_000), 2.0, rng=rng)
    linear, _, mean, variance = means(law, photons)
    z = scores(frames, mean, variance)
    assert np.abs(z).max() < 4, z
    assert abs(scores(frames, linear, 1.0)[0]) > 5


def test_without_saturation_the_law_is_the_linear_one():
    found = means(camera(full_well=1e9, register_well=1e12), 3.0)
    np.testing.assert_allclose(found[2:], found[:2], rtol=1e-12)


def test_frames_follow_each_other_at_the_frame_rate():
    np.testing.assert_allclose(camera().period(jnp.asarray([0.001, 0.5])), [0.02, 0.5])


def test_derivatives_by_every_field():
    law = camera(register_well=1.2e5, full_well=402.0)
    names = [name for name in USUAL if name != "frame_rate"]
    values = jnp.stack([getattr(law, name) for name in names])

    def read(scale):
        moved = eqx.tree_at(lambda c: [getattr(c, name) for name in names], law, list(values * scale))
        analog = (moved.mean(2.0, 3.0), moved.variance(2.0, 3.0), *moved.saturated(500.0, 3.0), moved.saturation)
        return jnp.stack([*analog, moved.click_probability(jnp.asarray(0.3), 3.0)])

    check_slopes(read, jnp.ones(len(names)), h=1e-5, rtol=2e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"gain": 0.9}, "gain"),
        ({"threshold": 70.0}, "threshold"),
        ({"read_noise": 400.0}, "read_noise"),
        ({"stages": 0}, "stages"),
    ],
)
def test_cameras_that_cannot_be_or_cannot_count_are_refused(changes, field):
    with pytest.raises(FieldError, match=field):
        camera(**changes).detection_efficiency()


def test_light_that_cannot_be_is_refused():
    for photons, time in ((-1.0, 1.0), (np.nan, 1.0), (1.0, -1.0)):
        with pytest.raises(FieldError, match=r"photons|time"):
            camera().mean(photons, time)
