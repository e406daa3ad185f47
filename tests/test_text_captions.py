"""Captions as conditions: the memory of sentences, principal components, tables of captions, what a batch holds."""

import pytest
import torch

from course_lib.cinn import ConditionalFlow, FlowConfig
from course_lib.data import ImageSet, load_emoji
from course_lib.errors import CourseError
from course_lib.experts import SentenceMemory
from course_lib.training import Budget, train
from course_lib.translation import Pairs
from course_lib.translation.text import (
    CaptionMethod,
    CaptionSource,
    CaptionTable,
    first_pictures,
    held_out,
    with_subgroups,
)


class Letters:
    """A sentence expert of 26 numbers: how often each letter occurs."""

    condition_shape = (26,)
    opened = 0

    def __init__(self, model="letters", device="cpu"):
        type(self).opened += 1

    def encode(self, x):
        return torch.tensor([[float(text.count(chr(97 + k))) for k in range(26)] for text in x])


def memory(folder):
    return SentenceMemory("letters", folder=folder, open_model=Letters)


def test_a_memory_computes_each_caption_once_and_only_what_is_new(tmp_path):
    captions = ["a cat", "a dog", "a cat"]
    first = memory(tmp_path)
    assert torch.equal(first.learn(captions), Letters().encode(captions))
    computed = first.computed
    first.learn(captions)
    assert first.computed == computed
    Letters.opened, again = 0, memory(tmp_path)
    assert torch.equal(again.encode(captions), first.encode(captions)) and Letters.opened == 0
    assert torch.equal(again.encode(["a bee", "a dog"]), Letters().encode(["a bee", "a dog"])) and again.computed == 1
    assert again.condition_shape == (26,)


def test_typed_sentences_do_not_reach_the_disk_and_a_damaged_file_is_made_anew(tmp_path):
    one = memory(tmp_path)
    one.learn(["a cat"])
    content = one.path.read_bytes()
    one.encode(["something private"])
    assert one.path.read_bytes() == content
    one.path.write_bytes(content[:50])
    again = memory(tmp_path)
    assert torch.equal(again.learn(["a cat"]), one.encode(["a cat"])) and again.computed > 0
    assert memory(tmp_path).computed == 0


def test_a_memory_takes_lists_of_sentences_only(tmp_path):
    for wrong in ("a cat", [1, 2]):
        with pytest.raises(CourseError, match="list of captions"):
            memory(tmp_path).encode(wrong)


def embeddings(count=300):
    """Two wide directions and eight narrow ones around a far mean."""
    spread = torch.tensor([5.0, 3.0] + [0.1] * 8)
    return torch.randn(count, 10, generator=torch.Generator().manual_seed(0)) * spread + 7


def test_the_source_keeps_the_wide_directions_at_variance_one():
    x = embeddings()
    source = CaptionSource.fit(Letters(), x, 2)
    condition = source.project(x)
    assert source.condition_shape == (2,) and condition.shape == (300, 2)
    assert condition.mean(0).abs().max() < 1e-4 and abs(condition.var(0).mean() - 1) < 0.01
    direction = torch.linalg.qr(source.axes).Q
    assert (x @ direction).var(0).sum() / x.var(0).sum() > 0.99
    restored = CaptionSource(Letters(), *source.tensors().values())
    assert torch.allclose(restored.project(x), condition, atol=1e-6)


def test_discriminants_find_the_direction_that_tells_classes_apart():
    labels = torch.arange(300) % 2
    x = embeddings()
    x[:, 4] += 2.0 * labels  # a narrow direction: principal components pass it over
    both = CaptionSource.fit(Letters(), x, 2, labels, 1)
    condition = both.project(x)
    assert both.condition_shape == (3,) and abs(condition[:, 2].var() - 1) < 0.01
    gap = [(c[labels == 1].mean() - c[labels == 0].mean()).abs() / c[labels == 0].std() for c in condition.T]
    assert gap[2] > 5 > 1 > max(gap[:2])
    with pytest.raises(CourseError, match="need labels"):
        CaptionSource.fit(Letters(), x, 2, None, 1)


def test_components_need_more_captions_than_there_are_components():
    with pytest.raises(CourseError, match="take fewer"):
        CaptionSource.fit(Letters(), embeddings(5), 5)
    with pytest.raises(CourseError, match="take fewer"):
        CaptionSource.fit(Letters(), embeddings(), 11)


@pytest.fixture
def table():
    captions = [["aa", "b"], ["c", "dd", "eee"], ["f"]]
    source = CaptionSource(Letters(), torch.zeros(26), torch.eye(26))
    return captions, source, CaptionTable.of(captions, source)


def test_a_table_draws_every_caption_of_the_right_thing_and_no_other(table):
    captions, source, rows = table
    owner = torch.tensor([0, 1, 2]).repeat(200)
    drawn = rows.draw(owner, torch.Generator().manual_seed(0))
    for k, names in enumerate(captions):
        found, counts = drawn[owner == k].unique(dim=0, return_counts=True)
        wanted = source.encode(names)
        assert {tuple(row.tolist()) for row in found} == {tuple(row.tolist()) for row in wanted}
        assert counts.min() > 0.6 * 200 / len(names)
    noisy = rows.draw(owner, torch.Generator().manual_seed(0), 0.3) - drawn
    assert abs(noisy.std() - 0.3) < 0.02


def test_a_thing_without_captions_is_refused(table):
    with pytest.raises(CourseError, match="needs a caption"):
        CaptionTable.of([["a"], []], table[1])


def test_batches_pair_a_target_with_its_own_captions_and_relatives_share_their_chance(table):
    captions, source, rows = table
    owner = torch.arange(3).repeat(4)
    latents = Pairs(torch.zeros(12, 1), owner[:, None].float().repeat(1, 4), torch.zeros(12, 4))
    flow = ConditionalFlow(FlowConfig.quick(4, (26,), hidden_dim=8, blocks=1))
    method = CaptionMethod(latents, owner, rows, torch.tensor([9, 9, 1]), flow, 0.0)
    latent, condition = method.batch(torch.arange(3000) % 12, torch.Generator().manual_seed(0))
    for k, names in enumerate(captions):
        mine = condition[latent[:, 0] == k]
        wanted = {tuple(row.tolist()) for row in source.encode(names)}
        assert {tuple(row.tolist()) for row in mine.unique(dim=0)} == wanted
    share = torch.bincount(latent[:, 0].long()) / 3000
    assert torch.allclose(share, torch.tensor([0.2, 0.2, 0.6]), atol=0.04), "1/3, 1/3, 1"


def test_training_learns_what_the_caption_says(table):
    _, source, rows = table
    owner = torch.arange(3).repeat(100)
    means = torch.tensor([[3.0, 0, 0, 0], [0, 3.0, 0, 0], [0, 0, 3.0, 0]])
    latents = Pairs(torch.zeros(300, 1), means[owner], torch.full((300, 4), 0.3))
    config = FlowConfig.quick(4, (26,), embedding_dim=8, hidden_dim=32, hidden_depth=1, blocks=3, embedder_depth=0)
    flow = ConditionalFlow(config, torch.Generator().manual_seed(0))
    method = CaptionMethod(latents, owner, rows, torch.ones(3), flow, 0.05)
    train(method, Budget(250), 128, progress=False, checkpoint_every=0, preview_every=0)
    condition = source.encode(["eee", "aa", "f"])
    drawn = flow.eval().sample(condition.repeat_interleave(50, 0), 1.0, torch.Generator().manual_seed(0))
    assert drawn.view(3, 50, 4).mean(1).argmax(1).tolist() == [1, 0, 2]


def test_first_pictures_held_out_pairs_and_subgroups():
    images = torch.zeros(6, 3, 4, 4, dtype=torch.uint8)
    labels = {"emoji": torch.tensor([5, 2, 9, 5, 2, 9]), "subgroup": torch.tensor([0, 1, 2, 0, 1, 2])}
    names = {"emoji": [str(k) for k in range(10)], "subgroup": ["x", "y", "z"]}
    data = ImageSet("toy", images, labels, names, [["aa"], ["b", "bb"], ["c"]] * 2)
    assert data.subset(first_pictures(data)).labels["emoji"].tolist() == [2, 5, 9]
    source = CaptionSource(Letters(), torch.zeros(26), torch.eye(26))
    latents = Pairs(torch.zeros(6, 1), torch.arange(6.0)[:, None], torch.zeros(6, 1))
    pairs = held_out(data, latents, source, 1)
    assert torch.equal(pairs.condition, source.encode(["aa", "bb", "c"] * 2)) and torch.equal(pairs.mean, latents.mean)
    assert with_subgroups(data, ["z", "x"]).labels["subgroup"].tolist() == [0, 2, 0, 2]


def test_no_caption_of_a_held_out_emoji_is_one_of_the_training_part():
    data = load_emoji()
    captions = {part: {text for names in data.part(part).captions for text in names} for part in ("train", "test")}
    assert captions["train"] and captions["test"] and not captions["train"] & captions["test"]
