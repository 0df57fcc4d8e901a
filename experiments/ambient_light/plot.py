"""Draw the advantage against ambient light and against the detectors' efficiency, from the folders of the two sweeps.

python experiments/ambient_light/plot.py multirun/benchmark/<first> multirun/benchmark/<second>
"""

import json
import sys
from pathlib import Path

import equinox as eqx
import h5py
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from qtwin.benchmark.arms import arms_of
from qtwin.core.config import compose, plain
from qtwin.core.units import parse, show
from qtwin.estimator import ghost
from qtwin.job import protocols
from qtwin.metrics.advantage import smoothing
from qtwin.twin import twin_from

ALONE, BEST = "heralded, coincidences", "heralded, with idler singles"
UNGATED, GATED = "coherent, single-photon array", "coherent, gated array"
SHOWN = {
    (BEST, UNGATED): ("tab:blue", "s"),
    (ALONE, UNGATED): ("tab:cyan", "o"),
    (BEST, "coherent, ideal array"): ("tab:purple", "D"),
    (BEST, GATED): ("tab:red", "^"),
    (ALONE, GATED): ("tab:orange", "v"),
}
PICTURES = (BEST, UNGATED, GATED, "coherent, ideal array")
PAIRS = "gates of pairs only"  # as many gates as the bucket has clicks without ambient light
AMBIENT, EFFICIENCY = np.concatenate([[0], np.geomspace(100, 1.2e5, 60)]), np.linspace(0.5, 1, 51)


class Expected:
    """What the twin expects of the experiment, and the theory's eta_i and eta_s."""

    def __init__(self):
        jax.config.update("jax_enable_x64", True)
        config = compose(["experiment=ambient_light"])
        twin = twin_from(config)
        self.arms = {arm.name: arm for arm in arms_of(protocols(plain(config)))}
        blocks = twin.blocks(twin.walk(key=jax.random.key(0), photons=16384))
        images = jax.tree.map(lambda a: jnp.mean(a, axis=0), blocks)
        self.bench = twin.bench(images, jnp.asarray(config.budget.photons, float))
        self.kernels = {k: smoothing(np.asarray(getattr(images, f"spread_{k}")), 16) for k in ("direct", "ghost")}

    def at(self, ambient, efficiency):
        return eqx.tree_at(lambda b: (b.optics.ambient, b.detector.efficiency), self.bench, (ambient, efficiency))

    def clicks(self, bench):
        b = bench
        return ghost.clicks(
            ghost.accepted_light(b.images), b.images.ghost, b.idler, b.setting, b.optics, b.detector, b.correlation
        )

    def variance(self, name, ambient, efficiency):
        """Of one exposure, [n, n]; PAIRS: the gated laser with as many gates as there are without ambient light."""
        if name != PAIRS:
            return self.arms[name].law(self.at(ambient, efficiency)).variance()
        dark = self.at(0 * ambient, efficiency)
        law, stray = ghost.gated(dark), efficiency * ambient * dark.setting.time * self.clicks(dark).chance
        return law.variance() + stray / law.calibration.gain**2

    def advantage(self, arm, opponent, ambient, efficiency):
        """[points], along ``ambient`` (Hz) and ``efficiency``."""

        def cost(name, rival):
            spreads = [self.arms[GATED if n == PAIRS else n].spread for n in (name, rival)]
            matrix = smoothing(None, 16) if spreads[0] == spreads[1] else self.kernels[spreads[1]]
            weights = (matrix.multiply(matrix).T @ np.asarray(self.bench.idler).ravel()).reshape(16, 16)
            return np.array(jax.vmap(lambda a, e: jnp.sum(weights * self.variance(name, a, e)))(ambient, efficiency))

        ambient, efficiency = np.broadcast_arrays(np.atleast_1d(ambient).astype(float), np.asarray(efficiency, float))
        return cost(opponent, arm) / cost(arm, opponent)

    def background(self, ambient, efficiency):
        """b: background and dark events over signal events of an ungated superpixel, mean over the field."""
        b = self.bench
        signal = b.optics.collection_transmission * b.setting.incident * b.images.direct / b.setting.time
        return (ambient + b.detector.dark_rate / efficiency) * float(jnp.mean(1 / signal))

    def theory(self, efficiency):
        """(eta_i, eta_s T) without ambient light."""
        b = self.at(jnp.asarray(0.0), jnp.asarray(efficiency))
        pairs = self.clicks(b).pairs
        signals = efficiency * b.optics.collection_transmission * b.setting.incident * b.images.ghost
        idlers = efficiency * b.optics.idler_transmission * b.setting.emitted * b.idler
        return float(jnp.sum(pairs) / jnp.sum(signals)), float(jnp.sum(pairs) / jnp.sum(idlers))


def read(sweep: Path, key):
    """Results of a sweep with their swept number, in its order."""
    found = [(key(r), r, path) for path in sweep.glob("*/result.json") for r in [json.loads(path.read_text())]]
    return sorted(found, key=lambda item: item[0])


def bars(axes, x, results, pair, label=None):
    colour, marker = SHOWN[pair]
    found = [r["figures"]["advantage"][pair[0]][pair[1]] for r in results]
    value = np.array([f["value"] for f in found])
    error = np.abs(np.array([[f["low"], f["high"]] for f in found]).T - value)
    axes.errorbar(x, value, error, fmt=marker, color=colour, ms=4, capsize=3, label=label)


def crossing(x, values):
    """Where rising ``values`` reach 1, linear between points; None where they do not."""
    return float(np.interp(1, values, x)) if values[0] < 1 < values[-1] and np.all(np.diff(values) > 0) else None


def against_ambient(axes, expected: Expected, results):
    real = float(expected.bench.detector.efficiency)
    x = expected.background(np.array([ambient for ambient, *_ in results]), real)
    line = expected.background(AMBIENT, real)
    eta_i, eta_s = expected.theory(real)
    print(f"eta_i {eta_i:.4f}, eta_s T {eta_s:.4f}, b {np.round(x, 3)}")
    for pair, (colour, _) in SHOWN.items():
        curve = expected.advantage(*pair, AMBIENT, real)
        bars(axes, x, [r for _, r, _ in results], pair, f"{pair[0]} /\n{pair[1]}")
        axes.plot(line, curve, color=colour, lw=0.9)
        at = crossing(line, curve)
        if at is not None:
            print(f"{pair}: 1 at b = {at:.3f}, {np.interp(at, line, AMBIENT):.4g} Hz")
    for best, name in ((1 / (1 - eta_s), BEST), (1, ALONE)):
        axes.plot(line, eta_i * best * (1 + line), ":", color=SHOWN[name, UNGATED][0], lw=1.2)
        print(f"theory, {name}: 1 at b = {1 / (eta_i * best) - 1:.3f}; against gated {eta_i * best:.3f}")
        fewer = expected.advantage(name, PAIRS, AMBIENT, real)
        axes.plot(line, fewer, "--", color=SHOWN[name, GATED][0], lw=0.9)
        print(f"{name} / {PAIRS}:", *(f"{v:.3f}" for v in np.interp(x, line, fewer)))
    axes.axhline(1, color="k", lw=1)
    axes.set(xscale="log", yscale="log", ylim=(0.1, 60), ylabel="advantage (95 % intervals)")
    axes.set_xlabel("background per signal, b; dotted: theory, dashed: gates of pairs only")
    axes.legend(fontsize=6, loc="upper left")


def against_efficiency(axes, expected: Expected, results):
    ambient = parse(results[0][1]["config"]["optics"]["ambient"], "Hz")
    x = [efficiency for efficiency, *_ in results]
    theory = [expected.theory(e) for e in EFFICIENCY]
    for name, best in ((BEST, 1), (ALONE, 0)):
        pair, (colour, _) = (name, GATED), SHOWN[name, GATED]
        curve = expected.advantage(*pair, ambient, EFFICIENCY)
        told = np.array([i / (1 - best * s) for i, s in theory])
        bars(axes, x, [r for _, r, _ in results], pair, name)
        axes.plot(EFFICIENCY, curve, color=colour, lw=0.9)
        axes.plot(EFFICIENCY, told, ":", color=colour, lw=1.2)
        print(f"{pair}: 1 at efficiency {crossing(EFFICIENCY, curve)}, theory {crossing(EFFICIENCY, told)}")
    axes.axhline(1, color="k", lw=1)
    axes.set(yscale="log", ylim=(0.3, 3), xlabel="efficiency of the single-photon devices")
    axes.set_yticks([0.3, 0.5, 0.7, 1, 1.5, 2, 3], ["0.3", "0.5", "0.7", "1", "1.5", "2", "3"])
    axes.set_yticks([], minor=True)
    axes.set_title(f"against the gated laser, {show(ambient, 'Hz')} of ambient light", fontsize=9)
    axes.legend(fontsize=7)


def main(sweeps: list[Path], picture: Path):
    expected = Expected()
    ambient = read(sweeps[0], lambda r: parse(r["config"]["optics"]["ambient"], "Hz"))
    efficient = read(sweeps[1], lambda r: float(r["config"]["detector"]["efficiency"]))
    figure = Figure(figsize=(9, 6.8), layout="constrained")
    top, low = figure.subfigures(2, 1, height_ratios=(2.2, 1))
    left, right = top.subplots(1, 2, width_ratios=(1.5, 1))
    against_ambient(left, expected, ambient)
    left.set_title("above 1 heralding needs fewer photons on the sample", fontsize=9)
    against_efficiency(right, expected, efficient)
    number, result, path = min(ambient, key=lambda item: abs(item[0] - 30e3))
    with h5py.File(path.with_name("arrays.h5")) as arrays:
        for axis, name in zip(low.subplots(1, len(PICTURES)), PICTURES, strict=True):
            key = name.replace(", ", "/").replace(" ", "_").replace("-", "_")
            image = axis.imshow(arrays[f"{key}/mean"], cmap="gray", vmin=0.9, vmax=1.05)
            axis.set_title(name.replace(", ", "\n"), fontsize=8)
            axis.set_axis_off()
    low.colorbar(image, ax=low.axes, shrink=0.7, label="transmission")
    b = result["config"]["budget"]
    told = f"{b['exposures']} exposures of {b['photons']} photons per superpixel"
    low.suptitle(f"mean of {told}, {show(number, 'Hz')} of ambient light", fontsize=9)
    figure.savefig(picture, dpi=100)


if __name__ == "__main__":
    main([Path(folder) for folder in sys.argv[1:3]], Path(__file__).with_name("advantage.png"))
