"""Which law scatters in which layer, and how it reaches the walk."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import UserError
from qtwin.tissue.phase_functions import AbstractPhaseFunction, HenyeyGreenstein
from qtwin.tissue.slab import Slab

Phase = AbstractPhaseFunction | Sequence[AbstractPhaseFunction] | None


def scattering(slab: Slab, phase: Phase) -> tuple[Slab, np.ndarray | None]:
    """The slab with the mean cosines of its laws of scattering, and their quantiles (None for Henyey-Greenstein)."""
    if phase is None:
        return slab, None
    laws = [phase] * slab.mu_a.shape[0] if isinstance(phase, AbstractPhaseFunction) else list(phase)
    wrong = next((type(law).__name__ for law in laws if not isinstance(law, AbstractPhaseFunction)), None)
    if wrong or len(laws) != slab.mu_a.shape[0]:
        given = wrong or f"{len(laws)} for {slab.mu_a.shape[0]} layers"
        raise UserError(f"phase: got {given}, accepted is one law of scattering (qtwin.tissue), or one for each layer")
    means = jnp.stack([jnp.asarray(law.mean_cosine(), slab.g.dtype) for law in laws])
    made = eqx.tree_at(lambda s: s.g, slab, means)
    alike = all(isinstance(law, HenyeyGreenstein) for law in laws)
    return made, None if alike else versines(laws)


def versines(laws: Sequence[AbstractPhaseFunction]) -> np.ndarray:
    """Quantiles of 1 - c of every layer's law, float32 [L, N + 1], all of the finest size, as the walk reads them."""
    size = max(law.table_size for law in laws)
    made = {id(law): law.table(size) for law in laws}
    return 1 - np.stack([made[id(law)] for law in laws])
