"""Sentences as conditions: the memory of embeddings, the reading, captions, what a batch holds, scores."""

from functools import cached_property

import pytest
import torch

from course_lib.cinn import ConditionalFlow, FlowConfig
from course_lib.data.people import ATTRIBUTES, WORDINGS, combinations, partial_caption
from course_lib.errors import CourseError
from course_lib.experts import LabelExpert, SentenceExpert
from course_lib.translation import Pairs
from course_lib.translation.domains import people_expert
from course_lib.translation.text import CaptionMethod, CaptionSource, belief_targets, new_captions, training_captions
from course_lib.translation.translator import open_variety, read_as_asked

SKIN = ATTRIBUTES["skin"]


class Letters(torch.nn.Module):
    """A sentence model of 26 numbers: how often each letter occurs."""

    condition_shape = (26,)
    opened = 0

    def encode(self, x, **options):
        return torch.tensor([[float(text.count(chr(97 + k))) for k in range(26)] for text in x])


@pytest.fixture
def memory(monkeypatch):
    """Folder → an expert on this model, which counts how often it is opened."""

    def opened(*arguments):
        Letters.opened += 1
        return Letters()

    model = cached_property(opened)
    model.__set_name__(SentenceExpert, "model")
    monkeypatch.setattr(SentenceExpert, "model", model)
    return lambda folder: SentenceExpert("letters", folder=folder)


def test_a_memory_computes_each_caption_once_and_only_what_is_new(tmp_path, memory):
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


def test_typed_sentences_do_not_reach_the_disk_and_a_damaged_file_is_made_anew(tmp_path, memory):
    one = memory(tmp_path)
    one.learn(["a cat"])
    content = one.path.read_bytes()
    one.encode(["something private"])
    assert one.path.read_bytes() == content
    one.path.write_bytes(content[:50])
    again = memory(tmp_path)
    assert torch.equal(again.learn(["a cat"]), one.encode(["a cat"])) and again.computed > 0
    assert memory(tmp_path).computed == 0


def test_a_memory_takes_lists_of_sentences_only(tmp_path, memory):
    for wrong in ("a cat", [1, 2]):
        with pytest.raises(CourseError, match="list of captions"):
            memory(tmp_path).encode(wrong)


def test_a_source_reads_what_captions_name_and_nothing_else(tmp_path):
    """On made-up embeddings in which every value has a direction of its own."""
    generator = torch.Generator().manual_seed(0)
    values = [dict(zip(ATTRIBUTES, one, strict=True)) for one in combinations()[::7]]
    made = [training_captions(one, 3, generator) for one in values]
    named = [one for _, several in made for one in several]
    targets = belief_targets(named)
    directions = torch.randn(targets.shape[1], 60, generator=generator)
    embeddings = targets @ directions + 0.01 * torch.randn(len(targets), 60, generator=generator)
    expert = people_expert({"style": ["a", "b"], **{name: list(known) for name, known in ATTRIBUTES.items()}})
    source = CaptionSource.fit(Rows(embeddings), embeddings, targets, expert, ["a", "b"], ridge=1e-4)
    found = source.read([str(k) for k in range(len(targets))])
    assert (found - targets).abs().max() < 0.2
    condition = source.encode([("3", "b"), ("3", "a")])
    assert condition.shape[1:] == source.condition_shape == expert.condition_shape
    joined = torch.cat([torch.tensor([[0.0, 1.0]]), targets[3:4]], 1)
    assert torch.equal(condition[:1], expert.cross(joined)), "beliefs are rounded to labels"
    assert torch.equal(source.decide(found), targets), "and what is not named stays open"
    plain = LabelExpert({name: len(known) for name, known in ATTRIBUTES.items()})
    alone = CaptionSource(source.sentences, source.mean, source.weight, source.offset, plain)
    assert torch.equal(alone.encode(["3"]), targets[3:4]) and alone.condition_shape == (targets.shape[1],)
    for wrong in (["3"], [("3", "c")]):
        with pytest.raises(CourseError, match="sentence, style"):
            source.encode(wrong)


class Rows:
    """A sentence expert whose sentences are row numbers."""

    def __init__(self, table):
        self.table, self.condition_shape = table, table.shape[1:]

    def encode(self, x):
        return self.table[[int(text) for text in x]]


def test_captions_say_what_they_name_and_new_wordings_are_never_trained():
    generator = torch.Generator().manual_seed(1)
    seen, new = set(), set()
    for one in combinations()[::5]:
        values = dict(zip(ATTRIBUTES, one, strict=True))
        for texts, named in (training_captions(values, 6, generator), new_captions(values, 2, generator)):
            assert len(texts) == len(named)
            for text, said in zip(texts, named, strict=True):
                assert said.items() <= values.items()
                for name, value in said.items():
                    if name == "skin" or (name == "hair" and value != "none"):
                        assert value in text, (text, said)
                if "glasses" not in said:
                    assert "glasses" not in text
                if "skin" not in said:
                    assert "skin" not in text
        seen |= set(training_captions(values, 0, generator)[0])
        new |= set(new_captions(values, 0, generator)[0])
    assert not seen & new and len(seen) == 3 * len(new)


@pytest.mark.parametrize("wording", range(WORDINGS))
def test_a_description_names_everything_once(wording):
    named = {"skin": "tan", "hair": "red", "cut": "curly", "glasses": "yes", "mouth": "sad"}
    text = partial_caption(named, wording)
    assert text.count("tan skin") == text.count("curly red hair") == text.count("glasses") == text.count("sad") == 1
    assert "  " not in text and partial_caption({}, wording) in ("a person", "a face")
    assert "no hair" in partial_caption({"cut": "bald"}, wording)


def test_targets_mark_what_is_named_and_the_bald_have_no_hair_colour():
    rows = belief_targets([{"skin": "tan", "cut": "bald"}, {}])
    names = [(name, value) for name, values in ATTRIBUTES.items() for value in values]
    assert {names[k] for k in rows[0].nonzero()[:, 0].tolist()} == {("skin", "tan"), ("cut", "bald"), ("hair", "none")}
    assert not rows[1].any()


def test_a_batch_holds_a_caption_of_its_own_combination():
    expert = people_expert({"style": ["a", "b"], **{name: list(known) for name, known in ATTRIBUTES.items()}})
    table = torch.zeros(3, 2, 24)
    table.view(6, 24)[torch.arange(6), torch.tensor([0, 1, 2, 3, 4, 5])] = 1.0  # five skins, and "none" for hair
    source = CaptionSource(None, torch.zeros(4), torch.zeros(4, 24), torch.zeros(24), expert, ["a", "b"])
    owner, style = torch.tensor([2, 0, 1, 1]), torch.tensor([1.0, 0.0, 1.0, 0.0])
    pairs = Pairs(style, torch.zeros(4, 8), torch.zeros(4, 8))
    flow = ConditionalFlow(FlowConfig(8, expert.condition_shape, hidden_dim=8, blocks=1))
    method = CaptionMethod(pairs, owner, table, source, flow)
    seen = set()
    for seed in range(20):
        _, condition = method.batch(torch.arange(4), torch.Generator().manual_seed(seed))
        assert torch.equal(condition[:, :2].argmax(1), style.long())
        number = condition[:, 2:26].argmax(1)
        assert torch.equal(number // 2, owner)
        seen |= set(number.tolist())
    assert seen == set(range(6)), "every caption is drawn"


def test_scores_compare_with_what_was_named():
    class Sees:
        def predict(self, pictures, name):
            return pictures[:, 0, 0, 0].long() % len(ATTRIBUTES[name])

    pictures = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    named = [{"skin": SKIN[0]}, {"skin": SKIN[1], "glasses": "no"}, {"skin": SKIN[0]}, {}]
    found = read_as_asked(pictures, named, Sees())
    assert found == {"skin": pytest.approx(2 / 3), "glasses": 0.0}
    samples = torch.tensor([[0.0, 0.0, 1.0], [2.0, 2.0, 2.0]]).view(2, 3, 1, 1, 1).expand(2, 3, 3, 2, 2)
    differ = open_variety(samples, [{"skin": SKIN[0]}, {}], Sees())
    assert differ["skin"] == (pytest.approx(2 / 3), 0.0) and differ["glasses"][1] == pytest.approx(1 / 3)
