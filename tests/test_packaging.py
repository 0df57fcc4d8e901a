"""What an installation holds: the wheel carries conf/, an editable install reads the original."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib

import pytest
from conftest import ROOT


def test_every_folder_of_the_package_is_in_the_list():
    """A folder that is missing in pyproject.toml would be missing in the wheel alone."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {".".join(file.parent.relative_to(ROOT).parts) for file in (ROOT / "qtwin").rglob("*.py")}
    assert sorted(listed) == sorted({*found, "qtwin.conf"})


@pytest.fixture
def source(tmp_path):
    """A copy of what is installed: building leaves its products there."""
    copy = tmp_path / "source"
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in ("qtwin", "conf", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignore)
    for file in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / file, copy / file)
    return copy


@pytest.fixture
def clean(tmp_path):
    """A new environment that sees the dependencies of this one, but not its qtwin."""
    folder, elsewhere = tmp_path / "venv", tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def run(program, *args):
        command = [folder / "bin" / program, *map(str, args)]
        done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run.site = site
    return run


ALONE = "from importlib.util import find_spec as f; print([n for n in ('conf', 'tests', 'scripts') if f(n)])"
WHERE = "from qtwin.core.folders import find_conf; print(find_conf())"


@pytest.mark.slow
def test_wheel(source, clean, small_conf):
    clean("pip", "install", "--no-deps", "--quiet", source)
    inside = clean.site / "qtwin" / "conf"
    assert clean("python", "-c", WHERE).strip() == str(inside)
    carried = sorted(file.relative_to(inside) for file in inside.rglob("*.yaml"))
    assert carried == sorted(file.relative_to(source / "conf") for file in (source / "conf").rglob("*.yaml"))
    assert clean("python", "-c", ALONE).strip() == "[]"
    assert "logger: jsonl, none, wandb" in clean("qtwin", "--help")
    assert "source.wavelength" in clean("qtwin", "info", "--config-dir", small_conf)


@pytest.mark.slow
def test_editable_install_reads_the_original(source, clean, small_conf):
    clean("pip", "install", "--no-deps", "--quiet", "--editable", source)
    assert clean("python", "-c", WHERE).strip() == str(source / "conf")
    assert not list(clean.site.rglob("benchmark.yaml"))
    assert clean("python", "-c", ALONE).strip() == "[]"
    file = source / "conf" / "benchmark.yaml"
    file.write_text(file.read_text().replace("seed: 0", "seed: 4321"))
    assert "seed: 4321" in clean("qtwin", "benchmark", "--cfg", "job", "--config-dir", small_conf)
