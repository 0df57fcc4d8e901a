"""What Hydra runs: one job per point, whose error must not stop the other points of a sweep."""

import logging
import traceback
from collections.abc import Callable
from contextlib import suppress
from math import nan
from pathlib import Path
from shutil import rmtree
from typing import ClassVar

import jax
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from qtwin import job
from qtwin.core.explain import explain
from qtwin.job import finished

log = logging.getLogger("qtwin")
ERROR_FILE = "error.txt"


def prepare() -> None:
    """Settings of the program, not of the library: float64, and no notice about missing accelerators."""
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)
    jax.config.update("jax_enable_x64", True)


class Failures(Callback):
    """Remembers what failed, for the end.

    The jobs of a sweep may run in other processes or on other machines: each leaves the file `error.txt` in its
    folder, and the launching process reads them.
    """

    sweep: ClassVar[Path | None] = None
    single: ClassVar[Exception | None] = None

    def on_multirun_start(self, config: DictConfig, **_) -> None:
        Failures.sweep = Path(config.hydra.sweep.dir)
        for old in Failures.sweep.rglob(ERROR_FILE):
            old.unlink()

    @classmethod
    def forget(cls) -> None:
        cls.sweep, cls.single = None, None

    @classmethod
    def report(cls) -> list[str]:
        """One line per failed point of a sweep; the error of a single run is raised."""
        if cls.single is not None:
            raise cls.single
        files = sorted(cls.sweep.rglob(ERROR_FILE)) if cls.sweep else []
        return [f"{file.parent}: {file.read_text(encoding='utf-8').splitlines()[0]}" for file in files]


def benchmark(cfg: DictConfig) -> float:
    """One point of `qtwin benchmark`."""
    return _point(cfg, job.run)


def map(cfg: DictConfig) -> float:  # named after its command
    """One point of `qtwin map`."""
    from qtwin import map_job  # as below

    return _point(cfg, map_job.run)


def transport(cfg: DictConfig) -> float:
    """One point of `qtwin transport`."""
    from qtwin import transport_job  # its report and its walk are not what a benchmark needs to start

    return _point(cfg, transport_job.run)


def source(cfg: DictConfig) -> float:
    """One point of `qtwin source`."""
    from qtwin import source_job  # as above

    return _point(cfg, source_job.run)


def correlate(cfg: DictConfig) -> float:
    """One point of `qtwin correlate`."""
    from qtwin import correlate_job  # as above

    return _point(cfg, correlate_job.run)


def _tidy(folder: Path) -> None:
    """Remove what a refused run left; its folder, too, where that is the default (``outputs/<job>/<time>``)."""
    log_file, settings = folder / "run.log", folder / ".hydra"
    with suppress(OSError):
        written = log_file.stat().st_size if log_file.exists() else 0
        if written or {path.name for path in folder.iterdir()} - {"run.log", ".hydra"}:
            return
        rmtree(settings, ignore_errors=True)
        log_file.unlink(missing_ok=True)
        if folder.parents[1] == Path.cwd() / "outputs":
            for empty in (folder, *folder.parents[:2]):
                empty.rmdir()


def _point(cfg: DictConfig, run: Callable[[DictConfig, Path], float]) -> float:
    """Its error is kept for `Failures.report`, and the sweeper sees nan."""
    prepare()
    state = HydraConfig.get()
    folder, sweeping = Path(state.runtime.output_dir), state.mode == RunMode.MULTIRUN
    try:
        if sweeping and (done := finished(cfg, folder)) is not None:
            log.info("already there: %s", folder)
            return done
        return run(cfg, folder)
    except Exception as error:
        if not sweeping:
            Failures.single = error
            if explain(error) is not None:
                _tidy(folder)
            return nan
        line = explain(error) or f"{type(error).__name__}: {error}"
        text = f"{' '.join(line.split())} ({' '.join(state.overrides.task)})\n\n{traceback.format_exc()}"
        (folder / ERROR_FILE).write_text(text, encoding="utf-8")
        return nan
