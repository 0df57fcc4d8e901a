"""`qtwin transport` as a user calls it: what it prints and writes, and one line for every mistake."""

import json

import h5py
import numpy as np
import pytest

from qtwin.cli import main


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("tissue", ["skin", "slab"])
def test_a_run_prints_and_writes_what_it_found(here, capsys, tissue):
    assert main(["transport", f"tissue={tissue}", "photons=2e4", "hydra.run.dir=out"]) == 0
    printed = capsys.readouterr().out
    result = json.loads((here / "out" / "result.json").read_text())
    figures = result["figures"]
    fractions = [figures[name] for name in ("specular", "reflectance", "transmittance")]
    layers = list(figures["absorbed"].values()) if "value" not in figures["absorbed"] else [figures["absorbed"]]
    total = sum(f["value"] for f in [*fractions, *layers])
    assert total == pytest.approx(1, abs=0.01)
    assert all(f["stderr"] > 0 and f["unit"] == "" for f in [*fractions[1:], *layers])
    assert "reflect" in printed and "±" in printed and str(here / "out") in printed
    assert {p.name for p in (here / "out").iterdir()} >= {"report.html", "arrays.h5", "result.json", "figures"}
    with h5py.File(here / "out" / "arrays.h5") as file:
        curves = {name: file[name][()] for name in file if isinstance(file[name], h5py.Dataset)}
    assert curves and all(np.all(np.isfinite(v)) for v in curves.values())


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["photons=0"], ["photons: got 0", "at least 1"]),
        (["photons=1e12"], ["photons", "1000000000000"]),
        (["photons=many"], ["photons", "'many'"]),
        (["tissue.g=1"], ["tissue.g: got 1", "between -1 and 1, both excluded"]),
        (["tissue.g=-1"], ["tissue.g: got -1", "between -1 and 1, both excluded"]),
        (["tissue.thickness=0"], ["tissue.thickness: got 0 m", "greater than 0"]),
        (["tissue.thickness=-1mm"], ["tissue.thickness", "greater than 0"]),
        (["tissue.mu_a=-1"], ["tissue.mu_a", "0 or greater"]),
        (["tissue.n=0.5"], ["tissue.n: got 0.5", "1 or greater"]),
        (["tissue.mu_s=nan"], ["tissue.mu_s: got nan", "finite"]),
        (["tissue.mu_a=0", "tissue.thickness=100m"], ["tissue.thickness", "scattering lengths that hardly absorb"]),
        (["tissue.mu_s=[1e3,2e3]"], ["tissue.mu_s: got 2 values for 1 of thickness"]),
        (["tissue=skin", "wavelength=3um"], ["tissue.media", "holds 400 to 1700 nm, got 3000 nm"]),
        (["tissue=bone"], ["'tissue/bone'", "skin"]),
        (["tissue._target_=qtwin.source.Coherent"], ["tissue"]),
        (["numerical_aperture=1.5"], ["numerical_aperture: got 1.5", "at most 1"]),
        (["bins.rings=1"], ["bins.rings"]),
        (["bins=null"], ["bins"]),
        (["light=isotropic", "light.depth=1m"], ["light.depth: got 1 m", "less than the thickness"]),
        (["light=gaussian", "light.waist=0"], ["light.waist: got 0 m", "greater than 0"]),
        (["light=null"], ["NoneType"]),
        (["phase=mie", "phase.radius=0"], ["phase.radius: got 0 m", "greater than 0"]),
        (["phase=mie", "phase.n_sphere=1.33"], ["phase.n_sphere: got 1.33", "nothing scatters"]),
        (["stokes=[1,1,0,0]"], ["phase: got nothing for layer 0", "accepted is Rayleigh, Mie"]),
        (["stokes=[1,1,1,0]", "phase=rayleigh"], ["stokes: got [1, 1, 1, 0]", "at most I^2"]),
        (["stokes=[1,0,0,0]", "phase=mie"], ["phase: got n_medium 1.33", "the n of that layer, 1"]),
        (["stokes=[1,0,0,0]", "phase=rayleigh", "light=disc"], ["stokes: accepted with light=pencil only"]),
        (["phase=tabulated"], ["phase.file", "is not there"]),
        (["phase._target_=qtwin.source.Coherent"], ["phase"]),
        (["light._target_=qtwin.source.Coherent"], ["light"]),
        (["derivatives=perhaps"], ["derivatives: got 'perhaps'", "true or false"]),
        (["memory_limit=10 kB"], ["memory_limit", "needs"]),
        (["seed=-1"], ["seed"]),
        (["wavelength=red"], ["wavelength"]),
    ],
    ids=lambda v: " ".join(v) if isinstance(v[0], str) and "=" in v[0] else None,
)
def test_a_mistake_ends_with_one_line_and_leaves_nothing(here, capsys, overrides, words):
    assert main(["transport", *overrides]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if line.startswith("qtwin: error: ")]) == 1 and "Traceback" not in "".join(lines)
    assert all(word in lines[-1] for word in words), lines[-1]
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("light", ["gaussian", "disc", "lambertian", "isotropic"])
def test_other_light(here, capsys, light):
    run = [
        "transport",
        f"light={light}",
        "tissue.n=1.4",
        "photons=2e4",
        "derivatives=false",
        "hydra.run.dir=out",
        "logger=none",
    ]
    assert main(run) == 0
    specular = json.loads((here / "out" / "result.json").read_text())["figures"]["specular"]["value"]
    assert (specular == 0) == (light == "isotropic")
    assert light.capitalize() in (here / "out" / "report.html").read_text()


def test_a_measured_law_of_scattering(here, capsys):
    """Rayleigh's law as a table: as `phase=rayleigh` but for straight lines between rows; not as the tissue's g."""
    rows = "\n".join(f"{a},{1 + np.cos(np.radians(a)) ** 2}" for a in range(181))
    (here / "law.csv").write_text(f"angle,p\ndeg,1/sr\n{rows}\n")
    found = {}
    for name, phase in {
        "own": ["phase=tabulated", "phase.file=law.csv"],
        "known": ["phase=rayleigh"],
        "hg": ["phase=henyey_greenstein"],
    }.items():
        assert main(["transport", *phase, "photons=4e4", f"hydra.run.dir={name}", "logger=none"]) == 0
        found[name] = json.loads((here / name / "result.json").read_text())["figures"]
    own, known, hg = (found[name]["reflectance"]["value"] for name in ("own", "known", "hg"))
    assert own == pytest.approx(known, rel=2e-3) and abs(hg - known) > 0.5 * known
    assert "g" not in "".join(found["own"]["derivatives"]["reflectance"]).replace("of layer 1", "")


def test_polarised_light(here, capsys):
    """Linear light along x stays so in part, on either side, and the page says so."""
    run = ["transport", "phase=rayleigh", "stokes=[1,1,0,0]", "photons=2e4", "hydra.run.dir=out", "logger=none"]
    assert main(run) == 0
    polar = json.loads((here / "out" / "result.json").read_text())["figures"]["polarisation"]
    for side in ("reflected", "transmitted"):
        q, u, degree = (polar[side][name] for name in ("Q", "U", "degree"))
        assert q["value"] > 20 * q["stderr"] and abs(u["value"]) < 4 * u["stderr"] and 0.5 < degree["value"] < 0.9
    assert "degree of polarisation, reflected" in capsys.readouterr().out
    assert "<h2>Polarisation</h2>" in (here / "out" / "report.html").read_text()


def test_no_scattering_works(here, capsys):
    assert main(["transport", "tissue.mu_s=0", "photons=1e4", "hydra.run.dir=out", "logger=none"]) == 0
    figures = json.loads((here / "out" / "result.json").read_text())["figures"]
    assert figures["ballistic"]["value"] == pytest.approx(figures["transmittance"]["value"], rel=0.05)
