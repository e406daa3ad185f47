"""``summary.json`` for machines and ``index.html`` for people."""

import html
import json
import platform
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from course_lib.runner.files import read_executed, write_text_atomically
from course_lib.runner.pictures import thumbnail
from course_lib.runner.process import NotebookResult

__all__ = ["write_report"]

_PACKAGES = (
    "torch",
    "torchvision",
    "lightning",
    "numpy",
    "papermill",
    "nbclient",
    "ipywidgets",
    "sentence-transformers",
)
_WORDS = {
    "ok": "passed",
    "failed": "failed",
    "timeout": "took too long",
    "died": "kernel died",
    "interrupted": "interrupted",
}

_STYLE = """
:root { color-scheme: light dark; --line: #8888; --good: #0a6; --bad: #c40; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 70rem; margin: 0 auto; padding: 1rem 1.5rem 3rem; }
ol { list-style: none; padding: 0; display: grid; gap: 1rem; }
@media (min-width: 45rem) { ol { grid-template-columns: 1fr 1fr; } }
li { border: 1px solid var(--line); border-left: .4rem solid var(--good); border-radius: .4rem; padding: .8rem 1rem; }
li.bad { border-left-color: var(--bad); }
h2 { font-size: 1.1rem; margin: 0 0 .4rem; }
img { max-width: 100%; height: auto; background: #fff; display: block; margin: .6rem 0; }
code { overflow-wrap: anywhere; }
a:focus-visible { outline: 3px solid currentColor; outline-offset: 2px; }
"""


def write_report(folder: Path, results: list[NotebookResult], profile: str) -> None:
    """Write ``summary.json``, thumbnails and ``index.html`` for a run, whole or so far."""
    summary = {
        "profile": profile,
        "status": "ok" if all(result.status == "ok" for result in results) else "failed",
        "seconds": round(sum(result.seconds for result in results), 1),
        "written": datetime.now().isoformat(timespec="seconds"),
        "versions": _versions(),
        "notebooks": [result.as_dict() for result in results],
    }
    write_text_atomically(folder / "summary.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    cards = "\n".join(_card(folder, result) for result in results)
    write_text_atomically(folder / "index.html", _page(summary, cards))


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _page(summary: dict[str, Any], cards: str) -> str:
    passed = sum(entry["status"] == "ok" for entry in summary["notebooks"])
    count = f"{passed} of {len(summary['notebooks'])} notebooks passed"
    text = f"{count} · profile {summary['profile']} · {summary['written']}"
    versions = ", ".join(f"{name} {number}" for name, number in summary["versions"].items())
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Course run: {html.escape(text)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>Course run</h1>
<p>{html.escape(text)} · <a href="summary.json">summary.json</a></p>
<ol>
{cards}
</ol>
<p><small>{html.escape(versions)}</small></p>
</main>
</body>
</html>
"""


def _card(folder: Path, result: NotebookResult) -> str:
    title, stem = html.escape(result.title), html.escape(result.notebook)
    head = f'<a href="{stem}.html">{title}</a>' if (folder / f"{result.notebook}.html").exists() else title
    error = f"<p>Error: <code>{html.escape(result.error_line())}</code></p>" if result.error else ""
    links = _links(folder, result.notebook)
    return f"""<li class="{"good" if result.status == "ok" else "bad"}">
<h2>{head}</h2>
{_picture(folder, result.notebook)}
<p><strong>{_WORDS.get(result.status, result.status)}</strong> · {result.seconds:.0f} s · {result.peak_memory_mb} MB</p>
{error}{f"<p>{links}</p>" if links else ""}
</li>"""


def _links(folder: Path, stem: str) -> str:
    names = {"ipynb": "notebook", "log": "log"}
    found = [(kind, word) for kind, word in names.items() if (folder / f"{stem}.{kind}").exists()]
    return " · ".join(f'<a href="{html.escape(stem)}.{kind}">{word} {html.escape(stem)}</a>' for kind, word in found)


def _picture(folder: Path, stem: str) -> str:
    path, picture = folder / f"{stem}.ipynb", folder / f"{stem}.png"
    node = read_executed(path)
    found = thumbnail(node) if node else None
    if found is None:
        return ""
    picture.write_bytes(found[0])
    return f'<img src="{html.escape(stem)}.png" alt="{html.escape(found[1])}">'
