"""Composing a configuration, and building nothing but elements of qtwin."""

import subprocess
import sys

import pytest
from conftest import ROOT
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from qtwin.benchmark.settings import Settings
from qtwin.core.config import build, check_targets, completed, compose
from qtwin.core.errors import FieldError, UserError
from qtwin.core.explain import explain
from qtwin.core.folders import find_conf, options
from qtwin.source import Coherent

LIGHT = {"_target_": "qtwin.source.Coherent", "wavelength": "810 nm"}


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "subprocess.Popen",
        "jax.numpy.save",
        "qtwin.core.params.jax.numpy.save",
        "qtwin.core.params.eqx.Module",
        "qtwin.core.units.registry",
        "qtwin.core.config.hydra.main",
        "qtwin.core.errors.UserError",
        "qtwin.core.params.Support",
        "qtwin.core.params.jax.Array",
        "qtwin.nowhere.Slab",
        "qtwin..source.Coherent",
        "qtwinner.source.Coherent",
        "qtwin",
        "",
        None,
        7,
        ["qtwin.source.Coherent"],
    ],
)
def test_other_targets_are_refused_wherever_they_stand(target):
    for node in ({"a": {"b": [LIGHT, {"_target_": target}]}}, {**LIGHT, "wavelength": {"_target_": target}}):
        with pytest.raises(UserError, match=r"_target_.*only a class of elements of qtwin"):
            check_targets(OmegaConf.create(node))
        with pytest.raises(UserError, match="_target_"):
            build(node)


def test_a_refused_target_is_not_imported(tmp_path):
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    (tmp_path / "qtwin_trap.py").write_text("raise SystemExit('imported')")
    code = (
        "from qtwin.core.config import build\nfrom qtwin.core.errors import UserError\n"
        "for name in ('trap.Slab', 'qtwin_trap.Slab', 'qtwin.core.units.trap.Slab', 'qtwin.trap.Slab'):\n"
        "    try: build({'_target_': name})\n"
        "    except UserError: print('refused')\n"
    )
    environment = {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["refused"] * 4, done.stderr


def test_build():
    node = {"arm": {"light": {**LIGHT, "reference": {"wavelength": "a catalogue"}}, "names": ["a", "b"], "n": 3}}
    built = build(OmegaConf.create(node))
    assert isinstance(built["arm"]["light"], Coherent) and built["arm"]["light"].wavelength == pytest.approx(810e-9)
    assert built["arm"]["names"] == ("a", "b") and built["arm"]["n"] == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"colour": "red"}, ["arm.light.colour", "'red'", "accepted are wavelength"]),
        ({"_partial_": True}, ["arm.light._partial_", "unknown key"]),
        ({"wavelength": "810 kg"}, ["arm.light.wavelength", "'810 kg'", "a length"]),
        ({"wavelength": -1}, ["arm.light.wavelength", "greater than 0"]),
    ],
)
def test_a_mistake_names_the_whole_key(change, words):
    with pytest.raises(UserError) as raised:
        build({"light": {**LIGHT, **change}}, "arm")
    assert all(word in str(raised.value) for word in words), raised.value


def test_a_missing_key_is_named():
    with pytest.raises(UserError, match=r"light\.wavelength: not given \(wavelength in vacuum\)"):
        build({"_target_": LIGHT["_target_"]}, "light")


@pytest.mark.parametrize(("thickness", "middle"), [("50 um", 25e-6), (["2 mm", "4 mm", "1 mm"], 3.5e-3), (0.02, 0.01)])
def test_mid_is_half_of_the_total(thickness, middle):
    cfg = OmegaConf.create({"tissue": {"thickness": thickness, "depth": "${mid:${.thickness}}"}})
    assert cfg.tissue.depth == pytest.approx(middle, rel=1e-12)


def test_a_wrong_thickness_is_named_though_the_middle_follows_it():
    cfg = OmegaConf.create({"tissue": {"g": 0.9, "depth": "${mid:${.thickness}}", "thickness": "3 kg"}})
    with pytest.raises(OmegaConfBaseException) as raised:
        build(cfg)
    assert str(explain(raised.value)).startswith("tissue.thickness: got '3 kg', expected a length")


def test_compose_sees_every_group_and_an_edited_file(small_conf):
    cfg = compose(["tissue=skin", "budget.photons=7"], small_conf)
    assert cfg.tissue.wavelength == "810 nm" and cfg.budget.photons == 7 and "hydra" not in cfg
    file = small_conf / "tissue" / "skin.yaml"
    file.write_text(file.read_text().replace("810", "700"))
    assert compose(["tissue=skin"], small_conf).tissue.wavelength == "700 nm"


def test_an_experiment_is_a_delta(small_conf):
    (small_conf / "experiment").mkdir()
    text = "# @package _global_\ndefaults:\n  - override /tissue: skin\nbudget: {photons: 11}\n"
    (small_conf / "experiment" / "deep.yaml").write_text(text)
    (small_conf / "tissue" / "skin.yaml").write_text("_target_: qtwin.source.Coherent\nwavelength: 650 nm\n")
    cfg = compose(["experiment=deep"], small_conf)
    assert (cfg.budget.photons, cfg.budget.exposures, cfg.tissue.wavelength) == (11, 20, "650 nm")
    assert compose(["experiment=deep", "budget.photons=3"], small_conf).budget.photons == 3


def test_a_file_chooses_the_scene_that_reads_it(small_conf):
    assert compose(["scene.file=photo.png"], small_conf).scene.file == "photo.png"


def test_a_misspelt_experiment_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"experiment: got 'tissue_dpeth', accepted are ambient_light, .*tissue_depth"):
        compose(["experiment=tissue_dpeth"])
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 7\n")
    assert compose(["experiment=mine"], tmp_path).seed == 7


def test_a_field_that_an_experiment_sweeps_is_given_in_its_place():
    words = ["experiment=ambient_light", "optics.ambient=1kHz", "detector.efficiency=0.6,0.7"]
    own = compose(words[:1], hydra_node=True).hydra.sweeper.params
    texts = [*(f"{key}={value}" for key, value in own.items()), *completed(words, "benchmark")]
    (points,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(texts), None)
    assert len(own) == 1 and len(points) == 2
    assert completed(words[1:], "benchmark")[0] == "++optics.ambient=1kHz"


def test_compose_leaves_a_running_application_alone(small_conf):
    running = object()
    GlobalHydra.instance().hydra = running
    try:
        compose([], small_conf)
        assert GlobalHydra.instance().hydra is running
    finally:
        GlobalHydra.instance().hydra = None


def test_conf_of_the_checkout():
    assert find_conf() == ROOT / "conf"
    assert options(find_conf())["logger"] == ["jsonl", "none", "wandb"]


GOOD = {
    "budget": {"photons": 2000, "exposures": 20, "match": "incident"},
    "walk": {"photons": 1e6},
    "seed": 0,
    "memory_limit": "3 GiB",
    "regularise": False,
}


def test_settings():
    settings = Settings.from_config(GOOD)
    assert (settings.seed, settings.walk_photons, settings.memory_limit) == (0, 10**6, 3 * 2**30)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("budget.photons", value) for value in (0, -1, "many", float("nan"), float("inf"), True, None)],
        *[("budget.exposures", value) for value in (1, 2.5, float("nan"), False)],
        ("budget.match", "photons"),
        *[("walk.photons", value) for value in (0, 2e8, 1.5)],
        *[("seed", value) for value in (-1, 0.5, "x", None, 2**63)],
        *[("memory_limit", value) for value in ("3 apples", "0 GiB", "-3 GiB", "3 mm", None)],
        *[("regularise", value) for value in (1, "yes", None)],
        ("budget.photon", 3),
    ],
)
def test_settings_refuse_and_name_the_key(key, value):
    cfg = OmegaConf.merge(GOOD, OmegaConf.from_dotlist([]))
    OmegaConf.update(cfg, key, value, merge=False)
    with pytest.raises(UserError) as raised:
        Settings.from_config(cfg)
    assert str(raised.value).startswith(f"{key}: ")


def test_field_errors_keep_their_kind():
    with pytest.raises(FieldError) as raised:
        build({**LIGHT, "wavelength": 0}, "source")
    assert raised.value.field == "source.wavelength"
