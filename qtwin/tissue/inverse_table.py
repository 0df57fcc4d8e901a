"""How a phase function reaches the walk: its quantiles at equally spaced u, joined by straight lines.

    c_i = F^-1(i/N),  i = 0 .. N,      F(c) = integral of p from -1 to c

A photon draws u uniform on [0, 1) and takes c = c_i + (N u - i)(c_(i+1) - c_i) with i = floor(N u), so that the density
really sampled is piecewise constant, 1/(N (c_(i+1) - c_i)) (the inverse method: Devroye, Non-Uniform Random Variate
Generation, Springer 1986, chapter II.2). Everything here is made on the host in float64; the table itself is float32.
"""

from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import FieldError

PANELS = 8192  # of the scattering angle, to bracket a quantile
CLOSE = 1e-13  # of F, where the search for a quantile ends


class Law(Protocol):
    """What a table is made from. Arrays of any shape, elementwise."""

    def density(self, cosine): ...

    def cumulative(self, cosine) -> np.ndarray: ...

    def mean_cosine(self): ...


def quantile(law: Law, u) -> np.ndarray:
    """Cosine c with F(c) = u, float64 of the shape of ``u``; -1 at u = 0, 1 at u = 1.

    Newton's method inside a bracket that bisection closes. The error of F is below 1e-12, so that of c
    is below 1e-12/p(c).
    """
    u = np.asarray(u, float)
    grid = -np.cos(np.linspace(0, np.pi, PANELS + 1))
    known = np.maximum.accumulate(law.cumulative(grid))
    above = np.clip(np.searchsorted(known, u), 1, PANELS)
    low, high = grid[above - 1], grid[above]
    c = (low + high) / 2
    for _ in range(60):
        excess = law.cumulative(c) - u
        low, high = np.where(excess < 0, c, low), np.where(excess < 0, high, c)
        slope = np.asarray(law.density(c), float)
        newton = c - excess / np.where(slope > 0, slope, np.inf)
        moved = np.where((newton > low) & (newton < high), newton, (low + high) / 2)
        done = (np.abs(excess) < CLOSE) | (np.abs(moved - c) < 1e-16)
        c = np.where(done, c, moved)
        if done.all():
            break
    return np.where(u <= 0, -1.0, np.where(u >= 1, 1.0, c))


def inverse_table(law: Law, size: int = 4096) -> np.ndarray:
    """Cosines at u = i/size, float32 [size + 1], never decreasing, from exactly -1 to exactly 1 (or where p begins).

    Kept is the mean cosine of the interpolated table, to 1e-7: node i is moved by t a b/(a + b), where a and b are the
    distances to its neighbours, with the one t that makes the mean that of the law. What t would have to mend shrinks
    as 1/size^2: at 4096 the mean square of the cosine is right to 5e-5 for a sphere of g = 0.995, at 16384 to 2e-6
    (for g up to 0.9, to 1e-6 at 4096). Near c = 1 the float32 cosine is the limit: angles below 0.3 mrad are not
    told apart. Where p is 0 between two angles, one cell bridges the gap: 1/size of the photons fall there.
    `table_density` says what is sampled.

    Raises FieldError of ``size`` where so coarse a table needs |t| above 1/2 (a quarter of a cell everywhere).
    """
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 2:
        raise FieldError("size", f"got {size!r}, accepted is a whole number from 2")
    c = np.maximum.accumulate(quantile(law, np.arange(size + 1) / size))
    for end, inside, edge in ((0, 1e-9, -1.0), (-1, 1 - 1e-9, 1.0)):
        c[end] = quantile(law, inside) if float(law.density(edge)) == 0 else c[end]
    mean, gaps = float(law.mean_cosine()), np.diff(c)
    room = gaps[:-1] * gaps[1:] / np.maximum(gaps[:-1] + gaps[1:], 1e-300)
    bend = size * (mean - np.mean(c[1:] + c[:-1]) / 2) / np.sum(room)
    if not abs(bend) <= 0.5:
        raise FieldError(
            "size", f"got {size}, too coarse for this law of mean cosine {mean:.6g}; accepted is a larger one"
        )
    c[1:-1] += bend * room
    return c.astype(np.float32)


def table_density(table, cosine) -> np.ndarray:
    """The density that a table samples, float64 of the shape of ``cosine``: 1/(N cell), constant in each cell.

    Where float32 leaves several nodes at one cosine, the photons that fall on it count half to either side.
    """
    nodes, first, many = np.unique(np.asarray(table, float), return_index=True, return_counts=True)
    u = (first + (many - 1) / 2) / (len(table) - 1)
    u[0], u[-1] = 0, 1
    cell = np.searchsorted(nodes, np.asarray(cosine, float), side="right") - 1
    return (np.diff(u) / np.diff(nodes))[np.clip(cell, 0, len(nodes) - 2)]


def sample_table(table: jax.Array, u: jax.Array) -> jax.Array:
    """Cosine by linear interpolation in a table [N + 1] at u in [0, 1); elementwise in ``u``, of its dtype."""
    table = jnp.asarray(table, u.dtype)
    place = u * (table.shape[0] - 1)
    cell = jnp.clip(place.astype(jnp.int32), 0, table.shape[0] - 2)
    low = table[cell]
    return low + (place - cell.astype(u.dtype)) * (table[cell + 1] - low)
