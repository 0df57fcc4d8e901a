"""`qtwin source` as a user calls it: what it prints and writes, and one line for every mistake."""

import json

import h5py
import jax.numpy as jnp
import numpy as np
import pytest

from qtwin.cli import main
from qtwin.core.config import build, compose, plain
from qtwin.source.usable import collected


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(folder):
    """result.json, and every array of arrays.h5."""
    with h5py.File(folder / "arrays.h5") as file:
        arrays = {name: file[name][()] for name in file}
    return json.loads((folder / "result.json").read_text()), arrays


def own_rates(*overrides):
    """What the functions say, without the command, on half of the points: what it gives as the error."""
    config = plain(compose(overrides, name="source"))
    source, collection = build(config["source"], "source"), build(config["collection"], "collection")
    crystal = source.crystal_at()
    sizes = (jnp.reshape(source.waist, 1), jnp.reshape(crystal.length, 1))
    found = collected(collection, source, crystal, collection.points(source, crystal).halved(), *sizes)
    return source, crystal, {name: float(value[0]) for name, value in zip(found._fields, found, strict=True)}


def test_a_run_prints_and_writes_what_it_found(here, capsys):
    assert main(["source", "hydra.run.dir=out"]) == 0
    printed, (result, arrays) = capsys.readouterr().out, read(here / "out")
    figures = result["figures"]
    source, crystal, rates = own_rates()
    for name, rate in rates.items():
        value, error = (figures["usable"][name][part] for part in ("value", "stderr"))
        assert 0 < error < 1e-6 * value and abs(value - rate) == pytest.approx(error, rel=1e-3, abs=1e-12 * value)
    assert result["swept"] == figures["usable"]["pairs"]["value"]
    assert figures["usable"]["emitted"]["value"] == pytest.approx(float(source.pair_rate()), rel=1e-12)
    assert figures["usable"]["plane_pump"]["value"] == pytest.approx(rates["signal"], rel=1e-4)
    assert np.degrees(figures["phase_matching"]["angle"]["value"]) == pytest.approx(28.816, abs=0.01)
    assert np.degrees(figures["phase_matching"]["walk_off_pump"]["value"]) == pytest.approx(3.85, abs=0.01)
    width, centre, b = (
        figures["spectrum"]["bandwidth_signal"]["value"],
        810e-9,
        crystal.group_mismatch(405e-9, 810e-9)[2],
    )
    detuning = np.sqrt(4 * 1.39156 / float(crystal.length) / float(b))  # to second order
    assert width == pytest.approx(2 * detuning * centre**2 / (2 * np.pi * 299792458), rel=0.02)
    for text in (
        "usable pairs: both photons",
        "/(s mW nm)",
        "28.821°",
        "Kato 1986",
        "converged within",
        str(here / "out"),
    ):
        assert text in printed, text
    assert {p.name for p in (here / "out").iterdir()} >= {"report.html", "arrays.h5", "result.json", "figures"}
    names = ("design", "tuning", "fields", "spectrum")
    assert {p.name for p in (here / "out/figures").iterdir()} == {f"{n}.{k}" for n in names for k in ("png", "svg")}
    assert all(np.all(np.isfinite(a)) for a in arrays.values())
    own = np.argmin(abs(arrays["waist"] - float(source.waist)))
    assert arrays["pairs_over_waist"][own] == pytest.approx(rates["pairs"], rel=1e-6)


@pytest.mark.parametrize("state", ["two_mode_squeezed", "bell"])
def test_a_state_is_read_twice(here, capsys, state):
    """Figures of merit as its own functions say, and records drawn that agree with the law."""
    assert main(["source", f"source={state}", "records=2000", "hydra.run.dir=out", "logger=none"]) == 0
    printed, (result, arrays) = capsys.readouterr().out, read(here / "out")
    made = build(plain(compose([f"source={state}"], name="source"))["source"], "source")
    for row in made.figures():
        assert result["figures"][row.name]["value"] == pytest.approx(float(row.value), rel=1e-12)
        assert row.name in printed
    mean, covariance = (np.asarray(a) for a in made.expect())
    np.testing.assert_allclose(arrays["mean"], mean, rtol=1e-12)
    np.testing.assert_allclose(arrays["covariance"], covariance, rtol=1e-12)
    assert np.all(np.abs(arrays["drawn"] - mean) < 4.5 * np.sqrt(np.diag(covariance) / 2000))
    page = (here / "out" / "report.html").read_text()
    assert "Both readings" in page and "nan" not in printed.lower()


@pytest.mark.slow
def test_a_pulsed_pump_into_fibres(here, capsys, monkeypatch):
    """Without drawing: what the joint spectrum takes from rates and heralding."""
    monkeypatch.setattr("qtwin.report.source.printed", lambda make: {"png": b"png", "svg": b"svg"})
    run = ["source=ppktp", "source.crystal_length=10mm", "collection=fibre", "collection.signal_waist=50um"]
    pulsed = ["pump.bandwidth=0.4nm", "grid=96", "hydra.run.dir=out", "logger=none"]
    assert main(["source", *run, *pulsed]) == 0
    result, arrays = read(here / "out")
    usable, spectrum, counting = (result["figures"][name] for name in ("usable", "spectrum", "counting"))
    _, _, rates = own_rates(*run)
    for name, rate in rates.items():
        assert usable[name]["value"] == pytest.approx(rate * spectrum[f"{name}_over_steady"]["value"], rel=1e-8)
    ratio = spectrum["pairs_over_steady"]["value"] / spectrum["signal_over_steady"]["value"]
    assert ratio == pytest.approx(spectrum["filter_heralding_idler"]["value"], rel=1e-9)
    assert 0.3 < spectrum["pairs_over_steady"]["value"] < spectrum["signal_over_steady"]["value"] < 1
    assert spectrum["purity_filtered"]["value"] > spectrum["purity_emitted"]["value"]
    assert 1 / spectrum["purity_filtered"]["value"] == pytest.approx(counting["temporal_modes"]["value"])
    assert spectrum["bandwidth_signal"]["value"] == pytest.approx(0.554e-9, rel=1e-2)
    assert arrays["joint_spectrum"].shape == (96, 96) and arrays["joint_spectrum"].max() == 1
    chance = usable["signal"]["value"] * usable["idler"]["value"] / 80e6 / usable["pairs"]["value"]
    assert counting["car"]["value"] == pytest.approx(1 + 1 / chance)
    assert "Schmidt number in frequency behind the filters" in capsys.readouterr().out
    assert 'id="joint"' in (here / "out/report.html").read_text()


@pytest.mark.slow
def test_a_sweep_answers_which_source_is_best(here, capsys):
    sweep = ["source=spdc_bbo,ppktp", "source.waist=50um,100um", "collection=fibre", "hydra.sweep.dir=sweep"]
    assert main(["source", "-m", *sweep, "logger=none"]) == 0
    found = {}
    for folder in sorted((here / "sweep").glob("[0-9]")):
        result = json.loads((folder / "result.json").read_text())
        found[result["config"]["source"]["crystal"], result["config"]["source"]["waist"]] = result["swept"]
    assert len(found) == 4 and max(found, key=found.get) == ("KTP", "50um")


@pytest.mark.slow
@pytest.mark.parametrize("source", ["spdc_bbo_type2", "ppktp_type0", "ppln", "lbo", "kdp"])
def test_every_crystal(here, capsys, source):
    assert main(["source", f"source={source}", "hydra.run.dir=out", "logger=none"]) == 0
    usable = read(here / "out")[0]["figures"]["usable"]
    assert usable["pairs"]["stderr"] < 1e-4 * usable["pairs"]["value"]
    both = sorted(usable[f"{arm}_heralding"]["value"] for arm in ("signal", "idler"))
    assert 0.4 < both[0] <= both[1] <= 1 and both[1] > 0.9


TYPE2 = ["source=spdc_bbo_type2", "source.pump_wavelength=230nm", "source.signal_wavelength=460nm"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["source.signal_wavelength=300nm"], ["source.", "got 300 nm", "longer than the pump's 405 nm"]),
        (["source.signal_wavelength=1.2um"], ["got 1200 nm", "'Kato 1986'", "220 to 1060 nm"]),
        (TYPE2, ["cannot match 230 -> 460 nm", "nearest signal that works", "nearest pump that works: 263"]),
        (["source.temperature=-3"], ["source.temperature: got -3 K", "greater than 0"]),
        (["source.crystal=GaAs"], ["source.crystal", "'GaAs'", "BBO"]),
        (["source=ppktp", "source.order=-1"], ["order: got -1", "needs order 1"]),
        (["source=bell", "records=1"], ["records: got 1"]),
        (["source.bandwidth=700nm"], ["source.bandwidth", "got 1426.3 nm", "220 to 1060 nm"]),
        (["collection=lens"], ["'collection/lens'", "aperture, fibre"]),
        (["collection.signal_half_angle=0"], ["collection.signal_half_angle: got 0 rad", "below pi/2"]),
        (["collection.signal_half_angle=3mm"], ["collection.signal_half_angle: got '3mm'", "an angle"]),
        (["collection=fibre", "collection.signal_waist=1um"], ["collection.signal_waist: got 1e-06 m", "or more"]),
        (["collection=fibre", "source.waist=1um"], ["source.waist: got 1e-06 m", "or more"]),
        (["collection._target_=qtwin.source.Coherent"], ["collection."]),
        (["pump.bandwidth=0"], ["pump.bandwidth: got 0", "greater than 0"]),
        (["pump.bandwidth=1pm"], ["pump.bandwidth", "on 256 points of grid", "or more"]),
        (["pump.bandwidth=100nm"], ["pump.bandwidth", "too wide"]),
        (["pump.bandwidth=1nm", "pump.duration=1ps"], ["pump.duration: got '1ps'", "one of them"]),
        (["pump.repetition_rate=0"], ["pump.repetition_rate: got 0"]),
        (["pump=null"], ["pump: got None", "bandwidth"]),
        (["coincidence_window=nan"], ["coincidence_window", "greater than 0"]),
        (["grid=1"], ["grid: got 1", "at least 32"]),
        (["grid=8192", "pump.bandwidth=1nm"], ["memory_limit", "grid=8192 needs about 16.8 GB"]),
        (["memory_limit=10kB"], ["memory_limit: got 10 kB", "needs about"]),
        (["logger.kind=paper"], ["logger.kind"]),
    ],
    ids=lambda v: " ".join(v[-2:]) if "=" in v[0] else None,
)
def test_a_mistake_ends_with_one_line_and_leaves_nothing(here, capsys, overrides, words):
    assert main(["source", *overrides]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if line.startswith("qtwin: error: ")]) == 1 and "Traceback" not in "".join(lines)
    assert all(word in lines[-1] for word in words), lines[-1]
    assert list(here.iterdir()) == []
