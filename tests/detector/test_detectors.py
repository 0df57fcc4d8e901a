"""Dead time, dark counts and read-out against closed forms, a plain loop and drawn events."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qtwin.core.errors import FieldError, UserError
from qtwin.detector import Camera, SinglePhoton
from qtwin.detector.single_photon import (
    FWHM,
    efficiency_at,
    live_fraction,
    overbias_factor,
    paralysable_rate,
)

TAU = 50e-9


def device(**changes) -> SinglePhoton:
    return SinglePhoton(**({"efficiency": 0.6, "dark_rate": 250.0, "dead_time": TAU, "jitter": 350e-12} | changes))


def test_dead_time_laws():
    """50 ns at 5e6 events/s: 4.000e6 clicks/s, or 3.894e6 where the dead time starts anew."""
    assert 5e6 * live_fraction(5e6, TAU) == pytest.approx(4.000e6, abs=500)
    assert float(paralysable_rate(5e6, TAU)) == pytest.approx(3.894e6, abs=500)


def test_dead_time_limits():
    assert live_fraction(5e6, 0.0) == 1 and live_fraction(0.0, TAU) == 1
    assert 1e15 * live_fraction(1e15, TAU) == pytest.approx(1 / TAU, rel=1e-6)  # saturates at one click per dead time
    slope = jax.grad(lambda n: paralysable_rate(n, TAU))(1 / TAU)
    assert float(slope) == pytest.approx(0, abs=1e-12)  # the paralysable law peaks there


def test_live_fraction_of_light_and_dark():
    """1/(1 + (eta phi + D) tau), 2e6 photons/s for 3 s on two elements, one of them dark."""
    live = jax.jit(lambda d, light: d.live(light, 3.0))(device(dark_rate=1e5), jnp.asarray([6e6, 0.0]))
    np.testing.assert_allclose(live, [1 / (1 + (1.2e6 + 1e5) * TAU), 1 / (1 + 1e5 * TAU)], rtol=1e-12)


def test_events_are_light_and_dark():
    np.testing.assert_allclose(device().events(jnp.asarray([0.0, 1000.0]), 2.0), [500.0, 1100.0])


def test_camera_mean():
    camera = Camera(efficiency=0.9, read_noise=4.0, dark_rate=3.0, full_well=1e5)
    np.testing.assert_allclose(camera.mean(jnp.asarray([0.0, 200.0]), 0.5), [1.5, 181.5])


@pytest.mark.parametrize(
    ("name", "value"), [("efficiency", 0.0), ("efficiency", 1.1), ("dead_time", -1e-9), ("jitter", -1e-12)]
)
def test_devices_that_cannot_be_are_refused(name, value):
    with pytest.raises(FieldError, match=name):
        device(**{name: value})


def test_full_width_of_a_normal_law():
    assert FWHM == pytest.approx(2 * np.sqrt(2 * np.log(2)), rel=1e-9)


NM = np.array([450, 700, 830]) * 1e-9
CURVE = np.array([0.3, 0.7, 0.5])


def test_efficiency_against_wavelength_is_linear_between_rows():
    found = efficiency_at(jnp.asarray([450e-9, 500e-9, 830e-9]), NM, CURVE)
    np.testing.assert_allclose(found, [0.3, 0.38, 0.5], rtol=1e-12)
    slope = jax.grad(lambda w: efficiency_at(w, NM, CURVE))(jnp.asarray(810e-9))
    np.testing.assert_allclose(slope, -0.2 / 130e-9, rtol=1e-9)
    device(efficiency=efficiency_at(810e-9, NM, CURVE))


@pytest.mark.parametrize("wavelength", [449e-9, 831e-9, np.nan])
def test_a_curve_is_not_extrapolated(wavelength):
    with pytest.raises(UserError, match="450 to 830 nm"):
        efficiency_at(wavelength, NM, CURVE)


@pytest.mark.parametrize(("wavelengths", "values"), [(NM[::-1], CURVE), (NM, CURVE[:2]), (NM, [0.3, 1.2, 0.5])])
def test_curves_that_cannot_be_are_refused(wavelengths, values):
    with pytest.raises(UserError, match="accepted"):
        efficiency_at(500e-9, wavelengths, values)


def test_efficiency_saturates_with_the_excess_bias():
    """Proportional to it when small, 1 - 1/e of all at the scale, constant when large; 1 at the reference."""
    factor = overbias_factor(jnp.asarray([0.01, 2.0, 5.0, 400.0]), 2.0, 5.0)
    full = 1 / -np.expm1(-2.5)
    np.testing.assert_allclose(factor, full * np.array([0.005, 1 - np.exp(-1), 1 / full, 1]), rtol=3e-3)
    slope = jax.grad(overbias_factor)(3.0, 2.0, 5.0)
    np.testing.assert_allclose(slope, full * np.exp(-1.5) / 2, rtol=1e-12)


def test_variance_of_a_single_photon_device():
    """n t/(1 + n tau)^3 for n = eta phi + D, 2e6 photons/s for 3 s."""
    rate = 1.2e6 + 250
    variance = jax.jit(lambda d: d.variance(6e6, 3.0))(device())
    np.testing.assert_allclose(variance, 3 * rate / (1 + rate * TAU) ** 3, rtol=1e-12)
