"""How light meets a slab: each source says where its photons start inside, which way, and how much of them got in.

Outside is air. What meets the surface at z = 0 under an angle is refracted (Snell) and reflected (Fresnel, unpolarised;
Born & Wolf, Principles of Optics, 7th ed., section 1.5.2): the weight of a photon is 1 - R.
"""

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import numpy as np

from qtwin.core.errors import FieldError
from qtwin.core.params import Element, param, positive
from qtwin.core.units import show
from qtwin.optics.fresnel import reflectance
from qtwin.tissue.slab import Slab


class Starts(NamedTuple):
    """n photons just inside the slab."""

    position: np.ndarray  # [n, 3] m
    direction: np.ndarray  # [n, 3] unit vectors, inside
    weight: np.ndarray  # [n] what the surface let in
    layer: np.ndarray  # [n]


class AbstractLight(Element):
    """A source of light; ``collimated`` if all of it meets the surface at normal incidence."""

    collimated: ClassVar[bool] = False

    @abstractmethod
    def starts(self, slab: Slab, rng: np.random.Generator, numbers: np.ndarray) -> Starts:
        """Starts of the photons ``numbers`` [n]."""

    def check_in(self, slab: Slab) -> None:
        """Raise FieldError where the source does not fit the slab."""


def entering(slab: Slab, x, y, u) -> Starts:
    """Rays from outside that meet the surface at (x, y) [n] with directions ``u`` [n, 3], z downwards."""
    n = float(slab.n[0])
    mirror, cosine = (np.asarray(a) for a in reflectance(u[:, 2], 1.0, n))
    inside = np.stack([u[:, 0] / n, u[:, 1] / n, cosine], axis=1)
    return Starts(np.stack([x, y, np.zeros_like(x)], axis=1), inside, 1 - mirror, np.zeros(len(x), int))


def _straight_down(slab: Slab, x, y) -> Starts:
    return entering(slab, x, y, np.broadcast_to([0.0, 0.0, 1.0], (len(x), 3)))


def _around(rng, count: int, cosine, sine) -> np.ndarray:
    """Unit vectors [n, 3] of uniform azimuth."""
    azimuth = 2 * np.pi * rng.random(count)
    return np.stack([sine * np.cos(azimuth), sine * np.sin(azimuth), cosine], axis=1)


class Pencil(AbstractLight):
    """An infinitely thin collimated beam on the axis. Its straight part is known exactly and no part of the curves."""

    collimated: ClassVar[bool] = True

    def starts(self, slab, rng, numbers):
        zero = np.zeros(len(numbers))
        return _straight_down(slab, zero, zero)


class Gaussian(AbstractLight):
    """A collimated beam of irradiance exp(-2 r^2/w^2) about the axis; w is ``waist``."""

    collimated: ClassVar[bool] = True
    waist: jax.Array = param("m", positive, "radius where the irradiance is 1/e^2 of that on the axis")

    def starts(self, slab, rng, numbers):
        x, y = float(self.waist) / 2 * rng.standard_normal((2, len(numbers)))
        return _straight_down(slab, x, y)


class Disc(AbstractLight):
    """A collimated beam of uniform irradiance within ``radius`` of the axis."""

    collimated: ClassVar[bool] = True
    radius: jax.Array = param("m", positive, "radius of the beam")

    def starts(self, slab, rng, numbers):
        r = float(self.radius) * np.sqrt(rng.random(len(numbers)))
        azimuth = 2 * np.pi * rng.random(len(numbers))
        return _straight_down(slab, r * np.cos(azimuth), r * np.sin(azimuth))


class Lambertian(AbstractLight):
    """Diffuse light on one point of the surface: equal radiance from every direction, cosines of density 2 c."""

    def starts(self, slab, rng, numbers):
        square, zero = 1 - rng.random(len(numbers)), np.zeros(len(numbers))
        u = _around(rng, len(numbers), np.sqrt(square), np.sqrt(1 - square))
        return entering(slab, zero, zero, u)


class Isotropic(AbstractLight):
    """A point on the axis inside the slab that shines equally to all sides.

    Where the thickness of a layer is varied the point keeps its relative place in its layer.
    """

    depth: jax.Array = param("m", positive, "depth of the point below the surface")

    def check_in(self, slab):
        total = float(np.sum(np.asarray(slab.thickness)))
        if float(self.depth) >= total:
            given = f"got {show(float(self.depth), 'm')}, accepted is less than the thickness {show(total, 'm')}"
            raise FieldError("depth", given)
        here, n = self._layer(slab), np.concatenate([[1.0], np.asarray(slab.n), [1.0]])
        clear = float(slab.mu_a[here]) == float(slab.mu_s[here]) == 0
        if clear and n[here + 1] > min(n[here], n[here + 2]):
            raise FieldError("depth", "got a point in a clear layer that keeps light for ever, accepted is in another")

    def _layer(self, slab) -> int:
        return int(np.searchsorted(np.cumsum(np.asarray(slab.thickness)), float(self.depth), side="right"))

    def starts(self, slab, rng, numbers):
        count, depth = len(numbers), float(self.depth)
        cosine = 2 * rng.random(count) - 1
        u = _around(rng, count, cosine, np.sqrt(1 - cosine**2))
        position = np.broadcast_to([0.0, 0.0, depth], (count, 3))
        return Starts(position, u, np.ones(count), np.full(count, self._layer(slab)))


class Rays(AbstractLight):
    """Rays that arrive from an optical stage; photons take them in proportion to their weights, evenly in every block.

    ``place`` [n, 2] m where they meet the surface; ``direction`` [n, 3] in air, z > 0 into the tissue, normalised here;
    ``weight`` [n], only their ratios matter: fractions are of the light that arrives.
    """

    place: Any = eqx.field(metadata={"doc": "where the rays meet the surface, m"})
    direction: Any = eqx.field(metadata={"doc": "their directions in air"})
    weight: Any = eqx.field(default=1.0, metadata={"doc": "how much light each carries"})

    def check(self):
        for name, width in (("place", 2), ("direction", 3)):
            a = np.atleast_2d(np.asarray(getattr(self, name), float))
            object.__setattr__(self, name, a)
            if a.ndim != 2 or a.shape[1] != width or len(a) != len(self.place) or not len(a):
                raise FieldError(name, f"got an array of shape {a.shape}, accepted is [n, {width}], n as in place")
            if not np.all(np.isfinite(a)):
                raise FieldError(name, "got a value that is not finite, accepted are finite numbers")
        norm = np.linalg.norm(self.direction, axis=1, keepdims=True)
        if not np.all(self.direction[:, 2] > 1e-6 * norm[:, 0]):
            raise FieldError("direction", "got a ray that does not go down, accepted is a third component above 0")
        object.__setattr__(self, "direction", self.direction / norm)
        weight = np.asarray(self.weight, float)
        fit = weight.ndim <= 1 and weight.size in (1, len(self.place)) and bool(np.all(np.isfinite(weight)))
        if not fit or np.any(weight < 0) or not np.any(weight > 0):
            raise FieldError("weight", "got something else than numbers from 0 up, not all 0, one or one per ray")
        object.__setattr__(self, "weight", np.broadcast_to(weight.ravel(), (len(self.place),)))

    def starts(self, slab, rng, numbers):
        heap = np.cumsum(self.weight)
        even = (np.arange(len(numbers)) + rng.random()) / len(numbers)  # one random number shifts the whole comb
        mine = np.minimum(np.searchsorted(heap, even * heap[-1], side="right"), np.flatnonzero(self.weight)[-1])
        x, y = self.place[mine].T
        return entering(slab, x, y, self.direction[mine])
