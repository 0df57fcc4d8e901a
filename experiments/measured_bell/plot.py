"""Draw held-back counts against predictions, and print how well each round predicts, from the folder of the sweep.

python experiments/measured_bell/plot.py multirun/calibrate/<date>_<time>
"""

import json
import sys
from pathlib import Path

import h5py
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import pearsonr

from qtwin.calibrate.data import table

KINDS = {"coincidences": ("tab:blue", "o"), "signal alone": ("tab:orange", "^"), "idler alone": ("tab:green", "v")}
COLUMNS = {"alpha": "rad", "beta": "rad", "signal_counts": "", "idler_counts": ""}


def collected(results, folders):
    """Measured, predicted, standard error and Poisson's part of it, [kinds, settings]; the round of every setting."""
    found, rounds = np.full((3, 3, 16), np.nan), np.zeros(16, int)
    for nth, (result, folder) in enumerate(zip(results, folders, strict=True), 1):
        held = result["config"]["held_back"]
        with h5py.File(folder / "arrays.h5") as file:
            out = ~file["fitted"][:].astype(bool)
            parts = (file["measured"][:][out], file["predicted"][:], file["predicted_std"][:])
        assert np.flatnonzero(out[:16]).tolist() == sorted(held)
        found[:, :, sorted(held)] = np.reshape(parts, (3, 3, -1))
        rounds[held] = nth
    assert not np.isnan(found).any(), "every setting is predicted once"
    return found, rounds


def told(results, found, rounds):
    """Print chi-square and pulls of every round, and how wide the predictions are."""
    measured, mean, std = found
    pulls = (measured - mean) / std
    for nth, result in enumerate(results, 1):
        good, drift = result["figures"]["goodness"], result["figures"]["parameters"]["drift"]
        drift = drift.get("posterior", drift)
        print(
            f"round {nth}, settings {result['config']['held_back']}: chi2 {good['held_back_chi2']['value']:.1f} of "
            f"{good['held_back_numbers']['value']:.0f}, p = {good['held_back_p_value']['value']:.2g}; "
            f"drift {drift['value']:.4f} ± {drift['stderr']:.4f}; "
            f"prior of as much {good['scatter_p_value']['value']:.2g}"
        )
        for row in sorted(result["config"]["held_back"]):
            print(f"  setting {row:2}: pulls", *(f"{pull:+.2f}" for pull in pulls[:, row]))
    for k, kind in enumerate(KINDS):
        part, poisson = std[k] / mean[k], std[k] / np.sqrt(mean[k])
        print(
            f"{kind}: predicted to {100 * part.min():.1f} to {100 * part.max():.1f} % (one standard error), "
            f"{poisson.min():.1f} to {poisson.max():.1f} times counting statistics; "
            f"rms pull {np.sqrt(np.mean(pulls[k] ** 2)):.2f}"
        )
    print("correlation of the pulls of signal and idler alone: {:.2f}, p = {:.2g}".format(*pearsonr(*pulls[1:])))


def unmodelled(read):
    """Print how the clicks of one arm scatter over the other arm's analyser, on which they cannot depend."""
    rest = []
    for arm, own in (("signal", "beta"), ("idler", "alpha")):
        counts, angles = read[f"{arm}_counts"], np.round(read[own], 6)
        mean = np.array([counts[angles == a].mean() for a in angles])
        off = counts / mean - 1
        freedom = len(off) - len(np.unique(angles))
        spread = np.sqrt(np.sum(off**2) / freedom)
        print(
            f"{arm} clicks scatter by {100 * spread:.1f} ± {100 * spread / np.sqrt(2 * freedom):.1f} % over the other "
            f"analyser's settings, {spread * np.sqrt(counts.mean()):.0f} times counting statistics"
        )
        rest.append(off)
    print("correlation of the two arms' scatter: {:.2f}, p = {:.2g}".format(*pearsonr(*rest)))


def drawn(found, rounds, read, picture):
    measured, mean, std = found
    x, labels = np.arange(16), np.rad2deg(np.stack([read["alpha"], read["beta"]], axis=1))
    figure = Figure(figsize=(9, 7), layout="constrained")
    top, low = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    colour, marker = KINDS["coincidences"]
    style = {"lw": 0, "elinewidth": 1.6, "capsize": 4}
    top.errorbar(
        x - 0.1, mean[0], std[0], fmt="s", color="k", ms=4, mfc="w", label="predicted from twelve others", **style
    )
    errors = np.sqrt(measured[0])
    top.errorbar(x + 0.1, measured[0], errors, fmt=marker, color=colour, ms=4, label="measured, held back", **style)
    top.set(yscale="log", ylabel="coincidences in 30 s (± one standard error)")
    top.set_yticks([500, 1000, 2000, 5000], ["500", "1000", "2000", "5000"])
    top.set_yticks([], minor=True)
    top.legend(fontsize=9, loc="upper left", bbox_to_anchor=(0.44, 0.78))
    low.axhspan(-2, 2, color="0.9")
    low.axhline(0, color="0.5", lw=0.8)
    for k, (kind, (colour, marker)) in enumerate(KINDS.items()):
        low.plot(x + 0.18 * (k - 1), (measured[k] - mean[k]) / std[k], marker, color=colour, ms=5, label=kind)
    low.set_ylabel("(measured - predicted)\n/ standard error of the prediction")
    low.set_xticks(x, [f"{a:g}\n{b:g}\n{r}" for (a, b), r in zip(labels, rounds, strict=True)], fontsize=9)
    low.set_xlabel("idler's analyser (degrees), signal's analyser (degrees), round in which the setting was held back")
    low.legend(fontsize=9, loc="lower left", ncols=3)
    figure.savefig(picture, dpi=110)


def main(sweep: Path, picture: Path):
    folders = sorted((path.parent for path in sweep.glob("*/result.json")), key=lambda folder: int(folder.name))
    results = [json.loads((folder / "result.json").read_text()) for folder in folders]
    read = table(Path(results[0]["config"]["data"]), COLUMNS)
    found, rounds = collected(results, folders)
    told(results, found, rounds)
    unmodelled(read)
    drawn(found, rounds, read, picture)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).with_name("predicted.png"))
