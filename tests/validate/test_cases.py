"""Cases as data: what a YAML file may say, rows and tables, and every mistake in one line."""

import pytest

from qtwin.core.errors import UserError
from qtwin.validate.cases import KEYS, TABLES, load, own_cases
from qtwin.validate.run import check, chosen, public

GOOD = """
hom_visibility_r45:
  call: qtwin.modes.interference.hom_visibility
  with: {reflectivity: 0.45}
  expect: 0.98020
  within: 5e-6
  source: Hong, Ou & Mandel 1987
"""


def folder_of(tmp_path, text, name="mine.yaml"):
    (tmp_path / name).write_text(text)
    return tmp_path


def test_five_lines_are_a_case(tmp_path):
    (case,) = load(folder_of(tmp_path, GOOD), full=False)
    assert (case.name, case.group, case.expect, case.within) == ("hom_visibility_r45", "mine", 0.9802, 5e-6)
    assert case.arguments == {"reflectivity": 0.45} and case.pick == () and not case.full
    check(case)


def test_rows_are_cases_with_their_columns(tmp_path):
    (tmp_path / "mine.csv").write_text("# a comment\nT,gain,what\n0.5,1.25,a\n1,2e1,b\n")
    text = GOOD + (
        "tabled:\n  call: qtwin.modes.noon.best_noon\n  with: {efficiency: $T, more: [$T, {x: $what}]}\n"
        "  rows: mine.csv\n  pick: [$what, 1]\n  expect: $gain\n  within: 0\n  source: a table\n"
    )
    _, first, second = load(folder_of(tmp_path, text), full=True)
    assert first.name == "tabled (T 0.5, what a)" and first.pick == ("a", 1) and first.expect == 1.25
    assert second.arguments == {"efficiency": 1, "more": [1, {"x": "b"}]} and second.expect == 20.0


def test_the_full_run_has_its_own_arguments(tmp_path):
    text = GOOD.replace("  expect", "  full: {reflectivity: 0.3}\n  expect") + GOOD.replace("r45:", "r46:").replace(
        "  expect", "  full: true\n  expect"
    )
    quick, full = (load(folder_of(tmp_path, text), full=f) for f in (False, True))
    assert [c.arguments["reflectivity"] for c in quick] == [0.45, 0.45]
    assert [c.arguments["reflectivity"] for c in full] == [0.3, 0.45]
    assert [c.full for c in quick] == [False, True]


def test_not_covered_needs_only_a_reason(tmp_path):
    (case,) = load(folder_of(tmp_path, "xray:\n  not_covered: not built\n  source: PHYSICS.md\n"), full=False)
    assert case.not_covered == "not built" and case.call == ""
    check(case)


@pytest.mark.parametrize(
    ("change", "text", "words"),
    [
        ("expect: 0.98020", "expected: 0.98", "expected: unknown key, accepted are call, with"),
        ("expect: 0.98020\n", "\n", "expect: not given"),
        ("within: 5e-6", "", "expect: got no spread, accepted is one of within, error, factor"),
        ("within: 5e-6", "within: 5e-6\n  error: 1", "expect: got within, error"),
        ("within: 5e-6", "within: -1", "within: got -1, accepted is a number of 0 or more"),
        ("within: 5e-6", "factor: 1", "factor: got 1, accepted is a number greater than 1"),
        ("0.98020", "much", "expect: got 'much', expected a plain number"),
        ("within: 5e-6", "above: 1", "above: accepted only instead of expect"),
        ("expect: 0.98020", "above: 1", "within: accepted only beside expect"),
        ("expect: 0.98020\n  within: 5e-6", "above: 2\n  below: 1", "below: accepted is a number greater than above"),
        ("source: Hong, Ou & Mandel 1987", "source: ''", "source: got '', accepted is text"),
        ("{reflectivity: 0.45}", "0.45", "with: got 0.45, accepted is a mapping"),
        ("call: qtwin.modes.interference.hom_visibility", "call: 3", "call: got 3"),
        ("within: 5e-6", "within: 5e-6\n  pick: [_private]", "pick: got"),
        (
            "within: 5e-6",
            "within: 5e-6\n  rows: nothing.csv",
            "rows: got 'nothing.csv', accepted is a list, or a table",
        ),
        ("within: 5e-6", "within: 5e-6\n  rows: [{x: 1}]", "rows: column 'x' of row 1 stands nowhere"),
        ("within: 5e-6", "within: $y\n  rows: [{x: 1}]", r"\$y: no such column, accepted are x"),
        ("within: 5e-6", "within: 5e-6\n  rows: [3]", "rows: row 1 is 3"),
        ("within: 5e-6", "within: 5e-6\n  within: 5e-6", "cannot be read as YAML: .*duplicate key"),
        ("  call", " call: [", "cannot be read as YAML"),
        ("within: 5e-6", "not_covered: no", "not_covered"),
    ],
)
def test_a_mistake_names_file_case_and_key(tmp_path, change, text, words):
    folder = folder_of(tmp_path, GOOD.replace(change, text))
    with pytest.raises(UserError, match=words) as raised:
        load(folder, full=False)
    line = str(raised.value)
    assert line.startswith(str(tmp_path / "mine.yaml")) and "\n" not in line
    assert "cannot be read" in line or "hom_visibility_r45: " in line


@pytest.mark.parametrize("text", ["[1, 2]", "3", "hom: 4\n"])
def test_files_of_another_shape_are_refused(tmp_path, text):
    with pytest.raises(UserError, match=r"mine\.yaml"):
        load(folder_of(tmp_path, text), full=False)


def test_folders_without_cases_are_refused(tmp_path):
    with pytest.raises(UserError, match="no case in"):
        load(tmp_path, full=False)
    with pytest.raises(UserError, match="accepted is a folder of YAML files"):
        load(tmp_path / "nowhere", full=False)


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "qtwin.io.results.write_whole",
        "qtwin.cli.main",
        "qtwin.modes.counts.jax",
        "qtwin.modes.counts._patterns",
        "qtwin.modes.counts.nothing",
        "qtwin.modes.counts.counts.more",
        "qtwin.nowhere.nothing",
        "qtwin.modes",
        "qtwin..counts",
    ],
)
def test_only_public_physics_of_qtwin_is_called(path):
    with pytest.raises(UserError, match="accepted is a public function, element or constant of qtwin"):
        public(path)


def test_what_may_be_called():
    assert public("qtwin.modes.interference.hom_visibility")(0.5) == 1
    assert public("qtwin.source.biphoton.DoubleGaussian").__name__ == "DoubleGaussian"
    assert public("qtwin.modes.interference.OCT_FWHM") == pytest.approx(2.3548, abs=5e-5)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("0.45}", "0.45, colour: 1}", "unexpected keyword argument 'colour'; the arguments of"),
        ("{reflectivity: 0.45}", "{}", "missing a required argument: 'reflectivity'"),
        ("{reflectivity: 0.45}", "{reflectivity: {call: os.system, with: {}}}", "call: got 'os.system'"),
        ("{reflectivity: 0.45}", "{reflectivity: {call: qtwin.modes.noon.best_noon, of: 1}}", "of: accepted in a call"),
        (
            "hom_visibility\n  with: {reflectivity: 0.45}",
            "OCT_FWHM\n  with: {x: 1}",
            "is a constant and has no arguments",
        ),
        ("within: 5e-6", "within: 5e-6\n  unit: parsecs per", "unit: got 'parsecs per'"),
    ],
)
def test_calls_are_checked_before_anything_runs(tmp_path, old, new, words):
    (case,) = load(folder_of(tmp_path, GOOD.replace(old, new)), full=False)
    with pytest.raises(UserError, match=words) as raised:
        check(case)
    assert str(raised.value).startswith("mine.yaml: hom_visibility_r45: ")


def test_words_choose_cases(tmp_path):
    cases = load(folder_of(tmp_path, GOOD + "xray:\n  not_covered: not built\n  source: Moreau 2017\n"), full=False)
    assert [c.name for c in chosen(cases, ["MANDEL"])] == ["hom_visibility_r45"]
    assert len(chosen(cases, ["moreau", "hom_"])) == len(chosen(cases, [])) == 2
    with pytest.raises(UserError, match="no case has 'nobody' or 'nothing'; the files are mine"):
        chosen(cases, ["nobody", "nothing"])


def test_own_cases_can_be_called_and_have_sources():
    """Every case of the project: what it calls exists with these arguments, in the quick and in the full run."""
    for full in (False, True):
        cases = load(own_cases(), full)
        for case in cases:
            check(case)
        names = [(c.group, c.name) for c in cases]
        assert len(names) == len(set(names)) > 500
    covered = {c.group for c in cases}
    assert {"phase_matching", "tissue", "win_lose", "measured", "twin_beams"} < covered
    assert all("PHYSICS.md" in c.source or "reference/" in c.source or "data" in c.source for c in cases if c.full)


def test_tables_have_the_columns_they_say():
    for path in TABLES.glob("*.csv"):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        assert len({len(line.split(",")) for line in lines}) == 1 and len(lines) > 2, path.name
    assert "pick" in KEYS
