"""Pictures of a calibration: the fit and what it leaves, intervals, what the data tell apart."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from qtwin.calibrate.calibration import Calibration
from qtwin.calibrate.identify import LOOSE, Interval
from qtwin.report.figures import BLACK, BLUE, GREY, ORANGE, new

CAPTIONS = {
    "residuals": (
        "The fit and what it leaves",
        "Above: measured numbers (points, hollow where held back, ± one standard deviation), the mean of the fitted "
        "model (lines). Below: what is left, in standard deviations that the law of the numbers allows; ± 2 is shaded. "
        "Of images: what was measured, and what the fit leaves.",
    ),
    "parameters": (
        "Parameters and their intervals",
        "In units of the Fisher standard error about the most probable value: Fisher, profile and posterior intervals.",
    ),
    "identifiability": (
        "What the data tell apart",
        "Combinations of parameters: how much less surely they are known than their parts would be if the others were "
        "known (eigenvectors of the scaled information of the data; priors left out). Above the dashed line a "
        "combination is not told apart.",
    ),
}


def quantiles(found: Calibration) -> Interval | None:
    if found.draws is None:
        return None
    half = found.settings.level / 2
    return Interval(found.draws.std(axis=0), *np.quantile(found.draws, (0.5 - half, 0.5 + half), axis=0))


def residuals(found: Calibration) -> Figure:
    e, used = found.problem.expect(found.fit.z), np.asarray(found.problem.used)
    mean, std = np.asarray(e.mean), np.sqrt(np.asarray(e.variance))
    pull = (found.data.values - mean) / std
    parts = found.data.parts
    fig = new(6.4)
    axes = fig.subplots(2, len(parts), squeeze=False, gridspec_kw={"height_ratios": [2, 1]})
    for column, (name, part) in zip(axes.T, parts.items(), strict=True):
        i = part.index
        if part.shape is not None:
            top = column[0].imshow(found.data.values[i].reshape(part.shape), cmap="cividis", interpolation="nearest")
            low = column[1].imshow(pull[i].reshape(part.shape), cmap="RdBu_r", vmin=-4, vmax=4, interpolation="nearest")
            unit = found.problem.model.unit
            fig.colorbar(top, ax=column[0], label=f"({unit})²" if part.power == 2 else unit)
            fig.colorbar(low, ax=column[1], label="residual / std")
            column[0].set_title(name)
            column[1].set_xlabel("superpixel")
            continue
        scale, unit = _axis_scale(part.at, part.unit)
        x = part.at * scale
        many = len(x) > 60
        for mask, face in ((used[i], BLUE), (~used[i], "none")):
            style = {"ms": 2 if many else 5, "mfc": face, "color": BLUE, "lw": 0}
            bars = None if many else std[i][mask]
            column[0].errorbar(x[mask], found.data.values[i][mask], bars, fmt="o", elinewidth=1.2, capsize=2, **style)
            column[1].plot(x[mask], pull[i][mask], "o", **style)
        column[0].plot(x, mean[i], color=ORANGE, lw=1.6, drawstyle="steps-mid" if not many else "default")
        top, low = mean[i].max(), max(mean[i].min(), 1e-12)
        if top > 100 * low:
            column[0].set_yscale("log")
            least = min(found.data.values[i][found.data.values[i] > 0], default=low)  # counts of 0 have no place
            column[0].set_ylim(bottom=max(low, least) / 3)
        column[1].axhspan(-2, 2, color=GREY, alpha=0.2, lw=0)
        column[1].axhline(0, color=GREY, lw=0.8)
        column[0].set_title(name)
        column[1].set_xlabel(f"{part.axis} / {unit}" if unit else part.axis)
        if not unit:
            for ax in column:
                ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    images = any(part.shape is not None for part in parts.values())
    axes[0, 0].set_ylabel("superpixel" if images else found.problem.model.unit or "measured")
    axes[1, 0].set_ylabel("superpixel" if images else "residual / std")
    return fig


def _axis_scale(at: np.ndarray, unit: str) -> tuple[float, str]:
    top = float(np.max(np.abs(at), initial=0.0))
    if unit != "s" or top == 0:
        return 1.0, unit
    power = min(max(-3 * int(np.floor(np.log10(top) / 3)), 0), 12)
    return 10.0**power, {0: "s", 3: "ms", 6: "µs", 9: "ns", 12: "ps"}[power]


def intervals(found: Calibration) -> Figure:
    parameters = found.problem.free.parameters
    fig = new(1.3 + 0.5 * len(parameters))
    ax = fig.subplots()
    posterior = quantiles(found)
    scale = np.where(found.edge, posterior.stderr if posterior is not None else 1.0, found.expected_error.stderr)
    if found.profile is not None and posterior is None:
        scale = np.where(found.edge, found.profile.stderr, scale)
    scale = np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)
    ways = [("Fisher", found.expected_error, BLUE), ("profile", found.profile, ORANGE), ("posterior", posterior, BLACK)]
    rows = np.arange(len(parameters))[::-1]
    for k, (name, interval, colour) in enumerate((n, i, c) for n, i, c in ways if i is not None):
        shown = ~found.edge if name == "Fisher" else np.ones(len(rows), bool)
        low, high = ((e - found.x) / scale for e in (interval.low, interval.high))
        ax.hlines((rows - 0.22 * (k - 1))[shown], low[shown], high[shown], color=colour, lw=3, label=name)
    ax.axvline(0, color=GREY, lw=0.8)
    labels = [f"{p.key}\n{p.shown(x)}" for p, x in zip(parameters, found.x, strict=True)]
    ax.set_yticks(rows, labels, fontsize=9)
    ax.set_xlabel(f"distance from the most probable value / standard error; {100 * found.settings.level:g} % intervals")
    ax.set_xlim(-6, 6)
    ax.legend(loc="upper right")
    return fig


def identifiability(found: Calibration) -> Figure:
    parameters, shown = found.problem.free.parameters, found.directions[:8]
    fig = new(1.6 + 0.42 * max(len(shown), len(parameters) / 3))
    left, right = fig.subplots(1, 2, gridspec_kw={"width_ratios": [1, 2]})
    rows = np.arange(len(shown))[::-1]
    left.barh(rows, [min(d.looseness, 1e4) for d in shown], color=BLUE, left=0)
    left.axvline(LOOSE, color=ORANGE, ls="--")
    left.set_xscale("log")
    left.set_xlim(0.3, 2e4)
    left.set_yticks(rows, [f"combination {i + 1}" for i in range(len(shown))])
    left.set_xlabel("times less sure than its parts")
    image = right.imshow([d.vector for d in shown], cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    right.set_xticks(range(len(parameters)), [p.key for p in parameters], rotation=60, ha="right", fontsize=9)
    right.set_yticks([])
    fig.colorbar(image, ax=right, label="part of each parameter")
    return fig
