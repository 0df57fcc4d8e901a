"""A phase function that was measured or computed elsewhere, as a table or a CSV file:

# as many lines of comment as wanted: what it is, and its source
angle,p
deg,1/sr
0,12.5
...
180,0.03
"""

import csv
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import FieldError
from qtwin.core.params import is_concrete
from qtwin.tissue.inverse_table import quantile
from qtwin.tissue.phase_functions import AbstractPhaseFunction, floats, on_host

UNITS = {"cos": {"1": 1.0}, "angle": {"deg": np.pi / 180, "rad": 1.0}, "p": {"1": 1.0, "1/sr": 1.0}}
ACCEPTED = "accepted is a header cos,p or angle,p, a line of units (cos: 1; angle: deg or rad; p: 1 or 1/sr), then rows"
END = 1e-6  # how near to -1 and 1 the cosines must come


class Tabulated(AbstractPhaseFunction):
    """p(c) linear in c between rows, divided by its integral: the table gives the shape, per steradian or per cosine.

    ``cosine`` [rows] runs strictly up or strictly down and reaches -1 and 1 (nothing is extrapolated: where a
    goniometer stops short, the table must say what follows); ``p`` [rows] is 0 or greater, of any scale.
    Raises FieldError of ``cosine`` or ``p``. `Tabulated.read` makes one from a file.
    """

    cosine: jax.Array  # [rows], increasing
    p: jax.Array  # [rows], of integral 1

    @classmethod
    def read(cls, file: str) -> "Tabulated":
        """From a CSV file as above. Raises FieldError of ``file``: the line, what was found, what is accepted."""
        try:
            return cls(*_read(file))
        except FieldError as error:
            raise FieldError("file", f"{file!r}: {error.problem}") from error

    def check(self):
        if not (is_concrete(self.cosine) and is_concrete(self.p)):
            raise FieldError("cosine", "got a traced value; build the law outside jit and grad")
        kind = jnp.result_type(float)
        cosine, p = _column("cosine", self.cosine).astype(kind).astype(float), _column("p", self.p)
        if len(cosine) < 2 or len(cosine) != len(p):
            raise FieldError("p", f"got {len(cosine)} cosines and {len(p)} densities, accepted are at least 2 of both")
        if cosine[0] > cosine[-1]:
            cosine, p = cosine[::-1], p[::-1]
        if not (np.diff(cosine) > 0).all():
            raise FieldError("cosine", "not in order or not distinct, accepted are cosines that only rise or only fall")
        if abs(cosine[0] + 1) > END or abs(cosine[-1] - 1) > END:
            given = f"got cosines from {cosine[0]:.9g} to {cosine[-1]:.9g}"
            raise FieldError("cosine", f"{given}, accepted is all of -1 to 1 (180 to 0 degrees)")
        cosine = np.concatenate([[-1.0], cosine[1:-1], [1.0]])
        total = np.sum(np.diff(cosine) * (p[1:] + p[:-1])) / 2
        if not (p >= 0).all() or not 0 < total < np.inf:
            raise FieldError("p", f"got densities from {p.min():g} to {p.max():g}, accepted is 0 or greater, not all 0")
        object.__setattr__(self, "cosine", jnp.asarray(cosine, kind))
        object.__setattr__(self, "p", jnp.asarray(p / total, kind))

    def density(self, cosine):
        cosine = floats(cosine)
        return jnp.interp(cosine, self.cosine.astype(cosine.dtype), self.p.astype(cosine.dtype))

    def cumulative(self, cosine):
        """Parabolas between the rows."""
        cosine, nodes, p = np.asarray(cosine, float), on_host(self, "cosine"), on_host(self, "p")
        gaps = np.diff(nodes)
        known = np.concatenate([[0], np.cumsum(gaps * (p[1:] + p[:-1]) / 2)])
        row = np.clip(np.searchsorted(nodes, cosine, side="right") - 1, 0, len(gaps) - 1)
        beyond = cosine - nodes[row]
        return known[row] + beyond * (p[row] + (p[row + 1] - p[row]) / gaps[row] * beyond / 2)

    def sample(self, u) -> np.ndarray:
        """The root of F(c) = u for each u, float64 on the host."""
        return quantile(self, u)

    def mean_cosine(self):
        """Exact for straight lines: sum of h (c0 (2 p0 + p1) + c1 (p0 + 2 p1))/6."""
        low, high, p0, p1 = self.cosine[:-1], self.cosine[1:], self.p[:-1], self.p[1:]
        return jnp.sum((high - low) * (low * (2 * p0 + p1) + high * (p0 + 2 * p1))) / 6


def _column(name: str, values) -> np.ndarray:
    try:
        values = np.asarray(values, float)
    except (TypeError, ValueError):
        raise FieldError(name, "holds something that is no number") from None
    if values.ndim != 1:
        raise FieldError(name, f"got an array of shape {values.shape}, accepted is [rows]")
    if not np.isfinite(values).all():
        raise FieldError(name, "holds NaN or infinite values")
    return values


def _read(file: str) -> tuple[jax.Array, jax.Array]:
    """Cosines and densities of a file, as they stand there."""
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise FieldError("file", f"is not there; {ACCEPTED}") from None
    except (OSError, UnicodeDecodeError):
        raise FieldError("file", f"cannot be read as text; {ACCEPTED}") from None
    lines = [
        (number, [cell.strip() for cell in next(csv.reader([line]))])
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if len(lines) < 3:
        raise FieldError("file", f"holds {len(lines)} lines; {ACCEPTED}")
    (at_header, header), (at_units, units), *rows = lines
    if sorted(header) not in (["cos", "p"], ["angle", "p"]):
        raise FieldError("file", f"line {at_header}: got {','.join(header)}; {ACCEPTED}")
    if len(units) != 2 or any(unit not in UNITS[name] for name, unit in zip(header, units, strict=True)):
        raise FieldError("file", f"line {at_units}: got {','.join(units)}; {ACCEPTED}")
    scale = [UNITS[name][unit] for name, unit in zip(header, units, strict=True)]
    numbers = np.array([_row(number, row) for number, row in rows]) * scale
    found = dict(zip(header, numbers.T, strict=True))
    angle = found.get("angle")
    if angle is not None and (angle.min() < -END or angle.max() > np.pi + END):
        low, high = np.degrees(angle.min()), np.degrees(angle.max())
        raise FieldError("file", f"holds angles from {low:g} to {high:g} degrees, accepted is 0 to 180")
    return jnp.asarray(found["cos"] if angle is None else np.cos(angle)), jnp.asarray(found["p"])


def _row(number: int, cells: list[str]) -> list[float]:
    if len(cells) != 2:
        raise FieldError("file", f"line {number}: got {len(cells)} values for 2 columns")
    try:
        values = [float(cell) for cell in cells]
    except ValueError:
        raise FieldError("file", f"line {number}: got {','.join(cells)}, accepted are numbers") from None
    if not np.isfinite(values).all():
        raise FieldError("file", f"line {number}: got {','.join(cells)}, accepted are finite numbers")
    return values
