"""Sub-shot-noise absorption image: two cameras, one beam through the sample, the other as its noise reference.

Brida, Genovese & Ruo Berchera, Nat. Photonics 4, 227 (2010) subtract the counts (k = 1); the optimal k of Moreau
et al., Sci. Rep. 7, 6256 (2017) and Losero et al., Sci. Rep. 8, 7431 (2018) subtracts the part that is known.
"""

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.random import numpy_generator, stream
from qtwin.detector import Camera
from qtwin.estimator.linear import Calibration, Records, optimal_k
from qtwin.estimator.setting import Setting
from qtwin.optics import FarField
from qtwin.tissue.light_path import Exposure, Images


def expect(images: Images, idler, setting: Setting, optics: FarField, camera: Camera) -> Records:
    """Moments of signal counts x and mirrored idler counts y; ``idler`` is `LightPath.idler_image`."""
    eta_s = camera.efficiency * optics.collection_transmission
    eta_i = camera.efficiency * optics.idler_transmission
    dark = camera.dark_rate * setting.time
    x = eta_s * setting.incident * images.direct + dark
    y = eta_i * setting.emitted * idler + dark
    return Records(x, y, eta_s * eta_i * setting.incident * images.joint, camera.read_noise**2)


def calibration(
    images: Images, idler, setting: Setting, optics: FarField, camera: Camera, k: str, transmission
) -> Calibration:
    """Known beforehand: dark counts, idler mean, counts of a clear object, and k ('naive' 1, or 'optimal').

    The optimal k is that of a clear object times the ``transmission`` [n, n], which the experimenter takes from the
    mean of the direct counts (the error of that enters the variance only to second order).
    """
    eta_s = camera.efficiency * optics.collection_transmission
    eta_i = camera.efficiency * optics.idler_transmission
    dark = camera.dark_rate * setting.time
    y = eta_i * setting.emitted * idler + dark
    gain = eta_s * setting.incident * images.direct_open
    if k == "naive":
        factor = jnp.ones_like(y)
    else:
        factor = optimal_k(eta_s * eta_i * setting.incident * images.joint_open, y + camera.read_noise**2)
        factor = factor * transmission
    return Calibration(jnp.full_like(y, dark), y, gain, factor)


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


def record(exposure: Exposure, setting: Setting, optics: FarField, camera: Camera, *, key):
    """Counts x, y [n, n] of one exposure carried photon by photon, before dark and read noise are added.

    ``exposure`` holds the pairs whose signal meets the sample; see `noise` for the rest.
    """
    eta_s = float(camera.efficiency * optics.collection_transmission)
    eta_i = float(camera.efficiency * optics.idler_transmission)
    u = numpy_generator(key, "camera").random((2, len(exposure.seen)))
    x = histogram(exposure.signal, np.asarray(exposure.seen) & (u[0] < eta_s), optics)
    y = histogram(exposure.idler, u[1] < eta_i, optics)
    return x, y


def noise(idler, setting: Setting, optics: FarField, camera: Camera, *, key):
    """Counts added to x and y: dark, read noise, and idlers whose signal was lost before the sample."""
    n = (optics.pixels, optics.pixels)
    dark = camera.dark_rate * setting.time
    lone = camera.efficiency * optics.idler_transmission * (setting.emitted - setting.incident) * idler
    rates = jnp.stack([jnp.full(n, dark), dark + lone])
    counts = jax.random.poisson(stream(key, "dark"), rates).astype(rates.dtype)
    read = jax.random.normal(stream(key, "read"), (2, *n), rates.dtype) * camera.read_noise
    return np.asarray(counts + read)
