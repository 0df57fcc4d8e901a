"""Unscattered light by quadrature: against pairs drawn one by one, limits, and derivatives against differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator

from qtwin.scene.grid import Grid, padded
from qtwin.tissue.images import Beams
from qtwin.tissue.unscattered import heralded, seen

N, PITCH = 6, 1e-4


def beams(values=None, **changed) -> Beams:
    """Out of place in every way, wide beside a superpixel in most; rows and columns of the object differ in number."""
    if values is None:
        values = np.random.default_rng(3).uniform(0, 1, (24, 30))
    numbers = {
        "middle": jnp.asarray([4e-5, -2e-5]),
        "beam": jnp.asarray(2.5e-4),
        "shrink": jnp.asarray(0.1),
        "partner": jnp.asarray(4e-5),
        "idler_middle": jnp.asarray([1.1e-4, 5e-5]),
        "drift": jnp.asarray([7e-5, -1.2e-4]),
        "blur": jnp.asarray(1.5e-5),
        "pitch": jnp.asarray(PITCH),
        "centres": (jnp.arange(N, dtype=float) - (N - 1) / 2) * PITCH,
        "aperture": jnp.asarray(0.4),
        "entrance": jnp.asarray(0.95),
        "behind": jnp.asarray(1e-5),
        "grid": padded(Grid(jnp.asarray(values), jnp.asarray(PITCH / 5))),
    } | changed
    # the same law read from the idler: Gaussian conditioning
    slope, partner = 1 - numbers["shrink"], numbers["partner"]
    numbers["idler_beam"] = jnp.hypot(slope * numbers["beam"], partner)
    back = slope * numbers["beam"] ** 2 / numbers["idler_beam"] ** 2
    numbers["idler_shrink"] = 1 - back
    numbers["idler_partner"] = partner * numbers["beam"] / numbers["idler_beam"]
    return Beams(**numbers)


def test_images_are_those_of_drawn_pairs():
    """4e6 pairs: places of signal, lens and idler drawn, the object read by SciPy; every entry within 5 std errors."""
    b, count = beams(), 4_000_000
    rng = np.random.default_rng(7)
    x = np.asarray(b.middle) + float(b.beam) * rng.standard_normal((count, 2))
    shown = x + float(b.blur) * rng.standard_normal((count, 2))
    swept = (rng.random((count, 1)) - 0.5) * np.asarray(b.drift)
    idler = np.asarray(b.idler_middle) + swept + (1 - float(b.shrink)) * (x - np.asarray(b.middle))
    idler = idler + float(b.partner) * rng.standard_normal((count, 2))
    rows, columns = ((np.arange(n) - (n - 1) / 2) * float(b.grid.cell) for n in b.grid.values.shape)
    look = RegularGridInterpolator((rows, columns), np.asarray(b.grid.values), bounds_error=False, fill_value=1.0)
    through = look(x[:, ::-1])

    def image(weight, of, beside=None, shift=(0, 0)):
        place = np.floor(of / PITCH + N / 2).astype(int)
        keep = ((place >= 0) & (place < N)).all(axis=1)
        if beside is not None:
            keep &= (np.floor(beside / PITCH + N / 2).astype(int) == place + np.array(shift[::-1])).all(axis=1)
        flat = place[keep, 1] * N + place[keep, 0]
        sums = [np.bincount(flat, w[keep], N * N).reshape(N, N) for w in (weight, weight**2)]
        return sums[0] / count, np.sqrt(sums[1] + 1) / count

    ones = np.ones(count)
    found = {k: np.asarray(v) for k, v in (seen(b) | heralded(b)).items()}
    drawn = {
        "direct": image(through, shown),
        "direct_open": image(ones, shown),
        "joint_open": image(ones, shown, idler),
        "ghost": image(through, idler),
        "ghost_open": image(ones, idler),
    }
    for name, (mean, error) in drawn.items():
        assert np.abs((found[name] - mean) / error).max() < 5, name
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            mean, error = image(through, shown, idler, (dy, dx))
            assert np.abs((found["joint"][dy + 1, dx + 1] - mean) / error).max() < 5, (dy, dx)

    # displacements about the mean that the partner tells, over whole superpixels
    partner = np.asarray(b.middle) + (1 - float(b.idler_shrink)) * (idler - swept - np.asarray(b.idler_middle))
    moved = x - partner - swept
    apart = np.asarray(b.middle) - np.asarray(b.idler_middle)
    for name, way in (("spread_direct", shown - x), ("spread_ghost", moved + apart)):
        hats = np.maximum(0, 1 - np.abs(way[:500_000, :, None] / PITCH - np.arange(-7, 8)))
        mean = np.einsum("ry,rx->yx", hats[:, 1], hats[:, 0]) / len(hats)
        error = np.sqrt((np.einsum("ry,rx->yx", hats[:, 1] ** 2, hats[:, 0] ** 2) + 1) / len(hats) ** 2)
        assert np.abs((found[name] - mean) / error).max() < 5, name
    for name, way in (("variance_direct", shown - x), ("variance_ghost", moved)):
        square = (way**2).sum(axis=1) / 2
        assert abs(found[name] - square.mean()) < 5 * square.std() / np.sqrt(count), name


def test_nothing_passes_an_opaque_object_and_all_a_clear_one():
    """Never less than nothing, to the quadrature's error of the open image where all is stopped."""
    everywhere = np.zeros((300, 300))
    dark, clear = ({**seen(b), **heralded(b)} for b in (beams(everywhere), beams(everywhere + 1)))
    for shut, open_, whole in (
        *((name, name, f"{name}_open") for name in ("direct", "ghost")),
        ("joint", "joint", None),
    ):
        assert np.all(np.asarray(dark[shut]) >= 0)
        assert np.max(dark[shut]) < 1e-6 * np.max(clear[open_])
        if whole:
            np.testing.assert_allclose(clear[open_], clear[whole], rtol=1e-12)


def test_a_sharp_lens_and_a_steady_image_are_limits():
    """blur -> 0 and drift -> 0 change nothing but what they are: smoothly, without a step where they are 0."""
    near = heralded(beams(drift=jnp.asarray([1e-12, 0.0])))
    still = heralded(beams(drift=jnp.zeros(2)))
    np.testing.assert_allclose(near["ghost"], still["ghost"], rtol=1e-7)
    one, other = (seen(beams(blur=jnp.asarray(w)))["direct"] for w in (1e-9, 1e-10))
    np.testing.assert_allclose(one, other, rtol=1e-5)


FIELDS = dict.fromkeys(("middle", "beam", "partner", "idler_middle", "drift", "blur", "pitch"), 1e-08)
FIELDS |= {"shrink": 1e-4, "values": 1e-4}


@pytest.mark.parametrize("half", [seen, heralded], ids=["seen", "heralded"])
def test_derivatives(half):
    """Backwards by every field, of a weighted sum of everything, against central differences."""
    b = beams()
    weights = {k: np.random.default_rng(11).uniform(0.5, 1.5, v.shape) for k, v in half(b).items()}

    @jax.jit
    def loss(steps):
        changed = {name: getattr(b, name) + step for name, step in steps.items() if name != "values"}
        changed["centres"] = b.centres * (1 + steps["pitch"] / b.pitch)
        changed["grid"] = b.grid._replace(values=b.grid.values + steps["values"])
        return sum(jnp.sum(v * weights[k]) for k, v in half(beams(**changed)).items())

    still = {name: jnp.zeros(()) for name in FIELDS}
    slopes = jax.jit(jax.grad(loss))(still)
    for name, size in FIELDS.items():
        up, down = (float(loss({**still, name: jnp.asarray(s)})) for s in (size, -size))
        rounding = 1e-15 * float(loss(still)) / size
        assert float(slopes[name]) == pytest.approx((up - down) / (2 * size), rel=1e-4, abs=10 * rounding), name
