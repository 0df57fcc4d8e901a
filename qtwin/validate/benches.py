"""Evidence on whole protocols: their laws and draws on a bench so small that closed forms are known."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.config import build, compose, plain
from qtwin.core.records import Estimate
from qtwin.correlation import Coincidence
from qtwin.detector import Camera, SinglePhoton
from qtwin.estimator.centroid import Centroid
from qtwin.estimator.protocol import AbstractLaw, AbstractProtocol, Bench
from qtwin.estimator.quantum_illumination import QuantumIllumination
from qtwin.estimator.setting import Setting
from qtwin.estimator.thermal_ghost import ThermalGhost
from qtwin.metrics.advantage import Interval, advantage, pooled_cost, pooling, smoothing
from qtwin.optics import FarField
from qtwin.source import SPDC
from qtwin.tissue import Slab
from qtwin.tissue.images import Images
from qtwin.validate.pieces import element

SIDE, PITCH = 3, 1e-4
NEAR = ("405 nm", "810 nm", "0.5 mm", "2 mm", "3 mW", "10 nm", "25 degC", 1.0)
INFRARED = ("532 nm", "3.42 um", "2 mm", "1 mm", "100 mW", "50 nm", "50 degC")


def bench(
    transmission=1.0,
    eta_s: float = 1.0,
    eta_i: float = 1.0,
    incident: float = 1e4,
    seconds: float = 1.0,
    ambient: float = 0.0,
    idler_ambient: float = 0.0,
    infrared: bool = False,
) -> Bench:
    """Nine evenly lit superpixels without scattering; every pair meets one of them in both arms.

    ``transmission`` of the object: a number, or [3, 3]. Detectors count all; ``eta_s`` and ``eta_i`` are of the optics
    before them. ``ambient``: background over the mean counts of a clear superpixel, in the signal's and the idler's
    arm. ``infrared``: pairs of 630 nm and 3.42 um, the latter on the sample, instead of 810 nm.
    """
    shape = (SIDE, SIDE)
    through = jnp.asarray(transmission, float) * jnp.ones(shape)
    clear = jnp.full(shape, 1 / SIDE**2)
    seen, nothing, all_of_it = clear * through, jnp.zeros(()), jnp.ones(())
    joint, spread = jnp.zeros((3, 3, *shape)).at[1, 1].set(seen), jnp.zeros((15, 15)).at[7, 7].set(1.0)
    images = Images(seen, clear, joint, clear, seen, clear, spread, spread, all_of_it, nothing, nothing)
    ledge = incident / SIDE**2 / seconds
    optics = {"ambient": ambient * ledge * eta_s, "idler_ambient": idler_ambient * ledge * eta_i, "pixels": SIDE}
    poled = {"crystal": "MgO:LiNbO3", "rays": "zzz", "order": 1}
    return Bench(
        element(SPDC, *INFRARED, **poled) if infrared else element(SPDC, *NEAR),
        element(FarField, "100 mm", 0.4, PITCH, 1.0, eta_s, eta_i, **optics),
        element(Slab, "20 um", "10 um", 0.0, 0.0, 0.5, 1.0),
        element(Camera, 1.0, 0.0, 0.0, 1e9),
        element(SinglePhoton, 1.0, 0.0, 0.0, 0.0),
        element(Coincidence, "10 ps"),
        images,
        clear,
        through,
        Setting(*(jnp.asarray(v, float) for v in (incident, incident, seconds))),
    )


def configured_protocol(name: str) -> AbstractProtocol:
    """An imaging protocol as its option has it."""
    return build(plain(compose([f"estimator={name}"])["estimator"])[name], f"estimator.{name}")


def _laws(protocol: AbstractProtocol, names: tuple[str, str], at: Bench) -> list[AbstractLaw]:
    laws = {arm.name: arm.law for arm in protocol.arms()}
    return [laws[name](at) for name in names]


def gain(protocol: AbstractProtocol, arm: str, opponent: str, per: str = "incident", **set_up: Any) -> float:
    """What the opponent needs for equal variance over what the arm needs, by the entry ``per`` of the ledger.

    Both laws are read on `bench` (``set_up``), and their variances fall as one over the photons.
    """
    costs = [
        float(jnp.mean(law.variance()) * getattr(law.ledger, per))
        for law in _laws(protocol, (arm, opponent), bench(**set_up))
    ]
    return costs[1] / costs[0]


def drawn_gain(
    protocol: AbstractProtocol, arm: str, opponent: str, exposures: int, seed: int = 0, **set_up: Any
) -> Interval:
    """The same from drawn exposures of as many incident photons: an interval by the law of F."""
    weights, costs = np.ones((SIDE, SIDE)) / SIDE**2, []
    for number, law in enumerate(_laws(protocol, (arm, opponent), bench(**set_up))):
        found = law.draw(exposures, key=jax.random.fold_in(jax.random.key(seed), number))
        costs.append(pooled_cost(found.estimates, weights, pooling(law, weights, smoothing(None, SIDE))))
    return advantage(costs[1], costs[0])


def differential_gain(transmission, frames: int) -> float:
    """SNR of the differential over the covariance image of an object [3, 3] in bright speckle."""
    protocol = element(ThermalGhost, 1.0, 1e6, frames)
    names = "thermal ghost, covariance", "thermal ghost, differential"
    laws = _laws(protocol, names, bench(transmission, incident=1e12))
    plain_image, better = (float(jnp.mean(law.variance())) for law in laws)
    return float(np.sqrt(plain_image / better))


def illumination(signal: float, background: float) -> Mapping[str, float]:
    """Exponents of the protocol's receivers over coherent light's Chernoff bound, dB, for a weak object."""
    made = element(QuantumIllumination, signal, background, 0.01, 1.0, 1.0, "1 THz")
    return {name: float(value) for name, value in made.exponents(jnp.asarray(1e-6)).decibel()._asdict().items()}


def drawn_centroids(state: str, photons: int, count: int, efficiency: float = 1.0, seed: int = 0):
    """width: std of the centroids over one photon's; rate: part of the states that arrive complete."""
    made = element(Centroid, "1 um", 1.0, efficiency, photons=photons, state=state)
    arrivals = made.sample(count, key=jax.random.key(seed))
    x = np.asarray(arrivals.centroids(), float) * 1e6
    width, rate = x.std(), x.size / count
    return {
        "width": Estimate(float(width), float(width / np.sqrt(2 * x.size))),
        "rate": Estimate(float(rate), float(np.sqrt(rate * (1 - rate) / count))),
    }
