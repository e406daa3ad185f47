"""What Mind2Mind is compared with: the cost of a step, the whole GAN with every layer trained, and the comparison."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from course_lib.data import ImageSet
from course_lib.errors import CourseError
from course_lib.experts import GridAutoencoder, GridAutoencoderConfig, fingerprint, freeze
from course_lib.gans.alae import ALAE, PUBLISHED_ALAE, ALAEConfig
from course_lib.mind2mind import MindConfig, StyleExpert, TransferredGAN, gradient_penalty, uniform_noise
from course_lib.profiles import Profile
from course_lib.recipes import mind2mind as comparison
from course_lib.recipes.mind2mind import (
    WholeMethod,
    alae_iteration,
    config_at,
    count_flops,
    iteration_flops,
    iteration_seconds,
    mind_iteration,
)
from course_lib.recipes.recipe import Job
from course_lib.training import Budget, load_weights, train

QUIET = {"progress": False, "checkpoint_every": 0, "preview_every": 0}
SMALL = MindConfig(5, 4, (16, 16), (16, 16))


@pytest.fixture
def expert():
    torch.manual_seed(0)
    grid = GridAutoencoderConfig(16, 3, (4,), (4,), (0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    network = StyleExpert(ALAE(ALAEConfig((8, 6), 5, 2, colours=3, bounded=False)), GridAutoencoder(grid))
    for module in norms(network):  # statistics that a batch of noise does not have
        module.running_mean.normal_()
        module.running_var.uniform_(1, 2)
    return freeze(network)


@pytest.fixture
def data():
    images = torch.randint(0, 256, (24, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageSet("tiny", images, {"style": torch.zeros(24, dtype=torch.int64)}, {"style": ["personas", "micah"]})


def norms(module):
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


# --- the cost of a step ----------------------------------------


def test_a_product_and_its_sum_are_two():
    linear, conv = nn.Linear(7, 5), nn.Conv2d(3, 4, 3, padding=1)
    assert count_flops(lambda: linear(torch.zeros(2, 7))) == 2 * 2 * 7 * 5
    assert count_flops(lambda: conv(torch.zeros(1, 3, 8, 8))) == 2 * 64 * 9 * 3 * 4
    # Backward: the product for the input and the one for the weight.
    x = torch.zeros(2, 7, requires_grad=True)
    assert count_flops(lambda: linear(x).sum().backward()) == 3 * 2 * 2 * 7 * 5


def test_one_pass_through_the_small_pair():
    generator = 128 * 128 + 128 * 256 + 256 * 512 + 512 * 512
    critic = 512 * 512 + 512 * 256 + 256 * 128 + 128
    # Per critic step: the fakes, both scores with their backward (no gradient for the codes), then the penalty.
    least = 5 * (2 * generator + 3 * 2 * 2 * critic)
    assert least < iteration_flops(8)[1] < 3 * least


def test_the_ratio_grows_with_the_pictures():
    ratios = [whole / small for whole, small in (iteration_flops(64), iteration_flops(1024))]
    assert 1000 < ratios[0] < ratios[1] / 2


def test_levels_of_the_published_model():
    assert config_at(1024) == PUBLISHED_ALAE["ffhq"] and config_at(64).channels == (512, 512, 512, 512, 256)
    for size in (48, 4, 2048):
        with pytest.raises(CourseError, match="1024"):
            config_at(size)


def test_a_counted_iteration_leaves_the_network_as_it_was():
    network = ALAE(ALAEConfig((6, 4), 5, 2))
    before = fingerprint(network)
    alae_iteration(network, torch.randn(2, 3, 8, 8))()
    mind_iteration(MindConfig(5, 4, (8,), (8,)), 4)()
    assert fingerprint(network) == before and all(p.grad is None for p in network.parameters())


def test_seconds_are_those_of_the_fastest_call():
    clock = iter([0.0, 9.0, 10.0, 15.0, 20.0, 21.0, 30.0, 33.0])  # the first call warms up
    assert iteration_seconds(lambda: None, clock=clock.__next__) == 1.0


# --- the whole GAN ----------------------------------------


def test_fine_tuning_starts_from_the_transferred_gan(expert, data):
    method = WholeMethod(data, expert, SMALL)
    generator, critic = (method.modules[name].eval() for name in ("generator", "critic"))
    z = uniform_noise(6, SMALL, torch.Generator().manual_seed(0))
    gan = TransferredGAN(generator.small, expert, critic.small)
    with torch.no_grad():
        torch.testing.assert_close(generator(z).clamp(-1, 1), gan.draw(z))
        torch.testing.assert_close(critic(data.batch(torch.arange(6))), gan.score(data.batch(torch.arange(6))))
    assert not any(norm.training for norm in norms(generator.train().large) + norms(critic.train().large))


def test_everything_trains_and_the_expert_stays(expert, data):
    before = fingerprint(expert)
    for fine_tuned in (True, False):
        method = WholeMethod(data, expert, SMALL, fine_tuned=fine_tuned, average=0.9)
        start = {name: {k: p.clone() for k, p in m.named_parameters()} for name, m in method.modules.items()}
        history = train(method, Budget(3), 8, **QUIET)
        for name, module in method.modules.items():
            moved = {k for k, p in module.named_parameters() if not torch.equal(p, start[name][k])}
            # Layers of sizes that growing would pass through have no part in the last one.
            assert {k for k in set(start[name]) - moved if "_rgb." not in k} == set()
        pictures = WholeMethod.sample(history.averaged["generator"].eval(), torch.zeros(3, 4))
        assert pictures.shape == (3, 3, 16, 16) and pictures.abs().max() <= 1
    assert fingerprint(expert) == before


def test_a_start_from_scratch_is_random_and_normalises_in_the_generator_only(expert, data):
    method = WholeMethod(data, expert, SMALL, fine_tuned=False, seed=7)
    generator, critic = (method.modules[name].train() for name in ("generator", "critic"))
    assert all(norm.training for norm in norms(generator.large)) and norms(generator.large)
    assert not any(norm.training for norm in norms(critic.large)) and norms(critic.large)
    assert not torch.equal(generator.large.autoencoder.from_latent.weight, expert.autoencoder.from_latent.weight)
    # Each picture's score is its own, whatever else is in the batch.
    images = data.batch(torch.arange(8))
    torch.testing.assert_close(critic(images)[:2], critic(images[:2]))


def test_image_layers_and_small_layers_have_their_own_rates(expert, data):
    method = WholeMethod(data, expert, SMALL)
    for name, optimizer in method.optimizers.items():
        large, small = optimizer.param_groups
        assert (large["lr"], small["lr"]) == (1e-4, 1e-3)
        assert len(small["params"]) == len(list(method.modules[name].small.parameters()))


def test_the_penalty_is_over_all_pixels_of_a_picture():
    weight, share = torch.randn(3, 4, 4), torch.rand(5, 1)
    real, fake = torch.randn(5, 3, 4, 4), torch.randn(5, 3, 4, 4)
    found = gradient_penalty(lambda x: (x * weight).sum((1, 2, 3)), real, fake, share)
    assert found.item() == pytest.approx((weight.norm().item() - 1) ** 2, rel=1e-4)


# --- the comparison ----------------------------------------


class _Judge:
    def __init__(self, calls):
        self.calls = calls

    def read(self, pictures):
        self.calls.append(1)
        if len(self.calls) == 7:
            raise KeyboardInterrupt
        return pictures.mean((2, 3)), {"kind": torch.ones(len(pictures), dtype=torch.int64)}


def test_the_comparison_goes_on_where_it_stopped_and_writes_one_card(monkeypatch, expert, data, tmp_path):
    calls = []
    for name, stand_in in {
        "load_halves": lambda *_: expert,
        "TARGETS": {"avatar-mind2mind": SimpleNamespace(train=lambda: data, unseen=lambda: data)},
        "WAYS": {name: way | {"stops": (1, 2, 3), "batch_size": 4} for name, way in comparison.WAYS.items()},
        "SIZES": SMALL,
        "measure_step": lambda size, rounds, clock: {"ratio a step": 7.0 * size},
    }.items():
        monkeypatch.setattr(comparison, name, stand_in)
    monkeypatch.setattr(comparison.Judge, "load", lambda: _Judge(calls))
    job = Job(Profile("quick"), tmp_path / "out", tmp_path / "work")
    with pytest.raises(KeyboardInterrupt):
        comparison.train_mind2mind_comparison(job)
    comparison.train_mind2mind_comparison(job)
    # Real pictures twice, two stops of five runs, one of them lost and repeated, the ceiling and training pictures.
    assert len(calls) == 2 + 2 * 5 + 1 + 2
    tensors, card = load_weights(comparison.NAME, job.out)
    for name in comparison.WAYS:
        assert card.curve[f"{name}: steps"] == [1, 2] and tensors[f"samples/{name}"].shape == (12, 3, 16, 16)
        seconds = card.curve[f"{name}: seconds"]
        assert 0 < seconds[0] < seconds[1] and card.metrics[f"{name}: {comparison.READ}"] == 1
    assert len(card.curve[f"MindGAN: {comparison.DISTANCE}, std"]) == 2
    assert card.curve["MindGAN: seconds"][0] > card.metrics["encoding: seconds"] > 0
    small, large = (card.metrics[f"{name}: operations a step"] for name in ("MindGAN", "whole GAN, fine-tuned"))
    assert small < large and card.metrics["64 px: ratio a step"] == 448.0
