"""Ghost image in pseudothermal light or known random patterns: frames of speckle, a bucket, and what lit the object.

Covariance, differential (Ferri et al., Phys. Rev. Lett. 104, 253603 (2010)) and normalised (Sun et al., Opt. Express
20, 16892 (2012)) estimators; computational: Shapiro, Phys. Rev. A 78, 061802 (2008). All quoted from memory.
"""

from functools import partial
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import FieldError, UserError
from qtwin.core.params import index, param, positive, static
from qtwin.core.random import numpy_generator
from qtwin.detector import SinglePhoton
from qtwin.detector.camera import AbstractCamera
from qtwin.estimator import direct
from qtwin.estimator.bucket import HADAMARD, SCANNED, arriving, background, spread_evenly, steered
from qtwin.estimator.protocol import AbstractLaw, AbstractProtocol, Arm, Bench, Drawn, Ledger
from qtwin.estimator.response import beyond_poisson, response

CHUNK = 2**19  # numbers of one array of frames that are in memory together


def cnr(frames, speckles, modes=1.0):
    """CNR = (G_in - G_out)/sqrt(var_in + var_out) = sqrt(K/(2 n + 1 + 6/M)): covariance image of an open area.

    K frames, n speckles of M modes, no shot noise; sqrt(K/(2 n + 7)) for fully developed speckle (Gaussian moment
    theorem: the cumulants of an intensity are <I>^j (j - 1)!/M^(j - 1)). To first order in 1/K; elementwise.
    """
    return jnp.sqrt(frames / (2 * speckles + 1 + 6 / modes))


def differential_gain(transmission):
    """sqrt(sum t^2/sum (t - <t>)^2): SNR of the differential over the covariance image; all illuminated speckles.

    Where the noise is that of the other speckles (Ferri et al. (2010), as quoted in PHYSICS.md).
    """
    return jnp.sqrt(jnp.sum(transmission**2) / jnp.sum((transmission - jnp.mean(transmission)) ** 2))


class Frame(NamedTuple):
    """Mean photons of one frame that arrive at the detectors."""

    bucket: jax.Array  # [n, n] through each superpixel
    clear: jax.Array  # [n, n] the same without object
    beside: jax.Array  # [] past the field of the superpixels
    speckles: jax.Array  # [] over which that is spread
    stray: jax.Array  # [] background
    reference: jax.Array  # [n, n] at the camera
    stray_reference: jax.Array  # []


class Cumulants(NamedTuple):
    """Of one frame's X = B - k A and R_a; B bucket clicks, R_a reference, A = sum_a (b_a/r_a) R_a, k = <B>/<A>."""

    counts: jax.Array  # [] mean clicks of the bucket
    gain: jax.Array  # [n, n] v b_a r_a: covariance with the bucket of a clear superpixel, b_a its clicks
    weight: jax.Array  # [n, n] b_a/r_a
    open: jax.Array  # [] <A>, clicks of a clear field
    k: jax.Array  # [] mean transmission, 0 for the covariance image
    noise: jax.Array  # [n, n] variance of R_a beyond speckle
    bucket: jax.Array  # [] kappa(X, X)
    speckle: jax.Array  # [] what speckles contribute to it
    reference: jax.Array  # [n, n] kappa(R, R)
    both: jax.Array  # [n, n] kappa(X, R)
    fourth: jax.Array  # [n, n] kappa(X, X, R, R)
    kurtosis: jax.Array  # [n, n] kappa_4(R)/kappa(R, R)^2


@jax.jit
def _clicks(device: SinglePhoton, photons, time):
    """Mean clicks of ``photons`` in ``time`` s, and their variance beyond Poisson's; elementwise."""
    return device.events(photons, time) * device.live(photons, time), beyond_poisson(device, photons, time)


class FramesLaw(AbstractLaw):
    """T_a = S(B, R_a)/g_a - k (S(A, R_a)/g_a - 1 - q_a): S the covariance over K frames, g_a that of a clear one.

    Covariance image: k = 0. Differential: k = (<B> - background)/<A>, A the reference's own bucket, q_a = noise of
    R_a/its speckle, so that what is subtracted has no mean. Normalised: the covariance of B/A takes the place of
    S(B) - k S(A), which it equals but for terms of 1/n^2; its law is that of the differential one.

    Intensities of superpixels are independent; given them B is Poisson, and R_a has the camera's variance. Hence
    Cov(T_a, T_b) g_a g_b = delta_ab kappa(X, X, R_a, R_a)/K + [delta_ab kappa(X, X) kappa(R_a, R_a) + kappa(X, R_a)
    kappa(X, R_b)]/(K - 1) with the cumulants kappa of X = B - k A: exact for k = 0; else without the error of k, which
    is of second order, and without what the noise of R_a adds to the fourth cumulant through A.
    """

    ledger: Ledger
    frame: Frame
    time: jax.Array  # s, of a frame
    detector: SinglePhoton
    camera: AbstractCamera | None  # of the reference; None: random patterns, known, on or off with equal chance
    modes: jax.Array  # of thermal light per superpixel and frame
    frames: int = eqx.field(static=True)
    estimator: str = eqx.field(static=True)  # covariance, differential, normalised

    def intensity(self):
        """Variance, third and fourth cumulant of one superpixel's u, <u> = 1: gamma law of M modes, or 0 and 2."""
        m = self.modes
        return (1 / m, 2 / m**2, 6 / m**3) if self.camera else (m**0, 0 * m, -2 * m**0)

    def cumulants(self) -> Cumulants:
        """Law of total cumulance over the intensities; only what happens in one superpixel has a fourth cumulant."""
        f, (v, third, fourth) = self.frame, self.intensity()
        light = jnp.sum(f.bucket) + f.beside + f.stray
        (counts, more), (slope, _) = jax.jvp(lambda w: _clicks(self.detector, w, self.time), (light,), (light**0,))
        b, clear = slope * f.bucket, slope * f.clear
        r, noise, shot = jnp.ones_like(b), jnp.zeros_like(b), jnp.zeros_like(b)
        if self.camera:
            stray = jnp.broadcast_to(f.stray_reference, b.shape)
            r = response(self.camera, self.time) * f.reference
            noise = self.camera.variance(f.reference + stray, self.time)
            shot = noise - self.camera.variance(stray, self.time)  # part of it that follows u
        k = 0 * v if self.estimator == "covariance" else jnp.sum(b) / jnp.sum(clear)
        lit = r > 0
        weight, excess = jnp.where(lit, clear / jnp.where(lit, r, 1), 0), b - k * clear
        speckle = v * jnp.sum(excess**2) + v / f.speckles * (slope * f.beside) ** 2
        x = speckle + counts + more + k**2 * jnp.sum(weight**2 * noise)
        return Cumulants(
            counts,
            v * clear * r,
            weight,
            jnp.sum(clear),
            k,
            noise,
            x,
            speckle,
            v * r**2 + noise,
            v * r * excess - k * weight * noise,
            fourth * (excess * r) ** 2 + third * (b * r**2 + shot * excess**2) + v * b * shot,
            (fourth * r**4 + 6 * third * r**2 * shot + 3 * v * shot**2) / (v * r**2 + noise) ** 2,
        )

    def mean(self):
        return self.frame.bucket / self.frame.clear

    def variance(self):
        c = self.cumulants()
        return (c.fourth / self.frames + (c.bucket * c.reference + c.both**2) / (self.frames - 1)) / c.gain**2

    def covariance(self):
        c = self.cumulants()
        common = np.asarray(c.both / c.gain).ravel()
        matrix = np.outer(common, common) / (self.frames - 1)
        np.fill_diagonal(matrix, np.asarray(self.variance()).ravel())
        return matrix

    def fourth(self, energy):
        """sum_ab e_a e_b kappa(T_a, T_a, T_b, T_b) to leading order: all superpixels share the bucket's K numbers.

        [2 (sum_a e_a V_a)^2 + sum_a (e_a V_a)^2 (4 + 3 kurtosis R_a)]/K, X taken as normal and independent of R_a.
        """
        shares = energy * np.asarray(self.variance()).ravel()
        own = 4 + 3 * np.asarray(self.cumulants().kurtosis).ravel()
        return float(2 * np.sum(shares) ** 2 + np.sum(shares**2 * own)) / self.frames

    def draw(self, exposures, *, key):
        """Speckle by speckle and frame by frame, in chunks; small fields many exposures at a time."""
        rng = numpy_generator(key, "frames")
        known = jax.tree.map(np.asarray, self.cumulants())
        size = max(1, CHUNK // (self.frames * known.gain.size))
        parts = [self._drawn(known, min(size, exposures - i), rng) for i in range(0, exposures, size)]
        images, totals = (np.concatenate(part) for part in zip(*parts, strict=True))
        shape = self.frame.bucket.shape
        return Drawn(images.reshape(exposures, *shape), spread_evenly(totals, shape))

    def _drawn(self, known: Cumulants, exposures: int, rng: np.random.Generator):
        """Images [exposures, n^2] and clicks of the bucket [exposures]."""
        gain, noise, weight = known.gain.ravel(), known.noise.ravel(), known.weight.ravel()
        speckle = known.reference.ravel() - noise
        middle, clear = np.sqrt(speckle / float(self.intensity()[0])), float(known.open)
        dark = float(known.counts - known.open * np.mean(self.frame.bucket) / np.mean(self.frame.clear))
        total, sums = np.zeros(exposures), np.zeros((exposures, 2, 1))
        means, products = np.zeros((exposures, 1, gain.size)), np.zeros((exposures, 2, gain.size))
        step = max(1, CHUNK // (exposures * gain.size))
        for first in range(0, self.frames, step):
            bucket, seen = self._frames((exposures, min(step, self.frames - first)), rng)
            x, own = bucket - dark, seen @ weight
            if self.estimator == "normalised":
                if not np.all(own > 0):
                    raise UserError("reference_photons: a frame has no light to divide by, accepted are more of them")
                x = x / own * clear
            pair, seen = np.stack([x, own], axis=1) - clear, seen - middle
            total = total + bucket.sum(axis=1)
            sums += pair.sum(axis=2, keepdims=True)
            means += seen.sum(axis=1, keepdims=True)
            products += pair @ seen
        covariance = (products - sums * means / self.frames) / ((self.frames - 1) * gain)
        if self.estimator == "covariance":
            return covariance[:, 0], total
        k = (total[:, None] / self.frames - dark) / clear
        if self.estimator == "differential":
            return covariance[:, 0] - k * (covariance[:, 1] - 1 - noise / speckle), total
        spread = np.sum(weight**2 * known.reference.ravel()) / clear**2  # Var A/<A>^2
        return covariance[:, 0] * (1 + spread) + k * (1 + noise / speckle), total

    def _frames(self, shape: tuple[int, int], rng: np.random.Generator):
        """Bucket clicks [exposures, frames] and the reference above its background [exposures, frames, n^2]."""
        f = jax.tree.map(np.asarray, self.frame)
        field = f.bucket.shape
        light = np.full(shape, float(f.stray))
        if self.camera:
            m, beside = float(self.modes), float(self.modes * f.speckles)
            u = rng.standard_gamma(m, (*shape, *field)) / m
            light = light + float(f.beside) * rng.standard_gamma(beside, shape) / beside
            eta = self.camera.efficiency  # Poisson light thinned by it is Poisson light: only photons that count
            counting = eqx.tree_at(lambda c: c.efficiency, self.camera, jnp.ones_like(eta))
            photons = rng.poisson(float(eta) * (f.reference * u + f.stray_reference))
            background = float(self.camera.mean(jnp.asarray(f.stray_reference), self.time))
            seen = counting.sample(photons, float(self.time), rng=rng) - background
        else:
            seen = u = rng.integers(0, 2, (*shape, *field)).astype(float) * 2
        arrived = jnp.asarray(light + u.reshape(*shape, -1) @ f.bucket.ravel(), self.time.dtype)
        mean, more = (np.asarray(a) for a in _clicks(self.detector, arrived, self.time))
        return rng.poisson(mean) + np.sqrt(more) * rng.normal(size=shape), seen.reshape(*shape, -1)

    def load(self):
        """Of the brightest speckle that ever comes: 1 + 20/sqrt M times the mean (e^-21 of one mode are brighter)."""
        if self.camera is None:
            return jnp.zeros_like(self.time)
        brightest = (1 + 20 / jnp.sqrt(self.modes)) * jnp.max(self.frame.reference) + self.frame.stray_reference
        return self.camera.mean(brightest, self.time) / self.camera.saturation


def thermal(bench: Bench, protocol: "ThermalGhost", estimator: str) -> FramesLaw:
    """Law of one exposure in pseudothermal light, split in two before the sample; its beam is as wide as the pairs'.

    What falls past the field goes through clear sample into the bucket too, in speckles as large: sum_a p_a^2 over all
    superpixels of the plane, p_a the beam's part in one, is pitch^2/(4 pi std^2) for a beam of that std, averaged over
    superpixels (pitch^2/12 more).
    """
    optics, images, frames = bench.optics, bench.images, protocol.frames
    time, rest = bench.setting.time / frames, jnp.maximum(1 - jnp.sum(bench.idler), 1e-9)
    spread = optics.beam_widths(bench.source)[1] ** 2 + optics.pitch**2 / 12
    square = optics.pitch**2 / (4 * jnp.pi * spread) - jnp.sum(bench.idler**2)
    sent = protocol.reference_photons * bench.setting.emitted * optics.idler_transmission
    frame = Frame(
        arriving(bench, images.ghost) / frames,
        arriving(bench, images.ghost_open) / frames,
        arriving(bench, jnp.maximum(images.accepted - jnp.sum(images.ghost_open), 0)) / frames,
        1 / jnp.clip(square / rest**2, 1e-9, 1),
        background(bench) * time,
        sent * bench.idler / frames,
        optics.idler_ambient * time,
    )
    ledger = bench.laser(frames * counted(bench.detector, frame, time))
    ledger = ledger._replace(pump=ledger.pump * (1 + protocol.reference_photons))
    return FramesLaw(ledger, frame, time, bench.detector, bench.camera, protocol.modes, frames, estimator)


def computational(bench: Bench, protocol: "ThermalGhost") -> FramesLaw:
    """Law of one exposure in random binary patterns of coherent light on the field, differential estimator.

    The patterns are known: no reference arm, and none of its noise.
    """
    frames, images, nothing = protocol.frames, bench.images, jnp.zeros_like(bench.setting.time)
    time, known = bench.setting.time / frames, jnp.ones_like(bench.idler)
    ours = arriving(bench, images.ghost) / frames, arriving(bench, images.ghost_open) / frames
    frame = Frame(*ours, nothing, nothing + 1, background(bench) * time, known, nothing)
    ledger = steered(bench, frames * counted(bench.detector, frame, time))
    return FramesLaw(ledger, frame, time, bench.detector, None, protocol.modes, frames, "differential")


def counted(device: SinglePhoton, frame: Frame, time):
    """Clicks of the bucket in a frame that are due to light from the sample, []."""
    light = jnp.sum(frame.bucket) + frame.beside
    return device.efficiency * light * device.live(light + frame.stray, time)


class ThermalGhost(AbstractProtocol):
    """Speckle patterns on the object, a bucket behind it; one superpixel is one speckle."""

    modes: jax.Array = param("", index, "modes of the light per superpixel and frame", 1.0)
    reference_photons: jax.Array = param("", positive, "photons in the reference arm per photon on the sample", 100.0)
    frames: int = static("frames of one exposure, which share its photons", default=2000)

    limits: ClassVar[tuple[str, ...]] = (
        "Thermal and computational ghost images: a superpixel is one speckle, independent of its neighbours; the noise "
        "of speckles falls with frames, not with the photons of a frame, so equal budgets mean more exposures.",
        "Ghost images from random patterns are covariances: the patterns are not inverted, for either side.",
        "The bucket of frames answers in proportion to small changes of its light; dead time does not steady it.",
    )

    def check(self):
        if not isinstance(self.frames, int) or isinstance(self.frames, bool) or not 2 <= self.frames <= 10_000_000:
            raise FieldError("frames", f"got {self.frames!r}, accepted is a whole number from 2 to 10000000")

    def arms(self):
        against = direct.CAMERA.name, direct.IDEAL_CAMERA.name, SCANNED.name, HADAMARD.name
        ours = [
            Arm(
                f"thermal ghost, {name}",
                partial(thermal, protocol=self, estimator=name),
                False,
                against,
                spread="ghost",
                draws="thermal ghost",
            )
            for name in ("covariance", "normalised", "differential")
        ]
        known = Arm(
            "computational ghost, random", partial(computational, protocol=self), False, against, spread="ghost"
        )
        return (*ours, known, direct.CAMERA, direct.IDEAL_CAMERA, SCANNED, HADAMARD)

    def facts(self, bench):
        law = thermal(bench, self, "covariance")
        c = law.cumulants()
        return {
            "bucket_clicks_per_frame": (c.counts, ""),
            "reference_electrons_per_frame": (jnp.mean(response(bench.camera, law.time) * law.frame.reference), ""),
            "speckle_part_of_bucket_noise": (c.speckle / c.bucket, ""),
        }
