"""What a benchmark found: figures with errors, arrays with units, the table and the verdicts."""

from dataclasses import dataclass, field, replace
from math import floor, isfinite, log10

import numpy as np

from qtwin.benchmark import merits
from qtwin.benchmark.check import Check
from qtwin.benchmark.settings import Settings
from qtwin.core.records import Estimate
from qtwin.core.units import show
from qtwin.estimator.protocol import AbstractProtocol, Arm, Ledger
from qtwin.estimator.setting import Setting
from qtwin.metrics.advantage import Interval, verdict
from qtwin.metrics.image import Quality
from qtwin.source.sellmeier import LIGHT
from qtwin.source.states import PLANCK
from qtwin.tissue import Fates
from qtwin.tissue.images import Images
from qtwin.tissue.walk import BLOCKS
from qtwin.twin import Sampled, Twin

MATCHED = {
    "incident": "photons incident on the sample",
    "absorbed": "photons absorbed in the sample",
    "detected": "photons detected",
    "time": "time",
    "pump": "energy of pump or laser",
}
ALIKE = 0.05  # mean images may differ by this part of their contrast and still be compared
INCOMPARABLE = "not comparable"  # smoothing by each other's point spread does not make the mean images equal


def figure(value, stderr, unit: str = "") -> dict:
    """One figure of the result."""
    return {
        "value": None if value is None else float(value),
        "stderr": None if stderr is None else float(stderr),
        "unit": unit,
    }


@dataclass(frozen=True)
class Outcome:
    """Images and figures of one arm."""

    arm: Arm
    image: np.ndarray  # mean of the exposures, [n, n]
    expected: np.ndarray  # mean that the twin expects
    noise: np.ndarray  # standard deviation of one exposure
    estimates: np.ndarray  # [K, n, n]
    counts: np.ndarray  # [K, n, n] signal-side counts
    quality: Quality
    errors: Quality
    photons: float  # per superpixel and exposure, incident
    ledger: Ledger  # of one exposure
    detected_stderr: float = 0.0  # the walk's, of the ledger's photons detected
    merits: dict[str, Estimate | None] = field(default_factory=dict)
    regularised: np.ndarray | None = None  # mean of the exposures by total variation

    def with_walk(self, walk_errors, detected: float, found: dict[str, Estimate | None]) -> "Outcome":
        """The same, with the walk's error added in quadrature, and more figures ``found``."""
        both = (None if e is None else float(np.hypot(e, w)) for e, w in zip(self.errors, walk_errors, strict=True))
        return replace(self, errors=Quality(*both), detected_stderr=detected, merits=self.merits | found)

    def regularised_by(self, variance: np.ndarray, truth: np.ndarray, *, key) -> "Outcome":
        """The same with its regularised image; ``variance`` of one exposure [n, n]."""
        image, found = merits.regularised(self.estimates, variance, truth, key=key)
        return replace(self, regularised=image, merits=self.merits | found)


@dataclass(frozen=True)
class Versus:
    """One arm against one opponent."""

    arm: str
    opponent: str
    interval: Interval  # from the drawn exposures, the walk's error included
    expected: float  # from `expect`
    expected_stderr: float  # the walk's
    mismatch: tuple[float, float]  # what is left of the difference of the mean images, over their contrast
    quantum: bool = True

    @property
    def winner(self) -> str | None:
        """'arm', 'opponent' or '' for neither, from the interval; None where the mean images differ."""
        if self.mismatch[0] > ALIKE:
            return None
        return "arm" if self.interval.low > 1 else "opponent" if self.interval.high < 1 else ""

    @property
    def verdict(self) -> str:
        """In words; an arm of classical light does not win for quantum light."""
        if self.winner is None:
            return INCOMPARABLE
        if not self.winner or self.quantum:
            return verdict(self.interval)
        return "proposal wins" if self.winner == "arm" else "opponent wins"


def _mean_error(blocks) -> tuple[float, float]:
    blocks = np.asarray(blocks, float)
    return float(blocks.mean()), float(blocks.std(ddof=1) / np.sqrt(BLOCKS))


@dataclass(frozen=True)
class Comparison:
    """Everything that the report and the result file show."""

    twin: Twin
    protocols: dict[str, AbstractProtocol]
    settings: Settings
    setting: Setting  # one exposure of the first arm
    facts: dict[str, dict[str, tuple[float, float, str]]]  # protocol -> what a laboratory watches: value, stderr, unit
    blocks: Images
    light: Fates
    truth: np.ndarray
    outcomes: dict[str, Outcome]
    versus: tuple[Versus, ...]
    sampled: Sampled
    check: Check
    walked: int

    # --- figures ---------------------------------------------------------------------------------------------

    def _ledger(self, outcome: Outcome) -> dict:
        """Photons on the field, absorbed, detected; dose; pump energy; time, for all exposures together."""
        k, ledger, twin = self.settings.exposures, outcome.ledger, self.twin
        incident = ledger.incident * float(twin.optics.field_fraction(twin.source)) * k
        fraction, fraction_error = self.sampled.absorbed
        dose = PLANCK * LIGHT / float(twin.source.signal_wavelength)
        counts = np.abs(outcome.counts).sum()
        return {
            "photons_per_superpixel": figure(outcome.photons, 0, ""),
            "photons_incident": figure(incident, 0, ""),
            "photons_absorbed": figure(incident * fraction, incident * fraction_error, ""),
            "dose": figure(incident * fraction * dose, incident * fraction_error * dose, "J"),
            "photons_detected": figure(ledger.detected * k, outcome.detected_stderr * k, ""),
            "counts_recorded": figure(outcome.counts.sum(), np.sqrt(max(counts, 1.0)), ""),
            "pump_energy": figure(ledger.pump * k, 0, "J"),
            "time": figure(ledger.time * k, 0, "s"),
        }

    def figures(self) -> dict:
        """Nested figures, each leaf with value, stderr and unit."""
        arms = {}
        for arm, o in self.outcomes.items():
            q, e = o.quality, o.errors
            arms[arm] = self._ledger(o) | {name: figure(getattr(q, name), getattr(e, name)) for name in Quality._fields}
            arms[arm] |= {
                name: figure(None, None) if m is None else figure(m.value, m.error, merits.UNITS.get(name, ""))
                for name, m in o.merits.items()
            }
        versus: dict[str, dict] = {}
        for v in self.versus:
            versus.setdefault(v.arm, {})[v.opponent] = figure(v.interval.value, v.interval.stderr) | {
                "low": float(v.interval.low),
                "high": float(v.interval.high),
                "expected": figure(v.expected, v.expected_stderr),
                "mean_image_mismatch": figure(*v.mismatch),
            }
        checks = {name: figure(z, 1.0) for name, z in self.check.z.items()}
        return {
            "arms": arms,
            "advantage": versus,
            "tissue": self._tissue(),
            "source": self._source(),
            "protocols": {n: {f: figure(*v) for f, v in group.items()} for n, group in self.facts.items() if group},
            "carried_exposure_z": checks,
        }

    def _tissue(self) -> dict:
        light, b = self.light, self.blocks
        accepted = np.asarray(b.accepted)
        centre = b.spread_direct.shape[1] // 2
        own = np.asarray(b.spread_direct)[:, centre, centre] / accepted
        own_ghost = np.asarray(b.spread_ghost)[:, centre, centre] / accepted
        width = np.sqrt(np.asarray(b.variance_direct) / accepted)
        width_ghost = np.sqrt(np.asarray(b.variance_ghost) / accepted)
        partners = np.asarray(b.joint).sum(axis=(1, 2, 3, 4)) / np.asarray(b.direct).sum(axis=(1, 2))
        return {
            "ballistic_fraction": figure(*_mean_error(light.ballistic)),
            "accepted_fraction": figure(*_mean_error(light.accepted)),
            "transmitted_fraction": figure(*_mean_error(light.transmittance)),
            "reflected_fraction": figure(*_mean_error(light.reflectance)),
            "absorbed_fraction": figure(*_mean_error(light.absorptance)),
            "point_spread_rms": figure(*_mean_error(width), "m"),
            "point_spread_within_own_superpixel": figure(*_mean_error(own)),
            "ghost_point_spread_rms": figure(*_mean_error(width_ghost), "m"),
            "ghost_point_spread_within_own_superpixel": figure(*_mean_error(own_ghost)),
            "partners_within_one_superpixel": figure(*_mean_error(partners)),
            "photons_walked": figure(self.walked, 0),
        }

    def _source(self) -> dict:
        s, o = self.twin.source, self.twin.optics
        return {
            "pair_rate": figure(s.pair_rate(), 0, "Hz"),
            "photons_per_mode": figure(s.gain(), 0),
            "schmidt_number": figure(s.schmidt_number(), 0),
            "beam_on_field": figure(o.field_fraction(s), 0),
            "beam_width": figure(o.beam_widths(s)[0], 0, "m"),
            "correlation_width": figure(o.correlation_width(s), 0, "m"),
            "exposure_time": figure(self.setting.time, 0, "s"),
        }

    def arrays(self) -> dict:
        """Name -> (array, dimensions, unit, coordinates)."""
        centres = np.asarray(self.twin.optics.centres())
        coords = {"y": (centres, "m"), "x": (centres, "m")}
        out: dict[str, tuple] = {"object": (self.truth, ("y", "x"), "1", coords)}
        for name, o in self.outcomes.items():
            key = name.replace(", ", "/").replace(" ", "_").replace("-", "_")
            shots = coords | {"exposure": (np.arange(len(o.estimates), dtype=float), "1")}
            out[f"{key}/transmission"] = (o.estimates, ("exposure", "y", "x"), "1", shots)
            out[f"{key}/mean"] = (o.image, ("y", "x"), "1", coords)
            out[f"{key}/noise"] = (o.noise, ("y", "x"), "1", coords)
            out[f"{key}/expected"] = (o.expected, ("y", "x"), "1", coords)
            if o.regularised is not None:
                out[f"{key}/regularised"] = (o.regularised, ("y", "x"), "1", coords)
            out[f"{key}/counts"] = (o.counts, ("exposure", "y", "x"), "1", shots)
        return out

    def verdicts(self) -> dict:
        out: dict[str, dict[str, str]] = {}
        for v in self.versus:
            out.setdefault(v.arm, {})[v.opponent] = v.verdict
        return out

    def swept(self) -> float:
        """Advantage of the first protocol's best estimator over its first opponent."""
        arm = self.best(next(iter(self.protocols)))
        return float(next(v.interval.value for v in self.versus if v.arm == arm))

    def best(self, protocol: str) -> str:
        """Name of the best estimator of a protocol, the last that it proposes."""
        return [arm.name for arm in self.protocols[protocol].arms() if arm.opponents][-1]

    # --- words -----------------------------------------------------------------------------------------------

    def table(self) -> str:
        """The arms with their ledgers, then every comparison with its interval and verdict."""
        figures = self.figures()
        words = ("incident", "absorbed", "detected", "time", "SNR", "CNR", "SSIM")
        head = "".join(f"{word:>{width}}" for word, width in zip(words, (10, 22, 22, 9, 16, 18, 18), strict=True))
        lines = [f"{'arm':<32}{head}", "-" * (32 + len(head))]
        for name, f in figures["arms"].items():
            lines.append(
                f"{name:<32}{f['photons_incident']['value']:>10.3g}{_pm(f['photons_absorbed']):>22}"
                f"{_pm(f['photons_detected']):>22}{show(f['time']['value'], 's', 3):>9}"
                f"{_pm(f['snr']):>16}{_pm(f['cnr']):>18}{_pm(f['ssim']):>18}"
            )
        matched = MATCHED[self.settings.match]
        head = f"{'arm':<32}{'against':<32}{'advantage':>19}{'95 % interval':>24}{'expected':>22}  verdict"
        lines += ["", f"advantage = {matched} that the opponent needs over what the arm needs, for equal variance"]
        lines += ["of the transmission per superpixel at equal mean image, by more exposures of this size", head]
        lines += ["-" * (len(head) + 20)]
        for v in self.versus:
            i = v.interval
            lines.append(
                f"{v.arm:<32}{v.opponent:<32}{_pm(figure(i.value, i.stderr)):>19}"
                f"{i.ends('..'):>24}{_pm(figure(v.expected, v.expected_stderr)):>22}  {v.verdict}"
            )
        if any(v.verdict == INCOMPARABLE for v in self.versus):
            lines += [
                f"{INCOMPARABLE}: the mean images differ by more than {ALIKE:.0%} of their contrast: no sharp image"
            ]
        return "\n".join([*lines, "", self._tissue_line(figures["tissue"]), self._check_line()])

    def _tissue_line(self, t: dict) -> str:
        aperture = float(self.twin.optics.numerical_aperture)
        return (
            f"tissue: ballistic {_pm(t['ballistic_fraction'])}, accepted by NA {aperture:.2g}: "
            f"{_pm(t['accepted_fraction'])}, of that {_pm(t['point_spread_within_own_superpixel'])} in its own "
            f"superpixel, point spread {_pm(_scaled(t['point_spread_rms'], 1e6))} µm rms"
        )

    def _check_line(self) -> str:
        if not self.check.z:
            return "no exposure was carried photon by photon: these protocols rest on none of its records"
        name, z = max(self.check.z.items(), key=lambda item: abs(item[1]))
        if abs(z) < 4:
            count = len(self.check.z)
            return f"an exposure carried photon by photon agrees: largest |z| {abs(z):.2f} of {count} ({name})"
        return f"WARNING: the exposure carried photon by photon disagrees: z = {z:.1f} ({name})"


def _scaled(f: dict, by: float) -> dict:
    return figure(f["value"] * by, f["stderr"] * by)


def _pm(f: dict) -> str:
    """value ± stderr, to one digit of the error, two where it begins with 1."""
    value, error = f["value"], f["stderr"]
    if value is None:
        return "-"
    if not error or not isfinite(error) or error < 1e-6 * abs(value):
        return f"{value:.4g}" + (f" ± {error:.1g}" if error else "")
    last = floor(log10(error)) - (error < 2 * 10.0 ** floor(log10(error)))
    if abs(value) >= 1e5 or abs(value) < 1e-3:
        power = floor(log10(abs(value) or error))
        digits = max(0, power - last)
        return f"({value / 10.0**power:.{digits}f} ± {error / 10.0**power:.{digits}f})e{power}"
    return f"{value:.{max(0, -last)}f} ± {error:.{max(0, -last)}f}"
