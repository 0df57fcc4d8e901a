"""Refractive index and dispersion of plates and of water, from published Sellmeier equations.

n^2 = 1 + offset + sum_j a_j l^2/(l^2 - b_j), l the vacuum wavelength in um; derivatives are those of the formula.
Phases of centimetres of glass want float64: they are 1e5 rad.
"""

import jax
import jax.numpy as jnp

from qtwin.core.errors import FieldError, UserError
from qtwin.core.params import Element, nonnegative, param, static
from qtwin.source.sellmeier import LIGHT, Sellmeier, to_float


def _square(*terms: tuple[float, float], offset: float = 0.0):
    def square(um, celsius):
        return 1 + offset + sum(a * um**2 / (um**2 - b) for a, b in terms)

    return square


_BK7 = Sellmeier(
    "N-BK7",
    "SCHOTT",
    {"n": _square((1.03961212, 0.00600069867), (0.231792344, 0.0200179144), (1.01046945, 103.560653))},
    *(0.3, 2.5, 22.0),
    "SCHOTT data sheet N-BK7 517642.251",
)
_SILICA = Sellmeier(
    "fused silica",
    "Malitson",
    {"n": _square((0.6961663, 0.0684043**2), (0.4079426, 0.1162414**2), (0.8974794, 9.896161**2))},
    *(0.21, 3.71, 20.0),
    "Malitson, J. Opt. Soc. Am. 55, 1205 (1965)",
)
_SAPPHIRE = Sellmeier(
    "sapphire",
    "Malitson & Dodge",
    {
        "o": _square((1.4313493, 0.0726631**2), (0.65054713, 0.1193242**2), (5.3414021, 18.028251**2)),
        "e": _square((1.5039759, 0.0740288**2), (0.55069141, 0.1216529**2), (6.5927379, 20.072248**2)),
    },
    *(0.2, 5.0, 20.0),
    "Malitson & Dodge 1972; Dodge, Handbook of Laser Science and Technology IV (CRC 1986), p. 30",
)
_QUARTZ = Sellmeier(
    "quartz",
    "Ghosh",
    {
        "o": _square((1.07044083, 1.00585997e-2), (1.10202242, 100.0), offset=0.28604141),
        "e": _square((1.09509924, 1.02101864e-2), (1.15662475, 100.0), offset=0.28851804),
    },
    *(0.198, 2.0531, 20.0),
    "Ghosh, Opt. Commun. 163, 95 (1999)",
)
# tissue is warmer: n falls by about 1e-4 per kelvin
_WATER = Sellmeier(
    "water",
    "Daimon & Masumura",
    {
        "n": _square(
            (5.684027565e-1, 5.101829712e-3),
            (1.726177391e-1, 1.821153936e-2),
            (2.086189578e-2, 2.620722293e-2),
            (1.130748688e-1, 1.069792721e1),
        )
    },
    *(0.182, 1.129, 20.0),
    "Daimon & Masumura, Appl. Opt. 46, 3811 (2007), distilled water",
)
MATERIALS = {
    "N-BK7": (_BK7, "n"),
    "fused silica": (_SILICA, "n"),
    "sapphire o": (_SAPPHIRE, "o"),
    "sapphire e": (_SAPPHIRE, "e"),
    "quartz o": (_QUARTZ, "o"),
    "quartz e": (_QUARTZ, "e"),
    "water": (_WATER, "n"),
}


def _set(material: str) -> tuple[Sellmeier, str]:
    if material not in MATERIALS:
        raise UserError(f"material: got {material!r}, accepted are {', '.join(MATERIALS)}")
    return MATERIALS[material]


def refractive_index(material: str, wavelength):
    """n(l) of a key of `MATERIALS`; elementwise, wavelength in m. Raises UserError outside of the formula's range."""
    formula, axis = _set(material)
    return formula.index(axis, wavelength)


def group_index(material: str, wavelength):
    """n_g = n - l dn/dl = c d beta/dw."""
    formula, axis = _set(material)
    return formula.group_index(axis, wavelength)


def group_velocity_dispersion(material: str, wavelength):
    """beta2 = d^2 beta/dw^2 = l^3/(2 pi c^2) d^2n/dl^2, s^2/m (1e-27 s^2/m = 1 fs^2/mm)."""
    formula, axis = _set(material)
    return formula.dispersion(axis, wavelength)


def propagation(material: str, omega, order: int = 0):
    """beta(w) = n w/c and its derivatives d^order beta/dw^order; rad/m times s^order; elementwise, w in rad/s."""

    def beta(w):
        return refractive_index(material, 2 * jnp.pi * LIGHT / w) * w / LIGHT

    for _ in range(order):
        beta = _slope(beta)
    return beta(to_float(omega))


def _slope(function):
    return lambda x: jax.jvp(function, (x,), (jnp.ones_like(x),))[1]


def dispersed_width(beta2, length, sigma_w):
    """sqrt(1 + (beta2 L sigma_w^2)^2): broadening of the envelope of an OCT signal, ``length`` L the round trip.

    sigma_w: std of the spectral intensity, rad/s (Drexler & Fujimoto, Optical Coherence Tomography, Springer 2008,
    chapter 2). The amplitude exp(-W^2/2 s^2 + i beta2 L W^2/2) of the correlation; a pulse of intensity spectrum
    sigma_w, passing once through L, broadens by sqrt(1 + 4 (beta2 L sigma_w^2)^2).
    """
    return jnp.sqrt(1 + (beta2 * length * sigma_w**2) ** 2)


class Plate(Element):
    """A plane plate at normal incidence; reflection at its faces is not in it."""

    thickness: jax.Array = param("m", nonnegative, "geometric thickness")
    material: str = static("a key of qtwin.optics.dispersion.MATERIALS", default="N-BK7")

    def check(self):
        if self.material not in MATERIALS:
            raise FieldError("material", f"got {self.material!r}, accepted are {', '.join(MATERIALS)}")

    def amplitude(self, omega):
        """exp(i beta(w) L): factor on a spectral amplitude (one photon of a joint spectrum, or a pulse)."""
        phase = self.phase(omega)
        return jax.lax.complex(jnp.cos(phase), jnp.sin(phase))

    def phase(self, omega):
        """beta(w) L, rad."""
        return propagation(self.material, omega) * self.thickness

    def delay(self, wavelength):
        """n_g L/c, s."""
        return group_index(self.material, wavelength) * self.thickness / LIGHT

    def reduced_thickness(self, wavelength):
        """L/n, m: the free space that rays see in it."""
        return self.thickness / refractive_index(self.material, wavelength)
