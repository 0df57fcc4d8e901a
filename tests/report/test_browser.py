"""The report as a browser shows it: every image loads, nothing overflows on a wide or a narrow screen, no error."""

import json
import re
import shutil
import subprocess
from html import escape, unescape

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium here")

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


def test_report_in_a_browser(html, tmp_path):
    sizes, console = shown(html, tmp_path)
    assert [s["width"] for s in sizes] == [1280, 400]
    for size in sizes:
        assert size["overflow"] <= 0, size
        assert size["broken"] == 0 and size["images"] == html.count("<img"), size
        assert size["text"] > 3000
    assert "CONSOLE" not in console


def test_a_broken_page_is_noticed(tmp_path):
    """The measure itself: an image that does not load, and a table too wide for a narrow screen."""
    bad = '<!doctype html><body><img src="data:image/png;base64,AAAA"><div style="width:800px">wide</div></body>'
    wide, narrow = shown(bad, tmp_path)[0]
    assert (wide["broken"], narrow["broken"]) == (1, 1)
    assert wide["overflow"] <= 0 < narrow["overflow"]
    assert "CONSOLE" in shown('<!doctype html><script>console.error("x")</script>', tmp_path)[1]
