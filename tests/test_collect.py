"""`qtwin collect`: every point of a sweep in one table, one file of arrays, one page; nothing is dropped silently."""

import csv
import os

import h5py
import numpy as np
import pytest
from omegaconf import OmegaConf

from qtwin.cli import main
from qtwin.io.claims import claim
from qtwin.io.collect import arrays, read_sweep
from qtwin.io.results import write_result

VERSIONS = {"qtwin": "0.1.0", "jax": "0.10.2"}


def point(folder, name, overrides, value=None, error=None, figures=None):
    """One point as a run leaves it; without a value it was killed, with an error it has failed."""
    place = folder / str(name)
    (place / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(overrides), place / ".hydra" / "overrides.yaml")
    if error:
        (place / "error.txt").write_text(f"{error}\n\nTraceback")
    if value is not None:
        leaf = {"value": value, "stderr": 0.1, "unit": "1/s"}
        found = figures or {"arm": {"rate": leaf, "each": {"value": [1.0, 2.0], "stderr": [0.5, 0.5], "unit": "m"}}}
        write_result(place, {"figures": found, "swept": value, "versions": VERSIONS, "config": {}})
        (place / "report.html").write_text("report")


def planned(folder, *overrides, command="transport"):
    folder.mkdir()
    told = {"hydra": {"overrides": {"task": list(overrides)}, "job": {"name": command}, "sweeper": {"params": None}}}
    OmegaConf.save(OmegaConf.create(told), folder / "multirun.yaml")


@pytest.fixture
def grid(tmp_path):
    """Two crystals, three waists in an order of their own; one point failed, one was killed, one was never begun."""
    folder = tmp_path / "2026-01-31_12-00-00"
    planned(folder, "source=bbo,ktp", "source.waist=200um,50um,0.1mm", "grid=64", command="source")
    waists = ("200um", "50um", "0.1mm")
    for i, source in enumerate(("bbo", "ktp")):
        for j, waist in enumerate(waists[: 3 - i]):
            told = [f"source={source}", f"source.waist={waist}", "grid=64"]
            if (i, j) == (0, 2):
                point(folder, 2, told, error="source.waist: too small (source=bbo)")
            else:
                point(folder, 3 * i + j, told, None if (i, j) == (1, 1) else 10.0 * i + j + 0.5)
    return folder


def test_a_grid_has_the_swept_keys_as_dimensions(grid, capsys):
    assert main(["collect", str(grid)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("3 of 6 points done; 1 failed, 1 not finished, 1 not begun\n")
    assert "failed: source.waist: too small" in said and "10.50 ± 0.10 /s" in said
    with h5py.File(grid / "arrays.h5") as file:
        rate = file["arm.rate"]
        assert [dim[0].name for dim in rate.dims] == ["/source", "/source.waist"]
        np.testing.assert_array_equal(rate, [[1.5, np.nan, 0.5], [np.nan, np.nan, 10.5]])
        np.testing.assert_array_equal(file["arm.rate.stderr"][0], [0.1, np.nan, 0.1])
        np.testing.assert_allclose(file["source.waist"], [50e-6, 100e-6, 200e-6], rtol=1e-12)
        assert file["source.waist"].attrs["units"] == "m" and rate.attrs["units"] == "1/s"
        assert list(file["source"].asstr()) == ["bbo", "ktp"]
        np.testing.assert_array_equal(file["arm.each.1"][1], [np.nan, np.nan, 2.0])


def test_the_table_holds_every_point(grid):
    assert main(["collect", str(grid)]) == 0
    rows = list(csv.DictReader((grid / "table.csv").read_text().splitlines()))
    assert [row["point"] for row in rows] == ["0", "1", "2", "3", "4", "–"]
    states = ["done", "done", "failed", "done", "not finished", "not begun"]
    assert [row["state"] for row in rows] == states
    assert [float(row["source.waist / m"]) for row in rows] == pytest.approx([2e-4, 5e-5, 1e-4] * 2)
    assert [row["arm.rate / 1/s"] for row in rows] == ["0.5", "1.5", "", "10.5", "", ""]
    assert "grid" not in rows[0] and rows[0]["arm.rate.stderr"] == "0.1"


def test_the_page_shows_figure_and_table(grid, tmp_path):
    assert main(["collect", str(grid), "--out", str(tmp_path / "there")]) == 0
    page = (tmp_path / "there" / "report.html").read_text()
    assert "A sweep of qtwin source" in page and page.count("data:image/png") == 1
    assert all(word in page for word in ("not begun", "not finished", "too small", "200 µm"))
    assert not (grid / "report.html").exists()


def test_points_of_a_search_have_one_dimension(tmp_path):
    folder = tmp_path / "search"
    for i, (a, b) in enumerate([(0.1, 3), (0.4, 1), (0.4, 2)]):
        point(folder, i, [f"camera.efficiency={a}", f"budget.photons={b}"], float(i))
    sweep = read_sweep(folder)
    assert not sweep.grid() and sweep.main() == "arm.rate"
    found = arrays(sweep)
    assert found["arm.rate"][1] == ["point"]
    np.testing.assert_array_equal(found["camera.efficiency"][0], [0.1, 0.4, 0.4])
    assert main(["collect", str(folder)]) == 0
    with h5py.File(folder / "arrays.h5") as file:
        assert file["budget.photons"].dims[0][0].name == "/point"


def test_a_number_without_a_figure_has_no_error(tmp_path, capsys):
    folder = tmp_path / "plain"
    point(folder, 0, ["seed=1"], 2.0, figures={"a": {"value": None, "stderr": None, "unit": "", "reason": "dark"}})
    point(folder, 1, ["seed=2"], 3.0, figures={"a": {"value": 3.5, "stderr": 0.5, "unit": ""}})
    sweep = read_sweep(folder)
    assert sweep.main() is None
    np.testing.assert_array_equal(arrays(sweep)["a"][0], [np.nan, 3.5])
    assert main(["collect", str(folder)]) == 0
    assert "returned" in capsys.readouterr().out


def test_a_point_under_way_is_told(tmp_path):
    folder = tmp_path / "busy"
    point(folder, 0, ["seed=1"])
    with claim(folder / "0") as mine:
        assert mine and read_sweep(folder).points[0].state == "running"
    assert read_sweep(folder).points[0].state == "not finished"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda f: None, "no such folder; accepted is that of a sweep"),
        (lambda f: f.mkdir(), "no points of a sweep here"),
        (lambda f: (f.mkdir(), write_result(f, {"figures": {}})), "the folder of one run"),
        (lambda f: (point(f, 0, ["seed=1"], 1.0), (f / "0" / "result.json").write_text("{")), "not a result"),
    ],
    ids=["missing", "empty", "one run", "broken"],
)
def test_a_bad_folder_is_one_clear_line(tmp_path, capsys, make, words):
    folder = tmp_path / "bad"
    make(folder)
    assert main(["collect", str(folder)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("qtwin: error: ") and words in lines[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(grid, tmp_path, capsys):
    (tmp_path / "closed").mkdir(mode=0o500)
    assert main(["collect", str(grid), "--out", str(tmp_path / "closed" / "here")]) == 2
    assert "--out" in capsys.readouterr().err
