"""What a point of a sweep holds of an earlier configuration: kept aside until there is something in its place.

Files move one by one, the result last of all where they come back and first where they go: at any moment the folder has
one whole result, or what was set aside is still there.
"""

from pathlib import Path
from shutil import rmtree

from qtwin.io.results import RESULT

BEFORE, REPORT = ".before", "report.html"
STAYS = ("run.log", "log.jsonl", "error.txt")  # beside Hydra's own and the claim, which are hidden


def whole(folder: Path) -> bool:
    """Whether a run has written all of its results there: the report comes last."""
    return (folder / RESULT).exists() and (folder / REPORT).exists()


def _results(folder: Path) -> list[Path]:
    """Everything but the result, and the result last."""
    found = [p for p in folder.iterdir() if not p.name.startswith(".") and p.name not in STAYS]
    return sorted(found, key=lambda p: (p.name == RESULT, p.name))


def _move(path: Path, folder: Path) -> None:
    there = folder / path.name
    if there.is_dir():
        rmtree(there)
    path.replace(there)


def set_aside(folder: Path) -> None:
    """Move the results of ``folder`` out of the way of another configuration's."""
    results = _results(folder)
    if results:
        (folder / BEFORE).mkdir(exist_ok=True)
    for path in reversed(results):
        _move(path, folder / BEFORE)


def settle(folder: Path) -> None:
    """Forget what was set aside where a whole result has taken its place, else put it back."""
    aside = folder / BEFORE
    if not aside.exists():
        return
    if not whole(folder):
        for path in _results(aside):
            _move(path, folder)
    rmtree(aside)
