"""Jones and Mueller matrices of polarisers, plates and splitters against laws with names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slopes import check_slopes

from qtwin.core.errors import FieldError
from qtwin.optics.polarisation import (
    BeamSplitter,
    Polariser,
    PolarisingBeamSplitter,
    WavePlate,
    birefringence,
    mueller,
    rotation,
    stokes,
)

X = jnp.array([1.0, 0.0], complex)


def linear(angle):
    return jnp.array([np.cos(angle), np.sin(angle)], complex)


def power(field):
    return float(jnp.sum(jnp.abs(field) ** 2))


@pytest.mark.parametrize("angle", [0.0, 0.3, np.pi / 4, 1.3, -2.0])
def test_malus(angle):
    """T (cos^2 + leak sin^2)."""
    polariser = Polariser(angle=0.2, transmission=0.9, leak=1e-3)
    expected = 0.9 * (np.cos(angle - 0.2) ** 2 + 1e-3 * np.sin(angle - 0.2) ** 2)
    assert power(polariser.jones() @ linear(angle)) == pytest.approx(expected, rel=1e-12)


def test_half_and_quarter_wave_plates():
    """Half wave: t -> 2 a - t. Quarter wave at 45 deg: x to circular, and two of them are a half-wave plate."""
    l0 = 810e-9
    half = WavePlate(l0, 0.5, angle=0.35).jones(l0)
    turned = half @ linear(0.1)
    assert abs(np.vdot(linear(2 * 0.35 - 0.1), turned)) == pytest.approx(1, rel=1e-12)
    quarter = WavePlate(l0, 0.25, angle=np.pi / 4).jones(l0)
    np.testing.assert_allclose(stokes(quarter @ X), [1, 0, 0, -1], atol=1e-12)
    np.testing.assert_allclose(stokes(quarter @ quarter @ X), [1, -1, 0, 0], atol=1e-12)
    plate = np.asarray(WavePlate(l0, 10.25, angle=0.4).jones(795e-9))
    np.testing.assert_allclose(plate @ plate.conj().T, np.eye(2), atol=1e-12)


def test_slow_axis_lags():
    """x fast, y slow: light at 45 deg has y behind x by the retardance, S3 = sin(d), S2 = cos(d)."""
    plate = WavePlate(810e-9, 0.1)
    d = 2 * np.pi * 0.1
    np.testing.assert_allclose(
        stokes(plate.jones(810e-9) @ linear(np.pi / 4)), [1, 0, np.cos(d), np.sin(d)], atol=1e-12
    )


def test_retardance_over_wavelength():
    """A quartz plate of thickness cycles l0/dn(l0): d = 2 pi dn(l) t/l; a multi-order plate turns faster."""
    l0, l1 = 810e-9, 780e-9
    thickness = 10.25 * l0 / float(birefringence(l0))
    expected = 2 * np.pi * float(birefringence(l1)) * thickness / l1
    assert float(WavePlate(l0, 10.25).retardance(l1)) == pytest.approx(expected, rel=1e-12)
    assert float(birefringence(589.3e-9)) == pytest.approx(0.0091, abs=5e-5)
    errors = [abs(float(WavePlate(l0, c).retardance(l1)) - 2 * np.pi * c) for c in (0.25, 10.25)]
    assert errors[1] / errors[0] == pytest.approx(41, rel=1e-9)


def test_mueller_carries_stokes_as_jones_carries_fields():
    rng = np.random.default_rng(2)
    jones = jnp.asarray(rng.normal(size=(2, 2)) + 1j * rng.normal(size=(2, 2)))
    other = WavePlate(810e-9, 0.3, angle=0.8).jones(800e-9)
    field = jnp.asarray(rng.normal(size=2) + 1j * rng.normal(size=2))
    np.testing.assert_allclose(mueller(jones) @ stokes(field), stokes(jones @ field), rtol=1e-12)
    np.testing.assert_allclose(mueller(jones @ other), mueller(jones) @ mueller(other), rtol=1e-10)


def test_mueller_of_named_elements():
    a = 0.3
    c, s = np.cos(2 * a), np.sin(2 * a)
    polariser = np.array([[1, c, s, 0], [c, c * c, c * s, 0], [s, c * s, s * s, 0], [0, 0, 0, 0]]) / 2
    np.testing.assert_allclose(mueller(Polariser(angle=a).jones()), polariser, atol=1e-12)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[c, -s], [s, c]]
    np.testing.assert_allclose(mueller(rotation(jnp.asarray(a)).astype(complex)), turn, atol=1e-12)
    plate = mueller(WavePlate(810e-9, 0.25).jones(810e-9))
    np.testing.assert_allclose(plate, [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, -1], [0, 0, 1, 0]], atol=1e-12)


def test_beam_splitters():
    """Unitary without loss; 1 - loss of the power otherwise; two photons at 50/50 never part (Hong, Ou & Mandel)."""
    u = np.asarray(BeamSplitter(0.3).amplitudes())
    np.testing.assert_allclose(u @ u.conj().T, np.eye(2), atol=1e-14)
    lossy = np.asarray(BeamSplitter(0.3, 0.1).amplitudes())
    assert np.sum(np.abs(lossy @ [1, 0]) ** 2) == pytest.approx(0.9)
    assert abs(lossy[0, 1]) ** 2 == pytest.approx(0.27)
    even = np.asarray(BeamSplitter().amplitudes())
    assert abs(even[0, 0] * even[1, 1] + even[0, 1] * even[1, 0]) == pytest.approx(0, abs=1e-15)


def test_polarising_beam_splitter_keeps_the_energy():
    splitter = PolarisingBeamSplitter(1e-3, 0.02)
    for field in (X, linear(1.1), jnp.array([0.6, 0.8j])):
        out = power(splitter.transmit() @ field), power(splitter.reflect() @ field)
        assert sum(out) == pytest.approx(1, rel=1e-12)
    assert power(splitter.transmit() @ linear(np.pi / 2)) == pytest.approx(1e-3)
    assert power(splitter.reflect() @ X) == pytest.approx(0.02)


def test_bad_values_are_refused():
    with pytest.raises(FieldError, match="leak"):
        Polariser(leak=1.5)
    with pytest.raises(FieldError, match="cycles"):
        WavePlate("810 nm", 0.0)


def test_slopes_of_every_field():
    """At ordinary values against central differences; finite at the ideal ones, where roots start."""

    def read(x):
        field = jnp.array([0.8, 0.6j])
        polariser, plate = Polariser(*x[:3]), WavePlate(x[3] * 1e-6, x[4], x[5])
        splitter, polarising = BeamSplitter(x[6], x[7]), PolarisingBeamSplitter(x[8], x[9])
        parts = [polariser.jones() @ field, plate.jones(x[10] * 1e-6) @ field, splitter.amplitudes()[0]]
        parts += [polarising.transmit() @ field, polarising.reflect() @ field]
        parts = jnp.concatenate(parts)
        return jnp.concatenate([parts.real, parts.imag, mueller(plate.jones(x[10] * 1e-6)).ravel()])

    x = jnp.array([0.3, 0.9, 0.02, 0.81, 1.25, 0.4, 0.45, 0.1, 0.03, 0.02, 0.78])
    check_slopes(read, x, 1e-6, rtol=1e-6, atol=1e-7)
    ideal = jnp.array([0.3, 1.0, 0.0, 0.81, 0.5, 0.4, 0.0, 0.0, 0.0, 0.0, 0.81])
    assert np.all(np.isfinite(jax.jit(jax.jacfwd(read))(ideal)))
