"""Records of time tags against what is expected of them: rates, coincidences, accidentals, delays, faults, memory."""

import resource
import tracemalloc
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf
from slopes import check_slopes, once

from qtwin.core.errors import FieldError, UserError
from qtwin.correlation.coincidence import car, count
from qtwin.detector import TDC, Exponentials, SinglePhoton
from qtwin.detector.arrivals import PS, Continuous, Emitter, Pulsed, Thermal
from qtwin.detector.faults import Faults
from qtwin.detector.recording import BYTES, MOST_EVENTS, Arm, Recording
from qtwin.modes.pairs import click_probabilities, heralded_g2_weak

IDEAL = SinglePhoton(1.0, 0.0, 0.0, 0.0)
REAL = SinglePhoton(0.8, "3 kHz", "50 ns", "300 ps")
QUICK = SinglePhoton(0.6, "1 kHz", "20 ns", "100 ps", afterpulsing=Exponentials(0.04, [1.0], ["90 ns"]))
DEAD = SinglePhoton(0.8, "3 kHz", "20 ns", 0.0)
PARTS = 50


@once
def law(recording, window):
    rates = recording.expect()
    return rates, rates.coincidences(window, *recording.light.windows(window))


def two(light=None, seconds=1.0, s=(0.5, 0.0), i=(0.0, 0.3), devices=(IDEAL, IDEAL), **more) -> Recording:
    """Signal to channel 0, idler to channel 1, unless told otherwise."""
    flights = {k: more.pop(k) for k in ("delay", "flight") if k in more}
    idler = None if i is None else Arm(i, **flights)
    return Recording(light or Continuous("1 MHz"), Arm(s), devices, seconds, idler, **more)


def draw(recording, seed=7, **limits):
    return list(recording.sample(key=jax.random.key(seed), **limits))


def channels(tags):
    """Times of every channel of a record."""
    times, names = (np.concatenate([getattr(t, name) for t in tags]) for name in ("times", "channels"))
    return [times[names == c] for c in range(int(names.max(initial=0)) + 1)]


def parts(times, weights, seconds):
    """Sums of ``weights`` at ``times`` in PARTS parts of the record, per second."""
    at = np.minimum(times * PARTS // round(seconds * PS), PARTS - 1)
    return np.bincount(at, weights, PARTS) * PARTS / seconds


def score(samples, expected):
    return (np.mean(samples) - float(expected)) / (np.std(samples, ddof=1) / np.sqrt(len(samples)))


def check(recording, window, away, wrong=1.05, seed=7):
    """Singles, coincidences at zero delay and ``away`` ps from it, against their means; ``wrong`` times them fails."""
    seconds, width = float(recording.duration), round(window * PS)
    rates, (gross, accidental) = law(recording, window)
    found = channels(draw(recording, seed))
    seen = [(parts(t, None, seconds), rates.singles[c]) for c, t in enumerate(found[:2])]
    for delay, mean in ((0, gross), (away, accidental)):
        seen.append((parts(found[0], count(found[0] + delay, found[1], width), seconds), mean[0, 1]))
    for k, (sample, mean) in enumerate(seen):
        assert abs(score(sample, mean)) < 4, (k, np.mean(sample), float(mean))
        assert abs(score(sample, wrong * mean)) > 4.5, (k, np.mean(sample), float(mean))
    return found


@pytest.mark.parametrize(
    ("recording", "window", "away"),
    [
        (two(background=["3 MHz", "5 MHz"], devices=(REAL, DEAD), seconds=0.2), 3e-8, 10**6),
        (two(Pulsed("8 ns", 0.2), 0.1), 8e-9, 80_000),
        (two(Pulsed("8 ns", 0.05, 0.6), 0.6, devices=(REAL, DEAD)), 8e-9, 808_000),
        (two(Pulsed("100 ns", 0.6, 1.0, "2 ns"), 0.3, devices=(REAL, DEAD), background=2e5), 3e-8, 10**6),
        (two(Thermal("30 MHz", "200 ns"), 0.05, s=(0.3, 0.2), i=None), 6e-8, 10**7),
        (two(Emitter("10 ns", 0.3, 0.2), 0.1, s=(0.5, 0.3), i=None), 1e-8, 10**6),
        (two(Emitter("10 ns", 0.6, 0.2, "0.2 ns", "1 us", "2 us"), 0.2, s=(0.5, 0.3), i=None), 1e-8, 50_000_000),
    ],
    ids=["cw", "poisson", "thermal", "once a pulse", "cw thermal", "emitter", "blinking"],
)
def test_rates_coincidences_and_accidentals(recording, window, away):
    check(recording, window, away)


@pytest.mark.slow
def test_rates_with_afterpulses():
    """Afterpulses add clicks, and their dead time takes pairs."""
    check(two(background=["3 MHz", "5 MHz"], devices=(REAL, QUICK)), 3e-8, 10**6)
    check(two(Pulsed("100 ns", 0.2, 1.0, "2 ns"), devices=(REAL, QUICK), background=2e5), 3e-8, 10**6)


@pytest.mark.parametrize(("mu", "eta", "dark", "expected"), [(0.001, 0.1, 1e-5, 827.45), (0.1, 0.3, 0.0, 11.0)])
def test_car_of_mean_counts(mu, eta, dark, expected):
    """Poisson pairs per gate of 10 ns, every photon counted."""
    device = SinglePhoton(1.0, dark / 1e-8, 0.0, 0.0)
    gross, accidental = law(two(Pulsed("10 ns", mu), s=(eta, 0), i=(0, eta), devices=(device,) * 2), 1e-8)[1]
    assert float(gross[0, 1] / accidental[0, 1]) == pytest.approx(expected, abs=0.005)
    assert float(gross[0, 1] / accidental[0, 1]) == pytest.approx(car(mu, eta, eta, dark, dark), rel=1e-12)


@pytest.mark.parametrize(("purity", "expected"), [(0.0, 10.748), (1.0, 11.466)])
def test_car_of_threshold_detectors(purity, expected):
    """Dead time longer than a pulse, shorter than the period: clicks of a gate as `click_probabilities` has them."""
    device = SinglePhoton(0.6, 0.0, "4 ns", 0.0)
    recording = two(Pulsed("10 ns", 0.1, purity), 0.25, s=(0.5, 0), i=(0, 0.5), devices=(device,) * 2)
    gross, accidental = (float(x[0, 1]) for x in law(recording, 1e-8)[1])
    assert gross / accidental == pytest.approx(expected, abs=0.0005)
    signal, idler, both = click_probabilities(0.1, 1 / purity if purity else 1e9, 0.3, 0.3)
    np.testing.assert_allclose([gross * 1e-8, accidental * 1e-8], [both, signal * idler], rtol=1e-6)
    silent = [float(recording.silent(jnp.asarray(m))) for m in ([True, False], [True, True])]
    assert 1 - silent[0] == pytest.approx(float(signal), rel=1e-6)
    assert 1 - 2 * silent[0] + silent[1] == pytest.approx(float(both), rel=1e-6)
    check(recording, 1e-8, 10_000)


@pytest.mark.parametrize(
    ("light", "off"),
    [
        (Thermal("1 MHz", "1 us"), Continuous("1 MHz")),
        (Emitter("10 ns", 0.05, 0.2, "0.2 ns", "1 us", "2 us"), Emitter("10 ns", 0.05 / 3, 0.2, "0.2 ns")),
    ],
    ids=["thermal", "blinking"],
)
def test_bunched_light_loses_more_to_dead_time(light, off):
    """Singles behind 50 ns and 20 ns: the mean of g2 over a dead time counts; other light of that rate loses less."""
    recording = two(light, 0.6, s=(0.5, 0.4), i=None, devices=(REAL, DEAD))
    seen, found = law(recording, 1e-8)[0].singles, channels(draw(recording))
    steady = law(two(off, 0.6, s=(0.5, 0.4), i=None, devices=(REAL, DEAD)), 1e-8)[0].singles
    for c in (0, 1):
        assert abs(score(parts(found[c], None, 0.6), seen[c])) < 4
    assert abs(score(parts(found[0], None, 0.6), steady[0])) > 5


def test_heralded_g2_of_three_channels():
    """Idler on a beam splitter, detectors that click once a pulse: P_abc P_a/(P_ab P_ac) by inclusion and exclusion."""
    device = SinglePhoton(0.9, "100 kHz", "4 ns", 0.0)
    light = Pulsed("10 ns", 0.3, 0.5)
    recording = Recording(light, Arm([0.6, 0, 0]), (device,) * 3, 0.1, Arm([0, 0.5, 0.3]))

    def some(*wanted):
        """P(all of these click)."""
        total = 0.0
        for code in range(2 ** len(wanted)):
            mask = np.zeros(3, bool)
            mask[[c for k, c in enumerate(wanted) if code >> k & 1]] = True
            total += (-1) ** mask.sum() * float(recording.silent(jnp.asarray(mask)))
        return total

    found = np.zeros((3, 10_000_000), bool)
    for c, times in enumerate(channels(draw(recording))):
        found[c, times // 10_000] = True
    a, b, c = found
    for wanted, clicks in (((0,), a), ((0, 1), a & b), ((0, 2), a & c), ((0, 1, 2), a & b & c)):
        p = some(*wanted)
        z = (clicks.mean() - p) / np.sqrt(p / clicks.size)
        assert abs(z) < 4, wanted
    assert abs((a & b & c).mean() - 1.03 * p) / np.sqrt(p / a.size) > 5
    weak = Recording(light, Arm([1e-4, 0, 0]), (IDEAL,) * 3, 0.4, Arm([0, 1e-4, 1e-4]))
    p = [1 - float(weak.silent(jnp.asarray([True, False, False])))]
    recording = weak
    g2 = some(0, 1, 2) * p[0] / (some(0, 1) * some(0, 2))
    assert g2 == pytest.approx(float(heralded_g2_weak(0.3, 2.0)), rel=2e-3)


def test_lag_of_delays_flights_and_jitter():
    """Mean and variance of t_b - t_a: path, times of flight with equal chance, both jitters, clocks."""
    faults = Faults(clock_offset=["0 s", "-2 ns"], clock_drift=[0.0, 1e-8])
    devices = (SinglePhoton(1.0, 0.0, 0.0, "300 ps"), SinglePhoton(1.0, 0.0, 0.0, "500 ps", jitter_tail="400 ps"))
    recording = two(
        Continuous("20 kHz"), 2.0, devices=devices, delay="5 ns", flight=[0.0, "1 ns", "5 ns"], faults=faults
    )
    first, second = channels(draw(recording))
    low, high = np.searchsorted(second, first - 30_000), np.searchsorted(second, first + 60_000)
    alone = high == low + 1
    apart = (second[np.minimum(low, len(second) - 1)] - first)[alone] * 1e-12
    at_0, variance = recording.lag(0.0)
    rest = apart - float(at_0[0, 1]) - float(recording.lag(1.0)[0][0, 1] - at_0[0, 1]) * first[alone] / PS
    kurtosis = np.mean((rest - rest.mean()) ** 4) / rest.var() ** 2
    assert len(rest) > 5000 and abs(rest.mean()) < 4 * rest.std() / np.sqrt(len(rest))
    assert abs(rest.var() / float(variance[0, 1]) - 1) / np.sqrt((kurtosis - 1) / len(rest)) < 4
    slope, error = np.polyfit(first[alone] / PS, apart, 1, cov=True)
    assert abs(slope[0] - 1e-8) < 4 * np.sqrt(error[0, 0]) and abs(slope[0]) > 9 * np.sqrt(error[0, 0])
    with pytest.raises(FieldError, match="idler"):
        two(i=None).lag()


@pytest.mark.parametrize(
    ("faults", "singles", "pairs", "accidentals"),
    [
        ({"source_slope": 0.8}, (1.4, 1.4), 1.4, 1 + 0.8 + 0.64 / 3),
        ({"source_swing": 0.9, "source_period": "0.25 s"}, (1, 1), 1, 1 + 0.81 / 2),
        (
            {"misalignment": [0.9, 1.4]},
            [np.sqrt(np.pi) * erf(v) / (2 * v) for v in (0.9, 1.4)],
            np.sqrt(np.pi) * erf(np.hypot(0.9, 1.4)) / (2 * np.hypot(0.9, 1.4)),
            np.sqrt(np.pi) * erf(np.hypot(0.9, 1.4)) / (2 * np.hypot(0.9, 1.4)),
        ),
        ({"lost": [0.3, 0.1]}, (0.7, 0.9), 0.63, 0.63),
        ({"duplicated": [0.5, 0.2]}, (1.5, 1.2), 1.8, 1.8),
        ({"gate_open": 0.4, "gate_period": "10 us"}, (0.4, 0.4), 0.4, 0.4),
    ],
    ids=["slope", "swing", "misalignment", "lost", "duplicated", "gate"],
)
def test_faults_in_a_record(faults, singles, pairs, accidentals):
    """Closed forms of every factor, in the expectation and in the tags. Accidentals follow <f^2>, not <f>^2."""
    shapes = {"misalignment": [0, 0], "lost": [0, 0], "duplicated": [0, 0]}  # one compilation for all
    recording, off = two(faults=Faults(**(shapes | faults))), law(two(), 4e-9)[0]
    rates = law(recording, 4e-9)[0]
    np.testing.assert_allclose(rates.singles / off.singles, singles, rtol=1e-9)
    assert float(rates.pairs[0, 1] / off.pairs[0, 1]) == pytest.approx(pairs, rel=1e-9)
    assert float(rates.light[0, 1] / off.light[0, 1]) == pytest.approx(accidentals, rel=1e-9)
    found = channels(draw(recording))
    for c in (0, 1):
        mean = float(rates.singles[c])
        spread = np.sqrt(mean * (1 + 3 * faults.get("duplicated", [0, 0])[c]))
        assert abs(len(found[c]) - mean) < 4 * spread and abs(len(found[c]) - 1.03 * mean) > 5 * spread
    gross, accidental = (float(x[0, 1]) for x in law(recording, 4e-9)[1])
    for delay, mean in ((0, gross), (40_000, accidental)):
        pairs = count(found[0] + delay, found[1], 4000)
        spread = np.sqrt(mean * np.mean(pairs.astype(float) ** 2) / np.mean(pairs))
        assert abs(pairs.sum() - mean) < 4 * spread, delay


def test_memory_of_the_tagger_in_a_record():
    """Independent channels: the tags that a memory of 30 takes between transfers of 100 us."""
    recording = two(Continuous(0.0), background=["150 kHz", "250 kHz"], faults=Faults(memory=30, transfer="100 us"))
    rates, found = law(recording, 4e-9)[0], channels(draw(recording))
    assert 0.7 < float(rates.singles.sum()) / 400e3 < 0.76
    for c in (0, 1):
        assert abs(score(parts(found[c], None, 1.0), rates.singles[c])) < 4


def test_stretches_follow_each_other_in_order():
    """Jitter, afterpulses and clocks that differ: tags within their stretch, in order across all of them, none lost."""
    faults = Faults(clock_offset=["0 s", "40 us"], clock_drift=[-3e-6, 2e-6], clock_walk="1 us")
    recording = two(Continuous("3 MHz"), devices=(REAL, DEAD), background=1e6, faults=faults)
    tags = draw(recording)
    assert len(tags) > 4 and tags[0].start == 0 and tags[-1].stop == PS
    for before, after in pairwise(tags):
        assert before.stop == after.start
    for t in tags:
        assert t.start <= t.times[0] and t.times[-1] < t.stop
    rates = law(recording, 4e-9)[0]
    for c, times in enumerate(channels(tags)):
        assert abs(score(parts(times, None, 1.0), rates.singles[c])) < 4


def test_converters_write_their_bins():
    """Tags on the middle of bins of 40 ps and 60 ps, in order across stretches; the record knows the mean width."""
    device = SinglePhoton(0.8, 0.0, "20 ns", "100 ps", tdc=TDC(["40 ps", "60 ps"]))
    tags = draw(two(Continuous("5 MHz"), 0.3, devices=(device, device)), memory_limit=2e7)
    times = np.concatenate([t.times for t in tags])
    assert len(tags) > 5 and np.all(np.diff(times) >= 0) and set(times % 100) == {20, 70}
    assert tags[0].resolution == pytest.approx(50)


def test_same_key_same_record_and_stages_that_do_not_reshuffle():
    """Another background or detector in one channel leaves the other as it was; another key does not."""
    base, other = two(devices=(REAL, REAL), seconds=0.05), two(devices=(REAL, QUICK), seconds=0.05, background=[0, 1e5])
    one, same, changed, new = (channels(draw(r, k)) for r, k in ((base, 7), (base, 7), (other, 7), (base, 8)))
    np.testing.assert_array_equal(one[0], same[0])
    np.testing.assert_array_equal(one[1], same[1])
    assert not np.array_equal(one[0][:100], new[0][:100])
    faulty, off = two(seconds=0.05, faults=Faults(duplicated=0.2)), two(seconds=0.05)
    np.testing.assert_array_equal(np.unique(channels(draw(faulty))[0]), channels(draw(off))[0])
    assert len(changed[0]) > 1000


def test_only_the_photons_of_light_know_its_stretch():
    """Delays longer than a stretch: photons wait, and none is missing at the start."""
    recording = two(seconds=0.5, delay="50 us")
    few, many = channels(draw(recording, memory_limit=3e6)), channels(draw(recording))
    assert recording.stretches(3e6) > 20
    for times in (few, many):
        near = count(times[0] + 50_000_000, times[1], 2000).sum()
        expected = float(law(recording, 2e-9)[1][0][0, 1]) * 0.5
        assert abs(near - expected) < 4 * np.sqrt(expected)
        early = np.sum(times[1] < 5_000_000_000)  # 5 ms
        assert abs(early - 1500) < 4 * np.sqrt(1500)


LIMIT = 30_000_000


@pytest.mark.parametrize(
    "recording",
    [
        two(Continuous("3 MHz"), devices=(QUICK, QUICK), background=1e6),
        two(Pulsed("8 ns", 0.05, 0.5, "1 ns"), 0.2, flight=[0.0, "1 ns"]),
        two(Thermal("500 kHz", "1 us"), 0.5, s=(0.5, 0.3), i=None),
        two(Emitter("10 ns", 0.3, 0.1, "1 ns", "1 us", "9 us"), 0.2, s=(0.5, 0.3), i=None),
    ],
    ids=["cw", "pulsed", "thermal", "emitter"],
)
def test_memory_stays_below_its_limit(recording):
    assert sum(map(len, two(seconds=0.01, devices=(QUICK, QUICK)).sample(key=jax.random.key(1)))) > 0  # compiled
    tracemalloc.start()
    try:
        for _ in recording.sample(key=jax.random.key(7), memory_limit=LIMIT):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert recording.stretches(LIMIT) > 1 and peak < LIMIT


@pytest.mark.slow
def test_hours_stream_through_the_same_memory():
    """Three hours at 1e5 tags per second: the process does not grow after the first minute."""
    recording = two(Continuous("80 kHz"), 3 * 3600.0, devices=(REAL, QUICK), background=2e4)
    tags, after = 0, None
    for t in recording.sample(key=jax.random.key(7)):
        tags += len(t)
        if after is None and t.stop > 300 * PS:
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert abs(tags / (float(law(recording, 4e-9)[0].singles.sum()) * 3 * 3600) - 1) < 1e-3 and tags > 5e8
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < after + 20_000  # kB


@pytest.mark.parametrize(
    ("build", "key"),
    [
        (lambda: two(s=(0.7, 0.7)), "efficiency"),
        (lambda: two(s=(0.7, 0.1, 0.1)), "signal.efficiency"),
        (lambda: two(i=(0.7,)), "idler.efficiency"),
        (lambda: two(delay=["1 ns", "2 ns", "3 ns"]), "idler.delay"),
        (lambda: two(background=[1.0, 2.0, 3.0]), "background"),
        (lambda: two(background=-1.0), "background"),
        (lambda: two(devices=()), "detectors"),
        (lambda: two(faults=Faults(clock_drift=[0.0, 0.0, 0.0])), "faults.clock_drift"),
        (lambda: two(faults=Faults(misalignment=[0.0, 0.0, 0.0])), "faults.misalignment"),
        (lambda: two(faults=Faults(source_swing=0.1, source_period="10 ms")), "faults.source_period"),
        (lambda: two(seconds=0.0), "duration"),
        (lambda: two(delay="-1 ns"), "delay"),
        (lambda: two(seconds=107 * 86400.0).sample(key=jax.random.key(0)), "duration"),
        (lambda: two(seconds=53 * 86400.0, faults=Faults(clock_drift=0.01)).stretches(), "duration"),
        (lambda: two(Emitter("10 ns", 0.9), faults=Faults(source_swing=0.2)).stretches(), "mean"),
        (lambda: two(faults=Faults(source_slope=-2.0)).sample(key=jax.random.key(0)), "source_slope"),
        (lambda: two().sample(key=jax.random.key(0), memory_limit=1000), "memory_limit"),
        (lambda: two(delay="1 s").sample(key=jax.random.key(0), memory_limit=1e7), "memory_limit"),
        (lambda: two(Continuous(1e13)).stretches(), "rates"),
        (lambda: two().silent(jnp.asarray([True, True])), "light"),
    ],
)
def test_records_that_cannot_be_are_refused(build, key):
    with pytest.raises(UserError, match=key):
        build()


def test_long_records_are_cut_into_stretches():
    """53 days in ps still fit; a dark record is cut for the digits of its clock alone."""
    days = two(seconds=53 * 86400.0)
    assert days.stretches() == pytest.approx(53 * 86400 * 0.8e6 / MOST_EVENTS, rel=1e-6)
    assert days.stretches(1e7) == pytest.approx(53 * 86400 * 0.8e6 / (1e7 / BYTES), rel=1e-3)
    dark = two(Continuous(0.0), 1e4)
    assert dark.stretches() == 10 and sum(map(len, draw(dark))) == 0


def test_gradients():
    """Every number that the expectation reads, by finite differences: light, arms, detectors and faults together."""

    def read(x):
        device = SinglePhoton(0.8 * x[0], 3e3 * x[1], 5e-8 * x[2], 3e-10 * x[3])
        faults = Faults(
            0.3 * x[4], 0.2 * x[5], 0.7 * x[6], jnp.stack([0.4 * x[7], 0.6 * x[8]]), 0.7 * x[9], lost=0.1 * x[10]
        )
        arms = Arm(jnp.stack([0.5 * x[11], 0.1 * x[12]])), Arm(jnp.stack([0.05 * x[13], 0.3 * x[14]]), 2e-9 * x[15])
        rest = {"idler": arms[1], "background": 1e5 * x[16], "faults": faults}
        total = jnp.zeros(())
        for light in (Continuous(1e6 * x[17]), Pulsed(8e-8 * x[18], 0.1 * x[19], 0.4 * x[20])):
            recording = Recording(light, arms[0], (device, device), 0.9, **rest)
            rates = recording.at(0.31)
            gross, accidental = rates.coincidences(3e-8 * x[21], *light.windows(3e-8 * x[21]))
            total = total + gross[0, 1] / 1e3 + accidental[0, 1] / 30 + rates.singles @ jnp.array([1e-5, 2e-5])
        mean, variance = recording.lag(0.5)
        return total + mean[0, 1] * 1e9 + variance[0, 1] * 1e20 + recording.silent(jnp.asarray([True, True]))

    check_slopes(read, jnp.ones(22), rtol=2e-6, atol=1e-6)
