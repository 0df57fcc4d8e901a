"""Light in slabs against exact transport, closed forms and a walk written apart, by z-score."""

from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad
from scipy.interpolate import CubicSpline

from qtwin.core.errors import FieldError, UserError
from qtwin.core.random import words
from qtwin.optics.fresnel import normal_reflectance, reflectance
from qtwin.tissue import Slab, fates, phase, walk
from qtwin.tissue.carry import carry
from qtwin.tissue.paths import unpack
from qtwin.tissue.walk import BLOCKS, medium_of

D = 1e-3
# albedo, g, tau, n, R and T of collimated light, specular and unscattered light included (adding-doubling to 1e-6)
EXACT = [
    (0.9, 0, 2, 1.5, 0.25307596, 0.28879867),
    (0.9, 0, 1, 1.0, 0.26741034, 0.59162509),
    (0.99, 0, 1, 1.0, 0.33292182, 0.65097755),
    (0.9, 0.5, 1, 1.0, 0.12979328, 0.73909112),
    (0.5, 0.9, 1, 1.4, 0.038953263, 0.54506759),
    (0.95, 0.8, 5, 1.37, 0.16422729, 0.36080208),
    (0.99, 0, 10, 1.5, 0.5938364, 0.10423972),
    (0.999, 0.75, 2, 1.5, 0.28507588, 0.70700384),
    (0.3, 0.75, 4, 1.4, 0.030509654, 0.038355761),
    (0.3, 0.5, 0.5, 1.0, 0.013484821, 0.6758439),
    (0.999, 0.9, 10, 1.0, 0.30052672, 0.68107494),
    (0.99, 0.5, 4, 1.33, 0.43078927, 0.4411418),
    (0.6, 0.9, 10, 1.5, 0.042791827, 0.0062011486),
    (0.9, 0.9, 4, 1.0, 0.050441198, 0.55072069),
]


def slab(albedo, g, tau, n, depth=0.37 * D) -> Slab:
    return Slab(thickness=D, depth=depth, mu_a=(1 - albedo) * tau / D, mu_s=albedo * tau / D, g=g, n=n)


def mean_and_error(blocks):
    blocks = np.asarray(blocks)
    assert blocks.shape == (BLOCKS,)
    return blocks.mean(), blocks.std(ddof=1) / np.sqrt(BLOCKS)


def z(blocks, expected):
    mean, error = mean_and_error(blocks)
    return (mean - expected) / error


# --- exact transport -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("albedo", "g", "tau", "n", "reflected", "transmitted"), EXACT)
def test_reflectance_and_transmittance_of_exact_transport(albedo, g, tau, n, reflected, transmitted):
    made = slab(albedo, g, tau, n)
    light = fates(made, walk(made, key=jax.random.key(31), photons=65536, aperture=0.0))
    assert abs(z(light.reflectance, reflected)) < 4
    assert abs(z(light.transmittance, transmitted)) < 4
    assert abs(z(light.absorptance, 1 - reflected - transmitted)) < 4


def test_slab_of_van_de_hulst():
    """n = 1, mu_a = 10 /cm, mu_s = 90 /cm, g = 0.75, 0.2 mm: 0.09739 and 0.66096."""
    made = Slab(thickness=2e-4, depth=1.3e-4, mu_a=1e3, mu_s=9e3, g=0.75, n=1)
    light = fates(made, walk(made, key=jax.random.key(32), photons=65536, aperture=0.0))
    for blocks, expected in zip(light[:3], (0.0973946, 0.6609577, 0.2416477), strict=True):
        assert abs(z(blocks, expected)) < 4


def test_three_layers_of_the_mcml_manual():
    """Diffuse reflectance and transmittance; the object plane in the third layer."""
    made = Slab(
        thickness=[1e-3, 1e-3, 2e-3], depth=2.7e-3, mu_a=[100, 100, 200], mu_s=[1e4, 1e3, 1e3], g=[0.9, 0, 0.7], n=1.37
    )
    light = fates(made, walk(made, key=jax.random.key(33), photons=65536, aperture=0.0))
    specular = (0.37 / 2.37) ** 2
    assert abs(z(light.reflectance, 0.237857 + specular)) < 4
    assert abs(z(light.transmittance, 0.096048)) < 4


def test_wrong_scattering_is_rejected():
    """A slab whose T is off by eight standard errors does not pass a test at four."""
    albedo, g, tau, n, _, exact = EXACT[5]
    key, photons = jax.random.key(34), 65536
    made = slab(albedo, g, tau, n)
    made_walk = walk(made, key=key, photons=photons, aperture=0.0)
    slope = jax.grad(lambda m: fates(m, made_walk).transmittance.mean())(made).mu_s
    _, error = mean_and_error(fates(made, made_walk).transmittance)
    wrong = eqx.tree_at(lambda s: s.mu_s, made, made.mu_s + 8 * error / slope)
    other = fates(wrong, walk(wrong, key=jax.random.key(35), photons=photons, aperture=0.0)).transmittance
    assert abs(z(fates(made, made_walk).transmittance, exact)) < 4
    assert z(other, exact) > 4


def angular_table(reference_data):
    file = reference_data.parent / "reference" / "slab_angular.csv"
    if not file.is_file():
        pytest.skip(f"no {file}")
    return np.loadtxt(file, delimiter=",", skiprows=2)


@pytest.mark.slow
def test_angles_of_the_slab_of_van_de_hulst(reference_data):
    """Energy per bin of exit angle, against the integral of the exact radiance."""
    alpha, reflected, transmitted = angular_table(reference_data).T
    made = Slab(thickness=2e-4, depth=1.3e-4, mu_a=1e3, mu_s=9e3, g=0.75, n=1)
    walked = walk(made, key=jax.random.key(36), photons=1 << 20, aperture=0.0)
    light, paths = fates(made, walked), walked.paths
    weight = np.asarray(paths.boost) * np.exp(-1e3 * np.asarray(paths.length).sum(axis=-1))
    angle = np.arcsin(np.clip(np.hypot(*np.moveaxis(np.asarray(paths.direction), -1, 0)), 0, 1))
    edges = np.linspace(0.05, 1.5, 12)
    down, strayed = np.asarray(paths.transmitted) > 0, np.asarray(paths.strayed) > 0
    for side, radiance in ((down & strayed, transmitted), (~down, reflected)):
        curve = CubicSpline(alpha, radiance * 2 * np.pi * np.sin(alpha))
        scores = []
        for low, high in pairwise(edges):
            inside = side & (angle >= low) & (angle < high)
            scores.append(z((weight * inside).mean(axis=1), curve.integrate(low, high)))
        scores = np.array(scores)
        assert np.abs(scores).max() < 4 and np.sum(scores**2) < stats.chi2.ppf(1 - 1e-4, len(scores))
    assert light.ballistic[0] == pytest.approx(np.exp(-2), rel=1e-9)


@pytest.mark.parametrize("aperture", [0.4, 0.8])
def test_light_within_an_aperture(aperture, reference_data):
    alpha, _, transmitted = angular_table(reference_data).T
    made = Slab(thickness=2e-4, depth=1.3e-4, mu_a=1e3, mu_s=9e3, g=0.75, n=1)
    light = fates(made, walk(made, key=jax.random.key(37), photons=65536, aperture=0.0), aperture)
    alpha, transmitted = np.concatenate([[0], alpha]), np.concatenate([transmitted[:1], transmitted])
    curve = CubicSpline(alpha, transmitted * 2 * np.pi * np.sin(alpha))
    assert abs(z(light.accepted, np.exp(-2) + curve.integrate(0, np.arcsin(aperture)))) < 4


# --- limits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("g", [0.0, 0.9])
def test_beer_lambert_without_scattering(g):
    """n = 1: nothing strays, T = exp(-mu_a d) to rounding and R = 0."""
    made = Slab(thickness=D, depth=0.2e-3, mu_a=700.0, mu_s=0.0, g=g, n=1)
    light = fates(made, walk(made, key=jax.random.key(41), photons=65536, aperture=0.0))
    np.testing.assert_allclose(light.transmittance, np.exp(-0.7), rtol=1e-12)
    np.testing.assert_allclose(light.absorptance, 1 - np.exp(-0.7), rtol=1e-6)  # float32 path lengths
    np.testing.assert_array_equal(light.reflectance, 0)


def test_parallel_plate_without_scattering():
    """Incoherent sum over the bounces: T = (1 - r)^2 a/(1 - r^2 a^2), R = r + r (1 - r)^2 a^2/(1 - r^2 a^2)."""
    made = Slab(thickness=D, depth=0.2e-3, mu_a=300.0, mu_s=0.0, g=0.5, n=1.6)
    light = fates(made, walk(made, key=jax.random.key(42), photons=65536, aperture=0.0))
    r, a = (0.6 / 2.6) ** 2, np.exp(-0.3)
    assert abs(z(light.transmittance, (1 - r) ** 2 * a / (1 - r * r * a * a))) < 4
    assert abs(z(light.reflectance, r + r * (1 - r) ** 2 * a * a / (1 - r * r * a * a))) < 4
    np.testing.assert_allclose(light.ballistic, (1 - r) ** 2 * a, rtol=1e-12)


def test_ballistic_light_of_layers_is_beer_lambert_with_every_surface():
    made = Slab(thickness=[2e-4, 3e-4], depth=1e-4, mu_a=[100, 400], mu_s=[2e3, 1e3], g=[0.9, 0.2], n=[1.3, 1.5])
    surfaces = (1 - (0.3 / 2.3) ** 2) * (1 - (0.2 / 2.8) ** 2) * (1 - (0.5 / 2.5) ** 2)
    assert float(made.ballistic()) == pytest.approx(surfaces * np.exp(-(2100 * 2e-4 + 1400 * 3e-4)), rel=1e-12)
    paths = unpack(carried(made, jax.random.key(43), np.arange(65_536)), 3, 1)
    straight = np.asarray((paths.strayed == 0) & (paths.transmitted > 0)).reshape(BLOCKS, -1)
    entrance = 1 - (0.3 / 2.3) ** 2
    absorbed = np.exp(-(100 * 2e-4 + 400 * 3e-4))
    assert abs(z(entrance * absorbed * straight.mean(axis=1), float(made.ballistic()))) < 4


@pytest.mark.parametrize("n", [1.0, 1.4])
def test_nothing_is_lost_without_absorption(n):
    made = slab(1.0, 0.8, 6, n)
    light = fates(made, walk(made, key=jax.random.key(44), photons=65536, aperture=0.0))
    assert abs(z(light.reflectance + light.transmittance, 1)) < 4
    np.testing.assert_array_equal(light.absorptance, 0)


@pytest.mark.parametrize("factor", [1.0, 1.1])
def test_energy_balance_also_of_a_neighbouring_slab(factor):
    """R + T + A = 1 where the walk is read at other coefficients than it was walked with."""
    made = slab(0.8, 0.7, 3, 1.4)
    walked = walk(made, key=jax.random.key(45), photons=65536, aperture=0.0)
    near = Slab(
        thickness=D * (2 - factor), depth=0.37 * D, mu_a=made.mu_a / factor, mu_s=made.mu_s * factor, g=0.7, n=1.4
    )
    light = fates(near, walked)
    assert abs(z(light.reflectance + light.transmittance + light.absorptance, 1)) < 4


def test_a_neighbouring_slab_is_read_from_the_same_walk():
    """A walk at other mu_a, mu_s and thickness gives the exact values of this slab (all but g)."""
    albedo, g, tau, n, reflected, transmitted = EXACT[5]
    target = slab(albedo, g, tau, n)
    walked_at = Slab(thickness=1.1 * D, depth=0.35 * D, mu_a=1.5 * target.mu_a, mu_s=0.85 * target.mu_s, g=g, n=n)
    light = fates(target, walk(walked_at, key=jax.random.key(46), photons=65536, aperture=0.0))
    assert abs(z(light.reflectance, reflected)) < 4
    assert abs(z(light.transmittance, transmitted)) < 4


def test_the_object_plane_alone_changes_nothing():
    """The same slab cut at other depths: R and T agree."""
    found = []
    for depth, seed in ((0.1 * D, 47), (0.8 * D, 48)):
        made = slab(0.95, 0.8, 5, 1.37, depth)
        found.append(fates(made, walk(made, key=jax.random.key(seed), photons=65536, aperture=0.0)))
    for name in ("reflectance", "transmittance"):
        (a, error_a), (b, error_b) = (mean_and_error(getattr(f, name)) for f in found)
        assert abs(a - b) / np.hypot(error_a, error_b) < 4


# --- random numbers of the walk --------------------------------------------------------------------------------

TURBID = slab(0.97, 0.7, 4, 1.4)


def carried(made, key, photons, roulette=True, kept=1, skip=0):
    layers = made.layers()
    return carry(
        medium_of(layers),
        words(key),
        photons,
        skip=skip,
        roulette=roulette,
        object_layer=made.object_layer,
        kept=kept,
    )


def test_a_photon_does_not_know_its_batch():
    """The same photons in another order and in company, bit by bit; more of them than there are lanes."""
    numbers = np.arange(65_536)
    order = np.random.default_rng(51).permutation(numbers)
    straight = np.asarray(carried(TURBID, jax.random.key(51), numbers))
    shuffled = np.asarray(carried(TURBID, jax.random.key(51), order))
    np.testing.assert_array_equal(shuffled, straight[order])
    few = np.asarray(carried(TURBID, jax.random.key(51), [9000, 3, 4096, 77, 60_000, 1, 2, 0]))
    np.testing.assert_array_equal(few, straight[[9000, 3, 4096, 77, 60_000, 1, 2, 0]])
    scattered = straight[straight[:, 9:11].sum(axis=1) > 0]
    assert len(np.unique(scattered, axis=0)) == len(scattered) > 50_000  # and they are different photons


def test_later_crossings_are_those_of_the_same_walk():
    """Crossings kept from number 0, 1 and 2 on are cut from one path: where they overlap they agree."""
    numbers = np.arange(2048)
    cut = [unpack(carried(TURBID, jax.random.key(52), numbers, kept=2, skip=k), 2, 2) for k in range(3)]
    for early, late in pairwise(cut):
        np.testing.assert_array_equal(early.crossed_at[:, 1], late.crossed_at[:, 0])
        np.testing.assert_array_equal(early.crossings, late.crossings)
    several = np.asarray(cut[0].crossings > 2)
    assert several.sum() > 100
    assert np.all(
        np.any(np.asarray(cut[2].crossed_at)[several, 0] != np.asarray(cut[0].crossed_at)[several, 0], axis=(1, 2))
    )


def test_same_key_same_walk_and_another_key_another():
    first, again, other = (walk(TURBID, key=jax.random.key(s), photons=65536, aperture=0.8) for s in (53, 53, 54))
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.paths.length, other.paths.length)


def test_walk_rounds_up_to_whole_blocks_and_keeps_every_photon():
    made = walk(TURBID, key=jax.random.key(55), photons=65537, aperture=0.0)
    assert made.photons == 73728 and made.paths.boost.shape == (BLOCKS, 2304)
    assert np.all(np.asarray(made.paths.length).sum(axis=-1) > 0)  # nobody is left in flight or was never started


def test_photons_that_cross_again_are_walked_again():
    """Every seen photon with several crossings is listed once, with the path that it had."""
    made = walk(TURBID, key=jax.random.key(56), photons=65536, aperture=0.8)
    paths = made.paths
    sine = np.hypot(*np.moveaxis(np.asarray(paths.direction), -1, 0))
    several = np.asarray((paths.transmitted > 0) & (paths.crossings > 1) & (paths.boost > 0)) & (sine <= 0.8)
    lengths = np.asarray(paths.length)[several]
    again = np.concatenate([np.asarray(p.length)[np.asarray(p.boost) > 0] for p in made.again])
    np.testing.assert_array_equal(np.sort(again, axis=0), np.sort(lengths, axis=0))
    for p in made.again:
        kept = np.asarray(p.boost) > 0
        slots = p.crossed_at.shape[2]
        assert np.all(np.asarray(p.crossings)[kept] <= slots)
    assert several.sum() > 100


def test_roulette_is_unbiased():
    """Strong absorber: weights with and without the game, photon by photon, of those that played."""
    made, numbers = slab(0.7, 0.6, 12, 1.5), np.arange(65_536)
    on, off = (unpack(carried(made, jax.random.key(57), numbers, roulette=r), 2, 1) for r in (True, False))
    boost = np.asarray(on.boost, float)
    assert np.all(np.asarray(off.boost) == 1)
    assert np.sum(boost == 0) > 10_000 and np.sum(boost == 10) > 500
    faint = boost != 1
    rate = float(made.mu_a[0])
    weights = [np.asarray(p.boost, float) * np.exp(-rate * np.asarray(p.length, float).sum(axis=1)) for p in (on, off)]
    change = (weights[0] - weights[1])[faint]
    assert abs(change.mean()) / (change.std() / np.sqrt(faint.sum())) < 4
    halved = (weights[0] / 2 - weights[1])[faint]  # a boost of 5 would be noticed
    assert abs(halved.mean()) / (halved.std() / np.sqrt(faint.sum())) > 4


def test_a_walk_larger_than_the_memory_is_refused():
    with pytest.raises(UserError, match=r"walk\.photons"):
        walk(TURBID, key=jax.random.key(58), photons=1 << 20, memory_limit=1e6)


def test_an_object_on_an_interface_or_outside_is_refused():
    for depth in (D, 2 * D):
        with pytest.raises(FieldError, match="depth"):
            slab(0.9, 0, 1, 1.0, depth)


# --- a walk written apart --------------------------------------------------------------------------------------


def plain_walk(thickness, mu_s, g, n, plane, count, seed):
    """Layers, photons as numpy arrays, no sublayers: (down, shift, path per layer, crossings, first crossing, sine)."""
    rng = np.random.default_rng(seed)
    edges = np.concatenate([[0], np.cumsum(thickness)])
    n = np.concatenate([[1], n, [1]])
    mu_s, g = np.asarray(mu_s), np.asarray(g)
    position, u = np.zeros((count, 3)), np.tile([0.0, 0.0, 1.0], (count, 1))
    layer, path = np.zeros(count, int), np.zeros((count, len(thickness)))
    crossings, crossed, down = np.zeros(count, int), np.zeros((count, 2)), np.zeros(count, bool)
    live = np.arange(count)
    while len(live):
        p, v, m = position[live], u[live], layer[live]
        free = rng.exponential(size=len(live)) / mu_s[m]
        target = np.where(v[:, 2] > 0, edges[m + 1], edges[m])
        with np.errstate(divide="ignore"):
            face = np.where(v[:, 2] == 0, np.inf, (target - p[:, 2]) / v[:, 2])
        step = np.minimum(free, face)
        hit = face <= free
        new = p + v * step[:, None]
        passed = (p[:, 2] - plane) * (new[:, 2] - plane) < 0
        at = p + v * np.where(passed, (plane - p[:, 2]) / np.where(v[:, 2] == 0, 1, v[:, 2]), 0)[:, None]
        first = passed & (crossings[live] == 0)
        crossed[live[first]] = at[first, :2]
        crossings[live] += passed
        path[live, m] += step
        new[hit, 2] = target[hit]
        # scattering: Henyey-Greenstein by the inverse of its distribution, in a basis of its own
        gm, x = g[m], rng.random(len(live))
        q = (1 - gm**2) / (1 - gm + 2 * gm * x)
        c = np.where(gm == 0, 2 * x - 1, (1 + gm**2 - q**2) / np.where(gm == 0, 1, 2 * gm))
        s, f = np.sqrt(np.maximum(1 - c**2, 0)), 2 * np.pi * rng.random(len(live))
        helper = np.where(np.abs(v[:, :1]) < 0.5, [[1.0, 0, 0]], [[0, 1.0, 0]])
        e1 = np.cross(v, helper)
        e1 /= np.linalg.norm(e1, axis=1, keepdims=True)
        e2 = np.cross(v, e1)
        turned = v * c[:, None] + e1 * (s * np.cos(f))[:, None] + e2 * (s * np.sin(f))[:, None]
        # interface: s and p amplitudes from the angles (Fresnel's sine and tangent laws)
        beyond = m + np.where(v[:, 2] > 0, 1, -1)
        ratio = n[m + 1] / n[beyond + 1]
        inc = np.arccos(np.minimum(np.abs(v[:, 2]), 1))
        sine = ratio * np.sin(inc)
        out = np.arcsin(np.minimum(sine, 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            oblique = (np.sin(inc - out) / np.sin(inc + out)) ** 2 + (np.tan(inc - out) / np.tan(inc + out)) ** 2
        mirror = np.where(sine >= 1, 1, np.where(inc < 1e-4, ((ratio - 1) / (ratio + 1)) ** 2, oblique / 2))
        reflects = rng.random(len(live)) < mirror
        refracted = np.column_stack([v[:, :2] * ratio[:, None], np.sign(v[:, 2]) * np.cos(out)])
        turned[hit] = np.where(reflects[hit, None], v[hit] * [1, 1, -1], refracted[hit])
        position[live], u[live] = new, turned
        layer[live] = np.where(hit & ~reflects, beyond, m)
        gone = (layer[live] < 0) | (layer[live] >= len(thickness))
        down[live[gone]] = layer[live[gone]] >= 0
        live = live[~gone]
    return down, position[:, :2], path, crossings, crossed, np.hypot(u[:, 0], u[:, 1])


def test_paths_against_a_walk_written_apart():
    """Two layers of other index, one scattering backwards: positions, paths, crossings and angles on leaving."""
    made = Slab(thickness=[3e-4, 2e-4], depth=2e-4, mu_a=0.0, mu_s=[8e3, 4e3], g=[0.8, -0.3], n=[1.3, 1.55])
    count = 60_000
    plain = plain_walk([3e-4, 2e-4], [8e3, 4e3], [0.8, -0.3], [1.3, 1.55], 2e-4, count, seed=61)
    p = unpack(carried(made, jax.random.key(61), np.arange(65_536)), 3, 1)
    length = np.asarray(p.length, float)
    mine = (
        np.asarray(p.transmitted) > 0,
        np.asarray(p.shift, float).sum(axis=1),
        np.stack([length[:, 0] + length[:, 1], length[:, 2]], axis=1),
        np.asarray(p.crossings),
        np.asarray(p.crossed_at, float)[:, 0].sum(axis=1),
        np.hypot(*np.asarray(p.direction, float).T),
    )

    def observables(down, shift, path, crossings, crossed, sine):
        r2 = np.sum(shift**2, axis=1) * 1e8
        met = np.sum(crossed * shift, axis=1) * 1e8
        rows = [down, r2, np.sqrt(r2), path[:, 0] * 1e4, path[:, 1] * 1e4, crossings, crossings > 1, met, sine, sine**2]
        rows += [shift[:, 0] * 1e4, shift[:, 1] * 1e4, shift[:, 0] * shift[:, 1] * 1e8, path[:, 0] * path[:, 1] * 1e8]
        rows += [row * down for row in rows[1:10]]
        return np.stack([np.asarray(row, float) for row in rows])

    a, b = observables(*mine), observables(*plain)
    scores = (a.mean(axis=1) - b.mean(axis=1)) / np.sqrt(a.var(axis=1) / a.shape[1] + b.var(axis=1) / b.shape[1])
    assert np.abs(scores).max() < 4, scores
    assert 0.1 < a[0].mean() < 0.9 and a[6].mean() > 0.05  # both sides and several crossings occur


# --- phase function --------------------------------------------------------------------------------------------

GS = [-0.5, 0.0, 0.9]


def cumulative(c, g):
    """Integral of the Henyey-Greenstein density from -1 to c."""
    if g == 0:
        return (c + 1) / 2
    return (1 - g**2) / (2 * g) * (1 / np.sqrt(1 + g**2 - 2 * g * c) - 1 / (1 + g))


@pytest.mark.parametrize("g", GS)
def test_density_is_normalised_with_mean_g(g):
    assert quad(lambda c: float(phase.density(c, g)), -1, 1)[0] == pytest.approx(1, rel=1e-7)
    assert quad(lambda c: c * float(phase.density(c, g)), -1, 1)[0] == pytest.approx(g, abs=1e-7)


@pytest.mark.parametrize("g", GS)
def test_sampled_cosines_have_the_law(g):
    """Mean g, mean square (1 + 2 g^2)/3, and the whole distribution."""
    count = 200_000
    u = jnp.asarray(np.random.default_rng(71).random(count))
    c = np.asarray(phase.sample(u, jnp.asarray(g)))
    assert abs(c.mean() - g) / (c.std() / np.sqrt(count)) < 4
    assert abs((c**2).mean() - (1 + 2 * g**2) / 3) / ((c**2).std() / np.sqrt(count)) < 4
    assert stats.kstest(c, lambda x: cumulative(x, g)).pvalue > 1e-3
    assert stats.kstest(c, lambda x: cumulative(x, g + 0.02)).pvalue < 1e-6


@pytest.mark.parametrize("g", GS)
def test_score_has_mean_zero_and_is_the_derivative_of_the_log_density(g):
    assert quad(lambda c: float(phase.score(1 - c, g) * phase.density(c, g)), -1, 1)[0] == pytest.approx(0, abs=1e-7)
    c, h = np.linspace(-1, 1, 9), 1e-6
    difference = (np.log(phase.density(c, g + h)) - np.log(phase.density(c, g - h))) / (2 * h)
    np.testing.assert_allclose(phase.score(1 - c, g), difference, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("g", GS)
def test_walked_scores_have_mean_zero(g):
    """Summed along paths that end at random, too: every scattering's score has mean zero."""
    made = slab(1.0, g, 3, 1.0)
    score = np.asarray(unpack(carried(made, jax.random.key(72), np.arange(65536)), 2, 1).score, float).sum(axis=1)
    assert abs(score.mean()) / (score.std() / np.sqrt(len(score))) < 4
    assert score.std() > 0.5


# --- Fresnel ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n1", "n2"), [(1.0, 1.5), (1.5, 1.0), (1.33, 1.33)])
def test_normal_incidence(n1, n2):
    r, cosine = reflectance(jnp.asarray(1.0), n1, n2)
    assert float(r) == pytest.approx(((n1 - n2) / (n1 + n2)) ** 2, abs=1e-15)
    assert float(r) == pytest.approx(float(normal_reflectance(n1, n2)), abs=1e-15)
    assert float(cosine) == 1


@pytest.mark.parametrize(("n1", "n2"), [(1.0, 1.5), (1.5, 1.0)])
def test_brewster_angle(n1, n2):
    """tan = n2/n1: the p wave is not reflected, R = r_s^2/2 with r_s = cos 2 theta, rays at right angles."""
    theta = np.arctan2(n2, n1)
    r, cosine = reflectance(jnp.asarray(np.cos(theta)), n1, n2)
    assert float(r) == pytest.approx(np.cos(2 * theta) ** 2 / 2, rel=1e-12)
    assert float(cosine) == pytest.approx(np.sin(theta), rel=1e-12)


def test_total_reflection_beyond_the_critical_angle():
    critical = np.sqrt(1 - (1 / 1.5) ** 2)
    r, cosine = reflectance(jnp.asarray([critical - 1e-9, critical / 2, 0.0]), 1.5, 1.0)
    np.testing.assert_array_equal(r, 1)
    np.testing.assert_array_equal(cosine, 0)
    below, _ = reflectance(jnp.asarray(critical + 1e-3), 1.5, 1.0)
    assert 0.3 < float(below) < 0.99


def test_reflectance_is_the_same_from_both_sides():
    """Reciprocity: R at theta_1 from below equals R at the refracted angle from above."""
    cosines = jnp.linspace(0.05, 1, 20)
    r, out = reflectance(cosines, 1.0, 1.4)
    back, returned = reflectance(out, 1.4, 1.0)
    np.testing.assert_allclose(back, r, rtol=1e-9)
    np.testing.assert_allclose(returned, cosines, rtol=1e-9)


def test_derivative_is_finite_at_and_beyond_the_critical_angle():
    slope = jax.vmap(jax.grad(lambda c: reflectance(c, 1.5, 1.0)[0]))(jnp.asarray([0.2, 0.5, 0.9, 1.0]))
    assert np.all(np.isfinite(slope)) and float(slope[0]) == 0 and float(slope[2]) < 0
