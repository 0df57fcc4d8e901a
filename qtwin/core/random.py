"""Random numbers: named streams for the stages, and one counter-based generator per photon.

A stage draws from its own stream, so a new stage never reshuffles the others. A photon in tissue has
its own sequence, addressed by (photon number, event number): its path depends neither on the batch
it travels in nor on the machine, and it can be walked again.
"""

from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np


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


def _rotate(x, by: int):
    return (x << jnp.uint32(by)) | (x >> jnp.uint32(32 - by))


def threefry(k0, k1, x0, x1, rounds: int = 13):
    """Threefry-2x32 block: counter (x0, x1) -> two random uint32 words, elementwise.

    Salmon, Moraes, Dror & Shaw, SC'11 (doi 10.1145/2063384.2063405), section 5: 13 rounds pass
    BigCrush; 20 rounds are the generator of `jax.random`. Unrolled, so that it fuses into a walk.
    """
    rotations = ((13, 15, 26, 6), (17, 29, 16, 24))
    keys = (k0, k1, k0 ^ k1 ^ jnp.uint32(0x1BD11BDA))
    x0, x1 = x0 + keys[0], x1 + keys[1]
    for i in range(rounds):
        x0 = x0 + x1
        x1 = _rotate(x1, rotations[(i // 4) % 2][i % 4]) ^ x0
        if i % 4 == 3:
            j = i // 4 + 1
            x0 = x0 + keys[j % 3]
            x1 = x1 + keys[(j + 1) % 3] + jnp.uint32(j)
    return x0, x1


def uniform(bits):
    """32 random bits -> float32 strictly inside (0, 1): odd multiples of 2^-24."""
    return (bits >> jnp.uint32(9)).astype(jnp.float32) * jnp.float32(2**-23) + jnp.float32(2**-24)


def exponential(bits):
    """32 random bits -> float32 of unit-mean exponential law, tail kept to 2^-33 (22.9 mean values)."""
    return -jnp.log((bits.astype(jnp.float32) + jnp.float32(0.5)) * jnp.float32(2**-32))
