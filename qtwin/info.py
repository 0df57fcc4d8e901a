"""What stands behind a configuration: every parameter, its value and where the value comes from."""

import platform
from collections.abc import Iterator, Mapping, Sequence

import jax
from omegaconf import OmegaConf

import qtwin
from qtwin.core.config import check_targets, compose, plain

NO_REFERENCE = "no reference given"


def info(overrides: Sequence[str] = ()) -> str:
    """Table of key, value and reference, then versions and devices. UserError for what cannot be composed."""
    cfg = compose(overrides, hydra_node=True)
    choices: dict[str, str | None] = dict(cfg.hydra.runtime.choices)
    given = plain(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"]))
    check_targets(given)
    chosen = [f"{group}={option}" for group, option in choices.items() if option and not _is_delta(group)]
    untouched = dict(_rows(plain(compose(chosen))))
    rows = [("key", "value", "reference")]
    for key, (value, reference) in _rows(given):
        written = untouched.get(key, (None, ""))[0]
        rows.append((key, str(value), reference if value == written else f"set here (the file has {written})"))
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    table = [f"{key:<{widths[0]}}  {value:<{widths[1]}}  {reference}".rstrip() for key, value, reference in rows]
    devices = ", ".join(str(device) for device in jax.devices())
    what = f"qtwin {qtwin.__version__}, jax {jax.__version__}, Python {platform.python_version()}, devices: {devices}"
    return "\n".join([*table, "", what, ""])


def _is_delta(group: str) -> bool:
    return group.startswith("hydra/") or group == "experiment"


def _rows(node, path: str = "") -> Iterator[tuple[str, tuple]]:
    """key -> (value, reference) of every leaf; the references stand beside the values, under `reference`."""
    references = node.get("reference", {}) if "_target_" in node or not path else {}
    for key, value in node.items():
        name = f"{path}.{key}" if path else str(key)
        if key == "_target_" or (key == "reference" and path):
            continue
        if isinstance(value, Mapping):
            yield from _rows(value, name)
        else:
            reference = references.get(key, references.get("_", NO_REFERENCE)) if path else "setting of the run"
            yield name, (value, reference)
