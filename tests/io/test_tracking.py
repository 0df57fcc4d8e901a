"""Loggers watch a run and are never in the way of it."""

import json
import logging
import sys
from contextlib import closing

import pytest

from qtwin.core.errors import UserError
from qtwin.io.tracking import NoTracker, open_tracker

CONFIG = {"source": {"wavelength": "810 nm"}}


def use(tracker, folder):
    """Everything a run does with a tracker."""
    from PIL import Image

    image = folder / "picture.png"
    Image.new("RGB", (2, 2)).save(image)
    with closing(tracker):
        tracker.note(stage="walk", photons=3.0, bad=float("nan"))
        tracker.figures({"ghost.cnr": 1.5})
        tracker.table("figures", ["figure", "value"], [["ghost.cnr", "1.5"]])
        tracker.images([image])


def test_jsonl_lines_are_strict_json(tmp_path):
    use(open_tracker({"kind": "jsonl"}, tmp_path, CONFIG), tmp_path)

    def refuse(name):
        raise AssertionError(name)

    lines = [json.loads(line, parse_constant=refuse) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[0]["config"] == CONFIG
    assert lines[1]["note"] == {"stage": "walk", "photons": 3.0, "bad": "nan"}
    assert [list(line)[1] for line in lines[2:]] == ["figures", "table", "images"]
    assert lines[4]["images"] == ["picture.png"]


def test_none_leaves_nothing(tmp_path):
    use(open_tracker({"kind": "none"}, tmp_path, CONFIG), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["picture.png"]


@pytest.mark.parametrize(
    ("logger", "words"),
    [
        ({"kind": "paper"}, "logger.kind: got 'paper'"),
        ({"kind": "jsonl", "mode": "offline"}, "logger.mode: unknown key"),
        ({"kind": "wandb", "mode": "loud"}, "logger.mode: got 'loud', accepted is one of offline"),
    ],
)
def test_mistakes_in_the_group(tmp_path, logger, words):
    with pytest.raises(UserError, match=words):
        open_tracker(logger, tmp_path, CONFIG)


@pytest.fixture
def wandb_home(tmp_path, monkeypatch):
    """No login of the person who runs the tests may be found, and nothing may be written outside."""
    for name in ("HOME", "NETRC", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


@pytest.mark.filterwarnings("ignore")  # whatever wandb warns about is not ours
@pytest.mark.parametrize(("mode", "written"), [("offline", 1), ("disabled", 0)])
def test_wandb_without_a_network(tmp_path, wandb_home, mode, written, caplog):
    tracker = open_tracker({"kind": "wandb", "mode": mode, "project": "test"}, tmp_path, CONFIG)
    use(tracker, tmp_path)
    assert not isinstance(tracker, NoTracker) and not [r for r in caplog.records if r.name.startswith("qtwin")]
    assert len(list(tmp_path.rglob("*.wandb"))) == written


def one_warning(caplog, tmp_path, words, mode="offline"):
    with caplog.at_level(logging.WARNING):
        tracker = open_tracker({"kind": "wandb", "mode": mode}, tmp_path, CONFIG)
    use(tracker, tmp_path)
    (record,) = [r for r in caplog.records if r.name.startswith("qtwin")]
    assert words in record.getMessage() and "\n" not in record.getMessage()


def test_wandb_that_is_not_installed(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "wandb", None)
    one_warning(caplog, tmp_path, "going on without a logger")


def test_a_folder_that_hides_wandb(tmp_path, monkeypatch, caplog):
    (tmp_path / "wandb").mkdir()
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    one_warning(caplog, tmp_path, "hides the package")
    sys.modules.pop("wandb")


@pytest.mark.filterwarnings("ignore")
def test_wandb_online_without_a_login(tmp_path, wandb_home, caplog):
    one_warning(caplog, tmp_path, "no login", mode="online")


def test_a_service_that_dies_does_not_end_the_run(tmp_path, monkeypatch, caplog):
    from types import SimpleNamespace

    class Dead:
        summary: dict = {}  # noqa: RUF012

        def log(self, values):
            raise BrokenPipeError("gone")

        def finish(self):
            raise TimeoutError("gone")

    fake = SimpleNamespace(
        __file__="wandb.py", Settings=dict, init=lambda **_: Dead(), Table=lambda **_: None, Image=lambda _: None
    )
    monkeypatch.setitem(sys.modules, "wandb", fake)
    use(open_tracker({"kind": "wandb"}, tmp_path, CONFIG), tmp_path)
    assert [r.getMessage().split(" failed")[0] for r in caplog.records] == [
        "wandb: log",
        "wandb: table",
        "wandb: images",
        "wandb: close",
    ]
