"""Classes for transfer: groups of label values, and a few pictures of each."""

import pytest
import torch

from course_lib.data import (
    TRANSFER_CLASSES,
    ImageSet,
    few_per_class,
    load_emoji,
    regroup,
    transfer_classes,
)
from course_lib.errors import CourseError


@pytest.fixture
def data():
    images = torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1).expand(40, 3, 4, 4)
    return ImageSet("tiny", images, {"kind": torch.arange(40) % 4}, {"kind": ["a", "b", "c", "d"]})


def test_groups_become_classes_and_the_rest_is_left_out(data):
    found = regroup(data, {"first": ["c", "a"], "second": ["d"]}, "kind")
    assert found.classes["class"] == ["first", "second"] and len(found) == 30
    for kind, group in zip(found.labels["kind"].tolist(), found.labels["class"].tolist(), strict=True):
        assert group == {0: 0, 2: 0, 3: 1}[kind]
    assert torch.equal(found.images[:, 0, 0, 0] % 4, found.labels["kind"])


@pytest.mark.parametrize(
    ("groups", "label", "message"),
    [
        ({"x": ["e"]}, "kind", "no value 'e'"),
        ({"x": ["a"], "y": ["a"]}, "kind", "two groups"),
        ({}, "sort", "no label"),
    ],
)
def test_groups_that_do_not_fit_are_refused(data, groups, label, message):
    with pytest.raises(CourseError, match=message):
        regroup(data, groups, label)


def test_few_pictures_are_nested_balanced_and_chosen_by_the_seed(data):
    three, five = (few_per_class(data, count, 1, "kind") for count in (3, 5))
    assert three.labels["kind"].bincount().tolist() == [3] * 4 and five.labels["kind"].bincount().tolist() == [5] * 4
    values = [set(part.images[:, 0, 0, 0].tolist()) for part in (three, five)]
    assert values[0] < values[1]
    assert values[0] != set(few_per_class(data, 3, 2, "kind").images[:, 0, 0, 0].tolist())
    assert len(few_per_class(data, 99, 0, "kind")) == 40
    with pytest.raises(CourseError, match="at least one"):
        few_per_class(data, 0, 0, "kind")
    with pytest.raises(CourseError, match="no label"):
        few_per_class(data, 1)


def test_transfer_classes_are_large_enough_and_no_faces():
    data = transfer_classes(load_emoji())
    assert data.classes["class"] == list(TRANSFER_CLASSES)
    assert data.part("train").labels["class"].bincount().min() >= 90
    assert data.subset(data.split > 0).labels["class"].bincount().min() >= 25
    names = {data.classes["subgroup"][k] for k in data.labels["subgroup"].unique().tolist()}
    assert not any(name.startswith(("face", "person")) for name in names)
