"""A watched self-alignment, and its result as a checkpoint."""

import pytest
import torch

from course_lib.errors import CourseError
from course_lib.gans.stylegan import StyleGAN, StyleGANConfig
from course_lib.hypermod import HyperGenerator
from course_lib.hypermod.aligned import (
    WatchedAlignment,
    class_modulation,
    load_aligned,
    picture_distance,
    to_tensors,
)
from course_lib.hypermod.dissect import modulate
from course_lib.training import Budget, Card, save_weights, train

SMALL = StyleGANConfig((8, 8), (8, 8), 6, 2)


@pytest.fixture
def student():
    torch.manual_seed(0)
    return HyperGenerator(StyleGAN(SMALL).eval(), 1, width=5, start="random")


def draws(hyper):
    return torch.randn(4, 6), hyper.synthesis.noise(4)


def test_the_kept_modulation_is_what_the_class_draws(student):
    found, given = modulate(student, class_modulation(student)), draws(student)
    label = torch.zeros(1, dtype=torch.int64)
    for kept, drawn in zip(found.kernels, student.modulation(label).kernels, strict=True):
        assert torch.allclose(kept, drawn, atol=1e-6)
    assert picture_distance(student, found, *given) > 0.1, "random heads are not the source"
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


def test_the_result_survives_as_a_checkpoint_and_others_are_refused(student, tmp_path):
    tensors = to_tensors(class_modulation(student))
    save_weights(tensors, Card("kept", "self-aligned modulation", {}), tmp_path, bits=32)
    opened, card = load_aligned(HyperGenerator(student.source, 1, rank=1), "kept", tmp_path)
    wanted = modulate(student, class_modulation(student))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(opened.kernels, wanted.kernels, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(opened.biases, wanted.biases, strict=True))
    assert card.name == "kept"
    deeper = HyperGenerator(StyleGAN(StyleGANConfig((8, 8, 8), (8, 8, 8), 6, 2)), 1, rank=1)
    with pytest.raises(CourseError, match="another source"):
        load_aligned(deeper, "kept", tmp_path)
    save_weights(tensors, Card("other", "stylegan", {}), tmp_path)
    with pytest.raises(CourseError, match="is a stylegan"):
        load_aligned(student, "other", tmp_path)
