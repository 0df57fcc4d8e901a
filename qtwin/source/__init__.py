"""Sources of light."""

from qtwin.source.spdc import SPDC as SPDC
from qtwin.source.spdc import Coherent as Coherent
