"""Light in tissue."""

from qtwin.tissue.fates import Fates as Fates
from qtwin.tissue.fates import fates as fates
from qtwin.tissue.light_path import LightPath as LightPath
from qtwin.tissue.slab import Slab as Slab
from qtwin.tissue.walk import Walk as Walk
from qtwin.tissue.walk import walk as walk
