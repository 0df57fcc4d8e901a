"""The measured Bell table is explained by its model; simulated tables are recovered."""

import json
import sys

import pytest

from qtwin import calibrate_job
from qtwin.calibrate.posterior import library
from qtwin.core.config import compose
from qtwin.core.errors import UserError

TABLE = "bell/epj2024_lahoz_phi_plus_table11.csv"
QUICK = ["model=bell", "logger=none", "profiles=false", "draws=0", "starts=3", "bootstraps=0"]


@pytest.mark.slow
def test_measured_table_gives_its_published_correlations(reference_data, tmp_path):
    """CHSH sum 2.593 raw and 2.731 without accidentals, as computed from the table."""
    calibrate_job.run(compose([*QUICK, f"data={reference_data / TABLE}"], name="calibrate"), tmp_path)
    words = (tmp_path / "report.html").read_text() + (tmp_path / "result.json").read_text()
    figures = json.loads((tmp_path / "result.json").read_text())["figures"]
    found = {name: leaf for name, leaf in calibrate_job.flat(figures) if "chsh" in name.lower()}
    assert len(found) >= 2, words[:2000]
    for exact in (2.593, 2.731):
        assert any(abs(leaf["value"] - exact) < 2 * leaf["stderr"] for leaf in found.values()), found


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"absent\.csv"):
        calibrate_job.run(compose([*QUICK, "data=absent.csv"], name="calibrate"), tmp_path)


def test_without_the_library_of_the_posterior_one_line_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "blackjax", None)
    with pytest.raises(UserError, match=r"the posterior \(draws=0 does without\) needs blackjax.*-e '\.\[calibrate\]"):
        library()
