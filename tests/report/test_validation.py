"""`qtwin validate`: exit codes, the summary, what is written, the page."""

import json

import pytest

from qtwin.core.errors import UserError
from qtwin.report.validation import ours, published, summary, validate
from qtwin.validate.cases import Case
from qtwin.validate.run import Outcome

CASES = """
hom:
  call: qtwin.modes.interference.hom_visibility
  with: {{reflectivity: 0.45}}
  expect: {expect}
  within: 5e-6
  source: Hong, Ou & Mandel 1987 <script>
drawn:
  call: qtwin.validate.counting.mean
  with: {{samples: [0.9, 1.3, 1.1, 0.8, 1.0]}}
  expect: 1
  within: 0
  source: five numbers
wins:
  call: qtwin.validate.counting.mean
  with: {{samples: [1.9, 2.3, 2.1, 1.8, 2.0]}}
  above: 1
  source: five numbers
  note: A note.
head:
  call: qtwin.validate.measured.head_labels
  with: {{file: "data:volumes/nowhere.mat"}}
  expect: 6
  within: 0
  source: data
long:
  call: qtwin.modes.interference.hom_visibility
  with: {{reflectivity: 0.45}}
  full: true
  above: 0
  source: a long one
xray:
  not_covered: not built
  source: PHYSICS.md
"""


@pytest.fixture
def cases(tmp_path):
    def write(expect=0.98020):
        folder = tmp_path / "cases"
        folder.mkdir(exist_ok=True)
        (folder / "mine.yaml").write_text(CASES.format(expect=expect))
        return str(folder)

    return write


def test_all_pass(cases, tmp_path, capsys):
    out = tmp_path / "out"
    assert validate(False, [], str(out), cases(), str(tmp_path)) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == "3 passed, 0 failed, 2 skipped, 1 not covered"
    assert "skipped: only in the full run (1): long" in printed
    result = json.loads((out / "result.json").read_text())
    assert result["summary"] | {"drawn": 1} == result["summary"]
    assert (result["summary"]["passed"], result["summary"]["skipped"]) == (3, 2)
    hom, drawn, wins, head, _, xray = result["cases"]
    assert hom["published"] == {"expect": 0.9802, "within": 5e-6, "unit": ""} and hom["verdict"] == "pass"
    assert hom["ours"]["value"] == pytest.approx(0.9801980198) and hom["part_of_tolerance"] == pytest.approx(
        -0.396, abs=1e-3
    )
    assert drawn["ours"]["stderr"] > 0 and drawn["z"] is not None and wins["note"] == "A note."
    assert head["ours"]["value"] is None and "nowhere.mat" in head["ours"]["reason"]
    assert xray["verdict"] == "not covered" and xray["reason"] == "not built"
    page = (out / "report.html").read_text()
    assert "3 passed, 0 failed, 2 skipped, 1 not covered" in page and "<script>" not in page
    assert 'src="http' not in page and "href" not in page and "<h2>Failed</h2>" not in page


def test_a_failure_is_exit_code_one(cases, tmp_path, capsys):
    out = tmp_path / "out"
    assert validate(True, [], str(out), cases(0.99), str(tmp_path)) == 1
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == "3 passed, 1 failed, 1 skipped, 1 not covered"
    assert "failed (1): hom" in printed
    assert "<h2>Failed</h2>" in (out / "report.html").read_text()


def test_words_choose(cases, tmp_path, capsys):
    assert validate(False, ["mandel"], str(tmp_path / "out"), cases(), None) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 0 failed, 0 skipped, 0 not covered"
    assert not (tmp_path / "out" / "figures" / "scores.png").exists()


def test_mistakes_of_the_user(cases, tmp_path):
    with pytest.raises(UserError, match="--only: no case has 'nobody'"):
        validate(False, ["nobody"], str(tmp_path / "out"), cases(), None)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--out: .*accepted is a folder that can be written"):
        validate(False, [], str(tmp_path / "file" / "out"), cases(), None)
    with pytest.raises(UserError, match="cases: got"):
        validate(False, [], str(tmp_path / "out"), str(tmp_path / "nowhere"), None)
    assert not (tmp_path / "out").exists()


def test_numbers_in_words():
    def outcome(value, stderr=None, **given):
        return Outcome(Case("x", "g", "s", **given), "pass", value, stderr)

    assert published(Case("x", "g", "s", expect=0.9802, within=5e-6)) == "0.9802 ± 5e-06"
    assert published(Case("x", "g", "s", expect=22.8, within=0.05, unit="um")) == "22.8 ± 0.05 um"
    assert published(Case("x", "g", "s", expect=2.7, error=0.015)) == "2.7 ± 0.015 (1 σ)"
    assert published(Case("x", "g", "s", expect=4.0, within=0.0)) == "4 (exact)"
    assert published(Case("x", "g", "s", above=1.0, below=2.0)) == "> 1 and < 2"
    assert published(Case("x", "g", "s", expect=5000.0, factor=3.0)) == "5000 within a factor of 3"
    assert ours(outcome(0.98019802, expect=0.9802, within=5e-6)) == "0.980198"
    assert ours(outcome(1.23456, 0.012, expect=1.2, within=0.1, unit="um")) == "1.235 ± 0.012 um"
    assert ours(outcome(None, expect=1.0, within=0.1)) == "–"
    assert summary([outcome(1.0, above=0.0)]) == "1 passed, 0 failed, 0 skipped, 0 not covered"


@pytest.mark.slow
def test_the_quick_run(tmp_path, capsys):
    """All of the project's evidence that the quick run holds."""
    code = validate(False, [], str(tmp_path / "out"), None, None)
    printed = capsys.readouterr().out
    assert code == 0, printed
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    summary = result["summary"]
    assert summary["passed"] > 400 and 0.6 < summary["mean_square_z"] < 1.5
    assert result["wall_seconds"] < 300
