"""Batch statistics over all devices of a run, not over each device's own pictures."""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_reduce

__all__ = ["batch_norm_everywhere", "several_processes"]


def several_processes() -> bool:
    """Whether this process is one of several that train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def batch_norm_everywhere(
    x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, momentum: float, eps: float
) -> Tensor:
    """Batch norm of the pictures of all processes together, as ``torch.nn.SyncBatchNorm`` computes it on GPUs only.

    Differentiable through the statistics, on every device. All processes must call it, in the same order.

    Args:
        x: ``(B, C, H, W)``, B may differ between processes.
        mean, var: running statistics, moved in place; the variance is the unbiased one.
        weight, bias: ``(C,)`` or None.
        momentum, eps: of the batch norm.
    """
    # Not in half precision: sums over many pictures would lose what they are about. In two passes, mean first,
    # because E[x²] − E[x]² loses digits as well.
    values = x.float()
    count = torch.tensor([values.numel() / values.shape[1]], device=x.device)
    total = all_reduce(torch.cat([values.sum((0, 2, 3)), count]))
    count, center = total[-1].detach(), (total[:-1] / total[-1].detach())[:, None, None]
    spread = all_reduce((values - center).square().sum((0, 2, 3))) / count
    with torch.no_grad():
        mean.lerp_(center.flatten(), momentum)
        var.lerp_(spread * count / (count - 1), momentum)
    normalised = (values - center) * (spread + eps).rsqrt()[:, None, None]
    if weight is not None:
        normalised = normalised * weight[:, None, None]
    if bias is not None:
        normalised = normalised + bias[:, None, None]
    return normalised.to(x.dtype)
