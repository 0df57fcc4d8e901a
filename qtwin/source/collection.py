"""Which pairs get where they can be detected: into apertures and into single-mode fibres.

A heralding efficiency here is that of perfect detectors: probability that a photon is collected once its partner was.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import i0e

from qtwin.source.biphoton import AbstractBiphoton, Moments

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(48)
FAR = 9.0  # standard deviations after which a normal law is over: exp(-40)


class Collected(NamedTuple):
    """Probabilities per emitted pair."""

    signal: jax.Array  # the signal is collected, whatever its partner does
    idler: jax.Array
    pair: jax.Array  # both are

    @property
    def signal_heralding(self):
        """Probability that the signal is collected if its idler was: pair/idler."""
        return self.pair / self.idler

    @property
    def idler_heralding(self):
        """Probability that the idler is collected if its signal was: pair/signal."""
        return self.pair / self.signal


def _between(low, high):
    """Gauss-Legendre nodes and weights from ``low`` to ``high`` on a new last axis."""
    node, weight = (jnp.asarray(a / 2, low.dtype) for a in (_NODES, _WEIGHTS))
    shape = (1,) * low.ndim + node.shape
    span = (high - low)[..., None]
    return low[..., None] + span * (node + 0.5).reshape(shape), span * weight.reshape(shape)


def disc_probability(width, radius, offset):
    """Probability that a normal point of std ``width`` per axis, ``offset`` off the axis, lies in a disc.

    1 - Q1(d/s, R/s) (Marcum, IRE Trans. Inf. Theory 6, 59 (1960)) = integral of exp(-(r - d)^2/2 s^2) i0e(r d/s^2) r
    dr/s^2. All of one shape, in one unit; 1 - exp(-R^2/2 s^2) on the axis.
    """
    low = jnp.clip(offset - FAR * width, 0, radius)
    r, weight = _between(low, jnp.minimum(radius, offset + FAR * width))
    s, d = width[..., None], offset[..., None]
    return jnp.sum(weight * r / s**2 * jnp.exp(-(((r - d) / s) ** 2) / 2) * i0e(r * d / s**2), axis=-1)


def aperture_collection(pairs: Moments, signal_radius, idler_radius) -> Collected:
    """Pairs within two circular apertures on the axis, for the normal law of their positions; radii in m.

    P_si = integral over the signal's disc of its density times `disc_probability` of the idler given the signal: mean
    c r/s_s^2, std s_i sqrt(1 - rho^2). For a numerical aperture carry the pair through a 2f system first. The lens
    aberrations and the diffraction at the edges are left out; the means of ``pairs`` must be 0, its weight is not
    applied. Float64: the width is a difference of variances.
    """
    v = pairs.covariance
    s, i, c = jnp.sqrt(v[0, 0]), jnp.sqrt(v[2, 2]), jnp.abs(v[0, 2])
    both, top = jnp.minimum(idler_radius, (FAR + 3) * i), jnp.minimum(signal_radius, FAR * s)
    slope = jnp.maximum(c / s**2, 1e-9 * i / s)
    width = jnp.sqrt(i**2 - (c / s) ** 2)
    # the partner crosses the edge of its aperture while the signal's radius goes from low to high
    low, high = (jnp.clip((both + sign * FAR * width) / slope, 0, top) for sign in (-1, 1))
    r, weight = (
        jnp.concatenate(parts) for parts in zip(_between(jnp.zeros_like(low), low), _between(low, high), strict=True)
    )
    partner = disc_probability(jnp.full_like(r, 1) * width, jnp.full_like(r, 1) * both, slope * r)
    pair = jnp.sum(weight * r / s**2 * jnp.exp(-((r / s) ** 2) / 2) * partner)
    return Collected(-jnp.expm1(-((signal_radius / s) ** 2) / 2), -jnp.expm1(-((idler_radius / i) ** 2) / 2), pair)


def fibre_collection(biphoton: AbstractBiphoton, signal_waist, idler_waist) -> Collected:
    """Pairs within two Gaussian modes exp(-r^2/w_s^2), exp(-r^2/w_i^2) focused at the centre of the crystal; waists
    in m.

    With G = diag(w_s^2, w_i^2)/2 and A = (w^2/2)(1 1)(1 1)^T + 4 g a (m_i, -m_s)(m_i, -m_s)^T, psi = exp(-k A k/2)
    for every exponential g of f: pair = N |sum_j c_j 4 sqrt(det G)/det(A_j + G)|^2; singles from the partial
    overlap, traced over the partner. Exact in paraxial optics at one frequency, focusing and the phases along the
    crystal included (Bennink, Phys. Rev. A 81, 053805 (2010); Dixon et al., Phys. Rev. A 90, 043804 (2014); pair ~
    arctan(xi)^2/xi for equal Rayleigh ranges and xi = L/(2 z_R), Boyd & Kleinman, J. Appl. Phys. 39, 3597 (1968)).
    Spectral filters must be narrow enough that one frequency speaks for all. Not for xi beyond 10 (64 nodes along
    the crystal).
    """
    m_s, m_i = biphoton.shares()
    weight, rate = biphoton.exponentials()
    pump, phase, m_s, m_i, g_s, g_i, scale = (
        x.astype(rate.dtype)
        for x in (
            biphoton.waist**2 / 2,
            4 * biphoton.phase_matching(),
            m_s,
            m_i,
            signal_waist**2 / 2,
            idler_waist**2 / 2,
            16 * jnp.pi**2 / biphoton.strength(),
        )
    )
    ss, ii, si = (pump + m * phase * rate for m in (m_i**2, m_s**2, -m_s * m_i))
    overlap = jnp.sum(weight * jnp.sqrt(g_s * g_i) / ((ss + g_s) * (ii + g_i) - si**2))
    pair = (scale * overlap * jnp.conj(overlap)).real

    def alone(own, other, g):
        """Weight of one photon in its mode: the other's amplitude exp(-rest q^2/2) squared and integrated."""
        rest = other - si**2 / (own + g)
        amplitude = weight / (own + g)
        both = amplitude[:, None] * jnp.conj(amplitude)[None, :] / (rest[:, None] + jnp.conj(rest)[None, :])
        return (scale * g / 2 * jnp.sum(both)).real

    return Collected(alone(ss, ii, g_s), alone(ii, ss, g_i), pair)
