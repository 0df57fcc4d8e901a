"""Draw the advantage against the efficiency of the detectors, and what the arms show, from the folder of the sweep.

python experiments/cell_layer/plot.py multirun/benchmark/<date>_<time>
"""

import json
import sys
from functools import partial
from pathlib import Path

import equinox as eqx
import h5py
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from qtwin.benchmark.arms import arms_of
from qtwin.core.config import compose, plain
from qtwin.job import protocols
from qtwin.twin import twin_from

OURS = {
    "twin beams, naive": ("tab:cyan", "o", "coherent, camera", "coherent, ideal camera"),
    "twin beams, optimal k": ("tab:blue", "s", "coherent, camera", "coherent, ideal camera"),
    "twin beams, time-tagged": ("tab:orange", "^", "coherent, single-photon array", "coherent, ideal array"),
}
PICTURES = ("coherent, camera", "twin beams, optimal k", "twin beams, time-tagged", "coherent, ideal camera")
REAL = 0.77  # efficiency of the camera that the pictures are of
EFFICIENCY = np.linspace(0.4, 1, 121)
FURTHER = (("5 um", 2000), ("12 um", 2000), ("8 um", 200), ("8 um", 20000))  # superpixels and photons in each


def expected(*overrides: str):
    """Advantages that the twin expects along EFFICIENCY: (arm, opponent) -> [points]."""
    config = compose(["experiment=cell_layer", *overrides])
    twin, arms = twin_from(config), {arm.name: arm for arm in arms_of(protocols(plain(config)))}
    blocks = twin.blocks(twin.walk(key=jax.random.key(0), photons=16384))
    images = jax.tree.map(lambda a: jnp.mean(a, axis=0), blocks)
    bench = twin.bench(images, jnp.asarray(config.budget.photons, float))

    def cost(name, efficiency):
        same = eqx.tree_at(lambda b: (b.camera.efficiency, b.detector.efficiency), bench, (efficiency, efficiency))
        return jnp.sum(bench.idler * arms[name].law(same).variance())

    versus = [(arm, other) for arm, (*_, same, ideal) in OURS.items() for other in (same, ideal)]
    names = {name for pair in versus for name in pair}
    found = {name: np.asarray(jax.vmap(partial(cost, name))(jnp.asarray(EFFICIENCY))) for name in names}
    return {(arm, other): found[other] / found[arm] for arm, other in versus}


def report(name: str, curves):
    """Print every advantage at REAL and where it reaches 1."""
    print(name)
    for (arm, other), curve in curves.items():
        at = f"{np.interp(1, curve, EFFICIENCY):.3f}" if curve[0] < 1 < curve[-1] else "nowhere between 0.4 and 1"
        print(f"  {arm} / {other}: {np.interp(REAL, EFFICIENCY, curve):.3f} at {REAL}, 1 at {at}")


def main(sweep: Path, picture: Path):
    jax.config.update("jax_enable_x64", True)
    found = [(path, json.loads(path.read_text())) for path in sweep.glob("*/result.json")]
    found.sort(key=lambda item: item[1]["config"]["camera"]["efficiency"])
    points = np.array([r["config"]["camera"]["efficiency"] for _, r in found])
    curves = expected()
    report("as it stands", curves)
    for pitch, photons in FURTHER:
        report(f"{pitch}, {photons} photons", expected(f"optics.pitch={pitch}", f"budget.photons={photons}"))
    figure = Figure(figsize=(8, 6.4), layout="constrained")
    top, low = figure.subfigures(2, 1, height_ratios=(2, 1))
    axes = top.subplots(1, 2, sharey=True)
    for arm, (colour, marker, *others) in OURS.items():
        for axis, other in zip(axes, others, strict=True):
            results = [r["figures"]["advantage"][arm][other] for _, r in found]
            value = np.array([f["value"] for f in results])
            error = np.abs(np.array([[f["low"], f["high"]] for f in results]).T - value)
            axis.errorbar(points, value, error, fmt=marker, color=colour, ms=4, capsize=3, label=arm)
            axis.plot(EFFICIENCY, curves[arm, other], color=colour, lw=0.9)
    for axis, against in zip(axes, ("coherent light on the same detectors", "an ideal classical image"), strict=True):
        axis.axhline(1, color="k", lw=1)
        axis.set(yscale="log", ylim=(0.2, 2), xlabel="efficiency of camera and arrays", title=f"against {against}")
        axis.title.set_fontsize(10)
        axis.set_yticks([0.2, 0.3, 0.5, 0.7, 1, 1.4, 2], ["0.2", "0.3", "0.5", "0.7", "1", "1.4", "2"])
        axis.set_yticks([], minor=True)
    axes[0].set_ylabel("advantage in dose (95 % intervals)")
    axes[1].legend(fontsize=8, loc="lower right", title="lines: expected", title_fontsize=8)
    shown = min(found, key=lambda item: abs(item[1]["config"]["camera"]["efficiency"] - REAL))[0]
    with h5py.File(shown.with_name("arrays.h5")) as arrays:
        for axis, name in zip(low.subplots(1, len(PICTURES)), PICTURES, strict=True):
            key = name.replace(", ", "/").replace(" ", "_").replace("-", "_")
            image = axis.imshow(arrays[f"{key}/transmission"][0], cmap="gray", vmin=0.88, vmax=1.08)
            axis.set_title(name.replace(", ", "\n"), fontsize=8)
            axis.set_axis_off()
    low.colorbar(image, ax=low.axes, shrink=0.7, label="transmission")
    low.suptitle(f"one exposure of 2000 photons per superpixel, efficiency {REAL}", fontsize=10)
    figure.savefig(picture, dpi=100)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).with_name("advantage.png"))
