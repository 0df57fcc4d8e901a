"""The object as the light meets it: a transmission map that is continuous in position."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero


class Grid(NamedTuple):
    """Intensity transmission at cell centres, [rows, columns] = [y, x], centred on the axis."""

    values: jax.Array
    cell: jax.Array  # side of a cell, m


def padded(grid: Grid) -> Grid:
    """The grid inside one ring of clear cells: what lies outside the object transmits everything."""
    return Grid(jnp.pad(grid.values, 1, constant_values=1), grid.cell)


def _place(grid: Grid, x, y):
    """Number of the cell above and left of a position, and how far on it lies towards the next, 0 to 1, in x and y."""
    rows, columns = grid.values.shape
    cx = jnp.clip(x / grid.cell + (columns - 1) / 2, 0, columns - 1)
    cy = jnp.clip(y / grid.cell + (rows - 1) / 2, 0, rows - 1)
    ix = jnp.clip(jnp.floor(cx), 0, columns - 2)
    iy = jnp.clip(jnp.floor(cy), 0, rows - 2)
    return iy.astype(jnp.int32) * columns + ix.astype(jnp.int32), cx - ix, cy - iy


def _corners(values, corner):
    """Values of the four cells about a position: above left, above right, below left, below right."""
    flat, columns = values.reshape(-1), values.shape[1]
    return [jnp.take(flat, corner + offset, mode="clip") for offset in (0, 1, columns, columns + 1)]


def _bilinear(corners, fx, fy):
    a, b, c, d = corners
    return (a * (1 - fx) + b * fx) * (1 - fy) + (c * (1 - fx) + d * fx) * fy


@jax.custom_jvp
def look_up(grid: Grid, x, y):
    """Bilinear transmission of a `padded` grid at positions (x, y) in m; elementwise, continuous.

    ``x`` and ``y`` broadcast against each other: a lattice of positions is a row and a column.
    """
    corner, fx, fy = _place(grid, x, y)
    return _bilinear(_corners(grid.values, corner), fx, fy)


@partial(look_up.defjvp, symbolic_zeros=True)
def _look_up_jvp(primals, tangents):
    """Slopes between the four cells; 0 beyond the ring, where nothing changes."""
    (grid, x, y), (dgrid, dx, dy) = primals, tangents
    corner, fx, fy = _place(grid, x, y)
    a, b, c, d = corners = _corners(grid.values, corner)
    across, down = (b - a) * (1 - fy) + (d - c) * fy, (c - a) * (1 - fx) + (d - b) * fx
    value = _bilinear(corners, fx, fy)
    change = jnp.zeros_like(value)
    for slope, place, moved, n in (
        (across, x, dx, grid.values.shape[1]),
        (down, y, dy, grid.values.shape[0]),
    ):
        cells = jnp.zeros_like(place)  # by which the place moves
        if not isinstance(moved, SymbolicZero):
            cells = cells + moved / grid.cell
        if not isinstance(dgrid.cell, SymbolicZero):
            cells = cells - place / grid.cell**2 * dgrid.cell
        if not (isinstance(moved, SymbolicZero) and isinstance(dgrid.cell, SymbolicZero)):
            change = change + slope * jnp.where(jnp.abs(place) < (n - 1) / 2 * grid.cell, cells, 0)
    if not isinstance(dgrid.values, SymbolicZero):
        change = change + _bilinear(_corners(dgrid.values, corner), fx, fy)
    return value, change


def pixel_means(values, fine: int):
    """Mean over ``fine`` x ``fine`` cells: [n fine, n fine] -> [n, n]."""
    n = values.shape[0] // fine
    return values.reshape(n, fine, n, fine).mean(axis=(1, 3))
