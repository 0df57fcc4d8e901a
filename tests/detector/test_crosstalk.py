"""Arrays of pixels: kernel, hot pixels, mean clicks and faked coincidences against drawn clicks."""

import jax.numpy as jnp
import numpy as np
import pytest
from slopes import gradient_error, once

from qtwin.core.errors import FieldError
from qtwin.detector import PixelArray, SinglePhoton

PIXEL = SinglePhoton(0.4, "20 kHz", "100 ns", "50 ps")


def array(**changes) -> PixelArray:
    return PixelArray(**({"pixel": PIXEL, "rows": 3, "columns": 4, "fill_factor": 0.5} | changes))


def test_kernel_by_distance():
    """Linear in the distance between the values at 1 and 2 pitches; nothing beyond, nothing at 0."""
    kernel = np.asarray(array(crosstalk=[0.02, 0.004]).kernel())
    assert kernel.shape == (5, 5) and kernel[2, 2] == 0 and kernel[0, 0] == 0
    np.testing.assert_allclose(kernel[2], [0.004, 0.02, 0, 0.02, 0.004], rtol=1e-12)
    diagonal = 0.02 - (np.sqrt(2) - 1) * 0.016
    np.testing.assert_allclose(kernel[1, [1, 3]], diagonal, rtol=1e-12)
    np.testing.assert_array_equal(kernel, kernel.T)


def test_neighbours_are_the_kernel_within_the_borders():
    some = array(crosstalk=[0.02, 0.004])
    first, pixel, p = some.neighbours()
    kernel = np.asarray(some.kernel())
    dense = np.zeros((12, 12))
    for i in range(12):
        dense[i, pixel[first[i] : first[i + 1]]] = p[first[i] : first[i + 1]]
    r, c = np.divmod(np.arange(12), 4)
    down, across = r[None, :] - r[:, None], c[None, :] - c[:, None]
    near = (np.abs(down) <= 2) & (np.abs(across) <= 2)
    expected = np.where(near, kernel[np.clip(down + 2, 0, 4), np.clip(across + 2, 0, 4)], 0)
    np.testing.assert_array_equal(dense, expected)


def test_off_is_the_single_pixel():
    """No crosstalk: efficiency times fill factor, dark counts, live fraction of each pixel alone; hot pixels hotter."""
    some = array(hot=(1, 6), hot_rate="1 MHz")
    light = jnp.linspace(0.0, 1e5, 12).reshape(3, 4)
    rate = 0.4 * 0.5 * np.asarray(light) / 0.1 + np.where(some.mask(), 2e4, 1e6)
    np.testing.assert_allclose(
        once(lambda a, x: a.clicks(x, 0.1))(some, light), 0.1 * rate / (1 + rate * 1e-7), rtol=1e-9
    )
    assert some.mask().sum() == 10 and not some.mask()[0, 1] and not some.mask()[1, 2]


def test_crosstalk_of_one_bright_pixel():
    """First order: neighbours see p times the clicks of the bright one, alive or not."""
    some = array(pixel=SinglePhoton(0.4, 0.0, "100 ns", 0.0), crosstalk=[0.01])
    light = jnp.zeros((3, 4)).at[1, 1].set(1e6)
    clicks = once(lambda a, x: a.clicks(x, 1.0))(some, light)
    bright = 2e5 / (1 + 2e5 * 1e-7)
    np.testing.assert_allclose(clicks[1, 1], bright, rtol=5e-4)
    np.testing.assert_allclose(clicks[jnp.array([0, 2, 1, 1]), jnp.array([1, 1, 0, 2])], 0.01 * bright, rtol=2e-3)
    assert clicks[0, 0] < 3e-4 * bright  # only by two steps


def test_derivatives():
    """By fill factor, both probabilities, hot rate, efficiency, dark rate and dead time; in parts of their values."""
    start = jnp.asarray([0.5, 0.03, 0.004, 2e5, 0.4, 2e4, 1e-7])
    light = jnp.linspace(1e3, 3e5, 12).reshape(3, 4)

    def read(x):
        fill, near, far, hot, eta, dark, dead = x * start
        some = PixelArray(SinglePhoton(eta, dark, dead, 0.0), 3, 4, fill, jnp.stack([near, far]), (5,), hot)
        return jnp.sum(jnp.log(some.clicks(light, 0.1))) + jnp.sum(some.fakes(light, 0.1, 1, -1)) * 1e-3

    assert gradient_error(read, jnp.ones(7)) < 1e-6


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"rows": 0}, "rows"),
        ({"columns": 2.5}, "columns"),
        ({"crosstalk": [0.1, -0.1]}, "crosstalk"),
        ({"fill_factor": 0.0}, "fill_factor"),
        ({"hot": (12,)}, "hot"),
        ({"pixel": 3}, "pixel"),
    ],
)
def test_arrays_that_cannot_be_are_refused(changes, field):
    with pytest.raises(FieldError, match=field):
        array(**changes)
