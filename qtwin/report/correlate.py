"""The report of a record of time tags: rates, delay, correlation, dead times and what looks wrong."""

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from qtwin.correlation.delay import Drift
from qtwin.correlation.histogram import Histogram
from qtwin.correlation.survey import SLICES, Survey
from qtwin.io.results import Array
from qtwin.report.figures import BLACK, BLUE, GREY, ORANGE, new, printed
from qtwin.report.pieces import document, figure, number, provenance, table, write_page

COLOURS = (BLUE, ORANGE, BLACK, GREY)
WORDS = {
    "period": ("repetition period", "folding of one channel's clicks"),
    "delay": ("delay of the second channel behind the first", "centroid of the peak, or phase of the pulses"),
    "peak_width": ("standard deviation of the peak", "joint jitter of both channels"),
    "window": ("full coincidence window", "six standard deviations of the peak, the period, or as given"),
    "coincidences": ("coincidences, all pairs, gross", "Poisson error"),
    "net_coincidences": ("coincidences less accidentals", "C − A"),
    "coincidence_rate": ("coincidences less accidentals, per second", "(C − A)/T"),
    "accidentals_singles": ("accidentals, from the singles", "S S τ/T"),
    "accidentals_sides": ("accidentals, from the sides of the histogram", "mean of the bins beside the peak"),
    "accidentals_delayed": ("accidentals, from delayed windows", "ten windows beside the peak"),
    "accidentals_side_peaks": ("coincidences per side peak", "mean of the other pulses' peaks"),
    "car": ("coincidences over accidentals, CAR", "C/A, gross"),
    "g2_zero": ("g²(0) of pulsed light, or CAR", "centre peak over the mean of the side peaks"),
    "efficiency_first": ("efficiency of the first channel (Klyshko)", "(C − A)/(S − D) of the second"),
    "efficiency_second": ("efficiency of the second channel (Klyshko)", "(C − A)/(S − D) of the first"),
    "pair_rate": ("pairs sent into both arms, per second", "S S/(C − A)/T"),
    "heralded_g2": ("heralded g²(0) of the two channels", "N_h N_h12/(N_h1 N_h2)"),
    "bunching": ("pairs 200 ns apart over those of steady light", "±200 ns, beside a peak; jackknife over pieces"),
    "drift": ("drift of the delay, per second", "straight line through the pieces of the record"),
}
CHANNEL_WORDS = {
    "clicks": "clicks",
    "rate": "clicks per second",
    "smallest_spacing": "smallest spacing of two clicks",
    "dead_time": "dead time, from the autocorrelation",
    "unsteadiness": "variance over mean of the clicks in slices of the record",
}
CAPTIONS = {
    "rates": (
        "Rates",
        f"Clicks per second in {SLICES} slices of the record; bars: standard errors of counting, smaller than the "
        "line where none is seen.",
    ),
    "correlation": (
        "Correlation of the two channels",
        "All pairs of clicks over the delay of the second channel, less the delay that was found; bars or grey: "
        "Poisson errors. Left: pairs in a bin; right: over the level of unrelated streams, g². Shaded: the window. "
        "Pulsed light: the pulses near zero, and the pairs in every peak with Poisson errors.",
    ),
    "autocorrelation": (
        "Each channel with itself",
        "g² of a channel's own clicks: dead time empties the first bins, afterpulses and bunching fill those behind. "
        "Bars: Poisson errors; the dashed lines are the dead times that were found.",
    ),
    "drift": (
        "Delay over the record",
        "Delay in pieces of the record with standard errors, and the straight line through them.",
    ),
}


def _leaf(value, error, unit: str = "") -> dict[str, Any]:
    leaf = {"value": None if value is None or not np.isfinite(value) else float(value), "stderr": None, "unit": unit}
    if leaf["value"] is None:
        return leaf | {"reason": "no accidental was counted"}
    return leaf | {"stderr": float(error) if error is not None and np.isfinite(error) else None}


def figures(s: Survey) -> dict[str, Any]:
    """Everything that was found, as value, standard error and unit."""
    ps = 1e-12
    out: dict[str, Any] = {"duration": _leaf(s.seconds, 0.0, "s"), "clock_step": _leaf(s.step * ps, 0.0, "s")}
    for c in s.channels:
        group = {
            "clicks": _leaf(c.clicks, np.sqrt(c.clicks)),
            "rate": _leaf(*c.rate, "1/s"),
            "unsteadiness": _leaf(c.unsteady, np.sqrt(2 / (SLICES - 1))),
        }
        if c.smallest is not None:
            group["smallest_spacing"] = _leaf(c.smallest * ps, 0.0, "s")
        if c.dead is not None:
            group["dead_time"] = _leaf(c.dead.value * ps, c.dead.error * ps, "s")
        out[f"channel_{c.number}"] = group
    pairs: dict[str, Any] = {}
    for key, estimate in (("period", s.period), ("delay", s.delay), ("peak_width", s.width)):
        if estimate is not None:
            pairs[key] = _leaf(estimate.value * ps, estimate.error * ps, "s")
    if s.window is not None:
        pairs["window"] = _leaf(s.window * ps, 0.0, "s")
    if s.coincidences is not None and s.net is not None:
        seconds = s.coincidences.watched * ps
        pairs["coincidences"] = _leaf(s.coincidences.counts, s.coincidences.error)
        for name, a in s.accidentals.items():
            pairs[f"accidentals_{name.replace(' ', '_')}"] = _leaf(a.value, a.error)
        pairs["net_coincidences"] = _leaf(*s.net)
        pairs["coincidence_rate"] = _leaf(s.net.value / seconds, s.net.error / seconds, "1/s")
    for key, ratio in (("g2_zero" if s.pulsed else "car", s.car), ("heralded_g2", s.heralded)):
        if ratio is not None:
            value = s.pulsed.zero if key == "g2_zero" and s.pulsed else ratio
            pairs[key] = _leaf(value.value, value.error) | {"low": float(value.low)}
            if np.isfinite(value.high):
                pairs[key]["high"] = float(value.high)
    if s.efficiencies is not None and s.coincidences is not None:
        seconds = s.coincidences.watched * ps
        pairs["efficiency_first"] = _leaf(*s.efficiencies.start)
        pairs["efficiency_second"] = _leaf(*s.efficiencies.stop)
        pairs["pair_rate"] = _leaf(s.efficiencies.pairs.value / seconds, s.efficiencies.pairs.error / seconds, "1/s")
    if s.bunching is not None:
        pairs["bunching"] = _leaf(*s.bunching)
    if s.drift is not None:
        pairs["drift"] = _leaf(s.drift.slope.value * ps, s.drift.slope.error * ps, "s/s")
    return out | ({"pairs": pairs} if pairs else {})


def arrays(s: Survey) -> dict[str, Array]:
    """Rates over time, correlation, autocorrelations and delays, with coordinates."""
    middle = (np.arange(SLICES) + 0.5) * s.seconds / SLICES + s.start * 1e-12
    out: dict[str, Array] = {}
    for c in s.channels:
        rate = c.over_time / (s.seconds / SLICES)
        out[f"rate_{c.number}"] = (rate, ("time",), "1/s", {"time": (middle, "s")})
        if c.later is not None:
            out[f"autocorrelation_{c.number}"] = _histogram(c.later, f"delay_{c.number}")
    if s.pairs is not None:
        out["correlation"] = _histogram(s.pairs, "delay")
        g2 = s.pairs.g2
        for name, values in (("g2", g2.value), ("g2_stderr", g2.error)):
            out[name] = (values, ("delay",), "", {"delay": (s.pairs.centres * 1e-12, "s")})
    if s.drift is not None:
        pieces = {"piece_time": (s.drift.times, "s")}
        out["piece_delay"] = (s.drift.delays * 1e-12, ("piece_time",), "s", pieces)
        out["piece_delay_stderr"] = (s.drift.errors * 1e-12, ("piece_time",), "s", pieces)
    return out


def _histogram(h: Histogram, dim: str) -> Array:
    return h.counts, (dim,), "", {dim: (h.centres * 1e-12, "s")}


def _rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str, dict]]:
    """What, formula, figure."""
    yield "duration", "", found["duration"]
    for name, group in found.items():
        if name.startswith("channel_"):
            for key, leaf in group.items():
                yield f"channel {name.removeprefix('channel_')}: {CHANNEL_WORDS[key]}", "", leaf
    for key, leaf in found.get("pairs", {}).items():
        words, formula = WORDS[key]
        yield words, formula, leaf


def _told(leaf: Mapping[str, Any]) -> str:
    if leaf["unit"] == "s/s":
        return number({**leaf, "value": leaf["value"], "unit": "s/s"})
    if leaf["unit"] == "s" and leaf["stderr"] and leaf["stderr"] < 1e-9 * abs(leaf["value"]):
        return f"{leaf['value'] * 1e12:.12g} ± {leaf['stderr'] * 1e12:.1g} ps of the record's own clock"
    text = number({**leaf, "unit": leaf["unit"].replace("1/s", "Hz")})
    if "low" in leaf:
        text += (
            f" (68 %: {leaf['low']:.3g} to {leaf['high']:.3g})" if "high" in leaf else f" (at least {leaf['low']:.3g})"
        )
    return text


def text(s: Survey, name: str, found: Mapping[str, Any]) -> str:
    """What the command prints."""
    rows = [(what, _told(leaf)) for what, _, leaf in _rows(found)]
    width = max(len(what) for what, _ in rows)
    of = f"channels {s.pair[0]} and {s.pair[1]}" if s.pair else "one channel"
    out = [f"{name}: {of}", "-" * 78, *(f"{what:<{width}}  {value}" for what, value in rows)]
    out += ["", "what to look at" if s.notes else "nothing looks wrong"]
    return "\n".join([*out, *(f"- {note}" for note in s.notes)])


def _rates(s: Survey) -> Figure:
    fig = new(3.6)
    ax = fig.subplots()
    width = s.seconds / SLICES
    t = (np.arange(SLICES) + 0.5) * width + s.start * 1e-12
    for i, c in enumerate(s.channels):
        error = np.sqrt(np.maximum(c.over_time, 1)) / width
        ax.errorbar(t, c.over_time / width, error, fmt=".-", color=COLOURS[i % 4], lw=1, label=f"channel {c.number}")
    ax.set_ylim(0, None)
    ax.set_xlabel("time / s")
    ax.set_ylabel("clicks per second")
    ax.legend(loc="lower right")
    return fig


def _correlation(s: Survey) -> Figure:
    assert s.pairs is not None and s.window is not None
    fig = new(4.2)
    axes = fig.subplots(1, 2, squeeze=False)[0] if s.pulsed is not None else [fig.subplots()]
    ax, h = axes[0], s.pairs
    reach = float(h.edges[-1]) if s.period is None else min(6.5 * s.period.value, float(h.edges[-1]))
    unit, scale = (1e-3, "ns") if reach >= 2000 else (1.0, "ps")
    seen = np.abs(h.centres) <= reach
    x, counts = h.centres[seen] * unit, h.counts[seen]
    deviation = np.sqrt(np.maximum(counts, 1))
    ax.axvspan(-s.window / 2 * unit, s.window / 2 * unit, color=BLUE, alpha=0.12, lw=0)
    if len(x) <= 400:
        ax.errorbar(x, counts, deviation, fmt=".", color=BLACK, ms=3, lw=0.7)
    else:
        ax.fill_between(x, counts - deviation, counts + deviation, step="mid", color=GREY, alpha=0.5, lw=0)
        ax.step(x, counts, where="mid", color=BLACK, lw=0.7)
    ax.set_ylim(0, None)
    ax.set_xlim(-reach * unit, reach * unit)
    shift = "" if s.delay is None else f" − {s.delay.value * unit:.6g} {scale}"
    ax.set_xlabel(f"delay{shift} / {scale}")
    ax.set_ylabel(f"pairs in {h.width * unit:g} {scale}")
    level = float(h.level.mean())
    right = ax.secondary_yaxis("right", functions=(lambda n: np.divide(n, level), lambda g: np.multiply(g, level)))
    right.set_ylabel("g²")
    if s.pulsed is not None:
        n, areas = s.pulsed.numbers, s.pulsed.areas
        axes[1].errorbar(n, areas, np.sqrt(np.maximum(areas, 1)), fmt=".", color=BLACK, ms=4, lw=0.8)
        axes[1].set_ylim(0, None)
        axes[1].set_xlabel("pulses between the two clicks")
        axes[1].set_ylabel("pairs")
    return fig


def _autocorrelation(s: Survey) -> Figure:
    shown = [c for c in s.channels if c.later is not None]
    fig = new(3.6)
    axes = fig.subplots(1, len(shown), squeeze=False)[0]
    for i, (ax, c) in enumerate(zip(axes, shown, strict=True)):
        assert c.later is not None
        x, g2 = c.later.centres * 1e-3, c.later.g2
        ax.errorbar(x, g2.value, g2.error, fmt=".", ms=3, lw=0.7, color=COLOURS[i % 4])
        if c.dead is not None:
            ax.axvline(c.dead.value * 1e-3, color=BLACK, ls="--", lw=1)
        ax.set_ylim(0, None)
        ax.set_xlim(0, c.later.edges[-1] * 1e-3)
        ax.set_title(f"channel {c.number}")
        ax.set_xlabel("delay / ns")
        ax.set_ylabel("g²")
    return fig


def _drift(drift: Drift) -> Figure:
    fig = new(3.6)
    ax = fig.subplots()
    line = drift.slope.value * (drift.times - drift.time)
    ax.errorbar(drift.times, drift.delays - drift.offset.value, drift.errors, fmt="o", color=BLUE, ms=4, capsize=3)
    ax.plot(drift.times, line, color=BLACK, lw=1)
    ax.set_xlabel("time / s")
    ax.set_ylabel(f"delay − {drift.offset.value:.6g} ps / ps")
    return fig


def write(folder: Path, s: Survey, name: str, found: Mapping[str, Any], config: Mapping) -> list[Path]:
    """Figures and `report.html` in ``folder``; returns the PNG paths."""
    drawn = {"rates": lambda: _rates(s)}
    if s.pairs is not None:
        drawn["correlation"] = lambda: _correlation(s)
    if any(c.later is not None for c in s.channels):
        drawn["autocorrelation"] = lambda: _autocorrelation(s)
    drift = s.drift
    if drift is not None:
        drawn["drift"] = lambda: _drift(drift)
    shown = {key: printed(make) for key, make in drawn.items()}
    rows = [[escape(what), _told(leaf), escape(formula)] for what, formula, leaf in _rows(found)]
    title = f"Time tags: {name}"
    notes = "".join(f"<li>{escape(note)}</li>" for note in s.notes)
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<h2>What to look at</h2><ul>{notes}</ul>" if s.notes else "<p>Nothing looks wrong.</p>",
        "<h2>Figures</h2>",
        table(["what", "value and standard error", "how"], rows, "hn-"),
        *(figure(key, files["png"], CAPTIONS) for key, files in shown.items()),
        provenance(folder, config),
    ]
    return write_page(folder, document(title, parts), shown)
