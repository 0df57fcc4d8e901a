"""How fast two Gaussian states become distinguishable: the quantum Chernoff exponent per copy."""

import jax
import jax.numpy as jnp

from qtwin.core.errors import UserError
from qtwin.core.params import is_concrete
from qtwin.modes.gaussian import GaussianState, normal_function, williamson

PURE = 1e-13  # photons of a normal mode, over the greatest nu, that count as none
LEAST = 1e-8  # exponents below are rounding: closed forms there
STEPS = 40  # golden sections of s: 0.618^40 = 4e-9


def power(covariance, s):
    """(log Tr rho^s, covariance of rho^s/Tr rho^s) of a Gaussian state, 0 < s <= 1.

    Each normal mode nu = n + 1/2 has Tr rho^s = 1/((n + 1)^s - n^s) and n_s = n^s/((n + 1)^s - n^s) (Pirandola &
    Lloyd, Phys. Rev. A 78, 012331 (2008)).
    """
    root, nu, unitary = williamson(covariance)
    nu = jnp.abs(nu)
    n = jnp.where(nu - 0.5 > PURE * nu[-1], nu - 0.5, 0.0)  # rounding is not light: n^s would see it
    step = (n + 1) ** s - n**s
    new = (n**s / step + 0.5) / nu
    # every normal mode stands twice among the 2N eigenvalues
    return -jnp.sum(jnp.log(step)) / 2, normal_function(root, unitary, new)


def log_overlap(first: GaussianState, second: GaussianState, s):
    """log Tr[rho_1^s rho_2^(1-s)] = log Tr rho_1^s + log Tr rho_2^(1-s) - log det(V)/2 - d^T V^-1 d/2, V = V_1 + V_2.

    V_1, V_2 of `power`, d the difference of the means.
    """
    trace1, v1 = power(first.covariance, s)
    trace2, v2 = power(second.covariance, 1 - s)
    d = first.mean - second.mean
    return trace1 + trace2 - jnp.linalg.slogdet(v1 + v2)[1] / 2 - d @ jnp.linalg.solve(v1 + v2, d) / 2


@jax.jit
def _search(first, second):
    golden = jnp.asarray((5**0.5 - 1) / 2, first.mean.dtype)

    def narrow(_, ends):
        low, high = ends
        left, right = high - golden * (high - low), low + golden * (high - low)
        lower = log_overlap(first, second, left) < log_overlap(first, second, right)
        return jnp.where(lower, low, left), jnp.where(lower, right, high)

    start = (jnp.asarray(1e-3, golden.dtype), jnp.asarray(1 - 1e-3, golden.dtype))
    low, high = jax.lax.fori_loop(0, STEPS, narrow, start)
    return -log_overlap(first, second, (low + high) / 2)


def chernoff_exponent(first: GaussianState, second: GaussianState):
    """xi = -min_s log Tr[rho_1^s rho_2^(1-s)]: P_err ~ exp(-M xi)/2 of M copies, equal priors.

    Audenaert et al., Phys. Rev. Lett. 98, 160501 (2007). A numeric search (log Tr is convex in s) over s from 0.001 to
    0.999. Raises UserError where the result is below 1e-8 and so lost in rounding: `illumination` has closed forms.
    """
    exponent = _search(first, second)
    if is_concrete(exponent) and not exponent >= LEAST:
        raise UserError(f"exponent: got {float(exponent):.2g} from the search, accepted is {LEAST:g} or greater")
    return exponent
