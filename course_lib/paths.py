"""Where things are: everything is found from the repository root, whatever folder a kernel started in."""

import os
from pathlib import Path

__all__ = ["CHECKPOINTS", "DATA", "NOTEBOOKS", "ROOT", "RUNS", "cache_dir", "run_folder"]

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
CHECKPOINTS = ROOT / "checkpoints"
NOTEBOOKS = ROOT / "notebooks"
RUNS = ROOT / "runs"


def cache_dir() -> Path:
    """Folder for files that can be rebuilt at any time (decoded images); ``COURSE_CACHE`` overrides it."""
    path = Path(os.environ.get("COURSE_CACHE", ROOT / ".cache"))
    path.mkdir(parents=True, exist_ok=True)
    return path


def run_folder() -> Path:
    """Folder of the headless run that a notebook belongs to, where its results go; ``runs/lab`` in JupyterLab."""
    path = Path(os.environ.get("COURSE_RUN_FOLDER", RUNS / "lab"))
    path.mkdir(parents=True, exist_ok=True)
    return path
