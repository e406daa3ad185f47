"""The paper's compute table, and a run beside it."""

import pytest
import torch

from course_lib import profiles as cost


@pytest.mark.parametrize(
    ("row", "expected"),
    zip(
        cost.PAPER,
        [(14.4, 3.11, 4.26), (1260.0, 272.16, 372.96), (1176.0, 254.02, 348.10), (865.2, 186.88, 256.10)],
        strict=True,
    ),
)
def test_the_papers_rows_follow_from_its_assumptions(row, expected):
    [line] = [line for line in cost.cost_table(1.0).splitlines() if line.startswith(row)]
    assert [float(x) for x in line.split()[-3:]] == pytest.approx(expected, rel=0.005)


def test_a_run_of_one_hour_costs_what_its_power_says(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(cost.os, "cpu_count", lambda: 8)
    _, line, *_, assumed = cost.cost_table(3600.0).splitlines()
    assert line.startswith("this notebook")
    assert [float(x) for x in line.split()[2:5]] == [1.0, 0.02, 0.02]
    assert "2 CPU threads at 20 W" in assumed


def test_a_gpu_draws_more_and_the_assumptions_are_said():
    assert "one GPU machine at 600 W" in cost.cost_table(10, "cuda").splitlines()[-1]


def test_a_stopwatch_goes_forward():
    watch = cost.Stopwatch()
    assert 0 <= watch.seconds() <= watch.seconds()
