"""Loggers of a run. They watch and are never in the way: what a logger cannot do is a warning line, not an end."""

import json
import logging
from collections.abc import Mapping, Sequence
from importlib import import_module
from math import isfinite
from pathlib import Path
from time import time
from typing import Any, Protocol

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from qtwin.core.errors import UserError

log = logging.getLogger(__name__)
MODES = ("offline", "online", "disabled")
TIMEOUT = 15.0  # seconds that a connection may take before the run goes on without


class Tracker(Protocol):
    """What a run tells while it goes and when it ends."""

    def note(self, **values: Any) -> None:
        """One moment: names and scalars."""

    def figures(self, figures: Mapping[str, float]) -> None:
        """Final scalars, by dotted name."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None: ...

    def images(self, paths: Sequence[Path]) -> None: ...

    def close(self) -> None: ...


class NoTracker:
    """Hears everything, says nothing."""

    def note(self, **values):
        pass

    def figures(self, figures):
        pass

    def table(self, name, columns, rows):
        pass

    def images(self, paths):
        pass

    def close(self):
        pass


class JsonLines:
    """One JSON object per line, appended to `log.jsonl` of the run folder."""

    def __init__(self, folder: Path, config: Mapping):
        self._folder = folder
        self._file = (folder / "log.jsonl").open("a", encoding="utf-8")
        self._write("config", dict(config))

    def _write(self, kind: str, content):
        line = {"time": round(time(), 3), kind: content}
        self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False, default=float) + "\n")
        self._file.flush()

    def note(self, **values):
        self._write("note", {k: v if not isinstance(v, float) or isfinite(v) else str(v) for k, v in values.items()})

    def figures(self, figures):
        self._write("figures", dict(figures))

    def table(self, name, columns, rows):
        self._write("table", {"name": name, "columns": list(columns), "rows": [list(row) for row in rows]})

    def images(self, paths):
        self._write("images", [str(Path(path).relative_to(self._folder)) for path in paths])

    def close(self):
        self._file.close()


class WandB:
    """Weights & Biases. A step that fails is a warning, and the run goes on without the logger."""

    def __init__(self, wandb, run):
        self._wandb, self._run = wandb, run

    def _try(self, what: str, act):
        if self._run is None:
            return
        try:
            act(self._run)
        except Exception as error:  # whatever wandb raises: it must not end a run
            log.warning("wandb: %s failed (%s), going on without it", what, _line(error))
            self._run = None if what == "close" else self._run

    def note(self, **values):
        self._try("log", lambda run: run.log(values))

    def figures(self, figures):
        self._try("figures", lambda run: run.summary.update(dict(figures)))

    def table(self, name, columns, rows):
        data = [list(row) for row in rows]
        self._try("table", lambda run: run.log({name: self._wandb.Table(columns=list(columns), data=data)}))

    def images(self, paths):
        self._try("images", lambda run: run.log({Path(p).stem: self._wandb.Image(str(p)) for p in paths}))

    def close(self):
        self._try("close", lambda run: run.finish())


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _names(folder: Path) -> dict[str, str]:
    """What wandb files a run under: its command, and the folder of the sweep that it is a point of."""
    if not HydraConfig.initialized():
        return {}
    state = HydraConfig.get()
    if state.mode != RunMode.MULTIRUN:
        return {"job_type": state.job.name}
    group = Path(state.sweep.dir).name
    return {"job_type": state.job.name, "group": group, "name": f"{group}/{folder.name}"}


def _wandb(folder: Path, config: Mapping, mode: str, project: str) -> Tracker:
    try:
        wandb = import_module("wandb")
        if getattr(wandb, "__file__", None) is None:
            raise ImportError(f"the folder {next(iter(wandb.__path__))!r} hides the package")
        if mode == "online" and not wandb.login(prompt=False):  # a prompt would stop the run
            raise RuntimeError("no login; run `wandb login` first, or use logger.mode=offline")
        settings = wandb.Settings(init_timeout=TIMEOUT, login_timeout=TIMEOUT, silent=True, console="off")
        names = _names(folder)
        run = wandb.init(project=project, mode=mode, dir=str(folder), config=dict(config), settings=settings, **names)
    except Exception as error:  # not installed, hidden, no service, no network: all the same to the run
        log.warning("wandb: %s; going on without a logger", _line(error))
        return NoTracker()
    return WandB(wandb, run)


def open_tracker(logger: Mapping, folder: Path, config: Mapping) -> Tracker:
    """The tracker that the group `logger` asks for. Whoever opens it closes it in `finally`."""
    accepted = {"none": set(), "jsonl": set(), "wandb": {"mode", "project"}}
    kind = logger.get("kind")
    if kind not in accepted:
        raise UserError(f"logger.kind: got {kind!r}, accepted is one of {', '.join(accepted)}")
    for key in logger:
        if key not in accepted[kind] | {"kind"}:
            raise UserError(f"logger.{key}: unknown key for the logger {kind}")
    if kind == "none":
        return NoTracker()
    if kind == "jsonl":
        return JsonLines(folder, config)
    mode = logger.get("mode", "offline")
    if mode not in MODES:
        raise UserError(f"logger.mode: got {mode!r}, accepted is one of {', '.join(MODES)}")
    return _wandb(folder, config, mode, str(logger.get("project", "qtwin")))
