"""Timepix3 raw data (.tpx3): chunks of packets as the SPIDR readout sends them.

Chunk: 8 bytes of header ("TPX3", chip, reserved, size in bytes), then packets of 8 bytes, little endian, whose highest
four bits say what they are. Pixel packet (0xb): address 59-44, ToA 43-30 (25 ns), ToT 29-20 (25 ns), FToA 19-16
(1.5625 ns before ToA), SPIDR time 15-0 (409.6 us): SERVAL manual, appendix "TPX3 raw file format", as quoted in public
decoders.

t = ((SPIDR time x 2^14 + ToA) x 16 - FToA) x 1.5625 ns, rounded down to ps. The counter comes round after 26.8 s; pixel
packets and the time packets between them (0x44, 0x6) are followed, which bridges pauses of up to 13.4 s without any.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qtwin.core.errors import UserError
from qtwin.io.file_access import head
from qtwin.io.tag_source import LIMIT, Chunk, TagSource, in_order

MAGIC = b"TPX3"
TURN = 1 << 30  # 25 ns steps after which the coarse counter comes round
COARSE = 25_000  # ps
FINE = 3125 / 2  # ps
DISORDER = 10_000_000_000  # ps: pixels wait in their column until they are read out; chips come one after the other
PIXEL, INTEGRATED, TDC, GLOBAL, CONTROL, CHIP = 0xB, 0xA, 0x6, 0x4, 0x5, 0x7


class PixelHits(NamedTuple):
    """Pixels over threshold, in order of time; for a file of several chips, each with its own x and y."""

    x: np.ndarray  # int16, column
    y: np.ndarray  # int16, row
    toa: np.ndarray  # int64 ps, time of arrival
    tot: np.ndarray  # int64 ps, time over threshold
    chip: np.ndarray  # int16


def _packets(path: Path, most: int) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """(packets, chip of each, offset of the first in the file), about ``most`` of them at once."""
    words: list[np.ndarray] = []
    chips: list[int] = []
    gathered, at, begin = 0, 0, 0

    def joined():
        return np.concatenate(words), np.repeat(np.array(chips, np.int16), [len(w) for w in words]), begin

    with path.open("rb") as file:
        while header := file.read(8):
            size = int.from_bytes(header[6:8], "little")
            if len(header) < 8 or header[:4] != MAGIC or size % 8:
                raise UserError(f"{path}: no header of a chunk at byte {at}: got {header!r}, it starts with {MAGIC!r}")
            data = file.read(size)
            if len(data) < size:
                raise UserError(
                    f"{path}: the chunk at byte {at} has {size} bytes, the file ends after {len(data)} of them"
                )
            words.append(np.frombuffer(data, "<u8"))
            chips.append(header[4])
            at, gathered = at + 8 + size, gathered + size // 8
            if gathered >= most:
                yield joined()
                words, chips, gathered, begin = [], [], 0, at
    if words:
        yield joined()


def _hits(path: Path, most: int) -> Iterator[tuple[PixelHits, int]]:
    """(hits as they stand in the file, packets that are none)."""
    latest, turns = None, 0
    for words, chips, begin in _packets(path, most):
        kind = (words >> np.uint64(60)).astype(np.int8)
        known = np.isin(kind, (PIXEL, TDC, GLOBAL, CONTROL, CHIP))
        if not known.all():
            found = words[known.argmin()]
            what = "integrated ToT, which has no times of arrival" if kind[known.argmin()] == INTEGRATED else "unknown"
            raise UserError(
                f"{path}: packet {found:#018x} behind byte {begin} is {what}; accepted are ToA packets (0xb)"
            )
        low = words.view(np.int64) & ((1 << 60) - 1)
        pixel = kind == PIXEL
        coarse = np.where(pixel, (low & 0xFFFF) << 14 | low >> 30 & 0x3FFF, low >> 16 & TURN - 1)
        coarse = np.where(kind == TDC, low >> 12 & TURN - 1, coarse)
        timed = pixel | (kind == TDC) | (words >> np.uint64(56) == 0x44)
        times, where = coarse[timed], pixel[timed]
        if len(times):
            jumps = np.diff(times, prepend=times[0] if latest is None else latest)
            turned = turns + np.cumsum((jumps < -TURN // 2).astype(np.int64) - (jumps > TURN // 2))
            latest, turns = int(times[-1]), int(turned[-1])
            times = times + turned * TURN
        times, low = times[where], low[pixel]
        if len(times) and np.abs(times).max() >= LIMIT // COARSE:
            raise UserError(f"{path}: times behind byte {begin} go beyond 2^62 ps (53 days)")
        toa = (times * 16 - (low >> 16 & 15)) * 3125 >> 1
        address = low >> 44
        x = ((address & 0xFE00) >> 8) + (address >> 2 & 1)
        y = ((address & 0x01F8) >> 1) + (address & 3)
        hits = PixelHits(x.astype(np.int16), y.astype(np.int16), toa, (low >> 20 & 0x3FF) * COARSE, chips[pixel])
        yield hits, len(words) - len(toa)


@dataclass(frozen=True)
class HitFile:
    """A .tpx3 file as stretches of hits in order of time; it can be read again and again."""

    path: Path
    disorder: int
    most: int

    def __iter__(self) -> Iterator[PixelHits]:
        rows = ((h.toa, h.x, h.y, h.tot, h.chip) for h, _ in _hits(self.path, self.most))
        for part in in_order(rows, self.disorder, str(self.path)):
            toa, x, y, tot, chip = part.columns
            yield PixelHits(x, y, toa, tot, chip)


def read_pixel_hits(path: str | Path, disorder: int = DISORDER, memory_limit: float = 1 << 28) -> HitFile:
    """Hits of a Timepix3 file, put in order; one that comes more than ``disorder`` ps late is refused."""
    path = Path(path)
    if head(path, "a Timepix3 file (.tpx3)")[:4] != MAGIC:
        raise UserError(f"{path}: does not start with {MAGIC!r}, as a Timepix3 file does")
    return HitFile(path, disorder, max(int(memory_limit) // 256, 1024))


def source(path: Path) -> TagSource:
    """Times of arrival of all pixels; the channel is the number of the chip. Triggers are left out."""

    def chunks(most: int) -> Iterator[Chunk]:
        for hits, others in _hits(path, most):
            yield Chunk(hits.toa, hits.chip, others)

    return TagSource("Timepix3", FINE, chunks, DISORDER)
