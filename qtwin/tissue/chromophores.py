"""What absorbs in tissue, pure: haemoglobin, water, fat, melanin and the rest of skin, by wavelength.

mu_a = ln(10) eps c / M for haemoglobin: eps decadic molar extinction, c mass concentration, M = 64500 g/mol (S. Prahl's
compilation, omlc.org). S. L. Jacques, Skin optics, omlc.org (1998) has melanosomes, 6.6e11 (l/nm)^-3.33 /cm, and skin
without blood and melanin, 0.244 + 85.3 exp(-(l/nm - 154)/66.2) /cm, which gathers what is not told apart. The other
tables stand in `data/`, each with its source in its head; interpolation is linear and within 1 % of the source.

| name | range (nm) |
|---|---|
| oxyhaemoglobin, deoxyhaemoglobin | 400 to 1000 |
| water | 400 to 1700 |
| fat | 429 to 1098 |
| melanin | 400 to 1100; beyond that the law is extrapolated (Jacques, omlc.org, 2015) |
| skin_baseline | 400 to 1000; fitted below 750 |
"""

from functools import cache
from math import log

import numpy as np

from qtwin.core.errors import UserError
from qtwin.core.params import nonnegative
from qtwin.tissue.tables import ABSORPTION, DATA, NM, Column, Table, read_table

MOLAR_MASS = 64.5  # kg/mol, the tetramer
WHOLE_BLOOD = 150.0  # g/L of haemoglobin, the value usual for blood (Prahl)
NAMES = ("oxyhaemoglobin", "deoxyhaemoglobin", "water", "fat", "melanin", "skin_baseline")
_FORMS = {name: Column("m^2/mol", nonnegative) for name in NAMES[:2]}


@cache
def table(name: str) -> Table:
    """The table behind a name of `NAMES`; both haemoglobins share one."""
    if name in _FORMS:
        return read_table(DATA / "haemoglobin.csv", _FORMS, "haemoglobin (Prahl)")
    if name == "water":
        return read_table(DATA / "water.csv", ABSORPTION, "water (Hale & Querry 1973, Kou 1993)")
    if name == "fat":
        return read_table(DATA / "fat.csv", ABSORPTION, "fat (van Veen 2004)")
    if name == "melanin":
        nm = np.arange(400.0, 1101.0, 2.0)
        return Table("melanin (Jacques 1998)", nm * NM, {"mu_a": 6.6e13 * nm**-3.33})
    if name == "skin_baseline":
        nm = np.arange(400.0, 1001.0, 2.0)
        return Table("skin_baseline (Jacques 1998)", nm * NM, {"mu_a": 24.4 + 8530 * np.exp(-(nm - 154) / 66.2)})
    raise UserError(f"unknown chromophore {name!r}, accepted are {', '.join(NAMES)}")


def blood(wavelength, saturation, haemoglobin=WHOLE_BLOOD):
    """Absorption (1/m) by ``haemoglobin`` (g/L), the fraction ``saturation`` of it with oxygen; its water left out.

    Differentiable in all three. UserError outside 400 to 1000 nm.
    """
    oxy, deoxy = (table(form).at(form, wavelength) for form in _FORMS)
    return log(10.0) * haemoglobin / MOLAR_MASS * (saturation * oxy + (1 - saturation) * deoxy)


def absorption(name: str, wavelength):
    """Absorption coefficient (1/m) of a pure chromophore at a wavelength (m, scalar or array), differentiable in it.

    Haemoglobin is that of whole blood, 150 g/L. UserError names the table and its range when asked outside it.
    """
    if name in _FORMS:
        return blood(wavelength, 1.0 if name == "oxyhaemoglobin" else 0.0)
    return table(name).at("mu_a", wavelength)
