"""Fields as many modes: thermal speckle, twin beams of a joint amplitude, and ghost images of either.

Pixels (or transverse momenta) are modes; mode functions are normalised on the grid, so a density is |amplitude|^2 of a
grid cell divided by the cell.
"""

import jax
import jax.numpy as jnp

from qtwin.core.errors import FieldError
from qtwin.core.params import fraction, nonnegative, positive, real
from qtwin.modes.checks import amplitude, number
from qtwin.modes.counts import counts
from qtwin.modes.gaussian import GaussianState, from_moments, moments


def speckle_coherence(positions, photons, width):
    """N_jk = sqrt(n_j n_k) exp(-|x_j - x_k|^2/(2 w^2)): pseudothermal light, g2 = 1 + exp(-|x_j - x_k|^2/w^2), [N, N].

    ``positions`` [N] or [N, 2] and ``width`` w in m, ``photons`` n per pixel, scalar or [N] (Gaussian Schell model;
    Erkmen & Shapiro, Adv. Opt. Photon. 2, 405 (2010)).
    """
    x, w = number("positions", positions, real), number("width", width, positive)
    x = x[:, None] if x.ndim == 1 else x
    n = jnp.broadcast_to(number("photons", photons, nonnegative), x.shape[:1])
    square = jnp.sum((x[:, None, :] - x[None, :, :]) ** 2, axis=-1)
    return jnp.sqrt(n[:, None] * n[None, :]) * jnp.exp(-square / (2 * w**2))


def thermal_field(coherence) -> GaussianState:
    """The Gaussian state of <a_j^ a_k> = coherence [N, N] (Hermitian, positive), without phase-sensitive part."""
    single = amplitude("coherence", coherence)
    return from_moments(jnp.zeros(single.shape[0], single.dtype), single, jnp.zeros_like(single))


def twin_field(joint) -> GaussianState:
    """a_s -> C a_s + S a_i^, [[C, S], [S^, C']] = exp [[0, psi], [psi^, 0]]: twin beams, joint amplitude psi [n, m].

    Modes 0 .. n-1 signal, n .. n+m-1 idler. Singular values of psi are the squeezing r of the Schmidt modes, sum
    |psi|^2 the pairs at low gain; then <a_s a_i> = psi (Christ et al., New J. Phys. 13, 033027 (2011)).
    """
    psi = amplitude("joint", joint)
    n, m = psi.shape
    generator = jnp.block([[jnp.zeros((n, n), psi.dtype), psi], [psi.conj().T, jnp.zeros((m, m), psi.dtype)]])
    evolved = jax.scipy.linalg.expm(generator)
    c, s = evolved[:n, :n], evolved[:n, n:]
    single = jax.scipy.linalg.block_diag((s @ s.conj().T).conj(), s.conj().T @ s)
    cross = c @ s
    none_s, none_i = jnp.zeros((n, n), psi.dtype), jnp.zeros((m, m), psi.dtype)
    return from_moments(jnp.zeros(n + m, psi.dtype), single, jnp.block([[none_s, cross], [cross.T, none_i]]))


def double_gaussian(signal, idler, sum_width, relative_width, signal_share=0.5):
    """psi = exp(-K^2/(4 s^2) - Q^2/(4 d^2)), K = q_s + q_i, Q = m_i q_s - m_s q_i, sum |psi|^2 = 1, [n, m].

    One transverse axis of a double-Gaussian pair (Law & Eberly, Phys. Rev. Lett. 92, 127903 (2004)): s = std(K), d =
    std(Q), wave vectors signal [n] and idler [m] in rad/m, ``signal_share`` m_s = 1 - m_i = k_s/(k_s + k_i) of the wave
    numbers. For alike photons 2 Q = q_s - q_i. In position std(m_s x_s + m_i x_i) = 1/(2 s), std(x_s - x_i) = 1/(2 d).
    """
    q_s, q_i = number("signal", signal, real)[:, None], number("idler", idler, real)[None, :]
    s, d = number("sum_width", sum_width, positive), number("relative_width", relative_width, positive)
    share = number("signal_share", signal_share, fraction)
    psi = jnp.exp(-((q_s + q_i) ** 2) / (4 * s**2) - ((1 - share) * q_s - share * q_i) ** 2 / (4 * d**2))
    return psi / jnp.sqrt(jnp.sum(psi**2))


def correlation_density(state: GaussianState, first, second):
    """|<a_j a_k>|^2 + |<a_j^ a_k>|^2, j of ``first`` [n], k of ``second`` [m]: coincidences above accidentals, [n, m].

    For zero-mean states this is the count covariance; of twin beams at low gain the joint density of the pairs.
    """
    _, single, pair = moments(state)
    first, second = jnp.asarray(first), jnp.asarray(second)
    n, m = single[first[:, None], second[None, :]], pair[first[:, None], second[None, :]]
    return n.real**2 + n.imag**2 + m.real**2 + m.imag**2


def ghost_image(state: GaussianState, pixels, bucket, transmission):
    """C_j = sum_k T_k Cov(n_j, n_k), j a camera pixel, k a mode that reaches the bucket through T_k: ghost image, [n].

    Erkmen & Shapiro, Adv. Opt. Photon. 2, 405 (2010): thermal light (phase-insensitive) and twin beams (phase-
    sensitive) alike. ``pixels`` [n] and ``bucket`` [m] name different modes.
    """
    pixels, bucket = jnp.asarray(pixels), jnp.asarray(bucket)
    t = number("transmission", transmission, fraction)
    if t.shape != bucket.shape:
        raise FieldError("transmission", f"got shape {tuple(t.shape)}, accepted is {tuple(bucket.shape)}, one per mode")
    _, covariance = counts(state)
    return covariance[pixels[:, None], bucket[None, :]] @ t


def phase_sensitive_coherence(state: GaussianState, first: int, second: int):
    """|<a_1 a_2>|/sqrt(n_1 n_2), at most 1 in classical light and at most sqrt(1 + 1/n) in quantum light.

    n the smaller of the two means (Erkmen & Shapiro, Adv. Opt. Photon. 2, 405 (2010)).
    """
    _, single, pair = moments(state)
    return jnp.abs(pair[first, second]) / jnp.sqrt((single[first, first] * single[second, second]).real)
