"""Each exercise: its solution passes, its stub and wrong answers do not, and its notebook uses it."""

import re

import pytest
import torch

from course_lib import checks
from course_lib.checks import CheckResult, exercise, exercises, passed, require
from course_lib.runner import all_notebooks

EXERCISES = exercises()


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_passes(name):
    result = EXERCISES[name].judge(EXERCISES[name].solution)
    assert result.passed, result.message


@pytest.mark.parametrize("name", EXERCISES)
def test_the_stub_is_not_enough_and_gets_words(name):
    result = EXERCISES[name].judge(EXERCISES[name].stub)
    assert not result.passed and result.message


@pytest.mark.parametrize(
    ("name", "number"), [(name, i) for name, one in EXERCISES.items() for i in range(len(one.wrong))]
)
def test_a_typical_wrong_answer_does_not_pass(name, number):
    result = EXERCISES[name].judge(EXERCISES[name].wrong[number])
    assert not result.passed and result.message


@pytest.mark.parametrize("notebook", all_notebooks(), ids=lambda notebook: notebook.stem)
def test_a_notebook_uses_all_its_checks_and_no_others(notebook):
    code = "\n".join(cell.source for cell in notebook.node.cells if "exercise" in cell.metadata.get("tags", []))
    used = {f"{module}.{name}" for module, name in re.findall(r"\bchecks\.(nb\d+)\.(\w+)", code)}
    assert used == {name for name in EXERCISES if name.startswith(f"nb{notebook.number}.")}


@exercise(solution=lambda x: 2 * x, stub=lambda x: x, wrong=(lambda x: x**2, lambda x: None))
def double(answer):
    x = torch.randn(5)
    require(torch.allclose(answer(x), 2 * x), "the values are\nnot doubled", "use 2 * x")
    return passed("doubled")


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


def test_an_answer_of_several_parts():
    @exercise(solution=(1, 2), stub=(0, 0), wrong=((1, 1), (2, 1)))
    def pair(first, second):
        require((first, second) == (1, 2), "wrong pair")
        return passed("right pair")

    assert pair(1, 2).passed and pair.judge(pair.solution).passed and not pair.judge(pair.stub).passed


def test_an_exercise_needs_two_wrong_answers():
    with pytest.raises(ValueError, match="two"):
        exercise(solution=1, stub=0, wrong=(2,))


def test_an_unknown_module_is_an_ordinary_error():
    with pytest.raises(AttributeError, match="nb99"):
        checks.nb99  # noqa: B018
