"""What a gradient costs, how long 200 steps take, and how many evaluations a search without gradients needs.

    python scripts/design_speed.py [--optuna]

Ratios are of processor time, value and gradient in turn in one process; the first calls, which compile, are left out.
Starts climb abreast, all points read in one vectorised call; here against one after the other, and against threads.
The search (Optuna's sampler) is asked how many evaluations it needs to come as near to the gradient's score as 0.5 %.
"""

import argparse
import time
from functools import partial

import jax
import numpy as np
from jax import numpy as jnp

jax.config.update("jax_enable_x64", True)

from qtwin.benchmark.settings import Settings  # noqa: E402
from qtwin.core.config import compose, plain  # noqa: E402
from qtwin.design.optimise import climbs, figures, gradients, optimise, side_by_side  # noqa: E402
from qtwin.design_job import at_dose, problem_of  # noqa: E402

FIVE = "[source.waist,source.crystal_length,optics.focal_length,tissue.thickness,tissue.mu_s]"
TEN = (
    "[source.waist,source.crystal_length,source.pump_power,optics.focal_length,optics.idler_x,optics.idler_y,"
    "optics.defocus,correlation.window,detector.dead_time,detector.dark_rate]"
)
BOUNDS = (
    "{optics.idler_x: [-200um, 300um], optics.idler_y: [-300um, 200um], optics.defocus: [-5mm, 8mm],"
    "detector.dead_time: [10ns, 100ns], detector.dark_rate: [50Hz, 5kHz]}"
)


def problem(*overrides):
    cfg = compose([*overrides], name="design")
    settings = Settings.from_config({"regularise": False, **plain(cfg)})

    def walked(working, name="walk"):
        return working.twin.walk(key=jax.random.key(settings.seed), photons=settings.walk_photons)

    made = problem_of(cfg, settings)[0]
    walk = walked(made.family.start)
    return at_dose(made, walk)[0], walk, lambda x: walked(made.family.at(jnp.asarray(x)))


def cost(act, repeats=20):
    found = []
    for _ in range(repeats):
        begin = time.process_time()
        jax.block_until_ready(act())
        found.append(time.process_time() - begin)
    return min(found)


def ratios():
    print("objective        value (s)  gradient (s)  ratio")
    rows = [
        ("information", "estimator=twin_beams"),
        ("advantage", "estimator=twin_beams"),
        ("detectability", "estimator=twin_beams"),
        ("information", "estimator=ghost"),
        ("advantage", "estimator=ghost"),
        ("ghost.car", "estimator=ghost"),
    ]
    for objective, protocol in rows:
        made, walk, _ = problem(f"design.objective={objective}", protocol, f"design.free={FIVE}")
        x = made.family.origin
        z = made.family.free.free(x)
        value, slope = cost(partial(figures, made, x, walk)), cost(partial(gradients, made, z[None], walk))
        print(f"{objective:<14} {protocol[10:]:<12} {value:8.3f} {slope:10.3f} {slope / value:8.2f}", flush=True)


def steps():
    made, walk, anew = problem("estimator=twin_beams", f"design.free={FIVE}", "design.objective=advantage")
    z = made.family.free.free(made.family.origin)
    optimise(made, z, walk, anew, "adam", 10, lambda *_: None)
    begin = time.perf_counter()
    path = optimise(made, z, walk, anew, "adam", 200, lambda *_: None)
    count, took = len(path.x) - 1, time.perf_counter() - begin
    whole = took / count * 200
    print(f"{count} steps of Adam, five parameters: {took:.1f} s ({path.renewed} walks renewed), 200: {whole:.0f} s")


def starts(count=8):
    made, walk, anew = problem("estimator=twin_beams", f"design.free={FIVE}", "design.objective=advantage")
    z = made.family.free.free(made.family.origin)
    many = z + 0.1 * jax.random.normal(jax.random.key(0), (count, len(z)))

    def one(point):
        return gradients(made, point[None], walk)

    ways = {
        "one after the other": lambda: [one(point) for point in many],
        "in threads": lambda: side_by_side(one, many),
        "in one vectorised call": lambda: gradients(made, many, walk, count),
    }
    for name, act in ways.items():
        act()
        found = []
        for _ in range(5):
            begin = time.perf_counter()
            act()
            found.append(time.perf_counter() - begin)
        print(f"{count} gradients {name}: {min(found):.2f} s", flush=True)
    whole = {
        "in threads": lambda n: side_by_side(
            lambda z: optimise(made, z, walk, anew, "lbfgs", n, lambda *_: None), many
        ),
        "abreast": lambda n: climbs(made, many, walk, anew, "lbfgs", n, lambda *_: None),
    }
    for name, climb in whole.items():
        climb(0)
        begin = time.perf_counter()
        values = [path.evaluations for path in climb(200)]
        print(f"{count} climbs {name}: {time.perf_counter() - begin:.0f} s, {sum(values)} values, {max(values)} of one")


def search(budget):
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made, walk, anew = problem(
        *("estimator=ghost", "optics.pixels=16", "optics.pitch=200um", f"design.free={TEN}"),
        *(f"design.bounds={BOUNDS}", "+optics.idler_x=120um", "+optics.idler_y=-90um", "+optics.defocus=3mm"),
    )
    free = made.family.free
    z = free.free(made.family.origin)
    path = optimise(made, z, walk, anew, "lbfgs", 200, lambda *_: None)
    steps = len(path.x) - 1
    near = int(np.argmax(path.score >= path.score[-1] + np.log(0.995)))
    print(
        f"by gradient: score {path.score[-1]:.5f} after {steps} steps, {path.evaluations} values with their gradients"
    )
    print(f"within 0.5 % of it after {near} steps")
    best: list[float] = []

    def objective(trial):
        z = jnp.asarray([trial.suggest_float(p.key, -5.0, 5.0) for p in free.parameters])
        value = float(figures(made, free.constrain(z), walk)[0])
        best.append(max(value, best[-1] if best else -np.inf))
        return value

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.enqueue_trial({p.key: float(v) for p, v in zip(free.parameters, z, strict=True)})
    study.optimize(objective, n_trials=budget)
    reached = next((i + 1 for i, b in enumerate(best) if b >= path.score[-1] + np.log(0.995)), None)
    told = f"reached it to 0.5 % after {reached}" if reached else f"did not reach it to 0.5 % (score {best[-1]:.5f})"
    print(f"by Optuna's sampler: {told}, of {budget} evaluations")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--optuna", type=int, default=0, metavar="N", help="also search with so many evaluations")
    asked = parser.parse_args()
    if asked.optuna:
        search(asked.optuna)
    else:
        ratios()
        steps()
        starts()
