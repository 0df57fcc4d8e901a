"""Imaging with undetected photons: fringe visibilities in closed form and from the Gaussian network of two crystals."""

import jax
import jax.numpy as jnp

from qtwin.core.params import fraction, nonnegative, positive
from qtwin.modes.checks import number
from qtwin.modes.gaussian import GaussianState, vacuum
from qtwin.modes.operations import beam_splitter, keep, loss, phase_shift, two_mode_squeeze


def induced_coherence_visibility(transmission, photons):
    """V = 2 t sqrt(1 + N)/(2 + t^2 N), t amplitude transmission of the idler between equal crystals, N = sinh^2 r.

    -> t at low gain (Zou, Wang & Mandel, Phys. Rev. Lett. 67, 318 (1991)); with gain Belinsky & Klyshko, Phys. Lett. A
    166, 303 (1992), declared.
    """
    t, n = number("transmission", transmission, fraction), number("photons", photons, nonnegative)
    return 2 * t * jnp.sqrt(1 + n) / (2 + t**2 * n)


def su11_visibility(transmission, photons):
    """V = 2 t (1 + N)/(2 + N (1 + t^2)): signal of a nonlinear interferometer with idler amplitude transmission t.

    Equal crystals, N = sinh^2 r (Chekhova & Ou, Adv. Opt. Photon. 8, 104 (2016)).
    """
    t, n = number("transmission", transmission, fraction), number("photons", photons, nonnegative)
    return 2 * t * (1 + n) / (2 + n * (1 + t**2))


def induced_coherence(transmission, first, second, phase=0.0) -> GaussianState:
    """Signals of two crystals that share an idler, behind a balanced beam splitter: modes 0, 1 outputs, 2 the idler.

    ``transmission`` t: **amplitude** transmission of the idler between the crystals, ``phase`` its phase there;
    ``first``, ``second``: pairs per mode sinh^2 r of each crystal alone (may differ).
    """
    t = number("transmission", transmission, fraction)
    state = two_mode_squeeze(vacuum(3), 0, 2, _gain("first", first))
    state = _object(state, t, phase)
    state = two_mode_squeeze(state, 1, 2, _gain("second", second))
    return beam_splitter(state, 0, 1, 0.5)


def su11(transmission, first, second, phase=0.0) -> GaussianState:
    """Signal (mode 0) and idler (mode 1) behind two crystals in a row; the object is in the idler between them.

    Arguments as in `induced_coherence`.
    """
    t = number("transmission", transmission, fraction)
    state = _object(two_mode_squeeze(vacuum(2), 0, 1, _gain("first", first)), t, phase)
    return two_mode_squeeze(state, 0, 1, _gain("second", second))


def _gain(name, photons):
    return jnp.arcsinh(jnp.sqrt(number(name, photons, positive)))


def _object(state, transmission, phase):
    """The last mode, the idler, loses 1 - t^2 and gains a phase."""
    kept = jnp.ones(state.modes, transmission.dtype).at[-1].set(transmission**2)
    return phase_shift(loss(state, kept), state.modes - 1, phase)


def visibility(network, transmission, first, second):
    """(n_max - n_min)/(n_max + n_min) of mode 0 over the idler's phase, of ``induced_coherence`` or ``su11``.

    The mean count is a + b cos(phase + const) there: three phases give the fringe.
    """

    def count(phase):
        signal = keep(network(transmission, first, second, phase), (0,))
        return (jnp.trace(signal.covariance) - 1) / 2

    zero, quarter, half = jax.vmap(count)(jnp.arange(3, dtype=jnp.result_type(float)) * jnp.pi / 2)
    middle = (zero + half) / 2
    return jnp.hypot((zero - half) / 2, quarter - middle) / middle


def resolution(focal_length, idler_wavelength, pump_radius):
    """FWHM = sqrt(2 ln 2) f l_i/(pi w_p) at the object in the Fourier plane of the crystal, m.

    ``idler_wavelength`` in vacuum, ``pump_radius`` w_p the 1/e^2 radius of intensity (Fuenzalida et al., Quantum 6, 646
    (2022), declared). The diffraction floor of the longer wavelength is not in it.
    """
    f, l_i = number("focal_length", focal_length, positive), number("idler_wavelength", idler_wavelength, positive)
    return jnp.sqrt(2 * jnp.log(2.0)) * f * l_i / (jnp.pi * number("pump_radius", pump_radius, positive))
