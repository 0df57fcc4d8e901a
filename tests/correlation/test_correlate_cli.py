"""`qtwin correlate` as a user calls it: what it prints and writes, measured files, and one line for every mistake."""

import json

import h5py
import numpy as np
import pytest
from test_survey import DELAY, record

from qtwin.cli import main
from qtwin.io.time_tag_files import write_time_tags


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A record of pairs, its name with a blank and an equals sign."""
    path = tmp_path_factory.mktemp("tags") / "a night = 1.npz"
    write_time_tags(path, record(np.random.default_rng(411), pairs=40_000.0))
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_prints_and_writes_what_it_found(here, capsys, file):
    assert main(["correlate", str(file), "hydra.run.dir=out", "logger=none"]) == 0
    printed = capsys.readouterr().out
    result = json.loads((here / "out" / "result.json").read_text())
    pairs = result["figures"]["pairs"]
    delay = pairs["delay"]
    assert abs(delay["value"] - DELAY * 1e-12) < 4 * delay["stderr"] and delay["unit"] == "s"
    assert result["swept"] == pairs["coincidence_rate"]["value"] > 0
    assert {"car", "efficiency_first", "pair_rate", "drift", "window", "peak_width"} <= set(pairs)
    assert "CAR" in printed and "±" in printed and "delay of the second channel" in printed
    page = (here / "out" / "report.html").read_text()
    for name in ("rates", "correlation", "autocorrelation", "drift"):
        assert f'<figure id="{name}">' in page and (here / "out" / "figures" / f"{name}.png").stat().st_size > 5000
    with h5py.File(here / "out" / "arrays.h5") as arrays:
        assert arrays["correlation"][()].sum() > 1000 and np.all(np.isfinite(arrays["g2"][()]))


T2, T3 = "200204_HH400_T2_320MHz_HBT.timeres", "200204_HH400_T3_320MHz_HBT.timeres"


def test_the_measured_emitter(here, capsys, reference_data):
    """Repetition, antibunching, dead time, blinking of the T2 record, as its publishers state them."""
    assert main(["correlate", str(reference_data / "timetags" / "eta" / T2), "hydra.run.dir=out"]) == 0
    figures = json.loads((here / "out" / "result.json").read_text())["figures"]
    one, two, pairs = figures["channel_1"], figures["channel_2"], figures["pairs"]
    assert (one["clicks"]["value"], two["clicks"]["value"]) == (159298, 224721)
    assert figures["duration"]["value"] == pytest.approx(0.999986, abs=1e-6)
    assert one["smallest_spacing"]["value"] == pytest.approx(77.96e-9, abs=5e-12)
    assert pairs["period"]["value"] == pytest.approx(3.125e-9, rel=2e-3)
    assert pairs["g2_zero"]["low"] < 0.004 < pairs["g2_zero"]["high"] and pairs["g2_zero"]["value"] < 0.01
    assert abs(pairs["bunching"]["value"] - 4.3) < 4 * pairs["bunching"]["stderr"]
    for channel in (one, two):
        assert 77e-9 < channel["dead_time"]["value"] < 82e-9
    assert "blinking" in capsys.readouterr().out


def test_a_clock_that_the_header_does_not_know(here, capsys, reference_data):
    path = str(reference_data / "timetags" / "eta" / T3)
    assert main(["correlate", path]) == 2
    assert "sync_period" in capsys.readouterr().err
    assert main(["correlate", path, "sync_period=1us", "period=0", "delay=0ns", "window=2ns", "logger=none"]) == 0
    assert "channels 1 and 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["channels=[1]"], ["channels: got [1]", "two different ones"]),
        (["channels=[1,9]"], ["channels: got 9", "1, 2"]),
        (["channels=[1,a]"], ["channels: got 'a'"]),
        (["herald=7"], ["herald: got 7", "1, 2"]),
        (["herald=1", "channels=[1,2]"], ["herald: got 1", "other than 1 and 2"]),
        (["window=0s"], ["window: got '0s'", "1 ps or more"]),
        (["window=2m"], ["window", "2m"]),
        (["reach=null"], ["reach: got null"]),
        (["period=-1ns"], ["period: got '-1ns'", "0 or"]),
        (["dark_rates=[1 Hz]"], ["dark_rates", "two rates"]),
        (["dark_rates=[-1 Hz,0 Hz]"], ["dark_rates", "0 or more"]),
        (["bin=3ns", "range=1ns", "window=4ns"], ["range"]),
        (["memory_limit=1 B"], ["memory_limit"]),
        (["windw=2ns"], ["windw"]),
    ],
)
def test_a_mistake_ends_with_one_line(here, capsys, file, overrides, words):
    assert main(["correlate", str(file), *overrides]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("qtwin: error: ")
    assert all(word in error for word in words), error
    assert not (here / "outputs").exists()


@pytest.mark.parametrize(
    ("content", "words"), [(None, ["nowhere.ptu"]), (b"PQTTTR\0\0", ["bad.ptu"]), (b"", ["bad.ptu"])]
)
def test_files_that_are_none(here, capsys, content, words):
    if content is not None:
        (here / "bad.ptu").write_bytes(content)
    assert main(["correlate", words[0]]) == 2
    assert words[0] in capsys.readouterr().err
    assert main(["correlate"]) == 2
    assert "file" in capsys.readouterr().err
