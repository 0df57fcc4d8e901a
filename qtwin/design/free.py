"""Free parameters: dotted keys of traced fields, and the bijection between their values and the whole real line.

    positive  x = e^z        between bounds  x = a + (b - a) s(z)        0 < a, of a positive field  x = a (b/a)^s(z)

s(z) = 1/(1 + e^-z). Unit, support and meaning are read from the field; bounds may narrow the support.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import UserError
from qtwin.core.params import Support
from qtwin.core.units import parse, show

NEAR = 0.002  # of the way between bounds, within which a value has come to one


def leaf(tree: Any, key: str) -> jax.Array:
    """The number or array at a dotted key; ``mu_s.1`` is the second layer's."""
    for name in key.split("."):
        tree = tree[int(name)] if name.isdigit() else tree[name] if isinstance(tree, Mapping) else getattr(tree, name)
    return tree


def put(tree: Any, key: str, value) -> Any:
    """The same tree with another value at a dotted key."""
    place, _, last = key.rpartition(".")
    if last.isdigit():
        value, key = leaf(tree, place).at[int(last)].set(value), place
    return eqx.tree_at(lambda t: leaf(t, key), tree, value)


@dataclass(frozen=True)
class Parameter:
    """One free number: where it stands, its unit, and the open interval in which it may move."""

    key: str
    unit: str
    doc: str
    low: float
    high: float
    ratio: bool  # bounds of a positive quantity: equal steps are equal ratios

    def constrain(self, z):
        """Real number -> value inside the bounds."""
        if self.ratio:
            return self.low * jnp.exp(jnp.log(self.high / self.low) * jax.nn.sigmoid(z))
        return Support("", self.low, self.high).constrain(z)

    def free(self, x):
        """Inverse of ``constrain``."""
        if self.ratio:
            part = jnp.log(x / self.low) / jnp.log(self.high / self.low)
            return jnp.log(part) - jnp.log1p(-part)
        return Support("", self.low, self.high).free(x)

    def edge(self, x: float) -> float | None:
        """The bound that ``x`` has come to; None where it lies between them."""
        if not (isfinite(self.low) and isfinite(self.high)):
            return None
        part = float(jax.nn.sigmoid(self.free(jnp.asarray(x))))
        return self.low if part < NEAR else self.high if part > 1 - NEAR else None

    def shown(self, x, digits: int = 4) -> str:
        return show(float(x), self.unit, digits)


def parameter(key: str, field: Mapping, start: float, bounds: Sequence | None = None) -> Parameter:
    """``field``: metadata of the traced field. UserError where bounds leave the support or exclude the start."""
    support, unit = field["support"], field["unit"]
    low, high = support.low, support.high
    if bounds is not None:
        if not isinstance(bounds, (list, tuple)) or len(bounds) != 2:
            raise UserError(f"{key}: got bounds {bounds!r}, accepted is [low, high]")
        try:
            low, high = (parse(b, unit) for b in bounds)
        except UserError as error:
            raise UserError(f"{key}: {error}") from error
        for end in (low, high):
            if not (isfinite(end) and support.low <= end <= support.high):
                raise UserError(f"{key}: got a bound of {show(end, unit)}, accepted is a value {support.words}")
        if not low < high:
            raise UserError(f"{key}: got bounds {show(low, unit)} to {show(high, unit)}, accepted is low before high")
    if not low < start < high:
        told = f"{show(low, unit)} to {show(high, unit)}"
        raise UserError(f"{key}: starts at {show(start, unit)}, accepted is a start inside its bounds, {told}")
    ratio = bounds is not None and support.low == 0 < low
    return Parameter(key, unit, field["doc"], float(low), float(high), ratio)


@dataclass(frozen=True)
class Free:
    """Several parameters, as one vector."""

    parameters: tuple[Parameter, ...]

    def constrain(self, z):
        """Real vector [D] -> SI values [D]."""
        return jnp.stack([p.constrain(z[i]) for i, p in enumerate(self.parameters)])

    def free(self, x):
        """SI values [D] -> real vector [D]."""
        return jnp.stack([p.free(x[i]) for i, p in enumerate(self.parameters)])

    def values(self, tree) -> np.ndarray:
        """Present SI values [D] in a tree of elements."""
        return np.array([np.asarray(leaf(tree, p.key), float).item() for p in self.parameters])

    def put(self, tree, x):
        """The tree with the values ``x`` [D]."""
        for i, p in enumerate(self.parameters):
            tree = put(tree, p.key, x[i].reshape(jnp.shape(leaf(tree, p.key))))
        return tree
