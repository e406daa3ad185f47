"""For instructors: notebooks without solutions, and what the checks say about notebooks that were handed in."""

import copy
import json
import re
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import nbformat

from course_lib.errors import CourseError
from course_lib.profiles import NOTEBOOKS
from course_lib.runner.catalog import Notebook, all_notebooks
from course_lib.runner.session import execute, kernel_environment

CELL_SECONDS = 300
_SOLUTION = re.compile(r"<details>\s*<summary>[^<]*solution[^<]*</summary>.*?</details>\s*", re.DOTALL | re.IGNORECASE)


def student_copy(node: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A notebook without its solutions; hints, stubs and checks stay, what the stubs printed goes."""
    node = copy.deepcopy(node)
    node.cells = [cell for cell in node.cells if "solution" not in cell.metadata.get("tags", [])]
    for cell in node.cells:
        if cell.cell_type == "markdown":
            cell.source = _SOLUTION.sub("", cell.source).rstrip()
        elif "exercise" in cell.metadata.get("tags", []):
            cell.outputs, cell.execution_count = [], None
    return node


def write_student_notebooks(folder: Path, force: bool = False) -> list[Path]:
    """Writes every notebook without solutions into ``folder``; existing ones are replaced only by ``force``."""
    wanted = {folder / notebook.path.name: notebook for notebook in all_notebooks()}
    if (there := [path for path in wanted if path.exists()]) and not force:
        raise CourseError(f"{there[0]} exists, maybe with answers in it: give another --out, or --force.")
    folder.mkdir(parents=True, exist_ok=True)
    for path, notebook in wanted.items():
        nbformat.write(student_copy(notebook.node), path)
    return list(wanted)


def grade(files: list[Path], out: Path, tell: Callable[[str], None] = print) -> dict:
    """Executes notebooks in the quick profile and writes what each exercise's check said to a JSON file.

    Treat what was handed in like any program of a stranger. A failing cell does not end a notebook; of several calls of
    a check the last one counts. A file that is no notebook is a ``CourseError`` before the first one runs. Returns what
    ``out`` holds: ``{"notebooks": [{"file", "passed", "of", "error", "exercises": [{"name", "passed", "message"}]}]}``;
    ``passed`` of an exercise is null if its check was not reached.
    """
    from course_lib.checks.exercise import RECORD_VARIABLE

    nodes, results = [Notebook(file).node for file in files], []
    options = {"timeout": CELL_SECONDS, "interrupt_on_timeout": True, "allow_errors": True}
    for file, node in zip(files, nodes, strict=True):
        code = "\n".join(cell.source for cell in node.cells if "exercise" in cell.metadata.get("tags", []))
        names = re.findall(r"\bchecks\.(nb\d+\.\w+)", code)
        found = {name: {"name": name, "passed": None, "message": "the check was not reached"} for name in names}
        with tempfile.TemporaryDirectory() as folder:
            record = Path(folder) / "verdicts.jsonl"
            record.touch()
            env = kernel_environment("quick") | {RECORD_VARIABLE: str(record)}
            _, error, _ = execute(node, Path(folder) / "copy.ipynb", NOTEBOOKS, env, threading.Event(), **options)
            verdicts = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
        found |= {verdict["name"]: verdict for verdict in verdicts if verdict["name"] in found}
        exercises, problem = list(found.values()), error and error["value"]
        missing = ", ".join(one["name"] for one in exercises if not one["passed"])
        passed = sum(bool(one["passed"]) for one in exercises)
        head = {"file": file.name, "passed": passed, "of": len(exercises), "error": problem}
        results.append(head | {"exercises": exercises})
        tell(f"{file.name}: {passed} of {len(exercises)}{missing and f', not yet: {missing}'}")
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({"notebooks": results}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return {"notebooks": results}
