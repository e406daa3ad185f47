"""The whole flow: inverse, density, the packed sampler, and what it learns on a toy problem."""

import copy
import math

import pytest
import torch
from torch import nn

from course_lib.cinn import ConditionalFlow, FlowConfig, flow_loss
from course_lib.errors import CourseError

CASES = [
    FlowConfig(6, (3,), 4, hidden_dim=16, blocks=3),
    FlowConfig(7, (3,), 4, hidden_dim=16, blocks=3, activation="leaky_relu"),
    FlowConfig(8, (3,), hidden_dim=16, hidden_depth=0, blocks=2, embedder_batch_norm=True),
    FlowConfig(5, (4, 1, 1), hidden_dim=16, hidden_depth=1, blocks=2),
    FlowConfig(6, (2, 12, 9), hidden_dim=16, blocks=2),
]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def trained_like(config, dtype=torch.float64, seed=0):
    """A flow with random weights whose ActNorm layers have seen data, and a batch for it."""
    flow = ConditionalFlow(config, seeded(seed)).to(dtype)
    with torch.no_grad():
        for block in flow.blocks:
            for net in [*block.coupling.scale_nets, *block.coupling.shift_nets]:
                net.out.weight.mul_(4.0)
    latent = 1 + 2 * torch.randn(12, config.dim, generator=seeded(seed + 1), dtype=dtype)
    condition = torch.randn(12, *config.condition_shape, generator=seeded(seed + 2), dtype=dtype)
    flow(latent, condition)
    return flow.eval(), latent, condition


@pytest.mark.parametrize("config", CASES)
def test_inverse_in_both_directions(config):
    flow, latent, condition = trained_like(config)
    v, _ = flow(latent, condition)
    assert (v - latent).abs().max() > 0.1
    assert (flow.inverse(v, condition) - latent).abs().max() < 1e-10
    noise = torch.randn(v.shape, generator=seeded(9), dtype=v.dtype)
    assert (flow(flow.inverse(noise, condition), condition)[0] - noise).abs().max() < 1e-9


@pytest.mark.parametrize("config", CASES)
def test_log_det_equals_the_jacobian(config):
    flow, latent, condition = trained_like(config)
    _, log_det = flow(latent, condition)
    jacobian = torch.autograd.functional.jacobian(lambda x: flow(x, condition)[0].sum(0), latent)
    expected = torch.linalg.slogdet(jacobian.transpose(0, 1))[1]
    assert (log_det - expected).abs().max() < 1e-8


def module_by_module(flow, latent, condition):
    """The published composition, written out with layers, as a second opinion."""
    embedding, log_det = flow.embedder(condition), 0.0
    for block in flow.blocks:
        h, part = block.norm(latent)
        h, more = (h, 0.0) if block.activation is None else block.activation(h)
        known, moved = h.split([block.coupling.large, block.coupling.small], 1)
        log_det = log_det + part + more
        for scale_net, shift_net in zip(block.coupling.scale_nets, block.coupling.shift_nets, strict=True):
            outputs = []
            for net in (scale_net, shift_net):
                x = torch.cat([known, embedding], 1)
                for layer in net.hidden:
                    x = nn.functional.leaky_relu(layer(x), 0.01)
                outputs.append(net.out(x))
            known, moved = moved * outputs[0].tanh().exp() + outputs[1], known
            log_det = log_det + outputs[0].tanh().sum(1)
        latent = torch.cat([moved, known], 1)[:, block.shuffle.order]
    return latent, log_det


@pytest.mark.parametrize("dtype,tolerance", [(torch.float64, 1e-11), (torch.float32, 1e-5)])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("config", CASES)
def test_values_and_gradients_are_those_of_the_layers_one_by_one(config, training, dtype, tolerance):
    flow, latent, condition = trained_like(config, dtype)
    flow.train(training)
    results = []
    for compute in (module_by_module, lambda one, x, c: one(x, c)):
        one = copy.deepcopy(flow)
        x, c = latent.clone().requires_grad_(), condition.clone().requires_grad_()
        v, log_det = compute(one, x, c.flatten(1) if len(config.condition_shape) == 1 else c)
        (v.square().sum(1) - log_det).mean().backward()
        gradients = {name: parameter.grad for name, parameter in one.named_parameters()}
        results.append({"v": v, "log_det": log_det, "x": x.grad, "c": c.grad, **gradients})
    expected, found = results
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        scale = max(1.0, value.abs().max().item())
        assert (value - found[name]).abs().max() < tolerance * scale, name


@pytest.mark.parametrize("config", CASES[:2])
def test_gradients_flow_through_the_inverse(config):
    flow, latent, condition = trained_like(config)
    v, c = latent[:3].clone().requires_grad_(), condition[:3].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda v, c: flow.inverse(v, c), (v, c))
    gradients = torch.autograd.grad(flow.inverse(v, c).square().sum(), [*flow.parameters()])
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_actnorm_is_initialised_only_in_training():
    x, c = 5 + 3 * torch.randn(20, 7, generator=seeded()), torch.randn(20, 3, generator=seeded(1))
    flow = ConditionalFlow(CASES[1], seeded(3))
    flow.eval()(x, c)
    assert not any(block.norm.is_initialized for block in flow.blocks)
    flow.train()(x, c)
    assert all(block.norm.is_initialized for block in flow.blocks)


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("config", CASES)
def test_the_packed_sampler_computes_the_same_function(config, onednn, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn)
    flow, latent, condition = trained_like(config, torch.float32)
    packed = flow.packed()
    v, _ = flow(latent, condition)
    for count in (1, 5, 12):
        expected = flow.inverse(v[:count], condition[:count])
        assert (packed.inverse(v[:count], condition[:count]) - expected).abs().max() < 2e-5
    same = [sampler.sample(condition, 0.7, seeded(4)) for sampler in (flow, packed)]
    assert torch.allclose(*same, atol=2e-5)
    before = packed.inverse(v, condition)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.mul_(2.0)
    assert torch.equal(packed.inverse(v, condition), before)


def test_packed_in_float64_keeps_its_precision():
    flow, latent, condition = trained_like(CASES[1])
    assert (flow.packed().inverse(flow.encode(latent, condition), condition) - latent).abs().max() < 1e-10


def test_sampling_is_reproducible_and_temperature_0_is_one_point():
    flow, _, condition = trained_like(CASES[2], torch.float32)
    flow.train()
    one, two, other = (flow.sample(condition, generator=seeded(seed)) for seed in (5, 5, 6))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    cold = flow.sample(condition, temperature=0.0)
    assert torch.equal(cold, flow.sample(condition, temperature=0.0, generator=seeded(8)))
    assert torch.allclose(flow.sample(condition[:1], 0.0), cold[:1], atol=1e-5)
    assert flow.embedder.training
    with pytest.raises(CourseError, match="temperature"):
        flow.sample(condition, -1.0)


def test_log_prob_has_its_constant_and_integrates_to_one():
    flow, _, condition = trained_like(FlowConfig(2, (3,), 4, hidden_dim=16, blocks=2))
    grid = torch.linspace(-25, 25, 251, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid)
    with torch.no_grad():
        density = flow.log_prob(points, condition[:1].expand(len(points), -1)).exp()
    assert abs(density.sum() * 0.2**2 - 1) < 1e-3
    v, log_det = flow(points[:3], condition[:3])
    expected = torch.distributions.Normal(0, 1).log_prob(v).sum(1) + log_det
    assert torch.allclose(flow.log_prob(points[:3], condition[:3]), expected)


def test_the_same_seed_gives_the_same_flow():
    one, two, other = (ConditionalFlow(CASES[0], seeded(seed)) for seed in (1, 1, 2))
    assert all(map(torch.equal, one.state_dict().values(), two.state_dict().values()))
    assert not all(map(torch.equal, one.parameters(), other.parameters()))
    moved = ConditionalFlow(FlowConfig(6, (3,), 4, hidden_dim=16, blocks=3, seed=1), seeded(1))
    assert not torch.equal(one.blocks[0].shuffle.order, moved.blocks[0].shuffle.order)


def test_shapes_dtypes_and_names_of_the_directions():
    flow, latent, condition = trained_like(CASES[0], torch.float32)
    v = flow.encode(latent, condition)
    assert v.shape == latent.shape
    assert v.dtype == torch.float32
    assert torch.equal(flow.encode(latent, condition[:, :, None, None]), v)
    assert flow.double()(latent.double(), condition)[1].dtype == torch.float64
    one_hot = nn.functional.one_hot(torch.arange(12) % 3)
    assert flow.sample(one_hot).dtype == torch.float64


@pytest.mark.parametrize(
    ("latent", "condition", "message"),
    [((4, 5), (4, 3), "flatten them"), ((4, 6), (4, 2), "condition_shape"), ((4, 6), (5, 3), "one condition for each")],
)
def test_wrong_shapes_say_what_to_do(latent, condition, message):
    flow, _, _ = trained_like(CASES[0], torch.float32)
    for call in (flow.forward, flow.inverse, flow.packed().inverse):
        with pytest.raises(CourseError, match=message):
            call(torch.zeros(latent), torch.zeros(condition))


def test_a_new_flow_in_training_mode_refuses_to_sample():
    flow = ConditionalFlow(CASES[0])
    with pytest.raises(CourseError, match="has not seen a batch"):
        flow.sample(torch.zeros(2, 3))
    with pytest.raises(CourseError, match="at least 2 samples"):
        flow(torch.zeros(1, 6), torch.zeros(1, 3))


def _joint_gaussian(count, seed):
    """Condition c in two dimensions; latent = A c + correlated noise, so the conditional law is known."""
    generator = seeded(seed)
    c = torch.randn(count, 2, generator=generator)
    mixing = torch.tensor([[1.5, -0.5], [0.8, 1.0]])
    factor = torch.tensor([[0.6, 0.0], [0.5, 0.4]])
    noise = torch.randn(count, 2, generator=generator) @ factor.T
    return c @ mixing.T + noise, c, mixing, factor @ factor.T


def _fit(module, loss, steps=500, batch=256, lr=3e-3):
    optimizer = torch.optim.Adam(module.parameters(), lr=lr, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        z, c, _, _ = _joint_gaussian(batch, step)
        optimizer.zero_grad()
        loss(z, c).backward()
        optimizer.step()
        schedule.step()


def test_on_a_joint_gaussian_the_flow_finds_the_conditional_law_and_regression_only_its_mean():
    flow = ConditionalFlow(FlowConfig(2, (2,), 8, hidden_dim=32, blocks=4, embedder_hidden_dim=16), seeded())
    _fit(flow, lambda z, c: flow_loss(*flow(z, c)))
    z, c, mixing, covariance = _joint_gaussian(4000, 10_000)
    with torch.no_grad():
        v = flow.eval().encode(z, c)
    joint = torch.corrcoef(torch.cat([v, c], 1).T)
    assert joint[:2, 2:].abs().max() < 0.1
    assert (torch.cov(v.T) - torch.eye(2)).abs().max() < 0.15

    point = torch.tensor([[0.7, -0.4]])
    samples = flow.packed().sample(point.expand(4000, 2), generator=seeded(3))
    mean = point @ mixing.T
    assert (samples.mean(0) - mean).abs().max() < 0.1
    assert (torch.cov(samples.T) - covariance).abs().max() < 0.1

    net = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(), nn.Linear(32, 2))
    _fit(net, lambda z, c: (net(c) - z).square().mean())
    with torch.no_grad():
        answers = net(point.expand(100, 2))
    assert (answers.mean(0) - mean).abs().max() < 0.1
    assert answers.std(0).max() < 1e-5 < math.sqrt(covariance[0, 0])
