"""The far field of the crystal on the sample, and a lens that images the object onto the detectors."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from qtwin.core.errors import FieldError
from qtwin.core.params import Element, efficiency, is_concrete, nonnegative, param, positive, real, static
from qtwin.optics.point_spread import gaussian_width
from qtwin.source.spdc import SPDC, inside


class Geometry(NamedTuple):
    """Variances on the sample, per axis, m^2: of x_s - y_i, x_s and the mirrored y_i in focus, and of the defocus.

    Shares are those of the pump's wave number (`qtwin.source.biphoton`).
    """

    apart: jax.Array
    signal: jax.Array
    idler: jax.Array
    defocus: jax.Array  # (dz/f)^2 Var r, added to the signal's position
    signal_share: jax.Array
    idler_share: jax.Array

    def beam_widths(self):
        """std of the positions of signal and mirrored idler, m."""
        return jnp.sqrt(self.signal + self.defocus), jnp.sqrt(self.idler)

    def partner(self, of: str = "signal"):
        """Partner's position given the photon's at x: normal of mean (1 - c) x and std s about the middles; (c, s).

        ``of`` the signal: the mirrored idler's, or of the idler: the signal's. Bivariate normal law of the pair: with
        v the variance of x_s - y_i in focus, b those of x_s and y_i, m the shares and d what defocus adds to b_s,
        c_s = (m_s v + d)/(b_s + d), c_i = m_i v/b_i, s_s^2 = v (1 - m_s^2 v/b_s) + d (1 - c_s) (1 - m_s v/b_s) and
        s_i^2 = v (1 - m_i c_i) + d.
        """
        v, d = self.apart, self.defocus
        if of == "idler":
            c = self.idler_share * v / self.idler
            return c, jnp.sqrt(v * (1 - self.idler_share * c) + d)
        c, sharp = (self.signal_share * v + d) / (self.signal + d), self.signal_share * v / self.signal
        return c, jnp.sqrt(v * (1 - self.signal_share * sharp) + d * (1 - c) * (1 - sharp))


STEEPEST = 0.05  # rad, std on the sample: normal incidence is assumed behind the lens


class FarField(Element):
    """x = f l k/(2 pi): a lens of focal length f turns transverse momentum into position (Goodman, ch. 5).

    Signal and idler each pass such a lens; the signal plane is the sample. Positions of the idler are
    mirrored and scaled by l_s/l_i, so that partners meet at the same place. The collecting objective
    accepts sines up to the numerical aperture and images the object plane at unit magnification onto
    ``pixels`` x ``pixels`` superpixels of side ``pitch``; its diffraction is the Gaussian
    that has the curvature of the Airy pattern at its centre. Light meets the sample at normal incidence:
    the true angles have std w/(2 f), and more than 0.05 rad is refused.

    What is out of place: a pump tilted by t moves the signal by m_s f l_s/l_p t and its mirrored partner by
    -m_i f l_s/l_p t (m the shares of the pump's wave number); a sample dz behind the focal plane sees the ray of
    crystal position r at x - dz r/f; the idler's camera is shifted, and drifts at constant speed during an exposure.
    Background light is of constant mean, the same on every superpixel; a bucket collects that of the whole field.
    """

    focal_length: jax.Array = param("m", positive, "focal length of the far-field lens")
    numerical_aperture: jax.Array = param("", efficiency, "sine of the largest accepted angle, in air")
    pitch: jax.Array = param("m", positive, "side of a superpixel at the sample")
    illumination_transmission: jax.Array = param("", efficiency, "signal optics between crystal and sample")
    collection_transmission: jax.Array = param("", efficiency, "signal optics between sample and detector")
    idler_transmission: jax.Array = param("", efficiency, "idler optics between crystal and detector")
    pump_tilt_x: jax.Array = param("rad", real, "angle of the pump to the axis, in air", 0.0)
    pump_tilt_y: jax.Array = param("rad", real, "the same along y", 0.0)
    defocus: jax.Array = param("m", real, "way from the focal plane of the far-field lens to the sample", 0.0)
    idler_x: jax.Array = param("m", real, "shift of the idler's image against the signal's superpixels", 0.0)
    idler_y: jax.Array = param("m", real, "the same along y", 0.0)
    drift_x: jax.Array = param("m", real, "way of the idler's image during one exposure, centred on the shift", 0.0)
    drift_y: jax.Array = param("m", real, "the same along y", 0.0)
    ambient: jax.Array = param("Hz", nonnegative, "background photons per second that reach a superpixel", 0.0)
    idler_ambient: jax.Array = param("Hz", nonnegative, "the same in the idler's arm", 0.0)
    pixels: int = static("superpixels along a side of the field", default=32)
    fine: int = static("cells of the object map along a side of a superpixel", default=4)

    def check(self):
        for name in ("pixels", "fine"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 256:
                raise FieldError(name, f"got {value!r}, accepted is a whole number from 1 to 256")

    def check_with(self, source: SPDC):
        """Refuse beams that meet the sample far from normal incidence."""
        angle = self.angle(source)
        if is_concrete(angle) and angle > STEEPEST:
            met = f"angles of std {float(angle):.3g} rad on the sample (waist / 2f)"
            raise FieldError("focal_length", f"gives {met}, accepted is up to {STEEPEST} rad")

    def angle(self, source: SPDC):
        """std of the angles at which light meets the sample, w/(2 f), rad."""
        return source.waist / (2 * self.focal_length)

    def scale(self, source: SPDC):
        """m of position per rad/m of the signal's transverse wave vector."""
        return self.focal_length * source.signal_wavelength / (2 * jnp.pi)

    def geometry(self, source: SPDC) -> Geometry:
        """Everything that the pair's law on the sample is made of; the crystal is solved once."""
        pair, scale = source.biphoton(), self.scale(source)
        signal, idler = ((scale * width) ** 2 for width in pair.photon_widths())
        crystal = pair.moments().covariance[0, 0]
        defocus = (self.defocus / self.focal_length) ** 2 * crystal
        return Geometry((scale * pair.sum_width()) ** 2, signal, idler, defocus, *pair.shares())

    def beam_widths(self, source: SPDC):
        """std of the positions of signal and mirrored idler on the sample, per axis, m."""
        return self.geometry(source).beam_widths()

    def beam_centres(self, source: SPDC):
        """Middle of the signal's and of the mirrored idler's light on the sample, m, [2] each."""
        return self.centres_of(source, self.geometry(source))

    def centres_of(self, source: SPDC, g: Geometry):
        """`beam_centres` of a geometry that is known."""
        pump = self.focal_length * source.signal_wavelength / source.pump_wavelength
        tilt = pump * jnp.stack([self.pump_tilt_x, self.pump_tilt_y])
        return g.signal_share * tilt, jnp.stack([self.idler_x, self.idler_y]) - g.idler_share * tilt

    def drift(self):
        """Way of the idler's image during one exposure, m, [2]."""
        return jnp.stack([self.drift_x, self.drift_y])

    def correlation_width(self, source: SPDC):
        """std(x_s - y_i) of position and mirrored partner, per axis: f l_s/(2 pi w) in focus, m."""
        g = self.geometry(source)
        return jnp.sqrt(g.apart + g.defocus)

    def partner(self, source: SPDC, of: str = "signal"):
        """(c, s) of `Geometry.partner`."""
        return self.geometry(source).partner(of)

    def field_fraction(self, source: SPDC):
        """Part of the signal beam that falls on the field of the superpixels."""
        g, half = self.geometry(source), self.pixels * self.pitch / 2
        return jnp.prod(inside(g.beam_widths()[0], half, self.centres_of(source, g)[0]))

    def centres(self):
        """Positions of the superpixel centres along an axis, m, [pixels]."""
        return (jnp.arange(self.pixels, dtype=self.pitch.dtype) - (self.pixels - 1) / 2) * self.pitch

    def blur(self, source: SPDC):
        """std of the diffraction spot at the object, sqrt 2 l/(2 pi NA) per axis, m: curved as the Airy pattern."""
        return gaussian_width(source.signal_wavelength, self.numerical_aperture, "curvature")
