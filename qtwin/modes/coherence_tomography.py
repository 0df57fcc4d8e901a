"""Optical coherence tomography with one photon and with pairs: layers, dispersion and its cancellation, artefacts."""

import jax
import jax.numpy as jnp

from qtwin.core.errors import FieldError
from qtwin.core.params import is_concrete, positive, real
from qtwin.modes.checks import amplitude, number, turn


def layered_response(offsets, carrier, reflections, delays, beta2=0.0, beta3=0.0):
    """H(w0 + W) = sum_j r_j exp(i [(w0 + W) tau_j + B2_j W^2/2 + B3_j W^3/6]), [n].

    ``offsets`` W [n] from ``carrier`` w0, rad/s (of pairs: half the pump frequency); layers [k]: amplitude reflection
    r_j, round-trip delay tau_j in s, and round-trip dispersions B2_j = 2 sum beta2 L in s^2, B3_j in s^3, of all the
    light crosses down to layer j (scalar: the same for all layers, as from a window in front).
    """
    w = number("offsets", offsets, real)[:, None]
    r, tau = number("reflections", reflections, real), number("delays", delays, real)
    second, third = number("beta2", beta2, real), number("beta3", beta3, real)
    second, third = jnp.broadcast_to(second, tau.shape), jnp.broadcast_to(third, tau.shape)
    carrier = number("carrier", carrier, positive)
    phase = (carrier + w) * tau[None, :] + second[None, :] * w**2 / 2 + third[None, :] * w**3 / 6
    return turn(phase) @ amplitude("reflections", r)


def oct_interferogram(response, spectrum, offsets, delays):
    """Gamma(tau) = sum S H(w0 + W) e^(-i W tau)/sum S: complex; its modulus is the OCT envelope, delays [k] in s.

    Spectral intensity S [n] of one photon. The fringes are 2 Re[Gamma e^(-i w0 tau)] (Abouraddy, Nasr, Saleh, Sergienko
    & Teich, Phys. Rev. A 65, 053817 (2002)).
    """
    h, s = amplitude("response", response), number("spectrum", spectrum, real)
    w, delays = number("offsets", offsets, real), number("delays", delays, real)
    weighted = h * amplitude("spectrum", s / jnp.sum(s))
    return jax.vmap(lambda tau: turn(-w * tau) @ weighted)(delays)


def quantum_oct_interferogram(response, spectrum, offsets, delays):
    """C(tau) = Lambda_0 - Re Lambda(2 tau), Lambda_0 = sum S |H|^2, Lambda(t) = sum S H(w0 + W) H*(w0 - W) e^(-i W t).

    Coincidences behind the beam splitter, pairs of a cw pump, divided by sum S (Abouraddy et al., Phys. Rev. A 65,
    053817 (2002)). A layer shows as a dip at tau = tau_j, a pair of layers as a dip or hump at (tau_j + tau_k)/2 of
    sign cos(w0 (tau_j - tau_k)), 2 w0 the pump frequency, tau round trips. Even orders of dispersion cancel in the
    dips, also of what lies between the layers; in the artefacts only what both layers share. ``offsets`` must be
    symmetric about 0.
    """
    h, s = amplitude("response", response), number("spectrum", spectrum, real)
    w, delays = number("offsets", offsets, real), number("delays", delays, real)
    if is_concrete(w) and not jnp.allclose(w, -w[::-1], rtol=0, atol=1e-9 * float(jnp.max(jnp.abs(w)))):
        raise FieldError("offsets", "got a grid that is not symmetric about 0, accepted is w = -w reversed")
    mirrored = amplitude("spectrum", s) * h * h[::-1].conj()
    level = jnp.sum(s * (h.real**2 + h.imag**2))
    varying = jax.vmap(lambda tau: (turn(-2 * w * tau) @ mirrored).real)(delays)
    return (level - varying) / jnp.sum(s)


def dispersion_broadening(beta2, sigma):
    """sqrt(1 + (B2 sigma_w^2)^2): an OCT envelope over its dispersion-free width, B2 = beta2 L of the round trip.

    Gaussian spectrum of intensity std sigma_w, rad/s (Fercher et al., Rep. Prog. Phys. 66, 239 (2003), declared).
    """
    return jnp.sqrt(1 + (number("beta2", beta2, real) * number("sigma", sigma, positive) ** 2) ** 2)
