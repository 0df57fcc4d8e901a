"""Phase matching: published angles and periods, exact limits, implicit derivatives, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

from qtwin.core.errors import UserError
from qtwin.source.nonlinearity import TENSORS, effective_nonlinearity, grating_coefficient
from qtwin.source.phase_matching import Interaction, expansion, idler_wavelength, mismatch, poling_period
from qtwin.source.sellmeier_sets import sellmeier
from qtwin.source.tuning import emission_angle, implicit_root, matched_signal, phase_matching_angle

ONE, TWO = Interaction("BBO", "eoo"), Interaction("BBO", "eoe")
KTP2, KTP0 = Interaction("KTP", "yyz", order=1), Interaction("KTP", "zzz", order=1)
WARM = 313.15


def slope(f, x, h):
    return (float(f(x + h)) - float(f(x - h))) / (2 * h)


# --- angles ----------------------------------------------------------------------------------------------------


def test_bbo_angles_and_walk_off():
    """405 -> 810 + 810 nm, Kato: 28.816 deg type I, 41.793 deg type II; walk-off of the pump 3.85 and 4.38 deg."""
    for interaction, angle, walk in ((ONE, 28.816, 3.85), (TWO, 41.793, 4.38)):
        found = phase_matching_angle(interaction, 405e-9, 810e-9)
        assert np.degrees(float(found)) == pytest.approx(angle, abs=5e-4)
        assert np.degrees(float(interaction.walk_off(0, 405e-9, found))) == pytest.approx(walk, abs=5e-3)


def test_other_sets_spread_as_published():
    """28.67 to 28.87 deg and 41.42 to 41.88 deg; the ring was seen to collapse at 28.64 deg (Karan 2020)."""

    def degrees(rays, name):
        return np.degrees(float(phase_matching_angle(Interaction("BBO", rays, sellmeier=name), 405e-9, 810e-9)))

    assert degrees("eoo", "Eimerl 1987") == pytest.approx(28.67, abs=5e-3)  # 0.03 deg from the measurement
    assert 41.415 < degrees("eoe", "Tamosauskas 2018") < 41.885


def test_type_two_labels_may_be_exchanged():
    """'eoe' at (signal, idler) is 'eeo' at (idler, signal)."""
    idler = idler_wavelength(405e-9, 780e-9)
    other = mismatch(
        Interaction("BBO", "eeo"), 405e-9, idler, angle=0.7, emission=-jnp.arcsin(idler / 780e-9 * np.sin(0.01))
    )
    one = mismatch(TWO, 405e-9, 780e-9, angle=0.7, emission=0.01)
    assert float(one) == pytest.approx(float(other), rel=1e-9)


def test_walk_off_is_the_slope_of_the_index():
    """tan(rho) = -(1/n) dn/d(theta): positive in negative BBO, negative in KTP's XZ plane; none on the axes."""
    for interaction, beam, sign in ((ONE, 0, 1), (Interaction("KTP", "eoo", "XZ"), 0, -1)):

        def index(a, i=interaction):
            return i.index(0, 600e-9, a)

        n, dn = float(index(0.7)), slope(index, 0.7, 1e-6)
        found = float(interaction.walk_off(beam, 600e-9, 0.7))
        assert np.tan(found) == pytest.approx(-dn / n, rel=1e-6) and np.sign(found) == sign
        assert float(interaction.walk_off(beam, 600e-9, 0.0)) == pytest.approx(0, abs=1e-12)


def test_planes_of_a_biaxial_crystal():
    """The e index runs between the two principal indices of its plane, the o index is the third."""
    n = {axis: float(sellmeier("LBO", axis).index(axis, 800e-9)) for axis in "xyz"}
    for plane, first, second, across in (("XZ", "x", "z", "y"), ("YZ", "y", "z", "x"), ("XY", "y", "x", "z")):
        interaction = Interaction("LBO", "eoo", plane)
        assert float(interaction.index(0, 800e-9, 0.0)) == pytest.approx(n[first], rel=1e-14)
        assert float(interaction.index(0, 800e-9, np.pi / 2)) == pytest.approx(n[second], rel=1e-14)
        assert float(interaction.index(1, 800e-9, 0.3)) == pytest.approx(n[across], rel=1e-14)


def test_lbo_doubling_of_1064_nm():
    """XY plane, type I: phi near 11.4 deg at room temperature."""
    dk = mismatch(Interaction("LBO", "eoo", "XY"), 532e-9, 1064e-9, angle=np.radians([11.2, 11.5, 11.8]))
    assert float(dk[0]) * float(dk[2]) < 0


# --- poling ----------------------------------------------------------------------------------------------------


def test_ktp_poling_periods():
    """405 -> 810 nm: 3.43 um type 0, 10.03 um type II; 775 -> 1550 nm: 24.7 um type 0, 46.22 um type II, order -1."""
    minus = Interaction("KTP", "yyz", order=-1)
    assert float(poling_period(KTP0, 405e-9, 810e-9)) * 1e6 == pytest.approx(3.43, abs=5e-3)
    assert float(poling_period(KTP2, 405e-9, 810e-9)) * 1e6 == pytest.approx(10.03, abs=5e-3)
    assert float(poling_period(KTP0, 775e-9, 1550e-9)) * 1e6 == pytest.approx(24.7, abs=5e-2)
    assert float(poling_period(minus, 775e-9, 1550e-9)) * 1e6 == pytest.approx(46.22, abs=5e-3)


def test_period_matches_at_its_temperature():
    """The period as made at 25 degrees, grown with the crystal (Emanueli & Arie), leaves no mismatch."""
    period = poling_period(KTP2, 405e-9, 800e-9, temperature=WARM)
    assert float(mismatch(KTP2, 405e-9, 800e-9, period=period, temperature=WARM)) == pytest.approx(0, abs=1e-6)
    assert float(expansion("KTP", WARM)) == pytest.approx(1 + 6.7e-6 * 15 + 11e-9 * 225, rel=1e-12)
    third = poling_period(Interaction("KTP", "yyz", order=3), 405e-9, 800e-9, temperature=WARM)
    assert float(third / period) == pytest.approx(3, rel=1e-12)


def test_grating_coefficients_are_those_of_the_square_wave():
    """2 sin(pi m D)/(pi m): 2/pi at m = 1, D = 1/2; no even order at D = 1/2; Fourier sums of the wave itself."""
    assert float(grating_coefficient(1)) == pytest.approx(2 / np.pi)
    assert abs(float(grating_coefficient(2))) < 1e-15
    z = (np.arange(40000) + 0.5) / 40000
    for order, duty in ((1, 0.3), (2, 0.3), (-3, 0.61)):
        wave = np.where(abs(z - 0.5) < duty / 2, 1.0, -1.0)
        exact = np.mean(wave * np.exp(-2j * np.pi * order * (z - 0.5))).real
        assert float(grating_coefficient(order, duty)) == pytest.approx(exact, abs=1e-4)


# --- nonlinearity ----------------------------------------------------------------------------------------------


def test_effective_nonlinearity_of_bbo_in_closed_form():
    """Class 3m: d31 sin(theta) - d22 cos(theta) sin(3 phi), and d22 cos^2(theta) cos(3 phi)."""
    theta, phi, d22, d31 = 0.61, 0.37, 2.2, 0.04
    one, two = (1e12 * float(effective_nonlinearity("BBO", rays, "", theta, phi)) for rays in ("eoo", "eoe"))
    assert one == pytest.approx(d31 * np.sin(theta) - d22 * np.cos(theta) * np.sin(3 * phi), rel=1e-12)
    assert two == pytest.approx(d22 * np.cos(theta) ** 2 * np.cos(3 * phi), rel=1e-12)


def test_effective_nonlinearity_along_axes_and_in_planes():
    """KTP 'yyz' d24, 'zzz' d33, XY type II d31 sin^2 + d32 cos^2; LBO XY d32 cos; KDP d36 sin(theta) sin(2 phi)."""

    def d(*of):
        return 1e12 * float(effective_nonlinearity(*of))

    assert d("KTP", "yyz", "", 0.2) == pytest.approx(3.7) and d("KTP", "zzz", "", 0.2) == pytest.approx(14.6)
    assert d("KTP", "eoe", "XY", 0.41) == pytest.approx(2.2 * np.sin(0.41) ** 2 + 3.7 * np.cos(0.41) ** 2)
    assert abs(d("LBO", "eoo", "XY", 0.2)) == pytest.approx(0.85 * np.cos(0.2))
    assert abs(d("KDP", "eoo", "", 0.8, 0.5)) == pytest.approx(0.39 * np.sin(0.8) * np.sin(1.0))
    assert all(np.shape(t) == (3, 6) for t in TENSORS.values())


# --- solving ---------------------------------------------------------------------------------------------------


def test_matched_signal_inverts_the_period():
    period = poling_period(KTP2, 405e-9, 795e-9, temperature=WARM)
    assert float(matched_signal(KTP2, 405e-9, period=period, temperature=WARM)) == pytest.approx(795e-9, rel=1e-12)
    angle = phase_matching_angle(ONE, 405e-9, 700e-9)
    assert float(matched_signal(ONE, 405e-9, angle=angle)) == pytest.approx(700e-9, rel=1e-9)


def test_tuning_curves_in_one_call():
    """200 temperatures, 200 angles: each point zeroes the mismatch; angles below collinear matching have none."""
    kelvin = jnp.linspace(290.0, 370.0, 200)
    period = 10.0e-6
    signal = matched_signal(KTP2, 405e-9, period=period, temperature=kelvin)
    left = mismatch(KTP2, 405e-9, signal, period=period, temperature=kelvin)
    assert signal.shape == (200,) and np.all(np.diff(np.asarray(signal)) > 0) and float(jnp.abs(left).max()) < 1e-4
    angles = jnp.radians(jnp.linspace(28.3, 28.9, 200))
    signal = np.asarray(matched_signal(ONE, 405e-9, angle=angles))
    collapse = float(phase_matching_angle(ONE, 405e-9, 810e-9))
    np.testing.assert_array_equal(np.isfinite(signal), np.asarray(angles) <= collapse)


def test_cone_against_an_independent_root_and_its_collapse():
    """Type I cone of 810 nm from 405 nm: n_p(theta) = n_o cos(internal angle); none below 28.816 deg."""
    n_o, n_e = ({w: float(sellmeier("BBO", r).index(r, w)) for w in (405e-9, 810e-9)} for r in "oe")
    angles = np.radians([28.9, 29.5, 31.0])
    found = np.asarray(emission_angle(ONE, 405e-9, 810e-9, angle=angles))
    for angle, outside in zip(angles, found, strict=True):
        n_p = 1 / np.sqrt((np.cos(angle) / n_o[405e-9]) ** 2 + (np.sin(angle) / n_e[405e-9]) ** 2)
        inside = np.arccos(n_p / n_o[810e-9])
        assert outside == pytest.approx(np.arcsin(n_o[810e-9] * np.sin(inside)), rel=1e-9)
    collapse = float(phase_matching_angle(ONE, 405e-9, 810e-9))
    near = np.asarray(emission_angle(ONE, 405e-9, 810e-9, angle=collapse + np.array([1e-7, 4e-7, 9e-7])))
    assert near[1] / near[0] == pytest.approx(2, rel=1e-3) and near[2] < 4e-3  # grows as the square root
    with pytest.raises(UserError, match=r"emits no 810 nm at an angle of 28\.7 degrees"):
        emission_angle(ONE, 405e-9, 810e-9, angle=np.radians([28.7, 28.6, 28.5]))


def test_cones_of_unlike_photons_balance_their_momenta():
    """Type I, 405 -> 730 nm: transverse wave vectors cancel, so the idler's cone is wider as its wavelength."""
    idler = float(idler_wavelength(405e-9, 730e-9))
    angle = np.radians(30.0)
    s, i = (float(emission_angle(ONE, 405e-9, w, angle=angle)) for w in (730e-9, idler))
    assert np.sin(s) / 730e-9 == pytest.approx(np.sin(i) / idler, rel=1e-9)


def test_extraordinary_wave_vector_lies_on_the_ellipsoid():
    """Off-axis k_z of the e ray: |k| = n(angle between k and the optic axis) w/c, for any transverse q."""
    theta, wavelength = 0.73, 600e-9
    n_o, n_e = (float(x) for x in ONE.principal(0, wavelength))
    axis = np.array([-np.sin(theta), 0.0, np.cos(theta)])
    for q_in, q_out in ((3e5, 0.0), (-2e5, 4e5), (0.0, -6e5)):
        k = np.array([q_in, q_out, float(ONE.longitudinal(0, wavelength, theta, None, q_in, q_out))])
        cos = k @ axis / np.linalg.norm(k)
        n = 1 / np.sqrt(cos**2 / n_o**2 + (1 - cos**2) / n_e**2)
        assert np.linalg.norm(k) == pytest.approx(2 * np.pi * n / wavelength, rel=1e-12)


def test_implicit_root_against_brentq():
    """cos x = p x: dx/dp = -x/(p + sin x)."""

    @jax.jit
    def root(p):
        return implicit_root(lambda x: jnp.cos(x) - p * x, jnp.linspace(0.0, 3.0, 8))

    x = brentq(lambda x: np.cos(x) - 0.7 * x, 0, 3, xtol=1e-15)
    found, got = jax.jit(jax.value_and_grad(root))(0.7)
    assert float(found) == pytest.approx(x, rel=1e-14) and float(got) == pytest.approx(
        -x / (0.7 + np.sin(x)), rel=1e-12
    )
    assert np.isnan(float(root(-9.0)))


SOLVED = {
    "angle by pump, signal, temperature": (
        lambda p, s, t: phase_matching_angle(TWO, p, s, temperature=t),
        (405e-9, 790e-9, 320.0),
        (1e-13, 1e-13, 1e-2),
    ),
    "period by pump, signal, temperature": (
        lambda p, s, t: poling_period(KTP2, p, s, temperature=t),
        (405e-9, 800e-9, 330.0),
        (1e-13, 1e-13, 1e-2),
    ),
    "signal by pump, period, temperature": (
        lambda p, d, t: matched_signal(KTP2, p, period=d, temperature=t),
        (405e-9, 1e-5, WARM),
        (1e-14, 1e-12, 1e-2),
    ),
    "signal by pump, angle": (
        lambda p, a: matched_signal(ONE, p, angle=a),
        (405e-9, 0.495),
        (1e-13, 1e-7),
    ),
    "emission by pump, signal, angle": (
        lambda p, s, a: emission_angle(ONE, p, s, angle=a),
        (405e-9, 790e-9, 0.52),
        (1e-13, 1e-12, 1e-6),
    ),
}


@pytest.mark.parametrize("name", SOLVED)
def test_solutions_differentiate_as_finite_differences(name):
    f, at, steps = SOLVED[name]
    got = jax.grad(f, argnums=tuple(range(len(at))))(*(jnp.asarray(x) for x in at))
    expected = []
    for i, h in enumerate(steps):
        up, down = ([x + sign * h * (i == j) for j, x in enumerate(at)] for sign in (1, -1))
        expected.append((float(f(*up)) - float(f(*down))) / (2 * h))
    assert np.all(np.asarray(expected) != 0)
    np.testing.assert_allclose(got, expected, rtol=2e-5)


# --- refused ---------------------------------------------------------------------------------------------------


def test_energy_must_be_conserved():
    assert float(idler_wavelength(405e-9, 800e-9, 820.2531e-9)) == pytest.approx(820.2531e-9, rel=1e-6)
    with pytest.raises(UserError, match="idler: got 800 nm, energy conservation of pump 405 nm and signal 810 nm"):
        idler_wavelength(405e-9, 810e-9, 800e-9)
    with pytest.raises(UserError, match="accepted is longer than the pump's 405 nm"):
        idler_wavelength(405e-9, 400e-9)


def test_no_match_names_the_nearest_that_works():
    wide = Interaction("BBO", "eoo", sellmeier="Tamosauskas 2018")
    with pytest.raises(UserError, match=r"cannot match 190 -> 380 nm.*nearest pump that works: 20\d\.\d+ nm"):
        phase_matching_angle(wide, 190e-9, 380e-9)
    with pytest.raises(UserError, match=r"no signal to a pump of 405 nm here; nearest pump that works: \d+\.?\d* nm"):
        matched_signal(ONE, 405e-9, angle=np.radians(29.5))
    with pytest.raises(UserError, match="got 1, this mismatch needs order -1"):
        poling_period(KTP2, 775e-9, 1550e-9)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (("BBO", "eo"), "rays: got 'eo'"),
        (("KTP", "eoo"), "plane: got ''"),
        (("BBO", "eoo", "XY"), "plane: got 'XY'"),
        (("BBO", "eoo", "", 1), "BBO is not poled"),
        (("KTP", "yyz", "", 1, "Kato 1986"), "no set 'Kato 1986'"),
    ],
)
def test_impossible_interactions(fields, text):
    with pytest.raises(UserError, match=text):
        Interaction(*fields)


def test_ranges_hold_in_every_solver():
    with pytest.raises(UserError, match="got 405 nm, the KTP set 'Kato & Takaoka 2002' holds from 430"):
        poling_period(Interaction("KTP", "yyz", order=1, sellmeier="Kato & Takaoka 2002"), 405e-9, 810e-9)
    with pytest.raises(UserError, match="the BBO set 'Kato 1986' holds from 220 to 1060 nm"):
        phase_matching_angle(ONE, 405e-9, 600e-9)
    with pytest.raises(UserError, match="KTP at order 1 needs a poling period"):
        matched_signal(KTP2, 405e-9, temperature=WARM)


# --- an independent program ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_against_spdcalc():
    """Angles of BBO and KDP, periods of MgO:LiNbO3 at several temperatures, fifteen cases."""
    spdcalc = pytest.importorskip("spdcalc")

    def theirs(kind, pm, pump, signal, celsius):
        beam = "phi_deg: 0, theta_deg: 0, waist_um: 100, waist_position_um: 0"
        return spdcalc.SPDC.from_yaml(f"""
crystal: {{kind: {kind}, pm_type: {pm}, phi_deg: 0, theta_deg: 90, length_um: 2000, temperature_c: {celsius}}}
pump: {{wavelength_nm: {pump}, waist_um: 100, bandwidth_nm: 1, average_power_mw: 1, spectrum_threshold: 0.01}}
signal: {{wavelength_nm: {signal}, {beam}}}
idler: {{wavelength_nm: {1 / (1 / pump - 1 / signal)}, {beam}}}
deff_pm_per_volt: 1
""")

    for pump, signal in ((405, 810), (355, 650), (400, 760), (450, 950), (430, 830)):
        for kind, pm, ours, tolerance in (
            ("BBO_1", "Type1_e_oo", ONE, 1e-7),
            ("BBO_1", "Type2_e_eo", Interaction("BBO", "eeo"), 1e-7),
            ("KDP_1", "Type1_e_oo", Interaction("KDP", "eoo"), 5e-4),  # more digits of Zernike's constants
        ):
            found = np.degrees(float(phase_matching_angle(ours, pump * 1e-9, signal * 1e-9, temperature=293.15)))
            expected = theirs(kind, pm, pump, signal, 20).with_optimum_crystal_theta().crystal_theta_deg
            assert found == pytest.approx(expected, abs=tolerance)
    poled = Interaction("MgO:LiNbO3", "zzz", order=1)
    for pump, signal, celsius in ((532, 1064, 30), (532, 810, 60), (600, 1100, 90), (775, 1550, 25), (780, 1500, 120)):
        kelvin = celsius + 273.15
        found = poling_period(poled, pump * 1e-9, signal * 1e-9, temperature=kelvin) * expansion("MgO:LiNbO3", kelvin)
        expected = theirs("LiNb_MgO", "Type0_e_ee", pump, signal, celsius).with_optimum_periodic_poling()
        assert float(found) * 1e6 == pytest.approx(expected.poling_period_um, rel=1e-9)
