"""Photons per second of the photon walk against a scalar C program on one core, and what derivatives and sweeps cost.

``reference_walk.c`` is compiled on the spot, as it stands and with libm's elementary functions in place of its own
polynomials; every case is run in turns with ours, pinned to one core::

    python scripts/walk_speed.py

Both sides tally the specular, diffuse and transmitted light, absorption per layer and rings of radius; ours curves of
angle and time, too.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

SOURCE = Path(__file__).with_name("reference_walk.c")
FLAGS = ["-O3", "-march=native", "-fno-math-errno"]
LIBM = ["-O3", "-march=native", "-DLIBM"]


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
# Half a second to two seconds each.
PHOTONS = {"thin slab": 6_000_000, "three layers": 500_000, "thick skin": 500_000}


@contextmanager
def compiled(flags: Sequence[str] = FLAGS) -> Iterator[Path]:
    """The reference program, in a folder that goes when the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "reference_walk"
        subprocess.run(["gcc", *flags, str(SOURCE), "-o", str(program), "-lm"], check=True)
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


def ours(name: str) -> dict[str, float]:
    """Photons per second on the cores that this process has, with the tallies of the program; what more costs."""
    import jax

    jax.config.update("jax_enable_x64", True)

    from qtwin.tissue import Slab
    from qtwin.tissue.transport import neighbours, transport

    layers = CASES[name]
    columns = {f: [getattr(layer, c) for layer in layers] for f, c in zip(FIELDS, Layer._fields, strict=True)}
    slab = Slab(depth=layers[0].d / 2, **columns)
    key, photons = jax.random.key(1), PHOTONS[name]

    def timed(work) -> float:
        begin = time.perf_counter()
        work()  # compiles
        first = time.perf_counter() - begin
        begin = time.perf_counter()
        work()
        seconds["compile"] = max(seconds.get("compile", 0), first - time.perf_counter() + begin)
        return time.perf_counter() - begin

    def walk(**more):
        return lambda: transport(slab, key=key, photons=photons, **{"derivatives": False, "fluence": False} | more)

    def sweep(field):
        values = [float(getattr(slab, field)[0]) * (0.95 + 0.001 * i) for i in range(100)]
        return lambda: neighbours(slab, field, values, key=key, photons=photons, fewest=0)

    seconds: dict[str, float] = {}
    plain = timed(walk())
    more = {"fluence": timed(walk(fluence=True)), "derivatives": timed(walk(derivatives=True))}
    if len(layers) == 1:
        more |= {f"100 values of {field}": timed(sweep(field)) for field in ("mu_a", "mu_s")}
    return {"photons_per_s": photons / plain, **seconds} | {k: v / plain for k, v in more.items()}


FIELDS = ("n", "mu_a", "mu_s", "g", "thickness")


def alone(name: str, cores: int = 1) -> dict[str, float]:
    """`ours` in a process of its own that has ``cores`` processors."""
    mine = sorted(os.sched_getaffinity(0))[-cores:]
    code = f"import json, os, sys; os.sched_setaffinity(0, {mine}); sys.path.insert(0, {str(SOURCE.parent)!r})\n"
    code += f"import walk_speed; print(json.dumps(walk_speed.ours({name!r})))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def best(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return max(runs, key=lambda run: run["photons_per_s"])


def main(repeats: int = 3) -> None:
    print(
        f"{'case':<14}{'C':>10}{'C, libm':>10}{'ours':>10}{'ratio':>7}{'libm':>7}  photons/s on one core; ours over C"
    )
    details = []
    with compiled() as tuned, compiled(LIBM) as usual:
        for name, layers in CASES.items():
            turns = [(reference(tuned, layers, PHOTONS[name], i), alone(name)) for i in range(1, repeats + 1)]
            c, mine = (best(runs)["photons_per_s"] for runs in zip(*turns, strict=True))
            libm = best([reference(usual, layers, PHOTONS[name], i) for i in range(1, repeats + 1)])["photons_per_s"]
            print(f"{name:<14}{c:>10.3g}{libm:>10.3g}{mine:>10.3g}{mine / c:>7.2f}{mine / libm:>7.2f}", flush=True)
            two = alone(name, 2)["photons_per_s"] / mine
            run = best([r for _, r in turns])
            rest = {k: round(v, 2) for k, v in run.items() if k != "photons_per_s"}
            details.append(f"{name:<14} two cores over one {two:.2f}; in plain walks, compile in s: {rest}")
    print("\n".join(details))


if __name__ == "__main__":
    main()
