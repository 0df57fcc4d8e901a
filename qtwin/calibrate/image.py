"""Images that a camera took of a sample in the twin's light: mean and variance of every pixel over many frames.

    <d> = d_0 + k x,   Var d = k^2 (x + v) [+ 1/12],   x = mean photoelectrons of `qtwin.estimator.twin_beams.expect`

k: recorded numbers per photoelectron, d_0: offset, v: variance beyond Poisson's (read noise, multiplication), 1/12 of
whole numbers. The two together tell k apart from the light (Janesick, Photon Transfer, SPIE Press (2007); from memory).
The mean of F frames scatters by Var d/F, their variance by (Var d)^2 [2/(F - 1) + k^4 x q/(F Var^2 d)], with q the
fourth moment of the recorded signal of one electron (`fourth_moment`).
"""

from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.calibrate.model import AbstractModel, Data, Expected, Part
from qtwin.core.errors import FieldError, UserError
from qtwin.core.params import param, positive, real, static
from qtwin.core.random import stream
from qtwin.core.units import data_size
from qtwin.detector.camera import AbstractCamera
from qtwin.estimator import twin_beams
from qtwin.estimator.setting import exposed
from qtwin.io.frame_files import read_frames
from qtwin.optics import FarField
from qtwin.scene import AbstractScene
from qtwin.source import SPDC
from qtwin.tissue import LightPath, Slab, Walk, walk
from qtwin.tissue.walk import memory, rounded
from qtwin.tissue.weights import likelihood

CUT = (
    "The object reaches the border of the field, beyond which the sample is taken to be clear: outermost superpixels "
    "are brighter than those of an object that goes on; take a field that holds it all (model.optics.pixels, pitch)."
)
ROOM = 2**31  # bytes of the walk, at most
WORN, LOST = 0.5, 0.02  # effective part of a walk below which it is made anew, and below which it tells nothing


def scatter(variance, fourth, frames):
    """Variance of the mean of ``frames`` numbers, and of their sample variance: V/F, 2 V^2/(F - 1) + kappa_4/F.

    Exact for independent draws of variance V and fourth cumulant kappa_4 (Kenney & Keeping, Mathematics of Statistics,
    part 2 (1951), from memory).
    """
    return variance / frames, 2 * variance**2 / (frames - 1) + fourth / frames


def fourth_moment(excess):
    """q = <s^4>/<s>^4 of one electron's signal s, of a gamma law of excess noise F^2: F^2 (2 F^2 - 1) (3 F^2 - 2).

    1 without multiplication, 24 of a long multiplication register (F^2 = 2: exponential; derived).
    """
    return excess * (2 * excess - 1) * (3 * excess - 2)


class CameraImage(AbstractModel):
    """Frames of the signal photons behind the sample: mean and variance of every superpixel."""

    law: ClassVar[str] = "normal"
    unit: ClassVar[str] = "recorded number"
    limits: ClassVar[tuple[str, ...]] = (
        "Beyond the field the sample is taken to be clear: light of there reaches the outermost superpixels.",
        "Pixels scatter independently, frames are alike: light that flickers adds a variance that is not modelled.",
        "Means of ten photoelectrons or more: mean and variance of one pixel are taken as independent.",
        "Wells are not full, and all pixels have one gain and one offset.",
        "The exposure is that in which the source gives so many photons; dark electrons and ambient light go by it.",
    )
    fixed: ClassVar[tuple[str, ...]] = ("optics.numerical_aperture", "tissue.n", "tissue.g")

    source: SPDC
    optics: FarField
    scene: AbstractScene
    tissue: Slab
    camera: AbstractCamera
    photons: jax.Array = param("", positive, "signal photons per superpixel and frame at the sample, mean of the field")
    gain: jax.Array = param("", positive, "k, recorded numbers per photoelectron", 1.0)
    offset: jax.Array = param("", real, "d_0, recorded number of no electron", 0.0)
    walked: int = static("photons of the walk", 65536)
    seed: int = static("of the walk", 0)
    walk: Walk | None = None  # of `renewed`
    nth: jax.Array | None = None  # walks made so far

    def check(self):
        if isinstance(self.walked, bool) or not isinstance(self.walked, int) or self.walked < 1024:
            raise FieldError("walked", f"got {self.walked!r}, accepted is a whole number from 1024 on")
        need = memory(rounded(self.walked), self.tissue.layers().thickness.shape[0])
        if need > ROOM:
            raise FieldError("walked", f"{self.walked} photons need {data_size(need)}, at most {data_size(ROOM)}")

    def read(self, path: Path) -> Data:
        record, n = read_frames(path), self.optics.pixels
        frames, *size = record.shape
        if tuple(size) != (n, n):
            told = f"frames of {size[0]} x {size[1]}"
            raise UserError(
                f"{path}: {told}, the model has {n} x {n} superpixels (model.optics.pixels); bin the frames"
            )
        if frames < 2:
            raise UserError(f"{path}: {frames} frame, accepted are two or more: the variance is used")
        origin = np.asarray(next(iter(record)).counts[0], float)
        first, second = np.zeros((n, n)), np.zeros((n, n))
        for part in record:
            counts = np.asarray(part.counts, float)
            first += np.sum(counts - origin, axis=0)
            second += np.sum((counts - origin) ** 2, axis=0)
        mean, variance = origin + first / frames, (second - first**2 / frames) / (frames - 1)
        whole = 1.0 if record.dtype.kind in "bui" else 0.0
        given = {"frames": np.asarray(float(frames)), "whole": np.asarray(whole)}
        rows = np.arange(n * n)
        parts = {
            name: Part(k * n * n + rows, rows, "pixel", shape=(n, n), power=k + 1)
            for k, name in enumerate(("mean", "variance"))
        }
        return Data(np.concatenate([mean.ravel(), variance.ravel()]), given, np.tile(rows, 2), parts, notes=self._cut())

    def _cut(self) -> tuple[str, ...]:
        """Whether the object reaches the border of the field, beyond which there is nothing."""
        cells = np.asarray(self._path().grid().values)[1:-1, 1:-1]
        border = np.concatenate([cells[0], cells[-1], cells[:, 0], cells[:, -1]])
        return () if np.all(border == 1) else (CUT,)

    def _path(self) -> LightPath:
        return LightPath(self.source, self.optics, self.scene, self.tissue)

    def renewed(self, given) -> "CameraImage":
        if self.walk is not None and float(self._effective()) >= WORN:
            return self
        nth = 1 if self.nth is None else int(self.nth) + 1
        key = stream(stream(jax.random.key(self.seed), "walks"), str(nth))
        aperture = float(self.optics.numerical_aperture)
        made = walk(self.tissue, key=key, photons=self.walked, aperture=aperture)
        parts = self.source, self.optics, self.scene, self.tissue, self.camera, self.photons, self.gain, self.offset
        return CameraImage(*parts, self.walked, self.seed, made, jnp.asarray(nth))

    def _made(self) -> Walk:
        if self.walk is None:
            raise ValueError("no walk: call renewed() first")
        return self.walk

    def _effective(self):
        made = self._made()
        w = likelihood(made.paths, self.tissue.layers(), made.layers)
        return jnp.mean(w) ** 2 / jnp.mean(w * w)

    def _electrons(self, images):
        """Mean photoelectrons, and their variance beyond Poisson's, [n, n]."""
        idler, setting = self._path().idler_image(), exposed(self.source, self.optics, self.photons)
        records = twin_beams.expect(images, idler, setting, self.optics, self.camera)
        return records.x, jnp.broadcast_to(records.noise_x, records.x.shape)

    def _images(self):
        return self._path().images(self._made())

    def _recorded(self, given, images):
        x, beyond = (a.ravel() for a in self._electrons(images))
        variance = self.gain**2 * (x + beyond) + given["whole"] / 12
        return x, jnp.concatenate([self.offset + self.gain * x, variance])

    def blocks(self, given):
        return jax.vmap(lambda images: self._recorded(given, images)[1])(self._images())

    def expect(self, given):
        images = jax.tree.map(lambda a: jnp.mean(a, axis=0), self._images())
        x, mean = self._recorded(given, images)
        variance, frames = mean[x.shape[0] :], given["frames"]
        of_mean, of_variance = scatter(variance, self.gain**4 * x * fourth_moment(self.camera.excess), frames)
        mean = jnp.where(self._effective() > LOST, mean, jnp.nan)
        return Expected(mean, jnp.concatenate([of_mean, of_variance]))
