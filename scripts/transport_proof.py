"""Light in slabs against exact transport: every row of the adding-doubling table, R and T, by z-score.

    python scripts/transport_proof.py [--accuracy 0.002] [--coverage 2000]

Photons are added until the standard error is below ``accuracy`` of a value above 0.01, or below 2e-5 elsewhere. A value
under 1e-7 must lie below the upper limit of the walk: the estimate, 1.645 standard errors, and 3/N for what N photons
did not show (no photon weighs more than 1). Then as many small walks of one slab as ``--coverage`` says (0: none): how
often 95 % intervals of R, T and their derivatives hold the exact value. Ends with exit code 1 if a row disagrees.
"""

import argparse
import sys
import time
from pathlib import Path

import jax
import numpy as np
from scipy.stats import t as student

from qtwin.tissue import Slab
from qtwin.tissue.transport import Measured, transport
from qtwin.tissue.walk import BLOCKS

TABLE = Path(__file__).resolve().parents[1] / "tests" / "tissue" / "adding_doubling.csv"
D = 1e-3
FIRST, MOST = 1 << 20, 1 << 28  # photons
SEED = 20261125


def rows() -> list[dict[str, float]]:
    """The table: albedo, g, tau, n_slab, UR1 and UT1 (collimated light, specular and straight light included)."""
    lines = [line for line in TABLE.read_text().splitlines() if not line.startswith("#")]
    head = lines[0].split(",")
    return [dict(zip(head, map(float, line.split(",")), strict=True)) for line in lines[1:]]


def slab(row) -> Slab:
    tau, albedo = row["tau"], row["albedo"]
    return Slab(
        thickness=D, depth=D / 2, mu_a=(1 - albedo) * tau / D, mu_s=albedo * tau / D, g=row["g"], n=row["n_slab"]
    )


def excess(m: Measured, exact: float, accuracy: float) -> float:
    """The standard error over what the comparison asks for."""
    return float(m.stderr) / (accuracy * exact if exact > 0.01 else 2e-5)


def walked(made: Slab, exact, accuracy: float, key):
    """(R, T) with errors small enough, and the photons that took."""
    photons = FIRST
    while True:
        found = transport(made, key=key, photons=photons, derivatives=False, fluence=False)
        t = found.tallies
        r = Measured(t["specular"].value + t["reflectance"].value, t["reflectance"].stderr)
        both = (r, t["transmittance"])
        need = max(excess(m, e, accuracy) for m, e in zip(both, exact, strict=True))
        if need < 1 or photons >= MOST:
            return both, found.photons
        photons = int(min(MOST, photons * max(2.0, 1.15 * need**2)))


def compare(m: Measured, exact: float, photons: int) -> tuple[float, bool]:
    """z, or the upper limit where there is next to no light; and whether they agree."""
    if exact < 1e-7:
        limit = float(m.value + 1.645 * m.stderr) + 3 / photons
        return limit, limit >= exact and float(m.value - 4 * m.stderr) <= exact + 3 / photons
    score = float((m.value - exact) / m.stderr)
    return score, abs(score) < 4


# n = 1, mu_a 1 /mm, mu_s 9 /mm, g 0.75, 0.2 mm: R, T and their derivatives by mu_a and mu_s (m), g, thickness (1/m)
FIRST_SLAB = {"thickness": 2e-4, "depth": 1e-4, "mu_a": 1e3, "mu_s": 9e3, "g": 0.75, "n": 1.0}
NAMES = ("reflectance", "transmittance")


def covered(exact: dict[str, float], walks: int, photons: int = 8192) -> dict[str, float]:
    """Name -> part of ``walks`` whose 95 % interval (Student, from the blocks) holds the exact value."""
    made, inside = Slab(**FIRST_SLAB), dict.fromkeys(exact, 0)
    reach = float(student.ppf(0.975, BLOCKS - 1))
    for i in range(walks):
        found = transport(made, key=jax.random.key(SEED + 1000 + i), photons=photons)
        measured = {name: found.tallies[name] for name in NAMES}
        measured |= {f"{name} by {field}": by[name] for field, by in found.slopes.items() for name in NAMES}
        for name, value in exact.items():
            m = measured[name]
            inside[name] += bool(np.all(np.abs(m.value - value) < reach * m.stderr))
    return {name: count / walks for name, count in inside.items()}


def exact_values() -> dict[str, float]:
    """Of ``FIRST_SLAB``, by adding and doubling and its central differences."""
    sys.path.insert(0, str(TABLE.parent))
    from exact_transport import slopes_of

    values, slopes = slopes_of(*(FIRST_SLAB[k] for k in ("mu_a", "mu_s", "g", "thickness", "n")))
    named = dict(zip(NAMES, values, strict=True))
    return named | {f"{n} by {f}": s for f, both in slopes.items() for n, s in zip(NAMES, both, strict=True)}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--accuracy", type=float, default=0.002)
    parser.add_argument("--coverage", type=int, default=0)
    accuracy, walks = (getattr(parser.parse_args(), name) for name in ("accuracy", "coverage"))
    jax.config.update("jax_enable_x64", True)
    value = f"{'exact':>10} {'z or <':>8}"
    head = f"{'id':>3} {'albedo':>6} {'g':>5} {'tau':>7} {'n':>5}"
    print(f"{head} {'R':>10} {value} {'T':>10} {value} {'photons':>9} {'s':>5}")
    scores, failed = [], 0
    for row in rows():
        start, exact = time.perf_counter(), (row["UR1"], row["UT1"])
        both, photons = walked(slab(row), exact, accuracy, jax.random.key(SEED + int(row["id"])))
        cells = []
        for m, e in zip(both, exact, strict=True):
            score, fine = compare(m, e, photons)
            failed += not fine
            if e >= 1e-7:
                scores.append(score)
            cells.append(
                f"{float(m.value):10.4g} {e:10.4g} " + (f"{score:6.2f}" if e >= 1e-7 else "limit " + "ok" * fine)
            )
        left = f"{int(row['id']):3d} {row['albedo']:6g} {row['g']:5g} {row['tau']:7g} {row['n_slab']:5g} "
        print(left + " ".join(cells) + f" {photons:9.2e} {time.perf_counter() - start:5.1f}", flush=True)
    square = float(np.mean(np.square(scores)))
    most = max(map(abs, scores))
    print(f"{len(scores)} comparisons, mean square of z {square:.2f} (1 is expected), largest |z| {most:.2f}")
    print("all agree" if not failed else f"{failed} disagree")
    for name, part in covered(exact_values(), walks).items() if walks else ():
        print(f"{name:<30} held by {part:.3f} +- {(0.95 * 0.05 / walks) ** 0.5:.3f} of {walks} intervals of 95 %")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
