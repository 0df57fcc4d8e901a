"""What stands behind a configuration: every parameter, its value and where the value comes from."""

import platform
from collections.abc import Iterator, Mapping, Sequence

import jax
from omegaconf import DictConfig, OmegaConf

import qtwin
from qtwin.core.config import check_targets, compose, plain, target
from qtwin.core.units import show

NO_REFERENCE = "no reference given"


def info(overrides: Sequence[str] = ()) -> str:
    """Table of key, value and reference, then versions and devices. UserError for what cannot be composed."""
    cfg = compose(overrides, hydra_node=True)
    choices: dict[str, str | None] = dict(cfg.hydra.runtime.choices)
    job = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    check_targets(job)
    chosen = [f"{group}={option}" for group, option in choices.items() if option and not _is_delta(group)]
    usual = compose(chosen)
    files, here = _raw(usual), _raw(job)  # unresolved: what follows from another key is not set here
    there = dict(_rows(OmegaConf.to_container(usual, resolve=True, throw_on_missing=False)))
    rows = [("key", "value", "reference")]
    for key, (value, reference) in _rows(plain(job)):
        written = files.get(key, (None, ""))[0]
        value, before = (_text(job, key, v) for v in (value, there.get(key, ("",))[0]))
        before = "the file has none" if before in ("???", "") else f"the file has {before}"
        rows.append((key, value, reference if here[key][0] == written else f"set here ({before})"))
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    table = [f"{key:<{widths[0]}}  {value:<{widths[1]}}  {reference}".rstrip() for key, value, reference in rows]
    devices = ", ".join(str(device) for device in jax.devices())
    what = f"qtwin {qtwin.__version__}, jax {jax.__version__}, Python {platform.python_version()}, devices: {devices}"
    return "\n".join([*table, "", what, ""])


def _text(job: DictConfig, key: str, value) -> str:
    """A number of an element with its unit; text as it was written."""
    path, _, name = key.rpartition(".")
    node = OmegaConf.select(job, path) if path else None
    if isinstance(node, DictConfig) and "_target_" in node:
        unit = target(node["_target_"]).__dataclass_fields__[name].metadata.get("unit", "")
        if isinstance(value, float):
            return show(value, unit, 6)
        if isinstance(value, list) and any(isinstance(v, float) for v in value):
            return ", ".join(show(v, unit, 6) if isinstance(v, float) else str(v) for v in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _is_delta(group: str) -> bool:
    return group.startswith("hydra/") or group == "experiment"


def _raw(cfg: DictConfig) -> dict[str, tuple]:
    return dict(_rows(OmegaConf.to_container(cfg, resolve=False)))


def _rows(node, path: str = "") -> Iterator[tuple[str, tuple]]:
    """key -> (value, reference) of every leaf; the references stand beside the values, under `reference`."""
    element = "_target_" in node
    references = node.get("reference", {}) if element else {}
    missing = references.get("_", NO_REFERENCE) if element else "setting of the run"
    for key, value in node.items():
        name = f"{path}.{key}" if path else str(key)
        if element and key in ("_target_", "reference"):
            continue
        if isinstance(value, Mapping):
            yield from _rows(value, name)
        else:
            yield name, (value, references.get(key, missing))
