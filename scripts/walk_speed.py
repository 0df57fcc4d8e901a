"""Photons per second of the photon walk against a scalar C program on one core.

``reference_walk.c`` is compiled on the spot and run on every case, pinned to one core where ``taskset`` is there::

    python scripts/walk_speed.py
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

SOURCE = Path(__file__).with_name("reference_walk.c")
FLAGS = ["-O3", "-march=native", "-fno-math-errno"]


class Layer(NamedTuple):
    """Refractive index, absorption and scattering (1/m), anisotropy, thickness (m)."""

    n: float
    mua: float
    mus: float
    g: float
    d: float


# From the lit side down, air on both sides.
CASES: dict[str, list[Layer]] = {
    "thin slab": [Layer(1.0, 1000, 9000, 0.75, 0.0002)],
    "three layers": [
        Layer(1.37, 100, 10000, 0.9, 0.001),
        Layer(1.37, 100, 1000, 0.0, 0.001),
        Layer(1.37, 200, 1000, 0.7, 0.002),
    ],
    "thick skin": [
        Layer(1.5, 430, 10700, 0.79, 0.0001),
        Layer(1.4, 270, 18700, 0.82, 0.002),
        Layer(1.44, 100, 12000, 0.8, 0.01),
    ],
}
# About half a second each.
PHOTONS = {"thin slab": 6_000_000, "three layers": 500_000, "thick skin": 120_000}


@contextmanager
def compiled() -> Iterator[Path]:
    """The reference program, in a folder that goes when the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "reference_walk"
        subprocess.run(["gcc", *FLAGS, str(SOURCE), "-o", str(program), "-lm"], check=True)
        yield program


def reference(program: Path, layers: Sequence[Layer], photons: int, seed: int = 1) -> dict[str, Any]:
    """What the program prints: totals, rings, ``photons_per_s``, ``events_per_s``. Its lengths are in cm."""
    numbers = [v for n, mua, mus, g, d in layers for v in (n, mua / 100, mus / 100, g, d * 100)]
    arguments = [photons, seed, 1, 1, *numbers]
    command = [str(program), *(f"{v:.12g}" for v in arguments)]
    if shutil.which("taskset"):
        core = max(os.sched_getaffinity(0))
        command = ["taskset", "-c", str(core), *command]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def theirs(repeats: int = 3) -> dict[str, dict[str, Any]]:
    """Name of the case -> the fastest of ``repeats`` runs of the C program."""
    with compiled() as program:
        return {
            name: max(
                (reference(program, layers, PHOTONS[name], seed) for seed in range(1, repeats + 1)),
                key=lambda run: run["photons_per_s"],
            )
            for name, layers in CASES.items()
        }


def main() -> None:
    print(f"{'case':<14}{'C, photons/s':>14}{'events/s':>12}{'events/photon':>15}")
    for name, run in theirs().items():
        events = run["interactions"] / run["photons"]
        print(f"{name:<14}{run['photons_per_s']:>14.3g}{run['events_per_s']:>12.3g}{events:>15.1f}")


if __name__ == "__main__":
    main()
