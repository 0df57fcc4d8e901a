"""Random numbers against the generator of jax, and their laws at the edges and in the bulk."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32
from scipy import stats

from qtwin.core.elementary import XLA
from qtwin.core.random import counter, exponential, stream, threefry, uniform, words

COUNT = 1 << 20
EDGES = jnp.asarray([0, 1, 2**31, 2**32 - 2, 2**32 - 1], jnp.uint32)


@pytest.fixture(scope="module")
def bits():
    """COUNT words of the 13 rounds that a walk uses, from both halves of the block."""
    k0, k1 = words(jax.random.key(20240611))
    counter = jnp.arange(COUNT // 2, dtype=jnp.uint32)
    return jnp.concatenate(threefry(k0, k1, counter, jnp.full_like(counter, 7)))


@pytest.mark.parametrize("key", [(0, 0), (0x13198A2E, 0x03707344), (2**32 - 1, 1)])
def test_twenty_rounds_are_the_generator_of_jax(key):
    x0 = jnp.asarray([0, 5, 0x243F6A88, 2**32 - 1], jnp.uint32)
    x1 = jnp.asarray([0, 9, 0x85A308D3, 3], jnp.uint32)
    key = jnp.asarray(key, jnp.uint32)
    mine = jnp.concatenate(counter(XLA, rounds=20).threefry(key[0], key[1], x0, x1))
    np.testing.assert_array_equal(mine, threefry_2x32(key, jnp.concatenate([x0, x1])))


def test_known_answer_of_thirteen_rounds():
    """Random123's kat_vectors: counter and key of zeros, and of digits of pi."""
    zero = jnp.uint32(0)
    assert [hex(int(w)) for w in threefry(zero, zero, zero, zero)] == ["0x9d1c5ec6", "0x8bd50731"]
    k0, k1, x0, x1 = (jnp.uint32(v) for v in (0x13198A2E, 0x03707344, 0x243F6A88, 0x85A308D3))
    assert [hex(int(w)) for w in threefry(k0, k1, x0, x1)] == ["0xba3e4725", "0xf27d669e"]


def test_words_are_those_of_the_key():
    assert [int(w) for w in words(jax.random.key(77))] == [0, 77]


def test_uniform_is_strictly_between_0_and_1_at_both_ends():
    u = uniform(EDGES)
    assert u.dtype == jnp.float32
    assert float(u[0]) == 2.0**-24 and float(u[-1]) == 1 - 2.0**-24
    assert float(u[2]) == 0.5 + 2.0**-24  # no word falls on one half: the law is symmetric


def test_uniform_mean_variance_and_law(bits):
    u = np.asarray(uniform(bits), float)
    assert abs(u.mean() - 0.5) / np.sqrt(1 / 12 / COUNT) < 4
    assert abs(u.var() - 1 / 12) / np.sqrt((1 / 80 - 1 / 144) / COUNT) < 4
    assert stats.kstest(u, "uniform").pvalue > 1e-3


def test_exponential_ends():
    """The longest step is -ln 2^-33; the shortest is 0 and never negative."""
    e = np.asarray(exponential(EDGES))
    assert e.dtype == np.float32
    assert e[0] == pytest.approx(33 * np.log(2), rel=1e-6)
    assert e[2] == pytest.approx(np.log(2), rel=1e-6)
    assert e[-1] == 0 and np.all(np.diff(e) <= 0)


def test_exponential_mean_variance_and_law(bits):
    e = np.asarray(exponential(bits), float)
    assert abs(e.mean() - 1) / np.sqrt(1 / COUNT) < 4
    assert abs(e.var() - 1) / np.sqrt(8 / COUNT) < 4  # fourth central moment 9
    assert stats.kstest(e, "expon").pvalue > 1e-3


def test_exponential_tail_is_kept(bits):
    """Steps beyond eight mean values: e^-8 of them."""
    found, expected = int(np.sum(np.asarray(exponential(bits)) > 8)), COUNT * np.exp(-8)
    assert abs(found - expected) / np.sqrt(expected) < 4


def test_both_words_and_neighbouring_counters_are_uncorrelated(bits):
    u = np.asarray(uniform(bits), float) - 0.5
    first, second = u[: COUNT // 2], u[COUNT // 2 :]
    error = 1 / 12 / np.sqrt(COUNT // 2)
    for a, b in ((first, second), (first[1:], first[:-1]), (second[1:], second[:-1]), (first[1:], second[:-1])):
        assert abs(np.mean(a * b)) / error < 4


def test_streams_differ_by_name_and_by_key():
    names = ["pairs", "tissue", "survival", "blur", "walk"]
    keys = {tuple(np.asarray(jax.random.key_data(stream(jax.random.key(s), n)))) for s in (0, 1) for n in names}
    assert len(keys) == 2 * len(names)


def test_streams_are_stable():
    """crc32 of '123456789' is 0xCBF43926 by definition of that checksum; seed 0 is a seed."""
    key = jax.random.key(0)
    expected = jax.random.fold_in(key, 0xCBF43926)
    np.testing.assert_array_equal(jax.random.key_data(stream(key, "123456789")), jax.random.key_data(expected))
    np.testing.assert_array_equal(jax.random.key_data(stream(key, "pairs")), jax.random.key_data(stream(key, "pairs")))
