"""The object as paths meet it, once or several times: the product of its transmissions in every superpixel."""

import jax
import jax.numpy as jnp
from jax import lax

from qtwin.scene.grid import Grid, look_up

GROUP = 32  # crossings that are passed over at once


def _at(grid: Grid, x, y, shift):
    """Transmission where every path [r] meets the object once, for every superpixel, [r, n, n]."""
    return look_up(grid, (x + shift[:, :1])[:, None, :], (y + shift[:, 1:])[:, :, None])


def _over_crossings(step, total, *items):
    """Fold ``step(total, present [r], *item)`` over the crossings; GROUP of them that no path reaches cost nothing."""
    *rest, crossings = items
    most = rest[0].shape[1]
    size = GROUP if most % GROUP == 0 else most

    def slot(total, item):
        present = item[-1] < crossings
        return lax.cond(jnp.any(present), lambda t: step(t, present, *item[:-1]), lambda t: t, total), None

    def group(total, item):
        # backwards a crossing is looked up again: nothing of [r, n, n] is kept beside each of them
        reached = jnp.any(item[-1][0] < crossings)
        return lax.cond(reached, lambda t: lax.scan(jax.checkpoint(slot), t, item)[0], lambda t: t, total), None

    numbers = jnp.arange(most, dtype=crossings.dtype)
    slots = (*(jnp.moveaxis(a, 1, 0) for a in rest), numbers)
    groups = jax.tree.map(lambda a: a.reshape(most // size, size, *a.shape[1:]), slots)
    return lax.scan(jax.checkpoint(group), total, groups)[0]


def _factors(grid: Grid, x, y, shifts, crossings):
    """Product of the transmissions that are not 0, and how many are, [r, n, n] each."""

    def step(total, present, shift):
        clear, zeros = total
        t = jnp.where(present[:, None, None], _at(grid, x, y, shift), 1)
        return clear * jnp.where(t == 0, 1, t), zeros + (t == 0).astype(zeros.dtype)

    shape = (x.shape[0], y.shape[1], x.shape[1])
    return _over_crossings(step, (jnp.ones(shape, x.dtype), jnp.zeros(shape, jnp.int32)), shifts, crossings)


@jax.custom_jvp
def product(grid: Grid, x, y, shifts, crossings):
    """prod_i t_i over the crossings of every path; its derivative, sum_i dt_i prod_{j != i} t_j, keeps none of them."""
    clear, zeros = _factors(grid, x, y, shifts, crossings)
    return jnp.where(zeros == 0, clear, 0)


@product.defjvp
def _product_jvp(primals, tangents):
    grid, x, y, shifts, crossings = primals
    clear, zeros = _factors(*primals)

    def step(total, present, shift, dshift):
        t, dt = jax.jvp(_at, (grid, x, y, shift), (*tangents[:3], dshift))
        others = jnp.where(
            t == 0, jnp.where(zeros == 1, clear, 0), jnp.where(zeros == 0, clear / jnp.where(t == 0, 1, t), 0)
        )
        return total + jnp.where(present[:, None, None], others * dt, 0)

    change = _over_crossings(step, jnp.zeros_like(clear), shifts, tangents[3], crossings)
    return jnp.where(zeros == 0, clear, 0), change


def through(grid: Grid, x, y, shifts, crossings):
    """Transmission of every path r seen in every superpixel, product over its crossings, [r, n, n].

    ``x``, ``y`` [r, n] where the first layer's light would be, ``shifts`` [r, most, 2] added at each crossing, m;
    ``crossings`` [r] how many there are.
    """
    if shifts.shape[1] == 1:
        return _at(grid, x, y, shifts[:, 0])
    return product(grid, x, y, shifts, crossings)
