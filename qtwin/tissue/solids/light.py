"""Light on its way into a solid: where it starts inside, which way, and how much of it got in."""

from typing import NamedTuple

import numpy as np

from qtwin.core.errors import UserError
from qtwin.optics.fresnel import reflectance
from qtwin.tissue.solids.inclusions import Inclusions
from qtwin.tissue.solids.volume import Solid, Volume

BACK = 1e-6  # of the smallest voxel or the thickness: how far behind a face a ray on it begins


class Light(NamedTuple):
    """Photons just inside a solid. n = 1: all start alike."""

    position: np.ndarray  # [n, 3] m
    direction: np.ndarray  # [n, 3] unit vectors, inside
    entrance: np.ndarray  # [n] weight: what the surface let in


def light(position, direction, entrance=1.0) -> Light:
    """Photons that start inside, from arrays [n, 3] (or [3]) and a weight [n] (or one); directions are normalised.

    Raises UserError on wrong shapes, values that are not finite, a direction of length 0, a weight outside 0 to 1.
    """
    position, direction = (np.atleast_2d(np.asarray(a, np.float64)) for a in (position, direction))
    count = max(len(position), len(direction))
    for name, a in (("position", position), ("direction", direction)):
        if a.ndim != 2 or a.shape[1] != 3 or len(a) not in (1, count):
            raise UserError(f"light.{name}: got an array of shape {a.shape}, accepted is [n, 3]")
        if not np.all(np.isfinite(a)):
            raise UserError(f"light.{name}: got a value that is not finite, accepted are finite numbers")
    norm = np.linalg.norm(direction, axis=1, keepdims=True)
    if np.any(norm == 0):
        raise UserError("light.direction: got a direction of length 0, accepted is any other")
    weight = np.asarray(entrance, np.float64)
    if weight.ndim > 1 or weight.size not in (1, count) or not np.all((weight >= 0) & (weight <= 1)):
        raise UserError(f"light.entrance: got {entrance!r}, accepted are weights from 0 to 1, one or one per photon")
    whole = np.broadcast_to
    return Light(whole(position, (count, 3)), whole(direction / norm, (count, 3)), whole(weight.ravel(), (count,)))


def beam(solid: Solid, position, direction=(0.0, 0.0, 1.0)) -> Light:
    """A pencil beam: one ray that flies straight to the solid, and through the first face it meets.

    It may start outside, on a face or inside (then nothing is lost). With ``solid.reflect`` the face refracts it
    (Snell) and reflects R (Fresnel, unpolarised; Born & Wolf, section 1.5.2): entrance weight 1 - R. ``position`` [3]
    in m.
    Raises UserError if it never meets the solid.
    """
    ray = light(position, direction)
    p, u = np.array(ray.position[0]), np.array(ray.direction[0])
    p, axis, medium = _meet_voxels(solid, p, u) if isinstance(solid, Volume) else _meet_slab(solid, p, u)
    if axis < 0 or not solid.reflect:
        return light(p, u)
    around, inside = float(solid.outside), float(np.asarray(solid.n)[medium - 1])
    mirror, cosine = reflectance(np.abs(u[axis]), around, inside)
    bent = u * around / inside
    bent[axis] = np.sign(u[axis]) * float(cosine)
    return light(p, bent, 1 - float(mirror))


def _meet_slab(solid, p, u):
    assert isinstance(solid, Inclusions)
    slack = BACK * solid.thickness
    if slack < p[2] < solid.thickness - slack:
        return p, -1, 1
    face = 0.0 if u[2] > 0 else solid.thickness
    if u[2] == 0 or (face - p[2]) * np.sign(u[2]) < -slack:
        raise _missed(p, u, "the slab")
    met = p + u * (face - p[2]) / u[2]
    met[2] = face
    return met, 2, 1


def _meet_voxels(solid: Volume, p, u):
    """(where it meets tissue, axis of that face or -1 if it starts inside, label)."""
    labels, sides = solid.labels.values, np.array(solid.voxel)
    shape = np.array(labels.shape)
    slack = BACK * sides.min()
    start = p - slack * u
    with np.errstate(divide="ignore", invalid="ignore"):
        one, two = (0 - start) / u, (shape * sides - start) / u
        still = u == 0
        within = (start >= 0) & (start <= shape * sides)
        near = np.where(still, np.where(within, -np.inf, np.inf), np.minimum(one, two))
        far = np.where(still, np.where(within, np.inf, -np.inf), np.maximum(one, two))
    axis, at, end = int(np.argmax(near)), max(float(near.max()), 0.0), float(far.min())
    if near.max() < 0:
        axis = -1  # it starts inside the array
    if not at < end:
        raise _missed(p, u, "a voxel of tissue")
    cell = np.clip(np.floor((start + at * u) / sides).astype(int), 0, shape - 1)
    if axis >= 0:
        cell[axis] = 0 if u[axis] > 0 else shape[axis] - 1
    step = np.where(u > 0, 1, -1)
    while at < end and np.all((cell >= 0) & (cell < shape)):
        label = int(labels[tuple(cell)])
        if label:
            if axis < 0:
                return p, -1, label
            met = start + at * u
            met[axis] = (cell[axis] + (u[axis] < 0)) * sides[axis]
            return met, axis, label
        with np.errstate(divide="ignore", invalid="ignore"):
            to = np.where(u == 0, np.inf, ((cell + (u > 0)) * sides - start) / u)
        axis, at = int(np.argmin(to)), float(to.min())
        cell[axis] += step[axis]
    raise _missed(p, u, "a voxel of tissue")


def _missed(p, u, what: str) -> UserError:
    start, way = (", ".join(f"{v:.4g}" for v in a) for a in (p, u))
    return UserError(f"light.position: a beam from ({start}) m along ({way}) never meets {what}")
