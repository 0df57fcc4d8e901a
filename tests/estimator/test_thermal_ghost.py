"""Ghost images in speckle and known patterns: laws against drawn frames, closed forms, and who beats whom."""

from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import hadamard as sylvester
from scipy.special import erf
from slopes import check_slopes

from qtwin.core.errors import FieldError, UserError
from qtwin.detector import Camera, SinglePhoton
from qtwin.detector.emccd import EMCCD
from qtwin.estimator import bucket, thermal_ghost
from qtwin.estimator.protocol import Bench
from qtwin.estimator.setting import Setting
from qtwin.estimator.thermal_ghost import Frame, FramesLaw, ThermalGhost, cnr, differential_gain
from qtwin.tissue.images import Images

BUCKET = SinglePhoton(efficiency=0.6, dark_rate=800.0, dead_time=0.0, jitter=0.0)
CAMERA = Camera(efficiency=0.7, read_noise=1.5, dark_rate=120.0, full_well=1e9)
FRAME = 1e-3  # s
ESTIMATORS = ("covariance", "differential", "normalised", "patterns")


def law_of(estimator, transmission, photons=3.0, reference=40.0, frames=40, modes=1.0, **more) -> FramesLaw:
    """Law of an object [n, m] in a beam that is brighter on one side; mean photons per superpixel and frame."""
    t = np.asarray(transmission, float)
    beam = np.linspace(0.6, 1.4, t.size).reshape(t.shape) if more.pop("uneven", True) else np.ones(t.shape)
    beside, speckles = more.pop("beside", 8.0), 3.0
    stray, stray_reference = more.pop("stray", (1.5, 0.8))
    known = estimator == "patterns"
    frame = Frame(
        *(
            jnp.asarray(v)
            for v in (photons * beam * t, photons * beam, 0 * beside if known else beside, speckles, stray)
        ),
        *(jnp.asarray(v) for v in (reference * beam, stray_reference)),
    )
    device, camera = more.pop("bucket", BUCKET), None if known else more.pop("camera", CAMERA)
    assert not more
    time, name = jnp.asarray(FRAME), "differential" if known else estimator
    return FramesLaw(None, frame, time, device, camera, jnp.asarray(modes), frames, name)


def object_of(*shape):
    return np.random.default_rng(41).uniform(0, 1, shape)


def scores(values, expected):
    """z of the mean of values [exposures, ...]."""
    return (values.mean(axis=0) - expected) / (values.std(axis=0) / np.sqrt(len(values)))


def moment_scores(law, exposures, seed):
    """z of every mean, and of every entry of the covariance matrix, of drawn estimates."""
    drawn = law.draw(exposures, key=jax.random.key(seed)).estimates.reshape(exposures, -1)
    off = drawn - np.asarray(law.mean()).ravel()
    centred = drawn - drawn.mean(axis=0)
    products = centred[:, :, None] * centred[:, None, :]
    return scores(drawn, np.asarray(law.mean()).ravel()), scores(products, law.covariance()), off


# --- closed forms ----------------------------------------------------------------------------------------------


def bright(estimator, t, **more):
    """No noise but that of speckle."""
    device = SinglePhoton(efficiency=1.0, dark_rate=0.0, dead_time=0.0, jitter=0.0)
    camera = Camera(efficiency=1.0, read_noise=0.0, dark_rate=0.0, full_well=1e30)
    usual = {"photons": 1e9, "reference": 1e9, "uneven": False, "beside": 0.0, "stray": (0.0, 0.0)}
    return law_of(estimator, t, bucket=device, camera=camera, **(usual | more))


def open_area(n, size=64):
    return (np.arange(size) < n).astype(float).reshape(8, -1)


@pytest.mark.parametrize(("n", "expected"), [(5, 10.85), (50, 4.32)])
def test_cnr_of_open_speckles(n, expected):
    """K = 2000: sqrt(K/(2n + 7)) from the law, to 1/K; with M modes 6/M of the 7 shrink."""
    assert float(cnr(2000, n)) == pytest.approx(expected, abs=5e-3)
    for modes in (1.0, 2.5):
        law = bright("covariance", open_area(n), frames=2000, modes=modes)
        mean, variance = np.asarray(law.mean()), np.asarray(law.variance())
        inside = open_area(n) > 0
        found = (mean[inside] - mean[~inside][0]) / np.sqrt(variance[inside] + variance[~inside][0])
        np.testing.assert_allclose(found, float(cnr(2000, n, modes)), rtol=1 / 2000)


@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 50])
def test_cnr_of_drawn_frames(n):
    """K = 2000 drawn frames of speckle: the error of the CNR by leaving out exposures."""
    exposures, inside = 20, open_area(n).ravel() > 0
    images = bright("covariance", open_area(n), frames=2000, photons=1e6, reference=1e6).draw(
        exposures, key=jax.random.key(n)
    )
    images = images.estimates.reshape(exposures, -1)

    def of(images):
        mean, variance = images.mean(axis=0), images.var(axis=0, ddof=1)
        noise = np.sqrt(variance[inside].mean() + variance[~inside].mean())
        return (mean[inside].mean() - mean[~inside].mean()) / noise

    left = np.array([of(np.delete(images, i, axis=0)) for i in range(exposures)])
    error = np.sqrt((exposures - 1) * left.var())
    assert error < 0.15 * of(images)
    assert abs(of(images) - float(cnr(2000, n))) < 4 * error


def test_gain_of_the_differential_image():
    """sqrt(sum t^2/sum (t - <t>)^2) is what the noise of the other speckles falls by; the image, by nearly as much."""
    t = 0.7 + 0.3 * object_of(8, 8)
    whole, part = bright("covariance", t), bright("differential", t)
    gain = float(differential_gain(jnp.asarray(t)))
    assert gain == pytest.approx(np.sqrt((t**2).sum() / ((t - t.mean()) ** 2).sum()), rel=1e-12) and gain > 9
    assert float(whole.cumulants().bucket / part.cumulants().bucket) == pytest.approx(gain**2, rel=1e-5)
    assert 0.7 * gain < np.sqrt(np.mean(whole.variance() / part.variance())) < 1.1 * gain


def test_many_frames_leave_shot_noise():
    """Known patterns without end: Var T_a = <B>/g_a^2 of all clicks, as with Hadamard patterns."""
    t, frames = object_of(8, 8), 10**7
    law = law_of("patterns", t, photons=3e3 / frames, frames=frames, stray=(1e-4, 0.0))
    clicks = frames * float(law.cumulants().counts)
    gain = frames * 0.6 * np.asarray(law.frame.clear)
    np.testing.assert_allclose(np.asarray(law.variance()), clicks / gain**2, rtol=1e-2)


# --- the law against drawn frames --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "photons", "reference"), [("covariance", 0.5, 1.5), ("differential", 3.0, 400.0)]
)
def test_cumulants_of_drawn_frames(estimator, photons, reference):
    """X = B - k A and R_a, k known: second moments, and the fourth cumulant of what a superpixel sees twice."""
    more = {"reference": reference, "modes": 3.0, "beside": 0.1, "stray": (0.1, 0.1)}
    more["camera"] = Camera(efficiency=0.7, read_noise=0.3, dark_rate=120.0, full_well=1e9)
    law = law_of(estimator, object_of(2, 3), photons, **more)
    brighter = law.frame.bucket.at[1, 2].multiply(4.0)  # one superpixel outshines the others
    law = eqx.tree_at(lambda a: a.frame.bucket, law, brighter)
    c = jax.tree.map(np.asarray, law.cumulants())
    bucket, seen = law._frames((100, 8_000), np.random.default_rng(17))
    middle = np.sqrt((c.reference - c.noise) / float(law.intensity()[0])).ravel()
    x = (bucket - c.counts - c.k * (seen @ c.weight.ravel() - c.open))[:, :, None]
    y = seen - middle
    second, both = c.reference.ravel(), c.both.ravel()
    fourth = c.fourth.ravel() + c.bucket * second + 2 * both**2
    for found, expected in ((x, 0), (y, 0), (x * x, c.bucket), (y * y, second), (x * y, both), (x * x * y * y, fourth)):
        assert np.abs(scores(found.mean(axis=1), expected)).max() < 4
    assert c.fourth[1, 2] > 0.1 * fourth[-1]


@pytest.mark.parametrize("estimator", ["covariance", "differential", "patterns"])
def test_moments_of_drawn_images(estimator):
    """Mean and whole covariance matrix; few speckles, few frames, all noise: the exact law, not its limits."""
    means, covariances, off = moment_scores(law_of(estimator, object_of(2, 3), modes=1.6), 5_000, 7)
    assert np.abs(means).max() < 4 and np.abs(covariances).max() < 4.5
    assert 0.05 < off.std() < 20


def test_multiplication_of_the_reference():
    """A camera whose multiplication doubles the shot noise."""
    camera = EMCCD(0.7, 200.0, 20.0, 30.0, 0.05, 0.0, 1e6, 1e9, 100.0, stages=50)
    law = law_of("covariance", object_of(2, 3), reference=4.0, camera=camera)
    noisy = float(law.cumulants().noise[0, 0])
    assert noisy > 1.8 * 4.0 * 0.7 * 0.6
    means, covariances, _ = moment_scores(law, 2_000, 8)
    assert np.abs(means).max() < 4 and np.abs(covariances).max() < 4.5


@pytest.mark.parametrize("estimator", ["covariance", "normalised"])
def test_many_speckles(estimator):
    """64 superpixels, 5 % of the clicks lost to dead time: laws that hold to 1/n^2."""
    bucket = eqx.tree_at(lambda d: d.dead_time, BUCKET, jnp.asarray(8e-7))
    law = law_of(estimator, object_of(8, 8), bucket=bucket, reference=10.0)
    light = jnp.sum(law.frame.bucket) + law.frame.beside + law.frame.stray
    assert 0.03 < 1 - float(bucket.live(light, law.time)) < 0.06
    exposures = 1_000
    images = law.draw(exposures, key=jax.random.key(9)).estimates
    assert np.abs(scores(images, np.asarray(law.mean()))).max() < 4.5
    squares = (images - images.mean(axis=0)) ** 2
    assert np.abs(scores(squares, np.asarray(law.variance()))).max() < 4.5
    total = np.sum(squares / np.asarray(law.variance()), axis=(1, 2))
    assert abs(total.mean() / 64 - 1) < 4 * total.std() / np.sqrt(exposures) / 64


@pytest.mark.parametrize("estimator", ["covariance", "patterns"])
def test_pooled_deviation_varies_with_the_bucket(estimator):
    """Var sum_a e_a (T_a - <T_a>)^2 = 2 tr((E C)^2) + fourth: K frames are shared by all superpixels."""
    law, energy = law_of(estimator, object_of(8, 8), frames=60, stray=(300.0, 0.8)), np.linspace(1, 3, 64)
    drawn = law.draw(2_000, key=jax.random.key(10)).estimates.reshape(-1, 64)
    pooled = ((drawn - np.asarray(law.mean()).ravel()) ** 2) @ energy
    weighted = energy[:, None] * law.covariance()
    normal, beyond = 2 * np.sum(weighted * weighted.T), law.fourth(energy)
    assert beyond > 0.4 * normal
    assert abs(scores((pooled - pooled.mean()) ** 2, normal + beyond)) < 4


def test_draws_have_no_hidden_state(monkeypatch):
    """Same key, same draw; and chunks of eight frames of one exposure have the same law."""
    law = law_of("differential", object_of(2, 3))
    monkeypatch.setattr(thermal_ghost, "CHUNK", 50)
    first, again, other = (law.draw(40, key=jax.random.key(s)) for s in (1, 1, 0))
    np.testing.assert_array_equal(first.estimates, again.estimates)
    assert first.estimates.shape == first.counts.shape == (40, 2, 3)
    drawn = np.concatenate([first.estimates, other.estimates])
    assert np.abs(scores(drawn, np.asarray(law.mean()))).max() < 4
    assert np.abs(scores((drawn - drawn.mean(axis=0)) ** 2, np.asarray(law.variance()))).max() < 4


# --- the protocol and its opponents ------------------------------------------------------------------------------


class _Optics(eqx.Module):
    """What the protocol reads of a far field."""

    pitch: jax.Array
    width: jax.Array
    illumination_transmission: jax.Array
    collection_transmission: jax.Array
    idler_transmission: jax.Array
    ambient: jax.Array
    idler_ambient: jax.Array

    def beam_widths(self, source):
        return self.width, self.width


def bench_of(transmission, photons=2000.0, dark=200.0, seen=0.8, dead_time=2e-8, ambient=0.0) -> Bench:
    """A Gaussian beam of which 3/4 falls on n x n superpixels; the clear sample passes ``seen`` of all light."""
    t = jnp.asarray(transmission)
    n = t.shape[0]
    line = np.diff(erf(1.06 * (np.arange(n + 1) / n * 2 - 1))) / 2
    idler = jnp.asarray(np.outer(line, line))
    field = float(jnp.sum(idler))
    open_, nothing = seen * idler, jnp.zeros(())
    images = Images(
        open_ * t, open_, nothing, nothing, open_ * t, open_, nothing, nothing, jnp.asarray(seen), nothing, nothing
    )
    numbers = (1e-4, 1e-4 * n / (2 * np.sqrt(2) * 1.06), 0.9, 0.8, 0.7, ambient, ambient)
    incident = photons * n * n / field
    setting = Setting(*(jnp.asarray(v) for v in (incident, incident / 0.9, incident / 3e6)))
    device = SinglePhoton(efficiency=0.6, dark_rate=dark, dead_time=dead_time, jitter=0.0)
    camera = Camera(efficiency=0.75, read_noise=5.0, dark_rate=0.3, full_well=80_000.0)
    source = SimpleNamespace(signal_wavelength=jnp.asarray(810e-9))
    optics = _Optics(*(jnp.asarray(v) for v in numbers))
    return Bench(source, optics, None, camera, device, None, images, idler, t, setting)


@pytest.fixture(scope="module")
def open_areas():
    """Var T of an open superpixel, arm by arm, for open areas of 1/16, 1/4 and all of 8 x 8 superpixels."""
    order = np.argsort(np.random.default_rng(3).permutation(64))
    out = []
    for n in (4, 16, 64):
        bench = bench_of((order < n).astype(float).reshape(8, 8))
        first = np.argmin(order)
        variances = {}
        for arm in ThermalGhost().arms():
            law = arm.law(bench)
            np.testing.assert_allclose(np.asarray(law.mean()), np.asarray(bench.object), rtol=1e-6, atol=1e-12)
            variances[arm.name] = float(law.variance().ravel()[first] * law.ledger.incident / bench.setting.incident)
        out.append(variances)
    return out


THERMAL = [f"thermal ghost, {name}" for name in ("covariance", "normalised", "differential")]
KNOWN, PATTERNED, SCANNED = "computational ghost, random", "Hadamard patterns, bucket", "scanned beam, bucket"


def test_direct_image_wins_at_equal_dose_and_more_so_for_large_objects(open_areas):
    for name in [*THERMAL, KNOWN, PATTERNED]:
        worse = [v[name] / v["coherent, camera"] for v in open_areas]
        assert 1 < worse[0] < worse[1] < worse[2]
        assert all(v[name] > 2 * v["coherent, ideal camera"] for v in open_areas)


def test_order_of_the_bucket_images(open_areas):
    """Scanned before Hadamard before random patterns before speckle; the differential image before the covariance."""
    for v in open_areas:
        found = [v[name] for name in (SCANNED, PATTERNED, KNOWN, THERMAL[-1], THERMAL[0])]
        assert found == sorted(found)
        assert v[THERMAL[1]] == v[THERMAL[2]]
    assert all(v[SCANNED] < 1.01 * open_areas[0][SCANNED] for v in open_areas)


def test_scanned_beam_is_shot_noise():
    """Var T = T/(eta c N seen idler) without dark counts and dead time, with all the dose on the field."""
    bench = bench_of(object_of(3, 3), dark=0.0, dead_time=0.0)
    law = bucket.scanned(bench)
    clear = 0.6 * 0.8 * bench.setting.incident * 0.8 * bench.idler
    np.testing.assert_allclose(np.asarray(law.variance()), np.asarray(bench.object / clear), rtol=1e-12)
    assert float(law.ledger.incident) == pytest.approx(float(jnp.sum(bench.idler) * bench.setting.incident), rel=1e-12)
    assert float(law.ledger.detected) == pytest.approx(float(jnp.sum(bench.object * clear)), rel=1e-12)
    dark = bucket.scanned(bench_of(object_of(3, 3), dark=900.0, dead_time=0.0, ambient=300.0))
    dwell = bench.setting.time * bench.idler / jnp.sum(bench.idler)
    expected = bench.object / clear + (900.0 + 0.6 * 9 * 300.0) * dwell / clear**2
    np.testing.assert_allclose(np.asarray(dark.variance()), np.asarray(expected), rtol=1e-12)


def test_walsh_functions():
    x = np.random.default_rng(5).normal(size=(3, 16))
    np.testing.assert_allclose(bucket.walsh(x), x @ sylvester(16), rtol=1e-12)


def test_hadamard_moments():
    """Mean, covariance (patterns share their clicks) and fourth cumulants of drawn patterns."""
    bench = bench_of(object_of(3, 3), photons=3.0, ambient=2e4)
    law, exposures = bucket.hadamard(bench), 40_000
    drawn = law.draw(exposures, key=jax.random.key(6)).estimates.reshape(exposures, -1)
    assert np.abs(scores(drawn, np.asarray(law.mean()).ravel())).max() < 4
    off = drawn - drawn.mean(axis=0)
    covariance = law.covariance()
    assert np.abs(scores(off[:, :, None] * off[:, None, :], covariance)).max() < 4.5
    np.testing.assert_allclose(np.diag(covariance), np.asarray(law.variance()).ravel(), rtol=1e-12)
    energy = np.linspace(0.5, 2, 9) * np.asarray(law.gain).ravel() ** 2 / 1e3
    pooled = (off**2) @ energy
    weighted = energy[:, None] * covariance
    expected = 2 * np.sum(weighted * weighted.T) + law.fourth(energy)
    assert abs(scores((pooled - pooled.mean()) ** 2, expected)) < 4


def test_ledger_of_speckle():
    """The sample meets the whole beam; the laser also lights the reference; the bucket's light is counted once."""
    bench = bench_of(object_of(8, 8), dead_time=0.0)
    law = thermal_ghost.thermal(bench, ThermalGhost(reference_photons=30.0, frames=100), "covariance")
    assert float(law.ledger.incident) == float(bench.setting.incident)
    assert float(law.ledger.pump) == pytest.approx(31 * float(bench.laser(0.0).pump), rel=1e-12)
    seen = 0.8 - jnp.sum(bench.images.ghost_open - bench.images.ghost)
    assert float(law.ledger.detected) == pytest.approx(0.6 * 0.8 * float(seen * bench.setting.incident), rel=1e-12)
    line = np.diff(erf(1.06 * (np.arange(-40, 49) / 8 * 2 - 1))) / 2  # the beam goes on past the field
    plane = np.outer(line, line)
    plane[40:48, 40:48] = 0
    assert float(law.frame.speckles) == pytest.approx(plane.sum() ** 2 / np.sum(plane**2), rel=0.02)
    assert 0 < float(law.load()) < 1


def test_facts_and_names():
    protocol = ThermalGhost(frames=500)
    facts = protocol.facts(bench_of(object_of(8, 8)))
    assert all(np.isfinite(float(value)) for value, _ in facts.values())
    arms = protocol.arms()
    assert all(set(arm.opponents) <= {other.name for other in arms} for arm in arms)


def test_slopes():
    """Mean, variance and ledger by everything the law reads, device and object included."""
    base = bench_of(object_of(2, 2), ambient=50.0)
    n = base.idler.size

    def read(x):
        images = base.images._replace(ghost=base.images.ghost * (1 + x[:n].reshape(2, 2)), accepted=x[n])
        scale = iter(jnp.exp(x[n + 1 :]))
        camera, device, setting, optics = base.camera, base.detector, base.setting, base.optics
        camera = eqx.tree_at(
            lambda c: (c.efficiency, c.read_noise, c.dark_rate), camera, replace_fn=lambda v: v * next(scale)
        )
        device = eqx.tree_at(
            lambda d: (d.efficiency, d.dark_rate, d.dead_time), device, replace_fn=lambda v: v * next(scale)
        )
        setting = jax.tree.map(lambda v: v * next(scale), setting)
        optics = jax.tree.map(lambda v: v * next(scale), optics)
        protocol = ThermalGhost(modes=1.5 * next(scale), reference_photons=20.0 * next(scale), frames=50)
        bench = base._replace(images=images, camera=camera, detector=device, setting=setting, optics=optics)
        out = []
        laws = thermal_ghost.thermal(bench, protocol, "differential"), thermal_ghost.computational(bench, protocol)
        for law in (*laws, bucket.scanned(bench), bucket.hadamard(bench)):
            out += [jnp.log(law.variance()).ravel(), law.mean().ravel(), jnp.log(jnp.stack(law.ledger))]
        return jnp.concatenate(out)

    x = jnp.zeros(n + 1 + 3 + 3 + 3 + 7 + 2).at[n].set(0.8)
    check_slopes(read, x, rtol=2e-5, atol=1e-7)


def test_refusals():
    with pytest.raises(FieldError, match="frames: got 1"):
        ThermalGhost(frames=1)
    with pytest.raises(FieldError, match=r"modes: got 0\.5"):
        ThermalGhost(modes=0.5)
    law = law_of("normalised", object_of(2, 3), reference=0.01)
    with pytest.raises(UserError, match="reference_photons"):
        law.draw(3, key=jax.random.key(0))
