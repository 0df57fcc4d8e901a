"""What a comparison expects at a working point, traced: matched photons, and images made alike."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.signal import convolve

from qtwin.benchmark.arms import CLOSE, STEPS
from qtwin.estimator.protocol import AbstractProtocol, Ledger
from qtwin.tissue.images import Images
from qtwin.twin import Twin


class Working(NamedTuple):
    """One working point: all that a parameter may change."""

    twin: Twin
    protocols: dict[str, AbstractProtocol]
    photons: jax.Array  # of the first arm, per superpixel and exposure


def side(ledger: Ledger, match: str):
    """`arms.entry`, traced."""
    return getattr(ledger, "incident" if match == "absorbed" else match)


def matched(reached: Callable, photons, target):
    """(photons, residual): the iteration of `arms.matched`, N <- N target/reached(N)."""

    def step(state):
        n, _, count = state
        there = reached(n)
        off = jnp.abs(there / target - 1)
        return jnp.where(off < CLOSE, n, n * target / there), off, count + 1

    start = photons, jnp.full_like(photons, jnp.inf), jnp.zeros((), jnp.int32)
    return lax.while_loop(lambda state: (state[1] >= CLOSE) & (state[2] < STEPS), step, start)[:2]


def spreads_of(images: Images) -> dict:
    return {"direct": images.spread_direct, "ghost": images.spread_ghost, "pairs": images.spread_direct**2}


def _blurred(image, kernel):
    """Convolution cut to the image, not yet divided by what lies inside."""
    reach, n = kernel.shape[0] // 2, image.shape[0]
    return convolve(image, kernel, mode="full", method="direct")[reach : reach + n, reach : reach + n]


def alike(image, weights, kernel):
    """The image smoothed as by `smoothing`, and what the variance of every superpixel then weighs (diagonal)."""
    if kernel is None:
        return image, weights
    inside = _blurred(jnp.ones_like(image), kernel)
    return _blurred(image, kernel) / inside, _blurred(weights / inside**2, (kernel**2)[::-1, ::-1])


def solved(reached: Callable, w, photons, target):
    """N with reached(w, N) = target, and its first derivative by all that ``w`` and ``target`` hold.

    Implicit function: the iteration of `matched` without derivatives, then one step of Newton's.
    """
    fixed, goal = jax.tree.map(lax.stop_gradient, (w, target))
    n = matched(lambda n: reached(fixed, n), lax.stop_gradient(photons), goal)[0]
    slope = jax.jvp(lambda n: reached(fixed, n), (n,), (jnp.ones_like(n),))[1]
    return n - (reached(w, n) - target) / slope
