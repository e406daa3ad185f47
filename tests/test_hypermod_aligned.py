"""A watched self-alignment."""

import pytest
import torch

from course_lib.gans.stylegan import StyleGAN, StyleGANConfig
from course_lib.hypermod import HyperGenerator
from course_lib.hypermod.self_alignment import WatchedAlignment, picture_distance
from course_lib.training import Budget, train

SMALL = StyleGANConfig((8, 8), (8, 8), 6, 2)


@pytest.fixture
def student():
    torch.manual_seed(0)
    return HyperGenerator(StyleGAN(SMALL).eval(), 1, width=5, start="random")


def draws(hyper):
    return torch.randn(4, 6), hyper.synthesis.noise(4)


def test_random_heads_are_not_the_source_and_written_ones_are(student):
    given, label = draws(student), torch.zeros(1, dtype=torch.int64)
    assert picture_distance(student, student.modulation(label), *given) > 0.1
    exact = HyperGenerator(student.source, 1, width=5)
    assert picture_distance(exact, exact.modulation(label), *given) < 1e-5


def test_pictures_are_watched_without_being_learned_from(student):
    method = WatchedAlignment(student, every=2, samples=4)
    history = train(
        method, Budget(40), 4, log_every=2, checkpoint_every=0, preview_every=0, precision="32-true", progress=False
    )
    assert len(history.curve["pictures"]) == len(history.curve["step"]) == 20
    label = torch.zeros(1, dtype=torch.int64)
    z, noise = method.batch(torch.arange(4), torch.Generator().manual_seed(0))
    at_end = picture_distance(student, student.modulation(label), z, noise)
    assert at_end < history.curve["pictures"][0]
    assert history.curve["loss/alignment"][-1] < history.curve["loss/alignment"][0]
