"""Each exercise: what its notebook shows as solution passes, its stub and typical wrong answers do not."""

import ast
import re
from functools import cache

import pytest
import torch
import wrong_answers

from course_lib import checks
from course_lib.checks import exercises
from course_lib.checks.exercise import CheckResult, exercise, require
from course_lib.runner.catalog import all_notebooks

EXERCISES = exercises()
_CALL = re.compile(r"\bchecks\.(nb\d+\.\w+)\(([\w, ]*)\)")
_SOLUTION = re.compile(r"<summary>Solution</summary>\s*```python\n(.*?)```", re.DOTALL)


@cache
def shown_answers(number: str) -> dict[str, dict[str, tuple]]:
    """Exercise → ``stub`` and ``solution`` of a notebook, each a tuple of the answer's parts."""
    [notebook] = [one for one in all_notebooks() if one.number == number]
    cells, imports, found = notebook.node.cells, [], {}
    for place, cell in enumerate(cells):
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "code" and "bootstrap" not in tags:
            imports += [one for one in ast.parse(cell.source).body if isinstance(one, ast.Import | ast.ImportFrom)]
        if "exercise" in tags:
            name, parts = _CALL.search(cell.source).groups()
            text = "\n".join(one.source for one in cells[place:] if one.cell_type == "markdown")
            sources = {"stub": cell.source, "solution": _SOLUTION.search(text)[1]}
            found[name] = {kind: _evaluated(imports, source, parts) for kind, source in sources.items()}
    return found


def _evaluated(imports: list[ast.stmt], source: str, parts: str) -> tuple:
    """The objects called ``parts`` that a cell defines, after the notebook's imports."""
    defined = [one for one in ast.parse(source).body if isinstance(one, ast.FunctionDef | ast.ClassDef)]
    names = {}
    exec(compile(ast.Module([*imports, *defined], []), "<notebook>", "exec"), names)
    return tuple(names[part.strip()] for part in parts.split(","))


def answer_of(name: str, kind: str) -> tuple:
    return shown_answers(name[2:4])[name][kind]


def wrong_answers_of(name: str) -> list[tuple]:
    found = getattr(wrong_answers, name.replace(".", "_"))(*answer_of(name, "solution"))
    return [one if isinstance(one, tuple) else (one,) for one in found]


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_passes(name):
    result = EXERCISES[name].judge(*answer_of(name, "solution"))
    assert result.passed, result.message


@pytest.mark.parametrize("name", EXERCISES)
def test_stub_and_typical_wrong_answers_do_not_pass_and_get_words(name):
    wrong = wrong_answers_of(name)
    assert len(wrong) >= 2
    for number, answer in enumerate([answer_of(name, "stub"), *wrong]):
        result = EXERCISES[name].judge(*answer)
        assert not result.passed and result.message, f"answer {number}"


@pytest.mark.parametrize("notebook", all_notebooks(), ids=lambda notebook: notebook.stem)
def test_a_notebook_uses_all_its_checks_and_no_others(notebook):
    assert set(shown_answers(notebook.number)) == {name for name in EXERCISES if name[2:4] == notebook.number}


@exercise("nb99")
def double(answer):
    x = torch.randn(5)
    require(torch.allclose(answer(x), 2 * x), "the values are\nnot doubled", "use 2 * x")
    return "doubled"


def test_a_check_prints_one_line(capsys):
    assert double(lambda x: 2 * x) == CheckResult(True, "doubled")
    assert not double(lambda x: x).passed
    assert capsys.readouterr().out == "pass: doubled\nnot yet: the values are not doubled · hint: use 2 * x\n"


def test_an_error_in_the_answer_is_a_verdict_not_an_exception(capsys):
    result = double(lambda x: x + torch.zeros(3))
    assert not result.passed and "your answer raised RuntimeError" in capsys.readouterr().out
    assert not double.judge(None).passed

    def bare(x):
        raise ValueError

    line = bare.__code__.co_firstlineno + 1
    assert f"ValueError in line {line}: no message" in double.judge(bare).message
    assert f"RuntimeError in line {line - 5}:" in result.message, "of the answer, not of torch or of the check"
    cell = compile("def broken(x):\n    y = x\n    return y.view(7, 7)\n", "/tmp/ipykernel_1/2.py", "exec")
    names = {}
    exec(cell, names)
    assert "in line 3" in double.judge(names["broken"]).message


def test_a_check_leaves_the_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    double.judge(lambda x: torch.randn(5))
    assert torch.equal(torch.rand(3), expected)


def test_an_unknown_module_is_an_ordinary_error():
    with pytest.raises(AttributeError, match="nb99"):
        checks.nb99  # noqa: B018
