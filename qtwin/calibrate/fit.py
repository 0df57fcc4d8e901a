"""The most probable parameters: Fisher scoring with damping, on the whole real line behind every parameter's bounds.

    f(z) = -ln L(y | x(z)) - ln prior(x(z)),    z <- z - (F + c diag F)^-1 grad f

F = sum_k (dm_k dm_k^T/v_k [+ dv_k dv_k^T/(2 v_k^2)]) + prior, the expected information (Fisher 1925; damping:
Marquardt, J. Soc. Ind. Appl. Math. 11, 431 (1963)). The second part is there where a law has a variance of its own.
"""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from qtwin.calibrate.likelihood import LAWS, Law
from qtwin.calibrate.model import AbstractModel, Expected
from qtwin.calibrate.prior import Prior
from qtwin.design.free import Free

STEPS = 200
DONE = 1e-9  # what another step would still gain, in units of f: far below a standard error (1/2)
STUCK = 1e12  # of the damping
RIDGE = 1e-6  # information added to a step's metric, never to a result


class Problem(eqx.Module):
    """A model, what of it is free, what is known beforehand, and what was measured."""

    model: AbstractModel
    given: dict[str, jax.Array]
    values: jax.Array  # [n]
    used: jax.Array  # [n] bool; the others are only predicted
    trials: jax.Array  # [n]
    free: Free = eqx.field(static=True)
    priors: tuple[Prior, ...] = eqx.field(static=True)
    scale: str = eqx.field(static=True, default="x")  # whose density is meant: of x (ln x of a log-normal), or of z
    variance: jax.Array | None = None  # [n] of normal errors, in place of the model's own law

    @property
    def law(self) -> Law:
        return LAWS[self.model.law if self.variance is None else "normal"]

    def expect(self, z) -> Expected:
        mean, variance = self.at(z).expect(self.given)
        return Expected(mean, variance if self.variance is None else self.variance)

    def at(self, z) -> AbstractModel:
        """The model with free parameters ``z``."""
        return self.free.put(self.model, self.free.constrain(z))

    def log_likelihood(self, z):
        terms = self.law.log(self.values, *self.expect(z), self.trials)
        return jnp.sum(jnp.where(self.used, terms, 0.0))

    def log_prior(self, z):
        """Log density but for a constant; that of z has sum_i ln |dx_i/dz_i| beside that of x."""
        x, slope = jax.jvp(self.free.constrain, (z,), (jnp.ones_like(z),))
        own = self.scale == "z"
        terms = (p.log_of_x(x[i]) if own else p.log(x[i]) for i, p in enumerate(self.priors))
        log = sum(terms, jnp.zeros_like(x[0]))
        return log + jnp.sum(jnp.log(slope)) if own else log

    def objective(self, z):
        """-ln posterior density, but for a constant."""
        return -self.log_likelihood(z) - self.log_prior(z)


class Local(NamedTuple):
    """The objective about one point."""

    value: jax.Array
    gradient: jax.Array  # [D]
    told: jax.Array  # [D, D] information of the data
    known: jax.Array  # [D] information of the priors


def local(problem: Problem, z) -> Local:
    """One forward pass per parameter gives means, variances and their slopes."""
    law = problem.law

    def twice(z):
        e = problem.expect(z)
        return e, e

    slopes, (m, v) = jax.jacfwd(twice, has_aux=True)(z)
    dm, dv = slopes

    def log(m, v):
        return jnp.sum(jnp.where(problem.used, law.log(problem.values, m, v, problem.trials), 0.0))

    value, (by_m, by_v) = jax.value_and_grad(log, (0, 1))(m, v)
    weight = jnp.where(problem.used, 1.0, 0.0) / v
    told = dm.T @ (weight[:, None] * dm)
    if law.own_variance:
        told += dv.T @ ((weight / v / 2)[:, None] * dv)
    prior = jax.grad(problem.log_prior)
    _, curve = jax.jvp(prior, (z,), (jnp.ones_like(z),))  # one term per parameter: the sum of a row is its diagonal
    gradient = -(by_m @ dm + by_v @ dv) - prior(z)
    return Local(-value - problem.log_prior(z), gradient, told, jnp.maximum(-curve, 0.0))


class Fit(NamedTuple):
    """Where the scoring ended."""

    z: jax.Array  # [D]
    value: jax.Array  # of the objective
    left: jax.Array  # what one more step would gain
    steps: jax.Array
    converged: jax.Array  # bool


def solve(matrix, vector):
    """Of a positive matrix, all but singular perhaps; ``RIDGE``: a parameter at the end of its range goes nowhere."""
    matrix = matrix + RIDGE * jnp.eye(len(vector), dtype=matrix.dtype)
    scale = jnp.sqrt(jnp.diagonal(matrix))
    return jax.scipy.linalg.solve(matrix / scale[:, None] / scale[None, :], vector / scale, assume_a="pos") / scale


def scoring(problem: Problem, start, held=None, steps: int = STEPS) -> Fit:
    """From ``start`` [D] to a minimum of the objective; ``held`` [D] bool: parameters that stay where they are."""
    held = jnp.zeros(start.shape, bool) if held is None else held

    def step_from(here: Local):
        information = here.told + jnp.diag(here.known)
        information = jnp.where(held[:, None] | held[None, :], jnp.eye(len(start), dtype=start.dtype), information)
        return information, jnp.where(held, 0.0, here.gradient)

    def gain(here: Local):
        information, gradient = step_from(here)
        return gradient @ solve(information, gradient) / 2

    def body(state):
        z, here, damping, count, _ = state
        information, gradient = step_from(here)
        move = -solve(information + damping * jnp.diag(jnp.diagonal(information)), gradient)
        move = move / jnp.maximum(1.0, jnp.max(jnp.abs(move)) / 3.0)  # not to the far ends of a bijection at once
        there = local(problem, z + move)
        better = jnp.isfinite(there.value) & (there.value <= here.value) & jnp.all(jnp.isfinite(there.gradient))
        z, here = jax.tree.map(lambda a, b: jnp.where(better, a, b), (z + move, there), (z, here))
        damping = jnp.where(better, damping / 10, jnp.maximum(damping, 1e-4) * 10)
        return z, here, damping, count + 1, gain(here)

    def going(state):
        _, here, damping, count, left = state
        return (count < steps) & ~(left < DONE) & (damping < STUCK) & jnp.isfinite(here.value)

    here = local(problem, start)
    zero = jnp.zeros((), jnp.int32)
    z, here, _, count, left = jax.lax.while_loop(
        going, body, (start, here, jnp.zeros_like(here.value), zero, gain(here))
    )
    return Fit(z, here.value, left, count, left < DONE)


@eqx.filter_jit
def fitted(problem: Problem, start) -> Fit:
    """`scoring` from any ``start``.

    A law whose variance follows the parameters would rather explain large residuals by a large variance: the means are
    fitted first, with the variance of the start.
    """
    if problem.law.own_variance:
        held = dataclasses.replace(problem, variance=problem.expect(start).variance)
        first = scoring(held, start).z
        start = jnp.where(jnp.all(jnp.isfinite(first)), first, start)
    return scoring(problem, start)


scored = eqx.filter_jit(scoring)
measured = eqx.filter_jit(local)
observed = eqx.filter_jit(lambda problem, z: jax.hessian(problem.objective)(z))
