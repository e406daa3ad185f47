"""Finding notebooks, reading their parameters, and the settings their kernels get."""

import errno
from pathlib import Path

import nbformat
import pytest
from conftest import code, text
from hypothesis import given
from hypothesis import strategies as st

from course_lib import profiles
from course_lib.errors import CourseError
from course_lib.runner import session
from course_lib.runner.catalog import (
    LARGEST,
    Notebook,
    Parameter,
    all_notebooks,
    check_parameters,
    find_notebooks,
    notebook_parameters,
    parse_value,
    split_assignments,
)
from course_lib.runner.session import NotebookResult, portable, store_run


@pytest.fixture
def folder(make_notebook):
    lines = [
        "steps: int = 3  # how often",
        "rate: float = 1e-3  # how fast",
        'name: str = "a"  # whom',
        "train: bool = False  # or load",
    ]
    knobs = code("knobs", "\n".join(lines), "parameters")
    make_notebook("03_third.ipynb", text("title", "Intro\n\n# The third: *now*"), knobs)
    make_notebook("10_tenth.ipynb", code("one", "1"))
    return make_notebook("00_first.ipynb", text("title", "# First")).parent


@pytest.mark.parametrize("name", ["3", "03", "03_third", "03_third.ipynb"])
def test_a_notebook_is_found_by_number_and_name(folder, name):
    assert [notebook.stem for notebook in find_notebooks([name], folder)] == ["03_third"]


def test_all_are_in_order_and_each_comes_once(folder):
    assert [n.number for n in all_notebooks(folder)] == ["00", "03", "10"]
    assert [n.number for n in find_notebooks(["10", "all", str(folder / "03_third.ipynb")], folder)] == [
        "10",
        "00",
        "03",
    ]


def test_unknown_or_broken_notebooks_are_bad_input(folder):
    with pytest.raises(CourseError, match="00_first, 03_third, 10_tenth"):
        find_notebooks(["4"], folder)
    (folder / "20_broken.ipynb").write_text("{not json")
    with pytest.raises(CourseError, match="20_broken"):
        notebook_parameters(find_notebooks(["20"], folder)[0])


def test_title_and_parameters(folder):
    third = find_notebooks(["3"], folder)[0]
    assert third.title == "The third: *now*" and third.measured == {}
    assert notebook_parameters(third) == [
        Parameter("steps", "int", "3", "how often"),
        Parameter("rate", "float", "1e-3", "how fast"),
        Parameter("name", "str", '"a"', "whom"),
        Parameter("train", "bool", "False", "or load"),
    ]
    assert notebook_parameters(Notebook(folder / "10_tenth.ipynb")) == []


def test_values_get_their_declared_type(folder):
    third = find_notebooks(["3"], folder)[0]
    values = check_parameters(third, split_assignments(["steps=5", "rate=2", "name='x=y'", "train=Yes"]))
    assert values == {"steps": 5, "rate": 2.0, "name": "'x=y'", "train": True}
    assert [type(value) for value in values.values()] == [int, float, str, bool]


@given(st.integers(-LARGEST, LARGEST), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.text())
def test_a_value_is_what_was_written(whole, number, flag, text):
    for value in (whole, number, flag, text):
        assert parse_value(str(value), type(value).__name__) == value


def test_a_data_set_is_found_from_here_or_else_from_the_notebook(make_notebook, tmp_path, monkeypatch):
    from PIL import Image

    path = make_notebook("00_own.ipynb", code("parameters", 'dataset: str = "people"  # pictures', "parameters"))
    for place in (tmp_path / "here/pets", path.parent / "toys"):
        place.mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(place / "a.png")
    monkeypatch.chdir(tmp_path / "here")
    for dataset, place in (("folder:pets", tmp_path / "here/pets"), ("folder:toys", path.parent / "toys")):
        assert check_parameters(Notebook(path), {"dataset": dataset}) == {"dataset": f"folder:{place}"}
    assert check_parameters(Notebook(path), {"dataset": "kinds"}) == {"dataset": "kinds"}
    (path.parent / "toys/a.png").rename(path.parent / "toys/a.txt")
    with pytest.raises(CourseError, match=r"a\.txt is not an image"):
        check_parameters(Notebook(path), {"dataset": "folder:toys"})


def test_kernels_get_profile_silence_and_allocator(monkeypatch):
    from course_lib.profiles import process_environment

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    settings = session.kernel_environment("cpu", jobs=2)
    assert settings["COURSE_PROFILE"] == "cpu" and settings["TQDM_DISABLE"] == "1"
    assert int(settings["OMP_NUM_THREADS"]) >= 1
    assert set(process_environment()) <= set(settings)
    assert "OMP_NUM_THREADS" not in session.kernel_environment("cpu")


def test_a_process_restarts_once_with_its_settings(monkeypatch):
    calls = []
    monkeypatch.setattr("course_lib.profiles.process_environment", lambda: {"COURSE_TEST_SETTING": "1"})
    monkeypatch.setattr(session.os, "execve", lambda *arguments: calls.append(arguments))
    session.restart_with_settings()
    [(_, command, settings)] = calls
    assert command[1:3] == ["-m", "course_lib.cli"] and settings["COURSE_TEST_SETTING"] == "1"
    monkeypatch.setenv("COURSE_TEST_SETTING", "1")
    session.restart_with_settings()
    assert len(calls) == 1


def test_stored_text_names_no_folder_of_this_machine():
    assert portable(f"saved {profiles.ROOT}/runs/x.png") == "saved runs/x.png"
    assert portable(f"in {profiles.ROOT}, {profiles.ROOT}/, {Path.home()}/x") == "in ., ./, ~/x"
    assert portable("nothing to change") == "nothing to change"


def test_a_full_disk_leaves_the_old_notebook_and_nothing_half(folder, monkeypatch):
    notebook, names = Notebook(folder / "10_tenth.ipynb"), sorted(folder.iterdir())
    before = notebook.path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("course_lib.training.runs.os.fsync", full)
    with pytest.raises(CourseError, match="no space left on the disk"):
        store_run(notebook, NotebookResult("10_tenth", "Tenth", "ok"), "cpu")
    assert notebook.path.read_bytes() == before and sorted(folder.iterdir()) == names


def test_storing_refuses_a_notebook_that_changed_meanwhile(folder, tmp_path):
    notebook = Notebook(folder / "10_tenth.ipynb")
    executed = tmp_path / "10_tenth.ipynb"
    node = nbformat.read(notebook.path, as_version=4)
    node.cells[0].source = "2"
    nbformat.write(node, executed)
    before = notebook.path.read_bytes()
    result = NotebookResult("10_tenth", "Tenth", "ok", 12.3, 456)
    with pytest.raises(CourseError, match="changed during the run"):
        store_run(notebook, result, "quick", executed)
    assert notebook.path.read_bytes() == before
    store_run(notebook, result, "cpu")
    assert Notebook(notebook.path).measured == {"cpu": {"seconds": 12, "memory_mb": 456}}
