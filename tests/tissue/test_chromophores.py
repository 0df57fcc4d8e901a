"""Absorption by wavelength against the published tables, and the tables' own rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qtwin.core.errors import UserError
from qtwin.tissue.chromophores import NAMES, absorption, blood, table

NM = 1e-9


def published(folder, name):
    return np.genfromtxt(folder / "chromophores" / name, delimiter=",", skip_header=1).T


def test_haemoglobin_is_within_one_percent_of_the_compilation(reference_data):
    nm, oxy, deoxy = published(reference_data, "mne_prahl_Hb_extinction.csv")
    oxy, deoxy, nm = oxy[nm >= 400], deoxy[nm >= 400], nm[nm >= 400]
    concentration = 100 * np.log(10) * 150 / 64500  # 150 g/L; 1/cm
    np.testing.assert_allclose(absorption("oxyhaemoglobin", nm * NM), oxy * concentration, rtol=0.0101)
    np.testing.assert_allclose(absorption("deoxyhaemoglobin", nm * NM), deoxy * concentration, rtol=0.0101)


@pytest.mark.parametrize(
    ("name", "file", "rtol", "digit"),  # half of the last digit that the file prints, 1/cm
    [
        ("oxyhaemoglobin", "simpa_Oxyhemoglobin.csv", 0.015, 0.005),
        ("deoxyhaemoglobin", "simpa_Deoxyhemoglobin.csv", 0.015, 0.005),
        ("water", "simpa_Water.csv", 0.001, 5e-4),
        ("fat", "simpa_Fat.csv", 0.0101, 0.0),
        ("melanin", "simpa_Melanin.csv", 0.001, 0.5),
        ("skin_baseline", "simpa_Skin_Baseline.csv", 0.001, 0.0),
    ],
)
def test_pure_chromophores_agree_with_another_compilation(reference_data, name, file, rtol, digit):
    nm, mu_a = published(reference_data, file)
    np.testing.assert_allclose(absorption(name, nm * NM), 100 * mu_a, rtol=rtol, atol=100 * digit)


def test_both_haemoglobins_absorb_alike_near_800_nm():
    nm = np.arange(790.0, 811.0, 0.5)
    difference = np.asarray(absorption("oxyhaemoglobin", nm * NM) - absorption("deoxyhaemoglobin", nm * NM))
    crossings = nm[1:][np.diff(np.sign(difference)) != 0]
    assert len(crossings) == 1 and 796 <= crossings[0] <= 806


def test_blood_is_linear_in_saturation_and_haemoglobin():
    parts = [float(absorption(name, 690 * NM)) for name in NAMES[:2]]
    np.testing.assert_allclose(blood(690 * NM, 0.3, 75.0), 0.5 * (0.3 * parts[0] + 0.7 * parts[1]), rtol=1e-12)
    np.testing.assert_allclose(absorption("oxyhaemoglobin", 800 * NM), 100 * np.log(10) * 816 * 150 / 64500, rtol=0.01)


@pytest.mark.parametrize(("low", "high", "peak"), [(930, 1010, 972), (1130, 1260, 1197), (1400, 1520, 1450)])
def test_water_has_its_three_bands(low, high, peak):
    nm = np.arange(low, high)
    assert abs(nm[np.argmax(absorption("water", nm * NM))] - peak) <= 5


@pytest.mark.parametrize("name", NAMES)
def test_outside_its_range_a_table_says_what_it_holds(name):
    low, high = (float(edge) / NM for edge in table(name).wavelength[[0, -1]])
    for inside in (low, high):
        assert absorption(name, inside * NM) > 0
    for outside in (low - 1, high + 1, np.nan):
        with pytest.raises(UserError) as raised:
            absorption(name, np.array([600.0, outside]) * NM)
        assert f"holds {low:g} to {high:g} nm, got {outside:g} nm" in str(raised.value)
        assert np.isnan(jax.jit(lambda nm: absorption(name, nm * NM))(outside))


def test_text_of_a_wavelength_without_data():
    with pytest.raises(UserError, match=r"^table fat \(van Veen 2004\) holds 429 to 1098 nm, got 1310 nm$"):
        absorption("fat", 1310 * NM)
    with pytest.raises(UserError, match="unknown chromophore 'gold', accepted are oxyhaemoglobin"):
        absorption("gold", 500 * NM)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_by_the_wavelength(name):
    at, h = 811.3 * NM, 1e-4 * NM  # inside one interval of every table
    slope = jax.grad(lambda w: absorption(name, w))(jnp.asarray(at))
    np.testing.assert_allclose(slope, (absorption(name, at + h) - absorption(name, at - h)) / (2 * h), rtol=1e-6)
