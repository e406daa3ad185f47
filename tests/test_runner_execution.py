"""Running notebooks: what passes, what fails, what is said about it and what is left on the disk."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from conftest import PIXEL_PNG, code, text

from course_lib import profiles
from course_lib.runner.catalog import Notebook
from course_lib.runner.session import _only_shutdown_race, run_notebooks, store_run, stored_picture

PARAMETERS = code("parameters", "steps: int = 3  # how often\nname: str = 'a'  # whom", "parameters")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One run of all the ways a notebook can end, two at a time: shared, since kernels take seconds to start."""
    folder = tmp_path_factory.mktemp("course")
    html = f'<img alt="a &lt;red&gt; dot" src="data:image/png;base64,{PIXEL_PNG}">'
    picture = f"from IPython.display import display\ndisplay({{'text/html': {html!r}}}, raw=True)"
    notebooks = {
        "00_good": [
            text("title", "# A good one\n\n[next](01_fails.ipynb)"),
            PARAMETERS,
            code("environment", "import os\nprint(os.environ['COURSE_PROFILE'], os.environ['TQDM_DISABLE'], steps)"),
            code(
                "settings",
                "from course_lib.profiles import process_environment as settings\n"
                "print(all(os.environ[name] == value for name, value in settings().items()))",
            ),
            code("memory", "import time\nblock = bytearray(300 * 2**20)\ntime.sleep(0.5)\ndel block"),
            code("picture", picture),
        ],
        "01_fails": [text("title", "# Fails"), code("fine", "1 + 1"), code("broken", "raise ValueError('no\\ngood')")],
        "02_slow": [code("first", "print('kept')"), code("asleep", "import time\ntime.sleep(60)")],
        "03_dies": [code("first", "print('kept')"), code("killed", "import os\nos.kill(os.getpid(), 9)")],
        "04_full": [code("full", "import errno\nraise OSError(errno.ENOSPC, os_error := 'No space left on device')")],
    }
    for stem, cells in notebooks.items():
        node = nbformat.v4.new_notebook(cells=cells)
        nbformat.write(node, folder / f"{stem}.ipynb")
    lines: list[str] = []
    chosen = [Notebook(folder / f"{stem}.ipynb") for stem in notebooks]
    run_folder, results = run_notebooks(chosen, jobs=2, cell_timeout=4, runs=folder / "runs", tell=lines.append)
    return run_folder, {result.notebook: result for result in results}, lines, folder


def test_a_good_notebook_passes_with_its_environment_and_memory(runs):
    folder, results, _, _ = runs
    good = results["00_good"]
    assert (good.status, good.error) == ("ok", None)
    assert 0 < good.seconds < 60
    assert good.peak_memory_mb > 300
    node = nbformat.read(folder / "00_good.ipynb", as_version=4)
    outputs = {cell.id: cell.outputs for cell in node.cells if cell.cell_type == "code"}
    assert outputs["environment"][0].text == "quick 1 3\n"
    assert outputs["settings"][0].text == "True\n"


@pytest.mark.parametrize(
    ("stem", "status", "cell", "number", "name", "value"),
    [
        ("01_fails", "failed", "broken", 2, "ValueError", "no"),
        ("02_slow", "timeout", "asleep", 2, "Timeout", "the cell took longer than 4 seconds"),
        ("03_dies", "died", "killed", 2, "KernelDied", "the kernel ended without a word"),
        ("04_full", "failed", "full", 1, "OSError", "no space left on the disk: free some"),
    ],
)
def test_a_failure_names_notebook_cell_and_error(runs, stem, status, cell, number, name, value):
    _, results, lines, _ = runs
    result = results[stem]
    assert result.status == status
    assert (result.error["cell_id"], result.error["cell_number"], result.error["name"]) == (cell, number, name)
    assert result.error["value"].startswith(value)
    assert any(f"{stem}, cell {number} '{cell}': {name}: {value}" in line for line in lines)


@pytest.mark.parametrize("stem", ["02_slow", "03_dies"])
def test_what_was_done_before_a_timeout_or_a_dead_kernel_is_kept(runs, stem):
    node = nbformat.read(runs[0] / f"{stem}.ipynb", as_version=4)
    assert node.cells[0].outputs[0].text == "kept\n"


def test_summary_and_pages(runs):
    folder, results, _, _ = runs
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "failed" and summary["profile"] == "quick" and summary["versions"]["torch"]
    assert [entry["notebook"] for entry in summary["notebooks"]] == sorted(results)
    assert {"status", "seconds", "peak_memory_mb", "error"} <= set(summary["notebooks"][0])
    index = (folder / "index.html").read_text()
    assert not (folder / "00_good.log").exists(), "a kernel that is well says nothing outside the notebook"
    assert '<html lang="en">' in index and 'href="00_good.html"' in index and "ValueError: no" in index
    page = (folder / "00_good.html").read_text()
    assert 'alt="a &lt;red&gt; dot"' in page and 'href="01_fails.html"' in page


def test_storing_writes_outputs_and_cost_but_no_parameters_or_paths(runs):
    run_folder, results, _, folder = runs
    notebook = Notebook(folder / "00_good.ipynb")
    before = nbformat.read(notebook.path, as_version=4)
    store_run(notebook, results["00_good"], "quick", run_folder / "00_good.ipynb")
    after = nbformat.read(notebook.path, as_version=4)
    assert [(cell.id, cell.source) for cell in after.cells] == [(cell.id, cell.source) for cell in before.cells]
    assert [cell.execution_count for cell in after.cells if cell.cell_type == "code"] == [1, 2, 3, 4, 5]
    assert after.metadata["course"]["measured"]["quick"]["memory_mb"] == results["00_good"].peak_memory_mb
    assert "papermill" not in json.dumps(after) and "injected" not in json.dumps(after)
    assert stored_picture(after.cells[-1].outputs[0])[2] == "a <red> dot"


BROKEN = {
    "empty": b"",
    "text": b"not json",
    "cut": b'{"cells": [',
    "list": b"[]",
    "number": b"3",
    "no-cells": b"{}",
    "strange-cells": b'{"cells": [1], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
    "cells-without-text": b'{"cells": [{"cell_type": "code"}], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
    "future": b'{"cells": [], "metadata": {}, "nbformat": 9, "nbformat_minor": 0}',
    "bytes": bytes(range(256)),
    "deep": b"[" * 100_000,
}


def test_broken_notebooks_fail_by_themselves_and_hide_nothing(make_notebook, tmp_path):
    good = make_notebook("50_good.ipynb", text("title", "# Good"), code("one", "print(1)"))
    for name, content in BROKEN.items():
        (good.parent / f"10_{name}.ipynb").write_bytes(content)
    (good.parent / "10_folder.ipynb").mkdir()
    (good.parent / "other").mkdir()
    twin = shutil.copy(good, good.parent / "other/50_good.ipynb")
    chosen = [Notebook(path) for path in (*sorted(good.parent.glob("1*.ipynb")), good, Path(twin))]
    lines = []
    folder, results = run_notebooks(chosen, runs=tmp_path / "runs", tell=lines.append)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "failed" and len(summary["notebooks"]) == len(chosen) == len(BROKEN) + 3
    states = {result.notebook: (result.status, (result.error or {}).get("name")) for result in results}
    assert states.pop("50_good") == states.pop("50_good-2") == ("ok", None), "two of one name keep their outputs"
    assert set(states.values()) == {("failed", "Unreadable")}
    for name in (*BROKEN, "folder"):
        assert sum(f"10_{name}, before any cell: Unreadable:" in line for line in lines) == 1
    assert "10_cut" in (folder / "index.html").read_text()


def test_parameters_reach_the_kernel_and_such_a_run_is_not_stored(make_notebook, tmp_path):
    from course_lib.errors import CourseError

    path = make_notebook("00_small.ipynb", PARAMETERS, code("show", "print(steps + 1, name)"))
    given = {"steps": "41", "name": '"b" it\'s \\\\n "c"'}
    folder, [result] = run_notebooks([Notebook(path)], parameters=given, runs=tmp_path / "runs")
    node = nbformat.read(folder / "00_small.ipynb", as_version=4)
    assert node.cells[-1].outputs[0].text == '42 "b" it\'s \\\\n "c"\n'
    with pytest.raises(CourseError, match="default parameters"):
        store_run(Notebook(path), result, "quick", folder / "00_small.ipynb")


def test_an_interrupt_ends_the_kernel_and_is_reported(make_notebook, tmp_path):
    waiting = [code("first", "print('kept')"), code("wait", "import time\ntime.sleep(60)")]
    files = [make_notebook("00_wait.ipynb", *waiting), make_notebook("01_next.ipynb", code("one", "1"))]

    def interrupt_when_running():
        copy = tmp_path / "runs"
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not any("kept" in p.read_text() for p in copy.rglob("*.ipynb")):
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt_when_running, daemon=True).start()
    folder, results = run_notebooks([Notebook(path) for path in files], runs=tmp_path / "runs")
    assert [result.status for result in results] == ["interrupted", "interrupted"]
    assert json.loads((folder / "summary.json").read_text())["status"] == "failed"
    assert "kept" in (folder / "00_wait.ipynb").read_text()


def test_kernels_do_not_outlive_a_runner_that_is_killed(make_notebook, tmp_path):
    said = tmp_path / "pid"
    source = f"import os, time\nopen({str(said)!r}, 'w').write(str(os.getpid()))\ntime.sleep(120)"
    path = make_notebook("00_wait.ipynb", code("wait", source))
    lines = "import sys\nfrom pathlib import Path\nfrom course_lib import cli, profiles\n"
    lines += "profiles.RUNS = Path(sys.argv.pop())\ncli.main()"
    runner = subprocess.Popen([sys.executable, "-c", lines, "run", str(path), str(tmp_path / "runs")])
    wait_until(lambda: said.exists() and said.read_text())
    runner.kill()
    runner.wait()
    wait_until(lambda: ended(int(said.read_text())))


def ended(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


def test_run_folders_never_collide(tmp_path, monkeypatch):
    class Clock(profiles.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 2, 3, 4, 5)

    monkeypatch.setattr(profiles, "datetime", Clock)
    names = [profiles.new_run_folder(tmp_path).name for _ in range(3)]
    assert names == ["20260102-030405", "20260102-030405-2", "20260102-030405-3"]


def test_a_kernel_that_stumbles_over_its_own_closed_socket_has_said_nothing(tmp_path):
    log = tmp_path / "kernel.log"
    stumble = "ERROR:tornado.general:Uncaught exception in ZMQStream callback\nTraceback (most recent call last):\n"
    stumble += "  File ...\nzmq.error.ZMQError: Socket operation on non-socket\n"
    for said, nothing in ((stumble, True), (stumble + "and more", False), (2 * stumble, False), ("a warning", False)):
        log.write_text(said)
        assert _only_shutdown_race(log) == nothing
