"""Seconds and memory of the joint distribution and the projections of threshold frames, against a plain product X^T X.

One core, 1e5 frames of 64 x 64 pixels, 1 % of them lit, then 128 x 128 in tiles, then the cost of a block by events and
by matrix product or transform, which fixes where one takes over from the other::

    OPENBLAS_NUM_THREADS=1 python scripts/joint_distribution_speed.py [frames]
"""

import sys
import time
import tracemalloc
from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.sparse import csr_matrix

from qtwin.core.records import Frames
from qtwin.correlation import joint_distribution as joint
from qtwin.correlation import projections as projected

STRETCH = 1000  # frames


def record(frames: int, side: int, lit: float, seed: int = 7) -> list[Frames]:
    rng = np.random.default_rng(seed)
    shape = (STRETCH, side, side)
    return [Frames(rng.random(shape, dtype=np.float32) < lit) for _ in range(frames // STRETCH)]


def seconds(work: Callable[[], object], repeats: int = 1) -> float:
    """The quickest of some repeats."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def peak_memory(work: Callable[[], object]) -> float:
    """Most MiB that the work holds at a time, the record itself not counted."""
    tracemalloc.start()
    work()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / 2**20


def plain(frames: list[Frames]) -> np.ndarray:
    """X^T X in float32, a stretch at a time."""
    pixels = frames[0].counts[0].size
    total = np.zeros((pixels, pixels), np.float32)
    for stretch in frames:
        x = stretch.counts.reshape(len(stretch), -1).astype(np.float32)
        total += x.T @ x
    return total


def whole(frames: list[Frames], accidentals) -> None:
    joint.joint_distribution(frames, accidentals=accidentals).covariance()


def all_tiles(frames: list[Frames], limit: float) -> int:
    count = 0
    for tile in joint.tiles(frames, memory_limit=limit):
        tile.covariance()
        count += 1
    return count


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    small = record(STRETCH, 64, 0.01)
    for accidentals in ("mean", "next frame"):
        whole(small, accidentals)  # compiles
    projected.projections(small)

    frames = record(count, 64, 0.01)
    reference = seconds(lambda: plain(frames))
    print(f"{count} frames of 64 x 64, 1 % lit: plain X^T X {reference:.1f} s")
    cases: dict[str, Callable[[list[Frames]], object]] = {
        "joint distribution with errors": lambda some: whole(some, "mean"),
        "the same, accidentals from the next frame": lambda some: whole(some, "next frame"),
        "sum, difference, marginal with errors": projected.projections,
    }
    for name, work in cases.items():
        took, memory = seconds(partial(work, frames), 2), peak_memory(partial(work, frames[:3]))
        print(f"  {name}: {took:.2f} s, {took / reference:.3f} of it; {memory:.0f} MiB")
    print(f"  memory known beforehand: {max(joint.memory(4096, 4096, True, False)) / 2**20:.0f} MiB")

    frames, limit = record(max(count // 10, STRETCH), 128, 0.01), 2**30
    parts = all_tiles(frames[:1], limit)
    took, memory = seconds(lambda: all_tiles(frames, limit)), peak_memory(lambda: all_tiles(frames[:1], limit))
    print(f"{len(frames) * STRETCH} frames of 128 x 128 in {parts} tiles of 1 GiB: {took:.1f} s; {memory:.0f} MiB")
    print(f"  their projections: {seconds(lambda: projected.projections(frames)):.2f} s")

    print("ms per 1000 frames of 64 x 64 by")
    print("  lit     events, sparse product, product of blocks; projections by events, by transforms")
    for lit in (0.003, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.3):
        block = record(STRETCH, 64, lit)[0].counts.reshape(STRETCH, -1)
        table, place = np.zeros((4096, 4096)), np.arange(4096)

        def by_events(block=block, table=table, place=place):
            starts, pixels, values = joint.events(block)
            joint.add_products(table, place, starts, pixels, values, starts, pixels, values)

        def by_sparse(block=block):
            x = csr_matrix(block.astype(np.float32))
            return x.T @ x

        def by_product(block=block, table=table):
            x = block.astype(np.float32)
            table += x.T @ x

        stack = block[:64].reshape(-1, 64, 64)
        ways = [seconds(work, 2) for work in (by_events, by_sparse, by_product)]
        ways += [
            seconds(partial(way, stack, 0), 3) * STRETCH / 64 for way in (projected.by_events, projected.by_transforms)
        ]
        print(f"  {lit:<5}", *(f"{1e3 * way:9.1f}" for way in ways))


if __name__ == "__main__":
    main()
