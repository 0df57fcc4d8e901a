"""Hydra's launchers and the Optuna sweeper with the settings of conf/hydra; wandb groups the runs of a sweep.

`python scripts/launchers.py` runs them all on a real benchmark.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
from conftest import ROOT
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf, open_dict

from qtwin import sweep
from qtwin.cli import main
from qtwin.core.config import compose
from qtwin.io.collect import read_sweep
from qtwin.io.tracking import open_tracker
from qtwin.tissue.carry import cores

OURS = {
    "hydra/launcher=cores": ("joblib_launcher", "joblib"),
    "hydra/launcher=slurm": ("submitit_launcher", "slurm"),
    "hydra/launcher=slurm_local": ("submitit_launcher", "slurm"),
    "hydra/launcher=ray_cluster": ("ray_launcher", "ray"),
    "hydra/sweeper=search": ("optuna_sweeper", "optuna"),
}
HYDRAS = {
    "hydra/launcher=joblib": "joblib",
    "hydra/launcher=submitit_slurm": "slurm",
    "hydra/launcher=submitit_local": "slurm",
    "hydra/launcher=ray": "ray",
    "hydra/sweeper=optuna": "optuna",
}


def there(plugin: str) -> bool:
    return find_spec("hydra_plugins") is not None and find_spec(f"hydra_plugins.hydra_{plugin}") is not None


@pytest.mark.parametrize("choice", OURS)
def test_settings_compose_and_name_a_class_that_is_there(choice):
    part = choice.partition("=")[0].partition("/")[2]
    node = compose([choice, "file=none"], name="correlate", hydra_node=True).hydra[part]
    if there(OURS[choice][0]):
        assert node._target_ in Plugins.instance().class_name_to_class
    else:
        told = OmegaConf.to_container(node, resolve=False)["_target_"]
        assert f"hydra_{OURS[choice][0]}" in told and f"'{choice}',{OURS[choice][1]}" in told


@pytest.mark.parametrize(("choice", "extra"), [*HYDRAS.items(), *((c, e) for c, (_, e) in OURS.items())])
def test_a_plugin_that_is_missing_is_one_clear_line(tmp_path, monkeypatch, capsys, choice, extra):
    monkeypatch.chdir(tmp_path)
    core = {k: v for k, v in Plugins.instance().class_name_to_class.items() if not k.startswith("hydra_plugins.")}
    monkeypatch.setattr(Plugins.instance(), "class_name_to_class", core)
    monkeypatch.setattr(sweep, "find_spec", lambda _: None)
    assert main(["correlate", "-m", "reach=1,2", "file=none", "logger=none", choice]) == 2
    line = f"qtwin: error: {choice}: not installed, accepted is pip install -e '.[{extra}]'\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    ("launcher", "threads"),
    [
        ({"n_jobs": -1}, 1),
        ({"n_jobs": 1}, cores()),
        ({"n_jobs": cores()}, 1),
        ({"n_jobs": 10 * cores()}, 1),
        ({"ray": {"init": {}, "remote": {"num_cpus": 1}}}, 1),
        ({"ray": {"init": {}, "remote": {}}}, 1),
        ({}, None),
    ],
)
def test_points_side_by_side_share_the_cores(monkeypatch, launcher, threads):
    monkeypatch.setattr(os, "environ", {})
    sweep._company(OmegaConf.create(launcher))
    assert os.environ.get("NPROC") == (None if threads is None else str(threads))
    assert cores() == (threads or cores())


@pytest.fixture
def under_hydra(monkeypatch):
    """As in a job of Hydra: a point of a sweep, or a single run."""

    def put(mode):
        cfg = compose(["file=none", "hydra.sweep.dir=multirun/night"], name="correlate", hydra_node=True)
        with open_dict(cfg):
            cfg.hydra.mode = mode
        monkeypatch.setattr(HydraConfig.instance(), "cfg", cfg)

    return put


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        ("MULTIRUN", {"job_type": "correlate", "group": "night", "name": "night/3"}),
        ("RUN", {"job_type": "correlate"}),
        (None, {}),
    ],
)
def test_wandb_groups_the_runs_of_a_sweep(tmp_path, monkeypatch, under_hydra, mode, names):
    given = {}
    fake = SimpleNamespace(__file__="wandb.py", Settings=dict, init=lambda **k: given.update(k))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    if mode:
        under_hydra(mode)
    (tmp_path / "3").mkdir()
    open_tracker({"kind": "wandb"}, tmp_path / "3", {}).close()
    assert {k: given[k] for k in ("job_type", "group", "name") if k in given} == names


def test_hosts_and_a_sweep_exclude_each_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["correlate", "-m", "reach=1,2", "file=none", "logger=none", "++hosts.count=2", "hydra.sweep.dir=all"]
    assert main(command) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all("hosts.count: got a sweep, accepted is one run" in line for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["cores", "ray_cluster"])  # all of them: scripts/launchers.py
def test_two_points_go_out(tmp_path, launcher):
    """Each in float64, in a process that is not the launching one; a point that fails is told at the end."""
    if not there(OURS[f"hydra/launcher={launcher}"][0]):
        pytest.skip(f"hydra/launcher={launcher} is not installed")
    command = [sys.executable, "-m", "qtwin.cli", "source", "-m", "source.waist=50um,-1um", "grid=32", "records=100"]
    command += ["logger=none", f"hydra/launcher={launcher}", "hydra.sweep.dir=all"]
    environment = {k: v for k, v in os.environ.items() if k != "HYDRA_FULL_ERROR"} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    errors = [line for line in done.stderr.splitlines() if line.startswith("qtwin: error: ")]
    assert done.returncode == 2 and len(errors) == 1, done.stderr
    assert "all/1: source.waist: got" in errors[0] and not (tmp_path / "all/1/result.json").exists()
    result = json.loads((tmp_path / "all/0/result.json").read_text())
    assert result["swept"] != float(f"{result['swept']:.7g}")  # more digits than float32 has
    found = read_sweep(tmp_path / "all")
    assert (found.command, found.main(), [p.state for p in found.points]) == (
        "source",
        "usable.pairs",
        ["done", "failed"],
    )
