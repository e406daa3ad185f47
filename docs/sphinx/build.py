"""Builds the course's web pages into ``runs/site``: ``make site``.

Notebooks are shown with the outputs they store; nothing is executed. Sphinx with MyST-NB, not Jupyter Book 2, because
that one needs Node and fetches its theme from the network at every fresh build.
"""

import ast
import base64
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat

from course_lib.profiles import ROOT, RUNS
from course_lib.runner.catalog import all_notebooks
from course_lib.runner.session import stored_picture

sys.path.insert(0, str(ROOT / "docs"))
from refresh import repository

__all__ = ["build", "page_of", "prepare"]

TEXTS = ("CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md", "data/README.md", "data/LICENSES.md")
WIDGET = "application/vnd.jupyter.widget-view+json"
NOTE = (
    '<p class="widget-note">The notebook shows a widget here, which needs a running kernel. '
    "The figure beside it shows the same.</p>"
)
PLOTTING = {"figures", "plt", "figure", "axes"}


def prepare(source: Path) -> None:
    """Writes what Sphinx reads: README as the first page, the notebooks, the texts, and their pictures."""
    shutil.rmtree(source, ignore_errors=True)
    texts = [ROOT / name for name in TEXTS] + sorted((ROOT / "docs").glob("*.md"))
    notebooks = [notebook.path for notebook in all_notebooks()]
    known = {path.relative_to(ROOT).as_posix() for path in (*texts, *notebooks)}
    pictures = source / "_pictures"
    pictures.mkdir(parents=True)
    for path in notebooks:
        page = page_of(path, pictures)
        for cell in page.cells:
            if cell.cell_type == "markdown":
                cell.source = _relinked(cell.source, path, known)
        target = source / path.relative_to(ROOT)
        target.parent.mkdir(exist_ok=True)
        nbformat.write(page, target)
    for path in texts:
        target = source / path.relative_to(ROOT)
        target.parent.mkdir(exist_ok=True)
        target.write_text(_relinked(path.read_text(encoding="utf-8"), path, known), encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    readme = re.sub(r"<!-- badges -->.*?<!-- end badges -->", "", readme, flags=re.DOTALL)  # pictures from elsewhere
    contents = {
        "Notebooks": [path.relative_to(ROOT).with_suffix("").as_posix() for path in notebooks],
        "More": [path.relative_to(ROOT).with_suffix("").as_posix() for path in texts],
    }
    trees = [
        f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(pages) + "\n```"
        for caption, pages in contents.items()
    ]
    readme = _relinked(readme, ROOT / "README.md", known)
    (source / "index.md").write_text("\n\n".join([readme, *trees]) + "\n", encoding="utf-8")
    shutil.copytree(ROOT / "docs" / "gallery", source / "docs" / "gallery")
    shutil.copy(ROOT / "docs" / "superresolution.png", source / "docs")


def page_of(path: Path, pictures: Path) -> nbformat.NotebookNode:
    """A notebook as the pages show it; its pictures are written into the folder ``pictures``.

    Pictures become files; widgets give way to a note, for they need a kernel;
    cells that mostly draw are folded; the cell that installs the course elsewhere is left out.
    """
    node = nbformat.read(path, as_version=4)
    node.metadata.pop("widgets", None)
    node.cells = [cell for cell in node.cells if "bootstrap" not in cell.metadata.get("tags", [])]
    for cell in node.cells:
        if cell.cell_type != "code":
            for name, data in cell.pop("attachments", {}).items():
                file = f"{path.stem}-{cell.id}-{name}"
                (pictures / file).write_bytes(base64.b64decode("".join(next(iter(data.values())))))
                cell.source = cell.source.replace(f"(attachment:{name})", f"(../_pictures/{file})")
            continue
        tags = cell.metadata.setdefault("tags", [])
        if _mostly_draws(cell) and "hide-input" not in tags:
            tags.append("hide-input")
        for number, output in enumerate(cell.outputs):
            if WIDGET in output.get("data", {}):
                output["data"] = {"text/html": NOTE}
            elif picture := stored_picture(output):
                content, kind, _ = picture
                name = f"{path.stem}-{cell.id}-{number}.{kind.removeprefix('image/')}"
                (pictures / name).write_bytes(content)
                source = f'src="../_static/{name}" class="dark-light" loading="lazy"'
                shown = re.sub('src="[^"]*"', source, "".join(output["data"]["text/html"]))  # alt and width stay
                output["data"] = {"text/html": shown}
    return node


def _mostly_draws(cell: nbformat.NotebookNode) -> bool:
    """Whether a cell shows a picture and half of its lines or more belong to statements that draw."""
    shown = any(WIDGET in output.get("data", {}) or stored_picture(output) for output in cell.outputs)
    if not shown or {"exercise", "parameters"} & set(cell.metadata["tags"]):
        return False
    drawing = total = 0
    for statement in ast.parse(cell.source).body:
        lines = statement.end_lineno - statement.lineno + 1
        names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
        total += lines
        drawing += lines if names & PLOTTING else 0
    return 2 * drawing >= total


def _relinked(text: str, path: Path, known: set[str]) -> str:
    """The text with links to files that are no pages leading into the repository, and those to README to the index."""

    def where(match: re.Match) -> str:
        target, _, anchor = match[2].partition("#")
        if re.match(r"[a-z]+:", target) or not target:
            return match[0]
        place = Path(os.path.normpath(path.parent / target))
        if not place.exists() or not place.is_relative_to(ROOT):
            return match[0]
        name = place.relative_to(ROOT).as_posix()
        if name == "README.md":
            return f"{match[1]}({os.path.relpath(ROOT / 'index.md', path.parent)})"
        if name in known or match[1].startswith("!"):
            return match[0]
        return f"{match[1]}({repository()}/blob/main/{name}{'#' + anchor if anchor else ''})"

    return re.sub(r"(!?\[[^\]]*\])\(([^)\s]+)\)", where, text)


def build(out: Path) -> str:
    """Builds the pages into ``out`` and returns Sphinx's warnings, which should be none.

    Raises:
        CalledProcessError: Sphinx gave up; what it said was printed.
    """
    source = out.with_name(out.name + "-source")
    prepare(source)
    shutil.rmtree(out, ignore_errors=True)
    environment = os.environ | {"COURSE_REPOSITORY": repository(), "COURSE_PICTURES": str(source / "_pictures")}
    warnings = source / "warnings.txt"
    command = [sys.executable, "-m", "sphinx", "-q", "-w", str(warnings), "-d", str(source / "_cache")]
    subprocess.run([*command, "-c", str(Path(__file__).parent), str(source), str(out)], env=environment, check=True)
    return warnings.read_text(encoding="utf-8")


if __name__ == "__main__":
    build(RUNS / "site")
    print(f"open {RUNS / 'site' / 'index.html'}")
