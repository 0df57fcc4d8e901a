"""Quantum illumination: weak reflectors in thermal background, probed by two-mode squeezed light.

M mode pairs of N_s photons (`signal`) meet a superpixel. The part k T comes back among N_b background photons per mode
(`background`, at the receiver, the same with and without object; Tan et al., Phys. Rev. Lett. 101, 253601 (2008)): k =
reflectivity x two-way unscattered light, T the object. Beside I = storage x N_s stored idlers per mode the return has

    <n> = k T N_s + N_b,    <a_R a_I> = q c,    q = sqrt T,    c^2 = k I (1 + N_s).

Phase-sensitive receivers measure q, so the Fisher information about T is infinite at T = 0 and means nothing there.
They take T as the squared estimate of q less its variance v: unbiased at any T, of least variance for normal noise,

    Var T = 4 T v + 2 v^2,    v = 1/(M F),    F the information about q per mode pair.

Two arms have equal variance, at every T, where M F is equal: the ratio of their F is that of the photons they need,
and of their error exponents k F/8 as well if they measure mode by mode. Only Chernoff bounds are higher: a measurement
of all modes together decides whether an object is there, which gains up to 6 dB, where an image gains 3 dB at most.
"""

from abc import abstractmethod
from functools import partial
from math import comb, factorial
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erfc
from scipy import sparse
from scipy.special import stirling2

from qtwin.core.errors import FieldError, UserError
from qtwin.core.params import efficiency, is_concrete, nonnegative, param, positive
from qtwin.core.random import numpy_generator
from qtwin.estimator.protocol import AbstractLaw, AbstractProtocol, Arm, Bench, Drawn, Ledger
from qtwin.modes.illumination import coherent_exponent, entangled_exponent
from qtwin.optics.fresnel import normal_reflectance
from qtwin.tissue import Slab

MOST_GAIN = 1e6  # of the parametric amplifier: 1e-6 short of the best where that is infinite
FAINT = 1e-15  # received part of the light below which nothing is to be seen
DARK = 1e-12  # the least T of which the root is differentiated
GEOMETRIC = [[factorial(m) * int(stirling2(n, m)) for m in range(7)] for n in range(7)]  # <j^n> = sum over m of I^m


def two_way(tissue: Slab):
    """prod(1 - R)^2 exp(-2 sum (mu_a + mu_s) d) over what lies above the object: light that keeps its mode.

    Beer-Lambert and Fresnel at normal incidence, as `Slab.ballistic`; scattered light is in other modes and lost.
    """
    layers = tissue.layers()
    above = slice(0, layers.object + 1)
    n = jnp.concatenate([jnp.ones(1, layers.n.dtype), layers.n[above]])
    surfaces = jnp.prod(1 - normal_reflectance(n[:-1], n[1:]))
    depth = jnp.sum((layers.mu_a[above] + layers.mu_s[above]) * layers.thickness[above])
    return surfaces**2 * jnp.exp(-2 * depth)


class AbstractReceiver(eqx.Module):
    """Its statistic per mode pair, of which an exposure gives the mean y over M; <y> = A q + B T, 0 without object."""

    def shift(self, transmission):
        """<y>."""
        linear, square = self.coefficients()
        return linear * jnp.sqrt(jnp.maximum(transmission, DARK)) + square * transmission

    def noise(self, transmission):
        """M Var y."""
        return self.cumulants(transmission)[0]

    def steps(self, transmission):
        """dT/dy and d^2T/dy^2."""
        (linear, square), q = self.coefficients(), jnp.sqrt(jnp.maximum(transmission, DARK))
        slope = linear + 2 * square * q
        return 2 * q / slope, 2 * linear / slope**3

    @abstractmethod
    def coefficients(self) -> tuple[jax.Array, jax.Array]:
        """(A, B)."""

    @abstractmethod
    def cumulants(self, transmission) -> tuple[jax.Array, jax.Array]:
        """M Var y and M^3 kappa_4(y)."""

    @abstractmethod
    def estimate(self, y, modes) -> np.ndarray:
        """T of a measured y, less the bias of its curvature: T(y) - T''(y) Var(y)/2."""

    @abstractmethod
    def draw(self, transmission, modes, exposures: int, rng) -> tuple[np.ndarray, np.ndarray | None]:
        """(y, counts) of independent exposures [exposures, ...]; None: nothing is counted."""


class Normal(AbstractReceiver):
    """y = q + N(0, 1/F)/sqrt M: homodyne detection, and how a bound on the information F is drawn."""

    information: jax.Array

    def coefficients(self):
        return jnp.ones_like(self.information), jnp.zeros_like(self.information)

    def cumulants(self, transmission):
        return jnp.broadcast_to(1 / self.information, jnp.shape(transmission)), jnp.zeros_like(transmission)

    def estimate(self, y, modes):
        return y**2 - 1 / (np.asarray(self.information) * modes)

    def draw(self, transmission, modes, exposures, rng):
        error = np.sqrt(np.asarray(self.noise(transmission)) / modes)
        return np.sqrt(transmission) + error * rng.standard_normal((exposures, *error.shape)), None


class Amplifier(AbstractReceiver):
    """Photons behind a parametric amplifier of return and idler: geometric of mean n = n_0 + A q + B T.

    G I + (G - 1)(1 + k T N_s + N_b) + 2 sqrt(G (G - 1)) q c, times the counter's efficiency (Guha & Erkmen, Phys. Rev.
    A 80, 052310 (2009); they leave out the small B T).
    """

    dark: jax.Array  # n_0
    linear: jax.Array  # A
    square: jax.Array  # B

    def coefficients(self):
        return self.linear, self.square

    def cumulants(self, transmission):
        n = self.dark + self.shift(transmission)
        noise = n * (1 + n)
        return noise, noise * (1 + 6 * noise)

    def estimate(self, y, modes):
        """The root of the quadratic; below the mean of no amplitude, where it ends, the slope is held at A/2."""
        dark, linear, square = (np.asarray(a) for a in (self.dark, self.linear, self.square))
        slope = np.sqrt(np.maximum(linear**2 + 4 * square * y, linear**2 / 4))
        return (2 * y / (linear + slope)) ** 2 - linear / slope**3 * (dark + y) * (1 + dark + y) / (modes + 1)

    def draw(self, transmission, modes, exposures, rng):
        n = np.asarray(self.dark + self.shift(transmission))
        light = rng.standard_gamma(np.broadcast_to(modes, (exposures, *np.shape(n)))) * n
        counts = rng.poisson(light)
        return counts / modes - np.asarray(self.dark), counts


class Coincidences(AbstractReceiver):
    """Second-order correlation of photon counts: return above the background, times the signal that idlers tell of.

    y = <(n_R - N_b) w(n_I)>, w(j) = N_s + (1 + N_s)(j - I)/(1 + I) the signal photons beside j idlers: without loss w =
    j, and y is coincidences less accidentals N_b n_I. It is the score of the two counts at k = 0, so no receiver that
    counts both beams does better there; linear in T, blind to the phase. Photon counting as Lopaeva et al., Phys. Rev.
    Lett. 110, 153603 (2013), who take the covariance, w = n_I - <n_I>, in a background that they do not know.

    From the generating function of the state: j is geometric of mean I, n_R the sum of a geometric number of mean b =
    N_b + k T (N_s - I)/(1 + I), and for each of the j, with probability k T (1 + N_s)/[(1 + I)(1 + b)], of 1 + another.
    """

    signal: jax.Array  # N_s
    idler: jax.Array  # I, counted
    background: jax.Array  # N_b, counted
    reflectivity: jax.Array  # k, counter's efficiency included

    def _weight(self):
        """(a, c) of w = a j + c."""
        return (1 + self.signal) / (1 + self.idler), (self.signal - self.idler) / (1 + self.idler)

    def _mean(self, power: int, idlers: int = 0):
        """<w^power j^idlers> over the geometric law of j, <j (j - 1) .. (j - m + 1)> = m! I^m."""
        a, c = self._weight()
        rows = [sum(GEOMETRIC[p + idlers][m] * self.idler**m for m in range(7)) for p in range(power + 1)]
        return sum(comb(power, p) * a**p * c ** (power - p) * row for p, row in enumerate(rows))

    def coefficients(self):
        return jnp.zeros_like(self.reflectivity), self.reflectivity * self._mean(2)

    def _spread(self, transmission):
        """Variance of n_R beside j idlers as (at j = 0, for each of j), and their b."""
        (a, c), k = self._weight(), self.reflectivity * transmission
        b = self.background + k * c
        return b * (1 + b), k * a * (1 + 2 * b - k * a), b

    def cumulants(self, transmission):
        """The fourth to a third: n_R beside j idlers has kappa_4 = Var (1 + 6 Var), geometric, or Poisson where dim."""
        w2, (alone, each, _), k = self._mean(2), self._spread(transmission), self.reflectivity * transmission
        noise = w2 * alone + self._mean(2, 1) * each + k**2 * (self._mean(4) - w2**2)
        parts = alone * (1 + 9 * alone), each * (1 + 18 * alone), 9 * each**2
        return noise, sum(self._mean(4, n) * part for n, part in enumerate(parts)) - 3 * noise**2

    def estimate(self, y, modes):
        return y / np.asarray(self.coefficients()[1])

    def draw(self, transmission, modes, exposures, rng):
        """Exact for a whole number of mode pairs, the nearest to ``modes``: all those with j idlers at once."""
        a, c, mean = (float(v) for v in (*self._weight(), self.idler))
        _, _, b = (np.asarray(v) for v in self._spread(jnp.asarray(transmission)))
        chance = float(self.reflectivity) * np.asarray(transmission) * a / (1 + b)
        whole = np.maximum(np.rint(modes), 1).astype(np.int64)
        left = np.broadcast_to(whole, (exposures, *np.shape(b)))
        total, counts, j = np.zeros(left.shape), np.zeros(left.shape, np.int64), 0
        while left.any():
            more = rng.binomial(left, mean / (1 + mean))
            here = left - more
            partners = rng.binomial(j * here, chance)
            n = partners + rng.poisson(rng.standard_gamma(here + partners) * b)
            total += (a * j + c) * (n - here * float(self.background))
            left, counts, j = more, counts + n, j + 1
        return total / whole, counts


def exponent(receiver: AbstractReceiver, transmission):
    """xi = y^2/[2 (s_0 + s_1)^2], y the shift and s^2 the noise without and with object: -> k F/8 for a weak one."""
    both = jnp.sqrt(receiver.noise(0 * transmission)) + jnp.sqrt(receiver.noise(transmission))
    return receiver.shift(transmission) ** 2 / (2 * both**2)


def error_probability(receiver: AbstractReceiver, transmission, modes):
    """P = erfc(sqrt(M xi))/2: nothing there, or an object of T? Equal priors, threshold y s_0/(s_0 + s_1), many modes.

    Guha & Erkmen, Phys. Rev. A 80, 052310 (2009). Exact for homodyne detection; counts are normal to order 1/M.
    """
    return erfc(jnp.sqrt(modes * exponent(receiver, transmission))) / 2


def wrong_decisions(receiver: AbstractReceiver, transmission, modes, trials: int, *, key) -> tuple[int, int]:
    """(false alarms, misses) of ``trials`` exposures without and as many with an object of ``transmission`` []."""
    rng, t = numpy_generator(key, "decisions"), jnp.asarray(transmission, jnp.result_type(float))
    none, one = (receiver.draw(value, modes, trials, rng)[0] for value in (0 * t, t))
    quiet, loud = (float(receiver.noise(value)) ** 0.5 for value in (0 * t, t))
    threshold = float(receiver.shift(t)) * quiet / (quiet + loud)
    return int(np.sum(none > threshold)), int(np.sum(one <= threshold))


class IlluminationLaw(AbstractLaw):
    """A receiver's estimates of T, superpixel by superpixel."""

    ledger: Ledger
    transmission: jax.Array  # [n, n]
    modes: jax.Array  # [n, n] mode pairs
    received: jax.Array  # [n, n] photons of the signal that are detected
    receiver: AbstractReceiver

    def mean(self):
        return self.transmission

    def variance(self):
        noise = self.receiver.noise(self.transmission) / self.modes
        slope, bend = self.receiver.steps(self.transmission)
        return slope**2 * noise + bend**2 * noise**2 / 2

    def covariance(self):
        return sparse.diags([np.asarray(self.variance()).ravel()], [0]).tocsr()

    def fourth(self, energy):
        """Of slope e + bend e^2/2, e normal: 12 slope^2 bend^2 s^6 + 3 bend^4 s^8; and slope^4 kappa_4(e)."""
        slope, bend = self.receiver.steps(self.transmission)
        noise, own = self.receiver.cumulants(self.transmission)
        noise = noise / self.modes
        cumulant = slope**4 * own / self.modes**3 + 12 * slope**2 * bend**2 * noise**3 + 3 * bend**4 * noise**4
        return float(np.sum(energy**2 * np.asarray(cumulant).ravel()))

    def draw(self, exposures, *, key):
        modes = np.asarray(self.modes)
        y, counts = self.receiver.draw(self.transmission, modes, exposures, numpy_generator(key, "illumination"))
        if counts is None:  # a photocurrent: what it holds of the signal
            counts = np.broadcast_to(np.asarray(self.received), y.shape)
        return Drawn(self.receiver.estimate(y, modes), counts)


class Exponents(NamedTuple):
    """Error exponents per mode pair."""

    bound: jax.Array  # quantum Chernoff bound of two-mode squeezed light, k -> 0
    amplifier: jax.Array
    coincidences: jax.Array
    coherent: jax.Array  # the same bound of coherent light
    homodyne: jax.Array

    def decibel(self):
        """Of every one over coherent light's Chernoff bound."""
        return Exponents(*(10 * jnp.log10(x / self.coherent) for x in self))


class QuantumIllumination(AbstractProtocol):
    """Two-mode squeezed light against coherent light, one beam that dwells on one superpixel after the other.

    Every superpixel is one spatial mode; it gets M = bandwidth x dwell time mode pairs, M N_s its photons. The phase of
    the return is known, the receiver's efficiency is that of homodyne detector and counters alike; their dark counts
    count as background. Both bounds have an efficiency of 1.
    """

    signal: jax.Array = param("", positive, "signal photons per mode")
    background: jax.Array = param("", nonnegative, "thermal background photons per mode at the receiver")
    reflectivity: jax.Array = param("", efficiency, "part of the light that a clear superpixel returns, without tissue")
    idler_storage: jax.Array = param("", efficiency, "transmission of the idler's store")
    efficiency: jax.Array = param("", efficiency, "efficiency of counters and homodyne detector")
    bandwidth: jax.Array = param("Hz", positive, "mode pairs per second")

    carried: ClassVar[tuple[str, ...]] = ()  # its light is found by a beam that scans
    limits: ClassVar[tuple[str, ...]] = (
        "Quantum illumination: its bound is quantum Fisher information, drawn as normal estimates; none is built.",
        "Quantum illumination: an image gains 3 dB at most; deciding whether an object is there, 6 dB (exponents).",
        "Quantum illumination: where v exceeds T, Var T falls as 1/N^2; its ratio is then that of photons, squared.",
    )

    def received(self, bench: Bench):
        """k of a clear superpixel: reflectivity and unscattered light, there and back."""
        k = self.reflectivity * two_way(bench.tissue)
        if is_concrete(k) and not float(k) >= FAINT:
            found = f"{float(k):.2g} of the light comes back from the object unscattered (depth, mu_s, mu_a)"
            raise UserError(f"tissue: {found}; accepted is {FAINT:g} or more")
        return k

    def homodyne(self, reflectivity) -> Normal:
        """Coherent light, the quadrature of the return: as good as its bound at an efficiency of 1."""
        return Normal(self.coherent_information(reflectivity, self.efficiency))

    def coherent_information(self, reflectivity, eta=1.0):
        """F = 4 eta k N_s/(2 eta N_b + 1) about q per mode, coherent light; quantum Fisher information at eta = 1."""
        return 4 * eta * reflectivity * self.signal / (2 * eta * self.background + 1)

    def amplifier(self, reflectivity) -> Amplifier:
        """The best gain: 1/(G - 1) = x = sqrt(1 + S (eta (1 + N_b - I) - 1)/(I (1 + eta I))) - 1, S = 1 + I + N_b.

        It maximises F = 4 eta c^2 (1 + x)/[(x I + S)(x (1 + eta I) + eta S)]; at eta = 1 without loss `amplifier_gain`.
        """
        idler, eta = self.idler_storage * self.signal, self.efficiency
        total = 1 + idler + self.background
        ratio = jnp.maximum(total * (eta * (1 + self.background - idler) - 1) / (idler * (1 + eta * idler)), 0.0)
        x = jnp.maximum(ratio / (jnp.sqrt(1 + ratio) + 1), 1 / MOST_GAIN)
        linear = 2 * eta / x * jnp.sqrt((1 + x) * reflectivity * idler * (1 + self.signal))
        return Amplifier(eta * (idler + total / x), linear, eta * reflectivity * self.signal / x)

    def coincidences(self, reflectivity) -> Coincidences:
        """Photon counters in return and idler."""
        eta = self.efficiency
        idler = eta * self.idler_storage * self.signal
        return Coincidences(self.signal, idler, eta * self.background, eta * reflectivity)

    def entangled_information(self, reflectivity, transmission):
        """Quantum Fisher information about q per mode pair: d^T S^-1 d of (n_R, n_I, a_R a_I + h.c.), at any k T.

        The symmetric logarithmic derivative is a combination of the three: d by q of their means, S their covariance
        (moment theorem), in terms of <n_R> = b + g j beside j idlers, `Coincidences`. -> 4 c^2/[(1 + N_b)(1 + I) + N_b
        I] as k -> 0 (Sanz et al., Phys. Rev. Lett. 118, 070803 (2017), declared), 4 k N_s/(1 - k T) as N_b -> 0.
        """
        t, s, i = jnp.maximum(transmission, DARK), self.signal, self.idler_storage * self.signal
        k, more = reflectivity * t, reflectivity * t * (s - i) / (1 + i)
        g, b, e = k * (1 + s) / (1 + i), self.background + more, k * s
        part = jnp.where(b > 0, more / jnp.where(b > 0, b, 1.0), 0.0)
        h, gi, both = 1 - g, g * i, 1 + b + 2 * g * i
        top = h * (1 + i) * more * part + e**2 * (1 + 2 * i) + gi * (1 + i) * (both - 4 * e)
        below = both * ((1 + i) * h + b * (1 + 2 * i)) + gi * (h * (1 + 2 * i) - 4 * (1 + i) * (h + b))
        return 4 * top / (t * below)

    def exponents(self, reflectivity) -> Exponents:
        """Per mode pair, of finding an object of this intensity ``reflectivity``, what lies before it included.

        A lossy store of two-mode squeezed light is one of I photons and k (1 + N_s)/(1 + I), as k -> 0.
        """
        k, i = jnp.asarray(reflectivity, self.signal.dtype), self.idler_storage * self.signal
        bound = (1 + self.signal) / (1 + i) * entangled_exponent(k, i, self.background)
        coherent = coherent_exponent(k, self.signal, self.background)
        receivers = self.amplifier(k), self.coincidences(k), self.homodyne(k)
        amplifier, coincidences, homodyne = (exponent(receiver, jnp.ones_like(k)) for receiver in receivers)
        return Exponents(bound, amplifier, coincidences, coherent, homodyne)

    def _law(self, bench: Bench, receiver, bound: bool, quantum: bool) -> IlluminationLaw:
        k, photons = self.received(bench), bench.setting.incident * bench.idler
        modes = photons / self.signal
        if is_concrete(modes) and not float(jnp.max(modes)) >= 1:
            most = f"no superpixel gets more than {float(jnp.max(photons)):.3g} photons (budget.photons)"
            raise FieldError("signal", f"got {float(self.signal):.3g} per mode, but {most}; accepted is less")
        seen = k * bench.object * photons * (1 if bound else self.efficiency)
        ledger = (bench.pairs if quantum else bench.laser)(jnp.sum(seen))._replace(time=jnp.sum(modes) / self.bandwidth)
        return IlluminationLaw(ledger, bench.object, modes, seen, receiver(k, bench.object))

    def arms(self):
        """All estimate T from the same photons and dwell times; the bounds have an efficiency of 1."""
        against = "coherent return, homodyne", "coherent return, bound"

        def arm(name, receiver, bound=False, kind=""):
            law = partial(self._law, receiver=receiver, bound=bound, quantum=not kind)
            return Arm(name, law, not kind, () if kind else against, kind)

        return (
            arm("illumination, coincidences", lambda k, t: self.coincidences(k)),
            arm("illumination, amplifier", lambda k, t: self.amplifier(k)),
            arm("illumination, bound", lambda k, t: Normal(self.entangled_information(k, t)), True),
            arm(against[0], lambda k, t: self.homodyne(k), kind="coherent light and homodyne detection"),
            arm(against[1], lambda k, t: Normal(self.coherent_information(k)), True, "coherent light at its bound"),
        )

    def facts(self, bench):
        """Of a clear superpixel; exponents over coherent light's Chernoff bound, information over its quantum bound."""
        k, modes = self.received(bench), jnp.mean(bench.setting.incident * bench.idler) / self.signal
        one, found = jnp.ones_like(k), self.exponents(k)
        information = self.entangled_information(k, one) / self.coherent_information(k)
        watched = {"received": (k, ""), "mode_pairs": (modes, ""), "dwell_time": (modes / self.bandwidth, "s")}
        ratios = {f"exponent_{name}": (value / found.coherent, "") for name, value in found._asdict().items()}
        receivers = {"amplifier": self.amplifier(k), "homodyne": self.homodyne(k)}
        errors = {f"error_probability_{n}": (error_probability(r, one, modes), "") for n, r in receivers.items()}
        return watched | ratios | {"information_bound": (information, "")} | errors
