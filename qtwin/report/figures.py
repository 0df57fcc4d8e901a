"""Figures of a comparison, drawn with matplotlib's objects on the Agg canvas: no window, no global state.

Colours are those of Okabe and Ito (2008), told apart by colour-blind readers; maps use cividis or grey.
"""

from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from qtwin.benchmark.comparison import INCOMPARABLE, MATCHED, Comparison, Outcome
from qtwin.metrics.image import object_mask
from qtwin.tissue.walk import BLOCKS

BLUE, ORANGE, GREY, BLACK = "#0072B2", "#D55E00", "#777777", "#1a1a1a"
WINNER_COLOURS = {"arm": BLUE, "opponent": ORANGE}
WIDTH, DPI = 11.0, 140  # inches; wide enough that 10 pt is read at first sight
STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.formatter.use_mathtext": True,
    "svg.hashsalt": "qtwin",
    "legend.frameon": False,
}


def new(height: float) -> Figure:
    fig = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(fig)
    return fig


def _panels(comparison: Comparison, extra: int):
    """A figure with one row per family: axes of ``extra`` leading columns, and (axes, outcome) of every arm."""
    rows = [[comparison.outcomes[arm.name] for arm in p.arms()] for p in comparison.protocols.values()]
    columns = extra + max(len(r) for r in rows)
    panel = (WIDTH - 1.9) / columns  # square panels; above each a title of three lines
    fig = new((panel + 0.7) * len(rows) + 0.6)
    axes = fig.subplots(len(rows), columns, squeeze=False, sharex=True, sharey=True)
    arms = [(ax, o) for line, row in zip(axes, rows, strict=True) for ax, o in zip(line[extra:], row, strict=False)]
    for ax in axes[-1]:
        ax.set_xlabel("x / mm")
    for ax in axes[:, 0]:
        ax.set_ylabel("y / mm")
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(True)
    for line, row in zip(axes, rows, strict=True):
        for ax in line[extra + len(row) :]:
            ax.set_axis_off()
    return fig, axes, arms


def _extent(comparison: Comparison) -> tuple[float, float, float, float]:
    """Edges of the field in mm, y growing downwards."""
    optics = comparison.twin.optics
    half = float(optics.pixels * optics.pitch) / 2 * 1e3
    return (-half, half, half, -half)


def _finite(values) -> np.ndarray:
    values = np.ravel(np.asarray(values, float))
    return values[np.isfinite(values)]


def _name(outcome: Outcome) -> str:
    """Title of a panel: the name in two lines."""
    return outcome.arm.name.replace(", ", ",\n", 1)


def _merit(outcome: Outcome) -> str:
    q, e = outcome.quality, outcome.errors
    word, value, error = ("CNR", q.cnr, e.cnr) if q.cnr is not None else ("SNR", q.snr, e.snr)
    known = error is not None and np.isfinite(error)
    if not known or not error:
        return f"{word} {value:.3g}"
    digits = max(0, -int(np.floor(np.log10(error))))
    return f"{word} {value:.{digits}f} ± {error:.{digits}f}"


def images(comparison: Comparison) -> Figure:
    """The object and the mean image of every arm on one scale of transmission."""
    fig, axes, arms = _panels(comparison, extra=1)
    ranges = [np.percentile(_finite(o.image), (2, 98)) for _, o in arms if _finite(o.image).size]
    low, high = np.median(ranges, axis=0) if ranges else (0.0, 1.0)
    low, high = min(low, comparison.truth.min()), max(high, comparison.truth.max())
    if high - low < 1e-9:
        low, high = low - 0.05, high + 0.05
    show = {"extent": _extent(comparison), "vmin": low, "vmax": high, "cmap": "gray", "interpolation": "nearest"}
    for ax in axes[:, 0]:
        mappable = ax.imshow(comparison.truth, **show)
        ax.set_title("object", fontweight="bold")
    for ax, outcome in arms:
        ax.imshow(outcome.image, **show)
        ax.set_title(f"{_name(outcome)}\n{_merit(outcome)}", color=BLUE if outcome.arm.opponents else ORANGE)
    fig.colorbar(mappable, ax=axes, label="transmission", extend="both", shrink=0.9, pad=0.01)
    return fig


def noise(comparison: Comparison) -> Figure:
    """Standard deviation of the transmission in one exposure, every arm on one scale."""
    fig, axes, arms = _panels(comparison, extra=0)
    tops = [np.percentile(_finite(o.noise), 98) for _, o in arms if _finite(o.noise).size]
    top = max(tops, default=1.0) or 1.0
    for ax, outcome in arms:
        mappable = ax.imshow(outcome.noise, extent=_extent(comparison), vmin=0, vmax=top, cmap="cividis")
        values = _finite(outcome.noise)
        middle = f"median {np.median(values):.3g}" if values.size else "not defined"
        ax.set_title(f"{_name(outcome)}\n{middle}", color=BLUE if outcome.arm.opponents else ORANGE)
    label = "noise of the transmission, one exposure"
    fig.colorbar(mappable, ax=axes, label=label, extend="max", shrink=0.9, pad=0.01)
    return fig


def error(comparison: Comparison) -> Figure:
    """Mean image less the object, every arm on one scale: blur and bias, and what is left of the noise."""
    fig, axes, arms = _panels(comparison, extra=0)
    wrong = {o.arm.name: o.image - comparison.truth for _, o in arms}
    top = max((np.percentile(np.abs(_finite(w)), 98) for w in wrong.values() if _finite(w).size), default=1.0) or 1.0
    for ax, outcome in arms:
        w = wrong[outcome.arm.name]
        mappable = ax.imshow(w, extent=_extent(comparison), vmin=-top, vmax=top, cmap="RdBu")
        rms = f"rms {np.sqrt(np.mean(w**2)):.3g}" if _finite(w).size == w.size else "not defined"
        ax.set_title(f"{_name(outcome)}\n{rms}", color=BLUE if outcome.arm.opponents else ORANGE)
    fig.colorbar(mappable, ax=axes, label="mean image less object", extend="both", shrink=0.9, pad=0.01)
    return fig


def _round_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 steps of a log axis; only powers of ten where they span more than two decades."""
    decades = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    steps = (1, 2, 5) if high / low < 300 else (1,)
    return [s * 10.0**d for d in decades for s in steps if low <= s * 10.0**d <= high]


def advantage(comparison: Comparison) -> Figure:
    """Every proposed arm against each opponent: 95 % interval, what the twin expects, who wins."""
    versus = comparison.versus
    fig = new(1.5 + 0.5 * len(versus))
    ax = fig.subplots()
    position, labels, y = [], [], 0.0
    for i, v in enumerate(versus):
        y += 0.0 if i == 0 else 1.0 if versus[i - 1].arm == v.arm else 1.5
        position.append(y)
        labels.append(f"{v.arm} against\n{v.opponent}")
    shown = [v for v in versus if v.verdict != INCOMPARABLE]
    numbers = np.array(
        [[v.interval.low, v.interval.value, v.interval.high, v.expected] for v in shown] or [[1.0]], float
    )
    positive = numbers[np.isfinite(numbers) & (numbers > 0)]
    low, high = min(positive.min(), 0.7) / 1.15, max(positive.max(), 1.4) * 1.15
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    ax.set_ylim(y + 0.7, -0.8)
    ax.axvspan(low, 1, color=ORANGE, alpha=0.07, lw=0)
    ax.axvspan(1, high, color=BLUE, alpha=0.07, lw=0)
    ax.axvline(1, color=BLACK, lw=1.2)
    for v, y in zip(versus, position, strict=True):
        at, colour = v.interval, WINNER_COLOURS.get(v.winner or "", GREY)
        if v.verdict == INCOMPARABLE:
            text = f"not comparable: the images differ by {v.mismatch[0]:.0%}"
            ax.text(1.015, y, text, transform=ax.get_yaxis_transform(), va="center", color=colour)
            continue
        ax.plot([max(at.low, low), min(at.high, high)], [y, y], color=colour, alpha=0.45, lw=9, solid_capstyle="butt")
        ax.plot([at.value], [y], "|", color=colour, ms=14, mew=2.2, zorder=3)
        ax.plot([v.expected], [y + 0.3], "^", color=BLACK, ms=6, zorder=4)  # below: a narrow interval stays in sight
        text = f"{at.value:#.3g}  ({at.ends()})   {v.verdict}"
        ax.text(1.015, y, text, transform=ax.get_yaxis_transform(), va="center", color=colour)
    ax.set_yticks(position, labels, linespacing=1.05)
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_locator(FixedLocator(_round_ticks(low, high)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.spines["left"].set_visible(False)
    quantum = all(v.quantum for v in versus)
    ours, theirs = ("quantum light", "classical light") if quantum else ("the first arm", "the second arm")
    ax.set_xlabel(f"advantage: {MATCHED[comparison.settings.match]}, {theirs} over {ours}, for equal variance")
    for words, shift, align, colour in (
        (f"◀ {theirs} is better", -6, "right", ORANGE),
        (f"{ours} is better ▶", 6, "left", BLUE),
    ):
        beside: dict[str, Any] = {
            "xycoords": ax.get_xaxis_transform(),
            "textcoords": "offset points",
            "xytext": (shift, 4),
        }
        ax.annotate(words, (1, 1), **beside, ha=align, va="bottom", color=colour)
    handles = [
        ax.plot([], [], color=GREY, alpha=0.45, lw=9, solid_capstyle="butt", label="drawn exposures, 95 % interval")[0],
        ax.plot([], [], "|", color=GREY, ms=14, mew=2.2, label="estimate from them")[0],
        ax.plot([], [], "^", color=BLACK, ms=7, label="what the twin expects")[0],
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    return fig


def profile_row(truth: np.ndarray) -> int:
    """The middle row; where it misses the object, the row that holds most of it."""
    middle, mask = truth.shape[0] // 2, object_mask(truth)
    return middle if mask is None or mask[middle].any() else int(mask.sum(axis=1).argmax())


def profiles(comparison: Comparison) -> Figure:
    """Transmission along one row: best estimator of every protocol and its first opponent."""
    protocols = list(comparison.protocols)
    fig = new(3.4 * len(protocols))
    axes = fig.subplots(len(protocols), 1, squeeze=False, sharex=True)[:, 0]
    centres = np.asarray(comparison.twin.optics.centres()) * 1e3
    step = centres[1] - centres[0] if len(centres) > 1 else 1.0
    row = profile_row(comparison.truth)
    for ax, protocol in zip(axes, protocols, strict=True):
        best = comparison.best(protocol)
        opponent = comparison.outcomes[best].arm.opponents[0]
        _profile(ax, comparison, (best, opponent), centres, step, row)
    axes[-1].set_xlabel(f"x / mm, in the row at y = {centres[row]:.3g} mm")
    return fig


def _profile(ax: Axes, comparison: Comparison, names, centres, step, row):
    edges = np.append(centres - step / 2, centres[-1] + step / 2)
    ax.stairs(comparison.truth[row], edges, baseline=None, color=BLACK, lw=1.5, label="object")
    seen = [comparison.truth[row]]
    shots = np.sqrt(comparison.settings.exposures)
    for name, colour, marker, side in zip(names, (BLUE, ORANGE), "os", (-0.13, 0.13), strict=True):
        o = comparison.outcomes[name]
        mean, error = o.image[row], o.noise[row] / shots
        fmt: dict[str, Any] = {"fmt": marker, "ms": 4.5, "lw": 1.3, "color": colour}
        ax.errorbar(centres + side * step, mean, error, label=f"{name}, mean of {len(o.estimates)} exposures", **fmt)
        ax.plot(centres, o.expected[row], "--", color=colour, lw=1)
        seen += [mean - error, mean + error]
    everything = _finite(np.concatenate(seen))
    low, high = max(everything.min(), -1), min(everything.max(), 2)
    margin = 0.05 * max(high - low, 1e-3)
    ax.set_ylim(low - margin, high + margin)
    ax.plot([], [], "--", color=GREY, lw=1, label="what the twin expects")
    ax.set_ylabel("transmission")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.02), ncols=2, borderaxespad=0)


def point_spread(comparison: Comparison) -> Figure:
    """Share of the accepted light along the row through the centre of both point spreads."""
    fig = new(3.9)
    ax = fig.subplots()
    blocks = comparison.blocks
    accepted = np.asarray(blocks.accepted, float)[:, None]
    lines = [("direct image (twin beams and coherent light)", blocks.spread_direct, BLACK, "o")]
    if any(o.arm.spread == "ghost" for o in comparison.outcomes.values()):
        lines.append(("heralded image", blocks.spread_ghost, BLUE, "s"))
    lowest = 1.0
    for label, spread, colour, marker in lines:
        kernel = np.asarray(spread, float)
        reach = kernel.shape[1] // 2
        share = kernel[:, reach, :] / accepted
        mean, error = share.mean(axis=0), share.std(axis=0, ddof=1) / np.sqrt(BLOCKS)
        x = np.arange(-reach, reach + 1)
        mean = np.where(mean > 0, mean, np.nan)  # nothing there: no point, and no line across
        lowest = min(lowest, np.nanmin(mean))
        down = np.minimum(error, 0.9 * mean)  # a bar to zero has no place on a log axis
        style: dict[str, Any] = {"fmt": f"{marker}-", "color": colour, "ms": 6, "lw": 1.2, "capsize": 3, "label": label}
        ax.errorbar(x, mean, np.stack([down, np.where(mean > 0, error, np.nan)]), **style)
        ax.set_xlim(-reach - 0.4, reach + 0.4)
    ax.set_yscale("log")
    ax.set_ylim(lowest / 3, 1.5)
    pitch = float(comparison.twin.optics.pitch) * 1e6
    ax.set_xlabel(f"distance from where the light should be / superpixels of {pitch:.4g} µm")
    ax.set_ylabel("share of the accepted light")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.02), ncols=2, borderaxespad=0)
    return fig


FIGURES = {
    "advantage": advantage,
    "images": images,
    "noise": noise,
    "error": error,
    "profiles": profiles,
    "point_spread": point_spread,
}


CAPTIONS = {
    "advantage": (
        "The verdict",
        "Bars: the 95 % interval from the drawn exposures (the error of the walk included), with the estimate in it. "
        "Triangles: what the twin expects. An interval that crosses 1 decides nothing.",
    ),
    "images": (
        "Images",
        "Mean of the exposures of every arm beside the object, all on one scale of transmission. CNR: contrast over "
        "noise of one exposure, per superpixel.",
    ),
    "noise": ("Noise", "Standard deviation of the transmission from exposure to exposure, every arm on one scale."),
    "error": (
        "Error",
        "Mean of the exposures less the object, every arm on one scale: scattering and diffraction blur the edge; the "
        "rest is noise that the exposures leave.",
    ),
    "profiles": (
        "One row of the image",
        "Best estimator of every protocol and its first opponent. Bars: standard error of the mean of the "
        "exposures. Black: the object. Dashed: what the twin expects, with scattering and diffraction.",
    ),
    "point_spread": (
        "Point spread",
        "How far from its place accepted light appears, along a row. Mean and standard error over independent blocks "
        "of the walk. For the heralded image the place is the one that the idler names.",
    ),
}


def draw(comparison: Comparison) -> dict[str, dict[str, bytes]]:
    """Name -> {"png": bytes, "svg": bytes} of every figure."""
    return {name: printed(partial(make, comparison)) for name, make in FIGURES.items()}


def printed(make: Callable[[], Figure]) -> dict[str, bytes]:
    """The figure that ``make`` draws in the house's style, as PNG and as SVG."""
    kinds: dict[str, dict[str, Any]] = {"png": {}, "svg": {"metadata": {"Date": None}}}
    files = {}
    with rc_context(STYLE):
        fig = make()
        fig.draw_without_rendering()
        fig.set_layout_engine("none")  # keep the places: laying out takes longer than drawing
        for kind, date in kinds.items():
            with BytesIO() as file:
                fig.savefig(file, format=kind, facecolor="white", **date)
                files[kind] = file.getvalue()
    return files
