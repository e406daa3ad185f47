"""Runs several notebooks, each in a kernel of its own, goes on after a failure, and leaves a folder with what came out.
Storing changes outputs, execution counts, widget state and measured numbers in a file; all else stays as it is."""

import base64
import html
import json
import logging
import os
import platform
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
import psutil

from course_lib import profiles
from course_lib.errors import CourseError, explain
from course_lib.runner.catalog import Notebook, check_parameters

_PICTURE = re.compile(r'<img alt="([^"]*)" src="data:(image/(?:png|jpeg|webp));base64,([\w+/=]+)"(?: width="\d+")?>')
_CELL_TIMEOUT = {"quick": 600, "cpu": 6 * 3600, "gpu": 2 * 3600}
"""Seconds one cell may take: a laptop evening is longer than a GPU's hour."""
_RESTARTED = "COURSE_ENVIRONMENT_SET"
_PACKAGES = ("ipywidgets", "lightning", "nbclient", "numpy", "papermill", "torch", "torchvision")
_RACE = "ERROR:tornado.general:Uncaught exception in ZMQStream callback"


def kernel_environment(profile: str, jobs: int = 1) -> dict[str, str]:
    """The whole environment of a headless kernel of a profile, one of ``jobs`` that share the machine's cores."""
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))} if jobs > 1 else {}
    return {
        **profiles.process_environment(),
        **threads,
        **os.environ,
        "COURSE_PROFILE": profile,
        "TQDM_DISABLE": "1",  # a plain progress bar writes its timing to stderr, which no stored output can match
        "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of this environment, not one a user once registered
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # keeps a debugger's warning out of the outputs
    }


def restart_with_settings() -> None:
    """Replace this process by itself with the allocator's settings in place; does nothing the second time."""
    wanted = profiles.process_environment()
    if not wanted.keys() <= os.environ.keys() and _RESTARTED not in os.environ:
        environment = {**wanted, **os.environ, _RESTARTED: "1"}
        os.execve(sys.executable, [sys.executable, "-m", "course_lib.cli", *sys.argv[1:]], environment)


# --- one notebook -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NotebookResult:
    """How one notebook went."""

    notebook: str
    title: str
    status: str  # ok, failed (a cell raised), timeout, died (the kernel ended) or interrupted
    seconds: float = 0.0
    peak_memory_mb: int = 0  # resident, of the kernel and all its children
    error: dict[str, Any] | None = None
    parameters: dict[str, Any] = field(default_factory=dict)

    def error_line(self) -> str:
        """Notebook, cell and error in one line."""
        error = self.error or {}
        cell = f"cell {error['cell_number']} '{error['cell_id']}'" if error.get("cell_number") else "before any cell"
        return f"{self.notebook}, {cell}: {error.get('name', self.status)}: {error.get('value', '')}"


def execute(
    node: nbformat.NotebookNode, copy: Path, home: Path, env: dict[str, str], stop: threading.Event, **options: Any
) -> tuple[str, dict[str, Any] | None, int]:
    """Run a notebook in place, in a kernel that starts in the folder ``home`` with the variables ``env``; ``stop`` ends
    it early. It is written to the file ``copy`` whenever a cell begins, and at the end; what the kernel prints outside
    it, to a ``.log`` beside. ``options`` are those of ``nbclient.NotebookClient``, such as ``timeout``, the seconds a
    cell may take. Returns status, error (None, or ``cell_id``, ``cell_number``, ``name``, ``value``), megabytes."""
    from nbclient import NotebookClient

    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # as in the kernel's environment, but this process looks
    logging.getLogger("traitlets").setLevel(logging.CRITICAL)
    for cell in node.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    place = {"cell_id": "", "cell_number": 0}

    def begin(cell: nbformat.NotebookNode, cell_index: int) -> None:
        before = sum(one.cell_type == "code" for one in node.cells[:cell_index])
        place.update(cell_id=cell.get("id", ""), cell_number=before + 1)
        nbformat.write(node, copy)

    # The kernel itself logs a slow shutdown as an error; cells are not touched by the level of its log.
    fixed = {"kernel_name": "python3", "iopub_timeout": 120, "extra_arguments": ["--log-level=CRITICAL"]}
    fixed["resources"] = {"metadata": {"path": str(home)}}
    client = NotebookClient(node, on_cell_execute=begin, raise_on_iopub_timeout=True, **fixed, **options)
    log, ended = copy.with_suffix(".log"), threading.Event()
    with log.open("wb") as stream, ThreadPoolExecutor(1) as pool:
        watching = pool.submit(_watch, client, stop, ended)
        try:
            status, name, value = _outcome(client, env=env, stdout=stream, stderr=stream)
        finally:
            ended.set()
    if log.stat().st_size == 0 or (status == "ok" and _only_shutdown_race(log)):
        log.unlink()
    try:
        nbformat.write(node, copy)
    except OSError as error:
        status, name, value = "failed", type(error).__name__, explain(error)
    if status == "ok":
        return status, None, watching.result()
    if stop.is_set():
        status, name, value = "interrupted", "Interrupted", "stopped before the end"
    return status, {**place, "name": name, "value": value.strip().partition("\n")[0][:500]}, watching.result()


def _outcome(client: Any, **start: Any) -> tuple[str, str, str]:
    """Execute and give status, and name and text of the error."""
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    try:
        client.execute(**start)
    except CellExecutionError as error:
        number = re.match(r"\[Errno (\d+)\] ([^:]*)(?:: '(.*)')?$", error.evalue)
        value = explain(OSError(int(number[1]), number[2], number[3])) if number else error.evalue
        return "failed", error.ename, value
    except CellTimeoutError:
        return "timeout", "Timeout", f"the cell took longer than {client.timeout} seconds"
    except DeadKernelError:
        return "died", "KernelDied", "the kernel ended without a word; usually the memory did not suffice"
    except Exception as error:  # whatever else stops a notebook belongs into the summary
        return "failed", type(error).__name__, explain(error) if isinstance(error, OSError) else str(error)
    return "ok", "", ""


def _watch(client: Any, stop: threading.Event, ended: threading.Event) -> int:
    """Wait for the end, or bring it about; return the peak memory of the kernel and all below it, in megabytes."""
    peak = 0
    while not ended.wait(0.1):
        tree: list[psutil.Process] = []
        # None before the kernel has started and after its end; psutil would take None for this process.
        if pid := getattr(getattr(client.km, "provisioner", None), "pid", None):
            with suppress(psutil.Error):
                kernel = psutil.Process(pid)
                tree = [*kernel.children(recursive=True), kernel]
        memory = 0
        for process in tree:
            with suppress(psutil.Error):
                memory += process.memory_info().rss
                if stop.is_set():
                    process.kill()
        peak = max(peak, memory)
    return round(peak / 2**20)


def _only_shutdown_race(log: Path) -> bool:
    """Whether all that was said is that ipykernel, while it ended, flushed into a socket that it had closed itself."""
    text = log.read_text(errors="replace").strip()
    return text.startswith(_RACE) and text.count(_RACE) == 1 and text.endswith("Socket operation on non-socket")


# --- several notebooks ------------------------------------------------------------------------------------------------


def run_notebooks(
    notebooks: list[Notebook],
    profile: str = "quick",
    jobs: int = 1,
    cell_timeout: int | None = None,
    parameters: dict[str, str] | None = None,
    runs: Path | None = None,
    tell: Callable[[str], None] = print,
) -> tuple[Path, list[NotebookResult]]:
    """Execute notebooks, ``jobs`` at a time, and write pages, index and ``summary.json`` into a new folder in ``runs``.
    A file that is no notebook fails by itself.

    Args:
        cell_timeout: seconds per cell; the profile's by default.
        parameters: name to text, as typed; every notebook must have them.
        tell: takes one line when a notebook starts and one when it ends.

    Returns the folder, and the results in the order of the notebooks. A CourseError before anything runs for a
    parameter, data set, GPU or folder to write that is not there.
    """
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    tasks: dict[str, Notebook] = {}
    for notebook in notebooks:
        twins = sum(task.stem == notebook.stem for task in tasks.values())
        tasks[f"{notebook.stem}-{twins + 1}" if twins else notebook.stem] = notebook
    values = {name: check_parameters(task, parameters or {}) for name, task in tasks.items() if not task.problem}
    profiles.Profile(profile).device  # noqa: B018 - a missing GPU is reported before a kernel starts
    profiles.cache_dir()
    folder, stop = profiles.new_run_folder(runs or profiles.RUNS), threading.Event()
    environment = kernel_environment(profile, jobs) | {"COURSE_RUN_FOLDER": str(folder.resolve())}
    timeout, results = cell_timeout or _CELL_TIMEOUT[profile], {}

    def one(name: str) -> NotebookResult:
        task = tasks[name]
        if task.problem:
            return NotebookResult(name, name, "failed", error={"name": "Unreadable", "value": task.problem})
        if stop.is_set():
            stopped = {"name": "Interrupted", "value": "not started"}
            return NotebookResult(name, task.title, "interrupted", error=stopped)
        tell(f"{name} ...")
        started, node, home = time.monotonic(), load_notebook_node(str(task.path)), task.path.parent
        if values[name]:
            node = parameterize_notebook(node, values[name], kernel_name="python3", language="python")
        status, error, peak = execute(node, folder / f"{name}.ipynb", home, environment, stop, timeout=timeout)
        seconds = round(time.monotonic() - started, 1)
        _write_page(node, folder / f"{name}.html", task.title, home)
        return NotebookResult(name, task.title, status, seconds, peak, error, values[name])

    with _stop_on_signal(stop), ThreadPoolExecutor(jobs) as pool:
        for future in as_completed([pool.submit(one, name) for name in tasks]):
            result = future.result()
            results[result.notebook] = result
            ending = "" if result.status == "ok" else f"\n  {result.error_line()}"
            tell(f"{result.notebook}: {result.status} ({result.seconds:.0f} s, {result.peak_memory_mb} MB){ending}")
            # Written again after each notebook: whatever ends the run, the summary of what was done is there.
            _write_report(folder, [results[name] for name in tasks if name in results], profile)
    return folder, [results[name] for name in tasks]


@contextmanager
def _stop_on_signal(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C, a polite kill or a closed terminal ends the running notebooks and keeps what is done."""
    main = threading.current_thread() is threading.main_thread()  # which alone may listen
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if main else ()
    kept = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _write_report(folder: Path, results: list[NotebookResult], profile: str) -> None:
    """``summary.json`` for machines and ``index.html`` for people, for a run that is over or so far."""
    passed = sum(result.status == "ok" for result in results)
    summary = {
        "profile": profile,
        "status": "ok" if passed == len(results) else "failed",
        "seconds": round(sum(result.seconds for result in results), 1),
        "written": datetime.now().isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
        "notebooks": [asdict(result) for result in results],
    }
    _write_text(folder / "summary.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    head = f"# Course run\n\n{passed} of {len(results)} notebooks passed · profile {profile} · {summary['written']}"
    lines = [head, "", "| notebook | how it went | seconds | MB |", "|---|---|---|---|"]
    for result in results:
        title, page = _literal(result.title), folder / f"{result.notebook}.html"
        ending = f"**{result.status}**: {_literal(result.error_line())}" if result.error else result.status
        title = f"[{title}]({page.name})" if page.exists() else title
        lines.append(f"| {title} | {ending} | {result.seconds:.0f} | {result.peak_memory_mb} |")
    cell = nbformat.v4.new_markdown_cell("\n".join([*lines, "", "[summary.json](summary.json)"]))
    _write_page(nbformat.v4.new_notebook(cells=[cell]), folder / "index.html", "Course run", folder)


def _literal(text: str) -> str:
    """Any text as literal text of a markdown table."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>$~&])", r"\\\1", " ".join(text.split()))


# --- what is kept of a run --------------------------------------------------------------------------------------------


def stored_picture(output: dict[str, Any]) -> tuple[bytes, str, str] | None:
    """What ``figures.show`` has left in an output: the file, its media type, its alternative text in one line."""
    match = _PICTURE.fullmatch("".join(output.get("data", {}).get("text/html", "")))
    return match and (base64.b64decode(match[3]), match[2], " ".join(html.unescape(match[1]).split()))


def _write_text(path: Path, text: str) -> None:
    """The whole file or nothing: a full disk or a kill leaves the old one as it was."""
    from course_lib.training.runs import atomic_write

    atomic_write(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def _write_page(node: nbformat.NotebookNode, page: Path, title: str, links_from: Path) -> None:
    """One HTML page with its pictures in it; nbconvert's classic template is the one that shows alt texts. Links to
    notebooks lead to pages afterwards; relative links to pictures hold from the folder ``links_from``."""
    from nbconvert import HTMLExporter

    for cell in node.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"\]\((?:\./)?([\w-]+)\.ipynb(#[^)]*)?\)", r"](\1.html\2)", cell.source)
    exporter = HTMLExporter(template_name="classic", embed_images=True, language_code="en")
    body, _ = exporter.from_notebook_node(node, {"metadata": {"name": title, "path": str(links_from)}})
    _write_text(page, body)


def store_run(notebook: Notebook, result: NotebookResult, profile: str, executed: Path | None = None) -> None:
    """Write what a run in this profile cost into the notebook's file, and the outputs of the ``executed`` copy, if any;
    a CourseError if the run did not pass, had parameters, or the notebook was edited meanwhile."""
    if result.status != "ok" or result.parameters:
        raise CourseError(f"{notebook.stem}: only a passing run with the default parameters can be stored")
    node = nbformat.read(notebook.path, as_version=4)
    if executed:
        _take_outputs(node, nbformat.read(executed, as_version=4), notebook.stem)
    measured = node.metadata.setdefault("course", {}).setdefault("measured", {})
    measured[profile] = {"seconds": round(result.seconds), "memory_mb": result.peak_memory_mb}
    nbformat.validate(node)
    _write_text(notebook.path, nbformat.writes(node) + "\n")


def _take_outputs(node: nbformat.NotebookNode, done: nbformat.NotebookNode, stem: str) -> None:
    cells = {cell.id: cell for cell in done.cells}
    for cell in node.cells:
        if cell.id not in cells or cells[cell.id].source != cell.source:
            raise CourseError(f"{stem}: cell '{cell.id}' was changed during the run; run it again to store it")
        if cell.cell_type == "code":
            cell.execution_count, cell.outputs = cells[cell.id].execution_count, cells[cell.id].outputs
            for texts in (output.get("data", output) for output in cell.outputs):  # a stream has its "text" itself
                for kind, value in texts.items():
                    if kind.partition("/")[0] == "text" and isinstance(value, str):
                        texts[kind] = portable(value)
    node.metadata["kernelspec"] = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    node.metadata.pop("widgets", None)
    if state := done.metadata.get("widgets"):
        node.metadata["widgets"] = state


def portable(text: str) -> str:
    """Text without this machine's folders: the repository becomes relative, the home folder ``~``."""
    root, home = re.escape(str(profiles.ROOT)), re.escape(str(Path.home()))
    text = re.sub(root + r"/(?=[\w.])", "", text)
    text = re.sub(root + r"(?![\w.-])", ".", text)
    return re.sub(home + r"(?![\w.-])", "~", text) if len(home) > 1 else text
