"""Derivatives against central differences, from one compiled function; and compilation for what is called once."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

# half the time to compile, slow code
once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def check_slopes(read, x, h=1e-5, rtol=1e-6, atol=1e-8):
    """d read/d x_j by forward mode equals (read(x + h e_j) - read(x - h e_j))/2h, every x_j [n] read by something."""
    both = once(lambda x, direction: jax.jvp(read, (x,), (direction,)))
    zero = jnp.zeros_like(x)
    for j in range(len(x)):
        unit = zero.at[j].set(1)
        slope = np.asarray(both(x, unit)[1])
        difference = (np.asarray(both(x + h * unit, zero)[0]) - np.asarray(both(x - h * unit, zero)[0])) / (2 * h)
        np.testing.assert_allclose(slope, difference, rtol=rtol, atol=atol, err_msg=f"by number {j}")
        assert np.any(slope != 0), f"number {j} is not read"


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
