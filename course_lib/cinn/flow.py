"""The conditional flow: blocks that turn a latent into a residual that is independent of the condition, and back.

:class:`ConditionalFlow` is the published one, on vectors. :class:`GridFlow` is ours, for latents that are grids of
cells: the same blocks with convolutions in the couplings, which use the same weights in every cell, so that a few
thousand pictures are enough for hundreds of coordinates, and a change stays where its cause is.
"""

import copy
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.cinn.config import FlowConfig, GridFlowConfig
from course_lib.cinn.embedder import (
    ConditionShift,
    ConvEmbedder,
    DenseEmbedder,
    GridEmbedder,
    LocalShift,
    TaperedEmbedder,
)
from course_lib.cinn.layers import (
    LEAKY_SLOPE,
    AffineCoupling,
    ConditionalCoupling,
    FlowBlock,
    GridBlock,
    Identity,
    InvertibleLeakyReLU,
)
from course_lib.errors import CourseError

__all__ = ["ConditionalFlow", "GridFlow", "NLLTerms", "build_embedder", "flow_loss", "nll_terms"]


# --- likelihood -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NLLTerms:
    """The conditional negative log-likelihood in the terms in which the Net2Net authors watch it.

    Means over the batch, in nats, summed (not averaged) over the coordinates.

    Attributes:
        nll: scalar, ``0.5 * sum(v**2)`` without the constant ``D / 2 * log(2 pi)``.
        nlogdet: scalar, minus the mean log-determinant.
        reference_nll: scalar, ``nll`` of fresh Gaussian noise of the same shape, about ``D / 2``. In healthy training
            ``nll`` settles near it while ``total`` keeps falling.
    """

    nll: Tensor
    nlogdet: Tensor
    reference_nll: Tensor

    @property
    def total(self) -> Tensor:
        """Scalar that is minimised, ``nll + nlogdet``; it has no lower bound and may be negative."""
        return self.nll + self.nlogdet


def nll_terms(v: Tensor, log_det: Tensor, generator: torch.Generator | None = None) -> NLLTerms:
    """The training loss and what to log beside it.

    Args:
        v: residuals ``(B, D)``.
        log_det: ``(B,)``, of the direction data to residual; it is subtracted.
        generator: source of the reference noise.

    Returns:
        The terms; ``total`` carries the gradient.

    Raises:
        CourseError: the shapes do not fit.

    References:
        Net2Net, section 3, equation of the conditional negative log-likelihood; CompVis/net2net, ``NLL``.
    """
    if v.dim() != 2 or log_det.shape != v.shape[:1]:
        raise CourseError(
            f"nll_terms takes v of shape (B, D) and log_det of shape (B,), not {tuple(v.shape)} and "
            f"{tuple(log_det.shape)}; pass both outputs of the flow."
        )
    device = v.device if generator is None else generator.device
    noise = torch.randn(v.shape, generator=generator, device=device, dtype=v.dtype)
    return NLLTerms(_half_square(v).mean(), -log_det.mean(), _half_square(noise).mean().to(v.device))


def flow_loss(v: Tensor, log_det: Tensor) -> Tensor:
    """``nll_terms(v, log_det).total`` alone, with no noise drawn."""
    return _half_square(v).mean() - log_det.mean()


def _half_square(v: Tensor) -> Tensor:
    """Minus the log-density of ``v (B, D)`` under N(0, I) without its constant: ``(B,)``."""
    return 0.5 * v.square().sum(1)


# --- flows ----------------------------------------------------------------------------------------------------------


class _Flow(nn.Module):
    """What flows on vectors and on grids share: everything but the networks.

    Subclasses make ``config``, ``embedder``, ``blocks`` and ``shift`` (or None), and say what a block reads.
    """

    def _contexts(self, condition: Tensor) -> Sequence[Tensor]:
        """The embedded condition, for every block."""
        raise TypeError(f"{type(self).__name__} must define _contexts()")

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None) -> None:
        """Draw the weights of all linear and convolution layers anew, with torch's default distribution."""
        for module in [*self.embedder.modules(), *self.blocks.modules()]:
            if isinstance(module, nn.Linear | nn.Conv2d):
                bound = 1.0 / math.sqrt(module.weight[0].numel())
                for parameter in module.parameters(recurse=False):
                    drawn = torch.rand(parameter.shape, generator=generator, dtype=parameter.dtype)
                    parameter.copy_((2.0 * drawn - 1.0) * bound)

    def forward(self, latent: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Data to residual.

        Args:
            latent: ``(B, D)``.
            condition: ``(B, *condition_shape)``; ``(B, K, 1, 1)`` does for ``(K,)``. Integers are converted.

        Returns:
            ``v: (B, D)`` and ``log_det: (B,)``, the logarithm of the absolute determinant of ``dv / dlatent``.

        Raises:
            CourseError: a shape does not fit.
        """
        condition = self._checked(latent, condition, "latents")
        x = latent if self.shift is None else self.shift(latent, condition)
        log_det = latent.new_zeros(len(latent))
        for block, context in zip(self.blocks, self._contexts(condition), strict=True):
            x, part = block(x, context)
            log_det = log_det + part
        return x, log_det

    def inverse(self, v: Tensor, condition: Tensor) -> Tensor:
        """Residual to data; differentiable.

        Args:
            v: ``(B, D)``.
            condition: ``(B, *condition_shape)``.

        Returns:
            ``latent: (B, D)``.

        Raises:
            CourseError: a shape does not fit, or the flow is in training mode and has not seen a batch.
        """
        condition, x = self._checked(v, condition, "residuals"), v
        for block, context in zip(reversed(self.blocks), reversed(self._contexts(condition)), strict=True):
            x = block.inverse(x, context)
        return x if self.shift is None else self.shift.inverse(x, condition)

    def fit_shift(self, latent: Tensor, condition: Tensor, ridge: float = 1e-3) -> None:
        """Set the linear shift to the least-squares fit on pairs, before training.

        Args:
            latent: ``(N, D)``.
            condition: ``(N, *condition_shape)``.
            ridge: see ``ridge_regression``; maps of many numbers want more.

        Raises:
            CourseError: the flow was built without ``condition_shift``, or the pairs are too few.
        """
        if self.shift is None:
            raise CourseError("this flow has no linear shift: build it with FlowConfig(condition_shift=True).")
        self.shift.fit(latent, self._checked(latent, condition, "latents"), ridge)

    def encode(self, latent: Tensor, condition: Tensor) -> Tensor:
        """The residual alone: ``(B, D)``."""
        return self(latent, condition)[0]

    def log_prob(self, latent: Tensor, condition: Tensor) -> Tensor:
        """The conditional log-density in nats, with the constant ``-D / 2 * log(2 pi)``: ``(B,)``."""
        v, log_det = self(latent, condition)
        return log_det - _half_square(v) - 0.5 * self.config.dim * math.log(2.0 * math.pi)

    @torch.no_grad()
    def sample(self, condition: Tensor, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """Draw one latent per condition, with the embedder in evaluation mode.

        Args:
            condition: ``(B, *condition_shape)``.
            temperature: standard deviation of the residuals; 0 gives the same latent each time.
            generator: source of the noise, on any device; the same seed then gives the same residuals everywhere.

        Returns:
            ``latent: (B, D)``.

        Raises:
            CourseError: the temperature is negative, a shape does not fit, or the flow has not seen a batch.
        """
        if temperature < 0:
            raise CourseError(f"The temperature is a standard deviation: give 0 or more, not {temperature}.")
        like = self._like
        # Drawn where the generator lives, so one seed gives the same residuals whatever device the flow is on.
        device = like.device if generator is None else generator.device
        v = torch.randn(len(condition), self.config.dim, generator=generator, device=device, dtype=like.dtype)
        was_training = self.embedder.training
        # In training mode BatchNorm would mix the conditions of a batch into one another.
        self.embedder.eval()
        try:
            return self.inverse(v.to(like.device) * temperature, condition)
        finally:
            self.embedder.train(was_training)

    def _checked(self, x: Tensor, condition: Tensor, what: str) -> Tensor:
        """The condition in the shape and dtype that the networks take."""
        if x.dim() != 2 or x.shape[1] != self.config.dim:
            raise CourseError(
                f"This flow takes {what} of shape (B, {self.config.dim}), not {tuple(x.shape)}: flatten them, or build "
                "the flow with another dim."
            )
        if len(x) != len(condition):
            raise CourseError(
                f"There are {len(x)} {what} and {len(condition)} conditions: give one condition for each."
            )
        shape = self.config.condition_shape
        if len(shape) == 1 and condition.dim() == 4 and condition.shape[2:] == (1, 1):
            condition = condition.flatten(1)
        if tuple(condition.shape[1:]) != shape:
            wanted = ", ".join(map(str, ("B", *shape)))
            raise CourseError(
                f"This flow was built for conditions of shape ({wanted}), not {tuple(condition.shape)}: give that "
                "shape or build the flow with another condition_shape."
            )
        return condition.to(self._like.dtype)

    @property
    def _like(self) -> Tensor:
        """A tensor on the device and in the dtype of the parameters."""
        return self.blocks[0].norm.scale


class ConditionalFlow(_Flow):
    """An invertible map between a latent ``z: (B, D)`` and a residual ``v: (B, D)``, given a condition.

    ``forward`` goes from data to residual, the direction that is trained; ``inverse`` and ``sample`` go back.

    Args:
        config: sizes and options.
        generator: CPU generator for the initial weights; None draws them from the global generator.

    References:
        Rombach, Esser and Ommer, "Network-to-Network Translation with Conditional Invertible Neural Networks", 2020;
        CompVis/net2net, ``ConditionalFlatCouplingFlow``.
    """

    def __init__(self, config: FlowConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        permutations = torch.Generator().manual_seed(config.seed)
        self.embedder = build_embedder(config)
        sizes = config.dim, config.embedding_width, config.hidden_dim, config.hidden_depth
        self.blocks = nn.ModuleList(FlowBlock(*sizes, self._activation(), permutations) for _ in range(config.blocks))
        self.shift = ConditionShift(math.prod(config.condition_shape), config.dim) if config.condition_shift else None
        if generator is not None:
            self.reset_parameters(generator)

    def _activation(self) -> nn.Module:
        if self.config.activation == "none":
            return Identity()
        return InvertibleLeakyReLU(self.config.activation_slope, self.config.activation_log_det)

    def _contexts(self, condition: Tensor) -> Sequence[Tensor]:
        return [self.embedder(condition)] * len(self.blocks)

    def packed(self) -> "ConditionalFlow":
        """A frozen copy for fast sampling; later training does not change it, and it carries no gradients.

        Where oneDNN multiplies (see :class:`_PackedCoupling`) it cannot be moved to another device or dtype.

        Raises:
            CourseError: the flow is in training mode and has not seen a batch.
        """
        for block in self.blocks:
            block.norm.check_invertible()
        onednn = _onednn_is_faster(self._like)
        packed = {id(block.coupling): _PackedCoupling(block.coupling, onednn) for block in self.blocks}
        return copy.deepcopy(self, packed).eval().requires_grad_(False)


def build_embedder(config: FlowConfig) -> nn.Module:
    """The embedder that ``config`` asks for, a module from ``(B, *condition_shape)`` to ``(B, E)``."""
    if config.embedder_kind == "conv":
        return ConvEmbedder(config.condition_shape, config.embedding_width, config.downsamplings)
    in_dim = config.condition_shape[0]
    if config.embedder_kind == "tapered":
        return TaperedEmbedder(in_dim, config.embedding_width, config.embedder_depth + 2)
    return DenseEmbedder(
        in_dim, config.embedding_width, config.embedder_hidden_dim, config.embedder_depth, config.embedder_batch_norm
    )


class GridFlow(_Flow):
    """An invertible map between latents ``(B, C · G · G)`` and residuals of the same shape, given conditions ``(B, K)``
    or maps ``(B, C, H, W)``.

    First a linear function of the condition is subtracted (``fit_shift``), then come the blocks. Couplings of channel
    halves with convolutional networks are those of RealNVP and Glow.

    Args:
        config: sizes.
        generator: CPU generator of the initial weights; None draws them from the global generator.
        gain: factor on the last layers of the coupling networks. Small: training starts near the identity, where the
            same ``v`` means the same content under every label.
    """

    def __init__(self, config: GridFlowConfig, generator: torch.Generator | None = None, gain: float = 0.05):
        super().__init__()
        self.config = config
        permutations, shape = torch.Generator().manual_seed(config.seed), config.condition_shape
        if len(shape) == 3:
            self.label: nn.Module = GridEmbedder(shape, config.embedding_dim, config.side)
            self.shift: nn.Module = LocalShift(shape, config.channels, config.side)
        else:
            self.label = nn.Linear(shape[0], config.embedding_dim)
            self.shift = ConditionShift(shape[0], config.dim)
        self.places = nn.ParameterList(
            torch.zeros(1, config.position_dim, config.side // cells, config.side // cells) for cells in (1, 2)
        )
        context = config.embedding_dim + config.position_dim
        # Fine and coarse blocks by turns.
        self.blocks = nn.ModuleList(
            GridBlock(config.channels, config.side, cells, context, config.hidden_dim * cells, permutations)
            for cells in (1 + index % 2 for index in range(config.blocks))
        )
        self._reset(generator, gain)

    @property
    def embedder(self) -> nn.Module:
        """The network that embeds the condition."""
        return self.label

    @torch.no_grad()
    def _reset(self, generator: torch.Generator | None, gain: float) -> None:
        for place in self.places:
            place.copy_(0.1 * torch.randn(place.shape, generator=generator))
        self.reset_parameters(generator)
        for block in self.blocks:
            for net in (*block.scale_nets, *block.shift_nets):
                net[-1].weight.mul_(gain)
                net[-1].bias.zero_()

    def _contexts(self, condition: Tensor) -> Sequence[Tensor]:
        """The embedded condition in every cell, and the cell's place."""
        if condition.dim() == 4:
            embedded = self.label(condition)
        else:
            everywhere = self.label(condition)[:, :, None, None]
            embedded = [everywhere.expand(-1, -1, *place.shape[2:]) for place in self.places]
        fine, coarse = (
            torch.cat([one, place.expand(len(condition), -1, -1, -1)], 1)
            for one, place in zip(embedded, self.places, strict=True)
        )
        return [coarse if block.cells == 2 else fine for block in self.blocks]


# --- the packed sampler ---------------------------------------------------------------------------------------------


class _PackedCoupling(ConditionalCoupling):
    """A frozen coupling whose products are prepared: S and T share their first one, activations are fused or in place.

    Args:
        coupling: copied.
        onednn: hand the weights to oneDNN, which keeps them in its own blocked layout and applies the activation inside
            the product.
    """

    def __init__(self, coupling: ConditionalCoupling, onednn: bool) -> None:
        AffineCoupling.__init__(self)
        self.large, self.small, self.layer = coupling.large, coupling.small, _onednn_layer if onednn else _linear_layer
        prepare = _prepare_onednn if onednn else _prepare_linear
        self._steps = []
        with torch.no_grad():
            for scale_net, shift_net in zip(coupling.scale_nets, coupling.shift_nets, strict=True):
                (first_s, *rest_s), (first_t, *rest_t) = ([*net.hidden, net.out] for net in (scale_net, shift_net))
                first = torch.cat([first_s.weight, first_t.weight]), torch.cat([first_s.bias, first_t.bias])
                rest = [[prepare(one.weight, one.bias) for one in layers] for layers in (rest_s, rest_t)]
                self._steps.append((prepare(*first), *rest))

    @torch.no_grad()
    def terms(self, step: int, known: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Log-scale and shift of the half that moves."""
        first, *nets = self._steps[step]
        hidden = self.layer(torch.cat([known, embedding], 1), *first, "leaky_relu").chunk(2, 1)
        outputs = []
        for x, (*middle, last), activation in zip(hidden, nets, ("tanh", "none"), strict=True):
            for one in middle:
                x = self.layer(x, *one, "leaky_relu")
            outputs.append(self.layer(x, *last, activation))
        return outputs[0], outputs[1]


def _prepare_linear(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return weight.detach().clone(), bias.detach().clone()


def _linear_layer(x: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
    y = F.linear(x, weight, bias)
    if activation == "leaky_relu":
        return F.leaky_relu_(y, LEAKY_SLOPE)
    return y.tanh_() if activation == "tanh" else y


def _prepare_onednn(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach().clone(), None), bias.detach().clone()


def _onednn_layer(x: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
    slope = [LEAKY_SLOPE] if activation == "leaky_relu" else []
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, slope, "")


def _onednn_is_faster(like: Tensor) -> bool:
    """Whether oneDNN multiplies for tensors like this one: by device and processor, never by timing.

    So the same machine always computes the same bits. MKL skips AVX-512 on processors that are not Intel's.
    """
    possible = like.device.type == "cpu" and like.dtype == torch.float32 and torch.backends.mkldnn.is_available()
    return possible and not (torch.backends.mkl.is_available() and _is_intel())


def _is_intel() -> bool:
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return "intel" in platform.processor().lower()
