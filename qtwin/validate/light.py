"""Evidence on sources and interference that takes a few public functions together."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import UserError
from qtwin.core.records import Estimate
from qtwin.modes.coherence_tomography import layered_response, oct_interferogram, quantum_oct_interferogram
from qtwin.modes.illumination import amplifier_exponent, coherent_exponent, entangled_exponent, homodyne_exponent
from qtwin.modes.interference import hom_dip
from qtwin.modes.undetected import induced_coherence, su11, visibility
from qtwin.source import Crystal, FibrePairs, Interaction, JointSpectrum, MultimodePairs
from qtwin.source.biphoton import DoubleGaussian, SincBiphoton
from qtwin.source.joint_spectrum import purity, schmidt
from qtwin.source.phase_matching import poling_period
from qtwin.source.sellmeier import LIGHT
from qtwin.source.sellmeier_sets import sellmeier
from qtwin.source.tuning import phase_matching_angle
from qtwin.validate.pieces import element

# --- crystals --------------------------------------------------------------------------------------------------------


def pump_walk_off(interaction: Interaction, pump: float, signal: float):
    """Walk-off of the pump, rad, at the angle of collinear phase matching."""
    return interaction.walk_off(0, pump, phase_matching_angle(interaction, pump, signal))


def refuses(crystal: str, axis: str, name: str, wavelength: float) -> bool:
    """Whether a Sellmeier set refuses a wavelength (m) outside of what was published."""
    try:
        sellmeier(crystal, axis, name).index(axis, wavelength)
    except UserError:
        return True
    return False


# --- where the photons of a pair start -------------------------------------------------------------------------------

ALIKE = {"signal_wavelength": 810e-9, "idler_wavelength": 810e-9}


def alike(crystal_length: float, index: float, waist: float = 45e-6, stand_in: str = "exp(-x)") -> DoubleGaussian:
    """A degenerate double Gaussian, 405 nm to 810 nm, in a crystal of one refractive index."""
    given: dict[str, Any] = ALIKE | {
        "crystal_length": crystal_length,
        "signal_index": index,
        "idler_index": index,
        "waist": waist,
    }
    return DoubleGaussian(**given, stand_in=stand_in)


def alike_sinc(crystal_length: float, index: float, waist: float = 45e-6) -> SincBiphoton:
    """The same with the true phase matching."""
    given: dict[str, Any] = ALIKE | {
        "crystal_length": crystal_length,
        "signal_index": index,
        "idler_index": index,
        "waist": waist,
    }
    return SincBiphoton(**given)


def near_width_in_roots(coordinate: str) -> float:
    """Full width of |psi|^2 along a diameter, in sqrt a: over x_s - x_i, or over r = (x_s - x_i)/sqrt 2."""
    pairs = alike_sinc(2e-3, 1.84)
    width = float(pairs.near_fwhm()) / float(jnp.sqrt(pairs.phase_matching()))
    return {"difference": width, "r": width / 2**0.5}[coordinate]


def second_moment(pairs: DoubleGaussian, signal: float, idler: float, of: str) -> float:
    """std of signal u_s + idler u_i per axis, u the positions or the wave vectors, from the law of the rays."""
    weights = np.zeros(4)
    weights[[0, 2] if of == "position" else [1, 3]] = signal, idler
    return float(np.sqrt(weights @ np.asarray(pairs.moments().covariance) @ weights))


def drawn_moment(pairs: DoubleGaussian, signal: float, idler: float, of: str, count: int, seed: int = 0) -> Estimate:
    """Mean square of signal u_s + idler u_i over drawn rays, u the positions (m) or the wave vectors (rad/m)."""
    one, other = eqx.filter_jit(lambda p, key: p.sample(count, key=key))(pairs, jax.random.key(seed))
    u = (np.asarray(r.x if of == "position" else r.k, float).ravel() for r in (one, other))
    square = (signal * next(u) + idler * next(u)) ** 2
    return Estimate(square.mean(), square.std() / np.sqrt(square.size))


def schmidt_per_axis(ratio: float) -> float:
    """K1 of a double Gaussian of ratio std(x_s + x_i)/std(x_s - x_i) in the pure state."""
    width = float(alike(2e-3, 1.0).separation_width())
    return float(jnp.sqrt(alike(2e-3, 1.0, waist=width * ratio).schmidt_number()))


def schmidt_at(kind: str, bs: float, stand_in: str = "exp(-x)") -> float:
    """K2 at Law & Eberly's b s: ``kind`` 'sinc' or 'gaussian'; b s = sqrt(2 a)/w."""
    waist = float(jnp.sqrt(2 * alike(2e-3, 1.0).phase_matching())) / bs
    pairs = alike_sinc(2e-3, 1.0, waist) if kind == "sinc" else alike(2e-3, 1.0, waist, stand_in)
    return float(pairs.schmidt_number())


def far_norm_within(limit: float) -> float:
    """(1 - norm) pi X: what a grid up to 2 a |Q|^2 = X loses of the sinc's norm, over 1/(pi X)."""
    pairs = alike_sinc(2e-3, 1.0)
    a = float(pairs.phase_matching())
    u = np.linspace(1e-9, limit, int(64 * limit / np.pi) + 1)
    q = jnp.stack([jnp.asarray(np.sqrt(u / (2 * a))), jnp.zeros(len(u))], axis=1)
    inside = np.trapezoid(np.asarray(pairs.far_density(q, -q)), u) * np.pi / (2 * a) * 2 * np.pi / 45e-6**2
    return float((1 - inside) * np.pi * limit)


def _gaussian_amplitude(real, imaginary):
    x = np.linspace(-9, 9, 120)
    form = np.asarray(real, float) + 1j * np.asarray(imaginary, float)
    square = form[0, 0] * x[:, None] ** 2 + form[1, 1] * x**2 + 2 * form[0, 1] * x[:, None] * x
    return form, np.exp(-square / 2)


def modulus_overstates(real, imaginary) -> float:
    """Purity from the modulus of a joint amplitude exp(-x^T M x/2) over that from the complex one, M symmetric."""
    _, f = _gaussian_amplitude(real, imaginary)
    whole, modulus = (float(purity(jnp.asarray(a, complex))) for a in (f, abs(f)))
    return modulus / whole


def spectral_schmidt_number(real, imaginary) -> float:
    """K of exp(-x^T M x/2) on a grid by singular values."""
    _, f = _gaussian_amplitude(real, imaginary)
    return float(jax.jit(schmidt)(jnp.asarray(f, complex)).number())


def chirped_purity_loss(chirp: float) -> float:
    """Purity of the modulus over that of the amplitude of a pulsed source whose pump carries ``chirp`` (s^2)."""
    interaction = Interaction("KTP", "yyz", order=-1)
    period = float(poling_period(interaction, 791e-9, 1582e-9, temperature=303.15))
    crystal = element(Crystal, interaction, 20e-3, 303.15, period=period)
    spectrum = element(JointSpectrum, crystal, 791e-9, 1582e-9, 0.55e-9, pump_chirp=chirp, points=64)
    f = eqx.filter_jit(lambda s: s.amplitude())(spectrum)
    return float(purity(jnp.abs(f).astype(complex)) / purity(f))


# --- published rates -------------------------------------------------------------------------------------------------


def _ppktp(length: float, pump: float) -> Crystal:
    interaction, kelvin = Interaction("KTP", "yyz", order=1), 313.15
    period = float(poling_period(interaction, pump, 2 * pump, temperature=kelvin))
    return element(Crystal, interaction, length, kelvin, period=period)


def rate_through_aperture(length: float, pump: float, bandwidth: float, half_angle: float) -> float:
    """Pairs per second and mW of ppKTP type II whose signal passes filter and aperture."""
    pairs = element(MultimodePairs, _ppktp(length, pump), pump, 2 * pump, 1e-3, bandwidth, half_angle)
    return float(eqx.filter_jit(lambda p: p.pair_rate())(pairs))


def brightness_in_fibres(length: float, focal_parameter: float, coincidences_over_singles: float) -> float:
    """Detected pairs/(s mW nm) of ppKTP, 405 nm, in single-mode fibres at one focal parameter L/(k w^2) of all beams.

    Born pairs times the square of an arm's efficiency apart from mode matching: coincidences over singles, divided by
    the heralding that is found here.
    """
    waists = [
        np.sqrt(length * wavelength / (2 * np.pi * n * focal_parameter))
        for wavelength, n in ((405e-9, 1.84), (810e-9, 1.76), (810e-9, 1.84))
    ]
    fibres = element(FibrePairs, _ppktp(length, 405e-9), 405e-9, 810e-9, 1e-3, *waists, 4e-9)
    found = eqx.filter_jit(lambda f: (f.brightness(), *f.heralding()))(fibres)
    brightness, signal, idler = (float(x) for x in found)
    return brightness * 1e-12 * coincidences_over_singles**2 / (signal * idler)


# --- interference ----------------------------------------------------------------------------------------------------

CARRIER = 2 * np.pi * LIGHT / 810e-9
SIGMA = 2 * np.pi * LIGHT * 10e-9 / 810e-9**2 / np.sqrt(8 * np.log(2))  # of 10 nm full width at 810 nm, rad/s


def _full_width(height: np.ndarray, x: np.ndarray) -> float:
    above = np.flatnonzero(height >= height.max() / 2)
    ends = []
    for inside, outside in ((above[0], above[0] - 1), (above[-1], above[-1] + 1)):
        f = (height[inside] - height.max() / 2) / (height[inside] - height[outside])
        ends.append(x[inside] + f * (x[outside] - x[inside]))
    return float(ends[1] - ends[0])


def dip_width_in_photon_widths(sum_width: float, difference_width: float) -> float:
    """FWHM of the HOM dip times sigma_w of one photon, of a Gaussian joint spectrum on a grid."""
    w, tau = np.linspace(-10, 10, 201), np.linspace(-5, 5, 2001)
    plus, minus = w[:, None] + w[None, :], w[:, None] - w[None, :]
    f = np.exp(-(plus**2) / (4 * sum_width**2) - minus**2 / (4 * difference_width**2)).astype(complex)
    p = np.asarray(jax.jit(lambda f: hom_dip(f, w, tau))(f))
    marginal = np.sum(np.abs(f) ** 2, axis=1)
    return _full_width(p.max() - p, tau) * float(np.sqrt(marginal @ w**2 / marginal.sum()))


def tomography(
    dispersion: float = 0.0, cubic: float = 0.0, layers: float = 0.0, turns: float = 0.0
) -> dict[str, float]:
    """Scans at 810 nm, 10 nm FWHM, of one mirror (``layers`` 0) or two layers 12/sigma apart, r = 0.3 and 0.2.

    ``dispersion`` B2 sigma^2 and ``cubic`` B3 sigma^3 of the round trip; ``turns``: phase w0 dtau between the layers
    over 2 pi. Gives oct and quantum: depth resolutions c FWHM/2, m; floor: the least of the quantum scan over its
    level; artefact: its dip midway between the layers.
    """
    offsets, delays = np.linspace(-7, 7, 401) * SIGMA, np.linspace(-8, 8, 1601) / SIGMA
    spectrum = np.exp(-(offsets**2) / (2 * SIGMA**2))
    gap = 2 * np.pi / CARRIER * (round(CARRIER * 12 / SIGMA / (2 * np.pi)) + turns) if layers else 0.0
    r, tau = (np.array([0.3, 0.2]), np.array([-gap / 2, gap / 2])) if layers else (np.ones(1), np.zeros(1))

    @jax.jit
    def scans():
        h = layered_response(offsets, CARRIER, r, tau, dispersion / SIGMA**2, cubic / SIGMA**3)
        one = oct_interferogram(h, spectrum, offsets, delays)
        return jnp.abs(one), quantum_oct_interferogram(h, spectrum, offsets, delays)

    one, two = (np.asarray(x) for x in scans())
    level = float(np.sum(r**2))
    out = {"floor": float(two.min()) / level, "artefact": level - float(np.interp(0.0, delays, two))}
    if not layers:
        out |= {"oct": _full_width(one, delays) * LIGHT / 2, "quantum": _full_width(level - two, delays) * LIGHT / 2}
    return out


def network_visibility(kind: str, transmission: float, photons: float) -> float:
    """Fringe visibility of the Gaussian network of two equal crystals, ``kind`` 'induced coherence' or 'su11'."""
    network = {"induced coherence": induced_coherence, "su11": su11}[kind]
    return float(jax.jit(lambda t, n: visibility(network, t, n, n))(transmission, photons))


def illumination_gain_db(receiver: str, signal: float, background: float) -> float:
    """Exponent of a receiver over that of coherent light at its Chernoff bound, dB; reflectivity 1e-4."""
    exponent = {"optimum": entangled_exponent, "amplifier": amplifier_exponent, "homodyne": homodyne_exponent}[receiver]
    return float(10 * jnp.log10(exponent(1e-4, signal, background) / coherent_exponent(1e-4, signal, background)))


def resolution_gain(dispersion: float) -> float:
    """Width of an OCT envelope over that of the quantum dip at the same bandwidth, B2 sigma^2 of the round trip."""
    found = tomography(dispersion)
    return found["oct"] / found["quantum"]
