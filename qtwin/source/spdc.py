"""Photon pairs from a thin crystal: the double-Gaussian biphoton, phase-matched on the axis, and its absolute rate."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf, sici

from qtwin.core.errors import FieldError, UserError
from qtwin.core.params import Element, is_concrete, param, positive, real, static
from qtwin.source.biphoton import DoubleGaussian
from qtwin.source.nonlinear_crystal import Crystal
from qtwin.source.pair_rate import band, coupling
from qtwin.source.phase_matching import Interaction, idler_wavelength, poling_period
from qtwin.source.tuning import phase_matching_angle


class SPDC(Element):
    """psi(q_s, q_i) ~ exp(-w^2 |q_s + q_i|^2/4) exp(-2 gamma a |m_i q_s - m_s q_i|^2), a = L k_p/(8 k_s k_i).

    Collinear emission in the paraxial, thin-crystal limit, without walk-off: `qtwin.source.biphoton` (Law & Eberly,
    Phys. Rev. Lett. 92, 127903 (2004); Schneeloch & Howell, J. Opt. 18, 053501 (2016)). The crystal is cut, or poled,
    so that the two wavelengths match along the axis at its temperature; `crystal_at` says how. ``rays``, ``plane``,
    ``order`` and ``sellmeier`` as in `qtwin.source.phase_matching.Interaction`. ``waist`` w: pump amplitude
    exp(-r^2/w^2). ``stand_in``: which width of the sinc the Gaussian keeps (`qtwin.source.biphoton.STAND_INS`).
    """

    pump_wavelength: jax.Array = param("m", positive, "pump wavelength in vacuum")
    signal_wavelength: jax.Array = param("m", positive, "signal wavelength in vacuum")
    crystal_length: jax.Array = param("m", positive, "length of the crystal")
    waist: jax.Array = param("m", positive, "1/e amplitude radius of the pump")
    pump_power: jax.Array = param("W", positive, "pump power, continuous wave")
    bandwidth: jax.Array = param("m", positive, "full width of the spectral filter in front of the detectors")
    temperature: jax.Array = param("K", positive, "temperature of the crystal", 298.15)
    azimuth: jax.Array = param("rad", real, "turn of the cut about the optic axis, for d_eff", np.pi / 2)
    crystal: str = static("crystal", default="BBO")
    rays: str = static("polarisations of pump, signal and idler", default="eoo")
    plane: str = static("principal plane of a biaxial crystal's e ray", default="")
    order: int = static("order of the poling, 0 without", default=0)
    sellmeier: str = static("Sellmeier set, empty for the crystal's default", default="")
    stand_in: str = static("which width of the sinc is kept", default="exp(-0.455 x)")

    def check(self):
        try:
            made = self.interaction()
        except UserError as error:
            raise FieldError("crystal, rays, plane, order, sellmeier", str(error)) from error
        if not made.order and "e" not in made.rays:
            raise FieldError("order", "got 0, a crystal whose rays are all fixed matches by poling only: 1 or -1")
        if not all(is_concrete(getattr(self, f)) for f in ("pump_wavelength", "signal_wavelength", "temperature")):
            return
        try:
            self.crystal_at()
        except UserError as error:
            raise FieldError("pump_wavelength, signal_wavelength, temperature", str(error)) from error
        self.biphoton()

    def interaction(self) -> Interaction:
        """Crystal, polarisations and poling."""
        return Interaction(self.crystal, self.rays, self.plane, self.order, self.sellmeier)

    def crystal_at(self) -> Crystal:
        """The crystal with the angle, or the poling period, at which the two wavelengths match along the axis."""
        i, waves = self.interaction(), (self.pump_wavelength, self.signal_wavelength)
        cut = Crystal(i, self.crystal_length, self.temperature, azimuth=self.azimuth)
        if i.order:
            return eqx.tree_at(lambda c: c.period, cut, poling_period(i, *waves, temperature=self.temperature))
        return eqx.tree_at(lambda c: c.angle, cut, phase_matching_angle(i, *waves, temperature=self.temperature))

    def idler_wavelength(self):
        """1/l_i = 1/l_p - 1/l_s, m."""
        return idler_wavelength(self.pump_wavelength, self.signal_wavelength)

    def indices(self):
        """(n_p, n_s, n_i) in the crystal as it is cut."""
        crystal, waves = self.crystal_at(), (self.pump_wavelength, self.signal_wavelength, self.idler_wavelength())
        at = (crystal.angle, crystal.temperature)
        return tuple(crystal.interaction.index(beam, wave, *at) for beam, wave in enumerate(waves))

    def biphoton(self) -> DoubleGaussian:
        """Spatial amplitude of the pairs."""
        _, n_s, n_i = self.indices()
        waves = (self.signal_wavelength, self.idler_wavelength())
        return DoubleGaussian(*waves, n_s, n_i, self.crystal_length, self.waist, stand_in=self.stand_in)

    def sum_width(self):
        """std(q_s + q_i) = 1/w per axis, rad/m."""
        return 1 / self.waist

    def photon_widths(self):
        """std of the transverse wave vectors of (signal, idler) per axis, rad/m."""
        return self.biphoton().photon_widths()

    def schmidt_number(self):
        """Effective number of transverse modes of the double Gaussian, two dimensions."""
        return self.biphoton().schmidt_number()

    def gain(self):
        """Pairs per mode at the peak, coupling L^2 I with I = 2P/(pi w^2): see `qtwin.source.pair_rate`."""
        intensity = 2 * self.pump_power / (jnp.pi * self.waist**2)
        strength = coupling(self.crystal_at(), self.pump_wavelength, self.signal_wavelength)
        return strength * self.crystal_length**2 * intensity

    def pair_rate(self):
        """R = gain A_p/(8 pi a) integral of [integral from phi of sinc^2(u) du] dnu in pairs/s, A_p = pi w^2/2.

        One mode per area x d^2q/(2 pi)^2 x dnu, |response|^2 = sinc^2(phi + 2 a q^2), phi = dk L/2 along the axis at
        the signal's frequency (Boyd, Nonlinear Optics, 3rd ed., section 2.8, in modes); every direction, inside a top
        hat of full width ``bandwidth``. Narrow filters (phi = 0) pass gain A_p dnu pi/(16 a).
        """
        area, a = jnp.pi * self.waist**2 / 2, self.biphoton().phase_matching()
        phi, hertz = _filtered(self.crystal_at(), self.pump_wavelength, self.signal_wavelength, self.bandwidth)
        return self.gain() * area / (8 * jnp.pi * a) * jnp.sum(hertz * _tail(phi))

    def sample(self, count: int, *, key):
        """Transverse wave vectors of ``count`` pairs, rad/m: signal and idler, each [count, 2]."""
        signal, idler = self.biphoton().sample(count, key=key)
        return signal.k, idler.k


@eqx.filter_jit
def _filtered(crystal: Crystal, pump, signal, bandwidth):
    """dk L/2 along the axis at points across the filter, and their weights in Hz, [64] each."""
    waves, hertz = band(signal, bandwidth, 64)
    return crystal.mismatch(pump, waves) * crystal.length / 2, hertz


@jax.jit
def _tail(phi):
    """Integral of sinc^2 from phi to infinity, pi/2 - Si(2 phi) + sin^2(phi)/phi; elementwise."""
    return jnp.pi / 2 - sici(2 * phi)[0] + phi * jnp.sinc(phi / jnp.pi) ** 2


def inside(width, half, centre=0.0):
    """Probability that a normal variable about ``centre`` of std ``width`` lies within +-``half``; elementwise."""
    unit = jnp.sqrt(2.0) * width
    return (erf((half - centre) / unit) + erf((half + centre) / unit)) / 2
