"""Filters and dichroic mirrors: power transmission over wavelength, and what they do to pairs. Elementwise."""

from abc import abstractmethod

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr

from qtwin.core.errors import FieldError
from qtwin.core.params import Element, efficiency, fraction, param, positive, static
from qtwin.source.collection import Collected


class AbstractFilter(Element):
    """What passes light by its wavelength."""

    @abstractmethod
    def transmission(self, wavelength):
        """Fraction of the power that passes; wavelength in vacuum, m."""


class GaussianFilter(AbstractFilter):
    """T = T0 exp(-4 ln 2 (l - l0)^2/width^2)."""

    centre: jax.Array = param("m", positive, "wavelength of the largest transmission")
    width: jax.Array = param("m", positive, "full width at half maximum")
    peak: jax.Array = param("", efficiency, "largest transmission", default=1.0)

    def transmission(self, wavelength):
        return self.peak * jnp.exp(-4 * np.log(2) * ((wavelength - self.centre) / self.width) ** 2)

    def bandwidth(self):
        """Integral of T over wavelength: T0 width sqrt(pi/(4 ln 2)) = 1.0645 T0 width, m."""
        return self.peak * self.width * (np.pi / (4 * np.log(2))) ** 0.5


class BandPass(AbstractFilter):
    """T = T0 [N((l - l1)/e) - N((l - l2)/e)], N the normal distribution: flat between l1, l2 = centre -+ width/2."""

    centre: jax.Array = param("m", positive, "middle of the band")
    width: jax.Array = param("m", positive, "full width at half maximum")
    edge: jax.Array = param("m", positive, "softness of both edges: from 16 to 84 % within 2 e", default=1e-10)
    peak: jax.Array = param("", efficiency, "transmission of the band", default=1.0)

    def transmission(self, wavelength):
        x, half = (wavelength - self.centre) / self.edge, self.width / (2 * self.edge)
        return self.peak * (ndtr(x + half) - ndtr(x - half))

    def bandwidth(self):
        """Integral of T over wavelength: T0 width, m."""
        return self.peak * self.width


class EdgePass(AbstractFilter):
    """T = T_stop + (T_pass - T_stop) N((l - edge)/e) of a long pass; a short pass has the mirrored step."""

    edge: jax.Array = param("m", positive, "wavelength of half transmission")
    softness: jax.Array = param("m", positive, "from 16 to 84 % within 2 e", default=1e-9)
    passed: jax.Array = param("", efficiency, "transmission of the open side", default=1.0)
    stopped: jax.Array = param("", fraction, "transmission of the closed side", default=0.0)
    side: str = static("which wavelengths pass: long or short", default="long")

    def check(self):
        if self.side not in ("long", "short"):
            raise FieldError("side", f"got {self.side!r}, accepted are long, short")

    def transmission(self, wavelength):
        sign = 1 if self.side == "long" else -1
        step = ndtr(sign * (wavelength - self.edge) / self.softness)
        return self.stopped + (self.passed - self.stopped) * step


class Dichroic(AbstractFilter):
    """T = T0 N((l - edge)/e), R = R0 N((edge - l)/e): a mirror that transmits long and reflects short waves.

    The rest is lost.
    """

    edge: jax.Array = param("m", positive, "wavelength at which both halves meet")
    softness: jax.Array = param("m", positive, "from 16 to 84 % within 2 e", default=5e-9)
    transmitted: jax.Array = param("", efficiency, "transmission of long waves", default=1.0)
    reflected: jax.Array = param("", efficiency, "reflectance for short waves", default=1.0)

    def transmission(self, wavelength):
        return self.transmitted * ndtr((wavelength - self.edge) / self.softness)

    def reflection(self, wavelength):
        """Fraction of the power that is reflected."""
        return self.reflected * ndtr((self.edge - wavelength) / self.softness)


def filtered_pairs(signal: AbstractFilter, idler: AbstractFilter, pump_wavelength, shortest, longest) -> Collected:
    """Pairs through a filter in each arm, for a spectrum even in frequency over signals from ``shortest`` to
    ``longest``.

    P_si = mean of T_s(l_s) T_i(l_i) with 1/l_i = 1/l_p - 1/l_s, cw pump: unlike filters lower the heralding
    efficiency by P_si/P_i though both be lossless (a pulsed pump needs its joint spectrum). Trapezoidal rule
    in 2001 frequencies.
    """
    t = jnp.linspace(0.0, 1.0, 2001, dtype=jnp.result_type(float))
    frequency = 1 / longest + (1 / shortest - 1 / longest) * t
    one, two = signal.transmission(1 / frequency), idler.transmission(1 / (1 / pump_wavelength - frequency))
    return Collected(*(jnp.trapezoid(part, t) for part in (one, two, one * two)))
