"""Judging: exact, drawn, bounded and missing numbers; a wrong one fails."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm, t

from qtwin.core.errors import UserError
from qtwin.core.records import Estimate
from qtwin.metrics.advantage import Interval
from qtwin.validate.cases import Case, load, own_cases
from qtwin.validate.pieces import Batched
from qtwin.validate.run import MOST, chosen, judged, picked, reading, reference_data, run


def case(**given) -> Case:
    return Case(**({"name": "x", "group": "g", "source": "s"} | given))


# --- exact numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "value", "verdict", "part"),
    [
        ({"expect": 0.9802, "within": 5e-6}, 0.980198, "pass", -0.4),
        ({"expect": 0.9802, "within": 5e-6}, 0.980206, "FAIL", 1.2),
        ({"expect": 4.0, "within": 0.0}, 4, "pass", None),
        ({"expect": 4.0, "within": 0.0}, 5, "FAIL", None),
        ({"expect": 273000.0, "factor": 3.0}, 91_100.0, "pass", np.log(91.1 / 273) / np.log(3)),
        ({"expect": 273000.0, "factor": 3.0}, 90_900.0, "FAIL", np.log(90.9 / 273) / np.log(3)),
        ({"expect": 22.8, "within": 0.05, "unit": "um"}, 22.84e-6, "pass", 0.8),
        ({"expect": 90.0, "within": 0.01, "unit": "deg"}, np.pi / 2, "pass", 0.0),
        ({"above": 1.0}, 1.01, "pass", None),
        ({"above": 1.0}, 1.0, "FAIL", None),
        ({"above": 1.0, "below": 2.0}, 2.1, "FAIL", None),
    ],
)
def test_exact_numbers(given, value, verdict, part):
    found = judged(case(**given), value)
    assert found.verdict == verdict and found.z is None
    assert found.part == (part if part is None else pytest.approx(part, abs=1e-6))


def test_a_published_error_gives_z():
    found = judged(case(expect=2.5, error=0.1), 2.7)
    assert found.verdict == "pass" and found.z == pytest.approx(2)
    assert judged(case(expect=2.5, error=0.1), 2.96).verdict == "FAIL"


# --- drawn numbers ---------------------------------------------------------------------------------------------------


def test_drawn_numbers_by_z_beyond_the_rounding():
    found = judged(case(expect=1.0, within=0.01), Estimate(1.05, 0.01))
    assert found.z == pytest.approx(4) and found.verdict == "pass" and found.stderr == 0.01
    assert judged(case(expect=1.0, within=0.01), Estimate(1.056, 0.01)).verdict == "FAIL"
    assert judged(case(expect=1.0, within=0.01), Estimate(1.005, 1e-6)).z == 0
    both = judged(case(expect=1.0, error=0.03), Estimate(1.1, 0.04))
    assert both.z == pytest.approx(2)


def test_errors_of_few_batches_follow_student():
    """A score of 4.65 of 32 batches is no more than a normal one of 4.0: it passes, 6 does not."""
    found = judged(case(expect=0.0, within=0.0), Batched(4.65, 1.0, 31))
    assert found.z == pytest.approx(norm.isf(t.sf(4.65, 31))) and found.verdict == "pass"
    assert judged(case(expect=0.0, within=0.0), Batched(-6.0, 1.0, 31)).verdict == "FAIL"
    assert abs(judged(case(expect=0.0, within=0.0), Batched(1e9, 1.0, 31)).z) < 100


@pytest.mark.parametrize(
    ("value", "verdict", "reason"), [(1.3, "pass", ""), (1.15, "FAIL", "undecided"), (0.9, "FAIL", "")]
)
def test_a_bound_is_judged_from_the_interval(value, verdict, reason):
    found = judged(case(above=1.0), Estimate(value, 0.1))
    assert found.verdict == verdict and found.reason.startswith(reason) and bool(reason) == bool(found.reason)
    mirrored = judged(case(below=-1.0), Estimate(-value, 0.1))
    assert mirrored.verdict == verdict and mirrored.z == pytest.approx((value - 1) / 0.1)


def test_an_interval_of_its_own_is_used():
    assert judged(case(above=1.0), Interval(1.2, 0.01, 0.99, 1.4)).verdict == "FAIL"
    assert judged(case(above=1.0), Interval(1.2, 1.0, 1.01, 1.4)).verdict == "pass"


# --- reading ---------------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    first: object
    second: object


class Thing:
    rate = jnp.asarray([[1.0, 2.0], [3.0, 4.0]])

    def width(self):
        return Estimate(5.0, 0.5)


def test_picking():
    result = {"a": Pair([1, 2], Thing())}
    assert picked(result, ("a", "first", 1)) == 2 and picked(result, ("a", "second", "rate", 1, 0)) == 3
    assert picked(result, ("a", "second", "width")) == Estimate(5.0, 0.5)


@pytest.mark.parametrize("wrong", [np.ones(2), "text", None, np.nan, jnp.inf, 1j, Estimate(1.0, np.inf)])
def test_what_is_no_number_fails_and_says_why(wrong):
    with pytest.raises(ValueError, match=r"the (result|standard error) is"):
        reading(wrong)


def test_readings():
    assert reading(jnp.asarray([3.0])).value == 3 and reading(True).stderr is None
    assert reading(Estimate(2e-6, 1e-6), 1e-6)[:2] == (pytest.approx(2), pytest.approx(1))


# --- running ---------------------------------------------------------------------------------------------------------

HOM = {"call": "qtwin.modes.interference.hom_visibility", "arguments": {"reflectivity": 0.45}}


def verdicts(cases, full=False, data=None):
    return [(o.verdict, o.reason) for o in run(cases, full, data)]


def test_a_failing_case_fails_and_the_others_run():
    cases = [
        case(expect=0.99, within=5e-6, **HOM),
        case(expect=0.98020, within=5e-6, **HOM),
        case(expect=1.0, within=0.0, call=HOM["call"], arguments={"reflectivity": 1.1}),
        case(expect=1.0, within=0.0, pick=("nothing",), **HOM),
    ]
    found = verdicts(cases)
    assert [v for v, _ in found] == ["FAIL", "pass", "FAIL", "FAIL"]
    assert found[2][1].startswith("FieldError: reflectivity: got 1.1") and "nothing" in found[3][1]


def test_what_is_missing_is_skipped_never_passed(tmp_path):
    there = {"call": "qtwin.validate.measured.head_labels", "arguments": {"file": "data:volumes/nowhere.mat"}}
    cases = [
        case(expect=6.0, within=0.0, **there),
        case(expect=1.0, within=0.0, full=True, **HOM),
        case(not_covered="not built"),
    ]
    assert verdicts(cases) == [
        ("skipped", "no folder of reference data (set QTWIN_REFERENCE_DATA or --data)"),
        ("skipped", "only in the full run"),
        ("not covered", "not built"),
    ]
    assert verdicts(cases[:1], data=tmp_path)[0][1].endswith("nowhere.mat is not there")
    assert verdicts(cases[1:2], full=True)[0][0] == "FAIL"


def test_quantities_lists_and_calls_as_arguments():
    cases = [
        case(
            call="qtwin.modes.undetected.resolution",
            arguments={"focal_length": "75 mm", "idler_wavelength": "1550 nm", "pump_radius": 5e-4},
            unit="um",
            expect=87.136641,
            within=5e-7,
        ),
        case(
            call="qtwin.modes.squeezing.squeezing_db",
            arguments={
                "noise": {
                    "call": "qtwin.modes.squeezing.detected_noise",
                    "with": {"squeezing_db": 10, "antisqueezing_db": 10, "efficiency": 0.8},
                }
            },
            expect=5.53,
            within=5e-3,
        ),
        case(
            call="qtwin.estimator.thermal_ghost.differential_gain",
            arguments={"transmission": [1, 0.5]},
            expect=3.16227766,
            within=5e-9,
        ),
        case(
            call="qtwin.source.states.Coherent",
            arguments={"wavelength": "810 nm"},
            pick=("wavelength",),
            unit="nm",
            expect=810.0,
            within=1e-9,
        ),
    ]
    assert [v for v, _ in verdicts(cases)] == ["pass"] * 4


def test_a_shared_call_is_made_once(monkeypatch):
    from qtwin.validate import light

    made = []
    monkeypatch.setattr(light, "resolution_gain", lambda dispersion: made.append(dispersion) or {"a": 1, "b": 2})
    light.resolution_gain.__module__ = "qtwin.validate.light"
    call = {"call": "qtwin.validate.light.resolution_gain", "arguments": {"dispersion": 3}, "within": 0.0}
    found = verdicts([case(pick=("a",), expect=1.0, **call), case(pick=("b",), expect=2.0, **call)])
    assert [v for v, _ in found] == ["pass", "pass"] and made == [3]


def test_where_the_data_lie(tmp_path, monkeypatch):
    monkeypatch.setenv("QTWIN_REFERENCE_DATA", str(tmp_path))
    assert reference_data(None) == tmp_path and reference_data(str(tmp_path)) == tmp_path
    monkeypatch.setenv("QTWIN_REFERENCE_DATA", str(tmp_path / "nowhere"))
    assert reference_data(None) is None
    with pytest.raises(UserError, match="--data: got"):
        reference_data(str(tmp_path / "nowhere"))


# --- some of the project's own cases ---------------------------------------------------------------------------------

CHEAP = (
    *("hom_visibility_r45", "noon_information", "su11_visibility", "best_noon", "illumination_over_coherent_light"),
    *("separation_in_one_dimension", "ktp_poling_period", "kato_takaoka", "car_of_mean_counts", "heralded_g2 "),
    *("noise_reduction_factor (", "centroid_width (", "klyshko_efficiency physics", "noon_wins", "noon_loses"),
    *("squeezing_wins", "squeezing_loses", "squeezing_is_capped", "threshold_pixel"),
)


def test_some_of_the_evidence():
    some = chosen(load(own_cases(), full=False), [f" {name}" for name in CHEAP])
    outcomes = list(run(some, False, None))
    assert len(outcomes) > 30
    assert not [f"{o.case.name}: {o.value} {o.reason}" for o in outcomes if o.verdict != "pass"]


def test_perturbed_physics_fails(monkeypatch):
    """A visibility that is wrong by a part in a thousand."""
    from qtwin.modes import interference

    real = interference.hom_visibility

    def wrong(reflectivity, overlap=0.999):
        return real(reflectivity, overlap)

    monkeypatch.setattr(interference, "hom_visibility", wrong)
    wrong.__module__ = "qtwin.modes.interference"
    (outcome,) = run(chosen(load(own_cases(), full=False), ["hom_visibility_r45"]), False, None)
    assert outcome.verdict == "FAIL" and abs(outcome.part) > 100


def test_a_drawn_number_off_by_five_errors_fails():
    assert MOST < 5
    assert judged(case(expect=1.0, within=0.0), Estimate(1.05, 0.01)).verdict == "FAIL"
