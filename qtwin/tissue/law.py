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
    angles: Callable
    fly: Callable
    versine: Callable
    score: Callable
    turn: Callable
    reflectance: Callable
    uniform: Callable
    choose: Callable


PATH, POINT, ROULETTE = (np.uint32(i << 30) for i in (0, 2, 1))  # purposes for which an event draws, see `draw`


def law(do: Elementary) -> Law:
    """The law in the operations of one compiler."""
    where, sqrt, word, real = do.where, do.sqrt, do.word, do.real
    random, phase, reflectance = counter(do), henyey_greenstein(do), interface(do)
    threefry, uniform, exponential = random
    zero, one, two, three = (do.number(i) for i in range(4))
    half, fine, coarse, wide = do.number(0.5), do.number(2**-32), do.number(2**-16), do.number(2**-15)
    level, edge, low = do.number(1e-7), do.number(1 - 2**-16), np.uint32(0xFFFF)
    s1, s3, s5, s7, s9 = (do.number(c) for c in _SINE)
    c0, c2, c4, c6, c8, c10 = (do.number(c) for c in _COSINE)

    @do.compile
    def draw(k0, k1, photon, event, purpose):
        """Two random words of a photon's event, for one purpose.

        For the PATH: the free path, and either the two angles or the luck at a face.
        """
        return threefry(k0, k1, photon, word(event | purpose))

    @do.compile
    def angles(b1):
        """(u, h): uniform on (0, 1) for the deflection, on (-1, 1) for the azimuth over pi, 2^16 values each.

        Means over the angles are then midpoint sums: the relative error of 1 - <cosine> is below 1e-10/(1 - |g|)^2,
        which is 1e-6 at 0.99 and 1e-4 at 0.999.
        """
        return (real(b1 >> word(16)) + half) * coarse, real(b1 & low) * wide - edge

    @do.compile
    def fly(z, uz, top, bottom, mu_s, b0):
        """Exponential free path, cut at the face ahead: (step, whether it ends on the face, z at its end)."""
        down = uz > zero
        rise = where(down, uz, -uz)
        rise = where(rise > level, rise, level)
        gap = where(down, bottom - z, z - top)
        gap = where(gap > zero, gap, zero)
        free = exponential(b0)
        hits = gap * mu_s <= free * rise
        step = where(hits, gap, free) / where(hits, rise, mu_s)
        return step, hits, where(hits, where(down, bottom, top), z + uz * step)

    @do.compile
    def turn(ux, uy, uz, versine, h):
        """Direction after a deflection by arccos(1 - versine), azimuth pi h.

        The azimuth is counted in a frame about u that has no pole: Duff et al., J. Comput. Graph. Tech. 6, 1 (2017).
        """
        q = h * h
        half_sine = h * (s1 + q * (s3 + q * (s5 + q * (s7 + q * s9))))
        half_cosine = c0 + q * (c2 + q * (c4 + q * (c6 + q * (c8 + q * c10))))
        square = versine * (two - versine)
        sine = sqrt(where(square > zero, square, zero))
        a, b = sine * (one - two * half_sine * half_sine), sine * (two * half_sine * half_cosine)
        down = uz > zero
        along = a * ux + b * uy
        kept = one - versine - along / (one + where(down, uz, -uz))
        x, y = kept * ux + a, kept * uy + b
        z = uz - versine * uz - where(down, along, -along)
        norm = half * (three - (x * x + y * y + z * z))  # one step of Newton's keeps the length at 1
        return x * norm, y * norm, z * norm

    @do.compile
    def choose(step, length, b0, b1):
        """Whether a point of this step replaces the one kept of a path of ``length`` so far, and where in the step.

        With probability step/(length + step), and uniformly inside: one point kept of every path, uniform along it.
        """
        return (real(b0) + half) * fine * (length + step) < step, (real(b1) + half) * fine

    return Law(draw, angles, fly, phase.versine, phase.score, turn, reflectance, uniform, choose)
