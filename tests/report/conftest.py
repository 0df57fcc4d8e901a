"""One small comparison and its page, for all tests of the report."""

import pytest

from qtwin.benchmark.compare import compare
from qtwin.benchmark.settings import Settings
from qtwin.core.config import compose, plain
from qtwin.io.results import config_hash, versions, write_result
from qtwin.job import elements
from qtwin.report import page
from qtwin.report.figures import FIGURES

TINY = ["walk.photons=2048", "budget.photons=50", "budget.exposures=3", "optics.pixels=16"]


@pytest.fixture(scope="package")
def cfg():
    return compose(TINY)


@pytest.fixture(scope="package")
def comparison(cfg):
    return compare(**elements(cfg), settings=Settings.from_config(cfg), progress=lambda *a, **k: None)


@pytest.fixture(scope="package")
def folder(comparison, cfg, tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    config = plain(cfg)
    known = {"versions": versions(), "seed": 7, "time": "now", "config_hash": config_hash(config)}
    write_result(place, known)
    images = page.write(place, comparison, cfg)
    assert images == [place / "figures" / f"{name}.png" for name in FIGURES]
    return place


@pytest.fixture(scope="package")
def html(folder):
    return (folder / "report.html").read_text(encoding="utf-8")
