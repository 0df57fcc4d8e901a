"""Images of pairs whose signal crosses the tissue unscattered: by quadrature along one axis at a time.

The object is T(x, y) = sum_cd V_cd h_c(y) h_d(x), bilinear between cells, 1 outside, and the law of a pair
is a product of its axes. So every image is A V B^T and what passes beside the object, with

    A_jc = int h_c(y) b(y) L_j(y) P_i(y) dy     b density of the signal at y; L_j, P_i probability that it is seen in
                                                superpixel j, that its mirrored idler falls into superpixel i

and the same for B along x. Only a drift ties the axes together: A and B are averaged over its times.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import erf
from jax.scipy.stats import norm

from qtwin.tissue.images import REACH, SPREAD, Beams, density

MOMENTS = 32  # of an exposure, over which a drifting image is averaged: good to 1e-3 for a way of four superpixels
NODES = 8  # of Gauss-Legendre on every half of a cell, and of a superpixel: they crowd towards its border


def _nodes(kind):
    """Places and weights of the quadrature on both halves of (0, 1), [2 NODES]."""
    at, share = np.polynomial.legendre.leggauss(NODES)
    at = np.concatenate([at + 1, at + 3]) / 4
    return jnp.asarray(at, kind), jnp.asarray(np.tile(share / 4, 2), kind)


def moments(drift):
    """Places of a drifting image [MOMENTS, 2] during the exposure, and their shares [MOMENTS]."""
    when, share = (jnp.asarray(a / 2, drift.dtype) for a in np.polynomial.legendre.leggauss(MOMENTS))
    return when[:, None] * drift[None], share


def _exposed(drift, at):
    """Mean of ``at(swept [2])`` over the exposure; once where nothing drifts."""

    def moving():
        places, share = moments(drift)
        return jax.tree.map(lambda a: jnp.tensordot(share, a, 1), lax.map(jax.checkpoint(at), places))

    return lax.cond(jnp.any(drift != 0), moving, lambda: at(jnp.zeros_like(drift)))


def _inside(beams: Beams, middle, width, beyond: int = 0):
    """P(normal of ``middle`` [...] falls into each superpixel, and ``beyond`` the field), [n + 2 beyond, ...]."""
    n = beams.centres.shape[0] + 2 * beyond
    edges = (jnp.arange(n + 1, dtype=middle.dtype) - n / 2) * beams.pitch
    edges = edges.reshape(-1, *(1,) * middle.ndim)
    return jnp.diff(erf((edges - middle[None]) / (jnp.sqrt(2.0) * width)), axis=0) / 2


def _pairs(inside, n: int):
    """Superpixels of the idler beside those [n] of the signal: [n + 2 REACH, ...] -> [2 REACH + 1, n, ...]."""
    return jnp.stack([inside[d : d + n] for d in range(2 * REACH + 1)])


class _Axis:
    """One axis: the signal at the object, from the middle of a cell to that of the next, [cells - 1, 2 NODES]."""

    def __init__(self, beams: Beams, axis: int):
        self.beams, self.axis = beams, axis
        self.n = beams.centres.shape[0]
        cells = beams.grid.values.shape[1 - axis]
        self.far, share = _nodes(beams.beam.dtype)
        self.x = (
            jnp.arange(cells - 1, dtype=self.far.dtype)[:, None] - (cells - 1) / 2 + self.far[None]
        ) * beams.grid.cell
        self.light = density(self.x - beams.middle[axis], beams.beam) * (share * beams.grid.cell)[None]

    def cells(self, part):
        """int h_c b part dx of every cell: [..., cells - 1, 2 NODES] -> [..., cells]."""
        part = part * jnp.expand_dims(self.light, tuple(range(part.ndim - 2)))
        sides = part @ jnp.stack([1 - self.far, self.far], axis=1)
        none = [(0, 0)] * (part.ndim - 2)
        return jnp.pad(sides[..., 0], [*none, (0, 1)]) + jnp.pad(sides[..., 1], [*none, (1, 0)])

    def landed(self):
        """Where the lens shows the signal, [n, cells - 1, 2 NODES]."""
        return _inside(self.beams, self.x, self.beams.blur)

    def _partner(self, x, swept):
        b = self.beams
        return x + (b.idler_middle - b.middle + swept)[self.axis] - b.shrink * (x - b.middle[self.axis])

    def met(self, swept, beyond: int):
        """Where the mirrored idler of the signal at x falls."""
        return _inside(self.beams, self._partner(self.x, swept), self.beams.partner, beyond)

    def clear(self):
        """P(seen in every superpixel), without the object, [n]."""
        b = self.beams
        return _inside(b, b.middle[self.axis], jnp.hypot(b.beam, b.blur))

    def clear_pairs(self, swept):
        """P(seen in every superpixel, idler in it or beside it), without the object, [2 REACH + 1, n].

        Seen at u the signal is at middle + k (u - middle) with variance k blur^2, k = beam^2/(beam^2 + blur^2).
        """
        b, (at, share) = self.beams, _nodes(self.x.dtype)
        u = b.centres[:, None] + (at[None] - 0.5) * b.pitch
        k = b.beam**2 / (b.beam**2 + b.blur**2)
        signal = b.middle[self.axis] + k * (u - b.middle[self.axis])
        width = jnp.sqrt(b.partner**2 + ((1 - b.shrink) * b.blur) ** 2 * k)
        idler = _inside(b, self._partner(signal, swept), width, REACH)  # [n + 2 REACH, n, nodes]
        rows = jnp.arange(self.n)
        both = jnp.stack([idler[rows + d, rows] for d in range(2 * REACH + 1)])
        light = density(u - b.middle[self.axis], jnp.hypot(b.beam, b.blur)) * b.pitch
        return jnp.einsum("djk,jk,k->dj", both, light, share)


def _axes(beams: Beams) -> tuple[_Axis, _Axis]:
    return _Axis(beams, 1), _Axis(beams, 0)


def _outer(rows, columns):
    return jnp.einsum("dy,ex->deyx", rows, columns)


def _images(values, rows, columns, clear_rows, clear_columns):
    """With the object and without it, [d, e, y, x], from cells [d, y, c] and [e, x, c] and clear axes [d, y], [e, x].

    As sums of what is not negative: light on the cells, and light beside them.
    """
    (y, beyond_y), (x, beyond_x) = (
        (part.sum(axis=-1), jnp.maximum(clear - part.sum(axis=-1), 0))
        for part, clear in ((rows, clear_rows), (columns, clear_columns))
    )
    on = jnp.einsum("dyc,cex->deyx", rows, jnp.einsum("cf,exf->cex", values, columns))
    beside = _outer(y, beyond_x) + _outer(beyond_y, x + beyond_x)
    return on + beside, _outer(y, x) + beside


def _hats(pitch, middle, width):
    """Mean overlap of a superpixel moved by a normal offset with its neighbours, [2 SPREAD + 1]."""
    steps = jnp.arange(-SPREAD - 1, SPREAD + 2, dtype=width.dtype)
    z = (steps - middle / pitch) * pitch / width
    rising = (z * norm.cdf(z) + norm.pdf(z)) * width / pitch  # E max(0, step - offset)
    return jnp.diff(rising, 2)


@jax.jit
def seen(beams: Beams) -> dict:
    """What unscattered light gives the images of the signal's camera."""
    axes, values = _axes(beams), beams.grid.values
    landed = [axis.landed() for axis in axes]

    def pairs(swept):
        parts = [a.cells(_pairs(a.met(swept, REACH), a.n) * place[None]) for a, place in zip(axes, landed, strict=True)]
        both, clear = _images(values, *parts, *(a.clear_pairs(swept) for a in axes))
        return both, clear[REACH, REACH]

    joint, joint_open = _exposed(beams.drift, pairs)
    direct, clear = _images(
        values, *(a.cells(place)[None] for a, place in zip(axes, landed, strict=True)), *(a.clear()[None] for a in axes)
    )
    spread = _hats(beams.pitch, jnp.zeros_like(beams.blur), beams.blur)
    return {
        "direct": direct[0, 0],
        "direct_open": clear[0, 0],
        "joint": joint,
        "joint_open": joint_open,
        "spread_direct": spread[:, None] * spread[None],
        "accepted": jnp.ones_like(beams.blur),
        "variance_direct": beams.blur**2,
    }


@jax.jit
def heralded(beams: Beams) -> dict:
    """The same for the images of the idler's array, the signal seen by a bucket."""
    axes, values = _axes(beams), beams.grid.values

    def at(swept):
        met = (a.cells(a.met(swept, 0))[None] for a in axes)
        clear = (_inside(beams, (beams.idler_middle + swept)[a.axis], beams.idler_beam)[None] for a in axes)
        ghost, ghost_open = _images(values, *met, *clear)
        moved = beams.middle - beams.idler_middle - swept
        down, across = (_hats(beams.pitch, moved[a.axis], beams.idler_partner) for a in axes)
        return ghost[0, 0], ghost_open[0, 0], down[:, None] * across[None]

    ghost, ghost_open, spread = _exposed(beams.drift, at)
    return {
        "ghost": ghost,
        "ghost_open": ghost_open,
        "spread_ghost": spread,
        "variance_ghost": beams.idler_partner**2 + jnp.sum(beams.drift**2) / 24,
    }
