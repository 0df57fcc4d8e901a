"""The report of a state of light: its figures of merit, and both readings of what is measured of it."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from qtwin.core.params import parameters
from qtwin.core.units import show
from qtwin.io.results import Array
from qtwin.report.figures import BLACK, BLUE, new, printed
from qtwin.report.pieces import document, figure, number, provenance, table, write_page
from qtwin.report.plain import plain
from qtwin.source.states import AbstractState

CAPTIONS = {
    "readings": (
        "Both readings",
        "Mean of every number that one record holds, as the law expects it and as it was drawn (bars: two standard "
        "errors), and the expected correlations among them.",
    )
}


class Findings(NamedTuple):
    """Everything that the page tells; N numbers in a record."""

    state: AbstractState
    expected: np.ndarray  # [N] means of the law
    covariance: np.ndarray  # [N, N] of the law
    mean: np.ndarray  # [N] of the records drawn
    stderr: np.ndarray  # [N]
    records: int


def drawn(state: AbstractState, records: int, *, key) -> Findings:
    """Draw ``records`` records and set them against the law."""
    mean, covariance = (np.asarray(a, float) for a in state.expect())
    sample = np.asarray(state.sample(records, key=key), float)
    return Findings(
        state, mean, covariance, sample.mean(axis=0), sample.std(axis=0, ddof=1) / np.sqrt(records), records
    )


def largest_score(found: Findings) -> float:
    """Largest |z| of the means, by the expected variances."""
    spread = np.sqrt(np.diag(found.covariance) / found.records)
    apart = np.abs(found.mean - found.expected)
    return float(np.max(np.where(spread > 0, apart / np.where(spread > 0, spread, 1), np.where(apart > 0, np.inf, 0))))


def figures(found: Findings) -> dict[str, Any]:
    """Figures of merit (exact), and how far the draws lie from the law."""
    rows = found.state.figures()
    out: dict[str, Any] = {r.name: {"value": float(r.value), "stderr": 0.0, "unit": r.unit} for r in rows}
    return out | {"largest_z": {"value": largest_score(found), "stderr": None, "unit": ""}}


def arrays(found: Findings) -> dict[str, Array]:
    """Mean and covariance of a record, and the mean of those drawn."""
    n = np.arange(len(found.mean), dtype=float)
    one, two = {"number": (n, "")}, {"number": (n, ""), "other": (n, "")}
    return {
        "mean": (found.expected, ("number",), "", one),
        "covariance": (found.covariance, ("number", "other"), "", two),
        "drawn": (found.mean, ("number",), "", one),
        "drawn_stderr": (found.stderr, ("number",), "", one),
    }


def text(found: Findings) -> str:
    """What the command prints."""
    rows = [(r.name, _shown(r)) for r in found.state.figures()]
    width = max(len(name) for name, _ in rows)
    out = [f"{type(found.state).__name__}", "-" * 70, *(f"{name:<{width}}  {value}" for name, value in rows)]
    agree = f"{found.records} records drawn: largest |z| {largest_score(found):.2f} of {len(found.mean)} means"
    return "\n".join([*out, "", agree])


def _shown(row) -> str:
    value = float(row.value)
    return show(value, row.unit) if row.unit else plain({"value": value, "stderr": 0.0}).removesuffix(" (exact)")


def _readings(found: Findings) -> Figure:
    fig = new(3.6)
    left, right = fig.subplots(1, 2)
    n, count = np.arange(len(found.mean)), len(found.mean)
    left.bar(n, found.expected, color=BLUE, width=0.6, label="expected")
    left.errorbar(n, found.mean, 2 * found.stderr, fmt="o", color=BLACK, ms=4, capsize=3, label="drawn")
    left.set_xlabel("number in a record")
    left.set_ylabel("mean of one record")
    left.set_xticks(n if count <= 16 else n[:: count // 8])
    left.legend(loc="best")
    spread = np.sqrt(np.diag(found.covariance))
    scale = np.where(spread > 0, spread, 1)
    image = right.imshow(found.covariance / scale[:, None] / scale[None, :], vmin=-1, vmax=1, cmap="RdBu_r")
    for axis in (right.xaxis, right.yaxis):
        axis.set_major_locator(MaxNLocator(8, integer=True))
    right.set_xlabel("number in a record")
    right.set_ylabel("number in a record")
    fig.colorbar(image, ax=right, label="expected correlation")
    return fig


def write(folder: Path, found: Findings, config: Mapping) -> list[Path]:
    """Figures and `report.html` in ``folder``; returns the PNG paths."""
    shown = {"readings": printed(lambda: _readings(found))}
    state = found.state
    given = [
        [escape(name), show(float(getattr(state, name)), f.metadata["unit"]), escape(f.metadata["doc"])]
        for name, f in parameters(state).items()
    ]
    merits = [
        [escape(r.name), number({"value": float(r.value), "stderr": 0.0, "unit": r.unit}), escape(r.formula)]
        for r in state.figures()
    ]
    title = f"A source of light: {type(state).__name__}"
    law = escape((type(state).__doc__ or "").strip().split("\n\n")[0])
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{law}</p>",
        "<h2>Figures of merit</h2>",
        table(["figure", "value", "formula and source"], merits, "hn-"),
        *(figure(name, files["png"], CAPTIONS) for name, files in shown.items()),
        f"<p>{found.records} records drawn; largest |z| of their means {largest_score(found):.2f}.</p>",
        "<h2>Parameters</h2>",
        table(["parameter", "value", "what it is"], given, "hn-"),
        provenance(folder, config),
    ]
    return write_page(folder, document(title, parts), shown)
