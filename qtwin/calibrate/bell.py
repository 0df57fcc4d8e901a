"""Polarisation correlations of photon pairs: singles and coincidences behind two analysers, setting by setting.

    rho ~ (D_s x D_i) rho_0 (D_s x D_i),   <ZZ> = V_hv, <XX> = -<YY> = V_da, <Z1> = <1Z> = p of rho_0
    singles   S = T (eta_s R Tr[rho |a><a|] + b_s)          coincidences   C = T eta_s eta_i R <ab|rho|ab> + S I tau_w/T

D = diag(sqrt(1 + d), sqrt(1 - d)): diattenuation d of an arm, whose efficiency is eta (1 + d) for H and eta (1 - d) for
V. Klyshko, Sov. J. Quantum Electron. 10, 1112 (1980) for the efficiencies, accidentals as in
`qtwin.correlation.accidentals`. Clicks in coincidence and clicks alone are fitted (C, S - C, I - C): a thinned Poisson
stream's parts are independent, which S, I and C are not. All three scatter from setting to setting by the part
``drift`` beyond Poisson's law, each on its own.
"""

from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.calibrate.data import counts, table
from qtwin.calibrate.model import AbstractModel, Data, Expected, Part
from qtwin.core.errors import FieldError, UserError
from qtwin.core.params import Support, fraction, is_concrete, nonnegative, param, positive, real
from qtwin.core.params import efficiency as efficient

COLUMNS = {"alpha": "rad", "beta": "rad", "integration_time": "s"}
COUNTED = {"signal_counts": "", "idler_counts": "", "coincidence_counts": ""}
inside = Support("between -1 and 1, both excluded", -1.0, 1.0, low_open=True, high_open=True)


def _settings(alpha, beta) -> np.ndarray | None:
    """Rows of (a, b), (a + 90, b + 90), (a, b + 90), (a + 90, b) for the four pairs of CHSH's settings, [4, 4]."""
    rows = {tuple(np.round(np.rad2deg(pair), 3) % 180): k for k, pair in enumerate(zip(alpha, beta, strict=True))}
    turns = ((0, 0), (90, 90), (0, 90), (90, 0))
    wanted = [[((a + p) % 180, (b + q) % 180) for p, q in turns] for a in (0, 45) for b in (22.5, -22.5)]
    complete = all(pair in rows for outcomes in wanted for pair in outcomes)
    return np.array([[rows[pair] for pair in outcomes] for outcomes in wanted]) if complete else None


class Bell(AbstractModel):
    """Two analysers on a source of entangled pairs; the table's alpha stands before the idler's detector."""

    law: ClassVar[str] = "scattered"
    limits: ClassVar[tuple[str, ...]] = (
        "Efficiency, pair rate and background of one arm are told apart by how unequal its clicks are from setting to "
        "setting, which is little, or by a prior of the background.",
        "The drift of one setting is taken as independent for its three numbers; light that fades for all is not.",
        "The most probable drift is too low where many parameters bend towards the scatter; posterior draws are not.",
    )

    pair_rate: jax.Array = param("Hz", positive, "pairs per second, both photons on their way")
    balance: jax.Array = param("", inside, "p, excess of HH over VV")
    visibility_hv: jax.Array = param("", fraction, "V_hv, correlation of H and V")
    visibility_da: jax.Array = param("", fraction, "V_da, correlation of the diagonals")
    signal_efficiency: jax.Array = param("", efficient, "of the signal arm, detector included, mean of H and V")
    idler_efficiency: jax.Array = param("", efficient, "of the idler arm, detector included, mean of H and V")
    window: jax.Array = param("s", positive, "tau_w, full coincidence window")
    signal_diattenuation: jax.Array = param("", inside, "d of the signal arm: eta (1 + d) for H", 0.0)
    idler_diattenuation: jax.Array = param("", inside, "d of the idler arm", 0.0)
    signal_background: jax.Array = param("Hz", nonnegative, "dark counts and stray light, signal", 0.0)
    idler_background: jax.Array = param("Hz", nonnegative, "dark counts and stray light, idler", 0.0)
    signal_angles: jax.Array = param(
        "rad", real, "error of each setting of the signal's analyser, by falling angle", 0.0, True
    )
    idler_angles: jax.Array = param("rad", real, "error of each setting of the idler's analyser", 0.0, True)
    drift: jax.Array = param("", nonnegative, "relative scatter of a count from setting to setting", 0.0)

    def check(self):
        if is_concrete(self.pair_rate) and self.signal_angles.ndim > 1:
            raise FieldError("signal_angles", "got a table, accepted is one number or one for each setting")

    def read(self, path: Path) -> Data:
        read = table(path, COLUMNS | COUNTED)
        s, i, c = (counts(path, name, read[name]) for name in COUNTED)
        if np.any(c > np.minimum(s, i)):
            line = int(np.argmax(c > np.minimum(s, i)))
            raise UserError(f"{path}: row {line} has more coincidences than singles")
        time = read["integration_time"]
        if not np.all(time > 0):
            raise UserError(f"{path}: integration_time: got {time.min():g} s, accepted is a time above 0")
        given = {"idler": read["alpha"], "signal": read["beta"], "time": time}
        for arm, angle in (("idler", read["alpha"]), ("signal", read["beta"])):
            different, number = np.unique(-np.round(angle, 6), return_inverse=True)
            given[f"{arm}_setting"] = number
            size = getattr(self, f"{arm}_angles").size
            if size not in (1, len(different)):
                told = f"has {len(different)} setting{'s' * (len(different) > 1)} of the {arm}'s analyser"
                accepted = f"is 1 or {len(different)}" if len(different) > 1 else "is 1"
                raise UserError(f"{path}: {told}, {arm}_angles has {size} entries; accepted {accepted}")
        if (chosen := _settings(read["alpha"], read["beta"])) is not None:
            given["chsh"] = chosen
        rows = np.arange(len(s))
        names = ("coincidences", "signal alone", "idler alone")
        parts = {name: Part(k * len(s) + rows, rows, "setting") for k, name in enumerate(names)}
        return Data(np.concatenate([c, s - c, i - c]), given, np.tile(rows, 3), parts)

    def state(self):
        """rho behind the diattenuation of both arms, [4, 4] real; its trace is 1 + d_s d_i V_hv + p (d_s + d_i)."""
        p, z, x = self.balance, self.visibility_hv, self.visibility_da
        rho = jnp.diag(jnp.stack([1 + 2 * p + z, 1 - z, 1 - z, 1 - 2 * p + z]) / 4)
        rho = rho.at[jnp.array([0, 3]), jnp.array([3, 0])].add(x / 2)
        arms = (jnp.stack([jnp.sqrt(1 + d), jnp.sqrt(1 - d)]) for d in self._diattenuations())
        pair = jnp.kron(*arms)
        return pair[:, None] * rho * pair[None, :]

    def _diattenuations(self):
        return self.signal_diattenuation, self.idler_diattenuation

    def rates(self, signal, idler):
        """Pairs, signal and idler clicks per second (accidentals not) behind analysers at these angles [...], rad."""
        rho, p, r = self.state(), self.balance, self.pair_rate
        (cs, ss), (ci, si) = ((jnp.cos(a), jnp.sin(a)) for a in (signal, idler))
        ket = jnp.stack([cs * ci, cs * si, ss * ci, ss * si])
        joint = jnp.einsum("k...,kl,l...->...", ket, rho, ket)

        def alone(c, s, d):
            """<a|D rho_1 D|a>, rho_1 = diag(1 + p, 1 - p)/2 of one photon."""
            return ((1 + p) * (1 + d) * c**2 + (1 - p) * (1 - d) * s**2) / 2

        ds, di = self._diattenuations()
        one = self.signal_efficiency * r * alone(cs, ss, ds) + self.signal_background
        two = self.idler_efficiency * r * alone(ci, si, di) + self.idler_background
        return self.signal_efficiency * self.idler_efficiency * r * joint, one, two

    def _angles(self, given):
        def true(arm, errors):
            errors = jnp.atleast_1d(errors)
            return given[arm] + (errors[given[f"{arm}_setting"]] if errors.size > 1 else errors)

        return true("signal", self.signal_angles), true("idler", self.idler_angles)

    def counted(self, given):
        """Mean coincidences, accidentals in them, signal and idler counts of every setting, [rows]."""
        pairs, s, i = (given["time"] * rate for rate in self.rates(*self._angles(given)))
        accidental = s * i * self.window / given["time"]
        return pairs + accidental, accidental, s, i

    def expect(self, given):
        c, _, s, i = self.counted(given)
        mean = jnp.concatenate([c, s - c, i - c])
        return Expected(mean, mean + (self.drift * mean) ** 2)

    def exposures(self, given):
        return given["time"]

    def longer(self, given, factors):
        return given | {"time": given["time"] * factors}

    def derived(self, given):
        """CHSH sum of the mean counts at (0, 45) and (22.5, -22.5) degrees, where the table holds those settings."""
        if "chsh" not in given:
            return {}
        c, accidental, _, _ = self.counted(given)

        def total(n):
            n = n[given["chsh"]]  # [4 pairs of settings, 4 outcomes]
            e = (n[:, 0] + n[:, 1] - n[:, 2] - n[:, 3]) / jnp.sum(n, axis=1)
            return jnp.abs(e[0] + e[1] + e[2] - e[3])

        return {"CHSH sum, raw": (total(c), ""), "CHSH sum, accidentals subtracted": (total(c - accidental), "")}
