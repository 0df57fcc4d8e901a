"""The walk of polarised light against exact Stokes vectors."""

from importlib import import_module

import exact_polarised as exact
import exact_transport
import jax
import numpy as np
import pytest
from polarised_cases import BINS, DIPOLES, ELLIPTIC, ONE, agrees, amplitudes, by_angle, slab, sphere, z

from qtwin.core.errors import UserError
from qtwin.tissue import HenyeyGreenstein, Rayleigh
from qtwin.tissue.polar_tables import Depolarising
from qtwin.tissue.polarised import analysed, degree_of_polarisation, polarised_exits
from qtwin.tissue.polarised import polarised as carry
from qtwin.tissue.tallies import Bins

# --- the walk --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rayleigh_walk():
    """Elliptic light on an absorbing, mismatched slab."""
    return carry(slab(n=1.4), Rayleigh(), ELLIPTIC, key=jax.random.key(2), photons=1_000_000, bins=BINS, pixels=32)


@pytest.fixture(scope="module")
def rayleigh_exact():
    inside = ELLIPTIC * (1 - (0.4 / 2.4) ** 2)
    return by_angle(DIPOLES, inside, n=1.4)


def test_rayleigh_slab_by_exit_angle(rayleigh_walk, rayleigh_exact):
    scores = agrees(rayleigh_walk, rayleigh_exact[0])
    assert scores.shape == (2, 4, 5, 4)


def test_rayleigh_slab_totals(rayleigh_walk, rayleigh_exact):
    """I and V of the laboratory are those of the meridian planes; the transmitted light holds the straight part."""
    up, down = rayleigh_exact[1]
    straight = rayleigh_walk.ballistic
    np.testing.assert_allclose(straight, ELLIPTIC * (1 - (0.4 / 2.4) ** 2) ** 2 * np.exp(-2.1), rtol=1e-12)
    np.testing.assert_allclose(rayleigh_walk.specular, (0.4 / 2.4) ** 2 * ELLIPTIC * [1, 1, -1, -1], rtol=1e-12)
    for i in (0, 3):
        assert abs(z(rayleigh_walk.reflected, up)[i]) < 4
        assert abs(rayleigh_walk.transmitted.value[i] - straight[i] - down[i]) < 4 * rayleigh_walk.transmitted.stderr[i]


def test_linear_light_of_the_laboratory_is_what_a_lens_brings_to_the_axis(rayleigh_walk, rayleigh_exact):
    """Meridian frames are turned in space, with k, to the axis, and the fields projected on x and on k x x."""
    inside, phi = ELLIPTIC * (1 - (0.4 / 2.4) ** 2), 2 * np.pi * np.arange(8) / 8
    modes = [exact.solved(DIPOLES, m, 1.0, 1.4) for m in (0, 2)]
    for side, (measured, axis) in enumerate(((rayleigh_walk.reflected, -1.0), (rayleigh_walk.transmitted, 1.0))):
        light = np.zeros((8, 4))
        for one, times in zip(modes, (1, 2), strict=True):
            flux = 2 * np.pi * one.weight[: one.gauss] @ one.outside(one.light(inside)[side])[: one.gauss]
            light += times * (flux * np.exp(1j * one.m * phi)[:, None]).real
        frames, z_ = exact.directions(np.full(8, 0.6 * axis), phi), np.array([0, 0, axis])
        k = frames[:, 2]
        turn = np.cross(k, z_)
        turned = [
            e + np.cross(turn, e) + np.cross(turn, np.cross(turn, e)) / (1 + k @ z_)[:, None]  # Rodrigues
            for e in (frames[:, 0], frames[:, 1])
        ]
        x, y = np.array([1.0, 0, 0]), np.cross(z_, [1.0, 0, 0])
        jones = np.stack([np.stack([e @ a for e in turned], -1) for a in (x, y)], -2)
        lab = np.einsum("nij,nj->ni", exact.mueller(jones), light).mean(axis=0)
        straight = modes[0].straight(modes[0].light(inside)[side])
        assert np.abs(z(measured, lab + straight)).max() < 4
        assert np.abs(lab[1:3]).min() > 20 * measured.stderr[1:3].max()


def test_wrong_handedness_or_sign_would_be_seen(rayleigh_walk):
    """The oracle with U, or V, or the sense of rotation turned round disagrees with the walk by many errors."""
    for change in ([1, 1, -1, 1], [1, 1, 1, -1], [1, -1, 1, 1]):
        wrong, _ = by_angle(DIPOLES, ELLIPTIC * change * (1 - (0.4 / 2.4) ** 2), n=1.4)
        with pytest.raises(AssertionError):
            agrees(rayleigh_walk, wrong, limit=20)


def test_mie_layers_mix_linear_and_circular_light():
    """A layer of spheres on a layer of dipoles; circular light alone makes U, and linear light V."""
    mie = sphere(1.0)
    stack = slab(thickness=[5e-4, 5e-4], depth=2e-4, mu_s=[2e3, 1e3], mu_a=[100.0, 300.0], n=1.0)
    found = carry(stack, [mie, Rayleigh()], ELLIPTIC, key=jax.random.key(5), photons=1_000_000, bins=BINS)
    layers = ((amplitudes(mie), 1.05, 2 / 2.1), (exact.rayleigh, 0.65, 1 / 1.3))
    truth, _ = by_angle(layers, ELLIPTIC)
    agrees(found, truth)
    assert np.abs(truth[0, :, 4, 3]).max() > 5e-4  # V after linear light


def test_slant_light_by_azimuth():
    """mu0 = 0.4: first and second harmonics, U from natural light."""
    deep = slab(thickness=1e-3, mu_s=1e3, mu_a=0.0)
    found = carry(deep, Rayleigh(), key=jax.random.key(6), photons=1_000_000, angle=np.arccos(0.4), bins=BINS)
    truth, _ = by_angle(ONE, np.array([1 / 0.4, 0, 0, 0]), mu0=0.4)
    agrees(found, truth)


def test_natural_light_on_conservative_dipoles_gives_the_published_fluxes():
    """R and T of tau = 1 (from the tables' radiances, by the oracle), and their meridian Q."""
    found = carry(slab(mu_s=1e3, mu_a=0.0), Rayleigh(), key=jax.random.key(7), photons=1_000_000, bins=BINS)
    assert abs(z(found.reflected, 0.34016895)[0]) < 4
    assert abs(z(found.transmitted, 0.65983105)[0]) < 4
    assert found.absorbed.value == 0 and np.abs(found.reflected.value[3]) == 0


def test_depolarising_henyey_greenstein_is_the_scalar_walk():
    """Against scalar adding and doubling, polarised light sent in; all polarisation is lost."""
    found = carry(
        slab(thickness=2e-4, depth=1e-4, mu_a=1e3, mu_s=9e3, n=1.4),
        Depolarising(HenyeyGreenstein(g=0.75)),
        ELLIPTIC,
        key=jax.random.key(8),
        photons=1_000_000,
        bins=BINS,
    )
    r, t = exact_transport.slab(1e3, 9e3, 0.75, 2e-4, 1.4)
    assert abs(z(found.reflected, r - found.specular[0])[0]) < 4 and abs(z(found.transmitted, t)[0]) < 4
    assert found.polarisation["reflected"].value < 0.02


def test_light_is_neither_lost_nor_made(rayleigh_walk):
    """R + T + A = 1; the roulette is played where little is left."""
    total = rayleigh_walk.specular[0] + rayleigh_walk.reflected.value[0] + rayleigh_walk.transmitted.value[0]
    assert abs(total + rayleigh_walk.absorbed.value.sum() - 1) < 3e-4
    dark = carry(slab(mu_a=9e3, mu_s=3e3), Rayleigh(), key=jax.random.key(9), photons=1_500_000, bins=BINS)
    balance = dark.reflected.value[0] + dark.transmitted.value[0] + dark.absorbed.value.sum() - 1
    assert abs(balance) < 2e-5  # what the roulette takes and gives
    _, (up, down) = by_angle(((exact.rayleigh, 12.0, 0.25),), np.array([1.0, 0, 0, 0]))
    assert abs(z(dark.reflected, up)[0]) < 4
    straight = np.exp(-12.0)
    assert abs(z(dark.transmitted, straight + down[0])[0]) < 4 and down[0] < 2e-4
    assert dark.transmitted.stderr[0] < 0.0125 * down[0]  # and the roulette is played twice on the way


def test_same_key_gives_the_same_bits_on_one_thread_and_on_two(monkeypatch):
    def run(threads):
        monkeypatch.setattr(import_module("qtwin.tissue.polarised"), "cores", lambda: threads)
        return carry(slab(n=1.4), sphere(1.4), ELLIPTIC, key=jax.random.key(0), photons=20_000, bins=BINS, pixels=8)

    one, two = run(1), run(2)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a, b)


def test_errors_cover_the_truth_over_seeds(rayleigh_exact):
    """z of I, V reflected and of the 2 phi harmonics over 60 seeds: variance 31/29 of Student's t, mean 0."""
    truth, fluxes = rayleigh_exact
    scores = []
    for seed in range(60):
        found = carry(slab(n=1.4), Rayleigh(), ELLIPTIC, key=jax.random.key(100 + seed), photons=9600, bins=BINS)
        some = z(found.angle_reflected, truth[0])
        scores.append(
            [*z(found.reflected, fluxes[0])[[0, 3]], some[1, 3, 0], some[2, 4, 1], some[2, 0, 1], some[3, 3, 2]]
        )
    scores = np.array(scores)
    assert np.all(np.abs(scores.mean(axis=0)) < 4 / np.sqrt(60))
    assert np.mean(np.abs(scores) < 2.04) == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / scores.size))
    assert np.mean(scores**2) == pytest.approx(31 / 29, abs=4 * np.sqrt(2.4 / scores.size))


def test_slopes_are_those_of_the_exact_fluxes(rayleigh_walk):
    """d I/d mu_a and d I/d mu_s of both sides, and of V, against central differences of adding and doubling."""
    inside = ELLIPTIC * (1 - (0.4 / 2.4) ** 2)

    def flux(mu_a, mu_s):
        one = exact.Slab([(exact.rayleigh, (mu_a + mu_s) * 1e-3, mu_s / (mu_a + mu_s))], 0, n=1.4)
        lights = one.light(inside)
        return np.stack([one.flux(light) + one.straight(light) for light in lights])

    for field, step in (("mu_a", (1.0, 0.0)), ("mu_s", (0.0, 1.0))):
        truth = (flux(100 + step[0], 2e3 + step[1]) - flux(100 - step[0], 2e3 - step[1])) / 2
        for side, name in enumerate(("reflected", "transmitted")):
            scores = z(rayleigh_walk.slopes[field][name], truth[side])[0, [0, 3]]
            assert np.abs(scores).max() < 4
            assert abs(truth[side, 0]) > 10 * rayleigh_walk.slopes[field][name].stderr[0, 0]


def test_image_and_rings_hold_the_reflected_light(rayleigh_walk):
    """Their sums are the totals (the image reaches far enough), and the second moments of the image show the axis."""
    pixel = (0.04 / 32) ** 2
    np.testing.assert_allclose(
        rayleigh_walk.image_reflected.value.sum(axis=(1, 2)) * pixel, rayleigh_walk.reflected.value, atol=2e-5
    )
    h = 0.02 / 20
    area = 2 * np.pi * h * h * np.append(1 / 6, np.arange(1, 21))
    np.testing.assert_allclose(area @ rayleigh_walk.radius_reflected.value, rayleigh_walk.reflected.value, atol=2e-5)
    along, across = (analysed(rayleigh_walk.image_reflected.value, a) for a in (0, np.pi / 2))
    np.testing.assert_allclose(along + across, rayleigh_walk.image_reflected.value[0], atol=1e-12)


def test_image_of_linear_light_has_its_lobes_across_the_field():
    """A dipole does not radiate along the field: light sent in along x comes back farther out along y than along x."""
    near = Bins(radius=np.float64(1e-3), time=np.float64(1e-9), rings=2, times=2, angles=1, depths=1)
    found = carry(
        slab(mu_a=2e3), Rayleigh(), (1, 1, 0, 0), key=jax.random.key(11), photons=400_000, bins=near, pixels=20
    )
    image = found.image_reflected.value[0]
    x = np.arange(20) - 9.5
    assert np.sum(image * (x**2)[:, None]) > 1.1 * np.sum(image * (x**2)[None, :])


def test_stokes_vectors_in_air_are_physical(rayleigh_walk):
    assert 0 < rayleigh_walk.polarisation["transmitted"].value < 1
    mean = degree_of_polarisation(rayleigh_walk.reflected.value)
    error = rayleigh_walk.polarisation["reflected"].stderr
    assert abs(rayleigh_walk.polarisation["reflected"].value - mean) < 3 * error and error < 0.01
    assert degree_of_polarisation(np.zeros(4)) == 0


# --- rays out --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1.0, 1.4])
def test_rays_make_the_sums_of_the_walk(n):
    """Same key, same photons: Stokes vectors of either side, derivatives from lengths and scatterings; straight light.

    Two layers, elliptic light at 20 degrees: rows, layers and the frames of the two sides cannot be exchanged.
    """
    two = slab(thickness=[4e-4, 6e-4], mu_a=[300.0, 50.0], mu_s=[1e3, 2.5e3], n=n)
    given = {"key": jax.random.key(21), "photons": 32_000, "angle": 0.35}
    walked = carry(two, Rayleigh(), ELLIPTIC, bins=BINS, **given)
    (rays, stokes), specular = polarised_exits(two, Rayleigh(), ELLIPTIC, **given)
    np.testing.assert_array_equal(specular, walked.specular)
    np.testing.assert_array_equal(rays.weight, stokes[:, 0])
    assert np.all(np.linalg.norm(stokes[:, 1:], axis=1) <= stokes[:, 0] * (1 + 1e-9))
    np.testing.assert_allclose(np.linalg.norm(rays.direction, axis=1), 1, rtol=1e-12)
    total = given["photons"]
    straight = rays.below & (rays.scatterings.sum(axis=1) == 0)
    if n == 1.0:  # else light that was only mirrored is not straight
        strayed = walked.transmitted.value - walked.ballistic
        np.testing.assert_allclose(stokes[rays.below & ~straight].sum(axis=0) / total, strayed, rtol=1e-9, atol=1e-12)
        depth = (two.mu_a + two.mu_s) @ two.thickness / np.cos(0.35)
        assert abs(stokes[straight, 0].sum() / total - np.exp(-depth)) < 4 * np.sqrt(np.exp(-depth) / total)
        inside = stokes[straight].mean(axis=0)
        np.testing.assert_allclose(inside / inside[0], ELLIPTIC, rtol=1e-9)
    up = ~rays.below
    np.testing.assert_allclose(stokes[up].sum(axis=0) / total, walked.reflected.value, rtol=1e-9)
    by_length = -(stokes[up, None, :] * rays.length[up, :, None]).sum(axis=0) / total
    np.testing.assert_allclose(by_length, walked.slopes["mu_a"]["reflected"].value, rtol=1e-9, atol=1e-15)
    more = rays.scatterings[up] / np.asarray(two.mu_s) - rays.length[up]
    by_scattering = (stokes[up, None, :] * more[:, :, None]).sum(axis=0) / total
    np.testing.assert_allclose(by_scattering, walked.slopes["mu_s"]["reflected"].value, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(rays.time, rays.length.sum(axis=1) * n / 299792458.0, rtol=1e-12)


def test_rays_leave_where_light_comes_out():
    """A clear slanted plate: one place, one direction, one time for all straight rays."""
    plate = slab(mu_s=0.0, mu_a=0.0, n=1.5)
    rays = polarised_exits(plate, None, ELLIPTIC, key=jax.random.key(2), photons=2000, angle=0.5)[0].rays
    inside = np.arcsin(np.sin(0.5) / 1.5)
    first = rays.below & np.isclose(rays.length[:, 0], 1e-3 / np.cos(inside))
    assert first.sum() > 1500
    np.testing.assert_allclose(rays.place[first], [[1e-3 * np.tan(inside), 0.0]] * first.sum(), atol=1e-12)
    np.testing.assert_allclose(rays.direction[first], [[np.sin(0.5), 0, np.cos(0.5)]] * first.sum(), atol=1e-12)
    with pytest.raises(UserError, match=r"photons: 1000000000 photons that leave need .* GiB, memory_limit"):
        polarised_exits(plate, None, key=jax.random.key(2), photons=10**9)


# --- bad input -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"stokes": (1, 0.8, 0.8, 0)}, "Q\\^2 \\+ U\\^2 \\+ V\\^2 at most I\\^2"),
        ({"stokes": (1, 0, 0)}, "four numbers"),
        ({"stokes": (0, 0, 0, 0)}, "I greater than 0"),
        ({"stokes": (1, np.nan, 0, 0)}, "four numbers"),
        ({"scatterers": None}, "got nothing for layer 0"),
        ({"scatterers": "rayleigh"}, "got str"),
        (
            {"scatterers": HenyeyGreenstein(g=0.9)},
            "got HenyeyGreenstein for layer 0, accepted is Rayleigh, Mie, or Dep",
        ),
        ({"scatterers": [Rayleigh(), Rayleigh()]}, "got 2 for 1 layers"),
        ({"scatterers": sphere(1.33)}, "n_medium 1.33 of the sphere in layer 0"),
        ({"photons": 0}, "photons: got 0"),
        ({"photons": 2**32}, "less than 2\\^32"),
        ({"angle": 1.6}, "angle: got 1.6 rad"),
        ({"angle": np.nan}, "angle: got nan"),
        ({"pixels": -1}, "pixels: got -1"),
        ({"pixels": 3000}, "memory_limit"),
    ],
)
def test_bad_input_is_refused_in_one_line(given, text):
    asked = {"scatterers": Rayleigh(), "stokes": (1, 0, 0, 0), "photons": 100} | given
    with pytest.raises(UserError, match=text) as error:
        carry(slab(), key=jax.random.key(0), **asked)
    assert "\n" not in str(error.value)


def test_absurd_sphere_is_refused():
    with pytest.raises(UserError, match="a unit"):
        sphere(radius=1.2)
