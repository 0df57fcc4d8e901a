"""Figures of merit of one arm beside those of its images: what an observer, the photons and the edges say."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import norm

from qtwin.core.errors import UserError
from qtwin.core.records import Estimate
from qtwin.estimator.protocol import AbstractLaw
from qtwin.estimator.regularised import best_weight, total_variation
from qtwin.metrics.detectability import hotelling
from qtwin.metrics.image import quality
from qtwin.metrics.information import pooled
from qtwin.metrics.resolution import edge
from qtwin.metrics.statistics import jackknife

UNITS = {"detectability": "", "auc": "", "information_per_photon": "", "information_over_coherent": ""}
UNITS |= {"information_over_quantum_limit": "", "edge_width": "m", "edge_contrast": ""}


def observer(law: AbstractLaw, means: np.ndarray, variances: np.ndarray) -> dict[str, Estimate]:
    """d' and AUC of the Hotelling observer who looks for the known object in one exposure; from the law, not draws.

    Signal 1 - <T>, covariance with the object in place. ``means``, ``variances`` [BLOCKS, n, n] of the law without one
    block of the walk: the relative error of d' is taken from them as if superpixels were independent.
    """
    signal = 1 - np.asarray(law.mean()).ravel()
    d = float(hotelling(signal, law.covariance())) if np.any(np.abs(signal) > 1e-12) else 0.0
    apart = np.sqrt(np.sum((1 - means) ** 2 / variances, axis=(1, 2)))
    error = d * float(jackknife(apart) / apart.mean()) if d > 0 else 0.0
    area = norm.cdf(d / np.sqrt(2)), norm.pdf(d / np.sqrt(2)) / np.sqrt(2) * error
    return {"detectability": Estimate(d, error), "auc": Estimate(float(area[0]), float(area[1]))}


def information(law: AbstractLaw, means, variances, light) -> dict[str, Estimate]:
    """`qtwin.metrics.information.pooled` of one exposure; ``light`` [n, n]: part of it that meets a superpixel."""
    incident = law.ledger.incident * light

    def figures(mean, variance):
        return jnp.stack(pooled(variance, incident, jnp.clip(mean, 0, 1)))

    whole, left = figures(law.mean(), law.variance()), jax.vmap(figures)(jnp.asarray(means), jnp.asarray(variances))
    found = zip(list(UNITS)[2:5], np.asarray(whole), jackknife(np.asarray(left)), strict=True)
    return {name: Estimate(float(value), float(error)) for name, value, error in found}


def edges(estimates: np.ndarray, cells: np.ndarray, pitch: float) -> dict[str, Estimate | None]:
    """10 to 90 % width and contrast of the object's edges; None where it has none, or none that is wide enough."""
    try:
        found = edge(estimates, cells, pitch)
    except UserError:
        return {"edge_width": None, "edge_contrast": None}
    figures = {"edge_width": found.width, "edge_contrast": found.contrast}
    return {name: f if np.isfinite(f).all() else None for name, f in figures.items()}


def regularised(estimates: np.ndarray, variance: np.ndarray, truth: np.ndarray, *, key):
    """Mean of the exposures by total variation [n, n], and its PSNR and SSIM with delete-one jackknife errors.

    The weight is chosen once, from the noise of the mean; the errors are those at that weight.
    """
    k, mean = len(estimates), estimates.mean(axis=0)
    noise = variance / k
    weight = best_weight(mean, noise, key=key)
    images = [total_variation(m, noise, weight) for m in (mean, *(mean + (mean - e) / (k - 1) for e in estimates))]
    figures = [quality(image, noise, truth, 1.0) for image in images]
    out: dict[str, Estimate | None] = {}
    for name in ("psnr", "ssim"):
        value, *left = [getattr(f, name) for f in figures]
        out[f"{name}_regularised"] = None if value is None else Estimate(value, float(jackknife(left)))
    return images[0], out
