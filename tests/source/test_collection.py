"""Pairs in apertures and fibres: quadrature against draws, grids, closed limits and published laws."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import ncx2
from slopes import check_slopes

from qtwin.source.biphoton import DoubleGaussian, Moments, SincBiphoton
from qtwin.source.collection import aperture_collection, disc_probability, fibre_collection

VALUES = {
    "signal_wavelength": 780e-9,
    "idler_wavelength": 1 / (1 / 405e-9 - 1 / 780e-9),
    "signal_index": 1.66,
    "idler_index": 1.64,
    "crystal_length": 2e-3,
    "waist": 25e-6,
}
ALIKE = {"signal_wavelength": 810e-9, "idler_wavelength": 810e-9, "signal_index": 1.65, "idler_index": 1.65}
apertures = jax.jit(aperture_collection)
fibres = jax.jit(fibre_collection)


def moments(s, i, rho):
    v = jnp.zeros((4, 4)).at[0, 0].set(s**2).at[2, 2].set(i**2).at[0, 2].set(rho * s * i).at[2, 0].set(rho * s * i)
    return Moments(jnp.zeros((4, 2)), v, jnp.ones(()))


# --- apertures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1.0, 0.2, 0.003])
def test_disc_against_the_noncentral_chi_square(width):
    """P(|x|^2/s^2 < R^2/s^2), two degrees of freedom, noncentrality (d/s)^2."""
    d = np.array([0.0, 0.3, 0.995, 1.0, 1.004, 2.5])
    got = disc_probability(jnp.full(6, width), jnp.full(6, 1.0), jnp.asarray(d))
    np.testing.assert_allclose(got, ncx2.cdf(1 / width**2, 2, (d / width) ** 2 + 1e-12), atol=1e-9)


@pytest.mark.parametrize("rho", [0.0, -0.6, 0.98, -0.99999])
def test_apertures_against_draws(rho):
    s, i, radii, n = 1.3, 0.8, (1.7, 0.9), 200_000
    rng = np.random.default_rng(4)
    one, two = rng.standard_normal((2, n, 2))
    signal, idler = s * one, i * (rho * one + np.sqrt(1 - rho**2) * two)
    here = [np.linalg.norm(x, axis=1) < r for x, r in ((signal, radii[0]), (idler, radii[1]))]
    got = apertures(moments(s, i, rho), *(jnp.asarray(r) for r in radii))
    for p, hits in ((got.signal, here[0]), (got.idler, here[1]), (got.pair, here[0] & here[1])):
        z = (hits.mean() - float(p)) / np.sqrt(float(p) * (1 - float(p)) / n)
        assert abs(z) < 4
    assert float(got.signal_heralding) == pytest.approx(float(got.pair / got.idler), rel=1e-15)


def test_independent_and_identical_photons():
    got = apertures(moments(1.0, 1.4, 0.0), jnp.asarray(0.8), jnp.asarray(1.1))
    assert float(got.pair) == pytest.approx(float(got.signal * got.idler), rel=1e-9)
    got = apertures(moments(1.0, 1.4, 1 - 1e-12), jnp.asarray(0.8), jnp.asarray(1.4 * 0.7))
    assert float(got.pair) == pytest.approx(float(got.idler), rel=1e-5)  # the smaller disc decides


def test_open_apertures_collect_everything_and_roles_may_be_exchanged():
    got = apertures(moments(1.0, 1.4, -0.7), jnp.asarray(0.8), jnp.asarray(jnp.inf))
    assert float(got.pair) == pytest.approx(float(got.signal), rel=1e-12)
    a = apertures(moments(1.0, 1.4, -0.7), jnp.asarray(0.8), jnp.asarray(1.1))
    b = apertures(moments(1.4, 1.0, -0.7), jnp.asarray(1.1), jnp.asarray(0.8))
    assert float(a.pair) == pytest.approx(float(b.pair), rel=1e-9)


def test_slopes_of_the_aperture():
    """By widths, correlation and both radii."""

    def pair(x):
        return aperture_collection(moments(x[0], x[1], x[2]), x[3], x[4]).pair

    x = jnp.array([1.3, 0.8, -0.9, 1.5, 1.1])
    check_slopes(pair, x, rtol=1e-7, atol=1e-9)


# --- fibres ----------------------------------------------------------------------------------------------------------


class Grid(NamedTuple):
    pair: float
    signal: float
    idler: float


def on_a_grid(b, w_s, w_i, law):
    """Overlaps of one axis by sums over a grid, to the square for two axes (only where the law parts into axes)."""
    m_s, m_i = (float(m) for m in b.shares())
    q = np.linspace(-1, 1, 1201) * 1.2e6
    s, i = q[:, None], q[None, :]
    psi = np.exp(-(float(b.waist) ** 2) * (s + i) ** 2 / 4) * law(
        2 * float(b.phase_matching()) * (m_i * s - m_s * i) ** 2
    )
    psi /= np.sqrt(np.sum(psi**2))
    modes = [np.exp(-((w * q) ** 2) / 4) for w in (w_s, w_i)]
    modes = [m / np.sqrt(np.sum(m**2)) for m in modes]
    found = ((modes[0] @ psi @ modes[1]) ** 2, np.sum((modes[0] @ psi) ** 2), np.sum((psi @ modes[1]) ** 2))
    return Grid(*(f**2 for f in found))


def test_gaussian_pairs_in_fibres_against_a_grid():
    b = DoubleGaussian(**VALUES, stand_in="exp(-x)")
    got, want = fibres(b, jnp.asarray(17e-6), jnp.asarray(21e-6)), on_a_grid(b, 17e-6, 21e-6, lambda u: np.exp(-u))
    for name in Grid._fields:
        assert float(getattr(got, name)) == pytest.approx(getattr(want, name), rel=1e-6), name


def test_sinc_pairs_in_fibres_against_angular_momenta():
    """Modes are round: pair and singles need m = 0 alone. Radial quadrature of the true sinc."""
    b = SincBiphoton(**VALUES)
    a, w = float(b.phase_matching()), float(b.waist)
    m_s, m_i = (float(m) for m in b.shares())
    w_s, w_i = 17e-6, 21e-6
    node, weight = np.polynomial.legendre.leggauss(160)
    reach = [np.sqrt(60 / (2 * a)) + m * 6.5 / w for m in (m_s, m_i)]
    (s, i), (v_s, v_i) = ([r * (node + 1) / 2 for r in reach], [r * weight / 2 for r in reach])
    c = np.cos(2 * np.pi * (np.arange(64) + 0.5) / 64)
    s3, i3 = s[:, None, None], i[None, :, None]
    relative = (m_i * s3) ** 2 + (m_s * i3) ** 2 - 2 * m_s * m_i * s3 * i3 * c
    psi = np.exp(-(w**2) * (s3**2 + i3**2 + 2 * s3 * i3 * c) / 4) * np.sinc(2 * a * relative / np.pi)
    psi = psi.mean(axis=2) * np.sqrt(np.outer(2 * np.pi * s * v_s, 2 * np.pi * i * v_i))  # m = 0
    psi /= np.sqrt(np.pi**3 / (2 * a * w**2))
    modes = [x / (2 * np.pi) ** 0.5 * np.exp(-((x * q) ** 2) / 4) for x, q in ((w_s, s), (w_i, i))]
    modes = [m * np.sqrt(2 * np.pi * q * v) for m, q, v in zip(modes, (s, i), (v_s, v_i), strict=True)]
    assert [m @ m for m in modes] == pytest.approx([1, 1], abs=1e-9)
    got = fibres(b, jnp.asarray(w_s), jnp.asarray(w_i))
    assert float(got.pair) == pytest.approx((modes[0] @ psi @ modes[1]) ** 2, rel=1e-6)
    assert float(got.signal) == pytest.approx(np.sum((modes[0] @ psi) ** 2), rel=2e-3)  # the cut at u = 60
    assert float(got.idler) == pytest.approx(np.sum((psi @ modes[1]) ** 2), rel=2e-3)


@pytest.mark.parametrize("pump", [30e-6, 60e-6, 2e-3])
def test_thin_crystal_limit(pump):
    """Heralding = [2 v w/(v^2 + w^2)]^2, 1/v^2 = 1/w_p^2 + 1/w^2: the herald's mode cut by the pump."""
    w = 40e-6
    b = SincBiphoton(**(VALUES | ALIKE | {"crystal_length": 2e-6, "waist": pump}))
    got = fibres(b, jnp.asarray(w), jnp.asarray(w))
    v = 1 / np.sqrt(1 / pump**2 + 1 / w**2)
    assert float(got.signal_heralding) == pytest.approx((2 * v * w / (v**2 + w**2)) ** 2, rel=1e-6)
    assert float(got.signal_heralding) == pytest.approx(float(got.idler_heralding), rel=1e-9)
    matched = fibres(b, jnp.asarray(v), jnp.asarray(w))
    assert float(matched.signal_heralding) == pytest.approx(1, abs=1e-6)


def test_pairs_fall_with_focusing_as_boyd_and_kleinman():
    """Equal Rayleigh ranges, xi = L/(2 z_R): unnormalised |overlap|^2 ~ arctan(xi)^2/xi, largest at xi = 1.392."""
    xi = np.array([0.1, 0.7, 1.392, 3.0, 8.0])
    rayleigh = 2e-3 / (2 * xi)
    got = []
    for z in rayleigh:
        pump, mode = (np.sqrt(2 * z * wavelength / (2 * np.pi * 1.65)) for wavelength in (405e-9, 810e-9))
        b = SincBiphoton(**(VALUES | ALIKE | {"waist": pump}))
        # pairs in the modes = pair x all pairs; these are int |psi|^2 of a pump of unit power, amplitude sqrt(2/pi)/w
        got.append(float(fibres(b, jnp.asarray(mode), jnp.asarray(mode)).pair * b.strength()) * pump**2)
    law = np.arctan(xi) ** 2 / xi
    # Gauss-Legendre in 64 nodes, the integrand's poles at +-i/xi: error (1/xi + sqrt(1 + 1/xi^2))^-128
    bound = 4 * (1 / xi + np.sqrt(1 + 1 / xi**2)) ** -128.0 + 1e-12
    assert np.all(np.abs(np.array(got) / got[1] / (law / law[1]) - 1) < bound)
    fine = np.linspace(1.0, 2.0, 1001)
    assert fine[np.argmax(np.arctan(fine) ** 2 / fine)] == pytest.approx(1.392, abs=2e-3)


def test_single_mode_pairs_fill_matched_fibres():
    """K = 1: psi factorises, and fibres of its own widths take every pair."""
    tight = float(DoubleGaussian(**(VALUES | ALIKE)).separation_width())
    b = DoubleGaussian(**(VALUES | ALIKE | {"waist": tight}))
    assert float(b.schmidt_number()) == pytest.approx(1, rel=1e-12)
    mode = 2 * float(b.moments().covariance[0, 0]) ** 0.5
    got = fibres(b, jnp.asarray(mode), jnp.asarray(mode))
    assert [float(p) for p in got] == pytest.approx([1, 1, 1], rel=1e-12)


def test_a_larger_pump_heralds_better_and_couples_less():
    """The trade of Bennink (2010) and Dixon et al. (2014): heralding rises with the waist, pair coupling falls."""
    found = [
        fibres(SincBiphoton(**(VALUES | {"waist": w})), jnp.asarray(25e-6), jnp.asarray(25e-6))
        for w in (30e-6, 60e-6, 120e-6)
    ]
    heralding, pair = [float(f.signal_heralding) for f in found], [float(f.pair) for f in found]
    assert heralding == sorted(heralding) and heralding[-1] > 0.99
    assert pair == sorted(pair, reverse=True)
    assert all(0 < float(f.pair) <= min(float(f.signal), float(f.idler)) < 1 for f in found)


@pytest.mark.parametrize("kind", [DoubleGaussian, SincBiphoton])
def test_slopes_of_the_fibres(kind):
    """By every field and both waists, as slopes of logarithms."""

    def read(log):
        *fields, w_s, w_i = jnp.exp(log)
        return jnp.log(jnp.stack(list(fibre_collection(kind(*fields), w_s, w_i))))

    log = jnp.log(jnp.array([*VALUES.values(), 17e-6, 24e-6]))
    check_slopes(read, log, 1e-4, rtol=1e-5, atol=1e-6)
