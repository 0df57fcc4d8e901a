"""Resolution of images: edges, bars, and the point spread of the light path.

Edge: the spread function across the edge of a binary object, its 10 to 90 % width, and the frequency where the modulus
of the Fourier transform of its derivative (MTF) is 1/2; in the manner of ISO 12233 (the image sorted into bins finer
than a superpixel, the response of the differences divided out; the standard from memory), but the edge's place is that
of the known object, not of a line fitted to the image, and bins are an eighth of a superpixel instead of a quarter.
Bars: contrast (I_gap - I_bar)/(I_gap + I_bar), Michelson's. Positions in m; n superpixels of side ``pitch`` centred on
the axis, [rows, columns] = [y, x]. All figures contain the superpixel's own averaging.
"""

from typing import NamedTuple

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.optimize import isotonic_regression
from scipy.spatial import cKDTree
from skimage.measure import find_contours

from qtwin.core.errors import UserError
from qtwin.core.records import Estimate
from qtwin.metrics.statistics import jackknife
from qtwin.scene.targets import USAF1951, overlap, usaf_bars

BINS = 8  # per superpixel across an edge
RAYLEIGH = 0.2649683  # dip between two Airy discs, each on the other's first zero: 1 - 2 (2 J1(v)/v)^2 at v = 3.8317/2


# --- edge ------------------------------------------------------------------------------------------------------


class Edge(NamedTuple):
    """Figures of an edge; infinite, with infinite error, where the image never gets there."""

    contrast: Estimate  # step of the image over that of the object, between the levels away from the edge
    width: Estimate  # m, from 10 to 90 % of the step
    mtf50: Estimate  # cycles/m
    position: np.ndarray  # [bins] m, across the edge, negative inside the dark part
    spread: np.ndarray  # [bins] mean image between its levels 0 and 1


def distance_to_edge(cells: np.ndarray, n: int) -> np.ndarray:
    """Signed distance of every superpixel's centre to the nearest edge of a binary object, [n, n], in superpixels.

    ``cells`` [n f, n f]: transmission; the edge is its contour half-way between darkest and clearest, negative inside
    the dark part.
    """
    if cells.shape[0] % n:
        raise UserError(f"cells: got {cells.shape[0]} along a side, accepted is a multiple of {n} superpixels")
    level = (cells.min() + cells.max()) / 2
    contours = find_contours(cells, level)
    if not contours:
        raise UserError("scene: got an object without an edge, accepted is one with two different transmissions")
    fine = cells.shape[0] // n
    steps = np.linspace(0, 1, 9)[:-1, None, None]  # a contour's corners lie about a cell apart
    line = np.concatenate([(c[:-1] + steps * np.diff(c, axis=0)).reshape(-1, 2) for c in contours])
    centres = (np.arange(n) + 0.5) * fine - 0.5
    y, x = np.meshgrid(centres, centres, indexing="ij")
    found, _ = cKDTree(line).query(np.stack([y.ravel(), x.ravel()], axis=1))
    dark = cells.reshape(n, fine, n, fine).mean(axis=(1, 3)) < level
    return np.where(dark, -1, 1) * found.reshape(n, n) / fine


def edge(images, cells, pitch: float, reach: float | None = None) -> Edge:
    """Figures of the mean of exposures ``images`` [K, n, n] across every edge of the object ``cells`` [n f, n f].

    Superpixels within ``reach`` (in superpixels; as far as both sides go, at most 7) are sorted by their distance; the
    levels are the means over the outermost quarter of either side, so the object must be wider than the blur: 3 std of
    a Gaussian one. The width is read off the nearest rising curve (isotonic regression): noise on the levels widens it.
    Edges along rows or columns are sampled once per superpixel: 11 % too wide at a std of 0.6 superpixels, right from 1
    on. Errors: delete-one jackknife over the exposures; those of width and MTF50 are rather too large where noise
    decides, as neither is smooth in the image.
    """
    images, cells = np.asarray(images, float), np.asarray(cells, float)
    k, n, _ = images.shape
    if k < 3:
        raise UserError(f"images: got {k} exposures, accepted are 3 or more")
    distance = distance_to_edge(cells, n)
    deepest = min(-distance.min(), distance.max())
    reach = min(deepest, 7.0) if reach is None else reach
    if not 2 <= reach <= deepest:
        raise UserError(f"reach: got {reach:.3g} superpixels, accepted is 2 to {deepest:.3g}, how far the object goes")
    inside = np.abs(distance) <= reach
    where = np.floor((distance[inside] + reach) * BINS).astype(int)
    count = np.bincount(where)
    filled = count > 0
    across = (np.bincount(where, distance[inside]) / np.maximum(count, 1))[filled]
    curves = np.stack([np.bincount(where, image[inside])[filled] / count[filled] for image in images])
    low, high = across < -0.75 * reach, across > 0.75 * reach
    mean = curves.mean(axis=0)
    curves = np.concatenate([mean[None], mean + (mean - curves) / (k - 1)])  # of all exposures, and without one
    dark, clear = (np.average(curves[:, side], axis=1, weights=count[filled][side]) for side in (low, high))
    step = np.where(clear - dark > 1e-9 * np.ptp(cells), clear - dark, np.inf)  # less is rounding
    spreads = (curves - dark[:, None]) / step[:, None]
    figures = (
        (clear - dark) / np.ptp(cells),
        _rise(across, spreads, count[filled]) * pitch,
        _half_frequency(across, spreads) / pitch,
    )
    contrast, width, mtf50 = (Estimate(float(v[0]), float(jackknife(v[1:]))) for v in figures)
    return Edge(contrast, width, mtf50, across * pitch, spreads[0])


def _rise(across, spreads, weights):
    """Distance from 10 to 90 % of curves [c, bins], made to rise, by PCHIP; infinite where one does not pass both."""
    rising = np.stack([isotonic_regression(spread, weights=weights).x for spread in spreads])
    fine = np.linspace(across[0], across[-1], 1001)
    ends = [np.interp([0.1, 0.9], curve, fine) for curve in PchipInterpolator(across, rising, axis=1)(fine)]
    return np.where((rising[:, 0] <= 0.1) & (rising[:, -1] >= 0.9), np.diff(ends, axis=1)[:, 0], np.inf)


def _half_frequency(across, spreads):
    """Cycles/superpixel where |Fourier sum of the derivative| of curves [c, bins] first falls to 1/2 of that at 0.

    A difference over the interval d is the derivative's mean there: at f it is less by sinc(f d), which is divided out.
    Infinite where it does not fall so far below one cycle per superpixel, 0 where there is no step.
    """
    frequency = np.linspace(0, 0.95, 96)
    middle, apart = (across[1:] + across[:-1]) / 2, np.minimum(np.diff(across), 1.0)
    waves = np.exp(-2j * np.pi * np.outer(middle, frequency)) / np.sinc(np.outer(apart, frequency))
    total = np.abs(np.diff(spreads, axis=1) @ waves)
    found = total / np.where(total[:, :1] > 0, total[:, :1], 1.0) - 0.5
    after = np.argmax(found < 0, axis=1)
    before = np.maximum(after - 1, 0)
    one, two = (np.take_along_axis(found, i[:, None], axis=1)[:, 0] for i in (before, after))
    share = one / np.where(one == two, 1.0, one - two)
    reached = frequency[before] + share * (frequency[after] - frequency[before])
    return np.where(np.all(found >= 0, axis=1), np.inf, reached)


# --- bars ------------------------------------------------------------------------------------------------------


class Bars(NamedTuple):
    """Contrast of some parallel bars, negative where bars come out brighter than gaps."""

    period: float  # m
    upright: bool  # bars run along y
    contrast: Estimate  # Michelson's, of the image
    transfer: Estimate  # over that of the object

    @property
    def dip(self) -> float:
        """(I_gap - I_bar)/I_gap that bars of an opaque object would have: 2 c/(1 + c), c the transfer."""
        return 2 * self.transfer.value / (1 + self.transfer.value)

    @property
    def resolved(self) -> bool:
        """By Rayleigh's criterion: a dip of 26.5 %, which is a transfer of 15.3 %."""
        return self.dip >= RAYLEIGH


def bar_contrast(images, bars, pitch: float, object_contrast: float) -> Bars:
    """Contrast of two or more bars with equal gaps, [bars, 4] edges x0, x1, y0, y1 in m, in exposures [K, n, n].

    I_bar and I_gap are means over the middle lines of bars and of the gaps between them, without a fifth of the length
    at each end; across, linear between superpixels. Read where the object is known to be, they do not grow with
    noise as extremes of the image do; but superpixels that straddle the lines of bars narrower than they see none.
    Errors: delete-one jackknife.
    """
    images, bars = np.asarray(images, float), np.asarray(bars, float)
    k, n, _ = images.shape
    if k < 3 or len(bars) < 2:
        raise UserError(f"images, bars: got {k} and {len(bars)}, accepted are 3 exposures and 2 bars or more")
    upright = bool(bars[1, 0] > bars[0, 0])
    low, high, start, end = (bars if upright else bars[:, [2, 3, 0, 1]]).T / pitch
    if max(-bars.min(), bars.max()) > n * pitch / 2:
        raise UserError(f"bars: got some as far as {np.abs(bars).max():.4g} m, the field ends at {n * pitch / 2:.4g} m")
    fifth = (end[0] - start[0]) / 5
    along = np.asarray(overlap(start[:1] + fifth, end[:1] - fifth, n))[0]
    along = along / along.sum()
    profile = np.einsum("kyx,y->kx" if upright else "kyx,x->ky", images, along)
    at = np.arange(n) - (n - 1) / 2
    middles, gaps = (low + high) / 2, (high[:-1] + low[1:]) / 2
    dark, clear = (np.stack([np.interp(lines, at, p).mean() for p in profile]) for lines in (middles, gaps))
    left = [(a.sum() - a) / (k - 1) for a in (dark, clear)]
    value, error = _michelson(dark.mean(), clear.mean()), float(jackknife(_michelson(*left)))
    transfer = Estimate(value / object_contrast, error / object_contrast)
    return Bars(float(middles[1] - middles[0]) * pitch, upright, Estimate(float(value), error), transfer)


def _michelson(dark, clear):
    return (clear - dark) / (clear + dark)


def usaf_contrast(images, scene: USAF1951, pitch: float) -> list[Bars]:
    """The twelve triplets of a group in exposures [K, n, n]: elements 1 to 6, upright bars first, then lying ones."""
    absorbed = float(scene.absorption)
    triplets = usaf_bars(scene.group).reshape(12, 3, 4)
    return [bar_contrast(images, bars, pitch, absorbed / (2 - absorbed)) for bars in triplets]


# --- point spread ----------------------------------------------------------------------------------------------


def fwhm(spread, pitch: float) -> tuple[float, float]:
    """Full width at half maximum of a point spread [2 r + 1, 2 r + 1] along x and y, m, by PCHIP.

    `qtwin.tissue.light_path.Images.spread_direct`: it contains the overlap of two superpixels, so that no blur is one
    superpixel wide. Cut through the middle, where the peak must be; infinite where it is above half to the end.
    """
    spread = np.asarray(spread, float)
    middle = spread.shape[0] // 2
    if not spread[middle, middle] > 0:
        raise UserError("spread: nothing in its middle, accepted is a point spread with its peak there")
    return _cut(spread[middle], middle) * pitch, _cut(spread[:, middle], middle) * pitch


def _cut(values, middle: int) -> float:
    line = PchipInterpolator(np.arange(-middle, middle + 1), values)
    out, total = np.linspace(0, middle, 100 * middle + 1), 0.0
    for side in (line(out), line(-out)):
        curve = side - values[middle] / 2
        i = int(np.argmax(curve < 0))
        if i == 0:
            return np.inf
        total += out[i - 1] + (out[i] - out[i - 1]) * curve[i - 1] / (curve[i - 1] - curve[i])
    return total


def mtf(spread, pitch: float, frequencies) -> np.ndarray:
    """|sum_j spread_j exp(-2 pi i f x_j)|/sum_j spread_j along x for ``frequencies`` [f] in cycles/m.

    Up to 1/(2 pitch): from the object's superpixels to those of the image, mean over places within a superpixel, which
    is the blur's times sinc^2(f pitch) plus its copies at f + k/pitch.
    """
    line = np.asarray(spread, float).sum(axis=0)
    x = (np.arange(len(line)) - len(line) // 2) * pitch
    return np.abs(np.exp(-2j * np.pi * np.asarray(frequencies)[:, None] * x) @ line) / line.sum()
