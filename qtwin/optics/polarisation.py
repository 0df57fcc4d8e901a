"""Polarisers, wave plates and beam splitters on Jones vectors (E_x, E_y), fields exp(i k z - i w t).

Stokes vector S_j = E^+ s_j E with s = (1, sigma_z, sigma_x, sigma_y): S = (|x|^2 + |y|^2, |x|^2 - |y|^2, 2 Re x* y,
2 Im x* y). Angles turn x toward y (Goldstein, Polarized Light, 3rd ed., CRC 2011).
"""

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.params import Element, efficiency, fraction, param, positive, real
from qtwin.optics.dispersion import refractive_index

_PAULI = np.array([[[1, 0], [0, 1]], [[1, 0], [0, -1]], [[0, 1], [1, 0]], [[0, -1j], [1j, 0]]])


def rotation(angle):
    """[[cos, -sin], [sin, cos]]: turns a vector by ``angle`` from x toward y, [2, 2]."""
    c, s = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([c, -s]), jnp.stack([s, c])])


def _turned(along, across, angle):
    """R diag(along, across) R^-1, complex [2, 2]: amplitudes along and across an axis that stands at ``angle``."""
    turn = rotation(angle).astype(jnp.result_type(complex))
    amplitudes = jnp.stack([along, across]).astype(turn.dtype)
    return jnp.matmul(turn * amplitudes[None, :], turn.T, precision="highest")


def stokes(field):
    """Stokes vector [4] of a Jones vector [2]."""
    pauli = jnp.asarray(_PAULI, field.dtype)
    return jnp.einsum("i,jik,k->j", jnp.conj(field), pauli, field, precision="highest").real


def mueller(jones):
    """M_ij = Re tr(s_i J s_j J^+)/2 of a Jones matrix, [4, 4]: non-depolarising, S -> M S."""
    pauli = jnp.asarray(_PAULI, jones.dtype)
    return jnp.einsum("iab,bc,jcd,ad->ij", pauli, jones, pauli, jnp.conj(jones), precision="highest").real / 2


class Polariser(Element):
    """T along its axis and T leak across it: T (cos^2 + leak sin^2) of light at an angle to the axis (Malus)."""

    angle: jax.Array = param("rad", real, "of the axis, from x toward y", default=0.0)
    transmission: jax.Array = param("", efficiency, "along the axis", default=1.0)
    leak: jax.Array = param("", fraction, "power across the axis over that along it: 1/extinction ratio", default=0.0)

    def jones(self):
        along = jnp.sqrt(self.transmission)
        return _turned(along, along * safe_root(self.leak), self.angle)


class WavePlate(Element):
    """A quartz plate: J = R diag(exp(-i d/2), exp(i d/2)) R^-1, the fast axis at ``angle``.

    d = 2 pi cycles (l0/l)(n_e - n_o)(l)/(n_e - n_o)(l0): 0.25 and 0.5 cycles are zero-order plates, 10.25 a
    multi-order one.
    """

    design_wavelength: jax.Array = param("m", positive, "wavelength l0 of the nominal retardance")
    cycles: jax.Array = param("", positive, "retardance at l0 in wavelengths")
    angle: jax.Array = param("rad", real, "of the fast axis, from x toward y", default=0.0)

    def retardance(self, wavelength):
        """Phase of the slow axis behind the fast one, rad."""
        change = birefringence(wavelength) / birefringence(self.design_wavelength)
        return 2 * jnp.pi * self.cycles * self.design_wavelength / wavelength * change

    def jones(self, wavelength):
        half = self.retardance(wavelength) / 2
        fast = jax.lax.complex(jnp.cos(half), -jnp.sin(half))
        return _turned(fast, jnp.conj(fast), self.angle)


def birefringence(wavelength):
    """n_e - n_o of quartz (Ghosh, Opt. Commun. 163, 95 (1999))."""
    return refractive_index("quartz e", wavelength) - refractive_index("quartz o", wavelength)


class BeamSplitter(Element):
    """Amplitudes [[t, i r], [i r, t]] of two input ports, t^2 = (1 - R)(1 - loss), r^2 = R (1 - loss).

    The same for any polarisation.
    """

    reflectance: jax.Array = param("", fraction, "reflected part of what is not lost", default=0.5)
    loss: jax.Array = param("", fraction, "absorbed or scattered part", default=0.0)

    def amplitudes(self):
        kept = safe_root(1 - self.loss)
        t, r = kept * safe_root(1 - self.reflectance), kept * safe_root(self.reflectance)
        zero = jnp.zeros_like(t)
        through, off = jax.lax.complex(t, zero), jax.lax.complex(zero, r)
        return jnp.stack([jnp.stack([through, off]), jnp.stack([off, through])])


class PolarisingBeamSplitter(Element):
    """Transmits x and reflects y; leaks are powers that go the wrong way."""

    transmitted_leak: jax.Array = param("", fraction, "part of the y light that is transmitted", default=0.0)
    reflected_leak: jax.Array = param("", fraction, "part of the x light that is reflected", default=0.0)

    def transmit(self):
        """Jones matrix of the transmitted port."""
        zero = jnp.zeros_like(self.reflected_leak)
        return _turned(safe_root(1 - self.reflected_leak), safe_root(self.transmitted_leak), zero)

    def reflect(self):
        """Jones matrix of the reflected port, in coordinates that keep x and y and with the i of a lossless mirror."""
        zero = jnp.zeros_like(self.reflected_leak)
        wave = _turned(safe_root(self.reflected_leak), safe_root(1 - self.transmitted_leak), zero)
        return wave * jnp.asarray(1j, wave.dtype)


def safe_root(x):
    """sqrt(x) with slope 0 instead of infinity at 0."""
    positive_part = x > 0
    return jnp.where(positive_part, jnp.sqrt(jnp.where(positive_part, x, 1)), 0)
