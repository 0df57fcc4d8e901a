"""Cameras that only say whether a pixel fired: from mean events to clicks and back."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import UserError
from qtwin.core.records import Estimates, Frames
from qtwin.correlation.covariance_image import several


def click_probability(mean):
    """p = 1 - exp(-m) for m mean events per frame, dark counts included, Poisson law. Elementwise."""
    return -jnp.expm1(-mean)


def thermal_click_probability(mean, modes):
    """p = 1 - (1 + m/M)^-M for m mean events of M thermal modes (Mandel & Wolf, Optical Coherence and Quantum Optics,
    1995, ch. 14, from memory); -> 1 - exp(-m) for M -> infinity, m/(1 + m) for M = 1. Elementwise.
    """
    return -jnp.expm1(-modes * jnp.log1p(mean / modes))


def joint_click_probability(first, second, pairs):
    """P(both click) = 1 - exp(-m_i) - exp(-m_j) + exp(-m_i - m_j + mu) of two pixels. Elementwise.

    m_i, m_j: mean events per frame, pairs included; mu <= m_i, m_j: mean pairs that fire both. Poisson pairs, no
    crosstalk. None fires when neither the pairs (mu) nor the other events (m_i - mu, m_j - mu) occur.
    """
    return click_probability(first) + click_probability(second) + jnp.expm1(pairs - first - second)


def threshold(record: Iterable[Frames], level) -> Iterator[Frames]:
    """The record as clicks: counts above ``level`` (one number, or [rows, columns])."""
    level = np.asarray(level)
    if not np.isfinite(level).all():
        raise UserError(f"level: got {level}, expected finite numbers")
    for frames in several(record):
        if frames.counts.dtype.kind == "f" and np.isnan(frames.counts).any():
            raise UserError("record: a count that is not a number is neither above nor below the level")
        if level.shape not in ((), frames.counts.shape[1:]):
            raise UserError(
                f"level: got {level.shape}, expected one number or one for each of {frames.counts.shape[1:]}"
            )
        yield replace(frames, counts=frames.counts > level)


def mean_events(clicks, frames: int, modes: float = np.inf) -> Estimates:
    """m = -ln q (Poisson) or M (q^(-1/M) - 1) (M thermal modes), q = (K - N + a)/(K + a), a = (1 + 1/M)/2. Elementwise.

    N ``clicks`` in K ``frames``. The a frames take off the bias of order 1/K (expand the mean of m in 1/K and ask that
    it vanish for every q) and keep m finite where every frame clicked. Standard error sqrt((1 - q)/(K q)) q^(-1/M),
    that of one click where there was none.

    Near p = 1 only the K q frames without a click count. For Poisson light the bias left over is below 0.01 standard
    deviations from K q = 3 on, -0.04 at 2 and -0.24 at 1 (one thermal mode: -0.09, -0.27 and -1.3); without the a
    frames it is sqrt(p/(K q))/2. Where every frame clicked, m = ln(2 K + 1) is no more than a lower limit. Events that
    depend on the clicks before them (dead time, the first stop of a gate) need other laws.
    """
    clicks = np.asarray(clicks)
    if not frames >= 1 or not np.all((clicks >= 0) & (clicks <= frames)):
        raise UserError(f"clicks: got {clicks.min()} to {clicks.max()} in {frames} frames, accepted is 0 to {frames}")
    if not modes > 0:
        raise UserError(f"modes: got {modes}, accepted is a number greater than 0")
    extra = 0.5 * (1 + 1 / modes)
    q = (frames - clicks + extra) / (frames + extra)
    value = -np.log(q) if np.isinf(modes) else modes * np.expm1(-np.log(q) / modes)
    some = (frames - np.maximum(clicks, 1) + extra) / (frames + extra)
    return Estimates(value, np.sqrt((1 - some) / (frames * some)) * some ** (-1 / modes))
