"""Photon pairs from four-wave mixing in a single-mode fibre: twin beams with the gain and the matching of the fibre."""

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import FieldError
from qtwin.core.params import efficiency as efficient
from qtwin.core.params import is_concrete, nonnegative, param, parameters, positive, real
from qtwin.modes.counts import mode_number
from qtwin.modes.pairs import fwm_mismatch, fwm_pair_rate, fwm_pairs_per_mode
from qtwin.source.entangled import TwoModeSqueezed
from qtwin.source.sellmeier import LIGHT
from qtwin.source.states import AbstractState, Expected, Figure


class FourWaveMixing(AbstractState):
    """N = (gamma P L)^2 [sinh(g L)/(g L)]^2, g^2 = (gamma P)^2 - (kappa/2)^2: pairs per mode at +-W from one pump.

    kappa = beta2 W^2 + beta4 W^4/12 + 2 gamma P, beta at the pump (Agrawal, Nonlinear Fiber Optics, ch. 10).
    Rectangular pulses, each as a continuous pump: the signal's top-hat filter (its mirror image in energy for the
    idler) must be wider than the pulse's own spectrum. A record, one pulse, is the counts of (signal, idler). Raman
    scattering is not computed: give its photons, and leaking pump light, as background. No walk-off, no loss inside
    the fibre.
    """

    pump_wavelength: jax.Array = param("m", positive, "pump wavelength in vacuum")
    signal_wavelength: jax.Array = param("m", positive, "middle of the signal's filter, in vacuum")
    bandwidth: jax.Array = param("m", positive, "full width of the signal's filter")
    peak_power: jax.Array = param("W", positive, "pump power during a pulse")
    pulse_duration: jax.Array = param("s", positive, "full width of the rectangular pulse")
    pulse_rate: jax.Array = param("Hz", positive, "pulses per second")
    length: jax.Array = param("m", positive, "of the fibre")
    nonlinearity: jax.Array = param("1/W/m", positive, "gamma of the fibre")
    beta2: jax.Array = param("s**2/m", real, "dispersion at the pump, second order")
    beta4: jax.Array = param("s**4/m", real, "dispersion at the pump, fourth order", default=0.0)
    signal_efficiency: jax.Array = param("", efficient, "of the signal arm, detector included", default=1.0)
    idler_efficiency: jax.Array = param("", efficient, "of the idler arm, detector included", default=1.0)
    signal_background: jax.Array = param("", nonnegative, "Raman, pump and dark counts per pulse, signal", default=0.0)
    idler_background: jax.Array = param("", nonnegative, "Raman, pump and dark counts per pulse, idler", default=0.0)

    def check(self):
        if not all(is_concrete(getattr(self, f)) for f in parameters(self)):
            return
        pump = 2 * np.pi * LIGHT / float(self.pump_wavelength)
        detuning, width = float(self.detuning()), float(self.width())
        if not width / 2 < abs(detuning) < pump - width / 2:
            raise FieldError(
                "signal_wavelength, bandwidth",
                "got a filter that holds the pump, or idlers without energy; accepted is a filter beside the pump, "
                f"longer than {float(self.pump_wavelength) / 2e-9:.4g} nm",
            )
        cells = float(self.cells())
        if cells < 1:
            raise FieldError(
                "pulse_duration, bandwidth", f"got {cells:.3g} as duration x filter width, accepted is 1 or more"
            )
        edge = _nearest_gain(self, detuning)
        if edge is not None:
            nearest = 2e9 * np.pi * LIGHT / (pump + edge)
            raise FieldError(
                "signal_wavelength",
                f"got {float(self.signal_wavelength) * 1e9:.6g} nm, which is not phase matched; nearest that works: "
                f"{nearest:.6g} nm",
            )

    def detuning(self):
        """W = w_signal - w_pump, rad/s: negative for a signal of longer wavelength."""
        return 2 * jnp.pi * LIGHT * (1 / self.signal_wavelength - 1 / self.pump_wavelength)

    def width(self):
        """Full width of the signal's filter, rad/s."""
        return 2 * jnp.pi * LIGHT * self.bandwidth / self.signal_wavelength**2

    def cells(self):
        """Duration of the pulse times the width of the filter in Hz."""
        return self.pulse_duration * self.width() / (2 * jnp.pi)

    def mismatch(self, detuning):
        """kappa, 1/m."""
        return fwm_mismatch(self.nonlinearity, self.peak_power, self.beta2, detuning, self.beta4)

    def matched_detunings(self):
        """W > 0 of kappa = 0, [2], rad/s: beta4 W^4/12 + beta2 W^2 + 2 gamma P = 0, 0 where there is none.

        The first tends to sqrt(2 gamma P/-beta2) for small beta4.
        """
        a, c = self.beta4 / 12, 2 * self.nonlinearity * self.peak_power
        inside = self.beta2**2 - 4 * a * c
        real_root = inside > 0
        root = jnp.sqrt(jnp.where(real_root, inside, 1.0))
        below = jnp.stack([root - self.beta2, -root - self.beta2])
        there = real_root & (below > 0)
        found = jnp.sqrt(2 * c / jnp.where(there, below, 1.0))
        return jnp.where(there & (found < 2 * jnp.pi * LIGHT / self.pump_wavelength), found, 0.0)

    def pairs_per_mode(self):
        """N at the middle of the filter."""
        return fwm_pairs_per_mode(
            self.nonlinearity, self.peak_power, self.length, self.beta2, self.detuning(), self.beta4
        )

    def pairs_per_pulse(self):
        """Duration times the integral of N over the filter: pairs in the fibre before losses."""
        filtered = (self.detuning(), self.width(), self.beta4)
        rate = fwm_pair_rate(self.nonlinearity, self.peak_power, self.length, self.beta2, *filtered)
        return self.pulse_duration * rate

    def modes(self):
        """Modes in a pulse, `mode_number` of the duration over 1/(filter width): a Gaussian |g1|^2 stands in."""
        return mode_number(self.cells(), 1.0)

    def twin_beams(self) -> TwoModeSqueezed:
        """The two arms behind their losses."""
        return TwoModeSqueezed(
            self.signal_wavelength,
            self.pairs_per_pulse() / self.modes(),
            self.modes(),
            self.signal_efficiency,
            self.idler_efficiency,
            self.signal_background,
            self.idler_background,
        )

    def expect(self) -> Expected:
        return self.twin_beams().expect()

    def sample(self, count: int, *, key):
        """Counts of signal and idler, int32 [count, 2]."""
        return self.twin_beams().sample(count, key=key)

    def figures(self):
        """Figures of merit; a matched detuning that does not exist has no rows, unless values are traced."""
        strength, pairs = self.nonlinearity * self.peak_power, self.pairs_per_pulse()
        mismatch = self.mismatch(self.detuning())
        agrawal = "; Agrawal, Nonlinear Fiber Optics, ch. 10"
        rows = [
            Figure("idler wavelength", self._wave(-self.detuning()), "m", "1/l_i = 2/l_p - 1/l_s"),
            Figure("detuning of the signal", self.detuning(), "rad/s", "2 pi c (1/l_s - 1/l_p)"),
            Figure("nonlinear phase", strength * self.length, "rad", "gamma P L" + agrawal),
            Figure("phase mismatch", mismatch * self.length, "rad", "kappa L" + agrawal),
            Figure("parametric gain", 1 + self.pairs_per_mode(), "", "1 + N, power gain of a seed" + agrawal),
        ]
        for place, w in zip(("first", "second"), self.matched_detunings(), strict=True):
            if not is_concrete(w) or w > 0:
                rows += [
                    Figure(f"{place} matched detuning", w, "rad/s", "kappa = 0, 0 where there is none" + agrawal),
                    Figure(f"{place} matched wavelength, short", self._wave(w), "m", "w_p + W"),
                    Figure(f"{place} matched wavelength, long", self._wave(-w), "m", "w_p - W"),
                ]
        raman = "; Raman photons are not among them"
        return [
            *rows,
            Figure("pairs per pulse", pairs, "", "duration x integral of N dv over the filter, before losses" + raman),
            Figure("pairs per second", pairs * self.pulse_rate, "Hz", "pairs per pulse x pulse rate" + raman),
            Figure("average pump power", self.peak_power * self.pulse_duration * self.pulse_rate, "W", "P t f"),
            Figure("modes per pulse", self.modes(), "", "mode_number(duration x filter width); Goodman (2015), ch. 6"),
            *self.twin_beams().figures(),
        ]

    def _wave(self, detuning):
        return 1 / (1 / self.pump_wavelength + detuning / (2 * jnp.pi * LIGHT))


def _nearest_gain(source: FourWaveMixing, detuning: float) -> float | None:
    """None where N is within the main lobe, -g^2 < (pi/L)^2; else the nearest detuning just inside its edge, rad/s."""
    strength = float(source.nonlinearity * source.peak_power)
    limit = 2 * np.hypot(strength, np.pi / float(source.length))
    if abs(float(source.mismatch(detuning))) < limit:
        return None
    inside = 2 * strength + 0.98 * (limit - 2 * strength)
    edges = [
        np.sqrt(x.real)
        for bound in (inside, -inside)
        for x in np.roots([float(source.beta4) / 12, float(source.beta2), 2 * strength - bound])
        if abs(x.imag) < 1e-9 * abs(x) and x.real > 0
    ]
    return float(np.copysign(min(edges, key=lambda w: abs(w - abs(detuning))), detuning))
