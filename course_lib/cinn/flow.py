"""The conditional flow: blocks that turn a latent into a residual that is independent of the condition, and back.
:class:`ConditionalFlow` is the published one, on vectors. :class:`GridFlow` is ours, for latents that are grids of
cells: the same blocks with convolutions in the couplings, which use the same weights in every cell, so that a few
thousand pictures are enough for hundreds of coordinates, and a change stays where its cause is."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, replace
from functools import partial
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CourseError
from . import layers
from .layers import Batches

_RETIRED = {"whitened": 0, "embedder": "auto", "embedder_downsamplings": None, "activation_slope": 0.9}
"""Options of older cards, and the one value that they ever had."""

_RANDOM_FEATURES = 512
"""Of a condition that is a map or a layer, for the end of a flow: with fewer a probe still reads attributes from v."""


class _Config:
    """What both configurations, frozen dataclasses with a ``condition_shape``, share: checks and a JSON round trip."""

    condition_shape: tuple[int, ...]

    def _check(self, problems: Mapping[str, bool]) -> None:
        object.__setattr__(self, "condition_shape", tuple(int(n) for n in self.condition_shape))
        for problem, found in problems.items():
            if found:
                raise CourseError(f"{type(self).__name__}: {problem}.")

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "condition_shape": list(self.condition_shape)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Rebuild from ``to_dict``; a :class:`CourseError` if a key is unknown or a required one is missing."""
        try:
            return cls(**{key: value for key, value in values.items() if _RETIRED.get(key, MISSING) != value})
        except TypeError as error:
            raise CourseError(f"{cls.__name__}: a key is unknown, missing or of another type ({error}).") from error


@dataclass(frozen=True)
class FlowConfig(_Config):
    """Everything that is needed to build a :class:`ConditionalFlow`; defaults are those of CompVis/net2net."""

    dim: int  # D, coordinates of the latent, at least 2
    condition_shape: tuple[int, ...]  # of one condition, (K,) or (C, H, W)
    embedding_dim: int | None = None  # width E of the embedded condition; None means dim
    hidden_dim: int = 1024  # width of the coupling networks
    hidden_depth: int = 2  # their hidden-to-hidden layers; they have hidden_depth + 2 linear layers
    blocks: int = 20
    activation: Literal["none", "leaky_relu"] = "none"  # between ActNorm and coupling; "none" in all released ones
    activation_log_det: bool = True  # False reports 0 for that of the activation, as the released code
    embedder_hidden_dim: int = 256  # width of the dense embedder
    embedder_depth: int = 2  # the dense embedder has embedder_depth + 2 linear layers, the tapered one a layer less
    embedder_batch_norm: bool = False  # in the dense embedder, as released; wants batches of 16 or more
    condition_shift: bool = False  # ours: first subtract a linear function of the condition, see ``fit_shift``
    seed: int = 0  # of the permutations

    def __post_init__(self) -> None:
        least, shape = min(self.hidden_dim, self.blocks, self.embedder_hidden_dim), self.condition_shape
        self._check(
            {
                "hidden_dim, blocks and embedder_hidden_dim must be at least 1": least < 1,
                "a coupling needs two halves, so dim must be at least 2": self.dim < 2,
                "hidden_depth and embedder_depth must be 0 or more": min(self.hidden_depth, self.embedder_depth) < 0,
                "activation must be none or leaky_relu": self.activation not in ("none", "leaky_relu"),
                "condition_shape must be (K,) or (C, H, W)": len(shape) not in (1, 3) or min(shape) < 1,
                "embedder_batch_norm is for vectors as conditions": self.embedder_batch_norm and len(shape) != 1,
            }
        )

    @property
    def embedding_width(self) -> int:
        return self.dim if self.embedding_dim is None else self.embedding_dim

    @property
    def embedder_kind(self) -> str:
        """The embedder: dense for vectors, tapered for (C, 1, 1), conv for maps."""
        if len(self.condition_shape) == 1:
            return "dense"
        return "tapered" if self.condition_shape[1:] == (1, 1) else "conv"

    @property
    def downsamplings(self) -> int:
        """Strided convolutions of the conv embedder: the most, at most 5, that leave a map of 3×3 or more (the
        authors' choices for 224, 56, 28, 14 and 7)."""
        return max(n for n in range(6) if n == 0 or min(self.condition_shape[1:]) >> n >= 3)


@dataclass(frozen=True)
class GridFlowConfig(_Config):
    """Everything that is needed to build a :class:`GridFlow`."""

    channels: int  # C, numbers in one cell, even
    side: int  # G, cells along one side, even
    condition_shape: tuple[int, ...]  # (K,), which every cell reads, or (C, n · G, n · G): n² places for each
    hidden_dim: int = 48  # channels inside the coupling networks of fine blocks; coarse ones have twice as many
    blocks: int = 8  # every other one is coarse: it sees 2×2 cells as one, so that news travels fast
    embedding_dim: int = 8  # channels that carry the embedded condition
    position_dim: int = 4  # learned channels that tell a cell where it is
    seed: int = 0  # of the permutations
    residual_shift: bool = False  # at the end subtract a linear function of the condition, see ``fit_residual_shift``
    residual_features: int = 0  # or one of the condition and so many random features of it

    def __post_init__(self) -> None:
        least, shape = min(self.hidden_dim, self.blocks, self.embedding_dim, self.position_dim), self.condition_shape
        odd = self.channels < 2 or self.channels % 2 or self.side < 2 or self.side % 2
        fits = len(shape) == 1 or (len(shape) == 3 and shape[1] == shape[2] and shape[1] % max(self.side, 1) == 0)
        self._check(
            {
                "hidden_dim, blocks, embedding_dim and position_dim must be at least 1": least < 1,
                f"channels and side must be even, not {self.channels} and {self.side}": odd,
                f"condition_shape must be (K,) or (C, H, H), H a multiple of {self.side}": not fits or min(shape) < 1,
            }
        )

    @property
    def dim(self) -> int:
        return self.channels * self.side**2

    def linear_start(self) -> nn.Module:
        """The shift that a network of these sizes begins with."""
        shape = self.condition_shape
        if len(shape) == 3:
            return layers.LocalShift(shape, self.channels, self.side)
        return layers.ConditionShift(shape[0], self.dim)


def build_embedder(config: FlowConfig) -> nn.Module:
    """The embedder that ``config`` asks for, a module from ``(B, *condition_shape)`` to ``(B, E)``."""
    shape, width, depth = config.condition_shape, config.embedding_width, config.embedder_depth
    if config.embedder_kind == "conv":
        return layers.ConvEmbedder(shape, width, config.downsamplings)
    if config.embedder_kind == "tapered":
        return layers.TaperedEmbedder(shape[0], width, depth + 2)
    return layers.DenseEmbedder(shape[0], width, config.embedder_hidden_dim, depth, config.embedder_batch_norm)


def flow_loss(v: Tensor, log_det: Tensor) -> Tensor:
    """The conditional negative log-likelihood, a scalar that is minimised: ``0.5 * sum(v**2) - log_det``. Mean over the
    batch, in nats, without the constant ``D / 2 * log(2 pi)``: it may be negative. ``log_det (B,)`` is that of the
    direction data to residual. Source: Net2Net, section 3; CompVis/net2net, ``NLL``."""
    if v.dim() != 2 or log_det.shape != v.shape[:1]:
        raise CourseError(f"flow_loss takes both outputs of the flow, not {tuple(v.shape)} and {tuple(log_det.shape)}.")
    return 0.5 * v.square().sum(1).mean() - log_det.mean()


class _Flow(nn.Module):
    """What flows on vectors and on grids share; ``_contexts`` embeds the condition, once for every block."""

    @torch.no_grad()
    def _draw_parameters(self, generator: torch.Generator | None) -> None:
        """Weights of all linear and convolution layers anew, with torch's default distribution."""
        for module in [*self.embedder.modules(), *self.blocks.modules()]:
            if isinstance(module, nn.Linear | nn.Conv2d):
                bound = 1.0 / math.sqrt(module.weight[0].numel())
                for parameter in module.parameters(recurse=False):
                    drawn = torch.rand(parameter.shape, generator=generator, dtype=parameter.dtype)
                    parameter.copy_((2.0 * drawn - 1.0) * bound)

    def forward(self, latent: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Data to residual: ``(B, D)`` and conditions ``(B, *condition_shape)`` to ``v: (B, D)`` and ``log_det: (B,)``.
        The latter is the logarithm of the absolute determinant of ``dv / dlatent``. Conditions ``(B, K, 1, 1)`` do for
        ``(K,)``."""
        condition = self._checked(latent, condition)
        x = latent if self.shift is None else self.shift(latent, condition)
        log_det = latent.new_zeros(len(latent))
        for block, context in zip(self.blocks, self._contexts(condition), strict=True):
            x, part = block(x, context)
            log_det = log_det + part
        return x if self.residual_shift is None else self.residual_shift(x, condition), log_det

    def inverse(self, v: Tensor, condition: Tensor) -> Tensor:
        """Residual to data, both ``(B, D)``; differentiable. Refused in training mode before a batch was seen."""
        condition = self._checked(v, condition)
        x = v if self.residual_shift is None else self.residual_shift.inverse(v, condition)
        for block, context in zip(reversed(self.blocks), reversed(self._contexts(condition)), strict=True):
            x = block.inverse(x, context)
        return x if self.shift is None else self.shift.inverse(x, condition)

    def fit_shift(self, latent: Tensor, condition: Tensor, ridge: float = 1e-3) -> None:
        """Set the linear shift to the least-squares fit on pairs, before training; see :func:`ridge_regression`."""
        if self.shift is None:
            raise CourseError("this flow has no linear shift: build it with FlowConfig(condition_shift=True).")
        self.shift.fit(latent, self._checked(latent, condition), ridge)

    def encode(self, latent: Tensor, condition: Tensor) -> Tensor:
        """The residual alone: ``(B, D)``."""
        return self(latent, condition)[0]

    def log_prob(self, latent: Tensor, condition: Tensor) -> Tensor:
        """The conditional log-density in nats, with the constant ``-D / 2 * log(2 pi)``: ``(B,)``."""
        v, log_det = self(latent, condition)
        return log_det - 0.5 * v.square().sum(1) - 0.5 * self.config.dim * math.log(2.0 * math.pi)

    @torch.no_grad()
    def sample(self, condition: Tensor, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """Draw one latent per condition, ``(B, D)``, with the embedder in evaluation mode. ``temperature`` is the
        standard deviation of the residuals: 0 gives the same latent each time. The ``generator`` may be on any device;
        the same seed then gives the same residuals everywhere."""
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

    def _checked(self, x: Tensor, condition: Tensor) -> Tensor:
        dim, shape = self.config.dim, self.config.condition_shape
        if len(shape) == 1 and condition.dim() == 4 and condition.shape[2:] == (1, 1):
            condition = condition.flatten(1)
        if x.shape != (len(condition), dim) or condition.shape[1:] != shape:
            wanted = f"vectors (B, {dim}) and conditions of shape (B, {', '.join(map(str, shape))})"
            found = f"one condition for each, not {tuple(x.shape)} and {tuple(condition.shape)}"
            raise CourseError(f"This flow takes {wanted}, {found}: flatten them, or change dim and condition_shape.")
        return condition.to(self._like.dtype)

    @property
    def _like(self) -> Tensor:
        return self.blocks[0].norm.scale


class _FlowBlock(nn.Module):
    """ActNorm, then activation, then the coupling with fully connected networks, then a permutation. This is the order
    of the released weights (CompVis/net2net, ``ConditionalFlatDoubleCouplingFlowBlock``); the paper's figure 15 draws
    another one."""

    def __init__(self, config: FlowConfig, generator: torch.Generator) -> None:
        super().__init__()
        leaky, dim = config.activation == "leaky_relu", config.dim
        self.norm = layers.ActNorm(dim)
        self.activation = layers.InvertibleLeakyReLU(count_log_det=config.activation_log_det) if leaky else None
        net = partial(layers.FullyConnectedNet, hidden_dim=config.hidden_dim, depth=config.hidden_depth)
        self.coupling = layers.AffineCoupling(dim, config.embedding_width, net)
        self.shuffle = layers.Shuffle(dim, generator)

    def forward(self, x: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        h, log_det = self.norm(x)
        if self.activation is not None:
            h, more = self.activation(h)
            log_det = log_det + more
        h, log_det = self.coupling(h, embedding, log_det)
        return self.shuffle(h), log_det

    def inverse(self, y: Tensor, embedding: Tensor) -> Tensor:
        h = self.coupling.inverse(self.shuffle.inverse(y), embedding)
        return self.norm.inverse(h if self.activation is None else self.activation.inverse(h))


class ConditionalFlow(_Flow):
    """An invertible map between a latent ``z: (B, D)`` and a residual ``v: (B, D)``, given a condition. ``forward``
    goes from data to residual, the direction that is trained; ``inverse`` and ``sample`` go back. A CPU ``generator``
    draws the initial weights, None draws them from the global one. Source: Rombach, Esser and Ommer,
    "Network-to-Network Translation with Conditional Invertible Neural Networks", 2020; CompVis/net2net,
    ``ConditionalFlatCouplingFlow``."""

    def __init__(self, config: FlowConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.embedder = build_embedder(config)
        permutations = torch.Generator().manual_seed(config.seed)
        self.blocks = nn.ModuleList(_FlowBlock(config, permutations) for _ in range(config.blocks))
        size = math.prod(config.condition_shape), config.dim
        self.shift = layers.ConditionShift(*size) if config.condition_shift else None
        self.residual_shift = None
        if generator is not None:
            self._draw_parameters(generator)

    def _contexts(self, condition: Tensor) -> Sequence[Tensor]:
        return [self.embedder(condition)] * len(self.blocks)

    def packed(self) -> "ConditionalFlow":
        """A frozen copy for fast sampling of many latents, which stays on its device and in its dtype."""
        for block in self.blocks:
            block.norm.check_invertible()
        packed = {id(block.coupling): _PackedCoupling(block.coupling) for block in self.blocks}
        return copy.deepcopy(self, packed).eval().requires_grad_(False)


class _PackedCoupling(layers.AffineCoupling):
    """A frozen copy of a coupling whose products are prepared: S and T share their first one."""

    def __init__(self, coupling: layers.AffineCoupling) -> None:
        nn.Module.__init__(self)
        self.large, self.small = coupling.large, coupling.small
        self._steps = []
        for scale_net, shift_net in zip(coupling.scale_nets, coupling.shift_nets, strict=True):
            nets = [[(one.weight, one.bias) for one in (*net.hidden, net.out)] for net in (scale_net, shift_net)]
            first = _prepared(*(torch.cat(pair) for pair in zip(nets[0][0], nets[1][0], strict=True)), "leaky_relu")
            rest = [
                [*(_prepared(*one, "leaky_relu") for one in middle), _prepared(*last, activation)]
                for (_, *middle, last), activation in zip(nets, ("tanh", "none"), strict=True)
            ]
            self._steps.append((first, rest))

    @torch.no_grad()
    def terms(self, step: int, known: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        first, nets = self._steps[step]
        log_scale, shift = first(torch.cat([known, embedding], 1)).chunk(2, 1)
        for layer in nets[0]:
            log_scale = layer(log_scale)
        for layer in nets[1]:
            shift = layer(shift)
        return log_scale, shift


def _prepared(weight: Tensor, bias: Tensor, activation: Literal["leaky_relu", "tanh", "none"]) -> Callable:
    """A copy of a linear layer and the activation behind it, as one function. On a CPU oneDNN multiplies, in its own
    layout of weights and with the activation inside the product: twice as fast where MKL, torch's default, does not use
    AVX-512."""
    weight, bias = weight.detach().clone(), bias.detach().clone()
    slope = [layers.LEAKY_SLOPE] if activation == "leaky_relu" else []
    if weight.device.type == "cpu" and weight.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        blocked = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        return lambda x: torch.ops.mkldnn._linear_pointwise(x, blocked, bias, activation, slope, "")
    after = {"leaky_relu": F.leaky_relu_, "tanh": torch.tanh_, "none": lambda y: y}[activation]
    return lambda x: after(F.linear(x, weight, bias), *slope)


class _GridBlock(layers.AffineCoupling):
    """The block on a grid, in which ``cells`` along one side are seen as one: with 2 it works on a coarser grid."""

    def __init__(self, config: GridFlowConfig, cells: int, generator: torch.Generator) -> None:
        hidden, seen = config.hidden_dim * cells, config.channels * cells**2

        def net(inputs: int, outputs: int) -> nn.Module:
            enter, between, leave = (inputs, hidden, 3, 1, 1), (hidden, hidden, 1), (hidden, outputs, 3, 1, 1)
            slope = nn.LeakyReLU(layers.LEAKY_SLOPE, inplace=True)
            return nn.Sequential(nn.Conv2d(*enter), slope, nn.Conv2d(*between), slope, nn.Conv2d(*leave))

        super().__init__(seen, config.embedding_dim + config.position_dim, net)
        self.grid, self.cells = (config.channels, config.side, config.side), cells
        self.norm, self.shuffle = layers.ActNorm(seen), layers.Shuffle(seen, generator)

    def forward(self, x: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """``x (B, D)`` and the embedded condition in every cell, ``(B, E, G, G)``, to ``(B, D)`` and ``log_det``."""
        h, log_det = self.norm(F.pixel_unshuffle(x.view(-1, *self.grid), self.cells))
        h, log_det = super().forward(h, embedding, log_det)
        return F.pixel_shuffle(self.shuffle(h), self.cells).flatten(1), log_det

    def inverse(self, y: Tensor, embedding: Tensor) -> Tensor:
        h = self.shuffle.inverse(F.pixel_unshuffle(y.view(-1, *self.grid), self.cells))
        return F.pixel_shuffle(self.norm.inverse(super().inverse(h, embedding)), self.cells).flatten(1)


class GridFlow(_Flow):
    """An invertible map between latents ``(B, C · G · G)`` and residuals, given conditions ``(B, K)`` or maps. First a
    linear function of the condition is subtracted (``fit_shift``), then come the blocks. Couplings of channel halves
    with convolutional networks are those of RealNVP and Glow. ``generator`` as for :class:`ConditionalFlow`. ``gain``
    is a factor on the last layers of the coupling networks. Small: training starts near the identity, where the same
    ``v`` means the same content under every label."""

    def __init__(self, config: GridFlowConfig, generator: torch.Generator | None = None, gain: float = 0.05):
        super().__init__()
        self.config = config
        shape, width = config.condition_shape, config.embedding_dim
        permutations = torch.Generator().manual_seed(config.seed)
        self.label = layers.GridEmbedder(shape, width, config.side) if len(shape) == 3 else nn.Linear(shape[0], width)
        self.shift = config.linear_start()
        sides = (config.side, config.side // 2)
        self.places = nn.ParameterList(torch.zeros(1, config.position_dim, side, side) for side in sides)
        # Fine and coarse blocks by turns.
        self.blocks = nn.ModuleList(_GridBlock(config, 1 + k % 2, permutations) for k in range(config.blocks))
        self.residual_shift = self._end(config.residual_features) if config.residual_shift else None
        with torch.no_grad():
            for place in self.places:
                place.copy_(0.1 * torch.randn(place.shape, generator=generator))
            self._draw_parameters(generator)
            for last in (net[-1] for block in self.blocks for net in (*block.scale_nets, *block.shift_nets)):
                last.weight.mul_(gain)
                last.bias.zero_()

    @property
    def embedder(self) -> nn.Module:
        return self.label

    def _end(self, features: int) -> layers.ConditionShift | layers.FeatureShift:
        size = math.prod(self.config.condition_shape), self.config.dim
        return layers.FeatureShift(*size, features) if features else layers.ConditionShift(*size)

    @torch.no_grad()
    def fit_residual_shift(self, pairs: Batches, ridge: float = 1e-3, features_of: Tensor | None = None) -> None:
        """After training: subtract from ``v`` what the condition still predicts of it. Training leaves a small part of
        the condition in ``v``, too small for the gradient to matter beside its noise: the least-squares fit on all
        ``pairs``, batches of latents and conditions, removes it. The log-determinant stays. The fit is linear in the
        condition, which does for labels; for maps give the conditions of training, ``features_of (N, …)``: it is then a
        :class:`FeatureShift`. ``ridge`` as for :func:`ridge_regression`."""
        features = 0 if features_of is None else _RANDOM_FEATURES
        shift, self.residual_shift = self._end(features).to(self._like), None
        known = () if features_of is None else (features_of,)  # whose predictions say which directions vary
        if known:
            shift.fit_components(*known)
        shift.set(*layers.ridge_regression(((shift.features(c), self.encode(z, c)) for z, c in pairs), ridge), *known)
        self.residual_shift = shift
        self.config = replace(self.config, residual_shift=True, residual_features=features)

    def _contexts(self, condition: Tensor) -> Sequence[Tensor]:
        embedded = self.label(condition)
        if condition.dim() == 2:
            embedded = [embedded[:, :, None, None].expand(-1, -1, *place.shape[2:]) for place in self.places]
        pairs = zip(embedded, self.places, strict=True)
        seen = [torch.cat([one, place.expand(len(condition), -1, -1, -1)], 1) for one, place in pairs]
        return [seen[block.cells - 1] for block in self.blocks]
