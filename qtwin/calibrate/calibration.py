"""`calibrate`: a model, what of it is free, measured numbers -> parameters, how sure they are, whether it all fits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qtwin.calibrate.fit import Fit, Problem, fitted, measured, observed, scored
from qtwin.calibrate.goodness import Goodness, Held, Stretch, goodness, held_back, worst_stretch
from qtwin.calibrate.identify import (
    Direction,
    Interval,
    at_edge,
    covariance,
    directions,
    fisher,
    profile,
    slopes,
)
from qtwin.calibrate.model import AbstractModel, Data, field, numbers
from qtwin.calibrate.plan import Planned, planned, shareable
from qtwin.calibrate.posterior import Posterior, library, posterior
from qtwin.calibrate.prior import check_keys, prior
from qtwin.core.errors import UserError
from qtwin.core.random import numpy_generator, stream
from qtwin.design.free import Free, leaf, parameter

ROUNDS = 6  # walks made anew at most
REPEATS = 200  # data sets drawn of a plan
SAME = 0.01  # of the objective: starts that agree


@dataclass(frozen=True)
class Settings:
    """What a calibration is told beside model and data."""

    starts: int = 8
    level: float = 0.95  # of intervals
    profiles: bool = True
    draws: int = 1000  # of every chain; 0: no posterior draws
    warmup: int = 500
    chains: int = 4
    bootstraps: int = 200  # data sets drawn where counts are few
    held_back: tuple[int, ...] = ()  # rows of the file that are predicted, not fitted
    plan: str | None = None  # criterion by which the next exposure is shared out


@dataclass(frozen=True)
class Calibration:
    """What was found; parameters in the order of ``problem.free``."""

    problem: Problem
    data: Data
    settings: Settings
    fit: Fit
    fits: tuple[Fit, ...]
    x: np.ndarray  # most probable values, SI
    edge: np.ndarray  # bool: at an end of its range
    expected_error: Interval
    observed_error: np.ndarray  # standard errors from the observed information; nan where it is not positive
    profile: Interval | None
    posterior: Posterior | None
    draws: np.ndarray | None  # of x, [draws, D]
    directions: tuple[Direction, ...]
    goodness: Goodness
    stretch: Stretch | None
    held: Held | None
    planned: Planned | None
    walk_error: np.ndarray  # part of the standard errors that a Monte Carlo part of the model brings
    derived: Mapping[str, tuple[float, float, str]]  # value, standard error, unit
    derived_draws: Mapping[str, np.ndarray]  # of the posterior, [draws]; none without one
    unplanned: str  # why there is no plan although one was asked for
    walks: int  # made anew
    agreeing: int  # starts that ended at the same objective, converged


def _of_entries(nodes: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """What is said of a list is said of each of its entries among ``keys``, unless that is named itself."""
    out: dict[str, Any] = {}
    for name, node in nodes.items():
        out |= dict.fromkeys([key for key in keys if key.rpartition(".")[0] == name] or [name], node)
    return out | {name: node for name, node in nodes.items() if name in keys}


def _told(where: str, name: str, find: Callable, model: AbstractModel):
    """``find(model, name)``; UserError says in which setting the name stands."""
    try:
        return find(model, name)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def pose(
    model: AbstractModel,
    data: Data,
    free: Sequence[str],
    priors: Mapping[str, Any],
    bounds: Mapping[str, Any] | None = None,
    held: Sequence[int] = (),
) -> Problem:
    """The checked problem. UserError for keys that are not traced, priors or bounds that do not fit, absent rows."""
    model = model.started(data)
    if not free:
        raise UserError("free: names no parameter, accepted is a list such as [pair_rate,window]")
    keys = [key for name in free for key in _told("free", name, numbers, model)]
    twice = [key for key in keys if keys.count(key) > 1]
    if twice:
        raise UserError(f"free: names {twice[0]} twice")
    known = _of_entries(priors, keys)
    for name in known:
        _told("prior", name, field, model)  # of what is not free, it is not used
    limits = _of_entries(bounds or {}, keys)
    check_keys(limits, keys, "bounds")
    laws = tuple(prior(key, known.get(key), field(model, key)) for key in keys)
    made = []
    for key, law in zip(keys, laws, strict=True):
        if law.bounds() and key in limits:
            raise UserError(f"bounds.{key}: its prior is uniform between bounds of its own, accepted is one of the two")
        start, ends = float(np.asarray(leaf(model, key)).item()), law.bounds() or limits.get(key)
        try:
            made.append(parameter(key, field(model, key), start, ends))
        except UserError as error:
            where = "prior." if law.bounds() else "bounds." if key in limits else ""
            raise UserError(f"{where}{error}") from error
    rows = set(data.rows.tolist())
    wrong = [row for row in held if row not in rows]
    if wrong:
        raise UserError(f"held_back: got row {wrong[0]}, accepted are rows of the file, 0 to {max(rows)}")
    used = ~np.isin(data.rows, list(held))
    if not used.any():
        raise UserError("held_back: names every row, accepted is a part of them")
    trials = np.ones(len(data.values)) if data.trials is None else data.trials
    given = {name: jnp.asarray(a) for name, a in data.given.items()}
    arrays = (jnp.asarray(data.values, float), jnp.asarray(used), jnp.asarray(trials, float))
    problem = Problem(model.renewed(given), given, *arrays, Free(tuple(made)), laws)
    expected = problem.expect(problem.free.free(jnp.asarray(problem.free.values(model))))
    if expected.mean.shape != problem.values.shape:
        raise UserError(f"data: holds {data.values.shape} numbers, the model expects {expected.mean.shape}")
    bad = ~np.isfinite(expected.mean) | ~np.isfinite(expected.variance)
    bad |= (expected.mean < 0) & problem.law.whole
    if bad.any():
        raise UserError(f"model: expects {expected.mean[bad][0]} of number {int(np.argmax(bad))} at the start values")
    return problem


def _starts(problem: Problem, z, count: int, key) -> list[jax.Array]:
    """The present values, and others as far away as priors let them be."""
    here = measured(problem, z)
    told, known = np.diagonal(here.told), np.asarray(here.known)
    loose = np.where([np.isfinite(p.low) for p in problem.free.parameters], 0.5, 10 / np.sqrt(np.maximum(told, 1e-9)))
    width = jnp.asarray(np.where(known > 0, np.minimum(0.5, 1 / np.sqrt(np.maximum(known, 1e-9))), loose))
    others = jax.random.normal(stream(key, "starts"), (max(count - 1, 0), len(z)), z.dtype)
    return [z, *(z + width * row for row in others)]


def _walked(problem: Problem, z) -> Problem:
    """With a walk that tells of ``z``, where the model has one."""
    here = problem.at(z)
    anew = here.renewed(problem.given)
    return problem if anew is here else eqx.tree_at(lambda p: p.model, problem, anew)


def _walk_spread(problem: Problem, z, cov) -> np.ndarray:
    """Covariance of z that the blocks of a model's Monte Carlo part leave: dz = C J^T V^-1 dm."""
    blocks = problem.at(z).blocks(problem.given)
    if blocks is None:
        return np.zeros_like(cov)
    slope = np.asarray(jax.jacfwd(lambda z: problem.expect(z).mean)(z))
    weight = np.where(problem.used, 1.0, 0.0) / np.asarray(problem.expect(z).variance)
    way = cov @ (slope.T * weight)
    seen = np.asarray(blocks)
    moved = (seen - seen.mean(axis=0)) @ way.T
    return moved.T @ moved / (len(moved) * (len(moved) - 1))


def _widened(interval: Interval, extra: np.ndarray, free: Free) -> Interval:
    """Intervals with an independent standard error more, within what the parameters may be."""
    grow = np.sqrt(1 + (extra / np.maximum(interval.stderr, 1e-300)) ** 2)
    middle = (interval.low + interval.high) / 2
    least, most = (np.array([getattr(p, end) for p in free.parameters]) for end in ("low", "high"))
    low, high = (np.clip(middle + (end - middle) * grow, least, most) for end in (interval.low, interval.high))
    return Interval(np.hypot(interval.stderr, extra), low, high)


def calibrate(
    problem: Problem, data: Data, settings: Settings, *, key, progress: Callable[..., None] = lambda *a, **k: None
) -> Calibration:
    """Fit, intervals, posterior draws, identifiability, goodness. UserError where no start converges."""
    if settings.draws:
        library()  # told before any work is done
    z = problem.free.free(jnp.asarray(problem.free.values(problem.model)))
    progress("fitting", starts=settings.starts)
    fits = [fitted(_walked(problem, start), start) for start in _starts(problem, z, settings.starts, key)]
    best, walks = _best(fits), 0
    for _ in range(ROUNDS):
        anew = _walked(problem, best.z)
        if anew is problem:
            break
        progress("walking anew at the fitted parameters")
        problem, walks = anew, walks + 1
        best = scored(problem, best.z)
    if problem.model.blocks(problem.given) is not None:  # all on one walk, so that they can be compared
        best, *fits = (scored(problem, f.z) for f in (best, *fits))
    agreeing = sum(bool(f.converged) and float(f.value) < float(best.value) + SAME for f in fits)
    if not bool(best.converged):
        if problem.law.whole and not np.any(np.asarray(problem.values)[np.asarray(problem.used)]):
            raise UserError(
                "data: every count is 0, and no fit converged; accepted are counts, or fewer free parameters"
            )
        raise UserError(f"free: no fit converged from {len(fits)} starts; fix parameters or give priors (prior.KEY)")
    local = measured(problem, best.z)
    cov, edge = covariance(local.told + jnp.diag(local.known)), at_edge(problem, best.z)
    walk = _walk_spread(problem, best.z, cov)
    steep = np.abs(slopes(problem, best.z))
    walk_error = steep * np.sqrt(np.diagonal(walk))
    progress("intervals")
    curved = np.asarray(observed(problem, best.z))
    with np.errstate(all="ignore"):
        free = ~edge
        own = np.full(len(edge), np.nan)
        own[free] = np.sqrt(np.diagonal(np.linalg.pinv(curved[np.ix_(free, free)])))
    profiled = profile(problem, best, cov, settings.level) if settings.profiles else None
    if profiled is not None and walk_error.any():
        profiled = _widened(profiled, walk_error, problem.free)
    drawn, draws = None, None
    if settings.draws:
        progress("drawing from the posterior", chains=settings.chains, draws=settings.draws)
        counts = {"chains": settings.chains, "warmup": settings.warmup, "draws": settings.draws}
        drawn = posterior(problem, best.z, key=stream(key, "posterior"), **counts)
        rng = numpy_generator(key, "error of the walk")
        moved = rng.multivariate_normal(np.zeros(len(walk)), walk, drawn.z.shape[:2], method="eigh")
        drawn = drawn._replace(z=drawn.z + moved)
        draws = np.asarray(jax.vmap(problem.free.constrain)(jnp.asarray(drawn.flat())))
    progress("goodness of fit")
    effective = float(np.trace(cov @ np.asarray(local.told)))
    good = goodness(problem, best.z, effective, key=stream(key, "goodness"), bootstraps=settings.bootstraps)
    plan, unplanned = None, ""
    if settings.plan is not None:
        shareable(problem, settings.plan)
        progress("planning")
        try:
            plan = planned(problem, best.z, edge, settings.plan, key=stream(key, "plan"), repeats=REPEATS)
        except UserError as error:  # the calibration itself is done
            unplanned = str(error)
    lots = None if drawn is None else drawn.flat()
    held = held_back(problem, best.z, cov + walk, lots, key=stream(key, "held back"))
    return Calibration(
        problem,
        data,
        settings,
        best,
        tuple(fits),
        np.asarray(problem.free.constrain(best.z)),
        edge,
        fisher(problem, best.z, cov + walk, settings.level),
        np.hypot(steep * own, walk_error),
        profiled,
        drawn,
        draws,
        tuple(directions(problem, best.z)),
        good,
        worst_stretch(problem, best.z, data.parts),
        held,
        plan,
        walk_error,
        _derived(problem, best.z, cov + walk),
        {} if lots is None else _derived_draws(problem, lots),
        unplanned,
        walks,
        agreeing,
    )


def _derived_draws(problem: Problem, draws) -> dict[str, np.ndarray]:
    """What follows from the parameters at every draw of z [draws, D]."""

    def one(z):
        return {k: v for k, (v, _) in problem.at(z).derived(problem.given).items()}

    return {k: np.asarray(a) for k, a in eqx.filter_jit(jax.lax.map)(one, jnp.asarray(draws)).items()}


def _best(fits: Sequence[Fit]) -> Fit:
    finite = [f for f in fits if np.isfinite(float(f.value))]
    if not finite:
        raise UserError(
            "model: its likelihood is not finite at any start; accepted are start values that explain the data"
        )
    return min(finite, key=lambda f: (not bool(f.converged), float(f.value)))


def _derived(problem: Problem, z, cov) -> dict[str, tuple[float, float, str]]:
    """What follows from the parameters, with errors by the delta method."""
    named = problem.at(z).derived(problem.given)
    if not named:
        return {}
    slope = jax.jacfwd(lambda z: {k: v for k, (v, _) in problem.at(z).derived(problem.given).items()})(z)
    return {
        k: (float(v), float(np.sqrt(np.asarray(slope[k]) @ cov @ np.asarray(slope[k]))), u)
        for k, (v, u) in named.items()
    }
