"""Frames of photon pairs on the pixels of one camera: which pixels a pair meets, read as moments or drawn."""

from collections.abc import Callable, Iterator
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

from qtwin.core.errors import FieldError, UserError
from qtwin.core.params import Element, efficiency, is_concrete, nonnegative, param, positive, static
from qtwin.core.random import numpy_generator
from qtwin.core.records import Frames
from qtwin.detector.camera import AbstractCamera, AbstractCountingCamera
from qtwin.modes.checks import whole

BYTES = 60  # per pixel of a frame and per pair that is drawn
MOST_AT_ONCE = 2**22  # pixels and pairs of one stretch
MOST_FRAMES = 10**9
MOST_PIXELS = 4096  # of a frame whose joint probabilities are written out: 134 MB


class Arriving(NamedTuple):
    """Photons that arrive on the camera in one frame."""

    photons: jax.Array  # [rows, columns] mean
    joint: jax.Array  # [rows, columns, rows, columns] mean pairs that bring a photon to both pixels, in either order


class PairFrames(Element):
    """Poisson pairs, x1 = c + d/2 and x2 = c - d/2 (``mirrored``: c - d/2 turned about the centre of the frame).

    The centre c is on a pixel in proportion to ``illumination`` and anywhere within it, d is normal with standard
    deviation ``width`` per axis. For far fewer than one pair per mode: without thermal bunching.
    """

    camera: AbstractCamera
    illumination: jax.Array = param("", nonnegative, "[rows, columns] where the centres of pairs are, any scale")
    pairs: jax.Array = param("", nonnegative, "mean pairs per frame")
    width: jax.Array = param("", nonnegative, "standard deviation of x1 - x2 per axis (mirrored: x1 + x2), pixels")
    exposure: jax.Array = param("s", positive, "time in which a frame gathers light")
    transmission: jax.Array = param("", efficiency, "probability of a photon to reach the camera", 1.0)
    background: jax.Array = param("", nonnegative, "stray photons per frame and pixel, or a map (hot pixels)", 0.0)
    mirrored: bool = static("partners on opposite sides of the frame (far field)", default=False)

    def check(self):
        shape = np.shape(self.illumination)
        if len(shape) != 2 or 0 in shape:
            raise FieldError("illumination", f"got shape {shape}, accepted is [rows, columns]")
        if is_concrete(self.illumination) and not np.sum(self.illumination) > 0:
            raise FieldError("illumination", "got no light, accepted is a map with light")
        if np.shape(self.background) not in ((), shape):
            raise FieldError("background", f"got shape {np.shape(self.background)}, accepted is a number or {shape}")

    def expect(self) -> Arriving:
        """Means of the photons that arrive, differentiable; up to MOST_PIXELS pixels."""
        shape = self.illumination.shape
        if prod(shape) > MOST_PIXELS:
            raise FieldError(
                "illumination", f"got {prod(shape)} pixels, accepted are {MOST_PIXELS} for their joint law"
            )
        centres = self.illumination / jnp.sum(self.illumination)
        rows, columns = (pair_law(self.width, n) for n in shape)
        inside = jnp.einsum("ab,ika,jlb->ijkl", centres, rows, columns, optimize=True)
        single = jnp.einsum("ab,ia,jb->ij", centres, *(photon_law(self.width, n) for n in shape))
        other = single[::-1, ::-1] if self.mirrored else single
        joint = inside[:, :, ::-1, ::-1] if self.mirrored else inside
        joint = joint + jnp.transpose(joint, (2, 3, 0, 1))
        photons = self.pairs * self.transmission * (single + other) + self.background
        return Arriving(photons, self.pairs * self.transmission**2 * joint)

    def moments(self) -> tuple[jax.Array, jax.Array]:
        """Mean [rows, columns] and covariance [rows, columns, rows, columns] of frames in photoelectrons.

        eta^2 times the joint pairs beside the camera's own variance in Poisson light (twice on the same pixel, where
        both photons of a pair come).
        """
        photons, joint = self.expect()
        size = photons.size
        own = jnp.diag(jnp.ravel(self.camera.variance(photons, self.exposure)))
        covariance = self.camera.efficiency**2 * joint.reshape(size, size) + own
        return self.camera.mean(photons, self.exposure), covariance.reshape(joint.shape)

    def click_moments(self) -> tuple[jax.Array, jax.Array]:
        """P_i [rows, columns] and P_ij of a click on both pixels [rows, columns, rows, columns] (i = j: P_i).

        P_ij = 1 - S_i - S_j + S_i S_j exp(mu_ij): mu_ij pairs per frame click i and j, silent pixels S = 1 - P
        (Defienne et al., Phys. Rev. Lett. 120, 203604 (2018)). A pair with both photons on one pixel clicks it once;
        photons are seen one by one, with ``camera.detection_efficiency``.
        """
        camera = self._counting()
        photons, joint = self.expect()
        eta, size = camera.detection_efficiency(), photons.size
        mu = eta**2 * joint.reshape(size, size)
        lit = jnp.ravel(photons) - jnp.diagonal(mu) / (2 * eta)
        clicks = camera.click_probability(lit, self.exposure)
        silent = 1 - clicks
        both = 1 - silent[:, None] - silent[None, :] + silent[:, None] * silent[None, :] * jnp.exp(mu)
        both = jnp.where(jnp.eye(size, dtype=bool), clicks[:, None], both)
        return clicks.reshape(photons.shape), both.reshape(joint.shape)

    def _counting(self) -> AbstractCountingCamera:
        if not isinstance(self.camera, AbstractCountingCamera):
            raise FieldError("camera", f"got {type(self.camera).__name__}, accepted is one that counts photons")
        return self.camera

    def sample(self, count: int, *, key, memory_limit: float = np.inf) -> Iterator[Frames]:
        """``count`` frames as the camera reads them, stretch by stretch; UserError where no frame fits the memory."""
        return self._sample(self._stretches(count, memory_limit), self.camera.sample, key)

    def sample_clicks(self, count: int, *, key, memory_limit: float = np.inf) -> Iterator[Frames]:
        """The same exposures as clicks (bool) of a counting camera."""
        return self._sample(self._stretches(count, memory_limit), self._counting().sample_clicks, key)

    def _stretches(self, count: int, memory_limit: float) -> list[int]:
        """Frames of every stretch."""
        each = BYTES * (np.size(self.illumination) + float(self.pairs))
        most = int(min(memory_limit / each, max(1, BYTES * MOST_AT_ONCE // each)))
        if most < 1:
            raise UserError(f"memory_limit: got {memory_limit:.3g} bytes, one frame of this kind needs {each:.3g}")
        whole("count", count, 1, MOST_FRAMES)
        return [most] * (count // most) + [count % most] * (count % most > 0)

    def _sample(self, stretches: list[int], record: Callable, key) -> Iterator[Frames]:
        arriving, camera = numpy_generator(key, "frames"), numpy_generator(key, "camera")
        exposure, period = float(self.exposure), np.nan
        if isinstance(self.camera, AbstractCountingCamera):
            period = float(self.camera.period(self.exposure))
        for frames in stretches:
            counts = self._arrivals(frames, arriving)
            yield Frames(np.asarray(record(counts, exposure, rng=camera)), exposure, period)

    def _arrivals(self, frames: int, rng) -> np.ndarray:
        """Photons on the camera, [frames, rows, columns] whole numbers."""
        shape, illumination = np.array(np.shape(self.illumination)), np.asarray(self.illumination, float)
        stray = np.broadcast_to(np.asarray(self.background), (frames, *shape))
        counts = rng.poisson(stray) if np.any(stray) else np.zeros(stray.shape, np.int64)
        pairs = rng.poisson(float(self.pairs) * frames)
        cumulative = np.cumsum(illumination)
        pixel = np.searchsorted(cumulative, rng.random(pairs) * cumulative[-1], side="right")
        centre = np.stack(np.unravel_index(pixel, shape)) + rng.random((2, pairs))
        half = rng.standard_normal((2, pairs)) * (float(self.width) / 2)
        frame = rng.integers(0, frames, pairs)
        partner = centre - half
        for where in (centre + half, shape[:, None] - partner if self.mirrored else partner):
            arrives = np.all((where >= 0) & (where < shape[:, None]), axis=0)
            arrives &= rng.random(pairs) < float(self.transmission)
            row, column = where[:, arrives].astype(np.int64)
            flat = (frame[arrives] * shape[0] + row) * shape[1] + column
            counts += np.bincount(flat, minlength=counts.size).reshape(counts.shape)
        return counts


def _above(x, spread):
    """E max(x - d, 0) of a normal d: x Phi(x/s) + s phi(x/s); max(x, 0) at s = 0."""
    safe = jnp.where(spread > 0, spread, 1.0)
    return jnp.where(spread > 0, x * norm.cdf(x / safe) + safe * norm.pdf(x / safe), jnp.maximum(x, 0.0))


def photon_law(width, size: int):
    """P(photon on pixel i | centre on pixel a) along an axis, [size, size]: a uniform place in a plus a normal d/2."""
    k = jnp.arange(size, dtype=width.dtype)
    apart = k[:, None] - k[None, :]
    return _above(apart + 1, width / 2) - 2 * _above(apart, width / 2) + _above(apart - 1, width / 2)


def pair_law(width, size: int):
    """P(x1 on pixel i, x2 on pixel j | centre on pixel a) along an axis, [size, size, size].

    For a given d the places u in [0, 1) that fit are an interval whose length is linear in d between whole numbers, so
    its mean over the normal d is sum_m length(m) w_m, w_m the mean of the triangle of half-width 1 about m: exact.
    """
    d = np.arange(-size, size + 1)
    k = np.arange(1 - size, size)
    first, second = k[:, None, None] - d / 2, k[None, :, None] + d / 2  # where u begins that puts either photon there
    low, high = np.maximum(np.maximum(first, second), 0), np.minimum(np.minimum(first, second) + 1, 1)
    around = jnp.asarray(d, width.dtype)
    triangle = _above(around + 1, width) - 2 * _above(around, width) + _above(around - 1, width)
    table = jnp.asarray(np.maximum(high - low, 0), width.dtype) @ triangle
    apart = np.arange(size)[:, None] - np.arange(size)[None, :] + size - 1  # i - a
    return table[apart[:, None, :], apart[None, :, :]]
