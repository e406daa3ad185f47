"""Writes outputs of a finished run back into the notebooks: how authors refresh what readers see.

Sources, tags and ids stay as they are in the file; only outputs, execution counts, widget state and measured numbers
change.
"""

import re
from pathlib import Path
from typing import Any

import nbformat

from course_lib import paths
from course_lib.errors import CourseError
from course_lib.runner.catalog import Notebook
from course_lib.runner.files import write_text_atomically
from course_lib.runner.process import NotebookResult

__all__ = ["portable", "record_measurement", "store_outputs"]

_KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def store_outputs(notebook: Notebook, executed: Path, result: NotebookResult, profile: str) -> None:
    """Copy outputs of an executed notebook into its source file, with what the run cost.

    Args:
        notebook: the source.
        executed: the copy that papermill wrote, run with the default parameters.
        result: status, seconds and memory of that run.
        profile: under which the numbers are recorded.

    Raises:
        CourseError: the run did not pass, had parameters, or the notebook was edited meanwhile.
    """
    if result.status != "ok" or result.parameters:
        raise CourseError(f"{notebook.stem}: only a passing run with the default parameters can be stored")
    source = nbformat.read(notebook.path, as_version=4)
    done = nbformat.read(executed, as_version=4)
    cells = {cell.id: cell for cell in done.cells}
    for cell in source.cells:
        if cell.id not in cells or cells[cell.id].source != cell.source:
            raise CourseError(f"{notebook.stem}: cell '{cell.id}' was changed during the run; run it again to store it")
        if cell.cell_type == "code":
            cell.execution_count = cells[cell.id].execution_count
            cell.outputs = [_clean(output) for output in cells[cell.id].outputs]
    source.metadata["kernelspec"] = dict(_KERNEL)
    source.metadata.pop("papermill", None)
    _store_widgets(source, done)
    _measure(source, result, profile)
    _write(source, notebook.path)


def record_measurement(notebook: Notebook, result: NotebookResult, profile: str) -> None:
    """Write seconds and memory of a passing run into the notebook and leave its outputs alone."""
    if result.status != "ok" or result.parameters:
        raise CourseError(f"{notebook.stem}: only a passing run with the default parameters can be recorded")
    source = nbformat.read(notebook.path, as_version=4)
    _measure(source, result, profile)
    _write(source, notebook.path)


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


def _store_widgets(source: nbformat.NotebookNode, done: nbformat.NotebookNode) -> None:
    source.metadata.pop("widgets", None)
    state = done.metadata.get("widgets")
    if state:
        source.metadata["widgets"] = state


def _measure(node: nbformat.NotebookNode, result: NotebookResult, profile: str) -> None:
    course: dict[str, Any] = node.metadata.setdefault("course", {})
    measured = course.setdefault("measured", {})
    measured[profile] = {"seconds": round(result.seconds), "memory_mb": result.peak_memory_mb}


def _write(node: nbformat.NotebookNode, path: Path) -> None:
    nbformat.validate(node)
    write_text_atomically(path, nbformat.writes(node) + "\n")
