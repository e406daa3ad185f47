"""The contrastive term of the critic: two changed copies of a picture must give the same, decorrelated features.

Sources: Barlow Twins (Zbontar et al. 2021) as the Hyper-Modulation code applies it to the critic's last vector, with
that code's list of random changes.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["barlow_twins", "change", "two_views"]

REDUNDANCY = 0.005
"""Weight of the off-diagonal part, as published."""


def barlow_twins(first: Tensor, second: Tensor, redundancy: float = REDUNDANCY) -> Tensor:
    """Σ_i (1 − C_ii)² + redundancy · Σ_{i≠j} C_ij², with C the correlation of features over the batch.

    With few pictures C is noisy: N equal views still give about ``redundancy · F (F − 1) / (N − 1)``.

    Args:
        first, second: ``(N, F)``, features of two views; each is standardised over its own batch. With several
            processes C is the mean over all of them.
        redundancy: weight.
    """
    first, second = (F.batch_norm(x.float(), None, None, training=True) for x in (first, second))
    correlation = first.T @ second / len(first)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        from torch.distributed.nn.functional import all_reduce

        correlation = all_reduce(correlation) / torch.distributed.get_world_size()
    own = correlation.diagonal()
    return (1 - own).square().sum() + redundancy * (correlation.square().sum() - own.square().sum())


def two_views(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two random views of every picture, ``(B, 3, S, S)`` in [−1, 1] each.

    Args:
        images: ``(B, 3, S, S)`` in [−1, 1].
        generator: CPU generator; every picture draws its own changes.
    """
    return change(images, generator, blur=0.5, solarise=0.0), change(images, generator, blur=0.1, solarise=0.2)


def change(images: Tensor, generator: torch.Generator, blur: float, solarise: float) -> Tensor:
    """Crop, flip, colours, grey, blur and solarisation; each picture by its own draw.

    Args:
        images: ``(B, 3, S, S)`` in [−1, 1]; the crop is enlarged to S again.
        generator: CPU generator.
        blur, solarise: probabilities.
    """
    count = len(images)

    def draw(low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.empty(count, 1, 1, 1).uniform_(low, high, generator=generator).to(images)

    def where(chance: float, changed: Tensor, images: Tensor) -> Tensor:
        return torch.where(draw() < chance, changed, images)

    x = ((_crop(images, generator) + 1) / 2).clamp(0, 1)
    jittered = (x * draw(0.6, 1.4)).clamp(0, 1)
    jittered = torch.lerp(_grey(jittered).mean((2, 3), keepdim=True), jittered, draw(0.6, 1.4)).clamp(0, 1)
    jittered = torch.lerp(_grey(jittered), jittered, draw(0.8, 1.2)).clamp(0, 1)
    x = where(0.8, turn_hue(jittered, draw(-0.1, 0.1)), x)
    x = where(0.2, _grey(x).expand_as(x), x)
    x = where(blur, _blur(x), x)
    x = where(solarise, torch.where(x >= draw(0.0, 0.5), 1 - x, x), x)
    return 2 * x - 1


def _crop(images: Tensor, generator: torch.Generator) -> Tensor:
    """A box of 8 to 100 % of the area, 3:4 to 4:3, mirrored every other time, bicubic to the full size."""
    count = len(images)
    area = torch.empty(count).uniform_(0.08, 1.0, generator=generator)
    ratio = torch.empty(count).uniform_(-1, 1, generator=generator).mul(torch.tensor(4 / 3).log()).exp()
    sides = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], 1).clamp(max=1.0)
    centre = (1 - sides) * torch.empty(count, 2).uniform_(-1, 1, generator=generator)
    sides[:, 0] *= torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    affine = torch.cat([torch.diag_embed(sides), centre[:, :, None]], 2).to(images)
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, "bicubic", "border", align_corners=False)


def _grey(x: Tensor) -> Tensor:
    """Luma ``(B, 1, S, S)``."""
    weights = torch.tensor([0.299, 0.587, 0.114]).to(x).view(1, 3, 1, 1)
    return (weights * x).sum(1, keepdim=True)


def _blur(x: Tensor) -> Tensor:
    """Gaussian of deviation 1.05 pixels on 3×3 taps; borders are reflected."""
    line = torch.tensor([-1.0, 0.0, 1.0]).to(x).square().div(-2 * 1.05**2).exp()
    kernel = (line[:, None] * line / line.sum().square()).expand(3, 1, 3, 3)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), kernel, groups=3)


def turn_hue(x: Tensor, shift: Tensor) -> Tensor:
    """Adds ``shift`` (1 is the whole circle) to the hue; value and saturation (HSV) stay.

    Args:
        x: ``(B, 3, S, S)`` in [0, 1].
        shift: ``(B, 1, 1, 1)``.
    """
    value, spread = x.amax(1, keepdim=True), x.amax(1, keepdim=True) - x.amin(1, keepdim=True)
    red, green, blue = x.split(1, 1)
    safe = spread.clamp_min(1e-8)
    sector = torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    sector = torch.where(value == red, (green - blue) / safe, sector) + 6 * shift
    places = torch.tensor([5.0, 3.0, 1.0]).to(x).view(1, 3, 1, 1)
    k = (places + sector) % 6
    return value - spread * torch.minimum(k, 4 - k).clamp(0, 1)
