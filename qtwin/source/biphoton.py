"""Where the photons of a pair start: the spatial joint amplitude of collinear down-conversion.

With wave numbers k_s, k_i in the crystal and m = k/(k_s + k_i) the amplitude parts into a sum and a difference,

    psi(q_s, q_i) ~ exp(-w^2 |K|^2/4) f(2 a |Q|^2),  K = q_s + q_i,  Q = m_i q_s - m_s q_i,

a = L k_p/(8 k_s k_i). Conjugate to K is the centre R = m_s x_s + m_i x_i, to Q the separation x_s - x_i. For alike
photons 2 Q = q_s - q_i and 2 a Q^2 = a q_-^2 with q_- = (q_s - q_i)/sqrt 2. Paraxial, one frequency, phase-matched
on the axis, without walk-off (Monken, Souto Ribeiro & Padua, Phys. Rev. A 57, 3123 (1998); Walborn et al., Phys.
Rep. 495, 87 (2010)). Transverse wave vectors q are in rad/m, positions in m at the centre of the crystal.
"""

from abc import abstractmethod
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import sici

from qtwin.core.errors import FieldError
from qtwin.core.params import Element, index, param, positive, static
from qtwin.core.random import exponential, threefry, words

SINC_HALF = 1.39155737825151  # sinc(u)^2 = 1/2
NEAR_HALF = 0.46564845310203185  # Si(z) = (pi/2)(1 - 1/sqrt 2)

# Gaussian exp(-gamma u) for sinc(u), by what both have in common
STAND_INS = {
    "std": 1.8,  # std of x_s - x_i in one dimension (Schneeloch & Howell, J. Opt. 18, 053501 (2016))
    "near FWHM": 2 * NEAR_HALF / np.log(2),  # full width of |psi|^2 over x_s - x_i, two dimensions
    "far FWHM": np.log(2) / (2 * SINC_HALF),  # full width of |psi|^2 over q_s - q_i
    "exp(-x)": 1.0,
    "exp(-0.455 x)": 0.4547267104391005,  # falls to 1/e in amplitude where the sinc does, at u = 2.199119
}


class Rays(NamedTuple):
    """Photons as rays: positions and transverse wave vectors; an angle in vacuum is k lambda/(2 pi)."""

    x: jax.Array  # [..., 2] m
    k: jax.Array  # [..., 2] rad/m
    wavelength: jax.Array  # [] m, in vacuum
    weight: jax.Array  # [...] probability that the photon is still there


class Moments(NamedTuple):
    """A pair of photons as a normal law of (x_s, k_s, x_i, k_i); both axes have the same covariance."""

    mean: jax.Array  # [4, 2]: variable, axis
    covariance: jax.Array  # [4, 4] of one axis
    weight: jax.Array  # [] probability that both photons are still there


class AbstractBiphoton(Element):
    """A pump of amplitude exp(-r^2/w^2) in a crystal of length L: what does not depend on the form of f."""

    signal_wavelength: jax.Array = param("m", positive, "signal wavelength in vacuum")
    idler_wavelength: jax.Array = param("m", positive, "idler wavelength in vacuum")
    signal_index: jax.Array = param("", index, "refractive index of the crystal for the signal")
    idler_index: jax.Array = param("", index, "refractive index of the crystal for the idler")
    crystal_length: jax.Array = param("m", positive, "length of the crystal")
    waist: jax.Array = param("m", positive, "1/e amplitude radius of the pump")

    @abstractmethod
    def exponentials(self):
        """Weights c and rates g, each complex [n], of f(u) = sum_j c_j exp(-g_j u), Re g >= 0."""

    @abstractmethod
    def strength(self):
        """Integral of exp(-w^2 |K|^2/2) f(2 a |Q|^2)^2 over both transverse wave vectors, (rad/m)^4."""

    def shares(self):
        """(m_s, m_i) = (k_s, k_i)/(k_s + k_i), k = 2 pi n/l."""
        k_s, k_i = self.signal_index / self.signal_wavelength, self.idler_index / self.idler_wavelength
        return k_s / (k_s + k_i), k_i / (k_s + k_i)

    def phase_matching(self):
        """a = L k_p/(8 k_s k_i), k_p = k_s + k_i, m^2; L l_p/(4 pi n_p) for alike photons."""
        k_s = 2 * jnp.pi * self.signal_index / self.signal_wavelength
        k_i = 2 * jnp.pi * self.idler_index / self.idler_wavelength
        return self.crystal_length * (k_s + k_i) / (8 * k_s * k_i)

    def sum_width(self):
        """std(q_s + q_i) = 1/w per axis, rad/m."""
        return 1 / self.waist

    def centre_width(self):
        """std(m_s x_s + m_i x_i) = w/2 per axis, m; of (x_s + x_i)/2 for alike photons."""
        return self.waist / 2


class DoubleGaussian(AbstractBiphoton):
    """f(u) = exp(-gamma u) in place of sinc(u) (Law & Eberly, Phys. Rev. Lett. 92, 127903 (2004)).

    ``stand_in`` names which width of the sinc the Gaussian keeps, a key of `STAND_INS`; no Gaussian keeps two.
    Its Wigner function is positive: `sample` draws rays of which every joint density in ABCD optics is exact.
    """

    stand_in: str = static("the width that is kept", default="exp(-0.455 x)")

    def check(self):
        if self.stand_in not in STAND_INS:
            raise FieldError("stand_in", f"got {self.stand_in!r}, accepted are {', '.join(STAND_INS)}")

    def exponentials(self):
        rate = jnp.full(1, STAND_INS[self.stand_in], jnp.result_type(complex))
        return jnp.ones_like(rate), rate

    def strength(self):
        return jnp.pi**2 / (2 * STAND_INS[self.stand_in] * self.phase_matching() * self.waist**2)

    def separation_width(self):
        """std(x_s - x_i) = sqrt(2 gamma a) per axis, m."""
        return jnp.sqrt(2 * STAND_INS[self.stand_in] * self.phase_matching())

    def relative_width(self):
        """std(m_i q_s - m_s q_i) = 1/(2 std(x_s - x_i)) per axis, rad/m; half of std(q_s - q_i) for alike photons."""
        return 1 / (2 * self.separation_width())

    def photon_widths(self):
        """std of the transverse wave vectors (q_s, q_i) = (m_s K + Q, m_i K - Q) per axis, rad/m."""
        return tuple(jnp.hypot(m * self.sum_width(), self.relative_width()) for m in self.shares())

    def _rows(self):
        """(x_s, k_s, x_i, k_i) from independent standard normal numbers of (R, K, x_s - x_i, Q), [4, 4]."""
        m_s, m_i = self.shares()
        r, d, s, q = self.centre_width(), self.separation_width(), self.sum_width(), self.relative_width()
        zero = jnp.zeros_like(r)
        rows = [
            [r, zero, m_i * d, zero],
            [zero, m_s * s, zero, q],
            [r, zero, -m_s * d, zero],
            [zero, m_i * s, zero, -q],
        ]
        return jnp.stack([jnp.stack(row) for row in rows])

    def moments(self) -> Moments:
        """The normal law of positions and wave vectors at the centre of the crystal."""
        rows = self._rows()
        mean = jnp.zeros((4, 2), rows.dtype)
        return Moments(mean, jnp.matmul(rows, rows.T, precision="highest"), jnp.ones((), rows.dtype))

    def schmidt_number(self):
        """K2 = K1^2, K1 = 2 std(x_s) std(q_s), the inverse purity of one photon along an axis.

        (r + 1/r)/2 for alike photons, r = std(x_s + x_i)/std(x_s - x_i) or its inverse (Law & Eberly 2004).
        """
        rows = self._rows()
        return 4 * jnp.sum(rows[0] ** 2) * jnp.sum(rows[1] ** 2)

    def sample(self, count: int, *, key) -> tuple[Rays, Rays]:
        """``count`` pairs drawn from the Wigner function: rays of signal and idler."""
        rows = self._rows()
        r, k, d, q = (n.astype(rows.dtype) for n in normals(count, key=key))
        x_s, x_i = rows[0, 0] * r + rows[0, 2] * d, rows[2, 0] * r + rows[2, 2] * d
        k_s, k_i = rows[1, 1] * k + rows[1, 3] * q, rows[3, 1] * k + rows[3, 3] * q
        weight = jnp.ones(count, rows.dtype)
        return Rays(x_s, k_s, self.signal_wavelength, weight), Rays(x_i, k_i, self.idler_wavelength, weight)


class SincBiphoton(AbstractBiphoton):
    """f(u) = sinc(u) = sin(u)/u, the phase matching of a uniform crystal.

    Its far field falls as 1/q^4 and its near field as 1/|x_s - x_i|^4: variances diverge and full widths at half
    maximum are quoted. Its Wigner function is negative in places, so near and far field are drawn apart, never as rays.
    The wings end where the paraxial law does: of the pairs, about 1/(2 pi a |Q|^2) lie beyond |Q|.
    """

    def exponentials(self):
        """sinc(u) = integral of exp(i t u) dt/2 over (-1, 1): t L/2 is where in the crystal the pair was born."""
        t, weight = np.polynomial.legendre.leggauss(64)
        return jnp.asarray(weight / 2, jnp.result_type(complex)), jnp.asarray(-1j * t, jnp.result_type(complex))

    def strength(self):
        return jnp.pi**3 / (2 * self.phase_matching() * self.waist**2)

    def near_fwhm(self):
        """Full width at half maximum of |psi|^2 over x_s - x_i, along a diameter: 3.860 sqrt a, m.

        4 sqrt(2 a z) with Si(z) = (pi/2)(1 - 1/sqrt 2).
        """
        return 4 * jnp.sqrt(2 * self.phase_matching() * NEAR_HALF)

    def far_fwhm(self):
        """Full width of |psi|^2 over |m_i q_s - m_s q_i|: 2 sqrt(u/(2 a)), sinc(u)^2 = 1/2, rad/m."""
        return 2 * jnp.sqrt(SINC_HALF / (2 * self.phase_matching()))

    def far_density(self, q_s, q_i):
        """|psi|^2 = (w^2/2 pi) exp(-w^2 |K|^2/2) (4 a/pi^2) sinc(2 a |Q|^2)^2; q [..., 2], per (rad/m)^4."""
        m_s, m_i = self.shares()
        a, pump = self.phase_matching(), _square(q_s + q_i)
        sinc = jnp.sinc(2 * a * _square(m_i * q_s - m_s * q_i) / jnp.pi)
        return self.waist**2 / (2 * jnp.pi) * jnp.exp(-(self.waist**2) * pump / 2) * 4 * a / jnp.pi**2 * sinc**2

    def near_density(self, x_s, x_i):
        """|psi|^2 = (2/pi w^2) exp(-2 |R|^2/w^2) (pi/2 - Si(|x_s - x_i|^2/8a))^2/(4 pi^2 a); x [..., 2], per m^4."""
        m_s, m_i = self.shares()
        a, centre = self.phase_matching(), _square(m_s * x_s + m_i * x_i)
        wave = jnp.pi / 2 - sici(_square(x_s - x_i) / (8 * a))[0]
        pump = 2 / (jnp.pi * self.waist**2) * jnp.exp(-2 * centre / self.waist**2)
        return pump * wave**2 / (4 * jnp.pi**2 * a)

    def sample_far(self, count: int, *, key):
        """Transverse wave vectors of ``count`` pairs, rad/m: signal and idler, each [count, 2]."""
        one, two = jax.random.split(key)
        m_s, m_i = self.shares()
        u = _wings(lambda u: jnp.sinc(u / jnp.pi) ** 2, 1.0, count, self.waist.dtype, key=one)
        total, relative = self._around(jnp.sqrt(u / (2 * self.phase_matching())), self.sum_width(), key=two)
        return m_s * total + relative, m_i * total - relative

    def sample_near(self, count: int, *, key):
        """Positions of ``count`` pairs at the centre of the crystal, m: signal and idler, each [count, 2]."""
        one, two = jax.random.split(key)
        m_s, m_i = self.shares()
        z = _wings(lambda z: (1 - 2 / jnp.pi * sici(z)[0]) ** 2, 2 / np.pi, count, self.waist.dtype, key=one)
        centre, apart = self._around(jnp.sqrt(8 * self.phase_matching() * z), self.centre_width(), key=two)
        return centre + m_i * apart, centre - m_s * apart

    def _around(self, radius, width, *, key):
        """A normal vector of std ``width`` and a vector of length ``radius``, each [count, 2]."""
        one, two = jax.random.split(key)
        azimuth = jax.random.uniform(one, radius.shape, radius.dtype, 0, 2 * np.pi)
        vector = radius[:, None] * jnp.stack([jnp.cos(azimuth), jnp.sin(azimuth)], axis=1)
        return width * jax.random.normal(two, vector.shape, radius.dtype), vector

    def schmidt_number(self, radial: int = 64, angles: int = 128):
        """K2 = 1/purity of one photon, by angular momentum: 3.0414 for alike photons at b s = 0.5 (Law & Eberly 2004).

        psi = sum_m A_m(q_s, q_i) exp(i m phi); purity = sum_m ||A_m A_m^T||^2/N^2 with measure q dq on both sides and
        N = pi^3/(2 a w^2) the analytic norm. Gauss-Legendre in ``radial`` nodes up to 2 a Q^2 = 40, ``angles``
        azimuths.
        N is exact, and the wings beyond, 1/(40 pi) of it, hold many weak modes: the defaults are within 1e-6 for
        0.2 < b s < 3, b s = sqrt(2 a)/w. A wider pump needs ``radial`` and ``angles`` in proportion to 1/(b s), or
        `thin_schmidt_number`.
        """
        m_s, m_i = self.shares()
        kappa2 = 8 * self.phase_matching() / self.waist**2  # in units of sqrt(2 a): exp(-K^2/kappa2) sinc(Q^2)
        return 1 / _purity(kappa2, m_s, m_i, radial, angles)

    def thin_schmidt_number(self):
        """K2 -> 3 pi w^2/(32 a), the limit w^2 >> a of `schmidt_number` (alike or not)."""
        return 3 * jnp.pi * self.waist**2 / (32 * self.phase_matching())


def _square(vector):
    return jnp.sum(vector**2, axis=-1)


@partial(jax.jit, static_argnums=(3, 4))
def _purity(kappa2, m_s, m_i, radial: int, angles: int):
    """Purity of one photon of exp(-K^2/kappa2) sinc(Q^2)."""
    node, weight = (jnp.asarray(a / 2, kappa2.dtype) for a in np.polynomial.legendre.leggauss(radial))
    reach = [m * 3.2 * jnp.sqrt(kappa2) + np.sqrt(40.0) for m in (m_s, m_i)]
    q_s, q_i = (r * (node + 0.5) for r in reach)
    scale_s, scale_i = (jnp.sqrt(2 * jnp.pi * r * weight * q) for r, q in zip(reach, (q_s, q_i), strict=True))
    s, i = q_s[:, None, None], q_i[None, :, None]
    cosine = jnp.asarray(np.cos(2 * np.pi * np.arange(angles) / angles), kappa2.dtype)[None, None, :]
    total = s**2 + i**2 + 2 * s * i * cosine
    relative = (m_i * s) ** 2 + (m_s * i) ** 2 - 2 * m_s * m_i * s * i * cosine
    psi = jnp.exp(-total / kappa2) * jnp.sinc(relative / jnp.pi) * scale_s[:, None, None] * scale_i[None, :, None]
    modes = jnp.moveaxis(jnp.fft.rfft(psi, axis=2).real / angles, 2, 0)
    reduced = jnp.matmul(modes, jnp.swapaxes(modes, 1, 2), precision="highest")
    both = np.full(angles // 2 + 1, 2.0)  # m and -m
    both[0] = 1.0
    both[angles // 2 :] = 1.0 if angles % 2 == 0 else 2.0
    return jnp.sum(jnp.asarray(both, kappa2.dtype) * jnp.sum(reduced**2, axis=(1, 2))) / (jnp.pi**3 * kappa2 / 4) ** 2


def _wings(law, knee: float, count: int, dtype, *, key):
    """Numbers u > 0 of density ~ law(u) <= min(1, (knee/u)^2), [count], by rejection.

    Half of the proposals are uniform below the knee and half are knee/U (Devroye, Non-Uniform Random Variate
    Generation, Springer 1986, chapter II.3).
    """

    def again(state):
        key, u, waits = state
        key, one, two = jax.random.split(key, 3)
        v = jax.random.uniform(one, (count,), dtype, -1, 1)
        size = jnp.maximum(jnp.abs(v), jnp.finfo(dtype).tiny)
        new = knee * jnp.where(v < 0, size, 1 / size)
        accepted = jax.random.uniform(two, (count,), dtype) * jnp.minimum(1, (knee / new) ** 2) < law(new)
        return key, jnp.where(waits & accepted, new, u), waits & ~accepted

    start = (key, jnp.zeros(count, dtype), jnp.ones(count, bool))
    return jax.lax.while_loop(lambda state: jnp.any(state[2]), again, start)[1]


@partial(jax.jit, static_argnames="count")
def normals(count: int, *, key):
    """Four independent standard normal float32 numbers for each of ``count`` pairs and two axes: four [count, 2].

    r = sqrt(-2 ln u), (r cos phi, r sin phi) (Box & Muller, Ann. Math. Stat. 29, 610 (1958)) from counter-based words,
    |n| < 6.8. At most 2^31 pairs a key.
    """
    number = jnp.arange(2 * count, dtype=jnp.uint32).reshape(count, 2)

    def two(block):
        one, two = threefry(*words(key), number, jnp.full_like(number, block))
        radius, (cosine, sine) = jnp.sqrt(2 * exponential(one)), _turn(two)
        return radius * cosine, radius * sine

    # a loop, because XLA draws anew for everything that is made of the numbers unless something holds them
    (a, c), (b, d) = jax.lax.map(two, jnp.arange(2, dtype=jnp.uint32))
    return a, b, c, d


def _turn(word):
    """(cos, sin) in float32 of an angle that a uint32 word draws evenly from all around.

    Thirty bits within a quarter turn, two bits for the quadrant; polynomials of Moshier's Cephes library, sinf and
    cosf: three times faster in XLA than its own, which reduce any argument.
    """
    c, quarter = jnp.float32, jnp.float32(np.pi / 4)
    t = (word >> 2).astype(jnp.int32).astype(jnp.float32) * c(np.pi / 2**31) - quarter
    z = t * t
    sine = t + t * z * (c(-1.6666654611e-1) + z * (c(8.3321608736e-3) + z * c(-1.9515295891e-4)))
    tail = c(4.166664568298827e-2) + z * (c(-1.388731625493765e-3) + z * c(2.443315711809948e-5))
    cosine = 1 - z / 2 + z * z * tail
    odd, sign = (word & 1) == 1, jnp.where((word & 2) == 2, c(-1), c(1))
    return sign * jnp.where(odd, -sine, cosine), sign * jnp.where(odd, cosine, sine)
