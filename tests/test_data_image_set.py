"""Image tensors: ranges, resizing, batches, selections, joining."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.data import ImageSet, concatenate, resize, to_float
from course_lib.errors import CourseError


def make(name: str = "toy", count: int = 10, size: int = 8, seed: int = 0, split: bool = True) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    return ImageSet(
        name=name,
        images=torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator),
        labels={"class": torch.arange(count) % 2, "domain": torch.zeros(count, dtype=torch.int64)},
        classes={"class": ["cat", "dog"], "domain": [name]},
        captions=[[f"{name} {i}", "again"] for i in range(count)],
        split=torch.arange(count) % 3 if split else torch.empty(0, dtype=torch.int64),
    )


def test_float_range_is_exact_at_both_ends_and_keeps_the_source():
    images = torch.tensor([0, 255], dtype=torch.uint8)
    assert to_float(images).tolist() == [-1.0, 1.0] and images.tolist() == [0, 255]
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_float(every).add(1).mul(127.5).round().to(torch.uint8), every)


def test_halving_is_the_mean_of_four():
    images = make(size=8).batch(torch.arange(3))
    expected = images.view(3, 3, 4, 2, 4, 2).mean((3, 5))
    torch.testing.assert_close(resize(images, 4), expected)
    assert resize(images, 8) is images


@settings(max_examples=25, deadline=None)
@given(before=st.integers(1, 20), after=st.integers(1, 20), value=st.floats(-1, 1, width=32))
def test_resize_keeps_flat_pictures_and_the_range(before, after, value):
    flat = resize(torch.full((1, 3, before, before), value), after)
    assert flat.shape == (1, 3, after, after)
    torch.testing.assert_close(flat, torch.full_like(flat, value), atol=1e-5, rtol=0)
    noise = torch.rand(1, 3, before, before).mul(2).sub(1).sign()
    assert resize(noise, after).abs().max() <= 1


def test_batch_range_size_and_flip():
    data = make()
    index = torch.tensor([3, 0, 3])
    plain = data.batch(index)
    assert plain.dtype == torch.float32 and plain.min() >= -1 and plain.max() <= 1
    assert torch.equal(plain[0], plain[2])
    flipped = data.batch(index, flip=torch.tensor([True, False, False]))
    assert torch.equal(flipped[0], plain[0].flip(-1)) and torch.equal(flipped[1:], plain[1:])
    assert data.batch(index, size=4).shape == (3, 3, 4, 4)
    assert torch.equal(data.batch(index, size=4), resize(plain, 4))


def test_batches_cover_everything_in_order():
    data = make(count=7)
    parts = list(data.batches(3))
    assert [len(part) for part in parts] == [3, 3, 1]
    assert torch.equal(torch.cat(parts), data.batch(torch.arange(7)))


def test_subset_keeps_all_fields_together():
    data = make()
    chosen = data.subset([7, 2])
    assert torch.equal(chosen.images, data.images[[7, 2]]) and chosen.captions[0][0] == "toy 7"
    assert chosen.labels["class"].tolist() == [1, 0] and chosen.split.tolist() == [1, 2]
    mask = torch.zeros(10, dtype=torch.bool)
    mask[4] = True
    assert data.subset(mask).captions == [["toy 4", "again"]]
    assert len(data.subset([])) == 0


def test_where_selects_by_value_and_explains_itself():
    data = make()
    assert data.where(**{"class": "dog"}).labels["class"].unique().tolist() == [1]
    with pytest.raises(CourseError, match="no label 'colour': it has class, domain"):
        data.where(colour="red")
    with pytest.raises(CourseError, match="no value 'cow': it is one of cat, dog"):
        data.where(**{"class": "cow"})


def test_parts():
    data = make()
    assert [len(data.part(split)) for split in ("train", "val", "test")] == [4, 3, 3]
    with pytest.raises(CourseError, match="no split 'dev': choose one of train, val, test"):
        data.part("dev")
    with pytest.raises(CourseError, match=r"no fixed split.*random_split"):
        make(split=False).part("val")
    with pytest.raises(CourseError, match=r"no part 'val', only train: .*random_split"):
        data.part("train").part("val")


@settings(max_examples=20, deadline=None)
@given(count=st.integers(3, 60), seed=st.integers(0, 5))
def test_random_split_is_repeatable_and_has_all_parts(count, seed):
    data = make(count=count, size=1, split=False)
    split = data.random_split(seed).split
    assert torch.equal(split, data.random_split(seed).split)
    assert len(split) == count and split.bincount(minlength=3).min() >= 1 and split.mode().values == 0


def test_random_split_of_too_few():
    with pytest.raises(CourseError, match="needs at least 3"):
        make(count=2).random_split()


def test_concatenation_keeps_the_domain_index():
    joined = concatenate([make("a", 4), make("b", 3, seed=1), make("c", 2, seed=2)])
    assert joined.labels["domain"].tolist() == [0] * 4 + [1] * 3 + [2] * 2
    assert joined.classes["domain"] == ["a", "b", "c"] and joined.name == "a+b+c"
    assert torch.equal(joined.where(domain="b").images, make("b", 3, seed=1).images)
    assert joined.labels["class"].tolist() == [0, 1, 0, 1, 0, 1, 0, 0, 1] and joined.captions[4][0] == "b 0"
    assert joined.split.tolist() == [0, 1, 2, 0, 0, 1, 2, 0, 1]


def test_concatenation_numbers_equal_names():
    data = make(count=6)
    joined = concatenate([data.where(**{"class": "cat"}), data.where(**{"class": "dog"})])
    assert joined.classes["domain"] == ["toy 1", "toy 2"]
    assert joined.where(domain="toy 2").labels["class"].tolist() == [1, 1, 1]


def test_concatenation_drops_what_does_not_fit():
    plain = ImageSet("plain", torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    joined = concatenate([make(), plain])
    assert set(joined.labels) == {"domain"} and joined.captions == [] and len(joined.split) == 0


def test_concatenation_refuses_other_sizes_and_nothing():
    with pytest.raises(CourseError, match=r"a 8 px, b 4 px.*size="):
        concatenate([make("a"), make("b", size=4)])
    with pytest.raises(CourseError, match="nothing to concatenate"):
        concatenate([])
