"""One job: from a composed configuration to a folder with results. What `qtwin benchmark` runs, once per point."""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from qtwin.benchmark.compare import compare
from qtwin.benchmark.settings import Settings
from qtwin.core.config import build, check_targets, plain, quantity
from qtwin.core.errors import UserError
from qtwin.core.units import show
from qtwin.io.before import whole
from qtwin.io.results import config_hash, files, read_result, versions, write_arrays, write_result
from qtwin.io.tracking import open_tracker
from qtwin.report import page

log = logging.getLogger(__name__)

ELEMENTS = ("source", "reference", "optics", "scene", "tissue", "detector", "camera", "correlation")


def protocols(cfg) -> dict[str, Any]:
    """Name -> imaging protocol, in the order given."""
    node = cfg.get("estimator")
    if (
        not isinstance(node, dict)
        or not node
        or not all(isinstance(v, dict) and "_target_" in v for v in node.values())
    ):
        raise UserError(
            f"estimator: got {node!r}, expected imaging protocols (estimator=twin_beams, [ghost,time_tagged])"
        )
    return {name: build(part, f"estimator.{name}") for name, part in node.items()}


def elements(cfg: DictConfig | dict) -> dict[str, Any]:
    """Name -> element of every part of the twin, in the order of the light."""
    cfg = plain(cfg)
    check_targets(cfg)
    for name in ELEMENTS:
        if not isinstance(cfg.get(name), dict) or "_target_" not in cfg[name]:
            raise UserError(f"{name}: got {cfg.get(name)!r}, expected an element (a mapping with _target_)")
    made = {name: build(cfg[name], name) for name in ELEMENTS}
    made["protocols"] = protocols(cfg)
    light = getattr(made["source"], "signal_wavelength", None)
    if "wavelength" in cfg and light is not None:
        asked, emitted = quantity(cfg, "wavelength", "m"), float(light)
        if abs(asked - emitted) > 1e-6 * emitted:
            told = f"got {show(asked, 'm')}, the source emits its signal at {show(emitted, 'm')}"
            raise UserError(f"wavelength: {told}; accepted is that alone (set source.signal_wavelength)")
    return made


def finished(cfg: DictConfig, folder: Path) -> float | None:
    """The number of a point that an earlier, killed sweep has completed in `folder`; None if it must run."""
    if not whole(folder):
        return None
    result = read_result(folder)
    same = (result.get("config_hash"), result.get("versions")) == (config_hash(plain(cfg)), versions())
    if not same:
        return None
    return float("nan") if result["swept"] is None else result["swept"]


def flat(figures: Mapping, path: str = "") -> Iterator[tuple[str, Mapping]]:
    """Dotted name and leaf of every figure."""
    for key, value in figures.items():
        name = f"{path}.{key}" if path else str(key)
        if not isinstance(value, Mapping):
            continue
        if "value" in value:
            yield name, value
        else:
            yield from flat(value, name)


def run(cfg: DictConfig, folder: Path) -> float:
    """Compare, write `result.json`, `arrays.h5` and the report into `folder`, and return the swept number.

    Raises UserError for anything wrong in `cfg`, before any work is done.
    """
    start = time.perf_counter()
    config = plain(cfg)
    identity = {"files": files(config), "config_hash": config_hash(config)}  # as they are when they are read
    settings = Settings.from_config(config)
    twin = elements(config)
    with closing(open_tracker(config["logger"], folder, config)) as tracker:

        def progress(stage: str, **numbers: float) -> None:
            log.info(stage)
            tracker.note(stage=stage, **numbers)

        comparison = compare(**twin, settings=settings, progress=progress)
        write_arrays(folder, comparison.arrays())
        figures, swept = comparison.figures(), float(comparison.swept())
        write_result(
            folder,
            {
                "figures": figures,
                "verdicts": comparison.verdicts(),
                "swept": swept,
                "seed": settings.seed,
                "versions": versions(),
                "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "wall_seconds": round(time.perf_counter() - start, 3),
                **identity,
                "config": config,
            },
        )
        images = page.write(folder, comparison, cfg)
        leaves = [(name, leaf) for name, leaf in flat(figures) if leaf["value"] is not None]
        tracker.figures({name: float(leaf["value"]) for name, leaf in leaves if _is_scalar(leaf["value"])})
        rows = [[name, str(leaf["value"]), str(leaf.get("stderr")), leaf.get("unit", "")] for name, leaf in leaves]
        tracker.table("figures", ["figure", "value", "standard error", "unit"], rows)
        tracker.images(images)
    print(comparison.table())
    print(f"results: {folder}")
    return swept


def _is_scalar(value) -> bool:
    return not isinstance(value, (str, bool, list, tuple)) and getattr(value, "ndim", 0) == 0
