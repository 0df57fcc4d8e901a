"""The one law of the transmission estimates: counts, less background, less what the idler already knew.

    T = (x - b - k (y - <y>)) / g

x: counts that saw the object, y: idler counts that did not, b: known background, g: counts that a
clear object would give, k: how much of the idler's fluctuation is subtracted. Direct images have k = 0, naive
subtraction k = 1, the optimum is k = Cov(x, y)/Var(y). What is known is known to both sides.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from qtwin.core.random import numpy_generator
from qtwin.estimator.protocol import AbstractLaw, Drawn, Ledger


class Records(NamedTuple):
    """First and second moments of one exposure: Poisson events, some common to x and y, and noise beside them."""

    x: jax.Array  # [n, n] mean counts
    y: jax.Array  # [n, n]
    joint: jax.Array  # [3, 3, n, n] mean events common to x here and y (dy, dx) superpixels further
    noise_x: jax.Array  # [n, n] or [], variance of x beyond Poisson's: read noise, multiplication
    noise_y: jax.Array


class Calibration(NamedTuple):
    """What the estimator knows beforehand, [n, n] each."""

    background: jax.Array
    idler: jax.Array
    gain: jax.Array
    k: jax.Array


def uncorrelated(x, noise=0.0) -> Records:
    """Records of a single beam."""
    nothing = jnp.zeros((3, 3, *x.shape), x.dtype)
    return Records(x, jnp.zeros_like(x), nothing, jnp.asarray(noise, x.dtype), jnp.zeros((), x.dtype))


def optimal_k(covariance, variance):
    """k = Cov(x, y)/Var(y) minimises Var(x - k y). Elementwise."""
    return covariance / variance


def estimate(x, y, cal: Calibration):
    """Transmission estimate of exposures x, y [..., n, n]."""
    known = jax.tree.map(lambda a: jnp.broadcast_to(a, x.shape), cal)
    return (x - known.background - known.k * (y - known.idler)) / known.gain


def variance(records: Records, cal: Calibration):
    """Variance of `estimate` per superpixel and exposure, [n, n]."""
    own = records.x + records.noise_x + cal.k**2 * (records.y + records.noise_y)
    return (own - 2 * cal.k * records.joint[1, 1]) / cal.gain**2


def mean(records: Records, cal: Calibration):
    """Mean of `estimate`, [n, n]."""
    return (records.x - cal.background - cal.k * (records.y - cal.idler)) / cal.gain


def moved(image, dy: int, dx: int):
    """image[..., i + dy, j + dx], zero beyond the edge; |dy|, |dx| <= 1."""
    wide = jnp.pad(image, [(0, 0)] * (image.ndim - 2) + [(1, 1), (1, 1)])
    n, m = image.shape[-2:]
    return wide[..., 1 + dy : 1 + dy + n, 1 + dx : 1 + dx + m]


def covariance(records: Records, cal: Calibration):
    """Covariance of the estimates of a superpixel and its eight neighbours, [3, 3, n, n], own variance inside."""
    out = []
    for dy in (-1, 0, 1):
        row = []
        for dx in (-1, 0, 1):
            if dy == dx == 0:
                row.append(variance(records, cal))
                continue
            there = records.joint[1 + dy, 1 + dx] * moved(cal.k, dy, dx)
            back = moved(records.joint[1 - dy, 1 - dx], dy, dx) * cal.k
            far = moved(cal.gain, dy, dx)
            row.append(jnp.where(far > 0, -(there + back) / (cal.gain * jnp.where(far > 0, far, 1)), 0))
        out.append(jnp.stack(row))
    return jnp.stack(out)


def covariance_matrix(records: Records, cal: Calibration) -> sparse.csr_matrix:
    """`covariance` as a matrix of all superpixels, [n^2, n^2]."""
    stencil = np.asarray(covariance(records, cal))
    n = stencil.shape[-1]
    index = np.arange(n * n).reshape(n, n)
    rows, columns, values = [], [], []
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            here = index[max(0, -dy) : n - max(0, dy), max(0, -dx) : n - max(0, dx)]
            there = index[max(0, dy) : n + min(0, dy), max(0, dx) : n + min(0, dx)]
            rows.append(here.ravel())
            columns.append(there.ravel())
            values.append(stencil[1 + dy, 1 + dx].ravel()[here.ravel()])
    parts = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_matrix(parts, shape=(n * n, n * n))


def thin(records: Records, exposures: int, *, key):
    """Independent exposures by thinning: counts x, y [exposures, n, n].

    Events common to x and y are drawn once and counted in both; the rest of each is drawn apart. Exact for
    Poisson pairs as far as they land within one superpixel of each other; the others count as unpaired. Noise
    beside Poisson's is drawn from the normal law of its variance.
    """
    common = records.joint
    back = sum(moved(common[1 - dy, 1 - dx], dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))

    def poisson(name, rate):
        return numpy_generator(key, name).poisson(np.maximum(rate, 0), (exposures, *rate.shape))

    pairs = poisson("pairs", np.asarray(common))
    landed = sum(moved(jnp.asarray(pairs[:, 1 - dy, 1 - dx]), dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))
    x = pairs.sum(axis=(1, 2)) + poisson("signal", np.asarray(records.x - jnp.sum(common, axis=(0, 1))))
    y = np.asarray(landed) + poisson("idler", np.asarray(records.y - back))
    noise = numpy_generator(key, "read").normal(size=(2, *x.shape))
    x, y = (
        counts + unit * np.sqrt(np.asarray(variance))
        for counts, unit, variance in zip((x, y), noise, (records.noise_x, records.noise_y), strict=True)
    )
    return jnp.asarray(x, records.x.dtype), jnp.asarray(y, records.x.dtype)


class LinearLaw(AbstractLaw):
    """`estimate` of `Records`: the law of every protocol that counts events against a known reference."""

    ledger: Ledger
    records: Records
    calibration: Calibration
    refined: Callable | None = None  # mean counts x [n, n] -> calibration whose k is taken from them
    full_well: jax.Array | float = float("inf")  # electrons

    def mean(self):
        return mean(self.records, self.calibration)

    def variance(self):
        return variance(self.records, self.calibration)

    def covariance(self):
        return covariance_matrix(self.records, self.calibration)

    def fourth(self, energy):
        """Poisson events: one common to x and y jumps by 1 - k, one of x alone by 1, one of y alone by k, over g.

        A pair split over two superpixels counts as two single events.
        """
        r, gain, k = self.records, *(np.asarray(a).ravel() for a in (self.calibration.gain, self.calibration.k))
        both = np.asarray(r.joint[1, 1]).ravel()
        alone_x, alone_y = np.asarray(r.x).ravel() - both, np.asarray(r.y).ravel() - both
        return float(np.sum((energy / gain**2) ** 2 * (alone_x + alone_y * k**4 + both * (1 - k) ** 4)))

    def draw(self, exposures, *, key):
        x, y = thin(self.records, exposures, key=key)
        cal = self.calibration if self.refined is None else self.refined(jnp.mean(x, axis=0))
        return Drawn(np.asarray(estimate(x, y, cal)), np.asarray(x))

    def load(self):
        most = jnp.maximum(jnp.max(self.records.x), jnp.max(self.records.y))
        return most / jnp.asarray(self.full_well, most.dtype)
