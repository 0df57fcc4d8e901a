"""Image from the joint probability distribution of pixel pairs: both photons of a pair cross the sample.

Position-correlated, as of Defienne, Reichert & Fleischer, Phys. Rev. Lett. 120, 203604 (2018): the crystal is imaged
onto the sample, where both photons meet at the same place but for the separation with which they are born. Binary
frames record them. A superpixel has side x side pixels; what fires two of them together more than chance is pairs:

    mu_ij = ln[1 + (<c_i c_j> - <c_i><c_j>)/((1 - <c_i>)(1 - <c_j>))], i != j, and T = sqrt(mu/mu_open),

mu the sum over the pixel pairs of a superpixel, weighted by how often a pair meets them and how noisy they are.

Photon for photon (derived): of N pairs (Poisson) N tau^2 are found, tau the probability of a photon to cross and be
detected, so Var T = T^2/(4 N tau^2), against T^2/(2 N tau) of coherent light of 2 N photons on the same detector. The
gain is 2 tau, and 1 - tau + tau^2/(1 - tau) with lone photons used: above 1 if tau > 1/2, never below. It takes frames
without accidentals and pairs that never share a pixel. Stray light, b photons per photon of the signal, costs coherent
light in as many frames 1 + b and the pairs nothing; a laser pulsed into few of the frames does not pay it either.
"""

from functools import partial
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.signal import convolve2d
from scipy import sparse

from qtwin.core.errors import FieldError, UserError
from qtwin.core.params import fraction, is_concrete, nonnegative, param, positive, static
from qtwin.core.random import numpy_generator
from qtwin.core.records import Estimate, Frames
from qtwin.detector.camera import AbstractCountingCamera
from qtwin.detector.frames import pair_law, photon_law
from qtwin.estimator import direct
from qtwin.estimator.linear import Calibration, LinearLaw, uncorrelated
from qtwin.estimator.protocol import AbstractLaw, AbstractProtocol, Arm, Bench, Drawn, Ledger
from qtwin.modes.checks import number, whole

DARKEST = 0.1  # transmission below which the square root is as steep as here
DUTIES = np.geomspace(1e-4, 1, 81)  # parts of the frames that a pulsed laser may use


def sparse_gain(found):
    """(2 tau, 1 - tau + tau^2/(1 - tau)): gain of pairs alone and with lone photons, as in the module's head.

    tau = ``found``, below 1. Fisher information of N tau^2 pairs and 2 N tau (1 - tau) lone photons. Elementwise.
    """
    found = number("found", found, fraction)
    return 2 * found, 1 - found + found**2 / (1 - found)


def covariance_slope(pairs):
    """exp(-2 mu) (exp(mu) - 1)/mu: part of mu = ``pairs`` per frame that <c_i c_j> - <c_i><c_j> shows; elementwise."""
    pairs = number("pairs", pairs, positive)
    return jnp.exp(-2 * pairs) * jnp.expm1(pairs) / pairs


def drawn_slope(pairs: float, couples: int, frames: int, of: str = "pairs", seed: int = 0) -> Estimate:
    """Pairs found, by the mu_ij or (``of``) the 'covariance', over the ``pairs`` of each of the couples, drawn."""
    if of not in ("pairs", "covariance"):
        raise UserError(f"of: got {of!r}, accepted are 'pairs' and 'covariance'")
    from qtwin.correlation.joint_distribution import joint_distribution  # numba: a second to import

    both = numpy_generator(jax.random.key(seed), "slope").poisson(pairs, (frames, 1, couples)) > 0
    i = np.arange(couples)
    image = getattr(joint_distribution([Frames(np.repeat(both, 2, axis=1))], rows=i), of)()
    value, error = image.value[i, 1, i].sum(), np.sqrt(np.sum(image.error[i, 1, i] ** 2))
    return Estimate(float(value / (pairs * couples)), float(error / (pairs * couples)))


def transmission(pairs, pairs_open):
    """T = sqrt(mu/mu_open), 0 below; too low by Var T/(2 T): average mu first where it is noisy. Elementwise."""
    return jnp.sqrt(jnp.maximum(pairs, 0) / pairs_open)


@partial(jax.jit, static_argnames="side")
def pair_shares(width, side: int):
    """kappa_ij: probability that a pair centred in the superpixel meets pixels i and j, [side^2, side^2].

    Separation of std ``width`` pixels per axis, normal. Sums to less than 1: some leave the superpixel.
    """
    along = jnp.mean(pair_law(width, side), axis=-1)
    return jnp.einsum("ik,jl->ijkl", along, along).reshape(side**2, side**2)


def neighbours(side: int) -> np.ndarray:
    """1 where two pixels of a superpixel share an edge, [side^2, side^2]."""
    row, column = np.divmod(np.arange(side**2), side)
    return (np.abs(row[:, None] - row) + np.abs(column[:, None] - column) == 1).astype(float)


class Moments(NamedTuple):
    """Var U, Cov(U, V) and Var V of U = sum_{i<j} w_ij mu_ij and V = mean_i m_i."""

    pairs: jax.Array
    both: jax.Array
    events: jax.Array


@jax.jit
def moments(weights, tables, rates, events) -> Moments:
    """Per frame, of estimates mu_ij and m_i = -ln(1 - <c_i>) from many frames: the delta method.

    Every pixel fires by events of mean M = ``events``, i and j by common ones of mean R_ij = sum_r ``rates``_r
    ``tables``_rij. A set A is silent with probability exp(-M |A| + sum_{i<j in A} R_ij), so that with a = exp(M) - 1
    the covariances of mu are, to second order in R,

        ij, ij: a^2 + (1 - 2 a - a^2) R_ij + (1 + exp(2M)/2) R_ij^2
        ij, il: (R_jl + R_jl^2/2) a - R_jl (R_ij + R_il)
        ij, kl: R_ik R_jl + R_il R_jk

    weights [m, m] and tables [r, m, m] symmetric, 0 for i = j; rates [r, ...]; events [...].
    """
    size = weights.shape[0]

    def once(x):
        return jnp.einsum("ij,rij,r...->...", x, tables, rates)

    def twice(q):
        return jnp.einsum("rs,r...,s...->...", q, rates, rates)

    def squares(x):
        return jnp.einsum("ij,rij,sij->rs", x, tables, tables)

    square, common, chain = weights**2, weights @ weights, weights @ tables
    met = jnp.einsum("ij,rij->ri", weights, tables)
    crossed = (jnp.einsum("rij,sji->rs", chain, chain) + squares(square)) / 2 - met @ met.T
    shared = jnp.einsum("rjl,sjl->rs", (weights[None] * tables) @ weights, tables)
    a, ones = jnp.expm1(events), jnp.ones_like(weights)
    alone = jnp.sum(square) * a**2 + once(square) * (1 - 2 * a - a**2) + twice(squares(square)) * (1 + (1 + a) ** 2 / 2)
    pairs = alone / 2 + a * (once(common) + twice(squares(common)) / 2) + twice(crossed - 2 * shared)
    both = once(weights) + twice(squares(weights) - jnp.einsum("ij,rik,skj->rs", weights, tables, tables)) / 2
    return Moments(pairs, both / size, (size * a + once(ones) + twice(squares(ones)) / 2) / size**2)


def pair_weights(shares, chance, noise):
    """w_ij ~ s_ij/(a^2 + n_ij): ``shares`` of the pairs, ``chance`` events of a pixel, ``noise`` common events.

    With sum_{i<j} w_ij s_ij = 1, so that U estimates all pairs that meet two pixels.
    """
    raw = shares / (chance**2 + noise)
    return raw / (jnp.sum(raw * shares) / 2)


def read(frames: Frames, weights) -> tuple[float, float]:
    """(U, V) of `moments` from binary frames of one superpixel."""
    from qtwin.correlation.joint_distribution import joint_distribution  # numba: a second to import

    found = joint_distribution([frames])
    mu = found.pairs().value.reshape(found.mean.size, -1)
    return float(np.sum(np.asarray(weights) * mu) / 2), float(-np.log1p(-found.mean).mean())


def binary_frames(count: int, shares, pairs, photons, efficiency, dark, crosstalk, *, key) -> Frames:
    """``count`` frames of one superpixel, photon by photon: what `moments` is the law of, to first order in crosstalk.

    pairs per frame, of which ``shares`` (`pair_shares`) bring both photons; mean photons on every pixel, theirs
    included; dark events per pixel and frame; probability that a click fires one neighbour by crosstalk.
    """
    rng, shares = numpy_generator(key, "binary frames"), np.asarray(shares, float)
    size, side, lone = len(shares), round(len(shares) ** 0.5), photons - 2 * pairs * shares.sum(axis=1)
    if lone.min() < -1e-12:
        raise UserError(f"photons: got {photons:g} on a pixel, its pairs alone bring {photons - lone.min():g}")
    events = rng.poisson(efficiency * np.maximum(lone, 0) + dark, (count, size))
    both = np.repeat(np.arange(size**2), rng.poisson(pairs * shares.ravel() * count))
    frame = rng.integers(0, count, len(both))
    for pixel in np.divmod(both, size):
        seen = rng.random(len(both)) < efficiency
        np.add.at(events, (frame[seen], pixel[seen]), 1)
    around = rng.random((count, side + 2, side + 2)) < -np.expm1(-efficiency * photons - dark)
    around[:, 1:-1, 1:-1] = events.reshape(count, side, side) > 0
    clicks = around[:, 1:-1, 1:-1].copy()
    for source in (around[:, :-2, 1:-1], around[:, 2:, 1:-1], around[:, 1:-1, :-2], around[:, 1:-1, 2:]):
        clicks |= source & (rng.random(source.shape) < crosstalk)
    return Frames(clicks)


class PairLaw(AbstractLaw):
    """T = <T> + slopes . (U - <U>, V - <V>): pairs and events of a superpixel, from all frames of an exposure.

    Drawn as Poisson numbers of pairs, each of which adds ``jumps``, and normal noise for the rest of the covariance:
    accidentals, lone photons and dark counts, which are many wherever they matter.
    """

    ledger: Ledger
    expected: jax.Array  # [n, n]
    slopes: tuple[jax.Array, jax.Array]  # dT/dU, dT/dV
    noise: Moments
    found: jax.Array  # [n, n] mean number of pairs
    jumps: tuple[jax.Array, ...]  # of U and V
    clicks: jax.Array  # [n, n] mean
    steep: jax.Array  # [n, n] clicks per V

    def mean(self):
        return self.expected

    def variance(self):
        (u, v), noise = self.slopes, self.noise
        return u**2 * noise.pairs + 2 * u * v * noise.both + v**2 * noise.events

    def covariance(self):
        """Diagonal: pairs across a border join two superpixels only to second order in R."""
        return sparse.diags([np.asarray(self.variance()).ravel()], [0], format="csr")

    def fourth(self, energy):
        jump = np.asarray(self.slopes[0] * self.jumps[0] + self.slopes[1] * self.jumps[1]).ravel()
        return float(np.sum(energy**2 * jump**4 * np.asarray(self.found).ravel()))

    def draw(self, exposures, *, key):
        found, one, other, *noise = (np.asarray(a, float) for a in (self.found, *self.jumps, *self.noise))
        more = numpy_generator(key, "pairs").poisson(found, (exposures, *found.shape)) - found
        normal = numpy_generator(key, "events").normal(size=(2, *more.shape))
        spread = np.sqrt(np.maximum(noise[0] - found * one**2, 1e-300))
        lean = (noise[1] - found * one * other) / spread
        rest = np.sqrt(np.maximum(noise[2] - found * other**2 - lean**2, 0))
        u, v = one * more + spread * normal[0], other * more + lean * normal[0] + rest * normal[1]
        estimates = np.asarray(self.expected) + np.asarray(self.slopes[0]) * u + np.asarray(self.slopes[1]) * v
        return Drawn(estimates, np.asarray(self.clicks) + np.asarray(self.steep) * v)


class _Light(NamedTuple):
    """One frame of an exposure; events per pixel, before crosstalk."""

    frames: jax.Array  # number of them
    time: jax.Array  # s, of all
    efficiency: jax.Array  # of a photon behind the sample
    stray: jax.Array  # events by ambient light
    own: jax.Array  # events without the source
    seen: jax.Array  # [n, n] by light through the object
    clear: jax.Array  # [n, n] and through a clear one


class _Pairs(NamedTuple):
    """Pairs per frame that are detected on two pixels of a superpixel, and how they are read."""

    found: jax.Array  # [n, n]
    found_open: jax.Array
    same: jax.Array  # pairs on one pixel over those on two, []
    apart: jax.Array  # part of all pairs that meets two pixels of a superpixel, []
    tables: jax.Array  # [2, m, m] shares of the pairs that meet two pixels, and neighbours
    weights: jax.Array  # [m, m]


class JointProbability(AbstractProtocol):
    """Near-field pairs, both through the sample, in binary frames.

    The light on the sample is that of the bench, twice: the photons of a pair are of one wavelength. A superpixel is
    divided into ``side`` x ``side`` pixels of the counting camera, or of an array whose pixels share the dark counts of
    the bench's single-photon device. Known to both sides: efficiencies, dark counts, crosstalk and the mean of ambient
    light; its deviation differs from superpixel to superpixel and from exposure to exposure.
    """

    magnification: jax.Array = param("", positive, "of the crystal on the sample", 2.0)
    occupancy: jax.Array = param("", positive, "mean events of light per pixel and frame, clear object", 0.001)
    crosstalk: jax.Array = param("", fraction, "probability that a click fires a neighbouring pixel", 0.0)
    ambient_spread: jax.Array = param("", nonnegative, "std of ambient light about its mean, over that", 0.0)
    frame_rate: jax.Array = param("Hz", positive, "binary frames per second of the array", 1e5)
    side: int = static("pixels along a side of a superpixel", default=8)
    recorder: str = static("'detector', an array of the single-photon device, or 'camera'", default="detector")

    carried: ClassVar[tuple[str, ...]] = ("twin_beams",)
    limits: ClassVar[tuple[str, ...]] = (
        "Joint probability: pixels of a superpixel are lit alike; a pair counts if the tissue moved neither photon.",
        f"Joint probability: the root is taken along its tangent at the mean of all exposures, at {DARKEST} if darker.",
    )

    def check(self):
        whole("side", self.side, 2, 16)
        if self.recorder not in ("detector", "camera"):
            raise FieldError("recorder", f"got {self.recorder!r}, accepted are 'detector' and 'camera'")

    def arms(self):
        steady = partial(self.coherent, duty=1.0)
        others = (
            Arm("coherent, binary frames", steady, False, kind="coherent light in these frames"),
            Arm("coherent, pulsed frames", self.pulsed, False, kind="coherent light in the best of these frames"),
            Arm("coherent, ideal in their time", self.ideal, False, kind="an ideal detector"),
        )
        against, name = tuple(arm.name for arm in others), "joint probability"
        pairs = Arm(name, partial(self.law, singles=False), True, against, spread="pairs", draws=name)
        return pairs, Arm(f"{name} and singles", partial(self.law, singles=True), True, against, draws=name), *others

    def facts(self, bench):
        """Frames; part of the pairs that two pixels of their superpixel see if nothing is lost; CAR, clear object."""
        light = self._light(bench, 2)
        pairs, chance = self._pairs(bench, light), (jnp.mean(light.clear) + light.own) ** 2
        car = 1 + jnp.mean(pairs.found_open) / (chance * jnp.sum(pairs.weights) / 2)
        return {"frames": (light.frames, ""), "pairs_on_two_pixels": (pairs.apart, ""), "car": (car, "")}

    def _light(self, bench: Bench, beams: int) -> _Light:
        """``beams`` 2: both photons of pairs; 1: a laser, as bright as the two together."""
        optics, setting, size, camera = bench.optics, bench.setting, self.side**2, bench.camera
        counts = camera if self.recorder == "camera" else None
        if counts is not None and not isinstance(counts, AbstractCountingCamera):
            raise UserError(f"recorder: the camera, a {type(camera).__name__}, counts no photons; accepted is an EMCCD")
        efficiency = counts.detection_efficiency() if counts is not None else bench.detector.efficiency
        total = efficiency * optics.collection_transmission * beams * setting.incident / size
        frames = total * jnp.mean(bench.images.direct_open) / self.occupancy
        rate = counts.frame_rate if counts is not None else self.frame_rate
        time = jnp.maximum(setting.time * (beams / 2), frames / rate)
        each = time / frames
        own = -jnp.log1p(-counts.false_positive(each)) if counts is not None else bench.detector.dark_rate * each / size
        stray = efficiency * optics.ambient * each / size
        seen, clear = (total / frames * image for image in (bench.images.direct, bench.images.direct_open))
        return _Light(frames, time, efficiency * optics.collection_transmission, stray, stray + own, seen, clear)

    def _pairs(self, bench: Bench, light: _Light) -> _Pairs:
        """Pairs I T^2 on the sample, blurred by s^2, s the point spread of one photon: both must go the same way.

        What s leaves in a superpixel, without what the lens takes out (`pair_shares` knows better), the tissue let be.
        """
        images, optics, source = bench.images, bench.optics, bench.source
        waves = source.pump_wavelength, source.signal_wavelength
        if all(map(is_concrete, waves)) and abs(float(waves[1]) / (2 * float(waves[0])) - 1) > 1e-6:
            given = f"got {float(waves[1]) * 1e9:.6g} nm, accepted is twice the pump's: photons alike"
            raise FieldError("source.signal_wavelength", given)
        blur, pixels = optics.blur(source), self.side / optics.pitch
        born = self.magnification * source.biphoton().separation_width()
        shares = pair_shares(jnp.hypot(born, 2**0.5 * blur) * pixels, self.side)
        apart = shares * (1 - jnp.eye(len(shares), dtype=shares.dtype))
        part = jnp.sum(apart)
        tables = jnp.stack([2 * apart / part, jnp.asarray(neighbours(self.side), shares.dtype)])

        reach = images.spread_direct.shape[0] // 2
        own = photon_law(2 * blur / optics.pitch, 1)[0, 0] ** 2
        left = jnp.minimum(images.spread_direct[reach, reach] / own, images.accepted)
        pairs = bench.setting.incident * optics.illumination_transmission * (light.efficiency * left) ** 2
        lit = jnp.pad(images.direct_open / images.accepted, reach, mode="edge")
        square = jnp.pad(bench.object**2, reach, constant_values=1.0)  # clear outside the field
        kernel = images.spread_direct**2 / jnp.sum(images.spread_direct**2)
        each = part * pairs / light.frames
        found, found_open = (each * convolve2d(on, kernel, mode="valid") for on in (lit * square, lit))
        events = jnp.mean(light.clear) + light.own
        noise = jnp.mean(found_open) * tables[0] + 2 * self.crosstalk * events * tables[1]
        weights = pair_weights(tables[0], jnp.expm1(events), noise)
        return _Pairs(found, found_open, jnp.trace(shares) / part, part, tables, weights)

    def law(self, bench: Bench, singles: bool) -> PairLaw:
        """Pairs alone, or with the mean events of the superpixel in the linear combination of least variance.

        What crosstalk adds to U is known to be xi V, and subtracted: U is what is left.
        """
        light, more, size = self._light(bench, 2), 1 + 4 * self.crosstalk, self.side**2
        found, found_open, same, _, tables, weights = self._pairs(bench, light)
        before = light.seen - same * found / size + light.own
        events = more * before
        xi = 2 * self.crosstalk / more * jnp.sum(weights * tables[1]) / 2
        rates = jnp.stack([found, 2 * self.crosstalk * before])
        uu, uv, vv = (a / light.frames for a in moments(weights, tables, rates, events))
        vague = (self.ambient_spread * more * light.stray) ** 2
        noise = Moments(uu - 2 * xi * uv + xi**2 * vv, uv - xi * vv, vv + vague)

        sharp = jnp.sqrt(jnp.maximum(found / found_open, 1e-12))
        image, slopes = sharp, (0.5 / (found_open * jnp.maximum(sharp, DARKEST)), jnp.zeros_like(sharp))
        if singles:
            by_pairs = 2 * found_open * sharp
            by_events = more * (light.clear - same / size * by_pairs)
            best = noise.events * by_pairs - noise.both * by_events, noise.pairs * by_events - noise.both * by_pairs
            scale = best[0] * by_pairs + best[1] * by_events
            slopes = best[0] / scale, best[1] / scale
            image = slopes[0] * by_pairs * sharp + slopes[1] * by_events * light.seen / light.clear
        step = jnp.sum(weights**2 * tables[0]) / 2  # of U by a pair found: as noisy as if all gave the same
        add = 2 * more / size
        jumps = tuple(jnp.broadcast_to(jump / light.frames, found.shape) for jump in (step - xi * add, add))
        area, silent = light.frames * size, jnp.exp(-events)
        ledger = bench.pairs(jnp.sum(area * (jnp.exp(-more * light.own) - silent)), 2.0)._replace(time=light.time)
        mean = light.frames * found / step
        return PairLaw(ledger, image, slopes, noise, mean, jumps, area * (1 - silent), area * silent)

    def coherent(self, bench: Bench, duty) -> LinearLaw:
        """T = (V - background)/gain of Poisson light in the part ``duty`` of the frames.

        The others tell what is not known of the background. Crosstalk, which would only repeat counts, is left out.
        """
        light = self._light(bench, 1)
        area, events = light.frames * duty * self.side**2, light.seen / duty + light.own
        noise = area * (jnp.expm1(events) - events) + area**2 * self._vague(light, duty)
        records, nothing = uncorrelated(area * events)._replace(noise_x=noise), jnp.zeros_like(events)
        calibration = Calibration(area * light.own + nothing, nothing, area * light.clear / duty, nothing)
        detected = jnp.sum(area * (jnp.exp(-light.own) - jnp.exp(-events)))
        return LinearLaw(bench.laser(detected)._replace(time=light.time), records, calibration)

    def _vague(self, light: _Light, duty):
        """Variance of what is known of the background of a pixel: beforehand, and from the frames not used."""
        before, watched = (self.ambient_spread * light.stray) ** 2, jnp.expm1(light.own)
        both = watched + before * light.frames * (1 - duty) * self.side**2
        return before * watched / jnp.where(both > 0, both, 1.0)

    def pulsed(self, bench: Bench) -> LinearLaw:
        """`coherent` in the part of the frames, one or more, that is best for the mean clear superpixel."""
        light, duty = self._light(bench, 1), jnp.asarray(DUTIES, self.occupancy.dtype)
        events = jnp.mean(light.clear) / duty + light.own
        variance = duty**2 * (jnp.expm1(events) / (light.frames * duty * self.side**2) + self._vague(light, duty))
        allowed = (duty * light.frames >= 1) | (duty == 1)
        return self.coherent(bench, duty[jnp.argmin(jnp.where(allowed, variance, jnp.inf))])

    def ideal(self, bench: Bench) -> LinearLaw:
        """Every accepted photon counts, and of all else only ambient light, in the time of all frames."""
        time = self._light(bench, 1).time
        records, cal = direct.expect(bench.images, bench.setting._replace(time=time), bench.optics, None)
        records = records._replace(noise_x=records.noise_x + (self.ambient_spread * cal.background) ** 2)
        return LinearLaw(bench.laser(jnp.sum(records.x - cal.background))._replace(time=time), records, cal)
