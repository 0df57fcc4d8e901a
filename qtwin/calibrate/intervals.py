"""Intervals between clicks: dead time, afterpulses and the light's own bunching, from a record of time tags.

    p_k = 1 - exp(-[H(t_k+1) - H(t_k)]): a click in bin k where none came before (Coates, J. Phys. E 1, 878 (1968))
    same channel   H = L(t_d + u) - L(t_d) + sum_j a_j (1 - exp(-u/tau_j)),   u = E[(t - t_d)^+], t_d of std ``edge``
    other channel  H = L(t),   L(t) = r t + sum_j b_j s_j (1 - exp(-t/s_j))

The likelihood is the product over bins of p_k^c_k (1 - p_k)^(w_k - c_k): c_k clicks, w_k starts that still wait; bins
in which none waits are no data. a_j: mean afterpulses of one click, to first order (those of older clicks are left
out); b_j: rate by which light is brighter just after a click. In one channel alone afterpulses and bunching look alike:
only the clicks of another detector in the same light (``other``) part them.

One click of ``channel`` would end the waits of all starts before it, and counts are independent only of waits that do
not overlap. With ``other`` every wait ends therefore at the next click of either; that of ``other`` is not counted.
It tells nothing of what ``channel`` would have done next, so that given the past every count is binomial, and the
product above holds. In its bin such an end counts by the nearer edge: of y clicks of ``other`` per bin p is right to
y^2/24 of itself.

Starts are then only clicks before which both were silent for `rest`, so that neither is dead. Which of the two clicks
is a draw by their efficiencies that knows nothing of the light, whatever its brightness was or will be: starts of both
see the same light, and L is one function. It is dimmer than after any click at all, by the clicks that a wait is
missing so far: r + b of both channels times s, to first order, is the part that this takes from b.
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
OLDER = 0.01  # afterpulses of older clicks over those of the last one, from which they are remarked on


def first_stops(
    record: Iterable[TimeTags], start: int, stop: int, edges: np.ndarray, other: int | None = None, rest: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """First click of ``stop`` after every click of ``start``: counts [bins], and the starts that wait in each bin.

    ``edges`` int64 ps, [bins + 1]; those before the first are left out, later ones wait. The last start is not used.
    With ``other`` its clicks end a wait as well, uncounted, and starts are clicks after ``rest`` ps of silence of all.
    """
    stretches = list(record)
    named = sorted({start, stop} if other is None else {start, stop, other})
    for channel in named:
        count = sum(len(tags.of(channel)) for tags in stretches)
        if count < 2:
            there = sorted({int(c) for tags in stretches for c in np.unique(tags.channels)})
            raise UserError(f"channel: got {channel}, which has {count} clicks; there are {there}")
    times, channels = (np.concatenate([getattr(tags, name) for tags in stretches]) for name in ("times", "channels"))
    mine = np.isin(channels, named)
    order = np.lexsort((channels[mine] != stop, times[mine]))  # of two at once that of ``stop`` comes first
    times, channels = times[mine][order], channels[mine][order]
    ends = np.flatnonzero((channels == stop) | (channels == other))
    place = np.searchsorted(times[ends], times, side="right")
    rested = np.diff(times, prepend=times[0] - rest) >= rest
    used = (channels == start) & rested & (place < len(ends))
    last = ends[place[used]]
    delays, counted = times[last] - times[used], channels[last] == stop
    stopped, broken = np.sort(delays[counted]), np.sort(delays[~counted])
    before = np.searchsorted(stopped, edges)
    over = np.searchsorted(2 * broken, edges[:-1] + edges[1:], side="right")
    waiting = len(stopped) - before[:-1] + len(broken) - over
    return np.diff(before).astype(float), waiting.astype(float)


class Intervals(AbstractModel):
    """Delay from a click to the next one of ``channel``, after its own clicks and after those of ``other``."""

    law: ClassVar[str] = "binomial"
    limits: ClassVar[tuple[str, ...]] = (
        "Light is steady within a bin: with pulses take a bin of one period; the dead time is then known to a period.",
        "Without another detector in the same light afterpulses and the bunching of the light cannot be told apart.",
        "Afterpulses of clicks before the last one are left out: right to first order in their number.",
        "Of bunched light r, b and s are right to first order in the clicks expected of all channels within s.",
        "With another detector the dead time and edge that are set must not fall short of the true ones of either.",
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
        rest = 0 if self.other is None else self.rest
        found = [first_stops(record, start, self.channel, edges, self.other, rest) for start in starts]
        counts, waiting = (np.stack(column) for column in zip(*found, strict=True))
        part, bins = np.nonzero(waiting)
        parts = {}
        for k, start in enumerate(starts):
            mine = np.flatnonzero(part == k)
            if not len(mine):
                raise UserError(f"channel: got {start}, of which no click waits, {rest} ps of silence before it")
            parts[f"after channel {start}"] = Part(mine, places[bins[mine]], "interval", "s")
        counts, waiting = counts[part, bins], waiting[part, bins]
        given = {"edges": edges * PS, "waiting": waiting, "part": part, "bins": bins}
        note = () if self.other is not None else (self.limits[1],)
        return Data(counts, given, bins, parts, waiting, note)

    @property
    def rest(self) -> int:
        """Silence of both channels before a start, ps: dead time as it is set, and five times its edge."""
        return int(np.ceil(float(self.dead_time + 5 * self.edge) / PS))

    def remarks(self) -> tuple[str, ...]:
        older = float(jnp.sum(self.afterpulses) + self.rate * jnp.max(self.lifetimes))
        if not np.any(self.afterpulses > 0) or older < OLDER:
            return ()
        told = f"up to {100 * older:.2g} % as many as those of the last"
        return (f"Afterpulses of clicks before the last one are left out, {told}: a bias that no error here holds.",)

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
        parts = jnp.stack([jnp.diff(own), jnp.diff(self._light(t))])
        p = jnp.clip(-jnp.expm1(-parts[given["part"], given["bins"]]), 1e-15, 1 - 1e-15)
        return Expected(waiting * p, waiting * p * (1 - p))
