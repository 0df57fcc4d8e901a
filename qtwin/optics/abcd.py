"""First-order optics: rays, pairs of rays and Gaussian beams through lenses and free space, aligned or not.

A ray is position x and angle theta = k lambda/(2 pi), k its transverse wave vector; on both axes alike

    (x, theta) -> M (x, theta) + e,  M = [[A, B], [C, D]], det M = 1, e the misalignment

(Siegman, Lasers, University Science Books 1986, chapters 15 and 20). Angles are those outside, in air: a plate of
index n and thickness t is `free_space` of t/n. Light order is argument order.
"""

from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp

from qtwin.core.params import Element, efficiency, param, positive, real
from qtwin.modes.checks import number, require, whole
from qtwin.source.biphoton import Moments, Rays


class System(NamedTuple):
    """A first-order system and its misalignment."""

    matrix: jax.Array  # [2, 2] on (x, theta): m, rad
    offset: jax.Array  # [2, 2]: (x, theta), axis


def system(a, b, c, d) -> System:
    """The aligned system of matrix [[a, b], [c, d]]; b in m, c in 1/m."""
    dtype = jnp.result_type(float)
    rows = [[jnp.asarray(x, dtype) for x in row] for row in ((a, b), (c, d))]
    return System(jnp.stack([jnp.stack(row) for row in rows]), jnp.zeros((2, 2), dtype))


def free_space(length) -> System:
    """x -> x + length theta."""
    return system(1, number("length", length, real), 0, 1)


def _focal(length):
    """A focal length, of either sign; FieldError where it is 0."""
    length = number("focal_length", length, real)
    require("focal_length", length != 0, "got 0 m, accepted is any other length")
    return length


def thin_lens(focal_length) -> System:
    """theta -> theta - x/f."""
    return system(1, 0, -1 / _focal(focal_length), 1)


def far_field(focal_length) -> System:
    """From the front to the back focal plane of a lens (2f): x -> f theta, theta -> -x/f."""
    f = _focal(focal_length)
    return system(0, f, -1 / f, 0)


def relay(first, second) -> System:
    """4f: far fields of two lenses in a row, an image at magnification -second/first."""
    return chain(far_field(first), far_field(second))


def chain(*systems: System) -> System:
    """Systems in the order in which light meets them: M = M2 M1, e = M2 e1 + e2."""

    def after(one: System, two: System):
        return System(_dot(two.matrix, one.matrix), _dot(two.matrix, one.offset) + two.offset)

    return reduce(after, systems)


def displaced(ideal: System, shift, tilt, length=0.0) -> System:
    """An element of ``length`` whose own axis enters at ``shift`` (m) under ``tilt`` (rad), each [2].

    e = T(length) (shift, tilt) - M (shift, tilt), T free space (Siegman 1986, section 15.4): a thin lens moved by s
    kicks by s/f.
    """
    axis = jnp.stack([shift, tilt])
    carried = _dot(free_space(length).matrix, axis)
    return System(ideal.matrix, ideal.offset + carried - _dot(ideal.matrix, axis))


class Misalignment(Element):
    """Where a beam goes wrong: (x, theta) -> (x + defocus theta + shift + drift t, theta + tilt + tilt_drift t).

    Put it into a `chain` where the fault sits. Drift is linear in time: slow against an exposure.
    """

    shift_x: jax.Array = param("m", real, "sideways shift of the beam", default=0.0)
    shift_y: jax.Array = param("m", real, "sideways shift of the beam", default=0.0)
    tilt_x: jax.Array = param("rad", real, "tilt of the beam", default=0.0)
    tilt_y: jax.Array = param("rad", real, "tilt of the beam", default=0.0)
    defocus: jax.Array = param("m", real, "distance by which the next element stands too far", default=0.0)
    drift_x: jax.Array = param("m/s", real, "drift of the shift", default=0.0)
    drift_y: jax.Array = param("m/s", real, "drift of the shift", default=0.0)
    tilt_drift_x: jax.Array = param("rad/s", real, "drift of the tilt", default=0.0)
    tilt_drift_y: jax.Array = param("rad/s", real, "drift of the tilt", default=0.0)

    def system(self, time) -> System:
        """The fault at ``time`` (s)."""
        shift = jnp.stack([self.shift_x + self.drift_x * time, self.shift_y + self.drift_y * time])
        tilt = jnp.stack([self.tilt_x + self.tilt_drift_x * time, self.tilt_y + self.tilt_drift_y * time])
        return System(free_space(self.defocus).matrix, jnp.stack([shift, tilt]))


# --- rays and their law --------------------------------------------------------------------------------------------


def in_wave_vectors(ideal: System, wavelength) -> System:
    """The system on (x, k): M = [[A, B l/2 pi], [2 pi C/l, D]], e = (e_x, 2 pi e_theta/l)."""
    unit = jnp.stack([jnp.ones_like(wavelength), 2 * jnp.pi / wavelength])[:, None]
    return System(ideal.matrix * unit / unit.T, ideal.offset * unit)


def carry(ideal: System, rays: Rays) -> Rays:
    """Rays after the system; lossless and exact in paraxial optics."""
    matrix, offset = in_wave_vectors(ideal, rays.wavelength)
    shape = (1,) * (rays.x.ndim - 1) + (2,)
    x = matrix[0, 0] * rays.x + matrix[0, 1] * rays.k + offset[0].reshape(shape)
    k = matrix[1, 0] * rays.x + matrix[1, 1] * rays.k + offset[1].reshape(shape)
    return rays._replace(x=x, k=k)


def carry_pairs(signal: System, idler: System, pairs: Moments, signal_wavelength, idler_wavelength) -> Moments:
    """The normal law of a pair after its two arms: mean -> S mean + e, V -> S V S^T, S = diag(M_s, M_i) on (x, k).

    Exact joint densities at any pair of planes, for the double Gaussian.
    """
    s, i = in_wave_vectors(signal, signal_wavelength), in_wave_vectors(idler, idler_wavelength)
    zero = jnp.zeros_like(s.matrix)
    both = jnp.block([[s.matrix, zero], [zero, i.matrix]])
    mean = _dot(both, pairs.mean) + jnp.concatenate([s.offset, i.offset])
    return pairs._replace(mean=mean, covariance=_dot(_dot(both, pairs.covariance), both.T))


def gaussian_aperture(rays: Rays, radius, *, key) -> Rays:
    """Amplitude transmission exp(-r^2/w^2), w = ``radius``: weight times exp(-2 r^2/w^2), k kicked by a normal of
    std 1/w.

    Exact: t(x + y/2) t(x - y/2) = exp(-2 x^2/w^2) exp(-y^2/2 w^2), whose second factor convolves the Wigner function
    along k with variance 1/w^2 per axis.
    """
    radius = number("radius", radius, positive)
    weight = rays.weight * jnp.exp(-2 * jnp.sum(rays.x**2, axis=-1) / radius**2)
    return rays._replace(weight=weight, k=rays.k + jax.random.normal(key, rays.k.shape, rays.k.dtype) / radius)


def gaussian_aperture_pairs(pairs: Moments, radius, arm: int) -> Moments:
    """The law of pairs behind `gaussian_aperture` in arm 0 (signal) or 1 (idler).

    With u the column of V that belongs to x of this arm and s = w^2/4 + V_xx: V -> V - u u^T/s, mean -> mean - u
    x/s, weight times w^2/(4 s) exp(-|x|^2/2 s), then V_kk + 1/w^2.
    """
    here, radius = 2 * whole("arm", arm, 0, 1), number("radius", radius, positive)
    column, x = pairs.covariance[:, here], pairs.mean[here]
    s = radius**2 / 4 + column[here]
    covariance = pairs.covariance - column[:, None] * column[None, :] / s
    weight = pairs.weight * radius**2 / (4 * s) * jnp.exp(-jnp.sum(x**2) / (2 * s))
    mean = pairs.mean - column[:, None] * x[None, :] / s
    return Moments(mean, covariance.at[here + 1, here + 1].add(1 / radius**2), weight)


def circular_aperture(rays: Rays, radius) -> Rays:
    """Rays beyond ``radius`` of the axis get weight 0.

    The density in this plane is right, and so is the power; diffraction at the edge is left out, so densities in
    later planes lack its rings (`qtwin.optics.point_spread`). No derivative by the radius: `qtwin.source.collection`
    has the smooth law.
    """
    radius = number("radius", radius, positive)
    return rays._replace(weight=jnp.where(jnp.sum(rays.x**2, axis=-1) <= radius**2, rays.weight, 0))


def numerical_aperture(rays: Rays, aperture) -> Rays:
    """Rays whose sine |k| l/(2 pi) exceeds ``aperture`` get weight 0.

    Diffraction is left out as in `circular_aperture`.
    """
    aperture = number("aperture", aperture, efficiency)
    sine2 = jnp.sum(rays.k**2, axis=-1) * (rays.wavelength / (2 * jnp.pi)) ** 2
    return rays._replace(weight=jnp.where(sine2 <= aperture**2, rays.weight, 0))


# --- one axis of the whole set-up ---------------------------------------------------------------------------------


def klyshko(signal: System, idler: System, signal_wavelength, idler_wavelength):
    """From the object back through the signal arm, off the crystal as off a mirror, and down the idler arm, [2, 2]
    on (x, k).

    K = K_i diag(1, -1) K_s^-1: partners of a wide pump share their place of birth and have opposite wave vectors
    (Klyshko, Sov. Phys. Usp. 31, 74 (1988); Pittman et al., Phys. Rev. A 52, R3429 (1995)). An image forms where
    K[0, 1] = 0, of magnification K[0, 0].
    """
    s, i = in_wave_vectors(signal, signal_wavelength).matrix, in_wave_vectors(idler, idler_wavelength).matrix
    inverse = jnp.stack([jnp.stack([s[1, 1], -s[0, 1]]), jnp.stack([-s[1, 0], s[0, 0]])])
    mirror = jnp.asarray([[1.0, 0.0], [0.0, -1.0]], s.dtype)
    return _dot(_dot(i, mirror), inverse)


def ghost_image(object_distance, lens_distance, focal_length, signal_wavelength, idler_wavelength):
    """Thin-lens law of ghost imaging: 1/(d_lens + d_object l_s/l_i) + 1/d_image = 1/f; (d_image, magnification).

    The object stands ``object_distance`` from the crystal in the signal arm, the lens ``lens_distance`` from it in
    the idler arm; unlike wavelengths stretch the signal's way (Rubin & Shih, Phys. Rev. A 78, 033836 (2008)).
    """
    path = lens_distance + object_distance * signal_wavelength / idler_wavelength
    image = 1 / (1 / focal_length - 1 / path)
    return image, -image / path


def waist_beam(waist, wavelength):
    """Complex parameter of a Gaussian beam exp(-r^2/w^2) at its waist: q = i pi w^2/l."""
    waist, wavelength = number("waist", waist, positive), number("wavelength", wavelength, positive)
    return jax.lax.complex(jnp.zeros_like(waist), jnp.pi * waist**2 / wavelength)


def carry_beam(ideal: System, q):
    """q -> (A q + B)/(C q + D), 1/q = 1/R - i l/(pi w^2) (Kogelnik & Li, Appl. Opt. 5, 1550 (1966))."""
    (a, b), (c, d) = ideal.matrix.astype(q.dtype)
    return (a * q + b) / (c * q + d)


def beam_radius(q, wavelength):
    """1/e amplitude radius w of a Gaussian beam, m."""
    return jnp.sqrt(-wavelength / (jnp.pi * (1 / q).imag))


def wavefront_curvature(q):
    """1/R, 1/m; positive where the beam diverges."""
    return (1 / q).real


def _dot(a, b):
    return jnp.matmul(a, b, precision="highest")
