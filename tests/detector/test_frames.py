"""Frames of pairs against their joint law: exact laws of an axis, moments, clicks, memory."""

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from slopes import check_slopes, once

from qtwin.core.errors import FieldError, UserError
from qtwin.core.params import efficiency, param, positive
from qtwin.detector.camera import AbstractCountingCamera, Camera
from qtwin.detector.frames import PairFrames, pair_law, photon_law


class Ideal(AbstractCountingCamera):
    """Clicks on every photon that it detects; no noise."""

    efficiency: jax.Array = param("", efficiency, "detection efficiency", 0.7)
    full_well: jax.Array = param("", positive, "electrons that a pixel holds", 1e9)
    frame_rate: jax.Array = param("Hz", positive, "frames per second", 40.0)

    @property
    def saturation(self):
        return self.full_well

    @property
    def excess(self):
        return jnp.ones(())

    @property
    def read_variance(self):
        return jnp.zeros(())

    def mean(self, photons, time):
        return self.efficiency * photons

    def variance(self, photons, time):
        return self.efficiency * photons

    def saturated(self, photons, time):
        return self.mean(photons, time), self.variance(photons, time)

    def sample(self, counts, time, *, rng):
        return rng.binomial(counts, float(self.efficiency))

    def click_probability(self, photons, time):
        return -jnp.expm1(-self.efficiency * photons)

    def detection_efficiency(self):
        return self.efficiency

    def sample_clicks(self, counts, time, *, rng):
        return self.sample(counts, time, rng=rng) > 0


moments = once(lambda light: light.moments())
click_moments = once(lambda light: light.click_moments())
laws, single_laws = (once(f, static_argnums=1) for f in (pair_law, photon_law))
arriving = once(lambda light: light.expect())
LIGHT = np.outer([1.0, 3.0, 2.0, 0.5], [0.2, 1.0, 2.0, 1.5, 0.0])
HOT = np.zeros((4, 5))
HOT[2, 1] = 0.8


def scene(camera=None, **changes) -> PairFrames:
    fields = {"illumination": LIGHT, "pairs": 3.0, "width": 0.8, "exposure": "20 ms", "transmission": 0.9}
    return PairFrames(camera or Ideal(), **(fields | {"background": HOT + 0.02} | changes))


def gather(frames) -> np.ndarray:
    return np.concatenate([f.counts for f in frames])


@pytest.mark.parametrize("width", [0.0, 0.3, 1.1, 4.0])
def test_law_of_an_axis_is_exact(width):
    """P(i, j | a) by a fine rule over the place and the distance, mass lost at the edges included."""
    size, a = 6, 2
    u = (np.arange(400) + 0.5) / 400
    d = width * stats.norm.ppf((np.arange(4000) + 0.5) / 4000) if width else np.zeros(1)
    i, j = np.floor(a + u[:, None] + d / 2).astype(int), np.floor(a + u[:, None] - d / 2).astype(int)
    inside = (i >= 0) & (i < size) & (j >= 0) & (j < size)
    expected = np.zeros((size, size))
    np.add.at(expected, (i[inside], j[inside]), 1 / i.size)
    law, single = (np.asarray(f(jnp.asarray(width), size)) for f in (laws, single_laws))
    np.testing.assert_allclose(law[:, :, a], expected, atol=2e-4)
    np.testing.assert_allclose(law, law.transpose(1, 0, 2), atol=1e-15)
    alone = np.bincount(i[(i >= 0) & (i < size)], minlength=size) / i.size
    np.testing.assert_allclose(single[:, a], alone, atol=2e-4)


def test_partners_share_a_pixel_without_width():
    """Perfect correlation: the joint law is diagonal, or on the mirrored pixel."""
    for mirrored in (False, True):
        joint = np.asarray(arriving(scene(width=0.0, mirrored=mirrored)).joint)
        pairs = 3.0 * 0.81 * LIGHT / LIGHT.sum()
        ij = np.einsum("ijij->ij", joint[:, :, ::-1, ::-1] if mirrored else joint)
        np.testing.assert_allclose(ij, pairs + (pairs[::-1, ::-1] if mirrored else pairs), rtol=1e-12)
        assert joint.sum() == pytest.approx(2 * pairs.sum(), rel=1e-12)


@pytest.mark.parametrize("mirrored", [False, True])
def test_drawn_frames_have_the_moments(mirrored):
    """Every mean and covariance of 20 pixels; the other kind of correlation would be noticed."""
    camera = Camera(0.7, 0.4, "3 Hz", 1e6)
    light = scene(camera, mirrored=mirrored)
    mean, covariance = (np.asarray(x).reshape(20, -1) for x in moments(light))
    n = 30_000
    x = gather(light.sample(n, key=jax.random.key(7))).reshape(n, 20)
    z = (x.mean(0) - mean[:, 0]) / np.sqrt(np.diag(covariance) / n)
    assert np.abs(z).max() < 4.5
    centred = x - mean[:, 0]
    products = centred[:, :, None] * centred[:, None, :]
    spread = products.std(0) / np.sqrt(n)
    assert np.abs((products.mean(0) - covariance) / spread).max() < 4.5
    other = np.asarray(moments(scene(camera, mirrored=not mirrored))[1]).reshape(20, 20)
    assert np.abs((products.mean(0) - other) / spread).max() > 8
    wide = np.asarray(moments(scene(camera, mirrored=mirrored, width=1.2))[1]).reshape(20, 20)
    assert np.abs((products.mean(0) - wide) / spread).max() > 5


def test_drawn_clicks_have_their_probabilities():
    """P_i and P_ij of a threshold camera; ln(1 + cov/silent^2) is mu_ij, the plain covariance is not."""
    light = scene(pairs=6.0)
    single, both = (np.asarray(x).reshape(20, -1) for x in click_moments(light))
    n = 60_000
    frames = list(light.sample_clicks(n, key=jax.random.key(11)))
    assert frames[0].counts.dtype == bool and frames[0].exposure == 0.02 and frames[0].period == 0.025
    c = gather(frames).reshape(n, 20).astype(float)
    found = c.T @ c / n
    z = (found - both) / np.sqrt(np.maximum(both * (1 - both), 1e-9) / n)
    assert np.abs(z).max() < 4.5
    np.testing.assert_allclose(np.diag(both), single[:, 0], rtol=1e-12)
    wrong = np.asarray(click_moments(scene(pairs=6.3))[1]).reshape(20, 20)
    assert np.abs((found - wrong) / np.sqrt(np.maximum(both * (1 - both), 1e-9) / n)).max() > 5
    silent = 1 - single[:, 0]
    covariance = both - np.outer(single, single)
    mu = 0.7**2 * np.asarray(arriving(light).joint).reshape(20, 20)
    off = ~np.eye(20, dtype=bool)
    np.testing.assert_allclose(np.log1p(covariance / np.outer(silent, silent))[off], mu[off], rtol=1e-9, atol=1e-15)
    strong = off & (mu > 0.03)
    assert np.abs(covariance[strong] / mu[strong] - 1).min() > 0.1


def test_hot_pixels_and_limits():
    """Background alone is Poisson on its pixel; no pairs, no correlation."""
    dark = scene(pairs=0.0)
    counts = gather(dark.sample(20_000, key=jax.random.key(12)))
    mean = 0.7 * (HOT + 0.02)
    assert np.abs((counts.mean(0) - mean) / np.sqrt(mean / 20_000)).max() < 4.5
    assert float(jnp.abs(arriving(dark).joint).max()) == 0
    assert len(gather(scene(background=0.0).sample(3, key=jax.random.key(0)))) == 3


def test_same_key_same_frames_and_bounded_memory():
    light = scene(illumination=np.ones((64, 64)), pairs=400.0, background=0.0)
    first = gather(light.sample(500, key=jax.random.key(13)))
    np.testing.assert_array_equal(first, gather(light.sample(500, key=jax.random.key(13))))
    limit = 10_000_000
    tracemalloc.start()
    try:
        seen = sum(len(f) for f in light.sample(500, key=jax.random.key(13), memory_limit=limit))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seen == 500 and peak < limit
    with pytest.raises(UserError, match="memory_limit"):
        light.sample(500, key=jax.random.key(13), memory_limit=1000)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"illumination": np.ones(5)}, "illumination"),
        ({"illumination": np.zeros((4, 5))}, "illumination"),
        ({"illumination": -LIGHT}, "illumination"),
        ({"background": np.ones((5, 4))}, "background"),
        ({"width": -0.1}, "width"),
        ({"pairs": np.nan}, "pairs"),
        ({"transmission": 1.1}, "transmission"),
    ],
)
def test_frames_that_cannot_be_are_refused(changes, key):
    with pytest.raises(FieldError, match=key):
        scene(**changes)


def test_what_only_a_use_can_refuse():
    with pytest.raises(FieldError, match="pixels"):
        scene(illumination=np.ones((65, 64)), background=0.0).expect()
    with pytest.raises(FieldError, match="counts photons"):
        scene(Camera(0.7, 0.4, "3 Hz", 1e6)).sample_clicks(10, key=jax.random.key(0))
    with pytest.raises(FieldError, match="count"):
        scene().sample(0, key=jax.random.key(0))


def test_gradients():
    """Clicks in pairs, width, transmission, background and a pixel of the illumination."""
    weights = jnp.asarray(np.random.default_rng(14).random((4, 5, 4, 5)))

    def read(x):
        changes = {"pairs": x[0], "width": x[1], "transmission": x[2], "background": x[3] * jnp.asarray(HOT)}
        light = scene(**changes, illumination=jnp.asarray(LIGHT).at[1, 2].set(x[4]))
        return jnp.sum(weights * light.click_moments()[1])

    check_slopes(read, jnp.array([3.0, 0.8, 0.9, 0.5, 6.0]))
