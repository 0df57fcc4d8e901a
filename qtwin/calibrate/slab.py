"""Absorption and scattering of tissue samples from what two integrating spheres collect of collimated light.

    R = R_0 + (1 - R_0) E[w up],   T = T_b + (1 - R_0) E[w down]
    w = exp(-mu_a l) (mu_s/mu_s0)^k exp(-(mu_s - mu_s0) l)

over the paths of one walk of every row (`qtwin.tissue.weights`), made anew where its weights have become uneven; the
part that strays is exact there (stratified), as are the specular part R_0 and straight light T_b.
Thickness, anisotropy and index are told by the table: two numbers do not hold them as well. What inverse adding and
doubling does (Prahl, van Gemert & Welch, Appl. Opt. 32, 559 (1993)), with the error of its own light.
"""

from pathlib import Path
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.calibrate.data import table
from qtwin.calibrate.model import AbstractModel, Data, Expected, Part
from qtwin.core.errors import FieldError, UserError
from qtwin.core.params import nonnegative, param, positive, static
from qtwin.core.random import stream, words
from qtwin.core.units import data_size
from qtwin.optics.fresnel import normal_reflectance
from qtwin.tissue import Slab
from qtwin.tissue.carry import carry
from qtwin.tissue.paths import pack_size, unpack
from qtwin.tissue.walk import BLOCKS, medium_of, rounded

KNOWN = {"thickness": "m", "g": "", "n": ""}
SEEN = {"reflectance": "", "reflectance_error": "", "transmittance": "", "transmittance_error": ""}
WORN, LOST = 0.95, 0.1  # effective part of a walk below which it is made anew, and below which it tells nothing
DEPTHS, LOSSES = np.geomspace(0.02, 2000, 41), np.geomspace(1e-4, 100, 61)  # mu_s d (1 - g), mu_a d that are tried
DEEPEST = 5000.0  # mu_s d that is tried
PILOT = 8192  # photons of every trial
ROOM = 2**30  # bytes of all walks, at most


class Walks(NamedTuple):
    """Photons of one walk of every row, [rows, BLOCKS, n], and the scattering coefficient in which they were walked."""

    mu_s: jax.Array  # [rows], 1/m
    down: jax.Array  # 1 where it left below
    boost: jax.Array  # weight of the roulette and the strata; 0 of straight light, which is exact
    length: jax.Array  # m
    scatterings: jax.Array
    nth: jax.Array  # walks made so far


def _slab(given, row: int, mu_a: float, mu_s: float) -> Slab:
    thickness, g, n = (float(given[name][row]) for name in KNOWN)
    d, a, s, c, index = (jnp.asarray([x], float) for x in (thickness, mu_a, mu_s, g, n))
    return Slab(d, d[0] / 2, a, s, c, index)


def _walked(slab: Slab, photons: int, key) -> tuple[np.ndarray, ...]:
    """down, boost, length, scatterings of ``photons`` (whole blocks), [BLOCKS, n]."""
    layers = jax.tree.map(jax.lax.stop_gradient, slab.whole())
    out = np.empty((photons, pack_size(1, 0)), np.float32)
    carry(medium_of(layers._replace(object=0)), words(key), np.arange(photons, dtype=np.uint32), out=out)
    paths = unpack(out, 1, 0)
    own = paths.transmitted, paths.boost * paths.strayed, paths.length[:, 0], paths.scatterings[:, 0], paths.strayed
    down, boost, length, scatterings, strayed = (np.asarray(a).reshape(BLOCKS, -1) for a in own)
    straight = (1 - normal_reflectance(1.0, layers.n[0])) * jnp.exp(-jnp.sum(layers.mu_s * layers.thickness))
    share = float(1 - straight) / np.maximum(strayed.mean(axis=1, keepdims=True), 1 / strayed.shape[1])
    return down, (boost * share).astype(np.float32), length, scatterings


def _exact(given, mu_a, mu_s):
    """Specular reflectance R_0 and straight light T_b = (1 - R_0)^2 exp(-(mu_a + mu_s) d) of every row, [rows]."""
    specular = normal_reflectance(1.0, given["n"])
    return specular, (1 - specular) ** 2 * jnp.exp(-(mu_a + mu_s) * given["thickness"])


class Sphere(AbstractModel):
    """Reflectance and transmittance of slabs, all light collected, of a collimated beam at normal incidence."""

    law: ClassVar[str] = "normal"
    unit: ClassVar[str] = ""
    limits: ClassVar[tuple[str, ...]] = (
        "Samples are wide beside the spread of light in them and spheres collect all of it: none is lost at the edges.",
        "Henyey and Greenstein's law of scattering, with the anisotropy of the table; an error of g shifts mu_s.",
        "The reflectance holds the specular part, the transmittance the straight part.",
    )

    mu_a: jax.Array | None = param("1/m", nonnegative, "absorption coefficient of each sample", None, True)
    mu_s: jax.Array | None = param(
        "1/m", positive, "scattering coefficient of each sample (not the reduced one)", None, True
    )
    photons: int = static("of the walk of every row", 2**17)
    seed: int = static("of the walks", 0)
    walks: Walks | None = None  # of `renewed`

    def check(self):
        if isinstance(self.photons, bool) or not isinstance(self.photons, int) or self.photons < PILOT:
            raise FieldError("photons", f"got {self.photons!r}, accepted is a whole number from {PILOT} on")

    def read(self, path: Path) -> Data:
        read = table(path, KNOWN | SEEN | {"sample": ""}, optional=["sample"])
        count = len(read["g"])
        r, t = read["reflectance"], read["transmittance"]
        off_r, off_t = 4 * read["reflectance_error"], 4 * read["transmittance_error"]
        whole = r + t <= 1 + np.hypot(off_r, off_t)
        ok = {
            "reflectance": ("from 0 to 1 within four standard errors", (r >= -off_r) & (r <= 1 + off_r)),
            "transmittance": ("0 or more, with the reflectance at most 1, within four errors", (t >= -off_t) & whole),
            "reflectance_error": ("above 0", read["reflectance_error"] > 0),
            "transmittance_error": ("above 0", read["transmittance_error"] > 0),
            "thickness": ("above 0", read["thickness"] > 0),
            "g": ("between -1 and 1", np.abs(read["g"]) < 1),
            "n": ("1 or greater", read["n"] >= 1),
        }
        for name, (words_, fine) in ok.items():
            if not fine.all():
                row = int(np.argmin(fine))
                raise UserError(f"{path}: row {row}, {name}: got {read[name][row]:g}, accepted is {words_}")
        need = count * rounded(self.photons) * 4 * 4
        if need > ROOM:
            told = f"{count} rows of {self.photons} photons need {data_size(need)}, at most {data_size(ROOM)}"
            raise UserError(f"model.photons: {told}")
        sample = np.unique(read.get("sample", np.arange(count)), return_inverse=True)[1]
        given = {name: read[name] for name in KNOWN}
        given["variance"] = np.concatenate([read["reflectance_error"], read["transmittance_error"]]) ** 2
        given["sample"] = sample
        rows = np.arange(count)
        parts = {name: Part(k * count + rows, rows, "row") for k, name in enumerate(("reflectance", "transmittance"))}
        return Data(np.concatenate([r, t]), given, np.tile(rows, 2), parts)

    def started(self, data: Data) -> "Sphere":
        """With a coefficient for every sample, as given or, where none is, the one of a grid that comes closest."""
        sample = np.asarray(data.given["sample"])
        count = int(sample.max()) + 1
        out = {}
        for name in ("mu_a", "mu_s"):
            value = getattr(self, name)
            if value is not None and value.size not in (1, count):
                raise FieldError(name, f"got {value.size} values, accepted is one or one for each of {count} samples")
            out[name] = None if value is None else jnp.broadcast_to(jnp.atleast_1d(value), (count,))
        if None in out.values():
            first = [int(np.argmax(sample == k)) for k in range(count)]
            near = np.array([self._near(data, row) for row in first]).T
            out = {k: jnp.asarray(a) if out[k] is None else out[k] for k, a in zip(out, near, strict=True)}
        return Sphere(out["mu_a"], out["mu_s"], self.photons, self.seed)

    def _near(self, data: Data, row: int) -> tuple[float, float]:
        """mu_a and mu_s of a coarse grid that explain one row best."""
        given, n = data.given, len(data.given["g"])
        seen, std = data.values[[row, n + row]], np.sqrt(np.asarray(given["variance"])[[row, n + row]])
        thickness, g = given["thickness"][row], given["g"][row]
        best = (np.inf, 0.0, 0.0)
        for i, depth in enumerate(DEPTHS[DEPTHS < DEEPEST * (1 - g)] / (1 - g)):
            mu_s, mu_a = depth / thickness, LOSSES / thickness
            walked = _walked(_slab(given, row, mu_a[0], mu_s), PILOT, stream(self._key("pilot"), str(i)))
            down, boost, length, _ = (a.ravel() for a in walked)
            left = boost[:, None] * np.exp(-np.outer(length, mu_a))
            specular, straight = (np.asarray(a) for a in _exact({k: given[k][row] for k in KNOWN}, mu_a, mu_s))
            through = straight + (1 - specular) * np.mean(left * down[:, None], axis=0)
            back = specular + (1 - specular) * np.mean(left * (1 - down[:, None]), axis=0)
            off = ((back - seen[0]) / (std[0] + 0.01)) ** 2 + ((through - seen[1]) / (std[1] + 0.01)) ** 2
            k = int(np.argmin(off))
            best = min(best, (float(off[k]), float(mu_a[k]), float(mu_s)))
            if through.max() < seen[1] - 5 * std[1] - 0.05:  # thicker samples pass less still
                break
        return best[1:]

    def _key(self, name: str):
        return stream(jax.random.key(self.seed), name)

    def _rows(self, given):
        """mu_a and mu_s of every row."""
        return tuple(jnp.asarray(a)[given["sample"]] for a in (self.mu_a, self.mu_s))

    def renewed(self, given) -> "Sphere":
        mu_a, mu_s = self._rows(given)
        if self.walks is not None and float(jnp.min(self._read(given)[2])) >= WORN:
            return self
        nth = 1 if self.walks is None else int(self.walks.nth) + 1
        key, photons = stream(self._key("walks"), str(nth)), rounded(self.photons)
        found = [
            _walked(_slab(given, i, float(a), float(s)), photons, stream(key, str(i)))
            for i, (a, s) in enumerate(zip(mu_a, mu_s, strict=True))
        ]
        down, boost, length, scatterings = (jnp.asarray(np.stack(column)) for column in zip(*found, strict=True))
        walks = Walks(mu_s, down, boost, length, scatterings, jnp.asarray(nth))
        return Sphere(self.mu_a, self.mu_s, self.photons, self.seed, walks)

    def _read(self, given):
        """Light up and down of every block, [BLOCKS, rows] each, and the effective part of the photons, [rows]."""
        if self.walks is None:
            raise ValueError("no walk: call renewed() first")

        def row(item):  # one at a time: of many rows the slopes would not fit into memory together
            mu_a, mu_s, mu_s0, *walked = item
            down, boost, length, scatterings = (a.astype(mu_s.dtype) for a in walked)
            likely = jnp.exp(length * (mu_s0 - mu_s) + scatterings * jnp.log(mu_s / mu_s0))
            w = boost * likely * jnp.exp(-length * mu_a)
            through = jnp.mean(w * down, axis=1)
            back = jnp.mean(w, axis=1) - through
            return back, through, jnp.mean(likely) ** 2 / jnp.mean(likely * likely)

        back, through, effective = jax.lax.map(row, (*self._rows(given), *self.walks[:-1]))
        return back.T, through.T, effective

    def _collected(self, given, back, through):
        specular, straight = _exact(given, *self._rows(given))
        return jnp.concatenate([specular + (1 - specular) * back, straight + (1 - specular) * through])

    def blocks(self, given):
        back, through, _ = self._read(given)
        return jax.vmap(lambda up, down: self._collected(given, up, down))(back, through)

    def expect(self, given):
        back, through, effective = self._read(given)
        mean = self._collected(given, jnp.mean(back, axis=0), jnp.mean(through, axis=0))
        return Expected(jnp.where(jnp.tile(effective > LOST, 2), mean, jnp.nan), given["variance"])

    def exposures(self, given):
        """Of equal light; variances go as one over it."""
        return jnp.ones_like(given["g"])

    def longer(self, given, factors):
        return given | {"variance": given["variance"] / jnp.tile(factors, 2)}

    def derived(self, given):
        """mu_s' = mu_s (1 - g) of every row."""
        _, mu_s = self._rows(given)
        reduced = mu_s * (1 - given["g"])
        return {f"reduced scattering, row {i}": (reduced[i], "1/m") for i in range(reduced.shape[0])}
