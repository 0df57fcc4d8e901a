"""A solid given voxel by voxel: every voxel names its medium.

Labels 1 to M are media, label 0 is not tissue: the surroundings, which also lie all around the array. Light that enters
label 0 has left, wherever that voxel lies (the convention of MCX: Fang & Boas, Opt. Express 17, 20178 (2009)); what the
surface sends back into the tissue depends on ``reflect``. The corner of voxel [0, 0, 0] is the origin; the first axis
of the array is x, then y, z.
"""

from hashlib import blake2b
from math import isfinite
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import FieldError, UserError
from qtwin.core.params import Element, anisotropy, index, is_concrete, nonnegative, param, static
from qtwin.core.units import parse, show
from qtwin.tissue.slab import THICKEST, Layers
from qtwin.tissue.solids.volume_files import read_labels

MOST = 2**31  # voxels


class Labels:
    """A label for every voxel, uint8 [x, y, z]; equal where the contents are equal."""

    __slots__ = ("digest", "values")

    def __init__(self, values):
        values = np.ascontiguousarray(whole(values))
        if values.base is not None or values.flags.writeable:
            values = values.copy()
            values.setflags(write=False)
        self.values = values
        self.digest = (values.shape, blake2b(values.data, digest_size=16).digest())

    def __eq__(self, other):
        return isinstance(other, Labels) and self.digest == other.digest

    def __hash__(self):
        return hash(self.digest)

    def __repr__(self):
        return f"{' x '.join(map(str, self.values.shape))} voxels, labels {self.values.min()} to {self.values.max()}"


def whole(values) -> np.ndarray:
    """Any array of whole numbers from 0 to 255 -> uint8 [x, y, z]. Raises FieldError of ``labels``."""
    accepted = "accepted is a 3-D array of whole numbers from 0 to 255"
    values = np.asarray(values)
    if values.ndim != 3 or not values.size:
        raise FieldError("labels", f"got an array of shape {values.shape}, {accepted}")
    if values.size > MOST:
        raise FieldError("labels", f"got {values.size} voxels, accepted is up to {MOST}")
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind not in "buif":
        raise FieldError("labels", f"got values of type {values.dtype}, {accepted}")
    with np.errstate(invalid="ignore"):
        bad = ~((values >= 0) & (values <= 255)) | (values != np.floor(values))
    if np.any(bad):
        raise FieldError("labels", f"got a voxel with {values[bad][0]}, {accepted}")
    return values.astype(np.uint8)


def lengths(field: str, value: Any, count: int) -> tuple[float, ...]:
    """Lengths with or without unit, one for all or ``count`` of them -> m, positive. Raises FieldError of ``field``."""
    given = list(value) if isinstance(value, (list, tuple, np.ndarray)) else [value] * count
    if len(given) != count:
        raise FieldError(field, f"got {len(given)} values, accepted is 1 or {count}")
    try:
        out = tuple(parse(float(v) if isinstance(v, np.generic) else v, "m") for v in given)
    except UserError as error:
        raise FieldError(field, str(error)) from error
    for v in out:
        if not (isfinite(v) and v > 0):
            raise FieldError(field, f"got {show(v, 'm')}, accepted is a value greater than 0")
    return out


def spread(element, count: int, what: str):
    """Give every medium its own mu_a, mu_s, g and n. Raises FieldError."""
    for name in ("mu_a", "mu_s", "g", "n"):
        value = jnp.atleast_1d(getattr(element, name))
        if value.shape[-1] not in (1, count):
            raise FieldError(name, f"got {value.shape[-1]} values for {count} {what}, accepted is 1 or {count}")
        object.__setattr__(element, name, jnp.broadcast_to(value, (*value.shape[:-1], count)))


def bound(mu_s, longest: float, field: str):
    """Refuse what no walk would ever leave: usually a unit forgotten."""
    if is_concrete(mu_s) and float(np.max(mu_s)) * longest > THICKEST:
        free_paths = float(np.max(mu_s)) * longest
        given = f"got {show(longest, 'm')} across, {free_paths:.0f} scattering lengths"
        raise FieldError(field, f"{given}, accepted is up to {THICKEST:.0f}; a unit?")


class Solid(Element):
    """What a walk needs to know of a solid's media: label m has number m - 1 in ``mu_a``, ``mu_s``, ``g`` and ``n``.

    ``reflect``: Fresnel reflection and refraction wherever the index changes; without it light goes straight on, as if
    all indices were equal (they still set its speed). Where light leaves voxels, it does so through a voxel's face: a
    curved surface reflects as the staircase it is drawn as.
    The geometry is static: there is no derivative by it, nor by ``n``.
    """

    mu_a: eqx.AbstractVar[jax.Array]
    mu_s: eqx.AbstractVar[jax.Array]
    g: eqx.AbstractVar[jax.Array]
    n: eqx.AbstractVar[jax.Array]
    outside: eqx.AbstractVar[jax.Array]
    reflect: eqx.AbstractVar[bool]

    def layers(self) -> Layers:
        """The media as `qtwin.tissue.weights` reads them: M "layers" that are never stretched."""
        return Layers(jnp.ones_like(self.mu_a), self.mu_a, self.mu_s, self.g, self.n, 0)


class Volume(Solid):
    """Labelled voxels with one row of coefficients per label from 1 on (one value: the same for all)."""

    labels: Any = static("label of every voxel, 0 to 255, [x, y, z]; 0 is outside")
    voxel: Any = static("sides of a voxel, one length or three")
    mu_a: jax.Array = param("1/m", nonnegative, "absorption coefficient", per_layer=True)
    mu_s: jax.Array = param("1/m", nonnegative, "scattering coefficient (not the reduced one)", per_layer=True)
    g: jax.Array = param("", anisotropy, "mean cosine of a scattering", per_layer=True)
    n: jax.Array = param("", index, "refractive index", per_layer=True)
    outside: jax.Array = param("", index, "refractive index around it (label 0)", default=1.0)
    reflect: bool = static("reflection and refraction where the index changes", True)
    axes: ClassVar[str] = "voxel"

    def check(self):
        if not isinstance(self.labels, Labels):
            object.__setattr__(self, "labels", Labels(self.labels))
        object.__setattr__(self, "voxel", lengths("voxel", self.voxel, 3))
        count = max(jnp.atleast_1d(getattr(self, name)).shape[-1] for name in ("mu_a", "mu_s", "g", "n"))
        highest = int(self.labels.values.max())
        if highest == 0:
            raise FieldError("labels", "got label 0 alone, accepted is an array with at least one voxel of tissue")
        if highest > count > 1:
            raise FieldError("labels", f"got label {highest} without properties, accepted is 0 to {count}")
        spread(self, max(count, highest), "labels")
        bound(self.mu_s, max(s * v for s, v in zip(self.labels.values.shape, self.voxel, strict=True)), "voxel")

    @classmethod
    def from_file(cls, path, *, voxel=None, name: str | None = None, memory_limit: float = np.inf, **coefficients):
        """Labels from a NIfTI (.nii, .nii.gz), NumPy (.npy, .npz) or MATLAB (.mat) file; other fields as in `Volume`.

        ``voxel`` is needed unless the file is NIfTI, whose header tells it; ``name`` picks one of several 3-D arrays.
        Raises FieldError of ``file``, ``labels`` or ``voxel``, UserError where the array would not fit
        ``memory_limit``.
        """
        values, sides = read_labels(path, name, memory_limit)
        if voxel is None and sides is None:
            raise FieldError(
                "voxel", f"got nothing, and {str(path)!r} does not say; accepted is a length such as '1 mm'"
            )
        return cls(labels=Labels(values), voxel=sides if voxel is None else voxel, **coefficients)
