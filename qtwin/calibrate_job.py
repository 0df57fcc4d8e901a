"""One job of `qtwin calibrate`: from measured numbers and a model to a folder with results."""

import logging
import time
from contextlib import closing
from math import isfinite
from pathlib import Path
from typing import Any

import jax
from omegaconf import DictConfig

from qtwin.benchmark.settings import whole
from qtwin.calibrate.calibration import Settings, calibrate, pose
from qtwin.calibrate.model import AbstractModel, traced
from qtwin.calibrate.plan import shareable
from qtwin.core.config import build, dotted, plain
from qtwin.core.errors import FieldError, UserError
from qtwin.design.planning import CRITERIA
from qtwin.io.results import config_hash, files, versions, write_arrays, write_result
from qtwin.io.tracking import open_tracker
from qtwin.job import flat
from qtwin.report import calibrate as report

log = logging.getLogger(__name__)
LEAST = 100  # draws of a chain, from which it can be told whether chains agree


def settings(config: dict[str, Any]) -> Settings:
    """Checked settings; UserError names the key, what was given and what is accepted."""
    level, held = config["level"], config["held_back"]
    if isinstance(level, bool) or not isinstance(level, (int, float)) or not 0 < level < 1:
        raise UserError(f"level: got {level!r}, accepted is a number between 0 and 1, such as 0.95")
    if held is None:
        held = []
    if not isinstance(held, list) or not all(isinstance(row, int) and not isinstance(row, bool) for row in held):
        raise UserError(f"held_back: got {held!r}, accepted is a list of rows of the file, such as [0,5]")
    if not isinstance(config["profiles"], bool):
        raise UserError(f"profiles: got {config['profiles']!r}, accepted is true or false")
    if config["plan"] not in (None, *CRITERIA):
        raise UserError(f"plan: got {config['plan']!r}, accepted is null or one of {', '.join(CRITERIA)}")
    if config["plan"] is not None and held:
        raise UserError("plan: accepted is one without rows held back (held_back=null)")
    counts = {"starts": 1, "draws": 0, "warmup": 20, "chains": 2, "bootstraps": 0}
    checked = {name: whole(name, config[name], least, 1e7) for name, least in counts.items()}
    if 0 < checked["draws"] < LEAST:
        raise UserError(f"draws: got {checked['draws']}, accepted are 0 (none) or {LEAST} or more")
    return Settings(
        level=float(level), profiles=config["profiles"], held_back=tuple(held), plan=config["plan"], **checked
    )


def _named(key: str, node) -> dict[str, Any]:
    """Nested keys as dotted ones: {camera: {efficiency: ...}} is camera.efficiency."""
    if not isinstance(node, dict | None):
        raise UserError(f"{key}: got {node!r}, accepted are parameters, such as {key}.pair_rate={{...}}")
    return dotted(node or {}, ("mean", "std", "median", "factor", "low", "high"))


def run(cfg: DictConfig, folder: Path) -> float:
    """Fit, write `result.json`, `arrays.h5` and the report into ``folder``, and return the p-value of the fit.

    nan where nothing tests it.

    Raises UserError for anything wrong in ``cfg`` or in the file.
    """
    start = time.perf_counter()
    config = plain(cfg)
    identity = {"files": files(config), "config_hash": config_hash(config)}
    asked, seed = settings(config), whole("seed", config["seed"], 0, 2**63 - 1)
    model = build(config.get("model"), "model")
    if not isinstance(model, AbstractModel):
        raise UserError(f"model: got {config.get('model')!r}, expected the model of a measurement (model=bell)")
    free = config["free"]
    if not isinstance(free, list) or not free or not all(isinstance(key, str) for key in free):
        raise UserError(f"free: got {free!r}, accepted is a list of {', '.join(traced(model))}")
    if not isinstance(config["data"], str):
        raise UserError(f"data: got {config['data']!r}, accepted is the name of a file")
    try:
        data = model.read(Path(config["data"]).expanduser())
    except FieldError as error:
        raise error.within("model") from error
    priors = _named("prior", config["prior"])
    problem = pose(model, data, free, priors, _named("bounds", config["bounds"]), asked.held_back)
    if asked.plan is not None:
        shareable(problem, asked.plan)
    keys = [p.key for p in problem.free.parameters]
    idle = [name for name in priors if not any(key == name or key.rpartition(".")[0] == name for key in keys)]
    if idle:
        data = data._replace(notes=(*data.notes, f"Not free, so their priors are not used: {', '.join(idle)}."))
    with closing(open_tracker(config["logger"], folder, config)) as tracker:

        def progress(stage: str, **numbers: float) -> None:
            log.info(stage)
            tracker.note(stage=stage, **numbers)

        found = calibrate(problem, data, asked, key=jax.random.key(seed), progress=progress)
        write_arrays(folder, report.arrays(found))
        figures, swept = report.figures(found), float(found.goodness.p_value)
        result: dict[str, Any] = {"figures": figures, "words": report.answer(found), "seed": seed}
        result |= {"swept": swept if isfinite(swept) else None}
        result |= {"versions": versions(), "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        result |= {"wall_seconds": round(time.perf_counter() - start, 3), **identity, "config": config}
        write_result(folder, result)
        images = report.write(folder, found, config)
        tracker.figures({name: leaf["value"] for name, leaf in flat(figures) if leaf["value"] is not None})
        tracker.images(images)
    print(report.text(found))
    print(f"results: {folder}")
    return swept
