"""Draws from the posterior by blackjax's No-U-Turn sampler (Hoffman & Gelman, J. Mach. Learn. Res. 15, 1593 (2014)).

It moves in u, z = z_MAP + L u with L L^T the inverse of the information at the fit: about a standard normal density.
"""

import dataclasses
from types import ModuleType
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qtwin.calibrate.fit import Problem, measured, scored
from qtwin.calibrate.identify import covariance, inside
from qtwin.io.file_access import optional

SPREAD = 1.5  # std of the chains' starts, in units of the posterior's
ACCEPTED = 0.9  # of the steps, on average
DOUBLINGS = 8  # at most, of a path


class Posterior(NamedTuple):
    """Draws of z [chains, draws, D], and what tells whether they can be trusted."""

    z: np.ndarray
    rhat: np.ndarray  # [D]
    effective: np.ndarray  # [D] draws
    diverging: int

    def flat(self) -> np.ndarray:
        return self.z.reshape(-1, self.z.shape[-1])


def library() -> ModuleType:
    """blackjax. UserError where it is not installed."""
    return optional("blackjax", "the posterior (draws=0 does without)", "calibrate")


def chain(problem: Problem, centre, root, key, warmup: int, draws: int):
    """One chain: u [draws, D] and whether each step diverged."""
    start, warm, run = jax.random.split(key, 3)
    blackjax = library()

    def log_density(u):
        z = centre + root @ u
        return -problem.objective(z)

    u = SPREAD * jax.random.normal(start, centre.shape, centre.dtype)
    adapt = blackjax.window_adaptation(
        blackjax.nuts,
        log_density,
        is_mass_matrix_diagonal=False,
        target_acceptance_rate=ACCEPTED,
        max_num_doublings=DOUBLINGS,
    )
    (state, tuned), _ = adapt.run(warm, u, num_steps=warmup)
    step = blackjax.nuts(log_density, **tuned).step

    def one(state, key):
        state, info = step(key, state)
        return state, (state.position, info.is_divergent)

    return jax.lax.scan(one, state, jax.random.split(run, draws))[1]


@eqx.filter_jit
def _chains(problem, centre, root, keys, warmup: int, draws: int):
    u, diverging = jax.vmap(lambda key: chain(problem, centre, root, key, warmup, draws))(keys)
    return u, jnp.sum(diverging)


def posterior(problem: Problem, z, *, key, chains: int = 4, warmup: int = 500, draws: int = 1000) -> Posterior:
    """Draws about the fit ``z`` [D]; centred on the mode of z's own density, which is never at an end of a range."""
    told = library().diagnostics
    inner = dataclasses.replace(problem, scale="z")
    middle = scored(inner, inside(problem, z)).z
    here = measured(inner, middle)
    root = np.linalg.cholesky(covariance(here.told + jnp.diag(here.known)))
    # the library relies on jax's usual promotion of types and ranks
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        u, diverging = _chains(inner, middle, jnp.asarray(root), jax.random.split(key, chains), warmup, draws)
        rhat, effective = told.potential_scale_reduction(u), told.effective_sample_size(u)
    z = np.asarray(middle) + np.asarray(u) @ root.T
    return Posterior(z, np.atleast_1d(rhat), np.atleast_1d(effective), int(diverging))  # scalars of one parameter
