"""Time of a histogram (+-50 ns in 100 ps) and of 1 ns coincidences of 1e7 + 1e7 tags, against two pointers in C.

``correlator_reference.c`` is compiled on the spot and is given both channels as rows of their own; qtwin starts from
the record with the channels mixed. Both run in turns on one core; the fastest of seven counts::

    python scripts/correlator_speed.py

Three densities of clicks: the more of them in the range, the more is left to do. The last line streams the record
in stretches of 2^18 tags, and says how much memory that took.
"""

import ctypes
import os
import subprocess
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from qtwin.core.records import TimeTags
from qtwin.correlation.counting import coincidences
from qtwin.correlation.histogram import cross_correlation

SOURCE = Path(__file__).with_name("correlator_reference.c")
TAGS = 10_000_000  # per channel
REACH, BIN, WINDOW = 50_000, 100, 1000  # ps


def reference(folder: str) -> ctypes.CDLL:
    library = Path(folder) / "correlator_reference.so"
    command = ["gcc", "-O3", "-march=native", "-shared", "-fPIC", str(SOURCE), "-o", str(library)]
    subprocess.run(command, check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.coincidences.restype = ctypes.c_int64
    return loaded


def in_turns(*tasks: Callable[[], object], repeats: int = 7) -> list[float]:
    """Seconds of the fastest run of each task."""
    best = [np.inf] * len(tasks)
    for _ in range(repeats):
        for k, task in enumerate(tasks):
            begin = time.perf_counter()
            task()
            best[k] = min(best[k], time.perf_counter() - begin)
    return best


def stretches(tags: TimeTags, size: int) -> Iterator[TimeTags]:
    for k in range(0, len(tags), size):
        part = slice(k, k + size)
        stop = int(tags.times[k + size]) if k + size < len(tags) else tags.stop
        start = int(tags.times[k]) if k else tags.start
        yield TimeTags(tags.times[part], tags.channels[part], start, stop)


def measure(library: ctypes.CDLL, rate: float) -> tuple[float, float]:
    """Prints one density; ratios of qtwin's time to the reference's: histogram, coincidences."""
    rng, span = np.random.default_rng(1), int(TAGS / rate * 1e12)
    rows = [np.sort(rng.integers(0, span, TAGS)) for _ in range(2)]
    order = np.argsort(np.concatenate(rows), kind="stable")
    tags = TimeTags(np.concatenate(rows)[order], np.repeat(np.arange(2, dtype=np.int16), TAGS)[order], 0, span)
    whole, number = ctypes.c_int64, ctypes.c_int64(TAGS)
    counts = np.zeros(2 * REACH // BIN, np.int64)
    first, second, into = (row.ctypes.data_as(ctypes.c_void_p) for row in (*rows, counts))

    def histogram_c():
        counts[:] = 0
        library.histogram(first, number, second, number, whole(-REACH), whole(REACH), whole(BIN), into)

    def coincidences_c():
        return library.coincidences(first, number, second, number, whole(-WINDOW // 2), whole(WINDOW // 2))

    histogram_c()
    ours = cross_correlation([tags], 0, 1, REACH, BIN)
    assert np.array_equal(ours.counts, counts) and coincidences([tags], 0, 1, WINDOW).counts == coincidences_c()
    times = in_turns(
        histogram_c,
        lambda: cross_correlation([tags], 0, 1, REACH, BIN),
        coincidences_c,
        lambda: coincidences([tags], 0, 1, WINDOW),
    )
    ratios = times[1] / times[0], times[3] / times[2]
    print(
        f"{rate:8.0e} /s  histogram {times[1]:.3f} s, C {times[0]:.3f} s, ratio {ratios[0]:.2f}"
        f"   coincidences {times[3]:.3f} s, C {times[2]:.3f} s, ratio {ratios[1]:.2f}"
    )
    if rate == 1e7:
        begin = time.perf_counter()
        cross_correlation(stretches(tags, 2**18), 0, 1, REACH, BIN)
        took = time.perf_counter() - begin
        tracemalloc.start()
        cross_correlation(stretches(tags, 2**18), 0, 1, REACH, BIN)
        print(
            f"in {2 * TAGS // 2**18 + 1} stretches {took:.3f} s, {tracemalloc.get_traced_memory()[1] / 2**20:.0f} MiB"
        )
        tracemalloc.stop()
    return ratios


def main() -> list[tuple[float, float]]:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        library = reference(folder)
        return [measure(library, rate) for rate in (1e6, 3e6, 1e7)]


if __name__ == "__main__":
    main()
