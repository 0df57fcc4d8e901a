"""A point at a depth, seen from above: sharp through clear layers, and spread as small angles say."""

import jax
import numpy as np
import pytest

from qtwin.core.errors import UserError
from qtwin.tissue import Slab, Tabulated
from qtwin.tissue.exits import exits
from qtwin.tissue.point_spread import point_spread


def test_a_point_under_clear_layers_is_a_point():
    """Its part of the sphere times Fresnel, all in the first ring but for what the lower surface reflects."""
    made = Slab(thickness=[1e-3, 2e-3], depth=5e-4, mu_a=[0.0, 100.0], mu_s=0.0, g=0.0, n=[1.5, 1.3])
    found = point_spread(made, 2e-3, key=jax.random.key(0), photons=400_000, numerical_aperture=0.1)
    cosine = np.sqrt(1 - (0.1 / 1.3) ** 2)
    expected = (1 - cosine) / 2 * (1 - 0.04) * (1 - (0.2 / 2.8) ** 2) * np.exp(-100 * 1e-3)
    direct, error = found.accepted.value * found.sharp.value, found.accepted.stderr
    assert abs(direct - expected) < 4 * error + 2e-3 * expected
    below = (0.3 / 2.3) ** 2 * np.exp(-100 * 2e-3)  # reflected there, against the direct light
    assert abs(1 - found.sharp.value - below) < 4 * found.sharp.stderr + 0.05 * below
    assert found.sharp.value <= found.within.value[0] + 1e-12


def test_spread_of_small_angles_grows_with_the_cube_of_the_depth():
    """<r^2> = 2 mu_s (1 - g) L^3/3 of deflections below 0.1 rad, seen through a small aperture.

    Eyges, Phys. Rev. 74, 1534 (1948), with a mean square angle 2 (1 - g) per scattering.
    """
    depth, mu_s = 1e-3, 2000.0
    law = Tabulated(cosine=np.array([-1, 0.995, 1]), p=np.array([0.0, 0.0, 1.0]))
    made = Slab(thickness=depth * (1 + 1e-6), depth=depth / 2, mu_a=0.0, mu_s=mu_s, g=0.0, n=1.0)
    given = {"key": jax.random.key(1), "photons": 3_000_000, "numerical_aperture": 0.05, "memory_limit": 2**33}
    found = point_spread(made, depth, radius=depth / 2, rings=400, phase=law, **given)
    middle = (found.radius[1:] + found.radius[:-1]) / 2
    part = np.diff(np.concatenate([[0], found.within.value]))
    assert found.within.value[-1] > 0.995
    assert np.sum(part * middle**2) / part.sum() == pytest.approx(2 * mu_s * (0.005 / 3) * depth**3 / 3, rel=0.03)
    straight = np.exp(-mu_s * depth)  # of the light that is sent into the aperture; as much is scattered into it as out
    assert abs(found.sharp.value - straight) < 4 * found.sharp.stderr + 0.05 * straight


def test_reciprocity_with_a_beam():
    """Light sent into the axis spreads over the depth as a point there does in the image: strong scattering."""
    depth = 4e-4
    made = Slab(thickness=depth * (1 + 1e-6), depth=depth / 2, mu_a=300.0, mu_s=8000.0, g=0.7, n=1.0)
    found = point_spread(
        made, depth, key=jax.random.key(2), photons=3_000_000, numerical_aperture=0.1, memory_limit=2**33
    )
    beam, _ = exits(made, key=jax.random.key(3), photons=400_000)
    fluence = beam.weight / np.abs(beam.direction[:, 2]) * beam.below
    r = np.hypot(*beam.place.T)
    for ring in (4, 9, 19, 39):
        inside = fluence[r < found.radius[ring + 1]].sum() / fluence.sum()
        scale = found.within.value[-1] * fluence.sum() / fluence[r < found.radius[-1]].sum()
        error = np.hypot(found.within.stderr[ring], 1.5 * np.sqrt(inside * (1 - inside) / (beam.below.sum())))
        assert abs(found.within.value[ring] - inside * scale) < 4 * error + 0.01, ring


def test_bad_input():
    made = Slab(thickness=1e-3, depth=5e-4, mu_a=0.0, mu_s=100.0, g=0.0, n=1.0)
    given = {"key": jax.random.key(0), "photons": 10}
    with pytest.raises(UserError, match="numerical_aperture: got 0, accepted is greater than 0"):
        point_spread(made, 5e-4, numerical_aperture=0, **given)
    with pytest.raises(UserError, match="depth: got 2 mm, accepted is less than the thickness 1 mm"):
        point_spread(made, "2 mm", numerical_aperture=0.5, **given)
    with pytest.raises(UserError, match="photons: of 10 none was accepted"):
        point_spread(made, 5e-4, numerical_aperture=1e-4, **given)
