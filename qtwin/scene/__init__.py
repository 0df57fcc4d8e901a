"""Objects to be imaged: maps of intensity transmission."""

from qtwin.scene.abstract import AbstractScene as AbstractScene
from qtwin.scene.grid import Grid as Grid
from qtwin.scene.picture import Picture as Picture
from qtwin.scene.targets import USAF1951 as USAF1951
from qtwin.scene.targets import Lesion as Lesion
from qtwin.scene.targets import SiemensStar as SiemensStar
