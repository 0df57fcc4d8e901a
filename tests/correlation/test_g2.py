"""g2 of drawn light against closed forms: chaotic, pulsed thermal, single photons, heralded photons, blinking."""

import numpy as np
import pytest
from scipy.signal import lfilter

from qtwin.core.errors import UserError
from qtwin.core.records import TimeTags
from qtwin.correlation.counting import aligned, coincidences, n_fold, one_per_tick, pulse_clock
from qtwin.correlation.g2 import bunching, heralded_g2, peak_areas, pulse_delay, pulse_phase, pulsed_g2
from qtwin.correlation.histogram import cross_correlation

PERIOD = 12_512.5  # ps


def merged(span, *rows):
    times, channels = np.concatenate(rows).astype(np.int64), np.repeat(np.arange(len(rows)), [len(r) for r in rows])
    order = np.argsort(times, kind="stable")
    return TimeTags(times[order], channels[order].astype(np.int16), 0, span)


def test_chaotic_light():
    """g2(tau) = 1 + exp(-2 |tau|/tau_c) for a Lorentzian line: its mean over every bin, and 2 at zero delay.

    Errors from thirty records: bunched light scatters more than sqrt(n), here with 3 photons per coherence time.
    """
    rng, steps, step, tau_c = np.random.default_rng(51), 120_000, 500, 20_000
    decay = np.exp(-step / tau_c)
    curves, zeros = [], []
    for _ in range(30):
        kicks = rng.normal(0, np.sqrt((1 - decay**2) / 2), (steps + 1000, 2)) @ np.array([1, 1j])
        intensity = np.abs(lfilter([1.0], [1.0, -decay], kicks)[1000:]) ** 2
        counts = [rng.poisson(mean * intensity) for mean in (0.03, 0.045)]  # two detectors behind a beam splitter
        rows = [np.repeat(np.arange(steps), n) * step + rng.integers(0, step, n.sum()) for n in counts]
        record = [merged(steps * step, *rows)]
        h = cross_correlation(record, 0, 1, 80_000, 4000)
        scale = (
            h.starts * h.stops / (0.03 * 0.045 * steps**2)
        )  # to the known mean rates: a short record's own are noisy
        curves.append(h.g2.value * scale)
        zero = coincidences(record, 0, 1, 1000)
        zeros.append(zero.counts / (0.03 * 0.045 * steps * 2))
    edges = h.edges / tau_c
    integral = np.sign(edges) * (1 - np.exp(-2 * np.abs(edges))) / 2
    expected = 1 + np.diff(integral) / np.diff(edges)
    pull = (np.mean(curves, axis=0) - expected) / (np.std(curves, axis=0) / np.sqrt(30))
    assert np.max(np.abs(pull)) < 4.5
    slower = 1 + np.diff(np.sign(edges) * (1 - np.exp(-np.abs(edges)))) / np.diff(edges)
    assert np.max(np.abs(np.mean(curves, axis=0) - slower) / (np.std(curves, axis=0) / np.sqrt(30))) > 10
    # within 500 ps both clicks are in the same step or in the next one, with weight 3/4 and 1/8 on either side
    near = 1 + (3 + decay**2) / 4
    assert abs(np.mean(zeros) - near) / (np.std(zeros) / np.sqrt(30)) < 4 and 1.98 < near < 2


def emitter(rng, pulses, numbers, delay=0, jitter=150.0):
    """Clicks of ``numbers`` (a row per channel, [pulses]) at their pulses; the second channel is late by ``delay``."""
    rows = []
    for lag, n in zip((0, delay), numbers, strict=True):
        rows.append(np.rint(np.repeat(np.arange(pulses), n) * PERIOD + lag + rng.normal(5000, jitter, n.sum())))
    return [merged(int(pulses * PERIOD), *rows)]


def test_pulsed_thermal_light_and_laser_light():
    """Centre to side peaks: 2 for one thermal mode, 1 + 1/M for M, 1 for a laser; and the same per pulse."""
    rng, pulses = np.random.default_rng(52), 1_500_000
    for modes, expected in ((1, 2.0), (3, 4 / 3), (10**9, 1.0)):
        mean = rng.gamma(modes, 0.15 / modes, pulses)
        record = emitter(rng, pulses, [rng.poisson(mean * 0.4), rng.poisson(mean * 0.6)], 30_000)
        h = cross_correlation(aligned(record, {0: 0, 1: 30_000}), 0, 1, 106_000, 50)
        g = pulsed_g2(h, PERIOD)
        assert abs(g.zero.value - expected) / g.zero.error < 4 and g.zero.error < 0.03
        np.testing.assert_array_equal(g.numbers, np.arange(-7, 8))
        clock = list(pulse_clock(aligned(record, {0: 3000, 1: 33_000}), PERIOD))
        assert abs(coincidences(clock, 0, 1, 1).counts - g.areas[7]) <= 2  # the ends of the record
        if modes == 1:
            assert pulse_delay(h, PERIOD).value == pytest.approx(0, abs=3)
        if modes > 3:
            with pytest.raises(UserError, match="no peak of the pulse train differs from the others"):
                pulse_delay(h, PERIOD)


def test_single_photons_and_their_delay():
    """One photon per pulse or none goes one way or the other; stray light fills the centre peak a little."""
    rng, pulses, delay = np.random.default_rng(53), 1_000_000, 43_210
    photon = rng.random(pulses) < 0.2
    way = rng.random(pulses) < 0.45
    stray = [rng.poisson(0.004, pulses), rng.poisson(0.002, pulses)]
    numbers = [(photon & way) + stray[0], (photon & ~way) + stray[1]]
    h = cross_correlation(emitter(rng, pulses, numbers, delay), 0, 1, 200_000, 50)
    means = 0.2 * 0.45 + 0.004, 0.2 * 0.55 + 0.002
    expected = 1 - 0.2 * 0.45 * 0.2 * 0.55 / (means[0] * means[1])
    found = pulse_delay(h, PERIOD)
    assert abs(found.value - delay) / found.error < 4 and found.error < 5
    g = pulsed_g2(h, PERIOD, found.value)
    assert abs(g.zero.value - expected) / g.zero.error < 4
    assert g.zero.low < expected < g.zero.high or abs(g.zero.value - expected) / g.zero.error < 4
    assert g.numbers[0] == -18 and g.numbers[-1] == 12  # whole peaks only
    few = pulsed_g2(h, PERIOD, found.value, width=2000, sides=5)
    np.testing.assert_array_equal(few.numbers, np.arange(-5, 6))
    assert abs(few.zero.value - expected) / few.zero.error < 4
    clean = pulsed_g2(cross_correlation(emitter(rng, pulses, [photon & way, photon & ~way]), 0, 1, 100_000, 50), PERIOD)
    assert (clean.zero.value, clean.zero.low) == (0, 0) and 0 < clean.zero.high < 0.001


def test_phase_of_the_peaks():
    """Scatter of the phase over records as stated; jitter of a sixth of the period, and a background."""
    rng, values, errors = np.random.default_rng(54), [], []
    for _ in range(120):
        numbers = rng.poisson(0.05, (2, 8000))
        (tags,) = emitter(rng, 8000, numbers, 3100, 1500.0)
        dark = rng.integers(0, tags.stop, 100)
        found = pulse_phase(
            cross_correlation([merged(tags.stop, tags.of(0), np.append(tags.of(1), dark))], 0, 1, 100_000, 100), PERIOD
        )
        values.append(found.value)
        errors.append(found.error)
    assert abs(np.mean(values) - 3100) / (np.std(values) / np.sqrt(120)) < 4
    assert 0.7 < np.std(values) / np.mean(errors) < 2  # pairs that share a click are not independent


def heralded(rng, pulses, mu, thermal, etas):
    n = rng.geometric(1 / (1 + mu), pulses) - 1 if thermal else rng.poisson(mu, pulses)
    lit = np.flatnonzero(n)
    n = n[lit]
    first = rng.binomial(n, 0.5)
    rows = [np.repeat(lit, rng.binomial(m, e)) for m, e in zip((n, first, n - first), etas, strict=True)]
    return [merged(pulses, *rows)]


@pytest.mark.parametrize(("thermal", "expected"), [(True, 0.3194), (False, 0.1736)])
def test_heralded_photons(thermal, expected):
    """Weak herald, mu = 0.1: 2 mu (2 + 3 mu)/(1 + 2 mu)^2 thermal, mu (2 + mu)/(1 + mu)^2 Poisson.

    With all pairs counted every herald click weighs its pulse by n, as a weak herald does, at any efficiency.
    """
    mu = 0.1
    closed = 2 * mu * (2 + 3 * mu) / (1 + 2 * mu) ** 2 if thermal else mu * (2 + mu) / (1 + mu) ** 2
    assert closed == pytest.approx(expected, abs=5e-5)
    found = heralded_g2(
        heralded(np.random.default_rng(55), 3_000_000, mu, thermal, (0.8, 0.9, 0.7)), 0, (1, 2), 1, "all pairs"
    )
    assert abs(found.value - closed) / found.error < 4 and found.error < closed / 60


@pytest.mark.parametrize("thermal", [True, False])
def test_heralded_clicks(thermal):
    """Detectors that only click, by their generating functions: inclusion and exclusion of the three."""
    mu, h, a, b = 0.4, 0.3, 0.5 * 0.9, 0.5 * 0.7

    def silent(herald, one, two):
        """Probability that none of those asked for clicks; a photon goes to one arm or to the other."""
        x = 1 - (1 - h * herald) * (1 - a * one - b * two)
        return 1 / (1 + mu * x) if thermal else np.exp(-mu * x)

    p_h = 1 - silent(1, 0, 0)
    p_1, p_2 = (1 - silent(1, 0, 0) - silent(0, *arm) + silent(1, *arm) for arm in ((1, 0), (0, 1)))
    none = sum((-1) ** (i + j + k) * silent(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1))
    rng = np.random.default_rng(56)
    found = heralded_g2(one_per_tick(heralded(rng, 1_000_000, mu, thermal, (0.3, 0.9, 0.7))), 0, (1, 2), 1)
    assert abs(found.value - p_h * none / (p_1 * p_2)) / found.error < 4 and found.error < 0.02


@pytest.mark.parametrize("rule", ["first stop", "all pairs"])
def test_error_of_the_heralded_g2(rule):
    """Against the scatter of many records; and the counts are those of the three-fold coincidences."""
    rng = np.random.default_rng(57)
    records = [heralded(rng, 20_000, 0.3, True, (0.3, 0.8, 0.6)) for _ in range(300)]
    found = [heralded_g2(r, 0, (1, 2), 1, rule) for r in records]
    values, errors = np.array([f.value for f in found]), np.array([f.error for f in found])
    assert abs(values.std() / errors.mean() - 1) * np.sqrt(2 * 300) < 5
    three, one, two = (n_fold(records[0], 0, arms, 1, rule) for arms in ((1, 2), (1,), (2,)))
    assert found[0].value == pytest.approx(three.starts * three.counts / (one.counts * two.counts), rel=1e-12)
    assert found[0].low < found[0].value < found[0].high


def test_heralded_single_photons_have_none():
    rng = np.random.default_rng(58)
    way = rng.random(5000) < 0.5
    record = [merged(5000, np.arange(5000), np.flatnonzero(way), np.flatnonzero(~way))]
    found = heralded_g2(record, 0, (1, 2), 1)
    assert (found.value, found.low) == (0, 0) and 0 < found.error < found.high < 0.002


def test_blinking_excess():
    """A random telegraph signal, on and off at rates a and b: g2(tau) = 1 + (b/a) exp(-(a + b)|tau|), b leaving on."""
    rng, step, steps = np.random.default_rng(59), 10_000_000, 100_000  # 10 us steps, 1 s
    a, b = 2000.0, 6000.0  # per second: on for 1/6 ms, off for 1/2 ms
    dwell = np.column_stack([rng.exponential(1 / b, 12_000), rng.exponential(1 / a, 12_000)]).ravel() * 1e12
    edges = np.cumsum(dwell)
    span = step * steps
    assert edges[-1] > span
    clicks = rng.integers(0, span, 1_600_000)
    on = np.searchsorted(edges, clicks) % 2 == 0
    way = rng.random(len(clicks)) < 0.4
    record = [merged(span, clicks[on & way], clicks[on & ~way])]
    window = 2 * 10**8  # +- 0.1 ms
    k = (a + b) * 1e-4
    expected = 1 + b / a * (1 - np.exp(-k)) / k
    found = bunching(record, 0, 1, window, 5 * 10**10)
    assert abs(found.value - expected) / found.error < 4
    poisson = found.value / np.sqrt(coincidences(record, 0, 1, window).counts)
    assert found.error > 4 * poisson  # switching, not counting, sets the error
    steady = bunching(
        [merged(span, rng.integers(0, span, 30_000), rng.integers(0, span, 40_000))], 0, 1, window, 10**11
    )
    assert abs(steady.value - 1) / steady.error < 4


def test_error_of_the_blinking_excess():
    """The jackknife against the scatter of many records, each of some fifty flashes in twenty pieces."""
    rng, span, found = np.random.default_rng(60), 2 * 10**10, []
    for _ in range(200):
        flashes = rng.integers(0, span, rng.poisson(60))
        rows = [np.repeat(flashes, rng.poisson(8, len(flashes))) for _ in range(2)]
        found.append(
            bunching([merged(span, *(np.sort(r + rng.integers(0, 10_000, len(r))) for r in rows))], 0, 1, 40_000, 10**9)
        )
    values, errors = np.array(found).T
    assert abs(values.std() / errors.mean() - 1) < 0.3  # an error from twenty pieces is itself known to a sixth
    assert abs(values.std() / (errors.mean() / np.sqrt(19)) - 1) > 1


H = cross_correlation([merged(10**6, np.arange(0, 10**6, 5000), np.arange(2000, 10**6, 5000))], 0, 1, 20_000, 100)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: peak_areas(H, 300.0, 0.0, 300.0), r"width: got 300 ps, accepted is four bins \(400\) to a period"),
        (lambda: pulsed_g2(H, 5000.0, 0.0, 6000), "width: got 6000 ps"),
        (lambda: pulsed_g2(H, 15_000.0), "the histogram holds no three peaks of period 15000 ps"),
        (lambda: pulsed_g2(H, 5000.0, 90_000), "delay: got 90000 ps, the centre peak there is not inside"),
        (lambda: pulsed_g2(H, 5000.0, 0, sides=0), "sides: got 0"),
        (lambda: heralded_g2([merged(10, [1], [2], [3])], 0, (1, 2), 4, "one to one"), "rule: got 'one to one'"),
        (lambda: heralded_g2([merged(10, [1], [2], [3])], 0, (1,), 4), r"arms: got \[1\], expected the two"),
        (lambda: heralded_g2([merged(10, [1], [2], [9])], 0, (1, 2), 4), "arms: got 1 and 0 heralded clicks"),
        (lambda: bunching([merged(10**6, [1], [2])], 0, 1, 4, 10**6), "which makes 1 pieces of the record"),
        (lambda: bunching([merged(10**6, [1], [])], 0, 1, 4, 10**5), "one of which has no tag"),
    ],
)
def test_bad_input_is_one_clear_line(call, words):
    with pytest.raises(UserError, match=words):
        call()
