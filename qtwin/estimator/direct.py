"""Direct image in coherent light: Poisson counts on the camera, the single-photon device, or an ideal detector."""

import jax.numpy as jnp

from qtwin.detector import Camera, SinglePhoton
from qtwin.estimator.linear import Calibration, Records, uncorrelated
from qtwin.estimator.setting import Setting
from qtwin.optics import FarField
from qtwin.tissue.light_path import Images


def expect(images: Images, setting: Setting, optics: FarField, detector) -> tuple[Records, Calibration]:
    """Moments and calibration; ``detector`` None is the ideal one: every accepted photon counts, nothing else."""
    light, clear = images.direct * setting.incident, images.direct_open * setting.incident
    nothing = jnp.zeros_like(light)
    if detector is None:
        return uncorrelated(light), Calibration(nothing, nothing, clear, nothing)
    light, clear = light * optics.collection_transmission, clear * optics.collection_transmission
    dark = detector.dark_rate * setting.time
    if isinstance(detector, Camera):
        records = uncorrelated(detector.mean(light, setting.time), detector.read_noise**2)
        return records, Calibration(nothing + dark, nothing, detector.efficiency * clear, nothing)
    assert isinstance(detector, SinglePhoton)
    live = detector.live(light, setting.time)
    records = uncorrelated(detector.events(light, setting.time) * live)
    return records, Calibration(dark * live, nothing, detector.efficiency * clear * live, nothing)
