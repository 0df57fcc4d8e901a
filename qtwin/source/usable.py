"""Pairs that are of use: both photons collected, by apertures in the far field or by single-mode fibres.

Continuous pump at low gain, a top-hat filter of the source's bandwidth in the signal and its mirror image in energy in
the idler. Rates as the photons are born: no Fresnel loss and no efficiency of optics or detectors.
"""

from abc import abstractmethod
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import FieldError, UserError
from qtwin.core.params import Element, param, parameters, positive
from qtwin.source.collection import FAR, disc_probability
from qtwin.source.nonlinear_crystal import Crystal
from qtwin.source.pair_rate import FibrePairs, MultimodePairs, band, coupling, half_cone
from qtwin.source.phase_matching import UNIAXIAL
from qtwin.source.sellmeier import LIGHT
from qtwin.source.spdc import SPDC

_PIECE = np.polynomial.legendre.leggauss(16)
MOST_AROUND = 64
DEEPEST = 55.0  # |dk L/2| at the edge of a fibre's filter: 48 points along the crystal resolve no more


class Rates(NamedTuple):
    """Photons per second behind aperture and filter."""

    pairs: jax.Array  # both photons of a pair
    signal: jax.Array  # the signal, its partner anywhere
    idler: jax.Array

    @property
    def signal_heralding(self):
        """Probability that the signal is collected if its idler was."""
        return self.pairs / self.idler

    @property
    def idler_heralding(self):
        """Probability that the idler is collected if its signal was."""
        return self.pairs / self.signal

    def scaled(self, shares: "Rates") -> "Rates":
        """Every rate times its share."""
        return Rates(*(rate * share for rate, share in zip(self, shares, strict=True)))


class Points(NamedTuple):
    """Sizes of the quadrature."""

    radial: int  # pieces of `_PIECE` points in each panel of the emission angle; unused by fibres
    spectral: int
    around: int

    def halved(self) -> "Points":
        """Half as many: what changes then bounds the error of the quadrature."""
        return Points(*(max(n // 2, 1) for n in self))

    def needs(self) -> int:
        """Bytes, roughly."""
        return 400 * _PIECE[0].size * self.radial * self.spectral * self.around


class AbstractCollection(Element):
    """What collects the two photons of a pair."""

    @abstractmethod
    def points(self, source: SPDC, crystal: Crystal) -> Points:
        """Sizes that resolve the emission of this source; UserError for what these formulas do not hold."""

    @abstractmethod
    def rates(self, source: SPDC, crystal: Crystal, points: Points) -> Rates:
        """Collected pairs and singles per second; ``crystal`` is the source's `crystal_at`, its length included."""

    @abstractmethod
    def spatial_modes(self, source: SPDC) -> jax.Array:
        """Effective number of transverse modes in the signal's arm."""


class Aperture(AbstractCollection):
    """R = integral coupling L^2 P |phi(dk(q, v))|^2 p(q) dv d^2q/(2 pi)^2 between sharp cones about the pump.

    The law of `qtwin.source.pair_rate.MultimodePairs` for a plane wave, and p for the pump's divergence: the photons
    leave with q_s = q + m_s K and q_i = -q + m_i K, K of std 1/w per axis (`qtwin.source.biphoton`), and p is the
    probability that the signal, the idler, or both lie within sin(half angle) 2 pi/l. Tends to `MultimodePairs` for a
    wide pump. A numerical aperture is the sine of the half angle.
    """

    signal_half_angle: jax.Array = param("rad", half_cone, "largest angle of the signal to the pump, outside")
    idler_half_angle: jax.Array = param("rad", half_cone, "largest angle of the idler to the pump, outside")

    def points(self, source, crystal):
        i = crystal.interaction
        extraordinary = "e" in i.rays[1:]
        if extraordinary and i.crystal not in UNIAXIAL:
            raise UserError(
                f"collection: got apertures for {i.rays} in {i.crystal}, whose photons' mismatch off the axis is not "
                "known; accepted is collection=fibre"
            )
        widest = jnp.arcsin(self._panels(source, crystal)[-1])
        azimuths = jnp.linspace(0.0, jnp.pi, 3) if extraordinary else jnp.zeros(1)
        edge = float(jnp.max(_phases(source, crystal, source.signal_wavelength, emission=widest, azimuth=azimuths)))
        across = max(_phase(source, crystal, wave) for wave in _edges(source, source.bandwidth))
        around = min(_power(2 * edge + 16), MOST_AROUND) if extraordinary else 1
        return Points(_power(edge / 5 + 1.1), _power(1.1 * across + 16), around)

    def _radii(self, source):
        """Largest transverse wave vectors that pass, of signal and idler, rad/m."""
        return (
            jnp.sin(self.signal_half_angle) * 2 * jnp.pi / source.signal_wavelength,
            jnp.sin(self.idler_half_angle) * 2 * jnp.pi / source.idler_wavelength(),
        )

    def _panels(self, source, crystal):
        """Sines of the signal's angle from 0 to the last one collected, [6]; both edges have panels of their own."""
        radii, blur = self._radii(source), FAR * jnp.maximum(*_shares(source, crystal)) / source.waist
        near, far = jnp.minimum(*radii), jnp.maximum(*radii)
        past = near + blur
        ends = jnp.stack([0 * near, jnp.maximum(near - blur, 0), near, past, jnp.maximum(past, far - blur), far + blur])
        last = 0.999 * jnp.minimum(1, source.signal_wavelength / source.idler_wavelength())  # both leave the crystal
        return jnp.minimum(ends * source.signal_wavelength / (2 * jnp.pi), last)

    def rates(self, source, crystal, points):
        radii, (m_s, m_i) = self._radii(source), _shares(source, crystal)
        ends = self._panels(source, crystal)
        pieces = np.arange(points.radial)[:, None]
        share = jnp.asarray(np.ravel(pieces + (_PIECE[0] + 1) / 2) / points.radial, ends.dtype)[None, :]
        weight = jnp.asarray(np.ravel(_PIECE[1] / 2 + 0 * pieces) / points.radial, ends.dtype)[None, :]
        span = jnp.diff(ends)[:, None]
        sine, step = jnp.ravel(ends[:-1, None] + span * share), jnp.ravel(span * weight)
        q, one = sine * 2 * jnp.pi / source.signal_wavelength, jnp.ones_like(sine)
        probabilities = jnp.stack(
            [
                _both(q, radii, (m_s, m_i), source.waist),
                disc_probability(m_s / source.waist * one, radii[0] * one, q),
                disc_probability(m_i / source.waist * one, radii[1] * one, q),
            ]
        )
        signal, hertz = band(source.signal_wavelength, source.bandwidth, points.spectral)
        strength = coupling(crystal, source.pump_wavelength, signal) * crystal.length**2 * source.pump_power
        azimuth = 2 * jnp.pi * jnp.arange(points.around, dtype=q.dtype) / points.around
        emission = jnp.arcsin(sine)[None, :, None] + 0 * azimuth[None, None, :]
        at = {"emission": emission, "azimuth": azimuth[None, None, :]}
        phi = crystal.response(crystal.mismatch(source.pump_wavelength, signal[:, None, None], **at))
        bright = jnp.mean(phi.real**2 + phi.imag**2, axis=-1)
        density = jnp.einsum("v,vq->q", hertz * strength / signal**2, bright) * 2 * jnp.pi * sine * step
        return Rates(*(probabilities @ density))

    def spatial_modes(self, source):
        """pi w^2 W/(2 pi)^2, W = (int r d^2q)^2/int r^2 d^2q, r = sinc(2 a q^2)^2 inside the cone, but at least 1.

        3 pi w^2/(32 a) without a cone (`SincBiphoton.thin_schmidt_number`).
        """
        a, radius = source.biphoton().phase_matching(), self._radii(source)[0]
        node, weight = np.polynomial.legendre.leggauss(256)
        end = jnp.minimum(2 * a * radius**2, 100.0)  # the rest of the wings holds 1/(100 pi)
        bright = jnp.sinc(end * jnp.asarray((node + 1) / 2) / jnp.pi) ** 2
        first, second = (end * jnp.sum(jnp.asarray(weight / 2) * bright**n) for n in (1, 2))
        return jnp.maximum(source.waist**2 * first**2 / second / (8 * a), 1.0)


class Fibre(AbstractCollection):
    """Single-mode fibres: R and singles of `qtwin.source.pair_rate.FibrePairs`, waists in the middle of the crystal."""

    signal_waist: jax.Array = param("m", positive, "1/e amplitude radius of the signal's mode in the crystal")
    idler_waist: jax.Array = param("m", positive, "1/e amplitude radius of the idler's mode in the crystal")

    def points(self, source, crystal):
        try:
            self.pairs(source, crystal, 1)
        except FieldError as error:  # the smallest of the three waists
            names = {"source.waist": source.waist} | {f"collection.{n}": getattr(self, n) for n in parameters(self)}
            raise FieldError(min(names, key=lambda name: float(names[name])), error.problem) from error
        across = max(_phase(source, crystal, wave) for wave in _edges(source, self.filter(source, crystal)))
        return Points(1, _power(1.1 * across + 16), 1)

    def filter(self, source: SPDC, crystal: Crystal):
        """The source's bandwidth, or the part of it about its middle in which |dk L/2| < `DEEPEST`.

        What lies beyond holds 1/(55 pi) of the pairs.
        """
        shares = jnp.linspace(0.0, 1.0, 201)[1:]
        phases = jnp.stack([_phases(source, crystal, w) for w in _edges(source, shares * source.bandwidth)])
        deep = jnp.max(phases, axis=0) > DEEPEST
        return source.bandwidth * jnp.where(jnp.any(deep), shares[jnp.maximum(jnp.argmax(deep), 1) - 1], 1.0)

    def pairs(self, source: SPDC, crystal: Crystal, spectral: int) -> FibrePairs:
        return FibrePairs(
            crystal,
            source.pump_wavelength,
            source.signal_wavelength,
            source.pump_power,
            source.waist,
            self.signal_waist,
            self.idler_waist,
            self.filter(source, crystal),
            spectral=spectral,
        )

    def rates(self, source, crystal, points):
        pairs = self.pairs(source, crystal, points.spectral)
        return Rates(pairs.pair_rate(), *pairs.single_rates())

    def spatial_modes(self, source):
        return jnp.ones_like(source.waist)


@partial(jax.jit, static_argnums=3)
def collected(collection: AbstractCollection, source: SPDC, crystal: Crystal, points: Points, waists, lengths) -> Rates:
    """`AbstractCollection.rates` at ``waists`` of the pump and ``lengths`` of the crystal, both [n], m; one by one."""

    def one(sizes):
        return collection.rates(*resized(source, crystal, *sizes), points)

    return jax.lax.map(one, (waists, lengths))


def resized(source: SPDC, crystal: Crystal, waist, length) -> tuple[SPDC, Crystal]:
    """The same source and its crystal with another waist of the pump and another length."""
    source = eqx.tree_at(lambda s: (s.waist, s.crystal_length), source, (waist, length))
    return source, eqx.tree_at(lambda c: c.length, crystal, length)


@partial(jax.jit, static_argnums=3)
def plane_wave(cone: Aperture, source: SPDC, crystal: Crystal, points: Points) -> jax.Array:
    """Signals per second within their aperture for a plane pump, by `MultimodePairs`."""
    return MultimodePairs(
        crystal,
        source.pump_wavelength,
        source.signal_wavelength,
        source.pump_power,
        source.bandwidth,
        cone.signal_half_angle,
        radial=32 * points.radial,
        spectral=points.spectral,
        around=points.around,
    ).pair_rate()


def _power(least: float) -> int:
    """A power of two that is not less: few sizes are compiled."""
    return 1 << int(np.ceil(np.log2(least)))


def _shares(source: SPDC, crystal: Crystal):
    """(m_s, m_i) = (k_s, k_i)/(k_s + k_i) in the crystal."""
    i, waves = crystal.interaction, (source.signal_wavelength, source.idler_wavelength())
    k_s, k_i = (i.index(beam + 1, w, crystal.angle, crystal.temperature) / w for beam, w in enumerate(waves))
    return k_s / (k_s + k_i), k_i / (k_s + k_i)


def _edges(source: SPDC, bandwidth):
    """Wavelengths at both ends of the signal's filter, m."""
    middle, half = LIGHT / source.signal_wavelength, LIGHT * bandwidth / source.signal_wavelength**2 / 2
    return LIGHT / (middle + half), LIGHT / (middle - half)


def _phases(source: SPDC, crystal: Crystal, signal, **emission):
    """|dk L/2|, elementwise."""
    return jnp.abs(crystal.mismatch(source.pump_wavelength, signal, **emission)) * crystal.length / 2


def _phase(source: SPDC, crystal: Crystal, signal) -> float:
    return float(_phases(source, crystal, signal))


def _both(q, radii, shares, waist):
    """Probability that |q + m_s K| and |-q + m_i K| are below the two ``radii``, K of std 1/w per axis; q [n].

    In polar coordinates of K both are intervals of its length: mean over its azimuth of exp(-w^2 low^2/2) - exp(-w^2
    high^2/2).
    """
    node, weight = (jnp.asarray(a, q.dtype) for a in np.polynomial.legendre.leggauss(48))
    sine, cosine = jnp.sin(jnp.pi / 4 * (node + 1)), jnp.cos(jnp.pi / 4 * (node + 1))
    q = q[:, None]
    seen = jnp.minimum(1, jnp.minimum(*radii) / q)  # azimuths that meet the smaller disc
    across = seen * sine[None, :]
    along = jnp.sqrt(1 - across**2)
    jacobian = weight[None, :] / 4 * seen * cosine[None, :] / along
    roots = [jnp.sqrt(radius**2 - (q * across) ** 2) for radius in radii]
    total = jnp.zeros_like(q[:, 0])
    for sign in (-1, 1):
        middles = (-sign * q * along, sign * q * along)
        pairs = [(m - r, m + r) for m, r in zip(middles, roots, strict=True)]
        (s_low, s_high), (i_low, i_high) = ((low / m, high / m) for (low, high), m in zip(pairs, shares, strict=True))
        low = jnp.maximum(jnp.maximum(s_low, i_low), 0)
        high = jnp.maximum(jnp.minimum(s_high, i_high), low)
        inside = jnp.exp(-((waist * low) ** 2) / 2) - jnp.exp(-((waist * high) ** 2) / 2)
        total = total + jnp.sum(jacobian * inside, axis=1)
    return total
