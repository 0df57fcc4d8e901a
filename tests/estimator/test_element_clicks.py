"""Clicks of many alike elements, drawn by one machine: dead times against a plain loop and renewal theory."""

import jax.numpy as jnp
import numpy as np
import pytest
from plain import plain_alive

from qtwin.detector import SinglePhoton
from qtwin.detector.single_photon import paralysable_rate
from qtwin.estimator.ghost import tags

TAU = 50e-9


def clicked(ticks, element, dead: int, count: int, span: int):
    """Tags of elements without dark counts and jitter, dead for ``dead`` ps."""
    device = SinglePhoton(efficiency=0.6, dark_rate=0.0, dead_time=dead * 1e-12, jitter=0.0)
    return tags(
        device, np.asarray(ticks, np.int64), np.asarray(element, np.int64), count, span, np.random.default_rng(90)
    )


@pytest.mark.parametrize("dead", [0, 1, 7, 40, 100_000])
def test_dead_time_is_a_plain_loop(dead):
    """Several elements, crowded, out of order, with equal times and runs longer than the dead time."""
    rng = np.random.default_rng(91)
    element, ticks = rng.integers(0, 7, 6000), rng.integers(0, 12_000, 6000)
    order = np.lexsort((ticks, element))
    kept = plain_alive(ticks[order], element[order], dead)
    when, where = clicked(ticks, element, dead, 7, 12_000)
    np.testing.assert_array_equal(when, ticks[order][kept])
    np.testing.assert_array_equal(where, element[order][kept])
    assert len(when) == {0: 6000, 100_000: 7}.get(dead, len(when))


def test_edge_of_the_dead_time():
    """[t, t + dead): an event exactly one dead time later clicks, one earlier does not and blinds nobody."""
    when, where = clicked([0, 9, 10, 18, 20, 21, 22], [0, 0, 0, 0, 0, 1, 1], 10, 3, 30)
    np.testing.assert_array_equal(when, [0, 10, 20, 21])
    np.testing.assert_array_equal(where, [0, 0, 0, 1])
    assert all(found.shape == (0,) for found in clicked([], [], 10, 3, 30))


def test_dead_time_neither_loses_nor_keeps_too_many():
    """n/(1 + n tau) clicks/s of Poisson events; Var(clicks) = n t/(1 + n tau)^3 of a renewal process."""
    rate, time = 5e6, 0.04
    rng = np.random.default_rng(92)
    elements, expected = 3, rate * time / (1 + rate * TAU)
    counts = rng.poisson(rate * time, elements)
    element = np.repeat(np.arange(elements), counts)
    ticks = np.concatenate([np.sort(rng.integers(0, int(time * 1e12), c)) for c in counts])
    _, where = clicked(ticks, element, int(TAU * 1e12), elements, int(time * 1e12))
    clicks = np.bincount(where)
    scores = (clicks - expected) / np.sqrt(rate * time / (1 + rate * TAU) ** 3)
    assert np.abs(scores).max() < 4
    wrong = float(paralysable_rate(rate, jnp.asarray(TAU))) * time
    assert np.abs((clicks - wrong) / np.sqrt(expected)).min() > 4


def test_groups_of_elements_click_alike():
    """Elements that do not fit on one clock are drawn in groups; dark counts fall within the exposure, Poisson."""
    device = SinglePhoton(efficiency=0.6, dark_rate=1e5, dead_time=0.0, jitter=0.0)
    span = 2**58  # three and a third days: seven elements on a clock
    dark = SinglePhoton(efficiency=0.6, dark_rate=1e-3, dead_time=0.0, jitter=0.0)
    nothing = np.empty(0, np.int64)
    when, where = tags(dark, nothing, nothing, 20, span, np.random.default_rng(93))
    mean = 1e-3 * span * 1e-12
    counts = np.bincount(where, minlength=20)
    assert 0 <= when.min() and when.max() < span
    assert abs((counts.sum() - 20 * mean) / np.sqrt(20 * mean)) < 4
    short = np.bincount(tags(device, nothing, nothing, 50, 10**9, np.random.default_rng(94))[1], minlength=50)
    assert abs((short.sum() - 50 * 100) / np.sqrt(5000)) < 4
