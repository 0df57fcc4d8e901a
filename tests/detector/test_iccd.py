"""Intensified CCD, both readings: electrons and clicks, gate and plate."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats
from slopes import check_slopes, once

from qtwin.core.errors import FieldError
from qtwin.detector.iccd import ICCD

USUAL = {
    "efficiency": 0.25,
    "gain": 150.0,
    "gain_shape": 1.4,
    "read_noise": 8.0,
    "dark_rate": 60.0,
    "gate": 4e-9,
    "gate_rate": 2e5,
    "full_well": 1e6,
    "frame_rate": 12.0,
    "threshold": 4.0,
}


def camera(**changes) -> ICCD:
    return ICCD(**(USUAL | changes))


def scores(draws, mean, variance):
    """z of the mean and of the variance of independent draws; the error of each comes from the draws."""
    away = np.asarray(draws, float).ravel() - float(mean)
    square = away**2 - float(variance)
    return [a.mean() / (a.std() / np.sqrt(a.size)) for a in (away, square)]


means = once(lambda law, photons: (law.mean(photons, 2.0), law.variance(photons, 2.0), *law.saturated(photons, 2.0)))
clicks = once(lambda law: (law.click_probability(jnp.asarray([0.8, 5.0]), 2.0), law.silent()))


@pytest.fixture(scope="module")
def frames():
    """Frames of pixels in light of 0.8 and 5 photons while the gate is open, in 2 s."""
    rng = np.random.default_rng(7)
    return camera().sample(rng.poisson([0.8, 5.0], (200_000, 2)), 2.0, rng=rng)


def test_frames_follow_the_law(frames):
    law = camera()
    for i, photons in enumerate((0.8, 5.0)):
        mean, variance, *_ = means(law, photons)
        z = scores(frames[:, i], mean, variance)
        assert np.abs(z).max() < 4, (photons, z)
        assert abs(scores(frames[:, i], mean, variance / law.excess * (law.excess - 0.1))[1]) > 5


def test_excess_noise_of_one_plate_is_2_and_of_a_perfect_one_1():
    assert float(camera(gain_shape=1.0, gain=1e9).excess) == pytest.approx(2, abs=1e-8)
    assert float(camera(gain_shape=1e9, gain=1e9).excess) == pytest.approx(1, abs=1e-8)


def test_clicks_of_frames_follow_the_law(frames):
    law, rng = camera(), np.random.default_rng(11)
    drawn = law.sample_clicks(rng.poisson([0.8, 5.0], (200_000, 2)), 2.0, rng=rng)
    above = frames > float(law.threshold * law.read_noise / law.gain)
    for i, p in enumerate(np.asarray(clicks(law)[0])):
        for seen in (above[:, i], drawn[:, i]):
            assert abs(scores(seen, p, p * (1 - p))[0]) < 4
        assert abs(scores(above[:, i], 0.97 * p, p * (1 - p))[0]) > 5


def test_silence_is_the_integral_over_the_plate():
    """Gamma law of the signal x, Poisson and read noise as a normal law of variance x + r^2."""
    u, t = clicks(camera())[1], 32.0
    for k in (1, 2, 5):
        signal = stats.gamma(1.4 * k, scale=150 / 1.4)
        below = integrate.quad(
            lambda x, s=signal: s.pdf(x) * stats.norm.cdf((t - x) / np.sqrt(x + 64)), 0, 2000, limit=200
        )
        assert float(u[k]) == pytest.approx(below[0], rel=1e-6)
    assert float(u[0]) == pytest.approx(stats.norm.cdf(4.0), rel=1e-12)


def test_silence_of_one_plate_is_1_minus_exp():
    """P(signal + noise < t) = 1 - exp(-t/g + r^2/2g^2) of an exponential law far above the CCD's own noise."""
    law = camera(gain_shape=1.0, gain=1e8, read_noise=1e6, threshold=30.0)
    assert float(clicks(law)[1][1]) == pytest.approx(1 - np.exp(-0.3 + 5e-5), rel=1e-6)


def test_gate_keeps_its_part_of_light_and_dark():
    law = camera()
    assert float(law.open_fraction()) == pytest.approx(8e-4)
    assert float(law.mean(0.0, 2.0)) == pytest.approx(60 * 8e-4 * 2)
    arrivals = np.random.default_rng(7).normal(0, 3e-9 / 2.354820045, 200_000)
    p = float(law.capture(3e-9))
    assert abs(scores(np.abs(arrivals) < 2e-9, p, p * (1 - p))[0]) < 4
    assert float(law.capture(0.0)) == 1 and float(law.capture(1.0)) < 1e-8


def test_ideal_camera_records_what_arrives():
    """Full efficiency, sharp and huge gain, no noise: the photons themselves, to the CCD's shot noise 1/g."""
    law = camera(efficiency=1.0, gain=1e8, gain_shape=1e9, read_noise=0.0, dark_rate=0.0, full_well=1e15)
    counts = np.array([[0, 3], [17, 1]])
    np.testing.assert_allclose(law.sample(counts, 1.0, rng=np.random.default_rng(1)), counts, rtol=1e-3)
    np.testing.assert_array_equal(law.sample_clicks(counts, 1.0, rng=np.random.default_rng(1)), counts > 0)
    assert float(law.variance(5.0, 1.0)) == pytest.approx(5, rel=1e-7)


def test_saturation_of_drawn_frames():
    law, rng = camera(full_well=150 * 520.0), np.random.default_rng(11)
    assert float(law.saturation) == pytest.approx(520)
    frames = law.sample(rng.poisson(2040.0, 10_000), 2.0, rng=rng)
    linear, _, mean, variance = means(law, 2040.0)
    z = scores(frames, mean, variance)
    assert np.abs(z).max() < 4, z
    assert abs(scores(frames, linear, 1.0)[0]) > 5
    found = means(camera(full_well=1e12), 3.0)
    np.testing.assert_allclose(found[2:], found[:2], rtol=1e-12)


def test_derivatives_by_every_field():
    law = camera(full_well=150 * 520.0)
    names = [name for name in USUAL if name != "frame_rate"]
    values = jnp.stack([getattr(law, name) for name in names])

    def read(scale):
        moved = eqx.tree_at(lambda c: [getattr(c, name) for name in names], law, list(values * scale))
        analog = (moved.mean(2.0, 3.0), moved.variance(2.0, 3.0), *moved.saturated(2040.0, 3.0), moved.capture(3e-9))
        return jnp.stack([*analog, moved.click_probability(jnp.asarray(0.3), 3.0)])

    check_slopes(read, jnp.ones(len(names)), h=1e-5, rtol=2e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"gate_rate": 1e9}, "gate_rate"), ({"threshold": 200.0}, "threshold"), ({"gain": 0.0}, "gain")],
)
def test_cameras_that_cannot_be_or_cannot_count_are_refused(changes, field):
    with pytest.raises(FieldError, match=field):
        camera(**changes).detection_efficiency()


def test_light_that_cannot_be_is_refused():
    for photons, time in ((-1.0, 1.0), (np.nan, 1.0), (1.0, -1.0)):
        with pytest.raises(FieldError, match=r"photons|time"):
            camera().mean(photons, time)
