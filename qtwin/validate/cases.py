"""Cases of evidence, read from YAML files: what is called, with what, and what was published.

    hom_visibility:
      call: qtwin.modes.interference.hom_visibility   # a function, an element or a constant of qtwin
      with: {reflectivity: 0.45}                      # its arguments; text such as '3 mm' is a quantity
      expect: 0.98020
      within: 5e-6                                    # half of the last digit that was published
      source: PHYSICS.md section 4, Interference; Hong, Ou & Mandel, Phys. Rev. Lett. 59, 2044 (1987)

Further keys. ``pick``: what of the result, names and indices (`tallies.reflectance`, or a list); a method without
arguments is called. ``unit`` of the published number (else SI). Instead of ``within``: ``error`` (a published standard
error) or ``factor``; instead of ``expect``: ``above`` or ``below`` or both. ``note``. ``full``: true for a case of the
full run alone, or the arguments that the full run changes. ``rows``: a list of mappings, or a CSV table, with one case
for each row, whose columns stand as $column in the other keys. An argument may be a call of its own
({call: .., with: ..}), and 'data:name' is a file of the folder of reference data. ``not_covered`` instead of all
of these: why nothing is compared.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from qtwin.core.errors import UserError
from qtwin.core.folders import find_conf
from qtwin.core.units import parse

TABLES = Path(__file__).parent / "tables"
NUMBERS = ("expect", "within", "error", "factor", "above", "below")
WORDS = ("source", "note", "unit")
KEYS = ("call", "with", "pick", *NUMBERS, *WORDS, "full", "rows", "not_covered")


@dataclass(frozen=True)
class Case:
    """One comparison. Numbers are in ``unit``; ``pick`` holds names and indices."""

    name: str
    group: str  # its file
    source: str
    call: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    pick: tuple[str | int, ...] = ()
    unit: str = ""
    expect: float | None = None
    within: float | None = None
    error: float | None = None
    factor: float | None = None
    above: float | None = None
    below: float | None = None
    note: str = ""
    full: bool = False  # of the full run alone
    not_covered: str = ""

    @property
    def words(self) -> str:
        """What `--only` looks into."""
        return f"{self.group} {self.name} {self.source}".lower()


def own_cases() -> Path:
    """The folder of the project's own cases."""
    return find_conf() / "validate"


def load(folder: Path, full: bool) -> list[Case]:
    """All cases of the YAML files of a folder, with the arguments of the ``full`` run or of the quick one.

    Raises UserError: the file, the case, the key, what is wrong.
    """
    if not folder.is_dir():
        raise UserError(f"cases: got {str(folder)!r}, accepted is a folder of YAML files")
    found = [case for path in sorted(folder.glob("*.yaml")) for case in _file(path, full)]
    if not found:
        raise UserError(f"cases: no case in {str(folder)!r}, accepted is a folder with at least one in a .yaml file")
    return found


def _file(path: Path, full: bool) -> Iterator[Case]:
    try:
        read = OmegaConf.to_container(OmegaConf.load(path))
    except (YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(read, dict):
        raise UserError(f"{path}: got a {type(read).__name__}, accepted is a mapping from names of cases to cases")
    for name, entry in read.items():
        try:
            yield from _entry(path, str(name), entry, full)
        except UserError as error:
            raise UserError(f"{path}: {name!s}: {error}") from error


def _entry(path: Path, name: str, entry: Any, full: bool) -> Iterator[Case]:
    if not isinstance(entry, dict):
        raise UserError(f"got {entry!r}, accepted is a mapping with the keys {', '.join(KEYS)}")
    for key in entry:
        if key not in KEYS:
            raise UserError(f"{key}: unknown key, accepted are {', '.join(KEYS)}")
    if "not_covered" in entry:
        for key in entry:
            if key not in ("not_covered", "source", "note"):
                raise UserError(f"{key}: accepted beside not_covered are source and note")
        words: dict[str, Any] = {key: _text(entry, key) for key in ("source", "note", "not_covered")}
        yield Case(name, path.stem, **words)
        return
    if "rows" not in entry:
        yield _case(path, name, entry, full)
        return
    rest = {key: value for key, value in entry.items() if key != "rows"}
    written = isinstance(entry["rows"], list)
    rows = entry["rows"] if written else _table(path, entry["rows"])
    shown = list(dict.fromkeys(_names([rest.get("with", {}), rest.get("pick", "")])))
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise UserError(f"rows: row {number} is {row!r}, accepted is a mapping from columns to values")
        used: set[str] = set()
        made = _filled(rest, row, used)
        if written and (unused := set(row) - used):
            raise UserError(
                f"rows: column {sorted(unused)[0]!r} of row {number} stands nowhere as ${sorted(unused)[0]}"
            )
        label = ", ".join(f"{column} {_shown(row[column])}" for column in shown) or str(number)
        yield _case(path, f"{name} ({label})", made, full)


def _shown(value) -> str:
    return f"{value:g}" if isinstance(value, float) else Path(value).name if isinstance(value, str) else str(value)


def _names(value) -> Iterator[str]:
    """Columns that stand in a value, in order."""
    if isinstance(value, str) and value.startswith("$"):
        yield value[1:]
    elif isinstance(value, (dict, list)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _names(part)


def _filled(value, row: Mapping, used: set[str]):
    """A value with the row's cells for its $columns."""
    if isinstance(value, str) and value.startswith("$"):
        if value[1:] not in row:
            raise UserError(f"{value}: no such column, accepted are {', '.join(map(str, row))}")
        used.add(value[1:])
        return row[value[1:]]
    if isinstance(value, dict):
        return {key: _filled(part, row, used) for key, part in value.items()}
    return [_filled(part, row, used) for part in value] if isinstance(value, list) else value


def _table(path: Path, name: Any) -> list[dict]:
    """Rows of a CSV table beside the cases, or of the project's; lines that begin with # are left out."""
    places = [path.parent / str(name), TABLES / str(name)]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise UserError(f"rows: got {name!r}, accepted is a list, or a table in {places[0].parent} or {TABLES}")
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return [{column: _cell(text) for column, text in row.items()} for row in csv.DictReader(lines)]


def _cell(text: str):
    for kind in (int, float):
        try:
            return kind(text)
        except (TypeError, ValueError):
            pass
    return text


def _text(entry: Mapping, key: str) -> str:
    value = entry.get(key, "")
    if not isinstance(value, str) or (key in ("source", "not_covered") and not value.strip()):
        raise UserError(f"{key}: got {value!r}, accepted is text")
    return value


def _number(entry: Mapping, key: str) -> float | None:
    if entry.get(key) is None:
        return None
    try:
        value = parse(entry[key], "")
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
    if not isfinite(value) or (key in ("within", "error") and value < 0) or (key == "factor" and value <= 1):
        least = {"factor": "greater than 1", "within": "of 0 or more", "error": "of 0 or more"}.get(
            key, "that is finite"
        )
        raise UserError(f"{key}: got {entry[key]!r}, accepted is a number {least}")
    return value


def _pick(entry: Mapping) -> tuple[str | int, ...]:
    value = entry.get("pick", [])
    parts = value.split(".") if isinstance(value, str) else value if isinstance(value, list) else [value]
    for part in parts:
        if isinstance(part, bool) or not isinstance(part, (str, int)) or part == "" or str(part).startswith("_"):
            raise UserError(f"pick: got {value!r}, accepted are public names and indices")
    return tuple(int(p) if isinstance(p, str) and p.lstrip("-").isdigit() else p for p in parts)


def _case(path: Path, name: str, entry: Mapping, full: bool) -> Case:
    numbers = {key: _number(entry, key) for key in NUMBERS}
    spreads = [key for key in ("within", "error", "factor") if numbers[key] is not None]
    bounds = [key for key in ("above", "below") if numbers[key] is not None]
    if numbers["expect"] is None:
        if not bounds:
            raise UserError("expect: not given, accepted is the published number, or above, or below")
        if spreads:
            raise UserError(f"{spreads[0]}: accepted only beside expect")
    elif bounds:
        raise UserError(f"{bounds[0]}: accepted only instead of expect")
    elif len(spreads) != 1:
        raise UserError(f"expect: got {', '.join(spreads) or 'no spread'}, accepted is one of within, error, factor")
    if numbers["above"] is not None and numbers["below"] is not None and numbers["above"] >= numbers["below"]:
        raise UserError("below: accepted is a number greater than above")
    arguments, more = entry.get("with", {}), entry.get("full", False)
    for key, value in (("with", arguments), ("full", {} if isinstance(more, bool) else more)):
        if not isinstance(value, dict) or not all(isinstance(k, str) for k in value):
            raise UserError(f"{key}: got {value!r}, accepted is a mapping from arguments to values")
    if full and isinstance(more, dict):
        arguments = arguments | more
    if not isinstance(entry.get("call"), str):
        raise UserError(f"call: got {entry.get('call')!r}, accepted is the path of a function or element of qtwin")
    given: dict[str, Any] = {key: _text(entry, key) for key in WORDS} | numbers
    given |= {"call": entry["call"], "arguments": arguments, "pick": _pick(entry), "full": more is True}
    return Case(name, path.stem, **given)
