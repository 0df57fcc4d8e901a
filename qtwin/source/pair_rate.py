"""Absolute rates of photon pairs from a nonlinearity, a pump power and a geometry, at low gain.

Every rate starts from one law of parametric amplification (Boyd, Nonlinear Optics, 3rd ed., section 2.8): a pump of
intensity I puts coupling L^2 I |phi|^2 pairs into each pair of modes,

    coupling = 2 w_s w_i d_eff^2/(n_s n_i n_p e0 c^3),   phi the response of the crystal, 1 at dk = 0.

Pairs as they are born: no Fresnel loss, no fibre, filter or detector efficiency, no splitting of the pair.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import FieldError
from qtwin.core.params import Element, Support, is_concrete, param, positive, static
from qtwin.source.nonlinear_crystal import Crystal, polar
from qtwin.source.phase_matching import idler_wavelength
from qtwin.source.sellmeier import LIGHT

VACUUM = 8.8541878128e-12  # F/m
ALONG = np.polynomial.legendre.leggauss(48)  # points and weights along the crystal, -1 to 1
half_cone = Support("greater than 0, below pi/2", 0.0, np.pi / 2, low_open=True, high_open=True)


def coupling(crystal: Crystal, pump, signal):
    """2 w_s w_i d_eff^2/(n_s n_i n_p e0 c^3), 1/W; wavelengths in m, elementwise."""
    at = (crystal.angle, crystal.temperature)
    idler = idler_wavelength(pump, signal)
    n_p, n_s, n_i = (crystal.interaction.index(b, w, *at) for b, w in enumerate((pump, signal, idler)))
    frequencies = (2 * jnp.pi * LIGHT) ** 2 / (signal * idler)
    return 2 * frequencies * crystal.nonlinearity() ** 2 / (n_p * n_s * n_i * VACUUM * LIGHT**3)


def band(centre, width, points: int):
    """Wavelengths (m) and weights (Hz) of Gauss-Legendre in frequency over a full ``width`` (m) about ``centre``."""
    x, weights = np.polynomial.legendre.leggauss(points)
    middle, half = LIGHT / centre, LIGHT * width / centre**2 / 2
    return LIGHT / (middle + half * jnp.asarray(x, centre.dtype)), half * jnp.asarray(weights, centre.dtype)


@eqx.filter_jit
def _mismatch(crystal: Crystal, pump, signal):
    return crystal.mismatch(pump, signal)


class MultimodePairs(Element):
    """R = coupling L^2 P integral |phi(dk(q, v))|^2 dv d^2q/(2 pi)^2: pairs whose signal passes filter and aperture.

    The pump is a plane wave over its area (its waist drops out), dk exact in q for uniaxial crystals; the signal's
    filter is a top hat and its aperture sharp, the idler is always taken. ``radial`` and ``spectral`` points must
    resolve sinc^2(dk L/2) up to the edge of the cone: the phase there should stay below 3 ``radial``/2 rad.
    """

    crystal: Crystal
    pump_wavelength: jax.Array = param("m", positive, "pump wavelength in vacuum")
    signal_wavelength: jax.Array = param("m", positive, "middle of the signal's filter, in vacuum")
    pump_power: jax.Array = param("W", positive, "pump power, continuous wave")
    bandwidth: jax.Array = param("m", positive, "full width of the signal's filter")
    half_angle: jax.Array = param("rad", half_cone, "largest angle of the signal to the pump, outside the crystal")
    radial: int = static("points in the square of the transverse wave vector", 200)
    spectral: int = static("points in frequency", 32)
    around: int = static("points in azimuth (1 suffices where signal and idler are ordinary)", 1)

    def pair_rate(self):
        """Pairs per second."""
        signal, hertz = band(self.signal_wavelength, self.bandwidth, self.spectral)
        x, weights = np.polynomial.legendre.leggauss(self.radial)
        dtype = signal.dtype
        share, radial = jnp.asarray((x + 1) / 2, dtype), jnp.asarray(weights / 2, dtype)
        azimuth = 2 * jnp.pi * jnp.arange(self.around, dtype=dtype) / self.around
        signal = signal[:, None, None]
        sine = jnp.sin(self.half_angle) * jnp.sqrt(share)[None, :, None]
        emission = jnp.arcsin(sine) + 0 * azimuth[None, None, :]
        dk = self.crystal.mismatch(self.pump_wavelength, signal, emission=emission, azimuth=azimuth[None, None, :])
        phi = self.crystal.response(dk)
        disc = jnp.pi * (jnp.sin(self.half_angle) / signal) ** 2  # area of the cone in (q/2 pi)^2
        strength = coupling(self.crystal, self.pump_wavelength, signal) * self.crystal.length**2
        density = strength * disc * (phi.real**2 + phi.imag**2)
        return self.pump_power * jnp.einsum("jka,j,k->", density, hertz, radial) / self.around


class FibrePairs(Element):
    """dR/dv = coupling P |integral dz exp(i dk z - i chirp z^2/2) O(z)|^2, O = integral u_p u_s* u_i* d^2r.

    Pairs in two single Gaussian modes u (1/e amplitude radius w at the centre of the crystal, in the plane that
    the fibres' lenses image there), all three collinear and paraxial: Bennink, Phys. Rev. A 81, 053805 (2010);
    Ling, Lamas-Linares & Kurtsiefer, Phys. Rev. A 77, 043834 (2008). Focusing, its phases and the walk-off of
    every beam are included. A photon's partner anywhere gives its single rate, hence the heralding.
    48 points along the crystal: for L below some 30 Rayleigh ranges, and within |dk L/2| < 60.
    """

    crystal: Crystal
    pump_wavelength: jax.Array = param("m", positive, "pump wavelength in vacuum")
    signal_wavelength: jax.Array = param("m", positive, "middle of the signal's filter, in vacuum")
    pump_power: jax.Array = param("W", positive, "pump power, continuous wave")
    pump_waist: jax.Array = param("m", positive, "1/e amplitude radius of the pump")
    signal_waist: jax.Array = param("m", positive, "1/e amplitude radius of the signal's mode")
    idler_waist: jax.Array = param("m", positive, "1/e amplitude radius of the idler's mode")
    bandwidth: jax.Array = param("m", positive, "full width of the signal's filter")
    spectral: int = static("points in frequency, across the filter", 96)

    def check(self):
        if not all(is_concrete(x) for x in jax.tree.leaves(self)):
            return
        tight = float(min(self.pump_waist, self.signal_waist, self.idler_waist))
        least = float(jnp.sqrt(self.crystal.length * self.pump_wavelength / (60 * np.pi)))
        if tight < least:
            raise FieldError("waist", f"got {tight:.3g} m, these paraxial formulas accept {least:.3g} m or more")
        middle, half = float(self.signal_wavelength), float(self.bandwidth) / 2
        ends = middle / (1 + np.array([-1, 1]) * half / middle)
        phase = np.abs(_mismatch(self.crystal, self.pump_wavelength, ends)) * float(self.crystal.length) / 2
        if not np.max(phase) < 60:
            widest = f"got {float(self.bandwidth):.3g} m, where |dk L/2| grows to {np.max(phase):.0f}"
            raise FieldError("bandwidth", f"{widest}: accepted is up to 60")

    def _beams(self, signal):
        """(k, walk-off tangent, waist) of pump, signal, idler for one signal wavelength."""
        at = (self.crystal.angle, self.crystal.temperature)
        waves = (self.pump_wavelength, signal, idler_wavelength(self.pump_wavelength, signal))
        waists = (self.pump_waist, self.signal_waist, self.idler_waist)
        i = self.crystal.interaction
        return [
            (2 * jnp.pi * i.index(b, w, *at) / w, jnp.tan(i.walk_off(b, w, *at)), waist)
            for b, (w, waist) in enumerate(zip(waves, waists, strict=True))
        ]

    def _along(self, signal):
        """z [n], complex weights exp(i dk z - i chirp z^2/2) dz, and for each beam 1/(w^2 +- 2 i z/k), shift, w, k."""
        z = self.crystal.length / 2 * jnp.asarray(ALONG[0], signal.dtype)
        dz = self.crystal.length / 2 * jnp.asarray(ALONG[1], signal.dtype)
        dk = self.crystal.mismatch(self.pump_wavelength, signal)
        step = polar(dz, dk * z - self.crystal.chirp * z**2 / 2)
        beams = []
        for b, (k, tangent, waist) in enumerate(self._beams(signal)):
            curved = jax.lax.complex(waist**2 * jnp.ones_like(z), (-2 if b else 2) * z / k)
            beams.append((1 / curved, (tangent * z).astype(curved.dtype), waist.astype(curved.dtype), k))
        return z, step, beams

    def _pairs(self, signal):
        """|integral|^2 of the pair, m^2 times 1/m^2: dR/dv = coupling P times this; one wavelength."""
        _, step, beams = self._along(signal)
        a = jnp.stack([b[0] for b in beams])
        shift = jnp.stack([b[1] for b in beams])
        total, moment = jnp.sum(a, 0), jnp.sum(a * shift, 0)
        apart = jnp.exp(moment**2 / total - jnp.sum(a * shift**2, 0))
        waists = beams[0][2] * beams[1][2] * beams[2][2]
        overlap = (2 / np.pi) ** 1.5 * np.pi * waists * jnp.prod(a, 0) / total * apart
        amplitude = jnp.sum(step * overlap)
        return amplitude.real**2 + amplitude.imag**2

    def _singles(self, signal, arm: int):
        """The same for the photon of ``arm`` (1 signal, 2 idler), its partner anywhere."""
        z, step, beams = self._along(signal)
        (a_p, d_p, w_p, _), (a_s, d_s, w_s, _), (_, d_i, _, k_i) = beams[0], beams[arm], beams[3 - arm]
        b = 1 / (a_p + a_s)
        centre = b * (d_p * a_p + d_s * a_s)
        gauss = 2 / np.pi * w_p * w_s * a_p * a_s * jnp.exp(centre**2 / b - d_p**2 * a_p - d_s**2 * a_s) * b * step
        spread = b + jax.lax.complex(jnp.zeros_like(z), -2 * z / k_i)
        apart = centre - d_i
        s = spread[:, None] + spread.conj()[None, :]
        both = jnp.exp(-((apart[:, None] - apart.conj()[None, :]) ** 2) / s) / s
        return np.pi * (gauss @ both @ gauss.conj()).real

    def spectral_density(self, signal):
        """Pairs per second and hertz at signal wavelengths (m), elementwise."""
        law = jnp.vectorize(self._pairs)(signal)
        return coupling(self.crystal, self.pump_wavelength, signal) * self.pump_power * law

    def pair_rate(self):
        """Pairs per second in both fibres, the signal within the filter."""
        signal, hertz = band(self.signal_wavelength, self.bandwidth, self.spectral)
        return jnp.sum(hertz * self.spectral_density(signal))

    def brightness(self):
        """Pairs per second, watt and metre of bandwidth at the middle of the filter; 1e-12 of it per mW and nm."""
        density = self.spectral_density(self.signal_wavelength)
        return density * LIGHT / self.signal_wavelength**2 / self.pump_power

    def single_rates(self):
        """(signal, idler): photons per second in each fibre, their partners anywhere; both within the filter."""
        signal, hertz = band(self.signal_wavelength, self.bandwidth, self.spectral)
        weights = hertz * coupling(self.crystal, self.pump_wavelength, signal) * self.pump_power
        rates = [jnp.sum(weights * jax.lax.map(lambda w, a=arm: self._singles(w, a), signal)) for arm in (1, 2)]
        return rates[0], rates[1]

    def heralding(self):
        """(signal, idler): probability that the photon is in its fibre when its partner is; the optics lossless."""
        pairs, (signal, idler) = self.pair_rate(), self.single_rates()
        return pairs / idler, pairs / signal
