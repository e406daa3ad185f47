"""R-precision and subgroup scores on cases whose answer is known."""

import pytest
import torch

from course_lib.data import ImageSet, to_float
from course_lib.errors import CourseError
from course_lib.evaluation.retrieval import Gallery, r_precision, score_texts


def test_r_precision_is_one_for_copies_and_chance_for_noise():
    gallery, own = torch.randn(400, 16), torch.arange(400)
    assert r_precision(3 * gallery, gallery, own, own, 99) == 1.0
    score = r_precision(torch.randn(4000, 16), gallery, own.repeat(10), own, 9)
    assert abs(score - 0.1) < 0.02


def test_relatives_are_no_distractors_and_everyone_else_may_be():
    gallery = torch.eye(6)
    queries = gallery[1][None]  # its own entry is 0; entry 1, a perfect match, is of the same base
    own = torch.tensor([0])
    near = gallery.clone()
    near[0] = torch.tensor([0.5, 0.5, 0, 0, 0, 0])
    assert r_precision(queries, near, own, torch.tensor([0, 0, 1, 1, 2, 2]), 4) == 1.0
    assert r_precision(queries, near, own, torch.arange(6), 5) == 0.0
    with pytest.raises(CourseError, match="not 5 pictures of other groups"):
        r_precision(queries, near, own, torch.tensor([0, 0, 1, 1, 2, 2]), 5)
    with pytest.raises(CourseError, match="one own entry"):
        r_precision(queries, near, torch.arange(2), torch.arange(6), 4)


class Eye:
    """A judge of grey pictures: their level is the subgroup, and a direction."""

    def predict(self, images, label):
        assert label == "subgroup"
        return self._level(images)

    def embeddings(self, images):
        return torch.nn.functional.one_hot(self._level(images), 12).float()

    def _level(self, images):
        return ((images.mean((1, 2, 3)) + 1) * 127.5 / 20).round().long()


@pytest.fixture
def data():
    """Twelve emoji in two styles; emoji k is grey level 20 k, subgroup k; 0 and 1 share a base."""
    level = torch.arange(12).repeat(2)
    images = (20 * level).to(torch.uint8)[:, None, None, None].expand(24, 3, 4, 4).clone()
    labels = {"emoji": level, "subgroup": level, "base": (level - 1).clamp_min(0)}
    names = {name: [str(k) for k in range(12)] for name in labels}
    return ImageSet("levels", images, labels, names, [[f"level {k}"] for k in range(12)] * 2)


def test_scores_of_right_wrong_and_shuffled_answers(data):
    gallery, own = Gallery.of(data, Eye()), torch.arange(12)
    assert len(gallery) == 12 and gallery.captions[5] == ["level 5"] and gallery.base[:3].tolist() == [0, 0, 1]
    right = score_texts(to_float(data.images[:12]), own, gallery, Eye(), distractors=9)
    assert (right.accuracy, right.balanced, right.r_precision) == (1.0, 1.0, 1.0)
    assert right.shuffled == pytest.approx(1 / 12)
    # Always the same answer: right once in twelve, however it is shuffled.
    one = score_texts(to_float(data.images[3:4]).repeat(12, 1, 1, 1), own, gallery, Eye(), distractors=9)
    assert [one.accuracy, one.shuffled, one.r_precision] == pytest.approx([1 / 12] * 3)


def test_a_frequent_subgroup_raises_the_shuffled_level_but_not_the_balanced_score(data):
    gallery, own = Gallery.of(data, Eye()), torch.tensor([2] * 9 + [3, 4, 5])
    flat = score_texts(to_float(data.images[2:3]).repeat(12, 1, 1, 1), own, gallery, Eye(), distractors=9)
    assert flat.accuracy == flat.shuffled == 0.75 and flat.balanced == 0.25


def test_a_set_without_captions_is_refused(data):
    with pytest.raises(CourseError, match="captions and subgroups"):
        Gallery.of(ImageSet("bare", data.images), Eye())
