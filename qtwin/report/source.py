"""The report of a source of photon pairs: figures of merit, curves and constants, as text and one HTML page."""

from collections.abc import Iterator, Mapping
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from qtwin.core.params import parameters
from qtwin.core.units import show
from qtwin.io.results import Array
from qtwin.report import source_figures as draw
from qtwin.report.figures import printed
from qtwin.report.pieces import document, figure, number, provenance, table, write_page
from qtwin.report.source_figures import Findings
from qtwin.source.merits import BEAMS
from qtwin.source.phase_matching import EXPANSION

# group -> title; key -> (words, formula)
TITLES = {
    "usable": "Usable pairs",
    "phase_matching": "Phase matching",
    "fields": "Near and far field",
    "spectrum": "Spectrum",
    "counting": "Modes and photon statistics",
}
BENNINK = "overlap of three Gaussian beams (Bennink 2010)"
CONE = "integral of sinc²(Δk L/2) over directions and filter"
WORDS = {
    "pairs": ("usable pairs: both photons collected", "this is what a sweep returns"),
    "signal": ("signal photons collected", "their partners anywhere"),
    "idler": ("idler photons collected", "their partners anywhere"),
    "signal_heralding": ("signal collected when its idler is", "pairs / idlers"),
    "idler_heralding": ("idler collected when its signal is", "pairs / signals"),
    "brightness": ("usable pairs per power and filter width", "pairs / (pump power × filter)"),
    "peak_brightness": ("spectral brightness in the middle of the filter", BENNINK),
    "emitted": (
        "pairs emitted in all directions, closed form",
        "gain × area/(8π a) × ∫∫ sinc²: thin crystal, the filter as it is",
    ),
    "plane_pump": ("signals collected, plane pump", CONE),
    "filter": ("width of the filter that is integrated", "where |Δk L/2| < 55"),
    "angle": ("angle of the pump to the axis", "k_p = k_s + k_i"),
    "period": ("poling period at 25 °C", "2π m/(k_p − k_s − k_i)"),
    "temperature": ("temperature of the crystal", ""),
    "nonlinearity": ("effective nonlinearity d_eff", "e_p · d : (e_s e_i), times 2/(π m) where poled"),
    **{f"index_{b}": (f"refractive index, {b}", "Sellmeier") for b in BEAMS},
    **{f"group_index_{b}": (f"group index, {b}", "n − λ dn/dλ") for b in BEAMS},
    **{f"dispersion_{b}": (f"group-velocity dispersion, {b}", "λ³/(2π c²) d²n/dλ²") for b in BEAMS},
    **{f"walk_off_{b}": (f"walk-off, {b}", "tan ρ = −(1/n) dn/dθ") for b in BEAMS},
    "delay": ("delay of the idler behind the signal, whole crystal", "L (n_g,i − n_g,s)/c"),
    "centre_width": ("near field: std of the centre of a pair, per axis", "w/2"),
    "separation_width": ("near field: std of x_s − x_i, Gaussian, per axis", "√(2 γ a)"),
    "separation_fwhm": ("near field: FWHM of |x_s − x_i|, sinc", "3.860 √a, along a diameter"),
    "sum_width": ("far field: std of q_s + q_i, per axis", "1/w"),
    "relative_width": ("far field: std of Q, Gaussian, per axis", "1/(2 std(x_s − x_i))"),
    "relative_fwhm": ("far field: FWHM of |Q|, sinc", "2 √(1.3916/2a), along a diameter"),
    "signal_divergence": ("divergence of the signal outside: std, Gaussian, per axis", "std(q_s) λ_s/2π"),
    "emission_half_width": ("emission cone of the signal outside: half of the FWHM, sinc", "FWHM(Q)/2 λ_s/2π"),
    "schmidt_number_gaussian": ("Schmidt number in space, double Gaussian", "4 Var(x_s) Var(q_s), both axes"),
    "schmidt_number_sinc": ("Schmidt number in space, sinc", "by angular momentum"),
    "schmidt_number_sinc_thin": ("Schmidt number in space, sinc, thin crystal", "3π w²/(32 a), the limit w² ≫ a"),
    "bandwidth_signal": ("phase-matched bandwidth (FWHM), signal, continuous pump", "sinc²(Δk L/2) = 1/2, on the axis"),
    "bandwidth_idler": ("phase-matched bandwidth (FWHM), idler, continuous pump", "sinc²(Δk L/2) = 1/2, on the axis"),
    "effective_bandwidth": ("effective bandwidth behind the filter, on the axis", "(∫S dν)²/∫S² dν, continuous pump"),
    "pump_bandwidth": ("bandwidth of the pump (FWHM)", ""),
    "pulse_duration": ("duration of its transform-limited pulse (FWHM)", "(2 ln 2/π) λ²/(c Δλ)"),
    "purity_emitted": ("purity of one photon without filters", "1/K of the complex joint amplitude"),
    "modes_emitted": ("Schmidt number in frequency without filters", "1/purity"),
    "purity_filtered": ("purity of one photon behind the filters", "1/K of the complex joint amplitude"),
    "modes_filtered": ("Schmidt number in frequency behind the filters", "1/purity"),
    "marginal_signal": ("spectrum of the signal (FWHM), pulsed pump", "marginal of the joint spectrum, no filter"),
    "marginal_idler": ("spectrum of the idler (FWHM), pulsed pump", "marginal of the joint spectrum, no filter"),
    "edge": ("pairs in the outer tenth of the grid", "what the grid cuts is of this size"),
    "filter_heralding_signal": ("signal passes its filter when its idler has", "joint spectrum"),
    "filter_heralding_idler": ("idler passes its filter when its signal has", "joint spectrum"),
    **{
        f"{name}_over_steady": (
            f"{words} behind the filters, over those of a continuous pump",
            "joint spectrum, on the axis",
        )
        for name, words in (("pairs", "pairs"), ("signal", "signals"), ("idler", "idlers"))
    },
    "gain": ("pairs per mode at the peak (must stay far below 1)", "2ω_sω_i d²L²I/(n_s n_i n_p ε₀c³), I = 2P/(πw²)"),
    "gate": ("coincidence window, or time between pulses", ""),
    "pairs_per_gate": ("usable pairs per window or pulse", "R T"),
    "spatial_modes": ("transverse modes collected", "(∫r)²/∫r² of the emission in the cone × pump area"),
    "temporal_modes": (
        "modes in time and frequency, per window or pulse",
        "window × effective bandwidth, or Schmidt number",
    ),
    "g2_excess": ("g² − 1 of either arm alone", "1/K, K all modes"),
    "car": ("coincidences over accidentals, perfect detectors", "1 + R/(S_s S_i T)"),
    "heralded_g2": ("heralded g², weak herald", "μ(1 + 1/K)[2 + μ(1 + 2/K)]/[1 + μ(1 + 1/K)]², μ = S_s S_i T/R"),
}
CAPTIONS = {
    "design": (
        "Which waist, which length",
        "Usable pairs (left axis) and heralding of both arms (right axis), everything else as configured; the dot is "
        "this source. The crystal stays phase-matched.",
    ),
    "tuning": (
        "Tuning curves",
        "Signal and idler that match collinearly in this crystal, over its temperature and over its cut or poling, "
        "the rest unchanged; 200 points each. The dot is this source. Sellmeier sets as in the table of constants.",
    ),
    "fields": (
        "Near and far field",
        "In the crystal and outside. Solid: the sinc of phase matching; dashed: the Gaussian in its place that draws "
        "the benchmark's pairs; both 1 on the axis. Orange: what the collection accepts. Below: where "
        "pairs are born, and how far partners miss opposite angles; the pump alone decides both.",
    ),
    "spectrum": (
        "Spectrum",
        "|φ|² = sinc²(Δk L/2) on the axis with the full Sellmeier equations, continuous pump: partners lie at mirrored "
        "frequencies, so there is no joint amplitude on a grid. Shaded: the filter.",
    ),
    "joint": (
        "Joint spectrum",
        "|f|² = pump × phase matching before the filters, with the spectra of either photon alone; white: the filters. "
        "Phase matching with the full Sellmeier equations, the pump a transform-limited Gaussian pulse.",
    ),
}
LIMITS = (
    "Widths and Schmidt numbers: paraxial pump, one frequency, no walk-off, phase-matched on the axis.",
    "Apertures: phase matching off the axis is exact in uniaxial crystals and takes poled ones as isotropic for each "
    "ray; the pump is a plane wave there, and its divergence moves both photons afterwards.",
    "Fibres: collinear Gaussian modes, walk-off included, the three foci in the middle of the crystal.",
    "Low gain: rates grow linearly with power, which holds for far less than one pair per mode.",
    "d_eff from tensors at 1064 nm: 10 to 20 % more at blue pumps (Miller's rule) is left out, so rates may be 20 to "
    "40 % low; the tensors themselves are known within some 10 %.",
    "Every colour of a pulsed pump emits as a continuous one of its power does; what then passes the filters is read "
    "from the joint spectrum on the axis.",
    "Pairs as they are born: no Fresnel loss, no absorption, no efficiency of filters, fibres or detectors.",
)
PLAIN = {
    "1/s": (1.0, "/s"),
    "rad/m": (1e-3, "rad/mm"),
    "s2/m": (1e27, "fs²/mm"),
    "m/V": (1e12, "pm/V"),
    "1/(s W m)": (1e-12, "/(s mW nm)"),
}


def told(leaf: Mapping[str, Any]) -> str:
    """``3.314 × 10⁶ /s``; where a quadrature stands behind the value also how far it has converged."""
    value, unit = leaf["value"], leaf["unit"]
    if value is None:
        return f"not defined: {leaf['reason']}"
    if unit == "K":
        return f"{value:.2f} K ({value - 273.15:.2f} °C)"
    if unit == "rad":
        factor, unit = (180 / np.pi, "°") if abs(value) >= np.pi / 180 else (1e3, " mrad")
        text = f"{value * factor:.5g}{unit}"
    elif unit in PLAIN:
        factor, shown = PLAIN[unit]
        text = f"{number({'value': value * factor, 'stderr': 0, 'unit': ''})} {shown}"
    else:
        text = number({"value": value, "stderr": 0, "unit": unit}) if unit else f"{value:.6g}"
    error = leaf["stderr"] / abs(value) if value else 0
    return f"{text} (converged within {max(error, 1e-12):.1g})" if error else text


def rows(found: Findings) -> Iterator[tuple[str, str, dict]]:
    """Group, key and figure of everything."""
    for group, figures in found.figures.items():
        for key, leaf in figures.items():
            yield group, key, leaf


def text(found: Findings) -> str:
    """What the command prints."""
    lines, last = [headline(found)], ""
    for group, key, leaf in rows(found):
        if group != last:
            lines += ["", TITLES[group], "-" * 78]
            last = group
        lines.append(f"{WORDS[key][0]:<58} {told(leaf)}")
    lines += ["", "constants", "-" * 78, *(f"{what}: {source}" for what, source in constants(found).items())]
    return "\n".join(lines)


def headline(found: Findings) -> str:
    """One sentence: how many usable pairs, from what, into what."""
    s, usable = found.source, found.figures["usable"]
    waves = [show(float(w), "m", 5) for w in (s.pump_wavelength, s.signal_wavelength, s.idler_wavelength())]
    values = ", ".join(
        f"{name.replace('_', ' ')} {show(float(getattr(found.collection, name)), f.metadata['unit'])}"
        for name, f in parameters(found.collection).items()
    )
    made = f"{show(float(s.crystal_length), 'm')} of {s.crystal} ({s.rays})"
    return (
        f"{told({**usable['pairs'], 'stderr': 0})} usable pairs from {made}, {waves[0]} -> {waves[1]} + {waves[2]}; "
        f"pump {show(float(s.pump_power), 'W')} with a waist of {show(float(s.waist), 'm')}, filter of "
        f"{show(float(s.bandwidth), 'm')}; {type(found.collection).__name__.lower()}: {values}"
    )


def constants(found: Findings) -> dict[str, str]:
    """What was taken from where."""
    i, out = found.crystal.interaction, {}
    for axis, s in (pair for beam in range(3) for pair in i.sets(beam)):
        thermal = f"temperature: {s.thermal}" if s.thermal else f"no temperature dependence, {s.celsius:g} °C"
        out[f"index of {s.crystal}, axis {axis}"] = f"'{s.name}': {s.reference}; {thermal}"
    out["nonlinearity"] = f"tensor of {i.crystal} at 1064 nm, sources in qtwin/source/nonlinearity.py"
    if i.order:
        a, b = EXPANSION[i.crystal]
        out["thermal expansion"] = f"1 + {a:g} dT + {b:g} dT², sources in qtwin/source/phase_matching.py"
    return out


def arrays(found: Findings) -> dict[str, Array]:
    """Every curve with its coordinates."""
    out: dict[str, Array] = {}
    for axis, values, rates in (
        ("waist", found.scan.waists, found.scan.over_waist),
        ("length", found.scan.lengths, found.scan.over_length),
    ):
        for name in rates._fields:
            out[f"{name}_over_{axis}"] = (getattr(rates, name), (axis,), "1/s", {axis: (values, "m")})
    for t in found.tuning:
        good = np.isfinite(t.signal)
        at = {t.name: (t.values[good], t.unit)}
        out |= {f"{b}_over_{t.name}": (getattr(t, b)[good], (t.name,), "m", at) for b in BEAMS[1:]}
    s = found.spectrum
    out["phase_matching"] = (s.density, ("wavelength",), "", {"wavelength": (s.wavelength, "m")})
    if found.joint is not None:
        j = found.joint
        at = {"signal_wavelength": (j.signal, "m"), "idler_wavelength": (j.idler, "m")}
        out["joint_spectrum"] = (j.density, tuple(at), "", at)
    return out


def write(folder: Path, found: Findings, config: Mapping) -> list[Path]:
    """Figures and `report.html` in ``folder``; returns the PNG paths."""
    makers: dict[str, Any] = {"design": draw.design, "tuning": draw.tuning, "fields": draw.fields}
    makers["spectrum"] = draw.spectrum
    if found.joint is not None:
        makers["joint"] = draw.joint
    if not found.tuning:
        del makers["tuning"]
    drawn = {name: printed(partial(make, found)) for name, make in makers.items()}
    places = {
        "usable": ["design"],
        "phase_matching": ["tuning"],
        "fields": ["fields"],
        "spectrum": ["joint", "spectrum"],
        "counting": [],
    }
    parts = [
        "<h1>A source of photon pairs</h1>",
        f'<div class="answer quantum"><p>{escape(headline(found))}</p></div>',
    ]
    for group, title in TITLES.items():
        lines = [
            [escape(WORDS[key][0]), escape(told(leaf)), escape(WORDS[key][1])]
            for key, leaf in found.figures[group].items()
        ]
        parts += [f"<h2>{title}</h2>", table(["quantity", "value", "formula"], lines, "hww")]
        parts += [figure(name, drawn[name]["png"], CAPTIONS) for name in places[group] if name in drawn]
    sources = [[escape(what), escape(source)] for what, source in constants(found).items()]
    parts += ["<h2>Constants</h2>", table(["what", "source"], sources, "hw")]
    parts += ["<h2>Assumptions</h2>", _assumptions(found, config)]
    parts += ["<h2>Limits</h2>", "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in LIMITS) + "</ul>"]
    parts.append(provenance(folder, config))
    return write_page(folder, document("A source of photon pairs", parts), drawn)


def _assumptions(found: Findings, config: Mapping) -> str:
    lines = []
    for part in ("source", "collection"):
        element, references = getattr(found, part), config[part].get("reference") or {}
        known = parameters(element)
        for name, f in element.__dataclass_fields__.items():
            value = getattr(element, name)
            shown = show(float(value), f.metadata["unit"]) if name in known else str(value) or "–"
            line = (f"{part}.{name}", shown, f.metadata.get("doc", ""), references.get(name, "–"))
            lines.append([escape(str(cell)) for cell in line])
    return table(["parameter", "value", "meaning", "reference"], lines, "h-ww")
