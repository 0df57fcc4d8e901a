"""Solutions of phase matching: angles, signal wavelengths and emission angles, over whole tuning curves."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.errors import UserError
from qtwin.core.params import is_concrete
from qtwin.source.phase_matching import grating, idler_wavelength, mismatch, nm
from qtwin.source.sellmeier import to_float


def implicit_root(f, grid, start=0.0):
    """Root of the scalar function ``f`` in the interval of ``grid`` [n] nearest to ``start`` with a change of sign.

    Bisection to the last bit; differentiable through f(x*, p) = 0: dx*/dp = -(df/dp)/(df/dx). NaN without a change.
    """

    def solve(f, _):
        values = jax.vmap(f)(grid)
        change = values[:-1] * values[1:] <= 0
        i = jnp.argmin(jnp.where(change, jnp.abs(grid[:-1] + grid[1:] - 2 * start), jnp.inf))

        def halve(_, ends):
            low, high = ends
            middle = (low + high) / 2
            left = f(middle) * jnp.sign(values[i]) > 0
            return jnp.where(left, middle, low), jnp.where(left, high, middle)

        low, high = jax.lax.fori_loop(0, 60, halve, (grid[i], grid[i + 1]))
        return jnp.where(jnp.any(change), (low + high) / 2, jnp.nan)

    return jax.lax.custom_root(f, grid[0], solve, lambda g, y: y / g(jnp.ones_like(y)))


@partial(jax.jit, static_argnums=0)
def _angle(interaction, pump, signal, given):
    def one(pump, signal, given):
        angles = jnp.linspace(0.0, jnp.pi / 2, 91, dtype=pump.dtype)
        return implicit_root(lambda angle: mismatch(interaction, pump, signal, angle=angle, **given), angles)

    return _over(one, pump, signal, given)


def phase_matching_angle(interaction, pump, signal, *, temperature=None):
    """Smallest collinear angle (rad) with k_p = k_s + k_i, elementwise; UserError where a known input has none.

    Traced inputs that cannot match give NaN.
    """
    pump, signal, temperature = _known(interaction, pump, signal, temperature)
    angle = _angle(interaction, pump, signal, {} if temperature is None else {"temperature": temperature})
    if is_concrete(angle) and np.isnan(np.asarray(angle)).any():
        i = int(np.argmax(np.isnan(np.ravel(angle))))
        p, s, angle = (np.broadcast_to(x, np.shape(angle)).ravel() for x in (pump, signal, angle))
        _no_angle(interaction, float(p[i]), float(s[i]), temperature)
    return angle


def _known(interaction, pump, signal, temperature):
    """The same as arrays, after the sets have seen them."""
    pump, signal = to_float(pump), to_float(signal)
    temperature = None if temperature is None else to_float(temperature)
    for beam, wavelength in enumerate((pump, signal, idler_wavelength(pump, signal))):
        for _, s in interaction.sets(beam):
            s.check(wavelength, temperature)
    return pump, signal, temperature


@partial(jax.jit, static_argnums=0)
def _signal(interaction, pump, angle, period, temperature):
    """Root of the mismatch in x = w_s/w_p, nearest to 1/2, as a wavelength; NaN without."""

    def one(pump, angle, given):
        def f(x):
            return mismatch(interaction, pump, pump / x, angle=angle, **given)

        (s_low, s_high), (i_low, i_high) = interaction.window(1), interaction.window(2)
        alike = interaction.rays[1] == interaction.rays[2]
        low = jnp.where(alike, 0.5, jnp.maximum(pump / s_high, 1 - pump / i_low))
        high = jnp.minimum(pump / s_low, 1 - pump / i_high)
        grid = low + (high - low) * jnp.linspace(0.0, 1.0, 301, dtype=pump.dtype)
        return pump / implicit_root(f, grid, 0.5)

    given = {k: v for k, v in {"period": period, "temperature": temperature}.items() if v is not None}
    return _over(one, pump, angle, given)


def _over(one, *arguments):
    """``one`` on scalars, over arguments that broadcast together; a dictionary among them is mapped by value."""
    leaves, tree = jax.tree.flatten(arguments)
    return jnp.vectorize(lambda *scalars: one(*jax.tree.unflatten(tree, scalars)))(*leaves)


def matched_signal(interaction, pump, *, angle=jnp.pi / 2, period=None, temperature=None):
    """Signal wavelength (m) of collinear phase matching: a tuning curve over any of the arguments, elementwise.

    The root nearest to degeneracy inside the sets' ranges; signal and idler alike: the shorter of the two (there
    the derivative diverges at degeneracy). NaN where an element of an array has no match, UserError where none
    has: it names the nearest pump that works.
    """
    pump, angle = to_float(pump), to_float(angle)
    period, temperature = (None if v is None else to_float(v) for v in (period, temperature))
    for _, s in interaction.sets(0):
        s.check(pump, temperature)
    grating(interaction, period, temperature)
    signal = _signal(interaction, pump, angle, period, temperature)
    if is_concrete(signal) and np.isnan(np.asarray(signal)).all():
        text = f"{interaction.crystal} ({interaction.rays}) matches no signal to a pump of {nm(pump)} nm here"
        low, high = interaction.window(0)
        pumps = np.linspace(low, high, 1201)
        first = [None if v is None else jnp.ravel(v)[0] for v in (angle, period, temperature)]
        works = pumps[np.isfinite(_signal(interaction, to_float(pumps), *first))]
        if works.size:
            text += f"; nearest pump that works: {nm(works[np.argmin(abs(works - np.ravel(pump)[0]))])} nm"
        raise UserError(text)
    return signal


@partial(jax.jit, static_argnums=0)
def _emission(interaction, pump, signal, angle, azimuth, given):
    def one(pump, signal, angle, azimuth, given):
        def f(sine):
            at = {"angle": angle, "emission": jnp.arcsin(sine), "azimuth": azimuth, **given}
            return mismatch(interaction, pump, signal, **at)

        widest = jnp.minimum(1.0, pump / (signal - pump)) * 0.999  # the idler leaves the crystal too
        return jnp.arcsin(implicit_root(f, widest * jnp.linspace(0.0, 1.0, 201, dtype=pump.dtype) ** 2))

    return _over(one, pump, signal, angle, azimuth, given)


def emission_angle(interaction, pump, signal, *, angle, period=None, temperature=None, azimuth=0.0):
    """Angle (rad, outside) to the pump at which the signal leaves phase-matched, elementwise; see `mismatch`.

    Half the opening of the cone of a type I crystal; it collapses to 0 at the collinear angle and there is no
    emission below (NaN in an array, UserError where no element has any).
    """
    pump, signal, temperature = _known(interaction, pump, signal, temperature)
    given = {"period": period, "temperature": temperature}
    given = {k: to_float(v) for k, v in given.items() if v is not None}
    emission = _emission(interaction, pump, signal, to_float(angle), to_float(azimuth), given)
    if is_concrete(emission) and np.isnan(np.asarray(emission)).all():
        raise UserError(
            f"{interaction.crystal} ({interaction.rays}) emits no {nm(signal)} nm at an angle of "
            f"{np.degrees(np.ravel(angle)[0]):.6g} degrees"
        )
    return emission


def _no_angle(interaction, pump, signal, temperature):
    """Raise UserError that names the nearest signal at this pump, and the nearest pump at this ratio, that match."""
    text = f"{interaction.crystal} ({interaction.rays}) cannot match {nm(pump)} -> {nm(signal)} nm at any angle"
    x = np.linspace(0.05, 0.95, 721)
    low, high = interaction.window(0)
    signals, pumps = pump / x, np.linspace(low, high, 721)
    given = {} if temperature is None else {"temperature": jnp.ravel(temperature)[0]}
    for word, value, p, s in (("signal", signals, pump, signals), ("pump", pumps, pumps, pumps * signal / pump)):
        inside = _inside(interaction, p, s)
        p, s, value = (np.broadcast_to(v, inside.shape)[inside] for v in (p, s, value))
        angle = np.asarray(_angle(interaction, to_float(p), to_float(s), given)) if value.size else value
        works = value[np.isfinite(angle)]
        if works.size:
            wanted = signal if word == "signal" else pump
            nearest = works[np.argmin(abs(works - wanted))]
            text += f"; nearest {word} that works: {nm(nearest)} nm"
    raise UserError(text)


def _inside(interaction, pump, signal):
    """Where all three wavelengths lie in the windows of their beams."""
    idler = 1 / (1 / pump - 1 / signal)
    within = [
        (w >= interaction.window(b)[0]) & (w <= interaction.window(b)[1]) for b, w in enumerate((pump, signal, idler))
    ]
    return within[0] & within[1] & within[2]
