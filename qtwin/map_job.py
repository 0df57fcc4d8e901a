"""One job of `qtwin map`: from a composed configuration to a folder with results."""

import logging
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import fields
from math import isfinite
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from omegaconf import DictConfig, OmegaConf

from qtwin.benchmark.arms import arms_of
from qtwin.benchmark.compare import _assemble
from qtwin.benchmark.map import Axis, Working, advantage_map, axis
from qtwin.benchmark.settings import Settings, whole
from qtwin.core.config import build, plain
from qtwin.core.errors import FieldError, UserError
from qtwin.core.params import Element, Support, param, parameters, positive
from qtwin.core.units import parse, show
from qtwin.estimator.protocol import AbstractProtocol, Arm
from qtwin.io.results import config_hash, files, versions, write_arrays, write_result
from qtwin.io.tracking import open_tracker
from qtwin.job import elements, flat
from qtwin.report import map as report

log = logging.getLogger(__name__)
PHOTONS = param("", positive, "photons of the first arm per superpixel and exposure").metadata
SCALES = ("linear", "log")


class Points:
    """Working points of a configuration in which single numbers are changed; what stays the same is built once."""

    def __init__(self, cfg: DictConfig | dict):
        self.cfg = cfg if isinstance(cfg, DictConfig) else OmegaConf.create(cfg)
        self.config = plain(self.cfg)
        self.parts = elements(self.config)
        self.start = self._working(self.parts, self.config)

    def _working(self, parts: dict[str, Any], config: Mapping) -> Working:
        protocols = parts["protocols"]
        twin = _assemble(**{name: part for name, part in parts.items() if name != "protocols"})
        return Working(twin, protocols, jnp.asarray(config["budget"]["photons"], twin.source.waist.dtype))

    def element(self, key: str) -> tuple[Any, str]:
        """The element that holds the last name of a dotted key, and that name."""
        *places, name = key.split(".")
        twin, roots = self.start.twin, [f.name for f in fields(self.start.twin)]
        at: Any = None
        if places[:1] == ["estimator"] and len(places) > 1:
            at, places = self.start.protocols.get(places[1]), places[2:]
        elif places and places[0] in roots:
            at, places = getattr(twin, places[0]), places[1:]
        for place in places:
            at = getattr(at, place, None)
        return at, name

    def field(self, key: str) -> tuple[Mapping, np.ndarray]:
        """Metadata and start value of a traced parameter. UserError names what exists."""
        if key == "budget.photons":
            return PHOTONS, np.asarray(self.start.photons)
        at, name = self.element(key)
        if isinstance(at, Element) and name in parameters(at) and getattr(at, name) is not None:
            return parameters(at)[name].metadata, np.asarray(getattr(at, name))
        if isinstance(at, Element):
            place = key.rpartition(".")[0]
            told = [f"{place}.{p}" for p in parameters(at) if getattr(at, p) is not None]
        else:
            told = [f"{f.name}.*" for f in fields(self.start.twin)]
            told += [f"estimator.{name}.*" for name, p in self.start.protocols.items() if parameters(p)]
        raise UserError(f"no parameter that can be traced; accepted are {', '.join([*told, 'budget.photons'])}")

    def changed(self, values: Mapping[str, Any]) -> DictConfig:
        """The configuration with other numbers at dotted keys; ``mu_s.1`` is the second layer's."""
        cfg = self.cfg.copy()
        for key, value in values.items():
            place, _, number = key.rpartition(".")
            if number.isdigit():
                every = [float(v) for v in np.ravel(self.field(place)[1])]
                every[int(number)] = float(value)
                key, value = place, every
            OmegaConf.update(cfg, key, value, merge=False, force_add=True)
        return cfg

    def at(self, key: str, value: float) -> Working:
        config = plain(self.changed({key: value}))
        if config["source"] != self.config["source"]:  # the wavelength is looked up again, and checked
            return self._working(elements(config), config)
        parts = {
            name: part if config[name] == self.config[name] else build(config[name], name)
            for name, part in self.parts.items()
            if name != "protocols"
        }
        now, before = config["estimator"], self.config["estimator"]
        protocols = {
            name: part if now[name] == before[name] else build(now[name], f"estimator.{name}")
            for name, part in self.parts["protocols"].items()
        }
        return self._working(parts | {"protocols": protocols}, config)


def settings_of(config: Mapping) -> Settings:
    """Settings without those that an expectation does not depend on."""
    return Settings.from_config({"regularise": False, **config, "budget": {"exposures": 3, **config["budget"]}})


def number(which: str, key: Any, points: Points) -> tuple[Mapping, float]:
    """Metadata and start value of one number."""
    if not isinstance(key, str):
        raise UserError(f"{which}: got {key!r}, accepted is a parameter such as camera.efficiency")
    place, _, number = key.rpartition(".")
    layer = int(number) if number.isdigit() else None
    try:
        field, value = points.field(key if layer is None else place)
    except UserError as error:
        raise UserError(f"{which}: got {key!r}, {error}") from error
    if layer is None and value.size == 1:
        return field, float(value.ravel()[0])
    if layer is not None and layer < value.size > 1:
        return field, float(value.ravel()[layer])
    own = place if layer is not None else key
    told = f"{own}.0 to {own}.{value.size - 1}, from the surface down" if value.size > 1 else own
    raise UserError(f"{which}: got {key!r}, a list or no part of one; accepted is one number: {told}")


def _range(which: str, asked: Any, key: str, unit: str, support: Support, start: float) -> tuple[float, float]:
    if asked is None:
        if support.low == 0 and support.high == 1:
            return 0.05, 1.0
        if support.low == 0 and start > 0 and support.high > 10 * start:
            return start / 10, 10 * start
        raise UserError(f"{which}_range: {key} starts at {show(start, unit)}; accepted is a range [low, high]")
    if not isinstance(asked, list) or len(asked) != 2:
        raise UserError(f"{which}_range: got {asked!r}, accepted is [low, high]")
    try:
        low, high = (parse(value, unit) for value in asked)
    except UserError as error:
        raise FieldError(f"{which}_range", str(error)) from error
    for value in (low, high):
        if not (isfinite(value) and support.contains(value)):
            raise UserError(f"{which}_range: got {show(value, unit)}, accepted for {key} is a value {support.words}")
    if not low < high:
        raise UserError(
            f"{which}_range: got {show(low, unit)} to {show(high, unit)}, accepted is a low and a higher end"
        )
    return low, high


def _axis(which: str, config: Mapping, points: Points) -> Axis:
    key, count = config[which], whole("points", config["points"], 2, 1024)
    field, start = number(which, key, points)
    unit, scale = field["unit"], config[f"{which}_scale"]
    low, high = _range(which, config[f"{which}_range"], key, unit, field["support"], start)
    if scale is not None and scale not in SCALES:
        raise UserError(f"{which}_scale: got {scale!r}, accepted is {' or '.join(SCALES)}")
    wide = high >= 10 * low and not isfinite(field["support"].high)
    ratio = low > 0 and (scale == "log" or (scale is None and wide))
    if scale == "log" and not ratio:
        raise UserError(f"{which}_range: starts at {show(low, unit)}; accepted on a log scale is more than 0")
    values = np.geomspace(low, high, count) if ratio else np.linspace(low, high, count)
    values[0], values[-1] = low, high
    made = []
    for value in values:
        try:
            made.append(points.at(key, float(value)))
        except UserError as error:
            raise UserError(f"{which}_range: at {show(float(value), unit)}: {error}") from error
    return axis(key, field["doc"], unit, ratio, values, start, [*made, points.start])


def axes(cfg: DictConfig | dict) -> tuple[Points, Axis, Axis]:
    """The start values and both axes that a configuration describes."""
    points = Points(cfg)
    config = points.config
    if config["x"] == config["y"]:
        raise UserError(f"y: got {config['y']!r}, which is x already; accepted is another parameter")
    starts = {config[which]: number(which, config[which], points)[1] for which in ("x", "y")}
    points = Points(points.changed(starts))  # as numbers: what follows one of them does not follow the other one
    return points, _axis("x", config, points), _axis("y", config, points)


def duel(protocols: Mapping[str, AbstractProtocol], arm: str | None, opponent: str | None) -> tuple[Arm, Arm]:
    """The arm and its opponent by name; None: the best of the first protocol, and the first that it has."""
    arms = {a.name: a for a in arms_of(protocols)}
    ours = [a.name for a in arms.values() if a.opponents]
    arm = arm or [a.name for a in next(iter(protocols.values())).arms() if a.opponents][-1]
    if arm not in ours:
        raise UserError(f"arm: got {arm!r}, accepted are {'; '.join(ours)}")
    against = arms[arm].opponents
    opponent = opponent or against[0]
    if opponent not in against:
        raise UserError(f"opponent: got {opponent!r}, accepted against {arm!r} are {'; '.join(against)}")
    return arms[arm], arms[opponent]


def run(cfg: DictConfig, folder: Path) -> float:
    """Compute, write `result.json`, `arrays.h5` and the report into ``folder``, and return the part of the map won.

    Raises UserError for anything wrong in ``cfg``, before any work is done.
    """
    start = time.perf_counter()
    config = plain(cfg)
    identity = {"files": files(config), "config_hash": config_hash(config)}
    settings = settings_of(config)
    points, x, y = axes(cfg)
    pair = duel(points.start.protocols, config["arm"], config["opponent"])
    with closing(open_tracker(config["logger"], folder, config)) as tracker:

        def progress(stage: str, **numbers: float) -> None:
            log.info(stage)
            tracker.note(stage=stage, **numbers)

        found = advantage_map(points.start, x, y, pair, settings, progress)
        write_arrays(folder, report.arrays(found))
        figures = report.figures(found)
        swept = float(figures["map"]["arm_better"]["value"])
        result = {"figures": figures, "swept": swept, "words": report.words(found), "seed": settings.seed}
        result |= {"versions": versions(), "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        result |= {"wall_seconds": round(time.perf_counter() - start, 3), **identity, "config": config}
        write_result(folder, result)
        images = report.write(folder, found, config)
        tracker.figures({name: leaf["value"] for name, leaf in flat(figures) if leaf["value"] is not None})
        tracker.images(images)
    print(report.text(found))
    print(f"results: {folder}")
    return swept
