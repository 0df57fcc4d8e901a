"""Clicks of single-photon detectors, one after the other in time: what the means of `SinglePhoton` are the means of.

    state = begin(device, rng)
    for stop, times in stretches:
        tags, state = detect(times, stop, state)
    last = flush(state)

Events (photons, dark counts, released carriers) are followed in order of time, so that a stretch needs only what it
brings; the order of the tags after jitter is repaired where it is broken, and a tag is handed out once nothing later
can precede it. Random numbers are drawn event by event: the same generator gives the same tags, however the record is
cut. Numba is imported here: import this module only where clicks are drawn.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from qtwin.core.errors import UserError
from qtwin.detector.crosstalk import PixelArray
from qtwin.detector.jitter import FWHM
from qtwin.detector.single_photon import SinglePhoton

PS = 1e12
NEVER = 1 << 62  # ps
FARTHEST = 8.0  # normal deviates are cut below this many sigma: 6e-16 of them
ROOM = 1024  # tags and carriers beyond those that are foreseen
CARRIERS = 16  # room for a click's own; a Poisson number of mean 1 is greater once in 1e15


class Law(NamedTuple):
    """A device in numbers; all times in ps."""

    dead: int
    paralysable: bool
    recovery: float
    twilight: int
    dark_gap: float  # mean time between dark counts of all pixels together
    dark_below: np.ndarray  # [pixels] share of the dark counts up to and including each
    alone: float  # probability that a click has no afterpulse
    delays: np.ndarray  # [bins + 1]
    delays_below: np.ndarray  # [bins + 1] probability below each delay
    gate: tuple[int, int, int]  # period (0: always open), width, offset
    sigma: float
    tail: float
    first: np.ndarray  # crosstalk as in `PixelArray.neighbours`
    neighbour: np.ndarray
    chance: np.ndarray


class State(NamedTuple):
    """Where a record stands; used up by the call that gets it."""

    law: Law
    rng: np.random.Generator
    stamps: np.ndarray  # what the converter writes for each ps of its cycle
    now: int
    next_dark: int
    ready: np.ndarray  # [pixels] end of the last dead time
    waiting: np.ndarray  # carriers still to be released: minus their times, rising
    owner: np.ndarray  # and their pixels
    tags: np.ndarray  # clicks held back, in order
    where: np.ndarray  # and their pixels


def begin(device: SinglePhoton, rng: np.random.Generator, start: int = 0) -> State:
    """An idle device at ``start`` ps; ``rng`` is used up in place."""
    nothing = np.zeros(0, np.int64)
    dark = np.array([float(device.dark_rate)])
    return _begin(device, dark, (np.zeros(2, np.int64), nothing, np.zeros(0)), rng, start)


def begin_array(array: PixelArray, rng: np.random.Generator, start: int = 0) -> State:
    """An idle array at ``start`` ps; its pixels are numbered row by row. Raises UserError beyond int16."""
    if array.rows * array.columns > 1 << 15:
        raise UserError(f"rows x columns: got {array.rows} x {array.columns}, accepted are up to {1 << 15} pixels")
    return _begin(array.pixel, np.asarray(array.dark_rates(), float).ravel(), array.neighbours(), rng, start)


def detect(times: np.ndarray, stop: int, state: State) -> tuple[np.ndarray, State]:
    """Tags of one stretch of events, int64 ps in order, and the state after it.

    times: int64 ps in order, from the last ``stop`` to before this one: photons that fire the device if it is alive,
    the efficiency already applied; dark counts are added here. Tags may lie outside the stretch by jitter; some are
    held back for the next. Raises UserError.
    """
    tags, _, state = detect_array(times, np.zeros(len(times), np.int16), stop, state)
    return tags, state


def detect_array(times: np.ndarray, pixels: np.ndarray, stop: int, state: State):
    """(tags, their pixels int16, state) of events that fall on ``pixels``, int16; otherwise as `detect`."""
    times = np.asarray(times)
    if times.dtype != np.int64 or times.ndim != 1:
        raise UserError(f"times: got {times.dtype} of shape {times.shape}, expected int64 picoseconds in one row")
    if pixels.dtype != np.int16 or pixels.shape != times.shape:
        raise UserError(f"pixels: got {pixels.dtype} of shape {pixels.shape}, expected int16 for every time")
    if not state.now <= stop < NEVER:
        raise UserError(f"stop: got {stop} ps, accepted is from {state.now} ps on")
    if len(times) and not (state.now <= times[0] and times[-1] < stop):
        raise UserError(f"times: got {times[0]} to {times[-1]} ps, accepted is from {state.now} to before {stop} ps")
    if len(pixels) and not (0 <= pixels.min() and pixels.max() < len(state.ready)):
        raise UserError(f"pixels: got {pixels.min()} to {pixels.max()}, accepted is 0 to {len(state.ready) - 1}")
    i, carriers, count, next_dark, done = 0, len(state.waiting), len(state.tags), state.next_dark, False
    waiting, owner, tags, where = state.waiting, state.owner, state.tags, state.where
    while not done:
        more = ROOM + 2 * CARRIERS * len(state.ready)
        waiting, owner = _longer(waiting, carriers + more), _longer(owner, carriers + more)
        more += count // 2 + len(times) - i
        tags, where = _longer(tags, count + more), _longer(where, count + more)
        i, next_dark, carriers, count, done = _run(
            *(times, pixels, stop, state.law, state.rng, i, next_dark, state.ready, waiting, owner, carriers),
            *(tags, where, count),
        )
    if i < len(times):
        raise UserError(f"times: event {i} at {times[i]} ps comes before its predecessor")
    tags, where = tags[:count], where[:count]
    settled = np.searchsorted(tags, stop - np.ceil(FARTHEST * state.law.sigma) - 1)
    after = state._replace(
        now=stop,
        next_dark=next_dark,
        waiting=waiting[:carriers].copy(),
        owner=owner[:carriers].copy(),
        tags=tags[settled:].copy(),
        where=where[settled:].copy(),
    )
    return _stamped(tags[:settled], state.stamps), where[:settled], after


def flush(state: State) -> np.ndarray:
    """The tags still held back, int64 ps in order."""
    return _stamped(state.tags, state.stamps)


def flush_array(state: State) -> tuple[np.ndarray, np.ndarray]:
    """(tags, pixels) still held back."""
    return _stamped(state.tags, state.stamps), state.where


def _longer(array: np.ndarray, size: int) -> np.ndarray:
    """The array with room for ``size``."""
    return array if size <= len(array) else np.concatenate([array, np.empty(size - len(array), array.dtype)])


def _begin(device: SinglePhoton, dark: np.ndarray, neighbours, rng: np.random.Generator, start: int) -> State:
    def ps(x) -> int:
        return round(float(x) * PS)

    trapped, gate, total = device.afterpulsing, device.gate, float(dark.sum())
    delays, below = (np.zeros(2), np.array([0.0, 1.0])) if trapped is None else trapped.table()
    law = Law(
        dead=ps(device.dead_time),
        paralysable=device.dead_time_law == "paralysable",
        recovery=float(device.recovery_time) * PS,
        twilight=ps(device.twilight),
        dark_gap=PS / total if total > 0 else np.inf,
        dark_below=np.cumsum(dark) / (total if total > 0 else 1.0),
        alone=1.0 if trapped is None else float(np.exp(-float(trapped.probability))),
        delays=delays * PS,
        delays_below=below,
        gate=(0, 0, 0) if gate is None else (ps(gate.period), ps(gate.width), ps(gate.offset)),
        sigma=float(device.jitter) * PS / FWHM,
        tail=float(device.jitter_tail) * PS,
        first=neighbours[0],
        neighbour=neighbours[1],
        chance=neighbours[2],
    )
    empty, none = np.zeros(0, np.int64), np.zeros(0, np.int16)
    ready = np.full(len(dark), start - 10**15, np.int64)
    stamps = np.zeros(1, np.int64) if device.tdc is None else device.tdc.stamps()
    first_dark = start + round(min(rng.standard_exponential() * law.dark_gap, float(NEVER - start)))
    return State(law, rng, stamps, start, first_dark, ready, empty, none, empty, none)


@njit(nogil=True, inline="always")
def _place(times, pixels, count, time, pixel):
    """Put one in order behind the first ``count``; there must be room."""
    while count > 0 and times[count - 1] > time:
        times[count], pixels[count] = times[count - 1], pixels[count - 1]
        count -= 1
    times[count], pixels[count] = time, pixel


@njit(nogil=True, error_model="numpy")
def _run(times, pixels, stop, law, rng, i, next_dark, ready, waiting, owner, carriers, tags, where, count):
    """Follow the events before ``stop`` from number i on; arrays are changed in place.

    Returns (i, next_dark, carriers, count, done); done is False where ``tags`` or ``waiting`` want more room. (Arrays
    that grow inside the loop would cost ten times the time: their references are counted.)
    """
    before = times[i - 1] if i else -NEVER
    fired_at, fired = np.empty(len(ready), np.int64), np.empty(len(ready), np.int64)
    dead, paralysable, recovery, twilight, dark_gap, dark_below = law[:6]
    alone, delays, delays_below, (period, width, offset) = law[6:10]
    sigma, tail, first, neighbour, chance = law[10:]
    jittery = sigma > 0 or tail > 0
    while True:
        if count + len(ready) > len(tags) or carriers + CARRIERS * len(ready) > len(waiting):
            return i, next_dark, carriers, count, False
        time, kind = stop, 0
        if i < len(times):
            if times[i] < before:
                break
            before = times[i]
            time, kind = before, 1
        if next_dark < time:
            time, kind = next_dark, 2
        if carriers and -waiting[carriers - 1] < time:
            time, kind = -waiting[carriers - 1], 3
        if kind == 0:
            break
        if kind == 1:
            pixel = np.int64(pixels[i])
            i += 1
        elif kind == 2:
            pixel = np.int64(0)
            if len(ready) > 1:
                pixel = np.int64(np.searchsorted(dark_below, rng.random(), side="right"))
            next_dark += np.int64(np.rint(rng.standard_exponential() * dark_gap))
        else:
            carriers -= 1
            pixel = np.int64(owner[carriers])
        if period and (time - offset) % period >= width:
            continue
        if time < ready[pixel]:
            if paralysable:
                ready[pixel] = time + dead
                continue
            if kind == 3 or time < ready[pixel] - twilight:
                continue
            time = ready[pixel]
        elif recovery > 0 and rng.random() < np.exp((ready[pixel] - time) / recovery):
            continue
        ready[pixel] = time + dead
        fired_at[0], fired[0], clicks = time, pixel, 1
        while clicks:  # those that crosstalk adds at once
            clicks -= 1
            time, pixel = fired_at[clicks], fired[clicks]
            tag = time
            if jittery:
                delay = 0.0
                if sigma > 0:
                    delay = sigma * max(rng.standard_normal(), -FARTHEST)
                if tail > 0:
                    delay += tail * rng.standard_exponential()
                tag += np.int64(np.rint(delay))
            _place(tags, where, count, tag, pixel)
            count += 1
            if alone < 1:
                left = rng.random()
                while left > alone and carriers < len(waiting):
                    u = rng.random()
                    j = np.searchsorted(delays_below, u, side="right") - 1
                    part = (u - delays_below[j]) / (delays_below[j + 1] - delays_below[j])
                    late = delays[j] + part * (delays[j + 1] - delays[j])
                    _place(waiting, owner, carriers, -ready[pixel] - np.int64(np.rint(late)), pixel)
                    carriers += 1
                    left *= rng.random()
            for k in range(first[pixel], first[pixel + 1]):
                if rng.random() < chance[k]:
                    other = neighbour[k]
                    if ready[other] == time + dead:  # has fired with them
                        continue
                    if time < ready[other]:
                        if paralysable:
                            ready[other] = time + dead
                    elif recovery == 0 or rng.random() >= np.exp((ready[other] - time) / recovery):
                        ready[other] = time + dead
                        fired_at[clicks], fired[clicks] = time, other
                        clicks += 1
    return i, next_dark, carriers, count, True


@njit(nogil=True)
def _stamped(times, stamps):
    """As the converter writes them."""
    written = times.copy()
    if len(stamps) > 1:
        for i in range(len(times)):
            inside = times[i] % len(stamps)
            written[i] += stamps[inside] - inside
    return written
