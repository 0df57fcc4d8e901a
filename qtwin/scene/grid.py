"""The object as the light meets it: a transmission map that is continuous in position."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Grid(NamedTuple):
    """Intensity transmission at cell centres, [rows, columns] = [y, x], centred on the axis."""

    values: jax.Array
    cell: jax.Array  # side of a cell, m


def padded(grid: Grid) -> Grid:
    """The grid inside one ring of clear cells: what lies outside the object transmits everything."""
    return Grid(jnp.pad(grid.values, 1, constant_values=1), grid.cell)


def look_up(grid: Grid, x, y):
    """Bilinear transmission of a `padded` grid at positions (x, y) in m; elementwise, continuous."""
    rows, columns = grid.values.shape
    cx = jnp.clip(x / grid.cell + (columns - 1) / 2, 0, columns - 1)
    cy = jnp.clip(y / grid.cell + (rows - 1) / 2, 0, rows - 1)
    ix = jnp.clip(jnp.floor(cx), 0, columns - 2)
    iy = jnp.clip(jnp.floor(cy), 0, rows - 2)
    fx, fy = cx - ix, cy - iy
    corner = iy.astype(jnp.int32) * columns + ix.astype(jnp.int32)
    flat = grid.values.reshape(-1)

    def at(offset):
        return jnp.take(flat, corner + offset, mode="clip")

    top = at(0) * (1 - fx) + at(1) * fx
    low = at(columns) * (1 - fx) + at(columns + 1) * fx
    return top * (1 - fy) + low * fy


def pixel_means(values, fine: int):
    """Mean over ``fine`` x ``fine`` cells: [n fine, n fine] -> [n, n]."""
    n = values.shape[0] // fine
    return values.reshape(n, fine, n, fine).mean(axis=(1, 3))
