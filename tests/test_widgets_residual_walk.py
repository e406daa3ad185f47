"""The walk through residuals: pure pictures, and a view that a test can operate."""

import io

import pytest
import torch
from PIL import Image

from course_lib.cinn import GridFlow, GridFlowConfig
from course_lib.errors import CourseError
from course_lib.experts import GridAutoencoder, GridAutoencoderConfig, freeze
from course_lib.generation.generator import slerp
from course_lib.translation import LowResolution, Translator
from course_lib.widgets.picture_view import LABEL_HEIGHT
from course_lib.widgets.walks import ResidualWalk


@pytest.fixture(scope="module")
def walk() -> ResidualWalk:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        target = freeze(GridAutoencoder(GridAutoencoderConfig(32, 4, (8, 8), (8, 8))))
        flow = GridFlow(GridFlowConfig(4, 8, (3, 8, 8), hidden_dim=8, blocks=2), gain=1.0)
        flow(torch.randn(8, 256), torch.randn(8, 3, 8, 8))
        inputs = {name: torch.rand(3, 32, 32) * 2 - 1 for name in ("a face", "another")}
        return ResidualWalk(Translator(LowResolution(8), flow, target), inputs, stops=4)


def test_spherical_interpolation():
    a, b = torch.randn(5, 128), torch.randn(5, 128)
    torch.testing.assert_close(slerp(a, b, 0.0), a)
    torch.testing.assert_close(slerp(a, b, 1.0), b)
    middle = slerp(a, b, 0.5)
    torch.testing.assert_close(middle.norm(dim=1), (a.norm(dim=1) + b.norm(dim=1)) / 2)
    assert (torch.lerp(a, b, 0.5).norm(dim=1) < 0.85 * middle.norm(dim=1)).all(), "the straight line is too short"
    torch.testing.assert_close(slerp(a, 2 * a, 0.5), 1.5 * a)
    torch.testing.assert_close(slerp(a, a, 0.3), a)


def test_whole_positions_are_the_random_residuals_under_the_chosen_input(walk):
    latent = walk.translator.flow.inverse(walk.stops, walk.conditions[1:].expand(4, -1, -1, -1))
    pictures = walk.translator.target.decode(latent)
    torch.testing.assert_close(walk.strip("another", [0.0, 1.0, 2.0, 3.0]), pictures, atol=1e-4, rtol=0)
    torch.testing.assert_close(walk.residual(1.0, 0.5), 0.5 * walk.stops[1])


def test_render_is_pure_and_shows_input_answer_and_the_answer_shrunk(walk):
    first = walk.render("a face", 0.3)
    assert first == walk.render("a face", 0.3) != walk.render("a face", 0.7)
    assert first != walk.render("another", 0.3) != walk.render("another", 0.3, 0.5)
    width, height = Image.open(io.BytesIO(first)).size
    assert width == 3 * (height - LABEL_HEIGHT)


def test_the_view_follows_its_controls(walk):
    view = walk.view()
    start = view.picture.value
    view.controls["position"].value = 1.5
    assert view.picture.value != start and view.message.value == ""
    view.controls["position"].value = 0.0
    assert view.picture.value == start
    view.controls["name"].value = "another"
    assert view.picture.value == walk.render("another", 0.0)
    assert all(control.description for control in view.controls.values())


def test_impossible_walks_are_refused(walk):
    with pytest.raises(CourseError, match="two residuals"):
        ResidualWalk(walk.translator, {"a": torch.zeros(3, 32, 32)}, stops=1)
    with pytest.raises(CourseError, match="inputs"):
        ResidualWalk(walk.translator, {})
