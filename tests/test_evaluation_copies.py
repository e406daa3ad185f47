"""Copies of training pictures are found, and honest samples are not accused."""

import pytest
import torch

from course_lib.errors import CourseError
from course_lib.evaluation.copies import find_copies


@pytest.fixture
def sets():
    draws = torch.Generator().manual_seed(0)
    return [torch.randn(count, 6, generator=draws) for count in (300, 200, 150)]


def test_distances_are_those_of_all_pairs(sets):
    generated, train, unseen = sets
    found = find_copies(generated, train, unseen, block=64)
    nearest = torch.cdist(generated.double(), train.double()).min(1)
    assert torch.equal(found.index, nearest.indices)
    assert torch.allclose(found.generated, nearest.values, atol=1e-6)
    assert torch.allclose(found.unseen, torch.cdist(unseen.double(), train.double()).amin(1), atol=1e-6)


def test_copies_honest_samples_and_strangers(sets):
    fresh, train, unseen = sets
    assert find_copies(train[:50], train, unseen).share() == 1.0
    assert find_copies(fresh, train, unseen).share() == pytest.approx(0.5, abs=0.1)
    assert find_copies(fresh, train, unseen).share(0.1) == pytest.approx(0.1, abs=0.06)
    assert find_copies(fresh + 20, train, unseen).share() == 0.0
    assert find_copies(train, train, unseen).generated.max() == 0.0


def test_what_cannot_be_compared_is_refused(sets):
    generated, train, unseen = sets
    with pytest.raises(CourseError, match="the search for copies needs two sets"):
        find_copies(generated, train[:, :5], unseen)
    with pytest.raises(CourseError, match="the search for copies needs two sets"):
        find_copies(generated, train, unseen[:0])
    with pytest.raises(CourseError, match="not finite"):
        find_copies(generated / 0, train, unseen)
