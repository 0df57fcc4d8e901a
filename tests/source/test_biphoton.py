"""Widths, Schmidt numbers and samples of the spatial biphoton against quadrature, grids and published numbers."""

from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import j0, sici
from slopes import check_slopes

from qtwin.core.errors import FieldError
from qtwin.source.biphoton import NEAR_HALF, SINC_HALF, STAND_INS, DoubleGaussian, SincBiphoton, normals

VALUES = {
    "signal_wavelength": 780e-9,
    "idler_wavelength": 1 / (1 / 405e-9 - 1 / 780e-9),
    "signal_index": 1.66,
    "idler_index": 1.64,
    "crystal_length": 1.7e-3,
    "waist": 45e-6,
}
ALIKE = {"signal_wavelength": 810e-9, "idler_wavelength": 810e-9, "signal_index": 1.0, "idler_index": 1.0}
COUNT = 100_000
WINGS = 40_000  # rejection costs more


def alike(kind, bs=None, **changes):
    """A degenerate source in a medium of index 1; ``bs`` = sqrt(2 a)/w, b and s of Law & Eberly."""
    values = VALUES | ALIKE | changes
    b = kind(**values)
    return b if bs is None else kind(**(values | {"waist": np.sqrt(2 * float(b.phase_matching())) / bs}))


def z_of_variance(sample, variance):
    return (np.mean(sample**2) / variance - 1) / np.sqrt(2 / sample.size)


# --- widths ----------------------------------------------------------------------------------------------------------


def test_phase_matching_is_the_mismatch_of_rays():
    """Delta k L/2 of rays q, -q in the crystal, from the exact lengths of k_z: 2 a q^2 to second order."""
    b = DoubleGaussian(**VALUES)
    k_s, k_i = 2 * np.pi * 1.66 / 780e-9, 2 * np.pi * 1.64 / VALUES["idler_wavelength"]
    q = 1e4
    exact = (k_s - np.sqrt(k_s**2 - q**2) + k_i - np.sqrt(k_i**2 - q**2)) * 1.7e-3 / 2
    assert 2 * float(b.phase_matching()) * q**2 == pytest.approx(exact, rel=1e-5)


def test_only_the_relative_wave_vector_dephases():
    """With k_p = k_s + k_i on the axis, pump k_z less signal's and idler's is k_p |Q|^2/(2 k_s k_i) for any q_s,
    q_i."""
    b = DoubleGaussian(**VALUES)
    k_s, k_i = 2 * np.pi * 1.66 / 780e-9, 2 * np.pi * 1.64 / VALUES["idler_wavelength"]
    q_s, q_i = 3.1e4, -1.2e4
    paraxial = q_s**2 / (2 * k_s) + q_i**2 / (2 * k_i) - (q_s + q_i) ** 2 / (2 * (k_s + k_i))
    m_s, m_i = (float(m) for m in b.shares())
    u = 2 * float(b.phase_matching()) * (m_i * q_s - m_s * q_i) ** 2
    assert u == pytest.approx(paraxial * 1.7e-3 / 2, rel=1e-10)


@pytest.mark.parametrize(("n", "um"), [(1.0, 15.233), (1.66, 11.823)])
def test_one_dimensional_sinc(n, um):
    """std(x_s - x_i) = sqrt(9 L l_p/(10 pi n_p)), L = 2 mm, l_p = 405 nm: the stand-in 'std'."""
    b = alike(DoubleGaussian, crystal_length=2e-3, signal_index=n, idler_index=n, stand_in="std")
    assert float(b.separation_width()) * 1e6 == pytest.approx(um, abs=5e-4)
    assert float(b.separation_width()) == pytest.approx(np.sqrt(9 * 2e-3 * 405e-9 / (10 * np.pi * n)), rel=1e-12)


def test_std_stand_in_from_the_slope_of_the_sinc():
    """Var(x) = int |d sinc(q^2)/dq|^2/int sinc(q^2)^2 dq = 1.8 with exp(-1.8 q^2) alike."""
    q = np.linspace(1e-6, 400, 4_000_001)
    slope = 2 * (q**2 * np.cos(q**2) - np.sin(q**2)) / q**3
    norm = np.trapezoid(np.sinc(q**2 / np.pi) ** 2, q)
    # beyond q the mean of cos^2 leaves 2/q
    assert (np.trapezoid(slope**2, q) + 2 / q[-1]) / norm == pytest.approx(STAND_INS["std"], rel=1e-5)


def test_half_maxima_and_one_over_e():
    assert sici(NEAR_HALF)[0] == pytest.approx(np.pi / 2 * (1 - 0.5**0.5), rel=1e-12)
    assert (np.sin(SINC_HALF) / SINC_HALF) ** 2 == pytest.approx(0.5, rel=1e-12)
    x = 1 / STAND_INS["exp(-0.455 x)"]
    assert np.sin(x) / x == pytest.approx(np.exp(-1), rel=1e-12)


def test_full_widths_of_the_sinc():
    """3.860 sqrt a over x_s - x_i, 2.730 sqrt a over r = (x_s - x_i)/sqrt 2; KTP 2 mm, n_p = 1.84: 22.8 um."""
    b = alike(SincBiphoton, crystal_length=2e-3, signal_index=1.84, idler_index=1.84)
    root = np.sqrt(2e-3 * 405e-9 / (4 * np.pi * 1.84))
    assert float(b.phase_matching()) == pytest.approx(root**2, rel=1e-12)
    assert float(b.near_fwhm()) / root == pytest.approx(3.860, abs=5e-4)
    assert float(b.near_fwhm()) / root / 2**0.5 == pytest.approx(2.730, abs=5e-4)
    assert float(b.near_fwhm()) * 1e6 == pytest.approx(22.8, abs=0.05)
    zero, half = jnp.zeros(2), jnp.array([0.0, float(b.near_fwhm()) / 2])
    assert float(b.near_density(half / 2, -half / 2) / b.near_density(zero, zero)) == pytest.approx(0.5, rel=1e-9)
    q = jnp.array([float(b.far_fwhm()) / 2, 0.0])
    assert float(b.far_density(q, -q) / b.far_density(zero, zero)) == pytest.approx(0.5, rel=1e-9)


@pytest.mark.parametrize("name", ["near FWHM", "far FWHM"])
def test_stand_ins_keep_the_width_they_name(name):
    gauss, sinc = DoubleGaussian(**VALUES, stand_in=name), SincBiphoton(**VALUES)
    width = gauss.separation_width() if name == "near FWHM" else gauss.relative_width()
    full = sinc.near_fwhm() if name == "near FWHM" else sinc.far_fwhm()
    assert float(width) * np.sqrt(8 * np.log(2)) == pytest.approx(float(full), rel=1e-12)


def test_pump_widths():
    b = DoubleGaussian(**VALUES)
    assert float(b.sum_width()) == pytest.approx(1 / 45e-6)
    assert float(b.centre_width()) == pytest.approx(22.5e-6)
    v = np.asarray(alike(DoubleGaussian).moments().covariance)
    assert v[1, 1] + 2 * v[1, 3] + v[3, 3] == pytest.approx(1 / 45e-6**2, rel=1e-12)  # std(q_s + q_i) = 1/w
    assert (v[0, 0] + 2 * v[0, 2] + v[2, 2]) / 4 == pytest.approx(22.5e-6**2, rel=1e-12)  # std((x_s + x_i)/2) = w/2


def test_moments_belong_to_a_pure_state():
    """det V = (1/4)^2 and V J V = J/4 (hbar = 1), J the symplectic form: one pure pair, unlike wavelengths too."""
    v = np.asarray(DoubleGaussian(**VALUES).moments().covariance)
    j = np.kron(np.eye(2), [[0, 1], [-1, 0]])
    scale = np.array([1e-5, 1e5, 1e-5, 1e5])  # to numbers of order one
    v = v / np.outer(scale, scale)
    np.testing.assert_allclose(v @ j @ v, j / 4, atol=1e-12)
    widths = [float(w) for w in DoubleGaussian(**VALUES).photon_widths()]
    assert widths == pytest.approx([v[1, 1] ** 0.5 * 1e5, v[3, 3] ** 0.5 * 1e5], rel=1e-12)


def test_unknown_stand_in_and_bad_fields_are_refused():
    with pytest.raises(FieldError, match=r"stand_in: got 'fwhm', accepted are std, near FWHM"):
        DoubleGaussian(**VALUES, stand_in="fwhm")
    with pytest.raises(FieldError, match="waist"):
        SincBiphoton(**(VALUES | {"waist": -1e-6}))
    with pytest.raises(FieldError, match="signal_index"):
        SincBiphoton(**(VALUES | {"signal_index": 0.9}))


# --- densities -------------------------------------------------------------------------------------------------------


def test_densities_are_normalised():
    """2 pi int over |Q| and K, over separation and centre; the far tails 1/u^2 and 1/z^2 are added."""
    b = SincBiphoton(**VALUES)
    a = float(b.phase_matching())
    m_s, m_i = (float(m) for m in b.shares())
    last = 300 * np.pi
    u = np.linspace(1e-9, last, 300 * 64 + 1)
    r = np.sqrt(u / (2 * a))
    q = jnp.stack([jnp.asarray(r), jnp.zeros(len(r))], axis=1)  # K = 0, Q = q
    cut = np.trapezoid(np.asarray(b.far_density(q, -q)), u) * np.pi / (2 * a)  # over d^2 Q
    pump = 2 * np.pi * float(b.sum_width()) ** 2
    assert cut * pump == pytest.approx(1 - 1 / (np.pi * last), abs=2e-6)
    x = jnp.stack([jnp.asarray(np.sqrt(8 * a * u)), jnp.zeros(len(r))], axis=1)
    cut = np.trapezoid(np.asarray(b.near_density(m_i * x, -m_s * x)), u) * np.pi * 8 * a
    # trapezoidal error at the step 0.05 of the curve's corner at 0: below 1e-3
    assert cut * 2 * np.pi * float(b.centre_width()) ** 2 == pytest.approx(1 - 1 / (np.pi * last), abs=1e-3)


def test_near_amplitude_is_the_transform_of_the_far_one():
    """int J0(q x) (pi/2 - Si(x^2/4)) x dx/2 = sinc(q^2); what lies beyond x = 300 is below 3e-6."""
    x = np.linspace(0, 300, 240_001)
    near = (np.pi / 2 - sici(x**2 / 4)[0]) / 2
    for q in (0.3, 1.1, 2.2):
        assert np.trapezoid(j0(q * x) * near * x, x) == pytest.approx(np.sinc(q**2 / np.pi), abs=5e-6)


# --- Schmidt numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("r", "per_axis"), [(1, 1.0), (2, 1.25), (10, 5.05)])
def test_schmidt_number_of_the_double_gaussian(r, per_axis):
    """K1 = (r + 1/r)/2, K2 = K1^2 (Law & Eberly 2004); r = std(x_s + x_i)/std(x_s - x_i) or its inverse."""
    for ratio in (r, 1 / r):
        b = alike(DoubleGaussian)
        b = alike(DoubleGaussian, waist=float(b.separation_width()) * ratio)
        assert float(b.schmidt_number()) == pytest.approx(per_axis**2, rel=1e-12)


def test_schmidt_number_of_unlike_wavelengths_from_singular_values():
    """1/sum p^2 of psi(q_s, q_i) on a grid, one dimension."""
    b = DoubleGaussian(**(VALUES | {"idler_wavelength": 1550e-9, "waist": 14e-6}))
    m_s, m_i = (float(m) for m in b.shares())
    s, i = (np.linspace(-7, 7, 400) * float(w) for w in b.photon_widths())
    total, relative = s[:, None] + i[None, :], m_i * s[:, None] - m_s * i[None, :]
    psi = np.exp(-((total / float(b.sum_width())) ** 2 + (relative / float(b.relative_width())) ** 2) / 4)
    p = np.linalg.svd(psi, compute_uv=False) ** 2
    assert float(b.schmidt_number()) == pytest.approx((np.sum(p) ** 2 / np.sum(p**2)) ** 2, rel=1e-9)


def test_schmidt_number_of_the_sinc():
    """K2 = 3.0414 at b s = 0.5, where exp(-x) says 1.5625 (Law & Eberly 2004)."""
    assert float(alike(SincBiphoton, 0.5).schmidt_number()) == pytest.approx(3.0414, abs=1e-4)
    assert float(alike(DoubleGaussian, 0.5, stand_in="exp(-x)").schmidt_number()) == pytest.approx(1.5625, rel=1e-12)


@pytest.mark.parametrize("bs", [0.22, 1.0, 2.9])
def test_schmidt_number_of_the_sinc_has_converged(bs):
    """Within the stated 1e-6 of twice the nodes and azimuths."""
    b = alike(SincBiphoton, bs)
    assert float(b.schmidt_number()) == pytest.approx(float(b.schmidt_number(128, 256)), rel=1e-6)


def test_purity_of_the_sinc_from_exponentials():
    """Purity = sum over four exponentials of a determinant (no cut in q), against angular momenta; unlike photons.

    sinc(u) = int exp(i t u) dt/2 turns the purity into pi^4/det(M) over (-1, 1)^4; damping exp(-e u) on both sides,
    as the integrand is singular where all t are alike: the law is sinc(u) exp(-e u).
    """
    b = SincBiphoton(**(VALUES | {"idler_wavelength": 1550e-9, "waist": 20e-6}))
    m_s, m_i = (float(m) for m in b.shares())
    kappa2 = 8 * float(b.phase_matching()) / 20e-6**2
    damp = 0.25
    t, w = np.polynomial.legendre.leggauss(14)
    g = damp - 1j * t
    pump = 1 / kappa2
    ss, ii, si = pump + m_i**2 * g, pump + m_s**2 * g, pump - m_s * m_i * g
    grid = np.meshgrid(*[np.arange(14)] * 4, indexing="ij")
    one, two, three, four = (index.ravel() for index in grid)
    # psi(k1, k2) psi*(k1', k2) psi(k1', k2') psi*(k1, k2')
    m = np.zeros((one.size, 4, 4), complex)  # order k1, k1', k2, k2'
    for index, (s, i), sign in ((one, (0, 2), 1), (two, (1, 2), -1), (three, (1, 3), 1), (four, (0, 3), -1)):
        pick = lambda a, j=index, c=sign: a[j] if c > 0 else np.conj(a[j])  # noqa: E731
        m[:, s, s] += pick(ss)
        m[:, i, i] += pick(ii)
        m[:, s, i] += pick(si)
        m[:, i, s] += pick(si)
    weight = w[one] * w[two] * w[three] * w[four] / 16
    trace = np.sum(weight * np.pi**4 / np.linalg.det(m)).real
    norm = np.pi**2 * kappa2 / 2 * quad(lambda u: np.sinc(u / np.pi) ** 2 * np.exp(-2 * damp * u), 0, 60)[0]
    from_sum = norm**2 / trace
    # the same damped law through the method that is tested
    radial = damped_schmidt_number(kappa2, m_s, m_i, damp) / norm**2
    assert 1 / radial == pytest.approx(from_sum, rel=1e-5)
    free = damped_schmidt_number(kappa2, m_s, m_i, 0.0) / (np.pi**3 * kappa2 / 4) ** 2
    assert float(b.schmidt_number()) == pytest.approx(1 / free, rel=1e-5)


def damped_schmidt_number(kappa2, m_s, m_i, damp, radial=72, angles=128):
    """Sum of squares by angular momentum of exp(-K^2/kappa2) sinc(Q^2) exp(-damp Q^2), plain numpy."""
    node, weight = (a / 2 for a in np.polynomial.legendre.leggauss(radial))
    reach = [m * 3.4 * np.sqrt(kappa2) + 5.0 for m in (m_s, m_i)]
    (s, i), (ws, wi) = ([r * (node + 0.5) for r in reach], [r * weight for r in reach])
    c = np.cos(2 * np.pi * np.arange(angles) / angles)
    total = s[:, None, None] ** 2 + i[None, :, None] ** 2 + 2 * s[:, None, None] * i[None, :, None] * c
    relative = (m_i * s[:, None, None]) ** 2 + (m_s * i[None, :, None]) ** 2
    relative = relative - 2 * m_s * m_i * s[:, None, None] * i[None, :, None] * c
    psi = np.exp(-total / kappa2 - damp * relative) * np.sinc(relative / np.pi)
    a = np.fft.fft(psi, axis=2).real / angles * 2 * np.pi
    a = a * np.sqrt(ws * s)[:, None, None] * np.sqrt(wi * i)[None, :, None]
    return sum(np.sum((a[:, :, m] @ a[:, :, m].T) ** 2) for m in range(angles))


def test_wide_pump_limit():
    """K2 -> 3 pi w^2/(32 a), 2.356 times that of exp(-x); at b s = 0.1 it is 1.2 % off, and the rest falls as (b
    s)^2."""
    pumps = [(alike(SincBiphoton, 0.2), (64, 128)), (alike(SincBiphoton, 0.1), (128, 256))]
    off = [float(b.schmidt_number(*n) / b.thin_schmidt_number()) - 1 for b, n in pumps]
    assert off[1] == pytest.approx(0.0113, abs=2e-4)
    assert off[0] / off[1] == pytest.approx(4, rel=0.1)
    b, gauss = alike(SincBiphoton, 0.01), alike(DoubleGaussian, 0.01, stand_in="exp(-x)")
    assert float(b.thin_schmidt_number() / gauss.schmidt_number()) == pytest.approx(0.75 * np.pi, rel=3e-4)


# --- samples ---------------------------------------------------------------------------------------------------------


@jax.jit
def draw(b, key):
    return b.sample(COUNT, key=key)


@pytest.fixture(scope="module")
def rays():
    b = DoubleGaussian(**VALUES)
    return b, *draw(b, jax.random.key(5))


def test_rays_have_every_second_moment(rays):
    """z-scores of all ten second moments of (x_s, k_s, x_i, k_i): Var(uv) = V_uu V_vv + V_uv^2."""
    b, signal, idler = rays
    columns = np.stack([np.asarray(a, float) for a in (signal.x, signal.k, idler.x, idler.k)]).reshape(4, -1)
    v = np.asarray(b.moments().covariance)
    error = np.sqrt((np.outer(np.diag(v), np.diag(v)) + v**2) / columns.shape[1])
    z = (columns @ columns.T / columns.shape[1] - v) / error
    assert np.abs(z).max() < 4
    assert np.abs(columns.mean(1) / np.sqrt(np.diag(v) / columns.shape[1])).max() < 4
    # the axes are independent of each other
    x, y = np.asarray(signal.k)[:, 0], np.asarray(idler.k)[:, 1]
    assert abs(np.mean(x * y)) / (x.std() * y.std()) * np.sqrt(COUNT) < 4


def test_a_wrong_width_would_be_seen(rays):
    """A waist wrong by five standard errors moves the score of its width by five."""
    b, signal, _ = rays
    wrong = DoubleGaussian(**(VALUES | {"waist": 45e-6 * 1.01}))
    assert abs(z_of_variance(np.asarray(signal.x), float(b.moments().covariance[0, 0]))) < 4
    assert abs(z_of_variance(np.asarray(signal.x), float(wrong.moments().covariance[0, 0]))) > 5


def test_normal_numbers_up_to_the_fourth_moment():
    numbers = np.stack([np.asarray(n, float) for n in jax.jit(lambda key: normals(COUNT, key=key))(jax.random.key(3))])
    flat = numbers.reshape(4, -1)
    n = flat.shape[1]
    assert np.abs(flat.mean(1)).max() * np.sqrt(n) < 4
    assert np.abs((flat**2).mean(1) - 1).max() / np.sqrt(2 / n) < 4
    assert np.abs((flat**4).mean(1) - 3).max() / np.sqrt(96 / n) < 4
    squares = np.corrcoef(flat**2) - np.eye(4)
    assert np.abs(squares).max() * np.sqrt(n) < 4.5
    # tails: 2 (1 - N(3)) = 0.0026998
    p = 0.0026997960632601866
    assert abs((np.abs(flat) > 3).mean() - p) / np.sqrt(p / flat.size) < 4


def test_float32_rays_have_the_same_law():
    values = {k: jnp.asarray(v, jnp.float32) for k, v in VALUES.items()}
    b = eqx.tree_at(lambda b: [getattr(b, k) for k in values], DoubleGaussian(**VALUES), list(values.values()))
    signal, idler = draw(b, jax.random.key(8))
    assert signal.x.dtype == idler.k.dtype == jnp.float32
    v = np.asarray(DoubleGaussian(**VALUES).moments().covariance)
    assert abs(z_of_variance(np.asarray(signal.x, float), v[0, 0])) < 4
    assert abs(z_of_variance(np.asarray(idler.k, float), v[3, 3])) < 4


@pytest.fixture(scope="module")
def wings():
    b = SincBiphoton(**VALUES)
    far = eqx.filter_jit(lambda b, key: b.sample_far(WINGS, key=key))(b, jax.random.key(21))
    near = eqx.filter_jit(lambda b, key: b.sample_near(WINGS, key=key))(b, jax.random.key(22))
    return b, [np.asarray(a) for a in far], [np.asarray(a) for a in near]


def chi_square(sample, edges, cumulative):
    expected = np.diff(cumulative) * len(sample)
    counts = np.histogram(sample, edges)[0]
    return (np.sum((counts - expected) ** 2 / expected) - len(counts)) / np.sqrt(2 * len(counts))


def test_far_field_of_the_sinc(wings):
    """u = 2 a |Q|^2 has the distribution (2/pi)(Si(2u) - sin(u)^2/u); q_s + q_i the pump's width."""
    b, (q_s, q_i), _ = wings
    m_s, m_i = (float(m) for m in b.shares())
    u = 2 * float(b.phase_matching()) * np.sum((m_i * q_s - m_s * q_i) ** 2, axis=1)
    edges = np.concatenate([np.linspace(0, 12, 49), [20, 40, 100, 1e9]])
    cumulative = np.concatenate([[0], 2 / np.pi * (sici(2 * edges[1:])[0] - np.sin(edges[1:]) ** 2 / edges[1:])])
    assert abs(chi_square(u, edges, cumulative)) < 4
    assert chi_square(1.05 * u, edges, cumulative) > 5
    assert abs(z_of_variance(q_s + q_i, 1 / 45e-6**2)) < 4
    azimuth = np.arctan2(*(m_i * q_s - m_s * q_i).T)
    assert abs(np.mean(np.cos(azimuth))) * np.sqrt(2 * WINGS) < 4


def test_near_field_of_the_sinc(wings):
    """z = |x_s - x_i|^2/8a has the density (2/pi)(pi/2 - Si(z))^2; the centre the pump's width."""
    b, _, (x_s, x_i) = wings
    m_s, m_i = (float(m) for m in b.shares())
    z = np.sum((x_s - x_i) ** 2, axis=1) / (8 * float(b.phase_matching()))
    edges = np.concatenate([np.linspace(0, 6, 41), [10, 20, 60, 2000]])

    def density(y):
        return 2 / np.pi * (np.pi / 2 - sici(y)[0]) ** 2

    parts = [quad(density, *ends, limit=2000)[0] for ends in pairwise(edges)]
    assert abs(chi_square(z, edges, np.concatenate([[0], np.cumsum(parts)]))) < 4
    assert chi_square(1.05 * z, edges, np.concatenate([[0], np.cumsum(parts)])) > 5
    assert abs(z_of_variance(m_s * x_s + m_i * x_i, 22.5e-6**2)) < 4


def test_same_key_same_pairs(rays):
    b, signal, _ = rays
    again, other = (draw(b, jax.random.key(n))[0] for n in (5, 0))
    assert jnp.array_equal(signal.x, again.x)
    assert not jnp.array_equal(signal.x, other.x)


# --- derivatives -----------------------------------------------------------------------------------------------------


def readings(log):
    """Logarithms of what a designer reads, from those of the six fields."""
    fields = dict(zip(VALUES, jnp.exp(log), strict=True))
    gauss, sinc = DoubleGaussian(**fields), SincBiphoton(**fields)
    x_s, x_i = jnp.array([4e-6, 1e-6]), jnp.array([1e-6, -3e-6])
    q_s, q_i = jnp.array([5e4, 1e4]), jnp.array([-4e4, 2e4])
    return jnp.log(
        jnp.stack(
            [
                *(gauss.separation_width(), *gauss.photon_widths(), gauss.schmidt_number()),
                *(sinc.schmidt_number(24, 48), sinc.thin_schmidt_number(), sinc.near_fwhm(), sinc.far_fwhm()),
                *(sinc.near_density(x_s, x_i), sinc.far_density(q_s, q_i)),
            ]
        )
    )


def test_derivatives_in_every_field():
    """As slopes of logarithms."""
    log = jnp.log(jnp.array([*VALUES.values()])).at[5].set(np.log(20e-6))
    check_slopes(readings, log, 1e-4, rtol=1e-5, atol=1e-6)
