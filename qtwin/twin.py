"""The twin: source, light path, detectors and correlation, read as means or as one exposure."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.config import build
from qtwin.core.errors import UserError
from qtwin.core.params import Element
from qtwin.core.random import numpy_generator, stream
from qtwin.correlation import Coincidence
from qtwin.detector import SinglePhoton
from qtwin.detector.camera import AbstractCamera
from qtwin.estimator import ghost, twin_beams
from qtwin.estimator.linear import Calibration, Records, thin
from qtwin.estimator.protocol import Bench
from qtwin.estimator.setting import Setting, exposed
from qtwin.optics import FarField
from qtwin.scene import AbstractScene
from qtwin.scene.grid import pixel_means
from qtwin.source import SPDC
from qtwin.tissue import LightPath, Slab, Walk, walk
from qtwin.tissue.images import Images

CHUNK = 131072  # pairs carried together
PROTOCOLS = ("twin_beams", "ghost")


class Expectation(NamedTuple):
    """Moments of one exposure of every record, and what they were made from."""

    images: Images
    idler: jax.Array  # [n, n]
    setting: Setting
    twin_beams: Records
    ghost: Records


class Sampled(NamedTuple):
    """One exposure, photon by photon: counts [n, n] of each record, and the dose."""

    twin_beams: tuple[np.ndarray, np.ndarray]
    ghost: tuple[np.ndarray, np.ndarray]
    pairs: int  # whose signal met the sample
    absorbed: tuple[float, float]  # fraction of the light on the field that is absorbed, and its standard error


class Twin(Element):
    """Pairs from the crystal, their signal through the object in tissue, both arms detected.

    ``camera`` records twin beams; ``detector`` the heralded image (an array in the idler, one element as
    the bucket behind the sample).
    """

    source: SPDC
    optics: FarField
    scene: AbstractScene
    tissue: Slab
    camera: AbstractCamera
    detector: SinglePhoton
    correlation: Coincidence

    def path(self) -> LightPath:
        return LightPath(self.source, self.optics, self.scene, self.tissue)

    def setting(self, photons) -> Setting:
        """One exposure of ``photons`` signal photons per superpixel (mean over the field) at the sample."""
        return exposed(self.source, self.optics, photons)

    def walk(self, *, key, photons: int = 524288, memory_limit: float = np.inf) -> Walk:
        """Carry photons through the tissue once; every expectation of this slab and its neighbours uses it."""
        return walk(
            self.tissue,
            key=stream(key, "walk"),
            photons=photons,
            aperture=float(self.optics.numerical_aperture),
            memory_limit=memory_limit,
        )

    def blocks(self, walk: Walk) -> Images:
        """Probability images of every independent block of the walk, [BLOCKS, ...]."""
        return self.path().images(walk)

    def moments(self, images: Images, photons) -> Expectation:
        """Records that belong to ``images`` (no block axis) at ``photons`` per superpixel and exposure."""
        setting, idler = self.setting(photons), self.path().idler_image()
        return Expectation(
            images,
            idler,
            setting,
            twin_beams.expect(images, idler, setting, self.optics, self.camera),
            ghost.expect(images, idler, setting, self.optics, self.detector, self.correlation),
        )

    def bench(self, images: Images, photons) -> Bench:
        """What the arms of a comparison are given: ``images`` without block axis."""
        path = self.path()
        return Bench(
            *(self.source, self.optics, self.tissue, self.camera, self.detector, self.correlation),
            images,
            path.idler_image(),
            pixel_means(path.grid().values[1:-1, 1:-1], self.optics.fine),
            self.setting(photons),
        )

    def expect(self, walk: Walk, photons=2000.0) -> Expectation:
        """Mean and variance of what would be recorded; differentiable in every physical parameter."""
        mean = jax.tree.map(lambda a: jnp.mean(a, axis=0), self.blocks(walk))
        return self.moments(mean, jnp.asarray(photons, self.source.waist.dtype))

    def calibration(self, arm: str, expectation: Expectation, transmission=None) -> Calibration:
        """What the estimator of ``arm`` (naive, optimal, coincidences, ratio) knows beforehand.

        ``transmission`` [n, n]: where the optimal k takes it from; None is the mean that the twin expects, to which
        a measured one converges.
        """
        images, idler, setting = expectation.images, expectation.idler, expectation.setting
        if transmission is None:
            seen, clear = ("direct", "direct_open") if arm in ("naive", "optimal") else ("ghost", "ghost_open")
            transmission = getattr(images, seen) / getattr(images, clear)
        if arm in ("naive", "optimal"):
            return twin_beams.calibration(images, idler, setting, self.optics, self.camera, arm, transmission)
        if arm in ("coincidences", "ratio"):
            rest = (self.optics, self.detector, self.correlation, arm, transmission)
            return ghost.calibration(images, idler, setting, *rest)
        raise UserError(f"arm: got {arm!r}, accepted are naive, optimal, coincidences, ratio")

    def ensemble(self, expectation: Expectation, exposures: int, *, key) -> dict:
        """Independent exposures by thinning: protocol -> counts (x, y), each [exposures, n, n]."""
        return {
            name: thin(getattr(expectation, name), exposures, key=stream(key, f"ensemble {name}")) for name in PROTOCOLS
        }

    def sample(self, photons=2000.0, *, key) -> Sampled:
        """One exposure carried photon by photon, from the crystal to the counts."""
        setting = self.setting(jnp.asarray(photons, self.source.waist.dtype))
        path, idler = self.path(), self.path().idler_image()
        pairs = int(numpy_generator(key, "number of pairs").poisson(float(setting.incident)))
        size = min(CHUNK, 1 << max(pairs - 1, 0).bit_length())
        parts = [path.sample(size, key=stream(key, f"chunk {i}")) for i in range(-(-max(pairs, 1) // size))]
        exposure = jax.tree.map(lambda *a: np.concatenate(a)[:pairs], *parts)
        x, y = twin_beams.record(exposure, idler, setting, self.optics, self.camera, key=stream(key, "camera"))
        gx, gy, _ = ghost.record(
            exposure, idler, setting, self.optics, self.detector, self.correlation, key=stream(key, "ghost")
        )
        lost = (1 - np.asarray(exposure.survival))[twin_beams.pixel_of(exposure.idler, self.optics)[2]]
        error = lost.std() / np.sqrt(max(len(lost), 1)) if len(lost) else 0.0
        return Sampled((x, y), (gx, gy), pairs, (float(lost.mean()) if len(lost) else 0.0, float(error)))


def twin_from(cfg) -> Twin:
    """The twin that a composed configuration describes."""
    parts = {name: build(cfg[name], name) for name in Twin.__dataclass_fields__}
    return Twin(**parts)
