"""Undetected photons: closed forms and the Gaussian network of two crystals are one."""

import jax
import numpy as np
import pytest
from slopes import gradient_error, once

from qtwin.core.errors import FieldError
from qtwin.modes.undetected import (
    induced_coherence,
    induced_coherence_visibility,
    resolution,
    su11,
    su11_visibility,
    visibility,
)

CASES = np.array(
    [(0.5, 1.0), (0.0, 0.3), (1.0, 0.7), (0.9, 1e-6), (0.3, 5.0), (0.75, 0.02), (0.1, 0.4), (0.62, 12.0), (0.95, 2.0)]
)


@once
@jax.vmap
def both(t, n):
    """[closed, network] of induced coherence and of SU(1,1)."""
    return (
        (induced_coherence_visibility(t, n), visibility(induced_coherence, t, n, n)),
        (su11_visibility(t, n), visibility(su11, t, n, n)),
    )


INDUCED, SU11 = (np.asarray(x).T for x in both(CASES[:, 0], CASES[:, 1]))


def test_closed_forms_agree_with_the_network():
    np.testing.assert_allclose(INDUCED[:, 0], INDUCED[:, 1], atol=1e-9)
    np.testing.assert_allclose(SU11[:, 0], SU11[:, 1], atol=1e-9)


def test_published_numbers():
    np.testing.assert_allclose([INDUCED[0, 1], SU11[0, 1]], [0.6285393611, 8 / 13], atol=1e-9)


def test_low_gain_shows_the_amplitude_transmission():
    np.testing.assert_allclose([INDUCED[3], SU11[3]], 0.9, atol=1e-6)


def test_no_transmission_no_fringe_and_full_transmission():
    """t = 1: SU(1,1) stays at 1, induced coherence 2 sqrt(1 + N)/(2 + N) falls with gain."""
    np.testing.assert_allclose([INDUCED[1], SU11[1]], 0, atol=1e-12)
    np.testing.assert_allclose(SU11[2], 1, atol=1e-12)
    np.testing.assert_allclose(INDUCED[2], 2 * np.sqrt(1.7) / 2.7, rtol=1e-12)


def test_unequal_crystals():
    """Low gain, n_1 and n_2 pairs: V = 2 t sqrt(n_1 n_2)/(n_1 + n_2) of induced coherence."""
    found = once(lambda t, a, b: visibility(induced_coherence, t, a, b))(0.8, 1e-6, 4e-6)
    assert found == pytest.approx(2 * 0.8 * 2 / 5, rel=1e-5)


def test_resolution():
    """f = 75 mm, idler 1550 nm, w_p = 0.5 mm: sqrt(2 ln 2) f l/(pi w)."""
    assert resolution(0.075, 1.55e-6, 0.5e-3) == pytest.approx(1.17741 * 0.075 * 1.55e-6 / (np.pi * 5e-4), rel=1e-5)


def test_gradients():
    def value(x):
        closed = induced_coherence_visibility(x[0], x[1]) + 2 * su11_visibility(x[0], x[1])
        made = visibility(induced_coherence, x[0], x[1], x[2]) + 3 * visibility(su11, x[0], x[1], x[2])
        return closed + made + resolution(x[0], x[1], x[2])

    assert gradient_error(value, np.array([0.6, 0.8, 1.3])) < 1e-7


def test_bad_input_is_named():
    with pytest.raises(FieldError, match=r"transmission: got 1\.2"):
        su11_visibility(1.2, 0.1)
    with pytest.raises(FieldError, match=r"first: got -0\.1"):
        su11(0.5, -0.1, 0.2)
