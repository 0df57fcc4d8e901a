"""Exact reflectance and transmittance of a homogeneous slab by adding and doubling: an oracle for values and gradients.

van de Hulst, Multiple Light Scattering (Academic Press 1980), chapter 4; Prahl, van Gemert & Welch, Appl. Opt. 32, 559
(1993). Henyey-Greenstein scattering or any of known Legendre moments; collimated light at normal incidence, air on both
sides.
"""

import numpy as np
from numpy.polynomial.legendre import leggauss

from qtwin.optics.fresnel import reflectance

DOUBLINGS = 25  # of a first layer so thin that light is scattered in it once


def _nodes(n: float, count: int):
    """Cosines and weights on (0, 1), apart below and above the critical angle; the beam, at 1, comes last."""
    critical = np.sqrt(1 - 1 / n**2)
    parts = [(0.0, critical), (critical, 1.0)] if critical > 0 else [(0.0, 1.0)]
    x, w = leggauss(count)
    cosines = np.concatenate([low + (high - low) * (x + 1) / 2 for low, high in parts])
    weights = np.concatenate([(high - low) / 2 * w for low, high in parts])
    return np.append(cosines, 1.0), np.append(weights, 1.0)


def slab(mu_a: float, mu_s: float, g, d: float, n: float, count: int = 48) -> tuple[float, float]:
    """Total reflectance and transmittance, specular and straight light included.

    ``g``: of Henyey-Greenstein, or the Legendre moments of another law, which are 0 beyond those given.
    """
    tau, albedo = (mu_a + mu_s) * d, mu_s / (mu_a + mu_s)
    mu, w = _nodes(n, count)
    orders = np.arange(2 * count)
    legendre = np.polynomial.legendre.legvander(mu, len(orders) - 1)
    moments = (2 * orders + 1) * (np.pad(g, (0, len(orders)))[: len(orders)] if np.ndim(g) else g**orders)
    along = (legendre * moments) @ legendre.T
    back = (legendre * moments * (-1.0) ** orders) @ legendre.T
    # the truncated series is made to scatter as much as it should
    total = ((along + back) * w)[:, :-1].sum(axis=1) / 2
    along, back = along / total[:, None], back / total[:, None]
    one, thin = np.eye(len(mu)), tau / 2.0**DOUBLINGS
    t = one - thin / mu[:, None] * (one - albedo / 2 * along * w)
    r = thin / mu[:, None] * (albedo / 2 * back * w)
    t[-1], r[-1] = 0, 0
    t[-1, -1] = 1 - thin  # scattered light never is in the beam
    for _ in range(DOUBLINGS):
        between = np.linalg.inv(one - r @ r)
        r, t = r + t @ r @ between @ t, t @ between @ t
    mirror = np.diag([float(reflectance(m, n, 1.0)[0]) for m in mu])
    below = np.linalg.inv(one - r @ mirror) @ t
    up = r + t @ mirror @ below
    beam = np.zeros(len(mu))
    beam[-1] = 1 - mirror[-1, -1]
    down = np.linalg.solve(one - mirror @ up, beam)
    flux = np.append((mu * w)[:-1], 1.0) * (1 - np.diag(mirror))
    return mirror[-1, -1] + float(flux @ (up @ down)), float(flux @ (below @ down))


def slopes_of(mu_a: float, mu_s: float, g: float, d: float, n: float):
    """(R, T) and field -> (dR, dT), by central differences."""
    at = {"mu_a": mu_a, "mu_s": mu_s, "g": g, "thickness": d}
    steps = {"mu_a": 1e-4 * (mu_a + mu_s), "mu_s": 1e-4 * (mu_a + mu_s), "g": 1e-4, "thickness": 1e-4 * d}

    def both(**changed):
        return np.array(slab(*(at | changed).values(), n))

    slopes = {f: (both(**{f: at[f] + h}) - both(**{f: at[f] - h})) / (2 * h) for f, h in steps.items()}
    return both(), slopes
