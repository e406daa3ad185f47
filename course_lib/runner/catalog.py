"""What notebooks there are, what each is called, which parameters it takes and what it was measured to cost."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nbformat

from course_lib import paths
from course_lib.errors import CourseError

__all__ = ["Notebook", "all_notebooks", "find_notebooks"]


@dataclass(frozen=True)
class Notebook:
    """One notebook file; everything else is read from it when asked for."""

    path: Path

    @property
    def stem(self) -> str:
        """File name without its ending, such as ``03_training_a_translator``."""
        return self.path.stem

    @property
    def number(self) -> str:
        """Leading digits of the file name, or an empty string."""
        match = re.match(r"\d+", self.stem)
        return match.group() if match else ""

    @cached_property
    def node(self) -> nbformat.NotebookNode:
        """The parsed file.

        Raises:
            CourseError: the file is no notebook.
        """
        try:
            return nbformat.read(self.path, as_version=4)
        except (nbformat.reader.NotJSONError, nbformat.ValidationError, KeyError, AttributeError) as error:
            raise CourseError(f"{self.path} is not a readable notebook: {error}") from error

    @property
    def title(self) -> str:
        """The first heading, without its marks."""
        for cell in self.node.cells:
            if cell.cell_type == "markdown" and (match := re.search(r"^#\s+(.+)$", cell.source, flags=re.MULTILINE)):
                return match.group(1).strip()
        return self.stem

    @property
    def measured(self) -> dict[str, dict[str, Any]]:
        """Seconds and megabytes per profile, as written by ``course run --store``."""
        return self.node.metadata.get("course", {}).get("measured", {})


def all_notebooks(folder: Path | None = None) -> list[Notebook]:
    """The course's notebooks in reading order."""
    folder = folder or paths.NOTEBOOKS
    return [Notebook(path) for path in sorted(folder.glob("[0-9]*.ipynb"))]


def find_notebooks(names: list[str], folder: Path | None = None) -> list[Notebook]:
    """Notebooks by number (``3`` or ``03``), stem, path, or ``all``; each once, in the order asked for.

    Raises:
        CourseError: a name fits none; the message lists those that exist.
    """
    known = all_notebooks(folder)
    found: dict[Path, Notebook] = {}
    for name in names:
        for notebook in known if name == "all" else [_find_one(name, known)]:
            found.setdefault(notebook.path.resolve(), notebook)
    if not found:
        raise CourseError(f"no notebooks in {folder or paths.NOTEBOOKS}")
    return list(found.values())


def _find_one(name: str, known: list[Notebook]) -> Notebook:
    for notebook in known:
        if name in (notebook.stem, notebook.number, f"{notebook.stem}.ipynb"):
            return notebook
        if name.isdigit() and notebook.number and int(name) == int(notebook.number):
            return notebook
    path = Path(name)
    if path.suffix == ".ipynb" and path.is_file():
        return Notebook(path.resolve())
    listing = ", ".join(notebook.stem for notebook in known) or "none yet"
    raise CourseError(f"there is no notebook '{name}'; choose by number, name or path, or 'all': {listing}")
