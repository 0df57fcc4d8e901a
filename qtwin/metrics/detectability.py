"""Detectability of a known object: Hotelling observer, ideal observer of Poisson counts, area under the ROC curve.

d' = (<t>_1 - <t>_0)/std t for a statistic t without (0) and with (1) the object; AUC = Phi(d'/sqrt 2) where t is
normal with equal variances. Barrett & Myers, Foundations of Image Science (2004), ch. 13 (from memory).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_factor, cho_solve
from jax.scipy.stats import norm
from scipy import sparse
from scipy.sparse.linalg import splu
from scipy.stats import rankdata

from qtwin.core.errors import FieldError, UserError
from qtwin.core.params import nonnegative, positive, real
from qtwin.core.records import Estimate
from qtwin.modes.checks import number, require


def auc(detectability):
    """Phi(d'/sqrt 2): probability that a normal statistic is larger with the object than without. Elementwise."""
    return norm.cdf(number("detectability", detectability, real) * 2**-0.5)


# --- Hotelling observer ----------------------------------------------------------------------------------------


def template(signal, covariance):
    """w = K^-1 s, [m]: the linear statistic w g of largest d' (Hotelling); s [m] mean difference of the data g.

    covariance: [m] variances of independent data or [m, m], both traced, or a SciPy sparse [m, m]; the mean of both
    classes' where they differ. FieldError where it is not positive definite.
    """
    signal = number("signal", signal, real)
    if sparse.issparse(covariance):
        try:
            found = jnp.asarray(splu(sparse.csc_matrix(covariance)).solve(np.asarray(signal)), signal.dtype)
        except RuntimeError as error:
            raise FieldError("covariance", "got a singular matrix, accepted is a positive definite one") from error
    else:
        matrix = number("covariance", covariance, real)
        found = signal / matrix if matrix.ndim == 1 else cho_solve(cho_factor(matrix), signal)
    good = jnp.isfinite(found).all() & (jnp.dot(signal, found) >= 0)
    require("covariance", good, "got a matrix that is not positive definite, accepted is one that is")
    return found


def hotelling(signal, covariance):
    """d' = sqrt(s^T K^-1 s) of the Hotelling observer, []: `template`; differentiable but for sparse matrices."""
    return jnp.sqrt(jnp.dot(number("signal", signal, real), template(signal, covariance)))


def hotelling_from_samples(present, absent) -> Estimate:
    """d'^2 without bias from samples [n_1, m] and [n_0, m], and its standard error; may be below 0 where d' is small.

    d'^2 = (nu - m - 1)/nu D - m (1/n_1 + 1/n_0), D = s^T S^-1 s with the mean difference s and pooled covariance S of
    nu = n_1 + n_0 - 2 degrees of freedom: <S^-1> = nu/(nu - m - 1) K^-1 (Wishart). Normal data of equal covariance;
    then D n_1 n_0/(n_1 + n_0) is Hotelling's T^2, a noncentral F, whose variance at the estimate gives the error
    (Anderson, An Introduction to Multivariate Statistical Analysis (2003), ch. 5, from memory).
    """
    present, absent = np.asarray(present, float), np.asarray(absent, float)
    (n1, m), n0 = present.shape, len(absent)
    nu = n1 + n0 - 2
    _enough(nu, m)
    signal = present.mean(axis=0) - absent.mean(axis=0)
    away = np.concatenate([present - present.mean(axis=0), absent - absent.mean(axis=0)])
    size = n1 * n0 / (n1 + n0)
    value = (nu - m - 1) / nu * _distance(signal, away.T @ away / nu) - m / size
    last, shift = nu - m + 1, size * max(value, 0.0)  # degrees of freedom and noncentrality of F
    variance = 2 * ((m + shift) ** 2 + (m + 2 * shift) * (last - 2)) / (last - 4) / size**2
    return Estimate(float(value), float(np.sqrt(variance)))


def hotelling_with_known_signal(signal, samples) -> Estimate:
    """d'^2 = (n - m - 2)/(n - 1) s^T S^-1 s, s [m] known, S the covariance of n samples [n, m].

    Error d'^2 sqrt(2/(n - m - 2)), its square without bias: (n - 1) s^T K^-1 s/s^T S^-1 s is a chi-square of n - m
    degrees (Muirhead, Aspects of Multivariate Statistical Theory (1982), theorem 3.2.12, from memory). Normal data.
    """
    samples = np.asarray(samples, float)
    n, m = samples.shape
    _enough(n - 1, m)
    away = samples - samples.mean(axis=0)
    value = (n - m - 2) / (n - 1) * _distance(np.asarray(signal, float), away.T @ away / (n - 1))
    return Estimate(float(value), float(value * np.sqrt(2 / (n - m - 2))))


def _enough(nu: int, m: int):
    if nu - m - 3 <= 0:
        raise UserError(f"samples: got {nu} degrees of freedom for {m} data each, accepted are {m + 4} or more")


def _distance(signal: np.ndarray, covariance: np.ndarray) -> float:
    return float(signal @ np.asarray(template(jnp.asarray(signal), jnp.asarray(covariance))))


# --- ideal observer of Poisson counts --------------------------------------------------------------------------

STEP, END = 0.01, 15.0  # of the quadrature
NOISE = 0.005  # of the spread of t, and four times as much at a single count


class LogLikelihoodRatio(NamedTuple):
    """Moments of t = sum n log(l_1/l_0) - (l_1 - l_0), [] each."""

    mean_absent: jax.Array
    mean_present: jax.Array
    variance_absent: jax.Array
    variance_present: jax.Array

    @property
    def detectability(self):
        """d' = (<t>_1 - <t>_0)/sqrt(mean of the variances)."""
        between = self.mean_present - self.mean_absent
        return between / jnp.sqrt((self.variance_absent + self.variance_present) / 2)


def log_likelihood_ratio(absent, present) -> LogLikelihoodRatio:
    """Exact moments of the ideal observer's statistic, mean counts without and with the object, any equal shape.

    <t> = sum l log(l_1/l_0) - (l_1 - l_0) and Var t = sum l log^2(l_1/l_0) at l = l_0 or l_1; differentiable.
    """
    l0, l1 = number("absent", absent, positive), number("present", present, positive)
    ratio, added = jnp.log(l1 / l0), jnp.sum(l1 - l0)
    means = (jnp.sum(light * ratio) - added for light in (l0, l1))
    return LogLikelihoodRatio(*means, *(jnp.sum(light * ratio**2) for light in (l0, l1)))


def poisson_auc(absent, present):
    """AUC of the ideal observer of Poisson counts, means l_0 without and l_1 with the object, any equal shape; [].

    1 - AUC = (1/4 pi) int |<exp((1/2 + i x) t)>_0|^2/(x^2 + 1/4) dx (Barrett, Abbey & Clarkson, J. Opt. Soc. Am. A 15,
    1520 (1998), derived again here), ties counted by half; with x = sinh(u)/2 it is
    (1/pi) int_0^inf exp[sum 2 sqrt(l_0 l_1) cos(x log(l_1/l_0)) - l_0 - l_1] du/cosh u. At many counts Phi(d'/sqrt 2).
    Right to 1e-5 at any count. Differentiable, to 1 %: a normal noise far below the spread of t is added to it, whose
    transform ends the oscillations of few, discrete counts; the AUC has no first-order change from it.
    """
    l0, l1 = (number(k, v, nonnegative).ravel() for k, v in (("absent", absent), ("present", present)))
    return _poisson_auc(l0, l1)


@jax.jit
def _poisson_auc(l0, l1):
    both = (l0 > 0) & (l1 > 0)
    bright0, bright1 = jnp.where(both, l0, 1.0), jnp.where(both, l1, 1.0)
    ratio = jnp.log(bright1 / bright0)
    common = jnp.where(both, jnp.sqrt(bright0 * bright1), 0.0)
    apart = jnp.sum(jnp.where(both, (jnp.sqrt(bright1) - jnp.sqrt(bright0)) ** 2, l0 + l1))
    counts = jnp.sum(jnp.where(ratio != 0, l0 + l1, 0.0))
    spread = jnp.sum((l0 + l1) * ratio**2)  # variance of t_1 - t_0
    noise = jax.lax.stop_gradient(spread * (NOISE + 4 * NOISE / jnp.sqrt(jnp.where(counts > 0, counts, 1.0))) ** 2)

    def integrand(u):
        x = jnp.sinh(u) / 2
        turned = -4 * jnp.sum(common * jnp.sin(x * ratio / 2) ** 2)
        blurred = jnp.exp(turned - apart + noise * (0.25 - x**2) / 2)
        return blurred * (jnp.cos(noise * x / 2) + 2 * x * jnp.sin(noise * x / 2)) / jnp.cosh(u)

    nodes = jnp.arange(0.0, END, STEP, dtype=l0.dtype)
    values = jax.lax.map(integrand, nodes, batch_size=64)
    return 1 - (jnp.sum(values) - values[0] / 2) * (STEP / jnp.pi)


# --- scores ----------------------------------------------------------------------------------------------------


def mann_whitney(present, absent) -> Estimate:
    """AUC = P(t_1 > t_0) + P(t_1 = t_0)/2 of scores [m], [n], and its standard error: DeLong's S_10/m + S_01/n.

    DeLong, DeLong & Clarke-Pearson, Biometrics 44, 837 (1988), by ranks (Sun & Xu, IEEE Signal Process. Lett. 21, 1389
    (2014)). Where the classes do not overlap the error is 1/min(m, n), that of one score on the wrong side.
    """
    present, absent = np.asarray(present, float).ravel(), np.asarray(absent, float).ravel()
    m, n = len(present), len(absent)
    if min(m, n) < 2 or not (np.isfinite(present).all() and np.isfinite(absent).all()):
        raise UserError(f"scores: got {m} and {n}, accepted are two or more finite ones of either class")
    every = rankdata(np.concatenate([present, absent]))
    above = (every[:m] - rankdata(present)) / n  # share of the absent below each present
    below = 1 - (every[m:] - rankdata(absent)) / m
    value = float(above.mean())
    variance = np.var(above, ddof=1) / m + np.var(below, ddof=1) / n
    return Estimate(value, float(np.sqrt(variance)) if 0 < value < 1 else 1 / min(m, n))
