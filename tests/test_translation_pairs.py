"""Encoded pairs and the loss on them."""

import math

import pytest
import torch

from course_lib.cinn import ConditionalFlow, FlowConfig
from course_lib.data import ImageSet
from course_lib.errors import CourseError
from course_lib.experts import GridAutoencoder, GridAutoencoderConfig, freeze
from course_lib.translation import LowResolution, Pairs, encode_pairs, held_out_nats

TINY = GridAutoencoderConfig(16, 4, (8, 8), (8, 8))


@pytest.fixture
def data() -> ImageSet:
    return ImageSet("noise", torch.randint(0, 256, (207, 3, 16, 16), dtype=torch.uint8))  # two batches


@pytest.fixture
def expert() -> GridAutoencoder:
    return freeze(GridAutoencoder(TINY))


def test_pairs_hold_what_the_experts_say(data, expert):
    source = LowResolution(expert.config.size, expert)
    pairs = encode_pairs(data, source.encode, expert)
    assert (len(pairs), pairs.condition.shape, pairs.mean.shape) == (207, (207, 64), (207, 64))
    posterior = expert.posterior(data.batch(torch.arange(207)))
    torch.testing.assert_close(pairs.mean, posterior.mean)
    torch.testing.assert_close(pairs.std, (0.5 * posterior.log_variance).exp())
    torch.testing.assert_close(pairs.condition, pairs.mean)  # the same expert on both sides
    assert not pairs.mean.requires_grad


def test_latents_are_samples_of_the_posterior():
    pairs = Pairs(torch.zeros(4000, 2), torch.full((4000, 3), 5.0), torch.full((4000, 3), 0.5))
    latents = pairs.latents()
    assert abs(latents.mean() - 5) < 0.05 and abs(latents.std() - 0.5) < 0.02
    assert torch.equal(latents, pairs.latents(0)) and not torch.equal(latents, pairs.latents(1))
    joined = Pairs.join([pairs, pairs])
    assert len(joined) == 8000 and torch.equal(joined.mean[4000:], pairs.mean)


def test_noise_adds_to_the_posteriors_variance(data, expert):
    plain, noisy = (encode_pairs(data, lambda x: x.new_zeros(len(x), 1), expert, noise=n) for n in (0.0, 0.3))
    torch.testing.assert_close(noisy.std.square() - plain.std.square(), torch.full_like(plain.std, 0.09))
    assert torch.equal(noisy.mean, plain.mean)


def test_bad_pairs_are_refused(data, expert):
    with pytest.raises(CourseError, match="nothing to encode"):
        encode_pairs(data.subset([]), lambda x: x, expert)
    with pytest.raises(CourseError, match="one condition, mean and standard"):
        Pairs(torch.zeros(3, 1), torch.zeros(2, 1), torch.zeros(2, 1))


def test_nats_are_those_of_a_known_density():
    """Blocks of zero weight and unit scale make the flow a standard normal density."""
    flow = ConditionalFlow(FlowConfig(6, (2,), hidden_dim=4, hidden_depth=0, blocks=2)).eval()
    with torch.no_grad():
        for block in flow.blocks:
            for parameter in block.coupling.parameters():
                parameter.zero_()
    pairs = Pairs(torch.zeros(5000, 2), torch.zeros(5000, 6), torch.ones(5000, 6))
    entropy = 3 * (1 + math.log(2 * math.pi))
    assert abs(held_out_nats(flow, pairs) - entropy) < 0.1
    assert held_out_nats(flow, pairs) == pytest.approx(held_out_nats(flow, pairs), abs=1e-4)
