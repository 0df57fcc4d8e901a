"""Images of one bucket detector in coherent light that is steered onto the sample: scanned, or in Hadamard patterns.

Neither needs a camera: the classical opponents of every ghost image. Both light the field of the superpixels alone.
"""

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.random import numpy_generator
from qtwin.estimator.linear import Calibration, LinearLaw, uncorrelated
from qtwin.estimator.protocol import AbstractLaw, Arm, Bench, Drawn, Ledger
from qtwin.estimator.response import beyond_poisson


def steered(bench: Bench, detected) -> Ledger:
    """Ledger of a laser steered onto the superpixels, each with its share of the usual beam, and nowhere else."""
    whole, field = bench.laser(detected), jnp.sum(bench.idler)
    return whole._replace(incident=whole.incident * field, pump=whole.pump * field)


def arriving(bench: Bench, seen):
    """Photons at the bucket of one exposure for light that each superpixel passes with ``seen``, [n, n]."""
    return bench.optics.collection_transmission * bench.setting.incident * seen


def background(bench: Bench):
    """Background photons at the bucket per second: those of the whole field, []."""
    return bench.optics.ambient * bench.idler.size


def scanned(bench: Bench) -> LinearLaw:
    """T = (x - d)/g in every superpixel: a beam of constant power dwells where it is to give its dose.

    x: clicks while the beam dwells, d: background and dark counts of that time, g: clicks of a clear object.
    """
    device, dwell = bench.detector, bench.setting.time * bench.idler / jnp.sum(bench.idler)
    stray = background(bench) * dwell
    light, clear = arriving(bench, bench.images.ghost), arriving(bench, bench.images.ghost_open)
    live = device.live(light + stray, dwell)
    nothing = jnp.zeros_like(light)
    records = uncorrelated(device.events(light + stray, dwell) * live, beyond_poisson(device, light + stray, dwell))
    cal = Calibration(device.events(stray, dwell) * live, nothing, device.efficiency * clear * live, nothing)
    return LinearLaw(steered(bench, jnp.sum(records.x - cal.background)), records, cal)


def walsh(x: np.ndarray) -> np.ndarray:
    """sum_b h_kb x_b of the last axis, of length K a power of two; h_kb = (-1)^(bits that k and b have in common)."""
    length, reach = x.shape[-1], 1
    while reach < length:
        pairs = x.reshape(*x.shape[:-1], length // (2 * reach), 2, reach)
        first, second = pairs[..., 0, :], pairs[..., 1, :]
        x = np.stack([first + second, first - second], axis=-2).reshape(x.shape)
        reach *= 2
    return x


class HadamardLaw(AbstractLaw):
    """T_a = sum_k h_ka B_k/g_a: bucket clicks B_k of K patterns that light superpixel a where h_ka = 1.

    Walsh functions 1 to n^2 of K, the smallest power of two above n^2. Superpixel a gets its dose in K/2 patterns of
    equal length: <B_k> = sum_b (1 + h_kb) g_b T_b/K + d/K, g those of a clear one. All clicks B enter each superpixel:
    Var T_a = <B>/g_a^2, against T_a/g_a of a scanned beam. (Noise per reading that no photons bring is shared instead:
    the gain of Harwit & Sloane, Hadamard Transform Optics (1979), quoted from memory.)

    Poisson clicks, with the live fraction of the mean light; background cancels.
    """

    ledger: Ledger
    clicks: jax.Array  # [n, n] due to the light of each superpixel
    gain: jax.Array  # [n, n] the same of a clear object
    beside: jax.Array  # [] dark counts and background
    excess: jax.Array  # [] variance beyond Poisson's

    def mean(self):
        return self.clicks / self.gain

    def _total(self):
        return jnp.sum(self.clicks) + self.beside + self.excess

    def variance(self):
        return self._total() / self.gain**2

    def covariance(self):
        """Cov(T_a, T_b) = (w T)_c/(g_a g_b), c the superpixel of the Walsh function h_a h_b, if it has one."""
        each = self._padded()
        each[0] = float(self._total())
        number = 1 + np.arange(self.clicks.size)
        gain = np.asarray(self.gain).ravel()
        return each[number[:, None] ^ number[None, :]] / (gain[:, None] * gain[None, :])

    def fourth(self, energy):
        """Poisson events jump in every superpixel at once: sum_ab e_a e_b kappa(T_a, T_a, T_b, T_b)."""
        return float(self._total()) * float(np.sum(energy / np.asarray(self.gain).ravel() ** 2)) ** 2

    def draw(self, exposures, *, key):
        rng = numpy_generator(key, "patterns")
        each = self._padded()
        patterns = len(each)
        mean = (float(np.sum(each)) + walsh(each) + float(self.beside)) / patterns
        bucket = rng.poisson(np.maximum(mean, 0), (exposures, patterns))
        bucket = bucket + rng.normal(size=bucket.shape) * np.sqrt(float(self.excess) / patterns)
        found = walsh(bucket)[:, 1 : 1 + self.clicks.size].reshape(exposures, *self.clicks.shape)
        return Drawn(found / np.asarray(self.gain), spread_evenly(bucket.sum(axis=1), self.clicks.shape))

    def _padded(self) -> np.ndarray:
        """Clicks of the superpixels in the order of their Walsh functions, the constant one empty, [K]."""
        clicks = np.asarray(self.clicks, float).ravel()
        each = np.zeros(1 << clicks.size.bit_length())
        each[1 : 1 + clicks.size] = clicks
        return each


def spread_evenly(totals: np.ndarray, shape) -> np.ndarray:
    """A bucket does not say where its clicks come from: an equal part in every superpixel, [exposures, n, n]."""
    return np.broadcast_to(totals[:, None, None] / np.prod(shape), (len(totals), *shape))


def hadamard(bench: Bench) -> HadamardLaw:
    """Law of one exposure."""
    device, t = bench.detector, bench.setting.time
    light, clear = arriving(bench, bench.images.ghost), arriving(bench, bench.images.ghost_open)
    stray = background(bench) * t
    whole = jnp.sum(light) + stray
    live = device.live(whole, t)
    clicks = device.efficiency * live * light
    beside, excess = device.events(stray, t) * live, beyond_poisson(device, whole, t)
    return HadamardLaw(steered(bench, jnp.sum(clicks)), clicks, device.efficiency * live * clear, beside, excess)


SCANNED = Arm("scanned beam, bucket", scanned, False, kind="a scanned beam with the same bucket", spread="ghost")
HADAMARD = Arm(
    "Hadamard patterns, bucket", hadamard, False, kind="a patterned beam with the same bucket", spread="ghost"
)
