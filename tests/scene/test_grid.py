"""Slopes of the object's map, and of its product over several crossings, against differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qtwin.scene.grid import Grid, look_up, padded
from qtwin.tissue.crossings import through

GRID = padded(Grid(jax.random.uniform(jax.random.key(0), (6, 9)), jnp.asarray(0.7)))
X, Y = 6.0 * jax.random.uniform(jax.random.key(1), (2, 4000), minval=-1.0)


@pytest.mark.parametrize("which", ["x", "y", "cell"])
def test_slopes_of_the_map_inside_and_beyond_it(which):
    def read(step):
        moved = {"x": X, "y": Y, "cell": GRID.cell}
        moved[which] = moved[which] + step
        return look_up(Grid(GRID.values, moved["cell"]), moved["x"], moved["y"])

    step = 1e-7
    found = jax.jvp(read, (jnp.asarray(0.0),), (jnp.asarray(1.0),))[1]
    assert np.abs(found).max() > 0.5
    np.testing.assert_allclose(found, (read(step) - read(-step)) / (2 * step), atol=2e-6)


def test_slopes_by_the_values():
    def read(values):
        return jnp.sum(jnp.sin(look_up(Grid(values, GRID.cell), X, Y)))

    found, step = jax.grad(read)(GRID.values), 1e-6
    at = jnp.zeros_like(GRID.values).at[3, 4].set(step)
    assert float(found[3, 4]) == pytest.approx(
        float(read(GRID.values + at) - read(GRID.values - at)) / (2 * step), rel=1e-6
    )


def test_product_over_crossings_with_opaque_cells():
    """Zero, one and two opaque factors: where one is opaque, the derivative is that factor's times all others."""
    values = GRID.values.at[2:5, 3:5].set(0.0)
    x, y = jnp.asarray([[0.3, -1.2], [-0.1, 0.8], [1.1, 0.2]]), jnp.asarray([[0.2], [-0.9], [0.5]])
    shifts = jax.random.uniform(jax.random.key(3), (3, 5, 2), minval=-1.5, maxval=1.5)
    crossings = jnp.asarray([1, 3, 5])

    def plain(step):
        t = [look_up(Grid(values, GRID.cell), x[r] + step + shifts[r, i, 0], y[r] + shifts[r, i, 1]) for r, i in places]
        return jnp.stack(
            [jnp.prod(jnp.stack([f for f, (q, _) in zip(t, places, strict=True) if q == r]), 0) for r in range(3)]
        )

    def ours(step):
        return through(Grid(values, GRID.cell), x + step, y, shifts, crossings)[:, 0]

    places = [(r, i) for r in range(3) for i in range(int(crossings[r]))]
    one = jnp.asarray(1.0)
    for step in jnp.linspace(-1.0, 1.0, 9):
        (a, da), (b, db) = (jax.jvp(f, (step,), (one,)) for f in (plain, ours))
        np.testing.assert_allclose(b, a, atol=1e-14)
        np.testing.assert_allclose(db, da, atol=1e-12)
    back = jax.jacrev(lambda step: jnp.sum(ours(step)))(jnp.asarray(0.1))
    assert float(back) == pytest.approx(float(jnp.sum(jax.jvp(ours, (jnp.asarray(0.1),), (one,))[1])), rel=1e-12)


def test_a_lattice_is_its_positions_one_by_one():
    """A row of x and a column of y, on a map that is not square, with slopes by both."""
    x, y = jnp.linspace(-4, 4, 5)[None, :], jnp.linspace(-3, 2, 7)[:, None]

    def wide(a):
        return jnp.broadcast_to(a, (7, 5))

    def slopes(x, y):
        return jax.jvp(
            lambda a, b: look_up(GRID, x + a, y + b), (jnp.asarray(0.0),) * 2, (jnp.asarray(1.0), jnp.asarray(0.3))
        )

    for a, b in zip(slopes(x, y), slopes(wide(x), wide(y)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_many_crossings_are_followed_in_groups():
    """Room for 96 crossings, of which 2, 32, 33 and 70 are there: product by hand, derivatives both ways."""
    there = np.array([2, 32, 33, 70])
    x, y = jnp.linspace(-1, 1, 4)[:, None], jnp.linspace(-1.2, 0.9, 4)[:, None]
    shifts = jax.random.uniform(jax.random.key(5), (4, 96, 2), minval=-1.5, maxval=1.5)

    def plain(step):
        t = look_up(GRID, x + step + shifts[..., 0], y + shifts[..., 1])
        return jnp.prod(jnp.where(np.arange(96)[None, :] < there[:, None], t, 1.0), axis=1)

    def ours(step):
        return through(GRID, x + step, y, shifts, jnp.asarray(there))[:, 0, 0]

    at = jnp.asarray(0.05)
    for a, b in zip(
        jax.jvp(plain, (at,), (jnp.ones_like(at),)), jax.jvp(ours, (at,), (jnp.ones_like(at),)), strict=True
    ):
        np.testing.assert_allclose(b, a, rtol=1e-10)
    np.testing.assert_allclose(jax.jacrev(ours)(at), jax.jacrev(plain)(at), rtol=1e-10)
