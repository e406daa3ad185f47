"""What a network must offer to be an expert, and how it is kept frozen."""

import hashlib
from types import MethodType
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

__all__ = ["SourceExpert", "TargetExpert", "fingerprint", "freeze"]

M = TypeVar("M", bound=nn.Module)


@runtime_checkable
class SourceExpert(Protocol):
    """An expert that gives conditions (Φ in the paper)."""

    condition_shape: tuple[int, ...]
    """Shape of one condition: ``(K,)`` or ``(C, H, W)``."""

    def encode(self, x: Any) -> Tensor:
        """Condition ``(B, *condition_shape)``, detached, for a batch of images in [−1, 1], captions or labels."""
        ...


@runtime_checkable
class TargetExpert(Protocol):
    """An expert whose latent the flow generates (Θ and Λ in the paper)."""

    latent_dim: int

    def encode(self, x: Tensor) -> Tensor:
        """Latent ``(B, latent_dim)``, detached, of images ``(B, 3, S, S)`` in [−1, 1]."""
        ...

    def decode(self, latent: Tensor) -> Tensor:
        """Images ``(B, 3, S, S)`` in [−1, 1] for latents ``(B, latent_dim)``."""
        ...


def freeze(module: M) -> M:
    """Puts ``module`` in evaluation mode for good: no gradients, and a parent's later ``train()`` does not reach it."""
    module.eval().requires_grad_(False)
    for part in module.modules():
        # Assigned on the instance, as the original code does: nn.Module.train walks over children and calls theirs.
        # Bound methods, because a deep copy binds them to itself.
        part.train = MethodType(_stay, part)
    return module


def _stay(module: nn.Module, mode: bool = True) -> nn.Module:
    return module


def fingerprint(module: nn.Module) -> str:
    """SHA-256 over names and bytes of all parameters and buffers: equal before and after means nothing moved."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
