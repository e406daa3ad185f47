"""A frozen copy of a flow for sampling: no gradients, weights laid out once, the same function."""

from __future__ import annotations

import copy
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu_, linear

from course_lib.cinn.activation import Identity
from course_lib.cinn.inputs import check_vectors, draw_residual, prepare_condition
from course_lib.cinn.networks import LEAKY_SLOPE, FullyConnectedNet
from course_lib.errors import CourseError

if TYPE_CHECKING:
    from course_lib.cinn.block import FlowBlock
    from course_lib.cinn.flow import ConditionalFlow

__all__ = ["Backend", "PackedFlow", "default_backend"]

Backend = Literal["auto", "columns", "onednn"]

_FEW = 8


class PackedFlow:
    """The inverse of a flow, prepared once.

    The first layers of S and T become one product, layers are followed by their activation in place, and nothing is
    recorded for gradients. Two backends compute the same function:

    - "columns" keeps one sample per column, so a layer is ``W @ X``. For 8 to 200 samples MKL does that up to 1.35
      times as fast as ``X @ W.T``; below 8 it is the other way round, so few samples stay in rows. Also for GPUs.
    - "onednn" hands the weights to oneDNN once, which keeps them in its own blocked layout and applies the activation
      inside the product. MKL skips AVX-512 on processors that are not Intel's; there this is much the faster one.

    "auto" chooses by device and processor, never by timing: the same machine always computes the same bits.

    Args:
        flow: the flow to copy.
        dtype: None keeps the flow's dtype. ``torch.bfloat16`` halves the memory to read, and then it is *not* the same
            function: errors of 1e-3 to 1e-2 are usual. It pays only where the processor has bfloat16 units; elsewhere
            it is several times slower.
        backend: see above.

    Raises:
        CourseError: the dtype or backend is not possible here.
    """

    def __init__(self, flow: ConditionalFlow, dtype: torch.dtype | None = None, backend: Backend = "auto") -> None:
        like = flow.blocks[0].norm.scale.detach()
        self.config = flow.config
        self.dtype = like.dtype if dtype is None else dtype
        if self.dtype not in (like.dtype, torch.bfloat16):
            raise CourseError(f"packed() keeps {like.dtype} or takes torch.bfloat16, not {dtype}.")
        self.backend = default_backend(like) if backend == "auto" else backend
        _check_backend(self.backend, like)
        for block in flow.blocks:
            block.norm.check_invertible()
        self._like = like.clone()
        self._embedder = copy.deepcopy(flow.embedder).eval().requires_grad_(False)
        self._shift = None if flow.shift is None else copy.deepcopy(flow.shift).requires_grad_(False)
        layer = _OneDNNLayer if self.backend == "onednn" else _ColumnLayer
        with torch.no_grad():
            self._blocks = [_pack_block(block, layer, self.dtype) for block in reversed(flow.blocks)]

    @torch.no_grad()
    def inverse(self, v: Tensor, condition: Tensor) -> Tensor:
        """Residual to data.

        Args:
            v: ``(B, D)``.
            condition: ``(B, *condition_shape)``.

        Returns:
            ``latent: (B, D)``.

        Raises:
            CourseError: a shape does not fit.
        """
        check_vectors(self.config, v, condition, "residuals")
        prepared = prepare_condition(self.config, condition, self._like.dtype)
        embedding = self._embedder(prepared)
        if self.backend == "onednn" or v.shape[0] < _FEW:
            latent = self._run(v, embedding, axis=1)
        else:
            latent = self._run(v.t().contiguous(), embedding.t().contiguous(), axis=0).t().contiguous()
        return latent if self._shift is None else self._shift.inverse(latent, prepared)

    def sample(self, condition: Tensor, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """Draw one latent per condition; arguments and result as in ``ConditionalFlow.sample``."""
        v = draw_residual((condition.shape[0], self.config.dim), temperature, generator, self._like)
        return self.inverse(v, condition)

    def _run(self, x: Tensor, embedding: Tensor, axis: int) -> Tensor:
        small, large = self.config.dim // 2, (self.config.dim + 1) // 2
        shape = (-1, 1) if axis == 0 else (1, -1)
        for block in self._blocks:
            b, a = x.index_select(axis, block.order).split([small, large], axis)
            for step in (1, 0):
                known, moved = (b, a) if step else (a, b)
                log_scale, shift = block.steps[step](torch.cat([known, embedding], axis), axis)
                moved = moved.sub(shift).mul_(log_scale.neg_().exp_())
                a, b = (moved, b) if step else (a, moved)
            x = block.activation.inverse(torch.cat([a, b], axis))
            x = (x / block.scale.view(shape)).sub_(block.loc.view(shape))
        return x


def default_backend(like: Tensor) -> Backend:
    """The backend for tensors on this device, on this processor; depends on nothing that varies between runs."""
    possible = like.device.type == "cpu" and like.dtype == torch.float32 and torch.backends.mkldnn.is_available()
    if possible and not (torch.backends.mkl.is_available() and _is_intel()):
        return "onednn"
    return "columns"


def _is_intel() -> bool:
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return "intel" in platform.processor().lower()


def _check_backend(backend: str, like: Tensor) -> None:
    if backend not in ("columns", "onednn"):
        raise CourseError(f"The backend of packed() must be auto, columns or onednn, not {backend}.")
    if backend == "onednn" and not (
        like.device.type == "cpu" and like.dtype == torch.float32 and torch.backends.mkldnn.is_available()
    ):
        raise CourseError('The backend "onednn" needs a float32 flow on the CPU: use backend="columns" here.')


class _ColumnLayer:
    """``activation(W @ X + b)`` with one sample per column of ``X`` (axis 0), or per row (axis 1)."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> None:
        self.weight, self.bias = weight.to(dtype, copy=True), bias.to(dtype, copy=True)

    def __call__(self, x: Tensor, activation: str, axis: int) -> Tensor:
        y = linear(x, self.weight, self.bias) if axis else torch.addmm(self.bias[:, None], self.weight, x)
        if activation == "leaky_relu":
            return leaky_relu_(y, LEAKY_SLOPE)
        return y.tanh_() if activation == "tanh" else y


class _OneDNNLayer:
    """``activation(X @ W.T + b)`` with one sample per row, weights in oneDNN's layout."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> None:
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.to(dtype, copy=True).contiguous(), None)
        self.bias = bias.to(dtype, copy=True)

    def __call__(self, x: Tensor, activation: str, axis: int) -> Tensor:
        slope = [LEAKY_SLOPE] if activation == "leaky_relu" else []
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, activation, slope, "")


@dataclass
class _PackedStep:
    """Networks S and T of one affine step; their first layers are one product."""

    first: _ColumnLayer | _OneDNNLayer
    scale_layers: list
    shift_layers: list
    dtype: torch.dtype

    def __call__(self, x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        hidden = self.first(x.to(self.dtype), "leaky_relu", axis)
        outputs = []
        for part, layers, last in zip(
            hidden.chunk(2, axis), (self.scale_layers, self.shift_layers), ("tanh", "none"), strict=True
        ):
            for layer in layers[:-1]:
                part = layer(part, "leaky_relu", axis)
            outputs.append(layers[-1](part, last, axis).to(x.dtype))
        return outputs[0], outputs[1]


@dataclass
class _PackedBlock:
    order: Tensor
    steps: list[_PackedStep]
    activation: nn.Module
    scale: Tensor
    loc: Tensor


def _pack_block(block: FlowBlock, layer: type, dtype: torch.dtype) -> _PackedBlock:
    nets = zip(block.coupling.scale_nets, block.coupling.shift_nets, strict=True)
    activation = Identity() if isinstance(block.activation, Identity) else copy.deepcopy(block.activation)
    scale, loc = block.norm.scale.detach().clone(), block.norm.loc.detach().clone()
    steps = [_pack_step(scale_net, shift_net, layer, dtype) for scale_net, shift_net in nets]
    return _PackedBlock(block.shuffle.inverse_order.clone(), steps, activation, scale, loc)


def _pack_step(
    scale_net: FullyConnectedNet, shift_net: FullyConnectedNet, layer: type, dtype: torch.dtype
) -> _PackedStep:
    (first_s, *rest_s), (first_t, *rest_t) = scale_net.linears, shift_net.linears
    first = layer(torch.cat([first_s.weight, first_t.weight]), torch.cat([first_s.bias, first_t.bias]), dtype)
    packed = [[layer(one.weight, one.bias, dtype) for one in rest] for rest in (rest_s, rest_t)]
    return _PackedStep(first, *packed, dtype)
