"""The page, picture and arrays of an advantage map."""

import json
import re
from html import unescape

import h5py
import numpy as np
import pytest

from qtwin.benchmark.map import SURE, WHY, Map
from qtwin.core.config import compose, plain
from qtwin.io.results import config_hash, versions, write_arrays, write_result
from qtwin.map_job import Points, _axis, duel, settings_of
from qtwin.report import map as report
from qtwin.tissue.walk import BLOCKS

CHANGES = {"x": "source.pump_power", "x_range": ["1 mW", "9 mW"], "y": "detector.dark_rate", "points": 6}


@pytest.fixture(scope="module")
def config():
    return plain(compose(["optics.pixels=8", "estimator=ghost"], name="map")) | CHANGES


@pytest.fixture(scope="module")
def found(config):
    """log A = log(y/300 Hz) + (x/mW - 3)/5, blocks that move it, a corner that is not defined."""
    points = Points(config)
    x, y = (_axis(which, config, points) for which in ("x", "y"))
    across, down = (np.append(a.values, a.start) for a in (x, y))
    log = np.log(down[:, None] / 300) + (across / 1e-3 - 3) / 5
    why = np.zeros(log.shape, np.int8)
    why[:2, 4:6] = [[2, 3], [2, 2]]
    noise = 0.01 * np.random.default_rng(4).normal(size=(BLOCKS, 1, 1))
    left = np.where(why == 0, log + noise, np.nan)
    given = points.start.twin, points.start.protocols, settings_of(config), x, y
    pair = duel(points.start.protocols, None, None)
    log = np.where(why == 0, log, np.nan)
    return Map(*given, *pair, log, left, np.ones((2, *log.shape)), why, 0.0, "8192 photons were walked once.")


def test_figures_say_who_wins_where(found):
    f = json.loads(json.dumps(report.figures(found)))
    parts = {name: leaf["value"] for name, leaf in f["map"].items()}
    assert parts["not_defined"] == pytest.approx(4 / 36)
    assert parts["arm_better"] + parts["opponent_better"] + parts["not_defined"] == pytest.approx(1)
    sure = parts["arm_surely_better"] + parts["opponent_surely_better"] + parts["within_the_band"]
    assert sure + parts["not_defined"] == pytest.approx(1)
    assert f["points_not_defined"] == {
        WHY[2]: {"value": 3.0, "stderr": 0.0, "unit": ""},
        WHY[3]: {"value": 1.0, "stderr": 0.0, "unit": ""},
    }
    down = f["crossings"]["y"]["1"]  # at 3 mW
    assert down["value"] == pytest.approx(300, rel=1e-6) and down["unit"] == "Hz"
    assert down["stderr"] == pytest.approx(300 * float(found.stderr[-1, -1]), rel=1e-6)
    assert down["better_above"] == found.arm.name
    across = f["crossings"]["x"]["1"]  # at 150 Hz
    assert across["value"] == pytest.approx(1e-3 * (3 + 5 * np.log(2)), rel=1e-9) and across["unit"] == "W"
    assert f["start"]["advantage"]["value"] == pytest.approx(0.5)


def test_arrays_have_coordinates_and_units(found, tmp_path):
    with h5py.File(write_arrays(tmp_path, report.arrays(found))) as file:
        assert file["advantage"].shape == (6, 6)
        assert file["x"].attrs["units"] == "W" and file["y"].attrs["units"] == "Hz"
        np.testing.assert_array_equal(file["x"][:], found.x.values)
        assert [d[0].name for d in file["advantage"].dims] == ["/y", "/x"]
        band = np.exp(SURE * found.stderr[:-1, :-1])
        np.testing.assert_allclose(file["advantage_high"][:], file["advantage"][:] * band)
        assert not np.any(file["winner"][:2, 4:]) and np.all(np.isnan(file["advantage"][:2, 4:]))
        x, y = file["boundary/x"][:], file["boundary/y"][:]
        there = np.isfinite(x)
        np.testing.assert_allclose(np.log(y[there] / 300) + (x[there] / 1e-3 - 3) / 5, 0, atol=1e-9)
        gain = file["photons_per_mode_along_x"][:]
        np.testing.assert_allclose(gain / gain[0], found.x.values / 1e-3, rtol=1e-9)


def test_the_page_tells_what_the_result_holds(found, config, tmp_path):
    known = {"versions": versions(), "seed": 0, "time": "now", "config_hash": config_hash(config)}
    write_result(tmp_path, known | {"figures": report.figures(found), "words": report.words(found)})
    assert report.write(tmp_path, found, config) == [tmp_path / "figures" / "map.png"]
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert html.count("<img") == 1 and "<script" not in html and "data:image/png;base64," in html
    text = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))
    for line in (*report.answer(found), found.light, "budget cannot be matched", "photons per mode", "seed 0"):
        assert re.sub(r"\s+", " ", line) in text
    assert "above it “heralded, with idler singles” is better" in report.text(found)
    svg = (tmp_path / "figures" / "map.svg").read_text(encoding="utf-8")
    assert svg.rstrip().endswith("</svg>")


def test_the_picture_has_both_winners_and_hatches_what_nobody_won(found):
    drawn = report.drawn(found)
    ax = drawn.axes[0]
    assert {t.get_text() for t in ax.texts} == {
        "heralded,\nwith idler singles\nwins",
        "coherent,\nsingle-photon array\nwins",
    }
    shade = ax.collections[0].get_array()
    np.testing.assert_array_equal(np.ma.getmaskarray(shade).reshape(6, 6), found.why[:-1, :-1] > 0)
    assert shade.min() < 0 < shade.max() and ax.collections[0].norm.vmin == -ax.collections[0].norm.vmax
    assert [t.get_text() for t in drawn.legends[0].texts][-1] == "not defined"
    assert ax.get_yscale() == "log" and "detector.dark_rate" in ax.get_ylabel()
