"""Published Sellmeier sets: against the measured tables' own formulas, in their derivatives, at their limits."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qtwin.core.errors import UserError
from qtwin.source.sellmeier import LIGHT
from qtwin.source.sellmeier_sets import SETS, sellmeier

# row of the table of refractiveindex.info -> crystal, axis, name of our set
ROWS = {
    "main/BaB2O4/nk/Eimerl-o.yml": ("BBO", "o", "Eimerl 1987"),
    "main/BaB2O4/nk/Eimerl-e.yml": ("BBO", "e", "Eimerl 1987"),
    "main/BaB2O4/nk/Tamosauskas-o.yml": ("BBO", "o", "Tamosauskas 2018"),
    "main/BaB2O4/nk/Tamosauskas-e.yml": ("BBO", "e", "Tamosauskas 2018"),
    "main/KTiOPO4/nk/Kato-alpha.yml": ("KTP", "x", "Kato & Takaoka 2002"),
    "main/KTiOPO4/nk/Kato-beta.yml": ("KTP", "y", "Kato & Takaoka 2002"),
    "main/KTiOPO4/nk/Kato-gamma.yml": ("KTP", "z", "Kato & Takaoka 2002"),
    "main/LiB3O5/nk/Chen-alpha.yml": ("LBO", "x", "Chen 1989"),
    "main/LiB3O5/nk/Chen-beta.yml": ("LBO", "y", "Chen 1989"),
    "main/LiB3O5/nk/Chen-gamma.yml": ("LBO", "z", "Chen 1989"),
    "main/LiNbO3/nk/Zelmon-o.yml": ("LiNbO3", "o", "Zelmon 1997"),
    "main/LiNbO3/nk/Zelmon-e.yml": ("LiNbO3", "e", "Zelmon 1997"),
    "other/doped crystals/MgO-LiNbO3/nk/Zelmon-o.yml": ("MgO:LiNbO3", "o", "Zelmon 1997"),
    "other/doped crystals/MgO-LiNbO3/nk/Zelmon-e.yml": ("MgO:LiNbO3", "e", "Zelmon 1997"),
    "other/doped crystals/MgO-LiNbO3/nk/Gayer-5-o.yml": ("MgO:LiNbO3", "o", "Gayer 2008"),
    "other/doped crystals/MgO-LiNbO3/nk/Gayer-5-e.yml": ("MgO:LiNbO3", "e", "Gayer 2008"),
    "main/KH2PO4/nk/Zernike-o.yml": ("KDP", "o", "Zernike 1964"),
    "main/KH2PO4/nk/Zernike-e.yml": ("KDP", "e", "Zernike 1964"),
}
EACH = [pytest.param(s, axis, id=f"{s.crystal} {s.name} {axis}") for s in SETS for axis in s.square]


def tabled(formula: int, c: list[float], um):
    """Formulas 2 (Sellmeier) and 4 of refractiveindex.info."""
    if formula == 2:
        return np.sqrt(1 + c[0] + sum(b * um**2 / (um**2 - d) for b, d in zip(c[1::2], c[2::2], strict=True)))
    c = c + [0.0] * (17 - len(c))
    n2 = c[0] + sum(c[i] * um ** c[i + 1] / (um**2 - c[i + 2] ** c[i + 3]) for i in (1, 5) if c[i])
    return np.sqrt(n2 + sum(c[i] * um ** c[i + 1] for i in range(9, 17, 2)))


def test_typed_constants_are_those_of_the_table(reference_data):
    with open(reference_data / "sellmeier" / "sellmeier_table.csv", newline="") as file:
        rows = {r["file"]: r for r in csv.DictReader(file)}
    for name, (crystal, axis, which) in ROWS.items():
        row, ours = rows[name], sellmeier(crystal, axis, which)
        low, high = (float(x) for x in row["wavelength_um"].split())
        assert (ours.low, ours.high) == (low, high), name
        um = np.linspace(low, high, 7)
        expected = tabled(int(row["formula_number"]), [float(x) for x in row["coefficients"].split()], um)
        np.testing.assert_allclose(ours.index(axis, um * 1e-6), expected, rtol=1e-12, err_msg=name)


def test_kato_bbo_by_hand():
    """405 nm: l^2 = 0.164025 um^2."""
    n_o = np.sqrt(2.7359 + 0.01878 / (0.164025 - 0.01822) - 0.01354 * 0.164025)
    n_e = np.sqrt(2.3753 + 0.01224 / (0.164025 - 0.01667) - 0.01516 * 0.164025)
    assert float(sellmeier("BBO", "o").index("o", 405e-9)) == pytest.approx(n_o, rel=1e-14)
    assert float(sellmeier("BBO", "e").index("e", 405e-9)) == pytest.approx(n_e, rel=1e-14)


def test_koenig_wong_fradkin_with_emanueli_arie():
    """KTP at 60 degrees, 810 nm: the shift from 25 degrees by the printed cubics."""
    um, dt = 0.81, 35.0
    n_y = np.sqrt(2.09930 + 0.922683 / (1 - 0.0467695 / um**2) - 0.0138408 * um**2)
    n_y += (6.2897 + 6.3061 / um - 6.0629 / um**2 + 2.6486 / um**3) * 1e-6 * dt
    n_y += (-0.14445 + 2.2244 / um - 3.5770 / um**2 + 1.3470 / um**3) * 1e-8 * dt**2
    n_z = np.sqrt(2.12725 + 1.18431 / (1 - 0.0514852 / um**2) + 0.6603 / (1 - 100.00507 / um**2) - 0.00968956 * um**2)
    n_z += (9.9587 + 9.9228 / um - 8.9603 / um**2 + 4.1010 / um**3) * 1e-6 * dt
    n_z += (-1.1882 + 10.459 / um - 9.8136 / um**2 + 3.1481 / um**3) * 1e-8 * dt**2
    assert float(sellmeier("KTP", "y").index("y", 810e-9, 333.15)) == pytest.approx(n_y, rel=1e-12)
    assert float(sellmeier("KTP", "z").index("z", 810e-9, 333.15)) == pytest.approx(n_z, rel=1e-12)


def test_independent_sets_of_one_crystal_agree():
    """Two measurements of the same index differ by less than 0.004."""
    for crystal, axis, um in (("BBO", "o", 0.6), ("BBO", "e", 0.9), ("KTP", "z", 1.1), ("KDP", "o", 0.5)):
        found = [float(s.index(axis, um * 1e-6, 296.0)) for s in SETS if s.crystal == crystal and axis in s.square]
        assert len(found) > 1 and np.ptp(found) < 0.004
    for axis in "oe":
        assert sellmeier("KDP", axis, "Ghosh & Bhar 1982").index(axis, 0.7e-6, 298.0) == pytest.approx(
            float(sellmeier("KDP", axis, "Zernike 1964").index(axis, 0.7e-6, 298.0)), abs=1.5e-4
        )


def test_lbo_doubles_1064_nm_without_angle_at_149_degrees():
    """n_y(532) = n_z(1064) of Kato's set: observed at 148 to 149 degrees Celsius."""
    y, z = sellmeier("LBO", "y"), sellmeier("LBO", "z")
    kelvin = np.linspace(415.0, 430.0, 301)
    gap = np.asarray(z.index("z", 1064e-9, kelvin) - y.index("y", 532e-9, kelvin))
    assert kelvin[np.argmin(abs(gap))] - 273.15 == pytest.approx(149, abs=1.5)


@pytest.mark.parametrize(("s", "axis"), EACH)
def test_derivatives_equal_finite_differences(s, axis):
    """Group index and dispersion from k(w), and dn/dT, by central differences."""
    at = (s.low + 0.4 * (min(s.high, 2.0) - s.low)) * 1e-6
    warm = s.celsius + 273.15 + (31.0 if s.thermal else 0.0)
    w0 = 2 * np.pi * LIGHT / at
    h = 1e-3 * w0
    k = [w * float(s.index(axis, 2 * np.pi * LIGHT / w, warm)) / LIGHT for w in (w0 - h, w0, w0 + h)]
    assert float(s.group_index(axis, at, warm)) == pytest.approx((k[2] - k[0]) / (2 * h) * LIGHT, rel=1e-5)
    assert float(s.dispersion(axis, at, warm)) == pytest.approx((k[2] - 2 * k[1] + k[0]) / h**2, rel=1e-3)
    slope = float(jax.grad(lambda t: s.index(axis, at, t))(jnp.asarray(warm)))
    if not s.thermal:
        assert slope == 0
        return
    up, down = (float(s.index(axis, at, warm + d)) for d in (0.5, -0.5))
    assert slope != 0 and slope == pytest.approx(up - down, rel=1e-5)


def test_jit_vmap_and_dtype():
    s, um = sellmeier("KTP", "z"), jnp.asarray([0.5e-6, 0.8e-6, 1.3e-6])
    together = s.index("z", um, 320.0)
    np.testing.assert_allclose(jax.jit(lambda w: s.index("z", w, 320.0))(um), together, rtol=1e-14)
    np.testing.assert_allclose(jax.vmap(lambda w: s.index("z", w, 320.0))(um), together, rtol=1e-14)
    assert together.dtype == jnp.float64 and not together.weak_type


def test_kato_takaoka_is_refused_at_405_nm():
    s = sellmeier("KTP", "y", "Kato & Takaoka 2002")
    with pytest.raises(UserError, match=r"got 405 nm, the KTP set 'Kato & Takaoka 2002' holds from 430 to 3540 nm"):
        s.index("y", [0.9e-6, 405e-9])
    assert np.isfinite(float(s.index("y", 430e-9)))


@pytest.mark.parametrize("kelvin", [-5.0, 25.0, np.nan, 900.0])
def test_temperatures_outside_are_refused(kelvin):
    with pytest.raises(UserError, match=r"temperature: got .* K, the BBO set 'Kato 1986' holds from 250 to 550 K"):
        sellmeier("BBO", "o").index("o", 405e-9, kelvin)


def test_a_set_without_thermal_data_stands_for_its_own_temperature():
    s = sellmeier("KDP", "o", "Zernike 1964")
    assert s.index("o", 600e-9, 300.0) == s.index("o", 600e-9)
    with pytest.raises(UserError, match="no temperature dependence was published"):
        s.index("o", 600e-9, 350.0)


def test_unknown_names():
    with pytest.raises(UserError, match=r"accepted is one of BBO, KTP, LiNbO3, MgO:LiNbO3, LBO, KDP"):
        sellmeier("quartz", "o")
    with pytest.raises(UserError, match="'Koenig & Wong 2004', 'Kato & Takaoka 2002'"):
        sellmeier("KTP", "y", "Fradkin 1999")
