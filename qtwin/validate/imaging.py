"""Evidence on estimators: noise reduction, gains and ghost images of light whose moments the Gaussian states give."""

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.records import Estimate, Frames
from qtwin.correlation.covariance_image import covariance_image
from qtwin.estimator.linear import Calibration, Records, mean, optimal_k, variance
from qtwin.modes.counts import counts, detected, difference_noise
from qtwin.modes.gaussian import two_mode_squeezed
from qtwin.modes.information import coherent_transmission, fock_transmission
from qtwin.modes.noon import coherent_information, noon_information
from qtwin.modes.sampling import thermal_amplitudes, twin_counts
from qtwin.modes.squeezing import detected_noise
from qtwin.validate.pieces import Batched

INCIDENT = 1000.0  # photons per exposure; every ratio below is without it


# --- twin beams ------------------------------------------------------------------------------------------------------


def drawn_noise_reduction(per_mode: float, eta_s: float, eta_i: float, draws: int, seed: int = 0) -> Estimate:
    """Var(n1 - n2)/<n1 + n2> of drawn twin beams of one mode."""
    pair = twin_counts(per_mode, 1.0, eta_s, eta_i, (draws,), key=jax.random.key(seed))
    one, two = (np.asarray(x, float) for x in pair)
    away, total = one - two - per_mode * (eta_s - eta_i), one + two
    value = float(np.mean(away**2) / total.mean())
    return Estimate(value, float(np.std(away**2 - value * total) / total.mean() / np.sqrt(draws)))


def noise_reduction_of_the_state(per_mode: float, eta_s: float, eta_i: float) -> float:
    """The same from the Gaussian state and its loss."""
    moments = counts(two_mode_squeezed(np.arcsinh(np.sqrt(per_mode))))
    mean_counts, covariance = detected(moments[0], moments[1], jnp.asarray([eta_s, eta_i]))
    return float(difference_noise(mean_counts, covariance))


def _one(value) -> jax.Array:
    return jnp.full((1, 1), float(value))


def _records(x, y, joint) -> Records:
    table = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(joint)
    return Records(_one(x), _one(y), table, jnp.asarray(0.0), jnp.asarray(0.0))


def _moments(transmission: float, eta_s: float, eta_i: float, per_mode: float) -> Records:
    """Signal behind the object and idler, thermal pairs of so many per mode, from the Gaussian state."""
    state = counts(two_mode_squeezed(np.arcsinh(np.sqrt(per_mode))))
    efficiencies = jnp.asarray([eta_s * transmission, eta_i])
    seen, covariance = (np.asarray(a) for a in detected(state[0], state[1], efficiencies))
    modes = INCIDENT / per_mode
    made = _records(modes * seen[0], modes * seen[1], modes * covariance[0, 1])
    return made._replace(noise_x=modes * (covariance[0, 0] - seen[0]), noise_y=modes * (covariance[1, 1] - seen[1]))


def thermal_gain(transmission: float, eta_s: float, eta_i: float, per_mode: float) -> float:
    """Photons that a coherent direct image on the same detector needs over those of twin beams with the optimal k.

    For equal variance of the transmission; source mean and efficiencies are known to both sides.
    """
    records, clear = _moments(transmission, eta_s, eta_i, per_mode), eta_s * INCIDENT
    factor = optimal_k(records.joint[1, 1], records.y + records.noise_y)
    quantum = variance(records, Calibration(_one(0), records.y, _one(clear), factor))
    return float(transmission / clear / quantum[0, 0])


def naive_variance(transmission: float, efficiency: float, per_mode: float) -> float:
    """N Var of the naive estimate of alpha = 1 - T, N = detected per arm without the sample, from the state."""
    records = _moments(transmission, efficiency, efficiency, per_mode)
    clear = efficiency * INCIDENT
    return float(variance(records, Calibration(_one(0), records.y, _one(clear), _one(1)))[0, 0] * clear)


def fisher_gain(transmission: float) -> float:
    """Fock states over coherent light: information about T per incident photon, ideal detectors."""
    return float(fock_transmission(transmission, 1.0) / coherent_transmission(transmission, 1.0))


def squeezed_gain(squeezing_db: float, efficiency: float, opponent: str) -> float:
    """Noise over signal power of coherent light over that of squeezed light, same power, homodyne detection.

    ``opponent`` 'same' detectors, or 'ideal' (efficiency 1, whose signal is 1/efficiency greater).
    """
    noise = float(detected_noise(squeezing_db, squeezing_db, efficiency))
    return (1.0 if opponent == "same" else efficiency) / noise


def noon_gain(efficiency: float, opponent: str) -> float:
    """N = 2 per incident photon over coherent light, at the same loss or without loss ('loss-free')."""
    other = efficiency if opponent == "same loss" else 1.0
    return float(noon_information(2, efficiency, efficiency) / 2 / coherent_information(1, other, other))


# --- ghost images ----------------------------------------------------------------------------------------------------


def coincidence_snr(pairs: float, accidentals: float, measured: bool) -> float:
    """(C - A)/sqrt(C + v) of the estimate: A known (v = 0), or measured in one equal delayed window (v = A)."""
    records = _records(pairs + accidentals, 1e9, 0.0)
    if measured:
        records = records._replace(noise_x=jnp.asarray(float(accidentals)))
    calibration = Calibration(_one(accidentals), records.y, _one(1), _one(0))
    return float(mean(records, calibration)[0, 0] / jnp.sqrt(variance(records, calibration)[0, 0]))


def pairs_through(transmission: float) -> float:
    """Coincidences left when both photons of a pair cross a sample, from the Gaussian state, over those without it."""
    moments = counts(two_mode_squeezed(1e-4))

    def together(t):
        seen, covariance = detected(moments[0], moments[1], jnp.asarray([t, t]))
        return covariance[0, 1] + seen[0] * seen[1]

    return float(together(transmission) / together(1.0))


def thermal_ghost_cnr(open_speckles: int, frames: int, images: int, seed: int = 0) -> Batched:
    """(G_in - G_out)/sqrt(var_in + var_out) of drawn covariance images of ``frames`` frames, no shot noise.

    One speckle per pixel; ``open_speckles`` of them reach the bucket, five do not. The error is that of groups of 10
    images, ``images`` in all.
    """
    coherence, groups = jnp.eye(open_speckles + 5, dtype=complex), images // 10
    draw = jax.jit(lambda key: jnp.abs(thermal_amplitudes(coherence, (frames * 10,), key=key)) ** 2)
    inside, outside, found = slice(None, open_speckles), slice(open_speckles, None), []
    for key in jax.random.split(jax.random.key(seed), groups):
        light = np.asarray(draw(key), np.float32)[:, None, :]
        bucket = light[:, :, inside].sum(axis=2, keepdims=True)
        value, error = covariance_image([Frames(light)], [Frames(bucket)], batch=frames)
        spread = error[0] ** 2 * 10
        contrast = value[0, inside].mean() - value[0, outside].mean()
        found.append((contrast, spread[inside].mean() + spread[outside].mean()))
    contrast, spread = np.array(found).T
    value = contrast.mean() / np.sqrt(spread.mean())
    parts = contrast / contrast.mean() - spread / spread.mean() / 2
    return Batched(float(value), float(value * parts.std(ddof=1) / np.sqrt(groups)), groups - 1)
