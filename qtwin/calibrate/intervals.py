"""Intervals between clicks: dead time, afterpulses and the light's own bunching, from a record of time tags.

    p_k = 1 - exp(-[H(t_k+1) - H(t_k)]): a click in bin k where none came before (Coates, J. Phys. E 1, 878 (1968))
    same channel   H = L(t_d + u) - L(t_d) + sum_j a_j (1 - exp(-u/tau_j)),   u = E[(t - t_d)^+], t_d of std ``edge``
    other channel  H = L(t),   L(t) = r t + sum_j b_j s_j (1 - exp(-t/s_j))

Every count is binomial of the starts that still wait, exactly. a_j: mean afterpulses of one click, to first order
(those of older clicks are left out); b_j: rate by which light is brighter just after a click. In one channel alone
afterpulses and bunching look alike: only the clicks of another detector in the same light (``other``) part them.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

from qtwin.calibrate.model import AbstractModel, Data, Expected, Part
from qtwin.core.errors import FieldError, UserError
from qtwin.core.params import is_concrete, nonnegative, param, positive, static
from qtwin.core.records import TimeTags
from qtwin.core.units import parse
from qtwin.io.time_tag_files import read_time_tags

PS = 1e-12


def first_stops(record: Iterable[TimeTags], start: int, stop: int, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First click of ``stop`` after every click of ``start``: counts [bins], and the starts that wait in each bin.

    ``edges`` int64 ps, [bins + 1]; those before the first are left out, later ones wait. The last start is not used.
    """
    stretches = list(record)
    begun, ended = (np.concatenate([tags.of(channel) for tags in stretches]) for channel in (start, stop))
    for channel, times in ((start, begun), (stop, ended)):
        if len(times) < 2:
            there = sorted({int(c) for tags in stretches for c in np.unique(tags.channels)})
            raise UserError(f"channel: got {channel}, which has {len(times)} clicks; there are {there}")
    place = np.searchsorted(ended, begun, side="right")
    whole = place < len(ended)
    delays = ended[place[whole]] - begun[whole]
    counts = np.histogram(delays, edges)[0]
    waiting = np.sum(delays >= edges[0]) - np.cumsum(counts) + counts
    return counts.astype(float), waiting.astype(float)


class Intervals(AbstractModel):
    """Delay from a click to the next one of ``channel``, after its own clicks and after those of ``other``."""

    law: ClassVar[str] = "binomial"
    limits: ClassVar[tuple[str, ...]] = (
        "Light is steady within a bin: with pulses take a bin of one period; the dead time is then known to a period.",
        "Without another detector in the same light afterpulses and the bunching of the light cannot be told apart.",
        "Afterpulses of clicks before the last one are left out: right to first order in their number.",
    )

    rate: jax.Array = param("Hz", positive, "r, steady clicks per second")
    dead_time: jax.Array = param("s", positive, "t_d")
    edge: jax.Array = param("s", positive, "std of the dead time, jitter included")
    afterpulses: jax.Array = param("", nonnegative, "a, mean afterpulses of a click, for each lifetime", 0.0, True)
    lifetimes: jax.Array = param("s", positive, "tau, mean delay of afterpulses behind the dead time", 50e-9, True)
    bunching: jax.Array = param("Hz", nonnegative, "b, brightness just after a click, above r", 0.0, True)
    bunching_times: jax.Array = param("s", positive, "s, in which it fades", 1e-6, True)
    channel: int = static("channel of the detector", 0)
    other: int | None = static("channel of another detector in the same light", None)
    bin: str = static("width of a bin, whole picoseconds", "1 ns")
    first: str = static("lower edge of the first bin", "0 ns")
    reach: str = static("longest interval", "1 us")

    def check(self):
        pairs = (("afterpulses", "lifetimes"), ("bunching", "bunching_times"))
        for one, two in pairs:
            a, b = getattr(self, one), getattr(self, two)
            if is_concrete(a) and a.size != b.size:
                raise FieldError(one, f"got {a.size} values and {b.size} {two}, accepted is one of each")

    def _edges(self) -> np.ndarray:
        values = {}
        for name in ("bin", "first", "reach"):
            try:
                values[name] = round(parse(getattr(self, name), "s") / PS)
            except UserError as error:
                raise FieldError(name, str(error)) from error
        if values["bin"] < 1 or values["reach"] < values["first"] + 2 * values["bin"]:
            raise FieldError("bin", f"got {self.bin} up to {self.reach}, accepted are two bins or more of 1 ps or more")
        return np.arange(values["first"], values["reach"] + 1, values["bin"], dtype=np.int64)

    def read(self, path: Path) -> Data:
        edges = self._edges()
        record = list(read_time_tags(path))
        places = (edges[:-1] + edges[1:]) / 2 * PS
        starts = [self.channel] if self.other is None else [self.channel, self.other]
        found = [first_stops(record, start, self.channel, edges) for start in starts]
        bins = np.arange(len(places))
        names = (f"after channel {self.channel}", f"after channel {self.other}")
        parts = {n: Part(k * len(bins) + bins, places, "interval", "s") for k, n in enumerate(names[: len(found)])}
        counts, waiting = (np.concatenate(column) for column in zip(*found, strict=True))
        given = {"edges": edges * PS, "waiting": waiting}
        note = () if self.other is not None else (self.limits[1],)
        return Data(counts, given, np.tile(bins, len(found)), parts, np.maximum(waiting, 1.0), note)

    def _light(self, t):
        """L(t), [bins + 1]."""
        b, s = jnp.atleast_1d(self.bunching)[:, None], jnp.atleast_1d(self.bunching_times)[:, None]
        return self.rate * t - jnp.sum(b * s * jnp.expm1(-t[None, :] / s), axis=0)

    def expect(self, given):
        t, waiting = given["edges"], given["waiting"]
        x = (t - self.dead_time) / self.edge
        u = self.edge * (norm.pdf(x) + x * norm.cdf(x))
        a, tau = jnp.atleast_1d(self.afterpulses)[:, None], jnp.atleast_1d(self.lifetimes)[:, None]
        own = self._light(self.dead_time + u) - jnp.sum(a * jnp.expm1(-u[None, :] / tau), axis=0)
        parts = [own, self._light(t)][: waiting.shape[0] // (t.shape[0] - 1)]
        p = jnp.clip(-jnp.expm1(-jnp.concatenate([jnp.diff(h) for h in parts])), 1e-15, 1 - 1e-15)
        waiting = jnp.maximum(waiting, 1.0)
        return Expected(waiting * p, waiting * p * (1 - p))
