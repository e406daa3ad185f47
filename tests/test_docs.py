"""README and its companions: what they name exists, their commands are accepted, their numbers are the cards'."""

import ast
import importlib
import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest
import typer

from course_lib.cli import app
from course_lib.profiles import NOTEBOOKS, ROOT
from course_lib.runner.catalog import all_notebooks, check_parameters, find_notebooks, split_assignments
from course_lib.runner.session import stored_picture
from tools import first_cell

PACKAGE = ROOT / "course_lib"
sys.path.insert(0, str(ROOT / "docs"))
import refresh  # noqa: E402 - a script beside the documents that it writes

DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")),
    refresh.SYLLABUS,
]
every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
ALLOWED_SUFFIXES = (".py", ".md", ".json", ".lock", ".toml", ".yml", ".png", ".jpeg", ".cff", "/")


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def fenced(text, language):
    """The code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def commands(text):
    """Lines of shell blocks and inline code that call ``make`` or ``course``, as lists of words."""
    blocks = "\n".join(fenced(text, "sh")) + "\n" + "\n".join(re.findall(r"^    (course .*)", text, re.MULTILINE))
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    lines = [*blocks.splitlines(), *inline]
    found = [shlex.split(line, comments=True) for line in lines if re.match(r"(make|course)\s", line.strip())]
    return [words for words in found if len(words) > 1 and not words[1].startswith(("_", "-"))]


# --- commands ----------------------------------------


@every_document
def test_make_targets_and_variables_exist(document):
    makefile = read("Makefile")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    variables = set(re.findall(r"^([A-Z]+) \?=", makefile, flags=re.MULTILINE)) | {"NAME"}
    for words in commands(document.read_text(encoding="utf-8")):
        if words[0] == "make":
            given = [word.partition("=")[0] for word in words[1:] if "=" in word]
            assert set(given) <= variables, words
            assert {word for word in words[1:] if "=" not in word} <= targets, words


def test_the_variables_of_make_train_are_accepted():
    """NAME is a recipe, PROFILE a profile, and ARGS are options that a recipe's job has."""
    from course_lib.cli import _job_options
    from course_lib.profiles import PROFILES
    from course_lib.recipes import RECIPES

    calls = [words for words in commands(read("README.md")) if words[:2] == ["make", "train"]]
    assert calls
    for words in calls:
        given = dict(word.split("=", 1) for word in words[2:])
        assert given.get("NAME", "...") in {*RECIPES, "..."}
        assert given.get("PROFILE", "cpu") in PROFILES
        _job_options(split_assignments([word for word in given.get("ARGS", "").split() if word != "-p"]))


@every_document
def test_course_commands_are_accepted_by_the_command_line(document):
    """Each line goes through the real parser, up to the point where the command would run."""
    group = typer.main.get_command(app)
    for words in commands(document.read_text(encoding="utf-8")):
        if words[0] != "course" or words[-1] in ("NAME", "FOLDER"):
            continue
        command, rest = group, words[1:]
        with command.make_context("course", list(rest), resilient_parsing=False) as context:
            while hasattr(command, "resolve_command"):
                name, command, rest = command.resolve_command(context, rest)
                context = command.make_context(name, list(rest), parent=context)
                rest = [*getattr(context, "_protected_args", []), *context.args] or rest
        if words[1] == "run":
            numbers = [name for name in context.params["notebooks"] if name in {n.number for n in all_notebooks()}]
            for notebook in find_notebooks(numbers) if numbers else []:
                given = split_assignments(context.params["param"] or [])
                # A reader's folders are not here: name and kind of such a parameter are checked, not the path.
                here = {name: "people" if text.startswith("folder:") else text for name, text in given.items()}
                check_parameters(notebook, here)


def test_the_two_commands_and_the_lab_are_in_the_readme():
    text = read("README.md")
    assert all(f"make {target}" in text for target in ("course", "test", "lab", "train", "site"))
    assert text.count("\n") <= 120, "README is the way in: tables and details stand elsewhere"


# --- files, links, code ----------------------------------------


@every_document
def test_links_lead_to_files(document):
    for label, target in re.findall(r"(\[[^\]]*\])\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8")):
        if not re.match(r"https?:", target):
            assert (document.parent / target).exists(), f"{label} leads to {target}, which is not there"


@pytest.mark.parametrize("notebook", all_notebooks(), ids=lambda notebook: notebook.stem)
def test_links_of_a_notebook_lead_to_files(notebook):
    for cell in notebook.node.cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"```.*?```|`[^`\n]*`", "", cell.source, flags=re.DOTALL)
            for target in re.findall(r"\[[^\]]+\]\(([\w./-]+\.\w+)(?:#[^)]*)?\)", prose):
                assert (NOTEBOOKS / target).exists(), f"{cell.id} links {target}"


@every_document
def test_files_named_in_code_marks_exist(document):
    """``data/README.md`` from the root, ``cinn/flow.py`` from the package; the placeholder NN is passed over."""
    for name in re.findall(r"`([\w./-]+)`", document.read_text(encoding="utf-8")):
        if (
            "/" not in name
            or not name.endswith(ALLOWED_SUFFIXES)
            or "NN" in name
            or name.startswith(("runs/", "student/", "../"))
        ):
            continue
        assert any((folder / name).exists() for folder in (ROOT, PACKAGE)), f"{document.name} names {name}"


@every_document
def test_python_examples_compile_and_import_what_exists(document):
    for block in fenced(document.read_text(encoding="utf-8"), "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


def test_pictures_are_small_and_described():
    pictures = re.findall(r"!\[([^\]]*)\]\(((?!http)[^)]+)\)", read("README.md"))
    assert len(pictures) == 4
    for alt, target in pictures:
        assert len(alt.split()) >= 8
        assert (ROOT / target).stat().st_size <= 300_000


# --- tables that must not go stale ----------------------------------------


def rows(text, name):
    """Cells of the table between ``<!-- name -->`` and ``<!-- end name -->``, without its head."""
    table = text.split(f"<!-- {name} -->")[1].split(f"<!-- end {name} -->")[0].strip().splitlines()
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]] for line in table[2:]]


def table_rows(text):
    """Cells of every table of a text, without the heads."""
    lines = [
        line for line in text.splitlines() if line.startswith("|") and not line.startswith(("|---", "| checkpoint"))
    ]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


@pytest.mark.parametrize("name", refresh.TABLES)
def test_generated_tables_are_those_of_cards_and_notebooks(name):
    document = ROOT / ("" if name == "README.md" else "docs") / name
    assert document.read_text(encoding="utf-8") == refresh.refreshed(document), "run docs/refresh.py"


def test_a_card_without_weights_is_passed_over_and_a_new_one_is_picked_up(monkeypatch, tmp_path):
    cards = {}
    for name in ("avatar-hypermod", "avatar-mind2mind", "half"):
        cards[name] = refresh.Card(name=name, kind="stylegan", config={}, metrics={"recall on test": 0.5})
        (tmp_path / f"{name}.json").touch()
        if name != "half":
            (tmp_path / f"{name}.safetensors").touch()
    monkeypatch.setattr(refresh, "CHECKPOINTS", tmp_path)
    monkeypatch.setattr(refresh, "load_card", cards.get)
    text = refresh.results()
    assert text.index("## Hyper-Modulation") < text.index("avatar-hypermod") < text.index("## Mind2Mind")
    assert "half" not in text and "cGANTransfer" not in text


def test_badges_and_hosted_notebooks_lead_to_the_address_of_the_project():
    address = tomllib.loads(read("pyproject.toml"))["project"]["urls"]["Repository"]
    name = address.removeprefix("https://github.com/")
    text = read("README.md")
    hosts = re.findall(r"https://(?:colab|kaggle|mybinder)[^)\s]*", text)
    assert all(name in url for url in hosts if not url.endswith(".svg"))
    assert f'"{address}"' in first_cell.CELL


@pytest.mark.parametrize("notebook", all_notebooks(), ids=lambda notebook: notebook.stem)
def test_every_exercise_states_difficulty_and_minutes(notebook):
    stubs = [cell for cell in notebook.node.cells if "exercise" in cell.metadata.get("tags", [])]
    assert len(refresh.exercises_of(notebook)) == len([cell for cell in stubs if cell.cell_type == "code"])


def test_the_first_notebook_promises_what_it_keeps():
    [notebook] = find_notebooks(["00"])
    promised = re.search(r"less than (\d+) seconds and (\d+) GB", notebook.node.cells[0].source)
    cost = notebook.measured["quick"]
    assert cost["seconds"] < int(promised[1]) and cost["memory_mb"] < int(promised[2]) * 1024


def test_the_gallery_shows_pictures_that_notebooks_stored():
    pattern = r"!\[([^\]]+)\]\((%sgallery/(\d\d)-([\w-]+)\.(?:png|webp))\)"
    poster = [(alt, f"docs/{path}", *cell) for alt, path, *cell in re.findall(pattern % "", read("docs/GALLERY.md"))]
    assert {path for _, path, *_ in poster} == {f"docs/gallery/{p.name}" for p in (ROOT / "docs/gallery").iterdir()}
    shown = re.findall(pattern % "docs/", read("README.md"))
    assert shown and set(shown) <= set(poster)
    for alt, path, number, cell_id in poster:
        [notebook] = find_notebooks([number])
        [cell] = [cell for cell in notebook.node.cells if cell.id == cell_id]
        found = filter(None, map(stored_picture, cell.outputs))
        stored = {content: text for content, _, text in found}
        assert stored.get((ROOT / path).read_bytes()) == alt, f"{path}: run docs/refresh.py"


# --- architecture ----------------------------------------


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def layers():
    """Unit → number of its line in ARCHITECTURE.md."""
    block = fenced(read("ARCHITECTURE.md"), "")[0]
    lines = [line.split(", ") for line in block.strip().splitlines()]
    return {unit: number for number, line in enumerate(lines) for unit in line}


def unit_of(path: Path) -> str:
    """The folder or module right below the package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_units(path: Path) -> set[str]:
    """Units that a module imports, wherever in the file it does so."""
    own = ["course_lib", *path.relative_to(PACKAGE).parts[:-1]]
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = own[: len(own) + 1 - node.level] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{stem}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("course_lib.")}


def test_imports_point_one_way():
    order = layers()
    for path in modules():
        unit = unit_of(path)
        if unit == "__init__":
            continue
        assert unit in order, f"ARCHITECTURE.md does not say where '{unit}' stands"
        for other in imported_units(path) - {unit}:
            assert other in order, f"{path.relative_to(ROOT)} imports '{other}'"
            assert order[other] < order[unit], (
                f"{path.relative_to(ROOT)} imports '{other}', which is not below '{unit}'"
            )


def test_the_import_scan_sees_relative_and_absolute_imports():
    assert {"cinn", "data", "errors", "experts", "training"} <= set().union(
        *(imported_units(path) for path in (PACKAGE / "translation").glob("*.py"))
    )
    assert "runner" in imported_units(PACKAGE / "teaching.py")


def test_method_folders_do_not_import_each_other_and_training_knows_none():
    order = layers()
    methods = {unit for unit, line in order.items() if line == order["translation"]}
    assert "translation" in methods
    for path in modules():
        unit = unit_of(path)
        if unit in methods | {"training"}:
            assert not (imported_units(path) & methods) - {unit}, path.relative_to(ROOT)


def test_importing_the_package_stays_light():
    """The command line starts at once: no module of the package's top imports torch when it is loaded."""
    for path in (PACKAGE / "__init__.py", PACKAGE / "cli.py", PACKAGE / "profiles.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in top if isinstance(node, ast.ImportFrom) and node.module}
        assert not any(name.split(".")[0] in ("torch", "lightning", "matplotlib") for name in names), path.name
