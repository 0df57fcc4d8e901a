"""Quantum illumination: error exponents per mode pair of finding a weak reflector in thermal background.

P_err ~ exp(-M exponent)/2 for M mode pairs, equal priors; k intensity reflectivity -> 0 (leading order in k), n_s
signal photons per mode, n_b background photons per mode **at the receiver** under both hypotheses.
"""

import jax.numpy as jnp

from qtwin.core.params import fraction, nonnegative, positive
from qtwin.modes.checks import number
from qtwin.modes.gaussian import GaussianState, join, thermal, two_mode_squeezed
from qtwin.modes.operations import loss


def _numbers(reflectivity, signal, background):
    k, s = number("reflectivity", reflectivity, fraction), number("signal", signal, positive)
    return k, s, number("background", background, nonnegative)


def entangled_exponent(reflectivity, signal, background):
    """k n_s (1 + n_s)/[sqrt((1 + n_s)(1 + n_b)) + sqrt(n_s n_b)]^2: two-mode squeezed light, optimum receiver.

    Tan et al., Phys. Rev. Lett. 101, 253601 (2008), Bhattacharyya bound; here at any n_s, n_b.
    """
    k, s, b = _numbers(reflectivity, signal, background)
    return k * s * (1 + s) / (jnp.sqrt((1 + s) * (1 + b)) + jnp.sqrt(s * b)) ** 2


def coherent_exponent(reflectivity, signal, background):
    """k n_s (sqrt(n_b + 1) - sqrt n_b)^2: coherent light at its Chernoff bound (Tan et al. 2008)."""
    k, s, b = _numbers(reflectivity, signal, background)
    return k * s / (jnp.sqrt(b + 1) + jnp.sqrt(b)) ** 2


def homodyne_exponent(reflectivity, signal, background):
    """k n_s/(4 n_b + 2): coherent light and homodyne detection (Guha & Erkmen, Phys. Rev. A 80, 052310 (2009))."""
    k, s, b = _numbers(reflectivity, signal, background)
    return k * s / (4 * b + 2)


def amplifier_gain(signal, background):
    """G of the best parametric-amplifier receiver: 1/(G - 1) = sqrt(1 + S (n_b - n_s)/(n_s (1 + n_s))) - 1, at least 0.

    S = 1 + n_s + n_b. Maximum of `amplifier_exponent` over G; infinite where n_b <= n_s.
    """
    _, s, b = _numbers(1.0, signal, background)
    return 1 + 1 / _inverse_excess(s, b)


def _inverse_excess(s, b):
    """1/(G - 1) at the best gain."""
    ratio = jnp.maximum((1 + s + b) * (b - s) / (s * (1 + s)), 0.0)
    return ratio / (jnp.sqrt(1 + ratio) + 1)


def amplifier_exponent(reflectivity, signal, background, gain=None):
    """k G (G - 1) n_s (1 + n_s)/(2 n (1 + n)), n = G n_s + (G - 1)(1 + n_b): photons behind a parametric amplifier.

    Guha & Erkmen, Phys. Rev. A 80, 052310 (2009): the output counts are geometric with mean n, shifted by 2 sqrt(G
    (G - 1) k n_s (1 + n_s)) by the target; Chernoff bound of M of them. ``gain`` G > 1, or the best one.
    """
    k, s, b = _numbers(reflectivity, signal, background)
    x = _inverse_excess(s, b) if gain is None else 1 / number("gain - 1", gain - 1, positive)
    noise = (x * s + 1 + s + b) * (x * (1 + s) + 1 + s + b)
    return k * (1 + x) * s * (1 + s) / (2 * noise)


def entangled_return(reflectivity, signal, background, idler_storage=1.0) -> GaussianState:
    """Return (mode 0) and stored idler (mode 1) of two-mode squeezed light: k of the signal and n_b background photons.

    ``idler_storage``: intensity transmission of the idler's store. k = 0 is the state without target.
    """
    k, s, b = _numbers(reflectivity, signal, background)
    store = number("idler_storage", idler_storage, fraction)
    kept = jnp.stack([k, store])
    return loss(two_mode_squeezed(jnp.arcsinh(jnp.sqrt(s))), kept, jnp.stack([b, jnp.zeros_like(b)]))


def without_target(signal, background, idler_storage=1.0) -> GaussianState:
    """The same two modes with nothing in the beam: independent thermal light of n_b and of the idler's photons."""
    _, s, b = _numbers(0.0, signal, background)
    return join(thermal(b), thermal(number("idler_storage", idler_storage, fraction) * s))
