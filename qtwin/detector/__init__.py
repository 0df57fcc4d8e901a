"""Detectors: from photons to counts."""

from qtwin.detector.afterpulsing import Exponentials as Exponentials
from qtwin.detector.afterpulsing import PowerLaw as PowerLaw
from qtwin.detector.afterpulsing import Tabulated as Tabulated
from qtwin.detector.camera import Camera as Camera
from qtwin.detector.crosstalk import PixelArray as PixelArray
from qtwin.detector.single_photon import Gate as Gate
from qtwin.detector.single_photon import SinglePhoton as SinglePhoton
from qtwin.detector.tdc import TDC as TDC
