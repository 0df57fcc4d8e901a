"""Absorption and scattering of samples from reflectance and transmittance, against adding and doubling."""

import csv

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qtwin.calibrate.calibration import Settings, calibrate, pose
from qtwin.calibrate.slab import Sphere
from qtwin.core.errors import FieldError, UserError
from qtwin.validate.cases import TABLES

HEAD = "thickness [mm],g,n,reflectance,reflectance_error,transmittance,transmittance_error"
QUICK = Settings(starts=1, profiles=False, draws=0)
ROWS = [(0.9, 0, 2, 1.5), (0.9, 0.5, 1, 1), (0.95, 0.8, 5, 1.37), (0.99, 0, 10, 1.5), (0.999, 0.9, 10, 1)]


def exact(albedo, g, tau, n) -> dict[str, float]:
    lines = [line for line in (TABLES / "adding_doubling.csv").read_text().splitlines() if not line.startswith("#")]
    rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(lines)]
    return next(r for r in rows if (r["albedo"], r["g"], r["tau"], r["n"]) == (albedo, g, tau, n))


def table(path, rows, error):
    path.write_text(
        "\n".join([HEAD, *(f"1,{r['g']},{r['n']},{r['R']},{error},{r['T']},{error}" for r in map(exact_of, rows))])
    )
    return path


def exact_of(row):
    return exact(*row)


def coefficients(row):
    albedo, _, tau, _ = row
    return tau * (1 - albedo) * 1e3, tau * albedo * 1e3


def found(path, **settings):
    model = Sphere(**settings)
    data = model.read(path)
    problem = pose(model, data, ["mu_a", "mu_s"], {})
    return calibrate(problem, data, QUICK, key=jax.random.key(2))


@pytest.mark.slow
def test_coefficients_are_recovered_within_one_percent(tmp_path):
    result = found(table(tmp_path / "spheres.csv", ROWS, 1e-6), photons=2**19)
    true = np.array([coefficients(row) for row in ROWS]).T.ravel()
    np.testing.assert_allclose(result.x, true, rtol=0.01)
    assert np.all(np.abs(result.x - true) < 4 * result.expected_error.stderr)


def test_a_sample_is_recovered_within_its_error(tmp_path):
    """From half as much absorption and twice as much scattering: the walk has to be made anew."""
    row = ROWS[1]
    path = table(tmp_path / "spheres.csv", [row], 1e-4)
    true = np.array(coefficients(row))
    result = found(path, photons=2**15, mu_a=f"{true[0] / 2} 1/m", mu_s=f"{true[1] * 2} 1/m")
    assert np.all(np.abs(result.x - true) < 4 * result.expected_error.stderr)
    assert np.all(result.walk_error < 0.03 * true)
    assert result.walks > 0


def test_slopes_are_those_of_finite_differences(tmp_path):
    model = Sphere(mu_a="1 1/mm", mu_s="2 1/mm", photons=8192)
    data = model.read(table(tmp_path / "spheres.csv", ROWS[:2], 1e-3))
    given = {name: jnp.asarray(a) for name, a in data.given.items()}
    model = model.started(data).renewed(given)

    @jax.jit
    def mean(a, s):
        return eqx.tree_at(lambda m: (m.mu_a, m.mu_s), model, (a, s)).expect(given).mean

    at, way = (model.mu_a, model.mu_s), (jnp.array([1.0, -2.0]), jnp.array([3.0, 1.0]))
    slope = jax.jvp(mean, at, way)[1]
    step = 1e-3
    ends = [mean(*(x + side * step * d for x, d in zip(at, way, strict=True))) for side in (1, -1)]
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2 * step), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(np.mean(model.blocks(given), axis=0), mean(*at), rtol=1e-6)


@pytest.mark.parametrize(
    "text, told",
    [
        ("1,0,1.4,0.3,1e-3,0.8,1e-3", "row 0, transmittance"),
        ("1,0,1.4,0.3,0,0.5,1e-3", "row 0, reflectance_error"),
        ("1,1,1.4,0.3,1e-3,0.5,1e-3", "row 0, g: got 1"),
        ("1,0,0.9,0.3,1e-3,0.5,1e-3", "row 0, n: got 0.9"),
        ("0,0,1.4,0.3,1e-3,0.5,1e-3", "row 0, thickness"),
    ],
)
def test_tables_that_no_sample_gives_are_refused(tmp_path, text, told):
    path = tmp_path / "spheres.csv"
    path.write_text(f"{HEAD}\n{text}\n")
    with pytest.raises(UserError, match=told):
        Sphere().read(path)


def test_other_wrong_settings_are_refused(tmp_path):
    path = table(tmp_path / "spheres.csv", ROWS[:3], 1e-3)
    with pytest.raises(UserError, match=r"model\.photons: 3 rows of 1000000000 photons need"):
        Sphere(photons=10**9).read(path)
    with pytest.raises(FieldError, match="photons"):
        Sphere(photons=10)
    two = Sphere(mu_a=["1 1/mm", "2 1/mm"], mu_s="1 1/mm")
    with pytest.raises(FieldError, match="one for each of 3 samples"):
        two.started(two.read(path))
