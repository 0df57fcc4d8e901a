"""The report of a calibration: figures, arrays, pictures and one page."""

import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from qtwin.calibrate.calibration import SAME, Calibration
from qtwin.calibrate.goodness import NOTHING
from qtwin.calibrate.identify import LOOSE, Interval
from qtwin.calibrate.likelihood import LAWS
from qtwin.calibrate.plan import Planned
from qtwin.core.params import describe
from qtwin.core.units import show
from qtwin.design.free import Parameter
from qtwin.io.results import Array
from qtwin.report.figures import BLACK, BLUE, GREY, ORANGE, new, printed
from qtwin.report.pieces import document, provenance, table, write_page
from qtwin.report.pieces import figure as picture
from qtwin.report.plain import plain

POORLY = 0.01  # p-value below which the model does not explain the data
ALIKE = 0.005  # of the mean error: a plan that gains less is not worth a change
MOSTLY = 0.7  # of a standard error: half of the variance
CURVED = 0.2  # of the log of an error: beyond, the linear law is not to be trusted
RHAT, DRAWS = 1.02, 200  # beyond, or with fewer effective draws, the posterior is not to be trusted
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


def _leaf(value, stderr, unit: str, why: str = "") -> dict[str, Any]:
    ok = stderr is not None and np.isfinite(stderr)
    leaf = {"value": float(value), "stderr": float(stderr) if ok else None, "unit": unit}
    return leaf | ({"reason": why} if why and not ok else {})


def _ends(interval: Interval, i: int) -> dict[str, float | None]:
    """Both ends; none where there is no such end."""
    low, high = (float(end[i]) for end in (interval.low, interval.high))
    return {"low": low if np.isfinite(low) else None, "high": high if np.isfinite(high) else None}


def figures(found: Calibration) -> dict[str, Any]:
    """Every figure as value, stderr and unit, for `result.json`."""
    f, out = found.expected_error, {}
    for i, p in enumerate(found.problem.free.parameters):
        at = bool(found.edge[i])
        why = "at an end of its range: the profile tells" if at else ""
        leaf = _leaf(found.x[i], None if at else f.stderr[i], p.unit, why)
        leaf |= {"prior": found.problem.priors[i].shown(p.unit)}
        leaf |= {} if at else {"fisher": _ends(f, i)}
        if np.isfinite(found.observed_error[i]):
            leaf |= {"stderr_observed": float(found.observed_error[i])}
        if found.walk_error[i] > 0:
            leaf |= {"stderr_of_the_walk": float(found.walk_error[i])}
        if found.profile is not None:
            leaf |= {"profile": _ends(found.profile, i)}
            if np.isnan([found.profile.low[i], found.profile.high[i]]).any():
                walked = found.problem.at(found.fit.z).blocks(found.problem.given) is not None
                why = "the model cannot be told as far out" + (": its walk has worn out" if walked else "")
                leaf["profile"] |= {"reason": why}
        if found.draws is not None and found.posterior is not None:
            x = found.draws[:, i]
            low, high = np.quantile(x, (0.5 - found.settings.level / 2, 0.5 + found.settings.level / 2))
            told = {"rhat": float(found.posterior.rhat[i]), "effective_draws": float(found.posterior.effective[i])}
            leaf |= {"posterior": _leaf(x.mean(), x.std(), p.unit) | {"low": float(low), "high": float(high)} | told}
        out[p.key.replace(".", "_")] = leaf
    g, count = found.goodness, float(np.sum(np.asarray(found.problem.used)))
    good = {
        "deviance": _leaf(g.deviance, np.sqrt(2 * max(g.freedom, 0.0)), ""),
        "degrees_of_freedom": _leaf(g.freedom, 0.0, ""),
        "scatter_p_value" if g.scatter else "p_value": _leaf(g.p_value, g.p_stderr, ""),
        "numbers_fitted": _leaf(count, 0.0, ""),
    }
    if found.held is not None:
        good["held_back_chi2"] = _leaf(found.held.chi2, np.sqrt(2 * len(found.held.mean)), "")
        good["held_back_numbers"] = _leaf(len(found.held.mean), 0.0, "")
        good["held_back_p_value"] = _leaf(found.held.p_value, 0.0, "")
    derived = {name: _leaf(*leaf) for name, leaf in found.derived.items()}
    more = ({"derived": derived} if derived else {}) | ({"plan": _plan(found, found.planned)} if found.planned else {})
    return {"parameters": out, "goodness": good} | more


def _plan(found: Calibration, p: Planned) -> dict[str, Any]:
    """Shares of every row, and errors of every parameter: of the file, and of file and next exposure together."""
    out = {}
    for i, parameter in enumerate(found.problem.free.parameters):
        if found.edge[i]:
            continue
        kinds = {"now": (p.now[i], 0.0), "repeated": (p.repeated[i], 0.0), "planned": (p.predicted[i], 0.0)}
        kinds["simulated"] = (p.simulated[i], p.simulated_stderr[i])
        out[parameter.key.replace(".", "_")] = {k: _leaf(*pair, parameter.unit) for k, pair in kinds.items()}
    shares = {str(i): _leaf(share, 0.0, "") for i, share in enumerate(p.shares)}
    told = {"gain": _leaf(p.gain, 0.0, ""), "excess": _leaf(p.excess, 0.0, ""), "fits_left_out": _leaf(p.lost, 0.0, "")}
    return {"shares": shares, "errors": out} | told


def _plan_rows(found: Calibration, p: Planned) -> tuple[list[list[str]], list[list[str]]]:
    """Cells of the tables of shares and of errors."""
    pairs = zip(p.before, p.shares, strict=True)
    shares = [[str(i), f"{100 * a:.1f} %", f"{100 * b:.1f} %"] for i, (a, b) in enumerate(pairs)]
    errors = []
    for i, q in enumerate(found.problem.free.parameters):
        if found.edge[i]:
            continue
        drawn = f"{q.shown(p.simulated[i], 3)} ± {q.shown(p.simulated_stderr[i], 1)}"
        errors.append([q.key, *(q.shown(e[i], 3) for e in (p.now, p.repeated, p.predicted)), drawn])
    return shares, errors


def _worth(found: Calibration, p: Planned) -> str:
    """What the plan is worth against the shares that the file had."""
    out = [q.key for q, edge in zip(found.problem.free.parameters, found.edge, strict=True) if edge]
    less = f", left out: {', '.join(out)} (at an end)" if out else ""
    same = "the file's shares are as good" if p.gain < ALIKE else f"a mean error {100 * p.gain:.2g} % smaller"
    return f"The {p.criterion}-optimal next exposure, against the file's shares once more: {same}{less}."


def _plan_warnings(found: Calibration, p: Planned) -> list[str]:
    """Parameters whose fits to drawn data scatter otherwise than the linear law, by which the plan is made, says."""
    lines = []
    for i, q in enumerate(found.problem.free.parameters):
        ratio, error = p.simulated[i] / p.predicted[i], p.simulated_stderr[i] / p.predicted[i]
        if abs(np.log(ratio)) > CURVED and abs(ratio - 1) > 3 * error:
            lines.append(
                f"{q.key}: fits to drawn data scatter {ratio:.2f} ± {error:.2f} times as far as the linear law says, "
                "by which the plan is made; its shares are best for small errors, which these are not."
            )
    return lines


def arrays(found: Calibration) -> dict[str, Array]:
    """Numbers, means, standard deviations and the posterior's draws."""
    e, unit = found.problem.expect(found.fit.z), found.problem.model.unit
    out: dict[str, Array] = {
        "measured": (found.data.values, ("number",), unit, {}),
        "mean": (np.asarray(e.mean), ("number",), unit, {}),
        "std": (np.sqrt(np.asarray(e.variance)), ("number",), unit, {}),
        "fitted": (np.asarray(found.problem.used), ("number",), "1", {}),
    }
    for i, p in enumerate(found.problem.free.parameters):
        if found.draws is not None:
            out[f"posterior/{p.key}"] = (found.draws[:, i], ("draw",), p.unit or "1", {})
    if found.held is not None:
        out["predicted"] = (found.held.mean, ("held_back",), unit, {})
        out["predicted_std"] = (found.held.stderr, ("held_back",), unit, {})
    return out


# --- words ---------------------------------------------------------------------------------------------------------


def answer(found: Calibration) -> list[str]:
    """How it went, in sentences."""
    lines = [_explained(found)]
    lines.append(
        f"{found.agreeing} of {len(found.fits)} starts ended at the most probable values{_others(found)} "
        f"({int(found.fit.steps)} steps; "
        f"one more gains {float(found.fit.left):.1g} in the log of the density)"
        + (f"; walks made anew: {found.walks}." if found.walks else ".")
    )
    if found.held is not None:
        h = found.held
        kept = "predicted within their errors" if h.p_value > POORLY else "NOT predicted within their errors"
        tail = (
            ""
            if found.draws is not None
            else "; errors about the best fit alone, which draws= widens to the posterior's"
        )
        lines.append(f"{len(h.mean)} numbers held back are {kept}: chi2 {h.chi2:.1f}, p = {h.p_value:.2g}{tail}.")
    loose = [d for d in found.directions if d.looseness > LOOSE]
    for d in loose:
        if d.words.startswith("the data say nothing"):
            lines.append(f"{d.words[0].upper()}{d.words[1:]}.")
            continue
        size = f"{d.looseness:.3g} times less surely than each of them alone" if d.looseness < 1e5 else "not at all"
        lines.append(f"Moved together, the data (without priors) tell these {size}: {d.words}.")
    if not loose:
        lines.append("The data tell all free parameters apart.")
    edges = [p.key for p, at in zip(found.problem.free.parameters, found.edge, strict=True) if at]
    if edges:
        lines.append(f"At an end of its range: {', '.join(edges)}; read the profile or the posterior interval there.")
    if found.posterior is not None:
        p = found.posterior
        sure = p.rhat.max() < RHAT and p.effective.min() > DRAWS
        told = f"R-hat at most {p.rhat.max():.3f}, at least {p.effective.min():.0f} effective draws, "
        tail = "" if sure else "; too few, draw more (draws=) or give priors"
        lines.append(f"Posterior: {told}{p.diverging} steps diverged{tail}.")
    share = found.walk_error / np.where(found.edge, np.inf, np.maximum(found.expected_error.stderr, 1e-300))
    mostly = [p.key for p, part in zip(found.problem.free.parameters, share, strict=True) if part > MOSTLY]
    if mostly:
        lines.append(f"Most of the error of {', '.join(mostly)} is the walk's: more data do not make it smaller.")
    plan = [] if found.planned is None else [_worth(found, found.planned), *_plan_warnings(found, found.planned)]
    return [*lines, *found.problem.at(found.fit.z).remarks(), *found.data.notes, *plan]


def _others(found: Calibration) -> str:
    """Of starts that did not end at the most probable values."""
    values = np.array([float(f.value) if f.converged else np.nan for f in found.fits]) - float(found.fit.value)
    told, lost = np.sort(values[values >= SAME]), int(np.sum(np.isnan(values)))
    parts = []
    if len(told):
        parts.append(f"{len(told)} at others, less probable by {told[0]:.2g} or more in the log of the density")
    parts += [f"{lost} did not converge"] * (lost > 0)
    return "".join(f", {part}" for part in parts)


def _explained(found: Calibration) -> str:
    """Whether the model explains the data, or what can be said instead."""
    g, law = found.goodness, LAWS[found.problem.model.law].words
    deviance = f"deviance {g.deviance:.1f} with {g.freedom:.1f} degrees of freedom ({law})"
    if g.scatter:
        keys = [p.key for p in found.problem.free.parameters]
        p, x = found.problem.free.parameters[keys.index(g.scatter)], found.x[keys.index(g.scatter)]
        words = f"Residuals do not test the model: {g.way} ({deviance}, {g.scatter} = {p.shown(x)})."
        if found.problem.priors[keys.index(g.scatter)].kind == "flat":
            return words
        beyond = "" if g.p_value > POORLY else ": the model does NOT explain the data unless they scatter that much"
        return f"{words} Its prior gives as much scatter or more a probability of {g.p_value:.2g}{beyond}."
    if g.freedom < NOTHING:
        return f"The data do not test the model: {g.way}."
    fits = "explains" if g.p_value > POORLY else "does NOT explain"
    return f"The model {fits} the data: {deviance}, p = {g.p_value:.2g} by {g.way} (below {POORLY:g} it does not)."


def _rows(found: Calibration) -> list[list[str]]:
    rows = []
    for i, p in enumerate(found.problem.free.parameters):
        f = found.expected_error
        cells = [p.key, p.shown(found.x[i]), "at an end" if found.edge[i] else p.shown(f.stderr[i], 2)]
        for interval in (found.profile, _quantiles(found)):
            ends = "–" if interval is None else f"{_end(p, interval.low[i])} to {_end(p, interval.high[i])}"
            cells.append(ends)
        rows.append([*cells, found.problem.priors[i].shown(p.unit)])
    return rows


def _end(p: Parameter, end: float) -> str:
    return p.shown(end) if np.isfinite(end) else "not reached" if np.isnan(end) else "no end"


def _quantiles(found: Calibration) -> Interval | None:
    if found.draws is None:
        return None
    half = found.settings.level / 2
    return Interval(found.draws.std(axis=0), *np.quantile(found.draws, (0.5 - half, 0.5 + half), axis=0))


def _shown(value: float, error: float, unit: str) -> str:
    """Value and standard error, with units where they have one."""
    return f"{show(value, unit)} ± {show(error, unit, 2)}" if unit else plain(_leaf(value, error, unit))


def text(found: Calibration) -> str:
    """What the command prints."""
    level = f"{100 * found.settings.level:g} %"
    head = ["parameter", "value", "std error", f"profile, {level}", f"posterior, {level}", "prior"]
    rows = [head, *_rows(found)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    derived = [f"{name}: {_shown(*leaf)}" for name, leaf in found.derived.items()]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], "", *derived, *answer(found), *_plan_text(found)])


def _plan_text(found: Calibration) -> list[str]:
    if found.planned is None:
        return []
    shares, errors = _plan_rows(found, found.planned)
    told = ", ".join(f"{row} {after}" for row, _, after in shares if after != "0.0 %")
    lines = [
        "",
        f"The next exposure, as long as the file's and {found.planned.criterion}-optimal beside it, by row: {told}. "
        "Errors of the file, then of both together, with priors and without a walk's own:",
    ]
    for key, now, again, then, drawn in errors:
        lines.append(f"  {key}: now {now}, the file's shares again {again}, planned {then}, of drawn data {drawn}")
    lost = found.planned.lost
    return [*lines, f"  {lost} fits to drawn data did not converge and are left out."] if lost else lines


# --- pictures ------------------------------------------------------------------------------------------------------


def _residuals(found: Calibration) -> Figure:
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


def _parameters(found: Calibration) -> Figure:
    parameters = found.problem.free.parameters
    fig = new(1.3 + 0.5 * len(parameters))
    ax = fig.subplots()
    posterior = _quantiles(found)
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


def _identifiability(found: Calibration) -> Figure:
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


def _plan_page(found: Calibration) -> list[str]:
    if found.planned is None:
        return []
    shares, errors = _plan_rows(found, found.planned)
    cells = [[escape(c) for c in row] for row in errors]
    return [
        f"<h2>The next exposure, {found.planned.criterion}-optimal</h2>",
        table(["row of the file", "share in the file", "planned share"], shares, "nnn"),
        "<p>Standard errors, with priors and without a walk's own: of the file now; of the file and one more "
        "measurement of the same length together, shared as in the file and as planned; and the spread of fits to "
        f"the file and drawn data of the planned one ({found.planned.lost} that did not converge are left out).</p>",
        table(["parameter", "now", "file's shares again", "planned", "planned, drawn data"], cells, "hnnnn"),
    ]


# --- page ----------------------------------------------------------------------------------------------------------


def _marked(text: str) -> str:
    """A docstring's words as HTML."""
    return re.sub(r"``(.+?)``", r"<code>\1</code>", escape(text))


def write(folder: Path, found: Calibration, config: Mapping) -> list[Path]:
    """Figures and `report.html` in ``folder``; returns the PNG paths."""
    drawn = {
        "residuals": printed(lambda: _residuals(found)),
        "parameters": printed(lambda: _parameters(found)),
        "identifiability": printed(lambda: _identifiability(found)),
    }
    model, level = found.problem.model, f"{100 * found.settings.level:g} %"
    rows = [[escape(cell) for cell in row] for row in _rows(found)]
    derived = [[escape(name), escape(_shown(*leaf))] for name, leaf in found.derived.items()]
    first, *rest = answer(found)
    doc = (type(model).__doc__ or "").splitlines()[0]
    p = found.problem.free.parameters
    meaning = [[escape(q.key), _marked(q.doc), show(float(x), q.unit)] for q, x in zip(p, found.x, strict=True)]
    limits = "".join(f"<li>{_marked(line)}</li>" for line in model.limits)
    title = f"Calibration of {type(model).__name__}"
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<div class="answer"><p>{escape(first)}</p><ul>{"".join(f"<li>{escape(r)}</li>" for r in rest)}</ul></div>',
        f"<p>{_marked(doc)} Data: {escape(str(config.get('data')))}, {len(found.data.values)} numbers.</p>",
        "<h2>Parameters</h2>",
        table(
            ["parameter", "most probable", "std error", f"profile, {level}", f"posterior, {level}", "prior"],
            rows,
            "hnn---",
        ),
        table(["what follows", "value"], derived, "hn") if derived else "",
        *(picture(name, files["png"], CAPTIONS) for name, files in drawn.items()),
        "<h2>Meaning</h2>",
        table(["parameter", "meaning", "value"], meaning, "hwn"),
        *_plan_page(found),
        "<h2>The model as fitted</h2>",
        f"<pre>{escape(describe(found.problem.at(found.fit.z)))}</pre>",
        f"<h2>Limits</h2><ul>{limits}</ul>" if limits else "",
        provenance(folder, config),
    ]
    return write_page(folder, document(title, body), drawn)
