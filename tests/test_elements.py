"""Every element, the same battery: what is promised of all is tested of all."""

from dataclasses import fields

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qtwin.core.config import build, compose, find_conf, plain
from qtwin.core.errors import FieldError
from qtwin.core.params import Element, describe, parameters
from qtwin.correlation import Coincidence
from qtwin.design.sensitivity import put
from qtwin.detector import Camera, SinglePhoton
from qtwin.detector.arrivals import Continuous, Emitter, Pulsed, Thermal
from qtwin.detector.emccd import EMCCD
from qtwin.detector.faults import Faults
from qtwin.detector.iccd import ICCD
from qtwin.detector.photodiode import HomodynePair
from qtwin.detector.scmos import SCMOS
from qtwin.optics import FarField
from qtwin.scene import Lesion
from qtwin.source import SPDC, Coherent
from qtwin.tissue import Composition, Slab
from qtwin.twin import twin_from

PUMP = SPDC("405 nm", "790 nm", "1.7 mm", "1.3 mm", "4 mW", "7 nm", "23 degC", 1.3)


def light(source):
    rates = jnp.stack([source.pair_rate() / 1e6, source.gain() * 1e10, source.schmidt_number() / 1e4])
    return jnp.sum(jnp.log(rates)) + source.photon_widths()[0] / 1e5


def geometry(optics):
    (c, s), (back, spread) = optics.partner(PUMP), optics.partner(PUMP, of="idler")
    out_of_place = jnp.sum(jnp.concatenate([*optics.beam_centres(PUMP), optics.drift()]) * jnp.arange(1.0, 7.0))
    passed = optics.ambient + 0.5 * optics.idler_ambient
    passed += optics.illumination_transmission * optics.collection_transmission * optics.idler_transmission
    widths = c * 1e4 + back * 1e3 + (s + 3 * spread) * 1e5 + optics.blur(PUMP) * 1e6
    return jnp.log(optics.field_fraction(PUMP)) + widths + jnp.sum(optics.centres()) + out_of_place * 1e3 + passed


def crossing(slab):
    return jnp.log(slab.ballistic()) + slab.entrance() + slab.apparent_depth() * 1e4


def emitted(light):
    near, far = light.windows(3e-7)
    return light.rate() / 1e6 + light.g2(jnp.asarray(0.0)) + light.g2(jnp.asarray(2.2e-8)) + near * 1e7 + 2 * far * 1e7


def kept(faults):
    light = faults.brightness(1.7) + 2 * faults.overlap(0.9, 1)
    return light + faults.kept() + faults.taken(jnp.asarray(3e5)) / 1e5


def frame(camera):
    return camera.mean(2.0, 3.0) + camera.variance(2.0, 3.0)


TISSUE = Composition("2 1/mm", 1.3, 0.8, 1.4, 0.2, 0.02, 0.7, "140 g/L", 0.5, 0.2, 0.01, 0.4)


def look(tissue):
    mu_a, mu_s, g, n = tissue.optical(jnp.asarray(811.3e-9))
    return jnp.log(mu_a) + 0.3 * jnp.log(mu_s) + g + n


ASTRAY = ("0.2 mrad", "-0.3 mrad", "0.7 mm", "12 um", "-31 um", "5 um", "8 um", "2 Hz", "3 Hz")
OPTICS = FarField("90 mm", 0.35, "120 um", 0.9, 0.8, 0.7, *ASTRAY, pixels=6)

# element, a scalar that reads its physics, and the fields that this scalar must depend on
ELEMENTS = {
    "spdc": (PUMP, light, {*parameters(PUMP)}),
    "coherent": (Coherent("810 nm", 2.0), lambda c: c.wavelength * 1e6 + c.expect().mean[0], {"wavelength", "photons"}),
    "far_field": (
        OPTICS,
        geometry,
        {*parameters(OPTICS)},
    ),
    "lesion": (
        Lesion("310 um", 0.2, "40 um", "-25 um"),
        lambda s: jnp.sum(s.grid(8, 4, jnp.asarray(1e-4)).values * jnp.linspace(0.0, 1.0, 1024).reshape(32, 32)),
        {"diameter", "absorption", "x", "y"},
    ),
    "slab": (
        Slab(["30 um", "50 um"], "47 um", ["3 1/m", "9 1/m"], ["4 1/mm", "7 1/mm"], [0.8, 0.9], [1.35, 1.42]),
        crossing,
        {"thickness", "depth", "mu_a", "mu_s", "n"},
    ),
    "composition": (TISSUE, look, {*parameters(TISSUE)}),
    "camera": (
        Camera(0.9, 4, "2 Hz", 1e5),
        lambda c: c.mean(100.0, 0.5) + c.read_noise**2,
        {"efficiency", "read_noise", "dark_rate"},
    ),
    "emccd": (
        EMCCD(0.8, 30.0, 40.0, "0.02 Hz", 0.05, 1e-4, 405.0, 1.21e5, "50 Hz", 4.5, stages=53),
        frame,
        {"efficiency", "gain", "read_noise", "dark_rate", "clock_induced_charge", "register_charge"},
    ),
    "iccd": (
        ICCD(0.25, 150.0, 1.4, 8.0, "60 Hz", "4 ns", "0.2 MHz", 1.9e4, "12 Hz", 4.0),
        frame,
        {"efficiency", "gain", "read_noise", "dark_rate"},
    ),
    "scmos": (
        SCMOS(0.8, 0.9, 0.5, 0.4, "0.05 Hz", 0.02, "4 Hz", 0.03, 0.2, 370.0, "100 Hz", 1.3, rows=1000, seed=5),
        lambda c: frame(c) + c.pattern_variance(2.0, 3.0),
        {"efficiency", "fill_factor", "read_noise", "read_noise_spread", "dark_rate", "hot_fraction", "hot_rate"}
        | {"gain_spread", "offset_spread"},
    ),
    "homodyne_pair": (
        HomodynePair(0.93, 0.97, "13 dB", "20 MHz", "40 dB", "25 dB", "6 mW", "9 mW", "20 mW"),
        lambda d: sum(d.expect(1.3, 0.05, 8e6)),
        {*parameters(HomodynePair)} - {"most_power"},
    ),
    "continuous": (Continuous("3 MHz"), emitted, {"emissions"}),
    "pulsed": (Pulsed("8 ns", 0.3, 0.4, "1 ns"), emitted, {"period", "mean", "purity"}),
    "thermal_light": (Thermal("2 MHz", "1 us"), emitted, {"emissions", "coherence_time"}),
    "emitter": (
        Emitter("10 ns", 0.4, 0.3, "1 ns", "50 ns", "150 ns"),
        emitted,
        {"period", "mean", "multiphoton", "on_time", "off_time"},
    ),
    "faults": (
        Faults("0.2 1/s", 0.3, "2.3 s", "0.7 1/s", transfer="110 us", lost=0.1, duplicated=0.2, memory=30),
        kept,
        {"source_slope", "source_swing", "source_period", "misalignment", "transfer", "lost", "duplicated"},
    ),
    "single_photon": (
        SinglePhoton(0.6, "120 Hz", "30 ns", "200 ps"),
        lambda d: d.events(1e5, 0.3) * d.live(1e5, 0.3) * 1e-4 + jnp.log(d.jitter),
        {"efficiency", "dark_rate", "dead_time", "jitter"},
    ),
    "coincidence": (
        Coincidence("0.4 ns"),
        lambda c: c.capture(jnp.asarray(3e-10), jnp.asarray(2e-10)) + c.accidentals(1e4, 2e4, 1.0),
        {"window"},
    ),
}
each = pytest.mark.parametrize("name", ELEMENTS)
STEPS = {"temperature": 1e-3}  # of finite differences, relative: wave numbers of 1e7 rad/m hardly change with it


@each
def test_jit_equals_eager(name):
    element, read, _ = ELEMENTS[name]
    np.testing.assert_allclose(jax.jit(read)(element), read(element), rtol=1e-12)


@each
def test_vmap_equals_loop(name):
    element, read, needs = ELEMENTS[name]
    field = sorted(needs)[0]
    leaf = getattr(element, field)
    scales = jnp.asarray([0.97, 1.0, 1.02])
    together = jax.vmap(lambda s: read(put_in(element, field, leaf * s)))(scales)
    one_by_one = [read(put_in(element, field, leaf * s)) for s in scales]
    np.testing.assert_allclose(together, one_by_one, rtol=1e-12)


def put_in(element, field, value):
    return eqx.tree_at(lambda e: getattr(e, field), element, value)


@each
def test_gradient_equals_finite_difference_in_every_field(name):
    element, read, needs = ELEMENTS[name]
    gradient = jax.grad(lambda e: read(e))(element)
    for field in needs:
        leaf, slope = getattr(element, field), getattr(gradient, field)
        for i in range(leaf.size):
            h = STEPS.get(field, 1e-5) * float(jnp.abs(leaf).max())
            step = jnp.zeros(leaf.size).at[i].set(h).reshape(leaf.shape)
            up, down = read(put_in(element, field, leaf + step)), read(put_in(element, field, leaf - step))
            got, expected = float(slope.ravel()[i]), float(up - down) / (2 * h)
            assert got != 0, f"{field}: no derivative"
            np.testing.assert_allclose(got, expected, rtol=2e-5, err_msg=field)


@each
def test_tree_round_trip_and_text(name):
    element = ELEMENTS[name][0]
    leaves, tree = jax.tree.flatten(element)
    again = jax.tree.unflatten(tree, leaves)
    assert eqx.tree_equal(element, again)
    text = describe(element)
    assert all(f.name in text for f in fields(element) if f.metadata.get("unit") is not None)


@each
def test_numbers_are_strong_arrays_of_the_default_float(name):
    for leaf in jax.tree.leaves(ELEMENTS[name][0]):
        assert leaf.dtype == jnp.float64 and not leaf.weak_type


@each
def test_every_field_refuses_what_lies_outside_its_support(name):
    element = ELEMENTS[name][0]
    values = {f.name: getattr(element, f.name) for f in fields(element) if f.init}
    for field, declared in parameters(element).items():
        support = declared.metadata["support"]
        for bad in (np.nan, np.inf, support.low - 1, support.high + 1):
            if np.isfinite(bad) or np.isnan(bad) or bad == np.inf:
                with pytest.raises(FieldError, match=field):
                    type(element)(**{**values, field: float(bad)})


@each
def test_changing_a_value_does_not_compile_again(name):
    element, read, needs = ELEMENTS[name]
    traces = []

    @jax.jit
    def counted(e):
        traces.append(1)
        return read(e)

    field = sorted(needs)[-1]
    for scale in (1.0, 0.99, 1.01):
        counted(put_in(element, field, getattr(element, field) * scale))
    assert len(traces) == 1


def options():
    for path in sorted(find_conf().glob("*/*.yaml")):
        if path.parent.name not in ("logger", "hydra", "experiment", "estimator", "validate"):
            yield f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("option", options())
def test_every_option_builds_and_names_its_sources(option, tmp_path):
    group, stem = option.split("/")
    slot = f"{group}@camera" if stem == "proem_hs_1024bx3" else f"{group}@reference" if stem == "coherent" else group
    place = {"detector@camera": "camera", "source@reference": "reference"}.get(slot, group)
    extra = []
    if stem == "picture":
        np.save(tmp_path / "object.npy", np.linspace(0, 1, 12).reshape(3, 4))
        extra = [f"scene.file={tmp_path / 'object.npy'}"]
    command = {"light": "transport", "phase": "transport", "collection": "source", "model": "calibrate"}.get(
        group, "benchmark"
    )
    node = plain(compose([f"{slot}={stem}", *extra], name=command))[place]
    if "_target_" not in (node or {}):
        assert option in ("phase/henyey_greenstein", "phase/tabulated")  # the tissue's own g; a file of the user's
        return
    element = build(node, place)
    assert isinstance(element, Element)
    given = {key for key in node if key in parameters(element)}
    named = set(node.get("reference", ()))
    assert "_" in named or given <= named, f"no reference for {given - named}"


def test_put_reaches_into_the_twin():
    twin = twin_from(compose(["optics.pixels=4"]))
    assert float(put(twin, "tissue.depth", jnp.asarray(1e-5)).tissue.depth) == 1e-5
