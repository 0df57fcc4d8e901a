"""A bench without scattering on 3 x 3 superpixels: every pair meets one of them in both arms."""

import jax.numpy as jnp

from qtwin.correlation import Coincidence
from qtwin.detector import SinglePhoton
from qtwin.detector.camera import Camera
from qtwin.estimator.protocol import Bench
from qtwin.estimator.setting import Setting
from qtwin.optics import FarField
from qtwin.source import SPDC
from qtwin.tissue import Slab
from qtwin.tissue.images import Images

N, PITCH = 3, 1e-4
T = jnp.asarray([[0.95, 0.9, 0.5], [0.7, 1.0, 0.3], [0.85, 0.95, 0.6]])
LIGHT = jnp.asarray([[0.1, 0.12, 0.08], [0.11, 0.2, 0.09], [0.1, 0.13, 0.07]])
SOURCE = SPDC("405 nm", "810 nm", "0.5 mm", "2 mm", "3 mW", "10 nm", "25 degC", 1.0)
TISSUE = Slab("20 um", "10 um", 0.0, 0.0, 0.5, 1.0)


def bench(transmission=T, eta=0.9, incident=1e6, time=0.05, device=None, **optics) -> Bench:
    """Every pair meets one superpixel in both arms; what the object lets through is detected there."""
    given = jnp.asarray(transmission) * jnp.ones((N, N))
    light = LIGHT * given
    joint = jnp.zeros((3, 3, N, N)).at[1, 1].set(light)
    everywhere = jnp.sum(LIGHT)
    spread = jnp.zeros((15, 15)).at[7, 7].set(everywhere)
    nothing = jnp.zeros(())
    images = Images(light, LIGHT, joint, LIGHT, light, LIGHT, spread, spread, everywhere, nothing, nothing)
    numbers = (jnp.asarray(v) for v in (incident, incident, time))
    return Bench(
        SOURCE,
        FarField("100 mm", 0.4, PITCH, 1.0, 1.0, 1.0, pixels=N, **optics),
        TISSUE,
        Camera(efficiency=eta, read_noise=0.0, dark_rate=0.0, full_well=1e7),
        device or SinglePhoton(efficiency=eta, dark_rate=0.0, dead_time=0.0, jitter=0.0),
        Coincidence("1 ns"),
        images,
        LIGHT,
        given,
        Setting(*numbers),
    )
