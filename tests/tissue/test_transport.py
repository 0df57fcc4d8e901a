"""Tallies of a walk in bounded memory: exact limits, sums, derivatives, neighbours; two compilers, the same photons."""

import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numba import njit

from qtwin.core.compiled import FAST, WIDEST, widest
from qtwin.core.errors import FieldError, UserError
from qtwin.core.random import words
from qtwin.scene.grid import Grid
from qtwin.tissue import Slab, paths, swarm
from qtwin.tissue.carry import carry, cores, on_devices
from qtwin.tissue.tallies import FIELDS, Bins, default_bins, expect, gather, moments, slopes
from qtwin.tissue.transport import _logarithms, _neighbour, each_pass, neighbours, transport
from qtwin.tissue.walk import BLOCKS, medium_of

STACK = {"thickness": [3e-4, 5e-4, 2e-4], "mu_a": [300, 900, 2000], "mu_s": [4e3, 9e3, 2e3], "g": [0.8, 0.3, 0.0]}


def stack(**changes) -> Slab:
    return Slab(**({**STACK, "n": [1.37, 1.45, 1.4], "depth": 4e-4} | changes))


def plain(**changes) -> Slab:
    """The slab of van de Hulst."""
    return Slab(**({"thickness": 2e-4, "depth": 1e-4, "mu_a": 1e3, "mu_s": 9e3, "g": 0.75, "n": 1.0} | changes))


def z(measured, exact):
    return (measured.value - exact) / measured.stderr


# --- who carries -----------------------------------------------------------------------------------------------


def test_both_compilers_carry_the_same_photons():
    """Every history equal, lengths to single precision: layers, mirrors, object, roulette and the kept point."""
    slab, count = stack(mu_a=[5e3, 900, 2000]), 3000
    medium, seed, o = medium_of(slab.layers()._replace(object=0)), words(jax.random.key(7)), slab.object_layer
    rng = np.random.default_rng(0)
    start = rng.normal(size=(count, 2)).astype(np.float32) * 1e-3
    grid = Grid(jnp.asarray(np.pad(rng.random((6, 8)), 1, constant_values=1), jnp.float32), jnp.float32(1e-3))
    numbers = np.arange(count, dtype=np.uint32)
    given = {"object_layer": o, "kept": 2, "point": True}
    ours = carry(medium, seed, numbers, start=start, grid=grid, skip=1, **given)
    theirs = np.empty_like(ours)
    on_devices(medium, seed, numbers, start, grid, 1, True, theirs, **given)
    a, b = (jax.tree.map(np.asarray, paths.unpack(t, 4, 2, point=True)) for t in (ours, theirs))
    assert b.crossings.max() > 2 and (b.boost > 1).any() and (b.boost == 0).any()
    same = np.all(a.scatterings == b.scatterings, axis=1) & (a.crossings == b.crossings) & (a.boost == b.boost)
    assert same.mean() > 0.998  # a photon within rounding of a decision may go the other way
    for mine, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        mine, other = mine[same].astype(float), other[same].astype(float)
        scale = np.sqrt(np.mean(other**2)) or 1.0
        assert np.quantile(np.abs(mine - other), 0.99) < 3e-4 * scale


@pytest.mark.parametrize("derivatives", [True, False])
def test_both_compilers_count_the_same_photons(derivatives):
    """Every cell of every curve and every moment, from the same paths."""
    slab, blocks, count = stack(mu_a=[5e3, 900, 2000]), 2, 3000  # more photons than rows to keep them, and the roulette
    layers, seed, bins = slab.whole(), words(jax.random.key(14)), default_bins(slab)
    medium = medium_of(layers._replace(object=0))
    ours = swarm.tally(medium, seed, count, blocks, bins, 0.5, points=True, derivatives=derivatives, threads=2)
    table = carry(medium, seed, np.arange(blocks * count, dtype=np.uint32), point=True).reshape(blocks, count, -1)
    for b in range(blocks):
        some = paths.unpack(jnp.asarray(table[b]), 3, 0, point=True)
        theirs = (gather(layers, layers, some, bins, 0.5), *([moments(layers, some, 0.5)] if derivatives else []))
        for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=derivatives):
            np.testing.assert_allclose(mine[b], other, atol=1e-6 * np.abs(other).max())


def test_without_points_each_layer_absorbs_as_much():
    """Absorption counted while the light is in the layer, against that of the kept points, with other photons."""
    slab = stack(mu_a=[5e3, 900, 2000])  # light plays the roulette
    plainly = transport(slab, key=jax.random.key(15), photons=200_000, derivatives=False, fluence=False).tallies
    points = transport(slab, key=jax.random.key(16), photons=200_000, derivatives=False).tallies
    assert "fluence" not in plainly and points["fluence"].value.shape == (3, 25)
    for name in ("absorbed", "reflectance", "transmittance", "accepted"):
        a, b = plainly[name], points[name]
        assert np.all(np.abs(a.value - b.value) < 4 * np.hypot(a.stderr, b.stderr)), name
    assert np.all(plainly["absorbed"].stderr <= points["absorbed"].stderr)


@pytest.mark.parametrize(("field", "values"), [("mu_a", [100, 900, 2e3]), ("mu_s", [3e3, 4e3]), ("thickness", [3e-4])])
def test_both_compilers_reweigh_the_same_photons(field, values):
    slab, key = stack(), jax.random.key(17)
    walked = slab.whole()
    many = jnp.broadcast_to(jnp.asarray(values, float)[:, None], (len(values), 3))
    slabs = jax.vmap(lambda v: eqx.tree_at(lambda s: getattr(s, field), slab, v))(many)
    logs, _ = _logarithms(slabs, walked)
    theirs, total = each_pass(slab, 32 * 512, key, 2**30, lambda w, t: _neighbour(logs, w, t))
    given = (medium_of(walked._replace(object=0)), words(key), total // BLOCKS, BLOCKS)
    ours = swarm.sweep(*given, *(np.asarray(a).T for a in logs), 2)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-7)


def test_loops_ask_for_the_widest_vectors():
    """The request reaches LLVM: without it the walk takes half as long again where vectors of 512 bits exist."""

    @njit(**FAST)
    def more(x):
        widest()
        return x + 1

    assert more(1.0) == 2 and WIDEST in next(iter(more.inspect_llvm().values()))


def test_a_photon_walks_alone_as_in_company():
    medium, seed = medium_of(stack().layers()._replace(object=0)), words(jax.random.key(8))
    table = carry(medium, seed, np.arange(1000, dtype=np.uint32), point=True)
    some = np.array([977, 3, 500], np.uint32)
    np.testing.assert_array_equal(carry(medium, seed, some, point=True), table[some])


def test_two_devices_give_what_one_gives():
    code = """
import os; os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import jax, numpy as np
from qtwin.core.random import words
from qtwin.tissue import Slab
from qtwin.tissue.carry import carry, cores, on_devices
from qtwin.tissue.walk import medium_of
slab = Slab(thickness=2e-4, depth=1e-4, mu_a=1e3, mu_s=9e3, g=0.75, n=1.4)
medium, seed = medium_of(slab.whole()._replace(object=0)), words(jax.random.key(3))
numbers = np.arange(1000, dtype=np.uint32)
one = carry(medium, seed, numbers)
two = np.empty_like(one)
assert jax.device_count() == 2
on_devices(medium, seed, numbers, None, None, 0, True, two, object_layer=-1, kept=0)
same = np.all(one[:, [0, 1, 8]] == two[:, [0, 1, 8]], axis=1)
assert same.mean() > 0.998, same.mean()
assert np.abs(one - two)[same].max(axis=0)[7] < 1e-3 * one[:, 7].max()
print("agree")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "agree" in done.stdout, done.stderr


# --- exact limits ----------------------------------------------------------------------------------------------


def test_no_scattering_is_beer_lambert_in_every_layer():
    a, d = np.array([300.0, 900.0]), np.array([3e-4, 5e-4])
    slab = Slab(thickness=d, depth=1e-4, mu_a=a, mu_s=0, g=0.5, n=1)
    found = transport(slab, key=jax.random.key(1), photons=200_000, derivatives=False).tallies
    before = np.array([1, np.exp(-a[0] * d[0])])
    assert np.abs(z(found["absorbed"], before * (1 - np.exp(-a * d)))).max() < 4
    edges = np.linspace(0, 1, 26)
    inside = before[:, None] * np.exp(-a[:, None] * d[:, None] * edges[None, :])
    exact = -np.diff(inside, axis=1) / (a * d)[:, None] * 25
    scores = z(found["fluence"], exact)
    assert np.abs(scores).max() < 4.5 and abs(np.mean(scores**2) - 1) < 0.6
    assert found["transmittance"].value == pytest.approx(np.exp(-a @ d), rel=1e-12)


def test_van_de_hulst_and_the_balance():
    found = transport(plain(), key=jax.random.key(2), photons=400_000, derivatives=False).tallies
    for name, exact in {"reflectance": 0.0973946, "transmittance": 0.6609577, "balance": 0.0}.items():
        assert abs(z(found[name], exact)) < 4
    assert abs(z(found["absorbed"], 0.2416477)[0]) < 4


def test_light_that_the_layers_absorb_is_path_times_absorption():
    """Absorption per layer, fluence and the light that is lost say the same."""
    slab = stack()
    found = transport(slab, key=jax.random.key(3), photons=200_000, derivatives=False).tallies
    path = found["fluence"].value.mean(axis=1) * np.asarray(slab.thickness)
    shares = path * np.asarray(slab.mu_a)
    np.testing.assert_allclose(
        shares / shares.sum(), found["absorbed"].value / found["absorbed"].value.sum(), rtol=1e-3
    )
    total = sum(found[n].value for n in ("specular", "reflectance", "transmittance")) + found["absorbed"].value.sum()
    assert total == pytest.approx(1, abs=4 * found["balance"].stderr)


def test_curves_sum_to_the_fractions():
    slab = stack()
    wide = Bins(radius=0.1, time=1e-8, rings=400, times=400)
    found = transport(slab, key=jax.random.key(4), photons=50_000, bins=wide, derivatives=False).tallies
    h, dt = 0.1 / 399, 1e-8 / 399
    area = 2 * np.pi * h * h * np.where(np.arange(400) == 0, 1 / 6, np.arange(400))
    solid = -2 * np.pi * np.diff(np.cos(wide.edges()))
    for side, name in (("reflected", "reflectance"), ("transmitted", "transmittance")):
        fraction = found[name].value - (found["ballistic"].value if name == "transmittance" else 0)
        assert found[f"radius_{side}"].value @ area == pytest.approx(fraction, rel=1e-9)
        assert found[f"angle_{side}"].value @ solid == pytest.approx(fraction, rel=1e-9)
        assert found[f"time_{side}"].value @ np.where(np.arange(400) == 0, dt / 2, dt) == pytest.approx(
            fraction, rel=1e-9
        )


def test_late_light_decays_as_diffusion_says():
    """In a thick, weakly absorbing slab light dies as exp(-(mu_a + D (pi/L)^2) c t), L = d + 2 x 0.7104/mu_s'."""
    d, mu_s, mu_a, n = 0.02, 1000.0, 1.0, 1.0
    slab = Slab(thickness=d, depth=1e-3, mu_a=mu_a, mu_s=mu_s, g=0.0, n=n)
    bins = Bins(radius=0.1, time=4e-9, times=41)
    found = transport(slab, key=jax.random.key(5), photons=600_000, bins=bins, derivatives=False).tallies
    t = np.asarray(bins.instants())[10:26]
    y, error = (np.asarray(a)[10:26] for a in found["time_transmitted"])
    (slope, _), spread = np.polyfit(t, np.log(y), 1, w=y / error, cov="unscaled")
    assert np.sqrt(spread[0, 0]) < 0.02 * abs(slope)
    diffusion = 1 / (3 * mu_s)
    expected = -299792458.0 / n * (mu_a + diffusion * (np.pi / (d + 2 * 0.7104 / mu_s)) ** 2)
    assert abs(slope - expected) < 4 * np.sqrt(spread[0, 0])


# --- derivatives and neighbours --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def block():
    """One block of paths of the stack, and where they were walked."""
    slab = stack()
    kept = []

    def use(walked, table):
        kept.append((walked, np.array(table)))
        return np.zeros(table.shape[0])

    each_pass(slab, BLOCKS * 2048, jax.random.key(6), 2**30, use)
    walked, table = kept[0]
    return slab, walked, paths.unpack(jnp.asarray(table[0]), 3, 0, point=True)


@pytest.mark.parametrize("name", FIELDS)
def test_every_tally_has_the_derivative_of_its_finite_difference(block, name):
    """The same paths read in slabs next to each other; the value in g is of first order by design."""
    slab, walked, some = block
    bins = default_bins(slab)

    @jax.jit
    def read(value):
        return expect(eqx.tree_at(lambda s: getattr(s, name), slab, value), walked, some, bins, 0.5)

    here = getattr(slab, name)
    for i in range(3):
        h = 1e-8 * float(here[i] or 0.1)  # so small that no path passes a kink of a hat function
        step = jnp.zeros(3).at[i].set(h)
        slope = jax.jvp(read, (here,), (step / h,))[1]
        difference = jax.tree.map(lambda a, b, h=h: (a - b) / (2 * h), read(here + step), read(here - step))
        for key, mine, other in zip(slope._fields, slope, difference, strict=True):
            scale = np.abs(other).max() + 1e-12
            np.testing.assert_allclose(mine / scale, other / scale, atol=2e-4, err_msg=f"{key} by {name}")
        assert np.abs(slope.reflectance) > 0 and np.all(np.abs(slope.absorbed) > 0)


def test_slopes_from_moments_are_the_derivatives_of_the_tallies(block):
    slab, walked, some = block
    bins, fields = default_bins(slab), {name: getattr(slab, name) for name in FIELDS}

    def read(fields):
        made = eqx.tree_at(lambda s: [getattr(s, name) for name in FIELDS], slab, [fields[name] for name in FIELDS])
        t = expect(made, walked, some, bins, 0.5)
        return jnp.concatenate([jnp.stack([t.reflectance, t.transmittance, t.accepted]), t.absorbed])

    ours = slopes(slab, walked, gather(walked, walked, some, bins, 0.5), moments(walked, some, 0.5))
    for name, theirs in jax.jacrev(read)(fields).items():
        assert np.all(np.any(np.abs(theirs) > 0, axis=1))
        np.testing.assert_allclose(ours[name], theirs, rtol=1e-9, atol=1e-12 * np.abs(theirs).max())


def test_slopes_against_exact_transport():
    found = transport(plain(), key=jax.random.key(9), photons=1_000_000)
    d, tau, albedo = 2e-4, 2.0, 0.9
    both = {f: [by[w] for w in ("reflectance", "transmittance")] for f, by in found.slopes.items()}
    value = {f: sum(float(m.value[0]) for m in ms) for f, ms in both.items()}
    error = {f: np.sqrt(sum(float(m.stderr[0]) ** 2 for m in ms)) for f, ms in both.items()}
    got = (albedo * value["mu_s"] + (1 - albedo) * value["mu_a"]) / d
    assert abs(got - -0.123453) < 4 * np.hypot(albedo * error["mu_s"], (1 - albedo) * error["mu_a"]) / d
    assert abs(tau / d * (value["mu_s"] - value["mu_a"]) - 1.9325) < 4 * tau / d * np.hypot(
        error["mu_s"], error["mu_a"]
    )
    assert abs(value["g"] - 0.1821) < 4 * error["g"]
    absorbed = found.slopes["mu_a"]["absorbed"]
    assert absorbed.value[0, 0] == pytest.approx(-value["mu_a"], rel=0.01)


@pytest.mark.parametrize(("field", "other"), [("mu_a", 1.4e3), ("mu_s", 9.9e3), ("thickness", 2.2e-4)])
def test_a_neighbour_is_what_its_own_walk_says(field, other):
    read = neighbours(plain(), field, [other], key=jax.random.key(10), photons=300_000)
    made = transport(plain(**{field: other}), key=jax.random.key(11), photons=300_000, derivatives=False).tallies
    for name in ("reflectance", "transmittance"):
        a, b = getattr(read, name), made[name]
        assert abs(a.value[0] - b.value) < 4 * np.hypot(a.stderr[0], b.stderr)
    assert 0.5 * 300_000 < read.effective[0] <= 1.001 * 301_000


@pytest.mark.parametrize(("field", "value"), [("mu_a", 1e3), ("mu_s", 9e3), ("thickness", 2e-4)])
def test_the_same_slab_twice_is_itself(field, value):
    read = neighbours(plain(), field, [value, value * (1 + 1e-9), value], key=jax.random.key(18), photons=20_000)
    walked = transport(plain(), key=jax.random.key(18), photons=20_000, derivatives=False, fluence=False).tallies
    for name in ("reflectance", "transmittance"):
        np.testing.assert_allclose(getattr(read, name).value, walked[name].value, rtol=1e-5)


@pytest.mark.parametrize(
    ("field", "low", "high"),
    [("mu_a", 0, 3e3), ("mu_a", 0, 1e6), ("mu_s", 8.5e3, 9.6e3), ("thickness", 1.8e-4, 2.1e-4)],
)
def test_many_values_are_read_as_few_are(field, low, high):
    """More than 32 values go through Chebyshev points, but from 0 to 1e6 /m no polynomial of that degree serves."""
    many, given = np.linspace(low, high, 41), {"key": jax.random.key(19), "photons": 20_000, "fewest": 0}
    read, few = neighbours(plain(), field, many, **given), neighbours(plain(), field, many[::4], **given)
    for name in ("reflectance", "transmittance"):
        a, b = getattr(read, name), getattr(few, name)
        np.testing.assert_allclose(a.value[::4], b.value, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(a.stderr[::4], b.stderr, rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(read.effective[::4], few.effective, rtol=1e-4)


def test_what_reweighting_cannot_do_is_refused():
    for values in ([0, 1e-6], [-1], [np.nan]):
        with pytest.raises(UserError, match=r"mu_s: got .* accepted is .*greater than 0"):
            neighbours(plain(), "mu_s", values, key=jax.random.key(12), photons=1000)
    with pytest.raises(UserError, match=r"mu_s: 3e\+04 is too far .* at least 0.1 of them; walk it anew"):
        neighbours(plain(), "mu_s", [9e3, 3e4], key=jax.random.key(12), photons=20_000)
    with pytest.raises(UserError, match="g: cannot be reweighted, accepted are mu_a, mu_s, thickness"):
        neighbours(plain(), "g", [0.7], key=jax.random.key(12), photons=20_000)


# --- bounds ----------------------------------------------------------------------------------------------------


def test_memory_is_bounded_whatever_the_number_of_photons():
    need = swarm.memory(1, default_bins(plain()), cores())
    assert need < 2**20
    transport(plain(), key=jax.random.key(13), photons=10_000, derivatives=False, memory_limit=need)
    with pytest.raises(UserError, match=r"memory_limit: got 0\.0625 MiB, this walk needs 0\.\d+ MiB"):
        transport(plain(), key=jax.random.key(13), photons=10_000, memory_limit=2**16)
    with pytest.raises(UserError, match="memory_limit: got 1 MiB, a pass of 4096 photons"):
        each_pass(plain(), 1000, jax.random.key(12), 2**20, lambda w, t: t)


def test_no_photons_and_endless_paths_are_refused():
    with pytest.raises(UserError, match="photons: got 0, accepted is at least 1"):
        transport(plain(), key=jax.random.key(0), photons=0)
    with pytest.raises(FieldError, match="scattering lengths that hardly absorb"):
        plain(thickness=2.0, mu_a=0)
    found = transport(plain(thickness=10.0, mu_a=1e3, mu_s=9e3, g=0.0, n=1.5), key=jax.random.key(1), photons=100_000)
    r = found.tallies["reflectance"]
    assert abs(r.value + 0.04 - 0.259919) < 4 * r.stderr  # semi-infinite, Giovanelli 0.2600
