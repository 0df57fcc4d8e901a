"""Accidentals by three ways: means, and errors against the scatter of many drawn records."""

import numpy as np
import pytest

from qtwin.core.errors import UserError
from qtwin.core.records import TimeTags
from qtwin.correlation.accidentals import Accidentals, from_delayed, from_sides, from_singles, net
from qtwin.correlation.counting import Coincidences, aligned, coincidences, pulse_clock, within
from qtwin.correlation.histogram import cross_correlation

SPAN, WINDOW = 10**9, 100_000  # 1 ms; 100 ns
PAIRS, ALONE_S, ALONE_I = 300.0, 2000.0, 1500.0
TRUE = (PAIRS + ALONE_S) * (PAIRS + ALONE_I) * WINDOW / SPAN
RECORDS = 500


def drawn(rng, pairs=PAIRS, alone=(ALONE_S, ALONE_I), span=SPAN, delay=0):
    """Poisson pairs with 5 ns of jitter, and Poisson clicks alone."""
    born = rng.integers(0, span, rng.poisson(pairs))
    rows = [born, born + delay + np.rint(rng.normal(0, 5000, len(born))).astype(np.int64)]
    rows = [np.append(r, rng.integers(0, span, rng.poisson(n))) for r, n in zip(rows, alone, strict=True)]
    times, channels = np.concatenate(rows), np.repeat([0, 1], [len(r) for r in rows]).astype(np.int16)
    order = np.argsort(times, kind="stable")
    return TimeTags(times[order], channels[order], 0, span)


@pytest.fixture(scope="module")
def ensemble():
    """(C, accidentals by every way) of each record: crowded enough for the singles' fluctuations to matter."""
    rng = np.random.default_rng(31)
    out = []
    for _ in range(RECORDS):
        record = [drawn(rng)]
        h = cross_correlation(record, 0, 1, 1_050_000, 50_000)
        c = within(h, WINDOW)
        ways = from_singles(c), from_delayed(record, c, 300_000, 8), from_sides(h, c, 100_000)
        out.append((c, ways, [net(c, a) for a in ways]))
    return out


@pytest.mark.parametrize("way", range(3))
def test_means_and_errors(ensemble, way):
    """A is unbiased and scatters as its error says: a window off by 10 % or half of it would be noticed."""
    values = np.array([ways[way].value for _, ways, _ in ensemble])
    errors = np.array([ways[way].error for _, ways, _ in ensemble])
    assert abs(values.mean() - TRUE) / (values.std() / np.sqrt(RECORDS)) < 4
    assert abs(values.mean() - 1.1 * TRUE) / (values.std() / np.sqrt(RECORDS)) > 5
    assert abs(values.std() / errors.mean() - 1) * np.sqrt(2 * RECORDS) < 4


@pytest.mark.parametrize("way", range(3))
def test_what_is_left_scatters_as_sqrt_c_plus_v(ensemble, way):
    """The singles' fluctuation is in C and in A and cancels: adding Var C and Var A would be noticed."""
    nets = np.array([n[way].value for _, _, n in ensemble])
    errors = np.array([n[way].error for _, _, n in ensemble])
    assert abs(nets.mean() - PAIRS) / (nets.std() / np.sqrt(RECORDS)) < 4
    assert abs(nets.std() / errors.mean() - 1) * np.sqrt(2 * RECORDS) < 4
    gross = np.array([c.counts for c, _, _ in ensemble], float)
    values = np.array([ways[way].value for _, ways, _ in ensemble])
    apart = np.sqrt(gross.var() + values.var())
    assert abs(nets.std() / apart - 1) * np.sqrt(2 * RECORDS) > 5


def test_the_ways_agree_on_one_long_record():
    rng = np.random.default_rng(32)
    record = [drawn(rng, 40_000, (60_000, 90_000), 10**12, delay=-777_000)]
    moved = list(aligned(record, {0: 0, 1: -777_000}))
    h = cross_correlation(moved, 0, 1, 2_000_000, 20_000)
    c = within(h, 40_000)
    found = from_singles(c), from_delayed(moved, c, 100_000, 50), from_sides(h, c, 60_000)
    expected = 100_000 * 130_000 * 0.04 * 1e-6
    for a in found:
        assert abs(a.value - expected) / a.error < 4
    assert found[0].error < found[2].error < found[1].error  # 97 windows on the sides, 50 delayed
    assert abs(net(c, found[2]).value - 40_000) / net(c, found[2]).error < 4


def test_a_delay_that_takes_part_of_the_record():
    """Windows delayed by half of the record: the mean is scaled for the pairs that were not watched."""
    rng = np.random.default_rng(33)
    values, expected = [], []
    for _ in range(100):
        record = [drawn(rng, 0, (3000, 2000), 10**8)]
        c = coincidences(record, 0, 1, 10_000)
        values.append(from_delayed(record, c, 5 * 10**7, 50).value)
        expected.append(from_singles(c).value)
    error = np.std(values) / 10
    assert abs(np.mean(values) - np.mean(expected)) / error < 4
    assert abs(np.mean(values) * 0.5 - np.mean(expected)) / error > 10


def test_pulsed_light_per_pulse():
    """On a pulse clock: A = S_s S_i/pulses, or the mean of other pulses."""
    rng, pulses = np.random.default_rng(34), 2_000_000
    mean = rng.poisson(0.05, pulses)
    numbers = [rng.binomial(mean, e) + rng.poisson(0.01, pulses) for e in (0.4, 0.2)]
    rows = [np.repeat(np.arange(pulses), n) * 1000 + 30 for n in numbers]
    times, channels = np.concatenate(rows), np.repeat([0, 1], [len(r) for r in rows]).astype(np.int16)
    order = np.argsort(times, kind="stable")
    record = [TimeTags(times[order], channels[order], 0, pulses * 1000)]
    clock = list(pulse_clock(record, 1000, 100))
    c = coincidences(clock, 0, 1, 1)
    assert (c.counts, c.watched) == ((numbers[0] * numbers[1]).sum(), pulses)
    singles, others = from_singles(c), from_delayed(clock, c, 1, 20)
    assert singles.value == pytest.approx(numbers[0].sum() * numbers[1].sum() / pulses, rel=1e-12)
    assert abs(others.value - pulses * 0.03 * 0.02) / others.error < 4
    assert abs(net(c, singles).value - pulses * 0.05 * 0.4 * 0.2) / net(c, singles).error < 4


def test_nothing_found_has_the_error_of_one_count():
    record = [TimeTags(np.array([10, 12, 500_000, 900_000]), np.array([0, 1, 0, 1], np.int16), 0, 10**6)]
    c = coincidences(record, 0, 1, 100)
    a = from_delayed(record, c, 1000, 5)
    assert a.value == 0 and a.error == pytest.approx(0.2, rel=0.01)
    assert net(c, a).error == pytest.approx(np.sqrt(1 + 0.04), rel=0.001)


PAIR = Coincidences((0, 1), "all pairs", 10, 5, 20, 30, 1000)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: from_singles(Coincidences((0, 1), "one to one", 10, 5, 20, 30, 1000)), "rule: got .*'one to one'"),
        (lambda: net(Coincidences((0, 1), "first stop", 10, 5, 20, 30, 1000), Accidentals(1, 1, 1)), "'first stop'"),
        (lambda: from_delayed([drawn(np.random.default_rng(1))], PAIR, 0), "delay: got 0"),
        (lambda: from_delayed([drawn(np.random.default_rng(1))], PAIR, 100, 0), "windows: got 0"),
        (
            lambda: from_delayed([drawn(np.random.default_rng(1))], PAIR, 100, 10**8),
            "windows: got 100000000 of 10 ps from 100",
        ),
        (lambda: from_delayed([drawn(np.random.default_rng(1))], PAIR, 990), "windows: got 10 of 10 ps from 990 ps on"),
        (
            lambda: from_sides(cross_correlation([drawn(np.random.default_rng(1))], 0, 1, 100, 10), PAIR, 100),
            "guard: got 100 ps, no bin of the histogram lies farther out",
        ),
    ],
)
def test_bad_input_is_one_clear_line(call, words):
    with pytest.raises(UserError, match=words):
        call()
