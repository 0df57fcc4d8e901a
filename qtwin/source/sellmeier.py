"""Principal refractive indices of nonlinear crystals: n(wavelength, temperature) and its derivatives."""

from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import UserError
from qtwin.core.params import is_concrete

LIGHT = 299792458.0  # m/s
ZERO_CELSIUS = 273.15  # K
# The thermo-optic formulas were fitted from room temperature up to some 200 degrees (limits declared here).
COLDEST, HOTTEST = 250.0, 550.0
# A set without thermo-optic data stands for its own temperature, give or take this many kelvin.
SAME_TEMPERATURE = 10.0


def to_float(x):
    """Array of the default float type, never weakly typed."""
    return jnp.asarray(x, jnp.result_type(float))


@dataclass(frozen=True)
class Sellmeier:
    """n(l, T) = sqrt(square[axis](l, t)) + shift[axis](l, t): l in um, t in degrees Celsius, shift 0 at ``celsius``.

    ``square`` and ``shift`` are the published formulas, one for each axis (o, e or x, y, z); ``low`` and ``high``
    the wavelengths between which the authors hold them, in um; ``thermal`` names the source of the temperature
    dependence, empty where none was published.
    """

    crystal: str
    name: str
    square: dict[str, Callable] = field(hash=False)
    low: float
    high: float
    celsius: float
    reference: str
    shift: dict[str, Callable] = field(default_factory=dict, hash=False)
    thermal: str = ""

    def check(self, wavelength, temperature=None):
        """Raise UserError where a known wavelength (m) or temperature (K) lies outside what was published."""
        if is_concrete(wavelength):
            given = np.asarray(wavelength, float) * 1e6
            outside = given[~((given >= self.low * (1 - 1e-9)) & (given <= self.high * (1 + 1e-9)))]
            if outside.size:
                raise UserError(
                    f"wavelength: got {outside.flat[0] * 1e3:.5g} nm, the {self.crystal} set '{self.name}' holds "
                    f"from {self.low * 1e3:.5g} to {self.high * 1e3:.5g} nm"
                )
        if temperature is None or not is_concrete(temperature):
            return
        home, kelvin = self.celsius + ZERO_CELSIUS, np.asarray(temperature, float)
        low, high = (COLDEST, HOTTEST) if self.thermal else (home - SAME_TEMPERATURE, home + SAME_TEMPERATURE)
        outside = kelvin[~((kelvin >= low) & (kelvin <= high))]
        if outside.size:
            why = "" if self.thermal else " (no temperature dependence was published)"
            raise UserError(
                f"temperature: got {outside.flat[0]:.5g} K, the {self.crystal} set '{self.name}' holds "
                f"from {low:.5g} to {high:.5g} K{why}"
            )

    def index(self, axis: str, wavelength, temperature=None):
        """Principal index, elementwise; wavelength in m (vacuum), temperature in K (None: the set's own).

        Raises UserError outside the range of the set, where the values are known.
        """
        self.check(wavelength, temperature)
        um = to_float(wavelength) * 1e6
        home = to_float(self.celsius)
        celsius = home if temperature is None or not self.thermal else to_float(temperature) - ZERO_CELSIUS
        n = jnp.sqrt(self.square[axis](um, celsius))
        return n + self.shift[axis](um, celsius - home) if axis in self.shift else n

    def group_index(self, axis: str, wavelength, temperature=None):
        """n_g = n - l dn/dl."""
        n, slope = _slope(lambda w: self.index(axis, w, temperature), wavelength)
        return n - to_float(wavelength) * slope

    def dispersion(self, axis: str, wavelength, temperature=None):
        """Group-velocity dispersion d2k/dw2 = l^3/(2 pi c^2) d2n/dl2, s^2/m."""
        _, curvature = _slope(lambda w: _slope(lambda v: self.index(axis, v, temperature), w)[1], wavelength)
        return to_float(wavelength) ** 3 / (2 * jnp.pi * LIGHT**2) * curvature


def _slope(f, x):
    """f and its elementwise derivative."""
    x = to_float(x)
    return jax.jvp(f, (x,), (jnp.ones_like(x),))
