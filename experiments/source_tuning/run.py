"""Tune pump power and crystal length by gradient, and check the optimum against a scan.

    python experiments/source_tuning/run.py [override ...]

Objective: information about the lesion's absorption per photon incident on the section, heralded image with idler
singles, background level unknown: 1/Var(alpha) = sum s^2/V - (sum s/V)^2/sum 1/V over superpixels, s the lesion's
shape as the arm sees it, V the variance of the transmission estimate.
"""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure

from qtwin.core.config import compose
from qtwin.core.params import parameters
from qtwin.design.sensitivity import field, put, sensitivity
from qtwin.estimator.linear import mean, variance
from qtwin.tissue.images import Images
from qtwin.twin import Twin, twin_from

FREE = ("source.pump_power", "source.crystal_length")
STEPS = 12
POWERS, LENGTHS = np.geomspace(0.1e-3, 10e-3, 61), np.geomspace(0.8e-3, 16e-3, 31)  # of the scan, W and m


def information(twin: Twin, images: Images, incident) -> jax.Array:
    """log of information about alpha per photon incident on the sample; ``incident`` photons per exposure."""
    per_superpixel = incident * twin.optics.field_fraction(twin.source) / twin.optics.pixels**2
    expectation = twin.moments(images, per_superpixel)
    calibration = twin.calibration("ratio", expectation)
    shape = (1 - mean(expectation.ghost, calibration)) / twin.scene.absorption
    precise = 1 / variance(expectation.ghost, calibration)
    level, lesion = jnp.sum(precise), jnp.sum(shape * precise)
    return jnp.log((jnp.sum(shape**2 * precise) - lesion**2 / level) / incident)


def main(overrides, folder=Path(__file__).parent):
    jax.config.update("jax_enable_x64", True)
    cfg = compose(["experiment=source_tuning", *overrides])
    start = twin_from(cfg)
    walk = start.walk(key=jax.random.key(cfg.seed), photons=cfg.walk.photons)
    incident = start.setting(jnp.asarray(float(cfg.budget.photons))).incident
    supports = [parameters(start.source)[path.split(".")[1]].metadata["support"] for path in FREE]

    def twin_at(free):
        twin = start
        for path, support, number in zip(FREE, supports, free, strict=True):
            twin = put(twin, path, support.constrain(number))
        return twin

    def loss(free):
        twin = twin_at(free)
        images = jax.tree.map(lambda a: jnp.mean(a, axis=0), twin.blocks(walk))
        return -information(twin, images, incident)

    optimiser = optax.lbfgs()

    @jax.jit
    def step(free, state):
        value, gradient = optax.value_and_grad_from_state(loss)(free, state=state)
        change, state = optimiser.update(gradient, state, free, value=value, grad=gradient, value_fn=loss)
        return optax.apply_updates(free, change), state, value

    free = jnp.stack([support.free(field(start, path)) for path, support in zip(FREE, supports, strict=True)])
    state, trace = optimiser.init(free), []
    for _ in range(STEPS):
        before = free
        free, state, value = step(free, state)
        trace.append([*np.exp(np.asarray(before)), -float(value)])
    best = twin_at(free)
    found = -float(loss(free))
    trace.append([*np.exp(np.asarray(free)), found])

    # the scan: the objective on a grid fixed beforehand, computed without any gradient
    optimum = np.exp(np.asarray(free))
    powers, lengths = POWERS, LENGTHS
    scan = np.empty((len(lengths), len(powers)))
    for i, length in enumerate(lengths):
        twin = put(start, FREE[1], jnp.asarray(length))
        images = jax.tree.map(lambda a: jnp.mean(a, axis=0), twin.blocks(walk))
        row = jax.vmap(lambda p, t=twin, im=images: information(put(t, FREE[0], p), im, incident))
        scan[i] = row(jnp.asarray(powers))
    top = np.unravel_index(scan.argmax(), scan.shape)

    errors = sensitivity(lambda t, im: information(t, im, incident), best, walk, FREE)
    first = errors[FREE[0]]
    result = {
        "start": dict(zip(FREE, trace[0][:2], strict=True)),
        "optimum": dict(zip(FREE, map(float, optimum), strict=True)),
        "gain": {"value": float(np.exp(found - trace[0][2])), "unit": "information per photon over the start"},
        "log_information": {"value": found, "stderr": float(first.objective_stderr)},
        "gradient_at_optimum": {
            path: {
                "value": float(s.gradient * field(best, path)),
                "stderr": float(s.gradient_stderr * field(best, path)),
            }
            for path, s in errors.items()
        },
        "scan": {"best": float(scan.max()), FREE[0]: float(powers[top[1]]), FREE[1]: float(lengths[top[0]])},
        "optimum_above_best_of_scan": float(found - scan.max()),
    }
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    picture(folder / "scan.png", powers, lengths, scan - found, np.array(trace))
    print(json.dumps(result, indent=2))
    return result


def picture(path, powers, lengths, scan, trace):
    """Contours of the scan with the way of the optimiser."""
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.add_subplot()
    levels = [-1.6, -0.8, -0.4, -0.2, -0.1, -0.05, -0.02, -0.005, 0]
    even = BoundaryNorm(levels, 256, extend="min")  # a colour of its own for every step, the finest too
    filled = axes.contourf(powers * 1e3, lengths * 1e3, scan, levels, cmap="cividis", norm=even, extend="min")
    axes.contour(filled, levels=levels, colors="k", linewidths=0.4, linestyles="solid")
    axes.plot(trace[:, 0] * 1e3, trace[:, 1] * 1e3, "k.-", ms=5, lw=1.2, label="optimiser")
    axes.plot(*(trace[0, :2] * 1e3), "wo", mec="k", ms=9, label="start")
    axes.plot(*(trace[-1, :2] * 1e3), "*", c="tab:orange", mec="k", ms=15, label="optimum found by gradient")
    axes.set(xscale="log", yscale="log", xlabel="pump power (mW)", ylabel="crystal length (mm)")
    axes.set_xticks([0.1, 0.2, 0.5, 1, 2, 5, 10], ["0.1", "0.2", "0.5", "1", "2", "5", "10"])
    axes.set_yticks([1, 2, 5, 10], ["1", "2", "5", "10"])
    axes.set_yticks([], minor=True)
    axes.set_xticks([], minor=True)
    bar = figure.colorbar(filled, format="%g", label="ln information per photon, against the optimum")
    bar.minorticks_off()
    axes.legend(loc="lower left", labelcolor="k")
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main(sys.argv[1:])
