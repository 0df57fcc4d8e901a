"""OCT and quantum OCT: widths, dispersion of even and odd order, artefacts between layers."""

import numpy as np
import pytest
from slopes import gradient_error, once

from qtwin.core.errors import FieldError
from qtwin.modes.coherence_tomography import (
    dispersion_broadening,
    layered_response,
    oct_interferogram,
    quantum_oct_interferogram,
)

LIGHT = 299792458.0
CARRIER = 2 * np.pi * LIGHT / 810e-9
SIGMA = 2 * np.pi * LIGHT * 10e-9 / 810e-9**2 / np.sqrt(8 * np.log(2))  # 10 nm FWHM, rad/s
OFFSETS = np.linspace(-7, 7, 401) * SIGMA
SPECTRUM = np.exp(-(OFFSETS**2) / (2 * SIGMA**2))
DELAYS = np.linspace(-8, 8, 1601) / SIGMA


@once
def scans(reflections, delays, beta2, beta3):
    """(OCT envelope, quantum OCT) on DELAYS."""
    h = layered_response(OFFSETS, CARRIER, reflections, delays, beta2, beta3)
    one = oct_interferogram(h, SPECTRUM, OFFSETS, DELAYS)
    return abs(one), quantum_oct_interferogram(h, SPECTRUM, OFFSETS, DELAYS)


def mirror(beta2=0.0, beta3=0.0):
    return [np.asarray(x) for x in scans(np.array([1.0]), np.array([0.0]), beta2, beta3)]


def full_width(height):
    """Full width at half maximum on DELAYS, s."""
    above = np.flatnonzero(height >= height.max() / 2)
    ends = []
    for inside, outside in ((above[0], above[0] - 1), (above[-1], above[-1] + 1)):
        f = (height[inside] - height.max() / 2) / (height[inside] - height[outside])
        ends.append(DELAYS[inside] + f * (DELAYS[outside] - DELAYS[inside]))
    return ends[1] - ends[0]


def test_depth_resolution_at_810_nm_and_10_nm():
    """Depth c tau/2 in vacuum: 28.95 um with one photon, 14.48 um with pairs."""
    one, two = mirror()
    assert full_width(one) * LIGHT / 2 * 1e6 == pytest.approx(28.95, abs=0.01)
    assert full_width(1 - two) * LIGHT / 2 * 1e6 == pytest.approx(14.48, abs=0.01)


def test_even_order_dispersion_cancels_with_pairs_and_broadens_oct():
    """B2 sigma^2 = 2 of the round trip: OCT by sqrt 5, quantum OCT not at all and at full depth."""
    one, two = mirror(beta2=2 / SIGMA**2)
    clear_one, clear_two = mirror()
    assert full_width(one) / full_width(clear_one) == pytest.approx(np.sqrt(5), rel=2e-4)
    assert dispersion_broadening(2 / SIGMA**2, SIGMA) == pytest.approx(np.sqrt(5), rel=1e-12)
    np.testing.assert_allclose(two, clear_two, atol=1e-12)


def test_odd_order_dispersion_does_not_cancel():
    _, two = mirror(beta3=1 / SIGMA**3)
    assert two.min() > 0.05
    assert np.abs(two - two[::-1]).max() > 0.1


TWO = np.array([0.3, 0.2])


def placed(turns):
    """Round trips of two layers about 12/SIGMA apart, w0 times their difference being ``turns`` of 2 pi."""
    gap = 2 * np.pi / CARRIER * (round(CARRIER * 12 / SIGMA / (2 * np.pi)) + turns)
    return np.array([-gap / 2, gap / 2])


def dip(scan, delay):
    """Depth (positive) at a delay below the level sum r_j^2."""
    return float(np.sum(TWO**2) - np.interp(delay, DELAYS, scan))


@pytest.mark.parametrize("turns", [0.0, 0.25, 0.5, 0.8])
def test_artefact_between_two_layers(turns):
    """Dips r_j^2 at the layers; midway 2 r_1 r_2 cos(w0 dtau), dtau the difference of round trips, 2 w0 the pump."""
    layers = placed(turns)
    scan = np.asarray(scans(TWO, layers, 0.0, 0.0)[1])
    np.testing.assert_allclose([dip(scan, tau) for tau in layers], [0.09, 0.04], atol=2e-5)
    assert dip(scan, 0.0) == pytest.approx(0.12 * np.cos(2 * np.pi * turns), abs=1e-6)


def test_dispersion_between_layers_cancels_in_the_dips_and_blurs_the_artefact():
    """B2 sigma^2 = 2 of layer 2 alone: dips keep width and depth, the artefact becomes Re (1 - 2i)^-1/2 of itself."""
    layers = placed(0.0)
    clear, between, shared = (
        np.asarray(scans(TWO, layers, beta2, 0.0)[1]) for beta2 in (0.0, np.array([0.0, 2 / SIGMA**2]), 2 / SIGMA**2)
    )
    far = abs(DELAYS) > 5 / SIGMA
    np.testing.assert_allclose(between[far], clear[far], atol=2e-5)
    assert dip(between, 0.0) / dip(clear, 0.0) == pytest.approx(((1 - 2j) ** -0.5).real, rel=1e-5)
    np.testing.assert_allclose(shared, clear, atol=1e-12)


def test_oct_shows_each_layer_with_its_reflection():
    one = np.asarray(scans(TWO, placed(0.3), 0.0, 0.0)[0])
    np.testing.assert_allclose(np.interp(placed(0.3), DELAYS, one), [0.3, 0.2], rtol=1e-4)


def test_gradients():
    """By reflection, delay and dispersion of both kinds of scan, in units of the bandwidth."""
    w = np.linspace(-5, 5, 61)
    s = np.exp(-(w**2) / 2)

    def value(x):
        h = layered_response(w, 40.0, x[:2], x[2:4], x[4], x[5])
        one = oct_interferogram(h, s, w, x[6:])
        return abs(one[0]) + 2 * quantum_oct_interferogram(h, s, w, x[6:])[0] + dispersion_broadening(x[4], 1.0)

    assert gradient_error(value, np.array([0.3, 0.2, 0.1, 0.7, 0.4, 0.2, 0.15])) < 1e-6


def test_bad_input_is_named():
    with pytest.raises(FieldError, match="offsets: got a grid that is not symmetric"):
        quantum_oct_interferogram(np.ones(4), np.ones(4), np.arange(4.0), np.zeros(1))
