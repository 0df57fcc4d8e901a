"""Light in slabs against exact transport: every row of the adding-doubling table, R and T, by z-score.

    python scripts/transport_proof.py [--accuracy 0.002]

Photons are added until the standard error is below ``accuracy`` of a value above 0.01, or below 2e-5 elsewhere. A value
under 1e-7 must lie below the upper limit of the walk: the estimate, 1.645 standard errors, and 3/N for what N photons
did not show (no photon weighs more than 1). Ends with exit code 1 if a row disagrees.
"""

import argparse
import sys
import time
from pathlib import Path

import jax
import numpy as np

from qtwin.tissue import Slab
from qtwin.tissue.transport import Measured, transport

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
        found = transport(made, key=key, photons=photons, derivatives=False)
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
        return limit, limit >= exact
    score = float((m.value - exact) / m.stderr)
    return score, abs(score) < 4


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--accuracy", type=float, default=0.002)
    accuracy = parser.parse_args().accuracy
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
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
