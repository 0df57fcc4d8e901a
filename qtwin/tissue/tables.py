"""Tables of optical properties by wavelength: one format for the project's own and for the user's.

    # as many lines of comment as wanted: what it is, and its source
    wavelength,mu_a,mu_s,g,n
    nm,1/cm,1/cm,1,1
    633,0.4,120,0.85,1.4
    810,0.2,90,0.85,1.4

The first line is the header (columns in any order), the second holds the units (1 for a plain number), then follow rows
of increasing wavelength. Between rows everything is linear in the wavelength; outside them there is nothing.
"""

import csv
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import UserError
from qtwin.core.params import Support, anisotropy, index, is_concrete, nonnegative, positive
from qtwin.core.units import parse

DATA = Path(__file__).parent / "data"
NM = 1e-9


class Column(NamedTuple):
    """What a column must hold: its SI unit, as pint reads it, and the values that make sense."""

    unit: str
    support: Support


WAVELENGTH = Column("m", positive)
ABSORPTION = {"mu_a": Column("1/m", nonnegative)}
MEDIUM = {
    **ABSORPTION,
    "mu_s": Column("1/m", nonnegative),
    "g": Column("", anisotropy),
    "n": Column("", index),
}


class Table(NamedTuple):
    """Columns over increasing wavelengths, SI."""

    name: str
    wavelength: np.ndarray
    columns: dict[str, np.ndarray]

    def at(self, column: str, wavelength):
        """Linear interpolation at a wavelength (m, scalar or array), differentiable in it.

        Raises UserError outside the table; a traced wavelength gives NaN there.
        """
        low, high = float(self.wavelength[0]), float(self.wavelength[-1])
        slack = 1e-6 * low  # rounding of units
        if is_concrete(wavelength):
            outside = np.atleast_1d(np.asarray(wavelength))
            outside = outside[~((outside >= low - slack) & (outside <= high + slack))]
            if outside.size:
                raise UserError(
                    f"table {self.name} holds {low / NM:g} to {high / NM:g} nm, got {float(outside[0]) / NM:g} nm"
                )
            wavelength = jnp.clip(jnp.asarray(wavelength, jnp.result_type(float)), low, high)
        values = jnp.asarray(self.columns[column], jnp.result_type(float))
        return jnp.interp(wavelength, jnp.asarray(self.wavelength, values.dtype), values, left=jnp.nan, right=jnp.nan)


def read_table(path: str | Path, columns: Mapping[str, Column], name: str = "") -> Table:
    """Read and check a CSV table. Every mistake is one UserError that names the file and the line."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"table {str(path)!r} not found") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"table {str(path)!r} cannot be read as text") from error
    lines = [
        (number, [cell.strip() for cell in next(csv.reader([line]))])
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    wanted = {"wavelength": WAVELENGTH, **columns}
    if len(lines) < 3:
        raise UserError(
            f"table {str(path)!r}: expected a header {','.join(wanted)}, a line of units, and rows of numbers"
        )
    (number, header), units, *rows = lines
    place = f"table {str(path)!r}, line {number}"
    for column in wanted:
        if header.count(column) != 1:
            problem = "is missing" if column not in header else "stands there twice"
            raise UserError(f"{place}: column {column!r} {problem}, the header must hold {','.join(wanted)}")
    for column in header:
        if column not in wanted:
            raise UserError(f"{place}: unknown column {column!r}, the header must hold {','.join(wanted)}")
    scale = _units(path, units, header, wanted)
    numbers = np.array([_row(path, row, header, wanted, scale) for row in rows])
    found = dict(zip(header, numbers.T, strict=True))
    for (number, _), step in zip(rows[1:], np.diff(found["wavelength"]), strict=True):
        if step <= 0:
            raise UserError(f"table {str(path)!r}, line {number}: wavelengths must increase from row to row")
    return Table(name or repr(str(path)), found.pop("wavelength"), found)


def _units(path, line, header, wanted) -> list[float]:
    number, units = line
    place = f"table {str(path)!r}, line {number}"
    if len(units) != len(header):
        raise UserError(f"{place}: got {len(units)} units for {len(header)} columns")
    scale = []
    for column, unit in zip(header, units, strict=True):
        si = wanted[column].unit
        problem = f"{place}: unit of {column!r}: got {unit!r}, expected one that converts to {si or '1'}"
        if unit in ("", "1") and not si:
            scale.append(1.0)
            continue
        if not re.match(r"(1 */ *)?[^\W\d]", unit):  # parse would take a number for a value in SI
            raise UserError(problem)
        try:
            scale.append(parse(f"1 {unit}", si))
        except UserError as error:
            raise UserError(problem) from error
    return scale


def _row(path, line, header, wanted, scale) -> list[float]:
    number, cells = line
    place = f"table {str(path)!r}, line {number}"
    if len(cells) != len(header):
        raise UserError(f"{place}: got {len(cells)} values for {len(header)} columns")
    values = []
    for column, cell, factor in zip(header, cells, scale, strict=True):
        try:
            value = float(cell)
        except ValueError as error:
            raise UserError(f"{place}: {column} is {cell!r}, expected a number") from error
        if not wanted[column].support.contains(value * factor):
            raise UserError(f"{place}: {column} is {cell}, accepted is a value {wanted[column].support.words}")
        values.append(value * factor)
    return values


@cache
def medium_table(name: str) -> Table:
    """A medium that the project brings as a table."""
    return read_table(DATA / "media" / f"{name}.csv", MEDIUM, name)


def medium_tables() -> list[str]:
    return sorted(file.stem for file in (DATA / "media").glob("*.csv"))
