"""Time-stamping camera: means of one photon against drawn hits and their centroids, dead time, clocks."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from slopes import check_slopes

from qtwin.core.errors import FieldError, UserError
from qtwin.detector.time_stamping_camera import Hits, TimeStampingCamera, _alive, mean_response

USUAL = {
    "efficiency": 0.6,
    "dark_rate": 0.0,
    "gain": 60.0,
    "gain_shape": 3.0,
    "spot": 40e-6,
    "blur": 9e-6,
    "jitter": 5e-9,
    "walk": 40e-9,
    "tot_slope": 50e-9,
    "dead_time": 475e-9,
    "throughput": 1e9,
}
PITCH = 55e-6
EVERY = 10_000_000  # ps between photons
COUNT = 40_000


def camera(**changes) -> TimeStampingCamera:
    return TimeStampingCamera(**(USUAL | {"pixels": 64} | changes))


def z(draws, mean):
    draws = np.asarray(draws, float)
    return (draws.mean() - float(mean)) / (draws.std() / np.sqrt(draws.size))


def z_std(draws, std):
    """z of the variance of independent draws about their own mean."""
    square = (draws - draws.mean()) ** 2
    return (square.mean() - float(std) ** 2) / (square.std() / np.sqrt(draws.size))


@pytest.fixture(scope="module")
def answer():
    return camera().response()


@pytest.fixture(scope="module")
def light():
    """Photons one by one, off the rim, with an asymmetric beam; hits; and their centroids with the photon of each."""
    rng = np.random.default_rng(7)
    times = np.arange(COUNT, dtype=np.int64) * EVERY + rng.integers(0, 25_000, COUNT)
    positions = (rng.random((COUNT, 2)) - 0.5) * np.array([40, 20]) * PITCH + np.array([6.3, -11.1]) * PITCH
    hits = camera().sample(times, positions, 0, COUNT * EVERY, rng=rng)
    photons = camera().centroid(hits)
    which = (photons.times + EVERY // 2) // EVERY
    return times, positions, hits, photons, which


def test_every_photon_is_found_once(light, answer):
    times, positions, _, photons, which = light
    assert len(np.unique(which)) == len(which)
    expected = 0.6 * float(answer.recorded)
    assert abs((len(which) / COUNT - expected) / np.sqrt(expected * (1 - expected) / COUNT)) < 4
    assert np.abs(photons.times - times[which]).max() < 100_000
    assert np.abs(photons.positions - positions[which]).max() < 2 * PITCH


def test_hits_of_a_photon_follow_the_means(light, answer):
    _, _, hits, photons, _ = light
    assert abs(z(photons.hits, answer.hits / answer.recorded)) < 4
    ratio = (
        photons.tot * 1e-12 - float(answer.tot) * photons.hits
    )  # mean ToT of a hit, with the errors of whole photons
    assert abs(z(ratio, 0)) < 4
    assert photons.hits.sum() == len(hits.x) and photons.tot.sum() == hits.tot.sum()


def test_times_and_places_spread_as_expected(light, answer):
    """3 % off would be seen: the mean is right, the variance that of jitter, clocks, residual walk and centroid."""
    times, positions, _, photons, which = light
    late = (photons.times - times[which]) * 1e-12
    assert abs(z(late, 0)) < 4
    assert abs(z_std(late, answer.time_spread)) < 4 < 5 < abs(z_std(late, 1.05 * answer.time_spread))
    for axis in (0, 1):
        away = (photons.positions - positions[which])[:, axis]
        assert abs(z(away, 0)) < 4, axis
        assert abs(z_std(away, answer.position_spread)) < 4, axis
        assert abs(z_std(away, 1.05 * answer.position_spread)) > 5


def test_pairs_inside_a_window(light):
    """Differences of photons paired at will: normal law of twice the variance."""
    times, _, _, photons, which = light
    late = (photons.times - times[which])[: len(which) // 2 * 2].reshape(-1, 2)
    inside = np.abs(late[:, 0] - late[:, 1]) * 1e-12 <= 2.5e-9
    p = float(camera().capture(5e-9))
    assert abs((inside.mean() - p) / np.sqrt(p * (1 - p) / len(inside))) < 4
    assert 0.5 < p < 0.8


def test_clocks(light):
    """ToA in steps of 1.5625 ns, ToT in steps of 25 ns from 25 ns on, in order of time."""
    hits = light[2]
    steps = np.round(hits.toa / 1562.5)
    assert np.all(np.abs(steps * 1562.5 - hits.toa) <= 0.5) and np.all(np.diff(hits.toa) >= 0)
    assert np.all(hits.tot % 25_000 == 0) and hits.tot.min() == 25_000


def test_limits_of_the_response(answer):
    """No jitter and no walk: the clock alone, 1.5625 ns/sqrt 12. All light in one pixel: its side/sqrt 12."""
    assert float(answer.time_spread) > 5e-9 / 2.354820045
    sharp = camera(jitter=0.0, walk=0.0, spot=1e-7, blur=0.0, gain=1e4, gain_shape=200.0)
    ideal = sharp.response()
    assert float(ideal.time_spread) == pytest.approx(1.5625e-9 / np.sqrt(12), rel=1e-9)
    assert float(ideal.position_spread) == pytest.approx(PITCH / np.sqrt(12), rel=1e-3)
    assert float(ideal.recorded) == pytest.approx(1, rel=1e-6)
    assert float(ideal.hits) == pytest.approx(1, abs=0.02)


def test_dark_photocathode_and_flood_light_meet_dead_pixels():
    """Poisson flashes all over a small chip: hits per pixel n/(1 + n tau), tau the mean ToT and dead time."""
    flood = camera(efficiency=1.0, dark_rate=2e4, pixels=12)
    rng, stop = np.random.default_rng(11), 2 * 10**10
    hits = flood.sample(np.zeros(0, np.int64), np.zeros((0, 2)), 0, stop, rng=rng)
    answer, live = flood.response(), flood.live(0.0, 1.0)
    inner = (hits.x > 3) & (hits.x < 8) & (hits.y > 3) & (hits.y < 8)
    expected = 2e4 * float(answer.hits) * float(live) * 16 * stop * 1e-12
    assert 0.85 < float(live) < 0.95
    spread = np.sqrt(expected * float(answer.hits))  # flashes of several hits
    assert abs(inner.sum() - expected) / spread < 4
    assert abs(inner.sum() - expected / float(live)) / spread > 5


def test_dead_pixels_are_a_plain_loop():
    rng = np.random.default_rng(7)
    pixel, times, dead = rng.integers(0, 5, 4000), rng.integers(0, 40_000, 4000), rng.integers(0, 60, 4000)
    until, stamped = {}, []
    for i in np.lexsort((times, pixel)):
        if times[i] >= until.get(pixel[i], times[i]):
            until[pixel[i]] = times[i] + dead[i]
            stamped.append(i)
    np.testing.assert_array_equal(_alive(pixel, times, dead), stamped)
    assert len(_alive(pixel, times, 0 * dead)) == 4000  # no dead time, nothing lost


def test_clusters_touch_in_place_and_time():
    """Corners touch, a gap of one pixel or of more than the window parts; weights are times over threshold."""
    law = camera(walk=0.0)
    x, y = np.array([3, 4, 9, 11, 3], np.int16), np.array([5, 6, 5, 5, 5], np.int16)
    toa, tot = np.array([0, 10_000, 12_000, 13_000, 400_000]), np.array([25, 75, 50, 50, 25]) * 1000
    photons = law.centroid(Hits(x, y, toa, tot), window=300e-9)
    np.testing.assert_array_equal(photons.hits, [2, 1, 1, 1])
    np.testing.assert_array_equal(photons.tot, [100_000, 50_000, 50_000, 25_000])
    np.testing.assert_allclose(photons.positions[0], (np.array([3.75, 5.75]) + 0.5 - 32) * PITCH)
    np.testing.assert_array_equal(photons.times - 781, [10_000, 12_000, 13_000, 400_000])
    assert len(law.centroid(Hits(x[:0], y[:0], toa[:0], tot[:0])).times) == 0


def test_time_walk_is_taken_back():
    law = camera()
    np.testing.assert_allclose(law.corrected(jnp.asarray([0.0, 50e-9, 450e-9])), [40e-9, 20e-9, 4e-9])


def test_derivatives_by_every_field():
    """Integrals with fewer points of their own; the live fraction in its closed form."""
    law = camera(dark_rate=900.0)
    names = [*USUAL, "pitch", "toa_bin", "tot_bin"]
    names.remove("throughput")
    values = jnp.stack([getattr(law, name) for name in names])

    def read(scale):
        moved = eqx.tree_at(lambda c: [getattr(c, name) for name in names], law, list(values * scale))
        r = mean_response(moved, gains=12, places=3)
        means = r.recorded, r.hits, r.tot * 1e9, r.time_spread * 1e9, r.position_spread * 1e6
        return jnp.stack([*means, moved.efficiency * r.recorded, 100 * moved.live_of(r, 0.5, 1e-3)])

    check_slopes(read, jnp.ones(len(names)), h=1e-6, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "field"), [({"spot": 60e-6}, "spot"), ({"pixels": 0}, "pixels"), ({"gain": 0.0}, "gain")]
)
def test_cameras_that_cannot_be_are_refused(changes, field):
    with pytest.raises(FieldError, match=field):
        camera(**changes)


def test_what_the_chip_cannot_take_is_refused():
    rng = np.random.default_rng(0)
    times = np.arange(1000, dtype=np.int64) * 100
    with pytest.raises(UserError, match=r"hits in .* accepted are 8e\+07 per s"):
        camera(throughput=8e7).sample(times, np.zeros((1000, 2)), 0, 100_000, rng=rng)
    with pytest.raises(UserError, match=r"times: got float64"):
        camera().sample(times * 1.0, np.zeros((1000, 2)), 0, 100_000, rng=rng)
    with pytest.raises(UserError, match=r"positions: .*finite"):
        camera().sample(times, np.full((1000, 2), np.nan), 0, 100_000, rng=rng)
    with pytest.raises(UserError, match=r"tot: got 0 ps"):
        camera().centroid(Hits(times[:2].astype(np.int16), times[:2].astype(np.int16), times[:2], times[:2]))
    with pytest.raises(FieldError, match="window"):
        camera().capture(-1e-9)
