"""Questions, answers to compare with, and text translators as files."""

import pytest
import torch

from course_lib.cinn import ConditionalFlow, FlowConfig
from course_lib.data import ImageSet
from course_lib.errors import CourseError
from course_lib.evaluation.retrieval import Gallery
from course_lib.training import Card, save_weights
from course_lib.translation import Translator, text_shipped
from course_lib.translation.text import CaptionSource
from course_lib.translation.text_scores import draw_captions, nearest_pictures, questions, real_pictures
from course_lib.translation.text_shipped import KIND, text_tensors


class Letters:
    condition_shape = (3,)

    def encode(self, x):
        return torch.tensor([[float(text.count(letter)) for letter in "abc"] for text in x])


@pytest.fixture
def bank():
    """Three emoji in two styles; picture ``10 · style + emoji`` as grey level; the emoji numbers are not in order."""
    emoji = torch.tensor([7, 2, 5, 7, 2, 5])
    levels = torch.tensor([7, 2, 5, 17, 12, 15])
    images = levels.to(torch.uint8)[:, None, None, None].expand(6, 3, 4, 4).clone()
    captions = [["aaa", "c"], ["bbb"], ["cccab"]] * 2
    return ImageSet("bank", images, {"emoji": emoji}, {"emoji": [str(k) for k in range(8)]}, captions)


def levels(pictures):
    return ((pictures[:, 0, 0, 0] + 1) * 127.5).round().long().tolist()


def test_questions_keep_their_owner():
    gallery = Gallery(torch.arange(2), torch.arange(2), torch.zeros(2, 3), [["a", "b", "c"], ["d"]], 64)
    assert questions(gallery)[0] == ["a", "b", "c", "d"] and questions(gallery)[1].tolist() == [0, 0, 0, 1]
    assert questions(gallery, 1)[0] == ["a", "d"]


def test_retrieval_returns_a_picture_of_the_emoji_with_the_nearest_caption(bank):
    found = [levels(nearest_pictures(["aa", "bb", "abccc"], Letters(), bank, 1, seed)) for seed in range(12)]
    for one in found:
        assert [level % 10 for level in one] == [7, 2, 5]
    assert {level // 10 for one in found for level in one} == {0, 1}, "styles are drawn"


def test_real_pictures_belong_to_their_question(bank):
    own = torch.tensor([0, 1, 2, 2, 0])  # rows follow the emoji's numbers: 2, 5, 7
    for seed in range(5):
        assert [level % 10 for level in levels(real_pictures(bank, own, seed))] == [2, 5, 7, 7, 2]
    assert real_pictures(bank, own, size=2).shape == (5, 3, 2, 2)


class Blocks:
    latent_dim = 12

    def encode(self, x):
        return x.flatten(1)

    def decode(self, latent):
        return latent.view(-1, 3, 2, 2)


@pytest.fixture
def translator():
    source = CaptionSource(Letters(), torch.rand(3), torch.linalg.qr(torch.randn(3, 3))[0][:, :2])
    flow = ConditionalFlow(FlowConfig.quick(12, (2,), hidden_dim=8, blocks=2), torch.Generator().manual_seed(0))
    return Translator(source, flow.eval(), Blocks())


def test_each_question_has_a_residual_of_its_own_and_the_same_seed_repeats(translator):
    drawn = draw_captions(translator, ["ab", "ab", "c"], seed=3)
    assert drawn.shape == (3, 3, 2, 2) and not torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn, draw_captions(translator, ["ab", "ab", "c"], seed=3))
    still = draw_captions(translator, ["ab", "ab", "c"], seed=3, temperature=0.0)
    assert torch.equal(still[0], still[1]) and not torch.equal(still[0], still[2])


def test_a_text_translator_survives_its_file(translator, tmp_path, monkeypatch):
    card = Card("text-to-autoencoder", KIND, translator.flow.config.to_dict())
    save_weights(text_tensors(translator.flow, translator.source), card, tmp_path, bits=32)
    monkeypatch.setattr(text_shipped, "load_expert", lambda *_: Blocks())
    loaded = text_shipped.load_text_to_autoencoder(Letters(), folder=tmp_path)
    assert torch.allclose(draw_captions(loaded, ["abc"], 1), draw_captions(translator, ["abc"], 1), atol=1e-5)
    assert not any(p.requires_grad for p in loaded.flow.parameters())
    save_weights({"x": torch.zeros(2)}, Card("text-to-autoencoder", "regressor", {}), tmp_path)
    with pytest.raises(CourseError, match="is a regressor"):
        text_shipped.load_text_to_autoencoder(Letters(), folder=tmp_path)
