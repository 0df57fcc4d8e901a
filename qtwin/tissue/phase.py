"""Henyey-Greenstein scattering: density, sampler and score of one law."""

from collections.abc import Callable
from typing import NamedTuple

from qtwin.core.elementary import XLA, Elementary


class Phase(NamedTuple):
    """A law of scattering: density, two samplers and score, elementwise."""

    density: Callable
    sample: Callable
    versine: Callable
    score: Callable


def henyey_greenstein(do: Elementary) -> Phase:
    """The law in the operations of one compiler."""
    half, one, two, three, power = (do.number(x) for x in (0.5, 1, 2, 3, 1.5))

    @do.compile
    def density(cosine, g):
        """p(c) = (1 - g^2) / (2 (1 + g^2 - 2 g c)^(3/2)), normalised over c = cos(theta) in [-1, 1].

        Henyey & Greenstein, Astrophys. J. 93, 70 (1941). Elementwise; mean of c is g.
        """
        return half * (one - g * g) / (one + g * g - two * g * cosine) ** power

    @do.compile
    def versine(u, g):
        """v = 1 - c, c of `density`, from u uniform on (0, 1). Elementwise.

        v = 2 (1 - g)^2 w (1 + g - g w)/(1 + g - 2 g w)^2, w = 1 - u: the usual inversion without its cancellation at
        c near 1, and without its pole at g = 0.
        """
        w = one - u
        rest, narrow = one + g - g * w, one - g
        below = rest - g * w
        return two * narrow * narrow * w * rest / (below * below)

    @do.compile
    def sample(u, g):
        """Cosine with distribution `density` from u uniform on (0, 1); isotropic 2u - 1 at g = 0. Elementwise."""
        return one - versine(u, g)

    @do.compile
    def score(versine, g):
        """d ln p / dg = -2 g/(1 - g^2) - 3 (g - c)/(1 + g^2 - 2 g c), with versine = 1 - c. Elementwise."""
        narrow = one - g
        whole, below = one - g * g, narrow * narrow + two * g * versine
        return -(two * g * below + three * (versine - narrow) * whole) / (whole * below)

    return Phase(density, sample, versine, score)


density, sample, versine, score = henyey_greenstein(XLA)
