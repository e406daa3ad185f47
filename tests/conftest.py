"""Shared by all tests: settings of the process, seeds, and tiny notebooks."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest

os.environ.setdefault("COURSE_PROFILE", "quick")
os.environ["TQDM_DISABLE"] = "1"
os.environ.setdefault("MPLBACKEND", "agg")

PIXEL_PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="  # one red dot
)


@pytest.fixture(autouse=True)
def _seed_torch() -> Iterator[None]:
    """Each test starts from the same random state and leaves none behind."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def code(cell_id: str, source: str, *tags: str) -> nbformat.NotebookNode:
    """A code cell with a readable id."""
    cell = nbformat.v4.new_code_cell(source, id=cell_id)
    if tags:
        cell.metadata["tags"] = list(tags)
    return cell


def text(cell_id: str, source: str) -> nbformat.NotebookNode:
    """A markdown cell with a readable id."""
    return nbformat.v4.new_markdown_cell(source, id=cell_id)


@pytest.fixture
def make_notebook(tmp_path: Path) -> Callable[..., Path]:
    """Writes a notebook of the given cells into ``tmp_path/notebooks`` and returns its path."""

    def make(name: str, *cells: nbformat.NotebookNode) -> Path:
        node = nbformat.v4.new_notebook(cells=list(cells))
        node.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
        path = tmp_path / "notebooks" / name
        path.parent.mkdir(exist_ok=True)
        nbformat.write(node, path)
        return path

    return make
