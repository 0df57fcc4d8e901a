"""Joint distributions against plain matrices, closed forms of drawn pairs, and themselves in pieces and tiles."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

from qtwin.core.errors import UserError
from qtwin.core.records import Frames
from qtwin.correlation import joint_distribution as module
from qtwin.correlation.joint_distribution import joint_distribution, memory, tiles

SHAPE = 3, 4
PARTNER = np.arange(11, -1, -1)  # pixel i fires with pixel 11 - i


def clicks(rng, frames: int, pairs, alone) -> np.ndarray:
    """Threshold frames: Poisson ``pairs`` [6] on pixels i and 11 - i, events ``alone`` [12] (or [frames, 12])."""
    both = rng.poisson(pairs, (frames, 6))
    events = rng.poisson(alone, (frames, 12)) + np.concatenate([both, both[:, ::-1]], axis=1)
    return (events > 0).reshape(frames, *SHAPE)


def flat(image) -> np.ndarray:
    return np.asarray(image).reshape(len(image), -1)


def plain(counts: np.ndarray):
    """Covariance by numpy and its standard error from fourth moments."""
    x = counts.reshape(len(counts), -1).astype(float)
    d = x - x.mean(axis=0)
    covariance = np.cov(x.T)
    return covariance, np.sqrt((np.einsum("fi,fj->ij", d**2, d**2) / len(x) - covariance**2) / len(x))


RECORDS = {
    "clicks": lambda rng: rng.random((700, *SHAPE)) < rng.random(SHAPE) * 0.2,
    "photon numbers": lambda rng: rng.poisson(0.02, (700, *SHAPE)).astype(np.uint16),
    "bright": lambda rng: (900 + rng.poisson(30, (700, *SHAPE))).astype(np.uint16),
    "analogue": lambda rng: 500 + 3 * rng.normal(size=(700, *SHAPE)),
}


@pytest.mark.parametrize("name", RECORDS)
def test_covariance_and_error_are_those_of_the_matrix(name):
    counts = RECORDS[name](np.random.default_rng(7))
    found, (expected, error) = joint_distribution([Frames(counts)]).covariance(), plain(counts)
    np.testing.assert_allclose(flat(found.value), expected, rtol=1e-9, atol=1e-11 * expected.max())
    off = ~np.eye(12, dtype=bool)  # of 0 and 1 alone, var of the variance is a difference of two like numbers
    np.testing.assert_allclose(flat(found.error)[off], error[off], rtol=1e-4, atol=1e-9 * error.max())


@pytest.mark.parametrize("name", RECORDS)
def test_next_frame_is_half_the_square_of_differences(name, monkeypatch):
    """G = <(c_i(n+1) - c_i(n))(c_j(n+1) - c_j(n))>/2, across the cuts between stretches and between blocks too."""
    monkeypatch.setattr(module, "_block_frames", lambda pixels: 100)
    counts = RECORDS[name](np.random.default_rng(11))
    found = joint_distribution([Frames(counts[:5]), Frames(counts[5:])], accidentals="next frame").covariance()
    step = np.diff(counts.reshape(700, 12).astype(float), axis=0)
    np.testing.assert_allclose(flat(found.value), step.T @ step / 2 / 699, rtol=1e-9, atol=1e-9 * found.value.max())


def test_slope_is_one_where_the_plain_covariance_has_0_742():
    """1.2 pairs per frame on 6 pairs of pixels: exp(-0.4)(exp(0.2) - 1)/0.2 = 0.742 of them by the covariance."""
    found = joint_distribution([Frames(clicks(np.random.default_rng(7), 40_000, 0.2, np.zeros(12)))])
    pixels = np.arange(6)
    slopes = []
    for image in (found.pairs(), found.covariance()):
        value, error = flat(image.value)[pixels, PARTNER[:6]], flat(image.error)[pixels, PARTNER[:6]]
        slopes.append((value.sum() / 1.2, np.sqrt(np.sum(error**2)) / 1.2))
    (slope, error), (biased, biased_error) = slopes
    assert abs(slope - 1) / error < 4
    assert abs(biased - np.exp(-0.4) * np.expm1(0.2) / 0.2) / biased_error < 4
    assert np.exp(-0.4) * np.expm1(0.2) / 0.2 == pytest.approx(0.742, abs=5e-4)
    assert min(abs(slope - 1.05) / error, abs(biased - 1) / biased_error) > 5


MU = np.array([0.05, 0.1, 0.15, 0.2, 0.3, 0.4])
ALONE = np.linspace(0.02, 0.5, 12)


def expected_pairs() -> np.ndarray:
    table = np.zeros((12, 12))
    table[np.arange(12), PARTNER] = np.concatenate([MU, MU[::-1]])
    return table


@pytest.mark.parametrize("accidentals", ["mean", "next frame"])
def test_pairs_of_drawn_frames(accidentals):
    """Unequal pairs, unequal background: every entry right, those without pairs zero."""
    record = [Frames(clicks(np.random.default_rng(13), 30_000, MU, ALONE))]
    found = joint_distribution(record, accidentals=accidentals).pairs()
    upper = np.triu_indices(12, 1)
    value, error, expected = flat(found.value)[upper], flat(found.error)[upper], expected_pairs()[upper]
    scores = (value - expected) / error
    assert np.abs(scores).max() < 4.5
    assert 0.6 < np.mean(scores**2) < 1.5  # 66 entries: 1 +- 0.17
    assert np.sum(((value - 1.1 * expected) / error)[expected > 0] ** 2) > 6 + 5 * np.sqrt(12) + 25


@pytest.mark.parametrize("accidentals", ["mean", "next frame"])
def test_errors_are_the_scatter_of_repeated_records(accidentals):
    repeats, frames = 300, 2000
    rng = np.random.default_rng(17)
    upper = np.triu_indices(12, 1)
    found = [
        joint_distribution([Frames(clicks(rng, frames, MU, ALONE))], accidentals=accidentals) for _ in range(repeats)
    ]
    for image in ("pairs", "covariance"):
        results = [getattr(one, image)() for one in found]
        scatter = np.var([flat(r.value)[upper] for r in results], axis=0, ddof=1)
        stated = np.mean([flat(r.error)[upper] ** 2 for r in results], axis=0)
        assert (
            abs(np.mean(scatter / stated) - 1) < 4 * np.sqrt(2 / repeats / 66) + 0.03
        )  # 3 %: the next order, 10/frames
        assert np.abs(scatter / stated - 1).max() < 5 * np.sqrt(2 / repeats)
    lone = expected_pairs()[upper] == 0
    scatter = np.var([flat(one.covariance().value)[upper] for one in found], axis=0, ddof=1)
    null = np.mean([flat(one.null_error())[upper] ** 2 for one in found], axis=0)
    assert abs(np.mean(scatter[lone] / null[lone]) - 1) < 4 * np.sqrt(2 / repeats / 60)


def test_next_frame_follows_drifting_background():
    """A background that rises tenfold: correlated in the mean, not from frame to frame."""
    rng, frames = np.random.default_rng(19), 20_000
    rise = np.linspace(0.05, 0.5, frames)[:, None]
    record = [Frames(clicks(rng, frames, MU, rise * np.linspace(0.5, 1.5, 12)))]
    upper = np.triu_indices(12, 1)
    scores = {}
    for accidentals in ("mean", "next frame"):
        found = joint_distribution(record, accidentals=accidentals).pairs()
        scores[accidentals] = (flat(found.value) - expected_pairs())[upper] / flat(found.error)[upper]
    assert np.abs(scores["next frame"]).max() < 4.5 and abs(scores["next frame"].mean()) < 4 / np.sqrt(66)
    assert scores["mean"].mean() > 5 / np.sqrt(66)


def test_crosstalk_counts_as_pairs_and_can_be_left_out():
    """Chance x that a count in pixel 5 fires pixel 6: x m pairs of those two, none elsewhere."""
    rng, frames, x, m = np.random.default_rng(23), 40_000, 0.1, 0.3
    events = rng.poisson(m, (frames, 12))
    events[:, 6] += rng.binomial(events[:, 5], x)
    found = joint_distribution([Frames((events > 0).reshape(frames, *SHAPE))], rows=[5])
    value, error = (flat(a)[0] for a in found.pairs())
    expected = np.where(np.arange(12) == 6, x * m, 0.0)
    use = np.arange(12) != 5
    assert np.abs((value - expected)[use] / error[use]).max() < 4 and value[6] / error[6] > 5
    value, error = found.pairs(exclude=1)
    near = np.abs(np.arange(3)[:, None] - 1).clip(0, 2) + 0 * np.arange(4) <= 1
    near &= np.abs(np.arange(4) - 1) <= 1
    np.testing.assert_array_equal(np.isinf(error[0]), near)
    assert np.all(value[0][near] == 0) and found.apart(1).sum() == 12 - near.sum()


def test_the_diagonal_is_the_variance_and_no_pairs():
    counts = clicks(np.random.default_rng(29), 500, MU, ALONE)
    found = joint_distribution([Frames(counts)])
    np.testing.assert_allclose(np.diag(flat(found.covariance().value)), counts.reshape(500, 12).var(axis=0, ddof=1))
    assert np.all(np.diag(flat(found.pairs().value)) == 0) and np.all(np.isinf(np.diag(flat(found.pairs().error))))


def test_dead_and_saturated_pixels_are_finite_or_unknown():
    counts = clicks(np.random.default_rng(31), 400, MU, ALONE)
    counts[:, 0, 0], counts[:, 2, 1] = False, True
    found = joint_distribution([Frames(counts)])
    for image in (found.covariance(), found.pairs()):
        assert not np.isnan(image.value).any() and not np.isnan(image.error).any()
    assert np.all(np.isinf(found.pairs().error[:, 2, 1])) and np.all(found.covariance().error[1:, 0, 0] == 0)


@pytest.mark.parametrize("accidentals", ["mean", "next frame"])
@pytest.mark.parametrize("kind", [bool, np.float32])
def test_pieces_and_tiles_are_the_whole(accidentals, kind):
    """Three blocks of frames; cut anywhere, read pixel by pixel: the same bits."""
    counts = clicks(np.random.default_rng(37), 3500, MU, ALONE).astype(kind)
    whole = joint_distribution([Frames(counts)], accidentals=accidentals)
    cuts = [0, 1, 2, 900, 1023, 1024, 1100, 3499, 3500]
    pieces = [Frames(counts[a:b]) for a, b in pairwise(cuts)]
    streamed = joint_distribution(iter(pieces), accidentals=accidentals)
    first, second = (memory(r, 12, kind is bool, accidentals == "next frame") for r in (0, 5))
    limit = sum(second)
    parts = list(tiles(pieces, accidentals=accidentals, memory_limit=limit))
    assert [len(part.rows) for part in parts] == [5, 5, 2] and sum(first) < limit
    chosen = joint_distribution(pieces, rows=[7, 2], accidentals=accidentals)
    for image in ("covariance", "pairs"):
        for k in range(2):
            full = getattr(whole, image)()[k]
            np.testing.assert_array_equal(getattr(streamed, image)()[k], full)
            np.testing.assert_array_equal(np.concatenate([getattr(part, image)()[k] for part in parts]), full)
            np.testing.assert_array_equal(getattr(chosen, image)()[k], full[[7, 2]])


@pytest.mark.parametrize("kind", [bool, np.uint8])
def test_events_and_matrix_product_count_the_same(kind, monkeypatch):
    counts = clicks(np.random.default_rng(41), 600, MU / 10, ALONE / 10).astype(kind)
    tables = []
    for share in (0.0, 1.0):
        monkeypatch.setattr(module, "CROWDED", share)
        found = joint_distribution([Frames(counts)], accidentals="next frame")
        tables.append([*found.sums.values(), found.accidental])
    for a, b in zip(*tables, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", [bool, np.float64])
def test_memory_is_known_beforehand(kind):
    counts = (np.random.default_rng(43).random((1500, 24, 24)) < 0.02).astype(kind)
    for accidentals in ("mean", "next frame"):
        joint_distribution([Frames(counts[:3])], accidentals=accidentals).covariance()
        tracemalloc.start()
        joint_distribution([Frames(counts)], accidentals=accidentals).covariance()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        known = max(memory(576, 576, kind is bool, accidentals == "next frame"))
        assert most < known < 4 * most


def frames(*shape, value=0.0, kind=np.float64) -> Frames:
    return Frames(np.full(shape, value, kind))


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (frames(5, 2, 2), "iterable"),
        ([], "no stretch"),
        ([frames(1, 2, 2)], "got 1 frames"),
        ([frames(0, 2, 2)], "got 0 frames"),
        ([frames(5, 2, 2), frames(5, 2, 3)], "2 x 3 pixels"),
        ([frames(5, 2, 2), frames(5, 2, 2, kind=bool)], "pixels of bool"),
        ([frames(5, 2, 2), frames(5, 2, 2, value=np.nan)], "stretch 1 has a count that is not a finite number"),
        ([frames(5, 0, 2)], "without pixels"),
    ],
)
def test_bad_records_are_refused(record, words):
    with pytest.raises(UserError, match=words):
        joint_distribution(record)


def test_bad_requests_are_refused():
    record = [frames(5, 2, 2)]
    for wrong in ([4], [-1], [0.5], [[0]], [1, 1]):
        with pytest.raises(UserError, match="rows"):
            joint_distribution(record, rows=wrong)
    with pytest.raises(UserError, match="'mean' and 'next frame'"):
        joint_distribution(record, accidentals="none")
    with pytest.raises(UserError, match=r"memory_limit: got 0\.0009766 MiB, 4 x 4"):
        joint_distribution(record, memory_limit=1024)
    need = max(memory(4, 4, False, False))
    joint_distribution(record, memory_limit=need)
    with pytest.raises(UserError, match="memory_limit"):
        joint_distribution(record, memory_limit=need - 1)
    with pytest.raises(UserError, match=r"memory_limit.* a tile needs"):
        list(tiles(record, memory_limit=1024))
    with pytest.raises(UserError, match="iterable"):
        list(tiles(record[0]))
    with pytest.raises(UserError, match="can be read once"):
        list(tiles(iter(record)))
    with pytest.raises(UserError, match="other than 0 and 1"):
        joint_distribution([frames(5, 2, 2, value=2.0)]).pairs()
