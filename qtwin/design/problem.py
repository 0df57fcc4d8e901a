"""What is optimised: the score of a set-up from one walk, and what is left of every constraint."""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import norm, qmc

from qtwin.benchmark.expected import Working
from qtwin.design.family import Family, effective
from qtwin.design.figures import Constraint, Figure, View
from qtwin.estimator.protocol import Arm
from qtwin.tissue import Walk
from qtwin.tissue.fates import fates
from qtwin.tissue.images import Images

SHARP = 200.0  # of the soft minimum over tolerances: off by at most ln(S)/SHARP


class Duel(NamedTuple):
    """Who is judged, and at which dose."""

    arm: Arm
    opponent: Arm
    match: str
    dose: float | None


def view(working: Working, images: Images, absorptance, duel: Duel) -> View:
    """What the objective sees."""
    at = View(working, images, absorptance, duel.arm, duel.opponent, duel.match, duel.dose)
    return at._replace(own=at.at_dose())


def seen(working: Working, walk: Walk) -> tuple[Images, jax.Array]:
    """Images [BLOCKS, ...] and absorbed part [BLOCKS] of every block of the walk."""
    return working.twin.blocks(walk), fates(working.twin.tissue, walk).absorptance


def mean(blocks):
    return jax.tree.map(lambda a: jnp.mean(a, axis=0), blocks)


def look(working: Working, walk: Walk, duel: Duel) -> View:
    """The view of a set-up by all of a walk."""
    images, absorptance = mean(seen(working, walk))
    return view(working, images, absorptance, duel)


class Problem(eqx.Module):
    """Maximise ``objective`` of a `Family` where every constraint holds.

    ``scatter`` [S, T]: deviations of parameters that are not known or do not hold still (``shaken``); the score is then
    its mean over them, or the worst of them.
    """

    family: Family
    duel: Duel = eqx.field(static=True)
    objective: Figure = eqx.field(static=True)
    constraints: tuple[Constraint, ...] = ()
    shaken: Family | None = None
    scatter: jax.Array | None = None
    worst: bool = eqx.field(static=True, default=False)
    spreads: tuple[float, ...] = eqx.field(static=True, default=())  # standard deviations of the deviations, SI

    def look(self, working: Working, walk: Walk) -> View:
        return look(working, walk, self.duel)

    def began(self, x, walk: Walk) -> str:
        """Where a number that is not finite began, in words."""
        at = eqx.filter_jit(look)(
            self.family.at(x), walk, self.duel
        )  # compiled: what the twin refuses is looked at too
        law = at.ours()
        steps = (
            ("the mean images", at.images),
            (f"the ledger of {at.arm.name!r}", law.ledger),
            (f"the mean of {at.arm.name!r}", law.mean()),
            (f"the variance of {at.arm.name!r}", law.variance()),
        )
        for words, values in steps:
            if not all(bool(jnp.all(jnp.isfinite(a))) for a in jax.tree.leaves(values)):
                return words
        return "the objective itself"

    def sight(self, x, walk: Walk):
        """Effective part of the walk at ``x``, []."""
        if self.family.moves_tissue():
            return effective(self.family.at(x), walk)
        return jnp.ones((), jnp.asarray(x).dtype)

    def figures(self, x, walk: Walk):
        """(score, slacks [C]) at SI values ``x`` [D]."""
        there = self.family.at(x)
        at = self.look(there, walk)
        slacks = jnp.stack([c.slack(at) for c in self.constraints]) if self.constraints else jnp.zeros(0, x.dtype)
        if self.shaken is None or self.scatter is None:
            return self.objective.score(at), slacks
        moved = self.shaken.moved

        def shaken(step):
            return self.objective.score(self.look(moved(there, step), walk))

        scores = jax.lax.map(jax.checkpoint(shaken), self.scatter)
        if self.worst:
            return -jax.nn.logsumexp(-SHARP * scores) / SHARP + jnp.log(len(scores)) / SHARP, slacks
        return jnp.mean(scores), slacks

    def values(self, x, walk: Walk, figures: tuple[Figure, ...]):
        """Every figure, [F], and without one block of the walk each, [BLOCKS, F]."""
        return self._values(self.family.at(x), walk, figures)

    def over_tolerances(self, x, walk: Walk):
        """Score over the deviations, mean or worst, [], and without one block of the walk each, [BLOCKS]."""
        assert self.shaken is not None and self.scatter is not None
        there, moved = self.family.at(x), self.shaken.moved
        found = jax.lax.map(lambda step: self._values(moved(there, step), walk, (self.objective,)), self.scatter)
        whole, left = (self.objective.scored(a[..., 0]) for a in found)
        pick = jnp.min if self.worst else jnp.mean
        return pick(whole), pick(left, axis=0)

    def _values(self, there: Working, walk: Walk, figures: tuple[Figure, ...]):
        blocks = seen(there, walk)

        def means(a):
            whole = jnp.sum(a, axis=0, keepdims=True)
            return jnp.concatenate([whole / a.shape[0], (whole - a) / (a.shape[0] - 1)])

        def read(parts):
            images, absorptance = parts
            at = view(there, images, absorptance, self.duel)
            return jnp.stack([f.value(at) for f in figures])

        found = jax.lax.map(read, jax.tree.map(means, blocks))
        return found[0], found[1:]


def deviations(spreads: Sequence[float], count: int, seed: int) -> np.ndarray:
    """Normal deviations [count, T] of standard deviations ``spreads``, from a scrambled Sobol sequence."""
    points = qmc.Sobol(len(spreads), seed=seed).random(count)
    return norm.ppf(np.clip(points, 1e-6, 1 - 1e-6)) * np.asarray(spreads)
