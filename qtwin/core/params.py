"""Parameters of an element: unit, support and meaning declared once, beside the field.

A constructor check, the bijection for optimisation, printing and documentation all read the same
declaration.
"""

from dataclasses import MISSING, dataclass, fields
from math import inf

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import FieldError, UserError
from qtwin.core.units import parse, show


@dataclass(frozen=True)
class Support:
    """An interval of allowed values and the bijection from the whole real line onto its interior."""

    words: str
    low: float = -inf
    high: float = inf
    low_open: bool = False
    high_open: bool = False

    def contains(self, x) -> bool:
        x = np.asarray(x)
        low = x > self.low if self.low_open else x >= self.low
        high = x < self.high if self.high_open else x <= self.high
        return bool(np.all(np.isfinite(x) & low & high))

    def constrain(self, free):
        """Real number -> value inside the support."""
        if self.low == -inf:
            return free
        if self.high == inf:
            return self.low + jnp.exp(free)
        return self.low + (self.high - self.low) * jax.nn.sigmoid(free)

    def free(self, x):
        """Inverse of ``constrain`` (infinite on a closed edge)."""
        if self.low == -inf:
            return x
        if self.high == inf:
            return jnp.log(x - self.low)
        return jnp.log(x - self.low) - jnp.log(self.high - x)


real = Support("any finite number")
positive = Support("greater than 0", 0.0, low_open=True)
nonnegative = Support("0 or greater", 0.0)
fraction = Support("from 0 to 1", 0.0, 1.0)
efficiency = Support("greater than 0, at most 1", 0.0, 1.0, low_open=True)
anisotropy = Support("between -1 and 1, both excluded", -1.0, 1.0, low_open=True, high_open=True)
index = Support("1 or greater", 1.0)


def _converter(unit: str, per_layer: bool, absent: bool):
    def convert(value):
        if value is None and absent:
            return None
        if value is None:
            raise UserError(f"got nothing, expected a value in units of {unit or '1'}")
        if isinstance(value, (jax.Array, np.ndarray, jax.core.Tracer)):
            return jnp.asarray(value, jnp.result_type(float))
        if isinstance(value, (list, tuple)):
            if not per_layer or not value:
                raise UserError(f"got {value!r}, expected {'at least one value' if per_layer else 'one value'}")
            value = [parse(v, unit) for v in value]
        else:
            value = parse(value, unit)
        return jnp.asarray(value, jnp.result_type(float))

    return convert


def param(unit: str, support: Support, doc: str, default=MISSING, per_layer: bool = False):
    """A traced physical parameter: SI array of the default float type, never weakly typed.

    ``per_layer``: a list of values is accepted too, one for each layer. ``default`` None: it may be absent.
    """
    extra = {} if default is MISSING else {"default": default}
    convert = _converter(unit, per_layer, default is None)
    return eqx.field(metadata={"unit": unit, "support": support, "doc": doc, "convert": convert}, **extra)


def static(doc: str, default=MISSING):
    """A static choice: a shape, a count, a name. Changing it compiles anew."""
    extra = {} if default is MISSING else {"default": default}
    return eqx.field(static=True, metadata={"doc": doc}, **extra)


def is_concrete(x) -> bool:
    return not isinstance(x, jax.core.Tracer)


class Element(eqx.Module):
    """Base of everything that has physical parameters. Subclasses only declare fields and physics."""

    def __post_init__(self):
        for f in fields(self):
            if "support" not in f.metadata:
                continue
            try:
                value = f.metadata["convert"](getattr(self, f.name))
            except UserError as error:
                raise FieldError(f.name, str(error)) from error
            object.__setattr__(self, f.name, value)
            self._check(f, value)
        self.check()

    def _check(self, f, value):
        support = f.metadata["support"]
        if is_concrete(value) and not isinstance(value, (str, type(None))) and not support.contains(value):
            shown = [show(float(v), f.metadata["unit"]) for v in np.ravel(value)]
            given = shown[0] if np.ndim(value) == 0 else "[" + ", ".join(shown) + "]"
            finite = "" if np.all(np.isfinite(np.asarray(value))) else "finite "
            raise FieldError(f.name, f"got {given}, accepted is a {finite}value {support.words}")

    def check(self):
        """Conditions between fields; raise FieldError."""

    def __str__(self):
        return describe(self)


def parameters(element) -> dict:
    """Name -> dataclass field of every traced physical parameter of an element."""
    return {f.name: f for f in fields(element) if "support" in f.metadata}


def describe(element, indent: str = "") -> str:
    """Readable text of an element and its parts, with units."""
    lines = [f"{indent}{type(element).__name__}"]
    for f in fields(element):
        value = getattr(element, f.name)
        if isinstance(value, Element):
            body = describe(value, indent + "  ").lstrip()
            lines.append(f"{indent}  {f.name}: {body}")
        elif "unit" in f.metadata and is_concrete(value) and value is not None:
            texts = [show(float(v), f.metadata["unit"]) for v in np.ravel(value)[:6]]
            text = texts[0] if np.size(value) == 1 else "[" + ", ".join(texts) + "]"
            lines.append(f"{indent}  {f.name} = {text}")
        elif isinstance(value, jax.Array):
            lines.append(f"{indent}  {f.name} = array{tuple(value.shape)}")
        else:
            lines.append(f"{indent}  {f.name} = {value}")
    return "\n".join(lines)
