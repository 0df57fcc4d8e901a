"""The whole suite runs in float64 with strict promotion of types and ranks."""

import os
import sys
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # one test process per core; before numpy is imported

import jax
import pytest
from absl import logging as absl_logging

# optax brings a log handler that closes the stderr it was born with when Hydra sets up logging: pytest's own
absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items):
    """Tests of the whole twin first: they take longest, and one of them must not be what everybody waits for."""
    items.sort(key=lambda item: item.path.parent != ROOT / "tests")


@pytest.fixture(scope="module", autouse=True)
def compiled_functions_are_let_go():
    """A worker that compiles for an hour is otherwise killed by the kernel's limit of mapped places."""
    yield
    from qtwin.sweep import make_room

    make_room()


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """Published tables and measured data, not part of the repository."""
    folder = Path(os.environ.get("QTWIN_REFERENCE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no reference data at {folder} (set QTWIN_REFERENCE_DATA)")
    return folder


@pytest.fixture
def small_conf(tmp_path) -> Path:
    """A folder of options in which every element is a coherent source: quick to build, and with known keys."""
    folder = tmp_path / "small"
    names = [
        *("source/spdc_bbo", "source/coherent", "optics/far_field", "scene/lesion", "scene/picture"),
        *(
            "tissue/breast",
            "tissue/skin",
            "detector/spcm_aqrh_14",
            "detector/proem_hs_1024bx3",
            "correlation/coincidence",
        ),
    ]
    for name in names:
        file = folder / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        text = "_target_: qtwin.source.Coherent\nwavelength: 810 nm\nreference:\n  wavelength: a catalogue\n"
        file.write_text(text + ("file: ???\n" if name == "scene/picture" else ""))
    (folder / "estimator").mkdir()
    (folder / "estimator" / "all.yaml").write_text("ghost:\n  _target_: qtwin.estimator.Ghost\n")
    return folder
