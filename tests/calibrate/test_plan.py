"""Exposure shared between rows: against a closed form, and against fits to drawn data."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_coverage import FREE, MODEL, problem  # noqa: F401

from qtwin import calibrate_job
from qtwin.calibrate.calibration import pose
from qtwin.calibrate.model import AbstractModel, Data, Expected, Part
from qtwin.calibrate.plan import planned
from qtwin.calibrate.slab import Sphere
from qtwin.core.config import compose
from qtwin.core.errors import UserError
from qtwin.core.params import param, positive


class Line(AbstractModel):
    """Counts t a + t b s at settings s: a Poisson line."""

    a: jax.Array = param("Hz", positive, "rate at s = 0")
    b: jax.Array = param("Hz", positive, "slope")

    def read(self, path):
        raise NotImplementedError

    def expect(self, given):
        mean = given["time"] * (self.a + self.b * given["s"])
        return Expected(mean, mean)

    def exposures(self, given):
        return given["time"]

    def longer(self, given, factors):
        return given | {"time": given["time"] * factors}


def line(settings):
    n = len(settings)
    rows = np.arange(n)
    data = Data(
        np.full(n, 1e4),
        {"s": np.asarray(settings, float), "time": np.full(n, 1e3)},
        rows,
        {"all": Part(rows, rows, "s")},
    )
    return pose(Line("1 Hz", "3 Hz"), data, ["a", "b"], {})


def test_a_line_is_measured_at_its_ends():
    """D-optimal for two parameters: two settings of equal share. A-optimal: shares as |row of F^-1| by sqrt(rate)."""
    p = line(np.linspace(0, 1, 5))
    z = p.free.free(jnp.asarray([1.0, 3.0]))
    none = np.zeros(2, bool)
    found = planned(p, z, none, "D", key=jax.random.key(0), repeats=400)
    np.testing.assert_allclose(found.shares[[0, -1]], 0.5, atol=1e-3)
    assert np.all(found.predicted < found.now)
    z_score = (found.simulated - found.predicted) / found.simulated_stderr
    assert np.all(np.abs(z_score) < 4)
    # var a = r_0/t_0, var b = r_0/t_0 + r_1/t_1: relative variances, least for t_0/t_1 = sqrt(r_0 (1 + 1/9)/(r_1/9))
    found = planned(p, z, none, "A", key=jax.random.key(1), repeats=10)
    ratio = np.sqrt(1.0 * (1 + 1 / 9) / (4.0 / 9))
    np.testing.assert_allclose(found.shares[[0, -1]], np.array([ratio, 1]) / (1 + ratio), atol=2e-3)


@pytest.mark.slow
def test_errors_of_a_bell_measurement_are_those_of_drawn_data(problem):  # noqa: F811
    """Scattered counts and priors: a longer exposure gains less than in proportion."""
    z = problem.free.free(jnp.asarray(problem.free.values(MODEL)))
    found = planned(problem, z, np.zeros(len(FREE), bool), "D", key=jax.random.key(2), repeats=400)
    assert np.linalg.norm(found.predicted / found.now) < np.sqrt(len(FREE))
    assert np.all(np.abs(found.simulated - found.predicted) < 4 * found.simulated_stderr)
    assert found.excess < 1e-4


def test_samples_between_spheres_share_the_light(tmp_path):
    """Two samples, the second measured three times less surely: D-optimal shares are even, det M goes as (w_1 w_2)^2;
    A-optimal ones are as the root of the sum of each one's relative variances."""
    path = tmp_path / "spheres.csv"
    head = "thickness [mm],g,n,reflectance,reflectance_error,transmittance,transmittance_error"
    path.write_text(f"{head}\n1,0.5,1,0.13,1e-3,0.739,1e-3\n1,0.5,1,0.13,3e-3,0.739,3e-3\n")
    model = Sphere(mu_a="0.1 1/mm", mu_s="0.9 1/mm", photons=8192)
    p = pose(model, model.read(path), ["mu_a", "mu_s"], {})
    z, none = p.free.free(jnp.asarray(p.free.values(p.model))), np.zeros(4, bool)
    found = planned(p, z, none, "D", key=jax.random.key(3), repeats=200)
    np.testing.assert_allclose(found.shares, 0.5, atol=1e-3)
    np.testing.assert_allclose(found.predicted, found.now, rtol=2e-3)
    assert np.all(np.abs(found.simulated - found.predicted) < 4 * found.simulated_stderr)
    found = planned(p, z, none, "A", key=jax.random.key(3), repeats=10)
    relative = (found.now / np.asarray(p.free.values(p.model))) ** 2
    one, two = relative[[0, 2]].sum(), relative[[1, 3]].sum()
    np.testing.assert_allclose(found.shares, np.sqrt([one, two]) / np.sqrt([one, two]).sum(), atol=2e-3)
    np.testing.assert_allclose(found.predicted[[0, 2]], found.now[[0, 2]] * np.sqrt(0.5 / found.shares[0]), rtol=1e-6)


def test_what_cannot_be_planned_is_told(problem, tmp_path):  # noqa: F811
    z, none = problem.free.free(jnp.asarray(problem.free.values(MODEL))), np.zeros(len(FREE), bool)
    with pytest.raises(UserError, match="plan: got 'E', accepted is null or one of D, A"):
        planned(problem, z, none, "E", key=jax.random.key(0), repeats=2)
    with pytest.raises(UserError, match="plan: got 'E'"):
        calibrate_job.run(compose(["plan=E", "data=x"], name="calibrate"), tmp_path)
    part = dataclasses.replace(problem, used=problem.used.at[0].set(False))
    with pytest.raises(UserError, match="held back"):
        planned(part, z, none, "D", key=jax.random.key(0), repeats=2)

    class Whole(Line):
        def exposures(self, given):
            return None

    whole = dataclasses.replace(line([0, 1]), model=Whole("1 Hz", "3 Hz"))
    with pytest.raises(UserError, match="cannot be shared between the rows of Whole"):
        planned(whole, jnp.zeros(2), none[:2], "D", key=jax.random.key(0), repeats=2)
