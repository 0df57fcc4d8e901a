"""Images of a point, an edge and a grating by a lens with a circular pupil.

v = 2 pi NA r/l. Scalar, paraxial; l and NA both in the space of the image, or both in that of the object.
Elementwise in r.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import sici

from qtwin.core.errors import UserError
from qtwin.core.params import positive
from qtwin.modes.checks import number

# std in v of exp(-v^2/2 s^2) for the Airy pattern, by what both have in common
GAUSSIAN_WIDTHS = {
    "curvature": 2**0.5,  # at the centre; also the power, at equal peak
    "FWHM": 2 * 1.616339948310703 / (8 * np.log(2)) ** 0.5,  # (2 J1(v)/v)^2 = 1/2
    "1/e^2": 2.5838389898648764 / 2,  # radius where the intensity is exp(-2)
}
_NEAR = 25.0  # below: trapezoidal rule on Bessel's integral; above: Hankel's series; both to 1e-12
_ANGLES = np.pi * (np.arange(32) + 0.5) / 32


@partial(jax.jit, static_argnums=0)
def _bessel(order: int, v):
    """J0(v), or J1(v)/v: integral of cos(v cos t) (sin t)^(2 order)/pi over (0, pi); Hankel's series far out.

    Abramowitz & Stegun, Handbook of Mathematical Functions (1964), 9.1.20 and 9.2.5.
    """
    t = jnp.asarray(_ANGLES, v.dtype).reshape((1,) * v.ndim + _ANGLES.shape)
    near = jnp.mean(jnp.cos(v[..., None] * jnp.cos(t)) * jnp.sin(t) ** (2 * order), axis=-1)
    far = jnp.maximum(jnp.abs(v), _NEAR)
    term, p, q = jnp.ones_like(far), jnp.ones_like(far), jnp.zeros_like(far)
    for k in range(1, 14):
        term = term * (4 * order**2 - (2 * k - 1) ** 2) / (8 * k * far)
        if k % 2:
            q = q + term * (-1) ** (k // 2)
        else:
            p = p + term * (-1) ** (k // 2)
    phase = far - (order / 2 + 0.25) * jnp.pi
    wave = jnp.sqrt(2 / (jnp.pi * far)) * (p * jnp.cos(phase) - q * jnp.sin(phase)) / far**order
    return jnp.where(jnp.abs(v) < _NEAR, near, wave)


def _edge_frequency(wavelength, aperture):
    """2 pi NA/l, rad/m: v of a circular pupil is this times r. FieldError unless both are greater than 0."""
    return 2 * jnp.pi * number("aperture", aperture, positive) / number("wavelength", wavelength, positive)


def airy_amplitude(r, wavelength, aperture):
    """2 J1(v)/v: field of a point, coherent imaging, 1 at the centre (Goodman, Introduction to Fourier Optics, 4.4)."""
    return 2 * _bessel(1, _edge_frequency(wavelength, aperture) * r)


def airy(r, wavelength, aperture):
    """(2 J1(v)/v)^2: intensity of a point, 1 at the centre; first zero 0.6098 l/NA, FWHM 0.5145 l/NA."""
    return airy_amplitude(r, wavelength, aperture) ** 2


def gaussian_width(wavelength, aperture, kept: str):
    """std (m) of the Gaussian that stands in for the Airy intensity and keeps its ``kept``.

    ``kept`` is a key of `GAUSSIAN_WIDTHS`, or UserError.
    """
    if kept not in GAUSSIAN_WIDTHS:
        raise UserError(f"kept: got {kept!r}, accepted are {', '.join(GAUSSIAN_WIDTHS)}")
    return GAUSSIAN_WIDTHS[kept] / _edge_frequency(wavelength, aperture)


def defocused(r, defocus, wavelength, aperture):
    """Intensity of a point ``defocus`` m out of focus, in units of the focused peak: |2 int J0(v p) exp(i u p^2/2) p
    dp|^2.

    u = 2 pi NA^2 z/l; on the axis (sin(u/4)/(u/4))^2 (Born & Wolf, Principles of Optics, 7th ed., section 8.8). u
    and v below 60.
    """
    node, weight = (jnp.asarray(a / 2, r.dtype) for a in np.polynomial.legendre.leggauss(64))
    p = (node + 0.5).reshape((1,) * r.ndim + node.shape)
    edge = _edge_frequency(wavelength, aperture)
    u = (edge * aperture * defocus)[..., None]
    wave = 2 * weight.reshape(p.shape) * p * _bessel(0, edge * r[..., None] * p)
    return jnp.sum(wave * jnp.cos(u * p**2 / 2), axis=-1) ** 2 + jnp.sum(wave * jnp.sin(u * p**2 / 2), axis=-1) ** 2


def incoherent_transfer(frequency, wavelength, aperture):
    """(2/pi)(acos s - s sqrt(1 - s^2)), s = f l/(2 NA): contrast of a grating of ``frequency`` f (1/m), 0 beyond 2
    NA/l.

    Optical transfer function of the circular pupil (Goodman, section 6.3); real, so it is the MTF as well.
    """
    s = jnp.abs(frequency) * jnp.pi / _edge_frequency(wavelength, aperture)
    inside = jnp.where(s < 1, s, 0)
    return jnp.where(s < 1, 2 / jnp.pi * (jnp.arccos(inside) - inside * jnp.sqrt(1 - inside**2)), 0)


def coherent_transfer(frequency, wavelength, aperture):
    """1 up to the frequency NA/l, 0 beyond: transmission of the field's gratings."""
    return jnp.where(jnp.abs(frequency) * 2 * jnp.pi <= _edge_frequency(wavelength, aperture), 1, 0).astype(
        frequency.dtype
    )


def coherent_edge(x, wavelength, aperture):
    """(1/2 + Si(v)/pi)^2: intensity across a straight edge in coherent light; 1/4 on the edge, where it is bright at
    x > 0.

    The line spread of a circular pupil is the transform of its diameter, a sinc.
    """
    v = _edge_frequency(wavelength, aperture) * x
    return (0.5 + jnp.sign(v) * sici(jnp.abs(v))[0] / jnp.pi) ** 2


def incoherent_edge(x, wavelength, aperture):
    """1/2 + (1/pi) int OTF(f) sin(2 pi f x)/f df from 0 to 2 NA/l: intensity across a straight edge; 1/2 on the edge.

    Gauss-Legendre in f = (2 NA/l) sin(a): 1e-6 for |x| below 8 l/NA.
    """
    node, weight = (jnp.asarray(b * np.pi / 4, x.dtype) for b in np.polynomial.legendre.leggauss(64))
    s, ds = jnp.sin(node + np.pi / 4), jnp.cos(node + np.pi / 4) * weight
    curve = 2 / jnp.pi * (jnp.arccos(s) - s * jnp.sqrt(1 - s**2)) * ds / s
    wave = jnp.sin(2 * _edge_frequency(wavelength, aperture) * x[..., None] * s.reshape((1,) * x.ndim + s.shape))
    return 0.5 + jnp.sum(curve.reshape((1,) * x.ndim + s.shape) * wave, axis=-1) / jnp.pi
