"""The report: self-contained, complete, honest about both winners, written whole."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import escape, unescape
from html.parser import HTMLParser

import numpy as np
import pytest

from qtwin.benchmark.compare import compare
from qtwin.benchmark.comparison import MATCHED
from qtwin.benchmark.settings import Settings
from qtwin.core.config import compose, plain
from qtwin.io.results import config_hash, versions, write_result
from qtwin.job import elements
from qtwin.metrics.advantage import Interval
from qtwin.report import page
from qtwin.report.figures import FIGURES, profile_row

TINY = ["walk.photons=2048", "budget.photons=50", "budget.exposures=3", "optics.pixels=16"]


@pytest.fixture(scope="module")
def cfg():
    return compose(TINY)


@pytest.fixture(scope="module")
def comparison(cfg):
    return compare(**elements(cfg), settings=Settings.from_config(cfg), progress=lambda *a, **k: None)


@pytest.fixture(scope="module")
def folder(comparison, cfg, tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    config = plain(cfg)
    known = {"versions": versions(), "seed": 7, "time": "now", "config_hash": config_hash(config)}
    write_result(place, known)
    images = page.write(place, comparison, cfg)
    assert images == [place / "figures" / f"{name}.png" for name in FIGURES]
    return place


@pytest.fixture(scope="module")
def html(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def text(html):
    """What a reader sees."""
    body = re.sub(r"<style>.*?</style>", "", html, flags=re.S)
    return re.sub(r"[ \n]+", " ", unescape(re.sub(r"<[^>]+>", " ", body)))


class Links(HTMLParser):
    """Everything that a browser would fetch or run, and whether every element is closed."""

    def __init__(self):
        super().__init__()
        self.fetched, self.scripts, self.open = [], 0, []

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script" or any(name.startswith("on") for name, _ in attrs)
        self.fetched += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def read(html: str) -> Links:
    links = Links()
    links.feed(html)
    return links


def test_page_fetches_nothing_and_runs_nothing(html):
    links = read(html)
    assert links.open == [] and links.scripts == 0
    assert len(links.fetched) == len(FIGURES)
    assert all(link.startswith("data:image/png;base64,") for link in links.fetched)
    assert "url(" not in html and "@import" not in html


def test_figures_are_whole_png_and_svg(folder):
    for name in FIGURES:
        png = (folder / "figures" / f"{name}.png").read_bytes()
        assert png.startswith(b"\x89PNG") and png.endswith(b"IEND\xaeB`\x82")
        svg = (folder / "figures" / f"{name}.svg").read_text(encoding="utf-8")
        assert "<svg" in svg and svg.rstrip().endswith("</svg>")


def test_nothing_but_the_report_is_left(folder):
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    drawn = {f"figures/{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}
    assert names == drawn | {"report.html", "result.json"}


def test_every_advantage_stands_with_interval_and_verdict(comparison, text):
    figures = comparison.figures()["advantage"]
    assert figures
    for v in comparison.versus:
        f = figures[v.arm][v.opponent]
        interval = v.interval.ends()
        row = f"{v.arm} {v.opponent} {page.number(f)} {interval} {page.number(f['expected'])} {v.verdict}"
        assert row in text


def test_every_arm_stands_with_its_ledger(comparison, text):
    keys = [
        "photons_incident",
        "photons_absorbed",
        "dose",
        "photons_detected",
        "counts_recorded",
        "time",
        "pump_energy",
    ]
    merits = ["snr", "cnr", "psnr", "ssim", "edge_width", "detectability", "auc"]
    merits += ["information_over_coherent", "information_over_quantum_limit"]
    for arm, f in comparison.figures()["arms"].items():
        for row in (keys, merits):
            assert " ".join([arm, *(page.number(f[key]) for key in row)]) in text


def test_every_other_figure_parameter_and_reference_stands(comparison, cfg, text):
    figures = comparison.figures()
    for group in (figures["tissue"], figures["source"], *figures["protocols"].values()):
        for leaf in group.values():
            assert page.number(leaf) in text
    for z in comparison.check.z.values():
        assert f"{z:+.2f}" in text
    config = plain(cfg)
    for part in page.EQUIPMENT:
        for name, reference in config[part]["reference"].items():
            assert f"{part}.{name}" in text
            assert re.sub(r"\s+", " ", reference) in text
    for line in page.LIMITS:
        assert line in text
    assert "seed 7" in text and config_hash(config) in text


def _with(comparison, value):
    """The first comparison of the page, decided as given."""
    first, *_ = page._main(comparison)
    return replace(first, interval=Interval(value, 0.1 * value, 0.8 * value, 1.25 * value))


@pytest.mark.parametrize("match, photons", list(MATCHED.items()))
def test_sentence_is_honest_about_both_winners(comparison, match, photons):
    won, lost, even = (page.sentence(_with(comparison, a), "somebody", match) for a in (2.0, 0.5, 1.0))
    ours, theirs = "“twin beams, optimal k”", "“coherent, camera”"
    assert won.startswith("Quantum wins against somebody") and lost.startswith("Classical wins against somebody")
    assert f"{theirs} needs 2 times the {photons} of {ours} (95 % interval 1.6 to 2.5)" in won
    assert f"{ours} needs 2 times the {photons} of {theirs} (95 % interval 1.6 to 2.5)" in lost
    assert even.startswith("No difference at this budget") and "between 0.8 and 1.25 times the" in even
    assert "wins" not in even


def test_images_that_differ_get_no_verdict(comparison):
    unlike = replace(_with(comparison, 2.0), mismatch=(0.21, 0.01))
    text = page.sentence(unlike, "somebody", "incident")
    assert text.startswith("No verdict") and "21% of their contrast" in text and "wins" not in text
    answer = page._answer(replace(comparison, versus=(unlike,) * len(comparison.versus)))
    assert "cannot be compared" in answer and "wins 0, classical light wins 0" in answer


@pytest.mark.parametrize("value, tag", [(2.0, "quantum"), (0.5, "classical"), (1.0, "")])
def test_answer_leads_with_the_verdict_and_counts_all(comparison, value, tag):
    versus = tuple(replace(v, interval=_with(comparison, value).interval, mismatch=(0, 0)) for v in comparison.versus)
    answer = page._answer(replace(comparison, versus=versus))
    assert answer.startswith(f'<div class="answer {tag}">')
    wins, losses = (12, 0) if value > 1 else (0, 12) if value < 1 else (0, 0)
    assert f"Of 12 comparisons quantum light wins {wins}, classical light wins {losses}" in answer
    assert ("12 show no difference" in answer) == (value == 1.0)


def _scattered(ballistic, own):
    leaf = {"stderr": 0.01, "unit": ""}
    tissue = {
        "ballistic_fraction": {"value": ballistic, **leaf},
        "accepted_fraction": {"value": 0.12, **leaf},
        "point_spread_within_own_superpixel": {"value": own, **leaf},
        "point_spread_rms": {"value": 4e-4, "stderr": 1e-5, "unit": "m"},
    }
    return page.blurred({"tissue": tissue}, 1e-4)


def test_scattered_light_is_said_in_words():
    assert _scattered(0.5, 0.9) is None
    for words in (_scattered(0.5, 0.3), _scattered(1e-3, 0.9)):
        assert "no sharp image" in words
        assert "(12.0 ± 1.0) %" in words and "400 ± 10 µm rms (4 superpixels)" in words


def test_text_is_escaped(comparison, cfg, tmp_path):
    bad = '<script>alert("x")</script>&'
    config = plain(cfg)
    config["tissue"]["reference"]["mu_a"] = bad
    renamed = replace(comparison, check=comparison.check._replace(z={bad: 0.5}))
    html = page._body(tmp_path, renamed, config, {"advantage": b""})
    assert bad not in html and read(html).scripts == 0
    assert html.count("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;&amp;") == 3  # reference, check twice


def test_failed_check_is_a_warning(comparison):
    assert "They disagree" in page._check(replace(comparison, check=comparison.check._replace(z={"total": -5.0})))
    assert "They agree" in page._check(replace(comparison, check=comparison.check._replace(z={"total": -3.0})))


def test_interrupted_write_keeps_the_old_page(comparison, cfg, folder, html, monkeypatch):
    before = sorted(p.name for p in folder.rglob("*"))
    monkeypatch.setattr(page, "draw", lambda _: {"advantage": {"png": b"new", "svg": b"new"}})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("qtwin.io.results.os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        page.write(folder, comparison, cfg)
    assert (folder / "report.html").read_text(encoding="utf-8") == html
    assert sorted(p.name for p in folder.rglob("*")) == before


def test_no_provenance_from_a_result_of_another_configuration(folder, cfg):
    config = plain(cfg)
    assert "seed 7" in page.provenance(folder, config)
    assert page.provenance(folder, {**config, "seed": 1}) == ""
    assert page.provenance(folder / "figures", config) == ""


@pytest.mark.parametrize(
    "value, stderr, unit, words",
    [
        (1.347, 0.0381, "", "1.347 ± 0.038"),
        (8.9851e-15, 3.6e-17, "J", "8.985 ± 0.036 fJ"),
        (0.5103, 0, "s", "510.3 ms"),
        (1662319.2, 0, "", "1\u202f662\u202f319"),
        (739960, 864, "", "739\u202f960 ± 860"),
        (2.5e8, 1e6, "", "(2.500 ± 0.010) × 10⁸"),
        (-3.1e-5, 1.0e-5, "", "(-3.1 ± 1.0) × 10⁻⁵"),
        (0.0, 0.0, "J", "0 J"),
        (0.2, float("nan"), "", "0.2 ± ?"),
        (None, None, "", "–"),
        (float("inf"), 1.0, "", "–"),
    ],
)
def test_numbers_are_rounded_to_their_error(value, stderr, unit, words):
    assert page.number({"value": value, "stderr": stderr, "unit": unit}) == words


def test_profile_goes_through_the_object():
    truth = np.ones((9, 9))
    assert profile_row(truth) == 4
    truth[7, 2:5] = 0.5
    truth[6, 2] = 0.5
    assert profile_row(truth) == 7
    truth[4, 0] = 0.5
    assert profile_row(truth) == 4


# --- as a browser shows it ---------------------------------------------------------------------------------------

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

browser = pytest.mark.skipif(BROWSER is None, reason="no chromium here")

HOST = """<!doctype html><meta charset="utf-8"><body>{frames}<pre id="found">not run</pre><script>
window.addEventListener("load", () => {{
  const found = [...document.querySelectorAll("iframe")].map(frame => {{
    const page = frame.contentDocument, images = [...page.images];
    return {{
      width: frame.clientWidth,
      overflow: page.documentElement.scrollWidth - frame.clientWidth,
      images: images.length,
      broken: images.filter(image => !(image.complete && image.naturalWidth > 0)).length,
      text: page.body.innerText.length,
    }};
  }});
  document.getElementById("found").textContent = JSON.stringify(found);
}});
</script></body>"""


def shown(html: str, folder) -> tuple[list[dict], str]:
    """What two frames of 1280 and 400 pixels measure, and what the console says."""
    frames = "".join(
        f'<iframe style="border:0;width:{width}px;height:2000px" srcdoc="{escape(html)}"></iframe>'
        for width in (1280, 400)
    )
    host = folder / "host.html"
    host.write_text(HOST.format(frames=frames), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,2200", "--enable-logging=stderr"]
    quiet = ["--disable-dev-shm-usage", f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=20000"]
    command = [BROWSER, *flags, *quiet, "--dump-dom", host.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    told = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.S)
    assert told is not None, done.stderr
    return json.loads(unescape(told[1])), done.stderr


@browser
def test_report_in_a_browser(html, tmp_path):
    sizes, console = shown(html, tmp_path)
    assert [s["width"] for s in sizes] == [1280, 400]
    for size in sizes:
        assert size["overflow"] <= 0, size
        assert size["broken"] == 0 and size["images"] == html.count("<img"), size
        assert size["text"] > 3000
    assert "CONSOLE" not in console


@browser
def test_a_broken_page_is_noticed(tmp_path):
    """The measure itself: an image that does not load, and a table too wide for a narrow screen."""
    bad = '<!doctype html><body><img src="data:image/png;base64,AAAA"><div style="width:800px">wide</div></body>'
    wide, narrow = shown(bad, tmp_path)[0]
    assert (wide["broken"], narrow["broken"]) == (1, 1)
    assert wide["overflow"] <= 0 < narrow["overflow"]
    assert "CONSOLE" in shown('<!doctype html><script>console.error("x")</script>', tmp_path)[1]
