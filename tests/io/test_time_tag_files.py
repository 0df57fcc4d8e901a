"""Files of time tags as records: which reader, order, stretches, memory, round trips, files written whole."""

import resource
import sys
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

from qtwin.core.errors import UserError
from qtwin.core.records import TimeTags
from qtwin.io.file_access import optional
from qtwin.io.tag_source import Watched, in_order, picoseconds, step
from qtwin.io.time_tag_files import read_time_tags, write_time_tags

WRITTEN = (".h5", ".npz", ".csv")


def tags(times, channels=0, start=0, stop=None, resolution=1.0) -> TimeTags:
    times = np.asarray(times, np.int64)
    stop = (int(times[-1]) + 1 if len(times) else start) if stop is None else stop
    return TimeTags(times, np.broadcast_to(np.asarray(channels, np.int16), times.shape).copy(), start, stop, resolution)


def joined(record) -> TimeTags:
    """A record as one stretch; its stretches must follow each other without gaps."""
    parts = list(Watched().follow(record))
    columns = (np.concatenate([getattr(p, name) for p in parts]) for name in ("times", "channels"))
    return TimeTags(*columns, parts[0].start, parts[-1].stop, parts[0].resolution)


RECORDS = {
    "nothing": [],
    "no clicks": [tags([], start=-5, stop=10**12)],
    "one click": [tags([7], 63)],
    "equal times": [tags([5, 5, 5, 9, 9], [3, 1, 2, 1, 1])],
    "negative times": [tags([-(10**13), -1, 0], [0, -7, 1], start=-(10**13))],
    "beyond float64": [tags([2**53 + 1, 2**53 + 2, 2**61 + 1], [0, 1, 2], stop=2**61 + 9, resolution=0.0)],
    "coarse clock": [tags([81, 162], 1, resolution=81.25)],
    "clicks outside": [tags([-3, 5, 120], 1, start=0, stop=100)],
    "several stretches": [
        *(tags([10, 20], 0, 0, 50, 5.0), tags([], start=50, stop=50, resolution=5.0)),
        *(tags([], start=50, stop=90, resolution=5.0), tags([60, 95], 1, 90, 100, 5.0)),
    ],
    "all channels": [tags(np.arange(64) ** 2, np.arange(64))],
}


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("name", RECORDS)
def test_round_trip(tmp_path, name, suffix):
    record = RECORDS[name]
    file = read_time_tags(write_time_tags(tmp_path / f"a{suffix}", iter(record)))
    got, put = joined(file), joined(record or [tags([])])
    assert got.times.tolist() == put.times.tolist() and got.channels.tolist() == put.channels.tolist()
    assert (got.start, got.stop, got.resolution) == (put.start, put.stop, put.resolution)
    assert file.contents.counts == {int(c): int((put.channels == c).sum()) for c in np.unique(put.channels)}
    assert file.duration == put.seconds and file.channels == tuple(file.contents.counts)
    assert list(tmp_path.iterdir()) == [file.path]


@pytest.mark.parametrize("suffix", [*WRITTEN, ".npy"])
def test_long_records_stream(tmp_path, suffix):
    """Stretches follow each other without gaps, hold what was written, and take little memory, again and again."""
    rng = np.random.default_rng(7)
    times, count = np.cumsum(rng.integers(0, 10**7, 120_000)), 120_000
    channels = rng.integers(0, 4, count).astype(np.int16)
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        np.save(path, np.stack([times, channels.astype(np.int64)], 1))
    else:
        cuts = [0, 7, 50_000, 50_000, count]
        edges = [0, *(int(times[i]) for i in cuts[1:-1]), int(times[-1]) + 1]
        pieces = zip(cuts[:-1], cuts[1:], edges[:-1], edges[1:], strict=True)
        write_time_tags(path, (tags(times[a:b], channels[a:b], start, stop) for a, b, start, stop in pieces))
    file = read_time_tags(path, memory_limit=1 << 20)
    for _ in range(2):
        got = joined(file)
        assert (got.times == times).all() and (got.channels == channels).all()
    tracemalloc.start()
    stretches = [(len(part), part.start, part.stop) for part in file]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(stretches) > 10 and peak < 6 << 20
    assert max(n for n, *_ in stretches) < 20_000


def test_files_are_known_by_their_first_bytes(tmp_path):
    record = [tags([1, 2], 1)]
    for suffix in (".h5", ".npz"):
        path = write_time_tags(tmp_path / f"a{suffix}", record).rename(tmp_path / "record.ptu")
        assert joined(read_time_tags(str(path))).times.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("none.ptu", None, "no such file, accepted is PicoQuant PTU .*quTAG.*Photon-HDF5.*Timepix3.*CSV.*NPZ.*NPY"),
        ("empty.csv", b"", "an empty file, accepted is PicoQuant PTU"),
        ("x.dat", b"whatever", "starts with b'whatever', accepted is PicoQuant PTU"),
        ("x.ptu", b"whatever", "starts with b'whatever', a PTU file starts with b'PQTTTR"),
        ("x.timeres", b"P", "starts with b'P', a PTU file starts with"),
        ("x.h5", b"\x89HDF\r\n\x1a\n", "not a Photon-HDF5 file that can be read"),
        ("x.npz", b"PK\x03\x04", "not an NPZ file of time tags that can be read"),
        ("x.npy", b"\x93NUMPY", "not an NPY file of time tags that can be read"),
        ("x.tpx3", b"TPX3", "no header of a chunk at byte 0"),
    ],
)
def test_what_is_no_file_of_tags(tmp_path, name, data, words):
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UserError, match=words) as raised:
        list(read_time_tags(path))
    assert str(path) in str(raised.value)


def test_folders_and_settings(tmp_path):
    with pytest.raises(UserError, match="a folder, accepted is a file: PicoQuant"):
        read_time_tags(tmp_path)
    path = write_time_tags(tmp_path / "a.npz", [tags([1])])
    with pytest.raises(UserError, match="memory_limit: got 100 bytes, accepted is 1 MiB or more"):
        read_time_tags(path, memory_limit=100)
    with pytest.raises(UserError, match="disorder: got -1 ps"):
        read_time_tags(path, disorder=-1)
    with pytest.raises(UserError, match="sync_period is for PTU files in T3 mode"):
        read_time_tags(path, sync_period=1e4)


def shuffled(count: int, disorder: int, seed: int = 11):
    """Times up to ``disorder`` behind a later one, and the index of each."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, 40 * count, count))
    order = np.argsort(times + rng.integers(0, disorder + 1, count), kind="stable")
    return times[order], order


@pytest.mark.parametrize("size", [1, 7, 1000, 10_000])
def test_order_is_that_of_a_stable_sort(size):
    """Whatever the parts; what was given out is never overtaken by what comes later."""
    times, order = shuffled(3000, 400)
    rows = ((times[i : i + size], order[i : i + size]) for i in range(0, 3000, size))
    parts = list(in_order(rows, 400, "here"))
    stable = np.argsort(times, kind="stable")
    assert np.concatenate([p.columns[0] for p in parts]).tolist() == times[stable].tolist()
    assert np.concatenate([p.columns[1] for p in parts]).tolist() == order[stable].tolist()
    assert sum(p.moved for p in parts) == np.count_nonzero(np.maximum.accumulate(times) > times)
    for part, later in pairwise(parts):
        assert len(part.columns[0]) == 0 or part.columns[0][-1] < part.border
        assert len(later.columns[0]) == 0 or later.columns[0][0] >= part.border
    assert parts[-1].border is None


def test_too_much_disorder_is_refused_where_it_is(tmp_path):
    """A clock that was set back must not be sorted into something that looks right."""
    times, _ = shuffled(3000, 400)
    worst = int(np.max(np.maximum.accumulate(times) - times))
    first = int(np.argmax(np.maximum.accumulate(times) - times == worst))
    for size in (13, 3000):
        rows = ((times[i : i + size],) for i in range(0, 3000, size))
        words = f"here: tag {first} at {times[first]} ps comes {worst} ps behind .* disorder of {worst - 1} ps"
        with pytest.raises(UserError, match=words):
            list(in_order(rows, worst - 1, "here"))
    np.save(tmp_path / "a.npy", np.stack([times, times % 3], 1))
    file = read_time_tags(tmp_path / "a.npy", disorder=worst)
    assert (joined(file).times == np.sort(times)).all() and file.contents.moved > 1000
    with pytest.raises(UserError, match=r"a.npy: tag"):
        list(read_time_tags(tmp_path / "a.npy", disorder=worst - 1))


def test_steps_and_ticks():
    assert step(0.9999999999999999, "x") == 1.0 and step("17.86", "x") == 17.86
    for bad in (0, -1, np.nan, np.inf, 1e-9, 1e30, "a", None):
        with pytest.raises(UserError, match="x: got"):
            step(bad, "x")
    ticks = np.array([-3, 0, 1, 2**50], np.int64)
    assert picoseconds(ticks, 25.0, "x").tolist() == [-75, 0, 25, 25 * 2**50]
    assert picoseconds(ticks[:3], 1562.5, "x").tolist() == [-4688, 0, 1562]
    with pytest.raises(UserError, match="x: a time is beyond 2\\^62 ps"):
        picoseconds(ticks, 4096.0, "x")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ([tags([1], stop=5), tags([7], start=6)], "stretch 1 starts at 6 ps, the one before stops at 5 ps"),
        ([tags([1], stop=5), tags([3], start=4)], "stretch 1 starts at 4 ps, the one before stops at 5 ps"),
        (
            [tags([1], stop=5), tags([7], start=5, resolution=2.0)],
            "stretch 1 has a resolution of 2.0 ps, .* have 1.0 ps",
        ),
        (
            [tags([6], stop=5), tags([4], start=5, stop=9)],
            "tags of stretch 1 begin at 4 ps, the one before ends at 6 ps",
        ),
        ([tags([1, 2**62], stop=5)], "below 2\\^62 ps"),
    ],
)
@pytest.mark.parametrize("suffix", WRITTEN)
def test_records_that_a_file_cannot_hold(tmp_path, record, words, suffix):
    with pytest.raises(UserError, match=f"record: .*{words}"):
        write_time_tags(tmp_path / f"a{suffix}", record)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", WRITTEN)
def test_a_write_that_fails_leaves_the_old_file(tmp_path, suffix):
    path = write_time_tags(tmp_path / f"a{suffix}", [tags([1])])
    before = path.read_bytes()

    def broken():
        yield tags([1, 2])
        raise RuntimeError("the detector burnt out")

    with pytest.raises(RuntimeError, match="burnt out"):
        write_time_tags(path, broken())
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("room", [3_000, 50_000, 150_000])
def test_a_full_disk_is_an_error_and_no_crash(tmp_path, suffix, room):
    """HDF5 left alone dies of it. The limit on the size of files stands for the full disk."""
    times = np.cumsum(np.random.default_rng(7).integers(0, 10**6, 60_000))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(OSError):
            write_time_tags(tmp_path / f"a{suffix}", [tags(times)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_names_that_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match=r"ends with '.ptu', accepted is Photon-HDF5 .*NPZ.*CSV"):
        write_time_tags(tmp_path / "a.ptu", [])
    with pytest.raises(UserError, match=r"the folder .*nowhere does not exist"):
        write_time_tags(tmp_path / "nowhere" / "a.npz", [])
    (tmp_path / "b.npz").mkdir()
    with pytest.raises(UserError, match="a folder, accepted is the name of a file"):
        write_time_tags(tmp_path / "b.npz", [])


def test_a_library_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(UserError, match=r"reading TIFF needs tifffile, .*: pip install -e '\.\[files\]'"):
        optional("tifffile", "reading TIFF")
