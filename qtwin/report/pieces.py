"""What every HTML page is made of: numbers with their errors, tables, figures inside the page, and the style."""

from base64 import b64encode
from collections.abc import Iterable, Mapping
from html import escape
from math import floor, isfinite, log10
from pathlib import Path
from typing import Any, TypeGuard

from qtwin.core.errors import UserError
from qtwin.io.results import config_hash, read_result, write_whole

PREFIXES = {-18: "a", -15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}
NARROW = "\u202f"  # between thousands; lines do not break there
CSS = """
:root{--ink:#1a1a1a;--soft:#5a6270;--line:#dfe3e8;--blue:#0072B2;--orange:#b34700;--pale:#f5f7f9}
*{box-sizing:border-box}
body{margin:0;color:var(--ink);background:#fff;font:16px/1.55 system-ui,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 24px 64px;overflow-wrap:anywhere}
h1{font-size:1.75rem;line-height:1.25;margin:0 0 .8rem}
h2{font-size:1.3rem;margin:2.6rem 0 .6rem;padding-top:.9rem;border-top:1px solid var(--line)}
h3{font-size:1.05rem;margin:1.4rem 0 .3rem}
p{margin:.5rem 0;max-width:78ch}
.answer{border-left:6px solid var(--soft);background:var(--pale);padding:.8rem 1.1rem;margin:1rem 0}
.answer p:first-child{font-size:1.2rem;line-height:1.45;margin-top:0}
.answer.quantum{border-color:var(--blue)}.answer.classical{border-color:var(--orange)}
.warning{border:1px solid #d9b44a;background:#fff8e1;padding:.7rem 1.1rem;margin:1rem 0}
ul{padding-left:1.2rem;margin:.4rem 0}li{margin:.25rem 0;max-width:78ch}
.box{overflow-x:auto;width:fit-content;max-width:100%;margin:.6rem 0;border:1px solid var(--line);border-radius:6px}
table{border-collapse:collapse;font-size:.78rem;font-variant-numeric:tabular-nums;overflow-wrap:normal}
th,td{padding:.42rem .5rem;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
tr:last-child td,tbody tr:last-child th{border-bottom:0}
thead th{background:var(--pale);font-weight:600;vertical-align:bottom}
tbody th{font-weight:600;min-width:8.5rem}
td.n,th.n{text-align:right}td.n{white-space:nowrap}
td.w{min-width:15rem}
.tag{font-weight:600;white-space:nowrap;color:var(--soft)}.tag.quantum{color:var(--blue)}.tag.classical{color:var(--orange)}
figure{margin:1rem 0 1.6rem}figure .box{border:0;width:100%}
figure img{display:block;width:100%;min-width:700px;height:auto}
figcaption,.note{color:var(--soft);font-size:.9rem;max-width:85ch}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.35rem 1.2rem;margin:.6rem 0}
dt{font-weight:600}dd{margin:0;max-width:80ch}
footer{margin-top:2.5rem;border-top:1px solid var(--line);padding-top:.8rem;color:var(--soft);font-size:.85rem}
@media(max-width:640px){main{padding:18px 14px 40px}h1{font-size:1.4rem}.answer p:first-child{font-size:1.08rem}
dl{grid-template-columns:1fr;gap:.1rem}dd{margin-bottom:.5rem}td.w{min-width:12rem}}
@media print{body{font-size:10pt}main{max-width:none;padding:0}.box{overflow:visible}table{font-size:7.5pt}
th,td{padding:.2rem .3rem}td.n,th.n,tbody th{white-space:normal}figure img{min-width:0}
figure,tr,.answer{break-inside:avoid}}
"""


def known(x: float | None) -> TypeGuard[float]:
    """Whether there is a finite number."""
    return x is not None and isfinite(x)


def number(leaf: Mapping) -> str:
    """``7.400 ± 0.009 µJ``: two digits of the standard error, four of an exact value, a dash where undefined."""
    value, error, unit = leaf.get("value"), leaf.get("stderr"), leaf.get("unit", "")
    if not known(value):
        return "–"
    doubt = "" if error is None or isfinite(error) else " ± ?"
    error = error if known(error) else 0.0
    power = floor(log10(abs(value))) if value else 0
    if unit:
        scale = min(max(3 * (power // 3), min(PREFIXES)), max(PREFIXES))
        tail = f" {PREFIXES[scale]}{unit}"
    else:
        scale = power if power >= 7 or power < -3 else 0
        tail = f" × 10{str(scale).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}" if scale else ""
    value, error = value / 10.0**scale, error / 10.0**scale
    if not error:
        text = f"{value:,.0f}".replace(",", NARROW) if 1e4 <= abs(value) < 1e7 else f"{value:.4g}"
        return text + doubt + tail
    digits = min(8, 1 - floor(log10(error)))
    value, error, shown = round(value, digits), round(error, digits), max(0, digits)
    text = f"{value:,.{shown}f} ± {error:,.{shown}f}".replace(",", NARROW)
    return f"({text}){tail}" if tail.startswith(" ×") else text + tail


def percent(leaf: Mapping[str, Any]) -> str:
    scaled = {k: 100 * leaf[k] if known(leaf[k]) else leaf[k] for k in ("value", "stderr")}
    text = number(scaled)
    return f"({text}) %" if "±" in text else f"{text} %"


def table(head: Iterable[str], rows: Iterable[Iterable[str]], classes: str) -> str:
    """Rows of ready HTML cells; ``classes``: one letter per column (h row head, n number, w words, - plain)."""
    kinds = [(c, "" if c in "h-" else f' class="{c}"') for c in classes]
    top = "".join(f'<th scope="col"{k}>{escape(h)}</th>' for (_, k), h in zip(kinds, head, strict=True))
    body = ""
    for row in rows:
        cells = (
            f'<th scope="row">{cell}</th>' if c == "h" else f"<td{k}>{cell}</td>"
            for (c, k), cell in zip(kinds, row, strict=True)
        )
        body += f"<tr>{''.join(cells)}</tr>\n"
    return f'<div class="box"><table><thead><tr>{top}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n'


def provenance(folder: Path, config: Mapping) -> str:
    """From the result file beside the page, if it belongs to this configuration."""
    try:
        result = read_result(folder)
        if result["config_hash"] != config_hash(config):
            return ""
    except (UserError, KeyError, OSError):
        return ""
    versions = ", ".join(f"{name} {version}" for name, version in result.get("versions", {}).items())
    facts = [versions, f"seed {result.get('seed')}", f"{result.get('time')}", f"configuration {result['config_hash']}"]
    return f"<footer>{escape(' · '.join(facts))}</footer>"


def figure(name: str, png: bytes, captions: Mapping[str, tuple[str, str]]) -> str:
    title, words = captions[name]
    source = f"data:image/png;base64,{b64encode(png).decode()}"
    return (
        f'<h3>{escape(title)}</h3><figure id="{name}"><div class="box"><img alt="{escape(title)}" src="{source}"></div>'
        f"<figcaption>{escape(words)}</figcaption></figure>\n"
    )


def document(title: str, parts: Iterable[str]) -> str:
    """A self-contained page of ``parts``."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head>\n<body><main>\n"
        + "\n".join(parts)
        + "\n</main></body></html>\n"
    )


def write_page(folder: Path, page: str, drawn: Mapping[str, Mapping[str, bytes]]) -> list[Path]:
    """The figures, then the page; paths of the PNGs."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    paths = []
    for name, files in drawn.items():
        for kind, content in files.items():
            write_whole(folder / "figures" / f"{name}.{kind}", content)
        paths.append(folder / "figures" / f"{name}.png")
    write_whole(folder / "report.html", page.encode())
    return paths
