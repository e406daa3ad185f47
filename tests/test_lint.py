"""Each lint rule stays silent on a good notebook and fires on one with a single fault."""

import base64
import json
import subprocess
import sys
from copy import deepcopy

import nbformat
import pytest
from conftest import PIXEL_PNG as PNG
from conftest import code, text
from nbformat.v4 import new_output

from course_lib import profiles
from tools import notebook_lint
from tools.first_cell import CELL, CELL_ID, TAG
from tools.notebook_lint import HEADINGS, RULES, lint_notebook, main

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"


def picture(alt: str = "a red dot"):
    data = {"text/html": f'<img alt="{alt}" src="data:image/png;base64,{PNG}">', "text/plain": "<figure>"}
    return new_output("display_data", data)


def good_notebook() -> nbformat.NotebookNode:
    """The smallest notebook without findings."""
    parts = {heading: text(heading.lower().replace(" ", "-"), f"## {heading}") for heading in HEADINGS}
    parts["Credits"].source += "\n\nPictures: [licences](../data/LICENSES.md)."
    solution = text("first-exercise-solution", "<details><summary>Solution</summary>\n\n`return 2`\n\n</details>")
    cells = [
        text("title", "# A good notebook\n\n![A red dot](dot.png)"),
        code(CELL_ID, CELL, "hide-cell", TAG),
        parts["You will learn"],
        parts["You need"],
        parts["Parameters"],
        code("parameters-cell", "steps: int = 3  # how often\nrate: float = 1e-3  # how fast", "parameters"),
        parts["Setup"],
        code("setup-cell", "import os", "setup"),
        code("count", "print(steps)", "nbval-check-output"),
        code("figure", "show()", "static-twin"),
        code("slider", "view", "widget"),
        code("second-figure", "show()"),
        parts["What goes wrong"],
        parts["Exercises"],
        code("first-exercise", "checks.nb00.first(lambda: 1)", "exercise"),
        solution,
        parts["Recap"],
        parts["References"],
        parts["Credits"],
    ]
    node = nbformat.v4.new_notebook(cells=cells)
    by_id = {cell.id: cell for cell in cells}
    by_id["count"].outputs = [new_output("stream", text="3\n")]
    by_id["figure"].outputs = [picture()]
    by_id["second-figure"].outputs = [picture()]
    by_id["slider"].outputs = [new_output("display_data", {VIEW: {"model_id": "abc"}, "text/plain": "Slider"})]
    for number, cell in enumerate((cell for cell in cells if cell.cell_type == "code"), start=1):
        cell.execution_count = number
    node.metadata["widgets"] = {STATE: {"state": {"abc": {}}, "version_major": 2, "version_minor": 0}}
    node.metadata["course"] = {"measured": {"quick": {"seconds": 30, "memory_mb": 700}}}
    return node


def get(node, cell_id):
    return next(cell for cell in node.cells if cell.id == cell_id)


def remove(node, cell_id):
    node.cells = [cell for cell in node.cells if cell.id != cell_id]


def print_line(node, line, **kind):
    get(node, "setup-cell").outputs = [new_output("stream", text=line, **kind)]


def swap(node, first, second):
    one, two = (node.cells.index(get(node, cell_id)) for cell_id in (first, second))
    node.cells[one], node.cells[two] = node.cells[two], node.cells[one]


FAULTS = {
    "one_parameters_cell": [
        lambda n: remove(n, "parameters-cell"),
        lambda n: get(n, "setup-cell").metadata.update(tags=["parameters"]),
        lambda n: n.cells.append(n.cells.pop(n.cells.index(get(n, "parameters-cell")))),
    ],
    "parameters_are_typed": [
        lambda n: get(n, "parameters-cell").update(source="steps = 3  # how often"),
        lambda n: get(n, "parameters-cell").update(source="steps: int = 3"),
        lambda n: get(n, "parameters-cell").update(source="steps: int = 3.5  # how often"),
        lambda n: get(n, "parameters-cell").update(source="steps: list = [3]  # how often"),
        lambda n: get(n, "parameters-cell").update(source="steps: int = 3  # more = slower"),
        lambda n: get(n, "parameters-cell").update(source="# knobs\nsteps: int = 3  # how often"),
    ],
    "ids_are_readable": [
        lambda n: get(n, "count").update(id="1f3a9c2e"),
        lambda n: get(n, "count").update(id="6f1e2d3c-aaaa-4bbb-8ccc-123456789abc"),
        lambda n: get(n, "count").update(id="Count_1"),
        lambda n: get(n, "count").update(id="figure"),
        lambda n: n.update(nbformat_minor=4),
    ],
    "tags_are_known": [
        lambda n: get(n, "count").metadata.update(tags=["raises-exception"]),
        lambda n: get(n, "count").metadata.update(tags=["nbval-chek-output"]),
    ],
    "skips_are_complete": [
        lambda n: get(n, "figure").metadata.update(tags=["static-twin", "skip-execution"]),
        lambda n: get(n, "figure").metadata.update(tags=["static-twin", "nbval-skip"]),
    ],
    "bootstrap_is_the_same": [
        lambda n: remove(n, CELL_ID),
        lambda n: get(n, CELL_ID).update(source=CELL + " "),
        lambda n: n.cells.append(n.cells.pop(n.cells.index(get(n, CELL_ID)))),
    ],
    "headings_are_there": [
        *(lambda n, h=heading: remove(n, h.lower().replace(" ", "-")) for heading in HEADINGS),
        lambda n: swap(n, "recap", "references"),
        lambda n: remove(n, "title"),
    ],
    "exercises_are_complete": [
        lambda n: get(n, "first-exercise").metadata.update(tags=[]),
        lambda n: get(n, "first-exercise").update(source="answer = 1"),
        lambda n: remove(n, "first-exercise-solution"),
    ],
    "markdown_images_have_alt": [
        lambda n: get(n, "recap").update(source="## Recap\n\n![](dot.png)"),
        lambda n: get(n, "recap").update(source="## Recap\n\n<img src='dot.png'>"),
        lambda n: get(n, "recap").update(source='## Recap\n\n<img src="dot.png" alt=" ">'),
    ],
    "pictures_are_credited": [lambda n: get(n, "credits").update(source="## Credits\n\nThanks.")],
    "no_errors_stored": [
        lambda n: get(n, "count").outputs.append(new_output("error", ename="E", evalue="", traceback=[]))
    ],
    "no_stderr_stored": [lambda n: print_line(n, "Warning: old\n", name="stderr")],
    "size_is_small": [lambda n: get(n, "figure").outputs[0].data.update({"text/html": "A" * 1_600_000})],
    "executed_in_order": [
        lambda n: get(n, "count").update(execution_count=None),
        lambda n: swap(n, "count", "second-figure"),
        lambda n: get(n, "count").update(execution_count=9),
    ],
    "checked_cells_have_outputs": [
        lambda n: get(n, "count").update(outputs=[]),
        lambda n: get(n, "count").update(execution_count=None),
    ],
    "output_is_short": [lambda n: print_line(n, "line\n" * 101)],
    "pictures_have_alt": [
        lambda n: get(n, "figure").outputs.append(new_output("display_data", {"image/png": PNG})),
        lambda n: get(n, "figure").update(outputs=[picture("  "), picture()]),
        lambda n: get(n, "count").outputs.append(new_output("display_data", {"text/html": "<img src='x.png'>"})),
    ],
    "pictures_are_bitmaps": [
        lambda n: get(n, "count").outputs.append(new_output("display_data", {"image/svg+xml": "<svg/>"}))
    ],
    "enough_pictures": [lambda n: get(n, "second-figure").update(outputs=[])],
    "no_machine_paths": [
        lambda n: get(n, "setup-cell").update(source="open('/home/ada/x.txt')"),
        lambda n: print_line(n, f"saved {profiles.ROOT}/runs/x\n"),
        lambda n: print_line(n, "saved C:\\Users\\ada\\x\n"),
    ],
    "widget_state_is_valid": [
        lambda n: n.metadata.pop("widgets"),
        lambda n: n.metadata["widgets"][STATE].pop("state"),
        lambda n: n.metadata["widgets"].clear(),
        lambda n: n.metadata["widgets"][STATE]["state"].clear(),
    ],
    "widgets_have_a_static_twin": [
        lambda n: get(n, "figure").metadata.update(tags=[]),
        lambda n: get(n, "figure").update(outputs=[]),
    ],
    "proofs_hold": [lambda n: print_line(n, "the same as the library's: False\n")],
    "cost_is_measured_and_small": [
        lambda n: n.metadata.pop("course"),
        lambda n: n.metadata["course"]["measured"]["quick"].update(seconds=91),
        lambda n: n.metadata["course"]["measured"]["quick"].update(memory_mb=5000),
    ],
}


def findings(node, tmp_path) -> list[str]:
    path = tmp_path / "00_case.ipynb"
    path.write_text(json.dumps(node))  # as it is: nbformat would refuse or repair some of the faults
    return lint_notebook(path)


def test_a_good_notebook_has_no_findings(tmp_path):
    assert findings(good_notebook(), tmp_path) == []


@pytest.mark.parametrize(("name", "number"), [(name, i) for name, faults in FAULTS.items() for i in range(len(faults))])
def test_each_rule_finds_its_fault(name, number, tmp_path):
    node = deepcopy(good_notebook())
    FAULTS[name][number](node)
    assert name in {finding.split(":")[0] for finding in findings(node, tmp_path)}


def test_every_rule_has_a_fault_that_proves_it():
    assert {check.__name__ for check in RULES} == set(FAULTS)


def test_harmless_text_is_no_machine_path(tmp_path):
    node = good_notebook()
    get(node, "recap").source += "\n\nSee https://example.org/home/page, ../data/x, and 3/var/2."
    assert findings(node, tmp_path) == []


def test_command_prints_findings_and_says_so_by_its_status(tmp_path, capsys):
    path = tmp_path / "00_case.ipynb"
    nbformat.write(good_notebook(), path)
    assert main([str(path)]) == 0
    node = good_notebook()
    remove(node, "recap")
    nbformat.write(node, path)
    assert main([str(path)]) == 1
    assert "00_case.ipynb: headings_are_there: the heading 'Recap' is missing" in capsys.readouterr().out
    done = subprocess.run(
        [sys.executable, "-m", notebook_lint.__name__, str(path)], capture_output=True, text=True, cwd=profiles.ROOT
    )
    assert done.returncode == 1 and "Recap" in done.stdout


def test_a_bootstrap_cell_that_came_after_the_run_needs_no_count(tmp_path):
    node = good_notebook()
    first, *others = [cell for cell in node.cells if cell.cell_type == "code"]
    first.execution_count = None
    for number, cell in enumerate(others, start=1):
        cell.execution_count = number
    path = tmp_path / "00_case.ipynb"
    nbformat.write(node, path)
    assert not [finding for finding in lint_notebook(path) if finding.startswith("executed_in_order")]


@pytest.mark.parametrize("command", [("check",), ("format", "--check")])
def test_code_and_notebooks_are_in_style(command):
    ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", str(profiles.ROOT)]
    done = subprocess.run(ruff, capture_output=True, text=True)
    assert done.returncode == 0, f"'make format' repairs most of it:\n{done.stdout}"


def test_the_picture_used_here_is_one():
    assert base64.b64decode(PNG).startswith(b"\x89PNG")


def test_the_contributors_guide_names_all_headings_and_tags():
    guide = (profiles.ROOT / "CONTRIBUTING.md").read_text()
    assert all(heading in guide for heading in HEADINGS)
    assert all(f"`{tag}`" in guide for tag in notebook_lint.KNOWN_TAGS)
