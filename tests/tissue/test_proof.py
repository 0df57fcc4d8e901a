"""Transport against exact values: the table by the script that the README names, gradients, drift, coverage."""

import sys
from pathlib import Path

import exact_transport
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qtwin.core.errors import UserError
from qtwin.tissue import Mie, Rayleigh, Slab, TwoTerm
from qtwin.tissue.exits import exits
from qtwin.tissue.tallies import Bins
from qtwin.tissue.transport import transport

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def proof():
    sys.path.insert(0, str(SCRIPTS))
    import transport_proof

    yield transport_proof
    sys.path.remove(str(SCRIPTS))


@pytest.mark.slow
def test_all_rows_of_adding_doubling(proof):
    """R and T of 44 slabs: errors below 0.2 % or 2e-5, |z| < 4, and z is a normal number on the whole."""
    scores = []
    for row in proof.rows():
        exact = (row["UR1"], row["UT1"])
        both, photons = proof.walked(proof.slab(row), exact, 0.002, jax.random.key(proof.SEED + int(row["id"])))
        for m, e in zip(both, exact, strict=True):
            score, agrees = proof.compare(m, e, photons)
            assert agrees, (row["id"], float(m.value), e, score)
            scores += [score] if e >= 1e-7 else []
    assert len(scores) > 80 and abs(np.mean(np.square(scores)) - 1) < 0.6


def test_the_comparison_can_fail(proof):
    """A coefficient that is off by 2 % is noticed."""
    row = next(r for r in proof.rows() if r["id"] == 9)
    made = proof.slab(row | {"tau": row["tau"] * 1.02})
    both, photons = proof.walked(made, (row["UR1"], row["UT1"]), 0.004, jax.random.key(1))
    assert not proof.compare(both[1], row["UT1"], photons)[1]
    assert not proof.compare(both[0]._replace(value=1e-9, stderr=0.0), 1e-8, 10**9)[1]
    assert not proof.compare(both[0], 1e-8, photons)[1]


def test_the_oracle_gives_the_values_of_the_table(proof):
    for row in proof.rows():
        if row["tau"] <= 50:
            made = proof.slab(row)
            got = exact_transport.slab(float(made.mu_a[0]), float(made.mu_s[0]), row["g"], proof.D, row["n_slab"])
            np.testing.assert_allclose(got, (row["UR1"], row["UT1"]), atol=2e-6)


LAWS = {
    "rayleigh": (Rayleigh(), lambda n: np.where(n == 0, 1.0, np.where(n == 2, 0.1, 0.0))),
    "two terms": (
        TwoTerm(g_forward=0.8, g_backward=-0.4, fraction=0.7),
        lambda n: 0.7 * 0.8**n + 0.3 * (-0.4) ** n,
    ),
    "mie": (Mie(radius=0.3e-6, wavelength=633e-9, n_sphere=1.59, n_medium=1.33), None),
}


@pytest.mark.parametrize("name", LAWS)
def test_other_laws_of_scattering_against_adding_and_doubling(name):
    """R and T of a slab of index 1.4, 16 walks each: |z| and its mean square; g alone would be 10 to 40 errors off."""
    law, moments = LAWS[name]
    exact_moments = law._solved().moments if moments is None else moments(np.arange(96))
    made = Slab(thickness=2e-4, depth=1e-4, mu_a=1000.0, mu_s=9000.0, g=0.0, n=1.4)
    exact = exact_transport.slab(1000.0, 9000.0, exact_moments, 2e-4, 1.4)
    alike = exact_transport.slab(1000.0, 9000.0, float(law.mean_cosine()), 2e-4, 1.4)
    scores, apart = [], []
    for seed in range(16):
        given = {"phase": law, "derivatives": False, "fluence": False}
        found = transport(made, key=jax.random.key(seed), photons=100_000, **given).tallies
        r, t = found["reflectance"], found["transmittance"]
        scores += [(r.value + found["specular"].value - exact[0]) / r.stderr, (t.value - exact[1]) / t.stderr]
        apart.append(abs(alike[0] - exact[0]) / r.stderr)
    assert np.abs(scores).max() < 4 and abs(np.mean(scores)) < 4 / np.sqrt(32) and np.mean(np.square(scores)) < 1.8
    assert name == "mie" or np.mean(apart) > 5


def test_laws_of_layers_and_both_compilers(monkeypatch):
    """Two layers of unlike laws: numba and arrays give equal fractions, and exchanging the laws does not."""
    made = Slab(thickness=[1e-4, 2e-4], depth=5e-5, mu_a=[500.0, 100.0], mu_s=[2e4, 1e4], g=0.5, n=1.4)
    laws = [Rayleigh(), LAWS["two terms"][0]]
    given = {"key": jax.random.key(3), "photons": 20_000}
    ours = transport(made, phase=laws, **given)
    other = transport(made, phase=laws[::-1], **given)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    arrays = transport(made, phase=laws, **given)
    assert "g" not in ours.slopes and set(ours.slopes) == {"mu_a", "mu_s", "thickness"}
    for field in ("reflectance", "transmittance", "absorbed"):
        np.testing.assert_allclose(arrays.tallies[field].value, ours.tallies[field].value, rtol=2e-3)
        np.testing.assert_allclose(arrays.slopes["mu_s"][field].value, ours.slopes["mu_s"][field].value, rtol=0.05)
    gap = abs(other.tallies["reflectance"].value - ours.tallies["reflectance"].value)
    assert gap > 6 * ours.tallies["reflectance"].stderr


def late_light(rho, t, z_b, z_0=1.0, speed=299.792458 / 1.4):
    """Diffuse reflectance without absorption, 1/(mm^2 ns), boundary extrapolated by z_b, diffusion coefficient z_0/3.

    A source at z_0 and its image: Patterson, Chance & Wilson, Appl. Opt. 28, 2331 (1989), (7), for z_b = 0.
    """
    spread = 4 / 3 * z_0 * speed * t
    images = z_0 * np.exp(-(z_0**2) / spread) + (z_0 + 2 * z_b) * np.exp(-((z_0 + 2 * z_b) ** 2) / spread)
    return (np.pi * spread) ** -1.5 / (2 * t) * np.exp(-(rho**2) / spread) * images


def test_light_over_radius_and_time_against_diffusion():
    """R(rho, t) of a half-space, isotropic scattering: late and far the approximation holds to 3 %, in ten places.

    Absorption is an exact factor exp(-mu_a c t/n) on both sides and taken off. With a boundary at zero it is off by 2.
    """
    table = np.genfromtxt(Path(__file__).with_name("time_resolved_diffusion.csv"), delimiter=",", skip_header=2)
    table = table[(table[:, 2] == 0.005) & (table[:, 1] >= np.maximum(0.5, table[:, 0] / 30))]
    absorbed = np.exp(-0.005 * 299.792458 / 1.4 * table[:, 1])
    extrapolated = 2 / 3 * (1 + 0.493) / (1 - 0.493)  # 2 A D, internal reflection 0.493 of diffuse light at n = 1.4
    for z_b, column in ((0.0, 5), (extrapolated, 6)):  # the table's z_0 is 1/(mu_a + mu_s')
        there = late_light(table[:, 0], table[:, 1], z_b / 1.005, 1 / 1.005) * absorbed
        np.testing.assert_allclose(there, table[:, column], rtol=2e-3)
    photons, mu_a = 1_000_000, 5.0
    made = Slab(thickness=0.4, depth=0.1, mu_a=mu_a, mu_s=1000.0, g=0.0, n=1.4)
    found, specular = exits(made, key=jax.random.key(5), photons=photons, memory_limit=2**33)
    up = ~found.below
    r, t = np.hypot(*found.place[up].T) * 1e3, found.time[up] * 1e9
    clear, part = found.weight[up] * np.exp(mu_a * found.length[up, 0]), np.linspace(-0.95, 0.95, 20)
    ratios, errors, wrong, entered = [], [], [], photons * (1 - specular)
    for rho, late in table[:, :2]:
        w = clear[(np.abs(r - rho) < 1) & (np.abs(t - late) < 0.1 * late)] / (entered * 4 * np.pi * rho * 0.2 * late)
        ring, bin_ = rho + part[:, None], late * (1 + 0.1 * part[None, :])
        expected, zero = (np.mean(late_light(ring, bin_, z) * ring / rho) for z in (extrapolated, 0.0))
        ratios.append(w.sum() / expected)
        errors.append(np.sqrt(np.sum(w**2)) / expected)
        wrong.append(w.sum() / zero)
    assert len(ratios) == 10 and np.min(wrong) > 2
    assert np.all(np.abs(np.array(ratios) - 1) < 0.03 + 4 * np.array(errors))
    weight = 1 / np.square(errors)
    assert abs(np.sum(weight * ratios) / weight.sum() - 1) < 0.03


def test_what_is_no_law_of_scattering_is_refused():
    made = Slab(thickness=2e-4, depth=1e-4, mu_a=1000.0, mu_s=9000.0, g=0.0, n=1.4)
    for phase, words in (("mie", "phase: got str"), ([Rayleigh(), Rayleigh()], "phase: got 2 for 1 layers")):
        with pytest.raises(UserError, match=words):
            transport(made, key=jax.random.key(0), photons=100, phase=phase)


GRADIENT_ROWS = (4, 6, 8, 9, 12, 14, 30, 32, 36, 55)


def test_derivatives_of_ten_slabs_against_adding_and_doubling(proof):
    """By mu_a, mu_s, g and thickness, most of them far from 0, so that a sign or a 2 would show.

    The eight comparisons of one walk go together: four walks of each slab, for a mean square that says something.
    """
    scores, known = [], []
    for row in (r for r in proof.rows() if r["id"] in GRADIENT_ROWS):
        made = proof.slab(row)
        mu_a, mu_s = float(made.mu_a[0]), float(made.mu_s[0])
        exact = exact_transport.slopes_of(mu_a, mu_s, row["g"], proof.D, row["n_slab"])[1]
        for seed in range(4):
            found = transport(made, key=jax.random.key(100 * int(row["id"]) + seed), photons=250_000).slopes
            for field, both in exact.items():
                for name, value in zip(("reflectance", "transmittance"), both, strict=True):
                    m = found[field][name]
                    scores.append(float((m.value[0] - value) / m.stderr[0]))
                    known.append(abs(value) > 8 * m.stderr[0])
    assert len(scores) == 320 and np.mean(known) > 0.9
    assert max(map(abs, scores)) < 4.5 and 0.5 < np.mean(np.square(scores)) < 1.6


def test_derivative_by_the_index_from_walks_of_one_seed():
    """The way that the README names: differences of two walks whose photons share all random numbers."""
    given, h = {"mu_a": 200.0, "mu_s": 8e3, "g": 0.75, "thickness": 2.5e-4}, 0.02
    ends = []
    for n in (1.4 + h, 1.4 - h):
        walk = transport(
            Slab(**given, depth=1e-4, n=n), key=jax.random.key(30), photons=2_000_000, derivatives=False, fluence=False
        )
        ends.append(walk.tallies)
    exact = [np.array(exact_transport.slab(*given.values(), 1.4 + s * h)) for s in (1, -1)]
    expected = (exact[0] - exact[1]) / (2 * h)
    for name, value in zip(("reflectance", "transmittance"), expected, strict=True):
        up, down = (end[name].value + (name == "reflectance") * end["specular"].value for end in ends)
        apart = np.hypot(ends[0][name].stderr, ends[1][name].stderr) / (2 * h)
        slope = (up - down) / (2 * h)
        assert abs(value) > 20 * apart and abs(slope - value) < 4 * apart


def against(found, row):
    """z of R and T."""
    return [float((found.tallies[k].value - row[k]) / found.tallies[k].stderr) for k in row]


VAN_DE_HULST = {"reflectance": 0.0973946, "transmittance": 0.6609577}


def test_small_and_large_walks_agree(proof):
    for photons in (100_000, 10_000_000):
        found = transport(Slab(**proof.FIRST_SLAB), key=jax.random.key(20), photons=photons, derivatives=False)
        assert max(map(abs, against(found, VAN_DE_HULST))) < 4


@pytest.mark.slow
def test_a_thousand_million_photons_do_not_drift(proof):
    key, fast = jax.random.key(21), {"derivatives": False, "fluence": False}
    found = transport(Slab(**proof.FIRST_SLAB), key=key, photons=1_000_000_000, **fast)
    assert found.tallies["transmittance"].stderr < 2e-5
    assert max(map(abs, against(found, VAN_DE_HULST))) < 4


def test_intervals_cover_the_exact_values(proof):
    """200 seeds: values and derivatives of R and T, each within three binomial errors of 95 %."""
    exact = proof.exact_values()
    assert len(exact) == 10
    held = proof.covered(exact, 200)
    assert all(abs(part - 0.95) < 3 * (0.95 * 0.05 / 200) ** 0.5 for part in held.values()), held
    wrong = proof.covered({name: value * (1.1 if " by " in name else 1.02) for name, value in exact.items()}, 50)
    assert min(wrong.values()) < 0.8


def test_light_by_angle_against_the_exact_table(proof, reference_data):
    table = np.loadtxt(reference_data.parent / "reference" / "slab_angular.csv", delimiter=",", skiprows=2)
    bins = Bins(radius=jnp.asarray(1e-3), time=jnp.asarray(1e-11), angles=18)
    slab = Slab(**proof.FIRST_SLAB)
    given = {"key": jax.random.key(22), "photons": 2_000_000, "bins": bins, "derivatives": False}
    found = transport(slab, numerical_aperture=0.5, **given).tallies
    solid = -2 * np.pi * np.diff(np.cos(np.linspace(0, np.pi / 2, 19)))
    within = np.sum((found["angle_transmitted"].value * solid)[:6])  # 30 degrees, the aperture of 0.5
    assert found["accepted"].value - found["ballistic"].value == pytest.approx(within, rel=1e-4)
    fine = np.linspace(0, np.pi / 2, 18 * 200 + 1)
    middle = (fine[1:] + fine[:-1]) / 2
    for name, column in (("angle_reflected", 1), ("angle_transmitted", 2)):
        curve = np.interp(middle, table[:, 0], table[:, column]) * np.sin(middle)
        exact = curve.reshape(18, -1).sum(axis=1) / np.sin(middle).reshape(18, -1).sum(axis=1)
        inner = slice(1, -1)  # the table ends before 0 and 90 degrees
        z = ((found[name].value - exact) / np.hypot(found[name].stderr, 2e-4 * exact))[inner]
        assert np.max(np.abs(z)) < 4 and np.mean(z**2) < 2, z
