"""Heralded ghost image: a bucket behind the object, an array in the idler, coincidences between their clicks.

Pittman et al., Phys. Rev. A 52, R3429 (1995); photon-sparse with heralding: Morris et al., Nat. Commun. 6, 5913
(2015). Coincidences alone, or with the idler clicks that had no partner used as well (a binomial ratio).
"""

from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.random import numpy_generator
from qtwin.correlation import Coincidence
from qtwin.correlation.coincidence import count
from qtwin.detector import SinglePhoton
from qtwin.estimator import direct
from qtwin.estimator.bucket import SCANNED
from qtwin.estimator.linear import Calibration, LinearLaw, Records, optimal_k
from qtwin.estimator.protocol import AbstractProtocol, Arm, Bench
from qtwin.estimator.response import beyond_poisson
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
    carved: jax.Array  # [] part of that chance which the bucket's own dead time removes after a true pair
    live_bucket: jax.Array  # []
    together: jax.Array  # [n, n] how much more often a pair finds both sides alive than two unrelated events do


def clicks(
    accepted, ghost, idler, setting: Setting, optics: FarField, device: SinglePhoton, gate: Coincidence
) -> Clicks:
    """Means for light ``accepted`` in the bucket and ``ghost`` [n, n] of it heralded per superpixel.

    Coincidences scale by both probabilities that an event clicks (cw light), and by 1 + r tau_dead: pairs of rate r
    blind both sides at once. An array click meets an unrelated bucket click with chance a = S_b tau_w/T; but after the
    bucket click of a true pair the bucket is dead, so that the part c = min(1/2, tau_dead/tau_w) of the chance is gone:
    gross = pairs + a (array - c pairs). Before it nothing is gone on average: the click that blinds the bucket to a
    partner coincides in its place.
    """
    t = setting.time
    stray = optics.ambient * optics.pixels**2 * t
    light = optics.collection_transmission * setting.incident * accepted + stray
    live_bucket = device.live(light, t)
    bucket = device.events(light, t) * live_bucket
    idlers = optics.idler_transmission * setting.emitted * idler + optics.idler_ambient * t
    live_array = device.live(idlers, t)
    array = device.events(idlers, t) * live_array
    eta = device.efficiency**2 * optics.collection_transmission * optics.idler_transmission
    both = gate.capture(device.jitter, device.jitter, device.jitter_tail, device.jitter_tail)
    kept = both * alive(device, live_bucket) * alive(device, live_array)
    pairs = eta * setting.incident * ghost * kept
    together = 1 + pairs / t * device.dead_time
    pairs = pairs * together
    chance = gate.accidentals(bucket, 1.0, t)
    carved = jnp.minimum(0.5, device.dead_time / gate.window)
    gross = pairs + chance * (array - carved * pairs)
    return Clicks(bucket, array, pairs, gross, chance, carved, live_bucket, together)


def alive(device: SinglePhoton, live):
    """Probability that an event clicks, from the mean clicks per event ``live``: live/(1 + p live), p afterpulses each.

    Released carriers are events too, and find the device alive as often as photons do: to first order in p.
    """
    return live if device.afterpulsing is None else live / (1 + device.afterpulsing.probability * live)


def accepted_light(images: Images):
    """Light in the bucket with the object in place: it is clear outside the field."""
    return images.accepted + jnp.sum(images.ghost - images.ghost_open)


def expect(
    images: Images, idler, setting: Setting, optics: FarField, device: SinglePhoton, gate: Coincidence
) -> Records:
    """Moments of gross coincidences x and array clicks y: every coincidence uses one click of the array.

    Poisson variances, and what afterpulses add to those of the array: dead times must be short against the spacing of
    clicks (their loss is printed).
    """
    c = clicks(accepted_light(images), images.ghost, idler, setting, optics, device, gate)
    joint = jnp.zeros((3, 3, *c.gross.shape), c.gross.dtype).at[1, 1].set(c.gross)
    idlers = optics.idler_transmission * setting.emitted * idler + optics.idler_ambient * setting.time
    return Records(c.gross, c.array, joint, jnp.zeros((), c.gross.dtype), beyond_poisson(device, idlers, setting.time))


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
    ``transmission``. Live fractions as measured, with the object in place.
    """
    now = clicks(accepted_light(images), images.ghost, idler, setting, optics, device, gate)
    clear = clicks(images.accepted, images.ghost_open, idler, setting, optics, device, gate)
    living = now.live_bucket / clear.live_bucket * now.together / clear.together
    gain = clear.pairs * living * (1 - now.chance * now.carved)
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
    heard = np.asarray(exposure.seen) & (rng.random(pairs) < float(device.efficiency * optics.collection_transmission))
    row, column, inside = pixel_of(exposure.idler, optics)
    caught = inside & (rng.random(pairs) < float(device.efficiency * optics.idler_transmission))
    n = optics.pixels
    unpaired = float(device.efficiency * optics.idler_transmission * (setting.emitted - setting.incident))
    stray = float(device.efficiency * optics.idler_ambient * setting.time)
    lone = rng.poisson(max(unpaired, 0.0) * np.asarray(idler).ravel() + stray)
    where = np.concatenate([(row * n + column)[caught], np.repeat(np.arange(n * n), lone)])
    when = np.concatenate([born[caught], rng.integers(0, span, lone.sum())])
    beside = rng.poisson(float(device.efficiency * optics.ambient * n * n * setting.time))
    lit = np.concatenate([born[heard], rng.integers(0, span, beside)])
    bucket, _ = tags(device, lit, np.zeros(len(lit), np.int64), 1, span, rng)
    when, where = tags(device, when, where, n * n, span, rng)
    hits = count(when, bucket, round(float(gate.window) * 1e12))
    x = np.bincount(where, weights=hits, minlength=n * n).reshape(n, n)
    y = np.bincount(where, minlength=n * n).reshape(n, n)
    return x, y, len(bucket)


def tags(device: SinglePhoton, times, elements, count: int, span: int, rng):
    """(times, elements) of the clicks of ``count`` alike elements in [0, span) ps, dark counts included.

    One machine clicks for all: the elements follow each other on its clock, parted by a pause in which dead time and
    afterpulses end, and what it clicks in a pause is left out.
    """
    from qtwin.detector import clicks  # numba: a second to import

    rest = max(float(device.dead_time), 1e-6) + 10 * float(device.recovery_time)
    rest += 0.0 if device.afterpulsing is None else float(device.afterpulsing.reach()[1])
    turn = span + round(rest * 1e12)
    together = max(1, min(count, 2**61 // turn))
    order = np.lexsort((times, elements))
    times, elements = times[order], elements[order]
    when, where = [], []
    for first in range(0, count, together):
        here = slice(*np.searchsorted(elements, (first, min(first + together, count))))
        state = clicks.begin(device, rng)
        found, state = clicks.detect(
            (elements[here] - first) * turn + times[here], min(together, count - first) * turn, state
        )
        found = np.concatenate([found, clicks.flush(state)])
        element, time = np.divmod(found, turn)
        kept = time < span
        when.append(time[kept])
        where.append(element[kept] + first)
    return np.concatenate(when), np.concatenate(where)


def law(bench: Bench, k: str) -> LinearLaw:
    """Law of one exposure; the ratio's k is refined by the transmission that the coincidences show."""
    equipment = (bench.images, bench.idler, bench.setting, bench.optics, bench.detector, bench.correlation)
    records = expect(*equipment)
    cal = calibration(*equipment, k, bench.images.ghost / bench.images.ghost_open)

    def refined(counts):
        return calibration(*equipment, k, jnp.clip((counts - cal.background) / cal.gain, 0, 1))

    return LinearLaw(bench.pairs(bucket_light(bench)), records, cal, refined if k == "ratio" else None)


def bucket_light(bench: Bench):
    """Clicks of the bucket that are due to light from the sample, []."""
    c = clicks(
        accepted_light(bench.images),
        bench.images.ghost,
        bench.idler,
        bench.setting,
        bench.optics,
        bench.detector,
        bench.correlation,
    )
    light = bench.setting.incident * bench.optics.collection_transmission * accepted_light(bench.images)
    return bench.detector.efficiency * light * c.live_bucket


def gated(bench: Bench) -> LinearLaw:
    """Direct image of a pulsed laser on the single-photon array, gated as the heralded arm is.

    One gate of the coincidence window per bucket click: as little dark time and background, and the part of the light
    that its own jitter leaves inside the gate.
    """
    device, images = bench.detector, bench.images
    args = (bench.idler, bench.setting, bench.optics, device, bench.correlation)
    open_part = jnp.minimum(clicks(accepted_light(images), images.ghost, *args).chance, 1)
    kept = bench.correlation.capture(device.jitter, jnp.zeros_like(device.jitter), device.jitter_tail)
    values = (device.dark_rate * open_part, device.efficiency * kept)
    device = eqx.tree_at(lambda d: (d.dark_rate, d.efficiency), device, values)
    optics = eqx.tree_at(lambda o: o.ambient, bench.optics, bench.optics.ambient * open_part / kept)
    return direct.law(bench._replace(optics=optics), device)


GATED = Arm("coherent, gated array", gated, False, kind="an equally gated laser")


class Ghost(AbstractProtocol):
    """Heralded image: a bucket behind the object, an array in the idler, coincidences."""

    carried = ("ghost",)

    def arms(self):
        opponents = direct.ARRAY, GATED, direct.IDEAL_ARRAY, SCANNED
        against = tuple(arm.name for arm in opponents)
        ours = [
            Arm(f"heralded, {name}", partial(law, k=k), True, against, spread="ghost", draws="ghost")
            for name, k in (("coincidences", "coincidences"), ("with idler singles", "ratio"))
        ]
        return (*ours, *opponents)

    def facts(self, bench):
        equipment = (bench.images, bench.idler, bench.setting, bench.optics, bench.detector, bench.correlation)
        c = clicks(accepted_light(bench.images), bench.images.ghost, *equipment[1:])
        cal = calibration(*equipment, "coincidences", bench.images.ghost / bench.images.ghost_open)
        gross, chance = jnp.sum(c.gross), jnp.sum(cal.background)
        return {
            "coincidences_per_exposure": (gross, ""),
            "accidentals_per_exposure": (chance, ""),
            "car": (gross / chance, ""),
            "bucket_dead_time_loss": (1 - c.live_bucket, ""),
        }
