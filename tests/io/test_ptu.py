"""PicoQuant records of every device against clicks written one by one, against the library ptufile; measured files."""

import struct
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from qtwin.core.errors import UserError
from qtwin.io.ptu import LAYOUTS
from qtwin.io.time_tag_files import read_time_tags

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))
from fuzz_readers import ptu_file, ptu_records

T2 = {
    0x00010203: 4e-12,
    0x00010204: 1e-12,
    0x01010204: 1e-12,
    0x00010205: 250e-12,
    0x00010206: 25e-12,
    0x00010207: 5e-12,
}
T3 = (0x00010303, 0x00010304, 0x01010304, 0x00010305, 0x00010306, 0x00010307)
HYDRA = 0x01010204


def joined(file) -> tuple[np.ndarray, np.ndarray]:
    parts = list(file)
    return np.concatenate([p.times for p in parts]), np.concatenate([p.channels for p in parts])


def saved(folder, data: bytes, name="record.ptu") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def clicks_of(kind: int, count: int, mean: float, seed: int = 7) -> list[tuple[int, int, int]]:
    """Clicks with pauses of many overflows, equal times, every channel and every arrival that the device can write."""
    rng = np.random.default_rng(seed)
    ticks = np.cumsum(np.floor(rng.exponential(mean, count)) * (rng.random(count) > 0.1)).astype(np.int64)
    inputs = 5 if kind & 0xFF == 3 else 63
    arrival = 4096 if kind & 0xFF == 3 else 32768
    return list(
        zip(
            ticks.tolist(),
            rng.integers(0, inputs, count).tolist(),
            rng.integers(0, arrival, count).tolist(),
            strict=True,
        )
    )


def test_every_layout_is_written_by_these_tests():
    assert {*T2, *T3} == {*LAYOUTS}


@pytest.mark.parametrize("kind", T2)
def test_t2_of_every_device(tmp_path, kind):
    clicks = [(t, c, 0) for t, c, _ in clicks_of(kind, 9000, 3e6)]
    unit = round(T2[kind] * 1e12)
    file = read_time_tags(saved(tmp_path, ptu_file(kind, ptu_records(kind, clicks), T2[kind])), memory_limit=1 << 20)
    times, channels = joined(file)
    assert times.tolist() == [t * unit for t, _, _ in clicks]
    assert channels.tolist() == [c + (kind & 0xFF != 3) for _, c, _ in clicks]
    assert file.resolution == unit and file.kind.endswith("T2") and len(list(file)) > 1
    assert (file.contents.start, file.contents.stop) == (0, times[-1] + 1)


@pytest.mark.parametrize("kind", T3)
def test_t3_of_every_device(tmp_path, kind):
    """t = syncs x period + arrival, here with a period that is no whole number of ps, against exact fractions."""
    clicks = clicks_of(kind, 9000, 40.0)
    seconds, step = 1 / 799_195.2, 16e-12
    data = ptu_file(kind, ptu_records(kind, clicks), seconds, step)
    file = read_time_tags(saved(tmp_path, data), memory_limit=1 << 20)
    times, channels = joined(file)
    period = Fraction(seconds * 1e12)
    exact = [int(n * period + Fraction(1, 2)) + 16 * a for n, _, a in clicks]
    order = np.argsort(exact, kind="stable")
    assert np.abs(times - np.array(exact)[order]).max() <= 1 and np.mean(times == np.array(exact)[order]) > 0.99
    late = np.diff(np.array(exact)[order], prepend=-9, append=exact[order[-1]] + 9)
    alone = (late[1:] > 2) & (late[:-1] > 2)
    assert (channels == np.array([c for _, c, _ in clicks])[order] + (kind & 0xFF != 3))[alone].all()
    assert file.resolution == 16.0 and file.details["sync_period"] == pytest.approx(seconds * 1e12, rel=1e-12)
    assert file.contents.moved > 100


def test_sync_input_markers_and_old_overflows(tmp_path):
    overflow, sync, marker = 0xFE000000, 0x80000000, 0x82000000
    records = [5, overflow, 7 | 1 << 25, sync | 9, marker | 3, 0x9E000000, overflow | 2, 11 | 62 << 25]
    file = read_time_tags(saved(tmp_path, ptu_file(HYDRA, records, 1e-12)))
    times, channels = joined(file)
    wrap = 1 << 25
    assert times.tolist() == [5, wrap + 7, wrap + 9, 3 * wrap + 11]
    assert channels.tolist() == [1, 2, 0, 63] and file.contents.left_out == 2
    pico = [4, 0xF0000000, 1 << 28 | 6, 0xF0000002]
    times, channels = joined(read_time_tags(saved(tmp_path, ptu_file(0x00010203, pico, 4e-12))))
    assert times.tolist() == [16, (210698240 + 6) * 4] and channels.tolist() == [0, 1]


@pytest.mark.parametrize("count", [0, -5])
def test_a_measurement_that_was_not_closed_is_read_to_its_end(tmp_path, count):
    data = ptu_file(HYDRA, [1, 2, 3], 1e-12, TTResult_NumberOfRecords=count)
    assert joined(read_time_tags(saved(tmp_path, data)))[0].tolist() == [1, 2, 3]


def test_a_record_without_clicks(tmp_path):
    file = read_time_tags(saved(tmp_path, ptu_file(HYDRA, [], 1e-12)))
    assert [len(tags) for tags in file] == [0] and file.channels == () and file.duration == 0


GOOD = ptu_file(HYDRA, [1, 2, 3], 1e-12)
AT = GOOD.index(b"File_Comment")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (GOOD[:-2], "10 bytes of records, the header says 3 records of 4 bytes"),
        (GOOD[:-4], "8 bytes of records, the header says 3"),
        (GOOD + bytes(4), "16 bytes of records, the header says 3"),
        (GOOD[:300], "no end of the header in 300 bytes"),
        (GOOD[:AT], "no end of the header"),
        (GOOD[: AT + 40] + struct.pack("<q", 1 << 40) + GOOD[AT + 48 :], "'File_Comment' claims 1099511627776 bytes"),
        (
            GOOD[: AT + 36] + b"\x07\0\0\0" + GOOD[AT + 40 :],
            "'File_Comment' at byte 16 has the unknown type 0x00000007",
        ),
        (ptu_file(0x00010208, [1], 1e-12), "TTTRRecType is 0x00010208, accepted is one of 0x00010203"),
        (ptu_file(HYDRA, [1], 1e-12, TTResultFormat_BitsPerRecord=64), "records of 64 bits, accepted are 32"),
        (ptu_file(HYDRA, [1], float("nan")), "MeasDesc_GlobalResolution: got nan ps"),
        (ptu_file(HYDRA, [1], 0.0), "MeasDesc_GlobalResolution: got 0.0 ps"),
        (ptu_file(HYDRA, [1], 1), "MeasDesc_GlobalResolution is 1, accepted is a time in s"),
        (
            ptu_file(HYDRA, [1], 1e-12, TTResult_NumberOfRecords="3"),
            "TTResult_NumberOfRecords is '3', accepted is a whole",
        ),
        (ptu_file(HYDRA, [1], 1e-12, Measurement_Mode=3), "Measurement_Mode is 3, but the records are T2"),
        (ptu_file(0x01010304, [1], 1e-8, float("inf")), "MeasDesc_Resolution: got inf ps"),
        (ptu_file(HYDRA, [1, 0xA0000000, 2], 1e-12), "record 1 is 0xa0000000, which no HydraHarp 400 writes in T2"),
        (ptu_file(0x01010304, [1, 0x80000000], 1e-8), "record 1 is 0x80000000, which no HydraHarp 400 writes in T3"),
        (ptu_file(0x00010203, [1, 5 << 28], 4e-12), "record 1 is 0x50000000, which no PicoHarp 300"),
        (ptu_file(HYDRA, [0xFFFFFFFF] * 4100, 1e-12), "overflows up to record 4100 go beyond 2\\^62 ps"),
        (ptu_file(HYDRA, [0xFE000001, 9, 0xFE000000 | 1 << 20, 9], 1e-6), "beyond 2\\^62 ps"),
        (
            ptu_file(HYDRA, [2_000_000, 3_000_000, 999_999], 1e-12),
            "tag 2 at 999999 ps comes 2000001 ps behind a later one",
        ),
    ],
)
def test_bad_files(tmp_path, data, words):
    path = saved(tmp_path, data)
    with pytest.raises(UserError, match=words) as raised:
        joined(read_time_tags(path))
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_clicks_behind_their_sync_by_more_than_its_period(tmp_path):
    """The header's period cannot be that of the record; a few stray arrivals are as real devices write them."""
    kind, far = 0x01010304, 20_000  # x 1 ps
    path = saved(tmp_path, ptu_file(kind, ptu_records(kind, [(n, 0, far) for n in range(50)]), 12.5e-9, 1e-12))
    with pytest.raises(
        UserError, match="clicks come up to 20000 ps behind their sync, but the syncs are 12500 ps apart"
    ):
        joined(read_time_tags(path))
    given = read_time_tags(path, sync_period=30_000.5)
    assert joined(given)[0].tolist() == [n * 30_000 + round(n / 2) + far for n in range(50)]
    stray = [(n, 0, far if n == 50 else 10) for n in range(200)]
    assert (
        len(joined(read_time_tags(saved(tmp_path, ptu_file(kind, ptu_records(kind, stray), 12.5e-9, 1e-12))))[0]) == 200
    )
    divided = ptu_file(kind, ptu_records(kind, [(n, 0, far) for n in range(9)]), 12.5e-9, 1e-12, HWSync_Divider=2)
    assert len(joined(read_time_tags(saved(tmp_path, divided)))[0]) == 9


def test_sync_period_is_for_t3_alone(tmp_path):
    with pytest.raises(UserError, match="a T2 record has no sync_period"):
        read_time_tags(saved(tmp_path, GOOD), sync_period=1e4)
    kind = 0x01010304
    with pytest.raises(UserError, match="sync_period: got nan ps"):
        read_time_tags(saved(tmp_path, ptu_file(kind, [1], 1e-8, 1e-12)), sync_period=float("nan"))


def reference(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Clicks of a file as the library ptufile decodes them: ticks, its channels, arrivals."""
    ptufile = pytest.importorskip("ptufile")
    with ptufile.PtuFile(path) as file:
        records = file.decode_records()
    records = records[records["channel"] >= 0]
    return records["time"].astype(np.int64), records["channel"], records["dtime"] if file.is_t3 else None


@pytest.mark.parametrize("kind", [0x00010203, 0x00010204, 0x01010204, 0x00010206, 0x01010304, 0x00010307])
def test_same_clicks_as_ptufile(tmp_path, kind):
    t3 = kind in T3
    clicks = sorted(clicks_of(kind, 3000, 500.0 if t3 else 3e6, seed=11), key=lambda click: (click[0], click[2]))
    path = saved(tmp_path, ptu_file(kind, ptu_records(kind, clicks), 1e-6 if t3 else 1e-12, 1e-12))
    ticks, channels, arrival = reference(path)
    times, ours = joined(read_time_tags(path))
    assert times.tolist() == (ticks if arrival is None else ticks * 1_000_000 + arrival).tolist()
    assert ours.tolist() == (channels.astype(int) + (kind & 0xFF != 3)).tolist()


@pytest.fixture(scope="module")
def measured(reference_data):
    return reference_data / "timetags" / "eta"


def test_measured_t2_record(measured):
    """0.999986 s, 159 298 + 224 721 clicks, smallest spacing on a channel 77.96 ns: as the README of the data says."""
    file = read_time_tags(measured / "200204_HH400_T2_320MHz_HBT.timeres")
    assert file.contents.counts == {1: 159_298, 2: 224_721} and file.resolution == 1.0
    assert file.duration == pytest.approx(0.999986, abs=5e-7) and file.contents.moved == 0
    times, channels = joined(file)
    assert min(np.diff(times[channels == c]).min() for c in (1, 2)) == pytest.approx(77_960, abs=10)
    assert file.details["HW_Type"] == "HydraHarp 400" and file.details["HWInpChan_CFDLevel[1]"] == 50
    ticks, theirs, _ = reference(file.path)
    assert (times == ticks).all() and (channels == theirs + 1).all()


def test_measured_t3_record(measured):
    """Its header says 12.5 ns from sync to sync, its clicks follow a sync by up to 524 ns: a period must be given."""
    path = measured / "200204_HH400_T3_320MHz_HBT.timeres"
    with pytest.raises(UserError, match=r"524256 ps behind their sync, but the syncs are 12512.588 ps apart"):
        joined(read_time_tags(path))
    file = read_time_tags(path, sync_period=1e6)
    assert file.contents.counts == {1: 186_647, 2: 266_616} and file.contents.moved == 0
    times, channels = joined(file)
    assert min(np.diff(times[channels == c]).min() for c in (1, 2)) == pytest.approx(77_960, abs=80)
    syncs, theirs, arrival = reference(path)
    assert (times == syncs * 1_000_000 + arrival.astype(np.int64) * 16).all() and (channels == theirs + 1).all()
