"""Lint rules on what is stored in a notebook: outputs, pictures, widgets, cost."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from course_lib import paths
from course_lib.bootstrap import TAG
from course_lib.notebook_lint import Draft, rule, tags
from course_lib.runner.store import PICTURE_TYPES, alt_text

__all__: list[str] = []

MAX_BYTES = 1_500_000
MAX_LINES = 100
MIN_PICTURES = 3
MAX_QUICK_SECONDS, MAX_QUICK_MEMORY_MB = 90, 4096
_VIEW = "application/vnd.jupyter.widget-view+json"
_STATE = "application/vnd.jupyter.widget-state+json"
_FOLDERS = re.compile(r"(?<![\w.:/<])/(?:home|Users|tmp|usr|opt|mnt|var|private)/\w|\b[A-Z]:\\Users\\")


def _texts(output: dict[str, Any]) -> Iterator[str]:
    """The readable parts of an output."""
    if "text" in output:
        yield "".join(output["text"])
    for kind, value in output.get("data", {}).items():
        if kind.startswith("text/"):
            yield re.sub(r"data:[\w/+.-]+;base64,[\w/+=]+", "", "".join(value))


def _pictures(draft: Draft) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Cell id, output and kind of every picture output."""
    for cell in draft.code:
        for output in cell.outputs:
            for kind in PICTURE_TYPES:
                if kind in output.get("data", {}):
                    yield cell.id, output, kind


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
    """Alt text sits in the output's metadata, ``{"image/png": {"alt": …}}``; the pages are made from it."""
    for cell_id, output, kind in _pictures(draft):
        if not alt_text(output, kind):
            yield f"cell '{cell_id}' shows a picture without alt text in its metadata"
    for cell in draft.code:
        for output in cell.outputs:
            for tag in re.findall(r"<img\b[^>]*>", "".join(output.get("data", {}).get("text/html", ""))):
                if not re.search(r"\balt\s*=\s*[\"']\s*[^\"'\s]", tag):
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
    here = [str(paths.ROOT) + "/", str(Path.home()) + "/"]
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
    with_picture = {cell_id for cell_id, _, _ in _pictures(draft)}
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
def cost_is_measured_and_small(draft: Draft) -> Iterator[str]:
    """Time and memory at the top of a notebook are measured, and the quick profile fits a small machine."""
    cost = draft.node.metadata.get("course", {}).get("measured", {}).get("quick")
    if not cost:
        yield f"no measured cost; 'course run {draft.path.stem} --profile quick --measure' writes it"
    elif cost["seconds"] > MAX_QUICK_SECONDS or cost["memory_mb"] > MAX_QUICK_MEMORY_MB:
        taken = f"{cost['seconds']} s and {cost['memory_mb']} MB"
        yield f"quick takes {taken}; {MAX_QUICK_SECONDS} s and {MAX_QUICK_MEMORY_MB} MB are the limit"
