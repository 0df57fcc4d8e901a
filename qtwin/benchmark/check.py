"""One exposure carried photon by photon, held against the means of the walk by z-scores."""

from typing import NamedTuple

import numpy as np

from qtwin.estimator import twin_beams
from qtwin.estimator.linear import Calibration, estimate
from qtwin.metrics.advantage import pooling, smoothing
from qtwin.tissue.walk import BLOCKS


class Check(NamedTuple):
    """z-scores, name -> z; each is standard normal if both readings tell the same story."""

    z: dict


def _walk_error(blocks: np.ndarray) -> np.ndarray:
    return blocks.std(axis=0, ddof=1) / np.sqrt(BLOCKS)


def carried_check(twin, sampled, expectation, blocks, weights, protocols) -> Check:
    """z of the total, of chi^2 over superpixels, and of the pooled variance of the correlated estimate.

    Errors: the counts' own variance and the walk's. The pooled variance tests the pairing: it would be larger
    if partners were lost that the means do not know of.
    """
    z = {}
    scale = {
        "twin_beams": float(
            expectation.setting.incident
            * twin_beams.response(twin.camera, expectation.setting.time)
            * twin.optics.collection_transmission
        ),
        "ghost": None,
    }
    for name in protocols:
        records = getattr(expectation, name)
        x, y = (np.asarray(a, float) for a in getattr(sampled, name))
        own = np.asarray(blocks.direct if name == "twin_beams" else blocks.ghost, float)
        mean = np.asarray(records.x)
        if scale[name] is not None:
            factor = scale[name]
        else:
            factor = mean.sum() / max(own.mean(axis=0).sum(), 1e-300)
        shared = factor * _walk_error(own)
        own_x, own_y = (
            mean + np.asarray(noise) for mean, noise in ((records.x, records.noise_x), (records.y, records.noise_y))
        )
        total_error = np.sqrt(own_x.sum() + (factor * _walk_error(own.sum(axis=(1, 2)))) ** 2)
        z[f"{name}: signal total"] = float((x.sum() - mean.sum()) / total_error)
        variance = own_x + shared**2
        terms = (x - mean) ** 2 / variance
        spread = np.sum(2 + 1 / np.maximum(mean, 1e-12))
        z[f"{name}: signal image"] = float((terms.sum() - mean.size) / np.sqrt(spread))
        idler = np.asarray(records.y)
        z[f"{name}: idler total"] = float((y.sum() - idler.sum()) / np.sqrt(own_y.sum()))
        arm = "optimal" if name == "twin_beams" else "ratio"
        cal: Calibration = twin.calibration(arm, expectation)
        law = pooling(records, cal, weights, smoothing(None, mean.shape[0]))
        guess = np.asarray(estimate(x, y, cal))
        target = np.asarray((records.x - cal.background) / cal.gain)
        q = float(np.sum(weights * ((guess - target) ** 2 - (shared / np.asarray(cal.gain)) ** 2)))
        z[f"{name}: variance of the estimate"] = (q - law.mean) / (law.mean * np.sqrt(2 / law.dof + law.excess))
    return Check(z)
