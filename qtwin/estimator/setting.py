"""What one exposure is: how many photons meet the sample, in what time."""

from typing import NamedTuple

import jax

from qtwin.optics import FarField
from qtwin.source import SPDC


class Setting(NamedTuple):
    """One exposure of one arm."""

    incident: jax.Array  # signal photons that meet the sample
    emitted: jax.Array  # pairs that left the crystal (for pair sources)
    time: jax.Array  # s


def exposed(source: SPDC, optics: FarField, photons) -> Setting:
    """One exposure of ``photons`` signal photons per superpixel (mean over the field) at the sample."""
    incident = photons * optics.pixels**2 / optics.field_fraction(source)
    emitted = incident / optics.illumination_transmission
    return Setting(incident, emitted, emitted / source.pair_rate())
