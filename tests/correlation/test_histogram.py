"""Histograms of delays against brute force, closed forms, and themselves however the record is cut."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

from qtwin.core.errors import UserError
from qtwin.core.records import TimeTags
from qtwin.correlation.histogram import autocorrelation, cross_correlation, start_stop


def record(span, *rows, resolution=1.0):
    """One stretch of ``span`` ps with the times of channels 0, 1, ..."""
    times = np.concatenate(rows).astype(np.int64)
    channels = np.repeat(np.arange(len(rows)), [len(r) for r in rows]).astype(np.int16)
    order = np.argsort(times, kind="stable")
    return TimeTags(times[order], channels[order], 0, span, resolution)


def uniform(rng, span, *counts):
    return record(span, *(rng.integers(0, span, n) for n in counts))


def pieces(tags, rng, count):
    """The record in ``count`` stretches, cut anywhere, between equal times too; some are empty."""
    places = np.sort(rng.integers(0, len(tags) + 1, count - 1))
    places[1:2] = places[:1][: len(places) - 1]
    at = [tags.start, *(int(tags.times[min(k, len(tags) - 1)]) for k in places), tags.stop]
    rows = zip(np.split(tags.times, places), np.split(tags.channels, places), strict=True)
    return [
        TimeTags(t, c, start, stop, tags.resolution) for (t, c), start, stop in zip(rows, at[:-1], at[1:], strict=True)
    ]


def brute(first, second, edges):
    apart = (second[None, :] - first[:, None]).ravel()
    return np.array([np.count_nonzero((apart >= a) & (apart < b)) for a, b in pairwise(edges)])


@pytest.mark.parametrize(("reach", "bin"), [(1, 1), (40, 8), (60, 8), (7, 2), (1000, 50), (30_000, 30_000)])
def test_cross_correlation_is_brute_force(reach, bin):
    """Dense enough for equal times and many tags in reach; a third channel is in the way."""
    tags = uniform(np.random.default_rng(7), 20_000, 300, 500, 200)
    h = cross_correlation([tags], 0, 1, reach, bin)
    np.testing.assert_array_equal(h.edges, np.arange(-reach, reach + 1, bin))
    np.testing.assert_array_equal(h.counts, brute(tags.of(0), tags.of(1), h.edges))
    assert (h.starts, h.stops, h.watched, h.counts.dtype) == (300, 500, 20_000, np.int64)
    mirrored = brute(tags.of(1), tags.of(0), h.edges)
    np.testing.assert_array_equal(cross_correlation([tags], 1, 0, reach, bin).counts, mirrored)
    assert reach < 40 or not np.array_equal(mirrored, h.counts)


def test_bins_are_half_open():
    """Bins [-10, -5), [-5, 0), [0, 5), [5, 10)."""
    for delay, expected in ((-11, 0), (-10, 1), (-6, 1), (-5, 2), (-1, 2), (0, 3), (4, 3), (5, 4), (9, 4), (10, 0)):
        counts = cross_correlation([record(1000, [100], [100 + delay])], 0, 1, 10, 5).counts
        assert (np.argmax(counts) + 1 if counts.any() else 0) == expected, delay


def test_autocorrelation_has_every_pair_once_and_no_self_pairs():
    tags = uniform(np.random.default_rng(8), 30_000, 600, 300)
    times = np.sort(np.append(tags.of(0), tags.of(0)[40:60]))  # some clicks twice at the same time
    h = autocorrelation([record(30_000, times, tags.of(1))], 0, 900, 30)
    apart = (times[None, :] - times[:, None])[np.triu_indices(len(times), 1)]
    np.testing.assert_array_equal(h.counts, np.histogram(apart[apart < 900], h.edges)[0])
    assert h.counts[0] >= 20
    assert autocorrelation([record(1000, [7, 500], [])], 0, 100, 10).counts.sum() == 0


@pytest.mark.parametrize("count", [2, 5, 40, None])
def test_however_the_record_is_cut(count):
    """Anywhere, and after every single tag: pairs just inside and just outside of the range stand on borders."""
    rng = np.random.default_rng(9)
    tags = uniform(rng, 60_000, 900, 700, 500)
    if count:
        cut = pieces(tags, rng, count)
    else:
        ends = [*tags.times[1:].tolist(), tags.stop]
        one = zip(tags.times, tags.channels, [tags.start, *ends[:-1]], ends, strict=True)
        cut = [TimeTags(np.array([t]), np.array([c]), start, stop) for t, c, start, stop in one]
    for f in (cross_correlation, start_stop):
        whole, streamed = f([tags], 0, 2, 800, 20), f(iter(cut), 0, 2, 800, 20)
        np.testing.assert_array_equal(streamed.counts, whole.counts)
        assert streamed.starts == whole.starts and whole.counts.sum() > 300
    np.testing.assert_array_equal(autocorrelation(cut, 1, 800, 20).counts, autocorrelation([tags], 1, 800, 20).counts)
    late = [TimeTags(t.times + 2**61, t.channels, t.start + 2**61, t.stop + 2**61) for t in cut]  # 26 days on
    np.testing.assert_array_equal(
        cross_correlation(late, 0, 2, 800, 20).counts, cross_correlation([tags], 0, 2, 800, 20).counts
    )


def test_arrays_as_files_give_them():
    """Read-only, strided: the same answer."""
    tags = uniform(np.random.default_rng(10), 20_000, 300, 500)
    loose = np.empty((len(tags), 2), np.int64)
    loose[:, 0] = tags.times
    loose.flags.writeable = False
    channels = tags.channels.copy()
    channels.flags.writeable = False
    again = cross_correlation([TimeTags(loose[:, 0], channels, 0, 20_000)], 0, 1, 300, 10)
    np.testing.assert_array_equal(again.counts, cross_correlation([tags], 0, 1, 300, 10).counts)


@pytest.mark.parametrize(("reach", "bin"), [(20_000, 5000), (1_000_000, 50_000)])
def test_unrelated_streams_have_g2_one_and_the_stated_errors(reach, bin):
    """Also where every click has twenty partners in a bin, and out to a third of the record, where pairs run short."""
    rng = np.random.default_rng(11)
    curves = [cross_correlation([uniform(rng, 3_000_000, 900, 1400)], 0, 1, reach, bin).g2 for _ in range(150)]
    pull = np.array([(c.value - 1) / c.error for c in curves])
    means = pull.mean(axis=1)
    assert abs(means.mean()) / means.std() * np.sqrt(150) < 4
    assert np.max(np.abs(pull.std(axis=0) - 1)) * np.sqrt(2 * 150) < 4
    mean = np.mean([c.value for c in curves], axis=0)
    error = np.mean([c.error for c in curves], axis=0) / np.sqrt(150)
    assert np.max(np.abs(mean - 1) / error) < 4.5  # a level without 1 - |tau|/T would be a third off at the ends


def test_autocorrelation_of_poisson_light_is_one():
    rng = np.random.default_rng(12)
    curves = [autocorrelation([uniform(rng, 3_000_000, 2000)], 0, 100_000, 10_000).g2 for _ in range(100)]
    pull = np.array([(c.value - 1) / c.error for c in curves])
    assert abs(pull.mean()) * np.sqrt(pull.size) < 4
    assert abs(pull.std() - 1) * np.sqrt(2 * pull.size) < 4


def test_start_stop_is_the_first_stop_after_each_start():
    tags = uniform(np.random.default_rng(13), 40_000, 3000, 900, 50)
    h = start_stop([tags], 0, 1, 120, 8)
    starts = tags.of(0)[tags.of(0) + 120 <= 40_000]
    place = np.searchsorted(tags.of(1), starts, side="left")
    first = np.append(tags.of(1), 10**9)[place] - starts
    np.testing.assert_array_equal(h.counts, np.histogram(first[first < 120], h.edges)[0])
    assert h.starts == len(starts) < 3000
    tied = start_stop([record(100, [10, 30], [10, 30])], 0, 1, 5, 1)
    assert (tied.counts[0], tied.starts) == (2, 2)


def test_pile_up_is_taken_out():
    """Pulses with 1.5 photons each in a sloping profile: the first stops pile up early, -ln(1 - p_k) does not.

    p_k = N_k/(frames - sum_{j<k} N_j).
    """
    rng, frames, profile = np.random.default_rng(14), 20_000, np.linspace(0.05, 0.25, 10)
    photons = rng.poisson(profile, (frames, 10))
    frame, bins = np.nonzero(photons)
    times = frame * 1000 + bins * 100 + rng.integers(0, 100, len(bins))
    extra = np.repeat(times, photons[frame, bins] - 1)
    h = start_stop([record(frames * 1000, np.arange(frames) * 1000, np.append(times, extra))], 0, 1, 1000, 100)
    assert h.starts == frames
    p = 1 - np.exp(-profile)
    pull = (h.probability.value - p) / h.probability.error
    assert np.max(np.abs(pull)) < 4 and np.abs(pull).max() > 0.3
    assert np.max(np.abs((h.mean.value - profile) / h.mean.error)) < 4
    raw = (h.counts / frames - p) / np.sqrt(p * (1 - p) / frames)
    assert raw[-1] < -50
    np.testing.assert_array_equal(h.waiting, frames - np.append(0, np.cumsum(h.counts)[:-1]))


def test_start_stop_where_nothing_waits_any_more():
    h = start_stop([record(1000, [100, 200], [100, 200])], 0, 1, 4, 2)
    assert (h.probability.value[1], h.probability.error[1]) == (0, 1)
    assert np.isfinite(h.mean.value).all() and np.isfinite(h.mean.error).all()


def test_memory_is_bounded_by_a_stretch():
    def stream(count):
        rng = np.random.default_rng(15)
        for k in range(count):
            times = np.sort(rng.integers(k * 10**9, (k + 1) * 10**9, 20_000))
            yield TimeTags(times, rng.integers(0, 2, 20_000).astype(np.int16), k * 10**9, (k + 1) * 10**9)

    def peak(count):
        tracemalloc.start()
        cross_correlation(stream(count), 0, 1, 10_000, 100)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    cross_correlation(stream(2), 0, 1, 10_000, 100)  # compiled
    assert peak(60) < 1.2 * peak(6)


ONE = record(10_000, [10, 20], [15], resolution=16.0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: cross_correlation([ONE], 0, 1, 100, 300), r"bin: got 300 ps, accepted is a width that divides"),
        (lambda: cross_correlation([ONE], 0, 1, 100, 64), r"bin: got 64"),
        (lambda: cross_correlation([ONE], 0, 1, 100, 0), r"bin: got 0, accepted is a whole number of 1"),
        (lambda: cross_correlation([ONE], 0, 1, -100, 10), r"reach: got -100"),
        (lambda: cross_correlation([ONE], 0, 1, 10.5, 10), r"reach: got 10.5"),
        (lambda: cross_correlation([ONE], 0, 1, float("nan"), 10), r"reach: got nan"),
        (lambda: cross_correlation([ONE], 0, 1, 100, 10), r"shorter than the clock's step of 16.0 ps"),
        (lambda: cross_correlation([ONE], 0, 5, 160, 16), r"channel: got 5, which has no tag .*: 0"),
        (lambda: cross_correlation([ONE], 0, 0, 160, 16), r"channel: got 0 twice"),
        (lambda: autocorrelation([ONE], 3, 160, 16), r"channel: got 3, .*none of them"),
        (lambda: start_stop([ONE], 0, 2, 160, 16), r"channel: got 2"),
        (lambda: cross_correlation(ONE, 0, 1, 160, 16), r"record: got one TimeTags"),
        (lambda: cross_correlation([], 0, 1, 160, 16), r"record: got no stretch"),
        (lambda: cross_correlation([ONE, ONE], 0, 1, 160, 16), r"stretch 1 starts at 0 ps, inside"),
        (
            lambda: cross_correlation([ONE, TimeTags(ONE.times, ONE.channels, 10_000, 20_000, 16.0)], 0, 1, 160, 16),
            r"stretch 1 has a tag at 10 ps, after one at 20 ps",
        ),
        (
            lambda: cross_correlation([ONE, TimeTags(ONE.times + 10_000, ONE.channels, 10_000, 20_000)], 0, 1, 160, 16),
            r"clock steps of 16.0 ps and 1.0 ps",
        ),
        (
            lambda: cross_correlation([TimeTags(ONE.times + 2**62, ONE.channels, 0, 2**62)], 0, 1, 160, 16),
            r"times: got .*accepted is within 2\^62 ps",
        ),
        (lambda: cross_correlation([record(0, [0], [0])], 0, 1, 160, 16), r"watched for no time"),
    ],
)
def test_bad_input_is_one_clear_line(call, words):
    with pytest.raises(UserError, match=words) as error:
        call()
    assert "\n" not in str(error.value)
