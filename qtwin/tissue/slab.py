"""A stack of tissue layers between two half-spaces of air, with a thin object at a depth."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import FieldError
from qtwin.core.params import Element, anisotropy, index, is_concrete, nonnegative, param, positive, static
from qtwin.core.units import show
from qtwin.optics.fresnel import normal_reflectance

THICKEST = 10000.0  # scattering lengths that a walk may have to cross


class Layers(NamedTuple):
    """The stack cut at the object: arrays over M = L + 1 sublayers, SI; the object lies below number ``object``."""

    thickness: jax.Array
    mu_a: jax.Array
    mu_s: jax.Array
    g: jax.Array
    n: jax.Array
    object: int


def bound(mu_a, mu_s, size, given: str):
    """FieldError where a photon may be scattered for ever: THICKEST lengths across, and as many until absorbed."""
    lengths = np.where(mu_s > THICKEST * mu_a, mu_s, 0) * size
    if np.sum(lengths) > THICKEST:
        problem = f"got {given} in all, {np.sum(lengths):.0f} scattering lengths that hardly absorb, "
        raise FieldError("thickness", problem + f"accepted is up to {THICKEST:.0f}; a unit?")


class Slab(Element):
    """Plane layers, z = 0 at the illuminated surface; one value per layer, or one for all.

    Henyey-Greenstein scattering, Fresnel reflection where indices differ, absorption along the path,
    air (n = 1) on both sides. ``depth`` is where the object lies, strictly inside one layer.
    """

    thickness: jax.Array = param("m", positive, "thickness of each layer", per_layer=True)
    depth: jax.Array = param("m", positive, "depth of the object below the illuminated surface")
    mu_a: jax.Array = param("1/m", nonnegative, "absorption coefficient", per_layer=True)
    mu_s: jax.Array = param("1/m", nonnegative, "scattering coefficient (not the reduced one)", per_layer=True)
    g: jax.Array = param("", anisotropy, "mean cosine of a scattering", per_layer=True)
    n: jax.Array = param("", index, "refractive index", per_layer=True)
    object_layer: int = eqx.field(static=True, init=False)  # the layer that holds the object, found from depth
    media: tuple[str, ...] | str | None = static("names of the layers, where their coefficients come from", None)

    def check(self):
        thickness = jnp.atleast_1d(self.thickness)
        object.__setattr__(self, "thickness", thickness)
        count = thickness.shape[-1]
        for name in ("mu_a", "mu_s", "g", "n"):
            value = jnp.atleast_1d(getattr(self, name))
            if value.shape[-1] not in (1, count):
                accepted = "1" if count == 1 else f"1 or {count}"
                raise FieldError(name, f"got {value.shape[-1]} values for {count} of thickness, accepted is {accepted}")
            object.__setattr__(self, name, jnp.broadcast_to(value, (*value.shape[:-1], count)))
        if self.depth.ndim and self.depth.shape[-1:] == (1,):
            object.__setattr__(self, "depth", self.depth[..., 0])
        if not (is_concrete(thickness) and is_concrete(self.depth)):
            raise FieldError("depth", "got a traced value; build the slab first and change it with equinox.tree_at")
        self._bound()
        self._place_object(np.cumsum(np.asarray(thickness)), float(self.depth))

    def _bound(self):
        """Refuse what light would hardly ever leave, be it through a surface or absorbed: usually a unit forgotten."""
        given = show(float(np.sum(np.asarray(self.thickness))), "m")
        bound(np.asarray(self.mu_a), np.asarray(self.mu_s), np.asarray(self.thickness), given)

    def _place_object(self, bottoms, depth):
        if depth >= bottoms[-1]:
            total = show(float(bottoms[-1]), "m")
            raise FieldError("depth", f"got {show(depth, 'm')}, accepted is less than the total thickness {total}")
        near = np.min(np.abs(bottoms - depth))
        if near < 1e-6 * bottoms[-1]:
            raise FieldError(
                "depth", f"got {show(depth, 'm')}, accepted is a depth inside a layer, not on an interface"
            )
        object.__setattr__(self, "object_layer", int(np.searchsorted(bottoms, depth)))

    def layers(self) -> Layers:
        """The sublayers, cut at the object; differentiable in every field."""
        j = self.object_layer
        above = self.depth - jnp.sum(self.thickness[:j])
        cut = jnp.stack([above, self.thickness[j] - above])
        thickness = jnp.concatenate([self.thickness[:j], cut, self.thickness[j + 1 :]])

        def twice(a):
            return jnp.concatenate([a[: j + 1], a[j:]])

        return Layers(thickness, twice(self.mu_a), twice(self.mu_s), twice(self.g), twice(self.n), j)

    def whole(self) -> Layers:
        """The layers as they are, not cut at the object (whose number is -1: nothing lies between them)."""
        return Layers(self.thickness, self.mu_a, self.mu_s, self.g, self.n, -1)

    def entrance(self):
        """1 - R of the illuminated surface at normal incidence; the rest is the specular reflection."""
        return 1 - normal_reflectance(1.0, self.n[0])

    def ballistic(self):
        """T_b = prod(1 - R) exp(-sum (mu_a + mu_s) d): light that crosses straight, unscattered, unreflected.

        Beer-Lambert with the Fresnel losses of every interface at normal incidence.
        """
        n = jnp.concatenate([jnp.ones(1, self.n.dtype), self.n, jnp.ones(1, self.n.dtype)])
        surfaces = jnp.prod(1 - normal_reflectance(n[:-1], n[1:]))
        return surfaces * jnp.exp(-jnp.sum((self.mu_a + self.mu_s) * self.thickness))

    def apparent_depth(self):
        """Sum of d/n below the object: where a lens behind the slab sees the object, paraxially (m)."""
        layers = self.layers()
        below = slice(layers.object + 1, None)
        return jnp.sum(layers.thickness[below] / layers.n[below])
