"""Refractive indices of beta-barium borate and its phase-matching angle."""

import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import UserError

# Kato, IEEE J. Quantum Electron. 22, 1013 (1986): n^2 = a + b/(l^2 - c) - d l^2, l in um, room temperature.
_KATO = {"o": (2.7359, 0.01878, 0.01822, 0.01354), "e": (2.3753, 0.01224, 0.01667, 0.01516)}


def bbo_index(wavelength, ray: str):
    """Principal index of BBO, ray 'o' or 'e', wavelength in m; elementwise."""
    a, b, c, d = _KATO[ray]
    l2 = (wavelength * 1e6) ** 2
    return jnp.sqrt(a + b / (l2 - c) - d * l2)


def bbo_index_at(wavelength, angle):
    """Index of the extraordinary ray at ``angle`` (rad) to the axis: 1/n^2 = cos^2/no^2 + sin^2/ne^2."""
    no, ne = bbo_index(wavelength, "o"), bbo_index(wavelength, "e")
    return 1 / jnp.sqrt((jnp.cos(angle) / no) ** 2 + (jnp.sin(angle) / ne) ** 2)


def bbo_angle(pump, signal, idler, kind: str = "I") -> float:
    """Collinear phase-matching angle (rad): n_p(angle)/l_p = n_s/l_s + n_i/l_i; wavelengths in m.

    Type I: e -> o + o; type II: e -> e + o, the signal extraordinary. Bisection to 1e-12 rad.
    Raises UserError where no angle matches.
    """

    def mismatch(angle):
        n_s = bbo_index(signal, "o") if kind == "I" else bbo_index_at(signal, angle)
        sum_out = n_s / signal + bbo_index(idler, "o") / idler
        return float(bbo_index_at(pump, angle) / pump - sum_out)

    low, high = 0.0, np.pi / 2
    if not mismatch(low) > 0 > mismatch(high):
        raise UserError(f"BBO type {kind} cannot match {pump * 1e9:.5g} -> {signal * 1e9:.5g} + {idler * 1e9:.5g} nm")
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if mismatch(middle) > 0 else (low, middle)
    return (low + high) / 2
