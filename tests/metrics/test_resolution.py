"""Edges, bars and points that were blurred by a known amount."""

import numpy as np
import pytest
from scipy.special import j1, ndtr

from qtwin.core.errors import UserError
from qtwin.core.records import Estimate
from qtwin.metrics.resolution import (
    RAYLEIGH,
    Bars,
    bar_contrast,
    distance_to_edge,
    edge,
    fwhm,
    mtf,
    usaf_contrast,
)
from qtwin.scene.targets import USAF1951, usaf_bars

N, FINE, PITCH = 32, 4, 20e-6
CENTRES = np.arange(N) - (N - 1) / 2
X, Y = np.meshgrid(CENTRES, CENTRES)
SLANT = 0.4  # rad, against the columns

# --- edge ------------------------------------------------------------------------------------------------------


def across(angle, x=X, y=Y, off=0.13):
    """Distance to a straight edge, in superpixels; dark to the left of it."""
    return x * np.cos(angle) + y * np.sin(angle) - off


def edge_cells(angle):
    """Object map of that edge, 0.7 and 1: the covered part of every cell."""
    fine = (np.arange(N * FINE) + 0.5) / FINE - N / 2
    reach = abs(np.cos(angle)) + abs(np.sin(angle))
    return 0.7 + 0.3 * np.clip(0.5 + across(angle, *np.meshgrid(fine, fine)) * FINE / reach, 0, 1)


def blurred(angle, std):
    """Image of the edge through a Gaussian blur."""
    return 0.7 + 0.3 * ndtr(across(angle) / std)


def repeated(image, exposures=3):
    return np.broadcast_to(image, (exposures, *image.shape))


@pytest.mark.parametrize(("angle", "std"), [(np.arctan(0.1), 0.7), (SLANT, 1.0), (2.5, 1.4), (0.0, 1.2)])
def test_width_of_a_blurred_edge(angle, std):
    """From 10 to 90 %: 2 Phi^-1(0.9) std = 2.5631 std; MTF exp(-2 pi^2 std^2 f^2) is 1/2 at sqrt(ln 2/2)/(pi std)."""
    found = edge(repeated(blurred(angle, std)), edge_cells(angle), PITCH)
    assert found.width.value == pytest.approx(2.5631 * std * PITCH, rel=0.01)
    assert found.mtf50.value == pytest.approx(np.sqrt(np.log(2) / 2) / (np.pi * std * PITCH), rel=0.01)
    assert found.contrast.value == pytest.approx(1, abs=2e-4)
    assert found.width.error < 1e-9 * PITCH  # all exposures alike
    np.testing.assert_allclose(found.spread, ndtr(found.position / (std * PITCH)), atol=0.02)


def test_width_contains_the_superpixel():
    """The mean over superpixels of a sharp slanted edge: its box, seen at the angle, from 10 to 90 %."""
    fine = (np.arange(N * 16) + 0.5) / 16 - N / 2
    image = (across(SLANT, *np.meshgrid(fine, fine)) > 0).reshape(N, 16, N, 16).mean(axis=(1, 3))
    found = edge(repeated(image), edge_cells(SLANT), 1.0)
    rng = np.random.default_rng(181)
    box = np.cos(SLANT) * (rng.random(400_000) - 0.5) + np.sin(SLANT) * (rng.random(400_000) - 0.5)
    assert found.width.value == pytest.approx(np.subtract(*np.quantile(box, [0.9, 0.1])), rel=0.03)


def test_contrast_of_an_edge_in_haze():
    """Half of the light is spread over everything: half of the step is left, the width is that of the rest."""
    image = 0.5 * blurred(SLANT, 1.0) + 0.4
    found = edge(repeated(image), edge_cells(SLANT), 1.0)
    assert found.contrast.value == pytest.approx(0.5, abs=1e-4)
    assert found.width.value == pytest.approx(2.5631, rel=0.01)


def disc(radius, x, y):
    fine = (np.arange(N * FINE) + 0.5) / FINE - N / 2
    r = np.hypot(fine[None, :] - x, fine[:, None] - y)
    return 1 - 0.2 * np.clip(0.5 + (radius - r) * FINE, 0, 1)


def test_distance_to_the_edge_of_a_disc():
    """r - R, negative inside, for a disc off the axis; the map knows its edge to a tenth of a cell."""
    found = distance_to_edge(disc(6.0, 3.0, -2.0), N)
    np.testing.assert_allclose(found, np.hypot(X - 3, Y + 2) - 6, atol=0.1 / FINE)


def test_a_lesion_is_an_edge():
    """A disc of radius 8 through a blur of 1: wider than a straight edge by about 1/8^2."""
    k = np.arange(-6, 6.01, 0.25)
    x, y = np.meshgrid(k, k)
    weights = np.exp(-(x**2 + y**2) / 2)
    radius = np.hypot(X[..., None] - 1 + x.ravel(), Y[..., None] + 2 + y.ravel())
    image = 1 - 0.2 * (radius < 8) @ (weights / weights.sum()).ravel()
    found = edge(repeated(image), disc(8.0, 1.0, -2.0), 1.0)
    assert found.width.value == pytest.approx(2.5631 * (1 + 1 / 64), rel=0.02)
    assert found.contrast.value == pytest.approx(1, abs=0.01)


def test_errors_of_an_edge_are_the_scatter_of_repeats():
    """Of the mean of 10 exposures; those of width and MTF50, which are not smooth in the image, may be too large."""
    rng = np.random.default_rng(182)
    clean, cells, repeats = blurred(SLANT, 1.0), edge_cells(SLANT), 40
    runs = [edge(clean + 0.05 * rng.standard_normal((10, N, N)), cells, 1.0) for _ in range(repeats)]
    for name, true, largest in (("contrast", 1, 1), ("mtf50", 0.18742, 2), ("width", 2.5631, 3)):
        values, errors = np.array([getattr(r, name) for r in runs]).T
        ratio = np.mean(errors**2) / values.var(ddof=1)
        assert 1 - 4 * np.sqrt(2 / repeats) < ratio < largest + 4 * np.sqrt(2 / repeats), name
        assert abs(values.mean() - true) < 4 * values.std() / np.sqrt(repeats) + 0.03 * true, name


def test_no_edge_in_the_image_and_none_in_the_object():
    flat = edge(repeated(np.full((N, N), 0.8)), edge_cells(SLANT), PITCH)
    assert abs(flat.contrast.value) < 1e-12 and np.isinf(flat.width).all() and flat.mtf50.value == 0
    sharp = edge(repeated(np.where(across(SLANT) > 0, 1.0, 0.7)), edge_cells(SLANT), 1.0)
    assert sharp.mtf50.value > 0.5
    with pytest.raises(UserError, match="scene: got an object without an edge"):
        edge(repeated(np.ones((N, N))), np.ones((N * FINE, N * FINE)), PITCH)
    with pytest.raises(UserError, match="images: got 2"):
        edge(np.ones((2, N, N)), edge_cells(SLANT), PITCH)
    with pytest.raises(UserError, match="reach: got 1"):
        edge(np.ones((3, N, N)), edge_cells(SLANT), PITCH, reach=1.0)
    with pytest.raises(UserError, match="cells: got 128"):
        distance_to_edge(edge_cells(SLANT), 31)


# --- bars ------------------------------------------------------------------------------------------------------

PERIOD, DARK = 8.0, 0.4


def square_wave(std, upright=True):
    """Image of endless bars of absorption 0.4, blurred: Fourier series. One bar is centred on -3.5."""
    phase = 2 * np.pi * ((X if upright else Y) + 3.5) / PERIOD
    odd = np.arange(1, 80, 2)
    size = 2 / np.pi * (-1) ** (odd // 2) / odd * np.exp(-2 * (np.pi * std * odd / PERIOD) ** 2)
    return 1 - DARK * (0.5 + np.cos(phase[..., None] * odd) @ size), 2 * size.sum()


def three_bars(upright=True):
    starts = np.array([-13.5, -5.5, 2.5])
    long = np.array([[s, s + 4, -10, 10] for s in starts]) * PITCH
    return long if upright else long[:, [2, 3, 0, 1]]


@pytest.mark.parametrize("upright", [True, False])
@pytest.mark.parametrize("std", [0.8, 1.5, 3.0])
def test_contrast_of_a_blurred_square_wave(std, upright):
    """Transfer (4/pi) sum (-1)^m/(2 m + 1) exp(-2 pi^2 std^2 (2 m + 1)^2/p^2); over 0.4/1.6 of the object."""
    image, transfer = square_wave(std, upright)
    found = bar_contrast(repeated(image), three_bars(upright), PITCH, 0.4 / 1.6)
    assert found.transfer.value == pytest.approx(transfer, rel=1e-9)
    assert found.contrast.value == pytest.approx(0.25 * transfer, rel=1e-9)
    assert found.period == pytest.approx(PERIOD * PITCH) and found.upright == upright
    assert found.resolved == (transfer > 0.1527)


def test_rayleigh_is_the_dip_between_two_airy_discs():
    """At 0.6098 l/NA: 26.5 % (26.4 % is often quoted), a Michelson contrast of 15.3 %."""
    first_zero = 3.8317059702
    dip = 1 - 2 * (2 * j1(first_zero / 2) / (first_zero / 2)) ** 2
    assert pytest.approx(dip, abs=1e-6) == RAYLEIGH
    for transfer, resolved in ((dip / (2 - dip) + 1e-4, True), (dip / (2 - dip) - 1e-4, False), (-0.5, False)):
        assert Bars(1.0, True, Estimate(0.0, 0.0), Estimate(transfer, 0.0)).resolved == resolved


def test_contrast_without_bars_is_zero_on_average_and_its_error_is_the_scatter():
    """Extremes of the image would find a contrast in noise."""
    rng = np.random.default_rng(183)
    runs = [bar_contrast(1 + 0.3 * rng.standard_normal((8, N, N)), three_bars(), PITCH, 1.0) for _ in range(400)]
    values, errors = np.array([r.contrast for r in runs]).T
    assert abs(values.mean()) / (values.std() / 20) < 4
    assert abs(np.mean(errors**2) / values.var(ddof=1) - 1) < 4 * np.sqrt(2 / 400 + 2 / 7 / 400)


def test_bars_of_the_usaf_target():
    """Sharp superpixel means: coarse elements have the object's contrast; turned by 90 degrees the two kinds change."""
    scene, n = USAF1951(group=2, absorption=0.6), 96
    side = 2.02 * usaf_bars(2)[:, [1, 3]].max()
    pitch = side / n
    start = np.arange(n)[None] - n / 2
    x0, x1, y0, y1 = usaf_bars(2).T[..., None] / pitch
    wide, high = (np.clip(np.minimum(b, start + 1) - np.maximum(a, start), 0, 1) for a, b in ((x0, x1), (y0, y1)))
    image = 1 - 0.6 * high.T @ wide
    found = usaf_contrast(repeated(image), scene, pitch)
    assert [b.upright for b in found] == [True, False] * 6
    np.testing.assert_allclose([b.period for b in found[::2]], 1e-3 / 2 ** (2 + np.arange(6) / 6), rtol=1e-12)
    assert found[0].transfer.value == pytest.approx(1, abs=1e-6) and found[1].transfer.value == pytest.approx(
        1, abs=1e-6
    )
    assert all(b.resolved for b in found)
    blurred_columns = np.stack([np.convolve(row, np.ones(9) / 9, "same") for row in image])  # along x only
    smeared = usaf_contrast(repeated(blurred_columns), scene, pitch)
    assert not smeared[10].resolved and smeared[11].resolved


def test_bars_outside_the_field_are_refused():
    with pytest.raises(UserError, match="bars: got some as far as"):
        bar_contrast(np.ones((3, 8, 8)), three_bars(), PITCH, 1.0)
    with pytest.raises(UserError, match="images, bars"):
        bar_contrast(np.ones((3, N, N)), three_bars()[:1], PITCH, 1.0)


# --- point spread ----------------------------------------------------------------------------------------------


def spread_of(std_x, std_y):
    """Gaussian blur and the overlap of two superpixels: second difference of the integral of Phi, [15, 15]."""
    edges = np.arange(-8, 9)

    def line(std):
        ramp = edges * ndtr(edges / std) + std * np.exp(-((edges / std) ** 2) / 2) / np.sqrt(2 * np.pi)
        return np.diff(ramp, 2)

    return line(std_y)[:, None] * line(std_x)[None, :]


def test_width_of_a_sharp_point_is_one_superpixel():
    assert fwhm(spread_of(1e-9, 1e-9), PITCH) == pytest.approx((PITCH, PITCH), rel=1e-6)


def test_width_of_a_blurred_point():
    """Half of the peak of Gaussian and triangle together, along either axis; 15 superpixels may not be enough."""
    fine = np.linspace(0, 6, 60_001)
    for std, axis in ((1.2, 0), (2.0, 1)):
        u = (fine[:, None] + np.array([-1, 0, 1])) / std
        ramp = u * ndtr(u) + np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi)
        profile = ramp @ [1, -2, 1]
        half = 2 * fine[np.argmax(profile < profile[0] / 2)]
        assert fwhm(spread_of(1.2, 2.0), PITCH)[axis] == pytest.approx(half * PITCH, rel=0.015)
    assert fwhm(spread_of(1.2, 20.0), PITCH)[1] == np.inf
    with pytest.raises(UserError, match="spread"):
        fwhm(np.zeros((15, 15)), PITCH)


def test_transfer_of_a_blurred_point():
    """exp(-2 pi^2 std^2 f^2) sinc^2(f pitch) along x; 1 at every frequency without blur."""
    f = np.linspace(0, 0.4, 9)
    found = mtf(spread_of(1.3, 0.4), PITCH, f / PITCH)
    np.testing.assert_allclose(found, np.exp(-2 * (np.pi * 1.3 * f) ** 2) * np.sinc(f) ** 2, atol=2e-4)
    np.testing.assert_allclose(mtf(spread_of(1e-9, 1e-9), PITCH, f / PITCH), 1, atol=1e-8)
