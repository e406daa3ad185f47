"""The text box without a browser."""

import io

import pytest
import torch
from PIL import Image

from course_lib.cinn import ConditionalFlow, FlowConfig
from course_lib.translation import Translator
from course_lib.widgets.translations import TextBox


class Length:
    """Captions as their length and their number of vowels."""

    condition_shape = (2,)

    def encode(self, x):
        return torch.tensor([[float(len(text)), float(sum(text.count(v) for v in "aeiou"))] for text in x])


class Blocks:
    """Latents of 12 numbers as 2×2 colour pictures."""

    latent_dim = 12

    def encode(self, x):
        return x.flatten(1)

    def decode(self, latent):
        return latent.view(-1, 3, 2, 2).tanh()


@pytest.fixture
def box():
    flow = ConditionalFlow(FlowConfig(12, (2,), hidden_dim=8, blocks=2), torch.Generator().manual_seed(0))
    return TextBox({"blocks": Translator(Length(), flow.eval(), Blocks())}, samples=3)


def test_rows_are_sentences_and_columns_share_a_residual(box):
    pictures = box.pictures(["a cat", "a long story", "a cat"], "blocks", 5)
    assert pictures.shape == (3, 3, 3, 2, 2)
    # Not to the bit: how a row is rounded may depend on its place in the batch.
    torch.testing.assert_close(pictures[0], pictures[2], rtol=0, atol=1e-5)
    assert (pictures[0] - pictures[1]).abs().max() > 1e-3
    flow = box.translators["blocks"].flow
    latent = pictures.flatten(0, 1).flatten(1).atanh()
    v = flow.encode(latent, Length().encode(["a cat", "a long story", "a cat"]).repeat_interleave(3, 0)).detach()
    drawn = torch.randn(3, 12, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(v.view(3, 3, 12), drawn.expand(3, 3, 12), rtol=0, atol=1e-3)


def test_sample_again_changes_the_residuals_and_a_length_of_zero_removes_them(box):
    same, other = box.pictures(["a cat"], "blocks", 0), box.pictures(["a cat"], "blocks", 1)
    assert torch.equal(same, box.pictures(["a cat"], "blocks", 0)) and not torch.equal(same, other)
    still = box.pictures(["a cat"], "blocks", 0, 0.0)
    assert torch.equal(still, box.pictures(["a cat"], "blocks", 1, 0.0)) and torch.equal(still[0, 0], still[0, 2])


def test_a_picture_has_a_row_for_each_sentence(box):
    one, two = box.render("a cat", " ", "blocks", 0), box.render("a cat", "a dog", "blocks", 0)
    sizes = [Image.open(io.BytesIO(png)).size for png in (one, two)]
    assert sizes[1] == (sizes[0][0], 2 * sizes[0][1]) and one == box.render("", "a cat", "blocks", 0)


def test_the_view_updates_and_says_what_is_missing(box):
    view = box.view()
    before = view.picture.value
    view.controls["sentence"].value = "something else"
    assert view.picture.value != before and view.message.value == ""
    view.controls["sentence"].value = ""
    view.controls["other"].value = ""
    assert "type a sentence" in view.message.value


class Styled(Length):
    """Takes pairs (sentence, style)."""

    names = ("plain", "loud")

    def encode(self, x):
        return super().encode([text for text, _ in x]) + torch.tensor([[float(style == "loud"), 0.0] for _, style in x])


def test_a_style_counts_where_the_target_has_styles(box):
    plain = box.translators["blocks"]
    both = TextBox({"blocks": plain, "styled": Translator(Styled(), plain.flow, Blocks())}, samples=2)
    drawn = [both.pictures(["a cat"], "styled", 0, style=style) for style in ("", "plain", "loud")]
    assert torch.equal(drawn[0], drawn[1]) and not torch.allclose(drawn[0], drawn[2])
    assert torch.equal(both.pictures(["a cat"], "blocks", 0, style="loud"), both.pictures(["a cat"], "blocks", 0))
    assert list(both.view().controls["style"].options) == ["plain", "loud"] and "style" not in box.view().controls
