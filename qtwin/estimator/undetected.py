"""Imaging with undetected photons: the sample's infrared absorption, read from visible fringes on a silicon camera.

Two equal crystals share a laser. The infrared photon of the first crosses the sample and goes on through the second
along the infrared that is born there, so that nothing tells where a pair came from. The visible photons of both meet on
a balanced beam splitter and interfere as far as the sample transmitted; the infrared is not detected (Zou, Wang &
Mandel, Phys. Rev. Lett. 67, 318 (1991); Lemos et al., Nature 512, 409 (2014)).

Names: everywhere in the twin the signal is what crosses the sample. Here that is the infrared photon, the idler of
those papers: ``source.signal_wavelength`` is infrared, and so are the optics between crystal, sample and second crystal
(``illumination_transmission``, ``collection_transmission``). Its partner, the twin's idler, is the visible photon that
the camera counts, behind ``idler_transmission``.
"""

from functools import partial
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from scipy import sparse

from qtwin.core.errors import FieldError
from qtwin.core.params import efficiency, param, positive, real, static
from qtwin.core.random import numpy_generator
from qtwin.detector.camera import AbstractCamera
from qtwin.estimator import direct
from qtwin.estimator.protocol import AbstractLaw, AbstractProtocol, Arm, Bench, Drawn, Ledger
from qtwin.estimator.response import recorded, response
from qtwin.modes.checks import number, whole
from qtwin.modes.undetected import induced_coherence_visibility, resolution
from qtwin.optics.point_spread import gaussian_width
from qtwin.source.sellmeier import LIGHT
from qtwin.source.states import PLANCK

BOLTZMANN = 1.380649e-23  # J/K
BRIGHT = 1e6  # photons per mode of a laser that seeds the crystals: spontaneous pairs are nothing beside it
LEAST = 1e-3  # of the mean of both outputs: no record is trusted to be darker
ROUNDS = 12  # of the fit


class Fringes(eqx.Module):
    """<n+-> = n/2 [c + N t^2] +- n v f t cos(phase + step): both outputs at every step, and how they vary together.

    Per infrared photon of the first crystal, at N = sinh^2 r pairs per mode and a seed of A photons per mode (0:
    spontaneous), with I = N + (1 + N) A: c = N (2 + A)/I, f = N sqrt(1 + N) (1 + A)/I. t: amplitude transmission from
    crystal to crystal, v: overlap of the visible beams. Visibility at v = 1: `induced_coherence_visibility` at A = 0,
    and 2 t sqrt(1 + N)/(1 + t^2 (1 + N)) at A >> 1.
    The fields are Gaussian: with the coherences G of the spontaneous light and S of the seeded, per mode, light of n/I
    modes has Cov(n_i, n_j) = <n_i> d_ij + n/I [|G_ij|^2 + 2 Re(S_ij* G_ij)] (Mandel & Wolf, Optical Coherence and
    Quantum Optics (1995), chapter 8, declared).
    ``x`` and ``y`` [n, n] are the quadratures of the object alone, x + i y = sqrt T e^(i phase).
    """

    photons: jax.Array  # [n, n] infrared photons of the first crystal whose partner meets the superpixel, per step
    visible: jax.Array  # [] transmission for the visible photons
    between: jax.Array  # [] intensity transmission from crystal to crystal without the object
    gain: jax.Array  # [] N
    seed: jax.Array  # [] A
    overlap: jax.Array  # [] v
    steps: jax.Array  # [K, 1, 1] rad; one alone: the phase is known, and y = 0
    time: jax.Array  # [] s, of a step
    ambient: jax.Array  # [] Hz, background on a superpixel of each output
    camera: AbstractCamera

    def light(self, x, y):
        """Mean photons on the outputs, [K, 2, n, n]."""
        n, a = self.gain, self.seed
        infrared, turned = n + (1 + n) * a, x[None] * jnp.cos(self.steps) - y[None] * jnp.sin(self.steps)
        wave = self.overlap * jnp.sqrt(self.between * (1 + n)) * (1 + a) * turned / infrared
        even = ((2 + a) / infrared + self.between * (x**2 + y**2))[None] / 2
        scale = self.visible * self.photons * n
        return scale[None, None] * jnp.stack([even + wave, even - wave], axis=1)

    def bunching(self, x, y):
        """Variance of the light beyond Poisson's [K, 2, n, n], and covariance of both outputs [K, n, n], photons^2."""
        n, a = self.gain, self.seed
        infrared, tau = n + (1 + n) * a, self.between * (x**2 + y**2)
        mixed = self.overlap * jnp.sqrt(self.between * (1 + n)) * n
        born = self._outputs(n, n * (1 + n * tau), mixed, x, y)
        seeded = self._outputs(a * n, a * n * (1 + n) * tau, a * mixed, x, y)
        own, real_part, rest = ((b + 2 * s) * b for b, s in zip(born, seeded, strict=True))
        scale = self.visible**2 * self.photons / infrared
        return scale[None, None] * own, scale[None] * (real_part + rest)

    def _outputs(self, first, second, mixed, x, y):
        """Two beams' coherences behind the beam splitter: own [K, 2, n, n], mutual as real and imaginary part."""
        cosine, sine = jnp.cos(self.steps), jnp.sin(self.steps)
        even, odd = (first + second)[None] / 2, (first - second)[None] / 2
        wave, across = mixed * (x[None] * cosine - y[None] * sine), mixed * (x[None] * sine + y[None] * cosine)
        return jnp.stack([even + wave, even - wave], axis=1), odd, across

    def mean(self, x, y):
        """Mean electrons, [K, 2, n, n]."""
        dark = self.camera.mean(self.ambient * self.time, self.time)
        return dark + response(self.camera, self.time) * self.light(x, y)

    def covariance(self, x, y):
        """Variance of every record [K, 2, n, n], and covariance of both outputs [K, n, n], electrons^2."""
        arriving = jnp.maximum(self.light(x, y), 0) + self.ambient * self.time
        own, shared = self.bunching(x, y)
        eta, least = response(self.camera, self.time), LEAST * jnp.mean(self.mean(x, y), axis=1, keepdims=True)
        return jnp.maximum(self.camera.variance(arriving, self.time) + eta**2 * own, least), eta**2 * shared

    def slopes(self, x, y):
        """D: derivatives of the mean by x and, where it is not known, y: [1 or 2, K, 2, n, n]."""
        first = jax.jvp(lambda q: self.mean(q, y), (x,), (jnp.ones_like(x),))[1]
        if self.steps.shape[0] == 1:
            return first[None]
        return jnp.stack([first, jax.jvp(lambda q: self.mean(x, q), (y,), (jnp.ones_like(y),))[1]])

    def worth(self, x, y, slopes):
        """C^-1 D, what a record tells, and (D^T C^-1 D)^-1 = Sigma, covariance [2, 2, n, n] of the best estimates."""
        own, shared = self.covariance(x, y)
        turned = own[None, :, ::-1] * slopes - shared[None, :, None] * slopes[:, :, ::-1]
        tells = turned / (own[:, 0] * own[:, 1] - shared**2)[None, :, None]
        return tells, _inverse(jnp.einsum("akpij,bkpij->abij", tells, slopes))


def _inverse(m):
    """Of [1, 1, n, n] or [2, 2, n, n]."""
    if m.shape[0] == 1:
        return 1 / m
    turned = jnp.stack([jnp.stack([m[1, 1], -m[0, 1]]), jnp.stack([-m[1, 0], m[0, 0]])])
    return turned / (m[0, 0] * m[1, 1] - m[0, 1] * m[1, 0])[None, None]


def _both(vector):
    """x and y of [1 or 2, ...]; y is 0 where it is known."""
    return vector[0], vector[1] if vector.shape[0] == 2 else jnp.zeros_like(vector[0])


@eqx.filter_jit
def fit(fringes: Fringes, records):
    """(T, phase) [exposures, n, n] from electrons [exposures, K, 2, n, n], by maximum quasi-likelihood.

    The root of D^T C^-1 (record - mean) = 0 by scoring (Wedderburn, Biometrika 61, 439 (1974)): maximum likelihood of
    Poisson counts, and otherwise the best of all linear estimating functions. T = x^2 + y^2 less the bias of the
    square, tr Sigma, and that of x and y where the mean is curved (finite gain), -Sigma D^T C^-1 (h tr Sigma)/2, h =
    d^2 mean/dx^2.
    """

    def one(record):
        def improve(_, guess):
            tells, sigma = weigh(*guess)
            score = jnp.einsum("akpij,kpij->aij", tells, record - fringes.mean(*guess))
            return tuple(map(jnp.add, guess, _both(jnp.einsum("abij,bij->aij", sigma, score))))

        x, y = jax.lax.fori_loop(0, ROUNDS, improve, (jnp.zeros_like(fringes.photons),) * 2)
        tells, sigma = weigh(x, y)
        trace = jnp.einsum("aaij->ij", sigma)
        bias = _both(-jnp.einsum("abij,bkpij->aij", sigma, tells) * (curvature * trace / 2)[None])
        return x**2 + y**2 - trace - 2 * (x * bias[0] + y * bias[1]), jnp.arctan2(y, x)

    def weigh(x, y):
        size = jnp.maximum(jnp.hypot(x, y), 1)  # the variances are those of a sample that does not amplify
        return fringes.worth(x / size, y / size, fringes.slopes(x, y))

    eta = response(fringes.camera, fringes.time)
    curvature = eta * fringes.visible * fringes.gain * fringes.between * fringes.photons
    return jax.vmap(one)(records)


class FringeLaw(AbstractLaw):
    """T of `fit`, without bias: Var = 4 q^T Sigma q + 2 tr Sigma^2, q = (x, y), Sigma^-1 the Fisher information.

    At low gain, per infrared photon if every photon is counted, with many steps: F_T = [1/sqrt(1 - v^2 T) - 1]/(2 T^2)
    and F_phase = 2 [1 - sqrt(1 - v^2 T)]; locked to the fringe F_T = v^2/[2 T (1 - v^2 T)]. Coherent light on an ideal
    camera has 1/T (more than the scan unless v^2 T is near 1: v = 1, T > sqrt(3)/2), any light at most 1/[T (1 - T)].
    The laws are Gaussian: they fail where a dark record holds a few events, and within the error of T = 0.
    """

    ledger: Ledger
    fringes: Fringes
    amplitude: jax.Array  # [n, n] sqrt T of the object, as the fringes see it
    phase: jax.Array  # [] rad, or [n, n]

    def _point(self):
        """q of the unknown quadratures [1 or 2, n, n], x and y."""
        x, y = self.amplitude * jnp.cos(self.phase), self.amplitude * jnp.sin(self.phase)
        return (x[None] if self.fringes.steps.shape[0] == 1 else jnp.stack([x, y])), x, y

    def _worth(self):
        _, x, y = self._point()
        return self.fringes.worth(x, y, self.fringes.slopes(x, y))

    def mean(self):
        return self.amplitude**2

    def variance(self):
        return self._variances()[0]

    def phase_variance(self):
        """Variance of the phase's estimate, rad^2, [n, n]: 0 if it is known, infinite where nothing passes."""
        return self._variances()[1]

    @eqx.filter_jit
    def _variances(self):
        q, sigma = self._point()[0], self._worth()[1]
        own = 4 * jnp.einsum("aij,abij,bij->ij", q, sigma, q) + 2 * jnp.einsum("abij,baij->ij", sigma, sigma)
        if q.shape[0] == 1:
            return own, jnp.zeros_like(own)
        phase = jnp.broadcast_to(self.phase, own.shape)
        across = jnp.stack([-jnp.sin(phase), jnp.cos(phase)])
        return own, jnp.einsum("aij,abij,bij->ij", across, sigma, across) / self.amplitude**2

    def covariance(self):
        """Superpixels are independent."""
        return sparse.diags([np.asarray(self.variance()).ravel()], [0], format="csr")

    def fourth(self, energy):
        """Poisson events, each worth 2 q^T Sigma C^-1 D; the fourth cumulant of their bunching is left out."""
        return float(np.sum(np.asarray(energy) ** 2 * np.asarray(self._fourth()).ravel()))

    @eqx.filter_jit
    def _fourth(self):
        (q, x, y), (tells, sigma) = self._point(), self._worth()
        jump = 2 * jnp.einsum("aij,abij,bkpij->kpij", q, sigma, tells)
        return jnp.sum(jump**4 * self.fringes.mean(x, y), axis=(0, 1))

    def load(self):
        return jnp.max(self.fringes.mean(*self._point()[1:])) / self.fringes.camera.saturation

    def records(self, exposures: int, *, key) -> np.ndarray:
        """Electrons [exposures, K, 2, n, n]: bunching by a normal law (many modes), Poisson events, read noise."""
        f, rng, kind = self.fringes, numpy_generator(key, "fringes"), self.amplitude.dtype
        light, own, shared = (np.asarray(a, float) for a in self._light())
        unit, dark = rng.normal(size=(2, exposures, *shared.shape)), float(f.ambient * f.time)
        first = np.sqrt(own[:, 0])
        tied = np.divide(shared, first, out=np.zeros_like(shared), where=first > 0)
        rest = np.sqrt(np.maximum(own[:, 1] - tied**2, 0))
        waves = np.stack([first * unit[0], tied * unit[0] + rest * unit[1]], axis=2)
        arriving = jnp.asarray(np.maximum(light + waves, 0) + dark, kind)
        events = rng.poisson(np.asarray(f.camera.mean(arriving, f.time), float))
        noise = np.asarray(recorded(f.camera, jnp.asarray(light + dark, kind), f.time)[1])
        return events + rng.normal(size=events.shape) * np.sqrt(noise)

    @eqx.filter_jit
    def _light(self):
        _, x, y = self._point()
        return jnp.maximum(self.fringes.light(x, y), 0), *self.fringes.bunching(x, y)

    def draw(self, exposures, *, key):
        records = self.records(exposures, key=key)
        found = fit(self.fringes, jnp.asarray(records, self.amplitude.dtype))[0]
        return Drawn(np.asarray(found), records.sum(axis=(1, 2)))

    def draw_phase(self, exposures: int, *, key) -> np.ndarray:
        """Estimates of the phase from the records of `draw`, rad, [exposures, n, n]."""
        return np.asarray(fit(self.fringes, jnp.asarray(self.records(exposures, key=key), self.amplitude.dtype))[1])


@eqx.filter_jit
def amplitude(bench: Bench):
    """<sqrt T>: amplitude transmission of the object that the fringes of a superpixel see, [n, n].

    A visible photon at y interferes by integral |psi(x, y)|^2 t(x) dx: it is the **amplitude** that is averaged over
    where its infrared partner may have met the sample. That is a normal law of FWHM sqrt(2 ln 2) f l/(pi w) (Fuenzalida
    et al., Quantum 6, 646 (2022), declared), widened by the diffraction spot of the longer of the two wavelengths. The
    object is taken as even within a superpixel, and as clear outside the field.
    """
    o, s, kind = bench.optics, bench.source, bench.object.dtype
    g = o.geometry(s)
    shrink, spread = g.partner("idler")
    longer = jnp.maximum(s.signal_wavelength, s.idler_wavelength())
    spread = jnp.hypot(spread, gaussian_width(longer, o.numerical_aperture, "curvature"))
    middle, partner = o.centres_of(s, g)
    edges = (jnp.arange(o.pixels + 1, dtype=kind) - o.pixels / 2) * o.pitch
    when, share = (jnp.asarray(a / 2, kind) for a in np.polynomial.legendre.leggauss(8))

    def along(axis: int):
        """[n, n]: probability that the partner of a visible photon on superpixel i met j."""
        place = middle[axis] + (1 - shrink) * (edges[:, None] - o.drift()[axis] * when[None] - partner[axis])
        u = (edges[None, :, None] - place[:, None, :]) / spread
        primitive = u * ndtr(u) + jnp.exp(-(u**2) / 2) / np.sqrt(2 * np.pi)
        return jnp.diff(-jnp.diff(primitive, axis=0), axis=1) @ share * spread / ((1 - shrink) * o.pitch)

    passes = bench.object > 0
    root = jnp.where(passes, jnp.sqrt(jnp.where(passes, bench.object, 1)), 0)
    return 1 - along(1) @ (1 - root) @ along(0).T


def thermal_background(wavelength, width, area, aperture, temperature):
    """2 c dl/l^4 A pi NA^2/(exp(h c/(l k T)) - 1): photons per second of a black scene on a detector (Planck's law).

    ``width`` dl of the filter, ``area`` A of the scene that the detector sees, both sides in m and m^2; T in K.
    """
    wave, temperature = number("wavelength", wavelength, positive), number("temperature", temperature, positive)
    seen = number("area", area, positive) * jnp.pi * number("aperture", aperture, efficiency) ** 2
    modes = 2 * LIGHT * number("width", width, positive) / wave**4 * seen
    return modes / jnp.expm1(PLANCK * LIGHT / (wave * BOLTZMANN * temperature))


class Undetected(AbstractProtocol):
    """Induced coherence on silicon cameras, against infrared cameras and the stimulated, classical version.

    ``phase_steps`` steps over half a turn (the second output shows the other half) share the photons of an exposure;
    amplitude and phase of the sample are unknown. One step: locked to the fringe, one output dark, which asks that the
    phase is known. Each output has a camera like ``bench.camera``; each crystal has the source's mean pump power, whose
    pulses give it the gain ``photons_per_mode``.

    Opponents: a laser of the signal's wavelength, ``laser_power`` on the sample, seen by the cameras ``cooled`` and
    ``uncooled`` (a superpixel on a pixel, and the scene's thermal background in the band of the source) or by an ideal
    one; and seeding the first of the two crystals, of gain ``stimulated_gain``, on the same silicon cameras (Cardoso et
    al., Phys. Rev. A 97, 033827 (2018); Shapiro, Venkatraman & Wong, Sci. Rep. 5, 10329 (2015)).
    """

    cooled: AbstractCamera
    uncooled: AbstractCamera
    visibility: jax.Array = param("", efficiency, "contrast of the fringes at low gain if all is transmitted")
    photons_per_mode: jax.Array = param("", positive, "pairs per mode N of each crystal alone")
    phase: jax.Array = param("rad", real, "phase of the sample, unknown to the scan")
    laser_power: jax.Array = param("W", positive, "infrared power on the sample of the classical versions")
    stimulated_gain: jax.Array = param("", positive, "N of the crystals of the stimulated version")
    temperature: jax.Array = param("K", positive, "temperature of the scene that the infrared cameras see")
    phase_steps: int = static("steps of the phase scan, 1: locked to the fringe", default=4)

    carried: ClassVar[tuple[str, ...]] = ("twin_beams",)
    limits: ClassVar[tuple[str, ...]] = (
        "Undetected photons: only light that the tissue did not scatter interferes; every mode has the same gain.",
        "Undetected photons: silicon sees no infrared; classical light on the same camera is the stimulated version.",
    )

    def check(self):
        whole("phase_steps", self.phase_steps, 1, 1000)
        for name in ("cooled", "uncooled"):
            if not isinstance(getattr(self, name), AbstractCamera):
                raise FieldError(name, f"got {type(getattr(self, name)).__name__}, accepted is a camera of frames")

    def arms(self):
        opponents = (
            Arm("stimulated, silicon camera", self.stimulated, False, kind="its stimulated version", spread="ghost"),
            *(
                Arm(f"coherent, {name} IR camera", partial(self.coherent, camera=camera), False, kind=kind)
                for name, camera, kind in (
                    ("cooled", self.cooled, "a cooled infrared camera"),
                    ("uncooled", self.uncooled, "an uncooled infrared camera"),
                    ("ideal", None, "an ideal infrared camera"),
                )
            ),
        )
        against = tuple(arm.name for arm in opponents)
        return (Arm("undetected photons", self.spontaneous, True, against, spread="ghost"), *opponents)

    def spontaneous(self, bench: Bench) -> FringeLaw:
        """Two pumps; pulses of the same mean power make N/r^2 times the pairs, N = sinh^2 r, so take less time."""
        n = self.photons_per_mode
        bench = _lasting(bench, bench.setting.time * jnp.arcsinh(jnp.sqrt(n)) ** 2 / n)
        law = self._law(bench, n, jnp.zeros_like(n))
        return eqx.tree_at(lambda made: made.ledger.pump, law, 2 * law.ledger.pump)

    def stimulated(self, bench: Bench) -> FringeLaw:
        """The energy is that of laser and pumps: N = sinh^2 r, r^2 in proportion to the pump power."""
        bench = self._lit(bench)
        law = self._law(bench, self.stimulated_gain, jnp.full_like(self.stimulated_gain, BRIGHT))
        power = bench.source.pump_power * jnp.arcsinh(jnp.sqrt(self.stimulated_gain)) ** 2 / bench.source.gain()
        laser = bench.laser(law.ledger.detected)
        return eqx.tree_at(lambda made: made.ledger, law, laser._replace(pump=laser.pump + 2 * power * laser.time))

    def coherent(self, bench: Bench, camera: AbstractCamera | None):
        """The same infrared light on a camera that sees it; None is the ideal one, which sees no thermal light."""
        bench, s, o = self._lit(bench), bench.source, bench.optics
        if camera is None:
            return direct.law(bench, None)
        scene = (s.signal_wavelength, s.bandwidth, o.pitch**2, o.numerical_aperture, self.temperature)
        warm = eqx.tree_at(lambda e: e.ambient, o, o.ambient + thermal_background(*scene))
        return direct.law(bench._replace(optics=warm), camera)

    def facts(self, bench):
        s, law = bench.source, self.spontaneous(bench)
        t = jnp.sqrt(law.fringes.between) * law.amplitude
        seen = self.visibility * induced_coherence_visibility(t, self.photons_per_mode)
        return {
            "fringe_visibility": (jnp.sum(seen * bench.idler) / jnp.sum(bench.idler), ""),
            "resolution": (resolution(bench.optics.focal_length, s.signal_wavelength, s.waist), "m"),
            "detected_wavelength": (s.idler_wavelength(), "m"),
            "phase_error": (jnp.sqrt(jnp.mean(law.phase_variance())), "rad"),
        }

    def _lit(self, bench: Bench) -> Bench:
        """An exposure as long as the laser needs for its photons."""
        energy = PLANCK * LIGHT / bench.source.signal_wavelength * bench.setting.incident
        return _lasting(bench, energy / self.laser_power)

    def _law(self, bench: Bench, gain, seed) -> FringeLaw:
        o, s, count = bench.optics, bench.setting, self.phase_steps
        steps = jnp.pi * jnp.arange(count, dtype=gain.dtype)[:, None, None] / count
        infrared = o.illumination_transmission * bench.tissue.ballistic() * o.collection_transmission
        light = (s.emitted * bench.idler / count, o.idler_transmission, infrared, gain, seed, self.visibility)
        fringes = Fringes(*light, steps, s.time / count, o.idler_ambient, bench.camera)
        phase = self.phase if count > 1 else jnp.zeros_like(self.phase)
        t = amplitude(bench)
        counted = jnp.sum(fringes.light(t * jnp.cos(phase), t * jnp.sin(phase)))
        return FringeLaw(bench.pairs(counted * response(bench.camera, s.time)), fringes, t, phase)


def _lasting(bench: Bench, time) -> Bench:
    return bench._replace(setting=bench.setting._replace(time=time))
