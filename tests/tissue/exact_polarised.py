"""Exact Stokes vectors of a homogeneous slab by adding and doubling, mode by mode in azimuth: an oracle.

Hansen & Travis, Space Sci. Rev. 16, 527 (1974), section 3; de Haan, Bosma & Hovenier, Astron. Astrophys. 183, 371
(1987). The phase matrix is made from amplitudes: an electric vector is projected on the plane of scattering, multiplied
by (S2, S1), and projected on the meridian plane of the exit; no Stokes vector is ever rotated. All four operators of a
layer are kept, so that no symmetry is assumed. numpy only, nothing of the walk.
"""

from functools import lru_cache

import numpy as np
from numpy.polynomial.legendre import leggauss

DOUBLINGS = 15  # of a first layer that the rule of the midpoint describes, to the square of its thickness
AZIMUTHS = 24
MODES = 3  # of the azimuth: 0, 1, 2
TURN = np.array([1, 1, 1j, 1j])  # in units of which every mode is real: U and V are odd where I and Q are even
# (I, Q, U, V) = PAULI @ (E1 E1*, E1 E2*, E2 E1*, E2 E2*), V = 2 Im(E1 E2*)
PAULI = np.array([[1, 0, 0, 1], [1, 0, 0, -1], [0, 1, 1, 0], [0, -1j, 1j, 0]])


def mueller(jones: np.ndarray) -> np.ndarray:
    """Mueller matrices [..., 4, 4] of Jones matrices [..., 2, 2]."""
    both = np.einsum("...ij,...kl->...ikjl", jones, jones.conj()).reshape(*jones.shape[:-2], 16)
    basis = np.kron(PAULI, np.linalg.inv(PAULI).T)  # PAULI @ both @ PAULI^-1, as one product
    return (both @ basis.T).real.reshape(*jones.shape[:-2], 4, 4)


def stokes_of(field):
    """I, Q, U, V [4, ...] of electric vectors [..., 2]."""
    one, two = field[..., 0], field[..., 1]
    both = one * two.conj()
    return np.array([abs(one) ** 2 + abs(two) ** 2, abs(one) ** 2 - abs(two) ** 2, 2 * both.real, 2 * both.imag])


def directions(cosine, azimuth) -> np.ndarray:
    """e_theta, e_phi, e_r along the last axis but one, [..., 3, 3]."""
    s, cp, sp = np.sqrt(np.maximum(1 - cosine**2, 0)), np.cos(azimuth), np.sin(azimuth)
    zero = np.zeros_like(s * cp)
    rows = [[cosine * cp, cosine * sp, -s + zero], [-sp + zero, cp + zero, zero], [s * cp, s * sp, cosine + zero]]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def scattered(amplitudes, out: np.ndarray, into: np.ndarray) -> np.ndarray:
    """Jones matrix [..., 2, 2] between the meridian frames of two directions, each [..., 3, 3]."""
    k, k0 = out[..., 2, :], into[..., 2, :]
    cosine = np.clip(np.sum(k * k0, axis=-1), -1, 1)
    s = np.cross(k0, k)
    size = np.linalg.norm(s, axis=-1, keepdims=True)
    s = np.where(size > 1e-9, s / np.where(size > 1e-9, size, 1), into[..., 1, :])  # straight on or back: any plane
    s1, s2 = amplitudes(cosine)
    parts = []
    for vector, vector0, s_ in ((s, s, s1), (np.cross(s, k), np.cross(s, k0), s2)):
        left = np.einsum("...ai,...i->...a", out[..., :2, :], vector)
        right = np.einsum("...ai,...i->...a", into[..., :2, :], vector0)
        parts.append(s_[..., None, None] * left[..., :, None] * right[..., None, :])
    return parts[0] + parts[1]


def rayleigh(cosine):
    """S1, S2 of a dipole, (|S1|^2 + |S2|^2)/2 the phase function of integral 2 over the cosine."""
    return np.sqrt(1.5) * np.ones_like(cosine), np.sqrt(1.5) * cosine


@lru_cache(maxsize=32)
def solved(layers, m, mu0=1.0, n=1.0, seen=()):
    """`Slab`, remembered."""
    return Slab(layers, m, mu0, n, seen)


def added(upper, lower):
    """Operators of two slabs one on the other."""
    r, t, r_, t_ = upper
    s, u, s_, u_ = lower
    one = np.eye(len(r))
    down, up = np.linalg.inv(one - r_ @ s), np.linalg.inv(one - s @ r_)
    return r + t_ @ up @ s @ t, u @ down @ t, s_ + u @ down @ r_ @ u_, t_ @ up @ u_


@lru_cache(maxsize=8)
def phase_modes(amplitudes, mu: tuple) -> dict:
    """(up, up0) -> real [MODES, n, n, 4, 4]: means of the phase matrix over azimuth times exp(-i m phi), over TURN.

    Its indices are the direction out and the direction in, each upward (-1) or downward (1).
    """
    phi, mu_ = 2 * np.pi * np.arange(AZIMUTHS) / AZIMUTHS, np.array(mu)
    waves = np.exp(-1j * np.arange(MODES)[:, None] * phi) / AZIMUTHS
    found = {}
    for up in (1, -1):
        for up0 in (1, -1):
            out = directions(up * mu_[:, None, None], phi[None, None, :])
            into = directions(up0 * mu_[None, :, None], np.zeros((1, 1, 1)))
            full = mueller(scattered(amplitudes, out, into))
            mode = np.tensordot(waves, full, axes=(1, 2)) * TURN / TURN[:, None]
            assert np.abs(mode.imag).max() < 1e-12 * np.abs(mode).max()
            found[up, up0] = mode.real
    return found


class Slab:
    """Operators for the azimuthal mode ``m`` of ``layers`` of one index, each (amplitudes, optical thickness, albedo).

    Directions: Gauss points (apart below and above the critical angle of index ``n``), then ``seen`` (cosines inside,
    where the result is wanted), then the beam ``mu0``, in which no scattered light ever is.
    """

    def __init__(self, layers, m, mu0=1.0, n=1.0, seen=(), count=12):
        critical = np.sqrt(1 - 1 / n**2)
        x, w = leggauss(count)
        parts = [(0.0, critical), (critical, 1.0)] if critical > 0 else [(0.0, 1.0)]
        gauss = np.concatenate([low + (high - low) * (x + 1) / 2 for low, high in parts])
        weights = np.concatenate([(high - low) / 2 * w for low, high in parts])
        self.mu = np.concatenate([gauss, seen, [mu0]])
        self.weight = np.concatenate([weights, np.zeros(len(seen)), [1.0]])
        self.n, self.m, self.gauss, self.seen = n, m, len(gauss), slice(len(gauss), -1)
        self.operators = self._layer(*layers[0])
        for layer in layers[1:]:
            self.operators = added(self.operators, self._layer(*layer))

    def _layer(self, amplitudes, tau, albedo):
        """(r, t) for light from above and (r, t) for light from below of one layer."""
        size, thin = 4 * len(self.mu), tau / 2.0**DOUBLINGS
        z = {}
        for way, modes in phase_modes(amplitudes, tuple(self.mu)).items():
            mode = np.swapaxes(modes[self.m], 1, 2)  # direction and parameter out, direction and parameter in
            mode = mode * (albedo / 2 * thin * self.weight[None, None, :, None] / self.mu[:, None, None, None])
            mode[-1] = 0  # nothing is scattered into the beam
            z[way] = mode.reshape(size, size)
        # (down at the bottom, up at the top) - (down at the top, up at the bottom) = loss @ their mean
        loss = np.block([[z[1, 1], z[1, -1]], [z[-1, 1], z[-1, -1]]]) - np.diag(
            np.tile(np.repeat(thin / self.mu, 4), 2)
        )
        both = np.linalg.solve(np.eye(2 * size) - loss / 2, np.eye(2 * size) + loss / 2)
        found = both[size:, :size], both[:size, :size], both[:size, size:], both[size:, size:]
        for _ in range(DOUBLINGS):
            found = added(found, found)
        return found

    def faces(self, cosine):
        """Jones matrices of reflection and Mueller matrices of transmission from inside, at ``cosine``."""
        beyond = np.sqrt(1 - self.n**2 * (1 - cosine**2) + 0j)
        beyond = np.where(beyond.imag < 0, -beyond, beyond)
        r_s = (self.n * cosine - beyond) / (self.n * cosine + beyond)
        r_p = (cosine - self.n * beyond) / (cosine + self.n * beyond)
        zero = np.zeros_like(r_s)
        mirror = np.stack([np.stack([r_p, zero], -1), np.stack([zero, r_s], -1)], -2)
        passing = beyond.real / (self.n * cosine)
        t = np.sqrt(passing)[..., None] * np.stack(
            [2 * self.n * cosine / (cosine + self.n * beyond), 2 * self.n * cosine / (self.n * cosine + beyond)], -1
        )
        return mirror, mueller(t[..., :, None] * np.eye(2))

    def light(self, stokes):
        """Upward light at the top and downward light at the bottom, inside, [directions, 4] complex.

        The beam carries the Stokes vector ``stokes`` inside, per area across it; S(phi) is the sum over m of
        exp(i m phi) times these.
        """
        size = 4 * len(self.mu)
        jones, _ = self.faces(self.mu)
        mirror = np.zeros((len(self.mu), 4, len(self.mu), 4))
        for i, one_ in enumerate(mueller(jones)):
            mirror[i, :, i] = (one_ * TURN / TURN[:, None]).real
        mirror, one = mirror.reshape(size, size), np.eye(size)
        beam = np.zeros(size, complex)
        beam[-4:] = np.asarray(stokes) / TURN / (2 * np.pi)
        r, t, r_, t_ = self.operators
        zero = np.zeros((size, size))
        system = np.block(
            [
                [one, -mirror, zero, zero],  # down at the top, up at the top, down at the bottom, up at the bottom
                [-r, one, zero, -t_],
                [-t, zero, one, -r_],
                [zero, zero, -mirror, one],
            ]
        )
        found = np.linalg.solve(system, np.concatenate([beam, np.zeros(3 * size)]))
        _, up, down, _ = found.reshape(4, len(self.mu), 4) * TURN
        return up, down

    def outside(self, light):
        """What leaves of ``light``: flux per 2 pi and cosine inside at every direction, [directions, 4]."""
        _, passing = self.faces(self.mu)
        return self.mu[:, None] * np.einsum("iab,ib->ia", passing, light)

    def flux(self, light):
        """Scattered flux of mode 0, meridian Stokes vectors added up over all directions, [4]."""
        out = self.outside(light)[: self.gauss]
        return 2 * np.pi * (self.weight[: self.gauss] @ out).real

    def straight(self, light):
        """Flux of the beam of mode 0 outside, [4]: what was never scattered (along the normal only)."""
        return 2 * np.pi * self.outside(light)[-1].real


def semi_infinite(mu, mu0, albedo: float, count: int = 48, rounds: int = 4000) -> np.ndarray:
    """Mode 0 of a Rayleigh half-space by H matrices: (I_l, I_r) at ``mu`` for (F_l, F_r) of flux pi F at ``mu0``.

    I = albedo/4 mu0/(mu + mu0) A(mu) H(mu) H(mu0)^T A(mu0)^T F, H(mu) = 1 + mu H(mu) int H^T Psi/(mu + mu') dmu',
    Psi = albedo/2 A^T A, with A A^T the phase matrix of Chandrasekhar, Radiative Transfer (1950), section 17.
    """
    x, w = leggauss(count)
    x, w = (x + 1) / 2, w / 2

    def a(m):
        m = np.asarray(m)
        rows = [[m * m, np.sqrt(2) * (1 - m * m)], [np.ones_like(m), np.zeros_like(m)]]
        return np.sqrt(0.75) * np.moveaxis(np.array(rows), (0, 1), (-2, -1))

    psi = albedo / 2 * np.swapaxes(a(x), -1, -2) @ a(x)

    def h_at(m, h):
        kernel = np.einsum("j,jba,jbc,ij->iac", w, h, psi, m[:, None] / (m[:, None] + x[None, :]))
        return np.linalg.inv(np.eye(2) - kernel)

    h = np.broadcast_to(np.eye(2), (count, 2, 2))
    for _ in range(rounds):
        h = (h + h_at(x, h)) / 2
    mu = np.atleast_1d(np.asarray(mu, float))
    left, right = a(mu) @ h_at(mu, h), a(np.array([mu0])) @ h_at(np.array([mu0]), h)
    return albedo / 4 * mu0 / (mu + mu0)[:, None, None] * (left @ np.swapaxes(right, -1, -2))


def by_angle(layers, stokes, bins: int, mu0=1.0, n=1.0):
    """Exact Fourier coefficients per exit bin, reflected and transmitted, each [angles, 5, 4] 1/sr, and the fluxes.

    Of strayed light: light along the normal that was reflected but not scattered is in the first bin.
    """
    edges, (x, w) = np.cos(np.linspace(0, np.pi / 2, bins + 1)), leggauss(3)
    out = ((edges[:-1, None] + edges[1:, None]) + (edges[:-1, None] - edges[1:, None]) * x) / 2
    weight = w / 2 * np.ones_like(out)  # the mean over a bin of equal solid angles
    seen = np.sqrt(1 - (1 - out**2) / n**2).ravel()
    found, fluxes = np.zeros((2, bins, 5, 4)), []
    for m in (0, 2) if mu0 == 1 else (0, 1, 2):
        one = solved(layers, m, mu0, n, tuple(seen))
        for side, light in enumerate(one.light(stokes)):
            some = one.outside(light)[one.seen] * (out.ravel() / (n**2 * seen))[:, None]
            some = np.einsum("bq,bqs->bs", weight, some.reshape(*out.shape, 4))
            if m == 0:
                found[side, :, 0] = some.real
                straight = one.straight(light)
                if side:
                    depth = sum(layer[1] for layer in layers)
                    straight = straight - mu0 * np.exp(-depth / mu0) * (1 - ((n - 1) / (n + 1)) ** 2) * np.asarray(
                        stokes
                    )
                found[side, 0] += delta(straight, side) / (2 * np.pi * (1 - edges[1]))
                fluxes.append(one.flux(light) + straight)
            else:
                found[side, :, 2 * m - 1] += 2 * some.real
                found[side, :, 2 * m] -= 2 * some.imag
    return found, fluxes


def delta(stokes, down):
    """Fourier coefficients [5, 4] by meridian plane of light along the normal: this Stokes vector in the lab."""
    i, q, u, v = stokes
    sign, zero = (1 if down else -1), np.zeros(4)
    return np.array([[i, 0, 0, v], zero, zero, [0, q, u, 0], [0, sign * u, -sign * q, 0]])
