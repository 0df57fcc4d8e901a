"""Tables of time tags as people write them by hand, with NumPy, or with other programs."""

import numpy as np
import pytest

from qtwin.core.errors import UserError
from qtwin.core.records import TimeTags
from qtwin.io.time_tag_files import read_time_tags, write_time_tags


def joined(file):
    parts = list(file)
    return np.concatenate([p.times for p in parts]).tolist(), np.concatenate([p.channels for p in parts]).tolist()


@pytest.mark.parametrize(
    ("text", "times", "channels"),
    [
        ("time (ps),channel\n5,1\n7,2\n", [5, 7], [1, 2]),
        ("channel, time [ns]\r\n1, 0.5\r\n2,7\r\n", [500, 7000], [1, 2]),
        ("# a comment\n\nTimes_us,name,Channels\n-1.000001,x,3\n0,y,3", [-1_000_001, 0], [3, 3]),
        ("time(s),channel\n1e-9,0\n2.5e3,-4\n", [1000, 2_500_000_000_000_000], [0, -4]),
        ("\ufefftime (µs),channel\n3,1\n", [3_000_000], [1]),
        (f"time (ps),channel\n{2**53 + 1},1\n{2**61},1\n", [2**53 + 1, 2**61], [1, 1]),
        ("time (ps),channel\n", [], []),
        ("time (ps),channel\n\n5,1\n\n\n", [5], [1]),
        ("time (ps),channel\n\n\n", [], []),
    ],
)
def test_csv(tmp_path, text, times, channels):
    path = tmp_path / "tags.csv"
    path.write_bytes(text.encode())
    assert joined(read_time_tags(path)) == (times, channels)


def test_csv_says_what_we_know(tmp_path):
    path = write_time_tags(
        tmp_path / "a.csv", [TimeTags(np.array([-7, 3]), np.array([0, 1], np.int16), -10, 20, 81.25)]
    )
    lines = path.read_text().splitlines()
    assert lines[0].rstrip() == "# start -10 ps, stop 20 ps, resolution 81.25 ps, 2 clicks" and lines[1:] == [
        "time (ps),channel",
        "-7,0",
        "3,1",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("5,1\n7,2\n", "columns are named '5,1', accepted is a line such as 'time \\(ps\\),channel'"),
        ("time,channel\n5,1\n", "columns are named 'time,channel'"),
        ("time (ps),time (ns),channel\n", "columns are named"),
        ("time (h),channel\n5,1\n", "unit of time 'h', accepted is one of fs, ps"),
        ("time (ps),channel\n5,1\n7\n", "behind row 1: .*accepted are a time and a channel"),
        ("time (ps),channel\n5,1\nseven,2\n", "behind row 1: .*seven"),
        ("time (ps),channel\n5,1\nnan,2\n", "time 1 is nan, accepted are finite ones"),
        ("time (ps),channel\n5,1\ninf,2\n", "time 1 is inf"),
        ("time (ps),channel\n5,1\n6,1.5\n", "number 1 is 1.5, accepted are whole numbers"),
        ("time (ps),channel\n5,1\n6,40000\n", "channel 40000, accepted is from -32768"),
        (f"time (ps),channel\n{2**62},1\n", "number 0 is 4611686018427387904, accepted are finite ones below 2\\^62"),
        (f"time (ps),channel\n{2**64},1\n", "behind row 1"),
        ("time (ns),channel\n9007199254740.993,1\n", "cannot tell 1 ps"),
        ("time (ms),channel\n1e305,1\n", "time 0 is 1e\\+305, accepted are finite ones"),
        ("time (ms),channel\n5000000000,1\n", "a time is beyond 2\\^62 ps"),
        ("time (ps),channel\n" + "1" * 100_000, "a line longer than 65536 bytes|behind row 1"),
        (
            "# start 5 ps, stop 4 ps, resolution 1 ps, 0 clicks\ntime (ps),channel\n",
            "start and stop are 5 and 4, accepted are whole ps in order",
        ),
        (
            "# start 5 ps, stop 9 ps, resolution 1e99 ps, 0 clicks\ntime (ps),channel\n",
            "got '1e99' ps, accepted is from",
        ),
        (
            "# start 0 ps, stop 9 ps, resolution 1 ps, 3 clicks\ntime (ps),channel\n5,1\n",
            "ends after 1 rows, .* says 3",
        ),
        ("time (ps),channel\n3000000,1\n5,1\n", "tag 1 at 5 ps comes 2999995 ps behind a later one"),
    ],
)
def test_bad_csv(tmp_path, text, words):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=words) as raised:
        joined(read_time_tags(path))
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("arrays", "times"),
    [
        ({"times": [5, 7]}, [5, 7]),
        ({"time": np.array([5, 7], np.uint16)}, [5, 7]),
        ({"times": [0.5, 7.25], "unit": "ns"}, [500, 7250]),
        ({"times": np.array([5, 7], ">i4"), "unit": "us"}, [5_000_000, 7_000_000]),
    ],
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_foreign_npz(tmp_path, arrays, times, save):
    save(tmp_path / "a.npz", channel=np.array([1, 63], np.uint8), **arrays)
    assert joined(read_time_tags(tmp_path / "a.npz")) == (times, [1, 63])


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"hist1": [1, 2]}, "holds 'hist1'; accepted is an NPZ file of time tags with the arrays times and channels"),
        ({}, "holds ''; accepted is"),
        ({"two\nlines": [1, 2]}, r"holds 'two\\nlines'; accepted is"),
        ({"times": [1, 2], "channels": [1]}, "times has 2 entries, channels has 1"),
        ({"times": [[1, 2]], "channels": [1]}, "times: int64 of shape \\(1, 2\\), accepted is a row of numbers"),
        ({"times": [1, 2], "channels": np.array([1, None])}, "channels"),
        ({"times": [1.0, np.nan], "channels": [1, 1]}, "time 1 is nan"),
        ({"times": np.array([1, 2**24 + 2], np.float32), "channels": [1, 1]}, "as float32, which cannot tell 1 ps"),
        ({"times": np.array([1, 2**63], np.uint64), "channels": [1, 1]}, "number 1 is 9223372036854775808"),
        ({"times": [1], "channels": np.array([np.inf], np.float16)}, "number 0 is inf"),
        ({"times": ["a"], "channels": [1]}, "got <U1, accepted are numbers"),
        ({"times": [1], "channels": [2**15]}, "channel 32768"),
        ({"times": [1], "channels": [1], "unit": "h"}, "unit of time 'h'"),
        ({"times": [1], "channels": [1], "start": 0.5, "stop": 2}, "start and stop are .*, accepted are whole ps"),
        ({"times": [1], "channels": [1], "start": 3}, "start and stop are .*, accepted are whole ps"),
        ({"times": [1], "channels": [1], "start": 3, "stop": 2}, "start and stop are 3 and 2"),
        ({"times": [1], "channels": [1], "resolution": -1.0}, "resolution: got -1.0 ps"),
    ],
)
def test_bad_npz(tmp_path, arrays, words):
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=words) as raised:
        joined(read_time_tags(path))
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_npz_cut_short_and_damaged(tmp_path):
    path = write_time_tags(tmp_path / "a.npz", [TimeTags(np.arange(900), np.zeros(900, np.int16), 0, 900)])
    data = path.read_bytes()
    path.write_bytes(data[:-50])
    with pytest.raises(UserError, match="not an NPZ file of time tags that can be read"):
        read_time_tags(path)
    at = data.index(np.arange(100, 103).tobytes())
    path.write_bytes(data[:at] + b"\x80" + data[at + 1 :])  # zip keeps a checksum
    with pytest.raises(UserError, match="Bad CRC-32"):
        joined(read_time_tags(path))


@pytest.mark.parametrize(
    "table",
    [
        np.array([(5, 1), (7, 2)], [("time", "<i8"), ("channel", "u1")]),
        np.array([(1, 5.2, b"x"), (2, 6.9, b"y")], [("channels", ">i2"), ("times", "f8"), ("note", "S1")]),
        np.array([[5, 1], [7, 2]]),
        np.asfortranarray(np.array([[5, 1], [7, 2]], np.uint32)),
    ],
)
def test_npy(tmp_path, table):
    np.save(tmp_path / "a.npy", table)
    assert joined(read_time_tags(tmp_path / "a.npy")) == ([5, 7], [1, 2])
    np.save(tmp_path / "a.npy", table[:0])
    assert joined(read_time_tags(tmp_path / "a.npy")) == ([], [])


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (np.arange(6), "int64 of shape \\(6,\\), accepted are fields time and channel"),
        (np.ones((3, 2)), "float64 of shape \\(3, 2\\)"),
        (np.zeros(3, [("time", "i8"), ("detector", "i8")]), "accepted are fields time and channel"),
        (np.array([[5, 1], [2**62, 1]]), "number 1 is 4611686018427387904"),
        (np.array([[5, 1], [6, 2**15]]), "channel 32768"),
    ],
)
def test_bad_npy(tmp_path, table, words):
    path = tmp_path / "bad.npy"
    np.save(path, table)
    with pytest.raises(UserError, match=words):
        joined(read_time_tags(path))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UserError, match=r"bad.npy"):
        joined(read_time_tags(path))
