"""Drawn clicks against the means, variances and intervals of the same laws, by z-score."""

import jax.numpy as jnp
import numpy as np
import pytest
from plain import plain_alive
from scipy.stats import exponnorm
from slopes import once

from qtwin.core.errors import UserError
from qtwin.detector import TDC, Exponentials, Gate, PixelArray, SinglePhoton, Tabulated, clicks, jitter

REFERENCE = np.array([0.01017, 0.10151, 0.50328, 0.99608, 1.95147, 4.59709, 8.38768, 14.27283, 21.98962])
INCIDENT = np.array([0.01, 0.1, 0.5, 1, 2, 5, 10, 20, 40])
SLOW = Exponentials(0.06, [0.5, 0.5], ["4 ns", "120 ns"])
live = once(lambda device, rate: device.live_at(rate))
spread = once(lambda device, photons: device.variance(photons, 1.0))


def device(**changes) -> SinglePhoton:
    return SinglePhoton(**({"efficiency": 1.0, "dark_rate": 0.0, "dead_time": "50 ns", "jitter": 0.0} | changes))


def poisson(rate, count, seed):
    """Times of Poisson light, ps."""
    return np.rint(np.cumsum(np.random.default_rng(seed).standard_exponential(count)) * 1e12 / rate).astype(np.int64)


def draw(device, times, seed, stretches=1):
    """All tags of a record cut into equal stretches, and its length in ps."""
    state, found = clicks.begin(device, np.random.default_rng(seed)), []
    end = int(times[-1]) + 1 if len(times) else 10**9
    for stop in np.linspace(0, end, stretches + 1).astype(np.int64)[1:]:
        low = state.now
        tags, state = clicks.detect(times[np.searchsorted(times, low) : np.searchsorted(times, stop)], int(stop), state)
        found.append(tags)
    return np.concatenate([*found, clicks.flush(state)]), end


def score(tags, end, mean_rate, cells=400):
    """(z of the mean rate with the error of the counts in cells, relative variance per mean)."""
    counts = np.histogram(tags, np.linspace(0, end, cells + 1))[0]
    seconds = end * 1e-12 / cells
    error = np.std(counts, ddof=1) / np.sqrt(cells)
    return (counts.mean() - mean_rate * seconds) / error, np.var(counts, ddof=1) / counts.mean()


# a device, its rate of light, and one that a test must tell from it
DEVICES = {
    "ideal": (device(dead_time=0.0), device(dead_time="1 ns")),
    "dead time": (device(), device(dead_time="52 ns")),
    "paralysable": (device(dead_time_law="paralysable"), device()),
    "recovery": (device(recovery_time="30 ns"), device(recovery_time="27 ns")),
    "recovery alone": (device(dead_time=0.0, recovery_time="30 ns"), device(dead_time="0.5 ns", recovery_time="30 ns")),
    "twilight": (device(twilight="9 ns"), device(twilight="7 ns")),
    "afterpulses": (
        device(afterpulsing=SLOW),
        device(afterpulsing=Exponentials(0.055, [0.5, 0.5], ["4 ns", "120 ns"])),
    ),
    "all": (
        device(
            recovery_time="10 ns",
            twilight="5 ns",
            afterpulsing=SLOW,
            jitter="300 ps",
            jitter_tail="200 ps",
            dark_rate="300 kHz",
        ),
        device(
            recovery_time="10 ns",
            twilight="5 ns",
            afterpulsing=SLOW,
            jitter="300 ps",
            jitter_tail="200 ps",
            dark_rate="200 kHz",
        ),
    ),
    "gates": (
        device(gate=Gate("1 us", "200 ns"), dead_time="2.4 us"),
        device(gate=Gate("1 us", "220 ns"), dead_time="2.4 us"),
    ),
}


@pytest.mark.parametrize("name", DEVICES)
def test_mean_and_variance_of_clicks(name):
    """6e6 events/s for 0.4 s in many cells: mean and variance within 4 errors, the mean of another device beyond 5.

    Cells are long against afterpulses, and against the beat of gates and dead time.
    """
    right, wrong = DEVICES[name]
    cells = 400 if name == "gates" else 4000
    tags, end = draw(right, poisson(6e6, 2_400_000, 7), 11, stretches=5)

    def compared(some):
        rate = jnp.asarray(6e6 + float(some.dark_rate))
        mean = float(live(some, rate) * rate)
        return mean, *score(tags, end, mean, cells)

    mean, z, fano = compared(right)
    assert abs(z) < 4 and abs(compared(wrong)[1]) > 5
    error = np.sqrt(2 / (cells - 1))
    assert abs(fano / (float(spread(right, jnp.asarray(6e6))) / mean) - 1) < 4 * error
    assert name == "ideal" or abs(fano - 1) > 4 * error


@pytest.fixture(scope="module")
def measured(reference_data):
    return Tabulated(str(reference_data / "afterpulse" / "apDist_3605H.txt"), 0.0171, "81 ps")


def test_published_mean_rates(measured):
    """The nine rates of Straka et al. (2020), with the twilight that has their probability; 8e5 events each."""
    for i, incident in enumerate(INCIDENT * 1e6):
        twilight = float(-np.log1p(-incident * 3.2e-9) / incident)
        straka = device(dead_time="24 ns", twilight=twilight, afterpulsing=measured)
        tags, end = draw(straka, poisson(incident, 800_000, 20 + i), 40 + i)
        assert abs(score(tags, end, REFERENCE[i] * 1e6)[0]) < 4
        alone = incident / (1 + incident * 24e-9)  # neither afterpulses nor twilight
        assert abs(score(tags, end, alone)[0]) > 5


def test_measured_afterpulses_in_the_autocorrelation(measured):
    """Pairs by delay, bin by bin of 81 ps, then wider: chi-square of the measured table, and of a wrong one.

    From one dead time to the next a pair is a click and its successor, of density S (n + f): light and carriers.
    """
    seconds = 81e-12
    rate, p, dead, share = 2e5, 0.0171, 24_000, np.asarray(measured.file)
    tags, _ = draw(device(dead_time="24 ns", afterpulsing=measured), poisson(rate, 4_000_000, 7), 11)
    bounds = np.concatenate([np.arange(9), [12, 18, 30, 60, 120, 200, 296]])  # up to 24 ns after the dead time
    apart = np.concatenate([tags[k:] - tags[:-k] for k in (1, 2)]) - dead
    assert apart.min() == 0  # the dead time carves the autocorrelation
    found = np.histogram(apart, bounds * 81)[0]

    def expected(share):
        below = p * np.concatenate([[0.0], np.cumsum(share)])[bounds]
        older = p * (
            1 - np.interp(bounds * 81 + dead, np.arange(len(share) + 1) * 81, np.concatenate([[0], np.cumsum(share)]))
        )
        f = below + rate * np.cumsum(np.concatenate([[0.0], np.diff(bounds) * seconds * (older[1:] + older[:-1]) / 2]))
        return len(tags) * -np.diff(np.exp(-rate * bounds * seconds - f))

    def chi2(share):
        mean = expected(share)
        return np.sum((found - mean) ** 2 / mean)

    assert chi2(share) < len(found) + 4 * np.sqrt(2 * len(found))
    assert np.max(np.abs(found - expected(share)) / np.sqrt(expected(share))) < 4
    smooth = np.exp(-np.arange(len(share)) / 3.0)
    assert chi2(smooth / smooth.sum()) > 10 * len(found)
    assert chi2(1.05 * share) > len(found) + 5 * np.sqrt(2 * len(found))


def test_afterpulses_have_afterpulses_in_clusters():
    """No dead time, faint light: Poisson generations, 1/(1 - p) clicks per event; V/m = (1 - p)^-2."""
    times = np.arange(1, 200_001, dtype=np.int64) * 10**9  # far apart
    tags, _ = draw(device(dead_time=0.0, afterpulsing=Exponentials(0.3, 1.0, "5 ns")), times, 7)
    size = np.bincount((tags // 10**9).astype(np.int64))[1:]
    assert abs(size.mean() - 1 / 0.7) / np.sqrt(0.3 / 0.7**3 / len(size)) < 4  # Borel: variance p/(1 - p)^3
    assert abs(np.var(size) / (0.3 / 0.7**3) - 1) < 0.05


def test_dead_time_alone_is_the_plain_loop():
    times = poisson(3e7, 100_000, 7)
    tags, _ = draw(device(), times, 0, stretches=7)
    np.testing.assert_array_equal(tags, times[plain_alive(times, np.zeros(len(times), int), 50_000)])


def test_everything_off_hands_the_events_on():
    times = np.array([5, 5, 9, 40], np.int64)  # two at once
    tags, _ = draw(device(dead_time=0.0), times, 0)
    np.testing.assert_array_equal(tags, times)


def test_recovery_carves_the_intervals():
    """Efficiency against the time since the last click: 1 - exp(-(t - tau)/tau_r), from intervals' hazard."""
    tags, _ = draw(device(recovery_time="30 ns"), poisson(6e6, 2_000_000, 7), 11)
    apart = np.diff(tags) - 50_000
    bounds = np.array([0, 5, 10, 20, 40, 80, 160]) * 1000
    waiting = np.array([np.sum(apart >= b) for b in bounds])
    light = [6e-6 * (t - 30e3 * -np.expm1(-t / 30e3)) for t in bounds]  # int r n dt
    p = -np.expm1(-np.diff(light))
    z = (waiting[:-1] - waiting[1:] - waiting[:-1] * p) / np.sqrt(waiting[:-1] * p * (1 - p))
    assert np.abs(z).max() < 4


def test_twilight_clicks_at_the_end_of_the_dead_time():
    times = np.array([0, 40_000, 44_999, 45_000, 49_000, 60_000], np.int64)
    tags, _ = draw(device(twilight="5 ns"), times, 0)
    np.testing.assert_array_equal(tags, [0, 50_000])  # 60 ns falls into the dead time of the late click


def test_jitter_moves_tags_and_keeps_order():
    times = poisson(2e7, 200_000, 7)
    late = device(dead_time=0.0, jitter="40 ns", jitter_tail="30 ns")
    tags, _ = draw(late, times, 11, stretches=50)
    assert len(tags) == len(times) and (np.diff(tags) >= 0).all() and not np.array_equal(tags, times)
    delay = np.sum(tags - times) / len(times)
    sigma = 40e3 / jitter.FWHM
    assert abs(delay - 30_000) / np.sqrt((sigma**2 + 30e3**2) / len(times)) < 4
    one, _ = draw(late, np.arange(1, 50_001, dtype=np.int64) * 10**7, 3)
    delays = one - np.arange(1, 50_001) * 10**7
    for t in (-20e3, 10e3, 60e3):
        p = exponnorm.cdf(t, 30e3 / sigma, scale=sigma)
        assert abs(np.mean(delays < t) - p) / np.sqrt(p * (1 - p) / len(delays)) < 4


@pytest.mark.parametrize("stretches", [2, 313])
def test_same_generator_same_tags_however_the_record_is_cut(stretches):
    busy = DEVICES["all"][0]
    times = poisson(6e6, 60_000, 7)
    whole, _ = draw(busy, times, 11)
    np.testing.assert_array_equal(draw(busy, times, 11, stretches)[0], whole)
    assert not np.array_equal(draw(busy, times, 12)[0][:100], whole[:100])


def test_tags_are_written_by_the_converter():
    times = poisson(1e6, 20_000, 7)
    converter = TDC(["7 ps", "0 ps", "90 ps", "3 ps"])
    raw, _ = draw(device(jitter="300 ps"), times, 11)
    tags, _ = draw(device(jitter="300 ps", tdc=converter), times, 11, stretches=9)
    np.testing.assert_array_equal(tags, converter.stamp(raw))
    assert (np.diff(tags) >= 0).all()


def test_gates_close():
    tags, _ = draw(device(gate=Gate("1 us", "200 ns", "300 ns"), dead_time="0.5 us"), poisson(6e6, 50_000, 7), 11)
    assert ((tags - 300_000) % 10**6 < 200_000).all() and len(tags) > 4000


def test_dark_counts_alone():
    """No light: Poisson of the dark rate, from the first stretch to the last."""
    tags, end = draw(device(dead_time=0.0, dark_rate="200 MHz"), np.zeros(0, np.int64), 7, stretches=3)
    assert abs(len(tags) - 2e5) / np.sqrt(2e5) < 4 and tags[0] < 10**5 and tags[-1] > end - 10**5


def test_memory_of_a_stretch_is_what_it_holds():
    state = clicks.begin(DEVICES["all"][0], np.random.default_rng(7))
    for i in range(40):
        times = i * 10**8 + np.sort(np.random.default_rng(i).integers(0, 10**8, 600))
        _, state = clicks.detect(times, (i + 1) * 10**8, state)
        assert len(state.tags) < 20 and len(state.waiting) < 20
        assert state.tags.base is None and state.waiting.base is None  # no view of a longer array


def test_array_clicks_and_fakes():
    """Means of every pixel and coincidences of neighbours at delay 0; one pixel is hot."""
    pixel = SinglePhoton(0.5, "100 kHz", "60 ns", "50 ps")
    some = PixelArray(pixel, 3, 4, 0.6, [0.004, 0.001], (6,), "600 kHz")
    time, rng = 0.3, np.random.default_rng(7)
    light = np.linspace(2e5, 1e6, 12).reshape(3, 4) * time / 0.3
    counts = rng.poisson(0.3 * light)
    where = np.repeat(np.arange(12, dtype=np.int16), counts.ravel())
    when = rng.integers(0, int(time * 1e12), len(where))
    order = np.argsort(when, kind="stable")
    state = clicks.begin_array(some, np.random.default_rng(11))
    tags, pixels, state = clicks.detect_array(when[order], where[order], int(time * 1e12), state)
    last = clicks.flush_array(state)
    tags, pixels = np.concatenate([tags, last[0]]), np.concatenate([pixels, last[1]])
    assert (np.diff(tags) >= 0).all()
    found = np.bincount(pixels, minlength=12).reshape(3, 4)
    shifts = ((0, 1), (1, 1), (2, 0), (0, 3))

    @once
    def read(array, light):
        return array.clicks(light, time), [jnp.sum(array.fakes(light, time, *shift)) for shift in shifts]

    expected, means = map(np.asarray, read(some, jnp.asarray(light)))
    alone, nothing = map(
        np.asarray, read(PixelArray(pixel, 3, 4, 0.6, [0.0, 0.0], (6,), "600 kHz"), jnp.asarray(light))
    )
    assert not nothing.any()
    assert np.abs((found - expected) / np.sqrt(expected)).max() < 4
    assert (found - alone).sum() / np.sqrt(alone.sum()) > 5
    for (down, across), mean in zip(shifts, means, strict=True):
        first = np.arange(12).reshape(3, 4)[: 3 - down, : 4 - across].ravel()
        pairs = 0
        for i in first:
            a, b = tags[pixels == i], tags[pixels == i + 4 * down + across]
            pairs += np.sum(np.searchsorted(b, a + 500) - np.searchsorted(b, a - 500))
        chance = sum(found.ravel()[i] * found.ravel()[i + 4 * down + across] for i in first) * 1e-9 / time
        assert abs(pairs - chance - mean) / np.sqrt(pairs) < 4
        assert (across == 3) == (mean == 0)


def test_crosstalk_fires_each_pixel_once():
    """Certain crosstalk, no dead time: one photon, one click of every pixel in the same picosecond."""
    some = PixelArray(device(dead_time=0.0), 2, 3, 1.0, 1.0)
    state = clicks.begin_array(some, np.random.default_rng(0))
    tags, pixels, _ = clicks.detect_array(np.array([7], np.int64), np.array([4], np.int16), 100, state)
    np.testing.assert_array_equal(tags, [7] * 6)
    np.testing.assert_array_equal(np.sort(pixels), np.arange(6))


@pytest.mark.parametrize(
    ("times", "stop", "found"),
    [
        (np.array([1.0]), 10, "times"),
        (np.array([3, 2], np.int64), 10, "event 1"),
        (np.array([10], np.int64), 10, "times"),
        (np.array([-1], np.int64), 10, "times"),
        (np.array([1], np.int64), 1 << 62, "stop"),
        (np.array([], np.int64), -1, "stop"),
    ],
)
def test_records_that_cannot_be_are_refused(times, stop, found):
    with pytest.raises(UserError, match=found):
        clicks.detect(times, stop, clicks.begin(device(), np.random.default_rng(0)))


def test_pixels_that_are_not_there_are_refused():
    one, state = np.array([1], np.int64), clicks.begin(device(), np.random.default_rng(0))
    for pixel in (np.array([1], np.int16), np.array([-1], np.int16), np.array([0], np.int32)):
        with pytest.raises(UserError, match="pixels"):
            clicks.detect_array(one, pixel, 10, state)
    with pytest.raises(UserError, match="rows"):
        clicks.begin_array(PixelArray(device(), 200, 200, 1.0), np.random.default_rng(0))
