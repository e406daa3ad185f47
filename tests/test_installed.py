"""The package as a wheel, without the repository around it, and the first cell that installs the course elsewhere."""

import importlib.util
import json
import os
import subprocess
import sys
import tomllib
import zipfile

import nbformat
import pytest

from course_lib import bootstrap
from course_lib.profiles import NOTEBOOKS, ROOT
from tools import first_cell


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the unpacked wheel, built from a copy so that nothing is left in the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("course_lib", "pyproject.toml", "LICENSE", "LICENSE-CONTENT"):
        os.symlink(ROOT / name, source / name)
    command = [sys.executable, "-c", "from setuptools.build_meta import build_wheel; print(build_wheel('../dist'))"]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    [wheel] = (folder / "dist").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def course(installed, *arguments, **environment):
    """Run the command from the wheel, in a folder where no repository is."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("COURSE_")}
    return subprocess.run(
        [sys.executable, "-c", "from course_lib.cli import main; main()", *arguments],
        cwd=installed,
        env=clean | {"PYTHONPATH": str(installed)} | environment,
        capture_output=True,
        text=True,
    )


def test_an_installed_wheel_refuses_in_one_line_what_needs_the_repository(installed):
    done = course(installed, "list")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "COURSE_HOME" in done.stderr and "Traceback" not in done.stderr
    assert course(installed, "--help").returncode == 0


def test_an_installed_wheel_works_with_a_repository_named(installed):
    done = course(installed, "list", COURSE_HOME=str(ROOT))
    assert done.returncode == 0 and done.stdout.startswith("00  ")
    done = course(installed, "list", COURSE_HOME=str(installed))
    assert done.returncode == 2 and "is not the course's repository" in done.stderr


# --- the first cell ----------------------------------------


def test_the_first_cell_does_nothing_where_the_course_is_installed():
    exec(first_cell.CELL, {})


def test_the_first_cell_clones_and_installs_where_the_course_is_missing(monkeypatch, tmp_path):
    calls = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", lambda command, check: calls.append(command))
    monkeypatch.setattr(sys, "path", list(sys.path))
    exec(first_cell.CELL, {})
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert calls[0][:2] == ["git", "clone"] and "--depth" in calls[0]
    assert calls[0][-2:] == [project["urls"]["Repository"], str(tmp_path / "course")]
    assert calls[1] == [sys.executable, str(tmp_path / "course" / "course_lib" / "bootstrap.py")]
    assert sys.path[0] == str(tmp_path / "course")


def test_the_first_cell_takes_the_repository_that_a_notebook_lies_in(monkeypatch):
    calls = []
    monkeypatch.chdir(NOTEBOOKS)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", lambda command, check: calls.append(command))
    monkeypatch.setattr(sys, "path", list(sys.path))
    exec(first_cell.CELL, {})
    assert [command[1:] for command in calls] == [[str(ROOT / "course_lib" / "bootstrap.py")]]


@pytest.mark.parametrize("there", ["2.1.0+cu126", "99.0", None])
def test_an_installed_torch_is_pinned_and_a_missing_one_is_installed(monkeypatch, there):
    monkeypatch.setattr(bootstrap, "_installed", lambda name: there if name == "torch" else None)
    calls = []
    bootstrap.install(ROOT, calls.append)
    names = {argument for argument in calls[0] if argument.startswith("torch") and argument[5] in "=>"}
    assert names == ({f"torch=={there}"} if there else {w for w in names if w.startswith("torch>=")}) and names
    assert not any(argument.startswith(bootstrap.PRESENT) for argument in calls[0])
    assert calls[1][-3:] == ["--no-deps", "--editable", str(ROOT)]


def test_the_cell_is_put_in_once_and_changes_nothing_else(tmp_path):
    node = nbformat.read(NOTEBOOKS / "00_start_here.ipynb", as_version=4)
    node.cells = [cell for cell in node.cells if cell.id != first_cell.CELL_ID]
    path = tmp_path / "one.ipynb"
    nbformat.write(node, path)
    before = path.read_text()
    first_cell.insert(path)
    first_cell.insert(path)
    after = nbformat.read(path, as_version=4)
    nbformat.validate(after)
    [new] = [cell for cell in after.cells if cell.id == first_cell.CELL_ID]
    assert new.source == first_cell.CELL
    after.cells.remove(new)
    nbformat.write(after, path)
    assert json.loads(path.read_text()) == json.loads(before)


def test_the_script_needs_only_the_standard_library():
    code = f"import runpy; runpy.run_path({str(ROOT / 'course_lib' / 'bootstrap.py')!r}, run_name='other')"
    subprocess.run([sys.executable, "-S", "-I", "-c", code], check=True)
