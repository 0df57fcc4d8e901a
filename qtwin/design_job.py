"""One job of `qtwin design`: from a composed configuration to an optimum and a folder with results."""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from math import isfinite
from pathlib import Path
from threading import Lock
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from scipy.stats import qmc

from qtwin.benchmark.settings import Settings, whole
from qtwin.core.config import dotted, plain
from qtwin.core.errors import FieldError, UserError
from qtwin.core.random import stream
from qtwin.core.units import parse, show
from qtwin.design.family import Family, family
from qtwin.design.figures import FEASIBLE, Constraint, Figure, View, constraint, figure
from qtwin.design.free import Parameter, parameter
from qtwin.design.optimise import ABREAST, METHODS, climbs, conflict, figures, many, optimise, serving, side_by_side
from qtwin.design.optimum import Compromise, Optimum, drawn, estimates, fresh, robust, tolerances
from qtwin.design.problem import Duel, Problem, deviations, look
from qtwin.io.results import config_hash, files, versions, write_arrays, write_result, write_whole
from qtwin.io.tracking import open_tracker
from qtwin.job import ELEMENTS, flat
from qtwin.map_job import Points, duel, number
from qtwin.optics.far_field import STEEPEST
from qtwin.report import design as report
from qtwin.tissue import Walk

log = logging.getLogger(__name__)
ROBUST = ("expected", "worst")
SCANNED = 16  # points looked at for each start after the first
STEEP = "of the optics: beyond, light no longer meets the sample at normal incidence"
SEEKING = 200  # steps at most, to find a set-up that satisfies all constraints
KEYS = (
    *("objective", "free", "bounds", "constraints", "method", "steps", "starts"),
    *("tolerances", "robust", "scenarios", "second", "front"),
)


def section(config: Mapping) -> dict[str, Any]:
    """The keys under ``design``, checked. UserError names the key."""
    node = config.get("design")
    if not isinstance(node, dict):
        raise UserError(f"design: got {node!r}, expected the keys {', '.join(KEYS)}")
    for key in node:
        if key not in KEYS:
            raise UserError(f"design.{key}: unknown key, accepted are {', '.join(KEYS)}")
    free = node["free"]
    if not (isinstance(free, list) and free and len(set(map(str, free))) == len(free)):
        raise UserError(f"design.free: got {free!r}, accepted is a list of different parameters ([source.waist])")
    for key, choices in (("method", METHODS), ("robust", ROBUST)):
        if node[key] not in choices:
            raise UserError(f"design.{key}: got {node[key]!r}, accepted is one of {', '.join(choices)}")
    for key in ("bounds", "tolerances"):
        if not isinstance(node[key], dict | None):
            raise UserError(f"design.{key}: got {node[key]!r}, accepted is a mapping of parameters")
        node[key] = dotted(node[key] or {})
    if not isinstance(node["constraints"], list):
        raise UserError(f"design.constraints: got {node['constraints']!r}, accepted is a list such as ['time <= 10 s']")
    for key in node["bounds"]:
        if key not in free:
            raise UserError(f"design.bounds: {key} is not free, accepted are {', '.join(free)}")
    if node["robust"] == "worst" and not node["tolerances"]:
        raise UserError("design.robust: got 'worst', but there are no design.tolerances that it could be the worst of")
    whole("design.steps", node["steps"], 1, 1e5)
    whole("design.starts", node["starts"], 1, 256)
    whole("design.scenarios", node["scenarios"], 2, 4096)
    whole("design.front", node["front"], 2, 256)
    return node


def _bounds(asked, field: Mapping, start: float):
    support = field["support"]
    if asked is not None or isfinite(support.high) or not isfinite(support.low) or support.low != 0 or start <= 0:
        return asked
    return [start / 10, 10 * start]


def _family(points: Points, keys: list[str], bounds: Mapping, where: str) -> tuple[Family, Points]:
    """Parameters at ``keys`` of a configuration, and what follows each of them."""
    found = []
    for key in keys:
        found.append(number(where, key, points))
    points = Points(points.changed({key: start for key, (_, start) in zip(keys, found, strict=True)}))
    parameters: list[Parameter] = []
    made, values = [], []
    for key, (field, start) in zip(keys, found, strict=True):
        try:
            p = parameter(key, field, start, _bounds(bounds.get(key), field, start))
        except UserError as error:
            raise UserError(f"{'design.bounds' if key in bounds else where}: {error}") from error
        z = float(p.free(jnp.asarray(start)))
        near = [float(p.constrain(jnp.asarray(z + step))) for step in (-0.01, 0.02)]
        try:
            made.append((points.at(key, near[0]), points.at(key, near[1])))
        except UserError as error:
            raise UserError(f"{where}: {key} at {p.shown(near[0])}: {error}") from error
        parameters.append(p)
        values.append((start, *near))
    try:
        return family(points.start, parameters, made, values), points
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def problem_of(cfg: DictConfig | dict, settings: Settings) -> tuple[Problem, Figure | None, Points]:
    """The problem of a configuration, its second figure, and its working points: before any walk, of no dose yet.

    UserError names the key.
    """
    points = Points(cfg)
    config = points.config
    asked = section(config)
    arm, opponent = duel(points.start.protocols, config["arm"], config["opponent"])
    own, points = _family(points, asked["free"], asked["bounds"], "design.free")
    shaken, spreads = None, []
    if asked["tolerances"]:
        shaken, _ = _family(points, list(asked["tolerances"]), _wide(asked["tolerances"], points), "design.tolerances")
        spreads = [
            _spread(key, text, p)
            for (key, text), p in zip(asked["tolerances"].items(), shaken.free.parameters, strict=True)
        ]
    objective = figure("design.objective", asked["objective"], own.start)
    second = None if asked["second"] is None else figure("design.second", asked["second"], own.start)
    if second is not None and (second.name, second.sign) == (objective.name, objective.sign):
        raise UserError(f"design.second: got {asked['second']!r}, the objective itself; accepted is another figure")
    limits = [constraint("design.constraints", text, own.start) for text in asked["constraints"]]
    if {"source.waist", "optics.focal_length"} & set(asked["free"]):
        steepest = jnp.asarray(STEEPEST * (1 - 3 * FEASIBLE))
        limits.append(Constraint(figure("", "angle", own.start), steepest, 1, STEEP))
    scatter = jnp.asarray(deviations(spreads, asked["scenarios"], settings.seed)) if spreads else None
    against, worst = Duel(arm, opponent, settings.match, None), asked["robust"] == "worst"
    problem = Problem(own, against, objective, tuple(limits), shaken, scatter, worst, tuple(spreads))
    return problem, second, points


def at_dose(problem: Problem, walk) -> tuple[Problem, View]:
    """The problem at the dose that the start has, and the view of the start. UserError where it is no number."""
    view = look(problem.family.start, walk, problem.duel)
    if all(p.key != "budget.photons" for p in problem.family.free.parameters):
        dose = float(view.entry(view.ours().ledger))
        problem = replace(problem, duel=problem.duel._replace(dose=dose))
        view = view._replace(dose=dose)
    if not isfinite(float(problem.objective.value(view))):
        place = problem.began(problem.family.origin, walk)
        told = f"{problem.objective.name} is no number at the start, accepted is a finite one"
        raise UserError(f"design.objective: {told}; it began in {place}")
    return problem, view


def _wide(asked: Mapping, points: Points) -> dict[str, Any]:
    """Bounds that hold the start of a parameter wherever it lies: it is shaken, not optimised."""
    out = {}
    for key in asked:
        field, start = number("design.tolerances", key, points)
        reach = max(abs(start), 1e-9) * 0.1
        out[key] = [max(start - reach, field["support"].low), min(start + reach, field["support"].high)]
    return out


def _spread(key: str, text: Any, p: Parameter) -> float:
    try:
        spread = parse(text, p.unit)
    except UserError as error:
        raise FieldError(f"design.tolerances.{key}", str(error)) from error
    if not 0 < spread < float("inf"):
        raise UserError(f"design.tolerances.{key}: got {show(spread, p.unit)}, accepted is a spread greater than 0")
    return spread


def starts(problem: Problem, count: int, walk, seed: int, anew: Callable | None = None) -> jax.Array:
    """The configuration's own start, then the best of a Sobol scan of the bounds, [count, D] on the real line."""
    free = problem.family.free
    own = free.free(problem.family.origin)[None]
    if count == 1:
        return own
    unit = qmc.Sobol(len(free.parameters), seed=seed).random(1 << int(np.ceil(np.log2(SCANNED * (count - 1)))))
    z = np.log(unit / (1 - unit))  # uniform within bounds
    open_ended = [not (isfinite(p.low) and isfinite(p.high)) for p in free.parameters]
    z = np.where(open_ended, np.asarray(own) + z, z)
    score, slacks = many(problem, jax.vmap(free.constrain)(jnp.asarray(z)), walk, anew)
    order = np.argsort(-np.where(np.isfinite(score), score, -np.inf) + 10 * np.maximum(0, -slacks).sum(axis=1))
    return jnp.concatenate([own, jnp.asarray(z[order[: count - 1]])])


def reachable(problem: Problem, begin, walk, anew: Callable | None = None) -> None:
    """UserError where no constraints hold at any of the starts ``begin`` [S, D], nor where their misses are least."""
    slacks = many(problem, jax.vmap(problem.family.free.constrain)(begin), walk, anew)[1]
    if np.any(np.all(slacks >= -FEASIBLE, axis=1)):
        return
    broken = side_by_side(lambda z: conflict(problem, z, walk, SEEKING), begin)
    if all(broken):
        least = min(broken, key=lambda missed: sum(slack**2 for _, slack in missed))
        names = " and ".join(repr(c.text) for c, _ in least)
        nearest = ", ".join(f"{c.figure.name} {c.figure.shown(c.value(slack))}" for c, slack in least)
        raise UserError(
            f"design.constraints: no set-up within the bounds satisfies {names}; least relative misses: {nearest}"
        )


def found(problem: Problem, settings: Settings, asked: Mapping, walk, anew: Callable, progress: Callable) -> Optimum:
    """The best of all starts, and what is known of it. UserError where no point satisfies the constraints."""
    begin = starts(problem, asked["starts"], walk, settings.seed, anew)
    reachable(problem, begin, walk, anew)
    progress(f"climbing from {len(begin)} starts, abreast" if len(begin) > 1 else "climbing")
    one_at_a_time = Lock()

    def heard(start, step, score):
        with one_at_a_time:
            progress(f"start {start + 1}, step {step}", score=score)

    ways = climbs(problem, begin, walk, anew, asked["method"], asked["steps"], heard)
    fit = [np.all(p.slacks >= -FEASIBLE) for p in ways]
    if not any(fit):
        told = " and ".join(repr(c.text) for c in problem.constraints)
        raise UserError(f"design.steps: {asked['steps']} steps did not reach a set-up that satisfies {told}; give more")
    progress("checking the optimum on fresh walks and drawn exposures")
    # which start is the best, walks tell that no optimiser has seen
    afresh = np.array([float(figures(problem, p.x[-1], anew(p.x[-1], "fresh"))[0]) for p in ways])
    best = int(np.argmax(np.where(fit & np.isfinite(afresh), afresh, -np.inf)))
    x, start = ways[best].x[-1], np.asarray(problem.family.origin)
    new = fresh(problem, x, start, anew)
    key = stream(jax.random.key(settings.seed), "design")
    seen = drawn(problem, x, start, settings.exposures, new.information.error, anew, key=key)
    over = robust(problem, x, start, anew)
    progress("profiles and tolerances")
    around, hessian = tolerances(
        problem, problem.family.free.free(jnp.asarray(x)), anew(x, "fresh"), min(len(begin), ABREAST)
    )
    return Optimum(problem, start, x, ways, afresh, best, new, over, seen, around, hessian)


def front(problem: Problem, second: Figure, best: Optimum, walk, anew, asked: Mapping, progress) -> list[Compromise]:
    """Set-ups that no other was found to beat in both: the first figure where the second is at least so much.

    Both figures as walks tell that no optimiser has seen.
    """
    free, count, of = problem.family.free, asked["front"], problem.objective

    def value(figure: Figure, x) -> float:
        there = serving(problem, x, walk, anew)
        return float(figure.value(problem.look(problem.family.at(jnp.asarray(x)), there)))

    other = Problem(problem.family, problem.duel, second, problem.constraints)
    progress("the best of the second figure")
    z = free.free(jnp.asarray(best.x))
    end = optimise(other, z, walk, anew, asked["method"], asked["steps"], lambda *_: None)
    ends = [value(second, x) for x in (best.x, end.x[-1])]
    # the best of the second among set-ups that are as good, where the first is flat
    first = value(of, best.x)
    as_good = Constraint(of, jnp.asarray(first - of.sign * 2 * FEASIBLE * abs(first)), -of.sign)
    tied = Problem(problem.family, problem.duel, second, (*problem.constraints, as_good))
    points = [optimise(tied, z, walk, anew, asked["method"], asked["steps"], lambda *_: None).x[-1]]
    for i in range(1, count - 1):
        level = ends[0] + (ends[1] - ends[0]) * i / (count - 1)
        progress(f"point {i + 1} of the front")
        limit = Constraint(second, jnp.asarray(level), -second.sign)
        held = Problem(problem.family, problem.duel, problem.objective, (*problem.constraints, limit))
        points.append(optimise(held, z, walk, anew, asked["method"], asked["steps"], lambda *_: None).x[-1])
        z = free.free(jnp.asarray(points[-1]))
    points.append(end.x[-1])
    progress("the front on fresh walks")
    both = of, second
    return [Compromise(x, *estimates(problem, x, both, anew(x, "fresh"))) for x in (best.start, *points)]


def optimised(problem: Problem, points: Points, x, photons: float) -> str:
    """YAML of an experiment that runs as it is: the configuration's own choices and numbers, with the optimum's.

    ``photons`` per superpixel are those that give the optimum the dose of the start.
    """
    values = {p.key: float(v) for p, v in zip(problem.family.free.parameters, x, strict=True)}
    config = plain(points.changed(values))
    kept = {
        name: config[name] for name in (*ELEMENTS, "estimator", "wavelength", "budget", "walk", "seed", "memory_limit")
    }
    kept["budget"] = {**kept["budget"], "photons": photons}
    chosen: Mapping = plain(HydraConfig.get().runtime.choices) if HydraConfig.initialized() else {}
    groups = {f"override /{g}": c for g, c in chosen.items() if g.split("@")[-1] in (*ELEMENTS, "estimator")}
    head = "# @package _global_\n# qtwin benchmark --config-dir FOLDER_OF_THE_DESIGN experiment=optimum\n"
    return head + OmegaConf.to_yaml(OmegaConf.create({"defaults": [{g: c} for g, c in groups.items()], **kept}))


def run(cfg: DictConfig, folder: Path) -> float:
    """Optimise, check, write the results into ``folder``, and return the objective at the optimum, the more the better.

    Raises UserError for anything wrong in ``cfg``, before any work is done.
    """
    begin = time.perf_counter()
    config = plain(cfg)
    identity = {"files": files(config), "config_hash": config_hash(config)}
    settings = Settings.from_config({"regularise": False, **config})

    problem, second, points = problem_of(cfg, settings)
    asked = config["design"]
    kept: dict[tuple, Walk] = {}

    def walked(working, name: str = "walk"):
        """The two fresh walks, of optimum and start, are asked for again and again."""
        told = [np.asarray(a).tobytes() for a in jax.tree.leaves(eqx.filter(working.twin.tissue, eqx.is_array))]
        place = (name, *told)
        if place in kept:
            return kept[place]
        walk = working.twin.walk(
            key=stream(jax.random.key(settings.seed), name),
            photons=settings.walk_photons,
            memory_limit=settings.memory_limit,
        )
        if name == "fresh":
            while len(kept) > 1:
                del kept[next(iter(kept))]
            kept[place] = walk
        return walk

    def anew(x, name: str = "walk"):
        return walked(problem.family.at(jnp.asarray(x)), name)

    with closing(open_tracker(config["logger"], folder, config)) as tracker:

        def progress(stage: str, **numbers: float) -> None:
            log.info(stage)
            tracker.note(stage=stage, **numbers)

        progress("walking photons through the tissue", photons=settings.walk_photons)
        walk = walked(problem.family.start)
        problem, _ = at_dose(problem, walk)
        best = found(problem, settings, asked, walk, anew, progress)
        both = front(problem, second, best, walk, anew, asked, progress) if second is not None else []
        (folder / "experiment").mkdir(parents=True, exist_ok=True)
        at = problem.look(problem.family.at(jnp.asarray(best.x)), anew(best.x, "fresh"))
        text = optimised(problem, points, best.x, float(at.at_dose()[0]))
        write_whole(folder / "experiment" / "optimum.yaml", text.encode())
        write_arrays(folder, report.arrays(best))
        figures = report.figures(best, both, second)
        swept = problem.objective.sign * float(figures["objective"]["optimum"]["value"])  # to be compared with others'
        result = {"figures": figures, "swept": swept, "seed": settings.seed, "versions": versions()}
        result |= {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "wall_seconds": round(time.perf_counter() - begin, 3)}
        write_result(folder, result | identity | {"config": config})
        images = report.write(folder, best, both, second, config)
        tracker.figures({name: leaf["value"] for name, leaf in flat(figures) if leaf["value"] is not None})
        tracker.images(images)
    print(report.text(best, both, second))
    print(f"results: {folder}")
    return swept
