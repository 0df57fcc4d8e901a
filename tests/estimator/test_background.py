"""Pairs on a bench without scattering: closed forms with background, and time tags both ways."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pair_bench import LIGHT, PITCH, Bench, N, T, bench

from qtwin.core.errors import UserError
from qtwin.correlation import Coincidence
from qtwin.detector import SinglePhoton
from qtwin.estimator import Ghost, TimeTagged, TwinBeams, direct, ghost, time_tagged, twin_beams
from qtwin.estimator.linear import estimate
from qtwin.tissue.light_path import Exposure


def gain(ours, theirs):
    return np.asarray(theirs.variance() / ours.variance())


@pytest.mark.parametrize("eta, naive, optimal, tagged", [(0.5, 0.950, 1.311, 1.452), (0.9, 3.958, 4.338, 6.307)])
def test_gains_without_background(eta, naive, optimal, tagged):
    """PHYSICS.md section 4, gains at T = 0.95 over the same detector; accidentals of the window are 1e-4 here."""
    b = bench(0.95, eta, incident=1e4, time=1.0)
    camera, array = direct.on_camera(b), direct.on_array(b)
    # a naive estimator of T also takes the shot noise of the known idler mean: closed form below at E = 0
    np.testing.assert_allclose(gain(twin_beams.law(b, "optimal"), camera), optimal, atol=6e-4)
    np.testing.assert_allclose(gain(time_tagged.law(b), array), tagged, atol=6e-4)
    fnr, alpha = 1 - eta, 0.05
    assert 0.95 / (alpha + 2 * fnr * (1 - alpha)) == pytest.approx(naive, abs=6e-4)
    np.testing.assert_allclose(gain(twin_beams.law(b, "naive"), camera), naive, atol=6e-4)


@pytest.mark.parametrize("both, expected", [(True, 1.231), (False, 1.600)])
def test_background_as_strong_as_the_signal(both, expected):
    """PHYSICS.md section 4: background of the clear signal's mean, T = 0.95, eta 0.9; where light is even."""
    b = bench(0.95)
    b = b._replace(images=b.images._replace(direct=b.images.direct, direct_open=b.images.direct_open))
    stray = 1e6 * float(LIGHT[1, 1]) / 0.05
    b = b._replace(
        optics=eqx.tree_at(
            lambda o: (o.ambient, o.idler_ambient), b.optics, (jnp.asarray(stray), jnp.asarray(stray if both else 0.0))
        )
    )
    found = gain(twin_beams.law(b, "optimal"), direct.on_camera(b))
    assert found[1, 1] == pytest.approx(expected, abs=6e-4)


def test_heralding_rejects_background_and_an_equal_gate_rejects_it_too():
    """PHYSICS.md section 5: heralding wins over ungated light iff eta_i (1 + b) > 1, b in signals."""
    for stray, wins in ((0.5, False), (4.0, True)):
        b = bench(0.95, 0.5, incident=1e4, time=1.0)
        per_superpixel = stray * 1e4 * float(LIGHT[1, 1]) * 0.95
        b = b._replace(optics=eqx.tree_at(lambda o: o.ambient, b.optics, jnp.asarray(per_superpixel)))
        coincidences, ungated = ghost.law(b, "coincidences"), direct.on_array(b)
        found = gain(coincidences, ungated)[1, 1]
        assert found == pytest.approx(0.5 * (1 + stray), rel=1e-3)
        assert (found > 1) == wins
        assert gain(ghost.law(b, "ratio"), ghost.gated(b))[1, 1] < 1  # eta_i > 1 - eta_s T does not hold: 0.5 < 0.525


def carried(b: Bench, rng) -> Exposure:
    """Pairs of one exposure, one by one, as `bench` has them."""
    count = rng.poisson(float(b.setting.incident))
    places = rng.choice(N * N + 1, count, p=[*np.ravel(LIGHT), 1 - float(jnp.sum(LIGHT))])
    inside = places < N * N
    row, column = np.divmod(np.where(inside, places, 0), N)
    x = np.where(inside[:, None], np.stack([column, row], 1) - 1, 99) * PITCH
    seen = inside & (rng.random(count) < np.append(np.ravel(b.object), 0)[places])
    return Exposure(x, x, seen, np.ones(count))


DEVICE = SinglePhoton(efficiency=0.8, dark_rate=4000.0, dead_time=40e-9, jitter=200e-12)


@pytest.mark.parametrize("protocol", ["time-tagged", "ghost", "twin beams"])
def test_clicks_of_single_pairs_with_background_agree_with_the_law(protocol):
    """120 exposures carried pair by pair; means and variances of both records and of the estimate by z-score."""
    stray = {"ambient": "30 kHz", "idler_ambient": "20 kHz"}
    b = bench(incident=4000.0, time=0.004, device=DEVICE, **stray)
    b = b._replace(correlation=Coincidence("20 ns"))
    rng, rest = np.random.default_rng(21), (b.idler, b.setting, b.optics)
    laws = {
        "time-tagged": (time_tagged.law(b), lambda e, k: time_tagged.record(e, *rest, DEVICE, b.correlation, key=k)),
        "ghost": (ghost.law(b, "ratio"), lambda e, k: ghost.record(e, *rest, DEVICE, b.correlation, key=k)[:2]),
        "twin beams": (twin_beams.law(b, "optimal"), lambda e, k: twin_beams.record(e, *rest, b.camera, key=k)),
    }
    law, record = laws[protocol]
    shots = [record(carried(b, rng), jax.random.key(100 + i)) for i in range(120)]
    x, y = (np.array(a, float) for a in zip(*shots, strict=True))
    for counts, mean, noise in ((x, law.records.x, law.records.noise_x), (y, law.records.y, law.records.noise_y)):
        variance = np.asarray(mean + noise)
        z = (counts.mean(axis=0) - mean) / np.sqrt(variance / 120)
        assert np.sum(z**2) < 9 + 4 * np.sqrt(18)
        ratio = (counts.var(axis=0, ddof=1) / variance).mean()
        assert abs(ratio - 1) < 4 * np.sqrt(2 / 119 / 9 + 1 / np.mean(variance) / 119 / 9)
    images = np.asarray(estimate(x, y, law.calibration))
    z = (images.mean(axis=0) - law.mean()) / np.sqrt(law.variance() / 120)
    assert np.sum(z**2) < 9 + 4 * np.sqrt(18)
    np.testing.assert_allclose(law.mean(), T, rtol=2e-3)
    ratio = (images.var(axis=0, ddof=1) / np.asarray(law.variance())).mean()
    assert abs(ratio - 1) < 4 * np.sqrt(2 / 119 / 9)


def test_gradients_of_time_tags_and_background():
    paths = {
        "optics.ambient": lambda b: b.optics.ambient,
        "optics.idler_ambient": lambda b: b.optics.idler_ambient,
        "detector.efficiency": lambda b: b.detector.efficiency,
        "detector.dark_rate": lambda b: b.detector.dark_rate,
        "detector.dead_time": lambda b: b.detector.dead_time,
        "correlation.window": lambda b: b.correlation.window,
        "setting.incident": lambda b: b.setting.incident,
    }
    start = bench(incident=4000.0, time=0.004, device=DEVICE, ambient="30 kHz", idler_ambient="20 kHz")
    start = start._replace(correlation=Coincidence("20 ns"))

    @jax.jit
    def precision(b):
        laws = time_tagged.law(b), ghost.law(b, "ratio"), twin_beams.law(b, "optimal"), ghost.gated(b)
        return sum(jnp.sum(jnp.log(law.variance())) for law in laws)

    slopes = jax.grad(precision)(start)
    for name, at in paths.items():
        value = float(at(start))
        moved = [precision(eqx.tree_at(at, start, jnp.asarray(value * f))) for f in (1 + 1e-4, 1 - 1e-4)]
        difference = float(moved[0] - moved[1]) / (2e-4 * value)
        assert float(at(slopes)) == pytest.approx(difference, rel=2e-5, abs=1e-7 * abs(1 / value)), name


def test_arms_have_names_opponents_and_ledgers():
    b = bench(device=DEVICE)
    for protocol in (TwinBeams(), Ghost(), TimeTagged()):
        arms = {arm.name: arm for arm in protocol.arms()}
        for arm in arms.values():
            ledger = arm.law(b).ledger
            assert all(float(v) > 0 for v in ledger)
            assert float(ledger.incident) == 1e6
            assert set(arm.opponents) <= set(arms)
            assert bool(arm.opponents) == arm.quantum
        assert all(arm.kind for arm in arms.values() if not arm.quantum)
        assert sum("ideal" in arm.name for arm in arms.values()) == 1
    pump = TwinBeams().arms()[0].law(b).ledger.pump
    assert float(pump) == pytest.approx(3e-3 * 0.05)
    laser = direct.on_camera(b).ledger.pump
    assert float(laser) == pytest.approx(1e6 * 6.62607015e-34 * 299792458 / 810e-9)


def test_windows_full_of_unrelated_clicks_are_refused():
    b = bench(incident=1e8)._replace(correlation=Coincidence("1 us"))
    with pytest.raises(UserError, match=r"correlation\.window: .* accepted is less than 0\.5"):
        TimeTagged().arms()[0].law(b)
