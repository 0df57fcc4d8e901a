"""Stands in for the comparison and the report, so that the command line is tested in seconds."""

import time
from types import ModuleType

import numpy as np

from qtwin.core.errors import UserError


class Comparison:
    def __init__(self, source):
        self.source = source

    def figures(self):
        return {"ghost": {"cnr": {"value": 1.5, "stderr": 0.1, "unit": ""}}}

    def arrays(self):
        return {"image": (np.eye(2), ("y", "x"), "1/m", {"x": (np.array([0.0, 1.0]), "m")})}

    def table(self):
        return "the table"

    def verdicts(self):
        return {"ghost": "no difference at this budget"}

    def swept(self):
        return float(self.source.wavelength)


def compare(*, source, settings, progress, **others):
    """Seeds from 13 on stand for the ways to fail."""
    progress("walking", photons=settings.walk_photons)
    failures = {
        13: UserError("seed: 13 is unlucky"),
        14: MemoryError(),
        15: OSError(28, "No space left on device", "arrays.h5"),
        16: RuntimeError("a bug"),
    }
    if settings.seed in failures:
        raise failures[settings.seed]
    if settings.seed == 17:
        time.sleep(60)
    return Comparison(source)


def write(folder, comparison, cfg):
    (folder / "report.html").write_text("report")
    return []


def put_in_place(modules):
    """Into `modules`, which is `sys.modules` or pytest's way to change it for one test."""
    for name, content in {"qtwin.benchmark.compare": compare, "qtwin.report.page": write}.items():
        module = ModuleType(name)
        setattr(module, content.__name__, content)
        modules(name, module)
