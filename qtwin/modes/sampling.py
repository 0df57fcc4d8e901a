"""Drawing counts that agree with `counts`: Poisson, thermal, twin beams, speckle. Keys are keyword-only."""

from math import sqrt

import jax
import jax.numpy as jnp

from qtwin.core.params import fraction, nonnegative, positive
from qtwin.core.random import stream
from qtwin.modes.checks import amplitude, number


def poisson_counts(mean, shape=(), *, key):
    """n ~ Poisson(m): coherent light; int32, ``shape`` must broadcast with ``mean``."""
    mean = number("mean", mean, nonnegative)
    return jax.random.poisson(key, mean, _shape(shape, mean), dtype=jnp.int32)


def thermal_counts(mean, modes, shape=(), *, key):
    """n ~ Poisson(m g/M), g ~ Gamma(M): negative binomial, Var n = m (1 + m/M), M equally bright thermal modes.

    Mandel & Wolf, Optical Coherence and Quantum Optics (1995), section 13.3. M need not be whole.
    """
    mean, modes = number("mean", mean, nonnegative), number("modes", modes, positive)
    shape = _shape(shape, mean, modes)
    intensity = mean * jax.random.gamma(stream(key, "intensity"), modes, shape) / modes
    return jax.random.poisson(stream(key, "counts"), intensity, shape, dtype=jnp.int32)


def twin_counts(per_mode, modes, eta_s, eta_i, shape=(), background_s=0.0, background_i=0.0, *, key):
    """(n_s, n_i): pairs of M two-mode squeezed modes, negative binomial of mean M mu_m, each photon kept with eta.

    Given the intensity mu_m g, g ~ Gamma(M), pairs are Poisson and so are, independently, those seen twice, in one arm
    alone and in the other alone. Background (dark counts included) is Poisson and independent in each arm. The noise
    reduction factor is 1 - 2 e1 e2/(e1 + e2) + mu_m (e1 - e2)^2/(e1 + e2) without it.
    """
    mu, m = number("per_mode", per_mode, nonnegative), number("modes", modes, positive)
    eta_s, eta_i = number("eta_s", eta_s, fraction), number("eta_i", eta_i, fraction)
    b_s, b_i = number("background_s", background_s, nonnegative), number("background_i", background_i, nonnegative)
    shape = _shape(shape, mu, m, eta_s, eta_i, b_s, b_i)
    bright = mu * jax.random.gamma(stream(key, "intensity"), m, shape)
    rates = [bright * eta_s * eta_i, bright * eta_s * (1 - eta_i) + b_s, bright * (1 - eta_s) * eta_i + b_i]
    both, signal, idler = jax.random.poisson(stream(key, "counts"), jnp.stack(rates), dtype=jnp.int32)
    return both + signal, both + idler


def thermal_amplitudes(coherence, shape=(), *, key):
    """a = sqrt(N) z with <a_j* a_k> = N_jk, z normal complex: fields of correlated thermal light, shape + [N].

    ``coherence`` N [N, N] Hermitian and positive, as of `fields.speckle_coherence` (Goodman, Speckle Phenomena in
    Optics (2007), ch. 2).
    """
    coherence = amplitude("coherence", coherence)
    values, vectors = jnp.linalg.eigh(coherence)
    root = (vectors * jnp.sqrt(jnp.maximum(values, 0.0)).astype(vectors.dtype)[None, :]) @ vectors.conj().T
    normal = jax.random.normal(key, (2, *shape, coherence.shape[0]), coherence.real.dtype)
    return jax.lax.complex(normal[0], normal[1]) / sqrt(2) @ root  # <a_j* a_k> = (root^T* root)_jk with root Hermitian


def speckle_counts(coherence, shape=(), *, key):
    """n_j ~ Poisson(|a_j|^2) of `thermal_amplitudes`: counts of one exposure within the coherence time, shape + [N].

    Means N_jj and covariances |N_jk|^2 + delta_jk N_jj, those of `counts` of the thermal state.
    """
    field = thermal_amplitudes(coherence, shape, key=stream(key, "field"))
    return jax.random.poisson(stream(key, "counts"), field.real**2 + field.imag**2, dtype=jnp.int32)


def _shape(shape, *values):
    """``shape`` broadcast with what the parameters bring."""
    return jnp.broadcast_shapes(tuple(shape), *(v.shape for v in values))
