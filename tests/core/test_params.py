"""One declaration per parameter: check, bijection, printing."""

import jax
import jax.numpy as jnp
import pytest

from qtwin.core.errors import FieldError
from qtwin.core.params import (
    Element,
    anisotropy,
    describe,
    efficiency,
    fraction,
    index,
    nonnegative,
    param,
    parameters,
    positive,
    real,
    static,
)


class Plate(Element):
    thickness: jax.Array = param("m", positive, "thickness", per_layer=True)
    g: jax.Array = param("", anisotropy, "mean cosine", default=0.9)
    pixels: int = static("pixels", default=4)


@pytest.mark.parametrize(
    ("support", "inside", "outside"),
    [
        (real, [-3.0, 0.0, 7.0], []),
        (positive, [1e-300, 5.0], [0.0, -1.0]),
        (nonnegative, [0.0, 5.0], [-1e-9]),
        (fraction, [0.0, 1.0], [-0.1, 1.1]),
        (efficiency, [1e-3, 1.0], [0.0, 1.001]),
        (anisotropy, [-0.999, 0.95], [-1.0, 1.0]),
        (index, [1.0, 1.5], [0.99]),
    ],
    ids=lambda value: getattr(value, "words", None),
)
def test_supports(support, inside, outside):
    assert all(support.contains(x) for x in inside)
    assert not any(support.contains(x) for x in [*outside, float("nan"), float("inf")])
    assert not support.contains([*inside, float("nan")])


@pytest.mark.parametrize("support", [real, positive, fraction, anisotropy, index], ids=lambda s: s.words)
def test_bijection(support):
    free = jnp.array([-2.5, 0.3, 1.7])
    value = support.constrain(free)
    assert support.contains(value)
    assert jnp.allclose(support.free(value), free, rtol=1e-12)
    slope = jax.vmap(jax.grad(support.constrain))(free)
    step = 1e-6
    difference = (support.constrain(free + step) - support.constrain(free - step)) / (2 * step)
    assert jnp.all(slope > 0) and jnp.allclose(slope, difference, rtol=1e-7)


def test_values_are_strongly_typed_si_arrays():
    plate = Plate("3 mm")
    assert plate.thickness == 3e-3 and plate.thickness.dtype == jnp.float64
    assert not plate.thickness.weak_type and not plate.g.weak_type
    assert Plate(["1 mm", "2 m"]).thickness.tolist() == [1e-3, 2.0]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("thickness", "3 kg", ["'3 kg'", "a length"]),
        ("thickness", "-3 mm", ["-3 mm", "greater than 0"]),
        ("thickness", ["1 mm", "0 m"], ["[1 mm, 0 m]", "greater than 0"]),
        ("thickness", None, ["nothing"]),
        ("thickness", [], ["at least one value"]),
        ("g", [0.1, 0.2], ["[0.1, 0.2]", "one value"]),
        ("g", 1, ["got 1", "between -1 and 1"]),
        ("g", float("nan"), ["nan"]),
    ],
)
def test_messages(field, value, words):
    with pytest.raises(FieldError) as raised:
        Plate(**{"thickness": "1 mm", field: value})
    line = str(raised.value.within("tissue.layer"))
    assert line.startswith(f"tissue.layer.{field}: ") and all(word in line for word in words)


def test_a_plate_is_a_tree_of_its_traced_parameters():
    plate = Plate("3 mm")
    assert list(parameters(plate)) == ["thickness", "g"]
    gradient = jax.grad(lambda p: p.thickness**2 * p.g)(plate)
    assert gradient.thickness == pytest.approx(2 * 3e-3 * 0.9) and gradient.g == pytest.approx(9e-6)
    leaves, tree = jax.tree.flatten(plate)
    assert len(leaves) == 2 and jax.tree.unflatten(tree, leaves).pixels == 4


def test_describe():
    assert describe(Plate("3 mm")).splitlines() == ["Plate", "  thickness = 3 mm", "  g = 0.9", "  pixels = 4"]
