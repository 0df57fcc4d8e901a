"""Phase matching, widths and rate of the pairs, and how they fall on the sample."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import j1
from slopes import check_slopes

from qtwin.core.errors import FieldError
from qtwin.core.params import parameters
from qtwin.optics import FarField
from qtwin.source import SPDC, MultimodePairs
from qtwin.source.biphoton import STAND_INS

VALUES = {
    "pump_wavelength": 405e-9,
    "signal_wavelength": 780e-9,
    "crystal_length": 1.7e-3,
    "waist": 0.9e-3,
    "pump_power": 4e-3,
    "bandwidth": 8e-9,
}
COUNT = 200_000
GAMMA = STAND_INS["exp(-0.455 x)"]


def source(**changes) -> SPDC:
    return SPDC(**(VALUES | changes))


def far_field(**changes) -> FarField:
    values = {
        "focal_length": 0.08,
        "numerical_aperture": 0.3,
        "pitch": 1e-4,
        "illumination_transmission": 1.0,
        "collection_transmission": 0.8,
        "idler_transmission": 0.7,
        "pixels": 8,
    }
    return FarField(**(values | changes))


def z_of_std(sample, std):
    """z-score of the sample's standard deviation about a known mean of 0, normal law."""
    return (np.mean(sample**2) / std**2 - 1) / np.sqrt(2 / sample.size)


# --- the crystal -----------------------------------------------------------------------------------------------


def test_the_crystal_is_cut_for_its_wavelengths():
    """n_p/l_p = n_s/l_s + n_i/l_i at the angle found; Kato's indices: 28.81 degrees at room temperature."""
    s = source(signal_wavelength=780e-9)
    n_p, n_s, n_i = (float(n) for n in s.indices())
    assert n_p / 405e-9 == pytest.approx(n_s / 780e-9 + n_i / float(s.idler_wavelength()), rel=1e-12)
    assert np.degrees(float(source(signal_wavelength=810e-9).crystal_at().angle)) == pytest.approx(28.82, abs=0.01)


def test_a_poled_crystal_takes_its_period():
    """KTP type II, 405 -> 810 nm: 10.0 um; its pairs per milliwatt surpass those of as much BBO."""
    poled = source(signal_wavelength=810e-9, crystal="KTP", rays="yyz", order=1)
    assert float(poled.crystal_at().period) == pytest.approx(10.0e-6, rel=0.01)
    assert float(poled.pair_rate()) > 1.1 * float(source(signal_wavelength=810e-9).pair_rate())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"crystal": "glass"}, "crystal, rays, plane, order, sellmeier: .*'glass'"),
        ({"rays": "ooo"}, "order: got 0, a crystal whose rays are all fixed matches by poling only"),
        ({"crystal": "KTP", "rays": "yyz"}, "order: got 0"),
        ({"temperature": 600.0}, "temperature: .*600"),
        ({"temperature": -3.0}, "temperature: got -3 K"),
        ({"rays": "eoe", "pump_wavelength": 250e-9, "signal_wavelength": 500e-9}, "cannot match 250 -> 500 nm"),
        ({"stand_in": "wide"}, "stand_in: got 'wide'"),
    ],
)
def test_crystals_that_cannot_be_are_refused(changes, words):
    with pytest.raises(FieldError, match=words):
        source(**changes)


@pytest.mark.parametrize("signal", [700e-9, 780e-9, 810e-9, 900e-9])
def test_energy_is_conserved(signal):
    idler = float(source(signal_wavelength=signal).idler_wavelength())
    assert 1 / signal + 1 / idler == pytest.approx(1 / 405e-9, rel=1e-12)


@pytest.mark.parametrize("signal", [405e-9, 300e-9, 640e-9, 1100e-9])
def test_wavelengths_that_cannot_be_are_refused(signal):
    """Shorter than the pump, or signal or idler beyond 1.06 um where Kato's equation ends."""
    with pytest.raises(FieldError, match="signal_wavelength"):
        source(signal_wavelength=signal)


# --- widths ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pairs():
    s = source()
    return s, *(np.asarray(k) for k in s.sample(COUNT, key=jax.random.key(11)))


def test_sampled_sum_and_difference_have_their_widths(pairs):
    """std(q_s + q_i) = 1/w; amplitude exp(-2 GAMMA a Q^2), Q = m_i q_s - m_s q_i: std(Q) = 1/sqrt(8 GAMMA a)."""
    s, k1, k2 = pairs
    a = float(s.biphoton().phase_matching())
    m_s, m_i = (float(m) for m in s.biphoton().shares())
    apart = m_i * k1 - m_s * k2
    assert abs(z_of_std(k1 + k2, 1 / VALUES["waist"])) < 4
    assert abs(z_of_std(apart, 1 / np.sqrt(8 * GAMMA * a))) < 4
    error = 1 / np.sqrt(k1.size)
    correlation = np.mean((k1 + k2) * apart) * VALUES["waist"] * np.sqrt(8 * GAMMA * a)
    assert abs(correlation) / error < 4
    assert abs(np.mean(k1[:, 0] * k2[:, 1])) / (k1.std() * k2.std()) * np.sqrt(COUNT) < 4  # axes independent


def test_each_photon_has_its_own_width(pairs):
    """At 780 and 842 nm the widths differ by less than an error of this sample."""
    s, *k = pairs
    for sample, width in zip(k, s.photon_widths(), strict=True):
        assert abs(z_of_std(sample, float(width))) < 4


def test_gaussian_stand_in_meets_the_sinc_at_one_over_e():
    """sinc x = 1/e at x = 1/GAMMA: the amplitude exp(-GAMMA x) crosses it there."""
    x = 1 / GAMMA
    assert np.sin(x) / x == pytest.approx(np.exp(-1), abs=1e-4)  # to the digits that are kept


def alike(r):
    """Degenerate pairs with std(q_s - q_i) = r std(q_s + q_i)."""
    made = source(signal_wavelength=810e-9)
    return source(signal_wavelength=810e-9, waist=r / (2 * float(made.biphoton().relative_width())))


@pytest.mark.parametrize(("r", "per_axis"), [(1, 1.0), (2, 1.25), (10, 5.05)])
def test_schmidt_number_of_the_double_gaussian(r, per_axis):
    """K1 = (r + 1/r)/2, K2 = K1^2 (Law & Eberly 2004); r and 1/r are alike."""
    for ratio in (r, 1 / r):
        assert float(alike(ratio).schmidt_number()) == pytest.approx(per_axis**2, rel=1e-12)


def test_schmidt_number_from_the_singular_values_of_the_amplitude():
    """1/sum p_k^2 of psi(k1, k2) on a grid, one dimension; r = 2.5."""
    s = alike(2.5)
    k = np.linspace(-6, 6, 400) * float(s.photon_widths()[0])
    plus, minus = (
        (k[:, None] + k[None, :]) / float(s.sum_width()),
        (k[:, None] - k[None, :]) / (2 * float(s.biphoton().relative_width())),
    )
    p = np.linalg.svd(np.exp(-(plus**2 + minus**2) / 4), compute_uv=False) ** 2
    p /= p.sum()
    assert float(s.schmidt_number()) == pytest.approx((1 / np.sum(p**2)) ** 2, rel=1e-6)


def test_trends():
    wide, long = source(waist=2 * VALUES["waist"]), source(crystal_length=4 * VALUES["crystal_length"])
    s = source()
    assert float(wide.sum_width() / s.sum_width()) == pytest.approx(0.5)
    assert float(long.biphoton().relative_width() / s.biphoton().relative_width()) == pytest.approx(0.5)
    assert all(other.photon_widths()[0] < s.photon_widths()[0] for other in (wide, long))
    assert wide.schmidt_number() > s.schmidt_number() > long.schmidt_number()


# --- rate ------------------------------------------------------------------------------------------------------


def test_pair_rate_is_the_integral_over_area_wave_vectors_and_filter():
    """A narrow filter: integral of gain(x) sinc^2(2 a q^2) d^2x d^2q/(2 pi)^2 dnu, radially and by quadrature."""
    s = source(bandwidth=8e-12)
    a, w = float(s.biphoton().phase_matching()), VALUES["waist"]
    area, _ = quad(lambda r: 2 * np.pi * r * np.exp(-2 * r**2 / w**2), 0, 8 * w)
    # s = 2 a q^2: d^2q = pi ds/(2 a); beyond the last zero the mean of sin^2 is one half
    last = 400 * np.pi
    angle = np.linspace(0, last, 400 * 200 + 1)
    core = np.trapezoid(np.sinc(angle / np.pi) ** 2, angle) + 1 / (2 * last)
    filter_hz = 299792458.0 * (1 / (780e-9 - 4e-12) - 1 / (780e-9 + 4e-12))
    expected = float(s.gain()) * area * core * np.pi / (2 * a) / (2 * np.pi) ** 2 * filter_hz
    assert float(s.pair_rate()) == pytest.approx(expected, rel=1e-4)


def test_gain_from_the_coupled_amplitudes():
    """(Gamma L)^2 = 4 w_s w_i d^2 |A|^2 L^2/(n_s n_i c^2), |A|^2 = I/(2 n e0 c) (Boyd, eqs 2.8.4, 2.2.11).

    d = d22 cos(angle) + d31 sin(angle) at azimuth pi/2.
    """
    s = source()
    c, e0 = 299792458.0, 8.8541878128e-12
    idler, angle = float(s.idler_wavelength()), float(s.crystal_at().angle)
    omegas = [2 * np.pi * c / lam for lam in (780e-9, idler)]
    n_p, n_s, n_i = (float(n) for n in s.indices())
    d = 2.2e-12 * np.cos(angle) + 0.04e-12 * np.sin(angle)
    amplitude2 = 2 * 4e-3 / (np.pi * 0.9e-3**2) / (2 * n_p * e0 * c)
    expected = 4 * omegas[0] * omegas[1] * (d * 1.7e-3) ** 2 * amplitude2 / (n_s * n_i * c**2)
    assert float(s.gain()) == pytest.approx(expected, rel=1e-9)


def test_pair_rate_scales_with_its_parameters():
    """A narrow filter: R ~ power, length and filter, whatever the waist: exponents of the logarithm."""
    exponents = {"pump_power": 1, "crystal_length": 1, "waist": 0, "bandwidth": 1}
    narrow = source(bandwidth=1e-13)
    gradient = jax.grad(lambda s: jnp.log(s.pair_rate()))(narrow)
    for name, exponent in exponents.items():
        assert float(getattr(gradient, name) * getattr(narrow, name)) == pytest.approx(exponent, abs=1e-9), name


def test_a_filter_wider_than_the_phase_matching_passes_what_there_is():
    """A long poled crystal under a plane pump: the paraxial closed form against the exact mismatch, point by point."""
    s = source(signal_wavelength=810e-9, crystal="KTP", rays="yyz", order=1, crystal_length=20e-3, bandwidth=5e-9)
    waves, sine = (s.pump_wavelength, s.signal_wavelength, s.pump_power, s.bandwidth), np.sin(0.04)
    exact = eqx.filter_jit(MultimodePairs.pair_rate)(
        MultimodePairs(s.crystal_at(), *waves, 0.04, radial=400, spectral=64)
    )
    a, hertz = float(s.biphoton().phase_matching()), 299792458.0 * 5e-9 / 810e-9**2
    area = float(s.gain()) * np.pi * VALUES["waist"] ** 2 / 2
    beyond = area * hertz / (8 * np.pi * a) / (2 * 2 * a * (2 * np.pi * sine / 810e-9) ** 2)  # sin^2 is one half there
    assert float(s.pair_rate()) - beyond == pytest.approx(float(exact), rel=2e-3)
    assert area * hertz * np.pi / (16 * a) > 3 * float(exact)


def test_derivatives_against_finite_differences():
    """Logarithms of rate, widths, modes and gain by every field; wave numbers of 1e7 rad/m hardly change with heat."""
    s, names = source(), sorted(parameters(source()))

    def read(logs):
        steps = [x * 100 if name == "temperature" else x for name, x in zip(names, logs, strict=True)]
        values = [getattr(s, name) * jnp.exp(x) for name, x in zip(names, steps, strict=True)]
        made = eqx.tree_at(lambda t: [getattr(t, name) for name in names], s, values)
        return jnp.log(jnp.stack([made.pair_rate(), *made.photon_widths(), made.schmidt_number(), made.gain()]))

    check_slopes(read, jnp.zeros(len(names)), rtol=1e-5)


# --- on the sample ---------------------------------------------------------------------------------------------


def test_partner_is_the_regression_of_sampled_pairs(pairs):
    """Mirrored partner given x: slope 1 - c and residual std s; unlike photons, and a waist that makes c = 1.6."""
    tight = alike(0.5)  # c = v/(2 b) = 2/(1 + r^2), r = 1/2
    for s in (source(signal_wavelength=680e-9), tight):
        k1, k2 = (np.asarray(k) for k in s.sample(COUNT, key=jax.random.key(12)))
        optics = far_field()
        scale = 0.08 * float(s.signal_wavelength) / (2 * np.pi)
        x, y = (scale * k1).ravel(), (-scale * k2).ravel()
        shrink, width = (float(v) for v in optics.partner(s))
        residual = y - (1 - shrink) * x
        slope = np.mean(x * residual) / np.mean(x * x)
        assert abs(slope) / (width / x.std() / np.sqrt(x.size)) < 4
        assert abs(z_of_std(residual, width)) < 4
        assert abs(z_of_std(x - y, float(optics.correlation_width(s)))) < 4
        for sample, beam in zip((x, y), optics.beam_widths(s), strict=True):
            assert abs(z_of_std(sample, float(beam))) < 4
    assert shrink == pytest.approx(2 / (1 + 0.5**2), rel=1e-9)


def test_a_tilted_pump_takes_both_photons_along():
    """Inside the crystal all three are parallel: outside the signal leaves at t n_s/n_p, the idler at t n_i/n_p."""
    s = source(signal_wavelength=680e-9)
    n_p, n_s, n_i = (float(n) for n in s.indices())
    optics = far_field(pump_tilt_x=0.3e-3, pump_tilt_y=-0.8e-3, idler_x=11e-6, idler_y=7e-6)
    tilt, shift = np.array([0.3e-3, -0.8e-3]), np.array([11e-6, 7e-6])
    signal, idler = optics.beam_centres(s)
    np.testing.assert_allclose(signal, 0.08 * tilt * n_s / n_p, rtol=1e-9)
    mirrored = -0.08 * tilt * n_i / n_p * 680e-9 / float(s.idler_wavelength())
    np.testing.assert_allclose(idler, shift + mirrored, rtol=1e-9)


def test_defocus_parts_the_pair_by_where_it_was_born():
    """x - y gains (dz/f)^2 Var r_s per axis, r_s at the crystal: m_i of the separation beside the centre, w/2."""
    s = source(signal_wavelength=680e-9)
    pair, dz = s.biphoton(), 7e-3
    m_i = float(pair.shares()[1])
    born = (0.9e-3 / 2) ** 2 + (m_i * float(pair.separation_width())) ** 2
    sharp, soft = (float(far_field(defocus=z).correlation_width(s)) for z in (0.0, dz))
    assert soft**2 - sharp**2 == pytest.approx((dz / 0.08) ** 2 * born, rel=1e-9)


def test_field_fraction_counts_the_photons_in_the_square():
    s, optics = source(), far_field(pitch=3e-4)
    k1, _ = s.sample(COUNT, key=jax.random.key(13))
    inside = np.abs(np.asarray(k1) * 0.08 * 780e-9 / (2 * np.pi)).max(axis=1) < 4 * 3e-4
    p = float(optics.field_fraction(s))
    assert 0.05 < p < 0.95
    assert abs(inside.mean() - p) / np.sqrt(p * (1 - p) / COUNT) < 4


def test_diffraction_spot_has_the_curvature_of_the_airy_pattern():
    """(2 J1(v)/v)^2, v = 2 pi NA r/l, against exp(-r^2/(2 s^2)) close to the axis."""
    spot = float(far_field().blur(source()))
    r = 0.02 * spot
    v = 2 * np.pi * 0.3 * r / 780e-9
    assert 1 - (2 * j1(v) / v) ** 2 == pytest.approx(1 - np.exp(-(r**2) / (2 * spot**2)), rel=1e-3)


def test_beams_far_from_normal_incidence_are_refused():
    far_field(focal_length=0.0091).check_with(source())  # w/(2 f) = 0.0495 rad
    with pytest.raises(FieldError, match="focal_length"):
        far_field(focal_length=0.0089).check_with(source())
