"""Random numbers: named streams for the stages, and one counter-based generator per photon.

A stage draws from its own stream, so a new stage never reshuffles the others. A photon in tissue has
its own sequence, addressed by (photon number, event number): its path depends neither on the batch
it travels in nor on the machine, and it can be walked again.
"""

from collections.abc import Callable
from typing import NamedTuple
from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.elementary import XLA, Elementary


def stream(key, name: str):
    """Key of the stage ``name``: fold_in of a checksum of the name. ``key`` is a jax random key."""
    return jax.random.fold_in(key, crc32(name.encode()))


def numpy_generator(key, name: str) -> np.random.Generator:
    """NumPy's generator for the stage ``name``: records of single events are counted outside jax."""
    return np.random.default_rng(np.asarray(jax.random.key_data(stream(key, name))))


def words(key):
    """The two 32-bit words of a jax random key, uint32 scalars, to seed `threefry`."""
    data = jax.random.key_data(key).astype(jnp.uint32)
    return data[0], data[1]


class Counter(NamedTuple):
    """Random numbers addressed by a counter."""

    threefry: Callable
    uniform: Callable
    exponential: Callable


def counter(do: Elementary, rounds: int = 13) -> Counter:
    """The generator, of 13 rounds or 20, in the operations of one compiler."""
    word, real, number, log = do.word, do.real, do.number, do.log
    parity = np.uint32(0x1BD11BDA)
    half, small, least, fine = number(0.5), number(2**-23), number(2**-24), number(2**-32)

    @do.compile
    def mix(x0, x1, left):
        x0 = word(x0 + x1)
        x1 = word(word(x1 << word(left)) | word(x1 >> word(32 - left)))
        return x0, word(x1 ^ x0)

    @do.compile
    def four(x0, x1, a, b, c, d):
        x0, x1 = mix(x0, x1, a)
        x0, x1 = mix(x0, x1, b)
        x0, x1 = mix(x0, x1, c)
        return mix(x0, x1, d)

    @do.compile
    def threefry(k0, k1, x0, x1):
        """Threefry-2x32 block: counter (x0, x1) -> two random uint32 words, elementwise.

        Salmon, Moraes, Dror & Shaw, SC'11 (doi 10.1145/2063384.2063405), section 5: 13 rounds pass
        BigCrush; 20 rounds are the generator of `jax.random`. Unrolled, so that it fuses into a walk.
        """
        k2 = word(word(k0 ^ k1) ^ parity)
        x0, x1 = four(word(x0 + k0), word(x1 + k1), 13, 15, 26, 6)
        x0, x1 = four(word(x0 + k1), word(word(x1 + k2) + word(1)), 17, 29, 16, 24)
        x0, x1 = four(word(x0 + k2), word(word(x1 + k0) + word(2)), 13, 15, 26, 6)
        if rounds == 13:
            return mix(word(x0 + k0), word(word(x1 + k1) + word(3)), 17)
        x0, x1 = four(word(x0 + k0), word(word(x1 + k1) + word(3)), 17, 29, 16, 24)
        x0, x1 = four(word(x0 + k1), word(word(x1 + k2) + word(4)), 13, 15, 26, 6)
        return word(x0 + k2), word(word(x1 + k0) + word(5))

    @do.compile
    def uniform(bits):
        """32 random bits -> float32 strictly inside (0, 1): odd multiples of 2^-24."""
        return real(bits >> word(9)) * small + least

    @do.compile
    def exponential(bits):
        """32 random bits -> float32 of unit-mean exponential law, tail kept to 2^-33 (22.9 mean values)."""
        return -log((real(bits) + half) * fine)

    return Counter(threefry, uniform, exponential)


threefry, uniform, exponential = counter(XLA)
