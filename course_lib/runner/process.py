"""Starts a worker, watches the memory of the kernel below it, and ends both when told to."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

__all__ = ["DISK_FULL", "NotebookResult", "end_tree", "run_worker"]

DISK_FULL = "no space left on the disk: free some and run again"

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

    def as_dict(self) -> dict[str, Any]:
        """For summary.json."""
        return asdict(self)

    def error_line(self) -> str:
        """Notebook, cell and error in one line."""
        error = self.error or {}
        cell = f"cell {error['cell_number']} '{error['cell_id']}'" if error.get("cell_number") else "before any cell"
        return f"{self.notebook}, {cell}: {error.get('name', self.status)}: {error.get('value', '')}"


def run_worker(
    job: dict[str, Any], environment: dict[str, str], log: Path, stop: threading.Event
) -> tuple[dict[str, Any], float, int]:
    """Execute one notebook in a process of its own.

    Args:
        job: what :func:`course_lib.runner.worker.execute` takes.
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
        command = [sys.executable, "-m", "course_lib.runner.worker", str(job_file)]
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
    value = DISK_FULL if full else f"the process ended with status {code}; see {log.name}"
    return {"status": "died", "error": {"name": "WorkerDied", "value": value}}
