"""Time that sources and modes take on one core once compiled, as a ratio to a plain NumPy job of the same run::

    python scripts/source_speed.py

The yardstick is NumPy's complex singular value decomposition of 256 x 256 numbers: it tells machines apart.
"""

import os
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qtwin.modes.counts import counts
from qtwin.modes.gaussian import squeezed
from qtwin.modes.operations import interferometer, loss
from qtwin.source import SPDC
from qtwin.source.joint_spectrum import JointSpectrum, schmidt
from qtwin.source.nonlinear_crystal import Crystal
from qtwin.source.phase_matching import Interaction, poling_period
from qtwin.source.tuning import matched_signal

PAIRS = 1_000_000
KTP = Interaction("KTP", "yyz", order=-1)


def seconds(job, repeats: int = 5) -> float:
    """Least of ``repeats`` runs after one that compiles."""
    jax.block_until_ready(job())
    took = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(job())
        took.append(time.perf_counter() - start)
    return min(took)


def main() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(256, 256)) + 1j * rng.normal(size=(256, 256))
    unit = seconds(lambda: np.linalg.svd(matrix))

    period = poling_period(KTP, 791e-9, 1582e-9, temperature=303.15)
    made = JointSpectrum(Crystal(KTP, 20e-3, 303.15, period=period), 791e-9, 1582e-9, 0.55e-9)
    amplitude = eqx.filter_jit(JointSpectrum.amplitude)
    modes = jax.jit(schmidt)

    def pure(four):
        where = [lambda s: s.crystal.length, lambda s: s.crystal.temperature]
        where += [lambda s: s.pump_bandwidth, lambda s: s.pump_wavelength]
        return eqx.tree_at(lambda s: [w(s) for w in where], made, list(four)).purity()

    four = (jnp.float64(20e-3), jnp.float64(303.15), jnp.float64(0.55e-9), jnp.float64(791e-9))
    value, gradient = jax.jit(pure), jax.jit(jax.value_and_grad(pure))
    evaluation, slopes = seconds(lambda: value(four)), seconds(lambda: gradient(four))

    source = SPDC(405e-9, 810e-9, 2e-3, 0.5e-3, 3e-3, 10e-9)
    draw = eqx.filter_jit(lambda s, key: s.sample(PAIRS, key=key))
    pairs = seconds(lambda: draw(source, jax.random.key(1)))

    unitary, _ = np.linalg.qr(rng.normal(size=(200, 200)) + 1j * rng.normal(size=(200, 200)))

    @jax.jit
    def network(r, unitary):
        return counts(loss(interferometer(squeezed(r), unitary), 0.7, 0.01))

    strength, unitary = jnp.full(200, 0.4), jnp.asarray(unitary)
    gaussian = seconds(lambda: network(strength, unitary))
    angles = jnp.linspace(0.49, 0.52, 200)
    tuning = seconds(lambda: matched_signal(Interaction("BBO", "eoo"), 405e-9, angle=angles))

    rows = [
        ("joint spectrum, 256 x 256, and its Schmidt modes", seconds(lambda: modes(amplitude(made)))),
        ("its purity", evaluation),
        (f"purity with four derivatives ({slopes / evaluation:.1f} values)", slopes),
        (f"{PAIRS:.0e} pairs of rays ({PAIRS / pairs:.2g} per second)", pairs),
        ("200 modes: squeezers, network, loss, covariance of counts", gaussian),
        ("tuning curve of 200 points", tuning),
    ]
    print(f"NumPy: complex singular values, 256 x 256: {unit * 1e3:.1f} ms")
    for name, took in rows:
        print(f"{name:62} {took * 1e3:9.1f} ms  {took / unit:6.2f} of NumPy's")


if __name__ == "__main__":
    main()
