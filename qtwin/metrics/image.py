"""Figures of merit of transmission images."""

from typing import NamedTuple

import numpy as np
from skimage.metrics import structural_similarity

from qtwin.metrics.statistics import jackknife


class Quality(NamedTuple):
    """Figures of images; None where the object has no contrast to speak of."""

    snr: float | None  # mean transmission over pooled standard deviation, per superpixel and exposure
    cnr: float | None  # (T_out - T_in)/sqrt(var_out + var_in), per superpixel and exposure
    ssim: float | None  # structural similarity of the mean image with the object
    psnr: float | None  # peak signal-to-noise ratio of one exposure, dB


def object_mask(truth: np.ndarray) -> np.ndarray | None:
    """Superpixels darker than half-way between darkest and clearest; None if all are alike."""
    low, high = truth.min(), truth.max()
    return None if high - low < 1e-9 else truth < (low + high) / 2


def quality(mean: np.ndarray, variance: np.ndarray, truth: np.ndarray, exposures: float = np.inf) -> Quality:
    """Figures of a mean image [n, n] of so many ``exposures`` and of the variance of one.

    PSNR = -10 log10 <(T_k - T)^2> over superpixels and exposures, the peak being a clear object's transmission, 1
    (Gonzalez & Woods, Digital Image Processing (2018), ch. 8, from memory): <(mean - T)^2 + (1 - 1/K) variance>.
    SSIM: Wang et al., IEEE Trans. Image Process. 13, 600 (2004), Gaussian window of std 1.5 superpixels, data range
    that of the object; images of fewer than 11 superpixels a side have none.
    """
    snr = float(mean.mean() / np.sqrt(variance.mean()))
    psnr = float(-10 * np.log10(np.mean((mean - truth) ** 2 + (1 - 1 / exposures) * variance)))
    mask = object_mask(truth)
    if mask is None:
        return Quality(snr, None, None, psnr)
    contrast = mean[~mask].mean() - mean[mask].mean()
    cnr = float(contrast / np.sqrt(variance[~mask].mean() + variance[mask].mean()))
    if min(truth.shape) < 11:
        return Quality(snr, cnr, None, psnr)
    span = truth.max() - truth.min()
    ssim = structural_similarity(
        mean, truth, data_range=span, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    return Quality(snr, cnr, float(ssim), psnr)


def quality_of(estimates: np.ndarray, truth: np.ndarray) -> tuple[Quality, Quality]:
    """Figures of K exposures [K, n, n] and their delete-one jackknife standard errors, NaN below 3 exposures."""
    k = len(estimates)
    mean = estimates.mean(axis=0)
    away = estimates - mean
    squares = (away**2).sum(axis=0)
    whole = quality(mean, squares / (k - 1), truth, k)
    if k < 3:
        return whole, Quality(*(None if v is None else float("nan") for v in whole))
    left = [
        quality(mean - d / (k - 1), (squares - d**2 * (k / (k - 1))) / (k - 2), truth, k - 1)  # without one of them
        for d in away
    ]
    errors = (None if column[0] is None else float(jackknife(column)) for column in zip(*left, strict=True))
    return whole, Quality(*errors)
