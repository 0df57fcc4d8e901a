"""The elementary operations in which a law of physics is written once, to be read by two compilers.

A law is a function of an `Elementary`: given `XLA` it works on jax arrays (graphics processors, derivatives);
given `qtwin.core.compiled.CPU` the same lines become one vectorised loop of machine code.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp


class Elementary(NamedTuple):
    """What a law may use besides + - * / and comparisons."""

    where: Callable  # where(condition, a, b), both sides evaluated
    sqrt: Callable
    log: Callable
    number: Callable  # a real constant of the law
    word: Callable  # to a 32-bit unsigned integer
    real: Callable  # 32-bit unsigned integer -> float32
    compile: Callable  # decorator of every function of a law


XLA = Elementary(
    jnp.where, jnp.sqrt, jnp.log, float, jnp.uint32, lambda x: x.astype(jnp.float32), lambda function: function
)
