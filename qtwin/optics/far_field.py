"""The far field of the crystal on the sample, and a lens that images the object onto the detectors."""

import jax
import jax.numpy as jnp

from qtwin.core.errors import FieldError
from qtwin.core.params import Element, efficiency, is_concrete, param, positive, static
from qtwin.optics.point_spread import gaussian_width
from qtwin.source.spdc import SPDC, inside


class FarField(Element):
    """x = f l k/(2 pi): a lens of focal length f turns transverse momentum into position (Goodman, ch. 5).

    Signal and idler each pass such a lens; the signal plane is the sample. Positions of the idler are
    mirrored and scaled by l_s/l_i, so that partners meet at the same place. The collecting objective
    accepts sines up to the numerical aperture and images the object plane at unit magnification onto
    ``pixels`` x ``pixels`` superpixels of side ``pitch``; its diffraction is the Gaussian
    that has the curvature of the Airy pattern at its centre. Light meets the sample at normal incidence:
    the true angles have std w/(2 f), and more than 0.05 rad is refused.
    """

    focal_length: jax.Array = param("m", positive, "focal length of the far-field lens")
    numerical_aperture: jax.Array = param("", efficiency, "sine of the largest accepted angle, in air")
    pitch: jax.Array = param("m", positive, "side of a superpixel at the sample")
    illumination_transmission: jax.Array = param("", efficiency, "signal optics between crystal and sample")
    collection_transmission: jax.Array = param("", efficiency, "signal optics between sample and detector")
    idler_transmission: jax.Array = param("", efficiency, "idler optics between crystal and detector")
    pixels: int = static("superpixels along a side of the field")
    fine: int = static("cells of the object map along a side of a superpixel", default=4)

    def check(self):
        for name in ("pixels", "fine"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 256:
                raise FieldError(name, f"got {value!r}, accepted is a whole number from 1 to 256")

    def check_with(self, source: SPDC):
        """Refuse beams that meet the sample far from normal incidence."""
        angle = source.waist / (2 * self.focal_length)
        if is_concrete(angle) and angle > 0.05:
            met = f"angles of std {float(angle):.3g} rad on the sample (waist / 2f)"
            raise FieldError("focal_length", f"gives {met}, accepted is up to 0.05 rad")

    def scale(self, source: SPDC):
        """m of position per rad/m of the signal's transverse wave vector."""
        return self.focal_length * source.signal_wavelength / (2 * jnp.pi)

    def beam_widths(self, source: SPDC):
        """std of the positions of signal and mirrored idler on the sample, per axis, m."""
        return tuple(self.scale(source) * width for width in source.photon_widths())

    def correlation_width(self, source: SPDC):
        """std(x_s - y_i) of position and mirrored partner, per axis, m: f l_s/(2 pi w)."""
        return self.scale(source) * source.sum_width()

    def partner(self, source: SPDC):
        """Mirrored partner's position y given the signal's x: normal of mean (1 - c) x and std s; returns (c, s).

        c = m_s v/b, s^2 = v (1 - m_s c) with v and b the variances of x - y and x, m_s the signal's share of the pump's
        wave number (`qtwin.source.biphoton`): the bivariate normal law of the pair.
        """
        v, b = self.correlation_width(source) ** 2, self.beam_widths(source)[0] ** 2
        share = source.biphoton().shares()[0]
        c = share * v / b
        return c, jnp.sqrt(v * (1 - share * c))

    def field_fraction(self, source: SPDC):
        """Part of the signal beam that falls on the field of the superpixels."""
        return inside(self.beam_widths(source)[0], self.pixels * self.pitch / 2) ** 2

    def centres(self):
        """Positions of the superpixel centres along an axis, m, [pixels]."""
        return (jnp.arange(self.pixels, dtype=self.pitch.dtype) - (self.pixels - 1) / 2) * self.pitch

    def blur(self, source: SPDC):
        """std of the diffraction spot at the object, sqrt 2 l/(2 pi NA) per axis, m: curved as the Airy pattern."""
        return gaussian_width(source.signal_wavelength, self.numerical_aperture, "curvature")
