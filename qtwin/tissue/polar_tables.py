"""What scatters polarised light: the matrix of a single scattering by angle, made ready for the walk of Stokes vectors.

In the plane of scattering, for the Stokes vector of a randomly oriented or spherical particle (van de Hulst, Light
Scattering by Small Particles (Wiley 1957), section 5.22; Bohren & Huffman, Absorption and Scattering of Light by Small
Particles (Wiley 1983), (4.77) for spheres, where S22 = S11 and S44 = S33):

    I' = S11 I + S12 Q,   Q' = S12 I + S22 Q,   U' = S33 U - S34 V,   V' = S34 U + S44 V

Q > 0 lies in the plane; U > 0 at +45 degrees from it towards the second axis of a right-handed triad (e1, e2, k); V > 0
turns clockwise for who looks into the light. For a sphere U' + i V' = S2 S1* (U + i V). Bohren & Huffman's U has the
other sign, their second axis being -e2; hence the sign of S34.
"""

import numpy as np

from qtwin.core.errors import FieldError, UserError
from qtwin.core.params import Element
from qtwin.tissue.mie import Mie
from qtwin.tissue.phase_functions import AbstractPhaseFunction, Rayleigh
from qtwin.tissue.slab import Slab

CELLS, MOST = 4096, 65536  # of the scattering angle, fewest and most
PER_SIZE = 128  # cells for a size parameter of 1; the lobes of a sphere are about pi/x wide
COLUMNS = 8
COSINE, S12, S22, S33, S34, S44, KEPT, ALIAS = range(COLUMNS)  # of a row of a table; the S are divided by S11


class Depolarising(Element):
    """S12 = S22 = S33 = S34 = S44 = 0: every scattering leaves natural light, of the phase function ``law``.

    The limit in which the walk of Stokes vectors is the scalar one; for laws that have no matrix of their own.
    """

    law: AbstractPhaseFunction

    def check(self):
        if not isinstance(self.law, AbstractPhaseFunction):
            raise FieldError("law", f"got {type(self.law).__name__}, accepted is a phase function")

    def cumulative(self, cosine) -> np.ndarray:
        return np.asarray(self.law.cumulative(cosine), float)


Scatterer = Rayleigh | Mie | Depolarising


def _ratios(scatterer: Scatterer, cosine: np.ndarray) -> np.ndarray:
    """S12, S22, S33, S34, S44 over S11, [5, n]."""
    if isinstance(scatterer, Depolarising):
        return np.zeros((5, len(cosine)))
    s11, s12, s33, s34 = (np.asarray(row, float) for row in scatterer.mueller(cosine))
    return np.stack([s12, s11, s33, s34, s33]) / s11


def _alias(masses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Part of a cell that stays there, and the cell where the rest goes: Vose, IEEE Trans. Softw. Eng. 17, 972 (1991).

    A cell drawn uniformly among n, and left for its alias with the odds 1 - kept, has the probability masses[cell].
    """
    n = len(masses)
    height, alias = masses * n / masses.sum(), np.arange(n)
    kept, low, high = height.copy(), list(np.flatnonzero(height < 1)), list(np.flatnonzero(height >= 1))
    while low and high:
        poor, rich = low.pop(), high[-1]
        kept[poor], alias[poor] = height[poor], rich
        height[rich] -= 1 - height[poor]
        if height[rich] < 1:
            low.append(high.pop())
            kept[low[-1]] = height[low[-1]]
    kept[low + high] = 1
    return kept, alias


def cells_of(scatterer: Scatterer) -> int:
    """Cells of the scattering angle that resolve a scatterer: a power of two."""
    wanted = PER_SIZE * float(scatterer.size_parameter()) if isinstance(scatterer, Mie) else CELLS
    return int(min(max(1 << int(np.ceil(np.log2(wanted))), CELLS), MOST))


def table(scatterer: Scatterer, cells: int) -> np.ndarray:
    """Rows at theta = pi i/cells, float64 [cells + 1, COLUMNS]: cosine, the matrix over S11, and the alias of cell i.

    A cell is drawn with the exact probability F(c_i) - F(c_(i+1)), then a cosine uniformly inside; the matrix is
    interpolated. What that changes is of the order of 1/cells^2.
    """
    cosine = np.cos(np.linspace(0, np.pi, cells + 1))
    masses = np.clip(-np.diff(np.asarray(scatterer.cumulative(cosine), float)), 0, None)
    kept, alias = _alias(masses)
    columns = [cosine, *_ratios(scatterer, cosine), np.append(kept, 1), np.append(alias, 0)]
    rows = np.stack(columns, axis=1)
    if not np.all(np.isfinite(rows)):
        raise UserError(f"scatterers: the matrix of {type(scatterer).__name__} is not finite at every angle")
    return rows


def tables(slab: Slab, scatterers) -> np.ndarray:
    """One `table` per layer, float64 [L, cells + 1, COLUMNS], all of the finest number of cells.

    Raises UserError where a layer scatters and has no scatterer, of something else than a scatterer, and of a sphere in
    another medium than its layer.
    """
    count, mu_s, n = slab.mu_s.shape[0], np.asarray(slab.mu_s), np.asarray(slab.n, float)
    given = list(scatterers) if isinstance(scatterers, (list, tuple)) else [scatterers] * count
    accepted = "Rayleigh, Mie, or Depolarising"
    if len(given) != count:
        raise UserError(f"scatterers: got {len(given)} for {count} layers, accepted is one or one per layer")
    for layer, one in enumerate(given):
        if one is None and mu_s[layer] > 0:
            raise UserError(f"scatterers: got nothing for layer {layer}, which scatters; accepted is {accepted}")
        if not isinstance(one, (Rayleigh, Mie, Depolarising, type(None))):
            raise UserError(f"scatterers: got {type(one).__name__} for layer {layer}, accepted is {accepted}")
        if isinstance(one, Mie) and not np.isclose(float(one.n_medium), n[layer], rtol=1e-5):
            around = f"n_medium {float(one.n_medium):g} of the sphere in layer {layer}"
            raise UserError(f"scatterers: got {around}, accepted is the n of that layer, {n[layer]:g}")
    filled: list[Scatterer] = [Rayleigh() if one is None else one for one in given]
    cells = max(cells_of(one) for one in filled)
    return np.stack([table(one, cells) for one in filled])
