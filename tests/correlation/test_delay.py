"""Delays, drifts, periods and dead times of drawn records: values and errors by z-score, and what is refused."""

import numpy as np
import pytest

from qtwin.core.errors import UserError
from qtwin.core.records import TimeTags
from qtwin.correlation.counting import aligned
from qtwin.correlation.delay import (
    cut,
    dead_time,
    find_delay,
    follow_delay,
    peak,
    repetition_period,
    smallest_spacing,
    straight_line,
)
from qtwin.correlation.histogram import autocorrelation, cross_correlation


def merged(span, *rows, resolution=1.0):
    times, channels = np.concatenate(rows).astype(np.int64), np.repeat(np.arange(len(rows)), [len(r) for r in rows])
    order = np.argsort(times, kind="stable")
    return TimeTags(times[order], channels[order].astype(np.int16), 0, int(span), resolution)


def paired(rng, span, pairs, alone, delay, jitter, drift=0.0, step=1):
    """Pairs, the second click late by ``delay`` + ``drift`` t with normal jitter; clicks alone; a clock of ``step``."""
    born = np.sort(rng.random(pairs) * span)
    late = born * (1 + drift) + delay + rng.normal(0, jitter, pairs)
    rows = [np.append(t, rng.random(n) * span) for t, n in zip((born, late), alone, strict=True)]
    return merged(span, *(np.floor(r / step).astype(np.int64) * step for r in rows), resolution=float(step))


@pytest.mark.parametrize(
    ("delay", "reach", "jitter", "step"),
    [
        (0.3123456789012e12, 10**12, 250.0, 1),  # a third of a second
        (-87_654_321_098.7, 10**11, 3000.0, 81),
        (23_350.4, 10**6, 120.0, 16),
        (-12.3, 5000, 40.0, 1),
    ],
)
def test_unknown_delays_are_found(delay, reach, jitter, step):
    """One pair in twenty clicks, anywhere in the range; the clock's steps bring no bias."""
    tags = paired(np.random.default_rng(61), 2e12, 30_000, (400_000, 300_000), delay, jitter, step=step)
    found = find_delay([tags], 0, 1, reach)
    assert abs(found.delay.value - delay) / found.delay.error < 4
    assert found.delay.error < 5 * np.hypot(jitter, step) / np.sqrt(20_000)
    assert abs(found.width.value - np.hypot(jitter, step / np.sqrt(6))) / found.width.error < 4
    expected = 30_000 * (1 - abs(delay) / 2e12)
    assert abs(found.pairs.value - expected) / found.pairs.error < 4 and found.found


def test_error_of_the_delay():
    """Scatter over records as stated, over a background of three times the peak; few pairs; a coarse clock."""
    rng, values, errors, widths = np.random.default_rng(62), [], [], []
    for _ in range(200):
        tags = paired(rng, 10**9, 400, (10_000, 9000), 333.3, 200.0, step=16)
        found = peak(cross_correlation([tags], 0, 1, 6400, 64))
        values.append(found.delay.value)
        errors.append(found.delay.error)
        widths.append((found.width.value, found.width.error))
    assert abs(np.mean(values) - 333.3) / (np.std(values) / np.sqrt(200)) < 4
    assert abs(np.mean(values) - 325.3) / (np.std(values) / np.sqrt(200)) > 5  # half a step off
    assert abs(np.std(values) / np.mean(errors) - 1) * np.sqrt(2 * 200) < 4
    value, error = np.array(widths).T
    assert abs(value.std() / error.mean() - 1) * np.sqrt(2 * 200) < 5


def test_no_peak_is_no_delay():
    rng = np.random.default_rng(63)
    with pytest.raises(UserError, match="delay: no peak of channels 0 and 1 within 1000000 ps stands out of chance"):
        find_delay([paired(rng, 1e11, 0, (50_000, 40_000), 0, 1)], 0, 1, 10**6)
    beyond = paired(rng, 1e11, 20_000, (50_000, 40_000), 3e6, 100.0)
    with pytest.raises(UserError, match=r"delay: .*peak"):  # folded into the range, but not there
        find_delay([beyond], 0, 1, 10**6)
    assert abs(find_delay([beyond], 0, 1, 4 * 10**6).delay.value - 3e6) < 10


def test_pieces_of_a_record():
    rng = np.random.default_rng(64)
    tags = merged(10_000, rng.integers(0, 10_000, 500))
    stretches = [
        TimeTags(t, np.zeros(len(t), np.int16), a, b)
        for a, b in ((0, 1700), (1700, 1700), (1700, 7200), (7200, 10_000))
        for t in [tags.times[(tags.times >= a) & (tags.times < b)]]
    ]
    found = list(cut(stretches, 2200))
    edges = [(0, 2200), (2200, 4400), (4400, 6600), (6600, 8800), (8800, 10_000)]
    assert [(p[0].start, p[-1].stop) for p in found] == edges
    for piece, (start, stop) in zip(found, edges, strict=True):
        times = np.concatenate([t.times for t in piece])
        np.testing.assert_array_equal(times, tags.times[(tags.times >= start) & (tags.times < stop)])
        assert sum(t.stop - t.start for t in piece) == stop - start
    assert [p[-1].stop for p in cut(stretches, 3000)] == [3000, 6000, 9000]  # a rest below half a step


@pytest.mark.parametrize("drift", [3e-9, -2e-8, 0.0])
def test_drift_of_the_clocks(drift):
    """ps/s from a record of four seconds, far beyond the width of the peak, and zero where there is none."""
    rng = np.random.default_rng(65)
    tags = paired(rng, 4e12, 60_000, (60_000, 50_000), 5000.0, 300.0, drift)
    found = follow_delay([tags], 0, 1, 5000.0, 2 * 10**11, 20_000, 100)
    assert abs(found.slope.value - drift * 1e12) / found.slope.error < 4
    assert abs(found.slope.value - drift * 1e12 - 30) / found.slope.error > 5  # 3e-11
    assert abs(found.offset.value - 5000 - drift * 1e12 * found.time) / found.offset.error < 4
    assert len(found.times) == 20 and abs(found.chi2 - 18) / np.sqrt(2 * 18) < 4
    assert found.scatter == pytest.approx(np.sqrt(np.mean(found.errors**2)), rel=0.7)
    assert abs(found.delays[-1] - found.delays[0] - drift * 3.8e12) < 6 * np.hypot(*found.errors[[0, -1]])


def test_pieces_without_a_peak_are_left_out():
    rng = np.random.default_rng(66)
    tags = paired(rng, 1e12, 20_000, (20_000, 20_000), 700.0, 200.0)
    hidden = (tags.channels == 0) & (tags.times > 3 * 10**11) & (tags.times < 6 * 10**11)
    gap = TimeTags(tags.times[~hidden], tags.channels[~hidden], 0, 10**12)
    found = follow_delay([gap], 0, 1, 700.0, 10**11, 10_000, 100)
    assert len(found.times) == 7
    with pytest.raises(UserError, match="found the peak in 0 pieces of 100000000000 ps, expected three or more"):
        follow_delay([gap], 0, 1, 50_000.0, 10**11, 10_000, 100)


def test_straight_line():
    """Unequal errors: unbiased, errors as stated; wandering clocks widen them."""
    rng, times = np.random.default_rng(67), np.linspace(0, 10, 12)
    errors = np.linspace(1, 5, 12)
    fits = [straight_line(times, 70 - 3.3 * times + rng.normal(0, errors), errors) for _ in range(400)]
    slopes = np.array([f.slope.value for f in fits])
    offsets = np.array([f.offset.value for f in fits]) - (70 - 3.3 * fits[0].time)
    stated = np.mean([f.slope.error / np.sqrt(max(1, f.chi2 / 10)) for f in fits])
    assert abs(slopes.mean() + 3.3) / (slopes.std() / 20) < 4 and abs(offsets.mean()) / (offsets.std() / 20) < 4
    assert abs(slopes.std() / stated - 1) * np.sqrt(800) < 4
    assert abs(np.corrcoef(slopes, offsets)[0, 1]) * 20 < 4
    wander = straight_line(times, 50 * np.sin(times), np.ones(12))
    assert wander.chi2 > 1000 and wander.slope.error > 10 * stated / 3 and wander.scatter > 20


PERIOD = 12_345.678901


def train(rng, span, clicks, jitter, dead=0, background=0, period=PERIOD):
    """Clicks at some pulses of a train, with jitter and an empty time after each click."""
    times = np.sort(rng.integers(0, int(span / period), clicks)) * period + rng.normal(3000, jitter, clicks)
    times = np.sort(np.append(times, rng.random(background) * span))
    kept, last = [], -np.inf
    for t in times.tolist():
        if t - last >= dead:
            kept.append(t)
            last = t
    return merged(span, np.rint(kept))


@pytest.mark.parametrize(("jitter", "dead", "background"), [(300.0, 0, 0), (2500.0, 60_000, 10_000), (0.0, 30_000, 0)])
def test_period_of_a_pulse_train(jitter, dead, background):
    """To parts in 1e10 from a tenth of a second, one click in fifty pulses; jitter of a fifth of the period."""
    tags = train(np.random.default_rng(68), 1e11, 100_000, jitter, dead, background)
    found = repetition_period([tags], 0, reach=500_000, most=60_000)
    assert abs(found.value - PERIOD) < 4 * found.error + 1e-9
    assert found.error < 3e-5


def test_error_of_the_period():
    rng, pulls = np.random.default_rng(69), []
    for _ in range(25):
        found = repetition_period([train(rng, 2e9, 8000, 800.0)], 0, reach=200_000)
        pulls.append((found.value - PERIOD) / found.error)
    assert abs(np.mean(pulls)) * 5 < 4 and abs(np.std(pulls) - 1) * np.sqrt(50) < 4


def test_no_period_in_steady_light():
    tags = merged(1e9, np.random.default_rng(70).integers(0, 10**9, 5000))
    with pytest.raises(UserError, match="period: channel 0 shows no period"):
        repetition_period([tags], 0, reach=200_000)


@pytest.mark.parametrize(("jitter", "afterpulses"), [(0.0, 0.0), (400.0, 0.0), (100.0, 0.02)])
def test_dead_time_from_the_autocorrelation(jitter, afterpulses):
    """22 ns, not paralysable: smallest spacing, and the rise of the autocorrelation with its error."""
    rng, dead, span = np.random.default_rng(71), 22_000, 10**11
    light = np.sort(rng.integers(0, span, 300_000))
    kept, last, extra = [], -(10**9), [2**62]
    for t, u, wait in zip(light.tolist(), rng.random(len(light)), rng.exponential(200_000, len(light)), strict=True):
        while extra[-1] < t:
            if extra[-1] - last >= dead:
                kept.append(extra[-1])
                last = extra[-1]
            extra.pop()
        if t - last >= dead:
            kept.append(t)
            last = t
            if u < afterpulses:
                extra.append(t + int(wait))
                extra.sort(reverse=True)
    times = np.array(kept) + np.rint(rng.normal(0, jitter, len(kept))).astype(np.int64)
    tags = merged(span, times)
    assert smallest_spacing([tags], 0) == np.diff(np.sort(times)).min()
    assert (smallest_spacing([tags], 0) >= dead) == (jitter == 0)
    found = dead_time(autocorrelation([tags], 0, 60_000, 100), 8000)
    assert abs(found.value - dead) / found.error < 4 and found.error < 200


def test_smallest_spacing_over_stretches():
    stretches = [TimeTags(np.array([t]), np.zeros(1, np.int16), t, t + 1) for t in (10, 25, 31, 60)]
    assert smallest_spacing(stretches, 0) == 6
    assert smallest_spacing([merged(100, [5, 70, 70], [1])], 0) == 0


FLAT = merged(10**9, np.arange(0, 10**9, 10**6), [500, 7000], resolution=4.0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: find_delay([FLAT], 0, 0, 1000), "channel: got 0 twice"),
        (lambda: find_delay([FLAT], 0, 3, 1000), "channel: got 3, which has no tag among the first"),
        (lambda: find_delay([FLAT], 0, 1, 0), "reach: got 0"),
        (lambda: follow_delay([FLAT], 0, 1, 0.0, 0, 1000, 100), "step: got 0"),
        (lambda: repetition_period([FLAT], 2), "channel: got 2"),
        (lambda: smallest_spacing([FLAT], 2), "channel: got 2, which has fewer than two tags"),
        (
            lambda: dead_time(cross_correlation([FLAT], 0, 1, 1000, 100), 500),
            r"channels: got \(0, 1\), expected the auto",
        ),
        (
            lambda: dead_time(autocorrelation([FLAT], 1, 10_000, 100), 50),
            "over: got 50, accepted is a whole number of 100",
        ),
        (lambda: dead_time(autocorrelation([FLAT], 1, 10_000, 100), 5000), "over: got 5000 ps, the histogram ends"),
        (lambda: dead_time(autocorrelation([FLAT], 1, 10_000, 100), 300), "over: got 300 ps, in which no two clicks"),
        (lambda: list(aligned([FLAT], {0: 0, 1: 1.5})), "delay: got 1.5"),
    ],
)
def test_bad_input_is_one_clear_line(call, words):
    with pytest.raises(UserError, match=words):
        call()
