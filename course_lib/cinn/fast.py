"""The fast path: the flow's function in one functional pass, with fewer operations and copies than the modules."""

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, linear

from course_lib.cinn.activation import Identity
from course_lib.cinn.networks import LEAKY_SLOPE, FullyConnectedNet

__all__ = ["flow_forward", "flow_inverse"]


def flow_forward(blocks: nn.ModuleList, x: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
    """All blocks, data to residual."""
    log_det = x.new_zeros(x.shape[0])
    for block in blocks:
        norm = block.norm
        norm.prepare(x)
        h = norm.scale * (x + norm.loc)
        coupling = block.coupling
        if not isinstance(block.activation, Identity):
            h, part = block.activation(h)
            log_det = log_det + part
        a, b = h.split([coupling.large, coupling.small], 1)
        b, part0 = _affine(coupling, 0, a, b, embedding)
        a, part1 = _affine(coupling, 1, b, a, embedding)
        log_det = log_det + norm.scale.abs().log().sum() + part0 + part1
        x = torch.cat([b, a], 1)[:, block.shuffle.order]
    return x, log_det


def _affine(coupling, step: int, known: Tensor, moved: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
    inputs = torch.cat([known, embedding], 1)
    log_scale = _net(coupling.scale_nets[step], inputs).tanh()
    return torch.addcmul(_net(coupling.shift_nets[step], inputs), moved, log_scale.exp()), log_scale.sum(1)


def flow_inverse(blocks: nn.ModuleList, y: Tensor, embedding: Tensor) -> Tensor:
    """All blocks in reverse order, residual to data."""
    for block in reversed(blocks):
        block.norm.check_invertible()
        coupling = block.coupling
        b, a = y[:, block.shuffle.inverse_order].split([coupling.small, coupling.large], 1)
        a = _affine_inverse(coupling, 1, b, a, embedding)
        b = _affine_inverse(coupling, 0, a, b, embedding)
        h = block.activation.inverse(torch.cat([a, b], 1))
        y = h / block.norm.scale - block.norm.loc
    return y


def _affine_inverse(coupling, step: int, known: Tensor, moved: Tensor, embedding: Tensor) -> Tensor:
    inputs = torch.cat([known, embedding], 1)
    log_scale = _net(coupling.scale_nets[step], inputs).tanh()
    return (moved - _net(coupling.shift_nets[step], inputs)) * (-log_scale).exp()


def _net(net: FullyConnectedNet, h: Tensor) -> Tensor:
    for layer in net.hidden:
        h = leaky_relu(linear(h, layer.weight, layer.bias), LEAKY_SLOPE)
    return linear(h, net.out.weight, net.out.bias)
