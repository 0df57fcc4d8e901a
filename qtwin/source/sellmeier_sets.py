"""Published Sellmeier sets, written as their authors print them: w in um, t in degrees Celsius."""

from qtwin.core.errors import UserError
from qtwin.source.sellmeier import ZERO_CELSIUS, Sellmeier


def _emanueli(n1, n2):
    """Shift n1(w) dt + n2(w) dt^2, each a cubic in 1/w."""

    def shift(w, dt):
        first, second = (sum(c / w**i for i, c in enumerate(cubic)) for cubic in (n1, n2))
        return first * dt + second * dt**2

    return shift


def _gayer(a, b):
    """n^2 with the temperature variable f = (t - 24.5)(t + 570.82) of Edwards & Lawrence (1984)."""

    def square(w, t):
        f = (t - 24.5) * (t + 570.82)
        near = (a[1] + b[1] * f) / (w**2 - (a[2] + b[2] * f) ** 2)
        return a[0] + b[0] * f + near + (a[3] + b[3] * f) / (w**2 - a[4] ** 2) - a[5] * w**2

    return square


def _ghosh(a, b, c, d):
    """n^2 = a + b w^2/(w^2 - c) + d w^2/(w^2 - 30), each coefficient linear in the absolute temperature."""

    def square(w, t):
        a_t, b_t, c_t, d_t = (x[0] + x[1] * (t + ZERO_CELSIUS) for x in (a, b, c, d))
        return a_t + b_t * w**2 / (w**2 - c_t) + d_t * w**2 / (w**2 - 30)

    return square


_NIKOGOSYAN = {"o": lambda w, dt: -16.6e-6 * dt, "e": lambda w, dt: -9.3e-6 * dt}
_NIKOGOSYAN_TEXT = "Nikogosyan, Appl. Phys. A 52, 359 (1991), as quoted by ndispers"
_EMANUELI = {
    "y": _emanueli((6.2897e-6, 6.3061e-6, -6.0629e-6, 2.6486e-6), (-0.14445e-8, 2.2244e-8, -3.5770e-8, 1.3470e-8)),
    "z": _emanueli((9.9587e-6, 9.9228e-6, -8.9603e-6, 4.1010e-6), (-1.1882e-8, 10.459e-8, -9.8136e-8, 3.1481e-8)),
}
_EMANUELI_TEXT = "Emanueli & Arie, Appl. Opt. 42, 6661 (2003); measured from 0.53 um up, extrapolated below"
_GAYER = "Gayer, Sacks, Galun & Arie, Appl. Phys. B 91, 343 (2008), 5 % MgO, congruent"
_GHOSH = "Ghosh & Bhar, IEEE J. Quantum Electron. 18, 143 (1982), as quoted by NonlinearCrystals.jl"

# The first set that has an axis is the default for it.
SETS = (
    Sellmeier(
        crystal="BBO",
        name="Kato 1986",
        square={
            "o": lambda w, t: 2.7359 + 0.01878 / (w**2 - 0.01822) - 0.01354 * w**2,
            "e": lambda w, t: 2.3753 + 0.01224 / (w**2 - 0.01667) - 0.01516 * w**2,
        },
        low=0.22,
        high=1.06,
        celsius=20.0,
        reference="Kato, IEEE J. Quantum Electron. 22, 1013 (1986)",
        shift=_NIKOGOSYAN,
        thermal=_NIKOGOSYAN_TEXT,
    ),
    Sellmeier(
        crystal="BBO",
        name="Eimerl 1987",
        square={
            "o": lambda w, t: 2.7405 + 0.0184 / (w**2 - 0.0179) - 0.0155 * w**2,
            "e": lambda w, t: 2.3730 + 0.0128 / (w**2 - 0.0156) - 0.0044 * w**2,
        },
        low=0.22,
        high=1.06,
        celsius=20.0,
        reference="Eimerl, Davis, Velsko, Graham & Zalkin, J. Appl. Phys. 62, 1968 (1987)",
        shift=_NIKOGOSYAN,
        thermal=_NIKOGOSYAN_TEXT,
    ),
    Sellmeier(
        crystal="BBO",
        name="Tamosauskas 2018",
        square={
            "o": lambda w, t: (
                1
                + 0.90291 * w**2 / (w**2 - 0.003926)
                + 0.83155 * w**2 / (w**2 - 0.018786)
                + 0.76536 * w**2 / (w**2 - 60.01)
            ),
            "e": lambda w, t: (
                1
                + 1.151075 * w**2 / (w**2 - 0.007142)
                + 0.21803 * w**2 / (w**2 - 0.02259)
                + 0.656 * w**2 / (w**2 - 263)
            ),
        },
        low=0.188,
        high=5.2,
        celsius=20.0,
        reference="Tamosauskas, Beresnevicius, Gadonas & Dubietis, Opt. Mater. Express 8, 1410 (2018)",
        shift=_NIKOGOSYAN,
        thermal=_NIKOGOSYAN_TEXT,
    ),
    Sellmeier(
        crystal="KTP",
        name="Koenig & Wong 2004",
        square={"y": lambda w, t: 2.09930 + 0.922683 * w**2 / (w**2 - 0.0467695) - 0.0138408 * w**2},
        low=0.39,
        high=1.7,
        celsius=25.0,
        reference="Koenig & Wong, Appl. Phys. Lett. 84, 1644 (2004); range declared here",
        shift=_EMANUELI,
        thermal=_EMANUELI_TEXT,
    ),
    Sellmeier(
        crystal="KTP",
        name="Fradkin 1999",
        square={
            "z": lambda w, t: (
                2.12725 + 1.18431 * w**2 / (w**2 - 0.0514852) + 0.6603 * w**2 / (w**2 - 100.00507) - 0.00968956 * w**2
            )
        },
        low=0.39,
        high=3.6,
        celsius=25.0,
        reference="Fradkin, Arie, Skliar & Rosenman, Appl. Phys. Lett. 74, 914 (1999); range declared here",
        shift=_EMANUELI,
        thermal=_EMANUELI_TEXT,
    ),
    Sellmeier(
        crystal="KTP",
        name="Kato & Takaoka 2002",
        square={
            "x": lambda w, t: 3.29100 + 0.04140 / (w**2 - 0.03978) + 9.35522 / (w**2 - 31.45571),
            "y": lambda w, t: 3.45018 + 0.04341 / (w**2 - 0.04597) + 16.98825 / (w**2 - 39.43799),
            "z": lambda w, t: 4.59423 + 0.06206 / (w**2 - 0.04763) + 110.80672 / (w**2 - 86.12171),
        },
        low=0.43,
        high=3.54,
        celsius=20.0,
        reference="Kato & Takaoka, Appl. Opt. 41, 5040 (2002)",
        shift={
            "x": lambda w, dt: (0.1717 / w**3 - 0.5353 / w**2 + 0.8416 / w + 0.1627) * 1e-5 * dt,
            "y": lambda w, dt: (0.1997 / w**3 - 0.4063 / w**2 + 0.5154 / w + 0.5425) * 1e-5 * dt,
            "z": lambda w, dt: (0.9221 / w**3 - 2.9220 / w**2 + 3.6677 / w - 0.1897) * 1e-5 * dt,
        },
        thermal="Kato & Takaoka, Appl. Opt. 41, 5040 (2002); 0.43 to 1.58 um",
    ),
    Sellmeier(
        crystal="LiNbO3",
        name="Zelmon 1997",
        square={
            "o": lambda w, t: (
                1
                + 2.6734 * w**2 / (w**2 - 0.01764)
                + 1.2290 * w**2 / (w**2 - 0.05914)
                + 12.614 * w**2 / (w**2 - 474.60)
            ),
            "e": lambda w, t: (
                1 + 2.9804 * w**2 / (w**2 - 0.02047) + 0.5981 * w**2 / (w**2 - 0.0666) + 8.9543 * w**2 / (w**2 - 416.08)
            ),
        },
        low=0.4,
        high=5.0,
        celsius=21.0,
        reference="Zelmon, Small & Jundt, J. Opt. Soc. Am. B 14, 3319 (1997)",
    ),
    Sellmeier(
        crystal="LiNbO3",
        name="Jundt 1997",
        square={
            "e": _gayer(
                (5.35583, 0.100473, 0.20692, 100.0, 11.34927, 1.5334e-2), (4.629e-7, 3.862e-8, -0.89e-8, 2.657e-5)
            )
        },
        low=0.4,
        high=5.0,
        celsius=24.5,
        reference="Jundt, Opt. Lett. 22, 1553 (1997)",
        thermal="Jundt, Opt. Lett. 22, 1553 (1997)",
    ),
    Sellmeier(
        crystal="MgO:LiNbO3",
        name="Gayer 2008",
        square={"e": _gayer((5.756, 0.0983, 0.2020, 189.32, 12.52, 1.32e-2), (2.860e-6, 4.700e-8, 6.113e-8, 1.516e-4))},
        low=0.5,
        high=4.0,
        celsius=24.5,
        reference=_GAYER,
        thermal=_GAYER,
    ),
    Sellmeier(
        crystal="MgO:LiNbO3",
        name="Gayer 2008",
        square={
            "o": _gayer((5.6533, 0.1185, 0.2091, 89.61, 10.85, 1.97e-2), (7.941e-7, 3.134e-8, -4.641e-9, -2.188e-6))
        },
        low=0.5,
        high=1.7,
        celsius=24.5,
        reference=_GAYER,
        thermal=_GAYER,
    ),
    Sellmeier(
        crystal="MgO:LiNbO3",
        name="Zelmon 1997",
        square={
            "o": lambda w, t: (
                1
                + 2.4272 * w**2 / (w**2 - 0.01478)
                + 1.4617 * w**2 / (w**2 - 0.05612)
                + 9.6536 * w**2 / (w**2 - 371.216)
            ),
            "e": lambda w, t: (
                1
                + 2.2454 * w**2 / (w**2 - 0.01242)
                + 1.3005 * w**2 / (w**2 - 0.05313)
                + 6.8972 * w**2 / (w**2 - 331.33)
            ),
        },
        low=0.4,
        high=5.0,
        celsius=21.0,
        reference="Zelmon, Small & Jundt, J. Opt. Soc. Am. B 14, 3319 (1997)",
    ),
    Sellmeier(
        crystal="LBO",
        name="Kato 1994",
        square={
            "x": lambda w, t: 2.4542 + 0.01125 / (w**2 - 0.01135) - 0.01388 * w**2,
            "y": lambda w, t: (
                2.5390 + 0.01277 / (w**2 - 0.01189) - 0.01849 * w**2 + 4.3025e-5 * w**4 - 2.9131e-5 * w**6
            ),
            "z": lambda w, t: (
                2.5865 + 0.01310 / (w**2 - 0.01223) - 0.01862 * w**2 + 4.5778e-5 * w**4 - 3.2526e-5 * w**6
            ),
        },
        low=0.16,
        high=2.6,
        celsius=20.0,
        reference="Kato, IEEE J. Quantum Electron. 30, 2950 (1994); range declared here: the crystal is transparent",
        shift={
            "x": lambda w, dt: (-3.76 * w + 2.30) * 1e-6 * (dt + 29.13e-3 * dt**2),
            "y": lambda w, dt: (6.01 * w - 19.40) * 1e-6 * (dt - 32.89e-4 * dt**2),
            "z": lambda w, dt: (1.50 * w - 9.70) * 1e-6 * (dt - 74.49e-4 * dt**2),
        },
        thermal="Kato, IEEE J. Quantum Electron. 30, 2950 (1994)",
    ),
    Sellmeier(
        crystal="LBO",
        name="Chen 1989",
        square={
            "x": lambda w, t: 2.45768 + 0.0098877 / (w**2 - 0.026095) - 0.013847 * w**2,
            "y": lambda w, t: 2.52500 + 0.017123 / (w**2 + 0.0060517) - 0.0087838 * w**2,
            "z": lambda w, t: 2.58488 + 0.012737 / (w**2 - 0.021414) - 0.016293 * w**2,
        },
        low=0.2894,
        high=1.064,
        celsius=20.0,
        reference="Chen et al., J. Opt. Soc. Am. B 6, 616 (1989), fitted by Hanson & Dick, Opt. Lett. 16, 205 (1991)",
    ),
    Sellmeier(
        crystal="KDP",
        name="Zernike 1964",
        square={
            "o": lambda w, t: 2.259276 + 13.00522 * w**2 / (w**2 - 400) + 0.01008956 / (w**2 - 0.0129426),
            "e": lambda w, t: 2.132668 + 3.2279924 * w**2 / (w**2 - 400) + 0.008637494 / (w**2 - 0.0122810),
        },
        low=0.2138,
        high=1.529,
        celsius=24.8,
        reference="Zernike, J. Opt. Soc. Am. 54, 1215 (1964)",
    ),
    Sellmeier(
        crystal="KDP",
        name="Ghosh & Bhar 1982",
        square={
            "o": _ghosh((1.44896, 3.185e-5), (0.84181, -1.4114e-4), (0.0128, -2.13e-7), (0.90793, 5.75e-7)),
            "e": _ghosh((1.42691, -1.152e-5), (0.72722, -6.139e-5), (0.01213, 3.104e-7), (0.22543, -1.98e-7)),
        },
        low=0.2138,
        high=1.529,
        celsius=24.8,
        reference=_GHOSH,
        thermal=_GHOSH,
    ),
)


def known(crystal: str):
    """UserError of a crystal that no set describes."""
    crystals = list(dict.fromkeys(s.crystal for s in SETS))
    if crystal not in crystals:
        raise UserError(f"crystal: got {crystal!r}, accepted is one of {', '.join(crystals)}")


def sellmeier(crystal: str, axis: str, name: str = "") -> Sellmeier:
    """The set called ``name`` (empty: the default) that holds ``axis`` of ``crystal``; UserError if there is none."""
    known(crystal)
    holders = [s for s in SETS if s.crystal == crystal and axis in s.square]
    chosen = [s for s in holders if name in ("", s.name)]
    if not chosen:
        offered = ", ".join(repr(s.name) for s in holders) or "none"
        raise UserError(f"sellmeier: {crystal} has no set {name!r} with axis {axis!r}; sets with it: {offered}")
    return chosen[0]
