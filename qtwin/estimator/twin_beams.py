"""Sub-shot-noise absorption image: two cameras, one beam through the sample, the other as its noise reference.

Brida, Genovese & Ruo Berchera, Nat. Photonics 4, 227 (2010) subtract the counts (k = 1); the optimal k of Moreau
et al., Sci. Rep. 7, 6256 (2017) and Losero et al., Sci. Rep. 8, 7431 (2018) subtracts the part that is known.
"""

import jax.numpy as jnp
import numpy as np

from qtwin.core.random import numpy_generator
from qtwin.detector.camera import AbstractCamera
from qtwin.estimator.linear import Calibration, Records, optimal_k
from qtwin.estimator.setting import Setting
from qtwin.optics import FarField
from qtwin.tissue.light_path import Exposure, Images


def expect(images: Images, idler, setting: Setting, optics: FarField, camera: AbstractCamera) -> Records:
    """Moments of signal counts x and mirrored idler counts y; ``idler`` is `LightPath.idler_image`."""
    light = optics.collection_transmission * setting.incident * images.direct
    lone = optics.idler_transmission * setting.emitted * idler
    (x, noise_x), (y, noise_y) = (recorded(camera, photons, setting.time) for photons in (light, lone))
    both = optics.collection_transmission * optics.idler_transmission * response(camera, setting.time) ** 2
    return Records(x, y, both * setting.incident * images.joint, noise_x, noise_y)


def response(camera: AbstractCamera, time):
    """Electrons per photon: every camera is linear below its full well."""
    return camera.mean(jnp.ones_like(time), time) - camera.mean(jnp.zeros_like(time), time)


def recorded(camera: AbstractCamera, photons, time):
    """(mean, variance beyond Poisson's) of a record, electrons; elementwise."""
    mean = camera.mean(photons, time)
    return mean, camera.variance(photons, time) - mean


def calibration(
    images: Images, idler, setting: Setting, optics: FarField, camera: AbstractCamera, k: str, transmission
) -> Calibration:
    """Known beforehand: dark counts, idler mean, counts of a clear object, and k ('naive' 1, or 'optimal').

    The optimal k is that of a clear object times the ``transmission`` [n, n], which the experimenter takes from the
    mean of the direct counts (the error of that enters the variance only to second order).
    """
    eta = response(camera, setting.time)
    eta_s, eta_i = eta * optics.collection_transmission, eta * optics.idler_transmission
    y, noise = recorded(camera, optics.idler_transmission * setting.emitted * idler, setting.time)
    gain = eta_s * setting.incident * images.direct_open
    if k == "naive":
        factor = jnp.ones_like(y)
    else:
        factor = optimal_k(eta_s * eta_i * setting.incident * images.joint_open, y + noise)
        factor = factor * transmission
    dark = camera.mean(jnp.zeros_like(y), setting.time)
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
    y = y + rng.poisson(np.asarray(lone))
    return camera.sample(x, time, rng=rng), camera.sample(y, time, rng=rng)
