"""The command line from outside: exit codes, one clear line per mistake, folders, sweeps."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import fake_benchmark
import pytest
from conftest import ROOT

from qtwin.cli import main

HERE = str(ROOT / "tests")

# the comparison itself has its own tests
FAKE = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import fake_benchmark
fake_benchmark.put_in_place(sys.modules.__setitem__)
from qtwin.cli import main
sys.exit(main())
"""


@pytest.fixture
def cli(tmp_path, small_conf):
    """Run `qtwin` in an empty folder that overlays the small configuration."""
    folder = tmp_path / "here"
    folder.mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "HYDRA_FULL_ERROR"} | {"PYTHONPATH": str(ROOT)}

    def run(*args, cwd=folder, conf=small_conf):
        overlay = ["--config-dir", str(conf)] if conf and args[0] in ("benchmark", "info") else []
        command = [sys.executable, "-c", FAKE, HERE, *args, *overlay]
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)

    run.folder, run.environment, run.conf = folder, environment, small_conf
    return run


@pytest.fixture
def complaint(tmp_path, small_conf, monkeypatch, capfd):
    """Run `qtwin` in this process; the one line that a mistake must leave."""
    fake_benchmark.put_in_place(partial(monkeypatch.setitem, sys.modules))
    if "qtwin.job" in sys.modules:  # another test of this process has it already
        monkeypatch.setattr("qtwin.job.compare", fake_benchmark.compare)
        monkeypatch.setattr("qtwin.job.page", sys.modules["qtwin.report.page"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def run(*args):
        overlaid = args[0] in ("benchmark", "info") and "--config-dir" not in args
        overlay = ["--config-dir", str(small_conf)] if overlaid else []
        assert main([*args, *overlay]) == 2
        lines = capfd.readouterr().err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("qtwin: error: "), lines
        return lines[0]

    return run


@pytest.mark.parametrize("args", [["--help"], ["benchmark", "--help"], ["info", "--help"], ["--version"]])
def test_help_answers(args):
    done = subprocess.run([sys.executable, "-m", "qtwin.cli", *args], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    text = done.stdout
    assert "0.1" in text if args == ["--version"] else "logger: jsonl, none, wandb" in text and "examples:" in text


def test_help_imports_nothing_heavy():
    check = (
        "import sys; from qtwin.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('jax', 'hydra', 'pint', 'numpy', 'wandb', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_run_leaves_its_results(cli):
    done = cli("benchmark", "hydra.run.dir=out", "seed=0")
    assert done.returncode == 0, done.stderr
    assert "the table" in done.stdout
    result = json.loads((cli.folder / "out" / "result.json").read_text())
    assert result["figures"]["ghost"]["cnr"] == {"value": 1.5, "stderr": 0.1, "unit": ""}
    assert result["seed"] == 0 and result["swept"] == pytest.approx(810e-9)
    assert result["config"]["source"]["wavelength"] == "810 nm" and "hydra" not in result["config"]
    log = (cli.folder / "out/log.jsonl").read_text().splitlines()
    kinds = [next(k for k in json.loads(line) if k != "time") for line in log]
    assert kinds == ["config", "note", "figures", "table", "images"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["foo"], ["'foo'", *("source benchmark design map validate transport correlate info collect".split())]),
        (["benchmark", "--nonsense"], ["--nonsense"]),
        (["benchmark", "tissue=foo"], ["'tissue/foo'", "available: breast,", "skin"]),
        (["benchmark", "tisue=skin"], ["'tisue'", "tissue"]),
        (["benchmark", "tissue.thicknes=3mm"], ["'tissue.thicknes'", "wavelength"]),
        (["benchmark", "budget.photon=3"], ["'budget.photon'", "photons"]),
        (["benchmark", "source.wavelength=5^2"], ["source.wavelength=5^2", "quotes"]),
        (["benchmark", "source.wavelength=3 µm"], ["source.wavelength=3 µm", "quotes"]),
        (["benchmark", "source.wavelength=3 kg"], ["source.wavelength", "'3 kg'", "length"]),
        (["benchmark", "source.wavelength=-810nm"], ["source.wavelength", "greater than 0"]),
        (["benchmark", "+source.colour=red"], ["source.colour", "'red'", "wavelength"]),
        (["benchmark", "tissue._target_=os.system"], ["tissue._target_", "'os.system'"]),
        (["benchmark", "budget.photons=0"], ["budget.photons", "greater than 0"]),
        (["benchmark", "memory_limit=3 apples"], ["memory_limit", "'3 apples'", "3 GiB"]),
        (["benchmark", "scene.file=photo.png"], ["scene.file", "unknown key"]),  # the small conf reads no picture
        (["benchmark", "seed=13"], ["seed: 13 is unlucky"]),
        (["benchmark", "seed=14"], ["memory"]),
        (["benchmark", "seed=15"], ["No space left on device", "arrays.h5"]),
        (["benchmark", "seed=1,2"], ["'seed=1,2'", "-m", "seed=[1,2]"]),
        (["benchmark", "logger=null"], ["NoneType"]),
        (["benchmark", "--resolve"], ["--cfg"]),
        (["info", "tissue=foo"], ["'tissue/foo'", "available: breast,", "skin"]),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else None,
)
def test_mistakes_leave_one_line(complaint, args, words):
    line = complaint(*args)
    assert all(word in line for word in words), line


def test_a_bug_shows_its_traceback(cli):
    done = cli("benchmark", "seed=16")
    assert done.returncode == 1 and "Traceback" in done.stderr and "a bug" in done.stderr


def test_debug_shows_the_traceback_of_a_mistake(cli):
    assert "Traceback" in cli("benchmark", "tissue=foo", "--debug").stderr


def test_a_file_in_place_of_the_folder(complaint, tmp_path):
    (tmp_path / "outputs").write_text("")
    assert "outputs" in complaint("benchmark")
    assert "outputs" in complaint("benchmark", "-m", "seed=1,2", "hydra.sweep.dir=outputs")
    assert "'absent'" in complaint("benchmark", "--config-dir", "absent")


def test_a_folder_that_cannot_be_written_names_its_key(complaint):
    line = complaint("benchmark", "hydra.run.dir=/proc/nowhere")
    assert line.startswith("qtwin: error: hydra.run.dir: ") and "/proc/nowhere" in line and "accepted is" in line


def test_a_refused_run_leaves_no_folder(complaint, tmp_path):
    complaint("benchmark", "source.wavelength=3 kg")
    assert not (tmp_path / "outputs").exists()
    complaint("benchmark", "seed=13", "logger=jsonl")  # after the first step of the work
    assert not (tmp_path / "outputs").exists()
    complaint("benchmark", "seed=15")  # a full disk: its log stays
    assert len(list((tmp_path / "outputs").rglob("run.log"))) == 1
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "empty.txt").touch()
    complaint("benchmark", "source.wavelength=3 kg", "hydra.run.dir=mine")
    assert (tmp_path / "mine" / "empty.txt").exists()
    complaint("benchmark", "source.wavelength=3 kg", "hydra.run.dir=.")
    assert tmp_path.exists() and (tmp_path / "mine").exists()


def test_exit_code_and_line_reach_the_shell(cli):
    done = cli("benchmark", "tissue=foo")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("qtwin: error: could not find 'tissue/foo', available: breast,")
    assert list(cli.folder.iterdir()) == []


def test_own_conf_is_added_and_wins(cli):
    own = cli.folder / "conf" / "tissue"
    own.mkdir(parents=True)
    text = "_target_: qtwin.source.Coherent\nwavelength: 700 nm\n"
    (own / "breast.yaml").write_text(text)
    (own / "liver.yaml").write_text(text.replace("700", "600"))
    for name, number in (("breast", 700), ("liver", 600)):
        done = cli("benchmark", f"tissue={name}", "--cfg", "job")
        assert done.returncode == 0 and f"wavelength: {number} nm" in done.stdout
    # --config-dir stands before ./conf only for what it holds itself
    assert "wavelength: 810 nm" in cli("benchmark", "tissue=skin", "--cfg", "job", "--package", "tissue").stdout


def test_info_tells_where_values_come_from(cli):
    done = cli("info", "source.wavelength=700 nm")
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line}
    assert "700 nm" in rows["source.wavelength"] and "set here (the file has 810 nm)" in rows["source.wavelength"]
    assert rows["tissue.wavelength"].endswith("a catalogue")
    assert "  tissue: breast," in done.stdout and "jax" in rows["qtwin"]


def test_a_sweep_goes_on_after_a_failure_and_is_not_run_twice(cli):
    sweep = ["benchmark", "seed=1,13,2", "-m", "hydra.sweep.dir=all"]
    done = cli(*sweep)
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if line.startswith("qtwin: error: ")] == [
        "qtwin: error: all/1: seed: 13 is unlucky (seed=13)"
    ]
    assert (cli.folder / "all/2/result.json").exists() and not (cli.folder / "all/1/result.json").exists()
    before = (cli.folder / "all/0/result.json").stat().st_mtime_ns
    again = cli(*sweep[:1], "seed=1,3,2", *sweep[2:])
    assert again.returncode == 0, again.stderr
    assert (cli.folder / "all/0/result.json").stat().st_mtime_ns == before
    assert (cli.folder / "all/1/result.json").exists()


def test_interrupted_sweep_keeps_finished_points(cli):
    command = [sys.executable, "-c", FAKE, HERE, "benchmark", "-m", "seed=1,17", "hydra.sweep.dir=all"]
    with subprocess.Popen(
        [*command, "--config-dir", str(cli.conf)],
        cwd=cli.folder,
        env=cli.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    ) as process:
        deadline = time.monotonic() + 200
        while not (cli.folder / "all/1/log.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "qtwin: interrupted" and "Traceback" not in errors
    assert json.loads((cli.folder / "all/0/result.json").read_text())["seed"] == 1
    assert not (cli.folder / "all/1/result.json").exists()
