"""Damaged files are read or refused: no crash, no hang, no growth of memory; and the watcher sees all of these."""

import os
import sys
from pathlib import Path

import pytest

from qtwin.core.errors import UserError

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))
import fuzz_readers


def test_2000_damaged_files():
    outcomes, failures = fuzz_readers.fuzz(2000, seed=7)
    assert failures == []
    assert sum(outcomes.values()) == 2000 and {what for _, what in outcomes} == {"read", "refused"}
    names = {sample.name for sample in fuzz_readers.samples()}
    assert {name for name, _ in outcomes} == names and len(names) > 15


def test_undamaged_files_are_read(tmp_path):
    for sample in fuzz_readers.samples():
        path = tmp_path / f"a{sample.suffix}"
        path.write_bytes(sample.data)
        sample.read(path)


def dies(path):
    os.abort()


def hangs(path):
    try:
        while True:
            pass
    except Exception as error:  # as a reader would that takes everything for a fault of the file
        raise UserError(f"{path}") from error


def swells(path):
    block = bytes(1) * (1100 << 20)
    raise UserError(f"{path}: {len(block)}")


def breaks(path):
    raise KeyError("Measurement_Mode")


def mumbles(path):
    raise UserError("something is wrong")


def faulty() -> list[fuzz_readers.Sample]:
    readers = {"dies": dies, "hangs": hangs, "swells": swells, "breaks": breaks, "mumbles": mumbles}
    return [fuzz_readers.Sample(name, ".x", b"data", read) for name, read in readers.items()]


def test_the_watcher_sees_every_fault():
    outcomes, failures = fuzz_readers.fuzz(5, 7, faulty, seconds=2.0)
    assert outcomes == {(name, "failed"): 1 for name in ("dies", "hangs", "swells", "breaks", "mumbles")}
    words = {name: what for _, name, what in failures}
    assert "died" in words["dies"] and "too slow" in words["hangs"] and "memory grew" in words["swells"]
    assert "KeyError" in words["breaks"] and "message" in words["mumbles"]


@pytest.mark.slow
def test_100_000_damaged_files():
    assert fuzz_readers.fuzz(100_000, seed=11)[1] == []
