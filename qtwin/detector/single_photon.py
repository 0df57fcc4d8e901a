"""Single-photon detectors that stamp the time of every click."""

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import FieldError, UserError
from qtwin.core.params import Element, efficiency, is_concrete, nonnegative, param, positive, real, static
from qtwin.detector import afterpulsing as trapped
from qtwin.detector import dead_time as dead
from qtwin.detector import jitter as timing
from qtwin.detector.dead_time import live_fraction as live_fraction
from qtwin.detector.dead_time import paralysable_rate as paralysable_rate
from qtwin.detector.jitter import FWHM as FWHM
from qtwin.detector.tdc import TDC

LAWS = ("non-paralysable", "paralysable")


class Gate(Element):
    """Sensitive from ``offset`` + k ``period`` on, for ``width`` each time; what comes outside is lost."""

    period: jax.Array = param("s", positive, "from gate to gate")
    width: jax.Array = param("s", positive, "of a gate")
    offset: jax.Array = param("s", real, "start of one gate", default=0.0)

    def check(self):
        if is_concrete(self.period) and is_concrete(self.width) and not float(self.width) < float(self.period):
            raise FieldError("width", f"got {float(self.width):g} s, accepted is less than the period")

    def holds(self, dead_time) -> bool:
        """Whether a click blinds the rest of its gate and a whole number of gates after it, wherever in it it falls."""
        after = float(dead_time) % float(self.period)
        slack = 1e-9 * float(self.period)
        return float(self.width) - slack <= after <= float(self.period) - float(self.width) + slack


class SinglePhoton(Element):
    """m = n/(1 + n tau) clicks per second for n = eta phi + D events per second; normal jitter.

    Non-paralysable dead time (Knoll, Radiation Detection and Measurement, 4th ed., ch. 4.VII). ``jitter`` is
    the full width at half maximum of one click's delay.

    Every other effect is off unless it is given: recovery and twilight (`qtwin.detector.dead_time`), afterpulses
    (`qtwin.detector.afterpulsing`), an exponential tail of the delay after its normal part, whose width ``jitter`` then
    is (`qtwin.detector.jitter`), gates, bins of the time-to-digital converter. ``live`` is the mean of what
    `qtwin.detector.clicks` draws. A paralysable device knows neither recovery, twilight, afterpulses nor gates; gates
    know none of the others, and want a dead time that blinds whole gates (`gated_rate`).
    """

    efficiency: jax.Array = param("", efficiency, "detection efficiency at the signal wavelength")
    dark_rate: jax.Array = param("Hz", nonnegative, "dark counts per second of one element")
    dead_time: jax.Array = param("s", nonnegative, "dead time after a click")
    jitter: jax.Array = param("s", nonnegative, "timing jitter, full width at half maximum")
    recovery_time: jax.Array = param("s", nonnegative, "1/e time of the efficiency after the dead time", default=0.0)
    twilight: jax.Array = param("s", nonnegative, "end of the dead time in which an event clicks late", default=0.0)
    jitter_tail: jax.Array = param("s", nonnegative, "mean of the exponential delay after the normal one", default=0.0)
    afterpulsing: trapped.AbstractAfterpulsing | None = None
    gate: Gate | None = None
    tdc: TDC | None = None
    dead_time_law: str = static("'non-paralysable' or 'paralysable'", default=LAWS[0])

    def check(self):
        if self.dead_time_law not in LAWS:
            raise FieldError("dead_time_law", f"got {self.dead_time_law!r}, accepted is {' or '.join(map(repr, LAWS))}")
        for name, kind in (("afterpulsing", trapped.AbstractAfterpulsing), ("gate", Gate), ("tdc", TDC)):
            value = getattr(self, name)
            if value is not None and isinstance(value, (str, int, float, dict)):
                raise FieldError(
                    name, f"got {value!r}, accepted is a {kind.__name__.removeprefix('Abstract')} or nothing"
                )
        extra = [name for name in ("recovery_time", "twilight") if _above_zero(getattr(self, name))]
        extra += ["afterpulsing"] * (self.afterpulsing is not None)
        if self.dead_time_law == "paralysable":
            extra += ["gate"] * (self.gate is not None)
        elif self.gate is None:
            extra = []
        if extra:
            beside = "gates" if self.gate is not None and "gate" not in extra else "a paralysable dead time"
            raise FieldError(extra[0], f"is given beside {beside}, accepted is one of the two")
        if _above_zero(self.twilight) and is_concrete(self.dead_time) and self.twilight > self.dead_time:
            raise FieldError("twilight", "is longer than the dead time, accepted is a part of it")
        if self.gate is not None and all(map(is_concrete, (self.dead_time, self.gate.period, self.gate.width))):
            if not self.gate.holds(self.dead_time):
                raise FieldError(
                    "dead_time", "got one that ends within a gate, accepted is one that blinds whole gates"
                )

    def events(self, photons, time):
        """Mean events (light and dark) in ``time`` s before dead time; elementwise."""
        return self.efficiency * photons + self.dark_rate * time

    def live(self, photons, time):
        """Mean clicks per event at that light level: the live fraction where there are no afterpulses; elementwise."""
        return self.live_at(self.events(photons, time) / time)

    def live_at(self, rate):
        """Mean clicks per event at ``rate`` events per second, light and dark; elementwise."""
        if self.dead_time_law == "paralysable":
            return jnp.exp(-rate * self.dead_time)
        if self.gate is not None:
            some = jnp.where(rate > 0, rate, 1.0)
            clicks = dead.gated_rate(some, self.dead_time, self.gate.period, self.gate.width)
            return jnp.where(rate > 0, clicks / some, self.gate.width / self.gate.period)
        if self.afterpulsing is not None:
            return trapped.live_factor(rate, self.dead_time, self.recovery_time, self.twilight, self.afterpulsing)
        return dead.live_factor(rate, self.dead_time, self.recovery_time, self.twilight)

    def variance(self, photons, time):
        """Variance of the clicks in ``time`` s, long against dead time and afterpulses; elementwise.

        Renewal theory; with afterpulses to first order in their probability.
        """
        rate = self.events(photons, time) / time
        if self.dead_time_law == "paralysable":
            return time * dead.paralysable_variance(rate, self.dead_time)
        if self.gate is not None:
            return time * dead.gated_variance(rate, self.dead_time, self.gate.period, self.gate.width)
        laws = rate, self.dead_time, self.recovery_time, self.twilight
        if self.afterpulsing is not None:
            return time * trapped.count_variance(*laws, self.afterpulsing)
        return time * dead.count_variance(*laws)

    def width(self):
        """Full width at half maximum of one click's delay, s: ``jitter`` where there is no tail."""
        return timing.fwhm(self.jitter / FWHM, self.jitter_tail)


def _above_zero(x) -> bool:
    """Whether a parameter is known to be switched on."""
    return is_concrete(x) and bool(np.any(np.asarray(x) > 0))


def efficiency_at(wavelength, wavelengths, values):
    """Efficiency at ``wavelength`` m of a curve given as a table, linear between its rows; elementwise.

    wavelengths: m, [rows], rising; values: [rows], 0 to 1. Raises UserError outside the table, naming its range.
    """
    wavelengths, values = np.asarray(wavelengths, float), np.asarray(values, float)
    if wavelengths.ndim != 1 or wavelengths.shape != values.shape or not (np.diff(wavelengths) > 0).all():
        raise UserError("wavelengths: accepted are as many as values, in one row and rising")
    if not ((values >= 0) & (values <= 1)).all():
        raise UserError("values: accepted are efficiencies from 0 to 1")
    if is_concrete(wavelength):
        given, low, high = np.asarray(wavelength, float), wavelengths[0], wavelengths[-1]
        outside = given[~((given >= low * (1 - 1e-9)) & (given <= high * (1 + 1e-9)))]
        if outside.size:
            raise UserError(
                f"wavelength: got {outside[0] * 1e9:.6g} nm, the curve has {low * 1e9:g} to {high * 1e9:g} nm"
            )
    kind = jnp.result_type(float)
    return jnp.interp(jnp.asarray(wavelength, kind), jnp.asarray(wavelengths, kind), jnp.asarray(values, kind))


def overbias_factor(overbias, scale, reference):
    """(1 - exp(-V/V_0))/(1 - exp(-V_ref/V_0)): efficiency at an excess bias V, over that at V_ref; elementwise.

    The probability that a carrier sets off an avalanche saturates with the excess bias: Otte et al., Nucl. Instrum.
    Methods A 846, 106 (2017), arXiv 1606.05186, who write V and V_0 = ``scale`` as parts of the breakdown voltage.
    """
    return jnp.expm1(-overbias / scale) / jnp.expm1(-reference / scale)
