"""Optimisers on problems with an answer in closed form, and refusals."""

import threading
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import compilations

from qtwin.core.errors import UserError
from qtwin.core.params import param, positive
from qtwin.design.free import Free, parameter
from qtwin.design.meeting import Meeting
from qtwin.design.optimise import ABREAST, METHODS, climbs, conflict, gradients, many, optimise, side_by_side
from qtwin.design.optimum import tolerances

FIELD = param("m", positive, "a waist").metadata
FREE = Free(tuple(parameter(f"a.{n}", FIELD, 1.0, [0.1, 10.0]) for n in ("x", "y")))


class Set(NamedTuple):
    free: Free = FREE

    def at(self, x):
        return x

    def moves_g(self):
        return [False, False]

    def moves_tissue(self):
        return False


class Score(NamedTuple):
    name: str = "coupling"
    log: bool = True
    sign: int = 1


class Coupling(eqx.Module):
    """ln of the overlap of an elliptic Gaussian beam (x, y) with a round one of radius 2, within limits.

    (2 x r/(x^2 + r^2)) (2 y r/(y^2 + r^2)): 1 at x = y = r, by itself.
    """

    radius: float
    constraints: tuple = eqx.field(static=True, default=())
    family: Set = eqx.field(static=True, default=Set())
    objective: Score = eqx.field(static=True, default=Score())

    def sight(self, x, walk):
        return jnp.ones(())

    def figures(self, x, walk):
        score = jnp.sum(jnp.log(2 * x * self.radius / (x**2 + self.radius**2)))
        return score, jnp.stack([c(x) for c in self.constraints]) if self.constraints else jnp.zeros(0)


@pytest.fixture(autouse=True)
def mixed_types():
    """optax mixes types, which the suite forbids elsewhere."""
    usual = jax.config.jax_numpy_dtype_promotion
    jax.config.update("jax_numpy_dtype_promotion", "standard")  # a context would not reach the starts' threads
    yield
    jax.config.update("jax_numpy_dtype_promotion", usual)


STARTS = np.asarray(jax.vmap(FREE.free)(jnp.asarray(np.random.default_rng(0).uniform(0.3, 8.0, (ABREAST + 2, 2)))))


def climb(problem, method, start=(0.3, 6.0), steps=400):
    return optimise(problem, FREE.free(jnp.asarray(start)), None, None, method, steps, lambda *_: None)


@pytest.mark.parametrize("method", METHODS)
def test_matched_beams_couple_best(method):
    path = climb(Coupling(2.0), method)
    assert path.settled
    np.testing.assert_allclose(path.x[-1], [2.0, 2.0], rtol=2e-2)
    assert -5e-5 < path.score[-1] <= 1e-12


@pytest.mark.parametrize("method", ["lbfgs", "slsqp"])
def test_a_limit_is_kept_and_reached(method):
    """Both radii together at most 3: by symmetry 1.5 each, T = (24/25)^2."""

    def room(x):
        return (3.0 - x[0] - x[1]) / 3.0

    path = climb(Coupling(2.0, (room,)), method)
    np.testing.assert_allclose(path.x[-1], [1.5, 1.5], rtol=5e-3)
    assert path.score[-1] == pytest.approx(2 * np.log(0.96), abs=2e-4)
    assert path.slacks[0] > -1e-4


def test_limits_that_exclude_each_other_are_named():
    class Named(eqx.Module):
        text: str = eqx.field(static=True)
        axis: int = eqx.field(static=True)
        sign: int = eqx.field(static=True)
        limit: float = eqx.field(static=True)

        def __call__(self, x):
            return self.sign * (self.limit - x[self.axis]) / self.limit

    limits = Named("x <= 1", 0, 1, 1.0), Named("x >= 3", 0, -1, 3.0), Named("y <= 9", 1, 1, 9.0)
    problem = Coupling(2.0, limits)
    (one, less), (two, more) = conflict(problem, FREE.free(jnp.asarray([1.5, 2.0])), None, 200)
    assert (one.text, two.text) == ("x <= 1", "x >= 3")
    # (x - 1)^2 + (3 - x)^2/9 is least at x = 1.2
    assert (less, more) == pytest.approx((-0.2, -0.6), abs=1e-3)
    assert np.any(climb(problem, "lbfgs", steps=50).slacks < -1e-3)


def test_an_objective_that_is_no_number_says_where():
    class Broken(Coupling):
        def figures(self, x, walk):
            score, slacks = super().figures(x, walk)
            return jnp.where(x[0] > 1.0, jnp.nan, score), slacks

        def began(self, x, walk):
            return "the overlap"

    with pytest.raises(UserError, match=r"design\.objective: coupling is nan at .* m, .* m; it began in the overlap"):
        climb(Broken(2.0), "adam", steps=100)


def test_a_trial_that_gives_no_number_is_stepped_back_from():
    """The score ends at x = 2.2, a step beyond the optimum: the line search meets it, the way never."""

    class Edge(Coupling):
        def figures(self, x, walk):
            score, slacks = super().figures(x, walk)
            return jnp.where(x[0] > 2.2, jnp.nan, score), slacks

    path = climb(Edge(2.0), "lbfgs", start=(0.15, 2.1))
    assert path.settled and np.all(path.x[:, 0] <= 2.2)
    np.testing.assert_allclose(path.x[-1], [2.0, 2.0], rtol=2e-2)
    beyond = np.nan_to_num(path.score, nan=-np.inf)
    assert np.all(np.diff(beyond) >= 0)


@pytest.mark.parametrize("method", METHODS)
def test_a_constraint_that_is_no_number_is_named(method):
    class Limit(eqx.Module):
        text: str = eqx.field(static=True, default="x <= 3")

        def __call__(self, x):
            return jnp.log(1.5 - x[0])

    problem = Coupling(2.0, (Limit(),))
    with pytest.raises(UserError, match=r"design\.constraints: 'x <= 3' leaves nan at 2 m, 6 m"):
        climb(problem, method, start=(2.0, 6.0))


def test_tolerances_are_those_of_the_closed_form():
    """2 x r/(x^2 + r^2) = 0.99 at x/r = (1 +- sqrt(1 - 0.99^2))/0.99."""
    problem = Coupling(2.0)
    found, hessian = tolerances(problem, FREE.free(jnp.asarray([2.0, 2.0])), None)
    edge = np.sqrt(1 - 0.99**2)
    for t in found:
        assert t.low == pytest.approx(2 * (1 - edge) / 0.99, rel=2e-3)
        assert t.high == pytest.approx(2 * (1 + edge) / 0.99, rel=2e-3)
    exact = jax.hessian(lambda z: problem.figures(FREE.constrain(z), None)[0])(FREE.free(jnp.asarray([2.0, 2.0])))
    np.testing.assert_allclose(hessian, exact, rtol=1e-4, atol=1e-6)


def test_many_points_in_one_call():
    x = jnp.asarray([[2.0, 2.0], [1.0, 2.0]])
    np.testing.assert_allclose(many(Coupling(2.0), x, None)[0], [0.0, np.log(0.8)], atol=1e-14)


class Walked(Coupling):
    """The walk is a number that moves the optimum, and serves within a factor of 1.5 of x."""

    def sight(self, x, walk):
        return 1 - 0.5 * jnp.abs(jnp.log(x[0] / walk)) / jnp.log(1.5)

    def figures(self, x, walk):
        way = jnp.log(2 * x[0] * self.radius / (x[0] ** 2 + self.radius**2))
        beyond = jnp.maximum(jnp.abs(jnp.log(x[0] / walk)) - jnp.log(1.5), 0.0)
        return way + 3 * beyond, jnp.zeros(0)  # where the walk does not serve it promises too much


@pytest.mark.parametrize("method", METHODS)
def test_a_worn_walk_is_made_anew_and_the_climb_goes_on(method):
    """From 0.3 to 4 on walks of their own, which end where they are worn; the last serves where the way ends."""
    made = []

    def anew(x):
        made.append(jnp.asarray(x)[0])
        return made[-1]

    start = FREE.free(jnp.asarray((0.3, 6.0)))
    path = optimise(Walked(4.0), start, jnp.asarray(0.3), anew, method, 600, lambda *_: None)
    assert path.renewed == len(made) >= 2
    np.testing.assert_allclose(path.x[-1, 0], 4.0, rtol=4e-2)
    assert abs(np.log(path.x[-1, 0] / float(made[-1]))) < np.log(1.5)


@pytest.mark.parametrize("method", ["lbfgs", "slsqp"])
def test_a_trial_that_the_walk_tells_nothing_of_is_stepped_back_from(method):
    """Beyond x = 2.2 it would promise ever more: the way never goes there."""

    class Blind(Coupling):
        def sight(self, x, walk):
            return jnp.where(x[0] < 2.2, 1.0, 0.1)

        def figures(self, x, walk):
            score, slacks = super().figures(x, walk)
            return score + 5 * jnp.maximum(x[0] - 2.2, 0.0), slacks

    path = climb(Blind(2.0), method, start=(0.15, 2.1))
    assert np.all(path.x[:, 0] <= 2.2) and path.renewed == 0
    np.testing.assert_allclose(path.x[-1], [2.0, 2.0], rtol=2e-2)


def test_a_start_that_the_walk_does_not_tell_of_begins_on_its_own():
    made = []
    start = FREE.free(jnp.asarray((3.0, 6.0)))
    path = optimise(
        Walked(4.0), start, jnp.asarray(0.3), lambda x: made.append(x) or x[0], "lbfgs", 60, lambda *_: None
    )
    assert path.renewed == len(made) >= 1 and float(made[0][0]) == pytest.approx(3.0)
    assert path.score[0] == pytest.approx(np.log(24 / 25))


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_compiled_between_steps_and_starts(method):
    """After the first reading; multipliers, weights and another start are numbers, not code."""

    def room(x):
        return (3.0 - x[0] - x[1]) / 3.0

    problem = Coupling(2.0, (room,))
    climb(problem, method, steps=30)
    some = STARTS[:3]
    climbs(problem, some, None, None, method, 30, lambda *_: None)
    with compilations() as found:
        climb(problem, method, start=(2.0, 0.4), steps=60)
        climbs(problem, some[::-1] + 0.1, None, None, method, 60, lambda *_: None)
    assert not found
    with compilations() as found:
        climb(Coupling(2.0, (room, room)), method, steps=10)
    assert found


@pytest.mark.parametrize("method", METHODS)
def test_starts_abreast_go_the_way_of_each_alone(method, monkeypatch):
    """More of them than one call reads; each ends when it has settled, the others go on."""
    problem, heard = Coupling(2.0), []
    alone = [optimise(problem, z, None, None, method, 60, lambda *_: None) for z in STARTS]
    monkeypatch.setattr("qtwin.design.optimise._alone", None)  # nothing is read for one start alone
    together = climbs(problem, STARTS, None, None, method, 60, lambda *told: heard.append(told))
    assert len({len(path.x) for path in together}) > 1 or method == "adam"
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.x, other.x, rtol=1e-9)
        assert one.evaluations == other.evaluations and one.settled == other.settled
    if method == "adam":
        assert {start for start, *_ in heard} == set(range(len(STARTS)))


@pytest.mark.parametrize("method", METHODS)
def test_a_start_whose_walk_has_worn_goes_on_alone(method):
    """The second one's, of which the common walk tells too little; the first never leaves it."""
    common, begin = jnp.asarray(1.0), FREE.free(jnp.asarray([[0.9, 0.5], [3.5, 6.0]]))
    paths = climbs(Walked(1.1), begin, common, lambda x: jnp.asarray(x[0]), method, 400, lambda *_: None)
    assert paths[0].renewed == 0 < paths[1].renewed
    np.testing.assert_allclose([path.x[-1, 0] for path in paths], [1.1, 1.1], rtol=4e-2)


def test_a_start_that_fails_ends_all():
    class Broken(Coupling):
        def figures(self, x, walk):
            score, slacks = super().figures(x, walk)
            return jnp.where(x[1] > 8.5, jnp.nan, score), slacks

        def began(self, x, walk):
            return "the overlap"

    begin, heard = FREE.free(jnp.asarray([[0.3, 6.0], [0.3, 9.0], [4.0, 0.5]])), []
    with pytest.raises(UserError, match="it began in the overlap"):
        climbs(Broken(2.0), begin, None, None, "adam", 100, lambda *told: heard.append(told))
    assert not heard


def test_an_interruption_ends_all():
    """Here it comes as the first start tells of itself; ctrl-C reaches the thread that waits for all of them."""

    def told(start, step, score):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        climbs(Coupling(2.0), STARTS[:3], None, None, "adam", 10**9, told)


def test_a_reading_that_fails_is_told_to_all_who_meet():
    def read(_):
        raise RuntimeError("out of memory")

    meeting, heard = Meeting(read, 4, 3), []

    def ask(i):
        with pytest.raises(RuntimeError, match="out of memory") as raised:
            meeting.ask(i, jnp.zeros(2))
        heard.append(raised)

    threads = [threading.Thread(target=ask, args=(i,), daemon=True) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(heard) == 3


@pytest.mark.parametrize("abreast", [1, 2, 4])
def test_many_gradients_in_calls_of_any_size(abreast):
    problem, z = Coupling(2.0), STARTS[:5]
    score, slope = gradients(problem, z, None, abreast)
    exact = jax.vmap(jax.value_and_grad(lambda z: problem.figures(FREE.constrain(z), None)[0]))(jnp.asarray(z))
    np.testing.assert_allclose(score, exact[0], rtol=1e-12)
    np.testing.assert_allclose(slope, exact[1], rtol=1e-9, atol=1e-13)


def test_starts_side_by_side_keep_their_order():
    assert side_by_side(lambda n: n * n, range(9)) == [n * n for n in range(9)]
    with pytest.raises(UserError, match="no good"):
        side_by_side(_refuse_the_third, range(5))


def _refuse_the_third(n):
    if n == 3:
        raise UserError("no good")
