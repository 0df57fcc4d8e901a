"""Emission times against the laws that they are drawn from: counts, correlations, beat and continuity."""

from fractions import Fraction
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from slopes import check_slopes

from qtwin.core.errors import FieldError
from qtwin.detector.arrivals import PS, Continuous, Emitter, Pulsed, Thermal, poisson_times, pulses
from qtwin.modes.counts import thermal_distribution

NS = 1000  # ps
LIGHTS = {
    "continuous": Continuous("3 MHz"),
    "poisson pulses": Pulsed("8 ns", 0.3),
    "thermal pulses": Pulsed("8 ns", 0.3, 0.4, "1 ns"),
    "thermal": Thermal("2 MHz", "1 us"),
    "emitter": Emitter("10 ns", 0.4, 0.3, "1 ns"),
    "blinking": Emitter("10 ns", 0.4, 0.3, "1 ns", "50 ns", "150 ns"),
}


def draw(light, seconds, stretches, kept=1.0, seed=7, start=0):
    """Emissions of every stretch, the state carried."""
    rng, found = np.random.default_rng(seed), []
    state, step = light.begin(rng), round(seconds * PS / stretches)
    for k in range(stretches):
        times, state = light.emit(start + k * step, start + (k + 1) * step, kept, rng, state)
        found.append(times)
    return found


@cache
def record(name):
    """40 stretches of 5 ms, half of the emissions kept."""
    return draw(LIGHTS[name], 0.2, 40, 0.5)


def score(samples, expected):
    """z of the mean of independent samples."""
    return (np.mean(samples) - expected) / (np.std(samples, ddof=1) / np.sqrt(len(samples)))


def pairs(times, low, high):
    """Pairs of tags with low <= t2 - t1 < high; both ends above 0."""
    return int((np.searchsorted(times, times + high) - np.searchsorted(times, times + low)).sum())


@pytest.mark.parametrize("name", LIGHTS)
def test_rate(name):
    """Half of the emissions per second, in order, none before its stretch."""
    found, light = record(name), LIGHTS[name]
    counts = [len(times) for times in found]
    expected = float(light.rate()) * 0.5 * 5e-3
    assert abs(score(counts, expected)) < 4
    assert abs(score(counts, 1.1 * expected)) > 5
    for k, times in enumerate(found):
        assert times.dtype == np.int64 and np.all(np.diff(times) >= 0) and times[0] >= k * 5_000_000_000


@pytest.mark.parametrize(
    ("name", "delays"),
    [
        ("continuous", [60 * NS, 400 * NS]),
        ("poisson pulses", [8 * NS, 80 * NS]),
        ("thermal pulses", [8 * NS, 80 * NS]),
        ("thermal", [60 * NS, 300 * NS, 1000 * NS, 3000 * NS]),
        ("emitter", [10 * NS, 20 * NS]),
        ("blinking", [10 * NS, 20 * NS, 50 * NS, 200 * NS]),
    ],
)
def test_g2_at_a_delay(name, delays):
    """Emissions found about a delay after an emission: N^2 g2 (T - delay)/T^2 per unit of delay."""
    light = LIGHTS[name]
    beat = round(float(light.windows(0.0)[1]) * PS)  # the period of pulsed light
    for delay in delays:
        half = beat // 2 or 50 * NS
        shares = [pairs(x, delay - half, delay + half) / len(x) / (len(x) - 1) for x in record(name)]
        found = np.array(shares) / ((1 - delay / 5e9) * 2 * half / 5e9)
        within = np.linspace(delay - half, delay + half, 102)[1:-1] if beat == 0 else delay
        expected = float(np.mean(light.g2(jnp.asarray(within / PS))))
        assert abs(score(found, expected)) < 4
        assert abs(score(found, expected + 0.08)) > 4


@pytest.mark.parametrize("name", ["poisson pulses", "thermal pulses", "emitter", "blinking"])
def test_g2_of_a_pulse(name):
    """<n(n-1)>/<n>^2 over pulses; thinning leaves it as it is. The lifetime spreads emissions over the next pulses."""
    light = LIGHTS[name] if name != "emitter" else Emitter("10 ns", 0.4, 0.3)
    found = record(name) if name != "emitter" else draw(light, 0.2, 40, 0.5)
    if name == "blinking":
        light = Emitter("10 ns", 0.4, 0.3, "0 s", "50 ns", "150 ns")
        found = draw(light, 0.2, 40, 0.5)
    period, near = float(light.period), []
    for times in found:
        n = np.unique(times // round(period * PS), return_counts=True)[1]
        near.append(np.sum(n * (n - 1)) / (5e-3 / period) / (0.5 * float(light.rate()) * period) ** 2)
    assert abs(score(near, float(light.g2(jnp.asarray(0.0))))) < 4
    assert abs(score(near, float(light.g2(jnp.asarray(0.0))) * 1.1 + 0.02)) > 5


def test_numbers_of_thermal_pulses_are_negative_binomial():
    """Counts of 25 000 pulses, 2.5 modes, against p(n) of the modes; Poisson numbers would be noticed."""
    light = Pulsed("8 ns", 1.2, 0.4)
    pulse = np.concatenate(draw(light, 25_000 * 8e-9, 5, 0.5)) // (8 * NS)
    n = np.bincount(np.bincount(pulse, minlength=25_000), minlength=30)
    p = np.asarray(thermal_distribution(30, 0.6, 2.5))

    def misfit(p):
        cells = np.append(p[:5], p[5:].sum()) * 25_000
        return stats.chi2.sf(np.sum((np.append(n[:5], n[5:].sum()) - cells) ** 2 / cells), 5)

    assert misfit(p) > 1e-4
    assert misfit(stats.poisson.pmf(np.arange(30), 0.6)) < 1e-9
    assert float(light.generating(jnp.asarray(0.5))) == pytest.approx(p[0], rel=1e-12)


@pytest.mark.parametrize("purity", [0.0, 1e-7, 0.4, 1.0])
def test_generating_function_of_pulses(purity):
    """exp(-mu x) without purity, 1/(1 + mu x) for one mode; -G'(0) = mu."""
    light = Pulsed("8 ns", 1.7, purity)
    found = float(light.generating(jnp.asarray(0.3)))
    modes = 1 / purity if purity else np.inf
    assert found == pytest.approx(np.exp(-0.51) if purity < 1e-6 else (1 + 0.51 / modes) ** -modes, rel=1e-6)
    slope = jax.grad(light.generating)(jnp.asarray(0.0))
    assert float(slope) == pytest.approx(-1.7, rel=1e-6)


def test_generating_function_of_an_emitter():
    """1 - p_1 x - p_2 (1 - (1 - x)^2), on a quarter of the time."""
    light = Emitter("10 ns", 0.8, 0.5, "0 s", "50 ns", "150 ns")
    two = 0.5 * 0.8**2 / 2
    expected = 0.75 + 0.25 * (1 - (0.8 - 2 * two) * 0.3 - two * (1 - 0.7**2))
    assert float(light.generating(jnp.asarray(0.3))) == pytest.approx(expected, rel=1e-12)


def test_pulses_have_their_width():
    """Normal about (k + 1/2) period with the full width given."""
    times = np.concatenate(draw(Pulsed("8 ns", 2.0, 0.0, "1 ns"), 40_000 * 8e-9, 3))
    phase = times % (8 * NS) - 4 * NS
    spread = NS / (2 * np.sqrt(2 * np.log(2)))
    assert abs(phase.mean()) < 4 * spread / np.sqrt(len(phase))
    assert abs(phase.std() / spread - 1) < 4 / np.sqrt(2 * len(phase))


def test_photons_come_a_lifetime_after_the_pulse():
    """Exponential, here of a third of the period."""
    times = np.concatenate(draw(Emitter("12 ns", 0.05, 0.0, "4 ns"), 4e-3, 3))
    late = (times - 6 * NS) % (12 * NS)
    q = np.exp(-3.0)  # photons in later periods are folded back
    expected = 4 * NS - 12 * NS * q / (1 - q)
    assert abs(score(late, expected)) < 4 and abs(score(late, 1.1 * expected)) > 5


def test_the_beat_is_exact_after_three_hours():
    """76.3 MHz: pulse k is at (k + 1/2) period to the picosecond, however far the record has gone."""
    period = 1 / 76.3e6
    start = 3 * 3600 * PS + 12_345
    count, at = pulses(period, start, start + 10**9)
    step = Fraction(period) * PS
    first = -(-start // step)
    assert count == -(-(start + 10**9) // step) - first
    j = np.array([0, 1, count // 2, count - 1])
    exact = [round((first + int(k)) * step + step / 2) for k in j]
    assert np.abs(at(j, float(step) / 2) - exact).max() <= 1
    assert start <= at(j[:1], 0.0)[0] < start + step


def test_poisson_times_are_ordered_uniforms():
    """Number Poisson, gaps exponential, uniform within the interval; disjoint intervals add."""
    rng = np.random.default_rng(11)
    counts = np.array([len(poisson_times(2e-4, 10**6, 10**6 + 10**5, rng)) for _ in range(4000)])
    assert abs(counts.mean() - 20) < 4 * np.sqrt(20 / 4000)
    assert abs(counts.var() / 20 - 1) < 4 * np.sqrt(2 / 4000 + 1 / 20 / 4000)
    times = poisson_times(1e-6, -(10**10), 10**10, rng)
    assert times[0] >= -(10**10) and times[-1] < 10**10
    assert stats.kstest(np.diff(times) * 1e-6, "expon").pvalue > 1e-4
    assert stats.kstest((times + 10**10) / 2e10, "uniform").pvalue > 1e-4
    assert len(poisson_times(0.0, 0, 10**15, rng)) == 0 and len(poisson_times(1.0, 5, 5, rng)) == 0


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_thermal_field_goes_on_across_stretches(ratio):
    """Counts of neighbouring gates T = ratio tc, each a stretch: variance and covariance of the Lorentzian line.

    Var n = n + n^2 [u - u^2 (1 - e^(-2/u))/2], Cov = n^2 [u (1 - e^(-2/u))/2]^2, u = tc/T.
    """
    light = Thermal("200 MHz", "100 ns")
    gates = 5000
    n = np.array([len(t) for t in draw(light, gates * ratio * 1e-7, gates, 0.2)], float)
    mean, u = 40e6 * ratio * 1e-7, 1 / ratio
    held = 1 - np.exp(-2 / u)
    blocks = n.reshape(50, -1) - mean
    assert abs(score(blocks.mean(1), 0.0)) < 4
    assert abs(score((blocks**2).mean(1), mean + mean**2 * (u - u**2 * held / 2))) < 4
    expected = (mean * u * held / 2) ** 2
    near = (blocks[:, :-1] * blocks[:, 1:]).mean(1)
    assert abs(score(near, expected)) < 4 and abs(score(near, 0.0)) > 5


def test_an_emitter_stays_dark_across_stretches():
    """Stretches of one period: g2 of neighbours is that of the same law in one stretch."""
    light = Emitter("10 ns", 0.8, 0.0, "0 s", "30 ns", "60 ns")
    n = np.array([len(t) for t in draw(light, 3000 * 1e-8, 3000, 0.9)], float)
    near = (n[:-1] * n[1:])[:2990].reshape(46, -1).mean(1) / (0.9 * 0.8 / 3) ** 2
    assert abs(score(near, float(light.g2(jnp.asarray(1e-8))))) < 4 and abs(score(near, 1.0)) > 5


def test_limits():
    """Steady emitters, one mode, and windows: near is the integral of g2 over the window."""
    steady, blinking = Emitter("10 ns", 0.4, 0.2), LIGHTS["blinking"]
    np.testing.assert_allclose(steady.g2(jnp.asarray([0.0, 1e-8, 1e-3])), [0.2, 1.0, 1.0])
    assert float(steady.on()) == 1 and float(blinking.on()) == 0.25
    assert float(blinking.g2(jnp.asarray(1e-3))) == pytest.approx(1, abs=1e-12)
    near, far = LIGHTS["thermal"].windows(jnp.asarray(3e-7))
    t = (np.arange(20_000) + 0.5) / 20_000 * 1.5e-7
    integral = 2 * float(np.mean(LIGHTS["thermal"].g2(jnp.asarray(t)))) * 1.5e-7
    assert float(near) == pytest.approx(integral, rel=1e-8) and float(far) == 3e-7
    assert len(draw(Continuous(0.0), 1.0, 1)[0]) == 0 and len(draw(Thermal(0.0, 1e-9), 1.0, 1)[0]) == 0
    assert len(draw(Pulsed("8 ns", 0.0, 0.5), 1.0, 1)[0]) == 0 and len(draw(Emitter("8 ns", 0.0), 1.0, 1)[0]) == 0
    assert len(draw(Emitter("10 ns", 1.0), 1e-5, 1)[0]) == 1000  # an ideal one


@pytest.mark.parametrize(
    ("build", "key"),
    [
        (lambda: Continuous("-1 Hz"), "emissions"),
        (lambda: Pulsed("8 ns", 0.1, 1.2), "purity"),
        (lambda: Pulsed("8 ns", 0.1, 0.0, "2 ns"), "width"),
        (lambda: Thermal("1 MHz", 0.0), "coherence_time"),
        (lambda: Emitter("8 ns", 0.5, 2.5), "multiphoton"),
        (lambda: Emitter("8 ns", 1.1), "mean"),
        (lambda: Emitter("8 ns", np.nan), "mean"),
    ],
)
def test_light_that_cannot_be_is_refused(build, key):
    with pytest.raises(FieldError, match=key):
        build()


def test_gradients():
    """Rates, g2, windows and generating functions in every number that they read (widths and lifetimes are not)."""

    def read(x):
        pulsed, emitter = Pulsed(8e-9 * x[0], 0.3 * x[1], 0.4 * x[2]), Emitter(1e-8, 0.4 * x[3], 0.3 * x[4])
        blinking = Emitter(1e-8 * x[5], 0.4, 0.3, 1e-9, 5e-8 * x[6], 1.5e-7 * x[7])
        thermal, steady = Thermal(2e6 * x[8], 1e-6 * x[9]), Continuous(3e6 * x[10])
        total = emitter.g2(jnp.asarray(0.0)) + pulsed.g2(jnp.asarray(1e-10))
        for k, light in enumerate((pulsed, emitter, blinking, thermal, steady)):
            near, far = light.windows(3e-7 * x[11])
            total = total + (k + 1) * light.rate() / 1e7 + light.g2(jnp.asarray(2.2e-8)) + near * 1e7 + 2 * far * 1e7
        return total + sum(light.generating(0.6 * x[12]) for light in (pulsed, emitter, blinking))

    check_slopes(read, jnp.ones(13))
