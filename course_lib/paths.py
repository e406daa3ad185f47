"""Where things are, and where results go, whatever folder a kernel started in."""

import itertools
import os
import tempfile
from datetime import datetime
from functools import cache
from pathlib import Path

from .errors import CourseError, explain


def _root() -> Path:
    """The repository: ``COURSE_HOME``, or the folder above the package."""
    named = os.environ.get("COURSE_HOME")
    root = Path(named).expanduser().absolute() if named else Path(__file__).resolve().parent.parent
    if all((root / name).is_dir() for name in ("checkpoints", "data", "notebooks")):
        return root
    missing = f"COURSE_HOME={named} is not" if named else "the package was installed without"
    advice = "clone it (README, Start) and set COURSE_HOME to its folder"
    raise CourseError(f"{missing} the course's repository, which holds notebooks, weights and data: {advice}.")


ROOT = _root()
DATA = ROOT / "data"
CHECKPOINTS = ROOT / "checkpoints"
NOTEBOOKS = ROOT / "notebooks"
RUNS = Path(os.environ.get("COURSE_RUNS") or ROOT / "runs").expanduser().absolute()
"""Folder of everything that runs leave; the environment variable ``COURSE_RUNS`` puts it elsewhere."""


def ensure_writable(folder: Path) -> Path:
    """``folder``, after a file has been written into it, or where it is to be made, and removed again."""
    place = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    try:
        with tempfile.TemporaryFile(dir=place, buffering=0) as file:
            file.write(b"course")
    except OSError as error:
        error.filename = folder
        raise CourseError(f"nothing can be written to {explain(error)}.") from error
    return folder


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CourseError(f"the folder {folder} cannot be made: {explain(error)}.") from error
    return folder


def cache_dir() -> Path:
    """Folder for files that can be rebuilt at any time (decoded images); ``COURSE_CACHE`` puts it elsewhere."""
    return _made(Path(os.environ.get("COURSE_CACHE") or ROOT / ".cache").expanduser())


def new_folder(parent: Path, name: str) -> Path:
    """A new folder ``parent/name``, with a number behind it where that exists: results replace nothing."""
    for number in itertools.count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise CourseError(f"results cannot be written to {explain(error)}.") from error
        return folder


def new_run_folder(runs: Path, suffix: str = "") -> Path:
    """A new folder in ``runs`` that is named by date and time."""
    return new_folder(runs, datetime.now().strftime("%Y%m%d-%H%M%S") + suffix)


@cache
def _lab_folder() -> Path:
    return new_run_folder(RUNS, "-lab")


def run_folder() -> Path:
    """Folder of the run that a notebook belongs to; in JupyterLab each kernel gets one when it first asks."""
    headless = os.environ.get("COURSE_RUN_FOLDER")
    return _made(Path(headless)) if headless else _lab_folder()
