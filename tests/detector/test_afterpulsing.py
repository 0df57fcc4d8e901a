"""Laws of afterpulses, and the mean rate of a diode against the published program and its limits."""

from itertools import pairwise

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.signal import correlate
from slopes import gradient_error, once

from qtwin.core.config import build, compose
from qtwin.core.config import plain as plain_dict
from qtwin.core.errors import FieldError
from qtwin.detector import Exponentials, PowerLaw, Tabulated
from qtwin.detector import afterpulsing as trapped
from qtwin.detector.dead_time import live_factor

TAU, P, TWILIGHT = 24e-9, 0.0171, 3.2e-9
STEP = 81e-12
# Straka et al., mean_rate.py with their distribution of the 3605H: incident rate, full model, instant afterpulses, no
# afterpulses, Mcps
REFERENCE = np.array(
    [
        [0.01, 0.01017, 0.01017, 0.01000],
        [0.1, 0.10151, 0.10151, 0.09976],
        [0.5, 0.50328, 0.50329, 0.49407],
        [1, 0.99608, 0.99612, 0.97656],
        [2, 1.95147, 1.95169, 1.90840],
        [5, 4.59709, 4.59848, 4.46429],
        [10, 8.38768, 8.39216, 8.06452],
        [20, 14.27283, 14.28438, 13.51351],
        [40, 21.98962, 22.01170, 20.40816],
    ]
)
RATES = jnp.asarray(REFERENCE[:, 0] * 1e6)
DIGITS = 5e-12 / REFERENCE[:, 0]  # half a unit in the last place, relative, times 1e6
LAWS = {
    "exponentials": Exponentials(P, [0.7, 0.2, 0.3], ["2 ns", "30 ns", "700 ns"]),
    "power": PowerLaw(P, 1.3, "24 ns", "3 us"),
    "log": PowerLaw(P, 1.0, "24 ns", "3 us"),
    "flat": PowerLaw(P, 0.0, "24 ns", "3 us"),
    "table": Tabulated(np.array([5.0, 0.0, 2.0, 1.0]), P, "50 ns"),
}
each = pytest.mark.parametrize("name", LAWS)
off = jnp.asarray(0.0)


def live(rate, dead_time, recovery_time, twilight, law):
    """Always nine rates and the same types: one compilation for each kind of law."""
    rate, twilight = (np.broadcast_to(np.asarray(x, float), 9) for x in (rate, twilight))
    return live_nine(rate, np.float64(dead_time), np.float64(recovery_time), twilight, law)


@once
def live_nine(rate, dead_time, recovery_time, twilight, law):
    return trapped.live_factor(rate, dead_time, recovery_time, twilight, law)


plain = once(live_factor)
tail = once(lambda law, delay: law.tail(delay))


def six(probability, *lifetimes, weights=(1.0,)):
    """Up to six kinds of traps as six, so that all share one compiled function."""
    rest = 6 - len(lifetimes)
    return Exponentials(probability, [*weights, *[0.0] * rest], [*lifetimes, *lifetimes[:1] * rest])


def densities(name, t):
    """Written out again."""
    if name == "exponentials":
        w = np.array([0.7, 0.2, 0.3]) / 1.2
        tau = np.array([2e-9, 30e-9, 700e-9])
        return np.sum(w / tau * np.exp(-t / tau))
    if name == "table":
        return np.array([5, 0, 2, 1])[int(t / 50e-9)] / 8 / 50e-9
    alpha = {"power": 1.3, "log": 1.0, "flat": 0.0}[name]
    norm = quad(lambda x: (24e-9 + x) ** -alpha, 0, 3e-6, epsrel=1e-12)[0]
    return (24e-9 + t) ** -alpha / norm


@each
def test_tail_is_the_integral_of_the_density(name):
    times = np.array([0.0, 1.3e-9, 40e-9, 151e-9, 190e-9])
    for t, left in zip(times, tail(LAWS[name], times), strict=True):
        cuts = [0, *[c for c in (2e-9, 50e-9, 100e-9, 150e-9) if c < t], t]
        parts = [quad(lambda x: densities(name, x), a, b, epsrel=1e-10)[0] for a, b in pairwise(cuts)]
        np.testing.assert_allclose(left, 1 - sum(parts), rtol=1e-8, atol=1e-12)
    low, high = LAWS[name].reach()
    left = tail(LAWS[name], np.array([0.0, high, high, high, high]))
    assert left[0] == 1 and 0 <= left[1] < 1e-15 and low < high


@each
def test_table_to_draw_from_is_the_tail(name):
    delays, below = LAWS[name].table()
    assert below[0] == 0 and below[-1] == 1 and (np.diff(below) >= 0).all() and (np.diff(delays) > 0).all()
    t = np.random.default_rng(3).uniform(0, 190e-9, 500)
    np.testing.assert_allclose(np.interp(t, delays, below), 1 - np.asarray(LAWS[name].tail(jnp.asarray(t))), atol=1e-6)


def test_power_law_is_smooth_through_exponent_one():
    tails = [float(PowerLaw(P, 1 + d, "24 ns", "3 us").tail(1e-7)) for d in (-2e-5, -1e-6, 0, 1e-6, 2e-5)]
    np.testing.assert_allclose(np.diff(tails) / np.array([1.9e-5, 1e-6, 1e-6, 1.9e-5]), -0.3, atol=0.3)
    np.testing.assert_allclose(np.diff(tails)[0], np.diff(tails)[3], rtol=1e-3)


def test_without_afterpulses_the_other_laws_remain():
    law = six(0.0, "30 ns")
    bright = jnp.geomspace(1e3, 1e8, 9)
    for recovery, twilight in ((0.0, 0.0), (0.0, 3e-9), (11e-9, 0.0), (11e-9, 2e-9)):
        laws = jnp.asarray(TAU), jnp.asarray(recovery), jnp.asarray(twilight)
        np.testing.assert_allclose(live(bright, *laws, law), plain(bright, *laws), rtol=3e-4)


def test_instant_afterpulses_are_the_simple_model():
    """Delays that vanish: m = 1/((1 - P)/n + tau), 1 - P = exp(-p)(1 - n a), a column of the reference."""
    twilight = -jnp.log1p(-RATES * TWILIGHT) / RATES  # the same probability of a twilight click as their first order
    found = live(RATES, jnp.asarray(TAU), off, twilight, six(P, "1 fs")) * RATES / 1e6
    np.testing.assert_allclose(found, REFERENCE[:, 2], rtol=3e-6, atol=6e-6)
    stay = np.exp(-P) * (1 - REFERENCE[:, 0] * 1e6 * TWILIGHT)
    np.testing.assert_allclose(found * 1e6, 1 / (stay / np.asarray(RATES) + TAU), rtol=3e-6)


def test_faint_light_clicks_in_clusters():
    """n -> 0: 1 + p + O(p^2) clicks per event, wherever the afterpulses fall."""
    p, faint = 1e-4, jnp.full(9, 1e-2)
    law = six(p, "2 ns", "30 ns", "700 ns", weights=(0.7, 0.2, 0.3))
    np.testing.assert_allclose(live(faint, jnp.asarray(TAU), off, off, law) - 1, p, rtol=2e-3)


def straka(rate, share, sweeps=80, finer=4):
    """The mean over histories on a fine regular grid by Fourier transforms, each bin's share spread over it."""
    width = STEP / finer
    fresh = np.repeat(share, finer) / finer * P
    t, dead = np.arange(len(fresh)) * width, round(TAU / width)
    f, twilight = fresh, TWILIGHT * rate
    for _ in range(sweeps):
        later = np.pad(f[dead:], (0, dead))
        next_click = (rate * width + f) * np.exp(-rate * t - np.cumsum(f))
        older = correlate(later, next_click, method="fft")[len(f) - 1 :]
        f = (1 - twilight) * older + twilight * later + fresh
    next_click = (rate * width + f) * np.exp(-rate * t - np.cumsum(f))
    end = t[-1] + width
    wait = t @ next_click + (1 / rate + end) * np.exp(-rate * end - f.sum())
    return 1 / ((1 - twilight) * wait + TAU)


@pytest.fixture(scope="module")
def measured(reference_data):
    return Tabulated(str(reference_data / "afterpulse" / "apDist_3605H.txt"), P, STEP)


def test_published_mean_rates(measured):
    """All nine rates: to the printed digits and 1e-5, but 3e-5 at 40 Mcps, where their 30 sweeps had not converged."""
    twilight = -jnp.log1p(-RATES * TWILIGHT) / RATES
    found = np.asarray(live(RATES, jnp.asarray(TAU), off, twilight, measured) * RATES / 1e6)
    allowed = 5.1e-6 + np.where(REFERENCE[:, 0] < 40, 8e-6, 3.2e-5) * REFERENCE[:, 1]
    assert (np.abs(found - REFERENCE[:, 1]) < allowed).all()
    wrong = live(RATES, jnp.asarray(TAU), off, off, measured) * RATES / 1e6  # no twilight
    assert (np.abs(wrong - REFERENCE[:, 1]) > allowed)[2:].all()


def test_converged_mean_rate_at_the_brightest_light(measured):
    """Their equations, more sweeps, bins filled evenly: 21.99039 Mcps instead of 21.98962."""
    twilight = -jnp.log1p(-RATES * TWILIGHT) / RATES
    found = float(live(RATES, jnp.asarray(TAU), off, twilight, measured)[-1]) * 40e6
    np.testing.assert_allclose(found, straka(40e6, np.asarray(measured.file)), rtol=1e-5)
    assert abs(found / 21.98962e6 - 1) > 2e-5


def test_derivatives():
    """By rate, dead time, recovery, twilight, probability, weights and lifetimes; in parts of their values."""
    law = LAWS["exponentials"]
    start = jnp.concatenate([jnp.asarray([6e6, TAU, 3e-9, 2e-9, P]), law.weights, law.lifetimes])

    def read(x):
        n, dead, recovery, twilight, p = (x * start)[:5]
        return trapped.live_factor(n, dead, recovery, twilight, Exponentials(p, *(x * start)[5:].reshape(2, 3)))

    assert gradient_error(read, jnp.ones(11), step=1e-6) < 1e-6


def test_derivatives_of_the_power_law():
    """By exponent, start, end and delay; in parts of their values."""
    start = jnp.asarray([1.2, 24e-9, 3e-6, 1e-7])
    assert gradient_error(lambda x: PowerLaw(P, *(start * x)[:3]).tail((start * x)[3]), jnp.ones(4)) < 1e-8


@pytest.mark.slow
def test_variance_of_clusters_and_of_slow_carriers():
    """Over the variance without afterpulses, x = n tau: 1 + 3 p/(1 + x) if they are instant, a renewal process again
    that waits with probability exp(-p); 1 + p (3 - 2 x)/(1 + x)^2 if they are slow."""
    n, tau, p, x = jnp.asarray([0.0, 8e6]), jnp.asarray(50e-9), 0.01, 0.4
    variance = once(lambda law: trapped.count_variance(n, tau, off, off, law) * (1 + x) ** 3 / 8e6)
    np.testing.assert_allclose(variance(six(p, "1 fs")), [0, 1 + 3 * p / (1 + x)], rtol=1e-5)
    np.testing.assert_allclose(variance(six(p, "1 ms")), [0, 1 + p * (3 - 2 * x) / (1 + x) ** 2], rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "no shares"),
        ("1\n2\nx\n", "no number"),
        ("1\n-1\n", "no shares"),
        ("0\n0\n", "no shares"),
        ("nan\n1\n", "no shares"),
    ],
)
def test_files_that_are_no_law(tmp_path, text, found):
    file = tmp_path / "law.txt"
    file.write_text(text)
    with pytest.raises(FieldError, match=found):
        Tabulated(str(file), P, STEP)
    with pytest.raises(FieldError, match="cannot be read"):
        Tabulated(str(tmp_path), P, STEP)


def test_a_file_is_its_numbers(tmp_path):
    file = tmp_path / "law.txt"
    file.write_text("5\n0\n2e0\n1\n")
    np.testing.assert_array_equal(Tabulated(str(file), P, "50 ns").file, LAWS["table"].file)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"weights": [1, 2]}, "weights"),
        ({"weights": 0.0}, "weights"),
        ({"probability": 1.1}, "probability"),
        ({"lifetimes": 0.0}, "lifetimes"),
    ],
)
def test_laws_that_cannot_be_are_refused(changes, field):
    with pytest.raises(FieldError, match=field):
        Exponentials(**({"probability": P, "weights": 1.0, "lifetimes": 1e-8} | changes))


def test_diode_of_the_options_counts_as_published():
    """spcm_cd3605h, whose afterpulses are six exponentials fitted to the measured law, at eight of the nine rates."""
    diode = build(plain_dict(compose(["detector=spcm_cd3605h"])["detector"]), "detector")
    twilight = -np.log1p(-np.asarray(RATES) * float(diode.twilight)) / np.asarray(RATES)
    found = live(RATES, diode.dead_time, diode.recovery_time, twilight, diode.afterpulsing) * RATES / 1e6
    np.testing.assert_allclose(found[:-1], REFERENCE[:-1, 1], rtol=1e-5, atol=5.1e-6)
