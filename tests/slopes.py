"""Derivatives against central differences, from one compiled function."""

import jax
import jax.numpy as jnp
import numpy as np


def check_slopes(read, x, h=1e-5, rtol=1e-6, atol=1e-8):
    """d read/d x_j by forward mode equals (read(x + h e_j) - read(x - h e_j))/2h, every x_j [n] read by something."""
    both = jax.jit(lambda x, direction: jax.jvp(read, (x,), (direction,)))
    zero = jnp.zeros_like(x)
    for j in range(len(x)):
        unit = zero.at[j].set(1)
        slope = np.asarray(both(x, unit)[1])
        difference = (np.asarray(both(x + h * unit, zero)[0]) - np.asarray(both(x - h * unit, zero)[0])) / (2 * h)
        np.testing.assert_allclose(slope, difference, rtol=rtol, atol=atol, err_msg=f"by number {j}")
        assert np.any(slope != 0), f"number {j} is not read"
