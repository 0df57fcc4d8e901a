"""Laws of a single scattering, each as density, as sampler and as table for the walk.

Every law has, for c = cos(theta) in [-1, 1], averaged over polarisation and azimuth:

    density(c)        p(c), with integral 1 over [-1, 1] (p/(2 pi) is per steradian)
    cumulative(c)     F(c), the integral of p from -1 to c; float64 on the host
    sample(u)         a cosine of density p from u uniform on (0, 1)
    mean_cosine()     g, the integral of c p(c)
    table(size)       quantiles for the walk: `qtwin.tissue.inverse_table`

`Mie` and `Tabulated` have files of their own.
"""

from abc import abstractmethod
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import FieldError
from qtwin.core.params import Element, anisotropy, is_concrete, param
from qtwin.core.params import fraction as zero_to_one
from qtwin.tissue import phase
from qtwin.tissue.inverse_table import inverse_table


class AbstractPhaseFunction(Element):
    """A law of scattering by angle. Elementwise: an array of any shape gives an array of that shape."""

    table_size: ClassVar[int] = 4096

    @abstractmethod
    def density(self, cosine):
        """p(c), per unit of cosine."""

    @abstractmethod
    def cumulative(self, cosine) -> np.ndarray:
        """F(c), float64."""

    @abstractmethod
    def sample(self, u):
        """Cosine of density p from u uniform on (0, 1)."""

    @abstractmethod
    def mean_cosine(self):
        """g, scalar."""

    def table(self, size: int | None = None) -> np.ndarray:
        """Quantiles for the walk, float32 [size + 1] (by default `table_size`); FieldError of a ``size`` too coarse."""
        return inverse_table(self, self.table_size if size is None else size)


def floats(values) -> jax.Array:
    """An array of floats: numbers that are none become the default float type."""
    values = jnp.asarray(values)
    return values if jnp.issubdtype(values.dtype, jnp.floating) else values.astype(jnp.result_type(float))


def on_host(element: Element, field: str) -> np.ndarray:
    """Value of a field, float64, for what is computed on the host."""
    value = getattr(element, field)
    if not is_concrete(value):
        raise FieldError(field, "got a traced value; make the table of a phase function outside jit and grad")
    return np.asarray(value, float)


def _cumulative(cosine, g) -> np.ndarray:
    """F(c) = (1 - g)(1 + c)/(r (1 + g + r)), r^2 = (1 - g)^2 + 2 g (1 - c): Henyey-Greenstein, stable at any g."""
    r = np.sqrt((1 - g) ** 2 + 2 * g * (1 - cosine))
    return (1 - g) * (1 + cosine) / (r * (1 + g + r))


class HenyeyGreenstein(AbstractPhaseFunction):
    """p(c) = (1 - g^2) / (2 (1 + g^2 - 2 g c)^(3/2)): Henyey & Greenstein, Astrophys. J. 93, 70 (1941).

    Its Legendre moments are g^l. The walk needs no table for it. Raises FieldError of ``g`` at -1, 1 and beyond.
    """

    g: jax.Array = param("", anisotropy, "mean cosine of a scattering")

    def density(self, cosine):
        cosine = floats(cosine)
        return phase.density(cosine, self.g.astype(cosine.dtype))

    def cumulative(self, cosine):
        return _cumulative(np.asarray(cosine, float), on_host(self, "g"))

    def sample(self, u):
        u = floats(u)
        return phase.sample(u, self.g.astype(u.dtype))

    def mean_cosine(self):
        return self.g


class TwoTerm(AbstractPhaseFunction):
    """p(c) = f p_HG(c; g_forward) + (1 - f) p_HG(c; g_backward), f = ``fraction``.

    Kattawar, J. Quant. Spectrosc. Radiat. Transfer 15, 839 (1975); Legendre moments f g_forward^l +
    (1 - f) g_backward^l. ``g_backward`` carries its sign: negative where the second term points backwards.
    Raises FieldError of a g at -1, 1 and beyond, or of a fraction outside 0 to 1.
    """

    g_forward: jax.Array = param("", anisotropy, "mean cosine of the first term")
    g_backward: jax.Array = param("", anisotropy, "mean cosine of the second term, negative if it points backwards")
    fraction: jax.Array = param("", zero_to_one, "part of the scatterings that follow the first term")

    def density(self, cosine):
        cosine = floats(cosine)
        a, b, f = (x.astype(cosine.dtype) for x in (self.g_forward, self.g_backward, self.fraction))
        return f * phase.density(cosine, a) + (1 - f) * phase.density(cosine, b)

    def cumulative(self, cosine):
        cosine, f = np.asarray(cosine, float), on_host(self, "fraction")
        a, b = on_host(self, "g_forward"), on_host(self, "g_backward")
        return f * _cumulative(cosine, a) + (1 - f) * _cumulative(cosine, b)

    def sample(self, u):
        """Composition: u below f draws from the first term with u/f, else from the second with (u - f)/(1 - f)."""
        u = floats(u)
        a, b, f = (x.astype(u.dtype) for x in (self.g_forward, self.g_backward, self.fraction))
        first = u < f
        part = jnp.where(first, f, 1 - f)
        rest = jnp.where(first, u, u - f) / jnp.where(part > 0, part, 1)
        return phase.sample(rest, jnp.where(first, a, b))

    def mean_cosine(self):
        return self.fraction * self.g_forward + (1 - self.fraction) * self.g_backward


class Rayleigh(AbstractPhaseFunction):
    """p(c) = (3/8)(1 + c^2): a sphere much smaller than the wavelength, natural light.

    Bohren & Huffman, Absorption and Scattering of Light by Small Particles (Wiley 1983), section 5.1; g = 0.
    """

    def density(self, cosine):
        cosine = floats(cosine)
        return 3 / 8 * (1 + cosine * cosine)

    def cumulative(self, cosine):
        """F(c) = 1/2 + (3 c + c^3)/8."""
        cosine = np.asarray(cosine, float)
        return 0.5 + (3 + cosine * cosine) * cosine / 8

    def sample(self, u):
        """c = 2 sinh(asinh(4 u - 2)/3), the one real root of c^3 + 3 c = 8 u - 4."""
        return jnp.clip(2 * jnp.sinh(jnp.arcsinh(4 * floats(u) - 2) / 3), -1, 1)

    def mean_cosine(self):
        return jnp.zeros((), jnp.result_type(float))

    def mueller(self, cosine):
        """(S11, S12, S33, S34) = (3/8)(1 + c^2, c^2 - 1, 2 c, 0), S11 the density; S22 = S11, S44 = S33."""
        cosine = floats(cosine)
        square = cosine * cosine
        return 3 / 8 * (1 + square), 3 / 8 * (square - 1), 3 / 4 * cosine, jnp.zeros_like(cosine)
