"""One job of `qtwin source`: from a composed configuration to a folder with results."""

import logging
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from omegaconf import DictConfig

from qtwin.benchmark.settings import whole, whole_bytes
from qtwin.core.config import build, check_targets, plain, quantity
from qtwin.core.errors import FieldError, UserError
from qtwin.core.units import show
from qtwin.io.results import config_hash, versions, write_arrays, write_result
from qtwin.io.tracking import open_tracker
from qtwin.job import flat
from qtwin.report import source as report
from qtwin.report import state as state_report
from qtwin.source import SPDC
from qtwin.source import merits as m
from qtwin.source.joint_spectrum import transform_limited_bandwidth
from qtwin.source.nonlinear_crystal import Crystal
from qtwin.source.spectra import Joint, joint, spectrum
from qtwin.source.states import AbstractState
from qtwin.source.usable import AbstractCollection, Aperture, Fibre, Points, Rates, plane_wave

log = logging.getLogger(__name__)
GRID_BYTES = 250  # for a point of the joint spectrum, on the way


def _positive(key: str, value, unit: str) -> float:
    number = quantity({key: value}, key, unit)
    if not 0 < number < np.inf:
        raise FieldError(key, f"got {value!r}, accepted is greater than 0, in units of {unit}")
    return number


def _pump(node, window, source: SPDC) -> m.Pump:
    keys = ("bandwidth", "duration", "repetition_rate")
    if not isinstance(node, dict) or set(node) != set(keys):
        raise UserError(f"pump: got {node!r}, expected the keys {', '.join(keys)}")
    width, duration = node["bandwidth"], node["duration"]
    if width is not None and duration is not None:
        raise UserError(f"pump.duration: got {duration!r} beside pump.bandwidth {width!r}, accepted is one of them")
    if duration is not None:
        seconds = _positive("pump.duration", duration, "s")
        width = float(transform_limited_bandwidth(seconds, source.pump_wavelength))
    elif width is not None:
        width = _positive("pump.bandwidth", width, "m")
    rate = _positive("pump.repetition_rate", node["repetition_rate"], "Hz")
    return m.Pump(width, rate, _positive("coincidence_window", window, "s"))


def _fits(what: str, need: float, limit: int):
    if need > limit:
        size = show(need, "byte", 3)
        raise UserError(
            f"memory_limit: got {show(limit, 'byte', 3)}, {what} needs about {size}; accepted is that or more"
        )


def _usable(source: SPDC, crystal: Crystal, collection, points: Points, rates: Rates, errors: Rates) -> m.Figures:
    figures = {
        name: m.figure(value, "1/s", float(error))
        for name, value, error in zip(Rates._fields, rates, errors, strict=True)
    }
    figures |= {
        "signal_heralding": m.figure(rates.signal_heralding, ""),
        "idler_heralding": m.figure(rates.idler_heralding, ""),
        "brightness": m.figure(rates.pairs / source.pump_power / source.bandwidth, "1/(s W m)"),
        "emitted": m.figure(source.pair_rate(), "1/s"),
    }
    if isinstance(collection, Aperture):
        figures["plane_pump"] = m.figure(plane_wave(collection, source, crystal, points), "1/s")
    if isinstance(collection, Fibre):
        figures["peak_brightness"] = m.figure(collection.pairs(source, crystal, 1).brightness(), "1/(s W m)")
        figures["filter"] = m.figure(collection.filter(source, crystal), "m")
    return figures


def _state(state: AbstractState, config: dict, folder: Path, start: float) -> float:
    """The page of a state of light; returns the mean of the first number of a record."""
    seed, records = whole("seed", config["seed"], 0, 2**63 - 1), whole("records", config["records"], 2, 10**6)
    found = state_report.drawn(state, records, key=jax.random.key(seed))
    with closing(open_tracker(config["logger"], folder, config)) as tracker:
        figures, swept = state_report.figures(found), float(found.expected[0])
        write_arrays(folder, state_report.arrays(found))
        result = {"figures": figures, "swept": swept, "records": records, "seed": seed, "versions": versions()}
        result |= {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "wall_seconds": round(time.perf_counter() - start, 3)}
        write_result(folder, result | {"config_hash": config_hash(config), "config": config})
        images = state_report.write(folder, found, config)
        tracker.figures({name: leaf["value"] for name, leaf in figures.items()})
        tracker.images(images)
    print(state_report.text(found))
    print(f"results: {folder}")
    return swept


def run(cfg: DictConfig, folder: Path) -> float:
    """Examine the source, write `result.json`, `arrays.h5` and the report into ``folder``, return the pairs per second.

    Raises UserError for anything wrong in ``cfg``, before any work is done.
    """
    start = time.perf_counter()
    config = plain(cfg)
    check_targets(config)
    source = build(config.get("source"), "source")
    if isinstance(source, AbstractState):
        return _state(source, config, folder, start)
    if not isinstance(source, SPDC):
        raise UserError(f"source: got {type(source).__name__}, expected a source of photon pairs (source=spdc_bbo)")
    collection = build(config.get("collection"), "collection")
    if not isinstance(collection, AbstractCollection):
        raise UserError(f"collection: got {config.get('collection')!r}, expected collection=aperture or fibre")
    pump = _pump(config["pump"], config["coincidence_window"], source)
    grid, limit = whole("grid", config["grid"], 32, 8192), whole_bytes("memory_limit", config["memory_limit"])
    crystal = source.crystal_at()
    try:
        points = collection.points(source, crystal)
    except FieldError:
        raise
    except UserError as error:
        raise (
            error if str(error).startswith("collection") else UserError(f"source.bandwidth: its edge, {error}")
        ) from error
    waists, lengths, sizes = m.scan_points(source, crystal, collection)
    _fits("this collection", max(points.needs(), sizes.needs()), limit)
    pulsed: tuple[Joint | None, m.Figures] = (None, {})
    if pump.bandwidth is not None:
        _fits(f"a joint spectrum of grid={grid}", GRID_BYTES * grid**2, limit)
        pulsed = joint(source, crystal, pump.bandwidth, grid)
    shares = Rates(*(jnp.asarray(pulsed[1][f"{n}_over_steady"]["value"] if pulsed[1] else 1.0) for n in Rates._fields))
    with closing(open_tracker(config["logger"], folder, config)) as tracker:
        log.info("examining the source")
        rates, errors, over = m.collect(source, crystal, collection, waists, lengths, sizes)
        rates, errors = rates.scaled(shares), errors.scaled(shares)
        density, widths = spectrum(source, crystal)
        spatial = float(collection.spatial_modes(source))
        figures: dict[str, Any] = {
            "usable": _usable(source, crystal, collection, points, rates, errors),
            "phase_matching": m.phase_matching(source, crystal),
            "fields": m.fields(source),
            "spectrum": widths | pulsed[1],
            "counting": m.counting(source, rates, spatial, pump, widths | pulsed[1]),
        }
        found = report.Findings(
            source,
            crystal,
            collection,
            figures,
            over.scaled(shares),
            m.tuning(source, crystal),
            density,
            pulsed[0],
        )
        swept = float(rates.pairs)
        write_arrays(folder, report.arrays(found))
        result = {"figures": figures, "swept": swept, "constants": report.constants(found), "versions": versions()}
        result |= {"seed": "none: nothing is drawn", "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        result |= {"wall_seconds": round(time.perf_counter() - start, 3)}
        write_result(folder, result | {"config_hash": config_hash(config), "config": config})
        images = report.write(folder, found, config)
        tracker.figures({name: leaf["value"] for name, leaf in flat(figures) if leaf["value"] is not None})
        tracker.images(images)
    print(report.text(found))
    print(f"results: {folder}")
    return swept
