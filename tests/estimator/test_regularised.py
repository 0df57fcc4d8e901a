"""Total variation with a weight from the noise alone, on a piecewise constant lesion."""

import jax
import numpy as np
import pytest
from skimage.restoration import denoise_tv_chambolle

from qtwin.core.errors import UserError
from qtwin.estimator.regularised import best_weight, regularise, total_variation, unbiased_risk

N = 24
KEY = jax.random.key(5)
Y, X = np.mgrid[:N, :N]
TRUTH = np.where((X - 14) ** 2 + (Y - 9) ** 2 < 20, 0.7, 1.0)
LIGHT = 15 * np.exp(-((X - 10) ** 2 + (Y - 13) ** 2) / 250)  # photons per superpixel: dim corners
VARIANCE = 1 / LIGHT  # SNR 3.9 where it is brightest, below 1 in a corner


def drawn(repeats, seed, variance=VARIANCE):
    return TRUTH + np.sqrt(variance) * np.random.default_rng(seed).standard_normal((repeats, N, N))


def misfit(image, variance=VARIANCE):
    return np.sum((image - TRUTH) ** 2 / variance)


@pytest.fixture(scope="module")
def restored():
    """(image, its weight, the restored image) of two draws, SNR about 3."""
    images = drawn(2, 191)
    weights = [best_weight(f, VARIANCE, key=KEY) for f in images]
    return [(f, w, total_variation(f, VARIANCE, w)) for f, w in zip(images, weights, strict=True)]


def test_error_of_a_lesion_falls(restored):
    """Mean squared error below a tenth, and within 30 % of the least that any weight reaches for these images."""
    before, after = (sum(misfit(r[i]) for r in restored) for i in (0, 2))
    assert before == pytest.approx(2 * N * N, rel=4 * np.sqrt(2 / (2 * N * N)))
    assert after < 0.1 * before
    best = sum(min(misfit(total_variation(f, VARIANCE, w)) for w in (0.7, 1.0, 1.4, 2.0, 3.0)) for f, _, _ in restored)
    assert after < 1.3 * best


def test_mean_level_is_kept(restored):
    """The mean weighted by 1/variance is that of the image, so it has no bias."""
    for f, _, u in restored:
        assert abs(np.average(u - f, weights=1 / VARIANCE)) < 1e-12


def test_mean_level_is_unbiased():
    """Plain mean of 60 restored images of equal noise against the truth, by a z-score; a level of 2 % would be seen."""
    variance = np.full((N, N), 0.1)
    levels = [total_variation(f, variance, 1.3).mean() for f in drawn(60, 192, variance)]
    assert abs(np.mean(levels) - TRUTH.mean()) / (np.sqrt(0.1) / N / np.sqrt(60)) < 4
    assert 0.02 * TRUTH.mean() / (np.sqrt(0.1) / N / np.sqrt(60)) > 5


def test_risk_is_the_error_without_knowing_the_truth():
    """Mean of SURE - |u - T|^2 over draws is zero at a light and a heavy weight; of the residual it is not."""
    for weight in (0.4, 3.0):
        pairs = []
        for i, f in enumerate(drawn(10, 193)):
            risk = unbiased_risk(f, VARIANCE, weight, key=jax.random.key(i))
            pairs.append(risk - misfit(total_variation(f, VARIANCE, weight)))
        assert abs(np.mean(pairs)) / (np.std(pairs, ddof=1) / np.sqrt(10)) < 4
        assert np.std(pairs, ddof=1) / np.sqrt(10) < 0.05 * N * N


def test_rule_scales_with_the_noise():
    """Image and noise ten times larger and 3 brighter: the same risk at a weight, the same image but for that."""
    f = drawn(1, 194)[0]
    risks = [unbiased_risk(g, v, 1.2, key=KEY) for g, v in ((f, VARIANCE), (3 + 10 * f, 100 * VARIANCE))]
    assert risks[1] == pytest.approx(risks[0], rel=1e-6)
    both = (total_variation(f, VARIANCE, 1.2), total_variation(3 + 10 * f, 100 * VARIANCE, 1.2))
    np.testing.assert_allclose(3 + 10 * both[0], both[1], rtol=1e-6)


def test_equal_noise_is_the_kept_library():
    f = drawn(1, 195)[0]
    found = total_variation(f, 0.04, 0.8)
    np.testing.assert_allclose(found, denoise_tv_chambolle(f, weight=0.8 * 0.2, eps=0, max_num_iter=100), rtol=1e-12)
    np.testing.assert_array_equal(total_variation(f, VARIANCE, 0.0), f)


def test_weighted_minimum():
    """The weighted functional at the result is below that at any step away from it, along 40 random directions."""
    f, weight = drawn(1, 196)[0], 1.2
    u = total_variation(f, VARIANCE, weight)
    scale = np.sqrt(np.mean(1 / VARIANCE))

    def functional(v):
        down, right = np.zeros((2, N, N))
        down[:-1], right[:, :-1] = np.diff(v, axis=0), np.diff(v, axis=1)
        return np.sum((v - f) ** 2 / VARIANCE) / 2 + weight * scale * np.sum(np.hypot(down, right))

    rng = np.random.default_rng(197)
    smooth = [np.outer(np.cos(a * Y[:, 0]), np.cos(b * X[0])) for a, b in rng.random((40, 2))]
    assert all(functional(u + 0.1 * s * d) > functional(u) for d in smooth for s in (-1, 1))
    plain = total_variation(f, np.full((N, N), 1 / np.mean(1 / VARIANCE)), weight)
    assert functional(plain) > 1.01 * functional(u)  # as if all superpixels were alike


def test_flat_image_becomes_flat():
    f = 0.6 + 0.1 * np.random.default_rng(198).standard_normal((N, N))
    u = regularise(f, np.full((N, N), 0.01), key=KEY)
    assert np.std(u) < 0.2 * np.std(f)
    assert abs(u.mean() - 0.6) < 4 * 0.1 / N


@pytest.mark.parametrize(
    ("image", "variance", "weight", "words"),
    [
        (np.full((4, 4), np.nan), 1.0, 1.0, "image"),
        (np.ones(4), 1.0, 1.0, "image"),
        (np.ones((4, 4)), 0.0, 1.0, "variance"),
        (np.ones((4, 4)), np.inf, 1.0, "variance"),
        (np.ones((4, 4)), 1.0, -1.0, "weight"),
        (np.ones((4, 4)), np.ones((3, 3)), 1.0, "variance"),
    ],
)
def test_bad_input_is_refused(image, variance, weight, words):
    with pytest.raises(UserError, match=words):
        total_variation(image, variance, weight)
