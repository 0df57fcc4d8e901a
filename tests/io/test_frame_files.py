"""Stacks of frames: round trips with their sampling, foreign files, what is refused, memory."""

import resource
import tracemalloc

import h5py
import numpy as np
import pytest
import tifffile

from qtwin.core.errors import UserError
from qtwin.core.records import Frames
from qtwin.io.frame_files import read_frames, write_frames

WRITTEN = (".tif", ".tiff", ".h5", ".hdf5", ".npy")
KINDS = (bool, np.uint8, np.uint16, np.int16, np.int32, np.uint32, np.int64, np.float32, np.float64)


def stack(kind, shape=(7, 3, 5), seed=7) -> np.ndarray:
    """Frames without any symmetry."""
    rng = np.random.default_rng(seed)
    if np.dtype(kind).kind == "f":
        return rng.normal(size=shape).astype(kind)
    return rng.random(shape) < 0.4 if kind is bool else rng.integers(0, np.iinfo(kind).max, shape, kind, endpoint=True)


def joined(file) -> np.ndarray:
    return np.concatenate([frames.counts for frames in file])


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(tmp_path, suffix, kind):
    counts = stack(kind)
    pieces = (Frames(counts[a:b], 1.5e-3, 0.1, 1.6e-5) for a, b in ((0, 1), (1, 1), (1, 5), (5, 7)))
    file = read_frames(write_frames(tmp_path / f"a{suffix}", pieces), memory_limit=4 * 2 * 15 * counts.itemsize)
    for _ in range(2):
        parts = list(file)
        assert [len(part) for part in parts] == [2, 2, 2, 1] and len(file) == 7
        assert (joined(parts) == counts).all() and joined(parts).dtype == counts.dtype == file.dtype
    said = [1.5e-3, 0.1, 1.6e-5] if suffix != ".npy" else [np.nan] * 3
    assert np.array_equal([file.exposure, file.period, file.pitch], said, equal_nan=True)
    assert np.array_equal([parts[0].exposure, parts[0].period, parts[0].pitch], said, equal_nan=True)
    assert file.shape == counts.shape and list(tmp_path.iterdir()) == [file.path]


@pytest.mark.parametrize("suffix", [".tif", ".h5", ".npy"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 4, 2), (2, 1, 9)])
def test_small_stacks_and_no_sampling(tmp_path, suffix, shape):
    counts = stack(np.uint16, shape)
    file = read_frames(write_frames(tmp_path / f"a{suffix}", [Frames(counts)]))
    assert (joined(file) == counts).all() and np.isnan([file.exposure, file.period, file.pitch]).all()


def test_other_programs_see_the_frames(tmp_path):
    counts = stack(np.uint16)
    assert (tifffile.imread(write_frames(tmp_path / "a.tif", [Frames(counts, 1e-3)])) == counts).all()
    assert (np.load(write_frames(tmp_path / "a.npy", [Frames(counts[:3]), Frames(counts[3:])])) == counts).all()
    with h5py.File(write_frames(tmp_path / "a.h5", [Frames(counts, 1e-3)])) as file:
        assert (file["frames"][:] == counts).all() and file["frames"].attrs["exposure"] == 1e-3


@pytest.mark.parametrize("order", ["<", ">"])
def test_foreign_tiff(tmp_path, order):
    """Deflated pages, tiles, one image alone, either byte order."""
    counts, path = stack(np.uint16, (5, 32, 48)), tmp_path / "a.tif"
    for settings in (
        {"compression": "zlib"},
        {"tile": (16, 16)},
        {"metadata": None},
        {"bigtiff": True},
        {"imagej": True},
    ):
        tifffile.imwrite(path, counts, byteorder=order, photometric="minisblack", **settings)
        file = read_frames(path, memory_limit=4 * 3 * counts[0].nbytes)
        assert [len(part) for part in file] == [3, 2] and (joined(file) == counts).all()
    tifffile.imwrite(path, counts[0], byteorder=order, photometric="minisblack")
    assert (joined(read_frames(path)) == counts[:1]).all()


def test_foreign_hdf5_and_npy(tmp_path):
    counts = stack(np.int32)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"], file["axis"], file["flat"] = counts, np.arange(3), counts[0]
    assert (joined(read_frames(tmp_path / "a.h5")) == counts).all()
    np.save(tmp_path / "a.npy", np.asfortranarray(counts.astype(">i4")))
    assert (joined(read_frames(tmp_path / "a.npy")) == counts).all()


def bad(folder, what):
    """A file that is no stack of frames."""
    counts, tif, hdf5, npy = stack(np.uint16), folder / "a.tif", folder / "a.h5", folder / "a.npy"
    match what:
        case "missing":
            return folder / "none.tif"
        case "folder":
            return folder
        case "colours":
            tifffile.imwrite(tif, np.zeros((8, 8, 3), np.uint8), photometric="rgb")
        case "two series":
            with tifffile.TiffWriter(tif) as file:
                file.write(np.zeros((4, 4), np.uint8))
                file.write(np.zeros((5, 4), np.uint16))
        case "cut tiff":
            write_frames(tif, [Frames(counts)])
            tif.write_bytes(tif.read_bytes()[:-300])
        case "endless tiff":
            tifffile.imwrite(tif, counts, compression="zlib", photometric="minisblack", metadata=None)
            with tifffile.TiffFile(tif) as file:
                first, second = file.pages[0].offset, file.pages[1].offset
            data = bytearray(tif.read_bytes())
            at = second + 2 + 12 * data[second]  # where the second page tells the place of the third
            data[at : at + 4] = first.to_bytes(4, "little")
            tif.write_bytes(data)
        case "complex":
            np.save(npy, counts.astype(complex))
            return npy
        case "four axes":
            np.save(npy, counts[None])
            return npy
        case "cut npy":
            np.save(npy, counts)
            npy.write_bytes(npy.read_bytes()[:-3])
            return npy
        case "more npy":
            np.save(npy, counts)
            npy.write_bytes(npy.read_bytes() + b"\0\0")
            return npy
        case "nan":
            values = stack(np.float32)
            values[4, 1, 2] = np.nan
            np.save(npy, values)
            return npy
        case "pickle":
            np.save(npy, np.array([[[None]]]), allow_pickle=True)
            return npy
        case "several stacks":
            with h5py.File(hdf5, "w") as file:
                file["a"], file["b"] = counts, counts
            return hdf5
        case "lies":
            with h5py.File(hdf5, "w") as file:
                file.create_dataset("frames", (2**30, 64, 64), np.uint8, chunks=(1, 64, 64))
            return hdf5
        case "negative exposure":
            with h5py.File(hdf5, "w") as file:
                file["frames"] = counts
                file["frames"].attrs["exposure"] = -1.0
            return hdf5
        case "text":
            tif.write_text("no image")
    return tif


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("missing", "no such file, accepted is a stack of frames: TIFF"),
        ("folder", "a folder, accepted is a file"),
        ("colours", "holds the image series YXS \\(8, 8, 3\\), accepted is one stack of equal frames without colours"),
        ("two series", "holds the image series .*, accepted is one stack"),
        ("cut tiff", "not a TIFF stack that can be read \\(<tifffile"),
        ("endless tiff", "invalid circular reference"),
        ("complex", "holds complex128 of shape \\(7, 3, 5\\), accepted are numbers"),
        ("four axes", "of shape \\(1, 7, 3, 5\\), accepted are numbers \\[frames, rows, columns\\]"),
        ("cut npy", "not an NPY stack that can be read|bytes of frames, the header says"),
        ("more npy", "212 bytes of frames, the header says 210"),
        ("nan", "frame 4 holds a value that is not finite"),
        ("pickle", "not an NPY stack that can be read"),
        ("several stacks", "three-dimensional data sets are \\['a', 'b'\\], accepted is one"),
        ("lies", "claims frames of shape \\(1073741824, 64, 64\\), the file holds 0 bytes"),
        ("negative exposure", "exposure is '-1.0', accepted is a number above 0, or none"),
        ("text", "starts with b'no image', accepted is a stack"),
    ],
)
def test_bad_files(tmp_path, what, words):
    path = bad(tmp_path, what)
    with pytest.raises(UserError, match=words) as raised:
        list(read_frames(path, memory_limit=500))
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


COUNTS = stack(np.uint16)


@pytest.mark.parametrize("suffix", [".tif", ".h5", ".npy"])
@pytest.mark.parametrize(
    ("record", "words"),
    [
        ([], "got no frames"),
        ([Frames(COUNTS), Frames(COUNTS[:, :2])], "frames from 7 on are \\(\\(2, 5\\)"),
        ([Frames(COUNTS), Frames(COUNTS.astype(np.int32))], "frames from 7 on are .*int32"),
        ([Frames(COUNTS, 1e-3), Frames(COUNTS, 2e-3)], "frames from 7 on are .*0.002"),
        ([Frames(np.full((2, 2, 2), np.inf))], "frame 0 holds a value that is not finite"),
    ],
)
def test_records_that_a_file_cannot_hold(tmp_path, suffix, record, words):
    with pytest.raises(UserError, match=f"record: .*{words}"):
        write_frames(tmp_path / f"a{suffix}", record)
    assert list(tmp_path.iterdir()) == []


def test_names_and_settings(tmp_path):
    with pytest.raises(UserError, match=r"ends with '.png', accepted is a stack of frames"):
        write_frames(tmp_path / "a.png", [Frames(COUNTS)])
    with pytest.raises(UserError, match="memory_limit: got 100 bytes, frames of this file want 120 or more"):
        read_frames(write_frames(tmp_path / "a.npy", [Frames(COUNTS)]), memory_limit=100)


@pytest.mark.parametrize("suffix", [".tif", ".h5", ".npy"])
def test_long_stacks_stream_and_full_disks_are_errors(tmp_path, suffix):
    """2 MB of frames through 1 MB of memory; the limit on the size of files stands for the full disk."""
    pieces = [stack(np.uint8, (100, 64, 64), seed=i) for i in range(5)]
    path = write_frames(tmp_path / f"a{suffix}", map(Frames, pieces))
    file = read_frames(path, memory_limit=1 << 18)
    tracemalloc.start()
    total = sum(int(frames.counts.sum()) for frames in file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == sum(int(piece.sum()) for piece in pieces) and peak < 1 << 20
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, limits[1]))
    try:
        with pytest.raises(OSError):
            write_frames(tmp_path / f"b{suffix}", map(Frames, pieces))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == [path]
