"""Intensified CCD: photocathode, gate, microchannel plate and phosphor before a CCD; electrons or clicks."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf, gammaln, ndtr

from qtwin.core.errors import FieldError
from qtwin.core.params import efficiency as efficient
from qtwin.core.params import is_concrete, nonnegative, param, positive
from qtwin.detector.camera import (
    MOST_ELECTRONS,
    AbstractCountingCamera,
    clicks_of,
    clipped,
    drawn_clicks,
    photoelectrons,
)
from qtwin.detector.single_photon import FWHM
from qtwin.modes.checks import number

NODES, WEIGHTS = np.polynomial.legendre.leggauss(96)


@jax.jit
def silent_probability(gain, shape, read_noise, threshold):
    """u_k = int p_ks(x) Phi((t r - x)/sqrt(x + r^2)) dx, p_ks a gamma law of mean k g: k photoelectrons do not click.

    k from 0 to 32, ``shape`` s, ``threshold`` t in read noises r. The Poisson noise of the CCD is taken as normal, for
    thresholds of some ten CCD electrons or more.
    """
    level, noise = threshold * read_noise, read_noise**2
    farthest = level + 9 * jnp.sqrt(level + noise) + 81
    x = farthest * jnp.asarray((NODES + 1) / 2, gain.dtype) ** (1 / shape)  # even in x^s, as the law goes for k = 1
    below = ndtr((level - x) / jnp.sqrt(x + noise))
    k = jnp.arange(1, MOST_ELECTRONS + 1, dtype=gain.dtype)[:, None]
    power = k * shape * jnp.log(shape / gain) + (k - 1) * shape * jnp.log(x)[None, :] - (shape * x / gain)[None, :]
    density = jnp.exp(power + shape * jnp.log(farthest) - gammaln(k * shape)) / shape
    counted = (density * below[None, :]) @ jnp.asarray(WEIGHTS / 2, gain.dtype)
    return jnp.concatenate([ndtr(threshold)[None], counted])


class ICCD(AbstractCountingCamera):
    """Var = F^2 (eta n + D t_open) + (r/g)^2 per pixel, F^2 = 1 + 1/s + 1/g: plate of gamma law, g CCD electrons each.

    Every photoelectron makes a gamma distributed signal of shape s and mean g electrons on the CCD, which counts them
    with Poisson noise. s = 1, an exponential law, is that of a single plate (Photek, pulse height distributions of
    microchannel plates); more plates make it peaked. ``photons`` are those that arrive while the gate is open
    (`open_fraction` of continuous light, `capture` of triggered light); a frame holds gate_rate t gates, and
    ``dark_rate`` counts while they are open. ``read_noise`` and ``full_well`` are electrons of the CCD; a pixel is the
    superpixel that holds the spot of one photoelectron.
    """

    efficiency: jax.Array = param("", efficient, "of the photocathode and the way into the plate")
    gain: jax.Array = param("", positive, "CCD electrons per photoelectron")
    gain_shape: jax.Array = param("", positive, "shape of the gamma law of the plate's gain; 1 is exponential")
    read_noise: jax.Array = param("", nonnegative, "read noise, CCD electrons rms")
    dark_rate: jax.Array = param("Hz", nonnegative, "electrons per second and pixel of the open, dark photocathode")
    gate: jax.Array = param("s", positive, "how long a gate is open")
    gate_rate: jax.Array = param("Hz", positive, "gates per second")
    full_well: jax.Array = param("", positive, "electrons that a pixel of the CCD holds")
    frame_rate: jax.Array = param("Hz", positive, "frames per second at most")
    threshold: jax.Array = param("", nonnegative, "of a click, in read noises", default=5.0)

    def check(self):
        if is_concrete(self.gate) and is_concrete(self.gate_rate) and self.gate * self.gate_rate > 1:
            raise FieldError(
                "gate_rate", f"got {float(self.gate * self.gate_rate):.4g} of the time open, accepted is at most 1"
            )

    @property
    def saturation(self):
        return self.full_well / self.gain

    @property
    def excess(self):
        return 1 + 1 / self.gain_shape + 1 / self.gain

    @property
    def read_variance(self):
        return (self.read_noise / self.gain) ** 2

    def open_fraction(self):
        """gate x gate_rate: part of continuous light that meets an open gate."""
        return self.gate * self.gate_rate

    def capture(self, jitter):
        """erf(gate/(2 sqrt 2 s)): part of photons of normal arrival, FWHM ``jitter``, in a gate centred on them."""
        spread = number("jitter", jitter, nonnegative) / FWHM
        late = self.gate / (2 * jnp.sqrt(2.0) * jnp.where(spread > 0, spread, 1))
        return jnp.where(spread > 0, erf(late), 1.0)

    def electrons(self, photons, time):
        """Mean photoelectrons."""
        photons, time = number("photons", photons, nonnegative), number("time", time, nonnegative)
        return self.efficiency * photons + self.dark_rate * self.open_fraction() * time

    def mean(self, photons, time):
        return self.electrons(photons, time)

    def variance(self, photons, time):
        return self.excess * self.electrons(photons, time) + self.read_variance

    def saturated(self, photons, time):
        mean, variance = clipped(
            self.electrons(photons, time), self.excess * self.electrons(photons, time), self.saturation
        )
        return mean, variance + self.read_variance

    def _photoelectrons(self, counts, time, rng):
        return photoelectrons(counts, self.efficiency, self.dark_rate * self.open_fraction() * time, rng)

    def sample(self, counts, time, *, rng):
        electrons = self._photoelectrons(counts, time, rng)
        signal = rng.gamma(electrons * float(self.gain_shape), float(self.gain / self.gain_shape))
        held = np.minimum(rng.poisson(signal), float(self.full_well))
        return (held + rng.normal(0, float(self.read_noise), held.shape)) / float(self.gain)

    def silent(self):
        """Probability that 0, 1, 2 .. photoelectrons do not click; FieldError where 32 of them might not."""
        level, most = self.threshold * self.read_noise, self.gain * jnp.minimum(8, 8 * self.gain_shape)
        if is_concrete(level) and is_concrete(most) and level > most:
            given, accepted = float(level), f"at most {float(most):.4g}"
            raise FieldError("threshold", f"got {given:.4g} CCD electrons, accepted for clicks are {accepted}")
        return silent_probability(self.gain, self.gain_shape, self.read_noise, self.threshold)

    def click_probability(self, photons, time):
        return clicks_of(self.electrons(photons, time), self.silent())

    def detection_efficiency(self):
        return self.efficiency * (1 - self.silent()[1])

    def sample_clicks(self, counts, time, *, rng):
        return drawn_clicks(self._photoelectrons(counts, time, rng), self.silent(), rng)
