"""One clear line for everything that can go wrong without being a mistake of the program."""

import re
from traceback import walk_tb

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError

from qtwin.core.config import options
from qtwin.core.errors import FieldError, UserError

_MEMORY = "RESOURCE_EXHAUSTED"


def explain(error: BaseException) -> str | None:
    """The line, or None when `error` is not expected and its traceback must be seen."""
    if isinstance(error, OverrideParseException):
        return (
            f"cannot read the override {error.override!r}; a value with special characters wants quotes inside "
            f"the quotes of the shell, as in 'tissue.mu_a=\"0.1 /cm\"'"
        )
    if isinstance(error, MissingConfigException):
        return _missing(error)
    if isinstance(error, MarkedYAMLError):
        return _line(str(error))
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return _of_user(error) or _composition(error)
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):
        what = error.strerror or _line(str(error))
        return f"{what}: {error.filename}" if error.filename else what
    if isinstance(error, ValueError) and _raised_in_hydra(error):
        return _line(str(error))
    if isinstance(error, MemoryError) or _MEMORY in str(error):
        return "out of memory; give a smaller memory_limit or fewer photons (walk.photons)"
    return None


def _line(text: str) -> str:
    return " ".join(text.split())


def _raised_in_hydra(error: Exception) -> bool:
    """Hydra refuses some arguments with a bare ValueError."""
    *_, (frame, _) = walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).startswith("hydra.")


def _missing(error: MissingConfigException) -> str:
    found = re.search(r"[Cc]ould not find '([^']+)'|[Cc]annot find .*?'([^']+)'", str(error))
    name = error.missing_cfg_file or (found and (found[1] or found[2])) or "?"
    known = error.options or options(str(name).rpartition("/")[0])  # Hydra lists none for an entry of a list
    return f"could not find {name!r}" + (f", available: {', '.join(known)}" if known else "")


def _of_user(error: Exception) -> str | None:
    """A resolver's own UserError, which OmegaConf has wrapped."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            key = None if isinstance(cause, FieldError) else getattr(error, "full_key", None)
            return f"{key}: {cause}" if key else str(cause)
        cause = cause.__cause__ or cause.__context__
    return None


def _composition(error: Exception) -> str:
    """First line of Hydra's message, and the one of its cause that names the key."""
    text = str(error).split("Config search path")[0]
    if found := re.search(r"Could not override '([^']+)'", text):
        parent = getattr(error.__cause__, "parent_node", None)
        accepted = f", accepted are {', '.join(map(str, parent))}" if parent else ""
        return f"unknown key or group {found[1]!r}{accepted}"
    if found := re.search(r"Ambiguous value for argument '(([^=]+)=(.*))'", text):
        return f"{found[1]!r} has several values: add -m to sweep over them, or write a list, '{found[2]}=[{found[3]}]'"
    if found := re.search(r"Missing mandatory value: \S+\s+full_key: (\S+)", text):
        return f"{found[1]}: not given, and there is no default"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    keys = [line for line in lines[1:] if line.startswith("full_key:")]
    first = lines[0] if lines else type(error).__name__
    return _line(" ".join([first, *(f"(key {key.removeprefix('full_key:').strip()})" for key in keys)]))
