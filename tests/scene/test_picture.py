"""Pictures of every kind come out with the right values, upright, at the right size; bad ones in one line."""

import struct
import warnings
import zlib
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image

from qtwin.core.errors import FieldError
from qtwin.scene import Picture
from qtwin.scene.picture import read_picture

DRAW = np.random.default_rng(5)
SHAPE = (5, 7)  # asymmetric, and smaller than anything that could hide a transpose
WEIGHTS = np.array([0.299, 0.587, 0.114])


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(path: Path, samples, depth: int, colours: int, extra: bytes = b"", size=None) -> Path:
    """A PNG written by hand: the bits of the file are those of ``samples``, nothing is converted."""
    height, width = size or samples.shape[:2]
    rows = b""
    for row in samples.reshape(samples.shape[0], -1):
        if depth == 16:
            packed = row.astype(">u2").tobytes()
        else:
            bits = (row[:, None].astype(int) >> np.arange(depth - 1, -1, -1)) & 1
            packed = np.packbits(bits.astype(np.uint8).reshape(-1)).tobytes()
        rows += b"\0" + packed
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def whole(depth: int, *channels: int):
    """Samples with black and white among them."""
    samples = DRAW.integers(0, 2**depth, (*SHAPE, *channels)).astype(np.uint8 if depth <= 8 else np.uint16)
    samples[0, 0], samples[0, 1] = 0, 2**depth - 1
    return samples


@partial(jax.jit, static_argnums=(1, 2))
def mapped(scene, pixels, fine, pitch):
    return scene.grid(pixels, fine, pitch)


def on_white(colour, alpha):
    return colour * alpha + 1 - alpha


# --- values -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_png_grey_of_every_depth(tmp_path, depth):
    samples = whole(depth)
    light = read_picture(str(png(tmp_path / "a.png", samples, depth, 0)))
    np.testing.assert_allclose(light, samples / (2**depth - 1), atol=1e-12)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize(("colours", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_png_colour_and_alpha_of_both_depths(tmp_path, depth, colours, channels):
    samples = whole(depth, channels)
    unit = samples / (2**depth - 1)
    grey = unit[..., :3] @ WEIGHTS if channels > 2 else unit[..., 0]
    expected = on_white(grey, unit[..., -1]) if channels in (2, 4) else grey
    light = read_picture(str(png(tmp_path / "a.png", samples, depth, colours)))
    np.testing.assert_allclose(light, expected, atol=1e-12)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_png_transparent_grey_is_white(tmp_path, depth):
    samples, key = whole(depth), 0 if depth == 1 else 1
    samples[2, 3] = key
    path = png(tmp_path / "a.png", samples, depth, 0, chunk(b"tRNS", struct.pack(">H", key)))
    expected = np.where(samples == key, 1, samples / (2**depth - 1))
    np.testing.assert_allclose(read_picture(str(path)), expected, atol=1e-12)


@pytest.mark.parametrize("depth", [8, 16])
def test_png_transparent_colour_is_white(tmp_path, depth):
    samples = whole(depth, 3)
    samples[2, 3] = (1, 2, 3)
    path = png(tmp_path / "a.png", samples, depth, 2, chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3)))
    light = read_picture(str(path))
    expected = samples / (2**depth - 1) @ WEIGHTS
    expected[2, 3] = 1
    np.testing.assert_allclose(light, expected, atol=1e-12)


def test_png_palette_with_alpha(tmp_path):
    samples = DRAW.integers(0, 3, SHAPE)
    palette, alpha = np.array([[255, 0, 0], [0, 255, 0], [10, 20, 30]]), np.array([255, 102, 0])
    extra = chunk(b"PLTE", palette.astype(np.uint8).tobytes()) + chunk(b"tRNS", alpha.astype(np.uint8).tobytes())
    light = read_picture(str(png(tmp_path / "a.png", samples, 8, 3, extra)))
    np.testing.assert_allclose(light, on_white(palette / 255 @ WEIGHTS, alpha / 255)[samples], atol=1e-12)


@pytest.mark.parametrize("kind", ["bool", "u1", "i1", ">u2", "<i2", "u4", "i8", "u8", "f2", "f4", ">f8"])
def test_npy_of_every_type(tmp_path, kind):
    dtype = np.dtype(kind)
    unit = DRAW.integers(0, 3, SHAPE) / 2
    unit[0, 0], unit[0, 1] = 0, 1
    if dtype.kind in "ui":
        info = np.iinfo(dtype)
        steps = np.array([info.min, info.max // 2 + info.min // 2 + 1, info.max], dtype)
        samples = steps[(2 * unit).astype(int)]
    else:
        samples = unit > 0.6 if dtype.kind == "b" else unit
        unit = samples.astype(float)
    np.save(tmp_path / "a.npy", samples.astype(dtype))
    tolerance = 1 / 250 if dtype.itemsize == 1 else 1e-4  # the middle is not a whole number
    light = read_picture(str(tmp_path / "a.npy"))
    np.testing.assert_allclose(light, unit, atol=tolerance)
    assert light.min() == 0 and light.max() == 1


@pytest.mark.parametrize("channels", [3, 4])
def test_npy_colour_in_either_order_of_memory(tmp_path, channels):
    samples = DRAW.random((*SHAPE, channels))
    np.save(tmp_path / "a.npy", np.asfortranarray(samples))
    grey = samples[..., :3] @ WEIGHTS
    expected = on_white(grey, samples[..., 3]) if channels == 4 else grey
    np.testing.assert_allclose(read_picture(str(tmp_path / "a.npy")), expected, atol=1e-12)


@pytest.mark.parametrize("form", ["bool", "u1", "u2", "u4", "i2", "f4", "rgb8", "rgb16", "planes", "zlib"])
def test_tiff_of_every_type(tmp_path, form):
    options, path = {}, tmp_path / "a.tif"
    if form == "bool":
        samples = whole(1).astype(bool)
        expected = samples.astype(float)
    elif form == "f4":
        samples = DRAW.random(SHAPE).astype(np.float32)
        expected = samples.astype(float)
    elif form in ("rgb8", "rgb16", "planes"):
        depth = 8 if form == "rgb8" else 16
        samples, options = whole(depth, 3), {"photometric": "rgb"}
        expected = samples / (2**depth - 1) @ WEIGHTS
        if form == "planes":
            samples, options = np.moveaxis(samples, -1, 0), {"photometric": "rgb", "planarconfig": "separate"}
    else:
        samples = whole(16).astype({"u1": "u1", "u4": "u4", "i2": "i2"}.get(form, "u2"))
        info = np.iinfo(samples.dtype)
        expected = (samples.astype(float) - info.min) / (info.max - float(info.min))
        options = {"compression": "zlib", "predictor": True} if form == "zlib" else {}
    tifffile.imwrite(path, samples, **({"photometric": "minisblack"} | options))
    np.testing.assert_allclose(read_picture(str(path)), expected, atol=1e-12)


@pytest.mark.parametrize("associated", [False, True])
def test_tiff_alpha(tmp_path, associated):
    unit = DRAW.integers(0, 256, (*SHAPE, 4)) / 255
    alpha = unit[..., 3]
    stored = unit.copy()
    if associated:
        stored[..., :3] = np.round(255 * unit[..., :3] * alpha[..., None]) / 255
        expected = stored[..., :3] @ WEIGHTS + 1 - alpha
    else:
        expected = on_white(unit[..., :3] @ WEIGHTS, alpha)
    extra = ["assocalpha" if associated else "unassalpha"]
    samples = np.round(255 * stored).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", extrasamples=extra)
    np.testing.assert_allclose(read_picture(str(tmp_path / "a.tif")), expected, atol=1e-12)


def test_tiff_white_is_zero(tmp_path):
    samples = whole(8)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="miniswhite")
    np.testing.assert_allclose(read_picture(str(tmp_path / "a.tif")), 1 - samples / 255, atol=1e-12)


def test_tiff_palette(tmp_path):
    colours = DRAW.integers(0, 65536, (3, 256)).astype(np.uint16)
    samples = whole(8)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="palette", colormap=colours)
    expected = (colours.T[samples] / 65535) @ WEIGHTS
    np.testing.assert_allclose(read_picture(str(tmp_path / "a.tif")), expected, atol=1e-12)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "I;16"])
def test_tiff_with_lzw(tmp_path, mode):
    samples = {"1": whole(1).astype(bool), "L": whole(8), "RGB": whole(8, 3), "I;16": whole(16)}[mode]
    Image.fromarray(samples).save(tmp_path / "a.tif", compression="tiff_lzw")
    unit = samples / {"1": 1, "I;16": 65535}.get(mode, 255)
    expected = unit @ WEIGHTS if mode == "RGB" else unit
    np.testing.assert_allclose(read_picture(str(tmp_path / "a.tif")), expected, atol=1e-12)


def test_jpeg_is_read_within_its_losses(tmp_path):
    ramp = np.linspace(0, 255, 32).astype(np.uint8)
    samples = np.broadcast_to(ramp[None, :, None], (16, 32, 3)).copy()
    for image in (Image.fromarray(samples), Image.fromarray(samples[..., 0].copy())):
        image.save(tmp_path / "a.jpg", quality=98)
        light = read_picture(str(tmp_path / "a.jpg"))
        np.testing.assert_allclose(light, samples[..., 0] / 255, atol=0.02)


# --- orientation and size ---------------------------------------------------------------------------------


@pytest.mark.parametrize("code", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "deep.png", "a.tif", "lzw.tif", "a.jpg"])
def test_orientation_tags_are_obeyed(tmp_path, name, code):
    """The file holds the corner picture turned; Pillow's own transposition says how."""
    turned = np.zeros((16, 24), np.uint8)
    turned[:8, :8], turned[8:, 8:16] = 255, 128
    exif, path = Image.Exif(), tmp_path / name
    exif[0x0112] = code
    if name == "a.tif":
        tifffile.imwrite(path, turned, photometric="minisblack", extratags=[(274, "H", 1, code, True)])
    elif name == "lzw.tif":
        Image.fromarray(turned).save(path, compression="tiff_lzw", tiffinfo={274: code})
    elif name == "deep.png":
        deep = np.repeat(turned[..., None].astype(np.uint16) * 257, 3, axis=2)
        png(path, deep, 16, 2, chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    else:
        Image.fromarray(turned).save(path, exif=exif, **({"quality": 98} if name == "a.jpg" else {}))
    light = read_picture(str(path))
    turns = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: np.transpose}
    turns |= {6: lambda a: np.rot90(a, 3), 7: lambda a: np.rot90(a, 2).T, 8: np.rot90}
    np.testing.assert_allclose(light, turns[code](turned) / 255, atol=0.02)


def saved(tmp_path, samples) -> str:
    np.save(tmp_path / "picture.npy", samples)
    return str(tmp_path / "picture.npy")


def test_picture_fills_the_field_upright(tmp_path):
    """Longer side 4 pixels on 8 cells; two rows of picture in the middle, clear above and below."""
    samples = np.array([[0.0, 0.25, 0.5, 1.0], [1.0, 1.0, 0.0, 0.75]])
    scene = Picture(saved(tmp_path, samples), 0.2, 0.8)
    values = mapped(scene, 4, 2, 1e-4).values
    inner = np.repeat(np.repeat(0.2 + 0.6 * samples, 2, axis=0), 2, axis=1)
    np.testing.assert_allclose(values, np.pad(inner, ((2, 2), (0, 0)), constant_values=1), atol=1e-6)
    assert scene.pixel is None and "picture.npy (4 x 2 pixels)" in str(scene)


def test_pixel_size_is_kept(tmp_path):
    """3 x 5 pixels of 1.5 cells, on 10 cells: transmitted part by exact overlap with each cell."""
    samples = DRAW.random((3, 5))
    scene = Picture(saved(tmp_path, samples), 0.1, 0.9, "15 um")
    values, cell = mapped(scene, 5, 2, 2e-5)
    assert float(cell) == pytest.approx(1e-5)
    fine = np.ones((40, 40))  # quarter cells: pixel edges fall on them
    fine[11:29, 5:35] = np.repeat(np.repeat(0.1 + 0.8 * samples, 6, axis=0), 6, axis=1)
    np.testing.assert_allclose(values, fine.reshape(10, 4, 10, 4).mean(axis=(1, 3)), atol=1e-6)


def test_of_a_larger_picture_the_centre_is_used(tmp_path):
    samples = DRAW.random((8, 10))
    values = mapped(Picture(saved(tmp_path, samples), 0.0, 1.0, 1e-5), 4, 1, 1e-5).values
    np.testing.assert_allclose(values, samples[2:6, 3:7], atol=1e-5)


def test_values_stay_within_0_and_1(tmp_path):
    samples = DRAW.integers(0, 2, (5, 7)).astype(float)
    for low, high in ((0.0, 1.0), (1.0, 0.0), (0.0, 0.0), (1.0, 1.0)):
        values = mapped(Picture(saved(tmp_path, samples), low, high, 1.3e-5), 4, 2, 2e-5).values
        assert values.min() >= 0 and values.max() <= 1


@pytest.mark.parametrize("field", ["low", "high", "pixel"])
def test_gradient_is_the_finite_difference(tmp_path, field):
    given = {"file": saved(tmp_path, DRAW.random((5, 4))), "low": 0.3, "high": 0.7, "pixel": 1.37e-5}
    weight = jnp.asarray(DRAW.random((12, 12)))

    def total(v):
        return jnp.sum(weight * Picture(**{**given, field: v}).grid(6, 2, 2e-5).values)

    total = jax.jit(total)
    step = given[field] * 1e-6
    difference = (total(given[field] + step) - total(given[field] - step)) / (2 * step)
    assert jax.jit(jax.grad(total))(jnp.asarray(given[field])) == pytest.approx(float(difference), rel=1e-5)


def test_gradient_at_the_edge_of_the_range(tmp_path):
    """T = high for white: dT/dhigh is 1 although T stands at its limit."""
    file = saved(tmp_path, np.ones((4, 4)))
    slope = jax.jit(jax.grad(lambda high: Picture(file, 0.0, high).grid(4, 1, 1e-5).values.mean()))(1.0)
    assert slope == pytest.approx(1)


def test_jit_agrees_and_the_file_is_read_once(tmp_path):
    samples = DRAW.random((4, 6))
    scene = Picture(saved(tmp_path, samples), 0.0, 1.0, 1e-5)
    Path(scene.file.name).unlink()
    values = scene.grid(6, 2, 2e-5).values
    traced = jax.jit(lambda s, pitch: s.grid(6, 2, pitch).values)(scene, jnp.asarray(2e-5))
    np.testing.assert_allclose(traced, values, atol=1e-6)
    np.testing.assert_allclose(scene.file.values, samples, atol=1e-6)
    assert scene.file.values.dtype == jnp.result_type(float)


def test_relative_to_the_current_folder(tmp_path, monkeypatch):
    saved(tmp_path, np.zeros((2, 2)))
    monkeypatch.chdir(tmp_path)
    assert mapped(Picture("picture.npy", 0.25, 1.0), 2, 1, 1.0).values.max() == 0.25


def test_the_bytes_decide_not_the_name(tmp_path):
    path = png(tmp_path / "a.png", whole(8), 8, 0)
    assert read_picture(str(path.rename(tmp_path / "a.tif"))).shape == SHAPE


def test_yaml_asks_for_a_file_and_names_its_sources(tmp_path):
    node = yaml.safe_load((Path(__file__).parents[2] / "conf" / "scene" / "picture.yaml").read_text())
    assert node.pop("_target_") == "qtwin.scene.Picture" and node["file"] == "???"
    assert set(node.pop("reference")) == set(node) - {"file"}
    scene = Picture(**{**node, "file": saved(tmp_path, np.zeros((2, 2)))})
    assert mapped(scene, 2, 1, 1.0).values.max() == 0.5


# --- bad input --------------------------------------------------------------------------------------------


def bad_npy(samples, **options):
    return lambda path: np.save(path, samples, **options)


def header_only(shape: str):
    def write(path):
        text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode())

    return write


def cut(path):
    path.write_bytes(png(path, whole(8), 8, 0).read_bytes()[:60])


def cut_tiff(path):
    tifffile.imwrite(path, np.zeros((64, 64), np.uint16), photometric="minisblack")
    path.write_bytes(path.read_bytes()[:-100])


def bad_tag(path):
    """The tag of the width is given a type that does not exist."""
    tifffile.imwrite(path, np.zeros((4, 5), np.uint8), photometric="minisblack")
    with tifffile.TiffFile(path) as file:
        at = file.pages.first.tags[256].offset
    data = bytearray(path.read_bytes())
    data[at + 2 : at + 4] = b"\xff\xff"
    path.write_bytes(bytes(data))


def tiff(samples, **options):
    return lambda path: tifffile.imwrite(path, samples, **options)


def jpeg(size):
    def write(path):
        Image.new("L", (8, 8)).save(path)
        data = bytearray(path.read_bytes())
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", *size)
        path.write_bytes(bytes(data))

    return write


BAD = {
    "folder.png": (lambda path: path.mkdir(), "is a folder"),
    "empty.png": (lambda path: path.write_bytes(b""), "is empty"),
    "text.png": (lambda path: path.write_text("not a picture\nat all"), "none of the known formats"),
    "animation.gif": (lambda path: Image.new("L", (2, 2)).save(path), "none of the known formats"),
    "cut.png": (cut, "cannot be read"),
    "short.png": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), "cannot be read"),
    "cut.tif": (cut_tiff, "is cut short"),
    "tag.tif": (bad_tag, "cannot be read"),
    "head.tif": (lambda path: path.write_bytes(b"II*\0\x08\0\0\0"), "cannot be read"),
    "head.jpg": (lambda path: path.write_bytes(b"\xff\xd8\xff\xe0"), "cannot be read"),
    "cmyk.jpg": (lambda path: Image.new("CMYK", (4, 4)).save(path), "has the colours CMYK"),
    "objects.npy": (bad_npy(np.array([[1, None]], dtype=object), allow_pickle=True), "values of type object"),
    "text.npy": (bad_npy(np.array([["a", "b"]])), "values of type <U1"),
    "complex.npy": (bad_npy(np.zeros((2, 2), complex)), "values of type complex128"),
    "times.npy": (bad_npy(np.zeros((2, 2), "M8[s]")), "values of type datetime64"),
    "record.npy": (bad_npy(np.zeros((2, 2), [("a", "f8")])), "values of type"),
    "nan.npy": (bad_npy(np.array([[0.5, np.nan]])), "NaN or infinite"),
    "inf.npy": (bad_npy(np.array([[0.5, np.inf]])), "NaN or infinite"),
    "range.npy": (bad_npy(np.array([[0.0, 255.0]])), "floats from 0 to 255, not within 0 to 1"),
    "negative.npy": (bad_npy(np.array([[-0.5, 0.0]])), "floats from -0.5 to 0"),
    "line.npy": (bad_npy(np.zeros(4)), r"has shape \(4,\)"),
    "cube.npy": (bad_npy(np.zeros((4, 4, 5))), r"has shape \(4, 4, 5\)"),
    "stack.npy": (bad_npy(np.zeros((2, 4, 4, 3))), r"has shape \(2, 4, 4, 3\)"),
    "none.npy": (bad_npy(np.zeros((0, 4))), "has 0 x 4 pixels"),
    "cut.npy": (header_only("(4, 4)"), "cannot be read"),
    "huge.npy": (header_only("(20000, 20000)"), "has 20000 x 20000 pixels, more than 100000000"),
    "none.png": (lambda path: png(path, whole(8), 8, 0, size=(0, 5)), "has 0 x 5 pixels"),
    "huge.png": (lambda path: png(path, whole(8), 8, 0, size=(9999, 20000)), "has 9999 x 20000 pixels, more"),
    "large.png": (lambda path: png(path, whole(8), 8, 0, size=(9500, 10000)), "cannot be read"),  # Pillow warns
    "huge.jpg": (jpeg((60000, 60000)), "more than 100000000"),
    "large.jpg": (jpeg((10001, 10000)), "has 10001 x 10000 pixels, more"),
    "pages.tif": (tiff(np.zeros((3, 5, 4), np.uint8), photometric="minisblack"), "holds 3 pictures"),
    "hyper.tif": (tiff(np.zeros((3, 5, 9), np.uint8), imagej=True), "holds 3 pictures"),
    "nan.tif": (tiff(np.full((3, 4), np.nan, np.float32)), "NaN or infinite"),
    "range.tif": (tiff(np.full((3, 4), 2, np.float32)), "floats from 2 to 2"),
    "volume.tif": (tiff(np.zeros((16, 16, 16), np.uint8), volumetric=True, tile=(16, 16, 16)), "holds|has the axes"),
    "extra.tif": (
        tiff(np.zeros((4, 4, 4), np.uint8), photometric="rgb", extrasamples=["unspecified"]),
        "extra samples",
    ),
    "complex.tif": (tiff(np.zeros((4, 4), np.complex64)), "values of type complex64"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_one_line(tmp_path, name, capfd, caplog):
    write, words = BAD[name]
    path = tmp_path / name
    write(path)
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FieldError, match=words) as caught:
            Picture(str(path), 0.0, 1.0)
    text = str(caught.value)
    assert text.startswith("file: ") and name in text and "accepted is" in text and "\n" not in text
    assert capfd.readouterr().err == "" and not caplog.records


def test_missing_file():
    with pytest.raises(FieldError, match=r"^file: 'nowhere/a.png' is not there; accepted is"):
        Picture("nowhere/a.png", 0.0, 1.0)


@pytest.mark.parametrize("file", [None, "", 3, "a" * 5000, "a\0b"])
def test_bad_names(file):
    with pytest.raises(FieldError, match=r"^file: .*accepted is"):
        Picture(file, 0.0, 1.0)


@pytest.mark.parametrize(("field", "value"), [("pixel", 0.0), ("pixel", "3 s"), ("low", 1.5), ("high", -0.1)])
def test_bad_numbers(tmp_path, field, value):
    with pytest.raises(FieldError, match=rf"^{field}: "):
        Picture(**{"file": saved(tmp_path, np.zeros((2, 2))), "low": 0.0, "high": 1.0, field: value})
