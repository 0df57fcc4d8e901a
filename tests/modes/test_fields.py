"""Speckle, twin beams of a joint amplitude, ghost images; the state's correlations are those of the biphoton rays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slopes import gradient_error, once

from qtwin.core.errors import FieldError
from qtwin.modes.counts import correlation, counts, mode_number
from qtwin.modes.fields import (
    correlation_density,
    double_gaussian,
    ghost_image,
    phase_sensitive_coherence,
    speckle_coherence,
    thermal_field,
    twin_field,
)
from qtwin.modes.gaussian import GaussianState, check_physical, moments
from qtwin.modes.operations import interferometer, loss
from qtwin.source.biphoton import DoubleGaussian

PAIRS = DoubleGaussian("650 nm", "1075 nm", 1.665, 1.654, "1.7 mm", "15 um")
SHARE = float(PAIRS.shares()[0])
WIDTHS = float(PAIRS.sum_width()), float(PAIRS.relative_width())
N = 48


@pytest.fixture(scope="module")
def twins():
    """Low-gain twin beams with the widths of the rays of a crystal: wave vectors, positions, state, densities."""
    k = (np.arange(N) - (N - 1) / 2) * 14 / N * np.hypot(WIDTHS[0] * SHARE, WIDTHS[1])
    x = (np.arange(N) - (N - 1) / 2) * 2 * np.pi / (N * (k[1] - k[0]))
    fourier = np.exp(1j * x[:, None] * k[None, :]) / np.sqrt(N)

    @once
    def build(s, d, share, fourier):
        state = twin_field(1e-3 * double_gaussian(k, k, s, d, share))
        there = interferometer(interferometer(state, fourier, range(N)), fourier, range(N, 2 * N))
        arms = jnp.arange(N), jnp.arange(N, 2 * N)
        photons = jnp.trace(moments(state)[1][:N, :N].real)
        return state, photons, correlation_density(state, *arms), correlation_density(there, *arms)

    return k, x, *build(*WIDTHS, SHARE, fourier)


def spread(density, grid, signal, idler):
    """std of signal x first + idler x second under a joint density on ``grid``."""
    p = np.asarray(density) / np.sum(density)
    u = signal * grid[:, None] + idler * grid[None, :]
    return np.sqrt(np.sum(p * u**2) - np.sum(p * u) ** 2)


def test_momentum_correlations_are_those_of_the_rays(twins):
    """|<a_s a_i>|^2 of the field: std(q_s + q_i) = 1/w and std(m_i q_s - m_s q_i) of the phase matching."""
    k, _, _, _, density, _ = twins
    assert spread(density, k, 1, 1) == pytest.approx(float(PAIRS.sum_width()), rel=1e-6)
    assert spread(density, k, 1 - SHARE, -SHARE) == pytest.approx(float(PAIRS.relative_width()), rel=1e-6)


def test_position_correlations_are_those_of_the_rays(twins):
    """After the lens: std(m_s x_s + m_i x_i) = w/2 and std(x_s - x_i) = 1/(2 std(Q))."""
    _, x, _, _, _, density = twins
    assert spread(density, x, SHARE, 1 - SHARE) == pytest.approx(float(PAIRS.centre_width()), rel=1e-6)
    assert spread(density, x, 1, -1) == pytest.approx(float(PAIRS.separation_width()), rel=1e-6)


def test_drawn_rays_have_the_widths_of_the_field(twins):
    """z-scores of the variances of sums and differences of 50 000 drawn pairs, both axes, both planes."""
    k, x, _, _, momentum, position = twins
    signal, idler = PAIRS.sample(50_000, key=jax.random.key(5))
    for (s, i), grid, density in (((signal.k, idler.k), k, momentum), ((signal.x, idler.x), x, position)):
        s, i = np.ravel(s), np.ravel(i)
        for a, b in ((1, 1), (1, -1), (1, 0), (0, 1)):
            square = (a * s + b * i) ** 2
            z = (square.mean() - spread(density, grid, a, b) ** 2) / (square.std() / np.sqrt(square.size))
            assert abs(z) < 4


def test_low_gain_correlations_are_the_joint_amplitude(twins):
    """<a_s a_i> = psi, the arms <n> = sum |psi|^2; the state is pure and physical."""
    k, _, state, photons, density, _ = twins
    total, relative = k[:, None] + k[None, :], (1 - SHARE) * k[:, None] - SHARE * k[None, :]
    psi = np.exp(-((total / WIDTHS[0]) ** 2) / 4 - (relative / WIDTHS[1]) ** 2 / 4)
    psi *= 1e-3 / np.linalg.norm(psi)
    np.testing.assert_allclose(density, psi**2, atol=1e-13)
    check_physical(state)
    assert photons == pytest.approx(1e-6, rel=1e-5)


def test_any_gain_schmidt_modes_are_squeezed_by_the_singular_values():
    """Unsymmetric complex amplitude 3 x 2: N_s = conj(U sinh^2 r U^), N_i = V sinh^2 r V^, M = U sinh r cosh r V^."""
    rng = np.random.default_rng(2)
    psi = 0.5 * (rng.normal(size=(3, 2)) + 1j * rng.normal(size=(3, 2)))
    _, single, pair = once(lambda p: moments(twin_field(p)))(psi)
    u, r, vh = np.linalg.svd(psi, full_matrices=False)
    np.testing.assert_allclose(single[:3, :3], ((u * np.sinh(r) ** 2) @ u.conj().T).conj(), atol=1e-12)
    np.testing.assert_allclose(single[3:, 3:], (vh.conj().T * np.sinh(r) ** 2) @ vh, atol=1e-12)
    np.testing.assert_allclose(pair[:3, 3:], (u * np.sinh(r) * np.cosh(r)) @ vh, atol=1e-12)
    np.testing.assert_allclose(single[:3, 3:], 0, atol=1e-13)


def test_speckle_correlation_and_its_modes():
    """g2 = 1 + exp(-dx^2/w^2); a bucket over the speckles has Var n = n + n^2/M, M of a Gaussian coherence."""
    x = np.linspace(0, 6e-5, 120)

    @once
    def build(x):
        state = thermal_field(speckle_coherence(x, 0.02, 1e-5))
        return correlation(state), counts(state)

    correlated, counted = build(x)
    g2, (mean, covariance) = (np.asarray(correlated), map(np.asarray, counted))
    assert g2[3, 40] == pytest.approx(1 + np.exp(-(((x[40] - x[3]) / 1e-5) ** 2)), rel=1e-9)
    modes = mean.sum() ** 2 / (covariance.sum() - mean.sum())
    # |g1|^2 = exp(-dx^2/w^2) = exp(-pi dx^2/l^2), l = sqrt(pi) w; 120 pixels of one spacing each
    assert modes == pytest.approx(float(mode_number(6e-5 * 120 / 119, np.sqrt(np.pi) * 1e-5)), rel=1e-3)


def test_speckle_in_two_dimensions_and_with_unequal_brightness():
    positions = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]])
    found = np.asarray(speckle_coherence(positions, np.array([1.0, 4.0, 9.0]), 1.5))
    assert found[0, 2] == pytest.approx(3 * np.exp(-5 / 4.5), rel=1e-12)
    np.testing.assert_allclose(np.diag(found), [1, 4, 9])


OBJECT = np.array([1.0, 1.0, 0.0, 0.0, 0.5, 0.0])


@pytest.fixture(scope="module")
def images():
    """Ghost images of OBJECT: halved thermal light; twin beams of one mode per pixel; any twins."""
    arms = jnp.arange(6), jnp.arange(6, 12)

    @once
    def thermal(x):
        both = thermal_field(jnp.kron(jnp.full((2, 2), 0.5), speckle_coherence(x, 1.0, 0.3)))
        return ghost_image(both, *arms, OBJECT)

    @once
    def pairs(psi, t):
        state = twin_field(psi)
        lost = counts(loss(state, jnp.concatenate([jnp.ones(6), t])))[1]
        return ghost_image(state, *arms, t), lost[:6, 6:].sum(1), phase_sensitive_coherence(state, 0, 11)

    random = np.random.default_rng(4).normal(size=(6, 6)) / 3
    t = np.array([0.3, 0.9, 0.6, 0.2, 1.0, 0.5])
    return thermal(np.arange(6.0)), pairs(0.4 * np.eye(6)[:, ::-1], OBJECT), pairs(random, t)


def test_thermal_ghost_image_is_the_object_blurred_by_the_speckle(images):
    """n/2 photons per arm: C_j = sum_k T_k exp(-(x_j - x_k)^2/w^2)/4."""
    x = np.arange(6.0)
    expected = np.exp(-((x[:, None] - x[None, :]) ** 2) / 0.09) @ OBJECT / 4
    np.testing.assert_allclose(images[0], expected, rtol=1e-12)


def test_twin_beam_ghost_image_is_inverted_and_brighter_than_classical(images):
    """Phase-sensitive: n (n + 1) at the partner pixel, mirrored by the anticorrelation; coherence sqrt(1 + 1/n) > 1."""
    image, _, coherence = images[1]
    n = np.sinh(0.4) ** 2
    np.testing.assert_allclose(image, n * (n + 1) * OBJECT[::-1], atol=1e-12)
    assert coherence == pytest.approx(np.sqrt(1 + 1 / n), rel=1e-12)


def test_ghost_image_equals_that_of_the_lossy_state(images):
    """The object as loss of the bucket modes, then counts; no symmetry."""
    image, lost, _ = images[2]
    np.testing.assert_allclose(image, lost, rtol=1e-12)


def test_gradients():
    """Ghost image by object (an opaque pixel too), gain and widths; speckle by width and brightness."""
    k = np.linspace(-3, 3, 4)

    def value(x):
        pairs = twin_field(x[0] * double_gaussian(k, k, x[1], x[2], x[9]))
        image = ghost_image(pairs, jnp.arange(4), jnp.arange(4, 8), x[3:7])
        speckle = counts(thermal_field(speckle_coherence(k, x[7], x[8])))[1]
        return image @ jnp.arange(1.0, 5.0) + speckle[0, 1]

    assert gradient_error(value, np.array([0.8, 1.1, 1.7, 0.4, 0.02, 0.9, 0.5, 0.7, 1.9, 0.4])) < 1e-7


def test_bad_input_is_named():
    state = GaussianState(jnp.zeros(8), jnp.eye(8))
    with pytest.raises(FieldError, match=r"transmission: got shape \(3,\)"):
        ghost_image(state, np.arange(2), np.arange(2, 4), np.ones(3))
    with pytest.raises(FieldError, match="width: got 0"):
        speckle_coherence(np.arange(3.0), 1.0, 0.0)
