"""Detectors: from photons to counts."""

from qtwin.detector.camera import Camera as Camera
from qtwin.detector.single_photon import SinglePhoton as SinglePhoton
