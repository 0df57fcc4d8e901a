"""Fisher information: of a probability model, of a Gaussian state, and of a transmission."""

import jax
import jax.numpy as jnp

from qtwin.core.params import efficiency as efficient
from qtwin.core.params import nonnegative
from qtwin.modes.checks import number
from qtwin.modes.gaussian import commutator, williamson

PURE = 1e-12  # 1 - 1/(4 nu nu') below which two modes count as pure


def classical_fisher(model, parameters):
    """F_ab = sum_k d_a p_k d_b p_k / p_k of outcomes p = model(parameters), any shape; parameters [P], F [P, P].

    Outcomes of probability 0 are left out (where p touches 0 their share is a limit, not a value).
    """
    p, slope = model(parameters), jax.jacfwd(model)(parameters)
    p, slope = p.reshape(-1), slope.reshape(-1, parameters.shape[0])
    seen = p > 0
    return slope.T @ (slope * jnp.where(seen, 1 / jnp.where(seen, p, 1.0), 0.0)[:, None])


def quantum_fisher(model, parameters):
    """F_ab = d_a m^T V^-1 d_b m + sum_jk Re(C_a,jk* C_b,jk)/(2 (1 - l_j l_k)), of the state model(parameters), [P, P].

    C = V^-1/2 dV V^-1/2 in the eigenbasis of i V^-1/2 Omega V^-1/2 whose eigenvalues are 2 l, l = +-1/(2 nu) (Monras,
    arXiv:1303.3682; Safranek, J. Phys. A 52, 035304 (2019)); equivalently Tr[Y dV] with V Y V - Omega Y Omega^T/4 =
    dV/2. Pairs of pure modes (1 - l l' below 1e-12) carry no first-order change and are left out: the value holds
    for parameters that do not alter the rank of the state. The result is differentiable once: Y enters as the
    stationary point of 2 Tr[Y dV] - 2 Tr[Y (V Y V - Omega Y Omega^T/4)].
    """
    state = model(parameters)
    slopes = jax.jacfwd(model)(parameters)
    v, dm, dv = state.covariance, slopes.mean, jnp.moveaxis(slopes.covariance, -1, 0)
    omega = commutator(state.modes, v.dtype)
    fixed_v, fixed_dv = jax.lax.stop_gradient((v, dv))
    solutions = jax.vmap(lambda change: _solve(fixed_v, change))(fixed_dv)
    acted = v @ solutions @ v - omega @ solutions @ omega.T / 4
    once = jnp.einsum("aij,bji->ab", solutions, dv)
    twice = jnp.einsum("aij,bji->ab", solutions, acted)
    return dm.T @ jnp.linalg.solve(v, dm) + once + once.T - 2 * twice


def _solve(v, change):
    """Y of V Y V - Omega Y Omega^T/4 = dV/2, without the part between pure modes."""
    root, nu, unitary = williamson(v)
    inverse = jnp.linalg.inv(root)
    inner = unitary.conj().T @ (inverse @ change @ inverse).astype(unitary.dtype) @ unitary
    gap = 1 - 1 / (4 * nu[:, None] * nu[None, :])
    kept = inner * jnp.where(gap > PURE, 1 / jnp.where(gap > PURE, gap, 1.0), 0.0).astype(inner.dtype)
    return inverse @ (unitary @ kept @ unitary.conj().T).real @ inverse / 2


def coherent_transmission(transmission, photons, efficiency=1.0):
    """F = eta N/T about an intensity transmission T, N coherent photons incident (Poisson counts)."""
    t, n = number("transmission", transmission, efficient), number("photons", photons, nonnegative)
    return number("efficiency", efficiency, efficient) * n / t


def fock_transmission(transmission, photons, efficiency=1.0):
    """F = eta N/(T (1 - eta T)) about T: N photons of a Fock state, or the mean N of twin beams, ideal idler.

    Adesso et al., Phys. Rev. A 79, 040305 (2009); Nair, Phys. Rev. Lett. 121, 230801 (2018). Infinite at eta T = 1.
    """
    t, n = number("transmission", transmission, efficient), number("photons", photons, nonnegative)
    eta = number("efficiency", efficiency, efficient)
    return eta * n / (t * (1 - eta * t))
