"""Coincidences against brute force, drawn times and closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from qtwin.core.errors import FieldError
from qtwin.correlation import Coincidence
from qtwin.correlation.coincidence import car, count, klyshko


def brute(first, second, window):
    """Pairs with -window/2 <= t2 - t1 < window/2 (an odd window is one tick longer above)."""
    apart = second[None, :] - first[:, None]
    return np.sum((apart >= -(window // 2)) & (apart < window - window // 2), axis=1)


@pytest.mark.parametrize("window", [1, 2, 7, 50, 1000])
def test_count_is_brute_force(window):
    rng = np.random.default_rng(101)
    first, second = np.sort(rng.integers(0, 20_000, 700)), np.sort(rng.integers(-50, 20_050, 900))
    found = count(first, second, window)
    np.testing.assert_array_equal(found, brute(first, second, window))
    assert found.max() > 1 or window < 50  # all pairs, not one to one


def test_half_open_edges():
    """[-5, 5): five ticks early counts, five ticks late does not; every partner of a click is counted."""
    first = np.array([100])
    assert [int(count(first, np.array([100 + d]), 10)[0]) for d in (-6, -5, 0, 4, 5)] == [0, 1, 1, 1, 0]
    np.testing.assert_array_equal(count(np.array([100, 103]), np.array([99, 104, 104]), 10), [3, 3])


def test_neighbouring_windows_share_no_pair():
    """Shifting by the full width tiles the axis of delays: no pair lost, none twice."""
    rng = np.random.default_rng(102)
    first, second = np.sort(rng.integers(0, 5000, 300)), np.sort(rng.integers(0, 5000, 200))
    total = sum(count(first + shift, second, 9).sum() for shift in range(-9 * 600, 9 * 600, 9))
    assert total == 300 * 200


@pytest.mark.parametrize("window", [0.2e-9, 0.7e-9, 3e-9])
def test_capture_of_drawn_jitter(window):
    """Unequal normal jitters, given as full widths at half maximum."""
    rng = np.random.default_rng(103)
    n, to_std = 400_000, 1 / (2 * np.sqrt(2 * np.log(2)))
    delay = rng.normal(0, 350e-12 * to_std, n) - rng.normal(0, 600e-12 * to_std, n)
    p = float(Coincidence(window=window).capture(jnp.asarray(350e-12), jnp.asarray(600e-12)))
    assert abs(np.mean(np.abs(delay) < window / 2) - p) / np.sqrt(max(p * (1 - p), 1 / n) / n) < 4
    assert abs(np.mean(np.abs(delay) < window) - p) / np.sqrt(max(p * (1 - p), 1 / n) / n) > 4 or p > 0.9999


def test_capture_limits():
    gate = Coincidence(window=1e-9)
    nothing = jnp.asarray(0.0)
    assert float(gate.capture(nothing, nothing)) == 1  # no jitter
    narrow = float(gate.capture(jnp.asarray(1e-3), nothing))  # tau_w times the density at zero delay
    assert narrow == pytest.approx(1e-9 / (1e-3 / 2.354820045 * np.sqrt(2 * np.pi)), rel=1e-6)
    one = float(gate.capture(jnp.asarray(1e-9), nothing))  # window equal to the width: erf(sqrt(ln 2))
    assert one == pytest.approx(erf(np.sqrt(np.log(2))), rel=1e-9)


def test_a_window_without_width_is_refused():
    with pytest.raises(FieldError, match="window"):
        Coincidence(window=0.0)


def test_accidentals_of_two_independent_streams():
    """A = S_s S_i tau_w/T, Poisson but for pairs that share a click: Var A = A (1 + (S_s + S_i) tau_w/T)."""
    time, window = 1e-3, 4000
    rng = np.random.default_rng(104)
    found, expected, variance = [], [], []
    for _ in range(40):
        s, i = (np.sort(rng.integers(0, int(time * 1e12), rng.poisson(r * time))) for r in (3e7, 2e7))
        found.append(count(s, i, window).sum())
        expected.append(float(Coincidence(window=window * 1e-12).accidentals(len(s), len(i), time)))
        variance.append(expected[-1] * (1 + 5e7 * window * 1e-12))
    assert abs(np.sum(found) - np.sum(expected)) / np.sqrt(np.sum(variance)) < 4
    assert abs(np.sum(found) - 2 * np.sum(expected)) / np.sqrt(np.sum(variance)) > 4  # a half-width would be noticed


def test_klyshko_gives_the_efficiency_of_the_other_arm():
    """Means of 1e6 pairs, eta 0.3 and 0.7, with accidentals and dark counts: eta_i from the signal's singles."""
    pairs, eta_s, eta_i, dark, accidental = 1e6, 0.3, 0.7, 4e4, 900.0
    c = pairs * eta_s * eta_i + accidental
    assert klyshko(c, accidental, pairs * eta_s + dark, dark) == pytest.approx(eta_i, rel=1e-12)


def test_klyshko_of_drawn_pairs():
    rng = np.random.default_rng(105)
    s, i = rng.random(500_000) < 0.3, rng.random(500_000) < 0.7
    estimate = klyshko((s & i).sum(), 0, s.sum(), 0)
    assert abs(estimate - 0.7) / np.sqrt(0.7 * 0.3 / s.sum()) < 4


@pytest.mark.parametrize(("mu", "eta", "dark", "expected"), [(0.001, 0.1, 1e-5, 827.45), (0.1, 0.3, 0.0, 11.0)])
def test_car_values(mu, eta, dark, expected):
    assert car(mu, eta, eta, dark, dark) == pytest.approx(expected, abs=0.005)


def test_car_of_drawn_gates():
    """Unequal arms: <n_s n_i>/(<n_s><n_i>) of Poisson pairs and dark counts."""
    rng, n = np.random.default_rng(106), 2_000_000
    pairs = rng.poisson(0.2, n)
    s = rng.binomial(pairs, 0.5) + rng.poisson(0.03, n)
    i = rng.binomial(pairs, 0.25) + rng.poisson(0.01, n)
    ratio = np.mean(s * i) / (0.13 * 0.06)
    assert abs(ratio - car(0.2, 0.5, 0.25, 0.03, 0.01)) / (np.std(s * i) / (0.13 * 0.06) / np.sqrt(n)) < 4


def test_car_without_light_is_one():
    assert car(0.0, 0.5, 0.25, 0.03, 0.01) == 1
