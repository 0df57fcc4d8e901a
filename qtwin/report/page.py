"""The report of one comparison as one HTML page: no scripts, nothing fetched, figures inside.

The first sentence is made from the verdicts, which are made from the 95 % intervals alone.
"""

from collections.abc import Mapping
from dataclasses import fields
from html import escape
from pathlib import Path

import numpy as np

from qtwin.benchmark.comparison import INCOMPARABLE, MATCHED, Comparison, Versus
from qtwin.core.config import build, plain
from qtwin.core.params import parameters
from qtwin.core.units import show
from qtwin.report.figures import CAPTIONS, draw
from qtwin.report.pieces import document, figure, number, percent, provenance, table, write_page

OUT_OF_PLACE = (
    *("pump_tilt_x", "pump_tilt_y", "defocus", "idler_x", "idler_y", "drift_x", "drift_y"),
    *("ambient", "idler_ambient"),
)
IMPERFECT = ("recovery_time", "twilight", "jitter_tail")
EQUIPMENT = ("source", "reference", "optics", "scene", "tissue", "detector", "camera", "correlation")
CLASSES = {"arm": "quantum", "opponent": "classical"}

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
    "noise_reduction_factor": "noise reduction factor Var(x - y)/(x + y) of superpixels, clear field",
    "heralding_efficiency": "heralding efficiency: idlers whose partner is detected in the same superpixel",
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

MERITS = (
    "SNR, CNR, PSNR, d′ and AUC are those of one exposure, SNR and CNR per superpixel; CNR is the difference of the "
    "mean transmission outside and inside the object over the root of the sum of their variances; SSIM and edge width "
    "(10 to 90 %) are those of the mean image. d′ and AUC (area under the ROC curve): Hotelling observer who looks for "
    "this object in the noise that the twin expects. Information: Fisher information about the transmission per photon "
    "on the sample, over what coherent light can have at most (1/T) and over what any light can have (1/(T (1 - T)))."
)

# --- sentences ---------------------------------------------------------------------------------------------------


def sentence(versus: Versus, against: str, match: str) -> str:
    """Who wins ``against`` whom, by how much, how surely. A win is told as the larger need over the smaller."""
    i, spent = versus.interval, MATCHED[match]
    if versus.verdict == INCOMPARABLE:
        return (
            f"No verdict against {against}: the mean images of “{versus.arm}” and “{versus.opponent}” differ by "
            f"{versus.mismatch[0]:.0%} of their contrast, so their noise cannot be compared at equal image."
        )
    if versus.verdict == "no difference at this budget":
        return (
            f"No difference at this budget against {against}: for equal noise, “{versus.opponent}” needs between "
            f"{i.low:.3g} and {i.high:.3g} times the {spent} of “{versus.arm}” (95 % interval; estimate {i.value:.3g})."
        )
    if i.low > 1:
        more, fewer, value, low, high = versus.opponent, versus.arm, i.value, i.low, i.high
    else:
        more, fewer, value, low, high = versus.arm, versus.opponent, 1 / i.value, 1 / i.high, 1 / i.low
    return (
        f"{_capital(versus.verdict)} against {against}: for equal noise, “{more}” needs {value:.3g} times the {spent} "
        f"of “{fewer}” (95 % interval {low:.3g} to {high:.3g})."
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _main(comparison: Comparison) -> list[Versus]:
    """The best estimator of every protocol: against the same detector first, against the ideal one last."""
    best = [comparison.best(p) for p in comparison.protocols]
    return [v for name in best for v in comparison.versus if v.arm == name]


def _answer(comparison: Comparison) -> str:
    match, verdicts = comparison.settings.match, [v.verdict for v in comparison.versus]
    winners = [v.winner for v in comparison.versus]
    wins, losses = winners.count("arm"), winners.count("opponent")
    unlike = verdicts.count(INCOMPARABLE)
    even = len(verdicts) - wins - losses - unlike
    ours = "quantum light" if all(v.quantum for v in comparison.versus) else "the proposed arm"
    theirs = "classical light" if ours == "quantum light" else "its opponent"
    tally = f"Of {len(verdicts)} comparisons {ours} wins {wins}, {theirs} wins {losses}"
    tally += f", {even} {'shows' if even == 1 else 'show'} no difference at this budget" if even else ""
    tally += f", {unlike} cannot be compared: no sharp image." if unlike else "."
    kind = "" if wins and losses else "quantum" if wins else "classical" if losses else ""
    rest = "".join(
        f"<li>{escape(sentence(v, comparison.outcomes[v.opponent].arm.kind, match))}</li>" for v in _main(comparison)
    )
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


def _arms(figures: Mapping) -> str:
    columns = {
        "photons_incident": "photons on the field",
        "photons_absorbed": "absorbed there",
        "dose": "dose",
        "photons_detected": "photons detected",
        "counts_recorded": "counts recorded",
        "time": "time",
        "pump_energy": "energy of pump or laser",
    }
    return _columns(figures, columns)


def _columns(figures: Mapping, columns: Mapping[str, str]) -> str:
    """Table of the arms' figures ``columns``: name -> heading."""
    rows = [[escape(arm), *(number(f[key]) for key in columns)] for arm, f in figures["arms"].items()]
    return table(["arm", *columns.values()], rows, "h" + "n" * len(columns))


def _merits(figures: Mapping) -> str:
    columns = {
        "snr": "SNR",
        "cnr": "CNR",
        "psnr": "PSNR / dB",
        "ssim": "SSIM",
        "edge_width": "edge width",
        "detectability": "d′",
        "auc": "AUC",
        "information_over_coherent": "information over coherent limit",
        "information_over_quantum_limit": "over quantum limit",
    }
    if any("ssim_regularised" in f for f in figures["arms"].values()):
        columns |= {"psnr_regularised": "PSNR / dB, regularised", "ssim_regularised": "SSIM, regularised"}
    return _columns(figures, columns)


def _advantages(comparison: Comparison, figures: Mapping) -> str:
    rows = []
    for v in comparison.versus:
        f = figures["advantage"][v.arm][v.opponent]
        tag = f'<span class="tag {CLASSES.get(v.winner or "", "")}">{escape(v.verdict)}</span>'
        interval = v.interval.ends()
        rows.append([escape(v.arm), escape(v.opponent), number(f), interval, number(f["expected"]), tag])
    return table(["arm", "against", "advantage", "95 % interval", "twin expects", "verdict"], rows, "h-nnn-")


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
        return "; ".join(f"{f.metadata.get('doc', f.name)}: {_value(element, f.name)}" for f in fields(element))

    def beside(element, names) -> str:
        """What is not as in the ideal: those of ``names`` that are given and not 0."""
        given = [n for n in names if getattr(element, n) is not None and np.any(np.asarray(getattr(element, n)) != 0)]
        docs = {f.name: f.metadata["doc"] for f in fields(element) if f.name in given}
        return "".join(f"; {docs[n]}: {_value(element, n)}" for n in given)

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
        )
        + beside(t.optics, OUT_OF_PLACE),
    }
    if "ghost" not in comparison.protocols or len(comparison.protocols) > 1:
        items["Camera"] = f"{type(t.camera).__name__}, read once per superpixel; {listed(t.camera)}"
    if set(comparison.protocols) != {"twin_beams"}:
        words = "efficiency {efficiency}, dark counts {dark_rate}, dead time {dead_time}, jitter {jitter}; coincidence "
        traps = t.detector.afterpulsing
        more = beside(t.detector, IMPERFECT) + (beside(traps, ["probability"]) if traps is not None else "")
        items["Single-photon detectors"] = told(words + "window {window}", t.detector, t.correlation) + more
    items |= {
        f"Protocol: {name.replace('_', ' ')}": f"{(type(p).__doc__ or '').splitlines()[0]} {listed(p)}".strip()
        for name, p in comparison.protocols.items()
    }
    items["Budget"] = (
        f"{s.photons:g} photons per superpixel and exposure for the first arm, {MATCHED[s.match]} made equal for all "
        f"others; {s.exposures} exposures"
    )
    return "<dl>" + "".join(f"<dt>{k}</dt><dd>{escape(v)}</dd>" for k, v in items.items()) + "</dl>"


def _assumptions(comparison: Comparison, config: Mapping) -> str:
    rows = []
    parts = [(part, config.get(part)) for part in EQUIPMENT]
    parts += [(f"estimator.{name}", config["estimator"][name]) for name in comparison.protocols]
    for part, node in parts:
        if not isinstance(node, Mapping):
            continue
        element = getattr(comparison.twin, part) if hasattr(comparison.twin, part) else build(node, part)
        references = node.get("reference") or {}
        for f in fields(element):
            if (name := f.name) in node:
                cells = (f"{part}.{name}", _value(element, name), f.metadata.get("doc", ""), references.get(name, "–"))
                rows.append([escape(str(c)) for c in cells])
    return table(["parameter", "value", "meaning", "reference"], rows, "h-ww")


def _body(folder: Path, comparison: Comparison, config: Mapping, pngs: Mapping[str, bytes]) -> str:
    figures, twin = comparison.figures(), comparison.twin
    own = [line for protocol in comparison.protocols.values() for line in protocol.limits]
    thickness = show(float(np.sum(np.asarray(twin.tissue.layers().thickness))), "m")
    title = f"Quantum against classical imaging through {thickness} of tissue"
    warning = blurred(figures, float(twin.optics.pitch))
    parts = [f"<h1>{escape(title)}</h1>", _answer(comparison)]
    if warning:
        parts.append(f'<p class="warning">{escape(warning)}</p>')
    parts += [
        "<h2>The question</h2>",
        _question(comparison),
        "<h2>The answer</h2>",
        figure("advantage", pngs["advantage"], CAPTIONS),
        f"<p>Advantage = {MATCHED[comparison.settings.match]} that the opponent needs over what the arm needs, for "
        "equal variance of the transmission, pooled over the field, by more exposures of this size. Above 1 the arm is "
        "better.</p>",
        _advantages(comparison, figures),
        "<h3>Every arm with its ledger</h3>",
        _arms(figures),
        '<p class="note">Photons, dose, counts, time and energy are sums over all exposures. ± one standard error; '
        "what has none is exact.</p>",
        "<h3>Every arm with its figures of merit</h3>",
        _merits(figures),
        f'<p class="note">{escape(MERITS)}</p>',
        "<h2>Figures</h2>",
        *(figure(name, png, CAPTIONS) for name, png in pngs.items() if name != "advantage"),
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
    for name, group in figures["protocols"].items():
        parts.append(f"<h3>{escape(_capital(name.replace('_', ' ')))}</h3>" + _facts(group))
    parts += [
        "<h2>Assumptions and sources</h2>",
        _assumptions(comparison, config),
        "<h2>Limits</h2>",
        "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in (*LIMITS, *own)) + "</ul>",
        provenance(folder, config),
    ]
    return document(title, parts)


def write(folder: Path, comparison: Comparison, cfg) -> list[Path]:
    """`figures/*.png`, `figures/*.svg` and `report.html` in ``folder``, each written whole; returns the PNG paths.

    The page comes last, so that a folder with a page is complete. OSError if a file cannot be written.
    """
    config = plain(cfg)
    drawn = draw(comparison)
    page = _body(Path(folder), comparison, config, {name: files["png"] for name, files in drawn.items()})
    return write_page(Path(folder), page, drawn)
