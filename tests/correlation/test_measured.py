"""A measured single-photon emitter counted: the facts of its T2 and T3 records (HydraHarp 400, 320 MHz, two detectors).

Test data of the ETA time-tag analyser: four pulses per period of a laser's sync, an emitter that blinks.
"""

import numpy as np
import pytest

from qtwin.core.records import TimeTags
from qtwin.correlation.counting import aligned, coincidences, one_per_tick, pulse_clock
from qtwin.correlation.delay import dead_time, repetition_period, smallest_spacing
from qtwin.correlation.g2 import bunching, pulse_delay, pulsed_g2
from qtwin.correlation.histogram import autocorrelation, cross_correlation, start_stop
from qtwin.io.time_tag_files import read_time_tags

SYNCS = 1_000_000  # ps between the syncs of the T3 record, longer than the 524 ns within which its clicks follow them


@pytest.fixture(scope="module")
def folder(reference_data):
    return reference_data / "timetags" / "eta"


@pytest.fixture(scope="module")
def t2(folder):
    return list(read_time_tags(folder / "200204_HH400_T2_320MHz_HBT.timeres"))


@pytest.fixture(scope="module")
def period(t2):
    return repetition_period(t2, 1)


@pytest.fixture(scope="module")
def pairs(t2):
    return cross_correlation(t2, 1, 2, 200_000, 25)


def test_length_and_clicks(t2, pairs):
    assert t2[-1].stop == pytest.approx(0.999986e12, abs=1e6)
    assert (pairs.starts, pairs.stops) == (159_298, 224_721)


def test_repetition_period(t2, period):
    """319.678 MHz, four times the 79.92 MHz of the sync input of the T3 record: 3.128 ns (nominally 3.125).

    Counting alone would give it to 4e-9 ps; laser and clock wander by tens of ps within the second.
    """
    assert period.value == pytest.approx(3128.146059, abs=1e-6) and 4e-8 < period.error < 1e-6
    assert period.value == pytest.approx(1e12 / (4 * 79_919_520), rel=1e-6)
    for parity in (0, 1):  # every other tenth of a second
        half = []
        for tags in t2:
            part = tags.times // 10**11 % 2 == parity
            half.append(TimeTags(tags.times[part], tags.channels[part], tags.start, tags.stop))
        other = repetition_period(half, 1)
        assert abs(other.value - period.value) < 4 * np.hypot(other.error, period.error)


def test_zero_delay_and_antibunching(pairs, period):
    """The missing peak stands at 23.94 ns: g2(0) = 0.002."""
    delay = pulse_delay(pairs, period.value)
    assert delay.value == pytest.approx(23_936, abs=2) and delay.error < 1
    found = pulsed_g2(pairs, period.value, delay.value, width=2500, sides=20)
    centre = int(found.areas[found.numbers == 0][0])
    mean = (found.areas.sum() - centre) / 40
    assert centre == 1 and abs(mean - 505) < 4 * np.sqrt(505 / 40)
    assert round(found.zero.value, 3) == 0.002
    assert found.zero.low < 0.002 < found.zero.high < 0.008
    # a fifth of a period beside it, with the nominal period, as others have counted: the same
    nominal = pulsed_g2(pairs, 3125.0, 23_350.0, sides=20)
    assert nominal.areas[20] == 1 and abs((nominal.areas.sum() - 1) / 40 - 505) < 4 * np.sqrt(505 / 40)
    # the peaks on both sides are symmetric about it
    for width in (600, 1000):
        near = (
            pulsed_g2(pairs, period.value, delay.value - 300, width).areas,
            pulsed_g2(pairs, period.value, delay.value + 300, width).areas,
        )
        assert abs(near[0].sum() - near[1].sum()) < 5 * np.sqrt(near[0].sum() + near[1].sum())


def test_the_same_by_numbering_pulses(t2, pairs, period):
    """Clicks per pulse, on the clock of the laser, instead of delays between clicks."""
    delay = round(pulse_delay(pairs, period.value).value)
    turns = np.concatenate([tags.of(1) for tags in t2]) / period.value
    phase = np.angle(np.exp(2j * np.pi * turns).mean()) / (2 * np.pi) * period.value
    early = round(phase - period.value / 2)  # the pulse in the middle of its gate
    clock = list(pulse_clock(aligned(t2, {1: early, 2: early + delay}), period.value))
    by_pulse = cross_correlation(clock, 1, 2, 20, 1).counts
    assert by_pulse[20] == coincidences(clock, 1, 2, 1).counts <= 2
    assert abs(np.delete(by_pulse, 20).mean() - 505) < 4 * np.sqrt(505 / 39) + 2
    assert coincidences(one_per_tick(clock), 1, 2, 1) == coincidences(clock, 1, 2, 1)  # no two clicks in a pulse


def test_dead_time(t2, period):
    """Smallest spacing 77.96 ns; the autocorrelation rises there, to within a pulse."""
    assert smallest_spacing(t2, 1) == 77_959 and smallest_spacing(t2, 2) == 77_972
    for channel in (1, 2):
        h = autocorrelation(t2, channel, 200_000, 100)
        assert not h.counts[:779].any() and h.counts[779:790].any()
        found = dead_time(h, 4 * 3100)
        assert 77_960 - period.value < found.value < 77_960 + 1.5 * period.value and found.error < 400


def test_blinking(t2):
    """Pairs within +-200 ns are 4.3 times those of Poisson light; the excess is gone within a tenth of a second."""
    found = bunching(t2, 1, 2, 400_000, 5 * 10**10)
    assert abs(found.value - 4.32) < 0.01 and 0.01 < found.error < 0.05
    later = [bunching(t2, 1, 2, w, 5 * 10**10).value for w in (10**7, 10**8)]
    assert found.value > later[0] > 2 > later[1] > 1.1


def test_reference_histogram(folder, t2):
    """The analyser's own 10 000 bins of 16 ps, both ways round: ours hold every one of its pairs.

    It lacks one pair in a hundred, at all delays and times alike, of which its files do not say why.
    """
    reference = np.load(folder / "200204_HH400_T2_320MHz_HBT_g2.npz")
    for name, (start, stop) in (("hist1", (1, 2)), ("hist2", (2, 1))):
        h = cross_correlation(t2, start, stop, 160_000, 16)
        ours, theirs = h.counts[10_000:], reference[name]
        assert (ours >= theirs).all() and 0.989 < theirs.sum() / ours.sum() < 0.993
        assert (ours == theirs).mean() > 0.97
        first = start_stop(t2, start, stop, 160_000, 16)
        assert first.counts.sum() < theirs.sum()  # so it is no histogram of first stops


def test_t3_record(folder, pairs, period):
    """Pairs behind the same sync: the same pulses, zero delay, antibunching and dead time as in the T2 record.

    Its clicks follow a sync by up to 524 ns and syncs are not in step with the pulses, whatever the header says.
    """
    record = list(read_time_tags(folder / "200204_HH400_T3_320MHz_HBT.timeres", sync_period=SYNCS))
    h = cross_correlation(record, 1, 2, 200_000, 16)
    assert (h.starts, h.stops) == (186_647, 266_616)
    delay, other = pulse_delay(h, period.value), pulse_delay(pairs, period.value)
    assert abs(delay.value - other.value) < 4 * np.hypot(delay.error, other.error)
    found = pulsed_g2(h, period.value, delay.value, width=2500, sides=20)
    assert found.areas[20] == 1 and round(found.zero.value, 3) == 0.002
    for channel in (1, 2):
        assert smallest_spacing(record, channel) == pytest.approx(78_000, abs=400)
