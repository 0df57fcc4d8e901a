"""Homodyne pair: effective efficiency, its limits, agreement with the modes, and drawn records."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slopes import check_slopes, once

from qtwin.core.errors import FieldError
from qtwin.detector.photodiode import HomodynePair, equivalent_efficiency
from qtwin.modes.gaussian import vacuum
from qtwin.modes.operations import loss, quadrature, squeeze
from qtwin.modes.squeezing import detected_noise, squeezing_db

USUAL = {
    "efficiency": 0.93,
    "overlap": 0.97,
    "clearance": 13.0,
    "bandwidth": 20e6,
    "rejection": 40.0,
    "oscillator_noise": 25.0,
    "power": 6e-3,
    "reference_power": 9e-3,
    "most_power": 20e-3,
}
IDEAL = {"efficiency": 1.0, "overlap": 1.0, "clearance": 300.0, "rejection": 300.0}
KEY = jax.random.key(7)


def pair(**changes) -> HomodynePair:
    return HomodynePair(**(USUAL | changes))


def db(detector, squeezing):
    return float(squeezing_db(2 * detector.expect(0.0, 10 ** (-squeezing / 10) / 2)[1]))


def test_squeezing_in_numbers():
    """10 dB at eta = 0.8 is 5.53 dB; an ideal pair keeps 10 dB; no more than -10 log10(1 - eta) is ever seen."""
    assert db(pair(**IDEAL | {"efficiency": 0.8}), 10) == pytest.approx(5.53, abs=5e-3)
    assert db(pair(**IDEAL), 10) == pytest.approx(10, abs=1e-9)
    assert db(pair(**IDEAL | {"efficiency": 0.8}), 200) == pytest.approx(-10 * np.log10(0.2), abs=1e-6)
    assert db(pair(**IDEAL | {"overlap": np.sqrt(0.8)}), 10) == pytest.approx(5.53, abs=5e-3)


def test_electronic_noise_is_loss():
    """eta_el = 1 - 10^(-C/10) (Appel et al. 2007): 20 dB take 1 %, 3 dB a half."""
    for clearance in (20.0, 3.0103):
        seen = pair(**IDEAL | {"clearance": clearance, "power": 9e-3}).effective_efficiency()
        assert float(seen) == pytest.approx(float(equivalent_efficiency(clearance)), rel=1e-12)
    assert float(equivalent_efficiency(20.0)) == pytest.approx(0.99) and float(
        equivalent_efficiency(3.0103)
    ) == pytest.approx(0.5, abs=1e-6)


def test_electronic_noise_added_to_shot_noise_gives_the_same():
    """(eta v + 1 - eta + x)/(1 + x) with x over true shot noise, or loss with the vacuum as measured."""
    detector, v = pair(), 0.1
    x = float(detector.electronic_noise() + detector.leaked_noise())
    eta = 0.93 * 0.97**2
    added = (eta * v + 1 - eta + x) / (1 + x)
    assert 2 * float(detector.expect(0.0, v / 2)[1]) == pytest.approx(added, rel=1e-12)
    assert float(detector.expect(0.0, 0.5)[1]) == pytest.approx(0.5)  # the vacuum stays the unit


def test_local_oscillator_has_a_best_power():
    """Electronic noise falls as 1/P, what the subtraction leaves rises as P: equal parts at the best."""
    detector = pair(**IDEAL | {"clearance": 10.0, "rejection": 30.0, "oscillator_noise": 20.0})
    ratio = np.sqrt((1 / (10**1.0 - 1)) / 10 ** ((20 - 30) / 10))
    best = pair(**IDEAL | {"clearance": 10.0, "rejection": 30.0, "oscillator_noise": 20.0, "power": 9e-3 * ratio})
    assert float(best.electronic_noise()) == pytest.approx(float(best.leaked_noise()), rel=1e-9)
    assert float(best.effective_efficiency()) > float(detector.effective_efficiency())
    slope = jax.grad(lambda p: eqx.tree_at(lambda d: d.power, best, p).effective_efficiency())(best.power)
    assert abs(float(slope) * float(best.power)) < 1e-9


def test_full_rejection_and_full_bandwidth_take_nothing():
    assert float(pair(rejection=300.0).leaked_noise()) < 1e-20
    assert float(pair().electronic_noise(20e6)) == pytest.approx(2 * float(pair().electronic_noise()))
    assert float(pair(bandwidth=1e15).electronic_noise(20e6)) == pytest.approx(
        float(pair().electronic_noise()), rel=1e-9
    )


def test_it_is_the_loss_of_the_modes():
    """A squeezed, displaced state through `loss` of the effective efficiency, and the closed form of the modes."""

    def both(detector):
        state = squeeze(vacuum(1), 0, 0.8, 0.3)
        state = eqx.tree_at(lambda s: s.mean, state, jnp.asarray([1.2, -0.7]))
        lost = loss(state, detector.effective_efficiency(5e6))
        angles = (0.0, 0.4)
        seen = [detector.expect(*quadrature(state, 0, angle), 5e6) for angle in angles]
        noise = detected_noise(7.0, 9.0, detector.effective_efficiency())
        return seen, [quadrature(lost, 0, angle) for angle in angles], 2 * detector.expect(0.0, 10**-0.7 / 2)[1], noise

    seen, lost, noise, closed = once(both)(pair())
    np.testing.assert_allclose(seen, lost, rtol=1e-12)
    assert float(noise) == pytest.approx(float(closed), rel=1e-12)


def test_drawn_records_follow_the_law():
    detector, count = pair(), 300_000
    mean, variance = detector.expect(1.3, 0.12, 8e6)
    draws = np.asarray(detector.sample(1.3, 0.12, count, 8e6, key=KEY), float)
    away, square = draws - float(mean), (draws - float(mean)) ** 2
    assert abs(away.mean() / (away.std() / np.sqrt(count))) < 4
    assert abs((square.mean() - float(variance)) / (square.std() / np.sqrt(count))) < 4
    assert abs((square.mean() - 1.02 * float(variance)) / (square.std() / np.sqrt(count))) > 5
    np.testing.assert_array_equal(draws[:5], np.asarray(detector.sample(1.3, 0.12, count, 8e6, key=KEY))[:5])


def test_derivatives_by_every_field():
    detector = pair()
    names = [name for name in USUAL if name != "most_power"]
    values = jnp.stack([getattr(detector, name) for name in names])

    def read(scale):
        moved = eqx.tree_at(lambda c: [getattr(c, name) for name in names], detector, list(values * scale))
        return jnp.stack(moved.expect(1.3, 0.05, 8e6))

    check_slopes(read, jnp.ones(len(names)))


@pytest.mark.parametrize(
    ("changes", "problem"), [({"power": 30e-3}, r"power: got 0.03 W.*saturation"), ({"overlap": 1.1}, "overlap")]
)
def test_pairs_that_cannot_be_are_refused(changes, problem):
    with pytest.raises(FieldError, match=problem):
        pair(**changes)
    with pytest.raises(FieldError, match="count"):
        pair().sample(0.0, 0.5, 0, key=KEY)
    with pytest.raises(FieldError, match="frequency"):
        pair().expect(0.0, 0.5, -1.0)
