"""From YAML to elements: composing a configuration, and building what its `_target_`s name.

Only elements of qtwin are ever built: a configuration is data, and must not be able to call anything else.
"""

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, fields
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

from qtwin.core.errors import FieldError, UserError
from qtwin.core.folders import find_conf
from qtwin.core.params import Element
from qtwin.core.units import parse

VERSION_BASE = "1.3"


def _mid(value, *, _parent_) -> float:
    """Half of a length, or of the sum of a list of them: the depth of the middle, in metres."""
    try:
        return sum(parse(layer, "m") for layer in (value if OmegaConf.is_list(value) else [value])) / 2
    except UserError as error:  # name the key that was written, not the one that follows it
        keys = [key for key in _parent_ if not OmegaConf.is_interpolation(_parent_, key) and _parent_[key] == value]
        raise FieldError(_parent_._get_full_key(keys[0]), str(error)) if keys else error from error


def _from(place: str):
    """A resolver that stands in another room: found by name when a configuration asks for it, as a `_target_` is."""

    def resolve(*args, _parent_, _root_):
        module, name = place.rsplit(".", 1)
        return getattr(import_module(module), name)(*args, parent=_parent_, root=_root_)

    return resolve


OmegaConf.register_new_resolver("mid", _mid, replace=True)
OmegaConf.register_new_resolver("optical", _from("qtwin.tissue.resolver.optical"), replace=True)


class _Overlay(SearchPathPlugin):
    """Folders of options that stand before the project's own."""

    folders: ClassVar[tuple[Path, ...]] = ()

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in reversed(self.folders):
            search_path.prepend("overlay", f"file://{folder}", "main")


Plugins.instance().register(_Overlay)


@contextmanager
def overlay(*folders: Path) -> Iterator[None]:
    """Within this context Hydra looks into `folders` first: their options are added, and win on a name clash."""
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"configuration folder {str(folder)!r} not found")
    previous, _Overlay.folders = _Overlay.folders, tuple(folder.resolve() for folder in folders)
    try:
        yield
    finally:
        _Overlay.folders = previous


def options(group: str) -> list[str]:
    """Names of the options of a group, those of the folders laid over the project's among them."""
    return sorted(
        {file.stem for folder in (find_conf(), *_Overlay.folders) for file in (folder / group).glob("*.yaml")}
    )


# mappings of a command whose keys are parameters: a name that is not there yet is added
OPEN = {"calibrate": ("prior", "bounds"), "design": ("design.bounds", "design.tolerances")}
# elements of a configuration, and the group of their options
GROUP_OF = {name: name for name in ("source", "optics", "scene", "detector", "correlation")}
GROUP_OF |= {"camera": "detector", "reference": "source"}


def _experiments(overrides: Sequence[str]) -> list[str]:
    return [name for o in overrides if o.startswith("experiment=") for name in o.split("=", 1)[1].split(",")]


def _unwritten(key: str, overrides: Sequence[str]) -> bool:
    """Whether no option of an element writes a field, nor a chosen experiment sweeps it.

    It has a default then, or `build` says that there is none.
    """
    element, _, field = key.partition(".")
    group = GROUP_OF.get(element, "")
    if not group or not field.isidentifier():
        return False
    folders = [find_conf(), *_Overlay.folders]
    options = [file for folder in folders for file in (folder / group).glob("*.yaml")]
    chosen = [folder / "experiment" / f"{name}.yaml" for folder in folders for name in _experiments(overrides)]
    places = [(rf"^{field}:", options), (rf"^\s+{element}\.{field}:", [file for file in chosen if file.is_file()])]
    return not any(re.search(line, file.read_text(), re.MULTILINE) for line, files in places for file in files)


def _known_experiments(overrides: Sequence[str]) -> None:
    """UserError for an experiment that is nowhere: to Hydra it is optional, and a misspelt one would be left out."""
    known = options("experiment")
    for name in _experiments(overrides):
        if re.fullmatch(r"[\w-]+", name) and name not in known:
            raise UserError(f"experiment: got {name!r}, accepted are {', '.join(known)}, and those of --config-dir")


def completed(overrides: Sequence[str], command: str) -> list[str]:
    """`scene.file=photo.png` alone chooses the scene that reads a file; fields with a default need no plus.

    Nor do `calibrate prior.KEY=...` and `design design.bounds.KEY=...`.
    """
    _known_experiments(overrides)
    keys = [text.split("=", 1)[0].lstrip("+~") for text in overrides]

    def added(key: str) -> bool:
        return key.startswith(OPEN.get(command, ())) or _unwritten(key, overrides)

    out = [f"++{o}" if added(o.split("=", 1)[0]) else o for o in overrides]
    chosen = "scene.file" in keys and "scene" not in keys
    return [*out, "scene=picture"] if chosen else out


def compose(
    overrides: Sequence[str] = (),
    config_dir: str | Path | None = None,
    name: str = "benchmark",
    hydra_node: bool = False,
) -> DictConfig:
    """The configuration that `qtwin <name> <overrides>` would run. `config_dir` overlays the project's conf.

    `hydra_node` keeps Hydra's own settings and choices under the key `hydra`. A Hydra application that is
    under way in this process is left as it was.
    """
    state = GlobalHydra.instance()
    running = state.hydra
    state.clear()
    try:
        with (
            overlay(*([Path(config_dir)] if config_dir else _Overlay.folders)),
            hydra.initialize_config_dir(str(find_conf()), job_name=name, version_base=VERSION_BASE),
        ):
            return hydra.compose(name, completed(overrides, name), return_hydra_config=hydra_node)
    finally:
        GlobalHydra.instance().hydra = running


def plain(cfg) -> Any:
    """A configuration as dicts, lists and scalars, interpolations resolved."""
    return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True) if OmegaConf.is_config(cfg) else cfg


def dotted(node: Mapping, leaves: Container[str] = (), path: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones, {source: {waist: ...}} as source.waist.

    A mapping that has a key of ``leaves`` is a value.
    """
    out: dict[str, Any] = {}
    for key, value in node.items():
        inner = isinstance(value, Mapping) and not any(name in leaves for name in value)
        out |= dotted(value, leaves, f"{path}{key}.") if inner else {f"{path}{key}": value}
    return out


def quantity(config: Mapping, key: str, unit: str) -> float:
    """SI value of a setting of the run. Raises FieldError that names it."""
    try:
        return parse(config[key], unit)
    except UserError as error:
        raise FieldError(key, str(error)) from error


def _within(path: str, key) -> str:
    return f"{path}.{key}" if path else str(key)


def _import_below_qtwin(name: str) -> ModuleType | None:
    """Module `name` of qtwin, or None. Looked for step by step, so that nothing outside qtwin is imported."""
    module = import_module("qtwin")
    for i in range(2, name.count(".") + 2):
        part = ".".join(name.split(".")[:i])
        if getattr(module, "__path__", None) is None or find_spec(part) is None:
            return None
        module = import_module(part)
    return module


def target(text: Any, path: str = "") -> type[Element]:
    """The element class that a `_target_` names; anything else is refused."""
    refusal = UserError(f"{_within(path, '_target_')}: got {text!r}, accepted is only a class of elements of qtwin")
    if not isinstance(text, str) or not re.fullmatch(r"qtwin(\.[A-Za-z]\w*)+", text):
        raise refusal
    place, name = text.rsplit(".", 1)
    module = _import_below_qtwin(place)
    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, Element) and found.__module__.startswith("qtwin.")):
        raise refusal
    return found


def check_targets(node, path: str = "") -> None:
    """Refuse a configuration that names anything but elements of qtwin, before any of it is built."""
    node = plain(node)
    if isinstance(node, Mapping):
        if "_target_" in node:
            target(node["_target_"], path)
        for key, value in node.items():
            if key != "_target_":
                check_targets(value, _within(path, key))
    elif isinstance(node, list):
        for i, value in enumerate(node):
            check_targets(value, f"{path}[{i}]")


def build(node, path: str = "") -> Any:
    """A mapping with `_target_` becomes that element, its parts first; lists become tuples.

    `path` is where the node stands in the configuration, for messages. The key `reference` (field -> citation)
    documents the file and is dropped.
    """
    node = plain(node)
    check_targets(node, path)
    return _build(node, path)


def _build(node, path: str) -> Any:
    if isinstance(node, list):
        return tuple(_build(value, f"{path}[{i}]") for i, value in enumerate(node))
    if not isinstance(node, dict):
        return node
    if "_target_" not in node:
        return {key: _build(value, _within(path, key)) for key, value in node.items()}
    cls = target(node["_target_"], path)
    values = {key: value for key, value in node.items() if key not in ("_target_", "reference")}
    accepted = {f.name: f for f in fields(cls) if f.init}
    for key, value in values.items():
        if key not in accepted:
            raise UserError(f"{_within(path, key)}: unknown key (given: {value!r}), accepted are {', '.join(accepted)}")
    for key, f in accepted.items():
        if key not in values and f.default is MISSING and f.default_factory is MISSING:
            raise UserError(f"{_within(path, key)}: not given ({f.metadata.get('doc', 'required')})")
    try:
        return cls(**{key: _build(value, _within(path, key)) for key, value in values.items()})
    except FieldError as error:
        raise error.within(path) from error
