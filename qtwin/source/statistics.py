"""Counting statistics of pairs: multimode thermal light, threshold clicks, heralded purity. Elementwise."""

import jax.numpy as jnp


def thermal_variance(mean, modes):
    """Var n = n (1 + n/M) of M equally bright thermal modes (Mandel & Wolf 1995, section 13.3)."""
    return mean * (1 + mean / modes)


def noise_reduction_factor(per_mode, eta_s, eta_i):
    """F = Var(n1 - n2)/<n1 + n2> = 1 - 2 e1 e2/(e1 + e2) + mu_m (e1 - e2)^2/(e1 + e2), no background."""
    total = eta_s + eta_i
    return 1 - 2 * eta_s * eta_i / total + per_mode * (eta_s - eta_i) ** 2 / total


def click_probabilities(mu, eta_s, eta_i, dark_s, dark_i, thermal: bool):
    """(P_s, P_i, P_si) of threshold detectors per gate, mu pairs per gate, dark clicks d per gate.

    P_s = 1 - (1 - d_s) G(eta_s), P_si by inclusion-exclusion; G(x) = exp(-mu x) Poisson, 1/(1 + mu x)
    for one thermal mode.
    """

    def empty(x):
        return 1 / (1 + mu * x) if thermal else jnp.exp(-mu * x)

    none_s, none_i = (1 - dark_s) * empty(eta_s), (1 - dark_i) * empty(eta_i)
    neither = (1 - dark_s) * (1 - dark_i) * empty(eta_s + eta_i - eta_s * eta_i)
    return 1 - none_s, 1 - none_i, 1 - none_s - none_i + neither


def heralded_g2(mu, thermal: bool):
    """g2(0) behind a weak herald: thermal 2 mu (2 + 3 mu)/(1 + 2 mu)^2, Poisson mu (2 + mu)/(1 + mu)^2."""
    return 2 * mu * (2 + 3 * mu) / (1 + 2 * mu) ** 2 if thermal else mu * (2 + mu) / (1 + mu) ** 2
