"""Checks that every notebook has the course's shape: ``python -m tools.notebook_lint [FILES]`` or ``make lint``.

A rule is a small function that yields one message per finding; CONTRIBUTING.md says what the shape is and why.
"""

import ast
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from course_lib import profiles
from course_lib.errors import CourseError
from course_lib.runner.catalog import all_notebooks
from course_lib.runner.session import stored_picture
from tools.first_cell import CELL, TAG

__all__ = ["HEADINGS", "KNOWN_TAGS", "RULES", "Draft", "lint_notebook", "main", "rule"]

HEADINGS = (
    "You will learn",
    "You need",
    "Parameters",
    "Setup",
    "What goes wrong",
    "Exercises",
    "Recap",
    "References",
    "Credits",
)
"""Headings every notebook has, in this order; others may stand between them."""

KNOWN_TAGS = frozenset(
    {
        *("bootstrap", "parameters", "setup", "exercise", "solution", "widget", "static-twin"),
        *("nbval-check-output", "nbval-ignore-output", "nbval-skip", "skip-execution"),
        *("hide-input", "hide-output", "hide-cell"),
    }
)
_PARAMETER = re.compile(r"(?P<name>[a-z_]\w*): (?P<type>bool|int|float|str) = (?P<value>[^#]+?)  # (?P<meaning>\S.*)")
_CELL_ID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_RANDOM_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f-]+)?|[0-9a-f]{12,}")
_PARAMETERS_BEFORE_CELL = 12
MAX_BYTES = 1_500_000
MAX_LINES = 100
MIN_PICTURES = 3
MAX_QUICK_SECONDS, MAX_QUICK_MEMORY_MB = 90, 4096
_VIEW = "application/vnd.jupyter.widget-view+json"
_STATE = "application/vnd.jupyter.widget-state+json"
_FOLDERS = re.compile(r"(?<![\w.:/<])/(?:home|Users|tmp|usr|opt|mnt|var|private)/\w|\b[A-Z]:\\Users\\")


@dataclass(frozen=True)
class Draft:
    """A notebook under inspection."""

    path: Path
    node: nbformat.NotebookNode

    @property
    def code(self) -> list[nbformat.NotebookNode]:
        """The code cells."""
        return [cell for cell in self.node.cells if cell.cell_type == "code"]

    @property
    def text(self) -> list[nbformat.NotebookNode]:
        """The markdown cells."""
        return [cell for cell in self.node.cells if cell.cell_type == "markdown"]

    def tagged(self, tag: str) -> list[nbformat.NotebookNode]:
        """The cells that carry a tag."""
        return [cell for cell in self.node.cells if tag in tags(cell)]

    def headings(self) -> list[str]:
        """All headings, top to bottom, without their marks; ``#`` inside a code fence is not one."""
        lines = []
        for cell in self.text:
            prose = re.sub(r"```.*?```", "", cell.source, flags=re.DOTALL)
            lines += re.findall(r"^#+\s+(.+?)\s*$", prose, flags=re.MULTILINE)
        return lines


Rule = Callable[[Draft], Iterator[str]]
RULES: list[Rule] = []


def rule(function: Rule) -> Rule:
    """Register a rule."""
    RULES.append(function)
    return function


def tags(cell: nbformat.NotebookNode) -> list[str]:
    """The tags of a cell."""
    return cell.metadata.get("tags", [])


@rule
def one_parameters_cell(draft: Draft) -> Iterator[str]:
    """papermill injects after this cell; without it, at the very top, where values may be overwritten later."""
    found = draft.tagged("parameters")
    if len(found) != 1:
        yield f"{len(found)} cells are tagged 'parameters', there must be one"
    elif draft.node.cells.index(found[0]) >= _PARAMETERS_BEFORE_CELL:
        yield f"the parameters cell comes after cell {_PARAMETERS_BEFORE_CELL}"


@rule
def parameters_are_typed(draft: Draft) -> Iterator[str]:
    """One ``name: type = default  # meaning`` a line; papermill gives up on a line with a second equals sign."""
    for cell in draft.tagged("parameters"):
        for line in filter(str.strip, cell.source.splitlines()):
            match = _PARAMETER.fullmatch(line)
            if not match or line.count("=") > 1:
                yield f"parameters: '{line}' is not of the form 'name: bool|int|float|str = default  # meaning'"
            elif not _fits(match["type"], match["value"]):
                yield f"parameters: {match['value']} is no {match['type']} literal"


def _fits(kind: str, text: str) -> bool:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return False
    return type(value).__name__ == kind or (kind == "float" and type(value) is int)


@rule
def ids_are_readable(draft: Draft) -> Iterator[str]:
    """Ids are addresses: error messages, links and diffs use them, so they are words and do not change."""
    if (draft.node.nbformat, draft.node.nbformat_minor) < (4, 5):
        yield "the format is older than 4.5, which has cell ids"
    ids = [cell.get("id", "") for cell in draft.node.cells]
    for cell_id in ids:
        if not _CELL_ID.fullmatch(cell_id) or _RANDOM_ID.fullmatch(cell_id):
            yield f"cell id '{cell_id}' is not made of lower-case words joined by hyphens"
    for cell_id, count in Counter(ids).items():
        if count > 1:
            yield f"cell id '{cell_id}' is used {count} times"


@rule
def tags_are_known(draft: Draft) -> Iterator[str]:
    """Three tools read tags differently; a typing error in one is silent."""
    for cell in draft.node.cells:
        for tag in set(tags(cell)) - KNOWN_TAGS:
            yield f"cell '{cell.id}' has the tag '{tag}', which is not used in this course"


@rule
def skips_are_complete(draft: Draft) -> Iterator[str]:
    """nbclient obeys ``skip-execution``, nbval obeys ``nbval-skip``: one without the other runs the cell somewhere."""
    for cell in draft.node.cells:
        if ("skip-execution" in tags(cell)) != ("nbval-skip" in tags(cell)):
            yield f"cell '{cell.id}' needs both tags, skip-execution and nbval-skip, or neither"


@rule
def bootstrap_is_the_same(draft: Draft) -> Iterator[str]:
    """Every notebook opens elsewhere (Colab, Kaggle, a bare Jupyter) by the same first code cell."""
    if not draft.code or TAG not in tags(draft.code[0]) or draft.code[0].source != CELL:
        yield f"the first code cell is not the course's: `python -m tools.first_cell {draft.path}` puts it there"


@rule
def headings_are_there(draft: Draft) -> Iterator[str]:
    """A reader finds the same parts at the same place in each notebook."""
    first = draft.node.cells[0] if draft.node.cells else None
    if first is None or first.cell_type != "markdown" or not first.source.startswith("# "):
        yield "the first cell is not a markdown cell that starts with '# ' and the title"
    headings = [heading.lower().replace("set-up", "setup") for heading in draft.headings()]
    last = -1
    for wanted in HEADINGS:
        places = [place for place, heading in enumerate(headings) if heading.startswith(wanted.lower())]
        if not places:
            yield f"the heading '{wanted}' is missing"
        elif places[-1] < last:
            yield f"the heading '{wanted}' comes too early"
        else:
            last = next(place for place in places if place >= last)


@rule
def exercises_are_complete(draft: Draft) -> Iterator[str]:
    """Each exercise has a check the learner can run, and a solution that opens on demand."""
    exercises = [cell for cell in draft.tagged("exercise") if cell.cell_type == "code"]
    if not exercises:
        yield "no code cell is tagged 'exercise'"
    for cell in exercises:
        if not re.search(r"\bchecks\.\w+", cell.source):
            yield f"the exercise '{cell.id}' does not call course_lib.checks"
    solutions = sum(len(re.findall(r"<summary>[^<]*solution", cell.source, re.IGNORECASE)) for cell in draft.text)
    if solutions < len(exercises):
        yield f"{len(exercises)} exercises but {solutions} solutions in <details><summary>Solution</summary>"


@rule
def markdown_images_have_alt(draft: Draft) -> Iterator[str]:
    """A picture without words is nothing to a reader who cannot see it."""
    for cell in draft.text:
        if re.search(r"!\[\s*\]", cell.source) or any(not _has_alt(tag) for tag in _img_tags(cell.source)):
            yield f"cell '{cell.id}' has an image without alt text"


def _img_tags(source: str) -> list[str]:
    return re.findall(r"<img\b[^>]*>", source, re.IGNORECASE)


def _has_alt(tag: str) -> bool:
    return bool(re.search(r"\balt\s*=\s*(\"\s*[^\"\s]|'\s*[^'\s])", tag))


@rule
def pictures_are_credited(draft: Draft) -> Iterator[str]:
    """Every notebook shows pictures made from the bundled set, whose makers ask for credit."""
    sources = "\n".join(cell.source for cell in draft.text)
    credits = re.search(r"^#+\s+Credits.*", sources, re.MULTILINE | re.DOTALL)
    if not credits or "data/LICENSES.md" not in credits.group():
        yield "the section 'Credits' does not link data/LICENSES.md"


# --- stored outputs ---------------------------------------------------------------------------------------------------


def _texts(output: dict[str, Any]) -> Iterator[str]:
    """The readable parts of an output."""
    if "text" in output:
        yield "".join(output["text"])
    for kind, value in output.get("data", {}).items():
        if kind.startswith("text/"):
            yield re.sub(r"data:[\w/+.-]+;base64,[\w/+=]+", "", "".join(value))


def _pictures(draft: Draft) -> Iterator[str]:
    """The cell's id of every picture that ``figures.show`` displayed."""
    for cell in draft.code:
        for output in cell.outputs:
            if _VIEW not in output.get("data", {}) and stored_picture(output):
                yield cell.id


@rule
def no_errors_stored(draft: Draft) -> Iterator[str]:
    """A stored error is what a reader of the web page sees first."""
    for cell in draft.code:
        if any(output.output_type == "error" for output in cell.outputs):
            yield f"cell '{cell.id}' ends in an error"


@rule
def no_stderr_stored(draft: Draft) -> Iterator[str]:
    """Warnings differ between machines and teach nothing; fix or filter what causes them."""
    for cell in draft.code:
        if any(output.get("name") == "stderr" for output in cell.outputs):
            yield f"cell '{cell.id}' has something on stderr"


@rule
def size_is_small(draft: Draft) -> Iterator[str]:
    """Code-hosting pages do not render large notebooks."""
    size = draft.path.stat().st_size
    if size > MAX_BYTES:
        yield f"the file has {size / 1e6:.1f} MB, the limit is {MAX_BYTES / 1e6:.1f}"


@rule
def executed_in_order(draft: Draft) -> Iterator[str]:
    """Outputs come from one run, top to bottom, of a fresh kernel."""
    cells = [cell for cell in draft.code if cell.source.strip() and "skip-execution" not in tags(cell)]
    if cells and TAG in tags(cells[0]) and cells[0].execution_count is None:
        cells = cells[1:]  # put in after the run that is stored; it does nothing where the course is installed
    counts = [cell.execution_count for cell in cells]
    if missing := [cell.id for cell in cells if cell.execution_count is None]:
        yield f"not executed: {', '.join(missing)} (store outputs with 'course run {draft.path.stem} --store')"
    elif counts != list(range(1, len(counts) + 1)):
        yield "the cells were not executed in order by one fresh kernel"


@rule
def checked_cells_have_outputs(draft: Draft) -> Iterator[str]:
    """nbval compares nothing, and passes, where no output is stored."""
    for cell in draft.tagged("nbval-check-output"):
        if not cell.get("outputs") or cell.get("execution_count") is None:
            yield f"cell '{cell.id}' is tagged nbval-check-output but stores no output to compare with"


@rule
def output_is_short(draft: Draft) -> Iterator[str]:
    """Nobody reads a hundred lines of output."""
    for cell in draft.code:
        lines = sum(text.count("\n") + 1 for output in cell.outputs for text in _texts(output))
        if lines > MAX_LINES:
            yield f"cell '{cell.id}' prints {lines} lines, the limit is {MAX_LINES}"


@rule
def pictures_have_alt(draft: Draft) -> Iterator[str]:
    """JupyterLab shows image outputs without their metadata, so a picture is an ``img`` element with alt text."""
    for cell in draft.code:
        for output in cell.outputs:
            data = output.get("data", {})
            if {"image/png", "image/jpeg"} & set(data):
                yield f"cell '{cell.id}' shows a picture without alt text: use course_lib.figures"
            if not all(_has_alt(tag) for tag in _img_tags("".join(data.get("text/html", "")))):
                yield f"cell '{cell.id}' shows an HTML image without alt text"


@rule
def pictures_are_bitmaps(draft: Draft) -> Iterator[str]:
    """nbval compares SVG text, which differs between machines; PNG and JPEG it leaves alone."""
    for cell in draft.code:
        if any("image/svg+xml" in output.get("data", {}) for output in cell.outputs):
            yield f"cell '{cell.id}' stores an SVG picture; show PNG or JPEG"


@rule
def enough_pictures(draft: Draft) -> Iterator[str]:
    """The course is about pictures."""
    in_text = sum(len(re.findall(r"!\[[^\]]+\]\(|<img\b", cell.source)) for cell in draft.text)
    count = in_text + sum(1 for _ in _pictures(draft))
    if count < MIN_PICTURES:
        yield f"{count} pictures, at least {MIN_PICTURES} are wanted"


@rule
def no_machine_paths(draft: Draft) -> Iterator[str]:
    """Where the author's files are is nobody's business and wrong everywhere else."""
    here = [str(profiles.ROOT) + "/", str(Path.home()) + "/"]
    for cell in draft.node.cells:
        texts = [cell.source, *(text for output in cell.get("outputs", []) for text in _texts(output))]
        if any(_FOLDERS.search(text) or any(folder in text for folder in here) for text in texts):
            yield f"cell '{cell.id}' contains a path of one machine"


@rule
def widget_state_is_valid(draft: Draft) -> Iterator[str]:
    """Code-hosting pages refuse a file whose widget metadata lacks ``state``, and show nothing for views without it."""
    widgets = draft.node.metadata.get("widgets")
    views = {output["data"][_VIEW]["model_id"] for _, output in _views(draft)}
    if widgets is None:
        if views:
            yield "widget views are stored without the widgets' state"
        return
    state = widgets.get(_STATE, {}).get("state")
    if state is None:
        yield "metadata.widgets has no state"
    elif lost := views - set(state):
        yield f"{len(lost)} widget views have no model in the stored state"


@rule
def widgets_have_a_static_twin(draft: Draft) -> Iterator[str]:
    """A reader without a kernel sees the same thing as a figure: the code cell before or after shows it."""
    cells = draft.code
    for index in sorted({index for index, _ in _views(draft)}):
        around = cells[max(index - 1, 0) : index] + cells[index + 1 : index + 2]
        if not any("static-twin" in tags(cell) for cell in around):
            yield f"the widget in cell '{cells[index].id}' has no cell tagged 'static-twin' next to it"
    with_picture = set(_pictures(draft))
    for cell in draft.tagged("static-twin"):
        if cell.id not in with_picture:
            yield f"cell '{cell.id}' is tagged 'static-twin' but shows no picture"


def _views(draft: Draft) -> Iterator[tuple[int, dict[str, Any]]]:
    """Index among the code cells, and output, of every widget view."""
    for index, cell in enumerate(draft.code):
        for output in cell.outputs:
            if _VIEW in output.get("data", {}):
                yield index, output


@rule
def proofs_hold(draft: Draft) -> Iterator[str]:
    """Cells that build a method by hand end by comparing it with the library's; a stored False is a fault."""
    for cell in draft.code:
        for output in cell.outputs:
            for line in "".join(output.get("text", "")).splitlines():
                if "library's" in line and line.rstrip().endswith("False"):
                    yield f"cell '{cell.id}' differs from the library: {line.strip()}"


@rule
def cost_is_measured_and_small(draft: Draft) -> Iterator[str]:
    """Time and memory at the top of a notebook are measured, and the quick profile fits a small machine."""
    cost = draft.node.metadata.get("course", {}).get("measured", {}).get("quick")
    if not cost:
        yield f"no measured cost; 'course run {draft.path.stem} --profile quick --measure' writes it"
    elif cost["seconds"] > MAX_QUICK_SECONDS or cost["memory_mb"] > MAX_QUICK_MEMORY_MB:
        taken = f"{cost['seconds']} s and {cost['memory_mb']} MB"
        yield f"quick takes {taken}; {MAX_QUICK_SECONDS} s and {MAX_QUICK_MEMORY_MB} MB are the limit"


def lint_notebook(path: Path) -> list[str]:
    """All findings for one file, each beginning with the name of its rule."""
    # As it is on the disk: nbformat.read would repair ids before a rule could see them.
    try:
        draft = Draft(path, nbformat.v4.reads_json(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise CourseError(f"{path} is not a readable notebook: {error}") from error
    return [f"{check.__name__}: {message}" for check in RULES for message in check(draft)]


def main(arguments: list[str] | None = None) -> int:
    """Lint the given files, or all notebooks of the course; 1 when something was found."""
    files = [Path(name) for name in arguments or []] or [notebook.path for notebook in all_notebooks()]
    findings = [f"{path.name}: {finding}" for path in files for finding in lint_notebook(path)]
    print("\n".join(findings) or f"{len(files)} notebooks, no findings")
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
