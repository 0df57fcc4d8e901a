"""What a record of time tags says of source, detectors and clocks: every figure of `qtwin correlate`.

The record is read several times, so it must be an iterable that can be started anew: a list, or a file.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from qtwin.core.errors import UserError
from qtwin.core.records import Estimate, TimeTags
from qtwin.correlation.accidentals import Accidentals, from_delayed, from_sides, from_singles, net
from qtwin.correlation.counting import Coincidences, Ratio, aligned, within
from qtwin.correlation.delay import (
    Drift,
    beginning,
    cut,
    dead_time,
    find_delay,
    follow_delay,
    peak,
    repetition_period,
    straight_line,
)
from qtwin.correlation.efficiency import Efficiencies, car, efficiencies
from qtwin.correlation.g2 import PulsedG2, bunching, heralded_g2, pulse_delay, pulse_phase, pulsed_g2
from qtwin.correlation.histogram import Histogram, autocorrelation, cross_correlation, stretches

SLICES = 60  # of the record, in which the rates are followed
PIECES = 20  # in which the delay is followed
PEAKS = 40  # of a pulsed histogram, on either side
LONG = 200_000  # ps, half window in which bunching is looked for


@dataclass(frozen=True)
class Channel:
    """Clicks of one channel; ``over_time`` of every slice of the record."""

    number: int
    clicks: int
    rate: Estimate  # per second
    over_time: np.ndarray  # [SLICES]
    smallest: int | None  # ps between two of its clicks
    repeated: int  # clicks that have the time of the one before
    dead: Estimate | None = None  # dead time from the autocorrelation, ps
    later: Histogram | None = None  # autocorrelation

    @property
    def unsteady(self) -> float:
        """Variance over mean of the clicks in slices: 1 for a steady Poisson stream."""
        mean = self.over_time.mean()
        return float(self.over_time.var(ddof=1) / mean) if mean else 1.0


class Settings(NamedTuple):
    """What the user says of the record; all times ps, None: found from the record."""

    channels: tuple[int, int] | None = None
    herald: int | None = None
    delay: int | None = None
    reach: int = 1_000_000_000  # within which the delay is looked for
    period: float | None = None  # 0: continuous light
    window: int | None = None
    bin: int | None = None
    range: int | None = None
    dark_rates: tuple[float, float] = (0.0, 0.0)  # per second


DEFAULTS = Settings()


@dataclass(frozen=True)
class Survey:
    """Everything that was found; None where the record does not tell, with the reason in ``notes``."""

    seconds: float
    step: float
    start: int  # ps
    channels: tuple[Channel, ...]
    pair: tuple[int, int] | None = None
    period: Estimate | None = None
    delay: Estimate | None = None
    width: Estimate | None = None  # std of the peak, ps
    window: int | None = None
    pairs: Histogram | None = None
    coincidences: Coincidences | None = None
    accidentals: dict[str, Accidentals] = field(default_factory=dict)
    net: Estimate | None = None
    car: Ratio | None = None
    efficiencies: Efficiencies | None = None
    pulsed: PulsedG2 | None = None
    heralded: Ratio | None = None
    bunching: Estimate | None = None
    drift: Drift | None = None
    notes: tuple[str, ...] = ()

    def channel(self, number: int) -> Channel:
        return next(c for c in self.channels if c.number == number)


def singles(record: Iterable[TimeTags]) -> tuple[tuple[Channel, ...], int, int, float]:
    """(channels, start, stop, clock step): counts, rates over time, smallest spacings; two passes."""
    begin = end = None
    step = 0.0
    numbers: set[int] = set()
    for tags in stretches(record):
        begin = tags.start if begin is None else begin
        end, step = tags.stop, tags.resolution
        numbers |= set(np.unique(tags.channels).tolist())
    if begin is None or end is None or end <= begin:
        raise UserError("record: got a record that was watched for no time, expected start before stop")
    edges = np.linspace(begin, end, SLICES + 1)
    over_time = {n: np.zeros(SLICES, np.int64) for n in sorted(numbers)}
    repeated = dict.fromkeys(over_time, 0)
    smallest: dict[int, int | None] = dict.fromkeys(over_time)
    last: dict[int, int] = {}
    for tags in stretches(record):
        for n in over_time:
            times = tags.of(n)
            if not len(times):
                continue
            inside = np.clip(np.searchsorted(edges, times, side="right") - 1, 0, SLICES - 1)
            over_time[n] += np.bincount(inside, minlength=SLICES)
            gaps = np.diff(times, prepend=last[n]) if n in last else np.diff(times)
            if len(gaps):
                repeated[n] += int(np.count_nonzero(gaps == 0))
                least, before = int(gaps.min()), smallest[n]
                smallest[n] = least if before is None else min(before, least)
            last[n] = int(times[-1])
    seconds = (end - begin) * 1e-12

    def of(n: int) -> Channel:
        clicks = int(over_time[n].sum())
        rate = Estimate(clicks / seconds, np.sqrt(max(clicks, 1)) / seconds)
        return Channel(n, clicks, rate, over_time[n], smallest[n], repeated[n])

    return tuple(of(n) for n in over_time), begin, end, step


def _with_dead_time(record, channel: Channel, step: float, period: Estimate | None) -> Channel:
    """The channel with its autocorrelation, over some twenty times its smallest spacing (or 40 periods)."""
    if channel.clicks < 1000 or not channel.smallest:
        return channel
    unit, over, pulses = max(1, round(step)), channel.smallest // 8, 0.0  # short against what bunches, and the spacing
    if period is not None:
        over, pulses = max(1, round(over / period.value)) * round(period.value), 40 * period.value
    width = max(unit, over // 12 // unit * unit) if period is None else round(period.value / unit) * unit
    later = autocorrelation(record, channel.number, int(max(6 * channel.smallest, pulses)) // width * width, width)
    dead = None
    if period is None or channel.smallest > period.value:
        try:
            dead = dead_time(later, over // width * width)
        except UserError:  # too few pairs behind it: the smallest spacing is all that is known
            dead = None
    return replace(channel, dead=dead, later=later)


def _pulse_drift(record, pair: tuple[int, int], lag: int, period: Estimate, length: int, bin_width: int) -> Drift:
    """Delay modulo the period in every piece of ``length`` ps: the phase of the train, followed from ``lag`` ps on."""
    times, delays, errors, expected = [], [], [], float(lag)
    reach = round(8 * period.value / bin_width) * bin_width
    for piece in cut(record, length):
        moved = list(aligned(piece, {pair[0]: 0, pair[1]: lag}))
        if not all(any(len(t.of(c)) for t in moved) for c in pair):
            continue
        h = cross_correlation(moved, *pair, reach, bin_width)
        if h.counts.sum() < 100:
            continue
        phase = pulse_phase(h, period.value)
        turns = round((expected - lag - phase.value) / period.value)
        expected = lag + phase.value + turns * period.value
        times.append((piece[0].start + piece[-1].stop) / 2 * 1e-12)
        delays.append(expected)
        errors.append(phase.error)
    if len(times) < 3:
        raise UserError(f"delay: the pulses are seen in {len(times)} pieces of the record, expected three or more")
    return straight_line(np.array(times), np.array(delays), np.array(errors))


def _chosen(channels: tuple[Channel, ...], settings: Settings) -> tuple[int, int] | None:
    present = {c.number: c.clicks for c in channels if c.clicks}
    if settings.channels is not None:
        for n in (*settings.channels, *([] if settings.herald is None else [settings.herald])):
            if n not in present:
                raise UserError(f"channels: got {n}, accepted are the record's: {', '.join(map(str, present))}")
        return settings.channels
    if settings.herald is not None and settings.herald not in present:
        raise UserError(f"herald: got {settings.herald}, accepted are the record's: {', '.join(map(str, present))}")
    others = sorted((n for n in present if n != settings.herald), key=lambda n: -present[n])[:2]
    return (min(others), max(others)) if len(others) == 2 else None


def survey(record: Iterable[TimeTags], settings: Settings = DEFAULTS) -> Survey:
    """Rates, delay, correlation, accidentals, CAR, efficiencies, g2, dead times and drift of a record.

    Pairs are sought between two channels: those of the settings, or the two with most clicks. Light is taken as pulsed
    where a channel shows a period, or the settings give one. Raises UserError for settings that cannot be.
    """
    channels, begin, end, step = singles(record)
    notes: list[str] = []
    pair = _chosen(channels, settings)
    period = _period(record, channels, pair, settings, notes)
    channels = tuple(_with_dead_time(record, c, step, period) for c in channels)
    found = Survey((end - begin) * 1e-12, step, begin, channels, pair, period, notes=tuple(notes))
    if pair is None:
        return _noted(found, "one channel only: no pairs")
    more = _pulsed(record, found, settings) if period is not None else _continuous(record, found, settings)
    found = replace(found, **more)
    found = replace(found, **_counted(record, found, settings))
    return replace(found, notes=(*found.notes, *warnings(found)))


def _noted(found: Survey, note: str) -> Survey:
    return replace(found, notes=(*found.notes, note, *warnings(found)))


def _period(record, channels, pair, settings: Settings, notes: list[str]) -> Estimate | None:
    if settings.period is not None:
        return Estimate(settings.period, 0.0) if settings.period else None
    busiest = max(channels, key=lambda c: c.clicks, default=None)
    if busiest is None or busiest.clicks < 1000:
        return None
    channel = busiest.number if pair is None else pair[0]
    try:
        found = repetition_period(record, channel)
    except UserError as error:
        notes.append(f"continuous light ({error})")
        return None
    times = beginning(record, (channel,), 5000).of(channel)
    resultant = abs(np.mean(np.exp(2j * np.pi * (times - times[0]) / found.value)))
    if len(times) * resultant**2 > 25:  # Rayleigh's test: chance has exp(-25) of that
        return found
    notes.append(f"continuous light (a rhythm of {found.value:.0f} ps does not keep its phase)")
    return None


def _widths(settings: Settings, step: float, usual: float, reach: float) -> tuple[int, int]:
    """(bin, half range) in whole clock steps, the range a whole number of bins."""
    unit = max(1, round(step))
    width = settings.bin or max(1, round(usual / unit)) * unit
    half = settings.range or reach
    if settings.range and settings.range < 4 * width:
        raise UserError(f"range: got {settings.range} ps, accepted is four bins of {width} ps or more")
    return width, max(4, round(half / width)) * width


def _pulsed(record, found: Survey, settings: Settings) -> dict:
    assert found.period is not None and found.pair is not None
    period, pair = found.period.value, found.pair
    width, half = _widths(settings, found.step, period / 64, (PEAKS + 0.5) * period)
    lag = settings.delay or 0
    out: dict = {"window": settings.window or round(period)}
    h = cross_correlation(aligned(record, {pair[0]: 0, pair[1]: lag}), *pair, half, width)
    notes = found.notes
    if settings.delay is not None:
        delay = Estimate(float(lag), 0.0)
    else:
        try:
            delay = pulse_delay(h, period)
        except UserError as error:
            delay = None
            notes = (*notes, f"{error}; zero is taken for it")
    out["delay"] = delay
    centre = 0 if delay is None else round(delay.value)
    if centre != lag:
        h = cross_correlation(aligned(record, {pair[0]: 0, pair[1]: centre}), *pair, half, width)
    out["pairs"] = h
    out["pulsed"] = pulsed_g2(h, period, 0.0, min(out["window"], period) if settings.window else None)
    length = max(1, round(found.seconds * 1e12 / PIECES))
    if delay is not None:
        try:
            out["drift"] = _pulse_drift(record, pair, centre, found.period, length, width)
        except UserError as error:
            notes = (*notes, str(error))
    return out | {"notes": notes}


def _continuous(record, found: Survey, settings: Settings) -> dict:
    assert found.pair is not None
    pair, notes = found.pair, found.notes
    out: dict = {}
    width: Estimate | None = None
    if settings.delay is not None:
        delay: Estimate | None = Estimate(float(settings.delay), 0.0)
    else:
        try:
            top = find_delay(record, *pair, settings.reach)
            delay, width = top.delay, top.width
        except UserError as error:
            delay, notes = None, (*notes, f"{error}; zero is taken for the delay")
    centre = 0 if delay is None else round(delay.value)
    usual = width.value / 4 if width else 100.0
    bin_width, half = _widths(settings, found.step, usual, 25 * usual * 4)
    h = cross_correlation(aligned(record, {pair[0]: 0, pair[1]: centre}), *pair, half, bin_width)
    if width is None and settings.delay is not None and (top := peak(h)).found:
        width = top.width
    window = settings.window or max(2, 2 * round(3 * (width.value if width else 500.0) / bin_width)) * bin_width
    out |= {"delay": delay, "width": width, "pairs": h, "window": window}
    length = max(1, round(found.seconds * 1e12 / PIECES))
    if delay is not None and width is not None:
        try:
            out["drift"] = follow_delay(record, *pair, delay.value, length, half, bin_width)
        except UserError as error:
            notes = (*notes, str(error))
    return out | {"notes": notes}


def _counted(record, found: Survey, settings: Settings) -> dict:
    """Coincidences in the window, and what follows from them."""
    assert found.pair is not None and found.window is not None and found.pairs is not None
    pair, window = found.pair, found.window
    centre = 0 if found.delay is None else round(found.delay.value)
    at_zero = {pair[0]: 0, pair[1]: centre} | ({} if settings.herald is None else {settings.herald: 0})
    half = -(-window // 2)
    c = within(cross_correlation(aligned(record, at_zero), *pair, half, half), 2 * half)
    out: dict = {"coincidences": c, "window": 2 * half}
    notes = found.notes
    if found.pulsed is None:
        found_accidentals = {"singles": from_singles(c)}
        guard = 2 * half
        try:
            found_accidentals["sides"] = from_sides(found.pairs, c, guard)
            found_accidentals["delayed"] = from_delayed(Aligned(record, at_zero), c, 4 * guard)
        except UserError as error:
            notes = (*notes, str(error))
    else:
        sides = found.pulsed
        others = int(sides.areas.sum() - sides.areas[sides.numbers == 0][0])
        count = len(sides.areas) - 1
        value = others / count
        found_accidentals = {"side peaks": Accidentals(value, float(np.sqrt(max(others, 1)) / count), count)}
    best = next(iter(found_accidentals.values()))
    out |= {"accidentals": found_accidentals, "net": net(c, best), "car": car(c, best)}
    seconds = c.watched * 1e-12
    darks = [Estimate(rate * seconds, 0.0) for rate in settings.dark_rates]
    if out["net"].value > 5 * out["net"].error:
        out["efficiencies"] = efficiencies(c, best, *darks)
    if settings.herald is not None:
        out["heralded"] = heralded_g2(aligned(record, at_zero), settings.herald, pair, 2 * half)
    aside = LONG + 2 * c.window if out["net"].value > 0 else 0  # a peak of pairs is no bunching
    shifted = Aligned(record, {pair[0]: 0, pair[1]: centre + aside})
    try:
        out["bunching"] = bunching(shifted, *pair, 2 * LONG, round(found.seconds * 1e12 / PIECES))
    except UserError as error:
        notes = (*notes, str(error))
    return out | {"notes": notes}


class Aligned:
    """A record with its delays taken out, that can be started anew."""

    def __init__(self, record: Iterable[TimeTags], delays: dict[int, int]):
        self.record, self.delays = record, delays

    def __iter__(self):
        return aligned(self.record, self.delays)


def warnings(found: Survey) -> list[str]:
    """What looks wrong, in words."""
    out = []
    for c in found.channels:
        if c.clicks == 0:
            continue
        where = f"channel {c.number}"
        if c.repeated:
            out.append(f"{where}: {c.repeated} clicks have the time of the one before (records written twice?)")
        if c.dead is not None and (loss := c.rate.value * c.dead.value * 1e-12) > 0.05:
            out.append(f"{where}: {100 * loss:.0f} % of the time is dead: saturation")
        bound = 1 + 5 * np.sqrt(2 / (SLICES - 1))
        if c.clicks > 20 * SLICES and c.unsteady > bound:
            out.append(f"{where}: the rate varies {c.unsteady:.1f} times more than counting noise (drift, blinking)")
        empty = int(np.count_nonzero(c.over_time == 0))
        if c.clicks > 20 * SLICES and empty:
            out.append(f"{where}: silent in {empty} of {SLICES} slices of the record")
    if found.drift is not None:
        slope = found.drift.slope
        if abs(slope.value) > 5 * slope.error:
            out.append(f"clocks drift apart by {slope.value:.3g} ± {slope.error:.1g} ps per second")
        if found.width is not None and abs(slope.value) * found.seconds > 2 * found.width.value:
            out.append("the delay drifts by more than the peak is wide: coincidences are lost at a fixed delay")
    if found.car is not None and found.pulsed is None and found.delay is not None and found.car.high < 10:
        out.append(f"CAR {found.car.value:.3g} is below 10")
    if found.bunching is not None and found.bunching.value > 1 + 5 * found.bunching.error:
        text = f"{found.bunching.value:.3g} ± {found.bunching.error:.1g}"
        out.append(f"pairs 200 ns apart are {text} times those of steady light (blinking, bunching)")
    return out
