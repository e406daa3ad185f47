"""Classes for transfer: groups of label values, and a few pictures of each."""

import pytest
import torch

from course_lib.data import NEW_KINDS, ImageSet, few_per_class, kind_classes, regroup, target_classes
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


def test_targets_are_the_new_kinds_and_only_their_training_part_shrinks():
    whole, few = target_classes(), target_classes(per_class=20, seed=1)
    assert whole.classes["class"] == list(NEW_KINDS)
    for part, count in (("train", 20), ("val", 40), ("test", 40)):
        assert few.part(part).labels["class"].bincount().tolist() == [count] * len(NEW_KINDS)
    assert torch.equal(few.part("test").images, whole.part("test").images)
    two = target_classes(names=["planets", "moods"])
    assert two.classes["class"] == ["planets", "moods"]
    assert torch.equal(two.subset(two.labels["class"] == 1).images, kind_classes(["moods"]).images)
    with pytest.raises(CourseError, match="no value 'stars'"):
        target_classes(names=["stars"])
    with pytest.raises(CourseError, match="at least one"):
        target_classes(per_class=0)


def test_a_folder_of_classes_is_split_and_must_have_classes(tmp_path):
    from PIL import Image

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for k in range(20):
            Image.new("RGB", (8, 8), (k, 0, 0)).save(tmp_path / name / f"{k}.png")
    data = target_classes(f"folder:{tmp_path}", per_class=5, size=16)
    assert data.part("train").labels["class"].bincount().tolist() == [5, 5]
    assert data.part("test").labels["class"].bincount().tolist() == [2, 2] and data.size == 16
    with pytest.raises(CourseError, match="no label 'class'"):
        target_classes("people")
