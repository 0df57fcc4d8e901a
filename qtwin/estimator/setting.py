"""What one exposure is: how many photons meet the sample, in what time."""

from typing import NamedTuple

import jax


class Setting(NamedTuple):
    """One exposure of one arm."""

    incident: jax.Array  # signal photons that meet the sample
    emitted: jax.Array  # pairs that left the crystal (for pair sources)
    time: jax.Array  # s
