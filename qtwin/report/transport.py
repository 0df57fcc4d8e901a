"""The report of light in tissue: fractions, derivatives and curves, as text, figures and one HTML page."""

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from qtwin.core.params import Element, parameters
from qtwin.core.units import show
from qtwin.io.results import Array
from qtwin.report import polarisation
from qtwin.report.figures import BLACK, BLUE, GREY, ORANGE, new, printed
from qtwin.report.pieces import document, figure, number, provenance, table, write_page
from qtwin.report.plain import plain
from qtwin.tissue import Slab
from qtwin.tissue.lights import AbstractLight
from qtwin.tissue.phase_functions import AbstractPhaseFunction
from qtwin.tissue.polarised import PolarisedTransport
from qtwin.tissue.transport import Measured, Transport

FRACTIONS = {
    "specular": "reflected at the surface (specular)",
    "reflectance": "diffuse reflectance",
    "transmittance": "transmittance, straight light included",
    "ballistic": "straight light (ballistic)",
    "accepted": "transmitted within the numerical aperture",
}
SAMPLED = ("reflectance", "transmittance", "accepted")
UNITS = {"mu_a": "m", "mu_s": "m", "g": "", "thickness": "1/m"}  # of a derivative of a fraction
CAPTIONS = {
    "curves": (
        "Where the light goes",
        "Per incident photon. Bands are ± two standard errors; what is not known within half of itself is not drawn. "
        "Straight and specular light of a pencil beam are points or spikes of these curves and not in them. The "
        "fluence is the path that light travels per unit of depth (1 for a beam that crosses straight); layers "
        "change at the dotted lines.",
    )
}
LIMITS = (
    "Radiative transfer: no speckle, no coherent backscatter; polarisation where Stokes vectors are asked for.",
    "Plane layers of infinite width with air outside.",
    "Curves over radius and time are means under triangles between neighbouring nodes.",
    "Derivatives by the refractive index do not exist; in g a walk gives the value and its first derivative only.",
)


def names(slab: Slab) -> list[str]:
    """Layers as the user calls them."""
    media = [slab.media] if isinstance(slab.media, str) else slab.media
    count = slab.thickness.size
    return list(media) if media and len(media) == count else [f"layer {i + 1}" for i in range(count)]


def _leaf(m: Measured, unit: str, at=()) -> dict[str, Any]:
    return {"value": float(m.value[at]), "stderr": float(m.stderr[at]), "unit": unit}


def _fraction(m: Measured, photons: int, at=()) -> dict[str, Any]:
    """A part of the light; where no photon showed strayed light, the 95 % limit of what that leaves possible."""
    leaf = _leaf(m, "", at)
    return leaf | ({"below": leaf["value"] + 3 / photons} if leaf["stderr"] == 0 else {})


def figures(slab: Slab, found: Transport) -> dict[str, Any]:
    """Every figure as value, stderr and unit, for `result.json`."""
    layers = names(slab)
    out: dict[str, Any] = {name: _leaf(found.tallies[name], "") for name in FRACTIONS}
    if np.any(np.asarray(slab.mu_s) > 0):
        out |= {name: _fraction(found.tallies[name], found.photons) for name in SAMPLED}
    absorbed, dark = found.tallies["absorbed"], np.asarray(slab.mu_a) > 0
    absorptions = [
        _fraction(absorbed, found.photons, i) if dark[i] else _leaf(absorbed, "", i) for i in range(len(dark))
    ]
    out["absorbed"] = dict(zip(layers, absorptions, strict=True))
    out["balance"] = _leaf(found.tallies["balance"], "")
    slopes: dict[str, Any] = {}
    for field, by in found.slopes.items():
        for what, m in by.items():
            for j, name in enumerate(layers):
                rows = {"": ()} if what != "absorbed" else {f" in {layer}": (i,) for i, layer in enumerate(layers)}
                for label, at in rows.items():
                    slopes.setdefault(f"{what}{label}", {})[f"{field} of {name}"] = _leaf(m, UNITS[field], (*at, j))
    return out | ({"derivatives": slopes} if slopes else {})


def arrays(slab: Slab, found: Transport) -> dict[str, Array]:
    """Every curve and its standard error, with coordinates."""
    b = found.bins
    edges = np.asarray(b.edges())
    coordinates = {
        "radius": (np.asarray(b.radii()), "m", "1/m2"),
        "time": (np.asarray(b.instants()), "s", "1/s"),
        "angle": ((edges[1:] + edges[:-1]) / 2, "rad", "1/sr"),
    }
    out: dict[str, Array] = {}
    for axis, (values, unit, per) in coordinates.items():
        for side in ("reflected", "transmitted"):
            m = found.tallies[f"{axis}_{side}"]
            for suffix, array in zip(("", "_stderr"), m, strict=True):
                out[f"{axis}_{side}{suffix}"] = (array, (axis,), per, {axis: (values, unit)})
    m = found.tallies["fluence"]
    for suffix, array in zip(("", "_stderr"), m, strict=True):
        out[f"fluence{suffix}"] = (array.ravel(), ("depth",), "", {"depth": (depths(slab, b.depths), "m")})
    return out


def depths(slab: Slab, count: int) -> np.ndarray:
    """Middles of the bins of depth, all layers in a row, m."""
    thickness = np.asarray(slab.thickness)
    top = np.concatenate([[0], np.cumsum(thickness)[:-1]])
    return (top[:, None] + (np.arange(count) + 0.5) / count * thickness[:, None]).ravel()


def _rows(slab: Slab, found: Transport) -> Iterator[tuple[str, dict]]:
    leaves = figures(slab, found)
    yield from ((words, leaves[name]) for name, words in FRACTIONS.items())
    yield from ((f"absorbed in {name}", leaf) for name, leaf in leaves["absorbed"].items())
    yield "energy balance R + T + A - 1", leaves["balance"]


def text(slab: Slab, found: Transport) -> str:
    """What the command prints."""
    lines = [f"{words:<46} {plain(leaf)}" for words, leaf in _rows(slab, found)]
    head = f"{'of the incident light':<46} fraction"
    out = [head, "-" * 70, *lines]
    slopes = figures(slab, found).get("derivatives", {})
    if slopes:
        out += ["", "elasticities: relative change of the fraction per relative change of the parameter", "-" * 70]
        width = max(len(key) for row in slopes.values() for key in row)
        shown = {"reflectance": "R", "transmittance": "T"}
        out.append(f"{'':<{width}} " + " ".join(f"{symbol:>22}" for symbol in shown.values()))
        for key in slopes["reflectance"]:
            cells = [_elasticity(slab, found, name, key, slopes[name][key]) for name in shown]
            out.append(f"{key:<{width}} " + " ".join(f"{cell:>22}" for cell in cells))
    return "\n".join(out)


def _parameter(slab: Slab, key: str) -> float:
    field, layer = key.split(" of ", 1)
    return float(getattr(slab, field)[names(slab).index(layer)])


def _elasticity(slab: Slab, found: Transport, name: str, key: str, leaf: dict) -> str:
    value, size = float(found.tallies[name].value), _parameter(slab, key)
    if value <= 0:
        return "no light"
    return plain({"value": leaf["value"] * size / value, "stderr": leaf["stderr"] * abs(size) / value})


def _curves(slab: Slab, found: Transport) -> Figure:
    fig = new(8.2)
    axes = fig.subplots(2, 2)
    b = found.bins
    edges = np.degrees(np.asarray(b.edges()))
    panels = (
        (axes[0, 0], "radius", np.asarray(b.radii()) * 1e3, "distance from the beam / mm", 1e-6, "per mm²"),
        (axes[0, 1], "time", np.asarray(b.instants()) * 1e12, "time of flight in the tissue / ps", 1e-12, "per ps"),
        (axes[1, 0], "angle", (edges[1:] + edges[:-1]) / 2, "exit angle in air / degrees", 1.0, "per sr"),
    )
    for ax, axis, x, label, scale, unit in panels:
        for side, colour in (("reflected", BLUE), ("transmitted", ORANGE)):
            _band(ax, x, found.tallies[f"{axis}_{side}"], scale, colour, side)
        ax.set_xlabel(label)
        ax.set_ylabel(f"light, {unit}")
        ax.set_yscale("log")
        if ax.lines:
            ax.legend()
        else:
            ax.text(0.5, 0.5, "no strayed light", transform=ax.transAxes, ha="center", color=GREY)
    z, ax = depths(slab, b.depths) * 1e3, axes[1, 1]
    _band(ax, z, Measured(*(a.ravel() for a in found.tallies["fluence"])), 1.0, BLACK, None)
    for depth in np.cumsum(np.asarray(slab.thickness))[:-1]:
        ax.axvline(depth * 1e3, color=GREY, linestyle=":", linewidth=1)
    ax.set_xlabel("depth / mm")
    ax.set_ylabel("fluence over the plane, path per depth")
    ax.set_ylim(bottom=0)
    return fig


def _band(ax, x, m: Measured, scale: float, colour, label):
    """A curve with two standard errors; what is not known within half of itself is left out."""
    value, error = m.value * scale, m.stderr * scale
    good = (value > 0) & (error < value / 2)
    if not good.any():
        return
    value = np.where(good, value, np.nan)
    ax.plot(x, value, color=colour, linewidth=1.4, label=label)
    ax.fill_between(x, value - 2 * error, value + 2 * error, color=colour, alpha=0.25, linewidth=0)


def told(what: str, element: Element) -> str:
    """``Light: Gaussian, waist 500 µm.``"""
    fields = parameters(element).items()
    values = "".join(f", {name} {show(float(getattr(element, name)), f.metadata['unit'])}" for name, f in fields)
    return f"{what}: {type(element).__name__}{values}. "


def write(
    folder: Path,
    slab: Slab,
    light: AbstractLight,
    phase: AbstractPhaseFunction | None,
    found: Transport,
    polarised: PolarisedTransport | None,
    config: Mapping,
) -> list[Path]:
    """Figures and `report.html` in ``folder``; returns the PNG paths."""
    law = told("Scattering in all layers", phase) if phase else "Scattering: Henyey-Greenstein. "
    drawn = {"curves": printed(lambda: _curves(slab, found))}
    fractions = [[escape(words), number(leaf)] for words, leaf in _rows(slab, found)]
    layers = [
        [escape(name), *(show(float(getattr(slab, f)[i]), u) for f, u in FIELDS.items())]
        for i, name in enumerate(names(slab))
    ]
    parts = [
        "<h1>Light in tissue</h1>",
        f"<p>{found.photons:,}".replace(",", "\u202f")
        + " photons, each followed to its end. "
        + escape(told("Light", light) + law),
        "± one standard error from 32 independent blocks; what has none is exact.</p>",
        "<h2>Where it goes</h2>",
        table(["of the incident light", "fraction"], fractions, "h-"),
        *(figure(name, files["png"], CAPTIONS) for name, files in drawn.items()),
        "<h2>Layers</h2>",
        table(["layer", *FIELDS], layers, "h-----"),
    ]
    slopes = figures(slab, found).get("derivatives", {})
    if slopes:
        rows = [[escape(key), *(number(slopes[what][key]) for what in slopes)] for key in slopes["reflectance"]]
        parts += ["<h2>Derivatives</h2>", table(["by", *slopes], rows, "h" + "n" * len(slopes))]
    parts += polarisation.parts(polarised) if polarised else []
    parts += ["<h2>Limits</h2>", "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in LIMITS) + "</ul>"]
    parts.append(provenance(folder, config))
    return write_page(folder, document("Light in tissue", parts), drawn)


FIELDS = {"thickness": "m", "mu_a": "1/m", "mu_s": "1/m", "g": "", "n": ""}
