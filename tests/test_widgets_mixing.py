"""Mixing weights by hand: what they mean, and the widget without a browser."""

import pytest
import torch

from course_lib.bn_transfer import TransferGenerator
from course_lib.errors import CourseError
from course_lib.gans.biggan import BigGANConfig, Generator, start_weights
from course_lib.widgets.walks import MixingDemo

OLD = ["ant", "bee", "cow", "dog"]


@pytest.fixture
def source():
    torch.manual_seed(0)
    network = Generator(BigGANConfig(len(OLD), (16, 16, 8), (8, 8, 8), noise=12, embedding=6, attention=()))
    start_weights(network)
    return network.eval()


@pytest.fixture
def mix(source):
    return MixingDemo(source, OLD, ["bee", "dog"], torch.randn(3, 12))


def test_the_whole_weight_on_one_class_is_that_class(source, mix):
    with torch.no_grad():
        wanted = source(mix.z, source.embed(torch.full((3,), 1)))
    assert torch.allclose(mix.pictures({"bee": 1.0}), wanted, atol=1e-6)


def test_weights_mean_what_the_propagation_layer_does_with_them(source, mix):
    layer = TransferGenerator(source, 1).eval()
    layer.init_at(torch.tensor([[0.0, 0.7, 0.0, -0.4]]))
    with torch.no_grad():
        wanted = layer(mix.z, layer.embed(torch.zeros(3, dtype=torch.long)))
    assert torch.allclose(mix.pictures({"bee": 0.7, "dog": -0.4}), wanted, atol=1e-5)


def test_whole_gammas_differ_unless_the_weights_sum_to_one(mix):
    half, one = {"bee": 0.25, "dog": 0.25}, {"bee": 0.5, "dog": 0.5}
    assert torch.allclose(mix.pictures(one, whole=True), mix.pictures(one), atol=1e-6)
    assert (mix.pictures(half, whole=True) - mix.pictures(half)).abs().max() > 0.01
    assert torch.equal(mix.pictures(half), mix.pictures(half)), "no hook stays behind"


def test_nothing_borrowed_is_a_picture_too(mix):
    assert mix.pictures({}).isfinite().all()


def test_moving_a_slider_changes_the_picture_and_back(mix):
    view = mix.view()
    first = bytes(view.picture.value)
    assert first.startswith(b"\x89PNG")
    view.controls["dog"].value = -0.5
    assert bytes(view.picture.value) != first and view.message.value == ""
    view.controls["whole"].value = True
    assert view.message.value == ""
    view.controls["dog"].value, view.controls["whole"].value = 0.0, False
    assert bytes(view.picture.value) == first
    assert all(control.description for control in view.controls.values())


def test_what_cannot_be_mixed_is_explained(source):
    with pytest.raises(CourseError, match="no old class 'eel'"):
        MixingDemo(source, OLD, ["eel"], torch.randn(1, 12))
    with pytest.raises(CourseError, match="nobody"):
        MixingDemo(source, OLD, [], torch.randn(1, 12))
    table = Generator(BigGANConfig(4, (16, 16), (8, 8), noise=12, embedding=None, attention=()))
    with pytest.raises(CourseError, match="table"):
        MixingDemo(table, OLD, ["ant"], torch.randn(1, 12))
