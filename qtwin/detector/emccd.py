"""Electron-multiplying CCD: its frames read as electrons, or as clicks above a threshold."""

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import FieldError
from qtwin.core.params import efficiency as efficient
from qtwin.core.params import fraction, index, is_concrete, nonnegative, param, positive, static
from qtwin.detector.camera import (
    MOST_ELECTRONS,
    AbstractCountingCamera,
    clicks_of,
    clipped,
    drawn_clicks,
    photoelectrons,
)
from qtwin.detector.multiplication import FARTHEST, MOST_STAGES, excess_noise, multiply, own_charge, silent_probability
from qtwin.modes.checks import number, whole


class EMCCD(AbstractCountingCamera):
    """Var = F^2 (eta n + D t + c) + V_r + (r/G)^2 per pixel, F^2 of `excess_noise`, V_r of the register's own charge.

    A frame is x/G, x the output of the register and of its amplifier of noise r. A pixel clicks where x exceeds
    ``threshold`` r: at high gain of one electron by 1 - exp(-threshold r/G), and by the exact law of the stages here
    (`qtwin.detector.multiplication`). ``full_well`` is that of a pixel; the register's saturates first at high gain.
    """

    efficiency: jax.Array = param("", efficient, "quantum efficiency at the signal wavelength")
    gain: jax.Array = param("", index, "mean gain G of the register; 1 is off")
    read_noise: jax.Array = param("", nonnegative, "noise of the output amplifier, electrons rms behind the register")
    dark_rate: jax.Array = param("Hz", nonnegative, "dark electrons per pixel and second")
    clock_induced_charge: jax.Array = param("", nonnegative, "electrons per pixel and frame from the transfers to it")
    register_charge: jax.Array = param("", fraction, "chance that a stage adds an electron to a packet")
    full_well: jax.Array = param("", positive, "electrons that a pixel holds")
    register_well: jax.Array = param("", positive, "electrons that an element of the register holds")
    frame_rate: jax.Array = param("Hz", positive, "frames per second at most")
    threshold: jax.Array = param("", nonnegative, "of a click, in read noises", default=5.0)
    stages: int = static("multiplying stages", default=536)

    def check(self):
        whole("stages", self.stages, 1, MOST_STAGES)

    @property
    def saturation(self):
        return jnp.minimum(self.full_well, self.register_well / self.gain)

    @property
    def excess(self):
        return excess_noise(self.gain, self.stages)

    @property
    def read_variance(self):
        return (self.read_noise / self.gain) ** 2

    def electrons(self, photons, time):
        """Mean electrons that enter the register."""
        photons, time = number("photons", photons, nonnegative), number("time", time, nonnegative)
        return self.efficiency * photons + self.dark_rate * time + self.clock_induced_charge

    def mean(self, photons, time):
        return self.electrons(photons, time) + own_charge(self.gain, self.stages, self.register_charge)[0]

    def variance(self, photons, time):
        own = own_charge(self.gain, self.stages, self.register_charge)[1]
        return self.excess * self.electrons(photons, time) + own + self.read_variance

    def saturated(self, photons, time):
        electrons = self.electrons(photons, time)
        mean, variance = clipped(electrons, electrons, self.full_well)
        own = own_charge(self.gain, self.stages, self.register_charge)
        spread = variance + (self.excess - 1) * mean + own[1]
        mean, variance = clipped(mean + own[0], spread, self.register_well / self.gain)
        return mean, variance + self.read_variance

    def _packets(self, counts, time, rng):
        electrons = photoelectrons(counts, self.efficiency, self.dark_rate * time + self.clock_induced_charge, rng)
        return np.minimum(electrons, int(self.full_well))

    def sample(self, counts, time, *, rng):
        packets = self._packets(counts, time, rng)
        out = multiply(packets, float(self.gain), self.stages, float(self.register_charge), rng=rng)
        held = np.minimum(out, float(self.register_well))
        return (held + rng.normal(0, float(self.read_noise), held.shape)) / float(self.gain)

    def silent(self):
        """Probability that 0, 1, 2 .. electrons of a packet do not click; FieldError where 32 of them might not."""
        level, far = self.threshold * self.read_noise, (self.threshold + 8) * self.read_noise
        if is_concrete(level) and is_concrete(self.gain) and level > 8 * self.gain:
            given, most = float(level), 8 * float(self.gain)
            raise FieldError(
                "threshold", f"got {given:.4g} electrons, accepted for clicks are at most 8 gains, {most:.4g}"
            )
        if is_concrete(far) and far > FARTHEST:
            words = f"got {float(far):.4g} electrons of threshold and noise, accepted for clicks are {FARTHEST} or less"
            raise FieldError("read_noise", words)
        args = (self.gain, self.stages, self.register_charge, self.read_noise, self.threshold)
        return silent_probability(*args, MOST_ELECTRONS)

    def click_probability(self, photons, time):
        return clicks_of(self.electrons(photons, time), self.silent())

    def detection_efficiency(self):
        return self.efficiency * (1 - self.silent()[1])

    def sample_clicks(self, counts, time, *, rng):
        return drawn_clicks(self._packets(counts, time, rng), self.silent(), rng)
