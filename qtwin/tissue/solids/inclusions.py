"""Spheres, cylinders and boxes inside a homogeneous slab, with their exact surfaces.

The slab lies between z = 0 and z = ``thickness`` and has no sides; x and y are counted from wherever the user likes.
Medium 1 is the host, 1 + k is inclusion k. All have the index of the host; they may touch, each other and the faces.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar

import jax
import numpy as np

from qtwin.core.errors import FieldError, UserError
from qtwin.core.params import anisotropy, index, is_concrete, nonnegative, param, static
from qtwin.core.units import parse, show
from qtwin.tissue.solids.volume import Solid, bound, lengths, spread

PATIENCE = 2000  # projections in search of a plane between two shapes
TOUCH = 1e-6  # of the smaller size: what still counts as touching


def _point(field: str, value) -> np.ndarray:
    """Three coordinates with or without unit -> m. Raises FieldError of ``field``."""
    if not isinstance(value, (list, tuple, np.ndarray)) or len(value) != 3:
        raise FieldError(field, f"got {value!r}, accepted is three lengths: x, y, z")
    try:
        out = np.array([parse(float(v) if isinstance(v, np.generic) else v, "m") for v in value])
    except UserError as error:
        raise FieldError(field, str(error)) from error
    if not np.all(np.isfinite(out)):
        raise FieldError(field, f"got {value!r}, accepted is three finite lengths")
    return out


class _Shape(ABC):
    """A convex body: its nearest point to any point, and how far it reaches in any direction.

    ``row`` is how `qtwin.tissue.solids.engine` reads it (``kind`` says which), ``size`` its smallest extension.
    """

    kind: ClassVar[int]

    @property
    @abstractmethod
    def row(self) -> np.ndarray: ...

    @property
    @abstractmethod
    def size(self) -> float: ...

    @abstractmethod
    def nearest(self, p: np.ndarray) -> np.ndarray: ...

    @abstractmethod
    def reach(self, u: np.ndarray) -> float:
        """Largest p . u over the body."""


@dataclass(frozen=True)
class Sphere(_Shape):
    """All points closer than ``radius`` to ``centre``; lengths with or without unit."""

    centre: Any
    radius: Any
    kind: ClassVar[int] = 0

    def __post_init__(self):
        object.__setattr__(self, "centre", tuple(map(float, _point("centre", self.centre))))
        object.__setattr__(self, "radius", lengths("radius", self.radius, 1)[0])

    @property
    def row(self):
        return np.array([*self.centre, self.radius])

    @property
    def size(self):
        return 2 * self.radius

    def nearest(self, p):
        away = p - np.array(self.centre)
        return np.array(self.centre) + away * min(1.0, self.radius / max(np.linalg.norm(away), 1e-300))

    def reach(self, u):
        return float(np.dot(self.centre, u) + self.radius * np.linalg.norm(u))


@dataclass(frozen=True)
class Box(_Shape):
    """All points between the corners ``low`` and ``high``; edges along x, y, z."""

    low: Any
    high: Any
    kind: ClassVar[int] = 1

    def __post_init__(self):
        low, high = _point("low", self.low), _point("high", self.high)
        if not np.all(low < high):
            raise FieldError("high", f"got {high.tolist()} m, accepted is more than low {low.tolist()} m on every axis")
        object.__setattr__(self, "low", tuple(map(float, low)))
        object.__setattr__(self, "high", tuple(map(float, high)))

    @property
    def row(self):
        return np.array([*self.low, *self.high])

    @property
    def size(self):
        return float(np.min(np.subtract(self.high, self.low)))

    def nearest(self, p):
        return np.clip(p, self.low, self.high)

    def reach(self, u):
        return float(np.sum(np.where(u > 0, self.high, self.low) * u))


@dataclass(frozen=True)
class Cylinder(_Shape):
    """All points closer than ``radius`` to the line from ``start`` to ``end``, between its two flat ends."""

    start: Any
    end: Any
    radius: Any
    kind: ClassVar[int] = 2

    def __post_init__(self):
        start, end = _point("start", self.start), _point("end", self.end)
        if np.array_equal(start, end):
            raise FieldError("end", "got the start again, accepted is another point")
        object.__setattr__(self, "start", tuple(map(float, start)))
        object.__setattr__(self, "end", tuple(map(float, end)))
        object.__setattr__(self, "radius", lengths("radius", self.radius, 1)[0])

    @property
    def _axis(self):
        along = np.subtract(self.end, self.start)
        height = float(np.linalg.norm(along))
        return along / height, height

    @property
    def row(self):
        axis, height = self._axis
        return np.array([*self.start, *axis, height, self.radius])

    @property
    def size(self):
        return min(self._axis[1], 2 * self.radius)

    def nearest(self, p):
        axis, height = self._axis
        away = p - np.array(self.start)
        climb = float(away @ axis)
        off = away - climb * axis
        off = off * min(1.0, self.radius / max(np.linalg.norm(off), 1e-300))
        return np.array(self.start) + min(max(climb, 0.0), height) * axis + off

    def reach(self, u):
        axis, _ = self._axis
        side = self.radius * np.sqrt(max(float(u @ u - (u @ axis) ** 2), 0.0))
        return float(max(np.dot(self.start, u), np.dot(self.end, u)) + side)


def overlap(one: _Shape, two: _Shape) -> bool:
    """Whether two convex bodies share more than their surfaces.

    Alternating projections (von Neumann; Bauschke & Borwein, SIAM Rev. 38, 367 (1996)) seek their nearest points; the
    answer is no only with a plane that parts them, within ``TOUCH`` of the smaller size.
    """
    touch = TOUCH * min(one.size, two.size)
    p = two.nearest(np.array(two.row[:3]))
    planes = [*np.eye(3), *-np.eye(3)]
    for turn in range(PATIENCE):
        before, a = p, one.nearest(p)
        p = two.nearest(a)
        steps = [(before - a, np.linalg.norm(before - a)), (p - a, np.linalg.norm(p - a))]
        planes += [away / far for away, far in steps if far > 0]
        if any(one.reach(u) + two.reach(-u) < touch for u in planes):
            return False
        if steps[1][1] < touch / 10 and turn > 10:
            return True
        planes = []
    return True


class Inclusions(Solid):
    """A slab of one medium with ``shapes`` of other media in it; values of the host first, then of each shape."""

    thickness: Any = static("thickness of the slab")
    shapes: tuple[_Shape, ...] = static("spheres, boxes and cylinders inside the slab")
    mu_a: jax.Array = param("1/m", nonnegative, "absorption coefficient", per_layer=True)
    mu_s: jax.Array = param("1/m", nonnegative, "scattering coefficient (not the reduced one)", per_layer=True)
    g: jax.Array = param("", anisotropy, "mean cosine of a scattering", per_layer=True)
    n: jax.Array = param("", index, "refractive index", per_layer=True)
    outside: jax.Array = param("", index, "refractive index above and below the slab", default=1.0)
    reflect: bool = static("reflection and refraction at the two faces", True)

    def check(self):
        object.__setattr__(self, "thickness", lengths("thickness", self.thickness, 1)[0])
        object.__setattr__(self, "shapes", tuple(self.shapes))
        spread(self, 1 + len(self.shapes), "media (the host and each shape)")
        self._match()
        for number, shape in enumerate(self.shapes, 1):
            self._place(number, shape)
        for second, shape in enumerate(self.shapes):
            for first, other in enumerate(self.shapes[:second]):
                if overlap(other, shape):
                    raise FieldError(
                        "shapes", f"got numbers {first + 1} and {second + 1} that overlap, accepted is apart"
                    )
        bound(self.mu_s, self.thickness, "thickness")

    def _match(self):
        if is_concrete(self.n):
            other = np.flatnonzero(np.asarray(self.n) != float(self.n[0]))
            if len(other):
                given = f"got {float(self.n[other[0]]):.6g} for shape {other[0]} in a host of {float(self.n[0]):.6g}"
                raise FieldError("n", f"{given}, accepted is the index of the host (inclusions are index matched)")

    def _place(self, number: int, shape: _Shape):
        if not isinstance(shape, _Shape):
            raise FieldError("shapes", f"got {shape!r}, accepted are Sphere, Box and Cylinder")
        up = np.array([0.0, 0.0, 1.0])
        low, high = 0.0 - shape.reach(-up), shape.reach(up)
        slack = 1e-9 * self.thickness
        if not (isfinite(low) and -slack <= low and high <= self.thickness + slack):
            given = f"got number {number} from z = {show(low, 'm')} to {show(high, 'm')}"
            raise FieldError("shapes", f"{given}, accepted is inside the slab, 0 to {show(self.thickness, 'm')}")
