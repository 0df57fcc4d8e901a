"""quTAG of qutools: binary records of a time and a channel.

Layout as the maker's header file tdcbase.h describes FORMAT_BINARY and FORMAT_RAW: 40 bytes of header (none in
FORMAT_RAW), then 10 bytes a record, little endian: 8 of time in steps of 1 ps, 2 of channel. Channels 100-104 and
200-203 are markers and timer ticks, which are counted and left out. The device compensates the delays of its inputs
without sorting again, so tags stand up to some 100 ns out of order. Its clock counts since it was switched on: the
first record is time 0 here.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from qtwin.core.errors import UserError
from qtwin.io.tag_source import LIMIT, Chunk, TagSource

MARK = bytes.fromhex("87b391fa22dd2800")  # first bytes of a header, as a measured file has them
HEADER, RECORD = 40, np.dtype([("time", "<u8"), ("channel", "<u2")])
INPUTS = 100  # numbers below are inputs
MARKERS = (*range(100, 105), *range(200, 204))


def _is_record(records: np.ndarray) -> np.ndarray:
    return ((records["channel"] < INPUTS) | np.isin(records["channel"], MARKERS)) & (records["time"] < 2**63)


def source(path: Path) -> TagSource:
    """A quTAG file of either binary layout; which one it is, the channel of its first record tells."""
    size = os.path.getsize(path)
    with path.open("rb") as file:
        start = np.frombuffer(file.read(HEADER), RECORD, count=min(4, size // RECORD.itemsize))
    offset = 0 if len(start) and _is_record(start).all() else HEADER
    count, rest = divmod(size - offset, RECORD.itemsize)
    if rest or size < offset:
        raise UserError(f"{path}: {size} bytes, accepted is a header of 40 bytes (or none) and whole records of 10")

    def read(most: int, origin: int) -> Iterator[Chunk]:
        with path.open("rb") as file:
            file.seek(offset)
            for first in range(0, count, most):
                records = np.fromfile(file, RECORD, min(most, count - first))
                good = _is_record(records)
                if not good.all() or len(records) < min(most, count - first):
                    i = int(good.argmin()) if not good.all() else len(records)
                    shown = f"is {records[i]}" if i < len(records) else "is missing"
                    raise UserError(
                        f"{path}: record {first + i} {shown}, accepted is a time below 2^63 and an input or marker"
                    )
                times = records["time"].astype(np.int64) - origin
                if (np.abs(times) >= LIMIT).any():
                    raise UserError(f"{path}: times spread over more than 2^62 ps (53 days)")
                inputs = records["channel"] < INPUTS
                left_out = len(records) - int(np.count_nonzero(inputs))
                yield Chunk(times[inputs], records["channel"][inputs].astype(np.int16), left_out)

    with path.open("rb") as file:
        file.seek(offset)
        first = np.fromfile(file, RECORD, 1)
    origin = int(first["time"][0]) if len(first) and _is_record(first).all() else 0
    details = {"clock_at_zero": origin, "records": count}
    return TagSource("quTAG", 1.0, lambda most: read(most, origin), start=0, details=details)
