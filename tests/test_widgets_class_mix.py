"""Mixing classes by hand: pure pictures, mixtures that are what they say, and a view that a test can operate."""

import io

import pytest
import torch
from PIL import Image

from course_lib.errors import CourseError
from course_lib.experts import freeze
from course_lib.gans.stylegan import StyleGAN, StyleGANConfig
from course_lib.generation import open_generator
from course_lib.generation.generator import HyperPictures, StylePictures
from course_lib.hypermod import HyperGenerator
from course_lib.widgets.walks import ClassMix

NAMES = ["cat", "dog", "owl"]


@pytest.fixture(scope="module")
def generator():
    """The course's size of a hyper-modulated generator, with classes that differ."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = HyperGenerator(StyleGAN(StyleGANConfig(latent=64)), 3)
        for head in network.heads:
            torch.nn.init.normal_(head.kernel.weight, std=0.2)
    return HyperPictures(freeze(network), NAMES)


@pytest.fixture
def mix(generator):
    return ClassMix(generator, NAMES, samples=4, seed=3)


def test_a_mixture_is_the_mean_of_class_vectors(mix, generator):
    cat, dog, owl = generator.vectors_of(NAMES)
    torch.testing.assert_close(mix.vector({"dog": 0.3}), dog)
    torch.testing.assert_close(mix.vector({"cat": 1, "owl": 3}), 0.25 * cat + 0.75 * owl)
    torch.testing.assert_close(mix.vector({"cat": 0.0}), (cat + dog + owl) / 3)
    z, noise = generator.latents(4, 3), generator.noise(1, 3)
    for picture, k in ((mix.picture({"dog": 1}, start=2), 2), (mix.picture({"dog": 1}, 2, 3, 1.0), 3)):
        expected = generator.draw(z[k : k + 1], dog[None], noise)[0]
        torch.testing.assert_close(picture, expected, atol=1e-4, rtol=0)


def test_render_is_pure_and_follows_every_value(mix):
    values = {"start": 0, "end": 1, "way": 0.3, "truncation": 1.0, "cat": 0.5, "owl": 0.5}
    first = mix.render(**values)
    assert first == mix.render(**values) and Image.open(io.BytesIO(first)).size[0] >= 256
    for name, value in (("start", 2), ("end", 2), ("way", 0.8), ("truncation", 0.5), ("cat", 0.1)):
        assert mix.render(**values | {name: value}) != first, name


def test_the_static_twin_shows_what_the_widget_shows(mix):
    mixtures = [{"cat": 1}, {"cat": 1, "dog": 1}]
    twin = mix.strip(mixtures, 1, 2)
    assert twin.shape == (3, 2, 3, 32, 32)
    torch.testing.assert_close(twin[1, 1], mix.picture(mixtures[1], 1, 2, 0.5))


def test_the_view_follows_its_controls(mix):
    view = mix.view()
    start = view.picture.value
    for name in ("dog", "way"):
        view.controls[name].value = 0.75
        assert view.picture.value != start and view.message.value == ""
        start = view.picture.value
    assert all(control.description for control in view.controls.values())


def test_kernels_are_made_once_for_a_walk_through_z(mix, generator, monkeypatch):
    made = []
    original = generator.network.modulation
    monkeypatch.setattr(generator.network, "modulation", lambda vectors: made.append(1) or original(vectors))
    for way in (0.0, 0.5, 1.0):
        mix.picture({"cat": 1, "dog": 0.4}, way=way)
    assert len(made) == 1
    mix.picture({"cat": 1, "dog": 0.5})
    assert len(made) == 2


def test_a_shipped_generator_can_be_mixed():
    mix = ClassMix(open_generator("avatar-hypermod"), ["moods", "planets"])
    moods, planets = mix.picture({"moods": 1}), mix.picture({"planets": 1})
    half = mix.picture({"moods": 1, "planets": 1})
    assert min((half - moods).abs().mean(), (half - planets).abs().mean()) > 0.02


def test_impossible_mixtures_are_refused(mix, generator):
    with pytest.raises(CourseError, match="two to 6 classes"):
        ClassMix(generator, ["cat"])
    with pytest.raises(CourseError, match="no class 'cow'"):
        ClassMix(generator, ["cat", "cow"])
    with pytest.raises(CourseError, match="two to 6 classes"):
        ClassMix(StylePictures(generator.network.source))
    with pytest.raises(CourseError, match="'cow' is not among"):
        mix.vector({"cow": 1})
    with pytest.raises(CourseError, match="cancel out"):
        mix.vector({"cat": 1, "dog": -1})
