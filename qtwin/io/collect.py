"""The points of a sweep, read from its folder: what was swept, what came out, and what is not there."""

import re
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from yaml import YAMLError

from qtwin.core.errors import UserError
from qtwin.core.units import registry
from qtwin.io.before import BEFORE, whole
from qtwin.io.claims import CLAIM, lock
from qtwin.io.results import RESULT, Array, read_result

DONE, FAILED, RUNNING, LEFT, AHEAD = "done", "failed", "running", "not finished", "not begun"


class Point(NamedTuple):
    """One point: its folder below that of the sweep, what was asked for, and what came out."""

    name: str
    state: str
    note: str  # why it has failed
    asked: dict[str, str]  # key -> text of the command line
    figures: dict[str, dict]  # dotted name -> value, stderr, unit; empty unless done
    swept: float | None  # the number that the run returned
    versions: dict[str, str]


class Axis(NamedTuple):
    """One key that differs between points."""

    key: str
    values: list[float] | list[str]  # of every point, in their order; SI
    unit: str
    numeric: bool

    def levels(self) -> list:
        """Its different values: numbers ascending, words as they come."""
        return sorted(set(self.values)) if self.numeric else list(dict.fromkeys(self.values))


class Sweep(NamedTuple):
    folder: Path
    command: str
    points: list[Point]
    axes: list[Axis]

    def done(self) -> list[Point]:
        return [p for p in self.points if p.state == DONE]

    def names(self) -> list[str]:
        """Every figure of any point, in the order of the results."""
        return list(dict.fromkeys(name for p in self.points for name in p.figures))

    def main(self) -> str | None:
        """The figure whose value the runs returned; None where none has that value in every point."""
        found = [{n for n, leaf in p.figures.items() if leaf["value"] == p.swept} for p in self.done()]
        both = set.intersection(*found) if found else set()
        return next((name for name in self.names() if name in both), None)

    def grid(self) -> bool:
        """Whether every combination of the swept values is there exactly once."""
        combinations = list(zip(*(a.values for a in self.axes), strict=True))
        size = int(np.prod([len(a.levels()) for a in self.axes]))
        return bool(self.axes) and len(set(combinations)) == len(combinations) == len(self.points) == size


def leaves(figures: Any, path: str = "") -> Iterator[tuple[str, dict]]:
    """Dotted name and leaf of every number; those of a list are numbered."""
    if not isinstance(figures, Mapping):
        return
    value, error, unit = figures.get("value"), figures.get("stderr"), figures.get("unit", "")
    if "value" in figures and isinstance(value, list):
        for i, one in enumerate(value):
            doubt = error[i] if isinstance(error, list) and len(error) == len(value) else None
            yield from leaves({"value": one, "stderr": doubt, "unit": unit}, f"{path}.{i}")
    elif "value" in figures and (value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))):
        yield path, {"value": value, "stderr": error if isinstance(error, (int, float)) else None, "unit": unit or ""}
    elif "value" not in figures:
        for key, inside in figures.items():
            yield from leaves(inside, f"{path}.{key}" if path else str(key))


def _asked(overrides: list[str]) -> dict[str, str]:
    pairs = (text.partition("=") for text in overrides)
    return {key.lstrip("+"): value.strip("\"'") for key, _, value in pairs if not key.startswith("hydra")}


def _settings(file: Path) -> Any:
    try:
        return OmegaConf.load(file)
    except (FileNotFoundError, YAMLError):  # of a process that was killed while it wrote
        return OmegaConf.create({})


def _planned(settings: Any) -> list[dict[str, str]]:
    """What Hydra's grid was asked to run, point by point; nothing where another sweeper chose the points."""
    given = [f"{k}={v}" for k, v in (OmegaConf.select(settings, "hydra.sweeper.params") or {}).items()]
    given += list(OmegaConf.select(settings, "hydra.overrides.task") or [])
    if not given:
        return []
    parsed = OverridesParser.create().parse_overrides(given)
    return [_asked(one) for batch in BasicSweeper.split_arguments(parsed, None) for one in batch]


def _point(folder: Path, place: Path) -> Point:
    asked = _asked(list(_settings(place / ".hydra" / "overrides.yaml") or []))
    name, state, note, result = place.relative_to(folder).as_posix(), LEFT, "", {}
    if (place / "error.txt").exists():
        state = FAILED
        note = next(iter((place / "error.txt").read_text(encoding="utf-8").splitlines()), "")
        note += "; the result of another configuration is kept there" if whole(place) else ""
    elif _locked(place / CLAIM):
        state = RUNNING
    elif whole(place):
        state, result = DONE, read_result(place)
    figures = dict(leaves(result.get("figures")))
    return Point(name, state, note, asked, figures, result.get("swept"), result.get("versions") or {})


def _locked(claim: Path) -> bool:
    try:
        with claim.open() as file:
            return not lock(file, shared=True)
    except (OSError, UserError):  # no sweep's own, or a file system without locks
        return False


def _number(text: str) -> tuple[float, str] | None:
    """SI value and unit of a text; None for words."""
    if not re.match(r"[-+]?\.?\d", text):
        return None
    try:
        quantity = registry().Quantity(text).to_base_units()
        return float(quantity.magnitude), f"{quantity.units:~}".replace(" ", "")
    except Exception:  # whatever pint and its tokenizer raise: it is no number
        return None


def _axis(key: str, texts: list[str]) -> Axis:
    numbers = [_number(text) for text in texts]
    known = [n for n in numbers if n is not None]
    units = {unit for _, unit in known} - {""}
    if len(known) < len(texts) or len(units) > 1:
        return Axis(key, texts, "", False)
    return Axis(key, [value for value, _ in known], next(iter(units), ""), True)


def _by_number(name: str) -> list:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def read_sweep(folder: Path) -> Sweep:
    """All points of the sweep in ``folder``: done, failed, running, not finished and not begun.

    Raises UserError where there is no sweep.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; accepted is that of a sweep (multirun/<command>/<time>)")
    if (folder / RESULT).exists():
        raise UserError(f"{folder}: the folder of one run; accepted is that of a sweep (multirun/<command>/<time>)")
    marks = ("*/" + RESULT, "*/error.txt", "*/" + CLAIM)
    places = {file.parent for mark in marks for file in folder.glob("**/" + mark) if file.parent.name != BEFORE}
    places |= {file.parent.parent for file in folder.glob("*/**/.hydra/overrides.yaml")}
    points = [_point(folder, place) for place in sorted(places, key=lambda p: _by_number(str(p)))]
    settings = _settings(folder / "multirun.yaml")
    there = [p.asked for p in points]
    for asked in _planned(settings):
        if asked not in there:
            points.append(Point("–", AHEAD, "", asked, {}, None, {}))
    if not points:
        raise UserError(f"{folder}: no points of a sweep here; accepted is its folder (multirun/<command>/<time>)")
    keys = dict.fromkeys(key for p in points for key in p.asked)
    texts = {key: [p.asked.get(key, "") for p in points] for key in keys}
    axes = [_axis(key, values) for key, values in texts.items() if len(set(values)) > 1]
    if not OmegaConf.select(settings, "hydra.job.name"):
        settings = next((_settings(place / ".hydra" / "hydra.yaml") for place in places), settings)
    return Sweep(folder, OmegaConf.select(settings, "hydra.job.name") or folder.parent.name, points, axes)


def arrays(sweep: Sweep) -> dict[str, Array]:
    """Every figure and its standard error over the swept values, or over ``point`` where these make no full grid.

    What is not there is nan. Words are coordinates as well.
    """
    axes, points = sweep.axes, sweep.points
    if sweep.grid():
        levels = [a.levels() for a in axes]
        dims = [a.key for a in axes]
        coords = {a.key: (_coordinates(values, a.numeric), a.unit) for a, values in zip(axes, levels, strict=True)}
        places = {values: i for i, values in enumerate(product(*levels))}
        order = [places[values] for values in zip(*(a.values for a in axes), strict=True)]
        shape = tuple(map(len, levels))
    else:
        names = [p.name if p.state != AHEAD else f"{AHEAD} {i}" for i, p in enumerate(points)]
        dims, shape, order = ["point"], (len(points),), list(range(len(points)))
        coords = {"point": (_coordinates(names, False), "")}
    out: dict[str, Array] = {}
    if not sweep.grid():
        for axis in axes:
            out[axis.key] = (_coordinates(axis.values, axis.numeric), dims, axis.unit, coords)
    for name in sweep.names():
        leaf = [p.figures.get(name, {"value": None, "stderr": None, "unit": ""}) for p in points]
        unit = next((one["unit"] for one in leaf if one["unit"]), "")
        for what, label in (("value", name), ("stderr", f"{name}.stderr")):
            flat = np.full(len(points), np.nan)
            flat[order] = [np.nan if one[what] is None else one[what] for one in leaf]
            out[label] = (flat.reshape(shape), dims, unit, coords)
    return out


def _coordinates(values: list, numeric: bool) -> np.ndarray:
    if numeric:
        return np.array(values, float)
    return np.array([str(v).encode() for v in values], dtype=h5py.string_dtype())
