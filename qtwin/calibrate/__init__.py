"""Calibration: which parameters of a model explain what was measured, how surely, and what the data cannot tell."""
