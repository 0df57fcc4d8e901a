"""Every notebook runs as it is stored, and is stored with what it printed and drew."""

import os

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def read(path):
    return nbformat.read(path, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_is_a_notebook():
    assert NOTEBOOKS


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs_in_an_empty_folder(path, tmp_path):
    notebook = read(path)
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(tmp_path)}},
    )
    environment = {
        "PYTHONPATH": str(ROOT),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "XLA_FLAGS": "--xla_backend_optimization_level=0",  # most of the time is compilation
    }
    client.execute(env=os.environ | environment)
    assert not list(tmp_path.iterdir()), "a tutorial leaves nothing behind"
    stored, now = ([len(c.outputs) > 0 for c in code(n)] for n in (read(path), notebook))
    assert stored == now, "the stored outputs are not those of these cells: execute the notebook and store it"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_stored_with_its_outputs(path):
    notebook = read(path)
    cells = code(notebook)
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1)), "executed once, from top to bottom"
    outputs = [out for c in cells for out in c.outputs]
    assert not [out for out in outputs if out.output_type == "error" or out.get("name") == "stderr"]
    assert any("image/png" in out.get("data", {}) for out in outputs)
    assert any(out.output_type == "stream" for out in outputs)
    assert path.stat().st_size < 400_000
    assert notebook.metadata.kernelspec.name == "python3"
    assert not any(cell.metadata for cell in notebook.cells), "no timings"
