"""Pairs as an imaging protocol sees them: four-wave mixing in fibre, heralding, multi-pair visibility."""

import jax.numpy as jnp
import numpy as np

from qtwin.core.params import efficiency as efficient
from qtwin.core.params import fraction, nonnegative, positive, real
from qtwin.modes.checks import number

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(48)


def fwm_mismatch(nonlinearity, power, beta2, detuning, beta4=0.0):
    """kappa = beta2 W^2 + beta4 W^4/12 + 2 gamma P, 1/m: one pump, pairs at +-W.

    Agrawal, Nonlinear Fiber Optics, ch. 10: gamma in 1/(W m), peak power P in W, beta2 in s^2/m, beta4 in s^4/m,
    detuning W in rad/s.
    """
    gamma, p = number("nonlinearity", nonlinearity, positive), number("power", power, nonnegative)
    w2 = number("detuning", detuning, real) ** 2
    return number("beta2", beta2, real) * w2 + number("beta4", beta4, real) * w2 * w2 / 12 + 2 * gamma * p


def fwm_detuning(nonlinearity, power, beta2):
    """W = sqrt(2 gamma P/-beta2) of perfect phase matching, rad/s: anomalous dispersion only, beta4 = 0."""
    gamma, p = number("nonlinearity", nonlinearity, positive), number("power", power, nonnegative)
    return jnp.sqrt(2 * gamma * p / number("-beta2", -beta2, positive))


def fwm_pairs_per_mode(nonlinearity, power, length, beta2, detuning, beta4=0.0):
    """N = (gamma P L)^2 [sinh(g L)/(g L)]^2, g^2 = (gamma P)^2 - (kappa/2)^2: spontaneous pairs per mode.

    sin where g^2 < 0; low gain (gamma P L)^2 sinc^2(kappa L/2) (Agrawal, Nonlinear Fiber Optics, ch. 10). Length in m.
    The twin beams are `two_mode_squeezed` with sinh^2 r = N.
    """
    kappa = fwm_mismatch(nonlinearity, power, beta2, detuning, beta4)
    strength = number("nonlinearity", nonlinearity, positive) * number("power", power, nonnegative)
    length = number("length", length, positive)
    return (strength * length * _sinhc((strength**2 - (kappa / 2) ** 2) * length**2)) ** 2


def _sinhc(square):
    """sinh(x)/x of x^2, either sign, smooth through 0."""
    small = jnp.abs(square) < 1e-4
    x = jnp.sqrt(jnp.where(small, 1.0, jnp.abs(square)))
    far = jnp.where(square > 0, jnp.sinh(jnp.where(square > 0, x, 0.0)), jnp.sin(x)) / x
    return jnp.where(small, 1 + square / 6 + square**2 / 120 + square**3 / 5040, far)


def seeded(pairs, signal, idler=0.0):
    """(n_s', n_i') = ((1 + N) n_s + N (n_i + 1), (1 + N) n_i + N (n_s + 1)), N spontaneous pairs.

    Seeds of n_s and n_i photons without phase relation to each other: coherent or thermal.
    """
    n, s = number("pairs", pairs, nonnegative), number("signal", signal, nonnegative)
    i = number("idler", idler, nonnegative)
    return (1 + n) * s + n * (i + 1), (1 + n) * i + n * (s + 1)


def fwm_pair_rate(nonlinearity, power, length, beta2, centre, bandwidth, beta4=0.0):
    """R = int N(W) dW/2 pi over the filter centre +-bandwidth/2, pairs/s while the pump is on; all rad/s.

    A continuous pump of this power, single-mode fibre; a pulse of duration t gives R t pairs in R t/N modes. Gauss-
    Legendre rule of 48 points.
    """
    width, centre = number("bandwidth", bandwidth, positive), number("centre", centre, real)
    detunings = centre + width / 2 * jnp.asarray(_NODES, width.dtype)
    n = fwm_pairs_per_mode(nonlinearity, power, length, beta2, detunings, beta4)
    return jnp.sum(n * jnp.asarray(_WEIGHTS, width.dtype)) * width / (4 * jnp.pi)


def heralded_g2_weak(pairs, modes):
    """g2(0) = mu (1 + 1/M)[2 + mu (1 + 2/M)]/[1 + mu (1 + 1/M)]^2: mu pairs in M equal modes, a weak herald.

    M = 1: 2 mu (2 + 3 mu)/(1 + 2 mu)^2; M -> infinity: mu (2 + mu)/(1 + mu)^2. From the factorial moments of the
    negative binomial law.
    """
    mu, m = number("pairs", pairs, nonnegative), number("modes", modes, positive)
    second = mu * (1 + 1 / m)
    return second * (2 + mu * (1 + 2 / m)) / (1 + second) ** 2


def heralded(pairs, modes, efficiency, dark=0.0):
    """(p, n, g2): probability of a herald's click, then mean photons and g2(0) of the other arm before loss.

    <n(n-1)..(n-k+1)>_click = [G^(k)(1) - (1 - d)(1 - e)^k G^(k)(1 - e)]/p, G(z) = (1 + mu (1 - z)/M)^-M, herald
    efficiency e and dark click probability d. g2 does not change by loss.
    """
    mu, m = number("pairs", pairs, positive), number("modes", modes, positive)
    e, d = number("efficiency", efficiency, efficient), number("dark", dark, fraction)
    bottom = 1 + mu * e / m
    silent = jnp.exp(jnp.log1p(-d) - m * jnp.log1p(mu * e / m))
    click = -jnp.expm1(jnp.log1p(-d) - m * jnp.log1p(mu * e / m))
    seen = (1 - e) * mu / bottom
    first = (mu - silent * seen) / click
    second = (1 + 1 / m) * (mu**2 - silent * seen**2) / click
    return click, first, second / first**2


def click_probabilities(pairs, modes, eta_s, eta_i, dark_s=0.0, dark_i=0.0):
    """(P_s, P_i, P_si) of threshold detectors: mu pairs per gate in M equal modes, dark click probabilities d.

    P_s = 1 - (1 - d_s) G(e_s), P_si by inclusion and exclusion with G(e_s + e_i - e_s e_i) for no click at all;
    G(x) = (1 + mu x/M)^-M. M = 1: 1/(1 + mu x); M -> infinity: exp(-mu x), Poisson pairs. Elementwise.
    """
    mu, m = number("pairs", pairs, nonnegative), number("modes", modes, positive)
    e_s, e_i = number("eta_s", eta_s, fraction), number("eta_i", eta_i, fraction)
    d_s, d_i = number("dark_s", dark_s, fraction), number("dark_i", dark_i, fraction)

    def empty(x):
        return jnp.exp(-m * jnp.log1p(mu * x / m))

    none_s, none_i = (1 - d_s) * empty(e_s), (1 - d_i) * empty(e_i)
    neither = (1 - d_s) * (1 - d_i) * empty(e_s + e_i - e_s * e_i)
    return 1 - none_s, 1 - none_i, 1 - none_s - none_i + neither


def multipair_visibility(pairs, modes):
    """V = (1 + N/M)/(1 + N/M + 2 N), N = mu/2: polarisation fringe of mu pairs per gate, M modes per polarisation.

    Count correlations of two independent twin beams HH and VV; 1 - mu to first order, as Kuzucu & Wong, Phys. Rev. A
    77, 032314 (2008) found. M = 1: (1 + mu/2)/(1 + 3 mu/2); M -> infinity: 1/(1 + mu). No dark counts; loss cancels.
    """
    half = number("pairs", pairs, nonnegative) / 2
    bunched = 1 + half / number("modes", modes, positive)
    return bunched / (bunched + 2 * half)
