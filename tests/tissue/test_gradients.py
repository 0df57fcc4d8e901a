"""Derivatives through a walk against exact transport and against walks made apart."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qtwin.tissue import Slab, fates, walk
from qtwin.tissue.walk import BLOCKS

NAMES = ("mu_a", "mu_s", "g", "thickness", "depth")
D, TAU, ALBEDO = 2e-4, 2.0, 0.9
# derivatives of R + T (unscattered light included) of the slab n = 1, tau = 2, albedo 0.9, g = 0.75
ORACLE = {"albedo": 1.9325, "g": 0.1821, "tau": -0.123453}


def slab() -> Slab:
    return Slab(thickness=D, depth=0.3 * D, mu_a=(1 - ALBEDO) * TAU / D, mu_s=ALBEDO * TAU / D, g=0.75, n=1)


def kept(light):
    return light.reflectance + light.transmittance


@jax.jit
def per_block(made, walked):
    """Name -> derivative of R + T of every block, [BLOCKS, layers]."""

    def f(values):
        return kept(fates(eqx.tree_at(lambda s: [getattr(s, n) for n in NAMES], made, values), walked))

    found = jax.jacfwd(f)([getattr(made, n) for n in NAMES])
    return {n: d.reshape(BLOCKS, -1) for n, d in zip(NAMES, found, strict=True)}


def of_one_layer(blocks):
    """Derivatives by albedo, g and tau from those by mu_a, mu_s, g and thickness; [blocks] each."""
    by = {name: np.asarray(value)[:, 0] for name, value in blocks.items()}
    return {
        "albedo": TAU / D * (by["mu_s"] - by["mu_a"]),  # mu_s = albedo tau/d, mu_a = (1 - albedo) tau/d
        "g": by["g"],
        "tau": (ALBEDO * by["mu_s"] + (1 - ALBEDO) * by["mu_a"]) / D,
        "thickness": by["thickness"] * D / TAU,  # d tau = (mu_a + mu_s) d(thickness)
        "depth": by["depth"] * D,
    }


def mean_and_error(blocks):
    return blocks.mean(), blocks.std(ddof=1) / np.sqrt(len(blocks))


def z(estimate, error, exact):
    return (estimate - exact) / error


@pytest.fixture(scope="module")
def walked():
    return walk(slab(), key=jax.random.key(81), photons=1 << 19, aperture=0.0)


@pytest.fixture(scope="module")
def derivatives(walked):
    return of_one_layer(per_block(slab(), walked))


@pytest.mark.parametrize("name", ["albedo", "g", "tau", "thickness"])
def test_derivative_of_exact_transport(derivatives, name):
    exact = ORACLE["tau" if name == "thickness" else name]
    estimate, error = mean_and_error(derivatives[name])
    assert abs(z(estimate, error, exact)) < 3
    assert error / abs(exact) < (0.08 if name == "g" else 0.01)


@pytest.mark.parametrize("name", ["albedo", "g", "tau", "thickness"])
@pytest.mark.parametrize("factor", [-1, 0, 0.5, 2])
def test_a_wrong_sign_factor_or_a_missing_parameter_is_noticed(derivatives, name, factor):
    exact = ORACLE["tau" if name == "thickness" else name]
    estimate, error = mean_and_error(derivatives[name])
    assert abs(z(factor * estimate, max(abs(factor), 1) * error, exact)) > 4


def test_a_missing_half_of_the_derivative_is_noticed(derivatives, walked):
    """The part by mu_a alone, or by mu_s alone, is not the derivative by albedo or by tau."""
    by = {n: np.asarray(v)[:, 0] for n, v in per_block(slab(), walked).items()}
    for part in (TAU / D * by["mu_s"], -TAU / D * by["mu_a"]):
        assert abs(z(*mean_and_error(part), ORACLE["albedo"])) > 4
    for part in (ALBEDO * by["mu_s"] / D, (1 - ALBEDO) * by["mu_a"] / D):
        assert abs(z(*mean_and_error(part), ORACLE["tau"])) > 4


def test_depth_of_a_clear_object_plane_has_no_effect(derivatives):
    assert abs(z(*mean_and_error(derivatives["depth"]), 0)) < 4


def test_reverse_mode_is_the_mean_of_the_blocks(walked):
    """jax.grad of the mean over blocks, against the forward derivative of every block."""
    made = slab()
    gradient = jax.jit(jax.grad(lambda s: jnp.mean(kept(fates(s, walked)))))(made)
    for name, blocks in per_block(made, walked).items():
        scale = float(jnp.abs(blocks).mean())
        np.testing.assert_allclose(np.ravel(getattr(gradient, name))[0], float(blocks.mean()), atol=1e-9 * scale)


@pytest.mark.parametrize("name", ["mu_a", "mu_s", "thickness", "depth"])
def test_derivative_is_that_of_the_weights(walked, name):
    """Finite difference of the same walk read at two neighbouring slabs, at a slab other than the walked one."""
    made = eqx.tree_at(lambda s: s.mu_s, slab(), slab().mu_s * 1.03)
    value = getattr(made, name)
    h = 1e-5 * value

    def f(v):
        return jnp.mean(kept(fates(eqx.tree_at(lambda s: getattr(s, name), made, v), walked)))

    exact, difference = jax.grad(f)(value), (f(value + h) - f(value - h)) / (2 * jnp.sum(h))
    scale = float(per_block(made, walked)[name].std())
    np.testing.assert_allclose(np.ravel(exact)[0], float(difference), rtol=1e-6, atol=1e-6 * scale)


def test_second_derivative_by_mu_a_is_the_mean_square_path(walked):
    """d^2/dmu_a^2 of exp(-mu_a l) is l^2 exp(-mu_a l): positive, and the finite difference of the first."""
    made = slab()

    def first(v):
        return jax.grad(lambda u: jnp.mean(kept(fates(eqx.tree_at(lambda s: s.mu_a, made, u), walked))))(v)[0]

    h = 1e-4 * made.mu_a
    second = jax.grad(lambda v: first(v))(made.mu_a)[0]
    difference = (first(made.mu_a + h) - first(made.mu_a - h)) / (2 * h[0])
    assert float(second) > 0 and float(second) == pytest.approx(float(difference), rel=1e-6)


def test_second_derivative_by_g_is_refused(walked):
    made = slab()

    def f(g):
        return jnp.mean(kept(fates(eqx.tree_at(lambda s: s.g, made, g), walked)))

    with pytest.raises(NotImplementedError, match="second"):
        jax.hessian(f)(made.g)


@pytest.mark.slow
def test_derivatives_of_exact_transport_to_one_per_cent():
    """Sixteen walks of half a million photons."""
    parts = []
    for seed in range(16):
        walked = walk(slab(), key=jax.random.key(8100 + seed), photons=1 << 19, aperture=0.0)
        parts.append(of_one_layer(per_block(slab(), walked)))
    for name, exact in {**ORACLE, "thickness": ORACLE["tau"]}.items():
        estimate, error = mean_and_error(np.concatenate([p[name] for p in parts]))
        print(f"{name}: {estimate:.5f} +- {error:.5f}, exact {exact}, z {z(estimate, error, exact):.2f}")
        assert abs(z(estimate, error, exact)) < 3
        assert error / abs(exact) < 0.011


@pytest.mark.slow
@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("name", ["mu_a", "mu_s", "g", "thickness"])
def test_derivative_in_each_layer_against_walks_made_apart(name, layer):
    """Two layers of unequal index: central difference of T from two walks with other keys."""
    made = Slab(thickness=[1e-4, 2e-4], depth=1.6e-4, mu_a=[2000.0, 500.0], mu_s=[8e3, 5e3], g=[0.6, 0.3], n=[1.3, 1.5])
    photons = 1 << 20

    def value(s, walked):
        return fates(s, walked).transmittance

    walked = walk(made, key=jax.random.key(82), photons=photons, aperture=0.0)
    by = jax.jacfwd(lambda v: value(eqx.tree_at(lambda s: getattr(s, name), made, v), walked))(getattr(made, name))
    slope, slope_error = mean_and_error(np.asarray(by)[:, layer])
    centre = getattr(made, name)
    h = 0.1 * centre[layer]
    ends = []
    for seed, sign in ((83, 1), (84, -1)):
        other = eqx.tree_at(lambda s: getattr(s, name), made, centre.at[layer].add(sign * h))
        again = walk(other, key=jax.random.key(seed), photons=photons, aperture=0.0)
        ends.append(mean_and_error(np.asarray(value(other, again))))
    difference = (ends[0][0] - ends[1][0]) / (2 * float(h))
    error = np.hypot(ends[0][1], ends[1][1]) / (2 * float(h))
    print(f"{name}[{layer}]: {slope:.4g} +- {slope_error:.2g}, difference {difference:.4g} +- {error:.2g}")
    assert abs(slope - difference) / np.hypot(slope_error, error) < 4
    assert np.hypot(slope_error, error) < abs(difference) / 4  # sharp enough to see the sign and a factor
