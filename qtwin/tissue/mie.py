"""Scattering by a sphere of any size. The coefficients come from miepython, imported when first needed."""

from functools import lru_cache
from typing import ClassVar, NamedTuple

import jax
import numpy as np
from numpy.polynomial import legendre
from scipy.special import roots_legendre

from qtwin.core.errors import FieldError, UserError
from qtwin.core.params import index, is_concrete, param, positive
from qtwin.core.units import show
from qtwin.tissue.inverse_table import quantile
from qtwin.tissue.phase_functions import AbstractPhaseFunction, on_host

SMALLEST, LARGEST = 1e-4, 2000.0  # size parameters


class Sphere(NamedTuple):
    """What Mie's series says of a sphere; N orders n = 1 .. N, truncated by Wiscombe, Appl. Opt. 19, 1505 (1980)."""

    a: np.ndarray  # [N] complex, electric coefficients
    b: np.ndarray  # [N] magnetic ones
    strength: float  # sum of (2 n + 1)(|a|^2 + |b|^2): integral of (|S1|^2 + |S2|^2)/2 over the cosine
    moments: np.ndarray  # [2 N + 1] Legendre moments of the density; number 1 is g
    cumulative: np.ndarray  # Legendre coefficients of F


def _amplitudes(a, b, cosine):
    """S1, S2 = sum (2 n + 1)/(n (n + 1)) (a pi + b tau), (a tau + b pi): Bohren & Huffman (4.74), (4.47)."""
    now, before = np.ones_like(cosine), np.zeros_like(cosine)  # pi_n and pi_(n-1)
    s1, s2 = np.zeros(cosine.shape, complex), np.zeros(cosine.shape, complex)
    for n, (an, bn) in enumerate(zip(a, b, strict=True), 1):
        tau = n * cosine * now - (n + 1) * before
        weight = (2 * n + 1) / (n * (n + 1))
        s1 += weight * (an * now + bn * tau)
        s2 += weight * (an * tau + bn * now)
        now, before = ((2 * n + 1) * cosine * now - (n + 1) * before) / n, now
    return s1, s2


@lru_cache(maxsize=64)
def _sphere(m: float, x: float) -> Sphere:
    """Relative index and size parameter -> series. Raises UserError where miepython is missing."""
    try:
        import miepython
    except ImportError as error:
        raise UserError("Mie scattering needs the library miepython: pip install -e '.[mie]'") from error
    a, b = miepython.coefficients(m, x)
    n = np.arange(1, len(a) + 1)
    strength = float(np.sum((2 * n + 1) * (np.abs(a) ** 2 + np.abs(b) ** 2)))
    cosine, weight = roots_legendre(2 * len(a) + 1)  # exact for moments of a density of degree 2 N
    s1, s2 = _amplitudes(a, b, cosine)
    density = (np.abs(s1) ** 2 + np.abs(s2) ** 2) / (2 * strength)
    moments = np.empty(2 * len(a) + 1)
    before, now = np.zeros_like(cosine), weight * density  # w p P_(l-1) and w p P_l
    for degree in range(len(moments)):
        moments[degree] = np.sum(now)
        before, now = now, ((2 * degree + 1) * cosine * now - degree * before) / (degree + 1)
    series = moments * (2 * np.arange(len(moments)) + 1) / 2
    return Sphere(a, b, strength, moments, legendre.legint(series, lbnd=-1))


class Mie(AbstractPhaseFunction):
    """p(c) = (|S1|^2 + |S2|^2) / (2 sum (2 n + 1)(|a_n|^2 + |b_n|^2)): a homogeneous sphere, natural light.

    Bohren & Huffman, Absorption and Scattering of Light by Small Particles (Wiley 1983), (4.53), (4.61), (4.74).
    Size parameter x = 2 pi n_medium radius/wavelength. Neither sphere nor medium absorbs. Computed on the host in
    float64: not differentiable, not inside jit.

    Raises FieldError of a field that is not accepted, of equal indices (nothing scatters), of a size parameter outside
    1e-4 to 2000; UserError where miepython is missing (pip install -e '.[mie]').
    """

    table_size: ClassVar[int] = 16384  # a forward peak leaves few cells to large angles

    radius: jax.Array = param("m", positive, "radius of the sphere")
    wavelength: jax.Array = param("m", positive, "wavelength in vacuum")
    n_sphere: jax.Array = param("", index, "refractive index of the sphere")
    n_medium: jax.Array = param("", index, "refractive index around it")

    def check(self):
        fields = (self.radius, self.wavelength, self.n_sphere, self.n_medium)
        if not all(is_concrete(value) for value in fields):
            return
        if self.n_sphere == self.n_medium:
            raise FieldError("n_sphere", f"got {float(self.n_sphere):g}, the index of the medium: nothing scatters")
        x = float(self.size_parameter())
        if not SMALLEST <= x <= LARGEST:
            given = f"got {show(float(self.radius), 'm')}, size parameter {x:.3g}"
            raise FieldError("radius", f"{given}, accepted is one from {SMALLEST:g} to {LARGEST:g}; a unit?")

    def size_parameter(self):
        """x = 2 pi n_medium radius/wavelength."""
        return 2 * np.pi * self.n_medium * self.radius / self.wavelength

    def _solved(self) -> Sphere:
        radius, wavelength = on_host(self, "radius"), on_host(self, "wavelength")
        sphere, medium = on_host(self, "n_sphere"), on_host(self, "n_medium")
        return _sphere(float(sphere / medium), float(2 * np.pi * medium * radius / wavelength))

    def cross_section(self) -> float:
        """C = wavelength^2/(2 pi n_medium^2) sum (2 n + 1)(|a_n|^2 + |b_n|^2), m^2; mu_s is C per volume of one sphere.

        Bohren & Huffman (4.61).
        """
        k = 2 * np.pi * float(on_host(self, "n_medium")) / float(on_host(self, "wavelength"))
        return 2 * np.pi * self._solved().strength / k**2

    def density(self, cosine) -> np.ndarray:
        return self.mueller(cosine)[0]

    def cumulative(self, cosine) -> np.ndarray:
        """From the Legendre series of p, which for a truncated Mie series is finite and so exact."""
        return legendre.legval(np.asarray(cosine, float), self._solved().cumulative)

    def sample(self, u) -> np.ndarray:
        """Exact and slow: a root of F(c) = u for each u. The walk reads the table."""
        return quantile(self, u)

    def mean_cosine(self) -> float:
        return float(self._solved().moments[1])

    def mueller(self, cosine):
        """(S11, S12, S33, S34), S11 the density; S22 = S11, S44 = S33 (Bohren & Huffman (4.77)), float64.

        Signs of Bohren & Huffman, fields exp(-i omega t): S12 = (|S2|^2 - |S1|^2)/2, S33 + i S34 = S2 S1*.
        """
        sphere = self._solved()
        s1, s2 = _amplitudes(sphere.a, sphere.b, np.asarray(cosine, float))
        one, two, both = np.abs(s1) ** 2, np.abs(s2) ** 2, s2 * np.conj(s1)
        rows = ((two + one) / 2, (two - one) / 2, both.real, both.imag)
        return tuple(row / sphere.strength for row in rows)
