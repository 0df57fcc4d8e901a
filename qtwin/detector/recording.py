"""A record of time tags as a set-up writes it: light, its two arms, background, detectors and faults."""

from collections.abc import Iterator
from dataclasses import replace
from math import ceil

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import FieldError, UserError
from qtwin.core.params import Element, fraction, is_concrete, nonnegative, param, positive
from qtwin.core.random import numpy_generator
from qtwin.core.records import TimeTags
from qtwin.detector import clicks
from qtwin.detector.arrivals import PS, AbstractLight, Emitter, Pulsed, poisson_times
from qtwin.detector.faults import PER_CHANNEL, Faults, of_channel
from qtwin.detector.rates import Rates, pulsed, steady
from qtwin.detector.single_photon import FWHM, SinglePhoton

EARLY = 10**6  # ps that the light is on before the record, beside the longest path: lifetimes of emitters are shorter
LONGEST = 1000.0  # s of a stretch: a float64 of ps then has 0.1 ps
MOST_EVENTS = 2**19  # of a stretch, mean
LEAST_EVENTS = 1024
BYTES = 160  # that one event of a stretch needs
MOST_CHANNELS = 64
PANELS, POINTS = 64, 4  # Gauss-Legendre rule of means over the record: 16 swings of the source


class Arm(Element):
    """One photon of every emission: met by channel c with probability efficiency[c], after delay[c] and a flight.

    Lists are per channel; a beam splitter is two channels that share the efficiency. ``flight`` is any number of times
    that are drawn with equal chance, such as the photons' paths through tissue.
    """

    efficiency: jax.Array = param("", fraction, "from the source to each channel, detector excluded", per_layer=True)
    delay: jax.Array = param("s", nonnegative, "path from the source to each channel", 0.0, per_layer=True)
    flight: jax.Array = param("s", nonnegative, "further time on the way, one of these", 0.0, per_layer=True)

    def check(self):
        if is_concrete(self.efficiency) and not np.sum(self.efficiency) <= 1 + 1e-12:
            total = float(np.sum(self.efficiency))
            raise FieldError("efficiency", f"got {total:.6g} for all channels together, accepted is 1 or less")

    def late(self, channel: int, count: int, rng):
        """ps from the source to a channel, drawn for each of ``count`` photons."""
        ways = np.rint((np.ravel(self.flight) + of_channel(self.delay, channel)) * PS).astype(np.int64)
        return ways[rng.integers(0, len(ways), count)] if len(ways) > 1 else ways[0]


class Recording(Element):
    """Light, arms, background and detectors of C channels; ``expect`` gives rates, ``sample`` the tags themselves.

    Without faults channel a has n_a = e_a [R (s_a + i_a) + B_a] + D_a events per second (R emissions, arms s and i,
    background B, efficiency e and dark counts D of the detector), of which its live fraction clicks, and pairs click at
    R (s_a i_b + i_a s_b) e_a e_b times both live fractions (laws of `qtwin.detector.rates`). Other emissions make
    accidentals: the product of the rates, times g2 of the light.
    """

    light: AbstractLight
    signal: Arm
    detectors: tuple[SinglePhoton, ...]
    duration: jax.Array = param("s", positive, "of the record")
    idler: Arm | None = None
    background: jax.Array = param("Hz", nonnegative, "background photons that reach each channel", 0.0, per_layer=True)
    faults: Faults | None = None

    @property
    def channels(self) -> int:
        return len(self.detectors)

    def check(self):
        if not 1 <= self.channels <= MOST_CHANNELS:
            raise FieldError("detectors", f"got {self.channels}, accepted are 1 to {MOST_CHANNELS}, one per channel")
        faults = self._faults()
        lists = [(f"faults.{name}", getattr(faults, name)) for name in PER_CHANNEL]
        arms = [("signal", self.signal)] + ([("idler", self.idler)] if self.idler is not None else [])
        lists += [(f"{arm}.delay", a.delay) for arm, a in arms] + [("background", self.background)]
        for name, value in lists:
            if np.ndim(value) > 0 and len(value) != self.channels:
                problem = f"got {len(value)} values, accepted is one, or one for each of {self.channels} channels"
                raise FieldError(name, problem)
        for arm, a in arms:
            if np.size(a.efficiency) != self.channels:
                problem = f"got {np.size(a.efficiency)} values, accepted is one for each of {self.channels} channels"
                raise FieldError(f"{arm}.efficiency", problem)
        if np.size(faults.misalignment) > 2:
            raise FieldError("faults.misalignment", "got more than two values, accepted is one for each arm")
        periods = self.duration / faults.source_period
        if is_concrete(periods) and is_concrete(faults.source_swing):
            if float(faults.source_swing) > 0 and periods > PANELS / 4:
                problem = f"got {float(periods):.4g} swings in the record, accepted are {PANELS // 4} or fewer"
                raise FieldError("faults.source_period", problem)

    def _faults(self) -> Faults:
        """The faults, all off where none are given."""
        return Faults() if self.faults is None else self.faults

    def efficiencies(self):
        """Detection efficiency of each channel, [C]."""
        return jnp.stack([d.efficiency for d in self.detectors])

    def arms(self):
        """Probabilities [C], [C] that the signal and the idler of an emission fire channel c if it is alive."""
        efficiency = self.efficiencies()
        idler = jnp.zeros_like(efficiency) if self.idler is None else self.idler.efficiency * efficiency
        return jnp.ravel(self.signal.efficiency) * efficiency, jnp.ravel(idler)

    def steady(self):
        """Events per second and channel that are not of the light: detected background and dark counts, [C]."""
        return self.background * self.efficiencies() + jnp.stack([d.dark_rate for d in self.detectors])

    def expect(self) -> Rates:
        """Means over the record; differentiable."""
        if self.faults is None:
            return self.at(0.0)
        node, weight = (jnp.asarray(x, self.duration.dtype) for x in np.polynomial.legendre.leggauss(POINTS))
        panel = jnp.arange(PANELS, dtype=node.dtype)[:, None]
        t = jnp.ravel((panel + (1 + node[None, :]) / 2) / PANELS) * self.duration
        parts = jax.vmap(self.at)(t)
        weights = jnp.tile(weight / (2 * PANELS), PANELS)
        return jax.tree.map(lambda x: jnp.tensordot(weights, x, 1), parts)

    def at(self, t) -> Rates:
        """What is expected at ``t`` s after the beginning."""
        faults, (signal, idler) = self._faults(), self.arms()
        bright = faults.brightness(t)
        signal, idler = signal * faults.overlap(t, 0), idler * faults.overlap(t, 1)
        law = pulsed if isinstance(self.light, (Pulsed, Emitter)) else steady
        seen = law(self.light, bright, signal, idler, self.steady(), self.detectors)
        total = jnp.sum(seen.singles)
        taken = jnp.where(total > 0, faults.taken(faults.gate_open * total) / jnp.where(total > 0, total, 1.0), 1.0)
        kept = jnp.broadcast_to(faults.kept(), seen.singles.shape)
        both = taken * kept[:, None] * kept[None, :]
        return Rates(taken * kept * seen.singles, *(both * x for x in seen[1:]))

    def coincidences(self, window):
        """Gross coincidences C and accidentals A per second, [C, C], in a window of full ``window`` s: `Rates`."""
        return self.expect().coincidences(window, *self.light.windows(window))

    def lag(self, t=0.0):
        """(mean [C, C], variance [C, C]) of t_b - t_a at ``t`` s, in s and s^2: signal met channel a, its idler b.

        Delays, flights, jitter and clocks; time-to-digital converters apart.
        """
        if self.idler is None:
            raise FieldError("idler", "got nothing, accepted is the other arm of the pairs")
        faults, c = self._faults(), (self.channels,)
        jitter = jnp.stack([(d.jitter / FWHM) ** 2 + d.jitter_tail**2 for d in self.detectors])
        mean = jnp.stack([d.jitter_tail for d in self.detectors]) + faults.clock_offset + faults.clock_drift * t
        spread = jitter + jnp.broadcast_to(faults.clock_walk**2 * t, c)
        late = [jnp.broadcast_to(a.delay + jnp.mean(a.flight), c) + mean for a in (self.signal, self.idler)]
        flights = jnp.var(self.signal.flight) + jnp.var(self.idler.flight)
        return late[1][None, :] - late[0][:, None], spread[None, :] + spread[:, None] + flights

    def silent(self, mask):
        """Probability that a pulse, and one period with it, brings no event to the channels of ``mask`` [C] bool.

        exp(-(B + D) T) G(1 - (1 - sum s)(1 - sum i)): clicks of detectors that fire at most once a pulse follow by
        inclusion and exclusion. Pulsed light, no faults.
        """
        if not isinstance(self.light, (Pulsed, Emitter)):
            raise FieldError("light", f"got {type(self.light).__name__}, accepted is pulsed light")
        signal, idler = self.arms()
        dark = jnp.where(mask, self.steady(), 0.0).sum() * self.light.period
        seen = 1 - (1 - jnp.where(mask, signal, 0.0).sum()) * (1 - jnp.where(mask, idler, 0.0).sum())
        return jnp.exp(-dark) * self.light.generating(seen)

    def stretches(self, memory_limit: float = np.inf) -> int:
        """Number of equal stretches that are drawn one after the other; UserError where even short ones do not fit.

        BYTES per event at the brightest, and the tags that wait for the slowest path and the last clock.
        """
        duration, faults, light = float(self.duration), self._faults(), self.light
        brightest = faults.brightest(duration)
        if isinstance(light, Emitter):
            replace(light, mean=light.mean * brightest)  # which refuses more than one photon a pulse
        signal, idler = (np.asarray(x) for x in self.arms())
        emitted = float(light.rate()) * brightest * (1 - (1 - signal.sum()) * (1 - idler.sum()))
        tags = float(light.rate()) * brightest * (signal + idler).sum() + float(jnp.sum(self.steady()))
        gains = np.max(np.abs(faults.clock_offset)) + np.max(np.abs(faults.clock_drift)) * duration
        waiting = self._longest() + float(gains + 8 * np.max(faults.clock_walk) * duration**0.5)
        if (duration + waiting) * PS >= clicks.NEVER:
            most = f"the detectors' clock ends after {clicks.NEVER / PS / 86400:.0f} days of int64 picoseconds"
            raise FieldError("duration", f"got {duration:.6g} s, accepted is less: {most}")
        rate = max(emitted, tags) * light.peak()
        if rate > PS:
            raise UserError(f"rates: got {rate:.3g} events per second, accepted is one per picosecond at most")
        room = memory_limit / BYTES - 2 * rate * waiting
        if rate > 0 and room < LEAST_EVENTS:
            needed = BYTES * (LEAST_EVENTS + 2 * rate * waiting)
            raise UserError(f"memory_limit: got {memory_limit:.3g} bytes, this record needs {needed:.3g} or more")
        seconds = min(LONGEST, min(MOST_EVENTS * light.peak(), room) / rate if rate > 0 else LONGEST)
        return ceil(duration / seconds)

    def _longest(self) -> float:
        """Longest path and flight, s."""
        arms = [self.signal] + ([] if self.idler is None else [self.idler])
        return max(float(np.max(a.delay) + np.max(a.flight)) for a in arms)

    def arrivals(self, *, key, memory_limit: float = np.inf) -> Iterator[tuple[int, int, list[np.ndarray]]]:
        """(start, stop, events [C]) of every stretch: int64 ps, in order, of the photons that fire a living detector.

        Dark counts are the detectors' own. The same key and the same stretches give the same record.
        """
        return self._arrivals(self.stretches(memory_limit), key)

    def _arrivals(self, stretches: int, key):
        channels, arms = range(self.channels), [a for a in (self.signal, self.idler) if a is not None]
        faults, end = self._faults(), round(float(self.duration) * PS)
        brightest = faults.brightest(float(self.duration))
        fates, chances, seen = _fates(*(np.asarray(x, float) for x in self.arms()))
        background = np.broadcast_to(np.asarray(self.background * self.efficiencies()) / PS, self.channels)
        light, routes, drift, stray = (
            numpy_generator(key, f"arrivals {name}") for name in ("light", "routes", "faults", "background")
        )
        state = self.light.begin(light)
        clock, start = -EARLY - round(self._longest() * PS), 0
        waiting = [np.empty(0, np.int64) for _ in channels]
        for k in range(stretches):
            stop = (k + 1) * end // stretches
            emitted, state = self.light.emit(clock, stop, seen * brightest, light, state)
            emitted = faults.shining(emitted, brightest, drift)
            fate = _drawn(chances, len(emitted), routes)
            found = [[waiting[c], poisson_times(background[c], start, stop, stray)] for c in channels]
            for arm, path in enumerate(arms):
                aligned = faults.aligned(emitted, arm, drift)
                for c in channels:
                    mine = (fates[:, arm] == c)[fate]
                    chosen = emitted[np.flatnonzero(mine if aligned is None else mine & aligned)]
                    found[c].append(chosen + path.late(c, len(chosen), routes))
            events = []
            for c in channels:
                times = np.concatenate(found[c])
                times.sort(kind="stable")
                first, last = np.searchsorted(times, (start, stop))
                events.append(times[first:last])
                waiting[c] = times[last:]
            yield start, stop, events
            clock = start = stop

    def sample(self, *, key, memory_limit: float = np.inf) -> Iterator[TimeTags]:
        """The record, stretch by stretch: tags of all channels in order, those of a stretch within its start and stop.

        What a clock tells before 0 or after the duration is not in the record.
        """
        return self._sample(self.arrivals(key=key, memory_limit=memory_limit), key)

    def _sample(self, arrivals, key):
        faults, channels = self._faults(), range(self.channels)
        devices = [clicks.begin(d, numpy_generator(key, f"clicks {c}")) for c, d in enumerate(self.detectors)]
        clocks = [numpy_generator(key, f"clock {c}") for c in channels]
        copying = numpy_generator(key, "copies")
        late, resolution = [_held(d) for d in self.detectors], max(_step(d) for d in self.detectors)
        walks, full, begin, end = [0.0] * self.channels, (-1, 0), 0, round(float(self.duration) * PS)
        times, names = np.empty(0, np.int64), np.empty(0, np.int16)
        for start, stop, events in arrivals:
            parts, settled = [times], [stop]
            for c in channels:
                tags, devices[c] = clicks.detect(events[c], stop, devices[c])
                if stop == end:
                    tags = np.concatenate((tags, clicks.flush(devices[c])))
                tags = faults.gated(tags, start)
                tags, told, walks[c] = faults.told(tags, start, stop, c, walks[c], clocks[c])
                parts.append(tags)
                settled.append(told - late[c])
            names = np.concatenate([names, *(np.full(len(p), c, np.int16) for c, p in enumerate(parts[1:]))])
            times = np.concatenate(parts)
            order = np.argsort(times, kind="stable")
            times, names = times[order], names[order]
            finish = end if stop == end else max(begin, min(settled))
            first, last = np.searchsorted(times, (begin, finish))
            chosen, full = faults.recorded(times[first:last], names[first:last], begin, full, copying)
            yield TimeTags(times[first:last][chosen], names[first:last][chosen], begin, finish, resolution)
            times, names, begin = times[last:], names[last:], finish


def _held(device) -> int:
    """ps before the end of a stretch from which on the next one may still bring tags: jitter and the converter's cycle,
    on a clock that gains less than three times the time."""
    cycle = 0 if device.tdc is None else float(np.sum(device.tdc.widths))
    return 4 * ceil((clicks.FARTHEST * float(device.jitter) / FWHM + cycle) * PS) + 8


def _step(device) -> float:
    """ps, mean width of the converter's codes that occur; whole ps without one."""
    if device.tdc is None:
        return 1.0
    widths = np.ravel(device.tdc.widths)
    return max(1.0, float(widths.sum() / np.count_nonzero(widths)) * PS)


def _fates(signal, idler):
    """(fates [S, 2], their cumulative chances [S], chance that an emission is seen at all): the channels that its two
    photons fire, -1 for none."""
    lists = [np.append(x, max(1 - x.sum(), 0.0)) for x in (signal, idler)]
    table = np.outer(*lists)
    seen = 1 - table[-1, -1]
    table[-1, -1] = 0
    fates = np.stack(np.nonzero(table), axis=1)
    chances = np.cumsum(table[table > 0])
    return np.where(fates == len(signal), -1, fates), chances, seen


def _drawn(chances, count: int, rng) -> np.ndarray:
    """Fate of each of ``count`` emissions that are seen."""
    return np.searchsorted(chances[:-1], rng.random(count) * chances[-1], side="right") if count else np.empty(0, int)
