"""A time-to-digital converter whose bins have their own widths."""

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import FieldError, UserError
from qtwin.core.params import Element, is_concrete, nonnegative, param

LONGEST = 10_000_000  # ps, cycle of the interpolating clock


class TDC(Element):
    """Code j covers [e_j, e_{j+1}) of a cycle that repeats, e the sums of ``widths``; its time is the bin's middle.

    A code of width 0 never occurs. Stamps are whole ps, so the cycle must be: write a bin of 1.5625 ns twice.
    """

    widths: jax.Array = param("s", nonnegative, "width of every code, in order over one cycle", per_layer=True)

    def check(self):
        if not is_concrete(self.widths):
            return
        cycle = float(np.sum(np.asarray(self.widths, np.float64))) * 1e12
        if not 1 <= cycle <= LONGEST or abs(cycle - round(cycle)) > 1e-3:
            raise FieldError("widths", f"add up to {cycle:.6g} ps, accepted is a whole number from 1 to {LONGEST}")

    def edges(self):
        """Bounds of the codes within the cycle, s, [codes + 1]."""
        widths = jnp.atleast_1d(self.widths)
        return jnp.concatenate([jnp.zeros_like(widths[:1]), jnp.cumsum(widths)])

    def times(self):
        """Middle of every code within the cycle, s, [codes]."""
        edges = self.edges()
        return (edges[1:] + edges[:-1]) / 2

    def nonlinearity(self):
        """(differential, integral) in mean widths: w_j/<w> - 1 of each code, and its sum up to the end of the code."""
        widths = jnp.atleast_1d(self.widths)
        differential = widths / jnp.mean(widths) - 1
        return differential, jnp.cumsum(differential)

    def code(self, times: np.ndarray) -> np.ndarray:
        """Code of times, int64 ps, any shape."""
        cycle, edges = self._cycle()
        return np.searchsorted(edges[1:], np.asarray(times) % cycle, side="right")

    def stamps(self) -> np.ndarray:
        """What each whole ps of the cycle is written as: middle of its bin, int64 ps, [cycle]."""
        cycle, edges = self._cycle()
        middle = np.floor((edges[1:] + edges[:-1]) / 2).astype(np.int64)
        return middle[self.code(np.arange(cycle))]

    def stamp(self, times: np.ndarray) -> np.ndarray:
        """Times, int64 ps, as this converter writes them; order is kept."""
        table = self.stamps()
        inside = times % len(table)
        return times - inside + table[inside]

    def _cycle(self) -> tuple[int, np.ndarray]:
        """Length of the cycle and bounds of the codes, ps."""
        edges = np.concatenate([[0.0], np.cumsum(np.atleast_1d(np.asarray(self.widths, np.float64)))]) * 1e12
        cycle = round(edges[-1])
        edges[-1] = cycle
        return cycle, np.round(edges, 6)


def code_density(counts, cycle: float) -> tuple[np.ndarray, np.ndarray]:
    """Widths of the codes and their standard errors, s: w_j = T n_j/N of a test with light that knows no clock.

    counts: [..., codes], how often each code was met; cycle: T, s. Errors are multinomial. (Doernberg, Lee & Hodges,
    IEEE J. Solid-State Circuits 19, 820 (1984), for converters of voltage.)
    """
    counts = np.asarray(counts, float)
    total = counts.sum(axis=-1, keepdims=True)
    if not np.isfinite(counts).all() or (counts < 0).any() or (total <= 0).any():
        raise UserError("counts: accepted are numbers 0 or greater, not all 0 in a row of codes")
    part = counts / total
    return cycle * part, cycle * np.sqrt(part * (1 - part) / total)
