"""The arms of the benchmark: which light, which record, which estimator, against whom."""

from dataclasses import dataclass

import jax.numpy as jnp

from qtwin.estimator import direct
from qtwin.estimator.linear import Calibration, Records
from qtwin.tissue.light_path import Images
from qtwin.twin import Expectation, Twin


@dataclass(frozen=True)
class Arm:
    """One row of the table."""

    name: str
    family: str  # the protocol it belongs to, or opposes
    estimator: str  # naive, optimal, coincidences, ratio, direct
    ideal: bool = False
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

    def device(self, twin: Twin):
        """Detector of a coherent arm; None is the ideal one."""
        return None if self.ideal else twin.camera if self.family == "twin_beams" else twin.detector

    def law(self, twin: Twin, images: Images, photons) -> tuple[Records, Calibration]:
        """Moments and calibration at ``photons`` per superpixel and exposure."""
        expectation = twin.moments(images, jnp.asarray(photons, images.direct.dtype))
        if not self.quantum:
            return direct.expect(images, expectation.setting, twin.optics, self.device(twin))
        return getattr(expectation, self.family), twin.calibration(self.estimator, expectation)

    def budget(self, twin: Twin, expectation: Expectation, match: str) -> float:
        """Photons of this arm over the quantum arm's, so that the matched side of the ledger is equal."""
        if self.quantum or match == "incident":
            return 1.0
        device = twin.detector if self.family == "ghost" else twin.camera
        own = 1.0 if self.ideal else float(device.efficiency * twin.optics.collection_transmission)
        return float(device.efficiency * twin.optics.collection_transmission) / own


FAMILIES = {
    "twin_beams": (
        ("twin beams, naive", "naive"),
        ("twin beams, optimal k", "optimal"),
        ("coherent, camera", "coherent, ideal camera"),
    ),
    "ghost": (
        ("heralded, coincidences", "coincidences"),
        ("heralded, with idler singles", "ratio"),
        ("coherent, single-photon array", "coherent, ideal array"),
    ),
}


def arms_of(protocols) -> tuple[Arm, ...]:
    """Quantum arms of every protocol, then its coherent opponents: the same detector, and the ideal one."""
    arms = []
    for family in protocols:
        *quantum, (same, ideal) = FAMILIES[family]
        arms += [Arm(name, family, estimator, opponents=(same, ideal)) for name, estimator in quantum]
        arms += [Arm(same, family, "direct"), Arm(ideal, family, "direct", ideal=True)]
    return tuple(arms)
