"""CAR, efficiencies and pairs from counted records: closed forms, and errors against the scatter of many records."""

import numpy as np
import pytest

from qtwin.core.errors import UserError
from qtwin.core.records import Estimate, TimeTags
from qtwin.correlation import coincidence
from qtwin.correlation.accidentals import Accidentals, from_delayed, from_singles
from qtwin.correlation.counting import Coincidences, coincidences, one_per_tick, pulse_clock
from qtwin.correlation.efficiency import car, efficiencies

PERIOD = 1000  # ps


def merged(span, *rows):
    times, channels = np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(r) for r in rows]).astype(np.int16)
    order = np.argsort(times, kind="stable")
    return TimeTags(times[order], channels[order], 0, span)


def gates(rng, pulses, mu, eta, dark, thermal=False):
    """Pulses with ``mu`` pairs in the mean, lossy arms, dark counts: a pulse clock's record. Empty pulses are free."""
    if thermal:  # of the pulses that hold pairs, n >= 1 with probability (1 - p) p^(n - 1), p = mu/(1 + mu)
        lit = np.flatnonzero(rng.random(pulses) < mu / (1 + mu))
        born = np.repeat(lit, rng.geometric(1 / (1 + mu), len(lit)))
    else:
        born = rng.integers(0, pulses, rng.poisson(mu * pulses))
    rows = []
    for e, d in zip(eta, dark, strict=True):
        seen = born[rng.random(len(born)) < e]
        rows.append(np.append(seen, rng.integers(0, pulses, rng.poisson(d * pulses))) * PERIOD + 400)
    return list(pulse_clock([merged(pulses * PERIOD, *rows)], PERIOD))


@pytest.mark.parametrize(
    ("pulses", "mu", "eta", "dark", "expected"),
    [
        (4_000_000_000, 0.001, 0.1, 1e-5, 827.446),
        (2_000_000, 0.1, 0.3, 0.0, 11.0),
    ],
)
def test_car_of_counted_pairs(pulses, mu, eta, dark, expected):
    """All pairs per gate: (mu e_s e_i + s i)/(s i), s and i the mean counts of the arms."""
    clock = gates(np.random.default_rng(41), pulses, mu, (eta, eta), (dark, dark))
    c = coincidences(clock, 0, 1, 1)
    found = car(c, from_singles(c))
    assert coincidence.car(mu, eta, eta, dark, dark) == pytest.approx(expected, rel=1e-6)
    assert abs(found.value - expected) / found.error < 4
    assert found.error < expected / 80
    late = car(c, from_delayed(clock, c, 1, 100))
    assert abs(late.value - expected) / late.error < 4


@pytest.mark.parametrize(("thermal", "expected"), [(False, 10.748), (True, 11.466)])
def test_car_of_threshold_detectors(thermal, expected):
    """Clicks, one per gate at most: P_si/(P_s P_i), Poisson or one thermal mode, mu = 0.1, eta = 0.3."""

    def g(x):
        return 1 / (1 + 0.1 * x) if thermal else np.exp(-0.1 * x)

    p, both = 1 - g(0.3), 1 - 2 * g(0.3) + g(0.6 - 0.09)
    assert both / p**2 == pytest.approx(expected, abs=5e-4)
    clock = gates(np.random.default_rng(42), 5_000_000, 0.1, (0.3, 0.3), (0.0, 0.0), thermal)
    c = coincidences(one_per_tick(clock), 0, 1, 1)
    found = car(c, from_singles(c))
    assert abs(found.value - both / p**2) / found.error < 4
    assert abs(found.value - (11.466 if not thermal else 10.748)) / found.error > 5


ETA = (0.35, 0.6)
PAIRS, DARK, SPAN, WINDOW = 900.0, (200.0, 500.0), 10**9, 30_000
RECORDS = 500


@pytest.fixture(scope="module")
def ensemble():
    """Continuous pairs, lossy arms, dark counts: coincidences, and accidentals by singles and 5 delayed windows."""
    rng, out = np.random.default_rng(43), []
    for _ in range(RECORDS):
        born = rng.integers(0, SPAN, rng.poisson(PAIRS))
        seen = [born[rng.random(len(born)) < e] for e in ETA]
        record = [
            merged(
                SPAN, *(np.append(s, rng.integers(0, SPAN, rng.poisson(d))) for s, d in zip(seen, DARK, strict=True))
            )
        ]
        c = coincidences(record, 0, 1, WINDOW)
        out.append((c, (from_singles(c), from_delayed(record, c, 50_000, 5))))
    return out


@pytest.mark.parametrize("way", [0, 1])
def test_efficiencies_and_their_errors(ensemble, way):
    """Means within their errors, scatter as stated; without the covariance the error would be noticeably larger."""
    found = [efficiencies(c, a[way], Estimate(DARK[0], 0.0), Estimate(DARK[1], 0.0)) for c, a in ensemble]
    for name, truth, bias in (("start", ETA[0], 3e-3), ("stop", ETA[1], 3e-3), ("pairs", PAIRS, 6.0)):
        values = np.array([getattr(f, name).value for f in found])
        errors = np.array([getattr(f, name).error for f in found])
        assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(RECORDS) + bias  # a ratio's own bias is 1/S
        assert abs(values.std() / errors.mean() - 1) * np.sqrt(2 * RECORDS) < 4
    c = np.mean([c.counts - a[way].value for c, a in ensemble])
    apart = ETA[1] * np.sqrt(1 / c + 1 / (PAIRS * ETA[0]))
    assert apart / np.std([f.stop.value for f in found]) > 1.2


def test_error_of_an_undisturbed_efficiency_is_binomial():
    """No accidentals, no dark counts: Var eta = eta (1 - eta)/S, and none at all where every partner is seen."""
    c = Coincidences((0, 1), "all pairs", 1, 300, 500, 400, 10**12)
    nothing = Accidentals(0.0, 0.0, np.inf)
    e = efficiencies(c, nothing)
    assert e.stop == pytest.approx((0.6, np.sqrt(0.6 * 0.4 / 500)))
    assert e.start == pytest.approx((0.75, np.sqrt(0.75 * 0.25 / 400)))
    assert e.pairs.value == pytest.approx(500 * 400 / 300)
    assert e.stop.value == coincidence.klyshko(300, 0, 500, 0)
    sure = efficiencies(Coincidences((0, 1), "all pairs", 1, 500, 500, 900, 10**12), nothing)
    assert sure.stop == (1.0, 0.0)
    noisy = efficiencies(c, nothing, Estimate(100.0, 20.0))
    assert noisy.stop.value == 0.75 and noisy.stop.error > np.sqrt(0.75 * 0.25 / 400) + 0.02


@pytest.mark.parametrize("way", [0, 1])
def test_error_of_the_car(ensemble, way):
    truth = 1 + PAIRS * ETA[0] * ETA[1] / ((PAIRS * ETA[0] + DARK[0]) * (PAIRS * ETA[1] + DARK[1]) * WINDOW / SPAN)
    found = [car(c, a[way]) for c, a in ensemble]
    values = np.array([f.value for f in found])
    inside = np.mean([f.low <= truth <= f.high for f in found])
    assert 0.6827 - 4 * np.sqrt(0.6827 * 0.3173 / RECORDS) < inside < 0.8427  # one std to the square root of two
    if way == 0:  # few delayed counts make the ratio's own law skew: there the interval counts
        errors = np.array([f.error for f in found])
        assert abs(values.mean() - truth) / (values.std() / np.sqrt(RECORDS)) < 4
        assert abs(values.std() / errors.mean() - 1) * np.sqrt(2 * RECORDS) < 4


def test_car_of_few_counts():
    c = Coincidences((0, 1), "all pairs", 1000, 4, 10**5, 10**5, 10**12)
    none = car(c, Accidentals(0.0, 0.1, 10.0))
    assert none.value == none.high == np.inf and none.low > 10
    single = car(Coincidences((0, 1), "all pairs", 1000, 4, 10**5, 10**5, 10**12), Accidentals(500.0, 2.5, 80.0))
    assert single.value == 0.008 and single.error == pytest.approx(0.004, rel=0.01)  # fewer than chance: single photons
    known = car(c, Accidentals(0.5, 0.01, np.inf))
    assert (
        known.value == 8
        and known.low == pytest.approx(2.0866 / 0.5, rel=1e-3)
        and known.high == pytest.approx(7.1628 / 0.5, rel=1e-3)
    )  # Garwood's limits of four counts: Gehrels, Astrophys. J. 303, 336 (1986), tables 1 and 2, 84.13 %: 2.086, 7.163


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda c, a: efficiencies(c, a, Estimate(500.0, 1.0)),
            "dark_start: got 500 counts, accepted is less than the 500",
        ),
        (lambda c, a: efficiencies(c, a, Estimate(0.0, 0.0), Estimate(1e6, 1.0)), "dark_stop: got 1e"),
        (
            lambda c, a: efficiencies(c, Accidentals(300.0, 1.0, np.inf)),
            "coincidences: got 300, no more than the accid",
        ),
        (
            lambda c, a: car(Coincidences((0, 1), "all pairs", 1, 0, 5, 5, 10), Accidentals(0.0, 0.1, 9)),
            "counts: got neither",
        ),
    ],
)
def test_bad_input_is_one_clear_line(call, words):
    with pytest.raises(UserError, match=words):
        call(Coincidences((0, 1), "all pairs", 1, 300, 500, 400, 10**12), Accidentals(1.0, 0.1, np.inf))
