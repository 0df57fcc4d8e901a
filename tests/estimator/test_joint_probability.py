"""Pixel pairs in binary frames: their law against enumeration and drawn frames, and what an image of them is worth."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slopes import check_slopes, once

from qtwin.core.errors import FieldError, UserError
from qtwin.core.records import Frames
from qtwin.detector import Camera, SinglePhoton
from qtwin.detector.camera import AbstractCountingCamera
from qtwin.detector.frames import photon_law
from qtwin.estimator.joint_probability import (
    JointProbability,
    binary_frames,
    covariance_slope,
    drawn_slope,
    moments,
    neighbours,
    pair_shares,
    pair_weights,
    read,
    sparse_gain,
    transmission,
)
from qtwin.estimator.protocol import Bench
from qtwin.estimator.setting import Setting
from qtwin.optics import FarField
from qtwin.source.biphoton import DoubleGaussian
from qtwin.tissue.images import Images


class Source(eqx.Module):
    """What a bench reads of a pair source."""

    signal_wavelength: jax.Array
    pump_wavelength: jax.Array
    pump_power: jax.Array

    def biphoton(self):
        return DoubleGaussian(self.signal_wavelength, self.signal_wavelength, 1.66, 1.66, 2e-3, 2e-3)


SOURCE = Source(*(jnp.asarray(v) for v in (810e-9, 405e-9, 3e-3)))
SQUARE_TWO = 2**0.5
BEAM = jnp.asarray([[0.011, 0.012], [0.014, 0.016]])
THROUGH = jnp.asarray([[0.95, 0.5], [0.9, 0.3]])


def bench(
    through=THROUGH, eta=0.9, incident=1e5, accepted=1.0, dark=0.0, ambient=0.0, collection=0.8, pitch=1e-4, camera=None
) -> Bench:
    """Superpixels through which nothing is blurred but by the lens, whose part is also given by hand."""
    optics = FarField(0.1, 0.4, pitch, 0.9, collection, 1.0, ambient=ambient, pixels=2)
    stays = photon_law(2 * optics.blur(SOURCE) / optics.pitch, 1)[0, 0]
    along = jnp.zeros(15).at[7].set(stays).at[8].set(1 - stays)
    clear, zero = BEAM * accepted, jnp.zeros(())
    images = Images(
        clear * through, clear, *[zero] * 4, accepted * jnp.outer(along, along), zero, accepted + zero, *[zero] * 2
    )
    setting = Setting(incident + zero, incident / 0.9 + zero, incident * 4e-7 + zero)
    device = SinglePhoton(eta, dark, 0.0, 0.0)
    return Bench(SOURCE, optics, None, camera, device, None, images, BEAM, through, setting)  # type: ignore[arg-type]


def doses(b: Bench) -> Bench:
    """The bench of a laser with as many photons on the sample as both of the pairs."""
    return b._replace(setting=Setting(*(2 * s for s in b.setting)))


def _read(protocol, b):
    light = protocol._light(b, 2)
    facts = {name: value for name, (value, _) in protocol.facts(b).items()}
    return (light, protocol._pairs(b, light), facts), (protocol.law(b, False), protocol.law(b, True))


everything = once(_read)
lasers_of = once(lambda p, b: {"steady": p.coherent(b, 1.0), "pulsed": p.pulsed(b), "ideal": p.ideal(b)})


def laws_of(protocol, b):
    """Laws of pairs alone and with singles."""
    return everything(protocol, b)[1]


def normal_width(magnification: float, side: int, pitch: float = 1e-4) -> float:
    """std of a pair's separation, in pixels."""
    born, blur = magnification * SOURCE.biphoton().separation_width(), SQUARE_TWO * 810e-9 / (2 * np.pi * 0.4)
    return float(np.hypot(born, SQUARE_TWO * blur)) / pitch * side


# --- what threshold pixels hide ---------------------------------------------------------------------------------------


def test_slope_is_one_where_the_plain_covariance_has_0_742():
    """1.2 pairs per frame over 6 couples of pixels."""
    assert float(covariance_slope(0.2)) == pytest.approx(0.742, abs=5e-4)
    slope, plain = (drawn_slope(0.2, 6, 40_000, of) for of in ("pairs", "covariance"))
    assert abs(slope.value - 1) < 4 * slope.error and abs(slope.value - 1.05) > 5 * slope.error
    assert abs(plain.value - float(covariance_slope(0.2))) < 4 * plain.error and plain.value + 5 * plain.error < 1
    assert drawn_slope(0.2, 6, 40_000, seed=1).value != slope.value


# --- the law of the pixels of one superpixel --------------------------------------------------------------------------


def tables_of(side: int, width: float):
    shares = np.asarray(pair_shares(jnp.asarray(width), side))
    apart = shares * (1 - np.eye(side**2))
    return shares, jnp.asarray(np.stack([2 * apart / apart.sum(), neighbours(side)]))


def test_shares_of_a_wide_superpixel_are_the_normal_law():
    """What is missing left over an edge: E|d|/side of all pairs per axis. Pairs born at one place stay on one pixel."""
    shares = np.asarray(pair_shares(jnp.asarray(0.8), 8))
    np.testing.assert_allclose(shares, shares.T, atol=1e-16)
    lost = 0.8 * np.sqrt(2 / np.pi) / 8
    assert shares.sum() == pytest.approx((1 - lost) ** 2, rel=1e-9)
    still = np.asarray(pair_shares(jnp.asarray(0.0), 3))
    np.testing.assert_allclose(still, np.eye(9) / 9, atol=1e-15)


def enumerated(weights, rates, m):
    """Covariance of U and V by the delta method, from P(A silent) = exp(-m |A| + R(A)) of all sets of two and one."""
    n = len(weights)
    sets = [(i, j) for i in range(n) for j in range(i)] + [(i,) for i in range(n)]

    def log_silent(a):
        return -m * len(a) + sum(rates[i, j] for i in a for j in a if i < j)

    joint = np.array([[log_silent(set(a) | set(b)) - log_silent(a) - log_silent(b) for b in sets] for a in sets])
    u, v = np.zeros(len(sets)), np.zeros(len(sets))
    for k, a in enumerate(sets):
        if len(a) == 2:
            u[k] = weights[a]
            for i in a:
                u[len(sets) - n + i] -= weights[a]
        else:
            v[k] = -1 / n
    c = np.expm1(joint)
    return u @ c @ u, u @ c @ v, v @ c @ v


def test_law_is_that_of_the_silent_sets():
    """Six pixels, uneven pairs and crosstalk: the next order in R is left, about twice the greatest R_ij."""
    rng = np.random.default_rng(3)
    one, two = (np.triu(rng.uniform(0, 1, (6, 6)), 1) for _ in range(2))
    one, two = one + one.T, (two + two.T) > 1.3
    weights = one * rng.uniform(0.5, 1.5)
    off = {}
    for scale in (0.2, 0.1):
        rates = scale * np.array([0.06, 0.02])
        m = scale * 0.5 + 0.1
        found = moments(
            jnp.asarray(weights), jnp.asarray(np.stack([one, two * 1.0])), jnp.asarray(rates), jnp.asarray(m)
        )
        expected = enumerated(weights, rates[0] * one + rates[1] * two, m)
        off[scale] = np.abs(np.array(found) / expected - 1)
    assert np.all(off[0.2] < 2e-3) and np.all(off[0.1] < 0.35 * off[0.2])


# --- frames against the law -------------------------------------------------------------------------------------------

PROTOCOL = JointProbability(magnification=5.0, occupancy=0.06, crosstalk=0.005, side=3)
FRAMES, REPEATS, PLACE = 1200, 300, (0, 1)


@pytest.fixture(scope="module")
def recorded():
    """Laws without and with singles; (U - xi V, V) [2, REPEATS] of drawn frames of one superpixel; their means."""
    b = bench(dark=4e2, ambient=4e3)
    frames = float(everything(PROTOCOL, b)[0][0].frames)
    b = b._replace(setting=Setting(*(s * FRAMES / frames for s in b.setting)))
    (light, pairs, facts), laws = everything(PROTOCOL, b)
    assert float(facts["frames"]) == pytest.approx(FRAMES) and float(facts["pairs_on_two_pixels"]) == pairs.apart
    shares, eta, own = tables_of(3, normal_width(5.0, 3))[0], float(light.efficiency), float(light.own)
    found, seen, weights = float(pairs.found[PLACE]), float(light.seen[PLACE]), np.asarray(pairs.weights)
    rates = (found / float(pairs.apart) / eta**2, seen / eta, eta, own, 0.005)
    drawn = binary_frames(FRAMES * REPEATS, shares, *rates, key=jax.random.key(7)).counts
    c = drawn.reshape(REPEATS, FRAMES, 9).astype(np.float32)
    p = c.mean(axis=1).astype(float)
    silent = 1 - p[:, :, None] - p[:, None, :] + np.matmul(c.transpose(0, 2, 1), c) / FRAMES
    covariance = (silent - (1 - p)[:, :, None] * (1 - p)[:, None, :]) * FRAMES / (FRAMES - 1)
    mu = np.log(silent / (silent - covariance))
    u, v = np.einsum("ij,rij->r", weights, np.where(weights > 0, mu, 0)) / 2, -np.log1p(-p).mean(axis=1)
    np.testing.assert_allclose(read(Frames(drawn[:FRAMES]), weights), (u[0], v[0]), rtol=1e-5)
    xi = 2 * 0.005 / 1.02 * np.sum(weights * neighbours(3)) / 2
    means = np.array([found, 1.02 * (seen - float(pairs.same) * found / 9 + own)])
    return laws, np.stack([u - xi * v, v]), means


def scores(values, mean, variance):
    """z of the sample mean and of the sample variance of nearly normal numbers."""
    n = len(values)
    return (values.mean() - mean) / np.sqrt(variance / n), (values.var(ddof=1) / variance - 1) / np.sqrt(2 / n)


@pytest.mark.slow
@pytest.mark.parametrize("singles", [False, True])
def test_estimates_from_frames_follow_the_law(recorded, singles):
    """Mean and variance of T over repeats, accidentals, dark counts, ambient light and crosstalk included."""
    laws, found, expected = recorded
    law = laws[singles]
    slopes = np.array([float(s[PLACE]) for s in law.slopes])
    t = float(law.mean()[PLACE]) + slopes @ (found - expected[:, None])
    assert float(law.mean()[PLACE]) == pytest.approx(0.5, abs=2e-3)
    variance = float(law.variance()[PLACE])
    assert np.abs(scores(t, float(law.mean()[PLACE]), variance)).max() < 4
    assert abs(scores(t, 0.5 * 1.1, variance)[0]) > 5 and abs(scores(t, 0.5, 2 * variance)[1]) > 5
    assert variance < 0.1**2  # narrow enough that the tangent of the root tells its noise
    if not singles:
        plain = np.asarray(transmission(found[0], expected[0] / 0.25))
        assert abs(scores(plain, 0.5 - variance / (2 * 0.5), variance)[0]) < 4
    assert np.corrcoef(found)[0, 1] == pytest.approx(
        float((laws[0].noise.both / np.sqrt(laws[0].noise.pairs * laws[0].noise.events))[PLACE]), abs=4 / REPEATS**0.5
    )


def test_known_crosstalk_is_taken_off():
    """One click in ten fires each neighbour: noise of U - xi V by enumeration, xi V the crosstalk's mean part of U."""
    x = 0.1
    b, protocol = bench(dark=4e2, ambient=4e3), eqx.tree_at(lambda p: p.crosstalk, PROTOCOL, jnp.asarray(x, float))
    (light, pairs, _), (law, _) = everything(protocol, b)
    near, weights = neighbours(3), np.asarray(pairs.weights)
    before = float(light.seen[PLACE] - pairs.same * pairs.found[PLACE] / 9 + light.own)
    rates = float(pairs.found[PLACE]) * np.asarray(pairs.tables[0]) + 2 * x * before * near
    uu, uv, vv = enumerated(weights, rates, (1 + 4 * x) * before)
    xi = np.sum(weights * near) / 2 * 2 * x * before / ((1 + 4 * x) * before)
    expected = np.array([uu - 2 * xi * uv + xi**2 * vv, uv - xi * vv, vv]) / float(light.frames)
    np.testing.assert_allclose([float(noise[PLACE]) for noise in law.noise], expected, rtol=5e-3)


def test_lens_blurs_both_photons_of_a_pair():
    """Superpixels of 3 um, pairs born 0.6 um apart, spots of 0.46 um std: parts of the pairs on two pixels."""
    protocol = JointProbability(magnification=0.1, side=3)
    apart = float(everything(protocol, bench(pitch=3e-6))[0][2]["pairs_on_two_pixels"])
    z = np.random.default_rng(1).normal(size=400_000) * normal_width(0.1, 3, 3e-6)
    inside, same = (np.mean(np.maximum(1 - np.abs(z) / n, 0)) ** 2 for n in (3, 1))
    assert apart == pytest.approx(inside - same, rel=5e-3)


def test_singles_help(recorded):
    (pairs, both), *_ = recorded
    assert np.all(np.asarray(both.variance()) < np.asarray(pairs.variance()))


@pytest.mark.parametrize("singles", [False, True])
def test_draws_follow_the_law(recorded, singles):
    """Numbers of pairs and the rest as normal noise: mean, variance, counts; same key, same draws."""
    law = recorded[0][singles]
    drawn = law.draw(20_000, key=jax.random.key(5))
    mean, variance = np.asarray(law.mean()), np.asarray(law.variance())
    for i, j in np.ndindex(2, 2):
        assert np.abs(scores(drawn.estimates[:, i, j], mean[i, j], variance[i, j])).max() < 4
        assert abs(scores(drawn.estimates[:, i, j], mean[i, j], 1.1 * variance[i, j])[1]) > 5
        counts = drawn.counts[:, i, j]
        assert abs(counts.mean() - float(law.clicks[i, j])) < 4 * counts.std() / np.sqrt(20_000)
    np.testing.assert_array_equal(law.draw(3, key=jax.random.key(5)).estimates.shape, (3, 2, 2))
    again = law.draw(20_000, key=jax.random.key(5))
    np.testing.assert_array_equal(again.estimates, drawn.estimates)
    np.testing.assert_allclose(law.covariance().diagonal(), variance.ravel(), rtol=1e-12)


def test_fourth_cumulant_of_few_pairs():
    """Some ten pairs: the third and fourth cumulants of their Poisson number show in the draws."""
    law = laws_of(JointProbability(magnification=5.0, occupancy=1e-5, side=3), bench(incident=4e3))[0]
    t = law.draw(400_000, key=jax.random.key(11)).estimates[:, 1, 0]
    away = t - t.mean()
    fourth = np.mean(away**4) - 3 * np.mean(away**2) ** 2
    error = np.std(away**4 - 6 * np.mean(away**2) * away**2) / np.sqrt(len(t))
    expected = law.fourth(np.array([0.0, 0.0, 1.0, 0.0]))
    assert 5 < float(law.found[1, 0]) < 20
    assert abs(fourth - expected) < 4 * error and expected > 5 * error


# --- what the image is worth ------------------------------------------------------------------------------------------

SPARSE = JointProbability(magnification=4.0, occupancy=1e-7, frame_rate=1e15, side=3)


@pytest.mark.parametrize("tau", [0.3, 0.5, 0.9])
def test_gain_of_sparse_frames(tau):
    """Pixels on which every pair is told: 2 tau for pairs alone, 1 - tau + tau^2/(1 - tau) for all events.

    N tau^2 pairs and 2 N tau events of N pairs per frame; coherent light of 2 N photons has Var T = T^2/(2 N tau).
    """
    n, m = 1e-7, 6
    tables = jnp.stack([2 / (m * (m - 1)) * (1 - jnp.eye(m)), jnp.zeros((m, m))])
    weights = pair_weights(tables[0], 2 * n * tau / m, n * tau**2 * tables[0])
    law = moments(weights, tables, jnp.asarray([n * tau**2, 0.0]), jnp.asarray(2 * n * tau / m))
    covariance = np.array([[law.pairs, law.both], [law.both, law.events]])
    slope = np.array([2 * n * tau**2, 2 * n * tau / m])  # T d/dT
    gains = slope[0] ** 2 / covariance[0, 0], slope @ np.linalg.solve(covariance, slope)
    expected = [float(g) for g in sparse_gain(tau)]
    np.testing.assert_allclose(np.array(gains) / (2 * n * tau), expected, rtol=1e-4)
    assert (min(expected) > 1) == (tau > 0.5)


def gains(protocol, b) -> dict:
    """(with singles, opponent) -> Var T of the opponent over ours, at equal dose, per superpixel."""
    ours, theirs = laws_of(protocol, b), lasers_of(protocol, doses(b))
    for law in theirs.values():
        assert float(law.ledger.incident) == pytest.approx(float(ours[True].ledger.incident), rel=1e-9)
        assert float(law.ledger.time) == pytest.approx(float(ours[True].ledger.time), rel=1e-9)
        np.testing.assert_allclose(law.mean(), b.images.direct / b.images.direct_open, rtol=1e-9)
    return {
        (s, name): np.asarray(law.variance() / ours[s].variance())
        for s in (False, True)
        for name, law in theirs.items()
    }


def test_worth_without_background():
    """The Fisher information of the counts over 2 N tau/T^2 of the laser, per pair; 0.9 reach the sample as such.

    A pairs on two pixels, S on one (clicked once), all other photons alone. An ideal detector multiplies the laser's by
    1/eta.
    """
    found = gains(SPARSE, bench(eta=0.95, collection=1.0))
    z = np.random.default_rng(0).normal(size=400_000) * normal_width(4.0, 3)
    inside, same = (np.mean(np.maximum(1 - np.abs(z) / n, 0)) ** 2 for n in (3, 1))
    tau = 0.95 * np.asarray(THROUGH)
    a, one = 0.9 * tau**2 * (inside - same), 0.9 * tau**2 * same
    np.testing.assert_allclose(found[False, "steady"], 4 * a / (2 * tau), rtol=6e-3)
    alone = (2 * tau - 2 * one - 4 * a) ** 2 / (2 * tau - one - 2 * a)
    np.testing.assert_allclose(found[True, "steady"], (4 * a + alone) / (2 * tau), rtol=6e-3)
    np.testing.assert_allclose(found[True, "ideal"], 0.95 * found[True, "steady"], rtol=1e-4)
    np.testing.assert_allclose(found[True, "pulsed"], found[True, "steady"], rtol=2e-3)


def test_stray_light_costs_the_steady_laser_only():
    """b = 3 stray photons per photon of the signal: the laser in all frames needs 1 + b/T times as many, pairs no more.

    A laser in few frames does not see it, and wins as before where tau < 1/2.
    """
    clear, b = bench(eta=0.6), bench(eta=0.6)
    light = everything(SPARSE, b)[0][0]
    stray = 3 * light.clear.mean() / (light.time / light.frames * 0.6 / 9)
    b = b._replace(optics=eqx.tree_at(lambda o: o.ambient, b.optics, stray))
    dark, lit = gains(SPARSE, clear), gains(SPARSE, b)
    cost = 1 + 3 * float(jnp.mean(BEAM)) / np.asarray(BEAM * THROUGH)
    np.testing.assert_allclose(lit[False, "steady"], cost * dark[False, "steady"], rtol=5e-3)
    np.testing.assert_allclose(lit[False, "pulsed"], dark[False, "pulsed"], rtol=5e-3)
    assert np.all(lit[False, "steady"] > 1) and np.all(lit[True, "pulsed"] < 1)
    unknown = eqx.tree_at(lambda p: p.ambient_spread, SPARSE, jnp.asarray(0.2, float))
    worse = gains(unknown, b)
    assert np.all(worse[False, "steady"] > 20 * lit[False, "steady"])  # what nobody knows, pairs do not need
    np.testing.assert_allclose(worse[False, "pulsed"], lit[False, "pulsed"], rtol=2e-2)
    assert np.all(worse[True, "steady"] >= worse[False, "steady"])


def test_rates_fall_with_the_square_of_what_one_photon_survives():
    """T, efficiency and tissue enter the pairs squared; what the tissue scatters elsewhere is no pair."""
    half, whole = bench(accepted=0.5), bench()
    for changed in (half, bench(eta=0.45), bench(collection=0.4)):
        laws = [laws_of(SPARSE, b)[0] for b in (changed, whole)]
        ratio = laws[0].variance() * laws[0].found / (laws[1].variance() * laws[1].found)
        np.testing.assert_allclose(ratio, 1, rtol=1e-3)  # Var T = T^2/(4 pairs)
        np.testing.assert_allclose(laws[0].variance() / laws[1].variance(), 4, rtol=1e-3)
    kernel = whole.images.spread_direct
    scattered = kernel * 0.5 + 0.5 * jnp.full((15, 15), 1 / 225)
    b = whole._replace(images=whole.images._replace(spread_direct=scattered))
    ratio = laws_of(SPARSE, b)[0].found / laws_of(SPARSE, whole)[0].found
    assert np.all(np.abs(np.asarray(ratio) - 0.25) < 0.03)


def test_image_is_sharpened_by_the_square_of_the_point_spread():
    """T^2 blurred by s^2: half of the photons moved down by one superpixel, a fifth to the right; clear outside."""
    spread = jnp.zeros((15, 15)).at[7, 7].set(0.3).at[8, 7].set(0.5).at[7, 8].set(0.2)
    b = bench()
    b = b._replace(images=b.images._replace(spread_direct=spread))
    t, lit = np.asarray(THROUGH) ** 2, np.pad(np.asarray(BEAM), 1, mode="edge")
    weight = np.array([0.09, 0.25, 0.04])
    expected = np.empty((2, 2))
    for i, j in np.ndindex(2, 2):
        at = [(i, j), (i - 1, j), (i, j - 1)]
        square = np.array([t[a] if min(a) >= 0 else 1.0 for a in at])
        light = weight * np.array([lit[a[0] + 1, a[1] + 1] for a in at])
        expected[i, j] = np.sum(square * light) / np.sum(light)
    np.testing.assert_allclose(laws_of(SPARSE, b)[0].mean(), np.sqrt(expected), rtol=1e-9)


# --- the protocol -----------------------------------------------------------------------------------------------------


def test_arms_and_their_opponents():
    arms = {arm.name: arm for arm in SPARSE.arms()}
    ours = [arm for arm in arms.values() if arm.quantum]
    assert len(ours) == 2 and all(set(arm.opponents) < set(arms) and len(arm.opponents) == 3 for arm in ours)
    assert len({arm.draws for arm in ours}) == 1
    kinds = {arms[name].kind for name in ours[0].opponents}
    assert len(kinds) == 3 and "" not in kinds
    ledger = laws_of(SPARSE, bench())[1].ledger
    assert float(ledger.incident) == pytest.approx(2e5) and float(ledger.pump) == pytest.approx(3e-3 * 1e5 * 4e-7)


class Counter(AbstractCountingCamera):
    """A camera of 50 frames per second, read as clicks."""

    efficiency: jax.Array
    full_well: jax.Array
    frame_rate: jax.Array
    saturation = excess = read_variance = property(lambda self: self.full_well)
    mean = variance = saturated = sample = sample_clicks = lambda self, *_: None  # type: ignore[assignment]

    def detection_efficiency(self):
        return 0.9 * self.efficiency

    def click_probability(self, photons, time):
        return -jnp.expm1(-0.9 * self.efficiency * photons - 0.01 - 0.5 * time)


def test_frames_of_a_slow_camera_take_their_time():
    """The counting camera's own efficiency, clock-induced charge, dark counts and frame rate."""
    camera = Counter(*(jnp.asarray(v) for v in (0.7, 1e5, 50.0)))
    protocol = JointProbability(occupancy=0.02, side=3, recorder="camera")
    light = protocol._light(bench(camera=camera), 2)
    assert float(light.frames) == pytest.approx(0.63 * 0.8 * 2e5 * float(BEAM.mean()) / 9 / 0.02)
    assert float(light.time) == pytest.approx(float(light.frames) / 50)
    assert float(light.own) == pytest.approx(0.01 + 0.5 * 0.02)
    with pytest.raises(UserError, match="counts no photons"):
        protocol._light(bench(camera=Camera(0.9, 2.0, 1.0, 1e5)), 2)


def test_bad_input_is_refused():
    for field, bad in (("side", 1), ("side", 2.5), ("recorder", "eye"), ("occupancy", 0.0), ("crosstalk", 1.5)):
        with pytest.raises(FieldError, match=field):
            JointProbability(**{field: bad})
    uneven = Source(*(jnp.asarray(v) for v in (800e-9, 405e-9, 3e-3)))
    with pytest.raises(UserError, match=r"source\.signal_wavelength: got 800 nm, accepted is twice"):
        SPARSE.law(bench()._replace(source=uneven), False)
    with pytest.raises(UserError, match="of: got 'all'"):
        drawn_slope(0.2, 2, 10, "all")
    with pytest.raises(UserError, match=r"photons: got 0\.1"):
        binary_frames(10, np.full((4, 4), 1 / 16), 1.0, 0.1, 0.5, 0.0, 0.0, key=jax.random.key(0))
    for wrong in (-0.1, np.nan):
        with pytest.raises(FieldError, match="found"):
            sparse_gain(wrong)
    with pytest.raises(FieldError, match="pairs"):
        covariance_slope(0.0)


def test_gradients():
    """All that is traced: parameters, light, object, equipment; a slow array, so that its frame rate counts."""

    def read_all(x):
        protocol = eqx.tree_at(
            lambda p: (p.magnification, p.occupancy, p.crosstalk, p.ambient_spread, p.frame_rate),
            JointProbability(side=2),
            (5 * x[0], 0.05 * x[1], 0.02 * x[2], 0.3 * x[3], 4e3 * x[4]),
        )
        b = bench(
            THROUGH * x[5], 0.8 * x[6], 1e5 * x[7], 0.9 * x[8], 3e3 * x[9], 4e4 * x[10], 0.7 * x[11], 9e-5 * x[12]
        )
        laws = protocol.law(b, True), protocol.coherent(b, 0.5 * x[13]), protocol.ideal(b)
        told = [jnp.log(law.ledger.detected) + jnp.log(law.ledger.time) + jnp.sum(law.mean()) for law in laws]
        weights = jnp.asarray([[0.3, 0.5], [0.8, 1.0]])
        pairs = jnp.log(laws[0].noise.pairs)
        return jnp.sum(weights * pairs) + sum(told) + sum(jnp.sum(weights * jnp.log(law.variance())) for law in laws)

    check_slopes(read_all, jnp.ones(14))
