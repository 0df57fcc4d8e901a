"""Squeezed noise behind loss, angle and phase noise: closed form, the state, and an average over phases."""

import numpy as np
import pytest
from slopes import gradient_error, once

from qtwin.core.errors import FieldError
from qtwin.modes.gaussian import VACUUM, squeezed, squeezing_parameter
from qtwin.modes.operations import loss, quadrature
from qtwin.modes.squeezing import detected_noise, squeezing_db


def test_ten_decibel_behind_loss():
    """10 dB at eta = 0.8: 5.53 dB; no loss 10 dB; cap -10 log10(1 - eta)."""
    assert squeezing_db(detected_noise(10.0, 10.0, 0.8)) == pytest.approx(5.5284, abs=5e-5)
    assert squeezing_db(detected_noise(10.0, 14.0, 1.0)) == pytest.approx(10, rel=1e-12)
    assert squeezing_db(detected_noise(90.0, 90.0, 0.8)) == pytest.approx(-10 * np.log10(0.2), abs=1e-6)


@pytest.mark.parametrize("angle", [0.0, 0.35, np.pi / 2])
def test_the_gaussian_state_has_the_same_noise(angle):
    """Squeezed at 0.5 rad, read 0.5 + angle: V- cos^2 + V+ sin^2 behind the loss, over the vacuum's."""
    read = once(lambda db, t: quadrature(loss(squeezed(squeezing_parameter(db), 0.5), 0.7), 0, 0.5 + t)[1])
    assert detected_noise(8.0, 8.0, 0.7, angle) == pytest.approx(float(read(8.0, angle)) / VACUUM, rel=1e-12)


def test_phase_noise_mixes_in_the_antisqueezing():
    """Average over a normal phase, by quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    angles = 0.1 + 0.2 * nodes
    low, high = 10**-1.0, 10**1.5
    average = weights @ (low * np.cos(angles) ** 2 + high * np.sin(angles) ** 2) / weights.sum()
    assert detected_noise(10.0, 15.0, 0.9, 0.1, 0.2) == pytest.approx(0.9 * average + 0.1, rel=1e-12)


def test_gradients():
    def value(x):
        return squeezing_db(detected_noise(*x))

    assert gradient_error(value, np.array([6.0, 9.0, 0.8, 0.2, 0.1])) < 1e-7


def test_bad_input_is_named():
    with pytest.raises(FieldError, match=r"efficiency: got 1\.2"):
        detected_noise(3.0, 3.0, 1.2)
