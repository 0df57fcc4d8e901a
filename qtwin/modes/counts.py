"""Photon counts of Gaussian states: means, covariances, clicks and distributions, from the moments of the field."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import FieldError, UserError
from qtwin.core.params import fraction, is_concrete, nonnegative, positive
from qtwin.modes.checks import number, of_modes, require, turn, whole
from qtwin.modes.gaussian import VACUUM, GaussianState, moments

MOST_CLICK_MODES = 10  # 2^10 patterns
MOST_OUTCOMES = 2**20


def counts(state: GaussianState):
    """<n_j> = |alpha_j|^2 + N_jj and Cov(n_j, n_k) = |N_jk|^2 + |M_jk|^2 + 2 Re(alpha_j* alpha_k* M_jk +
    alpha_j alpha_k* N_jk) + delta_jk <n_j>; [N] and [N, N].

    Gaussian moment theorem; alpha, N, M of `moments` (Erkmen & Shapiro, Adv. Opt. Photon. 2, 405 (2010)).
    """
    alpha, single, pair = moments(state)
    mean = jnp.abs(alpha) ** 2 + jnp.diagonal(single).real
    turned = alpha.conj()[:, None] * alpha.conj()[None, :] * pair + alpha[:, None] * alpha.conj()[None, :] * single
    square = single.real**2 + single.imag**2 + pair.real**2 + pair.imag**2
    return mean, square + 2 * turned.real + jnp.diag(mean)


def detected(mean, covariance, efficiency, dark=0.0):
    """<n'> = eta n + d, Cov' = eta_j eta_k (Cov - delta n) + delta (eta n + d): counts behind losses.

    mean [N], covariance [N, N], efficiency and Poisson dark counts scalar or [N]. Smooth down to eta = 0 (Mandel &
    Wolf, Optical Coherence and Quantum Optics (1995), section 12.10).
    """
    eta = of_modes("efficiency", number("efficiency", efficiency, fraction), mean.shape[0])
    dark = of_modes("dark", number("dark", dark, nonnegative), mean.shape[0])
    seen = eta * mean + dark
    return seen, eta[:, None] * (covariance - jnp.diag(mean)) * eta[None, :] + jnp.diag(seen)


def difference_noise(mean, covariance, first: int = 0, second: int = 1):
    """Noise reduction factor F = Var(n_1 - n_2)/<n_1 + n_2> of two entries of ``counts`` or ``detected``."""
    require("mean", mean[first] + mean[second] > 0, "got two dark entries, accepted is a mean greater than 0")
    variance = covariance[first, first] + covariance[second, second] - 2 * covariance[first, second]
    return variance / (mean[first] + mean[second])


def noise_reduction_factor(per_mode, eta_s, eta_i):
    """F = 1 - 2 e1 e2/(e1 + e2) + mu_m (e1 - e2)^2/(e1 + e2): `difference_noise` of twin beams, mu_m pairs per mode.

    No background; any number of modes (from the moments of the negative binomial law). Elementwise.
    """
    mu = number("per_mode", per_mode, nonnegative)
    one, two = number("eta_s", eta_s, fraction), number("eta_i", eta_i, fraction)
    require("eta_s, eta_i", one + two > 0, "got two dark arms, accepted is an efficiency greater than 0")
    return 1 - 2 * one * two / (one + two) + mu * (one - two) ** 2 / (one + two)


def coherence(state: GaussianState):
    """g1_jk = <a_j^ a_k>/sqrt(<n_j><n_k>): complex degree of first-order coherence, [N, N]; modes must hold light."""
    alpha, single, _ = moments(state)
    total = single + alpha.conj()[:, None] * alpha[None, :]
    mean = jnp.diagonal(total).real
    require("state", mean > 0, "got a mode without light, accepted are modes with photons")
    return total / jnp.sqrt(mean[:, None] * mean[None, :]).astype(total.dtype)


def correlation(state: GaussianState):
    """g2_jk = <a_j^ a_k^ a_j a_k>/(<n_j><n_k>) = 1 + (Cov - delta n)/(<n_j><n_k>), [N, N]; g11 of two arms.

    Thermal 2, coherent 1, twin beams 2 + 1/n across the arms. Modes must hold light.
    """
    mean, covariance = counts(state)
    require("state", mean > 0, "got a mode without light, accepted are modes with photons")
    return 1 + (covariance - jnp.diag(mean)) / (mean[:, None] * mean[None, :])


def generating(state: GaussianState, s):
    """G(s) = <:exp(-sum_j s_j n_j):> = exp(-m^T B^-1 D m/2)/sqrt(det B), B = 1 + D (V - 1/2), D = diag(s, s); s [N].

    s = eta: no photon found with efficiencies eta; s = 1 - z: sum_n p(n) z^n, complex |z| <= 1 allowed. The pivots of
    B have positive real parts there (D^-1 + V - 1/2 has a positive real part), so the product of their principal
    roots is the branch of the root that starts at 1.
    """
    size = 2 * state.modes
    twice = jnp.concatenate([s, s])
    mean, covariance = state.mean.astype(s.dtype), state.covariance.astype(s.dtype)
    identity = jnp.eye(size, dtype=s.dtype)
    matrix = identity + twice[:, None] * (covariance - VACUUM * identity)
    system = jnp.concatenate([matrix, (twice * mean)[:, None]], axis=1)

    def eliminate(k, carried):
        rows, root = carried
        row = (rows[k] / rows[k, k])[None, :]
        column = rows[:, k] - (jnp.arange(size) == k).astype(rows.dtype)  # leaves row / pivot in its place
        return rows - column[:, None] * row, root * jnp.sqrt(rows[k, k])

    solved, root = jax.lax.fori_loop(0, size, eliminate, (system, jnp.ones((), system.dtype)))
    return jnp.exp(-mean @ solved[:, -1] / 2) / root


def click_patterns(state: GaussianState, efficiency=1.0, dark=0.0):
    """Probability of every pattern of clicks, [2] * N, index 1 for a click: inclusion-exclusion over silent sets.

    P(silent on S) = prod_S (1 - d_j) <:exp(-sum_S eta_j n_j):>; efficiency and dark click probability scalar or [N].
    Up to 10 modes. Differences of numbers near 1: patterns below 1e-15 are rounding.
    """
    n = whole("modes of the state", state.modes, 1, MOST_CLICK_MODES)
    eta = of_modes("efficiency", number("efficiency", efficiency, fraction), n)
    dark = of_modes("dark", number("dark", dark, fraction), n)
    return _patterns(state, eta, dark)


@jax.jit
def _patterns(state, eta, dark):
    sets = jnp.asarray(list(product([0.0, 1.0], repeat=state.modes)), eta.dtype)
    silent = jax.vmap(lambda chosen: generating(state, eta * chosen) * jnp.prod(1 - dark * chosen))(sets)
    table = silent.reshape((2,) * state.modes)
    for axis in range(state.modes):
        anything, none = jnp.take(table, 0, axis), jnp.take(table, 1, axis)
        table = jnp.stack([none, anything - none], axis)
    return table


def number_distribution(state: GaussianState, size: int):
    """p(n_1, .. n_N), each n from 0 to size - 1, [size] * N: the Fourier series of G(1 - z) on |z| = 1.

    What lies at n + size, n + 2 size .. falls onto n: raises UserError where that is more than 1e-6 of a concrete
    state, and FieldError above 2^20 outcomes.
    """
    size = whole("size", size, 2, MOST_OUTCOMES)
    if size**state.modes > MOST_OUTCOMES:
        raise FieldError("size", f"got {size} for {state.modes} modes, accepted are at most {MOST_OUTCOMES} outcomes")
    table, mean = _series(state, size)
    if is_concrete(table):
        seen, mean = np.asarray(table), np.asarray(mean)
        for axis in range(state.modes):
            p = seen.sum(tuple(a for a in range(state.modes) if a != axis))
            beyond = (mean[axis] - p @ np.arange(size)) / size
            if not beyond < 1e-6:
                found = f"leaves {beyond:.2g} of mode {axis} beyond it"
                raise UserError(f"size: got {size}, which {found}, accepted is a larger one (1e-6 or less beyond)")
    return table


@partial(jax.jit, static_argnums=1)
def _series(state, size):
    circle = 1 - turn(-2 * jnp.pi / size * jnp.arange(size, dtype=state.mean.dtype))
    points = jnp.stack(jnp.meshgrid(*[circle] * state.modes, indexing="ij"), -1).reshape(-1, state.modes)
    values = jax.vmap(lambda s: generating(state, s))(points).reshape((size,) * state.modes)
    return jnp.fft.ifftn(values).real, counts(state)[0]


def thermal_variance(mean, modes):
    """Var n = n (1 + n/M) of M equally bright thermal modes (Mandel & Wolf 1995, section 13.3). Elementwise."""
    mean = number("mean", mean, nonnegative)
    return mean * (1 + mean / number("modes", modes, positive))


def thermal_distribution(size: int, mean, modes):
    """p(n) = Gamma(n + M)/(n! Gamma(M)) (1 + M/m)^-n (1 + m/M)^-M, n < size: M equally bright thermal modes, mean m.

    Mandel & Wolf, Optical Coherence and Quantum Optics (1995), section 13.3; by its ratios p(n)/p(n - 1), so it is
    exact for any M, also non-integer.
    """
    size = whole("size", size, 1, MOST_OUTCOMES)
    mean, modes = number("mean", mean, positive), number("modes", modes, positive)
    n = jnp.arange(1, size, dtype=mean.dtype)
    steps = jnp.log(mean / (1 + mean / modes)) + jnp.log1p((n - 1) / modes) - jnp.log(n)
    start = -modes * jnp.log1p(mean / modes)
    return jnp.exp(jnp.concatenate([start[None], start + jnp.cumsum(steps)]))


def mode_number(extent, coherence):
    """M = 1/[erf(sqrt pi u)/u - (1 - exp(-pi u^2))/(pi u^2)], u = extent/coherence: thermal modes in a window.

    From 1/M = (2/T) int_0^T (1 - t/T)|g1(t)|^2 dt with |g1|^2 = exp(-pi t^2/t_c^2): coherence t_c = int |g1|^2 dt, the
    window T of time (a gate) or of a side of a pixel (Goodman, Statistical Optics, 2nd ed. (2015), ch. 6). Modes of
    independent directions multiply: M = M_x M_y M_t. 1 + pi u^2/6 where u is small, u where it is large.
    """
    u = number("extent", extent, positive) / number("coherence", coherence, positive)
    small = u < 1e-3
    safe = jnp.where(small, 1.0, u)
    square = jnp.pi * safe**2
    exact = 1 / (jax.scipy.special.erf(jnp.sqrt(square)) / safe + jnp.expm1(-square) / square)
    return jnp.where(small, 1 + jnp.pi * u**2 / 6, exact)
