"""The web pages: built without warnings, and looked at in a real browser, wide and narrow, light and dark."""

import functools
import http.server
import importlib.util
import re
import shutil
import sys
import threading

import pytest

from course_lib.profiles import ROOT
from course_lib.runner.catalog import all_notebooks

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("myst_nb") is None, reason="needs the extra `site`: pip install -e '.[site]'"
    ),
]
PAGES = ["index.html", "notebooks/02_building_cinn_blocks.html", "docs/RESULTS.html"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built pages, and what Sphinx warned about."""
    sys.path.insert(0, str(ROOT / "docs" / "sphinx"))
    from build import build

    out = tmp_path_factory.mktemp("pages") / "site"
    return out, build(out)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def address(site):
    handler = functools.partial(Quiet, directory=site[0])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    browsing = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    with browsing.sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=CHROMIUM)


def test_pages_are_built_without_a_warning_and_show_what_notebooks_store(site):
    out, warnings = site
    assert warnings == ""
    for notebook in all_notebooks():
        page = (out / "notebooks" / f"{notebook.stem}.html").read_text(encoding="utf-8")
        images = re.findall(r"<img\b[^>]*>", re.sub(r"<button.*?</button>", "", page, flags=re.DOTALL))
        pictures = [image for image in images if "_static/" in image and "logo" not in image]
        assert len(pictures) >= 3 and all(re.search(r'alt="[^"]+"', image) for image in pictures), notebook.stem
        assert not any("\\" in formula for formula in re.findall(r"<math.*?</math>", page, flags=re.DOTALL))
        assert "widget-note" in page and "application/vnd.jupyter.widget" not in page
        assert "pip install" not in page and "bootstrap.py" not in page  # the first cell is for other places


@pytest.mark.parametrize("width", [1300, 400])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_fits_the_window_and_needs_no_network(address, browser, page, width):
    tab = browser.new_page(viewport={"width": width, "height": 900})
    asked = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(f"{address}/{page}")
    tab.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    assert [url for url in asked if not url.startswith((address, "data:"))] == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("[...document.images].every(image => image.alt)")
    assert tab.locator("article h1").first.is_visible()
    if "notebooks" in page:
        assert tab.locator("math").count() > 20
        assert tab.locator("article p math").first.bounding_box()["height"] > 5
        folded = tab.locator("details.hide.above-input")
        assert folded.count() and not folded.first.evaluate("one => one.open")
    tab.close()


def test_dark_mode_follows_the_reader_and_search_finds(address, browser):
    shades = []
    for scheme in ("light", "dark"):
        tab = browser.new_page(color_scheme=scheme)
        tab.goto(f"{address}/{PAGES[1]}")
        colour = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        shades.append(sum(map(int, re.findall(r"\d+", colour)[:3])))
        tab.close()
    assert shades[0] > 600 and shades[1] < 150
    tab = browser.new_page()
    tab.goto(f"{address}/search.html?q=ActNorm")
    tab.locator("#search-results li a").first.wait_for(timeout=10_000)
    assert "cINN" in tab.locator("#search-results").inner_text()
