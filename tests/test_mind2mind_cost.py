"""Cost of a step: counted against what can be worked out by hand, and the ratio the method is about."""

import time

import pytest
import torch
from torch import nn

from course_lib.errors import CourseError
from course_lib.experts import fingerprint
from course_lib.gans.alae import ALAE
from course_lib.gans.alae_config import PUBLISHED_ALAE, ALAEConfig
from course_lib.mind2mind import MindConfig
from course_lib.mind2mind.cost import (
    alae_iteration,
    config_at,
    count_flops,
    forward_flops,
    iteration_flops,
    iteration_seconds,
    mind_iteration,
)


def test_a_product_and_its_sum_are_two():
    linear, conv = nn.Linear(7, 5), nn.Conv2d(3, 4, 3, padding=1)
    assert count_flops(lambda: linear(torch.zeros(2, 7))) == 2 * 2 * 7 * 5
    assert count_flops(lambda: conv(torch.zeros(1, 3, 8, 8))) == 2 * 64 * 9 * 3 * 4
    # Backward: the product for the input and the one for the weight.
    x = torch.zeros(2, 7, requires_grad=True)
    assert count_flops(lambda: linear(x).sum().backward()) == 3 * 2 * 2 * 7 * 5


def test_one_pass_through_the_small_pair():
    config = MindConfig()
    generator = 128 * 128 + 128 * 256 + 256 * 512 + 512 * 512
    critic = 512 * 512 + 512 * 256 + 256 * 128 + 128
    # Per critic step: the fakes, both scores with their backward (no gradient for the codes), then the penalty.
    least = 5 * (2 * generator + 3 * 2 * 2 * critic)
    found = iteration_flops(8, config=config)[1]
    assert least < found < 3 * least


def test_the_ratio_grows_with_the_pictures():
    ratios = [whole / small for whole, small in (iteration_flops(64), iteration_flops(1024))]
    assert 1000 < ratios[0] < ratios[1] / 2
    flops = forward_flops(1024)
    # The authors' code, which resamples apart from convolving up to 64 pixels, takes 64.5e9 for each.
    assert 50e9 < flops["encoder"] < 64.5e9 and 50e9 < flops["decoder"] < 64.5e9


def test_levels_of_the_published_model():
    assert config_at(1024) == PUBLISHED_ALAE["ffhq"]
    assert config_at(64).size == 64 and config_at(64).channels == (512, 512, 512, 512, 256)
    for size in (48, 4, 2048):
        with pytest.raises(CourseError, match="1024"):
            config_at(size)


def test_a_counted_iteration_leaves_the_network_as_it_was():
    network = ALAE(ALAEConfig((6, 4), 5, 2))
    before = fingerprint(network)
    for penalised in (True, False):
        alae_iteration(network, torch.randn(2, 3, 8, 8), penalised)()
    mind_iteration(MindConfig(5, 4, (8,), (8,)), 4)()
    assert fingerprint(network) == before and all(p.grad is None for p in network.parameters())


def test_seconds_are_those_of_the_fastest_call():
    naps = iter([0.0, 0.05, 0.01, 0.03])
    assert 0.01 <= iteration_seconds(lambda: time.sleep(next(naps))) < 0.03
