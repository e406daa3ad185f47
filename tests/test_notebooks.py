"""The notebooks themselves: all there, in shape, and running from top to bottom with the outputs they store."""

import os
import subprocess
import sys

import pytest

from course_lib.profiles import ROOT
from course_lib.runner.catalog import all_notebooks, notebook_parameters
from course_lib.runner.session import kernel_environment, run_notebooks
from tools.notebook_lint import lint_notebook

NOTEBOOKS = all_notebooks()
EXPECTED = {f"{number:02d}" for number in range(13)}
CELL_TIMEOUT = 300

every_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)


def test_the_expected_notebooks_exist():
    numbers = [notebook.number for notebook in NOTEBOOKS]
    assert set(numbers) >= EXPECTED
    assert len(numbers) == len(set(numbers))


@every_notebook
def test_the_notebook_has_the_course_shape(notebook):
    assert lint_notebook(notebook.path) == []


@pytest.mark.slow
@every_notebook
def test_the_notebook_runs_and_its_checked_outputs_agree(notebook, tmp_path):
    # Picture files are not compared: they differ between machines.
    (tmp_path / "sanitize.cfg").write_text("[picture]\nregex: data:image/\\w+;base64,[\\w+/=]+\nreplace: picture\n")
    options = [
        "--nbval-lax",
        f"--nbval-sanitize-with={tmp_path / 'sanitize.cfg'}",
        f"--nbval-cell-timeout={CELL_TIMEOUT}",
        "-p",
        "no:cacheprovider",
        "-q",
        "--no-header",
    ]
    command = [sys.executable, "-m", "pytest", *options, "-c", os.devnull, f"--rootdir={ROOT}", str(notebook.path)]
    done = subprocess.run(command, cwd=ROOT, env=kernel_environment("quick"), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


@pytest.mark.slow
def test_a_notebook_runs_with_parameters_given(tmp_path):
    """Each numeric parameter of the first notebook set by hand to its own default: names, types and injection hold."""
    notebook = NOTEBOOKS[0]
    given = {p.name: p.default for p in notebook_parameters(notebook) if p.type in ("int", "float", "bool")}
    assert given
    folder, [result] = run_notebooks([notebook], parameters=given, runs=tmp_path)
    assert result.status == "ok", result.error_line()
    assert (folder / f"{notebook.stem}.html").exists()
    assert set(result.parameters) == set(given)
