"""What evidence is made with: elements from plain numbers, numbers with the error of few batches, and no data."""

from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Skip(Exception):
    """What a case needs is not here."""


class Batched(NamedTuple):
    """A number whose standard error is the scatter of few batches: its deviations follow Student's law."""

    value: float
    error: float
    dof: int


def element(kind: type[T], *args: Any, **given: Any) -> T:
    """An element from numbers, lists and texts with units, as a configuration gives them."""
    return kind(*args, **given)
