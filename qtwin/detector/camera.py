"""Cameras that give frames of calibrated photoelectrons: what all of them answer, and the plain CCD.

``photons`` are the mean photons that arrive on a pixel in one frame, ``time`` its exposure in s; elementwise. A drawn
frame starts from the whole numbers of photons that arrived.
"""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

from qtwin.core.errors import UserError
from qtwin.core.params import Element, nonnegative, param, positive
from qtwin.core.params import efficiency as efficient

MOST_ELECTRONS = 32  # of one pixel, up to which the chance of staying below a threshold is followed


class AbstractCamera(Element):
    """Var = F^2 (eta n + dark) + r^2 of a pixel and frame in Poisson light of mean n, in photoelectrons.

    Light of variance V has eta^2 (V - n) more, and two cameras share eta_1 eta_2 Cov(n_1, n_2): the excess noise F^2
    multiplies neither. `mean` and `variance` are the laws well below `saturation`.
    """

    efficiency: eqx.AbstractVar[jax.Array]
    full_well: eqx.AbstractVar[jax.Array]

    @property
    @abstractmethod
    def saturation(self):
        """Electrons, input-referred, above which a frame does not follow the light."""

    @property
    @abstractmethod
    def excess(self):
        """F^2 = <x^2>/<x>^2 of the recorded signal x of one electron, which multiplies Poisson variances."""

    @property
    @abstractmethod
    def read_variance(self):
        """r^2, variance of the read noise, input-referred."""

    @abstractmethod
    def mean(self, photons, time):
        """Mean electrons, dark ones included."""

    @abstractmethod
    def variance(self, photons, time):
        """Variance of one frame in Poisson light."""

    @abstractmethod
    def saturated(self, photons, time):
        """(mean, variance) with the wells, in Poisson light; normal laws, so for wells of 100 electrons or more."""

    @abstractmethod
    def sample(self, counts, time, *, rng: np.random.Generator) -> np.ndarray:
        """A recorded frame for whole numbers ``counts`` of photons that arrived, same shape."""


class AbstractCountingCamera(AbstractCamera):
    """A camera whose frames are also read as clicks: pixels above a threshold."""

    frame_rate: eqx.AbstractVar[jax.Array]

    @abstractmethod
    def click_probability(self, photons, time):
        """Probability that a pixel clicks in a frame of Poisson light."""

    @abstractmethod
    def detection_efficiency(self):
        """Probability that a photon, alone on its pixel, makes an electron that clicks."""

    @abstractmethod
    def sample_clicks(self, counts, time, *, rng: np.random.Generator) -> np.ndarray:
        """Clicks (bool) for whole numbers ``counts`` of photons that arrived, same shape."""

    def false_positive(self, time):
        """Probability that a pixel clicks without light."""
        return self.click_probability(jnp.zeros_like(self.efficiency), time)

    def period(self, time):
        """Seconds from frame to frame: the exposure, or what the read-out takes if that is longer."""
        return jnp.maximum(time, 1 / self.frame_rate)


class Camera(AbstractCamera):
    """n = eta m + D t electrons, Var n = n + r^2 per superpixel: shot noise of light and dark, read noise r.

    A camera read out once per exposure, its pixels binned to superpixels on the chip. ``read_noise`` and
    ``dark_rate`` are those of one binned superpixel; more than ``full_well`` electrons saturate it (the benchmark
    refuses them).
    """

    efficiency: jax.Array = param("", efficient, "quantum efficiency at the signal wavelength")
    read_noise: jax.Array = param("", nonnegative, "read noise of a superpixel, electrons rms")
    dark_rate: jax.Array = param("Hz", nonnegative, "dark electrons per second of a superpixel")
    full_well: jax.Array = param("", positive, "electrons that a superpixel holds")

    @property
    def saturation(self):
        return self.full_well

    @property
    def excess(self):
        return jnp.ones_like(self.read_noise)

    @property
    def read_variance(self):
        return self.read_noise**2

    def mean(self, photons, time):
        """Mean electrons for ``photons`` mean photons in ``time`` s; elementwise."""
        return self.efficiency * photons + self.dark_rate * time

    def variance(self, photons, time):
        return self.mean(photons, time) + self.read_variance

    def saturated(self, photons, time):
        electrons = self.mean(photons, time)
        mean, variance = clipped(electrons, electrons, self.full_well)
        return mean, variance + self.read_variance

    def sample(self, counts, time, *, rng):
        electrons = photoelectrons(counts, self.efficiency, self.dark_rate * time, rng)
        held = np.minimum(electrons, float(self.full_well))
        return held + rng.normal(0, float(self.read_noise), held.shape)


def photoelectrons(counts, efficiency, dark, rng: np.random.Generator) -> np.ndarray:
    """Binomial part ``efficiency`` of ``counts`` whole photons, and Poisson electrons of mean ``dark``; int64."""
    counts = np.asarray(counts)
    if counts.dtype.kind not in "iu" or np.any(counts < 0):
        given = "a negative one" if counts.dtype.kind == "i" else counts.dtype
        raise UserError(f"counts: got {given}, accepted are whole numbers of photons, 0 or more")
    dark = np.asarray(dark, float)
    if not np.all(dark >= 0):
        raise UserError(f"time: got one that makes {dark.min():.3g} dark electrons, accepted is 0 s or more")
    return rng.binomial(counts, float(efficiency)) + rng.poisson(np.broadcast_to(dark, counts.shape))


def clipped(mean, variance, most):
    """Mean and variance of min(X, W), X normal: m - s L, s^2 (Phi(z) - z L - L^2), z = (W - m)/s.

    L = phi(z) - z Phi(-z) is what a unit normal law has above z. Elementwise; W = ``most``.
    """
    spread = jnp.sqrt(jnp.where(variance > 0, variance, 1))
    z = (most - mean) / spread
    above = norm.pdf(z) - z * norm.cdf(-z)
    kept = jnp.maximum(norm.cdf(z) - z * above - above**2, 0)
    some = variance > 0
    return jnp.where(some, mean - spread * above, jnp.minimum(mean, most)), jnp.where(some, spread**2 * kept, 0)


def clicks_of(electrons, silent):
    """P = 1 - e^-m sum_k u_k m^k/k!: clicks of Poisson electrons of mean m, elementwise.

    ``silent`` u_k: probability that k electrons stay below the threshold, [K + 1], negligible beyond K.
    """
    mean = jnp.minimum(electrons, 80.0)  # more of them always click
    last = jnp.full_like(mean, 1.0) * silent[-1]
    k = jnp.arange(1, len(silent), dtype=silent.dtype)

    def horner(total, term):
        return term[0] + mean / term[1] * total, None

    return 1 - jnp.exp(-mean) * jax.lax.scan(horner, last, (silent[:-1], k), reverse=True)[0]


def drawn_clicks(electrons: np.ndarray, silent, rng: np.random.Generator) -> np.ndarray:
    """Clicks of pixels that hold ``electrons``, with `silent` as of `clicks_of`; exact, as pixels are independent."""
    table = np.append(np.asarray(silent, float), 0.0)
    return rng.random(electrons.shape) >= table[np.minimum(electrons, len(table) - 1)]


def dual_occurrence(electrons):
    """1 - (1 - e^-m)/m: part of Poisson electrons that a click hides, being the second or later one on its pixel."""
    small = electrons < 1e-4
    safe = jnp.where(small, 1.0, electrons)
    return jnp.where(small, electrons / 2, 1 + jnp.expm1(-safe) / safe)
