"""Executes one notebook with papermill, in a process of its own (``python -m course_lib.runner.worker JOB.json``).

The process ends with 0 whenever it could say how the notebook went: that is in the job's result file.
"""

import errno
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import nbformat

from course_lib.runner.files import read_executed
from course_lib.runner.process import DISK_FULL, end_tree

__all__ = ["execute", "unexecuted_cells"]


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
    except papermill.exceptions.PapermillExecutionError as error:
        value = DISK_FULL if f"[Errno {errno.ENOSPC}]" in str(error.evalue) else error.evalue
        return _report("failed", job, error.ename, value)
    except CellTimeoutError:
        return _report("timeout", job, "Timeout", f"the cell took longer than {job['cell_timeout']} seconds")
    except DeadKernelError:
        value = "the kernel ended without a word; the usual reason is that the memory did not suffice"
        return _report("died", job, "KernelDied", value)
    except OSError as error:
        value = DISK_FULL if error.errno == errno.ENOSPC else str(error)
        return _report("failed", job, type(error).__name__, value)
    except Exception as error:  # whatever else stops a notebook belongs into the summary, not into a lost traceback
        return _report("failed", job, type(error).__name__, str(error))
    if left := unexecuted_cells(nbformat.read(job["output"], as_version=4)):
        return {"status": "failed", "error": {**left[0], "name": "NotExecuted", "value": "the cell did not run"}}
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


if __name__ == "__main__":
    main()
