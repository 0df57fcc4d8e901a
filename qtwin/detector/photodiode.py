"""A pair of photodiodes for homodyne detection: efficiency, overlap, electronic noise, balance, bandwidth."""

import jax
import jax.numpy as jnp

from qtwin.core.errors import FieldError
from qtwin.core.params import Element, is_concrete, nonnegative, param, positive, real
from qtwin.core.params import efficiency as efficient
from qtwin.core.random import stream
from qtwin.modes.checks import number, whole
from qtwin.modes.gaussian import VACUUM

MOST_DRAWS = 10_000_000


def equivalent_efficiency(clearance_db):
    """eta_el = 1 - 10^(-C/10): loss that electronic noise amounts to, C dB below the vacuum's noise it is measured in.

    Where the vacuum's noise, electronic noise included, is the unit (Appel, Hoffman, Figueroa & Lvovsky, Phys. Rev. A
    75, 035802 (2007)).
    """
    return 1 - 10.0 ** (-number("clearance_db", clearance_db, positive) / 10)


class HomodynePair(Element):
    """V = eta v + 1 - eta of a quadrature of variance v, in units of the measured vacuum, eta = q V^2/(1 + x).

    q quantum efficiency, V^2 mode overlap squared, x the rest of the noise over the local oscillator's shot noise:
    electronic, x_e (1 + (f/B)^2) P_0/P with x_e = 1/(10^(C/10) - 1), and of the oscillator's intensity, L P/P_0 less
    the common-mode rejection. C and L at the power P_0, f the sideband's frequency, B the bandwidth of one pole: shot
    noise falls with it, what comes behind the pole does not. As the vacuum is measured with the same noise, x acts as
    loss (Appel et al., Phys. Rev. A 75, 035802 (2007)). The pair saturates above ``most_power``.
    """

    efficiency: jax.Array = param("", efficient, "quantum efficiency of the photodiodes")
    overlap: jax.Array = param(
        "", efficient, "overlap of the signal's mode with the local oscillator's; it enters squared"
    )
    clearance: jax.Array = param("dB", positive, "measured vacuum noise over electronic noise, at reference_power")
    bandwidth: jax.Array = param("Hz", positive, "where the response to light has fallen by 3 dB")
    rejection: jax.Array = param("dB", nonnegative, "common-mode rejection of the subtraction")
    oscillator_noise: jax.Array = param(
        "dB", real, "intensity noise over shot noise of the oscillator, reference_power"
    )
    power: jax.Array = param("W", positive, "of the local oscillator")
    reference_power: jax.Array = param("W", positive, "of the local oscillator, for clearance and oscillator_noise")
    most_power: jax.Array = param("W", positive, "of the local oscillator before the pair saturates")

    def check(self):
        if is_concrete(self.power) and is_concrete(self.most_power) and self.power > self.most_power:
            given, most = float(self.power), float(self.most_power)
            raise FieldError("power", f"got {given:.4g} W, accepted are at most {most:.4g} W: saturation")

    def electronic_noise(self, frequency=0.0):
        """Over the shot noise of the local oscillator, at the sideband ``frequency`` Hz."""
        frequency = number("frequency", frequency, nonnegative)
        least = 1 / jnp.expm1(jnp.log(10.0) / 10 * self.clearance)
        return least * (1 + (frequency / self.bandwidth) ** 2) * self.reference_power / self.power

    def leaked_noise(self):
        """Intensity noise of the local oscillator that the subtraction leaves, over its shot noise."""
        return 10.0 ** ((self.oscillator_noise - self.rejection) / 10) * self.power / self.reference_power

    def effective_efficiency(self, frequency=0.0):
        """eta of the whole: a loss of 1 - eta before an ideal pair gives the same record."""
        noise = self.electronic_noise(frequency) + self.leaked_noise()
        return self.efficiency * self.overlap**2 / (1 + noise)

    def expect(self, mean, variance, frequency=0.0):
        """Mean and variance of the record of a quadrature, as of `modes.operations.quadrature`: the vacuum has 1/2."""
        mean, variance = number("mean", mean, real), number("variance", variance, nonnegative)
        eta = self.effective_efficiency(frequency)
        return jnp.sqrt(eta) * mean, eta * variance + (1 - eta) * VACUUM

    def sample(self, mean, variance, count: int, frequency=0.0, *, key):
        """``count`` records of a Gaussian quadrature, [count]: light, lost light, electronics and leak drawn apart."""
        whole("count", count, 1, MOST_DRAWS)
        mean, variance = number("mean", mean, real), number("variance", variance, nonnegative)
        names = ("light", "vacuum", "electronics", "leak")
        light, vacuum, electronics, leak = (
            jax.random.normal(stream(key, name), (count,), self.efficiency.dtype) for name in names
        )
        eta = self.efficiency * self.overlap**2
        extra, left = self.electronic_noise(frequency), self.leaked_noise()
        seen = jnp.sqrt(eta) * (mean + jnp.sqrt(variance) * light) + jnp.sqrt((1 - eta) * VACUUM) * vacuum
        noise = jnp.sqrt(extra * VACUUM) * electronics + jnp.sqrt(left * VACUUM) * leak
        return (seen + noise) / jnp.sqrt(1 + extra + left)
