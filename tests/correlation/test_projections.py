"""Projections against the full matrix, drawn double-Gaussian pairs and closed forms of noise."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.special import ndtr

from qtwin.core.errors import UserError
from qtwin.core.records import Frames
from qtwin.correlation import projections as module
from qtwin.correlation.projections import Projection, peak, projections

ROWS, COLUMNS = 5, 7


def brute(counts: np.ndarray, batch: int, exclude: int, weights=None):
    """Sum, difference and marginal of numpy's covariance of every batch, pair by pair."""
    x = counts.reshape(len(counts), -1) * (1.0 if weights is None else np.ravel(weights))
    cuts = [*range(0, (len(x) // batch) * batch, batch), len(x)]
    g = np.mean([np.cov(x[a:b].T) for a, b in pairwise(cuts)], axis=0)
    total, apart, marginal = np.zeros((9, 13)), np.zeros((9, 13)), np.zeros((5, 7))
    for i in range(35):
        for j in range(35):
            (r, c), (s, d) = divmod(i, 7), divmod(j, 7)
            if max(abs(r - s), abs(c - d)) > exclude:
                total[r + s, c + d] += g[i, j]
                apart[r - s + 4, c - d + 6] += g[i, j]
                marginal[r, c] += g[i, j]
    return total, apart, marginal


@pytest.mark.parametrize("exclude", [0, 1, 2])
@pytest.mark.parametrize("kind", ["sparse", "crowded", "analogue"])
def test_projections_of_the_matrix(kind, exclude):
    """Counting of events, transforms and real numbers; the last batch takes the rest (10, 10, 13 frames)."""
    rng = np.random.default_rng(7)
    counts = {
        "sparse": lambda: rng.random((33, ROWS, COLUMNS)) < 0.1,
        "crowded": lambda: (rng.random((33, ROWS, COLUMNS)) < 0.9).astype(np.uint8),
        "analogue": lambda: (500 + 3 * rng.normal(size=(33, ROWS, COLUMNS))).astype(np.float32),
    }[kind]()
    assert module._crowded(counts) == (kind != "sparse")
    weights = rng.uniform(1, 2, (ROWS, COLUMNS)) if exclude == 1 else None
    found = projections([Frames(counts)], exclude=exclude, batch=10, weights=weights)
    expected = brute(counts.astype(float), 10, exclude, weights)
    for estimate, table in zip((found.sum, found.difference, found.marginal), expected, strict=True):
        np.testing.assert_allclose(estimate.value, table, atol=1e-9 * np.abs(table).max())
    assert found.pairs.value == pytest.approx(expected[2].sum() / 2, rel=1e-9)


def test_accidentals_are_the_product_of_the_means():
    """Flickering light, batches of two: the product of their means would be 12 % too large, half the variance of g."""
    rng, frames = np.random.default_rng(11), 5000
    mean = rng.uniform(0.5, 3, (ROWS, COLUMNS))
    g = rng.gamma(4, 0.25, (frames, 1, 1))
    found = projections([Frames(rng.poisson(mean * g))], batch=2)
    error = 2 * 0.5 / np.sqrt(frames)
    for projection, table in zip(found[:2], module.by_transforms(mean[None], 0)[:2], strict=True):
        use = np.isfinite(projection.error)
        ratio = projection.accidental[use].sum() / table[use].sum()
        assert abs(ratio - 1) < 4 * error and abs(ratio - 1.125) > 5 * error


def test_entries_that_no_pair_of_pixels_fills_are_unknown():
    found = projections([Frames(np.random.default_rng(13).random((130, ROWS, COLUMNS)) < 0.2)], exclude=1)
    blank = np.zeros((9, 13), bool)
    blank[3:6, 5:8] = True
    np.testing.assert_array_equal(np.isinf(found.difference.error), blank)
    blank[:] = False
    blank[np.ix_([0, 1, -2, -1], [0, 1, -2, -1])] = True  # a corner's sums come from pixels next to each other
    np.testing.assert_array_equal(np.isinf(found.sum.error), blank)
    for projection in found[:2]:
        assert np.all(projection.value[np.isinf(projection.error)] == 0) and not np.isnan(projection.error).any()


def test_errors_of_independent_pixels():
    """Var P(s) = 2 sum V_i V_(s-i)/K (a pair of pixels counts twice), Var P(d) = sum V_i V_(i-d)/K (once in d, in -d),
    both 1/(b - 1) more in batches of b; the values are zero.
    """
    rng, frames, batch = np.random.default_rng(17), 25_600, 64
    p = rng.uniform(0.02, 0.2, (ROWS, COLUMNS))
    found = projections([Frames(rng.random((frames, ROWS, COLUMNS)) < p)], batch=batch)
    expected = module.by_transforms((p * (1 - p))[None], 0)
    for projection, table, twice in zip(found[:2], expected[:2], (2, 1), strict=True):
        use = np.isfinite(projection.error)
        ratio = projection.error[use] ** 2 / (twice * table[use] / frames * batch / (batch - 1))
        assert abs(ratio.mean() - 1) < 4 * np.sqrt(2 / 400 / 50)  # 400 batches, some 57 to 115 entries
        scores = projection.value[use] / projection.error[use]
        assert np.abs(scores).max() < 4.5 and 0.6 < np.mean(scores**2) < 1.5


SIDE, FRAMES, PAIRS, ETA, DARK = 24, 25_000, 3.0, 0.6, 0.002
WIDTH, FAR, CENTRE = np.array([1.3, 0.8]), 7.0, np.array([0.7, -0.4])  # pixels


def drawn(rng, sign: int) -> np.ndarray:
    """Threshold frames of double-Gaussian pairs: x1 + sign x2 of std WIDTH about CENTRE, x1 - sign x2 of std FAR."""
    number = rng.poisson(PAIRS, FRAMES)
    frame = np.repeat(np.arange(FRAMES), number)
    near = CENTRE * (sign > 0) + WIDTH * rng.normal(size=(len(frame), 2))
    far = FAR * rng.normal(size=(len(frame), 2))
    counts = rng.poisson(DARK, (FRAMES, SIDE, SIDE))
    for x in ((near + far) / 2, sign * (near - far) / 2):
        pixel = np.floor(x + SIDE / 2).astype(int)
        seen = (rng.random(len(frame)) < ETA) & np.all((pixel >= 0) & (pixel < SIDE), axis=1)
        np.add.at(counts, (frame[seen], *pixel[seen].T), 1)
    return counts > 0


@pytest.mark.parametrize("sign", [1, -1])
def test_widths_centre_and_number_of_drawn_pairs(sign):
    """Far field (anticorrelated, off centre) and near field (correlated), widths of 1.3 and 0.8 pixels."""
    counts = drawn(np.random.default_rng(19), sign)
    weights = 1 / (1 - counts.mean(axis=0))
    found = projections([Frames(counts)], weights=weights)
    fit = peak(found.sum if sign > 0 else found.difference, radius=5)
    scores = (fit.std.value - WIDTH) / fit.std.error
    assert np.abs(scores).max() < 4 and np.all(fit.std.error < 0.05)
    left_in = np.sqrt(WIDTH**2 + 1 / 6)  # the pixels' own width
    assert np.sum(((fit.std.value - left_in) / fit.std.error) ** 2) > 2 + 5 * 2 + 25
    np.testing.assert_array_less(np.abs(fit.centre.value - CENTRE * (sign > 0)), 4 * fit.centre.error + 1e-12)
    assert abs(fit.amplitude.value - 2 * PAIRS * ETA**2) < 4 * fit.amplitude.error
    assert abs(1.2 * fit.amplitude.value - 2 * PAIRS * ETA**2) > 5 * fit.amplitude.error
    rounded_alike = np.prod([module._pixel_law(np.zeros(1), s)[0] for s in (WIDTH if sign < 0 else (FAR, FAR))])
    expected = PAIRS * ETA**2 * (1 - rounded_alike)  # without the pairs that hit one pixel
    assert abs(found.pairs.value - expected) < 4 * found.pairs.error
    assert abs(found.pairs.value - 1.3 * expected) > 5 * found.pairs.error


def test_marginal_of_drawn_pairs():
    """sum_j mu_ij is the mean number of pairs with a photon in i: the profile of one photon, times 2 eta^2."""
    counts = drawn(np.random.default_rng(23), 1)
    found = projections([Frames(counts)], weights=1 / (1 - counts.mean(axis=0)))
    edges = np.arange(SIDE + 1) - SIDE / 2
    law = [np.diff(ndtr((edges - c / 2) / np.hypot(w, FAR) * 2)) for c, w in zip(CENTRE, WIDTH, strict=True)]
    expected = 2 * PAIRS * ETA**2 * np.outer(*law)
    use = expected > 1e-3
    scores = ((found.marginal.value - expected) / found.marginal.error)[use]
    assert np.abs(scores).max() < 4.5 and abs(scores.mean()) < 4 / np.sqrt(len(scores) / 2)  # two photons of a pair
    assert abs(((found.marginal.value - 1.15 * expected) / found.marginal.error)[use].mean()) > 5 / np.sqrt(
        len(scores) / 2
    )
    for total in (found.marginal, found.sum, found.difference):
        assert total.value.sum() == pytest.approx(2 * found.pairs.value, rel=1e-9)


def test_pairs_without_weights_are_the_lost_coincidences_short():
    """p = 0.3 in every pixel: (1 - p)^2 of the pairs are seen as covariance, all of them with weights."""
    rng, frames, mu = np.random.default_rng(29), 30_000, 0.02
    events = rng.poisson(-np.log(0.7) - mu, (frames, ROWS, COLUMNS))
    both = rng.poisson(mu, (frames, 17))
    flat = events.reshape(frames, 35)
    flat[:, :17] += both
    flat[:, :17:-1] += both
    record = [Frames(events > 0)]
    plain, weighed = projections(record), projections(record, weights=np.full((ROWS, COLUMNS), 1 / 0.7))
    assert abs(plain.pairs.value - 17 * 0.49 * np.expm1(mu)) < 4 * plain.pairs.error
    assert abs(weighed.pairs.value - 17 * np.expm1(mu)) < 4 * weighed.pairs.error
    value, error = plain.sum.value[4, 6] / 2, plain.sum.error[4, 6] / 2  # all of them have the same sum
    assert abs(value - 17 * 0.49 * np.expm1(mu)) < 4 * error and abs(value - 17 * mu) > 5 * error
    value, error = weighed.sum.value[4, 6] / 2, weighed.sum.error[4, 6] / 2
    assert abs(value - 17 * np.expm1(mu)) < 4 * error and error < weighed.pairs.error


def test_slow_drift_makes_no_pairs():
    """Light that rises threefold over 100 batches: the record's own mean would show it as correlations."""
    rng, frames = np.random.default_rng(31), 6400
    counts = rng.poisson(np.linspace(0.1, 0.3, frames)[:, None, None], (frames, ROWS, COLUMNS))
    found, late = projections([Frames(counts)]), projections([Frames(counts)], batch=3200)
    assert abs(found.pairs.value) < 4 * found.pairs.error
    drift = 35 * 34 / 2 * 0.1**2 / 12  # in each of two halves the mean rises by 0.1
    assert abs(late.pairs.value - drift) < 4 * found.pairs.error and drift > 5 * found.pairs.error


def test_pieces_are_the_whole():
    counts = np.random.default_rng(37).random((500, ROWS, COLUMNS)) < 0.3
    cuts = [0, 1, 63, 64, 65, 200, 499, 500]
    pieces = (Frames(counts[a:b]) for a, b in pairwise(cuts))
    for one, other in zip(projections(pieces), projections([Frames(counts)]), strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def gaussian(coordinate, std, amplitude=1.0, size=21) -> Projection:
    """A peak without noise, by adding up a finely divided pixel."""
    fine = (np.arange(40 * (size + 2)) + 0.5) / 40 - (size + 2) / 2
    law = np.exp(-0.5 * (fine / std) ** 2) / np.sqrt(2 * np.pi) / std / 40
    places = np.arange(size) - size // 2
    axis = np.sum(law * np.clip(1 - np.abs(places[:, None] - fine), 0, None), axis=1)
    value = amplitude * np.outer(axis, axis)
    return Projection(coordinate, value, np.full_like(value, 1e-3), np.zeros_like(value))


@pytest.mark.parametrize("std", [0.3, 0.9, 2.5])
@pytest.mark.parametrize("coordinate", ["sum", "difference"])
def test_width_of_a_known_peak(coordinate, std):
    """The pixel's triangle is in the law: widths below one pixel come out."""
    found = peak(gaussian(coordinate, std, 3e-4), radius=8)
    np.testing.assert_allclose(found.std.value, std, rtol=2e-3)
    assert found.amplitude.value == pytest.approx(3e-4, rel=2e-3)


@pytest.mark.parametrize("coordinate", ["sum", "difference"])
def test_errors_of_a_fitted_peak(coordinate):
    """Noise that grows with the value, the same at d and -d of a difference: errors as the fits scatter."""
    rng, repeats = np.random.default_rng(41), 100
    clean = gaussian(coordinate, 1.2)
    error = 0.004 + 0.02 * np.sqrt(clean.value)
    found = []
    for noise in rng.normal(size=(repeats, *error.shape)):
        noise = (noise + noise[::-1, ::-1]) / np.sqrt(2) if coordinate == "difference" else noise
        found.append(peak(clean._replace(value=clean.value + error * noise, error=error), radius=4))
    for name, true in (("amplitude", 1.0), ("std", 1.2)):
        values, errors = (np.array([getattr(getattr(f, name), part) for f in found]) for part in ("value", "error"))
        ratio = values.var(axis=0, ddof=1) / np.mean(errors**2, axis=0)
        assert np.all(np.abs(ratio - 1) < 4 * np.sqrt(2 / repeats))
        assert np.all(np.abs(values.mean(axis=0) - true) < 4 * np.sqrt(np.mean(errors**2, axis=0) / repeats))


def test_bad_input_is_refused():
    record = [Frames(np.zeros((200, ROWS, COLUMNS), bool))]
    with pytest.raises(UserError, match="exclude"):
        projections(record, exclude=-1)
    with pytest.raises(UserError, match=r"weights: got \(2, 2\)"):
        projections(record, weights=np.ones((2, 2)))
    with pytest.raises(UserError, match="weights"):
        projections(record, weights=np.full((ROWS, COLUMNS), np.nan))
    with pytest.raises(UserError, match="the record fills 1 batch"):
        projections([Frames(np.zeros((100, ROWS, COLUMNS), bool))])
    with pytest.raises(UserError, match="batch: got 1"):
        projections(record, batch=1)
    with pytest.raises(UserError, match="not a finite number"):
        projections([Frames(np.full((200, 2, 2), np.inf))])
    dark = projections(record)
    for projection in dark[:2]:
        assert np.all(projection.value == 0)
        with pytest.raises(UserError, match="no peak"):
            peak(projection, radius=3)
    with pytest.raises(UserError, match="radius: got 0"):
        peak(dark.sum, radius=0)
    with pytest.raises(UserError, match="too narrow, too wide or too faint"):
        peak(gaussian("sum", 30.0), radius=3)
