"""Targets against closed forms; N = pixels * fine cells, positions off the axis."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from qtwin.core.errors import FieldError
from qtwin.scene import USAF1951, Lesion, SiemensStar
from qtwin.scene.targets import bar_width, usaf_bars, usaf_needs

PIXELS, FINE, PITCH = 32, 4, 1e-4  # field 3.2 mm, cells of 25 um
SCENES = [
    Lesion(1.1e-3, 0.3, 0.2e-3, -0.45e-3),
    USAF1951(2, 0.5),
    SiemensStar(7, 2.5e-3, 0.4),
]


@partial(jax.jit, static_argnums=(1, 2))
def mapped(scene, pixels, fine, pitch):
    return scene.grid(pixels, fine, pitch)


def absorbed(scene, pixels=PIXELS, fine=FINE, pitch=PITCH):
    """Absorbed part of every cell, and the side of a cell."""
    values, cell = mapped(scene, pixels, fine, pitch)
    return 1 - np.asarray(values), float(cell)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: type(scene).__name__)
def test_map_is_square_and_within_0_and_1_and_jit_agrees(scene):
    values, cell = scene.grid(PIXELS, FINE, PITCH)
    assert values.shape == (PIXELS * FINE,) * 2 and values.dtype == jnp.result_type(float)
    assert float(cell) == pytest.approx(PITCH / FINE, rel=1e-6)
    assert values.min() >= 0 and values.max() == 1
    traced = mapped(scene, PIXELS, FINE, PITCH)
    np.testing.assert_allclose(traced.values, values, atol=1e-5)


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (0.31e-3, -0.52e-3)])
@pytest.mark.parametrize(("pixels", "fine"), [(32, 4), (33, 3)])  # an odd number puts a cell on the axis
def test_lesion_has_the_area_of_its_disc(x, y, pixels, fine):
    diameter, absorption = 1.3e-3, 0.2
    part, cell = absorbed(Lesion(diameter, absorption, x, y), pixels, fine, PITCH)
    ramp = np.pi * cell**2 / 12  # of an edge one cell wide, exact in the limit of many cells
    expected = absorption * (np.pi * diameter**2 / 4 + ramp)
    assert part.sum() * cell**2 == pytest.approx(expected, rel=2e-3)
    at = (np.arange(pixels * fine) + 0.5 - pixels * fine / 2) * cell
    assert part.sum(axis=0) @ at / part.sum() == pytest.approx(x, abs=cell / 50)
    assert part.sum(axis=1) @ at / part.sum() == pytest.approx(y, abs=cell / 50)
    assert part.max() == pytest.approx(absorption)


def test_area_of_the_disc_converges():
    """The ratio to the closed form goes to 1 as the cells shrink."""
    scene, ratios = Lesion(1.3e-3, 1.0, 0.11e-3, 0.07e-3), []
    for fine in (1, 8):
        part, cell = absorbed(scene, PIXELS, fine, PITCH)
        ratios.append(part.sum() * cell**2 / (np.pi * 1.3e-3**2 / 4))
    assert abs(ratios[1] - 1) < 2e-4 < abs(ratios[0] - 1)


@pytest.mark.parametrize("field", ["diameter", "absorption", "x", "y"])
def test_lesion_gradient_is_the_finite_difference(field):
    values = {"diameter": 1.1e-3, "absorption": 0.3, "x": 0.2e-3, "y": -0.45e-3}
    weight = jnp.asarray(np.random.default_rng(3).random((PIXELS * FINE,) * 2))

    def total(v):
        return jnp.sum(weight * Lesion(**{**values, field: v}).grid(PIXELS, FINE, PITCH).values)

    total = jax.jit(total)

    v = values[field]
    step = 1e-10 if field != "absorption" else 1e-6
    difference = (total(v + step) - total(v - step)) / (2 * step)
    assert jax.jit(jax.grad(total))(jnp.asarray(v)) == pytest.approx(float(difference), rel=1e-4)


def test_gradient_of_the_mean_by_diameter():
    """d(mean T)/dD = -absorption pi D/(2 field^2), on average over edges that cross many cells."""
    slope = jax.grad(lambda d: Lesion(d, 0.3, 1e-4, 2e-4).grid(PIXELS, FINE, PITCH).values.mean())
    diameters = 1.1e-3 + jnp.linspace(-3e-4, 3e-4, 301)
    mean = jax.jit(lambda d: jax.lax.map(slope, d))(diameters).mean()
    assert mean == pytest.approx(-0.3 * np.pi * 1.1e-3 / (2 * (PIXELS * PITCH) ** 2), rel=2e-3)


def test_gradients_are_finite_on_a_cell_at_the_centre():
    """r = 0, where the root has no derivative; by pitch as well."""
    scene = Lesion(1e-4, 0.3)
    slopes = jax.jit(jax.grad(lambda s, pitch: s.grid(33, 3, pitch).values.sum(), argnums=(0, 1)))(
        scene, jnp.asarray(2e-5)
    )
    assert all(np.isfinite(leaf) for leaf in jax.tree.leaves(slopes))


def test_usaf_bars_have_the_widths_of_the_standard():
    bars = usaf_bars(2).reshape(6, 6, 4)
    for i, element in enumerate(bars):
        w = 1e-3 / (2 * 2 ** (2 + i / 6))
        sides = np.sort(np.stack([element[:, 1] - element[:, 0], element[:, 3] - element[:, 2]], axis=1), axis=1)
        np.testing.assert_allclose(sides, np.broadcast_to([w, 5 * w], (6, 2)), rtol=1e-12)
        np.testing.assert_allclose(np.diff(element[:3, 0]), 2 * w, rtol=1e-12)  # vertical bars, along x
        np.testing.assert_allclose(np.diff(element[3:, 2]), 2 * w, rtol=1e-12)  # horizontal bars, along y
    assert bar_width(0, 1) == 0.5e-3  # 1 line pair per mm


def test_usaf_bars_do_not_touch():
    x0, x1, y0, y1 = usaf_bars(2).T
    apart = (x1[:, None] <= x0) | (x0[:, None] >= x1) | (y1[:, None] <= y0) | (y0[:, None] >= y1)
    assert apart[~np.eye(36, dtype=bool)].all()


def test_usaf_absorbs_the_area_of_its_bars():
    part, cell = absorbed(USAF1951(2, 0.5))
    area = sum(6 * 5 * bar_width(2, element) ** 2 for element in range(1, 7))
    assert part.sum() * cell**2 == pytest.approx(0.5 * area, rel=1e-5)


def test_usaf_every_bar_is_where_it_should_be():
    """First moments of the map inside each bar's own box: the vertical bars of element 1 stand top left."""
    part, cell = absorbed(USAF1951(2, 1.0), PIXELS, 8)
    at = (np.arange(len(part)) + 0.5 - len(part) / 2) * cell
    for x0, x1, y0, y1 in usaf_bars(2):
        column = (at > x0 - cell) & (at < x1 + cell)
        row = (at > y0 - cell) & (at < y1 + cell)
        box = part[np.ix_(row, column)]
        assert box.sum() * cell**2 == pytest.approx((x1 - x0) * (y1 - y0), rel=1e-4)
        assert box.sum(axis=0) @ at[column] / box.sum() == pytest.approx((x0 + x1) / 2, abs=cell / 40)
        assert box.sum(axis=1) @ at[row] / box.sum() == pytest.approx((y0 + y1) / 2, abs=cell / 40)


def test_usaf_is_upright():
    """Along the first row of bars (small y, left) three vertical bars, then one horizontal; a transpose fails."""
    part, cell = absorbed(USAF1951(2, 1.0), PIXELS, 8)
    x0, _, y0, _ = usaf_bars(2)[0]
    w, half = bar_width(2, 1), len(part) / 2
    row = int((y0 + 0.5 * w) / cell + half)
    columns = ((x0 + np.arange(12) * w + 0.5 * w) / cell + half).astype(int)
    np.testing.assert_allclose(part[row, columns], [1, 0, 1, 0, 1, 0, 0, 1, 1, 1, 1, 1])
    rows = ((y0 + np.arange(5) * w + 0.5 * w) / cell + half).astype(int)
    np.testing.assert_allclose(part[rows, columns[8]], [1, 0, 1, 0, 1])
    assert x0 < 0 and y0 < 0 and -x0 > -y0  # wider than high


@pytest.mark.parametrize("group", [1, 3])
def test_usaf_that_does_not_fit_says_which_do(group):
    with pytest.raises(FieldError, match=r"^group: .*groups that fit: 2$"):
        USAF1951(group, 0.5).grid(PIXELS, FINE, PITCH)
    with pytest.raises(FieldError, match=r"groups that fit: none$"):
        USAF1951(group, 0.5).grid(4, 1, PITCH)


def test_usaf_limits_are_inclusive():
    side, largest = usaf_needs(4)
    assert largest == pytest.approx(bar_width(4, 6) / 2)
    cells = int(np.ceil(side / largest))
    USAF1951(4, 0.5).grid(cells, 1, largest)
    with pytest.raises(FieldError):
        USAF1951(4, 0.5).grid(cells, 1, largest * 1.01)
    with pytest.raises(FieldError):
        USAF1951(4, 0.5).grid(cells, 1, side / cells * 0.99)


def test_star_is_half_dark_at_every_radius():
    part, cell = absorbed(SiemensStar(6, 2.8e-3, 1.0), PIXELS, 8)
    at = (np.arange(len(part)) + 0.5 - len(part) / 2) * cell
    r = np.hypot(at[None, :], at[:, None])
    for low, high in ((0.2e-3, 0.6e-3), (0.6e-3, 1.0e-3), (1.0e-3, 1.3e-3)):
        assert part[(r > low) & (r < high)].mean() == pytest.approx(0.5, abs=2e-3)
    assert part.sum() * cell**2 == pytest.approx(0.5 * np.pi * 1.4e-3**2, rel=2e-3)


def test_star_spokes_stand_where_they_should():
    """Seven spokes: one on +x and a gap on -x; mirrored in y; a spoke 2 pi/7 further, towards larger y."""
    part, cell = absorbed(SiemensStar(7, 2.8e-3, 1.0), 33, 3)
    np.testing.assert_allclose(part, part[::-1], atol=1e-5)
    middle, r = len(part) // 2, round(1e-3 / cell)

    def at(turn):
        angle = 2 * np.pi * turn
        return part[middle + round(r * np.sin(angle)), middle + round(r * np.cos(angle))]

    assert [at(t / 14) for t in range(14)] == pytest.approx([1, 0] * 7)
    assert abs(part - part[:, ::-1]).max() == pytest.approx(1)


def test_star_with_even_spokes_turns_into_itself():
    part, _ = absorbed(SiemensStar(16, 3e-3, 0.5))
    np.testing.assert_allclose(part, np.rot90(part), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Lesion(0.0, 0.1), "diameter"),
        (lambda: Lesion("2 mm", 1.1), "absorption"),
        (lambda: Lesion("2 mm", 0.1, float("nan")), "x"),
        (lambda: USAF1951(2.0, 0.1), "group"),
        (lambda: USAF1951(True, 0.1), "group"),
        (lambda: USAF1951(10, 0.1), "group"),
        (lambda: SiemensStar(0, 1e-3, 0.1), "spokes"),
        (lambda: SiemensStar(2.5, 1e-3, 0.1), "spokes"),
        (lambda: SiemensStar(16, -1e-3, 0.1), "diameter"),
    ],
)
def test_bad_values_are_refused_by_name(make, field):
    with pytest.raises(FieldError, match=rf"^{field}: got .*accepted"):
        make()


@pytest.mark.parametrize(("name", "cls"), [("lesion", Lesion), ("usaf1951", USAF1951), ("siemens", SiemensStar)])
def test_yaml_builds_and_names_its_sources(name, cls):
    text = (Path(__file__).parents[2] / "conf" / "scene" / f"{name}.yaml").read_text()
    node = yaml.safe_load(text)
    assert node.pop("_target_") == f"qtwin.scene.{cls.__name__}"
    assert set(node.pop("reference")) == set(node)
    assert cls(**node).grid(PIXELS, FINE, PITCH).values.min() < 1
