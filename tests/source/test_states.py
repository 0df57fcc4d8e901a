"""States as sources: one battery for all of them, then pseudothermal and squeezed light against closed forms."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf
from slopes import check_slopes, once

from qtwin.core.errors import FieldError
from qtwin.core.params import parameters
from qtwin.modes.counts import mode_number
from qtwin.source.entangled import NOON, Bell, HeraldedPhoton, TwoModeSqueezed
from qtwin.source.four_wave import FourWaveMixing
from qtwin.source.states import Coherent, Squeezed, Thermal, _resolves

KEY = jax.random.key(0)
COUNT = 20_480
LIMIT = 4.0  # of the largest of some twenty scores
THERMAL = Thermal("633 nm", "1.1 mm", "0.5 m", "80 um", "2 ms", "3 ms", 2.5, pixels=2, points=3)
STATES = {
    "coherent": Coherent("810 nm", 3.3),
    "thermal": THERMAL,
    "squeezed": Squeezed("810 nm", 6.0, 9.0, 0.8, "60 mrad", "0.2 rad"),
    "two_mode_squeezed": TwoModeSqueezed("810 nm", 0.6, 2.5, 0.8, 0.5, 0.3, 0.1),
    "heralded": HeraldedPhoton("810 nm", 0.4, 1.7, 0.5, 0.7, 0.02, "80 MHz"),
    "noon": NOON(3, "810 nm", 0.9, 0.8, 0.95, "0.2 rad"),
    "bell": Bell("810 nm", 0.5, 0.8, 0.6, 0.45, 0.03, "0.3 rad", "0.7 rad", "1 MHz", name="psi-"),
    "four_wave": FourWaveMixing(
        *("1550 nm", "1542.4 nm", "1 nm", "0.8 W", "30 ps", "50 MHz", "300 m", "2 1/W/km", "-0.3 ps^2/km"),
        *("1e-2 ps^4/km", 0.7, 0.5, 0.02, 0.01),
    ),
}
each = pytest.mark.parametrize("name", STATES)


def put(state, values):
    """The state with its parameters replaced by ``values`` [P], in the order of `parameters`."""
    return eqx.tree_at(lambda e: [getattr(e, f) for f in parameters(e)], state, list(values))


def values(state):
    return jnp.stack([getattr(state, f) for f in parameters(state)])


def law(state):
    """Moments of a record in one vector."""
    mean, covariance = state.expect()
    return jnp.concatenate([mean, covariance.ravel()])


def everything(state):
    waves = jnp.stack([getattr(state, f) for f in parameters(state) if "wavelength" in f])
    figures = jnp.stack([jnp.asarray(f.value, float) for f in state.figures()])
    return jnp.concatenate([law(state), figures, waves])


compiled = once(everything)
together = once(jax.vmap(lambda state, x: law(put(state, x)), in_axes=(None, 0)))
moved = once(lambda state, x: law(put(state, x)))
jacobian = once(jax.jacfwd(lambda state, x: law(put(state, x)), argnums=1))


def seen(draws):
    """Moments of draws [count, N] in one vector and a function from expected moments to z-scores."""
    draws = np.asarray(draws, float)
    size, n = draws.shape
    mean, away = draws.mean(0), draws - draws.mean(0)
    products = np.einsum("ka,kb->kab", away, away).reshape(size, -1)
    errors = np.concatenate([draws.std(0), products.std(0)]) / np.sqrt(size)

    def scores(expected):
        expected = np.asarray(expected)
        about = products.mean(0) + np.outer(mean - expected[:n], mean - expected[:n]).ravel()
        found = np.concatenate([mean, about]) - expected
        known = errors > 0  # a number that never changes must be exact
        assert np.all(np.abs(found[~known]) < 1e-12)
        return found[known] / errors[known]

    return scores


@pytest.fixture(scope="module")
def draws():
    return {name: np.asarray(state.sample(COUNT, key=KEY)) for name, state in STATES.items()}


@pytest.fixture(scope="module")
def scores(draws):
    return {name: seen(drawn) for name, drawn in draws.items()}


@each
def test_draws_have_the_moments_of_the_law(name, scores):
    assert np.max(np.abs(scores[name](law(STATES[name])))) < LIMIT


@each
def test_a_parameter_wrong_by_five_standard_errors_is_seen(name, scores):
    """Every parameter that the records depend on, moved until its effect is worth five standard errors.

    Up or down: whatever the draws, one of the two scores is then 5 or more.
    """
    state, x, z = STATES[name], values(STATES[name]), scores[name]
    slopes = np.asarray(jacobian(state, x)) * np.asarray(x)
    expected, read = np.asarray(law(state)), set()
    for j, field in enumerate(parameters(state)):
        pull = np.max(np.abs(z(expected + 1e-7 * slopes[:, j]) - z(expected))) / 1e-7
        if pull > 1e-6:
            read.add(field)
            found = []
            for step in (-5 / pull, 5 / pull):
                for _ in range(12):
                    wrong = moved(state, x.at[j].multiply(1 + step))
                    if np.max(np.abs(z(wrong) - z(expected))) >= 5:
                        break
                    step *= 1.2
                found.append(np.max(np.abs(z(wrong))))
            assert max(found) > LIMIT, (field, found)
    assert set(parameters(state)) - read <= {"wavelength", "signal_wavelength", "gate_rate", "pulse_rate"}


@pytest.mark.parametrize("name", ["squeezed", pytest.param("thermal", marks=pytest.mark.slow)])
def test_draws_in_single_precision(name):
    """float32 throughout: the same law (the other states draw by `qtwin.modes.sampling` alone)."""
    state = STATES[name]
    with jax.enable_x64(False):
        single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), state)
        draws = single.sample(COUNT, key=KEY)
    assert draws.dtype in (jnp.int32, jnp.float32)
    assert np.max(np.abs(seen(draws)(law(state)))) < LIMIT


@each
def test_same_key_same_draw(name, draws):
    np.testing.assert_array_equal(draws[name], STATES[name].sample(COUNT, key=KEY))


@each
def test_slopes_of_law_and_figures_by_every_parameter(name):
    """Relative change of moments and figures by the relative change of each parameter."""
    state, x = STATES[name], values(STATES[name])
    scale = jnp.abs(compiled(state))
    scale = jnp.where(scale > 0, scale, 1.0)
    small = jnp.asarray([1e-2 if "wavelength" in f else 1.0 for f in parameters(state)])  # a detuning is a difference
    check_slopes(lambda s: everything(put(state, x * (1 + small * s))) / scale, jnp.zeros_like(x))


@each
def test_vmap_equals_loop(name):
    state, x = STATES[name], values(STATES[name])
    many = jnp.outer(jnp.asarray([0.99, 1.0]), x)
    np.testing.assert_allclose(together(state, many), [moved(state, x) for x in many], rtol=1e-9, atol=1e-12)


@each
def test_figures_are_finite_and_name_their_formula(name):
    rows = []
    jax.eval_shape(lambda state: rows.extend(state.figures()), STATES[name])
    assert len({f.name for f in rows}) == len(rows) and all(f.formula for f in rows)
    assert np.all(np.isfinite(compiled(STATES[name])))


def figures(state) -> dict:
    return {f.name: float(f.value) for f in state.figures()}


# --- pseudothermal light -------------------------------------------------------------------------------------------


def test_speckle_width_is_the_transform_of_the_spot():
    """van Cittert-Zernike by quadrature: |int exp(-2 r^2/w^2) exp(-i k x r/z) dr|^2 falls to 1/e at s."""
    s = float(THERMAL.speckle_width())
    r = np.linspace(-6e-3, 6e-3, 4001)
    spot = np.exp(-2 * (r / 1.1e-3) ** 2)
    g1 = np.sum(spot * np.cos(2 * np.pi / 633e-9 * s * r / 0.5)) / np.sum(spot)
    assert g1**2 == pytest.approx(np.exp(-1), rel=1e-9)
    assert s == pytest.approx(91.6e-6, rel=1e-3)


def test_covariance_of_pixels_against_the_exact_integrals():
    """int int exp(-(x - x')^2/s^2) over two pixels by second differences of x erf(x) sqrt(pi)/2 + exp(-x^2)/2."""
    state = Thermal("633 nm", "1.1 mm", "0.5 m", "80 um", "2 ms", "3 ms", 2.5, pixels=3, points=8)

    def twice(x):
        return np.sqrt(np.pi) / 2 * x * erf(x) + np.exp(-(x**2)) / 2

    u = 80e-6 / float(state.speckle_width())
    d = np.abs(np.arange(3)[:, None] - np.arange(3)) * u
    row = (twice(d + u) - 2 * twice(d) + twice(d - u)) / u**2
    time = 1 / float(mode_number(2e-3, 3e-3))
    covariance = moved(state, values(state))[9:].reshape(9, 9)
    expected = 2.5**2 * time * np.kron(row, row) + 2.5 * np.eye(9)
    np.testing.assert_allclose(covariance, expected, rtol=1e-7)
    found = figures(state)
    assert found["variance of a pixel"] == pytest.approx(expected[0, 0], rel=1e-9)
    assert found["g2 of a pixel"] == pytest.approx(1 + (expected[0, 0] - 2.5) / 2.5**2, rel=1e-9)


def test_one_mode_and_many_modes():
    """A pixel far below the speckle: n + n^2. A record of many coherence times: n (1 + n tc/T)."""
    tiny = figures(Thermal("633 nm", "1 mm", "1 m", "1 um", "1 us", "1 ms", 3.0, pixels=1, points=2))
    assert tiny["variance of a pixel"] == pytest.approx(12, rel=1e-3)
    long = Thermal("633 nm", "1 mm", "1 m", "1 um", "20 ms", "1 ms", 3.0, pixels=1, points=48)
    assert figures(long)["modes in time per record"] == pytest.approx(20, rel=0.02)
    assert float(moved(long, values(long))[1]) == pytest.approx(3 + 9 / 20, rel=0.02)


# --- squeezed light ------------------------------------------------------------------------------------------------


def test_ten_decibels_behind_a_loss():
    """eta = 0.8: 5.53 dB; wins over ideal light from eta = 1/(2 - 0.1); a pure state has purity 1."""
    found = figures(Squeezed("810 nm", 10.0, 10.0, 0.8))
    assert found["squeezing detected"] == pytest.approx(5.53, abs=0.005)
    assert found["purity of the state"] == pytest.approx(1, rel=1e-12)
    assert found["photons of the squeezed mode"] == pytest.approx(np.sinh(np.log(10) / 2) ** 2, rel=1e-12)
    least = found["efficiency that beats ideal light"]
    assert least == pytest.approx(1 / 1.9, rel=1e-12)
    at_least = figures(Squeezed("810 nm", 10.0, 10.0, least))
    assert at_least["gain over ideal coherent light"] == pytest.approx(1, rel=1e-12)


def test_phase_noise_mixes_in_the_antisqueezing():
    """V = V- + (V+ - V-)(1 - e^(-2 s^2))/2 without loss, by quadrature over the normal phase."""
    state = Squeezed("810 nm", 8.0, 12.0, 1.0, 0.15)
    t = np.linspace(-1.5, 1.5, 20001)
    p = np.exp(-(t**2) / (2 * 0.15**2))
    v = np.sum(p * (10**-0.8 * np.cos(t) ** 2 + 10**1.2 * np.sin(t) ** 2)) / np.sum(p)
    assert float(state.expect().covariance[0, 0]) == pytest.approx(v, rel=1e-9)
    assert figures(state)["squeezing detected"] == pytest.approx(-10 * np.log10(v), rel=1e-9)


# --- bad input -----------------------------------------------------------------------------------------------------

BEAM = ("633 nm", "1 mm", "0.5 m")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Squeezed("810 nm", 6.0, 5.0, 0.8), "antisqueezing: got 5 dB, accepted is the squeezing, 6 dB"),
        (lambda: Squeezed("810 nm", "6 nm", 7.0, 0.8), "squeezing: got '6 nm', expected a quantity in units of dB"),
        (
            lambda: Thermal(*BEAM, "50 um", "1 ms", "5 ms", 3.0, pixels=101),
            "pixels: got 101, accepted are at most 10000",
        ),
        (lambda: Thermal(*BEAM, "50 um", "1 ms", "5 ms", 3.0, pixels=100, points=30), "pixels, points: .*memory"),
        (lambda: Thermal(*BEAM, "50 um", "1 ms", "5 ms", 3.0, pixels=1.5), "pixels: got 1.5, accepted is a whole"),
        (
            lambda: Thermal(*BEAM, "0.8 mm", "1 ms", "5 ms", 3.0, points=4),
            "points: got 4 where pitch/coherence is 4.48, accepted: points of",
        ),
        (
            lambda: Thermal(*BEAM, "50 um", "9 s", "5 ms", 3.0),
            "points: got 6 where exposure/coherence is .* a smaller ratio",
        ),
        (lambda: STATES["bell"].sample(0, key=KEY), "count: got 0, accepted is a whole number from 1"),
        (lambda: THERMAL.sample(10**9, key=KEY), "count: got 1000000000"),
    ],
)
def test_states_that_cannot_be_are_refused(make, words):
    with pytest.raises(FieldError, match=words):
        make()


def test_the_number_of_points_that_is_named_is_enough():
    with pytest.raises(FieldError) as caught:
        Thermal(*BEAM, "0.8 mm", "1 ms", "5 ms", 3.0, points=4)
    enough = int(str(caught.value).split("points of ")[1].split()[0])
    assert _resolves(enough, 4.48) and not _resolves(enough - 1, 4.48)
    Thermal(*BEAM, "0.8 mm", "1 ms", "5 ms", 3.0, points=enough)
