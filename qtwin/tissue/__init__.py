"""Light in tissue."""

from qtwin.tissue.fates import Fates as Fates
from qtwin.tissue.fates import fates as fates
from qtwin.tissue.light_path import LightPath as LightPath
from qtwin.tissue.media import Composition as Composition
from qtwin.tissue.media import Optical as Optical
from qtwin.tissue.media import composition as composition
from qtwin.tissue.media import optical as optical
from qtwin.tissue.mie import Mie as Mie
from qtwin.tissue.phase_functions import HenyeyGreenstein as HenyeyGreenstein
from qtwin.tissue.phase_functions import Rayleigh as Rayleigh
from qtwin.tissue.phase_functions import TwoTerm as TwoTerm
from qtwin.tissue.slab import Slab as Slab
from qtwin.tissue.tabulated import Tabulated as Tabulated
from qtwin.tissue.walk import Walk as Walk
from qtwin.tissue.walk import walk as walk
