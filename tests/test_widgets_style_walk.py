"""The walk through styles: pure pictures, and a view that a test can operate."""

import io
import time

import pytest
import torch
from PIL import Image

from course_lib.errors import CourseError
from course_lib.gans.stylegan import StyleGAN, StyleGANConfig
from course_lib.widgets.walks import StyleWalk


@pytest.fixture(scope="module")
def walk() -> StyleWalk:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        source = StyleGAN(StyleGANConfig((16, 16, 8), (16, 16, 8), 8, 3)).eval()
        for block in source.synthesis.blocks:
            torch.nn.init.normal_(block.noise1.weight, std=0.3)
    return StyleWalk(source, samples=4)


def test_ends_of_a_walk_are_the_samples_in_both_spaces(walk):
    w = walk.source.mapping(walk.z)
    for space in ("z", "w"):
        for way, sample in ((0.0, 1), (1.0, 2)):
            style = walk.style(1, 2, way, space, 1.0, 3)
            assert torch.allclose(style, w[sample].expand(1, 3, -1), atol=1e-5)
    between = [walk.style(1, 2, 0.5, space, 1.0, 3) for space in ("z", "w")]
    assert not torch.allclose(*between, atol=1e-4), "an arc in z is no straight line in w"


def test_truncation_pulls_both_styles_to_the_mean(walk):
    assert torch.allclose(walk.style(0, 1, 0.3, "z", 0.0, 1), walk.mean.expand(1, 3, -1), atol=1e-5)


def test_the_cut_says_which_blocks_take_the_second_style(walk):
    first, second = (walk.style(k, k, 0.0, "w", 1.0, 3)[:, 0] for k in (0, 1))
    mixed = walk.style(0, 1, 0.0, "w", 1.0, 2)
    assert torch.allclose(mixed[:, 0], first) and torch.allclose(mixed[:, 1], first)
    assert torch.allclose(mixed[:, 2], second)


def test_render_is_pure_and_every_control_matters(walk):
    base = {"first": 0, "second": 1, "space": "w", "way": 0.5, "cut": "nowhere", "truncation": 0.7, "noise": 0}
    picture = walk.render(**base)
    assert picture == walk.render(**base)
    for name, value in (("space", "z"), ("way", 0.2), ("cut", "block 3 on"), ("truncation", 1.0), ("noise", 3)):
        assert walk.render(**(base | {name: value})) != picture, name
    width, height = Image.open(io.BytesIO(picture)).size
    assert width == 3 * height


def test_the_view_follows_its_controls_in_time(walk):
    view = walk.view()
    start = view.picture.value
    began = time.perf_counter()
    view.controls["way"].value = 0.9
    assert time.perf_counter() - began < 1.0  # 0.1 on a machine that does nothing else
    assert view.picture.value != start and view.message.value == ""
    assert view.controls["cut"].options == ("nowhere", "block 3 on", "block 2 on")
    assert all(control.description for control in view.controls.values())


def test_impossible_walks_are_refused(walk):
    with pytest.raises(CourseError, match="two samples"):
        StyleWalk(walk.source, samples=1)
    with pytest.raises(CourseError, match="space z or w"):
        walk.style(0, 1, 0.5, "x", 1.0, 3)
