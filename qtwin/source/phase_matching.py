"""Phase mismatch of three waves in a crystal, and the poling period that makes up for it."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import UserError
from qtwin.core.params import is_concrete
from qtwin.source.sellmeier import ZERO_CELSIUS, Sellmeier, to_float
from qtwin.source.sellmeier_sets import known, sellmeier

# Plane -> principal axes of the e ray's index at angle 0 and at 90 degrees, and of the o ray's.
PLANES = {"": "oeo", "XZ": "xzy", "YZ": "yzx", "XY": "yxz"}
UNIAXIAL = ("BBO", "LiNbO3", "MgO:LiNbO3", "KDP")
# l(T) = l(25 C) [1 + a dT + b dT^2] along the poled direction, per K and per K^2.
# KTP: Emanueli & Arie, Appl. Opt. 42, 6661 (2003); LiNbO3: Kim & Smith, J. Appl. Phys. 40, 4637 (1969), from memory
EXPANSION = {"KTP": (6.7e-6, 11e-9), "LiNbO3": (1.54e-5, 5.3e-9), "MgO:LiNbO3": (1.54e-5, 5.3e-9)}


@dataclass(frozen=True)
class Interaction:
    """Pump -> signal + idler in a crystal: one letter for the polarisation of each, in this order.

    x, y, z: along a principal axis (the wave travels along another one; KTP poled along x: 'yyz' type II, 'zzz'
    type 0). o, e: across the plane that holds the pump and in it, the e ray at ``angle`` (BBO: 'eoo' type I, 'eoe'
    type II). A uniaxial crystal has its optic axis along z and needs no plane; in a biaxial one it is 'XZ', 'YZ'
    (angle from z) or 'XY' (angle from x). ``order`` m of the poling, 0 without; ``sellmeier``: the name of a set,
    empty for the default of each axis.
    """

    crystal: str
    rays: str
    plane: str = ""
    order: int = 0
    sellmeier: str = ""

    def __post_init__(self):
        known(self.crystal)
        free = self.crystal in UNIAXIAL or not set(self.rays) & {"o", "e"}
        planes = ("",) if free else ("XZ", "YZ", "XY")
        if len(self.rays) != 3 or set(self.rays) - set("xyzoe"):
            raise UserError(f"rays: got {self.rays!r}, accepted are three of x, y, z, o, e for pump, signal, idler")
        if self.plane not in planes:
            raise UserError(f"plane: got {self.plane!r}, accepted for {self.crystal} {self.rays} is one of {planes}")
        if self.order and self.crystal not in EXPANSION:
            raise UserError(f"order: got {self.order}, {self.crystal} is not poled: accepted is 0")
        for beam in range(3):
            self.sets(beam)

    def sets(self, beam: int) -> list[tuple[str, Sellmeier]]:
        """Principal axes that the beam (0 pump, 1 signal, 2 idler) sees, with their sets."""
        ray, (first, second, across) = self.rays[beam], tuple(PLANES[self.plane])
        axes: tuple[str, ...] = (across,)
        if ray == "e":
            axes = (first, second)
        elif ray in "xyz":
            axes = ("e" if ray == "z" else "o",) if self.crystal in UNIAXIAL else (ray,)
        return [(axis, sellmeier(self.crystal, axis, self.sellmeier)) for axis in axes]

    def principal(self, beam: int, wavelength, temperature=None):
        """(n_a, n_b) of 1/n^2 = cos^2(angle)/n_a^2 + sin^2(angle)/n_b^2; equal for all but the e ray."""
        indices = [s.index(axis, wavelength, temperature) for axis, s in self.sets(beam)]
        return indices[0], indices[-1]

    def index(self, beam: int, wavelength, angle, temperature=None):
        """Index of the beam for a wave vector at ``angle`` (rad) in the plane; only that of the e ray depends on it."""
        n_a, n_b = self.principal(beam, wavelength, temperature)
        if self.rays[beam] != "e":
            return n_a
        angle = to_float(angle)
        return 1 / jnp.sqrt((jnp.cos(angle) / n_a) ** 2 + (jnp.sin(angle) / n_b) ** 2)

    def walk_off(self, beam: int, wavelength, angle, temperature=None):
        """tan(rho) = -(1/n) dn/d(angle): angle rho (rad) of the energy flow, positive toward larger ``angle``."""
        n_a, n_b = self.principal(beam, wavelength, temperature)
        n = self.index(beam, wavelength, angle, temperature)
        return jnp.arctan(n**2 * jnp.sin(2 * to_float(angle)) * (n_b**-2 - n_a**-2) / 2)

    def group_index(self, beam: int, wavelength, angle, temperature=None):
        """n_g = n - l dn/dl, elementwise."""
        wavelength = to_float(wavelength)
        n, slope = jax.jvp(
            lambda w: self.index(beam, w, angle, temperature), (wavelength,), (jnp.ones_like(wavelength),)
        )
        return n - wavelength * slope

    def window(self, beam: int) -> tuple[float, float]:
        """Wavelengths (m) between which all sets of the beam hold."""
        sets = [s for _, s in self.sets(beam)]
        return max(s.low for s in sets) * 1e-6, min(s.high for s in sets) * 1e-6

    def longitudinal(self, beam: int, wavelength, angle, temperature=None, q_in=0.0, q_out=0.0):
        """k_z (rad/m) of the beam with transverse wave vector (q_in, q_out) in and out of the plane.

        k_par^2/n_a^2 + (k_perp^2 + q_out^2)/n_b^2 = (w/c)^2 with k_par = k_z cos - q_in sin, k_perp = k_z sin +
        q_in cos: the normal surface of a uniaxial crystal, exact; q_out must be 0 in a biaxial one.
        Rays x, y, z: a sphere.
        """
        n_a, n_b = self.principal(beam, wavelength, temperature)
        cos, sin = jnp.cos(to_float(angle)), jnp.sin(to_float(angle))
        a = (cos / n_a) ** 2 + (sin / n_b) ** 2
        b = q_in * sin * cos * (n_b**-2 - n_a**-2)
        rest = q_in**2 * ((sin / n_a) ** 2 + (cos / n_b) ** 2) + (q_out / n_b) ** 2
        return (jnp.sqrt(b**2 + a * ((2 * jnp.pi / to_float(wavelength)) ** 2 - rest)) - b) / a


def idler_wavelength(pump, signal, idler=None):
    """1/l_i = 1/l_p - 1/l_s, m; UserError if the signal is not longer than the pump or a given idler does not fit."""
    pump, signal = to_float(pump), to_float(signal)
    if is_concrete(pump) and is_concrete(signal) and not np.all(np.asarray(signal) > np.asarray(pump)):
        raise UserError(f"signal: got {nm(signal)} nm, accepted is longer than the pump's {nm(pump)} nm")
    fits = 1 / (1 / pump - 1 / signal)
    if (
        idler is not None
        and is_concrete(fits)
        and not np.allclose(np.asarray(idler), np.asarray(fits), rtol=1e-5, atol=0)
    ):
        raise UserError(
            f"idler: got {nm(idler)} nm, energy conservation of pump {nm(pump)} nm and signal {nm(signal)} nm "
            f"leaves {nm(fits)} nm"
        )
    return fits


def nm(wavelength) -> str:
    """Text of a wavelength (the first, in an array) in nm."""
    return f"{float(np.ravel(wavelength)[0]) * 1e9:.6g}"


def expansion(crystal: str, temperature=None):
    """Length at ``temperature`` (K) over the length at 25 degrees Celsius, along the poled direction."""
    if temperature is None or crystal not in EXPANSION:
        return to_float(1.0)
    a, b = EXPANSION[crystal]
    dt = to_float(temperature) - (25 + ZERO_CELSIUS)
    return 1 + a * dt + b * dt**2


def mismatch(interaction, pump, signal, *, angle=jnp.pi / 2, period=None, temperature=None, emission=0.0, azimuth=0.0):
    """dk = k_p - k_s - k_i - 2 pi m/period along the pump, rad/m; elementwise.

    Wavelengths in vacuum, m; ``angle`` of the pump in the plane, rad; ``period`` of the poling at 25 degrees
    Celsius, m (needed where ``order`` is not 0); temperature in K (None: each set at its own). The signal leaves
    at ``emission`` (rad, outside the crystal, face perpendicular to the pump): q = (w_s/c) sin(emission), at
    ``azimuth`` from the plane, toward larger ``angle`` where it is 0; the idler carries -q. Pump: a plane wave.
    """
    idler = idler_wavelength(pump, signal)
    q = 2 * jnp.pi / to_float(signal) * jnp.sin(to_float(emission))
    q_in, q_out = q * jnp.cos(to_float(azimuth)), q * jnp.sin(to_float(azimuth))
    k_p = interaction.longitudinal(0, pump, angle, temperature)
    k_s = interaction.longitudinal(1, signal, angle, temperature, q_in, q_out)
    k_i = interaction.longitudinal(2, idler, angle, temperature, -q_in, -q_out)
    return k_p - k_s - k_i - grating(interaction, period, temperature)


def grating(interaction, period=None, temperature=None):
    """2 pi m/period at ``temperature``, rad/m; 0 without poling."""
    if interaction.order == 0:
        return to_float(0.0)
    if period is None:
        raise UserError(f"period: {interaction.crystal} at order {interaction.order} needs a poling period")
    return 2 * jnp.pi * interaction.order / (to_float(period) * expansion(interaction.crystal, temperature))


def poling_period(interaction, pump, signal, *, angle=jnp.pi / 2, temperature=None):
    """period = 2 pi m/(k_p - k_s - k_i), m, as made at 25 degrees Celsius; elementwise.

    UserError where the order has the wrong sign (it names the right one).
    """
    unpoled = Interaction(interaction.crystal, interaction.rays, interaction.plane, 0, interaction.sellmeier)
    dk = mismatch(unpoled, pump, signal, angle=angle, temperature=temperature)
    period = 2 * jnp.pi * interaction.order / dk / expansion(interaction.crystal, temperature)
    if is_concrete(period) and not np.all(np.asarray(period) > 0):
        right = int(np.sign(np.ravel(dk)[0]))
        raise UserError(f"order: got {interaction.order}, this mismatch needs order {right} or a multiple of it")
    return period
