"""The first code cell of every notebook, which fetches the course where it is missing: Colab, Kaggle, a bare Jupyter.

There the cell clones the repository and runs this file as a script, so it imports nothing but the standard library.
``python -m course_lib.bootstrap notebooks/*.ipynb`` puts the cell into notebooks, or renews it; the lint compares.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["CELL", "CELL_ID", "TAG", "insert", "install"]

CELL_ID, TAG = "bootstrap", "bootstrap"
CELL = """\
# Only where the course is missing (Colab, Kaggle, a bare Jupyter): fetch it; an installed torch stays as it is.
import importlib.util
import pathlib
import subprocess
import sys

if importlib.util.find_spec("course_lib") is None:
    home = pathlib.Path(".." if pathlib.Path("../course_lib").is_dir() else "course").resolve()
    if not home.is_dir():
        address = "https://github.com/course-authors/reusing-generators"
        subprocess.run(["git", "clone", "--quiet", "--depth", "1", address, str(home)], check=True)
    subprocess.run([sys.executable, str(home / "course_lib" / "bootstrap.py")], check=True)
    sys.path.insert(0, str(home))"""

KEPT = ("torch", "torchvision", "torchaudio")  # as the machine's driver needs them
PRESENT = ("jupyterlab", "ipykernel")  # a notebook is running, so something plays their part


def insert(path: Path) -> None:
    """Puts :data:`CELL` before the first code cell of a notebook, or renews it; nothing else changes."""
    text = path.read_text(encoding="utf-8")
    node = json.loads(text)
    source = CELL.splitlines(keepends=True)
    old = [cell for cell in node["cells"] if TAG in cell["metadata"].get("tags", [])]
    if old:
        old[0]["source"] = source
    else:
        first = next(k for k, cell in enumerate(node["cells"]) if cell["cell_type"] == "code")
        cell = {
            "cell_type": "code",
            "execution_count": None,
            "id": CELL_ID,
            "metadata": {"jupyter": {"source_hidden": True}, "tags": ["hide-cell", TAG]},
            "outputs": [],
            "source": source,
        }
        node["cells"].insert(first, cell)
    path.write_text(json.dumps(node, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def install(root: Path, run: Callable[[list[str]], object] | None = None) -> None:
    """Installs what ``pyproject.toml`` wants beside what is there; torch and its relatives are not touched.

    Args:
        root: the repository.
        run: takes a command line; by default it is executed, and a failure raises.
    """
    run = run or (lambda command: subprocess.run(command, check=True))
    wanted = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    kept = {name: found for name in KEPT if (found := _installed(name))}
    rest = []
    for requirement in wanted:
        name, least = re.match(r"([\w.-]+)(?:>=([\d.]+))?", requirement).groups()
        if name not in (*kept, *PRESENT):
            rest.append(requirement)
        elif name in kept and least and _numbers(kept[name]) < _numbers(least):
            print(f"{name} {kept[name]} stays as it is; the course was tested with {least} or newer")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # Named with their exact versions they satisfy whatever else wants them, and pip has no reason to replace them.
    run([*pip, *rest, *(f"{name}=={found}" for name, found in kept.items())])
    run([*pip, "--no-deps", "--editable", str(root)])


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    """``"2.11.0+cu126"`` as ``(2, 11, 0)``."""
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:3])


if __name__ == "__main__":
    if sys.argv[1:]:
        for name in sys.argv[1:]:
            insert(Path(name))
    else:
        install(Path(__file__).resolve().parent.parent)
