"""Quantities: text in, SI out, and a message that says what was expected."""

import pytest

from qtwin.core.errors import UserError
from qtwin.core.units import parse, registry, show


@pytest.mark.parametrize(
    ("given", "unit", "si"),
    [
        ("810 nm", "m", 8.1e-7),
        ("3mm", "m", 3e-3),
        ("0.1 /cm", "1/m", 10.0),
        ("100 Hz", "Hz", 100.0),
        ("250 ps", "s", 2.5e-10),
        ("2e-3", "m", 2e-3),
        ("30 %", "", 0.3),
        (5, "m", 5.0),
        (0.25, "", 0.25),
    ],
)
def test_parse(given, unit, si):
    assert parse(given, unit) == pytest.approx(si, rel=1e-12)


def test_parse_a_quantity():
    assert parse(registry().Quantity(2.0, "inch"), "m") == pytest.approx(0.0508)


@pytest.mark.parametrize("given", ["3 kg", "3 apples", "", "mm 3 (", True, None, "3 m m"])
def test_a_wrong_unit_names_what_was_given_and_expected(given):
    with pytest.raises(UserError, match="a length in units of m") as raised:
        parse(given, "m")
    assert repr(given) in str(raised.value)


@pytest.mark.parametrize(
    ("si", "unit", "text"),
    [(5e-5, "m", "50 µm"), (8.1e-7, "m", "810 nm"), (10.0, "1/m", "0.01 /mm"), (0.0, "s", "0 s"), (0.3, "", "0.3")],
)
def test_show(si, unit, text):
    assert show(si, unit) == text


def test_show_writes_hundreds_out():
    assert [show(x, "Hz", 2) for x in (212.3, 999.0, 21.23)] == ["210 Hz", "1000 Hz", "21 Hz"]
    assert show(212.3, "", 1) == "200" and show(2.123e5, "1/m", 2) == "210 /mm"
