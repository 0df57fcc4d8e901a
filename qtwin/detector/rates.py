"""Mean clicks and coincidences of detectors under light and background, steady or pulsed.

``signal`` and ``idler`` [C]: probabilities that the photons of an emission fire channel c if it is alive; ``other``:
events per second of background and dark counts. Both laws agree where pulses follow each other quickly.
"""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp

from qtwin.core.errors import FieldError
from qtwin.detector.single_photon import SinglePhoton


class Rates(NamedTuple):
    """What is expected of C channels; [C, C] are for two different ones."""

    singles: jax.Array  # [C] clicks per second
    pairs: jax.Array  # [C, C] coincidences per second beyond those that independent clicks of this light make
    light: jax.Array  # [C, C] products of the click rates that light alone makes, Hz^2
    rest: jax.Array  # [C, C] products with background, dark counts and afterpulses in either channel, Hz^2
    blind: jax.Array  # [C, C] part of these products that is missing close to a pair, whose clicks blind both, Hz^2

    def coincidences(self, window, near, far):
        """(C, A) per second, [C, C]: pairs of clicks in a window of full ``window`` s, at the delay and far from it.

        C = pairs + light near + (rest - blind) window, A = light far + rest window, near and far as in
        `AbstractLight.windows`. The window must hold delays, flights and jitter, and be shorter than twice each dead
        time that is not 0; C/A is the CAR.
        """
        gross = self.pairs + self.light * near + (self.rest - self.blind) * window
        return gross, self.light * far + self.rest * window


def steady(light, bright, signal, idler, other, detectors) -> Rates:
    """Pairs R (s_a i_b + i_a s_b) times both live fractions, for R = ``bright`` times the emissions of the light.

    Of r pairs per second that would click if the detectors were alive independently, 1 + r min(tau) times as many do,
    since a pair blinds both (exact where every photon meets a detector, otherwise to first order, of a sharp dead
    time). After a pair nothing clicks for a dead time: blind = pairs (m_a + m_b)/2. Both photons of a pair on one
    channel click once if it has a dead time. Bunched light loses more: singles know it, its coincidences do not fully.
    """
    rate, dead = bright * light.rate(), jnp.stack([d.dead_time for d in detectors])
    events = rate * (signal + idler - jnp.where(dead > 0, signal * idler, 0.0))
    reach = jnp.where(dead > 0, 2 * dead, 1.0)
    crowd = jnp.where(dead > 0, light.windows(reach)[0] / reach, 1.0)
    clicks = [steady_clicks(d, events[c], other[c], crowd[c]) for c, d in enumerate(detectors)]
    of_light, rest = (jnp.stack(x) for x in zip(*clicks, strict=True))
    alive = jnp.where(events > 0, of_light / jnp.where(events > 0, events, 1.0), 1.0)
    pairs = rate * _either_way(signal, idler)
    pairs = pairs * _product(alive) * (1 + pairs * jnp.minimum(dead[:, None], dead[None, :]))
    return _rates(of_light, rest, pairs, _blind(pairs, of_light + rest, dead))


def pulsed(light, bright, signal, idler, other, detectors) -> Rates:
    """Joint clicks q_ab/T times both live fractions; ``bright``: the light's mean over its own.

    A detector with a dead time clicks once a pulse, with q = 1 - G (G of ``light.generating``), and q_ab by inclusion
    and exclusion; one without counts every photon, <n_a n_b> = mu (s_a i_b + i_a s_b) + g2(0) <n_a><n_b>.
    """
    period, mean = light.period, bright * light.rate() * light.period
    dead = jnp.stack([d.dead_time for d in detectors])
    blind = jnp.stack([blind_pulses(d, period) for d in detectors])
    blind = blind * light.g2(period * (blind + 1) / 2)
    once = dead > 0

    def chance(s, i):
        """That a pulse brings a photon, of arms that are met with s and i."""
        return 1 - light.generating(bright * (1 - (1 - s) * (1 - i)))

    counts = mean * (signal + idler)
    one = jnp.where(once, chance(signal, idler), counts)
    some = chance(signal[:, None] + signal[None, :], idler[:, None] + idler[None, :])
    joint = mean * _either_way(signal, idler) + light.g2(0.0) * _product(counts)
    joint = jnp.where(once[:, None] & once[None, :], one[:, None] + one[None, :] - some, joint)
    clicks = [pulsed_clicks(d, one[c], other[c], period, blind[c]) for c, d in enumerate(detectors)]
    of_light, rest = (jnp.stack(x) for x in zip(*clicks, strict=True))
    alive = jnp.where(one > 0, of_light * period / jnp.where(one > 0, one, 1.0), 1.0)
    seen = joint / period * _product(alive) * (1 + joint * jnp.minimum(blind[:, None], blind[None, :]))
    pairs = seen - light.g2(0.0) * period * _product(of_light)
    return _rates(of_light, rest, pairs, _blind(seen, rest, dead))


def _rates(light, rest, pairs, blind):
    of_light = _product(light)
    return Rates(light + rest, pairs, of_light, _product(light + rest) - of_light, blind)


def _product(x):
    return x[:, None] * x[None, :]


def _either_way(signal, idler):
    return signal[:, None] * idler[None, :] + idler[:, None] * signal[None, :]


def _blind(pairs, clicks, dead):
    """A channel without dead time is never blind."""
    hidden = jnp.where(dead > 0, clicks, 0.0)
    return pairs * (hidden[:, None] + hidden[None, :]) / 2


def steady_clicks(device: SinglePhoton, light, other, crowd):
    """(L, m - L) clicks per second of light and of others: n = n_l + n_o events make m = n live(n) clicks, L = n_l a.

    a is the chance that an event clicks, 1 - m tau behind a sharp dead time; clicks of afterpulses count as others.
    ``crowd``: mean of g2 over a dead time, by which an event of bunched light has more of its kind before it (first
    order in the rate). Elementwise.
    """
    events = light + other
    near, alone = device.live_at(light * crowd + other), device.live_at(events)
    if device.afterpulsing is None:
        return light * near, other * alone
    plain = replace(device, afterpulsing=None)
    more = events * (alone - plain.live_at(events))
    lost = more * device.dead_time
    near = plain.live_at(light * crowd + other)
    return light * (near - lost), other * (plain.live_at(events) - lost) + more


def blind_pulses(device: SinglePhoton, period):
    """k: mean number of later pulses that find the detector blind after a click, at low rates.

    Those within the dead time less twilight, and sum_j exp(-(j T - tau)/tau_r) over the others, while it recovers.
    """
    recovery = device.recovery_time
    sharp = jnp.ceil((device.dead_time - device.twilight) / period - 1e-9) - 1
    first = (sharp + 1) * period - device.dead_time + device.twilight
    safe = jnp.where(recovery > 0, recovery, period)
    slow = jnp.exp(-first / safe) / -jnp.expm1(-period / safe)
    return jnp.maximum(sharp, 0.0) + jnp.where(recovery > 0, slow, 0.0)


def pulsed_clicks(device: SinglePhoton, chance, other, period, blind):
    """(L, O): L = (q/T)(1 - L k T - O tau), O = o (1 - (L + O) tau): pulses of period T click with chance q, others o.

    A click of light blinds k = ``blind`` pulses, one at any time tau/T on average (tau with recovery, less twilight);
    dead times do not overlap, so the parts of time add: exact for a sharp, non-paralysable dead time. Recovery,
    twilight and afterpulses (as under steady light) to first order in the rates. FieldError for other devices.
    """
    if device.gate is not None or device.dead_time_law != "non-paralysable":
        raise FieldError("detectors", "got gates or a paralysable dead time, accepted under pulsed light is neither")
    tau = device.dead_time + device.recovery_time - device.twilight
    open_light, open_other = 1 + chance * blind, 1 + other * tau
    share = open_light * open_other - chance / period * tau * other * tau
    light, rest = chance / period / share, other * (open_light - tau * chance / period) / share
    if device.afterpulsing is None:
        return light, rest
    events = chance / period + other
    plain = replace(device, afterpulsing=None)
    more = events * (device.live_at(events) - plain.live_at(events))
    alive = 1 - more * device.dead_time
    return light * alive, rest * alive + more
