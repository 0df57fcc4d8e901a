"""Numbers that enter a formula: checked where they are concrete, and of the default float type."""

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import FieldError
from qtwin.core.params import Support, is_concrete


def number(field: str, value, support: Support):
    """``value`` as an array of the default float type; FieldError where a concrete one is outside ``support``."""
    if is_concrete(value) and np.asarray(value).dtype.kind not in "fiu":
        raise FieldError(field, f"got {value!r}, accepted is a number {support.words}")
    if is_concrete(value) and not support.contains(value):
        given = f"{float(value):.6g}" if np.ndim(value) == 0 else np.array2string(np.asarray(value), threshold=6)
        finite = "" if np.all(np.isfinite(value)) else "finite "
        raise FieldError(field, f"got {given}, accepted is a {finite}value {support.words}")
    return jnp.asarray(value, jnp.result_type(float))


def amplitude(field: str, value):
    """``value`` as an array of the default complex type; FieldError where a concrete one is not finite."""
    if is_concrete(value) and not np.all(np.isfinite(value)):
        raise FieldError(field, "got a value that is not finite, accepted are finite complex numbers")
    return jnp.asarray(value, jnp.result_type(complex))


def require(field: str, good, problem: str):
    """FieldError where a concrete condition does not hold; a traced one passes unread."""
    if is_concrete(good) and not np.all(good):
        raise FieldError(field, problem)


def turn(angle):
    """e^(i angle), complex."""
    return jax.lax.complex(jnp.cos(angle), jnp.sin(angle))


def whole(field: str, value, low: int, high: int) -> int:
    """``value`` if it is a whole number from ``low`` to ``high``; FieldError otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
        raise FieldError(field, f"got {value!r}, accepted is a whole number from {low} to {high}")
    return int(value)


def of_modes(field: str, value, modes: int):
    """A number per mode: a scalar is repeated; FieldError where the length is another."""
    if value.ndim > 1 or (value.ndim == 1 and value.shape[0] != modes):
        raise FieldError(field, f"got shape {tuple(value.shape)}, accepted is a scalar or [{modes}], one per mode")
    return jnp.broadcast_to(value, (modes,))
