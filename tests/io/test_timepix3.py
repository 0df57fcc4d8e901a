"""Timepix3 packets, written bit by bit here and taken apart there."""

import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from qtwin.core.errors import UserError
from qtwin.io.time_tag_files import read_time_tags
from qtwin.io.timepix3 import read_pixel_hits

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))
from fuzz_readers import tpx3_file, tpx3_packet

TURN = 1 << 34  # ticks of 1.5625 ns after which the counter comes round: 26.8 s


def saved(folder, data: bytes) -> Path:
    path = folder / "run.tpx3"
    path.write_bytes(data)
    return path


def picoseconds(ticks) -> list[int]:
    return [int(t) * 3125 // 2 for t in ticks]


def test_one_packet_by_hand():
    """x = 3, y = 6: double column 1 (right pixel), super pixel 1 (third pixel); ToA 2 ends 1 fine step before."""
    assert tpx3_packet(3, 6, 31, 5) == 0xB << 60 | (1 << 9 | 1 << 3 | 4 | 2) << 44 | 2 << 30 | 5 << 20 | 1 << 16


@pytest.mark.parametrize("disordered", [False, True])
def test_every_pixel_and_a_clock_that_comes_round(tmp_path, disordered):
    rng = np.random.default_rng(7)
    ticks = np.cumsum(rng.integers(0, 2 * TURN // 60_000, 65_536))  # more than two turns
    place, tot = rng.permutation(65_536), rng.integers(0, 1024, 65_536)
    order = np.arange(65_536)
    if disordered:  # hits of up to 2 ms wait in their columns
        order = np.argsort(ticks + rng.integers(0, 1_280_000, 65_536), kind="stable")
    packets = [tpx3_packet(int(place[i]) % 256, int(place[i]) // 256, int(ticks[i]) % TURN, int(tot[i])) for i in order]
    path = saved(tmp_path, tpx3_file((i % 4, packets[k : k + 900]) for i, k in enumerate(range(0, 65_536, 900))))
    parts = list(read_pixel_hits(path, memory_limit=1 << 20))
    toa, x, y, got = (np.concatenate([getattr(p, n) for p in parts]) for n in ("toa", "x", "y", "tot"))
    assert len(parts) > 3 and toa.dtype == np.int64 and toa.tolist() == picoseconds(ticks)
    apart = np.flatnonzero((np.diff(ticks, prepend=-1) > 0) & (np.diff(ticks, append=1 << 62) > 0))
    assert (x[apart] == place[apart] % 256).all() and (y[apart] == place[apart] // 256).all()
    assert (got[apart] == 25_000 * tot[apart]).all() and len(apart) > 65_000


def test_a_long_pause_is_bridged_by_time_packets(tmp_path):
    """Hits 20 s apart look like hits 6.8 s before: a global time packet, or a trigger, in between tells."""
    first, second = 1000, round(20e12 / 1562.5)
    between = round(10e12 / 25_000)  # in 25 ns
    for packet in (0x44 << 56 | between << 16, 0x6F << 56 | (between * 8) << 9):
        data = tpx3_file([(0, [tpx3_packet(1, 2, first, 9), packet, tpx3_packet(3, 4, second % TURN, 9)])])
        file = read_time_tags(saved(tmp_path, data))
        assert [t for tags in file for t in tags.times.tolist()] == picoseconds([first, second])
        assert file.contents.left_out == 1


def test_channels_are_chips(tmp_path):
    hits = [tpx3_packet(0, 0, 16 * i, 1) for i in range(6)]
    file = read_time_tags(saved(tmp_path, tpx3_file([(0, hits[:2]), (3, hits[2:3]), (0, []), (1, hits[3:])])))
    assert file.contents.counts == {0: 2, 1: 3, 3: 1} and file.kind == "Timepix3"


GOOD = tpx3_file([(0, [tpx3_packet(1, 1, 100, 1), tpx3_packet(2, 2, 200, 1)])])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (GOOD[:-8], "the chunk at byte 0 has 16 bytes, the file ends after 8 of them"),
        (GOOD + b"TPX", "no header of a chunk at byte 24"),
        (GOOD + b"TPX4" + bytes(4), "no header of a chunk at byte 24"),
        (GOOD[:6] + struct.pack("<H", 15) + GOOD[8:], "no header of a chunk at byte 0"),
        (tpx3_file([(0, [0xA << 60])]), "packet 0xa000000000000000 behind byte 0 is integrated ToT"),
        (tpx3_file([(0, [0x3 << 60])]), "packet 0x3000000000000000 behind byte 0 is unknown"),
        (
            tpx3_file([(0, [tpx3_packet(0, 0, t, 1) for t in (10**8, 10**7)])]),
            "tag 1 at 15625000000 ps comes 140625000000",
        ),
    ],
)
def test_bad_files(tmp_path, data, words):
    path = saved(tmp_path, data)
    for read in (read_time_tags, read_pixel_hits):
        with pytest.raises(UserError, match=words) as raised:
            list(read(path))
        assert str(path) in str(raised.value)


def test_another_file(tmp_path):
    with pytest.raises(UserError, match="does not start with b'TPX3'"):
        read_pixel_hits(saved(tmp_path, b"something else"))
