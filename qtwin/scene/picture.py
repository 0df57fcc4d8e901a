"""A scene from a picture file: PNG, JPEG, TIFF or NPY, of any bit depth.

Samples are taken as they stand in the file: no gamma is undone and no colour profile is applied.
Orientation tags are obeyed. Pillow and tifffile are imported when such a file is read.
"""

import logging
import struct
import warnings
from contextlib import contextmanager
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import FieldError
from qtwin.core.params import fraction, param, positive
from qtwin.scene.abstract import AbstractScene
from qtwin.scene.grid import Grid
from qtwin.scene.targets import cell_side, overlap

ACCEPTED = "accepted is one PNG, JPEG, TIFF or NPY picture, grey or RGB, with or without alpha"
MOST = 100_000_000  # pixels
LUMINANCE = (0.299, 0.587, 0.114)  # of R, G, B: ITU-R BT.601


class _Unfit(Exception):
    """What was found in the file."""


def read_picture(file: str) -> np.ndarray:
    """Lightness of a picture file: 0 for black, 1 for white of the file's range, float64 [rows, columns].

    Integers: the full range of their type (of the bits of a sample in PNG and TIFF); floats must lie within
    0 to 1. Colour: ITU-R BT.601 luminance of the samples. Alpha is composited on white.
    Raises FieldError of ``file``, one line: what was found and what is accepted.
    """
    path = Path(file)
    try:
        if not path.exists():
            raise _Unfit("is not there")
        if not path.is_file():
            raise _Unfit("is a folder" if path.is_dir() else "is not a regular file")
        with path.open("rb") as stream:
            head = stream.read(26)
        if not head:
            raise _Unfit("is empty")
        reader = next((reader for start, reader in READERS.items() if head.startswith(start)), None)
        if reader is None:
            raise _Unfit("has none of the known formats")
        with warnings.catch_warnings():  # what Pillow warns of is either harmless here or refused below
            warnings.simplefilter("ignore")
            return reader(path)
    except _Unfit as found:
        raise FieldError("file", f"{file!r} {found}; {ACCEPTED}") from None
    except Exception as error:  # decoders raise nearly anything on a damaged file
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise FieldError("file", f"{file!r} cannot be read ({text}); {ACCEPTED}") from error


def _check_size(rows: int, columns: int):
    if rows < 1 or columns < 1:
        raise _Unfit(f"has {rows} x {columns} pixels")
    if rows * columns > MOST:
        raise _Unfit(f"has {rows} x {columns} pixels, more than {MOST} in all")


def _light(samples, black=None, white=None, premultiplied: bool = False) -> np.ndarray:
    """Lightness of samples [rows, columns] or [rows, columns, 1..4]; the even counts end in alpha."""
    kind = samples.dtype.kind
    if kind not in "buif":
        raise _Unfit(f"holds values of type {samples.dtype}, not numbers")
    if kind == "f":
        if not np.isfinite(samples).all():
            raise _Unfit("holds NaN or infinite values")
        if samples.min() < 0 or samples.max() > 1:
            raise _Unfit(f"holds floats from {float(samples.min()):g} to {float(samples.max()):g}, not within 0 to 1")
    if white is None:
        info = np.iinfo(samples.dtype) if kind in "ui" else None
        black, white = (info.min, info.max) if info else (0, 1)
    if samples.ndim == 2:
        samples = samples[..., None]
    channels = samples.shape[2]
    paper = 0.0
    if alpha := channels in (2, 4):
        opaque = samples[..., -1].astype(float) / max(black, white)
        paper = 1 - opaque
    total = np.zeros(samples.shape[:2])
    for i, weight in enumerate(LUMINANCE if channels > 2 else (1.0,)):
        value = (samples[..., i].astype(float) - float(black)) / (float(white) - float(black))
        total += weight * (value * opaque if alpha and not premultiplied else value)
    return np.clip(total + paper, 0, 1)


def _upright(samples, code: int):
    """Undo the orientation tag of EXIF and TIFF (1 to 8: where the first row and column are seen)."""
    turns = {
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a),
    }
    return turns[code](samples) if code in turns else samples


def _npy(path: Path) -> np.ndarray:
    with path.open("rb") as stream:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise _Unfit(f"is NPY of version {version[0]}, only 1 and 2 hold plain numbers")
    if dtype.kind not in "buif":
        raise _Unfit(f"holds values of type {dtype}, not numbers")
    if len(shape) != 2 and not (len(shape) == 3 and shape[2] in (3, 4)):
        raise _Unfit(f"has shape {shape}, not [rows, columns], [rows, columns, 3] or [rows, columns, 4]")
    _check_size(*shape[:2])
    return _light(np.load(path, allow_pickle=False))


@contextmanager
def _pillow(path: Path, form: str):
    """Picture opened by Pillow, not yet decoded."""
    from PIL import Image

    with path.open("rb") as stream:
        try:
            image = Image.open(stream, formats=[form])
        except Image.DecompressionBombError:
            raise _Unfit(f"has more than {MOST} pixels") from None
        _check_size(image.height, image.width)
        if (frames := getattr(image, "n_frames", 1)) != 1:
            raise _Unfit(f"holds {frames} pictures")
        yield image


def _jpeg(path: Path) -> np.ndarray:
    with _pillow(path, "JPEG") as image:
        if image.mode not in ("L", "RGB"):
            raise _Unfit(f"has the colours {image.mode}")
        return _upright(_light(np.asarray(image)), image.getexif().get(0x0112, 1))


def _png(path: Path) -> np.ndarray:
    with path.open("rb") as stream:
        width, height, depth, colours = struct.unpack(">IIBB", stream.read(26)[16:])
    _check_size(height, width)
    with _pillow(path, "PNG") as image:
        samples = np.asarray(image.convert("RGBA") if colours == 3 else image)
        key, turn = image.info.get("transparency"), image.getexif().get(0x0112, 1)
    white = {1: 1, 16: 65535}.get(depth, 255) if colours != 3 else 255  # Pillow widens 2 and 4 bits to 8
    if depth == 16 and colours != 0:
        samples = _png16(path, colours)
    if key is not None and colours in (0, 2):  # one value of the samples stands for transparent
        scale = 255 // (2**depth - 1) if depth in (2, 4) else 1
        key = np.asarray(bool(key) if depth == 1 else key) * scale
        samples = samples.reshape(height, width, -1)
        opaque = (samples != key).any(axis=2, keepdims=True) * white
        samples = np.concatenate([samples, opaque], axis=2).astype(np.int64)
    return _upright(_light(samples, 0, white), turn)


def _png16(path: Path, colours: int) -> np.ndarray:
    """16-bit samples with more than one channel. Pillow keeps 8 bits of each: decode high and low bytes apart."""

    def bytes_as(raw: str) -> np.ndarray:
        with _pillow(path, "PNG") as image:
            image.tile = [(*tile[:3], raw) for tile in image.tile]
            return np.asarray(image).astype(np.uint16)

    if colours == 4:  # grey and alpha: the four bytes of a pixel, read as four channels
        both = bytes_as("RGBA")
        return both[..., ::2] * np.uint16(256) + both[..., 1::2]
    form = "RGB" if colours == 2 else "RGBA"
    return bytes_as(f"{form};16B") * np.uint16(256) + bytes_as(f"{form};16L")


def _tiff(path: Path) -> np.ndarray:
    import tifffile

    problems: list[str] = []

    def collect(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:  # a tag that cannot be read: what it says would be lost
            problems.append(" ".join(record.getMessage().split()))
        return False

    logger = logging.getLogger("tifffile")
    logger.addFilter(collect)
    try:
        with tifffile.TiffFile(path) as tiff:
            light = _tiff_light(path, tiff)
    finally:
        logger.removeFilter(collect)
    if problems:
        raise _Unfit(f"cannot be read ({problems[0]})")
    return light


def _tiff_light(path: Path, tiff) -> np.ndarray:
    """Lightness of the one page of an open file."""
    page = tiff.pages.first
    if len(tiff.pages) != 1 or tiff.series[0].size != page.size:
        raise _Unfit(f"holds {max(len(tiff.pages), tiff.series[0].size // max(page.size, 1))} pictures")
    if page.axes not in ("YX", "YXS", "SYX"):
        raise _Unfit(f"has the axes {page.axes} of shape {page.shape}, not rows and columns")
    _check_size(page.imagelength, page.imagewidth)
    size = path.stat().st_size
    parts = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    if not parts or any(count < 1 or start + count > size for start, count in parts):
        raise _Unfit("is cut short")
    if page.compression == 7 or page.photometric == 6:
        return _tiff_pillow(path, page)
    bits, kind, extra = page.bitspersample, np.dtype(page.dtype).kind, tuple(page.extrasamples)
    alpha = ((), (1,), (2,)) if page.photometric in (1, 2) else ((),)  # associated or not
    if page.photometric not in (0, 1, 2, 3) or extra not in alpha:
        raise _Unfit(f"has photometric {page.photometric} with extra samples {extra}")
    if page.samplesperpixel != {2: 3}.get(page.photometric, 1) + len(extra):
        raise _Unfit(f"has {page.samplesperpixel} samples per pixel")
    try:
        samples = page.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        return _tiff_pillow(path, page)
    if page.axes == "SYX":
        samples = np.moveaxis(samples, 0, -1)
    black, white = (0, 2**bits - 1) if kind in "bu" else (None, None)
    if page.photometric == 3:
        if page.colormap is None:
            raise _Unfit("has no colour map")
        samples, black, white = np.moveaxis(page.colormap[:, samples], 0, -1), 0, 65535
    light = _light(samples, black, white, premultiplied=extra == (1,))
    if page.photometric == 0:  # white is zero
        light = 1 - light
    return _upright(light, int(page.tags.valueof(274, 1)))


def _tiff_pillow(path: Path, page) -> np.ndarray:
    """Compressions that tifffile leaves to a package which is not required here; up to 8 bits, or grey."""
    with _pillow(path, "TIFF") as image:
        image.load()  # turns the picture upright
        mode, samples = image.mode, np.asarray(image.convert("RGBA") if image.mode in ("P", "RGBa") else image)
    plain = mode in ("1", "L", "LA", "P", "RGB", "RGBA", "RGBa") and page.bitspersample in (1, 8)
    if not plain and not (mode in ("I;16", "I;16B", "F") and page.photometric == 1):
        raise _Unfit(f"has compression {page.compression} with {page.bitspersample} bits; save it uncompressed")
    return _light(samples)


READERS = {  # by the first bytes of a file
    b"\x89PNG\r\n\x1a\n": _png,
    b"\xff\xd8\xff": _jpeg,
    b"\x93NUMPY": _npy,
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _tiff),
}


class Decoded(eqx.Module):
    """A picture file and what it holds: lightness, 0 for black and 1 for white, [rows, columns]."""

    name: str = eqx.field(static=True)
    values: jax.Array

    def __str__(self):
        rows, columns = self.values.shape
        return f"{self.name} ({columns} x {rows} pixels)"


def _decode(file) -> Decoded:
    if isinstance(file, Decoded):
        return file
    if not isinstance(file, str) or not file:
        raise FieldError("file", f"got {file!r}, {ACCEPTED}")
    return Decoded(file, jnp.asarray(read_picture(file), jnp.result_type(float)))


class Picture(AbstractScene):
    """T = low + (high - low) * v, v: lightness of a picture, 0 for black and 1 for white (``read_picture``).

    The picture is centred on the axis, its first row on top (smallest y). A cell takes the mean of what
    lies on it, weighted by area. ``pixel``: side of a picture pixel at the sample; without it the longer
    side of the picture fills the field. What a picture leaves free is clear (transmits 1); of a picture
    larger than the field the centre is used. ``file`` is a path, relative to the current folder; it is read
    once, at construction, and the field keeps v. Raises FieldError for a file that is no such picture.
    """

    file: Decoded = eqx.field(converter=_decode, metadata={"doc": "picture file: PNG, JPEG, TIFF or NPY"})
    low: jax.Array = param("", fraction, "transmission of black")
    high: jax.Array = param("", fraction, "transmission of white")
    pixel: jax.Array | None = param(
        "m",
        positive,
        "side of a picture pixel at the sample (absent: the longer side of the picture fills the field)",
        None,
    )

    def grid(self, pixels: int, fine: int, pitch) -> Grid:
        """Transmission on (pixels * fine)^2 cells of side pitch/fine (pitch in m)."""
        cell, cells = cell_side(fine, pitch), pixels * fine
        values = self.file.values
        side = cells / max(values.shape) if self.pixel is None else self.pixel / cell

        def weights(count: int):
            edges = (jnp.arange(count + 1, dtype=cell.dtype) - count / 2) * side
            return overlap(edges[:-1], edges[1:], cells)

        down, across = weights(values.shape[0]), weights(values.shape[1])
        covered = down.sum(axis=0)[:, None] * across.sum(axis=0)[None, :]
        white = jnp.matmul(jnp.matmul(down.T, values, precision="highest"), across, precision="highest")
        exact = 1 - (1 - self.low) * (covered - white) - (1 - self.high) * white
        rounding = jax.lax.stop_gradient(jnp.clip(exact, 0, 1) - exact)
        return Grid(exact + rounding, cell)
