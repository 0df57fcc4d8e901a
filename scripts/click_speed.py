"""How fast clicks are drawn, over a compiled loop that only adds up exponential gaps.

    python scripts/click_speed.py [--tags 10000000] [--repeats 5] [--stretch 1000000]

A diode with dead time, jitter with a tail, afterpulses and 10 % dark counts at 1e7 events per second, then the same
with recovery, twilight and a converter, stretch by stretch, on one core. Light is drawn by NumPy and counted in. The
shortest of some repeats; and the memory that the stretches held at most.
"""

import argparse
import time
import tracemalloc

import numpy as np
from numba import njit

from qtwin.detector import TDC, Exponentials, SinglePhoton
from qtwin.detector.clicks import begin, detect, flush

RATE = 9e6  # events of light per second, beside 1e6 dark counts
PLAIN = SinglePhoton(
    *(1.0, "1 MHz", "24 ns", "300 ps"),
    jitter_tail="150 ps",
    afterpulsing=Exponentials(0.0171, [0.6, 0.2, 0.2], ["0.2 ns", "6 ns", "200 ns"]),
)
DEVICES = {
    "dead time, jitter, afterpulses, background": PLAIN,
    "and recovery, twilight, converter": SinglePhoton(
        *(PLAIN.efficiency, PLAIN.dark_rate, PLAIN.dead_time, PLAIN.jitter, "2 ns", "3 ns", PLAIN.jitter_tail),
        afterpulsing=PLAIN.afterpulsing,
        tdc=TDC(["18 ps", "7 ps", "31 ps", "24 ps"]),
    ),
}


@njit
def gaps(rng, mean, times):
    """The bare loop: times of Poisson light."""
    time = 0.0
    for i in range(len(times)):
        time += rng.standard_exponential() * mean
        times[i] = np.int64(time)


def record(device, rng, tags: int, stretch: int) -> tuple[int, float]:
    """Tags drawn and the seconds they span, until there are as many as asked."""
    state, found, now = begin(device, rng), 0, 0.0
    while found < tags:
        ends = now + np.cumsum(rng.standard_exponential(stretch)) * (1e12 / RATE)
        times, now = ends.astype(np.int64), float(ends[-1])
        written, state = detect(times, int(now) + 1, state)
        now = float(int(now) + 1)
        found += len(written)
    return found + len(flush(state)), now * 1e-12


def shortest(call, repeats: int):
    """(seconds, result) of the quickest call."""
    best = np.inf, None
    for _ in range(repeats):
        begun = time.perf_counter()
        result = call()
        best = min(best, (time.perf_counter() - begun, result), key=lambda pair: pair[0])
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tags", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--stretch", type=int, default=1_000_000, help="events of light at a time")
    args = parser.parse_args()
    rng, room = np.random.default_rng(7), np.empty(args.tags, np.int64)
    gaps(rng, 1.0, room[:10])  # compiles
    bare, _ = shortest(lambda: gaps(rng, 1e12 / RATE, room), args.repeats)
    print(f"{args.tags} exponential gaps in a bare loop: {bare:.3f} s")
    for name, device in DEVICES.items():
        record(device, rng, 1000, 1000)
        seconds, (tags, _) = shortest(lambda d=device: record(d, rng, args.tags, args.stretch), args.repeats)
        per = seconds / tags
        print(
            f"{name}: {tags} tags in {seconds:.3f} s, {per * 1e9:.1f} ns each, {per * args.tags / bare:.1f} bare loops"
        )
    tracemalloc.start()
    record(PLAIN, rng, args.tags, args.stretch)
    print(f"memory: {tracemalloc.get_traced_memory()[1] / 1e6:.0f} MB at most, stretches of {args.stretch} events")


if __name__ == "__main__":
    main()
