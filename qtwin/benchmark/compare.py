"""The comparison: every arm at the same photon budget, its images, its ledger and the verdict."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.benchmark import merits
from qtwin.benchmark.arms import arms_of, budgets
from qtwin.benchmark.check import Check, carried_check
from qtwin.benchmark.comparison import Comparison, Outcome, Versus
from qtwin.benchmark.settings import Settings
from qtwin.core.errors import FieldError, UserError
from qtwin.core.random import stream
from qtwin.core.units import data_size
from qtwin.detector import SinglePhoton
from qtwin.detector.camera import AbstractCamera
from qtwin.estimator.protocol import AbstractLaw, Arm, Bench
from qtwin.metrics.advantage import advantage, pooled_cost, pooling, smoothing
from qtwin.metrics.image import Quality, quality, quality_of
from qtwin.metrics.statistics import jackknife
from qtwin.source import SPDC, Coherent
from qtwin.tissue import fates
from qtwin.tissue.images import Images
from qtwin.tissue.walk import BLOCKS
from qtwin.twin import Twin


def _assemble(source, reference, optics, scene, tissue, detector, camera, correlation) -> Twin:
    if not isinstance(source, SPDC):
        given = "coherent light emits no pairs" if isinstance(source, Coherent) else f"got {type(source).__name__}"
        raise UserError(f"source: {given} to compare with; accepted is a pair source from a crystal (spdc_bbo)")
    if not isinstance(reference, Coherent):
        raise UserError("reference: the opponent is coherent light; accepted is source@reference=coherent")
    if not isinstance(detector, SinglePhoton):
        given = "a camera stamps no times" if isinstance(detector, AbstractCamera) else f"got {type(detector).__name__}"
        raise UserError(f"detector: {given}; accepted here is a single-photon device, cameras go to detector@camera")
    if detector.gate is not None:
        raise UserError("detector.gate: got gates, accepted here is none: coincidences gate by correlation.window")
    if not isinstance(camera, AbstractCamera):
        given = "a single-photon device" if isinstance(camera, SinglePhoton) else f"a {type(camera).__name__}"
        raise UserError(f"camera: {given} is no camera of frames; accepted is detector@camera=proem_hs_1024bx3")
    if abs(float(reference.wavelength) / float(source.signal_wavelength) - 1) > 1e-6:
        raise FieldError(
            "reference.wavelength", "the opponent must have the signal's wavelength: it sees the same tissue"
        )
    return Twin(source, optics, scene, tissue, camera, detector, correlation)


def _leave_one_out(blocks: Images) -> Images:
    """Means over all blocks but one, [BLOCKS, ...]."""
    total = jax.tree.map(lambda a: jnp.sum(a, axis=0, keepdims=True), blocks)
    return jax.tree.map(lambda t, a: (t - a) / (BLOCKS - 1), total, blocks)


@np.errstate(all="ignore")  # where there is no light, one line says so: nothing that is not finite is written
def compare(
    source, reference, optics, scene, tissue, detector, camera, correlation, protocols, settings: Settings, progress
) -> Comparison:
    """Walk once, repeat by thinning, carry one exposure photon by photon, and judge.

    ``progress(stage, **numbers)`` is called along the way. Deterministic in settings.seed.
    """
    twin = _assemble(source, reference, optics, scene, tissue, detector, camera, correlation)
    key = jax.random.key(settings.seed)
    arms = arms_of(protocols)
    rests_on = {name for protocol in protocols.values() for name in protocol.carried}
    carried = settings.photons if rests_on else min(settings.photons, 200.0)  # alone for the absorbed part
    _fits(twin, settings, carried, len(arms))
    progress("walking photons through the tissue", photons=settings.walk_photons)
    walk = twin.walk(key=key, photons=settings.walk_photons, memory_limit=settings.memory_limit)
    progress("forming the mean images")
    blocks = twin.blocks(walk)
    centre = jax.tree.map(lambda a: jnp.mean(a, axis=0), blocks)
    outside = _leave_one_out(blocks)
    kind = centre.direct.dtype
    bench = twin.bench(centre, jnp.asarray(settings.photons, kind))

    def bench_at(photons) -> Bench:
        """Everything about an exposure grows with its photons."""
        scale = jnp.asarray(photons / settings.photons, kind)
        return bench._replace(setting=jax.tree.map(lambda a: a * scale, bench.setting))

    truth, pitch = np.asarray(bench.object), float(optics.pitch)
    cells = np.asarray(twin.path().grid().values[1:-1, 1:-1])
    weights = np.asarray(bench.setting.incident * bench.idler) / truth.size
    given = budgets(arms, bench_at, settings.photons, settings.match)
    photons, laws = {name: n for name, (n, _) in given.items()}, {name: law for name, (_, law) in given.items()}
    _saturation(laws, photons)
    means = {name: _lit(name, law) for name, law in laws.items()}
    direct, ghost = np.asarray(centre.spread_direct), np.asarray(centre.spread_ghost)
    kernels = {"none": None, "direct": direct, "ghost": ghost, "pairs": direct**2}  # pairs: both photons in one place
    spreads = {name: smoothing(kernel, truth.shape[0]) for name, kernel in kernels.items()}

    progress("drawing exposures", exposures=settings.exposures)
    outcomes = {}
    for arm in arms:
        law = laws[arm.name]
        estimates, counts = law.draw(settings.exposures, key=stream(key, f"ensemble {arm.draws or arm.name}"))
        figures, errors = quality_of(estimates, truth)
        outcomes[arm.name] = Outcome(
            arm,
            estimates.mean(axis=0),
            means[arm.name],
            np.sqrt(estimates.var(axis=0, ddof=1)),
            estimates,
            counts,
            figures,
            errors,
            photons[arm.name],
            jax.tree.map(float, law.ledger),
        )
        if settings.regularise:
            key_of = stream(key, f"total variation {arm.name}")
            outcomes[arm.name] = outcomes[arm.name].regularised_by(np.asarray(law.variance()), truth, key=key_of)

    progress("weighing the walk's own error")
    benches = {name: bench_at(n) for name, n in photons.items()}
    shared = _shared_errors(protocols, arms, outside, benches, weights, spreads, truth)
    for name, outcome in outcomes.items():
        means, variances, _ = shared.moments[name]
        found = merits.observer(laws[name], means, variances) | merits.edges(outcome.estimates, cells, pitch)
        found |= merits.information(laws[name], means, variances, bench.idler)
        outcomes[name] = outcome.with_walk(shared.quality[name], shared.detected[name], found)

    progress("comparing")
    versus = []
    for arm in arms:
        for opponent in arm.opponents:
            ours, theirs = _costs(arm, opponent, outcomes, laws, weights, spreads)
            walk_error = shared.log_advantage[arm.name, opponent]
            interval = advantage(theirs[0], ours[0], walk_error)
            expected = theirs[1].mean / ours[1].mean
            unequal = shared.mismatch[arm.name, opponent]
            told = float(expected), float(expected * walk_error)
            versus.append(Versus(arm.name, opponent, interval, *told, unequal, arm.quantum))

    progress("carrying one exposure photon by photon", photons=float(bench.setting.incident))
    sampled = twin.sample(carried, key=stream(key, "carried"))
    check: Check = carried_check(sampled, bench, blocks, weights, rests_on)
    light = fates(twin.tissue, walk, float(optics.numerical_aperture))
    facts = {name: protocol.facts(bench) for name, protocol in protocols.items()}
    watched = {
        name: {fact: (float(value), shared.facts[name][fact], unit) for fact, (value, unit) in group.items()}
        for name, group in facts.items()
    }
    whole = watched, blocks, light, truth, outcomes, tuple(versus), sampled, check, walk.photons
    return Comparison(twin, protocols, settings, bench.setting, *whole)


def _fits(twin: Twin, settings: Settings, carried: float, arms: int):
    """Refuse what the memory limit cannot hold, before anything is computed."""
    n2 = twin.optics.pixels**2
    need = 8.0 * n2 * (arms * 4 * settings.exposures + 11 * settings.exposures + 33 * 25)
    pairs = carried * n2 / float(twin.optics.field_fraction(twin.source))
    need += 8 * 16 * pairs  # the carried exposure: positions and times of every pair
    if need > settings.memory_limit:
        raise UserError(
            f"budget.photons: {settings.photons:g} photons on {n2} superpixels in {settings.exposures} exposures "
            f"(budget.exposures) need {data_size(need)}, memory_limit is {data_size(settings.memory_limit)}"
        )


def _saturation(laws: Mapping[str, AbstractLaw], photons: Mapping[str, float]):
    for name, law in laws.items():
        load = float(law.load())
        if not load <= 1:
            raise UserError(
                f"budget.photons: {name!r} fills its brightest superpixel {load:.3g} times (full_well) at "
                f"{photons[name]:.4g} photons per superpixel and exposure; accepted is less, in more "
                "exposures (budget.exposures)"
            )


def _lit(name: str, law: AbstractLaw) -> np.ndarray:
    """Mean image [n, n]. UserError where superpixels have no light, and so no estimate."""
    mean = np.asarray(law.mean())
    dark = ~np.isfinite(mean)
    if dark.any():
        raise UserError(
            f"{name!r}: no light at all reaches {dark.sum()} of its {dark.size} superpixels; accepted is thinner "
            "or clearer tissue, or a beam that covers the field (tissue.thickness, source.waist)"
        )
    return mean


def _kernels(arm: Arm, other: Arm, spreads):
    """Each side is smoothed by the other's point spread where they differ: equal mean images for both."""
    if arm.spread == other.spread or not {arm.spread, other.spread} <= set(spreads):
        return spreads["none"], spreads["none"]
    return spreads[other.spread], spreads[arm.spread]


def _smoothed(matrix, images):
    k, n, _ = images.shape
    return (matrix @ images.reshape(k, n * n).T).T.reshape(k, n, n)


def _costs(arm: Arm, opponent: str, outcomes, laws, weights, spreads):
    """(cost, law) of our side and of theirs, at equal mean image."""
    other = outcomes[opponent].arm
    own, rival = _kernels(arm, other, spreads)
    out = []
    for name, matrix in ((arm.name, own), (opponent, rival)):
        law = pooling(laws[name], weights, matrix)
        out.append((pooled_cost(_smoothed(matrix, outcomes[name].estimates), weights, law), law))
    return out


class _Shared(NamedTuple):
    log_advantage: dict  # (arm, opponent) -> standard error of the log of the advantage
    mismatch: dict  # (arm, opponent) -> difference of the mean images over their contrast, and its standard error
    quality: dict  # arm -> standard errors of the figures
    facts: dict  # protocol -> fact -> standard error
    detected: dict  # arm -> standard error of the photons detected
    moments: dict  # arm -> mean and variance [BLOCKS, n, n] of its law, photons detected, without one block each


def _shared_errors(protocols, arms, outside, benches, weights, spreads, truth) -> _Shared:
    """Standard errors, from leaving out blocks of the walk, of what all exposures share."""
    n = weights.shape[0]
    moments = {}
    for arm in arms:

        def both(images, arm=arm):
            law = arm.law(benches[arm.name]._replace(images=images))
            return law.mean(), law.variance(), law.ledger.detected

        moments[arm.name] = tuple(np.asarray(a) for a in jax.vmap(both)(outside))
    facts = {}
    first = benches[arms[0].name]
    for name, protocol in protocols.items():

        def watched(images, protocol=protocol):
            return {fact: value for fact, (value, _) in protocol.facts(first._replace(images=images)).items()}

        facts[name] = {fact: float(jackknife(np.asarray(v))) for fact, v in jax.vmap(watched)(outside).items()}
    logs, mismatch = {}, {}
    for arm in arms:
        for opponent in arm.opponents:
            other = next(a for a in arms if a.name == opponent)
            own, rival = _kernels(arm, other, spreads)
            cost, seen = [], []
            for name, matrix in ((arm.name, own), (opponent, rival)):
                seen.append(_smoothed(matrix, moments[name][0]))
                effect = np.asarray(matrix.multiply(matrix).T @ weights.ravel()).reshape(n, n)
                cost.append(np.sum(effect * moments[name][1], axis=(1, 2)))
            logs[arm.name, opponent] = float(jackknife(np.log(cost[1] / cost[0])))
            unequal = np.std(seen[0] - seen[1], axis=(1, 2)) / np.maximum(np.std(seen[1], axis=(1, 2)), 1e-12)
            mismatch[arm.name, opponent] = (float(unequal.mean()), float(jackknife(unequal)))
    figures = {}
    for arm in arms:
        rows = [quality(m, v, truth) for m, v in zip(*moments[arm.name][:2], strict=True)]
        columns = [[getattr(r, f) for r in rows] for f in Quality._fields]
        figures[arm.name] = [None if c[0] is None else float(jackknife(np.array(c))) for c in columns]
    detected = {name: float(jackknife(m[2])) for name, m in moments.items()}
    return _Shared(logs, mismatch, figures, facts, detected, moments)
