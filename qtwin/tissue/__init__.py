"""Light in tissue."""

from qtwin.tissue.fates import Fates as Fates
from qtwin.tissue.fates import fates as fates
from qtwin.tissue.light_path import LightPath as LightPath
from qtwin.tissue.media import Composition as Composition
from qtwin.tissue.media import Optical as Optical
from qtwin.tissue.media import composition as composition
from qtwin.tissue.media import optical as optical
from qtwin.tissue.slab import Slab as Slab
from qtwin.tissue.walk import Walk as Walk
from qtwin.tissue.walk import walk as walk
