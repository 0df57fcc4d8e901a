"""Gaussian states of light as mean and covariance of the quadratures: the states, and what they look like.

Convention, stated here once: x = (a + a^)/sqrt 2 and p = (a - a^)/(i sqrt 2), a^ the adjoint of a, so [x, p] = i and
the vacuum has covariance 1/2. N modes have 2N quadratures in the order x_1 .. x_N, p_1 .. p_N (Weedbrook et al.,
Rev. Mod. Phys. 84, 621 (2012), with another unit).
"""

from math import log, sqrt

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import FieldError, UserError
from qtwin.core.params import is_concrete, nonnegative, real
from qtwin.modes.checks import amplitude, number, of_modes, turn, whole

VACUUM = 0.5  # variance of a quadrature of the vacuum
MOST_MODES = 10_000  # a covariance matrix of 3.2 GB in float64


class GaussianState(eqx.Module):
    """Mean [2N] and covariance [2N, 2N] of the quadratures x_1 .. x_N, p_1 .. p_N."""

    mean: jax.Array
    covariance: jax.Array

    @property
    def modes(self) -> int:
        return self.mean.shape[-1] // 2


def vacuum(modes: int) -> GaussianState:
    """<R> = 0, V = 1/2."""
    modes = whole("modes", modes, 1, MOST_MODES)
    dtype = jnp.result_type(float)
    return GaussianState(jnp.zeros(2 * modes, dtype), VACUUM * jnp.eye(2 * modes, dtype=dtype))


def coherent(alpha) -> GaussianState:
    """a|alpha> = alpha|alpha>: <R> = sqrt 2 (Re alpha, Im alpha), V = 1/2; complex amplitudes [N]."""
    alpha = jnp.atleast_1d(amplitude("alpha", alpha))
    return displace(vacuum(alpha.shape[0]), alpha)


def thermal(photons) -> GaussianState:
    """V = n + 1/2 with mean photon numbers n [N]."""
    photons = jnp.atleast_1d(number("photons", photons, nonnegative))
    variances = jnp.concatenate([photons, photons]) + VACUUM
    return GaussianState(jnp.zeros_like(variances), jnp.diag(variances))


def squeezing_parameter(db):
    """r = dB ln 10/20: the squeezed quadrature has e^-2r = 10^(-dB/10) of the vacuum's variance."""
    return number("db", db, real) * (log(10) / 20)


def squeezed(r, angle=0.0) -> GaussianState:
    """Var(x cos t + p sin t) = e^-2r/2 at t = angle, e^2r/2 across it; r and angle scalar or [N].

    <a a> = -e^(2 i angle) sinh(2r)/2 (Weedbrook et al., Rev. Mod. Phys. 84, 621 (2012), section II.B).
    """
    r, angle = jnp.atleast_1d(number("r", r, real)), number("angle", angle, real)
    pairs = -turn(2 * of_modes("angle", angle, r.shape[0])) * amplitude("r", jnp.sinh(2 * r) / 2)
    return from_moments(jnp.zeros_like(pairs), jnp.diag(jnp.sinh(r) ** 2), jnp.diag(pairs))


def two_mode_squeezed(r, phase=0.0) -> GaussianState:
    """|psi> = sum_n (e^(i phase) tanh r)^n |n, n>/cosh r: <a1 a2> = e^(i phase) sinh r cosh r, <n> = sinh^2 r in each.

    Signal is mode 0, idler mode 1 (Weedbrook et al., Rev. Mod. Phys. 84, 621 (2012), section II.B).
    """
    r, phase = number("r", r, real), number("phase", phase, real)
    pairs = turn(phase) * amplitude("r", jnp.sinh(r) * jnp.cosh(r))
    swap = jnp.asarray([[0, 1], [1, 0]], pairs.dtype)
    return from_moments(jnp.zeros(2, pairs.dtype), jnp.sinh(r) ** 2 * jnp.eye(2, dtype=r.dtype), pairs * swap)


def displace(state: GaussianState, alpha) -> GaussianState:
    """a -> a + alpha, complex amplitudes: a scalar or [N]."""
    alpha = of_modes("alpha", amplitude("alpha", alpha), state.modes)
    shift = sqrt(2) * jnp.concatenate([alpha.real, alpha.imag])
    return GaussianState(state.mean + shift, state.covariance)


def join(*states: GaussianState) -> GaussianState:
    """Independent states side by side, their modes in the order given."""
    alphas, singles, pairs = zip(*(moments(s) for s in states), strict=True)
    block = jax.scipy.linalg.block_diag
    return from_moments(jnp.concatenate(alphas), block(*singles), block(*pairs))


def moments(state: GaussianState):
    """(alpha_j = <a_j>, N_jk = <da_j^ da_k>, M_jk = <da_j da_k>), da = a - alpha; complex [N], [N, N], [N, N].

    N = (Vxx + Vpp + i (Vxp - Vpx))/2 - 1/2, M = (Vxx - Vpp + i (Vxp + Vpx))/2. N is the phase-insensitive and M
    the phase-sensitive correlation of Erkmen & Shapiro, Adv. Opt. Photon. 2, 405 (2010).
    """
    n, v = state.modes, state.covariance
    xx, xp, px, pp = v[:n, :n], v[:n, n:], v[n:, :n], v[n:, n:]
    alpha = jax.lax.complex(state.mean[:n], state.mean[n:]) / sqrt(2)
    single = jax.lax.complex((xx + pp) / 2 - VACUUM * jnp.eye(n, dtype=v.dtype), (xp - px) / 2)
    return alpha, single, jax.lax.complex((xx - pp) / 2, (xp + px) / 2)


def from_moments(alpha, single, pair) -> GaussianState:
    """The state of <a_j> = alpha_j, <da_j^ da_k> = N_jk (Hermitian), <da_j da_k> = M_jk (symmetric): see `moments`."""
    alpha, single, pair = amplitude("alpha", alpha), amplitude("single", single), amplitude("pair", pair)
    half = VACUUM * jnp.eye(alpha.shape[0], dtype=alpha.real.dtype)
    xx, pp = (single + pair).real + half, (single - pair).real + half
    xp = (pair + single).imag
    mean = sqrt(2) * jnp.concatenate([alpha.real, alpha.imag])
    return GaussianState(mean, jnp.block([[xx, xp], [xp.T, pp]]))


def commutator(modes: int, dtype=None):
    """Omega [2N, 2N] of [R_a, R_b] = i Omega_ab."""
    one, none = jnp.eye(modes, dtype=dtype), jnp.zeros((modes, modes), dtype)
    return jnp.block([[none, one], [-one, none]])


def symplectic_eigenvalues(state: GaussianState):
    """nu_1 .. nu_N in rising order, 1/2 for a pure mode: the moduli of the eigenvalues of i Omega V come in pairs.

    From the Hermitian matrix i V^1/2 Omega V^1/2 (Weedbrook et al., Rev. Mod. Phys. 84, 621 (2012), section II.C.3).
    """
    return williamson(state.covariance)[1][state.modes :]


def williamson(covariance):
    """(V^1/2, nu, W) with i V^1/2 Omega V^1/2 = W diag(nu) W^, nu [2N] rising: -nu_N .. -nu_1, nu_1 .. nu_N.

    The normal form S diag(nu, nu) S^T of a covariance and every S f(nu) S^T = V^1/2 W f(|nu|)/|nu| W^ V^1/2
    (J. Williamson, Am. J. Math. 58, 141 (1936)) follow from it. Not to be differentiated where eigenvalues coincide.
    """
    values, vectors = jnp.linalg.eigh(covariance)
    root = (vectors * jnp.sqrt(jnp.maximum(values, 0.0))[None, :]) @ vectors.T
    turned = root @ commutator(covariance.shape[0] // 2, covariance.dtype) @ root
    nu, unitary = jnp.linalg.eigh(jax.lax.complex(jnp.zeros_like(turned), turned))
    return root, nu, unitary


def normal_function(root, unitary, values):
    """V^1/2 W diag(values) W^ V^1/2 of `williamson`, real [2N, 2N]."""
    return root @ ((unitary * values.astype(unitary.dtype)[None, :]) @ unitary.conj().T).real @ root


def check_physical(state: GaussianState, tolerance: float = 1e-9) -> GaussianState:
    """V + i Omega/2 >= 0: the uncertainty relation (Simon, Mukunda & Dutta, Phys. Rev. A 49, 1567 (1994)).

    Returns the state. Raises UserError where a concrete state has a wrong shape, is not finite, not symmetric or
    breaks the relation by more than ``tolerance`` times its largest variance; a traced one passes unread.
    """
    if not (is_concrete(state.mean) and is_concrete(state.covariance)):
        return state
    mean, v = np.asarray(state.mean, float), np.asarray(state.covariance, float)
    size = mean.shape[0] if mean.ndim == 1 else 0
    if size == 0 or size % 2 or v.shape != (size, size):
        raise FieldError("covariance", f"got shapes {mean.shape} and {v.shape}, accepted are [2N] and [2N, 2N]")
    if not (np.all(np.isfinite(mean)) and np.all(np.isfinite(v))):
        raise FieldError("covariance", "got values that are not finite, accepted are finite ones")
    scale = max(VACUUM, float(np.max(np.abs(v))))
    if np.max(np.abs(v - v.T)) > tolerance * scale:
        raise FieldError("covariance", "got a matrix that is not symmetric, accepted is a symmetric one")
    least = np.linalg.eigvalsh(v + 0.5j * np.asarray(commutator(size // 2)))[0]
    if least < -tolerance * scale:
        raise UserError(
            f"covariance: breaks the uncertainty relation, least eigenvalue of V + i Omega/2 is {least:.3g},"
            " accepted is 0 or greater (the vacuum has V = 1/2)"
        )
    return state
