"""The electron-multiplying register, stage by stage: its exact law, the excess noise, and draws.

Each of N stages makes of every electron two with probability p = G^(1/N) - 1, so a packet is a branching process and
its generating function is f(z) = z (1 - p + p z) applied N times (Basden, Haniff & Mackay, MNRAS 345, 985 (2003)).
"""

from functools import lru_cache, partial
from math import exp, log

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln, ndtr

from qtwin.core.errors import UserError
from qtwin.core.params import fraction, index, is_concrete, nonnegative, positive
from qtwin.modes.checks import number, turn, whole

MOST_STAGES = 10_000
MOST_OUTCOMES = 2**20
CIRCLE = 8192  # points of the generating function behind `silent_probability`
FARTHEST = CIRCLE // 2  # output electrons that a threshold may stand at
TOGETHER = 2**22  # electrons drawn at once


def stage_probability(gain, stages: int):
    """p = G^(1/N) - 1."""
    return jnp.expm1(jnp.log(number("gain", gain, index)) / stages)


def excess_noise(gain, stages: int):
    """F^2 = <x^2>/<x>^2 = 1 + (1 - p)/(1 + p) (1 - 1/G), x what one electron becomes.

    Also Var_out/(G^2 m) for Poisson electrons of mean m.
    Robbins & Hadwen, IEEE Trans. Electron Devices 50, 1227 (2003), declared: sqrt 2 in F at high gain, 1 at G = 1.
    """
    p, gain = stage_probability(gain, stages), number("gain", gain, index)
    return 1 + (1 - p) / (1 + p) * (1 - 1 / gain)


def own_charge(gain, stages: int, charge):
    """(mean, variance) at the input of what the register itself adds: ``charge`` c, its chance per packet and stage.

    An electron born with i stages to go, i < N, becomes a^i on average, a = 1 + p, with variance k a^i (a^i - 1),
    k = (1 - p)/(1 + p): sum_i c a^i/G and sum_i [c (1 + k) a^2i - c k a^i - c^2 a^2i]/G^2.
    """
    p, gain = stage_probability(gain, stages), number("gain", gain, index)
    charge, k = number("charge", charge, fraction), (1 - p) / (1 + p)
    gains = jnp.exp(jnp.log(gain) / stages * jnp.arange(stages, dtype=jnp.result_type(float)))
    one, two = jnp.sum(gains) / gain, jnp.sum(gains**2) / gain**2
    return charge * one, charge * (1 + k) * two - charge * k * one / gain - charge**2 * two


def _stage(both, p, charge):
    """One stage more before the others: what an electron becomes, and the register's own."""
    f, own = both
    return f * (1 + p * (f - 1)), own * (1 + charge * (f - 1))


def _iterated(z, gain, stages: int, charge):
    """(f applied N times, prod_i [1 - c + c f applied i times]) at z: one electron, and the register's own."""
    p = stage_probability(gain, stages).astype(z.dtype)
    charge = jnp.asarray(charge, jnp.result_type(float)).astype(z.dtype)
    return jax.lax.fori_loop(0, stages, lambda _, both: _stage(both, p, charge), (z, jnp.ones_like(z)))


def _half_circle(size: int, radius):
    """Points radius e^(-2 pi i j/size), j <= size/2."""
    angles = -2 * jnp.pi / size * jnp.arange(size // 2 + 1, dtype=jnp.result_type(float))
    return radius * turn(angles)


@partial(jax.jit, static_argnames=("size", "stages"))
def _law(size: int, electrons, gain, stages: int, charge):
    one, own = _iterated(_half_circle(size, 1.0), gain, stages, charge)
    return jnp.fft.irfft(one**electrons * own, size)


def output_distribution(size: int, electrons: int, gain, stages: int, charge=0.0):
    """P(x) = [z^x] f_N(z)^k prod_i [1 - c + c f_i(z)], x < ``size`` (even), of k ``electrons``: exact at any gain.

    Fourier series of the generating function on |z| = 1; c is the register's own ``charge`` per packet and stage. What
    lies beyond ``size`` falls onto lower x: UserError where that is more than 1e-9 of a concrete law. 40 G is enough
    for one electron.
    """
    size, stages = whole("size", size, 2, MOST_OUTCOMES), whole("stages", stages, 1, MOST_STAGES)
    electrons = whole("electrons", electrons, 0, MOST_OUTCOMES)
    if size % 2:
        raise UserError(f"size: got {size}, accepted is an even number")
    gain, charge = number("gain", gain, index), number("charge", charge, fraction)
    law = _law(size, electrons, gain, stages, charge)
    if is_concrete(law):
        mean = float(gain) * (electrons + float(own_charge(gain, stages, charge)[0]))
        beyond = (mean - float(law @ jnp.arange(size, dtype=law.dtype))) / size
        if not beyond < 1e-9 * max(1.0, mean / size):
            raise UserError(f"size: got {size}, with {beyond:.2g} of the law beyond it, accepted is a larger one")
    return law


def gamma_distribution(x, electrons, gain):
    """p(x) = x^(k - 1) e^(-x/G)/(G^k Gamma(k)) of k electrons: limit of high gain (Basden et al. 2003, declared)."""
    x, gain = number("x", x, nonnegative), number("gain", gain, positive)
    electrons = number("electrons", electrons, positive)
    safe = jnp.where(x > 0, x, 1.0)
    power = (electrons - 1) * jnp.log(safe) - safe / gain - electrons * jnp.log(gain) - gammaln(electrons)
    return jnp.where(x > 0, jnp.exp(power), 0.0)


@partial(jax.jit, static_argnames=("stages", "most"))
def silent_probability(gain, stages: int, charge, read_noise, threshold, most: int):
    """u_k = sum_x P(x | k) Phi(t - x/r): chance that k electrons stay below ``threshold`` t, in read noises r.

    k from 0 to ``most``. The sum is taken over the generating function on a circle of radius 10^(-12/size): what lies
    beyond the ``CIRCLE`` electrons of it counts 1e-12 of itself, so high gains need no larger one.
    """
    log_radius = -12 * log(10) / CIRCLE
    one, own = _iterated(_half_circle(CIRCLE, exp(log_radius)), gain, stages, charge)
    x = jnp.arange(CIRCLE, dtype=jnp.result_type(float))
    below = ndtr(threshold - x / jnp.maximum(read_noise, 1e-9)) * jnp.exp(-log_radius * jnp.minimum(x, FARTHEST))
    seen = jnp.where(x < FARTHEST, below, 0)
    # Parseval: sum_x P(x) rho^x seen(x) = mean over the circle of its two transforms
    kernel = jnp.conj(jnp.fft.rfft(seen)) * own * jnp.where((x == 0) | (x == CIRCLE // 2), 1, 2)[: CIRCLE // 2 + 1]

    def more(power, _):
        return power * one, jnp.sum(jnp.real(power)) / CIRCLE

    return jnp.clip(jax.lax.scan(more, kernel, None, most + 1)[1], 0, 1)


@lru_cache(maxsize=8)
def _tables(gain: float, stages: int, charge: float):
    """Cumulative laws of one electron, and of what the register adds to a packet; float64 whatever jax's default."""
    size = 1 << int(np.ceil(np.log2(40 * gain + 64)))
    both = np.exp(-2j * np.pi / size * np.arange(size // 2 + 1)), np.ones(size // 2 + 1, complex)
    for _ in range(stages):
        both = _stage(both, np.expm1(log(gain) / stages), charge)
    return [np.cumsum(np.maximum(np.fft.irfft(f, size), 0)) for f in both]


def multiply(electrons, gain: float, stages: int, charge: float, *, rng: np.random.Generator) -> np.ndarray:
    """Output electrons, int64, of packets of ``electrons``: draws of `output_distribution`.

    Electrons multiply independently, so a packet of k is the sum of k draws of the law of one, and of one draw of what
    the register adds. Exact to 1e-15 of the probability, which lies beyond 40 G.
    """
    electrons = np.asarray(electrons)
    if electrons.dtype.kind not in "iu" or np.any(electrons < 0):
        raise UserError(f"electrons: got {electrons.dtype}, accepted are whole numbers, 0 or more")
    packets = electrons.ravel()
    one, own = _tables(float(gain), stages, float(charge))
    ends = np.concatenate([[0], np.cumsum(packets)])
    out = own.searchsorted(rng.random(packets.size), "right") if charge > 0 else np.zeros(packets.size, np.int64)
    first = 0
    while first < packets.size:
        last = max(first + 1, int(ends.searchsorted(ends[first] + TOGETHER, "right")) - 1)
        draws = one.searchsorted(rng.random(ends[last] - ends[first]), "right")
        total = np.concatenate([[0], np.cumsum(draws)])
        out[first:last] += np.diff(total[ends[first : last + 1] - ends[first]])
        first = last
    return out.reshape(electrons.shape)
