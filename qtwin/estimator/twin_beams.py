"""Sub-shot-noise absorption image: two cameras, one beam through the sample, the other as its noise reference.

Brida, Genovese & Ruo Berchera, Nat. Photonics 4, 227 (2010) subtract the counts (k = 1); the optimal k of Moreau
et al., Sci. Rep. 7, 6256 (2017) and Losero et al., Sci. Rep. 8, 7431 (2018) subtracts the part that is known.
"""

from functools import partial

import jax.numpy as jnp
import numpy as np

from qtwin.core.random import numpy_generator
from qtwin.detector.camera import AbstractCamera
from qtwin.estimator import direct
from qtwin.estimator.linear import Calibration, LinearLaw, Records, optimal_k
from qtwin.estimator.protocol import AbstractProtocol, Arm, Bench
from qtwin.estimator.response import recorded, response
from qtwin.estimator.setting import Setting
from qtwin.optics import FarField
from qtwin.tissue.light_path import Exposure, Images


def expect(images: Images, idler, setting: Setting, optics: FarField, camera: AbstractCamera) -> Records:
    """Moments of signal counts x and mirrored idler counts y; ``idler`` is `LightPath.idler_image`."""
    light = optics.collection_transmission * setting.incident * images.direct + optics.ambient * setting.time
    lone = optics.idler_transmission * setting.emitted * idler + optics.idler_ambient * setting.time
    (x, noise_x), (y, noise_y) = (recorded(camera, photons, setting.time) for photons in (light, lone))
    both = optics.collection_transmission * optics.idler_transmission * response(camera, setting.time) ** 2
    return Records(x, y, both * setting.incident * images.joint, noise_x, noise_y)


def calibration(
    images: Images, idler, setting: Setting, optics: FarField, camera: AbstractCamera, k: str, transmission
) -> Calibration:
    """Known beforehand: dark counts, idler mean, counts of a clear object, and k ('naive' 1, or 'optimal').

    The optimal k is that of a clear object times the ``transmission`` [n, n], which the experimenter takes from the
    mean of the direct counts (the error of that enters the variance only to second order).
    """
    eta = response(camera, setting.time)
    eta_s, eta_i = eta * optics.collection_transmission, eta * optics.idler_transmission
    lone = optics.idler_transmission * setting.emitted * idler + optics.idler_ambient * setting.time
    y, noise = recorded(camera, lone, setting.time)
    gain = eta_s * setting.incident * images.direct_open
    if k == "naive":
        factor = jnp.ones_like(y)
    else:
        factor = optimal_k(eta_s * eta_i * setting.incident * images.joint_open, y + noise)
        factor = factor * transmission
    dark = camera.mean(jnp.broadcast_to(optics.ambient * setting.time, y.shape), setting.time)
    return Calibration(dark, y, gain, factor)


def pixel_of(positions, optics: FarField):
    """Superpixel (row, column) of positions [count, 2] (x, y), and whether it is inside the field."""
    where = np.floor(np.asarray(positions) / float(optics.pitch) + optics.pixels / 2).astype(np.int64)
    inside = ((where >= 0) & (where < optics.pixels)).all(axis=1)
    return where[:, 1], where[:, 0], inside


def histogram(positions, keep, optics: FarField):
    """Counts per superpixel of the photons ``keep``, [n, n]."""
    row, column, inside = pixel_of(positions, optics)
    keep = np.asarray(keep) & inside
    n = optics.pixels
    return np.bincount(row[keep] * n + column[keep], minlength=n * n).reshape(n, n)


def record(exposure: Exposure, idler, setting: Setting, optics: FarField, camera: AbstractCamera, *, key):
    """Records x, y [n, n] of one exposure carried photon by photon, electrons.

    ``exposure`` holds the pairs whose signal meets the sample; idlers whose signal was lost before it are added.
    """
    rng, time = numpy_generator(key, "camera"), setting.time
    u = rng.random((2, len(exposure.seen)))
    x = histogram(exposure.signal, np.asarray(exposure.seen) & (u[0] < float(optics.collection_transmission)), optics)
    y = histogram(exposure.idler, u[1] < float(optics.idler_transmission), optics)
    lone = optics.idler_transmission * jnp.maximum(setting.emitted - setting.incident, 0) * idler
    x = x + rng.poisson(float(optics.ambient * time), x.shape)
    y = y + rng.poisson(np.asarray(lone + optics.idler_ambient * time))
    return camera.sample(x, time, rng=rng), camera.sample(y, time, rng=rng)


def law(bench: Bench, k: str) -> LinearLaw:
    """Law of one exposure; the optimal k is refined by the transmission that the counts show."""
    equipment = (bench.images, bench.idler, bench.setting, bench.optics, bench.camera)
    records = expect(*equipment)
    cal = calibration(*equipment, k, bench.images.direct / bench.images.direct_open)

    def refined(counts):
        return calibration(*equipment, k, jnp.clip((counts - cal.background) / cal.gain, 0, 1))

    ledger = bench.pairs(jnp.sum(records.x - cal.background))
    return LinearLaw(ledger, records, cal, refined if k == "optimal" else None, bench.camera.saturation)


class TwinBeams(AbstractProtocol):
    """Sub-shot-noise absorption image with cameras in both arms."""

    carried = ("twin_beams",)

    def arms(self):
        against = direct.CAMERA.name, direct.IDEAL_CAMERA.name
        ours = [
            Arm(f"twin beams, {name}", partial(law, k=k), True, against, draws="twin_beams")
            for name, k in (("naive", "naive"), ("optimal k", "optimal"))
        ]
        return (*ours, direct.CAMERA, direct.IDEAL_CAMERA)

    def facts(self, bench):
        """F_nr = Var(x - y)/<x + y> of superpixels without object, background and read noise included.

        Definition of Samantaray et al., Light Sci. Appl. 6, e17005 (2017); heralding efficiency: part of the idler's
        light whose partner is detected in the same superpixel.
        """
        images = bench.images._replace(direct=bench.images.direct_open)
        records = expect(images, bench.idler, bench.setting, bench.optics, bench.camera)
        eta = response(bench.camera, bench.setting.time)
        both = eta**2 * bench.optics.collection_transmission * bench.optics.idler_transmission
        pairs = both * bench.setting.incident * bench.images.joint_open
        noise = records.x + records.y + records.noise_x + records.noise_y - 2 * pairs
        return {
            "noise_reduction_factor": (jnp.sum(noise) / jnp.sum(records.x + records.y), ""),
            "heralding_efficiency": (jnp.sum(pairs) / jnp.sum(records.y), ""),
        }
