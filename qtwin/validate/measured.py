"""Evidence from measurements of others, read where they stand: Bell table, time tags, crystals, tissue, converters."""

import csv
from pathlib import Path
from typing import Any

import jax
import numpy as np

from qtwin.core.config import build, compose, plain
from qtwin.core.records import Estimate
from qtwin.correlation.accidentals import from_singles, net
from qtwin.correlation.coincidence import chsh
from qtwin.correlation.counting import Coincidences
from qtwin.correlation.delay import dead_time, repetition_period, smallest_spacing
from qtwin.correlation.g2 import bunching, pulse_delay, pulsed_g2
from qtwin.correlation.histogram import autocorrelation, cross_correlation
from qtwin.detector import TDC
from qtwin.io.time_tag_files import read_time_tags
from qtwin.source.sellmeier_sets import sellmeier
from qtwin.tissue.chromophores import absorption
from qtwin.tissue.solids.volume import Volume
from qtwin.validate.pieces import element

SETTINGS = ((0, 45), (22.5, -22.5))  # degrees of the analysers of the Bell table


def bell(file: Path) -> dict[str, float | Estimate]:
    """CHSH raw and with accidentals subtracted, and the largest deviation of S I tau_w/T, 90 ns, from the table's."""
    table = np.genfromtxt(file, delimiter=",", names=True, dtype=None, encoding="utf-8")
    rows = [
        Coincidences(
            (0, 1), "all pairs", 90_000, r["coincidence_counts"], r["signal_counts"], r["idler_counts"], 30 * 10**12
        )
        for r in table
    ]
    expected = [from_singles(c) for c in rows]
    away = [abs(np.floor(100 * a.value) / 100 - r["accidental_counts"]) for a, r in zip(expected, table, strict=True)]
    angles, gross = (table["alpha_deg"], table["beta_deg"]), table["coincidence_counts"].astype(float)
    nets = [net(c, a) for c, a in zip(rows, expected, strict=True)]
    raw = chsh(*angles, gross, gross, SETTINGS)
    subtracted = chsh(*angles, [n.value for n in nets], [n.error**2 for n in nets], SETTINGS)
    found: dict[str, Any] = {"accidentals": float(max(away)), "raw": raw.s, "subtracted": subtracted.s}
    errors = {
        "raw_over_2": Estimate(raw.s, raw.s_error),
        "subtracted_over_2": Estimate(subtracted.s, subtracted.s_error),
    }
    return found | errors


def emitter(file: Path) -> dict[str, float | Estimate]:
    """What a T2 record of a pulsed single-photon emitter says (HydraHarp 400, channels 1 and 2)."""
    record = list(read_time_tags(file))
    period = repetition_period(record, 1)
    pairs = cross_correlation(record, 1, 2, 200_000, 25)
    delay = pulse_delay(pairs, period.value)
    found = pulsed_g2(pairs, period.value, delay.value, width=2500, sides=20)
    sides = float(found.areas.sum() - found.areas[found.numbers == 0][0]) / 40
    dead = dead_time(autocorrelation(record, 1, 200_000, 100), 4 * 3100)
    near = bunching(record, 1, 2, 400_000, 5 * 10**10)
    ps = 1e-12
    return {
        "seconds": record[-1].stop * ps,
        "first": pairs.starts,
        "second": pairs.stops,
        "period": Estimate(period.value * ps, period.error * ps),
        "delay": Estimate(delay.value * ps, delay.error * ps),
        "centre": float(found.areas[found.numbers == 0][0]),
        "side": Estimate(sides, np.sqrt(sides / 40)),
        "g2": found.zero.value,
        "spacing": min(smallest_spacing(record, c) for c in (1, 2)) * ps,
        "dead_time": Estimate(dead.value * ps, np.hypot(dead.error * ps, period.value * ps)),
        "bunching": Estimate(near.value, near.error),
    }


def unfound_pairs(record: Path, reference: Path) -> float:
    """Bins, of 20 000 of 16 ps in both directions, in which the analyser's own histogram has more pairs than ours."""
    tags, theirs, more = list(read_time_tags(record)), np.load(reference), 0
    for name, (start, stop) in (("hist1", (1, 2)), ("hist2", (2, 1))):
        more += int(np.sum(cross_correlation(tags, start, stop, 160_000, 16).counts[10_000:] < theirs[name]))
    return float(more)


def _tabled(formula: int, c: list[float], um: np.ndarray) -> np.ndarray:
    """Formulas 2 (Sellmeier) and 4 of refractiveindex.info."""
    if formula == 2:
        return np.sqrt(1 + c[0] + sum(b * um**2 / (um**2 - d) for b, d in zip(c[1::2], c[2::2], strict=True)))
    c = c + [0.0] * (17 - len(c))
    n2 = c[0] + sum(c[i] * um ** c[i + 1] / (um**2 - c[i + 2] ** c[i + 3]) for i in (1, 5) if c[i])
    return np.sqrt(n2 + sum(c[i] * um ** c[i + 1] for i in range(9, 17, 2)))


def index_deviation(file: Path, row: str, crystal: str, axis: str, name: str) -> float:
    """Largest |n - n of the database| of one of our Sellmeier sets over its range."""
    with open(file, newline="", encoding="utf-8") as lines:
        entry = next(r for r in csv.DictReader(lines) if r["file"] == row)
    low, high = (float(x) for x in entry["wavelength_um"].split())
    um = np.linspace(low, high, 50)
    expected = _tabled(int(entry["formula_number"]), [float(x) for x in entry["coefficients"].split()], um)
    return float(np.max(np.abs(np.asarray(sellmeier(crystal, axis, name).index(axis, um * 1e-6)) - expected)))


def absorption_deviation(file: Path, name: str, digit: float) -> float:
    """Largest relative deviation of the absorption of a chromophore from a compilation in 1/cm, beyond half a digit."""
    nm, mu_a = np.genfromtxt(file, delimiter=",", skip_header=1).T
    away = np.abs(np.asarray(absorption(name, nm * 1e-9)) / 100 - mu_a)
    return float(np.max(np.maximum(away - digit, 0) / np.maximum(mu_a, 1e-12)))


def converter(file: Path, pixel: int, seed: int = 0) -> dict[str, float | Estimate]:
    """A LinoSPAD2 converter from its code-density table: integral nonlinearity at its end, and its error on light.

    ``noise``: mean square of stamp - time of drawn times, s^2, against sum w^3/12 T of the codes' widths w (``law``).
    """
    upper = np.genfromtxt(file, delimiter=",", skip_header=1)[pixel, 1:]
    widths = np.diff(upper, prepend=0.0) * 1e-12
    made = element(TDC, list(widths))
    times = np.random.default_rng(seed).integers(0, 2500 * 4000, 400_000)
    square = (np.asarray(made.stamp(times) - times, float) * 1e-12) ** 2
    law = float(np.sum(widths**3) / 12 / 2.5e-9)
    drawn = Estimate(float(square.mean() / law), float(square.std() / law / np.sqrt(square.size)))
    return {"end": float(np.asarray(made.nonlinearity()[1])[-1]), "noise": drawn}


def head_labels(file: Path) -> int:
    """Labels of the Colin27 head besides 0."""
    media: dict[str, Any] = {"mu_a": "0.02 1/mm", "mu_s": "9 1/mm", "g": 0.89, "n": 1.37}
    return int(np.asarray(jax.device_get(Volume.from_file(file, voxel="1 mm", **media).labels.values)).max())


def detected(pairs: float, share: float) -> float:
    """``share`` of a rate of pairs: what is detected of it, or the rate in other units."""
    return pairs * share


def configured(option: str, field: str) -> float:
    """A field of the element that an option of the configuration builds."""
    group = option.split("=")[0]
    return float(getattr(build(plain(compose([option])[group]), group), field))
