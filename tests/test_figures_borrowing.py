"""The heat map of a class transfer: its order, and what it shows."""

import pytest
import torch

from course_lib.errors import CourseError
from course_lib.figures import borrowing_map, reading_order


def weights():
    """Eight new classes in two families that borrow from two groups of old classes, shuffled."""
    table = 0.01 * torch.randn(8, 30, generator=torch.Generator().manual_seed(0))
    for row in range(8):
        family = row % 2
        table[row, 10 * family + torch.arange(4)] += torch.tensor([0.5, -0.4, 0.3, 0.2 + 0.01 * row])
    return table


def test_classes_that_borrow_alike_stand_together():
    rows, kept = reading_order(weights(), columns=8)
    assert sorted(rows) == list(range(8))
    assert {row % 2 for row in rows[:4]} in ({0}, {1}), "the two families do not alternate"
    assert sorted(kept) == [0, 1, 2, 3, 10, 11, 12, 13], "the columns that are used"
    first = rows[0] % 2
    assert all(column // 10 == first for column in kept[:4]), "columns follow the rows that use them"


def test_the_map_names_both_axes_and_writes_the_largest_weights():
    table = weights()
    new, old = [f"new {k}" for k in range(8)], [f"old {k}" for k in range(30)]
    figure = borrowing_map(table, new, old, columns=8, written=2)
    axes = figure.axes[0]
    rows, kept = reading_order(table, 8)
    assert [label.get_text() for label in axes.get_yticklabels()] == [new[row] for row in rows]
    assert [label.get_text() for label in axes.get_xticklabels()] == [old[column] for column in kept]
    assert len(axes.texts) == 16
    largest = {f"{table[row].abs().amax():.2f}".replace("0.", ".") for row in rows}
    assert largest <= {text.get_text().removeprefix("-") for text in axes.texts}


def test_two_new_classes_are_enough_and_nothing_is_divided_by_zero():
    assert reading_order(torch.zeros(2, 3))[0] == [0, 1]
    assert len(reading_order(torch.zeros(4, 3))[0]) == 4


def test_what_does_not_fit_is_explained():
    with pytest.raises(CourseError, match="do not fit"):
        borrowing_map(torch.zeros(2, 3), ["a"], ["b", "c", "d"])
    with pytest.raises(CourseError, match="finite"):
        reading_order(torch.full((2, 3), float("nan")))
