"""The law of one event of the photon walk, written once and read by two compilers.

A photon flies an exponential free path of mean 1/mu_s, is scattered by its medium's phase function, and at an
interface is reflected with the Fresnel probability. Absorption is a weight exp(-mu_a l) along the path, never an event
(Wang, Jacques & Zheng, Comput. Methods Programs Biomed. 47, 131 (1995) describe the walk; the continuous weight is
the "absorption along the path" variant of Sassaroli & Martelli, JOSA A 29, 2110 (2012)).

`law(XLA)` works on arrays (`qtwin.tissue.paths`); `law(CPU)` becomes machine code (`qtwin.tissue.swarm`).
"""

from collections.abc import Callable
from math import log as ln
from typing import NamedTuple

import numpy as np

from qtwin.core.elementary import Elementary
from qtwin.core.random import counter
from qtwin.optics.fresnel import interface
from qtwin.tissue.phase import henyey_greenstein

ROULETTE_BELOW, ROULETTE_ODDS = 1e-3, 10.0
FAINT = -ln(ROULETTE_BELOW)  # absorbed mean paths beyond which the roulette is played
CONSOLATION = ln(ROULETTE_ODDS)  # and how much later it is played again

# sin and cos of (pi/2) h on [-1, 1], odd and even powers of h: Chebyshev interpolation, error below 7e-9
_SINE = (1.57079632, -0.6459637596, 0.07968991833, -0.004674143839, 0.0001516717039)
_COSINE = (1.0, -1.233700545, 0.2536694103, -0.02086293341, 0.0009180047403, -2.393684049e-05)


class Law(NamedTuple):
    """Functions of one photon, elementwise over many."""

    draw: Callable
    fly: Callable
    cosine: Callable
    score: Callable
    turn: Callable
    reflectance: Callable
    uniform: Callable
    choose: Callable


def law(do: Elementary) -> Law:
    """The law in the operations of one compiler."""
    where, sqrt, word = do.where, do.sqrt, do.word
    random, phase, reflectance = counter(do), henyey_greenstein(do), interface(do)
    threefry, uniform, exponential = random
    zero, one, two = do.number(0), do.number(1), do.number(2)
    half, fine = do.number(0.5), do.number(2**-18)
    low = np.uint32(0x1FF)
    real = do.real
    never, level, upright = do.number(1e-30), do.number(1e-7), do.number(0.99999)
    s1, s3, s5, s7, s9 = (do.number(c) for c in _SINE)
    c0, c2, c4, c6, c8, c10 = (do.number(c) for c in _COSINE)

    @do.compile
    def draw(k0, k1, photon, event):
        """Four random words of a photon's event: free path, cosine, azimuth, luck."""
        b0, b1 = threefry(k0, k1, photon, word(event * word(2)))
        b2, b3 = threefry(k0, k1, photon, word(word(event * word(2)) + word(1)))
        return b0, b1, b2, b3

    @do.compile
    def fly(z, uz, top, bottom, mu_s, b0):
        """Exponential free path, cut at the face ahead: (step, whether it ends on the face, z at its end)."""
        down = uz > zero
        rise = where(down, uz, -uz)
        gap = where(down, bottom - z, z - top) / where(rise > level, rise, level)
        gap = where(gap > zero, gap, zero)
        free = exponential(b0) / where(mu_s > never, mu_s, never)
        hits = gap <= free
        step = where(hits, gap, free)
        return step, hits, where(hits, where(down, bottom, top), z + uz * step)

    @do.compile
    def turn(ux, uy, uz, cosine, b2):
        """Direction after a deflection by arccos(cosine) about a uniform azimuth."""
        h = two * uniform(b2) - one
        q = h * h
        half_sine = h * (s1 + q * (s3 + q * (s5 + q * (s7 + q * s9))))
        half_cosine = c0 + q * (c2 + q * (c4 + q * (c6 + q * (c8 + q * c10))))
        rest = one - cosine * cosine
        sine = sqrt(where(rest > zero, rest, zero))
        c, s = sine * (one - two * half_sine * half_sine), sine * (two * half_sine * half_cosine)
        straight = where(uz > zero, uz, -uz) > upright
        side = sqrt(where(straight, one, one - uz * uz))
        inverse = one / side
        x = where(straight, c, (ux * uz * c - uy * s) * inverse + ux * cosine)
        y = where(straight, s, (uy * uz * c + ux * s) * inverse + uy * cosine)
        z = where(straight, where(uz > zero, cosine, -cosine), uz * cosine - side * c)
        norm = one / sqrt(x * x + y * y + z * z)
        return x * norm, y * norm, z * norm

    @do.compile
    def choose(step, length, b0, b1, b2, b3):
        """Whether a point of this step replaces the one kept of a path of ``length`` so far, and where in the step.

        With probability step/(length + step), and uniformly inside: one point kept of every path, uniform along it.
        Uses the low bits that `uniform` leaves (those of the free path decide nothing but its seventh digit).
        """
        u = (real(word(word(b1 & low) << word(9)) | word(b2 & low)) + half) * fine
        part = (real(word(word(b3 & low) << word(9)) | word(b0 & low)) + half) * fine
        return u * (length + step) < step, part

    return Law(draw, fly, phase.sample, phase.score, turn, reflectance, uniform, choose)
