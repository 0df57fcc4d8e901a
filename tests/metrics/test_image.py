"""Figures of merit on images made up for it."""

import numpy as np
import pytest

from qtwin.metrics.image import object_mask, quality, quality_of

N = 24


def truth(n=N, inside=0.8, outside=1.0):
    """An object of 3 x 5 superpixels, off-centre."""
    image = np.full((n, n), outside)
    image[2:5, 4:9] = inside
    return image


def test_snr_is_mean_over_pooled_deviation():
    """Mean 0.5; variances 0.01 and 0.03 in halves: their mean, not the mean of the deviations."""
    variance = np.where(np.arange(N)[:, None] < N // 2, 0.01, 0.03) * np.ones((N, N))
    found = quality(np.full((N, N), 0.5), variance, truth())
    assert found.snr == pytest.approx(0.5 / np.sqrt(0.02), rel=1e-12)


def test_cnr_of_the_object():
    """(T_out - T_in)/sqrt(var_out + var_in), 0.2/sqrt(0.03 + 0.01); brighter objects have a negative one."""
    variance = np.where(object_mask(truth()), 0.01, 0.03)
    assert quality(truth(), variance, truth()).cnr == pytest.approx(0.2 / np.sqrt(0.04), rel=1e-12)
    assert quality(2 - truth(), variance, truth()).cnr == pytest.approx(-0.2 / np.sqrt(0.04), rel=1e-12)


def test_mask_is_what_is_darker_than_half_way():
    image = truth()
    image[0, 0], image[1, 1] = 0.91, 0.89
    mask = object_mask(image)
    assert mask.sum() == 16 and mask[1, 1] and not mask[0, 0]
    assert object_mask(np.full((N, N), 0.7)) is None


def test_ssim_of_the_object_itself_is_one():
    assert quality(truth(), np.ones((N, N)), truth()).ssim == pytest.approx(1, rel=1e-12)


def test_ssim_falls_with_noise_and_with_a_flip():
    rng = np.random.default_rng(141)
    weak, strong = (quality(truth() + rng.normal(0, s, (N, N)), np.ones((N, N)), truth()).ssim for s in (0.02, 0.1))
    assert 1 > weak > strong > 0
    assert quality(truth()[:, ::-1], np.ones((N, N)), truth()).ssim < 1


def test_ssim_of_constant_images_is_its_luminance_term():
    """Far from the object: (2 a b + c1)/(a^2 + b^2 + c1), c1 = (0.01 range)^2, structure 1."""
    image = np.full((N, N), 0.9)
    object_ = np.ones((N, N))
    object_[-1, -1] = 0.0  # makes the range 1
    c1 = 1e-4
    luminance = (2 * 0.9 + c1) / (0.81 + 1 + c1)
    far = N * N - 36
    found = quality(image, np.ones((N, N)), object_).ssim
    assert found == pytest.approx(luminance, abs=2 * 36 / far)


def test_small_images_have_no_ssim_and_uniform_objects_no_contrast():
    small = quality(truth(10), np.ones((10, 10)), truth(10))
    assert small.ssim is None and small.cnr is not None
    flat = quality(truth(), np.ones((N, N)), np.full((N, N), 0.7))
    assert flat.cnr is None and flat.ssim is None and flat.snr > 0


def test_psnr_of_known_noise():
    """20 dB at a noise of 0.1, the peak being 1; a constant shift of 0.2 as well: -10 log10(0.01 + 0.04)."""
    rng = np.random.default_rng(146)
    noise = 0.1 * rng.standard_normal((6, N, N))
    found, error = quality_of(truth() + noise, truth())
    assert found.psnr == pytest.approx(-10 * np.log10(np.mean(noise**2)), rel=1e-12)
    assert abs(found.psnr - 20) / (10 / np.log(10) * np.sqrt(2 / noise.size)) < 4
    assert error.psnr == pytest.approx(10 / np.log(10) * np.sqrt(2 / noise.size), rel=1.0)
    variance = np.full((N, N), 0.01)
    assert quality(truth() + 0.2, variance, truth()).psnr == pytest.approx(-10 * np.log10(0.05), rel=1e-12)
    assert quality(np.full((N, N), 0.7), variance, np.full((N, N), 0.7)).psnr == pytest.approx(20, rel=1e-12)


def draws(n, exposures, repeats, seed):
    rng = np.random.default_rng(seed)
    return truth(n) + 0.3 * rng.standard_normal((repeats, exposures, n, n))


def test_figures_of_exposures_are_those_of_mean_and_sample_variance():
    exposures = draws(N, 7, 1, 142)[0]
    whole, _ = quality_of(exposures, truth())
    expected = quality(exposures.mean(axis=0), exposures.var(axis=0, ddof=1), truth())
    assert whole.snr == pytest.approx(expected.snr, rel=1e-9)
    assert whole.cnr == pytest.approx(expected.cnr, rel=1e-9)
    assert whole.ssim == pytest.approx(expected.ssim, rel=1e-9)
    assert whole.psnr == pytest.approx(-10 * np.log10(np.mean((exposures - truth()) ** 2)), rel=1e-9)
    assert whole.psnr > expected.psnr  # the noise of the mean is not counted twice


def test_snr_and_cnr_are_those_of_one_exposure_whatever_their_number():
    """0.3 noise: mean/0.3 and 0.2/(0.3 sqrt 2), for 6 and for 60 exposures."""
    clear = truth(10).mean()
    for exposures in (6, 60):
        pairs = [quality_of(e, truth(10)) for e in draws(10, exposures, 40, 143)]
        psnr = -20 * np.log10(0.3)
        for name, expected in (("snr", clear / 0.3), ("cnr", 0.2 / (0.3 * np.sqrt(2))), ("psnr", psnr)):
            values = np.array([getattr(q, name) for q, _ in pairs])
            assert abs(values.mean() / expected - 1) < 4 * values.std() / expected / np.sqrt(40) + 1 / (exposures * 100)


@pytest.mark.parametrize(("names", "n", "repeats"), [(("snr", "cnr", "psnr"), 10, 800), (("ssim",), 12, 150)])
def test_jackknife_is_the_scatter_of_repeats(names, n, repeats):
    """Mean of the squared errors against the variance between repeats; the former is never much smaller.

    Error of a sample variance of normal numbers: sqrt(2/(R - 1)).
    """
    pairs = [quality_of(e, truth(n)) for e in draws(n, 8, repeats, 144)]
    for name in names:
        values = np.array([getattr(q, name) for q, _ in pairs])
        squares = np.array([getattr(e, name) for _, e in pairs]) ** 2
        ratio = squares.mean() / values.var(ddof=1)
        error = ratio * np.sqrt(2 / (repeats - 1) + squares.var() / squares.mean() ** 2 / repeats)
        assert abs(ratio - 1) / error < 4


def test_figures_of_steady_exposures_keep_their_digits():
    """A noise of 1e-6 on a transmission near 1: sums of squares alone would lose it."""
    exposures = truth(10) + 1e-6 * np.random.default_rng(147).standard_normal((5, 10, 10))
    whole, error = quality_of(exposures, truth(10))
    assert whole.snr == pytest.approx(truth(10).mean() / 1e-6, rel=0.2)
    assert error.snr / whole.snr == pytest.approx(1 / np.sqrt(2 * 4 * 100), rel=0.8)


def test_two_exposures_have_no_error():
    whole, error = quality_of(draws(10, 2, 1, 145)[0], truth(10))
    assert np.isfinite(whole.snr) and np.isnan(error.snr) and np.isnan(error.cnr) and error.ssim is None
