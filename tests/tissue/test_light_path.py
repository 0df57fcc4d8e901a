"""Two readings of one light path: probabilities averaged over a walk, and pairs carried one by one."""

from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.interpolate import RegularGridInterpolator

from qtwin.estimator.twin_beams import histogram, pixel_of
from qtwin.optics import FarField
from qtwin.scene import Lesion
from qtwin.source import SPDC
from qtwin.tissue import LightPath, Slab, fates, walk
from qtwin.tissue.images import image_position
from qtwin.tissue.walk import BLOCKS

N, PITCH, FINE = 8, 1e-4, 4
PHOTONS, PAIRS = 65_536, 262_144
OFFSETS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]


def light_path(absorption=0.7, diameter=3.5e-4, numerical_aperture=0.4, astray=(), **tissue) -> LightPath:
    """Beam of 0.44 mm, partners 86 um apart (half the neighbours are hit), a lesion right of and above the axis."""
    source = SPDC(
        pump_wavelength=405e-9,
        signal_wavelength=790e-9 if astray else 810e-9,
        crystal_length=2e-3,
        waist=6e-5,
        pump_power=3e-3,
        bandwidth=10e-9,
    )
    optics = FarField(
        focal_length=0.04,
        numerical_aperture=numerical_aperture,
        pitch=PITCH,
        illumination_transmission=1.0,
        collection_transmission=0.8,
        idler_transmission=0.8,
        pixels=N,
        fine=FINE,
        **dict(astray),
    )
    values = {"thickness": 5e-5, "depth": 2e-5, "mu_a": 50.0, "mu_s": 1e4, "g": 0.9, "n": 1.4}
    return LightPath(source, optics, Lesion(diameter, absorption, 1.3e-4, -0.8e-4), Slab(**(values | tissue)))


THIN = light_path()
# many photons cross the object more than once
# every part out of place: unlike photons, partners 86 um apart, their middles 90 and -71 um
ASTRAY = light_path(
    astray={
        "pump_tilt_x": 0.9e-3,
        "pump_tilt_y": -0.5e-3,
        "defocus": 0.25e-1,
        "idler_x": 1.6e-4,
        "idler_y": -1.1e-4,
        "drift_x": 1.7e-4,
        "drift_y": -0.9e-4,
    }
)
THICK = light_path(0.9, 6.5e-4, 0.9, thickness=1e-3, depth=6e-4, mu_a=50.0, mu_s=1e4, g=0.5, n=1.4)


def walked(path, seed, photons=PHOTONS):
    return walk(path.tissue, key=jax.random.key(seed), photons=photons, aperture=float(path.optics.numerical_aperture))


def expected(path, walk):
    """Images: mean of the blocks, and its standard error."""
    blocks = jax.tree.map(np.asarray, path.images(walk))
    mean = jax.tree.map(lambda a: a.mean(axis=0), blocks)
    return mean, jax.tree.map(lambda a: a.std(axis=0, ddof=1) / np.sqrt(BLOCKS), blocks)


class Both(NamedTuple):
    """One configuration, read both ways."""

    path: LightPath
    walk: object
    mean: object
    error: object
    exposure: object


def both(path, seed) -> Both:
    w = walked(path, seed)
    return Both(path, w, *expected(path, w), path.sample(PAIRS, key=jax.random.key(seed + 1)))


@pytest.fixture(scope="module")
def thin():
    return both(THIN, 151)


@pytest.fixture(scope="module")
def thick():
    return both(THICK, 161)


@pytest.fixture(scope="module")
def astray():
    return both(ASTRAY, 171)


@pytest.fixture(params=["thin", "thick", "astray"])
def config(request):
    return request.getfixturevalue(request.param)


def scores(counts, p, error=0.0):
    """z of counts of PAIRS pairs against probabilities with standard errors of their own.

    Normal score of the mid-P value of Poisson's law: a few counts have tails that no normal law has.
    """
    mean = PAIRS * np.maximum(p, 1e-300)
    below = stats.poisson.cdf(counts, mean) - stats.poisson.pmf(counts, mean) / 2
    above = stats.poisson.sf(counts, mean) + stats.poisson.pmf(counts, mean) / 2
    z = np.where(below < above, stats.norm.ppf(below), stats.norm.isf(above))
    return z / np.sqrt(1 + PAIRS * np.square(error) / np.maximum(p, 1e-300))


def agrees(z) -> bool:
    """Chi-square and the largest deviation, both at a chance of about 1e-4."""
    return np.sum(z**2) < stats.chi2.ppf(1 - 1e-4, z.size) and np.abs(z).max() < stats.norm.isf(0.5e-4 / z.size)


def joint_counts(exposure, optics):
    """Seen signals in (y, x) whose idler meets (y + dy, x + dx), beyond the edge too, [3, 3, n, n]."""
    sy, sx, s_in = pixel_of(exposure.signal, optics)
    iy, ix, _ = pixel_of(exposure.idler, optics)
    keep = np.asarray(exposure.seen) & s_in & (abs(iy - sy) <= 1) & (abs(ix - sx) <= 1)
    table = np.zeros((3, 3, N, N))
    np.add.at(table, ((1 + iy - sy)[keep], (1 + ix - sx)[keep], sy[keep], sx[keep]), 1)
    return table


# --- images against photons ------------------------------------------------------------------------------------


def test_direct_image(config):
    counts = histogram(config.exposure.signal, config.exposure.seen, config.path.optics)
    assert agrees(scores(counts, config.mean.direct, config.error.direct))
    for wrong in (config.mean.direct.T, config.mean.direct[::-1], config.mean.direct[:, ::-1]):
        assert not agrees(scores(counts, wrong, config.error.direct))
    assert not agrees(scores(counts, config.mean.direct_open, config.error.direct_open))


def test_ghost_image(config):
    counts = histogram(config.exposure.idler, config.exposure.seen, config.path.optics)
    assert agrees(scores(counts, config.mean.ghost, config.error.ghost))
    for wrong in (config.mean.ghost.T, config.mean.ghost[::-1], config.mean.ghost[:, ::-1]):
        assert not agrees(scores(counts, wrong, config.error.ghost))


@pytest.mark.parametrize(("dy", "dx"), OFFSETS)
def test_joint_counts(config, dy, dx):
    counts = joint_counts(config.exposure, config.path.optics)[1 + dy, 1 + dx]
    mean, error = config.mean.joint[1 + dy, 1 + dx], config.error.joint[1 + dy, 1 + dx]
    total = (counts.sum() / PAIRS - mean.sum()) / np.sqrt(mean.sum() / PAIRS + np.sum(error) ** 2)
    assert abs(total) < 4
    assert agrees(scores(counts, mean, error))


def test_a_flipped_offset_is_noticed(thin):
    """Idlers lie nearer to the axis than their signals: on the right they are rather in the left neighbour."""
    counts = joint_counts(thin.exposure, thin.path.optics)
    for wrong in (thin.mean.joint[::-1], thin.mean.joint[:, ::-1], thin.mean.joint.transpose(1, 0, 2, 3)):
        assert not agrees(scores(counts, wrong, thin.error.joint))
    assert agrees(scores(counts, thin.mean.joint, thin.error.joint))


def test_idler_image(config):
    counts = histogram(config.exposure.idler, np.ones(PAIRS, bool), config.path.optics)
    assert agrees(scores(counts, np.asarray(config.path.idler_image())))


def test_a_shifted_camera_moves_the_idler_image():
    """Columns follow idler_x, rows idler_y: a normal law about the shift; a drift blurs along its own direction."""

    def images(**astray):
        return np.asarray(light_path(astray=astray).idler_image())

    beam = float(ASTRAY.optics.beam_widths(ASTRAY.source)[1])  # of the same unlike photons
    edges = (np.arange(N + 1) - N / 2) * PITCH
    x, y = (np.diff(stats.norm.cdf(edges, shift, beam)) for shift in (6e-5, -2e-5))
    np.testing.assert_allclose(images(idler_x=6e-5, idler_y=-2e-5), y[:, None] * x[None, :], rtol=1e-9)
    still, swept = images(drift_x=0.0), images(drift_x=8e-4)
    along, across = (swept.sum(axis) / swept.sum() - still.sum(axis) / still.sum() for axis in (0, 1))
    assert along[0] > 1e-3 and abs(along[0] - along[-1]) < 1e-12 and np.abs(across).max() < 1e-12


def test_accepted_light_and_open_images(thin):
    """The object taken out: the same light falls everywhere."""
    path = light_path(absorption=0.0)
    exposure = path.sample(PAIRS, key=jax.random.key(153))
    optics = path.optics
    z = scores(np.sum(np.asarray(exposure.seen)), thin.mean.accepted, thin.error.accepted)
    assert abs(z) < 4
    for counts, name in (
        (histogram(exposure.signal, exposure.seen, optics), "direct_open"),
        (histogram(exposure.idler, exposure.seen, optics), "ghost_open"),
        (joint_counts(exposure, optics)[1, 1], "joint_open"),
    ):
        assert agrees(scores(counts, getattr(thin.mean, name), getattr(thin.error, name)))


def test_absorbed_light_of_carried_photons():
    """Mean of 1 - survival against the absorptance of a walk; specular light is not absorbed."""
    path = light_path(absorption=0.0, mu_a=4e3)
    lost = 1 - np.asarray(path.sample(PAIRS, key=jax.random.key(154)).survival)
    blocks = np.asarray(fates(path.tissue, walked(path, 155)).absorptance)
    error = np.hypot(lost.std() / np.sqrt(PAIRS), blocks.std(ddof=1) / np.sqrt(BLOCKS))
    assert abs(lost.mean() - blocks.mean()) / error < 4


def score_of_all(counts, mean, error):
    """z of the whole image; errors of a walk add up at worst."""
    return (counts.sum() / PAIRS - mean.sum()) / np.sqrt(mean.sum() / PAIRS + np.sum(error) ** 2)


def test_photons_that_cross_several_times_are_needed(thick):
    """Without them the direct image is too dark."""
    without, error = expected(thick.path, eqx.tree_at(lambda w: w.again, thick.walk, ()))
    counts = histogram(thick.exposure.signal, thick.exposure.seen, thick.path.optics)
    assert abs(score_of_all(counts, thick.mean.direct, thick.error.direct)) < 4
    assert score_of_all(counts, without.direct, error.direct) > 4


def test_absorption_counts_at_every_crossing(thick):
    """Were only the first crossing counted, T instead of T^k, the ghost image would be too bright."""
    later = [a._replace(crossed_at=a.crossed_at.at[:, :, 1:].set(1.0)) for a in thick.walk.again]  # in the clear
    wrong, error = expected(thick.path, eqx.tree_at(lambda w: w.again, thick.walk, tuple(later)))
    counts = histogram(thick.exposure.idler, thick.exposure.seen, thick.path.optics)
    assert abs(score_of_all(counts, thick.mean.ghost, thick.error.ghost)) < 4
    assert score_of_all(counts, wrong.ghost, error.ghost) < -4


# --- many exposures --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exposures(thin):
    """Counts x, y [240, n, n] of exposures of a Poisson number of pairs, mean 1000."""
    numbers = np.random.default_rng(156).poisson(1000, 240)
    exposure = np.repeat(np.arange(len(numbers)), numbers)
    assert len(exposure) <= PAIRS
    counts = []
    for positions, keep in ((thin.exposure.signal, thin.exposure.seen), (thin.exposure.idler, np.ones(PAIRS, bool))):
        row, column, inside = (a[: len(exposure)] for a in pixel_of(positions, thin.path.optics))
        keep = np.asarray(keep)[: len(exposure)] & inside
        place = (exposure * N + row) * N + column
        counts.append(np.bincount(place[keep], minlength=len(numbers) * N * N).reshape(-1, N, N))
    return counts


def test_counts_of_exposures_are_poisson(thin, exposures):
    """Mean and variance of every record: sum of (n - m)^2/m has mean 1 and variance 2 + 1/m per count."""
    for counts, p in zip(exposures, (thin.mean.direct, np.asarray(thin.path.idler_image())), strict=True):
        m = 1000 * p
        z = (counts.mean(axis=0) - m) / np.sqrt(m / len(counts) + (1000 * thin.error.direct) ** 2)
        assert agrees(z)
        spread = np.sum((counts - m) ** 2 / m)
        assert abs(spread - counts.size) / np.sqrt(len(counts) * np.sum(2 + 1 / m)) < 4


@pytest.mark.parametrize(("dy", "dx"), OFFSETS)
def test_covariance_of_exposures_is_the_joint_image(thin, exposures, dy, dx):
    x, y = exposures
    here = np.s_[:, max(0, -dy) : N - max(0, dy), max(0, -dx) : N - max(0, dx)]
    there = np.s_[:, max(0, dy) : N + min(0, dy), max(0, dx) : N + min(0, dx)]
    p = thin.mean.direct[here[1:]], np.asarray(thin.path.idler_image())[there[1:]]
    products = np.sum((x[here] - 1000 * p[0]) * (y[there] - 1000 * p[1]), axis=(1, 2))
    total = 1000 * thin.mean.joint[1 + dy, 1 + dx][here[1:]].sum()
    assert abs(products.mean() - total) / (products.std(ddof=1) / np.sqrt(len(x))) < 4
    assert abs(products.mean()) / (products.std(ddof=1) / np.sqrt(len(x))) > 2  # there is something to see


# --- limits ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clear():
    """No scattering, n = 1: everything goes straight."""
    path = light_path(mu_s=0.0, mu_a=3e3, n=1.0)
    w = walked(path, 157)
    return path, w, jax.tree.map(lambda a: np.asarray(a).mean(axis=0), path.images(w))


def fine_map(path, per_superpixel=64):
    """Positions within every superpixel, brightness there and transmission, by a bilinear map made apart."""
    grid = path.scene.grid(N, FINE, path.optics.pitch)
    cells = (np.arange(N * FINE + 2) - (N * FINE + 1) / 2) * PITCH / FINE
    padded = np.pad(np.asarray(grid.values), 1, constant_values=1)
    look = RegularGridInterpolator((cells, cells), padded)
    at = ((np.arange(N * per_superpixel) + 0.5) / per_superpixel - N / 2) * PITCH
    y, x = np.meshgrid(at, at, indexing="ij")
    beam = float(path.optics.beam_widths(path.source)[0])
    light = np.exp(-(x**2 + y**2) / (2 * beam**2)) / (2 * np.pi * beam**2) * PITCH**2
    return light, look(np.stack([y, x], axis=-1)), per_superpixel


def over_superpixels(image, k):
    return image.reshape(N, k, N, k).mean(axis=(1, 3))


def test_no_scattering_is_beer_lambert_times_the_object(clear):
    """exp(-mu_a d) times the mean over a superpixel of beam times object, which diffraction (0.5 um) hardly changes."""
    path, _, images = clear
    light, through, k = fine_map(path)
    straight = np.exp(-3e3 * 5e-5)
    for found, integrand in ((images.direct, light * through), (images.direct_open, light)):
        np.testing.assert_allclose(found / straight, over_superpixels(integrand, k), rtol=1e-4)
    np.testing.assert_allclose(images.accepted, straight, rtol=1e-9)


def test_no_scattering_shows_the_means_of_the_object_in_its_superpixels(clear):
    """Where the object is even over a superpixel and its rim the ratio to the open image is its transmission.

    To the error of the quadrature over the soft edge (0.5 um) of a superpixel.
    """
    path, _, images = clear
    ratio = images.direct / images.direct_open
    grid = np.asarray(path.scene.grid(N, FINE, path.optics.pitch).values)
    rim = np.pad(grid, 1, constant_values=1)
    low, high = (
        np.array([[f(rim[4 * i : 4 * i + 6, 4 * j : 4 * j + 6]) for j in range(N)] for i in range(N)])
        for f in (np.min, np.max)
    )
    even = high - low < 1e-9
    np.testing.assert_allclose(ratio[even], high[even], rtol=1e-6)
    assert even.sum() > 20 and high[even].min() == pytest.approx(0.3)  # clear and covered ones
    assert np.all((ratio > low - 1e-6) & (ratio < high + 1e-9))


def test_no_scattering_spreads_by_diffraction_and_by_the_partner(clear):
    """Second moments: the diffraction spot, and the width of the partner about its mean."""
    path, _, images = clear
    _, partner = path.optics.partner(path.source)
    for moment, width in (
        (images.variance_direct, path.optics.blur(path.source)),
        (images.variance_ghost, partner),
    ):
        np.testing.assert_allclose(moment / images.accepted, float(width) ** 2, rtol=1e-9)
    assert images.spread_direct.argmax() == images.spread_direct.size // 2
    np.testing.assert_allclose(images.spread_ghost.sum(), images.accepted, rtol=1e-9)


def test_open_joint_image_without_scattering_is_the_bivariate_normal_law(clear):
    """P(signal and idler in one superpixel), product of two axes by quadrature over the signal."""
    path, _, images = clear
    shrink, width = (float(v) for v in path.optics.partner(path.source))
    beam, k = float(path.optics.beam_widths(path.source)[0]), 400
    at = ((np.arange(N * k) + 0.5) / k - N / 2) * PITCH
    low = np.repeat((np.arange(N) - N / 2) * PITCH, k)
    idler = stats.norm.cdf((low + PITCH - (1 - shrink) * at) / width) - stats.norm.cdf(
        (low - (1 - shrink) * at) / width
    )
    axis = (stats.norm.pdf(at, scale=beam) * idler).reshape(N, k) * PITCH
    mean = axis.mean(axis=1)
    np.testing.assert_allclose(images.joint_open / np.exp(-0.15), mean[:, None] * mean[None, :], rtol=1e-3)


def test_a_lens_sees_a_ray_from_the_object_where_it_started():
    """A straight ray through d of index n leaves d tan(t) aside and seems to come from d/n below: no shift to
    first order in the angle, and the third order of a plane plate, d t^3 (n^2 - 1)/(2 n^3), beyond it."""
    n, d = 1.4, 3e-4
    for sine in (1e-3, -0.05):
        inside = np.arcsin(sine / n)
        shift = jnp.asarray([d * np.tan(inside), 0.0])
        found = float(image_position(jnp.asarray([sine, 0.0]), shift, d / n)[0])
        assert found == pytest.approx(-d * sine**3 * (n**2 - 1) / (2 * n**3), rel=5 * sine**2, abs=1e-18)


def test_same_key_same_pairs_and_another_key_others():
    a, b, c = (THIN.sample(PAIRS, key=jax.random.key(s)) for s in (0, 0, 1))
    for u, v in zip(a, b, strict=True):
        np.testing.assert_array_equal(u, v)
    assert not np.array_equal(a.idler, c.idler) and not np.array_equal(a.seen, c.seen)


# --- derivatives -----------------------------------------------------------------------------------------------

FIELDS = {
    "waist": lambda p: p.source.waist,
    "crystal_length": lambda p: p.source.crystal_length,
    "depth": lambda p: p.tissue.depth,
    "thickness": lambda p: p.tissue.thickness,
    "mu_a": lambda p: p.tissue.mu_a,
    "mu_s": lambda p: p.tissue.mu_s,
    "g": lambda p: p.tissue.g,
}
WEIGHTS = np.linspace(0.2, 1.5, N)[None, :] * np.linspace(1.2, 0.4, N)[:, None] ** 2


def scaled(path, factors):
    """The path with every field of FIELDS multiplied by its factor."""
    for factor, where in zip(factors, FIELDS.values(), strict=True):
        path = eqx.tree_at(where, path, where(path) * factor)
    return path


def figures(path, walk):
    """Weighted sums of the direct, ghost and one joint image, and both second moments, per block, [5, BLOCKS]."""
    images, w = path.images(walk), jnp.asarray(WEIGHTS)[None]
    sums = [jnp.sum(w * a, axis=(1, 2)) for a in (images.direct, images.ghost, images.joint[:, 1, 2])]
    return jnp.stack([*sums, images.variance_direct / PITCH**2, images.variance_ghost / PITCH**2])


def value(path, walk, factors):
    return figures(scaled(path, factors), walk)


@jax.jit
def slope(path, walk, factors, along):
    return jax.jvp(lambda f: figures(scaled(path, f), walk), (factors,), (along,))[1]


ONES = jnp.ones(len(FIELDS))


def direction(name):
    return jnp.asarray([float(name == n) for n in FIELDS])


@pytest.mark.parametrize("name", ["waist", "crystal_length", "thickness", "mu_a", "depth"])
def test_derivatives_without_scattering(clear, thin, name):
    """Logarithmic derivatives against central differences, and -mu_a d for absorption and thickness."""
    path, w, _ = clear
    nobody = tuple(a._replace(boost=jnp.zeros_like(a.boost)) for a in thin.walk.again)  # shapes compiled already
    w = eqx.tree_at(lambda v: v.again, w, nobody)
    along = direction(name)
    exact = np.asarray(slope(path, w, ONES, along)).mean(axis=1)
    level = np.asarray(value(path, w, ONES)).mean(axis=1)
    h = 1e-6
    difference = np.asarray(value(path, w, ONES + h * along) - value(path, w, ONES - h * along)).mean(axis=1) / (2 * h)
    np.testing.assert_allclose(exact, difference, rtol=1e-5, atol=1e-8 * level.max())
    if name in ("mu_a", "thickness"):
        np.testing.assert_allclose(exact, -3e3 * 5e-5 * level, rtol=1e-9)
    if name == "depth":
        np.testing.assert_array_equal(exact, 0)
    if name in ("waist", "crystal_length"):
        assert np.all(np.abs(exact[:3]) > 1e-3 * level[:3])


@pytest.mark.parametrize("name", list(FIELDS))
def test_derivatives_of_one_walk(thin, name):
    """With scattering, the same walk read at neighbouring parameters: every field, to 1e-5."""
    along, h = direction(name), 1e-6
    exact = np.asarray(slope(thin.path, thin.walk, ONES, along)).mean(axis=1)
    ends = [value(thin.path, thin.walk, ONES + s * h * along) for s in (1, -1)]
    difference = np.asarray(ends[0] - ends[1]).mean(axis=1) / (2 * h)
    level = np.asarray(value(thin.path, thin.walk, ONES)).mean(axis=1)
    np.testing.assert_allclose(exact, difference, rtol=1e-5, atol=1e-7 * level.max())
    assert np.all(exact[:3] != 0)


@pytest.mark.slow
def test_reverse_mode_is_forward_mode(thin):
    def total(factors):
        return jnp.sum(jnp.mean(figures(scaled(thin.path, factors), thin.walk), axis=1))

    gradient = jax.jit(jax.grad(total))(ONES)
    for name, found in zip(FIELDS, gradient, strict=True):
        forward = float(np.asarray(slope(thin.path, thin.walk, ONES, direction(name))).mean(axis=1).sum())
        assert float(found) == pytest.approx(forward, rel=1e-9, abs=1e-12), name


STEPS = {"depth": 0.2, "thickness": 0.1, "mu_a": 0.1, "mu_s": 0.15, "g": 0.02}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(STEPS))
def test_derivatives_against_walks_made_apart(name):
    """Central difference of two walks of other slabs with other keys; every image and both second moments."""
    path = light_path(thickness=1.5e-4, depth=7e-5, mu_a=1500.0, mu_s=8e3, g=0.85)
    photons, h, along = 524_288, STEPS[name], direction(name)
    mean = partial(np.mean, axis=1)

    def error(a):
        return np.std(a, axis=1, ddof=1) / np.sqrt(BLOCKS)

    exact = np.asarray(slope(path, walked(path, 171, photons), ONES, along))
    ends = []
    for seed, sign in ((172, 1), (173, -1)):
        other = scaled(path, ONES + sign * h * along)
        ends.append(np.asarray(value(other, walked(other, seed, photons), ONES)))
    difference, spread = (mean(ends[0]) - mean(ends[1])) / (2 * h), np.hypot(error(ends[0]), error(ends[1])) / (2 * h)
    print(name, mean(exact), error(exact), difference, spread)
    both_errors = np.hypot(error(exact), spread)
    assert np.abs((mean(exact) - difference) / both_errors).max() < 4
    assert np.abs((-mean(exact) - difference) / both_errors).max() > 4  # the other sign is rejected
