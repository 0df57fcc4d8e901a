"""Two photons on a beam splitter: Hong-Ou-Mandel visibility and dip from reflectivity and joint spectrum."""

from math import log, sqrt

import jax
import jax.numpy as jnp

from qtwin.core.errors import FieldError
from qtwin.core.params import fraction, positive, real
from qtwin.modes.checks import amplitude, number, require, turn

# full widths at half maximum in delay, times the std sigma_w of one photon's spectral intensity (rad/s)
DIP_FWHM_CW = sqrt(2 * log(2))  # 1.1774: pairs of a fixed sum frequency, dip exp(-2 (sigma_w tau)^2)
DIP_FWHM_SEPARABLE = 2 * sqrt(log(2))  # 1.6651: pure photons, dip exp(-(sigma_w tau)^2)
OCT_FWHM = sqrt(8 * log(2))  # 2.3548: envelope of an interferogram, exp(-(sigma_w tau)^2/2)


def hom_visibility(reflectivity, overlap=1.0):
    """V = 2 R T o/(R^2 + T^2), T = 1 - R: dip depth relative to the level without interference.

    Hong, Ou & Mandel, Phys. Rev. Lett. 59, 2044 (1987); ``overlap`` o of `hom_overlap` (1: indistinguishable).
    """
    r, o = number("reflectivity", reflectivity, fraction), number("overlap", overlap, real)
    return 2 * r * (1 - r) * o / (r**2 + (1 - r) ** 2)


def hom_coincidence(reflectivity, overlap):
    """P = R^2 + T^2 - 2 R T o: probability that the two photons leave by different ports."""
    r, o = number("reflectivity", reflectivity, fraction), number("overlap", overlap, real)
    return r**2 + (1 - r) ** 2 - 2 * r * (1 - r) * o


def hom_overlap(joint_amplitude, frequencies, delay=0.0):
    """o(tau) = Re sum f*(w1, w2) f(w2, w1) e^(i (w2 - w1) tau)/sum |f|^2 of a joint spectral amplitude f [n, n].

    Grice & Walmsley, Phys. Rev. A 56, 1627 (1997). Complex f, first index signal, second idler, both on the same
    ``frequencies`` [n], rad/s (offsets will do); ``delay`` tau of the signal, s.
    """
    f = amplitude("joint_amplitude", joint_amplitude)
    w, delay = number("frequencies", frequencies, real), number("delay", delay, real)
    if w.ndim != 1 or f.shape != (w.shape[0], w.shape[0]):
        found = f"got shape {tuple(f.shape)} on {tuple(w.shape)} frequencies"
        raise FieldError("joint_amplitude", f"{found}, accepted is [n, n] on [n], the same for signal and idler")
    power = jnp.sum(f.real**2 + f.imag**2)
    require("joint_amplitude", power > 0, "got zeros only, accepted is an amplitude of some power")
    turned = turn(w * delay)  # a delay tau is e^(i w tau)
    return (turned.conj() @ (f.conj() * f.T) @ turned).real / power


def hom_dip(joint_amplitude, frequencies, delays, reflectivity=0.5):
    """P(tau) = R^2 + T^2 - 2 R T o(tau) of `hom_overlap`, delays [k] in s: coincidence probability per pair, [k]."""
    delays = number("delays", delays, real)
    overlap = jax.vmap(lambda tau: hom_overlap(joint_amplitude, frequencies, tau))(delays)
    return hom_coincidence(reflectivity, overlap)


def dip_width(difference_width):
    """FWHM = sqrt(8 ln 2)/std(w1 - w2), s, of a dip exp(-(std tau)^2/2) with real Gaussian joint spectrum.

    std(w1 - w2) is 2 sigma_w for a cw pump and sqrt 2 sigma_w for separable photons.
    """
    return OCT_FWHM / number("difference_width", difference_width, positive)
