"""Where to spend the next exposure: shares of the rows (settings, samples, wavelengths) that tell most beside the file.

    C(w) = (M + N(w))^-1,  C_0 = M^-1     D-optimal: ln det C(w) least     A-optimal: sum_i C_ii(w)/C_0,ii least

M: information of the file with the priors. N(w): of one more measurement with the whole exposure of the file, row s
taking the share w_s, sum_s w_s = 1; what scatters beyond Poisson's law scatters anew. A-optimal is the least mean of
the variances, each in units of what it is now: of no other scale, so a balance or an angle may be 0.
By the multiplicative steps of `qtwin.design.planning`, from the gain g_s of every row: at the optimum no row that is
used gains more than another, and none that is left out gains more. Where counts scatter beyond Poisson's law, a longer
exposure gains less: g_s is the derivative of what is gained.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qtwin.calibrate.fit import Problem, local, measured, scoring
from qtwin.calibrate.identify import slopes
from qtwin.calibrate.model import Expected
from qtwin.core.errors import UserError
from qtwin.design.planning import CRITERIA, ENOUGH, allocated

STEPS = 5000
LEAST = 1e-9  # share of a row that is left out: its counts are then 0, not absent
SINGULAR = 1e12  # condition of the scaled information beyond which nothing is told apart
GAIN = 1e-4  # of the log density that one more step of a fit may still gain: 0.014 standard errors
LOST = 0.05  # part of the fits to drawn data beyond which their spread is not told


class Planned(NamedTuple):
    """Shares of the next exposure by row, and the errors of the parameters that it gives together with the file."""

    criterion: str
    before: np.ndarray  # [S] shares of the file's exposure
    shares: np.ndarray  # [S]
    now: np.ndarray  # [D] standard errors of the file, SI
    repeated: np.ndarray  # [D] of the file and the same measurement once more
    predicted: np.ndarray  # [D] of the file and the planned one
    simulated: (
        np.ndarray
    )  # [D] |dx/dz| times the spread of z, fitted to the file and draws of the planned one, less true
    simulated_stderr: np.ndarray
    lost: int  # fits to drawn data that did not converge, left out of the spread
    gain: float  # part by which the mean error (geometric for D, quadratic for A) is smaller than of the file's shares
    excess: float  # how much more the best row gains than the average, relative


class Both(Problem):
    """The numbers of the file and, behind them, those of the next exposure."""

    following: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)  # what the latter are given

    def expect(self, z) -> Expected:
        model = self.at(z)
        return jax.tree.map(lambda *a: jnp.concatenate(a), model.expect(self.given), model.expect(self.following))

    def drawn(self, z, key) -> "Both":
        """The same file, and numbers of the next exposure drawn at ``z``."""
        half = self.values.shape[0] // 2
        values = self.at(z).sample(self.following, key=key, trials=self.trials[half:])
        return eqx.tree_at(lambda p: p.values, self, self.values.at[half:].set(values))


def shareable(problem: Problem, criterion: str):
    """Exposures of the rows. UserError where there is no plan to be made."""
    if criterion not in CRITERIA:
        raise UserError(f"plan: got {criterion!r}, accepted is null or one of {', '.join(CRITERIA)}")
    had = problem.model.exposures(problem.given)
    if had is None:
        name = type(problem.model).__name__
        raise UserError(f"plan: got {criterion!r}, but exposure cannot be shared between the rows of {name}")
    return had


def planned(problem: Problem, z, edge: np.ndarray, criterion: str, *, key, repeats: int) -> Planned:
    """Shares about the fit ``z`` [D]; parameters at the ``edge`` [D] of their range stay there, their errors are nan.

    UserError for models whose exposure cannot be shared out, for criteria that are not there, for parameters that the
    file does not tell apart or no row tells, and where steps do not end or fits to drawn data do not converge.
    """
    had = shareable(problem, criterion)
    if not np.all(problem.used):
        raise UserError("plan: accepted is one without rows held back (held_back=null)")
    if not np.all(np.asarray(had) > 0):
        raise UserError(f"plan: row {int(np.argmin(had))} has no exposure, and no factor makes it longer")
    if np.all(edge):
        raise UserError("plan: every free parameter is at an end of its range; free others or give priors")
    before = np.asarray(had / jnp.sum(had))
    kept = tuple(np.flatnonzero(~edge).tolist())
    here = measured(problem, z)
    told = (here.told + jnp.diag(here.known))[np.ix_(kept, kept)]
    if not _regular(np.asarray(told)):
        raise UserError("plan: the rows together cannot tell the free parameters apart; fix some or give priors")
    left = jnp.linalg.inv(told)  # by the file
    now = jnp.diagonal(left)

    def worth(shares):
        shares = jnp.maximum(jnp.asarray(shares), LEAST)
        slope = np.asarray(_slope(problem, z, jnp.asarray(before), shares, kept, told, now, criterion))
        if not np.all(np.isfinite(slope)):
            raise UserError("plan: what the model expects is not finite where a row has next to no exposure")
        if not np.any(slope < 0):
            raise UserError("plan: no row tells the free parameters more; free others")
        return np.maximum(-slope, 0.0)

    shares, excess = allocated(worth, len(before), criterion, ENOUGH, STEPS)
    shares = np.maximum(shares, LEAST)
    shares /= shares.sum()
    steep = np.abs(slopes(problem, z))[list(kept)]

    def errors(variances):
        out = np.full(len(edge), np.nan)
        out[list(kept)] = steep * np.sqrt(np.asarray(variances))
        return out

    def left_by(w):
        return _covariance(problem, z, jnp.asarray(before), jnp.asarray(w), kept, told)

    def mean_error(cov) -> float:
        if criterion == "D":
            return float(jnp.exp(jnp.linalg.slogdet(cov)[1] / (2 * len(kept))))
        return float(jnp.sqrt(jnp.sum(jnp.diagonal(cov) / now)))

    again, then = left_by(before), left_by(shares)

    root = jnp.zeros((len(edge), len(edge))).at[np.ix_(kept, kept)].set(jnp.linalg.cholesky(left))
    off, good = _fits(_both(problem, shares / before), z, root, jnp.asarray(edge), jax.random.split(key, repeats))
    off, good = np.asarray(off), np.asarray(good)
    lost = int(np.sum(~good))
    if lost > LOST * repeats:
        raise UserError(
            f"plan: {lost} of {repeats} fits to drawn data of the plan do not converge; fix parameters or give priors"
        )
    spread = np.full(len(edge), np.nan)
    spread[list(kept)] = steep * off[good].std(axis=0, ddof=1)[list(kept)]
    doubt = spread / np.sqrt(2 * (repeats - lost - 1))
    gain = 1 - mean_error(then) / mean_error(again)
    repeated, predicted = errors(jnp.diagonal(again)), errors(jnp.diagonal(then))
    return Planned(criterion, before, shares, errors(now), repeated, predicted, spread, doubt, lost, gain, excess)


def _regular(told: np.ndarray) -> bool:
    """Whether information [D, D] has an inverse, whatever the units."""
    size = np.sqrt(np.maximum(np.diagonal(told), 0.0))
    if not (np.isfinite(told).all() and np.all(size > 0)):
        return False
    return bool(np.linalg.cond(told / size[:, None] / size) < SINGULAR)


def _shared(problem: Problem, before, shares) -> Problem:
    """The measurement with its whole exposure shared out anew."""
    return dataclasses.replace(problem, given=problem.model.longer(problem.given, shares / before))


def _both(problem: Problem, factors) -> Both:
    """The file and a measurement with ``factors`` [S] times the exposure of its rows."""
    parts = {f.name: getattr(problem, f.name) for f in dataclasses.fields(problem)}
    parts |= {name: jnp.tile(parts[name], 2) for name in ("values", "used", "trials")}
    return Both(**parts, following=problem.model.longer(problem.given, jnp.asarray(factors)))


@eqx.filter_jit
def _covariance(problem: Problem, z, before, shares, kept: tuple[int, ...], told):
    """Of the parameters ``kept``, inverse of what was ``told`` of them and of what the next exposure tells."""
    return jnp.linalg.inv(told + local(_shared(problem, before, shares), z).told[np.ix_(kept, kept)])


@eqx.filter_jit
def _slope(problem: Problem, z, before, shares, kept: tuple[int, ...], told, now, criterion: str):
    """Derivative of ln det C, or of the sum of variances in units of ``now``, by every share, [S]."""

    def loss(shares):
        cov = _covariance(problem, z, before, shares, kept, told)
        return jnp.linalg.slogdet(cov)[1] if criterion == "D" else jnp.sum(jnp.diagonal(cov) / now)

    return jax.grad(loss)(shares)


@eqx.filter_jit
def _fits(both: Both, z, root, edge, keys):
    """Fitted less true z [draws, D] of the file and drawn next exposures, and which settled.

    Truths are drawn about ``z`` as the file leaves them, of covariance ``root`` root^T.
    """

    def one(key):
        truth, data = jax.random.split(key)
        true = z + root @ jax.random.normal(truth, z.shape, z.dtype)
        fit = scoring(both.drawn(true, data), true, edge)
        return fit.z - true, (fit.left < GAIN) & jnp.all(jnp.isfinite(fit.z))

    return jax.lax.map(one, keys)
