"""Photon-HDF5 0.5: time tags that other tools open. Ingargiola et al., Biophys. J. 110, 26 (2016); photon-hdf5.org.

t = timestamps x timestamps_unit + nanotimes x tcspc_unit; the second term where the file has arrivals behind a pulse.
"""

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import qtwin
from qtwin.core.errors import UserError
from qtwin.core.records import TimeTags
from qtwin.io.file_access import hdf5_file, library_reads
from qtwin.io.tag_source import DISORDER, Chunk, TagSource, Watched, int16, picoseconds, said, step, whole_numbers

VERSION, BLOCK = "0.5", 1 << 16
WHAT = "a Photon-HDF5 file"
DATA = "photon_data"
STAMPS, DETECTORS, NANOTIMES = (f"{DATA}/{name}" for name in ("timestamps", "detectors", "nanotimes"))
UNIT, NANOTIME_UNIT = f"{DATA}/timestamps_specs/timestamps_unit", f"{DATA}/nanotimes_specs/tcspc_unit"
OURS = "user/qtwin"  # what no official field holds: start, stop, resolution (ps)
DEFLATED = 1100  # no more bytes than this come out of one that is stored


def column(file: h5py.File, path: Path, name: str, count: int | None = None) -> h5py.Dataset:
    """A row of numbers whose claimed length the stored bytes can hold; UserError otherwise."""
    data = file.get(name)
    if not isinstance(data, h5py.Dataset) or data.ndim != 1 or data.dtype.kind not in "iuf":
        raise UserError(f"{path}: no row of numbers /{name}, accepted is {WHAT} with it")
    stored, block = data.id.get_storage_size(), int(np.prod(data.chunks or (0,), dtype=object)) * data.dtype.itemsize
    if data.is_virtual or data.external or stored > os.path.getsize(path) or block > 1 << 26:
        raise UserError(
            f"{path}: /{name} has its numbers elsewhere, or in blocks of {block} bytes; accepted are up to 64 MiB"
        )
    if len(data) * data.dtype.itemsize > DEFLATED * stored:
        raise UserError(f"{path}: /{name} claims {len(data)} numbers, the file holds {stored} bytes of them")
    if count is not None and len(data) != count:
        raise UserError(f"{path}: /{name} has {len(data)} entries, /{STAMPS} has {count}")
    return data


def _number(file: h5py.File, path: Path, name: str) -> Any:
    data = file.get(name)
    if not isinstance(data, h5py.Dataset) or data.shape not in ((), (1,)) or data.dtype.kind not in "iuf":
        raise UserError(f"{path}: no number /{name}, accepted is {WHAT} with it")
    return data[()].item()


def _texts(file: h5py.File) -> dict[str, Any]:
    """Short texts and numbers of the file, by their path."""
    found: dict[str, Any] = {}
    for group in ("identity", "provenance", "sample", "setup"):
        node = file.get(group)
        for name, data in node.items() if isinstance(node, h5py.Group) else ():
            if isinstance(data, h5py.Dataset) and data.shape == () and data.dtype.kind in "iufS":
                value = data[()]
                found[f"{group}/{name}"] = (
                    value.decode("utf-8", "replace") if isinstance(value, bytes) else value.item()
                )
    return found


def source(path: Path) -> TagSource:
    """A Photon-HDF5 file of one spot, with or without detectors (0 then) and nanotimes."""
    with library_reads(path, WHAT), h5py.File(path, "r") as file:
        spots = [name for name in file if name.startswith(DATA)]
        if len(spots) > 1 or (spots and spots != [DATA]):
            raise UserError(f"{path}: holds several spots ({', '.join(spots)}), accepted is one, named {DATA}")
        count = len(column(file, path, STAMPS))
        named = [name for name in (DETECTORS, NANOTIMES) if name in file]
        for name in named:
            column(file, path, name, count)
        unit = step(_number(file, path, UNIT) * 1e12, f"{path}: /{UNIT}")
        fine = (
            step(_number(file, path, NANOTIME_UNIT) * 1e12, f"{path}: /{NANOTIME_UNIT}") if NANOTIMES in named else unit
        )
        ours = [_number(file, path, f"{OURS}/{name}") for name in ("start", "stop", "resolution") if OURS in file]
        details = _texts(file)
    known = said(ours[0], ours[1], ours[2], f"{path}: /{OURS}") if ours else {"resolution": fine}

    def chunks(most: int) -> Iterator[Chunk]:
        with library_reads(path, WHAT), h5py.File(path, "r") as file:
            for first in range(0, count, most):
                part = slice(first, min(first + most, count))
                times = picoseconds(whole_numbers(file[STAMPS][part], f"{path}: /{STAMPS}"), unit, str(path))
                if NANOTIMES in named:
                    behind = whole_numbers(file[NANOTIMES][part], f"{path}: /{NANOTIMES}")
                    times = times + picoseconds(behind, fine, str(path))
                channels = np.zeros(len(times), np.int64)
                if DETECTORS in named:
                    channels = whole_numbers(file[DETECTORS][part], f"{path}: /{DETECTORS}")
                yield Chunk(times, int16(channels, f"{path}: /{DETECTORS}"))

    kind = "Photon-HDF5" if NANOTIMES not in named else "Photon-HDF5 with nanotimes"
    disorder = {"disorder": max(DISORDER, int(unit))} if NANOTIMES in named else {}
    return TagSource(kind, chunks=chunks, details=details, **known, **disorder)


TITLES = {  # the format wants its own words in the attribute TITLE of everything
    "acquisition_duration": "Measurement duration in seconds.",
    "description": "A user-defined comment describing the data file.",
    "photon_data": "Group containing arrays of photon-data.",
    STAMPS: "Array of photon timestamps. Units specified in timestamps_units (defined in timestamps_specs/).",
    DETECTORS: "Array of pixel IDs for each timestamp.",
    "photon_data/timestamps_specs": "Specifications for timestamps.",
    UNIT: "Value of 1-unit timestamp-increment in seconds.",
    "setup": "Information about the experimental setup.",
    "setup/num_pixels": "Total number of detector pixels.",
    "setup/num_spots": 'Number of excitation (or detection) "spots" in the sample.',
    "setup/num_spectral_ch": "Number of distinct spectral bands which are acquired.",
    "setup/num_polarization_ch": "Number of distinct polarization states which are acquired.",
    "setup/num_split_ch": "Number of distinct detection channels detecting the same spectral band and polarization. "
    "This value is > 1 when using a non-polarizing beam splitter.",
    "setup/modulated_excitation": "True (i.e. 1) if there is any form of excitation modulation of excitation "
    "wavelength (as in us-ALEX or PAX) or polarization. This field is also True for pulse-interleaved excitation (PIE) "
    "or ns-ALEX measurements.",
    "setup/excitation_alternated": "New in version 0.5. Indicates whether each excitation source is alternated (True, "
    "or 1) or not alternated (False, or 0).",
    "setup/lifetime": "True (i.e. 1) if the measurement includes a nanotimes array of photon arrival times with "
    "respect to a laser pulse (as in TCSPC measurements).",
    "setup/detectors": "Metadata relative to each detector's pixel. Each field is an array with size equal to the "
    "number of the detectors.",
    "setup/detectors/id": "Detector IDs as they appear on /photon_data/detectors.",
    "setup/detectors/counts": "Total number of counts detected by each detector.",
    "identity": "Information about the Photon-HDF5 data file.",
    "identity/format_name": "Name of the file format.",
    "identity/format_version": "Version for the Photon-HDF5 format.",
    "identity/format_url": "Official URL for the Photon-HDF5 format.",
    "identity/software": "Name of the software used to create the current Photon-HDF5 file.",
    "identity/software_version": "Version of the software used to create current the Photon-HDF5 file.",
    "identity/creation_time": "Creation time of the current Photon-HDF5 file.",
}


def write(part: Path, record: Iterable[TimeTags], watched: Watched) -> None:
    """Photon-HDF5 with timestamps in ps; start, stop and clock step in /user/qtwin, a place the format leaves free."""
    counts: dict[int, int] = {}
    with hdf5_file(part) as (file, check):
        settings: dict[str, Any] = {
            "compression": 1,
            "shuffle": True,
            "fletcher32": True,
            "chunks": (BLOCK,),
            "maxshape": (None,),
        }
        stamps = file.create_dataset(STAMPS, (0,), np.int64, **settings)
        detectors = file.create_dataset(DETECTORS, (0,), np.int16, **settings)
        for tags in watched.follow(record):
            first = len(stamps)
            for data, values in ((stamps, tags.times), (detectors, tags.channels)):
                data.resize((first + len(tags),))
                data[first:] = values
            check()
            for number, count in zip(*np.unique(tags.channels, return_counts=True), strict=True):
                counts[int(number)] = counts.get(int(number), 0) + int(count)
        numbers = sorted(counts)
        fields: dict[str, Any] = {
            "acquisition_duration": (watched.stop - watched.start) * 1e-12,
            "description": np.bytes_("time tags"),
            UNIT: 1e-12,
            "setup/num_pixels": len(numbers),
            **dict.fromkeys(
                (f"setup/num_{name}" for name in ("spots", "spectral_ch", "polarization_ch", "split_ch")), 1
            ),
            **dict.fromkeys(("setup/modulated_excitation", "setup/lifetime"), 0),
            "setup/excitation_alternated": np.zeros(1, np.uint8),
            "setup/detectors/id": np.array(numbers, np.int16),
            "setup/detectors/counts": np.array([counts[number] for number in numbers], np.int64),
            "identity/format_name": np.bytes_("Photon-HDF5"),
            "identity/format_version": np.bytes_(VERSION),
            "identity/format_url": np.bytes_("http://photon-hdf5.org/"),
            "identity/software": np.bytes_("qtwin"),
            "identity/software_version": np.bytes_(qtwin.__version__),
            "identity/creation_time": np.bytes_(time.strftime("%Y-%m-%d %H:%M:%S")),
            **{f"{OURS}/{name}": getattr(watched, name) for name in ("start", "stop", "resolution")},
        }
        for name, value in fields.items():
            file[name] = value
        for name, title in TITLES.items():
            file[name].attrs["TITLE"] = np.bytes_(title)
        file.attrs["TITLE"] = np.bytes_(
            "A file format for photon-counting detector based single-molecule spectroscopy experiments."
        )
        file.attrs["format_name"], file.attrs["format_version"] = np.bytes_("Photon-HDF5"), np.bytes_(VERSION)
