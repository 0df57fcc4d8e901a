"""How detectors answer to light: means and what their noise has beyond Poisson's."""

import jax.numpy as jnp

from qtwin.detector import SinglePhoton
from qtwin.detector.camera import AbstractCamera


def response(camera: AbstractCamera, time):
    """Electrons per photon: every camera is linear below its full well."""
    return camera.mean(jnp.ones_like(time), time) - camera.mean(jnp.zeros_like(time), time)


def recorded(camera: AbstractCamera, photons, time):
    """(mean, variance beyond Poisson's) of a record, electrons; elementwise."""
    mean = camera.mean(photons, time)
    return mean, camera.variance(photons, time) - mean


def beyond_poisson(device: SinglePhoton, photons, time):
    """Variance of the clicks above their mean, by afterpulses; 0 where dead time makes them steadier than Poisson's."""
    if device.afterpulsing is None:
        return jnp.zeros((), photons.dtype)
    mean = device.events(photons, time) * device.live(photons, time)
    return jnp.maximum(device.variance(photons, time) - mean, 0)
