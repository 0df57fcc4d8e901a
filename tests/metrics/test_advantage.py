"""The interval of the advantage: does it cover? And what it is made of."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from qtwin.core.errors import UserError
from qtwin.estimator.linear import Calibration, LinearLaw, Records, optimal_k, uncorrelated
from qtwin.estimator.protocol import Ledger
from qtwin.metrics.advantage import Cost, Interval, advantage, pooled_cost, pooling, smoothing, verdict

N, REPEATS = 8, 8000
KERNEL = np.array([[0.0, 0.02, 0.01], [0.05, 0.7, 0.12], [0.02, 0.06, 0.02]])

NO_LEDGER = Ledger(*(jnp.zeros(()),) * 4)


def arms(photons, split=0.0):
    """(records, calibration) of twin beams with the best k, and of the direct image at the same photons.

    Superpixels are unequally bright, the object is off-centre; a part ``split`` of the pairs lands one column on.
    """
    y, x = np.mgrid[:N, :N]
    light = photons * np.exp(-((x - 2.5) ** 2 + (y - 4.2) ** 2) / 60)
    t = np.where((x - 5) ** 2 + (y - 2) ** 2 < 5, 0.7, 0.97)
    eta, pairs = 0.8, 0.8 * 0.8 * light * t
    joint = np.zeros((3, 3, N, N))
    joint[1, 1], joint[1, 2, :, :-1] = (1 - split) * pairs, split * pairs[:, :-1]
    records = Records(
        jnp.asarray(eta * light * t),
        jnp.asarray(eta * light * 1.1),
        jnp.asarray(joint),
        jnp.asarray(0.0),
        jnp.asarray(0.0),
    )
    nothing = jnp.zeros((N, N))
    gain = jnp.asarray(eta * light)
    quantum = Calibration(nothing, records.y, gain, optimal_k(records.joint[1, 1], records.y))
    return (records, quantum), (uncorrelated(records.x), Calibration(nothing, nothing, gain, nothing)), light / N**2


def drawn(records, cal, shape, rng):
    """Estimates [*shape, N, N]: pairs drawn once and counted in both records, the rest of each apart."""
    size = (*shape, N, N)
    both, aside = (rng.poisson(np.asarray(records.joint[1, i]), size) for i in (1, 2))
    landed = both.copy()
    landed[..., 1:] += aside[..., :-1]
    arrived = np.asarray(records.joint[1, 1]).copy()
    arrived[:, 1:] += np.asarray(records.joint[1, 2])[:, :-1]
    taken = np.asarray(records.joint).sum(axis=(0, 1))
    x = both + aside + rng.poisson(np.asarray(records.x) - taken, size)
    y = landed + rng.poisson(np.maximum(np.asarray(records.y) - arrived, 0), size)
    return (x - np.asarray(cal.background) - np.asarray(cal.k) * (y - np.asarray(cal.idler))) / np.asarray(cal.gain)


def smoothed(estimates, matrix):
    flat = estimates.reshape(-1, N * N)
    return (matrix @ flat.T).T.reshape(estimates.shape)


def compared(photons, exposures, seed, split=0.0, kernel=None, common=0.0, repeats=REPEATS):
    """Intervals of ``repeats`` comparisons, and the advantage that is true."""
    rng = np.random.default_rng(seed)
    *both, weights = arms(photons, split)
    matrix = smoothing(kernel, N)
    costs, true = [], []
    for records, cal in both:
        law = pooling(LinearLaw(NO_LEDGER, records, cal), weights, matrix)
        parts = []
        for _ in range(4):
            estimates = drawn(records, cal, (repeats // 4, exposures), rng)
            parts.append(pooled_cost(smoothed(estimates, matrix) if kernel is not None else estimates, weights, law))
        costs.append(Cost(np.concatenate([p.value for p in parts]), parts[0].dof))
        true.append(law.mean)
    quantum, classical = costs
    shared = np.exp(common * rng.standard_normal(repeats))
    found = advantage(classical._replace(value=classical.value * shared), quantum, common)
    return found, true[1] / true[0]


def coverage(interval, true):
    return np.mean((interval.low < true) & (true < interval.high))


# --- coverage: its standard error is 0.0024 --------------------------------------------------------------------


@pytest.mark.parametrize(("exposures", "seed"), [(5, 121), (20, 122)])
def test_interval_covers(exposures, seed):
    interval, true = compared(200.0, exposures, seed, split=0.2)
    assert 0.94 < coverage(interval, true) < 0.96
    assert true > 1.2  # quantum light wins here
    assert coverage(interval, 1.3 * true) < 0.9  # a wrong advantage is noticed


def test_interval_covers_at_low_counts():
    """About one photon per superpixel and exposure: the fourth cumulant of the counts matters."""
    interval, true = compared(1.2, 10, 123)
    assert 0.94 < coverage(interval, true) < 0.96


def test_interval_covers_smoothed_images():
    interval, true = compared(60.0, 5, 124, kernel=KERNEL)
    assert 0.94 < coverage(interval, true) < 0.96


def test_interval_covers_an_error_that_all_exposures_share():
    """A normal error of 20 % on the logarithm, as the walk makes one."""
    interval, true = compared(60.0, 10, 125, common=0.2)
    assert 0.94 < coverage(interval, true) < 0.96


def test_interval_without_the_shared_error_does_not_cover():
    interval, true = compared(60.0, 10, 125, common=0.2, repeats=2000)
    bare = advantage(Cost(interval.value, _dofs(60.0, 10)[1]), Cost(1.0, _dofs(60.0, 10)[0]))
    assert coverage(bare, true) < 0.9


def _dofs(photons, exposures):
    *both, weights = arms(photons)
    laws = [pooling(LinearLaw(NO_LEDGER, r, c), weights, smoothing(None, N)) for r, c in both]
    return [2 / (2 / ((exposures - 1) * law.dof) + law.excess / exposures) for law in laws]


def test_standard_error_is_the_scatter():
    interval, true = compared(200.0, 20, 126, repeats=4000)
    scatter = np.std(interval.value)
    assert abs(np.mean(interval.stderr) / scatter - 1) / np.sqrt(1 / (2 * 4000)) < 4
    assert abs(np.mean(np.log(interval.value)) - np.log(true)) / (scatter / true / np.sqrt(4000)) < 4


# --- the law of the pooled deviation ---------------------------------------------------------------------------


@pytest.mark.parametrize(("photons", "kernel"), [(1.5, None), (80.0, KERNEL), (1.5, KERNEL)])
def test_pooling_is_the_mean_and_variance_of_the_pooled_deviation(photons, kernel):
    rng = np.random.default_rng(127)
    *both, weights = arms(photons)
    matrix = smoothing(kernel, N)
    for records, cal in both:
        law = pooling(LinearLaw(NO_LEDGER, records, cal), weights, matrix)
        deviation = drawn(records, cal, (60_000,), rng)
        truth = (np.asarray(records.x) / np.asarray(cal.gain))[None]
        q = np.sum(weights * smoothed(deviation - truth, matrix) ** 2, axis=(-2, -1)) / law.mean
        assert abs(q.mean() - 1) / (q.std() / np.sqrt(q.size)) < 4
        square = (q - 1) ** 2
        expected = 2 / law.dof + law.excess
        assert abs(square.mean() - expected) / (square.std() / np.sqrt(q.size)) < 4
        if photons < 10 and kernel is None:  # without the fourth cumulants it is not the variance
            assert abs(square.mean() - 2 / law.dof) / (square.std() / np.sqrt(q.size)) > 4


def test_pooling_of_equal_independent_superpixels():
    """N^2 normal superpixels are worth N^2 degrees of freedom; the excess of Poisson counts is 1/(N^2 mean)."""
    x, nothing = jnp.full((N, N), 50.0), jnp.zeros((N, N))
    law = pooling(
        LinearLaw(NO_LEDGER, uncorrelated(x), Calibration(nothing, nothing, x, nothing)),
        np.full((N, N), 3.0),
        smoothing(None, N),
    )
    assert law.mean == pytest.approx(3 * N * N / 50)
    assert law.dof == pytest.approx(N * N)
    assert law.excess == pytest.approx(1 / (50 * N * N))


def test_cost_does_not_depend_on_the_budget():
    """Photons times variance: the same at 10 and at 1000 photons."""
    costs = []
    for photons in (10.0, 1000.0):
        (records, cal), _, weights = arms(photons)
        costs.append(pooling(LinearLaw(NO_LEDGER, records, cal), weights, smoothing(None, N)).mean)
    assert costs[0] == pytest.approx(costs[1], rel=1e-9)


def test_pooled_cost_is_the_weighted_sample_variance():
    rng = np.random.default_rng(128)
    estimates, weights = rng.normal(size=(6, N, N)), rng.random((N, N))
    law = pooling(LinearLaw(NO_LEDGER, *arms(50.0)[0]), weights, smoothing(None, N))
    cost = pooled_cost(estimates, weights, law)
    assert cost.value == pytest.approx(np.sum(weights * np.var(estimates, axis=0, ddof=1)))
    assert cost.dof < 5 * law.dof  # the excess takes some


def test_images_without_variation_are_refused():
    law = pooling(LinearLaw(NO_LEDGER, *arms(50.0)[0]), np.ones((N, N)), smoothing(None, N))
    with pytest.raises(UserError, match=r"budget\.photons"):
        pooled_cost(np.ones((5, N, N)), np.ones((N, N)), law)


# --- smoothing -------------------------------------------------------------------------------------------------


def test_smoothing_is_a_convolution_whose_rows_sum_to_one():
    image = np.random.default_rng(129).random((N, N))
    matrix = smoothing(KERNEL, N)
    np.testing.assert_allclose(np.asarray(matrix.sum(axis=1)).ravel(), 1, rtol=1e-12)
    found = (matrix @ image.ravel()).reshape(N, N)
    expected = ndimage.convolve(image, KERNEL / KERNEL.sum())
    np.testing.assert_allclose(found[1:-1, 1:-1], expected[1:-1, 1:-1], rtol=1e-12)
    turned = ndimage.correlate(image, KERNEL / KERNEL.sum())
    assert np.abs(found - turned)[1:-1, 1:-1].max() > 1e-3


def test_smoothing_moves_light_where_the_kernel_says():
    """A point goes one row down and two columns to the right; beyond the edge it is gone."""
    kernel = np.zeros((5, 5))
    kernel[2 + 1, 2 + 2] = 1.0
    kernel[2, 2] = 1e-12
    image = np.zeros((N, N))
    image[3, 4] = 1
    found = (smoothing(kernel, N) @ image.ravel()).reshape(N, N)
    assert np.unravel_index(found.argmax(), found.shape) == (4, 6)


def test_smoothing_with_a_kernel_larger_than_the_image():
    kernel = np.random.default_rng(130).random((15, 15))
    matrix = smoothing(kernel, 4)
    np.testing.assert_allclose(np.asarray(matrix.sum(axis=1)).ravel(), 1, rtol=1e-12)
    weights = kernel[7 - 3 : 7 + 1, 7 - 3 : 7 + 1][::-1, ::-1]  # what reaches the first superpixel from those below it
    np.testing.assert_allclose(matrix.toarray()[0], (weights / weights.sum()).ravel(), rtol=1e-12)


def test_no_kernel_is_the_identity():
    np.testing.assert_array_equal(smoothing(None, 3).toarray(), np.eye(9))


# --- verdict ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(1.01, 1.5, "quantum wins"), (0.5, 0.99, "classical wins"), (0.9, 3.0, "no difference at this budget")],
)
def test_verdict_comes_from_the_interval(low, high, words):
    """The point lies on the other side of 1 on purpose."""
    for point in (0.5, 1.0, 2.0):
        assert verdict(Interval(point, 0.1, low, high)) == words


def test_advantage_is_asymmetric_in_its_arms():
    """Exchanging the arms inverts value and interval."""
    a, b = Cost(3.0, 40.0), Cost(2.0, 90.0)
    there, back = advantage(a, b, 0.05), advantage(b, a, 0.05)
    assert there.value == pytest.approx(1.5) and back.value == pytest.approx(1 / 1.5)
    assert there.low == pytest.approx(1 / back.high) and there.high == pytest.approx(1 / back.low)
    assert there.low < there.value < there.high
