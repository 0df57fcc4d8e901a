"""What the benchmark itself is told: the photon budget, the walk, the seed, the memory."""

from dataclasses import dataclass

from omegaconf import DictConfig

from qtwin.core.config import plain
from qtwin.core.errors import UserError
from qtwin.core.units import parse

MATCHES = ("incident", "absorbed", "detected", "time", "pump")


def whole(key: str, value, low: int, high: float = float("inf")) -> int:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and low <= value <= high and float(value).is_integer():
        return int(value)
    upper = "" if high == float("inf") else f" and at most {high:g}"
    raise UserError(f"{key}: got {value!r}, accepted is a whole number of at least {low}{upper}")


def whole_bytes(key: str, value) -> int:
    try:
        size = parse(value, "byte")
    except UserError as error:
        raise UserError(f"{key}: got {value!r}, expected a size such as '3 GiB'") from error
    if not 1 <= size < 2**63:
        raise UserError(f"{key}: got {value!r}, accepted is a size of at least one byte, such as '3 GiB'")
    return int(size)


def _switch(key: str, value) -> bool:
    if isinstance(value, bool):
        return value
    raise UserError(f"{key}: got {value!r}, accepted is true or false")


def _section(cfg, key: str, accepted: tuple[str, ...]) -> dict:
    node = cfg.get(key)
    if not isinstance(node, dict):
        raise UserError(f"{key}: got {node!r}, expected the keys {', '.join(accepted)}")
    for name in accepted:
        if name not in node:
            raise UserError(f"{key}.{name}: not given")
    for name in node:
        if name not in (*accepted, "reference"):
            raise UserError(f"{key}.{name}: unknown key, accepted are {', '.join(accepted)}")
    return node


@dataclass(frozen=True)
class Settings:
    """`photons` of the first arm per superpixel and exposure; `match`: what every other arm is given as much of."""

    photons: float
    exposures: int
    match: str
    walk_photons: int
    seed: int
    memory_limit: int  # bytes
    regularise: bool  # total variation for every arm, or for none

    @classmethod
    def from_config(cls, cfg: DictConfig | dict) -> "Settings":
        """Checked settings; UserError names the key, what was given and what is accepted."""
        cfg = plain(cfg)
        budget = _section(cfg, "budget", ("photons", "exposures", "match"))
        walk = _section(cfg, "walk", ("photons",))
        photons, match = budget["photons"], budget["match"]
        if isinstance(photons, bool) or not isinstance(photons, (int, float)) or not 0 < photons < float("inf"):
            raise UserError(f"budget.photons: got {photons!r}, accepted is a finite number greater than 0")
        if match not in MATCHES:
            raise UserError(f"budget.match: got {match!r}, accepted is one of {', '.join(MATCHES)}")
        return cls(
            photons=float(photons),
            exposures=whole("budget.exposures", budget["exposures"], 3),
            match=match,
            walk_photons=whole("walk.photons", walk["photons"], 1, 1e8),
            seed=whole("seed", cfg.get("seed"), 0, 2**63 - 1),
            memory_limit=whole_bytes("memory_limit", cfg.get("memory_limit")),
            regularise=_switch("regularise", cfg.get("regularise", False)),
        )
