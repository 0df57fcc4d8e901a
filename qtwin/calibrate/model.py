"""The model of a measurement: one element that says what every number should have been, and how it scatters."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.calibrate.likelihood import LAWS
from qtwin.core.errors import UserError
from qtwin.core.params import Element, parameters
from qtwin.design.free import leaf


class Expected(NamedTuple):
    """Mean and variance of every number, [n]; differentiable in every traced parameter."""

    mean: jax.Array
    variance: jax.Array


class Part(NamedTuple):
    """Numbers of one kind, as they are drawn: which of all, against what."""

    index: np.ndarray  # type: ignore[assignment]
    at: np.ndarray  # coordinate of each, SI
    axis: str  # what the coordinate is
    unit: str = ""  # of the coordinate
    shape: tuple[int, ...] | None = None  # rows and columns of an image
    power: int = 1  # of the model's unit


class Data(NamedTuple):
    """What was measured: numbers [n], what was set for them, and the row of the file each stands in."""

    values: np.ndarray
    given: Mapping[str, np.ndarray]  # read by the model
    rows: np.ndarray  # [n] int
    parts: Mapping[str, Part]
    trials: np.ndarray | None = None  # [n] of the binomial law
    notes: tuple[str, ...] = ()


class AbstractModel(Element):
    """Named parameters -> mean and variance of every number of a measurement, and a way to draw it."""

    law: ClassVar[str] = "poisson"  # of `LAWS`
    unit: ClassVar[str] = "counts"  # of the numbers
    limits: ClassVar[tuple[str, ...]] = ()  # in words, for the report
    fixed: ClassVar[tuple[str, ...]] = ()  # traced parameters by which there is no second derivative, or none at all

    @abstractmethod
    def read(self, path: Path) -> Data:
        """The measured numbers of a file. UserError names what is wrong in it."""

    @abstractmethod
    def expect(self, given) -> Expected:
        """Mean and variance of every number."""

    def sample(self, given, *, key, trials=None):
        """The numbers of one measurement, drawn from the model's law."""
        return LAWS[self.law].draw(*self.expect(given), 1.0 if trials is None else trials, key)

    def derived(self, given) -> dict[str, tuple[jax.Array, str]]:
        """What follows from the parameters: name -> (value, unit)."""
        return {}

    def started(self, data: Data) -> "AbstractModel":
        """This model with start values that suit the data; itself where those of the settings do."""
        return self

    def renewed(self, given) -> "AbstractModel":
        """This model, its Monte Carlo part drawn anew where it serves these parameters poorly; itself otherwise."""
        return self

    def exposures(self, given) -> jax.Array | None:
        """What every row of the file was given, time or light, [rows]; None where rows cannot be given more or less."""
        return None

    def longer(self, given, factors):
        """``given`` of a measurement in which every row has ``factors`` [rows] times its exposure."""
        raise NotImplementedError

    def remarks(self) -> tuple[str, ...]:
        """What is to be known of these parameters, in sentences."""
        return ()

    def blocks(self, given) -> jax.Array | None:
        """Means by independent blocks of a Monte Carlo part, [blocks, n]: its own error. None: there is none."""
        return None


def field(model: AbstractModel, key: str) -> Mapping:
    """Metadata of the traced field at a dotted key, ``spread.1`` the second of a list. UserError names what exists."""
    place, _, last = key.rpartition(".")
    name = place if last.isdigit() else key
    holder, _, own = name.rpartition(".")
    try:
        at = leaf(model, holder) if holder else model
    except (AttributeError, KeyError, IndexError, TypeError):
        at = None
    value = getattr(at, own, None) if isinstance(at, Element) and own in parameters(at) else None
    if value is None or (last.isdigit() and not int(last) < jnp.size(value) > 1):
        raise UserError(f"{key}: no traced parameter of the model; accepted are {', '.join(traced(model))}")
    if name in model.fixed:
        raise UserError(f"{key}: cannot be free, the walk has no two derivatives by it; accepted is to know it")
    return parameters(at)[own].metadata


def traced(element, path: str = "") -> list[str]:
    """Dotted keys of all traced parameters of an element and its parts."""
    found = []
    for name, value in vars(element).items():
        key = f"{path}{name}"
        if isinstance(value, Element):
            found += traced(value, f"{key}.")
        elif name in parameters(element) and value is not None:
            found.append(key)
    return found


def numbers(model: AbstractModel, key: str) -> list[str]:
    """``key`` itself, or those of its entries where it is a list."""
    field(model, key)
    size = jnp.size(leaf(model, key))
    return [key] if size == 1 else [f"{key}.{i}" for i in range(size)]
