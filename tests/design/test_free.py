"""Free parameters: bijections, bounds, and where they stand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qtwin.core.errors import UserError
from qtwin.core.params import efficiency, param, positive, real
from qtwin.design.free import Free, leaf, parameter, put

METRES, PART = param("m", positive, "a length").metadata, param("", efficiency, "a part").metadata
PLACE = param("m", real, "a place").metadata


@pytest.mark.parametrize(
    ("field", "bounds", "start"),
    [
        (METRES, None, 3e-3),
        (METRES, ["1 mm", "1 m"], 3e-3),
        (PART, None, 0.7),
        (PLACE, None, -2.0),
        (PLACE, [-5, 4], -2.0),
    ],
)
def test_a_bijection_and_its_inverse(field, bounds, start):
    p = parameter("a.b", field, start, bounds)
    z = p.free(jnp.asarray(start))
    assert float(p.constrain(z)) == pytest.approx(start, rel=1e-12)
    for far in (-30.0, 30.0):
        assert p.low <= float(p.constrain(jnp.asarray(far))) <= p.high
    step = 1e-6
    slope = float(jax.grad(p.constrain)(z))
    assert slope == pytest.approx(float(p.constrain(z + step) - p.constrain(z - step)) / (2 * step), rel=1e-8)
    assert slope > 0


def test_equal_ratios_between_bounds_of_a_length():
    p = parameter("a.b", METRES, 0.1, ["1 mm", "10 m"])
    assert float(p.constrain(jnp.asarray(0.0))) == pytest.approx(0.1)  # the geometric mean


@pytest.mark.parametrize(
    ("field", "start", "bounds", "words"),
    [
        (METRES, 3e-3, ["4 mm", "5 mm"], r"a\.b: starts at 3 mm, accepted is a start inside its bounds, 4 mm to 5 mm"),
        (METRES, 3e-3, ["-1 mm", "5 mm"], r"a\.b: got a bound of -1 mm, accepted is a value greater than 0"),
        (METRES, 3e-3, ["5 mm", "1 mm"], r"a\.b: got bounds 5 mm to 1 mm, accepted is low before high"),
        (METRES, 3e-3, "5 mm", r"a\.b: got bounds '5 mm', accepted is \[low, high\]"),
        (PART, 1.0, None, r"a\.b: starts at 1, accepted is a start inside its bounds, 0 to 1"),
    ],
)
def test_bounds_that_are_refused(field, start, bounds, words):
    with pytest.raises(UserError, match=words):
        parameter("a.b", field, start, bounds)


def test_places_of_layers_and_names():
    tree = {"tissue": {"mu_s": jnp.asarray([1.0, 2.0])}}
    moved = put(tree, "tissue.mu_s.1", 5.0)
    assert float(leaf(moved, "tissue.mu_s.1")) == 5.0 and float(leaf(tree, "tissue.mu_s.1")) == 2.0
    free = Free((parameter("tissue.mu_s.1", METRES, 2.0), parameter("tissue.mu_s.0", METRES, 1.0)))
    np.testing.assert_allclose(free.values(moved), [5.0, 1.0])
    there = free.put(tree, free.constrain(free.free(jnp.asarray([7.0, 8.0]))))
    np.testing.assert_allclose(there["tissue"]["mu_s"], [8.0, 7.0], rtol=1e-12)
