"""One notebook in a process of its own: started, watched and ended from here, executed with papermill over there.

The process ends with 0 whenever it could say how the notebook went: that is in the job's result file.
"""

import errno
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import psutil

from course_lib.errors import explain

__all__ = ["NotebookResult", "execute", "execute_job", "read_executed", "run_worker", "unexecuted_cells"]

_SAMPLE_SECONDS = 0.1
_RACE = "ERROR:tornado.general:Uncaught exception in ZMQStream callback"


@dataclass(frozen=True)
class NotebookResult:
    """How one notebook went.

    ``status`` is ``ok``, ``failed`` (a cell raised), ``timeout``, ``died`` (the kernel ended) or ``interrupted``;
    ``peak_memory_mb`` counts the resident memory of the kernel and all its children.
    """

    notebook: str
    title: str
    status: str
    seconds: float = 0.0
    peak_memory_mb: int = 0
    error: dict[str, Any] | None = None
    parameters: dict[str, Any] = field(default_factory=dict)

    def error_line(self) -> str:
        """Notebook, cell and error in one line."""
        error = self.error or {}
        cell = f"cell {error['cell_number']} '{error['cell_id']}'" if error.get("cell_number") else "before any cell"
        return f"{self.notebook}, {cell}: {error.get('name', self.status)}: {error.get('value', '')}"


def run_worker(
    job: dict[str, Any], environment: dict[str, str], log: Path, stop: threading.Event
) -> tuple[dict[str, Any], float, int]:
    """Execute one notebook in a process of its own: what :func:`execute` returned, seconds, peak megabytes.

    Args:
        job: what :func:`execute` takes.
        environment: of the worker and its kernel.
        log: file for what either prints outside the notebook; removed again when empty.
        stop: set it to end the run early.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, log.open("wb") as stream:
        answer = Path(folder) / "result.json"
        command = [
            sys.executable,
            "-c",
            "from course_lib.runner.worker import execute_job; execute_job()",
            json.dumps(job),
            answer,
        ]
        # A session of its own: Ctrl-C reaches the runner alone, which then ends its workers in order.
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream, start_new_session=True)
        peak = _watch(process, stop)
        result = json.loads(answer.read_text()) if answer.exists() else _lost(process.returncode, stop.is_set(), log)
    if log.stat().st_size == 0 or (result["status"] == "ok" and _only_shutdown_race(log)):
        log.unlink()
    return result, time.monotonic() - started, peak


def _watch(process: subprocess.Popen, stop: threading.Event) -> int:
    """Wait for the end; return the peak memory of everything below the worker, in megabytes."""
    peak = 0
    while process.poll() is None:
        if stop.is_set():
            _end_tree(process.pid)
        peak = max(peak, sum(_memory(child) for child in _below(process.pid)))
        time.sleep(_SAMPLE_SECONDS) if stop.is_set() else stop.wait(_SAMPLE_SECONDS)
    return round(peak / 2**20)


def _below(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def _memory(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def _end_tree(pid: int) -> None:
    """Kill a process and everything below it, the children first."""
    with suppress(psutil.Error):
        for process in [*_below(pid), psutil.Process(pid)]:
            with suppress(psutil.Error):
                process.kill()


def _lost(code: int, stopped: bool, log: Path) -> dict[str, Any]:
    """What is said of a worker that left no result: stopped, a full disk, or a kill from outside."""
    if stopped:
        return {"status": "interrupted", "error": {"name": "Interrupted", "value": "stopped before the end"}}
    full = "No space left on device" in log.read_text(errors="replace")
    value = explain(OSError(errno.ENOSPC, "")) if full else f"the process ended with status {code}; see {log.name}"
    return {"status": "died", "error": {"name": "WorkerDied", "value": value}}


def _only_shutdown_race(log: Path) -> bool:
    """Whether all that was said is that ipykernel, while it ended, flushed into a socket that it had closed itself."""
    text = log.read_text(errors="replace").strip()
    return text.startswith(_RACE) and text.count(_RACE) == 1 and text.endswith("Socket operation on non-socket")


# --- there: execute ---------------------------------------------------------------------------------------------------


def execute_job() -> None:
    """Execute the job of the command line and write the result to the file named behind it."""
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    partial = Path(sys.argv[2] + ".partial")
    partial.write_text(json.dumps(execute(json.loads(sys.argv[1]))))
    os.replace(partial, sys.argv[2])


def _end_with_parent(parent: int) -> None:
    """A runner that is killed outright can no longer end its kernels, so each worker watches for that."""
    while os.getppid() == parent:
        time.sleep(1)
    _end_tree(os.getpid())


def execute(job: dict[str, Any]) -> dict[str, Any]:
    """Run one notebook and say how it went.

    Args:
        job: ``input``, ``output``, ``parameters``, ``cell_timeout`` in seconds.

    Returns:
        ``status`` and ``error`` (None, or ``cell_id``, ``cell_number``, ``name``, ``value``) as in the result above.
    """
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    try:
        papermill.execute_notebook(
            job["input"],
            job["output"],
            parameters=job["parameters"],
            cwd=str(Path(job["input"]).parent),
            kernel_name="python3",
            progress_bar=False,
            execution_timeout=job["cell_timeout"],
            iopub_timeout=120,
            # Of the kernel itself, which logs a slow shutdown as an error; cells are not touched.
            extra_arguments=["--log-level=CRITICAL"],
        )
        if left := unexecuted_cells(nbformat.read(job["output"], as_version=4)):
            return {"status": "failed", "error": {**left[0], "name": "NotExecuted", "value": "the cell did not run"}}
        return {"status": "ok", "error": None}
    except papermill.exceptions.PapermillExecutionError as error:
        number = re.match(r"\[Errno (\d+)\] ([^:]*)(?:: '(.*)')?$", str(error.evalue))
        value = explain(OSError(int(number[1]), number[2], number[3])) if number else error.evalue
        return _report("failed", job, error.ename, value)
    except CellTimeoutError:
        return _report("timeout", job, "Timeout", f"the cell took longer than {job['cell_timeout']} seconds")
    except DeadKernelError:
        value = "the kernel ended without a word; the usual reason is that the memory did not suffice"
        return _report("died", job, "KernelDied", value)
    except Exception as error:  # whatever else stops a notebook belongs into the summary, not into a lost traceback
        value = explain(error) if isinstance(error, OSError) else str(error)
        return _report("failed", job, type(error).__name__, value)


def unexecuted_cells(node: nbformat.NotebookNode) -> list[dict[str, Any]]:
    """Code cells without an execution count: a notebook that "passed" without running is caught here."""
    return [
        place
        for cell, place in _code_cells(node)
        if cell.source.strip()
        and cell.execution_count is None
        and "skip-execution" not in cell.metadata.get("tags", [])
    ]


def _code_cells(node: nbformat.NotebookNode) -> list[tuple[nbformat.NotebookNode, dict[str, Any]]]:
    code = [cell for cell in node.cells if cell.cell_type == "code"]
    return [(cell, {"cell_id": cell.get("id", ""), "cell_number": k}) for k, cell in enumerate(code, start=1)]


def _report(status: str, job: dict[str, Any], name: str, value: str) -> dict[str, Any]:
    """With the cell that has the error, else the last one that papermill has started."""
    place = {"cell_id": "", "cell_number": 0}
    if node := read_executed(Path(job["output"])):
        cells = _code_cells(node)
        begun = [here for cell, here in cells if cell.metadata.get("papermill", {}).get("start_time")]
        broken = [here for cell, here in cells if any(output.output_type == "error" for output in cell.outputs)]
        place = [place, *begun[-1:], *broken[:1]][-1]
    lines = str(value).strip().splitlines() or [""]
    return {"status": status, "error": {**place, "name": name, "value": lines[0][:500]}}


def read_executed(path: Path) -> nbformat.NotebookNode | None:
    """An executed notebook, or ``None`` where a kill has left none or half of one."""
    try:
        return nbformat.read(path, as_version=4)
    except (OSError, ValueError, nbformat.reader.NotJSONError, nbformat.ValidationError):
        return None
