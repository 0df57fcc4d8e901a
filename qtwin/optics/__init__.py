"""Optics between source, sample and detectors."""

from qtwin.optics.far_field import FarField as FarField
