"""Joint spectral amplitude: Gaussian closed form, phases, chirped poling, filters, interference, derivatives."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from qtwin.core.errors import FieldError, UserError
from qtwin.core.params import parameters
from qtwin.source.joint_spectrum import (
    FWHM,
    SINC_HALF,
    JointSpectrum,
    cw_spectrum,
    purity,
    schmidt,
    transform_limited_bandwidth,
)
from qtwin.source.nonlinear_crystal import Crystal
from qtwin.source.phase_matching import Interaction, poling_period
from qtwin.source.sellmeier import LIGHT

KTP = Interaction("KTP", "yyz", order=-1)
WARM = 303.15
PERIOD = float(poling_period(KTP, 791e-9, 1582e-9, temperature=WARM))
CRYSTAL = {"interaction": KTP, "length": 20e-3, "temperature": WARM, "period": PERIOD}
# group-velocity matched: signal and idler lead and lag the pump alike
VALUES = {"pump_wavelength": 791e-9, "signal_wavelength": 1582e-9, "pump_bandwidth": 0.55e-9, "points": 128}


def spectrum(crystal=None, **changes) -> JointSpectrum:
    return JointSpectrum(Crystal(**(CRYSTAL | (crystal or {}))), **(VALUES | changes))


amplitude = eqx.filter_jit(lambda s: s.amplitude())
pure = eqx.filter_jit(lambda s: s.purity())
decompose = jax.jit(schmidt)
filtered = eqx.filter_jit(lambda s: (s.detunings(), s.emitted(), s.heralding(), s.purity()))
emitted = eqx.filter_jit(lambda s: (s.emitted(), *s.frequencies()))
response = eqx.filter_jit(lambda c, dk: c.response(dk))
rim = eqx.filter_jit(lambda s: s.edge())
dip = eqx.filter_jit(lambda s, delays: s.hom_dip(delays, 0.45))


def gaussian_purity(m):
    """Purity of either mode of psi = exp(-x^T M x/2), from the covariances of positions and momenta."""
    inverse = np.linalg.inv(m.real)
    xx = inverse / 2
    pp = (m.real + m.imag @ inverse @ m.imag) / 2
    xp = -inverse @ m.imag / 2
    return 1 / (2 * np.sqrt(xx[0, 0] * pp[0, 0] - xp[0, 0] ** 2))


def test_purity_and_schmidt_number_of_a_complex_double_gaussian():
    """exp(-x^T M x/2) with complex M on a grid: closed form to 1e-10; the modulus overstates the purity."""
    x = np.linspace(-9, 9, 120)
    for m in (np.array([[1.0, 0.5], [0.5, 0.8]]), np.array([[1.0 + 0.3j, 0.3 - 0.7j], [0.3 - 0.7j, 0.7]])):
        f = np.exp(-(m[0, 0] * x[:, None] ** 2 + m[1, 1] * x**2 + 2 * m[0, 1] * x[:, None] * x) / 2)
        found = decompose(jnp.asarray(f, complex))
        exact = gaussian_purity(m.astype(complex))
        assert float(purity(jnp.asarray(f, complex))) == pytest.approx(exact, rel=1e-10)
        assert float(1 / found.number()) == pytest.approx(exact, rel=1e-10)
        if np.iscomplexobj(m):
            assert float(purity(jnp.asarray(abs(f), complex))) > exact + 0.1
    real = np.array([[1.0, 0.5], [0.5, 0.8]])
    assert gaussian_purity(real.astype(complex)) == pytest.approx(np.sqrt(1 - 0.25 / 0.8))


@pytest.mark.parametrize("chirp", [0.0, 4e-24])
def test_gaussian_phase_matching_in_closed_form(chirp):
    """pump exp[-v^2/(4 s^2) + i D v^2/2] and exp(-0.1929 x^2) with linear dk: purity of the quadratic form."""
    s = spectrum(shape="gaussian", pump_chirp=chirp, pump_bandwidth=1.1e-9)
    d_s, d_i, _ = (float(x) for x in s.crystal.group_mismatch(s.pump_wavelength, s.signal_wavelength))
    pump = (1 / (2 * float(s.pump_deviation()) ** 2) - 1j * chirp) * np.ones((2, 2))
    slope = np.array([d_s, d_i]) * 20e-3 / 2
    exact = gaussian_purity(pump + 2 * np.log(2) / SINC_HALF**2 * np.outer(slope, slope))
    assert float(pure(s)) == pytest.approx(exact, rel=2e-3)
    if chirp:
        assert float(purity(jnp.abs(amplitude(s)).astype(complex))) > exact + 0.1


def test_amplitude_by_independent_numbers():
    """Three points of the grid from the indices, in numpy: pump, sinc and its phase."""
    s = spectrum(pump_chirp=1e-25)
    found, w_s, w_i = (np.asarray(x) for x in emitted(s))
    c = s.crystal
    deviation = 2 * np.pi * LIGHT * 0.55e-9 / 791e-9**2 / (2 * np.sqrt(2 * np.log(2)))
    for j, k in ((64, 60), (40, 90), (70, 70)):
        total = w_s[j] + w_i[k]
        n = [
            float(c.interaction.index(b, 2 * np.pi * LIGHT / w, np.pi / 2, WARM))
            for b, w in enumerate((total, w_s[j], w_i[k]))
        ]
        dk = (n[0] * total - n[1] * w_s[j] - n[2] * w_i[k]) / LIGHT + 2 * np.pi / (
            PERIOD * (1 + 6.7e-6 * 5 + 11e-9 * 25)
        )
        off = total - 2 * np.pi * LIGHT / 791e-9
        pump = np.exp(-(off**2) / (4 * deviation**2) + 0.5j * 1e-25 * off**2)
        assert found[j, k] == pytest.approx(pump * np.sinc(dk * 0.01 / np.pi) * np.exp(0.01j * dk), rel=1e-6)


def test_schmidt_modes_rebuild_the_amplitude():
    s = spectrum(pump_chirp=2e-24)
    f = amplitude(s)
    found = decompose(f)
    again = (found.signal * jnp.sqrt(found.weights)[None, :].astype(complex)) @ found.idler.T
    np.testing.assert_allclose(again, f, atol=1e-12)
    assert float(jnp.sum(found.weights)) == pytest.approx(1, rel=1e-12) and np.all(np.diff(found.weights) <= 0)
    assert float(found.number()) == pytest.approx(1 / float(pure(s)), rel=1e-10)
    assert float(jnp.sum(jnp.abs(f) ** 2)) == pytest.approx(1, rel=1e-12)


def test_side_lobes_cost_purity_and_a_gaussian_does_not():
    """Group-velocity matched, best pump: 0.81 to 0.83 with the sinc, above 0.98 with its stand-in."""
    assert 0.80 < float(pure(spectrum())) < 0.84
    assert float(pure(spectrum(shape="gaussian", pump_bandwidth=0.6e-9))) > 0.98
    assert float(rim(spectrum())) < 3e-3


def test_continuous_wave():
    """|phi|^2 = 1/2 where dk L/2 = 1.39156; no grid for a pump narrower than its spacing."""
    c = Crystal(**CRYSTAL)
    signal = 1582e-9 + np.linspace(0, 4e-9, 4001)
    law = np.asarray(cw_spectrum(c, 791e-9, signal))
    half = signal[np.argmin(abs(law[:2000] - 0.5))]
    assert abs(float(c.mismatch(791e-9, half))) * 20e-3 / 2 == pytest.approx(1.39156, abs=2e-3)
    assert law[0] == pytest.approx(1, abs=1e-9)
    with pytest.raises(FieldError, match="pump_bandwidth: got 1e-12 m, accepted on 128 points is"):
        spectrum(pump_bandwidth=1e-12)


def test_chirped_poling_against_an_independent_integral():
    """(1/L) integral exp[i dk z - i c (z - L/2)^2/2] dz; without chirp it is the sinc."""
    c = Crystal(**CRYSTAL, chirp=3e5, nodes=64)
    dk = np.linspace(-3000.0, 3000.0, 61)
    found, straight, sinc = (np.asarray(response(x, dk)) for x in (c, Crystal(**CRYSTAL, nodes=64), Crystal(**CRYSTAL)))
    for i in (0, 23, 30):

        def law(z, i=i):
            return np.exp(1j * (dk[i] * z - 3e5 * (z - 0.01) ** 2 / 2)) / 20e-3

        exact = [quad(lambda z, part=part: part(law(z)), 0, 20e-3, limit=400)[0] for part in (np.real, np.imag)]
        assert found[i] == pytest.approx(complex(*exact), abs=1e-9)
    np.testing.assert_allclose(straight, sinc, atol=1e-12)
    width, narrow = (np.sum(abs(x) ** 2) / np.max(abs(x) ** 2) for x in (found, sinc))
    assert width > 5 * narrow
    with pytest.raises(FieldError, match="nodes: got 0, a chirped crystal needs points"):
        Crystal(**CRYSTAL, chirp=3e5)


def test_filters_cost_heralding_and_give_purity():
    """Heralding = both/one over all that is emitted; a narrow filter purifies a correlated pair."""

    def gaussian(v, w):
        return np.exp(-4 * np.log(2) * (v / w) ** 2)

    def top_hat(v, w):
        return np.clip((w / 2 - abs(v)) / (v[1] - v[0]) + 0.5, 0, 1)  # cells at the edge pass in part

    every = filtered(spectrum(pump_bandwidth=2e-9, points=768))
    for kind, law in {"gaussian": gaussian, "top hat": top_hat}.items():
        own = filtered(spectrum(pump_bandwidth=2e-9, filter=kind, signal_filter=3e-9, idler_filter=5e-9))
        for (v, f, *_), rtol in ((own, 1e-9), (every, 2e-3)):
            v, pairs = np.asarray(v), np.abs(np.asarray(f)) ** 2
            t_s, t_i = (law(v, 2 * np.pi * LIGHT * w / 1582e-9**2) for w in (3e-9, 5e-9))
            both = t_s @ pairs @ t_i
            expected = (both / (pairs @ t_i).sum(), both / (t_s @ pairs).sum())
            assert [float(x) for x in own[2]] == pytest.approx(expected, rel=rtol)
        assert float(own[3]) > float(purity(own[1])) + 0.05


def test_hong_ou_mandel_dip_sits_at_half_the_crystal():
    """Group velocities apart by D_s - D_i delay the pair by (D_s - D_i) L/2; the dip there is 2RT/(R^2 + T^2) deep."""
    s = spectrum(shape="gaussian", points=96)
    d_s, d_i, _ = s.crystal.group_mismatch(s.pump_wavelength, s.signal_wavelength)
    centre = float(d_s - d_i) * 20e-3 / 2
    found = np.asarray(dip(s, centre + jnp.asarray([-2e-11, -0.5e-12, 0.0, 0.5e-12])))
    level = 0.45**2 + 0.55**2
    assert found[0] == pytest.approx(level, rel=1e-2)
    assert found[2] == pytest.approx(level * (1 - 0.98020), abs=5e-3) and found[2] < min(found[1], found[3])
    with pytest.raises(FieldError, match=r"signal_wavelength: .* a dip needs twice the pump's"):
        spectrum(signal_wavelength=1560e-9).hom_dip(jnp.zeros(1))


def test_transform_limited_bandwidth():
    """100 fs at 800 nm: 0.441 l^2/(c tau) = 9.42 nm."""
    assert float(transform_limited_bandwidth(100e-15, 800e-9)) == pytest.approx(9.42e-9, rel=1e-3)
    assert pytest.approx(2.354820045) == FWHM


def test_purity_differentiates_in_every_field():
    """Gradient by all traced fields of the spectrum and its crystal against central differences."""
    s = spectrum(
        {"chirp": 2e3, "nodes": 16, "length": 18e-3},
        points=40,
        filter="gaussian",
        signal_filter=9e-9,
        idler_filter=7e-9,
        pump_chirp=1e-24,
        lobes=3,
        pump_bandwidth=0.8e-9,
    )
    slopes = eqx.filter_jit(eqx.filter_grad(lambda s: s.purity()))(s)
    silent = {"duty", "azimuth", "angle"}  # the amplitude has no scale; rays along the axes see no angle
    for owner, steps in ((lambda t: t, {}), (lambda t: t.crystal, {"chirp": 1e-2, "temperature": 1e-4})):
        for name in parameters(owner(s)):
            if name in silent:
                continue
            leaf = getattr(owner(s), name)
            h = float(leaf) * steps.get(name, 1e-5)
            if name in ("pump_wavelength", "signal_wavelength", "period"):
                h = float(leaf) * 1e-7
            up, down = (
                float(pure(eqx.tree_at(lambda t, o=owner, n=name: getattr(o(t), n), s, leaf + d))) for d in (h, -h)
            )
            got = float(getattr(owner(slopes), name))
            assert got != 0 and got == pytest.approx((up - down) / (2 * h), rel=2e-4), name


def test_changing_a_value_does_not_compile_anew():
    count = 0

    @eqx.filter_jit
    def f(s):
        nonlocal count
        count += 1
        return s.purity()

    for length in (19e-3, 20e-3, 21e-3):
        f(spectrum({"length": length}, points=32, lobes=2))
    assert count == 1


def test_refused():
    for changes, text in (
        ({"shape": "square"}, "shape: got 'square', accepted is one of sinc, gaussian"),
        ({"filter": "box"}, "filter: got 'box', accepted is one of none, gaussian, top hat"),
        ({"pump_bandwidth": "3 W"}, "pump_bandwidth: got '3 W'"),
    ):
        with pytest.raises(FieldError, match=text):
            spectrum(**changes)
    with pytest.raises(UserError, match="the KTP set 'Koenig & Wong 2004' holds from 390 to 1700 nm"):
        spectrum({"length": 1e-4}, pump_bandwidth=60e-9)
    with pytest.raises(FieldError, match=r"temperature: got 25 K, the KTP set .* holds from 250 to 550 K"):
        spectrum({"temperature": 25.0})
