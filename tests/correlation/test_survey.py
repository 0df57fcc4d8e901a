"""What `qtwin correlate` says of records whose truth is known, and of faults put into them."""

import numpy as np
import pytest

from qtwin.core.errors import UserError
from qtwin.core.records import TimeTags
from qtwin.correlation.survey import SLICES, Settings, singles, survey

SECONDS, DELAY, JITTER = 2.0, 12_345, 120.0  # s, ps, std in ps of either channel
ETA, DARK = (0.5, 0.3), (2000.0, 5000.0)


def record(rng, pairs=120_000.0, period=None, drift=0.0, pieces=3):
    """Channels 1 and 2 in ``pieces`` stretches: pairs per second, dark counts, the second channel late."""
    span = SECONDS * 1e12
    born = np.sort(rng.uniform(0, span, rng.poisson(pairs * SECONDS)))
    if period is not None:
        born = np.floor(born / period) * period
    times, channels = [], []
    for channel, (eta, dark) in enumerate(zip(ETA, DARK, strict=True), 1):
        kept = born[rng.random(len(born)) < eta]
        late = (DELAY + drift * kept * 1e-12) if channel == 2 else 0.0
        lone = rng.uniform(0, span, rng.poisson(dark * SECONDS))
        times.append(np.concatenate([kept + rng.normal(0, JITTER, len(kept)) + late, lone]))
        channels.append(np.full(len(times[-1]), channel, np.int16))
    t, c = np.floor(np.concatenate(times)).astype(np.int64), np.concatenate(channels)
    order = np.argsort(t, kind="stable")
    return stretches(t[order], c[order], int(span), pieces)


def stretches(t, c, span, pieces):
    edges = np.linspace(0, span, pieces + 1).astype(np.int64)
    cuts = np.searchsorted(t, edges[1:-1])
    parts = zip(np.split(t, cuts), np.split(c, cuts), edges[:-1], edges[1:], strict=True)
    return [TimeTags(a, b, int(start), int(stop)) for a, b, start, stop in parts]


@pytest.fixture(scope="module")
def steady():
    return survey(record(np.random.default_rng(401)))


def within(estimate, truth, sigma=4.0):
    return abs(estimate.value - truth) < sigma * estimate.error


def test_rates_and_duration(steady):
    assert steady.seconds == SECONDS and steady.pair == (1, 2)
    for c, eta, dark in zip(steady.channels, ETA, DARK, strict=True):
        assert within(c.rate, 120_000 * eta + dark)
        assert abs(c.unsteady - 1) < 4 * np.sqrt(2 / (SLICES - 1))


def test_delay_and_width_of_the_peak(steady):
    assert within(steady.delay, DELAY) and steady.delay.error < 2
    assert within(steady.width, np.sqrt(2) * JITTER)
    assert steady.window == pytest.approx(6 * np.sqrt(2) * JITTER, rel=0.1)


def test_pairs_accidentals_and_efficiencies(steady):
    """Klyshko: eta = net coincidences over the singles of the other arm; dark counts lower it by their share."""
    singles_rate = [120_000 * e + d for e, d in zip(ETA, DARK, strict=True)]
    pairs, chance = 120_000 * ETA[0] * ETA[1] * SECONDS, np.prod(singles_rate) * steady.window * 1e-12 * SECONDS
    assert abs(steady.net.value - pairs * 0.9973) < 4 * np.sqrt(pairs)
    for found in steady.accidentals.values():
        assert abs(found.value - chance) < 4 * found.error
    assert set(steady.accidentals) == {"singles", "sides", "delayed"}
    assert within(steady.efficiencies.stop, 0.9973 * ETA[1] * 120_000 * ETA[0] / singles_rate[0])
    assert within(steady.car, (pairs * 0.9973 + chance) / chance)
    known = survey(record(np.random.default_rng(401)), Settings(dark_rates=DARK))
    assert within(known.efficiencies.start, 0.9973 * ETA[0]) and within(known.efficiencies.stop, 0.9973 * ETA[1])


def test_a_steady_record_has_no_complaint(steady):
    assert steady.period is None and all("continuous light" in note for note in steady.notes)
    assert steady.drift is not None and abs(steady.drift.slope.value) < 4 * steady.drift.slope.error


def test_pulses_are_recognised():
    """Poisson pairs in pulses 20 ns apart: centre over side peaks is 1 + pairs/(singles per pulse)^2."""
    period = 20_000.0
    found = survey(record(np.random.default_rng(402), period=period))
    assert found.period is not None and within(found.period, period)
    assert found.delay is not None and abs(found.delay.value - DELAY) < 4 * found.delay.error + 1
    rates = [120_000 * e + d for e, d in zip(ETA, DARK, strict=True)]
    expected = 1 + 120_000 * ETA[0] * ETA[1] / (rates[0] * rates[1] * period * 1e-12)
    assert found.pulsed is not None and within(found.pulsed.zero, expected)


def test_a_drifting_clock_is_noticed():
    found = survey(record(np.random.default_rng(403), drift=800.0))
    assert found.drift is not None and within(found.drift.slope, 800.0)
    text = " ".join(found.notes)
    assert "clocks drift apart" in text and "the delay drifts by more than the peak is wide" in text


def test_records_written_twice_and_silence_are_noticed():
    whole = record(np.random.default_rng(404), pieces=1)[0]
    again = np.sort(np.concatenate([np.arange(len(whole)), np.arange(0, len(whole), 50)]))
    heard = (whole.times[again] < 0.8e12) | (whole.times[again] > 1.1e12)
    again = again[heard]
    found = survey([TimeTags(whole.times[again], whole.channels[again], 0, whole.stop)])
    text = " ".join(found.notes)
    assert "have the time of the one before" in text and "silent in" in text and "the rate varies" in text


def test_dead_time_is_seen_and_saturation_named():
    rng = np.random.default_rng(405)
    gaps = rng.exponential(2e5, 400_000) + 50_000  # 50 ns dead, 20 % of the time
    t = np.cumsum(gaps).astype(np.int64)
    found = survey([TimeTags(t, np.zeros(len(t), np.int16), 0, int(t[-1]) + 1)])
    assert found.pair is None and within(found.channels[0].dead, 50_000)
    assert any("saturation" in note for note in found.notes)
    assert any("one channel only" in note for note in found.notes)


def test_pieces_give_what_the_whole_gives(steady):
    cut = survey(record(np.random.default_rng(401), pieces=11))
    assert cut.coincidences == steady.coincidences and cut.delay == steady.delay
    one, eleven = (singles(record(np.random.default_rng(401), pieces=n))[0] for n in (1, 11))
    for a, b in zip(one, eleven, strict=True):
        assert (a.clicks, a.smallest, a.repeated) == (b.clicks, b.smallest, b.repeated)


def test_unrelated_channels_have_no_delay():
    found = survey(record(np.random.default_rng(406), pairs=0.0), Settings(reach=1_000_000, window=2_000_000))
    assert found.delay is None and any("zero is taken for the delay" in note for note in found.notes)
    assert found.efficiencies is None and found.car is not None and within(found.car, 1.0)


@pytest.mark.parametrize("settings", [Settings(channels=(1, 7)), Settings(herald=5)])
def test_channels_that_are_not_there(settings):
    with pytest.raises(UserError, match="accepted are the record's: 1, 2"):
        survey(record(np.random.default_rng(407), pairs=500.0), settings)
