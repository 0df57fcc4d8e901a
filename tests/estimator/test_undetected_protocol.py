"""Undetected photons: light against the Gaussian network, information against closed forms, estimates against draws."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf
from slopes import check_slopes, once

from qtwin.core.config import build, compose, plain
from qtwin.core.errors import FieldError
from qtwin.correlation import Coincidence
from qtwin.detector import Camera, SinglePhoton
from qtwin.estimator.protocol import Bench
from qtwin.estimator.setting import Setting
from qtwin.estimator.undetected import BRIGHT, FringeLaw, Fringes, Undetected, amplitude, fit, thermal_background
from qtwin.modes.counts import counts
from qtwin.modes.gaussian import displace, vacuum
from qtwin.modes.information import coherent_transmission, fock_transmission
from qtwin.modes.operations import beam_splitter, keep, loss, phase_shift, two_mode_squeeze
from qtwin.modes.undetected import induced_coherence_visibility, resolution
from qtwin.optics import FarField
from qtwin.source import SPDC
from qtwin.tissue import Slab
from qtwin.tissue.images import Images

LOW = 1e-9  # pairs per mode, as good as none
PERFECT = Camera(1.0, 0.0, 0.0, 1e12)
SILICON = Camera(0.8, 4.0, "3 Hz", 1e6)
N, PITCH, INCIDENT = 6, 1e-4, 4e4
SOURCE = SPDC(
    *("532 nm", "3.42 um", "2 mm", "1 mm", "100 mW", "50 nm", "50 degC"), crystal="MgO:LiNbO3", rays="zzz", order=1
)
BACK = Camera(0.8, 60.0, "3.3e5 Hz", 3e6)
TISSUE = Slab("10 um", "4 um", "10 1/mm", "5 1/mm", 0.9, 1.45)
OBJECT = jnp.asarray(np.random.default_rng(5).uniform(0.3, 1, (N, N)))
LIGHT = jnp.asarray(np.random.default_rng(6).uniform(0.01, 0.02, (N, N)))
TIME = INCIDENT / SOURCE.pair_rate()
PROTOCOL = Undetected(*(BACK, Camera(1.0, 4e6, 0.0, 1e12), 0.8, 1e-6, 0.3, "1 mW", 10.0, "300 K"))


def fringes(steps=4, gain=LOW, seed=0.0, v=1.0, photons=1.0, between=1.0, visible=1.0, ambient=0.0, camera=PERFECT):
    numbers = [jnp.asarray(value) for value in (visible, between, gain, seed, v)]
    at = jnp.asarray(np.pi * np.arange(steps) / steps)[:, None, None]
    each, time = jnp.full((4, 4), photons / steps), jnp.asarray(0.5)
    return Fringes(each, *numbers, at, time, jnp.asarray(ambient), camera)


def law(transmission, phase=0.0, **given):
    t = jnp.sqrt(jnp.broadcast_to(jnp.asarray(transmission), (4, 4)))
    return FringeLaw(None, fringes(**given), t, jnp.asarray(phase))


def bench(camera=SILICON, transmission=OBJECT, **optics) -> Bench:
    """No scattered light: an infrared camera sees the object through Fresnel reflection and absorption alone."""
    straight = TISSUE.ballistic()
    direct, clear, nothing = LIGHT * transmission * straight, LIGHT * straight, jnp.zeros(())
    images = Images(direct, clear, nothing, nothing, direct, clear, nothing, nothing, straight, nothing, nothing)
    far = FarField(*("50 mm", 0.2, PITCH, 1.0, 0.9, 0.7), pixels=N, **optics)
    rest = SinglePhoton(0.6, 0.0, 0.0, 0.0), Coincidence("1 ns"), images, LIGHT, transmission
    return Bench(SOURCE, far, TISSUE, camera, *rest, Setting(jnp.asarray(INCIDENT), jnp.asarray(INCIDENT), TIME))


# --- the light -------------------------------------------------------------------------------------------------


@once
@jax.vmap
def network(t, phase, gain, alpha):
    """(mean, covariance) of the counts on both outputs, one mode: seed, crystals, object, beam splitter."""
    r = jnp.arcsinh(jnp.sqrt(gain))
    state = displace(vacuum(3), (alpha * jnp.asarray([0, 0, 1.0])).astype(complex))
    state = two_mode_squeeze(state, 0, 2, r)
    state = phase_shift(loss(state, jnp.ones(3).at[2].set(t**2)), 2, phase)
    state = two_mode_squeeze(state, 1, 2, r)
    return counts(keep(beam_splitter(state, 0, 1, 0.5), (0, 1)))


def test_light_is_that_of_the_gaussian_network():
    """Means, variances and covariance of both outputs, one mode (as many photons as are in a mode), with a seed too."""
    t, phase = np.array([0.5, 0.83, 0.3, 0.6]), np.array([0.4, 2.2, -1.1, 0.9])
    gain, seed = np.array([1.0, 0.2, 3.0, 0.7]), np.array([0.0, 0.0, 2.3, 0.4])
    mean, covariance = (np.asarray(a) for a in network(t, phase, gain, np.sqrt(seed)))
    for i in range(4):
        made = fringes(1, gain[i], seed[i], photons=gain[i] + (1 + gain[i]) * seed[i])
        x, y = (jnp.full((4, 4), t[i] * f(phase[i])) for f in (np.cos, np.sin))
        own, shared = made.bunching(x, y)
        np.testing.assert_allclose(made.light(x, y)[0, :, 1, 2], mean[i], rtol=1e-9)
        np.testing.assert_allclose(own[0, :, 1, 2] + mean[i], np.diag(covariance[i]), rtol=1e-9)
        np.testing.assert_allclose(shared[0, 1, 2], covariance[i][0, 1], rtol=1e-9)


@pytest.mark.parametrize(
    "t, gain, seed, expected",
    [
        (0.5, 1.0, 0.0, 0.6285393611),
        (0.5, LOW, 0.0, 0.5),
        (0.9, 2.0, 0.0, float(induced_coherence_visibility(0.9, 2.0))),
        (0.5, LOW, BRIGHT, 2 * 0.5 / (1 + 0.5**2)),
        (0.3, 1.0, BRIGHT, 2 * 0.3 * np.sqrt(2) / (1 + 0.3**2 * 2)),
    ],
)
def test_visibility(t, gain, seed, expected):
    """2 t sqrt(1 + N)/(2 + t^2 N) -> t at low gain; with a bright seed 2 t sqrt(1 + N)/(1 + t^2 (1 + N)).

    For one infrared photon 2 + N t^2 visible ones, or N/(1 + N) + N t^2 if a seed stimulates them.
    """
    bright, dark = np.asarray(fringes(1, gain, seed).light(jnp.full((4, 4), t), jnp.zeros((4, 4))))[0, :, 0, 0]
    assert (bright - dark) / (bright + dark) == pytest.approx(expected, rel=2e-6)
    assert bright + dark == pytest.approx((gain / (1 + gain) if seed else 2) + gain * t**2, rel=2e-6)


# --- information -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transmission, v", [(0.1, 1.0), (0.5, 0.8), (0.9, 0.95)])
def test_fisher_information_of_the_scan(transmission, v):
    """F_T = [1/sqrt(1 - v^2 T) - 1]/(2 T^2) and F_phase = 2 [1 - sqrt(1 - v^2 T)] per infrared photon, many steps."""
    made = law(transmission, 0.37, steps=16, v=v, photons=1e9)
    root = np.sqrt(1 - v**2 * transmission)
    np.testing.assert_allclose(1e-9 / made.variance(), (1 / root - 1) / (2 * transmission**2), rtol=1e-6)
    np.testing.assert_allclose(1e-9 / made.phase_variance(), 2 * (1 - root), rtol=1e-6)


@pytest.mark.parametrize("transmission, v", [(0.1, 1.0), (0.5, 0.8), (0.9, 0.95)])
def test_fisher_information_locked_to_the_fringe(transmission, v):
    """F_T = v^2/[2 T (1 - v^2 T)]: half the quantum limit 1/[T (1 - T)] at v = 1."""
    made = law(transmission, steps=1, v=v, photons=1e9)
    closed = v**2 / (2 * transmission * (1 - v**2 * transmission))
    np.testing.assert_allclose(1e-9 / made.variance(), closed, rtol=1e-6)
    np.testing.assert_array_equal(made.phase_variance(), 0)
    if v == 1:
        assert closed == pytest.approx(float(fock_transmission(transmission, 1.0)) / 2)


def test_photon_for_photon_against_an_ideal_infrared_camera():
    """A quarter of its information at T -> 0; equal at T = sqrt(3)/2 if v = 1; a third at T = 0.95 if v = 0.8."""

    def ratio(transmission, v=1.0):
        information = 1e-9 / law(transmission, 0.2, steps=16, v=v, photons=1e9).variance()[0, 0]
        return float(information / coherent_transmission(transmission, 1.0))

    assert ratio(1e-3) == pytest.approx(0.25, rel=1e-3)
    assert ratio(np.sqrt(3) / 2) == pytest.approx(1, rel=1e-4)
    assert ratio(0.95) > 1.8
    assert ratio(0.95, 0.8) == pytest.approx((1 / np.sqrt(1 - 0.64 * 0.95) - 1) / 1.9, rel=1e-6)
    assert ratio(0.95, 0.8) < 1 / 3


@pytest.mark.parametrize("given", [{"gain": LOW}, {"gain": 1.0}, {"gain": 10.0, "seed": BRIGHT}, {"steps": 1}])
def test_no_light_tells_more_than_the_quantum_limit(given):
    """The part of the information that grows with the photons stays below 1/[T (1 - T)] per infrared photon."""
    for transmission in (0.2, 0.6, 0.95):
        made = law(transmission, 0.2 * (given.get("steps") != 1), photons=1e9, **given)
        assert 0 < 1e-9 / float(made.variance()[0, 0]) < float(fock_transmission(transmission, 1.0))


def test_seeding_tells_less_per_infrared_photon():
    """At low gain N a bright seed makes N visible photons for each infrared one: its information is N F."""
    weak = law(0.5, 0.3, gain=1e-4, seed=BRIGHT, photons=1e12)
    assert 1e-12 / float(weak.variance()[0, 0]) == pytest.approx(1e-4 * 1.0, rel=0.1)
    strong, spontaneous = law(0.5, 0.3, gain=10.0, seed=BRIGHT, photons=1e12), law(0.5, 0.3, photons=1e12)
    assert float(strong.variance()[0, 0]) > float(spontaneous.variance()[0, 0])


# --- estimates -------------------------------------------------------------------------------------------------

DRAWS = 4000
CASES = {
    "scan": (0.8, 0.3, {"v": 0.8, "between": 0.7, "visible": 0.9, "photons": 2000.0, "ambient": 20.0}),
    "dark sample": (0.1, -1.2, {"v": 0.9, "photons": 3000.0}),
    "finite gain": (0.7, 0.6, {"gain": 1.0, "v": 0.9, "between": 0.8, "photons": 30000.0}),
    "stimulated": (0.6, 2.0, {"gain": 3.0, "seed": BRIGHT, "v": 0.9, "between": 0.8, "photons": 30000.0}),
    "locked": (0.8, 0.0, {"steps": 1, "v": 0.9, "between": 0.7, "photons": 2000.0}),
}


def scores(found, mean, variance):
    """z of the mean and of the variance, all superpixels pooled, of found [draws, 4, 4]."""
    found, each = np.asarray(found), np.sqrt(np.asarray(variance) / DRAWS)
    middle = np.sum((found.mean(axis=0) - np.asarray(mean)) / each) / 4
    return middle, np.sum(found.var(axis=0, ddof=1) / np.asarray(variance) - 1) / 4 * np.sqrt(DRAWS / 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_drawn_estimates_are_those_expected(name):
    transmission, phase, given = CASES[name]
    made = law(transmission, phase, camera=SILICON, **given)
    records = made.records(DRAWS, key=jax.random.key(7))
    found, turned = (np.asarray(a) for a in fit(made.fringes, jnp.asarray(records)))
    assert np.abs(scores(found, made.mean(), made.variance())).max() < 4
    if name != "locked":
        assert np.abs(scores(turned, phase, made.phase_variance())).max() < 4
    x, y = (np.sqrt(transmission) * f(phase) * jnp.ones((4, 4)) for f in (np.cos, np.sin))
    events = (records.mean(axis=0) - made.fringes.mean(x, y)) / (records.std(axis=0) / np.sqrt(DRAWS))
    assert np.abs(events).max() < 4.5
    if name == "scan":
        drawn, again = made.draw(DRAWS, key=jax.random.key(7)), made.draw_phase(DRAWS, key=jax.random.key(7))
        np.testing.assert_array_equal(drawn.estimates, found)
        np.testing.assert_array_equal(again, turned)
        np.testing.assert_array_equal(drawn.counts, records.sum(axis=(1, 2)))


def test_a_wrong_parameter_fails():
    """Five standard errors of a contrast, of a transmission or of read noise are seen in the mean or the variance."""
    transmission, phase, given = CASES["scan"]
    made = law(transmission, phase, camera=SILICON, **given)
    records = jnp.asarray(made.records(DRAWS, key=jax.random.key(8)))
    error = float(jnp.sqrt(made.variance()[0, 0]) / (4 * np.sqrt(DRAWS)))  # of the mean, all superpixels together
    off = 5 * error / (2 * transmission / given["v"])  # dT/dv = -2 T/v
    wrong = law(transmission, phase, camera=SILICON, **(given | {"v": given["v"] + off})).fringes
    assert scores(fit(wrong, records)[0], made.mean(), made.variance())[0] < -3
    still = law(transmission, phase, camera=put(SILICON, read_noise=3.0), **given)
    assert scores(fit(still.fringes, records)[0], made.mean(), still.variance())[1] > 4


# --- the image -------------------------------------------------------------------------------------------------


def test_amplitude_of_an_even_object_and_of_an_edge():
    """sqrt T inside; over an edge the amplitude, not the intensity, is spread by f l/(2 pi w) and the diffraction."""
    b = bench(transmission=jnp.ones((N, N)).at[:, : N // 2].set(0.25))
    t = np.asarray(amplitude(b))
    sigma = np.hypot(0.05 * 3.42e-6 / (2 * np.pi * 1e-3), np.sqrt(2) * 3.42e-6 / (2 * np.pi * 0.2))
    assert 2.3548 * 0.05 * 3.42e-6 / (2 * np.pi * 1e-3) == pytest.approx(
        float(resolution(0.05, 3.42e-6, 1e-3)), rel=1e-4
    )
    at = np.linspace(0, 1, 20001)  # within the superpixel beside the edge, in pitches
    beside = np.trapezoid(1 - 0.5 * (1 - erf(at * PITCH / sigma / np.sqrt(2))) / 2, at)
    np.testing.assert_allclose(t[2:4, N // 2], beside, rtol=3e-4)
    np.testing.assert_allclose(t[2:4, 1], 0.5, rtol=1e-4)
    assert abs(beside**2 - (1 - 0.75 * (1 - beside) / 0.5)) > 0.01


def test_a_shifted_camera_sees_a_shifted_object():
    """One superpixel to the right and half a one up; what comes in from outside is clear."""
    t = np.asarray(amplitude(bench(idler_x=PITCH, idler_y=-PITCH / 2)))
    still = np.asarray(amplitude(bench()))
    between = (still[1:-1, :-1] + still[2:, :-1]) / 2
    np.testing.assert_allclose(t[1:-1, 1:], between, atol=0.05)
    assert np.abs(t[1:-1, 1:] - between).max() < 0.3 * np.abs(t[1:-1, 1:] - still[1:-1, 1:]).max()
    drifted = np.asarray(amplitude(bench(drift_x=2 * PITCH)))
    assert np.std(np.diff(drifted, axis=1)) < 0.7 * np.std(np.diff(still, axis=1))


# --- protocol --------------------------------------------------------------------------------------------------


def put(element, **values):
    names = list(values)
    return eqx.tree_at(
        lambda e: [getattr(e, n) for n in names], element, [jnp.asarray(v, float) for v in values.values()]
    )


@once
def told(protocol, b):
    """Mean, variance and ledger of every arm, and the facts."""
    laws = {arm.name: arm.law(b) for arm in protocol.arms()}
    facts = {name: value for name, (value, _) in protocol.facts(b).items()}
    return {name: (made.mean(), made.variance(), made.ledger) for name, made in laws.items()}, facts


def test_arms_and_ledgers():
    b, arms = bench(), PROTOCOL.arms()
    names = [arm.name for arm in arms]
    assert arms[0].quantum and arms[0].opponents == tuple(names[1:]) and len(set(names)) == 5
    laws, facts = told(PROTOCOL, b)
    ledgers = {name: made[2] for name, made in laws.items()}
    assert all(float(ledger.incident) == INCIDENT for ledger in ledgers.values())
    ours, seeded = ledgers["undetected photons"], ledgers["stimulated, silicon camera"]
    assert float(ours.pump) == pytest.approx(2 * 0.1 * float(b.setting.time), rel=1e-5)
    assert float(ours.detected) == pytest.approx(2 * INCIDENT * float(LIGHT.sum()) * 0.7 * 0.8, rel=1e-5)
    energy = 6.62607015e-34 * 299792458 / 3.42e-6 * INCIDENT
    assert float(ledgers["coherent, cooled IR camera"].time) == pytest.approx(energy / 1e-3)
    power = 0.1 * np.arcsinh(np.sqrt(10)) ** 2 / float(SOURCE.gain())  # of each pump, for N = 10
    assert float(seeded.pump) == pytest.approx(energy * (1 + 2 * power / 1e-3), rel=1e-9)
    for name in ("cooled IR", "uncooled IR", "ideal IR"):
        np.testing.assert_allclose(laws[f"coherent, {name} camera"][0], OBJECT, rtol=1e-9)
    ideal = laws["coherent, ideal IR camera"][1]
    np.testing.assert_allclose(ideal, OBJECT / (INCIDENT * LIGHT * TISSUE.ballistic()), rtol=1e-9)
    assert float(jnp.min(laws["coherent, uncooled IR camera"][1])) > 1e6
    pulsed = told(put(PROTOCOL, photons_per_mode=1.0), b)[0]["undetected photons"][2]
    assert float(pulsed.time / ours.time) == pytest.approx(np.arcsinh(1.0) ** 2, rel=1e-5)
    np.testing.assert_allclose(laws["undetected photons"][0], np.asarray(amplitude(b)) ** 2, rtol=1e-9)
    assert float(facts["detected_wavelength"]) == pytest.approx(630e-9)
    assert float(facts["resolution"]) == pytest.approx(64.1e-6, rel=1e-3)
    assert 0.8 * np.sqrt(0.4) < float(facts["fringe_visibility"]) < 0.8 * float(jnp.sqrt(TISSUE.ballistic() * 0.9))


def test_read_noise_at_which_the_infrared_camera_loses():
    """r^2 = eta n (eta/F - T), F our information per photon: equal errors there, and ours are smaller beyond."""
    b, protocol = bench(PERFECT, jnp.full((N, N), 0.8, float)), put(PROTOCOL, visibility=0.9)
    still = Camera(0.8, 1.0, 0.0, 1e9)

    def variances(read):
        cooled = put(still, read_noise=read)
        laws, _ = told(eqx.tree_at(lambda p: p.cooled, protocol, cooled), b)
        return [float(laws[name][1][2, 3]) for name in ("undetected photons", "coherent, cooled IR camera")]

    counted = 0.8 * INCIDENT * float(LIGHT[2, 3] * TISSUE.ballistic()) * 0.9
    crossing = np.sqrt(counted**2 * variances(1.0)[0] - counted * 0.8)
    for factor, gap in ((1.0, 0), (0.9, -1), (1.1, 1)):
        ours, theirs = variances(factor * crossing)
        assert abs(theirs / ours - 1) < 1e-4 if gap == 0 else (theirs / ours - 1) * gap > 0.05


def test_thermal_background_is_that_of_a_black_body():
    """Summed over all wavelengths into the half-space: 1.5205e15 T^3 photons per s and m^2; warmer than the signal."""
    edges = np.geomspace(5e-7, 2e-2, 4001)
    middle, width = np.sqrt(edges[1:] * edges[:-1]), np.diff(edges)
    total = float(jnp.sum(thermal_background(middle, width, 1.0, 1.0, 310.0)))
    assert total == pytest.approx(1.520469e15 * 310**3, rel=1e-4)


def test_gradients():
    """Of variances, a mean, the phase's error and ledgers by everything traced in protocol, optics, camera, sample."""
    b = bench()

    def read(x):
        protocol = put(PROTOCOL, visibility=x[0], photons_per_mode=x[1], phase=x[2], stimulated_gain=x[3])
        protocol = put(protocol, laser_power=x[4] * 1e-9, temperature=x[5] * 300)
        optics = put(b.optics, focal_length=x[6] * 0.05, idler_transmission=x[7], collection_transmission=x[8])
        camera = put(SILICON, efficiency=x[9], read_noise=x[10], dark_rate=x[11])
        tissue = put(TISSUE, mu_s=jnp.atleast_1d(x[12] * 5e3))
        lit = b._replace(optics=optics, camera=camera, tissue=tissue, object=b.object * x[13])
        ours, cooled = protocol.spontaneous(lit), protocol.coherent(lit, BACK)
        first, second = (jnp.log(jnp.sum(made.variance())) for made in (ours, cooled))
        rest = jnp.sum(ours.mean()) + jnp.sum(ours.phase_variance()) + ours.ledger.time * 1e3
        return jnp.stack([first, second, rest, jnp.log(protocol.stimulated(lit).ledger.pump)])

    check_slopes(read, jnp.asarray([0.8, 0.5, 0.3, 2.0, 0.7, 1.1, 0.9, 0.7, 0.8, 0.75, 4.0, 3.0, 1.2, 0.9]))


def test_bad_input_is_named():
    with pytest.raises(FieldError, match="phase_steps: got 0"):
        Undetected(SILICON, SILICON, 0.8, 1e-6, 0.3, "1 mW", 10.0, "300 K", phase_steps=0)
    with pytest.raises(FieldError, match="cooled: got float, accepted is a camera"):
        Undetected(0.8, SILICON, 0.8, 1e-6, 0.3, "1 mW", 10.0, "300 K")
    with pytest.raises(FieldError, match=r"visibility: got 1\.2"):
        Undetected(SILICON, SILICON, 1.2, 1e-6, 0.3, "1 mW", 10.0, "300 K")


def test_configuration_builds():
    node = plain(compose(["experiment=infrared_absorption", "estimator.undetected.phase_steps=1"]))["estimator"]
    made = build(node["undetected"], "estimator.undetected")
    assert isinstance(made, Undetected)
    locked = jax.eval_shape(made.spontaneous, bench())
    assert locked.fringes.steps.shape == (1, 1, 1) and locked.amplitude.shape == (N, N)
