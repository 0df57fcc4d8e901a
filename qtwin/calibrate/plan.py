"""Where to spend the next exposure: shares of the rows (settings, samples, wavelengths) that tell the parameters best.

    D-optimal: ln det M(w) largest      A-optimal: tr(C M(w)^-1) least, C = diag((dx/dz)^2/x^2)      sum_s w_s = 1

M(w): information of the data and the priors with the whole exposure as it was, row s taking the share w_s. By the
multiplicative steps of `qtwin.design.planning`, from the gain g_s of every row: at the optimum no row that is used
gains more than another, and none that is left out gains more.
Where counts scatter beyond Poisson's law, a longer exposure gains less: g_s is the derivative of what is gained.
"""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qtwin.calibrate.fit import Problem, local, scoring
from qtwin.calibrate.identify import slopes
from qtwin.core.errors import UserError
from qtwin.design.planning import CRITERIA, allocated

STEPS = 5000
LEAST = 1e-9  # share of a row that is left out: its counts are then 0, not absent
ENOUGH = 1e-4  # of the excess: shares that give the criterion to this part of a parameter


class Planned(NamedTuple):
    """Shares of the exposure by row, and the errors of the parameters that they give."""

    criterion: str
    before: np.ndarray  # [S] shares as measured
    shares: np.ndarray  # [S]
    now: np.ndarray  # [D] standard errors of the exposure as measured, SI
    predicted: np.ndarray  # [D] of the planned one
    simulated: np.ndarray  # [D] spread of fits to drawn data of the planned one
    simulated_stderr: np.ndarray
    excess: float  # how much more the best row gains than the average, relative


def planned(problem: Problem, z, edge: np.ndarray, criterion: str, *, key, repeats: int) -> Planned:
    """Shares about the fit ``z`` [D]; parameters at the ``edge`` [D] of their range stay there, their errors are nan.

    UserError for models whose exposure cannot be shared out, for criteria that are not there, and where the steps do
    not end.
    """
    if criterion not in CRITERIA:
        raise UserError(f"plan: got {criterion!r}, accepted is null or one of {', '.join(CRITERIA)}")
    had = problem.model.exposures(problem.given)
    if had is None:
        name = type(problem.model).__name__
        raise UserError(f"plan: got {criterion!r}, but exposure cannot be shared between the rows of {name}")
    if not np.all(problem.used):
        raise UserError("plan: accepted is one without rows held back (held_back=null)")
    before = np.asarray(had / jnp.sum(had))
    kept = np.flatnonzero(~edge).tolist()
    steep = np.abs(slopes(problem, z))[kept]
    scale = steep / np.abs(np.asarray(problem.free.constrain(jnp.asarray(z))))[kept]

    def worth(shares):
        slope = _slope(problem, z, jnp.asarray(before), jnp.asarray(shares), tuple(kept), scale, criterion)
        if not np.all(np.isfinite(slope)):
            raise UserError("plan: the rows together cannot tell the free parameters apart; fix some or give priors")
        return np.maximum(-np.asarray(slope), 0.0)

    shares, excess = allocated(worth, len(before), criterion, ENOUGH, STEPS)
    if excess >= ENOUGH:
        raise UserError(
            f"plan: shares have not settled after {STEPS} steps (excess {excess:.2g}); free fewer parameters"
        )
    shares = np.maximum(shares, LEAST)
    shares /= shares.sum()
    then = _shared(problem, jnp.asarray(before), jnp.asarray(shares))
    drawn = _fits(then, z, jnp.asarray(edge), jax.random.split(key, repeats))
    spread = np.asarray(drawn).std(axis=0, ddof=1)

    def errors(w):
        out = np.full(len(edge), np.nan)
        covariance = _covariance(problem, z, jnp.asarray(before), jnp.asarray(w), tuple(kept))
        out[kept] = steep * np.sqrt(np.diagonal(np.asarray(covariance)))
        return out

    spread = np.where(edge, np.nan, spread)
    doubt = spread / np.sqrt(2 * (repeats - 1))
    return Planned(criterion, before, shares, errors(before), errors(shares), spread, doubt, excess)


def _shared(problem: Problem, before, shares) -> Problem:
    """The measurement with its whole exposure shared out anew."""
    return dataclasses.replace(problem, given=problem.model.longer(problem.given, shares / before))


@eqx.filter_jit
def _covariance(problem: Problem, z, before, shares, kept: tuple[int, ...]):
    """Of the parameters ``kept``, inverse of what data and priors tell."""
    here = local(_shared(problem, before, shares), z)
    return jnp.linalg.inv((here.told + jnp.diag(here.known))[np.ix_(kept, kept)])


@eqx.filter_jit
def _slope(problem: Problem, z, before, shares, kept: tuple[int, ...], scale, criterion: str):
    """Derivative of ln det C, or of the sum of relative variances, by every share, [S]."""

    def loss(shares):
        cov = _covariance(problem, z, before, shares, kept)
        return jnp.linalg.slogdet(cov)[1] if criterion == "D" else jnp.sum(jnp.diagonal(cov) * scale**2)

    return jax.grad(loss)(shares)


@eqx.filter_jit
def _fits(problem: Problem, z, edge, keys):
    """Fitted less true parameters of drawn data, [draws, D]; the truth is drawn about ``z`` as the priors have it."""
    known = local(problem, z).known
    width = jnp.where((known > 0) & ~edge, 1 / jnp.sqrt(jnp.where(known > 0, known, 1.0)), 0.0)

    def one(key):
        truth, data = jax.random.split(key)
        true = z + width * jax.random.normal(truth, z.shape, z.dtype)
        values = problem.at(true).sample(problem.given, key=data, trials=problem.trials)
        again = eqx.tree_at(lambda p: p.values, problem, values)
        return problem.free.constrain(scoring(again, true, edge, steps=30).z) - problem.free.constrain(true)

    return jax.lax.map(one, keys)
