"""Spectra of a source of pairs and their figures of merit: continuous and pulsed pumps."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import FieldError, UserError
from qtwin.source.biphoton import SINC_HALF
from qtwin.source.joint_spectrum import FWHM, JointSpectrum, cw_spectrum, purity
from qtwin.source.merits import BEAMS, Figures, beams, figure, undefined
from qtwin.source.nonlinear_crystal import Crystal
from qtwin.source.sellmeier import LIGHT
from qtwin.source.spdc import SPDC

TURN = 2 * np.pi * LIGHT  # of a wavelength into an angular frequency
HALF = 1000  # points on each side of the middle of a spectrum


class Spectrum(NamedTuple):
    """Signal of a continuous pump on the axis: |phi|^2 over its wavelength, m."""

    wavelength: np.ndarray
    density: np.ndarray


def spectrum(source: SPDC, crystal: Crystal) -> tuple[Spectrum, Figures]:
    """Phase-matched spectrum of a plane, continuous pump along the axis, and its full widths at half maximum.

    Half a maximum is where |dk L/2| = 1.3916 first, on either side of the middle; between points by straight lines.
    The effective bandwidth of the light behind the filter is (int S dv)^2/int S^2 dv.
    """
    signal, idler = float(source.signal_wavelength), float(source.idler_wavelength())
    _, (_, group_s, curved_s, _), (_, group_i, curved_i, _) = np.asarray(beams(source, crystal))
    slope, bend, x = abs(group_s - group_i) / LIGHT, abs(curved_s + curved_i), 2 * SINC_HALF / float(crystal.length)
    low = high = 10 * x / (slope + np.sqrt(slope**2 + 2 * bend * x))  # five half widths
    for wave, window, sides in (
        (signal, crystal.interaction.window(1), (1, -1)),
        (idler, crystal.interaction.window(2), (-1, 1)),
    ):
        for side, edge in zip(sides, window, strict=True):  # how far the sets hold
            room = 0.999 * TURN * abs(1 / edge - 1 / wave)
            low, high = (low, min(high, room)) if side > 0 else (min(low, room), high)
    detuning = np.concatenate([np.linspace(-low, 0, HALF + 1)[:-1], np.linspace(0, high, HALF + 1)])
    waves = jnp.asarray(1 / (1 / signal + detuning / TURN))
    half = np.abs(np.asarray(crystal.mismatch(source.pump_wavelength, waves))) * float(crystal.length) / 2
    upper, lower = (_crossing(detuning[side], half[side]) for side in (slice(HALF, None), slice(HALF, None, -1)))
    found = Spectrum(np.asarray(waves), np.asarray(cw_spectrum(crystal, source.pump_wavelength, waves)))
    filter_half = TURN * float(source.bandwidth) / signal**2 / 2
    inside = np.linspace(-min(low, filter_half), min(high, filter_half), HALF + 1)
    passed = np.asarray(cw_spectrum(crystal, source.pump_wavelength, jnp.asarray(1 / (1 / signal + inside / TURN))))
    effective = np.trapezoid(passed, inside) ** 2 / np.trapezoid(passed**2, inside) / (2 * np.pi)
    if upper is None or lower is None:
        reason = "the phase-matched spectrum reaches beyond the wavelengths that the Sellmeier sets hold"
        widths = {f"bandwidth_{beam}": undefined(reason, "m") for beam in BEAMS[1:]}
        return found, widths | {"effective_bandwidth": figure(effective, "Hz")}
    widths = {"effective_bandwidth": figure(effective, "Hz")}
    for beam, wave, sign in ((BEAMS[1], signal, 1), (BEAMS[2], idler, -1)):
        first, last = (1 / (1 / wave + sign * end / TURN) for end in (lower, upper))
        widths[f"bandwidth_{beam}"] = figure(abs(last - first), "m")
    return found, widths


def _crossing(x, y) -> float | None:
    """First place along x where y rises above SINC_HALF."""
    above = np.flatnonzero(y > SINC_HALF)
    return float(np.interp(SINC_HALF, *(a[above[0] - 1 : above[0] + 1] for a in (y, x)))) if above.size else None


class Joint(NamedTuple):
    """Joint spectrum of a pulsed pump before the filters, 1 at its peak, and its marginals; wavelengths in m."""

    signal: np.ndarray
    idler: np.ndarray
    density: np.ndarray  # [signal, idler]
    filters: tuple[tuple[float, float], tuple[float, float]]  # edges in signal and idler

    def marginals(self) -> tuple[np.ndarray, np.ndarray]:
        """Signal and idler alone, 1 at the peak."""
        sums = self.density.sum(1), self.density.sum(0)
        return sums[0] / sums[0].max(), sums[1] / sums[1].max()


@jax.jit
def _joint(made: JointSpectrum):
    """Complex amplitude [n, n], the same behind both filters, and the share of each photon that its filter passes."""
    f, (t_s, t_i) = made.emitted(), made.transmissions()
    t = t_s[:, None] * t_i[None, :]
    return f, jax.lax.complex(f.real * t, f.imag * t), t_s**2, t_i**2


_purity = jax.jit(purity)


def joint(source: SPDC, crystal: Crystal, bandwidth: float, points: int) -> tuple[Joint, Figures]:
    """Joint spectrum with its purities, marginal widths and what the filters leave of a photon's partners.

    Two grids: all of the emission, and the filter with eight deviations of the pump around it (where that is the
    narrower one). Every colour of the pump emits on its own, so rates behind the filters follow from those of a
    continuous pump by what the joint spectrum leaves inside, on the axis (``..._over_steady``). Raises UserError
    where ``points`` do not resolve the pump.
    """
    waves = (source.pump_wavelength, source.signal_wavelength)
    full = jnp.asarray(bandwidth, source.waist.dtype)
    own = [float(w) for w in (source.signal_wavelength, source.idler_wavelength())]
    filter_width = TURN * float(source.bandwidth) / own[0] ** 2
    deviation = TURN * bandwidth / float(source.pump_wavelength) ** 2 / FWHM
    own_filters = [jnp.asarray(filter_width * w**2 / TURN, full.dtype) for w in own]

    def over(filters: str) -> JointSpectrum:
        one, two = own_filters
        return JointSpectrum(crystal, *waves, full, signal_filter=one, idler_filter=two, filter=filters, points=points)

    try:
        near = over("top hat")
    except UserError as error:
        if isinstance(error, FieldError) and error.field == "pump_bandwidth":
            raise UserError(f"pump.bandwidth: {error.problem.replace(' points', ' points of grid')}") from error
        raise UserError(f"pump.bandwidth, source.bandwidth: too wide for a joint spectrum ({error})") from error
    whole, why = None, ""
    try:
        whole = over("none")
    except UserError as error:
        why = str(error)
    emitted, passed, signal_share, idler_share = (np.asarray(a) for a in _joint(near))
    density = np.abs(emitted) ** 2
    mixed = float(_purity(jnp.asarray(passed)))
    duration = 2 * np.log(2) / np.pi * float(source.pump_wavelength) ** 2 / LIGHT / bandwidth
    figures = {
        "pump_bandwidth": figure(bandwidth, "m"),
        "pulse_duration": figure(duration, "s"),
        "purity_filtered": figure(mixed, ""),
        "modes_filtered": figure(1 / mixed, ""),
    }
    alone_s, alone_i = signal_share @ density.sum(1), density.sum(0) @ idler_share
    both = signal_share @ density @ idler_share
    figures |= {
        "filter_heralding_signal": figure(both / alone_i, ""),
        "filter_heralding_idler": figure(both / alone_s, ""),
    }
    inside = np.linspace(-filter_width / 2, filter_width / 2, 2 * HALF + 1)
    steady = np.asarray(cw_spectrum(crystal, source.pump_wavelength, jnp.asarray(1 / (1 / own[0] + inside / TURN))))
    step = float(near.span()) / (points - 1)
    unit = step**2 / (np.sqrt(2 * np.pi) * deviation * np.trapezoid(steady, inside))
    for name, rate in (("pairs", both), ("signal", alone_s), ("idler", alone_i)):
        figures[f"{name}_over_steady"] = figure(rate * unit, "")
    if whole is None:
        figures["purity_emitted"] = undefined(why, "")
    else:
        every = np.asarray(_joint(whole)[0])
        alone, weight = float(_purity(jnp.asarray(every))), np.abs(every) ** 2
        figures |= {"purity_emitted": figure(alone, ""), "modes_emitted": figure(1 / alone, "")}
        for beam, axis, w in zip(BEAMS[1:], (1, 0), whole.frequencies(), strict=True):
            figures[f"marginal_{beam}"] = figure(_fwhm(TURN / np.asarray(w), weight.sum(axis)), "m")
        rim = points // 20
        figures["edge"] = figure(1 - weight[rim:-rim, rim:-rim].sum() / weight.sum(), "")
    shown, weight = (near, density) if whole is None else (whole, weight)
    signal, idler = (TURN / np.asarray(w) for w in shown.frequencies())
    edges = [(1 / (1 / w + filter_width / 2 / TURN), 1 / (1 / w - filter_width / 2 / TURN)) for w in own]
    return Joint(signal, idler, weight / weight.max(), (edges[0], edges[1])), figures


def _fwhm(x, y) -> float:
    """Distance between the outermost places where y crosses half of its maximum; the grid's where it does not."""
    level = y - y.max() / 2
    i = np.flatnonzero(level[:-1] * level[1:] <= 0)
    at = x[i] - level[i] * (x[i + 1] - x[i]) / (level[i + 1] - level[i])
    return float(abs(at[-1] - at[0])) if at.size > 1 else float(abs(x[-1] - x[0]))
