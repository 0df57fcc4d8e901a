"""Point spread, transfer and edge of a circular pupil against Bessel functions, transforms and quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import j0, j1
from slopes import check_slopes

from qtwin.core.errors import UserError
from qtwin.optics.point_spread import (
    GAUSSIAN_WIDTHS,
    _bessel,
    airy,
    airy_amplitude,
    coherent_edge,
    coherent_transfer,
    defocused,
    gaussian_width,
    incoherent_edge,
    incoherent_transfer,
)

L, NA = 810e-9, 0.35
UNIT = L / (2 * np.pi * NA)  # r for v = 1


def test_bessel_functions_near_and_far():
    v = np.concatenate([np.linspace(0, 24.999, 300), np.linspace(25, 900, 300)])
    np.testing.assert_allclose(_bessel(0, jnp.asarray(v)), j0(v), atol=2e-13)
    np.testing.assert_allclose(np.asarray(_bessel(1, jnp.asarray(v))) * v, j1(v), atol=1e-12)
    assert float(airy_amplitude(jnp.asarray(0.0), L, NA)) == pytest.approx(1, rel=1e-14)


def test_airy_zero_width_and_power():
    """First zero 0.6098 l/NA, FWHM 0.5145 l/NA, integral l^2/(pi NA^2)."""
    r = jnp.array([0.60983, 0.51450 / 2]) * L / NA
    values = airy(r, L, NA)
    assert float(values[0]) < 1e-9 and float(values[1]) == pytest.approx(0.5, abs=1e-4)
    v = np.linspace(0, 1000, 100_001)
    power = np.trapezoid(np.asarray(airy(jnp.asarray(v * UNIT), L, NA)) * 2 * np.pi * v, v) * UNIT**2
    assert power == pytest.approx(L**2 / (np.pi * NA**2) * (1 - 2 / (np.pi * 1000)), rel=1e-5)


@pytest.mark.parametrize("kept", GAUSSIAN_WIDTHS)
def test_gaussian_stand_ins(kept):
    s = float(gaussian_width(L, NA, kept))
    if kept == "curvature":
        r = jnp.asarray(0.01 * s)
        assert 1 - float(airy(r, L, NA)) == pytest.approx(0.01**2 / 2, rel=1e-4)
        assert 2 * np.pi * s**2 == pytest.approx(L**2 / (np.pi * NA**2), rel=1e-12)  # and the power
    else:
        level, radius = (0.5, s * np.sqrt(2 * np.log(2))) if kept == "FWHM" else (np.exp(-2), 2 * s)
        assert float(airy(jnp.asarray(radius), L, NA)) == pytest.approx(level, rel=1e-7)
    with pytest.raises(UserError, match="accepted are curvature, FWHM"):
        gaussian_width(L, NA, "std")


def test_transfer_is_the_transform_of_the_point_spread():
    """OTF(f) = int airy J0(2 pi f r) r dr/int airy r dr, with the tail of 1/v^3 cut at v = 1000."""
    v = np.linspace(0, 1000, 100_001)
    spread = np.asarray(airy(jnp.asarray(v * UNIT), L, NA)) * v
    for s in (0.1, 0.45, 0.9, 1.3):
        f = s * 2 * NA / L
        direct = np.trapezoid(spread * j0(2 * s * v), v) / 2
        assert float(incoherent_transfer(jnp.asarray(f), L, NA)) == pytest.approx(direct, abs=1e-4)
    f = jnp.array([0.0, 0.999, 1.001]) * NA / L
    np.testing.assert_array_equal(coherent_transfer(f, L, NA), [1, 1, 0])
    assert float(jax.grad(lambda f: incoherent_transfer(f, L, NA))(jnp.asarray(3 * NA / L))) == 0  # no NaN outside


def test_defocus():
    """On the axis (sin(u/4)/(u/4))^2, first zero at l/NA^2 x 2; in focus Airy; off both, quadrature; power is kept."""
    for z in (0.0, 1e-6, 2 * L / NA**2):
        u = 2 * np.pi * NA**2 * z / L
        got = float(defocused(jnp.asarray(0.0), jnp.asarray(z), L, NA))
        assert got == pytest.approx(np.sinc(u / 4 / np.pi) ** 2, abs=1e-13)
    r = jnp.linspace(0, 40, 30) * UNIT
    np.testing.assert_allclose(defocused(r, jnp.zeros(30), L, NA), airy(r, L, NA), atol=1e-13)
    u, v = 7.3, 4.1
    z = u * L / (2 * np.pi * NA**2)
    parts = [quad(lambda p, w=w: 2 * j0(v * p) * w(u * p * p / 2) * p, 0, 1)[0] for w in (np.cos, np.sin)]
    got = float(defocused(jnp.asarray(v * UNIT), jnp.asarray(z), L, NA))
    assert got == pytest.approx(parts[0] ** 2 + parts[1] ** 2, rel=1e-10)


def test_edges():
    """Coherent 1/4 and incoherent 1/2 on the edge; both against integrals; the bright side overshoots by 1.09^2."""
    zero = jnp.zeros(())
    assert float(coherent_edge(zero, L, NA)) == 0.25 and float(incoherent_edge(zero, L, NA)) == 0.5
    x = np.array([-3.1, -0.4, 0.6, 2.7]) * L / NA
    line = [0.5 + quad(lambda v: np.sinc(v / np.pi) / np.pi, 0, t / UNIT, limit=200)[0] for t in x]
    np.testing.assert_allclose(coherent_edge(jnp.asarray(x), L, NA), np.square(line), rtol=1e-9)
    assert float(coherent_edge(jnp.asarray(np.pi * UNIT), L, NA)) == pytest.approx(1.0895**2, abs=1e-3)

    def transfer(s):
        return 2 / np.pi * (np.arccos(s) - s * np.sqrt(1 - s * s))

    edge = [
        0.5 + quad(lambda s, v=t / UNIT: transfer(s) * np.sin(2 * v * s) / s, 0, 1, limit=400)[0] / np.pi for t in x
    ]
    np.testing.assert_allclose(incoherent_edge(jnp.asarray(x), L, NA), edge, atol=1e-7)
    far = jnp.array([-8.0, 8.0]) * L / NA
    assert float(jnp.sum(incoherent_edge(far, L, NA))) == pytest.approx(1, abs=1e-12)
    # the slope of the edge is the line spread: at 0 it is int Airy dy/int Airy = 8/(3 pi) x 2 NA/l
    slope = jax.grad(lambda t: incoherent_edge(t, L, NA))(zero)
    assert float(slope) == pytest.approx(16 * NA / (3 * np.pi * L), rel=1e-4)


def test_slopes_by_wavelength_aperture_and_defocus():
    def read(x):
        length, aperture, z = x[0] * L, x[1] * NA, x[2] * 2e-6
        r = jnp.array([0.3, 1.1, 9.0]) * L / NA
        parts = [f(r, length, aperture) for f in (airy, coherent_edge, incoherent_edge)]
        parts += [defocused(r, jnp.full(3, 1.0) * z, length, aperture), incoherent_transfer(0.5 / r, length, aperture)]
        return jnp.concatenate([*parts, gaussian_width(length, aperture, "FWHM")[None] / L])

    check_slopes(read, jnp.array([1.02, 0.97, 1.1]))
