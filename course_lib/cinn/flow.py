"""The conditional flow: blocks that turn a latent into a residual that is independent of the condition, and back."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from course_lib.cinn import fast
from course_lib.cinn.block import FlowBlock
from course_lib.cinn.config import FlowConfig
from course_lib.cinn.embedder import build_embedder
from course_lib.cinn.inputs import check_vectors, draw_residual, prepare_condition
from course_lib.cinn.packed import Backend, PackedFlow
from course_lib.cinn.shift import ConditionShift
from course_lib.errors import CourseError

__all__ = ["ConditionalFlow"]

Path = Literal["fast", "plain"]


class ConditionalFlow(nn.Module):
    """An invertible map between a latent ``z: (B, D)`` and a residual ``v: (B, D)``, given a condition.

    ``forward`` goes from data to residual, the direction that is trained; ``inverse`` and ``sample`` go back. Both have
    two paths over the same parameters: "plain" runs module by module, "fast" (the default) computes the same values and
    gradients with fewer operations and copies.

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
        self.blocks = nn.ModuleList(FlowBlock(config, permutations) for _ in range(config.blocks))
        self.shift = ConditionShift(math.prod(config.condition_shape), config.dim) if config.condition_shift else None
        if generator is not None:
            self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw the weights of all linear and convolution layers anew, with torch's default distribution."""
        for module in [*self.embedder.modules(), *self.blocks.modules()]:
            if isinstance(module, nn.Linear | nn.Conv2d):
                bound = 1.0 / math.sqrt(module.weight[0].numel())
                for parameter in module.parameters(recurse=False):
                    drawn = torch.rand(parameter.shape, generator=generator, dtype=parameter.dtype)
                    parameter.copy_((2.0 * drawn - 1.0) * bound)

    def embed(self, condition: Tensor) -> Tensor:
        """Embed a condition once, for every coupling.

        Args:
            condition: ``(B, *condition_shape)``; ``(B, K, 1, 1)`` does for ``(K,)``. Integers are converted.

        Returns:
            ``(B, E)`` in the dtype of the parameters.

        Raises:
            CourseError: the shape does not fit.
        """
        return self.embedder(prepare_condition(self.config, condition, self._like.dtype))

    def forward(self, latent: Tensor, condition: Tensor, path: Path = "fast") -> tuple[Tensor, Tensor]:
        """Data to residual.

        Args:
            latent: ``(B, D)``.
            condition: ``(B, *condition_shape)``.
            path: "fast" or "plain".

        Returns:
            ``v: (B, D)`` and ``log_det: (B,)``, the logarithm of the absolute determinant of ``dv / dlatent``.

        Raises:
            CourseError: a shape does not fit.
        """
        check_vectors(self.config, latent, condition, "latents")
        embedding = self.embed(condition)
        if self.shift is not None:
            latent = self.shift(latent, prepare_condition(self.config, condition, self._like.dtype))
        if path == "fast":
            return fast.flow_forward(self.blocks, latent, embedding)
        log_det = latent.new_zeros(latent.shape[0])
        for block in self.blocks:
            latent, part = block(latent, embedding)
            log_det = log_det + part
        return latent, log_det

    def inverse(self, v: Tensor, condition: Tensor, path: Path = "fast") -> Tensor:
        """Residual to data; differentiable.

        Args:
            v: ``(B, D)``.
            condition: ``(B, *condition_shape)``.
            path: "fast" or "plain".

        Returns:
            ``latent: (B, D)``.

        Raises:
            CourseError: a shape does not fit, or the flow is in training mode and has not seen a batch.
        """
        check_vectors(self.config, v, condition, "residuals")
        embedding = self.embed(condition)
        if path == "fast":
            v = fast.flow_inverse(self.blocks, v, embedding)
        else:
            for block in reversed(self.blocks):
                v = block.inverse(v, embedding)
        if self.shift is not None:
            v = self.shift.inverse(v, prepare_condition(self.config, condition, self._like.dtype))
        return v

    def fit_shift(self, latent: Tensor, condition: Tensor, ridge: float = 1e-3) -> None:
        """Set the linear shift to the least-squares fit on pairs, before training.

        Args:
            latent: ``(N, D)``.
            condition: ``(N, *condition_shape)``.
            ridge: see ``ConditionShift.fit``; flattened maps of many numbers want more.

        Raises:
            CourseError: the flow was built without ``condition_shift``, or the pairs are too few.
        """
        if self.shift is None:
            raise CourseError("this flow has no linear shift: build it with FlowConfig(condition_shift=True).")
        self.shift.fit(latent, prepare_condition(self.config, condition, self._like.dtype), ridge)

    def encode(self, latent: Tensor, condition: Tensor) -> Tensor:
        """The residual alone: ``(B, D)``."""
        return self(latent, condition)[0]

    def decode(self, v: Tensor, condition: Tensor) -> Tensor:
        """Another name for ``inverse``: ``(B, D)``."""
        return self.inverse(v, condition)

    def log_prob(self, latent: Tensor, condition: Tensor) -> Tensor:
        """The conditional log-density in nats, with the constant ``-D / 2 * log(2 pi)``: ``(B,)``."""
        v, log_det = self(latent, condition)
        return log_det - 0.5 * v.square().sum(1) - 0.5 * self.config.dim * math.log(2.0 * math.pi)

    @torch.no_grad()
    def sample(self, condition: Tensor, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """Draw one latent per condition, with the layers in evaluation mode.

        Args:
            condition: ``(B, *condition_shape)``.
            temperature: standard deviation of the residuals; 0 gives the same latent each time.
            generator: source of the noise, on any device; the same seed then gives the same residuals everywhere.

        Returns:
            ``latent: (B, D)``.

        Raises:
            CourseError: the temperature is negative, a shape does not fit, or the flow has not seen a batch.
        """
        v = draw_residual((condition.shape[0], self.config.dim), temperature, generator, self._like)
        was_training = self.embedder.training
        # In training mode BatchNorm would mix the conditions of a batch into one another.
        self.embedder.eval()
        try:
            return self.inverse(v, condition)
        finally:
            self.embedder.train(was_training)

    def packed(self, dtype: torch.dtype | None = None, backend: Backend = "auto") -> PackedFlow:
        """A frozen copy for fast sampling, see ``PackedFlow``; later training does not change it."""
        return PackedFlow(self, dtype, backend)

    @property
    def _like(self) -> Tensor:
        """A tensor on the device and in the dtype of the parameters."""
        return self.blocks[0].norm.scale
