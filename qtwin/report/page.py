"""The report of one comparison as one HTML page: no scripts, nothing fetched, figures inside.

The first sentence is made from the verdicts, which are made from the 95 % intervals alone.
"""

from base64 import b64encode
from collections.abc import Iterable, Mapping
from html import escape
from math import floor, isfinite, log10
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from qtwin.benchmark.arms import FAMILIES
from qtwin.benchmark.comparison import INCOMPARABLE, Comparison, Versus
from qtwin.core.config import build, plain
from qtwin.core.errors import UserError
from qtwin.core.params import parameters
from qtwin.core.units import show
from qtwin.io.results import config_hash, read_result, write_whole
from qtwin.report.figures import CAPTIONS, draw

PARTS = ("source", "reference", "optics", "scene", "tissue", "detector", "camera", "correlation")
PREFIXES = {-18: "a", -15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}
NARROW = "\u202f"  # between thousands; lines do not break there
CLASSES = {"quantum wins": "quantum", "classical wins": "classical"}

NAMES = {
    "ballistic_fraction": "light that is never scattered (ballistic)",
    "accepted_fraction": "light accepted by the numerical aperture",
    "transmitted_fraction": "transmitted",
    "reflected_fraction": "reflected",
    "absorbed_fraction": "absorbed",
    "point_spread_rms": "point spread of the direct image, rms along one axis",
    "point_spread_within_own_superpixel": "accepted light in its own superpixel, direct image",
    "ghost_point_spread_rms": "point spread of the heralded image, rms along one axis",
    "ghost_point_spread_within_own_superpixel": "accepted light in its own superpixel, heralded image",
    "partners_within_one_superpixel": "detected signal photons whose partner lies within one superpixel",
    "photons_walked": "photons walked through the tissue",
    "pair_rate": "pairs per second",
    "photons_per_mode": "photons per mode (pair statistics are Poisson far below 1)",
    "schmidt_number": "Schmidt number: spatial modes in the beam",
    "beam_on_field": "part of the beam that meets the field",
    "beam_width": "beam width at the sample, rms",
    "correlation_width": "correlation width of partners at the sample, rms",
    "exposure_time": "time of one exposure",
    "coincidences_per_exposure": "coincidences per exposure",
    "accidentals_per_exposure": "accidental coincidences per exposure",
    "car": "coincidences over accidentals (CAR)",
    "bucket_dead_time_loss": "part of its clicks that the bucket loses to its dead time",
}

LIMITS = (
    "No speckle and no coherent backscatter: intensities of scattered light are added, fields are not.",
    "Phase matching is a Gaussian stand-in for the sinc: the wings of the true emission are missing.",
    "Light meets the sample at normal incidence; the angles inside the beam are neglected there.",
    "Pairs are counted as a Poisson process, which holds for much less than one photon per mode (the number is above).",
    "One detector element serves one superpixel; its noise is that of the whole superpixel.",
    "Where two arms form their image with different point spreads, each side is smoothed by the other's before noise "
    "is compared, so that both show the same mean image.",
    "Estimators know background, gain and illumination exactly, on the quantum and on the classical side alike.",
)

CSS = """
:root{--ink:#1a1a1a;--soft:#5a6270;--line:#dfe3e8;--blue:#0072B2;--orange:#b34700;--pale:#f5f7f9}
*{box-sizing:border-box}
body{margin:0;color:var(--ink);background:#fff;font:16px/1.55 system-ui,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 24px 64px;overflow-wrap:anywhere}
h1{font-size:1.75rem;line-height:1.25;margin:0 0 .8rem}
h2{font-size:1.3rem;margin:2.6rem 0 .6rem;padding-top:.9rem;border-top:1px solid var(--line)}
h3{font-size:1.05rem;margin:1.4rem 0 .3rem}
p{margin:.5rem 0;max-width:78ch}
.answer{border-left:6px solid var(--soft);background:var(--pale);padding:.8rem 1.1rem;margin:1rem 0}
.answer p:first-child{font-size:1.2rem;line-height:1.45;margin-top:0}
.answer.quantum{border-color:var(--blue)}.answer.classical{border-color:var(--orange)}
.warning{border:1px solid #d9b44a;background:#fff8e1;padding:.7rem 1.1rem;margin:1rem 0}
ul{padding-left:1.2rem;margin:.4rem 0}li{margin:.25rem 0;max-width:78ch}
.box{overflow-x:auto;width:fit-content;max-width:100%;margin:.6rem 0;border:1px solid var(--line);border-radius:6px}
table{border-collapse:collapse;font-size:.78rem;font-variant-numeric:tabular-nums;overflow-wrap:normal}
th,td{padding:.42rem .5rem;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
tr:last-child td,tbody tr:last-child th{border-bottom:0}
thead th{background:var(--pale);font-weight:600;vertical-align:bottom}
tbody th{font-weight:600;min-width:8.5rem}
td.n,th.n{text-align:right}td.n{white-space:nowrap}
td.w{min-width:15rem}
.tag{font-weight:600;white-space:nowrap;color:var(--soft)}.tag.quantum{color:var(--blue)}.tag.classical{color:var(--orange)}
figure{margin:1rem 0 1.6rem}figure .box{border:0;width:100%}
figure img{display:block;width:100%;min-width:700px;height:auto}
figcaption,.note{color:var(--soft);font-size:.9rem;max-width:85ch}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.35rem 1.2rem;margin:.6rem 0}
dt{font-weight:600}dd{margin:0;max-width:80ch}
footer{margin-top:2.5rem;border-top:1px solid var(--line);padding-top:.8rem;color:var(--soft);font-size:.85rem}
@media(max-width:640px){main{padding:18px 14px 40px}h1{font-size:1.4rem}.answer p:first-child{font-size:1.08rem}
dl{grid-template-columns:1fr;gap:.1rem}dd{margin-bottom:.5rem}td.w{min-width:12rem}}
@media print{body{font-size:10pt}main{max-width:none;padding:0}.box{overflow:visible}table{font-size:7.5pt}
th,td{padding:.2rem .3rem}td.n,th.n,tbody th{white-space:normal}figure img{min-width:0}
figure,tr,.answer{break-inside:avoid}}
"""


# --- numbers -----------------------------------------------------------------------------------------------------


def _known(x: float | None) -> TypeGuard[float]:
    return x is not None and isfinite(x)


def number(leaf: Mapping) -> str:
    """``7.400 ± 0.009 µJ``: two digits of the standard error, four of an exact value, a dash where undefined."""
    value, error, unit = leaf.get("value"), leaf.get("stderr"), leaf.get("unit", "")
    if not _known(value):
        return "–"
    doubt = "" if error is None or isfinite(error) else " ± ?"
    error = error if _known(error) else 0.0
    power = floor(log10(abs(value))) if value else 0
    if unit:
        scale = min(max(3 * (power // 3), min(PREFIXES)), max(PREFIXES))
        tail = f" {PREFIXES[scale]}{unit}"
    else:
        scale = power if power >= 7 or power < -3 else 0
        tail = f" × 10{str(scale).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}" if scale else ""
    value, error = value / 10.0**scale, error / 10.0**scale
    if not error:
        text = f"{value:,.0f}".replace(",", NARROW) if 1e4 <= abs(value) < 1e7 else f"{value:.4g}"
        return text + doubt + tail
    digits = min(8, 1 - floor(log10(error)))
    value, error, shown = round(value, digits), round(error, digits), max(0, digits)
    text = f"{value:,.{shown}f} ± {error:,.{shown}f}".replace(",", NARROW)
    return f"({text}){tail}" if tail.startswith(" ×") else text + tail


def percent(leaf: Mapping[str, Any]) -> str:
    scaled = {k: 100 * leaf[k] if _known(leaf[k]) else leaf[k] for k in ("value", "stderr")}
    text = number(scaled)
    return f"({text}) %" if "±" in text else f"{text} %"


# --- sentences ---------------------------------------------------------------------------------------------------


AGAINST = {
    "same": "on the same detector",
    "gated": "against an equally gated laser",
    "ideal": "against an ideal detector",
}


def sentence(versus: Versus, match: str) -> str:
    """Who wins, by how much, how surely. A win is told as the larger need over the smaller."""
    i, photons = versus.interval, "photons on the sample" if match == "incident" else "detected photons"
    kinds = {name: kind for family in FAMILIES.values() for kind, name in family.opponents.items()}
    against = AGAINST[kinds[versus.opponent]]
    if versus.verdict == INCOMPARABLE:
        return (
            f"No verdict {against}: the mean images of “{versus.arm}” and “{versus.opponent}” differ by "
            f"{versus.mismatch[0]:.0%} of their contrast, so their noise cannot be compared at equal image."
        )
    if versus.verdict == "no difference at this budget":
        return (
            f"No difference at this budget {against}: for equal noise, “{versus.opponent}” needs between {i.low:.3g} "
            f"and {i.high:.3g} times as many {photons} as “{versus.arm}” (95 % interval; estimate {i.value:.3g})."
        )
    if versus.verdict == "quantum wins":
        more, fewer, value, low, high = versus.opponent, versus.arm, i.value, i.low, i.high
    else:
        more, fewer, value, low, high = versus.arm, versus.opponent, 1 / i.value, 1 / i.high, 1 / i.low
    return (
        f"{versus.verdict.capitalize()} {against}: for equal noise, “{more}” needs {value:.3g} times as many {photons} "
        f"as “{fewer}” (95 % interval {low:.3g} to {high:.3g})."
    )


def _main(comparison: Comparison) -> list[Versus]:
    """The best estimator of every protocol: against the same detector first, against the ideal one last."""
    best = [list(FAMILIES[p].quantum)[-1] for p in comparison.settings.protocols]
    return [v for name in best for v in comparison.versus if v.arm == name]


def _answer(comparison: Comparison) -> str:
    match, verdicts = comparison.settings.match, [v.verdict for v in comparison.versus]
    wins, losses = verdicts.count("quantum wins"), verdicts.count("classical wins")
    unlike = verdicts.count(INCOMPARABLE)
    even = len(verdicts) - wins - losses - unlike
    tally = f"Of {len(verdicts)} comparisons quantum light wins {wins}, classical light wins {losses}"
    tally += f", {even} {'shows' if even == 1 else 'show'} no difference at this budget" if even else ""
    tally += f", {unlike} cannot be compared: no sharp image." if unlike else "."
    kind = "" if wins and losses else "quantum" if wins else "classical" if losses else ""
    rest = "".join(f"<li>{escape(sentence(v, match))}</li>" for v in _main(comparison))
    return f'<div class="answer {kind}"><p>{escape(tally)}</p><ul>{rest}</ul></div>'


def blurred(figures: Mapping, pitch: float) -> str | None:
    """Words for a sample in which most light is scattered; None where the image is sharp."""
    t = figures["tissue"]
    ballistic, own = t["ballistic_fraction"], t["point_spread_within_own_superpixel"]
    if ballistic["value"] >= 0.01 and own["value"] >= 0.5:
        return None
    width = t["point_spread_rms"]
    size = f"{number(width)} rms ({width['value'] / pitch:.2g} superpixels)"
    facts = (
        f"{percent(ballistic)} of the light is never scattered, {percent(t['accepted_fraction'])} is accepted by the "
        f"aperture, and of that {percent(own)} arrives in its own superpixel. The point spread is {size}. "
    )
    if own["value"] < 0.5:
        start, end = "here, quantum or classical", "The verdicts compare the noise of blurred images"
    else:
        start, end = "from unscattered light", "What is seen is formed by light that was scattered forward"
    return f"There is no sharp image {start}: {facts}{end}."


# --- parts of the page -------------------------------------------------------------------------------------------


def table(head: Iterable[str], rows: Iterable[Iterable[str]], classes: str) -> str:
    """Rows of ready HTML cells; ``classes``: one letter per column (h row head, n number, w words, - plain)."""
    kinds = [(c, "" if c in "h-" else f' class="{c}"') for c in classes]
    top = "".join(f'<th scope="col"{k}>{escape(h)}</th>' for (_, k), h in zip(kinds, head, strict=True))
    body = ""
    for row in rows:
        cells = (
            f'<th scope="row">{cell}</th>' if c == "h" else f"<td{k}>{cell}</td>"
            for (c, k), cell in zip(kinds, row, strict=True)
        )
        body += f"<tr>{''.join(cells)}</tr>\n"
    return f'<div class="box"><table><thead><tr>{top}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n'


def _arms(figures: Mapping) -> str:
    columns = {
        "photons_incident": "photons on the field",
        "photons_absorbed": "absorbed there",
        "dose": "dose",
        "counts_detected": "counts detected",
        "time": "time",
        "pump_energy": "pump energy",
        "snr": "SNR",
        "cnr": "CNR",
        "ssim": "SSIM",
    }
    rows = [[escape(arm), *(number(f[key]) for key in columns)] for arm, f in figures["arms"].items()]
    return table(["arm", *columns.values()], rows, "h" + "n" * len(columns))


def _advantages(comparison: Comparison, figures: Mapping) -> str:
    rows = []
    for v in comparison.versus:
        f = figures["advantage"][v.arm][v.opponent]
        tag = f'<span class="tag {CLASSES.get(v.verdict, "")}">{escape(v.verdict)}</span>'
        interval = v.interval.ends()
        rows.append([escape(v.arm), escape(v.opponent), number(f), interval, number(f["expected"]), tag])
    return table(["quantum arm", "against", "advantage", "95 % interval", "twin expects", "verdict"], rows, "h-nnn-")


def _check(comparison: Comparison) -> str:
    z = comparison.check.z
    if not z:
        return ""
    name, worst = max(z.items(), key=lambda item: abs(item[1]))
    where = escape(name.replace("_", " "))
    if abs(worst) < 4:
        words = f"<p>They agree: the largest |z| of {len(z)} is {abs(worst):.2f} ({where}).</p>"
    else:
        words = f"<strong>They disagree:</strong> z = {worst:.1f} ({where}). Do not trust the verdicts."
        words = f'<p class="warning">{words}</p>'
    rows = [[escape(key.replace("_", " ")), f"{value:+.2f}"] for key, value in z.items()]
    return words + table(["what is compared", "z"], rows, "-n")


def _facts(group: Mapping) -> str:
    rows = [[escape(NAMES.get(k, k.replace("_", " "))), number(leaf)] for k, leaf in group.items()]
    return table(["quantity", "value"], rows, "-n") if rows else ""


def _value(element, name: str) -> str:
    """Engineer's text of one field."""
    value, field = getattr(element, name), parameters(element).get(name)
    if value is None:
        return "not given"
    if field is None:
        return str(value)
    unit = field.metadata["unit"]
    return ", ".join(show(float(v), unit) if unit else f"{float(v):.6g}" for v in np.ravel(value))


def _question(comparison: Comparison) -> str:
    t, s = comparison.twin, comparison.settings

    def told(words: str, *elements) -> str:
        return words.format(**{name: _value(e, name) for e in elements for name in e.__dataclass_fields__})

    def listed(element) -> str:
        fields = element.__dataclass_fields__.items()
        return "; ".join(f"{f.metadata.get('doc', name)}: {_value(element, name)}" for name, f in fields)

    where = "on the sample" if s.match == "incident" else "in the records"
    items = {
        "Source": told(
            "photon pairs from {crystal_length} of {crystal}, pumped at {pump_wavelength} with {pump_power}; signal at "
            "{signal_wavelength} behind a filter of {bandwidth}; opponent: coherent light of its wavelength and shape",
            t.source,
        ),
        "Object": f"{type(t.scene).__name__}; {listed(t.scene)}",
        "Tissue": told(
            "thickness {thickness}, the object at a depth of {depth}; scattering {mu_s}, absorption {mu_a}, "
            "anisotropy {g}, refractive index {n}",
            t.tissue,
        ),
        "Optics": told(
            "far field of the crystal (lens of {focal_length}) on the sample; collected at a numerical aperture of "
            "{numerical_aperture}; {pixels} × {pixels} superpixels of {pitch}",
            t.optics,
        ),
    }
    if "twin_beams" in s.protocols:
        items["Camera"] = f"{type(t.camera).__name__}, a superpixel being one of its pixels; {listed(t.camera)}"
    if "ghost" in s.protocols:
        words = "efficiency {efficiency}, dark counts {dark_rate}, dead time {dead_time}, jitter {jitter}; coincidence "
        items["Single-photon detectors"] = told(words + "window {window}", t.detector, t.correlation)
    items["Budget"] = f"{s.photons:g} photons per superpixel and exposure, made equal {where}; {s.exposures} exposures"
    return "<dl>" + "".join(f"<dt>{k}</dt><dd>{escape(v)}</dd>" for k, v in items.items()) + "</dl>"


def _assumptions(comparison: Comparison, config: Mapping) -> str:
    rows = []
    for part in PARTS:
        node = config.get(part)
        if not isinstance(node, Mapping):
            continue
        element = build(node, part) if part == "reference" else getattr(comparison.twin, part)
        references = node.get("reference") or {}
        for name, f in element.__dataclass_fields__.items():
            if name in node:
                cells = (f"{part}.{name}", _value(element, name), f.metadata.get("doc", ""), references.get(name, "–"))
                rows.append([escape(str(c)) for c in cells])
    return table(["parameter", "value", "meaning", "reference"], rows, "h-ww")


def provenance(folder: Path, config: Mapping) -> str:
    """From the result file beside the page, if it belongs to this configuration."""
    try:
        result = read_result(folder)
        if result["config_hash"] != config_hash(config):
            return ""
    except (UserError, KeyError, OSError):
        return ""
    versions = ", ".join(f"{name} {version}" for name, version in result.get("versions", {}).items())
    facts = [versions, f"seed {result.get('seed')}", f"{result.get('time')}", f"configuration {result['config_hash']}"]
    return f"<footer>{escape(' · '.join(facts))}</footer>"


def figure(name: str, png: bytes, captions: Mapping[str, tuple[str, str]] = CAPTIONS) -> str:
    title, words = captions[name]
    source = f"data:image/png;base64,{b64encode(png).decode()}"
    return (
        f'<h3>{escape(title)}</h3><figure id="{name}"><div class="box"><img alt="{escape(title)}" src="{source}"></div>'
        f"<figcaption>{escape(words)}</figcaption></figure>\n"
    )


def _body(folder: Path, comparison: Comparison, config: Mapping, pngs: Mapping[str, bytes]) -> str:
    figures, twin = comparison.figures(), comparison.twin
    thickness = show(float(np.sum(np.asarray(twin.tissue.layers().thickness))), "m")
    title = f"Quantum against classical imaging through {thickness} of tissue"
    warning = blurred(figures, float(twin.optics.pitch))
    parts = [f"<h1>{escape(title)}</h1>", _answer(comparison)]
    if warning:
        parts.append(f'<p class="warning">{escape(warning)}</p>')
    where = "on the sample" if comparison.settings.match == "incident" else "detected"
    parts += [
        "<h2>The question</h2>",
        _question(comparison),
        "<h2>The answer</h2>",
        figure("advantage", pngs["advantage"]),
        f"<p>Advantage = photons {where} that coherent light needs over those that the quantum arm needs, for equal "
        "variance of the transmission, pooled over the field. Above 1 the quantum arm is better.</p>",
        _advantages(comparison, figures),
        "<h3>Every arm with its ledger</h3>",
        _arms(figures),
        '<p class="note">Photons, dose, counts, time and pump energy are sums over all exposures. SNR and CNR are per '
        "superpixel and exposure; CNR is the difference of the mean transmission outside and inside the object over "
        "the root of the sum of their variances; SSIM is that of the mean image. ± one standard error; what has none "
        "is exact.</p>",
        "<h2>Figures</h2>",
        *(figure(name, png) for name, png in pngs.items() if name != "advantage"),
        "<h2>One exposure carried photon by photon</h2>",
        "<p>The exposures are thinned from one walk of photons. One more was carried pair by pair from the crystal to "
        "the counts and held against the means; each z is a standard normal number if both tell the same story.</p>",
        _check(comparison),
        "<h2>Light in the set-up</h2>",
        "<h3>Tissue</h3>" + _facts(figures["tissue"]),
        '<p class="note">An rms is ruled by the few photons that stray far; what leaves its own superpixel, by all '
        "that land near a border.</p>",
        "<h3>Source</h3>" + _facts(figures["source"]),
    ]
    if figures["heralding"]:
        parts.append("<h3>Heralding</h3>" + _facts(figures["heralding"]))
    parts += [
        "<h2>Assumptions and sources</h2>",
        _assumptions(comparison, config),
        "<h2>Limits</h2>",
        "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in LIMITS) + "</ul>",
        provenance(folder, config),
    ]
    return document(title, parts)


def document(title: str, parts: Iterable[str]) -> str:
    """A self-contained page of ``parts``."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head>\n<body><main>\n"
        + "\n".join(parts)
        + "\n</main></body></html>\n"
    )


def write(folder: Path, comparison: Comparison, cfg) -> list[Path]:
    """`figures/*.png`, `figures/*.svg` and `report.html` in ``folder``, each written whole; returns the PNG paths.

    The page comes last, so that a folder with a page is complete. OSError if a file cannot be written.
    """
    config = plain(cfg)
    drawn = draw(comparison)
    page = _body(Path(folder), comparison, config, {name: files["png"] for name, files in drawn.items()})
    return write_page(Path(folder), page, drawn)


def write_page(folder: Path, page: str, drawn: Mapping[str, Mapping[str, bytes]]) -> list[Path]:
    """The figures, then the page; paths of the PNGs."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    paths = []
    for name, files in drawn.items():
        for kind, content in files.items():
            write_whole(folder / "figures" / f"{name}.{kind}", content)
        paths.append(folder / "figures" / f"{name}.png")
    write_whole(folder / "report.html", page.encode())
    return paths
