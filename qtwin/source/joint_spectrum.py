"""Joint spectral amplitude of photon pairs, its Schmidt modes and its purity."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import FieldError
from qtwin.core.params import Element, is_concrete, param, positive, real, static
from qtwin.modes.interference import hom_dip
from qtwin.source.nonlinear_crystal import Crystal, polar
from qtwin.source.phase_matching import idler_wavelength
from qtwin.source.sellmeier import LIGHT, to_float

FWHM = 2 * np.sqrt(2 * np.log(2))  # of a normal density, in standard deviations
SINC_HALF = 1.8954942670339809  # sin(x)/x = 1/2
SHAPES, FILTERS = ("sinc", "gaussian"), ("none", "gaussian", "top hat")


class Schmidt(NamedTuple):
    """f = sum_k sqrt(weights_k) signal_k idler_k: weights [n] fall and sum to 1; modes in columns [n, n]."""

    weights: jax.Array
    signal: jax.Array
    idler: jax.Array

    def number(self):
        """K = 1/sum weights^2."""
        return 1 / jnp.sum(self.weights**2)


def schmidt(amplitude) -> Schmidt:
    """Schmidt decomposition of a complex joint amplitude [n, n] by singular values.

    Law, Walmsley & Eberly, Phys. Rev. Lett. 84, 5304 (2000). The modulus alone would overstate the purity.
    """
    u, s, vh = jnp.linalg.svd(amplitude)
    return Schmidt(s**2 / jnp.sum(s**2), u, vh.T)


def purity(amplitude):
    """1/K = tr[(A A^H)^2]/[tr(A A^H)]^2 of a complex joint amplitude A [n, n]: purity of either photon alone.

    No decomposition, so its gradient costs two more products of matrices.
    """
    reduced = amplitude @ amplitude.conj().T
    return jnp.sum(reduced.real**2 + reduced.imag**2) / jnp.trace(reduced).real ** 2


def transform_limited_bandwidth(duration, wavelength):
    """Spectral FWHM (m) of a Gaussian pulse of ``duration`` (s, FWHM of its intensity): l^2/c (2 ln 2/pi)/duration."""
    return to_float(wavelength) ** 2 / LIGHT * (2 * np.log(2) / np.pi) / to_float(duration)


class JointSpectrum(Element):
    """f(w_s, w_i) = exp[-v^2/(4 s^2) + i D v^2/2] phi(dk) t_s t_i, v = w_s + w_i - w_p.

    Grice & Walmsley, Phys. Rev. A 56, 1627 (1997). s: standard deviation (rad/s) of the pump's spectral intensity;
    D the pump's chirp; phi of the crystal, dk with the full Sellmeier equations; t amplitudes of the filters.
    ``shape`` 'gaussian' puts exp(-0.1929 x^2) in place of sinc(x), x = dk L/2: equal full width at half maximum of
    the amplitude; the phase stays. f is referred to the entrance of the crystal: behind it each photon has its own
    phase k L more, which changes no purity (`hom_dip` adds it). One spacing of frequencies in both arms.
    """

    crystal: Crystal
    pump_wavelength: jax.Array = param("m", positive, "centre of the pump, in vacuum")
    signal_wavelength: jax.Array = param("m", positive, "centre of the signal, in vacuum")
    pump_bandwidth: jax.Array = param("m", positive, "full width at half maximum of the pump's spectrum")
    pump_chirp: jax.Array = param("s**2", real, "quadratic spectral phase of the pump (group-delay dispersion)", 0.0)
    signal_filter: jax.Array = param("m", positive, "full width (at half maximum) of the signal's filter", 1e-8)
    idler_filter: jax.Array = param("m", positive, "full width (at half maximum) of the idler's filter", 1e-8)
    filter: str = static("shape of both filters: none, gaussian, top hat", "none")
    shape: str = static("phase matching: sinc, or its gaussian stand-in", "sinc")
    points: int = static("points of the grid in each arm", 256)
    lobes: int = static("zeros of the sinc inside the grid on each side", 6)

    def check(self):
        for name, accepted in (("shape", SHAPES), ("filter", FILTERS)):
            if getattr(self, name) not in accepted:
                raise FieldError(name, f"got {getattr(self, name)!r}, accepted is one of {', '.join(accepted)}")
        if self.shape == "gaussian" and self.crystal.nodes:
            raise FieldError("shape", "got 'gaussian', a chirped crystal has only its own: 'sinc'")
        numbers = (*jax.tree.leaves(self.crystal), self.pump_wavelength, self.signal_wavelength, self.pump_bandwidth)
        if not all(is_concrete(x) for x in numbers):
            return
        span = float(self.span())
        for beam, centre in enumerate((self.pump_wavelength, self.signal_wavelength, self.idler_wavelength())):
            half = span / 2 if beam else 0.0
            ends = [2 * np.pi * LIGHT / (2 * np.pi * LIGHT / float(centre) + v) for v in (-half, half)]
            for _, s in self.crystal.interaction.sets(beam):
                s.check(np.asarray(ends))
        step, narrow = span / (self.points - 1), FWHM * float(self.pump_deviation())
        if narrow < 2 * step:
            least = float(self.pump_bandwidth) * 2 * step / narrow
            raise FieldError(
                "pump_bandwidth",
                f"got {float(self.pump_bandwidth):.4g} m, accepted on {self.points} points is {least:.4g} m or more "
                "(a continuous wave has no joint amplitude on a grid: see cw_spectrum)",
            )

    def idler_wavelength(self):
        """1/l_i = 1/l_p - 1/l_s, m."""
        return idler_wavelength(self.pump_wavelength, self.signal_wavelength)

    def pump_deviation(self):
        """Standard deviation of the pump's spectral intensity, rad/s."""
        return 2 * jnp.pi * LIGHT * self.pump_bandwidth / self.pump_wavelength**2 / FWHM

    def span(self):
        """Full width of the grid, rad/s: the crystal's ``lobes``, 4 deviations of the pump's amplitude each side.

        The root u of a u + b u^2/2 = X, a = |D_s - D_i|, b = |k_s'' + k_i''|, X = lobes 2 pi/L + |chirp| L/2 +
        max|D| v, v the pump's share; or the wider filter (three times it, Gaussian) and the pump's extent about it,
        where that is narrower: the partners of what passes are on the grid.
        """
        centres = (self.pump_wavelength, self.signal_wavelength, self.idler_wavelength())
        (p, _), (s, b_s), (i, b_i) = (self._slopes(beam, w) for beam, w in enumerate(centres))
        extent = 4 * np.sqrt(2) * self.pump_deviation()
        faster = jnp.maximum(jnp.abs(p - s), jnp.abs(p - i))
        length = self.crystal.length
        x = self.lobes * 2 * jnp.pi / length + jnp.abs(self.crystal.chirp) * length / 2 + faster * extent
        a, b = jnp.abs(s - i), jnp.abs(b_s + b_i)
        span = 4 * x / (a + jnp.sqrt(a**2 + 2 * b * x))
        if self.filter == "none":
            return span
        wider = jnp.maximum(*self._filter_widths())
        return jnp.minimum(span, (3 if self.filter == "gaussian" else 1) * wider + 8 * self.pump_deviation())

    def _slopes(self, beam: int, wavelength):
        """dk/dw and d2k/dw2 of a beam by differences over 0.2 % of its frequency: enough to size the grid."""
        w = 2 * jnp.pi * LIGHT / wavelength
        h = 1e-3 * w
        k = self.crystal.wave_number(beam, w + h * jnp.asarray([-1.0, 0.0, 1.0], w.dtype))
        return (k[2] - k[0]) / (2 * h), (k[2] - 2 * k[1] + k[0]) / h**2

    def _filter_widths(self):
        arms = ((self.signal_filter, self.signal_wavelength), (self.idler_filter, self.idler_wavelength()))
        return tuple(2 * jnp.pi * LIGHT * width / centre**2 for width, centre in arms)

    def detunings(self):
        """w - w0 of either arm, rad/s, [points]."""
        return self.span() * jnp.linspace(-0.5, 0.5, self.points, dtype=self.pump_wavelength.dtype)

    def frequencies(self):
        """Angular frequencies of signal and idler, rad/s, each [points]."""
        centres = (self.signal_wavelength, self.idler_wavelength())
        return tuple(2 * jnp.pi * LIGHT / centre + self.detunings() for centre in centres)

    def emitted(self):
        """Complex amplitude before the filters, [signal, idler]; 1 where pump and phase matching peak."""
        n, (w_s, w_i) = self.points, self.frequencies()
        w_p = w_s[0] + w_i[0] + (w_s[1] - w_s[0]) * jnp.arange(2 * n - 1, dtype=w_s.dtype)  # every sum there is
        off = w_p - 2 * jnp.pi * LIGHT / self.pump_wavelength
        pump = polar(jnp.exp(-((off / (2 * self.pump_deviation())) ** 2)), self.pump_chirp * off**2 / 2)
        k_p, k_s, k_i = (self.crystal.wave_number(b, w) for b, w in enumerate((w_p, w_s, w_i)))
        sums = np.add.outer(np.arange(n), np.arange(n))
        pump = pump[sums]
        dk = k_p[sums] - k_s[:, None] - k_i[None, :] - self.crystal.grating()
        if self.shape == "sinc":
            return pump * self.crystal.response(dk)
        half = dk * self.crystal.length / 2
        return pump * polar(jnp.exp(-np.log(2) * (half / SINC_HALF) ** 2), half)

    def transmissions(self):
        """Amplitude transmissions of the two filters, each [points]; cells at a top hat's edge pass in part."""
        v = self.detunings()
        if self.filter == "none":
            return jnp.ones_like(v), jnp.ones_like(v)
        if self.filter == "gaussian":
            return tuple(jnp.exp(-2 * np.log(2) * (v / width) ** 2) for width in self._filter_widths())
        cell = v[1] - v[0]
        shares = [jnp.clip((width / 2 - jnp.abs(v)) / cell + 0.5, 0, 1) for width in self._filter_widths()]
        return tuple(jnp.where(share > 0, jnp.sqrt(jnp.where(share > 0, share, 1)), 0) for share in shares)

    def amplitude(self):
        """Joint amplitude behind the filters, [signal, idler], with sum |f|^2 = 1."""
        t_s, t_i = self.transmissions()
        f, t = self.emitted(), t_s[:, None] * t_i[None, :]
        t = t / jnp.sqrt(jnp.sum(t**2 * (f.real**2 + f.imag**2)))
        return jax.lax.complex(t * f.real, t * f.imag)

    def purity(self):
        """1/K of `amplitude`."""
        return purity(self.amplitude())

    def heralding(self):
        """(signal, idler): probability that the photon passes its filter when its partner has passed."""
        f, (t_s, t_i) = self.emitted(), self.transmissions()
        pairs, (s, i) = f.real**2 + f.imag**2, (t_s**2, t_i**2)
        both = s @ pairs @ i
        return both / jnp.sum(pairs @ i), both / jnp.sum(s @ pairs)

    def edge(self):
        """Share of the pairs in the outer tenth of the grid: what the grid cuts is of this size."""
        weight, rim = jnp.abs(self.amplitude()) ** 2, max(self.points // 20, 1)
        return 1 - jnp.sum(weight[rim:-rim, rim:-rim])

    def hom_dip(self, delays, reflectivity=0.5):
        """Coincidence probability per pair at ``delays`` [k] (s) of the signal behind the crystal.

        Only for a signal of twice the pump's wavelength. A uniform crystal: lowest at (dk_i/dw - dk_s/dw) L/2.
        """
        ends = (self.signal_wavelength, self.idler_wavelength())
        if all(is_concrete(x) for x in ends) and abs(float(ends[0] / ends[1]) - 1) > 1e-9:
            raise FieldError("signal_wavelength", f"got {float(ends[0]):.6g} m, a dip needs twice the pump's")
        c, f = self.crystal, self.amplitude()
        k_s, k_i = (c.wave_number(b, w) for b, w in enumerate(self.frequencies(), 1))
        travel = polar(jnp.ones_like(f.real), c.length * (k_s[:, None] + k_i[None, :]))
        return hom_dip(f * travel, self.detunings(), delays, reflectivity)


def cw_spectrum(crystal: Crystal, pump_wavelength, signal_wavelength):
    """|phi(dk)|^2: spectrum of the collinear signal of a continuous-wave pump, 1 at its peak; elementwise."""
    phi = crystal.response(crystal.mismatch(to_float(pump_wavelength), to_float(signal_wavelength)))
    return phi.real**2 + phi.imag**2
