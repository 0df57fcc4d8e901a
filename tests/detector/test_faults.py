"""Faults against closed forms, plain loops and their off-limits."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import erf
from slopes import check_slopes

from qtwin.core.errors import FieldError
from qtwin.detector.faults import PS, Faults, of_channel

HOUR = 3600 * PS
VALUES = (0.2, 0.3, 2.3, 0.7, 0.1, 0.2, 1.1e-4)  # of the fields whose slopes are checked


def tags(rate, seconds, seed=7, start=0):
    """Poisson tags, int64 ps."""
    rng = np.random.default_rng(seed)
    return start + np.sort(rng.integers(0, round(seconds * PS), rng.poisson(rate * seconds)))


def rng(seed=11):
    return np.random.default_rng(seed)


def channel(times, c=0):
    return np.full(len(times), c, np.int16)


def test_off_is_the_identity():
    faults, times = Faults(), tags(1e5, 0.1)
    assert faults.shining(times, 1.0, rng()) is times and faults.gated(times, 0) is times
    assert faults.aligned(times, 0, rng()) is None and faults.aligned(times, 1, rng()) is None
    assert faults.told(times, 0, PS, 3, 0.0, rng())[0] is times
    chosen, full = faults.recorded(times, channel(times), 0, (-1, 0), rng())
    np.testing.assert_array_equal(chosen, np.arange(len(times)))
    assert full == (-1, 0) and faults.brightest(1e6) == 1
    assert float(faults.kept()) == 1 and float(faults.taken(jnp.asarray(3e7))) == 3e7
    assert float(faults.brightness(1e5)) == 1 and float(faults.overlap(1e5, 1)) == 1


@pytest.mark.parametrize(
    ("slope", "swing", "mean"),
    [(0.25, 0.0, 1.25), (-0.4, 0.0, 0.6), (0.0, 0.5, 1 + 0.5 * (1 - np.cos(4 / 0.7)) / (4 / 0.7))],
)
def test_source_drift(slope, swing, mean):
    """1 + slope T/2, 1 + swing (1 - cos(2 pi T/P)) P/(2 pi T): mean of f over T = 2 s."""
    faults = Faults(source_slope=slope, source_swing=swing, source_period=f"{0.7 * np.pi} s")
    most = faults.brightest(2.0)
    kept = len(faults.shining(tags(2e5 * most, 2.0), most, rng()))
    assert abs(kept - 4e5 * mean) / np.sqrt(4e5 * mean) < 4
    assert abs(kept - 4e5) / np.sqrt(4e5) > 5
    t = (np.arange(100_000) + 0.5) / 50_000
    assert np.mean(faults.brightness(t, np)) == pytest.approx(mean, rel=1e-6)
    np.testing.assert_allclose(faults.brightness(jnp.asarray(t[:5])), faults.brightness(t[:5], np), rtol=1e-14)


@pytest.mark.parametrize(("arm", "speed"), [(0, 0.8), (1, -0.3)])
def test_misalignment(arm, speed):
    """sqrt(pi) erf(v T)/(2 v T): mean of exp(-(v t)^2) over T = 2 s, of either arm."""
    faults = Faults(misalignment=[0.8, -0.3])
    times = tags(2e5, 2.0)
    kept = faults.aligned(times, arm, rng()).sum()
    mean = np.sqrt(np.pi) * erf(2 * abs(speed)) / (4 * abs(speed))
    assert abs(kept - len(times) * mean) / np.sqrt(len(times) * mean * (1 - mean)) < 4
    wrong = np.sqrt(np.pi) * erf(2.04 * abs(speed)) / (4.08 * abs(speed))
    assert abs(kept - len(times) * wrong) / np.sqrt(len(times) * mean * (1 - mean)) > 5
    np.testing.assert_allclose(faults.overlap(0.7, arm), faults.overlap(0.7, arm, np), rtol=1e-14)


def test_gate_edges():
    """Open in [delay + k period, .. + 0.25 period)."""
    faults = Faults(gate_open=0.25, gate_period="100 ps", gate_delay="10 ps")
    times = np.arange(-50, 300)
    np.testing.assert_array_equal(faults.gated(times, 0), [t for t in times if (t - 10) % 100 < 25])


def test_gates_keep_their_beat_for_hours():
    """3 ns gates of 76.3 MHz pass pulses of the same clock after three hours, and pulses half a period off never."""
    period = 1 / 76.3e6
    faults = Faults(gate_open=0.3, gate_period=period, gate_delay=period * 0.35)
    first = 3 * 3600 * 76_300_000
    centres = np.array([(2 * k + 1) * PS // (2 * 76_300_000) for k in range(first, first + 1000)])
    assert len(faults.gated(centres, int(centres[0]))) == 1000
    assert len(faults.gated(centres + 6553, int(centres[0]))) == 0


def test_gate_takes_its_part():
    times = tags(1e6, 0.5)
    kept = len(Faults(gate_open=0.3, gate_period="1.3 us").gated(times, 0))
    assert abs(kept - 0.3 * len(times)) / np.sqrt(0.21 * len(times)) < 4


def test_clock_offset_and_drift():
    """t + offset + drift t to the picosecond after an hour; each channel its own."""
    faults = Faults(clock_offset=["0 s", "-3 ns"], clock_drift=[2e-6, 0.0])
    times = HOUR + np.array([0, 5, 10**9])
    fast, end, _ = faults.told(times, HOUR, HOUR + PS, 0, 0.0, rng())
    np.testing.assert_array_equal(fast, times + np.array([7_200_000_000, 7_200_000_000, 7_200_002_000]))
    assert end == HOUR + PS + 7_200_000_000 + 2_000_000
    slow, end, _ = faults.told(times, HOUR, HOUR + PS, 1, 0.0, rng())
    np.testing.assert_array_equal(slow, times - 3000)
    assert end == HOUR + PS - 3000


@pytest.mark.parametrize("stretches", [1, 16])
def test_clock_walks_like_the_root_of_time(stretches):
    """Standard deviation walk sqrt(t), whatever the stretches, and increments that do not know each other."""
    faults, total = Faults(clock_walk="2 ns"), 8 * PS
    ends = []
    for seed in range(200):
        generator, walk, found = rng(seed), 0.0, []
        for k in range(stretches):
            start, stop = k * total // stretches, (k + 1) * total // stretches
            times = np.array([start, (start + stop) // 2])
            told, end, walk = faults.told(times, start, stop, 0, walk, generator)
            found += [*(told - times), end - stop]
        ends.append((found[len(found) // 2], found[-1]))
    middle, last = np.array(ends, float).T
    expected = 2000 * np.sqrt(8)
    assert abs(last.std() / expected - 1) < 4 / np.sqrt(400) and abs(last.mean()) < 4 * expected / np.sqrt(200)
    assert abs(last.std() / (1.5 * expected) - 1) > 5 / np.sqrt(400)
    assert abs(np.corrcoef(middle, last - middle)[0, 1]) < 4 / np.sqrt(200)


def test_the_tale_of_a_walking_clock_is_continuous_and_in_order():
    """Tags in crowded stretches stay in order, also across them."""
    faults, generator, walk, told = Faults(clock_walk="1 us", clock_drift=-0.01), rng(), 0.0, []
    for k in range(4):
        part, end, walk = faults.told(
            tags(3e6, 0.01, k, k * PS // 100), k * PS // 100, (k + 1) * PS // 100, 0, walk, generator
        )
        assert part[-1] <= end
        told.append(part)
    assert np.all(np.diff(np.concatenate(told)) >= 0)


@pytest.mark.parametrize(("memory", "rate"), [(1, 3e5), (40, 3e5), (40, 5e5), (500, 3e5)])
def test_memory_of_the_tagger(memory, rate):
    """E min(n, K) per transfer of Poisson tags; Var from the same law. A memory of one more would be noticed."""
    faults = Faults(memory=memory, transfer="100 us")
    times = tags(rate, 1.0)
    chosen, _ = faults.recorded(times, channel(times), 0, (-1, 0), rng())
    n = np.arange(1000)
    p, held = stats.poisson.pmf(n, rate * 1e-4), np.minimum(n, memory)
    mean = p @ held
    spread = np.sqrt(1e4 * (p @ held**2 - mean**2))
    assert float(faults.taken(jnp.asarray(rate))) == pytest.approx(mean * 1e4, rel=1e-10)
    assert abs(len(chosen) - mean * 1e4) < max(4 * spread, 1)
    if memory <= rate * 1e-4:
        more = float(Faults(memory=memory + 1, transfer="100 us").taken(jnp.asarray(rate)))
        assert abs(len(chosen) - more) > 5 * spread


def test_memory_is_a_plain_loop_across_stretches():
    """First K tags of each transfer, with the stretches cut anywhere, whole transfers empty."""
    faults = Faults(memory=3, transfer="1 us")
    times = np.sort(np.concatenate([tags(4e6, 1e-5), tags(8e6, 1e-5, 8, 2 * 10**7)]))
    wanted = [t for i, t in enumerate(times) if np.sum(times[:i] // 10**6 == t // 10**6) < 3]
    found, full = [], (-1, 0)
    for start, stop in ((0, 1_400_000), (1_400_000, 1_400_001), (1_400_001, 2_000_000), (2_000_000, 4 * 10**7)):
        part = times[(times >= start) & (times < stop)]
        chosen, full = faults.recorded(part, channel(part), start, full, rng())
        found += list(part[chosen])
    np.testing.assert_array_equal(found, wanted)


def test_lost_and_duplicated():
    """(1 - lost)(1 + duplicated), each channel its own; a duplicate is the same tag again."""
    faults = Faults(lost=[0.1, 0.4], duplicated=[0.3, 0.0])
    times = tags(1e5, 1.0)
    names = (rng().random(len(times)) < 0.5).astype(np.int16)
    chosen, _ = faults.recorded(times, names, 0, (-1, 0), rng(12))
    n = np.bincount(names)
    counts = np.bincount(names[chosen])
    assert abs(counts[0] - n[0] * 0.9 * 1.3) / np.sqrt(n[0] * (0.9 * (1 + 3 * 0.3) - (0.9 * 1.3) ** 2)) < 4
    assert abs(counts[1] - n[1] * 0.6) / np.sqrt(n[1] * 0.24) < 4
    assert np.all(np.diff(chosen) >= 0) and np.bincount(chosen).max() == 2
    np.testing.assert_allclose(faults.kept(), [1.17, 0.6])
    assert len(faults.recorded(times[:0], names[:0], 0, (-1, 0), rng())[0]) == 0


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"clock_drift": -1.0}, "clock_drift"),
        ({"clock_drift": 1.5}, "clock_drift"),
        ({"clock_walk": "-1 ns"}, "clock_walk"),
        ({"gate_open": 0.0}, "gate_open"),
        ({"lost": [0.1, 1.2]}, "lost"),
        ({"memory": -1}, "memory"),
        ({"memory": 1.5}, "memory"),
        ({"transfer": "3 m"}, "transfer"),
        ({"source_slope": np.nan}, "source_slope"),
    ],
)
def test_faults_that_cannot_be_are_refused(fields, key):
    with pytest.raises(FieldError, match=key):
        Faults(**fields)


def test_what_only_a_record_can_refuse():
    with pytest.raises(FieldError, match=r"falls to -0\.2"):
        Faults(source_slope=-0.1).brightest(12.0)
    with pytest.raises(FieldError, match="falls to"):
        Faults(source_slope=-0.1, source_swing=0.6).brightest(5.0)
    with pytest.raises(FieldError, match="run backwards"):
        Faults(clock_walk="1 s").told(tags(10, 1.0), 0, PS, 0, 0.0, rng())


def test_a_number_per_channel_or_one_for_all():
    assert of_channel(jnp.asarray(3.0), 7) == 3 and of_channel(jnp.asarray([1.0, 2.0]), 1) == 2


def test_gradients():
    """Rate laws in every field that they read."""
    names = ["source_slope", "source_swing", "source_period", "misalignment", "lost", "duplicated", "transfer"]

    def read(x):
        faults = Faults(**{n: v * x[k] for k, (n, v) in enumerate(zip(names, VALUES, strict=True))}, memory=30)
        return (
            faults.brightness(1.7) + 2 * faults.overlap(0.9, 1) + faults.kept() + faults.taken(jnp.asarray(3e5)) / 1e5
        )

    check_slopes(read, jnp.ones(len(names)))
