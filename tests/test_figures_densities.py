"""The pictures of notebook 02's densities: orientation, colours, animation, alt text."""

import io

import pytest
import torch
from PIL import Image

from course_lib import figures


def test_the_plane_is_an_upright_picture():
    points = figures.plane(4, 2.0)
    assert points.shape == (16, 2)
    assert points[0].tolist() == [-1.5, 1.5]  # top left
    assert points[3].tolist() == [1.5, 1.5]  # top right
    assert points[-1].tolist() == [1.5, -1.5]  # bottom right


def test_the_plane_tiles_the_square():
    """The cell centres integrate a Gaussian to 1."""
    density = torch.exp(-0.5 * figures.plane(120, 6.0).double().square().sum(1)) / (2 * torch.pi)
    assert density.sum() * (12.0 / 120) ** 2 == pytest.approx(1.0, abs=1e-6)


def test_colours_are_in_range_and_brighter_with_density():
    density = torch.tensor([[0.0, 0.5], [1.0, 9.0]])
    picture = figures.density_pictures(density, peak=1.0)
    assert picture.shape == (3, 2, 2) and picture.dtype == torch.float32
    assert picture.min() >= -1 and picture.max() <= 1
    light = picture.mean(0)
    assert light[0, 0] < light[0, 1] < light[1, 0]
    assert torch.equal(picture[:, 1, 0], picture[:, 1, 1])  # the peak and all above it look the same


def test_not_a_number_is_drawn_as_zero():
    density = torch.tensor([[float("nan"), 0.0]])
    picture = figures.density_pictures(density, peak=1.0)
    assert torch.equal(picture[:, 0, 0], picture[:, 0, 1])


def test_several_densities_at_once():
    density = torch.rand(5, 2, 8, 8)
    pictures = figures.density_pictures(density, peak=1.0)
    assert pictures.shape == (5, 2, 3, 8, 8)
    assert torch.equal(pictures[3, 1], figures.density_pictures(density[3, 1], peak=1.0))


def test_the_animation_plays_every_frame_and_holds_the_last():
    frames = torch.linspace(-1, 1, 4).view(4, 1, 1, 1, 1).expand(4, 2, 3, 8, 8)
    content = figures.animation(frames, milliseconds=100, hold=900, enlarge=3)
    assert content == figures.animation(frames, milliseconds=100, hold=900, enlarge=3)
    image = Image.open(io.BytesIO(content))
    assert image.format == "PNG" and image.n_frames == 4
    assert image.size == (2 * 10 * 3, 10 * 3)
    durations, greys = [], []
    for index in range(4):
        image.seek(index)
        durations.append(image.info["duration"])
        greys.append(image.convert("RGB").getpixel((6, 6))[0])
    assert durations == [100, 100, 100, 900]
    assert greys == [0, 85, 170, 255]
