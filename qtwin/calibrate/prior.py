"""What is known of a parameter beforehand: normal, log-normal or uniform; log densities but for a constant.

    normal      {mean, std}       -(x - mean)^2/(2 std^2), cut at the parameter's support
    log-normal  {median, factor}  -ln(x/median)^2/(2 ln(factor)^2) of ln x: within this factor with 68 %
    uniform     {low, high}       0 inside, and the parameter cannot leave

The most probable value is that of x, of ln x where the prior is log-normal: intervals about it are then symmetric in
what the prior is normal in, and without data are the prior's own. None: uniform over the support, which is no proper
density where that has no end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import jax.numpy as jnp
import numpy as np
from scipy import stats

from qtwin.core.errors import UserError
from qtwin.core.units import parse, show

KINDS = {("mean", "std"): "normal", ("factor", "median"): "log-normal", ("high", "low"): "uniform"}


@dataclass(frozen=True)
class Prior:
    """One of ``KINDS`` with its two numbers, SI; or flat."""

    kind: str = "flat"
    centre: float = 0.0  # mean, median or low
    width: float = 1.0  # std, factor or high

    def log(self, x):
        """Log density at ``x`` but for a constant; of a log-normal law that of ln x."""
        if self.kind == "normal":
            return -(((x - self.centre) / self.width) ** 2) / 2
        if self.kind == "log-normal":
            return -((jnp.log(x / self.centre) / np.log(self.width)) ** 2) / 2
        return jnp.zeros_like(x)

    def log_of_x(self, x):
        """Log density of x itself."""
        return self.log(x) - jnp.log(x) if self.kind == "log-normal" else self.log(x)

    def above(self, x: float, low: float, high: float) -> float:
        """Probability of ``x`` or more; nan where the prior is none."""
        if self.kind == "flat":
            return float("nan")
        if self.kind == "log-normal":
            return float(stats.norm.sf(np.log(x / self.centre) / np.log(self.width)))
        if self.kind == "uniform":
            return (high - x) / (high - low)
        law = stats.norm(self.centre, self.width)
        return float((law.sf(x) - law.sf(high)) / (law.sf(low) - law.sf(high)))

    def bounds(self) -> list[float] | None:
        return [self.centre, self.width] if self.kind == "uniform" else None

    def quantile(self, p, low: float, high: float):
        """Inverse distribution inside the support, for drawing."""
        if self.kind == "normal":
            law = stats.norm(self.centre, self.width)
            return law.ppf(law.cdf(low) + p * (law.cdf(high) - law.cdf(low)))
        if self.kind == "log-normal":
            law = stats.lognorm(np.log(self.width), scale=self.centre)
            return law.ppf(p * law.cdf(high))
        return low + p * (high - low)

    def shown(self, unit: str) -> str:
        if self.kind == "flat":
            return "none (uniform over the support)"
        if self.kind == "log-normal":
            return f"log-normal, {show(self.centre, unit)}, factor {self.width:.3g}"
        words = "to" if self.kind == "uniform" else "±"
        return f"{self.kind}, {show(self.centre, unit)} {words} {show(self.width, unit)}"


def prior(key: str, node: Mapping | None, field: Mapping) -> Prior:
    """Checked prior of the parameter ``key`` whose field's metadata is ``field``. UserError names ``prior.KEY``."""
    where, support, unit = f"prior.{key}", field["support"], field["unit"]
    if isinstance(node, Mapping):
        node = {name: value for name, value in node.items() if value is not None}  # null: taken away
    if not node:
        return Prior()
    kind = KINDS.get(tuple(sorted(node))) if isinstance(node, Mapping) else None
    if kind is None:
        more = ""
        if isinstance(node, Mapping) and any(set(kind) < set(node) for kind in KINDS):
            more = f"; where the model brings one of another kind, take that away first (~{where} '+{where}={{...}}')"
        told = "accepted are {mean, std}, {median, factor} or {low, high}"
        raise UserError(f"{where}: got {node!r}, {told}{more}")
    values = {}
    for name, value in node.items():
        try:
            values[name] = parse(value, "" if name == "factor" else unit)
        except UserError as error:
            raise UserError(f"{where}.{name}: {error}") from error
        if not isfinite(values[name]):
            raise UserError(f"{where}.{name}: got {value!r}, accepted is a finite value")
    first, second = {"normal": ("mean", "std"), "log-normal": ("median", "factor"), "uniform": ("low", "high")}[kind]
    if kind == "log-normal" and support.low < 0:
        raise UserError(f"{where}: got a log-normal law, accepted for {key} ({support.words}) is normal or uniform")
    for name in (first, second) if kind == "uniform" else (first,):
        if not support.low <= values[name] <= support.high or (name == "median" and values[name] <= 0):
            given = show(values[name], unit)
            raise UserError(f"{where}.{name}: got {given}, accepted for {key} is a value {support.words}")
    least = {"normal": 0.0, "log-normal": 1.0, "uniform": values[first]}[kind]
    if not values[second] > least:
        raise UserError(f"{where}.{second}: got {node[second]!r}, accepted is more than {least:g}")
    return Prior(kind, values[first], values[second])


def check_keys(priors: Mapping, accepted: Sequence[str], key: str = "prior"):
    """UserError for a prior of something that is not free."""
    for name in priors:
        if name not in accepted:
            raise UserError(f"{key}.{name}: not a free parameter, accepted are {', '.join(accepted)}")
