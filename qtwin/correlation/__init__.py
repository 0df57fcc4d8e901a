"""Correlation of records."""

from qtwin.correlation.coincidence import Coincidence as Coincidence
