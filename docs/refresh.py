"""Draws README's picture and writes the documents' tables anew: ``.venv/bin/python docs/refresh.py``.

Run it after a checkpoint was trained again, a notebook's outputs were stored or a module came or went; tests
compare the documents with cards, notebooks and modules.
"""

import ast
import base64
import re
from pathlib import Path

import nbformat

from course_lib.errors import CourseError
from course_lib.paths import CHECKPOINTS, ROOT
from course_lib.runner import all_notebooks
from course_lib.runner.pictures import PICTURE_TYPES, alt_text
from course_lib.training.weights import load_card

__all__ = ["GALLERY", "TABLES", "gallery_file", "refreshed"]

README, ARCHITECTURE = ROOT / "README.md", ROOT / "ARCHITECTURE.md"
POSTER = ROOT / "docs" / "GALLERY.md"
PICTURE = ROOT / "docs" / "superresolution.png"
GALLERY = [
    ("04", "result-first", "Text to image: a sentence draws a person in six styles"),
    ("05", "result-first", "Unpaired translation: one person under the label of every style"),
    ("07", "result-first", "People drawn by a StyleGAN in the latents of the autoencoder: none chosen, no truncation"),
    ("01", "edit-figure", "Arithmetic with latents: one attribute changed by adding a vector"),
    ("03", "answers", "Eight pixels in, many sharp faces out: a flow beside a regression"),
    ("05", "exchange-picture", "One label exchanged at a time"),
    ("06", "result-first", "What is kept depends on the source: grey, a hole, parts, edges"),
    ("07", "kinds", "A BigGAN of 28 kinds, trained by the same recipe"),
    ("09", "result-first", "New classes that borrow their batch norms from old ones"),
]
"""Notebook, cell and caption of each figure of docs/GALLERY.md; README shows the first three."""
IN_README = 3
PLANNED = {
    "04": ("Text to image: a sentence draws a person", "Net2Net"),
    "05": ("Unpaired translation and attributes: labels as the source expert", "Net2Net"),
    "06": ("Choosing what is kept: classifiers, segmenters, exemplars, disentangling", "Net2Net"),
    "07": ("A generator to reuse: StyleGAN, and a hypernetwork that initialises itself", "Hyper-Modulation"),
    "08": ("From unconditional to conditional: hyper-modulated transfer", "Hyper-Modulation"),
    "09": ("Propagating batch norm across classes", "cGANTransfer"),
    "10": ("Freezing the low-level layers: Mind2Mind", "Mind2Mind"),
    "11": ("Which method when: one target, one budget, all methods", "all"),
    "12": ("Your own data, released weights, more GPUs", "all"),
}


def notebooks() -> str:
    """All notebooks; time and memory are those that ``course run --store`` measured."""
    lines = ["| no. | title | system | quick profile, measured |", "|---|---|---|---|"]
    written = {notebook.number: notebook for notebook in all_notebooks()}
    for number, notebook in written.items():
        cost = notebook.measured.get("quick")
        measured = f"{cost['seconds']} s, {cost['memory_mb'] / 1024:.1f} GB" if cost else "not yet measured"
        system = "all" if number == "00" else PLANNED.get(number, ("", "Net2Net"))[1]
        lines.append(f"| {number} | [{notebook.title}](notebooks/{notebook.path.name}) | {system} | {measured} |")
    for number, (title, system) in PLANNED.items():
        if number not in written:
            lines.append(f"| {number} | {title} | {system} | planned |")
    return "\n".join(lines)


def results() -> str:
    """Every metric that a card holds for the test part, or for the val part where there is no other.

    A comparison has dozens of lines, which mean something only beside each other: its notebook draws them.
    """
    lines = ["| checkpoint | kind | size | trained | metric | value |", "|---|---|---|---|---|---|"]
    for path in sorted(CHECKPOINTS.glob("*.json")):
        card = load_card(path.stem)
        size = path.with_suffix(".safetensors").stat().st_size / 2**20
        training = f"{card.steps:,} steps, {card.seconds / 60:.0f} min, {card.device}"
        about = f"`{card.name}` | {card.kind} | {size:.1f} MB | {training}"
        scores = {key: value for key, value in card.metrics.items() if key.endswith("on test")} or card.metrics
        if card.kind == "comparison":
            name, value = next(iter(scores.items()))
            scores = {f"{name} (and {len(scores) - 1} more in the card)": value}
        for name, value in scores.items():
            lines.append(f"| {about} | {name} | {value:.3g} |")
            about = " | | | "
    return "\n".join(lines)


def modules() -> str:
    """Every module with the first sentence of its docstring."""
    lines = ["| module | what it is |", "|---|---|"]
    for path in sorted((ROOT / "course_lib").rglob("*.py"), key=lambda path: (len(path.parts), path.as_posix())):
        name = path.relative_to(ROOT / "course_lib").as_posix()
        text = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
        sentence = re.match(
            r"(.*?[.!?])(?: (?=[A-Z])|$)", re.sub(r":\w+:`~?([\w.]+)`", r"`\1`", " ".join(text.split()))
        )
        if not name.endswith("__init__.py"):
            shown = (sentence.group(1) if sentence else text).replace("``", "`").replace("|", "\\|")
            lines.append(f"| `{name}` | {shown} |")
    return "\n".join(lines)


def _figure(number: str, cell_id: str) -> tuple[bytes, str, str]:
    """The first picture that a cell stored, its media type, and its alternative text."""
    path = next((n.path for n in all_notebooks() if n.number == number), None)
    cells = nbformat.read(path, as_version=4).cells if path else []
    for output in (o for cell in cells if cell.id == cell_id for o in cell.get("outputs", [])):
        for kind in PICTURE_TYPES:
            if kind in output.get("data", {}):
                return base64.b64decode("".join(output["data"][kind])), kind, alt_text(output, kind) or ""
    raise CourseError(f"notebook {number} has no picture in cell {cell_id!r}: correct GALLERY in docs/refresh.py.")


def gallery_file(number: str, cell_id: str, kind: str) -> Path:
    """Where README finds the figure."""
    return ROOT / "docs" / "gallery" / f"{number}-{cell_id}.{kind.removeprefix('image/')}"


def gallery(beside: Path = README, most: int = IN_README) -> str:
    """Figures with the alternative text that their notebooks give; paths count from the document ``beside`` them."""
    parts = []
    for number, cell_id, caption in GALLERY[:most]:
        _, kind, text = _figure(number, cell_id)
        alt = " ".join(text.split()).replace("[", "(").replace("]", ")")
        where = gallery_file(number, cell_id, kind).relative_to(beside.parent).as_posix()
        parts.append(f"![{alt}]({where})\n\n*{caption} (notebook {number})*")
    return "\n\n".join(parts)


TABLES = {
    "README.md": {"notebooks": notebooks, "results": results, "gallery": gallery},
    "GALLERY.md": {"gallery": lambda: gallery(POSTER, len(GALLERY))},
    "ARCHITECTURE.md": {"modules": modules},
}


def refreshed(document: Path) -> str:
    """The document's text with each table between ``<!-- NAME -->`` and ``<!-- end NAME -->`` written anew."""
    text = document.read_text(encoding="utf-8")
    for name, make in TABLES[document.name].items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)"
        text, count = re.subn(pattern, lambda m, make=make: f"{m[1]}\n{make()}\n\n{m[2]}", text, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"{document.name} has {count} tables marked '{name}', there must be one")
    return text


def draw(path: Path = PICTURE) -> None:
    """The first figure of notebook 00 as it is stored."""
    content, _, _ = _figure("00", "result-first")
    path.write_bytes(content)


def draw_gallery(limit: int = 200_000) -> None:
    """Every figure of the gallery as its notebook stored it; files that no longer belong there go.

    Raises:
        CourseError: a figure has more than ``limit`` bytes.
    """
    folder = ROOT / "docs" / "gallery"
    folder.mkdir(exist_ok=True)
    wanted = {}
    for number, cell_id, _ in GALLERY:
        content, kind, _ = _figure(number, cell_id)
        if len(content) > limit:
            raise CourseError(f"{number}, {cell_id}: the figure has {len(content):,} bytes, the limit is {limit:,}.")
        wanted[gallery_file(number, cell_id, kind)] = content
    for old in set(folder.iterdir()) - set(wanted):
        old.unlink()
    for path, content in wanted.items():
        path.write_bytes(content)


if __name__ == "__main__":
    draw()
    draw_gallery()
    for one in (README, POSTER, ARCHITECTURE):
        one.write_text(refreshed(one), encoding="utf-8")
    print(f"wrote {PICTURE.name}, the gallery, and the tables of {README.name} and {ARCHITECTURE.name}")
