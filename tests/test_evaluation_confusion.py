"""Confusion: probabilities of values become groups, and shares are those of the row."""

import pytest
import torch

from course_lib.errors import CourseError
from course_lib.evaluation.confusion import confusion, most_probable_group
from course_lib.widgets.confusion import confusion_figure

VALUES = ["cat", "dog", "rose", "sun"]


def test_the_values_of_a_group_count_together():
    probabilities = torch.tensor([[0.3, 0.25, 0.35, 0.1], [0.1, 0.1, 0.2, 0.6]])
    groups = {"plants": ["rose"], "animals": ["dog", "cat"]}
    assert most_probable_group(probabilities, VALUES, groups).tolist() == [1, 0], "an animal; the sun is not offered"
    with pytest.raises(CourseError, match="no value 'tulip'"):
        most_probable_group(probabilities, VALUES, {"plants": ["tulip"]})
    with pytest.raises(CourseError, match="4 values do not fit"):
        most_probable_group(probabilities[:, :3], VALUES, groups)


def test_rows_are_what_was_asked_for():
    found = confusion(torch.tensor([0, 0, 0, 0, 1]), torch.tensor([0, 2, 2, 2, 1]), 3)
    assert found.tolist() == [[0.25, 0, 0.75], [0, 1, 0], [0, 0, 0]]
    with pytest.raises(CourseError, match="from 0 to 2"):
        confusion(torch.tensor([0]), torch.tensor([3]), 3)
    with pytest.raises(CourseError, match="cannot be compared"):
        confusion(torch.tensor([0]), torch.tensor([0, 1]), 3)


def test_every_field_of_the_figure_says_its_share():
    figure = confusion_figure({"drawn": torch.tensor([[0.25, 0.75], [0, 1.0]]), "real": torch.eye(2)}, ["a", "b"])
    first, second = figure.axes
    assert [text.get_text() for text in first.texts] == ["25%", "75%", "0%", "100%"]
    assert second.get_title() == "real" and first.get_xlabel() == "the judge sees"
    with pytest.raises(CourseError, match="3 classes do not fit"):
        confusion_figure({"real": torch.eye(2)}, ["a", "b", "c"])
