"""Light order is import order: a room imports only what the light has passed before."""

import ast
from pathlib import Path

import qtwin

ORDER = """core modes source optics scene tissue detector correlation estimator metrics twin benchmark design calibrate
validate report job map_job design_job calibrate_job transport_job source_job correlate_job sweep info cli""".split()
ROOT = Path(qtwin.__file__).parent


def rooms(path: Path) -> set[str]:
    """Rooms of qtwin that a file imports, at whatever depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_module":
            names = [a.value for a in node.args if isinstance(a, ast.Constant)]
        found |= {n.split(".")[1] for n in names if n.startswith("qtwin.")}
    return found


def breaches(place: str, imported: set[str]) -> set[str]:
    """What ``place`` must not import. io stands on core alone; everybody after the twin may use io."""
    if place == "io":
        return imported - {"core", "io"}
    allowed = set(ORDER[: ORDER.index(place) + 1])
    if ORDER.index(place) > ORDER.index("twin"):
        allowed.add("io")
    return imported - allowed


def test_every_room_imports_only_what_lies_before_it():
    wrong = []
    for path in ROOT.rglob("*.py"):
        place = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if place != "__init__":
            wrong += [f"{path.relative_to(ROOT)} imports {b}" for b in breaches(place, rooms(path))]
    assert not wrong, "\n".join(wrong)


def test_the_reader_of_imports_sees_a_breach():
    assert breaches("source", {"core", "tissue"}) == {"tissue"}
    assert breaches("io", {"core", "twin"}) == {"twin"}
    assert "tissue" in rooms(ROOT / "twin.py")
