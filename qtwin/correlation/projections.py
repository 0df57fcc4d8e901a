"""Projections of the joint distribution of photon pairs on the sum and the difference of their pixels, from frames.

The distribution itself, n^2 numbers for n pixels, is never made: pairs of events are counted frame by frame, or by
Fourier transforms where frames have so many events that this is quicker (see scripts/joint_distribution_speed.py).
Batches, errors and entries that are not measured: see `qtwin.correlation.covariance_image`.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np
from numba import njit
from scipy import fft
from scipy.ndimage import uniform_filter
from scipy.optimize import least_squares
from scipy.special import ndtr

from qtwin.core.errors import UserError
from qtwin.core.records import Estimates, Frames
from qtwin.correlation.covariance_image import BATCH, Scatter, blocks, displaced, padded
from qtwin.correlation.joint_distribution import events


class Projection(NamedTuple):
    """Pairs of pixels gathered by one coordinate, [2 rows - 1, 2 columns - 1]: both axes from -(size - 1) to size - 1.

    coordinate 'sum': (r_i + r_j, c_i + c_j) less its value in the middle of the sensor; 'difference':
    (r_i - r_j, c_i - c_j). value, error: sum of G_ij over ordered pairs i, j, per frame; accidental: what was
    subtracted, the sum of <c_i><c_j>.
    """

    coordinate: Literal["sum", "difference"]
    value: np.ndarray
    error: np.ndarray
    accidental: np.ndarray


class Projections(NamedTuple):
    """Both projections, the marginal sum_j G_ij [rows, columns], and the pairs of counts per frame, sum_ij G_ij/2."""

    sum: Projection
    difference: Projection
    marginal: Estimates
    pairs: Estimates


@njit
def gather(starts, row, column, value, exclude, total, apart, marginal):
    """Adds the products of all ordered pairs of events of a frame that are more than ``exclude`` pixels apart."""
    rows, columns = marginal.shape
    for frame in range(len(starts) - 1):
        for a in range(starts[frame], starts[frame + 1]):
            for b in range(a + 1, starts[frame + 1]):
                dr, dc = row[b] - row[a], column[b] - column[a]
                if dr > exclude or abs(dc) > exclude:  # dr >= 0: events are in order of their rows
                    product = value[a] * value[b]
                    total[row[a] + row[b], column[a] + column[b]] += 2 * product
                    apart[rows - 1 + dr, columns - 1 + dc] += product
                    apart[rows - 1 - dr, columns - 1 - dc] += product
                    marginal[row[a], column[a]] += product
                    marginal[row[b], column[b]] += product


def by_events(stack: np.ndarray, exclude: int):
    """Products of all ordered pairs of pixels, summed over frames [frames, rows, columns]: sum, difference, pixel."""
    _, rows, columns = stack.shape
    total, apart = np.zeros((2, 2 * rows - 1, 2 * columns - 1))
    marginal = np.zeros((rows, columns))
    starts, pixel, value = events(stack.reshape(len(stack), -1))
    gather(starts, pixel // columns, pixel % columns, value, exclude, total, apart, marginal)
    return total, apart, marginal


def by_transforms(stack: np.ndarray, exclude: int):
    """The same by convolution; pairs of pixels that are not apart are subtracted one displacement after the other."""
    _, rows, columns = stack.shape
    total, power, marginal = np.zeros(()), np.zeros(()), np.zeros((rows, columns))
    for frame in stack:
        transform = fft.rfft2(frame, padded((rows, columns)))
        total, power = total + transform**2, power + np.abs(transform) ** 2
        marginal += frame * frame.sum()
    total = fft.irfft2(total, padded((rows, columns)))[: 2 * rows - 1, : 2 * columns - 1]
    apart = displaced(power, (rows, columns))
    for dr in range(-min(exclude, rows - 1), min(exclude, rows - 1) + 1):
        for dc in range(-min(exclude, columns - 1), min(exclude, columns - 1) + 1):
            here = (slice(None), _inside(rows, dr), _inside(columns, dc))
            there = (slice(None), _inside(rows, -dr), _inside(columns, -dc))
            near = np.einsum("frc,frc->rc", stack[here], stack[there])
            marginal[here[1:]] -= near
            total[abs(dr) : 2 * rows - 1 - abs(dr) : 2, abs(dc) : 2 * columns - 1 - abs(dc) : 2] -= near
            apart[rows - 1 + dr, columns - 1 + dc] = 0.0
    return total, apart, marginal


def _inside(size: int, shift: int) -> slice:
    """Pixels x with x + shift on the sensor."""
    return slice(max(-shift, 0), size - max(shift, 0))


def _crowded(stack: np.ndarray) -> bool:
    """Transforms are quicker: k^2/2 pairs of k events cost more than the transform of one frame."""
    rows, columns = padded(stack.shape[1:])
    return bool((np.count_nonzero(stack) / len(stack)) ** 2 > 2 * rows * columns)


def _weights(weights, shape: tuple[int, int]) -> np.ndarray:
    weights = np.asarray(weights, float)
    if weights.shape != shape or not np.isfinite(weights).all():
        raise UserError(f"weights: got {weights.shape}, expected one finite number for each of {shape} pixels")
    return weights


def projections(record: Iterable[Frames], *, weights=None, exclude: int = 0, batch: int = BATCH) -> Projections:
    """P(s) = sum_{i + j = s} G_ij and P(d) = sum_{i - j = d} G_ij, G_ij = <c_i c_j> - <c_i><c_j>, in one pass.

    First with cameras: Edgar et al., Nat. Commun. 3, 984 (2012); Moreau et al., Phys. Rev. A 86, 010101 (2012) (from
    memory).

    exclude: pixels j up to that many rows and columns from i are left out (0: i itself), for crosstalk and smear.
    weights [rows, columns]: factor of every pixel, such as 1/(1 - p_i) of a threshold camera: the projections are then
    those of exp(mu_ij) - 1, mean pairs without the bias of lost coincidences where every single mu_ij is small.
    """
    if exclude < 0:
        raise UserError(f"exclude: got {exclude}, accepted is 0 or more pixels")
    found, pairs = [Scatter() for _ in range(3)], Scatter()
    chances: list = [0.0, 0.0, 0.0]
    for stack in blocks(record, batch):
        number = len(stack)
        if weights is not None:
            stack = stack * _weights(weights, stack.shape[1:])
        mean = stack.mean(axis=0, dtype=float)
        products = by_transforms(mean[None], exclude)
        if _crowded(stack):
            sums = by_transforms(stack - mean, exclude)
        else:
            sums = [a - number * b for a, b in zip(by_events(stack, exclude), products, strict=True)]
        for k, (net, product) in enumerate(zip(sums, products, strict=True)):
            net = net / (number - 1)
            found[k].add(net)
            chances[k] = chances[k] + product - net / number  # without bias
        pairs.add(float(np.sum(sums[2])) / (2 * (number - 1)))
    total, apart, marginal = (scatter.estimate() for scatter in found)
    measured = by_transforms(np.ones((1, *stack.shape[1:])), exclude)

    def projection(coordinate, k, estimate):
        some = measured[k] > 0.5
        value, error = np.where(some, estimate.value, 0.0), np.where(some, estimate.error, np.inf)
        return Projection(coordinate, value, error, chances[k] / pairs.batches)

    return Projections(projection("sum", 0, total), projection("difference", 1, apart), marginal, pairs.estimate())


class Peak(NamedTuple):
    """amplitude: ordered pairs per frame (twice the pairs); centre, std: of the coordinate, pixels, [rows, columns]."""

    amplitude: Estimates
    centre: Estimates
    std: Estimates


def _pixel_law(x: np.ndarray, std: float) -> np.ndarray:
    """Normal law of two positions' sum or difference, each rounded to its pixel: the mean over a triangle of +-1 pixel.

    The second difference of F, F'' the normal density: F(x) = x Phi(x/s) + s phi(x/s).
    """
    x = x[:, None] + np.array([1.0, 0.0, -1.0])
    second = x * ndtr(x / std) + std * np.exp(-0.5 * (x / std) ** 2) / np.sqrt(2 * np.pi)
    return second @ np.array([1.0, -2.0, 1.0])


def peak(projection: Projection, *, radius: int) -> Peak:
    """Normal law of rounded positions fitted to the highest peak, within ``radius`` pixels of its highest entry.

    std: of x1 + x2 or x1 - x2 of the positions themselves, the pixels' own width taken out (times the pitch: m). For
    light that changes little over a correlation width. Least squares with equal weights, since the error of an entry
    grows with its value and would pull a weighted fit down; the errors of the result follow from the errors of the
    entries (White, Econometrica 48, 817 (1980), from memory). A difference is symmetric: its centre is 0 and every
    entry is used once.
    """
    if radius < 1:
        raise UserError(f"radius: got {radius}, accepted is 1 or more pixels")
    value, known = projection.value, np.isfinite(projection.error)
    middle = np.array(value.shape) // 2
    mirrored = projection.coordinate == "difference"
    top = middle if mirrored else np.array(np.unravel_index(np.argmax(uniform_filter(value, 3)), value.shape))
    window = tuple(slice(max(t - radius, 0), t + radius + 1) for t in top)
    place = np.moveaxis(np.indices(value.shape)[(slice(None), *window)], 0, -1) - middle
    use = known[window]
    if mirrored:
        use &= (place[..., 0] > 0) | ((place[..., 0] == 0) & (place[..., 1] > 0))
    rows, columns = place[:, 0, 0].astype(float), place[0, :, 1].astype(float)
    data, errors = value[window][use], projection.error[window][use]
    scale = np.abs(data).max(initial=0.0)
    if len(data) < 6 or scale == 0:
        raise UserError(
            f"radius: got {radius}, no peak with enough measured entries around {tuple(map(int, top - middle))}"
        )

    def residual(p):
        centre = (0.0, 0.0) if mirrored else p[3:]
        law = np.outer(_pixel_law(rows - centre[0], p[1]), _pixel_law(columns - centre[1], p[2]))
        return (p[0] * law[use]) - data / scale

    start = [max(data.sum() / scale, 1.0) * (2 if mirrored else 1), radius / 3, radius / 3]
    low, high = [-np.inf, 0.02, 0.02], [np.inf, 2.0 * radius, 2.0 * radius]
    if not mirrored:
        centre = (top - middle).astype(float)
        start, low, high = [*start, *centre], [*low, *(centre - radius)], [*high, *(centre + radius)]
    fit = least_squares(residual, start, bounds=(low, high), x_scale="jac")
    try:
        inverse = np.linalg.inv(fit.jac.T @ fit.jac)
    except np.linalg.LinAlgError:
        inverse = None
    if inverse is None or not fit.success or np.any(fit.active_mask[1:3]):
        raise UserError(f"radius: got {radius}, the peak is too narrow, too wide or too faint to be fitted there")
    spread = fit.jac @ inverse * (errors / scale)[:, None]
    error = np.sqrt(np.sum(spread**2, axis=0))
    centre, centre_error = (np.zeros(2), np.zeros(2)) if mirrored else (fit.x[3:], error[3:])
    amplitude = np.asarray(fit.x[0] * scale), np.asarray(error[0] * scale)
    return Peak(Estimates(*amplitude), Estimates(centre, centre_error), Estimates(fit.x[1:3], error[1:3]))
