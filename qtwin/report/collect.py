"""What `qtwin collect` leaves: the table of a sweep, its arrays, a page with one figure."""

import csv
from functools import partial
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from qtwin.core.errors import UserError
from qtwin.core.units import show
from qtwin.io.collect import AHEAD, DONE, Axis, Point, Sweep, arrays, read_sweep
from qtwin.io.results import write_arrays, write_whole
from qtwin.report.figures import BLACK, BLUE, GREY, ORANGE, new, printed
from qtwin.report.pieces import document, known, number, table, write_page
from qtwin.report.pieces import figure as picture

COLOURS = (BLUE, ORANGE, BLACK, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", GREY)
MARKERS = "osD^vP*X"


def cell(axis: Axis, i: int) -> str:
    """Swept value of point ``i`` as an engineer writes it."""
    value = axis.values[i]
    if not isinstance(value, float):
        return value or "–"
    try:
        return show(value, axis.unit, 6)
    except Exception:  # a unit of pint's that has no prefixes of its own
        return f"{value:.6g} {axis.unit}"


def leaf_of(sweep: Sweep, point: Point) -> dict:
    """The number that the run returned, with its error and unit where a figure has them."""
    name = sweep.main()
    return point.figures[name] if name and name in point.figures else {"value": point.swept, "stderr": None, "unit": ""}


def told(leaf: dict) -> str:
    """Value, error and unit; an inverse unit takes no prefix."""
    unit = leaf["unit"]
    return f"{number({**leaf, 'unit': ''})} {unit.removeprefix('1')}" if unit.startswith("1/") else number(leaf)


def csv_text(sweep: Sweep) -> str:
    """Everything, one row per point: SI numbers, standard errors, units in the head."""
    names, out = sweep.names(), StringIO()
    units = {n: next((p.figures[n]["unit"] for p in sweep.points if n in p.figures), "") for n in names}
    rows = csv.writer(out, lineterminator="\n")
    head = ["point", "state", "note", *(f"{a.key} / {a.unit}" if a.unit else a.key for a in sweep.axes), "returned"]
    for n in names:
        head += [f"{n} / {units[n]}" if units[n] else n, f"{n}.stderr"]
    rows.writerow(head)
    for i, p in enumerate(sweep.points):
        row = [p.name, p.state, p.note, *(a.values[i] for a in sweep.axes), p.swept]
        for n in names:
            leaf = p.figures.get(n, {"value": None, "stderr": None})
            row += [leaf["value"], leaf["stderr"]]
        rows.writerow(["" if v is None else v for v in row])
    return out.getvalue()


def _rows(sweep: Sweep) -> tuple[list[str], list[list[str]]]:
    """Head and cells of the table that is printed and shown: swept values and what the runs returned."""
    head = ["point", *(a.key for a in sweep.axes), sweep.main() or "returned", "state"]
    rows = []
    for i, p in enumerate(sweep.points):
        state = p.state if not p.note else f"{p.state}: {p.note}"
        rows.append([p.name, *(cell(a, i) for a in sweep.axes), told(leaf_of(sweep, p)), state])
    return head, rows


def headline(sweep: Sweep) -> str:
    states: dict[str, int] = {}
    for p in sweep.points:
        states[p.state] = states.get(p.state, 0) + 1
    rest = ", ".join(f"{n} {state}" for state, n in states.items() if state != DONE)
    return f"{states.get(DONE, 0)} of {len(sweep.points)} points done" + (f"; {rest}" if rest else "")


def warnings(sweep: Sweep) -> list[str]:
    """What makes points hard to compare."""
    versions = {", ".join(f"{k} {v}" for k, v in p.versions.items()) for p in sweep.done()}
    out = [f"points were computed by different versions: {'; '.join(sorted(versions))}"] if len(versions) > 1 else []
    if sweep.axes and not sweep.grid():
        out.append("the swept values make no full grid: arrays.h5 has one dimension, point")
    return out


def text(sweep: Sweep) -> str:
    """What the command prints."""
    head, rows = _rows(sweep)
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]]
    rule = "-" * max(map(len, lines))
    return "\n".join(
        [headline(sweep), "", lines[0], rule, *lines[1:], *(["", *warnings(sweep)] if warnings(sweep) else [])]
    )


# --- the figure ----------------------------------------------------------------------------------------------------


def _scale(axis: Axis) -> tuple[float, str]:
    """Factor and unit in which an axis is drawn: that of its largest value."""
    largest = max(abs(v) for v in axis.values if isinstance(v, float))
    if not axis.unit or not largest:
        return 1.0, axis.unit
    try:
        word = show(largest, axis.unit, 12).split(" ", 1)
    except Exception:  # as above
        return 1.0, axis.unit
    return float(word[0]) / largest, word[1]


def _label(name: str, unit: str) -> str:
    return f"{name} / ({unit})" if "/" in unit else f"{name} / {unit}" if unit else name


def drawable(sweep: Sweep) -> bool:
    """One or two keys, one of them a number, and something to draw."""
    some = [p for p in sweep.done() if known(leaf_of(sweep, p)["value"])]
    return 1 <= len(sweep.axes) <= 2 and any(a.numeric for a in sweep.axes) and bool(some)


def draw(sweep: Sweep) -> Figure:
    """What the runs returned, with its standard error, over one key; a line for every value of a second one."""
    axes = sorted(sweep.axes, key=lambda a: (not a.numeric, -len(a.levels())))
    x, other = axes[0], axes[1] if len(axes) > 1 else None
    factor, unit = _scale(x)
    fig = new(4.6)
    ax = fig.subplots()
    for k, level in enumerate(other.levels() if other else [None]):
        here = [
            i for i, p in enumerate(sweep.points) if p.state == DONE and (other is None or other.values[i] == level)
        ]
        here = sorted((i for i in here if known(leaf_of(sweep, sweep.points[i])["value"])), key=lambda i: x.values[i])
        if not here:
            continue
        found = [leaf_of(sweep, sweep.points[i]) for i in here]
        at = np.array([x.values[i] for i in here], float) * factor
        label = None if other is None else f"{other.key} = {cell(other, here[0])}"
        errors = [leaf["stderr"] if known(leaf["stderr"]) else 0.0 for leaf in found]
        style: dict[str, Any] = {
            "color": COLOURS[k % 8],
            "marker": MARKERS[k % 8],
            "ms": 5,
            "lw": 1.2,
            "capsize": 3,
            "label": label,
        }
        ax.errorbar(at, [leaf["value"] for leaf in found], errors, **style)
    levels = np.array(x.levels(), float)
    if levels[0] > 0 and levels[-1] >= 20 * levels[0]:
        ax.set_xscale("log")
    ax.set_xlabel(_label(x.key, unit))
    quantity = next((leaf_of(sweep, p)["unit"] for p in sweep.done()), "")
    ax.set_ylabel(_label(sweep.main() or "number returned", quantity))
    if other:
        ax.legend(ncols=2)
    return fig


def write(sweep: Sweep, folder: Path) -> None:
    """`table.csv`, `arrays.h5` and `report.html` of a sweep in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "table.csv", csv_text(sweep).encode())
    write_arrays(folder, arrays(sweep))
    title = f"A sweep of qtwin {sweep.command}"
    parts = [f"<h1>{escape(title)}</h1>", f'<div class="answer"><p>{escape(headline(sweep))}</p></div>']
    if words := warnings(sweep):
        parts.append('<div class="warning"><ul>' + "".join(f"<li>{escape(w)}</li>" for w in words) + "</ul></div>")
    drawn = {"sweep": printed(partial(draw, sweep))} if drawable(sweep) else {}
    if drawn:
        caption = ("What the runs returned", "Every point that is done, with its standard error; lines guide the eye.")
        parts.append(picture("sweep", drawn["sweep"]["png"], {"sweep": caption}))
    head, rows = _rows(sweep)
    linked = [_linked(sweep, folder, p, row) for p, row in zip(sweep.points, rows, strict=True)]
    parts += ["<h2>Points</h2>", table(head, linked, "h" + "-" * len(sweep.axes) + "nw")]
    parts.append('<p class="note">Every figure with its standard error: table.csv and arrays.h5 beside this page.</p>')
    write_page(folder, document(title, parts), drawn)


def _linked(sweep: Sweep, folder: Path, point: Point, row: list[str]) -> list[str]:
    """Cells as HTML, the first with a link to the point's own page."""
    cells = [escape(c) for c in row]
    if point.state != AHEAD and folder == sweep.folder:
        cells[0] = f'<a href="{escape(point.name)}/report.html">{cells[0]}</a>' if point.state == DONE else cells[0]
    return cells


def collect(folder: str, out: str | None = None) -> int:
    """`qtwin collect`: prints the table of the sweep in ``folder``, and writes it there or into ``out``."""
    sweep = read_sweep(Path(folder))
    place = Path(out) if out else sweep.folder
    try:
        write(sweep, place)
    except OSError as error:
        raise UserError(
            f"{place}: {error.strerror or error}; accepted is a folder that can be written (--out)"
        ) from error
    print(text(sweep))
    print(f"results: {place}")
    return 0
