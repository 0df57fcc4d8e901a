"""Gradients of an objective of the twin, with standard errors from the independent blocks of the walk."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from qtwin.core.errors import UserError
from qtwin.core.params import Element, parameters
from qtwin.tissue import Walk
from qtwin.tissue.images import Images
from qtwin.twin import Twin


class Sensitivity(NamedTuple):
    """Objective and its derivative by one field, with standard errors; per layer where the field is."""

    objective: jax.Array
    objective_stderr: jax.Array
    gradient: jax.Array
    gradient_stderr: jax.Array


def field(twin: Twin, path: str) -> jax.Array:
    """The traced parameter at a dotted path, such as 'tissue.mu_s'. UserError names what exists."""
    *places, name = path.split(".")
    element: Element | None = twin
    for place in places:
        element = getattr(element, place, None)
    if not isinstance(element, Element) or name not in parameters(element):
        known = [f"{e}.{p}" for e in ("source", "optics", "tissue") for p in parameters(getattr(twin, e))]
        raise UserError(f"{path}: not a traced parameter of the twin; among them are {', '.join(known)}")
    return getattr(element, name)


def put(twin: Twin, path: str, value) -> Twin:
    """The twin with another value at a dotted path."""

    def at(tree):
        for place in path.split("."):
            tree = getattr(tree, place)
        return tree

    return eqx.tree_at(at, twin, value)


def _outside(values: Images) -> Images:
    """Means over all blocks but one, [BLOCKS, ...]."""

    def without(a):
        return (jnp.sum(a, axis=0, keepdims=True) - a) / (a.shape[0] - 1)

    return jax.tree.map(without, values)


def _spread(values):
    count = values.shape[0]
    return jnp.sqrt((count - 1) / count * jnp.sum((values - jnp.mean(values, axis=0)) ** 2, axis=0))


def sensitivity(
    objective: Callable[[Twin, Images], jax.Array], twin: Twin, walk: Walk, paths: Sequence[str]
) -> dict[str, Sensitivity]:
    """d objective(twin, images)/d field for every path, and its standard error.

    ``objective`` takes the twin and mean images (no block axis) and returns a scalar; `Twin.moments` turns
    images into counts. One forward derivative of the images per number; the error is the jackknife over
    the blocks of the walk, so that ratios are treated as consistently as means. The gradient equals
    `jax.grad` of objective(twin, mean of twin.blocks(walk)).
    """
    numbers, rest = eqx.partition(twin, eqx.is_inexact_array)
    zero = jax.tree.map(jnp.zeros_like, numbers)

    def images_of(n):
        return eqx.combine(n, rest).blocks(walk)

    def value_of(n, images):
        return objective(eqx.combine(n, rest), images)

    @jax.jit
    def slope(n, dn, images, dimages):
        return jax.jvp(value_of, (n, images), (dn, dimages))

    out = {}
    for path in paths:
        leaf = field(twin, path)
        rows = []
        for i in range(leaf.size):
            unit = jnp.zeros(leaf.size, leaf.dtype).at[i].set(1).reshape(leaf.shape)
            tangent = put(zero, path, unit)
            blocks, dblocks = jax.jvp(images_of, (numbers,), (tangent,))

            def mean(a):
                return jnp.mean(a, axis=0)

            value, gradient = slope(numbers, tangent, jax.tree.map(mean, blocks), jax.tree.map(mean, dblocks))
            pairs = jax.vmap(lambda im, dim, t=tangent: slope(numbers, t, im, dim))(_outside(blocks), _outside(dblocks))
            rows.append((value, _spread(pairs[0]), gradient, _spread(pairs[1])))
        value, error, gradient, spread = (jnp.stack(column).reshape(leaf.shape) for column in zip(*rows, strict=True))
        out[path] = Sensitivity(value.ravel()[0], error.ravel()[0], gradient, spread)
    return out
