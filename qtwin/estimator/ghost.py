"""Heralded ghost image: a bucket behind the object, an array in the idler, coincidences between their clicks.

Pittman et al., Phys. Rev. A 52, R3429 (1995); photon-sparse with heralding: Morris et al., Nat. Commun. 6, 5913
(2015). Coincidences alone, or with the idler clicks that had no partner used as well (a binomial ratio).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.random import numpy_generator
from qtwin.correlation import Coincidence
from qtwin.correlation.coincidence import count
from qtwin.detector import SinglePhoton
from qtwin.detector.single_photon import alive
from qtwin.estimator.linear import Calibration, Records, optimal_k
from qtwin.estimator.setting import Setting
from qtwin.estimator.twin_beams import pixel_of
from qtwin.optics import FarField
from qtwin.tissue.light_path import Exposure, Images


class Clicks(NamedTuple):
    """Mean clicks of one exposure."""

    bucket: jax.Array  # []
    array: jax.Array  # [n, n]
    pairs: jax.Array  # [n, n] true coincidences kept by window and dead times
    gross: jax.Array  # [n, n] all coincidences
    chance: jax.Array  # [] probability that an array click meets an unrelated bucket click
    carved: jax.Array  # [] part of that chance which the bucket's own dead time removes around a true pair
    live_bucket: jax.Array  # []


def clicks(
    accepted, ghost, idler, setting: Setting, optics: FarField, device: SinglePhoton, gate: Coincidence
) -> Clicks:
    """Means for light ``accepted`` in the bucket and ``ghost`` [n, n] of it heralded per superpixel.

    Coincidences scale by both live fractions (cw light). An array click meets an unrelated bucket click with
    chance a = S_b tau_w/T; but around the bucket click of a true pair the bucket is dead, so that of the true
    pairs only the part 1 - c can have a second one, c = min(1, 2 tau_dead/tau_w): gross = pairs + a (array - c pairs).
    """
    t = setting.time
    light = optics.collection_transmission * setting.incident * accepted
    live_bucket = device.live(light, t)
    bucket = device.events(light, t) * live_bucket
    idlers = optics.idler_transmission * setting.emitted * idler
    live_array = device.live(idlers, t)
    array = device.events(idlers, t) * live_array
    eta = device.efficiency**2 * optics.collection_transmission * optics.idler_transmission
    pairs = eta * setting.incident * ghost * gate.capture(device.jitter, device.jitter) * live_bucket * live_array
    chance = gate.accidentals(bucket, 1.0, t)
    carved = jnp.minimum(1, 2 * device.dead_time / gate.window)
    return Clicks(bucket, array, pairs, pairs + chance * (array - carved * pairs), chance, carved, live_bucket)


def accepted_light(images: Images):
    """Light in the bucket with the object in place: it is clear outside the field."""
    return images.accepted + jnp.sum(images.ghost - images.ghost_open)


def expect(
    images: Images, idler, setting: Setting, optics: FarField, device: SinglePhoton, gate: Coincidence
) -> Records:
    """Moments of gross coincidences x and array clicks y: every coincidence uses one click of the array.

    Poisson variances: dead times must be short against the spacing of clicks (their loss is printed).
    """
    c = clicks(accepted_light(images), images.ghost, idler, setting, optics, device, gate)
    joint = jnp.zeros((3, 3, *c.gross.shape), c.gross.dtype).at[1, 1].set(c.gross)
    nothing = jnp.zeros((), c.gross.dtype)
    return Records(c.gross, c.array, joint, nothing, nothing)


def calibration(
    images: Images,
    idler,
    setting: Setting,
    optics: FarField,
    device: SinglePhoton,
    gate: Coincidence,
    k: str,
    transmission,
) -> Calibration:
    """Accidentals a y from the measured singles, coincidences of a clear object, and k.

    x - a y has the mean (1 - a c) pairs, with a and c of `clicks`. k = 'coincidences': only the accidentals follow
    the array clicks y; 'ratio': also the coincidences per click, those of a clear object times
    ``transmission``. Live fraction of the bucket as measured, with the object in place.
    """
    now = clicks(accepted_light(images), images.ghost, idler, setting, optics, device, gate)
    clear = clicks(images.accepted, images.ghost_open, idler, setting, optics, device, gate)
    gain = clear.pairs * now.live_bucket / clear.live_bucket * (1 - now.chance * now.carved)
    factor = now.chance + (optimal_k(gain, now.array) * transmission if k == "ratio" else 0.0)
    return Calibration(now.chance * now.array, now.array, gain, jnp.broadcast_to(factor, gain.shape))


def record(
    exposure: Exposure, idler, setting: Setting, optics: FarField, device: SinglePhoton, gate: Coincidence, *, key
):
    """One exposure, click by click: coincidences x and array clicks y [n, n], and bucket clicks.

    Pairs are created at uniform times (cw), every click has its jitter, dead times are applied to the tags in
    order of time, coincidences are counted within the window. Times are int64 ps.
    """
    pairs = exposure.seen.shape[0]
    span = int(float(setting.time) * 1e12)
    rng = numpy_generator(key, "clicks")
    born = rng.integers(0, span, pairs)
    jitter = float(device.jitter) * 1e12 / 2.354820045
    heard = np.asarray(exposure.seen) & (rng.random(pairs) < float(device.efficiency * optics.collection_transmission))
    row, column, inside = pixel_of(exposure.idler, optics)
    caught = inside & (rng.random(pairs) < float(device.efficiency * optics.idler_transmission))
    n = optics.pixels
    dark = float(device.dark_rate * setting.time)

    def tags(times, elements, lone):
        """Clicks of light and ``lone`` [elements] mean unpaired events, after jitter and dead time."""
        extra = rng.poisson(lone)
        where = np.concatenate([elements, np.repeat(np.arange(len(extra)), extra)])
        when = np.concatenate([times, rng.integers(0, span, extra.sum())])
        order = np.lexsort((when, where))
        when, where = when[order], where[order]
        live = alive(when, where, round(float(device.dead_time) * 1e12))
        when, where = when[live], where[live]
        return when + np.rint(rng.normal(0, jitter, len(when))).astype(np.int64), where

    unpaired = float(device.efficiency * optics.idler_transmission * (setting.emitted - setting.incident))
    bucket, _ = tags(born[heard], np.zeros(heard.sum(), np.int64), np.array([dark]))
    when, where = tags(born[caught], (row * n + column)[caught], unpaired * np.asarray(idler).ravel() + dark)
    hits = count(when, np.sort(bucket), round(float(gate.window) * 1e12))
    x = np.bincount(where, weights=hits, minlength=n * n).reshape(n, n)
    y = np.bincount(where, minlength=n * n).reshape(n, n)
    return x, y, len(bucket)
