"""`qtwin validate`: the cases run and judged, as a table, `result.json` and a page."""

import time
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from math import floor, log10
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from qtwin.core.errors import UserError
from qtwin.io.results import config_hash, versions, write_result
from qtwin.report.figures import BLACK, BLUE, new, printed
from qtwin.report.pieces import document, figure, provenance, table, write_page
from qtwin.report.plain import plain
from qtwin.validate.cases import Case, load, own_cases
from qtwin.validate.run import FAIL, MOST, NOT_COVERED, PASS, SKIPPED, Outcome, check, chosen, reference_data, run

WORDS = {PASS: "passed", FAIL: "failed", SKIPPED: "skipped", NOT_COVERED: "not covered"}
HEAD = ("case", "source", "published", "ours", "z or part of tolerance", "verdict")
CAPTIONS = {
    "scores": (
        "Drawn comparisons",
        "Deviation of every drawn number from its exact value, in standard errors; the curve is the normal law that "
        "they must follow if values and errors are both right.",
    )
}
READING = (
    "A number passes within the spread that was published, which is half of its last digit where nothing else is "
    f"said, and {MOST:g} standard errors of what was drawn. A bound holds if all of the 95 % interval lies beyond it.",
    "z: deviation beyond the rounding, in standard errors of both sides (as a normal number where the error is that of "
    "few batches). Where both sides are exact: the deviation over what is accepted, from -1 to 1.",
    "Skipped and not covered are not passed.",
)


# --- one row ---------------------------------------------------------------------------------------------------------


def published(case: Case) -> str:
    """The published number with its spread and unit, or the bounds."""
    if case.not_covered:
        return "–"
    unit = f" {case.unit}" if case.unit else ""
    if case.expect is None:
        ends = [f"{sign} {bound:.6g}" for sign, bound in ((">", case.above), ("<", case.below)) if bound is not None]
        return f"{' and '.join(ends)}{unit}"
    if case.factor is not None:
        return f"{case.expect:.6g}{unit} within a factor of {case.factor:g}"
    if not case.within and case.error is None:
        return f"{case.expect:.10g}{unit} (exact)"
    spread = f"{case.within:.1g}" if case.error is None else f"{case.error:.2g} (1 σ)"
    return f"{case.expect:.10g} ± {spread}{unit}"


def ours(outcome: Outcome) -> str:
    """Our number, to a digit beyond its standard error or beyond the tolerance."""
    value, case = outcome.value, outcome.case
    if value is None:
        return "–"
    if outcome.stderr:
        text = plain({"value": value, "stderr": outcome.stderr})
    elif case.within and abs(value) > case.within:
        text = f"{value:.{min(12, max(3, floor(log10(abs(value))) - floor(log10(case.within)) + 2))}g}"
    else:
        text = f"{value:.6g}"
    return f"{text} {case.unit}".rstrip()


def score(outcome: Outcome) -> str:
    """z, or the part of the tolerance."""
    if outcome.z is not None:
        return f"z {outcome.z:+.2f}"
    return "" if outcome.part is None else f"{outcome.part:+.2f} of 1"


def line(outcome: Outcome) -> str:
    """One row of the printed table."""
    case = outcome.case
    cells = f"{outcome.verdict:<11} {case.name:<54} {published(case):<28} {ours(outcome):<26} {score(outcome):<11}"
    why = f" [{outcome.reason}]" if outcome.reason else ""
    return f"{cells} {case.source}{why}"


def counts(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """Verdict -> how many."""
    verdicts = [o.verdict for o in outcomes]
    return {word: verdicts.count(verdict) for verdict, word in WORDS.items()}


def summary(outcomes: Sequence[Outcome]) -> str:
    """``n passed, m failed, k skipped, j not covered``."""
    return ", ".join(f"{number} {word}" for word, number in counts(outcomes).items())


def drawn(outcomes: Iterable[Outcome]) -> np.ndarray:
    """z of the numbers that were drawn and have an exact value to meet."""
    return np.array([o.z for o in outcomes if o.z is not None and o.stderr and o.case.expect is not None])


def _statistics(outcomes: Sequence[Outcome]) -> str:
    z = drawn(outcomes)
    if len(z) < 2:
        return ""
    return (
        f"{len(z)} drawn numbers: mean square of z {np.mean(z**2):.2f} (1 is expected, ± {np.sqrt(2 / len(z)):.2f}), "
        f"largest |z| {np.abs(z).max():.2f}"
    )


# --- the folder ------------------------------------------------------------------------------------------------------


def record(outcome: Outcome) -> dict[str, Any]:
    """One case for `result.json`."""
    case = outcome.case
    number = {"value": outcome.value, "stderr": outcome.stderr, "unit": case.unit}
    bounds = {k: getattr(case, k) for k in ("expect", "within", "error", "factor", "above", "below")}
    return {
        "name": case.name,
        "group": case.group,
        "source": case.source,
        "call": {"call": case.call, "with": dict(case.arguments), "pick": list(case.pick)},
        "published": {k: v for k, v in bounds.items() if v is not None} | {"unit": case.unit},
        "ours": number if outcome.value is not None else number | {"reason": outcome.reason or outcome.verdict},
        "z": outcome.z,
        "part_of_tolerance": outcome.part,
        "verdict": outcome.verdict,
        "reason": outcome.reason,
        "note": case.note,
        "seconds": round(outcome.seconds, 3),
    }


def _scores(z: np.ndarray) -> Figure:
    fig = new(3.4)
    ax = fig.subplots()
    edges = np.arange(-5, 5.01, 0.5)
    x = np.linspace(-5, 5, 301)
    ax.hist(z, list(edges), color=BLUE, alpha=0.5)
    ax.plot(x, len(z) * 0.5 * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), color=BLACK, lw=1.2)
    ax.set_xlabel("(ours − exact)/standard error")
    ax.set_ylabel("comparisons")
    return fig


def _rows(outcomes: Iterable[Outcome]) -> list[list[str]]:
    rows = []
    for o in outcomes:
        notes = "".join(f'<br><span class="note">{escape(text)}</span>' for text in (o.case.note, o.reason) if text)
        tone = {PASS: " quantum", FAIL: " classical"}.get(o.verdict, "")
        verdict = f'<span class="tag{tone}">{o.verdict}</span>'
        cells = [escape(text) for text in (o.case.name, o.case.source, published(o.case), ours(o), score(o))]
        rows.append([cells[0].replace("_", "_<wbr>"), cells[1] + notes, *cells[2:], verdict])
    return rows


def write(folder: Path, outcomes: Sequence[Outcome], config: Mapping, seconds: float) -> None:
    """`result.json`, `report.html` and the figure in ``folder``."""
    z = drawn(outcomes)
    statistics: dict[str, Any] = {"drawn": len(z)}
    if len(z):
        statistics |= {"mean_square_z": float(np.mean(z**2)), "largest_z": float(np.abs(z).max())}
    result: dict[str, Any] = {"summary": counts(outcomes) | statistics, "cases": [record(o) for o in outcomes]}
    result |= {"versions": versions(), "seed": 0, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    result |= {"wall_seconds": round(seconds, 1), "config_hash": config_hash(config), "config": config}
    write_result(folder, result)
    title = "Validation: " + ("the full run" if config["full"] else "the quick run")
    failed = [o for o in outcomes if o.verdict == FAIL]
    shown = {"scores": printed(lambda: _scores(z))} if len(z) > 1 else {}
    tone = "classical" if failed else "quantum"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<div class="answer {tone}"><p>{escape(summary(outcomes))}.</p><p>{escape(_statistics(outcomes))}</p></div>',
        "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in READING) + "</ul>",
        "<h2>Failed</h2>" + table(HEAD, _rows(failed), "hwnnn-") if failed else "",
        *(figure(key, files["png"], CAPTIONS) for key, files in shown.items()),
    ]
    for group, some in groupby(outcomes, key=lambda o: o.case.group):
        inside = list(some)
        heading = f"{group.replace('_', ' ').capitalize()}: {summary(inside)}"
        parts.append(f"<h2>{escape(heading)}</h2>" + table(HEAD, _rows(inside), "hwnnn-"))
    write_page(folder, document(title, [*parts, provenance(folder, config)]), shown)


# --- the command -----------------------------------------------------------------------------------------------------


def validate(full: bool, words: Sequence[str], out: str | None, cases: str | None, data: str | None) -> int:
    """Run the cases (the project's, or those of the folder ``cases``), print and write them; 1 if one failed, else 0.

    UserError for cases that cannot be read, words that no case has, and folders that are not there.
    """
    start = time.perf_counter()
    source = own_cases() if cases is None else Path(cases)
    measured = reference_data(data)
    selected = chosen(load(source, full), words)
    for case in selected:
        check(case)
    folder = Path(out) if out else Path("outputs") / "validate" / time.strftime("%Y-%m-%d_%H-%M-%S")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out: {error.strerror}: {folder}; accepted is a folder that can be written") from error
    outcomes: list[Outcome] = []
    for outcome in run(selected, full, measured):
        if not outcomes or outcomes[-1].case.group != outcome.case.group:
            print(f"\n{outcome.case.group.replace('_', ' ')}")
        print(line(outcome), flush=True)
        outcomes.append(outcome)
    config = {"full": full, "only": list(words), "cases": str(source), "data": str(measured) if measured else None}
    write(folder, outcomes, config, time.perf_counter() - start)
    print()
    for verdict in (FAIL, SKIPPED):
        for reason, some in groupby(
            sorted((o for o in outcomes if o.verdict == verdict), key=lambda o: o.reason), lambda o: o.reason
        ):
            names = [o.case.name for o in some]
            what = f": {reason}" if reason else ""
            print(f"{WORDS[verdict]}{what} ({len(names)}): {'; '.join(names)}")
    print(_statistics(outcomes))
    print(f"results: {folder}")
    print(summary(outcomes))
    return 1 if any(o.verdict == FAIL for o in outcomes) else 0
