"""Typed notebook parameters: read from the ``parameters`` cell, checked before a kernel starts.

papermill only warns about an unknown name and takes any value for any type; here both stop the run.
"""

import ast
import logging
from dataclasses import dataclass

from course_lib.errors import CourseError
from course_lib.runner.catalog import Notebook

__all__ = ["Parameter", "check_parameters", "guess_value", "notebook_parameters", "split_assignments"]

_TRUE, _FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: ``name: type = default  # meaning``."""

    name: str
    type: str
    default: str
    meaning: str

    def __str__(self) -> str:
        return f"{self.name}: {self.type} = {self.default}"

    def parse(self, text: str) -> bool | int | float | str:
        """Turn what was typed into a value of this parameter's type.

        Raises:
            ValueError: the text does not fit the type.
        """
        if self.type == "bool":
            if text.lower() not in _TRUE | _FALSE:
                raise ValueError(text)
            return text.lower() in _TRUE
        if self.type == "str":
            return text
        if self.type not in ("int", "float"):
            raise ValueError(f"the type {self.type} cannot be set from here")
        return int(text) if self.type == "int" else float(text)


def notebook_parameters(notebook: Notebook) -> list[Parameter]:
    """The parameters of a notebook, in the order of its parameters cell; empty without such a cell."""
    import papermill

    logging.getLogger("papermill").setLevel(logging.ERROR)
    notebook.node  # noqa: B018 - a broken file gets its own message before papermill reads it
    found = papermill.inspect_notebook(str(notebook.path))
    return [
        Parameter(name, entry["inferred_type_name"], entry["default"], entry["help"]) for name, entry in found.items()
    ]


def split_assignments(assignments: list[str]) -> dict[str, str]:
    """``["steps=5"]`` to ``{"steps": "5"}``; quotes around a value are dropped.

    Raises:
        CourseError: an entry has no name or no equals sign.
    """
    values = {}
    for text in assignments:
        name, sign, value = text.partition("=")
        if not sign or not name.strip().isidentifier():
            raise CourseError(f"'{text}' is not of the form name=value")
        values[name.strip()] = _unquote(value.strip())
    return values


def check_parameters(notebook: Notebook, given: dict[str, str]) -> dict[str, bool | int | float | str]:
    """Typed values for one notebook.

    Raises:
        CourseError: unknown name or wrong type; the message lists the valid names with their types.
    """
    if not given:
        return {}
    known = {parameter.name: parameter for parameter in notebook_parameters(notebook)}
    listing = "; ".join(str(parameter) for parameter in known.values()) or "none"
    values = {}
    for name, text in given.items():
        if name not in known:
            raise CourseError(f"{notebook.stem} has no parameter '{name}'; valid: {listing}")
        try:
            values[name] = known[name].parse(text)
        except ValueError:
            message = f"{notebook.stem}: '{text}' is no {known[name].type} for the parameter '{name}'; valid: {listing}"
            raise CourseError(message) from None
    return values


def guess_value(text: str) -> bool | int | float | str:
    """A value for an option that has no declared type: number, true or false where it looks like one, else text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _unquote(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return str(ast.literal_eval(text))
    return text
