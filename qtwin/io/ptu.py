"""PicoQuant PTU: time-tagged records of PicoHarp, HydraHarp, TimeHarp 260, MultiHarp and PicoHarp 330, T2 and T3.

T2: t = (overflows x wrap + tag) x resolution. T3: t = (overflows x wrap + syncs) x sync period + arrival x resolution.
PicoQuant, Unified TTTR file format, and the demonstration code that comes with it, whose numbers of channels are kept:
0 is the sync input of a T2 record, 1, 2, ... are the inputs as the front panel counts them; a PicoHarp 300 numbers its
two inputs 0 and 1 in T2. Markers are counted and left out.

Records are decoded here and not by the library ptufile, which keeps no overflows between parts of a file.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qtwin.core.errors import UserError
from qtwin.io.tag_source import DISORDER, LIMIT, Chunk, TagSource, picoseconds, step

MAGIC = b"PQTTTR\0\0"
HEADER = 1 << 24  # bytes within which a header must end
TAG = struct.Struct("<32siI8s")
INT, FLOAT, DATE, BOOL, BITS, COLOUR, EMPTY = (
    *(0x10000008, 0x20000008, 0x21000008, 0x00000008, 0x11000008, 0x12000008, 0xFFFF0008),
)
TEXT, WIDE, FLOATS, BLOB = 0x4001FFFF, 0x4002FFFF, 0x2001FFFF, 0xFFFFFFFF
STRAY = 0.01  # share of arrivals that may lie beyond the sync period


class Layout(NamedTuple):
    device: str
    mode: int  # 2 or 3
    wrap: int  # ticks (T2) or syncs (T3) of one overflow
    counted: bool = True  # an overflow record says how many it stands for
    picoharp: bool = False


LAYOUTS = {
    0x00010203: Layout("PicoHarp 300", 2, 210698240, False, True),
    0x00010303: Layout("PicoHarp 300", 3, 65536, False, True),
    0x00010204: Layout("HydraHarp 400 V1", 2, 33552000, False),
    0x00010304: Layout("HydraHarp 400 V1", 3, 1024, False),
    0x01010204: Layout("HydraHarp 400", 2, 1 << 25),
    0x01010304: Layout("HydraHarp 400", 3, 1024),
    0x00010205: Layout("TimeHarp 260 N", 2, 1 << 25),
    0x00010305: Layout("TimeHarp 260 N", 3, 1024),
    0x00010206: Layout("TimeHarp 260 P", 2, 1 << 25),
    0x00010306: Layout("TimeHarp 260 P", 3, 1024),
    0x00010207: Layout("MultiHarp or PicoHarp 330", 2, 1 << 25),
    0x00010307: Layout("MultiHarp or PicoHarp 330", 3, 1024),
}


def header(path: Path) -> tuple[dict[str, Any], int]:
    """(name -> value, offset of the records); lists have an entry ``name[index]`` for each of their values."""
    with path.open("rb") as file:
        data = file.read(HEADER)
    if data[:8] != MAGIC:
        raise UserError(f"{path}: starts with {data[:8]!r}, a PTU file starts with {MAGIC!r}")
    values: dict[str, Any] = {"version": data[8:16].rstrip(b"\0").decode("ascii", "replace")}
    at = 16
    while at + TAG.size <= len(data):
        name, index, kind, raw = TAG.unpack_from(data, at)
        key, at = name.split(b"\0")[0].decode("ascii", "replace"), at + TAG.size
        if key == "Header_End":
            return values, at
        number = int.from_bytes(raw, "little", signed=True)
        value: Any = number
        if kind in (FLOAT, DATE):
            (value,) = struct.unpack("<d", raw)
        elif kind in (TEXT, WIDE, FLOATS, BLOB):
            if not 0 <= number <= len(data) - at:
                raise UserError(f"{path}: header entry {key!r} claims {number} bytes, the header ends before")
            value, at = data[at : at + number], at + number
            if kind in (TEXT, WIDE):
                value = value.decode("cp1252" if kind == TEXT else "utf-16-le", "replace").rstrip("\0")
        elif kind not in (INT, BOOL, BITS, COLOUR, EMPTY):
            raise UserError(f"{path}: header entry {key!r} at byte {at - TAG.size} has the unknown type {kind:#010x}")
        if kind not in (FLOATS, BLOB, EMPTY):
            values[key if index < 0 else f"{key}[{index}]"] = bool(value) if kind == BOOL else value
    raise UserError(f"{path}: no end of the header in {len(data)} bytes: the file is cut short, or not a PTU file")


def _special(records: np.ndarray, layout: Layout) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(overflows that each stands for, is a sync, is a marker) of records that are no clicks of an input."""
    if layout.picoharp:
        marker = records & 15 if layout.mode == 2 else records >> 16 & 0xFFF
        return np.where(marker == 0, 1, 0), np.zeros(len(records), bool), marker != 0
    number, count = records >> 25 & 63, records & (0x1FFFFFF if layout.mode == 2 else 1023)
    overflows = np.where(number == 63, np.maximum(count, 1) if layout.counted else 1, 0)
    sync = (number == 0) & (layout.mode == 2)
    return overflows, sync, (number >= 1) & (number <= 15)


def _clicks(records: np.ndarray, layout: Layout) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(ticks or syncs, channel, arrival behind the sync) of records that are clicks."""
    if layout.picoharp:
        channel = (records >> 28).astype(np.int16)
        bits, most = (28, 0) if layout.mode == 2 else (16, 0xFFF)
    else:
        channel = (records >> 25 & 63).astype(np.int16) + np.int16(1)
        channel[records >> 31 == 1] = 0  # the sync input
        bits, most = (25, 0) if layout.mode == 2 else (10, 0x7FFF)
    return records & (1 << bits) - 1, channel, records >> bits & most if most else None


class _Clock(NamedTuple):
    unit: float  # ps, of a tick or between syncs
    resolution: float  # ps, of an arrival
    reach: float  # ps, within which arrivals lie


def _chunks(path: Path, offset: int, count: int, layout: Layout, clock: _Clock, most: int) -> Iterator[Chunk]:
    wraps, clicks, beyond, latest = 0, 0, 0, 0.0
    with path.open("rb") as file:
        file.seek(offset)
        for first in range(0, count, most):
            records = np.fromfile(file, "<u4", min(most, count - first))
            if len(records) < min(most, count - first):
                raise UserError(
                    f"{path}: ends at record {first + len(records)} of {count}: it was cut while it was read"
                )
            click = records < (0xF0000000 if layout.picoharp else 0x80000000)
            others = np.flatnonzero(~click)
            overflows, sync, marker = _special(records[others], layout)
            unknown = others[~(sync | marker | (overflows > 0))]
            if layout.picoharp:
                unknown = np.flatnonzero(click & (records >> 28 > 4))
            if len(unknown):
                found = f"record {first + unknown[0]} is {records[unknown[0]]:#010x}"
                raise UserError(f"{path}: {found}, which no {layout.device} writes in T{layout.mode}")
            if (wraps + float(overflows.sum(dtype=float))) * layout.wrap * max(clock.unit, 1.0) >= LIMIT:
                raise UserError(f"{path}: overflows up to record {first + len(records)} go beyond 2^62 ps (53 days)")
            passed = np.cumsum(np.concatenate([[wraps], overflows]))
            base = np.repeat(passed * layout.wrap, np.diff(others, prepend=0, append=len(records)))
            wraps = int(passed[-1])
            click[others[sync]] = True
            ticks, channel, arrival = _clicks(records[click], layout)
            times = picoseconds(base[click] + ticks, clock.unit, str(path))
            if arrival is not None:
                arrival = picoseconds(arrival.astype(np.int64), clock.resolution, str(path))
                clicks, beyond = clicks + len(arrival), beyond + int(np.count_nonzero(arrival > clock.reach))
                latest = max(latest, float(arrival.max(initial=0)))
                if beyond > STRAY * clicks:
                    raise UserError(
                        f"{path}: clicks come up to {latest:g} ps behind their sync, but the syncs are "
                        f"{clock.unit:.8g} ps apart; give the time between the syncs (option sync_period, ps)"
                    )
                times = times + arrival
            yield Chunk(times, channel, int(np.count_nonzero(marker)))


def source(path: Path, sync_period: float | None = None) -> TagSource:
    """A PTU file. ``sync_period``: ps between the syncs of a T3 record, in place of the header's.

    The clicks of a T3 record must lie within a sync period (times the divider of the sync input) behind their sync;
    where more than 1 % do not, the period is not that of the record and the absolute times would be wrong: UserError.
    A header that says 0 records, or fewer, is one of a measurement that was not closed: what is there is read.
    """
    values, offset = header(path)
    kind = values.get("TTResultFormat_TTTRRecType")
    if kind not in LAYOUTS:
        known = ", ".join(f"{number:#010x}" for number in LAYOUTS)
        shown = f"{kind:#010x}" if isinstance(kind, int) else repr(kind)
        raise UserError(f"{path}: TTResultFormat_TTTRRecType is {shown}, accepted is one of {known}")
    layout, size = LAYOUTS[kind], os.path.getsize(path) - offset
    if values.get("TTResultFormat_BitsPerRecord", 32) not in (0, 32):
        raise UserError(f"{path}: records of {values['TTResultFormat_BitsPerRecord']} bits, accepted are 32")
    if values.get("Measurement_Mode", layout.mode) != layout.mode:
        raise UserError(f"{path}: Measurement_Mode is {values['Measurement_Mode']}, but the records are T{layout.mode}")
    count = values.get("TTResult_NumberOfRecords")
    if not isinstance(count, int):
        raise UserError(f"{path}: TTResult_NumberOfRecords is {count!r}, accepted is a whole number")
    count = count if count > 0 else size // 4
    if count * 4 != size:
        raise UserError(
            f"{path}: {size} bytes of records, the header says {count} records of 4 bytes: cut short, or not closed"
        )
    unit = _seconds(path, values, "MeasDesc_GlobalResolution")
    clock = _Clock(unit, unit, np.inf)
    if layout.mode == 3:
        divider = values.get("HWSync_Divider", 1)
        divider = divider if isinstance(divider, int) and 1 <= divider <= 256 else 1
        unit = unit * divider if sync_period is None else step(sync_period, "sync_period")
        resolution = _seconds(path, values, "MeasDesc_Resolution")
        clock = _Clock(clock.unit if sync_period is None else unit, resolution, unit + resolution)
        values["sync_period"] = clock.unit
    elif sync_period is not None:
        raise UserError(f"{path}: a T2 record has no sync_period, got {sync_period!r}")

    def chunks(most: int) -> Iterator[Chunk]:
        return _chunks(path, offset, count, layout, clock, most)

    disorder = max(DISORDER, int(clock.reach)) if layout.mode == 3 else DISORDER
    return TagSource(
        f"PicoQuant PTU, {layout.device}, T{layout.mode}", clock.resolution, chunks, disorder, start=0, details=values
    )


def _seconds(path: Path, values: dict[str, Any], name: str) -> float:
    """A step of the header in ps."""
    value = values.get(name)
    if not isinstance(value, float):
        raise UserError(f"{path}: {name} is {value!r}, accepted is a time in s")
    return step(value * 1e12, f"{path}: {name}")
