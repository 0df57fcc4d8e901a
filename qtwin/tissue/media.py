"""Tissues by what they are made of, and their optical properties at a wavelength.

    mu_a = sum of (volume fraction) x (mu_a of the pure constituent), that of blood by saturation and haemoglobin
    mu_s = mu_s'/(1 - g),  mu_s' = a (f_ray (l/500 nm)^-4 + (1 - f_ray) (l/500 nm)^-b_mie)

S. L. Jacques, Phys. Med. Biol. 58, R37 (2013), equations 1, 2 and 11. f_ray = 0 leaves the plain power law
a (l/500 nm)^-b_mie.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import UserError
from qtwin.core.params import Element, anisotropy, fraction, index, is_concrete, nonnegative, param, real
from qtwin.tissue.chromophores import WHOLE_BLOOD, absorption, blood
from qtwin.tissue.presets import PRESETS
from qtwin.tissue.tables import MEDIUM, NM, Table, medium_table, medium_tables, read_table


class Optical(NamedTuple):
    """Optical properties of a medium at one wavelength, SI."""

    mu_a: jax.Array  # 1/m
    mu_s: jax.Array  # 1/m, the full coefficient
    g: jax.Array
    n: jax.Array


class Composition(Element):
    """A tissue by its constituents (fractions of the volume) and its law of scattering; g and n do not vary."""

    a: jax.Array = param("1/m", nonnegative, "reduced scattering coefficient at 500 nm")
    b_mie: jax.Array = param("", real, "power of Mie scattering, or of all where f_ray = 0")
    g: jax.Array = param("", anisotropy, "mean cosine of a scattering")
    n: jax.Array = param("", index, "refractive index")
    f_ray: jax.Array = param("", fraction, "Rayleigh's part of the reduced scattering at 500 nm", 0.0)
    blood: jax.Array = param("", fraction, "volume fraction of blood", 0.0)
    saturation: jax.Array = param("", fraction, "oxygen saturation of haemoglobin", 0.75)
    haemoglobin: jax.Array = param("g/L", nonnegative, "haemoglobin in the blood", WHOLE_BLOOD)
    water: jax.Array = param("", fraction, "volume fraction of water", 0.0)
    fat: jax.Array = param("", fraction, "volume fraction of fat", 0.0)
    melanin: jax.Array = param("", fraction, "volume fraction of melanosomes", 0.0)
    skin_baseline: jax.Array = param("", fraction, "fraction of what skin absorbs without blood and melanin", 0.0)

    def mu_a(self, wavelength):
        """Absorption coefficient (1/m). A constituent that is absent does not bound the wavelength."""
        total = 0.0 * jnp.asarray(wavelength, jnp.result_type(float))
        if _present(self.blood):
            total = total + self.blood * blood(wavelength, self.saturation, self.haemoglobin)
        for name in ("water", "fat", "melanin", "skin_baseline"):
            part = getattr(self, name)
            if _present(part):
                total = total + part * absorption(name, wavelength)
        return total

    def reduced_scattering(self, wavelength):
        """mu_s' (1/m)."""
        ratio = jnp.asarray(wavelength, jnp.result_type(float)) / (500 * NM)
        return self.a * (self.f_ray * ratio**-4 + (1 - self.f_ray) * ratio**-self.b_mie)

    def optical(self, wavelength) -> Optical:
        """At a wavelength (m); differentiable in it and in every field."""
        return Optical(self.mu_a(wavelength), self.reduced_scattering(wavelength) / (1 - self.g), self.g, self.n)


def _present(part) -> bool:
    return not is_concrete(part) or bool(np.any(np.asarray(part) != 0))


def composition(name: str) -> Composition:
    """A tissue of the project's own by name; `presets.PRESETS` holds its numbers and their sources."""
    if name not in PRESETS:
        raise UserError(f"unknown composition {name!r}, accepted are {', '.join(PRESETS)}")
    values: dict[str, Any] = {field: value for field, (value, _) in PRESETS[name].items()}
    return Composition(**values)


def names() -> list[str]:
    """Every medium that has a name."""
    return [*PRESETS, *medium_tables()]


def optical(medium: str, wavelength) -> Optical:
    """Optical properties of a medium, by name or from the user's own CSV table (see `tables`), at a wavelength (m).

    UserError for an unknown name, a mistake in the file, and a wavelength for which there are no data.
    """
    if not isinstance(medium, str):
        raise UserError(f"got {medium!r}, expected the name of a medium or of a CSV table")
    if medium in PRESETS:
        try:
            return composition(medium).optical(wavelength)
        except UserError as error:
            raise UserError(f"medium {medium!r}: {error}") from error
    if medium in medium_tables():
        return _tabulated(medium_table(medium), wavelength)
    if Path(medium).suffix.lower() == ".csv":
        return _tabulated(read_table(medium, MEDIUM), wavelength)
    raise UserError(f"unknown medium {medium!r}, accepted are {', '.join(names())} or the path of a CSV table")


def _tabulated(table: Table, wavelength) -> Optical:
    return Optical(*(table.at(column, wavelength) for column in Optical._fields))
