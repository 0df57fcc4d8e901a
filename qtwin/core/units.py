"""Quantities with units at the border of the program: text in, SI numbers inside, text out."""

from functools import cache
from math import log2
from numbers import Real

from qtwin.core.errors import UserError

_WORDS = {
    "": "a plain number",
    "m": "a length",
    "s": "a time",
    "Hz": "a rate",
    "W": "a power",
    "K": "a temperature",
    "rad": "an angle",
    "m/s": "a speed",
    "1/m": "an inverse length",
}

LEAST = 1e-18  # in SI units: smaller values are shown without a prefix


@cache
def registry():
    """The one pint registry (built on first use: it costs a fifth of a second)."""
    import pint

    return pint.UnitRegistry(cache_folder=None, autoconvert_offset_to_baseunit=True)  # '40 degC' is a temperature


def expected(unit: str) -> str:
    """Words for an error message: what a value of this unit looks like."""
    word = _WORDS.get(unit, "a quantity")
    return f"{word} in units of {unit}, such as '3 {unit}', or a plain SI number" if unit else word


def parse(value, unit: str) -> float:
    """Value of ``value`` in SI ``unit``.

    Accepts a number (SI already), text such as ``"3 mm"`` or ``"100Hz"``, or a pint quantity.
    Raises UserError that says what was given and what was expected.
    """
    import pint

    if isinstance(value, bool):
        raise UserError(f"got {value!r}, expected {expected(unit)}")
    if isinstance(value, Real):
        return float(value)
    try:
        quantity = registry().Quantity(value) if isinstance(value, str) else value
        if isinstance(quantity, Real):
            return float(quantity)
        if isinstance(value, str) and not quantity.unit_items():
            return float(quantity.magnitude)  # a plain number written as text: SI
        return float(quantity.to(unit or "dimensionless").magnitude)
    except (pint.errors.PintError, AttributeError, TypeError, ValueError, AssertionError, ArithmeticError) as error:
        raise UserError(f"got {value!r}, expected {expected(unit)}") from error
    except Exception as error:  # pint's tokenizer raises tokenize.TokenError and friends on malformed text
        if type(error).__module__ in ("tokenize", "token"):
            raise UserError(f"got {value!r}, expected {expected(unit)}") from error
        raise


def data_size(count: float) -> str:
    """Text of a number of bytes: ``data_size(3 * 2**30) == '3 GiB'``."""
    power = min(int(log2(max(count, 1))) // 10, 4)
    return f"{count / 2 ** (10 * power):.4g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def show(value: float, unit: str, digits: int = 4) -> str:
    """Engineer's text of an SI value: ``show(5e-5, 'm') == '50 µm'``."""

    def rounded(x: float) -> str:
        text = f"{x:.{digits}g}"
        return f"{float(text):.0f}" if "e+" in text and abs(float(text)) <= 1000 else text  # 210, not 2.1e+02

    if not unit:
        return rounded(value)
    if unit == "1/m":
        return f"{rounded(value / 1e3)} /mm"
    quantity = value * registry().Unit(unit)
    if LEAST <= abs(value) < 1 / LEAST:  # beyond, prefixes are words that nobody knows
        quantity = quantity.to_compact()
    text = f"{rounded(quantity.magnitude)} {quantity.units:~P}"
    return text.replace("\u03bc", "\u00b5")  # releases of pint differ in their letter for micro
