"""Draw the advantage against the dose, and what every camera shows, from the folder of the sweep.

python experiments/infrared_absorption/plot.py multirun/benchmark/<date>_<time>
"""

import json
import sys
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from qtwin.core.config import build, compose, plain
from qtwin.metrics.advantage import pooling, smoothing
from qtwin.twin import twin_from

OURS = "undetected photons"
SHOWN = {
    "coherent, cooled IR camera": ("tab:blue", "s"),
    "stimulated, silicon camera": ("tab:orange", "^"),
    "coherent, ideal IR camera": ("tab:purple", "D"),
}
PICTURES = (OURS, *SHOWN)


def expected(photons):
    """Advantage over every opponent at ``photons`` per superpixel, as the twin expects it, and where it is 1."""
    jax.config.update("jax_enable_x64", True)
    config = compose(["experiment=infrared_absorption"])
    twin, protocol = twin_from(config), build(plain(config)["estimator"]["undetected"], "estimator.undetected")
    blocks = twin.blocks(twin.walk(key=jax.random.key(0), photons=16384))
    images = jax.tree.map(lambda a: jnp.mean(a, axis=0), blocks)
    kernels = {name: smoothing(np.asarray(getattr(images, f"spread_{name}")), 16) for name in ("direct", "ghost")}
    arms = {arm.name: arm for arm in protocol.arms()}
    found = {name: [] for name in SHOWN}
    for n in photons:
        bench = twin.bench(images, jnp.asarray(n))
        weights = np.asarray(bench.setting.incident * bench.idler)

        def cost(name, other, bench=bench, weights=weights):
            ours, theirs = arms[name].spread, arms[other].spread
            matrix = smoothing(None, 16) if ours == theirs else kernels[theirs]
            return pooling(arms[name].law(bench), weights, matrix).mean

        for name in SHOWN:
            found[name].append(cost(name, OURS) / cost(OURS, name))
    return {name: np.array(values) for name, values in found.items()}


def main(sweep: Path, picture: Path):
    results = sorted(
        sweep.glob("*/result.json"), key=lambda p: json.loads(p.read_text())["config"]["budget"]["photons"]
    )
    records = [json.loads(path.read_text()) for path in results]
    doses = np.array([r["config"]["budget"]["photons"] for r in records])
    line = np.geomspace(doses[0] / 2, 2e5, 12)
    curves = expected(line)
    figure = Figure(figsize=(7.5, 5.8), layout="constrained")
    top, low = figure.subfigures(2, 1, height_ratios=(1.7, 1))
    axes = top.subplots()
    for name, (colour, marker) in SHOWN.items():
        found = [r["figures"]["advantage"][OURS][name] for r in records]
        value = np.array([f["value"] for f in found])
        error = np.abs(np.array([[f["low"], f["high"]] for f in found]).T - value)
        axes.errorbar(doses, value, error, fmt=marker, color=colour, ms=4, capsize=4, label=f"against {name}")
        axes.plot(line, curves[name], "-", color=colour, lw=0.9)
    cooled = curves["coherent, cooled IR camera"]
    crossing = np.exp(np.interp(0, -np.log(cooled), np.log(line)))
    print(f"equal to the cooled camera at {crossing:.3g} photons per superpixel")
    axes.axhline(1, color="k", lw=1)
    axes.set(xscale="log", yscale="log", ylabel="advantage (95 % intervals)")
    axes.set_xlabel("infrared photons per superpixel (200 µm) and exposure")
    axes.set_title("above 1 undetected photons need fewer infrared photons; lines: expected", fontsize=10)
    axes.legend(fontsize=8)
    shown = results[int(np.argmin(np.abs(doses - 2000)))].with_name("arrays.h5")
    with h5py.File(shown) as arrays:
        for axis, name in zip(low.subplots(1, len(PICTURES)), PICTURES, strict=True):
            key = name.replace(", ", "/").replace(" ", "_").replace("-", "_")
            image = axis.imshow(arrays[f"{key}/transmission"][0], cmap="gray", vmin=0.5, vmax=1.3)
            axis.set_title(name.replace(", ", "\n"), fontsize=8)
            axis.set_axis_off()
    low.colorbar(image, ax=low.axes, shrink=0.7, label="transmission")
    low.suptitle("one exposure of 2000 photons per superpixel", fontsize=10)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).with_name("advantage.png"))
