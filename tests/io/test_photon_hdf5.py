"""Photon-HDF5: files as other programs write them, and ours as other programs read them."""

import h5py
import numpy as np
import pytest

from qtwin.core.errors import UserError
from qtwin.core.records import TimeTags
from qtwin.io.time_tag_files import read_time_tags, write_time_tags


def made(path, unit=1e-12, timestamps=(1, 5, 5, 9), detectors=(0, 1, 1, 2), **more):
    """A file of the mandatory fields, and of others by name; None leaves a field out."""
    fields = {
        "photon_data/timestamps": timestamps,
        "photon_data/detectors": detectors,
        "photon_data/timestamps_specs/timestamps_unit": unit,
        **{name.replace("__", "/"): value for name, value in more.items()},
    }
    with h5py.File(path, "w") as file:
        for name, value in fields.items():
            if value is not None:
                file[name] = value
    return path


def joined(file):
    parts = list(file)
    return np.concatenate([p.times for p in parts]).tolist(), np.concatenate([p.channels for p in parts]).tolist()


def test_timestamps_of_a_foreign_file(tmp_path):
    path = made(tmp_path / "a.hdf5", 5e-9, identity__author=np.bytes_("A. Nother"), setup__num_pixels=3)
    file = read_time_tags(path)
    assert joined(file) == ([5000, 25000, 25000, 45000], [0, 1, 1, 2])
    assert file.resolution == 5000.0 and file.details["identity/author"] == "A. Nother"
    assert (file.contents.start, file.contents.stop, file.details["setup/num_pixels"]) == (5000, 45001, 3)


def test_one_detector_and_nanotimes(tmp_path):
    """t = timestamps x laser period + nanotimes x step; clicks of one pulse need not be in order."""
    more = {
        "photon_data__nanotimes": np.array([100, 900, 7, 0], np.uint16),
        "photon_data__nanotimes_specs__tcspc_unit": 16e-12,
    }
    path = made(tmp_path / "b.h5", 12.5e-9, detectors=None, **more)
    file = read_time_tags(path)
    assert joined(file) == ([14_100, 62_612, 76_900, 112_500], [0, 0, 0, 0])
    assert file.resolution == 16.0 and file.contents.moved == 1 and file.kind == "Photon-HDF5 with nanotimes"


@pytest.mark.slow
def test_our_files_keep_to_the_standard(tmp_path):
    """The reference library of the format opens and validates them, descriptions and all."""
    hdf5, tables = pytest.importorskip("phconvert.hdf5"), pytest.importorskip("tables")
    times = np.sort(np.random.default_rng(7).integers(-50, 10**13, 70_000))
    record = [TimeTags(times, (np.arange(70_000) % 3).astype(np.int16), 0, 10**13)]
    for name, tags in (("empty.h5", []), ("full.h5", record)):
        with tables.open_file(write_time_tags(tmp_path / name, tags)) as file:
            hdf5.assert_valid_photon_hdf5(file, warnings=False, skip_measurement_specs=True)
            data = file.root.photon_data
            assert data.timestamps_specs.timestamps_unit.read() == 1e-12
            assert len(data.timestamps) == sum(map(len, tags)) and len(file.root.setup.detectors.id) == 3 * len(tags)
            assert not tags or ((data.timestamps[:] == times).all() and file.root.acquisition_duration.read() == 10.0)


def test_mandatory_fields_of_our_files(tmp_path):
    path = write_time_tags(tmp_path / "x.h5", [TimeTags(np.array([7]), np.array([63], np.int16), 0, 2 * 10**12, 81.0)])
    with h5py.File(path) as file:
        assert file.attrs["format_name"] == b"Photon-HDF5" and file["identity/format_version"][()] == b"0.5"
        assert file["photon_data/timestamps_specs/timestamps_unit"][()] == 1e-12
        assert file["acquisition_duration"][()] == 2.0 and file["setup/detectors/id"][:].tolist() == [63]
        assert file["photon_data"].attrs["TITLE"] == b"Group containing arrays of photon-data."


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"timestamps": None}, "no row of numbers /photon_data/timestamps"),
        ({"timestamps": [[1, 2, 3, 4]]}, "no row of numbers /photon_data/timestamps"),
        ({"timestamps": [1.0, 2.5, 3.0, 4.0]}, "timestamps: number 1 is 2.5, accepted are whole numbers"),
        ({"timestamps": [1.0, np.nan, 3.0, 4.0]}, "timestamps: number 1 is nan"),
        ({"timestamps": np.array([1, 2, 3, 2**63], np.uint64)}, "timestamps: number 3 is 9223372036854775808"),
        ({"timestamps": [1, 2, 3, 2**61], "unit": 4e-12}, "a time is beyond 2\\^62 ps"),
        ({"timestamps": [9, 10**9, 3, 2]}, "tag 2 at 3 ps comes 999999997 ps behind a later one"),
        ({"unit": None}, "no number /photon_data/timestamps_specs/timestamps_unit"),
        ({"unit": np.nan}, "timestamps_unit: got nan ps"),
        ({"unit": -1e-12}, "timestamps_unit: got -1.0 ps"),
        ({"unit": [1e-12, 5e-12]}, "no number /photon_data/timestamps_specs/timestamps_unit"),
        ({"detectors": [0, 1, 2]}, "/photon_data/detectors has 3 entries, /photon_data/timestamps has 4"),
        ({"detectors": [0, 1, 2, 70_000]}, "channel 70000, accepted is from -32768 to 32767"),
        ({"photon_data0__timestamps": [1]}, "holds several spots"),
        ({"photon_data__nanotimes": [1, 2, 3, 4]}, "no number /photon_data/nanotimes_specs/tcspc_unit"),
        (
            {"user__qtwin__start": 5, "user__qtwin__stop": 4, "user__qtwin__resolution": 1.0},
            "start and stop are 5 and 4, accepted are whole ps",
        ),
    ],
)
def test_bad_files(tmp_path, fields, words):
    path = made(tmp_path / "bad.h5", **fields)
    with pytest.raises(UserError, match=words) as raised:
        joined(read_time_tags(path))
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_a_file_that_claims_more_than_it_holds(tmp_path):
    path = tmp_path / "lies.h5"
    with h5py.File(made(path, timestamps=None), "a") as file:
        file.create_dataset("photon_data/timestamps", (2**40,), np.int64, chunks=(1024,))
    with pytest.raises(UserError, match="claims 1099511627776 numbers, the file holds 0 bytes"):
        read_time_tags(path)
    with h5py.File(made(path, timestamps=None), "a") as file:
        file.create_dataset("photon_data/timestamps", (4,), np.int64, chunks=(4,), maxshape=(None,), data=range(4))
        file.create_virtual_dataset("other", h5py.VirtualLayout((4,), np.int64))
        file["photon_data/detectors"][:] = 0
    assert joined(read_time_tags(path)) == ([0, 1, 2, 3], [0, 0, 0, 0])


def test_cut_short_and_damaged(tmp_path):
    path = write_time_tags(tmp_path / "x.h5", [TimeTags(np.arange(9000) * 77, np.zeros(9000, np.int16), 0, 10**6)])
    data = path.read_bytes()
    path.write_bytes(data[:-2000])
    with pytest.raises(UserError, match="not a Photon-HDF5 file that can be read"):
        read_time_tags(path)
    start = data.index(b"\x78\x01", 1000)  # of the first deflated block
    path.write_bytes(data[: start + 40] + b"\0\0\0\0" + data[start + 44 :])
    with pytest.raises(UserError, match="not a Photon-HDF5 file that can be read"):
        joined(read_time_tags(path))
