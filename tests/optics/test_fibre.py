"""Coupling into a single-mode fibre against overlaps of fields on a grid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slopes import check_slopes

from qtwin.core.errors import FieldError, UserError
from qtwin.optics.abcd import carry_beam, free_space, waist_beam
from qtwin.optics.fibre import Fibre, coupling, mode_radius

WAVELENGTH = 810e-9


def overlap(w1, w2, gap, shift, tilt):
    """|<fibre|beam>|^2 in both axes on a grid: the beam leaves its waist, travels, and meets the flat mode."""
    x = (np.arange(4096) - 2048) * 0.05e-6
    k = 2 * np.pi * np.fft.fftfreq(len(x), x[1] - x[0])
    found = 1.0
    for d, angle in ((shift, tilt), (0.0, 0.0)):
        # the axis of the beam crosses the plane of the waist at d and comes closer by angle z
        beam = np.exp(-(((x - d) / w1) ** 2) - 2j * np.pi / WAVELENGTH * angle * x)
        beam = np.fft.ifft(np.fft.fft(beam) * np.exp(-1j * gap * WAVELENGTH * k**2 / (4 * np.pi)))
        mode = np.exp(-((x / w2) ** 2))
        found *= np.abs(np.sum(mode * beam)) ** 2 / (np.sum(mode**2) * np.sum(np.abs(beam) ** 2))
    return found


@pytest.mark.parametrize(
    "case",
    [
        (2.5e-6, 2.5e-6, 0.0, 0.0, 0.0),
        (2.1e-6, 3.0e-6, 0.0, 0.0, 0.0),  # mode mismatch
        (2.5e-6, 2.5e-6, 30e-6, 0.0, 0.0),  # defocus
        (2.5e-6, 2.5e-6, 0.0, 1.5e-6, 0.0),  # shift
        (2.5e-6, 2.5e-6, 0.0, 0.0, 0.06),  # tilt
        (2.2e-6, 2.9e-6, 25e-6, 1.2e-6, 0.05),  # shift and tilt that undo each other
        (2.2e-6, 2.9e-6, 25e-6, 1.2e-6, -0.05),
        (3.3e-6, 2.4e-6, -18e-6, -0.7e-6, 0.04),
    ],
)
def test_closed_form_is_the_overlap(case):
    assert float(coupling(*case, WAVELENGTH)) == pytest.approx(overlap(*case), rel=1e-9)


def test_limits():
    """Shift alone exp(-d^2/w^2), tilt alone exp(-(pi w theta/l)^2), equal modes; the coupling never exceeds 1."""
    w = 2.5e-6
    assert float(coupling(w, w, 0.0, 0.0, 0.0, WAVELENGTH)) == 1
    assert float(coupling(w, w, 0.0, 1e-6, 0.0, WAVELENGTH)) == pytest.approx(np.exp(-((1e-6 / w) ** 2)))
    assert float(coupling(w, w, 0.0, 0.0, 0.03, WAVELENGTH)) == pytest.approx(
        np.exp(-((np.pi * w * 0.03 / WAVELENGTH) ** 2))
    )
    assert float(coupling(w, 2 * w, 0.0, 0.0, 0.0, WAVELENGTH)) == pytest.approx((2 * 2 / 5) ** 2)
    draws = jax.random.uniform(jax.random.key(0), (5, 500), minval=-1.0)
    x = draws * jnp.array([0.0, 0.0, 60e-6, 4e-6, 0.1])[:, None]
    several = coupling(2e-6 + 1e-6 * draws[0], 3e-6 + 1e-6 * draws[1], x[2], x[3], x[4], WAVELENGTH)
    assert float(several.max()) <= 1 and float(several.min()) >= 0


def test_coupling_follows_the_beam_parameter():
    """Defocus alone is |2/(w1 w2 (p1 + p2*))|^2 with p = i pi/(l q) of a propagated beam."""
    w1, w2, gap = 2.3e-6, 2.8e-6, 22e-6
    q = complex(carry_beam(free_space(gap), waist_beam(jnp.asarray(w1), WAVELENGTH)))
    p = 1j * np.pi / (WAVELENGTH * q)
    radius2 = 1 / p.real
    expected = (2 / np.sqrt(radius2 * w2**2) / abs(p + 1 / w2**2)) ** 2
    assert float(coupling(w1, w2, gap, 0.0, 0.0, WAVELENGTH)) == pytest.approx(expected, rel=1e-9)


def test_mode_radius_of_a_step_index_fibre():
    """Marcuse at V = 2.405: w/a = 1.099; unimodal fibres only."""
    a = 2.405 * WAVELENGTH / (2 * np.pi * 0.13)
    assert float(mode_radius(a, 0.13, WAVELENGTH)) / a == pytest.approx(1.099, abs=1e-3)
    assert float(mode_radius(2.2e-6, 0.13, WAVELENGTH)) > float(mode_radius(2.2e-6, 0.13, 780e-9))  # weaker guiding
    with pytest.raises(UserError, match=r"V = 5\.042, accepted is 1\.2 to 2\.405"):
        mode_radius(5e-6, 0.13, WAVELENGTH)


def test_fibre_element_and_its_slopes():
    fibre = Fibre("2.6 um", 0.92, gap="12 um", shift="0.8 um", tilt="20 mrad")
    direct = 0.92 * coupling(2.3e-6, 2.6e-6, 12e-6, 0.8e-6, 0.02, WAVELENGTH)
    assert float(fibre.accept(jnp.asarray(2.3e-6), WAVELENGTH)) == pytest.approx(float(direct), rel=1e-12)
    scales = jnp.array([2.6e-6, 0.92, 12e-6, 0.8e-6, 0.02, 2.3e-6, 810e-9])

    def read(x):
        y = x * scales
        return Fibre(*y[:5]).accept(y[5], y[6])

    check_slopes(read, jnp.ones(7), rtol=1e-7, atol=1e-9)
    with pytest.raises(FieldError, match="transmission"):
        Fibre("2.6 um", 1.2)
