"""Digits: the bundled set, the published autoencoder, and both halves of the method at 28 pixels."""

import pytest
import torch

from course_lib.data import load
from course_lib.data.digits import load_digits
from course_lib.errors import CourseError
from course_lib.evaluation.distances import frechet_distance
from course_lib.experts import TargetExpert, fingerprint, freeze
from course_lib.mind2mind import DIGITS, MindMethod, TransferredGAN, encode_set, uniform_noise
from course_lib.mind2mind.digits import DigitAutoencoder, DigitMethod
from course_lib.training import Budget, train

QUIET = {"progress": False, "checkpoint_every": 0, "preview_every": 0}


def test_digits_come_with_the_course():
    data = load("digits", size=28)
    assert len(data) == 1797 and data.images.shape[1:] == (3, 28, 28) and len(data.classes["class"]) == 10
    assert torch.equal(data.images[:, 0], data.images[:, 2]) and data.images.float().std() > 50
    assert 150 < len(data.part("test")) < 200
    assert (data.images[:, :, 0, 0] < 60).float().mean() > 0.9, "dark ground"
    with pytest.raises(CourseError, match="digits"):
        load("digit")


def test_the_published_sizes():
    network = DigitAutoencoder()
    assert sum(p.numel() for p in network.encoder.parameters()) == 617_664
    assert sum(p.numel() for p in network.decoder.parameters()) == 399_105
    assert isinstance(network, TargetExpert)
    codes = network.encode(load_digits().batch(torch.arange(3)))
    assert codes.shape == (3, 256) and codes.abs().max() < 1 and network.decode(codes).shape == (3, 3, 28, 28)
    with pytest.raises(CourseError, match="28 pixels"):
        network(torch.zeros(1, 3, 32, 32))


def test_a_mindgan_of_new_digits_on_an_autoencoder_of_others(tmp_path):
    """Source: 0 to 4. Target: 5 to 9, which the autoencoder has never seen."""
    data = load_digits()
    low = data.labels["class"] < 5
    expert = DigitAutoencoder()
    history = train(DigitMethod(data.subset(low), expert), Budget(60), 64, log_every=20, **QUIET)
    curve = history.curve["loss/autoencoder"]
    assert curve[-1] < curve[0] / 2
    before = fingerprint(freeze(expert))
    codes = encode_set(expert, data.subset(~low), tmp_path, progress=False)
    start = MindMethod(codes, DIGITS)
    z = uniform_noise(len(codes), DIGITS, torch.Generator().manual_seed(0))
    untrained = frechet_distance(codes, start.modules["generator"].eval()(z).detach())
    train(start, Budget(60), 128, **QUIET)
    gan = TransferredGAN(start.modules["generator"], expert)
    assert frechet_distance(codes, gan.codes(z)) < untrained / 2
    assert gan.sample(4).shape == (4, 3, 28, 28) and fingerprint(expert) == before
