"""Sources on a slab: exact values where they are known, and one law for all of them."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qtwin.core.errors import FieldError
from qtwin.tissue import Slab
from qtwin.tissue.exits import exits
from qtwin.tissue.lights import Disc, Gaussian, Isotropic, Lambertian, Pencil, Rays
from qtwin.tissue.tallies import Bins
from qtwin.tissue.transport import transport

SLAB = Slab(thickness=[3e-4, 5e-4], depth=4e-4, mu_a=[300, 900], mu_s=[4e3, 9e3], g=[0.8, 0.3], n=[1.37, 1.45])
CLEAR = Slab(thickness=1e-3, depth=5e-4, mu_a=0, mu_s=0, g=0, n=1.4)
SOURCES = [Pencil(), Gaussian("50 um"), Disc("0.1 mm"), Lambertian(), Isotropic("0.35 mm")]
SOURCES += [Rays([[0, 0]], [[0.5, 0, 1]])]


@pytest.fixture(scope="module")
def proof():
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
    import transport_proof

    return transport_proof


def z(a, b):
    return (a.value - b.value) / np.hypot(a.stderr, b.stderr)


def lines(light, slab=SLAB, photons=200_000, seed=0, **more):
    return transport(slab, key=jax.random.key(seed), photons=photons, light=light, **more)


@pytest.mark.parametrize("row_id", [1, 4, 5, 6, 8, 9, 12, 14, 30, 36])
def test_diffuse_light_against_exact_transport(proof, row_id):
    """URU and UTU of ten rows, specular and straight light included."""
    row = next(r for r in proof.rows() if r["id"] == row_id)
    found = lines(Lambertian(), proof.slab(row), 400_000, row_id, derivatives=False).tallies
    r, t = (found["specular"].value + found["reflectance"].value, found["reflectance"].stderr), found["transmittance"]
    error = np.hypot(r[1], found["specular"].stderr)
    assert abs(r[0] - row["URU"]) < 4 * error and abs(t.value - row["UTU"]) < 4 * t.stderr
    assert t.stderr < 0.01 * row["UTU"] or row["UTU"] < 1e-3


@pytest.mark.parametrize("light", SOURCES, ids=lambda s: type(s).__name__)
def test_no_light_is_lost(light):
    found = lines(light)
    t = found.tallies
    total = t["specular"].value + t["reflectance"].value + t["transmittance"].value + t["absorbed"].value.sum()
    assert total == pytest.approx(1, abs=3e-3) and abs(t["balance"].value) < 4 * t["balance"].stderr
    assert abs(t["accepted"].value - t["transmittance"].value) < 1e-3  # numerical aperture 1
    for name in ("reflected", "transmitted"):
        per_angle = 2 * np.pi * np.sum(t[f"angle_{name}"].value * -np.diff(np.cos(np.linspace(0, np.pi / 2, 31))))
        fraction = t["reflectance"].value if name == "reflected" else t["transmittance"].value
        missing = float(SLAB.ballistic()) if name == "transmitted" and isinstance(light, Pencil) else 0
        assert per_angle == pytest.approx(fraction - missing, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("light", [Gaussian("50 um"), Disc("0.1 mm"), Rays([[3e-4, -2e-4]], [[0, 0, 2]])])
def test_a_straight_beam_shares_the_fractions_of_a_pencil(light):
    pencil, wide = lines(None, seed=1).tallies, lines(light, seed=2).tallies
    for name in ("reflectance", "transmittance", "absorbed"):
        assert np.all(np.abs(z(pencil[name], wide[name])) < 4), name
    straight = wide["ballistic"]
    assert straight.value == pytest.approx(float(SLAB.ballistic()), abs=4 * straight.stderr)
    assert wide["specular"].value == pytest.approx(float(1 - SLAB.entrance()), rel=1e-6)


def test_a_wide_beam_spreads_over_its_disc():
    """Without scattering the transmitted light has the irradiance of the beam: 1/(pi a^2) T up to its rim."""
    clear = Slab(thickness=1e-3, depth=5e-4, mu_a=100, mu_s=0, g=0, n=1.4)
    bins = Bins(radius=jnp.asarray(4e-4), time=jnp.asarray(1e-10), rings=41)
    found = lines(Disc("0.2 mm"), clear, 400_000, bins=bins, derivatives=False).tallies
    m = found["radius_transmitted"]
    inside = found["transmittance"].value / (np.pi * 4e-8)
    assert np.all(np.abs(m.value[1:19] - inside) < 4.5 * m.stderr[1:19]) and np.all(m.value[22:] == 0)
    gauss = lines(Gaussian("0.2 mm"), clear, 400_000, bins=bins, derivatives=False).tallies["radius_transmitted"]
    r = np.linspace(0, 4e-4, 41)
    shape = np.exp(-2 * r**2 / 4e-8)
    expected = found["transmittance"].value * 2 / (np.pi * 4e-8) * shape
    assert np.all(np.abs(gauss.value - expected)[2:30] < (4.5 * gauss.stderr + 0.003 * expected)[2:30])


def test_a_point_in_the_middle_shines_alike_to_both_sides():
    slab = Slab(thickness=1e-3, depth=4e-4, mu_a=200, mu_s=3e3, g=0.6, n=1.4)
    t = lines(Isotropic("0.5 mm"), slab).tallies
    assert t["specular"].value == 0 and abs(z(t["reflectance"], t["transmittance"])) < 4
    clear = Slab(thickness=1e-3, depth=4e-4, mu_a=0, mu_s=0, g=0, n=1.0)
    t = lines(Isotropic("0.1 mm"), clear).tallies
    assert t["reflectance"].value == pytest.approx(0.5, abs=4 * t["reflectance"].stderr)


def test_reciprocity_of_diffuse_light_and_a_slanted_ray():
    """Rays of a Lambertian source, given one by one, are that source."""
    rng = np.random.default_rng(3)
    count = 32 * 4096
    square, azimuth = 1 - rng.random(count), 2 * np.pi * rng.random(count)
    sine = np.sqrt(1 - square)
    u = np.stack([sine * np.cos(azimuth), sine * np.sin(azimuth), np.sqrt(square)], axis=1)
    one = lines(Rays(np.zeros((count, 2)), u), photons=count, seed=4).tallies
    other = lines(Lambertian(), photons=count, seed=5).tallies
    for name in ("specular", "reflectance", "transmittance", "absorbed"):
        assert np.all(np.abs(z(one[name], other[name])) < 4), name


@pytest.mark.parametrize("light", [Lambertian(), Isotropic("0.35 mm")], ids=["lambertian", "isotropic"])
def test_derivatives_against_other_walks(light):
    """Central differences of independent walks, by mu_a and mu_s of the second layer and thickness of the first."""
    found = lines(light, photons=1_000_000, seed=6).slopes
    for field, layer, part in (("mu_a", 1, 0.2), ("mu_s", 1, 0.1), ("thickness", 0, 0.1)):
        value = getattr(SLAB, field)
        h = part * float(value[layer])
        ends = []
        for sign in (1, -1):
            fields = {f: getattr(SLAB, f) for f in ("thickness", "mu_a", "mu_s", "g", "n", "depth")}
            fields[field] = value.at[layer].add(sign * h)
            # the point of an isotropic source keeps its place within its layer
            moved = Isotropic(3e-4 * (1 + sign * part) + 5e-5) if field == "thickness" else light
            other = moved if isinstance(light, Isotropic) else light
            ends.append(lines(other, Slab(**fields), 1_000_000, 20 + sign, derivatives=False, fluence=False).tallies)
        for name in ("reflectance", "transmittance"):
            slope = (ends[0][name].value - ends[1][name].value) / (2 * h)
            error = np.hypot(ends[0][name].stderr, ends[1][name].stderr) / (2 * h)
            m = found[field][name]
            curved = 0.02 * abs(slope)  # third order of so wide a difference
            assert abs(m.value[layer] - slope) < 4 * np.hypot(m.stderr[layer], error) + curved, (field, name)


def test_trapped_light_is_absorbed_in_the_end():
    """A point in clear, absorbing glass: what is beyond the critical angle never leaves, and is all absorbed."""
    slab = Slab(thickness=1e-3, depth=5e-4, mu_a=1e3, mu_s=0, g=0, n=1.5)
    t = lines(Isotropic("0.5 mm"), slab, 100_000).tallies
    trapped = np.sqrt(1 - 1 / 1.5**2)
    assert trapped < t["absorbed"].value[0] < 1 and abs(t["balance"].value) < 4 * t["balance"].stderr
    assert abs(z(t["reflectance"], t["transmittance"])) < 4


def test_rays_are_taken_by_their_weights():
    count = 5000
    place, u = np.zeros((count, 2)), np.tile([0.0, 0, 1], (count, 1))
    place[2500:, 0] = 0.01
    half = Rays(place, u, np.where(np.arange(count) < 2500, 0.3, 0.1))
    out, specular = exits(CLEAR, key=jax.random.key(13), photons=8192, light=half)
    first = out.place[:, 0] < 0.005
    assert np.sum(out.weight[first]) / np.sum(out.weight) == pytest.approx(0.75, abs=0.001)
    assert specular == pytest.approx((0.4 / 2.4) ** 2, abs=1e-6)


def test_what_leaves_is_what_the_tallies_count():
    photons = 200_000
    for light in (None, Gaussian("50 um"), Isotropic("0.35 mm")):
        out, specular = exits(SLAB, key=jax.random.key(8), photons=photons, light=light)
        t = lines(light, seed=9).tallies
        assert specular == pytest.approx(t["specular"].value, abs=1e-6)
        for side, name in ((~out.below, "reflectance"), (out.below, "transmittance")):
            w = out.weight[side]
            error = np.sqrt(np.sum(w**2)) / photons
            assert abs(w.sum() / photons - t[name].value) < 4 * np.hypot(error, t[name].stderr)
        np.testing.assert_allclose(np.sum(out.direction**2, axis=1), 1, atol=1e-6)
        assert np.all((out.direction[:, 2] > 0) == out.below) and np.all(out.time > 0)
        np.testing.assert_allclose(out.time, out.length @ np.array([1.37, 1.45]) / 299792458.0)
        assert out.scatterings.max() > 20 and np.all(out.length >= 0)


def test_rays_go_on_into_the_next_slab():
    """Through scattering tissue, then through clear, absorbing tissue of the same index: as through both at once."""
    first = {"thickness": 3e-4, "mu_a": 300, "mu_s": 6e3, "g": 0.7, "n": 1.0}
    second = {"thickness": 2e-4, "mu_a": 3e3, "mu_s": 0, "g": 0, "n": 1.0}
    both = Slab(**{k: [first[k], second[k]] for k in first}, depth=1e-4)
    photons = 400_000
    out, _ = exits(Slab(**first, depth=1e-4), key=jax.random.key(10), photons=photons)
    down = out.below
    on, arrived = Rays(out.place[down], out.direction[down], out.weight[down]), out.weight[down].sum() / photons
    through, _ = exits(Slab(**second, depth=1e-4), key=jax.random.key(11), photons=photons, light=on)
    got = arrived * through.weight.sum() / photons
    error = got * np.hypot(np.sqrt(np.sum(out.weight[down] ** 2)) / photons / arrived, photons**-0.5)
    t = lines(None, both, photons, 12, derivatives=False).tallies["transmittance"]
    assert error < 0.01 * got and abs(got - t.value) < 4 * np.hypot(error, t.stderr)
    far = np.hypot(*through.place.T)
    assert np.average(far, weights=through.weight) > np.average(np.hypot(*on.place.T), weights=on.weight)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gaussian("0 m"), "waist: got 0 m, accepted is a value greater than 0"),
        (lambda: Disc("3 kg"), "radius: got '3 kg'"),
        (lambda: lines(Isotropic("2 mm")), "depth: got 2 mm, accepted is less than the thickness 800 µm"),
        (lambda: Rays([[0, 0]], [[0, 0, -1]]), "direction: got a ray that does not go down"),
        (lambda: Rays([[0, 0, 0]], [[0, 0, 1]]), r"place: got an array of shape \(1, 3\)"),
        (lambda: Rays([[0, 0]], [[0, 0, 1], [0, 0, 1]]), r"direction: got an array of shape \(2, 3\)"),
        (lambda: Rays([[0, 0]], [[0, 0, 1]], -1), "weight: got something else than numbers from 0 up"),
        (lambda: Rays([[0, 0]], [[0, 0, 1]], 0), "weight: got something else than numbers from 0 up, not all 0"),
        (lambda: lines(Isotropic("0.1 mm"), CLEAR), "depth: got a point in a clear layer that keeps light for ever"),
        (lambda: Rays([[0, np.nan]], [[0, 0, 1]]), "place: got a value that is not finite"),
    ],
)
def test_what_is_no_light_is_refused(make, message):
    with pytest.raises(FieldError, match=message):
        make()
