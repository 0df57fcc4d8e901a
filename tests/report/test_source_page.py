"""The page of a source: every figure, every number with its unit, nothing that is not a number. Without the physics."""

import re
from html import unescape

import numpy as np
import pytest

from qtwin.report import source as report
from qtwin.source import SPDC
from qtwin.source.merits import Scan, Tuning, figure, undefined
from qtwin.source.spectra import Joint, Spectrum
from qtwin.source.usable import Fibre, Rates

SOURCE = SPDC(405e-9, 800e-9, 3e-3, 1e-4, 4e-3, 5e-9)
UNITS = {
    "pairs": "1/s",
    "temperature": "K",
    "angle": "rad",
    "brightness": "1/(s W m)",
    "gate": "s",
    "nonlinearity": "m/V",
}
CONFIG = {
    "source": {"reference": {"waist": "measured <by hand>"}},
    "collection": {},
}


def findings(collection, pulsed: bool) -> report.Findings:
    """Made-up curves and numbers: 1.25e4 everywhere, one that is not defined, one with an error."""
    keys = {
        "usable": ("pairs", "signal_heralding", "brightness", "emitted"),
        "phase_matching": ("angle", "temperature", "nonlinearity", "walk_off_pump"),
        "fields": ("centre_width", "schmidt_number_sinc"),
        "spectrum": ("bandwidth_signal", "effective_bandwidth"),
        "counting": ("gate", "heralded_g2"),
    }
    numbers = {g: {k: figure(1.25e-4, UNITS.get(k, "")) for k in names} for g, names in keys.items()}
    numbers["usable"]["pairs"] = figure(1.25e6, "1/s", 2.5)
    numbers["phase_matching"]["angle"] = figure(0.5, "rad")
    numbers["fields"]["schmidt_number_sinc"] = undefined("focused too tightly", "")
    x = np.geomspace(1e-5, 1e-3, 7)
    rates = Rates(*(1e6 * np.sqrt(x), 2e6 * np.sqrt(x), 1.5e6 * np.sqrt(x)))
    temperature = np.linspace(280, 320, 9)
    signal = np.where(temperature > 300, np.linspace(780e-9, 810e-9, 9), np.nan)
    waves = np.linspace(795e-9, 805e-9, 33)
    spectrum = Spectrum(waves, np.sinc((waves - 800e-9) / 2e-9) ** 2)
    density = np.exp(-(np.add.outer(waves - 800e-9, waves - 800e-9) ** 2) / 2e-18)
    filters = ((798e-9, 802e-9), (818e-9, 822e-9))
    joint = Joint(waves, waves + 20e-9, density, filters) if pulsed else None
    tuning = [Tuning("temperature", "K", temperature, signal, 1 / (1 / 405e-9 - 1 / signal))]
    scan = Scan(x, rates, 1e1 * x, rates)
    return report.Findings(SOURCE, SOURCE.crystal_at(), collection, numbers, scan, tuning, spectrum, joint)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    found = findings(Fibre(4e-5, 6e-5), pulsed=True)
    images = report.write(folder, found, CONFIG)
    return found, images, (folder / "report.html").read_text(encoding="utf-8")


def seen(html):
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", html, flags=re.S))))


def test_every_figure_is_there(page):
    found, images, html = page
    names = ["design", "tuning", "fields", "spectrum", *(["joint"] if found.joint else [])]
    assert [p.stem for p in images] == names and all(p.stat().st_size > 5000 for p in images)
    assert sorted(re.findall(r'<figure id="(\w+)"', html)) == sorted(names)
    assert "http" not in re.sub(r'"data:[^"]*"', "", html) and "<script" not in html


def test_numbers_have_units_and_nothing_is_nan(page):
    text = seen(page[2])
    assert not re.search(r"\b(nan|inf|None)\b", text)
    for words in (
        "1 250 000 /s (converged within 2e-06)",
        "28.648°",
        "pm/V",
        "not defined: focused too tightly",
        "Kato, IEEE J. Quantum Electron. 22, 1013 (1986)",
        "measured <by hand>",
        "formula",
    ):
        assert words in text, words


def test_text_names_every_figure_once(page):
    found = page[0]
    lines = report.text(found).splitlines()
    for _, key, leaf in report.rows(found):
        assert sum(line.startswith(report.WORDS[key][0]) and line.endswith(report.told(leaf)) for line in lines) == 1, (
            key
        )


@pytest.mark.parametrize(
    ("leaf", "text"),
    [
        (figure(298.15, "K"), "298.15 K (25.00 °C)"),
        (figure(0.5, "rad"), "28.648°"),
        (figure(0.002, "rad"), "2 mrad"),
        (figure(7.332e-26, "s2/m"), "73.32 fs²/mm"),
        (figure(1.947e-12, "m/V"), "1.947 pm/V"),
        (figure(2.73e17, "1/(s W m)"), "273\u202f000 /(s mW nm)"),
        (figure(5.942e-6, "m"), "5.942 µm"),
        (figure(84140.0, "rad/m"), "84.14 rad/mm"),
        (figure(4.353, ""), "4.353"),
        (figure(200.0, "1/s", 1e-3), "200 /s (converged within 5e-06)"),
        (undefined("no reason", "m"), "not defined: no reason"),
    ],
)
def test_units_on_paper(leaf, text):
    assert report.told(leaf) == text
