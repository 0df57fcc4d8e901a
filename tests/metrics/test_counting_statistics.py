"""Counting statistics in the form of a report, against numbers drawn from their definition."""

import numpy as np
import pytest

from qtwin.core.errors import UserError
from qtwin.core.records import Estimate
from qtwin.correlation.coincidence import car, klyshko
from qtwin.metrics.statistics import heralding, jackknife, noise_reduction_of
from qtwin.modes.counts import noise_reduction_factor


def twin_beams(exposures, per_mode, eta_s, eta_i, seed, n=8, modes=3):
    """Thermal pairs of a superpixel, each photon kept with its own efficiency."""
    rng = np.random.default_rng(seed)
    pairs = rng.negative_binomial(modes, 1 / (1 + per_mode), (exposures, n, n))
    return rng.binomial(pairs, eta_s), rng.binomial(pairs, eta_i)


@pytest.mark.parametrize(("exposures", "n"), [(1000, 8), (20, 40)])
def test_noise_reduction_factor_of_twin_beams(exposures, n):
    """1 - 2 e1 e2/(e1 + e2) + mu (e1 - e2)^2/(e1 + e2) = 0.342857 at (1, 0.8, 0.6)."""
    found = noise_reduction_of(*twin_beams(exposures, 1.0, 0.8, 0.6, 151, n))
    expected = float(noise_reduction_factor(1.0, 0.8, 0.6))
    assert expected == pytest.approx(0.342857, abs=5e-7)
    assert abs(found.value - expected) / found.error < 4
    assert 0.25 < found.error / (expected * np.sqrt(2 / (exposures * n * n))) < 4  # of the order of a variance's error
    assert abs(found.value - noise_reduction_factor(1.0, 0.8, 0.7)) / found.error > 5


def test_error_of_the_noise_reduction_factor_is_its_scatter():
    found = [noise_reduction_of(*twin_beams(60, 0.5, 0.9, 0.7, 1520 + i)) for i in range(150)]
    z = [(f.value - float(noise_reduction_factor(0.5, 0.9, 0.7))) / f.error for f in found]
    assert abs(np.mean(z)) < 4 / np.sqrt(150)
    # Student's t of 11 degrees has variance 11/9 and excess 6/7
    assert abs(np.var(z) / (11 / 9) - 1) < 4 * np.sqrt((2 + 6 / 7) / 150)


def test_few_exposures_have_no_noise_reduction_factor():
    noise_reduction_of(*twin_beams(4, 1.0, 0.8, 0.6, 153))
    with pytest.raises(UserError, match=r"budget\.exposures: got 3"):
        noise_reduction_of(*twin_beams(3, 1.0, 0.8, 0.6, 153))


MU, ETA_S, ETA_I, GATES, DARK = 2e-3, 0.4, 0.25, 10**7, 3e-4


def gated(seed):
    """Coincidences and clicks of Poisson pairs in ``GATES`` gates, dark counts in the starting arm."""
    rng = np.random.default_rng(seed)
    pairs = rng.poisson(MU * ETA_S * ETA_I * GATES)
    starts = pairs + rng.poisson((MU * ETA_S * (1 - ETA_I) + DARK) * GATES)
    stops = pairs + rng.poisson(MU * ETA_I * (1 - ETA_S) * GATES)
    return pairs + rng.poisson(starts * stops / GATES), starts, stops


def test_heralding_of_drawn_counts():
    """A window as long as a gate: CAR of PHYSICS' closed form, Klyshko's efficiencies; every error is the scatter."""
    dark = Estimate(DARK * GATES, 0.0)
    runs = [heralding(*gated(1540 + i), window=1e-9, time=1e-9 * GATES, dark_start=dark) for i in range(200)]
    expected = car(MU, ETA_S, ETA_I, DARK, 0.0)
    figures = {
        "car": [((r.car.value - expected) / r.car.error) for r in runs],
        "start": [((r.efficiencies.start.value - ETA_S) / r.efficiencies.start.error) for r in runs],
        "stop": [((r.efficiencies.stop.value - ETA_I) / r.efficiencies.stop.error) for r in runs],
    }
    for name, z in figures.items():
        assert abs(np.mean(z)) < 4 / np.sqrt(200), name
        assert abs(np.var(z) - 1) < 4 * np.sqrt(2 / 200), name


def test_heralding_is_the_plain_quotients():
    c, s, i = 900, 12_000, 7_000
    found = heralding(c, s, i, window=2e-9, time=1.0)
    accidentals = s * i * 2e-9
    assert found.car.value == pytest.approx(c / accidentals, rel=1e-12)
    assert found.efficiencies.stop.value == pytest.approx(klyshko(c, accidentals, s, 0), rel=1e-12)
    assert found.efficiencies.start.value == pytest.approx(klyshko(c, accidentals, i, 0), rel=1e-12)


@pytest.mark.parametrize(
    ("changed", "words"),
    [({"window": 0.0}, "window"), ({"time": np.nan}, "time"), ({"coincidences": 0}, "coincidences")],
)
def test_heralding_refuses(changed, words):
    given = {"coincidences": 900, "starts": 12_000, "stops": 7_000, "window": 2e-9, "time": 1.0}
    with pytest.raises(UserError, match=words):
        heralding(**(given | changed))


def test_jackknife_of_a_mean_is_its_standard_error():
    x = np.random.default_rng(155).gamma(2.0, size=(9, 2))
    left = (x.sum(axis=0) - x) / 8
    np.testing.assert_allclose(jackknife(left), x.std(axis=0, ddof=1) / 3, rtol=1e-12)


def test_jackknife_of_what_is_not_finite_is_infinite():
    np.testing.assert_array_equal(jackknife([[1.0, np.inf], [1.0, 2.0], [1.0, np.nan]]), [0.0, np.inf])
