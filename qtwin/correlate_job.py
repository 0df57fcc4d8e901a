"""One job of `qtwin correlate`: from a file of time tags to a folder with results."""

import dataclasses
import time
from contextlib import closing
from pathlib import Path

from omegaconf import DictConfig

from qtwin.benchmark.settings import whole_bytes
from qtwin.core.config import plain
from qtwin.core.errors import FieldError, UserError
from qtwin.core.units import parse
from qtwin.correlation.survey import Settings, survey
from qtwin.io.results import config_hash, versions, write_arrays, write_result
from qtwin.io.time_tag_files import TagFile, read_time_tags
from qtwin.io.tracking import open_tracker
from qtwin.job import flat
from qtwin.report import correlate as report

PS = 1e12


def _channel(key: str, value) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"{key}: got {value!r}, accepted is the number of a channel")
    return value


def _duration(config: dict, key: str, least: float, zero: bool = False) -> float | None:
    """Picoseconds of a setting, or None."""
    if config[key] is None:
        return None
    try:
        ps = parse(config[key], "s") * PS
    except UserError as error:
        raise FieldError(key, str(error)) from error
    if not (least <= ps < 2.0**62 or (zero and ps == 0)):
        raise FieldError(key, f"got {config[key]!r}, accepted is {'0 or ' if zero else ''}{least:g} ps or more")
    return ps


def _whole(ps: float | None) -> int | None:
    return None if ps is None else round(ps)


def settings(config: dict) -> Settings:
    """Checked settings of a survey; UserError names the key, what was given and what is accepted."""
    channels, darks = config["channels"], config["dark_rates"]
    if channels is not None:
        if not isinstance(channels, list) or len(channels) != 2 or channels[0] == channels[1]:
            raise UserError(f"channels: got {channels!r}, accepted are two different ones, such as [0,1]")
        channels = (_channel("channels", channels[0]), _channel("channels", channels[1]))
    if not isinstance(darks, list) or len(darks) != 2:
        raise UserError(f"dark_rates: got {darks!r}, accepted are two rates, such as [100 Hz, 250 Hz]")
    rates = []
    for value in darks:
        try:
            rates.append(parse(value, "Hz"))
        except UserError as error:
            raise FieldError("dark_rates", str(error)) from error
    if min(rates) < 0:
        raise UserError(f"dark_rates: got {darks!r}, accepted are rates of 0 or more")
    herald = None if config["herald"] is None else _channel("herald", config["herald"])
    if herald is not None and channels is not None and herald in channels:
        raise UserError(f"herald: got {herald}, accepted is a channel other than {channels[0]} and {channels[1]}")
    reach = _whole(_duration(config, "reach", 1000.0))
    if reach is None:
        raise UserError("reach: got null, accepted is a time, such as 1 ms")
    delay = _whole(_duration(config, "delay", -(2.0**62)))
    window, width, span = (_whole(_duration(config, key, 1.0)) for key in ("window", "bin", "range"))
    period = _duration(config, "period", 1.0, zero=True)
    return Settings(channels, herald, delay, reach, period, window, width, span, (rates[0], rates[1]))


def _of_file(tags: TagFile) -> list[str]:
    """What reading the file had to change."""
    out = []
    if tags.contents.moved:
        out.append(f"{tags.contents.moved} tags were out of order in the file and have been put in order")
    if tags.contents.left_out:
        out.append(f"{tags.contents.left_out} markers of the file are left out")
    return out


def run(cfg: DictConfig, folder: Path) -> float:
    """Survey the file, write `result.json`, `arrays.h5` and the report into ``folder``, return the net coincidences/s.

    Raises UserError for anything wrong in ``cfg`` or in the file.
    """
    start = time.perf_counter()
    config = plain(cfg)
    asked, limit = settings(config), whole_bytes("memory_limit", config["memory_limit"])
    path = Path(str(config["file"])).expanduser()
    sync = _whole(_duration(config, "sync_period", 1.0))
    disorder = _whole(_duration(config, "disorder", 1.0))
    tags = read_time_tags(path, disorder=disorder, sync_period=sync, memory_limit=limit)
    found = survey(tags, asked)
    found = dataclasses.replace(found, notes=(*_of_file(tags), *found.notes))
    with closing(open_tracker(config["logger"], folder, config)) as tracker:
        figures = report.figures(found)
        rate = figures.get("pairs", {}).get("coincidence_rate", {}).get("value")
        swept = 0.0 if rate is None else rate
        write_arrays(folder, report.arrays(found))
        result = {"figures": figures, "swept": swept, "notes": list(found.notes), "versions": versions()}
        result |= {"file": str(path), "pair": list(found.pair or ()), "seed": "none: nothing is drawn"}
        result |= {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "wall_seconds": round(time.perf_counter() - start, 3)}
        write_result(folder, result | {"config_hash": config_hash(config), "config": config})
        images = report.write(folder, found, path.name, figures, config)
        tracker.figures({name: leaf["value"] for name, leaf in flat(figures) if leaf["value"] is not None})
        tracker.images(images)
    print(report.text(found, path.name, figures))
    print(f"results: {folder}")
    return swept
