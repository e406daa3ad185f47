"""What notebooks there are, which parameters each takes, and the gate for values that somebody has typed, which stops a
run before a kernel starts; papermill only warns about an unknown name and takes any value for any type."""

import logging
import math
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nbformat

from course_lib import profiles
from course_lib.errors import CourseError

LARGEST = 2**63 - 1
"""Largest whole number that torch takes, for example as a seed."""
_BOOLS = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)
_RANGE = re.compile(r"\[(-?[\d.]+) to (-?[\d.]+)\]\s*$")


class Notebook:
    """One notebook file; ``number`` are the leading digits of its name. All else is read from it when asked for."""

    def __init__(self, path: Path):
        self.path, self.stem, self.number = path, path.stem, re.match(r"\d*", path.stem).group()

    @cached_property
    def node(self) -> nbformat.NotebookNode:
        """The parsed file; a ``CourseError`` if it is no notebook."""
        try:
            node = nbformat.read(self.path, as_version=4)
            if not all(isinstance(cell.source, str) and cell.cell_type for cell in node.cells):
                raise ValueError("a cell has no text")
            return node
        except Exception as error:  # whatever a stranger's file brings about
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise CourseError(f"{self.path} is not a readable notebook ({reason}): repair or remove it.") from error

    @property
    def problem(self) -> str:
        """Why the file is no notebook; empty if it is one."""
        try:
            self.node  # noqa: B018 - read once, here
        except CourseError as error:
            return str(error)
        return ""

    @property
    def title(self) -> str:
        """The first heading, without its marks."""
        text = "\n\n".join(cell.source for cell in self.node.cells if cell.cell_type == "markdown")
        match = re.search(r"^#\s+(.+)$", text, flags=re.MULTILINE)
        return match.group(1).strip() if match else self.stem

    @property
    def measured(self) -> dict[str, dict[str, Any]]:
        """Seconds and megabytes per profile, as written by ``course run --store``."""
        return self.node.metadata.get("course", {}).get("measured", {})


def all_notebooks(folder: Path | None = None) -> list[Notebook]:
    """The course's notebooks in reading order."""
    return [Notebook(path) for path in sorted((folder or profiles.NOTEBOOKS).glob("[0-9]*.ipynb"))]


def find_notebooks(names: list[str], folder: Path | None = None) -> list[Notebook]:
    """Notebooks by number (``3`` or ``03``), stem, path, or ``all``; each once, in the order asked for."""
    known = all_notebooks(folder)
    found: dict[Path, Notebook] = {}
    for name in names:
        wanted = f"{int(name):02d}" if name.isdecimal() else name.removesuffix(".ipynb")
        chosen = known if name == "all" else [one for one in known if wanted in (one.stem, one.number)]
        if not chosen and name.endswith(".ipynb") and Path(name).is_file():
            chosen = [Notebook(Path(name).resolve())]
        if not chosen:
            listing = ", ".join(one.stem for one in known) or "none yet"
            raise CourseError(f"there is no notebook '{name}'; choose by number, name or path, or 'all': {listing}")
        found.update({one.path.resolve(): one for one in chosen})
    return list(found.values())


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: ``name: type = default  # meaning``. The meaning may end in a range such as
    ``[1 to 8]``."""

    name: str
    type: str
    default: str
    meaning: str

    def __str__(self) -> str:
        return f"{self.name}: {self.type} = {self.default}"

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest value of a number. Without a stated range it is not negative, and a whole number is zero
        only where that is the default, which then stands for "the profile's own number"."""
        if match := _RANGE.search(self.meaning):
            return float(match[1]), float(match[2])
        return float(self.type == "int" and self.default.strip() != "0" and self.name != "seed"), math.inf


def notebook_parameters(notebook: Notebook) -> list[Parameter]:
    """The parameters of a notebook, in the order of its parameters cell; empty without such a cell."""
    import papermill

    logging.getLogger("papermill").setLevel(logging.ERROR)
    notebook.node  # noqa: B018 - a broken file gets its own message before papermill reads it
    found = papermill.inspect_notebook(str(notebook.path)).values()
    return [Parameter(one["name"], one["inferred_type_name"], one["default"], one["help"]) for one in found]


def split_assignments(assignments: list[str]) -> dict[str, str]:
    """``["steps=5"]`` to ``{"steps": "5"}``; what stands behind the first equals sign is taken as it is."""
    values: dict[str, str] = {}
    for text in assignments:
        name, sign, value = text.partition("=")
        if not sign or not name.strip().isidentifier():
            raise CourseError(f"{text!r} is not of the form name=value")
        if name.strip() in values:
            raise CourseError(f"'{name.strip()}' is given twice: choose one value")
        values[name.strip()] = value
    return values


def parse_value(text: str, kind: str, low: float = -math.inf, high: float = math.inf) -> bool | int | float | str:
    """What was typed as a value of a type; a ``str`` is taken as it is, the range of a number includes its ends. A
    ValueError says why it is none, to be put behind the text."""
    if kind == "str":
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise ValueError("is no valid text (UTF-8)")
        return text
    if kind == "bool":
        if (word := text.strip().lower()) not in _BOOLS:
            raise ValueError("is no bool (true or false)")
        return _BOOLS[word]
    if kind not in ("int", "float"):
        raise ValueError(f"is no {kind} that could be typed here")
    try:
        value = int(text) if kind == "int" else float(text)
    except ValueError:
        raise ValueError(f"is no {kind}") from None
    if not math.isfinite(value):
        raise ValueError("is not a finite number")
    if kind == "int":
        low, high = max(low, -LARGEST), min(high, LARGEST)
    if not low <= value <= high:
        raise ValueError(f"is out of range ({low:g} to {high:g})")
    return value


def check_parameters(notebook: Notebook, given: dict[str, str]) -> dict[str, bool | int | float | str]:
    """Typed values for one notebook; a CourseError for an unknown name, wrong type or range, or a data set that is not
    there or unclear. A relative path of a data set holds from where we are, or else from the notebook's folder."""
    if not given:
        return {}
    known = {parameter.name: parameter for parameter in notebook_parameters(notebook)}
    listing = "; ".join(str(parameter) for parameter in known.values()) or "none"
    values = {}
    for name, text in given.items():
        if name not in known:
            raise CourseError(f"{notebook.stem} has no parameter '{name}'; valid: {listing}")
        try:
            values[name] = parse_value(text, known[name].type, *known[name].range)
        except ValueError as error:
            where = f"for the parameter '{name}'; valid: {listing}"
            raise CourseError(f"{notebook.stem}: {text!r} {error} {where}") from None
    if "dataset" in values:
        from course_lib.data.published import check_dataset

        name, _, path = values["dataset"].partition(":")
        if path:
            here, there = (folder / Path(path).expanduser() for folder in (Path.cwd(), notebook.path.absolute().parent))
            values["dataset"] = f"{name}:{there if there.exists() and not here.exists() else here}"
        check_dataset(values["dataset"])
    return values
