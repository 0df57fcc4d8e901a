"""Draw the advantage against the thickness of the section, and print where each ends, from the folder of the sweep.

python experiments/tissue_depth/plot.py multirun/benchmark/<date>_<time>
"""

import json
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.interpolate import PchipInterpolator

from qtwin.benchmark.comparison import ALIKE
from qtwin.core.units import parse, show

SHOWN = {
    ("twin beams, naive", "coherent, camera"): ("tab:cyan", "o"),
    ("twin beams, optimal k", "coherent, camera"): ("tab:blue", "s"),
    ("twin beams, optimal k", "coherent, ideal camera"): ("tab:purple", "D"),
    ("heralded, with idler singles", "coherent, gated array"): ("tab:orange", "^"),
    ("heralded, with idler singles", "scanned beam, bucket"): ("tab:red", "v"),
}
FLOOR = 0.1  # of the upper frame; what lies below is written into it


def crossing(depth, values, level):
    """Depth at which ``values`` last fall through ``level``, by monotone cubics over log depth; 0 if never above it."""
    fine = np.geomspace(depth[0], depth[-1], 20001)
    above = np.flatnonzero(PchipInterpolator(np.log(depth), values)(np.log(fine)) > level)
    return fine[above[-1]] if len(above) else 0.0


def told(depth, middle, low, high, level):
    """``X (A to B)``: where the middle line and those through the ends of the intervals fall through ``level``."""
    found = [float(crossing(depth, line, level)) for line in (middle, low, high)]
    words = ["nowhere" if x == 0 else "beyond" if x == depth[-1] else show(x, "m", 3) for x in found]
    return f"{words[0]} ({words[1]} to {words[2]})"


def ends(depth, results):
    """Print down to which depth each advantage is above 1 and 1.1, as drawn and as expected, where images are alike."""
    for arm, opponent in SHOWN:
        found = [r["figures"]["advantage"][arm][opponent] for r in results]
        left = np.array([[f["mean_image_mismatch"][key] for f in found] for key in ("value", "stderr")])
        print(f"{arm} / {opponent}")
        if np.any(left[0] > ALIKE):
            lines = [-(left[0] + sign * left[1]) for sign in (0, 1.96, -1.96)]
            print(f"  mean images are alike to {told(depth, *lines, -ALIKE)}")
        alike = left[0] <= ALIKE
        drawn = np.array([[f[key] for f in found] for key in ("value", "low", "high")])[:, alike]
        print(*(f"  above {level} to {told(depth[alike], *drawn, level)}" for level in (1, 1.1)), sep="\n")
        value, error = np.array([[f["expected"][key] for f in found] for key in ("value", "stderr")])[:, alike]
        lines = [value + sign * error for sign in (0, -1.96, 1.96)]
        print(*(f"  expected above {level} to {told(depth[alike], *lines, level)}" for level in (1.1, 1.01)), sep="\n")


def main(sweep: Path, picture: Path):
    results = [json.loads(path.read_text()) for path in sweep.glob("*/result.json")]
    results.sort(key=lambda r: parse(r["config"]["tissue"]["thickness"], "m"))
    metres = np.array([parse(r["config"]["tissue"]["thickness"], "m") for r in results])
    ends(metres, results)
    depth = metres * 1e6
    figure = Figure(figsize=(7.5, 7), layout="constrained")
    top, low = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for (arm, opponent), (colour, marker) in SHOWN.items():
        found = [r["figures"]["advantage"][arm][opponent] for r in results]
        alike = [f["mean_image_mismatch"]["value"] <= ALIKE for f in found]
        value = np.where(alike, [f["value"] for f in found], np.nan)  # what cannot be compared is not drawn
        error = np.abs(np.array([[f["low"], f["high"]] for f in found]).T - value)
        bars = {"fmt": marker + "-", "color": colour, "ms": 3, "lw": 0.9, "elinewidth": 1.6, "capsize": 4}
        top.errorbar(depth, value, error, label=f"{arm} / {opponent}", **bars)
        below = [f"{v:#.2g} at {show(d * 1e-6, 'm')}" for v, d in zip(value, depth, strict=True) if v < FLOOR]
        if below:
            words = f"{arm.split(', ')[1]}: {', '.join(below)}"
            top.text(0.99, 0.02, words, transform=top.transAxes, ha="right", fontsize=8, color=colour)
    top.axhline(1, color="k", lw=1)
    top.set(xscale="log", yscale="log", ylim=(FLOOR, 2), ylabel="advantage (95 % intervals)")
    top.set_yticks([0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.4, 2], ["0.1", "0.2", "0.3", "0.5", "0.7", "1", "1.4", "2"])
    top.set_yticks([], minor=True)
    top.set_title("above 1 quantum light needs fewer photons, below 1 coherent light does", fontsize=10)
    top.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 0.05))
    for key, label in (
        ("ballistic_fraction", "ballistic"),
        ("accepted_fraction", "accepted by the aperture"),
        ("point_spread_within_own_superpixel", "part of the accepted light in its own superpixel"),
    ):
        found = [r["figures"]["tissue"][key] for r in results]
        low.errorbar(depth, [f["value"] for f in found], [f["stderr"] for f in found], fmt=".-", label=label)
    low.set(yscale="log", ylim=(1e-5, 2), xlabel="thickness of the section (µm)", ylabel="part of the light")
    low.set_xticks(depth, [f"{d:g}" for d in depth])
    low.set_xticks([], minor=True)
    low.legend(fontsize=8, loc="lower left", title="bars: one standard error", title_fontsize=8)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).with_name("advantage.png"))
