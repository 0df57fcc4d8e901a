"""What every imaging protocol shows to the comparison: its arms, and of every arm the law of one exposure.

A protocol is an element: one module here, one YAML of the same name in conf/estimator. Its arms are what it proposes
and the opponents of each, all of which estimate the same image: the intensity transmission.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from qtwin.core.params import Element
from qtwin.correlation import Coincidence
from qtwin.detector import SinglePhoton
from qtwin.detector.camera import AbstractCamera
from qtwin.estimator.setting import Setting
from qtwin.optics import FarField
from qtwin.source import SPDC
from qtwin.source.sellmeier import LIGHT
from qtwin.source.states import PLANCK
from qtwin.tissue import Slab
from qtwin.tissue.images import Images


class Bench(NamedTuple):
    """What an arm is given: the equipment, the light through it, the object and the size of one exposure."""

    source: SPDC
    optics: FarField
    tissue: Slab
    camera: AbstractCamera
    detector: SinglePhoton
    correlation: Coincidence
    images: Images  # without block axis
    idler: jax.Array  # [n, n] part of the emitted pairs whose idler meets the superpixel
    object: jax.Array  # [n, n] transmission of the object, mean over each superpixel
    setting: Setting

    def pairs(self, detected, photons=1.0) -> "Ledger":
        """Ledger of a pair source of which ``photons`` of every pair meet the sample."""
        s = self.setting
        return Ledger(photons * s.incident, detected, self.source.pump_power * s.time, s.time)

    def laser(self, detected) -> "Ledger":
        """Ledger of a laser of the signal's wavelength and flux behind the same optics: the energy is its light's."""
        s = self.setting
        energy = PLANCK * LIGHT / self.source.signal_wavelength * s.incident / self.optics.illumination_transmission
        return Ledger(s.incident, detected, energy, s.time)


class Ledger(NamedTuple):
    """Of one exposure, expected; [] each."""

    incident: jax.Array  # photons that meet the sample; both of a pair where both cross it, heralded or not
    detected: jax.Array  # photons counted behind the sample, dark counts not
    pump: jax.Array  # J, energy of the light that drives the source, for a laser that of its own light
    time: jax.Array  # s


class Drawn(NamedTuple):
    """Independent exposures."""

    estimates: np.ndarray  # [exposures, n, n] transmission
    counts: np.ndarray  # [exposures, n, n] what was recorded of the light behind the sample


class AbstractLaw(eqx.Module):
    """One arm's estimates of the transmission in one exposure, read as moments and as draws.

    ``mean`` and ``variance`` are traced; ``covariance`` and ``fourth`` are NumPy's and read once.
    """

    ledger: eqx.AbstractVar[Ledger]

    @abstractmethod
    def mean(self) -> jax.Array:
        """Mean estimate, [n, n]."""

    @abstractmethod
    def variance(self) -> jax.Array:
        """Variance of an estimate, [n, n]."""

    @abstractmethod
    def covariance(self) -> np.ndarray | sparse.csr_matrix:
        """Covariance of the estimates of all superpixels, [n^2, n^2]."""

    @abstractmethod
    def fourth(self, energy: np.ndarray) -> float:
        """sum_a e_a^2 kappa_4(T_a), kappa_4 the fourth cumulant of an estimate, 0 for normal noise.

        ``energy`` e [n^2]: what a squared deviation of each superpixel weighs.
        """

    @abstractmethod
    def draw(self, exposures: int, *, key) -> Drawn:
        """Independent exposures."""

    def load(self) -> jax.Array:
        """Largest mean record over what the detector holds, []: above 1 the law no longer holds."""
        return jnp.zeros_like(self.ledger.time)


@dataclass(frozen=True)
class Arm:
    """One row of the table."""

    name: str
    law: Callable[[Bench], AbstractLaw]
    quantum: bool
    opponents: tuple[str, ...] = ()  # whom it is compared with; an opponent has none
    kind: str = ""  # of an opponent, in words after "against": "coherent light on the same detector"
    spread: str = "direct"  # which point spread forms its mean image; images of different ones are made alike first
    draws: str = ""  # arms with the same word read the same exposures


class AbstractProtocol(Element):
    """An imaging protocol: its proposals, best estimator last, then their opponents."""

    limits: ClassVar[tuple[str, ...]] = ()  # in words, for the report
    carried: ClassVar[tuple[str, ...]] = ("twin_beams", "ghost")  # records of the carried exposure that it rests on

    @abstractmethod
    def arms(self) -> tuple[Arm, ...]:
        """Names are unique among all protocols; arms that share a name (a common opponent) share its law."""

    def facts(self, bench: Bench) -> dict[str, tuple[jax.Array, str]]:
        """What a laboratory watches: name -> (value, SI unit)."""
        return {}
