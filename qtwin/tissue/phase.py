"""Henyey-Greenstein scattering: density, sampler and score of one law."""

from collections.abc import Callable
from typing import NamedTuple

from qtwin.core.elementary import XLA, Elementary


class Phase(NamedTuple):
    """A law of scattering: density, sampler and score, elementwise."""

    density: Callable
    sample: Callable
    score: Callable


def henyey_greenstein(do: Elementary) -> Phase:
    """The law in the operations of one compiler."""
    where = do.where
    zero, half, one, two, three, power = (do.number(x) for x in (0, 0.5, 1, 2, 3, 1.5))

    @do.compile
    def density(cosine, g):
        """p(c) = (1 - g^2) / (2 (1 + g^2 - 2 g c)^(3/2)), normalised over c = cos(theta) in [-1, 1].

        Henyey & Greenstein, Astrophys. J. 93, 70 (1941). Elementwise; mean of c is g.
        """
        return half * (one - g * g) / (one + g * g - two * g * cosine) ** power

    @do.compile
    def sample(u, g):
        """Cosine with distribution `density` from u uniform on (0, 1); isotropic 2u - 1 at g = 0. Elementwise."""
        isotropic = g == zero
        q = (one - g * g) / (one - g + two * g * u)
        cosine = (one + g * g - q * q) / (two * where(isotropic, one, g))
        cosine = where(isotropic, two * u - one, cosine)
        return where(cosine < -one, -one, where(cosine > one, one, cosine))

    @do.compile
    def score(cosine, g):
        """d ln p / dg = -2 g/(1 - g^2) - 3 (g - c)/(1 + g^2 - 2 g c). Elementwise."""
        return -two * g / (one - g * g) - three * (g - cosine) / (one + g * g - two * g * cosine)

    return Phase(density, sample, score)


density, sample, score = henyey_greenstein(XLA)
