"""What optics and detectors do to a Gaussian state: R -> S R, loss, partial trace, conditioning on a result."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import FieldError
from qtwin.core.params import efficiency as efficient
from qtwin.core.params import fraction, is_concrete, nonnegative, real
from qtwin.modes.checks import amplitude, number, of_modes, require, turn, whole
from qtwin.modes.gaussian import VACUUM, GaussianState, commutator


def _places(state: GaussianState, modes) -> np.ndarray:
    """Rows of the quadratures x and p of ``modes``."""
    places = [whole("mode", m, 0, state.modes - 1) for m in modes]
    if len(set(places)) != len(places):
        raise FieldError("mode", f"got {places}, accepted are different modes")
    return np.concatenate([places, np.asarray(places) + state.modes]).astype(int)


def symplectic(state: GaussianState, matrix, modes=None) -> GaussianState:
    """R -> S R: <R> -> S <R>, V -> S V S^T, S [2k, 2k] on the k ``modes`` given, or on all.

    Raises FieldError where a concrete S does not keep S Omega S^T = Omega.
    """
    modes = range(state.modes) if modes is None else modes
    places = _places(state, modes)
    if matrix.shape != (len(places), len(places)):
        raise FieldError("matrix", f"got shape {tuple(matrix.shape)}, accepted is [{len(places)}, {len(places)}]")
    if is_concrete(matrix):
        s, omega = np.asarray(matrix, float), np.asarray(commutator(len(places) // 2))
        size = max(1.0, float(np.max(np.abs(s))) ** 2)
        precise = 1e3 * float(np.finfo(np.asarray(matrix).dtype).eps) * len(places)
        if not np.max(np.abs(s @ omega @ s.T - omega)) <= precise * size:
            raise FieldError("matrix", "got one that changes the commutators, accepted is a symplectic matrix")
    if len(places) == 2 * state.modes and np.all(np.diff(places) == 1):
        return GaussianState(matrix @ state.mean, matrix @ state.covariance @ matrix.T)
    mean = state.mean.at[places].set(matrix @ state.mean[places])
    half = state.covariance.at[places, :].set(matrix @ state.covariance[places, :])
    return GaussianState(mean, half.at[:, places].set(half[:, places] @ matrix.T))


def interferometer(state: GaussianState, unitary, modes=None) -> GaussianState:
    """a -> U a, complex U [k, k] on the k ``modes`` given, or on all; FieldError where a concrete U is not unitary."""
    u = amplitude("unitary", unitary)
    return symplectic(state, jnp.block([[u.real, -u.imag], [u.imag, u.real]]), modes)


def phase_shift(state: GaussianState, mode: int, phase) -> GaussianState:
    """a -> e^(i phase) a."""
    return interferometer(state, turn(number("phase", phase, real))[None, None], (mode,))


def beam_splitter(state: GaussianState, first: int, second: int, transmission) -> GaussianState:
    """a -> sqrt T a + sqrt(1 - T) b, b -> -sqrt(1 - T) a + sqrt T b: T the intensity transmission.

    The derivative by T does not exist at 0 and 1.
    """
    through = number("transmission", transmission, fraction)
    t, r = jnp.sqrt(through), jnp.sqrt(1 - through)
    return interferometer(state, jnp.stack([jnp.stack([t, r]), jnp.stack([-r, t])]), (first, second))


def squeeze(state: GaussianState, mode: int, r, angle=0.0) -> GaussianState:
    """a -> cosh r a - e^(2 i angle) sinh r a^: the quadrature at ``angle`` shrinks by e^-r."""
    r, angle = number("r", r, real), number("angle", angle, real)
    c, s = jnp.cos(2 * angle) * jnp.sinh(r), jnp.sin(2 * angle) * jnp.sinh(r)
    matrix = jnp.stack([jnp.stack([jnp.cosh(r) - c, -s]), jnp.stack([-s, jnp.cosh(r) + c])])
    return symplectic(state, matrix, (mode,))


def two_mode_squeeze(state: GaussianState, signal: int, idler: int, r, phase=0.0) -> GaussianState:
    """a_s -> cosh r a_s + e^(i phase) sinh r a_i^, and the same with s and i exchanged: a parametric amplifier."""
    r, phase = number("r", r, real), number("phase", phase, real)
    c, s = jnp.cos(phase) * jnp.sinh(r), jnp.sin(phase) * jnp.sinh(r)
    keep, none = jnp.cosh(r), jnp.zeros_like(r)
    rows = [[keep, c, none, s], [c, keep, s, none], [none, s, keep, -c], [s, none, -c, keep]]
    return symplectic(state, jnp.stack([jnp.stack(row) for row in rows]), (signal, idler))


def loss(state: GaussianState, transmission, background=0.0) -> GaussianState:
    """a -> sqrt T a + sqrt(1 - T) v: V -> sqrt T V sqrt T + (1 - T)/2 + n_b, T and n_b scalar or [N].

    ``background``: thermal photons per mode found **behind** the loss, whatever T is (an environment of n photons
    per mode adds (1 - T) n). The derivative by T does not exist at T = 0: for counts use `counts.detected`.
    """
    t = of_modes("transmission", number("transmission", transmission, fraction), state.modes)
    b = of_modes("background", number("background", background, nonnegative), state.modes)
    root = jnp.sqrt(jnp.concatenate([t, t]))
    noise = jnp.concatenate([(1 - t) * VACUUM + b] * 2)
    return GaussianState(root * state.mean, root[:, None] * state.covariance * root[None, :] + jnp.diag(noise))


def keep(state: GaussianState, modes) -> GaussianState:
    """Partial trace: the state of ``modes`` alone, in the order given."""
    places = _places(state, modes)
    return GaussianState(state.mean[places], state.covariance[np.ix_(places, places)])


def quadrature(state: GaussianState, mode: int, angle=0.0):
    """Homodyne mean and variance: of x cos t + p sin t, t = angle; the vacuum has variance 1/2."""
    part, angle = keep(state, (mode,)), number("angle", angle, real)
    u = jnp.stack([jnp.cos(angle), jnp.sin(angle)])
    return u @ part.mean, u @ part.covariance @ u


def homodyne(state: GaussianState, mode: int, outcome, angle=0.0) -> GaussianState:
    """The other modes, given that x cos t + p sin t of ``mode`` was found to be ``outcome``, t = angle.

    <R> -> <R> + c (outcome - m)/v, V -> V - c c^T/v with m, v mean and variance of the quadrature and c its covariance
    with R (Giedke & Cirac, Phys. Rev. A 66, 032316 (2002)). One mode or more must remain.
    """
    outcome = number("outcome", outcome, real)
    mean, variance = quadrature(state, mode, angle)
    own = _places(state, (mode,))
    others = _places(state, _others(state, mode))
    angle = number("angle", angle, real)
    c = state.covariance[np.ix_(others, own)] @ jnp.stack([jnp.cos(angle), jnp.sin(angle)])
    rest = state.covariance[np.ix_(others, others)] - jnp.outer(c, c) / variance
    return GaussianState(state.mean[others] + c * (outcome - mean) / variance, rest)


def _others(state: GaussianState, mode: int) -> list[int]:
    others = [m for m in range(state.modes) if m != mode]
    if not others:
        raise FieldError("state", "got one mode, accepted are two or more: nothing would remain")
    return others


class Heralded(NamedTuple):
    """A state after a click: the difference of two Gaussian ones, rho = (whole - (1 - p) silent)/p.

    ``probability`` p of the click, ``whole`` the other modes whatever happened, ``silent`` without click.
    """

    probability: jax.Array
    whole: GaussianState
    silent: GaussianState

    def average(self, value):
        """Mean of ``value(state)`` given the click, for any value linear in the state (means of operators)."""
        p = self.probability
        return (value(self.whole) - (1 - p) * value(self.silent)) / p


def herald(state: GaussianState, mode: int, efficiency=1.0, dark=0.0) -> Heralded:
    """Click of a threshold detector: 1 - (1 - d) <:exp(-eta n):>, d the dark click probability.

    Without click the others are Gaussian: <R> - C eta B^-1 m, V - C eta B^-1 C^T, with B = 1 + eta (V_m - 1/2), m and
    V_m mean and covariance of ``mode``, C the covariance of the others with it. Below p of 1e-9 the difference of the
    two is lost in rounding.
    """
    efficiency, dark = number("efficiency", efficiency, efficient), number("dark", dark, fraction)
    own, others = _places(state, (mode,)), _places(state, _others(state, mode))
    m, v = state.mean[own], state.covariance[np.ix_(own, own)]
    inner = v - VACUUM * jnp.eye(2, dtype=v.dtype)
    (a, b), (c, d) = inner
    excess = efficiency * (a + d) + efficiency**2 * (a * d - b * c)  # det B - 1
    solved = efficiency * jnp.linalg.inv(jnp.eye(2, dtype=v.dtype) + efficiency * inner)
    log_silent = jnp.log1p(-dark) - jnp.log1p(excess) / 2 - m @ solved @ m / 2
    require("efficiency, dark", log_silent < 0, "got a click that never happens, accepted is a probability above 0")
    cross = state.covariance[np.ix_(others, own)]
    rest = state.covariance[np.ix_(others, others)]
    silent = GaussianState(state.mean[others] - cross @ solved @ m, rest - cross @ solved @ cross.T)
    return Heralded(-jnp.expm1(log_silent), GaussianState(state.mean[others], rest), silent)
