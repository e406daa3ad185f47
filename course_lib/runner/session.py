"""Runs several notebooks, goes on after a failure, and leaves a folder with everything that came out.

Storing is how authors refresh what readers see: sources, tags and ids stay as they are in the file; only outputs,
execution counts, widget state and measured numbers change.
"""

import base64
import html
import json
import os
import platform
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import nbformat

from course_lib import paths
from course_lib.errors import CourseError
from course_lib.runner.catalog import Notebook, check_parameters
from course_lib.runner.worker import NotebookResult, read_executed, run_worker

__all__ = ["RunOptions", "kernel_environment", "portable", "restart_with_settings", "run_notebooks", "store_run"]
__all__ += ["stored_picture", "write_page", "write_text_atomically"]

_PICTURE = re.compile(r'<img alt="([^"]*)" src="data:(image/(?:png|jpeg));base64,([\w+/=]+)">')
_KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
_CELL_TIMEOUT = {"quick": 600, "cpu": 6 * 3600, "gpu": 2 * 3600}
"""Seconds one cell may take: a laptop evening is longer than a GPU's hour."""
_RESTARTED = "COURSE_ENVIRONMENT_SET"
_PACKAGES = ("ipywidgets", "lightning", "nbclient", "numpy", "papermill", "torch", "torchvision")


def kernel_environment(profile: str, jobs: int = 1) -> dict[str, str]:
    """The whole environment of a headless kernel of a profile, one of ``jobs`` that share the machine's cores."""
    from course_lib.profiles import process_environment

    environment = {**process_environment(), **os.environ}
    environment.update(
        COURSE_PROFILE=profile,
        TQDM_DISABLE="1",  # a plain progress bar writes its timing to stderr, which no stored output can match
        JUPYTER_PREFER_ENV_PATH="1",  # the kernel of this environment, not one a user once registered
        PYDEVD_DISABLE_FILE_VALIDATION="1",  # keeps a debugger's warning out of the outputs
    )
    if jobs > 1:
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    return environment


def restart_with_settings() -> None:
    """Replace this process by itself with the allocator's settings in place; does nothing the second time."""
    from course_lib.profiles import process_environment

    missing = {name: value for name, value in process_environment().items() if name not in os.environ}
    if missing and _RESTARTED not in os.environ:
        environment = {**os.environ, **missing, _RESTARTED: "1"}
        os.execve(sys.executable, [sys.executable, "-m", "course_lib.cli", *sys.argv[1:]], environment)


@dataclass(frozen=True)
class RunOptions:
    """How to run.

    Attributes:
        jobs: notebooks at a time.
        cell_timeout: seconds per cell; ``None`` takes the profile's.
        parameters: name to text, as typed; every chosen notebook must have them.
        runs: folder in which the folder of this run is made; ``None`` takes the course's ``runs/``.
    """

    profile: str = "quick"
    jobs: int = 1
    cell_timeout: int | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    runs: Path | None = None


@dataclass(frozen=True)
class _Task:
    """A notebook, its name in the folder of the run, and its parameters, or else what is wrong with the file."""

    notebook: Notebook
    name: str
    parameters: dict[str, Any]
    unreadable: str = ""

    def run(self, options: RunOptions, folder: Path, stop: threading.Event) -> NotebookResult:
        title = self.name if self.unreadable else self.notebook.title
        if stop.is_set():
            return NotebookResult(
                self.name, title, "interrupted", error={"name": "Interrupted", "value": "not started"}
            )
        if self.unreadable:
            return NotebookResult(self.name, title, "failed", error={"name": "Unreadable", "value": self.unreadable})
        job = {
            "input": str(self.notebook.path.resolve()),
            "output": str((folder / f"{self.name}.ipynb").resolve()),
            "parameters": self.parameters,
            "cell_timeout": options.cell_timeout or _CELL_TIMEOUT[options.profile],
        }
        environment = kernel_environment(options.profile, options.jobs) | {"COURSE_RUN_FOLDER": str(folder.resolve())}
        result, seconds, peak = run_worker(job, environment, folder / f"{self.name}.log", stop)
        cost = (round(seconds, 1), peak)
        return NotebookResult(self.name, title, result["status"], *cost, result["error"], self.parameters)


def run_notebooks(
    notebooks: list[Notebook], options: RunOptions, tell: Callable[[str], None] = print
) -> tuple[Path, list[NotebookResult]]:
    """Execute notebooks, each in its own process, and write pages, index and ``summary.json``.

    A file that is no notebook fails by itself; the others run. ``tell`` receives one line when a notebook starts and
    one when it ends. The run's folder and the results in the order of ``notebooks`` are returned.

    Raises:
        CourseError: a parameter is unknown or of the wrong type, there is no such data set or GPU, or nothing can be
            written; nothing has run then.
    """
    from course_lib.profiles import Profile

    tasks = _tasks(notebooks, options.parameters)
    Profile(options.profile).device  # noqa: B018 - a missing GPU is reported before a kernel starts
    paths.cache_dir()
    folder = paths.new_run_folder(options.runs or paths.RUNS)
    results: dict[str, NotebookResult] = {}
    stop = threading.Event()

    def one(task: _Task) -> NotebookResult:
        if not (stop.is_set() or task.unreadable):
            tell(f"{task.name} ...")
        return task.run(options, folder, stop)

    with _stop_on_signal(stop), ThreadPoolExecutor(max(1, options.jobs)) as pool:
        futures = {pool.submit(one, task): task for task in tasks}
        for future in as_completed(futures):
            task, result = futures[future], future.result()
            results[task.name] = result
            ending = "" if result.status == "ok" else f"\n  {result.error_line()}"
            tell(f"{task.name}: {result.status} ({result.seconds:.0f} s, {result.peak_memory_mb} MB){ending}")
            if node := read_executed(folder / f"{task.name}.ipynb"):
                write_page(node, folder / f"{task.name}.html", result.title, task.notebook.path.parent)
            # Written again after each notebook: whatever ends the run, the summary of what was done is there.
            _write_report(folder, [results[one.name] for one in tasks if one.name in results], options.profile)
    return folder, [results[task.name] for task in tasks]


def _tasks(notebooks: list[Notebook], parameters: dict[str, str]) -> list[_Task]:
    tasks: list[_Task] = []
    for notebook in notebooks:
        twins = sum(task.notebook.stem == notebook.stem for task in tasks)
        name = f"{notebook.stem}-{twins + 1}" if twins else notebook.stem
        try:
            notebook.node  # noqa: B018 - read once, here
        except CourseError as error:
            tasks.append(_Task(notebook, name, {}, str(error)))
        else:
            tasks.append(_Task(notebook, name, check_parameters(notebook, parameters)))
    return tasks


@contextmanager
def _stop_on_signal(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C, a polite kill or a closed terminal ends the running notebooks and keeps what is done.

    Only the main thread may listen to signals; elsewhere this does nothing.
    """
    main = threading.current_thread() is threading.main_thread()
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if main}
    for number in kept:
        signal.signal(number, lambda *_: stop.set())
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _write_report(folder: Path, results: list[NotebookResult], profile: str) -> None:
    """``summary.json`` for machines and ``index.html`` for people, for a run that is over or so far."""
    found = {one.metadata["Name"]: one.version for one in distributions()}
    passed = sum(result.status == "ok" for result in results)
    summary = {
        "profile": profile,
        "status": "ok" if passed == len(results) else "failed",
        "seconds": round(sum(result.seconds for result in results), 1),
        "written": datetime.now().isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()} | {name: found[name] for name in _PACKAGES},
        "notebooks": [asdict(result) for result in results],
    }
    write_text_atomically(folder / "summary.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    rows = ["| notebook | how it went | seconds | MB |", "|---|---|---|---|"]
    for result in results:
        title, page = _literal(result.title), folder / f"{result.notebook}.html"
        ending = f"**{result.status}**: {_literal(result.error_line())}" if result.error else result.status
        title = f"[{title}]({page.name})" if page.exists() else title
        rows.append(f"| {title} | {ending} | {result.seconds:.0f} | {result.peak_memory_mb} |")
    head = f"# Course run\n\n{passed} of {len(results)} notebooks passed · profile {profile} · {summary['written']}"
    text = "\n".join([head, "", *rows, "", "[summary.json](summary.json)"])
    node = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
    write_page(node, folder / "index.html", "Course run", folder)


def _literal(text: str) -> str:
    """Any text as literal text of a markdown table."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>$~&])", r"\\\1", " ".join(text.split()))


# --- what is kept of a run ----------------------------------------


def stored_picture(output: dict[str, Any]) -> tuple[bytes, str, str] | None:
    """What ``figures.show`` has left in an output: the file, its media type, its alternative text in one line."""
    match = _PICTURE.fullmatch("".join(output.get("data", {}).get("text/html", "")))
    return match and (base64.b64decode(match[3]), match[2], " ".join(html.unescape(match[1]).split()))


def write_text_atomically(path: Path, text: str) -> None:
    """Write beside, flush to the disk, rename: a full disk or a kill leaves the old file as it was."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_page(node: nbformat.NotebookNode, page: Path, title: str, links_from: Path) -> None:
    """One HTML page with its pictures in it; nbconvert's classic template is the one that shows alt texts.

    Links to notebooks lead to pages afterwards; relative links to pictures hold from the folder ``links_from``.
    """
    from nbconvert import HTMLExporter

    for cell in node.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"\]\((?:\./)?([\w-]+)\.ipynb(#[^)]*)?\)", r"](\1.html\2)", cell.source)
    exporter = HTMLExporter(template_name="classic", embed_images=True, language_code="en")
    body, _ = exporter.from_notebook_node(node, {"metadata": {"name": title, "path": str(links_from)}})
    write_text_atomically(page, body)


def store_run(notebook: Notebook, result: NotebookResult, profile: str, executed: Path | None = None) -> None:
    """Write what a run in this profile cost into the notebook's file, and its outputs.

    Without ``executed``, the copy that papermill wrote, outputs stay as they are.

    Raises:
        CourseError: the run did not pass, had parameters, or the notebook was edited meanwhile.
    """
    if result.status != "ok" or result.parameters:
        raise CourseError(f"{notebook.stem}: only a passing run with the default parameters can be stored")
    node = nbformat.read(notebook.path, as_version=4)
    if executed:
        _take_outputs(node, nbformat.read(executed, as_version=4), notebook.stem)
    measured = node.metadata.setdefault("course", {}).setdefault("measured", {})
    measured[profile] = {"seconds": round(result.seconds), "memory_mb": result.peak_memory_mb}
    nbformat.validate(node)
    write_text_atomically(notebook.path, nbformat.writes(node) + "\n")


def _take_outputs(node: nbformat.NotebookNode, done: nbformat.NotebookNode, stem: str) -> None:
    cells = {cell.id: cell for cell in done.cells}
    for cell in node.cells:
        if cell.id not in cells or cells[cell.id].source != cell.source:
            raise CourseError(f"{stem}: cell '{cell.id}' was changed during the run; run it again to store it")
        if cell.cell_type == "code":
            cell.execution_count = cells[cell.id].execution_count
            cell.outputs = [_clean(output) for output in cells[cell.id].outputs]
    node.metadata["kernelspec"] = dict(_KERNEL)
    node.metadata.pop("papermill", None)
    node.metadata.pop("widgets", None)
    if state := done.metadata.get("widgets"):
        node.metadata["widgets"] = state


def portable(text: str) -> str:
    """Text without this machine's folders: the repository becomes relative, the home folder ``~``."""
    root, home = re.escape(str(paths.ROOT)), re.escape(str(Path.home()))
    text = re.sub(root + r"/(?=[\w.])", "", text)
    text = re.sub(root + r"(?![\w.-])", ".", text)
    return re.sub(home + r"(?![\w.-])", "~", text) if len(home) > 1 else text


def _clean(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    if output.output_type == "stream":
        output.text = portable(output.text)
    for kind, value in output.get("data", {}).items():
        if kind.startswith("text/") and isinstance(value, str):
            output.data[kind] = portable(value)
    return output
