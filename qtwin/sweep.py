"""What Hydra runs: one job per point, whose error must not stop the other points of a sweep.

Several processes may work on one sweep, and any of them may be killed at any moment: whoever runs a point holds the
lock of its folder, which the system frees when the process ends, and a finished point is never run again.
"""

import atexit
import logging
import os
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from importlib.util import find_spec
from io import StringIO
from math import nan
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory, mkdtemp
from typing import IO, Any, ClassVar

import jax
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from qtwin import job
from qtwin.core import hosts
from qtwin.core.config import plain
from qtwin.core.errors import FieldError, UserError
from qtwin.core.explain import explain
from qtwin.io.before import set_aside, settle, whole
from qtwin.io.claims import CLAIM, claim, lock, touch
from qtwin.io.results import write_whole
from qtwin.job import finished
from qtwin.tissue.carry import cores

log = logging.getLogger("qtwin")
ERROR_FILE, AT_WORK = "error.txt", ".at_work"
NOT_INSTALLED = "not installed, accepted is pip install -e '.[{}]'"
LEFT = "not finished, and the process that ran it has ended; accepted is the same command again"


PLUGINS = {  # Hydra's own name of a launcher or sweeper -> package behind it, and our extra
    "joblib": ("joblib", "joblib"),
    "submitit_local": ("submitit", "slurm"),
    "submitit_slurm": ("submitit", "slurm"),
    "ray": ("ray", "ray"),
    "optuna": ("optuna", "optuna"),
}


def _plugin(place: str, choice: str, extra: str) -> str:
    """The class of a plugin, where it is installed. ``choice`` is what was asked for."""
    if place not in Plugins.instance().class_name_to_class:
        raise FieldError(choice, NOT_INSTALLED.format(extra))
    return place


OmegaConf.register_new_resolver("plugin", _plugin, replace=True)


MAPS = Path("/proc/self/maps")  # of Linux: what this process has mapped
CROWDED = 16384  # every compiled function takes some; the kernel kills a process that asks for more than 65530


def prepare() -> None:
    """Settings of the program, not of the library: float64, and no notice about missing accelerators."""
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)
    jax.config.update("jax_enable_x64", True)
    make_room()


def make_room() -> None:
    """Let go what was compiled, where there is so much of it that a long sweep over sizes would be killed."""
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > CROWDED:
        jax.clear_caches()


class Failures(Callback):
    """Remembers what failed, for the end.

    The jobs of a sweep may run in other processes or on other machines: each leaves the file `error.txt` in its
    folder, and the launching process reads them. Old ones are removed by the first process that works on a sweep.
    """

    sweep: ClassVar[Path | None] = None
    single: ClassVar[Exception | None] = None
    at_work: ClassVar[IO | None] = None  # locked, shared with all others that work on this sweep
    since: ClassVar[int] = 0  # points that were visited after this moment belong to this sweep

    def on_multirun_start(self, config: DictConfig, **_) -> None:
        Failures.sweep = Path(config.hydra.sweep.dir)
        with suppress(OSError, UserError):  # the sweep itself will say that this is no folder, or has no locks
            Failures.sweep.mkdir(parents=True, exist_ok=True)
            Failures.at_work = file = (Failures.sweep / AT_WORK).open("a")
            if lock(file):
                for old in Failures.sweep.rglob(ERROR_FILE):
                    old.unlink()
            lock(file, wait=True, shared=True)
            Failures.since = touch(file)

    @classmethod
    def forget(cls) -> None:
        if cls.at_work is not None:
            cls.at_work.close()
        cls.sweep, cls.single, cls.at_work = None, None, None

    @classmethod
    def report(cls) -> list[str]:
        """One line per point of a sweep that has failed; the error of a single run is raised.

        Waits for the points that other processes are running.
        """
        if cls.single is not None:
            raise cls.single
        lines = []
        for file in sorted(cls.sweep.rglob(CLAIM)) if cls.sweep else []:
            folder = file.parent
            if file.stat().st_mtime_ns < cls.since:
                continue
            with claim(folder, wait=True):
                if (folder / ERROR_FILE).exists():
                    lines.append(f"{folder}: {(folder / ERROR_FILE).read_text(encoding='utf-8').splitlines()[0]}")
                elif not whole(folder):
                    lines.append(f"{folder}: {LEFT}")
        cls.forget()
        return lines


def arguments(overrides: Sequence[str]) -> list[str]:
    """What Hydra is told beside ``overrides``; UserError for a plugin that is not installed.

    The second of several hosts, and those after it, keep Hydra's own files out of the results.
    """
    index: Any = 0
    for o in OverridesParser.create().parse_overrides(list(overrides)):
        value: Any = None if o.is_sweep_override() else o.value()
        if o.key_or_group in ("hydra/launcher", "hydra/sweeper") and str(value) in PLUGINS:
            package, extra = PLUGINS[value]
            plugin = f"hydra_plugins.hydra_{package}_{o.key_or_group.removeprefix('hydra/')}"
            if find_spec("hydra_plugins") is None or find_spec(plugin) is None:
                raise FieldError(f"{o.key_or_group}={value}", NOT_INSTALLED.format(extra))
        if o.key_or_group in ("hosts", "hosts.index"):
            index = value.get("index", 0) if isinstance(value, dict) else value
    if index in (0, None):
        return []
    place = mkdtemp(prefix="qtwin-")
    atexit.register(rmtree, place, ignore_errors=True)
    return [f"hydra.run.dir={place}", "hydra.output_subdir=null"]


def _company(launcher: DictConfig) -> None:
    """Points side by side on a machine share its cores: NPROC is heeded by jax, when it starts, and by the walk."""
    if "n_jobs" in launcher:  # joblib
        jobs = launcher.n_jobs if launcher.n_jobs > 0 else cores()
    elif "ray" in launcher:
        jobs = cores() / (launcher.ray.remote.get("num_cpus") or 1)
    else:
        return
    os.environ.setdefault("NPROC", str(max(int(cores() / jobs), 1)))


def benchmark(cfg: DictConfig) -> float:
    """One point of `qtwin benchmark`."""
    return _point(cfg, job.run)


def design(cfg: DictConfig) -> float:
    """One point of `qtwin design`."""
    from qtwin import design_job  # as below

    return _point(cfg, design_job.run)


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


def calibrate(cfg: DictConfig) -> float:
    """One point of `qtwin calibrate`."""
    from qtwin import calibrate_job  # as above

    return _point(cfg, calibrate_job.run)


def _tidy(folder: Path, refused: bool) -> None:
    """Remove what a run without results left; its folder, too, where that is the default (``outputs/<job>/<time>``).

    Its logs stay where it was not ``refused`` (a full disk), and in a folder that the user has named.
    """
    default = folder.parents[1] == Path.cwd() / "outputs"
    logs = [folder / name for name in ("run.log", "log.jsonl")]
    with suppress(OSError):
        written = any(file.exists() and file.stat().st_size for file in logs) and not (refused and default)
        if written or {path.name for path in folder.iterdir()} - {"run.log", "log.jsonl", ".hydra"}:
            return
        rmtree(folder / ".hydra", ignore_errors=True)
        for file in logs:
            file.unlink(missing_ok=True)
        if default:
            for empty in (folder, *folder.parents[:2]):
                empty.rmdir()


def _point(cfg: DictConfig, run: Callable[[DictConfig, Path], float]) -> float:
    """Its error is kept for `Failures.report`, and the sweeper sees nan."""
    prepare()
    state = HydraConfig.get()
    if state.mode == RunMode.MULTIRUN:
        _company(state.launcher)
    folder = Path(state.runtime.output_dir)
    with open_dict(cfg):  # who computes is no part of what is computed
        others = plain(cfg.pop("hosts", None))
    if state.mode == RunMode.MULTIRUN:
        needed = not state.sweeper._target_.endswith(".BasicSweeper")  # Optuna goes on from the number
        with claim(folder, wait=needed) as mine:
            return _of_sweep(cfg, folder, run, others) if mine else _elsewhere(folder)
    try:
        return _together(cfg, folder, run) if hosts.connect(others) else run(cfg, folder)
    except Exception as error:
        Failures.single = error
        if explain(error) is not None:
            _tidy(folder, isinstance(error, UserError))
        return nan


def _elsewhere(folder: Path) -> float:
    log.info("another process runs it: %s", folder)
    return nan


def _of_sweep(cfg: DictConfig, folder: Path, run: Callable[[DictConfig, Path], float], others) -> float:
    """A point that this process has claimed, unless it is finished, or has failed in a process beside this one."""
    try:
        settle(folder)  # what a killed process has left
        if others and others.get("count", 1) != 1:
            raise UserError("hosts.count: got a sweep, accepted is one run; points go out by hydra/launcher=...")
        if (done := finished(cfg, folder)) is not None:
            log.info("already there: %s", folder)
            return done
        if (folder / ERROR_FILE).exists():
            log.info("has failed already: %s", folder)
            return nan
        set_aside(folder)
        return run(cfg, folder)
    except Exception as error:
        line = explain(error) or f"{type(error).__name__}: {error}"
        told = f"{' '.join(line.split())} ({' '.join(HydraConfig.get().overrides.task)})"
        write_whole(folder / ERROR_FILE, f"{told}\n\n{traceback.format_exc()}".encode())
        return nan
    finally:
        settle(folder)


def _together(cfg: DictConfig, folder: Path, run: Callable[[DictConfig, Path], float]) -> float:
    """One run on several hosts: all compute, the first one writes."""
    try:
        if hosts.first():
            number = run(cfg, folder)
        else:
            cfg.logger = {"kind": "none"}
            with TemporaryDirectory() as aside, redirect_stdout(StringIO()):
                number = run(cfg, Path(aside))
        hosts.leave()
        return number
    except BaseException as error:
        line = explain(error)
        if line is None:
            traceback.print_exc()
        hosts.fail(line or type(error).__name__)
