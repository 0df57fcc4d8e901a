"""Figures of merit of transmission images."""

from typing import NamedTuple

import numpy as np
from skimage.metrics import structural_similarity


class Quality(NamedTuple):
    """Figures of one exposure; None where the object has no contrast to speak of."""

    snr: float | None  # mean transmission over pooled standard deviation, per superpixel and exposure
    cnr: float | None  # (T_out - T_in)/sqrt(var_out + var_in), per superpixel and exposure
    ssim: float | None  # structural similarity of the mean image with the object


def object_mask(truth: np.ndarray) -> np.ndarray | None:
    """Superpixels darker than half-way between darkest and clearest; None if all are alike."""
    low, high = truth.min(), truth.max()
    return None if high - low < 1e-9 else truth < (low + high) / 2


def quality(mean: np.ndarray, variance: np.ndarray, truth: np.ndarray) -> Quality:
    """SNR, CNR and SSIM of a mean image [n, n] and the variance of one exposure.

    SSIM: Wang et al., IEEE Trans. Image Process. 13, 600 (2004), Gaussian window of std 1.5 superpixels, data range
    that of the object; images of fewer than 11 superpixels a side have none.
    """
    snr = float(mean.mean() / np.sqrt(variance.mean()))
    mask = object_mask(truth)
    if mask is None:
        return Quality(snr, None, None)
    contrast = mean[~mask].mean() - mean[mask].mean()
    cnr = float(contrast / np.sqrt(variance[~mask].mean() + variance[mask].mean()))
    if min(truth.shape) < 11:
        return Quality(snr, cnr, None)
    span = truth.max() - truth.min()
    ssim = structural_similarity(
        mean, truth, data_range=span, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    return Quality(snr, cnr, float(ssim))


def quality_of(estimates: np.ndarray, truth: np.ndarray) -> tuple[Quality, Quality]:
    """Figures of K exposures [K, n, n] and their delete-one jackknife standard errors."""
    k = len(estimates)
    total, squares = estimates.sum(axis=0), (estimates**2).sum(axis=0)

    def of(total, squares, count):
        mean = total / count
        return quality(mean, (squares - count * mean**2) / (count - 1), truth)

    whole = of(total, squares, k)
    if k < 3:
        return whole, Quality(*(None if v is None else float("nan") for v in whole))
    left = [of(total - e, squares - e**2, k - 1) for e in estimates]

    def spread(values):
        if values[0] is None:
            return None
        values = np.array(values)
        return float(np.sqrt((k - 1) / k * np.sum((values - values.mean()) ** 2)))

    return whole, Quality(*(spread([q[i] for q in left]) for i in range(3)))
