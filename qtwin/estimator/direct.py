"""Direct image in coherent light: Poisson counts on the camera, the single-photon device, or an ideal detector."""

from functools import partial

import jax.numpy as jnp

from qtwin.detector import SinglePhoton
from qtwin.detector.camera import AbstractCamera
from qtwin.estimator.linear import Calibration, LinearLaw, Records, uncorrelated
from qtwin.estimator.protocol import Arm, Bench
from qtwin.estimator.response import beyond_poisson, recorded, response
from qtwin.estimator.setting import Setting
from qtwin.optics import FarField
from qtwin.tissue.images import Images


def expect(images: Images, setting: Setting, optics: FarField, detector) -> tuple[Records, Calibration]:
    """Moments and calibration; ``detector`` None is the ideal one: every accepted photon counts, no dark counts."""
    light, clear = images.direct * setting.incident, images.direct_open * setting.incident
    nothing, stray = jnp.zeros_like(light), jnp.broadcast_to(optics.ambient * setting.time, light.shape)
    if detector is None:
        return uncorrelated(light + stray), Calibration(stray, nothing, clear, nothing)
    light, clear = light * optics.collection_transmission + stray, clear * optics.collection_transmission
    if isinstance(detector, AbstractCamera):
        dark = detector.mean(stray, setting.time)
        gain = response(detector, setting.time) * clear
        return uncorrelated(*recorded(detector, light, setting.time)), Calibration(dark, nothing, gain, nothing)
    assert isinstance(detector, SinglePhoton)
    dark = detector.events(stray, setting.time)
    live = detector.live(light, setting.time)
    noise = beyond_poisson(detector, light, setting.time)
    records = uncorrelated(detector.events(light, setting.time) * live, noise)
    return records, Calibration(dark * live, nothing, detector.efficiency * clear * live, nothing)


def law(bench: Bench, detector) -> LinearLaw:
    """Law of one exposure on ``detector``: what is detected is counted above the background."""
    records, cal = expect(bench.images, bench.setting, bench.optics, detector)
    full = detector.saturation if isinstance(detector, AbstractCamera) else float("inf")
    return LinearLaw(bench.laser(jnp.sum(records.x - cal.background)), records, cal, full_well=full)


def on_camera(bench: Bench) -> LinearLaw:
    """Coherent light on the camera of the twin beams."""
    return law(bench, bench.camera)


def on_array(bench: Bench) -> LinearLaw:
    """Coherent light on an array of the single-photon detector."""
    return law(bench, bench.detector)


CAMERA = Arm("coherent, camera", on_camera, False, kind="coherent light on the same detector")
IDEAL_CAMERA = Arm("coherent, ideal camera", partial(law, detector=None), False, kind="an ideal detector")
ARRAY = Arm("coherent, single-photon array", on_array, False, kind="coherent light on the same detector")
IDEAL_ARRAY = Arm("coherent, ideal array", partial(law, detector=None), False, kind="an ideal detector")
