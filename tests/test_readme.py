"""Every command of the README and of the studies composes: no key that is not there, no option of another name."""

import re
import shlex

import pytest
from conftest import ROOT

from qtwin.cli import main

PAGES = [ROOT / "README.md", *sorted((ROOT / "experiments").glob("*/README.md"))]
BLOCKS = [block for page in PAGES for block in re.findall(r"```\w*\n(.*?)```", page.read_text(), re.DOTALL)]
LINES = "\n".join(BLOCKS).replace("\\\n", " ").splitlines()
COMMANDS = [line for line in LINES if re.match(r"qtwin (benchmark|map|design|source|transport|calibrate) ", line)]


def test_there_are_commands():
    assert len(COMMANDS) > 38 and any("-m" in c for c in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_composes(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, name, *words = shlex.split(command, comments=True)
    if "-m" in words:  # one point of the sweep
        words = [re.sub(r",.*", "", w) if re.match(r"[\w.@]+=[^\[{]", w) else w for w in words if w != "-m"]
    words = [w for i, w in enumerate(words) if "--config-dir" not in (w, words[i - 1] if i else "")]
    words = [w for w in words if w != "experiment=optimum" and not re.match(r"hydra|.*=interval", w)]
    assert main([name, *words, "--cfg", "job"]) == 0, capsys.readouterr().err
