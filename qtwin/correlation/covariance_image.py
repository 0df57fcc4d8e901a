"""Covariances pixel by pixel: two arms, camera and bucket, noise reduction, speckle.

A record of frames is cut into batches of some ten consecutive frames. Every statistic is taken without bias inside its
batch, about the batch's own mean; the estimate is the mean over batches and its standard error comes from their
scatter. So light that drifts slower than a batch does no harm, no law of the noise is assumed, and one batch is in
memory at a time. The price: batches of b frames widen the error of a covariance by 1/(2b).

An entry of which a record says nothing (a dark pixel's ratio, say) has value 0 and infinite error.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from scipy import fft

from qtwin.core.errors import UserError
from qtwin.core.records import Estimates, Frames

BATCH = 64  # frames


def several(record: Iterable[Frames]) -> Iterable[Frames]:
    """The record, if it is an iterable of stretches."""
    if isinstance(record, Frames):
        raise UserError("record: got one Frames, expected an iterable of them, such as [frames]")
    return record


def blocks(record: Iterable[Frames], size: int) -> Iterator[np.ndarray]:
    """Counts of a record, ``size`` frames at a time [size, rows, columns], however the record was cut.

    The last block holds up to 2 size - 1 frames; it is the only one that may be short, where the record is.
    """
    if size < 2:
        raise UserError(f"batch: got {size} frames, accepted is 2 or more")
    form, rest, total = None, np.zeros((0,)), 0
    for number, frames in enumerate(several(record)):
        counts = frames.counts
        now = f"{counts.shape[1]} x {counts.shape[2]} pixels of {counts.dtype}"
        if 0 in counts.shape[1:]:
            raise UserError(f"record: stretch {number} has frames without pixels, {now}")
        if now != (form := form or now):
            raise UserError(f"record: stretch {number} has {now}, the stretches before it {form}")
        if counts.dtype.kind == "f" and not np.isfinite(counts).all():
            raise UserError(f"record: stretch {number} has a count that is not a finite number")
        total += len(counts)
        while len(counts):
            room = 2 * size - len(rest)
            rest = np.concatenate([rest, counts[:room]]) if len(rest) else counts[:room]
            counts = counts[room:]
            if len(rest) == 2 * size:
                yield rest[:size]
                rest = rest[size:]
    if total < 2:
        raise UserError(f"record: got {total} frames, accepted are 2 or more")
    yield rest


def paired(first: Iterable[Frames], second: Iterable[Frames], size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of two records taken together, frame by frame, in float64."""
    ones, others = blocks(first, size), blocks(second, size)
    for x in ones:
        y = next(others, x[:0])
        if len(x) != len(y):
            raise UserError("record: the two records do not have equally many frames")
        yield x.astype(float), y.astype(float)
    if next(others, None) is not None:
        raise UserError("record: the two records do not have equally many frames")


class Scatter:
    """Ratio <a>/<b> of the means over batches, with its error from their scatter; elementwise.

    Var(a/b) = sum (a - F b)^2/(n (n - 1) <b>^2), F = <a>/<b>: the linear law of a ratio. Without b it is a plain mean.
    """

    def __init__(self):
        self.batches = 0
        self.a = self.b = self.aa = self.ab = self.bb = 0.0

    def add(self, a, b=1.0):
        self.batches += 1
        self.a, self.b = self.a + a, self.b + b
        self.aa, self.ab, self.bb = self.aa + a * a, self.ab + a * b, self.bb + b * b

    def estimate(self) -> Estimates:
        """0 with infinite error where <b> = 0 (within rounding)."""
        n = self.batches
        if n < 2:
            raise UserError(f"batch: the record fills {n} batch, an error needs 2: more frames or smaller batches")
        shape = np.broadcast_shapes(np.shape(self.a), np.shape(self.b))
        a, b = np.broadcast_to(self.a, shape), np.broadcast_to(self.b, shape)
        known = np.abs(b) > 1e-12 * np.abs(b).max(initial=0.0)
        safe = np.where(known, b, 1.0)
        ratio = a / safe
        spread = np.maximum(self.aa - 2 * ratio * self.ab + ratio**2 * self.bb, 0.0)
        error = np.sqrt(n / (n - 1) * spread) / np.abs(safe)
        return Estimates(np.where(known, ratio, 0.0), np.where(known, error, np.inf))


def covariance_image(first: Iterable[Frames], second: Iterable[Frames], *, batch: int = BATCH) -> Estimates:
    """C = <x y> - <x><y> pixel by pixel of two arms [rows, columns], with its standard error.

    A bucket is a camera of one pixel: with ``second`` of [frames, 1, 1] this is the ghost image, the covariance of the
    bucket with every pixel (Ferri et al., Phys. Rev. Lett. 94, 183602 (2005), quoted from memory). Both records
    have the same frames; an arm that is mirrored has to be turned before.
    """
    result = Scatter()
    for x, y in paired(first, second, batch):
        _fit(x, y, bucket=True)
        result.add(np.sum((x - x.mean(axis=0)) * (y - y.mean(axis=0)), axis=0) / (len(x) - 1))
    return result.estimate()


def _fit(x, y, bucket: bool = False):
    """UserError where frames of two arms do not lie on each other."""
    if x.shape[1:] != y.shape[1:] and not (bucket and y.shape[1:] == (1, 1)):
        raise UserError(f"record: frames of {x.shape[1:]} and {y.shape[1:]} pixels do not lie on each other")


def noise_reduction_map(first: Iterable[Frames], second: Iterable[Frames], *, batch: int = BATCH) -> Estimates:
    """F_nr = Var(x - y)/<x + y> of every pixel [rows, columns]; background and read noise are included.

    Below 1 is below the shot noise of the difference (Brida et al., Nat. Photonics 4, 227 (2010), from memory). 1 - eta
    for twin beams of equal efficiency with every partner in the partner pixel.
    """
    result = Scatter()
    for x, y in paired(first, second, batch):
        _fit(x, y)
        result.add((x - y).var(axis=0, ddof=1), (x + y).mean(axis=0))
    return result.estimate()


def _overlap(x: np.ndarray, y: np.ndarray, displacement: tuple[int, int], binning: int):
    """Pixels (r, c) of x and (r + dr, c + dc) of y that both arms have, summed in squares of ``binning`` pixels."""
    parts = []
    for stack, sign in ((x, 1), (y, -1)):
        rows, columns = x.shape[1:]
        shift = [max(-sign * d, 0) for d in displacement]
        high = [(n - abs(d)) // binning * binning for n, d in zip((rows, columns), displacement, strict=True)]
        if min(high) <= 0:
            raise UserError(
                f"displacement: got {displacement} with binning {binning}, no pixels of {rows} x {columns} are left"
            )
        part = stack[:, shift[0] : shift[0] + high[0], shift[1] : shift[1] + high[1]]
        part = part.reshape(len(part), high[0] // binning, binning, high[1] // binning, binning)
        parts.append(part.sum(axis=(2, 4)))
    return parts


def noise_reduction(
    first: Iterable[Frames],
    second: Iterable[Frames],
    displacements: Iterable[tuple[int, int]] = ((0, 0),),
    *,
    binning: int = 1,
    batch: int = BATCH,
) -> Estimates:
    """F_nr = sum Var(x - y)/sum <x + y> over superpixels, for every displacement (rows, columns) of ``second``.

    Pixel (r, c) of ``first`` is compared with (r + dr, c + dc) of ``second`` where both arms have it, after the sum
    over squares of ``binning`` pixels; larger ones lose fewer partners at their edges. Both results: [displacements].
    """
    displacements = list(displacements)
    if binning < 1:
        raise UserError(f"binning: got {binning}, accepted is 1 or more pixels")
    results = [Scatter() for _ in displacements]
    for x, y in paired(first, second, batch):
        _fit(x, y)
        for result, displacement in zip(results, displacements, strict=True):
            a, b = _overlap(x, y, displacement, binning)
            result.add(float((a - b).var(axis=0, ddof=1).sum()), float((a + b).mean(axis=0).sum()))
    found = [result.estimate() for result in results]
    return Estimates(np.array([f.value for f in found]), np.array([f.error for f in found]))


def padded(shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of a transform in which no displacement or sum of two pixels wraps around."""
    return fft.next_fast_len(2 * shape[0] - 1, real=True), fft.next_fast_len(2 * shape[1] - 1, real=True)


def displaced(spectrum: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Autocorrelation [2 rows - 1, 2 columns - 1] of a power spectrum, displacement 0 at its centre."""
    full = fft.irfft2(spectrum, padded(shape))
    middle = shape[0] - 1, shape[1] - 1
    return np.roll(full, middle, axis=(0, 1))[: 2 * shape[0] - 1, : 2 * shape[1] - 1]


def speckle_g2(record: Iterable[Frames], *, shot_noise: float = 0.0, batch: int = BATCH) -> Estimates:
    """g2(d) = sum_i <I_i I_i+d>/sum_i <I_i><I_i+d>, displacements d [2 rows - 1, 2 columns - 1] with 0 in the middle.

    ``shot_noise``: variance per mean that counting adds in each pixel, taken off at d = 0: 1 for photon counts
    (<n(n - 1)>/<n>^2 there), the gain for a camera that reports numbers, 0 for intensities. Thermal light:
    g2 = 1 + |g1|^2 (Siegert), 1 + 1/M at d = 0 with M modes per pixel.
    """
    result = Scatter()
    for x in blocks(record, batch):
        shape, number = x.shape[1:], len(x)
        power, field = np.zeros(()), np.zeros(())
        for frame in x.astype(float):
            transform = fft.rfft2(frame, padded(shape))
            power, field = power + np.abs(transform) ** 2, field + transform
        together = displaced(power / number, shape)
        apart = displaced((np.abs(field) ** 2 - power) / (number * (number - 1)), shape)
        together[shape[0] - 1, shape[1] - 1] -= shot_noise * x.sum() / number
        result.add(together, apart)
    return result.estimate()
