"""Henyey-Greenstein scattering: density, sampler and score of one law."""

import jax.numpy as jnp


def density(cosine, g):
    """p(c) = (1 - g^2) / (2 (1 + g^2 - 2 g c)^(3/2)), normalised over c = cos(theta) in [-1, 1].

    Henyey & Greenstein, Astrophys. J. 93, 70 (1941). Elementwise; mean of c is g.
    """
    return (1 - g * g) / (2 * (1 + g * g - 2 * g * cosine) ** 1.5)


def sample(u, g):
    """Cosine with distribution `density` from u uniform on (0, 1); isotropic 2u - 1 at g = 0. Elementwise."""
    safe = jnp.where(g == 0, 1, g)
    q = (1 - g * g) / (1 - g + 2 * g * u)
    cosine = jnp.where(g == 0, 2 * u - 1, (1 + g * g - q * q) / (2 * safe))
    return jnp.clip(cosine, -1, 1)


def score(cosine, g):
    """d ln p / dg = -2 g/(1 - g^2) - 3 (g - c)/(1 + g^2 - 2 g c). Elementwise."""
    return -2 * g / (1 - g * g) - 3 * (g - cosine) / (1 + g * g - 2 * g * cosine)
