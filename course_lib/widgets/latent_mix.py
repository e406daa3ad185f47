"""Mixing two pictures in latent space and pushing the result along an attribute: what notebook 01 lets a reader do."""

from collections.abc import Callable

import ipywidgets as widgets
import torch
from torch import Tensor

from ..errors import CourseError
from ..figures import png_bytes
from .picture_view import PictureView, choice

__all__ = ["latent_mix_view", "mix", "mix_pictures"]


def mix(start: Tensor, end: Tensor, amount: float | Tensor) -> Tensor:
    """Straight line from ``start`` (amount 0) to ``end`` (amount 1), both ``(D,)``.

    A tensor of amounts ``(T,)`` gives ``(T, D)``.
    """
    amount = torch.as_tensor(amount, dtype=start.dtype, device=start.device)
    return start + amount[..., None] * (end - start)


def mix_pictures(
    decode: Callable[[Tensor], Tensor],
    start: Tensor,
    end: Tensor,
    amount: float,
    direction: Tensor | None = None,
    strength: float = 0.0,
) -> Tensor:
    """Start, mixture and end as pictures ``(3, 3, S, S)`` in [−1, 1] on the CPU.

    Args:
        decode: latents ``(B, D)`` → pictures.
        start, end: ``(D,)``.
        amount: position of the mixture between them.
        direction: ``(D,)``, added to the mixture alone, ``strength`` times.
    """
    middle = mix(start, end, amount)
    if direction is not None:
        middle = middle + strength * direction
    return decode(torch.stack([start, middle, end])).float().cpu()


def latent_mix_view(
    decode: Callable[[Tensor], Tensor],
    latents: dict[str, Tensor],
    directions: dict[str, Tensor],
    alt: str,
    enlarge: int = 3,
) -> PictureView:
    """The widget: two pictures to choose, how far to go from one to the other, and an attribute to add.

    Args:
        decode: latents ``(B, D)`` → pictures ``(B, 3, S, S)`` in [−1, 1].
        latents: name → ``(D,)``, two or more; the first two are chosen at the start.
        directions: name → ``(D,)``, one or more.
        alt: what the picture shows.
        enlarge: whole-number factor of the shown pictures.

    Raises:
        CourseError: fewer than two latents or no direction.
    """
    if len(latents) < 2 or not directions:
        raise CourseError("the mixer needs two pictures or more and at least one direction.")
    names = list(latents)

    def render(first: str, second: str, amount: float, attribute: str, strength: float) -> bytes:
        ends = latents[first], latents[second]
        return png_bytes(mix_pictures(decode, *ends, amount, directions[attribute], strength), enlarge=enlarge)

    # The decoder runs once per change: updating only when the mouse is released keeps a slow machine from queueing.
    controls = {
        "first": choice(names, description="left"),
        "second": choice(names, names[1], "right"),
        "amount": widgets.FloatSlider(
            value=0.5, min=-0.5, max=1.5, step=0.05, description="left to right", continuous_update=False
        ),
        "attribute": choice(list(directions), description="direction"),
        "strength": widgets.FloatSlider(
            value=0.0, min=-2.0, max=2.0, step=0.1, description="how much of it", continuous_update=False
        ),
    }
    return PictureView(render, controls, alt)
