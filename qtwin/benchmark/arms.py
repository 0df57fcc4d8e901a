"""The arms of the benchmark: which light, which record, which estimator, against whom."""

from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp

from qtwin.detector import SinglePhoton
from qtwin.estimator import direct, ghost
from qtwin.estimator.linear import Calibration, Records
from qtwin.estimator.twin_beams import response
from qtwin.tissue.light_path import Images
from qtwin.twin import Expectation, Twin


class Family(NamedTuple):
    """Arms of one protocol: quantum name -> estimator, kind of opponent -> name."""

    quantum: dict[str, str]
    opponents: dict[str, str]


FAMILIES = {
    "twin_beams": Family(
        {"twin beams, naive": "naive", "twin beams, optimal k": "optimal"},
        {"same": "coherent, camera", "ideal": "coherent, ideal camera"},
    ),
    "ghost": Family(
        {"heralded, coincidences": "coincidences", "heralded, with idler singles": "ratio"},
        {
            "same": "coherent, single-photon array",
            "gated": "coherent, gated array",
            "ideal": "coherent, ideal array",
        },
    ),
}


def gated(twin: Twin, expectation: Expectation) -> SinglePhoton:
    """The single-photon device of a pulsed laser, gated as the heralded arm is.

    One gate of the coincidence window per bucket click: as little dark time, and the part of the light that its own
    jitter leaves inside the gate.
    """
    images, setting = expectation.images, expectation.setting
    light = ghost.accepted_light(images)
    args = (setting, twin.optics, twin.detector, twin.correlation)
    open_part = ghost.clicks(light, images.ghost, expectation.idler, *args).chance
    jitter, tail = twin.detector.jitter, twin.detector.jitter_tail
    kept = twin.correlation.capture(jitter, jnp.zeros_like(jitter), tail)
    values = (twin.detector.dark_rate * jnp.minimum(open_part, 1), twin.detector.efficiency * kept)
    return eqx.tree_at(lambda d: (d.dark_rate, d.efficiency), twin.detector, values)


@dataclass(frozen=True)
class Arm:
    """One row of the table."""

    name: str
    family: str  # the protocol it belongs to, or opposes
    estimator: str  # naive, optimal, coincidences, ratio, direct
    kind: str = "same"  # of a coherent arm: same, gated or ideal detector
    opponents: tuple[str, ...] = ()

    @property
    def quantum(self) -> bool:
        return self.estimator != "direct"

    @property
    def spread(self) -> str:
        """Which point spread forms its mean image."""
        return "ghost" if self.family == "ghost" and self.quantum else "direct"

    @property
    def draw_key(self) -> str:
        """Arms with the same key read the same exposures."""
        return self.family if self.quantum else self.name

    def device(self, twin: Twin, expectation: Expectation):
        """Detector of a coherent arm; None is the ideal one."""
        if self.kind == "ideal":
            return None
        if self.kind == "gated":
            return gated(twin, expectation)
        return twin.camera if self.family == "twin_beams" else twin.detector

    def law(self, twin: Twin, images: Images, photons) -> tuple[Records, Calibration]:
        """Moments and calibration at ``photons`` per superpixel and exposure."""
        expectation = twin.moments(images, jnp.asarray(photons, images.direct.dtype))
        if not self.quantum:
            return direct.expect(images, expectation.setting, twin.optics, self.device(twin, expectation))
        return getattr(expectation, self.family), twin.calibration(self.estimator, expectation)

    def measured(self, twin: Twin, expectation: Expectation, x, cal: Calibration) -> Calibration:
        """The calibration with k from the transmission that the counts ``x`` [K, n, n] show, not the expected one."""
        if self.estimator not in ("optimal", "ratio"):
            return cal
        seen = jnp.clip((jnp.mean(x, axis=0) - cal.background) / cal.gain, 0, 1)
        return twin.calibration(self.estimator, expectation, seen)

    def budget(self, twin: Twin, expectation: Expectation, match: str) -> float:
        """Photons of this arm over the quantum arm's, so that the matched side of the ledger is equal."""
        if self.quantum or match == "incident":
            return 1.0
        if self.kind != "ideal":
            return 1.0
        if self.family == "ghost":
            return float(twin.detector.efficiency * twin.optics.collection_transmission)
        return float(response(twin.camera, expectation.setting.time) * twin.optics.collection_transmission)


def arms_of(protocols) -> tuple[Arm, ...]:
    """Quantum arms of every protocol, then its coherent opponents."""
    arms = []
    for name in protocols:
        family = FAMILIES[name]
        against = tuple(family.opponents.values())
        arms += [Arm(arm, name, estimator, opponents=against) for arm, estimator in family.quantum.items()]
        arms += [Arm(arm, name, "direct", kind) for kind, arm in family.opponents.items()]
    return tuple(arms)
