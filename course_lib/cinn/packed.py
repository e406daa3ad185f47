"""A frozen copy of a flow for sampling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from course_lib.cinn.flow import ConditionalFlow

__all__ = ["PackedFlow"]


class PackedFlow:
    """Frozen sampler."""

    def __init__(self, flow: ConditionalFlow, dtype: torch.dtype = torch.float32) -> None:
        self.flow = flow
        self.dtype = dtype

    @torch.no_grad()
    def inverse(self, v: Tensor, condition: Tensor) -> Tensor:
        """Residual to data."""
        return self.flow.inverse(v, condition)

    @torch.no_grad()
    def sample(self, condition: Tensor, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """Draw one latent per condition."""
        return self.flow.sample(condition, temperature, generator)
