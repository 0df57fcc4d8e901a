"""Running cases: calling what they name, reading the number, judging it by what was published."""

import inspect
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import norm, t

from qtwin.core.errors import UserError
from qtwin.core.folders import find_conf
from qtwin.core.params import Element
from qtwin.core.units import registry
from qtwin.metrics.advantage import Interval
from qtwin.validate.cases import Case
from qtwin.validate.pieces import Skip

ROOMS = "modes source optics scene tissue detector correlation estimator metrics twin benchmark validate".split()
PASS, FAIL, SKIPPED, NOT_COVERED = "pass", "FAIL", "skipped", "not covered"
MOST = 4.5  # standard errors of a drawn number: of 400 right ones one is farther out by chance in 3 of 1000 runs
QUANTITY = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)? \S.*")
DATA = "QTWIN_REFERENCE_DATA"


@dataclass(frozen=True)
class Outcome:
    """One case, judged. Numbers in the unit of the case."""

    case: Case
    verdict: str
    value: float | None = None
    stderr: float | None = None
    z: float | None = None  # deviation beyond the rounding, in standard errors of both sides, where there are any
    part: float | None = None  # of the accepted deviation, where both sides are exact
    reason: str = ""
    seconds: float = 0.0


def reference_data(given: str | None) -> Path | None:
    """The folder of measured data: as given, or QTWIN_REFERENCE_DATA, or ../shared/data beside a checkout, or None.

    UserError for a given one that does not exist.
    """
    if given is not None:
        if not Path(given).is_dir():
            raise UserError(f"--data: got {given!r}, accepted is a folder with the reference data")
        return Path(given).resolve()
    folder = Path(os.environ.get(DATA) or find_conf().resolve().parents[1] / "shared" / "data")
    return folder if folder.is_dir() else None


def chosen(cases: Sequence[Case], words: Sequence[str]) -> list[Case]:
    """Cases with any of the words in the name of their file, their own or their source; UserError if there is none."""
    kept = [c for c in cases if not words or any(word.lower() in c.words for word in words)]
    if not kept:
        groups = ", ".join(dict.fromkeys(c.group for c in cases))
        raise UserError(f"--only: no case has {' or '.join(map(repr, words))}; the files are {groups}")
    return kept


# --- calling ---------------------------------------------------------------------------------------------------------


def public(path: str) -> Any:
    """The function, element or constant of qtwin that ``path`` names; UserError for anything else."""
    parts = path.split(".")
    refused = UserError(f"call: got {path!r}, accepted is a public function, element or constant of qtwin")
    if len(parts) < 3 or parts[0] != "qtwin" or parts[1] not in ROOMS or any(p.startswith("_") or not p for p in parts):
        raise refused
    module, depth = import_module("qtwin"), 1
    while depth < len(parts) and hasattr(module, "__path__") and find_spec(".".join(parts[: depth + 1])) is not None:
        depth += 1
        module = import_module(".".join(parts[:depth]))
    found: Any = getattr(module, parts[depth], None) if depth == len(parts) - 1 else None
    number = isinstance(found, (int, float)) and not isinstance(found, bool)
    if not number and not (callable(found) and str(getattr(found, "__module__", "")).startswith("qtwin.")):
        raise refused
    return found


def check(case: Case) -> None:
    """UserError where the case names what cannot be called, or arguments that it does not have."""
    if case.not_covered:
        return
    try:
        _check({"call": case.call, "with": case.arguments})
        if case.unit:
            _scale(case.unit)
    except UserError as error:
        raise UserError(f"{case.group}.yaml: {case.name}: {error}") from error


def _check(node: Any) -> None:
    if isinstance(node, (list, tuple)):
        for part in node:
            _check(part)
    if not isinstance(node, Mapping):
        return
    if "call" not in node:
        _check(list(node.values()))
        return
    if set(node) - {"call", "with"}:
        raise UserError(f"{sorted(set(node) - {'call', 'with'})[0]}: accepted in a call are call and with")
    found, given = public(str(node["call"])), node.get("with", {})
    if not isinstance(given, Mapping):
        raise UserError(f"with: got {given!r}, accepted is a mapping from arguments to values")
    _check(list(given.values()))
    if not callable(found):
        if given:
            raise UserError(f"with: {node['call']} is a constant and has no arguments")
        return
    try:
        inspect.signature(found).bind(**given)
    except TypeError as error:
        names = ", ".join(inspect.signature(found).parameters)
        raise UserError(f"with: {error}; the arguments of {node['call']} are {names}") from error


def _scale(unit: str) -> float:
    """SI value of one ``unit``."""
    try:
        return float(registry().Quantity(1, unit).to_base_units().magnitude)
    except Exception as error:  # pint raises many kinds, tokenize's among them
        raise UserError(f"unit: got {unit!r}, accepted is a unit such as um, deg, MHz or 1/s") from error


def _called(node: Mapping, data: Path | None) -> Any:
    found = public(str(node["call"]))
    if not callable(found):
        return found
    text = inspect.isclass(found) and issubclass(found, Element)  # it reads its quantities itself
    return found(**{name: _argument(value, data, text) for name, value in node.get("with", {}).items()})


def _argument(value: Any, data: Path | None, text: bool = False) -> Any:
    if isinstance(value, Mapping):
        if "call" in value:
            return _called(value, data)
        return {key: _argument(part, data, text) for key, part in value.items()}
    if isinstance(value, list):
        parts = [_argument(part, data, text) for part in value]
        numbers = bool(parts) and all(isinstance(part, (int, float, np.ndarray)) for part in parts)
        return np.asarray(parts, float) if numbers and not text else parts
    if isinstance(value, str) and value.startswith("data:"):
        if data is None:
            raise Skip(f"no folder of reference data (set {DATA} or --data)")
        file = data / value.removeprefix("data:")
        if not file.exists():
            raise Skip(f"{file} is not there")
        return file
    if isinstance(value, str) and not text and QUANTITY.fullmatch(value):
        return float(registry().Quantity(value).to_base_units().magnitude)
    return value


# --- reading ---------------------------------------------------------------------------------------------------------


def picked(result: Any, pick: Sequence[str | int]) -> Any:
    """What the names and indices lead to; methods without arguments are called."""
    for step in pick:
        if isinstance(result, Mapping):
            result = result[step]
        elif isinstance(step, int):
            result = result[step]
        else:
            result = getattr(result, step)
            result = result() if callable(result) else result
    return result


class Reading(NamedTuple):
    """A result as a number."""

    value: float
    stderr: float | None  # None of an exact one
    dof: float  # of the standard error
    low: float  # 95 % interval
    high: float


def reading(result: Any, scale: float = 1.0) -> Reading:
    """A result in units of ``scale``; ValueError for what is no number."""
    value, error, dof = result, 0.0, np.inf
    if hasattr(result, "value") and (hasattr(result, "stderr") or hasattr(result, "error")):
        value, dof = result.value, getattr(result, "dof", np.inf)
        error = _single(result.stderr if hasattr(result, "stderr") else result.error, "standard error") / scale
    value = _single(value, "result") / scale
    if isinstance(result, Interval):
        return Reading(value, error, dof, *(_single(end, "interval") / scale for end in (result.low, result.high)))
    reach = float(t.ppf(0.975, dof)) * error
    return Reading(value, error or None, dof, value - reach, value + reach)


def _normal(score: float, dof: float) -> float:
    """The normal number that is as far out as Student's ``score``."""
    return float(np.copysign(min(norm.isf(t.sf(abs(score), dof)), 38.0), score)) if np.isfinite(dof) else score


def _single(value: Any, what: str) -> float:
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise ValueError(f"the {what} is {type(value).__name__} of shape {array.shape}, not one number: pick")
    if not isfinite(float(array.reshape(()))):
        raise ValueError(f"the {what} is {float(array.reshape(()))}")
    return float(array.reshape(()))


# --- judging ---------------------------------------------------------------------------------------------------------


def judged(case: Case, result: Any, seconds: float = 0.0) -> Outcome:
    """The verdict on a result."""
    read = reading(result, _scale(case.unit) if case.unit else 1.0)
    given: dict[str, Any] = {"case": case, "value": read.value, "stderr": read.stderr, "seconds": seconds}
    if case.expect is None:
        return _bounded(case, read, given)
    away, part = read.value - case.expect, None
    if case.factor is not None:
        passed = case.expect / case.factor < read.value < case.expect * case.factor
        part = float(np.log(read.value / case.expect) / np.log(case.factor)) if read.value > 0 else None
        return Outcome(verdict=PASS if passed else FAIL, part=part, **given)
    room, spread = case.within or 0.0, float(np.hypot(read.stderr or 0.0, case.error or 0.0))
    beyond = float(np.copysign(max(abs(away) - room * (1 + 1e-9), 0.0), away))
    if not spread:
        return Outcome(verdict=FAIL if beyond else PASS, part=away / room if room else None, **given)
    z = _normal(beyond / spread, read.dof)
    return Outcome(verdict=PASS if abs(z) <= MOST else FAIL, z=z, **given)


def _bounded(case: Case, read: Reading, given: dict[str, Any]) -> Outcome:
    """An inequality holds where all of the 95 % interval is on the right side."""
    bounds = [(bound, side) for bound, side in ((case.above, 1), (case.below, -1)) if bound is not None]
    passed = all((read.low if side > 0 else read.high) * side > bound * side for bound, side in bounds)
    held = all(read.value * side > bound * side for bound, side in bounds)
    reason = "undecided: the 95 % interval holds the bound" if held and not passed else ""
    z = None
    if read.stderr:
        z = min((_normal(side * (read.value - bound) / read.stderr, read.dof) for bound, side in bounds), key=abs)
    return Outcome(verdict=PASS if passed else FAIL, z=z, reason=reason, **given)


def run(
    cases: Sequence[Case], full: bool, data: Path | None, clock: Callable[[], float] = time.perf_counter
) -> Iterator[Outcome]:
    """The outcome of every case, one after the other; a call that several cases share is made once."""
    kept: dict[str, Any] = {}
    for case in cases:
        if case.not_covered:
            yield Outcome(case, NOT_COVERED, reason=case.not_covered)
            continue
        if case.full and not full:
            yield Outcome(case, SKIPPED, reason="only in the full run")
            continue
        start = clock()
        key = json.dumps([case.call, case.arguments], sort_keys=True, default=str)
        try:
            if key not in kept:
                kept[key] = _called({"call": case.call, "with": case.arguments}, data)
            outcome = judged(case, picked(kept[key], case.pick), clock() - start)
        except Skip as reason:
            outcome = Outcome(case, SKIPPED, reason=str(reason))
        except Exception as error:  # whatever it is, the case has not passed, and the others still run
            text = " ".join(str(error).split())
            outcome = Outcome(case, FAIL, reason=f"{type(error).__name__}: {text}", seconds=clock() - start)
        yield outcome
