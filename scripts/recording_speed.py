"""Seconds to draw 1e7 time tags, and how many times the time that NumPy needs for as many exponential numbers.

Pairs, background and both detectors with dead time, jitter and afterpulses; then what its parts cost, and other light::

    python scripts/recording_speed.py [tags]

On one core: pin the process (``taskset -c 0``). Compilation is left out.
"""

import sys
import time
from collections.abc import Callable

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

from qtwin.detector import Exponentials, SinglePhoton  # noqa: E402
from qtwin.detector.arrivals import Continuous, Emitter, Pulsed, Thermal  # noqa: E402
from qtwin.detector.recording import Arm, Recording  # noqa: E402

REPEATS = 3
REAL = SinglePhoton(0.6, "150 Hz", "24 ns", "300 ps", afterpulsing=Exponentials(0.01, [1.0], ["50 ns"]))
IDEAL = SinglePhoton(0.6, 0.0, 0.0, 0.0)


def record(light, device: SinglePhoton, tags: float, alone: bool = False) -> Recording:
    """About ``tags`` tags in two channels, of pairs or of photons on a beam splitter."""
    signal, idler = (Arm([0.5, 0.4]), None) if alone else (Arm([0.5, 0.0]), Arm([0.0, 0.4]))
    a_second = Recording(light, signal, (device, device), 1.0, idler, background="50 kHz")
    return Recording(light, signal, (device, device), tags / float(a_second.at(0.0).singles.sum()), idler, "50 kHz")


def best(work: Callable[[], int]) -> tuple[float, int]:
    """Shortest time of the repeats, s, and what the work counted."""
    times, count = [], 0
    for _ in range(REPEATS):
        start = time.perf_counter()
        count = work()
        times.append(time.perf_counter() - start)
    return min(times), count


def main(tags: float) -> None:
    cases = {
        "pairs, background, dead time, jitter, afterpulses": (Continuous("1 MHz"), REAL, False),
        "the same light on ideal detectors": (Continuous("1 MHz"), IDEAL, False),
        "pulsed pairs, thermal numbers, real detectors": (Pulsed("12.5 ns", 0.02, 0.5, "1 ns"), REAL, False),
        "thermal light, 100 ns coherence, real detectors": (Thermal("1 MHz", "100 ns"), REAL, True),
        "blinking emitter, real detectors": (Emitter("12.5 ns", 0.05, 0.1, "1 ns", "1 us", "1 us"), REAL, True),
    }
    rng = np.random.default_rng(0)
    exponentials, _ = best(lambda: len(rng.standard_exponential(int(tags))))
    print(f"{int(tags)} exponential numbers: {exponentials:.3f} s")
    for name, (light, device, alone) in cases.items():
        for size in (1e4, tags):  # the first compiles
            recording = record(light, device, size, alone)
            key = jax.random.key(0)
            seconds, count = best(lambda recording=recording, key=key: sum(map(len, recording.sample(key=key))))
        each = seconds / count * tags
        print(f"{name}: {each:.2f} s for {int(tags)} tags, {each / exponentials:.1f} times the exponentials")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1e7)
