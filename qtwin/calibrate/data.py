"""Small tables of measured numbers: CSV with a header, whose units are checked."""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from qtwin.core.errors import UserError
from qtwin.core.units import parse
from qtwin.io.file_access import head

ACCEPTED = "a CSV table with a header of names and units, such as 'delay [ns],counts'"


def _named(header: str) -> list[tuple[str, str]]:
    """What a heading may mean: (name, unit), 'delay [ns]', 'delay (ns)' and 'delay_ns' alike."""
    header = header.strip()
    found = re.fullmatch(r"(.*?)\s*[\[(](.*)[\])]", header)
    if found:
        return [(found[1].strip(), found[2].strip())]
    place = header.rpartition("_")
    return [(header, ""), *([(place[0], place[2])] if place[0] else [])]


def table(path: Path, columns: Mapping[str, str], optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Columns ``name -> SI unit`` of a CSV file, SI, [rows]; those of ``optional`` where they are there.

    Lines that begin with # are left out; other columns are not read. UserError names file, column and line.
    """
    head(path, ACCEPTED)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: no text, accepted is {ACCEPTED}") from error
    numbered = [(i, line) for i, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    rows = list(csv.reader(line for _, line in numbered))
    if len(rows) < 2:
        raise UserError(f"{path}: holds {len(rows)} lines, accepted is {ACCEPTED} and at least one row")
    places: dict[str, tuple[int, float]] = {}
    for column, heading in enumerate(rows[0]):
        for name, unit in _named(heading):
            if name in places:
                raise UserError(f"{path}: has two columns {name!r}, accepted is one")
            if name in columns:
                places[name] = (column, _factor(path, name, unit, columns[name]))
                break
    missing = [name for name in columns if name not in places and name not in optional]
    if missing:
        raise UserError(f"{path}: has no column {missing[0]!r}, expected are {', '.join(columns)}")
    out = {name: np.empty(len(rows) - 1) for name in places}
    for i, row in enumerate(rows[1:]):
        line = numbered[i + 1][0]
        if len(row) != len(rows[0]):
            raise UserError(f"{path}: line {line} has {len(row)} entries, expected {len(rows[0])} as in the header")
        for name, (column, factor) in places.items():
            try:
                out[name][i] = float(row[column]) * factor
            except ValueError as error:
                raise UserError(f"{path}: line {line}, {name}: got {row[column]!r}, expected a number") from error
            if not np.isfinite(out[name][i]):
                raise UserError(f"{path}: line {line}, {name}: got {row[column]!r}, expected a finite number")
    return out


def _factor(path: Path, name: str, unit: str, si: str) -> float:
    if si and not unit:
        raise UserError(f"{path}: column {name!r} has no unit, accepted is a heading such as '{name} [{si}]'")
    try:
        return parse(f"1 {unit}" if unit else 1.0, si)
    except UserError as error:
        raise UserError(
            f"{path}: column {name!r} has the unit {unit!r}, accepted is {f'one of {si}' if si else 'none'}"
        ) from error


def counts(path: Path, name: str, values: np.ndarray) -> np.ndarray:
    """``values`` as they are. UserError for what cannot have been counted."""
    values = np.asarray(values, float)
    wrong = np.flatnonzero(~((values >= 0) & (values == np.floor(values))).ravel())
    if len(wrong):
        given = values.ravel()[wrong[0]]
        raise UserError(
            f"{path}: {name}, row {wrong[0]} (the first is 0): got {given:g}, accepted are counts: 0, 1, 2, ..."
        )
    return values
