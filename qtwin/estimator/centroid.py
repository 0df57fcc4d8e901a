"""Centroid imaging: the mean position of N photons from one point of the object, in place of each photon's.

X = (x_1 + .. + x_N)/N. Photons of one point that pass the pupil independently, whether they left the point together
(position-correlated) or one after the other, have std(X) = s/sqrt N, s that of one photon. Only equal transverse
momenta behind the pupil give s/N: the field is h(x_1 + .. + x_N), h that of one photon (Tsang, Phys. Rev. Lett. 102,
253601 (2009)). A Gaussian pupil that each of them passes narrows their common momentum, and leaves s/sqrt N. All N must
arrive: tau^N of the states, tau = T eta of one photon.

What it is worth is counted per photon on the sample, against as many independent photons, each of which tells its
position (derived). The place of one point: sqrt N gains nothing, tau^(N - 1), and 1 if incomplete states are used as
well. Details: N photons say that they come from the same point, which independent ones do not. A grating gains
N tau^(N - 1) (H_N/H)^2, the separation of two close points N tau^(N - 1), and 1 + (N - 1) tau with incomplete states.
Light that is scanned over the object knows the point too and need not be quantum, and a mode sorter beats both at small
separations (`separation_limit`). Points of the object do not interfere here.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import comb

from qtwin.core.errors import FieldError
from qtwin.core.params import Element, nonnegative, param, positive, static
from qtwin.core.params import efficiency as efficient
from qtwin.core.random import stream
from qtwin.modes.checks import number, whole
from qtwin.optics.point_spread import incoherent_transfer

STATES = ("independent", "position", "momentum")
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(80)


def _checked(photons: int, state: str = "position"):
    whole("photons", photons, 1, 64)
    if state not in STATES:
        raise FieldError("state", f"got {state!r}, accepted are {', '.join(STATES)}")


def centroid_width(width, photons: int, state: str):
    """std(X): s/sqrt N of 'independent' photons or of those correlated in 'position', s/N of equal 'momentum'.

    ``width`` s: std of one photon's position in the image of a point, per axis, Gaussian pupil.
    """
    _checked(photons, state)
    return number("width", width, positive) / (photons if state == "momentum" else photons**0.5)


def arrival(found, photons: int):
    """tau^N: probability that all N arrive, tau = ``found`` = T eta each."""
    _checked(photons)
    return number("found", found, efficient) ** photons


def position_gain(found, photons: int, state: str):
    """tau^(N - 1), or N tau^(N - 1) for 'momentum': information about the place of one point by complete states.

    tau^N/std(X)^2/N per photon on the sample, over tau/s^2 of independent photons. Elementwise.
    """
    _checked(photons, state)
    return number("found", found, efficient) ** (photons - 1) * (photons if state == "momentum" else 1)


def centroid_transfer(frequency, photons: int, wavelength, aperture):
    """H(f/N)^N: contrast of a grating in the centroids of position-correlated photons, circular pupil.

    The law of X is that of one photon convolved N times with itself, N times narrower: it ends at 2 N NA/l, where H
    (`incoherent_transfer`) ends at 2 NA/l.
    """
    _checked(photons)
    return incoherent_transfer(number("frequency", frequency, nonnegative) / photons, wavelength, aperture) ** photons


def grating_gain(frequency, found, photons: int, wavelength, aperture):
    """N tau^(N - 1) (H_N/H)^2: information about the depth of a weak grating in T, per photon on the sample.

    Over independent photons, whose image may be deconvolved: that changes no ratio of signal to noise. States carry N
    times the modulation, tau^N/N of them arrive per photon. Infinite from 2 NA/l on, where the image shows nothing.
    """
    contrast, plain = (centroid_transfer(frequency, n, wavelength, aperture) for n in (photons, 1))
    ratio = jnp.where(plain > 0, contrast / jnp.where(plain > 0, plain, 1.0), jnp.inf)
    return photons * number("found", found, efficient) ** (photons - 1) * ratio**2


def separation_information(separation, width):
    """F(d) = <(x tanh(x d/(2 s^2)) - d/2)^2>/(4 s^4): about the distance d of two like points, per event.

    Events of std ``width`` s about either point, whose middle is known; d^2/(8 s^4) for d -> 0, 1/(4 s^2) far apart.
    Derived from the score of (g(x - d/2) + g(x + d/2))/2, g normal. Elementwise.
    """
    width = number("width", width, positive)
    d = (number("separation", separation, nonnegative) / width)[..., None]
    x = jnp.asarray(_NODES, d.dtype) + d / 2  # of one point; the other is its mirror image, with the same score
    weights = jnp.asarray(_WEIGHTS / _WEIGHTS.sum(), d.dtype)
    return jnp.sum(weights * (x * jnp.tanh(x * d / 2) - d / 2) ** 2, axis=-1) / (4 * width**2)


def separation_limit(width):
    """1/(4 s^2): the most that any measurement of one photon's light tells about d, at any d; Gaussian pupil.

    Tsang, Nair & Lu, Phys. Rev. X 6, 031033 (2016). Elementwise.
    """
    return 1 / (4 * number("width", width, positive) ** 2)


def separation_gain(separation, width, found, photons: int):
    """tau^(N - 1) F(d; s/sqrt N)/(N F(d; s)): complete position-correlated states, per photon on the sample.

    N tau^(N - 1) for d -> 0, tau^(N - 1) for far points. Over independent photons. Elementwise.
    """
    apart, found = number("separation", separation, positive), number("found", found, efficient)
    of_centroids = separation_information(apart, centroid_width(width, photons, "position"))
    return found ** (photons - 1) * of_centroids / (photons * separation_information(apart, width))


def separation_gain_of_all(separation, width, found, photons: int):
    """The same with incomplete states: sum_k binomial(k; N, tau) F(d; s/sqrt k)/(N tau F(d; s)).

    1 + (N - 1) tau for d -> 0, 1 for far points: never below 1. Elementwise.
    """
    _checked(photons)
    apart, found = number("separation", separation, positive), number("found", found, efficient)
    told = [separation_information(apart, centroid_width(width, k, "position")) for k in range(1, photons + 1)]
    chances = [comb(photons, k) * found**k * (1 - found) ** (photons - k) for k in range(1, photons + 1)]
    return sum(p * f for p, f in zip(chances, told, strict=True)) / (photons * found * told[0])


class Centroids(NamedTuple):
    """Means for one point, per axis."""

    rate: jax.Array  # complete states per state on the sample
    width: jax.Array  # m, std of their centroid
    information: jax.Array  # 1/m^2 about the place of the point, per photon on the sample


class Arrivals(NamedTuple):
    """Photons of single states."""

    place: jax.Array  # [count, N] m
    seen: jax.Array  # [count, N] bool

    def centroids(self) -> np.ndarray:
        """Of the complete states, [number], m."""
        return np.asarray(jnp.mean(self.place, axis=1))[np.asarray(jnp.all(self.seen, axis=1))]


class Centroid(Element):
    """States of ``photons`` from one point or two, through the object and one Gaussian pupil, seen along an axis."""

    width: jax.Array = param("m", positive, "std of one photon's position in the image of a point")
    transmission: jax.Array = param("", efficient, "of the object, for one photon")
    efficiency: jax.Array = param("", efficient, "of optics and detector, for one photon")
    separation: jax.Array = param("m", nonnegative, "of the two points, about 0, that a state comes from", 0.0)
    span: jax.Array = param("m", nonnegative, "std of the photons about their centroid, equal momenta", 0.0)
    photons: int = static("photons of a state", default=2)
    state: str = static("'independent', 'position' or 'momentum'", default="position")

    def check(self):
        _checked(self.photons, self.state)

    def expect(self) -> Centroids:
        """Rate, width and information of the centroids of one point."""
        found = self.transmission * self.efficiency
        width, rate = centroid_width(self.width, self.photons, self.state), arrival(found, self.photons)
        return Centroids(rate, width, rate / width**2 / self.photons)

    def sample(self, count: int, *, key) -> Arrivals:
        """``count`` states; those of 'independent' photons may come from both points, others from one at a time.

        Equal momenta: the photons are anywhere about their centroid, here normal with std ``span``.
        """
        kind, shape = self.width.dtype, (count, self.photons)
        normal = jax.random.normal(stream(key, "place"), shape, kind)
        if self.state == "momentum":
            middle = jnp.mean(normal, axis=1, keepdims=True)
            about = self.width / self.photons**0.5 * middle + self.span * (normal - middle)
        else:
            about = self.width * normal
        points = jax.random.bernoulli(stream(key, "point"), 0.5, shape if self.state == "independent" else (count, 1))
        seen = jax.random.uniform(stream(key, "seen"), shape, kind) < self.transmission * self.efficiency
        return Arrivals(about + self.separation * (points.astype(kind) - 0.5), seen)
