"""Runs several notebooks, goes on after a failure, and leaves a folder with everything that came out."""

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from course_lib import paths
from course_lib.runner.catalog import Notebook
from course_lib.runner.environment import default_cell_timeout, kernel_environment
from course_lib.runner.parameters import check_parameters
from course_lib.runner.process import NotebookResult, run_worker

__all__ = ["RunOptions", "new_run_folder", "run_notebooks"]


@dataclass(frozen=True)
class RunOptions:
    """How to run.

    Attributes:
        profile: ``quick``, ``cpu`` or ``gpu``.
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


def run_notebooks(
    notebooks: list[Notebook], options: RunOptions, tell: Callable[[str], None] = print
) -> tuple[Path, list[NotebookResult]]:
    """Execute notebooks, each in its own process, and write pages, index and ``summary.json``.

    Args:
        notebooks: what to run.
        options: how to run it.
        tell: receives one line when a notebook starts and one when it ends.

    Returns:
        The run's folder and the results in the order of ``notebooks``.

    Raises:
        CourseError: a parameter is unknown or of the wrong type; nothing has run then.
    """
    from course_lib.runner.pages import write_page
    from course_lib.runner.report import write_report

    checked = [check_parameters(notebook, options.parameters) for notebook in notebooks]
    folder = new_run_folder(options.runs or paths.RUNS)
    results: dict[Path, NotebookResult] = {}
    stop = threading.Event()

    def one(notebook: Notebook, parameters: dict[str, Any]) -> NotebookResult:
        if stop.is_set():
            return _not_started(notebook)
        tell(f"{notebook.stem} ...")
        return _run_one(notebook, parameters, options, folder, stop)

    with _stop_on_signal(stop), ThreadPoolExecutor(max(1, options.jobs)) as pool:
        futures = {pool.submit(one, *pair): pair[0] for pair in zip(notebooks, checked, strict=True)}
        for future in as_completed(futures):
            notebook, result = futures[future], future.result()
            results[notebook.path] = result
            tell(_line(result))
            write_page(folder / f"{notebook.stem}.ipynb", result.title, notebook.path.parent)
            # Written again after each notebook: whatever ends the run, the summary of what was done is there.
            write_report(folder, [results[n.path] for n in notebooks if n.path in results], options.profile)
    return folder, [results[notebook.path] for notebook in notebooks]


def new_run_folder(runs: Path) -> Path:
    """A new folder named by date and time; a second run in the same second gets a suffix."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    for suffix in ["", *(f"-{count}" for count in range(2, 1000))]:
        folder = runs / (stamp + suffix)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(runs / stamp)


def _run_one(
    notebook: Notebook, parameters: dict[str, Any], options: RunOptions, folder: Path, stop: threading.Event
) -> NotebookResult:
    job = {
        "input": str(notebook.path.resolve()),
        "output": str((folder / f"{notebook.stem}.ipynb").resolve()),
        "parameters": parameters,
        "cell_timeout": options.cell_timeout or default_cell_timeout(options.profile),
    }
    environment = kernel_environment(options.profile, options.jobs) | {"COURSE_RUN_FOLDER": str(folder.resolve())}
    result, seconds, peak = run_worker(job, environment, folder / f"{notebook.stem}.log", stop)
    return NotebookResult(
        notebook.stem, notebook.title, result["status"], round(seconds, 1), peak, result["error"], parameters
    )


def _not_started(notebook: Notebook) -> NotebookResult:
    error = {"name": "Interrupted", "value": "not started"}
    return NotebookResult(notebook.stem, notebook.title, "interrupted", 0.0, 0, error)


def _line(result: NotebookResult) -> str:
    cost = f"{result.seconds:.0f} s, {result.peak_memory_mb} MB"
    ending = "" if result.status == "ok" else f"\n  {result.error_line()}"
    return f"{result.notebook}: {result.status} ({cost}){ending}"


@contextmanager
def _stop_on_signal(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C, a polite kill or a closed terminal ends the running notebooks and keeps what is done.

    Only the main thread may listen to signals; elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number in kept:
        signal.signal(number, lambda *_: stop.set())
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
