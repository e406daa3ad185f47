"""Notebooks without solutions, and the verdicts of the checks on notebooks that were handed in."""

import json
import re

import nbformat
import pytest
from conftest import code, text

from course_lib.errors import CourseError
from course_lib.runner.catalog import all_notebooks
from course_lib.teaching import grade, student_copy, write_student_notebooks


def sources(node, kind):
    return "\n".join(cell.source for cell in node.cells if cell.cell_type == kind)


@pytest.mark.parametrize("notebook", all_notebooks(), ids=lambda notebook: notebook.stem)
def test_a_student_copy_lacks_the_solutions_and_nothing_else(notebook):
    before, after = notebook.node, student_copy(notebook.node)
    nbformat.validate(after)
    summaries = [re.findall(r"<summary>([^<]*)", sources(node, "markdown")) for node in (before, after)]
    assert any("solution" in one.lower() for one in summaries[0])
    assert summaries[1] == [one for one in summaries[0] if "solution" not in one.lower()]
    text = sources(after, "markdown")
    assert text.count("<details>") == text.count("</details>") == len(summaries[1])
    headings = [re.findall(r"^#+ .*", sources(node, "markdown"), re.MULTILINE) for node in (before, after)]
    assert headings[0] == headings[1] and sources(before, "code") == sources(after, "code")
    for cell in after.cells:
        assert "exercise" not in cell.metadata.get("tags", []) or not cell.get("outputs")


def test_student_notebooks_never_replace_answers(tmp_path):
    written = write_student_notebooks(tmp_path)
    assert len(written) == len(all_notebooks())
    with pytest.raises(CourseError, match="--force"):
        write_student_notebooks(tmp_path)
    write_student_notebooks(tmp_path, force=True)


def handed_in(path, answer):
    cells = [
        text("title", "# Mine"),
        code("setup", "from course_lib import checks"),
        code("broken", "1 / 0"),
        code("first", f"{answer}\nchecks.nb00.shrink(my_shrink)", "exercise"),
        code("last", "unknown_name\nchecks.nb01.linear_probe(None)", "exercise"),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_verdicts_are_collected_whatever_else_fails(tmp_path):
    right = "def my_shrink(p, s):\n    return p.unflatten(3, (s, -1)).unflatten(2, (s, -1)).mean((3, 5))\n"
    files = [
        handed_in(tmp_path / "ada.ipynb", right),
        handed_in(tmp_path / "bob.ipynb", "def my_shrink(p, s):\n    return p\n"),
    ]
    lines = []
    result = grade(files, tmp_path / "out" / "results.json", lines.append)
    assert result == json.loads((tmp_path / "out" / "results.json").read_text())
    ada, bob = result["notebooks"]
    assert [ada["passed"], bob["passed"], ada["of"]] == [1, 0, 2]
    assert [one["passed"] for one in ada["exercises"]] == [True, None]
    assert bob["exercises"][0]["passed"] is False and "should have" in bob["exercises"][0]["message"]
    assert lines[0].startswith("ada.ipynb: 1 of 2, not yet: nb01.linear_probe")


def test_what_is_no_notebook_is_named_before_anything_runs(tmp_path):
    (tmp_path / "x.ipynb").write_text("{")
    with pytest.raises(CourseError, match=r"x\.ipynb"):
        grade([tmp_path / "x.ipynb"], tmp_path / "results.json")
    assert not (tmp_path / "results.json").exists()
