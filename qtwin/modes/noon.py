"""Phase information of NOON states, Fock states and coherent light under loss, in closed form."""

from math import comb

import jax.numpy as jnp
import numpy as np

from qtwin.core.params import efficiency as efficient
from qtwin.core.params import fraction, nonnegative, positive, real
from qtwin.modes.checks import number, whole


def fock_loss(photons: int, efficiency):
    """p(k) = C(n, k) eta^k (1 - eta)^(n - k), k = 0 .. n, [n + 1]: a Fock state behind a loss stays diagonal."""
    n = whole("photons", photons, 0, 200)
    eta = number("efficiency", efficiency, fraction)
    return jnp.stack([comb(n, k) * eta**k * (1 - eta) ** (n - k) for k in range(n + 1)])


def noon_information(photons, efficiency_a, efficiency_b):
    """F = 2 N^2 ea^N eb^N/(ea^N + eb^N) per state (|N, 0> + e^(i N phi)|0, N>)/sqrt 2, e the arms' efficiencies.

    Demkowicz-Dobrzanski, Jarzyna & Kolodynski, Prog. Opt. 60, 345 (2015), section 5; states that lose a photon carry
    no phase.
    """
    n = number("photons", photons, positive)
    a = number("efficiency_a", efficiency_a, efficient) ** n
    b = number("efficiency_b", efficiency_b, efficient) ** n
    return 2 * n**2 * a * b / (a + b)


def noon_optimal(photons, efficiency_a, efficiency_b):
    """F = 4 N^2 ea^N eb^N/(ea^(N/2) + eb^(N/2))^2: weights of |N, 0> and |0, N> chosen best, ea^(-N/2) : eb^(-N/2)."""
    n = number("photons", photons, positive)
    a = number("efficiency_a", efficiency_a, efficient) ** (n / 2)
    b = number("efficiency_b", efficiency_b, efficient) ** (n / 2)
    return 4 * (n * a * b / (a + b)) ** 2


def noon_probabilities(photons, efficiency_a, efficiency_b, phase, visibility=1.0):
    """(p_even, p_odd, p_lost), p = (ea^N + eb^N +- 2 V (ea eb)^(N/2) cos N phi)/4: parity behind a beam splitter.

    Balanced weights; ``visibility`` V of the interference itself; [3].
    """
    n, phase = number("photons", photons, positive), number("phase", phase, real)
    a = number("efficiency_a", efficiency_a, efficient) ** n
    b = number("efficiency_b", efficiency_b, efficient) ** n
    swing = 2 * number("visibility", visibility, fraction) * jnp.sqrt(a * b) * jnp.cos(n * phase)
    return jnp.stack([(a + b + swing) / 4, (a + b - swing) / 4, 1 - (a + b) / 2])


def fringe_information(photons, visibility, phase):
    """F = N^2 V^2 sin^2(N phi)/(1 - V^2 cos^2(N phi)) per detected state of p = (1 +- V cos N phi)/2.

    Okamoto et al., New J. Phys. 10, 073033 (2008), declared; N^2 at V = 1 everywhere.
    """
    n, v = number("photons", photons, positive), number("visibility", visibility, fraction)
    phase = number("phase", phase, real)
    sine = jnp.sin(n * phase) ** 2
    rest = 1 - v**2 + v**2 * sine
    flat = rest == 0  # V = 1 on a fringe's extremum: the limit
    return n**2 * v**2 * jnp.where(flat, 1.0, sine / jnp.where(flat, 1.0, rest))


def coherent_information(photons, efficiency_a, efficiency_b):
    """F = 4 n ea eb/(sqrt ea + sqrt eb)^2: n coherent photons split best, no external phase reference.

    Equal losses: n e, the standard quantum limit (Demkowicz-Dobrzanski et al., Phys. Rev. A 80, 013825 (2009)).
    """
    n = number("photons", photons, nonnegative)
    a = jnp.sqrt(number("efficiency_a", efficiency_a, efficient))
    b = jnp.sqrt(number("efficiency_b", efficiency_b, efficient))
    return 4 * n * (a * b / (a + b)) ** 2


def best_noon(efficiency: float, largest: int = 100) -> int:
    """N up to ``largest`` of the greatest N eta^N, information per incident photon at equal losses; least of a tie."""
    eta = float(number("efficiency", efficiency, efficient))
    n = np.arange(1, whole("largest", largest, 1, 100_000) + 1)
    value = np.log(n) + n * np.log(eta)
    return int(n[np.flatnonzero(value >= value.max() - 1e-12)[0]])
