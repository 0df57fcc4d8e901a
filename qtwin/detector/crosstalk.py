"""An array of single-photon pixels: fill factor, hot pixels, and crosstalk that falls with distance."""

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import FieldError
from qtwin.core.params import Element, efficiency, fraction, nonnegative, param, static
from qtwin.detector.single_photon import SinglePhoton

SWEEPS = 12  # of crosstalk upon crosstalk


class PixelArray(Element):
    """Every click fires each pixel at d pitches at once with probability p(d), as a photon would.

    p is linear in d between ``crosstalk`` at d = 1, 2, ... pitches and 0 beyond the last; the light of an avalanche
    arrives within the jitter, so it fakes coincidences at delay 0 (Kulkov et al., J. Instrum. 19, P12015 (2024), arXiv
    2406.15323). ``hot`` lists pixels, row by row from 0, whose dark rate is ``hot_rate``. Clicks are drawn by
    `qtwin.detector.clicks`.
    """

    pixel: SinglePhoton
    rows: int = static("rows of pixels")
    columns: int = static("pixels of a row")
    fill_factor: jax.Array = param("", efficiency, "part of the light on the array that falls on sensitive area")
    crosstalk: jax.Array = param("", fraction, "probability at 1, 2, ... pitches", default=0.0, per_layer=True)
    hot: tuple[int, ...] = static("numbers of the hot pixels", default=())
    hot_rate: jax.Array = param("Hz", nonnegative, "dark counts per second of a hot pixel", default=0.0)

    def check(self):
        if not isinstance(self.pixel, SinglePhoton):
            raise FieldError("pixel", f"got {self.pixel!r}, accepted is a SinglePhoton")
        for name in ("rows", "columns"):
            if not (isinstance(getattr(self, name), int) and 0 < getattr(self, name) <= 4096):
                raise FieldError(name, f"got {getattr(self, name)!r}, accepted is a whole number from 1 to 4096")
        object.__setattr__(self, "hot", tuple(self.hot))
        wrong = [i for i in self.hot if not (isinstance(i, int) and 0 <= i < self.rows * self.columns)]
        if wrong:
            raise FieldError("hot", f"got {wrong[0]!r}, accepted is a pixel from 0 to {self.rows * self.columns - 1}")

    def mask(self) -> np.ndarray:
        """True where a pixel is not hot, [rows, columns]."""
        good = np.ones(self.rows * self.columns, bool)
        good[list(self.hot)] = False
        return good.reshape(self.rows, self.columns)

    def dark_rates(self):
        """Dark counts per second of every pixel, [rows, columns]."""
        return jnp.where(jnp.asarray(self.mask()), self.pixel.dark_rate, self.hot_rate)

    def kernel(self):
        """p by displacement, rows and columns from -L to L, L the number of values of ``crosstalk``; 0 at rest."""
        values = jnp.atleast_1d(self.crosstalk)
        reach = values.size
        steps = np.arange(-reach, reach + 1)
        distance = jnp.asarray(np.hypot(steps[:, None], steps[None, :]), values.dtype)
        places = jnp.arange(1.0, reach + 1.0, dtype=values.dtype)
        p = jnp.interp(distance.ravel(), places, values).reshape(distance.shape)
        return jnp.where((distance < 1) | (distance > reach), 0.0, p)

    def clicks(self, photons, time):
        """Mean clicks in ``time`` s for mean ``photons`` on the cells of the array, both [rows, columns].

        First order in p: light that a pixel sends back to its sender finds it dead, which is left out.
        """
        events, live = self._fired(photons, time)
        return events * live

    def fakes(self, photons, time, down: int, across: int):
        """Mean coincidences at delay 0 that crosstalk fakes between each pixel and that ``down``, ``across`` from it.

        p (m_i l_j + m_j l_i) of clicks m and live fractions l; pixels without a partner are left out; first order.
        """
        events, live = self._fired(photons, time)
        m, reach = events * live, jnp.atleast_1d(self.crosstalk).size
        if max(abs(down), abs(across)) > reach:
            return jnp.zeros_like(_overlap(m, down, across))
        p = self.kernel()[reach + down, reach + across]
        (m_i, m_j), (l_i, l_j) = ((_overlap(x, down, across), _overlap(x, -down, -across)) for x in (m, live))
        return p * (m_i * l_j + m_j * l_i)

    def _fired(self, photons, time):
        """(events, clicks per event) of every pixel, crosstalk included."""
        own = self.pixel.efficiency * self.fill_factor * photons + self.dark_rates() * time
        kernel = self.kernel()
        reach = kernel.shape[0] // 2

        def sweep(events, _):
            clicks = jnp.pad(events * self.pixel.live_at(events / time), reach)
            return own + jax.scipy.signal.convolve2d(clicks, kernel, mode="valid"), None

        events, _ = jax.lax.scan(sweep, own, None, length=SWEEPS)
        return events, self.pixel.live_at(events / time)

    def neighbours(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(first, pixel, p): pixel i may fire pixel[first[i] : first[i + 1]] with probabilities p."""
        kernel = np.asarray(self.kernel(), np.float64)
        reach = kernel.shape[0] // 2
        down, across = np.nonzero(kernel)
        p = kernel[down, across]
        row, column = np.divmod(np.arange(self.rows * self.columns), self.columns)
        r, c = row[:, None] + down - reach, column[:, None] + across - reach
        inside = (r >= 0) & (r < self.rows) & (c >= 0) & (c < self.columns)
        first = np.concatenate([[0], np.cumsum(inside.sum(axis=1))])
        return first, (r * self.columns + c)[inside], np.broadcast_to(p, inside.shape)[inside]


def _overlap(x, down: int, across: int):
    """Rows and columns of x that have a partner at (down, across)."""
    rows, columns = x.shape
    return x[max(-down, 0) : rows - max(down, 0), max(-across, 0) : columns - max(across, 0)]
