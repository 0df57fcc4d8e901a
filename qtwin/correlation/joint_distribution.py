"""Joint probability distribution of photon pairs from frames of a camera, accidentals subtracted.

Every pair of pixels, by counting in frames: G_ij = <c_i c_j> - <c_i><c_j>. A sensor of n pixels has n^2 of them: those
of 64 x 64 pixels fit into memory, larger ones pass in tiles of some pixels i with all j.

Sparse frames are counted event by event, crowded ones by a matrix product of blocks: the change-over at 4 % of
pixels lit was measured (scripts/joint_distribution_speed.py).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit

from qtwin.core.errors import UserError
from qtwin.core.records import Estimates, Frames
from qtwin.correlation.covariance_image import blocks, several

LIMIT = 2**31  # bytes, where nothing else is said
CROWDED = 0.04  # of the pixels lit: from here on a matrix product is the quicker one
STRIP = 256  # pixels i of one matrix product
POWERS = ((1, 1), (2, 1), (1, 2), (2, 2))  # p, q of the sums of c_i^p c_j^q


@njit
def add_products(table, place, starts, pixels, values, starts_2, pixels_2, values_2):
    """table[place[i], j] += value of i x value of j, for all events i and j of a frame. ``place`` < 0: not wanted."""
    for frame in range(len(starts) - 1):
        for a in range(starts[frame], starts[frame + 1]):
            row = place[pixels[a]]
            if row >= 0:
                for b in range(starts_2[frame], starts_2[frame + 1]):
                    table[row, pixels_2[b]] += values[a] * values_2[b]


def events(block: np.ndarray):
    """Events of a block [frames, pixels]: where each frame's start, pixel of each, value of each."""
    lit = np.flatnonzero(block)
    starts = np.searchsorted(lit, np.arange(len(block) + 1) * block.shape[1])
    return starts, lit % block.shape[1], block.ravel()[lit].astype(float)


def crowded(block: np.ndarray) -> bool:
    return bool(np.count_nonzero(block) > CROWDED * block.size)


@dataclass(frozen=True)
class JointDistribution:
    """What a record says of pixels i (``rows``) and all pixels j: sums over frames, about one common ``origin``.

    rows: flat indices of i, [r]; shape: rows and columns of the sensor, n pixels; mean, variance: of every pixel [n];
    sums[p, q]: of (c_i - origin)^p (c_j - origin)^q, [r, n]; accidental: what is to be subtracted from sums[1, 1],
    [r, n], or None: the product of the means. ``clicks``: every count was 0 or 1. Images are [r, rows, columns]:
    conditional on a count in pixel i.
    """

    rows: np.ndarray
    shape: tuple[int, int]
    frames: int
    origin: float
    mean: np.ndarray
    variance: np.ndarray
    sums: dict[tuple[int, int], np.ndarray]
    accidental: np.ndarray | None
    clicks: bool
    pitch: float

    def _covariance(self, k: int) -> np.ndarray:
        """G_ij of row k, all j."""
        shifted = self.mean - self.origin
        product = self.frames * shifted[self.rows[k]] * shifted if self.accidental is None else self.accidental[k]
        return (self.sums[1, 1][k] - product) / (self.frames - 1)

    def _chance(self, k: int) -> np.ndarray:
        """Long-run variance that accidentals from the next frame add to row k: (V_i V_j + G_ij^2)/2 per frame."""
        if self.accidental is None:
            return np.zeros(len(self.mean))
        return 0.5 * (self.variance[self.rows[k]] * self.variance + self._covariance(k) ** 2)

    def _images(self, row) -> Estimates:
        value, error = np.empty((2, len(self.rows), len(self.mean)))
        for k in range(len(self.rows)):
            value[k], error[k] = row(k)
        return Estimates(value.reshape(-1, *self.shape), error.reshape(-1, *self.shape))

    def covariance(self) -> Estimates:
        """G_ij and its standard error; at i = j the variance of the counts, which says nothing of pairs.

        Var G = (<(c_i - m_i)^2 (c_j - m_j)^2> - G^2)/K of K frames, from the record's own fourth moments, and
        (V_i V_j + G^2)/(2K) more with accidentals from the next frame. It rises and falls with the events that were
        counted: where few are expected (K p_i p_j = 10: z has the mean -0.17) weigh and test with `null_error`.
        """

        def row(k):
            m = self.mean - self.origin
            i, second = self.rows[k], self.variance + m**2
            e11, e21, e12, e22 = (self.sums[power][k] / self.frames for power in POWERS)
            fourth = e22 - 2 * m * e21 - 2 * m[i] * e12 + m**2 * second[i] + m[i] ** 2 * second
            fourth += 4 * m[i] * m * e11 - 3 * m[i] ** 2 * m**2
            covariance = self._covariance(k)
            variance = np.maximum(fourth - covariance**2, 0.0) + self._chance(k)
            return covariance, np.sqrt(variance / self.frames)

        return self._images(row)

    def null_error(self) -> np.ndarray:
        """Standard error of G_ij of independent i and j: sqrt(V_i V_j/K); sqrt(1.5 V_i V_j/K) with the next frame's."""
        factor = 1.0 if self.accidental is None else 1.5
        image = np.sqrt(factor * self.variance[self.rows, None] * self.variance / self.frames)
        return image.reshape(-1, *self.shape)

    def apart(self, exclude: int = 0) -> np.ndarray:
        """True where j lies more than ``exclude`` rows or columns from i, [r, rows, columns]. 0: all but i itself."""
        row, column = np.divmod(np.arange(len(self.mean)), self.shape[1])
        far = np.abs(row - row[self.rows, None]) > exclude
        far |= np.abs(column - column[self.rows, None]) > exclude
        return far.reshape(-1, *self.shape)

    def pairs(self, exclude: int = 0) -> Estimates:
        """mu_ij = ln[1 + G_ij/((1 - p_i)(1 - p_j))]: mean pairs per frame that fire i and j, of a threshold camera.

        Defienne, Reichert & Fleischer, Phys. Rev. Lett. 120, 203604 (2018). Both orderings of signal and idler,
        detection included. Derived: with independent Poisson numbers of pairs on every pair of pixels, and whatever
        else fires a pixel independent of the other pixels, P(neither) = (1 - p_i)(1 - p_j) exp(mu_ij). As coded,
        mu = -ln(1 - G/P(neither)), which also follows drifting background with accidentals from the next frame.
        Var mu = [1/P - 1/q_i - 1/q_j - 1 + 2P/(q_i q_j)]/K, q = 1 - p, by the delta method; sqrt(p_i p_j/(K q_i q_j))
        without pairs.

        Not Poisson: light of few thermal modes per frame. Crosstalk of probability x from i to j counts as x m_i pairs:
        neighbours up to ``exclude`` rows and columns away, and i itself, have value 0 and infinite error, and so have
        pixels that always fire.
        """
        if not self.clicks:
            raise UserError("pairs: the frames have counts other than 0 and 1, expected those of a threshold camera")
        apart = self.apart(exclude).reshape(len(self.rows), -1)

        def row(k):
            q, i = 1 - self.mean, self.rows[k]
            none = q + q[i] - 1 + self.sums[1, 1][k] / self.frames
            chance = none - self._covariance(k)
            known = apart[k] & (none > 0) & (chance > 0) & (q > 0) & (q[i] > 0)
            none, chance, qi, qj = (np.where(known, v, 1.0) for v in (none, chance, q[i], q))
            variance = 1 / none - 1 / qi - 1 / qj - 1 + 2 * none / (qi * qj) + self._chance(k) / (qi * qj) ** 2
            error = np.sqrt(np.maximum(variance, 0.0) / self.frames)
            return np.where(known, np.log(none / chance), 0.0), np.where(known, error, np.inf)

        return self._images(row)


def _block_frames(pixels: int) -> int:
    """Frames of one block: some ten MB, and enough of them for a quick matrix product."""
    return max(2, min(1024, 2**22 // max(pixels, 1)))


def memory(rows: int, pixels: int, clicks: bool, next_frame: bool) -> tuple[int, int]:
    """Bytes that a distribution of ``rows`` x ``pixels`` takes while it is counted, and later with one result.

    ``clicks``: the frames are of bool. Blocks in work, tables of sums; a result has two images.
    """
    work = pixels * ((12 if clicks else 48) * _block_frames(pixels) + 16 * STRIP)
    tables = 8 * rows * pixels * ((1 if clicks else len(POWERS)) + next_frame)
    return work + tables, tables + 2 * 8 * rows * pixels


def joint_distribution(
    record: Iterable[Frames],
    *,
    rows=None,
    accidentals: Literal["mean", "next frame"] = "mean",
    memory_limit: float = LIMIT,
) -> JointDistribution:
    """G_ij of pixels i = ``rows`` (flat indices, all if None) and all pixels j, in one pass.

    accidentals 'mean': <c_i><c_j> over the record. 'next frame': <c_i(n) c_j(n + 1)>, both orders averaged, so that
    G = <(c_i(n + 1) - c_i(n))(c_j(n + 1) - c_j(n))>/2: light may drift from frame to frame, at 1.5 times the variance
    (the estimator of Defienne et al., Sci. Adv. 5, eaax0307 (2019), from memory).

    Frames of bool are clicks and need least memory; other counts keep fourth moments for their errors. UserError before
    anything is counted if more than ``memory_limit`` bytes would be used, one result included (see `tiles`).
    """
    if accidentals not in ("mean", "next frame"):
        raise UserError(f"accidentals: got {accidentals!r}, accepted are 'mean' and 'next frame'")
    record, first = _peeked(record)
    shape, is_bool = first.counts.shape[1:], first.counts.dtype.kind == "b"
    pixels = shape[0] * shape[1]
    rows = np.arange(pixels) if rows is None else np.asarray(rows)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or not np.all((rows >= 0) & (rows < pixels)):
        raise UserError(f"rows: got {rows}, accepted are whole numbers from 0 to {pixels - 1}")
    if len(np.unique(rows)) != len(rows):
        raise UserError("rows: a pixel is named twice")
    next_frame = accidentals == "next frame"
    need = max(memory(len(rows), pixels, is_bool, next_frame))
    if need > memory_limit:
        given = f"got {memory_limit / 2**20:.4g} MiB, {len(rows)} x {pixels} pairs of pixels"
        raise UserError(f"memory_limit: {given} need {need / 2**20:.4g} MiB")

    place = np.full(pixels, -1)
    place[rows] = np.arange(len(rows))
    powers = POWERS[:1] if is_bool else POWERS
    tables = {power: np.zeros((len(rows), pixels)) for power in powers}
    apart = np.zeros((len(rows), pixels)) if next_frame else None
    sums, squares, frames, clicks, origin = np.zeros(pixels), np.zeros(pixels), 0, True, 0.0
    ends: list[np.ndarray] = []  # the first frame and the last
    for counts in blocks(record, _block_frames(pixels)):
        block = counts.reshape(len(counts), pixels)
        if frames == 0 and not is_bool:
            origin = float(np.rint(block.mean()))
        if not is_bool:
            clicks = clicks and bool(np.all((block == 0) | (block == 1)))
            block = block - origin
        sums += block.sum(axis=0, dtype=float)
        squares += block.sum(axis=0, dtype=float) if is_bool else np.einsum("fi,fi->i", block, block)
        before = 0
        if apart is not None:
            if ends:
                block, before = np.concatenate([ends[-1], block]), 1
            ends = [*ends[:1], block[-1:]] if ends else [block[:1], block[-1:]]
        _add(tables, apart, block, before, rows, place)
        frames += len(counts)
    if apart is not None:
        apart /= 2
        for end in ends:
            for k, i in enumerate(rows):
                apart[k] += 0.5 * end[0, i] * end[0]
    mean, variance = sums / frames, np.maximum(squares / frames - (sums / frames) ** 2, 0.0)
    tables = {power: tables[power if power in tables else (1, 1)] for power in POWERS}
    return JointDistribution(rows, shape, frames, origin, mean + origin, variance, tables, apart, clicks, first.pitch)


def _add(tables, apart, block, before, rows, place):
    """Products within every frame from ``before`` on, and (``apart``) of all neighbouring frames in both orders."""
    if crowded(block):
        dense = block.astype(np.float32 if block.dtype.kind == "b" else float)  # whole numbers to 2^24 are exact
        square = dense**2 if len(tables) > 1 else dense
        for start in range(0, len(rows), STRIP):
            some, strip = rows[start : start + STRIP], slice(start, start + STRIP)
            for (p, q), table in tables.items():
                one, other = (square if p == 2 else dense), (square if q == 2 else dense)
                table[strip] += one[before:, some].T @ other[before:]
            if apart is not None:
                apart[strip] += dense[:-1, some].T @ dense[1:] + dense[1:, some].T @ dense[:-1]
        return
    starts, pixels, values = events(block)
    within = starts[before:]
    for (p, q), table in tables.items():
        add_products(table, place, within, pixels, values**p, within, pixels, values**q)
    if apart is not None:
        add_products(apart, place, starts[:-1], pixels, values, starts[1:], pixels, values)
        add_products(apart, place, starts[1:], pixels, values, starts[:-1], pixels, values)


def _peeked(record: Iterable[Frames]) -> tuple[Iterable[Frames], Frames]:
    """The record, whole, and its first stretch."""
    stretches = iter(several(record))
    first = next(stretches, None)
    if first is None:
        raise UserError("record: got no stretch, expected at least one")

    def whole():
        yield first
        yield from stretches

    return whole(), first


def tiles(
    record: Iterable[Frames],
    *,
    accidentals: Literal["mean", "next frame"] = "mean",
    memory_limit: float = LIMIT,
) -> Iterator[JointDistribution]:
    """The whole distribution, as many pixels i at a time as ``memory_limit`` bytes hold; one pass per tile.

    ``record`` is read again for every tile: a list, or any object that can be iterated anew. Counted: the tile before
    with one result of it, which a loop still holds while the next tile is made.
    """
    if iter(several(record)) is record:
        raise UserError("record: got an iterator, which can be read once; tiles read a record several times")
    first = _peeked(record)[1]
    pixels, kind = first.counts.shape[1] * first.counts.shape[2], first.counts.dtype.kind == "b"
    cost = [sum(memory(r, pixels, kind, accidentals == "next frame")) for r in (0, 1)]
    size = int((memory_limit - cost[0]) // (cost[1] - cost[0]))
    if size < 1:
        raise UserError(f"memory_limit: got {memory_limit / 2**20:.4g} MiB, a tile needs {cost[1] / 2**20:.4g} MiB")
    for start in range(0, pixels, size):
        rows = np.arange(start, min(start + size, pixels))
        yield joint_distribution(record, rows=rows, accidentals=accidentals, memory_limit=memory_limit)
