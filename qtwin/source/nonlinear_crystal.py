"""A nonlinear crystal as it is cut, poled and heated, for one interaction of three waves."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import FieldError, UserError
from qtwin.core.params import Element, Support, fraction, is_concrete, param, positive, real, static
from qtwin.source.nonlinearity import effective_nonlinearity, grating_coefficient
from qtwin.source.phase_matching import Interaction, grating, mismatch
from qtwin.source.sellmeier import LIGHT


def polar(modulus, phase):
    """modulus exp(i phase), complex, of real arrays of one shape."""
    return jax.lax.complex(modulus * jnp.cos(phase), modulus * jnp.sin(phase))


cut = Support("from 0 to pi/2", 0.0, np.pi / 2)


class Crystal(Element):
    """Crystal of one `Interaction`: everything that its phase matching and its nonlinearity need."""

    interaction: Interaction = static("crystal, polarisations, plane and order of the poling")
    length: jax.Array = param("m", positive, "length along the pump")
    temperature: jax.Array = param("K", positive, "temperature", 298.15)
    angle: jax.Array = param("rad", cut, "angle of the pump in the plane of the e ray", np.pi / 2)
    azimuth: jax.Array = param("rad", real, "turn of that plane about the optic axis: d_eff of uniaxial crystals", 0.0)
    period: jax.Array = param("m", positive, "period of the poling at 25 degrees Celsius (order 0: unused)", 1e-5)
    duty: jax.Array = param("", fraction, "share of the period that is not inverted (order 0: unused)", 0.5)
    chirp: jax.Array = param("1/m**2", real, "growth of 2 pi m/period along the crystal, per length", 0.0)
    nodes: int = static("Gauss-Legendre points along a chirped crystal; 0: the poling is uniform", 0)

    def check(self):
        if self.nodes == 0 and is_concrete(self.chirp) and np.any(self.chirp != 0):
            raise FieldError("nodes", "got 0, a chirped crystal needs points along it, such as 64")
        for beam in range(3):
            for _, s in self.interaction.sets(beam):
                try:
                    s.check(s.low * 1e-6, self.temperature)
                except UserError as error:
                    raise FieldError("temperature", str(error).split(": ", 1)[1]) from error

    def mismatch(self, pump, signal, **emission):
        """dk (rad/m), the grating at the centre of the crystal; see `qtwin.source.phase_matching.mismatch`."""
        at = {"angle": self.angle, "period": self.period, "temperature": self.temperature}
        return mismatch(self.interaction, pump, signal, **at, **emission)

    def response(self, dk):
        """phi = (1/L) integral from 0 to L of exp(i dk z - i chirp (z - L/2)^2/2) dz; complex, elementwise.

        sinc(dk L/2) exp(i dk L/2) for uniform poling. Chirped: ``nodes`` points, exact while the phase turns by
        less than some 1.5 ``nodes`` rad along the crystal.
        """
        half = dk * self.length / 2
        if self.nodes == 0:
            return polar(jnp.sinc(half / jnp.pi), half)
        points, weights = np.polynomial.legendre.leggauss(self.nodes)
        bend = self.chirp * self.length**2 / 8

        def add(total, point):
            x, w = point
            return total + polar(w / 2, half * (1 + x) - bend * x**2), None

        start = polar(jnp.zeros_like(half), half)
        return jax.lax.scan(add, start, (jnp.asarray(points, half.dtype), jnp.asarray(weights, half.dtype)))[0]

    @eqx.filter_jit
    def group_mismatch(self, pump, signal):
        """(dk_p/dw - dk_s/dw, dk_p/dw - dk_i/dw), s/m, and d2k_s/dw2 + d2k_i/dw2, s^2/m, on the axis."""

        ends = (pump, signal, 1 / (1 / pump - 1 / signal))
        one = jnp.ones_like(self.length)
        slopes, curvatures = [], []
        for beam, wavelength in enumerate(ends):

            def slope(w, beam=beam):
                return jax.jvp(lambda v: self.wave_number(beam, v), (w,), (one,))[1]

            first, second = jax.jvp(slope, (2 * jnp.pi * LIGHT / wavelength,), (one,))
            slopes.append(first)
            curvatures.append(second)
        return slopes[0] - slopes[1], slopes[0] - slopes[2], curvatures[1] + curvatures[2]

    def wave_number(self, beam: int, frequency):
        """k (rad/m) of pump (0), signal (1) or idler (2) along the pump, at angular ``frequency``, rad/s."""
        return self.interaction.longitudinal(beam, 2 * jnp.pi * LIGHT / frequency, self.angle, self.temperature)

    def grating(self):
        """2 pi m/period at the temperature, rad/m."""
        return grating(self.interaction, self.period, self.temperature)

    def nonlinearity(self):
        """|d_eff|, m/V: of the direction, times what the order of the poling leaves of it."""
        i = self.interaction
        bulk = effective_nonlinearity(i.crystal, i.rays, i.plane, self.angle, self.azimuth)
        return jnp.abs(bulk * grating_coefficient(i.order, self.duty))
