"""Light in label volumes and inclusions against layers, closed forms, published figures and each other, by z-score."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qtwin.optics.fresnel import normal_reflectance
from qtwin.tissue import Slab, fates, walk
from qtwin.tissue.solids.inclusions import Box, Cylinder, Inclusions, Sphere
from qtwin.tissue.solids.light import beam, light
from qtwin.tissue.solids.volume import Volume
from qtwin.tissue.solids.walk import BLOCKS, solid_fates, solid_walk

KEY = jax.random.key(81)
WIDE = (0.3, 0.3, 1e-4)  # voxels so wide that light never sees their sides
SLAB = Slab(thickness=[3e-4, 2e-4], depth=1e-4, mu_a=[400, 900], mu_s=[8e3, 4e3], g=[0.8, -0.3], n=[1.3, 1.55])
CUBE = {"mu_a": "0.005 1/mm", "mu_s": "1 1/mm", "g": 0.01, "n": 1.37}
ONES = np.ones((60, 60, 60), np.uint8)


def stack(**changes) -> Volume:
    """`SLAB` in five voxels."""
    given = {name: getattr(SLAB, name) for name in ("mu_a", "mu_s", "g", "n")} | changes
    return Volume(np.array([1, 1, 1, 2, 2], np.uint8).reshape(1, 1, 5), WIDE, **given)


def mean_and_error(blocks):
    blocks = np.asarray(blocks, float)
    assert blocks.shape[0] == BLOCKS
    return blocks.mean(axis=0), blocks.std(axis=0, ddof=1) / np.sqrt(BLOCKS)


def z(one, two):
    """Blocks against blocks or against a number."""
    (a, da), (b, db) = mean_and_error(one), mean_and_error(two) if np.ndim(two) else (two, 0.0)
    return (a - b) / np.hypot(da, db)


def balance(light):
    """Light that left and light absorbed by its sites: two estimates that need not agree."""
    return light.specular + light.escaped.sum(axis=1) + light.absorbed.sum(axis=1) + light.late


# --- layers ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def layered():
    made = stack()
    start = beam(made, (0.151, 0.149, -0.02))
    return made, solid_walk(made, start, key=KEY, photons=131_072)


def test_a_stack_of_voxels_against_the_same_layers(layered):
    """R, T and A of two layers of other index; the layers are walked by another program."""
    made, walked = layered
    mine = solid_fates(made, walked)
    other = fates(SLAB, walk(SLAB, key=jax.random.key(82), photons=131_072, aperture=0.0))
    assert abs(z(mine.specular + mine.escaped[:, 4], other.reflectance)) < 4
    assert abs(z(mine.escaped[:, 5], other.transmittance)) < 4
    assert abs(z(mine.absorptance, other.absorptance)) < 4
    assert np.all(np.asarray(mine.escaped[:, :4]) == 0) and np.all(np.asarray(mine.late) == 0)
    assert 0.05 < float(mine.escaped[:, 4].mean()) and 0.05 < float(mine.escaped[:, 5].mean())


@pytest.mark.parametrize("name", ["mu_a", "mu_s", "g"])
def test_derivatives_against_the_same_layers(layered, name):
    made, walked = layered
    other = walk(SLAB, key=jax.random.key(83), photons=131_072, aperture=0.0)

    def slopes(read, element):
        def of(value):
            return read(eqx.tree_at(lambda e: getattr(e, name), element, value))

        return jax.jacfwd(of)(getattr(element, name))

    mine = slopes(lambda v: solid_fates(v, walked).escaped[:, 5], made)
    theirs = slopes(lambda s: fates(s, other).transmittance, SLAB)
    assert np.abs(z(mine, theirs)).max() < 4
    mean, error = mean_and_error(mine)
    assert np.all(np.abs(mean) > 4 * error)


def test_derivatives_are_those_of_the_reweighted_fates(layered):
    """Every output by every coefficient, against differences of the same weights in float64."""
    made, walked = layered

    def read(mu_a, mu_s):
        light = solid_fates(eqx.tree_at(lambda v: (v.mu_a, v.mu_s), made, (mu_a, mu_s)), walked)
        return jnp.concatenate([light.escaped.mean(0), light.absorbed.mean(0), light.absorptance.mean()[None]])

    slopes = jax.jacfwd(read, argnums=(0, 1))(made.mu_a, made.mu_s)
    for number, base in enumerate((made.mu_a, made.mu_s)):
        for medium in range(2):
            step = jnp.zeros(2).at[medium].set(1e-5 * base[medium])
            change = [jnp.zeros(2), jnp.zeros(2)]
            change[number] = step
            up = read(made.mu_a + change[0], made.mu_s + change[1])
            down = read(made.mu_a - change[0], made.mu_s - change[1])
            difference = (up - down) / (2 * step[medium])
            np.testing.assert_allclose(slopes[number][:, medium], difference, rtol=1e-6, atol=1e-12)


def test_a_neighbour_is_read_from_the_walk(layered):
    """Fates of other coefficients by weight, against a walk made there, medium by medium."""
    _, walked = layered
    near = stack(mu_a=[440.0, 700.0], mu_s=[7.7e3, 4.15e3])
    there = solid_walk(near, beam(near, (0.1, 0.1, 0.0)), key=jax.random.key(84), photons=131_072)
    by_weight, direct = solid_fates(near, walked), solid_fates(near, there)
    assert np.abs(z(by_weight.escaped[:, 4:], direct.escaped[:, 4:])).max() < 4
    assert np.abs(z(by_weight.absorbed, direct.absorbed)).max() < 4
    assert abs(z(by_weight.absorptance, direct.absorptance)) < 4
    assert np.abs(z(by_weight.absorbed, solid_fates(stack(), walked).absorbed)).min() > 4


# --- the steps from voxel to voxel -----------------------------------------------------------------------------


def test_cutting_voxels_finer_changes_no_path():
    """One voxel or 7 x 5 x 11 of them: the same random words, the same photons, to rounding."""
    given = {"mu_a": 100, "mu_s": 6e3, "g": 0.7, "n": 1.4}
    size = np.array([2e-3, 1.5e-3, 1e-3])
    fine = np.array([7, 5, 11])
    whole = Volume(np.ones((1, 1, 1), np.uint8), tuple(size), **given)
    cut = Volume(np.ones(fine, np.uint8), tuple(size / fine), **given)
    walks = [
        solid_walk(v, beam(v, (0.9e-3, 0.6e-3, -1e-3), (0.3, -0.2, 1)), key=KEY, photons=8192) for v in (whole, cut)
    ]
    lengths = [np.asarray(w.paths.length)[..., 0] for w in walks]
    same = np.isclose(*lengths, rtol=1e-4)
    assert same.mean() > 0.999  # a photon that all but touches an edge may round the other way
    np.testing.assert_allclose(walks[0].position[same], walks[1].position[same], atol=1e-8)
    assert np.mean(np.asarray(walks[0].fate) == np.asarray(walks[1].fate)) > 0.999
    assert {0, 1, 2, 3, 4, 5} <= set(np.unique(walks[1].fate))


def test_a_photon_depends_on_nothing_but_its_number():
    made = stack()
    start = beam(made, (0.1, 0.1, 0.0))
    one, two = (solid_walk(made, start, key=KEY, photons=n) for n in (4096, 8192))
    flat = [np.asarray(w.paths.length).reshape(-1, 2) for w in (one, two)]
    np.testing.assert_array_equal(flat[0], flat[1][:4096])
    other = solid_walk(made, start, key=jax.random.key(0), photons=4096)
    assert np.mean(np.asarray(other.paths.length) == np.asarray(one.paths.length)) < 0.01


def test_paths_end_where_their_displacement_says(layered):
    _, walked = layered
    shift, end = np.asarray(walked.paths.shift), np.asarray(walked.position)
    np.testing.assert_allclose(shift[..., 0, :], end[..., :2] - [0.151, 0.149], atol=1e-7)
    assert np.all(shift[..., 1, :] == 0)
    left = np.asarray(walked.fate) < 6
    np.testing.assert_allclose(np.linalg.norm(walked.direction, axis=-1)[left], 1, atol=1e-5)
    assert np.all(np.asarray(walked.direction)[..., 2][np.asarray(walked.fate) == 4] < 0)


# --- closed forms ----------------------------------------------------------------------------------------------


def test_beer_lambert_without_scattering():
    """exp(-sum mu l), photon by photon, along an oblique ray through unequal voxels and an inner hole of label 0."""
    labels = np.zeros((3, 1, 4), np.uint8)
    labels[:, 0] = [[1, 2, 2, 1], [2, 1, 0, 2], [1, 1, 2, 2]]
    made = Volume(labels, ("1 mm", "9 mm", "2 mm"), mu_a=[70, 210], mu_s=0, g=0, n=1.33, reflect=False)
    direction = np.array([0.1, 0.0, 1.0]) / np.hypot(0.1, 1)
    light_out = solid_fates(made, solid_walk(made, beam(made, (0.5e-3, 5e-3, 0.0), direction), key=KEY, photons=32))
    # x = 0.5 mm + z/10 reaches 1 mm at z = 5 mm: labels 1 (2 mm), 2 (3 mm in z), then voxel [1, 0, 2] is outside
    expected = np.exp(-(70 * 2e-3 + 210 * 3e-3) * np.hypot(0.1, 1))
    np.testing.assert_allclose(light_out.escaped[:, 1], expected, rtol=1e-6)
    np.testing.assert_allclose(light_out.absorptance, 1 - expected, rtol=1e-6)


def test_a_clear_plate_reflects_many_times():
    """T = (1 - R)^2 e/(1 - R^2 e^2), e = exp(-mu d): Airy's sum without interference."""
    made = Volume(np.ones((1, 1, 3), np.uint8), WIDE, mu_a=2e3, mu_s=0, g=0, n=2.5)
    light_out = solid_fates(made, solid_walk(made, beam(made, (0.1, 0.1, 0.0)), key=KEY, photons=65_536))
    r, e = normal_reflectance(1.0, 2.5), np.exp(-0.6)
    assert float(light_out.specular[0]) == pytest.approx(r, rel=1e-12)
    assert abs(z(light_out.escaped[:, 5], (1 - r) ** 2 * e / (1 - r**2 * e**2))) < 4
    assert abs(z(light_out.escaped[:, 4], (1 - r) ** 2 * e**2 * r / (1 - r**2 * e**2))) < 4
    assert abs(z(balance(light_out), 1.0)) < 4


def test_a_beam_is_refracted_by_the_face_it_meets():
    """Snell's law and Fresnel's loss on the x high face, met from outside at 40 degrees."""
    made = Volume(np.ones((2, 3, 4), np.uint8), 1e-3, mu_a=0, mu_s=1, g=0, n=1.5)
    angle = np.deg2rad(40)
    ray = beam(made, (3e-3, 1e-3, 2e-3), (-np.cos(angle), np.sin(angle), 0.0))
    np.testing.assert_allclose(ray.position[0], [2e-3, 1e-3 + 1e-3 * np.tan(angle), 2e-3], atol=1e-12)
    assert ray.direction[0, 1] == pytest.approx(np.sin(angle) / 1.5, rel=1e-9)
    inner = np.arcsin(np.sin(angle) / 1.5)
    loss = (np.sin(angle - inner) / np.sin(angle + inner)) ** 2 + (np.tan(angle - inner) / np.tan(angle + inner)) ** 2
    assert ray.entrance[0] == pytest.approx(1 - loss / 2, rel=1e-9)
    inside = beam(made, (1e-3, 1.5e-3, 2e-3), (1, 0, 0))
    assert inside.entrance[0] == 1 and np.array_equal(inside.position[0], [1e-3, 1.5e-3, 2e-3])


def test_a_gate_stops_the_clock():
    made = Volume(np.ones((40, 40, 40), np.uint8), "1 mm", mu_a=1, mu_s=900, g=0.1, n=1.4)
    start = light((0.02, 0.02, 0.02), (0, 0, 1))
    early, ever = (solid_walk(made, start, key=KEY, photons=16_384, gate=g) for g in (6e-10, np.inf))
    late = np.asarray(early.fate) == 6
    assert 0.05 < late.mean() < 0.95
    np.testing.assert_allclose(np.asarray(early.time())[late], 6e-10, rtol=1e-5)
    np.testing.assert_array_equal(np.asarray(ever.time())[~late], np.asarray(early.time())[~late])
    assert np.all(np.asarray(ever.time())[late] > 6e-10 * (1 - 1e-5))
    assert abs(z(balance(solid_fates(made, early)), 1.0)) < 4


def test_roulette_is_unbiased():
    """A strong absorber: what escapes with and without the game, of the same photons."""
    made = Volume(np.ones((20, 20, 1), np.uint8), (1e-3, 1e-3, 5e-3), mu_a=600, mu_s=1500, g=0.9, n=1.4)
    start = beam(made, (1e-2, 1e-2, 0.0))
    on, off = (solid_walk(made, start, key=KEY, photons=131_072, roulette=r) for r in (True, False))
    boost = np.asarray(on.paths.boost, float)
    assert np.sum(boost == 0) > 10_000 and np.sum(boost == 10) > 300
    left = [
        np.asarray(w.paths.boost, float) * np.exp(-600.0 * np.asarray(w.paths.length, float)[..., 0]) for w in (on, off)
    ]
    change = (left[0] - left[1])[boost != 1]
    assert abs(change.mean()) / (change.std() / np.sqrt(change.size)) < 4
    halved = (left[0] / 2 - left[1])[boost != 1]  # a boost of 5 would be noticed
    assert abs(halved.mean()) / (halved.std() / np.sqrt(halved.size)) > 4
    assert abs(z(balance(solid_fates(made, on)), 1.0)) < 4


# --- the 60 mm cube ----------------------------------------------------------------------------------------------


def cube(reflect, photons=200_000, key=KEY, **changes):
    """MCX's first example: pencil beam that starts inside, at the centre of a face; followed for 5 ns."""
    made = Volume(ONES, "1 mm", **(CUBE | changes), reflect=reflect)
    walked = solid_walk(made, light((0.03, 0.03, 0.0), (0, 0, 1)), key=key, photons=photons, gate=5e-9)
    return made, walked, solid_fates(made, walked)


@pytest.mark.parametrize(("reflect", "low", "high"), [(False, 0.176, 0.177), (True, 0.2715, 0.2725)])
def test_light_absorbed_by_the_cube(reflect, low, high):
    """17.6 to 17.7 % with equal indices, 27.2 % with reflection: what MCX prints for its cube60 and cube60b."""
    _, _, light_out = cube(reflect)
    mean, error = mean_and_error(light_out.absorptance)
    assert low - 4 * error < mean < high + 4 * error and error < 0.001
    assert abs(z(balance(light_out), 1.0)) < 4


def test_wrong_scattering_is_rejected():
    """A cube whose absorbed light is off by eight standard errors does not pass a test at four."""
    made, walked, right = cube(False)
    slope = jax.grad(lambda m: solid_fates(eqx.tree_at(lambda v: v.mu_s, made, m), walked).absorptance.mean())(
        made.mu_s
    )
    _, error = mean_and_error(right.absorptance)
    wrong = float(made.mu_s[0] - 8 * error / slope[0])
    other = cube(False, key=jax.random.key(85), mu_s=wrong)[2]
    assert abs(z(right.absorptance, 0.1765)) < 4
    assert abs(z(other.absorptance, 0.1765)) > 4


# --- the light in every voxel ------------------------------------------------------------------------------------


def test_fluence_tells_the_absorption_of_every_medium():
    """mu_a times the fluence, summed over the voxels of a label, is what the sites of absorption say."""
    labels = np.ones((8, 9, 7), np.uint8)
    labels[2:5, 3:8, 2:4] = 2
    labels[5:, :3, 3:] = 3
    mu_a = np.array([20.0, 300.0, 90.0])
    made = Volume(
        labels, ("1 mm", "0.8 mm", "1.1 mm"), mu_a=mu_a, mu_s=[900, 1500, 300], g=[0.8, 0.5, 0], n=[1.4, 1.4, 1.33]
    )
    walked = solid_walk(made, beam(made, (3.3e-3, 4.1e-3, 0.0)), key=KEY, photons=131_072, fluence=True)
    light_out = solid_fates(made, walked)
    cell = np.prod(made.voxel)
    absorbed = np.array([mu_a[m] * walked.fluence[labels == m + 1].sum() * cell for m in range(3)])
    assert absorbed.sum() == pytest.approx(float(light_out.absorptance.mean()), rel=1e-4)
    mean, error = mean_and_error(light_out.absorbed)
    assert np.abs((mean - absorbed) / error).max() < 4 and np.all(mean > 20 * error)
    assert abs(z(balance(light_out), 1.0)) < 4
    again = solid_walk(made, beam(made, (3.3e-3, 4.1e-3, 0.0)), key=jax.random.key(86), photons=131_072, fluence=True)
    scores = (walked.fluence - again.fluence) / np.hypot(walked.fluence_error, again.fluence_error)
    assert 0.8 < scores.std() < 1.25 and np.abs(scores).max() < 5.5  # 504 voxels, errors from 32 blocks


def test_slope_of_a_clear_medium():
    """d(absorbed)/d(mu_a) at mu_a = 0 is the fluence summed over that medium."""
    labels = np.ones((6, 5, 4), np.uint8)
    labels[1:4, 2:4, 1:3] = 2
    made = Volume(labels, "1 mm", mu_a=[150, 0], mu_s=[1200, 400], g=[0.7, 0.2], n=1.4)
    walked = solid_walk(made, beam(made, (2.2e-3, 2.7e-3, 0.0)), key=KEY, photons=65_536, fluence=True)
    slopes = jax.jacfwd(lambda a: solid_fates(eqx.tree_at(lambda v: v.mu_a, made, a), walked).absorbed[:, 1])(made.mu_a)
    assert abs(z(slopes[:, 1], walked.fluence[labels == 2].sum() * 1e-9)) < 4
    np.testing.assert_array_equal(slopes[:, 0], 0)


# --- inclusions --------------------------------------------------------------------------------------------------

HOST = {"thickness": "10 mm", "n": 1.4}


def test_a_box_is_the_box_of_voxels():
    """Photon by photon: the same words, the same path, through surfaces or through voxels."""
    shape = Box(("-2 mm", "-1 mm", "3 mm"), ("1 mm", "3 mm", "7 mm"))
    given = {"mu_a": [10, 250], "mu_s": [900, 1700], "g": [0.8, 0.3], "n": 1.4}
    one = Inclusions("10 mm", [shape], **given)
    labels = np.ones((402, 402, 10), np.uint8)
    labels[199:202, 200:204, 3:7] = 2
    two = Volume(labels, "1 mm", **given)
    first = solid_walk(one, beam(one, (0.2e-3, 0.3e-3, 0.0)), key=KEY, photons=8192)
    second = solid_walk(two, beam(two, (0.2012, 0.2013, 0.0)), key=KEY, photons=8192)
    lengths = [np.asarray(w.paths.length) for w in (first, second)]
    same = np.all(np.isclose(*lengths, rtol=1e-4, atol=1e-8), axis=-1)
    assert same.mean() > 0.999
    assert np.mean(lengths[0][..., 1] > 0) > 0.3


def ball(x, y, z):
    return (x - 0.3) ** 2 + (y + 0.2) ** 2 + (z - 4) ** 2 < 2.5**2


def rod(x, y, z):
    return (abs(y) < 3) & (x**2 + (z - 5) ** 2 < 2**2)


ROUND = {
    "sphere": (lambda grow: Sphere(("0.3 mm", "-0.2 mm", "4 mm"), 2.5e-3 * grow), ball),
    "cylinder": (lambda grow: Cylinder((0, -3e-3, 5e-3), (0, 3e-3, 5e-3), 2e-3 * grow), rod),
}


@pytest.mark.parametrize("name", ROUND)
def test_a_round_inclusion_against_fine_voxels(name):
    """Voxels of 0.125 mm: the volume of the shape is right to 0.2 %. Light lost by their sides is a bound, no error."""
    shape, inside = ROUND[name]
    side, half, deep = 0.125, 120, 80
    x, y, depth = (
        (np.arange(2 * half) + 0.5) * side - 15,
        (np.arange(2 * half) + 0.5) * side - 15,
        np.arange(deep) * side,
    )
    labels = 1 + inside(x[:, None, None], y[None, :, None], depth[None, None, :] + side / 2).astype(np.uint8)
    given = {"mu_a": [100, 200], "mu_s": [600, 1500], "g": [0.6, 0.8], "n": 1.4}
    voxels, key = Volume(labels, f"{side} mm", **given), jax.random.key(87)
    two = solid_fates(voxels, solid_walk(voxels, beam(voxels, (0.015, 0.015, 0)), key=key, photons=65_536))

    def with_surfaces(grow):
        made = Inclusions("10 mm", [shape(grow)], **given)
        return solid_fates(made, solid_walk(made, beam(made, (0, 0, 0)), key=KEY, photons=65_536))

    one, lost = with_surfaces(1.0), two.escaped[:, :4].sum(axis=1)
    assert abs(z(one.absorbed[:, 1], two.absorbed[:, 1])) < 4
    assert abs(z(with_surfaces(1.1).absorbed[:, 1], two.absorbed[:, 1])) > 4
    assert float(lost.mean()) < 0.02
    for mine, theirs in ((one.escaped[:, 4], two.escaped[:, 4]), (one.escaped[:, 5], two.escaped[:, 5])):
        assert z(mine, theirs) > -4 and z(mine, theirs + lost) < 4
    assert abs(z(balance(one), 1.0)) < 4 and abs(z(balance(two), 1.0)) < 4


@pytest.mark.parametrize(
    "shape",
    [
        Sphere((1e-3, 2e-3, 5e-3), 3e-3),
        Box((-1e-3, 0, 2e-3), (3e-3, 5e-3, 8e-3)),
        Cylinder((-1e-3, 1e-3, 3e-3), (2e-3, 4e-3, 6e-3), 1.5e-3),
    ],
)
def test_chords_through_a_shape(shape):
    """Straight rays, some from inside: length in the shape against points counted along the ray; then Beer-Lambert."""
    rng = np.random.default_rng(88)
    count, points = 512, 4000
    start = np.column_stack([rng.uniform(-4e-3, 6e-3, (count, 2)), rng.uniform(1e-4, 9.9e-3, count)])
    toward = rng.normal(size=(count, 3))
    toward /= np.linalg.norm(toward, axis=1, keepdims=True)
    made = Inclusions("10 mm", [shape], mu_a=[40, 700], mu_s=0, g=0, n=1.4, reflect=False)
    walked = solid_walk(made, light(start, toward), key=KEY, photons=count)
    total = np.where(toward[:, 2] > 0, 0.01 - start[:, 2], start[:, 2]) / np.abs(toward[:, 2])
    reach = np.minimum(total, 0.03)
    steps = (np.arange(points) + 0.5) / points
    chord = (
        np.array(
            [
                sum(
                    np.array_equal(p, q) or np.linalg.norm(p - q) < 1e-12
                    for p in s + r * steps[::20, None] * u
                    for q in [shape.nearest(p)]
                )
                for s, u, r in zip(start, toward, reach, strict=True)
            ]
        )
        * reach
        * 20
        / points
    )
    lengths = np.asarray(walked.paths.length, float).reshape(count, 2)
    assert np.all(np.abs(lengths[:, 1] - chord) <= 2 * reach * 20 / points + 1e-8)
    assert np.sum(chord > 0) > 50
    np.testing.assert_allclose(lengths.sum(axis=1), total, rtol=1e-5)
    light_out = solid_fates(made, walked)
    lost = np.exp(-lengths @ [40, 700]).reshape(BLOCKS, -1).mean(axis=1)
    np.testing.assert_allclose(light_out.escaped.sum(axis=1), lost, rtol=1e-6)


# --- a head ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_light_in_a_head(reference_data, capsys):
    """Colin27, a beam on the crown; coefficients as in the examples of MCX for this atlas (Fang & Boas)."""
    head = Volume.from_file(
        reference_data / "volumes" / "colin27_v3.mat",
        voxel="1 mm",
        mu_a=["0.019 1/mm", "0.019 1/mm", "0.004 1/mm", "0.02 1/mm", "0.08 1/mm", 0],
        mu_s=["7.8 1/mm", "7.8 1/mm", "0.009 1/mm", "9 1/mm", "40.9 1/mm", 0],
        g=[0.89, 0.89, 0.89, 0.89, 0.84, 0],
        n=[1.37, 1.37, 1.37, 1.37, 1.37, 1],
    )
    walked = solid_walk(head, beam(head, (0.0905, 0.1085, 0.3), (0, 0, -1)), key=KEY, photons=65_536)
    light_out = solid_fates(head, walked)
    mean, error = mean_and_error(light_out.absorbed)
    names = ("scalp", "skull", "CSF", "grey matter", "white matter", "inner air")
    with capsys.disabled():
        for name, a, e in zip(names, mean, error, strict=True):
            print(f"\n{name}: absorbs {100 * a:.2f} +- {100 * e:.2f} %", end="")
    assert abs(z(balance(light_out), 1.0)) < 4
    assert mean[5] == 0 and np.all(mean[:5] > 0) and mean[:2].sum() > mean[3:5].sum()
    assert 0.1 < float(light_out.escaped.sum(axis=1).mean()) < 0.9
