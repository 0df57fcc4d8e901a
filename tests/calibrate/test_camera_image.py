"""Frames of a sample in the twin's light: what is recovered from them, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qtwin import calibrate_job
from qtwin.calibrate.calibration import Settings, calibrate, pose
from qtwin.calibrate.image import fourth_moment, scatter
from qtwin.core.config import build, compose, plain
from qtwin.core.errors import FieldError, UserError
from qtwin.estimator.setting import exposed

SMALL = ["model=camera_image", "model.optics.pixels=8", "model.optics.pitch=400 um", "model.walked=4096", "data=x"]
GAIN, OFFSET, FRAMES = 0.6, 100.0, 150


def model(*more):
    return build(plain(compose([*SMALL, *more], name="calibrate"))["model"], "model")


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Photons drawn by Poisson's law and seen by the camera, frame by frame: not the model's own law of the numbers."""
    true = model("model.scene.absorption=0.2", "model.photons=3000").renewed({})
    images = jax.tree.map(lambda a: jnp.mean(a, axis=0), true._images())
    setting = exposed(true.source, true.optics, true.photons)
    light = np.asarray(true.optics.collection_transmission * setting.incident * images.direct)
    rng = np.random.default_rng(71)
    seen = [true.camera.sample(rng.poisson(light), float(setting.time), rng=rng) for _ in range(FRAMES)]
    path = tmp_path_factory.mktemp("frames") / "seen.npy"
    np.save(path, np.round(OFFSET + GAIN * np.stack(seen)).astype(np.uint16))
    return path


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    path = tmp_path_factory.mktemp("noise") / "noise.npy"
    np.save(path, np.random.default_rng(3).poisson(1000, (5, 8, 8)).astype(np.uint16))
    return path


def test_frames_are_read_as_mean_and_variance(noise):
    counts = np.load(noise).astype(float)
    data = model().read(noise)
    np.testing.assert_allclose(data.values[:64], counts.mean(axis=0).ravel())
    np.testing.assert_allclose(data.values[64:], counts.var(axis=0, ddof=1).ravel())


@pytest.mark.slow
def test_object_light_gain_and_offset_are_recovered(frames):
    start = model("model.gain=1", "model.offset=90")
    data = start.read(frames)
    free = ["photons", "scene.absorption", "scene.diameter", "gain", "offset"]
    problem = pose(start, data, free, {"offset": {"mean": 100, "std": 1}})
    settings = Settings(starts=1, profiles=False, draws=0)
    found = calibrate(problem, data, settings, key=jax.random.key(4))
    off = (found.x - np.array([3000, 0.2, 2e-3, GAIN, OFFSET])) / found.expected_error.stderr
    assert np.all(np.abs(off) < 4)
    # gain by photon transfer: 2/(F - 1) of every variance, over the pixels
    assert found.expected_error.stderr[3] == pytest.approx(GAIN * np.sqrt(2 / (FRAMES - 1) / 64), rel=0.5)
    assert found.goodness.p_value > 1e-3


@pytest.mark.parametrize("excess", [1.0, 2.0])
def test_mean_and_variance_of_frames_scatter_by_the_law(excess):
    """Poisson electrons times a gain, exponential or none, with noise, 40000 sets; without the fourth cumulant not."""
    rng, x, gain, noise, count = np.random.default_rng(8), 2.0, 1.5, 0.4, 6
    electrons = rng.poisson(x, (40000, count))
    signal = rng.gamma(np.maximum(electrons, 1e-9)) * (electrons > 0) if excess == 2 else electrons
    drawn = gain * signal + gain * noise * rng.normal(size=(40000, count))
    variance, fourth = gain**2 * (excess * x + noise**2), gain**4 * x * fourth_moment(excess)
    for seen, expected in zip(
        (drawn.mean(axis=1), drawn.var(axis=1, ddof=1)), scatter(variance, fourth, count), strict=True
    ):
        squares = (seen - seen.mean()) ** 2
        assert abs(squares.mean() - expected) < 4 * squares.std() / 200
    assert squares.mean() - scatter(variance, 0.0, count)[1] > 4 * squares.std() / 200


def test_a_walk_that_does_not_fit_into_memory_is_refused():
    with pytest.raises(FieldError, match=r"walked: 1000000000 photons need .* GiB, at most 2 GiB"):
        model("model.walked=1000000000")


@pytest.mark.parametrize(
    "shape, told", [((4, 8, 9), "frames of 8 x 9, the model has 8 x 8"), ((1, 8, 8), "1 frame, accepted are two")]
)
def test_other_frames_are_refused(tmp_path, shape, told):
    path = tmp_path / "frames.npy"
    np.save(path, np.ones(shape, np.uint16))
    with pytest.raises(UserError, match=told):
        model().read(path)


@pytest.mark.parametrize(
    "more, told",
    [
        (["free=[optics.numerical_aperture]"], r"optics\.numerical_aperture.*no two derivatives"),
        (["free=[scene.colour]"], r"scene\.colour.*no traced parameter"),
        (["free=[photons]", "prior.colour={mean: 1, std: 1}"], r"colour: no traced parameter"),
        (["free=[photons]", "prior.photons={mean: 1 mm, std: 1}"], r"prior\.photons\.mean"),
        (["free=[photons]", "bounds.photons=[10, 100]"], r"photons: .*2000"),
    ],
)
def test_wrong_keys_are_one_line(noise, tmp_path, more, told):
    with pytest.raises(UserError, match=told):
        calibrate_job.run(compose([*SMALL, f"data={noise}", "logger=none", *more], name="calibrate"), tmp_path)
