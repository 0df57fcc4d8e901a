"""quTAG records: both binary layouts, markers, disorder between inputs, a measured file."""

import sys
from pathlib import Path

import numpy as np
import pytest

from qtwin.core.errors import UserError
from qtwin.io.time_tag_files import read_time_tags

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))
from fuzz_readers import qutag_file

UPTIME = 260_182_250_071_800_102  # ps for which the device had been on; float64 would lose 32 ps here


def saved(folder, data: bytes) -> Path:
    path = folder / "record.qutag"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("header", [True, False])
def test_records_with_and_without_a_header(tmp_path, header):
    rng = np.random.default_rng(7)
    times = np.cumsum(rng.integers(0, 1_000_000, 20_000))
    channels = rng.integers(1, 6, 20_000)
    file = read_time_tags(
        saved(tmp_path, qutag_file((times + UPTIME).tolist(), channels.tolist(), header)), memory_limit=1 << 20
    )
    parts = list(file)
    assert len(parts) > 2 and (np.concatenate([p.times for p in parts]) == times - times[0]).all()
    assert (np.concatenate([p.channels for p in parts]) == channels).all()
    assert file.details["clock_at_zero"] == UPTIME + times[0] and file.resolution == 1.0 and file.kind == "quTAG"


def test_markers_are_left_out_and_late_tags_put_in_order(tmp_path):
    times, channels = [1000, 1500, 1400, 1600, 900, 2000], [1, 5, 2, 104, 2, 200]
    file = read_time_tags(saved(tmp_path, qutag_file(times, channels)))
    (tags,) = file
    assert tags.times.tolist() == [-100, 0, 400, 500] and tags.channels.tolist() == [2, 1, 2, 5]
    assert (file.contents.moved, file.contents.left_out, tags.start) == (2, 2, 0)
    with pytest.raises(
        UserError, match="tag 2 at 400 ps comes 100 ps behind a later one; accepted is a disorder of 99 ps"
    ):
        list(read_time_tags(file.path, disorder=99))


def test_the_header_tells_a_quTAG_file_of_any_name(tmp_path):
    path = saved(tmp_path, qutag_file([5, 9], [1, 2])).rename(tmp_path / "timestamps.bin")
    assert next(iter(read_time_tags(path))).times.tolist() == [0, 4]


def test_a_header_alone_is_an_empty_record(tmp_path):
    assert [len(tags) for tags in read_time_tags(saved(tmp_path, qutag_file([], [])))] == [0]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (qutag_file([5, 6], [1, 2])[:-1], "59 bytes, accepted is a header of 40 bytes"),
        (bytes.fromhex("87b391fa"), "4 bytes, accepted is a header"),
        (qutag_file([5, 6], [1, 250]), "record 1 is .*250.*accepted is a time below 2\\^63 and an input or marker"),
        (qutag_file([5, 2**63], [1, 2]), "record 1 is .*9223372036854775808"),
        (qutag_file([5, 2**62 + 5], [1, 2]), "times spread over more than 2\\^62 ps"),
        (qutag_file([UPTIME, UPTIME + 10**13, 77], [1, 2, 1]), "tag 2 at -260182250071800025 ps comes"),
        (b"not a quTAG file at all: some text that is longer than a header.......", "record 0 is"),
    ],
)
def test_bad_files(tmp_path, data, words):
    path = saved(tmp_path, data)
    with pytest.raises(UserError, match=words) as raised:
        list(read_time_tags(path))
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_measured_file(reference_data):
    """Two detectors and an 80 MHz laser: its pulses are whole multiples of one period apart, so a step is 1 ps."""
    file = read_time_tags(reference_data / "timetags" / "eta" / "19_qutag_80MHz_HBT_sync_filtered.qutag")
    assert file.contents.counts == {1: 79_314, 2: 94_287, 5: 94_200} and file.contents.moved == 173
    assert file.duration == pytest.approx(5.0439, abs=1e-4)
    (tags,) = [tags for tags in file if len(tags) > 1000][:1]
    apart = np.diff(tags.of(5))
    apart = apart[apart < 2_000_000]
    period = np.median(apart[apart < 101_000]) / 8  # the sync input is divided by 8 at least
    for _ in range(3):
        period = np.sum(apart * np.rint(apart / period)) / np.sum(np.rint(apart / period) ** 2)
    assert 1e12 / period == pytest.approx(80e6, rel=2e-3)
    assert np.std(apart - np.rint(apart / period) * period) < 60  # ps: jitter of the clock, small against the period
