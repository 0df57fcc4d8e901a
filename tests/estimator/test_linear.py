"""Estimator, its variance and its gains: against thinned exposures and closed forms."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qtwin.correlation import Coincidence
from qtwin.detector import Camera, SinglePhoton
from qtwin.estimator import direct, ghost, twin_beams
from qtwin.estimator.linear import (
    Calibration,
    Records,
    covariance,
    estimate,
    mean,
    moved,
    optimal_k,
    thin,
    uncorrelated,
    variance,
)
from qtwin.estimator.setting import Setting
from qtwin.optics import FarField

N, EXPOSURES = 4, 8_000
OFFSETS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
T = 0.95


def asymmetric_records() -> Records:
    """Pairs that prefer some neighbours over others, differently in every superpixel; y is fed from outside too."""
    rng = np.random.default_rng(111)
    joint = (
        rng.uniform(0.1, 1.0, (3, 3, N, N)) * np.array([[0.2, 1, 3], [0.5, 6, 2], [0.1, 0.7, 1.5]])[:, :, None, None]
    )
    x = joint.sum(axis=(0, 1)) + rng.uniform(0.5, 3, (N, N))
    y = np.full((N, N), 40.0) + rng.uniform(0, 3, (N, N))
    return Records(*(jnp.asarray(a) for a in (x, y, joint, 1.7, 1.7)))


def asymmetric_calibration() -> Calibration:
    rng = np.random.default_rng(112)
    parts = (
        rng.uniform(0.2, 1, (N, N)),
        rng.uniform(30, 45, (N, N)),
        rng.uniform(12, 20, (N, N)),
        rng.uniform(0.2, 0.9, (N, N)),
    )
    return Calibration(*(jnp.asarray(a) for a in parts))


@pytest.fixture(scope="module")
def exposures():
    records = asymmetric_records()
    return records, *(np.asarray(a) for a in thin(records, EXPOSURES, key=jax.random.key(113)))


def pair_scores(a, b, expected):
    """z of the covariance of a and b [K, n, n], superpixel by superpixel."""
    products = (a - a.mean(axis=0)) * (b - b.mean(axis=0))
    return (products.mean(axis=0) - expected) / (products.std(axis=0) / np.sqrt(len(a)))


def within(dy, dx):
    """Superpixels whose neighbour (dy, dx) exists, and those neighbours."""
    here = np.s_[max(0, -dy) : N - max(0, dy), max(0, -dx) : N - max(0, dx)]
    there = np.s_[max(0, dy) : N + min(0, dy), max(0, dx) : N + min(0, dx)]
    return here, there


def test_moved_brings_the_neighbour():
    image = jnp.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(moved(image, 1, 0)[0], image[1])
    np.testing.assert_array_equal(moved(image, 0, -1)[:, 1:], image[:, :-1])
    np.testing.assert_array_equal(moved(image, 0, -1)[:, 0], 0)


# --- thinning --------------------------------------------------------------------------------------------------


def test_thinned_means(exposures):
    records, x, y = exposures
    for counts, expected in ((x, records.x), (y, records.y)):
        scores = (counts.mean(axis=0) - np.asarray(expected)) / (counts.std(axis=0) / np.sqrt(EXPOSURES))
        assert np.abs(scores).max() < 4


def test_thinned_variances_are_poisson_and_read_noise(exposures):
    records, x, y = exposures
    for counts, expected in ((x, records.x), (y, records.y)):
        assert np.abs(pair_scores(counts, counts, np.asarray(expected) + 1.7)).max() < 4


@pytest.mark.parametrize(("dy", "dx"), OFFSETS)
def test_thinned_covariance_is_the_joint_mean(exposures, dy, dx):
    """Cov(x here, y at (dy, dx)); the table of the opposite offset does not fit."""
    records, x, y = exposures
    here, there = within(dy, dx)
    expected = np.asarray(records.joint)[1 + dy, 1 + dx][here]
    scores = pair_scores(x[(slice(None), *here)], y[(slice(None), *there)], expected)
    assert np.abs(scores).max() < 4.5
    if (dy, dx) != (0, 0):
        flipped = np.asarray(records.joint)[1 - dy, 1 - dx][here]
        wrong = pair_scores(x[(slice(None), *here)], y[(slice(None), *there)], flipped)
        assert np.sum(wrong**2) > 2 * np.sum(scores**2)


def test_thinned_signals_of_neighbours_are_independent(exposures):
    _, x, y = exposures
    for counts in (x, y):
        assert np.abs(pair_scores(counts[:, :, 1:], counts[:, :, :-1], 0)).max() < 4
        assert np.abs(pair_scores(counts[:, 1:], counts[:, :-1], 0)).max() < 4


def test_thinning_has_no_hidden_state(exposures):
    records, x, y = exposures
    again, other = (thin(records, EXPOSURES, key=jax.random.key(s)) for s in (113, 0))
    np.testing.assert_array_equal(again[0], x)
    np.testing.assert_array_equal(again[1], y)
    assert not np.array_equal(other[0], x)


# --- estimate --------------------------------------------------------------------------------------------------


def test_mean_and_variance_of_the_estimate(exposures):
    records, x, y = exposures
    cal = asymmetric_calibration()
    t = np.asarray(estimate(jnp.asarray(x), jnp.asarray(y), cal))
    scores = (t.mean(axis=0) - np.asarray(mean(records, cal))) / (t.std(axis=0) / np.sqrt(EXPOSURES))
    assert np.abs(scores).max() < 4
    assert np.abs(pair_scores(t, t, np.asarray(variance(records, cal)))).max() < 4


@pytest.mark.parametrize(("dy", "dx"), OFFSETS)
def test_covariance_of_neighbouring_estimates(exposures, dy, dx):
    records, x, y = exposures
    cal = asymmetric_calibration()
    t = np.asarray(estimate(jnp.asarray(x), jnp.asarray(y), cal))
    here, there = within(dy, dx)
    expected = np.asarray(covariance(records, cal))[1 + dy, 1 + dx]
    assert np.abs(pair_scores(t[(slice(None), *here)], t[(slice(None), *there)], expected[here])).max() < 4.5
    outside = np.ones((N, N), bool)
    outside[here] = False
    np.testing.assert_array_equal(expected[outside], 0)


def test_covariance_is_symmetric():
    stencil = np.asarray(covariance(asymmetric_records(), asymmetric_calibration()))
    for dy, dx in OFFSETS:
        here, there = within(dy, dx)
        np.testing.assert_allclose(stencil[1 + dy, 1 + dx][here], stencil[1 - dy, 1 - dx][there], rtol=1e-12)


def test_optimal_k_minimises_the_variance():
    records, cal = asymmetric_records(), asymmetric_calibration()
    best = cal._replace(k=optimal_k(records.joint[1, 1], records.y + records.noise_y))
    slope = jax.grad(lambda k: jnp.sum(variance(records, cal._replace(k=k)) * cal.gain**2))(best.k)
    np.testing.assert_allclose(slope, 0, atol=1e-10)
    for step in (-0.01, 0.01):
        assert np.all(variance(records, best._replace(k=best.k + step)) > variance(records, best))
    assert np.all(variance(records, best) < variance(records, best._replace(k=jnp.zeros((N, N)))))


def test_single_beam_is_shot_noise():
    x = jnp.asarray([[10.0, 40.0]])
    nothing = jnp.zeros_like(x)
    records, cal = uncorrelated(x, 6.0), Calibration(nothing + 2, nothing, nothing + 50, nothing)
    np.testing.assert_allclose(variance(records, cal), [[16 / 2500, 46 / 2500]], rtol=1e-12)
    np.testing.assert_allclose(mean(records, cal), [[8 / 50, 38 / 50]], rtol=1e-12)


# --- gains over the direct image of the same detector, one superpixel, partners always meet ---------------------


def one(value):
    return jnp.full((1, 1), float(value))


def one_to_one(t, eta_s, eta_i, incident=1000.0, dark=0.0):
    """(records, clear-object gain) of Poisson pairs, each idler in the superpixel of its signal."""
    joint = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(eta_s * eta_i * t * incident)
    x, y = one(eta_s * t * incident + dark), one(eta_i * incident + dark)
    return Records(x, y, joint, jnp.asarray(0.0), jnp.asarray(0.0)), one(eta_s * incident)


def gain_over_direct(k, t=T, eta_s=0.5, eta_i=0.5, dark=0.0, dark_direct=0.0, incident=1000.0):
    """Var(direct)/Var(twin beams) at the same photons on the sample."""
    records, clear = one_to_one(t, eta_s, eta_i, incident, dark)
    cal = Calibration(one(dark), records.y, clear, one(k))
    alone = uncorrelated(one(eta_s * t * incident + dark_direct))
    other = Calibration(one(dark_direct), one(0), clear, one(0))
    assert float(mean(records, cal)[0, 0]) == pytest.approx(t) == float(mean(alone, other)[0, 0])
    return float((variance(alone, other) / variance(records, cal))[0, 0])


def best_k(eta_s, eta_i, t):
    """k of the object itself; for small absorption that of the clear one is the same."""
    records, _ = one_to_one(t, eta_s, eta_i)
    return float(optimal_k(records.joint[1, 1], records.y)[0, 0])


@pytest.mark.parametrize(("eta", "naive", "optimal"), [(0.5, 0.950, 1.311), (0.9, 3.958, 4.338)])
def test_gains_of_equal_arms(eta, naive, optimal):
    """T = 0.95: naive subtraction as alpha-estimator with matched arms, and 1/[1 - eta_s eta_i T] at the optimum.

    The naive number is that of n2 - n1 with both means equal: Var = [alpha + 2 (1 - eta)(1 - alpha)]/N.
    """
    assert gain_over_direct(1.0, eta_s=eta, eta_i=eta) == pytest.approx(naive, abs=5e-4)
    assert gain_over_direct(best_k(eta, eta, T), eta_s=eta, eta_i=eta) == pytest.approx(optimal, abs=5e-4)


@pytest.mark.parametrize("t", [0.6, 0.8, 0.95, 1.0])
def test_naive_subtraction_breaks_even_at_half_over_t(t):
    even = 1 / (2 * t)
    assert gain_over_direct(1.0, t, even, even) == pytest.approx(1, rel=1e-12)
    assert gain_over_direct(1.0, t, even - 0.05, even - 0.05) < 1 < gain_over_direct(1.0, t, even + 0.05, even + 0.05)


@pytest.mark.parametrize(("t", "eta_s", "eta_i"), [(0.95, 0.7, 0.4), (0.3, 0.9, 0.8), (1.0, 0.2, 0.99)])
def test_optimal_subtraction_always_wins(t, eta_s, eta_i):
    found = gain_over_direct(best_k(eta_s, eta_i, t), t, eta_s, eta_i)
    assert found == pytest.approx(1 / (1 - eta_s * eta_i * t), rel=1e-12) and found > 1


@pytest.mark.parametrize(("both", "expected"), [(True, 1.231), (False, 1.600)])
def test_gain_with_background_of_the_signals_mean(both, expected):
    """eta 0.9, T 0.95; as many background counts as a clear object gives, in both arms and in the direct image, or
    not in the idler: k at its optimum with that background."""
    eta, incident = 0.9, 1000.0
    light, background = eta * T * incident, eta * incident
    y = eta * incident + (background if both else 0)
    joint = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(eta * eta * T * incident)
    records = Records(one(light + background), one(y), joint, jnp.asarray(0.0), jnp.asarray(0.0))
    k = optimal_k(records.joint[1, 1], records.y)
    cal = Calibration(one(background), records.y, one(eta * incident), k)
    alone = uncorrelated(one(light + background))
    other = Calibration(one(background), one(0), one(eta * incident), one(0))
    found = float((variance(alone, other) / variance(records, cal))[0, 0])
    assert found == pytest.approx(expected, abs=5e-4)


# --- ghost image: gross coincidences x, array clicks y; every coincidence is one click of the array --------------


def ghost_records(t, eta_s, eta_i, accidental=0.0, incident=1000.0):
    c = eta_s * eta_i * t * incident + accidental
    joint = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(c)
    return Records(one(c), one(eta_i * incident), joint, jnp.asarray(0.0), jnp.asarray(0.0)), one(
        eta_s * eta_i * incident
    )


def against_direct(records, cal, t, eta_s, incident=1000.0):
    direct_variance = t / (eta_s * incident)
    return direct_variance / float(variance(records, cal)[0, 0])


@pytest.mark.parametrize(("t", "eta_s", "eta_i"), [(0.95, 0.6, 0.6), (0.5, 0.9, 0.3)])
def test_coincidences_alone_gain_the_idler_efficiency(t, eta_s, eta_i):
    records, gain = ghost_records(t, eta_s, eta_i)
    cal = Calibration(one(0), records.y, gain, one(0))
    assert against_direct(records, cal, t, eta_s) == pytest.approx(eta_i, rel=1e-12)


@pytest.mark.parametrize(("t", "eta_s", "eta_i"), [(0.95, 0.6, 0.6), (0.5, 0.9, 0.3), (0.95, 0.9, 0.9)])
def test_unused_idlers_restore_the_gain(t, eta_s, eta_i):
    """With the idler clicks that have no coincidence: the binomial variance, gain eta_i/(1 - eta_s T)."""
    records, gain = ghost_records(t, eta_s, eta_i)
    cal = Calibration(one(0), records.y, gain, one(eta_s * t))  # k = C/y of the object itself
    assert against_direct(records, cal, t, eta_s) == pytest.approx(eta_i / (1 - eta_s * t), rel=1e-12)
    slope = jax.grad(lambda k: variance(records, cal._replace(k=one(1) * k))[0, 0])(eta_s * t)
    assert float(slope) == pytest.approx(0, abs=1e-12)  # the best k there is


@pytest.mark.parametrize("accidental", [0.0, 25.0, 400.0])
def test_snr_of_coincidences(accidental):
    """SNR = (C - A)/sqrt(C + v): A known (v = 0), or measured once in a delayed window (v = A)."""
    t, eta_s, eta_i = 0.9, 0.5, 0.4
    records, gain = ghost_records(t, eta_s, eta_i, accidental)
    true = eta_s * eta_i * t * 1000
    cal = Calibration(one(accidental), records.y, gain, one(0))
    snr = float(mean(records, cal)[0, 0] / jnp.sqrt(variance(records, cal)[0, 0]))
    assert snr == pytest.approx(true / np.sqrt(true + accidental), rel=1e-12)
    measured = records._replace(noise_x=jnp.asarray(accidental))
    snr = float(mean(measured, cal)[0, 0] / jnp.sqrt(variance(measured, cal)[0, 0]))
    assert snr == pytest.approx(true / np.sqrt(true + 2 * accidental), rel=1e-12)


# --- the protocols build these records -------------------------------------------------------------------------


def optics():
    return FarField(
        focal_length=0.1,
        numerical_aperture=0.4,
        pitch=1e-4,
        illumination_transmission=0.9,
        collection_transmission=0.8,
        idler_transmission=0.7,
        pixels=2,
    )


class _Images(eqx.Module):
    """The fields of `Images` that the protocols read."""

    direct: jax.Array
    direct_open: jax.Array
    joint: jax.Array
    joint_open: jax.Array
    ghost: jax.Array
    ghost_open: jax.Array
    accepted: jax.Array


@pytest.fixture
def images():
    clear, seen = jnp.asarray([[0.01, 0.02], [0.03, 0.04]]), jnp.asarray([[0.9, 0.5], [0.7, 1.0]])
    joint = jnp.zeros((3, 3, 2, 2)).at[1, 1].set(clear * seen * 0.6).at[1, 2].set(clear * seen * 0.1)
    return _Images(clear * seen, clear, joint, clear * 0.6, clear * seen * 0.9, clear * 0.9, jnp.asarray(0.8))


IDLER = jnp.asarray([[0.015, 0.025], [0.035, 0.045]])
SETTING = Setting(*(jnp.asarray(v) for v in (9e5, 1e6, 0.02)))


def test_twin_beams_records(images):
    """eta_s = 0.9 * 0.8 and eta_i = 0.9 * 0.7; 3 dark electrons per second for 20 ms; read noise 2."""
    camera = Camera(efficiency=0.9, read_noise=2.0, dark_rate=3.0, full_well=1e6)
    records = twin_beams.expect(images, IDLER, SETTING, optics(), camera)
    np.testing.assert_allclose(records.x, 0.72 * 9e5 * images.direct + 0.06, rtol=1e-12)
    np.testing.assert_allclose(records.y, 0.63 * 1e6 * IDLER + 0.06, rtol=1e-12)
    np.testing.assert_allclose(records.joint, 0.72 * 0.63 * 9e5 * images.joint, rtol=1e-12)
    np.testing.assert_allclose(records.noise_x, 4, rtol=1e-9)
    cal = twin_beams.calibration(
        images, IDLER, SETTING, optics(), camera, "optimal", images.direct / images.direct_open
    )
    k = 0.72 * 0.63 * 9e5 * np.asarray(images.joint_open) / (np.asarray(records.y) + 4)
    k = k * np.asarray(images.direct / images.direct_open)
    np.testing.assert_allclose(cal.k, k, rtol=1e-12)
    np.testing.assert_allclose(mean(records, cal), images.direct / images.direct_open, rtol=1e-9)  # unbiased
    naive = twin_beams.calibration(images, IDLER, SETTING, optics(), camera, "naive", 1.0)
    np.testing.assert_array_equal(naive.k, 1)
    np.testing.assert_allclose(mean(records, naive), images.direct / images.direct_open, rtol=1e-9)


@pytest.mark.parametrize(
    "detector",
    [
        None,
        Camera(efficiency=0.9, read_noise=2.0, dark_rate=3.0, full_well=1e6),
        SinglePhoton(efficiency=0.6, dark_rate=500.0, dead_time=1e-7, jitter=0.0),
    ],
    ids=["ideal", "camera", "single photon"],
)
def test_direct_image_is_unbiased_shot_noise(images, detector):
    records, cal = direct.expect(images, SETTING, optics(), detector)
    np.testing.assert_allclose(mean(records, cal), images.direct / images.direct_open, rtol=1e-9)
    np.testing.assert_array_equal(cal.k, 0)
    light = 9e5 * np.asarray(images.direct)
    if detector is None:
        np.testing.assert_allclose(records.x, light, rtol=1e-12)
    elif isinstance(detector, Camera):
        np.testing.assert_allclose(records.x, 0.72 * light + 0.06, rtol=1e-12)
        np.testing.assert_allclose(records.noise_x, 4, rtol=1e-9)
    else:
        events = 0.48 * light + 10
        np.testing.assert_allclose(records.x, events / (1 + events / 0.02 * 1e-7), rtol=1e-12)


@pytest.mark.parametrize("dead_time", [0.0, 2e-8])
def test_ghost_image_is_unbiased_and_its_coincidences_are_array_clicks(images, dead_time):
    device = SinglePhoton(efficiency=0.6, dark_rate=500.0, dead_time=dead_time, jitter=1e-10)
    gate = Coincidence(window=1e-9)
    records = ghost.expect(images, IDLER, SETTING, optics(), device, gate)
    np.testing.assert_array_equal(records.joint[1, 1], records.x)
    for k in ("coincidences", "ratio"):
        cal = ghost.calibration(images, IDLER, SETTING, optics(), device, gate, k, images.ghost / images.ghost_open)
        np.testing.assert_allclose(mean(records, cal), images.ghost / images.ghost_open, rtol=1e-9)
    if dead_time == 0:
        light = 0.8 - 0.9 * float(jnp.sum(images.direct_open - images.direct))
        bucket = 0.6 * 0.8 * 9e5 * light + 10
        array = 0.6 * 0.7 * 1e6 * np.asarray(IDLER) + 10
        capture = float(gate.capture(jnp.asarray(1e-10), jnp.asarray(1e-10)))
        pairs = 0.36 * 0.8 * 0.7 * 9e5 * np.asarray(images.ghost) * capture
        np.testing.assert_allclose(records.y, array, rtol=1e-12)
        np.testing.assert_allclose(records.x, pairs + bucket * array * 1e-9 / 0.02, rtol=1e-12)
