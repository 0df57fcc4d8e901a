"""Where to spend exposure: optimal allocation over settings (delays, polariser angles, wavelengths) of a measurement.

Counts of setting s in time t_s are Poisson of mean t_s r_k(theta, s). Their Fisher information is

    M(w) = T sum_s w_s I_s,    I_s = sum_k grad r_k grad r_k^T/r_k,    w_s = t_s/T

D-optimal: det M largest, the smallest ellipsoid; A-optimal: tr(C M^-1) least, C = diag(1/scale^2), the smallest sum of
variances. Both by multiplicative steps that increase the criterion (Silvey, Titterington & Torsney, Commun. Stat. A 7,
1379 (1978), from memory); optimal where no setting is worth more than the average, for D tr(M^-1 I_s) <= D (the
equivalence theorem of Kiefer & Wolfowitz, Can. J. Math. 12, 363 (1960), from memory).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import UserError
from qtwin.core.random import numpy_generator, stream

CRITERIA = ("D", "A")
CLOSE = 1e-6  # excess of the best setting over the average, relative, at which the steps end
ENOUGH = 1e-4  # excess that is accepted: shares that give the criterion to this part of a parameter
STEPS = 100000
DROPPED = 1e-4  # of the largest share: below it a setting is left out


class Plan(NamedTuple):
    """Shares of the exposure and what they give."""

    shares: np.ndarray  # [S], sum 1
    errors: np.ndarray  # [D] predicted standard errors
    even: np.ndarray  # [D] the same with every setting as long
    covariance: np.ndarray  # [D, D] predicted
    excess: float  # how much more the best setting is worth than the average, relative: 0 at the optimum


def allocated(worth: Callable, count: int, criterion: str, close: float, steps: int) -> tuple[np.ndarray, float]:
    """Shares [S] of settings, and the excess that is left; UserError where ``steps`` leave more than ENOUGH.

    ``worth(shares)`` [S]: what a little more of every setting adds to the criterion. What else there is of information
    beside these settings (priors, an earlier measurement) leaves the steps as they are.
    """
    shares, excess = np.full(count, 1 / count), np.inf
    for _ in range(steps):
        each = worth(shares)
        average = float(shares @ each)
        excess = float(each.max() / average - 1)
        if excess < close:
            break
        shares = shares * (each / average if criterion == "D" else np.sqrt(each / average))
        shares /= shares.sum()
    if not excess < ENOUGH:
        told = f"shares have not settled after {steps} steps (excess {excess:.2g})"
        raise UserError(f"plan: {told}; accepted are fewer parameters or settings")
    shares = np.where(shares < DROPPED * shares.max(), 0, shares)
    return shares / shares.sum(), excess


def information(rates: Callable, theta) -> jax.Array:
    """I_s [S, D, D] of ``rates(theta)`` [S, K] or [S], Hz, at parameters ``theta`` [D]; per second of exposure."""
    r, slopes = rates(theta), jax.jacfwd(rates)(theta)
    r, slopes = r.reshape(len(r), -1), slopes.reshape(len(r), -1, len(theta))
    return jnp.einsum("ski,skj,sk->sij", slopes, slopes, 1 / r)


def plan(each, total: float, criterion: str = "D", scale=None) -> Plan:
    """Allocation of ``total`` seconds over settings of information ``each`` [S, D, D] per second.

    ``scale`` [D]: what an error of each parameter is measured in (A-optimal); None: 1. UserError where no allocation
    tells the parameters apart, and where the steps do not end.
    """
    each = np.asarray(each, float)
    count, size = each.shape[:2]
    if criterion not in CRITERIA:
        raise UserError(f"criterion: got {criterion!r}, accepted is one of {', '.join(CRITERIA)}")
    if not (0 < total < np.inf and np.isfinite(each).all()):
        raise UserError(
            f"total: got {total!r} s, accepted is a finite time, and rates that are not 0 with finite slopes"
        )
    weight = np.diag(1 / np.ones(size) ** 2 if scale is None else 1 / np.asarray(scale, float) ** 2)
    unit = np.sqrt(np.einsum("sii->i", each))  # parameters of very different size
    if not np.all(unit > 0):
        blind = ", ".join(str(i) for i in np.flatnonzero(unit == 0))
        raise UserError(f"rates: no setting depends on parameter {blind}; accepted are settings that do")
    scaled = each / unit[:, None] / unit
    if np.linalg.cond(scaled.sum(axis=0)) > 1e12:
        raise UserError("rates: the settings together cannot tell the parameters apart; accepted are more settings")
    weight = weight / unit[:, None] / unit

    def worth(shares):
        inverse = np.linalg.inv(np.einsum("s,sij->ij", shares, scaled))
        kernel = inverse if criterion == "D" else inverse @ weight @ inverse
        return np.einsum("ij,sji->s", kernel, scaled)

    shares, excess = allocated(worth, count, criterion, CLOSE, STEPS)
    errors, covariance = _errors(each, shares, total)
    return Plan(shares, errors, _errors(each, np.full(count, 1 / count), total)[0], covariance, excess)


def _errors(each, shares, total):
    covariance = np.linalg.inv(total * np.einsum("s,sij->ij", shares, each))
    return np.sqrt(np.diag(covariance)), covariance


def simulated(rates: Callable, theta, times, repeats: int, *, key) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations [D] of maximum-likelihood fits to ``repeats`` simulated experiments, and their errors.

    Exposure ``times`` [S], s. Poisson counts; Fisher scoring from the truth, 20 steps.
    """
    theta, times = jnp.asarray(theta, float), jnp.asarray(times, float)
    kept = np.flatnonzero(np.asarray(times) > 0)

    def expected(t):
        r = rates(t)
        return (r.reshape(len(r), -1) * times[:, None])[kept].ravel()

    rng = numpy_generator(stream(key, "planned"), "counts")
    counts = jnp.asarray(rng.poisson(np.asarray(expected(theta)), (repeats, *expected(theta).shape)), float)

    @jax.jit
    def fit(n):
        def step(t, _):
            mean, slopes = expected(t), jax.jacfwd(expected)(t)
            fisher = jnp.einsum("ki,kj,k->ij", slopes, slopes, 1 / mean)
            return t + jnp.linalg.solve(fisher, slopes.T @ (n / mean - 1)), None

        return jax.lax.scan(step, theta, None, 20)[0]

    found = np.asarray(jax.vmap(fit)(counts))
    if not np.isfinite(found).all():
        raise UserError("total: fits to simulated counts do not converge; accepted is a longer exposure")
    spread = found.std(axis=0, ddof=1)
    return spread, spread / np.sqrt(2 * (repeats - 1))
