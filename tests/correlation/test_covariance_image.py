"""Covariance images, noise reduction and speckle against closed forms of drawn light."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import fft

from qtwin.core.errors import UserError
from qtwin.core.records import Frames
from qtwin.correlation.covariance_image import (
    Scatter,
    blocks,
    covariance_image,
    noise_reduction,
    noise_reduction_map,
    speckle_g2,
)


def cut(counts: np.ndarray, *places: int) -> list[Frames]:
    return [Frames(counts[a:b]) for a, b in pairwise([0, *places, len(counts)])]


@pytest.mark.parametrize(("total", "sizes"), [(5, [5]), (10, [10]), (19, [19]), (20, [10, 10]), (47, [10, 10, 10, 17])])
def test_blocks_are_the_frames_in_order(total, sizes):
    """However the record is cut; the rest joins the last block."""
    counts = np.arange(total * 6).reshape(total, 2, 3)
    for places in ((), (1, 2), (0, 3, 3, 4), range(1, total)):
        found = list(blocks(iter(cut(counts, *places)), 10))
        assert [len(f) for f in found] == sizes
        np.testing.assert_array_equal(np.concatenate(found), counts)


def test_scatter_is_the_error_of_a_ratio():
    """Linear law: the same as the standard error of the mean of (a - F b)/<b>."""
    rng = np.random.default_rng(7)
    b = rng.uniform(1, 3, 40)
    a, scatter = 2 * b + rng.normal(size=40), Scatter()
    for one, other in zip(a, b, strict=True):
        scatter.add(one, other)
    value, error = scatter.estimate()
    assert value == pytest.approx(a.mean() / b.mean(), rel=1e-12)
    assert error == pytest.approx(np.std((a - value * b) / b.mean(), ddof=1) / np.sqrt(40), rel=1e-9)


def test_covariance_of_two_arms_is_the_mean_over_batches():
    rng = np.random.default_rng(11)
    x, y = rng.poisson(3, (130, 3, 4)), rng.normal(800, 5, (130, 3, 4))
    found = covariance_image(cut(x, 20, 21), cut(y, 64), batch=50)
    parts = [np.mean((x[s] - x[s].mean(0)) * (y[s] - y[s].mean(0)), axis=0) for s in (slice(0, 50), slice(50, 130))]
    parts = [parts[0] * 50 / 49, parts[1] * 80 / 79]
    np.testing.assert_allclose(found.value, np.mean(parts, axis=0), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(found.error, np.abs(parts[0] - parts[1]) / 2, rtol=1e-6, atol=1e-10)


def test_noise_reduction_is_the_ratio_of_means_over_batches():
    x, y = np.random.default_rng(43).poisson(3, (2, 100, 3, 4))
    parts = [slice(0, 50), slice(50, 100)]
    variance = np.mean([np.var(x[s] - y[s], axis=0, ddof=1) for s in parts], axis=0)
    mean = (x + y).mean(axis=0)
    np.testing.assert_allclose(noise_reduction_map(cut(x), cut(y), batch=50).value, variance / mean, rtol=1e-12)
    value = noise_reduction(cut(x), cut(y), batch=50).value
    np.testing.assert_allclose(value, [variance.sum() / mean.sum()], rtol=1e-12)


@pytest.mark.parametrize(("clear", "cnr"), [(5, 10.85), (50, 4.32)])
def test_thermal_ghost_image(clear, cnr):
    """n clear speckles, a bucket, K = 2000 frames: (G_in - G_out)/sqrt(var_in + var_out) = sqrt(K/(2n + 7))."""
    rng, frames = np.random.default_rng(13), 128_000
    light = rng.exponential(size=(frames, 1, clear + 5)).astype(np.float32)
    bucket = light[:, :, :clear].sum(axis=2, keepdims=True)
    value, error = covariance_image([Frames(light)], [Frames(bucket)])
    z = (value[0] - np.r_[np.ones(clear), np.zeros(5)]) / error[0]
    assert np.abs(z).max() < 4
    inside, outside = np.mean(error[0, :clear] ** 2), np.mean(error[0, clear:] ** 2)
    batch = (clear + 1) / 63  # what batches of 64 add to n + 7; to n they add n/63
    slack = 4 * np.sqrt(2 / 2000)  # of variances from 2000 batches
    assert inside * frames == pytest.approx(clear + 7 + batch, rel=slack)
    assert outside * frames == pytest.approx(clear * 64 / 63, rel=slack)
    found = (value[0, :clear].mean() - value[0, clear:].mean()) / np.sqrt((inside + outside) * frames / 2000)
    assert np.sqrt(2000 / (2 * clear + 7)) == pytest.approx(cnr, abs=0.005)
    assert found == pytest.approx(cnr, rel=slack)


@pytest.mark.parametrize(("mu", "eta", "expected"), [(0.1, (0.8, 0.8), 0.2), (1.0, (0.8, 0.6), 0.342857)])
def test_noise_reduction_of_twin_beams(mu, eta, expected):
    """1 - 2 e1 e2/(e1 + e2) + mu (e1 - e2)^2/(e1 + e2), thermal pairs: map, and sum over pixels."""
    rng = np.random.default_rng(17)
    pairs = rng.geometric(1 / (1 + mu), (19_200, 4, 5)) - 1
    arms = [[Frames(rng.binomial(pairs, e).astype(np.uint8))] for e in eta]
    value, error = noise_reduction_map(*arms)
    scores = (value - expected) / error
    assert np.abs(scores).max() < 4 and 0.3 < np.mean(scores**2) < 2.3  # 20 pixels: 1 +- 0.32
    value, error = noise_reduction(*arms)
    assert abs(value[0] - expected) < 4 * error[0] and abs(value[0] - 1.1 * expected) > 5 * error[0]
    classical = [[Frames(rng.poisson(mu, (6400, 4, 5)))] for _ in range(2)]
    value, error = noise_reduction(*classical)
    assert abs(value[0] - 1) < 4 * error[0] < 0.2


def test_noise_reduction_finds_the_partner_pixel():
    """The idler's partner lies one row down, two columns left: 1 - eta there, 1 elsewhere (Poisson pairs)."""
    rng, eta = np.random.default_rng(19), 0.7
    pairs = rng.poisson(0.5, (6400, 9, 9))
    x, y = rng.binomial(pairs, eta)[:, 1:7, 2:8], rng.binomial(pairs, eta)[:, 0:6, 4:10]
    places = [(0, 0), (1, -2), (-1, 2), (1, 0)]
    value, error = noise_reduction([Frames(x[:, :, :5])], [Frames(y[:, :, :5])], places)
    assert np.abs((value - np.array([1, 1 - eta, 1, 1])) / error).max() < 4


def test_binning_keeps_more_partners():
    """A share s of the partners lands one column on: F = 1 - eta (1 - s/b) with superpixels of b columns."""
    rng, eta, s = np.random.default_rng(23), 0.8, 0.3
    pairs = rng.poisson(0.5, (6400, 8, 9))
    on = rng.binomial(pairs, s)
    y = (pairs - on)[:, :, 1:] + on[:, :, :-1]
    arms = [[Frames(rng.binomial(p, eta))] for p in (pairs[:, :, 1:], y)]
    for b in (1, 2, 4):
        value, error = noise_reduction(*arms, binning=b)
        assert abs(value[0] - (1 - eta * (1 - s / b))) < 4 * error[0]
    assert abs(value[0] - (1 - eta * (1 - s))) > 5 * error[0]


def test_a_dark_pixel_has_no_noise_reduction():
    x = np.random.default_rng(29).poisson(1.0, (200, 2, 2))
    x[:, 0, 1] = 0
    value, error = noise_reduction_map([Frames(x)], [Frames(x)])
    assert value[0, 1] == 0 and np.isinf(error[0, 1]) and np.isfinite(error).sum() == 3


@pytest.mark.parametrize("shot_noise", [0.0, 1.0])
def test_speckle_of_several_modes(shot_noise):
    """1 + 1/M in a pixel, 1 between pixels, of intensities and of photon counts."""
    rng, modes = np.random.default_rng(31), 4
    light = rng.gamma(modes, 2.0 / modes, (12_800, 4, 5)) * np.linspace(0.5, 1.5, 5)
    counts = rng.poisson(light) if shot_noise else light
    value, error = speckle_g2([Frames(counts)], shot_noise=shot_noise)
    expected = np.ones((7, 9))
    expected[3, 4] += 1 / modes
    assert np.abs((value - expected) / error).max() < 4.5
    assert abs(value[3, 4] - 1 - 1 / (modes - 1)) > 5 * error[3, 4]


def test_speckle_size_by_siegert():
    """g2(d) = 1 + |g1(d)|^2 of a filtered field, wider along the columns."""
    rng, side, size = np.random.default_rng(37), 24, 8
    k = fft.fftfreq(side)
    pupil = np.exp(-((k[:, None] * 4) ** 2) - (k * 9) ** 2)
    field = rng.normal(size=(1920, side, side, 2)) @ np.array([1, 1j])
    light = np.abs(fft.ifft2(fft.fft2(field) * pupil)) ** 2
    value, error = speckle_g2([Frames(light[:, :size, :size])])
    g1 = fft.fftshift(fft.ifft2(pupil**2)).real
    middle = slice(side // 2 - size + 1, side // 2 + size)
    expected = 1 + (g1[middle, middle] / g1.max()) ** 2
    assert np.abs((value - expected) / error).max() < 4.5
    assert np.abs((value - expected.T) / error).max() > 10


def test_records_in_pieces_give_the_same_bits():
    rng = np.random.default_rng(41)
    x, y = rng.poisson(2.0, (2, 300, 3, 4))
    for function in (covariance_image, noise_reduction_map, noise_reduction):
        whole, pieces = function(cut(x), cut(y)), function(cut(x, 1, 77, 290), iter(cut(y, 64, 65)))
        for a, b in zip(whole, pieces, strict=True):
            np.testing.assert_array_equal(a, b)
    for a, b in zip(speckle_g2(cut(x)), speckle_g2(cut(x, 3, 200)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_bad_input_is_refused():
    def record(frames, *shape):
        return [Frames(np.ones((frames, *shape)))]

    for short in ((130, 129), (129, 130), (64, 200)):
        with pytest.raises(UserError, match="equally many frames"):
            covariance_image(record(short[0], 2, 2), record(short[1], 2, 2))
    for function in (covariance_image, noise_reduction_map, noise_reduction):
        with pytest.raises(UserError, match=r"\(2, 2\) and \(2, 3\)"):
            function(record(130, 2, 2), record(130, 2, 3))
    with pytest.raises(UserError, match=r"\(2, 2\) and \(1, 1\)"):
        noise_reduction_map(record(130, 2, 2), record(130, 1, 1))
    with pytest.raises(UserError, match="displacement"):
        noise_reduction(record(130, 2, 2), record(130, 2, 2), [(0, 2)])
    with pytest.raises(UserError, match="displacement"):
        noise_reduction(record(130, 2, 2), record(130, 2, 2), binning=3)
    with pytest.raises(UserError, match="binning: got 0"):
        noise_reduction(record(130, 2, 2), record(130, 2, 2), binning=0)
    with pytest.raises(UserError, match="fills 1 batch"):
        speckle_g2(record(100, 2, 2))
    with pytest.raises(UserError, match="got 1 frames"):
        speckle_g2(record(1, 2, 2))
