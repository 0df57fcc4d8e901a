"""Indices and dispersion of plates and water against tables, finite differences and pulses on a grid."""

import csv

import jax.numpy as jnp
import numpy as np
import pytest
from slopes import check_slopes

from qtwin.core.errors import FieldError, UserError
from qtwin.optics.dispersion import (
    LIGHT,
    MATERIALS,
    Plate,
    dispersed_width,
    group_index,
    group_velocity_dispersion,
    propagation,
    refractive_index,
)

FILES = {
    "fused silica": "main/SiO2/nk/Malitson.yml",
    "sapphire o": "main/Al2O3/nk/Malitson-o.yml",
    "sapphire e": "main/Al2O3/nk/Malitson-e.yml",
    "quartz o": "main/SiO2/nk/Ghosh-o.yml",
    "quartz e": "main/SiO2/nk/Ghosh-e.yml",
    "water": "main/H2O/nk/Daimon-20.0C.yml",
}


def test_formulas_against_the_table(reference_data):
    """refractiveindex.info formulas 1 (resonances) and 2 (their squares), six materials, four wavelengths."""
    with open(reference_data / "sellmeier" / "sellmeier_table.csv") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    um = np.array([0.405, 0.589, 0.81, 1.1])
    for material, name in FILES.items():
        first, *rest = (float(c) for c in rows[name]["coefficients"].split())
        power = 2 if rows[name]["formula_number"] == "1" else 1
        n2 = 1 + first + sum(a * um**2 / (um**2 - b**power) for a, b in zip(rest[::2], rest[1::2], strict=True))
        np.testing.assert_allclose(refractive_index(material, jnp.asarray(um * 1e-6)), np.sqrt(n2), rtol=1e-12)


def test_n_bk7_at_the_lines_of_its_name():
    """517642: n_d = 1.51680, Abbe number 64.17."""
    d, f, c = (float(refractive_index("N-BK7", w * 1e-9)) for w in (587.5618, 486.1327, 656.2725))
    assert d == pytest.approx(1.51680, abs=5e-6)
    assert (d - 1) / (f - c) == pytest.approx(64.17, abs=0.01)


@pytest.mark.parametrize("material", MATERIALS)
def test_group_index_and_dispersion_are_derivatives(material):
    """n_g = n - l n', beta2 = l^3 n''/(2 pi c^2), both by central differences of n, and by those of beta(w)."""
    l0, h = 805e-9, 2e-9
    n = np.asarray(refractive_index(material, jnp.array([l0 - h, l0, l0 + h])))
    assert float(group_index(material, l0)) == pytest.approx(n[1] - l0 * (n[2] - n[0]) / (2 * h), rel=1e-6)
    curvature = (n[2] - 2 * n[1] + n[0]) / h**2
    beta2 = float(group_velocity_dispersion(material, l0))
    assert beta2 == pytest.approx(l0**3 * curvature / (2 * np.pi * LIGHT**2), rel=1e-4)
    omega = jnp.asarray(2 * np.pi * LIGHT / l0)
    assert float(propagation(material, omega, 1)) * LIGHT == pytest.approx(float(group_index(material, l0)), rel=1e-12)
    assert float(propagation(material, omega, 2)) == pytest.approx(beta2, rel=1e-9)


@pytest.mark.parametrize(
    ("material", "fs2_per_mm"), [("N-BK7", 44.65), ("fused silica", 36.16), ("sapphire o", 58.0), ("water", 24.8)]
)
def test_dispersion_at_800_nm(material, fs2_per_mm):
    """Values in common use (declared, from these formulas as tabulated by refractiveindex.info)."""
    assert float(group_velocity_dispersion(material, 800e-9)) * 1e27 == pytest.approx(fs2_per_mm, rel=5e-3)


def test_silica_has_no_dispersion_at_1273_nm():
    """Zero of beta2 at 1.2725 um (Malitson's formula), between 1.27 and 1.28 um."""
    low, high = (float(group_velocity_dispersion("fused silica", w)) for w in (1.270e-6, 1.276e-6))
    assert low > 0 > high


def test_a_plate_delays_and_broadens_a_pulse():
    """exp(i beta(w) L) on a Gaussian spectrum: arrival n_g L/c, width times sqrt(1 + 4 (beta2 L sigma^2)^2)."""
    plate, l0, sigma = Plate("5 mm", "N-BK7"), 810e-9, 2e13
    w0 = 2 * np.pi * LIGHT / l0
    n = 4096
    omega = w0 + (np.arange(n) - n / 2) * sigma * 16 / n
    spectrum = np.exp(-((omega - w0) ** 2) / (4 * sigma**2)) * np.asarray(plate.amplitude(jnp.asarray(omega)))
    delay = float(plate.delay(l0))
    spectrum = spectrum * np.exp(-1j * (omega - w0) * delay)
    t = np.fft.fftshift(np.fft.fftfreq(n, sigma * 16 / n / (2 * np.pi)))
    p = np.abs(np.fft.fftshift(np.fft.fft(spectrum))) ** 2
    p /= p.sum()
    mean = p @ t
    width = np.sqrt(p @ (t - mean) ** 2)
    chirp = float(group_velocity_dispersion("N-BK7", l0)) * 5e-3 * sigma**2
    third = float(propagation("N-BK7", jnp.asarray(w0), 3)) * 5e-3
    # the third order shifts the mean by beta3 L sigma^2/2 and adds (beta3 L sigma^2)^2/2 to the variance
    assert abs(mean) == pytest.approx(abs(third) * sigma**2 / 2, rel=1e-2)
    expected = np.sqrt((1 + 4 * chirp**2) / (4 * sigma**2) + (third * sigma**2) ** 2 / 2)
    assert width == pytest.approx(expected, rel=1e-4)
    assert delay == pytest.approx(1.5247 * 5e-3 / LIGHT, rel=1e-3)


def test_oct_envelope_broadens_by_the_law():
    """|int S(w) exp(i W t + i beta2 L W^2/2) dW| of a Gaussian S: width times sqrt(1 + (beta2 L sigma^2)^2)."""
    sigma, beta2, length = 3e13, 40e-27, 20e-3
    w = np.linspace(-8, 8, 4001) * sigma
    t = np.linspace(-400e-15, 400e-15, 401)
    s = np.exp(-(w**2) / (2 * sigma**2))
    envelopes = [np.abs(np.exp(1j * np.outer(t, w)) @ (s * np.exp(0.5j * b * w**2))) for b in (0, beta2 * length)]
    widths = [np.sqrt(np.sum(e * t**2) / np.sum(e)) for e in envelopes]
    assert widths[1] / widths[0] == pytest.approx(float(dispersed_width(beta2, length, jnp.asarray(sigma))), rel=1e-6)
    assert float(dispersed_width(beta2, jnp.asarray(0.0), sigma)) == 1


def test_bad_input_is_one_clear_line():
    with pytest.raises(UserError, match=r"1200 nm, the water set .* holds from 182 to 1129 nm"):
        refractive_index("water", 1.2e-6)
    with pytest.raises(UserError, match="got 'glass', accepted are N-BK7"):
        group_index("glass", 8e-7)
    with pytest.raises(FieldError, match="material: got 'glass'"):
        Plate("1 mm", "glass")
    with pytest.raises(FieldError, match="thickness"):
        Plate("-1 mm")


def test_slopes_by_thickness_and_wavelength():
    def read(x):
        plate, l0 = Plate(x[0] * 1e-3, "sapphire o"), x[1] * 8e-7
        beta2 = group_velocity_dispersion("water", l0)
        lengths = [plate.delay(l0) * 1e12, plate.reduced_thickness(l0) * 1e3]
        phase = plate.phase(2 * jnp.pi * LIGHT / l0) * 1e-4
        rest = [group_index("N-BK7", l0), beta2 * 1e27, dispersed_width(beta2, x[0] * 0.1, x[2] * 2e13)]
        return jnp.stack([*lengths, phase, *rest])

    check_slopes(read, jnp.array([1.1, 1.01, 0.9]))
