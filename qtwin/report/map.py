"""The report of an advantage map: figures, arrays, one picture and one page."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any, cast

import equinox as eqx
import jax
import numpy as np
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from scipy.ndimage import distance_transform_edt

from qtwin.benchmark.comparison import MATCHED, Comparison, figure
from qtwin.benchmark.map import SURE, WHY, Axis, Map
from qtwin.core.units import show
from qtwin.io.results import Array
from qtwin.report.figures import BLACK, BLUE, GREY, ORANGE, new, printed
from qtwin.report.page import LIMITS, _assumptions
from qtwin.report.pieces import document, number, percent, provenance, table, write_page
from qtwin.report.pieces import figure as picture

DIVERGING = LinearSegmentedColormap.from_list("advantage", [ORANGE, "#f3c9a8", "#f7f7f7", "#a9cde6", BLUE])
TICKS = (
    *(10.0 ** np.arange(-12, 13, 3), 10.0 ** np.arange(-12, 13)),
    np.ravel(10.0 ** np.arange(-6, 7)[:, None] * np.array([1, 2, 5])),
    np.array([0.25, 0.33, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4]),
    np.array([0.8, 0.85, 0.9, 0.95, 1, 1.05, 1.1, 1.15, 1.2]),
    np.array([0.97, 0.98, 0.99, 1, 1.01, 1.02, 1.03]),
)
PARTS = {
    "arm_better": "{arm} better",
    "opponent_better": "{opponent} better",
    "arm_surely_better": "{arm} better, beyond the band",
    "opponent_surely_better": "{opponent} better, beyond the band",
    "within_the_band": "within the band: not decided by this walk",
    "not_defined": "not defined",
}


def _named(words: str, found: Map) -> str:
    return words.format(arm=found.arm.name, opponent=found.opponent.name)


# --- figures and arrays --------------------------------------------------------------------------------------------


def fractions(found: Map) -> dict[str, dict]:
    """Parts of the points of the map; the error of what is better is half of what one of log A to both sides makes."""
    log, error, defined = found.log[:-1, :-1], found.stderr[:-1, :-1], found.why[:-1, :-1] == 0
    sure, out = found.winner(), {}
    for name, sign in (("arm_better", 1), ("opponent_better", -1)):
        more, less = (np.mean(sign * log + errors > 0) for errors in (error, -error))
        out[name] = figure(np.mean(sign * log > 0), (more - less) / 2)
    exact = {
        "arm_surely_better": sure == 1,
        "opponent_surely_better": sure == -1,
        "within_the_band": defined & (sure == 0),
        "not_defined": ~defined,
    }
    return out | {name: figure(np.mean(where), 0) for name, where in exact.items()}


def figures(found: Map) -> dict[str, Any]:
    """Every figure as value, stderr and unit, for `result.json`."""
    log, error = found.log[-1, -1], found.stderr[-1, -1]
    value = np.exp(log) if np.isfinite(log) else None
    start = {"advantage": figure(value, value * error if value is not None and np.isfinite(error) else None)}
    if value is None:
        start["advantage"]["reason"] = WHY[found.why[-1, -1]]
    crossings: dict[str, dict] = {"x": {}, "y": {}}
    for which, along in (("x", found.x), ("y", found.y)):
        start[which] = figure(along.start, 0, along.unit)
        for i, (at, doubt, rises) in enumerate(found.crossings(which), 1):
            told = figure(at, doubt if np.isfinite(doubt) else None, along.unit)
            crossings[which][str(i)] = told | {"better_above": (found.arm if rises else found.opponent).name}
    reasons = {words: int(np.sum(found.why[:-1, :-1] == i)) for i, words in enumerate(WHY) if i}
    undefined = {words: figure(count, 0) for words, count in reasons.items() if count}
    shared = {"shared_noise_left_out": figure(np.expm1(found.apart) if np.isfinite(found.apart) else None, 0)}
    return {
        "start": start,
        "map": fractions(found),
        "points_not_defined": undefined,
        "crossings": crossings,
        "method": shared | {"photons_walked": figure(found.settings.walk_photons, 0)},
    }


def modes(found: Map, along: Axis) -> np.ndarray | None:
    """Photons per mode of the source along an axis, [P]; None where it does not change them."""
    moved = along.moved.twin.source
    if not jax.tree.leaves(moved):
        return None
    gain = np.asarray(_gains(moved, found.twin.source))
    return None if np.ptp(gain) == 0 else gain[:-1]


@eqx.filter_jit
def _gains(moved, source):
    return jax.vmap(lambda part: eqx.combine(part, source).gain())(moved)


def arrays(found: Map) -> dict[str, Array]:
    """The map with its coordinates, the boundary and both edges of its band (lines parted by NaN)."""
    coordinates = {name: (along.values, along.unit) for name, along in (("y", found.y), ("x", found.x))}
    inner = np.s_[:-1, :-1]
    log, band = found.log[inner], SURE * found.stderr[inner]
    maps = {
        "advantage": np.exp(log),
        "advantage_low": np.exp(log - band),
        "advantage_high": np.exp(log + band),
        "log_advantage": log,
        "log_advantage_stderr": found.stderr[inner],
        "winner": found.winner(),  # 1 the arm, -1 its opponent, 0 neither for sure
        "why_not_defined": found.why[inner],  # number of the reason, 0 where defined
        "photons_per_superpixel/arm": found.photons[0][inner],
        "photons_per_superpixel/opponent": found.photons[1][inner],
    }
    out: dict[str, Array] = {name: (values, ("y", "x"), "1", coordinates) for name, values in maps.items()}
    for which, along in (("x", found.x), ("y", found.y)):
        if (gain := modes(found, along)) is not None:
            out[f"photons_per_mode_along_{which}"] = (gain, (which,), "1", coordinates)
    for name, errors in (("boundary", 0.0), ("boundary_low", SURE), ("boundary_high", -SURE)):
        lines = [np.concatenate([line, np.full((1, 2), np.nan)]) for line in found.boundary(errors)]
        points = np.concatenate(lines) if lines else np.full((1, 2), np.nan)
        for column, (which, along) in enumerate((("x", found.x), ("y", found.y))):
            out[f"{name}/{which}"] = (points[:, column], ("point",), along.unit, {})
    return out


# --- words ---------------------------------------------------------------------------------------------------------


def _crossing(found: Map, which: str, leaf: Mapping) -> str:
    along, other = (found.x, found.y) if which == "x" else (found.y, found.x)
    at = f"{along.key} = {number(leaf)} ({other.key} = {other.shown(other.start)})"
    return f"The advantage is 1 at {at}; above it “{leaf['better_above']}” is better."


def answer(found: Map) -> list[str]:
    """Who wins where, in sentences."""
    f = figures(found)
    part = {name: percent(leaf) for name, leaf in f["map"].items()}
    lines = [
        f"“{found.arm.name}” is better on {part['arm_better']} of the map, “{found.opponent.name}” on "
        f"{part['opponent_better']}; {part['within_the_band']} lie within the 95 % band of the walk, "
        f"{part['not_defined']} are not defined."
    ]
    told = [_crossing(found, which, leaf) for which in ("x", "y") for leaf in f["crossings"][which].values()]
    lines += told or ["On both lines through the start values the advantage never passes 1."]
    if f["start"]["advantage"]["value"] is not None:
        lines.append(f"At the start values it is {number(f['start']['advantage'])}.")
    return lines


def words(found: Map) -> dict[str, Any]:
    """Sentences of the result file."""
    codes = {str(i): text for i, text in enumerate(WHY)}
    arms = {"arm": found.arm.name, "opponent": found.opponent.name}
    return arms | {"answer": answer(found), "light": found.light, "why_not_defined": codes}


def text(found: Map) -> str:
    """What the command prints."""
    head = f"{found.arm.name} against {found.opponent.name}: {found.x.key} by {found.y.key}"
    return "\n".join([head, "-" * len(head), *answer(found), found.light])


# --- picture -------------------------------------------------------------------------------------------------------


def _edges(along: Axis) -> np.ndarray:
    even = along.even(along.values)
    middle = (even[1:] + even[:-1]) / 2
    return along.back(np.concatenate([[2 * even[0] - middle[0]], middle, [2 * even[-1] - middle[-1]]]))


def _dressed(ax, along: Axis, which: str):
    edges, axis = _edges(along), getattr(ax, f"{which}axis")
    getattr(ax, f"set_{which}scale")("log" if along.log else "linear")
    getattr(ax, f"set_{which}lim")(edges[0], edges[-1])
    steps = (1.0, 2.0, 5.0) if edges[-1] / max(edges[0], 1e-300) < 300 else (1.0,)
    axis.set_major_locator(LogLocator(10, steps) if along.log else MaxNLocator(8))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: show(value, along.unit, 3)))
    getattr(ax, f"set_{which}label")(f"{along.key}: {along.doc}")


def _claims(ax, found: Map):
    """The winner's name where its region is widest."""
    winner = found.winner()
    rows, columns = winner.shape
    for sign, arm, colour in ((1, found.arm, BLUE), (-1, found.opponent, ORANGE)):
        if np.mean(winner == sign) < 0.02:
            continue
        inside = np.pad(winner == sign, 1)
        j, i = np.unravel_index(np.argmax(distance_transform_edt(inside)), inside.shape)
        x, y = (i - 0.5) / columns, (j - 0.5) / rows  # of the axes: cells are of one size there
        across = "left" if x < 0.15 else "right" if x > 0.85 else "center"
        down = "bottom" if y < 0.15 else "top" if y > 0.85 else "center"
        halo = [withStroke(linewidth=4, foreground="white")]
        style: dict[str, Any] = {"color": colour, "fontweight": "bold", "path_effects": halo}
        name = arm.name.replace(", ", ",\n", 1)
        ax.text(x, y, f"{name}\nwins", ha=across, va=down, transform=ax.transAxes, **style)


def drawn(found: Map) -> Figure:
    """The map, its boundary with the band, and who wins where."""
    fig = new(7.2)
    ax = fig.subplots()
    log = found.log[:-1, :-1]
    known = np.abs(log[np.isfinite(log)])
    most = max(float(np.percentile(known, 98)) if known.size else 0.0, 0.02)
    _dressed(ax, found.x, "x")
    _dressed(ax, found.y, "y")
    hatched: dict[str, Any] = {"facecolor": "#eeeeee", "edgecolor": GREY, "hatch": "///", "linewidth": 0}
    ax.add_patch(Rectangle((0, 0), 1, 1, transform=ax.transAxes, zorder=0, **hatched))
    shade = ax.pcolormesh(
        _edges(found.x),
        _edges(found.y),
        np.ma.masked_invalid(log),
        cmap=DIVERGING,
        norm=Normalize(-most, most),
        rasterized=True,
    )
    for errors, style, width in ((SURE, "--", 1.0), (-SURE, "--", 1.0), (0.0, "-", 2.0)):
        for line in found.boundary(errors):
            ax.plot(*line.T, style, color=BLACK, lw=width)
    _claims(ax, found)
    ax.plot([], [], "-", color=BLACK, lw=2, label="advantage 1")
    ax.plot([], [], "--", color=BLACK, lw=1, label="its 95 % band, from the walk")
    inside = [a.values[0] <= a.start <= a.values[-1] for a in (found.x, found.y)]
    if all(inside):
        ax.plot([found.x.start], [found.y.start], "P", ms=10, mfc="white", mec=BLACK, ls="none", label="start values")
    if np.any(found.why[:-1, :-1]):
        ax.add_patch(Rectangle((0, 0), 0, 0, label="not defined", **hatched))
    fig.legend(loc="outside lower center", ncols=4)
    inner = [t[np.abs(np.log(t)) <= most] for t in TICKS]
    ticks = next((t for t in inner if len(t) >= 4), inner[-1])  # the coarsest that tells enough
    bar = fig.colorbar(shade, ax=ax, extend="both", label="advantage", ticks=np.log(ticks))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{np.exp(value):.3g}"))
    return fig


# --- page ----------------------------------------------------------------------------------------------------------


def _axes(found: Map) -> str:
    rows = []
    for along in (found.x, found.y):
        gain = modes(found, along)
        told = along.doc + (f"; photons per mode {gain.min():.3g} to {gain.max():.3g}" if gain is not None else "")
        ends = f"{along.shown(along.values[0])} to {along.shown(along.values[-1])}"
        steps = f"{len(along.values)}, {'equal ratios' if along.log else 'equal steps'}"
        rows.append([escape(cell) for cell in (along.key, told, along.shown(along.start), ends, steps)])
    return table(["parameter", "meaning", "start value", "range", "points"], rows, "hw---")


def write(folder: Path, found: Map, config: Mapping) -> list[Path]:
    """Figures and `report.html` in ``folder``; returns the PNG paths."""
    printouts = {"map": printed(lambda: drawn(found))}
    f = figures(found)
    title = f"Where “{found.arm.name}” beats “{found.opponent.name}”"
    against = f" ({found.opponent.kind})" if found.opponent.kind else ""
    captions = {
        "map": (
            "The map",
            "Advantage of the arm over its opponent: blue above 1, orange below. Solid: where it is 1; dashed: the 95 "
            "% band of that line, from blocks of the walk left out one by one. Hatched: not defined, won by nobody.",
        )
    }
    first, *rest = answer(found)
    parts = [escape(_named(words, found)) for words in PARTS.values()]
    undefined = [[escape(words), number(leaf)] for words, leaf in f["points_not_defined"].items()]
    crossings = [
        [escape(along.key), number(leaf), escape(f"{other.key} = {other.shown(other.start)}"), leaf["better_above"]]
        for which, along, other in (("x", found.x, found.y), ("y", found.y, found.x))
        for leaf in f["crossings"][which].values()
    ]
    own = [line for protocol in found.protocols.values() for line in protocol.limits]
    listed = "".join(f"<li>{escape(line)}</li>" for line in rest)
    defined = (
        f"Advantage = {MATCHED[found.settings.match]} that “{found.opponent.name}”{against} needs over what "
        f"“{found.arm.name}” needs, for equal variance of the transmission, pooled over the field, as the twin expects "
        "it. Budgets are matched in every point."
    )
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<div class="answer"><p>{escape(first)}</p><ul>{listed}</ul></div>',
        f"<p>{escape(defined)}</p>",
        picture("map", printouts["map"]["png"], captions),
        "<h2>Axes</h2>",
        _axes(found),
        "<h2>The boundary through the start values</h2>",
        table(["along", "advantage is 1 at", "with", "better above"], crossings, "hn--")
        if crossings
        else "<p>It is not met.</p>",
        "<h2>Parts of the map</h2>",
        table(["of the points", "part"], [[w, percent(f["map"][n])] for n, w in zip(PARTS, parts, strict=True)], "hn"),
        table(["not defined because", "points"], undefined, "hn") if undefined else "",
        "<h2>How it was computed</h2>",
        f"<p>{escape(found.light)} ± one standard error of what the walk alone leaves open; roots are read from cubic "
        "splines through the grid. No exposures are drawn.</p>",
        "<h2>Assumptions and sources</h2>",
        _assumptions(cast(Comparison, found), config),
        "<h2>Limits</h2>",
        "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in (*LIMITS, *own)) + "</ul>",
        provenance(folder, config),
    ]
    return write_page(folder, document(title, body), printouts)
