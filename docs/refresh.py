"""Draws README's picture and writes the documents' tables anew: ``.venv/bin/python docs/refresh.py``.

Run it after a checkpoint was trained again, a notebook's outputs were stored or a module came or went; tests
compare the documents with cards and notebooks.
"""

import re
import tomllib
from pathlib import Path

import nbformat

from course_lib.errors import CourseError
from course_lib.profiles import CHECKPOINTS, ROOT
from course_lib.runner.catalog import Notebook, all_notebooks
from course_lib.runner.session import stored_picture
from course_lib.training.runs import Card, load_card

__all__ = [
    "GALLERY",
    "TABLES",
    "exercises_of",
    "gallery_file",
    "group_of",
    "hosted",
    "refreshed",
    "repository",
    "shipped_cards",
    "shown_scores",
]

README = ROOT / "README.md"
POSTER, RESULTS, SYLLABUS = (ROOT / "docs" / name for name in ("GALLERY.md", "RESULTS.md", "SYLLABUS.md"))
PICTURE = ROOT / "docs" / "superresolution.png"
GALLERY = [
    ("04", "result-first", "Text to image: a sentence draws a person in six styles"),
    ("05", "result-first", "Unpaired translation: one person under the label of every style"),
    ("07", "result-first", "People drawn by a StyleGAN in the latents of the autoencoder: none chosen, no truncation"),
    ("01", "edit-figure", "Arithmetic with latents: one attribute changed by adding a vector"),
    ("03", "answers", "Eight pixels in, many sharp faces out: a flow beside a regression"),
    ("05", "exchange-picture", "One label exchanged at a time"),
    ("06", "result-first", "What is kept depends on the source: grey, a hole, parts, edges"),
    ("07", "kinds", "Kinds drawn by one BigGAN, trained by the same recipe"),
    ("09", "result-first", "New classes that borrow their batch norms from old ones"),
    ("11", "result-first", "Fifty pictures, a minute of one core: six methods beside each other"),
]
"""Notebook, cell and caption of each figure of docs/GALLERY.md; README shows the first three."""
IN_README = 3
SYSTEMS = {"07": "Hyper-Modulation", "08": "Hyper-Modulation", "09": "cGANTransfer", "10": "Mind2Mind"} | dict.fromkeys(
    ("00", "11", "12"), "all"
)
GROUPS = ("Experts, judges and generators to reuse", "Net2Net", "Hyper-Modulation", "cGANTransfer", "Mind2Mind")
GROUPS += ("All methods, side by side",)
"""Headings of docs/RESULTS.md."""
WORDS_A_MINUTE, MINUTES_A_CODE_CELL = 150, 0.5


def repository() -> str:
    """The address that ``[project.urls]`` gives; badges and links to hosted notebooks are made from it."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]


def hosted(path: str) -> dict[str, str]:
    """Addresses that open one notebook of the repository elsewhere."""
    name = repository().removeprefix("https://github.com/")
    return {
        "Colab": f"https://colab.research.google.com/github/{name}/blob/main/{path}",
        "Kaggle": f"https://kaggle.com/kernels/welcome?src={repository()}/blob/main/{path}",
        "Binder": f"https://mybinder.org/v2/gh/{name}/main?labpath={path}",
    }


def badges() -> str:
    """Tests, and the first notebook in three places."""
    first = hosted(all_notebooks()[0].path.relative_to(ROOT).as_posix())
    pictures = {
        "Colab": "https://colab.research.google.com/assets/colab-badge.svg",
        "Kaggle": "https://kaggle.com/static/images/open-in-kaggle.svg",
        "Binder": "https://mybinder.org/badge_logo.svg",
    }
    tests = f"{repository()}/actions/workflows/tests.yml"
    shown = [f"[![Do the tests of the main branch pass?]({tests}/badge.svg)]({tests})"]
    shown += [f"[![Open the first notebook in {name}]({pictures[name]})]({first[name]})" for name in pictures]
    return " ".join(shown)


def notebooks() -> str:
    """All notebooks; time and memory are those that ``course run --store`` measured."""
    lines = ["| no. | title | system | quick profile, measured | open in |", "|---|---|---|---|---|"]
    for notebook in all_notebooks():
        cost = notebook.measured.get("quick")
        measured = f"{cost['seconds']} s, {cost['memory_mb'] / 1024:.1f} GB" if cost else "not yet measured"
        path = notebook.path.relative_to(ROOT).as_posix()
        links = " · ".join(f"[{name}]({address})" for name, address in hosted(path).items() if name != "Binder")
        system = SYSTEMS.get(notebook.number, "Net2Net")
        lines.append(f"| {notebook.number} | [{notebook.title}]({path}) | {system} | {measured} | {links} |")
    return "\n".join(lines)


def shipped_cards() -> dict[str, Card]:
    """The cards in ``checkpoints/`` that have weights beside them, by name."""
    files = sorted(CHECKPOINTS.glob("*.json"))
    return {path.stem: load_card(path.stem) for path in files if path.with_suffix(".safetensors").exists()}


def shown_scores(card: Card) -> dict[str, str]:
    """Every metric of the test part, or all where there is none.

    A comparison has dozens of lines, which mean something only beside each other: its notebook draws them.
    """
    scores = {key: value for key, value in card.metrics.items() if key.endswith("on test")} or card.metrics
    if card.kind == "comparison" and scores:
        name, value = next(iter(scores.items()))
        scores = {f"{name} (and {len(scores) - 1} more in the card)": value}
    return {name: f"{value:.3g}" for name, value in scores.items()}


def group_of(card: Card) -> str:
    """The heading under which a checkpoint stands: methods and the last comparison, Net2Net's parts by their kind."""
    for word, heading in zip(("hypermod", "bn-transfer", "mind2mind", "which-method"), GROUPS[2:], strict=True):
        if word in card.name:
            return heading
    expert = re.search("autoencoder|classifier|segmenter|alae|stylegan|biggan|code space", card.kind)
    return GROUPS[0] if expert else GROUPS[1]


def results() -> str:
    """A table for each group of checkpoints."""
    parts = []
    cards = shipped_cards()
    for heading in GROUPS:
        lines = ["| checkpoint | kind | size | trained | metric | value |", "|---|---|---|---|---|---|"]
        for name, card in cards.items():
            if group_of(card) != heading:
                continue
            size = (CHECKPOINTS / f"{name}.safetensors").stat().st_size / 2**20
            training = f"{card.steps:,} steps, {card.seconds / 60:.0f} min, {card.device}"
            about = f"`{name}` | {card.kind} | {size:.1f} MB | {training}"
            for metric, value in (shown_scores(card) or {"not scored": ""}).items():
                lines.append(f"| {about} | {metric} | {value} |")
                about = " | | | "
        if len(lines) > 2:
            parts.append(f"## {heading}\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def exercises_of(notebook: Notebook) -> list[tuple[str, str, int]]:
    """Title, difficulty in words, and minutes of each exercise, as the notebook states them."""
    text = "\n".join(cell.source for cell in notebook.node.cells if cell.cell_type == "markdown")
    pattern = r"^### (?:\d+\. )?(.+)\n+\*(\w+)[^*\n]*?(\d+) minutes?[^*\n]*\*"
    return [(title, level.lower(), int(minutes)) for title, level, minutes in re.findall(pattern, text, re.MULTILINE)]


def sections_of(notebook: Notebook) -> dict[str, float]:
    """Minutes to read each section: by its words and code cells, exercises apart."""
    minutes: dict[str, float] = {}
    heading = "Opening"
    for cell in notebook.node.cells:
        if cell.cell_type == "code":
            minutes[heading] = minutes.get(heading, 0) + MINUTES_A_CODE_CELL
            continue
        for part in re.split(r"^(?=## )", cell.source, flags=re.MULTILINE):
            if found := re.match(r"## (?:\d+\. )?(.+)", part):
                heading = found[1]
            minutes[heading] = minutes.get(heading, 0) + len(part.split()) / WORDS_A_MINUTE
    minutes["Opening"] += minutes.pop("You will learn", 0) + minutes.pop("You need", 0)
    apart = ("Exercises", "References", "Credits", "Parameters", "Setup")
    return {name: time for name, time in minutes.items() if name not in apart}


def syllabus() -> str:
    """Hours, difficulty, exercises; then the minutes of each section."""
    lines = ["| no. | notebook | reading | exercises | together | difficulty |", "|---|---|---|---|---|---|"]
    details, total = [], 0.0
    for notebook in all_notebooks():
        tasks, sections = exercises_of(notebook), sections_of(notebook)
        reading, working = sum(sections.values()), sum(minutes for *_, minutes in tasks)
        total += reading + working
        levels = ", ".join(dict.fromkeys(level for _, level, _ in tasks))
        lines.append(
            f"| {notebook.number} | {notebook.title} | {reading:.0f} min | {len(tasks)}, {working} min | "
            f"{(reading + working) / 60:.1f} h | {levels} |"
        )
        parts = " · ".join(f"{name} {max(1, round(minutes))}" for name, minutes in sections.items())
        work = " · ".join(f"{name} {minutes} ({level})" for name, level, minutes in tasks)
        details.append(f"**{notebook.number}.** {parts}. *Exercises:* {work}.")
    lines.append(f"| | all | | | {total / 60:.0f} h | |")
    return "\n".join(lines) + "\n\n## Minutes by section\n\n" + "\n\n".join(details)


def _figure(number: str, cell_id: str) -> tuple[bytes, str, str]:
    """The first picture that a cell stored, its media type, and its alternative text."""
    path = next((n.path for n in all_notebooks() if n.number == number), None)
    cells = nbformat.read(path, as_version=4).cells if path else []
    for output in (o for cell in cells if cell.id == cell_id for o in cell.get("outputs", [])):
        if picture := stored_picture(output):
            return picture
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
    "README.md": {"badges": badges, "notebooks": notebooks, "gallery": gallery},
    "GALLERY.md": {"gallery": lambda: gallery(POSTER, len(GALLERY))},
    "RESULTS.md": {"results": results},
    "SYLLABUS.md": {"syllabus": syllabus},
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
    for one in (README, POSTER, RESULTS, SYLLABUS):
        one.write_text(refreshed(one), encoding="utf-8")
    print("wrote the pictures and the tables of README, docs/GALLERY, docs/RESULTS and docs/SYLLABUS")
