"""Files of a run: executed notebooks, HTML pages of them, and outputs stored back into the notebooks.

Storing is how authors refresh what readers see: sources, tags and ids stay as they are in the file; only outputs,
execution counts, widget state and measured numbers change.
"""

import base64
import html
import os
import re
from pathlib import Path
from typing import Any

import nbformat

from course_lib import paths
from course_lib.errors import CourseError
from course_lib.runner.catalog import Notebook
from course_lib.runner.worker import NotebookResult

__all__ = ["portable", "store_run", "stored_picture", "write_page", "write_text_atomically"]

_PICTURE = re.compile(r'<img alt="([^"]*)" src="data:(image/(?:png|jpeg));base64,([\w+/=]+)">')
_KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


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
