"""Budgets: every arm is given as much of the matched side of the ledger as the first one has."""

from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from qtwin.benchmark.arms import UNITS, arms_of, budgets, matched
from qtwin.core.errors import UserError
from qtwin.estimator import Ghost, TimeTagged, TwinBeams
from qtwin.estimator.protocol import Arm, Ledger
from qtwin.source import Coherent


def arm(name, detected, quantum=False):
    """An arm whose detector counts ``detected`` of the photons, which take 1 us each."""

    def law(photons):
        n = jnp.asarray(photons)
        return SimpleNamespace(ledger=Ledger(n, detected(n), 1e-9 * n**2, 1e-6 * n))

    return Arm(name, law, quantum)


FIRST = arm("first", lambda n: 0.5 * n, True)
SLOW = arm("slow", lambda n: 0.9 * n / (1 + 0.9e-3 * n))  # cannot count more than 1000
BRIGHT = arm("bright", lambda n: n)


@pytest.mark.parametrize("match, expected", [("incident", 800), ("absorbed", 800), ("time", 800), ("detected", 400)])
def test_the_matched_side_is_equal(match, expected):
    found = {name: n for name, (n, _) in budgets((FIRST, BRIGHT), lambda n: n, 800.0, match).items()}
    assert found == {"first": 800.0, "bright": pytest.approx(expected, rel=1e-5)}
    assert set(UNITS) == {"incident", "absorbed", "detected", "time", "pump"}


def test_dead_time_is_solved_for():
    """0.5 * 800 = 400 = 0.9 n/(1 + 0.9e-3 n): n = 400/(0.9 (1 - 0.4))."""
    found = budgets((FIRST, SLOW), lambda n: n, 800.0, "detected")
    assert found["slow"][0] == pytest.approx(400 / (0.9 * 0.6), rel=1e-5)
    assert budgets((FIRST, BRIGHT), lambda n: n, 800.0, "pump")["bright"][0] == pytest.approx(800, rel=1e-5)


def test_what_cannot_be_matched_is_said_with_the_nearest():
    with pytest.raises(
        UserError, match=r"budget\.match: 'detected' of 2000 per .*'slow'; nearest is 1000, at .*"
    ) as caught:
        matched(SLOW, lambda n: n, 4000.0, 2000.0, "detected")
    assert "budget.photons" in str(caught.value) and "\n" not in str(caught.value)


def test_shared_opponents_stand_once_and_strangers_are_refused():
    names = [a.name for a in arms_of({"ghost": Ghost(), "time_tagged": TimeTagged(), "twin_beams": TwinBeams()})]
    assert len(names) == len(set(names)) and names.count("coherent, single-photon array") == 1
    with pytest.raises(UserError, match=r"estimator\.light: got Coherent, accepted is an imaging protocol"):
        arms_of({"light": Coherent("810 nm")})
