"""Results are written whole or not at all, and hold no number that is not one."""

import json
from hashlib import sha256

import h5py
import jax.numpy as jnp
import numpy as np
import pytest

from qtwin.core.errors import UserError
from qtwin.io.results import config_hash, files, read_result, strict, write_arrays, write_result


def test_round_trip(tmp_path):
    leaf = {"value": jnp.float32(0.1), "stderr": np.float64(0.2), "unit": "1/m"}
    undefined = {"value": None, "reason": "no coincidences", "unit": ""}
    path = write_result(tmp_path, {"figures": {"a": leaf, "b": undefined}, "pair": (1, np.int64(2**60))})
    assert read_result(tmp_path)["figures"]["b"] == undefined
    assert strict({"value": None})["reason"]
    assert read_result(tmp_path)["pair"] == [1, 2**60]
    assert "µ" in write_result(tmp_path, {"unit": "µm"}).read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"figures": {"cnr": {"value": float("nan")}}}, "figures.cnr.value: the result is nan"),
        ({"figures": {"cnr": {"value": 1.0, "stderr": jnp.inf}}}, "figures.cnr.stderr: the result is inf"),
        ({"list": [1.0, np.float32("-inf")]}, r"list\[1\]: the result is -inf"),
        ({"array": jnp.array([[0.0, jnp.nan]])}, r"array\[0\]\[1\]"),
    ],
)
def test_what_is_no_number_is_refused_and_leaves_no_trace(tmp_path, bad, words):
    write_result(tmp_path, {"kept": 1})
    with pytest.raises(UserError, match=words):
        write_result(tmp_path, bad)
    assert read_result(tmp_path) == {"kept": 1} and len(list(tmp_path.iterdir())) == 1


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    write_result(tmp_path, {"kept": 1})
    monkeypatch.setattr("os.fsync", lambda number: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_result(tmp_path, {"kept": 2})
    with pytest.raises(OSError, match="No space"):
        write_arrays(tmp_path, {"a": (np.ones(2), ("x",), "m", {})})
    assert read_result(tmp_path) == {"kept": 1} and len(list(tmp_path.iterdir())) == 1


def test_a_strange_object_is_a_mistake_of_the_program():
    with pytest.raises(TypeError, match="here: set"):
        strict({"here": {1}})


def test_reading_nothing_and_nonsense(tmp_path):
    with pytest.raises(UserError, match="no result here"):
        read_result(tmp_path)
    (tmp_path / "result.json").write_text('{"half":')
    with pytest.raises(UserError, match="not a result"):
        read_result(tmp_path)


def test_configuration_hash():
    one = {"a": 1, "b": {"c": "3 mm"}}
    assert config_hash(one) == config_hash(json.loads('{"b": {"c": "3 mm"}, "a": 1}'))
    assert config_hash(one) != config_hash({"a": 1, "b": {"c": "3  mm"}}) and len(config_hash(one)) == 64


def test_configuration_hash_holds_the_content_of_files(tmp_path):
    picture = tmp_path / "own.npy"
    picture.write_bytes(b"one")
    config = {"scene": {"file": str(picture)}}
    before = config_hash(config)
    assert files(config) == {"scene.file": sha256(b"one").hexdigest()}
    picture.write_bytes(b"two")
    assert config_hash(config) != before and files({"scene": {"file": "absent"}}) == {}


def test_arrays_carry_units_and_named_coordinates(tmp_path):
    x, y = np.array([0.0, 1.0, 2.5]), np.array([-1.0, 4.0])
    finer = np.linspace(0, 1, 5)
    path = write_arrays(
        tmp_path,
        {
            "image": (np.arange(6.0).reshape(2, 3), ("y", "x"), "1/m", {"x": (x, "m"), "y": (y, "m")}),
            "mask": (np.array([[True, False, True]] * 2), ("y", "x"), "", {"x": (x, "m"), "y": (y, "m")}),
            "arm/profile": (np.ones(5), ("x",), "Hz", {"x": (finer, "m")}),
            "spectrum": (np.ones((2, 7)), ("y", "bin"), "", {"y": (y, "m")}),
        },
    )
    with h5py.File(path) as file:
        assert file["image"].attrs["units"] == "1/m" and file["image"][1, 2] == 5.0
        for name, dims in {
            "image": ["y", "x"],
            "mask": ["y", "x"],
            "arm/profile": ["x_arm_profile"],
            "spectrum": ["y", "bin"],
        }.items():
            scales = [axis[0] for axis in file[name].dims]
            assert [scale.name.lstrip("/") for scale in scales] == dims
            assert [len(scale) for scale in scales] == list(file[name].shape)
        assert file["y"].attrs["units"] == "m" and np.array_equal(file["x_arm_profile"], finer)
        assert file["bin"].attrs["NAME"].startswith(b"This is a netCDF dimension but not a netCDF variable")
    with pytest.raises(ValueError, match="image: 2 dimensions"):
        write_arrays(tmp_path, {"image": (np.ones((2, 2)), ("x",), "", {})})
    with pytest.raises(ValueError, match="coordinates of shape"):
        write_arrays(tmp_path, {"image": (np.ones(4), ("x",), "", {"x": (x, "m")})})
