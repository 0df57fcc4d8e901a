"""Photon pairs from a thin BBO crystal: the double-Gaussian biphoton and its absolute rate."""

import jax
import jax.numpy as jnp
from jax.scipy.special import erf

from qtwin.core.errors import FieldError
from qtwin.core.params import Element, param, positive
from qtwin.source.crystals import bbo_index

LIGHT = 299792458.0  # m/s
VACUUM = 8.8541878128e-12  # F/m
# sinc(x) and exp(-GAMMA x) fall to 1/e at the same x = 2.19912: the Gaussian stand-in of the phase matching
GAMMA = 1 / 2.19912


class SPDC(Element):
    """psi(k1, k2) ~ exp(-w^2 |k1 + k2|^2/4) exp(-GAMMA a |q_-|^2), q_- = (k1 - k2)/sqrt 2, a = L k_p/(8 k_s k_i).

    Collinear type I emission of BBO in the paraxial, thin-crystal limit (Law & Eberly, Phys. Rev. Lett.
    92, 127903 (2004); Schneeloch & Howell, J. Opt. 18, 053501 (2016)). k1, k2: transverse wave vectors of
    signal and idler, rad/m. The Gaussian replaces sinc(a q_-^2) with equal 1/e width in amplitude; the
    true sinc has wings that it lacks. ``waist`` w: pump amplitude exp(-r^2/w^2).
    """

    pump_wavelength: jax.Array = param("m", positive, "pump wavelength in vacuum")
    signal_wavelength: jax.Array = param("m", positive, "signal wavelength in vacuum")
    crystal_length: jax.Array = param("m", positive, "length of the BBO crystal")
    waist: jax.Array = param("m", positive, "1/e amplitude radius of the pump")
    pump_power: jax.Array = param("W", positive, "pump power, continuous wave")
    nonlinearity: jax.Array = param("m/V", positive, "effective nonlinear coefficient d_eff")
    bandwidth: jax.Array = param("m", positive, "full width of the spectral filter in front of the detectors")

    def check(self):
        if isinstance(self.signal_wavelength, jax.core.Tracer) or isinstance(self.pump_wavelength, jax.core.Tracer):
            return
        if self.signal_wavelength <= self.pump_wavelength:
            given, pump = float(self.signal_wavelength), float(self.pump_wavelength)
            raise FieldError("signal_wavelength", f"got {given:g} m, accepted is longer than the pump's {pump:g} m")
        longest = max(float(self.signal_wavelength), float(self.idler_wavelength()))
        if not (0.22e-6 <= float(self.pump_wavelength) and longest <= 1.06e-6):
            found = f"got pump {float(self.pump_wavelength) * 1e9:.4g} nm and a photon of {longest * 1e9:.4g} nm"
            raise FieldError("pump_wavelength, signal_wavelength", f"{found}, Kato's BBO data hold from 220 to 1060 nm")

    def idler_wavelength(self):
        """1/l_i = 1/l_p - 1/l_s, m."""
        return 1 / (1 / self.pump_wavelength - 1 / self.signal_wavelength)

    def pump_index(self):
        """n_p at collinear phase matching: n_p/l_p = n_s/l_s + n_i/l_i."""
        l_s, l_i = self.signal_wavelength, self.idler_wavelength()
        return self.pump_wavelength * (bbo_index(l_s, "o") / l_s + bbo_index(l_i, "o") / l_i)

    def phase_matching(self):
        """a = L k_p/(8 k_s k_i) of sinc(a |q_-|^2), m^2; L l_p/(4 pi n_p) where signal and idler are alike.

        Delta k L/2 = (L/4) q^2 (1/k_s + 1/k_i) for k1 = -k2 = q, paraxially; k = 2 pi n/l inside the crystal.
        """
        l_s, l_i = self.signal_wavelength, self.idler_wavelength()
        k_s, k_i = 2 * jnp.pi * bbo_index(l_s, "o") / l_s, 2 * jnp.pi * bbo_index(l_i, "o") / l_i
        return self.crystal_length * (k_s + k_i) / (8 * k_s * k_i)

    def sum_width(self):
        """std(k1 + k2) = 1/w per axis, rad/m."""
        return 1 / self.waist

    def difference_width(self):
        """std(k1 - k2) = 1/sqrt(2 GAMMA a) per axis, rad/m (q_- has 1/(2 sqrt(GAMMA a)))."""
        return 1 / jnp.sqrt(2 * GAMMA * self.phase_matching())

    def photon_width(self):
        """std of one photon's transverse wave vector: sqrt(std(k1+k2)^2 + std(k1-k2)^2)/2, rad/m."""
        return jnp.sqrt(self.sum_width() ** 2 + self.difference_width() ** 2) / 2

    def schmidt_number(self):
        """K = ((r + 1/r)/2)^2 of the double Gaussian in two dimensions, r = std(k1-k2)/std(k1+k2)."""
        r = self.difference_width() / self.sum_width()
        return ((r + 1 / r) / 2) ** 2

    def gain(self):
        """Pairs per mode (Gamma L)^2 = 2 w_s w_i d^2 L^2 I/(n_s n_i n_p e0 c^3) at the peak, I = 2P/(pi w^2).

        Low-gain parametric amplification: Boyd, Nonlinear Optics, 3rd ed., section 2.8.
        """
        l_s, l_i = self.signal_wavelength, self.idler_wavelength()
        frequencies = (2 * jnp.pi * LIGHT) ** 2 / (l_s * l_i)
        indices = bbo_index(l_s, "o") * bbo_index(l_i, "o") * self.pump_index()
        intensity = 2 * self.pump_power / (jnp.pi * self.waist**2)
        strength = 2 * frequencies * self.nonlinearity**2 / (indices * VACUUM * LIGHT**3)
        return strength * self.crystal_length**2 * intensity

    def pair_rate(self):
        """R = gain A_p dnu pi/(16 a) in pairs/s, A_p = pi w^2/2.

        One mode per area x d^2q/(2 pi)^2 x dnu; the integral of sinc^2(2 a q^2) d^2q is pi^2/(4 a). All
        pairs inside the filter of width dnu = c dl/l_s^2 are counted: the spectrum of phase matching is
        taken wider than the filter, the pump as one plane wave over its area.
        """
        area = jnp.pi * self.waist**2 / 2
        frequencies = LIGHT * self.bandwidth / self.signal_wavelength**2
        return self.gain() * area * frequencies * jnp.pi**2 / (4 * self.phase_matching()) / (2 * jnp.pi) ** 2

    def sample(self, count: int, *, key):
        """Transverse wave vectors of ``count`` pairs, rad/m: signal and idler, each [count, 2]."""
        total, difference = jax.random.normal(key, (2, count, 2), self.waist.dtype)
        total, difference = total * self.sum_width(), difference * self.difference_width()
        return (total + difference) / 2, (total - difference) / 2


class Coherent(Element):
    """Light of a laser shaped like the signal beam of the pairs it is compared with: Poisson counts."""

    wavelength: jax.Array = param("m", positive, "wavelength in vacuum")


def inside(width, half):
    """Probability that a centred normal variable of std ``width`` lies within +-``half``."""
    return erf(half / (jnp.sqrt(2.0) * width))
