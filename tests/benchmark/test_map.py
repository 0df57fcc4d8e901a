"""The advantage map: closed-form boundaries without scattering, the comparison's own numbers, and what is refused."""

from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from omegaconf import OmegaConf

from qtwin.benchmark import map as advantage
from qtwin.benchmark.compare import compare
from qtwin.benchmark.expected import alike, matched
from qtwin.benchmark.map import APART, WHY, Cell, Working, advantage_map, axis
from qtwin.core.config import compose, plain
from qtwin.core.errors import UserError
from qtwin.correlation import Coincidence
from qtwin.detector import SinglePhoton
from qtwin.detector.camera import Camera
from qtwin.estimator import Ghost, TwinBeams, direct, twin_beams
from qtwin.job import elements
from qtwin.map_job import Points, _axis, axes, duel, settings_of
from qtwin.metrics.advantage import smoothing
from qtwin.metrics.statistics import jackknife
from qtwin.optics import FarField
from qtwin.scene import Lesion
from qtwin.source import SPDC
from qtwin.tissue import Slab
from qtwin.tissue.images import Images
from qtwin.tissue.walk import BLOCKS
from qtwin.twin import Twin

N = 4
TWIN = Twin(
    SPDC("405 nm", "810 nm", "0.5 mm", "2 mm", "1 nW", "10 nm", "25 degC", 1.0),
    FarField("100 mm", 0.4, "1 mm", 1.0, 1.0, 1.0, pixels=N),
    Lesion("1 mm", 0.2),
    Slab("20 um", "10 um", 0.0, 0.0, 0.5, 1.0),
    Camera(efficiency=0.8, read_noise=0.0, dark_rate=0.0, full_well=1e9),
    SinglePhoton(efficiency=0.5, dark_rate=0.0, dead_time=0.0, jitter=0.0),
    Coincidence("1 ns"),
)
PLACES = {
    "camera.efficiency": lambda w: w.twin.camera.efficiency,
    "detector.efficiency": lambda w: w.twin.detector.efficiency,
    "scene.absorption": lambda w: w.twin.scene.absorption,
    "optics.ambient": lambda w: w.twin.optics.ambient,
    "budget.photons": lambda w: w.photons,
}


def settings(match="incident"):
    budget = {"photons": 1e4, "match": match}
    return settings_of({"budget": budget, "walk": {"photons": 8192}, "seed": 3, "memory_limit": "1 GiB"})


def along(base: Working, key: str, values, log=False):
    at = PLACES[key]
    made = [eqx.tree_at(at, base, jnp.asarray(v, float)) for v in values]
    return axis(key, key, "", log, values, float(at(base)), [*made, base])


@eqx.filter_jit
def even_light(twin: Twin) -> Images:
    """Every pair meets one superpixel in both arms; the object lets 1 - absorption through, all blocks are alike."""
    light = twin.path().idler_image()
    seen = (1 - twin.scene.absorption) * light
    spread = jnp.zeros((15, 15)).at[7, 7].set(jnp.sum(light))
    joint = jnp.zeros((3, 3, N, N)).at[1, 1].set(seen)
    nothing = jnp.zeros(())
    images = Images(seen, light, joint, light, seen, light, spread, spread, jnp.sum(light), nothing, nothing)
    return jax.tree.map(lambda a: jnp.broadcast_to(a, (BLOCKS, *a.shape)), images)


@eqx.filter_jit
def uneven_light(twin: Twin) -> Images:
    """The same, with blocks that differ and partners next door."""
    images, rng = even_light(twin), np.random.default_rng(5)
    images = jax.tree.map(lambda a: a * jnp.asarray(rng.uniform(0.8, 1.2, a.shape)), images)
    return images._replace(joint=0.7 * images.joint + 0.1 * images.direct[:, None, None])


@pytest.fixture
def lit(monkeypatch):
    """Chooses the light; nothing is walked."""

    def choose(light):
        monkeypatch.setattr(Twin, "walk", lambda self, **_: SimpleNamespace(photons=8192))
        monkeypatch.setattr(Twin, "blocks", lambda self, walk: light(self))
        monkeypatch.setattr(advantage, "_apart", lambda *_: 0.0)

    return choose


def mapped(base, x, y, names, match="incident"):
    pair = duel(base.protocols, *names)
    return advantage_map(base, x, y, pair, settings(match), lambda *_, **__: None)


NAIVE = "twin beams, naive", "coherent, camera"
HERALDED = "heralded, coincidences", "coherent, single-photon array"
TWINS = Working(TWIN, {"twin_beams": TwinBeams()}, jnp.asarray(1e4, float))
ETA, ABSORBED = np.linspace(0.5, 0.99, 8), np.linspace(0, 0.45, 7)
AXES = along(TWINS, "camera.efficiency", ETA), along(TWINS, "scene.absorption", ABSORBED)


def test_naive_twin_beams_win_above_an_efficiency_of_half_over_the_transmission(lit):
    """A = T/(1 - T + 2 (1 - eta) T), PHYSICS.md section 4 at E = 0: 1 where eta = 1/(2 T)."""
    lit(even_light)
    found = mapped(TWINS, *AXES, NAIVE)
    t = 1 - ABSORBED[:, None]
    np.testing.assert_allclose(np.exp(found.log[:-1, :-1]), t / (1 - t + 2 * (1 - ETA) * t), rtol=1e-9)
    assert not np.any(found.why) and np.all(found.stderr[:-1, :-1] < 1e-12)
    ((at, error, rises),) = found.crossings("x")  # T = 0.8
    assert at == pytest.approx(0.625, abs=2e-4) and error < 1e-9 and rises
    ((at, _, rises),) = found.crossings("y")  # eta = 0.8
    assert at == pytest.approx(1 - 1 / 1.6, abs=2e-4) and not rises
    line = np.concatenate(found.boundary())
    assert len(line) > 8
    np.testing.assert_allclose(2 * line[:, 0] * (1 - line[:, 1]), 1, atol=6e-3)
    assert "walked through the tissue once; mean images were formed 8 times" in found.light
    np.testing.assert_array_equal(found.winner(), np.sign(np.round(2 * ETA * t - 1, 9)))


def test_the_walk_alone_makes_the_errors_and_the_band(lit):
    """Every block left out, against the law evaluated one by one; the boundary moves as far as its errors say."""
    lit(uneven_light)
    found = mapped(TWINS, *AXES, NAIVE)

    @jax.jit
    def cost(images):
        bench = TWIN.bench(images, TWINS.photons)
        laws = direct.on_camera(bench), twin_beams.law(bench, "naive")
        theirs, ours = (jnp.sum(bench.idler * law.variance()) for law in laws)
        return jnp.log(theirs / ours)

    blocks = jax.tree.map(np.asarray, uneven_light(TWIN))
    left = [cost(jax.tree.map(lambda a, i=i: np.delete(a, i, axis=0).mean(axis=0), blocks)) for i in range(BLOCKS)]
    centre = jax.tree.map(lambda a: a.mean(axis=0), blocks)
    assert found.log[-1, -1] == pytest.approx(float(cost(centre)), rel=1e-10)
    assert found.stderr[-1, -1] == pytest.approx(float(jackknife(left)), rel=1e-8) and found.stderr[-1, -1] > 1e-4
    ((_, error, _),) = found.crossings("x")
    low, high = (line[np.argsort(line[:, 1])].T for s in (1.0, -1.0) for line in found.boundary(s))
    apart = np.interp(0.2, low[1], low[0]) - np.interp(0.2, high[1], high[0])
    assert abs(apart) / 2 == pytest.approx(error, rel=0.1)


def test_images_are_smoothed_as_the_comparison_smooths_them():
    rng, n = np.random.default_rng(1), 6
    image, weights, kernel = rng.random((n, n)), rng.random((n, n)), rng.random((15, 15))
    matrix = smoothing(kernel, n)
    seen, effect = jax.jit(alike)(*map(jnp.asarray, (image, weights, kernel)))
    np.testing.assert_allclose(np.ravel(seen), matrix @ image.ravel(), rtol=1e-12)
    np.testing.assert_allclose(np.ravel(effect), matrix.multiply(matrix).T @ weights.ravel(), rtol=1e-12)


def test_budgets_are_matched_or_their_points_are_marked():
    """Detected n/(1 + c n) with dead time, never more than 1/c."""

    @jax.jit
    @jax.vmap
    def reached(target, c):
        return matched(lambda n: n / (1 + c * n), jnp.ones_like(target), target)

    photons, residual = reached(jnp.asarray([7.0, 0.5, 1.5, jnp.nan]), jnp.asarray([0.0, 1.0, 1.0, 1.0]))
    np.testing.assert_allclose(photons[:2], [7.0, 1.0], rtol=3e-6)
    np.testing.assert_array_equal(residual < 1e-3, [True, True, False, False])


def test_points_without_an_answer_are_told_and_won_by_nobody(lit):
    whole = Cell(*(np.full(6, v) for v in (0.1, 0.1, 1.0, 0.0, 0.01, 0.5, True)))
    bad = {"sound": False, "residual": 0.1, "load": 2.0, "unlike": 0.2, "log": np.nan}
    for i, (name, value) in enumerate(bad.items(), 1):
        getattr(whole, name)[i] = value
    np.testing.assert_array_equal(advantage._why(whole), np.arange(6))
    assert len(WHY) == 6
    lit(even_light)
    light = np.asarray(even_light(TWIN).direct_open[0])
    brightest = jnp.asarray(light.max() / light.mean() * 1e4)
    shallow = eqx.tree_at(lambda w: w.twin.camera.full_well, TWINS, 0.75 * brightest)  # electrons
    found = mapped(shallow, *AXES, NAIVE)
    np.testing.assert_array_equal(
        found.why[:-1, :-1], np.broadcast_to(np.where(ETA > 0.75, 3, 0), found.winner().shape)
    )
    assert np.all(np.isnan(found.log[found.why > 0])) and not np.any(found.winner()[:, ETA > 0.75])


def test_a_crossing_has_the_error_of_its_blocks():
    """log A = log(x/x_0) with x_0 of every block: the crossing is x_0, its error the jackknife of theirs."""
    x = along(TWINS, "camera.efficiency", np.geomspace(0.1, 1, 6), log=True)
    moved = 0.37 * (1 + 0.01 * np.random.default_rng(2).normal(size=(BLOCKS, 1)))
    line = np.log(x.values / 0.37)
    line[0] = np.nan
    ((at, error, rises),) = advantage._crossings(x, line, np.log(x.values / moved))
    assert at == pytest.approx(0.37, rel=1e-9) and rises
    assert error == pytest.approx(float(jackknife(moved[:, 0])), rel=0.02)


def test_noise_that_superpixels_share_is_not_left_out_in_silence():
    """All superpixels alike: smoothing does not average their noise, which the weights of single ones say."""
    together = SimpleNamespace(variance=lambda: np.ones(36), covariance=lambda: np.ones((36, 36)), fourth=lambda _: 0.0)
    alone = SimpleNamespace(variance=lambda: np.ones(36), covariance=lambda: np.eye(36), fourth=lambda _: 0.0)
    twin = SimpleNamespace(bench=lambda images, photons: SimpleNamespace(idler=np.ones((6, 6))))
    images = SimpleNamespace(spread_direct=np.ones((15, 15)), spread_ghost=np.eye(15))
    arms = [
        SimpleNamespace(law=lambda _, law=law: law, spread=s) for law, s in ((together, "ghost"), (alone, "direct"))
    ]
    assert advantage._apart(SimpleNamespace(twin=twin, photons=1.0), images, tuple(arms)) < -10 * APART


@pytest.fixture(scope="module")
def cfg():
    return compose(
        ["optics.pixels=8", "estimator=[twin_beams,thermal_ghost]", "points=2", "x_range=[0.5,1]"], name="map"
    )


@pytest.fixture(scope="module")
def points(cfg):
    return Points(cfg)


def test_axes_are_what_the_benchmark_would_build(cfg, points):
    """What follows a parameter follows it along the axis, unless it is the other axis."""
    config = points.config
    x = _axis("x", {**config, "x": "tissue.thickness", "x_range": ["20um", "2mm"]}, points)
    assert x.log and x.shown(x.values[0]) == "20 µm"
    np.testing.assert_allclose(x.moved.twin.tissue.depth, [1e-5, 1e-3, 2.5e-5])  # the middle; the start last
    assert x.moved.twin.camera.efficiency is None
    assert advantage.moves_light(x, points.start)
    y = _axis("y", {**config, "y": "estimator.thermal_ghost.reference_photons"}, points)
    np.testing.assert_allclose(y.moved.protocols["thermal_ghost"].reference_photons, [10, 1000, 100])
    y = _axis("y", {**config, "y": "optics.ambient", "y_range": [0, "3 kHz"]}, points)  # not written in the YAML
    np.testing.assert_allclose(y.moved.twin.optics.ambient, [0, 3000, 0][:3])
    assert not y.log and not advantage.moves_light(y, points.start)
    y = _axis("y", {**config, "y": "budget.photons"}, points)
    np.testing.assert_allclose(y.moved.photons, [200, 20000, 2000])
    changed = {"x": "tissue.thickness", "y": "tissue.depth", "x_range": ["40um", "60um"], "y_range": ["10um", "30um"]}
    _, x, y = axes(OmegaConf.merge(cfg, changed))
    assert x.moved.twin.tissue.depth is None and y.moved.twin.tissue.thickness is None
    assert advantage._shared(x, y) is None and "depth" in advantage._shared(y, y)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": "camera.gain"}, r"x: got 'camera\.gain', no parameter that can be traced; .*camera\.efficiency"),
        ({"x": "laser.power"}, r"x: got 'laser\.power', no parameter .*source\.\*.*estimator\.thermal_ghost"),
        ({"x": "optics.pixels"}, r"x: got 'optics\.pixels', no parameter that can be traced; .*optics\.pitch"),
        ({"x": 3}, r"x: got 3, accepted is a parameter such as camera\.efficiency"),
        ({"x": "tissue.mu_s.1"}, r"x: got 'tissue\.mu_s\.1', .* accepted is one number: tissue\.mu_s"),
        ({"x_range": [0.5, 1.5]}, r"x_range: got 1\.5, accepted for camera\.efficiency is a value .*at most 1"),
        ({"x_range": [1, 0.5]}, r"x_range: got 1 to 0\.5, accepted is a low and a higher end"),
        ({"x_range": ["1 m", 0.5]}, r"x_range: got '1 m', expected a plain number"),
        ({"x_range": 0.5}, r"x_range: got 0\.5, accepted is \[low, high\]"),
        ({"x": "optics.ambient", "x_range": None}, r"x_range: optics\.ambient starts at 0 Hz; accepted is a range"),
        ({"x": "optics.ambient", "x_range": [0, 5], "x_scale": "log"}, r"x_range: starts at 0 Hz; .* more than 0"),
        ({"x_scale": "root"}, r"x_scale: got 'root', accepted is linear or log"),
        ({"points": 1}, r"points: got 1, accepted is a whole number of at least 2"),
        ({"x": "tissue.depth", "x_range": ["10um", "1mm"]}, r"x_range: at 1 mm: tissue\.depth: .* total thickness"),
    ],
)
def test_bad_axes_are_one_clear_line(points, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        _axis("x", {**points.config, **changes}, points)
    assert "\n" not in str(caught.value)


def test_bad_pairs_are_one_clear_line(cfg, points):
    with pytest.raises(UserError, match=r"y: got 'camera\.efficiency', which is x already"):
        axes(OmegaConf.merge(cfg, {"y": "camera.efficiency"}))
    with pytest.raises(UserError, match=r"arm: got 'coherent, camera', accepted are twin beams, naive; twin"):
        duel(points.start.protocols, "coherent, camera", None)
    with pytest.raises(UserError, match=r"opponent: got 'nobody', accepted against .* are coherent, camera"):
        duel(points.start.protocols, None, "nobody")
    assert [a.name for a in duel(points.start.protocols, None, None)] == ["twin beams, optimal k", "coherent, camera"]
    layers = (
        Slab(["20 um", "20 um"], "10 um", 0.0, 0.0, 0.5, 1.0),
        Slab(["20 um", "20 um"], "30 um", 0.0, 0.0, 0.5, 1.0),
    )
    made = [
        eqx.tree_at(lambda w: w.twin.tissue, TWINS, layer, is_leaf=lambda t: isinstance(t, Slab)) for layer in layers
    ]
    with pytest.raises(UserError, match=r"tissue\.depth: 10 µm makes another set-up than 30 µm"):
        axis("tissue.depth", "", "m", False, [1e-5], 3e-5, made)


@pytest.mark.slow
def test_heralding_wins_where_background_outweighs_what_the_idler_loses(lit):
    """A = eta_i (1 + b), b background in signals, mean over superpixels: PHYSICS.md section 5."""
    lit(even_light)
    base = Working(TWIN, {"ghost": Ghost()}, jnp.asarray(1e4, float))
    per_pair = float(jnp.mean(1 / (TWIN.path().idler_image() * 0.8)) / TWIN.source.pair_rate())
    b, eta = np.geomspace(0.05, 20, 9), np.linspace(0.3, 1, 5)
    x = along(base, "optics.ambient", b / per_pair, log=True)
    found = mapped(base, x, along(base, "detector.efficiency", eta), HERALDED, "detected")
    np.testing.assert_allclose(np.exp(found.log[:-1, :-1]), eta[:, None] * (1 + b), rtol=1e-4)
    ((at, _, rises),) = found.crossings("x")
    assert at * per_pair == pytest.approx(1.0, rel=2e-3) and rises  # eta = 0.5
    assert "the same in every point" in found.light


@pytest.mark.slow
@pytest.mark.parametrize("match", ["incident", "detected"])
def test_the_start_values_have_the_numbers_of_the_comparison(match):
    """Value, standard error and matched budgets of `qtwin benchmark`: smoothed images, dead time, another first arm."""
    small = ["walk.photons=8192", "budget.photons=300", "optics.pixels=12", "scene.diameter=0.6mm"]
    small += ["+optics.ambient=10", f"budget.match={match}", "points=2", "x=detector.efficiency", "y=optics.ambient"]
    cfg = compose([*small, "x_range=[0.3,0.8]", "y_range=[1,100]"], name="map")
    told = compare(**elements(cfg), settings=settings_of(plain(cfg)), progress=lambda *_, **__: None)
    points, x, y = axes(cfg)
    for names in (
        ("heralded, with idler singles", "coherent, ideal array"),
        ("twin beams, naive", "coherent, ideal camera"),
    ):
        pair = duel(points.start.protocols, *names)
        found = advantage_map(points.start, x, y, pair, settings_of(plain(cfg)), lambda *_, **__: None)
        v = next(v for v in told.versus if (v.arm, v.opponent) == names)
        assert np.exp(found.log[-1, -1]) == pytest.approx(v.expected, rel=1e-9)
        assert found.stderr[-1, -1] == pytest.approx(v.expected_stderr / v.expected, rel=1e-6)
        photons = [told.outcomes[name].photons for name in names]
        np.testing.assert_allclose(found.photons[:, -1, -1], photons, rtol=1e-9)
        assert abs(found.apart) < 1e-9
