"""Slabs, spheres and comparisons that the tests of polarised light share."""

import exact_polarised as exact
import numpy as np

from qtwin.tissue import Mie, Slab
from qtwin.tissue.mie import _amplitudes
from qtwin.tissue.tallies import Bins

ONE = ((exact.rayleigh, 1.0, 1.0),)
DIPOLES = ((exact.rayleigh, 2.1, 2 / 2.1),)
ELLIPTIC = np.array([1.0, 0.5, -0.4, 0.6])  # no component alone, none 0
BINS = Bins(radius=np.float64(0.02), time=np.float64(1e-9), rings=21, times=2, angles=4, depths=1)


def slab(**changes) -> Slab:
    return Slab(**({"thickness": 1e-3, "depth": 5e-4, "mu_a": 100.0, "mu_s": 2e3, "g": 0.0, "n": 1.0} | changes))


def sphere(n_medium=1.33, radius=1.2e-7) -> Mie:
    """Size parameter 2: S34 is large, and mixes U and V."""
    return Mie(radius=radius, wavelength=5e-7, n_sphere=1.59, n_medium=n_medium)


def amplitudes(mie: Mie):
    """S1, S2 as the oracle wants them."""
    solved = mie._solved()
    return lambda cosine: [s * np.sqrt(2 / solved.strength) for s in _amplitudes(solved.a, solved.b, cosine)]


def z(measured, truth):
    return (measured.value - truth) / np.where(measured.stderr > 0, measured.stderr, 1e-12)


def by_angle(layers, stokes, mu0=1.0, n=1.0):
    return exact.by_angle(layers, stokes, BINS.angles, mu0, n)


def agrees(result, truth, limit=4.5):
    """Every Fourier coefficient of every Stokes parameter in every bin of both sides; a chi-square over all of them."""
    scores = np.stack([z(result.angle_reflected, truth[0]), z(result.angle_transmitted, truth[1])])
    real = np.stack([result.angle_reflected.stderr, result.angle_transmitted.stderr]) > 1e-9
    many = real.sum()
    assert np.all(
        np.abs(np.stack([result.angle_reflected.value, result.angle_transmitted.value]) - truth)[~real] < 1e-9
    )
    assert np.abs(scores[real]).max() < limit
    # of Student's t with 31 degrees of freedom: variance 31/29
    assert abs(np.mean(scores[real] ** 2) - 31 / 29) < 5 * np.sqrt(2.4 / many)
    return scores
