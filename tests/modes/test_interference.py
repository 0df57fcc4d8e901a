"""Hong-Ou-Mandel interference: beam-splitter, joint spectra, photon-number space, widths of the dip."""

import jax
import numpy as np
import pytest
from scipy.linalg import expm
from slopes import gradient_error, once

from qtwin.core.errors import FieldError
from qtwin.modes.interference import (
    DIP_FWHM_CW,
    DIP_FWHM_SEPARABLE,
    OCT_FWHM,
    dip_width,
    hom_coincidence,
    hom_dip,
    hom_overlap,
    hom_visibility,
)

SIGMA = 3e12  # rad/s
W = np.linspace(-10, 10, 201) * SIGMA
TAU = np.linspace(-5, 5, 2001) / SIGMA


def joint(sum_width, difference_width, chirp=0.0):
    """Gaussian amplitude with stds of w1 + w2 and w1 - w2 in units of SIGMA; ``chirp`` of the signal, s^2."""
    plus, minus = W[:, None] + W[None, :], W[:, None] - W[None, :]
    gauss = -(plus**2) / (4 * (sum_width * SIGMA) ** 2) - minus**2 / (4 * (difference_width * SIGMA) ** 2)
    return np.exp(gauss + 1j * chirp * W[:, None] ** 2 / 2)


def full_width(p):
    """Full width at half depth of a dip on TAU, by interpolation, in 1/SIGMA."""
    depth = (p.max() - p) / (p.max() - p.min())
    right = depth[len(TAU) // 2 :]
    return 2 * np.interp(-0.5, -right, TAU[len(TAU) // 2 :]) * SIGMA


@pytest.mark.parametrize("reflectivity", [0.02, 0.1, 0.2, 0.3, 0.4, 0.45, 0.5, 0.6, 0.8, 0.95])
def test_two_photons_on_a_beam_splitter_in_photon_number_space(reflectivity):
    """|1, 1> through exp[i theta (a^ b + h.c.)] in three levels per mode: coincidences with and without overlap."""
    a = np.kron(np.diag([1, np.sqrt(2)], 1), np.eye(3))
    b = np.kron(np.eye(3), np.diag([1, np.sqrt(2)], 1))
    u = expm(1j * np.arcsin(np.sqrt(reflectivity)) * (a.T @ b + b.T @ a))
    one = np.zeros(9)
    one[4] = 1
    together = abs((u @ one)[4]) ** 2
    apart = reflectivity**2 + (1 - reflectivity) ** 2
    assert hom_coincidence(reflectivity, 1.0) == pytest.approx(together, abs=1e-12)
    assert hom_visibility(reflectivity) == pytest.approx(1 - together / apart, rel=1e-12)


def test_published_visibility():
    assert hom_visibility(0.45) == pytest.approx(0.9801980198, abs=1e-9)
    assert hom_visibility(0.45, 0.5) == pytest.approx(0.9801980198 / 2, abs=1e-9)
    assert [float(hom_visibility(r)) for r in (0.0, 0.5, 1.0)] == [0, 1, 0]


def test_width_factors():
    np.testing.assert_allclose([DIP_FWHM_CW, DIP_FWHM_SEPARABLE, OCT_FWHM], [1.1774, 1.6651, 2.3548], atol=5e-5)


dips = once(lambda f: hom_dip(f, W, TAU))


@pytest.mark.parametrize(
    ("sum_width", "difference_width", "factor"),
    [(2**0.5, 2**0.5, DIP_FWHM_SEPARABLE), (0.1, 2.0, DIP_FWHM_CW * 1.0025**0.5)],
)
def test_width_of_the_dip_from_the_joint_spectrum(sum_width, difference_width, factor):
    """Times one photon's std: separable 1.6651, pump of std 0.1 sqrt(1 + 0.1^2/4) 1.1774; full depth in both."""
    f = joint(sum_width, difference_width)
    p = np.asarray(dips(f))
    marginal = np.sum(np.abs(f) ** 2, axis=1)
    photon = np.sqrt(marginal @ W**2 / marginal.sum()) / SIGMA
    assert full_width(p) * photon == pytest.approx(factor, rel=1e-5)
    assert full_width(p) == pytest.approx(float(dip_width(difference_width)), rel=1e-5)
    assert p.min() == pytest.approx(0, abs=1e-9)


def test_dispersion_of_one_photon_narrows_nothing_with_a_narrow_pump():
    """Even-order phase of the signal cancels where w1 + w2 is fixed, and spoils the dip of separable photons."""
    chirp = 0.5 / SIGMA**2
    narrow = 1 - 2 * np.asarray(dips(joint(0.03, 2.0, chirp))).min()
    separable = 1 - 2 * np.asarray(dips(joint(2**0.5, 2**0.5, chirp))).min()
    assert narrow == pytest.approx(1, abs=1e-3)
    assert separable == pytest.approx(1 / np.sqrt(1 + chirp**2 * SIGMA**4), rel=1e-6)


def test_photons_of_different_colour_do_not_bunch_but_beat():
    """Signal 2 SIGMA above, idler below: e^-4 at zero delay. A delayed signal overlaps again when it is advanced."""
    f = np.exp(-((W[:, None] - 2 * SIGMA) ** 2 + (W[None, :] + 2 * SIGMA) ** 2) / (4 * SIGMA**2))
    value = once(hom_overlap)
    assert value(f, W, 0.0) == pytest.approx(np.exp(-4), rel=1e-9)
    skew = f * np.exp(1j * W[:, None] / SIGMA)
    late, early = (float(value(skew, W, t / SIGMA)) for t in (-1.0, 1.0))
    assert late == pytest.approx(np.exp(-4), rel=1e-9)
    assert early == pytest.approx(np.exp(-4 - 4), rel=1e-9)


def test_shifting_the_delay_by_a_linear_phase_moves_the_dip():
    f = joint(2**0.5, 2**0.5) * np.exp(1j * W[:, None] * 0.4 / SIGMA)
    assert TAU[np.argmin(dips(f))] * SIGMA == pytest.approx(-0.4, abs=2e-3)


def test_gradients():
    """By reflectivity, overlap, delay, and the widths and chirp of the joint spectrum."""
    w = np.linspace(-5, 5, 41)

    def value(x):
        plus, minus = w[:, None] + w[None, :], w[:, None] - w[None, :]
        size = jax.numpy.exp(-(plus**2) / (4 * x[0] ** 2) - minus**2 / (4 * x[1] ** 2))
        phase = x[2] * w[:, None] ** 2 / 2 + 0 * plus
        f = size.astype(complex) * jax.lax.complex(jax.numpy.cos(phase), jax.numpy.sin(phase))
        return hom_dip(f, w, x[3:4], x[4])[0] + hom_visibility(x[4], x[5]) + dip_width(x[1])

    assert gradient_error(value, np.array([0.8, 1.3, 0.4, 0.3, 0.42, 0.9])) < 1e-7


def test_bad_input_is_named():
    with pytest.raises(FieldError, match=r"joint_amplitude: got shape \(201, 200\)"):
        hom_overlap(joint(1, 1)[:, :-1], W)
    with pytest.raises(FieldError, match="joint_amplitude: got zeros only"):
        hom_overlap(np.zeros((3, 3)), np.arange(3.0))
    with pytest.raises(FieldError, match=r"reflectivity: got 1\.1, accepted is a value from 0 to 1"):
        hom_visibility(1.1)
