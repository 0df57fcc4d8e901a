"""The multiplying register against the law of its stages, counted out independently, and against its limits."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from slopes import check_slopes

from qtwin.core.errors import FieldError, UserError
from qtwin.detector.multiplication import (
    excess_noise,
    gamma_distribution,
    multiply,
    output_distribution,
    own_charge,
    silent_probability,
    stage_probability,
)

FEW, MANY = (3.0, 6), (1000.0, 536)  # gain and stages


def number(x):
    return jnp.asarray(x, float)


def counted_out(electrons, gain, stages, charge, size):
    """The law stage by stage: x -> x + Binomial(x, p) + Bernoulli(c), as a matrix on x < size."""
    p = gain ** (1 / stages) - 1
    x = np.arange(size)
    step = stats.binom.pmf(x[None, :] - x[:, None], x[:, None], p)
    law = (x == electrons).astype(float)
    for _ in range(stages):
        law = law @ step
        law = (1 - charge) * law + charge * np.concatenate([[0], law[:-1]])
    return law


def binomials(electrons, gain, stages, charge, rng):
    """Packets sent through the stages one by one."""
    p = gain ** (1 / stages) - 1
    packets = np.array(electrons)
    for _ in range(stages):
        packets += rng.binomial(packets, p) + (rng.random(packets.shape) < charge)
    return packets


def chi_square(draws, law):
    """Probability of a worse fit of draws to a law, in bins of 25 expected draws or more."""
    cells = np.floor(np.cumsum(law) * min(40, len(draws) / 25)).astype(int)
    expected = np.bincount(cells, law, cells[-1] + 1) * len(draws)
    seen = np.bincount(cells[np.minimum(draws, len(law) - 1)], minlength=cells[-1] + 1)
    few = expected < 25
    expected, seen = (np.append(a[~few], a[few].sum()) for a in (expected, seen))
    some = expected > 0
    return stats.chisquare(seen[some], expected[some] * seen.sum() / expected.sum()).pvalue


@pytest.fixture(scope="module")
def high():
    return np.asarray(output_distribution(65536, 1, *MANY))


@pytest.mark.parametrize(("electrons", "charge"), [(1, 0.0), (3, 0.0), (0, 0.04), (2, 0.04)])
def test_exact_law_is_that_of_the_stages(electrons, charge):
    law = output_distribution(128, electrons, *FEW, charge)
    np.testing.assert_allclose(law, counted_out(electrons, *FEW, charge, 128), atol=1e-14)


def test_excess_noise_of_1000_in_536_stages(high):
    """1.973, as <x^2>/<x>^2 of the exact law and in closed form."""
    x = np.arange(len(high))
    mean = high @ x
    assert mean == pytest.approx(1000, rel=1e-9)
    assert high @ x**2 / mean**2 == pytest.approx(1.973, abs=5e-4)
    assert float(excess_noise(number(1000), 536)) == pytest.approx(high @ x**2 / mean**2, rel=1e-8)


def test_poisson_light_gains_the_same_factor():
    """Var_out/(G^2 Var_in) = F^2: the exact law of k electrons averaged over Poisson k."""
    gain, stages = FEW
    k, x = np.arange(20), np.arange(128)
    laws = np.stack([np.asarray(output_distribution(128, int(n), gain, stages)) for n in k])
    law = stats.poisson.pmf(k, 1.3) @ laws
    variance = law @ x**2 - (law @ x) ** 2
    assert variance / (gain**2 * 1.3) == pytest.approx(float(excess_noise(number(gain), stages)), rel=1e-9)


def test_no_gain_is_no_noise():
    assert float(excess_noise(number(1), 536)) == 1
    np.testing.assert_allclose(output_distribution(128, 3, 1.0, 6)[:6], [0, 0, 0, 1, 0, 0], atol=1e-15)
    np.testing.assert_array_equal(multiply(np.array([4, 0, 9]), 1.0, 536, 0.0, rng=np.random.default_rng(0)), [4, 0, 9])


def test_infinitely_many_stages_give_the_geometric_law():
    """(1 - 1/G)^(x - 1)/G of a Yule process: half the distance with twice the stages."""
    x = np.arange(1, 256)
    limit = (1 - 1 / 4) ** (x - 1) / 4
    away = [np.abs(np.asarray(output_distribution(256, 1, 4.0, n))[1:] - limit).sum() for n in (500, 1000)]
    assert away[1] < 2e-3 and away[0] / away[1] == pytest.approx(2, abs=0.02)


def test_gamma_law_is_the_limit_of_high_gain_and_fails_at_low_gain(high):
    """Its factor F^2 is 2 at any gain: 1.4436 is the truth at G = 3 in 6 stages; total variation 13 % there."""
    far = np.abs(high[1:] - np.asarray(gamma_distribution(np.arange(1, 65536), 1, MANY[0]))).sum() / 2
    assert far < 0.01
    low = np.asarray(output_distribution(128, 1, *FEW))
    away = np.abs(low[1:] - np.asarray(gamma_distribution(np.arange(1, 128), 1, FEW[0]))).sum() / 2
    assert away > 10 * far
    assert float(excess_noise(number(FEW[0]), FEW[1])) == pytest.approx(1.4436, abs=5e-4)
    assert float(gamma_distribution(0.0, 2, 5.0)) == 0
    np.testing.assert_allclose(gamma_distribution(7.0, 3, 5.0), stats.gamma.pdf(7.0, 3, scale=5.0), rtol=1e-12)


def test_draws_follow_the_exact_law_at_low_gain():
    rng = np.random.default_rng(7)
    for electrons, charge in ((1, 0.0), (3, 0.04)):
        law = np.maximum(output_distribution(128, electrons, *FEW, charge), 0)
        packets = np.full(40_000, electrons)
        assert chi_square(multiply(packets, *FEW, charge, rng=rng), law) > 1e-3
        assert chi_square(binomials(packets, *FEW, charge, rng), law) > 1e-3
        wrong = np.maximum(output_distribution(128, electrons, 3.1, 6, charge), 0)
        assert chi_square(multiply(packets, *FEW, charge, rng=rng), wrong) < 1e-9


def test_draws_follow_the_exact_law_at_high_gain(high):
    rng = np.random.default_rng(11)
    packets = np.ones(20_000, int)
    law = np.maximum(high, 0)
    assert chi_square(multiply(packets, *MANY, 0.0, rng=rng), law) > 1e-3
    assert chi_square(binomials(packets[:4000], *MANY, 0.0, rng), law) > 1e-3
    own = np.maximum(np.asarray(output_distribution(65536, 0, *MANY, 2e-4)), 0)
    assert chi_square(multiply(packets - 1, *MANY, 2e-4, rng=rng), own) > 1e-3


def test_packets_keep_their_places():
    """Packets of several blocks, empty ones between: sums of the draws of each, none of another's."""
    rng = np.random.default_rng(7)
    packets = np.array([[0, 3_000_000, 0], [2_500_000, 1, 0]])
    out = multiply(packets, 3.0, 6, 0.0, rng=rng)
    np.testing.assert_array_equal(out == 0, packets == 0)
    spread = 3.0 * np.sqrt((float(excess_noise(number(3.0), 6)) - 1) * packets)
    assert np.all(np.abs(out - 3.0 * packets) <= 5 * spread)


def test_charge_of_the_register_comes_out_with_less_than_the_gain():
    """Mean and variance at the input against the exact law of an empty packet; G/ln G of its own gain on average."""
    gain, stages, charge = *MANY, 2e-4
    law = np.asarray(output_distribution(65536, 0, gain, stages, charge))
    x = np.arange(len(law)) / gain
    mean, variance = own_charge(number(gain), stages, number(charge))
    assert float(mean) == pytest.approx(law @ x, rel=1e-8)
    assert float(variance) == pytest.approx(law @ x**2 - (law @ x) ** 2, rel=1e-6)
    assert float(mean) == pytest.approx(stages * charge / np.log(gain), rel=0.01)
    np.testing.assert_allclose(
        own_charge(number(1.0), 50, number(0.01)), (0.5, 50 * 0.01 * 0.99), rtol=1e-12
    )  # no gain


def test_silence_is_the_sum_over_the_exact_law():
    gain, stages, charge, noise, level = 300.0, 536, 1e-4, 40.0, 4.5
    u = silent_probability(gain, stages, charge, noise, level, 6)
    x = np.arange(65536)
    for k in (0, 1, 2, 6):
        law = np.asarray(output_distribution(65536, k, gain, stages, charge))
        assert float(u[k]) == pytest.approx(law @ stats.norm.cdf(level - x / noise), abs=1e-12)


def test_silence_at_high_gain_is_1_minus_exp_of_threshold_over_gain():
    """In many stages (536 leave 2.5 % less below 0.2 G), read noise 1/1000 electron; and no empty pixel clicks."""
    u = np.asarray(silent_probability(1000.0, 8000, 0.0, 1e-3, 200.5e3, 6))
    assert u[1] == pytest.approx(1 - (1 - 1e-3) ** 200, rel=3e-3) and u[0] == pytest.approx(1, abs=1e-12)
    few = silent_probability(1000.0, 536, 0.0, 1e-3, 200.5e3, 6)[1]
    assert float(few) == pytest.approx(0.975 * u[1], rel=3e-3)
    off = np.asarray(silent_probability(1000.0, 536, 0.0, 0.0, 3.0, 6))
    np.testing.assert_allclose(off, [stats.norm.cdf(3.0), 0, 0, 0, 0, 0, 0], atol=1e-12)


def test_derivatives():
    def read(x):
        gain, charge, noise, level = x
        u = silent_probability(gain, 536, charge, noise, level, 6)
        both = own_charge(gain, 536, charge)
        return jnp.stack([u[0], u[1], u[3], both[0], both[1], excess_noise(gain, 536), stage_probability(gain, 536)])

    check_slopes(read, jnp.asarray([300.0, 1e-2, 40.0, 4.5]), h=1e-6, rtol=2e-6, atol=1e-8)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r"size: got 32.*larger"):
        output_distribution(32, 20, *FEW)
    with pytest.raises(UserError, match=r"size: got 31, accepted is an even"):
        output_distribution(31, 1, *FEW)
    with pytest.raises(FieldError, match="stages"):
        output_distribution(32, 1, 2.0, 0)
    with pytest.raises(FieldError, match="electrons"):
        output_distribution(32, -1, 2.0, 3)
    for gain in (0.5, np.nan):
        with pytest.raises(FieldError, match="gain"):
            excess_noise(gain, 536)
    with pytest.raises(UserError, match=r"electrons: got float64"):
        multiply(np.array([1.5]), 2.0, 3, 0.0, rng=np.random.default_rng(0))
