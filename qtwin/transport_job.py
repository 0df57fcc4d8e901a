"""One job of `qtwin transport`: from a composed configuration to a folder with results."""

import logging
import time
from contextlib import closing
from pathlib import Path

import jax
from omegaconf import DictConfig

from qtwin.benchmark.settings import whole, whole_bytes
from qtwin.core.config import build, check_targets, plain, quantity
from qtwin.core.errors import FieldError, UserError
from qtwin.io.results import config_hash, versions, write_arrays, write_result
from qtwin.io.tracking import open_tracker
from qtwin.job import flat
from qtwin.report import polarisation
from qtwin.report import transport as report
from qtwin.tissue import Slab
from qtwin.tissue.lights import AbstractLight, Pencil
from qtwin.tissue.phase_functions import AbstractPhaseFunction
from qtwin.tissue.polarised import polarised
from qtwin.tissue.scattering import scattering
from qtwin.tissue.tabulated import Tabulated
from qtwin.tissue.tallies import Bins, default_bins
from qtwin.tissue.transport import fits, transport

log = logging.getLogger(__name__)
COUNTS = {"rings": 2, "times": 2, "angles": 1, "depths": 1}  # and the fewest that make a curve


def _bins(node, slab: Slab) -> Bins:
    if not isinstance(node, dict) or set(node) != {"radius", "time", *COUNTS}:
        raise UserError(f"bins: got {node!r}, expected the keys radius, time, {', '.join(COUNTS)}")
    usual = default_bins(slab)
    reach = {name: getattr(usual, name) if node[name] is None else node[name] for name in ("radius", "time")}
    counts = {name: whole(f"bins.{name}", node[name], least, 10000) for name, least in COUNTS.items()}
    values = {name: value if isinstance(value, str) else float(value) for name, value in reach.items()}
    return build({"_target_": "qtwin.tissue.tallies.Bins", **values, **counts}, "bins")


def _phase(node) -> AbstractPhaseFunction | None:
    """The law of scattering of all layers; None is Henyey & Greenstein's with the g of the tissue."""
    if not node:
        return None
    try:
        law = Tabulated.read(str(node["file"])) if isinstance(node, dict) and "file" in node else build(node, "phase")
    except FieldError as error:
        raise error.within("phase") from error
    if not isinstance(law, AbstractPhaseFunction):
        raise UserError(f"phase: got {node!r}, expected a law of scattering (phase=mie)")
    return law


def run(cfg: DictConfig, folder: Path) -> float:
    """Walk, write `result.json`, `arrays.h5` and the report into ``folder``, and return the transmittance.

    Raises UserError for anything wrong in ``cfg``, before any work is done.
    """
    start = time.perf_counter()
    config = plain(cfg)
    check_targets(config)
    slab = build(config.get("tissue"), "tissue")
    if not isinstance(slab, Slab):
        raise UserError(f"tissue: got {config.get('tissue')!r}, expected layers (qtwin.tissue.Slab)")
    light = build(config.get("light"), "light")
    if not isinstance(light, AbstractLight):
        raise UserError(f"light: got {config.get('light')!r}, expected a source of light on tissue (light=pencil)")
    try:
        light.check_in(slab)
    except FieldError as error:
        raise error.within("light") from error
    phase = _phase(config.get("phase"))
    shown = scattering(slab, phase)[0]  # with the law's mean cosine
    aperture = config["numerical_aperture"]
    if isinstance(aperture, bool) or not isinstance(aperture, (int, float)) or not 0 < aperture <= 1:
        raise UserError(f"numerical_aperture: got {aperture!r}, accepted is a number greater than 0 and at most 1")
    if not isinstance(config["derivatives"], bool):
        raise UserError(f"derivatives: got {config['derivatives']!r}, accepted is true or false")
    seed = whole("seed", config["seed"], 0, 2**63 - 1)
    photons, limit = (
        whole("photons", config["photons"], 1, 2**32 - 1),
        whole_bytes("memory_limit", config["memory_limit"]),
    )
    bins = _bins(config["bins"], slab)
    fits(slab, photons, bins, limit, not isinstance(light, Pencil))
    quantity(config, "wavelength", "m")  # a slab of numbers does not ask for it
    stokes = config["stokes"]
    if stokes is not None and not isinstance(light, Pencil):
        raise UserError("stokes: accepted with light=pencil only")
    key, polar = jax.random.key(seed), None
    if stokes is not None:
        try:
            polar = polarised(slab, phase, stokes, key=key, photons=photons, bins=bins, memory_limit=limit)
        except UserError as error:  # here its scatterers are the `phase` of all layers
            raise UserError(str(error).replace("scatterers", "phase", 1)) from error
    with closing(open_tracker(config["logger"], folder, config)) as tracker:
        log.info("walking %d photons", photons)
        found = transport(
            slab,
            key=key,
            photons=photons,
            light=light,
            phase=phase,
            bins=bins,
            numerical_aperture=float(aperture),
            derivatives=config["derivatives"],
            memory_limit=limit,
        )
        figures, swept = report.figures(shown, found), float(found.tallies["transmittance"].value)
        figures |= {"polarisation": polarisation.figures(polar)} if polar else {}
        write_arrays(folder, report.arrays(shown, found))
        result = {"figures": figures, "swept": swept, "photons": found.photons, "seed": seed, "versions": versions()}
        result |= {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "wall_seconds": round(time.perf_counter() - start, 3)}
        write_result(folder, result | {"config_hash": config_hash(config), "config": config})
        images = report.write(folder, shown, light, phase, found, polar, config)
        tracker.figures({name: leaf["value"] for name, leaf in flat(figures)})
        tracker.images(images)
    print(report.text(shown, found) + (f"\n{polarisation.text(polar)}" if polar else ""))
    print(f"results: {folder}")
    return swept
