"""Installs the course where a notebook finds it missing: Colab, Kaggle, a bare Jupyter. The first code cell of every
notebook runs this file as a script, so it imports nothing but the standard library."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

KEPT = ("torch", "torchvision", "torchaudio")  # as the machine's driver needs them
PRESENT = ("jupyterlab", "ipykernel")  # a notebook is running, so something plays their part


def install(root: Path, run: Callable[[list[str]], object] | None = None) -> None:
    """Installs what the repository's ``pyproject.toml`` wants beside what is there; torch and its like are not touched.
    ``run`` takes a command line; by default it is executed, and a failure raises."""
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
    install(Path(__file__).resolve().parent.parent)
