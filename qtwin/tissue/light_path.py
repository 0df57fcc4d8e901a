"""Pairs through optics, object and tissue, up to the surface of the detectors: both readings.

`LightPath.images` gives probabilities per incident signal photon, averaged over a walk whose weights
carry the derivatives; `LightPath.sample` carries pairs one by one.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf

from qtwin.core.params import Element
from qtwin.core.random import stream, words
from qtwin.optics import FarField
from qtwin.scene import AbstractScene
from qtwin.scene.grid import Grid, padded
from qtwin.source import SPDC
from qtwin.tissue import images, unscattered
from qtwin.tissue.carry import carry
from qtwin.tissue.images import Beams, Images, image_position
from qtwin.tissue.paths import unpack
from qtwin.tissue.slab import Slab
from qtwin.tissue.unscattered import moments
from qtwin.tissue.walk import BLOCKS, Walk, medium_of

# walked and unscattered; apart from each other, so that whoever needs the derivative of one never pays for the other's
HALVES = ((images.seen, unscattered.seen), (images.heralded, unscattered.heralded))


class Exposure(NamedTuple):
    """Pairs of one exposure, photon by photon; [count] each."""

    signal: jax.Array  # [count, 2] where the signal appears in the object plane, m
    idler: jax.Array  # [count, 2] mirrored position of the idler, m
    seen: jax.Array  # bool: the signal came through and within the aperture
    survival: jax.Array  # probability that it was not absorbed, wherever it went


class LightPath(Element):
    """Source, optics, object and tissue, up to the detectors."""

    source: SPDC
    optics: FarField
    scene: AbstractScene
    tissue: Slab

    def check(self):
        self.optics.check_with(self.source)

    def grid(self) -> Grid:
        """The object's transmission map, inside a ring of clear cells."""
        return padded(self.scene.grid(self.optics.pixels, self.optics.fine, self.optics.pitch))

    def _beams(self) -> Beams:
        o, s = self.optics, self.source
        g = o.geometry(s)
        (middle, idler_middle), (beam, idler_beam) = o.centres_of(s, g), g.beam_widths()
        (shrink, partner), (idler_shrink, idler_partner) = g.partner(), g.partner("idler")
        return Beams(
            middle,
            beam,
            shrink,
            partner,
            idler_middle,
            idler_beam,
            idler_shrink,
            idler_partner,
            o.drift(),
            o.blur(s),
            o.pitch,
            o.centres(),
            o.numerical_aperture,
            self.tissue.entrance(),
            self.tissue.apparent_depth(),
            self.grid(),
        )

    def images(self, walk: Walk) -> Images:
        """Probability images of every block of the walk, [BLOCKS, ...]; their mean is the estimate.

        Differentiable in every parameter of source, optics and tissue (and in the scene's).
        """
        beams, layers = self._beams(), self.tissue.layers()
        bare, walked = layers._replace(object=0), walk.layers._replace(object=0)
        which, ballistic = self.tissue.object_layer, self.tissue.ballistic()
        per_block = walk.photons // BLOCKS
        found: dict[str, jax.Array] = {}
        for half, unscattered_half in HALVES:
            total = images.walked(beams, bare, walked, walk.paths, half=half, object_layer=which, once=True)
            for again in walk.again:
                more = images.walked(beams, bare, walked, again, half=half, object_layer=which, once=False)
                total = jax.tree.map(jnp.add, total, more)
            straight = unscattered_half(beams)
            found |= jax.tree.map(lambda a, b: a / per_block + (ballistic * b)[None], total, straight)
        return Images(**found)

    def idler_image(self):
        """Probability that the mirrored idler of a pair meets each superpixel, [n, n]; exact."""
        o = self.optics
        g = o.geometry(self.source)
        width = jnp.sqrt(2.0) * g.beam_widths()[1]
        edges = (jnp.arange(o.pixels + 1, dtype=o.pitch.dtype) - o.pixels / 2) * o.pitch
        places, share = moments(o.drift())
        middle = (o.centres_of(self.source, g)[1][None] + places).T  # [2, moments]
        x, y = jnp.diff(erf((edges[None, None, :] - middle[:, :, None]) / width), axis=-1) / 2
        return jnp.einsum("ty,tx,t->yx", y, x, share)

    def sample(self, count: int, *, key) -> Exposure:
        """Carry ``count`` pairs photon by photon; the signal meets the sample, every one is followed."""
        names = ("pairs", "tissue", "survival", "blur", "drift")
        keys = {name: stream(key, name) for name in names}
        pair = self.source.biphoton().sample(count, key=keys["pairs"])
        (middle, idler_middle), scale = self.optics.beam_centres(self.source), self.optics.scale(self.source)
        signal = middle[None] + pair[0].k * scale - pair[0].x * self.optics.defocus / self.optics.focal_length
        when = jax.random.uniform(keys["drift"], (count, 1), signal.dtype) - 0.5
        idler = idler_middle[None] - pair[1].k * scale + when * self.optics.drift()[None]
        layers, grid = self.tissue.layers(), self.grid()
        single = Grid(grid.values.astype(jnp.float32), jnp.asarray(grid.cell, jnp.float32))
        table = carry(
            medium_of(layers),
            words(keys["tissue"]),
            np.arange(count, dtype=np.uint32),
            start=signal.astype(jnp.float32),
            grid=single,
            roulette=False,
            object_layer=self.tissue.object_layer,
            kept=0,
        )
        paths = unpack(jnp.asarray(table), layers.thickness.shape[0], 0)
        kind = signal.dtype
        losses = jnp.sum(layers.mu_a[None, :] * paths.length.astype(kind), axis=1)
        survival = jnp.exp(-losses) * paths.clear.astype(kind)
        u, specular = jax.random.uniform(keys["survival"], (2, count), kind)
        entered = specular < self.tissue.entrance()
        inside = jnp.sum(paths.direction.astype(kind) ** 2, axis=1) <= self.optics.numerical_aperture**2
        seen = (paths.transmitted > 0) & inside & (u < survival) & entered
        blur = jax.random.normal(keys["blur"], (count, 2), kind) * self.optics.blur(self.source)
        moved = jnp.sum(paths.shift.astype(kind), axis=1)
        place = signal + image_position(paths.direction, moved, self.tissue.apparent_depth()) + blur
        return Exposure(place, idler, seen, jnp.where(entered, survival, 1.0))
