"""The report of a calibration: figures, arrays, pictures and one page."""

import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from qtwin.calibrate.calibration import SAME, Calibration
from qtwin.calibrate.goodness import NOTHING
from qtwin.calibrate.identify import LOOSE, Interval
from qtwin.calibrate.likelihood import LAWS
from qtwin.calibrate.plan import Planned
from qtwin.core.params import describe
from qtwin.core.units import show
from qtwin.design.free import Parameter
from qtwin.io.results import Array
from qtwin.report.calibrate_figures import CAPTIONS, identifiability, intervals, quantiles, residuals
from qtwin.report.figures import printed
from qtwin.report.pieces import document, provenance, table, write_page
from qtwin.report.pieces import figure as picture
from qtwin.report.plain import plain

POORLY = 0.01  # p-value below which the model does not explain the data
ALIKE = 0.005  # of the mean error: a plan that gains less is not worth a change
MOSTLY = 0.7  # of a standard error: half of the variance
CURVED = 0.2  # of the log of an error: beyond, the linear law is not to be trusted
RHAT, DRAWS = 1.02, 200  # beyond, or with fewer effective draws, the posterior is not to be trusted


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
            low, high = _quantiles(found, x)
            told = {"rhat": float(found.posterior.rhat[i]), "effective_draws": float(found.posterior.effective[i])}
            leaf |= {"posterior": _leaf(x.mean(), x.std(), p.unit) | {"low": low, "high": high} | told}
        out[p.key.replace(".", "_")] = leaf
    g, count = found.goodness, float(np.sum(np.asarray(found.problem.used)))
    good = {
        "deviance": _leaf(g.deviance, np.sqrt(2 * max(g.freedom, 0.0)), ""),
        "degrees_of_freedom": _leaf(g.freedom, 0.0, ""),
        "scatter_p_value" if g.scatter else "p_value": _leaf(g.p_value, g.p_stderr, "")
        if np.isfinite(g.p_value)
        else {"value": None, "stderr": None, "unit": "", "reason": g.way},
        "numbers_fitted": _leaf(count, 0.0, ""),
    }
    if found.stretch is not None:
        good["stretch_p_value"] = _leaf(found.stretch.p_value, 0.0, "")
    if found.held is not None:
        good["held_back_chi2"] = _leaf(found.held.chi2, np.sqrt(2 * len(found.held.mean)), "")
        good["held_back_numbers"] = _leaf(len(found.held.mean), 0.0, "")
        good["held_back_p_value"] = _leaf(found.held.p_value, 0.0, "")
    derived = {name: _leaf(*leaf) | _of_draws(found, name) for name, leaf in found.derived.items()}
    more = ({"derived": derived} if derived else {}) | ({"plan": _plan(found, found.planned)} if found.planned else {})
    return {"parameters": out, "goodness": good} | more


def _of_draws(found: Calibration, name: str) -> dict[str, Any]:
    """Posterior mean, standard deviation and interval of what follows from the parameters."""
    if name not in found.derived_draws:
        return {}
    x, unit = found.derived_draws[name], found.derived[name][2]
    low, high = _quantiles(found, x)
    return {"posterior": _leaf(x.mean(), x.std(), unit) | {"low": low, "high": high}}


def _quantiles(found: Calibration, x: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(x, (0.5 - found.settings.level / 2, 0.5 + found.settings.level / 2))
    return float(low), float(high)


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
        f"{found.agreeing} of {len(found.fits)} starts ended at the most probable values{_others(found)}"
        f"; the best took {int(found.fit.steps)} steps, one more gains {float(found.fit.left):.1g} in the log of its "
        "density" + (f"; walks made anew: {found.walks}." if found.walks else ".")
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
        lines.append(
            f"At an end of its range: {', '.join(edges)}; read the profile or the posterior interval there. The "
            "standard errors of the others, and of what follows from all, are those with it held at that end."
        )
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
    lines += [f"No {found.unplanned[0].lower()}{found.unplanned[1:]}."] if found.unplanned else []
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
    name = "chi-square" if found.problem.law.own_variance else "deviance"
    deviance = f"{name} {g.deviance:.1f} with {g.freedom:.1f} degrees of freedom ({law})"
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
    worst = found.stretch
    if worst is not None and worst.p_value < POORLY < g.p_value:
        where = f"from {show(worst.low, worst.unit)} to {show(worst.high, worst.unit)} {worst.part}"
        told = f"{worst.counted:.0f} counts stand where {worst.expected:.3g} are expected"
        chance = f"p = {worst.p_value:.1g} that any stretch is as far off"
        return f"The model does NOT explain the data: {where} {told} ({chance}; {deviance}, p = {g.p_value:.2g})."
    fits = "explains" if g.p_value > POORLY else "does NOT explain"
    return f"The model {fits} the data: {deviance}, p = {g.p_value:.2g} by {g.way} (below {POORLY:g} it does not)."


def _rows(found: Calibration) -> list[list[str]]:
    rows = []
    for i, p in enumerate(found.problem.free.parameters):
        f = found.expected_error
        cells = [p.key, p.shown(found.x[i]), "at an end" if found.edge[i] else p.shown(f.stderr[i], 2)]
        for interval in (found.profile, quantiles(found)):
            ends = "–" if interval is None else f"{_end(p, interval.low[i])} to {_end(p, interval.high[i])}"
            cells.append(ends)
        rows.append([*cells, found.problem.priors[i].shown(p.unit)])
    return rows


def _end(p: Parameter, end: float) -> str:
    return p.shown(end) if np.isfinite(end) else "not reached" if np.isnan(end) else "no end"


def _shown(value: float, error: float, unit: str) -> str:
    """Value and standard error, with units where they have one."""
    return f"{show(value, unit)} ± {show(error, unit, 2)}" if unit else plain(_leaf(value, error, unit))


def _drawn(found: Calibration, name: str, before: str = "") -> str:
    """Posterior interval of what follows from the parameters, in words; nothing without one."""
    if name not in found.derived_draws:
        return ""
    low, high = _quantiles(found, found.derived_draws[name])
    unit = found.derived[name][2]
    return f"{before}{show(low, unit)} to {show(high, unit)}"


def text(found: Calibration) -> str:
    """What the command prints."""
    level = f"{100 * found.settings.level:g} %"
    head = ["parameter", "value", "std error", f"profile, {level}", f"posterior, {level}", "prior"]
    rows = [head, *_rows(found)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    derived = [f"{name}: {_shown(*leaf)}{_drawn(found, name, ', posterior ')}" for name, leaf in found.derived.items()]
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
        "residuals": printed(lambda: residuals(found)),
        "parameters": printed(lambda: intervals(found)),
        "identifiability": printed(lambda: identifiability(found)),
    }
    model, level = found.problem.model, f"{100 * found.settings.level:g} %"
    rows = [[escape(cell) for cell in row] for row in _rows(found)]
    derived = [[escape(n), escape(_shown(*leaf)), _drawn(found, n) or "–"] for n, leaf in found.derived.items()]
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
        table(["what follows", "value", f"posterior, {level}"], derived, "hn-") if derived else "",
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
