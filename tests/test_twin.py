"""The whole twin: both readings, gradients with errors, and how it is used from Python."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qtwin.core.config import compose
from qtwin.core.errors import UserError
from qtwin.design.sensitivity import field, put, sensitivity
from qtwin.detector import SinglePhoton
from qtwin.detector.afterpulsing import Exponentials
from qtwin.detector.emccd import EMCCD
from qtwin.estimator.linear import variance
from qtwin.tissue.walk import BLOCKS
from qtwin.twin import Twin, twin_from

SMALL = ["optics.pixels=8", "optics.pitch=300um", "scene.x=200um", "scene.diameter=1mm", "scene.absorption=0.4"]
PHOTONS = 300.0


@pytest.fixture(scope="module")
def twin():
    return twin_from(compose([*SMALL, "source.waist=0.5mm"]))


@pytest.fixture(scope="module")
def walk(twin):
    return twin.walk(key=jax.random.key(20), photons=65536)


def z_scores(counts, mean, blocks, scale):
    """z of the mean over exposures of every superpixel; the walk's error included."""
    shots = len(counts)
    walk = scale * np.asarray(blocks).std(axis=0, ddof=1) / np.sqrt(BLOCKS)
    return (counts.mean(axis=0) - mean) / np.sqrt(counts.var(axis=0, ddof=1) / shots + walk**2)


@pytest.fixture(scope="module")
def carried(twin):
    return [twin.sample(PHOTONS, key=jax.random.key(100 + i)) for i in range(20)]


@pytest.mark.parametrize("protocol", ["twin_beams", "ghost"])
def test_sample_agrees_with_expect_in_mean_variance_and_pairing(twin, walk, carried, protocol):
    expectation, blocks = twin.expect(walk, PHOTONS), twin.blocks(walk)
    records = getattr(expectation, protocol)
    x = np.array([getattr(c, protocol)[0] for c in carried])
    y = np.array([getattr(c, protocol)[1] for c in carried])
    image = blocks.direct if protocol == "twin_beams" else blocks.ghost
    z_x = z_scores(x, np.asarray(records.x), image, float(records.x.sum() / image.mean(axis=0).sum()))
    z_y = (y.mean(axis=0) - np.asarray(records.y)) / (y.std(axis=0, ddof=1) / np.sqrt(len(y)))
    for z in (z_x, z_y):  # Student's t with 19 degrees of freedom has a variance of 19/17
        assert abs(np.mean(z**2) - 19 / 17) < 4 * np.sqrt(2 / z.size) * 1.3
    k = len(x)
    common = np.sum((x - x.mean(axis=0)) * (y - y.mean(axis=0)), axis=(1, 2)) * k / (k - 1)
    expected = float(records.joint[1, 1].sum())
    spread = np.sqrt(float(jnp.sum(records.x * records.y + records.joint[1, 1] ** 2)) / k)
    assert abs(common.mean() - expected) < 4 * spread
    own = float(jnp.sum(records.x + records.noise_x))
    total = np.sum(x.var(axis=0, ddof=1))
    error = np.sqrt(2 * float(jnp.sum((records.x + records.noise_x) ** 2)) / (k - 1))
    assert abs(total - own) < 4 * error


def test_devices_with_every_effect_are_read_both_ways(twin, walk):
    """Electron multiplication on the camera; afterpulses, recovery and a tail of the jitter on the diodes."""
    camera = EMCCD(0.9, 30.0, 20.0, "1 Hz", 0.5, 1e-4, 1e5, 4e5, "50 Hz")
    traps = Exponentials(0.08, [1.0], ["60 ns"])
    diode = SinglePhoton(0.6, "150 Hz", "24 ns", "300 ps", "5 ns", jitter_tail="0.4 ns", afterpulsing=traps)
    other = Twin(twin.source, twin.optics, twin.scene, twin.tissue, camera, diode, twin.correlation)
    expectation, blocks = other.expect(walk, PHOTONS), twin.blocks(walk)
    shots = [other.sample(PHOTONS, key=jax.random.key(150 + i)) for i in range(16)]
    for protocol in ("twin_beams", "ghost"):
        records = getattr(expectation, protocol)
        image = np.asarray(blocks.direct if protocol == "twin_beams" else blocks.ghost).sum(axis=(1, 2))
        for i, (mean, noise, walked) in enumerate(
            ((records.x, records.noise_x, image), (records.y, records.noise_y, np.ones(BLOCKS)))
        ):
            drawn = np.array([getattr(shot, protocol)[i] for shot in shots])
            total, variance = float(mean.sum()), mean + noise
            shared = total * walked.std(ddof=1) / walked.mean() / np.sqrt(BLOCKS)
            error = np.hypot(np.sqrt(float(variance.sum()) / len(shots)), shared)
            assert abs(drawn.sum(axis=(1, 2)).mean() - total) < 4 * error
            spread = np.sqrt(2 * float((variance**2).sum()) / (len(shots) - 1))
            assert abs(drawn.var(axis=0, ddof=1).sum() - float(variance.sum())) < 4 * spread
        assert float(records.noise_y.sum()) > 0.05 * float(records.y.sum())


@pytest.mark.parametrize(
    ("protocol", "path"),
    [
        ("twin_beams", "optics.collection_transmission"),
        ("twin_beams", "camera.efficiency"),
        ("ghost", "optics.idler_transmission"),
        ("ghost", "detector.efficiency"),
    ],
)
def test_a_parameter_wrong_by_five_standard_errors_is_rejected(twin, walk, carried, protocol, path):
    counts = np.array([getattr(c, protocol)[0].sum() for c in carried])
    blocks = twin.blocks(walk)
    light = np.asarray((blocks.direct if protocol == "twin_beams" else blocks.ghost).sum(axis=(1, 2)))

    def total(t):
        return float(getattr(t.moments(jax.tree.map(lambda a: jnp.mean(a, axis=0), blocks), PHOTONS), protocol).x.sum())

    mean = total(twin)
    error = np.hypot(np.sqrt(mean / len(counts)), mean * light.std(ddof=1) / np.sqrt(BLOCKS) / light.mean())
    assert abs(counts.mean() - mean) < 3 * error
    leaf = field(twin, path)
    slope = (total(put(twin, path, leaf * 1.001)) - mean) / 0.001  # counts per relative change
    for sign in (1, -1):
        wrong = total(put(twin, path, leaf * (1 + sign * 5 * error / slope)))
        assert abs(counts.mean() - wrong) > 3 * error


def test_ensemble_by_thinning_agrees_with_expect(twin, walk):
    expectation = twin.expect(walk, PHOTONS)
    for name, (x, y) in twin.ensemble(expectation, 400, key=jax.random.key(3)).items():
        records = getattr(expectation, name)
        z_x = (np.asarray(x).mean(axis=0) - records.x) / np.sqrt((records.x + records.noise_x) / 400)
        z_y = (np.asarray(y).mean(axis=0) - records.y) / np.sqrt((records.y + records.noise_y) / 400)
        for z in (z_x, z_y):
            assert abs(float(jnp.mean(z**2)) - 1) < 4 * np.sqrt(2 / 64)


def information(twin, images):
    """A scalar that every parameter of the chain moves: precision of both protocols, summed over superpixels."""
    expectation = twin.moments(images, jnp.asarray(PHOTONS))
    beams = variance(expectation.twin_beams, twin.calibration("optimal", expectation))
    ghosts = variance(expectation.ghost, twin.calibration("ratio", expectation))
    return -jnp.log(jnp.sum(beams)) - jnp.log(jnp.sum(ghosts))


CLOSED = [
    "source.waist",
    "source.crystal_length",
    "source.pump_power",
    "optics.focal_length",
    "optics.collection_transmission",
    "optics.idler_transmission",
    "camera.efficiency",
    "camera.read_noise",
    "detector.efficiency",
    "detector.dark_rate",
    "detector.dead_time",
    "detector.jitter",
    "correlation.window",
    "scene.absorption",
    "scene.diameter",
]
WALKED = ["tissue.thickness", "tissue.mu_a", "tissue.mu_s", "tissue.g", "tissue.depth"]


@pytest.fixture(scope="module")
def slopes(twin, walk):
    return sensitivity(information, twin, walk, CLOSED + WALKED)


def mean_of(twin, walk):
    return jax.tree.map(lambda a: jnp.mean(a, axis=0), twin.blocks(walk))


@pytest.mark.slow
def test_gradient_of_the_mean_is_the_gradient_with_errors(twin, walk, slopes):
    numbers, rest = eqx.partition(twin, eqx.is_inexact_array)

    def objective(numbers):
        whole = eqx.combine(numbers, rest)
        return information(whole, mean_of(whole, walk))

    reverse = jax.grad(objective)(numbers)
    for path, slope in slopes.items():
        leaf = reverse
        for place in path.split("."):
            leaf = getattr(leaf, place)
        np.testing.assert_allclose(slope.gradient, leaf, rtol=1e-9, atol=1e-12 * float(jnp.abs(leaf).max()))


@pytest.mark.slow
@pytest.mark.parametrize("path", CLOSED)
def test_gradient_equals_finite_difference_on_the_same_walk(twin, walk, slopes, path):
    leaf = field(twin, path)
    h = 1e-4 * leaf
    up, down = put(twin, path, leaf + h), put(twin, path, leaf - h)
    difference = (information(up, mean_of(up, walk)) - information(down, mean_of(down, walk))) / (2 * h)
    np.testing.assert_allclose(slopes[path].gradient, difference, rtol=1e-4)


@pytest.mark.slow
def test_walked_gradients_are_carry_their_error(slopes):
    for path in ("tissue.thickness", "tissue.mu_s", "tissue.g"):
        s = slopes[path]
        assert float(s.gradient_stderr[0] / abs(s.gradient[0])) < 0.03, path
        assert float(s.objective_stderr) < 0.01


def test_unknown_path_names_what_exists(twin):
    with pytest.raises(UserError, match=r"tissue\.mu_x: not a traced parameter.*tissue\.mu_s"):
        field(twin, "tissue.mu_x")


def test_vmap_over_a_parameter_equals_a_loop(twin, walk):
    waists = jnp.asarray([0.4e-3, 0.6e-3])

    def pairs(waist):
        return jnp.sum(put(twin, "source.waist", waist).expect(walk).twin_beams.joint[1, 1])

    together = jax.vmap(pairs)(waists)
    np.testing.assert_allclose(together, [pairs(w) for w in waists], rtol=1e-10)
    assert together[1] > together[0], "a wider pump correlates more tightly"


def test_same_key_same_bits_and_zero_is_a_seed(twin):
    first, again = (twin.sample(20.0, key=jax.random.key(0)) for _ in range(2))
    other = twin.sample(20.0, key=jax.random.key(1))
    assert np.array_equal(first.twin_beams[0], again.twin_beams[0])
    assert np.array_equal(first.ghost[0], again.ghost[0])
    assert not np.array_equal(first.twin_beams[0], other.twin_beams[0])


def test_twin_prints_itself_with_units(twin):
    text = str(twin)
    for words in ("waist = 500 µm", "thickness = 50 µm", "window = 2 ns", "mu_s = 10.1 /mm", "dead_time = 24 ns"):
        assert words in text


def test_the_walk_refuses_more_than_the_memory_limit(twin):
    with pytest.raises(UserError, match=r"walk\.photons: 100000000 photons need .* GiB, memory_limit is 1 GiB"):
        twin.walk(key=jax.random.key(0), photons=100_000_000, memory_limit=2**30)
