"""Numbers that no optics has end with a line that names them; traced ones pass unread."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qtwin.core.errors import FieldError
from qtwin.optics import abcd, fibre, point_spread
from qtwin.source.biphoton import Rays

RAYS = Rays(jnp.zeros((3, 2)), jnp.zeros((3, 2)), jnp.float64(8e-7), jnp.ones(3))
R = jnp.linspace(0, 1e-6, 3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: abcd.free_space(np.nan), "length: got nan, accepted is a finite value"),
        (lambda: abcd.thin_lens(0.0), "focal_length: got 0 m"),
        (lambda: abcd.far_field(np.inf), "focal_length: got inf"),
        (lambda: abcd.circular_aperture(RAYS, -1e-3), "radius: got -0.001"),
        (
            lambda: abcd.gaussian_aperture(RAYS, 0.0, key=jax.random.key(1)),
            "radius: got 0, accepted is a value greater",
        ),
        (
            lambda: abcd.numerical_aperture(RAYS, 1.3),
            "aperture: got 1.3, accepted is a value greater than 0, at most 1",
        ),
        (lambda: abcd.waist_beam(-1e-3, 8e-7), "waist: got -0.001"),
        (lambda: point_spread.airy(R, -8e-7, 0.4), "wavelength: got -8e-07"),
        (lambda: point_spread.defocused(R, 1e-6, 8e-7, np.nan), "aperture: got nan"),
        (lambda: point_spread.incoherent_transfer(1e5 * R, 0.0, 0.4), "wavelength: got 0"),
        (lambda: fibre.mode_radius(-2e-6, 0.13, 8e-7), "core_radius: got -2e-06"),
        (lambda: fibre.coupling(2e-6, 2e-6, np.nan, 0.0, 0.0, 8e-7), "gap: got nan"),
        (lambda: fibre.coupling(0.0, 2e-6, 0.0, 0.0, 0.0, 8e-7), "beam_waist: got 0"),
    ],
)
def test_what_no_optics_has(call, words):
    with pytest.raises(FieldError) as found:
        call()
    assert words in str(found.value)


def test_a_traced_number_passes():
    assert jax.jit(abcd.thin_lens)(0.2).matrix[1, 0] == -5
