"""Quantum illumination: exponents and information in closed form, receivers against states, draws against laws."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from omegaconf import OmegaConf
from scipy.optimize import minimize_scalar
from scipy.stats import geom, nbinom
from slopes import check_slopes, once

from qtwin.core.config import build
from qtwin.core.errors import FieldError, UserError
from qtwin.core.folders import find_conf
from qtwin.core.params import parameters
from qtwin.estimator.protocol import Bench
from qtwin.estimator.quantum_illumination import (
    MOST_GAIN,
    Coincidences,
    Normal,
    QuantumIllumination,
    error_probability,
    exponent,
    two_way,
    wrong_decisions,
)
from qtwin.estimator.setting import Setting
from qtwin.modes.counts import counts, number_distribution
from qtwin.modes.discrimination import chernoff_exponent
from qtwin.modes.illumination import (
    amplifier_exponent,
    amplifier_gain,
    entangled_return,
    homodyne_exponent,
    without_target,
)
from qtwin.modes.information import quantum_fisher
from qtwin.modes.operations import two_mode_squeeze
from qtwin.tissue import Slab

WEAK = 1e-10
BRIGHT = 1e-9, 1e6
TISSUE = Slab(["30 um", "50 um"], "55 um", ["10 1/m", "20 1/m"], ["4 1/mm", "7 1/mm"], 0.9, [1.33, 1.4])
OBJECT = np.array([[0.9, 0.35, 0.0], [0.6, 1.0, 0.12]])
IDLER = np.array([[0.1, 0.2, 0.15], [0.05, 0.3, 0.2]])
NAMES = [
    *("illumination, coincidences", "illumination, amplifier", "illumination, bound"),
    *("coherent return, homodyne", "coherent return, bound"),
]


def protocol(signal=0.01, background=20.0, reflectivity=0.1, idler_storage=1.0, efficiency=1.0, bandwidth=1e12):
    return QuantumIllumination(signal, background, reflectivity, idler_storage, efficiency, bandwidth)


class Source(NamedTuple):
    pump_power: jax.Array
    signal_wavelength: jax.Array


class Optics(NamedTuple):
    illumination_transmission: jax.Array


def bench(incident, transmission=OBJECT, tissue=TISSUE) -> Bench:
    source, optics = Source(jnp.asarray(3e-3), jnp.asarray(810e-9)), Optics(jnp.asarray(0.8))
    setting = Setting(*(jnp.asarray(v, float) for v in (incident, incident / 0.8, incident * 1e-9)))
    return Bench(source, optics, tissue, *[None] * 4, jnp.asarray(IDLER), jnp.asarray(transmission), setting)


def plain_laws(made: QuantumIllumination, at: Bench):
    return {arm.name: arm.law(at) for arm in made.arms()}


laws = once(plain_laws)


@once
def decibels(made, k=WEAK):
    """(exponents over coherent light's Chernoff bound, information of the bounds, entangled over coherent), dB."""
    image = made.entangled_information(k, jnp.asarray(1.0)) / made.coherent_information(k)
    return made.exponents(k).decibel(), 10 * jnp.log10(image)


def scores(values, expected):
    """z of the mean of values [exposures, ...]."""
    return (values.mean(axis=0) - expected) / (values.std(axis=0) / np.sqrt(len(values)))


# --- error exponents -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signal", "background", "expected"), [(0.01, 20.0, 5.11), (1.0, 20.0, 1.36), (0.01, 0.001, 0.24)]
)
def test_published_ratios_to_the_chernoff_bound_of_coherent_light(signal, background, expected):
    assert float(decibels(protocol(signal, background))[0].bound) == pytest.approx(expected, abs=5e-3)


def test_limits_of_the_gain():
    """Dim signal, bright background: 6.02 dB to decide; 3.01 dB for the amplifier, and for the image at its bound."""
    found, image = decibels(protocol(*BRIGHT))
    assert float(found.bound) == pytest.approx(10 * np.log10(4), abs=1e-3)
    assert float(found.amplifier) == pytest.approx(10 * np.log10(2), abs=1e-3)
    assert float(image) == pytest.approx(10 * np.log10(2), abs=1e-3)


@pytest.mark.parametrize(("signal", "background"), [(0.01, 20.0), (0.3, 2.0), (0.02, 0.3)])
def test_receivers_without_loss_have_the_known_exponents(signal, background):
    made, found = protocol(signal, background), protocol(signal, background).exponents(WEAK)
    assert float(found.amplifier) == pytest.approx(float(amplifier_exponent(WEAK, signal, background)), rel=1e-3)
    assert float(found.homodyne) == pytest.approx(float(homodyne_exponent(WEAK, signal, background)), rel=1e-9)
    dark = float(made.amplifier(WEAK).dark)
    gain = 1 + (dark - signal) / (1 + signal + background)  # n_0 = G N_s + (G - 1)(1 + N_b)
    assert gain == pytest.approx(float(amplifier_gain(signal, background)), rel=1e-9)


def test_the_amplifier_loses_where_the_background_is_small_or_the_signal_bright():
    for signal, background in ((0.01, 0.001), (1.0, 20.0)):
        assert float(decibels(protocol(signal, background))[0].amplifier) < -1.5


def test_no_gain_in_optical_background():
    """N_b = 1e-6: nothing to decide 0 dB from, no better image, and a loss with every receiver."""
    found, image = decibels(protocol(0.01, 1e-6), 1e-3)
    assert 0 <= float(found.bound) < 0.01
    assert float(found.amplifier) < -3 and float(found.coincidences) < -3 and float(found.homodyne) < -2.9
    assert 0 <= float(image) < 0.0044  # 1/(1 - k T): a Fock state's noise


def test_storage_loss_kills_the_gain():
    """The bound's 6 dB are gone with 6 dB of the idlers, the 3 dB of amplifier and image with 3 dB of them."""

    def gains(storage):
        found, image = decibels(protocol(1e-4, 1e3, idler_storage=storage))
        return float(found.bound), float(found.amplifier), float(image)

    assert min(gains(1.0)) > 2.7
    bound, amplifier, image = gains(0.5)
    assert bound > 2.7 and amplifier < 0 and image < 0.01
    assert max(gains(0.25)) < 0


def test_bound_with_storage_loss_against_the_numeric_chernoff_bound():
    """k -> 0 by extrapolation of two reflectivities."""

    @once
    def numeric(k, signal, background, storage):
        states = without_target(signal, background, storage), entangled_return(k, signal, background, storage)
        return chernoff_exponent(*states) / k

    for case in ((0.4, 1.5, 0.6), (0.05, 0.3, 0.3)):
        expected = 2 * numeric(1e-3, *case) - numeric(2e-3, *case)
        found = protocol(case[0], case[1], idler_storage=case[2]).exponents(1.0).bound
        assert float(found) == pytest.approx(float(expected), rel=2e-4)


# --- receivers against the Gaussian states ----------------------------------------------------------------------


def test_amplifier_counts_are_those_of_the_network():
    """Return and stored idler through a two-mode squeezer of the receiver's gain: mean and thermal variance."""
    made, k, t = protocol(0.3, 1.2, idler_storage=0.7, efficiency=0.8), 0.2, 0.6
    receiver = made.amplifier(k)
    gain = 1 + (float(receiver.dark) / 0.8 - 0.21) / (1 + 0.21 + 1.2)
    network = once(lambda k, r: counts(two_mode_squeeze(entangled_return(k, 0.3, 1.2, 0.7), 0, 1, r)))
    mean, covariance = network(k * t, np.arccosh(np.sqrt(gain)))
    n = float(receiver.dark + receiver.shift(jnp.asarray(t)))
    assert n == pytest.approx(0.8 * float(mean[1]), rel=1e-9)
    assert float(covariance[1, 1]) == pytest.approx(float(mean[1] * (1 + mean[1])), rel=1e-9)
    assert float(receiver.noise(jnp.asarray(t))) == pytest.approx(n * (1 + n), rel=1e-12)


@pytest.mark.parametrize(("background", "efficiency"), [(1.2, 0.8), (20.0, 1.0), (0.3, 0.5)])
def test_gain_of_the_amplifier_is_the_best(background, efficiency):
    """Over every x = 1/(G - 1), with losses of idler and counter; endless gain where x would be 0."""
    signal, storage, k = 0.3, 0.7, WEAK
    made = protocol(signal, background, idler_storage=storage, efficiency=efficiency)
    idler, total = storage * signal, 1 + storage * signal + background
    c2 = k * idler * (1 + signal)

    def information(x):
        noise = (x * idler + total) * (x * (1 + efficiency * idler) + efficiency * total)
        return 4 * efficiency * c2 * (1 + x) / noise

    found = minimize_scalar(lambda x: -information(x) / k, bounds=(1 / MOST_GAIN, 1e3), method="bounded")
    best = max(-found.fun * k, information(1 / MOST_GAIN))
    assert 8 * float(exponent(made.amplifier(k), jnp.asarray(1.0))) == pytest.approx(best, rel=2e-4)


@pytest.fixture(scope="module")
def counted():
    """(receiver, T, joint probabilities of both counts with and without the object) with losses of everything."""
    made, k, t = protocol(0.4, 0.3, idler_storage=0.7, efficiency=0.8), 0.5, 0.6
    joint = [
        np.asarray(number_distribution(entangled_return(0.8 * r, 0.4, 0.24, 0.56), 64)) for r in (k * t, 0.0, 1e-6)
    ]
    return made.coincidences(k), t, *joint


def test_coincidences_have_the_moments_of_the_joint_counts(counted):
    receiver, t, joint, _, _ = counted
    n, j = np.ogrid[:64, :64]
    weight = 0.4 + 1.4 * (j - 0.224) / 1.224
    y = (n - 0.24) * weight
    mean, variance = np.sum(joint * y), np.sum(joint * y**2) - np.sum(joint * y) ** 2
    assert float(receiver.shift(jnp.asarray(t))) == pytest.approx(mean, rel=1e-9)
    assert float(receiver.noise(jnp.asarray(t))) == pytest.approx(variance, rel=1e-9)


def test_coincidences_use_all_that_both_counts_know(counted):
    """Fisher information about k of the joint counts at k = 0, by their difference, is gain^2/noise."""
    receiver, _, _, without, little = counted
    seen = without > 1e-14
    slope = (little - without)[seen] / 1e-6
    expected = np.sum(slope**2 / without[seen])
    found = (receiver.coefficients()[1] / 0.5) ** 2 / receiver.noise(jnp.asarray(0.0))
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_fourth_cumulants_of_one_mode_pair(counted):
    """Geometric counts exactly; the correlation to a third, which it says, from the joint counts."""
    receiver, t, joint, _, _ = counted
    n, j = np.ogrid[:64, :64]
    y = (n - 0.24) * (0.4 + 1.4 * (j - 0.224) / 1.224)
    y, variance = y - np.sum(joint * y), float(receiver.noise(jnp.asarray(t)))
    fourth = np.sum(joint * y**4) - 3 * variance**2
    assert float(receiver.cumulants(jnp.asarray(t))[1]) == pytest.approx(fourth, rel=1 / 3)
    amplifier = protocol(0.4, 0.3).amplifier(0.5)
    mean = float(amplifier.dark + amplifier.shift(jnp.asarray(t)))
    excess = geom.stats(1 / (1 + mean), moments="k")
    noise, found = amplifier.cumulants(jnp.asarray(t))
    assert float(found) == pytest.approx(float(excess * noise**2), rel=1e-9)


def test_drawn_coincidences_have_the_joint_law(counted):
    """One mode pair at a time: y takes the values and the probabilities of the joint counts."""
    receiver, t, joint, _, _ = counted
    n, j = np.ogrid[:64, :64]
    values = np.round((n - 0.24) * (0.4 + 1.4 * (j - 0.224) / 1.224), 9)
    exact, where = np.unique(values, return_inverse=True)
    chance = np.maximum(np.bincount(where.ravel(), joint.ravel()), 0)
    trials = 200_000
    y, _ = receiver.draw(np.asarray(t), np.asarray(1.0), trials, np.random.default_rng(3))
    found = np.bincount(np.searchsorted(exact, y - 1e-6), minlength=len(exact))
    often = chance * trials > 20
    z = (found - trials * chance)[often] / np.sqrt(trials * chance * (1 - chance))[often]
    assert np.abs(z).max() < 4.5 and np.sum(z**2) < often.sum() + 4 * np.sqrt(2 * often.sum())
    other = Coincidences(receiver.signal, receiver.idler, receiver.background, receiver.reflectivity * 1.2)
    y, _ = other.draw(np.asarray(t), np.asarray(1.0), trials, np.random.default_rng(3))
    found = np.bincount(np.searchsorted(exact, y - 1e-6), minlength=len(exact))
    z = (found - trials * chance)[often] / np.sqrt(trials * chance * (1 - chance))[often]
    assert np.sum(z**2) > often.sum() + 10 * np.sqrt(2 * often.sum())


# --- information -----------------------------------------------------------------------------------------------


@once
def numeric_information(q, k, signal, background, storage):
    return quantum_fisher(lambda x: entangled_return(k * x[0] ** 2, signal, background, storage), q[None])[0, 0]


@pytest.mark.parametrize(
    "case",
    [(0.7, 0.1, 0.01, 20.0, 1.0), (0.6, 0.4, 0.7, 0.3, 0.8), (0.9, 0.4, 0.7, 1e-3, 1.0), (1e-3, 0.1, 0.3, 2.0, 0.5)],
)
def test_bound_of_the_image_is_the_quantum_fisher_information(case):
    t, k, signal, background, storage = (jnp.asarray(v) for v in case)
    found = protocol(signal, background, idler_storage=storage).entangled_information(k, t)
    expected = numeric_information(jnp.sqrt(t), k, signal, background, storage)
    assert float(found) == pytest.approx(float(expected), rel=1e-9)


def test_information_where_it_is_known():
    """Weak return: Sanz 2017; no background: a Fock state's N/(k T (1 - k T)) about k T; no receiver is better."""
    s, b = 0.2, 3.0
    weak = 4 * WEAK * s / (1 + b) / (1 + s / (1 + s) * b / (1 + b))
    assert float(protocol(s, b).entangled_information(WEAK, jnp.asarray(0.7))) == pytest.approx(weak, rel=1e-8)
    fock = 4 * 0.3 * 0.2 / (1 - 0.3 * 0.7)
    assert float(protocol(s, 0.0).entangled_information(0.3, jnp.asarray(0.7))) == pytest.approx(fock, rel=1e-8)
    for background in (0.01, 0.5, 20.0):
        made = protocol(s, background)
        assert 8 * made.exponents(WEAK).amplifier <= made.entangled_information(WEAK, jnp.asarray(1.0))
        assert made.homodyne(WEAK).information == made.coherent_information(WEAK)


def test_equal_information_is_equal_variance_at_every_transmission():
    """Photons in the ratio of F give the same variance of T, of an opaque superpixel too: the claim of the protocol."""
    made, k, t = protocol(), 1e-6, jnp.asarray(OBJECT)
    at = bench(1e9)
    shape = laws(made, at)["coherent return, homodyne"]
    ours, theirs = made.amplifier(k), made.homodyne(k)
    ratio = exponent(ours, jnp.asarray(1.0)) / exponent(theirs, jnp.asarray(1.0))
    mine = eqx.tree_at(lambda law: law.receiver, shape, ours).variance()
    other = eqx.tree_at(lambda law: (law.receiver, law.modes), shape, (theirs, shape.modes * ratio)).variance()
    np.testing.assert_allclose(mine, other, rtol=5e-3)
    assert float(ratio) == pytest.approx(10**0.2095, rel=5e-3)
    v = 1 / (theirs.information * shape.modes * ratio)
    np.testing.assert_allclose(other, 4 * t * v + 2 * v**2, rtol=1e-6)


# --- decisions -------------------------------------------------------------------------------------------------

DECIDED = {
    "homodyne": (lambda made: made.homodyne(0.05), 3000),
    "amplifier": (lambda made: made.amplifier(0.05), 4500),
    "coincidences": (lambda made: made.coincidences(0.05), 40_000),
}


@pytest.mark.parametrize("name", DECIDED)
def test_simulated_decisions_fail_as_often_as_told(name):
    """M mode pairs, exact statistics drawn: wrong decisions against erfc(sqrt(M xi))/2; another M does not fit."""
    make, modes = DECIDED[name]
    made, trials, t = protocol(0.1, 2.0, efficiency=0.9, idler_storage=0.9), 40_000, jnp.asarray(0.8)
    receiver = make(made)
    alarms, misses = wrong_decisions(receiver, t, float(modes), trials, key=jax.random.key(5))
    p = float(error_probability(receiver, t, modes))
    assert 0.02 < p < 0.35
    error = np.sqrt(p * (1 - p) / (2 * trials))
    assert abs((alarms + misses) / (2 * trials) - p) < 4 * error
    assert max(abs(alarms / trials - p), abs(misses / trials - p)) < 4 * np.sqrt(2) * error  # no side is favoured
    for other in (0.9, 1.1):
        assert abs((alarms + misses) / (2 * trials) - float(error_probability(receiver, t, other * modes))) > 4 * error


def test_error_probability_of_the_amplifier_is_that_of_negative_binomial_counts():
    """The best threshold on the exact law of M counts; the Chernoff bound exp(-M xi)/2 is above both."""
    receiver, modes = protocol(0.1, 2.0).amplifier(0.05), 6000
    n0 = float(receiver.dark)
    n1 = n0 + float(receiver.shift(jnp.asarray(1.0)))
    threshold = np.arange(20 * modes)
    errors = (nbinom.sf(threshold, modes, 1 / (1 + n0)) + nbinom.cdf(threshold, modes, 1 / (1 + n1))) / 2
    found = float(error_probability(receiver, jnp.asarray(1.0), modes))
    assert found == pytest.approx(errors.min(), rel=5e-3)
    assert found < np.exp(-modes * float(exponent(receiver, jnp.asarray(1.0)))) / 2


# --- the image -------------------------------------------------------------------------------------------------

EXPOSURES = 20_000
DRAWN = protocol(0.2, 1.5, 0.3, 0.9, 0.8)


@pytest.fixture(scope="module")
def drawn():
    """Every arm's law and exposures; some 1500 mode pairs, amplitudes of good and of poor signal to noise."""
    return {name: (law, law.draw(EXPOSURES, key=jax.random.key(7))) for name, law in laws(DRAWN, bench(2000.0)).items()}


@pytest.mark.parametrize("name", NAMES)
def test_drawn_estimates_have_the_law(drawn, name):
    """Means and variances by z-score, an opaque superpixel included; half a standard error of the law does not fit."""
    law, exposures = drawn[name]
    assert exposures.estimates.shape == (EXPOSURES, *OBJECT.shape) == exposures.counts.shape
    np.testing.assert_array_equal(law.mean(), OBJECT)
    assert np.abs(scores(exposures.estimates, OBJECT)).max() < 4
    off = (exposures.estimates - exposures.estimates.mean(axis=0)) ** 2
    assert np.abs(scores(off, np.asarray(law.variance()))).max() < 4.5
    wrong = eqx.tree_at(lambda law: law.modes, law, law.modes * 1.1)
    assert np.abs(scores(off, np.asarray(wrong.variance()))).max() > 6
    np.testing.assert_array_equal(law.covariance().toarray(), np.diag(np.asarray(law.variance()).ravel()))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_fourth_cumulant_is_that_of_the_spread_of_squares(drawn, name):
    """Var sum_a e_a (T_a - <T_a>)^2 = sum_a e_a^2 (kappa_4 + 2 Var^2): to the error of 20 000 squares."""
    law, exposures = drawn[name]
    energy = np.array([1.0, 0.5, 2.0, 0.7, 1.5, 0.9]) / np.asarray(law.variance()).ravel()
    squares = np.sum(energy * ((exposures.estimates - OBJECT) ** 2).reshape(EXPOSURES, -1), axis=1)
    normal = 2 * np.sum((energy * np.asarray(law.variance()).ravel()) ** 2)
    expected = normal + law.fourth(energy)
    assert law.fourth(energy) > 0.02 * normal
    spread = (squares - squares.mean()) ** 2
    assert abs(float(scores(spread, expected))) < 4


def test_advantage_of_an_image_is_the_ratio_of_information():
    """Bright enough: costs of homodyne detection over those of each receiver; coincidences are far behind."""
    made = protocol(efficiency=0.9)
    found = laws(made, bench(1e10))
    cost = {name: np.sum(IDLER * np.asarray(law.variance())) for name, law in found.items()}
    classical = cost["coherent return, bound"]
    assert classical / cost["illumination, bound"] == pytest.approx(1.934, rel=3e-3)  # Sanz 2017
    # without loss 10^0.21 = 1.62; its counts are few, so that it loses what its counters lose
    assert classical / cost["illumination, amplifier"] == pytest.approx(0.9 * 1.62, rel=0.03)
    assert classical / cost["illumination, coincidences"] < 0.02
    assert 0.99 < classical / cost["coherent return, homodyne"] < 1


def test_ledger():
    at = bench(5000.0)
    made = protocol(0.2, 1.5, 0.3, 0.9, 0.8, 2e9)
    k = 0.3 * float(two_way(TISSUE))
    for name, law in laws(made, at).items():
        quantum, bound = name.startswith("illumination"), "bound" in name
        eta = 1.0 if bound else 0.8
        assert law.ledger.incident == 5000
        photon = 6.62607015e-34 * 299792458 / 810e-9
        assert float(law.ledger.pump) == pytest.approx(1.5e-8 if quantum else photon * 5000 / 0.8, rel=1e-9)
        assert float(law.ledger.detected) == pytest.approx(eta * k * 5000 * np.sum(OBJECT * IDLER), rel=1e-12)
        assert float(law.ledger.time) == pytest.approx(5000 * IDLER.sum() / 0.2 / 2e9, rel=1e-12)
        np.testing.assert_allclose(law.modes, 5000 * IDLER / 0.2, rtol=1e-12)


def test_unscattered_light_crosses_what_lies_above_twice():
    """The first layer and 25 um of the second; the surface and the interface, both ways."""
    surface, inside = (1 - 0.33**2 / 2.33**2), (1 - 0.07**2 / 2.73**2)
    depth = 30e-6 * (10 + 4000) + 25e-6 * (20 + 7000)
    assert float(two_way(TISSUE)) == pytest.approx((surface * inside * np.exp(-depth)) ** 2, rel=1e-12)


def test_facts():
    made = protocol()
    at = bench(1e6)
    facts = made.facts(at)
    k = 0.1 * float(two_way(TISSUE))
    assert float(facts["received"][0]) == pytest.approx(k, rel=1e-12)
    assert float(facts["mode_pairs"][0]) == pytest.approx(1e8 * IDLER.mean(), rel=1e-12)
    assert (
        float(facts["dwell_time"][0]) == pytest.approx(1e-4 * IDLER.mean(), rel=1e-12) and facts["dwell_time"][1] == "s"
    )
    assert 10 * np.log10(float(facts["exponent_bound"][0])) == pytest.approx(5.11, abs=5e-3)
    assert float(facts["information_bound"][0]) == pytest.approx(10**0.2876, rel=3e-3)
    assert 0 < facts["error_probability_amplifier"][0] < facts["error_probability_homodyne"][0] < 0.5


# --- derivatives and input ---------------------------------------------------------------------------------------


def test_gradients_of_every_field():
    names = [*parameters(DRAWN)]
    start = jnp.asarray([float(getattr(DRAWN, name)) for name in names])

    def read(x):
        made = QuantumIllumination(*(x * start))
        found = [jnp.log(law.variance()).ravel() for law in plain_laws(made, bench(2000.0)).values()]
        time = jnp.log(made.arms()[0].law(bench(2000.0)).ledger.time)[None]
        return jnp.concatenate([*found, time, jnp.log(jnp.stack(made.exponents(x[2] * start[2])))])

    check_slopes(read, jnp.full(len(names), 0.9), rtol=1e-5)


def test_one_compilation_serves_all_values():
    runs = []

    @jax.jit
    def cost(signal, background):
        runs.append(1)
        made = eqx.tree_at(lambda p: (p.signal, p.background), DRAWN, (signal, background))
        found = plain_laws(made, bench(2000.0))
        return jnp.stack([jnp.sum(found[name].variance()) for name in NAMES])

    signals, backgrounds = jnp.asarray([0.2, 0.05]), jnp.asarray([1.5, 3.0])
    both = jnp.stack([cost(s, b) for s, b in zip(signals, backgrounds, strict=True)])
    assert len(runs) == 1
    made = laws(DRAWN, bench(2000.0))
    plain = [float(jnp.sum(made[name].variance())) for name in NAMES]
    np.testing.assert_allclose(both[0], plain, rtol=1e-12)
    np.testing.assert_allclose(jax.vmap(cost)(signals, backgrounds), both, rtol=1e-12)


def test_same_key_same_exposures():
    law = laws(DRAWN, bench(2000.0))["illumination, coincidences"]
    first, again, other = (law.draw(2, key=jax.random.key(s)).estimates for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_configuration_builds():
    node = OmegaConf.to_container(OmegaConf.load(find_conf() / "estimator" / "quantum_illumination.yaml"))
    made = build(node["quantum_illumination"] | {"_target_": f"{QuantumIllumination.__module__}.QuantumIllumination"})
    assert made.bandwidth == 1e12 and made.signal == 0.01 and made.background == 20
    assert {*node["quantum_illumination"]["reference"]} == {*parameters(made)}
    assert [arm.name for arm in made.arms()] == NAMES and len(made.limits) == 3


def test_bad_input_is_named():
    with pytest.raises(FieldError, match="idler_storage: got 0"):
        protocol(idler_storage=0.0)
    with pytest.raises(FieldError, match=r"signal: got 3 per mode, but no superpixel gets more than 1\.5 photons"):
        plain_laws(protocol(3.0), bench(5.0))
    thick = Slab("20 mm", "5 mm", "5 1/m", "10 1/mm", 0.9, 1.4)
    with pytest.raises(UserError, match=r"tissue: 3.* of the light comes back from the object unscattered"):
        plain_laws(protocol(), bench(1e6, tissue=thick))


def test_normal_statistics_are_what_they_say():
    receiver = Normal(jnp.asarray(0.04))
    y, counted = receiver.draw(np.asarray(0.36), 100.0, 50_000, np.random.default_rng(1))
    assert counted is None and abs(float(scores(y, 0.6))) < 4
    assert abs(float(scores((y - 0.6) ** 2, 0.25))) < 4
