"""Scientific and quantitative CMOS: every pixel has its own read noise, gain, offset and dark rate."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr

from qtwin.core.errors import FieldError
from qtwin.core.params import efficiency as efficient
from qtwin.core.params import fraction, is_concrete, nonnegative, param, positive, real, static
from qtwin.core.random import numpy_generator
from qtwin.detector.camera import (
    MOST_ELECTRONS,
    AbstractCountingCamera,
    clicks_of,
    clipped,
    photoelectrons,
)
from qtwin.modes.checks import number, whole

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(48)


@jax.jit
def above(level, electrons, read_noise, read_noise_spread, gain_spread, offset_spread):
    """P(v > level) = E Phi((k - level)/sqrt(r^2 + DSNU^2 + PRNU^2 k^2)), r lognormal, of k ``electrons`` [n]."""
    dtype = read_noise.dtype
    r = read_noise * jnp.exp(read_noise_spread * jnp.asarray(NODES, dtype))
    fixed = offset_spread**2 + (gain_spread * electrons) ** 2
    spread = jnp.sqrt(jnp.maximum(r[None, :] ** 2 + fixed[:, None], 1e-18))
    return ndtr((electrons - level)[:, None] / spread) @ jnp.asarray(WEIGHTS / WEIGHTS.sum(), dtype)


class Pattern(NamedTuple):
    """What the pixels of a sensor differ in, [rows, columns] each."""

    gain: np.ndarray  # relative
    offset: np.ndarray  # electrons
    read_noise: np.ndarray  # electrons rms
    dark_rate: np.ndarray  # Hz


class SCMOS(AbstractCountingCamera):
    """v = g k + o + r y of a pixel with k electrons, y normal: gain g, offset o and read noise r are the pixel's own.

    Over the pixels g and o are normal of std ``gain_spread`` (PRNU) and ``offset_spread`` (DSNU) about 1 and 0, what
    the maker's correction leaves, and ln r is normal: r = read_noise e^(s y), s = sqrt(ln(rms/median)). A part
    ``hot_fraction`` has ``hot_rate`` for its dark rate. `mean` and `variance` are averages over the pixels of their own
    (Var = (1 + PRNU^2) m + rms^2); `pattern_variance` is the variance of those means. The fixed pattern is drawn from
    ``seed``. With read noise well below 1/2 rounding counts photons (`resolve`). Rows start one after the other.
    """

    efficiency: jax.Array = param("", efficient, "quantum efficiency at the signal wavelength")
    fill_factor: jax.Array = param("", efficient, "of a pixel's area, lenses included, unless the efficiency holds it")
    read_noise: jax.Array = param("", nonnegative, "median read noise of the pixels, electrons rms")
    read_noise_spread: jax.Array = param("", nonnegative, "std of ln(read noise) over the pixels, sqrt(ln(rms/median))")
    dark_rate: jax.Array = param("Hz", nonnegative, "dark electrons per pixel and second")
    hot_fraction: jax.Array = param("", fraction, "part of the pixels that are hot")
    hot_rate: jax.Array = param("Hz", nonnegative, "dark electrons per second of a hot pixel")
    gain_spread: jax.Array = param("", nonnegative, "std of the relative gain over the pixels, PRNU")
    offset_spread: jax.Array = param("", nonnegative, "std of the offset over the pixels, electrons, DSNU")
    full_well: jax.Array = param("", positive, "electrons that a pixel holds")
    frame_rate: jax.Array = param("Hz", positive, "frames per second at most; rows are read one after the other")
    threshold: jax.Array = param("", real, "of a click, electrons", default=0.5)
    rows: int = static("rows of the sensor that are read", default=2048)
    seed: int = static("seed of the fixed pattern of the pixels", default=0)

    def check(self):
        whole("rows", self.rows, 1, 1_000_000)
        whole("seed", self.seed, 0, 2**32 - 1)

    @property
    def saturation(self):
        return self.full_well

    @property
    def excess(self):
        return 1 + self.gain_spread**2

    @property
    def read_variance(self):
        return self.read_noise**2 * jnp.exp(2 * self.read_noise_spread**2)

    def _electrons(self, photons, time):
        """Mean electrons of a usual and of a hot pixel."""
        photons, time = number("photons", photons, nonnegative), number("time", time, nonnegative)
        light = self.efficiency * self.fill_factor * photons
        return light + self.dark_rate * time, light + self.hot_rate * time

    def mean(self, photons, time):
        usual, hot = self._electrons(photons, time)
        return usual + self.hot_fraction * (hot - usual)

    def variance(self, photons, time):
        return self.excess * self.mean(photons, time) + self.read_variance

    def pattern_variance(self, photons, time):
        """PRNU^2 (mean of m^2) + DSNU^2 + h (1 - h) (m_hot - m_usual)^2: variance of the pixels' mean electrons."""
        usual, hot = self._electrons(photons, time)
        h = self.hot_fraction
        square = (1 - h) * usual**2 + h * hot**2
        return self.gain_spread**2 * square + self.offset_spread**2 + h * (1 - h) * (hot - usual) ** 2

    def saturated(self, photons, time):
        (usual, v), (hot, w) = (clipped(m, m, self.full_well) for m in self._electrons(photons, time))
        h = self.hot_fraction
        return (1 - h) * usual + h * hot, self.excess * ((1 - h) * v + h * w) + self.read_variance

    def pattern(self, shape) -> Pattern:
        """The fixed pattern of ``shape`` [rows, columns] pixels."""
        rng = numpy_generator(jax.random.key(self.seed), "pattern of the pixels")
        gain, offset, spread = rng.normal(size=(3, *shape))
        hot = rng.random(shape) < float(self.hot_fraction)
        return Pattern(
            1 + float(self.gain_spread) * gain,
            float(self.offset_spread) * offset,
            float(self.read_noise) * np.exp(float(self.read_noise_spread) * spread),
            np.where(hot, float(self.hot_rate), float(self.dark_rate)),
        )

    def sample(self, counts, time, *, rng):
        """Frames [..., rows, columns] of one sensor, for whole numbers ``counts`` of photons that arrived."""
        own = self.pattern(np.shape(counts)[-2:])
        electrons = photoelectrons(counts, self.efficiency * self.fill_factor, own.dark_rate * time, rng)
        held = np.minimum(electrons, float(self.full_well))
        return own.gain * held + own.offset + own.read_noise * rng.normal(size=held.shape)

    def _above(self, level, electrons):
        return above(level, electrons, self.read_noise, self.read_noise_spread, self.gain_spread, self.offset_spread)

    def silent(self):
        """Probability that 0, 1, 2 .. electrons stay below the threshold; FieldError where 32 of them might."""
        reach = self.threshold + 6 * self.read_noise * jnp.exp(3 * self.read_noise_spread)
        if is_concrete(reach) and reach > MOST_ELECTRONS:
            given = f"{float(reach):.4g} electrons with six times the noise"
            raise FieldError("threshold", f"got {given}, accepted for clicks are {MOST_ELECTRONS} or less")
        electrons = jnp.arange(MOST_ELECTRONS + 1, dtype=self.threshold.dtype)
        return 1 - self._above(self.threshold, electrons)

    def click_probability(self, photons, time):
        silent, h = self.silent(), self.hot_fraction
        usual, hot = (clicks_of(m, silent) for m in self._electrons(photons, time))
        return (1 - h) * usual + h * hot

    def detection_efficiency(self):
        return self.efficiency * self.fill_factor * (1 - self.silent()[1])

    def sample_clicks(self, counts, time, *, rng):
        return self.sample(counts, time, rng=rng) > float(self.threshold)

    def misassignment(self, electrons):
        """2 Phi(-1/(2 s)), s^2 = r^2 + DSNU^2 + PRNU^2 k^2, over the pixels: rounding miscounts k electrons."""
        k = jnp.atleast_1d(jnp.asarray(electrons, self.read_noise.dtype))
        return jnp.reshape(2 * (1 - self._above(k - 0.5, k)), jnp.shape(electrons))

    @staticmethod
    def resolve(frame) -> np.ndarray:
        """Whole electrons, int64, of a frame: the nearest number, below 0 too, so that the mean stays."""
        return np.rint(frame).astype(np.int64)

    def row_start(self, row):
        """Seconds by which ``row`` starts later than the first: rolling shutter."""
        return row / (self.rows * self.frame_rate)

    def frame_of(self, times, row, time) -> tuple[np.ndarray, np.ndarray]:
        """(frame, seen) of photons at ``times`` s on ``row``: frames every `period`, exposed for ``time`` each."""
        late = np.asarray(times, float) - np.asarray(self.row_start(jnp.asarray(row, self.frame_rate.dtype)))
        period = float(self.period(jnp.asarray(time, self.frame_rate.dtype)))
        frame = np.floor(late / period).astype(np.int64)
        return frame, late - frame * period < time
