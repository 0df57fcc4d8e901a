"""An independent oracle: two modes in a truncated photon-number space, NumPy and SciPy only."""

import numpy as np
from scipy.linalg import expm
from scipy.sparse import csr_matrix, identity, kron
from scipy.sparse.linalg import expm_multiply
from scipy.stats import binom

SIZE = 32


def lower(size=SIZE):
    """Annihilation operator, dense [size, size]."""
    return np.diag(np.sqrt(np.arange(1, size)), 1)


_A = csr_matrix(kron(csr_matrix(lower()), identity(SIZE)))
_B = csr_matrix(kron(identity(SIZE), csr_matrix(lower())))
LADDERS = (_A, _B)


def vacuum():
    state = np.zeros(SIZE**2, complex)
    state[0] = 1
    return state


def evolve(generator, state):
    """exp(generator) state, generator anti-Hermitian."""
    return expm_multiply(generator, state)


def squeezed(state, mode, r, angle):
    """exp[r (e^(-2 i t) a^2 - h.c.)/2]: a -> cosh r a - e^(2 i t) sinh r a^."""
    a = LADDERS[mode]
    half = r / 2 * np.exp(-2j * angle) * (a @ a)
    return evolve(half - half.conj().T, state)


def two_mode_squeezed(state, r, phase):
    pair = r * np.exp(-1j * phase) * (_A @ _B)
    return evolve(pair.conj().T - pair, state)


def displaced(state, mode, alpha):
    up = alpha * LADDERS[mode].conj().T
    return evolve(up - up.conj().T, state)


def split(state, transmission):
    """a -> t a + r b, b -> -r a + t b."""
    angle = np.arccos(np.sqrt(transmission))
    hop = angle * (_A.conj().T @ _B)
    return evolve(hop - hop.conj().T, state)


def thinned(probabilities, efficiencies):
    """Joint photon numbers behind losses: binomial thinning of each arm."""
    n = np.arange(probabilities.shape[0])
    first, second = (binom.pmf(n[:, None], n[None, :], eta) for eta in efficiencies)
    return first @ probabilities @ second.T


def lossy(rho, efficiency):
    """Kraus sum of the loss of one mode, sqrt(C(n, k) (1 - e)^k e^(n-k)) |n-k><n|."""
    size = rho.shape[0]
    n = np.arange(size)
    root = np.sqrt(binom.pmf(n[:, None], n[None, :], 1 - efficiency))  # [lost, photons]
    out = np.zeros_like(rho, dtype=complex)
    for k in range(size):
        out[: size - k, : size - k] += np.outer(root[k, k:], root[k, k:]) * rho[k:, k:]
    return out


def quantum_fisher(rho, change):
    """2 sum |<j|drho|k>|^2/(p_j + p_k) of a density matrix and its derivative (Braunstein & Caves 1994)."""
    p, vectors = np.linalg.eigh(rho)
    inner = np.abs(vectors.conj().T @ change @ vectors) ** 2
    total = p[:, None] + p[None, :]
    seen = total > 1e-13
    return 2 * np.sum(inner[seen] / total[seen])


def one_mode(r, angle, alpha, efficiency, photons=0.0, size=60):
    """Density matrix: thermal light, squeezed, displaced, then lost."""
    a = lower(size)
    half = r / 2 * np.exp(-2j * angle) * a @ a
    n = np.arange(size)
    rho = np.diag(photons**n / (1.0 + photons) ** (n + 1)).astype(complex)
    for unitary in (expm(half - half.conj().T), expm(alpha * a.T - np.conj(alpha) * a)):
        rho = unitary @ rho @ unitary.conj().T
    return lossy(rho, efficiency)
