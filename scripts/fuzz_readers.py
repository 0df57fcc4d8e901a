"""Feeds every reader of files with damaged ones and reports what is no plain error: crashes, hangs, memory.

A valid file of every format is damaged (bits flipped, cut short, bytes put in or taken out, fields of the header
changed) and read to its end by a second process, which this one watches::

    python scripts/fuzz_readers.py [files, 100000] [seed, 7]

A reader passes when it reads the file or raises UserError, within 5 s and 1 GB. Any other exception, a death of the
process, a hang or a growth of memory is a failure; ``fuzz_readers.py --one NUMBER SEED`` reads its file again.
"""

import multiprocessing as mp
import os
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from io import BytesIO
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import tifffile

from qtwin.core.errors import UserError
from qtwin.core.records import Frames, TimeTags
from qtwin.io.frame_files import read_frames, write_frames
from qtwin.io.time_tag_files import read_time_tags, write_time_tags
from qtwin.io.timepix3 import read_pixel_hits

SECONDS, BYTES = 5.0, 1 << 30
DEAD, SLOW = "the process died", "too slow"
PATIENCE = 60.0  # s without a word after which a process hangs where no signal reaches it


def ptu_file(kind: int, records: Iterable[int], unit: float, arrival: float = 0.0, **header) -> bytes:
    """A PTU file of raw 32-bit records; ``unit``, ``arrival``: s; other entries of the header by their names."""
    records = list(records)
    entries: dict[str, int | float | str] = {
        "File_Comment": "made by a test",
        "Measurement_Mode": kind >> 8 & 0xFF,
        "TTResultFormat_TTTRRecType": kind,
        "TTResultFormat_BitsPerRecord": 32,
        "MeasDesc_GlobalResolution": unit,
        "MeasDesc_Resolution": arrival or unit,
        "TTResult_NumberOfRecords": len(records),
        **header,
    }
    data = b"PQTTTR\0\0" + b"1.0.00\0\0"
    for name, value in entries.items():
        start = name.encode().ljust(32, b"\0") + struct.pack("<i", -1)
        if isinstance(value, str):
            text = value.encode().ljust((len(value) // 8 + 1) * 8, b"\0")
            data += start + struct.pack("<Iq", 0x4001FFFF, len(text)) + text
        elif isinstance(value, float):
            data += start + struct.pack("<Id", 0x20000008, value)
        else:
            data += start + struct.pack("<Iq", 0x10000008, value)
    data += b"Header_End".ljust(32, b"\0") + struct.pack("<iIq", -1, 0xFFFF0008, 0)
    return data + b"".join(struct.pack("<I", record) for record in records)


def ptu_records(kind: int, clicks: Iterable[tuple[int, int, int]]) -> list[int]:
    """Raw records of clicks (tick or sync, channel field, arrival), written one by one; channel -1: the sync input."""
    hydra, t3 = kind & 0xFF != 3, kind >> 8 & 0xFF == 3
    wrap = {(False, False): 210698240, (False, True): 65536, (True, False): 1 << 25, (True, True): 1024}[hydra, t3]
    wrap = 33552000 if kind == 0x00010204 else wrap
    many = hydra and kind not in (0x00010204, 0x00010304)
    records, passed = [], 0
    for tick, channel, arrival in clicks:
        while tick // wrap > passed:
            step = min(tick // wrap - passed, 1000) if many else 1
            records.append(0xFE000000 | step if many else 0xFE000000 if hydra else 0xF0000000)
            passed += step
        low = tick - passed * wrap
        if not hydra:
            records.append(channel << 28 | (arrival << 16 | low if t3 else low))
        elif channel < 0:
            records.append(1 << 31 | low)
        else:
            records.append(channel << 25 | (arrival << 10 | low if t3 else low))
    return records


def qutag_file(times: Iterable[int], channels: Iterable[int], header: bool = True) -> bytes:
    start = bytes.fromhex("87b391fa22dd280000080000") + bytes(28) if header else b""
    return start + b"".join(struct.pack("<QH", *row) for row in zip(times, channels, strict=True))


def tpx3_packet(x: int, y: int, ticks: int, tot: int) -> int:
    """Pixel packet; ``ticks``: time of arrival in 1.5625 ns, ``tot`` in 25 ns."""
    address = (x // 2) << 9 | (y // 4) << 3 | (x % 2) << 2 | y % 4
    coarse = -(-ticks // 16)
    return (
        0xB << 60
        | address << 44
        | (coarse & 0x3FFF) << 30
        | tot << 20
        | (coarse * 16 - ticks) << 16
        | coarse >> 14 & 0xFFFF
    )


def tpx3_file(chunks: Iterable[tuple[int, Iterable[int]]]) -> bytes:
    data = b""
    for chip, packets in chunks:
        body = b"".join(struct.pack("<Q", packet) for packet in packets)
        data += b"TPX3" + struct.pack("<BBH", chip, 0, len(body)) + body
    return data


class Late(BaseException):
    """Not an Exception: no reader must take it for a fault of the file."""


class Sample(NamedTuple):
    name: str
    suffix: str
    data: bytes
    read: Callable[[Path], object]


def _tags(path: Path) -> None:
    file = read_time_tags(path, memory_limit=1 << 20)
    assert sum(len(tags) for tags in file) == sum(file.contents.counts.values())


def _hits(path: Path) -> None:
    for hits in read_pixel_hits(path, memory_limit=1 << 20):
        assert (np.diff(hits.toa) >= 0).all()


def _frames(path: Path) -> None:
    file = read_frames(path, memory_limit=1 << 24)
    assert sum(len(frames) for frames in file) == len(file)


def samples() -> list[Sample]:
    """A small valid file of every format that is read."""
    rng = np.random.default_rng(7)
    ticks = np.sort(rng.integers(0, 1 << 28, 120)).tolist()
    made = []
    for kind in (0x01010204, 0x00010204, 0x00010203, 0x00010207):
        clicks = [(t, i % 2, 0) for i, t in enumerate(ticks)]
        made.append(Sample(f"ptu {kind:08x}", ".ptu", ptu_file(kind, ptu_records(kind, clicks), 1e-12), _tags))
    for kind in (0x01010304, 0x00010303):
        clicks = [(t >> 12, 1 + i % 2, i % 600) for i, t in enumerate(ticks)]
        data = ptu_file(kind, ptu_records(kind, clicks), 12.5e-9, 16e-12, HWSync_Divider=1)
        made.append(Sample(f"ptu {kind:08x}", ".ptu", data, _tags))
    channels = (1 + np.arange(120) % 4).tolist()
    made += [Sample(f"qutag {h}", ".qutag", qutag_file(ticks, channels, h), _tags) for h in (True, False)]
    packets = [tpx3_packet(i % 256, 7 * i % 256, t, i % 1000) for i, t in enumerate(ticks)]
    tpx3 = tpx3_file([(0, packets[:50]), (1, packets[50:90]), (0, packets[90:])])
    made += [Sample("tpx3 hits", ".tpx3", tpx3, _hits), Sample("tpx3 tags", ".tpx3", tpx3, _tags)]
    times, numbers = np.array(ticks, np.int64), np.array(channels, np.int16)
    record = [TimeTags(times[:70], numbers[:70], 0, ticks[70]), TimeTags(times[70:], numbers[70:], ticks[70], 1 << 28)]
    frames = [Frames(rng.poisson(0.3, (6, 9, 12)).astype(kind), 1e-3, 2e-3, 16e-6) for kind in (np.uint16, np.float32)]
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".h5", ".npz", ".csv"):
            path = write_time_tags(Path(folder) / f"tags{suffix}", record)
            made.append(Sample(f"tags {suffix}", suffix, path.read_bytes(), _tags))
        for suffix in (".tif", ".h5", ".npy"):
            path = write_frames(Path(folder) / f"frames{suffix}", frames[suffix == ".npy" :][:1])
            made.append(Sample(f"frames {suffix}", suffix, path.read_bytes(), _frames))
        path = Path(folder) / "plain.h5"
        with h5py.File(path, "w") as file:
            group = file.create_group("photon_data")
            group["timestamps"], group["detectors"] = times // 4096, numbers.astype(np.uint8)
            group["nanotimes"] = (times % 4096).astype(np.uint16)
            group["timestamps_specs/timestamps_unit"], group["nanotimes_specs/tcspc_unit"] = 5e-8, 1.2e-11
        made.append(Sample("photon-hdf5 nanotimes", ".h5", path.read_bytes(), _tags))
    table, rows, pages = BytesIO(), BytesIO(), BytesIO()
    np.save(table, np.array(list(zip(ticks, channels, strict=True)), [("time", "<i8"), ("channel", "u1")]))
    np.save(rows, np.stack([times, numbers.astype(np.int64)], 1))
    tifffile.imwrite(pages, frames[0].counts, compression="zlib", photometric="minisblack")
    text = "".join(f"{t * 1e-3:.3f},a,{c}\n" for t, c in zip(ticks, channels, strict=True))
    made.append(Sample("npy fields", ".npy", table.getvalue(), _tags))
    made.append(Sample("npy columns", ".npy", rows.getvalue(), _tags))
    made.append(Sample("csv ns", ".csv", ("time [ns],name,channel\n" + text).encode(), _tags))
    made.append(Sample("tiff deflated", ".tif", pages.getvalue(), _frames))
    return made


VALUES = [*range(-2, 3), 2**7, 2**15 - 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, -(2**63)]


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """One to three damages, half of them within the first 600 bytes."""
    for _ in range(int(rng.integers(1, 4))):
        out = bytearray(data)
        reach = min(len(out), 600) if rng.random() < 0.5 else len(out)
        at, much = int(rng.integers(0, reach + 1)), int(2 ** rng.uniform(0, 7))
        match rng.integers(0, 7):
            case 0:
                for _ in range(int(rng.integers(1, 9))):
                    if out:
                        out[int(rng.integers(0, max(reach, 1))) % len(out)] ^= 1 << int(rng.integers(0, 8))
            case 1:
                del out[at:]
            case 2:
                out[at:at] = rng.bytes(much)
            case 3:
                del out[at : at + much]
            case 4:
                value, size = VALUES[rng.integers(0, len(VALUES))], int(2 ** rng.integers(0, 4))
                out[at : at + size] = (value % 256**size).to_bytes(size, "little")
            case 5:
                out[at : at + 8] = struct.pack("<d", rng.choice([np.nan, np.inf, -1.0, 0.0, 1e300, 1e-300, 1e-11]))
            case 6:
                other = int(rng.integers(0, reach + 1))
                out[at : at + much] = out[other : other + much]
        data = bytes(out)
    return data


def case(number: int, seed: int, made: list[Sample]) -> tuple[Sample, bytes]:
    sample = made[number % len(made)]
    return sample, damaged(sample.data, np.random.default_rng([seed, number]))


def _peak() -> int:
    """Largest memory of this process so far, bytes (getrusage also knows that of its parent)."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")))
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _worker(
    make: Callable[[], list[Sample]], first: int, last: int, seed: int, seconds: float, told: Connection
) -> None:
    """Cases [first, last): tells the number before it starts, and what came of it."""

    def late(*_):
        raise Late(SLOW)

    signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (8 * BYTES, 8 * BYTES))
    made, peak = make(), _peak()
    shared = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        for number in range(first, last):
            sample, data = case(number, seed, made)
            told.send((number, "begins", sample.name))
            path = Path(folder) / f"file{sample.suffix}"
            path.write_bytes(data)
            signal.setitimer(signal.ITIMER_REAL, seconds)
            try:
                sample.read(path)
                outcome = "read"
            except UserError as error:
                line = str(error)
                outcome = "refused" if "\n" not in line and str(path) in line else f"message: {line}"
                outcome = "MemoryError" if isinstance(error.__cause__, MemoryError) else outcome
            except BaseException:
                outcome = traceback.format_exc(limit=-3)
            signal.setitimer(signal.ITIMER_REAL, 0)
            now = _peak()
            if now - peak > BYTES:
                outcome = f"memory grew by {(now - peak) >> 20} MiB"
            peak = max(peak, now)
            told.send((number, outcome, sample.name))
    told.send((last, "end", ""))


def fuzz(
    count: int, seed: int, make: Callable[[], list[Sample]] = samples, seconds: float = SECONDS
) -> tuple[Counter, list[tuple[int, str, str]]]:
    """(format and outcome -> files, failures as (number, format, what))."""
    spawn, outcomes, failures, number = mp.get_context("spawn"), Counter(), [], 0
    while number < count:
        heard, told = spawn.Pipe(duplex=False)
        worker = spawn.Process(target=_worker, args=(make, number, count, seed, seconds, told), daemon=True)
        worker.start()
        told.close()  # this end; when the process dies, nothing more can be heard
        name, outcome = "", "begins"
        while outcome != "end":
            try:
                if not heard.poll(PATIENCE):
                    raise TimeoutError
                number, outcome, name = heard.recv()
            except (EOFError, TimeoutError) as error:
                worker.kill()
                worker.join()
                what = SLOW if isinstance(error, TimeoutError) else f"{DEAD} ({worker.exitcode})"
                failures.append((number, name, what))
                outcomes[name, "failed"] += 1
                number += 1
                break
            if outcome in ("read", "refused"):
                outcomes[name, outcome] += 1
            elif outcome not in ("begins", "end"):
                failures.append((number, name, outcome))
                outcomes[name, "failed"] += 1
        worker.join()
        heard.close()
    return outcomes, failures


def main() -> int:
    if "--one" in sys.argv:
        number, seed = (int(value) for value in sys.argv[sys.argv.index("--one") + 1 :][:2])
        sample, data = case(number, seed, samples())
        path = Path(tempfile.gettempdir()) / f"damaged{sample.suffix}"
        path.write_bytes(data)
        print(sample.name, path)
        sample.read(path)
        return 0
    count, seed = (int(value) for value in (*sys.argv[1:], *("100000", "7")[len(sys.argv) - 1 :]))
    began = time.perf_counter()
    outcomes, failures = fuzz(count, seed)
    for name in sorted({name for name, _ in outcomes}):
        row = ", ".join(f"{outcomes[name, what]} {what}" for what in ("read", "refused", "failed"))
        print(f"{name:24} {row}")
    for number, name, what in failures[:50]:
        print(f"case {number} ({name}): {what}")
    print(f"{count} damaged files, seed {seed}: {len(failures)} failures, {time.perf_counter() - began:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
