"""States of light as sources: what is measured of one, read as a law and as draws, and its figures of merit.

Here the light of one beam, pseudothermal and squeezed; pairs and NOON states in `qtwin.source.entangled`, pairs from a
fibre in `qtwin.source.four_wave`.
"""

from abc import abstractmethod
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import FieldError
from qtwin.core.params import Element, is_concrete, nonnegative, param, positive, real, static
from qtwin.core.params import efficiency as efficient
from qtwin.core.random import stream
from qtwin.modes.checks import whole
from qtwin.modes.counts import mode_number, thermal_variance
from qtwin.modes.gaussian import MOST_MODES
from qtwin.modes.squeezing import detected_noise, squeezing_db
from qtwin.source.sellmeier import LIGHT

PLANCK = 6.62607015e-34  # J s
MOST_DRAWS = 10_000_000
MOST_FIELDS = 2**22  # field points of one record of speckle
MOST_POINTS = 64  # per side of a pixel
FRAMES = 64  # records at most whose fields are held at once


class Expected(NamedTuple):
    """Mean [N] and covariance [N, N] of the N numbers that one record holds."""

    mean: jax.Array
    covariance: jax.Array


class Figure(NamedTuple):
    """One figure of merit: its name, value, SI unit, and the formula with its source."""

    name: str
    value: jax.Array
    unit: str
    formula: str


class AbstractState(Element):
    """A source by what is measured of it: ``sample`` draws records whose moments are those of ``expect``."""

    @abstractmethod
    def expect(self) -> Expected:
        """Mean and covariance of one record."""

    @abstractmethod
    def sample(self, count: int, *, key) -> jax.Array:
        """``count`` records, [count, N]."""

    @abstractmethod
    def figures(self) -> list[Figure]:
        """Figures of merit."""


class Coherent(AbstractState):
    """Var n = n: light of a laser, Poisson counts (Glauber, Phys. Rev. 131, 2766 (1963)).

    In a comparison it is shaped like the signal beam of the pairs. A record is the counts of one detector.
    """

    wavelength: jax.Array = param("m", positive, "wavelength in vacuum")
    photons: jax.Array = param("", positive, "mean photons per record", 1.0)

    def expect(self):
        return Expected(self.photons[None], self.photons[None, None])

    def sample(self, count: int, *, key):
        count = whole("count", count, 1, MOST_DRAWS)
        return jax.random.poisson(key, self.photons, (count, 1))

    def figures(self):
        return [
            Figure("mean photons", self.photons, "", "n"),
            Figure("variance of the photons", self.photons, "", "n (Poisson)"),
            Figure("g2(0)", jnp.ones_like(self.photons), "", "1 (Glauber 1963)"),
            Figure("relative noise", 1 / jnp.sqrt(self.photons), "", "1/sqrt(n), the shot-noise limit"),
            Figure("energy of a record", self.photons * PLANCK * LIGHT / self.wavelength, "J", "n h c/l"),
        ]


class Thermal(AbstractState):
    """g2(x) = 1 + exp(-x^2/s^2), s = l z/(pi w): pseudothermal light, a spot exp(-2 r^2/w^2) on a rotating diffuser.

    Degree of coherence exp(-x^2/(2 s^2)) at ``distance`` z by the van Cittert-Zernike theorem (Goodman, Statistical
    Optics, 2nd ed. (2015), ch. 5), exp(-pi t^2/(2 tc^2)) in time; fully developed, polarised, equally bright over the
    camera. A record is the counts of pixels x pixels square pixels, row by row. Integrals over a pixel and over the
    exposure are Gauss-Legendre sums of ``points``, in both readings; FieldError where these are too few.
    """

    wavelength: jax.Array = param("m", positive, "wavelength in vacuum")
    spot: jax.Array = param("m", positive, "1/e^2 intensity radius of the light on the diffuser")
    distance: jax.Array = param("m", positive, "from the diffuser to the pixels")
    pitch: jax.Array = param("m", positive, "side of a pixel")
    exposure: jax.Array = param("s", positive, "duration of a record")
    coherence_time: jax.Array = param("s", positive, "integral of |g1|^2 over delay, set by the diffuser's speed")
    photons: jax.Array = param("", positive, "mean photons per pixel and record")
    pixels: int = static("pixels per side", default=4)
    points: int = static("quadrature points per side of a pixel and in the exposure", default=6)

    def check(self):
        points = whole("points", self.points, 1, MOST_POINTS)
        if whole("pixels", self.pixels, 1, MOST_MODES) ** 2 > MOST_MODES:
            raise FieldError("pixels", f"got {self.pixels}, accepted are at most {MOST_MODES} pixels: memory")
        if (self.pixels * points) ** 2 * points > MOST_FIELDS:
            raise FieldError("pixels, points", f"got more than {MOST_FIELDS} field points, accepted are fewer: memory")
        for field, extent, coherence in (
            ("pitch", self.pitch, self.coherence_length()),
            ("exposure", self.exposure, self.coherence_time),
        ):
            if is_concrete(extent) and is_concrete(coherence) and not _resolves(points, ratio := extent / coherence):
                enough = next((n for n in range(points, MOST_POINTS + 1) if _resolves(n, ratio)), None)
                wanted = f"points of {enough} or more" if enough else "a smaller ratio"
                raise FieldError(
                    "points", f"got {points} where {field}/coherence is {float(ratio):.3g}, accepted: {wanted}"
                )

    def speckle_width(self):
        """s = l z/(pi w), m: g2 - 1 falls to 1/e there."""
        return self.wavelength * self.distance / (jnp.pi * self.spot)

    def coherence_length(self):
        """Integral of |g1|^2 along one axis, sqrt(pi) s, m."""
        return jnp.sqrt(jnp.pi) * self.speckle_width()

    def modes(self):
        """(M_space, M_time): modes that one pixel sees in one record; M is their product."""
        side = mode_number(self.pitch, self.coherence_length())
        return side**2, mode_number(self.exposure, self.coherence_time)

    def _kernels(self):
        """g1 among the points of a row of pixels and of the exposure, with the weights of one pixel [points]."""
        node, weight = (jnp.asarray(a / 2, self.pitch.dtype) for a in np.polynomial.legendre.leggauss(self.points))
        row = jnp.ravel(jnp.arange(self.pixels, dtype=node.dtype)[:, None] + node[None, :]) * self.pitch
        return _g1(row, self.coherence_length()), _g1(node * self.exposure, self.coherence_time), weight

    def expect(self):
        """n, and Cov = n^2 A_jk + delta_jk n, A the mean of |g1|^2 over the pixels j and k and the exposure."""
        across, along, weight = self._kernels()
        cells = (across**2).reshape(self.pixels, self.points, self.pixels, self.points)
        row = jnp.einsum("jakb,a,b->jk", cells, weight, weight)
        time = weight @ along**2 @ weight
        mean = jnp.full(self.pixels**2, 1.0, row.dtype) * self.photons
        return Expected(mean, self.photons**2 * time * jnp.kron(row, row) + jnp.diag(mean))

    def sample(self, count: int, *, key):
        """Poisson counts of the mean intensity of Gaussian fields, int32 [count, pixels^2]."""
        count = whole("count", count, 1, MOST_DRAWS // self.pixels**2)
        across, along, weight = self._kernels()
        intensity = _speckle(_root(across), _root(along), weight, count, key=stream(key, "field"))
        return jax.random.poisson(stream(key, "counts"), self.photons * intensity, dtype=jnp.int32)

    def figures(self):
        s, (space, time) = self.speckle_width(), self.modes()
        modes, variance = space * time, thermal_variance(self.photons, space * time)
        vcz, goodman = "van Cittert-Zernike; Goodman, Statistical Optics (2015), ch. 5", "; Goodman (2015), ch. 6"
        return [
            Figure("speckle width, 1/e of g2 - 1", s, "m", f"l z/(pi w) ({vcz})"),
            Figure("speckle width, FWHM of g2 - 1", 2 * jnp.sqrt(jnp.log(2.0)) * s, "m", "2 sqrt(ln 2) l z/(pi w)"),
            Figure("area of a speckle", jnp.pi * s**2, "m**2", "pi s^2, integral of |g1|^2"),
            Figure("modes in space per pixel", space, "", "mode_number(pitch, sqrt(pi) s)^2" + goodman),
            Figure("modes in time per record", time, "", "mode_number(exposure, coherence time)" + goodman),
            Figure("photons per mode", self.photons / modes, "", "n/M"),
            Figure("variance of a pixel", variance, "", "n (1 + n/M); Mandel & Wolf (1995), section 13.3"),
            Figure("variance over the mean", variance / self.photons, "", "1 + n/M"),
            Figure("g2 of a pixel", 1 + 1 / modes, "", "1 + 1/M"),
            Figure("speckle contrast", 1 / jnp.sqrt(modes), "", "1/sqrt(M)" + goodman),
        ]


def _g1(points, coherence):
    """exp(-pi (x - x')^2/(2 c^2)), c the integral of its square."""
    return jnp.exp(-jnp.pi * ((points[:, None] - points[None, :]) / coherence) ** 2 / 2)


def _root(kernel):
    """Symmetric square root of a correlation matrix, negative rounding cut off."""
    values, vectors = jnp.linalg.eigh(kernel)
    return (vectors * jnp.sqrt(jnp.maximum(values, 0.0))[None, :]) @ vectors.T


@partial(jax.jit, static_argnames="count")
def _speckle(side, time, weight, count: int, *, key):
    """Mean intensity, 1 on average, of every pixel in ``count`` records: fields root x white noise, [count, P^2]."""
    points = len(weight)
    cells = (len(side) // points, points) * 2 + (points,)

    def bright(key):
        white = jax.random.normal(key, (2, len(side), len(side), points), side.dtype)
        field = jnp.einsum("qxyt,xu,yv,ts->quvs", white, side, side, time)
        return jnp.einsum("jakbt,a,b,t->jk", jnp.sum(field**2, 0).reshape(cells) / 2, weight, weight, weight)

    together = max(1, min(FRAMES, count, MOST_FIELDS // (len(side) ** 2 * points)))
    return jax.lax.map(bright, jax.random.split(key, count), batch_size=together).reshape(count, -1)


def _resolves(points: int, ratio) -> bool:
    """Whether the quadrature gives 1/M of an extent of ``ratio`` coherence lengths within 1e-3."""
    node, weight = (a / 2 for a in np.polynomial.legendre.leggauss(points))
    overlap = weight @ np.exp(-np.pi * (float(ratio) * (node[:, None] - node)) ** 2) @ weight
    return bool(abs(overlap * float(mode_number(ratio, 1.0)) - 1) < 1e-3)


class Squeezed(AbstractState):
    """V(t) = eta (V- cos^2 t + V+ sin^2 t) + 1 - eta, V-+ = 10^(-+dB/10): noise of a quadrature, vacuum 1.

    The angle t errs by a normal phase error of std ``phase_noise`` from record to record (Aoki, Takahashi & Furusawa,
    Opt. Express 14, 6930 (2006), declared): `qtwin.modes.squeezing.detected_noise`. A record is one homodyne value in
    units of the vacuum's standard deviation.
    """

    wavelength: jax.Array = param("m", positive, "in vacuum")
    squeezing: jax.Array = param("dB", nonnegative, "noise below the vacuum's, as the light is made")
    antisqueezing: jax.Array = param("dB", nonnegative, "noise above the vacuum's in the other quadrature")
    efficiency: jax.Array = param("", efficient, "transmission x detector x (overlap with the local oscillator)^2")
    phase_noise: jax.Array = param("rad", nonnegative, "std of the local oscillator's phase", default=0.0)
    angle: jax.Array = param("rad", real, "of the measured quadrature from the squeezed one", default=0.0)

    def check(self):
        if is_concrete(self.squeezing) and is_concrete(self.antisqueezing) and self.antisqueezing < self.squeezing:
            given, least = float(self.antisqueezing), float(self.squeezing)
            raise FieldError(
                "antisqueezing",
                f"got {given:.4g} dB, accepted is the squeezing, {least:.4g} dB, or more: uncertainty relation",
            )

    def noise(self, angle, phase_noise):
        """Variance at ``angle`` averaged over the phase noise, vacuum 1."""
        return detected_noise(self.squeezing, self.antisqueezing, self.efficiency, angle, phase_noise)

    def expect(self):
        return Expected(jnp.zeros_like(self.angle)[None], self.noise(self.angle, self.phase_noise)[None, None])

    def sample(self, count: int, *, key):
        """Homodyne values, float [count, 1]."""
        whole("count", count, 1, MOST_DRAWS)
        turns, value = (jax.random.normal(stream(key, n), (count,), self.angle.dtype) for n in ("phase", "value"))
        steady = jnp.zeros_like(self.phase_noise)
        return (jnp.sqrt(self.noise(self.angle + self.phase_noise * turns, steady)) * value)[:, None]

    def figures(self):
        low, high = (self.noise(jnp.asarray(t, self.angle.dtype), self.phase_noise) for t in (0, np.pi / 2))
        steady = self.noise(jnp.zeros_like(self.angle), jnp.zeros_like(self.angle))
        v = 10.0 ** (-self.squeezing / 10), 10.0 ** (self.antisqueezing / 10)
        aoki = "; Aoki, Takahashi & Furusawa, Opt. Express 14, 6930 (2006), declared"
        return [
            Figure("squeezing detected", squeezing_db(low), "dB", "-10 log10 V(0), phase noise included" + aoki),
            Figure("squeezing without phase noise", squeezing_db(steady), "dB", "-10 log10(eta V- + 1 - eta)"),
            Figure("antisqueezing detected", -squeezing_db(high), "dB", "10 log10 V(pi/2), phase noise included"),
            Figure("gain over coherent light", 1 / low, "", "1/V(0): same power and detector, noise variance"),
            Figure("noise left by loss alone", 1 - self.efficiency, "", "1 - eta, however strong the squeezing"),
            Figure(
                "efficiency that beats ideal light", 1 / (2 - v[0]), "", "1/(2 - V-): eta/V > 1 without phase noise"
            ),
            Figure(
                "gain over ideal coherent light", self.efficiency / low, "", "eta/V(0), coherent light without loss"
            ),
            Figure("photons of the squeezed mode", (v[0] + v[1]) / 4 - 0.5, "", "(V- + V+)/4 - 1/2, as made"),
            Figure("purity of the state", 1 / jnp.sqrt(v[0] * v[1]), "", "1/sqrt(V- V+), as made"),
        ]
