"""Points that starts in threads want to be read: in one call, as soon as all who are here have asked for theirs."""

from collections.abc import Callable
from threading import Condition

import jax.numpy as jnp
import numpy as np


class Meeting:
    """``read`` takes ``rows`` points always, so that it is compiled once; at first ``starts`` of them are here.

    The row of one who has left is read on where it was last, and nobody looks. What fails one of them ends all.
    """

    def __init__(self, read: Callable, rows: int, starts: int):
        self.read, self.rows, self.here = read, rows, set(range(starts))
        self.asked: dict[int, tuple] = {}
        self.last: dict[int, tuple] = {}
        self.found: list[np.ndarray] = []
        self.failed: BaseException | None = None
        self.turn = Condition()

    def ask(self, row: int, *what) -> list:
        with self.turn:
            self.asked[row] = self.last[row] = what
            self._answer()
            self.turn.wait_for(lambda: self.failed or row not in self.asked)
            if self.failed:
                raise self.failed
            return [a[row] for a in self.found]

    def leave(self, row: int) -> None:
        with self.turn:
            self.here.discard(row)
            self._answer()

    def fail(self, error: BaseException) -> None:
        """Whoever asks, or waits for an answer, gets ``error``; the first one, if there are several."""
        with self.turn:
            self.failed = self.failed or error
            self.turn.notify_all()

    def _answer(self) -> None:
        if self.failed or not self.asked or set(self.asked) != self.here:
            return
        anyone = next(iter(self.asked.values()))
        rows = [self.last.get(i, anyone) for i in range(self.rows)]
        try:
            self.found = [np.asarray(a) for a in self.read(*(jnp.stack(part) for part in zip(*rows, strict=True)))]
        except Exception as error:
            self.fail(error)
        self.asked = {}
        self.turn.notify_all()
