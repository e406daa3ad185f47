"""The demo as a web page: served with Voilà, driven in a real browser where there is one."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from course_lib.figures import png_bytes
from course_lib.profiles import ROOT
from course_lib.widgets.translations import people_edition

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("voila") is None, reason="needs the extra `demo`: pip install -e '.[demo]'"
)
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


@pytest.fixture(scope="module")
def page():
    """Address of a running demo."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "voila", "demo/unpaired_translation.ipynb", "--no-browser", f"--port={port}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{address}/voila/static/", timeout=5)
            except urllib.error.HTTPError:
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline, "the server did not start"
                time.sleep(0.2)
            else:
                break
        yield address
        server.terminate()


def test_the_page_runs_the_notebook(page):
    text = urllib.request.urlopen(page, timeout=120).read().decode()
    assert "Translate a person between six drawing styles" in text
    assert "Traceback" not in text and "application/vnd.jupyter.widget-view+json" in text


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_an_upload_is_translated_in_a_browser(page, tmp_path):
    browsing = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")
    edition = people_edition(examples=3)
    picture = tmp_path / "face.png"
    picture.write_bytes(png_bytes(edition.examples[1:2], columns=1))
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with browsing.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=flags)
        tab = browser.new_page()
        tab.goto(page, timeout=120_000)
        shown = tab.locator("img.jupyter-widgets").first
        shown.wait_for(timeout=120_000)
        # From personas to micah, as somebody without a mouse would.
        tab.locator(".widget-hslider", has_text="label of an upload").locator(".noUi-handle").press("ArrowRight")
        before = shown.get_attribute("src")
        with tab.expect_file_chooser() as chooser:
            tab.get_by_role("button", name="upload a picture").click()
        started = time.monotonic()
        chooser.value.set_files(str(picture))
        tab.wait_for_function(
            "old => document.querySelector('img.jupyter-widgets').src !== old", arg=before, timeout=30_000
        )
        print(f"upload translated after {time.monotonic() - started:.2f} s")
        uploaded = shown.get_attribute("src")
        tab.get_by_role("button", name="sample again").click()
        tab.wait_for_function(
            "old => document.querySelector('img.jupyter-widgets').src !== old", arg=uploaded, timeout=30_000
        )
        if folder := os.environ.get("DEMO_SCREENSHOTS"):
            tab.set_viewport_size({"width": 1400, "height": 800})
            tab.screenshot(path=f"{folder}/demo.png")
        assert not tab.get_by_text("Error").count()
        browser.close()
