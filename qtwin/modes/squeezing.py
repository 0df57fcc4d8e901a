"""Noise of squeezed light in closed form: loss, quadrature angle, phase noise, in units of the vacuum's noise."""

import jax.numpy as jnp

from qtwin.core.params import fraction, nonnegative, real
from qtwin.modes.checks import number


def detected_noise(squeezing_db, antisqueezing_db, efficiency, angle=0.0, phase_noise=0.0):
    """V = eta (V- (1 - q) + V+ q) + 1 - eta, V-+ = 10^(-+dB/10), q = (1 - e^(-2 s^2) cos 2t)/2; vacuum = 1.

    Quadrature at ``angle`` t from the squeezed one; V- cos^2 t + V+ sin^2 t averaged over a normal phase error of std
    ``phase_noise`` s, rad (Aoki, Takahashi & Furusawa, Opt. Express 14, 6930 (2006), declared). ``efficiency``:
    transmission x quantum efficiency x (mode overlap with the local oscillator)^2.
    """
    low = 10.0 ** (-number("squeezing_db", squeezing_db, real) / 10)
    high = 10.0 ** (number("antisqueezing_db", antisqueezing_db, real) / 10)
    eta, angle = number("efficiency", efficiency, fraction), number("angle", angle, real)
    spread = number("phase_noise", phase_noise, nonnegative)
    q = (1 - jnp.exp(-2 * spread**2) * jnp.cos(2 * angle)) / 2
    return eta * (low * (1 - q) + high * q) + 1 - eta


def squeezing_db(noise):
    """-10 log10 V, V the noise in units of the vacuum's."""
    return -10 * jnp.log10(noise)
