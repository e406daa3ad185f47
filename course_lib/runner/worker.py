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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import psutil

from course_lib.errors import explain

__all__ = ["NotebookResult", "end_tree", "execute", "main", "read_executed", "run_worker", "unexecuted_cells"]

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
    seconds: float
    peak_memory_mb: int
    error: dict[str, Any] | None = None
    parameters: dict[str, Any] = field(default_factory=dict)

    def error_line(self) -> str:
        """Notebook, cell and error in one line."""
        error = self.error or {}
        cell = f"cell {error['cell_number']} '{error['cell_id']}'" if error.get("cell_number") else "before any cell"
        return f"{self.notebook}, {cell}: {error.get('name', self.status)}: {error.get('value', '')}"


# --- here: start, watch, end ------------------------------------------------------------------------------------------


def run_worker(
    job: dict[str, Any], environment: dict[str, str], log: Path, stop: threading.Event
) -> tuple[dict[str, Any], float, int]:
    """Execute one notebook in a process of its own.

    Args:
        job: what :func:`execute` takes.
        environment: of the worker and its kernel.
        log: file for what either prints outside the notebook; removed again when empty.
        stop: set it to end the run early.

    Returns:
        The worker's result, seconds, peak megabytes.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, log.open("wb") as stream:
        job = {**job, "result": str(Path(folder) / "result.json")}
        job_file = Path(folder) / "job.json"
        job_file.write_text(json.dumps(job))
        command = [sys.executable, "-c", "from course_lib.runner.worker import main; main()", str(job_file)]
        # A session of its own: Ctrl-C reaches the runner alone, which then ends its workers in order.
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream, start_new_session=True)
        peak = _watch(process, stop)
        result = _read_result(Path(job["result"]), process.returncode, stop.is_set(), log)
    if log.stat().st_size == 0 or (result["status"] == "ok" and _only_shutdown_race(log)):
        log.unlink()
    return result, time.monotonic() - started, peak


def _only_shutdown_race(log: Path) -> bool:
    """Whether all that was said is that ipykernel, while it ended, flushed into a socket that it had closed itself."""
    text = log.read_text(errors="replace").strip()
    return text.startswith(_RACE) and text.count(_RACE) == 1 and text.endswith("Socket operation on non-socket")


def _watch(process: subprocess.Popen, stop: threading.Event) -> int:
    """Wait for the end; return the peak memory of everything below the worker, in megabytes."""
    peak = 0
    while process.poll() is None:
        if stop.is_set():
            end_tree(process.pid)
        peak = max(peak, _memory_below(process.pid))
        stop.wait(_SAMPLE_SECONDS) if not stop.is_set() else time.sleep(_SAMPLE_SECONDS)
    return round(peak / 2**20)


def _memory_below(pid: int) -> int:
    total = 0
    try:
        for child in psutil.Process(pid).children(recursive=True):
            try:
                total += child.memory_info().rss
            except psutil.Error:
                continue
    except psutil.Error:
        pass
    return total


def end_tree(pid: int) -> None:
    """Kill a process and everything below it, the children first."""
    try:
        worker = psutil.Process(pid)
        processes = [*worker.children(recursive=True), worker]
    except psutil.Error:
        return
    for process in processes:
        try:
            process.kill()
        except psutil.Error:
            continue
    psutil.wait_procs([process for process in processes if process.pid != os.getpid()], timeout=5)


def _read_result(path: Path, code: int, stopped: bool, log: Path) -> dict[str, Any]:
    if path.exists():
        return json.loads(path.read_text())
    if stopped:
        return {"status": "interrupted", "error": {"name": "Interrupted", "value": "stopped before the end"}}
    # The worker could not even write its result: a full disk, or a kill from outside.
    full = "No space left on device" in log.read_text(errors="replace")
    value = explain(OSError(errno.ENOSPC, "")) if full else f"the process ended with status {code}; see {log.name}"
    return {"status": "died", "error": {"name": "WorkerDied", "value": value}}


# --- there: execute ---------------------------------------------------------------------------------------------------


def execute(job: dict[str, Any]) -> dict[str, Any]:
    """Run one notebook and say how it went.

    Args:
        job: ``input``, ``output``, ``parameters``, ``cell_timeout`` in seconds.

    Returns:
        ``status`` (``ok``, ``failed``, ``timeout``, ``died``) and ``error`` (``None`` or a dictionary with ``cell_id``,
        ``cell_number`` among the code cells, ``name``, ``value``).
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
    return {"status": "ok", "error": None}


def unexecuted_cells(node: nbformat.NotebookNode) -> list[dict[str, Any]]:
    """Code cells without an execution count: a notebook that "passed" without running is caught here."""
    code = [cell for cell in node.cells if cell.cell_type == "code"]
    return [
        {"cell_id": cell.get("id", ""), "cell_number": number}
        for number, cell in enumerate(code, start=1)
        if cell.source.strip()
        and cell.execution_count is None
        and "skip-execution" not in cell.metadata.get("tags", [])
    ]


def _report(status: str, job: dict[str, Any], name: str, value: str) -> dict[str, Any]:
    lines = str(value).strip().splitlines() or [""]
    error = {"cell_id": "", "cell_number": 0, "name": name, "value": lines[0][:500]}
    return {"status": status, "error": {**error, **_stopped_at(Path(job["output"]))}}


def _stopped_at(path: Path) -> dict[str, Any]:
    """The cell with the error, else the last one that papermill has started."""
    node = read_executed(path)
    if node is None:
        return {}
    place: dict[str, Any] = {}
    for number, cell in enumerate((cell for cell in node.cells if cell.cell_type == "code"), start=1):
        here = {"cell_id": cell.get("id", ""), "cell_number": number}
        if any(output.output_type == "error" for output in cell.outputs):
            return here
        if cell.metadata.get("papermill", {}).get("start_time"):
            place = here
    return place


def read_executed(path: Path) -> nbformat.NotebookNode | None:
    """An executed notebook, or ``None`` where a kill has left none or half of one."""
    try:
        return nbformat.read(path, as_version=4)
    except (OSError, ValueError, nbformat.reader.NotJSONError, nbformat.ValidationError):
        return None


def _end_with_parent(parent: int) -> None:
    """A runner that is killed outright can no longer end its kernels, so each worker watches for that."""
    while os.getppid() == parent:
        time.sleep(1)
    end_tree(os.getpid())


def main() -> None:
    """Read the job, write the result beside it."""
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    job = json.loads(Path(sys.argv[1]).read_text())
    result = Path(job["result"])
    partial = result.with_suffix(".partial")
    partial.write_text(json.dumps(execute(job)))
    os.replace(partial, result)
