"""The linear shift by the condition: a head start that keeps the flow a flow."""

import copy

import pytest
import torch

from course_lib.cinn import ConditionalFlow, FlowConfig
from course_lib.errors import CourseError


def shifted_flow(dtype=torch.float64):
    config = FlowConfig(6, (4,), blocks=3, hidden_dim=16, condition_shift=True)
    flow = ConditionalFlow(config, torch.Generator().manual_seed(0)).to(dtype)
    generator = torch.Generator().manual_seed(1)
    condition = torch.randn(200, 4, generator=generator, dtype=dtype)
    mixing = torch.randn(4, 6, generator=generator, dtype=dtype)
    latent = condition @ mixing + 0.1 * torch.randn(200, 6, generator=generator, dtype=dtype) + 3.0
    flow.fit_shift(latent, condition)
    flow(latent, condition)  # initialises ActNorm
    return flow.eval(), latent, condition


def test_the_fit_removes_what_is_linear():
    flow, latent, condition = shifted_flow()
    rest = flow.shift(latent, condition)
    assert rest.mean(0).abs().max() < 1e-6
    assert rest.std() < 0.15 < latent.std()


def test_all_paths_invert_and_agree():
    flow, latent, condition = shifted_flow()
    v, log_det = flow(latent, condition)
    without = copy.deepcopy(flow)
    without.shift = None
    rest, rest_log_det = without(flow.shift(latent, condition), condition)
    assert torch.equal(v, rest) and torch.equal(log_det, rest_log_det)
    assert torch.allclose(flow.inverse(v, condition), latent, atol=1e-10)
    assert torch.allclose(flow.packed().inverse(v, condition), latent, atol=1e-10)


def test_the_log_determinant_is_the_jacobians():
    flow, latent, condition = shifted_flow()
    jacobian = torch.autograd.functional.jacobian(lambda z: flow(z[None], condition[:1])[0][0], latent[0])
    assert torch.allclose(jacobian.slogdet()[1], flow(latent[:1], condition[:1])[1][0], atol=1e-8)


def test_what_cannot_be_fitted_is_refused():
    flow, latent, condition = shifted_flow()
    with pytest.raises(CourseError, match="give more"):
        flow.fit_shift(latent[:3], condition[:3])
    with pytest.raises(CourseError, match="condition_shift"):
        ConditionalFlow(FlowConfig(6, (4,), hidden_dim=8, blocks=1)).fit_shift(latent, condition)


def test_a_map_is_flattened_for_the_shift_and_convolved_for_the_couplings():
    config = FlowConfig(6, (2, 4, 4), blocks=2, hidden_dim=16, condition_shift=True)
    flow = ConditionalFlow(config, torch.Generator().manual_seed(0)).double()
    generator = torch.Generator().manual_seed(1)
    condition = torch.randn(400, 2, 4, 4, generator=generator, dtype=torch.float64)
    latent = condition.flatten(1) @ torch.randn(32, 6, generator=generator, dtype=torch.float64)
    flow.fit_shift(latent, condition, ridge=1e-6)
    assert flow.shift(latent, condition).abs().max() < 1e-3
    flow(latent, condition)
    flow.eval()
    v = flow.encode(latent, condition)
    assert torch.allclose(flow.inverse(v, condition), latent, atol=1e-9)
    assert torch.allclose(flow.packed().inverse(v, condition), latent, atol=1e-9)
    smooth = ConditionalFlow(config, torch.Generator().manual_seed(0)).double()
    smooth.fit_shift(latent, condition, ridge=10.0)
    assert smooth.shift.linear.weight.norm() < 0.5 * flow.shift.linear.weight.norm()


def test_a_configuration_without_it_has_no_such_parameters():
    assert not [
        name
        for name in ConditionalFlow(FlowConfig(6, (4,), hidden_dim=8, blocks=1)).state_dict()
        if "shift" in name.split(".")[0]
    ]
