"""What is told of polarised light in tissue: Stokes vectors and degrees of polarisation."""

from collections.abc import Iterator
from html import escape
from typing import Any

from qtwin.report.pieces import number, table
from qtwin.report.plain import plain
from qtwin.tissue.polarised import PolarisedTransport

STOKES = ("I", "Q", "U", "V")
SIDES = ("reflected", "transmitted")


def figures(found: PolarisedTransport) -> dict[str, Any]:
    """Side -> I, Q, U, V per incident photon, and the degree of polarisation; value, stderr and unit."""
    out: dict[str, Any] = {}
    for side in SIDES:
        stokes, degree = getattr(found, side), found.polarisation[side]
        rows = {name: (stokes.value[i], stokes.stderr[i]) for i, name in enumerate(STOKES)}
        rows["degree"] = (degree.value, degree.stderr)
        out[side] = {name: {"value": float(v), "stderr": float(e), "unit": ""} for name, (v, e) in rows.items()}
    return out


def _rows(found: PolarisedTransport) -> Iterator[tuple[str, dict]]:
    for side, leaves in figures(found).items():
        for name, leaf in leaves.items():
            yield (f"{side} {name}" if name in STOKES else f"degree of polarisation, {side}"), leaf


def text(found: PolarisedTransport) -> str:
    """What the command prints."""
    head = "polarised light: Stokes vectors per incident photon, straight light included"
    return "\n".join(["", head, "-" * 70, *(f"{words:<46} {plain(leaf)}" for words, leaf in _rows(found))])


def parts(found: PolarisedTransport) -> list[str]:
    """What the page shows."""
    rows = [[escape(words), number(leaf)] for words, leaf in _rows(found)]
    frame = (
        "<p>Q along x less along y, U along +45°, V clockwise for who looks into the light; in the frame of the "
        "laboratory, behind a lens. The degree of polarisation is biased upwards where it is 0.</p>"
    )
    return ["<h2>Polarisation</h2>", frame, table(["per incident photon", "value"], rows, "h-")]
