"""Hydra's launchers and the Optuna sweeper, each on two real points of a small benchmark: does it work here?

python scripts/launchers.py [basic cores slurm_local ray_cluster search]

Prints the versions, the time, and whether the figures are those of the basic launcher.
"""

import json
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

SMALL = ["optics.pixels=8", "walk.photons=8192", "budget.exposures=3", "estimator=twin_beams", "logger=none"]
POINTS = ["seed=1,2"]
WAYS = {  # what is asked for, and the packages behind it
    "basic": ([*POINTS], ["hydra-core"]),
    "cores": ([*POINTS, "hydra/launcher=cores"], ["hydra-joblib-launcher", "joblib"]),
    "slurm_local": ([*POINTS, "hydra/launcher=slurm_local"], ["hydra-submitit-launcher", "submitit"]),
    "ray_cluster": ([*POINTS, "hydra/launcher=ray_cluster"], ["hydra-ray-launcher", "ray"]),
    "search": (
        ["hydra/sweeper=search", "hydra.sweeper.n_trials=2", "tissue.thickness=interval(30e-6,100e-6)"],
        ["hydra-optuna-sweeper", "optuna", "sqlalchemy"],
    ),
}


def known(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} missing"


def figures(folder: Path) -> dict[str, float]:
    """Swept number of every point, by its seed or thickness."""
    found = {}
    for file in sorted(folder.glob("*/result.json")):
        result = json.loads(file.read_text())
        found[f"{result['seed']} {result['config']['tissue']['thickness']}"] = result["swept"]
    return found


def main(names: list[str]) -> int:
    print(f"python {sys.version.split()[0]}, {known('hydra-core')}, {known('jax')}")
    usual: dict[str, float] = {}
    failed = 0
    with tempfile.TemporaryDirectory() as place:
        for name in names or WAYS:
            overrides, packages = WAYS[name]
            folder = Path(place) / name
            command = [sys.executable, "-m", "qtwin.cli", "benchmark", "-m", *SMALL, *overrides]
            start = time.perf_counter()
            done = subprocess.run([*command, f"hydra.sweep.dir={folder}"], capture_output=True, text=True, cwd=place)
            took, found = time.perf_counter() - start, figures(folder)
            usual = usual or found
            good = done.returncode == 0 and len(found) == 2
            if not good:
                words = (done.stderr.strip() or done.stdout.strip() or "nothing said").splitlines()[-1]
            elif name == "search":
                words = "two points, its own"
            else:
                words = "same figures" if found == usual else f"other figures: {found}, not {usual}"
            failed += not good or words.startswith("other")
            print(f"{name:<15} {took:6.1f} s  {', '.join(map(known, packages)):<55} {words}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
