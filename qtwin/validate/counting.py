"""Evidence on clicks, coincidences and time tags: closed forms that take a few functions, and drawn records."""

import time
from dataclasses import replace
from math import log
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.config import build, compose, plain
from qtwin.core.records import Estimate, TimeTags
from qtwin.correlation.coincidence import count
from qtwin.correlation.counting import Coincidences, coincidences
from qtwin.correlation.histogram import autocorrelation, cross_correlation, start_stop
from qtwin.detector import Exponentials, PixelArray, SinglePhoton, Tabulated, clicks
from qtwin.detector.arrivals import PS, Continuous, Pulsed
from qtwin.detector.jitter import fwhm
from qtwin.detector.multiplication import excess_noise, output_distribution
from qtwin.detector.recording import Arm, Recording
from qtwin.modes.pairs import click_probabilities
from qtwin.modes.sampling import thermal_counts
from qtwin.validate.pieces import Batched, element

POISSON = 1e12  # modes


PARTS = 50  # of a record, whose scatter is the error
IDEAL = element(SinglePhoton, 1.0, 0.0, 0.0, 0.0)


def mean(samples) -> Batched:
    """Of independent samples."""
    samples = np.asarray(samples, float)
    return Batched(float(samples.mean()), float(samples.std(ddof=1) / np.sqrt(samples.size)), samples.size - 1)


# --- pairs -----------------------------------------------------------------------------------------------------------


def click_car(pairs: float, efficiency: float, modes: float = POISSON) -> float:
    """P_si/(P_s P_i) of threshold detectors without dark counts."""
    signal, idler, both = click_probabilities(pairs, modes, efficiency, efficiency)
    return float(both / (signal * idler))


def two_channels(light, signal: float, idler: float, device: SinglePhoton, seconds: float) -> Recording:
    """Signals meet channel 0 and idlers channel 1, with these efficiencies before alike detectors."""
    return element(Recording, light, element(Arm, [signal, 0.0]), (device, device), seconds, element(Arm, [0.0, idler]))


def channels(recording: Recording, seed: int) -> list[np.ndarray]:
    """Times of every channel of a drawn record, int64 ps."""
    tags = list(recording.sample(key=jax.random.key(seed)))
    return [np.concatenate([t.of(c) for t in tags]) for c in range(recording.channels)]


def in_parts(times: np.ndarray, counts: np.ndarray, seconds: float) -> np.ndarray:
    """Sums of ``counts`` at ``times`` in PARTS equal parts of a record."""
    return np.bincount(np.minimum(times * PARTS // round(seconds * PS), PARTS - 1), counts, PARTS)


def drawn_car(pairs: float, efficiency: float, purity: float, seconds: float, seed: int = 0) -> Batched:
    """Coincidences over accidentals of a drawn record: pulses every 10 ns, detectors that fire once a pulse.

    Accidentals are the coincidences of pulses 100 to 109 apart; the errors are those of parts of the record.
    """
    device, light = element(SinglePhoton, 0.6, 0.0, "4 ns", 0.0), element(Pulsed, "10 ns", pairs, purity)
    recording = two_channels(light, efficiency / 0.6, efficiency / 0.6, device, seconds)
    first, second = channels(recording, seed)
    near, *others = (in_parts(first, count(first + 10_000 * k, second, 10_000), seconds) for k in (0, *range(100, 110)))
    far = np.mean(others, axis=0)
    value = near.sum() / far.sum()
    return Batched(float(value), float(np.std((near - value * far) / far.mean(), ddof=1) / np.sqrt(PARTS)), PARTS - 1)


def drawn_heralded_g2(pairs: float, modes: float, gates: int, seed: int = 0) -> Batched:
    """<w n (n - 1)> <w>/<w n>^2 of drawn pair numbers n, w = n the weight of a weak herald; the error of 50 parts."""
    draw = thermal_counts(pairs, modes, (gates,), key=jax.random.key(seed))
    n = np.asarray(draw, float).reshape(PARTS, -1)
    herald, one, two = n.mean(1), (n * n).mean(1), (n * n * (n - 1)).mean(1)
    whole = herald.mean(), one.mean(), two.mean()
    value = whole[2] * whole[0] / whole[1] ** 2
    parts = value * (two / whole[2] + herald / whole[0] - 2 * one / whole[1])
    return Batched(float(value), float(np.std(parts, ddof=1) / np.sqrt(PARTS)), PARTS - 1)


def drawn_thermal_variance(mean_count: float, modes: float, draws: int, seed: int = 0) -> Batched:
    """Var n of drawn counts of M thermal modes."""
    n = np.asarray(thermal_counts(mean_count, modes, (draws,), key=jax.random.key(seed)), float)
    return mean((n - n.mean()) ** 2)


def drawn_accidentals(singles: tuple[float, float], window: float, seconds: float, seed: int = 0) -> Batched:
    """Coincidences per second in a full ``window`` s of two channels of unrelated photons, ``singles`` per second."""
    dark = replace(two_channels(element(Continuous, 0.0), 1.0, 1.0, IDEAL, seconds), background=jnp.asarray(singles))
    first, second = channels(dark, seed)
    return mean(in_parts(first, count(first, second, round(window * PS)), seconds) * PARTS / seconds)


def drawn_klyshko(efficiency_s: float, efficiency_i: float, pairs: float, seconds: float, seed: int = 0) -> Estimate:
    """(C - A)/S_s of a drawn record of ``pairs`` per second, accidentals from the singles."""
    light = element(Continuous, pairs)
    first, second = channels(two_channels(light, efficiency_s, efficiency_i, IDEAL, seconds), seed)
    found = count(first, second, 2000).sum() - len(first) * len(second) * 2e-9 / seconds
    value = found / len(first)
    return Estimate(float(value), float(np.sqrt(value * (1 - value) / len(first))))


def dead_time_coincidences(rate: float, dead_time: float) -> float:
    """Expected coincidences per second of pairs that both detectors would see, less those of unrelated clicks."""
    device = element(SinglePhoton, 1.0, 0.0, dead_time, 0.0)
    return float(two_channels(element(Continuous, rate), 1.0, 1.0, device, 1.0).expect().pairs[0, 1])


def drawn_dead_time_coincidences(rate: float, dead_time: float, seconds: float, seed: int = 0) -> Batched:
    """The same from drawn tags, at zero delay to within 2 ps (unrelated clicks meet there once in 1e5)."""
    device = element(SinglePhoton, 1.0, 0.0, dead_time, 0.0)
    first, second = channels(two_channels(element(Continuous, rate), 1.0, 1.0, device, seconds), seed)
    return mean(in_parts(first, count(first, second, 4), seconds) * PARTS / seconds)


# --- clicks ----------------------------------------------------------------------------------------------------------

_live = eqx.filter_jit(lambda device, rate: device.live_at(rate))


def click_rate(rate: float, dead_time: float, law: str = "non-paralysable") -> float:
    """Clicks per second at ``rate`` events per second."""
    device = element(SinglePhoton, 1.0, 0.0, dead_time, 0.0, dead_time_law=law)
    return float(_live(device, jnp.asarray(float(rate)))) * rate


def drawn_click_rate(device: SinglePhoton, rate: float, events: int, seed: int = 0) -> Batched:
    """Clicks per second of a device in Poisson light of ``rate`` events per second, drawn one by one; 400 parts."""
    rng = np.random.default_rng([seed, round(rate)])
    times = np.rint(np.cumsum(rng.standard_exponential(events)) * PS / rate).astype(np.int64)
    tags, state = clicks.detect(times, int(times[-1]) + 1, clicks.begin(device, rng))
    tags = np.concatenate([tags, clicks.flush(state)])
    counts = np.histogram(tags, np.linspace(0, int(times[-1]) + 1, 401))[0]
    return mean(counts * 400 / (float(times[-1]) / PS))


def straka(incident: float, file=None, afterpulses: str = "measured") -> SinglePhoton:
    """The diode of Straka et al. (2020): 24 ns, twilight of 3.2 ns; ``incident`` rate, 1/s, for their law of it.

    ``afterpulses`` 'measured' (their distribution in ``file``), 'fitted' (the project's six exponentials), 'instant'
    (they follow the dead time at once) or 'none' (no twilight either). They take a twilight click with the probability
    rate x 3.2 ns, the first order of ours.
    """
    if afterpulses == "none":
        return element(SinglePhoton, 1.0, 0.0, "24 ns", 0.0)
    law: Any
    if afterpulses == "measured":
        law = element(Tabulated, str(file), 0.0171, "81 ps")
    elif afterpulses == "fitted":
        law = build(plain(compose(["detector=spcm_cd3605h"])["detector"]), "detector").afterpulsing
    else:
        law = element(Exponentials, 0.0171, [1.0], ["1 fs"])
    twilight = -log(1 - incident * 3.2e-9) / incident
    return element(SinglePhoton, 1.0, 0.0, "24 ns", 0.0, twilight=twilight, afterpulsing=law)


def straka_rate(incident: float, afterpulses: str, file=None) -> float:
    """Mean clicks per second of `straka` at ``incident`` photons per second."""
    return float(_live(straka(incident, file, afterpulses), jnp.asarray(float(incident)))) * incident


def drawn_straka_rate(incident: float, events: int, file, seed: int = 0) -> Batched:
    """The same from drawn clicks."""
    return drawn_click_rate(straka(incident, file), incident, events, seed)


def jitter_width(sigma: float, tail: float) -> float:
    """Full width at half maximum of an exponentially modified Gaussian, s."""
    return float(jax.jit(fwhm)(sigma, tail))


def excess_noise_of_draws(gain: float, stages: int) -> float:
    """<x^2>/<x>^2 of one electron from the exact law of the output."""
    size = 1 << int(np.ceil(np.log2(64 * gain)))
    law = np.asarray(output_distribution(min(size, 1 << 16), 1, gain, stages))
    x = np.arange(len(law))
    return float(law @ x**2 / (law @ x) ** 2)


def poisson_excess_noise(electrons: float, gain: float, stages: int) -> float:
    """Var_out/(G^2 Var_in) of Poisson packets, from the exact laws of k electrons."""
    k, x = np.arange(24), np.arange(256)
    laws = np.stack([np.asarray(output_distribution(256, int(n), gain, stages)) for n in k])
    p = np.exp(-electrons) * np.cumprod(np.concatenate([[1.0], electrons / k[1:]]))
    law = p @ laws
    return float((law @ x**2 - (law @ x) ** 2) / (gain**2 * electrons))


def gamma_excess_over_exact(gain: float, stages: int) -> float:
    """The gamma law's <x^2>/<x>^2, 2, over the exact one."""
    return 2.0 / float(excess_noise(jnp.asarray(float(gain)), stages))


def drawn_first_stops(mean_stops: float, starts: int, corrected: bool, seed: int = 0) -> Estimate:
    """Mean stops per start in the last of ten bins from first-stop histograms; raw -ln(1 - N_k/starts) or corrected."""
    rng, span, width = np.random.default_rng(seed), 1_000_000, 1000
    begins = np.arange(starts, dtype=np.int64) * span
    number = rng.poisson(10 * mean_stops * starts)
    stops = rng.choice(begins, number) + rng.integers(0, 10 * width, number)
    times, names = np.concatenate([begins, stops]), np.repeat([0, 1], [starts, len(stops)]).astype(np.int16)
    order = np.argsort(times, kind="stable")
    found = start_stop([TimeTags(times[order], names[order], 0, starts * span)], 0, 1, 10 * width, width)
    if corrected:
        value, error = found.mean
        return Estimate(float(value[-1]), float(error[-1]))
    p = found.counts[-1] / found.starts
    return Estimate(float(-np.log1p(-p)), float(np.sqrt(p / (1 - p) / found.starts)))


def faked_coincidences(probability: float, seconds: float, seed: int = 0) -> Estimate:
    """Coincidences at zero delay of two neighbours in unrelated light over the clicks of one, crosstalk alone."""
    array = element(PixelArray, element(SinglePhoton, 1.0, 0.0, "50 ns", 0.0), 1, 2, 1.0, [probability])
    rng, rate = np.random.default_rng(seed), 2e5
    times = np.sort(rng.integers(0, round(seconds * PS), rng.poisson(2 * rate * seconds)))
    tags, where, state = clicks.detect_array(
        times, rng.integers(0, 2, len(times)).astype(np.int16), round(seconds * PS), clicks.begin_array(array, rng)
    )
    rest, rest_where = clicks.flush_array(state)
    tags, where = np.concatenate([tags, rest]), np.concatenate([where, rest_where])
    found = count(tags[where == 0], tags[where == 1], 4).sum()
    expected = found / np.sum(where == 0)
    return Estimate(float(expected), float(np.sqrt(max(found, 1)) / np.sum(where == 0)))


# --- time tags -------------------------------------------------------------------------------------------------------


def counted(first, second, window: int, rule: str = "all pairs") -> Coincidences:
    """Coincidences of two lists of times, ps."""
    times = np.concatenate([np.asarray(first, np.int64), np.asarray(second, np.int64)])
    names = np.repeat([0, 1], [len(first), len(second)]).astype(np.int16)
    order = np.argsort(times, kind="stable")
    return coincidences([TimeTags(times[order], names[order], 0, 10**6)], 0, 1, int(window), rule)


def carved(dead_time: float, rate: float, clicks_wanted: int, seed: int = 0) -> dict[str, float | Estimate]:
    """Autocorrelation of one channel: pairs closer than its dead time, and g2 just beyond it."""
    rng, device = np.random.default_rng(seed), element(SinglePhoton, 1.0, 0.0, dead_time, 0.0)
    times = np.rint(np.cumsum(rng.standard_exponential(clicks_wanted)) * PS / rate).astype(np.int64)
    end = int(times[-1]) + 1
    tags, state = clicks.detect(times, end, clicks.begin(device, rng))
    tags = np.concatenate([tags, clicks.flush(state)])
    dead = round(dead_time * PS)
    found = autocorrelation([TimeTags(tags, np.zeros(len(tags), np.int16), 0, end)], 0, 20 * dead, dead // 10)
    g2 = found.g2
    return {"within": float(found.counts[:10].sum()), "beyond": Estimate(float(g2.value[10]), float(g2.error[10]))}


def seconds_of_counting(what: str, tags: int, seed: int = 0) -> float:
    """Time, s, that a histogram (+-50 ns, 100 ps bins) or a count in 1 ns takes of ``tags`` on each of two channels."""
    rng, span = np.random.default_rng(seed), tags * 100_000
    times = np.sort(rng.integers(0, span, 2 * tags))
    record = [TimeTags(times, rng.integers(0, 2, 2 * tags).astype(np.int16), 0, span)]
    small = [TimeTags(times[:1000], record[0].channels[:1000], 0, int(times[999]) + 1)]

    def work(some):
        return cross_correlation(some, 0, 1, 50_000, 100) if what == "histogram" else coincidences(some, 0, 1, 1000)

    work(small)  # compiles
    start = time.perf_counter()
    work(record)
    return time.perf_counter() - start
