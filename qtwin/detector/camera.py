"""A camera read out once per exposure, its pixels binned to superpixels on the chip."""

import jax

from qtwin.core.params import Element, efficiency, nonnegative, param, positive


class Camera(Element):
    """n = eta m + D t electrons, Var n = n + r^2 per superpixel: shot noise of light and dark, read noise r.

    ``read_noise`` and ``dark_rate`` are those of one binned superpixel; more than ``full_well`` electrons
    saturate it (the benchmark refuses them).
    """

    efficiency: jax.Array = param("", efficiency, "quantum efficiency at the signal wavelength")
    read_noise: jax.Array = param("", nonnegative, "read noise of a superpixel, electrons rms")
    dark_rate: jax.Array = param("Hz", nonnegative, "dark electrons per second of a superpixel")
    full_well: jax.Array = param("", positive, "electrons that a superpixel holds")

    def mean(self, photons, time):
        """Mean electrons for ``photons`` mean photons in ``time`` s; elementwise."""
        return self.efficiency * photons + self.dark_rate * time
