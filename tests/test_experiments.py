"""Every experiment composes and runs, with a small budget."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from qtwin import job
from qtwin.calibrate.model import AbstractModel
from qtwin.core.config import build, compose, plain

FILES = sorted((ROOT / "conf" / "experiment").glob("*.yaml"))
TINY = ["optics.pixels=8", "optics.pitch=400um", "walk.photons=8192", "budget.photons=50", "budget.exposures=4"]
VERDICTS = {"quantum wins", "classical wins", "no difference at this budget"}


def command(path: Path) -> str:
    """The command that runs an experiment, from the comments that open its file."""
    header = [line[1:].strip() for line in path.read_text().splitlines() if line.startswith("#")]
    commands = [line for line in header if re.match(r"(qtwin|python) ", line)]
    assert len(commands) == 1, f"{path.name}: the header holds the one command that runs it"
    return commands[0]


def calibrates(path: Path) -> bool:
    return command(path).startswith("qtwin calibrate ")


MEASURED = [path for path in FILES if calibrates(path)]
IMAGED = [path for path in FILES if not calibrates(path)]


@pytest.mark.parametrize("path", IMAGED, ids=lambda p: p.stem)
def test_experiment_composes_into_elements(path):
    assert list(job.elements(compose([f"experiment={path.stem}"]))) == [*job.ELEMENTS, "protocols"]


@pytest.mark.parametrize("path", MEASURED, ids=lambda p: p.stem)
def test_experiment_composes_into_a_model_of_a_measurement(path):
    cfg = compose([f"experiment={path.stem}"], name="calibrate")
    assert isinstance(build(plain(cfg.model), "model"), AbstractModel)
    assert cfg.data is None, "measured data are not part of the project"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_header_names_the_command_that_runs_it(path):
    program, *words = command(path).split()
    if program == "qtwin":
        assert f"experiment={path.stem}" in words
    else:
        script = ROOT / words[0]
        assert script.is_file() and f"experiment={path.stem}" in script.read_text()


def leaves(figures):
    return [leaf for _, leaf in job.flat(figures)]


def python(*args, cwd):
    """A process of its own: programs are compiled without optimisation, which takes half the time."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    done = subprocess.run(
        [sys.executable, *args], cwd=cwd, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_tissue_depth_at_one_thin_section(tmp_path):
    small = ["tissue.thickness=20um", "logger=none", "hydra.run.dir=.", *TINY]
    table = python("-m", "qtwin.cli", "benchmark", "experiment=tissue_depth", *small, cwd=tmp_path)
    assert "twin beams, optimal k" in table
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["swept"] > 0
    assert (tmp_path / "report.html").exists() and (tmp_path / "arrays.h5").exists()
    figures = leaves(result["figures"])
    assert len(figures) > 50 and all({"value", "stderr", "unit"} <= set(leaf) for leaf in figures)
    assert all(leaf["stderr"] is None or leaf["stderr"] >= 0 for leaf in figures)
    versus = result["figures"]["advantage"]["twin beams, optimal k"]["coherent, camera"]
    assert versus["low"] < versus["value"] < versus["high"]
    assert result["figures"]["tissue"]["point_spread_rms"]["unit"] == "m"
    verdicts = [text for opponents in result["verdicts"].values() for text in opponents.values()]
    assert verdicts and set(verdicts) <= VERDICTS


def test_tissue_depth_sweeps_over_thickness():
    cfg = compose(["experiment=tissue_depth"], hydra_node=True)
    values = cfg.hydra.sweeper.params["tissue.thickness"].split(",")
    assert len(values) == len(set(values)) > 3
    for value in values:
        compose(["experiment=tissue_depth", f"tissue.thickness={value}"])


def test_measured_bell_predicts_every_setting_once():
    cfg = compose(["experiment=measured_bell"], name="calibrate", hydra_node=True)
    rounds = json.loads(f"[{cfg.hydra.sweeper.params.held_back}]")
    assert sorted(row for held in rounds for row in held) == list(range(16))
    for held in rounds:  # rows are alpha major: each angle of either analyser is left out once
        assert {row // 4 for row in held} == {row % 4 for row in held} == set(range(4))
        assert plain(compose(["experiment=measured_bell", f"held_back={held}"], name="calibrate").held_back) == held


STUDY = """
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("study", sys.argv[1])
study = importlib.util.module_from_spec(spec)
spec.loader.exec_module(study)
study.STEPS, study.POWERS, study.LENGTHS = 3, study.POWERS[::20], study.LENGTHS[::15]
study.main(sys.argv[2:], folder=pathlib.Path.cwd())
"""


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in IMAGED if command(p).startswith("qtwin")], ids=lambda p: p.stem)
def test_experiment_runs_with_a_small_budget(path, tmp_path):
    small = ["optics.pixels=8", "walk.photons=8192", "budget.exposures=4", "logger=none", "hydra.run.dir=."]
    words = [word for word in command(path).split()[2:] if word != "-m"]
    python("-m", "qtwin.cli", "benchmark", *words, *small, cwd=tmp_path)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["swept"] > 0 and (tmp_path / "report.html").exists()


@pytest.mark.slow
def test_measured_bell_predicts_a_round(reference_data, tmp_path):
    table = reference_data / "bell" / "epj2024_lahoz_phi_plus_table11.csv"
    if not table.is_file():
        pytest.skip("the folder of reference data lacks the measured Bell table")
    given = {"data=TABLE.csv": f"data={table}"}
    header = command(ROOT / "conf" / "experiment" / "measured_bell.yaml").split()[2:]
    words = [given.get(word, word) for word in header if word != "-m"]
    small = ["held_back=[0,5,10,15]", "draws=0", "starts=3", "logger=none", "hydra.run.dir=."]
    python("-m", "qtwin.cli", "calibrate", *words, *small, cwd=tmp_path)
    found = json.loads((tmp_path / "result.json").read_text())["figures"]["goodness"]
    assert found["held_back_numbers"]["value"] == 12
    assert found["held_back_p_value"]["value"] > 0.01 and (tmp_path / "report.html").exists()


@pytest.mark.slow
def test_source_tuning_climbs(tmp_path):
    path = ROOT / "experiments" / "source_tuning" / "run.py"
    before = {file.name: file.stat().st_mtime_ns for file in path.parent.iterdir() if file.is_file()}
    small = ["optics.pixels=6", "optics.pitch=500um", "walk.photons=8192"]
    printed = json.loads(python("-c", STUDY, str(path), *small, cwd=tmp_path))
    result = json.loads((tmp_path / "result.json").read_text())
    assert printed == result
    assert result["gain"]["value"] > 1
    assert result["optimum"].keys() == result["start"].keys() == {"source.pump_power", "source.crystal_length"}
    assert all(0 < v < 1 for v in result["optimum"].values())
    assert (tmp_path / "scan.png").read_bytes().startswith(b"\x89PNG")
    after = {file.name: file.stat().st_mtime_ns for file in path.parent.iterdir() if file.is_file()}
    assert after == before, "the stored result stays as it was"
