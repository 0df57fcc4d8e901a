"""Compositions, the user's own tables, and both in a configuration."""

from dataclasses import fields

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from qtwin.core.config import build, compose, plain
from qtwin.core.errors import UserError
from qtwin.core.explain import explain
from qtwin.info import info
from qtwin.tissue import Composition, Slab, composition, optical
from qtwin.tissue.chromophores import absorption
from qtwin.tissue.media import names
from qtwin.tissue.presets import PRESETS

NM = 1e-9
WRITTEN = ("skin", "breast_adipose", "breast_fibroglandular", "breast_tumour", "head")


def test_scattering_at_500_nm_is_a():
    for f_ray in (0.0, 0.3, 1.0):
        tissue = Composition("20 1/cm", 1.3, 0.9, 1.4, f_ray)
        np.testing.assert_allclose(tissue.reduced_scattering(500 * NM), 2000, rtol=1e-12)
        np.testing.assert_allclose(tissue.optical(500 * NM).mu_s, 20000, rtol=1e-12)


def test_scattering_is_the_sum_of_both_powers():
    tissue = Composition("20 1/cm", 1.3, 0.9, 1.4, 0.25)
    expected = 2000 * (0.25 * 1.6**-4 + 0.75 * 1.6**-1.3)
    np.testing.assert_allclose(tissue.reduced_scattering(800 * NM), expected, rtol=1e-12)


def test_the_mean_breast_of_the_default_tissue():
    """conf/tissue/breast.yaml states mu_s = 10.10 /mm at 810 nm for a = 16.8 /cm, b = 1.055, g = 0.9."""
    assert float(Composition("16.8 1/cm", 1.055, 0.9, 1.4).optical(810 * NM).mu_s) == pytest.approx(10100, rel=1e-3)


def test_absorption_adds_up():
    tissue = Composition(
        "1 1/mm", 1.0, 0.9, 1.4, blood=0.02, saturation=0.6, haemoglobin="120 g/L", water=0.5, fat=0.3, melanin=0.01
    )
    oxy, deoxy, water, fat, melanin = (
        float(absorption(name, 750 * NM)) for name in ("oxyhaemoglobin", "deoxyhaemoglobin", "water", "fat", "melanin")
    )
    expected = 0.02 * 0.8 * (0.6 * oxy + 0.4 * deoxy) + 0.5 * water + 0.3 * fat + 0.01 * melanin
    np.testing.assert_allclose(tissue.mu_a(750 * NM), expected, rtol=1e-12)


def test_gradient_by_the_wavelength():
    """Those by the fields are in the battery of tests/test_elements.py."""
    tissue = Composition("2 1/mm", 1.3, 0.8, 1.4, 0.2, 0.02, 0.7, 150.0, 0.5, 0.2, 0.01, 0.4)

    def read(wavelength):
        o = tissue.optical(wavelength)
        return jnp.log(o.mu_a) + 0.3 * jnp.log(o.mu_s)

    at, h = 811.3 * NM, 1e-3 * NM
    slope = jax.grad(read)(jnp.asarray(at))
    np.testing.assert_allclose(slope, (read(at + h) - read(at - h)) / (2 * h), rtol=1e-6)


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_number_of_a_preset_has_its_source(name):
    accepted = {f.name for f in fields(Composition)}
    assert set(PRESETS[name]) <= accepted and all(len(source) > 4 for _, source in PRESETS[name].values())
    tissue = composition(name)
    assert float(tissue.blood + tissue.water + tissue.fat + tissue.melanin) <= 1.0001


@pytest.mark.parametrize("name", names())
def test_every_medium_has_properties_of_tissue(name):
    for nm in (690, 810):
        o = optical(name, nm * NM)
        assert (
            0.1 < float(o.mu_a) < 1000 and 50 < float(o.mu_s) < 1e5 and 0.5 < float(o.g) < 1 and 1.3 < float(o.n) < 1.5
        )


def test_absent_constituents_do_not_bound_the_wavelength():
    assert float(optical("csf", 1450 * NM).mu_a) == pytest.approx(3270, rel=0.01)
    with pytest.raises(
        UserError, match=r"^medium 'dermis': table haemoglobin \(Prahl\) holds 400 to 1000 nm, got 1310"
    ):
        optical("dermis", 1310 * NM)
    with pytest.raises(UserError, match=r"^table grey_matter holds 670 to 1064 nm, got 633 nm$"):
        optical("grey_matter", 633 * NM)
    with pytest.raises(
        UserError, match=r"^unknown medium 'bone', accepted are epidermis, dermis, .*or the path of a CSV"
    ):
        optical("bone", 810 * NM)


TABLE = """# phantom, lot 7
wavelength,mu_a,mu_s,g,n

nm,1/cm,1/mm,1,
633,0.4,12,0.85,1.4
810,0.2,9,0.8,1.38
"""


def test_a_table_of_the_user(tmp_path):
    file = tmp_path / "phantom.csv"
    file.write_text(TABLE)
    np.testing.assert_allclose(optical(str(file), 810 * NM), (20, 9000, 0.8, 1.38), rtol=1e-12)
    np.testing.assert_allclose(optical(str(file), 721.5 * NM), (30, 10500, 0.825, 1.39), rtol=1e-12)
    other = tmp_path / "other.csv"
    other.write_text("n,g,mu_s,mu_a,wavelength\n1,1,1/m,1/m,um\n1.4,-0.2,5,3,0.81\n")
    np.testing.assert_allclose(optical(str(other), 810 * NM), (3, 5, -0.2, 1.4), rtol=1e-12)
    with pytest.raises(UserError, match=r"phantom\.csv' holds 633 to 810 nm, got 900 nm"):
        optical(str(file), 900 * NM)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("0.4,12", "nan,12", "line 5: mu_a is nan, accepted is a value 0 or greater"),
        ("0.4,12", "-0.4,12", "line 5: mu_a is -0.4, accepted is a value 0 or greater"),
        ("0.2,9,", "0.2,inf,", "line 6: mu_s is inf, accepted is a value 0 or greater"),
        ("0.2,9,0.8", "0.2,9,1", "line 6: g is 1, accepted is a value between -1 and 1, both excluded"),
        ("0.2,9,0.8", "0.2,9,-1", "line 6: g is -1, accepted is a value between -1 and 1, both excluded"),
        ("1.38", "0.9", "line 6: n is 0.9, accepted is a value 1 or greater"),
        ("1.38", "", "line 6: n is '', expected a number"),
        ("1.38", "1,38", "line 6: got 6 values for 5 columns"),
        ("633", "-633", "line 5: wavelength is -633, accepted is a value greater than 0"),
        ("633", "810", "line 6: wavelengths must increase from row to row"),
        ("633", "900", "line 6: wavelengths must increase from row to row"),
        ("mu_s,g", "g", "line 2: column 'mu_s' is missing, the header must hold wavelength,mu_a,mu_s,g,n"),
        ("mu_s,g", "mu_s,mu_s,g", "line 2: column 'mu_s' stands there twice"),
        ("mu_s,g", "mu_s,colour,g", "line 2: unknown column 'colour'"),
        ("1/cm", "1/kg", "line 4: unit of 'mu_a': got '1/kg', expected one that converts to 1/m"),
        ("1/cm", "1", "line 4: unit of 'mu_a': got '1', expected one that converts to 1/m"),
        ("nm,1/cm,1/mm,1,\n", "", "line 4: unit of 'wavelength': got '633', expected one that converts to m"),
        (TABLE[17:], "", "expected a header wavelength,mu_a,mu_s,g,n, a line of units, and rows of numbers"),
    ],
)
def test_a_mistake_in_a_table_names_file_and_line(tmp_path, old, new, words):
    file = tmp_path / "phantom.csv"
    assert old in TABLE
    file.write_text(TABLE.replace(old, new, 1))
    with pytest.raises(UserError) as raised:
        optical(str(file), 810 * NM)
    assert str(raised.value).startswith(f"table {str(file)!r}") and words in str(raised.value), raised.value
    assert "\n" not in str(raised.value)


def test_a_table_that_is_not_there_or_not_text(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.csv' not found"):
        optical(str(tmp_path / "nowhere.csv"), 810 * NM)
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"bytes\.csv' cannot be read as text"):
        optical(str(tmp_path / "bytes.csv"), 810 * NM)


@pytest.mark.parametrize("option", [*WRITTEN, "slab"])
def test_tissues_compose_build_and_hold_their_object_inside_a_layer(option):
    cfg = compose([f"tissue={option}"])
    node = plain(cfg)["tissue"]
    OmegaConf.resolve(cfg)  # what --cfg job --resolve does
    assert plain(cfg)["tissue"] == node
    slab = build(node, "tissue")
    assert isinstance(slab, Slab)
    if option == "slab":
        assert (float(slab.mu_a[0]), float(slab.mu_s[0]), float(slab.g[0]), float(slab.n[0])) == (1000, 9000, 0.75, 1)
        return
    assert slab.media == tuple(node["media"]) and len(slab.media) == slab.thickness.size
    for i, medium in enumerate(slab.media):
        expected = optical(medium, 810 * NM)
        np.testing.assert_allclose([slab.mu_a[i], slab.mu_s[i], slab.g[i], slab.n[i]], expected, rtol=1e-5)


def test_coefficients_follow_the_wavelength_unless_one_is_given(tmp_path):
    other = plain(compose(["tissue=skin", "source.signal_wavelength=690 nm", "tissue.g=0.8"]))
    assert other["wavelength"] == "690 nm" and other["tissue"]["g"] == 0.8
    assert other["tissue"]["mu_a"][1] == pytest.approx(float(optical("dermis", 690 * NM).mu_a), rel=1e-5)
    (tmp_path / "phantom.csv").write_text(TABLE)
    words = ["tissue=breast_tumour", f"tissue.media={tmp_path / 'phantom.csv'}"]
    assert plain(compose(words))["tissue"]["mu_s"] == pytest.approx(9000)
    assert plain(compose([*words, "wavelength=633 nm"]))["tissue"]["mu_s"] == pytest.approx(12000)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("tissue.media=[dermis, bone, dermis]", "tissue.media: unknown medium 'bone', accepted are epidermis, "),
        ("tissue.media=null", "tissue.media: got None, expected the name of a medium or of a CSV table"),
        ("tissue.media=nowhere.csv", "tissue.media: table 'nowhere.csv' not found"),
        ("wavelength=1310 nm", "tissue.media: medium 'epidermis': table melanin (Jacques 1998) holds 400 to 1100 nm"),
        ("wavelength=810 kg", "wavelength: got '810 kg', expected a length"),
        ("wavelength=-1", "wavelength: got -1, accepted is a wavelength greater than 0"),
        ("source.signal_wavelength=810 kg", "source.signal_wavelength: got '810 kg', expected a length"),
        (
            "tissue.g='${optical:gg,dermis,${wavelength}}'",
            "tissue.g: 'optical' got 'gg', accepted are mu_a, mu_s, g, n",
        ),
    ],
)
def test_a_mistake_in_a_configuration_is_one_line_that_names_the_key(override, line):
    with pytest.raises(OmegaConfBaseException) as raised:
        plain(compose(["tissue=skin", override])["tissue"])
    assert str(explain(raised.value)).startswith(line), explain(raised.value)


def test_info_prints_where_the_numbers_come_from():
    rows = [line for line in info(["tissue=skin"]).splitlines() if line.startswith("tissue.")]
    assert len(rows) == 7 and all(len(row.split("  ")[-1]) > 10 for row in rows)
    assert "Jacques" in "".join(rows) and "no reference given" not in "".join(rows)
