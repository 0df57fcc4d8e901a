"""What a design can be judged by: figures of one arm of a protocol, expected, at a fixed dose.

    information  I = sum_a w_a/(N sum_a w_a Var T_a): about the transmission of a superpixel, per photon of the dose N
    snr          <T>/sqrt <Var T>            detectability  d'^2 = sum_a (1 - T_a)^2/Var T_a     of one exposure
    advantage    what the opponent needs of the dose over what the arm needs, as `qtwin map` expects it

w_a: light on the superpixel. The dose is one side of the ledger (``budget.match``), held at what the start has.
"""

import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from qtwin.benchmark.expected import Working, alike, side, solved, spreads_of
from qtwin.core.errors import UserError
from qtwin.core.units import parse, show
from qtwin.estimator.protocol import AbstractLaw, Arm, Ledger
from qtwin.tissue.images import Images, no_light

FEASIBLE = 1e-4  # of a limit: the margin that is kept, and by which the optimiser may miss it
UNITS = {"pump": "J", "time": "s", "angle": "rad"}
FIGURES = {
    "information": "information about the transmission per photon of the dose",
    "snr": "mean transmission over its noise, one exposure",
    "detectability": "d' of the known object, one exposure, independent superpixels",
    "advantage": "dose that the opponent needs over what the arm needs",
    "incident": "photons of the whole beam on the sample per exposure",
    "absorbed": "photons of the whole beam absorbed by the tissue per exposure, those by the object left out",
    "detected": "photons counted behind the sample per exposure",
    "pump": "energy of the pump per exposure",
    "time": "time of an exposure",
    "load": "brightest superpixel over what the detector holds",
    "angle": "spread of the angles at which light meets the sample",
}
RATIOS = ("information", "snr", "detectability", "advantage", "car")  # positive: their logarithm is maximised


class View(NamedTuple):
    """What an objective is given: the working point, its mean images, and who is judged."""

    working: Working
    images: Images  # without block axis
    absorptance: jax.Array  # [] part of the light on the sample that the tissue absorbs
    arm: Arm
    opponent: Arm
    match: str
    dose: float | None  # of one exposure; None: what budget.photons gives
    own: tuple[jax.Array, AbstractLaw] | None = None  # `at_dose`, found once for all figures

    def entry(self, ledger: Ledger):
        """The dose in a ledger."""
        return ledger.incident * self.absorptance if self.match == "absorbed" else side(ledger, self.match)

    def law(self, arm: Arm, photons) -> AbstractLaw:
        """Law of one exposure at ``photons`` per superpixel."""
        return _law(arm, (self.working, self.images), photons)

    def photons(self, arm: Arm, dose):
        """Photons per superpixel that give an arm its dose."""

        def reached(given, n):
            ledger = _law(arm, given[:2], n).ledger
            return self._replace(absorptance=given[2]).entry(ledger)

        return solved(reached, (self.working, self.images, self.absorptance), self.working.photons, dose)

    def at_dose(self) -> tuple[jax.Array, AbstractLaw]:
        """Photons per superpixel and law of the arm that is designed."""
        if self.own is not None:
            return self.own
        photons = self.working.photons if self.dose is None else self.photons(self.arm, self.dose)
        return photons, self.law(self.arm, photons)

    def ours(self) -> AbstractLaw:
        """Law of the arm that is designed, at the dose."""
        return self.at_dose()[1]


def _law(arm: Arm, given: tuple[Working, Images], photons) -> AbstractLaw:
    return arm.law(given[0].twin.bench(given[1], photons))


def _light(view: View):
    return view.working.twin.path().idler_image()


def _cost(view: View, law: AbstractLaw, kernel=None):
    """sum w Var T/sum w at equal mean image, and the mean image, smoothed by ``kernel``."""
    light = _light(view)
    seen, effect = alike(law.mean(), light, kernel)
    return jnp.sum(effect * law.variance()) / jnp.sum(light), seen


def _information(view: View, law: AbstractLaw):
    return 1 / (_cost(view, law)[0] * view.entry(law.ledger))


def _snr(view: View, law: AbstractLaw):
    return jnp.mean(law.mean()) / jnp.sqrt(jnp.mean(law.variance()))


def _detectability(view: View, law: AbstractLaw):
    return jnp.sqrt(jnp.sum((1 - law.mean()) ** 2 / law.variance()))


def _advantage(view: View, law: AbstractLaw):
    rival = view.law(view.opponent, view.photons(view.opponent, view.entry(law.ledger)))
    own, other, spreads = view.arm.spread, view.opponent.spread, spreads_of(view.images)
    same = own == other or not {own, other} <= set(spreads)
    ours = _cost(view, law, None if same else spreads[other])[0]
    return _cost(view, rival, None if same else spreads[own])[0] / ours


MADE: dict[str, Callable] = {
    "information": _information,
    "snr": _snr,
    "detectability": _detectability,
    "advantage": _advantage,
    "incident": lambda view, law: law.ledger.incident,
    "absorbed": lambda view, law: law.ledger.incident * view.absorptance,
    "detected": lambda view, law: law.ledger.detected,
    "pump": lambda view, law: law.ledger.pump,
    "time": lambda view, law: law.ledger.time,
    "load": lambda view, law: law.load(),
    "angle": lambda view, law: view.working.twin.optics.angle(view.working.twin.source),
}


@dataclass(frozen=True)
class Figure:
    """A figure by name, read from a `View`."""

    name: str
    unit: str
    doc: str
    value: Callable[[View], jax.Array]
    log: bool = False  # positive: its logarithm is what is maximised
    sign: int = 1

    def scored(self, value):
        """What is maximised, of a value."""
        return jnp.log(self.sign * value) if self.log else self.sign * value

    def score(self, view: View):
        return self.scored(self.value(view))

    def shown(self, value) -> str:
        return show(float(value), self.unit, 4) if self.unit else f"{float(value):.4g}"


def _named(name: str) -> Figure:
    make = MADE[name]
    return Figure(name, UNITS.get(name, ""), FIGURES[name], lambda v: make(v, v.ours()), name in RATIOS)


PANEL = tuple(_named(name) for name in FIGURES)
INFORMATION = PANEL[0]


def _user(key: str, text: str) -> Figure:
    """``file.py:function``: a function of a `View` that returns one number."""
    place, _, name = text.rpartition(":")
    path = Path(place)
    if not path.is_file():
        raise UserError(f"{key}: got {text!r}, there is no file {place!r}; accepted is file.py:function")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    try:
        spec.loader.exec_module(module)  # type: ignore[union-attr]
    except Exception as error:
        raise UserError(f"{key}: {text!r} cannot be imported ({type(error).__name__}: {error})") from error
    found = getattr(module, name, None)
    if not callable(found):
        raise UserError(f"{key}: {place} has no function {name!r}")

    def value(view: View):
        try:
            number = jnp.asarray(found(view), float)
        except UserError:
            raise
        except Exception as error:
            said = str(error).strip().split("\n")[0]
            told = "accepted is a function of the view that jax can trace and that returns one number"
            raise UserError(f"{key}: {text!r} failed ({type(error).__name__}: {said}); {told}") from error
        if number.shape != ():
            raise UserError(f"{key}: {text!r} returns numbers of shape {number.shape}, accepted is one number")
        return number

    return Figure(name, "", (found.__doc__ or "").strip().split("\n")[0], value)


def figure(key: str, text, working: Working) -> Figure:
    """A figure by name: one of `FIGURES`, PROTOCOL.FACT, or file.py:function; ``-name``: the less the better.

    ``working``: whose protocols tell which facts exist. UserError names what is accepted.
    """
    if isinstance(text, str) and text.startswith("-"):
        found = figure(key, text[1:], working)
        return Figure(found.name, found.unit, found.doc, found.value, False, -1)
    if isinstance(text, str) and ".py:" in text:
        return _user(key, text)
    if text in FIGURES:
        return PANEL[list(FIGURES).index(text)]
    empty = eqx.filter_eval_shape(no_light, working.photons, working.twin.optics.pixels)
    bench = eqx.filter_eval_shape(lambda images: working.twin.bench(images, working.photons), empty)
    facts = {
        f"{name}.{fact}": unit
        for name, protocol in working.protocols.items()
        for fact, (_, unit) in eqx.filter_eval_shape(protocol.facts, bench).items()
    }
    if text not in facts:
        raise UserError(f"{key}: got {text!r}, accepted are {', '.join([*FIGURES, *facts])}, file.py:function")
    protocol, fact = text.split(".")

    def read(v: View):
        return v.working.protocols[protocol].facts(_bench(v))[fact][0]

    return Figure(text, facts[text], f"{fact.replace('_', ' ')} of {protocol}", read, fact in RATIOS)


def _bench(view: View):
    return view.working.twin.bench(view.images, view.at_dose()[0])


class Constraint(eqx.Module):
    """A figure and its limit; it holds where ``slack`` is 0 or more."""

    figure: Figure = eqx.field(static=True)
    limit: jax.Array  # []
    sign: int = eqx.field(static=True)  # 1: at most, -1: at least
    why: str = eqx.field(static=True, default="")  # where the user has not asked for it

    @property
    def text(self) -> str:
        return f"{self.figure.name} {'<=' if self.sign > 0 else '>='} {self.figure.shown(self.limit)}"

    @property
    def _scale(self):
        return jnp.where(self.limit == 0, 1.0, jnp.abs(self.limit))

    def slack(self, view: View):
        """What is left beside the margin, relative to the limit."""
        return self.sign * (self.limit - self.figure.value(view)) / self._scale - FEASIBLE

    def value(self, slack) -> float:
        """The figure that leaves so much."""
        return float(self.limit - self.sign * (slack + FEASIBLE) * self._scale)


def constraint(key: str, text, working: Working) -> Constraint:
    """``pump <= 5 mJ``, ``ghost.car >= 20``. UserError names the key."""
    found = re.fullmatch(r"\s*(\S+)\s*(<=|>=)\s*(.+?)\s*", text) if isinstance(text, str) else None
    if found is None:
        raise UserError(f"{key}: got {text!r}, accepted is a figure, <= or >=, and a value ('pump <= 5 mJ')")
    name, relation, value = found.groups()
    of = figure(key, name, working)
    try:
        limit = parse(value, of.unit)
    except UserError as error:
        raise UserError(f"{key}: {text!r}: {error}") from error
    if not isfinite(limit):
        raise UserError(f"{key}: got {text!r}, accepted is a finite limit")
    if name in FIGURES and relation == "<=" and limit <= 0:
        raise UserError(f"{key}: got {text!r}, accepted is a limit greater than 0: {name} is always so")
    return Constraint(of, jnp.asarray(limit), 1 if relation == "<=" else -1)
