"""Counting statistics of a run in the form of a report: noise reduction factor, CAR, heralding efficiencies.

The estimators are those of `qtwin.correlation`; here they are given what a run has, which is counts of exposures.
"""

from typing import NamedTuple

import numpy as np

from qtwin.core.errors import UserError
from qtwin.core.records import Estimate, Frames
from qtwin.correlation.accidentals import from_singles
from qtwin.correlation.counting import Coincidences, Ratio
from qtwin.correlation.covariance_image import noise_reduction
from qtwin.correlation.efficiency import NONE, Efficiencies, car, efficiencies

BATCHES = 12  # of the exposures, from whose scatter an error comes


def jackknife(left) -> np.ndarray:
    """sqrt((K - 1)/K sum (t_k - <t>)^2) of the K values t_k [K, ...] that are found without one of K exposures.

    Quenouille, Biometrika 43, 353 (1956), and Tukey (from memory). Infinite where a value is not finite.
    """
    left = np.asarray(left, float)
    finite = np.isfinite(left).all(axis=0)
    safe = np.where(finite, left, 0.0)
    spread = np.sqrt((len(left) - 1) / len(left) * np.sum((safe - safe.mean(axis=0)) ** 2, axis=0))
    return np.where(finite, spread, np.inf)


def noise_reduction_of(x, y) -> Estimate:
    """F_nr = sum Var(x - y)/sum <x + y> over superpixels, of counts [exposures, n, n] of both arms; whatever they hold.

    `qtwin.correlation.covariance_image.noise_reduction` with batches that suit the number of exposures, 4 or more.
    """
    x, y = np.asarray(x), np.asarray(y)
    if len(x) < 4:
        raise UserError(f"budget.exposures: got {len(x)}, a noise reduction factor with its error needs 4 or more")
    found = noise_reduction([Frames(x)], [Frames(y)], batch=max(2, len(x) // BATCHES))
    return Estimate(float(found.value[0]), float(found.error[0]))


class Heralding(NamedTuple):
    """What coincidences and singles say of the pairs."""

    car: Ratio  # C/A, gross
    efficiencies: Efficiencies  # of the starting and of the stopping arm, without the sample's share taken out


def heralding(
    coincidences: int,
    starts: int,
    stops: int,
    window: float,
    time: float,
    dark_start: Estimate = NONE,
    dark_stop: Estimate = NONE,
) -> Heralding:
    """CAR = C/A and Klyshko's eta_stop = (C - A)/(S_start - D_start), A = S_start S_stop tau_w/T: continuous light.

    Gross coincidences of all pairs of clicks within the full ``window`` (s) and clicks of either arm in ``time`` (s);
    counts of several exposures or of all pixels of an arm are summed, and so are their times (of exposures) and dark
    counts D. Errors: `qtwin.correlation.efficiency`. UserError where nothing was counted beyond the accidentals.
    """
    for name, value in (("window", window), ("time", time)):
        if not 0 < value < np.inf:
            raise UserError(f"{name}: got {value!r} s, accepted is a finite number greater than 0")
    tick, span = round(window * 1e12), round(time * 1e12)
    pairs = Coincidences((0, 1), "all pairs", tick, int(coincidences), int(starts), int(stops), span)
    accidentals = from_singles(pairs)
    return Heralding(car(pairs, accidentals), efficiencies(pairs, accidentals, dark_start, dark_stop))
