"""Time-stamping camera: an image intensifier before a Timepix3 chip, whose every pixel stamps its own time."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf, gammaln
from scipy import special
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from qtwin.core.errors import FieldError, UserError
from qtwin.core.params import Element, is_concrete, nonnegative, param, positive, static
from qtwin.core.params import efficiency as efficient
from qtwin.detector.single_photon import FWHM
from qtwin.modes.checks import number, whole

REACH = 5  # pixels from the centre of a flash that may see it
TOGETHER = 16384  # flashes drawn at once


class Response(NamedTuple):
    """What the chip makes of one photoelectron."""

    recorded: jax.Array  # probability that a pixel records it
    hits: jax.Array  # mean pixels that do
    tot: jax.Array  # s, mean time over threshold of a hit
    time_spread: jax.Array  # s, std of the photon's time
    position_spread: jax.Array  # m, std of the photon's position per axis


class Hits(NamedTuple):
    """Pixels over threshold, in order of time."""

    x: np.ndarray  # int16, column
    y: np.ndarray  # int16, row
    toa: np.ndarray  # int64 ps
    tot: np.ndarray  # int64 ps


class Photons(NamedTuple):
    """Photons found in hits, in order of time."""

    times: np.ndarray  # int64 ps
    positions: np.ndarray  # [count, 2] m from the centre of the sensor, (x, y)
    hits: np.ndarray  # pixels of each
    tot: np.ndarray  # int64 ps, their times over threshold together


class TimeStampingCamera(Element):
    """u = A e(x) e(y): signal of a pixel in thresholds, e its share of a Gaussian flash, A of a gamma law.

    A pixel with u > 1 is stamped w/u later (its signal rises linearly: time walk) and stays over threshold for
    s (u - 1), after which it is blind for ``dead_time``. The fine clock rounds the time of arrival down to ``toa_bin``;
    the time over threshold counts edges of a slower clock, ``tot_bin``, in any phase: right on average, and a pixel
    that meets no edge is not recorded. A photon's time is that of its brightest pixel less the walk that its time over
    threshold tells, its position the mean of its pixels weighted by time over threshold. Clocks: Poikela et al., JINST
    9, C05013 (2014); the intensified camera: Nomerotski et al., arXiv 2210.13713 (2022).
    """

    efficiency: jax.Array = param("", efficient, "of the photocathode and the way into the plate")
    dark_rate: jax.Array = param("Hz", nonnegative, "dark electrons per second and pixel of the photocathode")
    gain: jax.Array = param("", positive, "mean signal A of a photoelectron, in thresholds of a pixel")
    gain_shape: jax.Array = param("", positive, "shape of the gamma law of A; 1 is exponential")
    spot: jax.Array = param("m", positive, "std of the flash of one photoelectron on the sensor, per axis")
    blur: jax.Array = param("m", nonnegative, "std of its centre about the photon, per axis, on the sensor")
    jitter: jax.Array = param("s", nonnegative, "timing jitter of the flash, full width at half maximum")
    walk: jax.Array = param("s", nonnegative, "delay w of a signal that just reaches the threshold")
    tot_slope: jax.Array = param("s", positive, "time over threshold s per threshold of signal above it")
    dead_time: jax.Array = param("s", nonnegative, "of a pixel after its time over threshold")
    throughput: jax.Array = param("Hz", positive, "hits per second at most")
    pitch: jax.Array = param("m", positive, "side of a pixel", default=55e-6)
    toa_bin: jax.Array = param("s", positive, "step of the time of arrival", default=1.5625e-9)
    tot_bin: jax.Array = param("s", positive, "step of the time over threshold", default=25e-9)
    pixels: int = static("pixels per side", default=256)

    def check(self):
        whole("pixels", self.pixels, 1, 32767)
        if is_concrete(self.spot) and is_concrete(self.pitch) and self.spot > self.pitch:
            raise FieldError("spot", f"got {float(self.spot / self.pitch):.4g} pixels, accepted is 1 pixel or less")

    def response(self) -> Response:
        """Means over the place of a photon in its pixel and over the gain; the slow clock's part of a centroid's error
        to first order.
        """
        return mean_response(self)

    def corrected(self, tot):
        """w/(1 + tot/s): the time walk of a pixel that was over threshold for ``tot`` s."""
        return self.walk / (1 + tot / self.tot_slope)

    def detection_efficiency(self):
        """Probability that an arriving photon is recorded, all pixels alive."""
        return self.efficiency * self.response().recorded

    def live(self, photons, time):
        """1/(1 + n tau): part of the time that a pixel is alive, n hits per second of its, tau its ToT and dead time.

        ``photons`` mean photons per pixel in ``time`` s, evenly spread over its neighbours too; elementwise.
        """
        return self.live_of(self.response(), photons, time)

    def live_of(self, response: Response, photons, time):
        """`live` of a response that is known already."""
        photons, time = number("photons", photons, nonnegative), number("time", time, positive)
        rate = (self.efficiency * photons / time + self.dark_rate) * response.hits
        return 1 / (1 + rate * (response.tot + self.dead_time))

    def capture(self, window):
        """erf(window/(4 s)): part of simultaneous pairs whose two times, std s each, lie within a full ``window``."""
        return erf(number("window", window, nonnegative) / (4 * self.response().time_spread))

    def sample(self, times, positions, start: int, stop: int, *, rng: np.random.Generator) -> Hits:
        """Hits of photons that arrive at ``times`` int64 ps at ``positions`` [count, 2] m from the centre, (x, y).

        Dark electrons are added in [start, stop) ps. UserError above the chip's ``throughput``.
        """
        times, positions = np.asarray(times), np.asarray(positions, float)
        if times.dtype != np.int64 or positions.shape != (*times.shape, 2):
            raise UserError(
                f"times: got {times.dtype} {times.shape}, positions {positions.shape}, expected int64, [n, 2]"
            )
        if not np.all(np.isfinite(positions)):
            raise UserError("positions: got one that is not finite, accepted are metres from the centre")
        seen = rng.random(len(times)) < float(self.efficiency)
        side, seconds = self.pixels * float(self.pitch), (stop - start) * 1e-12
        dark = rng.poisson(float(self.dark_rate) * self.pixels**2 * seconds)
        times = np.concatenate([times[seen], rng.integers(start, max(stop, start + 1), dark)])
        centres = positions[seen] + float(self.blur) * rng.normal(size=(seen.sum(), 2))
        centres = np.concatenate([centres, (rng.random((dark, 2)) - 0.5) * side])
        blocks = [slice(i, i + TOGETHER) for i in range(0, len(times), TOGETHER)] or [slice(0, 0)]
        parts = [self._flashes(times[block], centres[block], rng) for block in blocks]
        x, y, late, tot = (np.concatenate(a) for a in zip(*parts, strict=True))
        alive = _alive(y * self.pixels + x, late, tot + round(float(self.dead_time) * 1e12))
        x, y, late, tot = x[alive], y[alive], late[alive], tot[alive]
        if len(x) > float(self.throughput) * seconds:
            raise UserError(
                f"times: got {len(x)} hits in {seconds:.3g} s, accepted are {float(self.throughput):.3g} per s"
            )
        step = float(self.toa_bin) * 1e12
        toa = np.floor(np.floor(late / step) * step).astype(np.int64)
        order = np.argsort(toa, kind="stable")
        return Hits(x[order].astype(np.int16), y[order].astype(np.int16), toa[order], tot[order])

    def _flashes(self, times, centres, rng):
        """Column, row, time of crossing and time over threshold (ps) of all pixels that see these flashes."""
        shape, step = float(self.gain_shape), float(self.tot_bin)
        signal = rng.gamma(shape, float(self.gain) / shape, len(times))
        where = centres / float(self.pitch) + self.pixels / 2
        middle = np.floor(where).astype(np.int64)
        pixel = middle[:, :, None] + np.arange(-REACH, REACH + 1)
        share = _share(pixel + 0.5 - where[:, :, None], float(self.spot / self.pitch), special.erf)
        u = signal[:, None, None] * share[:, 1, :, None] * share[:, 0, None, :]  # [flash, row, column]
        edges = float(self.tot_slope) * (u - 1) / step
        flash, row, column = np.nonzero(edges > 0)
        edges, u = edges[flash, row, column], u[flash, row, column]
        counted = np.floor(edges + rng.random(len(edges))).astype(np.int64)
        x, y = pixel[flash, 0, column], pixel[flash, 1, row]
        keep = (counted > 0) & (x >= 0) & (x < self.pixels) & (y >= 0) & (y < self.pixels)
        late = rng.normal(0, float(self.jitter) / FWHM, len(times))[flash] + float(self.walk) / u
        crossing = times[flash] + np.rint(late * 1e12).astype(np.int64)
        tot = np.rint(counted * step * 1e12).astype(np.int64)
        return x[keep], y[keep], crossing[keep], tot[keep]

    def centroid(self, hits: Hits, window=300e-9) -> Photons:
        """Photons: hits of touching pixels (corners too), each within ``window`` s of another, are one."""
        count, window = len(hits.toa), float(number("window", window, positive))
        if np.any(hits.tot <= 0):
            raise UserError(f"tot: got {hits.tot.min()} ps, accepted are times over threshold greater than 0")
        if not count:
            nothing = np.zeros(0, np.int64)
            return Photons(nothing, np.zeros((0, 2)), nothing, nothing)
        place = np.stack([hits.x, hits.y, (hits.toa - hits.toa[0]) / (window * 1e12)], axis=1)
        pairs = cKDTree(place).query_pairs(1.0, p=np.inf, output_type="ndarray")
        graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
        found, photon = connected_components(graph, directed=False)
        total = np.bincount(photon, hits.tot, found)
        centre = np.stack([np.bincount(photon, hits.tot * a, found) for a in (hits.x, hits.y)], axis=1) / total[:, None]
        order = np.lexsort((hits.toa, -hits.tot, photon))
        brightest = order[np.searchsorted(photon[order], np.arange(found))]
        late = np.asarray(self.corrected(jnp.asarray(hits.tot[brightest] * 1e-12, self.walk.dtype)), float)
        times = hits.toa[brightest] + np.rint((float(self.toa_bin) / 2 - late) * 1e12).astype(np.int64)
        first = np.argsort(times, kind="stable")
        positions = (centre + 0.5 - self.pixels / 2) * float(self.pitch)
        sizes = np.bincount(photon, minlength=found)
        return Photons(times[first], positions[first], sizes[first], np.rint(total).astype(np.int64)[first])


@partial(jax.jit, static_argnames=("gains", "places"))
def mean_response(camera: TimeStampingCamera, gains: int = 64, places: int = 6) -> Response:
    """`TimeStampingCamera.response` with so many points of the integrals over the gain and along a half of a pixel."""
    dtype, shape = camera.gain.dtype, camera.gain_shape
    # gain: even in its logarithm, from where a pixel can see to where the law has ended but for 1e-10
    reach = 8 / jnp.sqrt(shape) + 25 / shape
    least = jnp.maximum(jnp.log(camera.gain) - reach, 0)
    width = jnp.maximum(jnp.log(camera.gain * (1 + reach)), 1) - least
    node, part = (jnp.asarray(a, dtype) for a in _unit_interval(gains))
    signal = jnp.exp(least + width * node)
    scaled = shape * signal / camera.gain
    density = jnp.exp(shape * jnp.log(scaled) - scaled - gammaln(shape)) * width * part
    place, share_of_place = (jnp.asarray(a, dtype) for a in _unit_interval(places))
    place = place / 2  # the other half mirrors it
    weight = density[:, None, None] * share_of_place[None, :, None] * share_of_place[None, None, :]

    # signal, time over threshold and chance to be recorded, [gain, place in x, in y, pixel in x, in y]
    away = jnp.arange(-REACH, REACH + 1, dtype=dtype)[None, :] - place[:, None]
    share = _share(away, camera.spot / camera.pitch, erf)
    u = signal[:, None, None, None, None] * share[None, :, None, :, None] * share[None, None, :, None, :]
    tot = camera.tot_slope * jnp.maximum(u - 1, 0)
    edges = tot / camera.tot_bin
    chance = jnp.minimum(edges, 1)
    recorded = weight * (1 - jnp.prod(1 - chance, (3, 4)))
    hits = jnp.sum(weight * jnp.sum(chance, (3, 4)))

    # centroid along x: where the weights put it, and the variance that counting edges in any phase gives it
    total = jnp.sum(tot, (3, 4))
    safe = jnp.where(total > 0, total, 1)
    across = away[None, :, None, :, None]
    centre = jnp.sum(across * tot, (3, 4)) / safe
    rest = edges - jnp.floor(edges)
    counted = camera.tot_bin**2 * rest * (1 - rest) * (across - centre[..., None, None]) ** 2
    place_variance = jnp.sum(recorded * (centre**2 + jnp.sum(counted, (3, 4)) / safe**2)) / jnp.sum(recorded)

    # time of the brightest pixel: walk less what its counted edges tell, with n or n + 1 of them
    u, edges = u[..., REACH, REACH], edges[..., REACH, REACH]
    more = edges - jnp.floor(edges)
    moments = jnp.zeros((2, *u.shape), dtype)
    for n, likely in ((jnp.floor(edges), 1 - more), (jnp.floor(edges) + 1, more)):
        late = camera.walk / jnp.maximum(u, 1) - camera.corrected(n * camera.tot_bin)
        moments += jnp.where(n > 0, likely, 0)[None] * jnp.stack([late, late**2])
    first, second = jnp.sum(weight[None] * moments, (1, 2, 3)) / jnp.sum(weight * chance[..., REACH, REACH])
    return Response(
        jnp.sum(recorded),
        hits,
        jnp.sum(weight * total) / hits,
        jnp.sqrt((camera.jitter / FWHM) ** 2 + camera.toa_bin**2 / 12 + second - first**2),
        jnp.sqrt(camera.blur**2 + camera.pitch**2 * place_variance),
    )


def _unit_interval(points: int):
    """Gauss-Legendre points and weights on [0, 1]."""
    node, weight = np.polynomial.legendre.leggauss(points)
    return (node + 1) / 2, weight / 2


def _share(away, spot, erf):
    """Part of a Gaussian of std ``spot`` pixels that a pixel ``away`` pixels from its centre sees, along one axis."""
    return (erf((away + 0.5) / (2**0.5 * spot)) - erf((away - 0.5) / (2**0.5 * spot))) / 2


def _alive(pixel: np.ndarray, times: np.ndarray, dead: np.ndarray) -> np.ndarray:
    """Which hits are stamped, in order of pixel and time: one stamped at t blinds its pixel for [t, t + dead).

    Only hits that come sooner after another than the longest dead time can be lost, so only those are followed.
    """
    order = np.lexsort((times, pixel))
    pixel, times, dead = pixel[order], times[order], dead[order]
    stamped = np.ones(len(times), bool)
    close = np.flatnonzero((np.diff(times) < dead.max(initial=0)) & (np.diff(pixel) == 0)) + 1
    until, before = 0, -2
    for i in close.tolist():
        if i != before + 1:
            until = times[i - 1] + dead[i - 1]
        if times[i] < until:
            stamped[i] = False
        else:
            until = times[i] + dead[i]
        before = i
    return order[stamped]
