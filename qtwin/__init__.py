"""qtwin: a differentiable digital twin of quantum imaging.

Heavy packages are imported on first use, so that ``qtwin --help`` answers at once.
"""

from importlib import import_module

__version__ = "0.1.0"

_PUBLIC = {
    "Twin": "qtwin.twin",
    "twin_from": "qtwin.twin",
    "compose": "qtwin.core.config",
    "build": "qtwin.core.config",
    "compare": "qtwin.benchmark.compare",
    "sensitivity": "qtwin.design.sensitivity",
    "UserError": "qtwin.core.errors",
}


def __getattr__(name):
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'qtwin' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_PUBLIC])
