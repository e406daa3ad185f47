"""Figures of a comparison: they draw what the card says, and name what it lacks."""

import pytest

from course_lib.errors import CourseError
from course_lib.training import Card
from course_lib.widgets.comparison import amount_figure, curve_figure, last_value, over_seeds, repetitions


def card():
    curve = {"step": [50, 100]}
    for k, run in enumerate(("ours", "free", "ours, 5 pictures")):
        curve[f"{run}: distance"] = [2.0 + k, 1.0 + k]
        curve[f"{run}: distance, deviation"] = [0.2, 0.1]
        curve[f"{run}: accuracy"] = [0.1, 0.2]
    return Card("a-comparison", "comparison", {}, curve=curve)


def test_lines_are_the_curves_of_the_card():
    figure = curve_figure(card(), {"ours": "propagation", "free": "free"}, {"distance": "Distance", "accuracy": "A"})
    first, second = figure.axes
    assert first.get_title() == "Distance" and second.get_title() == "A"
    assert [list(line[0].get_ydata()) for line in first.containers] == [[2.0, 1.0], [3.0, 2.0]]
    assert [text.get_text() for text in second.get_legend().get_texts()] == ["propagation", "free"]


def test_amounts_show_the_last_values_with_their_deviations():
    panels = {"pictures a class": {"propagation": [("5", "ours, 5 pictures"), ("20", "ours")]}}
    figure = amount_figure(card(), panels, "distance", "kernel distance")
    (axis,) = figure.axes
    assert list(axis.containers[0][0].get_ydata()) == [3.0, 1.0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["5", "20"]
    assert axis.get_ylabel() == "kernel distance"
    assert last_value(card(), "free", "distance") == (2.0, 0.1)
    assert last_value(card(), "free", "accuracy") == (0.2, 0.0), "no deviation in the card: no bar"


def test_seeds_become_a_mean_and_a_deviation():
    curve = {"step": [50, 100], "free | 5 pictures | seed 1: distance": [4.0, 3.0]}
    for seed, end in enumerate((1.0, 2.0, 6.0)):
        curve[f"ours | 50 pictures | seed {seed}: distance"] = [2.0, end]
    repeated = Card("a-comparison", "comparison", {}, curve=curve)
    ours = [f"ours | 50 pictures | seed {seed}" for seed in range(3)]
    assert repetitions(repeated) == {"free | 5 pictures": ["free | 5 pictures | seed 1"], "ours | 50 pictures": ours}
    found = over_seeds(repeated)
    assert last_value(found, "ours | 50 pictures", "distance") == (3.0, pytest.approx(7**0.5))
    assert found.curve["ours | 50 pictures: distance"] == [2.0, 3.0]
    assert last_value(found, "free | 5 pictures", "distance") == (3.0, 0.0), "one seed: no deviation"
    assert found.curve["step"] == [50, 100] and "step, deviation" not in found.curve


def test_curves_over_seconds():
    timed = card()
    timed.curve["ours: seconds"] = [7.0, 14.0]
    (axis,) = curve_figure(timed, {"ours": "ours"}, {"distance": "Distance"}, over="seconds").axes
    assert list(axis.containers[0][0].get_xdata()) == pytest.approx([7.0, 14.0], rel=0.02)
    assert axis.get_xlabel() == "seconds"
    with pytest.raises(CourseError, match="no curve 'free: seconds'"):
        curve_figure(timed, {"free": "free"}, {"distance": "Distance"}, over="seconds")


def test_a_missing_run_is_named_with_those_that_there_are():
    with pytest.raises(CourseError, match=r"no curve 'theirs: distance': its runs are free, ours, ours, 5 pictures"):
        curve_figure(card(), {"theirs": "theirs"}, {"distance": "Distance"})
