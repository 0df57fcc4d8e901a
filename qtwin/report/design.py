"""The report of a design: what was found, how sure it is, how far it may move, the way there."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Picture

from qtwin.core.records import Estimate
from qtwin.core.units import show
from qtwin.design.figures import FEASIBLE, PANEL, Figure
from qtwin.design.optimum import LOST, Compromise, Optimum
from qtwin.report.figures import BLACK, BLUE, GREY, ORANGE, new, printed
from qtwin.report.pieces import document, number, provenance, table, write_page
from qtwin.report.pieces import figure as picture

LIMITS = (
    "The objective alone is maximised: see above what it costs in the other figures.",
    "Photons incident and absorbed are those of the whole beam, absorbed by the tissue; “qtwin benchmark” counts those "
    "on the field, and what the object absorbs with them.",
    "The optimum is the best of the starts, inside the bounds; another may lie where no start came.",
    "Profiles and tolerances are those of one fresh walk; along parameters of the tissue its own error is not in them.",
    "Expected values are those of the arm's law, pooled over superpixels; their covariances are left out.",
    "Tolerances move one parameter alone and look at the objective, not at constraints (dotted where one is "
    "missed). result.json has slopes and the Hessian of the score (ln of an objective that is positive, else itself) "
    "by z, where x = a (b/a)^(1/(1 + e^-z)) between bounds a and b of a positive quantity.",
    "Errors are those of the walk (jackknife over its blocks); the drawn check adds the counts' own.",
    "Over tolerances, errors do not hold the choice of the deviations (design.scenarios).",
)

OPEN = (
    "As good within: where the objective is below its best by less than the standard error of its gain, at most 1 %. "
    "Held: by a bound or a constraint."
)
EDGE = 0.01  # of a value: nearer to where the objective ends, that holds it
CLOSE = 1e-3  # of a limit: nearer, a constraint holds the optimum back


def _leaf(e: Estimate, unit: str = "") -> dict[str, Any]:
    return {"value": _finite(e.value), "stderr": _finite(e.error), "unit": unit}


def _value(e: Estimate, log: bool) -> Estimate:
    return Estimate(float(np.exp(e.value)), float(np.exp(e.value)) * e.error) if log else e


def gain(best: Optimum) -> Estimate:
    """Ratio to the start where the objective is positive, else the difference."""
    return _value(best.fresh.gain, best.problem.objective.log)


def figures(best: Optimum, both: list[Compromise], second: Figure | None) -> dict[str, Any]:
    """Figures of the result file."""
    of, free = best.problem.objective, best.problem.family.free
    out: dict[str, Any] = {
        "objective": {
            "optimum": _leaf(best.fresh.objective[0], of.unit),
            "start": _leaf(best.fresh.objective[1], of.unit),
        },
        "gain": _leaf(gain(best), "" if of.log else of.unit),
        **(
            {}
            if best.robust is None
            else {"gain_over_tolerances": _leaf(_value(best.robust, of.log), "" if of.log else of.unit)}
        ),
        "information_drawn_over_start": {
            **{"value": _finite(best.drawn.value), "stderr": _finite(best.drawn.stderr), "unit": ""},
            **{"low": _finite(best.drawn.low), "high": _finite(best.drawn.high)},
        },
        "parameters": {},
        "constraints": {},
        "panel": {
            f.name: {"optimum": _leaf(a, f.unit), "start": _leaf(b, f.unit)}
            for f, (a, b) in zip(PANEL, best.fresh.panel, strict=True)
        },
        "starts": {},
    }
    for i, (p, t) in enumerate(zip(free.parameters, best.tolerances, strict=True)):
        out["parameters"][p.key] = {
            "start": {"value": float(best.start[i]), "stderr": 0.0, "unit": p.unit},
            "optimum": _optimum(best, i),
            "bounds": {"low": _finite(p.low), "high": _finite(p.high)},
            "loses_1_percent_below": _end(t.low, p.unit, t.untold[0]),
            "loses_1_percent_above": _end(t.high, p.unit, t.untold[1]),
            "slope": {"value": t.slope, "stderr": None, "unit": "score by the real line"},
            "curvature": {"value": _finite(t.curvature), "stderr": None, "unit": "score by the real line"},
        }
    for c, (e, _) in zip(best.problem.constraints, best.fresh.constrained, strict=True):
        out["constraints"][c.text] = _leaf(e, c.figure.unit)
    for i, path in enumerate(best.paths):
        out["starts"][str(i)] = {
            "score": {"value": float(path.score[-1]), "stderr": None, "unit": ""},
            "score_on_a_fresh_walk": {"value": _finite(best.afresh[i]), "stderr": None, "unit": ""},
            "steps": {"value": len(path.x) - 1, "stderr": 0.0, "unit": ""},
            "walks_renewed": {"value": path.renewed, "stderr": 0.0, "unit": ""},
            "settled": path.settled,
            "feasible": bool(np.all(path.slacks >= -FEASIBLE)),
        }
    out["hessian"] = [[_finite(v) for v in row] for row in best.hessian]
    if second is not None:
        out["front"] = {
            str(i): {
                of.name: _leaf(c.first, of.unit),
                second.name: _leaf(c.second, second.unit),
                **{p.key: _leaf(Estimate(float(v), 0.0), p.unit) for p, v in zip(free.parameters, c.x, strict=True)},
            }
            for i, c in enumerate(both[1:])
        }
    return out


def _end(value: float | None, unit: str, untold: str) -> dict[str, Any]:
    out: dict[str, Any] = {"value": value, "stderr": None, "unit": unit}
    why = untold or ("not within its bounds" if value is None else "")
    return out | ({"reason": why} if why else {})


def _finite(x: float) -> float | None:
    return float(x) if np.isfinite(x) else None


def _held(best: Optimum, i: int) -> str:
    """What keeps a parameter from where the objective still rises; empty: nothing."""
    p, t, x = best.problem.family.free.parameters[i], best.tolerances[i], float(best.x[i])
    edge, up = p.edge(x), t.slope > 0
    if edge is not None and up == (edge == p.high):
        return f"its {'upper' if up else 'lower'} bound, {p.shown(edge)}"
    if _open(best, i):
        return ""
    end, why = (t.high, t.untold[1]) if up else (t.low, t.untold[0])
    if why and end is not None and abs(end - x) < EDGE * abs(x):
        return f"the objective, as {why}"
    left = zip(best.problem.constraints, best.paths[best.best].slacks, t.held(up), strict=True)
    return " and ".join(c.text for c, s, held in left if held and s < CLOSE)


def _open(best: Optimum, i: int) -> bool:
    """Whether the objective does not determine a parameter: nowhere within its bounds it changes by 1 %."""
    t = best.tolerances[i]
    return t.low is None and t.high is None and not any(t.untold) and np.ptp(_lost(best, t.score, t.top)) < 100 * LOST


def _optimum(best: Optimum, i: int) -> dict[str, Any]:
    """An optimum is left open as far as it is as good within one standard error of the gain, at most 1 %.

    About a maximum the loss goes as the square of the way: ``LOST`` at the ends of the tolerance.
    """
    p, t, x = best.problem.family.free.parameters[i], best.tolerances[i], float(best.x[i])
    held, ends = _held(best, i), [abs(e - x) for e in (t.low, t.high) if e is not None]
    if held:
        return {"value": x, "stderr": None, "unit": p.unit, "reason": f"held by {held}"}
    if not ends:
        why = next((why for why in t.untold if why), "the objective does not determine it")
        return {"value": x, "stderr": None, "unit": p.unit, "reason": why}
    error = best.fresh.gain.error / (1.0 if best.problem.objective.log else max(abs(t.top), 1e-300))  # relative
    open_by = float(np.mean(ends) * np.sqrt(min(error / LOST, 1.0)))
    return {"value": x, "stderr": open_by, "unit": p.unit}


def arrays(best: Optimum) -> dict[str, tuple]:
    """Trace of every start and the profiles."""
    out: dict[str, tuple] = {}
    free = best.problem.family.free
    for i, path in enumerate(best.paths):
        steps = {"step": (np.arange(len(path.x), dtype=float), "1")}
        out[f"start_{i}/score"] = (path.score, ("step",), "1", steps)
        for j, p in enumerate(free.parameters):
            out[f"start_{i}/{p.key}"] = (path.x[:, j], ("step",), p.unit or "1", steps)
    for p, t in zip(free.parameters, best.tolerances, strict=True):
        out[f"profile/{p.key}"] = (t.score, ("value",), "1", {"value": (t.x, p.unit or "1")})
    return out


def _sentence(best: Optimum) -> list[str]:
    of, free = best.problem.objective, best.problem.family.free
    arm = best.problem.duel.arm.name
    how = (
        f"{number(_leaf(gain(best)))} times that of the start"
        if of.log
        else f"{number(_leaf(gain(best), of.unit))} more than at the start"
    )
    if of.sign < 0 and not of.log:
        how = how.replace("more than", "less than")
    lines = [f"“{arm}”: {_doc(best, of)} {number(_leaf(best.fresh.objective[0], of.unit))} at the optimum, {how}."]
    sets = "; ".join(
        f"{p.key} = {p.shown(x)} (from {p.shown(s)})"
        for p, x, s in zip(free.parameters, best.x, best.start, strict=True)
    )
    lines.append(f"Set: {sets}.")
    if best.robust is not None and best.problem.shaken is not None and best.problem.scatter is not None:
        shaken = zip(best.problem.shaken.free.parameters, best.problem.spreads, strict=True)
        moved = ", ".join(f"{p.key} ± {p.shown(spread)}" for p, spread in shaken)
        over = f"{'the worst of' if best.problem.worst else 'the mean over'} {len(best.problem.scatter)} deviations"
        how = "times that of the start" if of.log else "more than at the start"
        lines.append(
            f"Maximised was {over} ({moved}, standard deviations): {number(_leaf(_value(best.robust, of.log)))} {how}, "
            "for these deviations (the error is the walk's)."
        )
    d = best.drawn
    own = of.name == "information" and of.sign > 0
    lines.append(
        f"Drawn exposures{'' if own else ', whatever the objective'}: information per photon of the dose "
        f"({best.problem.duel.match}) {d.value:.3g} times that of the start, 95 % interval {d.ends()}"
        f"{'' if own else '; they do not test the objective itself'}."
    )
    for c, (e, _), left in zip(
        best.problem.constraints, best.fresh.constrained, best.paths[best.best].slacks, strict=True
    ):
        beyond = c.sign * (e.value - float(c.limit)) > CLOSE * abs(float(c.limit))
        at = "" if left >= CLOSE else ", at its limit" + (" on the walk of the climb" if beyond else "")
        lines.append(f"{c.text}{f' ({c.why})' if c.why else ''}: it is {number(_leaf(e, c.figure.unit))}{at}.")
    for i, (p, t) in enumerate(zip(free.parameters, best.tolerances, strict=True)):
        if held := _held(best, i):
            rises = "" if held.startswith("the objective") else "; beyond, the objective still rises"
            lines.append(f"{p.key}: held by {held}{rises}.")
        elif t.low is None and t.high is None and not any(t.untold):
            most = np.ptp(_lost(best, t.score[t.kept], t.top))
            lines.append(f"{p.key}: the objective does not determine it; within its bounds it changes by {most:.2g} %.")
        sides = zip(("below", "above"), t.untold, strict=True)
        why = dict.fromkeys(t.untold) if len(set(t.untold)) == 1 else {f"{side}, {w}": None for side, w in sides if w}
        lines += [f"{p.key}: {w}." for w in why if w and not held]
    loose = [i for i, path in enumerate(best.paths) if not path.settled]
    if best.best in loose:
        lines.append("The best start had not settled when its steps were spent: give it more (design.steps).")
    return lines


def _rows(best: Optimum) -> list[list[str]]:
    rows = []
    for i, (p, t) in enumerate(zip(best.problem.family.free.parameters, best.tolerances, strict=True)):
        ends = [
            p.shown(e) if e is not None else "not told" if why else "not within bounds"
            for e, why in zip((t.low, t.high), t.untold, strict=True)
        ]
        if held := _held(best, i):
            ends[int(t.slope > 0)] = "held"
        leaf = _optimum(best, i)
        if leaf["stderr"] is not None:
            doubt = f"± {p.shown(leaf['stderr'], 2)}"
        else:
            doubt = "held" if held else "not told" if any(t.untold) else "undetermined"
        rows.append([p.key, p.doc, p.shown(best.start[i]), p.shown(best.x[i]), doubt, *ends])
    return rows


def _doc(best: Optimum, f: Figure) -> str:
    against = f" (“{best.problem.duel.opponent.name}”)" if f.name == "advantage" else ""
    return (f.doc or f.name) + against


def _panel(best: Optimum) -> list[list[str]]:
    """Every figure at the start and at the optimum."""
    pairs = zip(PANEL, best.fresh.panel, strict=True)
    return [
        [f.name, _doc(best, f), *(number(_leaf(e, f.unit)) for e in (before, after))] for f, (after, before) in pairs
    ]


def _front(best: Optimum, both: list[Compromise], second: Figure) -> tuple[list[str], list[list[str]]]:
    of, free = best.problem.objective, best.problem.family.free
    head = ["", *(p.key for p in free.parameters), of.name, second.name]
    rows = []
    for i, c in enumerate(both):
        figures = [number(_leaf(e, f.unit)) for f, e in ((of, c.first), (second, c.second))]
        rows.append(
            [str(i) if i else "start", *(p.shown(v) for p, v in zip(free.parameters, c.x, strict=True)), *figures]
        )
    return head, rows


HEAD = ["parameter", "meaning", "start", "optimum", "as good within", "1 % lost below", "1 % lost above"]


def text(best: Optimum, both: list[Compromise], second: Figure | None) -> str:
    """What the command prints."""
    lines = _sentence(best)
    lines += ["", *_columns([[row[0], *row[2:]] for row in [HEAD, *_rows(best)]])]
    lines += [
        "",
        *_columns([["at the dose of the start", "start", "optimum"], *([r[0], *r[2:]] for r in _panel(best))]),
    ]
    if second is not None:
        head, rows = _front(best, both, second)
        lines += ["", *_columns([["front", *head[1:]], *rows])]
    return "\n".join(lines)


def _columns(rows: list[list[str]]) -> list[str]:
    wide = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, wide, strict=True)).rstrip() for row in rows]


# --- pictures ------------------------------------------------------------------------------------------------------


def _lost(best: Optimum, score: np.ndarray, top: float) -> np.ndarray:
    return 100 * (np.expm1(score - top) if best.problem.objective.log else (score - top) / max(abs(top), 1e-300))


def profiles(best: Optimum) -> Picture:
    """Loss of the objective along every parameter alone."""
    free = best.problem.family.free
    columns = min(3, len(free.parameters))
    rows = -(-len(free.parameters) // columns)
    fig = new(2.9 * rows + 0.4)
    axes = np.ravel(fig.subplots(rows, columns, squeeze=False))
    for ax, p, t, x in zip(axes, free.parameters, best.tolerances, best.x, strict=False):
        change = _lost(best, t.score, t.top)
        ax.plot(t.x, change, color=GREY, ls=":")
        ax.plot(t.x, np.where(t.kept, change, np.nan), color=BLUE)
        ax.axhline(-100 * LOST, color=GREY, lw=1, ls="--")
        ax.axvline(x, color=BLACK, lw=1)
        for end in (t.low, t.high):
            if end is not None:
                ax.axvline(end, color=ORANGE, lw=1)
        ax.set_xlabel(p.key)
        ax.xaxis.set_major_formatter(lambda v, _, p=p: show(v, p.unit, 3))
        ax.tick_params(axis="x", labelrotation=25)
        ax.locator_params(axis="x", nbins=5)
        ax.set_ylabel("change (%)")
    for ax in axes[len(free.parameters) :]:
        ax.remove()
    return fig


def way(best: Optimum) -> Picture:
    """Score of every start by step."""
    fig = new(3.2)
    ax = fig.subplots()
    for i, path in enumerate(best.paths):
        main = i == best.best
        ax.plot(
            path.score,
            color=BLUE if main else GREY,
            lw=2 if main else 1,
            label=f"start {i + 1}{', the best' if main else ''}",
        )
    of = best.problem.objective
    ax.set_xlabel("step")
    ax.set_ylabel(f"ln {of.name}" if of.log else f"{'-' if of.sign < 0 else ''}{of.name} ({of.unit or '1'})")
    ax.legend()
    return fig


def pareto(best: Optimum, both: list[Compromise], second: Figure) -> Picture:
    """The front of two figures, and the start."""
    fig = new(3.6)
    ax = fig.subplots()
    of = best.problem.objective
    for points, fmt, colour, label in ((both[1:], "o-", BLUE, "front"), (both[:1], "s", GREY, "start")):
        (a, a_error), (b, b_error) = (np.array([getattr(c, f) for c in points]).T for f in ("first", "second"))
        ax.errorbar(b, a, a_error, b_error, fmt=fmt, color=colour, capsize=2, label=label)
    for i, c in enumerate(both[1:], 1):
        ax.annotate(str(i), (c.second.value, c.first.value), xytext=(5, 5), textcoords="offset points", fontsize=9)
    ax.set_xlabel(f"{second.name} ({second.unit or '1'})")
    ax.set_ylabel(f"{of.name} ({of.unit or '1'})")
    ax.legend()
    return fig


CAPTIONS = {
    "profiles": (
        "How far each parameter may move",
        "Change of the objective along each parameter alone, the others at the optimum (black). Dashed: 1 % lost; "
        "orange: where; dotted: a constraint is missed.",
    ),
    "way": (
        "The way there",
        "Score by step, of every start, on the walk of the time; a jump is a walk that was renewed.",
    ),
    "front": (
        "The front",
        "No set-up within the bounds was found that is better in both. Figures and their standard errors are those of "
        "walks that no optimiser has seen, all with the same random numbers: most of the error is common to all. 1 is "
        "as good as the optimum above to 2e-4.",
    ),
}


def _front_table(best: Optimum, both: list[Compromise], second: Figure) -> str:
    head, rows = _front(best, both, second)
    return table(head, [[escape(c) for c in row] for row in rows], "h" + "n" * (len(head) - 1))


def write(folder: Path, best: Optimum, both: list[Compromise], second: Figure | None, config: Mapping) -> list[Path]:
    """Figures and `report.html` in ``folder``; returns the PNG paths."""
    printouts = {"profiles": printed(lambda: profiles(best)), "way": printed(lambda: way(best))}
    if second is not None:
        printouts["front"] = printed(lambda: pareto(best, both, second))
    first, *rest = _sentence(best)
    listed = "".join(f"<li>{escape(line)}</li>" for line in rest)
    of = best.problem.objective
    title = f"Design: the best {of.name.replace('_', ' ')} of “{best.problem.duel.arm.name}”"
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<div class="answer"><p>{escape(first)}</p><ul>{listed}</ul></div>',
        "<h2>Parameters and tolerances</h2>",
        table(HEAD, [[escape(c) for c in row] for row in _rows(best)], "hwnnnnn"),
        f"<p>{escape(OPEN)}</p>",
        "<h2>What it does to the other figures</h2>",
        "<p>One exposure, at the dose of the start; standard errors of the walk.</p>",
        table(["figure", "meaning", "start", "optimum"], [[escape(c) for c in row] for row in _panel(best)], "hwnn"),
        *(picture(name, printouts[name]["png"], CAPTIONS) for name in printouts),
        *([] if second is None else [_front_table(best, both, second)]),
        "<h2>To run it</h2>",
        f"<p>The optimum is an experiment of its own: <code>qtwin benchmark --config-dir {escape(str(folder))} "
        "experiment=optimum</code></p>",
        "<h2>Limits</h2>",
        "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in LIMITS) + "</ul>",
        provenance(folder, config),
    ]
    return write_page(folder, document(title, body), printouts)
