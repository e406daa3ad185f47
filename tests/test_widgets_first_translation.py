"""The widget, the twin and the diagram of notebook 00, with tiny networks that nobody trained."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from course_lib.cinn import ConditionalFlow, FlowConfig
from course_lib.data import ImageSet, load_emoji
from course_lib.errors import CourseError
from course_lib.experts import Autoencoder, AutoencoderConfig, freeze
from course_lib.translation import Translator
from course_lib.translation.superresolution import LowResolution
from course_lib.widgets import first_translation as first


@pytest.fixture(scope="module")
def translator():
    source = LowResolution(freeze(Autoencoder(AutoencoderConfig(8, 6, (4,), (4,)))))
    target = freeze(Autoencoder(AutoencoderConfig(16, 10, (4, 8), (4, 8))))
    flow = ConditionalFlow(FlowConfig(10, (6,), hidden_dim=16, hidden_depth=1, blocks=2))
    flow(torch.randn(32, 10), torch.randn(32, 6))  # the first batch sets ActNorm
    return Translator(source, freeze(flow), target)


@pytest.fixture(scope="module")
def gallery():
    pictures = torch.rand(3, 2, 3, 16, 16) * 2 - 1
    return first.Gallery(pictures, ["cat", "pear", "ship"], ["flat", "soft"])


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)))


def test_the_favourites_are_held_out_emoji_in_all_styles():
    emoji = load_emoji()
    gallery = first.choose(emoji.part("test"), size=32)
    assert gallery.names == list(first.FAVOURITES) and gallery.styles == emoji.classes["style"]
    assert gallery.pictures.shape == (len(first.FAVOURITES), len(gallery.styles), 3, 32, 32)
    place = emoji.classes["emoji"].index("penguin")
    own = (emoji.labels["emoji"] == place) & (emoji.labels["style"] == 2)
    assert torch.equal(gallery.find("penguin", emoji.classes["style"][2]), emoji.batch(own.nonzero()[:, 0], 32))


def test_another_set_gives_evenly_spaced_pictures():
    images = torch.arange(40, dtype=torch.uint8)[:, None, None, None].expand(40, 3, 16, 16)
    gallery = first.choose(ImageSet("mine", images), ["a", "b", "c"])
    assert gallery.pictures.shape == (3, 1, 3, 16, 16)
    assert (gallery.names, gallery.styles) == (["picture 0", "picture 20", "picture 39"], ["mine"])


def test_nothing_to_choose_from_is_said():
    with pytest.raises(CourseError, match="no pictures"):
        first.choose(ImageSet("mine", torch.empty(0, 3, 16, 16, dtype=torch.uint8)))
    with pytest.raises(CourseError, match="none of the wanted"):
        first.choose(load_emoji().part("val"), ["penguin", "no such thing"])


def test_residuals_are_seeded_and_scaled():
    assert torch.equal(first.residuals(3, 4, 10), first.residuals(3, 4, 10))
    assert not torch.equal(first.residuals(3, 4, 10), first.residuals(4, 4, 10))
    assert torch.equal(first.residuals(3, 4, 10, 0.5), 0.5 * first.residuals(3, 4, 10))
    assert not first.residuals(3, 4, 10, 0.0).any()


def test_a_row_is_input_samples_and_the_real_picture(translator, gallery):
    pictures = gallery.pictures[:, 0]
    v = first.residuals(0, 4, 10)
    row = first.side_by_side(translator, pictures, v)
    assert row.shape == (3, 6, 3, 16, 16)
    assert torch.equal(row[:, -1], pictures)
    assert torch.equal(row[:, 0, :, ::2, ::2], translator.source.see(pictures))
    assert torch.equal(row[:, 0, :, ::2, ::2], row[:, 0, :, 1::2, 1::2])
    assert torch.allclose(row[:, 1:-1], translator.render(v, pictures), atol=1e-5)


def test_the_picture_of_the_widget_is_pure_and_has_one_tile_each(translator, gallery):
    picture = gallery.find("pear", "soft")
    png = first.render(translator, picture, seed=1, temperature=1.0, samples=3, enlarge=2)
    assert png == first.render(translator, picture, seed=1, temperature=1.0, samples=3, enlarge=2)
    assert png != first.render(translator, picture, seed=2, temperature=1.0, samples=3, enlarge=2)
    assert pixels(png).shape == (20 + 32, 5 * (32 + 4), 3)
    assert (pixels(png)[:20] < 128).any(), "the tiles have names above them"


def test_at_temperature_zero_all_samples_are_alike(translator, gallery):
    row = first.side_by_side(translator, gallery.find("cat", "flat"), first.residuals(0, 4, 10, 0.0))[0, 1:-1]
    assert (row - row[:1]).abs().max() < 1e-5


def test_moving_a_control_changes_the_picture_and_back(translator, gallery):
    view = first.first_translation(translator, gallery, samples=3)
    start = view.picture.value
    for name, other in (("picture", "ship"), ("style", "soft"), ("seed", 5), ("temperature", 0.3)):
        kept = view.controls[name].value
        view.controls[name].value = other
        assert view.picture.value != start, name
        view.controls[name].value = kept
        assert view.picture.value == start, name
    assert view.message.value == ""


def test_sliders_wait_for_the_mouse_and_have_names(translator, gallery):
    view = first.first_translation(translator, gallery, seed=40)
    assert not view.controls["seed"].continuous_update and not view.controls["temperature"].continuous_update
    assert view.controls["seed"].value == 40
    assert all(control.description for control in view.controls.values())


def test_the_diagram_names_all_its_parts(translator, gallery):
    picture = gallery.find("cat", "flat")
    samples = translator.render(first.residuals(0, 3, 10), picture)[0]
    figure = first.diagram(translator.source.see(picture)[0], samples)
    words = " ".join(text.get_text() for axes in figure.axes for text in axes.texts)
    assert all(part in words for part in ("source expert", "flow", "target expert", "residual", "condition", "latent"))
    assert words.count("frozen") == 2 and words.count("trained") == 1
    assert len(figure.axes) == 5
