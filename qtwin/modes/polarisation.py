"""Two photons entangled in polarisation: Bell states, Werner mixture, analysers, CHSH, concurrence, fidelity.

Density matrices [4, 4] in the order HH, HV, VH, VV (signal first).
"""

import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import FieldError
from qtwin.core.params import fraction, is_concrete, real
from qtwin.modes.checks import amplitude, number

_BELL = {
    "phi+": np.array([1, 0, 0, 1]) / np.sqrt(2),
    "phi-": np.array([1, 0, 0, -1]) / np.sqrt(2),
    "psi+": np.array([0, 1, 1, 0]) / np.sqrt(2),
    "psi-": np.array([0, 1, -1, 0]) / np.sqrt(2),
}
_PAULI = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])
CHSH_ANGLES = (0.0, np.pi / 4, np.pi / 8, 3 * np.pi / 8)  # a, a', b, b' of |phi+>: 2 sqrt 2


def bell(name: str):
    """|name><name|, name one of phi+, phi-, psi+, psi-: (|HH> +- |VV>)/sqrt 2, (|HV> +- |VH>)/sqrt 2."""
    if name not in _BELL:
        raise FieldError("name", f"got {name!r}, accepted is one of {', '.join(_BELL)}")
    return jnp.asarray(np.outer(_BELL[name], _BELL[name]), jnp.result_type(complex))


def werner(visibility, name: str = "psi-"):
    """rho = V |bell><bell| + (1 - V)/4: a Bell state in white noise (Werner, Phys. Rev. A 40, 4277 (1989))."""
    v = amplitude("visibility", number("visibility", visibility, fraction))
    return v * bell(name) + (1 - v) * jnp.eye(4, dtype=jnp.result_type(complex)) / 4


def correlation(rho, signal_angle, idler_angle):
    """E(a, b) = <A(a) B(b)>, A = cos 2a Z + sin 2a X: +1 behind a linear polariser at angle a to H, -1 blocked; rad."""

    def analyser(field, angle):
        angle = 2 * number(field, angle, real)
        z, x = jnp.asarray(_PAULI[[2, 0]].real, angle.dtype)
        return (jnp.cos(angle) * z + jnp.sin(angle) * x).astype(rho.dtype)

    both = jnp.kron(analyser("signal_angle", signal_angle), analyser("idler_angle", idler_angle))
    return jnp.trace(rho @ both).real


def coincidence(rho, signal_angle, idler_angle):
    """P = <|a><a| x |b><b|>: probability that both photons pass linear polarisers at a and b, rad."""

    def passed(field, angle):
        angle = number(field, angle, real)
        ket = jnp.stack([jnp.cos(angle), jnp.sin(angle)]).astype(rho.dtype)
        return jnp.outer(ket, ket)

    both = jnp.kron(passed("signal_angle", signal_angle), passed("idler_angle", idler_angle))
    return jnp.trace(rho @ both).real


def fringe_visibility(rho, signal_angle):
    """(P_max - P_min)/(P_max + P_min) over the idler's linear polariser, the signal's at ``signal_angle``, rad."""
    zero, quarter = coincidence(rho, signal_angle, 0.0), coincidence(rho, signal_angle, jnp.pi / 4)
    across = coincidence(rho, signal_angle, jnp.pi / 2)
    middle = (zero + across) / 2
    return jnp.hypot((zero - across) / 2, quarter - middle) / middle


def chsh(rho, angles=CHSH_ANGLES):
    """S = E(a, b) - E(a, b') + E(a', b) + E(a', b'), angles (a, a', b, b') rad: at most 2 without entanglement.

    Clauser, Horne, Shimony & Holt, Phys. Rev. Lett. 23, 880 (1969). The default angles are the best for |phi+>.
    """
    a, a2, b, b2 = angles
    return correlation(rho, a, b) - correlation(rho, a, b2) + correlation(rho, a2, b) + correlation(rho, a2, b2)


def chsh_most(rho):
    """S_max = 2 sqrt(u1 + u2), u the two greatest eigenvalues of T^T T, T_jk = <s_j s_k>: over all analysers.

    Horodecki, Horodecki & Horodecki, Phys. Lett. A 200, 340 (1995).
    """
    pauli = jnp.asarray(_PAULI, rho.dtype)
    both = jnp.einsum("jab,kcd->jkacbd", pauli, pauli).reshape(3, 3, 4, 4)
    table = jnp.einsum("jkab,ba->jk", both, rho).real
    singular = jnp.linalg.svd(table, compute_uv=False)
    return 2 * jnp.sqrt(singular[0] ** 2 + singular[1] ** 2)


def concurrence(rho):
    """C = max(0, l1 - l2 - l3 - l4), l_j^2 the eigenvalues of rho (Y x Y) rho* (Y x Y), falling.

    Wootters, Phys. Rev. Lett. 80, 2245 (1998); l_j are the singular values of sqrt(rho)^T (Y x Y) sqrt(rho). Werner:
    (3 V - 1)/2.
    """
    values, vectors = jnp.linalg.eigh(rho)
    root = vectors * jnp.sqrt(jnp.maximum(values, 0.0)).astype(vectors.dtype)[None, :]
    flip = jnp.kron(*[jnp.asarray(_PAULI[1], rho.dtype)] * 2)
    least = jnp.linalg.svd(root.T @ flip @ root, compute_uv=False)
    return jnp.maximum(0.0, least[0] - least[1] - least[2] - least[3])


def fidelity(rho, name: str):
    """F = <bell|rho|bell> with a Bell state; Werner: (1 + 3 V)/4."""
    return jnp.trace(bell(name).astype(rho.dtype) @ rho).real


def purity(rho):
    """Tr rho^2; Werner: (1 + 3 V^2)/4."""
    return jnp.trace(rho @ rho).real


def density_matrix(rho):
    """``rho`` as a complex array; FieldError where a concrete one is not Hermitian, positive and of trace 1."""
    rho = amplitude("rho", rho)
    if rho.shape != (4, 4):
        raise FieldError("rho", f"got shape {tuple(rho.shape)}, accepted is [4, 4]")
    if is_concrete(rho):
        r = np.asarray(rho)
        if np.max(np.abs(r - r.conj().T)) > 1e-9 or abs(np.trace(r) - 1) > 1e-9 or np.linalg.eigvalsh(r)[0] < -1e-9:
            raise FieldError("rho", "got a matrix that is no state, accepted is Hermitian, positive and of trace 1")
    return rho
