"""The comparison on a small set-up: fair, deterministic, honest where quantum light loses."""

from collections.abc import Iterator
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qtwin.benchmark.compare import compare
from qtwin.benchmark.comparison import INCOMPARABLE
from qtwin.benchmark.settings import Settings
from qtwin.core.config import compose
from qtwin.core.errors import UserError
from qtwin.estimator import TwinBeams
from qtwin.estimator.linear import estimate, thin
from qtwin.job import elements
from qtwin.metrics.advantage import advantage, pooled_cost, pooling, smoothing
from qtwin.tissue.images import walked
from qtwin.tissue.paths import carry
from qtwin.twin import twin_from

SMALL = ["optics.pixels=8", "optics.pitch=300um", "walk.photons=16384", "budget.photons=300", "budget.exposures=12"]


def run(*overrides):
    cfg = compose([*SMALL, *overrides])
    return compare(**elements(cfg), settings=Settings.from_config(cfg), progress=lambda *_, **__: None)


@pytest.fixture(scope="module")
def usual():
    return run()


def leaves(figures) -> Iterator[dict]:
    for value in figures.values():
        if "value" in value:
            yield value
            yield from leaves({k: v for k, v in value.items() if isinstance(v, dict)})
        else:
            yield from leaves(value)


def test_every_figure_has_value_error_and_unit(usual):
    found = list(leaves(usual.figures()))
    assert len(found) > 100
    for leaf in found:
        assert {"value", "stderr", "unit"} <= set(leaf)
        assert leaf["value"] is None or (np.isfinite(leaf["value"]) and leaf["stderr"] >= 0)


def test_the_same_seed_gives_the_same_figures(usual):
    again = run()
    assert again.figures() == usual.figures()
    assert run("seed=1").figures()["advantage"] != usual.figures()["advantage"]


def test_drawn_advantages_agree_with_the_expected_ones(usual):
    for v in usual.versus:
        log = np.log(v.interval.value / v.expected) / (v.interval.stderr / v.interval.value)
        assert abs(log) < 4, (v.arm, v.opponent)


def test_the_carried_exposure_agrees(usual):
    assert len(usual.check.z) == 8
    assert max(abs(z) for z in usual.check.z.values()) < 4


def expected(comparison, arm, opponent):
    return next(v.expected for v in comparison.versus if (v.arm, v.opponent) == (arm, opponent))


def test_naive_subtraction_loses_below_half_efficiency_and_heralding_always():
    """PHYSICS: naive wins only if eta > 1/(2T); coincidences alone never beat the same detector without background."""
    poor = run("camera.efficiency=0.5", "detector.dark_rate=0")
    assert expected(poor, "twin beams, naive", "coherent, camera") < 1
    assert expected(poor, "twin beams, optimal k", "coherent, camera") > 1
    assert expected(poor, "heralded, coincidences", "coherent, single-photon array") < 0.6
    assert "classical wins" in poor.verdicts()["heralded, coincidences"].values()


def test_background_favours_heralding_but_not_over_an_equal_gate():
    dark = run("detector.dark_rate=2kHz", "source.pump_power=0.2mW", "estimator=ghost", "budget.photons=100")
    arm = "heralded, with idler singles"
    assert expected(dark, arm, "coherent, single-photon array") > 1
    assert expected(dark, arm, "coherent, gated array") < 1


def test_matching_detected_photons_hands_the_ideal_detector_fewer(usual):
    matched = run("budget.match=detected", "estimator=twin_beams")
    ideal = matched.outcomes["coherent, ideal camera"]
    assert ideal.photons / 300 == pytest.approx(0.77 * 0.79)
    counts = {name: o.counts.sum() for name, o in matched.outcomes.items()}
    assert counts["coherent, ideal camera"] == pytest.approx(counts["coherent, camera"], rel=0.02)
    gain = expected(matched, "twin beams, optimal k", "coherent, ideal camera")
    assert gain > expected(usual, "twin beams, optimal k", "coherent, ideal camera")


def test_the_ledger_counts_all_four_budgets(usual):
    arm = usual.figures()["arms"]["twin beams, naive"]
    setting = usual.setting
    assert arm["photons_incident"]["value"] == pytest.approx(12 * 300 * 64)
    assert arm["time"]["value"] == pytest.approx(12 * float(setting.time))
    assert arm["pump_energy"]["value"] == pytest.approx(3e-3 * arm["time"]["value"])
    per_photon = arm["dose"]["value"] / arm["photons_absorbed"]["value"]
    assert per_photon == pytest.approx(6.62607015e-34 * 299792458 / 810e-9, rel=1e-6)
    assert 0 < arm["photons_absorbed"]["value"] < 0.05 * arm["photons_incident"]["value"]


@pytest.mark.slow
def test_the_interval_covers_a_known_advantage_of_drawn_exposures():
    """No scattering: the true advantage is known in closed form. 16000 repeats by thinning, at 8 and 20 exposures."""
    twin = twin_from(compose([*SMALL, "optics.pixels=4", "optics.pitch=600um", "tissue.mu_s=0"]))
    expectation = twin.expect(twin.walk(key=jax.random.key(0), photons=8192), 40.0)
    weights = np.asarray(expectation.idler)
    own, rival = TwinBeams().arms()[1:3]
    flat = smoothing(None, 4)
    drawn, laws = [], []
    for i, arm in enumerate((rival, own)):
        law = arm.law(twin.bench(expectation.images, jnp.asarray(40.0)))
        x, y = thin(law.records, 320000, key=jax.random.key(310 + i))
        drawn.append(np.asarray(estimate(x, y, law.calibration)))
        laws.append(pooling(law, weights, flat))
    true = laws[0].mean / laws[1].mean
    for exposures in (8, 20):
        costs = []
        for images, law in zip(drawn, laws, strict=True):
            shots = images[: 16000 * exposures].reshape(16000, exposures, 4, 4)
            costs.append(pooled_cost(shots, weights, law))
        found = advantage(*costs)
        assert 0.945 <= np.mean((found.low < true) & (true < found.high)) <= 0.955
        assert np.mean((found.low < 1.2 * true) & (1.2 * true < found.high)) < 0.9


def test_images_that_cannot_be_made_equal_are_not_compared(usual):
    v = usual.versus[-1]
    assert v.verdict != INCOMPARABLE
    assert replace(v, mismatch=(0.06, 0.001)).verdict == INCOMPARABLE


def test_a_sweep_of_thickness_compiles_nothing_new():
    for thickness in ("20um", "300um"):
        twin = twin_from(compose([*SMALL, f"tissue.thickness={thickness}"]))
        twin.blocks(twin.walk(key=jax.random.key(0), photons=16384))
        sizes = (carry._cache_size(), walked._cache_size())
        if thickness == "20um":
            before = sizes
    assert sizes == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["source=coherent"], r"source: coherent light emits no pairs.*spdc_bbo"),
        (["source=bell"], r"source: got Bell to compare with; accepted is a pair source.*spdc_bbo"),
        (["detector=proem_hs_1024bx3"], r"detector: a camera stamps no times.*detector@camera"),
        (["detector@camera=spcm_aqrh_14"], r"camera: a single-photon device is no camera"),
        (["detector@camera=vahlbruch_2016"], r"camera: a HomodynePair is no camera of frames"),
        (["detector=linospad2_array"], r"detector: got PixelArray; accepted here is a single-photon device"),
        (["memory_limit=1MiB"], r"budget\.photons: .* need .* MiB, memory_limit is 1 MiB"),
        (["budget.photons=1e6"], r"budget\.photons: .*(need|full_well)"),
        (["tissue.depth=60um"], r"tissue\.depth: got .* accepted is less than the total thickness"),
        (["tissue.g=1"], r"tissue\.g: got 1"),
        (["tissue.thickness=50", "estimator=twin_beams", "walk.photons=1024"], r"no light at all reaches 64 of its 64"),
        (["tissue.thickness=0"], r"tissue\.thickness: got 0 m, accepted is a value greater than 0"),
        (["~estimator"], r"estimator: got None, expected imaging protocols"),
        (["estimator.ghost._target_=qtwin.source.Coherent"], r"estimator\.ghost.*"),
        (["wavelength=1um"], r"wavelength: got 1 µm, the source emits its signal at 810 nm"),
        (["reference.wavelength=800nm"], r"reference\.wavelength: .* signal's wavelength"),
    ],
)
def test_bad_input_is_one_clear_line(overrides, message):
    with pytest.raises(UserError, match=message) as caught:
        run(*overrides)
    assert "\n" not in str(caught.value)
