"""A Gaussian beam into a single-mode fibre. Pairs into two fibres: `qtwin.source.collection.fibre_collection`."""

import jax
import jax.numpy as jnp

from qtwin.core.errors import UserError
from qtwin.core.params import Element, efficiency, is_concrete, param, positive, real
from qtwin.modes.checks import number


def mode_radius(core_radius, aperture, wavelength):
    """1/e amplitude radius of the mode of a step-index fibre: w/a = 0.65 + 1.619 V^-1.5 + 2.879 V^-6, m.

    V = 2 pi a NA/l, between 1.2 and 2.405 (one mode), within 1 % (Marcuse, Bell Syst. Tech. J. 56, 703 (1977)).
    Raises UserError outside.
    """
    core_radius, aperture = number("core_radius", core_radius, positive), number("aperture", aperture, efficiency)
    v = 2 * jnp.pi * core_radius * aperture / number("wavelength", wavelength, positive)
    if is_concrete(v) and not 1.2 <= float(v) <= 2.405:
        raise UserError(
            f"fibre: got a normalised frequency V = {float(v):.4g}, accepted is 1.2 to 2.405 (a single mode)"
        )
    return core_radius * (0.65 + 1.619 * v**-1.5 + 2.879 * v**-6)


def coupling(beam_waist, fibre_radius, gap, shift, tilt, wavelength):
    """Power of a Gaussian beam in a Gaussian mode, from 0 to 1 (after Joyce & DeLoach, Appl. Opt. 23, 4187 (1984)).

    kappa exp(-kappa [x^2/2 (1/w1^2 + 1/w2^2) + pi^2 theta^2 (w1^2 + w2(z)^2)/(2 l^2) - x theta z/w2^2]),
    kappa = 4 w1^2 w2^2/[(w1^2 + w2^2)^2 + (l z/pi)^2], w2(z)^2 = w2^2 + (l z/pi w2)^2. The waist w1 stands ``gap`` = z
    before the mode of radius w2 (m); there the beam's axis passes ``shift`` = x beside the fibre's, inclined by
    ``tilt`` (rad), so that it meets the fibre at x - theta z. Shift and tilt lie in one plane; those in the other
    plane multiply by an exponential of their own. Elementwise. Paraxial; the reflection of the face is not in it.
    """
    beam_waist, fibre_radius = number("beam_waist", beam_waist, positive), number("radius", fibre_radius, positive)
    wavelength, gap = number("wavelength", wavelength, positive), number("gap", gap, real)
    shift, tilt = number("shift", shift, real), number("tilt", tilt, real)
    one, two, z = beam_waist**2, fibre_radius**2, wavelength * gap / jnp.pi
    kappa = 4 * one * two / ((one + two) ** 2 + z**2)
    sideways = shift**2 / 2 * (1 / one + 1 / two)
    inclined = jnp.pi**2 * tilt**2 * (one + two + z**2 / two) / (2 * wavelength**2)
    return kappa * jnp.exp(-kappa * (sideways + inclined - shift * tilt * gap / two))


class Fibre(Element):
    """A single-mode fibre and how badly it is placed."""

    radius: jax.Array = param("m", positive, "1/e amplitude radius of its mode")
    transmission: jax.Array = param("", efficiency, "of its faces and its length", default=1.0)
    gap: jax.Array = param("m", real, "distance from the waist of the beam to the face", default=0.0)
    shift: jax.Array = param("m", real, "of the beam's axis, in the plane of its waist", default=0.0)
    tilt: jax.Array = param("rad", real, "of the beam's axis, in the plane of the shift", default=0.0)

    def accept(self, waist, wavelength):
        """Fraction of a Gaussian beam of ``waist`` that leaves the fibre."""
        return self.transmission * coupling(waist, self.radius, self.gap, self.shift, self.tilt, wavelength)
