"""The arms of a comparison and the photons of each, so that one side of the ledger is equal."""

from collections.abc import Callable, Mapping, Sequence

from qtwin.core.errors import UserError
from qtwin.core.units import show
from qtwin.estimator.protocol import AbstractLaw, AbstractProtocol, Arm, Bench, Ledger

STEPS, CLOSE, MOST = 60, 1e-6, 1e30
UNITS = {"incident": "", "absorbed": "", "detected": "", "pump": "J", "time": "s"}


def arms_of(protocols: Mapping[str, AbstractProtocol]) -> tuple[Arm, ...]:
    """Arms of every protocol in order; an opponent that several share stands once, where it comes first."""
    arms: dict[str, Arm] = {}
    for name, protocol in protocols.items():
        if not isinstance(protocol, AbstractProtocol):
            raise UserError(f"estimator.{name}: got {type(protocol).__name__}, accepted is an imaging protocol")
        for arm in protocol.arms():
            if arms.setdefault(arm.name, arm) != arm and arm.opponents:
                raise UserError(f"estimator.{name}: two protocols have an arm named {arm.name!r}; accepted is one")
    return tuple(arms.values())


def entry(ledger: Ledger, match: str) -> float:
    """The matched side of a ledger. The sample absorbs the same part of every photon: incident stands for absorbed."""
    return float(getattr(ledger, "incident" if match == "absorbed" else match))


def matched(
    arm: Arm, bench_at: Callable[[float], Bench], photons: float, target: float, match: str
) -> tuple[float, AbstractLaw]:
    """(photons per superpixel and exposure, law) of ``arm``, its ledger's side ``match`` being ``target`` to 1e-6.

    N <- N target/ledger(N), exact at once where the ledger is proportional; with dead times it converges while the
    detector counts less than it can. UserError, with the nearest that works, where no number of photons is enough.
    """
    best, given = float("nan"), float("inf")
    for _ in range(STEPS):
        law = arm.law(bench_at(photons))
        reached = entry(law.ledger, match)
        if abs(reached / target - 1) < CLOSE:
            return photons, law
        if abs(reached - target) < abs(given - target):
            best, given = photons, reached
        photons = photons * target / reached if reached > 0 else float("nan")
        if not 0 < photons < MOST:
            break
    told, near = (show(v, UNITS[match], 3) if UNITS[match] else f"{v:.4g}" for v in (target, given))
    raise UserError(
        f"budget.match: '{match}' of {told} per exposure cannot be reached by {arm.name!r}; nearest is {near}, at "
        f"{best:.4g} photons per superpixel (budget.photons)"
    )


def budgets(
    arms: Sequence[Arm], bench_at: Callable[[float], Bench], photons: float, match: str
) -> dict[str, tuple[float, AbstractLaw]]:
    """Name -> (photons per superpixel and exposure, law): the first arm has ``photons``, the others its ``match``."""
    law = arms[0].law(bench_at(photons))
    target = entry(law.ledger, match)
    others = {arm.name: matched(arm, bench_at, photons, target, match) for arm in arms[1:]}
    return {arms[0].name: (photons, law)} | others
