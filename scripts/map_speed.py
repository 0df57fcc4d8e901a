"""How long `qtwin map` takes for 32 x 32 points: images that stay the same, and one axis that changes the light.

    python scripts/map_speed.py [--points 32] [key=value ...]

Seconds of the clock, once everything is compiled; in brackets those of the processors, and of the first time.
"""

import argparse
import time

import jax

from qtwin.core.config import compose, plain
from qtwin.map_job import axes, duel, settings_of
from qtwin.sweep import prepare

CASES = {
    "twin beams: camera and background": (
        *("x=camera.efficiency", "y=optics.ambient", "y_range=[1,10000]"),
        "arm='twin beams, optimal k'",
    ),
    "heralded: detector and background, detected photons matched": (
        *("x=detector.efficiency", "y=optics.ambient", "y_range=[1,10000]", "budget.match=detected"),
        *("arm='heralded, with idler singles'", "budget.photons=500"),
    ),
    "twin beams: camera and thickness of the tissue": (
        *("x=camera.efficiency", "y=tissue.thickness", "y_range=[20um,1mm]"),
        "arm='twin beams, optimal k'",
    ),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=32)
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_args()
    prepare()
    from qtwin.benchmark.map import advantage_map

    for name, case in CASES.items():
        cfg = compose([*case, f"points={args.points}", *args.overrides], name="map")
        points, x, y = axes(cfg)
        pair = duel(points.start.protocols, cfg.arm, cfg.opponent)
        spent = []
        for _ in range(2):
            wall, cpu = time.perf_counter(), time.process_time()
            found = advantage_map(points.start, x, y, pair, settings_of(plain(cfg)), lambda *_, **__: None)
            spent.append((time.perf_counter() - wall, time.process_time() - cpu))
        (first, _), (wall, cpu) = spent
        shape = f"{len(y.values)} x {len(x.values)}"
        print(f"{name}: {shape} points in {wall:.1f} s ({cpu:.1f} s of processors; at first {first:.1f} s)")
        print(f"  {found.light} {jax.default_backend()}")


if __name__ == "__main__":
    main()
