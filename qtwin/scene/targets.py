"""Targets of known shape: a weak lesion, the USAF 1951 resolution target, a Siemens star.

Every scene has one method ``grid(pixels, fine, pitch)``: intensity transmission at the centres of
(pixels * fine)^2 cells of side pitch/fine, [rows, columns] = [y, x], y growing downwards. Cell k is
centred at (k + 0.5 - N/2) * cell. Values are in [0, 1], and clear background transmits 1.
"""

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import FieldError
from qtwin.core.params import fraction, is_concrete, param, positive, real, static
from qtwin.core.units import show
from qtwin.scene.abstract import AbstractScene
from qtwin.scene.grid import Grid

GROUPS = range(-2, 10)  # of the standard


def cell_side(fine: int, pitch):
    """Side of a cell, m."""
    return jnp.asarray(pitch, jnp.result_type(float)) / fine


def centres(cells: int):
    """Positions of the cell centres along an axis, in cells: k + 0.5 - N/2."""
    return jnp.arange(cells, dtype=jnp.result_type(float)) + (0.5 - cells / 2)


def overlap(low, high, cells: int):
    """Part of each cell covered by the intervals [low, high], given in cells: [intervals, cells]."""
    edge = centres(cells)[None, :] - 0.5
    return jnp.maximum(jnp.minimum(high[:, None], edge + 1) - jnp.maximum(low[:, None], edge), 0)


class Lesion(AbstractScene):
    """T = 1 - absorption * clip(1/2 + (R - r)/cell, 0, 1): a disc whose edge is one cell wide.

    R = diameter/2, r: distance of the cell centre from (x, y). The ramp covers pi (R^2 + cell^2/12), so
    the disc should be several cells wide. Differentiable in all four fields.
    """

    diameter: jax.Array = param("m", positive, "diameter of the disc")
    absorption: jax.Array = param("", fraction, "part of the light that the disc absorbs")
    x: jax.Array = param("m", real, "centre of the disc, along a row", default=0.0)
    y: jax.Array = param("m", real, "centre of the disc, down the columns", default=0.0)

    def grid(self, pixels: int, fine: int, pitch) -> Grid:
        """Transmission on (pixels * fine)^2 cells of side pitch/fine (pitch in m)."""
        cell, at = cell_side(fine, pitch), centres(pixels * fine)
        square = (at - self.x / cell)[None, :] ** 2 + (at - self.y / cell)[:, None] ** 2
        middle = square == 0  # the root has no derivative there, the covered part has: 0
        r = jnp.where(middle, 0, jnp.sqrt(jnp.where(middle, 1, square)))
        return Grid(1 - self.absorption * jnp.clip(0.5 + self.diameter / (2 * cell) - r, 0, 1), cell)


def bar_width(group: int, element: int) -> float:
    """w = 1/(2 f), f = 2^(group + (element - 1)/6) line pairs per mm (MIL-STD-150A); m."""
    return 1e-3 / (2 * 2 ** (group + (element - 1) / 6))


def usaf_bars(group: int) -> np.ndarray:
    """Edges x0, x1, y0, y1 of the 36 bars of a group, m, [36, 4]; the group is centred on (0, 0).

    Two columns, elements 1 2 3 and 4 5 6 downwards; an element is three vertical bars, a gap of 2 w and
    three horizontal bars, each w by 5 w with gaps of w. Rows and columns stand 2 w of element 1 apart.
    """
    bars, left, gap = [], 0.0, 2 * bar_width(group, 1)
    for column in ((1, 2, 3), (4, 5, 6)):
        top = 0.0
        for element in column:
            w = bar_width(group, element)
            for i in (0, 2, 4):
                bars.append((left + i * w, left + (i + 1) * w, top, top + 5 * w))
            for i in (0, 2, 4):
                bars.append((left + 7 * w, left + 12 * w, top + i * w, top + (i + 1) * w))
            top += 5 * w + gap
        left += 12 * bar_width(group, column[0]) + gap
    edges = np.array(bars)
    for low, high in ((0, 1), (2, 3)):
        edges[:, [low, high]] -= (edges[:, low].min() + edges[:, high].max()) / 2
    return edges


def usaf_needs(group: int) -> tuple[float, float]:
    """Smallest field and largest cell for a group, m: its longer side, and half its finest bar."""
    edges = usaf_bars(group)
    return float(2 * edges[:, [1, 3]].max()), bar_width(group, 6) / 2


class USAF1951(AbstractScene):
    """Six elements of one group of MIL-STD-150A: f = 2^(group + (element - 1)/6) line pairs per mm.

    T = 1 - absorption * (part of the cell covered by bars), from the exact overlap of rectangles; the
    layout is that of ``usaf_bars``. ``grid`` raises FieldError when the group is larger than the field or its
    finest bars are below two cells; a traced pitch is not checked.
    """

    group: int = static("group number of the standard, -2 to 9")
    absorption: jax.Array = param("", fraction, "part of the light that a bar absorbs")

    def check(self):
        if not isinstance(self.group, int) or isinstance(self.group, bool) or self.group not in GROUPS:
            raise FieldError("group", f"got {self.group!r}, accepted is a whole number from -2 to 9")

    def grid(self, pixels: int, fine: int, pitch) -> Grid:
        """Transmission on (pixels * fine)^2 cells of side pitch/fine (pitch in m)."""
        cell, cells = cell_side(fine, pitch), pixels * fine
        if is_concrete(cell):
            self._fit(cells * float(cell), float(cell))
        edges = jnp.asarray(usaf_bars(self.group), cell.dtype) / cell
        across = overlap(edges[:, 0], edges[:, 1], cells)
        down = overlap(edges[:, 2], edges[:, 3], cells)
        covered = jnp.matmul(down.T, across, precision="highest")
        return Grid(1 - self.absorption * jnp.clip(covered, 0, 1), cell)

    def _fit(self, field: float, cell: float):
        def fits(group: int) -> bool:
            side, largest = usaf_needs(group)
            return side <= field * (1 + 1e-6) and cell <= largest * (1 + 1e-6)

        if not fits(self.group):
            side, largest = usaf_needs(self.group)
            good = ", ".join(str(group) for group in GROUPS if fits(group)) or "none"
            raise FieldError(
                "group",
                f"group {self.group} needs a field of {show(side, 'm')} and cells of at most {show(largest, 'm')}, "
                f"got a field of {show(field, 'm')} and cells of {show(cell, 'm')}; groups that fit: {good}",
            )


class SiemensStar(AbstractScene):
    """Absorbing spokes of angle pi/spokes and equal gaps inside a disc; a spoke is centred on the +x axis.

    T = 1 - absorption * clip(1/2 + d/cell, 0, 1) * clip(1/2 + (R - r)/cell, 0, 1), d: arc to the nearest
    edge of a spoke, positive inside. Half of the disc absorbs at every radius; where the spokes are finer
    than the cells the star is grey. What reaches beyond the field is not seen.
    """

    spokes: int = static("absorbing spokes, 1 to 1000")
    diameter: jax.Array = param("m", positive, "diameter of the star")
    absorption: jax.Array = param("", fraction, "part of the light that a spoke absorbs")

    def check(self):
        if not isinstance(self.spokes, int) or isinstance(self.spokes, bool) or not 1 <= self.spokes <= 1000:
            raise FieldError("spokes", f"got {self.spokes!r}, accepted is a whole number from 1 to 1000")

    def grid(self, pixels: int, fine: int, pitch) -> Grid:
        """Transmission on (pixels * fine)^2 cells of side pitch/fine (pitch in m)."""
        cell, at = cell_side(fine, pitch), centres(pixels * fine)
        x, y = jnp.meshgrid(at, at)
        r = jnp.hypot(x, y)
        turn = jnp.arctan2(y, x) * (self.spokes / (2 * jnp.pi))
        arc = (0.25 - jnp.abs(turn - jnp.round(turn))) * (2 * jnp.pi / self.spokes) * r
        disc = jnp.clip(0.5 + self.diameter / (2 * cell) - r, 0, 1)
        return Grid(1 - self.absorption * jnp.clip(0.5 + arc, 0, 1) * disc, cell)
