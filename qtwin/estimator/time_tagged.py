"""Sub-shot-noise absorption image from time tags: single-photon arrays in both arms, every pair known one by one.

Of N pairs (Poisson) on a superpixel N eta_s T signals are counted, and N eta_i (1 - eta_s T) idlers have no partner.
The two are independent, both know T, and together carry the whole Fisher information of the clicks, N eta_s/T + N eta_i
eta_s^2/(1 - eta_s T), which is 1 + eta_i eta_s T/(1 - eta_s T) times that of the signals alone.
"""

import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import UserError
from qtwin.core.params import is_concrete
from qtwin.core.random import numpy_generator
from qtwin.correlation import Coincidence
from qtwin.correlation.coincidence import count
from qtwin.detector import SinglePhoton
from qtwin.estimator import direct
from qtwin.estimator.ghost import GATED, alive, tags
from qtwin.estimator.linear import Calibration, LinearLaw, Records
from qtwin.estimator.protocol import AbstractProtocol, Arm, Bench
from qtwin.estimator.response import beyond_poisson
from qtwin.estimator.setting import Setting
from qtwin.estimator.twin_beams import pixel_of
from qtwin.optics import FarField
from qtwin.tissue.light_path import Exposure


def law(bench: Bench) -> LinearLaw:
    """T = (x - b + k (Y - y))/(X + k J): x signal clicks, y idler clicks without a partner.

    X: signal clicks of a clear object, Y: idler clicks, J: their coincidences within one superpixel, b: background.
    k = J Var x/(X Var y) minimises the variance, refined by the transmission that the counts show. An unrelated
    signal click within the window takes the part a = S tau_w/T_acq of the idlers away.
    """
    device, optics, setting, images = bench.detector, bench.optics, bench.setting, bench.images
    t = setting.time
    light = optics.collection_transmission * setting.incident * images.direct + optics.ambient * t
    idlers = optics.idler_transmission * setting.emitted * bench.idler + optics.idler_ambient * t
    live_x, live_y = device.live(light, t), device.live(idlers, t)
    x, every = device.events(light, t) * live_x, device.events(idlers, t) * live_y
    jitter, tail = device.jitter, device.jitter_tail
    kept = bench.correlation.capture(jitter, jitter, tail, tail) * alive(device, live_x) * alive(device, live_y)
    eta = device.efficiency**2 * optics.collection_transmission * optics.idler_transmission
    kept = kept * (
        1 + eta * setting.incident * images.joint[1, 1] * kept / t * device.dead_time
    )  # as in `ghost.clicks`
    single = 1 - bench.correlation.accidentals(x, 1.0, t)
    joint = eta * setting.incident * images.joint * kept[None, None]
    y = (every - joint[1, 1]) * single
    dark = device.events(jnp.broadcast_to(optics.ambient * t, x.shape), t) * live_x
    clear = device.efficiency * optics.collection_transmission * setting.incident * images.direct_open * live_x
    lost = eta * setting.incident * images.joint_open * kept * single  # idlers with partner, of a clear object
    noise_x, noise_y = beyond_poisson(device, light, t), beyond_poisson(device, idlers, t)
    records = Records(x, y, joint.at[1, 1].set(0.0) * single[None, None], noise_x, noise_y)

    def calibration(transmission):
        signals, lone = transmission * clear + dark + noise_x, every * single - transmission * lost + noise_y
        k = lost * signals / (clear * lone)
        return Calibration(dark, every * single, clear + k * lost, k)

    def refined(counts):
        return calibration(jnp.clip((counts - dark) / clear, 0, 1))

    ledger = bench.pairs(jnp.sum(x - dark))
    return LinearLaw(ledger, records, calibration((x - dark) / clear), refined)


def record(
    exposure: Exposure, idler, setting: Setting, optics: FarField, device: SinglePhoton, gate: Coincidence, *, key
):
    """One exposure, click by click: signal clicks x and idler clicks without a partner y, [n, n].

    Both arms as in `ghost.record`, the signal's on an array too; superpixels are compared one by one.
    """
    rng, n, span = numpy_generator(key, "time tags"), optics.pixels, int(float(setting.time) * 1e12)
    born = rng.integers(0, span, len(exposure.seen))
    unpaired = optics.idler_transmission * jnp.maximum(setting.emitted - setting.incident, 0) * idler
    arms = (
        (
            exposure.signal,
            np.asarray(exposure.seen),
            optics.collection_transmission,
            jnp.zeros_like(idler),
            optics.ambient,
        ),
        (exposure.idler, True, optics.idler_transmission, unpaired, optics.idler_ambient),
    )
    seen = []
    for positions, there, transmission, lone, stray in arms:
        row, column, inside = pixel_of(positions, optics)
        caught = inside & there & (rng.random(len(born)) < float(device.efficiency * transmission))
        beside = rng.poisson(np.asarray(device.efficiency * (lone + stray * setting.time)).ravel())
        where = np.concatenate([(row * n + column)[caught], np.repeat(np.arange(n * n), beside)])
        when = np.concatenate([born[caught], rng.integers(0, span, beside.sum())])
        seen.append(tags(device, when, where, n * n, span, rng))
    (signal, here), (lone, there) = seen
    window = round(float(gate.window) * 1e12)
    turn = span + 2 * window  # every superpixel has its own stretch of one clock
    alone = count(lone + there * turn, signal + here * turn, window) == 0
    x, y = (np.bincount(w, minlength=n * n).reshape(n, n) for w in (here, there[alone]))
    return x, y


class TimeTagged(AbstractProtocol):
    """Twin beams on two single-photon arrays."""

    limits = (
        "Time-tagged twin beams: partners are told apart within one superpixel; those that land next door are not.",
    )

    def arms(self):
        against = direct.ARRAY.name, GATED.name, direct.IDEAL_ARRAY.name
        ours = Arm("twin beams, time-tagged", _checked, True, against)
        return (ours, direct.ARRAY, GATED, direct.IDEAL_ARRAY)


def _checked(bench: Bench) -> LinearLaw:
    """`law`, where unrelated clicks leave idlers without a partner to speak of."""
    made = law(bench)
    worst = jnp.max(bench.correlation.accidentals(made.records.x, 1.0, bench.setting.time))
    if is_concrete(worst) and not worst < 0.5:
        raise UserError(
            f"correlation.window: a superpixel has {float(worst):.2g} unrelated clicks within the window; accepted "
            "is less than 0.5 (a shorter window, less pump power)"
        )
    return made
