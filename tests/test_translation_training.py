"""A flow and a regressor on a toy whose answer is known, frozen experts, and the logged numbers."""

import pytest
import torch
from independence import predictability

from course_lib.cinn import ConditionalFlow, FlowConfig, GridFlowConfig
from course_lib.data import ImageSet
from course_lib.errors import CourseError
from course_lib.experts import GridAutoencoder, GridAutoencoderConfig, fingerprint, freeze
from course_lib.training import Budget, train
from course_lib.translation import (
    FlowMethod,
    GridRegressor,
    LowResolution,
    Pairs,
    Translator,
    encode_pairs,
    held_out_nats,
)
from course_lib.translation.translator import RegressorMethod

QUIET = {"progress": False, "checkpoint_every": 0, "preview_every": 0}


def toy(count: int, seed: int) -> Pairs:
    """z = sin(A c) + 0.3 noise: the conditional mean and deviation are known, and z depends strongly on c."""
    generator = torch.Generator().manual_seed(seed)
    condition = torch.randn(count, 3, generator=generator)
    matrix = torch.randn(3, 8, generator=torch.Generator().manual_seed(7))
    return Pairs(condition, (condition @ matrix).sin(), torch.full((count, 8), 0.3))


@pytest.fixture(scope="module")
def trained() -> tuple[ConditionalFlow, GridRegressor, dict]:
    config = FlowConfig(8, (3,), embedding_dim=16, hidden_dim=48, hidden_depth=1, blocks=4)
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        flow, regressor = ConditionalFlow(config, generator), GridRegressor(GridFlowConfig(2, 2, (3,)), 32)
    pairs, held = toy(8000, 0), toy(500, 1)
    method = FlowMethod(pairs, flow, 3e-3, held=held)
    method.held_every = 50
    history = train(method, Budget(400), 256, log_every=100, **QUIET)
    train(RegressorMethod(pairs, regressor, 3e-3), Budget(300), 256, **QUIET)
    return flow.eval(), regressor.eval(), history.curve


def test_the_loss_falls_while_its_parts_behave(trained):
    curve = trained[2]
    assert curve["step"] == [100, 200, 300, 400]
    assert curve["loss/flow"][-1] < curve["loss/flow"][0]
    assert abs(curve["nll"][-1] - 4) < 0.6, "v is about as long as noise of eight dimensions"
    assert len(curve["held-out"]) == 4 and abs(curve["held-out"][-1] - curve["loss/flow"][-1]) < 0.5


def test_the_residual_does_not_know_the_condition(trained):
    flow, held = trained[0], toy(2000, 2)
    latent = held.latents()
    with torch.no_grad():
        v = flow.encode(latent, held.condition)
    assert predictability(held.condition, latent) > 0.7
    assert predictability(held.condition, v) < 0.05
    assert abs(v.mean()) < 0.1 and abs(v.std() - 1) < 0.1


def test_samples_have_the_conditional_mean_and_spread_and_the_regressor_only_the_mean(trained):
    flow, regressor, _ = trained
    one = toy(5, 3)
    many = one.condition.repeat_interleave(1000, 0)
    samples = flow.sample(many, 1.0, torch.Generator().manual_seed(0)).view(5, 1000, 8)
    assert (samples.mean(1) - one.mean).abs().mean() < 0.12
    assert abs(samples.std(1).mean() - 0.3) < 0.06
    with torch.no_grad():
        assert (regressor(one.condition) - one.mean).abs().mean() < 0.12


def test_held_out_nats_tell_a_trained_flow_from_a_fresh_one(trained):
    fresh = ConditionalFlow(trained[0].config, torch.Generator().manual_seed(1)).eval()
    assert held_out_nats(trained[0], toy(500, 1)) < held_out_nats(fresh, toy(500, 1)) - 1


def test_experts_do_not_move_and_the_flow_does():
    expert = freeze(GridAutoencoder(GridAutoencoderConfig(16, 1, (8, 8), (8, 8))))
    data = ImageSet("noise", torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8))
    pairs = encode_pairs(data, LowResolution(expert.config.size, expert).encode, expert)
    flow = ConditionalFlow(FlowConfig(16, (16,), hidden_dim=8, blocks=2))
    before = fingerprint(expert), fingerprint(flow)
    train(FlowMethod(pairs, flow), Budget(3), 20, **QUIET)
    translator = Translator(LowResolution(expert.config.size, expert), flow, expert)
    translator.translate(data.batch(torch.arange(2)))
    assert fingerprint(expert) == before[0] and fingerprint(flow) != before[1]
    assert not any(p.requires_grad for p in expert.parameters()) and not expert.training
    expert.train()
    assert not expert.training


def test_methods_refuse_nothing_silently():
    pairs = toy(20, 0)
    regressor = GridRegressor(GridFlowConfig(2, 2, (3,)), 8)
    method = RegressorMethod(pairs, regressor, held=pairs)
    method.held_every = 2
    history = train(method, Budget(4), 10, log_every=2, **QUIET)
    assert len(history.curve["held-out"]) == 2
    wrong = ConditionalFlow(FlowConfig(8, (5,), hidden_dim=8, blocks=1))
    with pytest.raises(CourseError, match="conditions of shape"):
        train(FlowMethod(pairs, wrong), Budget(1), 10, **QUIET)
