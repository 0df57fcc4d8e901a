"""Gaussian states and operations: conventions, limits, conditioning against photon-number space, physicality, speed."""

import fock_space
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import eval_hermite, factorial
from slopes import gradient_error, once

from qtwin.core.errors import FieldError, UserError
from qtwin.modes.counts import counts
from qtwin.modes.gaussian import (
    GaussianState,
    check_physical,
    coherent,
    commutator,
    displace,
    from_moments,
    join,
    moments,
    squeezed,
    squeezing_parameter,
    symplectic_eigenvalues,
    thermal,
    two_mode_squeezed,
    vacuum,
)
from qtwin.modes.operations import (
    beam_splitter,
    herald,
    homodyne,
    interferometer,
    keep,
    loss,
    phase_shift,
    squeeze,
    symplectic,
    two_mode_squeeze,
)


def same(one, other, atol=1e-13):
    np.testing.assert_allclose(one.mean, other.mean, atol=atol)
    np.testing.assert_allclose(one.covariance, other.covariance, atol=atol)


def network(x):
    """A two-mode state with everything in it; x [8]."""
    state = displace(two_mode_squeeze(vacuum(2), 0, 1, x[0], x[1]), jax.lax.complex(x[2:4], x[4:6]))
    state = squeeze(phase_shift(state, 1, x[6]), 0, x[7], x[1])
    return beam_splitter(state, 0, 1, 0.3)


X = np.array([0.25, 0.9, 0.3, -0.2, 0.15, 0.1, 0.7, -0.12])
NETWORK = once(network)
STATE: GaussianState = NETWORK(X)


@pytest.fixture(scope="module")
def made():
    """States by name, built in one compilation; numbers come in as arguments so that nothing is folded away."""

    def build(x):
        r, angle, alpha = x[0], x[1], jax.lax.complex(x[2:4], x[4:6])
        two, full = two_mode_squeezed(r, angle), network(x)
        across = squeezed(jnp.stack([r, r]), jnp.stack([0 * r, 0 * r + jnp.pi / 2]))
        bath = displace(vacuum(2), jnp.stack([alpha[0], 0 * alpha[0]]))
        bath = loss(bath, jnp.asarray([1.0, 0.0]), jnp.asarray([0.0, 0.9]))
        both = join(full, thermal(x[2:3]))
        cross = jnp.asarray([[0.6, 0.8j], [0.8j, 0.6]])
        mixed = squeeze(interferometer(thermal(jnp.stack([x[2], 1.4 + x[2]])), cross), 1, 0.8, x[1])
        return {
            "coherent": coherent(alpha),
            "ten decibel": squeezed(squeezing_parameter(40 * r), angle),
            "one, made": squeeze(vacuum(1), 0, r, angle),
            "one": squeezed(r, angle),
            "two, made": two_mode_squeeze(vacuum(2), 0, 1, r, angle),
            "two": two,
            "crossed": beam_splitter(across, 0, 1, 0.5),
            "moments": from_moments(*moments(full)),
            "kept": keep(both, (0, 1)),
            "kept backwards": keep(keep(both, (2, 1, 0)), (2, 1)),
            "opaque": loss(full, 0.0, jnp.asarray([0.2, 0.0])),
            "background": thermal(jnp.asarray([0.2, 0.0])),
            "clear": loss(full, 1.0),
            "lost twice": loss(loss(full, jnp.asarray([0.8, 0.5])), jnp.asarray([0.3, 0.6])),
            "lost once": loss(full, jnp.asarray([0.24, 0.3])),
            "bath": keep(beam_splitter(bath, 0, 1, 0.35), (0,)),
            "bath, closed": loss(coherent(alpha[:1]), 0.35, 0.65 * 0.9),
            "split": beam_splitter(coherent(jnp.asarray([2.0, 0.0])), 0, 1, 0.3),
            "turned": phase_shift(coherent(jnp.asarray([1.0])), 0, jnp.pi / 2),
            "pure values": symplectic_eigenvalues(full),
            "mixed values": symplectic_eigenvalues(mixed),
        }

    return once(build)(X)


def test_vacuum_is_one_half():
    np.testing.assert_array_equal(vacuum(3).covariance, np.eye(6) / 2)


def test_coherent_amplitude_is_the_quadrature_mean(made):
    np.testing.assert_allclose(made["coherent"].mean, np.sqrt(2) * X[2:6])


def test_squeezing_of_ten_decibel(made):
    """The squeezed quadrature at its angle: 1/20; across it: 5."""
    v = np.asarray(made["ten decibel"].covariance)
    for angle, expected in ((X[1], 0.05), (X[1] + np.pi / 2, 5.0)):
        u = np.array([np.cos(angle), np.sin(angle)])
        assert u @ v @ u == pytest.approx(expected, rel=1e-12)


def test_squeezing_the_vacuum_makes_the_squeezed_state(made):
    same(made["one, made"], made["one"])
    same(made["two, made"], made["two"])


def test_two_squeezed_beams_on_a_beam_splitter_are_twin_beams(made):
    """Squeezing across each other, T = 1/2: arms thermal, together two-mode squeezed by the same r."""
    v, r = np.asarray(made["crossed"].covariance), X[0]
    np.testing.assert_allclose(v[::2, ::2], np.cosh(2 * r) / 2 * np.eye(2), atol=1e-14)
    assert np.linalg.svd(v[::2, 1::2])[1] == pytest.approx(np.sinh(2 * r) / 2, rel=1e-12)


def test_moments_round_trip(made):
    same(made["moments"], STATE)


def test_join_and_keep_are_inverse_and_keep_orders(made):
    same(made["kept"], STATE)
    same(made["kept backwards"], STATE)


def test_symplectic_eigenvalues(made):
    """1/2 of pure states, n + 1/2 whatever passive and active elements follow."""
    np.testing.assert_allclose(made["pure values"], 0.5, rtol=1e-9)
    np.testing.assert_allclose(made["mixed values"], [X[2] + 0.5, X[2] + 1.9], rtol=1e-12)


def test_operations_keep_the_uncertainty_relation():
    """Ten random networks of four modes with loss and background."""
    rng = np.random.default_rng(3)
    u = np.linalg.qr(rng.normal(size=(10, 4, 4)) + 1j * rng.normal(size=(10, 4, 4)))[0]

    @once
    @jax.vmap
    def build(u, r, t):
        state = interferometer(squeezed(r, 3 * t), u)
        return two_mode_squeeze(loss(state, t, 0.01), 3, 1, 0.5, 0.7)

    states = build(u, rng.uniform(0, 1, (10, 4)), rng.uniform(0.3, 1, (10, 4)))
    for k in range(10):
        state = check_physical(jax.tree.map(lambda leaf, k=k: leaf[k], states))
        assert np.linalg.eigvalsh(np.asarray(state.covariance) + 0.5j * np.asarray(commutator(4)))[0] > 0
    # the modes without loss, background and amplifier stay at the limit
    assert np.linalg.eigvalsh(np.asarray(STATE.covariance) + 0.5j * np.asarray(commutator(2)))[0] > -1e-15


def test_loss_brings_the_vacuum_and_background(made):
    """T = 0: vacuum and background alone; T = 1 without background: nothing changes; losses multiply."""
    same(made["opaque"], made["background"])
    same(made["clear"], STATE)
    same(made["lost twice"], made["lost once"])


def test_an_environment_behind_a_beam_splitter_is_loss_with_background(made):
    """n photons per mode of the environment add (1 - T) n."""
    same(made["bath"], made["bath, closed"])


def test_beam_splitter_divides_power_by_its_transmission(made):
    np.testing.assert_allclose(made["split"].mean[:2] ** 2 / 2, [1.2, 2.8])


def test_phase_shift_turns_the_amplitude(made):
    np.testing.assert_allclose(made["turned"].mean, [0, np.sqrt(2)], atol=1e-15)


def fock_state():
    """The state of ``network`` in photon-number space, [SIZE, SIZE]."""
    psi = fock_space.two_mode_squeezed(fock_space.vacuum(), X[0], X[1])
    psi = fock_space.displaced(fock_space.displaced(psi, 0, X[2] + 1j * X[4]), 1, X[3] + 1j * X[5])
    number = (fock_space.LADDERS[1].conj().T @ fock_space.LADDERS[1]).astype(complex)
    psi = fock_space.evolve(1j * X[6] * number, psi)
    return fock_space.split(fock_space.squeezed(psi, 0, X[7], X[1]), 0.3).reshape(fock_space.SIZE, -1)


PSI = fock_state()


def test_moments_against_photon_number_space():
    a = fock_space.lower()
    alpha, single, pair = moments(STATE)
    second = np.array([np.vdot(PSI, x) for x in (a @ PSI, PSI @ a.T)])
    np.testing.assert_allclose(alpha, second, atol=1e-9)
    assert complex(pair[0, 1]) == pytest.approx(np.vdot(PSI, a @ PSI @ a.T) - second[0] * second[1], abs=1e-9)
    assert complex(single[0, 1]) == pytest.approx(
        np.vdot(a @ PSI, PSI @ a.T) - second[0].conjugate() * second[1], abs=1e-9
    )


CONDITIONED = once(lambda outcome, angle: moments(homodyne(STATE, 0, outcome, angle)))


@pytest.mark.parametrize(("outcome", "angle"), [(0.4, 0.0), (-1.1, 0.8)])
def test_homodyne_conditioning_against_photon_number_space(outcome, angle):
    """Project mode 0 on the quadrature's eigenstate; mean and variances of mode 1."""
    n = np.arange(fock_space.SIZE)
    wave = eval_hermite(n, outcome) * np.exp(-(outcome**2) / 2) / np.sqrt(2.0**n * factorial(n) * np.sqrt(np.pi))
    phi = (wave * np.exp(-1j * angle * n)) @ PSI
    phi /= np.linalg.norm(phi)
    a = fock_space.lower()
    alpha, square, number = np.vdot(phi, a @ phi), np.vdot(phi, a @ a @ phi), np.linalg.norm(a @ phi) ** 2
    found, single, pair = CONDITIONED(outcome, angle)
    assert complex(found[0]) == pytest.approx(alpha, abs=1e-9)
    assert complex(pair[0, 0]) == pytest.approx(square - alpha**2, abs=1e-9)
    assert float(single[0, 0].real) == pytest.approx(number - abs(alpha) ** 2, abs=1e-9)


def test_homodyne_of_twin_beams_squeezes_the_partner():
    """x of one arm known: the other's x has 1/(2 cosh 2r), its p cosh(2r)/2, its mean moves by tanh 2r."""
    state = once(lambda r: homodyne(two_mode_squeezed(r), 0, 0.5))(0.8)
    np.testing.assert_allclose(np.diag(state.covariance), [0.5 / np.cosh(1.6), np.cosh(1.6) / 2], rtol=1e-12)
    assert state.mean[0] == pytest.approx(0.5 * np.tanh(1.6), rel=1e-12)


@once
def heralded(efficiency, dark):
    """(probability, mean, <n (n - 1)>) of mode 1 behind a click of mode 0, and the mean without looking."""

    def pairs(state):
        mean, covariance = counts(state)
        return jnp.stack([mean[0], covariance[0, 0] - mean[0] + mean[0] ** 2])

    found = herald(STATE, 0, efficiency, dark)
    return found.probability, found.average(pairs), pairs(found.whole)


def test_heralding_against_photon_number_space():
    eta, dark = 0.4, 0.02
    n = np.arange(fock_space.SIZE)
    click = 1 - (1 - dark) * (1 - eta) ** n
    p = np.abs(PSI) ** 2
    chance = click @ p.sum(1)
    partner = click @ p / chance
    probability, found, _ = heralded(eta, dark)
    assert probability == pytest.approx(chance, abs=1e-10)
    np.testing.assert_allclose(found, [partner @ n, partner @ (n * (n - 1))], atol=1e-9)


def test_a_herald_that_sees_nothing_changes_nothing():
    """eta -> 0 with dark clicks: the partner as it was."""
    probability, found, whole = heralded(1e-12, 0.3)
    assert probability == pytest.approx(0.3, abs=1e-9)
    np.testing.assert_allclose(found, whole, rtol=1e-9)


def test_gradient_of_a_network_with_loss_and_conditioning():
    def value(x):
        state = loss(network(x[:8]), x[8:10], x[10])
        found = herald(state, 1, x[8], 0.01)
        rest = homodyne(state, 0, x[2], x[1])
        return counts(state)[1][0, 1] + found.average(lambda s: counts(s)[0][0]) + rest.covariance[0, 1] + rest.mean[0]

    assert gradient_error(value, np.concatenate([X, [0.7, 0.55, 0.05]])) < 1e-7


def test_states_are_batched():
    """vmap over parameters equals one by one."""
    points = X + 0.1 * np.arange(3)[:, None]
    many = once(jax.vmap(network))(points)
    for k, x in enumerate(points):
        same(jax.tree.map(lambda leaf, k=k: leaf[k], many), NETWORK(x), atol=1e-12)


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (GaussianState(jnp.zeros(2), jnp.diag(jnp.asarray([0.2, 0.5]))), "uncertainty relation"),
        (GaussianState(jnp.zeros(2), jnp.asarray([[1.0, 0.2], [0.0, 1.0]])), "symmetric"),
        (GaussianState(jnp.zeros(2), jnp.full((2, 2), jnp.nan)), "finite"),
        (GaussianState(jnp.zeros(3), jnp.eye(3)), "shapes"),
    ],
)
def test_unphysical_states_are_refused(state, text):
    with pytest.raises(UserError, match=text):
        check_physical(state)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: thermal(-0.1), "photons: got -0.1, accepted is a value 0 or greater"),
        (lambda: loss(STATE, 1.2), "transmission: got 1.2"),
        (lambda: loss(STATE, np.array([0.1, 0.2, 0.3])), r"transmission: got shape \(3,\)"),
        (lambda: loss(STATE, np.nan), "accepted is a finite value"),
        (lambda: keep(STATE, (0, 2)), "mode: got 2, accepted is a whole number from 0 to 1"),
        (lambda: beam_splitter(STATE, 1, 1, 0.5), "different modes"),
        (lambda: symplectic(STATE, 2 * jnp.eye(4)), "symplectic"),
        (lambda: herald(vacuum(1), 0), "nothing would remain"),
        (lambda: vacuum(0), "modes: got 0"),
        (lambda: herald(vacuum(2), 0), "efficiency, dark: got a click that never happens"),
        (lambda: coherent(np.array([np.inf])), "alpha: got a value that is not finite"),
    ],
)
def test_bad_input_is_named(build, text):
    with pytest.raises(FieldError, match=text):
        build()
