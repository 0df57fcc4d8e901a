"""Derivatives by central differences, to hold the automatic ones against; and compilation for functions called once."""

from functools import partial

import jax
import numpy as np

# half the time to compile, slow code
once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def gradient_error(function, *points, step=1e-5):
    """Greatest |derivative - central difference| over the greatest derivative, of a scalar function of [P]."""
    both, errors = once(jax.value_and_grad(function)), []
    for x in np.asarray(points, float):
        found = np.asarray(both(x)[1])
        shifts = step * np.diag(np.maximum(np.abs(x), 1e-2))
        slopes = [(float(both(x + s)[0]) - float(both(x - s)[0])) / (2 * s.sum()) for s in shifts]
        assert np.all(np.isfinite(found)) and np.all(found != 0)
        errors.append(np.max(np.abs(found - slopes)) / np.max(np.abs(slopes)))
    return max(errors)
