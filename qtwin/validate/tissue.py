"""Evidence on light in tissue: Monte Carlo fractions of slabs whose exact values are known, and their derivatives."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.random import stream
from qtwin.core.records import Estimate
from qtwin.tissue import Slab
from qtwin.tissue.exits import exits
from qtwin.tissue.lights import Lambertian
from qtwin.tissue.tallies import LIGHT_SPEED, Bins
from qtwin.tissue.transport import Transport, transport
from qtwin.tissue.walk import BLOCKS
from qtwin.validate.pieces import Batched, element

THICKNESS = 1e-3
FIRST: dict[str, Any] = {
    "thickness": 2e-4,
    "depth": 1e-4,
    "mu_a": 1e3,
    "mu_s": 9e3,
    "g": 0.75,
    "n": 1.0,
}  # of van de Hulst
START = 1 << 17  # photons
BARE: dict[str, Any] = {"derivatives": False, "fluence": False}
DOF = BLOCKS - 1
SURE = 2e-5  # standard error where a value is too small for a relative one


def slab(albedo: float, g: float, tau: float, n: float) -> Slab:
    """A slab of 1 mm by its albedo, mean cosine, optical thickness and index."""
    coefficients = {"mu_a": (1 - albedo) * tau / THICKNESS, "mu_s": albedo * tau / THICKNESS}
    return element(Slab, thickness=THICKNESS, depth=THICKNESS / 2, **coefficients, g=g, n=n)


def _totals(found: Transport) -> dict[str, Batched]:
    """R with the specular part, T, and what is absorbed; the error of none is that of one photon."""
    t = found.tallies
    both = {
        "R": (t["specular"].value + t["reflectance"].value, np.hypot(t["specular"].stderr, t["reflectance"].stderr))
    }
    both |= {"T": t["transmittance"], "absorbed": (t["absorbed"].value.sum(), t["absorbed"].stderr[0])}
    return {k: Batched(float(v), max(float(e), 1 / found.photons), DOF) for k, (v, e) in both.items()}


def fractions(
    albedo: float, g: float, tau: float, n: float, accuracy: float, most: int, light: str = "pencil", seed: int = 0
) -> dict[str, Batched]:
    """R and T of a slab, ``light`` 'pencil' or 'diffuse': photons are added until both errors are small.

    Below ``accuracy`` of a value above 0.01, or below 2e-5; at ``most`` so many photons.
    """
    made, photons, source = slab(albedo, g, tau, n), min(START, most), Lambertian() if light == "diffuse" else None
    key = stream(jax.random.key(seed), f"{light} {albedo} {g} {tau} {n}")
    while True:
        found = transport(made, key=key, photons=photons, light=source, **BARE)
        totals = _totals(found)
        need = max(v.error / (accuracy * v.value if v.value > 0.01 else SURE) for k, v in totals.items() if k in "RT")
        if need < 1 or photons >= most:
            return totals
        photons = int(min(most, photons * max(2.0, 1.15 * need**2)))


def van_de_hulst(photons: int, seed: int = 0) -> dict[str, Batched]:
    """R, T and absorbed part of the slab n = 1, mu_a 10/cm, mu_s 90/cm, g 0.75, 0.02 cm."""
    return _totals(transport(element(Slab, **FIRST), key=jax.random.key(seed), photons=photons, **BARE))


def half_space(albedo: float, n: float, photons: int, seed: int = 0) -> Batched:
    """R, specular part included, of a medium so deep (100 mean free paths) that nothing comes through, g = 0."""
    return _totals(transport(slab(albedo, 0.0, 100.0, n), key=jax.random.key(seed), photons=photons, **BARE))["R"]


def mcml_layers(photons: int, seed: int = 0) -> dict[str, Batched]:
    """Rd without the specular part and Tt of the three layers of the MCML manual."""
    layers = {"mu_a": [100, 100, 200], "mu_s": [1e4, 1e3, 1e3], "g": [0.9, 0, 0.7], "thickness": [1e-3, 1e-3, 2e-3]}
    found = transport(
        element(Slab, **layers, depth=2.7e-3, n=1.37), key=jax.random.key(seed), photons=photons, **BARE
    ).tallies
    return {
        name: Batched(float(found[f].value), float(found[f].stderr), DOF)
        for name, f in (("Rd", "reflectance"), ("Tt", "transmittance"))
    }


def balance(photons: int, mu_a: float, seed: int = 0) -> Batched:
    """R + T + A - 1 of a thick slab, most of whose light is long under way."""
    deep = element(Slab, thickness=1e-2, depth=5e-3, mu_a=mu_a, mu_s=1e4, g=0.9, n=1.4)
    found = transport(deep, key=jax.random.key(seed), photons=photons, **BARE).tallies["balance"]
    return Batched(float(found.value), float(found.stderr), DOF)


def by_angle(photons: int, seed: int = 0) -> dict[str, list[Batched]]:
    """Mean radiance, 1/sr, in 18 bins of exit angle, of the slab of van de Hulst."""
    bins = Bins(radius=jnp.asarray(1e-3), time=jnp.asarray(1e-11), angles=18)
    found = transport(
        element(Slab, **FIRST), key=jax.random.key(seed), photons=photons, bins=bins, derivatives=False
    ).tallies
    sides = {"reflected": "angle_reflected", "transmitted": "angle_transmitted"}
    return {k: [Batched(float(v), float(e), DOF) for v, e in zip(*found[f], strict=True)] for k, f in sides.items()}


def gradients(
    albedo: float, g: float, tau: float, n: float, photons: int, seed: int = 0
) -> dict[str, dict[str, Batched]]:
    """field -> R, T -> derivative, by mu_a and mu_s in mm, g, and thickness in 1/mm."""
    key = stream(jax.random.key(seed), f"gradients {albedo} {g} {tau} {n}")
    found = transport(slab(albedo, g, tau, n), key=key, photons=photons).slopes
    per_mm = {"mu_a": 1e3, "mu_s": 1e3, "g": 1.0, "thickness": 1e-3}
    names = {"R": "reflectance", "T": "transmittance"}
    return {
        field: {k: Batched(float(by[f].value[0]) * s, float(by[f].stderr[0]) * s, DOF) for k, f in names.items()}
        for (field, by), s in ((item, per_mm[item[0]]) for item in found.items())
    }


def _walks(count: int, photons: int, seed: int, reading: Callable[[Mapping], float]) -> Batched:
    """A reading of the derivatives of the absorbed part of the slab of van de Hulst: mean and error over walks."""
    found = [
        reading(transport(element(Slab, **FIRST), key=jax.random.key(1000 * seed + i), photons=photons).slopes)
        for i in range(count)
    ]
    return Batched(float(np.mean(found)), float(np.std(found, ddof=1) / np.sqrt(count)), count - 1)


def slope_of_what_leaves(by: str, walks: int, photons: int, seed: int = 0) -> Batched:
    """Derivative of R + T of the slab of van de Hulst by 'albedo' or 'g' at fixed tau, or by 'tau' at fixed others.

    R + T = 1 - absorbed there; mu_s = albedo tau/d and mu_a = (1 - albedo) tau/d.
    """
    tau, d = 2.0, FIRST["thickness"]

    def absorbed(slopes, field):
        return float(slopes[field]["absorbed"].value[0, 0])

    def reading(slopes):
        if by == "albedo":
            return -(absorbed(slopes, "mu_s") - absorbed(slopes, "mu_a")) * tau / d
        return -absorbed(slopes, "g") if by == "g" else -absorbed(slopes, "thickness") * d / tau

    return _walks(walks, photons, seed, reading)


def late_light_over_diffusion(photons: int, seed: int = 0) -> Estimate:
    """Diffuse reflectance over radius and time of a half-space over its diffusion approximation, late and far.

    Isotropic scattering, mu_s 1 /mm, mu_a 0.005 /mm, n 1.4, at places of 10 to 30 mm and 0.5 to 4 ns where t is
    at least rho/30 mm/ns; the boundary extrapolated by 2 A D. Weighted mean of the ratios, absorption taken off
    on both sides.
    """
    places = [(r, t) for r in (10, 20, 30) for t in (0.5, 1, 2, 4) if t >= max(0.5, r / 30)]
    mu_a, speed = 5.0, LIGHT_SPEED * 1e-6 / 1.4  # mm/ns
    made = element(Slab, thickness=0.4, depth=0.1, mu_a=mu_a, mu_s=1000.0, g=0.0, n=1.4)
    found, specular = exits(made, key=jax.random.key(seed), photons=photons, memory_limit=2**33)
    up = ~found.below
    r, t = np.hypot(*found.place[up].T) * 1e3, found.time[up] * 1e9
    clear, part = found.weight[up] * np.exp(mu_a * found.length[up, 0]), np.linspace(-0.95, 0.95, 20)
    z_b = 2 / 3 * (1 + 0.493) / (1 - 0.493)  # 2 A D, internal reflection 0.493 of diffuse light at n = 1.4
    ratios, weights = [], []
    for rho, late in places:
        near = (np.abs(r - rho) < 1) & (np.abs(t - late) < 0.1 * late)
        w = clear[near] / (photons * (1 - specular) * 4 * np.pi * rho * 0.2 * late)
        ring, when = rho + part[:, None], late * (1 + 0.1 * part[None, :])
        spread = 4 / 3 * speed * when
        images = np.exp(-1 / spread) + (1 + 2 * z_b) * np.exp(-((1 + 2 * z_b) ** 2) / spread)
        law = (np.pi * spread) ** -1.5 / (2 * when) * np.exp(-(ring**2) / spread) * images
        expected = np.mean(law * ring / rho)
        ratios.append(w.sum() / expected)
        weights.append((expected**2) / np.sum(w**2))
    ratio, weight = np.array(ratios), np.array(weights)
    return Estimate(float(np.sum(weight * ratio) / weight.sum()), float(weight.sum() ** -0.5))
