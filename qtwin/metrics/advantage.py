"""Photon cost of an image, and the advantage of one arm over another with its interval.

Cost = sum_a w_a Var(T_a) over superpixels, w_a = photons N_a incident there / number of superpixels: photons times
variance, independent of the budget as long as the noise is photon noise. Advantage = cost of the classical
arm / cost of the quantum arm = photons the classical side needs / photons the quantum side needs for equal
variance.
"""

from math import floor, log10
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.stats import f as fisher

from qtwin.core.errors import UserError
from qtwin.estimator.protocol import AbstractLaw


class Interval(NamedTuple):
    """An estimate with its standard error and 95 % interval; arrays where many repeats were made."""

    value: float
    stderr: float
    low: float
    high: float

    def ends(self, word: str = "to") -> str:
        """``1.250 to 1.323``: two digits of what lies between, at least three decimals; powers of ten far from 1."""
        if not 1e-2 <= abs(self.high) < 1e5:
            return f"{self.low:.3e} {word} {self.high:.3e}"
        gap = float(self.high - self.low)
        digits = min(max(3, 1 - floor(log10(gap))), 9) if gap > 0 else 3
        return f"{self.low:.{digits}f} {word} {self.high:.{digits}f}"


class Pooling(NamedTuple):
    """How one exposure's pooled squared deviation Q = sum_a w_a (T_a - <T_a>)^2 varies."""

    mean: float  # <Q> = tr(W C): the expected cost
    dof: float  # <Q>^2/tr((W C)^2): independent superpixels that it is worth
    excess: float  # fourth cumulants of the counts over <Q>^2: 0 for normal noise


class Cost(NamedTuple):
    """Pooled sample variance of K exposures and the degrees of freedom of its chi-square law."""

    value: float
    dof: float


def smoothing(kernel: np.ndarray | None, n: int) -> sparse.csr_matrix:
    """Matrix of the convolution of n x n images with a (2 r + 1)^2 kernel; rows sum to 1, also at the edge."""
    if kernel is None:
        return sparse.identity(n * n, format="csr")
    reach = kernel.shape[0] // 2
    total = sparse.csr_matrix((n * n, n * n))
    for dy, dx in np.ndindex(kernel.shape):
        if kernel[dy, dx] <= 0 or abs(dy - reach) >= n or abs(dx - reach) >= n:
            continue
        shift_y = sparse.diags([np.ones(n - abs(dy - reach))], [-(dy - reach)], shape=(n, n))
        shift_x = sparse.diags([np.ones(n - abs(dx - reach))], [-(dx - reach)], shape=(n, n))
        total = total + kernel[dy, dx] * sparse.kron(shift_y, shift_x, format="csr")
    return sparse.diags([1 / np.asarray(total.sum(axis=1)).ravel()], [0]) @ total


def pooling(law: AbstractLaw, weights: np.ndarray, smooth: sparse.csr_matrix) -> Pooling:
    """Mean and law of Q for estimates smoothed by ``smooth``; covariances of superpixels included."""
    w = weights.ravel()
    matrix = smooth @ law.covariance() @ smooth.T
    mean = float(w @ matrix.diagonal())
    weighted = sparse.diags([w], [0]) @ matrix
    square = float(weighted.multiply(weighted.T).sum() if sparse.issparse(weighted) else np.sum(weighted * weighted.T))
    fourth = law.fourth(np.asarray(smooth.multiply(smooth).T @ w))
    return Pooling(mean, mean**2 / square, fourth / mean**2)


def pooled_cost(estimates: np.ndarray, weights: np.ndarray, law: Pooling) -> Cost:
    """Pooled sample variance of ``estimates`` [..., K, n, n] about their mean, and its degrees of freedom.

    Var(log cost) = 2/((K - 1) dof) + excess/K, read as the law of a chi-square with 2/Var degrees.
    Raises UserError where nothing varied: too few photons to say anything.
    """
    k = estimates.shape[-3]
    value = np.sum(weights * np.var(estimates, axis=-3, ddof=1), axis=(-2, -1))
    if not np.all(value > 0):
        raise UserError("budget.photons: no superpixel recorded anything that varies; accepted is a larger budget")
    return Cost(value, 2 / (2 / ((k - 1) * law.dof) + law.excess / k))


def advantage(classical: Cost, quantum: Cost, common_stderr: float = 0.0) -> Interval:
    """Ratio of costs at matched budgets, with a 95 % interval from the law of F.

    ``common_stderr``: standard error of the log ratio from what all exposures share (the walk),
    normal; it is added in quadrature on the logarithm.
    """
    value = classical.value / quantum.value
    below = np.log(fisher.ppf(0.975, classical.dof, quantum.dof))
    above = -np.log(fisher.ppf(0.025, classical.dof, quantum.dof))
    walk = 1.959964 * common_stderr
    stderr = value * np.sqrt(2 / classical.dof + 2 / quantum.dof + common_stderr**2)
    return Interval(value, stderr, value * np.exp(-np.hypot(below, walk)), value * np.exp(np.hypot(above, walk)))


def verdict(interval: Interval) -> str:
    """Quantum wins, classical wins, or no difference at this budget: from the interval alone."""
    if interval.low > 1:
        return "quantum wins"
    if interval.high < 1:
        return "classical wins"
    return "no difference at this budget"
