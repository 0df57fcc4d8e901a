"""Total-variation reconstruction, its weight from the noise alone: offered to both sides of a comparison or to neither.

    u = argmin sum (u - f)^2/(2 var) + weight/s TV(u),  1/s^2 = <1/var>

Rudin, Osher & Fatemi, Physica D 60, 259 (1992), with each superpixel weighted by its noise. An image is worked on when
it is done: nothing here is differentiable.
"""

import numpy as np
from scipy.optimize import minimize_scalar
from skimage.restoration import denoise_tv_chambolle

from qtwin.core.errors import UserError
from qtwin.core.random import numpy_generator

STEPS = (
    100  # of Chambolle's projection (J. Math. Imaging Vis. 20, 89 (2004)): always as many, so that the map is smooth
)
ROUNDS = 40  # of accelerated steps, at most
LIGHTEST, HEAVIEST = 0.01, 10.0  # weights among which is chosen


def total_variation(image, variance, weight: float) -> np.ndarray:
    """The minimiser u [n, n] for an image f of independent noise ``variance`` [n, n]; ``weight`` 0 returns the image.

    Accelerated forward-backward steps of max(1/var) (Beck & Teboulle, SIAM J. Imaging Sci. 2, 183 (2009)), of
    scikit-image's denoise_tv_chambolle each: one where all superpixels are equally noisy; where variances differ by
    more than 100, ROUNDS of them do not quite converge. The mean weighted by 1/var is that of the image. Take
    ``variance`` from the law of the noise or from a mean over exposures: one that follows the same counts favours
    those that came out low.
    """
    f, var = _checked(image, variance)
    if not 0 <= weight < np.inf:
        raise UserError(f"weight: got {weight!r}, accepted is a finite number of 0 or more")
    if weight == 0:
        return f
    pull = var.min() / var
    strength = weight * var.min() * np.sqrt(np.mean(1 / var))
    u = ahead = f
    momentum = 1.0
    for _ in range(min(ROUNDS, 1 + int(np.ceil(4 * (pull.min() ** -0.5 - 1))))):
        last, before = u, momentum
        u = denoise_tv_chambolle(ahead - pull * (ahead - f), weight=strength, eps=0, max_num_iter=STEPS)
        momentum = (1 + np.sqrt(1 + 4 * before**2)) / 2
        ahead = u + (before - 1) / momentum * (u - last)
    return u + np.average(f - u, weights=1 / var)


def unbiased_risk(image, variance, weight: float, *, key) -> float:
    """SURE = sum (u - f)^2/var - n^2 + 2 tr(du/df): its mean is that of sum (u - T)^2/var, without the true T.

    Stein, Ann. Stat. 9, 1135 (1981); the trace from one random step (Ramani, Blu & Unser, IEEE Trans. Image
    Process. 17, 1540 (2008)) of 2/(n^2)^0.3 standard deviations (Deledalle et al., SIAM J. Imaging Sci. 7, 2448 (2014),
    as quoted by users of it). The key's draw is the same for every weight. Normal independent noise.
    """
    f, var = _checked(image, variance)
    sigma, step = np.sqrt(var), 2 / f.size**0.3
    sign = numpy_generator(key, "risk").choice([-1.0, 1.0], f.shape)
    u = total_variation(f, var, weight)
    moved = total_variation(f + step * sigma * sign, var, weight)
    trace = np.sum(sign * (moved - u) / (step * sigma))
    return float(np.sum((u - f) ** 2 / var) - f.size + 2 * trace)


def best_weight(image, variance, *, key) -> float:
    """Weight of the least `unbiased_risk`, to 5 %: a rule that knows the noise and not the object."""
    found = minimize_scalar(
        lambda log: unbiased_risk(image, variance, np.exp(log), key=key),
        bounds=np.log([LIGHTEST, HEAVIEST]),
        method="bounded",
        options={"xatol": 0.05},
    )
    return float(np.exp(found.x))


def regularise(image, variance, *, key) -> np.ndarray:
    """`total_variation` with the `best_weight`: image and variance of it [n, n] -> image [n, n]."""
    return total_variation(image, variance, best_weight(image, variance, key=key))


def _checked(image, variance) -> tuple[np.ndarray, np.ndarray]:
    f, var = np.asarray(image, float), np.asarray(variance, float)
    if f.ndim != 2 or not np.isfinite(f).all():
        raise UserError(f"image: got shape {f.shape}, accepted are finite numbers [n, n]")
    if var.shape not in ((), f.shape) or not (np.isfinite(var).all() and (var > 0).all()):
        raise UserError(f"variance: accepted are finite numbers greater than 0, one or {list(f.shape)}")
    return f, np.broadcast_to(var, f.shape)
