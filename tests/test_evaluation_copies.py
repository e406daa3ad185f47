"""Copies of training pictures are found, and honest samples are not accused."""

import pytest
import torch

from course_lib.errors import CourseError
from course_lib.evaluation.scores import copy_share


@pytest.fixture
def sets():
    draws = torch.Generator().manual_seed(0)
    return [torch.randn(count, 6, generator=draws) for count in (300, 200, 150)]


def test_the_share_is_that_of_all_pairs(sets):
    generated, train, unseen = sets
    near = torch.cdist(generated.double(), train.double()).amin(1)
    limit = torch.cdist(unseen.double(), train.double()).amin(1).quantile(0.3)
    expected = (near < limit).double().mean().item()
    assert copy_share(generated, train, unseen, 0.3, block=64) == pytest.approx(expected)


def test_copies_honest_samples_and_strangers(sets):
    fresh, train, unseen = sets
    assert copy_share(train[:50], train, unseen) == 1.0
    assert copy_share(fresh, train, unseen) == pytest.approx(0.5, abs=0.1)
    assert copy_share(fresh, train, unseen, 0.1) == pytest.approx(0.1, abs=0.06)
    assert copy_share(fresh + 20, train, unseen) == 0.0


def test_what_cannot_be_compared_is_refused(sets):
    generated, train, unseen = sets
    with pytest.raises(CourseError, match="the search for copies needs two sets"):
        copy_share(generated, train[:, :5], unseen)
    with pytest.raises(CourseError, match="the search for copies needs two sets"):
        copy_share(generated, train, unseen[:0])
    with pytest.raises(CourseError, match="not finite"):
        copy_share(generated / 0, train, unseen)
