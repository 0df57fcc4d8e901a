"""Four-wave mixing as a source: phase matching, gain, rates and what is refused."""

import numpy as np
import pytest

from qtwin.core.errors import FieldError
from qtwin.source.four_wave import FourWaveMixing
from qtwin.source.sellmeier import LIGHT

VALUES = {
    "pump_wavelength": 1550e-9,
    "signal_wavelength": 1545.6e-9,
    "bandwidth": 0.8e-9,
    "peak_power": 0.3,
    "pulse_duration": 20e-12,
    "pulse_rate": 50e6,
    "length": 300.0,
    "nonlinearity": 2e-3,
    "beta2": -1e-28,
}


def fibre(**changes) -> FourWaveMixing:
    return FourWaveMixing(**(VALUES | changes))


def figures(state) -> dict:
    return {f.name: float(f.value) for f in state.figures()}


def wave(detuning):
    return 1 / (1 / 1550e-9 + detuning / (2 * np.pi * LIGHT))


def test_matched_detuning_of_anomalous_dispersion():
    """sqrt(2 gamma P/-beta2); there the gain is cosh^2(gamma P L); no second one."""
    w = np.sqrt(2 * 2e-3 * 0.3 / 1e-28)
    source = fibre(signal_wavelength=wave(w))
    found = figures(source)
    assert found["first matched detuning"] == pytest.approx(w, rel=1e-12)
    assert found["first matched wavelength, short"] == pytest.approx(wave(w), rel=1e-12)
    assert found["first matched wavelength, long"] == pytest.approx(wave(-w), rel=1e-12)
    assert found["parametric gain"] == pytest.approx(np.cosh(0.18) ** 2, rel=1e-9)
    assert found["phase mismatch"] == pytest.approx(0, abs=1e-6)
    assert "second matched detuning" not in found


@pytest.mark.parametrize(
    ("beta2", "beta4", "pairs"), [(-1e-28, 5e-55, 2), (2e-27, -2e-55, 1), (-1e-28, 5e-53, 0), (1e-28, 0.0, 0)]
)
def test_matched_detunings_are_the_roots_of_the_mismatch(beta2, beta4, pairs):
    """Two bands, one far band of normal dispersion, none."""
    source = fibre(beta2=beta2, beta4=beta4, bandwidth=1e-10, pulse_duration=2e-10, signal_wavelength=1549.9e-9)
    found = np.asarray(source.matched_detunings())
    roots = np.roots([beta4 / 12, beta2, 2 * 2e-3 * 0.3])
    real = np.sort(np.sqrt([x.real for x in roots if abs(x.imag) < 1e-9 * abs(x) and x.real > 0]))
    assert len(real) == pairs
    np.testing.assert_allclose(np.sort(found[found > 0]), real, rtol=1e-9)
    for w in real:
        assert abs(float(source.mismatch(w))) < 1e-9 * max(1e-3, abs(beta2) * w**2)


def test_energy_is_conserved():
    found = figures(fibre())
    assert 1 / 1545.6e-9 + 1 / found["idler wavelength"] == pytest.approx(2 / 1550e-9, rel=1e-12)
    assert found["detuning of the signal"] > 0
    assert figures(fibre(signal_wavelength=1554.4e-9))["detuning of the signal"] < 0


def test_pairs_of_a_narrow_filter():
    """N duration x width pairs per pulse; many modes of N pairs each; average power P t f."""
    source = fibre(bandwidth=0.05e-9, pulse_duration=5e-9, pulse_rate=1e6)
    found, n = figures(source), float(source.pairs_per_mode())
    cells = 5e-9 * LIGHT * 0.05e-9 / 1545.6e-9**2
    assert found["pairs per pulse"] == pytest.approx(n * cells, rel=1e-4)
    assert found["pairs per second"] == pytest.approx(1e6 * found["pairs per pulse"], rel=1e-12)
    assert found["modes per pulse"] == pytest.approx(cells + 1 / np.pi, rel=1e-3)  # of a Gaussian |g1|^2
    assert found["photons per mode"] == pytest.approx(n, rel=0.02)
    assert found["average pump power"] == pytest.approx(1.5e-3, rel=1e-12)


def test_pairs_grow_with_the_square_of_the_power():
    rate = [float(fibre(peak_power=p).pairs_per_pulse()) for p in (1e-4, 2e-4)]
    assert rate[1] / rate[0] == pytest.approx(4, rel=1e-3)


def test_twin_beams_carry_losses_and_raman_photons():
    """The Raman photons that a user gives are background: they lower g11 and raise the noise reduction factor."""
    clean = figures(fibre(signal_efficiency=0.4, idler_efficiency=0.3))
    noisy = fibre(signal_efficiency=0.4, idler_efficiency=0.3, signal_background=0.02, idler_background=0.03)
    mean, _ = noisy.expect()
    pairs = float(noisy.pairs_per_pulse())
    np.testing.assert_allclose(mean, [0.4 * pairs + 0.02, 0.3 * pairs + 0.03], rtol=1e-12)
    dirty = figures(noisy)
    assert dirty["g11 of signal and idler"] < clean["g11 of signal and idler"]
    assert dirty["noise reduction factor"] > clean["noise reduction factor"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"signal_wavelength": 1549.9e-9}, "signal_wavelength, bandwidth: got a filter that holds the pump"),
        ({"signal_wavelength": 700e-9}, "signal_wavelength, bandwidth: .* longer than 775 nm"),
        ({"pulse_duration": 2e-12}, r"pulse_duration, bandwidth: got 0\.2.* accepted is 1 or more"),
        ({"signal_wavelength": 1500e-9}, "signal_wavelength: got 1500 nm, which is not phase matched; nearest"),
        ({"peak_power": 0.0}, "peak_power: got 0 W"),
        ({"beta2": np.nan}, "beta2: got nan"),
    ],
)
def test_sources_that_cannot_be_are_refused(changes, words):
    with pytest.raises(FieldError, match=words):
        fibre(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"signal_wavelength": 1500e-9},
        {"signal_wavelength": 1602e-9},
        {"signal_wavelength": 1400e-9, "beta2": 2e-27, "beta4": -2e-55},
    ],
)
def test_the_nearest_wavelength_that_is_named_works(changes):
    with pytest.raises(FieldError) as caught:
        fibre(**changes)
    nearest = float(str(caught.value).rsplit(" ", 2)[1])
    assert fibre(**changes | {"signal_wavelength": nearest * 1e-9})
    assert (nearest < 1550) == (changes["signal_wavelength"] < 1550e-9)
