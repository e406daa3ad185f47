"""Reads and writes the files of a run so that a kill or a full disk at any moment does no harm."""

import os
from pathlib import Path

import nbformat

__all__ = ["read_executed", "write_text_atomically"]


def read_executed(path: Path) -> nbformat.NotebookNode | None:
    """An executed notebook, or ``None`` where a kill has left none or half of one."""
    try:
        return nbformat.read(path, as_version=4)
    except (OSError, ValueError, nbformat.reader.NotJSONError, nbformat.ValidationError):
        return None


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
