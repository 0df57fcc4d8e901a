"""Imaging protocols: from records to an image with its uncertainty, each with its opponents."""

from qtwin.estimator.ghost import Ghost
from qtwin.estimator.joint_probability import JointProbability
from qtwin.estimator.quantum_illumination import QuantumIllumination
from qtwin.estimator.thermal_ghost import ThermalGhost
from qtwin.estimator.time_tagged import TimeTagged
from qtwin.estimator.twin_beams import TwinBeams
from qtwin.estimator.undetected import Undetected

__all__ = [
    "Ghost",
    "JointProbability",
    "QuantumIllumination",
    "ThermalGhost",
    "TimeTagged",
    "TwinBeams",
    "Undetected",
]
