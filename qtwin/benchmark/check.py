"""One exposure carried photon by photon, held against the means of the walk by z-scores."""

from typing import NamedTuple

import numpy as np

from qtwin.estimator import ghost, twin_beams
from qtwin.estimator.linear import estimate
from qtwin.estimator.protocol import Bench
from qtwin.estimator.response import response
from qtwin.metrics.advantage import pooling, smoothing
from qtwin.tissue.images import Images
from qtwin.tissue.walk import BLOCKS
from qtwin.twin import Sampled


class Check(NamedTuple):
    """z-scores, name -> z; each is standard normal if both readings tell the same story."""

    z: dict


def _walk_error(blocks: np.ndarray) -> np.ndarray:
    return blocks.std(axis=0, ddof=1) / np.sqrt(BLOCKS)


def carried_check(sampled: Sampled, bench: Bench, blocks: Images, weights: np.ndarray, names: set[str]) -> Check:
    """z of the total, of chi^2 over superpixels, and of the pooled variance of the correlated estimate.

    Errors: the counts' own variance and the walk's. The pooled variance tests the pairing: it would be larger
    if partners were lost that the means do not know of.
    """
    z = {}
    eta = response(bench.camera, bench.setting.time) * bench.optics.collection_transmission
    scale = {"twin_beams": float(bench.setting.incident * eta), "ghost": None}
    laws = {"twin_beams": twin_beams.law(bench, "optimal"), "ghost": ghost.law(bench, "ratio")}
    for name, law in laws.items():
        if name not in names:
            continue
        records, cal = law.records, law.calibration
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
        width = np.sqrt(np.sum(2 + 1 / np.maximum(mean, 1e-12)))
        z[f"{name}: signal image"] = float((terms.sum() - mean.size) / width)
        idler = np.asarray(records.y)
        z[f"{name}: idler total"] = float((y.sum() - idler.sum()) / np.sqrt(own_y.sum()))
        spread = pooling(law, weights, smoothing(None, mean.shape[0]))
        guess = np.asarray(estimate(x, y, cal))
        target = np.asarray((records.x - cal.background) / cal.gain)
        q = float(np.sum(weights * ((guess - target) ** 2 - (shared / np.asarray(cal.gain)) ** 2)))
        error = spread.mean * np.sqrt(2 / spread.dof + spread.excess)
        z[f"{name}: variance of the estimate"] = (q - spread.mean) / error
    return Check(z)
