"""What every scene can say."""

from abc import abstractmethod

from qtwin.core.params import Element
from qtwin.scene.grid import Grid


class AbstractScene(Element):
    """An object in the sample: a map of intensity transmission."""

    @abstractmethod
    def grid(self, pixels: int, fine: int, pitch) -> Grid:
        """Transmission at the centres of (pixels fine)^2 cells of side pitch/fine; rows downwards, centred."""
