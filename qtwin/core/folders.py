"""Where the configuration stands and what it offers. Light: `qtwin --help` reads it."""

from pathlib import Path


def find_conf() -> Path:
    """`qtwin/conf` inside an installed wheel, `../conf` beside the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def options(*folders: Path) -> dict[str, list[str]]:
    """Group -> names of its options, over all `folders`; without Hydra's own groups and `qtwin validate`'s cases."""
    found: dict[str, set[str]] = {}
    for folder in folders:
        for file in folder.rglob("*.yaml"):
            group = file.parent.relative_to(folder).as_posix()
            if group not in (".", "validate") and not group.startswith("hydra"):
                found.setdefault(group, set()).add(file.stem)
    return {group: sorted(found[group]) for group in sorted(found)}
