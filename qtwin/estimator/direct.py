"""Direct image in coherent light: Poisson counts on the camera, the single-photon device, or an ideal detector."""

import jax.numpy as jnp

from qtwin.detector import SinglePhoton
from qtwin.detector.camera import AbstractCamera
from qtwin.estimator.ghost import beyond_poisson
from qtwin.estimator.linear import Calibration, Records, uncorrelated
from qtwin.estimator.setting import Setting
from qtwin.estimator.twin_beams import recorded, response
from qtwin.optics import FarField
from qtwin.tissue.light_path import Images


def expect(images: Images, setting: Setting, optics: FarField, detector) -> tuple[Records, Calibration]:
    """Moments and calibration; ``detector`` None is the ideal one: every accepted photon counts, nothing else."""
    light, clear = images.direct * setting.incident, images.direct_open * setting.incident
    nothing = jnp.zeros_like(light)
    if detector is None:
        return uncorrelated(light), Calibration(nothing, nothing, clear, nothing)
    light, clear = light * optics.collection_transmission, clear * optics.collection_transmission
    if isinstance(detector, AbstractCamera):
        dark = detector.mean(nothing, setting.time)
        gain = response(detector, setting.time) * clear
        return uncorrelated(*recorded(detector, light, setting.time)), Calibration(dark, nothing, gain, nothing)
    assert isinstance(detector, SinglePhoton)
    dark = detector.dark_rate * setting.time
    live = detector.live(light, setting.time)
    noise = beyond_poisson(detector, light, setting.time)
    records = uncorrelated(detector.events(light, setting.time) * live, noise)
    return records, Calibration(dark * live, nothing, detector.efficiency * clear * live, nothing)
