"""Bins with their own widths: codes, stamps, nonlinearity and the code density test."""

import numpy as np
import pytest

from qtwin.core.errors import FieldError, UserError
from qtwin.detector import TDC
from qtwin.detector.tdc import code_density

WIDTHS = np.array([7.0, 0.0, 2.5, 10.5]) * 1e-12  # a cycle of 20 ps
tdc = TDC(list(WIDTHS))


def test_codes_and_stamps_of_every_picosecond():
    times = np.arange(-20, 40)
    inside = times % 20
    expected = np.select([inside < 7, inside < 9.5], [0, 2], 3)  # code 1 has no width
    np.testing.assert_array_equal(tdc.code(times), expected)
    middle = np.array([3, 7, 8, 14])[expected]  # 3.5, 7, 8.25 and 14.75, in whole ps
    np.testing.assert_array_equal(tdc.stamp(times), times - inside + middle)


def test_stamps_keep_order_and_late_times_their_picosecond():
    times = np.sort(np.random.default_rng(5).integers(1 << 61, (1 << 61) + 10_000, 500))
    stamped = tdc.stamp(times)
    assert (np.diff(stamped) >= 0).all() and stamped.dtype == np.int64
    np.testing.assert_array_equal(stamped - times, tdc.stamp(times % 20) - times % 20)


def test_nonlinearity():
    differential, integral = tdc.nonlinearity()
    np.testing.assert_allclose(differential, WIDTHS / 5e-12 - 1, atol=1e-12)
    np.testing.assert_allclose(integral, [0.4, -0.6, -1.1, 0.0], atol=1e-12)
    np.testing.assert_allclose(TDC(["5 ps"] * 4).nonlinearity(), 0, atol=1e-12)


def test_one_bin_of_one_picosecond_changes_nothing():
    times = np.arange(100)
    np.testing.assert_array_equal(TDC("1 ps").stamp(times), times)
    np.testing.assert_array_equal(TDC("4 ps").stamp(times), times // 4 * 4 + 2)
    half = TDC(["1562.5 ps", "1562.5 ps"])
    np.testing.assert_array_equal(np.unique(half.stamp(np.arange(6250))), [781, 2343, 781 + 3125, 2343 + 3125])


def test_code_density_finds_the_widths():
    """Light that knows no clock; multinomial errors; an even converter would be noticed."""
    times = np.random.default_rng(7).integers(0, 20 << 30, 400_000)
    counts = np.bincount(tdc.code(times), minlength=4)
    widths, errors = code_density(counts, 20e-12)
    real = np.array([7, 0, 3, 10]) * 1e-12  # of whole picoseconds
    assert widths[1] == 0 and errors[1] == 0
    seen = real > 0
    assert (np.abs(widths - real)[seen] / errors[seen] < 4).all()
    assert (np.abs(widths - 5e-12)[seen] / errors[seen] > 5).all()


def test_linospad2_boards(reference_data):
    """Tables hold the cumulative code density over 2.5 ns of 140 codes, one row for each of 256 pixels."""
    file = reference_data / "linospad2_tdc" / "Calibration_data_NL11.csv"
    upper = np.genfromtxt(file, delimiter=",", skip_header=1)[:, 1:]
    assert upper.shape == (256, 140) and (upper[:, -1] == 2500).all()
    widths = np.diff(upper, axis=1, prepend=0.0) * 1e-12
    pixel = TDC(list(widths[100]))
    differential, integral = pixel.nonlinearity()
    assert np.max(differential) > 1.5 and np.min(differential) == -1  # up to 83 ps against 17.9 ps, and codes never met
    assert abs(float(integral[-1])) < 1e-9
    times = np.random.default_rng(11).integers(0, 2500 * 4000, 300_000)
    found, errors = code_density(np.bincount(pixel.code(times), minlength=140), 2.5e-9)
    seen = widths[100] > 2e-12
    rounding = 1e-12  # bounds fall between whole picoseconds
    assert (np.abs(found - widths[100])[seen] < 4 * errors[seen] + rounding).all()
    spread = pixel.stamp(times) - times
    quantisation = np.sqrt(np.sum(widths[100] ** 3) / 12 / 2.5e-9)  # of uniform times, each to the middle of its bin
    np.testing.assert_allclose(np.std(spread) * 1e-12, quantisation, rtol=0.02)


@pytest.mark.parametrize("widths", ["1.5 ps", ["1 ps", "0.7 ps"], "0 s", "-1 ps", "20 us"])
def test_cycles_that_cannot_be_are_refused(widths):
    with pytest.raises(FieldError, match="widths"):
        TDC(widths)


@pytest.mark.parametrize("counts", [[0, 0], [1, -1], [1, np.nan]])
def test_counts_that_cannot_be_are_refused(counts):
    with pytest.raises(UserError, match="counts"):
        code_density(counts, 1e-9)
