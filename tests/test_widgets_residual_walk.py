"""The walk through residuals: pure pictures, and a view that a test can operate."""

import io
import time

import pytest
import torch
from PIL import Image

from course_lib.cinn import ConditionalFlow, FlowConfig
from course_lib.errors import CourseError
from course_lib.experts import Autoencoder, AutoencoderConfig, freeze
from course_lib.translation import LowResolution, Translator
from course_lib.widgets.residual_walk import ResidualWalk, slerp


@pytest.fixture(scope="module")
def walk() -> ResidualWalk:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        small = freeze(Autoencoder(AutoencoderConfig(16, 64, (64, 128), (64, 128))))
        large = freeze(Autoencoder(AutoencoderConfig()))
        flow = ConditionalFlow(FlowConfig.quick(128, (64,), embedding_dim=64)).eval()
        translator = Translator(LowResolution(small), flow, large)
        inputs = torch.rand(3, 3, 64, 64) * 2 - 1
        residuals = {"first": torch.randn(128), "second": torch.randn(128)}
    return ResidualWalk(translator, inputs, residuals)


def test_spherical_interpolation():
    a, b = torch.randn(5, 128), torch.randn(5, 128)
    torch.testing.assert_close(slerp(a, b, 0.0), a)
    torch.testing.assert_close(slerp(a, b, 1.0), b)
    middle = slerp(a, b, 0.5)
    torch.testing.assert_close(middle.norm(dim=1), (a.norm(dim=1) + b.norm(dim=1)) / 2)
    assert (torch.lerp(a, b, 0.5).norm(dim=1) < 0.85 * middle.norm(dim=1)).all(), "the straight line is too short"
    torch.testing.assert_close(slerp(a, 2 * a, 0.5), 1.5 * a)
    torch.testing.assert_close(slerp(a, a, 0.3), a)


def test_ends_are_the_translations_of_the_named_residuals(walk):
    inputs_v = torch.stack(list(walk.residuals.values()))
    latent = walk.translator.flow.inverse(inputs_v, walk.conditions[1:2].expand(2, -1))
    pictures = walk.translator.target.decode(latent)
    torch.testing.assert_close(walk.strip(1, "first", "second", [0.0, 1.0]), pictures, atol=1e-4, rtol=0)


def test_render_is_pure_and_shows_two_pictures(walk):
    first = walk.render(0, "first", "second", 0.3)
    assert first == walk.render(0, "first", "second", 0.3)
    assert first != walk.render(0, "first", "second", 0.7)
    assert first != walk.render(2, "first", "second", 0.3) != walk.render(2, "first", "second", 0.3, 0.5)
    width, height = Image.open(io.BytesIO(first)).size
    assert width == 2 * height


def test_the_view_follows_its_controls_in_time(walk):
    view = walk.view()
    start = view.picture.value
    began = time.perf_counter()
    view.controls["amount"].value = 1.0
    seconds = time.perf_counter() - began
    assert view.picture.value != start and view.message.value == ""
    assert seconds < 1.0  # 0.1 on a machine that does nothing else
    view.controls["start"].value = "second"
    ends = view.picture.value
    view.controls["amount"].value = 0.0
    assert view.picture.value == ends, "between a residual and itself there is no way to go"
    assert all(control.description for control in view.controls.values())
    assert not view.controls["amount"].continuous_update


def test_impossible_walks_are_refused(walk):
    inputs = torch.zeros(1, 3, 64, 64)
    with pytest.raises(CourseError, match="two residuals"):
        ResidualWalk(walk.translator, inputs, {"only": torch.zeros(128)})
    with pytest.raises(CourseError, match=r"\(128,\)"):
        ResidualWalk(walk.translator, inputs, {"a": torch.zeros(64), "b": torch.zeros(64)})
