"""Coincidences by every rule against brute force; delays taken out; pulses numbered; intervals of few counts."""

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.stats import poisson

from qtwin.core.errors import UserError
from qtwin.core.records import TimeTags
from qtwin.correlation.coincidence import count
from qtwin.correlation.counting import (
    aligned,
    coincidences,
    interval,
    n_fold,
    one_per_tick,
    poisson_interval,
    pulse_clock,
    ratio_of_counts,
    within,
)
from qtwin.correlation.histogram import cross_correlation


def record(span, *rows, resolution=1.0, start=0):
    """One stretch up to ``span`` ps with the times of channels 0, 1, ..."""
    times = np.concatenate(rows).astype(np.int64)
    channels = np.repeat(np.arange(len(rows)), [len(r) for r in rows]).astype(np.int16)
    order = np.argsort(times, kind="stable")
    return TimeTags(times[order], channels[order], start, span, resolution)


def uniform(rng, span, *counts):
    return record(span, *(rng.integers(0, span, n) for n in counts))


def pieces(tags, rng, number, ahead=0):
    """The record in ``number`` stretches, cut anywhere, between equal times too; tags up to ``ahead`` ps too early."""
    places = np.sort(rng.integers(0, len(tags) + 1, number - 1))
    at = [tags.start, *(min(int(tags.times[min(k, len(tags) - 1)]) + ahead, tags.stop) for k in places), tags.stop]
    rows = zip(np.split(tags.times, places), np.split(tags.channels, places), at[:-1], at[1:], strict=True)
    return [TimeTags(t, c, start, stop) for t, c, start, stop in rows]


def together(stretches):
    stretches = list(stretches)
    return tuple(np.concatenate([getattr(t, name) for t in stretches]) for name in ("times", "channels"))


def near(first, second, window):
    apart = second[None, :] - first[:, None]
    return (apart >= -(window // 2)) & (apart < window - window // 2)


@pytest.mark.parametrize("window", [1, 2, 7, 50, 400])
def test_the_three_rules(window):
    """All pairs and first stop by brute force; one to one makes as many pairs as can be made."""
    tags = uniform(np.random.default_rng(21), 20_000, 700, 400, 300)
    close = near(tags.of(0), tags.of(1), window)
    found = {rule: coincidences([tags], 0, 1, window, rule) for rule in ("all pairs", "first stop", "one to one")}
    assert found["all pairs"].counts == close.sum() == count(tags.of(0), tags.of(1), window).sum()
    assert found["first stop"].counts == close.any(axis=1).sum()
    assert found["one to one"].counts == (maximum_bipartite_matching(csr_array(close)) >= 0).sum()
    assert {(c.starts, c.stops, c.watched, c.window) for c in found.values()} == {(700, 400, 20_000, window)}
    assert window < 50 or found["all pairs"].counts > found["first stop"].counts > found["one to one"].counts


def test_the_greedy_rule_by_hand():
    """Starts 100, 104, 106; stops 101, 103, 103: the first takes 101, the second 103, the third the other 103."""
    tags = record(1000, [100, 104, 106], [101, 103, 103, 150])
    assert [coincidences([tags], 0, 1, 10, r).counts for r in ("all pairs", "first stop", "one to one")] == [9, 3, 3]
    fewer = record(1000, [100, 104, 106], [101, 103])
    assert coincidences([fewer], 0, 1, 10, "one to one").counts == 2
    early = record(1000, [100], [95, 104])  # [-5, 5): a stop before the start counts too
    assert coincidences([early], 0, 1, 10).counts == 2
    assert coincidences([early], 0, 1, 9).counts == 1  # [-4, 5): an odd window is one tick longer above


@pytest.mark.parametrize(("number", "ahead"), [(2, 0), (7, 300), (60, 300), (60, -300)])
def test_however_the_record_is_cut(number, ahead):
    """Also with tags that jitter has put before or behind the time that their stretch was watched."""
    rng = np.random.default_rng(22)
    tags = uniform(rng, 50_000, 900, 700, 600)
    cut = pieces(tags, rng, number, ahead)
    for rule in ("all pairs", "first stop", "one to one"):
        assert coincidences(cut, 0, 1, 61, rule) == coincidences([tags], 0, 1, 61, rule)
    for rule in ("first stop", "all pairs"):
        assert n_fold(cut, 1, (0, 2), 61, rule).counts == n_fold([tags], 1, (0, 2), 61, rule).counts
    delays = {0: 0, 1: 17_000, 2: -900}
    for streamed, whole in zip(together(aligned(cut, delays)), together(aligned([tags], delays)), strict=True):
        np.testing.assert_array_equal(streamed, whole)
    assert sum(t.stop - t.start for t in aligned(cut, delays)) == 50_000 - 17_900
    for f in (lambda r: pulse_clock(r, 700.5, 300), lambda r: one_per_tick(pulse_clock(r, 700.5))):
        for streamed, whole in zip(together(f(cut)), together(f([tags])), strict=True):
            np.testing.assert_array_equal(streamed, whole)


@pytest.mark.parametrize("rule", ["first stop", "all pairs"])
def test_n_fold_is_brute_force(rule):
    tags = uniform(np.random.default_rng(23), 20_000, 500, 400, 300, 350)
    close = [near(tags.of(2), tags.of(k), 90).sum(axis=1) for k in (0, 1, 3)]
    close = np.minimum(close, 1) if rule == "first stop" else np.array(close)
    every = close.prod(axis=0)
    found = n_fold([tags], 2, (0, 1, 3), 90, rule)
    assert (found.counts, found.starts) == (every.sum(), 300)
    pair = n_fold([tags], 0, (3,), 90, rule)
    assert pair.counts == coincidences([tags], 0, 3, 90, rule).counts


@pytest.mark.parametrize("rule", ["first stop", "all pairs"])
def test_error_of_n_fold(rule):
    """Against the scatter of many records with starts in bunches of some five that share their stops."""
    rng, counts, errors = np.random.default_rng(28), [], []
    for _ in range(400):
        bunch = rng.integers(0, 10_000_000, 60)
        starts = np.repeat(bunch, 5) + rng.integers(0, 50, 300)
        stops = [np.append(bunch[rng.random(60) < 0.6], rng.integers(0, 10_000_000, 500)) + 10 for _ in range(2)]
        found = n_fold([record(10_000_100, starts, *stops)], 0, (1, 2), 200, rule)
        counts.append(found.counts)
        errors.append(found.error)
    assert abs(np.std(counts) / np.mean(errors) - 1) * np.sqrt(2 * 400) < 4
    assert np.std(counts) > 1.8 * np.sqrt(np.mean(counts))  # one by one they would seem better known


def test_window_of_a_histogram():
    tags = uniform(np.random.default_rng(24), 20_000, 500, 400)
    h = cross_correlation([tags], 0, 1, 100, 5)
    assert within(h, 60) == coincidences([tags], 0, 1, 60)
    for window in (61, 64, 202):
        with pytest.raises(UserError, match=f"window: got {window} ps, its edges"):
            within(h, window)


def test_delays_are_taken_out():
    """Signs, order, and only the time that every channel watched."""
    rng = np.random.default_rng(25)
    tags = record(90_000, rng.integers(10_000, 90_000, 300), rng.integers(10_000, 90_000, 200), [12_345], start=10_000)
    (moved, end) = aligned([tags], {1: 5000, 0: -200})
    assert (moved.start, moved.stop, end.stop) == (10_200, 85_000, 85_000)
    for channel, delay in ((0, -200), (1, 5000)):
        expected = tags.of(channel) - delay
        expected = expected[(expected >= 10_200) & (expected < 85_000)]
        np.testing.assert_array_equal(np.append(moved.of(channel), end.of(channel)), expected)
    pairs = record(10**6, np.arange(50) * 10_000 + 70, np.arange(50) * 10_000 + 3070)
    assert coincidences(aligned([pairs], {0: 0, 1: 3000}), 0, 1, 2).counts == 50
    assert coincidences(aligned([pairs], {0: 3000, 1: 0}), 0, 1, 2000).counts == 0


def test_a_delay_longer_than_a_stretch():
    rng = np.random.default_rng(26)
    tags = uniform(rng, 100_000, 400, 300)
    cut = [
        TimeTags(tags.times[k], tags.channels[k], a, a + 5000)
        for a in range(0, 100_000, 5000)
        for k in [(tags.times >= a) & (tags.times < a + 5000)]
    ]
    times, channels = together(aligned(cut, {0: 0, 1: 34_567}))
    expected = tags.of(1)[tags.of(1) >= 34_567] - 34_567
    np.testing.assert_array_equal(times[channels == 1], expected)
    assert np.all(np.diff(times) >= 0)


def test_pulses_are_numbered():
    """Period 700.25 ps, gate 300 ps: a click belongs to floor(t/period) if it falls into the open gate."""
    tags = uniform(np.random.default_rng(27), 400_000, 900, 800)
    (clock,) = pulse_clock([tags], 700.25, 300)
    pulse = np.floor(tags.times / 700.25)
    kept = tags.times - pulse * 700.25 < 300
    np.testing.assert_array_equal(clock.times, pulse[kept])
    assert (clock.start, clock.stop) == (0, 571) and 600 < len(clock) < 900
    one = coincidences([clock], 0, 1, 1)  # per pulse: n_s n_i
    numbers = [np.bincount(clock.of(c), minlength=571) for c in (0, 1)]
    assert one.counts == (numbers[0] * numbers[1]).sum() > 0
    clicks = coincidences(one_per_tick([clock]), 0, 1, 1)
    assert clicks.counts == ((numbers[0] > 0) & (numbers[1] > 0)).sum() < one.counts
    np.testing.assert_array_equal(
        cross_correlation([clock], 0, 1, 3, 1).counts,
        [(numbers[0] * np.roll(numbers[1], -k))[max(0, -k) : 571 - max(0, k)].sum() for k in range(-3, 3)],
    )


@pytest.mark.parametrize("confidence", [0.6827, 0.95])
def test_intervals_hold_what_they_say_at_few_counts(confidence):
    """Exact coverage, summed over the Poisson law: at least the confidence."""
    n = np.arange(80)
    for truth, mean, windows in ((0.3, 1.0, 10), (1.0, 3.0, 1), (5.0, 0.8, 4), (12.0, 0.5, 20)):
        weight = poisson.pmf(n, truth * mean)[:, None] * poisson.pmf(n, mean * windows)
        covered = 0.0
        for i, j in zip(*np.nonzero(weight > 1e-7), strict=True):
            low, high = interval(i, j, windows, confidence) if i + j else (0, np.inf)
            covered += weight[i, j] * (low <= truth <= high)
        assert confidence - 1e-4 < covered < 1 - (1 - confidence) / 8  # neither too narrow nor empty talk
    for mean in (0.5, 2.0, 7.3):
        inside = [poisson_interval(k, confidence) for k in n]
        assert sum(poisson.pmf(k, mean) * (a <= mean <= b) for k, (a, b) in zip(n, inside, strict=True)) > confidence


def test_ratio_of_many_counts():
    """Large numbers: the interval is value +- error, the textbook ratio of Poisson counts."""
    r = ratio_of_counts(40_000, 250_000, 50)
    assert r.value == 8 and r.error == pytest.approx(8 * np.sqrt(1 / 40_000 + 1 / 250_000))
    assert (r.high - r.low) / 2 == pytest.approx(r.error, rel=0.01)
    nothing = ratio_of_counts(0, 25_000, 50)
    assert (nothing.value, nothing.low, nothing.error) == (0, 0, 50 / 25_000) and 0 < nothing.high < 0.005
    open_above = ratio_of_counts(3, 0, 50)
    assert open_above.value == open_above.high == np.inf and open_above.low > 30
    with pytest.raises(UserError, match="counts: got none"):
        ratio_of_counts(0, 0, 5)


ONE = record(10_000, [10, 20], [15], [12], resolution=16.0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: coincidences([ONE], 0, 1, 0), "window: got 0"),
        (lambda: coincidences([ONE], 0, 1, -4), "window: got -4"),
        (lambda: coincidences([ONE], 0, 1, 10), "window: got 10 ps, shorter than the clock's step of 16.0 ps"),
        (lambda: coincidences([ONE], 0, 1, 10, "one to one"), "window: got 10 ps, shorter"),
        (lambda: coincidences([ONE], 0, 0, 32), "channel: got 0 twice"),
        (lambda: coincidences([ONE], 0, 7, 32, "first stop"), "channel: got 7, which has no tag"),
        (lambda: coincidences([ONE], 0, 1, 32, "nearest"), "rule: got 'nearest', accepted is one of all pairs, first"),
        (lambda: n_fold([ONE], 0, (1, 0), 32), r"channels: got \[0, 1, 0\], expected different"),
        (lambda: n_fold([ONE], 0, (1, 9), 32), "channel: got 9"),
        (lambda: n_fold([ONE], 0, (1,), 32, "one to one"), "rule: got 'one to one'"),
        (lambda: list(aligned([ONE], {})), "delays: got none"),
        (lambda: list(aligned([ONE], {0: 0, 1: 10_000})), "delay: got delays 10000 ps apart, as long as the record"),
        (lambda: list(aligned([ONE], {0: 0, 1: 2**63})), "delay: got 9223372036854775808"),
        (lambda: list(pulse_clock([ONE], 0.0)), "period: got 0.0 ps"),
        (lambda: list(pulse_clock([ONE], 100.0, 101)), "gate: got 101 ps, accepted is above 0, up to the period"),
    ],
)
def test_bad_input_is_one_clear_line(call, words):
    with pytest.raises(UserError, match=words):
        call()
