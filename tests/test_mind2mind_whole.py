"""The whole GAN that Mind2Mind is compared with: same start, same game, every layer trained; and the comparison."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from course_lib.data import ImageSet
from course_lib.errors import CourseError
from course_lib.evaluation.features import FeatureNetwork
from course_lib.experts import Autoencoder, AutoencoderConfig, fingerprint, freeze
from course_lib.gans.alae import ALAE
from course_lib.gans.alae_config import ALAEConfig
from course_lib.mind2mind import MindConfig, TransferredGAN, gradient_penalty, uniform_noise
from course_lib.mind2mind.whole import WholeMethod
from course_lib.profiles import Profile
from course_lib.recipes import mind2mind_comparison as comparison
from course_lib.recipes.recipe import Job
from course_lib.training import Budget, load_weights, train

QUIET = {"progress": False, "checkpoint_every": 0, "preview_every": 0}
SMALL = MindConfig(5, 4, (16, 16), (16, 16))


@pytest.fixture
def expert():
    torch.manual_seed(0)
    network = Autoencoder(AutoencoderConfig(16, 5, (4, 4), (4, 4)))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics that a batch of noise does not have
            module.running_mean.normal_()
            module.running_var.uniform_(1, 2)
    return freeze(network)


@pytest.fixture
def data():
    images = torch.randint(0, 256, (24, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageSet("tiny", images, split=torch.arange(24) % 3)


def norms(module):
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def test_fine_tuning_starts_from_the_transferred_gan(expert, data):
    method = WholeMethod(data, expert, SMALL)
    generator, critic = (method.modules[name].train() for name in ("generator", "critic"))
    z = uniform_noise(6, SMALL, torch.Generator().manual_seed(0))
    gan = TransferredGAN(generator.small, expert, critic.small)
    with torch.no_grad():
        torch.testing.assert_close(generator(z).clamp(-1, 1), gan.draw(z))
        torch.testing.assert_close(critic(data.batch(torch.arange(6))), gan.score(data.batch(torch.arange(6))))
    assert not any(norm.training for norm in norms(generator.large) + norms(critic.large))


def test_everything_trains_and_the_expert_stays(expert, data):
    before = fingerprint(expert)
    for fine_tuned in (True, False):
        method = WholeMethod(data, expert, SMALL, fine_tuned=fine_tuned, average=0.9)
        start = {name: {k: p.clone() for k, p in m.named_parameters()} for name, m in method.modules.items()}
        history = train(method, Budget(2), 8, **QUIET)
        for name, module in method.modules.items():
            moved = {k for k, p in module.named_parameters() if not torch.equal(p, start[name][k])}
            assert moved == set(start[name]), "no layer is left out"
        pictures = WholeMethod.sample(history.averaged["generator"].eval(), torch.zeros(3, 4), batch_size=2)
        assert pictures.shape == (3, 3, 16, 16) and pictures.abs().max() <= 1
    assert fingerprint(expert) == before


def test_a_start_from_scratch_is_random_and_normalises_in_the_generator_only(expert, data):
    method = WholeMethod(data, expert, SMALL, fine_tuned=False)
    generator, critic = (method.modules[name].train() for name in ("generator", "critic"))
    assert all(norm.training for norm in norms(generator.large)) and norms(generator.large)
    assert not any(norm.training for norm in norms(critic.large)) and norms(critic.large)
    assert not torch.equal(generator.large.from_latent.weight, expert.from_latent.weight)
    # Each picture's score is its own, whatever else is in the batch.
    images = data.batch(torch.arange(8))
    torch.testing.assert_close(critic(images)[:2], critic(images[:2]))


def test_image_layers_and_small_layers_have_their_own_rates(expert, data):
    method = WholeMethod(data, expert, SMALL, rate=1e-5, small_rate=1e-2)
    for name, optimizer in method.optimizers.items():
        large, small = optimizer.param_groups
        assert (large["lr"], small["lr"]) == (1e-5, 1e-2)
        assert len(small["params"]) == len(list(method.modules[name].small.parameters()))


def test_the_penalty_is_over_all_pixels_of_a_picture():
    weight, share = torch.randn(3, 4, 4), torch.rand(5, 1)
    real, fake = torch.randn(5, 3, 4, 4), torch.randn(5, 3, 4, 4)
    found = gradient_penalty(lambda x: (x * weight).sum((1, 2, 3)), real, fake, share)
    assert found.item() == pytest.approx((weight.norm().item() - 1) ** 2, rel=1e-4)


def test_other_experts_are_refused(expert, data):
    for other, config in ((ALAE(ALAEConfig((8, 6, 4), 5, 2)), SMALL), (expert, MindConfig(6, 4))):
        with pytest.raises(CourseError, match="autoencoder"):
            WholeMethod(data, other, config)


# --- the comparison ----------------------------------------


@pytest.fixture
def tiny(monkeypatch, expert, data, tmp_path):
    pixels = FeatureNetwork("pixels", "pixels", lambda x: x.mean((2, 3)), lambda x: x.mean((2, 3)))
    for name, stand_in in (("load_expert", lambda *_: expert), ("load_emoji", lambda: data), ("faces", lambda _: data)):
        monkeypatch.setattr(comparison, name, stand_in)
    monkeypatch.setattr(comparison, "judge_features", lambda: pixels)
    monkeypatch.setattr(comparison, "measure_step", lambda size, rounds, clock: {"ratio a step": 7.0 * size})
    players = tuple(replace(player, first=1) for player in comparison.PLAYERS)
    monkeypatch.setattr(comparison, "PLAYERS", players)
    return Job(Profile("quick"), tmp_path / "out", tmp_path / "work", seconds=1e-6)


def test_the_comparison_goes_on_where_it_stopped_and_writes_one_card(tiny, monkeypatch, capsys):
    real, calls = comparison._Bench.distance, []

    def stopping(self, part, draw):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, part, draw)

    monkeypatch.setattr(comparison._Bench, "distance", stopping)
    with pytest.raises(KeyboardInterrupt):
        comparison.train_comparison(tiny)
    started = json.loads((tiny.work / comparison.NAME / "MindGAN.json").read_text())
    assert len(started["points"]) == 1
    comparison.train_comparison(tiny)
    # One point for each player and learning rate, val and test each.
    assert len(calls) == 2 * (1 + 2 + 2) + 2, "one point, of two scores, was lost and repeated; no other"
    tensors, card = load_weights(comparison.NAME, tiny.out)
    for player in comparison.PLAYERS:
        for key in ("seconds", "operations", comparison.DISTANCE):
            assert len(card.curve[f"{player.name}: {key}"]) == 1 and card.curve[f"{player.name}: {key}"][0] > 0
        assert card.curve[f"{player.name}: steps"] == [1]
        assert tensors[f"samples/{player.name}"].shape == (10, 3, 16, 16)
        assert len(card.recipe["distance on val by learning rate"][player.name]) == len(player.rates)
    mind = card.metrics["MindGAN: operations a step and picture"]
    assert mind < card.metrics["whole GAN, fine-tuned: operations a step and picture"]
    assert card.curve["MindGAN: seconds"][0] > card.metrics["encoding: seconds"] > 0
    assert card.metrics[f"auto-encoding ceiling: {comparison.DISTANCE} on test"] > 0
    assert card.metrics["64 px: ratio a step"] == 448.0
    assert "MindGAN:" in capsys.readouterr().out


def test_a_run_doubles_its_steps_while_the_budget_lasts(tiny):
    bench = comparison._Bench(tiny)
    run = comparison._Run(bench, comparison.PLAYERS[1], 1e-3)
    for seconds in (1e-6, 2.0):
        points = run.go(seconds)["points"]
        assert [point["steps"] for point in points] == [2**k for k in range(len(points))]
        assert 1.5 * points[-1]["training"] > seconds
        assert len(points) == 1 or 1.5 * points[-2]["training"] <= seconds
    times = [point["training"] for point in points]
    assert len(points) > 1 and times == sorted(times) and all(p["training"] <= p["wall"] + 0.1 for p in points)
