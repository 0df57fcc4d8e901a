"""A source of pairs at a glance: figures of merit with units, and the curves behind them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import UserError
from qtwin.modes.pairs import heralded_g2_weak
from qtwin.source.biphoton import SincBiphoton
from qtwin.source.nonlinear_crystal import Crystal
from qtwin.source.sellmeier import COLDEST, HOTTEST, LIGHT
from qtwin.source.spdc import SPDC
from qtwin.source.tuning import matched_signal
from qtwin.source.usable import AbstractCollection, Points, Rates, collected, resized

BEAMS = ("pump", "signal", "idler")
EXACT = (0.2, 3.0)  # b s between which `SincBiphoton.schmidt_number` holds with its defaults
SCAN = 13  # values of the waist, and of the length
TUNING = 200
Figures = dict[str, dict[str, Any]]


class Pump(NamedTuple):
    """How the pump is: a continuous wave where the bandwidth is None."""

    bandwidth: float | None  # full width at half maximum of its spectrum, m
    repetition_rate: float  # Hz, of pulses
    window: float  # full coincidence window of a continuous pump, s


def figure(value, unit: str, stderr: float = 0.0) -> dict[str, Any]:
    """One figure of merit; ``stderr`` is a numerical error, 0 in a closed form."""
    return {"value": float(value), "stderr": float(stderr), "unit": unit}


def undefined(reason: str, unit: str) -> dict[str, Any]:
    return {"value": None, "stderr": None, "unit": unit, "reason": reason}


def _waves(source: SPDC):
    return source.pump_wavelength, source.signal_wavelength, source.idler_wavelength()


# --- phase matching ------------------------------------------------------------------------------------------------


@jax.jit
def beams(source: SPDC, crystal: Crystal):
    """Of every beam: index, group index, group-velocity dispersion (s^2/m) and walk-off (rad)."""
    at, i = (crystal.angle, crystal.temperature), crystal.interaction
    rows = []
    for beam, wave in enumerate(_waves(source)):
        group, slope = jax.jvp(lambda w, b=beam: i.group_index(b, w, *at), (wave,), (jnp.ones_like(wave),))
        dispersion = -(wave**2) / (2 * jnp.pi * LIGHT**2) * slope
        rows.append([i.index(beam, wave, *at), group, dispersion, i.walk_off(beam, wave, *at)])
    return jnp.stack([jnp.stack(row) for row in rows])


def phase_matching(source: SPDC, crystal: Crystal) -> Figures:
    """Cut or poling, d_eff, and every beam's indices, dispersion and walk-off."""
    i = crystal.interaction
    cut = {"period": figure(crystal.period, "m")} if i.order else {"angle": figure(crystal.angle, "rad")}
    found: Figures = cut | {
        "temperature": figure(crystal.temperature, "K"),
        "nonlinearity": figure(crystal.nonlinearity(), "m/V"),
    }
    units = {"index": "", "group_index": "", "dispersion": "s2/m", "walk_off": "rad"}
    for beam, row in zip(BEAMS, np.asarray(beams(source, crystal)), strict=True):
        found |= {f"{name}_{beam}": figure(v, u) for v, (name, u) in zip(row, units.items(), strict=True)}
    lag = found["group_index_idler"]["value"] - found["group_index_signal"]["value"]
    found["delay"] = figure(crystal.length * lag / LIGHT, "s")
    return found


class Tuning(NamedTuple):
    """Signal and idler over temperature or cut, m; NaN where nothing matches."""

    name: str  # temperature, angle or period
    unit: str
    values: np.ndarray
    signal: np.ndarray
    idler: np.ndarray


def tuning(source: SPDC, crystal: Crystal) -> list[Tuning]:
    """Collinear tuning curves of the crystal as it is made, each in one vectorised call.

    None over temperature where a set of the crystal has no published temperature dependence.
    """
    i = crystal.interaction
    at = {"angle": crystal.angle, "temperature": crystal.temperature, "period": crystal.period if i.order else None}
    axes = {}
    if all(s.thermal for beam in range(3) for _, s in i.sets(beam)):
        middle = float(crystal.temperature)
        axes["temperature"] = ("K", middle, max(COLDEST, middle - 40), min(HOTTEST, middle + 120))
    if i.order:
        middle = float(crystal.period)
        axes["period"] = ("m", middle, 0.97 * middle, 1.03 * middle)
    else:
        middle = float(crystal.angle)
        axes["angle"] = ("rad", middle, max(middle - 0.03, 0), min(middle + 0.03, np.pi / 2))
    here, curves = [float(w) for w in _waves(source)[1:]], []
    for name, (unit, middle, low, high) in axes.items():
        values = np.sort(np.append(np.linspace(low, high, TUNING - 1), middle))
        try:
            signal = np.array(matched_signal(i, source.pump_wavelength, **(at | {name: values})))
        except UserError:  # nowhere along this curve
            continue
        # at the source's own point the root is known, and at degeneracy a double one
        signal[np.searchsorted(values, middle)] = min(here) if i.rays[1] == i.rays[2] else here[0]
        curves.append(Tuning(name, unit, values, signal, 1 / (1 / float(source.pump_wavelength) - 1 / signal)))
    return curves


# --- near and far field --------------------------------------------------------------------------------------------


def sinc_biphoton(source: SPDC) -> SincBiphoton:
    """The source's pairs with the true phase matching."""
    b = source.biphoton()
    names = ("signal_wavelength", "idler_wavelength", "signal_index", "idler_index", "crystal_length", "waist")
    return SincBiphoton(*(getattr(b, name) for name in names))


def fields(source: SPDC) -> Figures:
    """Widths of the pairs in the crystal and in the far field, and how many transverse modes they fill."""
    gauss, sinc = source.biphoton(), sinc_biphoton(source)
    to_angle = source.signal_wavelength / (2 * jnp.pi)
    tightness = float(jnp.sqrt(2 * sinc.phase_matching()) / sinc.waist)
    thin = tightness < EXACT[0]
    if thin or tightness <= EXACT[1]:
        number = figure(sinc.thin_schmidt_number() if thin else sinc.schmidt_number(), "")
    else:
        number = undefined(f"the pump is focused to b s = {tightness:.3g}, accepted is at most {EXACT[1]:g}", "")
    return {
        "centre_width": figure(gauss.centre_width(), "m"),
        "separation_width": figure(gauss.separation_width(), "m"),
        "separation_fwhm": figure(sinc.near_fwhm(), "m"),
        "sum_width": figure(gauss.sum_width(), "rad/m"),
        "relative_width": figure(gauss.relative_width(), "rad/m"),
        "relative_fwhm": figure(sinc.far_fwhm(), "rad/m"),
        "signal_divergence": figure(gauss.photon_widths()[0] * to_angle, "rad"),
        "emission_half_width": figure(sinc.far_fwhm() / 2 * to_angle, "rad"),
        "schmidt_number_gaussian": figure(gauss.schmidt_number(), ""),
        "schmidt_number_sinc_thin" if thin else "schmidt_number_sinc": number,
    }


# --- collection and counting ---------------------------------------------------------------------------------------


class Scan(NamedTuple):
    """Collected rates over the pump's waist and over the crystal's length, m."""

    waists: np.ndarray
    over_waist: Rates
    lengths: np.ndarray
    over_length: Rates

    def scaled(self, shares: Rates) -> "Scan":
        """Every rate times its share."""
        return self._replace(over_waist=self.over_waist.scaled(shares), over_length=self.over_length.scaled(shares))


def scan_points(source: SPDC, crystal: Crystal, collection: AbstractCollection):
    """Waists from 1/8 to 8 times, lengths from 1/4 to 4 times, where these formulas hold, and `Points` for all.

    The source's own size is resolved in full, the others at least half as finely.
    """

    def allowed(waist, length) -> Points | None:
        try:
            return collection.points(*resized(source, crystal, jnp.asarray(waist), jnp.asarray(length)))
        except UserError:
            return None

    own = float(source.waist), float(crystal.length)
    waists = {w: p for w in own[0] * np.geomspace(1 / 8, 8, SCAN) if (p := allowed(w, own[1]))}
    lengths = {v: p for v in own[1] * np.geomspace(1 / 4, 4, SCAN) if (p := allowed(own[0], v))}
    halves = [p.halved() for p in (*waists.values(), *lengths.values())]
    sizes = zip(collection.points(source, crystal), *halves, strict=True)
    return np.asarray(list(waists)), np.asarray(list(lengths)), Points(*map(max, sizes))


def collect(source: SPDC, crystal: Crystal, collection: AbstractCollection, waists, lengths, points: Points):
    """Rates of the source, how much they change on half as many points as it needs, and the `Scan`."""

    def at(w, v, sizes):
        return collected(collection, source, crystal, sizes, jnp.asarray(w), jnp.asarray(v))

    own_waist, own_length = float(source.waist), float(crystal.length)
    all_waists = np.concatenate([[own_waist], waists, np.full(lengths.size, own_waist)])
    all_lengths = np.concatenate([[own_length], np.full(waists.size, own_length), lengths])
    every = at(all_waists, all_lengths, points)
    rough = at(all_waists[:1], all_lengths[:1], collection.points(source, crystal).halved())
    own, over_waist, over_length = (
        jax.tree.map(lambda r, p=part: np.asarray(r)[p], every)
        for part in (0, slice(1, 1 + waists.size), slice(1 + waists.size, None))
    )
    errors = jax.tree.map(lambda a, b: abs(a - np.asarray(b)[0]), own, rough)
    return own, errors, Scan(waists, over_waist, lengths, over_length)


def counting(source: SPDC, rates: Rates, spatial: float, pump: Pump, spectral: Figures) -> Figures:
    """Modes behind aperture and filter, and what pairs of other modes and other pairs do to coincidences.

    Detectors without loss or dark counts: accidentals over coincidences x = S_s S_i T/R (T the window or 1/repetition
    rate) is the mean number of pairs of `qtwin.modes.pairs.heralded_g2_weak`; CAR = 1 + 1/x; g2 of an arm is 1 + 1/K.
    """
    if pump.bandwidth is None:
        gate, gain = pump.window, float(source.gain())
        temporal = max(gate * spectral["effective_bandwidth"]["value"], 1.0)
    else:
        gate, temporal = 1 / pump.repetition_rate, spectral["modes_filtered"]["value"]
        duration = spectral["pulse_duration"]["value"]
        gain = float(source.gain()) * max(2 * np.sqrt(np.log(2) / np.pi) * gate / duration, 1.0)
    chance = rates.signal * rates.idler * gate / rates.pairs
    modes = spatial * temporal
    return {
        "gain": figure(gain, ""),
        "gate": figure(gate, "s"),
        "pairs_per_gate": figure(rates.pairs * gate, ""),
        "spatial_modes": figure(spatial, ""),
        "temporal_modes": figure(temporal, ""),
        "g2_excess": figure(1 / modes, ""),
        "car": figure(1 + 1 / chance, ""),
        "heralded_g2": figure(heralded_g2_weak(chance, modes), ""),
    }
