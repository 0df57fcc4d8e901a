"""Figures of a source of photon pairs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import sici
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from qtwin.report.figures import BLACK, BLUE, GREY, ORANGE, new
from qtwin.source import SPDC
from qtwin.source.merits import Scan, Tuning, sinc_biphoton
from qtwin.source.nonlinear_crystal import Crystal
from qtwin.source.spectra import Joint, Spectrum
from qtwin.source.usable import AbstractCollection, Aperture, Fibre


class Findings(NamedTuple):
    """Everything that the page tells."""

    source: SPDC
    crystal: Crystal
    collection: AbstractCollection
    figures: dict[str, dict[str, Any]]
    scan: Scan
    tuning: list[Tuning]
    spectrum: Spectrum
    joint: Joint | None


NAMES: dict[str, tuple[str, Callable]] = {
    "temperature": ("temperature / °C", lambda x: x - 273.15),
    "angle": ("angle of the pump to the axis / degrees", np.degrees),
    "period": ("poling period at 25 °C / µm", lambda x: x * 1e6),
}


def design(found: Findings) -> Figure:
    """Usable pairs and heralding over the waist of the pump and the length of the crystal."""
    fig = new(4.4)
    axes = fig.subplots(1, 2)
    scan, pairs = found.scan, found.figures["usable"]["pairs"]["value"]
    panels = (
        (axes[0], scan.waists * 1e6, scan.over_waist, "waist of the pump / µm", float(found.source.waist) * 1e6),
        (
            axes[1],
            scan.lengths * 1e3,
            scan.over_length,
            "length of the crystal / mm",
            float(found.crystal.length) * 1e3,
        ),
    )
    for ax, x, rates, label, here in panels:
        (line,) = ax.plot(x, rates.pairs, color=BLUE, lw=2, label="usable pairs")
        (dot,) = ax.plot([here], [pairs], "o", color=BLUE, ms=8, label="this source")
        ax.set_xscale("log")
        ax.set_yscale("log")
        low, high = ax.get_ylim()
        if high < 3 * low:  # what hardly changes must look so
            middle = (low * high) ** 0.5
            ax.set_ylim(middle / 3, middle * 3)
        ax.set_xlabel(label)
        ax.set_ylabel("usable pairs per second", color=BLUE)
        _round(ax, x)
        right = ax.twinx()
        right.spines["right"].set_visible(True)
        (one,) = right.plot(x, 100 * rates.signal_heralding, color=ORANGE, lw=1.5, label="heralding of the signal")
        (two,) = right.plot(x, 100 * rates.idler_heralding, "--", color=BLACK, lw=1.5, label="heralding of the idler")
        right.set_ylim(0, 105)
        right.set_ylabel("heralding / %")
    fig.legend(handles=[line, dot, one, two], loc="outside lower center", ncols=4)
    return fig


def _round(ax: Axes, x):
    """Ticks at 1, 2 and 5 on a log axis of x."""
    decades = np.arange(np.floor(np.log10(x.min())), np.ceil(np.log10(x.max())) + 1)
    ticks = [s * 10.0**d for d in decades for s in (1, 2, 5) if x.min() <= s * 10.0**d <= x.max()]
    ax.set_xticks(ticks)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def tuning(found: Findings) -> Figure:
    """Wavelengths over temperature and over angle or period."""
    fig = new(4.2)
    axes = fig.subplots(1, len(found.tuning), squeeze=False)[0]
    here = {"temperature": found.crystal.temperature, "angle": found.crystal.angle, "period": found.crystal.period}
    for ax, curve in zip(axes, found.tuning, strict=True):
        label, convert = NAMES[curve.name]
        x = convert(curve.values)
        ax.plot(x, curve.signal * 1e9, color=BLUE, lw=2, label="signal")
        ax.plot(x, curve.idler * 1e9, color=ORANGE, lw=2, label="idler")
        waves = (found.source.signal_wavelength, found.source.idler_wavelength())
        for wave, colour in zip(waves, (BLUE, ORANGE), strict=True):
            ax.plot([convert(float(here[curve.name]))], [float(wave) * 1e9], "o", color=colour, ms=8)
        ax.set_xlabel(label)
        ax.set_ylabel("wavelength / nm")
    axes[0].legend()
    return fig


def fields(found: Findings) -> Figure:
    """Correlations in the crystal and in the far field, with what the collection accepts."""
    fig = new(7.6)
    axes = fig.subplots(2, 2)
    gauss, sinc = found.source.biphoton(), sinc_biphoton(found.source)
    a, w = float(sinc.phase_matching()), float(sinc.waist)
    aperture, wave = found.collection, float(found.source.signal_wavelength)
    to_angle = 1e3 * wave / (2 * np.pi)

    d = np.linspace(-3, 3, 601) * float(sinc.near_fwhm())
    near = (1 - 2 / np.pi * np.asarray(sici(jnp.asarray(d**2 / (8 * a)))[0])) ** 2
    _pair(axes[0, 0], d * 1e6, near, np.exp(-((d / float(gauss.separation_width())) ** 2) / 2))
    axes[0, 0].set_xlabel("near field: x_s − x_i / µm")

    reach = 2.2 * float(sinc.far_fwhm())
    if isinstance(aperture, Aperture):
        edge = float(jnp.sin(aperture.signal_half_angle)) * 2 * np.pi / wave
        reach = max(reach, 1.2 * min(edge, 4 * reach))
    if isinstance(aperture, Fibre):
        reach = max(reach, min(2.5 / float(aperture.signal_waist), 4 * reach))
    q = np.linspace(-reach, reach, 1201)
    far = np.sinc(2 * a * q**2 / np.pi) ** 2
    _pair(axes[0, 1], q * to_angle, far, np.exp(-((q / float(gauss.relative_width())) ** 2) / 2))
    axes[0, 1].set_xlabel("far field: angle of the signal outside, partner opposite / mrad")
    if isinstance(aperture, Aperture):
        angle = float(aperture.signal_half_angle) * 1e3
        axes[0, 1].axvspan(-angle, angle, color=ORANGE, alpha=0.15, lw=0, label="aperture")
        axes[0, 1].set_xlim(-reach * to_angle, reach * to_angle)
    if isinstance(aperture, Fibre):
        mode = np.exp(-((q * float(aperture.signal_waist)) ** 2) / 2)
        axes[0, 1].fill_between(q * to_angle, mode, color=ORANGE, alpha=0.2, lw=0, label="mode of the fibre")
    axes[0, 1].legend(loc="upper right")

    x = np.linspace(-1.6, 1.6, 401) * w
    axes[1, 0].plot(x * 1e6, np.exp(-2 * (x / w) ** 2), color=BLACK, lw=2, label="pump = centres of the pairs")
    if isinstance(aperture, Fibre):
        mode = np.exp(-2 * (x / float(aperture.signal_waist)) ** 2)
        axes[1, 0].fill_between(x * 1e6, mode, color=ORANGE, alpha=0.2, lw=0, label="mode of the fibre")
    axes[1, 0].set_xlabel("near field: centre of a pair / µm")
    axes[1, 0].legend(loc="upper right")

    k = np.linspace(-4, 4, 401) / w
    axes[1, 1].plot(k * to_angle, np.exp(-((k * w) ** 2) / 2), color=BLACK, lw=2, label="divergence of the pump")
    axes[1, 1].set_xlabel("far field: (q_s + q_i) λ_s/2π / mrad")
    axes[1, 1].legend(loc="upper right")
    for ax in axes.flat:
        ax.set_ylabel("density, 1 at the peak")
        ax.set_ylim(0, 1.25)
    return fig


def _pair(ax: Axes, x, sinc, gauss):
    ax.plot(x, sinc, color=BLUE, lw=2, label="sinc")
    ax.plot(x, gauss, "--", color=GREY, lw=1.8, label="Gaussian stand-in")
    ax.legend(loc="upper right")


def spectrum(found: Findings) -> Figure:
    """Phase-matched spectra of signal and idler with the filter."""
    fig = new(3.9)
    axes = fig.subplots(1, 2)
    s, source = found.spectrum, found.source
    pump = float(source.pump_wavelength)
    half = float(source.bandwidth / source.signal_wavelength**2) / 2
    for ax, name, waves, middle in (
        (axes[0], "signal", s.wavelength, float(source.signal_wavelength)),
        (axes[1], "idler", 1 / (1 / pump - 1 / s.wavelength), float(source.idler_wavelength())),
    ):
        ax.plot(waves * 1e9, s.density, color=BLUE, lw=2)
        edges = [1e9 / (1 / middle + sign * half) for sign in (1, -1)]
        ax.axvspan(*edges, color=ORANGE, alpha=0.18, lw=0, label="filter")
        ax.set_xlabel(f"wavelength of the {name} / nm")
        ax.set_ylabel("phase matching |φ|²")
        ax.set_ylim(0, 1.05)
    axes[0].legend()
    return fig


def joint(found: Findings) -> Figure:
    """Joint spectrum of a pulsed pump with its marginals and filters."""
    j = found.joint
    assert j is not None
    fig = new(7.2)
    grid: dict[str, Any] = {"width_ratios": [1, 4.5, 0.12], "height_ratios": [1, 4]}
    axes = fig.subplots(2, 3, gridspec_kw=grid)
    for ax in (axes[0, 0], axes[0, 2]):
        ax.set_axis_off()
    middle, bar, top, side = axes[1, 1], axes[1, 2], axes[0, 1], axes[1, 0]
    signal, idler = j.signal * 1e9, j.idler * 1e9
    mesh = middle.pcolormesh(signal, idler, j.density.T, cmap="cividis", vmin=0, vmax=1, rasterized=True)
    (low, high), (bottom, up) = ([1e9 * e for e in edges] for edges in j.filters)
    middle.plot([low, high, high, low, low], [bottom, bottom, up, up, bottom], color="white", lw=1.4)
    middle.set_xlabel("wavelength of the signal / nm")
    middle.set_ylabel("wavelength of the idler / nm")
    middle.spines[["top", "right"]].set_visible(True)
    fig.colorbar(mesh, cax=bar, label="joint density, 1 at the peak")
    one, two = j.marginals()
    for limit, waves, alone, ends in (
        (middle.set_xlim, signal, one, (low, high)),
        (middle.set_ylim, idler, two, (bottom, up)),
    ):
        seen = waves[alone > 0.003]
        limit(min(seen.min(), ends[0]), max(seen.max(), ends[1]))
    top.plot(signal, one, color=BLUE, lw=2)
    side.plot(two, idler, color=ORANGE, lw=2)
    top.sharex(middle)
    side.sharey(middle)
    top.tick_params(labelbottom=False)
    top.set_ylabel("signal alone")
    side.set_xlabel("idler alone")
    side.invert_xaxis()
    side.tick_params(labelleft=False)
    return fig
