"""Draw contrast to noise and likeness against the tissue behind the star, print every figure, from the sweep's folder.

python experiments/under_the_surface/plot.py multirun/benchmark/<date>_<time>
"""

import json
import sys
from pathlib import Path

import h5py
import numpy as np
from matplotlib.figure import Figure

from qtwin.benchmark.comparison import ALIKE
from qtwin.core.units import parse, show

SHOWN = {
    "scanned beam, bucket": ("tab:red", "v"),
    "heralded, with idler singles": ("tab:blue", "s"),
    "coherent, ideal camera": ("tab:purple", "D"),
    "coherent, single-photon array": ("tab:orange", "^"),
    "computational ghost, random": ("tab:olive", "x"),
    "thermal ghost, differential": ("tab:green", "o"),
}
PICTURES = tuple(name for name in SHOWN if "array" not in name)
AGAINST = (
    ("heralded, coincidences", "scanned beam, bucket"),
    ("heralded, with idler singles", "scanned beam, bucket"),
    ("thermal ghost, differential", "scanned beam, bucket"),
    ("thermal ghost, differential", "Hadamard patterns, bucket"),
    ("heralded, with idler singles", "coherent, single-photon array"),
    ("heralded, with idler singles", "coherent, ideal array"),
    ("thermal ghost, differential", "coherent, camera"),
)
PICTURED = 1e-3  # m of tissue behind the star in the lower row


def tables(behind, results):
    """Print every comparison with its interval, CNR and SSIM of every arm, and what the tissue does."""
    for arm, opponent in AGAINST:
        print(f"{arm} / {opponent}")
        for d, r in zip(behind, results, strict=True):
            f = r["figures"]["advantage"][arm][opponent]
            unequal = f["mean_image_mismatch"]
            alike = "" if unequal["value"] <= ALIKE else "NOT COMPARABLE, "
            print(f"  {show(float(d), 'm'):>7} {f['value']:.3g} ({f['low']:.3g} to {f['high']:.3g}), expected ", end="")
            print(f"{f['expected']['value']:.3g}, {alike}left over {unequal['value']:.3f} ± {unequal['stderr']:.3f}")
    for arm in results[0]["figures"]["arms"]:
        print(arm)
        for d, r in zip(behind, results, strict=True):
            f = r["figures"]["arms"][arm]
            told = ", ".join(f"{k} {f[k]['value']:.3f} ± {1.96 * f[k]['stderr']:.3f}" for k in ("cnr", "ssim"))
            print(f"  {show(float(d), 'm'):>7} {told} (95 %)")
    for d, r in zip(behind, results, strict=True):
        f = r["figures"]["tissue"] | r["figures"]["protocols"]["ghost"]
        keys = ("ballistic_fraction", "accepted_fraction", "point_spread_rms", "point_spread_within_own_superpixel")
        keys += ("ghost_point_spread_rms", "ghost_point_spread_within_own_superpixel", "car", "bucket_dead_time_loss")
        print(show(float(d), "m"), {k: f"{f[k]['value']:.4g} ± {f[k]['stderr']:.1g}" for k in keys})
    print("beam on the field:", results[0]["figures"]["source"]["beam_on_field"]["value"])


def main(sweep: Path, picture: Path):
    paths = list(sweep.glob("*/result.json"))
    records = {path: json.loads(path.read_text()) for path in paths}

    def thickness_behind(path):
        tissue = records[path]["config"]["tissue"]
        return parse(tissue["thickness"], "m") - parse(tissue["depth"], "m")

    paths.sort(key=thickness_behind)
    behind = np.array([thickness_behind(path) for path in paths])
    results = [records[path] for path in paths]
    tables(behind, results)
    figure = Figure(figsize=(7.5, 5.8), layout="constrained")
    top, low = figure.subfigures(2, 1, height_ratios=(2, 1))
    left, right = top.subplots(1, 2)
    for name, (colour, marker) in SHOWN.items():
        for axis, key in ((left, "cnr"), (right, "ssim")):
            found = [r["figures"]["arms"][name][key] for r in results]
            error = [1.96 * f["stderr"] for f in found]
            bars = {"fmt": marker + "-", "color": colour, "ms": 4, "lw": 0.9, "capsize": 3}
            axis.errorbar(behind * 1e3, [f["value"] for f in found], error, label=name, **bars)
    left.set(xscale="log", yscale="log", ylim=(0.03, 20), ylabel="contrast to noise of one exposure")
    right.set(xscale="log", ylabel="SSIM of 20 exposures with the star")
    for axis in (left, right):
        axis.set_xlabel("tissue behind the star (mm); 95 % intervals")
        axis.set_xticks(behind * 1e3, [f"{d * 1e3:.3g}" for d in behind])
        axis.set_xticks([], minor=True)
    figure.legend(*left.get_legend_handles_labels(), fontsize=8, ncols=3, loc="outside upper center")
    shown = int(np.argmin(np.abs(behind - PICTURED)))
    with h5py.File(paths[shown].with_name("arrays.h5")) as arrays:
        axes = low.subplots(1, 1 + len(PICTURES))
        for axis, name in zip(axes, ("the star", *PICTURES), strict=True):
            key = name.replace(", ", "/").replace(" ", "_").replace("-", "_")
            image = arrays["object"][()] if name == "the star" else arrays[f"{key}/mean"][()]
            drawn = axis.imshow(image, cmap="gray", vmin=0.4, vmax=1.1)
            axis.set_title(name.replace(", ", "\n"), fontsize=8)
            axis.set_axis_off()
    low.colorbar(drawn, ax=low.axes, shrink=0.7, label="transmission")
    low.suptitle(f"mean of 20 exposures, {show(float(behind[shown]), 'm')} behind the star", fontsize=10)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).with_name("images.png"))
