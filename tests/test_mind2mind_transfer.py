"""A transfer in one call: what it leaves, that it repeats, and that the frozen halves stay."""

import pytest
import torch

from course_lib.data import ImageSet
from course_lib.errors import CourseError
from course_lib.experts import Autoencoder, AutoencoderConfig, fingerprint, freeze
from course_lib.mind2mind import MindConfig, MindGenerator, encode_set, transfer

SMALL = MindConfig(9, 4, (16, 16), (16, 16))


@pytest.fixture
def expert():
    torch.manual_seed(0)
    return freeze(Autoencoder(AutoencoderConfig(16, 5, (4, 4), (4, 4))))


@pytest.fixture
def data():
    return ImageSet("tiny", torch.randint(0, 256, (20, 3, 16, 16), dtype=torch.uint8))


def test_a_transfer_trains_the_small_pair_only_and_repeats(expert, data, tmp_path):
    before, state = fingerprint(expert), torch.get_rng_state()
    found, again = (transfer(expert, data, 24, SMALL, data, 8, seed=3, folder=tmp_path) for _ in range(2))
    assert fingerprint(expert) == before and torch.equal(torch.get_rng_state(), state)
    assert found.gan.generator.config.latent == 5, "the expert's, whatever the sizes said"
    assert torch.equal(found.codes, encode_set(expert, data, tmp_path, progress=False))
    assert torch.equal(found.gan.mean, found.codes.mean(0))
    networks = (found.gan.generator, found.gan.critic)
    assert found.parameters == sum(p.numel() for network in networks for p in network.parameters())
    assert torch.equal(found.gan.sample(4), again.gan.sample(4))
    assert not torch.equal(
        found.gan.sample(4), transfer(expert, data, 24, SMALL, seed=4, folder=tmp_path).gan.sample(4)
    )
    assert found.history.steps == 24 and len(found.history.curve["Fréchet distance of codes"]) == 12


def test_without_steps_the_pair_is_as_it_starts(expert, data, tmp_path):
    blank = transfer(expert, data, 0, SMALL, seed=3, average=None, folder=tmp_path)
    torch.manual_seed(3)
    start = MindGenerator(blank.gan.generator.config)
    assert all(torch.equal(a, b) for a, b in zip(blank.gan.generator.parameters(), start.parameters(), strict=True))
    trained = transfer(expert, data, 12, SMALL, seed=3, average=None, folder=tmp_path)
    assert not torch.equal(trained.gan.sample(2), blank.gan.sample(2))


def test_one_picture_is_no_set(expert, data):
    with pytest.raises(CourseError, match="at least two"):
        transfer(expert, data.subset(torch.arange(1)), 2, SMALL)
