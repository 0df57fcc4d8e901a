"""Quantum illumination: exponents against the numeric Chernoff bound of the states, published ratios and limits."""

import jax
import numpy as np
import pytest
from slopes import gradient_error, once

from qtwin.core.errors import FieldError
from qtwin.modes.discrimination import chernoff_exponent
from qtwin.modes.gaussian import displace, thermal
from qtwin.modes.illumination import (
    amplifier_exponent,
    amplifier_gain,
    coherent_exponent,
    entangled_exponent,
    entangled_return,
    homodyne_exponent,
    without_target,
)

K = 1e-4
CASES = np.array([(0.01, 20.0), (1.0, 20.0), (0.3, 0.5), (2.0, 0.05), (0.1, 3.0), (0.02, 0.3)])


def decibel(x):
    return 10 * np.log10(float(x))


@pytest.mark.parametrize(
    ("signal", "background", "expected"), [(0.01, 20.0, 5.11), (1.0, 20.0, 1.36), (0.01, 0.001, 0.24)]
)
def test_published_ratios_to_coherent_light(signal, background, expected):
    ratio = entangled_exponent(K, signal, background) / coherent_exponent(K, signal, background)
    assert decibel(ratio) == pytest.approx(expected, abs=0.005)
    s, b = signal, background
    entangled = s * (1 + s) / (np.sqrt((1 + s) * (1 + b)) + np.sqrt(s * b)) ** 2
    assert float(ratio) == pytest.approx(entangled / (s * (np.sqrt(b + 1) - np.sqrt(b)) ** 2), rel=1e-9)


def test_limits_of_the_gain():
    """Dim signal in bright background: 6.02 dB at best, 3.01 dB with the amplifier; none without background."""
    bright = 1e-9, 1e6
    coherent = coherent_exponent(K, *bright)
    assert decibel(entangled_exponent(K, *bright) / coherent) == pytest.approx(decibel(4), abs=1e-3)
    assert decibel(amplifier_exponent(K, *bright) / coherent) == pytest.approx(decibel(2), abs=1e-3)
    assert decibel(entangled_exponent(K, 0.01, 0.0) / coherent_exponent(K, 0.01, 0.0)) == pytest.approx(0, abs=1e-12)


def test_homodyne_is_below_the_chernoff_bound_and_meets_it_in_bright_background():
    assert float(homodyne_exponent(K, 0.5, 0.3)) < float(coherent_exponent(K, 0.5, 0.3))
    assert homodyne_exponent(K, 0.5, 1e4) / coherent_exponent(K, 0.5, 1e4) == pytest.approx(1, abs=1e-7)


@once
def numeric(k, signal, background, storage):
    """Chernoff exponents over k of the states themselves: entangled and coherent."""
    states = without_target(signal, background, storage), entangled_return(k, signal, background, storage)
    noise = thermal(background[None])
    light = chernoff_exponent(noise, displace(noise, (k * signal) ** 0.5))
    return chernoff_exponent(*states) / k, light / k


@pytest.mark.parametrize("case", range(len(CASES)))
def test_exponents_against_the_numeric_bound(case):
    """k -> 0 by extrapolation of two small reflectivities: closed forms to 1e-4."""
    signal, background = CASES[case]
    one, other = (np.array(numeric(k, *CASES[case], 1.0)) for k in (1e-3, 2e-3))
    expected = 2 * one - other
    found = [entangled_exponent(1.0, signal, background), coherent_exponent(1.0, signal, background)]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_amplifier_receiver_against_geometric_counts():
    """Chernoff bound of M geometric counts with and without target, over k, at three gains; the best gain by search."""

    def mean(gain, target, k=1e-6, s=0.05, b=3.0):
        return gain * s + (gain - 1) * (1 + b) + target * 2 * np.sqrt(gain * (gain - 1) * k * s * (1 + s))

    def bound(gain, k=1e-6):
        n0, n1 = mean(gain, 0, k), mean(gain, 1, k)
        s = 0.5
        return np.log((1 + n0) ** s * (1 + n1) ** (1 - s) - n0**s * n1 ** (1 - s))

    for gain in (1.001, 1.02, 1.5):
        found = amplifier_exponent(1e-6, 0.05, 3.0, gain)
        assert found == pytest.approx(bound(gain), rel=1e-3)
    gains = 1 + np.geomspace(1e-5, 10, 2000)
    swept = once(jax.vmap(lambda g: amplifier_exponent(K, 0.05, 3.0, g)))(gains)
    assert amplifier_exponent(K, 0.05, 3.0) == pytest.approx(float(swept.max()), rel=1e-5)
    assert amplifier_gain(0.05, 3.0) == pytest.approx(gains[np.argmax(swept)], abs=2e-3)


def test_the_amplifier_loses_against_coherent_light_at_small_background_or_bright_signal():
    for signal, background in ((0.01, 0.001), (1.0, 20.0)):
        ratio = amplifier_exponent(K, signal, background) / coherent_exponent(K, signal, background)
        assert float(ratio) < 1
    assert not np.isfinite(amplifier_gain(1.0, 0.5))


def test_loss_of_the_stored_idler_lowers_the_exponent():
    background = np.asarray(3.0)
    assert float(numeric(0.01, 0.1, background, 0.5)[0]) < 0.6 * float(numeric(0.01, 0.1, background, 1.0)[0])


def test_gradients():
    def value(x):
        exponents = [f(*x) for f in (entangled_exponent, coherent_exponent, homodyne_exponent, amplifier_exponent)]
        return sum(e / 0.01 for e in exponents) + amplifier_gain(x[1], x[2])

    assert gradient_error(value, np.array([0.01, 0.05, 3.0])) < 1e-7


def test_bad_input_is_named():
    with pytest.raises(FieldError, match="signal: got 0"):
        entangled_exponent(0.1, 0.0, 1.0)
    with pytest.raises(FieldError, match=r"gain - 1: got -0\.5"):
        amplifier_exponent(0.1, 0.1, 1.0, 0.5)
