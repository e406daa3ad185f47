"""The ``course`` command: quick to start, one message for bad input, exit status as promised."""

import errno
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import code, text

from course_lib import cli, profiles
from course_lib.errors import CourseError


@pytest.fixture
def course(monkeypatch, capsys):
    """Calls the command in this process; returns exit status, stdout and stderr."""

    def call(*arguments: str) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["course", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return SimpleNamespace(code=ended.value.code or 0, out=captured.out, err=captured.err)

    return call


@pytest.fixture
def folder(make_notebook, monkeypatch, tmp_path):
    """A course of two notebooks in ``tmp_path``."""
    cell = code(
        "parameters",
        "steps: int = 3  # how often\nrate: float = 0.5  # how fast\ntrain: bool = False\n"
        'share: float = 0.5  # of all [0 to 1]\ndataset: str = "people"  # pictures',
        "parameters",
    )
    path = make_notebook("00_start.ipynb", text("title", "# Start here"), cell, code("show", "print(steps)"))
    make_notebook("01_broken.ipynb", text("title", "# Broken"), code("bad", "1 / 0"))
    monkeypatch.setattr(profiles, "NOTEBOOKS", path.parent)
    monkeypatch.setattr(profiles, "RUNS", tmp_path / "runs")
    return path.parent


def test_help_imports_nothing_heavy():
    probe = "import sys, course_lib.cli; print([m for m in ('torch', 'papermill', 'nbformat') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "00", "-p", "stepz=3"), ("no parameter 'stepz'", "steps: int = 3", "rate: float = 0.5")),
        (("run", "00", "-p", "steps=many"), ("'many' is no int", "'steps'", "train: bool = False")),
        (("run", "00", "-p", "steps=2.5"), ("'2.5' is no int",)),
        (("run", "00", "-p", "train=perhaps"), ("is no bool",)),
        (("run", "00", "-p", "steps"), ("not of the form name=value",)),
        (("run", "00", "-p", "steps=0"), ("'0' is out of range (1 to", "'steps'")),
        (("run", "00", "-p", "steps=99999999999999999999"), ("is out of range",)),
        (("run", "00", "-p", "steps=1", "-p", "steps=2"), ("'steps' is given twice",)),
        (("run", "00", "-p", "rate=nan"), ("'nan' is not a finite number",)),
        (("run", "00", "-p", "rate=-1"), ("'-1' is out of range (0 to inf)",)),
        (("run", "00", "-p", "rate=1e999"), ("is not a finite number",)),
        (("run", "00", "-p", "share=1.5"), ("'1.5' is out of range (0 to 1)",)),
        (("run", "00", "-p", "dataset=folder:nowhere"), ("there is no folder", "nowhere")),
        (("run", "00", "-p", "dataset=imagenet"), ("no data set 'imagenet'", "folder:PATH")),
        (("run", "00", "--profile", "gpu"), ("no", "gpu")),
        (("run", "all", "-p", "steps=3"), ("01_broken has no parameter 'steps'", "valid: none")),
        (("run", "07"), ("no notebook '07'", "00_start", "01_broken")),
        (("run", "00", "-p", "steps=3", "--store"), ("leave out -p",)),
    ],
)
def test_bad_input_ends_with_status_2_and_one_line(course, folder, tmp_path, arguments, words):
    result = course(*arguments)
    assert result.code == 2
    assert result.err.count("\n") == 1 and "Traceback" not in result.err
    assert all(word in result.err for word in words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        "run 00 --profile huge",
        "run",
        "fly",
        "run 00 --jobs 0",
        "run 00 --jobs many",
        "run 00 --cell-timeout nan",
        "generate x --seed 99999999999999999999",
        "generate x --seed -1",
        "generate x --seed 1.5",
        "generate x --steps 1",
        "generate x --rows 0",
        "generate x --truncation nan",
        "generate x --reach inf",
        "generate x --enlarge 1000",
        "generate x --cut -1",
        "generate nowhere/x.safetensors",
        "evaluate x --samples 5",
        "evaluate x --part dev",
        "evaluate x --features clip",
        "evaluate x --dataset folder:/nowhere",
        "train",
        "train judge -p",
        "train judge -p steps=abc",
        "train judge -p steps=0",
        "train judge -p seed=1.5",
        "train judge -p seed=-1",
        "train judge -p seconds=nan",
        "train judge -p seconds=0",
        "train judge -p precision=8-mixed",
        "train judge -p force=perhaps",
        "train judge -p profile=cpu",
        "train judge --profile gpu",
        "released nowhere.ckpt",
    ],
)
def test_what_is_typed_is_checked_first_with_status_2_and_one_line(course, folder, arguments, monkeypatch):
    """The gate for values: type, range, finiteness, choice. One line a case."""
    monkeypatch.setattr("course_lib.recipes.train", lambda *_, **__: pytest.fail("it began to train"))
    monkeypatch.setattr("course_lib.runner.session.restart_with_settings", lambda: None)
    result = course(*arguments.split())
    assert result.code == 2
    assert arguments == "train" or (result.err.count("\n") == 1 and result.err.startswith("error: "))
    assert "Traceback" not in result.err


def test_a_string_is_taken_as_it_is(folder):
    from course_lib.runner.catalog import parse_value, split_assignments

    for typed in ('"Hello" she said "Bye"', "'a'", '"', " a\tb ", "a=b", "\\n", "é 👩‍🚀", "", "$HOME"):
        assert parse_value(split_assignments([f"sentence={typed}"])["sentence"], "str") == typed


def test_run_goes_on_after_a_failure_and_ends_with_status_1(course, folder):
    result = course("run", "1", "00_start")
    assert result.code == 1
    assert "01_broken, cell 1 'bad': ZeroDivisionError: division by zero" in result.out
    assert "00_start: ok" in result.out and "1 of 2 notebooks passed" in result.out


def test_list_shows_titles_parameters_and_cost(course, folder):
    import nbformat

    path = folder / "00_start.ipynb"
    node = nbformat.read(path, as_version=4)
    node.metadata["course"] = {"measured": {"quick": {"seconds": 31, "memory_mb": 900}}}
    nbformat.write(node, path)
    result = course("list")
    assert result.code == 0
    for line in ("00  Start here", "measured, quick: 31 s, 900 MB", "-p steps=3  (int) how often", "01  Broken"):
        assert line in result.out


def test_train_passes_typed_options_on_and_lists_names(course, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(
        "course_lib.recipes.train", lambda name, profile, **options: calls.append((name, profile, options))
    )
    monkeypatch.setattr("course_lib.recipes.RECIPES", {"autoencoder": (), "judge": ()})
    monkeypatch.setattr("course_lib.runner.session.restart_with_settings", lambda: None)
    assert (
        course(
            "train", "judge", "--profile", "quick", "-p", "steps=5", "-p", "force=true", "-p", f"out={tmp_path}"
        ).code
        == 0
    )
    assert calls == [("judge", "quick", {"steps": 5, "force": True, "out": tmp_path})]
    assert course("train", "--list").out.split() == ["autoencoder", "judge"]
    unknown = course("train", "judge", "-p", "stepz=5")
    assert unknown.code == 2 and "valid: " in unknown.err and "steps" in unknown.err and len(calls) == 1
    assert course("train").code == 2


def test_data_check_and_build(course, tmp_path, monkeypatch):
    checked = course("data", "check")
    assert checked.code == 0 and "people: " in checked.out and "kinds: " in checked.out
    built = []
    monkeypatch.setattr("course_lib.data.avatars.build", lambda block, again: built.append((block, again)) or tmp_path)
    assert course("data", "build", "--again").code == 0
    assert built == [("people", True), ("kinds", True), ("parts", True)]
    monkeypatch.setattr("course_lib.data.avatars.check", lambda: {"people": "damaged"})
    damaged = course("data", "check")
    assert damaged.code == 2 and "course data build" in damaged.err


def test_list_without_notebooks_is_an_error(course, monkeypatch, tmp_path):
    monkeypatch.setattr(profiles, "NOTEBOOKS", tmp_path)
    assert course("list").code == 2


@pytest.mark.parametrize(
    ("error", "code_expected", "words"),
    [
        (CourseError("the file is not what it should be: fetch it again"), 2, "error: the file"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "error: no space left on the disk"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), 1, "error: /x/y: permission denied: make it"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), 1, "error: /x: the place is read-only"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a"), 1, "error: a: no such file or folder: check"),
        (OSError("strange\nthings"), 1, "error: strange things"),
    ],
)
def test_errors_become_one_line(course, monkeypatch, error, code_expected, words):
    def fail(*_):
        raise error

    monkeypatch.setattr("course_lib.runner.catalog.find_notebooks", fail)
    result = course("run", "00")
    assert (result.code, result.err.count("\n")) == (code_expected, 1)
    assert result.err.startswith(words)


def test_doctor_says_what_to_do(course, monkeypatch):
    monkeypatch.setattr("course_lib.runner.doctor.examine", dict)
    good = course("doctor")
    assert good.code == 0 and "torch" in good.out and "all checks passed" in good.out
    monkeypatch.setattr("course_lib.runner.doctor.examine", lambda: {"disk": "full: delete old folders in runs/"})
    bad = course("doctor")
    assert bad.code == 1 and "problem: disk: full: delete old folders in runs/" in bad.out


def test_doctor_finds_missing_and_truncated_weights_and_changed_data(tmp_path, monkeypatch):
    import torch
    from safetensors.torch import save_file

    from course_lib.runner.doctor import examine

    def changed():
        raise CourseError("people.png is not as built: restore it")

    monkeypatch.setattr(profiles, "CHECKPOINTS", tmp_path)
    monkeypatch.setattr("course_lib.data.avatars.check_recipe", changed)
    assert "make train" in examine()["checkpoints"]
    save_file({"weight": torch.zeros(100)}, tmp_path / "good.safetensors")
    assert "checkpoints" not in examine()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((tmp_path / "good.safetensors").read_bytes()[:-50])
    problems = examine()
    assert "cut.safetensors" in problems["checkpoints"] and "good.safetensors" not in problems["checkpoints"]
    assert "people.png is not as built" in problems["data"]
