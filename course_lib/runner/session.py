"""Runs several notebooks, goes on after a failure, and leaves a folder with everything that came out."""

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
from course_lib.runner.store import write_page, write_text_atomically
from course_lib.runner.worker import NotebookResult, read_executed, run_worker

__all__ = ["RunOptions", "kernel_environment", "restart_with_settings", "run_notebooks"]

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
